/*-------------------------------------------------------------------------
 *
 * statement_text.c
 *	  A statement as it can be run on another node.
 *
 * NOTES
 *	  What is sent is the text that pg_get_querydef() makes of the analysed
 *	  query, before rewriting.  It is written for the session's search_path, which
 *	  is in force on the primary as well: names that would mean something else
 *	  under it are qualified.  The client's own text is no SELECT at all for EXECUTE
 *	  or DECLARE; after rewriting, views are expanded, and the rights of their owners
 *	  are lost.
 *
 *	  Nothing is kept while statements are analysed, so that one which is not
 *	  redirected pays nothing.  When it comes to it, a prepared statement has its
 *	  analysed query still, a DECLARE or EXPLAIN its own, and others are analysed
 *	  again from their text.  The result for a prepared statement is kept, and used
 *	  again as long as text, types, search_path and user are the same and no
 *	  catalog has changed.
 *
 *	  Constants are written as postgres_fdw and pg_dump write them, so that they
 *	  are read the same under any settings.
 *
 *	  A text is only sent if it means what the query means (redirect/round_trip.c).  If it
 *	  does not, the client's own text may.  That one depends on the settings of the
 *	  session, and is not kept.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/prepare.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parse_expr.h"
#include "parser/parser.h"
#include "storage/sinval.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"

#include "base/compat.h"
#include "base/settings.h"
#include "redirect/names.h"
#include "redirect/notices.h"
#include "redirect/round_trip.h"
#include "statement/exempt.h"
#include "statement/portable.h"
#include "statement/statement_text.h"

/* How many prepared statements are kept at most. */
#define TCS_KEPT_MAX	1000

/* A prepared statement, as it was made ready to be sent. */
typedef struct KeptStatement
{
	char		name[NAMEDATALEN];	/* key */
	TimestampTz prepared_at;	/* of this name, there may be another by now */
	char	   *source;
	char	   *search_path;
	Oid			user;
	int			ntypes;
	Oid		   *types;
	TcsStatement statement;
} KeptStatement;

static HTAB *kept = NULL;
static MemoryContext kept_context = NULL;
static uint64 kept_at = 0;		/* SharedInvalidMessageCounter */
static uint32 last_number = 0;

/* The text of one statement out of that of its message. */
static const char *
own_text(const char *source, int location, int len)
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
	*source = own_text(*source, plan->stmt_location, plan->stmt_len);
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
 * Give the columns names that nothing else has.  pg_get_querydef() writes ORDER
 * BY and DISTINCT ON without table names if there is one table only, and such a
 * name would be taken for that of an output column first.
 */
static void
rename_columns(Query *query)
{
	ListCell   *lc;

	/* VALUES has no such clauses, and is written as a list only with its names */
	if (list_length(query->rtable) == 1 &&
		linitial_node(RangeTblEntry, query->rtable)->rtekind == RTE_VALUES)
		return;
	foreach(lc, query->targetList)
	{
		TargetEntry *target = lfirst_node(TargetEntry, lc);

		if (!target->resjunk)
			target->resname = psprintf("?tcs%d?", target->resno);
	}
}

/* Write a query down so that it means the same wherever it is read. */
static char *
write_query(Query *query)
{
	static const char *const settings[][2] = {
		{"datestyle", "ISO"},
		{"intervalstyle", "postgres"},
		{"extra_float_digits", "3"},
		{"standard_conforming_strings", "on"},
	};
	int			level = NewGUCNestLevel();
	char	   *text;

	for (int i = 0; i < lengthof(settings); i++)
		tcs_guc_set_for_now(settings[i][0], settings[i][1]);
	text = pg_get_querydef(query, false);

	AtEOXact_GUC(true, level);
	return text +strspn(text, " ");
}

/* Let the primary send those columns as text that cannot travel otherwise. */
static char *
wrap(const char *sql, const TcsStatement *statement)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < statement->ncolumns; i++)
	{
		const TcsColumn *column = &statement->columns[i];
		Oid			type = tcs_portable_text_type(column->type);

		appendStringInfoString(&buf, i == 0 ? "SELECT " : ", ");
		if (!column->as_text)
			appendStringInfo(&buf, "c%d", i + 1);
		else if (type == TEXTOID)
			appendStringInfo(&buf, "c%d::pg_catalog.text", i + 1);
		else if (type != column->type)
			appendStringInfo(&buf, "tcs.redirect_text(ROW(c%d::%s))", i + 1,
							 format_type_be_qualified(type));
		else
			appendStringInfo(&buf, "tcs.redirect_text(ROW(c%d))", i + 1);
	}
	appendStringInfo(&buf, " FROM (%s) t", sql);
	for (int i = 0; i < statement->ncolumns; i++)
		appendStringInfo(&buf, "%sc%d", i == 0 ? "(" : ", ", i + 1);
	appendStringInfoChar(&buf, ')');
	return buf.data;
}

/* Look at the columns; returns why they cannot come back, or NULL. */
static const char *
describe_columns(Query *query, TcsStatement *statement, bool *any_text)
{
	ListCell   *lc;

	*any_text = false;
	statement->columns = palloc0(Max(list_length(query->targetList), 1) * sizeof(TcsColumn));
	foreach(lc, query->targetList)
	{
		TargetEntry *target = lfirst_node(TargetEntry, lc);
		TcsColumn  *column = &statement->columns[statement->ncolumns];
		int32		typmod = exprTypmod((Node *) target->expr);
		Oid			type = exprType((Node *) target->expr);
		TcsTransfer transfer;

		if (target->resjunk)
			continue;
		transfer = tcs_portable_type(type);
		if (transfer == TCS_TRANSFER_IMPOSSIBLE)
			return psprintf("column \"%s\" has the type %s, whose values cannot be brought back",
							target->resname ? target->resname : "?",
							format_type_be(type));
		column->type = getBaseTypeAndTypmod(type, &typmod);
		column->typmod = typmod;
		column->as_text = transfer == TCS_TRANSFER_TEXT;
		*any_text |= column->as_text;
		statement->ncolumns++;
	}
	return NULL;
}

/*
 * Find a text that means what the query means: one that is made for it, or else
 * the client's own.  The query is used up.
 */
static void
find_text(Query *query, const char *source, TcsStatement *statement, bool wrapped)
{
	Query	   *original;
	uint64		names = 0;

	rename_columns(query);
	/* writing it down may change it */
	original = copyObject(query);
	statement->sql = write_query(query);
	if (!tcs_roundtrip_check(original, statement->sql, &names, &statement->told))
	{
		statement->sql = tcs_roundtrip_source(original, source, &names, &statement->told);
		statement->is_source = true;
	}
	if (statement->sql == NULL)
		statement->why_not = "no text of it is sure to mean the same on the primary";
	statement->mark = tcs_names_mark(names, wrapped);
}

/*
 * Make an analysed query ready to be sent; "source" is the text of its statement.
 * The query is used up.
 */
static void
prepare_query(Query *query, const char *source, TcsStatement *statement)
{
	bool		any_text;

	memset(statement, 0, sizeof(*statement));
	if (query->commandType != CMD_SELECT || query->utilityStmt != NULL)
	{
		statement->why_not = "it is no query";
		return;
	}
	statement->why_not = describe_columns(query, statement, &any_text);
	if (statement->why_not == NULL)
		statement->why_not = tcs_portable_query(copyObject(query),
												&statement->runs_user_code,
												&statement->leaves_cursors);
	if (statement->why_not == NULL)
		find_text(query, source, statement, any_text);
	if (statement->why_not == NULL && any_text)
		statement->sql = wrap(statement->sql, statement);
}

/*
 * Analyse a parsed statement again.  Notices were given the first time.
 */
static Query *
analyze_again(RawStmt *raw, const char *source, Oid *types, int ntypes)
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
static RawStmt *
parse_again(const PlannedStmt *plan, const char **source)
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
static Query *
of_plan_source(CachedPlanSource *plansource)
{
	if (plansource->is_valid && list_length(plansource->query_list) == 1 &&
		linitial_node(Query, plansource->query_list)->querySource == QSRC_ORIGINAL &&
		tcs_search_path_is_current_compat(plansource->search_path) &&
		!was_rewritten(linitial(plansource->query_list), NULL))
		return copyObject(linitial_node(Query, plansource->query_list));
	return analyze_again(copyObject(plansource->raw_parse_tree),
						 plansource->query_string,
						 plansource->param_types, plansource->num_params);
}

/* Is what was kept still what the statement means? */
static bool
is_current(const KeptStatement *entry, const PreparedStatement *prepared)
{
	const CachedPlanSource *source = prepared->plansource;

	return entry->statement.number != 0 &&
		entry->prepared_at == prepared->prepare_time &&
		entry->user == GetUserId() &&
		entry->ntypes == source->num_params &&
		memcmp(entry->types, source->param_types, entry->ntypes * sizeof(Oid)) == 0 &&
		strcmp(entry->source, source->query_string) == 0 &&
		strcmp(entry->search_path, namespace_search_path) == 0;
}

static void
forget_kept(void)
{
	if (kept_context)
		MemoryContextDelete(kept_context);
	kept_context = NULL;
	kept = NULL;
}

/* The entry of a prepared statement; made if there is none. */
static KeptStatement *
find_kept(const char *name)
{
	KeptStatement *entry;
	bool		found;

	if (kept && (kept_at != SharedInvalidMessageCounter ||
				 hash_get_num_entries(kept) >= TCS_KEPT_MAX))
		forget_kept();
	if (kept == NULL)
	{
		HASHCTL		ctl = {0};

		kept_context = AllocSetContextCreate(TopMemoryContext, "tcs statements",
											 ALLOCSET_DEFAULT_SIZES);
		ctl.keysize = NAMEDATALEN;
		ctl.entrysize = sizeof(KeptStatement);
		ctl.hcxt = kept_context;
		kept = hash_create("tcs statements", 32, &ctl,
						   HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
		kept_at = SharedInvalidMessageCounter;
	}
	entry = hash_search(kept, name, HASH_ENTER, &found);
	if (!found)
		memset(&entry->statement, 0, sizeof(TcsStatement));
	return entry;
}

/* Keep what was found out about a prepared statement. */
static TcsStatement *
keep(const PreparedStatement *prepared, const TcsStatement *statement)
{
	const CachedPlanSource *source = prepared->plansource;
	KeptStatement *entry = find_kept(prepared->stmt_name);
	MemoryContext old = MemoryContextSwitchTo(kept_context);
	TcsStatement *copy = &entry->statement;

	*copy = *statement;
	copy->sql = pstrdup(statement->sql);
	copy->mark = pstrdup(statement->mark);
	copy->told = tcs_told_copy(statement->told);
	copy->columns = palloc(Max(statement->ncolumns, 1) * sizeof(TcsColumn));
	memcpy(copy->columns, statement->columns, statement->ncolumns * sizeof(TcsColumn));
	entry->prepared_at = prepared->prepare_time;
	entry->source = pstrdup(source->query_string);
	entry->search_path = pstrdup(namespace_search_path);
	entry->user = GetUserId();
	entry->ntypes = source->num_params;
	entry->types = palloc(Max(entry->ntypes, 1) * sizeof(Oid));
	memcpy(entry->types, source->param_types, entry->ntypes * sizeof(Oid));
	/* a new number, so that nobody takes an old text for it */
	copy->number = ++last_number;
	MemoryContextSwitchTo(old);
	return copy;
}

/* A prepared statement; what it was found to be is kept. */
static TcsStatement *
of_prepared(const char *name)
{
	PreparedStatement *prepared = FetchPreparedStatement(name, true);
	CachedPlanSource *plansource = prepared->plansource;
	KeptStatement *entry = find_kept(name);
	uint64		known = SharedInvalidMessageCounter;
	TcsStatement *statement;

	if (is_current(entry, prepared))
		return &entry->statement;

	statement = palloc0(sizeof(TcsStatement));
	if (plansource->raw_parse_tree == NULL)
	{
		statement->why_not = "it is empty";
		return statement;
	}
	prepare_query(of_plan_source(plansource),
				  own_text(plansource->query_string,
						   plansource->raw_parse_tree->stmt_location,
						   plansource->raw_parse_tree->stmt_len),
				  statement);
	/* what was told meanwhile may have come too late for a name looked up */
	if (statement->why_not == NULL && known == SharedInvalidMessageCounter &&
		!statement->is_source)
		return keep(prepared, statement);
	return statement;
}

/* The statement of a portal that is about to be started. */
TcsStatement *
tcs_statement_of_query(const QueryDesc *query_desc)
{
	const char *source = query_desc->sourceText;
	TcsStatement *statement;
	RawStmt    *raw;
	int			ntypes;
	Oid		   *types;

	if (ActivePortal->prepStmtName &&
		FetchPreparedStatement(ActivePortal->prepStmtName, false))
		return of_prepared(ActivePortal->prepStmtName);

	statement = palloc0(sizeof(TcsStatement));
	types = tcs_statement_param_types(query_desc->params, &ntypes);
	raw = parse_again(query_desc->plannedstmt, &source);
	if (raw)
		prepare_query(analyze_again(raw, source, types, ntypes), source, statement);
	else
		statement->why_not = "its text is not one statement";
	return statement;
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
		return of_plan_source(prepared->plansource);
	raw = parse_again(query_desc->plannedstmt, &source);
	return raw ? analyze_again(raw, source, types, ntypes) : NULL;
}

/* The query that COPY TO is given, analysed. */
static Query *
query_of_copy(const CopyStmt *copy, const char *source)
{
	RawStmt    *raw = makeNode(RawStmt);

	raw->stmt = copyObject(copy->query);
	raw->stmt_location = -1;
	return analyze_again(raw, source, NULL, 0);
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
			of_plan_source(prepared->plansource) : NULL;
	}
	if (IsA(utility, CopyStmt))
		return ((CopyStmt *) utility)->query ?
			query_of_copy((CopyStmt *) utility, source) : NULL;
	if (IsA(utility, ExplainStmt))
		query = castNode(Query, ((ExplainStmt *) utility)->query);
	else if (IsA(utility, DeclareCursorStmt))
		query = castNode(Query, ((DeclareCursorStmt *) utility)->query);
	if (query != NULL && query->commandType == CMD_UTILITY)
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

static TcsStatement *
of_execute(ExecuteStmt *execute, const char *source)
{
	TcsStatement *statement = of_prepared(execute->name);

	if (!tcs_statement_arguments_read(execute, source))
		return statement;
	statement = palloc0(sizeof(TcsStatement));
	statement->why_not = "the arguments of EXECUTE read data of this node";
	return statement;
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

/* The query of a utility statement that is about to run. */
TcsStatement *
tcs_statement_of_utility(const PlannedStmt *plan, const char *source, ParamListInfo params)
{
	TcsStatement *statement = palloc0(sizeof(TcsStatement));
	Node	   *utility = plan->utilityStmt;
	const char *own = own_text(source, plan->stmt_location, plan->stmt_len);
	ExecuteStmt *execute = tcs_utility_execute(utility);

	if (!tcs_utility_can_go(utility))
		statement->why_not = "a statement of this kind runs on this node";
	else if (execute)
		return of_execute(execute, source);
	else if (IsA(utility, CopyStmt))
		prepare_query(query_of_copy((CopyStmt *) utility, source), own, statement);
	else
	{
		Node	   *query = IsA(utility, ExplainStmt) ?
		((ExplainStmt *) utility)->query : ((DeclareCursorStmt *) utility)->query;

		prepare_query(copyObject(castNode(Query, query)), own, statement);
	}
	return statement;
}
