/*-------------------------------------------------------------------------
 *
 * planning_reads.c
 *	  Can planning a statement read tables?
 *
 * NOTES
 *	  The planner evaluates functions that are declared IMMUTABLE, and some read
 *	  tables all the same.  A function in SQL may be inlined, and what is in it
 *	  evaluated then.  For an estimate it runs STABLE functions as well.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "nodes/nodeFuncs.h"
#include "utils/syscache.h"

#include "rules/sql_bodies.h"
#include "statement/planning_reads.h"

/* Whether to look into functions in SQL; else each may evaluate something. */
typedef struct Planning
{
	bool		thorough;
	int			depth;			/* of functions in functions */
	bool		guesses;		/* there is a STABLE one; if it is not
								 * thorough */
} Planning;

/* What lies deeper is not looked at, and counts as something that reads. */
#define MOST_DEPTH		10

static bool planning_may_run_walker(Node *node, void *context);

/* If a function in SQL is inlined, may planning evaluate something in it? */
static bool
inlined_may_run(HeapTuple tuple, Planning *planning)
{
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);
	bool		reads;

	if (!planning->thorough)
		return true;
	/* those are not inlined */
	if (proc->prosecdef || !heap_attisnull(tuple, Anum_pg_proc_proconfig, NULL))
		return false;
	if (planning->depth == MOST_DEPTH)
		return true;
	planning->depth++;
	reads = planning_may_run_walker((Node *) tcs_sql_body(tuple, NULL, false), planning);
	planning->depth--;
	return reads;
}

/* check_functions_in_node() callback: true for what planning evaluates. */
static bool
planning_may_run(Oid funcid, void *context)
{
	Planning   *planning = context;
	HeapTuple	tuple;
	Form_pg_proc proc;
	bool		result;

	if (funcid < FirstNormalObjectId)
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	if (!HeapTupleIsValid(tuple))
		return true;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	result = proc->provolatile == PROVOLATILE_IMMUTABLE ||
		(proc->prolang == SQLlanguageId && inlined_may_run(tuple, planning));
	planning->guesses |= proc->provolatile == PROVOLATILE_STABLE;
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

/* What may planning this query run?  Quick: each function in SQL counts as IMMUTABLE. */
TcsPlanningRuns
tcs_planning_runs(Query *query)
{
	Planning	planning = {.thorough = false};

	if (planning_may_run_walker((Node *) query, &planning))
		return TCS_PLANNING_EVALUATES;
	return planning.guesses ? TCS_PLANNING_GUESSES : TCS_PLANNING_RUNS_NOTHING;
}

/*
 * Does it evaluate functions?  From what those in SQL do.  Throws if one cannot be analysed, and
 * locks what they read: for a subtransaction that is rolled back.
 */
bool
tcs_planning_reads(Query *query)
{
	Planning	planning = {.thorough = true};

	return planning_may_run_walker((Node *) query, &planning);
}
