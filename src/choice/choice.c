/*-------------------------------------------------------------------------
 *
 * choice.c
 *	  Which level a statement gets, and why.
 *
 * NOTES
 *	  What the client said in this session (hint, SET LOCAL, SET) comes before
 *	  rules by data, these before standing defaults (start-up options, ALTER
 *	  ROLE and DATABASE, the configuration), these before the built-in default.
 *	  Who said tcs.read_level is told by the source of the setting.  Where a
 *	  statement also reads what no rule speaks of, rules and standing default
 *	  both count, the stronger one.  A floor is under all of it.
 *
 *	  The same order holds for bound, wait and fallback, each by itself; those of
 *	  a rule count only if the level is the rule's.
 *
 *	  Hint and rules of a statement are looked for when it is planned, and kept in
 *	  its plan, where they survive the plan cache (see base/compat.h): as words of
 *	  32 bits.
 *
 *		what there is, and the levels of the hint; or, if there is no hint and it
 *		fits, the number of the set of rules in the place of the level
 *		else that number
 *		bound, wait, fallback, token of the hint, each if it has one
 *
 *	  A plan without them is one that tcs.read_level alone decides about, and
 *	  costs nothing here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/heap.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "commands/prepare.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "tcop/tcopprot.h"
#include "utils/plancache.h"

#include "base/compat.h"
#include "base/xact.h"
#include "choice/choice.h"
#include "choice/hint_origin.h"

/* Kind of the words in a plan; before 19 the id of a cache, see TCS_WORD_OF_EXEMPT. */
#define TCS_WORD_OF_CHOICE		(-7464)

/* Of the first word: TCS_HINT_* in the low bits, then these, then the levels. */
#define TCS_MARK_HAS_SET		0x100
#define TCS_MARK_WRITES			0x200
#define TCS_MARK_IS_SET			0x400	/* the set in place of the level */
#define TCS_MARK_LEVEL_SHIFT	16
#define TCS_MARK_LEVEL_MASK		0xff
#define TCS_MARK_WRITE_LEVEL_SHIFT	24

/* ---- with the rules of a set ---- */

/* With the number of a set of rules, or 0. */
static void
choose_by_set(const TcsHint *hint, int set, TcsChoice *choice)
{
	static struct
	{
		const TcsRuleVerdict *rules;
		uint64		made_for;
		uint64		generation;
		uint64		serial;
		TcsChoice	choice;
	}			last;			/* the one before, by settings and rules alone */
	const TcsRuleVerdict *rules = NULL;
	bool		wrote_to_group = false;

	if (set != 0)
		rules = tcs_rules_verdict(set, &wrote_to_group);
	if (hint == NULL && rules != NULL)
	{
		if (last.rules != rules || last.made_for != rules->made_for ||
			last.generation != tcs_choice_generation)
		{
			last.rules = NULL;	/* if this fails, there is none before */
			tcs_choice_make(NULL, rules, &last.choice);
			last.choice.serial = ++last.serial;
			last.rules = rules;
			last.made_for = rules->made_for;
			last.generation = tcs_choice_generation;
		}
		*choice = last.choice;
	}
	else
		tcs_choice_make(hint, rules, choice);

	if (wrote_to_group)
		tcs_choice_raise_for_group(choice);
}

/* The set of what goes by the session alone, or 0. */
static int
session_set(void)
{
	TcsRuleItems none = {.unruled = true};

	return tcs_rules_by_session_exist() ? tcs_rules_intern(&none) : 0;
}

/* For what has no statement to look at: BEGIN, SET. */
void
tcs_choice_by_settings(TcsChoice *choice)
{
	choose_by_set(NULL, session_set(), choice);
}

/* ---- the mark of a plan ---- */

static void
add_word(PlannedStmt *plan, uint32 word)
{
	tcs_plan_add_word_compat(plan, TCS_WORD_OF_CHOICE, word);
}

static void
add_words(PlannedStmt *plan, const void *data, Size size)
{
	const uint32 *words = data;

	for (Size i = 0; i < size / sizeof(uint32); i++)
		add_word(plan, words[i]);
}

StaticAssertDecl(sizeof(TcsFallback) % sizeof(uint32) == 0 &&
				 sizeof(TcsToken) % sizeof(uint32) == 0,
				 "they are kept word by word");

/* Keep a hint and the number of a set of rules in a plan. */
static void
add_mark(PlannedStmt *plan, const TcsHint *hint, int set, bool writes)
{
	uint32		first = 0;

	if (hint != NULL)
		first = hint->set | ((uint32) hint->level << TCS_MARK_LEVEL_SHIFT) |
			((uint32) hint->write_level << TCS_MARK_WRITE_LEVEL_SHIFT);
	if (writes)
		first |= TCS_MARK_WRITES;
	if (hint == NULL && set < 1 << (32 - TCS_MARK_LEVEL_SHIFT))
	{
		add_word(plan, first | TCS_MARK_IS_SET | ((uint32) set << TCS_MARK_LEVEL_SHIFT));
		return;
	}
	if (set != 0)
		first |= TCS_MARK_HAS_SET;
	add_word(plan, first);
	if (set != 0)
		add_word(plan, (uint32) set);
	if (hint == NULL)
		return;
	if (hint->set & TCS_HINT_MAX_STALENESS)
		add_word(plan, (uint32) hint->max_staleness);
	if (hint->set & TCS_HINT_MAX_WAIT)
		add_word(plan, (uint32) hint->max_wait);
	if (hint->set & TCS_HINT_FALLBACK)
		add_words(plan, &hint->fallback, sizeof(TcsFallback));
	if (hint->set & TCS_HINT_TOKEN)
		add_words(plan, &hint->token, sizeof(TcsToken));
}

/* Where the words of a plan are read. */
typedef struct Words
{
	const PlannedStmt *plan;
	int			next;
} Words;

static bool
next_word(Words *words, uint32 *word)
{
	return tcs_plan_next_word_compat(words->plan, TCS_WORD_OF_CHOICE, &words->next, word);
}

static void
next_words(Words *words, void *data, Size size)
{
	for (Size i = 0; i < size / sizeof(uint32); i++)
		(void) next_word(words, (uint32 *) data + i);
}

/*
 * Has a plan a mark?  If its EXECUTE has come here, that has seen the hint, and only
 * the rest of the mark counts: the rules, and a level that parallel workers would
 * have to know.
 */
bool
tcs_choice_is_marked(const PlannedStmt *plan, bool hint_was_seen)
{
	Words		words = {plan, 0};
	uint32		first;

	if (!next_word(&words, &first))
		return false;
	return !hint_was_seen || (first & (TCS_MARK_IS_SET | TCS_MARK_HAS_SET)) ||
		((first & TCS_HINT_LEVEL) &&
		 ((first >> TCS_MARK_LEVEL_SHIFT) & TCS_MARK_LEVEL_MASK) == TCS_LEVEL_LINEARIZABLE);
}

/* Read the mark of a plan.  False if it has none. */
static bool
read_mark(const PlannedStmt *plan, uint32 *first, int *set, TcsHint *hint)
{
	Words		words = {plan, 0};
	uint32		word;

	*set = 0;
	hint->set = 0;
	if (!next_word(&words, first))
		return false;
	if (likely(*first & TCS_MARK_IS_SET))
	{
		*set = (int) (*first >> TCS_MARK_LEVEL_SHIFT);
		return true;
	}
	if ((*first & TCS_MARK_HAS_SET) && next_word(&words, &word))
		*set = (int) word;
	hint->set = *first & 0xff;
	if (hint->set == 0)
		return true;
	hint->level = (TcsLevel) ((*first >> TCS_MARK_LEVEL_SHIFT) & TCS_MARK_LEVEL_MASK);
	hint->write_level = (TcsWriteLevel) (*first >> TCS_MARK_WRITE_LEVEL_SHIFT);
	if ((hint->set & TCS_HINT_MAX_STALENESS) && next_word(&words, &word))
		hint->max_staleness = (int) word;
	if ((hint->set & TCS_HINT_MAX_WAIT) && next_word(&words, &word))
		hint->max_wait = (int) word;
	if (hint->set & TCS_HINT_FALLBACK)
		next_words(&words, &hint->fallback, sizeof(TcsFallback));
	if (hint->set & TCS_HINT_TOKEN)
		next_words(&words, &hint->token, sizeof(TcsToken));
	if (tcs_hints == TCS_HINTS_OFF)
		hint->set = 0;
	return true;
}

/*
 * Choose for a statement that is planned.  "hint" takes the statement's hint, which
 * the choice points to.
 */
void
tcs_choice_of_plan(const PlannedStmt *plan, TcsHint *hint, TcsChoice *choice)
{
	uint32		first;
	int			set;

	hint->set = 0;
	if (!tcs_plan_may_have_words_compat(plan) || !read_mark(plan, &first, &set, hint))
		set = session_set();
	choose_by_set(hint->set != 0 ? hint : NULL, set, choice);
}

/* The same without the hint. */
void
tcs_choice_of_plan_by_rules(const PlannedStmt *plan, TcsChoice *choice)
{
	TcsHint		hint;
	uint32		first;
	int			set;

	if (!tcs_plan_may_have_words_compat(plan) || !read_mark(plan, &first, &set, &hint))
		set = session_set();
	choose_by_set(NULL, set, choice);
}

/* Keep the choice of a statement for those that run within it. */
void
tcs_choice_keep(const TcsChoice *choice, TcsKeptChoice *kept)
{
	if (choice->serial != 0 && kept->choice.serial == choice->serial)
		return;
	kept->choice = *choice;
	kept->fallback = *choice->fallback;
	kept->choice.fallback = &kept->fallback;
	if (choice->token != NULL)
	{
		kept->token = *choice->token;
		kept->choice.token = &kept->token;
	}
}

/* The choice is for something within a statement: join it to that one's. */
void
tcs_choice_join(const TcsKeptChoice *outer, TcsChoice *choice)
{
	TcsChoice	inner = *choice;

	*choice = outer->choice;
	tcs_choice_add_inner(choice, &inner);
}

/* A statement is about to write; rules may ask for more of its commit. */
void
tcs_choice_note_write(const PlannedStmt *plan)
{
	uint32		first;
	int			set;
	TcsHint		hint;

	if (tcs_plan_may_have_words_compat(plan) && read_mark(plan, &first, &set, &hint) &&
		(first & TCS_MARK_WRITES))
		tcs_rules_note_write(set);
}

/* ---- looking for them ---- */

/*
 * Find the hint of a statement.  Where there was none, or a malformed one, it is
 * not looked for again while the same message is worked on, so that the warning
 * comes once.
 */
static bool
find_hint(const char *source, int location, int len, TcsHint *hint)
{
	static TimestampTz last_message = 0;
	static int	last_location = 0;
	static const char *last_source = NULL;

	hint->set = 0;
	if (tcs_hints == TCS_HINTS_OFF || !tcs_hint_is_possible(source, location, len))
		return false;
	/* a rule has made the statement: the hint is before the one that it was */
	if (unlikely(location < 0) && !tcs_hint_find_origin(source, &location, &len))
	{
		tcs_hint_refuse_all(source,
							"A rule has made the statement, and the text has several statements that the hint could be for.",
							"Write PREPARE as the only statement of its message, or use SET.");
		return false;
	}
	if (last_message == GetCurrentStatementStartTimestamp() &&
		last_location == location && last_source == source &&
		source == debug_query_string)
		return false;
	if (tcs_hint_find(source, location, len, hint))
		return true;
	last_message = GetCurrentStatementStartTimestamp();
	last_location = location;
	last_source = source;
	return false;
}

/*
 * A plan has been made: keep in it what its statement asks for.  The text has no
 * source where there can be no hint: below another statement, unless that is the
 * EXECUTE of this one.  "functions" are those with rules from before planning, which can
 * make them vanish.  "unplanned" is the query that is to be planned later, or NULL.
 */
void
tcs_choice_mark(PlannedStmt *plan, const TcsText *text, List *functions, Query *unplanned)
{
	TcsHint		hint;
	bool		has_hint = find_hint(text->source, text->location, text->len, &hint);
	TcsRuleItems items = {0};
	int			set = 0;

	if (tcs_rules_exist())
	{
		tcs_rules_collect_made(plan, unplanned, &items);
		items.functions = list_concat_unique_oid(items.functions, functions);
		tcs_rules_collect_writes(plan, &items);
		set = tcs_rules_intern(&items);
	}
	if (has_hint || set != 0)
		add_mark(plan, has_hint ? &hint : NULL, set, items.writes != NIL);
}

/* The functions with rules of a statement that is about to be planned. */
List *
tcs_choice_functions(Query *query)
{
	TcsRuleItems items = {0};

	if (tcs_rules_exist())
		tcs_rules_collect_functions((Node *) query, &items);
	return items.functions;
}

/* Choose for an analysed statement that is not planned yet. */
void
tcs_choice_of_query(Query *query, const char *source, TcsHint *hint, TcsChoice *choice)
{
	bool		has_hint = find_hint(source, query->stmt_location, query->stmt_len, hint);
	TcsRuleItems items = {0};
	int			set = 0;

	if (tcs_rules_exist())
	{
		tcs_rules_collect_query(query, &items);
		set = tcs_rules_intern(&items);
	}
	choose_by_set(has_hint ? hint : NULL, set, choice);
}

/*
 * The same where that is a matter of a few instructions: no hint, one table, no
 * function that has a rule.  Returns whether it was.
 */
bool
tcs_choice_of_simple_query(const Query *query, const char *source, TcsChoice *choice)
{
	TcsRuleItems items = {0};

	if (tcs_hint_is_possible(source, query->stmt_location, query->stmt_len) || !tcs_rules_exist() ||
		!tcs_rules_collect_simple(query, &items))
		return false;
	choose_by_set(NULL, tcs_rules_intern(&items), choice);
	return true;
}

/* Choose for a function that is called without a statement, or by CALL. */
void
tcs_choice_of_function(Oid function, TcsChoice *choice)
{
	TcsRuleItems items = {0};
	int			set = 0;

	if (tcs_rules_exist())
	{
		tcs_rules_collect_function(function, &items);
		set = tcs_rules_intern(&items);
	}
	choose_by_set(NULL, set, choice);
}

/* The statement within a utility statement, or NULL. */
static Node *
inner_statement(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DeclareCursorStmt:
			return ((DeclareCursorStmt *) statement)->query;
		case T_ExplainStmt:
			return ((ExplainStmt *) statement)->query;
		case T_CreateTableAsStmt:
			return ((CreateTableAsStmt *) statement)->query;
		default:
			return NULL;
	}
}

/* Is what a prepared statement was analysed to all that is to be known of it? */
static bool
prepared_is_known(const CachedPlanSource *source)
{
	ListCell   *lc;

	if (!source->is_valid)
		return false;
	foreach(lc, source->query_list)
	{
		if (tcs_rules_may_be_inlined(lfirst_node(Query, lc)))
			return false;
	}
	return true;
}

/*
 * What the statement of EXECUTE has: the hint of its PREPARE, its relations and
 * functions.  If it has to be analysed or planned for that, it has locks then, and
 * true is returned.
 */
static bool
look_into_prepared(const ExecuteStmt *execute, bool *has_hint, TcsHint *hint,
				   TcsRuleItems *items, TcsText *prepared_text)
{
	PreparedStatement *prepared = FetchPreparedStatement(execute->name, false);
	CachedPlanSource *source;
	bool		locks;
	ListCell   *lc;

	if (prepared == NULL)
		return false;
	source = prepared->plansource;
	if (!*has_hint && source->raw_parse_tree != NULL)
		*has_hint = find_hint(source->query_string, source->raw_parse_tree->stmt_location,
							  source->raw_parse_tree->stmt_len, hint);
	if (*has_hint && prepared_text != NULL && source->raw_parse_tree != NULL)
		*prepared_text = (TcsText)
		{
			source->query_string, source->raw_parse_tree->stmt_location,
				source->raw_parse_tree->stmt_len
		};
	if (!tcs_rules_exist())
		return false;

	/* this is for its side effect: it is what EXECUTE would begin with */
	locks = !prepared_is_known(source);
	if (locks)
		(void) CachedPlanGetTargetList(source, NULL);
	foreach(lc, source->query_list)
	{
		Query	   *query = lfirst_node(Query, lc);

		if (query->commandType != CMD_UTILITY)
			tcs_rules_collect_query(query, items);
	}
	return locks;
}

/* The same of any utility statement. */
static bool
look_into_utility(Node *statement, bool *has_hint, TcsHint *hint, TcsRuleItems *items,
				  TcsText *prepared_text)
{
	Node	   *inner = inner_statement(statement);

	if (IsA(statement, ExecuteStmt))
		return look_into_prepared((ExecuteStmt *) statement, has_hint, hint, items,
								  prepared_text);
	if (inner != NULL && IsA(inner, Query) && ((Query *) inner)->utilityStmt != NULL)
		return look_into_utility(((Query *) inner)->utilityStmt, has_hint, hint, items,
								 prepared_text);
	if (!tcs_rules_exist())
		return false;
	if (inner != NULL && IsA(inner, Query))
	{
		ListCell   *lc;

		/* what policies of row-level security read comes in by rewriting */
		foreach(lc, pg_rewrite_query(copyObject((Query *) inner)))
			tcs_rules_collect_query(lfirst_node(Query, lc), items);
	}
	else if (IsA(statement, CopyStmt))
		tcs_rules_collect_copy((CopyStmt *) statement, items);
	else if (IsA(statement, CallStmt) && ((CallStmt *) statement)->funcexpr != NULL)
		tcs_rules_collect_functions((Node *) ((CallStmt *) statement)->funcexpr, items);
	return false;
}

/*
 * Choose for a utility statement that reads.  Returns whether locks were taken on
 * what it reads.  If a prepared statement runs with a hint, be it that of its EXECUTE,
 * its text is returned in "prepared_text", which can be NULL.
 */
bool
tcs_choice_of_utility(const PlannedStmt *pstmt, const char *source, TcsHint *hint,
					  TcsChoice *choice, TcsText *prepared_text)
{
	bool		has_hint = find_hint(source, pstmt->stmt_location, pstmt->stmt_len, hint);
	TcsRuleItems items = {0};
	int			set = 0;
	bool		locks = look_into_utility(pstmt->utilityStmt, &has_hint, hint, &items,
										  prepared_text);

	if (tcs_rules_exist())
		set = tcs_rules_intern(&items);
	choose_by_set(has_hint ? hint : NULL, set, choice);
	return locks;
}

/*
 * A statement that reads nothing that could be stale needs only the write level of
 * its hint, which is returned.  What is wrong with the hint is told all the same.
 */
TcsWriteLevel
tcs_choice_write_level_of_hint(const TcsText *text)
{
	TcsHint		hint;

	if (!find_hint(text->source, text->location, text->len, &hint) ||
		(hint.set & TCS_HINT_WRITE_LEVEL) == 0)
		return TCS_WRITE_DEFAULT;
	return hint.write_level;
}

/*
 * The same of a utility statement that does not come to the gate.  A hint before
 * it does nothing, which is no loss but for those that begin what is read later,
 * and for what a hint has besides the level.
 */
void
tcs_choice_check_utility_hint(const PlannedStmt *pstmt, const char *source)
{
	const Node *statement = pstmt->utilityStmt;
	bool		begins = IsA(statement, FetchStmt);
	TcsHint		hint;

	if (tcs_hints == TCS_HINTS_OFF)
		return;
	if (IsA(statement, TransactionStmt))
	{
		TransactionStmtKind kind = ((const TransactionStmt *) statement)->kind;

		/* a way out must stay open */
		if (kind == TRANS_STMT_ROLLBACK || kind == TRANS_STMT_ROLLBACK_TO)
			return;
		begins = kind == TRANS_STMT_BEGIN || kind == TRANS_STMT_START;
	}
	if ((IsA(statement, TransactionStmt) || IsA(statement, VariableSetStmt) ||
		 IsA(statement, VariableShowStmt)) &&
		!tcs_hint_may_lead(source, pstmt->stmt_location) &&
		!tcs_hint_is_astray(source, pstmt->stmt_location, pstmt->stmt_len))
		return;
	if (!find_hint(source, pstmt->stmt_location, pstmt->stmt_len, &hint) ||
		IsA(statement, PrepareStmt) || IsA(statement, ExplainStmt))
		return;
	if (begins)
		tcs_hint_refuse(source, pstmt->stmt_location, pstmt->stmt_len,
						"A hint is for one statement, and this one takes no snapshot of its own.",
						IsA(statement, FetchStmt) ?
						"Write the hint before DECLARE or its query." :
						"Use SET tcs.read_level before the transaction, or SET LOCAL in it.");
	else if ((hint.set & TCS_HINT_WRITE_LEVEL) && !IsA(statement, CopyStmt) &&
			 !IsA(statement, TruncateStmt) && !IsA(statement, RefreshMatViewStmt))
		tcs_hint_refuse(source, pstmt->stmt_location, pstmt->stmt_len,
						"A statement of this kind does not take \"write_level\" from a hint.",
						"Use SET tcs.write_level, or SET LOCAL in a transaction.");
}

/*
 * The tables that a TRUNCATE empties.  With CASCADE these are also all that refer to
 * one of them, or to a table below it.
 */
List *
tcs_choice_truncated_tables(const TruncateStmt *truncate)
{
	List	   *tables = NIL;
	List	   *more = NIL;
	ListCell   *lc;

	foreach(lc, truncate->relations)
	{
		const RangeVar *relation = lfirst_node(RangeVar, lc);
		Oid			relid = RangeVarGetRelid(relation, NoLock, true);

		if (!OidIsValid(relid))
			continue;
		tables = list_append_unique_oid(tables, relid);
		if (truncate->behavior == DROP_CASCADE)
			more = list_concat(more, relation->inh ? find_all_inheritors(relid, NoLock, NULL) :
							   list_make1_oid(relid));
	}
	while (more != NIL)
	{
		tables = list_concat_unique_oid(tables, more);
		more = heap_truncate_find_FKs(tables);
	}
	return tables;
}

/*
 * Add what COPY FROM, TRUNCATE or REFRESH writes, of which there is no plan.
 * Returns whether it is one of them.
 */
bool
tcs_choice_collect_utility_writes(Node *statement, TcsRuleItems *items)
{
	const RangeVar *relation = NULL;
	ListCell   *lc;

	if (IsA(statement, CopyStmt) && ((CopyStmt *) statement)->is_from &&
		((CopyStmt *) statement)->relation != NULL)
		relation = ((CopyStmt *) statement)->relation;
	else if (IsA(statement, RefreshMatViewStmt))
		relation = ((RefreshMatViewStmt *) statement)->relation;
	else if (!IsA(statement, TruncateStmt))
		return false;
	if (!tcs_rules_exist())
		return true;
	if (relation == NULL)
	{
		foreach(lc, tcs_choice_truncated_tables((TruncateStmt *) statement))
			tcs_rules_collect_write(lfirst_oid(lc), items);
	}
	else
	{
		Oid			relid = RangeVarGetRelid(relation, NoLock, true);

		if (OidIsValid(relid))
			tcs_rules_collect_write(relid, items);
	}
	return true;
}

/* Such a statement is about to run; "source" is NULL below another one. */
void
tcs_choice_note_utility_write(const PlannedStmt *pstmt, const char *source)
{
	TcsHint		hint;
	TcsRuleItems items = {0};

	if (!tcs_choice_collect_utility_writes(pstmt->utilityStmt, &items))
		return;
	if (find_hint(source, pstmt->stmt_location, pstmt->stmt_len, &hint) &&
		(hint.set & TCS_HINT_WRITE_LEVEL))
		tcs_write_by_hint(hint.write_level, tcs_xact_statement_is_sole());
	if (items.writes != NIL)
		tcs_rules_note_write(tcs_rules_intern(&items));
}
