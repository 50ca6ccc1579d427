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
 *	  The query is taken from where statement/statement_source.c finds it.  The
 *	  result for a prepared statement is kept, and used again as long as text, types,
 *	  search_path and user are the same and no catalog has changed.
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
#include "commands/prepare.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "storage/sinval.h"
#include "tcop/pquery.h"
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
#include "redirect/portable.h"
#include "redirect/round_trip.h"
#include "redirect/statement_text.h"
#include "statement/quietly.h"
#include "statement/statement_source.h"

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

/*
 * Give the columns names that nothing else has.  pg_get_querydef() writes ORDER
 * BY and DISTINCT ON without table names if there is one table only, and such a
 * name would be taken for that of an output column first.
 */
static void
rename_columns(Query *query)
{
	ListCell   *lc;

	/*
	 * VALUES has no such clauses, and is written as a list only with its
	 * names
	 */
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
	return text + strspn(text, " ");
}

/* Let the primary send those columns as text that cannot travel otherwise. */
static char *
wrap_columns(const char *sql, const TcsStatement *statement)
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
			appendStringInfo(&buf, "tcs_internal.redirect_text(ROW(c%d::%s))", i + 1,
							 format_type_be_qualified(type));
		else
			appendStringInfo(&buf, "tcs_internal.redirect_text(ROW(c%d))", i + 1);
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
		statement->sql = wrap_columns(statement->sql, statement);
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
keep_statement(const PreparedStatement *prepared, const TcsStatement *statement)
{
	const CachedPlanSource *source = prepared->plansource;
	KeptStatement *entry = find_kept(prepared->stmt_name);
	MemoryContext old = MemoryContextSwitchTo(kept_context);
	TcsStatement *copy = &entry->statement;

	*copy = *statement;
	copy->sql = pstrdup(statement->sql);
	copy->mark = pstrdup(statement->mark);
	copy->told = tcs_said_copy(statement->told);
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
	prepare_query(tcs_statement_query_of_plan(plansource),
				  tcs_statement_own_text(plansource->query_string,
										 plansource->raw_parse_tree->stmt_location,
										 plansource->raw_parse_tree->stmt_len),
				  statement);
	/* what was told meanwhile may have come too late for a name looked up */
	if (statement->why_not == NULL && known == SharedInvalidMessageCounter &&
		!statement->is_source)
		return keep_statement(prepared, statement);
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
	raw = tcs_statement_parse_quietly(query_desc->plannedstmt, &source);
	if (raw)
		prepare_query(tcs_statement_analyze_again(raw, source, types, ntypes), source, statement);
	else
		statement->why_not = "its text is not one statement";
	return statement;
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

/* The query of a utility statement that is about to run. */
TcsStatement *
tcs_statement_of_utility(const PlannedStmt *plan, const char *source, ParamListInfo params)
{
	TcsStatement *statement = palloc0(sizeof(TcsStatement));
	Node	   *utility = plan->utilityStmt;
	const char *own = tcs_statement_own_text(source, plan->stmt_location, plan->stmt_len);
	ExecuteStmt *execute = tcs_utility_execute(utility);

	if (!tcs_utility_can_go(utility))
		statement->why_not = "a statement of this kind runs on this node";
	else if (execute)
		return of_execute(execute, source);
	else if (IsA(utility, CopyStmt))
		prepare_query(tcs_statement_query_of_copy((CopyStmt *) utility, source), own, statement);
	else
	{
		Node	   *query = IsA(utility, ExplainStmt) ?
			((ExplainStmt *) utility)->query : ((DeclareCursorStmt *) utility)->query;

		prepare_query(copyObject(castNode(Query, query)), own, statement);
	}
	return statement;
}
