/*-------------------------------------------------------------------------
 *
 * notices.c
 *	  Notices that the client has had already.
 *
 * NOTES
 *	  A redirected statement is analysed and planned twice: here, and then on the
 *	  primary.  What is evaluated then (a constant, an IMMUTABLE function) may send
 *	  notices, and the client would get each of them twice.  So we note what was
 *	  said here, and leave out the same words when the primary says them, each one
 *	  once.
 *
 *	  What planning says is noted when it says it, for the client's message
 *	  at hand.  The round-trip check (redirect/round_trip.c) analyses the text that is
 *	  sent, and so finds out what its analysis says on the primary.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/settings.h"
#include "redirect/notices.h"
#include "statement/quietly.h"

bool		tcs_told_is_wanted = false;

/* What planning has said last, in planning_context. */
static List *by_planning = NIL;
static MemoryContext planning_context = NULL;
static TimestampTz planned_in = 0;	/* the client's message it was done for */

/* What the primary is going to repeat; in expected_context. */
static List *expected = NIL;
static MemoryContext expected_context = NULL;

/* A context to keep messages in. */
static MemoryContext
get_context(MemoryContext *context)
{
	if (*context == NULL)
		*context = AllocSetContextCreate(TopMemoryContext, "tcs notices",
										 ALLOCSET_SMALL_SIZES);
	return *context;
}

static void
reset_context(MemoryContext context)
{
	if (context)
		MemoryContextReset(context);
}


/* ---- planning ---- */

/*
 * Called for each message that is about to be sent.  It is looked at in a copy,
 * for there is no other way to it; not if memory is short.
 */
static void
note_message(void *arg)
{
	MemoryContext old;
	ErrorData  *edata;

	if (geterrcode() == ERRCODE_OUT_OF_MEMORY)
		return;
	old = MemoryContextSwitchTo(get_context(&planning_context));
	edata = CopyErrorData();
	if (edata->elevel < ERROR && edata->output_to_client && edata->message)
		by_planning = lappend(by_planning, tcs_said_make(edata->sqlerrcode, edata->message));
	FreeErrorData(edata);
	MemoryContextSwitchTo(old);
}

/* A statement may run elsewhere, and may have to be planned first. */
void
tcs_told_want(void)
{
	tcs_told_is_wanted = true;
	by_planning = NIL;
}

/* Its planning begins. */
void
tcs_told_watch_planning(ErrorContextCallback *callback)
{
	tcs_told_is_wanted = false;
	by_planning = NIL;
	reset_context(planning_context);
	callback->callback = note_message;
	callback->arg = NULL;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

void
tcs_told_planned(ErrorContextCallback *callback)
{
	error_context_stack = callback->previous;
	planned_in = GetCurrentStatementStartTimestamp();
}


/* ---- what the primary repeats ---- */

/*
 * A statement is going to be sent.  "by_text" is what the analysis of the text
 * says, NIL if it was analysed there before.
 */
void
tcs_told_expect(const List *by_text)
{
	MemoryContext old;

	expected = NIL;
	reset_context(expected_context);
	/* a plan of the plan cache may have been made long ago */
	if (planned_in != GetCurrentStatementStartTimestamp())
		by_planning = NIL;
	if (by_planning == NIL && by_text == NIL)
		return;
	old = MemoryContextSwitchTo(get_context(&expected_context));
	expected = list_concat(tcs_said_copy(by_text), tcs_said_copy(by_planning));
	MemoryContextSwitchTo(old);
	by_planning = NIL;
}

/* A parameter is sent as text: what is said about it was said here before. */
void
tcs_told_expect_of_input(Oid type, const char *text)
{
	MemoryContext old = CurrentMemoryContext;
	int			level = NewGUCNestLevel();
	List	   *said = NIL;
	Oid			function;
	Oid			ioparam;

	getTypeInputInfo(type, &function, &ioparam);
	tcs_quietly_begin();
	PG_TRY();
	{
		(void) OidInputFunctionCall(function, unconstify(char *, text), ioparam, -1);
	}
	PG_FINALLY();
	{
		said = tcs_quietly_end();
	}
	PG_END_TRY();
	AtEOXact_GUC(true, level);
	MemoryContextSwitchTo(get_context(&expected_context));
	expected = list_concat(expected, tcs_said_copy(said));
	MemoryContextSwitchTo(old);
}

/* The transaction has ended. */
void
tcs_told_forget(void)
{
	expected = NIL;
	by_planning = NIL;
}

/* Has the client had this notice of the primary before? */
bool
tcs_told_is_repeated(int sqlerrcode, const char *message)
{
	ListCell   *lc;

	foreach(lc, expected)
	{
		const TcsSaid *told = lfirst(lc);

		if (told->sqlerrcode == sqlerrcode && strcmp(told->message, message) == 0)
		{
			expected = foreach_delete_current(expected, lc);
			return true;
		}
	}
	return false;
}
