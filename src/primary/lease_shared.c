/*-------------------------------------------------------------------------
 *
 * lease_shared.c
 *	  Read leases: their shared memory, and how long they last at most.
 *
 * NOTES
 *	  A server that starts, or is promoted, does not know which leases its predecessor
 *	  has granted.  It acknowledges nothing before the longest of them must be over.  How
 *	  long leases last at most is told to all standbys in each answer, and each node
 *	  keeps it in a file.  A longer duration is told for some time before it is used.  So
 *	  a server that heard of it shortly before its promotion knows, and any other one
 *	  takes the longest that can be set.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"

#include "base/settings.h"
#include "primary/lease_parts.h"

/* In the data directory: longest and usable, us. */
#define TCS_LEASE_FILE		"tcs_longest_lease"

TcsLeases  *tcs_lease_state = NULL;
LWLock	   *tcs_lease_lock = NULL;

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

	tcs_lease_state = ptr;
	tcs_lease_lock = lock;
	if (found)
		return;

	memset(tcs_lease_state, 0, offsetof(TcsLeases, waits));
	tcs_lease_state->started_at = tcs_now();
	tcs_lease_state->had_file = read_file(&longest, &tcs_lease_state->usable);
	tcs_lease_state->was_standby = access("standby.signal", F_OK) == 0 ||
		access("recovery.signal", F_OK) == 0;
	tcs_lease_state->announced_at = tcs_lease_state->started_at;
	pg_atomic_init_u64(&tcs_lease_state->longest, longest);
	pg_atomic_init_u32(&tcs_lease_state->in_use, 1);
	pg_atomic_init_u64(&tcs_lease_state->quiet_until, 0);
	pg_atomic_init_u64(&tcs_lease_state->told_at, 0);
	for (int i = 0; i < MaxBackends; i++)
		pg_atomic_init_u64(&tcs_lease_state->waits[i], 0);
}

int64
tcs_lease_longest(void)
{
	return (int64) pg_atomic_read_u64(&tcs_lease_state->longest);
}

/*
 * Write down how long leases last at most, so that it outlives a crash.  False if that
 * fails and "elevel" is no error.  The lock is held, so that the last decision is what
 * the file has; commits that look at leases wait for that, but it is rare.
 */
bool
tcs_lease_write_file(int64 longest, int64 usable, int elevel)
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
	pg_atomic_write_u64(&tcs_lease_state->longest, (uint64) longest);
	return true;
}

/*
 * Leases may come to last as long as this, and not all standbys know.  False if that
 * could not be written down.
 */
bool
tcs_lease_announce(int64 longest, int elevel)
{
	bool		written;

	LWLockAcquire(tcs_lease_lock, LW_EXCLUSIVE);
	tcs_lease_state->usable = Min(tcs_lease_state->usable, Min(longest, tcs_lease_longest()));
	tcs_lease_state->announced_at = tcs_now();
	written = tcs_lease_write_file(longest, tcs_lease_state->usable, elevel);
	LWLockRelease(tcs_lease_lock);
	return written;
}

/*
 * A primary that was asked at an instant has told how long leases last at most.  Worker
 * only.  What could not be written down counts as not told.
 */
void
tcs_lease_note_longest(int64 longest, int64 asked_at)
{
	if (longest == tcs_lease_longest() || tcs_lease_announce(longest, LOG))
		pg_atomic_write_u64(&tcs_lease_state->told_at, (uint64) asked_at);
}

/*
 * How long the leases of the primary before this one can last.
 *
 * It announces a longer duration before it grants such leases (settle_duration() in primary/lease_grant.c), so
 * what it told shortly before counts.  Where nothing says that leases are in use,
 * there are none.
 */
static int64
longest_of_predecessor(int64 now)
{
	int64		told_at = (int64) pg_atomic_read_u64(&tcs_lease_state->told_at);

	if (told_at != 0 && now - told_at < TCS_LEASE_NOTICE)
		return tcs_lease_longest();
	return tcs_lease_state->had_file || tcs_lease_longest() > 0 || tcs_lease_duration > 0 ?
		TCS_LEASE_MAX * 1000 : 0;
}

/*
 * From when on a primary may acknowledge commits.
 *
 * One that was no standby when it started has granted all leases itself, before it
 * started.  Otherwise they are of the primary before it, which was one until the
 * promotion, and that is noted when it is first seen.
 */
int64
tcs_lease_quiet_until(void)
{
	uint64		until = pg_atomic_read_u64(&tcs_lease_state->quiet_until);
	uint64		none = 0;
	int64		now;

	if (until != 0)
		return (int64) until;
	now = tcs_now();
	if (tcs_lease_state->was_standby)
		until = now + longest_of_predecessor(now);
	else
		until = tcs_lease_state->started_at + tcs_lease_longest();
	(void) pg_atomic_compare_exchange_u64(&tcs_lease_state->quiet_until, &none, until);
	return (int64) pg_atomic_read_u64(&tcs_lease_state->quiet_until);
}

/* This standby has become a primary. */
void
tcs_lease_note_promotion(void)
{
	int64		assumed = longest_of_predecessor(tcs_now());
	int64		until = tcs_lease_quiet_until();

	/* after a crash nothing else tells */
	if (assumed > tcs_lease_longest())
		(void) tcs_lease_announce(assumed, LOG);
	if (until > tcs_now())
		ereport(LOG,
				(errmsg("tcs: no commit is acknowledged for %.0f ms, since read leases of the former primary may be alive",
						(until - tcs_now()) / 1000.0)));
}
