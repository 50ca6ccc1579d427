/*-------------------------------------------------------------------------
 *
 * worker_hosts.c
 *	  Which host the worker tries next, and how long that one may take.
 *
 * NOTES
 *	  A host can fail in many ways: it refuses, it is silent from some byte on, it
 *	  is no primary, it belongs to another cluster, it lies.  After each of them the
 *	  next host has its turn, so a search outlives the connections that fail.  It
 *	  ends when a host has given an answer of use; that one is tried first the next
 *	  time.  Each attempt tries every host once, at least.
 *
 *	  Among several, each has a limit of its own.  It is short at first, so that a
 *	  host that hangs costs little.  It grows while hosts are silent, so that a slow
 *	  primary is reached in the end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "standby/worker_hosts.h"

/* In us: the only host; one of several, at first. */
#define TCS_CONNECT_TIMEOUT		5000000
#define TCS_HOST_TIMEOUT_MIN	1000000

/* What is kept of one host's message. */
#define TCS_FAILURE_MAX			4096

static struct
{
	MemoryContext context;		/* of all that follows */
	char	   *conninfo;		/* whose hosts they are; NULL: no search */
	TcsHostWalk *walk;
	const TcsHost *host;		/* being tried */
	StringInfoData failures;	/* libpq's messages since the walk began, or
								 * since the attempt did */
}			search;

static bool is_whole;			/* has the walk begun with this attempt? */
static bool passes_over;		/* the host known as the primary */
static bool has_several;		/* hosts or addresses, when last known */
static int64 late_at;			/* when the present host has had its time */
static int64 patience = TCS_HOST_TIMEOUT_MIN;

/* The value of an option; NULL if there is none, or an empty one. */
static const char *
option_value(const PQconninfoOption *options, const char *keyword)
{
	for (const PQconninfoOption *option = options; option->keyword; option++)
	{
		if (strcmp(option->keyword, keyword) == 0)
			return option->val && option->val[0] ? option->val : NULL;
	}
	return NULL;
}

/* An attempt to find the primary begins, or goes on where the last one has ended. */
void
tcs_search_begin(const char *conninfo)
{
	MemoryContext oldcontext;

	if (search.conninfo && strcmp(search.conninfo, conninfo) == 0)
	{
		is_whole = false;
		resetStringInfo(&search.failures);
		return;
	}
	tcs_search_end();
	if (search.context == NULL)
		search.context = AllocSetContextCreate(TopMemoryContext, "tcs hosts of the worker",
											   ALLOCSET_SMALL_SIZES);
	oldcontext = MemoryContextSwitchTo(search.context);
	search.conninfo = pstrdup(conninfo);
	initStringInfo(&search.failures);
	MemoryContextSwitchTo(oldcontext);
}

const char *
tcs_search_conninfo(void)
{
	return search.conninfo;
}

/* Begin to walk over the hosts. */
static void
begin_walk(const PQconninfoOption *options)
{
	TcsHostLists lists;

	lists.host = option_value(options, "host");
	lists.hostaddr = option_value(options, "hostaddr");
	lists.port = option_value(options, "port");
	resetStringInfo(&search.failures);
	search.walk = tcs_hosts_begin(&lists);
	is_whole = !passes_over;
	if (passes_over)
		(void) tcs_hosts_next(search.walk, PG_INT64_MAX);
	passes_over = false;
}

/* The next walk is over the same hosts. */
static void
forget_walk(void)
{
	char	   *conninfo = pstrdup(search.conninfo);

	tcs_search_end();
	tcs_search_begin(conninfo);
	pfree(conninfo);
}

/* When the present host has had its time; it counts from now. */
static int64
time_of_host(const PQconninfoOption *options)
{
	const char *value = option_value(options, "connect_timeout");
	int			seconds = value ? atoi(value) : 0;
	int64		limit = has_several ? patience : TCS_CONNECT_TIMEOUT;

	/* none, or for libpq to complain of */
	if (seconds > 0)
		limit = Min(limit, seconds * INT64CONST(1000000));
	return tcs_now() + limit;
}

/*
 * The next host to try, with the options of the connection string.  NULL if all of
 * them have failed; then the search is at its end.
 */
const TcsHost *
tcs_search_next(const PQconninfoOption *options)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(search.context);

	search.host = NULL;
	if (search.walk)
		search.host = tcs_hosts_next(search.walk, PG_INT64_MAX);
	while (search.host == NULL && !(search.walk && is_whole))
	{
		if (search.walk)
		{
			MemoryContextSwitchTo(oldcontext);
			forget_walk();
			MemoryContextSwitchTo(search.context);
		}
		begin_walk(options);
		search.host = tcs_hosts_next(search.walk, PG_INT64_MAX);
	}
	if (search.host)
	{
		has_several = tcs_hosts_has_several(search.walk);
		late_at = time_of_host(options);
	}
	MemoryContextSwitchTo(oldcontext);
	return search.host;
}

bool
tcs_search_has_several(void)
{
	return has_several;
}

/* Has the present host had its time? */
bool
tcs_search_is_late(void)
{
	return tcs_now() >= late_at;
}

/* The present host has failed, for this reason of libpq's. */
void
tcs_search_note_failure(const char *message)
{
	size_t		len = Min(strlen(message), TCS_FAILURE_MAX);

	appendBinaryStringInfo(&search.failures, message, len);
	if (len > 0 && message[len - 1] != '\n')
		appendStringInfoChar(&search.failures, '\n');
}

/* The present host has had its time.  In libpq's words for connect_timeout. */
void
tcs_search_note_silence(void)
{
	const TcsHost *host = search.host;
	const char *name = host->name && host->name[0] ? host->name : host->address;
	const char *port = host->port && host->port[0] ? host->port : DEF_PGPORT_STR;

	if (name == NULL || name[0] == '\0')
		name = "?";
	appendStringInfo(&search.failures, "connection to server at \"%s\"", name);
	if (host->address && host->address[0] && strcmp(host->address, name) != 0)
		appendStringInfo(&search.failures, " (%s)", host->address);
	appendStringInfo(&search.failures, ", port %s failed: timeout expired\n", port);
	patience = Min(patience * 2, TCS_CONNECT_TIMEOUT);
}

/* The present host has let us in. */
void
tcs_search_note_connected(void)
{
	patience = TCS_HOST_TIMEOUT_MIN;
}

/* The host that was found is the primary: it is tried first the next time. */
void
tcs_search_note_primary(void)
{
	if (search.host == NULL)
		return;
	tcs_hosts_note_primary(search.walk);
	tcs_search_end();
}

/* The host that was found is not asked again before the others. */
void
tcs_search_pass_over(void)
{
	/* a search that has not ended goes on behind it anyway */
	passes_over = search.walk == NULL;
}

/* What libpq has said of the hosts that have failed. */
const char *
tcs_search_failures(void)
{
	return search.failures.data;
}

void
tcs_search_end(void)
{
	MemoryContext context = search.context;

	if (context)
		MemoryContextReset(context);
	memset(&search, 0, sizeof(search));
	search.context = context;
}
