/*-------------------------------------------------------------------------
 *
 * tcs_commits.c
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
 *	  A transaction that commits by another one's doing (COMMIT PREPARED by an
 *	  apply worker) is under way without a bound.  It shows in the snapshot: an
 *	  xid that the snapshot takes for running and the commit log for committed.
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
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/proc.h"

#include "tcs_commits.h"
#include "tcs_compat.h"

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
tcs_commits_shmem_init(void *ptr, bool found)
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

/* May a commit record below "upto" belong to a transaction not yet visible? */
bool
tcs_commits_under_way(XLogRecPtr upto)
{
	int			me = tcs_my_proc_number_compat();

	for (int i = 0; i < MaxBackends; i++)
	{
		XLogRecPtr	bound;

		if (i == me)
			continue;
		bound = pg_atomic_read_u64(&commit_bounds[i]);
		if (bound != 0 && bound < upto)
			return true;
	}
	return false;
}

/* Does the snapshot take a transaction for running that has committed? */
bool
tcs_commits_missed_by(Snapshot snapshot)
{
	for (uint32 i = 0; i < snapshot->xcnt; i++)
	{
		if (TransactionIdDidCommit(snapshot->xip[i]))
			return true;
	}
	return false;
}
