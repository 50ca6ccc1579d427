/*-------------------------------------------------------------------------
 *
 * connection.c
 *	  A session's connection to another server: libpq, waiting, errors.
 *
 * NOTES
 *	  Everything is asynchronous and in pipeline mode.  All waits are on this
 *	  session's latch, the socket and the postmaster, and can be interrupted; what
 *	  is thrown out of them leaves the connection as it is, to be looked at when
 *	  the transaction ends.
 *
 *	  What comes is not trusted (see base/wire.c).  Whatever does not answer what was
 *	  sent, or is more than an answer, is a violation: the connection is not used
 *	  any more.  Only the rows of the client's statement may be as long as they
 *	  like, and come when they like; all else has a deadline and a limit.
 *
 *	  How a connection is made: redirect/connect.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "base/settings.h"
#include "base/tcs.h"
#include "redirect/connection.h"
#include "redirect/notices.h"
#include "standby/replay.h"

/* How long the server may take to skip what follows on an error, in us. */
#define TCS_SKIP_US		1000000

/* From one look at replay to the next at least, in ms. */
#define TCS_MIN_PAUSE_MS	100

/* Rows in one result, where libpq can put several into one. */
#define TCS_CHUNK_ROWS	16

/* Results that are skipped at most where nobody wants to wait. */
#define TCS_SKIP_RESULTS	1000

/* Notices kept until they can be shown. */
#define TCS_MAX_NOTICES	100

TcsPeer		tcs_peer;

static List *notices = NIL;		/* of ErrorData, in TopMemoryContext */

static void
clear_result(void)
{
	PQclear(tcs_peer.result);
	tcs_peer.result = NULL;
}

/* Close the connection, in whatever state it is.  Does not throw. */
void
tcs_peer_close(void)
{
	clear_result();
	PQclear(tcs_peer.error);
	if (tcs_peer.events)
		FreeWaitEventSet(tcs_peer.events);
	if (tcs_peer.conn)
	{
		PQfinish(tcs_peer.conn);
		ReleaseExternalFD();
	}
	memset(&tcs_peer, 0, sizeof(tcs_peer));
}

/* libpq's message as one line, without a full stop. */
char *
tcs_peer_message(const char *message)
{
	char	   *line = tcs_wire_text(message);
	char	   *to = line;

	for (const char *from = line; *from != '\0'; from++)
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

/* The server has sent what it must not.  The reason is a constant. */
void
tcs_peer_violates(const char *violation)
{
	if (tcs_peer.violation == NULL)
		tcs_peer.violation = violation;
}

/* The same, and the statement fails. */
void
tcs_peer_refuse_answer(void)
{
	tcs_peer_violates("the server's answers do not belong to what it was sent");
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("unexpected answer from the redirect server \"%s\"", tcs_peer.server)));
}

/* Can the connection still be used? */
bool
tcs_peer_is_sound(void)
{
	return tcs_peer.violation == NULL && PQstatus(tcs_peer.conn) == CONNECTION_OK;
}

/* Why it cannot, for a detail line. */
char *
tcs_peer_loss(void)
{
	char	   *message;

	if (tcs_peer.violation)
		return pstrdup(tcs_peer.violation);
	message = tcs_peer_message(PQerrorMessage(tcs_peer.conn));
	return message[0] != '\0' ? message : pstrdup("the server did not say what went wrong");
}


/* ---- notices ---- */

/*
 * libpq calls this from inside of PQgetResult(), where nothing may throw: keep
 * the notice for later.
 */
void
tcs_peer_receive_notice(void *arg, const PGresult *result)
{
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *fields[] = {
		PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY),
		PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL),
		PQresultErrorField(result, PG_DIAG_MESSAGE_HINT),
	};
	MemoryContext old = CurrentMemoryContext;
	ErrorData  *edata;
	int			sqlstate;

	/* what is said about our own commands is not for the client */
	if (!tcs_peer.running || severity == NULL || fields[0] == NULL ||
		!tcs_wire_sqlstate(result, &sqlstate) ||
		list_length(notices) >= TCS_MAX_NOTICES)
		return;
	PG_TRY();
	{
		MemoryContextSwitchTo(TopMemoryContext);
		edata = palloc0(sizeof(ErrorData));
		edata->elevel = strcmp(severity, "WARNING") == 0 ? WARNING :
			strcmp(severity, "INFO") == 0 ? INFO :
			strncmp(severity, "DEBUG", 5) == 0 ? DEBUG1 :
			NOTICE;				/* not LOG: our log is not for others to fill */
		edata->sqlerrcode = sqlstate;
		edata->message = tcs_wire_text(fields[0]);
		edata->detail = fields[1] ? tcs_wire_text(fields[1]) : NULL;
		edata->hint = fields[2] ? tcs_wire_text(fields[2]) : NULL;
		notices = lappend(notices, edata);
	}
	PG_CATCH();
	{
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
}

/* Show the client what the primary had to say. */
static void
show_notices(void)
{
	while (unlikely(notices != NIL))
	{
		ErrorData  *edata = linitial(notices);

		notices = list_delete_first(notices);
		if (!tcs_told_is_repeated(edata->sqlerrcode, edata->message))
			ereport(edata->elevel,
					(errcode(edata->sqlerrcode),
					 errmsg_internal("%s", edata->message),
					 edata->detail ? errdetail_internal("%s", edata->detail) : 0,
					 edata->hint ? errhint("%s", edata->hint) : 0));
		FreeErrorData(edata);
	}
}

/* The error was raised, or is of no interest. */
void
tcs_peer_forget_error(void)
{
	PQclear(tcs_peer.error);
	tcs_peer.error = NULL;
}

/* The transaction has ended: free what is still there. */
void
tcs_peer_forget_messages(void)
{
	tcs_peer_forget_error();
	tcs_told_forget();
	while (notices != NIL)
	{
		FreeErrorData(linitial(notices));
		notices = list_delete_first(notices);
	}
}


/* ---- waiting ---- */

/* What a session waits for that waits for the other server. */
uint32
tcs_peer_wait_event(void)
{
	static uint32 event = 0;

	if (event == 0)
		event = tcs_wait_event_compat("TcsRedirect");
	return event;
}

/* Milliseconds until an instant, for a wait; -1: for ever. */
long
tcs_peer_timeout_ms(int64 deadline)
{
	int64		left;

	if (deadline == PG_INT64_MAX)
		return -1;
	left = (deadline - tcs_now() + 999) / 1000;
	return Max(left, 0);
}

/*
 * The server has been silent for a while.  Does replay here wait for this session?
 * The server may wait for replay in turn: its statement for a lock of a
 * transaction, whose commit waits until this standby has applied it.  Nobody else
 * sees both halves of such a deadlock.  As in core, what has lasted for
 * deadlock_timeout is taken for one; "since" is when it was first seen, or 0.
 */
static void
refuse_to_block_replay(int64 *since)
{
	int64		now = tcs_now();

	if (!RecoveryInProgress() || !tcs_replay_waits_for_this_session())
	{
		*since = 0;
		return;
	}
	if (*since == 0)
		*since = now;
	else if (now - *since >= (int64) DeadlockTimeout * 1000)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_DEADLOCK_DETECTED),
				 errmsg("deadlock detected between this session and replay"),
				 errdetail("The session waits for redirect server \"%s\", and replay waits for a lock or buffer pin that the session holds.",
						   tcs_peer.server),
				 errhint("Retry the transaction.")));
}

/*
 * Sleep until the socket can be read from (or written to), the latch is set, or
 * the deadline is over, and see to interrupts.  False if it was the deadline.
 */
static bool
sleep_on_socket(int64 deadline, bool also_write)
{
	int			awaited = WL_SOCKET_READABLE | (also_write ? WL_SOCKET_WRITEABLE : 0);
	WaitEvent	event;
	bool		happened;

	if (tcs_peer.events == NULL)
	{
		tcs_peer.events = tcs_create_wait_event_set_compat(3);
		AddWaitEventToSet(tcs_peer.events, awaited, PQsocket(tcs_peer.conn), NULL, NULL);
		AddWaitEventToSet(tcs_peer.events, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(tcs_peer.events, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	}
	else if (awaited != tcs_peer.awaited)
		ModifyWaitEvent(tcs_peer.events, 0, awaited, NULL);
	tcs_peer.awaited = awaited;

	happened = WaitEventSetWait(tcs_peer.events, tcs_peer_timeout_ms(deadline), &event, 1,
								tcs_peer_wait_event()) == 1;
	if (happened && (event.events & WL_LATCH_SET) != 0)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return happened;
}

/* What is fetched next are the answers to commands of ours, of one line each. */
void
tcs_peer_expect_answers(void)
{
	tcs_intake_begin(&tcs_peer.intake, TCS_INTAKE_ANSWER);
}

/*
 * What is fetched next are rows of the client's statement: they can be long, and
 * libpq is to put only a few into one result.
 */
void
tcs_peer_expect_rows(void)
{
	(void) tcs_rows_mode_compat(tcs_peer.conn, TCS_CHUNK_ROWS);
	tcs_intake_begin(&tcs_peer.intake, TCS_INTAKE_ROWS);
}

/*
 * Is a result one that can come here?  No command of ours is a COPY, and after
 * the NULL that ends a command comes another command.  libpq returns either for
 * ever, without waiting.
 */
static bool
check_result(void)
{
	if (tcs_wire_is_copy(PQresultStatus(tcs_peer.result)))
		tcs_peer_violates("the server began a COPY that nobody has asked for");
	else if (tcs_peer.result == NULL && tcs_peer.separated)
		tcs_peer_violates("the server's answers do not belong to what it was sent");
	tcs_peer.separated = tcs_peer.result == NULL;
	return tcs_peer.violation == NULL;
}

/* Let libpq read.  False if the connection is of no more use. */
static bool
read_more(void)
{
	if (!tcs_intake_read(&tcs_peer.intake, tcs_peer.conn))
		return false;
	if (tcs_peer.intake.slow)
		tcs_peer_violates("the server sent too much beside its answers");
	return tcs_peer.violation == NULL;
}

/* Fetch the next result, or the NULL that ends those of one command. */
TcsArrival
tcs_peer_fetch(int64 deadline)
{
	const int64 pause = (int64) Max(DeadlockTimeout, TCS_MIN_PAUSE_MS) * 1000;
	int64		blocking_since = 0;

	clear_result();
	if (tcs_peer.violation)
		return TCS_CONNECTION_LOST;
	/* results may follow on each other without a wait */
	CHECK_FOR_INTERRUPTS();
	tcs_intake_next(&tcs_peer.intake);
	for (;;)
	{
		int			unsent = PQflush(tcs_peer.conn);

		if (unsent < 0)
			return TCS_CONNECTION_LOST;
		if (deadline != PG_INT64_MAX && tcs_now() >= deadline)
			return TCS_ARRIVED_TOO_LATE;
		if (!PQisBusy(tcs_peer.conn))
			break;
		if (tcs_intake_is_over(&tcs_peer.intake))
		{
			tcs_peer_violates("the server sent more than an answer");
			return TCS_CONNECTION_LOST;
		}
		if (!sleep_on_socket(Min(deadline, tcs_now() + pause), unsent > 0))
			refuse_to_block_replay(&blocking_since);
		if (!read_more())
			return TCS_CONNECTION_LOST;
	}
	tcs_peer.result = PQgetResult(tcs_peer.conn);
	show_notices();
	if (!check_result())
		return TCS_CONNECTION_LOST;
	if (PQstatus(tcs_peer.conn) == CONNECTION_BAD &&
		PQresultErrorField(tcs_peer.result, PG_DIAG_SQLSTATE) == NULL)
		return TCS_CONNECTION_LOST;
	return TCS_ARRIVED;
}

/* Read all that is left up to the next Sync, and forget it. */
TcsArrival
tcs_peer_read_to_sync(int64 deadline)
{
	do
	{
		TcsArrival	arrival = tcs_peer_fetch(deadline);

		if (arrival != TCS_ARRIVED)
			return arrival;
	} while (PQresultStatus(tcs_peer.result) != PGRES_PIPELINE_SYNC);
	tcs_peer.syncs--;
	tcs_peer.running = false;
	clear_result();
	return TCS_ARRIVED;
}

/* The same up to the last one. */
TcsArrival
tcs_peer_read_to_last_sync(int64 deadline)
{
	TcsArrival	arrival = TCS_ARRIVED;

	while (arrival == TCS_ARRIVED && tcs_peer.syncs > 0)
		arrival = tcs_peer_read_to_sync(deadline);
	return arrival;
}

/*
 * Read what has come by now, without waiting, at most some results.  True if
 * the client's statement has ended.
 */
bool
tcs_peer_skip(void)
{
	clear_result();
	for (int i = 0; i < TCS_SKIP_RESULTS && tcs_peer.syncs > 0; i++)
	{
		/* no more than is needed: libpq would make room for all there is */
		if (PQisBusy(tcs_peer.conn) && (!read_more() || PQisBusy(tcs_peer.conn)))
			break;
		tcs_peer.result = PQgetResult(tcs_peer.conn);
		if (!check_result())
			break;
		if (PQresultStatus(tcs_peer.result) == PGRES_PIPELINE_SYNC)
		{
			tcs_peer.syncs--;
			tcs_peer.running = false;
		}
		clear_result();
	}
	clear_result();
	return !tcs_peer.running && tcs_peer_is_sound();
}


/* ---- sending ---- */

/*
 * The name of a prepared statement.  No two connections may have the same:
 * through a pooler, one could meet what the other has prepared.
 */
const char *
tcs_peer_name(const char *what, uint32 number)
{
	static char name[NAMEDATALEN];

	snprintf(name, sizeof(name), "tcs_" UINT64_FORMAT "_%s%u", tcs_peer.name, what, number);
	return name;
}

/* A command without parameters; one with a name is a prepared one of ours. */
bool
tcs_peer_command(const char *what, const char *sql)
{
	if (!tcs_peer.unprepared && what)
		return PQsendQueryPrepared(tcs_peer.conn, tcs_peer_name(what, 0), 0,
								   NULL, NULL, NULL, 0);
	return PQsendQueryParams(tcs_peer.conn, sql, 0, NULL, NULL, NULL, NULL, 0);
}

/* End what has been sent; its results can be read from here on. */
bool
tcs_peer_sync(void)
{
	if (!PQpipelineSync(tcs_peer.conn))
		return false;
	tcs_peer.syncs++;
	return true;
}


/* ---- errors ---- */

/* A field of the error that is being raised, or NULL. */
static const char *
error_field(int field)
{
	const char *text = PQresultErrorField(tcs_peer.error, field);

	return text ? tcs_wire_text(text) : NULL;
}

/*
 * The connection is of no more use: the server's end is not ours, so a driver
 * must not take its SQLSTATE for ours.
 */
static void
raise_loss(void)
{
	const char *said = error_field(PG_DIAG_MESSAGE_PRIMARY);

	if (said == NULL && tcs_peer.error)
		said = tcs_peer_message(PQresultErrorMessage(tcs_peer.error));
	if (said == NULL || said[0] == '\0')
		said = tcs_peer_loss();
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("the connection to the redirect server \"%s\" was lost while the statement ran there",
					tcs_peer.server),
			 errdetail_internal("%s", said),
			 errhint("Retry the transaction.")));
}

/* Raise what the primary has said (tcs_peer.error), as if it had happened here. */
void
tcs_peer_raise(void)
{
	const char *severity = PQresultErrorField(tcs_peer.error, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *message = error_field(PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = error_field(PG_DIAG_MESSAGE_DETAIL);
	const char *hint = error_field(PG_DIAG_MESSAGE_HINT);
	const char *position = error_field(PG_DIAG_STATEMENT_POSITION);
	const char *query = error_field(PG_DIAG_INTERNAL_QUERY);
	const char *context = error_field(PG_DIAG_CONTEXT);
	const char *schema = error_field(PG_DIAG_SCHEMA_NAME);
	const char *table = error_field(PG_DIAG_TABLE_NAME);
	const char *column = error_field(PG_DIAG_COLUMN_NAME);
	const char *datatype = error_field(PG_DIAG_DATATYPE_NAME);
	const char *constraint = error_field(PG_DIAG_CONSTRAINT_NAME);
	int			sqlstate;

	if (severity == NULL || strcmp(severity, "ERROR") != 0 ||
		!tcs_wire_sqlstate(tcs_peer.error, &sqlstate))
		raise_loss();

	/* success is no error, whichever way it is told */
	if (ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_SUCCESSFUL_COMPLETION ||
		ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_WARNING ||
		ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_NO_DATA)
		sqlstate = ERRCODE_PROTOCOL_VIOLATION;

	tcs_peer.raised = true;
	/* a place is one in the text that the primary was sent */
	if (query)
		position = error_field(PG_DIAG_INTERNAL_POSITION);
	ereport(ERROR,
			(errcode(sqlstate),
			 errmsg_internal("%s", message ? message : "unknown error"),
			 detail ? errdetail_internal("%s", detail) : 0,
			 hint ? errhint("%s", hint) : 0,
			 query || position ? internalerrquery(query ? query : tcs_peer.sql) : 0,
			 position ? internalerrposition(Max(atoi(position), 0)) : 0,
			 context ? errcontext("%s", context) : 0,
			 errcontext("statement redirected to server \"%s\"", tcs_peer.server),
			 schema ? err_generic_string(PG_DIAG_SCHEMA_NAME, schema) : 0,
			 table ? err_generic_string(PG_DIAG_TABLE_NAME, table) : 0,
			 column ? err_generic_string(PG_DIAG_COLUMN_NAME, column) : 0,
			 datatype ? err_generic_string(PG_DIAG_DATATYPE_NAME, datatype) : 0,
			 constraint ? err_generic_string(PG_DIAG_CONSTRAINT_NAME, constraint) : 0));
}

/*
 * Fetch the next result of the statement; throws if it has failed, or is not
 * there at the deadline.
 */
void
tcs_peer_fetch_or_throw(int64 deadline)
{
	TcsArrival	arrival = tcs_peer_fetch(deadline);
	ExecStatusType status;

	if (arrival != TCS_ARRIVED)
	{
		if (arrival == TCS_ARRIVED_TOO_LATE)
			tcs_peer_violates("the server did not answer within tcs.redirect_timeout");
		tcs_peer_forget_error();
		tcs_peer_raise();
	}
	status = PQresultStatus(tcs_peer.result);
	if (tcs_peer.result != NULL &&
		(status == PGRES_FATAL_ERROR || status == PGRES_NONFATAL_ERROR ||
		 status == PGRES_BAD_RESPONSE))
	{
		/*
		 * the server skips to the Sync; with that read, the connection is
		 * kept
		 */
		tcs_peer_forget_error();
		tcs_peer.error = tcs_peer.result;
		tcs_peer.result = NULL;
		(void) tcs_peer_read_to_sync(tcs_now() + TCS_SKIP_US);
		tcs_peer_raise();
	}
}
