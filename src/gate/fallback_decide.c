/*-------------------------------------------------------------------------
 *
 * fallback_decide.c
 *	  Which step of a fallback list a read comes to.
 *
 * NOTES
 *	  Pure: all that counts is handed in.  test/modules/tcs_tables has the
 *	  table of what comes out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "gate/fallback.h"

/* Is a redirect among the steps that can be come to? */
bool
tcs_fallback_has_redirect(const TcsFallback *fallback)
{
	for (int i = 0; i < fallback->nsteps; i++)
	{
		if (fallback->steps[i].kind != TCS_STEP_LEVEL)
			return fallback->steps[i].kind == TCS_STEP_REDIRECT;
	}
	return false;
}

/*
 * Go through the steps: which one is for this transaction, as it is now?
 *
 * A redirect is skipped where it is not possible, or has failed.  A level that
 * is not weaker than the one asked for is skipped as well: a longer wait is not
 * what a fallback is for.
 */
TcsVerdict
tcs_fallback_decide(const TcsFallback *fallback, const TcsContext *context,
					const TcsUnmet *unmet, bool can_redirect, TcsLevel *served_at)
{
	/* who asked for an error here wants nothing else */
	if (unmet->reason == TCS_REASON_NO_TOKEN)
		return TCS_VERDICT_REFUSE;
	for (int i = 0; i < fallback->nsteps; i++)
	{
		const TcsStep *step = &fallback->steps[i];
		TcsRequirement req;

		if (step->kind == TCS_STEP_ERROR)
			break;
		if (step->kind == TCS_STEP_REDIRECT)
		{
			if (can_redirect)
				return TCS_VERDICT_REDIRECT;
			continue;
		}
		if (tcs_level_rank(step->level) >= tcs_requirement_rank(&unmet->req))
			continue;
		/* nobody goes below the floor of a rule */
		if (unmet->has_floor && tcs_level_join(step->level, unmet->floor) != step->level)
			continue;
		/* its one snapshot cannot be had any more */
		if (step->level == TCS_LEVEL_SNAPSHOT && !context->one_snapshot)
			continue;
		tcs_requirement_make(step->level, context, &req);
		if (tcs_requirement_is_empty(&req) ||
			tcs_requirement_met(&req, &unmet->proof))
		{
			*served_at = step->level;
			return TCS_VERDICT_DOWNGRADE;
		}
	}
	return TCS_VERDICT_REFUSE;
}
