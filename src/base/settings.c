/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  Settings of tcs: definitions, check and assign hooks.
 *
 * NOTES
 *	  Check hooks do all parsing and leave the result in "extra"; assign hooks
 *	  only assign.  None of them reads a catalog, waits or throws, because
 *	  poolers run SET for their clients, parallel workers restore settings at
 *	  their start, and the token is set from a commit callback.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/plancache.h"

#include "base/compat.h"
#include "base/settings.h"
#include "base/switch.h"
#include "base/xact.h"

int			tcs_read_level = TCS_LEVEL_SESSION;
int			tcs_report_token = TCS_REPORT_WRITES;
int			tcs_hints = TCS_HINTS_ON;
int			tcs_hint_errors = TCS_HINT_ERRORS_ERROR;
int			tcs_without_token = TCS_WITHOUT_TOKEN_ACCEPT;
int			tcs_lost_token = TCS_LOST_TOKEN_ERROR;
int			tcs_max_staleness = 5000;
int			tcs_max_lag = -1;
int			tcs_max_wait = 1000;
int			tcs_max_wait_limit = -1;
int			tcs_max_wait_unknown = 0;
int			tcs_probe_interval = 100;
char	   *tcs_primary_conninfo = NULL;
char	   *tcs_redirect_server = NULL;
int			tcs_redirect_after = 100;
int			tcs_redirect_timeout = 2000;
int			tcs_redirect_idle_timeout = 60000;
int			tcs_max_redirect_connections = 20;
bool		tcs_enabled = true;
int			tcs_lease_duration = 0;
int			tcs_lease = TCS_LEASE_OFF;
int			tcs_lease_max_lag = 100;
uint64		tcs_settings_generation = 1;
uint64		tcs_choice_generation = 1;

/* The extra of tcs.fallback. */
typedef struct SourcedFallback
{
	TcsFallback fallback;
	GucSource	source;
} SourcedFallback;

static char *tcs_fallback = NULL;
static const SourcedFallback *parsed_fallback = NULL;
static GucSource level_source = PGC_S_DEFAULT;
static GucSource max_staleness_source = PGC_S_DEFAULT;
static GucSource max_wait_source = PGC_S_DEFAULT;
static GucSource fallback_source = PGC_S_DEFAULT;
static GucSource without_token_source = PGC_S_DEFAULT;
static LocalTransactionId level_set_in = InvalidLocalTransactionId;

static const struct config_enum_entry report_token_options[] = {
	{"off", TCS_REPORT_OFF, false},
	{"writes", TCS_REPORT_WRITES, false},
	{"all", TCS_REPORT_ALL, false},
	{NULL, 0, false}
};

static const struct config_enum_entry without_token_options[] = {
	{"accept", TCS_WITHOUT_TOKEN_ACCEPT, false},
	{"strong", TCS_WITHOUT_TOKEN_STRONG, false},
	{"error", TCS_WITHOUT_TOKEN_ERROR, false},
	{NULL, 0, false}
};

static const struct config_enum_entry lost_token_options[] = {
	{"error", TCS_LOST_TOKEN_ERROR, false},
	{"drop", TCS_LOST_TOKEN_DROP, false},
	{NULL, 0, false}
};

static const struct config_enum_entry hints_options[] = {
	{"off", TCS_HINTS_OFF, false},
	{"on", TCS_HINTS_ON, false},
	{"all", TCS_HINTS_ALL, false},
	{NULL, 0, false}
};

static const struct config_enum_entry hint_errors_options[] = {
	{"error", TCS_HINT_ERRORS_ERROR, false},
	{"warning", TCS_HINT_ERRORS_WARNING, false},
	{NULL, 0, false}
};

static const struct config_enum_entry lease_options[] = {
	{"off", TCS_LEASE_OFF, false},
	{"on", TCS_LEASE_ON, false},
	{NULL, 0, false}
};

const TcsFallback *
tcs_guc_fallback(void)
{
	return &parsed_fallback->fallback;
}

/* Where the level in force comes from. */
GucSource
tcs_guc_level_source(void)
{
	return level_source;
}

/* Where other settings come from that rules may set as well. */
GucSource
tcs_guc_max_staleness_source(void)
{
	return max_staleness_source;
}

GucSource
tcs_guc_max_wait_source(void)
{
	return max_wait_source;
}

GucSource
tcs_guc_fallback_source(void)
{
	return fallback_source;
}

GucSource
tcs_guc_without_token_source(void)
{
	return without_token_source;
}

/* The transaction in which it was set. */
LocalTransactionId
tcs_guc_level_set_in(void)
{
	return level_set_in;
}

/* tcs.max_wait under its limit, in ms; -1: for ever. */
int
tcs_guc_max_wait(void)
{
	if (tcs_max_wait_limit < 0)
		return tcs_max_wait;
	if (tcs_max_wait < 0)
		return tcs_max_wait_limit;
	return Min(tcs_max_wait, tcs_max_wait_limit);
}

/* Set a setting until AtEOXact_GUC(), if the server has it (some went with 19). */
void
tcs_guc_set_for_now(const char *name, const char *value)
{
	if (GetConfigOption(name, true, false) != NULL)
		(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}

/* Keep the source of a setting, for anyone who asks who has said it. */
static bool
check_sourced(int *newval, void **extra, GucSource source)
{
	GucSource  *stored;

	stored = tcs_guc_malloc_compat(sizeof(GucSource));
	if (stored == NULL)
		return false;
	*stored = source;
	*extra = stored;
	return true;
}

static inline GucSource
source_of(void *extra)
{
	return extra ? *(GucSource *) extra : PGC_S_DEFAULT;
}

static void
assign_read_level(int newval, void *extra)
{
	level_source = source_of(extra);
	level_set_in = MyProc ? tcs_xact_id() : InvalidLocalTransactionId;
	tcs_settings_generation++;
	tcs_choice_generation++;
}

/* Plans that were made while hints were not read know of none. */
static void
assign_hints(int newval, void *extra)
{
	if (tcs_hints == TCS_HINTS_OFF && newval != TCS_HINTS_OFF)
		ResetPlanCache();
}

static void
assign_without_token(int newval, void *extra)
{
	without_token_source = source_of(extra);
	tcs_settings_generation++;
}

static bool
check_fallback(char **newval, void **extra, GucSource source)
{
	SourcedFallback *sourced;
	TcsFallback fallback;
	const char *bad_step;
	int			bad_len;

	if (!tcs_fallback_parse(*newval, &fallback, &bad_step, &bad_len))
	{
		GUC_check_errcode(ERRCODE_INVALID_PARAMETER_VALUE);
		if (fallback.nsteps >= TCS_MAX_FALLBACK_STEPS - 1)
			GUC_check_errdetail("The list has more than %d steps.",
								TCS_MAX_FALLBACK_STEPS - 1);
		else if (bad_len == 0)
			GUC_check_errdetail("A step of the list is empty.");
		else
			GUC_check_errdetail("\"%.*s\" is not a step.", bad_len, bad_step);
		GUC_check_errhint("Valid steps: redirect, error, %s.", tcs_level_names_hint());
		return false;
	}

	sourced = tcs_guc_malloc_compat(sizeof(SourcedFallback));
	if (sourced == NULL)
		return false;
	sourced->fallback = fallback;
	sourced->source = source;
	*extra = sourced;
	return true;
}

static void
assign_fallback(const char *newval, void *extra)
{
	parsed_fallback = (const SourcedFallback *) extra;
	fallback_source = parsed_fallback->source;
	tcs_choice_generation++;
}

static void
assign_max_lag(int newval, void *extra)
{
	tcs_settings_generation++;
	tcs_choice_generation++;
}

static void
assign_max_staleness(int newval, void *extra)
{
	max_staleness_source = source_of(extra);
	tcs_settings_generation++;
	tcs_choice_generation++;
}

static void
assign_max_wait(int newval, void *extra)
{
	max_wait_source = source_of(extra);
	tcs_choice_generation++;
}

static void
assign_max_wait_limit(int newval, void *extra)
{
	tcs_choice_generation++;
}

/*
 * Sessions that wait do not read the configuration.  On a standby the worker tells
 * them; here does a process that is there on a primary as well.
 */
static void
assign_enabled(bool newval, void *extra)
{
	tcs_settings_generation++;
	/* plans that were made meanwhile know of no rules and hints */
	if (newval && !tcs_enabled)
		ResetPlanCache();
	if (MyBackendType == B_CHECKPOINTER)
		tcs_switch_set(newval);
}

/* What a client asks for, and what comes of its token and its hints. */
static void
define_client_settings(void)
{
	DefineCustomEnumVariable("tcs.read_level",
							 "Sets how fresh a read on a standby must be.",
							 "The requirement is met before the statement's snapshot is taken.",
							 &tcs_read_level, TCS_LEVEL_SESSION,
							 tcs_level_options, PGC_USERSET, GUC_REPORT,
							 check_sourced, assign_read_level, NULL);

	DefineCustomEnumVariable("tcs.without_token",
							 "Sets what a session without a token reads on a standby.",
							 "At levels that go by the session token: \"accept\" asks for nothing, \"strong\" reads as at that level, \"error\" refuses.",
							 &tcs_without_token, TCS_WITHOUT_TOKEN_ACCEPT,
							 without_token_options, PGC_USERSET, 0,
							 check_sourced, assign_without_token, NULL);

	DefineCustomEnumVariable("tcs.lost_token",
							 "Sets what becomes of a token that was lost, or is of another cluster.",
							 "\"error\" refuses what comes with it, \"drop\" empties it with a warning, and reads once as at level \"strong\".",
							 &tcs_lost_token, TCS_LOST_TOKEN_ERROR,
							 lost_token_options, PGC_USERSET, 0,
							 NULL, NULL, NULL);

	DefineCustomEnumVariable("tcs.report_token",
							 "Sets when the server reports a new session token to the client.",
							 "\"writes\" reports after each commit that wrote, \"all\" after reads as well.",
							 &tcs_report_token, TCS_REPORT_WRITES,
							 report_token_options, PGC_USERSET, 0,
							 NULL, NULL, NULL);

	DefineCustomEnumVariable("tcs.hints",
							 "Sets whether a statement's comments are searched for a hint.",
							 "\"on\" reads all but a session token from it, \"all\" reads that as well.",
							 &tcs_hints, TCS_HINTS_ON,
							 hints_options, PGC_USERSET, 0,
							 NULL, assign_hints, NULL);

	DefineCustomEnumVariable("tcs.hint_errors",
							 "Sets what becomes of a hint that is malformed or misplaced.",
							 "\"warning\" leaves it out; one with a session token is an error all the same.",
							 &tcs_hint_errors, TCS_HINT_ERRORS_ERROR,
							 hint_errors_options, PGC_USERSET, 0,
							 NULL, NULL, NULL);
}

/* A lease that is shorter than a round trip and a pause of a process is of no use. */
static bool
check_lease_duration(int *newval, void **extra, GucSource source)
{
	if (*newval == 0 || *newval >= (int) TCS_LEASE_MIN)
		return true;
	GUC_check_errdetail("\"tcs.lease_duration\" must be 0, or at least %d ms.", TCS_LEASE_MIN);
	return false;
}

/* Bounds of what a client asks for, and what comes if it cannot be had in time. */
static void
define_client_limits(void)
{
	DefineCustomIntVariable("tcs.max_staleness",
							"Sets the staleness bound of reads at level \"bounded\".",
							"Every commit acknowledged longer ago than this is seen.",
							&tcs_max_staleness, 5000, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS,
							check_sourced, assign_max_staleness, NULL);

	DefineCustomIntVariable("tcs.max_lag",
							"Sets the lag bound, in WAL, of reads at level \"bounded\".",
							"Counted from the newest position the primary told; -1 disables the bound.",
							&tcs_max_lag, -1, -1, MAX_KILOBYTES,
							PGC_USERSET, GUC_UNIT_KB,
							NULL, assign_max_lag, NULL);

	DefineCustomIntVariable("tcs.max_wait",
							"Sets the longest time a read waits to become fresh enough.",
							"-1 waits for ever, 0 does not wait.",
							&tcs_max_wait, 1000, -1, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS,
							check_sourced, assign_max_wait, NULL);

	DefineCustomIntVariable("tcs.max_wait_unknown",
							"Sets the longest wait for an answer of a primary that is gone.",
							"-1 waits as for any other answer, as does tcs.max_wait = -1.",
							&tcs_max_wait_unknown, 0, -1, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomStringVariable("tcs.fallback",
							   "Sets what is tried when a read cannot become fresh enough in time.",
							   "A list of steps: redirect, error, or the name of a weaker level.",
							   &tcs_fallback, "redirect, error", PGC_USERSET,
							   GUC_LIST_INPUT,
							   check_fallback, assign_fallback, NULL);

	DefineCustomIntVariable("tcs.redirect_after",
							"Sets the longest time a read waits before it is redirected.",
							"Only where tcs.fallback has a redirect and there is a server for it.",
							&tcs_redirect_after, 100, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("tcs.redirect_timeout",
							"Sets the longest time to connect to the redirect server and to begin there.",
							"When it is over, the next step of tcs.fallback is tried.",
							&tcs_redirect_timeout, 2000, 1, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS,
							NULL, NULL, NULL);
}

/* Settings of the administrator. */
static void
define_server_settings(void)
{
	DefineCustomIntVariable("tcs.max_wait_limit",
							"Sets an upper limit for tcs.max_wait.",
							"-1 sets no limit.",
							&tcs_max_wait_limit, -1, -1, INT_MAX,
							PGC_SUSET, GUC_UNIT_MS,
							NULL, assign_max_wait_limit, NULL);

	DefineCustomIntVariable("tcs.probe_interval",
							"Sets the time between questions of a standby to its primary.",
							"0 asks only when a statement needs an answer, and every 10 s.",
							&tcs_probe_interval, 100, 0, 3600 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomStringVariable("tcs.primary_conninfo",
							   "Sets the connection string by which a standby asks its primary.",
							   "Empty uses primary_conninfo, as a replication connection.",
							   &tcs_primary_conninfo, "", PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);

	DefineCustomStringVariable("tcs.redirect_server",
							   "Names the foreign server that reads are redirected to.",
							   "A server of the foreign-data wrapper tcs_fdw; empty redirects nothing.",
							   &tcs_redirect_server, "tcs_primary", PGC_SUSET, 0,
							   NULL, NULL, NULL);

	DefineCustomIntVariable("tcs.max_redirect_connections",
							"Sets how many connections to the redirect server this node may have.",
							"Idle ones are counted; one is closed when another session needs it.",
							&tcs_max_redirect_connections, 20, 0, 10000,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);

	DefineCustomIntVariable("tcs.redirect_idle_timeout",
							"Sets after which time an idle connection to the redirect server is closed.",
							"0 keeps it until the session ends.",
							&tcs_redirect_idle_timeout, 60000, 0, INT_MAX,
							PGC_SUSET, GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("tcs.lease_duration",
							"Sets how long a read lease lasts that this primary grants.",
							"0 grants none; otherwise 200 ms at least.",
							&tcs_lease_duration, 0, 0, (int) TCS_LEASE_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							check_lease_duration, NULL, NULL);

	DefineCustomEnumVariable("tcs.lease",
							 "Sets whether this standby holds a read lease.",
							 "With one, strong reads ask nobody, and commits on the primary wait for this standby.",
							 &tcs_lease, TCS_LEASE_OFF,
							 lease_options, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);

	DefineCustomIntVariable("tcs.lease_max_lag",
							"Sets how long replay may be late before this standby gives its read lease back.",
							NULL,
							&tcs_lease_max_lag, 100, 1, (int) TCS_LEASE_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomBoolVariable("tcs.enabled",
							 "Enables the freshness checks of tcs.",
							 "Turning it off also releases all sessions that wait.",
							 &tcs_enabled, true, PGC_SIGHUP, 0,
							 NULL, assign_enabled, NULL);
}

void
tcs_guc_define_settings(void)
{
	define_client_settings();
	define_client_limits();
	define_server_settings();
}
