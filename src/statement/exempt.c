/*-------------------------------------------------------------------------
 *
 * exempt.c
 *	  Statements that read nothing which could be stale.
 *
 * NOTES
 *	  What a node tells about itself (pg_is_in_recovery(), pg_stat_activity,
 *	  tcs.status) and what depends on no data (SELECT 1) must answer also
 *	  where freshness cannot be had: health checks and the DBA who looks for
 *	  the cause depend on it.  The list is a positive one (statement/builtin_list.h).  A
 *	  built-in function can read tables in ways that no plan shows (query_to_xml(),
 *	  ts_stat()), so what is not known to be harmless is gated.
 *
 *	  What reads nothing but system catalogs is told apart from what reads data.
 *	  It is gated only if the client itself asked for more (choice/standing_default.c).
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
#include "catalog/pg_language.h"
#include "catalog/pg_largeobject.h"
#include "catalog/pg_largeobject_metadata.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/own_objects.h"
#include "rules/rule_cache.h"
#include "statement/exempt.h"

/* Kind of the mark.  Before 19 it is a cache id; syscaches are numbered from zero. */
#define TCS_WORD_OF_EXEMPT		(-7463)

/* How much a statement may read to pass a walk. */
typedef struct ReadLimit
{
	TcsReads	reads;
} ReadLimit;

/* Is it a view of ours, or of what a node keeps of itself? */
static bool
is_node_local_view(Oid relid)
{
	if (relid >= FirstNormalObjectId)
		return tcs_is_own(RelationRelationId, relid);
	return tcs_builtin_view_is_local(relid);
}

/* What does a function read? */
TcsReads
tcs_exempt_function_reads(Oid funcid)
{
	if (tcs_is_own_function(funcid))
		return TCS_READS_NOTHING;
	return tcs_builtin_reads(funcid);
}

/* check_functions_in_node() callback: true for what reads more than the limit. */
static bool
may_read(Oid funcid, void *context)
{
	return tcs_exempt_function_reads(funcid) > ((ReadLimit *) context)->reads;
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
 * What does showing or making a value of this type read?
 *
 * Output functions run when the row is sent, and are in no plan.  A user's domain
 * has checks, which can call anything.
 */
static TcsReads
type_reads(Oid type)
{
	Oid			element = get_element_type(type);

	if (OidIsValid(element))
		type = element;
	if (type >= FirstNormalObjectId)
		return TCS_READS_DATA;
	return tcs_type_is_name(type) || type == ACLITEMOID ?
		TCS_READS_CATALOGS : TCS_READS_NOTHING;
}

static bool
types_read_more(const List *types, const ReadLimit *limit)
{
	ListCell   *lc;

	foreach(lc, types)
	{
		if (type_reads(lfirst_oid(lc)) > limit->reads)
			return true;
	}
	return false;
}

/*
 * Does the node itself read more than the limit?  Its functions and what is below
 * it are looked at elsewhere.  The list of nodes is a positive one: a new kind of
 * node may call what we do not know of.
 */
static bool
node_reads_more(Node *node, const ReadLimit *limit)
{
	switch (nodeTag(node))
	{
		case T_TargetEntry:
			/* where a column comes from is looked at */
			return !IsA(((TargetEntry *) node)->expr, Var) &&
				type_reads(exprType((Node *) ((TargetEntry *) node)->expr)) > limit->reads;
		case T_Const:
		case T_Param:
		case T_FuncExpr:
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
		case T_ScalarArrayOpExpr:
		case T_Aggref:
		case T_WindowFunc:
		case T_SubscriptingRef:
		case T_FieldSelect:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_ArrayCoerceExpr:
		case T_ConvertRowtypeExpr:
		case T_CoerceToDomain:
		case T_CaseExpr:
		case T_CoalesceExpr:
		case T_MinMaxExpr:
		case T_ArrayExpr:
		case T_RowExpr:
		case T_SQLValueFunction:
			return type_reads(exprType(node)) > limit->reads;
		case T_TableFunc:
			return types_read_more(((TableFunc *) node)->coltypes, limit);
		case T_RangeTblFunction:
			return types_read_more(((RangeTblFunction *) node)->funccoltypes, limit);
		case T_SortGroupClause:
			{
				Oid			sortop = ((SortGroupClause *) node)->sortop;

				return OidIsValid(sortop) && may_read(get_opcode(sortop), (void *) limit);
			}
		case T_WindowClause:
			{
				WindowClause *window = (WindowClause *) node;

				return (OidIsValid(window->startInRangeFunc) &&
						may_read(window->startInRangeFunc, (void *) limit)) ||
					(OidIsValid(window->endInRangeFunc) &&
					 may_read(window->endInRangeFunc, (void *) limit));
			}
		case T_Var:
		case T_List:
		case T_BoolExpr:
		case T_NamedArgExpr:
		case T_GroupingFunc:
		case T_GroupingSet:
		case T_SubLink:
		case T_CaseWhen:
		case T_CaseTestExpr:
		case T_CollateExpr:
		case T_RowCompareExpr:
		case T_NullTest:
		case T_BooleanTest:
		case T_XmlExpr:
		case T_FromExpr:
		case T_JoinExpr:
		case T_RangeTblRef:
		case T_SetOperationStmt:
		case T_CommonTableExpr:
		case T_CTESearchClause:
		case T_CTECycleClause:
		case T_Query:
			return false;
		default:
			return true;
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

/* A table that is read: large objects are data in a catalog. */
TcsReads
tcs_exempt_table_reads(Oid relid)
{
	if (relid >= FirstNormalObjectId || relid == LargeObjectRelationId ||
		relid == LargeObjectMetadataRelationId)
		return TCS_READS_DATA;
	return TCS_READS_CATALOGS;
}

/* Does an entry of a range table read more than the limit? */
static bool
entry_reads_more(RangeTblEntry *rte, ReadLimit *limit)
{
	Oid			view;

	switch (rte->rtekind)
	{
		case RTE_RELATION:
			/* 15: OLD and NEW; a view that is read became a subquery */
			if (rte->relkind != RELKIND_VIEW &&
				tcs_exempt_table_reads(rte->relid) > limit->reads)
				return true;
			break;
		case RTE_SUBQUERY:
			view = view_of_subquery(rte);
			if (OidIsValid(view) && is_node_local_view(view))
				return false;
			/* what a user's view means is in the catalogs */
			if (view >= FirstNormalObjectId && limit->reads < TCS_READS_CATALOGS)
				return true;
			break;
		default:
			break;
	}
	return range_table_entry_walker(rte, reads_walker, limit, 0);
}

/* Does an expression or a subquery read more than the limit? */
static bool
reads_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr) && tcs_is_own_function(((FuncExpr *) node)->funcid))
		return expression_tree_walker((Node *) ((FuncExpr *) node)->args,
									  argument_reads_walker, context);
	if (check_functions_in_node(node, may_read, context) ||
		node_reads_more(node, context))
		return true;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		ListCell   *lc;

		if (query->commandType != CMD_SELECT || query->rowMarks)
			return true;
		foreach(lc, query->rtable)
		{
			if (entry_reads_more(lfirst_node(RangeTblEntry, lc), context))
				return true;
		}
		return query_tree_walker(query, reads_walker, context,
								 QTW_IGNORE_RANGE_TABLE | QTW_EXAMINE_SORTGROUP);
	}
	return expression_tree_walker(node, reads_walker, context);
}

/* What does a query read, analysed and rewritten? */
TcsReads
tcs_exempt_query_reads(Query *query)
{
	ReadLimit	limit;

	for (limit.reads = TCS_READS_NOTHING; limit.reads < TCS_READS_DATA; limit.reads++)
	{
		if (!reads_walker((Node *) query, &limit))
			break;
	}
	return limit.reads;
}

/* Does the statement read nothing that could be stale? */
bool
tcs_exempt_query(Query *query)
{
	ReadLimit	limit = {TCS_READS_NOTHING};
	ListCell   *lc;

	if (query->commandType != CMD_SELECT)
		return false;

	/* nearly all statements are told by their first table */
	foreach(lc, query->rtable)
	{
		if (lfirst_node(RangeTblEntry, lc)->rtekind == RTE_RELATION)
			return false;
	}
	return !reads_walker((Node *) query, &limit);
}

/* Does a query use anything but the tables, views and functions of the extension? */
static bool
uses_others_walker(Node *node, bool *own)
{
	ReadLimit	limit = {TCS_READS_NOTHING};
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (check_functions_in_node(node, may_read, &limit))
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
	ReadLimit	limit = {TCS_READS_NOTHING};

	return reads_walker(expr, &limit);
}

/* The same for a function that is called without any statement. */
bool
tcs_exempt_function(Oid funcid)
{
	return tcs_exempt_function_reads(funcid) == TCS_READS_NOTHING;
}

/*
 * Keep the verdict in the plan, and the write level of the statement's hint with it:
 * what reads nothing can still write, or stand in a transaction that does.
 */
void
tcs_exempt_mark(PlannedStmt *plan, TcsWriteLevel write_level)
{
	tcs_plan_add_word_compat(plan, TCS_WORD_OF_EXEMPT, (uint32) write_level);
}

bool
tcs_exempt_plan(const PlannedStmt *plan, TcsWriteLevel *write_level)
{
	int			place = 0;
	uint32		word;

	if (!tcs_plan_may_have_words_compat(plan) ||
		!tcs_plan_next_word_compat(plan, TCS_WORD_OF_EXEMPT, &place, &word))
		return false;
	*write_level = (TcsWriteLevel) word;
	return true;
}
