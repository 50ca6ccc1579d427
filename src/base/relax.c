/*-------------------------------------------------------------------------
 *
 * relax.c
 *	  The emergency valve: for a time, this node serves reads at less.
 *
 * NOTES
 *	  When a primary is lost or standbys lag, somebody may decide that stale pages
 *	  are better than none.  tcs.relax() says so for this node and for a time: what
 *	  asks for more than a level, and is not there without a wait, is read at that
 *	  level, but for the floors of rules that are marked "hard".  Nothing is
 *	  written, so it works on a standby; it is forgotten in a crash or restart, and
 *	  ends by itself.
 *
 *	  A read whose requirement is met does not look here: it gets what it asked
 *	  for.  The others look at "until" where they would begin to wait, and those
 *	  that wait when it is opened are woken, and ask for less.  Each is told so by
 *	  a warning, and counted as a downgrade.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "utils/timestamp.h"

#include "base/relax.h"
#include "base/tcs.h"

typedef struct TcsRelaxShared
{
	/*
	 * End, on the clock of tcs_now(); 0: not in force.  Set under the lock,
	 * put to 0 by anyone who first sees that it is past; read without it.
	 */
	pg_atomic_uint64 until;
	pg_atomic_uint64 since;		/* beginning; likewise */
	pg_atomic_uint32 level;		/* likewise */

	/* reads served at less than they asked for; atomic, 0 when it is opened */
	pg_atomic_uint64 served;

	/* protected by the LWLock tcs_relax */
	TimestampTz began_at;
	TimestampTz ends_at;
	int			encoding;		/* of the database that the texts are from */
	char		reason[TCS_RELAX_REASON_LEN];
	char		role[NAMEDATALEN];
} TcsRelaxShared;

static TcsRelaxShared *relax = NULL;
static LWLock *relax_lock = NULL;

Size
tcs_relax_shmem_size(void)
{
	return sizeof(TcsRelaxShared);
}

void
tcs_relax_shmem_init(void *ptr, LWLock *lock, bool found)
{
	relax = ptr;
	relax_lock = lock;
	if (found)
		return;

	memset(relax, 0, sizeof(TcsRelaxShared));
	pg_atomic_init_u64(&relax->until, 0);
	pg_atomic_init_u64(&relax->since, 0);
	pg_atomic_init_u32(&relax->level, 0);
	pg_atomic_init_u64(&relax->served, 0);
}

/* For a message: how many reads it has served. */
static int
report_served(void)
{
	unsigned long long served = pg_atomic_read_u64(&relax->served);

	return errdetail_plural("%llu read was served at less.",
							"%llu reads were served at less.", (unsigned long) served, served);
}

/*
 * Is it in force, and down to which level?
 *
 * The level is written before "until" and read after it; a level of the valve's
 * next opening is one that is in force as well.
 */
bool
tcs_relax_in_force(TcsLevel *level)
{
	uint64		until = pg_atomic_read_u64(&relax->until);

	if (likely(until == 0))
		return false;
	if (tcs_now() >= (int64) until)
	{
		/* the first who sees it says so */
		if (pg_atomic_compare_exchange_u64(&relax->until, &until, 0))
			ereport(LOG,
					(errmsg("tcs: reads are served at their own levels again, the time is over"),
					 report_served()));
		return false;
	}
	pg_read_barrier();
	*level = (TcsLevel) pg_atomic_read_u32(&relax->level);
	return true;
}

/* Has it come into force since?  For those who wait. */
bool
tcs_relax_began_after(int64 instant)
{
	return pg_atomic_read_u64(&relax->until) != 0 &&
		(int64) pg_atomic_read_u64(&relax->since) >= instant;
}

/* A read was served at less than the level that it asked for. */
void
tcs_relax_count(void)
{
	pg_atomic_fetch_add_u64(&relax->served, 1);
}

/*
 * From now on, for a time, this node serves at that level what asks for more and
 * would have to wait.  The caller wakes those who wait already.
 */
void
tcs_relax_start(TcsLevel level, int64 length, const char *reason, const char *role)
{
	int64		now = tcs_now();

	LWLockAcquire(relax_lock, LW_EXCLUSIVE);
	pg_atomic_write_u64(&relax->served, 0);
	relax->began_at = GetCurrentTimestamp();
	relax->ends_at = relax->began_at + length;
	relax->encoding = GetDatabaseEncoding();
	strlcpy(relax->reason, reason, sizeof(relax->reason));
	strlcpy(relax->role, role, NAMEDATALEN);
	pg_atomic_write_u32(&relax->level, level);
	pg_atomic_write_u64(&relax->since, now);
	pg_write_barrier();
	pg_atomic_write_u64(&relax->until, now + length);
	LWLockRelease(relax_lock);

	ereport(LOG,
			(errmsg("tcs: reads that would wait for more than level \"%s\" are served at it for %lld s, as set by \"%s\"",
					tcs_level_name(level), (long long) (length / USECS_PER_SEC), role),
			 errdetail("Reason: %s", reason)));
}

/* No more.  Returns whether it was in force. */
bool
tcs_relax_stop(void)
{
	TcsLevel	level;

	if (!tcs_relax_in_force(&level))
		return false;
	pg_atomic_write_u64(&relax->until, 0);
	ereport(LOG,
			(errmsg("tcs: reads are served at their own levels again"),
			 report_served()));
	return true;
}

/* What is known of it, or of the last time that it was in force. */
void
tcs_relax_get(TcsRelaxed *relaxed)
{
	relaxed->in_force = tcs_relax_in_force(&relaxed->level);
	LWLockAcquire(relax_lock, LW_SHARED);
	relaxed->began_at = relax->began_at;
	relaxed->ends_at = relax->ends_at;
	relaxed->encoding = relax->encoding;
	memcpy(relaxed->reason, relax->reason, sizeof(relaxed->reason));
	memcpy(relaxed->role, relax->role, sizeof(relaxed->role));
	LWLockRelease(relax_lock);
	relaxed->served = pg_atomic_read_u64(&relax->served);
}
