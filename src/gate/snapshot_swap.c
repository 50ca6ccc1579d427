/*-------------------------------------------------------------------------
 *
 * snapshot_swap.c
 *	  Giving back a statement's snapshot and locks, and taking new ones.
 *
 * NOTES
 *	  A statement reaches the gate with a snapshot taken already: by
 *	  PortalStart() for a query, by PortalRunUtility() for a utility statement,
 *	  by the protocol code for planning.  Waiting with it would be useless (it
 *	  does not get fresher) and harmful (its xmin can hold up the replay that is
 *	  waited for).  So it is given back, and a new one is put into each place
 *	  that the old one was recorded in.
 *
 *	  A query that was planned before its new snapshot may have a stale plan:
 *	  ATTACH PARTITION and CREATE OR REPLACE FUNCTION are replayed without any
 *	  lock that would conflict with the statement's.  Their invalidations are
 *	  sent before the position of replay moves past the commit, so they are in
 *	  the queue when the requirement is met.  We count them while the plan is
 *	  made, and from before the old snapshot goes until the new one is taken;
 *	  if there were any, we plan again from the statement's text, and fail with
 *	  40001 where that would give other columns than the client was promised.
 *	  Any at all, because names may have come to mean other objects: a table
 *	  that was created in an earlier schema of search_path has nothing to do
 *	  with the plan.  On a primary, where a wait is for commits that are in
 *	  the catalogs already and a statement that writes cannot be planned again,
 *	  only what the plan depends on counts.  Utility statements are planned
 *	  after the gate.
 *
 *	  In REPEATABLE READ the first statement of the transaction may also
 *	  change snapshots, since nobody has seen anything of the old one.  The
 *	  transaction's snapshot is replaced by taking one as READ COMMITTED would;
 *	  all that follows in the transaction then uses it.  The first one stays
 *	  registered, so xmin is held, and the wait counts as holding.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "nodes/extensible.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "parser/analyze.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/sinval.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/inval.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/xact.h"
#include "gate/snapshot_swap.h"
#include "statement/statement_queries.h"
#include "statement/statement_source.h"

/* What the invalidation callbacks compare with; NULL: nobody watches. */
static const PlannedStmt *watched_plan = NULL;
static bool plan_is_stale = false;
static uint64 watched_from = 0; /* SharedInvalidMessageCounter */

static void
watch_relcache(Datum arg, Oid relid)
{
	if (watched_plan == NULL)
		return;
	if (relid == InvalidOid || list_member_oid(watched_plan->relationOids, relid))
		plan_is_stale = true;
}

static void
watch_syscache(Datum arg, int cacheid, uint32 hashvalue)
{
	ListCell   *lc;

	if (watched_plan == NULL)
		return;
	foreach(lc, watched_plan->invalItems)
	{
		PlanInvalItem *item = (PlanInvalItem *) lfirst(lc);

		if (item->cacheId == cacheid &&
			(hashvalue == 0 || item->hashValue == hashvalue))
			plan_is_stale = true;
	}
}

static void
watch_plan(const PlannedStmt *plan)
{
	static bool registered = false;

	if (!registered)
	{
		CacheRegisterRelcacheCallback(watch_relcache, (Datum) 0);
		CacheRegisterSyscacheCallback(PROCOID, watch_syscache, (Datum) 0);
		CacheRegisterSyscacheCallback(TYPEOID, watch_syscache, (Datum) 0);
		registered = true;
	}

	/*
	 * A plan that was made for this statement may be stale already: taking
	 * locks has processed messages since its making began.  Which ones is not
	 * known, so any makes us plan again.  Plans of the plan cache were
	 * checked by it under their locks.
	 */
	plan_is_stale =
		tcs_planned.in_message == GetCurrentStatementStartTimestamp() &&
		tcs_planned.began_at != SharedInvalidMessageCounter;
	tcs_planned.in_message = 0;
	watched_plan = plan;
	watched_from = SharedInvalidMessageCounter;
	AcceptInvalidationMessages();
}

/* The statement that comes to the gate is to be planned again. */
void
tcs_swap_distrust_plan(void)
{
	tcs_planned.in_message = GetCurrentStatementStartTimestamp();
	tcs_planned.began_at = PG_UINT64_MAX;
}

/* After an error: the plan may go away. */
void
tcs_swap_stop_watching(void)
{
	watched_plan = NULL;
}

/*
 * Can this site's snapshot be replaced?  Not if it is not where we know it to
 * be, which means that something else runs the statement than we think.
 */
bool
tcs_swap_is_possible(const TcsSite *site)
{
	switch (site->kind)
	{
		case TCS_SITE_BARE:
			return true;
		case TCS_SITE_QUERY:
			return ActivePortal != NULL && ActiveSnapshotSet() &&
				site->query_desc->snapshot == GetActiveSnapshot() &&
				list_member_ptr(ActivePortal->stmts, site->query_desc->plannedstmt);
		case TCS_SITE_UTILITY:
			return ActivePortal != NULL && ActiveSnapshotSet() &&
				ActivePortal->portalSnapshot == GetActiveSnapshot();
		case TCS_SITE_CALL:
		case TCS_SITE_PLANNER:
			return ActivePortal == NULL && ActiveSnapshotSet();
		case TCS_SITE_NESTED:
			break;
	}
	return false;
}

/* Have the portal give back what it keeps, and note it. */
static void
drop_hold_snapshot(TcsSite *site)
{
	Portal		portal = ActivePortal;

	if (portal->holdSnapshot == NULL)
		return;
	UnregisterSnapshotFromOwner(portal->holdSnapshot, portal->resowner);
	portal->holdSnapshot = NULL;
	site->had_hold_snapshot = true;
}

/* Have the portal keep a snapshot if it kept the one before. */
static Snapshot
retake_hold_snapshot(const TcsSite *site, Snapshot snapshot)
{
	Portal		portal = ActivePortal;

	if (!site->had_hold_snapshot)
		return snapshot;
	portal->holdSnapshot = RegisterSnapshotOnOwner(snapshot, portal->resowner);
	return portal->holdSnapshot;
}

/* Give the snapshot back. */
void
tcs_swap_drop_snapshot(TcsSite *site)
{
	if (site->kind == TCS_SITE_QUERY)
	{
		watch_plan(site->query_desc->plannedstmt);
		UnregisterSnapshot(site->query_desc->snapshot);
		site->query_desc->snapshot = InvalidSnapshot;
	}
	if (site->kind != TCS_SITE_BARE)
		PopActiveSnapshot();
	if (site->kind == TCS_SITE_UTILITY)
		ActivePortal->portalSnapshot = NULL;

	/*
	 * With RETURNING the portal keeps the snapshot for the rows that it will
	 * send.  An older one does no harm there, but the transaction's has to be
	 * the only one.
	 */
	if (site->kind == TCS_SITE_UTILITY ||
		(site->kind == TCS_SITE_QUERY && site->fix_snapshot))
		drop_hold_snapshot(site);
	InvalidateCatalogSnapshot();
}

/*
 * Before a wait for replay, with no snapshot left: make replay stop waiting for
 * us.
 *
 * Replay that conflicts with a snapshot makes a list of the transactions that
 * have such a one at that moment, and waits for the end of each, not of its
 * snapshot.  If that moment lay between the taking of our snapshot and its
 * giving back, replay would wait for us and we for replay, although we have
 * nothing any more that could be in its way.  A list holds virtual transaction
 * ids, and a new one is on no list.
 */
void
tcs_swap_leave_conflicts(void)
{
	if (MyProc->xmin != InvalidTransactionId || !RecoveryInProgress())
		return;
	tcs_xact_renew_virtual_id();
}

/*
 * Take a snapshot; in REPEATABLE READ, replace the transaction's.  The isolation
 * level is read here because it is what is changed.
 *
 * At level "snapshot" the transaction becomes REPEATABLE READ with it, as though
 * it had had none before: all are given back, and its statements have read
 * nothing.  Should one be left (of a cursor that is being read, say), it must not.
 */
static Snapshot
new_snapshot(const TcsSite *site)
{
	int			isolation = XactIsoLevel;
	Snapshot	snapshot;

	if (site->fix_snapshot && !site->redirected && !IsolationUsesXactSnapshot())
	{
		if (HaveRegisteredOrActiveSnapshot())
			ereport(ERROR,
					(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
					 errmsg("read level \"snapshot\" must be set before any query of the transaction")));
		InvalidateCatalogSnapshot();
		FirstSnapshotSet = false;
		XactIsoLevel = XACT_REPEATABLE_READ;
		return GetTransactionSnapshot();
	}
	if (IsolationUsesXactSnapshot() && FirstSnapshotSet)
		XactIsoLevel = XACT_READ_COMMITTED;
	snapshot = GetTransactionSnapshot();
	XactIsoLevel = isolation;
	return snapshot;
}

/*
 * Analyse a statement again from its text: the queries that it is rewritten to,
 * NIL if the text is not one statement.
 */
static List *
analyze_anew(const PlannedStmt *old, const char **source, Oid *types, int ntypes,
			 QueryEnvironment *query_env)
{
	List	   *parsetrees = tcs_statement_parse(old, source);

	if (list_length(parsetrees) != 1)
		return NIL;
	return pg_analyze_and_rewrite_fixedparams(linitial_node(RawStmt, parsetrees),
											  *source, types, ntypes, query_env);
}

static void
refuse_changed_schema(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to a concurrent schema change"),
			 errdetail("While the statement waited for replay, an object that it uses was changed."),
			 errhint("Retry the statement.")));
}

/* Does something stand in the place of a plan that was not made yet? */
static bool
is_stub(const PlannedStmt *plan)
{
	const CustomScan *scan = (const CustomScan *) plan->planTree;

	return IsA(scan, CustomScan) && strcmp(scan->methods->CustomName, TCS_STUB_NAME) == 0;
}

/*
 * Plan a query again.
 *
 * A stub has the columns that the query has before it is planned.  Planning can narrow
 * down their type modifiers, so like is compared with like.
 *
 * Right for a plain SELECT that came from the client; anything else (an
 * INSERT turned into a SELECT by a rule, say) is left to a retry.
 */
static PlannedStmt *
replan_statement(const TcsSite *site)
{
	QueryDesc  *query_desc = site->query_desc;
	const PlannedStmt *old = query_desc->plannedstmt;
	const char *source = query_desc->sourceText;
	int			ntypes;
	Oid		   *types = tcs_statement_param_types(query_desc->params, &ntypes);
	List	   *queries;
	TupleDesc	columns = NULL;
	PlannedStmt *plan = NULL;

	if (old->commandType == CMD_SELECT)
	{
		/* planning may evaluate functions, so not with what is given back */
		PushActiveSnapshot(new_snapshot(site));
		queries = analyze_anew(old, &source, types, ntypes, NULL);
		if (list_length(queries) == 1 &&
			linitial_node(Query, queries)->commandType == CMD_SELECT)
		{
			Query	   *query = linitial_node(Query, queries);

			if (is_stub(old))
				columns = ExecCleanTypeFromTL(query->targetList);
			plan = tcs_plan_query_compat(query, source,
										 CURSOR_OPT_PARALLEL_OK, query_desc->params);
			if (columns == NULL)
				columns = ExecCleanTypeFromTL(plan->planTree->targetlist);
		}
		PopActiveSnapshot();
	}

	if (plan == NULL ||
		!equalTupleDescs(ExecCleanTypeFromTL(old->planTree->targetlist), columns))
		refuse_changed_schema();

	/* slices of the source are counted from its own begin */
	plan->stmt_location = old->stmt_location;
	plan->stmt_len = old->stmt_len;
	return plan;
}

/* Types of a query's parameters, by their numbers. */
typedef struct ParamTypes
{
	Oid		   *types;
	int			n;
} ParamTypes;

static bool
param_types_walker(Node *node, ParamTypes *found)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, param_types_walker, found, 0);
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN)
	{
		const Param *param = (Param *) node;

		if (param->paramid > found->n)
		{
			found->types = found->types ?
				repalloc(found->types, param->paramid * sizeof(Oid)) :
				palloc(param->paramid * sizeof(Oid));
			/* the type of one that is not used does not matter */
			while (found->n < param->paramid)
				found->types[found->n++] = TEXTOID;
		}
		found->types[param->paramid - 1] = param->paramtype;
		return false;
	}
	return expression_tree_walker(node, param_types_walker, found);
}

/*
 * Can a query that is about to be planned be analysed again?  It can if it is a
 * plain SELECT of the client.  The text that comes with what a function runs does
 * not tell what its parameters are, and what else there is does not run on a
 * standby.
 */
bool
tcs_swap_can_reanalyze_query(const Query *query, const char *source)
{
	return source == debug_query_string && TransactionStartedDuringRecovery() &&
		query->commandType == CMD_SELECT && query->querySource == QSRC_ORIGINAL;
}

/*
 * Analyse a query again that is about to be planned, as planning has waited.  What
 * it uses besides tables may be gone, or be something else by now, and the planner
 * would fail with an internal error.
 */
Query *
tcs_swap_reanalyze_query(Query *old, const char *source)
{
	const PlannedStmt place = {.stmt_location = old->stmt_location,.stmt_len = old->stmt_len};
	ParamTypes	params = {0};
	List	   *queries;
	Query	   *query = NULL;

	(void) param_types_walker((Node *) old, &params);
	queries = analyze_anew(&place, &source, params.types, params.n, NULL);
	if (list_length(queries) == 1)
		query = linitial_node(Query, queries);
	if (query == NULL || query->commandType != CMD_SELECT ||
		!equalTupleDescs(ExecCleanTypeFromTL(old->targetList),
						 ExecCleanTypeFromTL(query->targetList)))
		refuse_changed_schema();
	query->canSetTag = old->canSetTag;
	query->stmt_location = old->stmt_location;
	query->stmt_len = old->stmt_len;
	return query;
}

/*
 * Analyse a utility statement again, whose query or arguments were analysed
 * before the wait (DECLARE, EXPLAIN, CALL).
 */
PlannedStmt *
tcs_swap_reanalyze_utility(const PlannedStmt *old, const char *source,
						   ParamListInfo params, QueryEnvironment *query_env)
{
	int			ntypes;
	Oid		   *types = tcs_statement_param_types(params, &ntypes);
	List	   *queries = analyze_anew(old, &source, types, ntypes, query_env);
	Node	   *statement = list_length(queries) == 1 ?
		linitial_node(Query, queries)->utilityStmt : NULL;
	TupleDesc	promised = ActivePortal ? ActivePortal->tupDesc : NULL;
	TupleDesc	desc;
	PlannedStmt *result;

	if (statement == NULL || nodeTag(statement) != nodeTag(old->utilityStmt))
		refuse_changed_schema();

	/* a procedure may have other output parameters */
	desc = UtilityReturnsTuples(statement) ? UtilityTupleDescriptor(statement) : NULL;
	if ((promised == NULL) != (desc == NULL) ||
		(promised && !equalTupleDescs(promised, desc)))
		refuse_changed_schema();

	result = makeNode(PlannedStmt);
	*result = *old;
	result->utilityStmt = statement;
	return result;
}

/*
 * The statement runs elsewhere, and is the only one of its transaction: nothing
 * is read with its snapshot, which is there because the executor must have one.
 * So it need not keep replay from removing what it shows, nor be cancelled by
 * it.  With an xmin of zero it is left out of account when the session's xmin is
 * worked out; its other fields stay right.  A look into the catalogs (at a type
 * that this session has not met) takes a snapshot of its own, and then the session
 * has an xmin until the statement ends, a recent one.
 */
static void
hide_snapshot(Snapshot snapshot)
{
	InvalidateCatalogSnapshot();
	snapshot->xmin = InvalidTransactionId;
	MyProc->xmin = InvalidTransactionId;
}

/*
 * Take a new snapshot and put it wherever the old one was recorded.
 *
 * The position that proves it fresh has been read before this call.
 */
void
tcs_swap_take_snapshot(TcsSite *site)
{
	/* while our plan is still watched */
	AcceptInvalidationMessages();
	watched_plan = NULL;

	switch (site->kind)
	{
		case TCS_SITE_QUERY:
			/* also if promotion has ended the wait */
			if (TransactionStartedDuringRecovery() &&
				watched_from != SharedInvalidMessageCounter)
				plan_is_stale = true;
			if (plan_is_stale && !site->redirected)
				site->query_desc->plannedstmt = replan_statement(site);
			PushCopiedSnapshot(retake_hold_snapshot(site, new_snapshot(site)));
			if (site->redirected && site->locks_released)
				hide_snapshot(GetActiveSnapshot());
			site->query_desc->snapshot = RegisterSnapshot(GetActiveSnapshot());
			break;

		case TCS_SITE_UTILITY:
			{
				Portal		portal = ActivePortal;
				Snapshot	snapshot = retake_hold_snapshot(site, new_snapshot(site));

				PushActiveSnapshotWithLevel(snapshot, portal->createLevel);
				portal->portalSnapshot = GetActiveSnapshot();
				break;
			}

		case TCS_SITE_CALL:
		case TCS_SITE_PLANNER:
			PushActiveSnapshot(new_snapshot(site));
			break;

		case TCS_SITE_BARE:
		case TCS_SITE_NESTED:
			break;
	}
}

/*
 * Give back all locks of the statement, which is the first of its transaction
 * and has a transaction of its own, so that there are no others.  Locks of the
 * session (advisory ones) have no resource owner and stay.
 */
void
tcs_swap_release_locks(const TcsSite *site)
{
	ResourceOwner saved = CurrentResourceOwner;

	CurrentResourceOwner = TopTransactionResourceOwner;
	LockReleaseCurrentOwner(NULL, 0);
	if (ActivePortal && ActivePortal->resowner)
	{
		CurrentResourceOwner = ActivePortal->resowner;
		LockReleaseCurrentOwner(NULL, 0);
	}
	CurrentResourceOwner = saved;
}

/* Is it a relation that a plan runs under a lock of? */
static bool
is_locked_relation(const RangeTblEntry *rte)
{
	return rte->rtekind == RTE_RELATION ||
		(rte->rtekind == RTE_SUBQUERY && OidIsValid(rte->relid));
}

/*
 * Take the locks of a plan again if they can be had at once.  Some may be taken
 * and others not; the caller gives all back.
 */
bool
tcs_swap_try_locks(const TcsSite *site)
{
	ResourceOwner saved = CurrentResourceOwner;
	bool		all = true;
	ListCell   *lc;

	CurrentResourceOwner = TopTransactionResourceOwner;
	foreach(lc, site->query_desc->plannedstmt->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (is_locked_relation(rte) &&
			!ConditionalLockRelationOid(rte->relid, rte->rellockmode))
			all = false;
	}
	CurrentResourceOwner = saved;
	return all;
}

/* Take again the locks that a plan runs under, as plancache.c does. */
void
tcs_swap_retake_locks(const TcsSite *site)
{
	ResourceOwner saved = CurrentResourceOwner;
	ListCell   *lc;

	CurrentResourceOwner = TopTransactionResourceOwner;
	foreach(lc, site->query_desc->plannedstmt->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (is_locked_relation(rte))
			LockRelationOid(rte->relid, rte->rellockmode);
	}
	CurrentResourceOwner = saved;
}
