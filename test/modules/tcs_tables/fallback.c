/*-------------------------------------------------------------------------
 *
 * fallback.c
 *	  Drives gate/fallback_decide by rows; see fallback.table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "facts.h"

PG_FUNCTION_INFO_V1(tcs_table_fallback);

/* What becomes of a read that did not get what it asked for. */
Datum
tcs_table_fallback(PG_FUNCTION_ARGS)
{
	static const TcsPosition usual = {2, 50};
	Facts	   *facts = facts_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	TcsFallback fallback;
	TcsContext	context;
	TcsUnmet	unmet = {0};
	TcsLevel	served_at = TCS_LEVEL_COUNT;
	bool		can_redirect;
	const char *said = NULL;

	facts_to_context(facts, &context);
	fact_fallback(facts, "fallback", &fallback);
	unmet.req.level = fact_level(facts, "level", TCS_LEVEL_STRONG);
	unmet.req.as_strong = fact_flag(facts, "as_strong");
	unmet.req.reason = unmet.reason = fact_reason(facts, "reason");
	unmet.proof.at = fact_position(facts, "has", usual);
	unmet.proof.fresh_at = fact_number(facts, "fresh_at", 0);
	unmet.has_floor = fact_text(facts, "floor", NULL) != NULL;
	unmet.floor = fact_level(facts, "floor", TCS_LEVEL_EVENTUAL);
	can_redirect = fact_flag(facts, "can_redirect");
	context.one_snapshot = fact_flag(facts, "one_snapshot");
	facts_check_all_used(facts);

	switch (tcs_fallback_decide(&fallback, &context, &unmet, can_redirect, &served_at))
	{
		case TCS_VERDICT_REFUSE:
			said = "refuse";
			break;
		case TCS_VERDICT_REDIRECT:
			said = "redirect";
			break;
		case TCS_VERDICT_DOWNGRADE:
			said = psprintf("serve at %s", tcs_level_name(served_at));
			break;
	}
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s | %s", said,
											  tcs_fallback_has_redirect(&fallback) ? "yes" : "no")));
}
