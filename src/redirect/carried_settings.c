/*-------------------------------------------------------------------------
 *
 * carried_settings.c
 *	  A session's settings, carried to where its statement runs.
 *
 * NOTES
 *	  A redirected statement must give the answer that it would give if the
 *	  session were one on the primary.  So the standby sends along whatever the
 *	  client, or SET, has chosen, also settings of no meaning to the server
 *	  (policies of row-level security read them), and those by which values are
 *	  shown, wherever they come from, since the client was told of them at its
 *	  start.  What ALTER ROLE or ALTER DATABASE says is in force on the primary
 *	  already.  They travel as pairs of zero-terminated strings.
 *
 *	  The primary sets them for the transaction alone, because the connection may
 *	  go through a pooler.  What the statement itself sets would be lost with that
 *	  transaction, and with it what the client believes: that is an error
 *	  (tcs_settings_require_unchanged()).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/guc_tables.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "base/settings.h"
#include "redirect/carried_settings.h"
#include "session/redirected_for.h"

/* Carried wherever their value comes from. */
static const char *const always_carried[] = {
	"array_nulls", "bytea_output", "DateStyle", "default_text_search_config",
	"extra_float_digits", "IntervalStyle", "lc_monetary", "lc_numeric",
	"lc_time", "row_security", "search_path", "TimeZone", "xmlbinary",
	"xmloption",
};

/*
 * Never carried: those of the connection or of the transaction, those that the
 * text we send relies on, and those that would end a connection which waits.
 */
static const char *const never_carried[] = {
	"application_name", "backslash_quote", "client_connection_check_interval",
	"client_encoding", "escape_string_warning", "idle_in_transaction_session_timeout",
	"idle_session_timeout", "role", "session_authorization",
	"standard_conforming_strings", "tcp_keepalives_count",
	"tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_user_timeout",
	"transaction_deferrable", "transaction_isolation",
	"transaction_read_only", "transaction_timeout", "transform_null_equals",
};

/* Set for each redirected transaction, before what it carries. */
static const char *const always_set[][2] = {
	{"standard_conforming_strings", "on"},
	/* a server that looks for a client that is gone ends its query */
	{"client_connection_check_interval", "1s"},
	{"idle_in_transaction_session_timeout", "0"},
};

/* What tcs_settings_apply() has set in this transaction. */
static LocalTransactionId applied_in = InvalidLocalTransactionId;
static char *applied = NULL;
static int	applied_len = 0;

static bool
is_listed(const char *name, const char *const *list, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (pg_strcasecmp(name, list[i]) == 0)
			return true;
	}
	return false;
}

static void
append_setting(StringInfo buf, const char *name)
{
	const char *value = GetConfigOption(name, true, false);

	if (value == NULL)
		return;
	appendBinaryStringInfo(buf, name, strlen(name) + 1);
	appendBinaryStringInfo(buf, value, strlen(value) + 1);
}

/* Was it chosen for this session, and is it one that can be carried? */
static bool
is_chosen(const struct config_generic *setting)
{
	if (setting->source != PGC_S_CLIENT && setting->source != PGC_S_SESSION)
		return false;
	if (setting->context != PGC_USERSET &&
		(setting->context != PGC_SUSET || !superuser_arg(GetSessionUserId())))
		return false;
	return strncmp(setting->name, "tcs.", 4) != 0 &&
		strncmp(setting->name, "default_transaction_", 20) != 0 &&
		!is_listed(setting->name, always_carried, lengthof(always_carried)) &&
		!is_listed(setting->name, never_carried, lengthof(never_carried));
}

/* Append this session's settings; the role comes last. */
void
tcs_settings_collect(StringInfo buf)
{
	int			n;
	struct config_generic **settings = tcs_all_settings_compat(&n);

	for (int i = 0; i < lengthof(always_carried); i++)
		append_setting(buf, always_carried[i]);
	for (int i = 0; i < n; i++)
	{
		if (unlikely(is_chosen(settings[i])))
			append_setting(buf, settings[i]->name);
	}
	/* what may be set depends on the role */
	append_setting(buf, "role");
}

/* Set it for this transaction, unless it is so already. */
static void
apply_setting(const char *name, const char *value)
{
	const char *present = GetConfigOption(name, true, false);

	if (present != NULL && strcmp(present, value) == 0)
		return;
	(void) set_config_option(name, value,
							 superuser() ? PGC_SUSET : PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

/* The value that a setting has in a list of pairs, or NULL. */
static const char *
value_in(const char *name, const char *data, int len)
{
	for (const char *p = data; p < data + len;)
	{
		const char *value = p + strlen(p) + 1;

		/* case does not count, and need not be the same on both nodes */
		if (pg_strcasecmp(p, name) == 0)
			return value;
		p = value + strlen(value) + 1;
	}
	return NULL;
}

/*
 * Is it a list of pairs of zero-terminated strings?
 */
static bool
is_list_of_pairs(const char *data, int len)
{
	int			zeros = 0;

	for (int i = 0; i < len; i++)
		zeros += data[i] == '\0';
	return zeros % 2 == 0 && (len == 0 || data[len - 1] == '\0');
}

/*
 * Throws 22021 if there is anything in it that is no text in the encoding of this
 * database.  SET gets text that was checked on its way in; this comes as bytes.
 */
static void
require_valid_text(const char *data, int len)
{
	for (const char *p = data; p < data + len; p += strlen(p) + 1)
		(void) pg_verifymbstr(p, strlen(p), false);
}

/* Is it set by the transaction itself, and not carried? */
static bool
is_always_set(const char *name)
{
	if (strcmp(name, TCS_REDIRECTED_FOR) == 0)
		return true;
	for (int i = 0; i < lengthof(always_set); i++)
	{
		if (strcmp(name, always_set[i][0]) == 0)
			return true;
	}
	return false;
}

/* Reset what was set in this transaction, and is not in the list any more. */
static void
reset_others(const char *data, int len)
{
	int			n;
	struct config_generic **settings = tcs_all_settings_compat(&n);

	for (int i = 0; i < n; i++)
	{
		const char *name = settings[i]->name;

		if (settings[i]->stack != NULL && strncmp(name, "transaction_", 12) != 0 &&
			!is_always_set(name) && value_in(name, data, len) == NULL)
			(void) set_config_option(name, NULL, superuser() ? PGC_SUSET : PGC_USERSET,
									 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	}
}

/*
 * Set what a standby has sent, for this transaction.  Throws what SET would
 * throw, and 08P01 if it is not what tcs_settings_collect() makes.
 */
void
tcs_settings_apply(const char *data, int len)
{
	if (!is_list_of_pairs(data, len))
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("malformed settings of a redirected statement")));
	require_valid_text(data, len);
	for (int i = 0; i < lengthof(always_set); i++)
		apply_setting(always_set[i][0], always_set[i][1]);

	if (applied_in == tcs_my_lxid_compat())
		reset_others(data, len);
	for (const char *name = data; name < data + len;)
	{
		const char *value = name + strlen(name) + 1;

		apply_setting(name, value);
		name = value + strlen(value) + 1;
	}

	if (applied)
		pfree(applied);
	applied = NULL;
	applied = MemoryContextAlloc(TopMemoryContext, Max(len, 1));
	memcpy(applied, data, len);
	applied_len = len;
	applied_in = tcs_my_lxid_compat();
}

/*
 * Does a setting have the value that it was given?  Its text may be another one:
 * what belongs to a library that was not loaded on the standby is kept there as it
 * was written, and here in the words of its owner.
 */
static bool
has_value(const char *name, const char *value)
{
	const char *present = GetConfigOption(name, true, false);
	const char *canonical;
	bool		same;
	int			level;

	if (present == NULL || strcmp(present, value) == 0)
		return present != NULL;
	/* numbers are shown in a buffer of the function */
	present = pstrdup(present);
	level = NewGUCNestLevel();
	if (set_config_option(name, value, superuser() ? PGC_SUSET : PGC_USERSET,
						  PGC_S_SESSION, GUC_ACTION_SAVE, true, DEBUG5, false) <= 0)
	{
		/* its owner has put its default in place */
		AtEOXact_GUC(false, level);
		return true;
	}
	canonical = GetConfigOption(name, true, false);
	same = canonical && strcmp(present, canonical) == 0;
	AtEOXact_GUC(false, level);
	return same;
}

/*
 * Has the redirected statement changed a setting?  0A000 if so: the change
 * would be lost.
 */
void
tcs_settings_require_unchanged(void)
{
	int			n;
	struct config_generic **settings = tcs_all_settings_compat(&n);

	if (applied_in != tcs_my_lxid_compat())
		return;
	for (int i = 0; i < n; i++)
	{
		const char *name = settings[i]->name;
		const char *carried;

		if (likely(settings[i]->stack == NULL) ||
			strncmp(name, "transaction_", 12) == 0 || is_always_set(name))
			continue;
		carried = value_in(name, applied, applied_len);
		if (carried && has_value(name, carried))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the redirected statement changed the setting \"%s\"", name),
				 errdetail("A change made on the primary would be lost to the session on the standby."),
				 errhint("Run the statement on the primary, or without \"redirect\" in tcs.fallback.")));
	}
}

/* Would a setting of this name be carried along if it is set? */
bool
tcs_settings_is_carried(const char *name)
{
	/*
	 * those with a dot are users' own, or of an extension that both nodes
	 * have
	 */
	return (strchr(name, '.') != NULL && pg_strncasecmp(name, "tcs.", 4) != 0) ||
		is_listed(name, always_carried, lengthof(always_carried));
}
