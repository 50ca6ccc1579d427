/*-------------------------------------------------------------------------
 *
 * hook_frames.h
 *	  Which of our hooks are at work around us.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_HOOK_FRAMES_H
#define TCS_HOOK_FRAMES_H

#include "executor/execdesc.h"

#include "base/tcs.h"
#include "statement/site.h"
#include "write/write_level.h"

/* What a frame is; bits, and no bit says that it runs a plan. */
#define TCS_FRAME_PLANNER		0x01	/* plans a statement */
#define TCS_FRAME_EXPLAIN		0x02	/* starts a plan that is only shown */
#define TCS_FRAME_UTILITY		0x04
#define TCS_FRAME_PROCEDURE		0x08	/* UTILITY: CALL or DO */
#define TCS_FRAME_RESUMED		0x10	/* its snapshot may be older than what
										 * was proved last: a cursor goes on */
#define TCS_FRAME_AHEAD			0x20	/* PLANNER: only to see what the plan
										 * has */
#define TCS_FRAME_WRITES		0x40	/* PLANNER: the plan cannot be made
										 * again */
#define TCS_FRAME_GUARDED		0x80	/* PLANNER: it ends before it reads
										 * too early */

/*
 * A hook that is at work: planning, running a plan or a utility statement.  Lives
 * on the C stack, between tcs_frame_push() and tcs_frame_pop().
 */
typedef struct TcsFrame
{
	ErrorContextCallback link;
	int			is;				/* TCS_FRAME_* */
	union
	{
		TcsArmed   *armed;		/* UTILITY: its redirect */
		List	   *ran;		/* PLANNER, outermost: functions with rules
								 * that planning ran */
	};
	TcsText		prepared;		/* UTILITY: of the prepared statement that it
								 * runs, if there is a hint for that */
	TcsWriteAsked asked;		/* PROCEDURE: of each transaction it makes */
} TcsFrame;

extern TCS_LOCAL void tcs_frame_callback(void *arg);
extern TCS_LOCAL bool tcs_frames_include(int is);
extern TCS_LOCAL bool tcs_frames_begin_with(int is);
extern TCS_LOCAL void tcs_frames_note_function(Oid function);
extern TCS_LOCAL void tcs_frames_write_asked(TcsWriteAsked *asked);

static inline void
tcs_frame_push(TcsFrame *frame, int is)
{
	frame->is = is;
	frame->link.previous = error_context_stack;
	frame->link.callback = tcs_frame_callback;
	error_context_stack = &frame->link;
}

static inline void
tcs_frame_pop(TcsFrame *frame)
{
	error_context_stack = frame->link.previous;
}

static inline TcsFrame *
tcs_frame_next(ErrorContextCallback *link)
{
	for (; link != NULL; link = link->previous)
	{
		if (link->callback == tcs_frame_callback)
			return (TcsFrame *) link;
	}
	return NULL;
}

/* The redirect that waits for the query of a frame's statement, or NULL. */
static inline TcsArmed *
tcs_frame_armed(const TcsFrame *frame)
{
	return (frame->is & TCS_FRAME_UTILITY) ? frame->armed : NULL;
}

/* Is this the frame of an EXECUTE, for which a hint has been found? */
static inline bool
tcs_frame_is_hinted(const TcsFrame *frame)
{
	return (frame->is & TCS_FRAME_UTILITY) && frame->prepared.source != NULL;
}

/* The innermost frame, or NULL: then what happens now is the client's own. */
static inline TcsFrame *
tcs_frame_innermost(void)
{
	return tcs_frame_next(error_context_stack);
}

/* Is a frame of ours the last entry of error_context_stack? */
static inline bool
tcs_frame_is_top(void)
{
	return error_context_stack != NULL &&
		error_context_stack->callback == tcs_frame_callback;
}

#endif							/* TCS_HOOK_FRAMES_H */
