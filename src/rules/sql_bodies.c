/*-------------------------------------------------------------------------
 *
 * sql_bodies.c
 *	  What functions in SQL are made of.
 *
 * NOTES
 *	  Planning can put the body of such a function in the place of its call.  Here
 *	  that body is found without planning, since planning also runs functions.  More
 *	  is found than planning would use: it keeps some calls as they are.
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
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "rules/sql_bodies.h"

/* What has been found. */
typedef struct Bodies
{
	List	   *queries;
	List	   *functions;		/* each is looked into once */
} Bodies;

static bool bodies_walker(Node *node, Bodies *bodies);

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

/*
 * The queries of a function in SQL, rewritten.  Throws what is wrong with them.  With
 * "one_statement", NIL for a body of several, which is never put in the place of a
 * call.  "call" is NULL if it is not known.
 */
List *
tcs_sql_body(HeapTuple tuple, Node *call, bool one_statement)
{
	bool		isnull;
	Datum		body = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosqlbody, &isnull);
	SQLFunctionParseInfoPtr info;
	char	   *source;
	List	   *parsetrees;
	List	   *queries = NIL;
	ListCell   *lc;

	if (!isnull)
	{
		(void) rewrite_walker(stringToNode(TextDatumGetCString(body)), &queries);
		return queries;
	}
	source = TextDatumGetCString(SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull));
	parsetrees = pg_parse_query(source);
	if (one_statement && list_length(parsetrees) != 1)
		return NIL;
	info = prepare_sql_fn_parse_info(tuple, call, InvalidOid);
	foreach(lc, parsetrees)
		queries = list_concat(queries,
							  pg_analyze_and_rewrite_withcb(lfirst_node(RawStmt, lc), source,
															(ParserSetupHook) sql_fn_parser_setup,
															info, NULL));
	return queries;
}

/* A call with its arguments in the order of the function's, and with its defaults. */
static Node *
expand_call(Node *node, HeapTuple tuple)
{
	FuncExpr   *call;

	if (!IsA(node, FuncExpr))
		return node;
	call = copyObject((FuncExpr *) node);
	call->args = expand_function_arguments(call->args, false, call->funcresulttype, tuple);
	return (Node *) call;
}

/* Add the body of a function, and those of the functions in it. */
static void
add_body(Oid function, Node *call, Bodies *bodies)
{
	HeapTuple	tuple;
	Form_pg_proc proc;
	List	   *queries = NIL;

	if (function < FirstNormalObjectId || list_member_oid(bodies->functions, function))
		return;
	bodies->functions = lappend_oid(bodies->functions, function);
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		return;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	/* planning keeps those with settings or an owner of their own as they are */
	if (proc->prolang == SQLlanguageId && proc->prokind == PROKIND_FUNCTION &&
		!proc->prosecdef && heap_attisnull(tuple, Anum_pg_proc_proconfig, NULL))
		queries = tcs_sql_body(tuple, expand_call(call, tuple), true);
	ReleaseSysCache(tuple);

	(void) bodies_walker((Node *) queries, bodies);
	bodies->queries = list_concat(bodies->queries, queries);
}

static bool
bodies_walker(Node *node, Bodies *bodies)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr))
		add_body(((FuncExpr *) node)->funcid, node, bodies);
	else if (IsA(node, OpExpr))
	{
		set_opfuncid((OpExpr *) node);
		add_body(((OpExpr *) node)->opfuncid, node, bodies);
	}
	else if (IsA(node, Query))
		return query_tree_walker((Query *) node, bodies_walker, bodies, 0);
	return expression_tree_walker(node, bodies_walker, bodies);
}

/* All that planning can put in the place of calls in a query, at whatever depth. */
List *
tcs_sql_bodies(Query *query)
{
	Bodies		bodies = {0};

	(void) bodies_walker((Node *) query, &bodies);
	return bodies.queries;
}
