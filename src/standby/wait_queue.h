/*-------------------------------------------------------------------------
 *
 * wait_queue.h
 *	  Sessions that wait for replay or for an answer of the primary.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_WAIT_QUEUE_H
#define TCS_WAIT_QUEUE_H

#include "storage/lwlock.h"

#include "standby/freshness.h"

/* What a session sleeps for. */
typedef enum TcsSleepKind
{
	TCS_SLEEP_REPLAY,			/* until replay comes to a position */
	TCS_SLEEP_ANSWER,			/* until an answer to a question not yet asked
								 * is there and replayed */
	TCS_SLEEP_CONFIRMATION		/* until a quorum has confirmed something */
} TcsSleepKind;

typedef struct TcsSleep
{
	TcsSleepKind kind;
	TcsPosition target;			/* for TCS_SLEEP_REPLAY */
	TcsConfirmation confirmation;	/* for TCS_SLEEP_CONFIRMATION: at least
									 * this */
	bool		holding;		/* does the session hold what replay may need? */
	bool		again;			/* has it slept for the same before? */
	int64		since;			/* an opening of the emergency valve from this
								 * instant on ends it */
	TcsAnswer	answer;			/* out: the answer, asked_at 0 if none yet */
} TcsSleep;

/* What the worker sees of the queue. */
typedef struct TcsQueueView
{
	bool		waiting;		/* does anybody wait, for whatever? */
	bool		holding;		/* does one of them hold something? */
	bool		asking;			/* does anybody wait for an answer? */
	bool		confirming;		/* does anybody wait for a confirmation? */
	int64		confirm_after;	/* the latest instant asked for by any of them */
} TcsQueueView;

/* for tcs_queue_wake_worker_at(): however many they are */
#define TCS_WAKE_NEVER	PG_INT32_MAX

/* for sessions */
extern void tcs_queue_sleep(TcsSleep *sleep, int64 timeout_us);
extern void tcs_queue_sleep_in_core(TcsPosition target, int64 timeout_us);
extern bool tcs_queue_replay_blocked_after(int64 instant);
extern int	tcs_queue_length(void);

/* for the worker */
extern void tcs_queue_attach_worker(void);
extern void tcs_queue_set_replay_blocked(int64 seen_at);
extern void tcs_queue_look(TcsQueueView *view);
extern int	tcs_queue_wake_worker_at(int naskers);
extern uint64 tcs_queue_ask(void);
extern int	tcs_queue_answer(uint64 question, const TcsAnswer *answer);
extern bool tcs_queue_replay_awaited(void);
extern uint64 tcs_queue_distance(XLogRecPtr lsn);
extern void tcs_queue_wake_reached(TcsPosition reached);
extern void tcs_queue_wake_confirmed(const TcsConfirmed *confirmed);
extern void tcs_queue_wake_all(void);

/* for shmem.c */
extern Size tcs_queue_shmem_size(void);
extern void tcs_queue_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_WAIT_QUEUE_H */
