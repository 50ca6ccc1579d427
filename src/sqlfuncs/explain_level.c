/*-------------------------------------------------------------------------
 *
 * explain_level.c
 *	  explain_level(): which level a statement would get, and why.
 *
 * NOTES
 *	  The statement is analysed as it would be, and not run.  What chooses is
 *	  what chooses for statements that run: choice/choice.c.  Who may not run it
 *	  is told nothing, see sqlfuncs/explain_privileges.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "base/interval.h"
#include "base/own_objects.h"
#include "base/xact.h"
#include "choice/choice.h"
#include "choice/standing_default.h"
#include "gate/gate.h"
#include "sqlfuncs/explain_privileges.h"
#include "sqlfuncs/rows.h"
#include "statement/exempt.h"
#include "statement/utility_kind.h"
#include "write/write_level.h"

PG_FUNCTION_INFO_V1(tcs_explain_level);

/*
 * The reason that a rule was given, for those who may read the rules.  Others see
 * its number.
 */
static const char *
rule_reason(int rule)
{
	Oid			view = rule != 0 ? tcs_own_relation("rules") : InvalidOid;

	if (!OidIsValid(view) ||
		pg_class_aclcheck(view, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		return NULL;
	return tcs_rules_reason(rule);
}

/* Who has decided, in a sentence. */
static char *
describe_reason(const TcsChoice *choice)
{
	const char *reason = rule_reason(choice->rule);

	switch (choice->by)
	{
		case TCS_BY_RULE:
		case TCS_BY_FLOOR:
			if (choice->rule == 0)
				return pstrdup("the transaction has written to another relation of the group");
			return psprintf("%s %d%s%s",
							choice->by == TCS_BY_RULE ? "the strongest rule for what it reads is rule" :
							"nothing may be read at less than the floor of rule",
							choice->rule, reason ? ": " : "", reason ? reason : "");
		case TCS_BY_HINT:
			return pstrdup("the statement says so itself");
		case TCS_BY_RELAX:
			return psprintf("it asks for \"%s\", which this node serves for a time only where it need not wait, see tcs.relaxed",
							tcs_level_name(choice->asked));
		case TCS_BY_EXEMPT:
			return pstrdup("it reads nothing but system catalogs, which no standing default binds");
		case TCS_BY_SETTING:
			break;
	}
	if (choice->level_source >= PGC_S_INTERACTIVE)
		return pstrdup("the session has set tcs.read_level");
	return psprintf("no rule says otherwise; tcs.read_level is from: %s",
					tcs_level_source_name(choice->by, choice->level_source, 0));
}

/* The one statement of a text, analysed and rewritten; its parameters may be any. */
static Query *
analyse_one(const char *text)
{
	List	   *raw = pg_parse_query(text);
	List	   *queries;
	ListCell   *lc;
	Oid		   *types = NULL;
	int			ntypes = 0;

	if (list_length(raw) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("explain_level() takes one statement, not %d", list_length(raw))));
	queries = pg_analyze_and_rewrite_varparams(linitial_node(RawStmt, raw), text,
											   &types, &ntypes, NULL);
	if (queries == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the statement is rewritten to nothing")));
	foreach(lc, queries)
		tcs_explain_require_privileges(lfirst_node(Query, lc), text);
	return linitial_node(Query, queries);
}

/* Add what a query writes, also within WITH.  Returns whether it writes. */
static bool
collect_query_writes(const Query *query, TcsRuleItems *items)
{
	bool		writes = query->resultRelation > 0;
	ListCell   *lc;

	if (writes)
		tcs_rules_collect_write(rt_fetch(query->resultRelation, query->rtable)->relid, items);
	foreach(lc, query->cteList)
	{
		Node	   *inner = lfirst_node(CommonTableExpr, lc)->ctequery;

		if (IsA(inner, Query))
			writes |= collect_query_writes((Query *) inner, items);
	}
	return writes;
}

/* The same of any statement. */
static bool
collect_writes(const Query *query, TcsRuleItems *items)
{
	Node	   *statement = query->utilityStmt;

	if (query->commandType != CMD_UTILITY)
		return collect_query_writes(query, items);
	if (IsA(statement, ExplainStmt) && IsA(((ExplainStmt *) statement)->query, Query))
		return collect_writes((Query *) ((ExplainStmt *) statement)->query, items);
	return tcs_choice_collect_utility_writes(statement, items);
}

/*
 * Level of the commit of a statement that writes; else NULL.  What its triggers and
 * functions write is not known.
 */
static const char *
write_level_of(const Query *query, TcsWriteLevel hinted, int *rule)
{
	TcsRuleItems items = {0};
	TcsWriteLevel level = tcs_write_level_in_force();

	*rule = 0;
	if (!collect_writes(query, &items))
		return NULL;
	if (hinted != TCS_WRITE_DEFAULT)
		level = tcs_xact_statement_is_sole() ? hinted : Max(level, hinted);
	if (items.writes != NIL)
		tcs_rules_write_verdict(tcs_rules_intern(&items), &level, rule);
	return tcs_write_level_name(level);
}

/* explain_level(statement): one row. */
Datum
tcs_explain_level(PG_FUNCTION_ARGS)
{
	char	   *statement = text_to_cstring(PG_GETARG_TEXT_PP(0));
	TcsHint		hint;
	TcsChoice	made;
	TcsChoice  *choice = &made;
	Query	   *query = analyse_one(statement);
	bool		is_utility = query->commandType == CMD_UTILITY;
	bool		exempt;
	const char *write_level;
	int			write_rule = 0;
	Datum		values[10];
	bool		nulls[10] = {false};

	tcs_require_preloaded();
	if (is_utility)
	{
		PlannedStmt *plan = makeNode(PlannedStmt);

		plan->commandType = CMD_UTILITY;
		plan->utilityStmt = query->utilityStmt;
		plan->stmt_location = query->stmt_location;
		plan->stmt_len = query->stmt_len;
		(void) tcs_choice_of_utility(plan, statement, &hint, choice, NULL);
	}
	else
		tcs_choice_of_query(query, statement, &hint, choice);
	/* of EXPLAIN, the statement within is what is asked for */
	exempt = !is_utility ? tcs_exempt_query(query) :
		!IsA(query->utilityStmt, ExplainStmt) && !tcs_utility_reads(query->utilityStmt);
	if (!is_utility && !exempt)
		(void) tcs_standing_excuses_query(query, choice);
	/* on a primary hardly anything is waited for */
	if (RecoveryInProgress() || choice->level == TCS_LEVEL_LINEARIZABLE)
		(void) tcs_choice_relax(choice, tcs_level_rank(choice->level));
	write_level = write_level_of(query, choice->write_level, &write_rule);

	values[0] = CStringGetTextDatum(tcs_level_name(exempt ? TCS_LEVEL_EVENTUAL : choice->level));
	values[1] = CStringGetTextDatum(exempt ? "exempt" :
									tcs_level_source_name(choice->by, choice->level_source, choice->rule));
	values[2] = Int32GetDatum(choice->rule);
	nulls[2] = exempt || choice->rule == 0;
	values[3] = exempt ? CStringGetTextDatum("it reads nothing that could be stale") :
		CStringGetTextDatum(describe_reason(choice));
	values[4] = CStringGetTextDatum(tcs_level_name(choice->floor));
	nulls[4] = exempt || !choice->has_floor;
	values[5] = IntervalPGetDatum(tcs_interval_of_us((int64) choice->max_staleness * 1000));
	nulls[5] = exempt || choice->level != TCS_LEVEL_BOUNDED;
	values[6] = IntervalPGetDatum(tcs_interval_of_us((int64) choice->max_wait * 1000));
	nulls[6] = exempt || choice->max_wait < 0;
	values[7] = CStringGetTextDatum(tcs_fallback_text(choice->fallback));
	nulls[7] = exempt;
	values[8] = write_level ? CStringGetTextDatum(write_level) : (Datum) 0;
	nulls[8] = write_level == NULL;
	values[9] = Int32GetDatum(write_rule);
	nulls[9] = write_rule == 0;
	return tcs_one_row(fcinfo, lengthof(values), values, nulls);
}
