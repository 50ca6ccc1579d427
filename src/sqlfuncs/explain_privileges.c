/*-------------------------------------------------------------------------
 *
 * explain_privileges.c
 *	  explain_level() of a statement that its caller may not run.
 *
 * NOTES
 *	  The level of a statement tells which rules there are for what it reads, and why.
 *	  So explain_level() asks for the privileges that the statement asks for, and
 *	  fails as it does, or as EXPLAIN of it does.
 *
 *	  What a statement reads is known when it is rewritten, and when its functions
 *	  are inlined.  A view that runs as its invoker has relations that the text does
 *	  not name, and so has a function in SQL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "commands/prepare.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "choice/choice.h"
#include "rules/rule_cache.h"
#include "rules/sql_bodies.h"
#include "sqlfuncs/explain_privileges.h"
#include "statement/statement_source.h"

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

/* What planning puts in the place of functions. */
static void
require_for_inlined(Query *query)
{
	TcsRuleItems items = {0};
	PlannedStmt *plan = tcs_rules_plan_to_look(copyObject(query));
	ListCell   *lc;

	if (plan == NULL)
	{
		foreach(lc, tcs_sql_bodies(query))
			(void) query_walker(lfirst(lc), NULL);
		return;
	}
	tcs_require_permissions_of_plan_compat(plan);
	tcs_rules_collect_plan(plan, &items);
	foreach(lc, items.functions)
		(void) require_function(lfirst_oid(lc), NULL);
}

static void
require_for_rewritten(Query *query)
{
	if (query->commandType == CMD_UTILITY)
		return;
	(void) query_walker((Node *) query, NULL);
	if (tcs_rules_exist() && tcs_rules_may_be_inlined(query))
		require_for_inlined(query);
}

/* A query that is analysed, and not rewritten. */
static void
require_for_analysed(Query *query)
{
	ListCell   *lc;

	foreach(lc, pg_rewrite_query(copyObject(query)))
		require_for_rewritten(lfirst_node(Query, lc));
}

static void
refuse_relation(AclResult result, Oid relid)
{
	aclcheck_error(result, get_relkind_objtype(get_rel_relkind(relid)), get_rel_name(relid));
}

/* A privilege for some columns; for all of them if there is no list. */
static void
require_columns(Oid relid, List *names, AclMode mode)
{
	Oid			user = GetUserId();
	ListCell   *lc;

	if (pg_class_aclcheck(relid, user, mode) == ACLCHECK_OK)
		return;
	if (names == NIL && pg_attribute_aclcheck_all(relid, user, mode, ACLMASK_ALL) != ACLCHECK_OK)
		refuse_relation(ACLCHECK_NO_PRIV, relid);
	foreach(lc, names)
	{
		AttrNumber	column = get_attnum(relid, strVal(lfirst(lc)));

		if (column == InvalidAttrNumber ||
			pg_attribute_aclcheck(relid, column, user, mode) != ACLCHECK_OK)
			refuse_relation(ACLCHECK_NO_PRIV, relid);
	}
}

/*
 * The names in the query of a COPY: the level goes by these, also by one that is
 * that of a CTE or an alias as well.  See tcs_rules_collect_copy().
 */
static bool
raw_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeVar))
	{
		Oid			relid = RangeVarGetRelid((RangeVar *) node, NoLock, true);

		if (OidIsValid(relid) &&
			pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
			pg_attribute_aclcheck_all(relid, GetUserId(), ACL_SELECT, ACLMASK_ANY) != ACLCHECK_OK)
			refuse_relation(ACLCHECK_NO_PRIV, relid);
		return false;
	}
	return raw_expression_tree_walker(node, raw_walker, context);
}

static void
require_for_copy(const CopyStmt *copy, const char *source)
{
	Oid			relid;

	if (copy->query != NULL)
	{
		require_for_analysed(tcs_statement_query_of_copy(copy, source));
		(void) raw_walker(copy->query, NULL);
		return;
	}
	relid = RangeVarGetRelid(copy->relation, NoLock, true);
	if (OidIsValid(relid))
		require_columns(relid, copy->attlist, copy->is_from ? ACL_INSERT : ACL_SELECT);
}

static void
require_for_truncate(const TruncateStmt *truncate)
{
	ListCell   *lc;

	foreach(lc, tcs_choice_truncated_tables(truncate))
	{
		if (pg_class_aclcheck(lfirst_oid(lc), GetUserId(), ACL_TRUNCATE) != ACLCHECK_OK)
			refuse_relation(ACLCHECK_NO_PRIV, lfirst_oid(lc));
	}
}

static void
require_for_refresh(const RefreshMatViewStmt *refresh)
{
	Oid			relid = RangeVarGetRelid(refresh->relation, NoLock, true);
	AclResult	result = OidIsValid(relid) ?
		tcs_may_refresh_compat(relid, GetUserId()) : ACLCHECK_OK;

	if (result != ACLCHECK_OK)
		refuse_relation(result, relid);
}

/*
 * The query of a prepared statement as EXECUTE would have it now.  Names can have
 * come to mean something else since it was prepared.  The level may go by what is
 * kept of it all the same.
 *
 * Another utility statement is not looked into: the level does not go by it, and it
 * can be an EXECUTE of itself.
 */
static void
require_for_prepared(const ExecuteStmt *execute)
{
	PreparedStatement *prepared = FetchPreparedStatement(execute->name, false);
	CachedPlanSource *source = prepared ? prepared->plansource : NULL;
	ListCell   *lc;

	if (source == NULL || source->raw_parse_tree == NULL)
		return;
	require_for_analysed(tcs_statement_analyze_again(copyObject(source->raw_parse_tree),
													 source->query_string,
													 source->param_types, source->num_params));
	foreach(lc, source->is_valid ? copyObject(source->query_list) : NIL)
		require_for_rewritten(lfirst_node(Query, lc));
}

/*
 * Fails if the present user could not run a query, or explain it.  It is rewritten;
 * what is in a utility statement is not.
 */
void
tcs_explain_require_privileges(Query *query, const char *source)
{
	Node	   *statement = query->utilityStmt;
	Node	   *inner = NULL;

	if (query->commandType != CMD_UTILITY)
	{
		require_for_rewritten(query);
		return;
	}
	switch (nodeTag(statement))
	{
		case T_ExplainStmt:
			inner = ((ExplainStmt *) statement)->query;
			break;
		case T_DeclareCursorStmt:
			inner = ((DeclareCursorStmt *) statement)->query;
			break;
		case T_CreateTableAsStmt:
			inner = ((CreateTableAsStmt *) statement)->query;
			break;
		case T_CallStmt:
			(void) query_walker((Node *) ((CallStmt *) statement)->funcexpr, NULL);
			break;
		case T_CopyStmt:
			require_for_copy((CopyStmt *) statement, source);
			break;
		case T_TruncateStmt:
			require_for_truncate((TruncateStmt *) statement);
			break;
		case T_RefreshMatViewStmt:
			require_for_refresh((RefreshMatViewStmt *) statement);
			break;
		case T_ExecuteStmt:
			require_for_prepared((ExecuteStmt *) statement);
			break;
		default:
			break;
	}
	if (inner == NULL || !IsA(inner, Query))
		return;
	if (((Query *) inner)->commandType == CMD_UTILITY)
		tcs_explain_require_privileges((Query *) inner, source);
	else
		require_for_analysed((Query *) inner);
}
