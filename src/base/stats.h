/*-------------------------------------------------------------------------
 *
 * stats.h
 *	  Counters of reads and of what became of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_STATS_H
#define TCS_STATS_H

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#include "base/tcs.h"

/* Upper ends of the wait-time histogram in ms; one more bucket is open. */
#define TCS_HISTOGRAM_BOUNDS	{1, 5, 10, 50, 100, 500, 1000, 5000}
#define TCS_HISTOGRAM_BUCKETS	9

/* Sums for one level. */
typedef struct TcsLevelStats
{
	uint64		reads;
	uint64		reads_without_token;	/* of them, in sessions that were
										 * handed none */
	uint64		waited;			/* of them, served after a wait */
	uint64		histogram[TCS_HISTOGRAM_BUCKETS];
	uint64		timed_out;		/* waits that ended at their deadline */
	uint64		errors;
	uint64		redirected;
	uint64		redirects_failed;	/* of reads that then stayed here */
	uint64		downgraded[TCS_LEVEL_COUNT][TCS_REASON_COUNT];
} TcsLevelStats;

/*
 * Reads of this process per level, of those with a token or of those without, as
 * the session is.  See base/stats.c for who writes it.
 */
extern TCS_LOCAL pg_atomic_uint64 *tcs_my_reads;

/* Count a read that is about to be served or refused.  Hot path. */
static inline void
tcs_stats_count_read(TcsLevel level)
{
	pg_atomic_uint64 *counter = &tcs_my_reads[level];

	/* single writer, so no locked instruction is needed */
	pg_atomic_write_u64(counter, pg_atomic_read_u64(counter) + 1);
}

extern bool tcs_stats_attach(void);
extern void tcs_stats_set_token_handed(bool handed);
extern void tcs_stats_count_read_with_token(TcsLevel level);
extern void tcs_stats_count_wait(TcsLevel level, int64 waited_us);
extern void tcs_stats_count_timeout(TcsLevel level);
extern void tcs_stats_count_downgrade(TcsLevel level, TcsLevel served_at,
									  TcsReason reason);
extern void tcs_stats_count_error(TcsLevel level);
extern void tcs_stats_count_redirect(TcsLevel level);
extern void tcs_stats_count_failed_redirect(TcsLevel level);
extern void tcs_stats_count_late_report(void);
extern uint64 tcs_stats_late_reports(void);
extern void tcs_stats_get(TcsLevelStats stats[TCS_LEVEL_COUNT],
						  TimestampTz *reset_time);
extern void tcs_stats_reset(void);
extern const char *tcs_reason_name(TcsReason reason);
extern const char *tcs_reason_text(TcsReason reason);

extern Size tcs_stats_shmem_size(void);
extern void tcs_stats_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_STATS_H */
