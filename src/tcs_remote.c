/*-------------------------------------------------------------------------
 *
 * tcs_remote.c
 *	  This session's connection to the redirect server.
 *
 * NOTES
 *	  A redirected statement costs one round trip: everything goes out as one
 *	  pipeline,
 *
 *		BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY
 *		SELECT tcs.redirect_begin(who, where, settings ...)
 *		(flush)
 *		the statement
 *		(Sync)
 *		COMMIT
 *		(Sync)
 *
 *	  redirect_begin() checks on the primary that it is the primary of this
 *	  cluster, this database and this user, that it has what the token names, and
 *	  sets the session's settings for the transaction.  Should it fail, the server
 *	  skips what follows up to the Sync, so the statement runs only where it
 *	  should.  Its answer is waited for before anything is decided, at most
 *	  tcs.redirect_timeout; the rows come when the executor wants them.  The
 *	  transaction's snapshot is there when redirect_begin() looks at the position
 *	  of WAL, so the position it returns covers all that the statement can show:
 *	  that is why it is REPEATABLE READ.  COMMIT comes after the Sync so that it
 *	  also ends a transaction that failed, and its result is read before the next
 *	  statement, when it has long been there.
 *
 *	  Nothing on the server outlives a transaction but prepared statements, so
 *	  there may be a pooler between; if it does not keep those, we stop using
 *	  them.  Rows are taken one at a time (or some, from libpq 17 on), so a large
 *	  result stays in the network until it is wanted.
 *
 *	  A statement that is given up is not cancelled through libpq, whose cancel
 *	  can block for minutes before 17: the connection is closed, and the server
 *	  looks every second whether its client is still there
 *	  (client_connection_check_interval).
 *
 *	  All waits are on this session's latch, the socket and the postmaster, and
 *	  can be interrupted.  After an error, tcs_remote_transaction_ended() finds
 *	  the connection as it is, and keeps it only if nothing is under way on it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/sinval.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timeout.h"

#include "tcs_budget.h"
#include "tcs_compat.h"
#include "tcs_fdw.h"
#include "tcs_guc.h"
#include "tcs_portable.h"
#include "tcs_remote.h"
#include "tcs_settings.h"

#define TCS_SQL_BEGIN	"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
#define TCS_SQL_CALL	"SELECT tcs.redirect_begin($1, $2, $3, $4, $5, $6)"
#define TCS_SQL_CHECK	"SELECT tcs.redirect_check()"
#define TCS_SQL_COMMIT	"COMMIT"

/* Rows in one result, where libpq can put several into one. */
#define TCS_CHUNK_ROWS	256

/* How often to try again when a commit came in between. */
#define TCS_MAX_MISSED	5

/* How long the server may take to skip what follows on an error, in us. */
#define TCS_SKIP_US		1000000

/* Notices kept until they can be shown. */
#define TCS_MAX_NOTICES	100

/* How the wait for a result ended. */
typedef enum Arrival
{
	ARRIVED,
	ARRIVED_TOO_LATE,
	CONNECTION_LOST
}			Arrival;

bool		tcs_remote_is_connected = false;

static struct
{
	PGconn	   *conn;
	bool		ready;			/* connected and checked */
	WaitEventSet *events;		/* latch, postmaster, socket */
	int			awaited;		/* the socket events that the set waits for */
	Oid			user;			/* for whom it was made */
	Oid			serverid;
	char		server[NAMEDATALEN];
	bool		changed;		/* server or mapping were, since */
	bool		unprepared;		/* a pooler does not keep prepared statements */
	Bitmapset  *prepared;		/* numbers of the client's that are */
	uint64		name;			/* unique, for the names of what we prepare */
	int64		last_used;

	int			syncs;			/* sent, and not read yet */
	bool		running;		/* the first of them ends the client's
								 * statement */
	uint32		preparing;		/* which is prepared first; 0: it is not */
	bool		started;		/* and whose results are being read */
	bool		checking;		/* and a check of settings comes behind */
	bool		open;			/* a transaction whose COMMIT was not sent */
	bool		whole;			/* which is to last as long as the local one */
	int			depth;			/* savepoints in it, and our own level */
	int			rollback_to;	/* savepoint to return to first; 0: none */
	int			release;		/* savepoint to release first; 0: none */

	PGresult   *result;			/* the last one; freed with the next */
	PGresult   *error;			/* that is being raised; freed with the
								 * transaction */
	TcsReader  *reader;			/* who reads its rows, or NULL */
}			remote;

static List *notices = NIL;		/* of ErrorData, in TopMemoryContext */
static TimeoutId idle_timer;
static volatile sig_atomic_t idle_expired = false;

static void
clear_result(void)
{
	PQclear(remote.result);
	remote.result = NULL;
}

/* Close the connection, in whatever state it is.  Does not throw. */
static void
close_connection(void)
{
	clear_result();
	PQclear(remote.error);
	if (remote.events)
		FreeWaitEventSet(remote.events);
	if (remote.conn)
	{
		PQfinish(remote.conn);
		ReleaseExternalFD();
		tcs_budget_give_back();
	}
	bms_free(remote.prepared);
	memset(&remote, 0, sizeof(remote));
	tcs_remote_is_connected = false;
}

/* Does the local transaction run there as a whole? */
bool
tcs_remote_is_begun(void)
{
	return remote.open && remote.whole;
}

/* libpq's message as one line, without a full stop. */
static char *
one_line(const char *message)
{
	char	   *line = pstrdup(message);
	char	   *to = line;

	for (const char *from = message; *from != '\0'; from++)
	{
		bool		blank = strchr(" \t\n", *from) != NULL;

		if (!blank)
			*to++ = *from;
		else if (to > line && to[-1] != ' ')
			*to++ = ' ';
	}
	while (to > line && (to[-1] == ' ' || to[-1] == '.'))
		to--;
	*to = '\0';
	return line;
}


/* ---- notices ---- */

/*
 * libpq calls this from inside of PQgetResult(), where nothing may throw: keep
 * the notice for later.
 */
static void
receive_notice(void *arg, const PGresult *result)
{
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *fields[] = {
		PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY),
		PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL),
		PQresultErrorField(result, PG_DIAG_MESSAGE_HINT),
	};
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	MemoryContext old;
	ErrorData  *edata;

	/* what is said about our own commands is not for the client */
	if (!remote.running || severity == NULL || sqlstate == NULL || fields[0] == NULL ||
		list_length(notices) >= TCS_MAX_NOTICES)
		return;
	PG_TRY();
	{
		old = MemoryContextSwitchTo(TopMemoryContext);
		edata = palloc0(sizeof(ErrorData));
		edata->elevel = strcmp(severity, "WARNING") == 0 ? WARNING :
			strcmp(severity, "INFO") == 0 ? INFO :
			strncmp(severity, "DEBUG", 5) == 0 ? DEBUG1 :
			strcmp(severity, "NOTICE") == 0 ? NOTICE : LOG;
		edata->sqlerrcode = MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2],
										  sqlstate[3], sqlstate[4]);
		edata->message = pstrdup(fields[0]);
		edata->detail = fields[1] ? pstrdup(fields[1]) : NULL;
		edata->hint = fields[2] ? pstrdup(fields[2]) : NULL;
		notices = lappend(notices, edata);
		MemoryContextSwitchTo(old);
	}
	PG_CATCH();
	{
		FlushErrorState();
	}
	PG_END_TRY();
}

/* Show the client what the primary had to say. */
static void
show_notices(void)
{
	while (unlikely(notices != NIL))
	{
		ErrorData  *edata = linitial(notices);

		notices = list_delete_first(notices);
		ereport(edata->elevel,
				(errcode(edata->sqlerrcode),
				 errmsg_internal("%s", edata->message),
				 edata->detail ? errdetail_internal("%s", edata->detail) : 0,
				 edata->hint ? errhint("%s", edata->hint) : 0));
		FreeErrorData(edata);
	}
}


/* ---- waiting ---- */

static uint32
wait_event(void)
{
	static uint32 event = 0;

	if (event == 0)
		event = tcs_wait_event_compat("TcsRedirect");
	return event;
}

/* Milliseconds until an instant, for a wait; -1: for ever. */
static long
timeout_ms(int64 deadline)
{
	int64		left;

	if (deadline == PG_INT64_MAX)
		return -1;
	left = (deadline - tcs_now() + 999) / 1000;
	return Max(left, 0);
}

/*
 * Sleep until the socket can be read from (or written to), the latch is set, or
 * the deadline is over, and see to interrupts.
 */
static void
sleep_on_socket(int64 deadline, bool also_write)
{
	int			awaited = WL_SOCKET_READABLE | (also_write ? WL_SOCKET_WRITEABLE : 0);
	WaitEvent	event;

	if (remote.events == NULL)
	{
		remote.events = tcs_create_wait_event_set_compat(3);
		AddWaitEventToSet(remote.events, awaited, PQsocket(remote.conn), NULL, NULL);
		AddWaitEventToSet(remote.events, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(remote.events, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	}
	else if (awaited != remote.awaited)
		ModifyWaitEvent(remote.events, 0, awaited, NULL);
	remote.awaited = awaited;

	if (WaitEventSetWait(remote.events, timeout_ms(deadline), &event, 1, wait_event()) == 1 &&
		(event.events & WL_LATCH_SET) != 0)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Fetch the next result, or the NULL that ends those of one command. */
static Arrival
fetch_result(int64 deadline)
{
	clear_result();
	for (;;)
	{
		int			unsent = PQflush(remote.conn);

		if (unsent < 0)
			return CONNECTION_LOST;
		if (!PQisBusy(remote.conn))
			break;
		if (deadline != PG_INT64_MAX && tcs_now() >= deadline)
			return ARRIVED_TOO_LATE;
		sleep_on_socket(deadline, unsent > 0);
		if (!PQconsumeInput(remote.conn))
			return CONNECTION_LOST;
	}
	remote.result = PQgetResult(remote.conn);
	show_notices();
	if (PQstatus(remote.conn) == CONNECTION_BAD &&
		PQresultErrorField(remote.result, PG_DIAG_SQLSTATE) == NULL)
		return CONNECTION_LOST;
	return ARRIVED;
}

/* Read all that is left up to the next Sync, and forget it. */
static Arrival
read_to_sync(int64 deadline)
{
	do
	{
		Arrival		arrival = fetch_result(deadline);

		if (arrival != ARRIVED)
			return arrival;
	} while (PQresultStatus(remote.result) != PGRES_PIPELINE_SYNC);
	remote.syncs--;
	remote.running = false;
	clear_result();
	return ARRIVED;
}

/* The same up to the last one. */
static Arrival
read_to_last_sync(int64 deadline)
{
	Arrival		arrival = ARRIVED;

	while (arrival == ARRIVED && remote.syncs > 0)
		arrival = read_to_sync(deadline);
	return arrival;
}


/* ---- sending ---- */

/*
 * The name of a prepared statement.  No two connections may have the same:
 * through a pooler, one could meet what the other has prepared.
 */
static const char *
prepared_name(const char *what, uint32 number)
{
	static char name[NAMEDATALEN];

	snprintf(name, sizeof(name), "tcs_" UINT64_FORMAT "_%s%u", remote.name, what, number);
	return name;
}

/* A command without parameters; one with a name is a prepared one of ours. */
static bool
send_command(const char *what, const char *sql)
{
	if (!remote.unprepared && what)
		return PQsendQueryPrepared(remote.conn, prepared_name(what, 0), 0,
								   NULL, NULL, NULL, 0);
	return PQsendQueryParams(remote.conn, sql, 0, NULL, NULL, NULL, NULL, 0);
}

static bool
send_sync(void)
{
	if (!PQpipelineSync(remote.conn))
		return false;
	remote.syncs++;
	return true;
}

/*
 * Prepare what each transaction needs, in one before it: parse analysis takes a
 * snapshot, and BEGIN must come before the first.  If that fails, the next use
 * will tell.
 */
static bool
prepare_own(int64 deadline)
{
	return PQsendPrepare(remote.conn, prepared_name("begin", 0), TCS_SQL_BEGIN, 0, NULL) &&
		PQsendPrepare(remote.conn, prepared_name("call", 0), TCS_SQL_CALL, 0, NULL) &&
		PQsendPrepare(remote.conn, prepared_name("commit", 0), TCS_SQL_COMMIT, 0, NULL) &&
		send_sync() && read_to_last_sync(deadline) == ARRIVED;
}

/* The call that makes the transaction on the primary what it has to be. */
static bool
send_call(const TcsRemoteBegin * begin)
{
	static StringInfoData settings;
	char		identifier[32];
	char		token[TCS_TOKEN_MAXLEN + 1] = "";
	const char *values[6];
	int			lengths[6] = {0};
	int			formats[6] = {0};

	if (settings.data == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		initStringInfo(&settings);
		MemoryContextSwitchTo(old);
	}
	resetStringInfo(&settings);
	tcs_settings_collect(&settings);
	snprintf(identifier, sizeof(identifier), INT64_FORMAT, (int64) GetSystemIdentifier());
	if (begin->token)
		tcs_token_format(begin->token, token);

	values[0] = identifier;
	values[1] = get_database_name(MyDatabaseId);
	values[2] = GetUserNameFromId(GetSessionUserId(), false);
	values[3] = tcs_level_name(begin->level);
	values[4] = token;
	values[5] = settings.data;
	lengths[5] = settings.len;
	formats[5] = 1;
	if (remote.unprepared)
		return PQsendQueryParams(remote.conn, TCS_SQL_CALL, 6, NULL, values,
								 lengths, formats, 0);
	return PQsendQueryPrepared(remote.conn, prepared_name("call", 0), 6, values, lengths, formats, 0);
}

/* A parameter as it is sent. */
static void
encode_param(const ParamExternData *param, const char **value, int *length, int *format)
{
	Oid			function;
	bool		is_varlena;

	if (param->isnull || !OidIsValid(param->ptype))
	{
		*value = NULL;
		return;
	}
	if (tcs_portable_type(param->ptype) == TCS_TRANSFER_BINARY)
	{
		bytea	   *bytes;

		getTypeBinaryOutputInfo(param->ptype, &function, &is_varlena);
		bytes = OidSendFunctionCall(function, param->value);
		*value = VARDATA(bytes);
		*length = VARSIZE(bytes) - VARHDRSZ;
		*format = 1;
		return;
	}
	getTypeOutputInfo(param->ptype, &function, &is_varlena);
	*value = OidOutputFunctionCall(function, param->value);
}

/* The client's statement; its rows are to come in binary. */
static bool
send_statement(const TcsStatement * statement, ParamListInfo params)
{
	int			n;
	Oid		   *types = tcs_statement_param_types(params, &n);
	const char **values = palloc0(Max(n, 1) * sizeof(char *));
	int		   *lengths = palloc0(Max(n, 1) * sizeof(int));
	int		   *formats = palloc0(Max(n, 1) * sizeof(int));

	for (int i = 0; i < n; i++)
		encode_param(&params->params[i], &values[i], &lengths[i], &formats[i]);

	remote.running = true;
	remote.started = false;
	remote.preparing = 0;
	if (statement->number == 0 || remote.unprepared)
		return PQsendQueryParams(remote.conn, statement->sql, n, types, values,
								 lengths, formats, 1);

	if (!bms_is_member(statement->number, remote.prepared))
	{
		if (!PQsendPrepare(remote.conn, prepared_name("", statement->number),
						   statement->sql, n, types))
			return false;
		remote.preparing = statement->number;
	}
	return PQsendQueryPrepared(remote.conn, prepared_name("", statement->number), n, values, lengths, formats, 1);
}

/* The statement, what follows on it, and the end of its transaction. */
static bool
send_rest(const TcsStatement * statement, ParamListInfo params)
{
	if (!send_statement(statement, params))
		return false;
	remote.checking = statement->runs_user_code;
	if (remote.checking && !send_command(NULL, TCS_SQL_CHECK))
		return false;
	return send_sync();
}

static bool
send_commit(void)
{
	if (!send_command("commit", TCS_SQL_COMMIT) || !send_sync())
		return false;
	remote.open = false;
	return true;
}

static bool
send_pipeline(const TcsRemoteBegin * begin)
{
	if (!send_command("begin", TCS_SQL_BEGIN))
		return false;
	remote.open = true;
	remote.whole = begin->whole;
	remote.depth = 1;
	remote.rollback_to = remote.release = 0;
	if (!send_call(begin))
		return false;
	if (begin->statement == NULL)
		return send_sync();
	return PQsendFlushRequest(remote.conn) &&
		send_rest(begin->statement, begin->params) &&
		(begin->whole || send_commit());
}


/* ---- connecting ---- */

/* After ALTER or DROP of a server or a mapping. */
static void
server_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	remote.changed = true;
}

/*
 * The connection has been idle for long: have core run an empty transaction,
 * at whose end it is closed.  In a signal handler.
 */
static void
idle_timeout(void)
{
	idle_expired = true;
	catchupInterruptPending = true;
	SetLatch(MyLatch);
}

static void
close_at_exit(int code, Datum arg)
{
	close_connection();
}

static void
set_up(void)
{
	static bool done = false;

	if (done)
		return;
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, server_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, server_changed, (Datum) 0);
	idle_timer = RegisterTimeout(USER_TIMEOUT, idle_timeout);
	before_shmem_exit(close_at_exit, (Datum) 0);
	done = true;
}

/* Wait until libpq has connected; false with *failure if it could not. */
static bool
finish_connecting(int64 deadline, char **failure)
{
	PostgresPollingStatusType polling = PGRES_POLLING_WRITING;

	while (polling != PGRES_POLLING_OK)
	{
		int			socket_event = polling == PGRES_POLLING_READING ?
		WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE;
		int			rc;

		if (PQstatus(remote.conn) == CONNECTION_BAD ||
			polling == PGRES_POLLING_FAILED)
		{
			*failure = one_line(PQerrorMessage(remote.conn));
			return false;
		}
		if (tcs_now() >= deadline)
		{
			*failure = psprintf("no connection within tcs.redirect_timeout (%d ms)",
								tcs_redirect_timeout);
			return false;
		}
		rc = WaitLatchOrSocket(MyLatch,
							   WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH | socket_event,
							   PQsocket(remote.conn), timeout_ms(deadline), wait_event());
		if (rc & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
		if (rc & socket_event)
			polling = PQconnectPoll(remote.conn);
	}
	return true;
}

/* Connect as this session's user. */
static bool
connect_anew(TcsRemoteBegin * begin, int64 deadline)
{
	TcsServer  *server = tcs_server_get(&begin->failure);

	if (server == NULL)
		return false;
	set_up();
	if (!tcs_budget_take(tcs_max_redirect_connections, deadline))
	{
		begin->over_budget = true;
		begin->failure = psprintf("all %d connections that tcs.max_redirect_connections allows are in use",
								  tcs_max_redirect_connections);
		return false;
	}
	if (!AcquireExternalFD())
	{
		tcs_budget_give_back();
		begin->failure = pstrdup("too many open files");
		return false;
	}
	remote.conn = PQconnectStartParams(server->keywords, server->values, false);
	if (remote.conn == NULL)
	{
		ReleaseExternalFD();
		tcs_budget_give_back();
		begin->failure = pstrdup("out of memory");
		return false;
	}
	tcs_remote_is_connected = true;
	if (!finish_connecting(deadline, &begin->failure))
	{
		close_connection();
		return false;
	}
	if (server->needs_password && !PQconnectionUsedPassword(remote.conn))
	{
		close_connection();
		begin->failure = pstrdup("the server did not ask for the password of a user who is no superuser");
		return false;
	}
	if (PQsetnonblocking(remote.conn, 1) != 0 || !PQenterPipelineMode(remote.conn))
	{
		begin->failure = one_line(PQerrorMessage(remote.conn));
		close_connection();
		return false;
	}
	PQsetNoticeReceiver(remote.conn, receive_notice, NULL);
	if (!pg_strong_random(&remote.name, sizeof(remote.name)))
		remote.name = (uint64) tcs_now() ^ ((uint64) MyProcPid << 40);
	remote.ready = true;
	remote.user = GetSessionUserId();
	remote.serverid = server->serverid;
	strlcpy(remote.server, tcs_redirect_server, NAMEDATALEN);
	tcs_budget_count_connection();
	if (!prepare_own(deadline))
	{
		begin->failure = one_line(PQerrorMessage(remote.conn));
		close_connection();
		return false;
	}
	return true;
}

/* Can the connection that is there be used for a new transaction? */
static bool
is_usable(int64 deadline)
{
	if (!remote.ready || remote.changed || remote.user != GetSessionUserId() ||
		strncmp(remote.server, tcs_redirect_server, NAMEDATALEN - 1) != 0)
		return false;
	/* the server may have closed it */
	if (!PQconsumeInput(remote.conn) || read_to_last_sync(deadline) != ARRIVED)
		return false;
	return PQtransactionStatus(remote.conn) == PQTRANS_IDLE;
}


/* ---- beginning ---- */

/* Read the results of one command, which must not fail. */
static Arrival
read_command(int64 deadline, bool *failed)
{
	Arrival		arrival = fetch_result(deadline);

	*failed = false;
	if (arrival != ARRIVED)
		return arrival;
	switch (PQresultStatus(remote.result))
	{
		case PGRES_COMMAND_OK:
		case PGRES_TUPLES_OK:
			return ARRIVED;
		default:
			*failed = true;
			return ARRIVED;
	}
}

/* The separator behind the results of a command. */
static Arrival
read_separator(int64 deadline)
{
	Arrival		arrival;

	while ((arrival = fetch_result(deadline)) == ARRIVED && remote.result != NULL)
		;
	return arrival;
}

/* Is this how a pooler says that it does not keep prepared statements? */
static bool
is_about_prepared(const char *sqlstate)
{
	return strcmp(sqlstate, "26000") == 0 || strcmp(sqlstate, "42P05") == 0 ||
		strcmp(sqlstate, "08P01") == 0;
}

/* What redirect_begin() has answered. */
static bool
take_token(TcsRemoteBegin * begin)
{
	return PQntuples(remote.result) == 1 && PQnfields(remote.result) == 1 &&
		tcs_token_parse(PQgetvalue(remote.result, 0, 0), &begin->seen) &&
		begin->seen.version != 0;
}

/* How an attempt to begin has ended. */
typedef enum Attempt
{
	BEGUN,
	LOST,						/* the connection is gone, or as good as */
	REFUSED,					/* the server said no; see sqlstate */
	TOO_LATE
}			Attempt;

static Attempt
try_to_begin(TcsRemoteBegin * begin, int64 deadline, char sqlstate[6])
{
	Arrival		arrival = ARRIVED;
	bool		failed = false;

	if (!send_pipeline(begin))
		return LOST;
	for (int i = 0; i < 2; i++)
	{
		arrival = read_command(deadline, &failed);
		if (arrival != ARRIVED || failed)
			break;
		if (i == 1 && !take_token(begin))
		{
			begin->failure = pstrdup("its answer cannot be read");
			return LOST;
		}
		arrival = read_separator(deadline);
		if (arrival != ARRIVED)
			break;
	}
	if (arrival == ARRIVED && !failed)
	{
		if (begin->statement == NULL)
			return read_to_last_sync(deadline) == ARRIVED ? BEGUN : LOST;
		return BEGUN;
	}

	if (arrival == ARRIVED)
	{
		const char *state = PQresultErrorField(remote.result, PG_DIAG_SQLSTATE);
		const char *message = PQresultErrorField(remote.result, PG_DIAG_MESSAGE_PRIMARY);
		const char *detail = PQresultErrorField(remote.result, PG_DIAG_MESSAGE_DETAIL);

		strlcpy(sqlstate, state ? state : "", 6);
		begin->failure = detail && strncmp(sqlstate, "TC", 2) == 0 ?
			psprintf("%s: %s", message, detail) :
			one_line(message ? message : PQresultErrorMessage(remote.result));
		return REFUSED;
	}
	if (arrival == ARRIVED_TOO_LATE)
	{
		begin->failure = psprintf("no answer within tcs.redirect_timeout (%d ms)",
								  tcs_redirect_timeout);
		return TOO_LATE;
	}
	begin->failure = one_line(PQerrorMessage(remote.conn));
	return LOST;
}

/* After a refusal: end the transaction, so that the connection can be kept. */
static bool
end_refused(int64 deadline)
{
	if (remote.open && !send_commit())
		return false;
	return read_to_last_sync(deadline) == ARRIVED &&
		PQtransactionStatus(remote.conn) == PQTRANS_IDLE;
}

/*
 * Read what has come by now, without waiting, at most some results.  True if
 * the client's statement has ended.
 */
static bool
skip_what_is_there(void)
{
	clear_result();
	for (int i = 0; i < 1000 && remote.syncs > 0; i++)
	{
		PGresult   *result;

		if (!PQconsumeInput(remote.conn) || PQisBusy(remote.conn))
			break;
		result = PQgetResult(remote.conn);
		if (PQresultStatus(result) == PGRES_PIPELINE_SYNC)
		{
			remote.syncs--;
			remote.running = false;
		}
		PQclear(result);
	}
	return !remote.running && PQstatus(remote.conn) == CONNECTION_OK;
}

/*
 * Before another statement is sent: let the reader of the one under way put its
 * rows away.  If nobody wants them, they are skipped, or the connection is
 * closed if nothing else depends on it.
 */
static void
make_room(void)
{
	if (remote.reader)
	{
		TcsReader  *reader = remote.reader;

		reader->put_away(reader);
		Assert(remote.reader == NULL);
	}
	else if (remote.running && !tcs_remote_is_begun() && !skip_what_is_there())
		close_connection();
}

/*
 * Begin a transaction on the primary, and send the statement if it is known.
 *
 * Returns false with begin->failure if that was not possible; the caller goes on
 * without the primary.  A connection that was kept may have died, or lead to a
 * server that is no primary any more, so whatever goes wrong with one is tried
 * again with a new one.
 */
bool
tcs_remote_begin(TcsRemoteBegin * begin, int64 deadline)
{
	int			missed = 0;

	deadline = Min(deadline, tcs_now() + (int64) tcs_redirect_timeout * 1000);
	make_room();
	for (;;)
	{
		bool		is_new = false;
		char		sqlstate[6] = "";
		Attempt		attempt;

		if (!is_usable(deadline))
		{
			close_connection();
			if (!connect_anew(begin, deadline))
				break;
			is_new = true;
		}
		tcs_budget_set_busy();
		attempt = try_to_begin(begin, deadline, sqlstate);
		if (attempt == BEGUN)
			return true;

		if (attempt == REFUSED && end_refused(deadline))
		{
			if (is_about_prepared(sqlstate) && !remote.unprepared)
			{
				remote.unprepared = true;
				continue;
			}
			/* a commit came between its snapshot and its look */
			if (strcmp(sqlstate, "TC001") == 0 && missed++ < TCS_MAX_MISSED)
				continue;
		}
		close_connection();
		if (is_new || attempt == TOO_LATE || tcs_now() >= deadline)
			break;
	}
	tcs_budget_count_failure(begin->over_budget);
	return false;
}


/* ---- the statement ---- */

/* Raise what the primary has said (remote.error), as if it had happened here. */
static void
raise_remote_error(void)
{
	const char *state = PQresultErrorField(remote.error, PG_DIAG_SQLSTATE);
	const char *severity = PQresultErrorField(remote.error, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *message = PQresultErrorField(remote.error, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(remote.error, PG_DIAG_MESSAGE_DETAIL);
	const char *hint = PQresultErrorField(remote.error, PG_DIAG_MESSAGE_HINT);
	const char *context = PQresultErrorField(remote.error, PG_DIAG_CONTEXT);
	const char *schema = PQresultErrorField(remote.error, PG_DIAG_SCHEMA_NAME);
	const char *table = PQresultErrorField(remote.error, PG_DIAG_TABLE_NAME);
	const char *column = PQresultErrorField(remote.error, PG_DIAG_COLUMN_NAME);
	const char *datatype = PQresultErrorField(remote.error, PG_DIAG_DATATYPE_NAME);
	const char *constraint = PQresultErrorField(remote.error, PG_DIAG_CONSTRAINT_NAME);

	/* that server's end is not ours: a driver must not take it for that */
	if (state == NULL || severity == NULL || strcmp(severity, "ERROR") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the connection to the redirect server \"%s\" was lost while the statement ran there",
						remote.server),
				 errdetail_internal("%s", message ? message :
									one_line(PQerrorMessage(remote.conn))),
				 errhint("Retry the transaction.")));

	ereport(ERROR,
			(errcode(MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4])),
			 errmsg_internal("%s", message ? message : "unknown error"),
			 detail ? errdetail_internal("%s", detail) : 0,
			 hint ? errhint("%s", hint) : 0,
			 context ? errcontext("%s", context) : 0,
			 errcontext("statement redirected to server \"%s\"", remote.server),
			 schema ? err_generic_string(PG_DIAG_SCHEMA_NAME, schema) : 0,
			 table ? err_generic_string(PG_DIAG_TABLE_NAME, table) : 0,
			 column ? err_generic_string(PG_DIAG_COLUMN_NAME, column) : 0,
			 datatype ? err_generic_string(PG_DIAG_DATATYPE_NAME, datatype) : 0,
			 constraint ? err_generic_string(PG_DIAG_CONSTRAINT_NAME, constraint) : 0));
}

/* Fetch the next result of the statement; throws if it has failed. */
static void
fetch_or_throw(void)
{
	Arrival		arrival = fetch_result(PG_INT64_MAX);
	ExecStatusType status;

	if (arrival != ARRIVED)
		raise_remote_error();
	status = PQresultStatus(remote.result);
	if (remote.result != NULL &&
		(status == PGRES_FATAL_ERROR || status == PGRES_NONFATAL_ERROR ||
		 status == PGRES_BAD_RESPONSE))
	{
		/*
		 * the server skips to the Sync; with that read, the connection is
		 * kept
		 */
		remote.error = remote.result;
		remote.result = NULL;
		(void) read_to_sync(tcs_now() + TCS_SKIP_US);
		raise_remote_error();
	}
}

/* Bring the savepoints there to the level that we are at. */
static bool
send_savepoints(void)
{
	char		sql[64];
	int			level = GetCurrentTransactionNestLevel();

	if (remote.rollback_to)
	{
		snprintf(sql, sizeof(sql), "ROLLBACK TO SAVEPOINT tcs_%d", remote.rollback_to);
		if (!send_command(NULL, sql))
			return false;
	}
	if (remote.release)
	{
		snprintf(sql, sizeof(sql), "RELEASE SAVEPOINT tcs_%d", remote.release);
		if (!send_command(NULL, sql))
			return false;
	}
	remote.rollback_to = remote.release = 0;
	while (remote.depth < level)
	{
		snprintf(sql, sizeof(sql), "SAVEPOINT tcs_%d", ++remote.depth);
		if (!send_command(NULL, sql))
			return false;
	}
	return true;
}

/* How many commands send_savepoints() would send. */
static int
count_savepoints(void)
{
	return (remote.rollback_to != 0) + (remote.release != 0) +
		Max(GetCurrentTransactionNestLevel() - remote.depth, 0);
}

/*
 * Send a statement into the transaction that is open there.  Throws if the
 * connection is gone.
 */
void
tcs_remote_send(const TcsStatement * statement, ParamListInfo params)
{
	int			before;

	make_room();
	if (!remote.open || read_to_last_sync(PG_INT64_MAX) != ARRIVED)
		raise_remote_error();
	before = count_savepoints();
	if (!send_savepoints() || !send_rest(statement, params) ||
		(!remote.whole && !send_commit()))
		raise_remote_error();
	while (before-- > 0)
	{
		fetch_or_throw();
		fetch_or_throw();
	}
}

/* The rows of the statement that was sent are to be read by this reader. */
void
tcs_remote_attach(TcsReader * reader)
{
	Assert(remote.reader == NULL && remote.running);
	reader->at_end = false;
	remote.reader = reader;
}

/* The reader wants no more; it may be that it has had all. */
void
tcs_remote_detach(TcsReader * reader)
{
	if (remote.reader == reader)
		remote.reader = NULL;
}

/* Read up to where the rows of the statement come. */
static void
start_reading(void)
{
	if (remote.preparing)
	{
		MemoryContext old;

		fetch_or_throw();
		fetch_or_throw();
		old = MemoryContextSwitchTo(TopMemoryContext);
		remote.prepared = bms_add_member(remote.prepared, remote.preparing);
		MemoryContextSwitchTo(old);
		remote.preparing = 0;
	}
	(void) tcs_rows_mode_compat(remote.conn, TCS_CHUNK_ROWS);
	remote.started = true;
}

/* Read what follows on the rows of a statement. */
static void
finish_statement(void)
{
	fetch_or_throw();			/* the separator */
	if (remote.checking)
	{
		fetch_or_throw();
		fetch_or_throw();
	}
	fetch_or_throw();
	if (PQresultStatus(remote.result) != PGRES_PIPELINE_SYNC)
		raise_remote_error();
	clear_result();
	remote.syncs--;
	remote.running = false;
}

/*
 * The next rows for the reader, valid until the next call; the last result has
 * none.  NULL after that.  Throws what the primary has thrown.
 */
PGresult *
tcs_remote_next(TcsReader * reader)
{
	if (reader->at_end)
		return NULL;
	if (remote.reader != reader)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the connection to the redirect server is gone"),
				 errhint("Retry the transaction.")));

	if (!remote.started)
		start_reading();
	if (remote.result && PQresultStatus(remote.result) == PGRES_TUPLES_OK)
	{
		finish_statement();
		reader->at_end = true;
		remote.reader = NULL;
		return NULL;
	}
	fetch_or_throw();
	return remote.result;
}

/* The server, for a person. */
const char *
tcs_remote_server(void)
{
	return remote.server;
}


/* ---- the end of transactions ---- */

/* Have the connection closed when it has been idle for long. */
static void
watch_idleness(void)
{
	int64		idle = tcs_now() - remote.last_used;
	int64		limit = (int64) tcs_redirect_idle_timeout * 1000;

	if (tcs_redirect_idle_timeout == 0)
		return;
	if (idle_expired && idle >= limit)
		close_connection();
	else if (!get_timeout_active(idle_timer))
		enable_timeout_after(idle_timer, (int) Max((limit - idle) / 1000 + 1, 1));
	idle_expired = false;
}

/*
 * The local transaction has ended.  Keep the connection if nothing is under way
 * on it but the end of its transaction.  Must not throw.
 */
void
tcs_remote_transaction_ended(void)
{
	remote.reader = NULL;
	PQclear(remote.error);
	remote.error = NULL;
	list_free_deep(notices);
	notices = NIL;
	if (!remote.ready || (remote.running && !skip_what_is_there()) ||
		(remote.open && !send_commit()) || PQflush(remote.conn) < 0 ||
		tcs_budget_is_wanted())
	{
		close_connection();
		return;
	}
	if (tcs_budget_set_idle())
		remote.last_used = tcs_now();
	watch_idleness();
}

/*
 * A subtransaction of the given level has ended here.  Its savepoint there is
 * seen to when the next statement is sent.
 */
void
tcs_remote_subtransaction_ended(int level, bool committed)
{
	if (!tcs_remote_is_begun() || remote.depth < level)
		return;
	if (!committed)
		remote.rollback_to = level;
	remote.release = level;
	remote.depth = level - 1;
}
