/*-------------------------------------------------------------------------
 *
 * worker_conn.c
 *	  The worker's connection to the primary.
 *
 * NOTES
 *	  Everything is asynchronous: the worker must be able to wake sessions
 *	  while the primary is silent.  Reasons for failure are made for a person
 *	  who reads them in tcs.status(), and never contain a password: libpq does
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
 *	  answer, or something else, is left; standby/worker.c waits longer each time
 *	  before it connects again.
 *
 *	  Either may name several hosts.  Then libpq looks for the one that is no
 *	  standby; but a deposed primary that still runs is none either, so after an
 *	  answer that cannot be used, the search begins one host further on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlogrecovery.h"
#include "libpq-fe.h"
#include "storage/latch.h"
#include "utils/guc.h"

#include "base/version.h"
#include "base/wire.h"
#include "standby/worker_conn.h"
#include "token/token.h"

/* How a question is put, by TcsQuestion. */
static const char *const ask_replication[] = {
	"SHOW tcs.read_index", "SHOW tcs.quorum_index", "SHOW tcs.quorum_round"
};
#define TCS_ASK_SQL(setting) \
	"SELECT CASE WHEN NOT ('NO_SHOW_ALL' OPERATOR(pg_catalog.=) ANY" \
	" (pg_catalog.pg_settings_get_flags('tcs.enabled')))" \
	" THEN pg_catalog.current_setting('" setting "') END"

static const char *const ask_sql[] = {
	TCS_ASK_SQL("tcs.read_index"), TCS_ASK_SQL("tcs.quorum_index"), TCS_ASK_SQL("tcs.quorum_round")
};

#define TCS_NO_LIBRARY \
	"the primary runs without tcs: add it to shared_preload_libraries there"

/* ERRCODE_TOO_MANY_CONNECTIONS as it comes over the wire */
#define TCS_TOO_MANY_CONNECTIONS "53300"

/* What a DBA can do about it; for a replication connection, or for either. */
#define TCS_NO_ENTRY_STREAMING \
	" (add the line to pg_hba.conf of the primary, as for streaming)"
#define TCS_NO_ENTRY \
	" (add a line for it to pg_hba.conf of the primary)"
#define TCS_NO_ROOM_STREAMING \
	" (raise max_wal_senders on the primary: each standby needs one more;" \
	" or set tcs.primary_conninfo)"
#define TCS_NO_ROOM \
	" (raise max_connections on the primary)"
#define TCS_NO_PRIMARY \
	" (set tcs.primary_conninfo to all nodes that can be the primary)"

static PGconn *conn = NULL;
static TcsConnState state = TCS_CONN_CLOSED;
static PostgresPollingStatusType polling;
static bool is_replication;
static bool several_hosts;
static int	first_host = 0;		/* where the search begins, modulo their
								 * number */
static uint64 socket_serial = 0;
static TcsIntake intake;		/* since connecting began, or since the last
								 * question */
static TcsGrowth growth;			/* since the connection was made */
static bool has_answered;		/* the question on its way */
static bool gave_way;			/* the server needs it for replication */
static const char *failure;		/* general; NULL: the reason is in our own words */

/* libpq's message on one line, in the caller's buffer, for any encoding. */
static void
copy_message(char *reason, const char *message, int message_len)
{
	int			len = 0;

	for (const char *p = message; p < message + message_len && len < TCS_REASON_LEN - 1; p++)
	{
		bool		blank = *p == '\n' || *p == '\t' || *p == ' ';

		if (!blank)
			reason[len++] = *p;
		else if (len > 0 && reason[len - 1] != ' ')
			reason[len++] = ' ';
	}
	reason[len] = '\0';

	/* without the place in our own question, libpq's advice, and a full stop */
	if (strstr(reason, " LINE 1:"))
		*strstr(reason, " LINE 1:") = '\0';
	if (strstr(reason, " Is the server running"))
		*strstr(reason, " Is the server running") = '\0';
	len = strlen(reason);
	while (len > 0 && (reason[len - 1] == ' ' || reason[len - 1] == '.'))
		reason[--len] = '\0';
	tcs_wire_ascii(reason);
}

/* Notices of the primary are for nobody; libpq would write them to the log. */
static void
ignore_notice(void *arg, const PGresult *result)
{
}

/* What kind of failure it is, in words that everybody may see. */
typedef enum Kind
{
	NOT_PRIMARY,
	UNREACHABLE,
	STARTING,
	ENDED,
	OTHER,
	NO_ROOM,
	NOT_ADMITTED,
	NO_LIBRARY,
	KINDS
} Kind;

static const struct
{
	const char *general;
	const char *among_several;
}			kinds[] = {
	[NOT_PRIMARY] = {"none of the servers asked is the primary", "not the primary"},
	[UNREACHABLE] = {"the primary cannot be reached", "not reached"},
	[STARTING] = {"the primary is starting or stopping", "starting or stopping"},
	[ENDED] = {"the primary has ended the connection", "connection ended"},
	[OTHER] = {"the connection to the primary failed", "connection failed"},
	[NO_ROOM] = {"the primary has no room for the connection of the worker",
	"no room for the connection of the worker"},
	[NOT_ADMITTED] = {"the primary does not admit the connection of the worker",
	"connection of the worker not admitted"},
	[NO_LIBRARY] = {TCS_NO_LIBRARY, "without tcs"},
};

/*
 * Failures that have a known cause.  libpq's message names hosts and roles.
 */
static const struct
{
	const char *part;			/* of libpq's message */
	Kind		kind;
	const char *cure;			/* on a replication connection */
	const char *other_cure;
}			causes[] = {
	{"no pg_hba.conf entry", NOT_ADMITTED, TCS_NO_ENTRY_STREAMING, TCS_NO_ENTRY},
	{"pg_hba.conf rejects", NOT_ADMITTED, "", ""},
	{"authentication failed", NOT_ADMITTED, "", ""},
	{"no password supplied", NOT_ADMITTED, "", ""},
	{"permission denied", NOT_ADMITTED, "", ""},
	{"max_wal_senders", NO_ROOM, TCS_NO_ROOM_STREAMING, TCS_NO_ROOM_STREAMING},
	{"too many clients", NO_ROOM, TCS_NO_ROOM, TCS_NO_ROOM},
	{"connection slots are reserved", NO_ROOM, TCS_NO_ROOM, TCS_NO_ROOM},
	{"too many connections", NO_ROOM, "", ""},
	{"server is in hot standby mode", NOT_PRIMARY, TCS_NO_PRIMARY, TCS_NO_PRIMARY},
	{"session is read-only", NOT_PRIMARY, TCS_NO_PRIMARY, TCS_NO_PRIMARY},
	{"unrecognized configuration parameter", NO_LIBRARY, " (" TCS_NO_LIBRARY ")", " (" TCS_NO_LIBRARY ")"},
	{"the database system is", STARTING, "", ""},
	{"terminating connection", ENDED, "", ""},
	{"server closed the connection", ENDED, "", ""},
	{"Connection refused", UNREACHABLE, "", ""},
	{"No such file or directory", UNREACHABLE, "", ""},
	{"No route to host", UNREACHABLE, "", ""},
	{"timeout expired", UNREACHABLE, "", ""},
	{"could not translate host name", UNREACHABLE, "", ""}
};

/* What a message tells of the cause, and the cure if there is one. */
static Kind
kind_of(const char *message, const char **cure)
{
	*cure = "";
	for (int i = 0; i < lengthof(causes); i++)
	{
		if (strstr(message, causes[i].part) == NULL)
			continue;
		*cure = is_replication ? causes[i].cure : causes[i].other_cure;
		/* it is set to several hosts already */
		if (causes[i].kind == NOT_PRIMARY && several_hosts && !is_replication)
			*cure = "";
		return causes[i].kind;
	}
	return OTHER;
}

/* Where libpq's message about a host ends; there can be one more behind it. */
static const char *
end_of_host(const char *message)
{
	const char *p = message;

	while ((p = strchr(p, '\n')) != NULL)
	{
		p++;
		if (strncmp(p, "connection to server ", 21) == 0 || strncmp(p, "could not ", 10) == 0)
			return p;
	}
	return message + strlen(message);
}

/*
 * What libpq says of one host among several, in short: its first line, which begins
 * with the host.
 */
static void
copy_host_message(char *text, const char *message)
{
	char	   *failed;

	copy_message(text, message, strcspn(message, "\n"));
	failed = strstr(text, " failed: ");
	/* "at" an address, "on" a socket; a server can send what looks like it */
	if (strncmp(text, "connection to server ", 21) != 0 || failed == NULL || failed < text + 24)
		return;
	memmove(failed, failed + 7, strlen(failed + 7) + 1);
	memmove(text, text + 24, strlen(text + 24) + 1);
}

/* The same of all hosts, and how many failed in which way. */
static void
copy_host_messages(char *reason, const char *error, const char **cure, int count[KINDS])
{
	Kind		first = NOT_PRIMARY;
	int			len = 0;

	for (const char *host = error; *host != '\0'; host = end_of_host(host))
	{
		char		text[TCS_REASON_LEN];
		const char *its_cure;
		Kind		kind;

		copy_host_message(text, host);
		kind = kind_of(text, &its_cure);
		count[kind]++;
		/* what is worst is cured first */
		if (kind >= first && its_cure[0] != '\0')
		{
			first = kind;
			*cure = its_cure;
		}
		/* whole, or not at all */
		if (len + strlen(text) + sizeof("; ...") > TCS_REASON_LEN - strlen(TCS_NO_ROOM_STREAMING))
			strlcpy(text, "...", sizeof(text));
		if (len >= 3 && strcmp(reason + len - 3, "...") == 0)
			continue;
		len += snprintf(reason + len, TCS_REASON_LEN - len, "%s%s", len > 0 ? "; " : "", text);
	}
}

/* In general words, what has become of several hosts. */
static const char *
describe_hosts(const int count[KINDS])
{
	static char text[TCS_REASON_LEN];
	int			nkinds = 0;
	int			len = 0;

	for (Kind kind = NOT_PRIMARY; kind < KINDS; kind++)
		nkinds += count[kind] > 0;
	for (Kind kind = NOT_PRIMARY; kind < KINDS; kind++)
	{
		if (count[kind] == 0)
			continue;
		if (nkinds == 1)
			return kinds[kind].general;
		len += snprintf(text + len, sizeof(text) - len, "%s%s: %d",
						len > 0 ? "; " : "none of the servers asked answers as the primary (",
						kinds[kind].among_several, count[kind]);
	}
	strlcat(text, ")", sizeof(text));
	return text;
}

/* Add what is known of the cause. */
static void
copy_error(char *reason, const char *error)
{
	char		message[TCS_REASON_LEN] = "";
	const char *cure = "";
	int			count[KINDS] = {0};

	if (*end_of_host(error) != '\0')
	{
		copy_host_messages(message, error, &cure, count);
		failure = describe_hosts(count);
		/* all of them answer, so the one that is the primary is missing */
		if (failure == kinds[NOT_PRIMARY].general)
			cure = TCS_NO_PRIMARY;
	}
	else
	{
		copy_message(message, error, strlen(error));
		failure = kinds[kind_of(message, &cure)].general;
	}
	if (message[0] == '\0')
		strlcpy(message, "the server did not say what went wrong", TCS_REASON_LEN);
	snprintf(reason, TCS_REASON_LEN, "%.*s%s",
			 (int) (TCS_REASON_LEN - 1 - strlen(cure)), message, cure);
}

/*
 * Close the connection, for a reason of ours or, without one, for libpq's.
 * Returns false, for the caller to return.  A server that does not behave is not
 * asked first the next time, if there are others.
 */
static bool
give_up(char *reason, const char *ours)
{
	if (ours)
	{
		strlcpy(reason, ours, TCS_REASON_LEN);
		(void) tcs_conn_has_another_host();
	}
	else
		copy_error(reason, PQerrorMessage(conn));
	tcs_conn_close();
	return false;
}

/* A list of libpq's, beginning with another element; palloc'd. */
static char *
rotate(const char *list, int by)
{
	const char *p = list;
	int			n = 1;

	for (const char *q = list; *q != '\0'; q++)
		n += *q == ',';
	for (int i = 0; i < by % n; i++)
		p = strchr(p, ',') + 1;
	if (p == list)
		return pstrdup(list);
	return psprintf("%s,%.*s", p, (int) (p - 1 - list), list);
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
	const char *keywords[64];
	const char *values[64];
	static char server_options[1024];
	static char name[NAMEDATALEN + 8];
	const char *own_options = "";
	const char *build;
	char		receiver_name[NAMEDATALEN];
	const char *own_name = receiver_name;
	const char *own_attrs = NULL;
	char	   *rotated[3];
	int			nrotated = 0;
	int			n = 0;

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
	copy_receiver_name(receiver_name, sizeof(receiver_name));
	several_hosts = false;
	for (PQconninfoOption *option = options; option->keyword; option++)
		several_hosts |= is_list_of_hosts(option);
	for (PQconninfoOption *option = options; option->keyword && n < 56; option++)
	{
		if (option->val == NULL || option->val[0] == '\0')
			continue;
		if (strcmp(option->keyword, "options") == 0)
			own_options = option->val;
		if (strcmp(option->keyword, "application_name") == 0)
			own_name = option->val;
		if (several_hosts && strcmp(option->keyword, "target_session_attrs") == 0)
		{
			own_attrs = option->val;
			continue;
		}
		if (several_hosts && (is_list_of_hosts(option) ||
							  strcmp(option->keyword, "port") == 0))
		{
			rotated[nrotated] = rotate(option->val, first_host);
			keywords[n] = option->keyword;
			values[n++] = rotated[nrotated++];
			continue;
		}
		/* those are ours */
		if (strcmp(option->keyword, "replication") == 0 ||
			strcmp(option->keyword, "options") == 0 ||
			strcmp(option->keyword, "application_name") == 0 ||
			(replication && strcmp(option->keyword, "dbname") == 0))
			continue;
		keywords[n] = option->keyword;
		values[n++] = option->val;
	}
	/* the server splits options at blanks that no backslash escapes */
	build = strchr(tcs_version_string, '(');
	snprintf(server_options, sizeof(server_options), "-c tcs.asker=%s\\ %d%s%s %s",
			 TCS_VERSION, TCS_TOKEN_VERSION, build ? "\\ " : "", build ? build : "", own_options);
	keywords[n] = "options";
	values[n++] = server_options;
	if (several_hosts)
	{
		keywords[n] = "target_session_attrs";
		values[n++] = wanted_attrs(own_attrs);
	}
	if (replication)
	{
		keywords[n] = "replication";
		values[n++] = "true";
		keywords[n] = "dbname";
		values[n++] = "replication";
	}
	/* the name of the WAL receiver, marked so that nobody takes us for it */
	snprintf(name, sizeof(name), TCS_ASKER_PREFIX "%s", own_name);
	keywords[n] = "application_name";
	values[n++] = name;
	keywords[n] = NULL;
	values[n] = NULL;

	conn = PQconnectStartParams(keywords, values, false);
	PQconninfoFree(options);
	for (int i = 0; i < nrotated; i++)
		pfree(rotated[i]);

	if (conn == NULL || PQstatus(conn) == CONNECTION_BAD)
		return give_up(reason, conn ? NULL : "out of memory");
	PQsetNoticeReceiver(conn, ignore_notice, NULL);
	tcs_intake_begin(&intake, TCS_INTAKE_ANSWER);
	socket_serial++;
	polling = PGRES_POLLING_WRITING;
	state = TCS_CONN_CONNECTING;
	return true;
}

/*
 * The server connected to is not the one to ask.  If there are others, begin
 * with the next one when connecting anew.
 */
bool
tcs_conn_has_another_host(void)
{
	if (several_hosts)
		first_host = (first_host + 1) % PG_INT16_MAX;
	return several_hosts;
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

	/* libpq goes on to the next host, or the next address, by itself */
	socket_serial++;
	polling = tcs_wire_connect(&intake, conn, &violation);
	if (polling == PGRES_POLLING_FAILED)
		return give_up(reason, violation);
	if (polling == PGRES_POLLING_OK)
	{
		if (PQsetnonblocking(conn, 1) != 0)
			return give_up(reason, NULL);
		tcs_intake_begin(&intake, TCS_INTAKE_ANSWER);
		tcs_growth_begin(&growth, TCS_GROWTH_WORKER);
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
			copy_error(reason, PQresultErrorMessage(result));
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
