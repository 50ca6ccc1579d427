/*-------------------------------------------------------------------------
 *
 * decide.c
 *	  Drives gate/decide and gate/renew_decide by rows; see decide.table and
 *	  renew.table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "facts.h"
#include "gate/read.h"

PG_FUNCTION_INFO_V1(tcs_table_decide);
PG_FUNCTION_INFO_V1(tcs_table_renew);

static const char *const sites[] = {
	[TCS_SITE_QUERY] = "query",
	[TCS_SITE_UTILITY] = "utility",
	[TCS_SITE_CALL] = "call",
	[TCS_SITE_PLANNER] = "planner",
	[TCS_SITE_BARE] = "bare",
	[TCS_SITE_NESTED] = "nested",
	NULL
};

static const char *const results[] = {
	[TCS_WAIT_MET] = "met",
	[TCS_WAIT_TIMEOUT] = "timeout",
	[TCS_WAIT_HOPELESS] = "hopeless",
	[TCS_WAIT_REDIRECTED] = "redirected",
	[TCS_WAIT_BLOCKING] = "blocking",
	[TCS_WAIT_OTHER_TIMELINE] = "other_timeline",
	[TCS_WAIT_NOT_IN_RECOVERY] = "promoted",
	[TCS_WAIT_DISABLED] = "disabled",
	[TCS_WAIT_RELAXED] = "relaxed",
	[TCS_WAIT_NO_QUORUM] = "no_quorum",
	NULL
};

static const char *const actions[] = {
	[TCS_ACTION_FOLLOW] = "follow",
	[TCS_ACTION_DROP_TOKEN] = "drop token",
	[TCS_ACTION_SERVE] = "serve",
	[TCS_ACTION_REFUSE_WRITE] = "refuse write",
	[TCS_ACTION_EXCUSE] = "excuse",
	[TCS_ACTION_RELAX] = "relax",
	[TCS_ACTION_SURVEY] = "survey",
	[TCS_ACTION_ASK] = "ask",
	[TCS_ACTION_RENEW] = "renew",
	[TCS_ACTION_CONFIRM] = "confirm",
	[TCS_ACTION_JUDGE_PROMOTED] = "judge promoted",
	[TCS_ACTION_NOTE_REDIRECTED] = "note redirected",
	[TCS_ACTION_LEAVE] = "leave",
	[TCS_ACTION_FAIL] = "fail"
};

static const char *const renewals[] = {
	[TCS_RENEW_WAIT_BRIEFLY] = "wait briefly",
	[TCS_RENEW_REDIRECT] = "redirect",
	[TCS_RENEW_RELEASE_LOCKS] = "release locks",
	[TCS_RENEW_WAIT] = "wait",
	[TCS_RENEW_DROP_TOKEN] = "drop token",
	[TCS_RENEW_NOTE_REASON] = "note reason",
	[TCS_RENEW_REFUSE] = "refuse",
	[TCS_RENEW_END] = "end"
};

static const char *const failings[] = {
	[TCS_FAILING_NOT] = "",
	[TCS_FAILING_MISPLACED] = ": misplaced",
	[TCS_FAILING_UNMEETABLE] = ": cannot be met",
	[TCS_FAILING_TOO_LATE] = ": too late",
	[TCS_FAILING_GAVE_UP] = ": gave up",
	[TCS_FAILING_AFTER_WAIT] = ": after the wait"
};

/* What was done already with a read. */
static const FactBit gate_steps[] = {
	{"drop", TCS_TRIED_DROP},
	{"write", TCS_TRIED_WRITE},
	{"excuse", TCS_TRIED_EXCUSE},
	{"relax", TCS_TRIED_RELAX},
	{"survey", TCS_TRIED_SURVEY},
	{"ask", TCS_TRIED_ASK},
	{"renew", TCS_TRIED_RENEW},
	{"confirm", TCS_TRIED_CONFIRM},
	{"promoted", TCS_TRIED_PROMOTED},
	{NULL}
};

static const FactBit renew_steps[] = {
	{"briefly", TCS_RENEWED_WAIT_BRIEFLY},
	{"redirect", TCS_RENEWED_REDIRECT},
	{"release", TCS_RENEWED_RELEASE_LOCKS},
	{"wait", TCS_RENEWED_WAIT},
	{"drop", TCS_RENEWED_DROP_TOKEN},
	{"reason", TCS_RENEWED_REASON},
	{NULL}
};

/* The next step with a read. */
Datum
tcs_table_decide(PG_FUNCTION_ARGS)
{
	static const char *const nodes[] = {"primary", "standby", NULL};
	static const char *const yes_no[] = {"no", "yes", NULL};
	static const TcsPosition usual = {2, 60};
	Facts	   *facts = facts_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	TcsRead		read = {0};
	TcsRead		before;
	TcsAction	action;
	TcsFailing	failing = TCS_FAILING_AFTER_WAIT;

	read.site.kind = (TcsSiteKind) fact_one_of(facts, "site", sites, TCS_SITE_QUERY);
	read.site.fix_snapshot = fact_flag(facts, "fix_snapshot");
	read.facts.in_recovery = fact_one_of(facts, "node", nodes, 1) == 1;
	read.facts.fixed = fact_flag(facts, "fixed");
	read.facts.reason = fact_reason(facts, "reason");
	read.facts.req.reason = fact_reason(facts, "refused");
	read.facts.req.confirm = fact_flag(facts, "confirm");
	read.facts.req.needed = fact_position(facts, "needs", usual);
	read.tried = fact_bits(facts, "tried", gate_steps);
	read.follows = fact_flag(facts, "follows");
	read.may_drop_token = fact_flag(facts, "may_drop_token");
	read.met = fact_flag(facts, "met");
	read.misplaced = fact_flag(facts, "misplaced");
	read.can_swap = fact_one_of(facts, "can_swap", yes_no, 1) == 1;
	read.can_redirect = fact_flag(facts, "can_redirect");
	read.gave_up = fact_flag(facts, "gave_up");
	read.result = (TcsWaitResult) fact_one_of(facts, "result", results, TCS_WAIT_MET);
	facts_check_all_used(facts);

	memcpy(&before, &read, sizeof(read));
	action = tcs_gate_decide(&read, &failing);
	if (memcmp(&before, &read, sizeof(read)) != 0)
		elog(ERROR, "the decision has changed the read");
	if ((action == TCS_ACTION_FAIL) != (failing != TCS_FAILING_NOT))
		elog(ERROR, "a failure without a reason, or a reason without one");
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s%s", actions[action], failings[failing])));
}

/* The next step with a read that has to wait, or be redirected. */
Datum
tcs_table_renew(PG_FUNCTION_ARGS)
{
	Facts	   *facts = facts_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	TcsRenewal	renewal = {0};

	renewal.can_redirect = fact_flag(facts, "can_redirect");
	renewal.may_come_late = fact_flag(facts, "may_come_late");
	renewal.unmeetable = fact_flag(facts, "unmeetable");
	renewal.token_is_lost = fact_flag(facts, "lost");
	renewal.can_release = fact_flag(facts, "locks");
	renewal.redirect_is_next = fact_flag(facts, "redirect");
	renewal.refuse_is_next = fact_flag(facts, "refuse");
	renewal.tried = fact_bits(facts, "tried", renew_steps);
	renewal.result = (TcsWaitResult) fact_one_of(facts, "result", results, TCS_WAIT_MET);
	facts_check_all_used(facts);

	PG_RETURN_TEXT_P(cstring_to_text(renewals[tcs_renew_decide(&renewal)]));
}
