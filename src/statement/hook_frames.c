/*-------------------------------------------------------------------------
 *
 * hook_frames.c
 *	  Which of our hooks are at work around us.
 *
 * NOTES
 *	  The gate is for statements of the client, not for those that functions
 *	  run.  The planner, ExecutorRun and utility statements can run functions,
 *	  so each of these hooks puts a frame onto error_context_stack while it is
 *	  at work.  A statement is the client's own if there is no frame.
 *
 *	  That list is what PostgreSQL itself unwinds.  PG_CATCH() puts it back to
 *	  what it was at PG_TRY(), and PostgresMain() empties it after an error that
 *	  nobody caught, in whatever state the transaction is.  So a frame is in the
 *	  list exactly as long as its function is on the C stack.  A counter would
 *	  not do: an error in a block that is already aborted runs no callback that
 *	  could reset it.
 *
 *	  The list is emptied early in one case, when reporting an error fails again
 *	  and again (in_error_recursion_trouble()).  What a function reads then comes
 *	  to the gate like a statement of the client, which asks for more, not less.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "statement/hook_frames.h"

/* Frames add nothing to messages; this only tells them from other entries. */
void
tcs_frame_callback(void *arg)
{
}

/* Is there a frame of this kind around us? */
bool
tcs_frames_include(int is)
{
	for (TcsFrame *frame = tcs_frame_innermost(); frame != NULL;
		 frame = tcs_frame_next(frame->link.previous))
	{
		if (frame->is & is)
			return true;
	}
	return false;
}

/* The outermost frame, which the client's statement has made, or NULL. */
static TcsFrame *
outermost_frame(void)
{
	TcsFrame   *found = NULL;

	for (TcsFrame *frame = tcs_frame_innermost(); frame != NULL;
		 frame = tcs_frame_next(frame->link.previous))
		found = frame;
	return found;
}

/* Is the outermost frame of this kind? */
bool
tcs_frames_begin_with(int is)
{
	TcsFrame   *frame = outermost_frame();

	return frame != NULL && (frame->is & is) != 0;
}

/* The planning of the client's statement, the outermost frame, runs a function. */
void
tcs_frames_note_function(Oid function)
{
	TcsFrame   *frame = outermost_frame();
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	Assert(frame->is & TCS_FRAME_PLANNER);
	frame->ran = list_append_unique_oid(frame->ran, function);
	MemoryContextSwitchTo(old);
}

/*
 * What CALL and DO around us ask of each transaction that they make.  Neither throws
 * nor allocates.
 */
void
tcs_frames_write_asked(TcsWriteAsked *asked)
{
	memset(asked, 0, sizeof(*asked));
	for (TcsFrame *frame = tcs_frame_innermost(); frame != NULL;
		 frame = tcs_frame_next(frame->link.previous))
	{
		if ((frame->is & TCS_FRAME_PROCEDURE) == 0)
			continue;
		if (frame->asked.level > asked->level)
		{
			asked->level = frame->asked.level;
			asked->rule_id = frame->asked.rule_id;
		}
		/* only the client's own statement, the outermost one, has a hint */
		asked->hinted = frame->asked.hinted;
		asked->instead_of = frame->asked.instead_of;
	}
}
