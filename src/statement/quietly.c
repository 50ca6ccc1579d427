/*-------------------------------------------------------------------------
 *
 * quietly.c
 *	  To try something in a subtransaction, without a word to the client.
 *
 * NOTES
 *	  A statement is looked at before it runs: an error of the look is a verdict, and
 *	  its notices are not for the client.  They are returned, because who sends the
 *	  statement elsewhere has to know what is said there again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/settings.h"
#include "statement/quietly.h"

/* A subtransaction of ours is no matter of the client's. */
bool		tcs_quietly_is_running = false;

/* While nothing may be said: what would have been. */
static List *unsaid = NIL;
static MemoryContext unsaid_context = NULL;
static emit_log_hook_type prev_emit_log = NULL;

/* Keep a message. */
TcsSaid *
tcs_said_make(int sqlerrcode, const char *message)
{
	TcsSaid    *told = palloc(sizeof(TcsSaid));

	told->sqlerrcode = sqlerrcode;
	told->message = pstrdup(message);
	return told;
}

/* A copy of a list of messages. */
List *
tcs_said_copy(const List *messages)
{
	List	   *result = NIL;
	const ListCell *lc;

	foreach(lc, messages)
	{
		const TcsSaid *told = lfirst(lc);

		result = lappend(result, tcs_said_make(told->sqlerrcode, told->message));
	}
	return result;
}

static void
keep_unsaid(ErrorData *edata)
{
	MemoryContext old = MemoryContextSwitchTo(unsaid_context);

	edata->output_to_server = false;
	if (edata->message)
		unsaid = lappend(unsaid, tcs_said_make(edata->sqlerrcode, edata->message));
	MemoryContextSwitchTo(old);
}

/*
 * From here on, notices and warnings go nowhere.  The caller has a level of
 * settings of its own, and sees to it that tcs_quietly_end() is called,
 * also after an error.
 */
void
tcs_quietly_begin(void)
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
tcs_quietly_end(void)
{
	List	   *result = unsaid;

	emit_log_hook = prev_emit_log;
	unsaid = NIL;
	return result;
}

/* What went wrong within a subtransaction is over, or it has to go on outside. */
static char *
take_error(MemoryContext context, ResourceOwner owner)
{
	ErrorData  *edata;
	int			category;

	MemoryContextSwitchTo(context);
	edata = CopyErrorData();
	FlushErrorState();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	tcs_quietly_is_running = false;

	category = ERRCODE_TO_CATEGORY(edata->sqlerrcode);
	if (category == ERRCODE_OPERATOR_INTERVENTION ||
		category == ERRCODE_INSUFFICIENT_RESOURCES)
		ReThrowError(edata);
	return edata->message;
}

/*
 * Do something in a subtransaction, and without a word.  Returns the error, or
 * NULL.  *told gets the notices that were not sent.
 *
 * It is done under the settings that are in force on the primary.  With "look" it
 * is done under those of the session, and leaves no lock behind.
 */
char *
tcs_quietly_do(void (*work) (void *), void *arg, bool look, List **told)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	char	   *volatile error = NULL;
	int			level;

	BeginInternalSubTransaction(NULL);
	tcs_quietly_is_running = true;
	MemoryContextSwitchTo(old);
	level = NewGUCNestLevel();
	PG_TRY();
	{
		if (!look)
		{
			tcs_guc_set_for_now("standard_conforming_strings", "on");
			tcs_guc_set_for_now("transform_null_equals", "off");
		}
		tcs_quietly_begin();
		work(arg);
		*told = tcs_quietly_end();
		AtEOXact_GUC(true, level);
		if (look)
			RollbackAndReleaseCurrentSubTransaction();
		else
			ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;
		tcs_quietly_is_running = false;
	}
	PG_CATCH();
	{
		*told = tcs_quietly_end();
		error = take_error(old, owner);
	}
	PG_END_TRY();
	return error;
}
