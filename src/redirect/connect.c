/*-------------------------------------------------------------------------
 *
 * connect.c
 *	  How a session's connection to another server is made.
 *
 * NOTES
 *	  libpq is given one place at a time (base/hosts.c), and leaves it to the
 *	  operating system how long it waits for one that does not answer at all, which
 *	  is minutes.  So there is a deadline, and connect_timeout is heeded here, as
 *	  libpq does not heed it where nothing may block.
 *
 *	  A user who is no superuser has to prove who he is by what is his own, as in
 *	  postgres_fdw: by the password of his mapping, which the server must have asked
 *	  for; or by what his client has passed on, a GSSAPI credential or SCRAM keys.
 *	  Otherwise he would use what belongs to the operating system's user that this
 *	  server runs as.  A superuser can waive that in the mapping.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/fd.h"

#include "base/compat.h"
#include "base/settings.h"
#include "base/tcs.h"
#include "redirect/connection.h"

/* The last value given for a keyword; NULL if there is none, or an empty one. */
static const char *
option_value(const TcsServer *server, const char *keyword)
{
	const char *value = NULL;

	for (int i = 0; server->keywords[i]; i++)
	{
		if (strcmp(server->keywords[i], keyword) == 0 &&
			server->values[i] && server->values[i][0] != '\0')
			value = server->values[i];
	}
	return value;
}

static void
take_list(const PQconninfoOption *option, const char *keyword, const char **list)
{
	if (strcmp(option->keyword, keyword) == 0 && option->val && option->val[0] != '\0')
		*list = pstrdup(option->val);
}

/*
 * Which hosts does a server have?
 *
 * They can also come from a service file or the environment, which only libpq
 * knows.  It has to begin to connect to tell.
 */
void
tcs_peer_get_hosts(const TcsServer *server, TcsHostLists *lists)
{
	PGconn	   *conn;
	PQconninfoOption *options;

	lists->host = option_value(server, "host");
	lists->hostaddr = option_value(server, "hostaddr");
	lists->port = option_value(server, "port");
	if (!option_value(server, "service") && !getenv("PGSERVICE") &&
		(lists->host || lists->hostaddr || (!getenv("PGHOST") && !getenv("PGHOSTADDR"))))
		return;
	conn = PQconnectStartParams(server->keywords, server->values, false);
	options = conn ? PQconninfo(conn) : NULL;
	for (PQconninfoOption *option = options; option && option->keyword; option++)
	{
		take_list(option, "host", &lists->host);
		take_list(option, "hostaddr", &lists->hostaddr);
		take_list(option, "port", &lists->port);
	}
	PQconninfoFree(options);
	PQfinish(conn);
}

/* A place, for a message. */
char *
tcs_peer_place(const TcsHost *host)
{
	const char *name = host->name && host->name[0] ? host->name : host->address;

	if (name == NULL || name[0] == '\0')
		name = "?";
	return host->port && host->port[0] ? psprintf("\"%s\", port %s", name, host->port) :
		psprintf("\"%s\"", name);
}

/*
 * Begin to connect to one host.  What it is not told of, libpq takes from the
 * server's options.
 */
static PGconn *
start_connecting(const TcsServer *server, const TcsHost *host)
{
	const char **keywords;
	const char **values;
	int			n = 0;

	if (tcs_host_is_default(host))
		return PQconnectStartParams(server->keywords, server->values, false);
	while (server->keywords[n])
		n++;
	keywords = palloc((n + TCS_HOST_PARAMS + 1) * sizeof(char *));
	values = palloc((n + TCS_HOST_PARAMS + 1) * sizeof(char *));
	n = 0;
	for (int i = 0; server->keywords[i]; i++)
	{
		if (tcs_host_is_param(server->keywords[i]))
			continue;
		keywords[n] = server->keywords[i];
		values[n++] = server->values[i];
	}
	n = tcs_host_add_params(host, keywords, values, n);
	keywords[n] = NULL;
	values[n] = NULL;
	return PQconnectStartParams(keywords, values, false);
}

/* How an attempt to connect has ended. */
typedef enum Connecting
{
	CONNECTED,
	COULD_NOT_CONNECT,
	HOST_IS_SILENT,
	HOST_IS_ODD					/* see tcs_peer.violation */
} Connecting;

/* Let libpq go on until it has connected, or the time is over. */
static Connecting
finish_connecting(int64 deadline)
{
	PostgresPollingStatusType polling = PGRES_POLLING_WRITING;

	while (polling != PGRES_POLLING_OK)
	{
		int			socket_event = polling == PGRES_POLLING_READING ?
			WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE;
		int			rc;

		if (tcs_peer.violation)
			return HOST_IS_ODD;
		if (PQstatus(tcs_peer.conn) == CONNECTION_BAD ||
			polling == PGRES_POLLING_FAILED)
			return COULD_NOT_CONNECT;
		if (tcs_now() >= deadline)
			return HOST_IS_SILENT;
		rc = WaitLatchOrSocket(MyLatch,
							   WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH | socket_event,
							   PQsocket(tcs_peer.conn), tcs_peer_timeout_ms(deadline),
							   tcs_peer_wait_event());
		if (rc & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
		if (rc & socket_event)
			polling = tcs_wire_connect(&tcs_peer.intake, tcs_peer.conn, &tcs_peer.violation);
	}
	return CONNECTED;
}

/* connect_timeout of a server, as an instant; it counts for each host. */
static int64
connect_deadline(const TcsServer *server, int64 deadline)
{
	const char *value = option_value(server, "connect_timeout");
	int			seconds = value ? atoi(value) : 0;

	/* none, or for libpq to complain of */
	if (seconds <= 0)
		return deadline;
	return Min(deadline, tcs_now() + seconds * INT64CONST(1000000));
}

/* Connect to a host.  On failure the connection is still to be closed. */
static bool
connect_to(const TcsServer *server, const TcsHost *host, int64 deadline,
		   TcsFailure *failure)
{
	int64		own_deadline = connect_deadline(server, deadline);
	Connecting	end;

	tcs_failure_set(failure, TCS_CAUSE_UNREACHABLE, pstrdup("out of memory"));
	tcs_peer.conn = start_connecting(server, host);
	if (tcs_peer.conn == NULL)
		return false;
	PQsetNoticeReceiver(tcs_peer.conn, tcs_peer_receive_notice, NULL);
	tcs_peer_expect_answers();
	tcs_peer.violation = NULL;
	end = finish_connecting(own_deadline);
	if (end == HOST_IS_SILENT)
		tcs_failure_set(failure, TCS_CAUSE_SILENT, own_deadline >= deadline ? NULL :
						psprintf("no connection within connect_timeout (%s s)",
								 option_value(server, "connect_timeout")));
	else if (end == HOST_IS_ODD)
		tcs_failure_set(failure, TCS_CAUSE_LOST, tcs_peer_loss());
	else if (end == COULD_NOT_CONNECT)
		tcs_failure_of_connecting(failure, tcs_peer_loss());
	else if (server->needs_proof &&
			 !(server->has_password && PQconnectionUsedPassword(tcs_peer.conn)) &&
			 !(tcs_has_delegated_credential_compat() && tcs_used_gssapi_compat(tcs_peer.conn)))
		tcs_failure_set(failure, TCS_CAUSE_NOT_ADMITTED,
						pstrdup("the server did not ask for the password of a user who is no superuser"));
	else if (PQsetnonblocking(tcs_peer.conn, 1) == 0 && PQenterPipelineMode(tcs_peer.conn))
		return true;
	else
		tcs_failure_of_connecting(failure, tcs_peer_message(PQerrorMessage(tcs_peer.conn)));
	return false;
}

/*
 * Connect to a host.  Returns false with the failure, and without a connection, if
 * that did not succeed.  The failure has no text if the deadline is over.
 */
bool
tcs_peer_connect(const TcsServer *server, const TcsHost *host, int64 deadline,
				 TcsFailure *failure)
{
	bool		done = false;

	Assert(tcs_peer.conn == NULL);

	if (!AcquireExternalFD())
	{
		tcs_failure_set(failure, TCS_CAUSE_SETUP, pstrdup("too many open files"));
		return false;
	}
	PG_TRY();
	{
		done = connect_to(server, host, deadline, failure);
	}
	PG_FINALLY();
	{
		if (!done)
		{
			if (tcs_peer.conn == NULL)
				ReleaseExternalFD();
			tcs_peer_close();
		}
	}
	PG_END_TRY();
	if (!done)
		return false;

	if (!pg_strong_random(&tcs_peer.name, sizeof(tcs_peer.name)))
		tcs_peer.name = (uint64) tcs_now() ^ ((uint64) MyProcPid << 40);
	strlcpy(tcs_peer.server, server->name, NAMEDATALEN);
	return true;
}
