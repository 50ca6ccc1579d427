/*-------------------------------------------------------------------------
 *
 * planning_reads.c
 *	  Can planning a statement read tables?
 *
 * NOTES
 *	  The planner evaluates functions that are declared IMMUTABLE, and some read
 *	  tables all the same.  A function in SQL may be inlined, and what is in it
 *	  evaluated then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "executor/functions.h"
#include "nodes/nodeFuncs.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "statement/planning_reads.h"

/* Whether to look into functions in SQL; else each may evaluate something. */
typedef struct Planning
{
	bool		thorough;
	int			depth;			/* of functions in functions */
} Planning;

/* What lies deeper is not looked at, and counts as something that reads. */
#define MOST_DEPTH		10

static bool planning_may_run_walker(Node *node, void *context);

/* The queries of a body that was analysed when the function was made, rewritten. */
static bool
rewrite_walker(Node *node, void *context)
{
	List	  **queries = context;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, rewrite_walker, context);
	AcquireRewriteLocks((Query *) node, true, false);
	*queries = list_concat(*queries, pg_rewrite_query((Query *) node));
	return false;
}

/* The queries of a function in SQL, rewritten.  Throws what is wrong with them. */
static List *
queries_of_function(HeapTuple tuple)
{
	bool		isnull;
	Datum		body = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosqlbody, &isnull);
	SQLFunctionParseInfoPtr info;
	char	   *source;
	List	   *queries = NIL;
	ListCell   *lc;

	if (!isnull)
	{
		(void) rewrite_walker(stringToNode(TextDatumGetCString(body)), &queries);
		return queries;
	}
	source = TextDatumGetCString(SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull));
	info = prepare_sql_fn_parse_info(tuple, NULL, InvalidOid);
	foreach(lc, pg_parse_query(source))
		queries = list_concat(queries,
							  pg_analyze_and_rewrite_withcb(lfirst_node(RawStmt, lc), source,
															(ParserSetupHook) sql_fn_parser_setup,
															info, NULL));
	return queries;
}

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
	reads = planning_may_run_walker((Node *) queries_of_function(tuple), planning);
	planning->depth--;
	return reads;
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
	result = proc->provolatile == PROVOLATILE_IMMUTABLE ||
		(proc->prolang == SQLlanguageId && inlined_may_run(tuple, context));
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

/* Can planning this query read?  Quick: each function in SQL counts as one that may. */
bool
tcs_planning_may_read(Query *query)
{
	Planning	planning = {.thorough = false};

	return planning_may_run_walker((Node *) query, &planning);
}

/*
 * The same, from what the functions in SQL do.  Throws if one cannot be analysed, and
 * locks what they read: for a subtransaction that is rolled back.
 */
bool
tcs_planning_reads(Query *query)
{
	Planning	planning = {.thorough = true};

	return planning_may_run_walker((Node *) query, &planning);
}
