/*-------------------------------------------------------------------------
 *
 * requirement.c
 *	  Drives gate/requirement by rows; see requirement.table and met.table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "facts.h"

PG_FUNCTION_INFO_V1(tcs_table_requirement);
PG_FUNCTION_INFO_V1(tcs_table_met);
PG_FUNCTION_INFO_V1(tcs_table_history);

#define OUR_CLUSTER		7

static const char *const reasons[] = {
	[TCS_REASON_NONE] = "none",
	[TCS_REASON_BEHIND] = "behind",
	[TCS_REASON_FOREIGN] = "foreign",
	[TCS_REASON_LOST] = "lost",
	[TCS_REASON_UNKNOWN] = "unknown",
	[TCS_REASON_SNAPSHOT] = "snapshot",
	[TCS_REASON_BLOCKING] = "blocking",
	[TCS_REASON_NO_QUORUM] = "no_quorum",
	[TCS_REASON_UNCONFIRMED] = "unconfirmed",
	[TCS_REASON_RELAXED] = "relaxed",
	[TCS_REASON_NO_TOKEN] = "no_token",
	[TCS_REASON_COUNT] = NULL
};

StaticAssertDecl(lengthof(reasons) == TCS_REASON_COUNT + 1, "each reason has a name");

TcsReason
fact_reason(Facts *facts, const char *name)
{
	return (TcsReason) fact_one_of(facts, name, reasons, TCS_REASON_NONE);
}

const char *
say_reason(TcsReason reason)
{
	return reasons[reason];
}

void
say_position(StringInfo out, TcsPosition position)
{
	appendStringInfo(out, "%u:%llu", position.tli, (unsigned long long) position.lsn);
}

/*
 * The node's history, which the head of requirement.table draws: timeline 1 up to
 * 40, then 2 from there on, then 3 from 80 on, as far as the node has come.
 */
static const TcsHistory *
make_history(TimeLineID tli, bool known)
{
	static const TcsTimeline all[] = {{1, 0, 40}, {2, 40, 80}, {3, 80, 0}};
	TcsHistory *history = palloc0(sizeof(TcsHistory));

	if (tli < 1 || tli > lengthof(all))
		elog(ERROR, "no such timeline");
	history->tli = tli;
	history->known = known;
	history->n = (int) tli;
	history->timelines = palloc0(tli * sizeof(TcsTimeline));
	for (int i = 0; i < history->n; i++)
		history->timelines[i] = all[tli - 1 - i];
	history->timelines[0].end = InvalidXLogRecPtr;
	return history;
}

/* Whose token it is, as a table says it. */
static const struct
{
	const char *name;
	int			version;
	uint64		cluster;
	TimeLineID	tli;
	XLogRecPtr	begin;
}			kinds[] = {
	{"first", 1, OUR_CLUSTER, 1, 0},
	{"ours", 1, OUR_CLUSTER, 2, 40},
	{"next", 1, OUR_CLUSTER, 3, 80},
	{"twin", 1, OUR_CLUSTER, 2, 35},
	{"foreign", 1, OUR_CLUSTER + 1, 2, 40},
	{"later", 0, OUR_CLUSTER, 2, 40}
};

static TcsToken *
make_token(Facts *facts)
{
	const char *kind = fact_text(facts, "token", NULL);
	TcsToken   *token = palloc0(sizeof(TcsToken));

	token->written = (XLogRecPtr) fact_number(facts, "wrote", 0);
	token->seen_primary = (XLogRecPtr) fact_number(facts, "saw_p", 0);
	token->seen_standby = (XLogRecPtr) fact_number(facts, "saw_s", 0);
	if (fact_flag(facts, "not_durable"))
		token->flags |= TCS_TOKEN_NOT_DURABLE;
	if (fact_flag(facts, "wrote_apart"))
		token->flags |= TCS_TOKEN_WROTE_APART;
	if (fact_flag(facts, "saw_apart"))
		token->flags |= TCS_TOKEN_SAW_APART;
	if (kind == NULL)
		return NULL;
	for (int i = 0; i < lengthof(kinds); i++)
	{
		if (strcmp(kind, kinds[i].name) == 0)
		{
			token->version = kinds[i].version;
			token->system_identifier = kinds[i].cluster;
			token->tli = kinds[i].tli;
			token->tli_begin = kinds[i].begin;
			return token;
		}
	}
	elog(ERROR, "no token of kind %s", kind);
	return NULL;
}

/* The facts that a requirement depends on, besides the level. */
void
facts_to_context(Facts *facts, TcsContext *context)
{
	static const char *const nodes[] = {"primary", "standby", NULL};
	static const char *const without[] = {"accept", "strong", "error", NULL};
	static const TcsPosition usual = {2, 70};
	static const TcsPosition nothing = {0, 0};

	memset(context, 0, sizeof(*context));
	context->token = make_token(facts);
	context->token_handed = context->token != NULL || fact_flag(facts, "handed");
	context->token_dropped = fact_flag(facts, "dropped");
	context->without_token = (TcsWithoutToken) fact_one_of(facts, "without_token", without,
														   TCS_WITHOUT_TOKEN_ACCEPT);
	context->max_staleness = fact_number(facts, "max_staleness", 0);
	context->max_lag = fact_number(facts, "max_lag", -1);
	context->fixed = fact_flag(facts, "fixed");
	context->is_confirmed = fact_flag(facts, "is_confirmed");
	context->in_recovery = fact_one_of(facts, "node", nodes, 1) == 1;
	context->system_identifier = OUR_CLUSTER;
	context->at = fact_position(facts, "at", usual);
	context->confirmed = (XLogRecPtr) fact_number(facts, "confirmed", 0);
	context->acknowledged = fact_position(facts, "acknowledged", nothing);
	context->history = make_history(context->at.tli, !fact_flag(facts, "no_history"));
	context->newest.at = fact_position(facts, "newest", nothing);
	context->have_newest = context->newest.at.tli != 0;
	/* where there is none, it must not be looked at */
	if (!context->have_newest)
		context->newest.at.lsn = PG_UINT64_MAX / 2;
	context->arrival = fact_number(facts, "arrival", 1000);
}

static void
say_requirement(StringInfo out, const TcsRequirement *req)
{
	if (req->reason != TCS_REASON_NONE)
	{
		/* the message names what the token does */
		if (req->needed.tli != req->token_at.tli || req->needed.lsn != req->token_at.lsn)
			elog(ERROR, "refused for another position than the token's");
		appendStringInfo(out, "refused: %s", say_reason(req->reason));
		if (req->past_end)
			appendStringInfoString(out, ", past the end");
		if (req->not_durable)
			appendStringInfoString(out, ", not durable");
		if (req->apart)
			appendStringInfoString(out, ", apart");
		if (req->fork.tli != 0)
			appendStringInfo(out, ", left %u at %llu", req->fork.tli,
							 (unsigned long long) req->fork.end);
		if (req->detail != NULL)
			appendStringInfo(out, ", %s", req->hint ? "upgrade" : "no history");
		return;
	}
	if (tcs_requirement_is_empty(req))
		appendStringInfoString(out, "nothing");
	if (req->needed.lsn != InvalidXLogRecPtr)
	{
		appendStringInfoString(out, "at ");
		say_position(out, req->needed);
	}
	if (req->by_quorum)
		appendStringInfoString(out, " by quorum");
	if (req->fresh_after != 0)
		appendStringInfo(out, "%safter %lld", out->len > 0 ? ", " : "",
						 (long long) req->fresh_after);
	if (req->need_newest)
		appendStringInfo(out, "%san answer", out->len > 0 ? ", " : "");
	if (req->confirm)
		appendStringInfo(out, "%sconfirmed", out->len > 0 ? ", " : "");
	if (req->as_strong)
		appendStringInfo(out, " (%s)", req->token_dropped ? "token dropped" : "no token");
}

/* What a read asks for, its rank, and what it keeps of the token. */
Datum
tcs_table_requirement(PG_FUNCTION_ARGS)
{
	Facts	   *facts = facts_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	TcsLevel	level = fact_level(facts, "level", TCS_LEVEL_SESSION);
	TcsContext	context;
	TcsRequirement req;
	StringInfoData out;

	facts_to_context(facts, &context);
	facts_check_all_used(facts);
	tcs_requirement_make(level, &context, &req);
	if (req.level != level || req.made_on != context.at.tli)
		elog(ERROR, "level or timeline of the requirement is wrong");

	initStringInfo(&out);
	say_requirement(&out, &req);
	appendStringInfo(&out, " | %d | ", tcs_requirement_rank(&req));
	if (req.token_at.lsn == InvalidXLogRecPtr)
		appendStringInfoString(&out, "-");
	else
		say_position(&out, req.token_at);
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}

/* Does a snapshot meet a requirement, and which position is shown for it? */
Datum
tcs_table_met(PG_FUNCTION_ARGS)
{
	static const TcsPosition nothing = {0, 0};
	Facts	   *facts = facts_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	TcsRequirement req = {0};
	TcsProof	proof;
	StringInfoData out;

	req.reason = fact_reason(facts, "reason");
	req.needed = fact_position(facts, "needs", nothing);
	req.target = fact_position(facts, "target", nothing);
	req.fresh_after = fact_number(facts, "after", 0);
	req.need_newest = fact_flag(facts, "need_newest");
	req.confirm = fact_flag(facts, "confirm");
	proof.at = fact_position(facts, "has", nothing);
	proof.fresh_at = fact_number(facts, "fresh_at", 0);
	facts_check_all_used(facts);

	initStringInfo(&out);
	appendStringInfo(&out, "%s | %s | ", tcs_requirement_is_empty(&req) ? "yes" : "no",
					 tcs_requirement_met(&req, &proof) ? "met" : "not met");
	say_position(&out, tcs_requirement_position(&req));
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}

/* Is a position part of this node's history? */
Datum
tcs_table_history(PG_FUNCTION_ARGS)
{
	static const char *const answers[] = {
		[TCS_HISTORY_YES] = "yes",
		[TCS_HISTORY_FORKED] = "left before",
		[TCS_HISTORY_NEWER] = "not yet",
		[TCS_HISTORY_UNKNOWN] = "unknown"
	};
	static const TcsPosition usual = {2, 70};
	Facts	   *facts = facts_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	const TcsHistory *history = make_history((TimeLineID) fact_number(facts, "on", 2),
											 !fact_flag(facts, "no_history"));
	TcsPosition position = fact_position(facts, "position", usual);
	XLogRecPtr	begin = (XLogRecPtr) fact_number(facts, "begin", 0);
	TcsTimeline fork;
	TcsOnHistory answer;

	facts_check_all_used(facts);
	answer = tcs_history_locate(history, position.tli, begin, position.lsn, &fork);
	if (tcs_history_locate(history, position.tli, begin, position.lsn, NULL) != answer)
		elog(ERROR, "the answer depends on whether the fork is asked for");
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s | %u | %s", answers[answer], fork.tli,
											  tcs_history_has(history, position) ? "yes" : "no")));
}
