/*-------------------------------------------------------------------------
 *
 * worker_conn_error.c
 *	  Why the worker's connection failed, for people.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/wire.h"
#include "standby/worker_conn.h"

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

/* What kind of failure it is, in words that everybody may see. */
typedef enum FailureKind
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
} FailureKind;

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
	FailureKind kind;
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

/* What was connected to. */
typedef struct Asked
{
	bool		replication;	/* by primary_conninfo */
	bool		several_hosts;
} Asked;

/* What a message tells of the cause, and the cure if there is one. */
static FailureKind
kind_of(const char *message, const Asked *asked, const char **cure)
{
	*cure = "";
	for (int i = 0; i < lengthof(causes); i++)
	{
		if (strstr(message, causes[i].part) == NULL)
			continue;
		*cure = asked->replication ? causes[i].cure : causes[i].other_cure;
		/* it is set to several hosts already */
		if (causes[i].kind == NOT_PRIMARY && asked->several_hosts && !asked->replication)
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
copy_host_messages(char *reason, const char *error, const Asked *asked,
				   const char **cure, int count[KINDS])
{
	FailureKind first = NOT_PRIMARY;
	int			len = 0;

	for (const char *host = error; *host != '\0'; host = end_of_host(host))
	{
		char		text[TCS_REASON_LEN];
		const char *its_cure;
		FailureKind kind;

		copy_host_message(text, host);
		kind = kind_of(text, asked, &its_cure);
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

	for (FailureKind kind = NOT_PRIMARY; kind < KINDS; kind++)
		nkinds += count[kind] > 0;
	for (FailureKind kind = NOT_PRIMARY; kind < KINDS; kind++)
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

/*
 * What libpq says, with what is known of the cause, into "reason".  Returns what
 * kind of failure it is, in words that everybody may see.
 */
const char *
tcs_conn_describe_error(char *reason, const char *error, bool replication,
						bool several_hosts)
{
	const Asked asked = {replication, several_hosts};
	const char *general;
	char		message[TCS_REASON_LEN] = "";
	const char *cure = "";
	int			count[KINDS] = {0};

	if (*end_of_host(error) != '\0')
	{
		copy_host_messages(message, error, &asked, &cure, count);
		general = describe_hosts(count);
		/* all of them answer, so the one that is the primary is missing */
		if (general == kinds[NOT_PRIMARY].general)
			cure = TCS_NO_PRIMARY;
	}
	else
	{
		copy_message(message, error, strlen(error));
		general = kinds[kind_of(message, &asked, &cure)].general;
	}
	if (message[0] == '\0')
		strlcpy(message, "the server did not say what went wrong", TCS_REASON_LEN);
	snprintf(reason, TCS_REASON_LEN, "%.*s%s",
			 (int) (TCS_REASON_LEN - 1 - strlen(cure)), message, cure);
	return general;
}
