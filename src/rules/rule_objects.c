/*-------------------------------------------------------------------------
 *
 * rule_objects.c
 *	  Rules by data: the relations and functions of a statement that have some.
 *
 * NOTES
 *	  A relation stands for all that is read through it: see rules/rule_known.c.
 *	  What is read only through a view that has a rule needs none of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "tcop/tcopprot.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/leavable.h"
#include "rules/rule_copy.h"
#include "rules/sql_bodies.h"


/* ---- collecting ---- */

/* Does any rule for reads speak of it? */
static bool
has_read_rule(const TcsKnownRelation *relation)
{
	if (relation->groups != NIL)
		return true;
	for (int i = 0; i < relation->ncandidates; i++)
	{
		if (!tcs_rules.rule[relation->candidates[i].rule].writes)
			return true;
	}
	return false;
}

/*
 * Add the one relation that is read, as in most statements.  False if it takes
 * others or functions with it.
 */
static bool
collect_sole(Oid relid, TcsRuleItems *items)
{
	TcsKnownRelation *relation;

	tcs_rules_list_sole(items);
	if (!tcs_rules.have_read && tcs_rules.ngroups == 0)
		return true;
	relation = tcs_rules_look_up(relid);
	if (relation->through != NIL || relation->functions != NIL || relation->is_view)
		return false;
	if (!has_read_rule(relation))
		items->unruled = true;
	else if (items->reads == NIL && relation->sole_set != 0)
	{
		items->sole = relid;
		items->sole_set = relation->sole_set;
	}
	else
		items->reads = list_append_unique_oid(items->reads, relid);
	return true;
}

/* Add relations that are read. */
static void
collect_relations(List *relids, TcsRuleItems *items)
{
	List	   *all = NIL;
	List	   *covered = NIL;
	ListCell   *lc;

	tcs_rules_list_sole(items);
	if (!tcs_rules.have_read && tcs_rules.ngroups == 0)
		return;
	foreach(lc, relids)
	{
		Oid			relid = lfirst_oid(lc);
		TcsKnownRelation *relation;

		/* catalogs and our tables have no rules, and do not count as without */
		if (relid < FirstNormalObjectId || tcs_rules_own_table(relid))
			continue;
		relation = tcs_rules_look_through(relid);
		all = list_append_unique_oid(all, relid);
		all = list_concat_unique_oid(all, relation->through);
		if (relation->is_view && has_read_rule(relation))
			covered = list_concat_unique_oid(covered, relation->through);
		items->functions = list_concat_unique_oid(items->functions, relation->functions);
	}
	foreach(lc, all)
	{
		TcsKnownRelation *relation = tcs_rules_look_up(lfirst_oid(lc));

		if (has_read_rule(relation))
			items->reads = list_append_unique_oid(items->reads, relation->relid);
		else if (!relation->is_view && list_member_oid(covered, relation->relid))
			items->covered = true;
		else if (!relation->is_view)
			items->unruled = true;
	}
}

/* Is it an INSERT that reads nothing of where it writes? */
static bool
only_inserts(const PlannedStmt *plan)
{
	return plan->commandType == CMD_INSERT && !plan->hasReturning &&
		!plan->hasModifyingCTE && IsA(plan->planTree, ModifyTable) &&
		((ModifyTable *) plan->planTree)->onConflictAction == ONCONFLICT_NONE;
}

/* Add the relation of a list of one, and return true; or false for any other. */
static bool
collect_sole_entry(const List *rtable, TcsRuleItems *items)
{
	const RangeTblEntry *rte;

	if (list_length(rtable) != 1)
		return false;
	rte = linitial_node(RangeTblEntry, rtable);
	return rte->rtekind == RTE_RELATION && rte->relid >= FirstNormalObjectId &&
		!tcs_rules_own_table(rte->relid) && collect_sole(rte->relid, items);
}

/*
 * Add the functions that a plan calls, and those that were inlined into it, by
 * what core notes to make it again when one of them changes.
 */
static void
collect_planned_functions(const PlannedStmt *plan, TcsRuleItems *items)
{
	ListCell   *lc;

	foreach(lc, plan->invalItems)
	{
		const PlanInvalItem *item = lfirst_node(PlanInvalItem, lc);

		for (int i = 0; i < tcs_rules.n && item->cacheId == PROCOID; i++)
		{
			Oid			function = tcs_rules.rule[i].function;

			if (OidIsValid(function) &&
				GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(function)) == item->hashValue)
				items->functions = list_append_unique_oid(items->functions, function);
		}
	}
}

/*
 * Add what a plan reads.  (Its list of relations that it depends on also has those
 * of which nothing but the name is used, as constants of type regclass.)
 */
void
tcs_rules_collect_plan(const PlannedStmt *plan, TcsRuleItems *items)
{
	Bitmapset  *written = only_inserts(plan) ? tcs_result_relations_compat(plan) : NULL;
	List	   *relids = NIL;
	ListCell   *lc;

	if (tcs_rules.have_function)
		collect_planned_functions(plan, items);
	if (written == NULL && collect_sole_entry(plan->rtable, items))
		return;
	foreach(lc, plan->rtable)
	{
		const RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (tcs_rules_is_relation(rte) && !bms_is_member(foreach_current_index(lc) + 1, written))
			relids = list_append_unique_oid(relids, rte->relid);
	}
	collect_relations(relids, items);
}

/* Is it a call of a function in SQL? */
static bool
calls_sql_function(Node *expression)
{
	HeapTuple	tuple;
	bool		is_sql;

	if (!IsA(expression, FuncExpr))
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(((FuncExpr *) expression)->funcid));
	if (!HeapTupleIsValid(tuple))
		return false;
	is_sql = ((Form_pg_proc) GETSTRUCT(tuple))->prolang == SQLlanguageId;
	ReleaseSysCache(tuple);
	return is_sql;
}

/*
 * Does a query call a function in SQL as a table, which planning may inline?  In
 * other places that matters only to rules for functions: it has no tables.
 */
static bool
inlined_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblFunction) && calls_sql_function(((RangeTblFunction *) node)->funcexpr))
		return true;
	if (tcs_rules.have_function && calls_sql_function(node))
		return true;
	if (IsA(node, Query))
	{
		ListCell   *lc;

		foreach(lc, ((Query *) node)->rtable)
		{
			const RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);
			ListCell   *lf;

			foreach(lf, rte->rtekind == RTE_FUNCTION ? rte->functions : NIL)
			{
				if (inlined_walker(lfirst(lf), context))
					return true;
			}
		}
		return query_tree_walker((Query *) node, inlined_walker, context, 0);
	}
	return expression_tree_walker(node, inlined_walker, context);
}

/* May planning find out more of what a query reads? */
bool
tcs_rules_may_be_inlined(Query *query)
{
	return query->commandType == CMD_SELECT && inlined_walker((Node *) query, NULL);
}

/*
 * The plan of a query that is rewritten, which becomes useless; only to be looked at.
 * NULL if planning runs a function that reads: nothing is known yet of how fresh that
 * has to be.
 */
PlannedStmt *
tcs_rules_plan_to_look(Query *query)
{
	TcsLeavable leavable;
	PlannedStmt *volatile plan = NULL;

	tcs_leavable_begin(&leavable);
	PG_TRY();
	{
		tcs_rules_plan_ahead = true;
		plan = tcs_plan_query_compat(query, "", CURSOR_OPT_PARALLEL_OK, NULL);
		tcs_leavable_end(&leavable);
	}
	PG_CATCH();
	{
		tcs_rules_plan_ahead = false;
		tcs_leavable_catch(&leavable);
	}
	PG_END_TRY();
	tcs_rules_plan_ahead = false;
	return leavable.left ? NULL : plan;
}

/* Add what a query that is rewritten names. */
static void
collect_named(Query *query, TcsRuleItems *items)
{
	TcsQueryObjects objects = {0};

	tcs_rules_find_objects((Node *) query, &objects);
	collect_relations(objects.relations, items);
	items->functions = list_concat_unique_oid(items->functions, objects.functions);
}

/* Add all that a query can come to read, where planning must not tell. */
static void
collect_unplanned(Query *query, TcsRuleItems *items)
{
	ListCell   *lc;

	collect_named(query, items);
	foreach(lc, tcs_sql_bodies(query))
		collect_named(lfirst_node(Query, lc), items);
}

/* Add what a plan reads, or the query that it is to be made for later. */
void
tcs_rules_collect_made(const PlannedStmt *plan, Query *unplanned, TcsRuleItems *items)
{
	if (unlikely(unplanned != NULL))
		collect_unplanned(unplanned, items);
	else
		tcs_rules_collect_plan(plan, items);
}

/* Add what only planning finds out, before the statement is planned. */
static void
collect_inlined(Query *query, TcsRuleItems *items)
{
	List	   *queries;
	ListCell   *lc;

	/* what a rule has put in the place of a statement is rewritten already */
	if (query->querySource == QSRC_ORIGINAL)
		queries = pg_rewrite_query(copyObject(query));
	else
		queries = list_make1(copyObject(query));

	foreach(lc, queries)
	{
		Query	   *rewritten = lfirst_node(Query, lc);
		PlannedStmt *plan = tcs_rules_plan_to_look(copyObject(rewritten));

		if (plan != NULL)
			tcs_rules_collect_plan(plan, items);
		else
			collect_unplanned(rewritten, items);
	}
}

/* Add all that an analysed query has, with its functions. */
void
tcs_rules_collect_query(Query *query, TcsRuleItems *items)
{
	collect_named(query, items);
	if (tcs_rules_may_be_inlined(query))
		collect_inlined(query, items);
}

/*
 * Add all that an analysed query has, if that is one table and there is nothing
 * to be searched for.  False if it is another query.
 */
bool
tcs_rules_collect_simple(const Query *query, TcsRuleItems *items)
{
	return !tcs_rules.have_function && !query->hasSubLinks && query->cteList == NIL &&
		collect_sole_entry(query->rtable, items);
}

/* Add the functions of an analysed query or expression alone. */
void
tcs_rules_collect_functions(Node *node, TcsRuleItems *items)
{
	TcsQueryObjects objects = {0};

	if (!tcs_rules.have_function)
		return;
	tcs_rules_find_objects(node, &objects);
	items->functions = list_concat_unique_oid(items->functions, objects.functions);
}

/* Does any rule for reads speak of a function? */
bool
tcs_rules_for_functions_exist(void)
{
	return tcs_rules_exist() && tcs_rules.have_function;
}

/* Does any rule, for reads or writes, speak of this function? */
bool
tcs_rules_of_function(Oid function)
{
	return tcs_rules_exist() && tcs_rules.have_any_function && tcs_rules_have_function(function);
}

/* The same by the copy there is, without a look into the catalogs. */
bool
tcs_rules_name_function(Oid function)
{
	return tcs_rules.have_any_function && tcs_rules_have_function(function);
}

void
tcs_rules_collect_function(Oid function, TcsRuleItems *items)
{
	if (tcs_rules_have_function(function))
		items->functions = list_append_unique_oid(items->functions, function);
}

static bool
raw_relations_walker(Node *node, List **relids)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeVar))
	{
		Oid			relid = RangeVarGetRelid((RangeVar *) node, NoLock, true);

		if (OidIsValid(relid))
			*relids = list_append_unique_oid(*relids, relid);
		return false;
	}
	return raw_expression_tree_walker(node, raw_relations_walker, relids);
}

/*
 * Add the relations of a COPY, the query of which is not analysed yet.  A name
 * that a CTE has counts as a relation, if there is one; its functions are not
 * known.
 */
void
tcs_rules_collect_copy(CopyStmt *copy, TcsRuleItems *items)
{
	List	   *relids = NIL;

	(void) raw_relations_walker(copy->query ? copy->query : (Node *) copy->relation, &relids);
	collect_relations(relids, items);
}
