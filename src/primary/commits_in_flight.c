/*-------------------------------------------------------------------------
 *
 * commits_in_flight.c
 *	  Commits under way on the primary.
 *
 * NOTES
 *	  A commit can be replayed, and read, on a standby while its own backend on
 *	  the primary is still between writing the commit record and leaving the
 *	  ProcArray (it may wait for a synchronous standby there).  A session that
 *	  has read it on the standby and now reads on the primary would go back in
 *	  time.  So each process that commits publishes a lower bound of the
 *	  position of its commit record, from before the record is written until
 *	  after the transaction has left the ProcArray, and a reader whose token
 *	  says "seen on a standby up to S" waits while any bound lies below S.
 *
 *	  Who has no xid yet may still get one before the record is written
 *	  (NOTIFY, ON COMMIT DROP).  Such a process publishes the lowest bound there
 *	  is: reading the insert position would cost every read-only transaction a
 *	  spinlock, and its commit does not wait for synchronous standbys unless it
 *	  got an xid after all.
 *
 *	  An apply worker runs COMMIT PREPARED where no hook of ours sees it, so that
 *	  commit has no bound.  Its transaction is found among the prepared ones: it
 *	  is still in the ProcArray, and the commit log has it as committed.  Between
 *	  the commit record and the commit log, the worker delays checkpoints, which
 *	  its PGPROC shows.  We look there first: a worker that does not delay them
 *	  any more has updated the commit log.
 *
 *	  A reader looks first, and takes its snapshot second.  What has left the
 *	  ProcArray by the time of the look is visible to every later snapshot, and
 *	  what was written after S was made is not asked for.  A look after the
 *	  snapshot proves nothing.  A commit can end between the two, and if its xid
 *	  is not below the snapshot's xmax, no part of the snapshot names it.
 *
 *	  Memory ordering: the bound must be visible before the commit record is.
 *	  The record becomes visible to others through XLogInsert(), which takes and
 *	  releases locks, and that is the barrier.  A reader comes with an S from
 *	  beyond that record, over the network.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/proc.h"
#include "storage/procarray.h"

#include "base/compat.h"
#include "primary/commits_in_flight.h"

/* a bound below every WAL position */
#define TCS_LOWEST_BOUND	1

/*
 * One bound per process number, 0 for none.  Each is written by the process of
 * that number alone.
 */
static pg_atomic_uint64 *commit_bounds = NULL;

Size
tcs_commits_shmem_size(void)
{
	return mul_size(MaxBackends, sizeof(pg_atomic_uint64));
}

void
tcs_commits_shmem_init(void *ptr, LWLock *lock, bool found)
{
	commit_bounds = ptr;
	if (found)
		return;
	for (int i = 0; i < MaxBackends; i++)
		pg_atomic_init_u64(&commit_bounds[i], 0);
}

/* This process is about to write a commit record, or may be. */
void
tcs_commits_enter(void)
{
	int			procno = tcs_my_proc_number_compat();
	XLogRecPtr	bound = TCS_LOWEST_BOUND;

	if (procno < 0 || procno >= MaxBackends)
		return;
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		bound = GetXLogInsertRecPtr();
	pg_atomic_write_u64(&commit_bounds[procno], bound);
}

/* This process's transaction has left the ProcArray, or did not commit. */
void
tcs_commits_leave(void)
{
	int			procno = tcs_my_proc_number_compat();

	if (procno >= 0 && procno < MaxBackends)
		pg_atomic_write_u64(&commit_bounds[procno], 0);
}

/* Does a process without a bound write a commit record, or something like it? */
static bool
is_written_unannounced(void)
{
	for (int i = 0; i < MaxBackends; i++)
	{
		volatile PGPROC *proc = &ProcGlobal->allProcs[i];

		if ((proc->delayChkptFlags & DELAY_CHKPT_START) != 0 &&
			pg_atomic_read_u64(&commit_bounds[i]) == 0)
			return true;
	}
	return false;
}

/*
 * Is a prepared transaction being committed by a process that has no bound?
 *
 * A dummy PGPROC keeps its last xid when it is given back, so the xid alone
 * does not tell whether the transaction is still there.
 */
static bool
prepared_under_way(void)
{
	bool		looked = false;

	for (int i = 0; i < max_prepared_xacts; i++)
	{
		TransactionId xid = ((volatile PGPROC *) &PreparedXactProcs[i])->xid;

		if (!TransactionIdIsValid(xid) || !TransactionIdIsInProgress(xid))
			continue;
		if (!looked && is_written_unannounced())
			return true;
		looked = true;
		/* the flag of a process is cleared after the commit log is written */
		pg_memory_barrier();
		if (TransactionIdDidCommit(xid))
			return true;
	}
	return false;
}

/*
 * May a commit record below "upto" belong to a transaction that a snapshot
 * taken now would not show?
 */
bool
tcs_commits_under_way(XLogRecPtr upto)
{
	int			me = tcs_my_proc_number_compat();

	if (upto == InvalidXLogRecPtr)
		return false;
	for (int i = 0; i < MaxBackends; i++)
	{
		XLogRecPtr	bound;

		if (i == me)
			continue;
		bound = pg_atomic_read_u64(&commit_bounds[i]);
		if (bound != 0 && bound < upto)
			return true;
	}
	return prepared_under_way();
}

/*
 * The position up to which tcs_commits_under_way() would say no, at most "upto";
 * InvalidXLogRecPtr if that is not known.
 */
XLogRecPtr
tcs_commits_done_up_to(XLogRecPtr upto)
{
	int			me = tcs_my_proc_number_compat();

	for (int i = 0; i < MaxBackends; i++)
	{
		XLogRecPtr	bound;

		if (i == me)
			continue;
		bound = pg_atomic_read_u64(&commit_bounds[i]);
		if (bound != 0 && bound < upto)
			upto = bound;
	}
	return upto <= TCS_LOWEST_BOUND || prepared_under_way() ? InvalidXLogRecPtr : upto;
}
