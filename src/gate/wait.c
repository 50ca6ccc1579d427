/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  Waiting until a requirement is met.
 *
 * NOTES
 *	  The mechanism only: it says how a wait ended and throws nothing but what
 *	  CHECK_FOR_INTERRUPTS() throws.  What to do about it is decided in
 *	  gate/gate.c.
 *
 *	  The caller holds no snapshot, or says that it is "holding": then replay
 *	  may come to need what the session has (a lock, a snapshot, a pin), and
 *	  the wait would be for itself, unseen by the deadlock detector.  Such a
 *	  wait is capped, and ends as soon as the worker sees that replay waits for
 *	  a session.
 *
 *	  A wait ends at its deadline, by an interrupt, when the position is
 *	  reached, at promotion, when tcs is switched off, and with the postmaster;
 *	  and when replay goes on to another timeline, on whose history the position
 *	  may not lie.
 *
 *	  It is not begun, or ends as at the deadline, where it is certain that it
 *	  cannot help: replay has come to its recovery target, or an answer is
 *	  needed and nobody is set up to be asked.  A pause can be ended at any
 *	  moment, and how old the commit is that recovery_min_apply_delay holds back
 *	  is not known here: both are waited for.  (Who can be redirected gives up
 *	  earlier: see why_in_vain().)
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "storage/proc.h"

#include "base/compat.h"
#include "base/relax.h"
#include "base/settings.h"
#include "base/switch.h"
#include "gate/wait.h"
#include "primary/commits_in_flight.h"
#include "standby/freshness.h"
#include "standby/replay.h"
#include "standby/wait_queue.h"

/* Longest wait while holding something, whatever tcs.max_wait says. */
#define TCS_HOLDING_CAP_US		10000000

/* More than the longest pause of replay that waits for a snapshot, which is 1 s. */
#define TCS_REPLAY_PAUSE_US		2000000

/* A distance from which on the rate of replay says when it will be there. */
#define TCS_FAR_BYTES			(1024 * 1024)

/* From one look whether the primary is gone to the next, in us. */
#define TCS_LOOK_US				1000000

/* Longest sleep where nobody will wake us, in us. */
#define TCS_POLL_US				20000

/* The instant at which a wait that starts now has to end. */
int64
tcs_deadline_after(int max_wait_ms)
{
	return max_wait_ms < 0 ? PG_INT64_MAX : tcs_now() + (int64) max_wait_ms * 1000;
}

/*
 * Sleep until replay comes to a position, or for a while.
 *
 * From 19 on, core's own queue wakes us without the detour over the worker;
 * but it does not know that a holding session must give way.
 */
static void
sleep_for_position(TcsPosition target, bool holding, int64 timeout_us,
				   TcsSleep *sleep)
{
	TcsPosition at = tcs_fresh_position();
	TcsLinkInfo link;

	/* it came while we got here: no reason to sleep */
	if (tcs_position_reached(target, at))
		return;
	if (target.lsn <= at.lsn)
	{
		/*
		 * The number is reached, the timeline is not: nothing to compare
		 * with, so look again soon.
		 */
		target.lsn = PG_UINT64_MAX - 1;
		timeout_us = Min(timeout_us, TCS_POLL_US);
	}
#ifdef TCS_HAVE_WAIT_FOR_LSN
	else if (!holding)
	{
		tcs_queue_sleep_in_core(target, timeout_us);
		return;
	}
#endif

	/* without a worker nobody wakes us */
	tcs_fresh_get_link(&link);
	if (link.worker_pid == 0)
		timeout_us = Min(timeout_us, TCS_POLL_US);

	sleep->kind = TCS_SLEEP_REPLAY;
	sleep->target = target;
	sleep->holding = holding;
	tcs_queue_sleep(sleep, timeout_us);
}

/*
 * Does replay wait for a snapshot, which this session has not (any more)?
 *
 * It waits for transactions that had one, and looks at each again after a pause
 * that grows up to a second; that ours has a new virtual id (see
 * tcs_swap_leave_conflicts()) it learns no sooner.  Who is still in its way after
 * that is another session, or it is another snapshot.
 */
static bool
replay_is_about_to_see(int64 started)
{
	return MyProc->xmin == InvalidTransactionId &&
		tcs_replay_waits_for_snapshot() &&
		tcs_now() - started < TCS_REPLAY_PAUSE_US;
}

/* Why an answer of the primary will not come in time; NULL if it may. */
static const char *
why_no_answer(void)
{
	TcsLinkInfo link;

	tcs_fresh_get_link(&link);
	if (link.worker_pid == 0)
		return "the worker that asks the primary is not running";
	if (link.state == TCS_LINK_DOWN || link.state == TCS_LINK_STALLED ||
		link.state == TCS_LINK_REFUSED)
		return "the primary cannot be asked";
	return NULL;
}

/*
 * Why replay will not come to a position by the deadline; NULL if it may.
 *
 * The rate of replay is what it has had to do, not what it can do, unless it is
 * far behind.
 */
static const char *
why_hopeless(XLogRecPtr target, XLogRecPtr reached, int64 deadline)
{
	double		rate;

	if (target <= reached)
		return NULL;
	if (GetRecoveryPauseState() != RECOVERY_NOT_PAUSED)
		return "replay is paused";
	if (recovery_min_apply_delay > 0)
		return "replay is delayed by recovery_min_apply_delay";
	if (target - reached < TCS_FAR_BYTES)
		return NULL;
	rate = tcs_fresh_replay_rate();
	if (rate > 0 && (target - reached) / rate * 1000000.0 > (double) (deadline - tcs_now()))
		return "replay is too far behind for its present rate";
	return NULL;
}

/* Why a requirement will not be met by the deadline; NULL if it may. */
static const char *
why_in_vain(const TcsRequirement *req, const TcsProof *proof, int64 deadline)
{
	XLogRecPtr	wanted = tcs_requirement_position(req).lsn;
	TcsAnswer	target;

	if (req->fresh_after != 0 && req->target.lsn == InvalidXLogRecPtr &&
		proof->fresh_at < req->fresh_after)
	{
		const char *unasked = NULL;

		if (tcs_fresh_target(req->fresh_after, &target))
			wanted = Max(wanted, target.at.lsn);
		else
			unasked = why_no_answer();
		if (unasked)
			return unasked;
	}
	return why_hopeless(wanted, proof->at.lsn, deadline);
}

/*
 * Does a requirement need an answer of the primary that has not come?  One that
 * has come need only be replayed, and replay goes on from WAL that is here.
 */
static bool
lacks_answer(const TcsRequirement *req, const TcsProof *proof, const TcsAnswer *own)
{
	TcsAnswer	answer;

	return req->need_newest ||
		!(req->fresh_after == 0 || proof->fresh_at >= req->fresh_after ||
		  own->asked_at >= req->fresh_after ||
		  tcs_fresh_target(req->fresh_after, &answer));
}

static inline bool
is_set(const char *setting)
{
	return setting != NULL && setting[0] != '\0';
}

/*
 * Is it certain that a requirement that is not met will not be, however long is
 * waited?
 *
 * Two settings are looked at as this session knows them, and the worker, which
 * may have read newer ones, must have come to the same result.  They are read
 * here, since only a read that waits needs them; see context.c.
 */
static bool
is_in_vain(const TcsRequirement *req, const TcsProof *proof, const TcsAnswer *own)
{
	bool		ended = tcs_replay_has_ended();
	TcsLinkInfo link;
	bool		can_ask = is_set(tcs_primary_conninfo) || is_set(PrimaryConnInfo);

	if (can_ask && !ended)
		return false;

	if (!lacks_answer(req, proof, own))
		return ended;
	if (can_ask)
		return false;
	tcs_fresh_get_link(&link);
	return link.state == TCS_LINK_DOWN;
}

/*
 * When is a wait for an answer to be given up that began at an instant?
 *
 * Before its deadline if the primary is known to be gone by then: while that
 * lasts, reads must not cost their whole tcs.max_wait each.  It makes no
 * difference whether the wait began before; the next read of that client would
 * be refused at once.  Who set tcs.max_wait to -1 wants the answer, whenever it comes.
 *
 * A read that only waits for replay is none of this.  What its token names may
 * have been received already, or come from another server.
 *
 * The setting is read here, since only a read that waits needs it; see context.c.
 */
static int64
deadline_for_answer(int64 started, int64 deadline)
{
	int64		gone_at;

	if (tcs_max_wait_unknown < 0)
		return deadline;
	gone_at = tcs_fresh_gone_at();
	return Min(deadline, Max(started + (int64) tcs_max_wait_unknown * 1000, gone_at));
}

/*
 * Is the primary gone, so that no more time is to be spent on its answer?  Else
 * *timeout_us is how long to sleep before the next look.
 *
 * "probing": this read waits as if nothing was known.  Set here, if no other does.
 */
static bool
primary_is_gone(int64 started, int64 deadline, bool *probing, int64 *timeout_us)
{
	int64		left;

	if (*probing)
		return false;
	left = deadline_for_answer(started, deadline) - tcs_now();
	if (left <= 0 && !tcs_fresh_may_probe(deadline))
		return true;
	*probing = left <= 0;
	if (!*probing)
		*timeout_us = Min(*timeout_us, Min(left, TCS_LOOK_US));
	return false;
}

/*
 * Has the primary's quorum confirmed that it was one when the read came, if that
 * is asked for?  Only a primary of the timeline that proves the read fresh can
 * tell so.
 */
static TcsConfirmVerdict
leadership_confirmed(const TcsRequirement *req, const TcsProof *proof,
					 TcsConfirmation *wanted)
{
	TcsConfirmed confirmed;

	if (!req->confirm)
		return TCS_CONFIRM_YES;
	wanted->asked_at = req->fresh_after;
	wanted->at.tli = proof->at.tli;
	wanted->at.lsn = InvalidXLogRecPtr;
	tcs_fresh_confirmed(&confirmed);
	return tcs_fresh_confirms(&confirmed, wanted);
}

/*
 * Sleep for what comes next: the position, the confirmation of the primary's being
 * one, the position of an answer, or an answer.
 */
static void
sleep_for_requirement(TcsRequirement *req, const TcsProof *proof, TcsConfirmVerdict leadership,
					  const TcsAnswer *own, bool holding, int64 timeout_us, TcsSleep *sleep)
{
	TcsAnswer	target;

	if (req->needed.lsn != InvalidXLogRecPtr &&
		!tcs_position_reached(req->needed, proof->at))
		sleep_for_position(req->needed, holding, timeout_us, sleep);
	else if (leadership == TCS_CONFIRM_WAIT)
	{
		/* the question for it is one for the read index, too */
		sleep->kind = TCS_SLEEP_CONFIRMATION;
		sleep->holding = holding;
		tcs_queue_sleep(sleep, timeout_us);
	}
	else if (own->asked_at >= req->fresh_after && own->asked_at != 0)
	{
		req->target = own->at;
		sleep_for_position(own->at, holding, timeout_us, sleep);
	}
	else if (tcs_fresh_target(req->fresh_after, &target))
	{
		req->target = target.at;
		sleep_for_position(target.at, holding, timeout_us, sleep);
	}
	else
	{
		sleep->kind = TCS_SLEEP_ANSWER;
		sleep->holding = holding;
		tcs_queue_sleep(sleep, timeout_us);
	}
}

/*
 * Wait until this standby has replayed what a requirement asks for.
 *
 * Where a confirmation is asked for, that of the primary's being one is waited for
 * as well: its quorum is asked while replay goes on.  What the snapshot will show
 * can be confirmed only after it was taken.
 *
 * deadline is an instant of tcs_now(); PG_INT64_MAX: none.  A wait for an answer may
 * be given up before, see deadline_for_answer().  On return *proof
 * is what can be proved of any snapshot taken from now on, however the wait
 * ended.  With "hopeless" it also ends as soon as it is known to be hopeless, and
 * *hopeless is why.  The proof is read before it is compared and the caller takes its
 * snapshot after, so nothing slips in between.
 */
TcsWaitResult
tcs_wait_for_replay(TcsRequirement *req, int64 deadline, bool holding,
					const char **hopeless, TcsProof *proof)
{
	TcsAnswer	own = {0};		/* an answer handed to us */
	bool		waited = false;
	bool		probing = deadline == PG_INT64_MAX;
	int64		started = tcs_now();

	if (holding)
		deadline = Min(deadline, started + TCS_HOLDING_CAP_US);

	for (;;)
	{
		TcsSleep	sleep = {.since = started};
		TcsAnswer	target;
		TcsConfirmVerdict leadership;
		int64		timeout_us;

		if (!RecoveryInProgress())
			return TCS_WAIT_NOT_IN_RECOVERY;

		tcs_fresh_prove(own.asked_at ? &own : NULL, proof);
		if (proof->at.tli != req->made_on)
			return TCS_WAIT_OTHER_TIMELINE;
		if (req->need_newest && tcs_fresh_newest(&target))
			tcs_requirement_add_lag(req, true, &target, req->max_lag, proof->at);
		leadership = leadership_confirmed(req, proof, &sleep.confirmation);
		if (leadership != TCS_CONFIRM_WAIT && tcs_requirement_met(req, proof))
			return leadership == TCS_CONFIRM_YES ? TCS_WAIT_MET : TCS_WAIT_NO_QUORUM;

		/*
		 * The worker's view is newer than ours only if we have a reload to
		 * do; otherwise it is the worker that has not done its own.
		 */
		if (ConfigReloadPending && !tcs_switch_is_on())
			return TCS_WAIT_DISABLED;
		if (tcs_relax_began_after(started))
			return TCS_WAIT_RELAXED;
		sleep.again = waited;
		timeout_us = deadline - tcs_now();
		if (timeout_us <= 0)
			return TCS_WAIT_TIMEOUT;
		/* the worker has seen it wait; it may have gone on since */
		if (holding && tcs_queue_replay_blocked_after(started) &&
			tcs_replay_waits_for_session() && !replay_is_about_to_see(started))
			return TCS_WAIT_BLOCKING;
		if (is_in_vain(req, proof, &own))
			return TCS_WAIT_TIMEOUT;
		if (hopeless)
		{
			*hopeless = why_in_vain(req, proof, deadline);
			if (*hopeless)
				return TCS_WAIT_HOPELESS;
		}
		if ((leadership == TCS_CONFIRM_WAIT || lacks_answer(req, proof, &own)) &&
			primary_is_gone(started, deadline, &probing, &timeout_us))
			return TCS_WAIT_TIMEOUT;

		sleep_for_requirement(req, proof, leadership, &own, holding, timeout_us, &sleep);
		if (sleep.answer.asked_at != 0)
		{
			own = sleep.answer;
			req->target = own.at;
		}
		waited = true;
	}
}

/*
 * Wait for an answer of the primary that was asked for at or after an instant,
 * whether replay has come to it or not.  Ends at once if the primary is known to
 * give none.
 *
 * The caller may hold a snapshot and locks, as for a confirmation, but not for
 * long.
 */
TcsWaitResult
tcs_wait_for_answer(int64 asked_after, int64 deadline, TcsAnswer *answer)
{
	int64		started = tcs_now();

	deadline = Min(deadline, started + TCS_HOLDING_CAP_US);
	for (;;)
	{
		TcsSleep	sleep = {.kind = TCS_SLEEP_ANSWER,.since = started};
		int64		timeout_us;

		if (tcs_fresh_target(asked_after, answer))
			return TCS_WAIT_MET;
		if (!RecoveryInProgress())
			return TCS_WAIT_NOT_IN_RECOVERY;
		if (ConfigReloadPending && !tcs_switch_is_on())
			return TCS_WAIT_DISABLED;
		if (tcs_relax_began_after(started))
			return TCS_WAIT_RELAXED;
		timeout_us = deadline - tcs_now();
		if (timeout_us <= 0 || why_no_answer() != NULL)
			return TCS_WAIT_TIMEOUT;
		tcs_queue_sleep(&sleep, timeout_us);
		if (sleep.answer.asked_at != 0 && sleep.answer.asked_at >= asked_after)
		{
			*answer = sleep.answer;
			return TCS_WAIT_MET;
		}
	}
}

/*
 * Wait until the primary's quorum has confirmed something.  *confirmed is what it
 * has, however the wait ends.
 *
 * The caller may hold a snapshot and locks.  Replay is not what is waited for, so
 * it cannot come to wait for the wait.
 */
TcsWaitResult
tcs_wait_for_confirmation(const TcsConfirmation *wanted, int64 deadline,
						  TcsConfirmed *confirmed)
{
	bool		probing = deadline == PG_INT64_MAX;
	int64		started = tcs_now();

	for (;;)
	{
		TcsSleep	sleep = {.kind = TCS_SLEEP_CONFIRMATION,.confirmation = *wanted,.since = started};
		int64		timeout_us;

		tcs_fresh_confirmed(confirmed);
		switch (tcs_fresh_confirms(confirmed, wanted))
		{
			case TCS_CONFIRM_YES:
				return TCS_WAIT_MET;
			case TCS_CONFIRM_NO_QUORUM:
				return TCS_WAIT_NO_QUORUM;
			case TCS_CONFIRM_WAIT:
				break;
		}
		if (!RecoveryInProgress())
			return TCS_WAIT_NOT_IN_RECOVERY;
		if (tcs_fresh_position().tli != wanted->at.tli)
			return TCS_WAIT_OTHER_TIMELINE;
		if (ConfigReloadPending && !tcs_switch_is_on())
			return TCS_WAIT_DISABLED;
		if (tcs_relax_began_after(started))
			return TCS_WAIT_RELAXED;
		timeout_us = deadline - tcs_now();
		if (timeout_us <= 0 || primary_is_gone(started, deadline, &probing, &timeout_us))
			return TCS_WAIT_TIMEOUT;
		tcs_queue_sleep(&sleep, timeout_us);
	}
}

/* Sleep a millisecond, for what nobody will wake us for. */
void
tcs_wait_briefly(void)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = tcs_wait_event_compat("TcsCommit");
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 1, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * On a primary: wait until no commit record below a position can belong to a
 * transaction that is not visible yet.
 *
 * Commits take microseconds, or as long as a synchronous standby lets them
 * wait; there is nobody to wake us, and few to ask.
 */
TcsWaitResult
tcs_wait_for_commits(XLogRecPtr upto, int64 deadline)
{
	int64		started = tcs_now();

	while (tcs_commits_under_way(upto))
	{
		if (ConfigReloadPending && !tcs_switch_is_on())
			return TCS_WAIT_DISABLED;
		if (tcs_relax_began_after(started))
			return TCS_WAIT_RELAXED;
		if (tcs_now() >= deadline)
			return TCS_WAIT_TIMEOUT;
		tcs_wait_briefly();
	}
	return TCS_WAIT_MET;
}
