/*-------------------------------------------------------------------------
 *
 * funcs.c
 *	  SQL-callable functions: arguments in, rows out, nothing else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/parsenodes.h"
#include "replication/walreceiver.h"
#include "tcop/pquery.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/errcodes.h"
#include "base/settings.h"
#include "base/stats.h"
#include "base/timeline.h"
#include "gate/context.h"
#include "gate/gate.h"
#include "primary/read_index.h"
#include "redirect/connection_budget.h"
#include "redirect/redirect_server.h"
#include "session/session_token.h"
#include "standby/freshness.h"
#include "standby/replay.h"
#include "standby/wait_queue.h"
#include "token/token.h"

/* The bound is "near" from this part of it on. */
#define TCS_NEAR_BOUND		0.8

/* WAL that came so many us ago, and is not replayed: replay stands still. */
#define TCS_STANDS_STILL_AFTER	3000000

/* Answers older than this many intervals mean that the primary is silent. */
#define TCS_SILENT_AFTER	1000000

PG_FUNCTION_INFO_V1(tcs_session_token_fn);
PG_FUNCTION_INFO_V1(tcs_token_info);
PG_FUNCTION_INFO_V1(tcs_merge_tokens);
PG_FUNCTION_INFO_V1(tcs_wait_for);
PG_FUNCTION_INFO_V1(tcs_read_index);
PG_FUNCTION_INFO_V1(tcs_quorum_index);
PG_FUNCTION_INFO_V1(tcs_status);
PG_FUNCTION_INFO_V1(tcs_can_serve);
PG_FUNCTION_INFO_V1(tcs_last_read);
PG_FUNCTION_INFO_V1(tcs_stat_reads);
PG_FUNCTION_INFO_V1(tcs_stat_downgrades);
PG_FUNCTION_INFO_V1(tcs_stat_reads_reset);
PG_FUNCTION_INFO_V1(tcs_askers);
PG_FUNCTION_INFO_V1(tcs_asker_staleness);
PG_FUNCTION_INFO_V1(tcs_redirects);

/* Refuse to work in a server that has loaded us for pg_upgrade only. */
static void
require_preloaded(void)
{
	if (IsBinaryUpgrade)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("tcs must be loaded via shared_preload_libraries")));
}

/* Row type of a function that returns one row. */
static TupleDesc
result_desc(FunctionCallInfo fcinfo)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return BlessTupleDesc(desc);
}

/*
 * Columns that a later version of the SQL script has added are NULL: during an
 * upgrade a standby may have them before it has the library.
 */
static void
add_unknown_columns(TupleDesc desc, int known, Datum **values, bool **nulls)
{
	Datum	   *all_values;
	bool	   *all_nulls;

	if (desc->natts <= known)
		return;
	all_values = palloc0(desc->natts * sizeof(Datum));
	all_nulls = palloc(desc->natts * sizeof(bool));
	memset(all_nulls, true, desc->natts * sizeof(bool));
	memcpy(all_values, *values, known * sizeof(Datum));
	memcpy(all_nulls, *nulls, known * sizeof(bool));
	*values = all_values;
	*nulls = all_nulls;
}

static Datum
one_row(TupleDesc desc, int known, Datum *values, bool *nulls)
{
	add_unknown_columns(desc, known, &values, &nulls);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

/* Parse the text of a token argument, or throw. */
static void
parse_token_argument(text *argument, TcsToken *token)
{
	char	   *str = text_to_cstring(argument);

	if (!tcs_token_parse(str, token))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid session token: \"%.*s\"",
						pg_mbcliplen(str, strlen(str), TCS_TOKEN_MAXLEN), str),
				 errdetail("This is not a session token, or it was damaged on its way.")));
}

static void
require_known_version(const TcsToken *token)
{
	if (token->version == 0)
		ereport(ERROR,
				(errcode(ERRCODE_TCS_FRESHNESS_UNKNOWN),
				 errmsg("the session token was made by a newer version of tcs"),
				 errhint("Upgrade tcs on this node.")));
}

/*
 * Microseconds of an interval argument, which must not be negative.  What does not
 * fit, such as 17's infinity, is as good as for ever.
 */
static int64
interval_argument_us(const Interval *interval, const char *name)
{
	/* days cannot overflow: each part is of 32 bits */
	int64		days = (int64) interval->month * DAYS_PER_MONTH + interval->day;
	int64		us;

	if (pg_mul_s64_overflow(days, USECS_PER_DAY, &us) ||
		pg_add_s64_overflow(us, interval->time, &us))
		us = days < 0 ? PG_INT64_MIN : PG_INT64_MAX;
	if (us < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", name)));
	return us;
}

/* ---- tokens ---- */

Datum
tcs_session_token_fn(PG_FUNCTION_ARGS)
{
	TcsToken	token;
	char		buf[TCS_TOKEN_MAXLEN + 1];

	require_preloaded();
	if (tcs_session_has_uncommitted())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot take a session token in a transaction that has written"),
				 errdetail("The token would not cover what the transaction writes: its position is known only after COMMIT."),
				 errhint("Take the token after COMMIT, or use the one that the server reports as parameter tcs.session_token.")));
	(void) tcs_session_current_token(&token);
	require_known_version(&token);
	tcs_token_format(&token, buf);
	PG_RETURN_TEXT_P(cstring_to_text(buf));
}

/*
 * Is what a token names part of this node's history?  In words.
 *
 * On the timeline that a standby replays, what it has not come to yet may still
 * be left behind by another timeline; so that is not known.  A primary knows
 * where its WAL ends.
 */
static char *
describe_history(const TcsToken *token, const TcsContext *context)
{
	XLogRecPtr	highest = Max(token->written,
							  Max(token->seen_primary, token->seen_standby));
	TcsPosition named = {token->tli, highest};
	static const char *const apart = "no (part of it is on another history)";
	TcsTimeline fork;

	if (token->system_identifier != context->system_identifier)
		return pstrdup("no (another cluster)");
	switch (tcs_history_locate(context->history, token->tli, token->tli_begin,
							   highest, &fork))
	{
		case TCS_HISTORY_YES:
			if ((token->flags & TCS_TOKEN_APART) != 0)
				return pstrdup(apart);
			if (tcs_position_reached(named, context->at))
				return pstrdup("yes");
			if (!context->in_recovery)
				return psprintf("no (WAL ends at " TCS_LSN_FMT ")",
								LSN_FORMAT_ARGS(context->at.lsn));
			break;
		case TCS_HISTORY_FORKED:
			if (fork.tli == 0)
				return pstrdup("no (another timeline)");
			return psprintf("no (forked at " TCS_LSN_FMT " of timeline %u)",
							LSN_FORMAT_ARGS(fork.end), fork.tli);
		case TCS_HISTORY_NEWER:
			if ((token->flags & TCS_TOKEN_APART) != 0)
				return pstrdup(apart);
			break;
		case TCS_HISTORY_UNKNOWN:
			break;
	}
	return pstrdup("not yet known");
}

Datum
tcs_token_info(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = result_desc(fcinfo);
	TcsToken	token;
	TcsContext	context;
	Datum		values[10];
	bool		nulls[10] = {false};
	char	   *on_history;
	bool		is_on_history;

	require_preloaded();
	parse_token_argument(PG_GETARG_TEXT_PP(0), &token);
	if (token.version == 0)
	{
		memset(nulls, true, sizeof(nulls));
		values[8] = CStringGetTextDatum("not yet known");
		nulls[8] = false;
		return one_row(desc, lengthof(values), values, nulls);
	}

	tcs_context_build(&context, NULL, &token);
	on_history = describe_history(&token, &context);
	values[0] = Int32GetDatum(token.version);
	values[1] = Int64GetDatum((int64) token.system_identifier);
	values[2] = Int32GetDatum((int32) token.tli);
	values[3] = LSNGetDatum(token.tli_begin);
	values[4] = LSNGetDatum(token.written);
	nulls[4] = token.written == InvalidXLogRecPtr;

	/*
	 * That the position has been flushed by now says nothing: after a crash,
	 * it can be another commit's.  On an older timeline it cannot.
	 */
	is_on_history = strcmp(on_history, "yes") == 0;
	values[5] = BoolGetDatum((token.flags & TCS_TOKEN_NOT_DURABLE) == 0 ||
							 (is_on_history && token.tli < context.at.tli));
	nulls[5] = nulls[4];
	values[6] = LSNGetDatum(token.seen_primary);
	nulls[6] = token.seen_primary == InvalidXLogRecPtr;
	values[7] = LSNGetDatum(token.seen_standby);
	nulls[7] = token.seen_standby == InvalidXLogRecPtr;
	values[8] = CStringGetTextDatum(on_history);
	/* what is not of this history will never be reached */
	values[9] = BoolGetDatum(is_on_history);
	nulls[9] = strncmp(on_history, "no (", 4) == 0;
	return one_row(desc, lengthof(values), values, nulls);
}

/*
 * Make a token that asks for what either asks for.  Of two timelines the newer
 * one stays, and the other's positions must lie on its history.
 */
static void
merge_tokens(TcsToken *a, TcsToken *b)
{
	TcsToken   *older = a->tli < b->tli ? a : b;
	TcsToken   *newer = a->tli < b->tli ? b : a;
	XLogRecPtr	highest = Max(older->written,
							  Max(older->seen_primary, older->seen_standby));
	TcsContext	context;
	TcsTimeline fork;

	if (a->system_identifier != b->system_identifier)
		ereport(ERROR,
				(errcode(ERRCODE_TCS_FOREIGN_CLUSTER),
				 errmsg("cannot merge session tokens of different database clusters")));

	if (older->tli != newer->tli || older->tli_begin != newer->tli_begin)
	{
		tcs_context_build(&context, NULL, NULL);
		if (context.system_identifier != newer->system_identifier ||
			tcs_history_locate(context.history, newer->tli, newer->tli_begin,
							   newer->tli_begin + 1, NULL) != TCS_HISTORY_YES)
			ereport(ERROR,
					(errcode(ERRCODE_TCS_FRESHNESS_UNKNOWN),
					 errmsg("cannot merge session tokens of different timelines here"),
					 errdetail("This node does not know the history of timeline %u.",
							   newer->tli),
					 errhint("Merge them on a node that follows the present primary.")));
		if (tcs_history_locate(context.history, older->tli, older->tli_begin,
							   highest, &fork) != TCS_HISTORY_YES)
			ereport(ERROR,
					(errcode(ERRCODE_TCS_LOST_IN_FAILOVER),
					 errmsg("cannot merge session tokens of different histories"),
					 errdetail("What one of them names on timeline %u was lost in a failover.",
							   older->tli)));
		/* as in a session: its timeline has been left behind it */
		older->flags &= ~TCS_TOKEN_NOT_DURABLE;
	}
	tcs_token_raise(newer, older);
	if (newer != a)
		*a = *newer;
}

Datum
tcs_merge_tokens(PG_FUNCTION_ARGS)
{
	TcsToken	a;
	TcsToken	b;
	char		buf[TCS_TOKEN_MAXLEN + 1];
	bool		empty_a;
	bool		empty_b;

	require_preloaded();
	/* no token asks for nothing */
	empty_a = PG_ARGISNULL(0) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(0)) == 0;
	empty_b = PG_ARGISNULL(1) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(1)) == 0;
	if (!empty_a)
	{
		parse_token_argument(PG_GETARG_TEXT_PP(0), &a);
		require_known_version(&a);
	}
	if (!empty_b)
	{
		parse_token_argument(PG_GETARG_TEXT_PP(1), &b);
		require_known_version(&b);
	}
	if (empty_a && empty_b)
		PG_RETURN_NULL();
	if (empty_a)
		a = b;
	else if (!empty_b)
		merge_tokens(&a, &b);
	tcs_token_format(&a, buf);
	PG_RETURN_TEXT_P(cstring_to_text(buf));
}

/*
 * Wait without the snapshot that the CALL has, as core's procedures that wait
 * do: an atomic context (a function or a transaction block of a procedure)
 * cannot give it back.
 */
Datum
tcs_wait_for(PG_FUNCTION_ARGS)
{
	CallContext *call = fcinfo->context && IsA(fcinfo->context, CallContext) ?
	(CallContext *) fcinfo->context : NULL;
	TcsToken	token;
	int			max_wait = tcs_guc_max_wait();

	require_preloaded();
	if (PG_ARGISNULL(0) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(0)) == 0)
		PG_RETURN_VOID();
	parse_token_argument(PG_GETARG_TEXT_PP(0), &token);
	if (!PG_ARGISNULL(1))
	{
		int64		us = interval_argument_us(PG_GETARG_INTERVAL_P(1), "max_wait");

		max_wait = (int) Min(us / 1000 + (us % 1000 != 0), PG_INT32_MAX);
		if (tcs_max_wait_limit >= 0)
			max_wait = Min(max_wait, tcs_max_wait_limit);
	}

	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("tcs.wait_for() cannot be used in a transaction with isolation level REPEATABLE READ"),
				 errhint("SET tcs.session_token before the first query of the transaction waits for it.")));
	if (call != NULL && ActiveSnapshotSet())
	{
		/* the portal takes a new one when it needs it */
		if (ActivePortal && ActivePortal->portalSnapshot == GetActiveSnapshot())
			ActivePortal->portalSnapshot = NULL;
		PopActiveSnapshot();
	}
	InvalidateCatalogSnapshot();
	if (call == NULL || ActiveSnapshotSet())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("tcs.wait_for() must be called directly, not within a function or another statement")));

	tcs_gate_wait_for_token(&token, max_wait);
	PG_RETURN_VOID();
}

/* ---- freshness ---- */

/* Answers are for standbys; making them writes WAL out. */
static void
require_replication(const char *function)
{
	require_preloaded();
	if (!superuser() && !has_rolreplication(GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s", function),
				 errdetail("Only roles with the REPLICATION attribute may ask for the read index.")));
}

Datum
tcs_read_index(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = result_desc(fcinfo);
	Datum		values[4];
	bool		nulls[4] = {false};
	char	   *answer;
	TcsAnswerText parsed;

	require_replication("read_index");
	answer = tcs_readindex_answer(TCS_ASK_READ_INDEX);
	if (!tcs_readindex_parse(answer, &parsed))
		elog(ERROR, "could not parse own answer \"%s\"", answer);
	/* a standby answers too, so that the asker can say what is wrong */
	nulls[0] = nulls[1] = parsed.standby;
	values[0] = LSNGetDatum(parsed.lsn);
	values[1] = Int32GetDatum((int32) parsed.timelines[0].tli);
	values[2] = Int64GetDatum((int64) parsed.system_identifier);
	values[3] = CStringGetTextDatum(answer);
	return one_row(desc, lengthof(values), values, nulls);
}

/*
 * quorum_index(start_round): the read index, and what a quorum of synchronous
 * standbys has confirmed; with start_round the primary asks it anew, by a record
 * in WAL.
 */
Datum
tcs_quorum_index(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = result_desc(fcinfo);
	Datum		values[5];
	bool		nulls[5] = {false};
	char	   *answer;
	TcsAnswerText parsed;

	require_replication("quorum_index");
	answer = tcs_readindex_answer(PG_GETARG_BOOL(0) ? TCS_ASK_ROUND : TCS_ASK_QUORUM);
	if (!tcs_readindex_parse(answer, &parsed))
		elog(ERROR, "could not parse own answer \"%s\"", answer);
	nulls[0] = parsed.standby;
	nulls[1] = parsed.standby || parsed.quorum.flushed == InvalidXLogRecPtr;
	nulls[2] = parsed.round == InvalidXLogRecPtr;
	nulls[3] = parsed.standby || parsed.quorum.state == TCS_QUORUM_USABLE;
	values[0] = LSNGetDatum(parsed.lsn);
	values[1] = LSNGetDatum(parsed.quorum.flushed);
	values[2] = LSNGetDatum(parsed.round);
	if (!nulls[3])
		values[3] = CStringGetTextDatum(tcs_quorum_problem(parsed.quorum.state));
	values[4] = CStringGetTextDatum(answer);
	return one_row(desc, lengthof(values), values, nulls);
}

/* Where the staleness stands to tcs.max_staleness. */
static const char *
bound_state(const TcsProof *proof, int64 now)
{
	double		age = (double) (now - proof->fresh_at);
	double		bound = tcs_max_staleness * 1000.0;

	if (proof->fresh_at == 0)
		return "unknown";
	if (age > bound)
		return "over";
	return age >= TCS_NEAR_BOUND * bound ? "near" : "ok";
}

/*
 * What replay does at present.  WAL that has just come is not replayed yet; if it
 * is still not after some seconds, replay does not move.
 */
static const char *
replay_state(const TcsProof *proof, int64 now)
{
	const char *stalled = tcs_replay_stall_reason();

	if (stalled)
		return stalled;
	if (proof->fresh_at != 0 && now - proof->fresh_at > TCS_STANDS_STILL_AFTER &&
		GetWalRcvFlushRecPtr(NULL, NULL) > proof->at.lsn && tcs_fresh_replay_rate() <= 0)
		return TCS_REPLAY_STANDS_STILL;
	return "replaying";
}

Datum
tcs_status(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = result_desc(fcinfo);
	Datum		values[17];
	bool		nulls[17] = {false};
	bool		standby = RecoveryInProgress();
	int64		now = tcs_now();
	TcsContext	context;
	TcsProof	proof;
	TcsLinkInfo link;

	require_preloaded();
	tcs_context_build(&context, NULL, NULL);
	tcs_fresh_get_link(&link);
	values[0] = CStringGetTextDatum(standby ? "standby" : "primary");
	values[1] = CStringGetTextDatum(TCS_VERSION);
	values[2] = Int64GetDatum((int64) context.system_identifier);
	values[3] = Int32GetDatum((int32) context.at.tli);
	if (!standby)
	{
		/* a primary is as fresh as can be, and asks nobody */
		memset(nulls + 4, true, sizeof(nulls) - 4);
		values[10] = CStringGetTextDatum("ok");
		values[14] = CStringGetTextDatum("not needed on a primary");
		values[16] = Int64GetDatum((int64) tcs_stats_late_reports());
		nulls[10] = nulls[14] = nulls[16] = false;
		return one_row(desc, lengthof(values), values, nulls);
	}

	tcs_fresh_prove(NULL, &proof);
	values[4] = LSNGetDatum(proof.at.lsn);
	values[5] = CStringGetTextDatum(replay_state(&proof, now));
	values[6] = LSNGetDatum(context.newest.at.lsn);
	values[7] = Float8GetDatum((now - context.newest.asked_at) / 1000.0);
	values[8] = Float8GetDatum((now - proof.fresh_at) / 1000.0);
	values[9] = Int64GetDatum(context.newest.at.lsn > proof.at.lsn ?
							  (int64) (context.newest.at.lsn - proof.at.lsn) : 0);
	nulls[6] = nulls[7] = nulls[9] = !context.have_newest;
	nulls[8] = proof.fresh_at == 0;
	values[10] = CStringGetTextDatum(bound_state(&proof, now));
	values[11] = CStringGetTextDatum(tcs_link_state_name(link.state));
	values[12] = CStringGetTextDatum(tcs_fresh_link_reason(&link));
	nulls[12] = link.reason[0] == '\0';
	values[13] = Int32GetDatum(link.worker_pid);
	nulls[13] = link.worker_pid == 0;
	values[14] = CStringGetTextDatum(link.worker_pid != 0 ? "running" :
									 "not running: starts again within a second, unless max_worker_processes is too low; see the server log");
	values[15] = Int32GetDatum(tcs_queue_length());
	values[16] = Int64GetDatum((int64) tcs_stats_late_reports());
	return one_row(desc, lengthof(values), values, nulls);
}

/*
 * Can there be linearizable reads, as far as is known without asking anybody?  A
 * standby knows what it was told last.
 */
static bool
quorum_seems_usable(void)
{
	TcsConfirmed confirmed;
	TcsQuorum	quorum;

	if (RecoveryInProgress())
	{
		tcs_fresh_confirmed(&confirmed);
		return confirmed.problem_at <= confirmed.best.asked_at;
	}
	tcs_quorum_look(&quorum);
	return quorum.state == TCS_QUORUM_USABLE && quorum.flushed != InvalidXLogRecPtr;
}

/* Is a standby within tcs.max_lag, the bound of "bounded" in WAL? */
static bool
lag_is_met(const TcsProof *proof)
{
	TcsRequirement req = {0};
	TcsAnswer	newest;
	bool		have_newest = tcs_fresh_newest(&newest);

	tcs_requirement_add_lag(&req, have_newest, &newest,
							tcs_max_lag < 0 ? -1 : (int64) tcs_max_lag * 1024, proof->at);
	return tcs_requirement_met(&req, proof);
}

/*
 * Would a read at this level be served here without waiting for replay?  For
 * "strong" a question to the primary cannot be avoided; the last answer tells
 * whether one would be answered.
 */
Datum
tcs_can_serve(PG_FUNCTION_ARGS)
{
	TcsLevel	level;
	int64		bound = (int64) tcs_max_staleness * 1000;
	int64		now = tcs_now();
	char	   *name;
	TcsProof	proof;
	TcsLinkInfo link;

	require_preloaded();
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!tcs_level_by_name(name, &level))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid read level: \"%s\"", name),
				 errhint("Available levels: %s.", tcs_level_names_hint())));
	if (!PG_ARGISNULL(1))
		bound = interval_argument_us(PG_GETARG_INTERVAL_P(1), "max_staleness");

	if (!tcs_gate_token_is_reached(level))
		PG_RETURN_BOOL(false);
	if (tcs_gate_token_is_missing(level))
	{
		if (tcs_without_token == TCS_WITHOUT_TOKEN_ERROR)
			PG_RETURN_BOOL(false);
		level = TCS_LEVEL_STRONG;
	}
	if (level == TCS_LEVEL_LINEARIZABLE && !quorum_seems_usable())
		PG_RETURN_BOOL(false);
	if (!RecoveryInProgress())
		PG_RETURN_BOOL(true);
	tcs_fresh_prove(NULL, &proof);
	tcs_fresh_get_link(&link);
	switch (level)
	{
		case TCS_LEVEL_BOUNDED:
			PG_RETURN_BOOL(proof.fresh_at != 0 && now - proof.fresh_at <= bound &&
						   lag_is_met(&proof));
		case TCS_LEVEL_STRONG:
		case TCS_LEVEL_LINEARIZABLE:
			PG_RETURN_BOOL(link.state == TCS_LINK_UP && proof.fresh_at != 0 &&
						   now - proof.fresh_at <=
						   Max((int64) tcs_probe_interval * 2000, TCS_SILENT_AFTER));
		default:
			/* depends on the session's token alone */
			PG_RETURN_BOOL(true);
	}
}

static char *
describe_outcome(const TcsLastRead *last)
{
	switch (last->outcome)
	{
		case TCS_OUTCOME_NONE:
			break;
		case TCS_OUTCOME_AT_ONCE:
			return pstrdup("served at once");
		case TCS_OUTCOME_REDIRECTED:
			return "redirected";
		case TCS_OUTCOME_WAITED:
			return pstrdup("served after a wait");
		case TCS_OUTCOME_DOWNGRADED:
			return psprintf("downgraded to %s", tcs_level_name(last->served_at));
		case TCS_OUTCOME_ERROR:
			return pstrdup("refused");
	}
	return NULL;
}

/* Why it was not served at once, and why the primary did not serve it. */
static char *
describe_reason(const TcsLastRead *last)
{
	if (last->redirect_failure[0] == '\0')
		return pstrdup(tcs_reason_name(last->reason));
	return psprintf("%s%snot redirected: %s",
					last->reason == TCS_REASON_NONE ? "" : tcs_reason_name(last->reason),
					last->reason == TCS_REASON_NONE ? "" : "; ",
					last->redirect_failure);
}

Datum
tcs_last_read(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = result_desc(fcinfo);
	TcsLastRead facts;
	const TcsLastRead *last = &facts;
	Datum		values[10];
	bool		nulls[10] = {false};

	require_preloaded();
	tcs_last_read_get(&facts);
	if (last->outcome == TCS_OUTCOME_NONE)
	{
		memset(nulls, true, sizeof(nulls));
		return one_row(desc, lengthof(values), values, nulls);
	}
	values[0] = CStringGetTextDatum(tcs_level_name(last->level));
	values[1] = CStringGetTextDatum(tcs_choice_source(last->by, last->level_source, last->rule));
	values[2] = LSNGetDatum(last->needed.lsn);
	nulls[2] = last->needed.lsn == InvalidXLogRecPtr;
	values[3] = LSNGetDatum(last->proof.at.lsn);
	nulls[3] = last->proof.at.lsn == InvalidXLogRecPtr;
	values[4] = Int32GetDatum((int32) last->proof.at.tli);
	nulls[4] = last->proof.at.tli == 0;
	values[5] = Float8GetDatum(Max(last->at - last->proof.fresh_at, 0) / 1000.0);
	nulls[5] = last->proof.fresh_at == 0 || last->at == 0;
	values[6] = Float8GetDatum(last->waited_us / 1000.0);
	values[7] = CStringGetTextDatum(describe_outcome(last));
	values[8] = CStringGetTextDatum(describe_reason(last));
	nulls[8] = last->reason == TCS_REASON_NONE && last->redirect_failure[0] == '\0';
	values[9] = CStringGetTextDatum(last->note);
	nulls[9] = last->note[0] == '\0';
	return one_row(desc, lengthof(values), values, nulls);
}

/* ---- statistics ---- */

static uint64
sum_downgraded(const TcsLevelStats *stats)
{
	uint64		sum = 0;

	for (int i = 0; i < TCS_LEVEL_COUNT; i++)
		for (int j = 0; j < TCS_REASON_COUNT; j++)
			sum += stats->downgraded[i][j];
	return sum;
}

static void
put_row(FunctionCallInfo fcinfo, int known, Datum *values, bool *nulls)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	add_unknown_columns(rsinfo->setDesc, known, &values, &nulls);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
tcs_stat_reads(PG_FUNCTION_ARGS)
{
	TcsLevelStats stats[TCS_LEVEL_COUNT];
	TimestampTz reset_time;

	require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	tcs_stats_get(stats, &reset_time);
	for (int level = 0; level < TCS_LEVEL_COUNT; level++)
	{
		const TcsLevelStats *s = &stats[level];
		uint64		downgraded = sum_downgraded(s);
		uint64		not_at_once = s->waited + s->errors + downgraded + s->redirected;
		Datum		buckets[TCS_HISTOGRAM_BUCKETS];
		Datum		values[12];
		bool		nulls[12] = {false};

		for (int i = 0; i < TCS_HISTOGRAM_BUCKETS; i++)
			buckets[i] = Int64GetDatum((int64) s->histogram[i]);
		values[0] = CStringGetTextDatum(tcs_level_name((TcsLevel) level));
		values[1] = Int64GetDatum((int64) s->reads);
		values[2] = Int64GetDatum((int64) (s->reads > not_at_once ? s->reads - not_at_once : 0));
		values[3] = Int64GetDatum((int64) s->waited);
		values[4] = PointerGetDatum(construct_array(buckets, TCS_HISTOGRAM_BUCKETS,
													INT8OID, sizeof(int64),
													FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
		values[5] = Int64GetDatum((int64) s->timed_out);
		values[6] = Int64GetDatum((int64) downgraded);
		values[7] = Int64GetDatum((int64) s->errors);
		values[8] = Int64GetDatum((int64) s->redirected);
		values[9] = TimestampTzGetDatum(reset_time);
		values[10] = Int64GetDatum((int64) s->reads_without_token);
		values[11] = Int64GetDatum((int64) s->redirects_failed);
		put_row(fcinfo, lengthof(values), values, nulls);
	}
	return (Datum) 0;
}

Datum
tcs_stat_downgrades(PG_FUNCTION_ARGS)
{
	TcsLevelStats stats[TCS_LEVEL_COUNT];
	TimestampTz reset_time;

	require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	tcs_stats_get(stats, &reset_time);
	for (int level = 0; level < TCS_LEVEL_COUNT; level++)
		for (int target = 0; target < TCS_LEVEL_COUNT; target++)
			for (int reason = 0; reason < TCS_REASON_COUNT; reason++)
			{
				uint64		reads = stats[level].downgraded[target][reason];
				Datum		values[4];
				bool		nulls[4] = {false};

				if (reads == 0)
					continue;
				values[0] = CStringGetTextDatum(tcs_level_name((TcsLevel) level));
				values[1] = CStringGetTextDatum(tcs_level_name((TcsLevel) target));
				values[2] = CStringGetTextDatum(tcs_reason_name((TcsReason) reason));
				values[3] = Int64GetDatum((int64) reads);
				put_row(fcinfo, lengthof(values), values, nulls);
			}
	return (Datum) 0;
}

Datum
tcs_stat_reads_reset(PG_FUNCTION_ARGS)
{
	require_preloaded();
	tcs_stats_reset();
	PG_RETURN_VOID();
}

/* ---- standbys ---- */

Datum
tcs_askers(PG_FUNCTION_ARGS)
{
	TcsAskerInfo infos[64];
	bool		may_see_names = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	int			n;

	require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	n = tcs_readindex_askers(infos, lengthof(infos));
	for (int i = 0; i < n; i++)
	{
		Datum		values[8];
		bool		nulls[8] = {false};

		values[0] = Int32GetDatum(infos[i].pid);
		values[1] = CStringGetTextDatum(infos[i].application_name);
		values[2] = CStringGetTextDatum(infos[i].client_addr);
		nulls[1] = nulls[2] = !may_see_names;
		values[3] = CStringGetTextDatum(infos[i].library);
		values[4] = Int32GetDatum(infos[i].token_version);
		values[5] = TimestampTzGetDatum(infos[i].last_asked);
		values[6] = LSNGetDatum(infos[i].last_answer);
		values[7] = Int64GetDatum((int64) infos[i].questions);
		put_row(fcinfo, lengthof(values), values, nulls);
	}
	return (Datum) 0;
}

Datum
tcs_asker_staleness(PG_FUNCTION_ARGS)
{
	int64		staleness;

	require_preloaded();
	if (!tcs_readindex_asker_staleness(PG_GETARG_INT32(0), PG_GETARG_LSN(1),
									   &staleness))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(staleness / 1000.0);
}

/* redirects(): the connections of this node to its redirect server. */
Datum
tcs_redirects(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = result_desc(fcinfo);
	TcsBudgetCounts counts;
	Datum		values[7];
	bool		nulls[7] = {false};

	require_preloaded();
	tcs_budget_get_counts(&counts);
	values[0] = CStringGetTextDatum(tcs_redirect_server);
	nulls[0] = !tcs_server_exists();
	values[1] = Int32GetDatum(counts.open);
	values[2] = Int32GetDatum(counts.idle);
	values[3] = Int32GetDatum(tcs_max_redirect_connections);
	values[4] = Int64GetDatum((int64) counts.connected);
	values[5] = Int64GetDatum((int64) counts.failed);
	values[6] = Int64GetDatum((int64) counts.over_budget);
	return one_row(desc, lengthof(values), values, nulls);
}
