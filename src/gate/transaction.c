/*-------------------------------------------------------------------------
 *
 * transaction.c
 *	  What the gate knows of the present transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/snapmgr.h"

#include "base/settings.h"
#include "base/xact.h"
#include "gate/snapshot_swap.h"
#include "gate/transaction.h"
#include "session/proof.h"

TcsTransaction tcs_transaction;
TcsGaveUp	tcs_gave_up;
LocalTransactionId tcs_redirected_in;

/* Note what is known of a REPEATABLE READ transaction when it first comes. */
void
tcs_transaction_note(int64 arrival)
{
	LocalTransactionId lxid = tcs_xact_id();

	if (tcs_transaction.lxid == lxid)
		return;
	tcs_transaction.lxid = lxid;
	tcs_transaction.arrival = arrival;

	/*
	 * tcs_proven.proof was noted in an earlier transaction, or in this one
	 * before it had a snapshot: it is changed nowhere else.
	 */
	tcs_transaction.proof = tcs_proven.proof;
	tcs_transaction.acknowledged = tcs_proven.acknowledged;
	tcs_transaction.confirmed = false;
	tcs_transaction.by_level = false;
	tcs_transaction.imported = false;
}

/*
 * After BEGIN or SET in a REPEATABLE READ transaction: note what is proved of its
 * snapshot, as long as it has none.  What it reads later may ask for that.
 */
void
tcs_transaction_prove(void)
{
	int64		now = tcs_now();

	if (FirstSnapshotSet)
		return;
	tcs_proof_note();
	tcs_transaction_note(now);
	tcs_transaction.proof = tcs_proven.proof;
	tcs_transaction.acknowledged = tcs_proven.acknowledged;
}

/* SET TRANSACTION SNAPSHOT: of somebody else's snapshot nothing is known. */
void
tcs_transaction_snapshot_imported(void)
{
	memset(&tcs_transaction, 0, sizeof(tcs_transaction));
	tcs_transaction.lxid = tcs_transaction.used_in = tcs_xact_id();
	tcs_transaction.imported = true;
	tcs_transaction.arrival = tcs_now();
	tcs_proven.settled = 0;
}

/*
 * A statement of the client uses the snapshot of its REPEATABLE READ
 * transaction, which is fixed from now on.
 */
void
tcs_transaction_note_snapshot_use(void)
{
	tcs_transaction.used_in = tcs_xact_id();
}

/*
 * After BEGIN, or SET before the first query, at level "snapshot": make the
 * transaction REPEATABLE READ, as StartTransaction() would.
 */
void
tcs_transaction_fix_isolation(void)
{
	Assert(!FirstSnapshotSet && !IsolationUsesXactSnapshot());
	XactIsoLevel = XACT_REPEATABLE_READ;
	tcs_transaction_note(tcs_now());
	tcs_transaction.by_level = true;
}

/*
 * Was the present transaction made REPEATABLE READ by level "snapshot", and
 * everything that was refused since must be told so?
 */
bool
tcs_transaction_is_by_level(void)
{
	return tcs_transaction.lxid == tcs_xact_id() && tcs_transaction.by_level;
}

/* BEGIN or SET has waited, and not got what was asked for. */
void
tcs_transaction_note_gave_up(uint64 generation, int64 waited_us, TcsReason reason)
{
	tcs_gave_up.lxid = tcs_xact_id();
	tcs_gave_up.generation = generation;
	tcs_gave_up.waited_us = waited_us;
	tcs_gave_up.reason = reason;
}

/* Has this transaction given up on what is still asked for, at BEGIN or SET? */
bool
tcs_transaction_gave_up(uint64 generation)
{
	return tcs_gave_up.lxid == tcs_xact_id() &&
		tcs_gave_up.generation == generation;
}
