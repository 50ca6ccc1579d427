/*-------------------------------------------------------------------------
 *
 * renew.c
 *	  Waiting until a requirement is met, or redirecting, and a new snapshot then.
 *
 * NOTES
 *	  The statement's snapshot, and its locks where nothing else is held, are given
 *	  back, the position is read, and waited for if need be, and then a new
 *	  snapshot is taken.  Position first, snapshot second: what is replayed in
 *	  between is in the snapshot as well.
 *
 *	  The order of the steps is that of renew_decide.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/xact.h"
#include "gate/gate.h"
#include "gate/read.h"
#include "gate/redirect_attempt.h"
#include "gate/snapshot_swap.h"
#include "gate/transaction.h"
#include "primary/commits_in_flight.h"
#include "redirect/redirect_server.h"
#include "session/proof.h"
#include "standby/freshness.h"
#include "standby/lease_held.h"

/* Why a wait that has not met its requirement failed. */
TcsReason
tcs_renew_reason(const TcsUnmet *facts, TcsWaitResult result)
{
	const TcsRequirement *req = &facts->req;
	TcsAnswer	target;

	if (req->reason != TCS_REASON_NONE)
		return req->reason;
	if (result == TCS_WAIT_BLOCKING)
		return TCS_REASON_BLOCKING;
	if (result == TCS_WAIT_NO_QUORUM)
		return TCS_REASON_NO_QUORUM;
	if (req->confirm && tcs_requirement_met(req, &facts->proof))
		return TCS_REASON_UNCONFIRMED;
	if (req->needed.lsn != InvalidXLogRecPtr &&
		!tcs_position_reached(req->needed, facts->proof.at))
		return TCS_REASON_BEHIND;
	if (req->fresh_after != 0 && tcs_fresh_target(req->fresh_after, &target))
		return TCS_REASON_BEHIND;
	return req->fresh_after != 0 ? TCS_REASON_UNKNOWN : TCS_REASON_BEHIND;
}

/*
 * Prove what can be proved of a snapshot that is taken after this call, also by a read
 * lease.  A quorum's confirmation is no matter of a lease.
 */
static void
prove_to_come(TcsUnmet *facts)
{
	const TcsRequirement *req = &facts->req;
	int64		now;

	tcs_fresh_prove(NULL, &facts->proof);
	if (!facts->may_use_lease || req->fresh_after == 0 || req->confirm ||
		facts->proof.fresh_at >= req->fresh_after)
		return;
	now = tcs_now();
	if (!tcs_held_is_valid())
		return;
	facts->by_lease = true;
	facts->proof.fresh_at = now;
}

/* Wait on a standby or on a primary, as the node is, on one timeline. */
static TcsWaitResult
wait_on_timeline(TcsUnmet *facts, bool holding, int64 deadline, bool impatient)
{
	int64		start = tcs_now();
	TcsWaitResult result;

	if (facts->in_recovery)
	{
		/* the first look is not a wait */
		prove_to_come(facts);
		if (facts->proof.at.tli != facts->req.made_on)
			return TCS_WAIT_OTHER_TIMELINE;
		if (tcs_requirement_met(&facts->req, &facts->proof))
			return TCS_WAIT_MET;
		result = tcs_wait_for_replay(&facts->req, deadline, holding,
									 impatient ? &facts->hopeless : NULL, &facts->proof);
	}
	else
	{
		if (facts->req.reason != TCS_REASON_NONE)
			return TCS_WAIT_TIMEOUT;	/* there is nothing to wait for */
		if (!tcs_commits_under_way(facts->req.needed.lsn))
			result = TCS_WAIT_MET;
		else
			result = tcs_wait_for_commits(facts->req.needed.lsn, deadline);
		if (result == TCS_WAIT_MET)
		{
			if (facts->req.needed.lsn != InvalidXLogRecPtr)
				facts->proof.at = facts->req.needed;
			if (tcs_now() - start < 1000)
				return result;
		}
	}
	if (result == TCS_WAIT_TIMEOUT && !impatient)
		tcs_stats_count_timeout(facts->req.level);
	/* a look that found nothing to wait for, or had no time to, is no wait */
	if (deadline > start)
		facts->waited_us += tcs_now() - start;
	return result;
}

/*
 * A read that asked for what the primary had acknowledged has waited while
 * history went on without that primary: refuse, unless what the former primary
 * told is part of this history (lsn 0: it has told nothing).  Otherwise the read
 * may have been left without it for ever, whatever the new primary says: what is
 * told on a newer timeline than the read began on is told by that one.
 */
static void
require_former_primary(TcsUnmet *facts, const TcsContext *context,
					   TimeLineID began_on, TcsPosition told)
{
	/* the token is what decides, if it refuses already */
	if (facts->req.reason != TCS_REASON_NONE ||
		(told.lsn != InvalidXLogRecPtr && told.tli <= began_on &&
		 tcs_history_has(context->history, told)))
		return;
	facts->req.reason = TCS_REASON_UNKNOWN;
	facts->req.detail = "The primary changed during the wait, and what the former one had acknowledged before may be lost.";
	facts->req.hint = "Retry: a statement that starts now asks the new primary.";
}

/*
 * Wait, wherever replay goes.
 *
 * A position lies on the history of a node or it does not, and that can change
 * when the node follows another timeline: the requirement is made again then.
 * If it cannot be met on the new history, the result is a timeout, and
 * facts->req.reason says why.  "impatient": end as soon as it is known to be in
 * vain.
 */
TcsWaitResult
tcs_renew_wait(TcsRead *read, bool holding, int64 deadline, bool impatient)
{
	TcsContext *context = &read->context;
	TcsUnmet   *facts = &read->facts;
	TcsWaitResult result;

	for (;;)
	{
		TimeLineID	began_on = facts->req.made_on;
		TcsPosition target;
		bool		waited_for_answer = facts->req.fresh_after != 0;

		result = wait_on_timeline(facts, holding, deadline, impatient);
		if (result == TCS_WAIT_RELAXED)
		{
			if (!tcs_read_ask_for_less(read))
				continue;
			waited_for_answer = false;
		}
		else if (result != TCS_WAIT_OTHER_TIMELINE)
			break;
		target = facts->req.target;
		tcs_read_renew_context(read);
		if (facts->in_recovery && !context->in_recovery)
			return TCS_WAIT_NOT_IN_RECOVERY;
		tcs_requirement_make(facts->req.level, context, &facts->req);
		if (waited_for_answer)
			require_former_primary(facts, context, began_on, target);
		if (facts->req.reason != TCS_REASON_NONE)
			return TCS_WAIT_TIMEOUT;
	}
	return result;
}

/*
 * Promotion ended the wait: what is asked of a primary is another thing.  Its
 * snapshot is newer than the promotion, so all that was replayed is in it.
 *
 * What the former primary had acknowledged is another matter.  A read that
 * waited for its answer, or for WAL that its answer named, can have been left
 * without it for ever.
 */
void
tcs_renew_judge_promoted(TcsRead *read)
{
	TcsContext *context = &read->context;
	TcsUnmet   *facts = &read->facts;
	TimeLineID	began_on = facts->req.made_on;
	bool		waited_for_answer = facts->req.fresh_after != 0;
	TcsAnswer	answer = {.at = facts->req.target};

	if (waited_for_answer && answer.at.lsn == InvalidXLogRecPtr)
		(void) tcs_fresh_target(facts->req.fresh_after, &answer);

	tcs_read_renew_context(read);
	tcs_requirement_make(facts->req.level, context, &facts->req);
	if (waited_for_answer)
		require_former_primary(facts, context, began_on, answer.at);
	(void) tcs_read_drop_lost_token(read);
	/* its quorum has been asked by nobody yet */
	if (facts->req.confirm && facts->req.reason == TCS_REASON_NONE)
	{
		facts->req.reason = TCS_REASON_UNKNOWN;
		facts->req.detail = "This server was promoted while the read waited.";
		facts->req.hint = "Retry the statement.";
	}
	facts->in_recovery = false;
	facts->reason = facts->req.reason;
	facts->proof.at = context->at;
	read->met = tcs_requirement_is_empty(&facts->req) ||
		tcs_requirement_met(&facts->req, &facts->proof);
}

/* Is a redirect to be tried when the wait is over? */
bool
tcs_renew_can_redirect(const TcsRead *read)
{
	const TcsSite *site = &read->site;
	const TcsUnmet *facts = &read->facts;

	return facts->in_recovery && read->context.may_redirect &&
		facts->req.reason != TCS_REASON_NO_TOKEN &&
		!(site->fix_snapshot && !tcs_xact_statement_is_sole()) &&
		tcs_fallback_has_redirect(read->choice.fallback) &&
		tcs_redirect_is_possible(site);
}

/*
 * Is it a statement that holds nothing but the locks of its own analysis, and can
 * give them back?  It is analysed again then.
 *
 * Planning keeps them if its statement may be redirected after a short wait.
 * Analysis would wait for a lock that replay may hold for long.
 */
static bool
gives_back_locks(const TcsRead *read)
{
	const TcsSite *site = &read->site;

	return (site->kind == TCS_SITE_UTILITY ||
			(site->kind == TCS_SITE_PLANNER && site->reanalyzable && !tcs_read_waits_briefly(read))) &&
		site->holding && tcs_xact_statement_is_sole() && !HaveRegisteredOrActiveSnapshot();
}

/*
 * Has the primary that this standby asks told that it has a position?  Then it
 * is not lost, and who says so is not that primary.
 */
static bool
primary_had(const TcsContext *context, TcsPosition at)
{
	return context->have_newest && tcs_position_reached(at, context->newest.at);
}

/* Why a statement is redirected, for EXPLAIN. */
static char *
describe_reason(const TcsUnmet *facts)
{
	return psprintf("%s at level %s, after a wait of %.0f ms%s%s",
					tcs_reason_text(facts->reason), tcs_level_name(facts->req.level),
					facts->waited_us / 1000.0,
					facts->hopeless ? ": " : "",
					facts->hopeless ? facts->hopeless : "");
}

/* Try to have the statement run on the primary.  Else the facts say why not. */
static bool
try_redirect(TcsRead *read)
{
	TcsUnmet   *facts = &read->facts;
	TcsRedirectAttempt attempt = {
		.level = facts->req.level,
		.token = read->context.token,
		.whole = read->context.one_snapshot,
		.why = describe_reason(facts)
	};

	if (!tcs_redirect_try(&read->site, &attempt))
	{
		facts->redirect_failure = attempt.failure;
		facts->redirect_cause = attempt.cause;
		if (attempt.lost && !primary_had(&read->context, facts->req.token_at))
		{
			facts->req.reason = TCS_REASON_LOST;
			facts->req.detail = attempt.lost;
		}
		return false;
	}
	/* of the snapshot that the statement has there */
	if (!read->site.explain_only)
	{
		facts->proof.at = attempt.shown;
		facts->proof.fresh_at = 0;
	}
	return true;
}

/* Whatever can be said of the quorum, for a message. */
static void
note_quorum(TcsUnmet *facts)
{
	TcsConfirmed confirmed;

	if (!facts->req.confirm || !facts->in_recovery)
		return;
	tcs_fresh_confirmed(&confirmed);
	facts->confirmed = confirmed.best.at.lsn;
	facts->quorum = confirmed.problem;
}

/*
 * Give the snapshot back, and the locks as well unless a first look finds that
 * there is nothing to wait for.  Returns whether the session still holds what
 * replay may wait for.
 */
static bool
give_back(TcsRead *read)
{
	TcsSite    *site = &read->site;
	TcsUnmet   *facts = &read->facts;
	bool		holding;

	tcs_swap_drop_snapshot(site);

	/*
	 * what may run elsewhere is analysed here, so it keeps its locks until
	 * then
	 */
	holding = (site->holding && (read->can_redirect || !gives_back_locks(read))) ||
		HaveRegisteredOrActiveSnapshot() ||
		(site->kind != TCS_SITE_BARE && !tcs_xact_statement_is_sole());

	site->locks_released = false;
	if (!facts->in_recovery)
		return holding;
	prove_to_come(facts);
	if (tcs_requirement_met(&facts->req, &facts->proof))
		return holding;
	site->locks_released = !holding &&
		(site->kind == TCS_SITE_QUERY || gives_back_locks(read));
	if (site->locks_released)
		tcs_swap_release_locks(site);
	InvalidateCatalogSnapshot();
	if (site->kind != TCS_SITE_BARE)
		tcs_swap_leave_conflicts();
	return holding;
}

/* Wait, as a read does that may be redirected when it has waited for a moment. */
static void
wait_briefly(TcsRead *read, TcsRenewal *renewal)
{
	int64		redirect_at = tcs_deadline_after(read->context.redirect_after);

	/* the server that was looked up may not hold replay back */
	if (!renewal->can_redirect)
		InvalidateCatalogSnapshot();
	renewal->result = tcs_renew_wait(read, renewal->holding,
									 Min(renewal->deadline, redirect_at), true);
}

/* Wait as long as it may. */
static void
wait_long(TcsRead *read, TcsRenewal *renewal)
{
	/* nothing that we have looked up may hold replay back */
	InvalidateCatalogSnapshot();
	if (renewal->can_redirect)
		tcs_swap_leave_conflicts();
	renewal->result = tcs_renew_wait(read, renewal->holding, renewal->deadline, false);
}

static void
redirect_read(TcsRead *read, TcsRenewal *renewal)
{
	TcsSite    *site = &read->site;

	/* while it runs there, replay must not wait for its locks here */
	if (!renewal->holding && !site->locks_released)
	{
		tcs_swap_release_locks(site);
		site->locks_released = true;
	}
	if (try_redirect(read))
		renewal->result = TCS_WAIT_REDIRECTED;
}

static void
release_locks(TcsRead *read, TcsRenewal *renewal)
{
	tcs_swap_release_locks(&read->site);
	read->site.locks_released = true;
	renewal->holding = false;
}

/* The token can be lost during the wait, and the primary can have said so. */
static void
drop_token(TcsRead *read, TcsRenewal *renewal)
{
	(void) tcs_read_drop_lost_token(read);
	renewal->holding = renewal->holding && !read->site.locks_released;
	renewal->deadline = tcs_deadline_after(read->choice.max_wait);
}

/* Note why the wait has not met the requirement. */
static void
note_reason(TcsRead *read, TcsRenewal *renewal)
{
	TcsUnmet   *facts = &read->facts;

	facts->reason = read->gave_up && tcs_gave_up.reason == TCS_REASON_BLOCKING ?
		TCS_REASON_BLOCKING : tcs_renew_reason(facts, renewal->result);
	note_quorum(facts);
}

/* What the next step goes by, as it is now. */
static void
look_again(TcsRead *read, TcsRenewal *renewal)
{
	const TcsSite *site = &read->site;
	TcsUnmet   *facts = &read->facts;
	TcsLevel	served_at;

	renewal->unmeetable = facts->req.reason != TCS_REASON_NONE;
	renewal->token_is_lost = read->may_drop_token && tcs_reason_is_lost(facts->req.reason);
	renewal->redirect_is_next = renewal->refuse_is_next = false;
	if (!tcs_renewal_is_unmet(renewal))
		return;
	renewal->can_release = gives_back_locks(read);
	if (renewal->tried & TCS_RENEWED_REASON)
		renewal->refuse_is_next = (tcs_site_is_read(site) ||
								   (site->kind == TCS_SITE_PLANNER && site->locks_released)) &&
			!site->explain_only &&
			tcs_fallback_decide(read->choice.fallback, &read->context, facts, false,
								&served_at) == TCS_VERDICT_REFUSE;
	else if (renewal->can_redirect && !(renewal->tried & TCS_RENEWED_REDIRECT))
	{
		facts->reason = tcs_renew_reason(facts, renewal->result);
		renewal->redirect_is_next =
			tcs_fallback_decide(read->choice.fallback, &read->context, facts, true,
								&served_at) == TCS_VERDICT_REDIRECT;
	}
}

/* Take the steps of renew_decide.c, until there is a result. */
static TcsWaitResult
take_steps(TcsRead *read, bool holding)
{
	TcsRenewal	renewal = {
		.can_redirect = read->can_redirect,
		.may_come_late = tcs_read_waits_briefly(read),
		.holding = holding,
		.deadline = read->deadline
	};

	for (;;)
	{
		TcsRenewStep step = tcs_renew_decide(&renewal);

		switch (step)
		{
			case TCS_RENEW_END:
				return renewal.result;
			case TCS_RENEW_WAIT_BRIEFLY:
				wait_briefly(read, &renewal);
				break;
			case TCS_RENEW_REDIRECT:
				redirect_read(read, &renewal);
				break;
			case TCS_RENEW_RELEASE_LOCKS:
				release_locks(read, &renewal);
				break;
			case TCS_RENEW_WAIT:
				wait_long(read, &renewal);
				break;
			case TCS_RENEW_DROP_TOKEN:
				drop_token(read, &renewal);
				break;
			case TCS_RENEW_NOTE_REASON:
				note_reason(read, &renewal);
				break;
			case TCS_RENEW_REFUSE:
				tcs_read_refuse(read);
				break;
		}
		renewal.tried = tcs_renew_tried(renewal.tried, step);
		look_again(read, &renewal);
	}
}

/*
 * What was proved before the snapshot was taken holds for it; in REPEATABLE READ,
 * for the transaction's.
 */
static void
note_renewed(TcsRead *read)
{
	if (read->site.fix_snapshot)
	{
		read->context.one_snapshot = read->facts.one_snapshot = true;
		tcs_transaction_note(read->context.arrival);
		tcs_transaction.by_level = true;
	}
	if (tcs_transaction.lxid == tcs_xact_id())
		tcs_transaction.proof = read->facts.proof;
}

/*
 * Renew the statement's snapshot, so that it meets the requirement if that can be.
 * Throws where the fallback is to refuse.  read->result says what came of it.
 */
void
tcs_renew_snapshot(TcsRead *read)
{
	TcsSite    *site = &read->site;
	TcsUnmet   *facts = &read->facts;
	bool		holding;

	read->deadline = tcs_deadline_after(site->explain_only ? read->context.redirect_after :
										read->choice.max_wait);

	if (!read->can_redirect && tcs_site_is_read(site) && facts->in_recovery &&
		tcs_fallback_has_redirect(read->choice.fallback) && tcs_server_exists())
		facts->redirect_failure = "a statement of this kind stays on this node";
	if (read->gave_up)
		facts->waited_us = tcs_gave_up.waited_us;
	/* waited for already, or not to be had by waiting */
	if (read->gave_up || facts->req.reason != TCS_REASON_NONE)
		read->deadline = 0;

	holding = give_back(read);
	read->result = take_steps(read, holding);
	if (read->result == TCS_WAIT_MET)
		facts->reason = TCS_REASON_NONE;
	if (site->locks_released && !site->redirected && site->kind == TCS_SITE_QUERY)
		tcs_swap_retake_locks(site);

	/*
	 * holds for all snapshots from now on, also for the one that a new plan
	 * goes by
	 */
	if (read->result != TCS_WAIT_REDIRECTED)
		tcs_proof_raise(&tcs_proven.proof, &facts->proof);
	tcs_swap_take_snapshot(site);

	if (read->result != TCS_WAIT_REDIRECTED)
		note_renewed(read);
	else if (site->fix_snapshot)
		tcs_redirected_in = tcs_xact_id();
}
