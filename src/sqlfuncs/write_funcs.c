/*-------------------------------------------------------------------------
 *
 * write_funcs.c
 *	  SQL-callable functions about writes: tcs.quorum, tcs.stat_writes.
 *
 * NOTES
 *	  tcs.quorum counts this primary and the standbys that
 *	  synchronous_standby_names lists.  If k standbys have to confirm, k + 1
 *	  servers have a commit on disk when it is acknowledged.  If a read is on r
 *	  servers, and k + 1 + r is more than there are, then one of the r has the
 *	  commit for certain.
 *
 *	  Of FIRST k the same is said as of ANY k: which standbys confirmed depends on
 *	  who was connected then, and that may be any k of the list.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "primary/quorum.h"
#include "sqlfuncs/rows.h"
#include "write/write_level.h"

PG_FUNCTION_INFO_V1(tcs_quorum_fn);
PG_FUNCTION_INFO_V1(tcs_stat_writes);
PG_FUNCTION_INFO_V1(tcs_stat_writes_reset);

/* What is said of one write level.  Numbers of servers are -1 if nobody can tell. */
typedef struct LevelFacts
{
	int			servers;
	int			durable;		/* have it on disk */
	int			visible;		/* show it */
	int			to_read;		/* include it for certain */
	const char *survives;		/* a word; NULL: nobody can tell */
	const char *survives_detail;
	const char *problem;
	const char *read_detail;
} LevelFacts;

/* ---- what each level gives ---- */

static const char *
survives_alone(TcsWriteLevel level)
{
	if (level == TCS_WRITE_EVENTUAL)
		return "no crash: commits of the last moments are lost with the server process";
	if (!enableFsync)
		return "crash of the server process; not of its operating system, since fsync is off";
	return "crash of the server process and of its operating system; not the loss of the primary";
}

/* With k of n - 1 standbys: any n - k of them include one that confirmed. */
static const char *
survives_with_standbys(int w, int n)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, enableFsync ?
						   "crash of the server process and of its operating system; " :
						   "crash of the server process, not of its operating system, since fsync is off; ");
	if (n < 0)
		appendStringInfo(&buf, "loss of the primary, if a standby is promoted that is among the %d that confirmed",
						 w - 1);
	else if (w >= n)
		appendStringInfo(&buf, "loss of the primary, whichever of the %d standbys is promoted; loss of any %d of the %d servers",
						 n - 1, n - 1, n);
	else
		appendStringInfo(&buf, "loss of the primary, if the most advanced of any %d of the %d standbys is promoted; loss of any %d of the %d servers",
						 n - w + 1, n - 1, w - 1, n);
	return buf.data;
}

/* Where the effect of remote_apply can be seen. */
static const char *
reads_after_strong(const TcsQuorumConfig *config, int w, int n)
{
	if (n >= 0 && w >= n)
		return psprintf("every one of the %d servers", n);
	if (n < 0)
		return psprintf("the primary, and the %d standbys that confirmed, whichever they were", w - 1);
	if (config->first)
		return psprintf("the primary, and those %d of the %d standbys that came first in the list of those connected",
						w - 1, n - 1);
	return psprintf("the primary, and %d of the %d standbys, whichever they were", w - 1, n - 1);
}

/* What a commit that no standby confirms survives. */
static const char *
survives_alone_name(TcsWriteLevel level)
{
	if (level == TCS_WRITE_EVENTUAL)
		return "nothing";
	return enableFsync ? "system_crash" : "server_crash";
}

/* On a standby: nothing is committed here, whatever the configuration is. */
static const char *
problem_of_standby(const char *problem)
{
	if (problem == NULL)
		return "This server is a standby and commits nothing; this is what its own settings give once it is promoted.";
	return psprintf("This server is a standby and commits nothing. Once it is promoted, the level is not available either: %s",
					problem);
}

/* By the configuration; config is NULL if there are no synchronous standbys. */
static void
describe_level(TcsWriteLevel level, const TcsQuorumConfig *config, LevelFacts *facts)
{
	facts->durable = level == TCS_WRITE_EVENTUAL ? 0 : 1;
	facts->visible = 1;
	facts->servers = config == NULL || config->standbys < 0 ? -1 : config->standbys + 1;
	facts->to_read = -1;
	facts->survives = facts->survives_detail = NULL;
	facts->read_detail = "the primary; a standby with the token, or at read level \"strong\"";
	facts->problem = tcs_write_problem(level);

	if (level < TCS_WRITE_QUORUM)
	{
		facts->survives = survives_alone_name(level);
		facts->survives_detail = survives_alone(level);
	}
	else if (config == NULL || facts->problem != NULL)
	{
		facts->durable = facts->visible = -1;
		facts->read_detail = NULL;
	}
	else
	{
		facts->durable = config->needed + 1;
		facts->survives = "primary_loss";
		facts->survives_detail = survives_with_standbys(facts->durable, facts->servers);
		if (level == TCS_WRITE_STRONG)
		{
			facts->visible = facts->durable;
			facts->read_detail = reads_after_strong(config, facts->durable, facts->servers);
		}
		if (!RecoveryInProgress() && config->connected < config->needed)
			facts->problem = psprintf("Of the %d standbys that have to confirm, %d are connected; commits wait for the others.",
									  config->needed, config->connected);
	}
	if (facts->servers >= 0 && facts->visible >= 0)
		facts->to_read = Max(facts->servers - facts->visible + 1, 1);
	if (RecoveryInProgress())
		facts->problem = problem_of_standby(facts->problem);
}

Datum
tcs_quorum_fn(PG_FUNCTION_ARGS)
{
	TcsQuorumConfig config;
	bool		has_standbys;

	tcs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	has_standbys = tcs_quorum_config(&config);
	for (int level = TCS_WRITE_EVENTUAL; level < TCS_WRITE_LEVEL_COUNT; level++)
	{
		LevelFacts	facts;
		Datum		values[11];
		bool		nulls[11] = {false};

		describe_level((TcsWriteLevel) level, has_standbys ? &config : NULL, &facts);
		values[0] = CStringGetTextDatum(tcs_write_level_name((TcsWriteLevel) level));
		values[1] = CStringGetTextDatum(tcs_write_synchronous_commit((TcsWriteLevel) level));
		values[2] = BoolGetDatum(facts.problem == NULL);
		values[3] = tcs_text_or_null(facts.problem, &nulls[3]);
		values[4] = tcs_count_or_null(facts.servers, &nulls[4]);
		values[5] = tcs_count_or_null(facts.durable, &nulls[5]);
		values[6] = tcs_count_or_null(facts.visible, &nulls[6]);
		values[7] = tcs_count_or_null(facts.to_read, &nulls[7]);
		values[8] = tcs_text_or_null(facts.survives, &nulls[8]);
		values[9] = tcs_text_or_null(facts.survives_detail, &nulls[9]);
		values[10] = tcs_text_or_null(facts.read_detail, &nulls[10]);
		tcs_put_row(fcinfo, lengthof(values), values, nulls);
	}
	return (Datum) 0;
}

/* ---- statistics ---- */

Datum
tcs_stat_writes(PG_FUNCTION_ARGS)
{
	TcsWriteStats sums[TCS_WRITE_LEVEL_COUNT];
	TimestampTz reset_time;

	tcs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	tcs_write_stats_get(sums, &reset_time);
	for (int level = 0; level < TCS_WRITE_LEVEL_COUNT; level++)
	{
		Datum		values[6];
		bool		nulls[6] = {false};

		values[0] = CStringGetTextDatum(tcs_write_level_name((TcsWriteLevel) level));
		values[1] = Int64GetDatum((int64) sums[level].commits);
		values[2] = Int64GetDatum((int64) sums[level].waited);
		values[3] = Int64GetDatum((int64) sums[level].cancelled);
		values[4] = Int64GetDatum((int64) sums[level].refused);
		values[5] = TimestampTzGetDatum(reset_time);
		/* commits without a level are not counted */
		nulls[1] = nulls[2] = nulls[4] = level == TCS_WRITE_DEFAULT;
		tcs_put_row(fcinfo, lengthof(values), values, nulls);
	}
	return (Datum) 0;
}

Datum
tcs_stat_writes_reset(PG_FUNCTION_ARGS)
{
	tcs_require_preloaded();
	tcs_write_stats_reset();
	PG_RETURN_VOID();
}
