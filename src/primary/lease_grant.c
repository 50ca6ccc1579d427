/*-------------------------------------------------------------------------
 *
 * lease_grant.c
 *	  Read leases: granted by the primary, waited for by its commits.
 *
 * NOTES
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
 *	  The wait comes after the transaction has left the ProcArray and its locks are
 *	  released, and before its client is answered (RESOURCE_RELEASE_AFTER_LOCKS).  So
 *	  it cannot hold up replay, nor those who queue for the same row.  Nothing there may
 *	  throw.  A cancel does not end it: that would acknowledge.  Termination ends it as
 *	  that of a wait for a synchronous standby does: the client is told nothing.
 *	  A commit waits for the leases that there are when it looks first, so for no
 *	  longer than the longest of them: what is granted later has the commit in its answer.
 *
 *	  A server that starts, or is promoted, does not know which leases its predecessor
 *	  has granted.  It acknowledges nothing before the longest of them must be over.  How
 *	  long leases last at most is told to all standbys in each answer, and each node
 *	  keeps it in a file.  A server that was promoted without ever having heard of it
 *	  takes the longest that can be set.
 *
 *	  Clocks: both sides count on their own, and a standby uses seven eighths of what it
 *	  was granted, from before it has asked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/settings.h"
#include "primary/acknowledged.h"
#include "primary/lease_grant.h"

/* In the data directory: longest and usable, us. */
#define TCS_LEASE_FILE		"tcs_longest_lease"

/* So long before it is used a longer duration is told to all standbys, in us. */
#define TCS_LEASE_NOTICE		10000000

/* Protected by the LWLock tcs_lease, as is the whole array. */
typedef struct TcsLeaseSlot
{
	int64		expires;		/* us; 0: free */
	int64		granted_at;		/* us; renewals since do not count */
	int			pid;			/* of the walsender; 0: it is gone */
	int			procno;			/* valid while pid is */
	XLogRecPtr	told;
	XLogRecPtr	reached;
	TcsLeaseHolderInfo info;	/* what only the view shows */
} TcsLeaseSlot;

typedef struct TcsLeases
{
	TcsLeaseSlot slots[TCS_LEASE_HOLDERS];

	/*
	 * Is a slot taken, or may a lease of a former primary be alive?  Set under the
	 * lock before a lease is written, cleared under the lock; read without it, after
	 * a full barrier.
	 */
	pg_atomic_uint32 in_use;

	/* no lease of this server, or of its predecessor, lasts longer; us; atomic */
	pg_atomic_uint64 longest;

	/*
	 * Nothing is acknowledged before; us, 0: not known yet.  Atomic; set once by the
	 * first who finds that the server is a primary.
	 */
	pg_atomic_uint64 quiet_until;

	/* written at start-up only */
	int64		started_at;
	bool		had_file;		/* leases have been granted in this cluster */
	bool		was_standby;	/* this is not a primary that goes on */

	/* when a primary has told how long leases last; us, 0: never; atomic */
	pg_atomic_uint64 told_at;

	/*
	 * Leases of up to this may be granted: all standbys that can be promoted have
	 * been told that there are such.  Both under the lock.
	 */
	int64		usable;			/* us */
	int64		announced_at;	/* when "longest" became more */

	/*
	 * For each process, the end of the commit that it waits with; 0: none.  Written
	 * by that process alone.
	 */
	pg_atomic_uint64 waits[FLEXIBLE_ARRAY_MEMBER];
} TcsLeases;

static TcsLeases *shared = NULL;
static LWLock *lease_lock = NULL;

/* The slot of this walsender, -1: none. */
static int	my_slot = -1;

/* End of the commit under way that has to wait; 0: none. */
static XLogRecPtr wait_for = InvalidXLogRecPtr;
static bool is_registered = false;

static uint32 wait_event_lease = PG_WAIT_EXTENSION;
static uint32 wait_event_poll = 0;

Size
tcs_lease_shmem_size(void)
{
	return add_size(offsetof(TcsLeases, waits),
					mul_size(MaxBackends, sizeof(pg_atomic_uint64)));
}

/* What was written down; false if nothing was. */
static bool
read_file(int64 *longest, int64 *usable)
{
	FILE	   *file = AllocateFile(TCS_LEASE_FILE, "r");

	*longest = *usable = 0;
	if (file == NULL && errno == ENOENT)
		return false;
	/* what cannot be read was written for some lease */
	if (file == NULL ||
		fscanf(file, INT64_FORMAT " " INT64_FORMAT, longest, usable) != 2 ||
		*longest < 0 || *longest > TCS_LEASE_MAX * 1000 || *usable < 0 || *usable > *longest)
	{
		*longest = TCS_LEASE_MAX * 1000;
		*usable = 0;
	}
	if (file != NULL)
		FreeFile(file);
	return true;
}

void
tcs_lease_shmem_init(void *ptr, LWLock *lock, bool found)
{
	int64		longest;

	shared = ptr;
	lease_lock = lock;
	if (found)
		return;

	memset(shared, 0, offsetof(TcsLeases, waits));
	shared->started_at = tcs_now();
	shared->had_file = read_file(&longest, &shared->usable);
	shared->was_standby = access("standby.signal", F_OK) == 0 ||
		access("recovery.signal", F_OK) == 0;
	shared->announced_at = shared->started_at;
	pg_atomic_init_u64(&shared->longest, longest);
	pg_atomic_init_u32(&shared->in_use, 1);
	pg_atomic_init_u64(&shared->quiet_until, 0);
	pg_atomic_init_u64(&shared->told_at, 0);
	for (int i = 0; i < MaxBackends; i++)
		pg_atomic_init_u64(&shared->waits[i], 0);
}

int64
tcs_lease_longest(void)
{
	return (int64) pg_atomic_read_u64(&shared->longest);
}

/*
 * Write down how long leases last at most, so that it outlives a crash.  False if that
 * fails and "elevel" is no error.
 */
static bool
write_file(int64 longest, int64 usable, int elevel)
{
	FILE	   *file = AllocateFile(TCS_LEASE_FILE ".tmp", "w");
	bool		written;

	written = file != NULL &&
		fprintf(file, INT64_FORMAT " " INT64_FORMAT "\n", longest, usable) > 0 &&
		fflush(file) == 0 && pg_fsync(fileno(file)) == 0;
	if (!written)
		ereport(elevel,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", TCS_LEASE_FILE ".tmp")));
	if (file != NULL && FreeFile(file) != 0)
		written = false;
	if (!written || durable_rename(TCS_LEASE_FILE ".tmp", TCS_LEASE_FILE, elevel) != 0)
		return false;
	pg_atomic_write_u64(&shared->longest, (uint64) longest);
	return true;
}

/*
 * A primary that was asked at an instant has told how long leases last at most.  Worker
 * only.  What could not be written down counts as not told.
 */
void
tcs_lease_note_longest(int64 longest, int64 asked_at)
{
	if (longest == tcs_lease_longest() || write_file(longest, 0, LOG))
		pg_atomic_write_u64(&shared->told_at, (uint64) asked_at);
}

/*
 * How long the leases of the primary before this one can last.
 *
 * It announces a longer duration before it grants such leases (settle_duration()), so
 * what it told shortly before counts.  Where nothing says that leases are in use,
 * there are none.
 */
static int64
longest_of_predecessor(int64 now)
{
	int64		told_at = (int64) pg_atomic_read_u64(&shared->told_at);

	if (told_at != 0 && now - told_at < TCS_LEASE_NOTICE)
		return tcs_lease_longest();
	return shared->had_file || tcs_lease_longest() > 0 || tcs_lease_duration > 0 ?
		TCS_LEASE_MAX * 1000 : 0;
}

/*
 * From when on a primary may acknowledge commits.
 *
 * One that was no standby when it started has granted all leases itself, before it
 * started.  Otherwise they are of the primary before it, which was one until the
 * promotion, and that is noted when it is first seen.
 */
static int64
quiet_until(void)
{
	uint64		until = pg_atomic_read_u64(&shared->quiet_until);
	uint64		none = 0;
	int64		now;

	if (until != 0)
		return (int64) until;
	now = tcs_now();
	if (shared->was_standby)
		until = now + longest_of_predecessor(now);
	else
		until = shared->started_at + tcs_lease_longest();
	(void) pg_atomic_compare_exchange_u64(&shared->quiet_until, &none, until);
	return (int64) pg_atomic_read_u64(&shared->quiet_until);
}

/* This standby has become a primary. */
void
tcs_lease_note_promotion(void)
{
	int64		assumed = longest_of_predecessor(tcs_now());
	int64		until = quiet_until();

	/* after a crash nothing else tells */
	if (assumed > tcs_lease_longest())
		(void) write_file(assumed, 0, LOG);

	if (until > tcs_now())
		ereport(LOG,
				(errmsg("tcs: no commit is acknowledged for %.0f ms, since read leases of the former primary may be alive",
						(until - tcs_now()) / 1000.0)));
}

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
	int64		until = quiet_until();
	bool		in_use = false;

	LWLockAcquire(lease_lock, LW_SHARED);
	now = tcs_now();
	if (until <= now)
		until = 0;
	for (int i = 0; i < TCS_LEASE_HOLDERS; i++)
	{
		const TcsLeaseSlot *slot = &shared->slots[i];

		in_use |= slot->expires > now;
		if (!holds_up(slot, end, since, now))
			continue;
		seen[i] = true;
		until = Max(until, slot->expires);
		if (slot->pid != 0 && slot->told < end)
			SetLatch(&ProcGlobal->allProcs[slot->procno].procLatch);
	}
	LWLockRelease(lease_lock);
	if (in_use || until != 0)
		return until;

	/* nobody holds one any more: the next commits need not look */
	LWLockAcquire(lease_lock, LW_EXCLUSIVE);
	now = tcs_now();
	for (int i = 0; i < TCS_LEASE_HOLDERS; i++)
		in_use |= shared->slots[i].expires > now;
	if (!in_use)
		pg_atomic_write_u32(&shared->in_use, 0);
	LWLockRelease(lease_lock);
	return 0;
}

/* Count what a commit has waited for. */
static void
count_wait(const bool *seen, int64 since)
{
	int64		now;

	LWLockAcquire(lease_lock, LW_EXCLUSIVE);
	now = tcs_now();
	for (int i = 0; i < TCS_LEASE_HOLDERS; i++)
	{
		TcsLeaseSlot *slot = &shared->slots[i];

		if (!seen[i])
			continue;
		slot->info.commits++;
		slot->info.longest_wait = Max(slot->info.longest_wait, now - since);
	}
	LWLockRelease(lease_lock);
}

/*
 * Wait until all holders have the commit, or their leases have expired.  The
 * transaction is committed and visible; the client has not been told.
 */
static void
wait_for_holders(XLogRecPtr end)
{
	pg_atomic_uint64 *my_wait = &shared->waits[tcs_my_proc_number_compat()];
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
	if (is_registered || pg_atomic_read_u32(&shared->in_use) == 0)
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
	if (likely(pg_atomic_read_u32(&shared->in_use) == 0))
		return;
	if (is_registered)
		wait_for = end;
	else
		wait_for_holders(end);	/* the first lease came just now, or an xid */
}


/* The connection of a holder ends; its lease does not. */
static void
leave_slot(int code, Datum arg)
{
	if (my_slot < 0)
		return;
	LWLockAcquire(lease_lock, LW_EXCLUSIVE);
	shared->slots[my_slot].pid = 0;
	LWLockRelease(lease_lock);
	my_slot = -1;
}

/* Find a slot for this walsender.  The lock is held. */
static int
find_slot(int64 now)
{
	for (int i = 0; i < TCS_LEASE_HOLDERS; i++)
	{
		TcsLeaseSlot *slot = &shared->slots[i];

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
		XLogRecPtr	end = pg_atomic_read_u64(&shared->waits[i]);

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
		if (shared->slots[i].expires > now + duration)
			return true;
	}
	return now <= quiet_until();
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
	int64		longest = tcs_lease_longest();
	int64		usable;
	bool		write = true;
	int64		now = tcs_now();

	LWLockAcquire(lease_lock, LW_EXCLUSIVE);
	if (wanted > longest)
	{
		shared->usable = Min(shared->usable, longest);
		shared->announced_at = now;
		longest = wanted;
	}
	else if (shared->usable < longest && now - shared->announced_at >= TCS_LEASE_NOTICE)
		shared->usable = longest;
	else if (wanted < longest && !longer_is_alive(wanted, now))
	{
		longest = wanted;
		shared->usable = Min(shared->usable, wanted);
	}
	else
		write = false;
	usable = shared->usable;
	LWLockRelease(lease_lock);
	if (write)
		(void) write_file(longest, usable, ERROR);
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

	LWLockAcquire(lease_lock, LW_EXCLUSIVE);
	now = tcs_now();
	if (my_slot < 0)
		my_slot = find_slot(now);
	if (my_slot < 0)
	{
		LWLockRelease(lease_lock);
		return;
	}
	slot = &shared->slots[my_slot];
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
		pg_atomic_write_u32(&shared->in_use, 1);
		/* the holder does not know yet that it is shorter, if it is */
		slot->expires = Max(slot->expires, now + duration);
		strlcpy(slot->info.application_name, name, NAMEDATALEN);
		grant->duration = duration;
	}
	LWLockRelease(lease_lock);
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
	LWLockAcquire(lease_lock, LW_EXCLUSIVE);
	shared->slots[my_slot].expires = 0;
	LWLockRelease(lease_lock);
	wake_committers(PG_UINT64_MAX);
}

/* Sleep until there is a commit to be told, or a third of the lease is over. */
static void
sleep_until_news(int64 duration)
{
	int64		until = tcs_now() + duration / 3;
	XLogRecPtr	told = shared->slots[my_slot].told;

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
	LWLockAcquire(lease_lock, LW_EXCLUSIVE);
	shared->slots[my_slot].told = lsn;
	LWLockRelease(lease_lock);
}

/* Copy what is known of the holders; returns how many. */
int
tcs_lease_holders(TcsLeaseHolderInfo *infos, int max)
{
	int			n = 0;
	int64		now;

	LWLockAcquire(lease_lock, LW_SHARED);
	now = tcs_now();
	for (int i = 0; i < TCS_LEASE_HOLDERS && n < max; i++)
	{
		const TcsLeaseSlot *slot = &shared->slots[i];

		if (slot->expires <= now)
			continue;
		infos[n] = slot->info;
		infos[n].pid = slot->pid;
		infos[n].left = slot->expires - now;
		infos[n].told = slot->told;
		infos[n].reached = slot->reached;
		n++;
	}
	LWLockRelease(lease_lock);
	return n;
}
