/*-------------------------------------------------------------------------
 *
 * remote_xact.c
 *	  This session's connection to the redirect server.
 *
 * NOTES
 *	  A redirected statement costs one round trip: everything goes out as one
 *	  pipeline,
 *
 *		BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY
 *		SET LOCAL tcs.redirected_for = level and token
 *		LOCK TABLE tcs_internal.redirect_lock
 *		SELECT whether that view is the extension's
 *		SELECT tcs_internal.redirect_begin(where, who, settings)
 *		(flush)
 *		the statement
 *		COMMIT
 *		(Sync)
 *
 *	  SET waits on the primary for commits that are under way and that the token
 *	  names.  It needs no snapshot, so the transaction takes its snapshot after
 *	  that wait.
 *
 *	  Nobody's functions but the extension's are called there.  In a database
 *	  without the extension anybody may have made a schema "tcs_internal", and this
 *	  session's user may be a superuser.  If the view in it is not the extension's,
 *	  that SELECT fails, and the server skips the call.  Types of the arguments are
 *	  named, so that no other function of that name fits better.
 *
 *	  That holds for the functions that are called later in the transaction, too.  LOCK
 *	  comes before the first snapshot, so what is checked is what was locked.  To drop
 *	  the extension, its schema, or one of the functions is to drop the view, which
 *	  needs ACCESS EXCLUSIVE before anything is removed.  So does giving the view
 *	  another name or schema.  ALTER EXTENSION ... DROP VIEW needs less, but leaves the
 *	  view where it is, in the way of all that.  LOCK runs nobody's code, also if the
 *	  view is a stranger's.  It does not wait: who has the view locked, or waits to, is
 *	  about to drop it.
 *
 *	  No lock keeps a superuser from giving a function another name, or from taking
 *	  the schema out of the extension and giving that another one.  For a function,
 *	  somebody else can take the name only with CREATE on the schema.
 *
 *	  redirect_begin() checks on the primary that it is the primary of this
 *	  cluster, this database and this user, that it has what the token names, and
 *	  sets the session's settings for the transaction.  Should it fail, the server
 *	  skips what follows up to the Sync, so the statement runs only where it
 *	  should.  Its answer is waited for before anything is decided, at most
 *	  tcs.redirect_timeout; the rows come when the executor wants them.  The
 *	  transaction's snapshot is there when redirect_begin() looks at the position
 *	  of WAL, so the position it returns covers all that the statement can show:
 *	  that is why it is REPEATABLE READ.  If the statement fails, the server skips
 *	  COMMIT as well; another one is sent then, at the end of the local transaction,
 *	  and its result is read before the next statement.
 *
 *	  Nothing on the server outlives a transaction but prepared statements, so
 *	  there may be a pooler between; if it does not keep those, we stop using
 *	  them.  Rows are taken one at a time (or some, from libpq 17 on), so a large
 *	  result stays in the network until it is wanted.
 *
 *	  A statement that is given up is not cancelled through libpq, whose cancel
 *	  can block for minutes before 17: unless its end has come already, the
 *	  connection is closed, and the server
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
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/sinval.h"
#include "utils/inval.h"
#include "utils/syscache.h"
#include "utils/timeout.h"

#include "base/compat.h"
#include "base/settings.h"
#include "redirect/connection_budget.h"
#include "redirect/remote_state.h"

bool		tcs_remote_is_connected = false;
bool		tcs_remote_in_whole = false;
TcsRemote	tcs_remote;

static TimeoutId idle_timer;
static volatile sig_atomic_t idle_expired = false;


/*
 * Close the connection, in whatever state it is, and keep its place in the budget
 * for another one.  Does not throw.
 */
void
tcs_remote_drop(void)
{
	if (tcs_peer.conn)
		tcs_peer_close();
	bms_free(tcs_remote.prepared);
	if (tcs_remote.settings.data)
		pfree(tcs_remote.settings.data);
	memset(&tcs_remote, 0, sizeof(tcs_remote));
}

/* Close the connection for good.  Does not throw. */
void
tcs_remote_close(void)
{
	tcs_remote_drop();
	tcs_budget_give_back();
	/* the end of the transaction is still to be seen */
	tcs_remote_is_connected = tcs_remote_in_whole;
}

/* After ALTER or DROP of a server or a mapping. */
static void
server_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	tcs_remote.changed = true;
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
	tcs_remote_close();
}

/* Before the first connection. */
void
tcs_remote_set_up(void)
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

/*
 * Does the local transaction run there as a whole?  Also if the connection is
 * lost meanwhile: nothing of it may run here.
 */
bool
tcs_remote_is_begun(void)
{
	return tcs_remote_in_whole;
}

/* Was a statement analysed there before? */
bool
tcs_remote_has_prepared(const TcsStatement *statement)
{
	return statement->number != 0 && bms_is_member(statement->number, tcs_remote.prepared);
}

/*
 * A statement's results were not read.  If it was to be prepared, nobody knows
 * whether it is: use another connection next time.
 */
static void
note_skipped(void)
{
	if (tcs_remote.preparing)
		tcs_remote.changed = true;
}

static void
add_context_of_closed(void *arg)
{
	errcontext("reading the remaining rows of a redirected cursor that was closed");
}

/*
 * The cursor was closed before its last row.  Its transaction goes on there, and
 * the next statement of it comes behind these rows.  An error in them has ended
 * that transaction.
 */
static void
skip_rows(TcsReader *reader)
{
	ErrorContextCallback callback = {.callback = add_context_of_closed};

	callback.previous = error_context_stack;
	error_context_stack = &callback;
	while (tcs_remote_next(reader) != NULL)
		;
	error_context_stack = callback.previous;
}

static TcsReader nobody = {.put_away = skip_rows};

/*
 * Before another statement is sent: let the reader of the one under way put its
 * rows away.  If nobody wants them, they are skipped, or the connection is
 * closed if nothing else depends on it.
 *
 * How many rows there are is the client's affair, so this has no deadline, as
 * reading them has none.  The time limit of what is sent next begins after it.
 */
void
tcs_remote_make_room(void)
{
	tcs_peer_forget_error();
	/* it has come to an error, and is to read no more */
	if (!tcs_peer.running)
		tcs_remote.reader = NULL;
	else if (tcs_remote.reader == NULL && tcs_remote_is_begun())
		tcs_remote_attach(&nobody);
	if (tcs_remote.reader)
	{
		TcsReader  *reader = tcs_remote.reader;

		reader->put_away(reader);
		Assert(tcs_remote.reader == NULL);
	}
	else if (tcs_peer.running && !tcs_peer_skip())
		tcs_remote_close();
	note_skipped();
}


/* ---- the statement ---- */

/* Bring the savepoints there to the level that we are at. */
static bool
send_savepoints(void)
{
	char		sql[64];
	int			level = GetCurrentTransactionNestLevel();

	if (tcs_remote.rollback_to)
	{
		snprintf(sql, sizeof(sql), "ROLLBACK TO SAVEPOINT tcs_%d", tcs_remote.rollback_to);
		if (!tcs_peer_command(NULL, sql))
			return false;
	}
	if (tcs_remote.release)
	{
		snprintf(sql, sizeof(sql), "RELEASE SAVEPOINT tcs_%d", tcs_remote.release);
		if (!tcs_peer_command(NULL, sql))
			return false;
	}
	tcs_remote.rollback_to = tcs_remote.release = 0;
	while (tcs_remote.depth < level)
	{
		snprintf(sql, sizeof(sql), "SAVEPOINT tcs_%d", ++tcs_remote.depth);
		if (!tcs_peer_command(NULL, sql))
			return false;
	}
	return true;
}

/*
 * Send what must come before a statement: savepoints, and settings that have
 * changed since.  Returns false if they could not be sent.
 */
static bool
send_preliminaries(int *savepoints, bool *settings)
{
	*savepoints = (tcs_remote.rollback_to != 0) + (tcs_remote.release != 0) +
		Max(GetCurrentTransactionNestLevel() - tcs_remote.depth, 0);
	*settings = false;
	if (!send_savepoints())
		return false;
	*settings = tcs_remote.whole && tcs_send_collect_settings();
	return !*settings || tcs_send_settings();
}

/* A result has come that is not one of what was sent.  Does not return. */
static void
refuse_result(void)
{
	tcs_peer_violates("the server's answers do not belong to what it was sent");
	tcs_peer_forget_error();
	tcs_peer_raise();
}

/* Read the separator behind the results of a command, or throw. */
static void
separate_or_throw(int64 deadline)
{
	tcs_peer_fetch_or_throw(deadline);
	if (tcs_peer.result != NULL)
		refuse_result();
}

/*
 * Read the result of a command of ours, which has the given status, and the
 * separator, or throw.
 */
static void
read_or_throw(ExecStatusType wanted, int64 deadline)
{
	tcs_peer_fetch_or_throw(deadline);
	if (PQresultStatus(tcs_peer.result) != wanted)
		refuse_result();
	separate_or_throw(deadline);
}

/*
 * Send a statement into the transaction that is open there.  Throws if the
 * connection is gone, or is not the present user's.
 */
void
tcs_remote_send(const TcsStatement *statement, ParamListInfo params)
{
	int64		deadline;
	int			savepoints;
	bool		settings;

	tcs_remote_make_room();
	deadline = tcs_now() + (int64) tcs_redirect_timeout * 1000;
	tcs_peer_expect_answers();
	if (!tcs_remote.open)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the connection to the redirect server was lost, and the transaction that runs there with it"),
				 errhint("Retry the transaction.")));
	if (tcs_peer_read_to_last_sync(deadline) != TCS_ARRIVED)
	{
		tcs_peer_violates("the server did not end the statement before");
		tcs_peer_raise();
	}
	if (tcs_remote.user != GetSessionUserId())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the session's user has changed within a redirected transaction"),
				 errhint("Use SET ROLE, or change the user before the transaction.")));
	if (!send_preliminaries(&savepoints, &settings) || !tcs_send_statement(statement, params))
		tcs_peer_raise();
	/* not what libpq has made room for to send it */
	tcs_peer_expect_answers();
	for (int i = 0; i < savepoints; i++)
		read_or_throw(PGRES_COMMAND_OK, deadline);
	if (settings)
		read_or_throw(PGRES_TUPLES_OK, deadline);
}

/* The rows of the statement that was sent are to be read by this reader. */
void
tcs_remote_attach(TcsReader *reader)
{
	Assert(tcs_remote.reader == NULL && tcs_peer.running);
	reader->at_end = false;
	tcs_remote.reader = reader;
	tcs_peer.sql = reader->sql;
	tcs_remote.reader_level = GetCurrentTransactionNestLevel();
}

/* The reader wants no more; it may be that it has had all. */
void
tcs_remote_detach(TcsReader *reader)
{
	if (tcs_remote.reader == reader)
		tcs_remote.reader = NULL;
}

/* Read up to where the rows of the statement come.  Analysing it may take long. */
static void
start_reading(void)
{
	if (tcs_remote.preparing)
	{
		MemoryContext old;

		read_or_throw(PGRES_COMMAND_OK, PG_INT64_MAX);
		old = MemoryContextSwitchTo(TopMemoryContext);
		tcs_remote.prepared = bms_add_member(tcs_remote.prepared, tcs_remote.preparing);
		tcs_remote.nprepared++;
		MemoryContextSwitchTo(old);
		tcs_remote.preparing = 0;
	}
	tcs_peer_expect_rows();
	tcs_remote.started = true;
}

/* Read what follows on the rows of a statement, which takes no time there. */
static void
finish_statement(void)
{
	int64		deadline = tcs_now() + (int64) tcs_redirect_timeout * 1000;

	tcs_peer_expect_answers();
	separate_or_throw(deadline);
	if (tcs_remote.check_follows)
		read_or_throw(PGRES_TUPLES_OK, deadline);
	if (tcs_remote.commit_follows)
		read_or_throw(PGRES_COMMAND_OK, deadline);
	tcs_peer_fetch_or_throw(deadline);
	if (PQresultStatus(tcs_peer.result) != PGRES_PIPELINE_SYNC)
		refuse_result();
	tcs_peer.syncs--;
	tcs_peer.running = false;
	tcs_remote.open = tcs_remote.whole || tcs_remote.lasting;
}

/*
 * The next rows for the reader, valid until the next call; the last result has
 * none.  NULL after that.  Throws what the primary has thrown.
 */
PGresult *
tcs_remote_next(TcsReader *reader)
{
	if (reader->at_end)
		return NULL;
	/* it may have been closed, or its statement have failed, for another one */
	if (tcs_remote.reader != reader || !tcs_peer.running)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the connection to the redirect server is gone"),
				 errhint("Retry the transaction.")));

	if (!tcs_remote.started)
		start_reading();
	if (tcs_peer.result && PQresultStatus(tcs_peer.result) == PGRES_TUPLES_OK)
	{
		finish_statement();
		reader->at_end = true;
		tcs_remote.reader = NULL;
		return NULL;
	}
	/* they come when they come: statement_timeout is the client's affair */
	tcs_peer_fetch_or_throw(PG_INT64_MAX);
	if (PQresultStatus(tcs_peer.result) != PGRES_TUPLES_OK &&
		!tcs_is_rows_compat(PQresultStatus(tcs_peer.result)))
		refuse_result();
	return tcs_peer.result;
}

/* ---- more of a statement's transaction ---- */

/* Fetch the next result of a command of ours; NULL behind the last. */
static PGresult *
next_result(int64 deadline)
{
	tcs_peer_fetch_or_throw(deadline);
	switch (PQresultStatus(tcs_peer.result))
	{
		case PGRES_COMMAND_OK:
		case PGRES_TUPLES_OK:
			return tcs_peer.result;
		default:
			if (tcs_peer.result != NULL && !tcs_is_rows_compat(PQresultStatus(tcs_peer.result)))
				tcs_peer_refuse_answer();
			return tcs_peer.result;
	}
}

/* The sync behind it. */
static void
finish_command(void)
{
	tcs_peer_expect_answers();
	tcs_peer_fetch_or_throw(tcs_now() + (int64) tcs_redirect_timeout * 1000);
	if (PQresultStatus(tcs_peer.result) != PGRES_PIPELINE_SYNC)
		tcs_peer_refuse_answer();
	tcs_peer.syncs--;
	tcs_peer.running = false;
}

/* Begin a command of ours that may fail as the client's statement may. */
static void
start_command(bool sent, const char *sql)
{
	tcs_peer.running = true;
	tcs_peer.sql = sql;
	if (!sent || !tcs_peer_sync())
	{
		tcs_peer_forget_error();
		tcs_peer_raise();
	}
}

/* Have a look at the columns of a portal there. */
void
tcs_remote_describe(const char *portal, void (*take) (PGresult *result, void *arg), void *arg)
{
	int64		deadline = tcs_now() + (int64) tcs_redirect_timeout * 1000;
	PGresult   *result;

	tcs_peer_expect_answers();
	start_command(PQsendDescribePortal(tcs_peer.conn, portal), "");
	while ((result = next_result(deadline)) != NULL)
		take(result, arg);
	finish_command();
}

/* Run a command in the transaction; "take", if not NULL, gets its rows. */
void
tcs_remote_run(const char *sql, int format,
			   void (*take) (PGresult *result, void *arg), void *arg)
{
	PGresult   *result;

	start_command(PQsendQueryParams(tcs_peer.conn, sql, 0, NULL, NULL, NULL, NULL, format), sql);
	/* as with the client's statement, there can be many, and late ones */
	tcs_peer_expect_rows();
	while ((result = next_result(PG_INT64_MAX)) != NULL)
	{
		if (take)
			take(result, arg);
	}
	finish_command();
}

/* The transaction of a statement is needed no more. */
void
tcs_remote_release(void)
{
	if (tcs_remote.lasting && tcs_remote.open)
		(void) tcs_send_commit();
	tcs_remote.lasting = false;
}


/* ---- the end of transactions ---- */

/* Have the connection closed when it has been idle for long. */
static void
watch_idleness(void)
{
	static int	watched_for = 0;	/* the setting when the timer was set */
	int64		idle = tcs_now() - tcs_remote.last_used;
	int64		limit = (int64) tcs_redirect_idle_timeout * 1000;

	if (watched_for != tcs_redirect_idle_timeout)
		disable_timeout(idle_timer, false);
	watched_for = tcs_redirect_idle_timeout;
	if (tcs_redirect_idle_timeout == 0)
		return;
	if (idle_expired && idle >= limit)
		tcs_remote_close();
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
	tcs_remote.reader = NULL;
	tcs_remote_in_whole = false;
	tcs_peer_forget_messages();
	if (tcs_remote.ready && tcs_peer.running && tcs_peer_skip() &&
		PQtransactionStatus(tcs_peer.conn) == PQTRANS_IDLE)
		tcs_remote.open = false;
	if (!tcs_remote.ready || tcs_peer.running || !tcs_peer_is_sound() ||
		(tcs_remote.open && !tcs_send_commit()) || PQflush(tcs_peer.conn) != 0 ||
		tcs_budget_is_wanted())
	{
		tcs_remote_close();
		return;
	}
	note_skipped();
	if (tcs_budget_set_idle())
		tcs_remote.last_used = tcs_now();
	watch_idleness();
}

/*
 * A subtransaction of the given level has ended here.  Its savepoint there is
 * seen to when the next statement is sent.  Must not throw.
 */
void
tcs_remote_subtransaction_ended(int level, bool committed)
{
	if (committed)
	{
		tcs_remote.reader_level = Min(tcs_remote.reader_level, level - 1);
		if (tcs_remote.depth >= level)
		{
			tcs_remote.release = level;
			tcs_remote.depth = level - 1;
		}
		return;
	}

	/* its statement ends there, too; in a whole transaction, all of it does */
	if (tcs_remote.reader && tcs_remote.reader_level >= level)
		tcs_remote.reader = NULL;
	if (tcs_peer.running && tcs_remote.reader == NULL && !tcs_peer_skip())
	{
		tcs_remote_close();
		return;
	}
	/* what was set in it is as it was before */
	tcs_remote.settings_known = false;
	if (tcs_remote.open && tcs_remote.whole && tcs_remote.depth >= level)
	{
		tcs_remote.rollback_to = tcs_remote.release = level;
		tcs_remote.depth = level - 1;
	}
}
