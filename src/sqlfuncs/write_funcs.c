/*-------------------------------------------------------------------------
 *
 * write_funcs.c
 *	  SQL-callable functions about writes: tcs.quorum(), tcs.stat_writes.
 *
 * NOTES
 *	  tcs.quorum() speaks of n servers, this primary and the standbys that
 *	  synchronous_standby_names lists, of which w have a commit on disk when it
 *	  is acknowledged.  If k standbys have to confirm, w = k + 1.  A read on r of
 *	  them includes the commit for certain, without any wait, if r and those that
 *	  show it are more than n: of those who were asked, one is among those who
 *	  have it.
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
#include "nodes/execnodes.h"
#include "replication/syncrep.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "primary/quorum.h"
#include "write/write_level.h"

PG_FUNCTION_INFO_V1(tcs_quorum_fn);
PG_FUNCTION_INFO_V1(tcs_stat_writes);
PG_FUNCTION_INFO_V1(tcs_stat_writes_reset);

/* What is said of one write level. */
typedef struct LevelFacts
{
	int			w;				/* have it on disk; -1: nobody can tell */
	int			visible_on;		/* show it; -1 likewise */
	int			n;				/* servers; -1 likewise */
	int			r;				/* to be read; -1 likewise */
	const char *survives;
	const char *problem;
	const char *reads;
} LevelFacts;

/* Refuse to work in a server that has loaded us for pg_upgrade only. */
static void
require_preloaded(void)
{
	if (IsBinaryUpgrade)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("tcs must be loaded via shared_preload_libraries")));
}

/*
 * Append a row.  Columns that a later version of the SQL script has added are
 * NULL: during an upgrade a standby may have them before it has the library.
 */
static void
put_row(FunctionCallInfo fcinfo, int known, const Datum *values, const bool *nulls)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int			natts = Max(result->setDesc->natts, known);
	Datum	   *all_values = palloc0(natts * sizeof(Datum));
	bool	   *all_nulls = palloc(natts * sizeof(bool));

	memset(all_nulls, true, natts * sizeof(bool));
	memcpy(all_values, values, known * sizeof(Datum));
	memcpy(all_nulls, nulls, known * sizeof(bool));
	tuplestore_putvalues(result->setResult, result->setDesc, all_values, all_nulls);
}

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

/* By the configuration; config is NULL if there are no synchronous standbys. */
static void
describe_level(TcsWriteLevel level, const TcsQuorumConfig *config, LevelFacts *facts)
{
	facts->w = level == TCS_WRITE_EVENTUAL ? 0 : 1;
	facts->visible_on = 1;
	facts->n = config == NULL || config->standbys < 0 ? -1 : config->standbys + 1;
	facts->r = -1;
	facts->survives = NULL;
	facts->reads = "the primary; a standby with the token, or at read level \"strong\"";
	facts->problem = tcs_write_problem(level);

	if (level < TCS_WRITE_QUORUM)
		facts->survives = survives_alone(level);
	else if (config == NULL || facts->problem != NULL)
	{
		facts->w = facts->visible_on = -1;
		facts->reads = NULL;
	}
	else
	{
		facts->w = config->needed + 1;
		facts->survives = survives_with_standbys(facts->w, facts->n);
		if (level == TCS_WRITE_STRONG)
		{
			facts->visible_on = facts->w;
			facts->reads = reads_after_strong(config, facts->w, facts->n);
		}
		if (!RecoveryInProgress() && config->connected < config->needed)
			facts->problem = psprintf("Of the %d standbys that have to confirm, %d are connected; commits wait for the others.",
									  config->needed, config->connected);
	}
	if (facts->n >= 0 && facts->visible_on >= 0)
		facts->r = Max(facts->n - facts->visible_on + 1, 1);
	if (RecoveryInProgress())
		facts->problem = facts->problem == NULL ?
			"This server is a standby and commits nothing; this is what its own settings give once it is promoted." :
			psprintf("This server is a standby and commits nothing; nor would it give this once it is promoted: %s",
					 facts->problem);
}

/* Put a text or a number that may be unknown into a row. */
static Datum
text_or_null(const char *value, bool *null)
{
	*null = value == NULL;
	return value == NULL ? (Datum) 0 : CStringGetTextDatum(value);
}

static Datum
number_or_null(int value, bool *null)
{
	*null = value < 0;
	return Int32GetDatum(value);
}

Datum
tcs_quorum_fn(PG_FUNCTION_ARGS)
{
	TcsQuorumConfig config;
	bool		has_standbys;

	require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	has_standbys = tcs_quorum_config(&config);
	for (int level = TCS_WRITE_EVENTUAL; level < TCS_WRITE_LEVEL_COUNT; level++)
	{
		LevelFacts	facts;
		Datum		values[10];
		bool		nulls[10] = {false};

		describe_level((TcsWriteLevel) level, has_standbys ? &config : NULL, &facts);
		values[0] = CStringGetTextDatum(tcs_write_level_name((TcsWriteLevel) level));
		values[1] = CStringGetTextDatum(tcs_write_synchronous_commit((TcsWriteLevel) level));
		values[2] = number_or_null(facts.w, &nulls[2]);
		values[3] = number_or_null(facts.n, &nulls[3]);
		values[4] = text_or_null(facts.survives, &nulls[4]);
		values[5] = BoolGetDatum(facts.problem == NULL);
		values[6] = text_or_null(facts.problem, &nulls[6]);
		values[7] = number_or_null(facts.visible_on, &nulls[7]);
		values[8] = number_or_null(facts.r, &nulls[8]);
		values[9] = text_or_null(facts.reads, &nulls[9]);
		put_row(fcinfo, lengthof(values), values, nulls);
	}
	return (Datum) 0;
}

/* ---- statistics ---- */

Datum
tcs_stat_writes(PG_FUNCTION_ARGS)
{
	TcsWriteStats sums[TCS_WRITE_LEVEL_COUNT];
	TimestampTz reset_time;

	require_preloaded();
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
		put_row(fcinfo, lengthof(values), values, nulls);
	}
	return (Datum) 0;
}

Datum
tcs_stat_writes_reset(PG_FUNCTION_ARGS)
{
	require_preloaded();
	tcs_write_stats_reset();
	PG_RETURN_VOID();
}
