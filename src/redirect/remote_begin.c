/*-------------------------------------------------------------------------
 *
 * remote_begin.c
 *	  How a transaction begins on the redirect server, and on which host.
 *
 * NOTES
 *	  What is sent, and in which order: redirect/remote_xact.c.
 *
 *	  Each host is asked to begin the transaction, until one does that passes all
 *	  checks: those of redirect_begin() there, and those of take_token() here.  One
 *	  that does not pass is left, whatever the reason is; the next one may be the
 *	  primary.  That is so for a host that has been deposed and still calls itself a
 *	  primary, for a standby, for one of another cluster, for one that does not admit
 *	  the role, and for one that does not answer.  All have to share the time there
 *	  is (base/hosts.c).  The statement goes along each time, but its rows are only
 *	  taken from the host that has passed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <inttypes.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/walreceiver.h"

#include "base/compat.h"
#include "base/history.h"
#include "base/settings.h"
#include "redirect/connection_budget.h"
#include "redirect/remote_state.h"
#include "session/redirected_for.h"
#include "standby/freshness.h"

#define TCS_SQL_BEGIN	"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
/* who waits for DROP EXTENSION would find nothing afterwards */
#define TCS_SQL_LOCK	"LOCK TABLE ONLY tcs_internal.redirect_lock IN ACCESS SHARE MODE NOWAIT"
/* is what was locked the extension's?  the text that is no number becomes the message */
#define TCS_SQL_GUARD \
	"SELECT (CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_extension e, pg_catalog.pg_namespace n," \
	" pg_catalog.pg_class c, pg_catalog.pg_depend d" \
	" WHERE e.extname OPERATOR(pg_catalog.=) 'tcs' AND n.nspname OPERATOR(pg_catalog.=) 'tcs_internal'" \
	" AND c.relname OPERATOR(pg_catalog.=) 'redirect_lock'" \
	" AND c.relnamespace OPERATOR(pg_catalog.=) n.oid" \
	" AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass" \
	" AND d.objid OPERATOR(pg_catalog.=) c.oid" \
	" AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass" \
	" AND d.refobjid OPERATOR(pg_catalog.=) e.oid AND d.deptype OPERATOR(pg_catalog.=) 'e')" \
	" THEN '1' ELSE 'extension tcs is not installed in this database' END)::pg_catalog.int4"
#define TCS_SQL_CALL \
	"SELECT tcs_internal.redirect_begin($1::pg_catalog.int8, $2::pg_catalog.oid," \
	" $3::pg_catalog.oid, $4::pg_catalog.bytea)"

/* Commands of ours before the statement, in their order. */
typedef enum OwnCommand
{
	COMMAND_BEGIN,
	COMMAND_SET,
	COMMAND_LOCK,
	COMMAND_GUARD,
	COMMAND_CALL
} OwnCommand;

/* Statements prepared on one connection, before it is replaced by a new one. */
#define TCS_MAX_PREPARED	1000

/* How an attempt to begin has ended. */
typedef enum Attempt
{
	BEGUN,
	LOST,						/* the connection is gone, or as good as */
	REFUSED,					/* the server said no */
	TOO_LATE
} Attempt;


/* ---- what is sent ---- */

/*
 * What does this standby know that the primary has?
 *
 * What it has replayed, and may be read here already.  What it has received: a
 * primary inserts its WAL before it is sent.  That includes the rest of a segment
 * that was switched, and what came from an archive.  WAL that a crash of the primary
 * has lost was never sent.  And what the primary has told the worker, which can be
 * what the read needs.
 *
 * Only positions of one timeline can be compared.  Until replay has come to a
 * timeline, what is received of it may be of another one with this number.
 */
static void
look_what_is_known(TcsKnown *known)
{
	TcsPosition replayed = tcs_fresh_position();
	TcsPosition received;
	TcsAnswer	told;

	memset(known, 0, sizeof(*known));
	known->newest = replayed.tli;
	if (RecoveryInProgress())
	{
		const TcsHistory *history = tcs_history_get(replayed.tli);

		known->newest = Max(replayed.tli, tcs_fresh_newest_timeline());
		if (history->known)
		{
			known->replayed = replayed;
			known->begin = history->timelines[0].begin;
		}
	}
	if (replayed.tli == known->newest)
	{
		known->least = replayed.lsn;
		received.lsn = GetWalRcvFlushRecPtr(NULL, &received.tli);
		if (received.tli == replayed.tli)
			known->least = Max(known->least, received.lsn);
	}
	if (tcs_fresh_newest(&told) && told.at.tli == known->newest)
		known->least = Max(known->least, told.at.lsn);
}

/*
 * What has to be visible there before the transaction takes its snapshot.  The
 * primary waits a bit less than we do, so that it can still say what for.
 */
static bool
send_wanted(const TcsRemoteBegin *begin, const TcsKnown *known, int64 deadline)
{
	char		token[TCS_TOKEN_MAXLEN + 1] = "";
	char		has[100] = "";
	char		sql[TCS_TOKEN_MAXLEN + 220];
	int64		left = Max(deadline - tcs_now(), 0) / 1000;

	if (begin->token)
		tcs_token_format(begin->token, token);
	if (known->replayed.tli != 0)
		snprintf(has, sizeof(has), "@%u,%" PRIX64 ",%" PRIX64 ",%u,%" PRIX64 " ",
				 known->replayed.tli, known->begin, known->replayed.lsn,
				 known->newest, known->least);
	snprintf(sql, sizeof(sql), "SET LOCAL %s = '%s %d %s%s'", TCS_REDIRECTED_FOR,
			 tcs_level_name(begin->level), (int) Min(left - left / 8, PG_INT32_MAX), has, token);
	return tcs_peer_command(NULL, sql);
}

/* The call that makes the transaction on the primary what it has to be. */
static bool
send_call(void)
{
	char		identifier[32];
	const char *values[4];
	int			lengths[4] = {0};
	int			formats[4] = {0};

	(void) tcs_send_collect_settings();
	snprintf(identifier, sizeof(identifier), INT64_FORMAT, (int64) GetSystemIdentifier());
	values[0] = identifier;
	/* their names may be others' by now */
	values[1] = psprintf("%u", MyDatabaseId);
	values[2] = psprintf("%u", GetSessionUserId());
	values[3] = tcs_remote.settings.data;
	lengths[3] = tcs_remote.settings.len;
	formats[3] = 1;
	if (tcs_peer.unprepared)
		return PQsendQueryParams(tcs_peer.conn, TCS_SQL_CALL, lengthof(values), NULL,
								 values, lengths, formats, 0);
	return PQsendQueryPrepared(tcs_peer.conn, tcs_peer_name("call", 0),
							   lengthof(values), values, lengths, formats, 0);
}

static bool
send_pipeline(const TcsRemoteBegin *begin, const TcsKnown *known, int64 deadline)
{
	if (!tcs_peer_command("begin", TCS_SQL_BEGIN))
		return false;
	tcs_remote.open = true;
	tcs_remote.whole = begin->whole;
	tcs_remote.depth = 1;
	tcs_remote.rollback_to = tcs_remote.release = 0;
	if (!send_wanted(begin, known, deadline) || !tcs_peer_command("lock", TCS_SQL_LOCK) ||
		!tcs_peer_command("guard", TCS_SQL_GUARD) || !send_call())
		return false;
	if (begin->statement == NULL)
		return tcs_peer_sync();
	return PQsendFlushRequest(tcs_peer.conn) &&
		tcs_send_statement(begin->statement, begin->params);
}


/* ---- what can go wrong ---- */

/* Is this how a pooler says that it does not keep prepared statements? */
static bool
is_about_prepared(const char *sqlstate)
{
	return strcmp(sqlstate, "26000") == 0 || strcmp(sqlstate, "42P05") == 0 ||
		strcmp(sqlstate, "08P01") == 0;
}

/* What a refusal says of its cause. */
static TcsCause
cause_of_refusal(const char *state, const char *text)
{
	/* as redirect_begin() has them */
	if (strstr(text, TCS_REFUSED_STANDBY))
		return TCS_CAUSE_NOT_PRIMARY;
	if (strstr(text, TCS_REFUSED_CLUSTER))
		return TCS_CAUSE_OTHER_CLUSTER;
	if (strstr(text, TCS_REFUSED_HISTORY) || strstr(text, TCS_REFUSED_DEPOSED) ||
		strstr(text, TCS_REFUSED_LESS))
		return TCS_CAUSE_DEPOSED;
	if (state == NULL || strncmp(state, "TC", 2) != 0)
		return TCS_CAUSE_REFUSED;
	/* who is merely behind may be a primary that was deposed */
	return strcmp(state, "TC002") == 0 || strcmp(state, "TC003") == 0 ?
		TCS_CAUSE_TOKEN_LOST : TCS_CAUSE_TOKEN;
}

/* Keep what the server has refused with, be it LOCK or something else. */
static void
note_refusal(TcsFailure *failure, bool locking)
{
	const char *state = PQresultErrorField(tcs_peer.result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(tcs_peer.result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(tcs_peer.result, PG_DIAG_MESSAGE_DETAIL);
	int			sqlstate;
	char	   *text;

	if (!tcs_wire_sqlstate(tcs_peer.result, &sqlstate))
		state = detail = NULL;
	if (message == NULL)
		message = PQresultErrorMessage(tcs_peer.result);
	text = message[0] == '\0' ? pstrdup("the server did not say why it refused") :
		tcs_peer_message(message);
	if (detail && (strncmp(state, "TC", 2) == 0 ||
				   cause_of_refusal(state, text) == TCS_CAUSE_DEPOSED))
		text = psprintf("%s: %s", text, tcs_peer_message(detail));
	/* there is no schema of that name, or no view in it */
	if (state && (strcmp(state, "3F000") == 0 || (locking && strcmp(state, "42P01") == 0)))
		text = psprintf("database \"%s\" there has no extension tcs, or one that an older build has installed (see option dbname of the server)",
						PQdb(tcs_peer.conn));
	else if (state && locking && strcmp(state, "55P03") == 0)
		text = psprintf("extension tcs in database \"%s\" there is locked by a transaction that drops or alters it",
						PQdb(tcs_peer.conn));
	tcs_failure_set(failure, cause_of_refusal(state, text), text);
	if (state)
		strlcpy(failure->sqlstate, state, sizeof(failure->sqlstate));
}

/* The connection is gone, or of no more use. */
static Attempt
note_loss(TcsFailure *failure)
{
	tcs_failure_set(failure, TCS_CAUSE_LOST, tcs_peer_loss());
	return LOST;
}

/* There was no answer in time.  Who knows how much that was says so. */
static Attempt
note_silence(TcsFailure *failure)
{
	tcs_failure_set(failure, TCS_CAUSE_SILENT, NULL);
	return TOO_LATE;
}

/*
 * Prepare what each transaction needs, in one before it: parse analysis takes a
 * snapshot, and BEGIN must come before the first.
 */
static Attempt
prepare_own(int64 deadline, TcsFailure *failure)
{
	bool		refused = false;
	bool		done;

	done = PQsendPrepare(tcs_peer.conn, tcs_peer_name("begin", 0), TCS_SQL_BEGIN, 0, NULL) &&
		PQsendPrepare(tcs_peer.conn, tcs_peer_name("commit", 0), TCS_SQL_COMMIT, 0, NULL) &&
		PQsendPrepare(tcs_peer.conn, tcs_peer_name("lock", 0), TCS_SQL_LOCK, 0, NULL) &&
		PQsendPrepare(tcs_peer.conn, tcs_peer_name("guard", 0), TCS_SQL_GUARD, 0, NULL) &&
		PQsendPrepare(tcs_peer.conn, tcs_peer_name("call", 0), TCS_SQL_CALL, 0, NULL) &&
		tcs_peer_sync();
	while (done && tcs_peer.syncs > 0)
	{
		done = tcs_peer_fetch(deadline) == TCS_ARRIVED;
		if (!done || tcs_peer.result == NULL)
			continue;
		switch (PQresultStatus(tcs_peer.result))
		{
			case PGRES_COMMAND_OK:
			case PGRES_PIPELINE_ABORTED:
				break;
			case PGRES_PIPELINE_SYNC:
				tcs_peer.syncs--;
				break;
			case PGRES_FATAL_ERROR:
				note_refusal(failure, false);
				refused = true;
				break;
			default:
				tcs_peer_violates("the server's answers are not those to PREPARE");
				done = false;
		}
	}
	if (!done)
		return tcs_peer.violation || tcs_now() < deadline ?
			note_loss(failure) : note_silence(failure);
	if (!refused)
		return BEGUN;
	if (!is_about_prepared(failure->sqlstate))
		return REFUSED;
	tcs_peer.unprepared = true;
	return BEGUN;
}

/* Can the connection that is there be used for a new transaction? */
static bool
is_usable(int64 deadline)
{
	if (!tcs_remote.ready || !tcs_peer_is_sound() || tcs_remote.changed || tcs_remote.nprepared >= TCS_MAX_PREPARED ||
		tcs_remote.user != GetSessionUserId() || tcs_growth_is_over(&tcs_remote.growth) ||
		strncmp(tcs_peer.server, tcs_redirect_server, NAMEDATALEN - 1) != 0)
		return false;
	tcs_peer_expect_answers();
	/* a statement has failed, or was not read to its end */
	if (tcs_remote.open && !tcs_send_commit())
		return false;
	/* the server may have closed it */
	if (!tcs_intake_read(&tcs_peer.intake, tcs_peer.conn) || tcs_peer_read_to_last_sync(deadline) != TCS_ARRIVED)
		return false;
	return PQtransactionStatus(tcs_peer.conn) == PQTRANS_IDLE;
}


/* ---- beginning ---- */

/*
 * Read the result of one command, which must not fail, and has the given status.
 */
static TcsArrival
read_command(ExecStatusType wanted, int64 deadline, bool *failed)
{
	TcsArrival	arrival = tcs_peer_fetch(deadline);

	*failed = false;
	if (arrival != TCS_ARRIVED || PQresultStatus(tcs_peer.result) == wanted)
		return arrival;
	if (tcs_peer.result != NULL && PQresultStatus(tcs_peer.result) == PGRES_FATAL_ERROR)
	{
		*failed = true;
		return TCS_ARRIVED;
	}
	tcs_peer_violates("the server's answer is not that to the command it was sent");
	return TCS_CONNECTION_LOST;
}

/* The separator behind the result of a command. */
static TcsArrival
read_separator(int64 deadline)
{
	TcsArrival	arrival = tcs_peer_fetch(deadline);

	if (arrival == TCS_ARRIVED && tcs_peer.result != NULL)
	{
		tcs_peer_violates("the server gave more than one answer to a command");
		return TCS_CONNECTION_LOST;
	}
	return arrival;
}

/*
 * What redirect_begin() has answered; false if it is not to be trusted.  "known" is
 * what was known here before it was called.
 */
static bool
take_token(TcsRemoteBegin *begin, const TcsKnown *known)
{
	if (!tcs_wire_is_value(tcs_peer.result) || PQfformat(tcs_peer.result, 0) != 0 ||
		!tcs_token_parse(PQgetvalue(tcs_peer.result, 0, 0), &begin->seen) ||
		begin->seen.version == 0 ||
		begin->seen.system_identifier != GetSystemIdentifier())
	{
		tcs_failure_set(&begin->failure, TCS_CAUSE_LOST, pstrdup("its answer cannot be read"));
		return false;
	}
	/* it would take the token's place, so it must not ask for less */
	if (begin->token && begin->token->version != 0 &&
		(begin->seen.written < begin->token->written ||
		 begin->seen.seen_primary < begin->token->seen_primary ||
		 begin->seen.seen_standby < begin->token->seen_standby))
	{
		tcs_failure_set(&begin->failure, TCS_CAUSE_DEPOSED,
						pstrdup("its answer does not cover the session token"));
		return false;
	}

	/*
	 * It has said that it is the primary.  Its position is the end of all WAL
	 * that was inserted there, so this can be seen here, too: an answer may
	 * be an old one.
	 */
	if (begin->seen.tli < known->newest)
	{
		tcs_failure_set(&begin->failure, TCS_CAUSE_DEPOSED,
						psprintf("%s: It is on timeline %u.", TCS_REFUSED_DEPOSED, begin->seen.tli));
		return false;
	}
	if (begin->seen.tli == known->newest && begin->seen.seen_primary < known->least)
	{
		tcs_failure_set(&begin->failure, TCS_CAUSE_DEPOSED, pstrdup(TCS_REFUSED_LESS));
		return false;
	}
	return true;
}

static Attempt
try_to_begin(TcsRemoteBegin *begin, int64 deadline)
{
	TcsArrival	arrival = TCS_ARRIVED;
	bool		failed = false;
	OwnCommand	command;
	TcsKnown	known;

	look_what_is_known(&known);
	if (!send_pipeline(begin, &known, deadline))
		return note_loss(&begin->failure);
	/* libpq has made room for what was sent: that is not the server's doing */
	tcs_peer_expect_answers();
	for (command = COMMAND_BEGIN; command <= COMMAND_CALL; command++)
	{
		arrival = read_command(command < COMMAND_GUARD ? PGRES_COMMAND_OK : PGRES_TUPLES_OK,
							   deadline, &failed);
		if (arrival != TCS_ARRIVED || failed)
			break;
		if (command == COMMAND_CALL && !take_token(begin, &known))
			return LOST;
		arrival = read_separator(deadline);
		if (arrival != TCS_ARRIVED)
			break;
	}
	if (arrival == TCS_ARRIVED && !failed)
	{
		if (begin->statement == NULL)
			arrival = tcs_peer_read_to_last_sync(deadline);
		if (arrival == TCS_ARRIVED)
			return BEGUN;
	}

	if (arrival == TCS_ARRIVED)
	{
		note_refusal(&begin->failure, command == COMMAND_LOCK);
		/* only of a server that was asked whether it has what is known here */
		if (strcmp(begin->failure.sqlstate, "TC003") == 0 && known.replayed.tli != 0)
		{
			const char *detail = PQresultErrorField(tcs_peer.result, PG_DIAG_MESSAGE_DETAIL);

			begin->lost = detail ? tcs_wire_text(detail) : pstrdup("The primary says so.");
		}
		return REFUSED;
	}
	if (arrival == TCS_ARRIVED_TOO_LATE)
		return note_silence(&begin->failure);
	return note_loss(&begin->failure);
}

/* After a refusal: end the transaction, so that the connection can be kept. */
static bool
end_refused(int64 deadline)
{
	if (tcs_remote.open && !tcs_send_commit())
		return false;
	return tcs_peer_read_to_last_sync(deadline) == TCS_ARRIVED &&
		PQtransactionStatus(tcs_peer.conn) == PQTRANS_IDLE;
}


/* Begin on the connection that is there. */
static Attempt
begin_here(TcsRemoteBegin *begin, int64 deadline)
{
	Attempt		attempt;

	tcs_budget_set_busy();
	for (;;)
	{
		attempt = try_to_begin(begin, deadline);
		if (attempt != REFUSED || !is_about_prepared(begin->failure.sqlstate) ||
			tcs_peer.unprepared || !end_refused(deadline))
			return attempt;
		tcs_peer.unprepared = true;
	}
}

/* Connect to a host as this session's user, and begin there. */
static Attempt
begin_at(TcsRemoteBegin *begin, const TcsServer *server, const TcsHost *host,
		 int64 deadline)
{
	Attempt		attempt;

	if (!tcs_peer_connect(server, host, deadline, &begin->failure))
		return begin->failure.cause == TCS_CAUSE_SILENT ? TOO_LATE : LOST;
	tcs_remote.ready = true;
	tcs_remote.user = GetSessionUserId();
	tcs_budget_count_connection();
	tcs_growth_begin(&tcs_remote.growth, TCS_GROWTH_SESSION);
	attempt = prepare_own(deadline, &begin->failure);
	return attempt == BEGUN ? begin_here(begin, deadline) : attempt;
}

/* Say how long was waited for who did not answer. */
static void
describe_silence(TcsFailure *failure, const char *what, int64 started,
				 int64 until, int64 deadline)
{
	if (failure->text)
		return;
	if (until >= deadline)
		failure->text = psprintf("no %s within tcs.redirect_timeout (%d ms)",
								 what, tcs_redirect_timeout);
	else
		failure->text = psprintf("no %s within %d ms", what,
								 (int) ((until - started) / 1000));
}

/*
 * Has a host had too little time?  Also one that says it is still behind: it has
 * waited for commits that are under way there.
 */
static bool
wants_more_time(const TcsRemoteBegin *begin, Attempt attempt)
{
	return attempt == TOO_LATE ||
		(attempt == REFUSED && strcmp(begin->failure.sqlstate, "TC001") == 0);
}

/*
 * Has a host said that the token is lost, or that it is no primary?  One that refuses
 * for another reason has not looked at the token; one that is behind has found it
 * on its history, or does not know yet.
 */
static bool
has_judged(const TcsFailure *failure)
{
	return strcmp(failure->sqlstate, "TC003") == 0 ||
		failure->cause == TCS_CAUSE_NOT_PRIMARY ||
		failure->cause == TCS_CAUSE_OTHER_CLUSTER ||
		failure->cause == TCS_CAUSE_DEPOSED;
}

/* One after the other, as long as there is time. */
static bool
begin_at_any(TcsRemoteBegin *begin, const TcsServer *server, int64 deadline)
{
	TcsHostLists lists;
	TcsHostWalk *walk;
	TcsFailure	all = {0};
	bool		all_judged = true;
	const TcsHost *host;

	tcs_peer_get_hosts(server, &lists);
	walk = tcs_hosts_begin(&lists);
	while ((host = tcs_hosts_next(walk, deadline)) != NULL)
	{
		TcsFailure *failure = &begin->failure;
		int64		started = tcs_now();
		int64		until = tcs_hosts_share(walk, deadline);
		Attempt		attempt = begin_at(begin, server, host, until);

		if (attempt == BEGUN)
		{
			tcs_hosts_note_primary(walk);
			tcs_remote.several = tcs_hosts_has_several(walk);
			return true;
		}
		if (attempt == TOO_LATE)
			describe_silence(failure, tcs_remote.ready ? "answer" : "connection",
							 started, until, deadline);
		if (wants_more_time(begin, attempt))
			tcs_hosts_note_silent(walk);
		all_judged &= has_judged(failure);
		/* libpq names the host itself */
		if (tcs_hosts_has_several(walk) && strstr(failure->text, "connection to server") == NULL)
			failure->text = psprintf("%s: %s", tcs_peer_place(host), failure->text);
		tcs_failure_add(&all, failure);
		tcs_remote_drop();
	}
	begin->failure = all;
	/* one that has not judged may be the primary, and know better */
	if (!all_judged)
		begin->lost = NULL;
	return false;
}

/* On a connection that is made for it. */
static bool
begin_anew(TcsRemoteBegin *begin, int64 deadline)
{
	char	   *why_not = NULL;
	TcsServer  *server = tcs_server_get(&why_not);

	if (server == NULL)
	{
		tcs_failure_set(&begin->failure, TCS_CAUSE_SETUP, why_not);
		return false;
	}
	tcs_remote_set_up();
	if (!tcs_budget_take(tcs_max_redirect_connections, deadline))
	{
		tcs_failure_set(&begin->failure, TCS_CAUSE_BUDGET,
						psprintf("all %d connections that tcs.max_redirect_connections allows are in use",
								 tcs_max_redirect_connections));
		return false;
	}
	tcs_remote_is_connected = true;
	if (begin_at_any(begin, server, deadline))
		return true;
	tcs_remote_close();
	return false;
}

/*
 * On the connection that was kept.  It may have died, or lead to a server that is
 * no primary any more; then another one has to be made.  If there are other hosts,
 * they have to get their time.
 */
static bool
begin_on_kept(TcsRemoteBegin *begin, int64 deadline)
{
	int64		now = tcs_now();
	int64		until = tcs_remote.several ? now + (deadline - now) / 2 : deadline;
	Attempt		attempt;

	if (is_usable(until))
	{
		attempt = begin_here(begin, until);
		if (attempt == BEGUN)
			return true;
		if (attempt == TOO_LATE)
			describe_silence(&begin->failure, "answer", now, until, deadline);
	}
	/* others may know better */
	if (tcs_remote.several)
		begin->lost = NULL;
	tcs_remote_close();
	return false;
}

/*
 * Begin a transaction on the primary, and send the statement if it is known.
 *
 * Returns false with begin->failure if that was not possible; the caller goes on
 * without the primary.
 */
bool
tcs_remote_begin(TcsRemoteBegin *begin)
{
	int64		deadline;
	bool		begun;

	tcs_remote_make_room();
	deadline = tcs_now() + (int64) tcs_redirect_timeout * 1000;
	begun = begin_on_kept(begin, deadline);
	if (!begun && (begin->failure.text == NULL || tcs_now() < deadline))
	{
		begin->lost = NULL;
		begun = begin_anew(begin, deadline);
	}
	if (begun)
	{
		tcs_remote_in_whole = begin->whole;
		tcs_outage_note_success(tcs_redirect_server);
		return true;
	}
	tcs_budget_count_failure(begin->failure.cause == TCS_CAUSE_BUDGET);
	tcs_outage_note_failure(tcs_redirect_server, &begin->failure);
	return false;
}
