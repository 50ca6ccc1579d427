/*-------------------------------------------------------------------------
 *
 * leftovers.c
 *	  What a redirected statement would leave behind on the primary.
 *
 * NOTES
 *	  A redirected statement runs in a connection that other statements use
 *	  later, perhaps through a pooler.  Whatever a session keeps beyond its
 *	  transaction would be lost to the session on the standby, and in the way
 *	  of others.  The transaction is READ ONLY and its settings are local, so
 *	  temporary objects and settings are no concern here.  What is left:
 *
 *		LISTEN, PREPARE, DEALLOCATE, cursors WITH HOLD, LOAD, DISCARD: these are
 *		utility statements, and are refused before they do anything.
 *
 *		Advisory locks: functions take them, and may give them back themselves.
 *		What is held when the statement has ended is an error.  So is a lock of
 *		the transaction, if the client's transaction goes on and this one does
 *		not.
 *
 *	  A statement that fails can leave a session-level lock, too, and no command
 *	  of ours follows on a failed one.  So such locks are given back when the
 *	  transaction has released all its own locks: those that are left then are
 *	  the session's.  Releasing a lock that is held neither throws nor allocates.
 *
 *	  Locks that were held before the transaction belong to somebody else, who
 *	  has used session-level locks through a pooler.  They are left alone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/cmdtag.h"
#include "tcop/pquery.h"
#include "tcop/utility.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/resowner.h"

#include "base/compat.h"
#include "redirect/leftovers.h"

/* An advisory lock, and the modes in which it is held. */
typedef struct HeldLock
{
	LOCKTAG		tag;
	LOCKMASK	modes;
} HeldLock;

bool		tcs_leftover_is_watched = false;

/* Advisory locks that were held when the transaction began. */
static HeldLock *held_before = NULL;
static int	nheld_before = 0;

/* Modes of a lock that were held before. */
static LOCKMASK
modes_before(const LOCKTAG *tag)
{
	for (int i = 0; i < nheld_before; i++)
	{
		if (memcmp(&held_before[i].tag, tag, sizeof(LOCKTAG)) == 0)
			return held_before[i].modes;
	}
	return 0;
}

/*
 * Go through the advisory locks of this process that were not held before.
 * Returns how many there are, each mode counted; the first ones go into an
 * array of the given size.
 *
 * Others add to our lists only locks of relations, which have a fast path.  So
 * a list that looks empty has no advisory lock, also without its lock.
 */
static int
find_new_locks(HeldLock *found, int size)
{
	int			nfound = 0;
	int			nmodes = 0;

	for (int i = 0; i < NUM_LOCK_PARTITIONS; i++)
	{
		LWLock	   *partition_lock = LockHashPartitionLockByIndex(i);

		if (tcs_next_proclock_compat(i, NULL) == NULL)
			continue;
		LWLockAcquire(partition_lock, LW_SHARED);
		for (PROCLOCK *held = tcs_next_proclock_compat(i, NULL); held != NULL;
			 held = tcs_next_proclock_compat(i, held))
		{
			const LOCKTAG *tag = &held->tag.myLock->tag;
			LOCKMASK	modes;

			if (tag->locktag_type != LOCKTAG_ADVISORY)
				continue;
			modes = held->holdMask & ~modes_before(tag);
			if (modes == 0)
				continue;
			nmodes += pg_popcount32(modes);
			if (nfound < size)
			{
				found[nfound].tag = *tag;
				found[nfound++].modes = modes;
			}
		}
		LWLockRelease(partition_lock);
	}
	return nmodes;
}

/*
 * Give back what the session holds and has not held before.  Nothing but the
 * session's own locks may be there any more.
 */
static void
release_new_locks(void)
{
	HeldLock	lock;

	while (find_new_locks(&lock, 1) > 0)
	{
		bool		released = false;

		for (LOCKMODE mode = 1; mode < MAX_LOCKMODES; mode++)
		{
			/* it counts how often a lock was taken */
			while ((lock.modes & LOCKBIT_ON(mode)) != 0 &&
				   find_new_locks(&lock, 1) > 0 &&
				   (lock.modes & LOCKBIT_ON(mode)) != 0 &&
				   LockRelease(&lock.tag, mode, true))
				released = true;
		}
		if (!released)
			break;
	}
}

/* At the end of each resource owner's phases. */
static void
resources_released(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	if (!tcs_leftover_is_watched || phase != RESOURCE_RELEASE_AFTER_LOCKS)
		return;
	if (is_top_level)
	{
		release_new_locks();
		tcs_leftover_is_watched = false;
		held_before = NULL;
		nheld_before = 0;
	}
	else if (!is_commit && ActivePortal == NULL && nheld_before == 0)
	{
		/*
		 * A statement of the client has failed, and its transaction goes on
		 * from a savepoint.  Functions that catch errors have a portal.
		 */
		LockReleaseSession(USER_LOCKMETHOD);
	}
}

/* A redirected transaction begins. */
void
tcs_leftover_watch(void)
{
	static bool registered = false;
	int			n;

	if (tcs_leftover_is_watched)
		return;
	if (!registered)
		RegisterResourceReleaseCallback(resources_released, NULL);
	registered = true;
	held_before = NULL;
	nheld_before = 0;
	n = find_new_locks(NULL, 0);
	if (n > 0)
	{
		HeldLock   *found = MemoryContextAllocZero(TopTransactionContext, n * sizeof(HeldLock));

		(void) find_new_locks(found, n);
		held_before = found;
		nheld_before = n;
	}
	tcs_leftover_is_watched = true;
}

/* A utility statement is about to run in a redirected transaction. */
void
tcs_leftover_refuse_utility(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DeclareCursorStmt:
			if ((((DeclareCursorStmt *) statement)->options & CURSOR_OPT_HOLD) == 0)
				return;
			break;
		case T_ListenStmt:
		case T_UnlistenStmt:
		case T_PrepareStmt:
		case T_DeallocateStmt:
		case T_LoadStmt:
		case T_DiscardStmt:
			break;
		default:
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot execute %s in a redirected statement", CreateCommandName(statement)),
			 errdetail("What it changes on the primary would be lost to the session on the standby."),
			 errhint("Run the statement on the primary, or without \"redirect\" in tcs.fallback.")));
}

/*
 * A redirected statement has ended: does it hold an advisory lock?  Those of the
 * transaction may stay if that lasts as long as the client's.
 */
void
tcs_leftover_require_none(bool may_hold)
{
	int			held;
	int			left = 0;

	/* another caller keeps what is its own */
	if (!tcs_leftover_is_watched)
		return;
	held = find_new_locks(NULL, 0);
	if (held == 0)
		return;
	/* with locks of somebody else, whose they are cannot be told apart */
	if (may_hold && nheld_before == 0)
	{
		LockReleaseSession(USER_LOCKMETHOD);
		left = find_new_locks(NULL, 0);
		if (left == held)
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("the redirected statement took an advisory lock that the session cannot keep"),
			 errdetail("It was taken on the primary, and is released there."),
			 errhint("Run the statement on the primary, or without \"redirect\" in tcs.fallback.")));
}

/* A redirected statement has ended: has it left a cursor open? */
void
tcs_leftover_require_no_cursor(void)
{
	if (!tcs_leftover_is_watched || ThereAreNoReadyPortals())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("the redirected statement left a cursor open that the session cannot fetch from"),
			 errdetail("It was opened on the primary, and is closed there."),
			 errhint("Let the function take or return refcursor, or run the statement on the primary.")));
}
