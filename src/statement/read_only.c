/*-------------------------------------------------------------------------
 *
 * read_only.c
 *	  What a read-only transaction refuses anyway.
 *
 * NOTES
 *	  A standby refuses to write.  Core does so when the statement runs, with
 *	  SQLSTATE 25006, by which poolers know a demoted primary.  Such a statement
 *	  must not be kept waiting first, nor fail for another reason.  And it must not
 *	  read anything on its way to the refusal: so it is refused here, by the test
 *	  that core makes, with core's own error.
 *
 *	  The test is that of ExecCheckXactReadOnly(): is any privilege but SELECT
 *	  needed on a table that is not temporary?  That includes FOR UPDATE, and what
 *	  would never be executed.  It does not include all that looks like writing:
 *	  MERGE ... DO NOTHING, or FOR UPDATE of a VALUES list.  Core runs those on a
 *	  standby, so they have to be fresh.
 *
 *	  Whatever core says later than that is left to it, after the wait: CALL, DO,
 *	  functions that write.
 *
 *	  This is for when the gate is about to wait, refuse or redirect.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/prepare.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "statement/read_only.h"
#include "statement/statement_queries.h"

/* Is more than reading asked of a relation, as ExecCheckXactReadOnly() sees it? */
static bool
is_written(Oid relid, AclMode required)
{
	return (required & ~ACL_SELECT) != 0 &&
		!isTempNamespace(get_rel_namespace(relid));
}

/* Is any relation of a list of permissions written? */
static bool
any_is_written(List *permissions)
{
	ListCell   *lc;

	foreach(lc, permissions)
	{
		Oid			relid;
		AclMode		required;

		if (tcs_permission_compat(lfirst(lc), &relid, &required) &&
			is_written(relid, required))
			return true;
	}
	return false;
}

/* Does a plan write, so that the executor refuses it? */
static bool
plan_writes(const PlannedStmt *plan)
{
	return any_is_written(tcs_plan_permissions_compat(plan));
}

/* The same of a query.  The planner keeps all relations that it has at any depth. */
static bool
query_writes_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;

		return any_is_written(tcs_query_permissions_compat(query)) ||
			query_tree_walker(query, query_writes_walker, context, 0);
	}
	return expression_tree_walker(node, query_writes_walker, context);
}

/* Find the first query that locks rows. */
static bool
locking_query_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;

		if (query->rowMarks != NIL)
		{
			*(Query **) context = query;
			return true;
		}
		return query_tree_walker(query, locking_query_walker, context, 0);
	}
	return expression_tree_walker(node, locking_query_walker, context);
}

/* What core calls the plan of a query: it keeps the locks that it has at any depth. */
static const char *
command_name(Query *query)
{
	Query	   *locking = query;

	if (query->commandType == CMD_SELECT)
		(void) locking_query_walker((Node *) query, &locking);
	return CreateCommandName((Node *) locking);
}

/* Throw what core would if the rewritten query is run. */
void
tcs_refused_check_query(Query *query)
{
	if (XactReadOnly && query_writes_walker((Node *) query, NULL))
		PreventCommandIfReadOnly(command_name(query));
}

/* Note the name of the first query that writes. */
static void
judge_query(Query *query, void *arg)
{
	const char **command = arg;

	if (*command == NULL && query_writes_walker((Node *) query, NULL))
		*command = command_name(query);
}

/* Does the text of a statement write or lock rows, as far as can be told from it? */
static bool
text_writes_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_InsertStmt:
		case T_UpdateStmt:
		case T_DeleteStmt:
		case T_MergeStmt:
		case T_LockingClause:
			return true;
		default:
			return raw_expression_tree_walker(node, text_writes_walker, context);
	}
}

/*
 * Core's walker knows no utility statements.  The protocol can prepare those as well;
 * what they write, core refuses when they run.
 */
static bool
text_can_be_walked(const RawStmt *raw)
{
	if (raw == NULL)
		return false;
	switch (nodeTag(raw->stmt))
	{
		case T_SelectStmt:
		case T_InsertStmt:
		case T_UpdateStmt:
		case T_DeleteStmt:
		case T_MergeStmt:
			return true;
		default:
			return false;
	}
}

/* The CREATE TABLE AS EXECUTE's EXECUTE, or NULL. */
static ExecuteStmt *
execute_of_create(const CreateTableAsStmt *create)
{
	Node	   *inner = castNode(Query, create->query)->utilityStmt;

	return inner != NULL && IsA(inner, ExecuteStmt) ? (ExecuteStmt *) inner : NULL;
}

/*
 * Is it worth a look?  What has not been analysed yet is told by its text.
 * Rewriting can take writes away, but adds none to a query that reads.
 */
static bool
utility_may_write(Node *utility)
{
	if (IsA(utility, ExecuteStmt))
	{
		PreparedStatement *prepared = FetchPreparedStatement(((ExecuteStmt *) utility)->name, true);

		return text_can_be_walked(prepared->plansource->raw_parse_tree) &&
			text_writes_walker(prepared->plansource->raw_parse_tree->stmt, NULL);
	}
	if (IsA(utility, CopyStmt))
		return text_writes_walker(((CopyStmt *) utility)->query, NULL);
	if (IsA(utility, DeclareCursorStmt))
		return query_writes_walker(((DeclareCursorStmt *) utility)->query, NULL);
	return IsA(utility, ExplainStmt) &&
		query_writes_walker(((ExplainStmt *) utility)->query, NULL);
}

/* The same of a utility statement. */
static void
check_utility(const TcsSite *site)
{
	Node	   *utility = site->utility;
	const char *command = NULL;

	/* EXPLAIN ANALYZE is refused as what it runs */
	while (IsA(utility, ExplainStmt))
	{
		Query	   *query = castNode(Query, ((ExplainStmt *) utility)->query);

		if (query->commandType != CMD_UTILITY)
			break;
		utility = query->utilityStmt;

		/*
		 * with IF NOT EXISTS it may do nothing; core only shows the name of
		 * others
		 */
		if (IsA(utility, CreateTableAsStmt) ? ((CreateTableAsStmt *) utility)->if_not_exists :
			!(IsA(utility, ExecuteStmt) || IsA(utility, DeclareCursorStmt)))
			return;
	}
	if (IsA(utility, CreateTableAsStmt) || IsA(utility, RefreshMatViewStmt))
	{
		ExecuteStmt *execute = IsA(utility, CreateTableAsStmt) ?
			execute_of_create((CreateTableAsStmt *) utility) : NULL;

		/* EXPLAIN ANALYZE says first that there is nothing to execute */
		if (utility != site->utility && execute != NULL)
			(void) FetchPreparedStatement(execute->name, true);
		PreventCommandIfReadOnly(CreateCommandName(utility));
	}
	else if (utility_may_write(utility))
	{
		(void) tcs_look_at_queries(site, judge_query, &command);
		if (command != NULL)
			PreventCommandIfReadOnly(command);
	}
}

/*
 * The gate is about to wait, refuse or redirect.  Throw what core would throw
 * anyway, as soon as the statement runs.
 */
void
tcs_refused_check(const TcsSite *site)
{
	if (!XactReadOnly || site->explain_only || site->explain_reads)
		return;
	switch (site->kind)
	{
		case TCS_SITE_QUERY:
		case TCS_SITE_NESTED:
			if (site->query_desc && plan_writes(site->query_desc->plannedstmt))
				PreventCommandIfReadOnly(CreateCommandName((Node *) site->query_desc->plannedstmt));
			break;
		case TCS_SITE_UTILITY:
			check_utility(site);
			break;
		default:
			break;
	}
}
