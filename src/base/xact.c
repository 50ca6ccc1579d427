/*-------------------------------------------------------------------------
 *
 * xact.c
 *	  The transaction at hand, and whose it is.
 *
 * NOTES
 *	  The local part of the virtual transaction id tells one transaction of a
 *	  process from another.  tcs may give a transaction another virtual id while it
 *	  waits for replay, so what is kept "of a transaction" is kept under the id that
 *	  it began with.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"

#include "base/compat.h"
#include "base/xact.h"

/* The last virtual transaction id that was given in place of another. */
static struct
{
	LocalTransactionId lxid;	/* 0: none */
	LocalTransactionId original;
}			renewed;

/*
 * Is this a process that reads on behalf of a client?  Autovacuum, walsenders,
 * parallel and background workers are never held back nor get tokens.
 */
bool
tcs_is_client_backend(void)
{
	return MyBackendType == B_BACKEND && !IsParallelWorker();
}

/* What tells this transaction from others: the virtual id that it began with. */
LocalTransactionId
tcs_xact_id(void)
{
	LocalTransactionId lxid = tcs_my_lxid_compat();

	return lxid == renewed.lxid ? renewed.original : lxid;
}

/* Give the transaction another virtual id; tcs_xact_id() stays the same. */
void
tcs_xact_renew_virtual_id(void)
{
	LocalTransactionId original = tcs_xact_id();

	tcs_renew_virtual_xid_compat();
	renewed.lxid = tcs_my_lxid_compat();
	renewed.original = original;
}

/*
 * Is the statement at hand the first and only one of its transaction?  In a
 * pipeline without Sync earlier ones may have left locks behind.
 */
bool
tcs_xact_statement_is_sole(void)
{
	return !IsTransactionBlock() && GetCurrentTransactionNestLevel() == 1 &&
		(MyXactFlags & XACT_FLAGS_PIPELINING) == 0;
}
