/*-------------------------------------------------------------------------
 *
 * redirect_attempt.c
 *	  Sending a statement to the primary in place of running it here.
 *
 * NOTES
 *	  The gate has given the statement's snapshot back and found that it cannot
 *	  have a fresh enough one in time.  A query is then sent, and its plan
 *	  replaced by one whose rows come from the primary, before the executor
 *	  starts.  A utility statement plans its query later: the replacement is
 *	  armed, and used when the planner (DECLARE, EXPLAIN, COPY) or the executor
 *	  (EXECUTE) comes by for it.  Should it come by for nothing, the statement
 *	  fails: it must not be served from here after all.
 *
 *	  In READ COMMITTED each statement goes over for itself.  A REPEATABLE READ
 *	  transaction goes over whole if its first statement does, and all its later
 *	  ones must then go, too; what cannot is refused with 0A000.
 *
 *	  The settings of redirects are read here and in the room redirect, since only
 *	  what is redirected needs them; see context.c.
 *
 *	  While the statement runs there, it holds nothing here that replay could
 *	  wait for, as far as that is in our power: locks are given back where the
 *	  statement is the only one of its transaction, and its snapshot, which no
 *	  one reads with, does not hold back the oldest xid (gate/snapshot_swap.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "tcop/pquery.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/settings.h"
#include "base/stats.h"
#include "gate/redirect_attempt.h"
#include "gate/snapshot_swap.h"
#include "redirect/notices.h"
#include "redirect/redirect_scan.h"
#include "redirect/redirect_server.h"
#include "redirect/remote_xact.h"
#include "redirect/statement_text.h"
#include "session/session_token.h"
#include "statement/statement_source.h"

/* What waits for the query of a utility statement; lives as long as that. */
struct TcsArmed
{
	TcsStatement *statement;
	ExecuteStmt *execute;		/* if the plan comes from the plan cache */
	const char *server;
	const char *why;
	bool		is_cursor;
	bool		explain_only;	/* its plan is shown, and not run */
	bool		used;
};

/* Can this statement be redirected, as far as can be told without a look at it? */
bool
tcs_redirect_is_possible(const TcsSite *site)
{
	switch (site->kind)
	{
		case TCS_SITE_QUERY:
			return site->query_desc->plannedstmt->commandType == CMD_SELECT &&
				tcs_server_exists();
		case TCS_SITE_UTILITY:
			return !site->explain_reads &&
				tcs_utility_can_go(site->utility) && tcs_server_exists();
		default:
			return false;
	}
}

/*
 * Look at the statement, with a snapshot that parse analysis may need, and that
 * is gone afterwards; and so are the locks, if its own were given back.
 */
static TcsStatement *
capture_statement(const TcsSite *site)
{
	TcsStatement *statement;

	if (site->kind == TCS_SITE_QUERY && site->locks_released &&
		!tcs_swap_try_locks(site))
	{
		tcs_swap_release_locks(site);
		statement = palloc0(sizeof(TcsStatement));
		statement->why_not = "replay holds a lock on what it reads";
		return statement;
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	if (site->kind == TCS_SITE_QUERY)
		statement = tcs_statement_of_query(site->query_desc);
	else
		statement = tcs_statement_of_utility(site->plan, site->source, site->params);
	PopActiveSnapshot();
	if (site->locks_released)
		tcs_swap_release_locks(site);
	InvalidateCatalogSnapshot();
	return statement;
}

/* The client has had notices that the primary is going to repeat. */
static void
expect_notices(const TcsStatement *statement)
{
	tcs_told_expect(tcs_remote_has_prepared(statement) ? NIL : statement->told);
}

/* Put the plan in place, or have it put there. */
static void
install_plan(TcsSite *site, TcsStatement *statement, const char *why, bool sent)
{
	if (site->kind == TCS_SITE_QUERY)
	{
		bool		buffered = (site->eflags & (EXEC_FLAG_REWIND | EXEC_FLAG_BACKWARD |
												EXEC_FLAG_MARK)) != 0;

		site->query_desc->plannedstmt =
			tcs_scan_make_plan(site->query_desc->plannedstmt, statement,
							   tcs_redirect_server, why, sent, buffered);
		site->redirected = true;
		return;
	}
	site->armed = palloc0(sizeof(TcsArmed));
	site->armed->statement = statement;
	site->armed->execute = tcs_utility_execute(site->utility);
	site->armed->server = tcs_redirect_server;
	site->armed->why = why;
	site->armed->is_cursor = IsA(site->utility, DeclareCursorStmt);
	site->armed->explain_only = site->explain_only;
	tcs_told_want();
}

/*
 * Try to redirect the statement.  Returns false, with the reason in the attempt, if
 * that is not possible; nothing has changed then.  The caller has given the
 * snapshot back, and takes a new one afterwards in either case.
 */
bool
tcs_redirect_try(TcsSite *site, TcsRedirectAttempt *attempt)
{
	TcsStatement *statement = capture_statement(site);
	TcsRemoteBegin begin = {0};

	tcs_swap_stop_watching();

	if (statement->why_not)
	{
		attempt->failure = psprintf("it cannot be redirected: %s", statement->why_not);
		return false;
	}
	if (!site->explain_only)
	{
		begin.level = attempt->level;
		begin.token = attempt->token;
		begin.whole = attempt->whole;
		if (site->kind == TCS_SITE_QUERY)
			expect_notices(statement);
		/* with a whole transaction, savepoints come between */
		if (site->kind == TCS_SITE_QUERY && !begin.whole)
		{
			begin.statement = statement;
			begin.params = site->query_desc->params;
		}
		if (!tcs_remote_begin(&begin))
		{
			attempt->failure =
				psprintf("it could not be redirected to server \"%s\": %s",
						 tcs_redirect_server, begin.failure.text);
			attempt->cause = tcs_failure_in_general(&begin.failure);
			tcs_stats_count_failed_redirect(attempt->level);
			attempt->lost = begin.lost;
			return false;
		}
		tcs_session_note_redirected(&begin.seen, begin.token);
		if (site->kind == TCS_SITE_QUERY && begin.whole)
			tcs_remote_send(statement, site->query_desc->params);
		attempt->shown.tli = begin.seen.tli;
		attempt->shown.lsn = begin.seen.seen_primary;
	}
	install_plan(site, statement, attempt->why, site->kind == TCS_SITE_QUERY);
	return true;
}

/* A later statement of a transaction that runs on the primary. */
void
tcs_redirect_in_whole(TcsSite *site)
{
	TcsStatement *statement;
	const char *why_not = "it is not a query";

	if (site->kind == TCS_SITE_NESTED || site->kind == TCS_SITE_BARE ||
		site->kind == TCS_SITE_PLANNER)
		return;
	if (site->kind == TCS_SITE_QUERY || site->kind == TCS_SITE_UTILITY)
	{
		statement = capture_statement(site);
		why_not = statement->why_not;
		if (why_not == NULL)
		{
			if (site->kind == TCS_SITE_QUERY)
			{
				expect_notices(statement);
				tcs_remote_send(statement, site->query_desc->params);
			}
			install_plan(site, statement, "its transaction was redirected",
						 site->kind == TCS_SITE_QUERY);
			return;
		}
	}
	if (site->explain_only)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("the statement cannot run on the primary, where its transaction runs"),
			 errdetail("The REPEATABLE READ transaction was redirected at its first statement; this one has to stay: %s.",
					   why_not),
			 errhint("Run it in a transaction of its own, or take \"redirect\" out of tcs.fallback.")));
}

/*
 * The utility statement has ended.  If its query was not replaced, what it has
 * done is not known, but it was not what had to be done.
 */
void
tcs_redirect_check_used(const TcsArmed *armed)
{
	if (!armed->used)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the statement could not be redirected"),
				 errdetail("It has not run its query in the way that was expected.")));
}

/* The plan for the armed query. */
static PlannedStmt *
take_armed_plan(TcsArmed *armed, PlannedStmt *local, bool buffered)
{
	/*
	 * The primary checks what it runs.  What is only shown has estimates in
	 * it, made of statistics that tell of the rows.
	 */
	if (armed->explain_only)
		tcs_require_permissions_of_plan_compat(local);
	armed->used = true;
	expect_notices(armed->statement);
	return tcs_scan_make_plan(local, armed->statement, armed->server, armed->why,
							  false, buffered);
}

/*
 * The planner has made a plan for the query of a utility statement.  A cursor
 * goes back where it would with the local plan.
 */
PlannedStmt *
tcs_redirect_planned(TcsArmed *armed, PlannedStmt *local, int cursor_options)
{
	if (armed->used || armed->execute || local->commandType != CMD_SELECT)
		return local;
	return take_armed_plan(armed, local, (cursor_options & CURSOR_OPT_SCROLL) != 0 ||
						   (armed->is_cursor &&
							(cursor_options & CURSOR_OPT_NO_SCROLL) == 0 &&
							ExecSupportsBackwardScan(local->planTree)));
}

/* A plan is about to start; armed may be NULL.  Does it come out of the plan cache? */
void
tcs_redirect_started(TcsArmed *armed, QueryDesc *query_desc, int eflags)
{
	if (armed == NULL || armed->used || armed->execute == NULL ||
		query_desc->plannedstmt->commandType != CMD_SELECT ||
		!tcs_statement_is_of(armed->execute, query_desc->sourceText))
		return;
	query_desc->plannedstmt =
		take_armed_plan(armed, query_desc->plannedstmt,
						(eflags & (EXEC_FLAG_REWIND | EXEC_FLAG_BACKWARD |
								   EXEC_FLAG_MARK)) != 0);
}
