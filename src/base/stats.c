/*-------------------------------------------------------------------------
 *
 * stats.c
 *	  Counters of reads and of what became of them.
 *
 * NOTES
 *	  The number of reads changes with each of them, so each process has its
 *	  own cache lines and is their only writer; a reader adds them up.  They
 *	  belong to the process number and go on with the next process that gets
 *	  it, so nothing need be folded at exit.  All else is counted where a wait
 *	  or an error has cost more than an atomic addition.
 *
 *	  Reset does not touch the counters, which would race with their writers:
 *	  it notes the sums, and they are subtracted from then on.
 *
 *	  Caveats: sums are not a snapshot; a read may be counted some
 *	  instructions before or after its wait is.  Differences below zero that
 *	  this could give are shown as zero.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/stats.h"

/* Counters of one process: whole cache lines, one writer. */
typedef union TcsReadCounters
{
	/* in sessions that were handed a token; and in others */
	pg_atomic_uint64 reads[2][TCS_LEVEL_COUNT];
	char		pad[2 * PG_CACHE_LINE_SIZE];
} TcsReadCounters;

StaticAssertDecl(sizeof(TcsReadCounters) == 2 * PG_CACHE_LINE_SIZE,
				 "counters of a process must fit their padding");

/* Atomic counterpart of TcsLevelStats, without the reads. */
typedef struct TcsRareCounters
{
	pg_atomic_uint64 waited;
	pg_atomic_uint64 histogram[TCS_HISTOGRAM_BUCKETS];
	pg_atomic_uint64 timed_out;
	pg_atomic_uint64 errors;
	pg_atomic_uint64 redirected;
	pg_atomic_uint64 redirects_failed;
	pg_atomic_uint64 downgraded[TCS_LEVEL_COUNT][TCS_REASON_COUNT];
} TcsRareCounters;

typedef struct TcsStats
{
	TcsRareCounters rare[TCS_LEVEL_COUNT];	/* atomic */
	pg_atomic_uint64 late_reports;	/* tokens; atomic */
	TcsLevelStats baseline[TCS_LEVEL_COUNT];	/* LWLock tcs_stats */
	TimestampTz reset_time;		/* LWLock tcs_stats */
	TcsReadCounters process[FLEXIBLE_ARRAY_MEMBER];
} TcsStats;

static TcsStats *stats = NULL;
static LWLock *stats_lock = NULL;
static TcsReadCounters *my_counters = NULL;
static bool token_handed = false;
pg_atomic_uint64 *tcs_my_reads = NULL;

Size
tcs_stats_shmem_size(void)
{
	return add_size(offsetof(TcsStats, process),
					mul_size(MaxBackends + 1, sizeof(TcsReadCounters)));
}

void
tcs_stats_shmem_init(void *ptr, LWLock *lock, bool found)
{
	stats = ptr;
	stats_lock = lock;
	if (found)
		return;

	/* all-zero is the initial value of an atomic, but say so properly */
	memset(stats, 0, tcs_stats_shmem_size());
	for (int level = 0; level < TCS_LEVEL_COUNT; level++)
	{
		TcsRareCounters *rare = &stats->rare[level];

		pg_atomic_init_u64(&rare->waited, 0);
		pg_atomic_init_u64(&rare->timed_out, 0);
		pg_atomic_init_u64(&rare->errors, 0);
		pg_atomic_init_u64(&rare->redirected, 0);
		pg_atomic_init_u64(&rare->redirects_failed, 0);
		for (int i = 0; i < TCS_HISTOGRAM_BUCKETS; i++)
			pg_atomic_init_u64(&rare->histogram[i], 0);
		for (int i = 0; i < TCS_LEVEL_COUNT; i++)
			for (int j = 0; j < TCS_REASON_COUNT; j++)
				pg_atomic_init_u64(&rare->downgraded[i][j], 0);
		for (int i = 0; i < MaxBackends; i++)
		{
			pg_atomic_init_u64(&stats->process[i].reads[0][level], 0);
			pg_atomic_init_u64(&stats->process[i].reads[1][level], 0);
		}
	}
	pg_atomic_init_u64(&stats->late_reports, 0);
	stats->reset_time = GetCurrentTimestamp();
}

/* Find this process's counters; false if it can have none. */
bool
tcs_stats_attach(void)
{
	int			procno = tcs_my_proc_number_compat();

	if (procno < 0 || procno >= MaxBackends)
		return false;
	my_counters = &stats->process[procno];
	tcs_stats_set_token_handed(token_handed);
	return true;
}

/*
 * Tell with or without a token the reads to come are.  What is counted where is
 * decided here, so that a read need not ask.
 */
void
tcs_stats_set_token_handed(bool handed)
{
	token_handed = handed;
	if (my_counters != NULL)
		tcs_my_reads = my_counters->reads[handed ? 0 : 1];
}

/* Count a read whose token is its own, as a hint's is. */
void
tcs_stats_count_read_with_token(TcsLevel level)
{
	pg_atomic_uint64 *counter = &my_counters->reads[0][level];

	pg_atomic_write_u64(counter, pg_atomic_read_u64(counter) + 1);
}

void
tcs_stats_count_wait(TcsLevel level, int64 waited_us)
{
	static const int bounds[] = TCS_HISTOGRAM_BOUNDS;
	int			bucket = 0;

	while (bucket < lengthof(bounds) && waited_us > bounds[bucket] * INT64CONST(1000))
		bucket++;
	pg_atomic_fetch_add_u64(&stats->rare[level].waited, 1);
	pg_atomic_fetch_add_u64(&stats->rare[level].histogram[bucket], 1);
}

void
tcs_stats_count_timeout(TcsLevel level)
{
	pg_atomic_fetch_add_u64(&stats->rare[level].timed_out, 1);
}

void
tcs_stats_count_downgrade(TcsLevel level, TcsLevel served_at, TcsReason reason)
{
	pg_atomic_fetch_add_u64(&stats->rare[level].downgraded[served_at][reason], 1);
}

void
tcs_stats_count_error(TcsLevel level)
{
	pg_atomic_fetch_add_u64(&stats->rare[level].errors, 1);
}

void
tcs_stats_count_redirect(TcsLevel level)
{
	pg_atomic_fetch_add_u64(&stats->rare[level].redirected, 1);
}

/* A redirect was tried, and did not begin. */
void
tcs_stats_count_failed_redirect(TcsLevel level)
{
	pg_atomic_fetch_add_u64(&stats->rare[level].redirects_failed, 1);
}

/* A token could not be reported with its commit.  Must not throw. */
void
tcs_stats_count_late_report(void)
{
	pg_atomic_fetch_add_u64(&stats->late_reports, 1);
}

uint64
tcs_stats_late_reports(void)
{
	return pg_atomic_read_u64(&stats->late_reports);
}

/* Sums since the server started. */
static void
sum_up(TcsLevelStats sums[TCS_LEVEL_COUNT])
{
	memset(sums, 0, TCS_LEVEL_COUNT * sizeof(TcsLevelStats));
	for (int level = 0; level < TCS_LEVEL_COUNT; level++)
	{
		TcsLevelStats *sum = &sums[level];
		TcsRareCounters *rare = &stats->rare[level];

		sum->waited = pg_atomic_read_u64(&rare->waited);
		sum->timed_out = pg_atomic_read_u64(&rare->timed_out);
		sum->errors = pg_atomic_read_u64(&rare->errors);
		sum->redirected = pg_atomic_read_u64(&rare->redirected);
		sum->redirects_failed = pg_atomic_read_u64(&rare->redirects_failed);
		for (int i = 0; i < TCS_HISTOGRAM_BUCKETS; i++)
			sum->histogram[i] = pg_atomic_read_u64(&rare->histogram[i]);
		for (int i = 0; i < TCS_LEVEL_COUNT; i++)
			for (int j = 0; j < TCS_REASON_COUNT; j++)
				sum->downgraded[i][j] = pg_atomic_read_u64(&rare->downgraded[i][j]);
		for (int i = 0; i < MaxBackends; i++)
		{
			sum->reads += pg_atomic_read_u64(&stats->process[i].reads[0][level]);
			sum->reads_without_token += pg_atomic_read_u64(&stats->process[i].reads[1][level]);
		}
		sum->reads += sum->reads_without_token;
	}
}

/* Sums since the last reset. */
void
tcs_stats_get(TcsLevelStats sums[TCS_LEVEL_COUNT], TimestampTz *reset_time)
{
	/* both structs are arrays of uint64, subtracted word by word */
	const int	nwords = TCS_LEVEL_COUNT * sizeof(TcsLevelStats) / sizeof(uint64);
	uint64	   *sum = (uint64 *) sums;
	uint64	   *base = (uint64 *) stats->baseline;

	sum_up(sums);
	LWLockAcquire(stats_lock, LW_SHARED);
	for (int i = 0; i < nwords; i++)
		sum[i] = sum[i] > base[i] ? sum[i] - base[i] : 0;
	*reset_time = stats->reset_time;
	LWLockRelease(stats_lock);
}

void
tcs_stats_reset(void)
{
	TcsLevelStats sums[TCS_LEVEL_COUNT];
	TimestampTz now = GetCurrentTimestamp();

	sum_up(sums);
	LWLockAcquire(stats_lock, LW_EXCLUSIVE);
	memcpy(stats->baseline, sums, sizeof(sums));
	stats->reset_time = now;
	LWLockRelease(stats_lock);
}

/* Why a read was not served at once: one word, for programs. */
const char *
tcs_reason_name(TcsReason reason)
{
	switch (reason)
	{
		case TCS_REASON_NONE:
			return "none";
		case TCS_REASON_BEHIND:
			return "behind";
		case TCS_REASON_FOREIGN:
			return "foreign_cluster";
		case TCS_REASON_LOST:
			return "lost_in_failover";
		case TCS_REASON_UNKNOWN:
			return "freshness_unknown";
		case TCS_REASON_SNAPSHOT:
			return "old_snapshot";
		case TCS_REASON_BLOCKING:
			return "blocks_replay";
		case TCS_REASON_NO_QUORUM:
			return "no_quorum";
		case TCS_REASON_UNCONFIRMED:
			return "not_confirmed";
		case TCS_REASON_RELAXED:
			return "relaxed";
		case TCS_REASON_NO_TOKEN:
			return "no_token";
		case TCS_REASON_COUNT:
			break;
	}
	return "unknown";
}

/* The same in words, for people. */
const char *
tcs_reason_text(TcsReason reason)
{
	switch (reason)
	{
		case TCS_REASON_NONE:
			return "none";
		case TCS_REASON_BEHIND:
			return "behind";
		case TCS_REASON_FOREIGN:
			return "foreign cluster";
		case TCS_REASON_LOST:
			return "lost in failover";
		case TCS_REASON_UNKNOWN:
			return "freshness unknown";
		case TCS_REASON_SNAPSHOT:
			return "snapshot taken before";
		case TCS_REASON_BLOCKING:
			return "replay blocked by this session";
		case TCS_REASON_NO_QUORUM:
			return "no usable quorum";
		case TCS_REASON_UNCONFIRMED:
			return "not confirmed by a quorum";
		case TCS_REASON_RELAXED:
			return "relaxed";
		case TCS_REASON_NO_TOKEN:
			return "no session token";
		case TCS_REASON_COUNT:
			break;
	}
	return "unknown";
}
