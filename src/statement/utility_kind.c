/*-------------------------------------------------------------------------
 *
 * utility_kind.c
 *	  Utility statements: which of them read, hold locks, show something of a snapshot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/defrem.h"
#include "nodes/parsenodes.h"

#include "base/own_objects.h"
#include "statement/exempt.h"
#include "statement/utility_kind.h"

/* Is it EXPLAIN that does not run what it explains? */
bool
tcs_utility_explains_only(Node *statement)
{
	ListCell   *lc;

	if (!IsA(statement, ExplainStmt))
		return false;
	foreach(lc, ((ExplainStmt *) statement)->options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "analyze") == 0 && defGetBoolean(option))
			return false;
	}
	return true;
}

/* Does a utility statement read, so that it has to come to the gate? */
bool
tcs_utility_reads(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_ExecuteStmt:
		case T_DeclareCursorStmt:
		case T_DoStmt:
		case T_CreateTableAsStmt:
		case T_RefreshMatViewStmt:
			return true;
		case T_CallStmt:
			{
				FuncExpr   *call = ((CallStmt *) statement)->funcexpr;

				return call == NULL || !tcs_is_own_function(call->funcid);
			}
		case T_CopyStmt:
			return !((CopyStmt *) statement)->is_from;
		case T_ExplainStmt:
			return !tcs_utility_explains_only(statement);
		default:
			return false;
	}
}

/* Does a utility statement hold locks of its own parse analysis by now? */
bool
tcs_utility_holds_locks(Node *statement)
{
	return IsA(statement, DeclareCursorStmt) || IsA(statement, ExplainStmt);
}

/*
 * Does a utility statement that PostgreSQL gives a snapshot show something of it?
 *
 * All others that a standby allows take no snapshot, or come to the gate.  On a
 * primary there is DDL besides, which reads with it.
 */
bool
tcs_utility_uses_snapshot(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_ClosePortalStmt:
		case T_DeallocateStmt:
		case T_DiscardStmt:
		case T_LoadStmt:
		case T_PrepareStmt:
			return false;
		case T_CallStmt:
			/* a procedure of ours, or it comes to the gate */
			return tcs_utility_reads(statement) ||
				tcs_expression_reads((Node *) ((CallStmt *) statement)->funcexpr);
		case T_ExplainStmt:
			/* one that only plans has seen nothing with it */
			return !tcs_utility_explains_only(statement);
		default:
			return true;
	}
}
