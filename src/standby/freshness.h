/*-------------------------------------------------------------------------
 *
 * freshness.h
 *	  What this standby knows of its own freshness.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_FRESHNESS_H
#define TCS_FRESHNESS_H

#include "storage/lwlock.h"

#include "primary/quorum.h"

#define TCS_REASON_LEN	512

/* State of the worker's link to the primary. */
typedef enum TcsLinkState
{
	TCS_LINK_NONE,				/* no worker, or nothing tried yet */
	TCS_LINK_CONNECTING,
	TCS_LINK_UP,
	TCS_LINK_STALLED,			/* connected, but no answer comes */
	TCS_LINK_DOWN,
	TCS_LINK_REFUSED			/* answers come, and may not be used */
} TcsLinkState;

typedef struct TcsLinkInfo
{
	TcsLinkState state;
	char		reason[TCS_REASON_LEN]; /* for a person; empty when up */
	char		general[TCS_REASON_LEN];	/* as far as anybody may see it */
	int			worker_pid;		/* 0: not running */
	int64		lost_at;		/* since when it has been of no use; 0: it may
								 * be */
} TcsLinkInfo;

/* What is known of the primary's quorum. */
typedef struct TcsConfirmed
{
	TcsConfirmation best;		/* the latest instant, the highest position */
	uint32		config;			/* of that quorum */
	TcsQuorumState problem;		/* why there is none ... */
	int64		problem_at;		/* ... asked when; 0: there was always one */
} TcsConfirmed;

/* Does it give what a session wants? */
typedef enum TcsConfirmVerdict
{
	TCS_CONFIRM_YES,
	TCS_CONFIRM_WAIT,
	TCS_CONFIRM_NO_QUORUM
} TcsConfirmVerdict;

/* for everybody */
extern TcsPosition tcs_fresh_position(void);
extern TimeLineID tcs_fresh_newest_timeline(void);
extern void tcs_fresh_prove(const TcsAnswer *own, TcsProof *proof);
extern void tcs_fresh_read_mirror(TcsProof *proof);
extern bool tcs_fresh_target(int64 fresh_after, TcsAnswer *target);
extern bool tcs_fresh_newest(TcsAnswer *newest);
extern void tcs_fresh_confirmed(TcsConfirmed *confirmed);
extern TcsConfirmVerdict tcs_fresh_confirms(const TcsConfirmed *confirmed,
											const TcsConfirmation *wanted);
extern double tcs_fresh_replay_rate(void);
extern void tcs_fresh_get_link(TcsLinkInfo *info);
extern int64 tcs_fresh_gone_at(void);
extern bool tcs_fresh_may_probe(int64 deadline);
extern const char *tcs_fresh_link_reason(const TcsLinkInfo *info);
extern const char *tcs_link_state_name(TcsLinkState state);

/* for the worker */
extern void tcs_fresh_note_timeline(TimeLineID tli);
extern void tcs_fresh_add_answer(const TcsAnswer *answer);
extern void tcs_fresh_set_confirmed(const TcsConfirmed *confirmed);
extern void tcs_fresh_forget(TimeLineID tli);
extern void tcs_fresh_publish_mirror(void);
extern bool tcs_fresh_set_link(TcsLinkState state, const char *reason,
							   const char *general);
extern void tcs_fresh_set_worker(int pid);

/* for shmem.c */
extern Size tcs_fresh_shmem_size(void);
extern void tcs_fresh_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_FRESHNESS_H */
