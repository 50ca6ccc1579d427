/*-------------------------------------------------------------------------
 *
 * round_trip.c
 *	  Does a text mean what a query means?
 *
 * NOTES
 *	  A redirected statement is sent as text.  pg_get_querydef() writes texts for
 *	  people and for dumps of views: some lose something, and a few do not even
 *	  parse.  So we read the text again before it is sent, the way the primary
 *	  will, and compare what comes out with the query that the client has sent.
 *	  Where they differ, the text is not used.
 *
 *	  Two trees that differ may mean the same.  normal_form() takes out what has
 *	  no meaning, and nothing else: aliases, the names of columns unless a whole
 *	  row shows them, ways to write a join, nested ANDs, and two foldings that the
 *	  parser does with one spelling and not with the other.
 *
 *	  Where the text that was made will not do, the client's own text often will.
 *	  It is used only then: its constants depend on settings, so that it cannot be
 *	  kept, and it may stand in a PREPARE, DECLARE, EXPLAIN or COPY.  It is taken
 *	  apart into its tokens, from the first one that begins a query.  Comments are
 *	  left out, since they may be hints.  Whether the right piece was found needs no
 *	  further proof, as it has to pass the same check.
 *
 *	  The check runs in a subtransaction: an error is a verdict.  It looks at this
 *	  node's catalogs; whether the primary's are like these, redirect/names.c sees there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parse_node.h"
#include "parser/parse_param.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "parser/scanner.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/compat.h"
#include "base/settings.h"
#include "redirect/names.h"
#include "redirect/notices.h"
#include "redirect/round_trip.h"
#include "statement/quietly.h"

/* How many tokens of a source are tried as the begin of its query. */
#define TCS_MAX_BEGINS	8

/* ---- the normal form ---- */

/* Where names of columns are shown. */
typedef struct WholeRows
{
	List	   *queries;		/* the one at hand first, then those around it */
	List	   *entries;		/* range table entries whose names count */
} WholeRows;

static bool
find_whole_rows(Node *node, void *context)
{
	WholeRows  *rows = context;

	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varattno == InvalidAttrNumber && var->vartype == RECORDOID)
		{
			Query	   *query = list_nth(rows->queries, var->varlevelsup);

			rows->entries = list_append_unique_ptr(rows->entries,
												   rt_fetch(var->varno, query->rtable));
		}
		return false;
	}
	if (IsA(node, Query))
	{
		rows->queries = lcons(node, rows->queries);
		(void) query_tree_walker((Query *) node, find_whole_rows, context, 0);
		rows->queries = list_delete_first(rows->queries);
		return false;
	}
	return expression_tree_walker(node, find_whole_rows, context);
}

/* Take out names, in place; "context" are the entries whose names count. */
static bool
strip_names(Node *node, void *context)
{
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, strip_names, context);
	foreach(lc, ((Query *) node)->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		rte->alias = NULL;
		rte->join_using_alias = NULL;
		if (list_member_ptr((List *) context, rte))
			rte->eref = makeAlias("", rte->eref->colnames);
		else
			rte->eref = NULL;
	}
	return query_tree_walker((Query *) node, strip_names, context, 0);
}

/* ((a AND b) AND c) is (a AND b AND c). */
static void
flatten_bool(BoolExpr *expr)
{
	List	   *args = NIL;
	ListCell   *lc;

	if (expr->boolop == NOT_EXPR)
		return;
	foreach(lc, expr->args)
	{
		Node	   *arg = lfirst(lc);

		if (IsA(arg, BoolExpr) && ((BoolExpr *) arg)->boolop == expr->boolop)
			args = list_concat(args, ((BoolExpr *) arg)->args);
		else
			args = lappend(args, arg);
	}
	expr->args = args;
}

static bool
is_true(Node *node)
{
	return node != NULL && IsA(node, Const) && ((Const *) node)->consttype == BOOLOID &&
		!((Const *) node)->constisnull && DatumGetBool(((Const *) node)->constvalue);
}

/* Put a value in the place that the coercion of an element has for it. */
static Node *
put_element(Node *node, void *element)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, CaseTestExpr))
		return copyObject((Node *) element);
	return expression_tree_mutator(node, put_element, element);
}

/*
 * (ARRAY[a, b])::t[] is ARRAY[a::t, b::t].  The parser makes the one of IN, and the
 * other of what is written for it.
 */
static Node *
push_coercion(ArrayCoerceExpr *coerce, ArrayExpr *array)
{
	ArrayExpr  *result = makeNode(ArrayExpr);
	ListCell   *lc;

	*result = *array;
	result->array_typeid = coerce->resulttype;
	result->array_collid = coerce->resultcollid;
	result->element_typeid = get_element_type(coerce->resulttype);
	result->elements = NIL;
	foreach(lc, array->elements)
	{
		Node	   *element = lfirst(lc);

		if (array->multidims && !IsA(element, ArrayExpr))
			return (Node *) coerce;
		element = array->multidims ? push_coercion(coerce, (ArrayExpr *) element) :
			put_element((Node *) coerce->elemexpr, element);
		result->elements = lappend(result->elements, element);
	}
	return (Node *) result;
}

/* - 1 is -1. */
static Node *
fold_minus(OpExpr *expr)
{
	Const	   *arg = list_length(expr->args) == 1 ? linitial(expr->args) : NULL;
	Const	   *result;

	if (arg == NULL || !IsA(arg, Const) || arg->constisnull || arg->consttypmod != -1)
		return (Node *) expr;
	if (get_opcode(expr->opno) == F_INT4UM &&
		DatumGetInt32(arg->constvalue) != PG_INT32_MIN)
	{
		result = copyObject(arg);
		result->constvalue = Int32GetDatum(-DatumGetInt32(arg->constvalue));
		return (Node *) result;
	}
	if (get_opcode(expr->opno) == F_NUMERIC_UMINUS)
	{
		result = copyObject(arg);
		result->constvalue = DirectFunctionCall1(numeric_uminus, arg->constvalue);
		return (Node *) result;
	}
	return (Node *) expr;
}

static Node *
normal_mutator(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Query))
		return (Node *) query_tree_mutator((Query *) node, normal_mutator, context, 0);

	node = expression_tree_mutator(node, normal_mutator, context);
	switch (nodeTag(node))
	{
		case T_TargetEntry:
			((TargetEntry *) node)->resname = NULL;
			return node;
		case T_BoolExpr:
			flatten_bool((BoolExpr *) node);
			return node;
		case T_JoinExpr:
			((JoinExpr *) node)->isNatural = false;
			((JoinExpr *) node)->usingClause = NIL;
			((JoinExpr *) node)->join_using_alias = NULL;
			((JoinExpr *) node)->alias = NULL;
			if (is_true(((JoinExpr *) node)->quals))
				((JoinExpr *) node)->quals = NULL;
			return node;
		case T_ArrayCoerceExpr:
			if (IsA(((ArrayCoerceExpr *) node)->arg, ArrayExpr))
				return push_coercion((ArrayCoerceExpr *) node,
									 (ArrayExpr *) ((ArrayCoerceExpr *) node)->arg);
			return node;
		case T_OpExpr:
			return fold_minus((OpExpr *) node);
		default:
			return node;
	}
}

/* A copy of a query, in which what has no meaning always looks the same. */
static Query *
normal_form(const Query *query)
{
	Query	   *copy = copyObject((Query *) query);
	WholeRows	rows = {0};

	(void) find_whole_rows((Node *) copy, &rows);
	(void) strip_names((Node *) copy, rows.entries);
	return (Query *) normal_mutator((Node *) copy, NULL);
}


/* ---- reading a text ---- */

/* The types of the parameters that a query has. */
typedef struct TextParams
{
	Oid		   *types;
	int			n;
} TextParams;

static bool
find_params(Node *node, void *context)
{
	TextParams *params = context;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, find_params, context, 0);
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN)
	{
		Param	   *param = (Param *) node;

		if (param->paramid > params->n)
		{
			Oid		   *types = palloc0(param->paramid * sizeof(Oid));

			if (params->n > 0)
				memcpy(types, params->types, params->n * sizeof(Oid));
			params->types = types;
			params->n = param->paramid;
		}
		params->types[param->paramid - 1] = param->paramtype;
	}
	return expression_tree_walker(node, find_params, context);
}

/* Analyse a parsed text, without the hooks of other modules. */
static Query *
analyze_text(RawStmt *raw, const char *text, const Query *like)
{
	ParseState *pstate = make_parsestate(NULL);
	TextParams	params = {0};
	Query	   *query;

	(void) find_params((Node *) like, &params);
	pstate->p_sourcetext = text;
	setup_parse_fixed_parameters(pstate, params.types, params.n);
	query = transformTopLevelStmt(pstate, raw);
	free_parsestate(pstate);
	return query;
}

static bool
is_same(const Query *a, const Query *b)
{
	Query	   *one = copyObject((Query *) a);
	Query	   *other = copyObject((Query *) b);

	one->stmt_len = other->stmt_len = 0;
	return equal(one, other) || equal(normal_form(one), normal_form(other));
}

/* A text to be tried, and what came of it. */
typedef struct Trial
{
	const Query *query;
	const char *text;
	MemoryContext work;			/* where it is tried */
	bool		parses;
	bool		same;
	uint64		names;			/* if it is the same: see redirect/names.c */
} Trial;

static void
try_text(void *arg)
{
	Trial	   *trial = arg;
	List	   *parsetrees;
	MemoryContext old = MemoryContextSwitchTo(trial->work);

	pg_verify_mbstr(GetDatabaseEncoding(), trial->text, strlen(trial->text), false);
	parsetrees = raw_parser(trial->text, RAW_PARSE_DEFAULT);
	trial->parses = list_length(parsetrees) == 1 &&
		IsA(linitial_node(RawStmt, parsetrees)->stmt, SelectStmt);
	if (trial->parses)
	{
		Query	   *read = analyze_text(linitial(parsetrees), trial->text, trial->query);

		trial->names = tcs_names_digest(read);
		trial->same = is_same(trial->query, read);
	}
	MemoryContextSwitchTo(old);
}

/* Try a text; its log is for anyone who looks into why it will not do. */
static bool
try_safely(Trial *trial, List **told)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext work = AllocSetContextCreate(old, "tcs round trip", ALLOCSET_DEFAULT_SIZES);
	char	   *error;

	trial->work = work;
	error = tcs_quietly_do(try_text, trial, false, told);
	MemoryContextDelete(work);
	if (error != NULL)
		trial->same = false;
	if (!trial->same)
		ereport(DEBUG1,
				(errmsg_internal("a text does not mean what its query means%s%s",
								 error ? ": " : "", error ? error : ""),
				 errdetail_internal("%s", trial->text)));
	return trial->same;
}

/*
 * Does a text mean what an analysed query means?  *told gets the notices of its
 * analysis.
 */
bool
tcs_roundtrip_check(const Query *query, const char *text, uint64 *names,
					List **told)
{
	Trial		trial = {.query = query,.text = text};

	if (!try_safely(&trial, told))
		return false;
	*names = trial.names;
	return true;
}


/* ---- the client's own text ---- */

typedef struct TextToken
{
	const char *text;
	int			depth;			/* of parentheses, outside of it */
} TextToken;

/* A text, and what it is made of. */
typedef struct TextTokens
{
	const char *source;
	TextToken  *tokens;
	int			n;
} TextTokens;

/* Take a text apart. */
static void
tokenize_text(void *arg)
{
	TextTokens *result = arg;
	core_yy_extra_type extra;
	core_yyscan_t scanner = scanner_init(result->source, &extra, &ScanKeywords, ScanKeywordTokens);
	core_YYSTYPE value;
	YYLTYPE		location;
	int			allocated = 64;
	int			depth = 0;

	tcs_no_escape_warning_compat(&extra);
	result->tokens = palloc(allocated * sizeof(TextToken));
	result->n = 0;
	while (core_yylex(&value, &location, scanner) != 0)
	{
		TextToken  *token;

		if (result->n == allocated)
		{
			allocated *= 2;
			result->tokens = repalloc(result->tokens, allocated * sizeof(TextToken));
		}
		token = &result->tokens[result->n++];
		/* the scanner has put a zero behind the token at hand */
		token->text = pstrdup(extra.scanbuf + location);
		if (strcmp(token->text, ")") == 0)
			depth--;
		token->depth = depth;
		if (strcmp(token->text, "(") == 0)
			depth++;
	}
	scanner_finish(scanner);
	while (result->n > 0 && strcmp(result->tokens[result->n - 1].text, ";") == 0)
		result->n--;
}

/* Can a query begin with this token? */
static bool
begins_query(const TextToken *token)
{
	static const char *const begins[] = {"(", "SELECT", "WITH", "VALUES", "TABLE"};

	for (int i = 0; i < lengthof(begins); i++)
	{
		if (token->depth == 0 && pg_strcasecmp(token->text, begins[i]) == 0)
			return true;
	}
	return false;
}

/* Write tokens down again, as one line without comments. */
static char *
join_tokens(const TextToken *tokens, int from, int to)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = from; i < to; i++)
		appendStringInfo(&buf, "%s%s", i > from ? " " : "", tokens[i].text);
	return buf.data;
}

/* The end of what a parenthesis begins. */
static int
closing_parenthesis(const TextToken *tokens, int from, int ntokens)
{
	for (int i = from + 1; i < ntokens; i++)
	{
		if (tokens[i].depth == tokens[from].depth && strcmp(tokens[i].text, ")") == 0)
			return i + 1;
	}
	return ntokens;
}

/*
 * The query's own text out of that of the client's statement, if it means the same
 * on the primary; else NULL.  *told gets the notices of its analysis.
 */
char *
tcs_roundtrip_source(const Query *query, const char *source, uint64 *names,
					 List **told)
{
	TextTokens	all = {.source = source};
	int			tried = 0;

	if (tcs_quietly_do(tokenize_text, &all, false, told) != NULL)
		return NULL;
	for (int i = 0; i < all.n && tried < TCS_MAX_BEGINS; i++)
	{
		const int	ends[] = {all.n, closing_parenthesis(all.tokens, i, all.n)};
		const int	nends = strcmp(all.tokens[i].text, "(") == 0 ? 2 : 1;

		if (!begins_query(&all.tokens[i]))
			continue;
		tried++;
		for (int j = 0; j < nends; j++)
		{
			Trial		trial = {.query = query};

			trial.text = join_tokens(all.tokens, i, ends[j]);
			if (try_safely(&trial, told))
			{
				*names = trial.names;
				return (char *) trial.text;
			}
			if (trial.parses)
				return NULL;
		}
	}
	return NULL;
}
