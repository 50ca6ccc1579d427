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

bool		tcs_told_is_wanted = false;

/* One message. */
typedef struct Told
{
	int			sqlerrcode;
	char	   *message;
} Told;

/* What planning has said last, in planning_context. */
static List *by_planning = NIL;
static MemoryContext planning_context = NULL;
static TimestampTz planned_in = 0;	/* the client's message it was done for */

/* What the primary is going to repeat; in expected_context. */
static List *expected = NIL;
static MemoryContext expected_context = NULL;

/* While nothing may be said: what would have been. */
static List *unsaid = NIL;
static MemoryContext unsaid_context = NULL;
static emit_log_hook_type prev_emit_log = NULL;

static Told *
make_told(int sqlerrcode, const char *message)
{
	Told	   *told = palloc(sizeof(Told));

	told->sqlerrcode = sqlerrcode;
	told->message = pstrdup(message);
	return told;
}

/* A copy of a list of messages. */
List *
tcs_told_copy(const List *messages)
{
	List	   *result = NIL;
	const ListCell *lc;

	foreach(lc, messages)
	{
		const Told *told = lfirst(lc);

		result = lappend(result, make_told(told->sqlerrcode, told->message));
	}
	return result;
}

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


/* ---- without a word ---- */

static void
keep_unsaid(ErrorData *edata)
{
	MemoryContext old = MemoryContextSwitchTo(unsaid_context);

	edata->output_to_server = false;
	if (edata->message)
		unsaid = lappend(unsaid, make_told(edata->sqlerrcode, edata->message));
	MemoryContextSwitchTo(old);
}

/*
 * From here on, notices and warnings go nowhere.  The caller has a level of
 * settings of its own, and sees to it that tcs_told_silently_end() is called,
 * also after an error.
 */
void
tcs_told_silently_begin(void)
{
	tcs_guc_set_for_now("client_min_messages", "error");
	/* what is not for the log either would not come to the hook */
	tcs_guc_set_for_now("log_min_messages", "notice");
	unsaid = NIL;
	unsaid_context = CurrentMemoryContext;
	prev_emit_log = emit_log_hook;
	emit_log_hook = keep_unsaid;
}

/* Returns what was not said, in the memory context that it began with. */
List *
tcs_told_silently_end(void)
{
	List	   *result = unsaid;

	emit_log_hook = prev_emit_log;
	unsaid = NIL;
	return result;
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
		by_planning = lappend(by_planning, make_told(edata->sqlerrcode, edata->message));
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
	expected = list_concat(tcs_told_copy(by_text), tcs_told_copy(by_planning));
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
	tcs_told_silently_begin();
	PG_TRY();
	{
		(void) OidInputFunctionCall(function, unconstify(char *, text), ioparam, -1);
	}
	PG_FINALLY();
	{
		said = tcs_told_silently_end();
	}
	PG_END_TRY();
	AtEOXact_GUC(true, level);
	MemoryContextSwitchTo(get_context(&expected_context));
	expected = list_concat(expected, tcs_told_copy(said));
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
		const Told *told = lfirst(lc);

		if (told->sqlerrcode == sqlerrcode && strcmp(told->message, message) == 0)
		{
			expected = foreach_delete_current(expected, lc);
			return true;
		}
	}
	return false;
}
