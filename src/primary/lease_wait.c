/*-------------------------------------------------------------------------
 *
 * lease_wait.c
 *	  Read leases: commits wait for the holders.
 *
 * NOTES
 *	  The wait comes after the transaction has left the ProcArray and its locks are
 *	  released, and before its client is answered (RESOURCE_RELEASE_AFTER_LOCKS).  So
 *	  it cannot hold up replay, nor those who queue for the same row.  Nothing there may
 *	  throw.  A cancel does not end it: that would acknowledge.  Termination ends it as
 *	  that of a wait for a synchronous standby does: the client is told nothing.
 *
 *	  A commit waits for the leases that there are when it looks first, so for no
 *	  longer than the longest of them: what is granted later has the commit in its answer.
 *	  Why a commit and a grant cannot miss each other is said in lease_grant.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/resowner.h"

#include "base/compat.h"
#include "primary/lease_parts.h"

/* End of the commit under way that has to wait; 0: none. */
static XLogRecPtr wait_for = InvalidXLogRecPtr;
static bool is_registered = false;

static uint32 wait_event_lease = PG_WAIT_EXTENSION;

/*
 * Does a slot hold a commit up, that was noted before "since"?  The lock is held.
 *
 * What was granted later has the commit in its answer.  So nobody waits longer than
 * for the leases there are when the wait begins.
 */
static bool
holds_up(const TcsLeaseSlot *slot, XLogRecPtr end, int64 since, int64 now)
{
	return slot->expires > now && slot->reached < end && slot->granted_at <= since;
}

/*
 * Until when a commit has to wait if nobody reports; 0: no longer.  Those who are
 * waited for are woken, since they may sleep with nothing to tell.
 */
static int64
held_up_until(XLogRecPtr end, int64 since, bool *seen)
{
	int64		now;
	int64		until = tcs_lease_quiet_until();
	bool		in_use = false;

	LWLockAcquire(tcs_lease_lock, LW_SHARED);
	now = tcs_now();
	if (until <= now)
		until = 0;
	for (int i = 0; i < TCS_LEASE_HOLDERS; i++)
	{
		const TcsLeaseSlot *slot = &tcs_lease_state->slots[i];

		in_use |= slot->expires > now;
		if (!holds_up(slot, end, since, now))
			continue;
		seen[i] = true;
		until = Max(until, slot->expires);
		if (slot->pid != 0 && slot->told < end)
			SetLatch(&ProcGlobal->allProcs[slot->procno].procLatch);
	}
	LWLockRelease(tcs_lease_lock);
	if (in_use || until != 0)
		return until;

	/* nobody holds one any more: the next commits need not look */
	LWLockAcquire(tcs_lease_lock, LW_EXCLUSIVE);
	now = tcs_now();
	for (int i = 0; i < TCS_LEASE_HOLDERS; i++)
		in_use |= tcs_lease_state->slots[i].expires > now;
	if (!in_use)
		pg_atomic_write_u32(&tcs_lease_state->in_use, 0);
	LWLockRelease(tcs_lease_lock);
	return 0;
}

/* Count what a commit has waited for. */
static void
count_wait(const bool *seen, int64 since)
{
	int64		now;

	LWLockAcquire(tcs_lease_lock, LW_EXCLUSIVE);
	now = tcs_now();
	for (int i = 0; i < TCS_LEASE_HOLDERS; i++)
	{
		TcsLeaseSlot *slot = &tcs_lease_state->slots[i];

		if (!seen[i])
			continue;
		slot->info.commits++;
		slot->info.longest_wait = Max(slot->info.longest_wait, now - since);
	}
	LWLockRelease(tcs_lease_lock);
}

/*
 * Wait until all holders have the commit, or their leases have expired.  The
 * transaction is committed and visible; the client has not been told.
 */
static void
wait_for_holders(XLogRecPtr end)
{
	pg_atomic_uint64 *my_wait = &tcs_lease_state->waits[tcs_my_proc_number_compat()];
	bool		seen[TCS_LEASE_HOLDERS] = {false};
	int64		since = tcs_now();

	if (held_up_until(end, since, seen) == 0)
		return;
	pg_atomic_write_u64(my_wait, end);
	pg_memory_barrier();
	for (;;)
	{
		int64		until;
		int			events;

		ResetLatch(MyLatch);
		until = held_up_until(end, since, seen);
		if (until == 0)
			break;
		if (ProcDiePending)
		{
			ereport(WARNING,
					(errcode(ERRCODE_ADMIN_SHUTDOWN),
					 errmsg("canceling the wait for holders of read leases and terminating connection due to administrator command"),
					 errdetail("The transaction has already committed locally, but might not have been replayed on the standbys.")));
			whereToSendOutput = DestNone;
			break;
		}
		events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_POSTMASTER_DEATH,
						   Max(until - tcs_now(), 0) / 1000 + 1, wait_event_lease);
		if (events & WL_POSTMASTER_DEATH)
		{
			ProcDiePending = true;
			whereToSendOutput = DestNone;
			break;
		}
	}
	pg_atomic_write_u64(my_wait, 0);
	count_wait(seen, since);
}

static void
at_resource_release(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	XLogRecPtr	end = wait_for;

	if (likely(end == InvalidXLogRecPtr) || !is_top_level ||
		phase != RESOURCE_RELEASE_AFTER_LOCKS)
		return;
	wait_for = InvalidXLogRecPtr;
	if (is_commit)
		wait_for_holders(end);
}

/*
 * A transaction of this process is about to commit, and has written: have its wait come
 * after its locks are released.  May throw.
 */
void
tcs_lease_before_commit(void)
{
	if (is_registered || pg_atomic_read_u32(&tcs_lease_state->in_use) == 0)
		return;
	wait_event_lease = tcs_wait_event_compat("TcsLease");
	RegisterResourceReleaseCallback(at_resource_release, NULL);
	is_registered = true;
}

/*
 * A transaction of this process has committed, and has noted its end.  Called in the
 * commit callback, so nothing here may throw.
 *
 * Noted first, looked second; see above.
 */
void
tcs_lease_after_commit(XLogRecPtr end)
{
	pg_memory_barrier();
	if (likely(pg_atomic_read_u32(&tcs_lease_state->in_use) == 0))
		return;
	if (is_registered)
		wait_for = end;
	else
		wait_for_holders(end);	/* the first lease came just now, or an xid */
}
