/*-------------------------------------------------------------------------
 *
 * tcs_exempt.c
 *	  Statements that read nothing which could be stale.
 *
 * NOTES
 *	  What a node tells about itself (pg_is_in_recovery(), pg_stat_activity,
 *	  tcs.status()) and what depends on no data (SELECT 1) must answer also
 *	  where freshness cannot be had: health checks and the DBA who looks for
 *	  the cause depend on it.  The list is a positive one.  A built-in function
 *	  can read tables in ways that no plan shows (query_to_xml(), ts_stat()), so
 *	  what is not known to be harmless is gated.
 *
 *	  The planner sees the query with views expanded but still recognisable, so
 *	  the verdict is made there and kept in the plan, where it survives the plan
 *	  cache: as an invalidation item of a cache that does not exist, which
 *	  plancache.c copies and never matches.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_language.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "tcs_compat.h"
#include "tcs_exempt.h"
#include "tcs_own.h"
#include "tcs_rules.h"

/* Cache id of the mark; syscaches are numbered from zero. */
#define TCS_EXEMPT_CACHE_ID		(-7463)

/* Built-in functions that are not immutable, and read no user or catalog data. */
static const Oid harmless_functions[] = {
	F_NOW, F_CLOCK_TIMESTAMP, F_STATEMENT_TIMESTAMP, F_TRANSACTION_TIMESTAMP,
	F_TIMEOFDAY, F_VERSION, F_PG_SLEEP, F_PG_SLEEP_FOR, F_PG_SLEEP_UNTIL,
	F_PG_BACKEND_PID, F_PG_IS_IN_RECOVERY, F_PG_POSTMASTER_START_TIME,
	F_PG_CONF_LOAD_TIME, F_PG_LAST_WAL_RECEIVE_LSN, F_PG_LAST_WAL_REPLAY_LSN,
	F_PG_LAST_XACT_REPLAY_TIMESTAMP, F_PG_IS_WAL_REPLAY_PAUSED,
	F_PG_GET_WAL_REPLAY_PAUSE_STATE, F_PG_WAL_REPLAY_PAUSE,
	F_PG_WAL_REPLAY_RESUME, F_PG_PROMOTE, F_PG_RELOAD_CONF,
	F_PG_CANCEL_BACKEND, F_PG_TERMINATE_BACKEND,
	F_PG_CONTROL_SYSTEM, F_PG_CONTROL_CHECKPOINT, F_PG_CONTROL_RECOVERY,
	F_PG_CONTROL_INIT, F_CURRENT_SETTING_TEXT, F_CURRENT_SETTING_TEXT_BOOL,
	F_SET_CONFIG, F_INET_CLIENT_ADDR, F_INET_CLIENT_PORT, F_INET_SERVER_ADDR,
	F_INET_SERVER_PORT, F_PG_CURRENT_WAL_LSN, F_PG_CURRENT_WAL_INSERT_LSN,
	F_PG_CURRENT_WAL_FLUSH_LSN, F_PG_BLOCKING_PIDS, F_PG_LOCK_STATUS,
	F_PG_SHOW_ALL_SETTINGS, F_PG_SETTINGS_GET_FLAGS, F_GEN_RANDOM_UUID,
	/* to show the above; what they convert is looked at by itself */
	F_TEXTANYCAT, F_ANYTEXTCAT, F_CONCAT, F_CONCAT_WS, F_FORMAT_TEXT,
	F_FORMAT_TEXT_ANY, F_TO_JSON, F_TO_JSONB, F_ROW_TO_JSON_RECORD,
	F_TO_CHAR_TIMESTAMPTZ_TEXT, F_TO_CHAR_INTERVAL_TEXT,
};

/* Is it a view of ours, or of the statistics that a node keeps of itself? */
static bool
is_node_local_view(Oid relid)
{
	char	   *name;

	if (relid >= FirstNormalObjectId)
		return tcs_is_own(RelationRelationId, relid);
	name = get_rel_name(relid);
	return name != NULL && get_rel_namespace(relid) == PG_CATALOG_NAMESPACE &&
		strncmp(name, "pg_stat_", 8) == 0 &&
		!(strstr(name, "_tables") || strstr(name, "_indexes") ||
		  strstr(name, "user_functions") || strstr(name, "subscription"));
}

/* check_functions_in_node() callback: true for what may read stale data. */
static bool
may_read(Oid funcid, void *context)
{
	HeapTuple	tuple;
	Form_pg_proc proc;
	bool		harmless = false;

	for (int i = 0; i < lengthof(harmless_functions); i++)
	{
		if (harmless_functions[i] == funcid)
			return false;
	}
	if (tcs_is_own_function(funcid))
		return false;

	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	if (!HeapTupleIsValid(tuple))
		return true;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (funcid < FirstNormalObjectId && proc->pronamespace == PG_CATALOG_NAMESPACE)
		harmless = (proc->provolatile == PROVOLATILE_IMMUTABLE &&
					proc->prolang == INTERNALlanguageId) ||
			strncmp(NameStr(proc->proname), "pg_stat_get_", 12) == 0;
	ReleaseSysCache(tuple);
	return !harmless;
}

/* Are its values names of objects, kept as numbers? */
bool
tcs_type_is_name(Oid type)
{
	switch (type)
	{
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGTYPEOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case REGNAMESPACEOID:
		case REGROLEOID:
		case REGCOLLATIONOID:
#ifdef REGDATABASEOID
		case REGDATABASEOID:
#endif
			return true;
		default:
			return false;
	}
}

/*
 * Does showing a value of this type read a catalog, or run what we do not know?
 * Output functions run when the row is sent, and are in no plan.
 */
static bool
type_is_shown_by_reading(Oid type)
{
	Oid			element = get_element_type(type);

	if (OidIsValid(element))
		type = element;
	return tcs_type_is_name(type) || type == ACLITEMOID ||
		type >= FirstNormalObjectId;
}

/* The type of a node that makes a value to be shown, or InvalidOid. */
static Oid
shown_type(Node *node)
{
	switch (nodeTag(node))
	{
		case T_TargetEntry:
			return exprType((Node *) ((TargetEntry *) node)->expr);
		case T_Const:
		case T_Param:
		case T_FuncExpr:
		case T_OpExpr:
		case T_RelabelType:
		case T_ArrayExpr:
		case T_CoerceToDomain:
		case T_CoerceViaIO:
			return exprType(node);
		default:
			return InvalidOid;
	}
}

static bool reads_walker(Node *node, void *context);

/* The view that was expanded into a subquery, or InvalidOid. */
static Oid
view_of_subquery(const RangeTblEntry *rte)
{
	RangeTblEntry *first;

	if (OidIsValid(rte->relid))
		return rte->relid;
	/* 15 keeps the view as the subquery's first relation */
	if (rte->subquery->rtable == NIL)
		return InvalidOid;
	first = linitial_node(RangeTblEntry, rte->subquery->rtable);
	return first->rtekind == RTE_RELATION && first->relkind == RELKIND_VIEW ?
		first->relid : InvalidOid;
}

/*
 * The same of the arguments of a function of ours: what is given to it is not shown.
 * So tcs.drop_rule('account') is exempt, although it has a name as a constant.
 */
static bool
argument_reads_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return reads_walker(node, context);
	if (check_functions_in_node(node, may_read, context))
		return true;
	return expression_tree_walker(node, argument_reads_walker, context);
}

/* Does an expression or a subquery read anything that may be stale? */
static bool
reads_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr) && tcs_is_own_function(((FuncExpr *) node)->funcid))
		return expression_tree_walker((Node *) ((FuncExpr *) node)->args,
									  argument_reads_walker, context);
	if (check_functions_in_node(node, may_read, context) ||
		type_is_shown_by_reading(shown_type(node)))
		return true;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		ListCell   *lc;

		if (query->commandType != CMD_SELECT || query->rowMarks)
			return true;
		foreach(lc, query->rtable)
		{
			RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);
			Oid			view;

			switch (rte->rtekind)
			{
				case RTE_RELATION:
					/* 15: OLD and NEW; a view that is read became a subquery */
					if (rte->relkind != RELKIND_VIEW)
						return true;
					break;
				case RTE_SUBQUERY:
					view = view_of_subquery(rte);
					if (OidIsValid(view) && is_node_local_view(view))
						continue;
					/* what a user's view means is data like any other */
					if (view >= FirstNormalObjectId)
						return true;
					if (reads_walker((Node *) rte->subquery, context))
						return true;
					break;
				default:
					if (range_table_entry_walker(rte, reads_walker, context, 0))
						return true;
					break;
			}
		}
		return query_tree_walker(query, reads_walker, context,
								 QTW_IGNORE_RANGE_TABLE);
	}
	return expression_tree_walker(node, reads_walker, context);
}

/* Does the statement read nothing that could be stale? */
bool
tcs_exempt_query(Query *query)
{
	ListCell   *lc;

	if (query->commandType != CMD_SELECT)
		return false;

	/* nearly all statements are told by their first table */
	foreach(lc, query->rtable)
	{
		if (lfirst_node(RangeTblEntry, lc)->rtekind == RTE_RELATION)
			return false;
	}
	return !reads_walker((Node *) query, NULL);
}

/* Does a query use anything but the tables, views and functions of the extension? */
static bool
uses_others_walker(Node *node, bool *own)
{
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (check_functions_in_node(node, may_read, NULL))
		return true;
	if (!IsA(node, Query))
		return expression_tree_walker(node, uses_others_walker, own);
	foreach(lc, ((Query *) node)->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_RELATION)
		{
			if (!tcs_rules_own_table(rte->relid))
				return true;
			*own = true;
		}
		else if (rte->rtekind == RTE_SUBQUERY)
		{
			if (!tcs_rules_own_view(view_of_subquery(rte)))
			{
				if (uses_others_walker((Node *) rte->subquery, own))
					return true;
			}
			else
				*own = true;
		}
		else if (range_table_entry_walker(rte, uses_others_walker, own, 0))
			return true;
	}
	return query_tree_walker((Query *) node, uses_others_walker, own, QTW_IGNORE_RANGE_TABLE);
}

/*
 * Is it about the rules alone: a statement on the tables that they are kept in?
 *
 * Such a one is never kept waiting.  Otherwise a rule that cannot be met could not be
 * looked at, nor deleted.  Only for when there are rules.
 */
bool
tcs_exempt_administration(Query *query)
{
	bool		own = false;

	return query->commandType != CMD_UTILITY && tcs_rules_exist() &&
		!uses_others_walker((Node *) query, &own) && own;
}

/* Does an expression that was analysed read anything that could be stale? */
bool
tcs_expression_reads(Node *expr)
{
	return reads_walker(expr, NULL);
}

/* The same for a function that is called without any statement. */
bool
tcs_exempt_function(Oid funcid)
{
	return !may_read(funcid, NULL);
}

/* Keep the verdict in the plan. */
void
tcs_exempt_mark(PlannedStmt *plan)
{
	PlanInvalItem *mark = makeNode(PlanInvalItem);

	mark->cacheId = TCS_EXEMPT_CACHE_ID;
	plan->invalItems = lappend(plan->invalItems, mark);
}

bool
tcs_exempt_plan(const PlannedStmt *plan)
{
	ListCell   *lc;

	foreach(lc, plan->invalItems)
	{
		if (((PlanInvalItem *) lfirst(lc))->cacheId == TCS_EXEMPT_CACHE_ID)
			return true;
	}
	return false;
}

/* check_functions_in_node() callback: true for what planning evaluates. */
static bool
planning_may_run(Oid funcid, void *context)
{
	HeapTuple	tuple;
	Form_pg_proc proc;
	bool		result;

	if (funcid < FirstNormalObjectId)
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	if (!HeapTupleIsValid(tuple))
		return true;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	/* SQL functions may be inlined, and what is in them evaluated */
	result = proc->provolatile == PROVOLATILE_IMMUTABLE ||
		proc->prolang == SQLlanguageId;
	ReleaseSysCache(tuple);
	return result;
}

static bool
planning_may_run_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, planning_may_run, context))
		return true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, planning_may_run_walker, context, 0);
	return expression_tree_walker(node, planning_may_run_walker, context);
}

/*
 * Can planning this statement run a user's function?  The planner evaluates
 * immutable ones with constant arguments, and some read tables all the same.
 */
bool
tcs_query_may_evaluate_reads(Query *query)
{
	return planning_may_run_walker((Node *) query, NULL);
}
