/*-------------------------------------------------------------------------
 *
 * rule_known.c
 *	  Rules by data: what is known of a relation.
 *
 * NOTES
 *	  A relation stands for all that is read through it: partitions and
 *	  children, the relations and functions of a view.  Each relation that was
 *	  looked up is remembered until it changes, or one that it depends on does.
 *	  Anybody can change relations of his own all the time, so changes of others must
 *	  cost nothing.
 *
 *	  A relation is watched before anything of it is read from a catalog.  So no
 *	  change is missed: it comes before the reading, which then sees it, or it is
 *	  counted.  What is known depends on relations that are all watched:
 *	  - on the relation itself: its kind, schema, and parents, or its query;
 *	  - on its ancestors, for their parents and schemas;
 *	  - on what is read with it, for its children, or its query.
 *	  Core sends an invalidation of the parent for each child that comes, and one of
 *	  the child for each that goes or comes.  Where core sends none of the child, we do:
 *	  see tcs_rules_parents_changed().
 *
 *	  An error can end a look-up anywhere.  So a relation is remembered only once
 *	  all of it is known, and what a walk through views is at belongs to that walk.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "rewrite/rewriteSupport.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/syscache.h"

#include "rules/rule_copy.h"

/* Relations looked up or watched so far. */
static MemoryContext known_context = NULL;
static HTAB *known = NULL;
static bool known_is_stale = false;

/* Counts changes of relations that are watched. */
static uint64 changes = 1;
static uint64 swept_at = 1;

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

/*
 * Is it a change of our own that is undone, by an abort or PREPARE TRANSACTION?
 *
 * What was looked up meanwhile depends on relations as they were with that change.
 * Those need not be the ones that the invalidation names: without its child, a table
 * does not depend on that.
 */
static bool
is_undone(void)
{
	return !IsTransactionState() && TransactionIdIsValid(GetTopTransactionIdIfAny());
}

/*
 * Some relation has changed, or all may have (InvalidOid).  Nothing is allocated or
 * freed here, since this comes in the midst of looking up.
 */
void
tcs_rules_relation_changed(Oid relid)
{
	TcsKnownRelation *relation;

	if (inherited_from != NULL && OidIsValid(relid) &&
		hash_search(inherited_from, &relid, HASH_FIND, NULL) != NULL)
		ResetPlanCache();
	if (known == NULL)
		return;
	if (!OidIsValid(relid) || is_undone())
	{
		tcs_rules_forget_known();
		return;
	}
	relation = hash_search(known, &relid, HASH_FIND, NULL);
	if (relation != NULL)
	{
		relation->changed_at = ++changes;
		tcs_rules.epoch++;
	}
}

/*
 * A relation was made the child of another one, or is none any more.
 *
 * Core has changed the columns that both have, and by that sent an invalidation.  But
 * there need not be any such column.
 */
void
tcs_rules_parents_changed(Oid child)
{
	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(child)))
		CacheInvalidateRelcacheByRelid(child);
}

/* Have all changes of a relation from now on counted. */
static TcsKnownRelation *
watch(Oid relid)
{
	bool		found;
	TcsKnownRelation *relation = hash_search(known, &relid, HASH_ENTER, &found);

	if (!found)
	{
		memset(relation, 0, sizeof(*relation));
		relation->relid = relid;
	}
	return relation;
}

/* Has any of these relations changed since a count? */
static bool
any_changed(const List *relids, uint64 since)
{
	ListCell   *lc;

	foreach(lc, relids)
	{
		const TcsKnownRelation *relation = hash_search(known, &lfirst_oid(lc), HASH_FIND, NULL);

		if (relation == NULL || relation->changed_at > since)
			return true;
	}
	return false;
}

/* Does what is known of a relation still hold? */
static bool
holds(TcsKnownRelation *relation)
{
	if (relation->checked_at == changes)
		return true;
	if (relation->made_at == 0 || relation->changed_at > relation->made_at ||
		any_changed(relation->ancestors, relation->made_at) ||
		(relation->has_all && any_changed(relation->through, relation->made_at)))
		return false;
	relation->checked_at = changes;
	return true;
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
				(void) watch(parent);
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

/*
 * The children and partitions of a relation, near and far.
 *
 * A partition that is being detached counts until it is: for some snapshots it is
 * still read.
 */
static List *
descendants_of(Oid relid)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(Oid),.hcxt = CurrentMemoryContext};
	List	   *all = list_make1_oid(relid);
	HTAB	   *met = hash_create("tcs descendants", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	(void) hash_search(met, &relid, HASH_ENTER, NULL);
	for (int i = 0; i < list_length(all); i++)
	{
		ListCell   *lc;

		CHECK_FOR_INTERRUPTS();
		(void) watch(list_nth_oid(all, i));
		foreach(lc, find_inheritance_children_extended(list_nth_oid(all, i), false, NoLock, NULL, NULL))
		{
			bool		found;

			(void) hash_search(met, &lfirst_oid(lc), HASH_ENTER, &found);
			if (!found)
				all = lappend_oid(all, lfirst_oid(lc));
		}
	}
	hash_destroy(met);
	return list_delete_first(all);
}

/* Does a rule in the copy speak of a function? */
bool
tcs_rules_have_function(Oid function)
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
	TcsQueryObjects *objects = context;

	if (function >= FirstNormalObjectId && tcs_rules_have_function(function))
		objects->functions = list_append_unique_oid(objects->functions, function);
	return false;
}

/* See tcs_rules_find_objects(). */
static bool
query_objects_walker(Node *node, TcsQueryObjects *objects)
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

/* Relations and functions of a query or expression, those of its subqueries included. */
void
tcs_rules_find_objects(Node *node, TcsQueryObjects *objects)
{
	(void) query_objects_walker(node, objects);
}

/*
 * What the query of a view names.
 *
 * The view is not locked, because that would make all who read another member of
 * its group wait while somebody changes the view.  Its query is in one row of a catalog.
 * So this sees the query from before a change or the one from after it.  When a
 * change commits, an invalidation comes, as for all that is known.  A view without
 * that row has been dropped.
 */
static void
look_into_view(Oid relid, TcsQueryObjects *objects)
{
	HeapTuple	tuple = SearchSysCache2(RULERELNAME, ObjectIdGetDatum(relid),
										PointerGetDatum(ViewSelectRuleName));
	Datum		actions;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		return;
	actions = SysCacheGetAttr(RULERELNAME, tuple, Anum_pg_rewrite_ev_action, &isnull);
	Assert(!isnull);
	tcs_rules_find_objects(stringToNode(TextDatumGetCString(actions)), objects);
	ReleaseSysCache(tuple);
}

/* The rules and groups of a relation itself, which are also its ancestors'. */
static void
find_candidates(TcsKnownRelation *relation)
{
	List	   *ancestors = relation->ancestors = ancestors_of(relation->relid);
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

static void
free_lists(TcsKnownRelation *relation)
{
	if (relation->candidates != NULL)
		pfree(relation->candidates);
	list_free(relation->ancestors);
	list_free(relation->groups);
	list_free(relation->through);
	list_free(relation->functions);
}

/* Forget relations that are gone, which nobody will ask for again. */
static void
sweep_known(void)
{
	HASH_SEQ_STATUS status;
	TcsKnownRelation *relation;

	hash_seq_init(&status, known);
	while ((relation = hash_seq_search(&status)) != NULL)
	{
		if (relation->changed_at <= swept_at ||
			SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relation->relid)))
			continue;
		free_lists(relation);
		(void) hash_search(known, &relation->relid, HASH_REMOVE, NULL);
	}
}

/*
 * The table of what is known, empty if that holds no more.  So that it does not grow
 * for ever, it is swept when as much has changed as it may have that is gone.
 */
static void
prepare_known(void)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(TcsKnownRelation)};

	if (known_is_stale)
	{
		if (known_context != NULL)
			MemoryContextReset(known_context);
		known = NULL;
		known_is_stale = false;
	}
	if (known != NULL && changes - swept_at > (uint64) Max(1024, hash_get_num_entries(known) / 2))
	{
		uint64		before = changes;

		sweep_known();
		swept_at = before;
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

/*
 * Put a relation, which is known in full, in the place of what was known of it before.
 */
static TcsKnownRelation *
remember(const TcsKnownRelation *found)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(known_context);
	TcsKnownRelation copy = *found;
	TcsKnownRelation *relation;

	if (found->ncandidates > 0)
	{
		copy.candidates = palloc(found->ncandidates * sizeof(TcsRuleCandidate));
		memcpy(copy.candidates, found->candidates, found->ncandidates * sizeof(TcsRuleCandidate));
	}
	copy.ancestors = list_copy(found->ancestors);
	copy.groups = list_copy(found->groups);
	copy.through = list_copy(found->through);
	copy.functions = list_copy(found->functions);
	relation = watch(found->relid);
	copy.changed_at = relation->changed_at;
	free_lists(relation);
	*relation = copy;
	MemoryContextSwitchTo(oldcontext);
	return relation;
}

/* Find out about a relation, but of a view only what its query names. */
static TcsKnownRelation *
find_out(Oid relid)
{
	TcsKnownRelation found = {.relid = relid,.made_at = changes};
	TcsKnownRelation *relation;
	MemoryContext work;
	MemoryContext oldcontext;
	char		kind;

	CHECK_FOR_INTERRUPTS();
	(void) watch(relid);
	work = AllocSetContextCreate(CurrentMemoryContext, "tcs look-up of a relation", ALLOCSET_SMALL_SIZES);
	oldcontext = MemoryContextSwitchTo(work);
	kind = get_rel_relkind(relid);
	found.is_view = kind == RELKIND_VIEW;
	/* one that is gone has nothing; no lock is taken on any */
	if (kind != '\0')
		find_candidates(&found);
	if (found.is_view)
	{
		TcsQueryObjects objects = {0};

		look_into_view(relid, &objects);
		found.through = objects.relations;
		found.functions = objects.functions;
	}
	else if (kind != '\0' && has_subclass(relid))
		found.through = descendants_of(relid);
	found.has_all = !found.is_view;
	relation = remember(&found);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(work);
	return relation;
}

static TcsKnownRelation *
known_relation(Oid relid)
{
	TcsKnownRelation *relation = hash_search(known, &relid, HASH_FIND, NULL);

	return relation != NULL && holds(relation) ? relation : find_out(relid);
}

/*
 * Find all that is read with a view, near and far.
 *
 * The list is at once what was found and what is still to be looked at, so a view
 * that leads back to itself ends the walk.  An error leaves no trace but relations
 * that are known in full.  Nothing is thrown away here: that is for prepare_known().
 * What changes meanwhile makes the result hold for this use alone, and the walk goes on.
 */
static void
walk_through_view(TcsKnownRelation *view)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(Oid)};
	MemoryContext work = AllocSetContextCreate(CurrentMemoryContext, "tcs walk through a view",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(work);
	List	   *all = list_make1_oid(view->relid);
	List	   *functions = NIL;
	uint64		started_at = changes;
	HTAB	   *met;

	ctl.hcxt = work;
	met = hash_create("tcs walk through a view", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	(void) hash_search(met, &view->relid, HASH_ENTER, NULL);
	for (int i = 0; i < list_length(all); i++)
	{
		const TcsKnownRelation *relation = known_relation(list_nth_oid(all, i));
		ListCell   *lc;

		CHECK_FOR_INTERRUPTS();
		functions = list_concat_unique_oid(functions, relation->functions);
		foreach(lc, relation->through)
		{
			bool		found;

			(void) hash_search(met, &lfirst_oid(lc), HASH_ENTER, &found);
			if (!found)
				all = lappend_oid(all, lfirst_oid(lc));
		}
	}
	MemoryContextSwitchTo(known_context);
	all = list_copy_tail(all, 1);
	functions = list_copy(functions);
	list_free(view->through);
	list_free(view->functions);
	view->through = all;
	view->functions = functions;
	view->has_all = true;
	view->made_at = started_at;
	view->checked_at = 0;
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(work);
}

/*
 * What is known of a relation; looked up if need be.  Valid until the next call of
 * this or tcs_rules_look_through().  Of a view, its own rules alone.
 */
TcsKnownRelation *
tcs_rules_look_up(Oid relid)
{
	prepare_known();
	return known_relation(relid);
}

/* The same, with all that is read with it. */
TcsKnownRelation *
tcs_rules_look_through(Oid relid)
{
	TcsKnownRelation *relation = tcs_rules_look_up(relid);

	if (!relation->has_all)
		walk_through_view(relation);
	return relation;
}
