/*-------------------------------------------------------------------------
 *
 * stat_funcs.c
 *	  SQL-callable functions that count: reads, standbys, redirects.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "base/interval.h"
#include "base/level.h"
#include "base/settings.h"
#include "base/stats.h"
#include "primary/lease_grant.h"
#include "primary/read_index.h"
#include "redirect/connection_budget.h"
#include "redirect/redirect_server.h"
#include "sqlfuncs/rows.h"
#include "standby/lease_held.h"

PG_FUNCTION_INFO_V1(tcs_stat_reads);
PG_FUNCTION_INFO_V1(tcs_stat_downgrades);
PG_FUNCTION_INFO_V1(tcs_stat_reads_reset);
PG_FUNCTION_INFO_V1(tcs_askers);
PG_FUNCTION_INFO_V1(tcs_asker_staleness);
PG_FUNCTION_INFO_V1(tcs_redirects);
PG_FUNCTION_INFO_V1(tcs_leases);

/* ---- reads ---- */

static uint64
sum_downgraded(const TcsLevelStats *stats)
{
	uint64		sum = 0;

	for (int i = 0; i < TCS_LEVEL_COUNT; i++)
		for (int j = 0; j < TCS_REASON_COUNT; j++)
			sum += stats->downgraded[i][j];
	return sum;
}

Datum
tcs_stat_reads(PG_FUNCTION_ARGS)
{
	TcsLevelStats stats[TCS_LEVEL_COUNT];
	TimestampTz reset_time;

	tcs_require_preloaded();
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
		values[2] = Int64GetDatum((int64) s->reads_without_token);
		values[3] = Int64GetDatum((int64) (s->reads > not_at_once ? s->reads - not_at_once : 0));
		values[4] = Int64GetDatum((int64) s->waited);
		values[5] = PointerGetDatum(construct_array(buckets, TCS_HISTOGRAM_BUCKETS,
													INT8OID, sizeof(int64),
													FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
		values[6] = Int64GetDatum((int64) s->timed_out);
		values[7] = Int64GetDatum((int64) downgraded);
		values[8] = Int64GetDatum((int64) s->errors);
		values[9] = Int64GetDatum((int64) s->redirected);
		values[10] = Int64GetDatum((int64) s->redirects_failed);
		values[11] = TimestampTzGetDatum(reset_time);
		tcs_put_row(fcinfo, lengthof(values), values, nulls);
	}
	return (Datum) 0;
}

Datum
tcs_stat_downgrades(PG_FUNCTION_ARGS)
{
	TcsLevelStats stats[TCS_LEVEL_COUNT];
	TimestampTz reset_time;

	tcs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	tcs_stats_get(stats, &reset_time);
	for (int level = 0; level < TCS_LEVEL_COUNT; level++)
		for (int target = 0; target < TCS_LEVEL_COUNT; target++)
			for (int reason = 0; reason < TCS_REASON_COUNT; reason++)
			{
				uint64		reads = stats[level].downgraded[target][reason];
				Datum		values[5];
				bool		nulls[5] = {false};

				if (reads == 0)
					continue;
				values[0] = CStringGetTextDatum(tcs_level_name((TcsLevel) level));
				values[1] = CStringGetTextDatum(tcs_level_name((TcsLevel) target));
				values[2] = CStringGetTextDatum(tcs_reason_name((TcsReason) reason));
				values[3] = Int64GetDatum((int64) reads);
				values[4] = TimestampTzGetDatum(reset_time);
				tcs_put_row(fcinfo, lengthof(values), values, nulls);
			}
	return (Datum) 0;
}

Datum
tcs_stat_reads_reset(PG_FUNCTION_ARGS)
{
	tcs_require_preloaded();
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

	tcs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	n = tcs_readindex_askers(infos, lengthof(infos));
	for (int i = 0; i < n; i++)
	{
		Datum		values[8];
		bool		nulls[8] = {false};

		values[0] = Int32GetDatum(infos[i].pid);
		values[1] = CStringGetTextDatum(infos[i].application_name);
		nulls[1] = !may_see_names;
		nulls[2] = !may_see_names || infos[i].client_addr[0] == '\0';
		if (!nulls[2])
			values[2] = DirectFunctionCall1(inet_in, CStringGetDatum(infos[i].client_addr));
		values[3] = CStringGetTextDatum(infos[i].library);
		values[4] = Int32GetDatum(infos[i].token_version);
		values[5] = TimestampTzGetDatum(infos[i].last_asked);
		values[6] = LSNGetDatum(infos[i].last_answer);
		values[7] = Int64GetDatum((int64) infos[i].questions);
		tcs_put_row(fcinfo, lengthof(values), values, nulls);
	}
	return (Datum) 0;
}

Datum
tcs_asker_staleness(PG_FUNCTION_ARGS)
{
	int64		staleness;

	tcs_require_preloaded();
	if (!tcs_readindex_asker_staleness(PG_GETARG_INT32(0), PG_GETARG_LSN(1),
									   &staleness))
		PG_RETURN_NULL();
	PG_RETURN_INTERVAL_P(tcs_interval_of_us(staleness));
}

/* ---- read leases ---- */

/* The one that this standby holds, or not. */
static void
put_own_lease(FunctionCallInfo fcinfo)
{
	TcsHeldInfo held;
	Datum		values[12];
	bool		nulls[12];

	tcs_held_get(&held);
	memset(nulls, true, sizeof(nulls));
	nulls[0] = held.pid == 0;
	values[0] = Int32GetDatum(held.pid);
	nulls[2] = nulls[7] = nulls[8] = nulls[9] = false;
	values[2] = CStringGetTextDatum(tcs_held_state_name(held.state));
	nulls[4] = held.left == 0;
	if (!nulls[4])
		values[4] = IntervalPGetDatum(tcs_interval_of_us(held.left));
	values[7] = Int64GetDatum((int64) held.grants);
	values[8] = Int64GetDatum((int64) held.renewals);
	values[9] = Int64GetDatum((int64) held.lags);
	tcs_put_row(fcinfo, lengthof(values), values, nulls);
}

Datum
tcs_leases(PG_FUNCTION_ARGS)
{
	TcsLeaseHolderInfo infos[TCS_LEASE_HOLDERS];
	bool		may_see_names = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	int			n;

	tcs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	if (RecoveryInProgress())
	{
		put_own_lease(fcinfo);
		return (Datum) 0;
	}
	n = tcs_lease_holders(infos, lengthof(infos));
	for (int i = 0; i < n; i++)
	{
		Datum		values[12];
		bool		nulls[12] = {false};

		values[0] = Int32GetDatum(infos[i].pid);
		nulls[0] = infos[i].pid == 0;
		values[1] = CStringGetTextDatum(infos[i].application_name);
		nulls[1] = !may_see_names;
		values[2] = CStringGetTextDatum("granted");
		values[3] = TimestampTzGetDatum(infos[i].since);
		values[4] = IntervalPGetDatum(tcs_interval_of_us(infos[i].left));
		values[5] = LSNGetDatum(infos[i].told);
		nulls[5] = infos[i].told == InvalidXLogRecPtr;
		values[6] = LSNGetDatum(infos[i].reached);
		nulls[6] = infos[i].reached == InvalidXLogRecPtr;
		values[7] = Int64GetDatum((int64) infos[i].grants);
		values[8] = Int64GetDatum((int64) infos[i].renewals);
		nulls[9] = true;
		values[10] = Int64GetDatum((int64) infos[i].commits);
		values[11] = Float8GetDatum(infos[i].longest_wait / 1000.0);
		tcs_put_row(fcinfo, lengthof(values), values, nulls);
	}
	return (Datum) 0;
}

/* ---- redirects ---- */

/* The connections of this node to its redirect server. */
Datum
tcs_redirects(PG_FUNCTION_ARGS)
{
	TcsBudgetCounts counts;
	Datum		values[7];
	bool		nulls[7] = {false};

	tcs_require_preloaded();
	tcs_budget_get_counts(&counts);
	values[0] = CStringGetTextDatum(tcs_redirect_server);
	nulls[0] = !tcs_server_exists();
	values[1] = Int32GetDatum(counts.open);
	values[2] = Int32GetDatum(counts.idle);
	values[3] = Int32GetDatum(tcs_max_redirect_connections);
	values[4] = Int64GetDatum((int64) counts.connected);
	values[5] = Int64GetDatum((int64) counts.failed);
	values[6] = Int64GetDatum((int64) counts.over_budget);
	return tcs_one_row(fcinfo, lengthof(values), values, nulls);
}
