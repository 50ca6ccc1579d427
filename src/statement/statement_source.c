/*-------------------------------------------------------------------------
 *
 * statement_source.c
 *	  The query of a statement that is about to run, from its text or its plan.
 *
 * NOTES
 *	  Nothing is kept while statements are analysed, so that one which passes at once
 *	  pays nothing.  When it comes to it, a prepared statement has its analysed query
 *	  still, a DECLARE or EXPLAIN its own, and others are analysed again from their
 *	  text.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/prepare.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parse_expr.h"
#include "parser/parser.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"

#include "base/compat.h"
#include "base/settings.h"
#include "statement/exempt.h"
#include "statement/statement_source.h"

/* The text of one statement out of that of its message. */
const char *
tcs_statement_own_text(const char *source, int location, int len)
{
	if (location >= 0 && len > 0)
		return pnstrdup(source + location, len);
	return location > 0 ? source + location : source;
}

/*
 * Parse the text of one statement, as it stands in its message.  *source is
 * the message, and on return the statement's own text.
 */
List *
tcs_statement_parse(const PlannedStmt *plan, const char **source)
{
	*source = tcs_statement_own_text(*source, plan->stmt_location, plan->stmt_len);
	return pg_parse_query(*source);
}

/* The types of a statement's parameters; NULL if there are none. */
Oid *
tcs_statement_param_types(ParamListInfo params, int *n)
{
	Oid		   *types;

	*n = params ? params->numParams : 0;
	if (*n == 0)
		return NULL;
	types = palloc(*n * sizeof(Oid));
	for (int i = 0; i < *n; i++)
		types[i] = params->params[i].ptype;
	return types;
}

/*
 * Analyse a parsed statement again.  Notices were given the first time.
 */
Query *
tcs_statement_analyze_again(RawStmt *raw, const char *source, Oid *types, int ntypes)
{
	int			level = NewGUCNestLevel();
	Query	   *query;

	tcs_guc_set_for_now("client_min_messages", "error");
	tcs_guc_set_for_now("log_min_messages", "error");
	query = parse_analyze_fixedparams(raw, source, types, ntypes, NULL);
	AtEOXact_GUC(true, level);
	return query;
}

/*
 * Parse a statement again from its text; NULL if the text is not one statement.
 * That names are too long, or strings have backslashes, was told the first time.
 */
RawStmt *
tcs_statement_parse_quietly(const PlannedStmt *plan, const char **source)
{
	int			level = NewGUCNestLevel();
	List	   *parsetrees;

	tcs_guc_set_for_now("client_min_messages", "error");
	tcs_guc_set_for_now("log_min_messages", "error");
	parsetrees = tcs_statement_parse(plan, source);
	AtEOXact_GUC(true, level);
	return list_length(parsetrees) == 1 ? linitial_node(RawStmt, parsetrees) : NULL;
}

/* Has rewriting left traces: views, or conditions of row-level security? */
static bool
was_rewritten(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		/* a view keeps its number as a subquery, or, on 15, its OLD and NEW */
		return rte->securityQuals != NIL || rte->relkind == RELKIND_VIEW ||
			(rte->rtekind == RTE_SUBQUERY && OidIsValid(rte->relid));
	}
	/* their columns have been added to the query */
	if (IsA(node, CommonTableExpr) &&
		(((CommonTableExpr *) node)->search_clause != NULL ||
		 ((CommonTableExpr *) node)->cycle_clause != NULL))
		return true;
	if (IsA(node, Query))
		return ((Query *) node)->hasRowSecurity ||
			query_tree_walker((Query *) node, was_rewritten, context,
							  QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, was_rewritten, context);
}

/*
 * The analysed query of a prepared statement, as core would use it now.
 *
 * Constants were made into values when it was prepared, under the settings of
 * that time.  As long as core goes by that, so do we, unless rewriting has changed
 * the query; otherwise it is analysed again from its parse tree, as core does it
 * when names may have come to mean something else.
 */
Query *
tcs_statement_query_of_plan(CachedPlanSource *plansource)
{
	if (plansource->is_valid && list_length(plansource->query_list) == 1 &&
		linitial_node(Query, plansource->query_list)->querySource == QSRC_ORIGINAL &&
		tcs_search_path_is_current_compat(plansource->search_path) &&
		!was_rewritten(linitial(plansource->query_list), NULL))
		return copyObject(linitial_node(Query, plansource->query_list));
	return tcs_statement_analyze_again(copyObject(plansource->raw_parse_tree),
									   plansource->query_string,
									   plansource->param_types, plansource->num_params);
}

/* The prepared statement that a portal about to be started is of, or NULL. */
static PreparedStatement *
prepared_of_portal(const QueryDesc *query_desc)
{
	PreparedStatement *prepared = ActivePortal->prepStmtName ?
		FetchPreparedStatement(ActivePortal->prepStmtName, false) : NULL;

	return prepared && prepared->plansource->raw_parse_tree &&
		strcmp(prepared->plansource->query_string, query_desc->sourceText) == 0 ?
		prepared : NULL;
}

/*
 * The query of a portal that is about to be started, analysed and not rewritten;
 * NULL if it cannot be told.
 */
Query *
tcs_statement_query(const QueryDesc *query_desc)
{
	PreparedStatement *prepared = prepared_of_portal(query_desc);
	const char *source = query_desc->sourceText;
	int			ntypes;
	Oid		   *types = tcs_statement_param_types(query_desc->params, &ntypes);
	RawStmt    *raw;

	if (prepared)
		return tcs_statement_query_of_plan(prepared->plansource);
	raw = tcs_statement_parse_quietly(query_desc->plannedstmt, &source);
	return raw ? tcs_statement_analyze_again(raw, source, types, ntypes) : NULL;
}

/* The query that COPY TO is given, analysed. */
Query *
tcs_statement_query_of_copy(const CopyStmt *copy, const char *source)
{
	RawStmt    *raw = makeNode(RawStmt);

	raw->stmt = copyObject(copy->query);
	raw->stmt_location = -1;
	return tcs_statement_analyze_again(raw, source, NULL, 0);
}

/*
 * The same of a utility statement that runs one query.  That of EXPLAIN and
 * DECLARE is the statement's own.
 */
Query *
tcs_statement_utility_query(Node *utility, const char *source)
{
	Query	   *query = NULL;

	if (IsA(utility, ExecuteStmt))
	{
		PreparedStatement *prepared = FetchPreparedStatement(((ExecuteStmt *) utility)->name, false);

		return prepared && prepared->plansource->raw_parse_tree ?
			tcs_statement_query_of_plan(prepared->plansource) : NULL;
	}
	if (IsA(utility, CopyStmt))
		return ((CopyStmt *) utility)->query ?
			tcs_statement_query_of_copy((CopyStmt *) utility, source) : NULL;
	if (IsA(utility, ExplainStmt))
		query = castNode(Query, ((ExplainStmt *) utility)->query);
	else if (IsA(utility, DeclareCursorStmt))
		query = castNode(Query, ((DeclareCursorStmt *) utility)->query);
	if (query == NULL || query->commandType != CMD_UTILITY)
		return query;
	if (IsA(query->utilityStmt, CreateTableAsStmt))
		query = castNode(Query, ((CreateTableAsStmt *) query->utilityStmt)->query);
	if (query->commandType == CMD_UTILITY)
		return tcs_statement_utility_query(query->utilityStmt, source);
	return query;
}

/* The EXECUTE that a utility statement is or explains, or NULL. */
ExecuteStmt *
tcs_utility_execute(Node *utility)
{
	if (IsA(utility, ExplainStmt))
	{
		Query	   *query = (Query *) ((ExplainStmt *) utility)->query;

		utility = IsA(query, Query) ? query->utilityStmt : NULL;
	}
	return utility && IsA(utility, ExecuteStmt) ? (ExecuteStmt *) utility : NULL;
}

/*
 * The text of the prepared statement that a utility statement runs, explains or
 * creates a table from.  Without a source if there is none.
 */
TcsText
tcs_statement_prepared_text(Node *utility)
{
	CachedPlanSource *plan = NULL;

	while (utility != NULL && (IsA(utility, ExplainStmt) || IsA(utility, CreateTableAsStmt)))
	{
		Node	   *inner = IsA(utility, ExplainStmt) ?
			((ExplainStmt *) utility)->query : ((CreateTableAsStmt *) utility)->query;

		utility = IsA(inner, Query) ? ((Query *) inner)->utilityStmt : NULL;
	}
	if (utility != NULL && IsA(utility, ExecuteStmt))
	{
		PreparedStatement *prepared = FetchPreparedStatement(((ExecuteStmt *) utility)->name, false);

		plan = prepared ? prepared->plansource : NULL;
	}
	if (plan == NULL || plan->raw_parse_tree == NULL)
		return (TcsText) {.source = NULL};
	return (TcsText) {plan->query_string, plan->raw_parse_tree->stmt_location,
		plan->raw_parse_tree->stmt_len};
}

/* Is a plan that starts that of an EXECUTE? */
bool
tcs_statement_is_of(ExecuteStmt *execute, const char *source)
{
	PreparedStatement *prepared = FetchPreparedStatement(execute->name, false);

	return prepared && source &&
		strcmp(prepared->plansource->query_string, source) == 0;
}

/*
 * Do the arguments of EXECUTE read anything?  They are evaluated here, before
 * the statement is sent.
 */
bool
tcs_statement_arguments_read(ExecuteStmt *execute, const char *source)
{
	ParseState *pstate = make_parsestate(NULL);
	ListCell   *lc;
	bool		result = false;

	pstate->p_sourcetext = source;
	foreach(lc, execute->params)
	{
		Node	   *expr = transformExpr(pstate, copyObject(lfirst(lc)),
										 EXPR_KIND_EXECUTE_PARAMETER);

		if (tcs_expression_reads(expr))
			result = true;
	}
	free_parsestate(pstate);
	return result;
}

/* Is it a utility statement whose query can be redirected? */
bool
tcs_utility_can_go(Node *utility)
{
	if (IsA(utility, ExplainStmt))
	{
		Query	   *query = (Query *) ((ExplainStmt *) utility)->query;

		return IsA(query, Query) &&
			(query->utilityStmt == NULL || IsA(query->utilityStmt, ExecuteStmt));
	}
	return IsA(utility, ExecuteStmt) || IsA(utility, DeclareCursorStmt) ||
		(IsA(utility, CopyStmt) && ((CopyStmt *) utility)->query != NULL &&
		 ((CopyStmt *) utility)->filename == NULL);
}
