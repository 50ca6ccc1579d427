/*-------------------------------------------------------------------------
 *
 * gate.c
 *	  The gate that each read passes before its snapshot is used.
 *
 * NOTES
 *	  What is proven belongs to a snapshot.  tcs_proven.proof was read before the
 *	  snapshot of every statement that comes later, so a statement whose
 *	  requirement it meets needs no further look, whatever snapshot it has.
 *	  Otherwise:
 *
 *		READ COMMITTED: the statement's snapshot (and, where nothing else is
 *		held, its locks) are given back, the position is read, and waited for if
 *		need be, and then a new snapshot is taken.  Position first, snapshot
 *		second: what is replayed in between is in the snapshot as well.
 *
 *		REPEATABLE READ: the snapshot of the transaction is fixed by its first
 *		query, so the requirement is compared with what was proved before that.
 *		BEGIN and SET come to the gate while there is no snapshot yet, note what
 *		is proved, whatever is asked for, and wait if need be.  What a later
 *		statement asks for may be met by that.  An answer of the primary that
 *		comes later can also prove the snapshot fresh: if it names no more than
 *		the snapshot is known to include.  What is not met is an error: 40001 if a
 *		transaction that begins now would be served, else 25001.  The first statement of a
 *		transaction may still change snapshots (see gate/snapshot_swap.c): in autocommit,
 *		and after COMMIT AND CHAIN, no hook comes before the snapshot is taken.
 *
 *		Simple and extended protocol, generic plans: the snapshot is taken in
 *		PortalStart(), just before ExecutorStart().  EXECUTE, DECLARE, EXPLAIN
 *		ANALYZE, COPY, CALL, DO: in PortalRunUtility(), just before the utility
 *		hook.  The protocol's function call: in HandleFunctionRequest(), just
 *		before the object access hook.  FETCH reads on with the cursor's, of which
 *		what was proved since says nothing.  Statements inside functions
 *		do not wait: the requirement was checked for the statement that calls
 *		them, and one that was raised since is an error if it is not met.
 *
 *	  Level "snapshot": the transaction becomes REPEATABLE READ, by BEGIN or by
 *	  its first statement, whose snapshot is replaced by the transaction's.
 *
 *	  Level "linearizable": when the snapshot is taken, what it can show is
 *	  bounded by the position read next, and a quorum has to confirm that before
 *	  the first row goes out.  That wait comes after the snapshot, so it is the
 *	  one that functions may be made to wait for as well: their statements take
 *	  newer snapshots.
 *
 *	  Nothing here is shared; what is, is read through standby/freshness.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/sinval.h"
#include "utils/inval.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/xact.h"
#include "choice/standing_default.h"
#include "gate/context.h"
#include "gate/gate.h"
#include "gate/read.h"
#include "gate/redirect_attempt.h"
#include "gate/snapshot_swap.h"
#include "gate/transaction.h"
#include "primary/commits_in_flight.h"
#include "session/redirected_for.h"
#include "session/session_token.h"
#include "standby/freshness.h"
#include "statement/read_only.h"

/*
 * Is the requirement of a statement that a hint or a rule has chosen for met by
 * what was proved before?  In REPEATABLE READ the slow way knows.
 */
static bool
choice_is_met(const TcsChoice *choice)
{
	bool		token_is_met = choice->token == NULL && !IsolationUsesXactSnapshot() &&
		tcs_proven.token_settled == tcs_settings_generation;

	switch (choice->level)
	{
		case TCS_LEVEL_EVENTUAL:
		case TCS_LEVEL_CONSISTENT_PREFIX:
			return true;
		case TCS_LEVEL_READ_YOUR_WRITES:
		case TCS_LEVEL_MONOTONIC_READS:
		case TCS_LEVEL_SESSION:
		case TCS_LEVEL_SEQUENTIAL:
		case TCS_LEVEL_CAUSAL:
			return token_is_met;
		case TCS_LEVEL_BOUNDED:
			if (!token_is_met || choice->max_lag >= 0 || choice->max_staleness == 0)
				return false;
			return tcs_proven.proof.fresh_at != 0 &&
				tcs_now() - tcs_proven.proof.fresh_at <= (int64) choice->max_staleness * 1000;
		default:
			return false;
	}
}

/* As tcs_gate_pass_at_once(), for what a hint or a rule has chosen. */
bool
tcs_gate_pass_choice_at_once(const TcsChoice *choice)
{
	/* what a void plan was made with is met by nothing */
	if (!choice_is_met(choice) || unlikely(tcs_read_has_void_plan()))
		return false;
	tcs_last.proof = tcs_proven.proof;
	tcs_last.at = 0;
	if (choice->level == TCS_LEVEL_BOUNDED)
	{
		tcs_last.at = tcs_now();
		tcs_fresh_read_mirror(&tcs_proven.proof);
	}
	tcs_stats_count_read(choice->level);
	tcs_client_statement.at_once_level = -1;
	tcs_client_statement.arrival = 0;
	tcs_last_read_note_at_once(choice);
	return true;
}

/* Is what was chosen met by what was proved before?  Nothing is counted. */
bool
tcs_gate_is_satisfied(const TcsChoice *choice)
{
	return choice->plain ? tcs_proof_meets_settings() : choice_is_met(choice);
}

/*
 * A snapshot is too old, and cannot be replaced.  Would the same be served if it
 * were tried again now?
 */
static bool
retry_would_help(const TcsUnmet *facts)
{
	TcsRequirement req = facts->req;
	TcsProof	proof;

	if (facts->imported)
		return false;
	/* the plan is what is too old */
	if (tcs_requirement_is_empty(&req) || tcs_requirement_met(&req, &facts->proof))
		return true;
	if (!facts->in_recovery)
		return !tcs_commits_under_way(req.needed.lsn);
	/* what the primary acknowledges meanwhile would be too new again */
	if (tcs_requirement_rank(&req) >= tcs_level_rank(TCS_LEVEL_STRONG))
		return false;
	/* the moment would be a later one */
	if (req.fresh_after != 0 && facts->fixed)
		req.fresh_after += tcs_now() - tcs_transaction.arrival;
	tcs_fresh_prove(NULL, &proof);
	return tcs_requirement_met(&req, &proof);
}

/* Choose again, and begin again with that. */
static void
begin_anew(TcsRead *read)
{
	read->tried &= TCS_TRIED_WRITE | TCS_TRIED_ASK;
	tcs_read_begin(read);
}

/* A weaker level was chosen, which the transaction's snapshot need not be fixed for. */
static void
begin_weaker(TcsRead *read)
{
	read->site.fix_snapshot = false;
	begin_anew(read);
}

/* What can be done about the snapshot? */
static void
survey_snapshot(TcsRead *read)
{
	read->can_swap = tcs_swap_is_possible(&read->site);
	read->can_redirect = !read->facts.fixed && read->can_swap && tcs_renew_can_redirect(read);
	read->gave_up = tcs_transaction_gave_up(read->context.generation);
}

/* Wait for a new snapshot, or redirect. */
static void
renew_read(TcsRead *read)
{
	const uint64 catalogs = SharedInvalidMessageCounter;

	PG_TRY();
	{
		tcs_renew_snapshot(read);
	}
	PG_CATCH();
	{
		tcs_swap_stop_watching();
		PG_RE_THROW();
	}
	PG_END_TRY();

	/*
	 * The query was analysed before that wait.  If the catalogs changed, a
	 * name in it may mean another object by now; the plan does not tell.
	 */
	if (read->site.kind == TCS_SITE_PLANNER && read->facts.in_recovery &&
		read->result != TCS_WAIT_NOT_IN_RECOVERY &&
		catalogs != SharedInvalidMessageCounter)
		tcs_gate_void_plan();
}

/* Note why the read fails, and have it served less or refused. */
static void
fail_for(TcsRead *read, TcsFailing failing)
{
	TcsUnmet   *facts = &read->facts;

	switch (failing)
	{
		case TCS_FAILING_NOT:
		case TCS_FAILING_AFTER_WAIT:
			break;
		case TCS_FAILING_MISPLACED:
			facts->reason = TCS_REASON_SNAPSHOT;
			break;
		case TCS_FAILING_UNMEETABLE:
			facts->reason = facts->req.reason;
			facts->proof.at = read->context.at;
			break;
		case TCS_FAILING_GAVE_UP:
			facts->reason = tcs_renew_reason(facts, TCS_WAIT_TIMEOUT);
			facts->waited_us = tcs_gave_up.waited_us;
			break;
		case TCS_FAILING_TOO_LATE:
			facts->reason = TCS_REASON_SNAPSHOT;
			facts->retry_helps = retry_would_help(facts);
			/* then what is tried again finds that proved */
			if (facts->retry_helps)
				tcs_proof_note();
			break;
	}
	tcs_read_fail(read);
}

/* Take one step that does not end the read's way, and note what it has changed. */
static void
take_action(TcsRead *read, TcsAction action)
{
	switch (action)
	{
		case TCS_ACTION_DROP_TOKEN:
			read->tried |= TCS_TRIED_DROP;
			if (tcs_read_drop_lost_token(read))
				tcs_read_weigh(read);
			break;
		case TCS_ACTION_REFUSE_WRITE:
			read->tried |= TCS_TRIED_WRITE;
			tcs_refused_check(&read->site);
			break;
		case TCS_ACTION_EXCUSE:
			read->tried |= TCS_TRIED_EXCUSE;
			if (tcs_standing_excuses(&read->site, &read->choice))
				begin_weaker(read);
			break;
		case TCS_ACTION_RELAX:
			read->tried |= TCS_TRIED_RELAX;
			if (tcs_choice_relax(&read->choice,
								 Max(tcs_level_rank(read->choice.level),
									 tcs_requirement_rank(&read->facts.req))))
				begin_weaker(read);
			break;
		case TCS_ACTION_SURVEY:
			read->tried |= TCS_TRIED_SURVEY;
			survey_snapshot(read);
			break;
		case TCS_ACTION_ASK:
			read->tried |= TCS_TRIED_ASK;
			if (tcs_prove_fixed_snapshot(read, true))
				begin_anew(read);
			break;
		case TCS_ACTION_RENEW:
			read->tried |= TCS_TRIED_RENEW;
			renew_read(read);
			break;
		case TCS_ACTION_JUDGE_PROMOTED:
			read->tried |= TCS_TRIED_PROMOTED;
			tcs_renew_judge_promoted(read);
			break;
		case TCS_ACTION_CONFIRM:
			if (!(read->tried & TCS_TRIED_RENEW))
				read->deadline = tcs_deadline_after(read->choice.max_wait);
			read->tried |= TCS_TRIED_CONFIRM;
			(void) tcs_confirm_snapshot(read, read->deadline);
			break;
		case TCS_ACTION_FOLLOW:
		case TCS_ACTION_SERVE:
		case TCS_ACTION_NOTE_REDIRECTED:
		case TCS_ACTION_LEAVE:
		case TCS_ACTION_FAIL:
			Assert(false);
			break;
	}
}

/* It runs where its transaction runs, on the primary. */
static void
follow_transaction(TcsRead *read)
{
	tcs_refused_check(&read->site);
	tcs_redirect_in_whole(&read->site);
	if (tcs_site_is_read(&read->site))
		tcs_read_note_redirected(read);
}

/*
 * A statement comes to the gate, and what was proved before does not do.  The hook
 * has filled in site and choice.
 */
void
tcs_gate_pass_slowly(TcsRead *read)
{
	read->tried = 0;
	tcs_read_begin(read);
	for (;;)
	{
		TcsFailing	failing;
		TcsAction	action = tcs_gate_decide(read, &failing);

		switch (action)
		{
			case TCS_ACTION_FOLLOW:
				follow_transaction(read);
				return;
			case TCS_ACTION_SERVE:
				tcs_read_pass(read);
				return;
			case TCS_ACTION_NOTE_REDIRECTED:
				tcs_read_note_redirected(read);
				return;
			case TCS_ACTION_LEAVE:
				return;
			case TCS_ACTION_FAIL:
				fail_for(read, failing);
				return;
			default:
				take_action(read, action);
		}
	}
}

/*
 * The plan that was made last is to be made again when its statement comes to the
 * gate, which it has to, unless its snapshot is fixed: then it is the plan's.
 */
void
tcs_gate_void_plan(void)
{
	/* what planning still runs asks for what is there now */
	if (tcs_client_statement.planned_in != GetCurrentStatementStartTimestamp())
	{
		tcs_client_statement.planning_arrival = tcs_now();
		tcs_client_statement.planning_waited_us = 0;
	}
	tcs_client_statement.planned_in = GetCurrentStatementStartTimestamp();
	tcs_client_statement.plan_is_void = true;
	tcs_proof_unsettle();
}

/*
 * Planning runs a function before what that reads was waited for.  Its result can
 * become a constant in a plan that is kept: that of the statement, or that of an
 * expression of a function which calls it.
 */
void
tcs_gate_note_early_run(void)
{
	tcs_client_statement.ran_too_early = true;
	tcs_proof_unsettle();
}

/*
 * Such plans are not to be used again.  Called when planning has ended, and by the
 * next statement, since an error can have ended planning.
 */
void
tcs_gate_forget_early_runs(void)
{
	tcs_client_statement.ran_too_early = false;
	ResetPlanCache();
}

/* Is this a session without the token that a read at this level has to have? */
bool
tcs_gate_token_is_missing(TcsLevel level)
{
	return tcs_context_token_is_missing() && tcs_level_is_by_token(level);
}

/*
 * Would a read at a level be served now, as far as the session's token goes?
 * For tcs.can_serve().
 */
bool
tcs_gate_token_is_reached(TcsLevel level)
{
	TcsContext	context;
	TcsRequirement req;
	TcsProof	proof;

	if (tcs_level_rank(level) > tcs_level_rank(TCS_LEVEL_SESSION))
		level = TCS_LEVEL_SESSION;
	tcs_context_build(&context, NULL, tcs_guc_token());
	context.without_token = TCS_WITHOUT_TOKEN_ACCEPT;
	tcs_requirement_make(level, &context, &req);
	if (tcs_requirement_is_empty(&req))
		return true;
	if (tcs_reason_is_lost(req.reason) && context.may_drop_token)
		return !context.in_recovery;
	if (!context.in_recovery)
		return req.reason == TCS_REASON_NONE && !tcs_commits_under_way(req.needed.lsn);
	tcs_fresh_prove(NULL, &proof);
	return proof.at.tli == req.made_on && tcs_requirement_met(&req, &proof);
}

/*
 * Wait for a token that need not be that of the session; for tcs.wait_for().
 *
 * The caller has no snapshot.  Throws if the token is not reached in time.
 */
void
tcs_gate_wait_for_token(const TcsToken *token, int max_wait_ms)
{
	int64		deadline = tcs_deadline_after(max_wait_ms);
	TcsRead		read;
	TcsContext *context = &read.context;
	TcsUnmet   *facts = &read.facts;
	TcsWaitResult result;

	memset(&read, 0, sizeof(read));
	tcs_choice_by_settings(&read.choice);

	do
	{
		tcs_context_build(context, &read.choice, token);
		facts->in_recovery = context->in_recovery;
		facts->one_snapshot = context->one_snapshot;
		facts->proof = tcs_proven.proof;
		tcs_requirement_make(TCS_LEVEL_SESSION, context, &facts->req);
		facts->reason = facts->req.reason;
		if (facts->reason != TCS_REASON_NONE)
		{
			facts->proof.at = context->at;
			break;
		}
		if (tcs_requirement_is_empty(&facts->req))
			return;
		tcs_swap_leave_conflicts();
		result = tcs_renew_wait(&read,
								!tcs_xact_statement_is_sole() || HaveRegisteredOrActiveSnapshot(),
								deadline, false);
		tcs_proof_raise(&tcs_proven.proof, &facts->proof);
		if (result == TCS_WAIT_MET || result == TCS_WAIT_DISABLED)
			return;
		facts->reason = tcs_renew_reason(facts, result);
	} while (result == TCS_WAIT_NOT_IN_RECOVERY);

	facts->now = tcs_now();
	tcs_fallback_error(facts);
}
