/*-------------------------------------------------------------------------
 *
 * lease_held.c
 *	  The read lease that this standby holds.
 *
 * NOTES
 *	  While the lease is valid, whatever the primary has acknowledged is replayed here
 *	  (see primary/lease_grant.c).  So a snapshot that is taken after the lease was seen
 *	  valid has all that was acknowledged before that.
 *
 *	  A statement comes to the gate with a snapshot that was taken before.  That the
 *	  lease is valid now says nothing of it: it can have been granted in between, while
 *	  something was acknowledged before that.  Each new lease has a number, its epoch.  A
 *	  session that saw the same epoch valid at an earlier statement knows that the lease
 *	  has been valid all the time since then, and so when its snapshot was taken.
 *	  Otherwise the session takes a new snapshot.
 *
 *	  The worker writes: it ends the old lease, counts the epoch, and begins the new
 *	  one, in this order.  A reader looks at the epoch before and after.  Extending
 *	  keeps the epoch only if the lease is not over by then.
 *
 *	  A process that is stopped between its check and its snapshot does no harm: what
 *	  was acknowledged before the check is replayed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/atomics.h"

#include "standby/lease_held.h"

typedef struct TcsHeld
{
	/* all atomic, written by the lease worker alone */
	pg_atomic_uint64 epoch;
	pg_atomic_uint64 valid_until;	/* us; 0: no lease */
	pg_atomic_uint32 state;
	pg_atomic_uint64 grants;
	pg_atomic_uint64 renewals;
	pg_atomic_uint64 lags;
	pg_atomic_uint32 pid;		/* of the lease worker */
} TcsHeld;

static TcsHeld *held = NULL;

/* The epoch that this session saw valid before; 0: none. */
static uint64 seen_epoch = 0;

Size
tcs_held_shmem_size(void)
{
	return sizeof(TcsHeld);
}

void
tcs_held_shmem_init(void *ptr, LWLock *lock, bool found)
{
	held = ptr;
	if (found)
		return;
	pg_atomic_init_u64(&held->epoch, 0);
	pg_atomic_init_u64(&held->valid_until, 0);
	pg_atomic_init_u32(&held->state, TCS_HELD_OFF);
	pg_atomic_init_u64(&held->grants, 0);
	pg_atomic_init_u64(&held->renewals, 0);
	pg_atomic_init_u64(&held->lags, 0);
	pg_atomic_init_u32(&held->pid, 0);
}

/* Is a lease valid now, and which?  Pairs with tcs_held_begin(). */
static inline bool
look(uint64 *epoch)
{
	uint64		before = pg_atomic_read_u64(&held->epoch);
	uint64		valid_until;

	pg_read_barrier();
	valid_until = pg_atomic_read_u64(&held->valid_until);
	pg_read_barrier();
	*epoch = before;
	return valid_until != 0 && pg_atomic_read_u64(&held->epoch) == before &&
		tcs_now() < (int64) valid_until;
}

/*
 * Is a lease valid?  Then every snapshot taken from now on has all that was
 * acknowledged before this call.
 */
bool
tcs_held_is_valid(void)
{
	uint64		epoch;

	if (!look(&epoch))
		return false;
	seen_epoch = epoch;
	return true;
}

/*
 * Has the lease been valid since this session last saw it valid?  Then the same goes
 * for every snapshot taken since then, and what was acknowledged before it was taken.
 */
bool
tcs_held_continues(void)
{
	uint64		epoch;

	return look(&epoch) && epoch == seen_epoch;
}

/* A new lease is granted, and what its answer told is replayed.  Worker only. */
void
tcs_held_begin(int64 until)
{
	pg_atomic_write_u64(&held->valid_until, 0);
	pg_write_barrier();
	pg_atomic_write_u64(&held->epoch, pg_atomic_read_u64(&held->epoch) + 1);
	pg_write_barrier();
	pg_atomic_write_u64(&held->valid_until, (uint64) until);
	pg_atomic_write_u32(&held->state, TCS_HELD_HOLDS);
	pg_atomic_write_u64(&held->grants, pg_atomic_read_u64(&held->grants) + 1);
}

/* The lease is renewed.  If it is over by now, it is a new one.  Worker only. */
void
tcs_held_extend(int64 until)
{
	if (tcs_now() >= (int64) pg_atomic_read_u64(&held->valid_until))
	{
		tcs_held_begin(until);
		return;
	}
	pg_atomic_write_u64(&held->valid_until, (uint64) until);
	pg_atomic_write_u64(&held->renewals, pg_atomic_read_u64(&held->renewals) + 1);
}

/* There is no lease, or none any more.  Worker only. */
void
tcs_held_end(TcsHeldState why)
{
	pg_atomic_write_u64(&held->valid_until, 0);
	/* who is told that we hold none must not be told before */
	pg_memory_barrier();
	if (why == TCS_HELD_LAGGING && pg_atomic_read_u32(&held->state) != TCS_HELD_LAGGING)
		pg_atomic_write_u64(&held->lags, pg_atomic_read_u64(&held->lags) + 1);
	pg_atomic_write_u32(&held->state, why);
}

/* Which process is the lease worker; 0: none.  Worker only. */
void
tcs_held_set_worker(int pid)
{
	pg_atomic_write_u32(&held->pid, pid);
}

void
tcs_held_get(TcsHeldInfo *info)
{
	int64		left = (int64) pg_atomic_read_u64(&held->valid_until) - tcs_now();

	info->left = Max(left, 0);
	info->state = (TcsHeldState) pg_atomic_read_u32(&held->state);
	info->grants = pg_atomic_read_u64(&held->grants);
	info->renewals = pg_atomic_read_u64(&held->renewals);
	info->pid = (int) pg_atomic_read_u32(&held->pid);
	info->lags = pg_atomic_read_u64(&held->lags);
}

const char *
tcs_held_state_name(TcsHeldState state)
{
	switch (state)
	{
		case TCS_HELD_OFF:
			return "off";
		case TCS_HELD_CONNECTING:
			return "connecting";
		case TCS_HELD_NOT_GRANTED:
			return "not_granted";
		case TCS_HELD_LAGGING:
			return "lagging";
		case TCS_HELD_HOLDS:
			return "holds";
	}
	return "unknown";
}
