/*-------------------------------------------------------------------------
 *
 * worker_conn.c
 *	  The worker's connection to the primary.
 *
 * NOTES
 *	  Everything is asynchronous: the worker must be able to wake sessions
 *	  while the primary is silent.  Reasons for failure are made for a person
 *	  who reads them in tcs.status, and never contain a password: libpq does
 *	  not print them, and the connection string is not repeated.
 *
 *	  Two transports.  Without tcs.primary_conninfo the standby's own
 *	  primary_conninfo is used, as a physical replication connection: the role
 *	  and the pg_hba.conf line that streaming has suffice, and SHOW of a setting
 *	  carries the answer.  With it, an ordinary connection asks for the setting.
 *
 *	  An ordinary connection leads into a database, the owner of which may be
 *	  anybody.  No function there is trusted by its name, and none is called but
 *	  those of pg_catalog.  The owner could also give a setting of any name a value,
 *	  where the library is not loaded.  Such a placeholder is hidden from
 *	  pg_settings; so what is not hidden shows that the library is there, and keeps
 *	  all settings that begin with its name to itself.
 *
 *	  What comes is not trusted (see base/wire.c).  A server that sends more than an
 *	  answer, or something else, is left; standby/worker_link.c waits longer each time
 *	  before it connects again.
 *
 *	  Either may name several hosts, and a name can have several addresses.  libpq
 *	  is given one of them at a time (standby/worker_hosts.c), and refuses a host of a
 *	  list that is a standby.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlogrecovery.h"
#include "libpq-fe.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/guc.h"

#include "base/version.h"
#include "base/wire.h"
#include "standby/worker_conn.h"
#include "standby/worker_hosts.h"
#include "token/token.h"

/* How a question is put, by TcsQuestion. */
static const char *const ask_replication[] = {
	"SHOW tcs.read_index", "SHOW tcs.quorum_index", "SHOW tcs.quorum_round",
	"SHOW tcs.lease_first", "SHOW tcs.lease_next", "SHOW tcs.lease_drop"
};
#define TCS_ASK_SQL(setting) \
	"SELECT CASE WHEN NOT ('NO_SHOW_ALL' OPERATOR(pg_catalog.=) ANY" \
	" (pg_catalog.pg_settings_get_flags('tcs.enabled')))" \
	" THEN pg_catalog.current_setting('" setting "') END"

static const char *const ask_sql[] = {
	TCS_ASK_SQL("tcs.read_index"), TCS_ASK_SQL("tcs.quorum_index"), TCS_ASK_SQL("tcs.quorum_round"),
	TCS_ASK_SQL("tcs.lease_first"), TCS_ASK_SQL("tcs.lease_next"), TCS_ASK_SQL("tcs.lease_drop")
};

/* ERRCODE_TOO_MANY_CONNECTIONS as it comes over the wire */
#define TCS_TOO_MANY_CONNECTIONS "53300"

static PGconn *conn = NULL;
static TcsConnState state = TCS_CONN_CLOSED;
static PostgresPollingStatusType polling;
static bool is_replication;
static bool several_hosts;		/* does the connection string have a list? */
static bool has_descriptor;		/* is the socket counted? */
static uint64 socket_serial = 0;
static TcsIntake intake;		/* since connecting began, or since the last
								 * question */
static TcsGrowth growth;		/* since the connection was made */
static bool has_answered;		/* the question on its way */
static bool gave_way;			/* the server needs it for replication */
static const char *failure;		/* general; NULL: the reason is in our own
								 * words */

/* Notices of the primary are for nobody; libpq would write them to the log. */
static void
ignore_notice(void *arg, const PGresult *result)
{
}

/*
 * Close the connection, for a reason of ours or, without one, for libpq's.
 * Returns false, for the caller to return.
 */
static bool
give_up(char *reason, const char *ours)
{
	if (ours)
		strlcpy(reason, ours, TCS_REASON_LEN);
	else
		failure = tcs_conn_describe_error(reason, PQerrorMessage(conn), is_replication, several_hosts);
	tcs_conn_close();
	return false;
}

static bool
is_list_of_hosts(const PQconninfoOption *option)
{
	return (strcmp(option->keyword, "host") == 0 ||
			strcmp(option->keyword, "hostaddr") == 0) &&
		option->val != NULL && strchr(option->val, ',') != NULL;
}

/*
 * What the worker looks for among several hosts.  The WAL receiver may be
 * content with a standby, or want one; a standby cannot answer.
 */
static const char *
wanted_attrs(const char *given)
{
	return given && strcmp(given, "read-write") == 0 ? given : "primary";
}

/*
 * What is wrong with a connection string.  libpq's message would repeat a part of
 * it, which can be one of a password.
 */
static const char *
describe_parse_error(const char *parse_error)
{
	if (parse_error == NULL)
		return "";
	if (strstr(parse_error, "invalid connection option"))
		return ": libpq does not know one of its options";
	if (strstr(parse_error, "missing \"=\""))
		return ": an option has no \"=\"";
	if (strstr(parse_error, "unterminated quoted string"))
		return ": a quote is not closed";
	return "";
}

/*
 * The name under which we are known on the primary: that of the WAL receiver, so that
 * tcs.standbys can tell that both are of one standby.
 */
static void
copy_receiver_name(char *name, size_t size)
{
	PQconninfoOption *options = PQconninfoParse(PrimaryConnInfo ? PrimaryConnInfo : "", NULL);

	strlcpy(name, cluster_name[0] ? cluster_name : "walreceiver", size);
	for (PQconninfoOption *option = options; option && option->keyword; option++)
	{
		if (strcmp(option->keyword, "application_name") == 0 && option->val && option->val[0])
			strlcpy(name, option->val, size);
	}
	if (options)
		PQconninfoFree(options);
}

/* What libpq is given. */
typedef struct ConnParams
{
	const char *keywords[64];
	const char *values[64];
	int			n;

	/* of the connection string, for what is set here */
	const char *options;
	const char *application_name;
	const char *target_session_attrs;
} ConnParams;

static void
add_param(ConnParams *params, const char *keyword, const char *value)
{
	params->keywords[params->n] = keyword;
	params->values[params->n++] = value;
}

/* Take over the host, and what the connection string says that is not ours to say. */
static void
take_options(ConnParams *params, const PQconninfoOption *options, const TcsHost *host)
{
	for (const PQconninfoOption *option = options; option->keyword && params->n < 53; option++)
	{
		if (option->val == NULL || option->val[0] == '\0')
			continue;
		if (strcmp(option->keyword, "options") == 0)
			params->options = option->val;
		else if (strcmp(option->keyword, "application_name") == 0)
			params->application_name = option->val;
		else if (several_hosts && strcmp(option->keyword, "target_session_attrs") == 0)
			params->target_session_attrs = option->val;
		else if (tcs_host_is_param(option->keyword) && !tcs_host_is_default(host))
			continue;
		else if (strcmp(option->keyword, "replication") != 0 &&
				 !(is_replication && strcmp(option->keyword, "dbname") == 0))
			add_param(params, option->keyword, option->val);
	}
	if (!tcs_host_is_default(host))
		params->n = tcs_host_add_params(host, params->keywords, params->values, params->n);
}

/* Add what is ours to say. */
static void
add_own_params(ConnParams *params)
{
	static char server_options[1024];
	static char name[NAMEDATALEN + 8];
	const char *build = strchr(tcs_version_string, '(');

	/* the server splits options at blanks that no backslash escapes */
	snprintf(server_options, sizeof(server_options), "-c tcs.asker=%s\\ %d%s%s %s -c statement_timeout=0",
			 TCS_VERSION, TCS_TOKEN_VERSION, build ? "\\ " : "", build ? build : "",
			 params->options);
	add_param(params, "options", server_options);
	if (several_hosts)
		add_param(params, "target_session_attrs", wanted_attrs(params->target_session_attrs));
	if (is_replication)
	{
		add_param(params, "replication", "true");
		add_param(params, "dbname", "replication");
	}
	/* the name of the WAL receiver, marked so that nobody takes us for it */
	snprintf(name, sizeof(name), TCS_ASKER_PREFIX "%s", params->application_name);
	add_param(params, "application_name", name);
	add_param(params, NULL, NULL);
}

/*
 * Begin to connect to one host.  If that fails at once, the search has the reason.
 */
static bool
start_connecting(const PQconninfoOption *options, const TcsHost *host)
{
	char		receiver_name[NAMEDATALEN];
	ConnParams	params = {.options = "",.application_name = receiver_name};

	Assert(conn == NULL);
	copy_receiver_name(receiver_name, sizeof(receiver_name));
	take_options(&params, options, host);
	add_own_params(&params);

	has_descriptor = AcquireExternalFD();
	if (has_descriptor)
		conn = PQconnectStartParams(params.keywords, params.values, false);
	if (conn == NULL || PQstatus(conn) == CONNECTION_BAD)
	{
		tcs_search_note_failure(conn ? PQerrorMessage(conn) :
								has_descriptor ? "out of memory" : "too many open files");
		tcs_conn_close();
		return false;
	}
	PQsetNoticeReceiver(conn, ignore_notice, NULL);
	tcs_intake_begin(&intake, TCS_INTAKE_ANSWER);
	socket_serial++;
	polling = PGRES_POLLING_WRITING;
	state = TCS_CONN_CONNECTING;
	return true;
}

/*
 * Go on to the next host.  Returns false with the reason if there is none left.
 */
static bool
start_at_next_host(PQconninfoOption *options, char *reason)
{
	const TcsHost *host;

	while ((host = tcs_search_next(options)) != NULL)
	{
		if (start_connecting(options, host))
			break;
	}
	PQconninfoFree(options);
	if (host)
		return true;
	failure = tcs_conn_describe_error(reason, tcs_search_failures(), is_replication, several_hosts);
	tcs_search_end();
	return false;
}

/* The present host is of no use: close the connection, and go on to the next one. */
static bool
leave_host(char *reason)
{
	PQconninfoOption *options = PQconninfoParse(tcs_search_conninfo(), NULL);

	tcs_conn_close();
	if (options)
		return start_at_next_host(options, reason);
	strlcpy(reason, "out of memory", TCS_REASON_LEN);
	return false;
}

/*
 * Begin to connect.
 *
 * On failure returns false with the reason; the connection is closed.
 */
bool
tcs_conn_start(const char *conninfo, bool replication, char *reason)
{
	PQconninfoOption *options;
	char	   *parse_error = NULL;

	Assert(conn == NULL);
	gave_way = false;
	failure = NULL;
	is_replication = replication;

	options = PQconninfoParse(conninfo, &parse_error);
	if (options == NULL)
	{
		snprintf(reason, TCS_REASON_LEN, "%s cannot be parsed%s",
				 replication ? "primary_conninfo" : "tcs.primary_conninfo",
				 describe_parse_error(parse_error));
		if (parse_error)
			PQfreemem(parse_error);
		return false;
	}
	several_hosts = false;
	for (PQconninfoOption *option = options; option->keyword; option++)
		several_hosts |= is_list_of_hosts(option);
	tcs_search_begin(conninfo);
	return start_at_next_host(options, reason);
}

/* While connecting: a host that takes too long is left for the next one. */
bool
tcs_conn_check_time(char *reason)
{
	if (!tcs_search_is_late())
		return true;
	if (tcs_search_has_several())
	{
		tcs_search_note_silence();
		return leave_host(reason);
	}
	tcs_search_end();
	return give_up(reason, "the connection attempt timed out");
}

/* Is there another host to go on to, if the one connected to is not the one to ask? */
bool
tcs_conn_has_another_host(void)
{
	return tcs_search_has_several();
}

/* Was the last connection given up because the server needs it for replication? */
bool
tcs_conn_gave_way(void)
{
	return gave_way;
}

/*
 * What kind of failure libpq has reported of the last connection; NULL if it has
 * reported none.
 */
const char *
tcs_conn_failure(void)
{
	return failure;
}

TcsConnState
tcs_conn_state(void)
{
	return state;
}

void
tcs_conn_close(void)
{
	if (conn)
		PQfinish(conn);
	if (has_descriptor)
		ReleaseExternalFD();
	has_descriptor = false;
	socket_serial++;
	conn = NULL;
	state = TCS_CONN_CLOSED;
}

/*
 * Changes whenever the socket may be another one.  A new socket can have the
 * number of an old one.
 */
uint64
tcs_conn_socket_serial(void)
{
	return socket_serial;
}

int
tcs_conn_socket(void)
{
	return conn ? PQsocket(conn) : PGINVALID_SOCKET;
}

/* What to wait for on the socket. */
int
tcs_conn_wait_events(void)
{
	if (state == TCS_CONN_CONNECTING && polling == PGRES_POLLING_WRITING)
		return WL_SOCKET_WRITEABLE;
	return WL_SOCKET_READABLE;
}

/* Send the question. */
bool
tcs_conn_ask(TcsQuestion question, char *reason)
{
	Assert(state == TCS_CONN_IDLE);

	tcs_intake_begin(&intake, TCS_INTAKE_ANSWER);
	if (!PQsendQuery(conn, (is_replication ? ask_replication : ask_sql)[question]) ||
		PQflush(conn) < 0)
		return give_up(reason, NULL);
	has_answered = false;
	state = TCS_CONN_ASKED;
	return true;
}

static bool
advance_connecting(char *reason)
{
	const char *violation;

	/* libpq may try the same host again, over another socket */
	socket_serial++;
	polling = tcs_wire_connect(&intake, conn, &violation);
	if (polling == PGRES_POLLING_FAILED && violation)
		return give_up(reason, violation);
	if (polling == PGRES_POLLING_FAILED)
	{
		tcs_search_note_failure(PQerrorMessage(conn));
		return leave_host(reason);
	}
	if (polling == PGRES_POLLING_OK)
	{
		if (PQsetnonblocking(conn, 1) != 0)
			return give_up(reason, NULL);
		tcs_intake_begin(&intake, TCS_INTAKE_ANSWER);
		tcs_growth_begin(&growth, TCS_GROWTH_WORKER);
		tcs_search_note_connected();
		state = TCS_CONN_IDLE;
	}
	return true;
}

/* Look at a result: is it the one answer to the question? */
static bool
take_result(const PGresult *result, TcsAnswerText *answer, char *reason)
{
	const char *sqlstate;

	switch (PQresultStatus(result))
	{
		case PGRES_TUPLES_OK:
			if (has_answered)
				strlcpy(reason, "the server gave more than one answer", TCS_REASON_LEN);
			else if (PQntuples(result) == 1 && PQnfields(result) == 1 &&
					 PQgetisnull(result, 0, 0))
				strlcpy(reason, TCS_NO_LIBRARY, TCS_REASON_LEN);
			else if (!tcs_wire_is_value(result) || PQfformat(result, 0) != 0)
				strlcpy(reason, "the server's answer is not one line", TCS_REASON_LEN);
			else if (!tcs_readindex_parse(PQgetvalue(result, 0, 0), answer))
				strlcpy(reason, "the primary's answer is not understood (another version of tcs?)",
						TCS_REASON_LEN);
			else
				return true;
			break;
		case PGRES_FATAL_ERROR:
		case PGRES_NONFATAL_ERROR:
		case PGRES_BAD_RESPONSE:
			failure = tcs_conn_describe_error(reason, PQresultErrorMessage(result),
											  is_replication, several_hosts);
			sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
			gave_way = sqlstate && strcmp(sqlstate, TCS_TOO_MANY_CONNECTIONS) == 0;
			break;
		default:
			snprintf(reason, TCS_REASON_LEN, "the server answered with something else (%s)",
					 PQresStatus(PQresultStatus(result)));
			break;
	}
	return false;
}

/* Let libpq read what has come, within bounds. */
static bool
read_input(char *reason)
{
	if (!tcs_intake_read(&intake, conn))
		return give_up(reason, NULL);
	/* this is also where libpq drops what nobody has asked for */
	if (PQisBusy(conn) || state == TCS_CONN_IDLE)
	{
		if (tcs_intake_is_over(&intake))
			return give_up(reason, "the server sent more than an answer");
	}
	if (intake.slow || tcs_growth_is_over(&growth))
		return give_up(reason, "the server sent too much beside its answers");
	if (PQstatus(conn) == CONNECTION_BAD)
		return give_up(reason, NULL);
	return true;
}

/* Take what has come; *answered is set once an answer is there. */
static bool
advance_asked(bool *answered, TcsAnswerText *answer, char *reason)
{
	if (!read_input(reason))
		return false;
	if (PQflush(conn) < 0)
		return give_up(reason, NULL);
	while (!PQisBusy(conn))
	{
		PGresult   *result = PQgetResult(conn);
		bool		ok;

		if (result == NULL)
		{
			state = TCS_CONN_IDLE;
			if (!has_answered)
				return give_up(reason, "the server ended its answer without a result");
			return true;
		}
		ok = take_result(result, answer, reason);
		PQclear(result);
		if (!ok)
		{
			tcs_conn_close();
			return false;
		}
		has_answered = *answered = true;
	}
	return true;
}

/*
 * Do what can be done without waiting.  Returns false with the reason when the
 * connection was lost, and is closed.
 */
bool
tcs_conn_advance(bool *answered, TcsAnswerText *answer, char *reason)
{
	*answered = false;
	switch (state)
	{
		case TCS_CONN_CLOSED:
			return true;
		case TCS_CONN_CONNECTING:
			return advance_connecting(reason);
		case TCS_CONN_IDLE:
			/* nothing is due but the end of the connection, or a notice */
			return read_input(reason);
		case TCS_CONN_ASKED:
			return advance_asked(answered, answer, reason);
	}
	return true;
}
