/*-------------------------------------------------------------------------
 *
 * worker_parts.h
 *	  What the files of the worker share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_WORKER_PARTS_H
#define TCS_WORKER_PARTS_H

#include "base/tcs.h"
#include "standby/freshness.h"
#include "standby/wait_queue.h"
#include "standby/worker_conn.h"
#include "standby/worker_sleep.h"

/* All in us. */
#define TCS_GIVE_UP_AFTER		5000000 /* without an answer: connect again */
#define TCS_BACKOFF_MIN			100000
#define TCS_BACKOFF_MAX			60000000
#define TCS_BACKOFF_WANTED		1000000 /* while somebody waits for an answer */
#define TCS_SETTLED_AFTER		10000000	/* a connection is not a flutter */
#define TCS_REPEAT_AFTER		100000	/* a question whose answer was lost */
#define TCS_LESS_AFTER			1000000 /* answers show less WAL: say so */

/* What the worker knows, in its own memory. */
typedef struct TcsWorker
{
	int64		attempt_at;		/* when the connection was last begun */
	int64		backoff;
	int64		yield_until;	/* no connection that takes a walsender */
	int64		yield_pause;
	int64		unfed_since;	/* waits for the WAL receiver; 0: no */
	int64		asked_at;		/* of the question on its way */
	uint64		question;
	TcsPosition had;			/* end of WAL received when it was asked; 0:
								 * no WAL receiver has been started yet */
	TcsPosition had_replayed;	/* read after that */
	int64		less_since;		/* answers show less WAL than is here; 0: no */
	int64		last_asked;		/* of any question */
	int			population;		/* askers served last, and those who came
								 * meanwhile */
	int64		gather_until;	/* wait so long for that many */
	bool		gathering;		/* so decided in this turn */
	TimeLineID	tli;			/* replayed when last looked */
	XLogRecPtr	told;			/* highest end of WAL on it that was told on
								 * this connection */
	int64		blocked_since;	/* 0: replay does not wait for a session */
	int64		moved_at;		/* when replay was last seen to move */
	XLogRecPtr	moved_to;
	int64		summary_at;
	uint64		summary_count;
	int64		mirror_at;

	/* a round of the primary's quorum, asked_at 0: none is on its way */
	struct
	{
		int64		asked_at;	/* when it was asked for */
		TcsPosition behind;		/* confirmed when more than this is flushed */
		uint32		config;		/* under this setting */
		int64		look_at;	/* when to ask what has become of it */
		int64		hold_until; /* nothing is asked before, if answers are of
								 * no use */
		int64		pause;
	}			round;
	bool		asked_for_quorum;	/* by the question on its way */

	int64		nudged_at;		/* when the WAL receiver was last made to
								 * reply */
	int64		nudge_pause;	/* from then to the next time */
	XLogRecPtr	nudged_for;		/* while that is the end of WAL here */
	TcsWakeUp	wake_up;		/* what ended the last sleep */
} TcsWorker;

extern TcsWorker tcs_worker;

/* in worker.c */
extern void tcs_worker_register_as(const char *name, const char *function);
extern bool tcs_worker_reload(void);

/* in worker_link_state.c */
extern void tcs_worker_set_link(TcsLinkState state, const char *reason);
extern void tcs_worker_set_link_to(TcsLinkState state, const char *reason,
								   const char *general);
extern void tcs_worker_close_connection(void);

/* in worker_link.c */
extern void tcs_worker_tend_connection(const TcsQueueView *view);
extern int64 tcs_worker_probe_interval(void);
extern void tcs_worker_note_wal_here(void);

/* in worker_answer.c */
extern void tcs_worker_take_answer(const TcsAnswerText *text);
extern bool tcs_worker_judge_for_lease(const TcsAnswerText *text, TcsPosition at,
									   const char **reason);

#endif							/* TCS_WORKER_PARTS_H */
