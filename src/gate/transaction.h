/*-------------------------------------------------------------------------
 *
 * transaction.h
 *	  What the gate knows of the present transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_TRANSACTION_H
#define TCS_TRANSACTION_H

#include "storage/lock.h"

#include "base/tcs.h"

/*
 * What is known of the snapshot of the present REPEATABLE READ transaction.  Valid
 * while lxid is that of the transaction, so nothing need be undone at its end.
 */
typedef struct TcsTransaction
{
	LocalTransactionId lxid;	/* which one; 0: none */
	TcsProof	proof;			/* noted before its snapshot was taken */
	TcsPosition acknowledged;	/* likewise; see TcsProven */
	bool		confirmed;		/* a quorum has confirmed all it shows */
	bool		by_level;		/* it is REPEATABLE READ because of the level */
	bool		imported;		/* the snapshot is somebody else's */
	int64		arrival;		/* the transaction's moment */
	LocalTransactionId used_in; /* in which its snapshot was used */
} TcsTransaction;

/*
 * A wait at BEGIN or SET that has failed: the statement to come refuses
 * without waiting again, unless something else is asked for by then.
 */
typedef struct TcsGaveUp
{
	LocalTransactionId lxid;
	uint64		generation;		/* of the settings */
	int64		waited_us;
	TcsReason	reason;
} TcsGaveUp;

extern TCS_LOCAL TcsTransaction tcs_transaction;
extern TCS_LOCAL TcsGaveUp tcs_gave_up;

/*
 * The transaction in which a read at level "snapshot" was redirected for itself,
 * so that the one snapshot was the primary's.
 */
extern TCS_LOCAL LocalTransactionId tcs_redirected_in;

extern void tcs_transaction_note(int64 arrival);
extern void tcs_transaction_prove(void);
extern void tcs_transaction_snapshot_imported(void);
extern void tcs_transaction_note_snapshot_use(void);
extern void tcs_transaction_fix_isolation(void);
extern bool tcs_transaction_is_by_level(void);
extern void tcs_transaction_note_gave_up(uint64 generation, int64 waited_us,
										 TcsReason reason);
extern bool tcs_transaction_gave_up(uint64 generation);

#endif							/* TCS_TRANSACTION_H */
