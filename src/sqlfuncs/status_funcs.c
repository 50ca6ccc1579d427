/*-------------------------------------------------------------------------
 *
 * status_funcs.c
 *	  SQL-callable functions about freshness: tcs.status, tcs.last_read, can_serve().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/walreceiver.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "base/interval.h"
#include "base/level.h"
#include "base/settings.h"
#include "base/stats.h"
#include "base/version.h"
#include "gate/context.h"
#include "gate/gate.h"
#include "primary/quorum.h"
#include "sqlfuncs/rows.h"
#include "standby/freshness.h"
#include "standby/replay.h"
#include "standby/wait_queue.h"

/* The bound is "near" from this part of it on. */
#define TCS_NEAR_BOUND		0.8

/* WAL is not replayed this long after it came, in us: replay stands still. */
#define TCS_STANDS_STILL_AFTER	3000000

/* The primary is silent without an answer for this long, in us, whatever the probe interval. */
#define TCS_SILENT_AFTER	1000000

PG_FUNCTION_INFO_V1(tcs_status);
PG_FUNCTION_INFO_V1(tcs_can_serve);
PG_FUNCTION_INFO_V1(tcs_last_read);

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
static TcsReplayState
replay_state(const TcsProof *proof, int64 now)
{
	TcsReplayState state = tcs_replay_state();

	if (state == TCS_REPLAY_GOES_ON &&
		proof->fresh_at != 0 && now - proof->fresh_at > TCS_STANDS_STILL_AFTER &&
		GetWalRcvFlushRecPtr(NULL, NULL) > proof->at.lsn && tcs_fresh_replay_rate() <= 0)
		return TCS_REPLAY_NOT_ADVANCING;
	return state;
}

/* Columns of tcs.status. */
enum
{
	STATUS_ROLE,
	STATUS_LIBRARY_VERSION,
	STATUS_SYSTEM_IDENTIFIER,
	STATUS_TIMELINE_ID,
	STATUS_REPLAY_LSN,
	STATUS_REPLAY_STATE,
	STATUS_REPLAY_DETAIL,
	STATUS_PRIMARY_LSN,
	STATUS_LAST_ANSWER_AGE,
	STATUS_STALENESS,
	STATUS_LAG_BYTES,
	STATUS_BOUND_STATE,
	STATUS_LINK_STATE,
	STATUS_LINK_DETAIL,
	STATUS_WORKER_PID,
	STATUS_WORKER_STATE,
	STATUS_WAITING_SESSIONS,
	STATUS_LATE_TOKEN_REPORTS,
	STATUS_COLUMNS
};

/* What only a standby has: its replay, and its link to the primary. */
static void
fill_status_of_standby(const TcsContext *context, Datum *values, bool *nulls)
{
	int64		now = tcs_now();
	TcsReplayState state;
	TcsProof	proof;
	TcsLinkInfo link;

	tcs_fresh_get_link(&link);
	tcs_fresh_prove(NULL, &proof);
	state = replay_state(&proof, now);
	values[STATUS_REPLAY_LSN] = LSNGetDatum(proof.at.lsn);
	values[STATUS_REPLAY_STATE] = CStringGetTextDatum(tcs_replay_state_name(state));
	values[STATUS_REPLAY_DETAIL] = tcs_text_or_null(tcs_replay_state_detail(state),
													&nulls[STATUS_REPLAY_DETAIL]);
	if (context->have_newest)
	{
		XLogRecPtr	told = context->newest.at.lsn;

		values[STATUS_PRIMARY_LSN] = LSNGetDatum(told);
		values[STATUS_LAST_ANSWER_AGE] = IntervalPGetDatum(tcs_interval_of_us(now - context->newest.asked_at));
		values[STATUS_LAG_BYTES] = Int64GetDatum(told > proof.at.lsn ? (int64) (told - proof.at.lsn) : 0);
	}
	nulls[STATUS_PRIMARY_LSN] = nulls[STATUS_LAST_ANSWER_AGE] =
		nulls[STATUS_LAG_BYTES] = !context->have_newest;
	nulls[STATUS_STALENESS] = proof.fresh_at == 0;
	if (proof.fresh_at != 0)
		values[STATUS_STALENESS] = IntervalPGetDatum(tcs_interval_of_us(now - proof.fresh_at));
	values[STATUS_BOUND_STATE] = CStringGetTextDatum(bound_state(&proof, now));
	values[STATUS_LINK_STATE] = CStringGetTextDatum(tcs_link_state_name(link.state));
	nulls[STATUS_LINK_DETAIL] = link.reason[0] == '\0';
	if (link.reason[0] != '\0')
		values[STATUS_LINK_DETAIL] = CStringGetTextDatum(tcs_fresh_link_reason(&link));
	values[STATUS_WORKER_PID] = Int32GetDatum(link.worker_pid);
	nulls[STATUS_WORKER_PID] = link.worker_pid == 0;
	values[STATUS_WORKER_STATE] =
		CStringGetTextDatum(link.worker_pid != 0 ? "running" : "not_running");
	values[STATUS_WAITING_SESSIONS] = Int32GetDatum(tcs_queue_length());
}

Datum
tcs_status(PG_FUNCTION_ARGS)
{
	Datum		values[STATUS_COLUMNS];
	bool		nulls[STATUS_COLUMNS] = {false};
	bool		standby = RecoveryInProgress();
	TcsContext	context;

	tcs_require_preloaded();
	tcs_context_build(&context, NULL, NULL);
	if (standby)
		fill_status_of_standby(&context, values, nulls);
	else
	{
		/* a primary is as fresh as can be, and asks nobody */
		memset(nulls, true, sizeof(nulls));
		values[STATUS_BOUND_STATE] = CStringGetTextDatum("ok");
		values[STATUS_WORKER_STATE] = CStringGetTextDatum("not_needed");
		nulls[STATUS_ROLE] = nulls[STATUS_LIBRARY_VERSION] = nulls[STATUS_SYSTEM_IDENTIFIER] =
			nulls[STATUS_TIMELINE_ID] = nulls[STATUS_BOUND_STATE] = nulls[STATUS_WORKER_STATE] =
			nulls[STATUS_LATE_TOKEN_REPORTS] = false;
	}
	values[STATUS_ROLE] = CStringGetTextDatum(standby ? "standby" : "primary");
	values[STATUS_LIBRARY_VERSION] = CStringGetTextDatum(tcs_version_string);
	values[STATUS_SYSTEM_IDENTIFIER] = Int64GetDatum((int64) context.system_identifier);
	values[STATUS_TIMELINE_ID] = Int32GetDatum((int32) context.at.tli);
	values[STATUS_LATE_TOKEN_REPORTS] = Int64GetDatum((int64) tcs_stats_late_reports());
	return tcs_one_row(fcinfo, lengthof(values), values, nulls);
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

	tcs_require_preloaded();
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	level = tcs_level_require(name, 0);
	if (!PG_ARGISNULL(1))
		bound = tcs_interval_us(PG_GETARG_INTERVAL_P(1));
	if (bound < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max_staleness\" must not be negative")));

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

static const char *
outcome_name(TcsOutcome outcome)
{
	switch (outcome)
	{
		case TCS_OUTCOME_NONE:
			break;
		case TCS_OUTCOME_AT_ONCE:
		case TCS_OUTCOME_BY_LEASE:
			return "served";
		case TCS_OUTCOME_REDIRECTED:
			return "redirected";
		case TCS_OUTCOME_WAITED:
			return "waited";
		case TCS_OUTCOME_DOWNGRADED:
			return "downgraded";
		case TCS_OUTCOME_ERROR:
			return "refused";
	}
	return NULL;
}

/* A text of the last read; null if it is empty. */
static Datum
detail_or_null(const char *detail, bool *null)
{
	return tcs_text_or_null(detail[0] == '\0' ? NULL : detail, null);
}

Datum
tcs_last_read(PG_FUNCTION_ARGS)
{
	TcsLastRead last;
	TcsLevel	served_at;
	Datum		values[14];
	bool		nulls[14] = {false};

	tcs_require_preloaded();
	tcs_last_read_get(&last);
	if (last.outcome == TCS_OUTCOME_NONE)
	{
		memset(nulls, true, sizeof(nulls));
		return tcs_one_row(fcinfo, lengthof(values), values, nulls);
	}
	values[0] = CStringGetTextDatum(tcs_level_name(last.level));
	values[1] = CStringGetTextDatum(tcs_level_source_name(last.by, last.level_source, last.rule));
	values[2] = Int32GetDatum(last.rule);
	nulls[2] = last.rule == 0 || (last.by != TCS_BY_RULE && last.by != TCS_BY_FLOOR);
	values[3] = LSNGetDatum(last.needed.lsn);
	nulls[3] = last.needed.lsn == InvalidXLogRecPtr;
	values[4] = LSNGetDatum(last.proof.at.lsn);
	nulls[4] = last.proof.at.lsn == InvalidXLogRecPtr;
	values[5] = Int32GetDatum((int32) last.proof.at.tli);
	nulls[5] = last.proof.at.tli == 0;
	nulls[6] = last.proof.fresh_at == 0 || last.at == 0;
	if (!nulls[6])
		values[6] = IntervalPGetDatum(tcs_interval_of_us(Max(last.at - last.proof.fresh_at, 0)));
	values[7] = Float8GetDatum(last.waited_us / 1000.0);
	values[8] = CStringGetTextDatum(outcome_name(last.outcome));
	served_at = last.outcome == TCS_OUTCOME_DOWNGRADED ? last.served_at : last.level;
	values[9] = CStringGetTextDatum(tcs_level_name(served_at));
	nulls[9] = last.outcome == TCS_OUTCOME_ERROR;
	values[10] = CStringGetTextDatum(tcs_reason_name(last.reason));
	nulls[10] = last.reason == TCS_REASON_NONE;
	values[11] = detail_or_null(last.redirect_failure, &nulls[11]);
	values[12] = detail_or_null(last.note, &nulls[12]);
	values[13] = BoolGetDatum(last.outcome == TCS_OUTCOME_BY_LEASE);
	return tcs_one_row(fcinfo, lengthof(values), values, nulls);
}
