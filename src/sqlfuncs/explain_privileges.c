/*-------------------------------------------------------------------------
 *
 * explain_privileges.c
 *	  explain_level() of a statement that its caller may not run.
 *
 * NOTES
 *	  The level of a statement tells which rules there are for what it reads, and why.
 *	  So explain_level() asks for the privileges that EXPLAIN asks for, and fails
 *	  as EXPLAIN does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/prepare.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "rules/rule_cache.h"
#include "sqlfuncs/explain_privileges.h"

/* A function without rules tells nothing. */
static bool
require_function(Oid function, void *context)
{
	if (tcs_rules_of_function(function) && !tcs_may_execute_compat(function, GetUserId()))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(function));
	return false;
}

static bool
query_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	(void) check_functions_in_node(node, require_function, NULL);
	if (IsA(node, Query))
	{
		tcs_require_permissions_compat((Query *) node);
		return query_tree_walker((Query *) node, query_walker, context, 0);
	}
	return expression_tree_walker(node, query_walker, context);
}

/* The relations of a COPY, the query of which is not analysed yet. */
static bool
raw_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeVar))
	{
		Oid			relid = RangeVarGetRelid((RangeVar *) node, NoLock, true);
		AclMode		mode = *(const AclMode *) context;

		if (OidIsValid(relid) &&
			pg_class_aclcheck(relid, GetUserId(), mode) != ACLCHECK_OK &&
			pg_attribute_aclcheck_all(relid, GetUserId(), mode, ACLMASK_ANY) != ACLCHECK_OK)
			aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(relid));
		return false;
	}
	return raw_expression_tree_walker(node, raw_walker, context);
}

static void
require_for_copy(CopyStmt *copy)
{
	AclMode		mode = copy->is_from ? ACL_INSERT : ACL_SELECT;

	(void) raw_walker(copy->query ? copy->query : (Node *) copy->relation, &mode);
}

static void
require_for_prepared(const ExecuteStmt *execute)
{
	PreparedStatement *prepared = FetchPreparedStatement(execute->name, false);
	ListCell   *lc;

	foreach(lc, prepared ? prepared->plansource->query_list : NIL)
		tcs_explain_require_privileges(lfirst_node(Query, lc));
}

/* Fails if the present user could not run a query, or explain it. */
void
tcs_explain_require_privileges(Query *query)
{
	Node	   *statement = query->utilityStmt;
	Node	   *inner = NULL;

	if (query->commandType != CMD_UTILITY)
		inner = (Node *) query;
	else if (IsA(statement, ExplainStmt))
		inner = ((ExplainStmt *) statement)->query;
	else if (IsA(statement, DeclareCursorStmt))
		inner = ((DeclareCursorStmt *) statement)->query;
	else if (IsA(statement, CreateTableAsStmt))
		inner = ((CreateTableAsStmt *) statement)->query;
	else if (IsA(statement, CallStmt))
		(void) query_walker((Node *) ((CallStmt *) statement)->funcexpr, NULL);
	else if (IsA(statement, CopyStmt))
		require_for_copy((CopyStmt *) statement);
	else if (IsA(statement, ExecuteStmt))
		require_for_prepared((ExecuteStmt *) statement);
	if (inner == NULL || !IsA(inner, Query))
		return;
	if (((Query *) inner)->commandType == CMD_UTILITY)
		tcs_explain_require_privileges((Query *) inner);
	else
		(void) query_walker(inner, NULL);
}
