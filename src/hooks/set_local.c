/*-------------------------------------------------------------------------
 *
 * set_local.c
 *	  SET LOCAL that comes to nothing.
 *
 * NOTES
 *	  SET LOCAL outside a transaction block is over with its own statement.  Core
 *	  only warns.  For a level or a token, that would be a stale read that the
 *	  client has not chosen, so here it is an error.
 *
 *	  When SET LOCAL runs, nobody can know whether more is to come.  In a pipeline
 *	  of the extended protocol, the statements up to Sync are one transaction, and
 *	  SET LOCAL as the first of them does bind the others.  So it is judged when
 *	  the transaction commits: did any other statement come?  One that reads or
 *	  writes has taken a snapshot, which SET does not.  Utility statements without
 *	  a snapshot, such as SHOW, pass through here.
 *
 *	  The callback is registered by the first such SET LOCAL of a session.  Other
 *	  sessions do not pay for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "nodes/parsenodes.h"
#include "storage/lock.h"
#include "utils/snapmgr.h"

#include "base/xact.h"
#include "hooks/set_local.h"

/* The transaction that began with such a SET LOCAL, and the setting's name. */
static LocalTransactionId alone_in = InvalidLocalTransactionId;
static char alone_name[NAMEDATALEN];

static void
refuse_before_commit(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_PRE_COMMIT || alone_in != tcs_xact_id())
		return;
	alone_in = InvalidLocalTransactionId;
	if (!FirstSnapshotSet)
		ereport(ERROR,
				(errcode(ERRCODE_NO_ACTIVE_SQL_TRANSACTION),
				 errmsg("SET LOCAL of \"%s\" has no effect outside a transaction block", alone_name),
				 errdetail("No other statement came in the transaction."),
				 errhint("Use BEGIN before it, or SET without LOCAL.")));
}

/* Is it SET LOCAL of one of our settings? */
static bool
sets_local(Node *statement)
{
	VariableSetStmt *set = (VariableSetStmt *) statement;

	return set->is_local && set->name != NULL &&
		pg_strncasecmp(set->name, "tcs.", 4) == 0;
}

/* Can the other settings of its transaction matter to a statement? */
static bool
can_be_bound(Node *statement)
{
	if (IsA(statement, VariableSetStmt))
		return false;
	if (IsA(statement, TransactionStmt))
	{
		TransactionStmtKind kind = ((TransactionStmt *) statement)->kind;

		return kind == TRANS_STMT_BEGIN || kind == TRANS_STMT_START;
	}
	return true;
}

/*
 * Before a utility statement of the client.  "is_top_level" is what core goes by
 * when it warns; IsTransactionBlock() includes several statements in one message.
 */
void
tcs_set_local_before_utility(Node *statement, bool is_top_level)
{
	static bool is_registered = false;

	if (can_be_bound(statement))
		alone_in = InvalidLocalTransactionId;
	if (!is_top_level || !IsA(statement, VariableSetStmt) || !sets_local(statement) ||
		IsTransactionBlock() || IsSubTransaction())
		return;
	if (!is_registered)
	{
		RegisterXactCallback(refuse_before_commit, NULL);
		is_registered = true;
	}
	alone_in = tcs_xact_id();
	strlcpy(alone_name, ((VariableSetStmt *) statement)->name, sizeof(alone_name));
}
