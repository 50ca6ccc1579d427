/*-------------------------------------------------------------------------
 *
 * lease_grant.c
 *	  Read leases: granted by the primary.
 *
 * NOTES
 *	  lease_wait.c has the commits that wait, lease_shared.c what outlives the server.
 *
 *	  While a standby holds a lease that has not expired, no commit is acknowledged
 *	  before that standby has replayed it.  So whatever was acknowledged is there, and
 *	  a strong read asks nobody.  (Gray and Cheriton, "Leases", SOSP 1989.)
 *
 *	  A standby asks again and again over one connection, and the question after an
 *	  answer means that it has replayed what that answer told.  The lease lasts from
 *	  when the question comes.  The answer comes when there is a commit to be told, or
 *	  somebody waits for the standby, or a third of the lease is over.
 *
 *	  A commit and a grant cannot miss each other.  A commit notes its end (see
 *	  primary/acknowledged.c), then looks at the leases; a grant writes the lease, then
 *	  reads the largest end that was noted.  A full memory barrier is between the two
 *	  steps of each.  So either the commit sees the lease and waits, or the answer has
 *	  the commit in it, and the standby does not use the lease before it has replayed
 *	  that.  A lease that was expired when a commit looked is not renewed: a new
 *	  one is granted.  Clock and lease are read under one lock by both.
 *
 *	  Clocks: both sides count on their own, and a standby uses seven eighths of what it
 *	  was granted, from before it has asked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/settings.h"
#include "primary/acknowledged.h"
#include "primary/lease_parts.h"

/* The slot of this walsender, -1: none. */
static int	my_slot = -1;

static uint32 wait_event_poll = 0;

/* The connection of a holder ends; its lease does not. */
static void
leave_slot(int code, Datum arg)
{
	if (my_slot < 0)
		return;
	LWLockAcquire(tcs_lease_lock, LW_EXCLUSIVE);
	tcs_lease_state->slots[my_slot].pid = 0;
	LWLockRelease(tcs_lease_lock);
	my_slot = -1;
}

/* Find a slot for this walsender.  The lock is held. */
static int
find_slot(int64 now)
{
	for (int i = 0; i < TCS_LEASE_HOLDERS; i++)
	{
		TcsLeaseSlot *slot = &tcs_lease_state->slots[i];

		if (slot->pid != 0 || slot->expires > now)
			continue;
		memset(slot, 0, sizeof(*slot));
		slot->pid = MyProcPid;
		slot->procno = tcs_my_proc_number_compat();
		return i;
	}
	return -1;
}

/* Wake those whose commits this holder has reached. */
static void
wake_committers(XLogRecPtr reached)
{
	for (int i = 0; i < MaxBackends; i++)
	{
		XLogRecPtr	end = pg_atomic_read_u64(&tcs_lease_state->waits[i]);

		if (end != InvalidXLogRecPtr && end <= reached)
			SetLatch(&ProcGlobal->allProcs[i].procLatch);
	}
}

/* Can a lease be alive that lasts longer from now on?  The lock is held. */
static bool
longer_is_alive(int64 duration, int64 now)
{
	for (int i = 0; i < TCS_LEASE_HOLDERS; i++)
	{
		if (tcs_lease_state->slots[i].expires > now + duration)
			return true;
	}
	return now <= tcs_lease_quiet_until();
}

/*
 * The duration of the next lease; 0: none yet.
 *
 * A longer one than before is written down, and told in each answer, for some time
 * before it is used.  A shorter one is told when no longer one can be alive.
 */
static int64
settle_duration(int64 wanted)
{
	int64		longest;
	int64		usable;
	int64		now = tcs_now();

	if (wanted > tcs_lease_longest())
		(void) tcs_lease_announce(wanted, ERROR);
	LWLockAcquire(tcs_lease_lock, LW_EXCLUSIVE);
	longest = tcs_lease_longest();
	usable = tcs_lease_state->usable;
	if (usable < longest && now - tcs_lease_state->announced_at >= TCS_LEASE_NOTICE)
		usable = longest;
	else if (wanted < longest && !longer_is_alive(wanted, now))
	{
		longest = wanted;
		usable = Min(usable, wanted);
	}
	if (usable != tcs_lease_state->usable || longest != tcs_lease_longest())
	{
		(void) tcs_lease_write_file(longest, usable, ERROR);
		tcs_lease_state->usable = usable;
	}
	LWLockRelease(tcs_lease_lock);
	usable = Min(usable, wanted);
	return usable >= TCS_LEASE_MIN * 1000 ? usable : 0;
}

/* Write a lease, or renew it. */
static void
grant_lease(TcsLeaseQuestion question, int64 duration, const char *name, TcsLeaseGrant *grant)
{
	XLogRecPtr	reached = InvalidXLogRecPtr;
	TcsLeaseSlot *slot;
	int64		now;

	LWLockAcquire(tcs_lease_lock, LW_EXCLUSIVE);
	now = tcs_now();
	if (my_slot < 0)
		my_slot = find_slot(now);
	if (my_slot < 0)
	{
		LWLockRelease(tcs_lease_lock);
		return;
	}
	slot = &tcs_lease_state->slots[my_slot];
	grant->is_new = question == TCS_LEASE_FIRST || slot->expires <= now;
	if (question == TCS_LEASE_FIRST)
	{
		/* it holds nothing, so nobody waits for what it held */
		slot->reached = slot->told = InvalidXLogRecPtr;
		slot->expires = 0;
		reached = PG_UINT64_MAX;
	}
	else
		reached = slot->reached = slot->told;
	/* the longest one can have become shorter meanwhile */
	if (duration > 0 && duration <= tcs_lease_longest())
	{
		if (grant->is_new)
		{
			slot->granted_at = now;
			slot->info.since = GetCurrentTimestamp();
			slot->info.grants++;
		}
		else
			slot->info.renewals++;
		pg_atomic_write_u32(&tcs_lease_state->in_use, 1);
		/* the holder does not know yet that it is shorter, if it is */
		slot->expires = Max(slot->expires, now + duration);
		strlcpy(slot->info.application_name, name, NAMEDATALEN);
		grant->duration = duration;
	}
	LWLockRelease(tcs_lease_lock);
	/* the lease first, then what was committed: see above */
	pg_memory_barrier();
	wake_committers(reached);
}

/* The holder has zeroed its lease. */
static void
drop_lease(void)
{
	if (my_slot < 0)
		return;
	LWLockAcquire(tcs_lease_lock, LW_EXCLUSIVE);
	tcs_lease_state->slots[my_slot].expires = 0;
	LWLockRelease(tcs_lease_lock);
	wake_committers(PG_UINT64_MAX);
}

/* Sleep until there is a commit to be told, or a third of the lease is over. */
static void
sleep_until_news(int64 duration)
{
	int64		until = tcs_now() + duration / 3;
	XLogRecPtr	told = tcs_lease_state->slots[my_slot].told;

	if (wait_event_poll == 0)
		wait_event_poll = tcs_wait_event_compat("TcsLeasePoll");
	for (;;)
	{
		int64		left = until - tcs_now();

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (left <= 0 || tcs_acknowledged() > told)
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 left / 1000 + 1, wait_event_poll);
	}
}

/*
 * A standby asks for a lease, over this connection.  On a primary; may throw, and
 * sleeps.  The position that the answer tells is to be read after this.
 */
void
tcs_lease_take_question(TcsLeaseQuestion question, const char *name, TcsLeaseGrant *grant)
{
	static bool leaves = false;
	int64		duration = tcs_enabled ? (int64) tcs_lease_duration * 1000 : 0;

	memset(grant, 0, sizeof(*grant));
	if (!leaves)
	{
		before_shmem_exit(leave_slot, (Datum) 0);
		leaves = true;
		if (MyBackendType == B_WAL_SENDER)
			tcs_walsender_sleep_on_compat();
	}
	if (question == TCS_LEASE_DROP)
		drop_lease();
	else
	{
		if (duration > 0)
			duration = settle_duration(duration);
		grant_lease(question, duration, name, grant);
		if (grant->duration > 0 && !grant->is_new)
			sleep_until_news(duration);
	}
	grant->longest = tcs_lease_longest();
}

/* What the answer tells; the next question says that the holder has it. */
void
tcs_lease_note_told(XLogRecPtr lsn)
{
	if (my_slot < 0)
		return;
	LWLockAcquire(tcs_lease_lock, LW_EXCLUSIVE);
	tcs_lease_state->slots[my_slot].told = lsn;
	LWLockRelease(tcs_lease_lock);
}

/* Copy what is known of the holders; returns how many. */
int
tcs_lease_holders(TcsLeaseHolderInfo *infos, int max)
{
	int			n = 0;
	int64		now;

	LWLockAcquire(tcs_lease_lock, LW_SHARED);
	now = tcs_now();
	for (int i = 0; i < TCS_LEASE_HOLDERS && n < max; i++)
	{
		const TcsLeaseSlot *slot = &tcs_lease_state->slots[i];

		if (slot->expires <= now)
			continue;
		infos[n] = slot->info;
		infos[n].pid = slot->pid;
		infos[n].left = slot->expires - now;
		infos[n].told = slot->told;
		infos[n].reached = slot->reached;
		n++;
	}
	LWLockRelease(tcs_lease_lock);
	return n;
}
