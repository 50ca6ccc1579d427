/*-------------------------------------------------------------------------
 *
 * choice.c
 *	  Drives choice/combine by rows; see choice.table.
 *
 * NOTES
 *	  The variables and functions up here stand for what the stage reads of the
 *	  process: settings, who said them, and the emergency valve.  They are all it
 *	  reads, or this module would not link.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "base/relax.h"
#include "choice/choice.h"
#include "facts.h"

PG_FUNCTION_INFO_V1(tcs_table_choice);
PG_FUNCTION_INFO_V1(tcs_table_group);
PG_FUNCTION_INFO_V1(tcs_table_nested);
PG_FUNCTION_INFO_V1(tcs_table_levels);

int			tcs_read_level;
int			tcs_max_staleness;
int			tcs_max_lag;
int			tcs_max_wait;
int			tcs_max_wait_limit;

static struct
{
	TcsFallback fallback;
	GucSource	level_source;
	GucSource	max_staleness_source;
	GucSource	max_wait_source;
	GucSource	fallback_source;
	bool		valve_open;
	TcsLevel	valve;
}			row;

const TcsFallback *
tcs_guc_fallback(void)
{
	return &row.fallback;
}

GucSource
tcs_guc_level_source(void)
{
	return row.level_source;
}

GucSource
tcs_guc_max_staleness_source(void)
{
	return row.max_staleness_source;
}

GucSource
tcs_guc_max_wait_source(void)
{
	return row.max_wait_source;
}

GucSource
tcs_guc_fallback_source(void)
{
	return row.fallback_source;
}

bool
tcs_relax_in_force(TcsLevel *level)
{
	*level = row.valve;
	return row.valve_open;
}

/* Who said a setting, as a table says it. */
static GucSource
fact_source(Facts *facts, const char *name)
{
	static const char *const words[] = {
		"builtin", "file", "database", "role", "role_in_db", "option", "SET", NULL
	};
	static const GucSource sources[] = {
		PGC_S_DEFAULT, PGC_S_FILE, PGC_S_DATABASE, PGC_S_USER, PGC_S_DATABASE_USER,
		PGC_S_CLIENT, PGC_S_SESSION
	};

	return sources[fact_one_of(facts, name, words, 0)];
}

static void
take_settings(Facts *facts)
{
	tcs_read_level = (int) fact_level(facts, "setting", TCS_LEVEL_SESSION);
	row.level_source = fact_source(facts, "by");
	tcs_max_staleness = (int) fact_number(facts, "staleness", 1000);
	row.max_staleness_source = fact_source(facts, "staleness_by");
	tcs_max_lag = -1;
	tcs_max_wait = (int) fact_number(facts, "wait", 500);
	row.max_wait_source = fact_source(facts, "wait_by");
	tcs_max_wait_limit = (int) fact_number(facts, "wait_limit", -1);
	fact_fallback(facts, "fallback", &row.fallback);
	row.fallback_source = fact_source(facts, "fallback_by");
	row.valve_open = fact_text(facts, "valve", NULL) != NULL;
	row.valve = fact_level(facts, "valve", TCS_LEVEL_EVENTUAL);
}

/* Returns whether there is a hint. */
static bool
take_hint(Facts *facts, TcsHint *hint)
{
	memset(hint, 0, sizeof(*hint));
	if (fact_text(facts, "hint", NULL) != NULL)
		hint->set |= TCS_HINT_LEVEL;
	hint->level = fact_level(facts, "hint", TCS_LEVEL_EVENTUAL);
	if (fact_text(facts, "hint_staleness", NULL) != NULL)
		hint->set |= TCS_HINT_MAX_STALENESS;
	hint->max_staleness = (int) fact_number(facts, "hint_staleness", 0);
	if (fact_text(facts, "hint_wait", NULL) != NULL)
		hint->set |= TCS_HINT_MAX_WAIT;
	hint->max_wait = (int) fact_number(facts, "hint_wait", 0);
	if (fact_text(facts, "hint_fallback", NULL) != NULL)
		hint->set |= TCS_HINT_FALLBACK;
	fact_fallback(facts, "hint_fallback", &hint->fallback);
	if (fact_flag(facts, "hint_token"))
		hint->set |= TCS_HINT_TOKEN;
	if (fact_flag(facts, "hint_write"))
		hint->set |= TCS_HINT_WRITE_LEVEL;
	hint->write_level = TCS_WRITE_QUORUM;
	return hint->set != 0;
}

/* Returns whether there are rules. */
static bool
take_rules(Facts *facts, TcsRuleVerdict *rules)
{
	memset(rules, 0, sizeof(*rules));
	rules->has_level = fact_text(facts, "rule", NULL) != NULL;
	rules->level = fact_level(facts, "rule", TCS_LEVEL_EVENTUAL);
	rules->rule = 1;
	rules->unruled = fact_flag(facts, "unruled");
	rules->by_membership = fact_flag(facts, "by_membership");
	rules->max_staleness = (int) fact_number(facts, "rule_staleness", -1);
	rules->max_wait = (int) fact_number(facts, "rule_wait", TCS_RULE_NO_WAIT);
	rules->has_fallback = fact_text(facts, "rule_fallback", NULL) != NULL;
	fact_fallback(facts, "rule_fallback", &rules->fallback);
	rules->has_floor = fact_text(facts, "floor", NULL) != NULL;
	rules->floor = fact_level(facts, "floor", TCS_LEVEL_EVENTUAL);
	rules->floor_rule = 2;
	rules->floor_staleness = (int) fact_number(facts, "floor_staleness", -1);
	rules->has_hard = fact_text(facts, "hard", NULL) != NULL;
	rules->hard = fact_level(facts, "hard", TCS_LEVEL_EVENTUAL);
	return rules->has_level || rules->has_floor;
}

/* Who chose the level, in the order of TcsChoiceBy. */
static const char *const choosers[] = {
	[TCS_BY_SETTING] = "setting",
	[TCS_BY_RULE] = "rule",
	[TCS_BY_FLOOR] = "floor",
	[TCS_BY_HINT] = "hint",
	[TCS_BY_RELAX] = "valve",
	[TCS_BY_EXEMPT] = "exempt",
	NULL
};

/* The number of a rule goes with its level, and with no other. */
static const char *
say_by(const TcsChoice *choice)
{
	if (choice->rule != (choice->by == TCS_BY_RULE ? 1 : choice->by == TCS_BY_FLOOR ? 2 : 0))
		elog(ERROR, "the rule is the wrong one");
	return choosers[choice->by];
}

/* What must hold of each choice, whichever it is. */
static void
check_choice(const TcsChoice *choice, const TcsHint *hint, const TcsRuleVerdict *rules)
{
	bool		hinted = hint != NULL && (hint->set & TCS_HINT_LEVEL);

	if (choice->hinted != hinted ||
		choice->has_floor != (rules != NULL && rules->has_floor) ||
		(choice->has_floor && choice->floor != rules->floor) ||
		(choice->has_hard != (choice->has_floor && rules->has_hard)) ||
		(choice->has_hard && choice->hard != rules->hard) ||
		(choice->by != TCS_BY_RELAX && choice->plain != (hint == NULL && rules == NULL)) ||
		(choice->by == TCS_BY_RELAX && choice->plain) ||
		choice->serial != 0 ||
		(choice->has_floor && choice->by != TCS_BY_RELAX &&
		 tcs_level_join(choice->level, choice->floor) != choice->level) ||
		choice->level_source != row.level_source ||
		choice->token != (hint != NULL && (hint->set & TCS_HINT_TOKEN) ? &hint->token : NULL) ||
		choice->write_level != (hint != NULL && (hint->set & TCS_HINT_WRITE_LEVEL) ?
								hint->write_level : TCS_WRITE_DEFAULT))
		elog(ERROR, "the choice contradicts its own row");
}

/* The valve keeps what was asked for, also where it has to lower it again. */
static void
check_valve(TcsChoice *choice, int rank)
{
	TcsChoice	before;

	/* as if the same had been chosen before */
	choice->serial = 5;
	before = *choice;
	if (rank < 0)
		rank = tcs_level_rank(choice->level);
	if (!tcs_choice_relax(choice, rank))
	{
		if (memcmp(choice, &before, sizeof(before)) != 0)
			elog(ERROR, "the valve has not lowered the choice, but changed it");
		choice->serial = 0;
		return;
	}
	if (choice->serial != 0 || choice->by != TCS_BY_RELAX || choice->asked != before.level ||
		choice->asked_by != before.by || choice->asked_rule != before.rule)
		elog(ERROR, "the valve does not keep what was asked for");
	before = *choice;
	if (tcs_choice_relax(choice, tcs_level_rank(choice->level)))
		elog(ERROR, "the valve lowers what it has lowered");
	if (rank > tcs_level_rank(choice->level) &&
		(!tcs_choice_relax(choice, rank) || memcmp(choice, &before, sizeof(before)) != 0))
		elog(ERROR, "the valve forgets what was asked for");
}

/* Which level a statement gets, from whom, with which bound, wait and fallback. */
Datum
tcs_table_choice(PG_FUNCTION_ARGS)
{
	Facts	   *facts = facts_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	TcsHint		hint;
	TcsRuleVerdict rules;
	TcsChoice	choice;
	bool		has_hint;
	bool		has_rules;
	int			rank;

	take_settings(facts);
	has_hint = take_hint(facts, &hint);
	has_rules = take_rules(facts, &rules);
	rank = (int) fact_number(facts, "rank", -1);
	facts_check_all_used(facts);

	memset(&choice, 0x7f, sizeof(choice));
	tcs_choice_make(has_hint ? &hint : NULL, has_rules ? &rules : NULL, &choice);
	check_choice(&choice, has_hint ? &hint : NULL, has_rules ? &rules : NULL);
	check_valve(&choice, rank);
	check_choice(&choice, has_hint ? &hint : NULL, has_rules ? &rules : NULL);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s | %s | %d | %d | %s",
											  tcs_level_name(choice.level),
											  say_by(&choice),
											  choice.max_staleness, choice.max_wait,
											  tcs_fallback_text(choice.fallback))));
}

/* A choice from facts that begin with a prefix. */
static TcsChoice
make_choice(Facts *facts, const char *prefix, int rule)
{
	TcsChoice	choice = {0};

#define NAMED(name) psprintf("%s%s", prefix, name)
	choice.level = fact_level(facts, NAMED("level"), TCS_LEVEL_SESSION);
	choice.by = (TcsChoiceBy) fact_one_of(facts, NAMED("by"), choosers, TCS_BY_SETTING);
	choice.hinted = choice.by == TCS_BY_HINT || fact_flag(facts, NAMED("hinted"));
	choice.rule = rule;
	choice.plain = true;
	choice.serial = 5;
	choice.max_staleness = (int) fact_number(facts, NAMED("staleness"), 1000);
	choice.max_wait = 100 * rule;
	choice.has_floor = fact_text(facts, NAMED("floor"), NULL) != NULL;
	choice.floor = fact_level(facts, NAMED("floor"), TCS_LEVEL_EVENTUAL);
	choice.has_hard = fact_text(facts, NAMED("hard"), NULL) != NULL;
	choice.hard = fact_level(facts, NAMED("hard"), TCS_LEVEL_EVENTUAL);
#undef NAMED
	return choice;
}

/* What a statement inside a function is read at. */
Datum
tcs_table_nested(PG_FUNCTION_ARGS)
{
	Facts	   *facts = facts_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	TcsChoice	choice = make_choice(facts, "", 1);
	TcsChoice	inner = make_choice(facts, "in_", 2);

	facts_check_all_used(facts);
	tcs_choice_add_inner(&choice, &inner);
	if (choice.plain || choice.serial != 0 || choice.max_wait != 100)
		elog(ERROR, "what is kept of the outer choice is wrong");
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s | %s %s | %d | %s | %s",
											  tcs_level_name(choice.level),
											  choice.rule == 1 ? "outer" : "inner",
											  choosers[choice.by], choice.max_staleness,
											  choice.has_floor ? tcs_level_name(choice.floor) : "-",
											  choice.has_hard ? tcs_level_name(choice.hard) : "-")));
}

/* What a read is raised to after a write to one of a group of tables. */
Datum
tcs_table_group(PG_FUNCTION_ARGS)
{
	Facts	   *facts = facts_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	TcsChoice	choice = make_choice(facts, "", 1);

	facts_check_all_used(facts);
	tcs_choice_raise_for_group(&choice);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s | %s | %d | %s",
											  tcs_level_name(choice.level), choosers[choice.by],
											  choice.rule, choice.serial == 0 ? "yes" : "no")));
}

/* Strength of two levels, and the weakest that promises both. */
Datum
tcs_table_levels(PG_FUNCTION_ARGS)
{
	Facts	   *facts = facts_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	TcsLevel	a = fact_level(facts, "a", TCS_LEVEL_EVENTUAL);
	TcsLevel	b = fact_level(facts, "b", TCS_LEVEL_EVENTUAL);

	facts_check_all_used(facts);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%d | %s | %s", tcs_level_rank(a),
											  tcs_level_is_by_token(a) ? "yes" : "no",
											  tcs_level_name(tcs_level_join(a, b)))));
}
