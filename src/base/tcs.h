/*-------------------------------------------------------------------------
 *
 * tcs.h
 *	  Vocabulary shared by all parts of tcs: levels, outcomes, proofs.
 *
 * NOTES
 *	  Times are microseconds on CLOCK_BOOTTIME of this node (see tcs_now());
 *	  no time of another machine is ever compared with them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_H
#define TCS_H

#include <time.h>

#include "access/xlogdefs.h"

#ifndef TCS_VERSION
#define TCS_VERSION "1.0"
#endif

/*
 * For variables that each read looks at: known to lie in this library, so that
 * they are not looked up in its table of addresses.
 */
#define TCS_LOCAL __attribute__((visibility("hidden")))

/*
 * Read levels, from weak to strong.  The order of the enum is not the order
 * of strength: that is tcs_level_rank().
 */
typedef enum TcsLevel
{
	TCS_LEVEL_EVENTUAL,
	TCS_LEVEL_CONSISTENT_PREFIX,
	TCS_LEVEL_READ_YOUR_WRITES,
	TCS_LEVEL_MONOTONIC_READS,
	TCS_LEVEL_SESSION,
	TCS_LEVEL_SEQUENTIAL,
	TCS_LEVEL_CAUSAL,
	TCS_LEVEL_BOUNDED,
	TCS_LEVEL_SNAPSHOT,
	TCS_LEVEL_STRONG,
	TCS_LEVEL_LINEARIZABLE,
	TCS_LEVEL_COUNT
} TcsLevel;

/* Why a requirement is not met.  Each has its SQLSTATE in base/errcodes.h. */
typedef enum TcsReason
{
	TCS_REASON_NONE,
	TCS_REASON_BEHIND,			/* replay has not come that far */
	TCS_REASON_FOREIGN,			/* the token is of another cluster */
	TCS_REASON_LOST,			/* the token names WAL that this history lacks */
	TCS_REASON_UNKNOWN,			/* nobody can tell how fresh this node is */
	TCS_REASON_SNAPSHOT,		/* the snapshot in use was taken before */
	TCS_REASON_BLOCKING,		/* replay waits for what this session holds */
	TCS_REASON_NO_QUORUM,		/* no set of standbys can confirm anything */
	TCS_REASON_UNCONFIRMED,		/* that set has not confirmed it in time */
	TCS_REASON_RELAXED,			/* this node serves less; never an error */
	TCS_REASON_NO_TOKEN,		/* the session was handed none, and has to be */
	TCS_REASON_COUNT
} TcsReason;

/* A WAL position together with the timeline that gives it a meaning. */
typedef struct TcsPosition
{
	TimeLineID	tli;
	XLogRecPtr	lsn;
} TcsPosition;

/*
 * What is known of a snapshot: it includes every commit whose record ends at
 * or before "at", and every commit that the primary had acknowledged before
 * the local instant fresh_at (0: not known).
 */
typedef struct TcsProof
{
	TcsPosition at;
	int64		fresh_at;
} TcsProof;

/*
 * What the primary's quorum has confirmed: that it was the primary at the local
 * instant asked_at (0: nothing is known), and that everything up to "at" is on
 * that quorum.
 */
typedef struct TcsConfirmation
{
	int64		asked_at;
	TcsPosition at;
} TcsConfirmation;

/* One answer of the primary: asked at asked_at, it was at "at". */
typedef struct TcsAnswer
{
	int64		asked_at;
	TcsPosition at;
} TcsAnswer;

/* The one clock that all freshness arithmetic uses; it runs in suspend. */
static inline int64
tcs_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (int64) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

#endif							/* TCS_H */
