/*-------------------------------------------------------------------------
 *
 * confirm.c
 *	  Level "linearizable": has a quorum confirmed what a read shows?
 *
 * NOTES
 *	  When the snapshot is taken, what it can show is bounded by the position read
 *	  next, and a quorum has to confirm that before the first row goes out.  That
 *	  wait comes after the snapshot, so it is the one that functions may be made
 *	  to wait for as well: their statements take newer snapshots.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"

#include "base/compat.h"
#include "base/xact.h"
#include "gate/gate.h"
#include "gate/read.h"
#include "gate/snapshot_swap.h"
#include "gate/transaction.h"
#include "primary/quorum.h"
#include "primary/read_index.h"
#include "standby/freshness.h"

/*
 * Is it a statement inside a function that only writes?  What it writes after
 * what it has read is confirmed with its transaction.
 */
static bool
shows_nothing(const TcsSite *site)
{
	return site->kind == TCS_SITE_NESTED && site->query_desc != NULL &&
		site->query_desc->operation != CMD_SELECT &&
		!site->query_desc->plannedstmt->hasReturning;
}

/*
 * On a standby, what it can show ends with the record that is being replayed: a
 * commit is visible before it counts as replayed.
 */
static TcsWaitResult
confirm_on_standby(TcsRead *read, int64 deadline)
{
	TcsUnmet   *facts = &read->facts;
	TcsConfirmation wanted = {.asked_at = facts->req.fresh_after};
	TcsConfirmed confirmed = {0};
	TcsWaitResult result;

	wanted.at.lsn = GetCurrentReplayRecPtr(&wanted.at.tli);
	facts->seen = wanted.at;
	/* if it is in recovery now, the snapshot was taken in it */
	if (!RecoveryInProgress() || wanted.at.tli != facts->proof.at.tli)
		result = TCS_WAIT_OTHER_TIMELINE;
	else
	{
		do
			result = tcs_wait_for_confirmation(&wanted, deadline, &confirmed);
		while (result == TCS_WAIT_RELAXED && !tcs_read_ask_for_less(read));
	}
	facts->confirmed = confirmed.best.at.lsn;
	facts->quorum = confirmed.problem;
	return result;
}

/*
 * On a primary, what it can show ends with all WAL, and the confirmation of more
 * than that is also one of its leadership; a statement inside a function has that
 * from the one that calls it, if that was confirmed itself.
 */
static TcsWaitResult
confirm_on_primary(TcsRead *read, int64 deadline)
{
	TcsUnmet   *facts = &read->facts;
	TcsQuorum	quorum;
	TcsQuorumResult result;

	facts->seen.tli = GetWALInsertionTimeLine();
	facts->seen.lsn = tcs_read_is_led_by_confirmed(read) ?
		tcs_readindex_make().lsn - 1 : GetXLogInsertRecPtr();
	do
		result = tcs_quorum_wait(facts->seen.lsn, deadline, &quorum);
	while (result == TCS_QUORUM_RELAXED && !tcs_read_ask_for_less(read));
	facts->confirmed = quorum.flushed;
	facts->quorum = quorum.state;
	switch (result)
	{
		case TCS_QUORUM_CONFIRMED:
			break;
		case TCS_QUORUM_TIMEOUT:
			return TCS_WAIT_TIMEOUT;
		case TCS_QUORUM_DISABLED:
			return TCS_WAIT_DISABLED;
		case TCS_QUORUM_RELAXED:
			return TCS_WAIT_RELAXED;
		case TCS_QUORUM_REFUSED:
			return TCS_WAIT_NO_QUORUM;
	}
	return TCS_WAIT_MET;
}

/*
 * The snapshot is taken: has a quorum confirmed all that it can show, and that the
 * primary was one when the read came?  Waits for it.  The bound is read after the
 * snapshot.
 *
 * Not met: facts.reason, with the numbers.
 */
bool
tcs_confirm_snapshot(TcsRead *read, int64 deadline)
{
	TcsUnmet   *facts = &read->facts;
	int64		start = tcs_now();
	TcsWaitResult result;

	if (!facts->req.confirm || shows_nothing(&read->site))
		return true;
	result = facts->in_recovery ? confirm_on_standby(read, deadline) :
		confirm_on_primary(read, deadline);
	facts->waited_us += tcs_now() - start;

	switch (result)
	{
		case TCS_WAIT_MET:
		case TCS_WAIT_DISABLED:
			if (read->site.kind != TCS_SITE_NESTED)
				read->client->confirmed = true;
			if (read->context.one_snapshot && tcs_transaction.lxid == tcs_xact_id())
				tcs_transaction.confirmed = true;
			return true;
		case TCS_WAIT_RELAXED:
			/* all but the confirmation was met, and that is not asked for */
			facts->req.confirm = false;
			return true;
		case TCS_WAIT_NO_QUORUM:
			facts->reason = TCS_REASON_NO_QUORUM;
			return false;
		case TCS_WAIT_TIMEOUT:
			tcs_stats_count_timeout(facts->req.level);
			facts->reason = TCS_REASON_UNCONFIRMED;
			return false;
		default:
			break;
	}
	facts->reason = facts->req.reason = TCS_REASON_UNKNOWN;
	facts->req.detail = "The primary changed before its quorum had confirmed what the read shows.";
	facts->req.hint = "Retry: a statement that starts now asks the new primary.";
	return false;
}
