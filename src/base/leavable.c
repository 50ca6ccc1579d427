/*-------------------------------------------------------------------------
 *
 * leavable.c
 *	  Work that can be left before it does harm.
 *
 * NOTES
 *	  Planning runs functions.  What these read may have to be waited for, and
 *	  planning is no place for that.  So planning is done in a subtransaction, and
 *	  left by an error that goes no further than here:
 *
 *		tcs_leavable_begin(&leavable);
 *		PG_TRY();
 *		{
 *			... work, and in the midst of it tcs_leave() ...
 *			tcs_leavable_end(&leavable);
 *		}
 *		PG_CATCH();
 *		{
 *			tcs_leavable_catch(&leavable);
 *		}
 *		PG_END_TRY();
 *
 *	  A function can catch that error, and go on.  Then its result is of no use
 *	  either, and "left" is set all the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"

#include "base/leavable.h"

/* NULL: there is none.  tcs_leavable_end() and _catch() put it back. */
TcsLeavable *tcs_leavable_innermost = NULL;

void
tcs_leavable_begin(TcsLeavable *leavable)
{
	leavable->context = CurrentMemoryContext;
	leavable->owner = CurrentResourceOwner;
	leavable->left = false;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(leavable->context);
	leavable->outer = tcs_leavable_innermost;
	tcs_leavable_innermost = leavable;
}

/* The work is done, or has gone on although it was left. */
void
tcs_leavable_end(TcsLeavable *leavable)
{
	tcs_leavable_innermost = leavable->outer;
	ReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(leavable->context);
	CurrentResourceOwner = leavable->owner;
}

/* The work has thrown an error, which goes on unless the work was left. */
void
tcs_leavable_catch(TcsLeavable *leavable)
{
	ErrorData  *edata;
	int			category;

	tcs_leavable_innermost = leavable->outer;
	MemoryContextSwitchTo(leavable->context);
	edata = CopyErrorData();
	FlushErrorState();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(leavable->context);
	CurrentResourceOwner = leavable->owner;

	category = ERRCODE_TO_CATEGORY(edata->sqlerrcode);
	if (!leavable->left ||
		category == ERRCODE_OPERATOR_INTERVENTION ||
		category == ERRCODE_INSUFFICIENT_RESOURCES)
		ReThrowError(edata);
	FreeErrorData(edata);
}

/* Leave the innermost work. */
void
tcs_leave(void)
{
	tcs_leavable_innermost->left = true;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("what planning reads has to be waited for first")));
}
