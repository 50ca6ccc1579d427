/*-------------------------------------------------------------------------
 *
 * standing_default.c
 *	  What a standing default does not ask for.
 *
 * NOTES
 *	  HA agents and monitoring ask a node about itself through its catalogs.  They
 *	  know nothing of tcs, and must have an answer when the primary is gone: it is
 *	  then that a node is to be promoted.  So a level that nobody has asked for in
 *	  this session does not bind statements that read nothing but system catalogs.
 *
 *	  A default stands if it comes from the configuration, the database, the role or
 *	  the start-up options, or from a rule that names no relation.  SET, set_config(),
 *	  the SET clause of a function and a hint are what the client says itself, and
 *	  count for catalogs as well.  So does a token, wherever the level comes from,
 *	  unless the token itself is a default of the configuration, database or role:
 *	  one's own DDL is seen.
 *
 *	  All this is looked at when the gate is about to wait, refuse or redirect, and
 *	  never for a statement whose requirement is met.  So the settings and their
 *	  sources are read here, and not with the read's context (gate/context.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"

#include "base/compat.h"
#include "base/xact.h"
#include "choice/choice.h"
#include "choice/standing_default.h"
#include "statement/exempt.h"
#include "statement/statement_queries.h"
#include "statement/statement_source.h"
#include "token/token_setting.h"

/* What the queries of a statement come to. */
typedef struct Found
{
	TcsReads	reads;
	bool		has_rule;		/* a rule names one of its views or functions */
} Found;

/* Does the level at hand come from nothing that the client has said? */
static bool
is_standing(const TcsChoice *choice)
{
	switch (choice->by)
	{
		case TCS_BY_HINT:
		case TCS_BY_RELAX:
		case TCS_BY_EXEMPT:
			return false;
		case TCS_BY_RULE:
		case TCS_BY_FLOOR:
			/* of the session's; rules of relations are looked for later */
			return !choice->hinted;
		case TCS_BY_SETTING:
			break;
	}
	if (tcs_source_is_said(choice->level_source))
		return false;
	if (choice->level == TCS_LEVEL_BOUNDED &&
		tcs_source_is_said(tcs_guc_max_staleness_source()))
		return false;
	return tcs_without_token == TCS_WITHOUT_TOKEN_ACCEPT ||
		!tcs_source_is_said(tcs_guc_without_token_source());
}

/* The level that is left when standing defaults are left out of account. */
static TcsLevel
said_level(const TcsChoice *choice)
{
	if (tcs_source_is_said(choice->level_source))
		return (TcsLevel) tcs_read_level;
	if (choice->token != NULL ||
		(tcs_guc_token() != NULL && !tcs_guc_token_is_standing()))
		return TCS_LEVEL_SESSION;
	return TCS_LEVEL_EVENTUAL;
}

/* Choose what is left. */
static void
excuse_choice(TcsChoice *choice, TcsLevel level)
{
	choice->level = level;
	choice->by = TCS_BY_EXEMPT;
	choice->rule = 0;
	choice->plain = false;
	choice->serial = 0;
	choice->has_floor = false;
	choice->floor_staleness = -1;
	choice->has_hard = false;
}

/* Does a rule name one of the views or functions of a query? */
static bool
has_rule(Query *query)
{
	TcsRuleItems items = {0};

	if (!tcs_rules_exist())
		return false;
	tcs_rules_collect_query(query, &items);
	return items.reads != NIL || items.functions != NIL || OidIsValid(items.sole);
}

static void
judge_query(Query *query, void *arg)
{
	Found	   *found = arg;

	found->reads = Max(found->reads, tcs_exempt_query_reads(query));
	if (found->reads < TCS_READS_DATA)
		found->has_rule |= has_rule(query);
}

/* Is it worth a look?  Most plans are told by their tables. */
static bool
plan_reads_catalogs(const PlannedStmt *plan)
{
	ListCell   *lc;

	if (plan->commandType != CMD_SELECT || plan->hasModifyingCTE || plan->rowMarks != NIL)
		return false;
	foreach(lc, plan->rtable)
	{
		const RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_RELATION && rte->relkind != RELKIND_VIEW &&
			rte->relid >= FirstNormalObjectId)
			return false;
	}
	return true;
}

/* COPY of a table that is a catalog. */
static bool
copies_catalog(const CopyStmt *copy)
{
	Oid			relid = RangeVarGetRelid(copy->relation, NoLock, true);

	return OidIsValid(relid) && relid < FirstNormalObjectId &&
		tcs_exempt_table_reads(relid) == TCS_READS_CATALOGS;
}

/* What does a statement that has come to the gate read? */
static TcsReads
site_reads(const TcsSite *site)
{
	Found		found = {TCS_READS_NOTHING};

	if (site->kind == TCS_SITE_CALL)
		return tcs_exempt_function_reads(site->function);
	if (site->kind == TCS_SITE_UTILITY)
	{
		ExecuteStmt *execute = tcs_utility_execute(site->utility);

		if (IsA(site->utility, CopyStmt) && ((CopyStmt *) site->utility)->relation != NULL)
			return copies_catalog((CopyStmt *) site->utility) ? TCS_READS_CATALOGS : TCS_READS_DATA;
		if (!tcs_utility_can_go(site->utility))
			return TCS_READS_DATA;
		if (execute && execute->params != NIL &&
			tcs_statement_arguments_read(execute, site->source))
			return TCS_READS_DATA;
	}
	if (!tcs_look_at_queries(site, judge_query, &found) || found.has_rule)
		return TCS_READS_DATA;
	return found.reads;
}

/*
 * Would the statement take part in the one snapshot of its transaction, without
 * BEGIN?  Then what comes after it could not wait any more.
 */
static bool
fixes_snapshot(const TcsChoice *choice)
{
	return (IsolationUsesXactSnapshot() || choice->level == TCS_LEVEL_SNAPSHOT) &&
		!tcs_xact_statement_is_sole() && !IsTransactionBlock();
}

/*
 * The gate is about to wait, refuse or redirect: is the statement one that the
 * level at hand does not bind?  Then a weaker one has been chosen.
 */
bool
tcs_standing_excuses(TcsSite *site, TcsChoice *choice)
{
	bool		standing = is_standing(choice);
	TcsReads	reads;

	if (choice->by == TCS_BY_EXEMPT || site->explain_only || fixes_snapshot(choice))
		return false;
	switch (site->kind)
	{
		case TCS_SITE_QUERY:
			/* one that reads nothing has not come here */
			if (!standing || !plan_reads_catalogs(site->query_desc->plannedstmt))
				return false;
			break;
		case TCS_SITE_UTILITY:
			break;
		case TCS_SITE_CALL:
			if (!standing)
				return false;
			break;
		default:
			return false;
	}
	reads = site_reads(site);
	site->reads_nothing = reads == TCS_READS_NOTHING;
	if (site->reads_nothing)
		excuse_choice(choice, TCS_LEVEL_EVENTUAL);
	else if (reads == TCS_READS_CATALOGS && standing)
		excuse_choice(choice, said_level(choice));
	else
		return false;
	return true;
}

/* The same of an analysed and rewritten query, if it had to wait. */
bool
tcs_standing_excuses_query(Query *query, TcsChoice *choice)
{
	TcsLevel	level = said_level(choice);

	if (!is_standing(choice) || tcs_level_rank(choice->level) <= tcs_level_rank(TCS_LEVEL_SESSION) ||
		tcs_exempt_query_reads(query) == TCS_READS_DATA || has_rule(query))
		return false;
	excuse_choice(choice, level);
	return true;
}
