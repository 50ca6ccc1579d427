/*-------------------------------------------------------------------------
 *
 * rule_objects.c
 *	  Rules by data: the relations and functions of a statement that have some.
 *
 * NOTES
 *	  A relation stands for all that is read through it: partitions and
 *	  children, the relations and functions of a view.  What is read only
 *	  through a view that has a rule needs none of its own.  Each relation that
 *	  was looked up is remembered until any relation changes; which is only
 *	  looked at when a statement is planned.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/tcopprot.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "rules/rule_copy.h"

/* Relations looked up so far. */
static MemoryContext known_context = NULL;
static HTAB *known = NULL;
static bool known_is_stale = false;
static int	looking_up = 0;		/* depth of tcs_rules_look_up() */

/*
 * Relations that others inherit from, of all that were looked up.  When one of
 * them changes, its place among its own parents may have, and with it the rules of
 * those others, whose plans core has no reason to make again.  (Below a partitioned
 * table it has.)
 */
static HTAB *inherited_from = NULL;


/* ---- invalidation ---- */

/*
 * What is known of relations holds no more.  It is thrown away when nobody is
 * about to use it, since invalidations come in the midst of looking up.
 */
void
tcs_rules_forget_known(void)
{
	known_is_stale = true;
	tcs_rules.epoch++;
}

/* Some relation has changed, or all may have (InvalidOid). */
void
tcs_rules_relation_changed(Oid relid)
{
	if (known != NULL && !known_is_stale)
		tcs_rules_forget_known();
	if (inherited_from != NULL && OidIsValid(relid) &&
		hash_search(inherited_from, &relid, HASH_FIND, NULL) != NULL)
		ResetPlanCache();
}


/* ---- relations ---- */

static void
add_candidate(TcsKnownRelation *relation, int rule, int weight)
{
	int			n = relation->ncandidates;

	if ((n & (n - 1)) == 0)
		relation->candidates = relation->candidates ?
			repalloc(relation->candidates, Max(n * 2, 1) * sizeof(TcsRuleCandidate)) :
			palloc(sizeof(TcsRuleCandidate));
	relation->candidates[n].rule = rule;
	relation->candidates[n].weight = weight;
	relation->ncandidates++;
}

static void
note_inherited_from(Oid relid)
{
	if (get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE)
		return;
	if (inherited_from == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(Oid)};

		inherited_from = hash_create("tcs rules, inherited from", 32, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	(void) hash_search(inherited_from, &relid, HASH_ENTER, NULL);
}

/* The relations that one is a child or partition of, near and far. */
static List *
ancestors_of(Oid relid)
{
	List	   *found = NIL;
	List	   *todo = list_make1_oid(relid);
	Relation	inherits = table_open(InheritsRelationId, AccessShareLock);

	while (todo != NIL)
	{
		Oid			child = linitial_oid(todo);
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	tuple;

		todo = list_delete_first(todo);
		ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(child));
		scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			Oid			parent = ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent;

			if (!list_member_oid(found, parent))
			{
				found = lappend_oid(found, parent);
				todo = lappend_oid(todo, parent);
				note_inherited_from(parent);
			}
		}
		systable_endscan(scan);
	}
	table_close(inherits, AccessShareLock);
	return found;
}

/* Its children and partitions, near and far, without locks on them. */
static List *
descendants_of(Oid relid)
{
	List	   *found = NIL;
	ListCell   *lc;

	foreach(lc, find_inheritance_children(relid, NoLock))
	{
		found = list_append_unique_oid(found, lfirst_oid(lc));
		found = list_concat_unique_oid(found, descendants_of(lfirst_oid(lc)));
	}
	return found;
}

typedef struct QueryObjects
{
	List	   *relations;
	List	   *functions;		/* those with rules */
} QueryObjects;

static bool
function_has_rule(Oid function)
{
	for (int i = 0; i < tcs_rules.n; i++)
	{
		if (tcs_rules.rule[i].function == function && OidIsValid(function))
			return true;
	}
	return false;
}

static bool
note_function(Oid function, void *context)
{
	QueryObjects *objects = context;

	if (function >= FirstNormalObjectId && function_has_rule(function))
		objects->functions = list_append_unique_oid(objects->functions, function);
	return false;
}

/* Relations and functions of a query, those of its subqueries included. */
static bool
query_objects_walker(Node *node, QueryObjects *objects)
{
	if (node == NULL)
		return false;
	if (tcs_rules.have_function)
		(void) check_functions_in_node(node, note_function, objects);
	if (IsA(node, Query))
	{
		ListCell   *lc;

		foreach(lc, ((Query *) node)->rtable)
		{
			RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

			if (tcs_rules_is_relation(rte))
				objects->relations = list_append_unique_oid(objects->relations, rte->relid);
		}
		return query_tree_walker((Query *) node, query_objects_walker, objects, 0);
	}
	return expression_tree_walker(node, query_objects_walker, objects);
}

/*
 * What a view reads.  Of a COPY nothing is locked yet, and of a view within a view
 * only the outer one may be.
 */
static void
look_through_view(Oid relid, QueryObjects *objects)
{
	Relation	view = try_relation_open(relid, AccessShareLock);

	if (view == NULL)
		return;
	if (view->rd_rules != NULL)
		(void) query_objects_walker((Node *) get_view_query(view), objects);
	relation_close(view, AccessShareLock);
}

/* The rules and groups of a relation itself, which are also its ancestors'. */
static void
find_candidates(TcsKnownRelation *relation)
{
	List	   *ancestors = ancestors_of(relation->relid);
	List	   *schemas = list_make1_oid(get_rel_namespace(relation->relid));
	ListCell   *lc;

	foreach(lc, ancestors)
		schemas = list_append_unique_oid(schemas, get_rel_namespace(lfirst_oid(lc)));
	foreach(lc, lcons_oid(relation->relid, list_copy(ancestors)))
	{
		const TcsRuleMember *member = tcs_rules.members ?
			hash_search(tcs_rules.members, &lfirst_oid(lc), HASH_FIND, NULL) : NULL;

		if (member != NULL)
			relation->groups = list_append_unique_int(relation->groups, member->group);
	}
	for (int i = 0; i < tcs_rules.n; i++)
	{
		const TcsRule *rule = &tcs_rules.rule[i];

		if (rule->relation == relation->relid)
			add_candidate(relation, i, TCS_WEIGHT_SELF);
		else if (OidIsValid(rule->relation) && list_member_oid(ancestors, rule->relation))
			add_candidate(relation, i, TCS_WEIGHT_ANCESTOR);
		else if (OidIsValid(rule->schema) && list_member_oid(schemas, rule->schema))
			add_candidate(relation, i, TCS_WEIGHT_SCHEMA);
	}
}

/* All that is read with a relation. */
static void
find_through(TcsKnownRelation *relation)
{
	QueryObjects objects = {0};
	ListCell   *lc;

	if (relation->is_view)
		look_through_view(relation->relid, &objects);
	else if (has_subclass(relation->relid))
		objects.relations = descendants_of(relation->relid);
	relation->functions = objects.functions;
	foreach(lc, objects.relations)
	{
		Oid			relid = lfirst_oid(lc);
		TcsKnownRelation *other;

		if (relid == relation->relid)
			continue;
		relation->through = list_append_unique_oid(relation->through, relid);
		if (!relation->is_view)
			continue;
		other = tcs_rules_look_up(relid);
		relation->through = list_concat_unique_oid(relation->through, other->through);
		relation->functions = list_concat_unique_oid(relation->functions, other->functions);
	}
}

/* The table of what is known, empty if that holds no more. */
static void
prepare_known(void)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(TcsKnownRelation)};

	if (known_is_stale && looking_up == 0)
	{
		if (known_context != NULL)
			MemoryContextReset(known_context);
		known = NULL;
		known_is_stale = false;
	}
	if (known != NULL)
		return;
	if (known_context == NULL)
		known_context = AllocSetContextCreate(TopMemoryContext, "tcs rules of relations",
											  ALLOCSET_DEFAULT_SIZES);
	ctl.hcxt = known_context;
	known = hash_create("tcs rules of relations", 128, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Find out all about a relation. */
static void
complete_relation(TcsKnownRelation *relation)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(known_context);
	char		kind = get_rel_relkind(relation->relid);

	relation->is_view = kind == RELKIND_VIEW;
	/* one that is gone has nothing */
	if (kind != '\0')
	{
		find_candidates(relation);
		find_through(relation);
	}
	relation->complete = true;
	MemoryContextSwitchTo(oldcontext);
}

/*
 * What is known of a relation; looked up if need be.  Valid until the next call,
 * or, of those on the way of another, until that one returns.
 */
TcsKnownRelation *
tcs_rules_look_up(Oid relid)
{
	TcsKnownRelation *relation;
	bool		found;

	prepare_known();
	relation = hash_search(known, &relid, HASH_ENTER, &found);
	if (found && (relation->complete || looking_up > 0))
		return relation;		/* a view that leads back to itself is on its
								 * way */
	memset((char *) relation + sizeof(Oid), 0, sizeof(*relation) - sizeof(Oid));
	looking_up++;
	PG_TRY();
	{
		complete_relation(relation);
	}
	PG_FINALLY();
	{
		looking_up--;
	}
	PG_END_TRY();
	return relation;
}


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
		relation = tcs_rules_look_up(relid);
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

/* The plan of a query that is rewritten, which becomes useless; only to be looked at. */
PlannedStmt *
tcs_rules_plan_to_look(Query *query)
{
	PlannedStmt *plan;

	PG_TRY();
	{
		tcs_rules_plan_ahead = true;
		plan = tcs_plan_query_compat(query, "", CURSOR_OPT_PARALLEL_OK, NULL);
	}
	PG_FINALLY();
	{
		tcs_rules_plan_ahead = false;
	}
	PG_END_TRY();
	return plan;
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
		tcs_rules_collect_plan(tcs_rules_plan_to_look(lfirst_node(Query, lc)), items);
}

/* Add all that an analysed query has, with its functions. */
void
tcs_rules_collect_query(Query *query, TcsRuleItems *items)
{
	QueryObjects objects = {0};

	(void) query_objects_walker((Node *) query, &objects);
	collect_relations(objects.relations, items);
	items->functions = list_concat_unique_oid(items->functions, objects.functions);
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
	QueryObjects objects = {0};

	if (!tcs_rules.have_function)
		return;
	(void) query_objects_walker(node, &objects);
	items->functions = list_concat_unique_oid(items->functions, objects.functions);
}

/* Does any rule, for reads or writes, speak of a function? */
bool
tcs_rules_of_function(Oid function)
{
	return tcs_rules_exist() && tcs_rules.have_any_function && function_has_rule(function);
}

/* The same by the copy there is, without a look into the catalogs. */
bool
tcs_rules_name_function(Oid function)
{
	return tcs_rules.have_any_function && function_has_rule(function);
}

void
tcs_rules_collect_function(Oid function, TcsRuleItems *items)
{
	if (function_has_rule(function))
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
