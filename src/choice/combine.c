/*-------------------------------------------------------------------------
 *
 * combine.c
 *	  How settings, hint, rules and the emergency valve combine to a choice.
 *
 * NOTES
 *	  See choice.c for the order.  Of the process this reads the settings, their
 *	  sources, and whether the valve is open; nothing else, so that
 *	  test/modules/tcs_tables can drive it by a table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/relax.h"
#include "choice/choice.h"

/* What the settings alone say. */
static void
start_from_settings(TcsChoice *choice)
{
	choice->level = (TcsLevel) tcs_read_level;
	choice->by = TCS_BY_SETTING;
	choice->level_source = tcs_guc_level_source();
	choice->rule = 0;
	choice->plain = true;
	choice->serial = 0;
	choice->max_staleness = tcs_max_staleness;
	choice->max_lag = tcs_max_lag;
	choice->max_wait = tcs_max_wait;
	choice->has_floor = false;
	choice->floor_staleness = -1;
	choice->hinted = false;
	choice->has_hard = false;
	choice->write_level = TCS_WRITE_DEFAULT;
	choice->fallback = tcs_guc_fallback();
	choice->token = NULL;
}

/* Was a setting given to this role by ALTER ROLE? */
static bool
is_of_role(GucSource source)
{
	return source == PGC_S_USER || source == PGC_S_DATABASE_USER;
}

/* The bound of a rule, where the level is the rule's. */
static void
apply_bound(const TcsRuleVerdict *rules, bool smaller_only, TcsChoice *choice)
{
	GucSource	source = tcs_guc_max_staleness_source();

	if (rules->max_staleness < 0 || tcs_source_is_said(source))
		return;
	if (smaller_only || (rules->by_membership && is_of_role(source)))
		choice->max_staleness = Min(choice->max_staleness, rules->max_staleness);
	else
		choice->max_staleness = rules->max_staleness;
}

/*
 * The rules' level, if the client has not said another.
 *
 * Anyone who may grant a role makes its members.  So a rule for a role that this one is
 * only a member of can raise what this role has from ALTER ROLE, and cannot lower it:
 * neither level nor bound nor fallback.
 */
static void
apply_rules(const TcsRuleVerdict *rules, TcsChoice *choice)
{
	bool		raise_only = rules->by_membership && is_of_role(choice->level_source);
	TcsLevel	level = rules->level;

	if (!rules->has_level || tcs_source_is_said(choice->level_source))
		return;
	if (rules->unruled || raise_only)
		level = tcs_level_join(choice->level, rules->level);
	if (level == choice->level && (raise_only || (rules->unruled && level != rules->level)))
	{
		if (level == rules->level)
			apply_bound(rules, true, choice);
		return;
	}
	choice->level = level;
	choice->by = TCS_BY_RULE;
	choice->rule = rules->rule;
	apply_bound(rules, rules->unruled && choice->level == (TcsLevel) tcs_read_level, choice);
	if (rules->max_wait != TCS_RULE_NO_WAIT && !tcs_source_is_said(tcs_guc_max_wait_source()))
		choice->max_wait = rules->max_wait;
	if (rules->has_fallback && !tcs_source_is_said(tcs_guc_fallback_source()) && !raise_only &&
		!(rules->by_membership && is_of_role(tcs_guc_fallback_source())))
		choice->fallback = &rules->fallback;
}

static void
apply_hint(const TcsHint *hint, TcsChoice *choice)
{
	if (hint->set & TCS_HINT_LEVEL)
	{
		choice->level = hint->level;
		choice->by = TCS_BY_HINT;
		choice->rule = 0;
		choice->hinted = true;
	}
	if (hint->set & TCS_HINT_MAX_STALENESS)
		choice->max_staleness = hint->max_staleness;
	if (hint->set & TCS_HINT_MAX_WAIT)
		choice->max_wait = hint->max_wait;
	if (hint->set & TCS_HINT_FALLBACK)
		choice->fallback = &hint->fallback;
	if (hint->set & TCS_HINT_TOKEN)
		choice->token = &hint->token;
	if (hint->set & TCS_HINT_WRITE_LEVEL)
		choice->write_level = hint->write_level;
}

/* Not less than the floor. */
static void
apply_floor(const TcsRuleVerdict *rules, TcsChoice *choice)
{
	TcsLevel	level;
	bool		raised;

	if (!rules->has_floor)
		return;
	choice->has_floor = true;
	choice->floor = rules->floor;
	choice->has_hard = rules->has_hard;
	choice->hard = rules->hard;
	choice->floor_staleness = rules->floor_staleness;
	level = tcs_level_join(choice->level, rules->floor);
	raised = level != choice->level;
	if (raised ||
		(level == TCS_LEVEL_BOUNDED && rules->floor_staleness >= 0 &&
		 rules->floor_staleness < choice->max_staleness))
	{
		choice->level = level;
		choice->by = TCS_BY_FLOOR;
		choice->rule = rules->floor_rule;
	}
	/* who asked for less has no bound of his own */
	if (raised && level == TCS_LEVEL_BOUNDED)
		choice->max_staleness = rules->floor_staleness;
	/* also where a fallback comes to "bounded" */
	else if (rules->floor_staleness >= 0)
		choice->max_staleness = Min(choice->max_staleness, rules->floor_staleness);
}

/*
 * What was chosen is not there without a wait: lower it if the emergency valve is
 * open.  "rank" is the strength of what it asks for, which without a token can be
 * more than the level's.  Returns whether it has.
 */
bool
tcs_choice_relax(TcsChoice *choice, int rank)
{
	TcsLevel	level;
	TcsLevel	hard;

	if (likely(!tcs_relax_in_force(&level)))
		return false;
	if (choice->has_hard)
		hard = tcs_level_join(level, choice->hard);
	else
		hard = level;
	if (rank <= tcs_level_rank(hard))
		return false;
	if (hard != level && hard == TCS_LEVEL_BOUNDED && choice->floor_staleness >= 0)
		choice->max_staleness = choice->floor_staleness;
	level = hard;
	if (choice->by != TCS_BY_RELAX)
	{
		choice->asked = choice->level;
		choice->asked_by = choice->by;
		choice->asked_rule = choice->rule;
	}
	choice->level = level;
	choice->by = TCS_BY_RELAX;
	choice->rule = 0;
	choice->plain = false;
	choice->serial = 0;
	return true;
}

/* Under its limit. */
static void
limit_wait(TcsChoice *choice)
{
	if (tcs_max_wait_limit >= 0)
		choice->max_wait = choice->max_wait < 0 ? tcs_max_wait_limit :
			Min(choice->max_wait, tcs_max_wait_limit);
}

/*
 * The one function that decides; hint and rules may be NULL, and have to stay as
 * long as the choice does.
 */
void
tcs_choice_make(const TcsHint *hint, const TcsRuleVerdict *rules, TcsChoice *choice)
{
	start_from_settings(choice);
	if (hint != NULL || rules != NULL)
		choice->plain = false;
	if (rules != NULL)
		apply_rules(rules, choice);
	if (hint != NULL)
		apply_hint(hint, choice);
	if (rules != NULL)
		apply_floor(rules, choice);
	limit_wait(choice);
}

/* Who wrote to one of a group of tables reads the others at least at "session". */
void
tcs_choice_raise_for_group(TcsChoice *choice)
{
	if (tcs_level_rank(choice->level) >= tcs_level_rank(TCS_LEVEL_SESSION))
		return;
	choice->level = TCS_LEVEL_SESSION;
	choice->by = TCS_BY_FLOOR;
	choice->rule = 0;
	choice->serial = 0;
}

/*
 * The choice of a statement becomes that of something within it, which alone would
 * get "inner": it is read at what the outer one asked for, or more.  The outer one's
 * hint comes before rules and settings here, but not before floors, which are those
 * of both.  Where the outer one was lowered by the emergency valve, nothing within
 * asks for more, but for hard floors, whether the valve is still open or not.  Below
 * one that standing defaults do not bind there is only its own query, and what
 * built-in functions read of catalogs.
 */
void
tcs_choice_add_inner(TcsChoice *choice, const TcsChoice *inner)
{
	TcsLevel	level = inner->level;
	TcsChoiceBy by = inner->by;

	choice->plain = false;
	choice->serial = 0;
	if (choice->by == TCS_BY_EXEMPT)
		return;
	choice->max_staleness = Min(choice->max_staleness, inner->max_staleness);
	if (inner->has_floor)
	{
		choice->floor = choice->has_floor ?
			tcs_level_join(choice->floor, inner->floor) : inner->floor;
		choice->has_floor = true;
	}
	if (inner->has_hard)
	{
		choice->hard = choice->has_hard ?
			tcs_level_join(choice->hard, inner->hard) : inner->hard;
		choice->has_hard = true;
	}
	if (choice->by == TCS_BY_RELAX)
	{
		level = inner->has_hard ? inner->hard : TCS_LEVEL_EVENTUAL;
		by = TCS_BY_FLOOR;
	}
	else if (choice->hinted && (by == TCS_BY_RULE || by == TCS_BY_SETTING))
	{
		level = inner->has_floor ? inner->floor : TCS_LEVEL_EVENTUAL;
		if (by == TCS_BY_SETTING)
			by = TCS_BY_FLOOR;
	}
	level = tcs_level_join(choice->level, level);
	if (level != choice->level)
	{
		choice->level = level;
		choice->by = by;
		choice->rule = inner->rule;
	}
}
