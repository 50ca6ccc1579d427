/*-------------------------------------------------------------------------
 *
 * parallel_worker.c
 *	  What functions read in a parallel worker.
 *
 * NOTES
 *	  The statement has passed the gate in the leader, and so have all its workers:
 *	  they have its snapshot and its settings.  What is proved of that snapshot a
 *	  worker does not know.
 *
 *	  A function can have settings of its own, by SET in CREATE FUNCTION.  If it
 *	  asks for more than the statement did, the leader compares that with what is
 *	  proved.  A worker cannot, so it refuses.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"

#include "base/settings.h"
#include "base/xact.h"
#include "gate/context.h"
#include "gate/gate.h"
#include "gate/read.h"
#include "standby/freshness.h"

/* The settings that this worker was started with; a worker serves one statement. */
typedef struct TcsWorkerSettings
{
	bool		known;
	TcsLevel	level;
	int			max_staleness;
	int			max_lag;
	int			without_token;
	TcsToken	token;			/* zeros: none */
} TcsWorkerSettings;

static TcsWorkerSettings leader_settings;

static void
get_settings(TcsWorkerSettings *settings)
{
	const TcsToken *token = tcs_guc_token();

	memset(settings, 0, sizeof(*settings));
	settings->known = true;
	settings->level = (TcsLevel) tcs_read_level;
	settings->max_staleness = tcs_max_staleness;
	settings->max_lag = tcs_max_lag;
	settings->without_token = tcs_without_token;
	if (token != NULL)
		memcpy(&settings->token, token, sizeof(TcsToken));
}

/* A worker begins to execute its part of the plan. */
void
tcs_gate_begin_in_worker(void)
{
	if (!leader_settings.known)
		get_settings(&leader_settings);
}

/* Do the settings in force ask for more than those of the leader's statement? */
static bool
asks_for_more_than_leader(const TcsWorkerSettings *now)
{
	const TcsWorkerSettings *leader = &leader_settings;

	if (tcs_level_rank(now->level) < tcs_level_rank(TCS_LEVEL_READ_YOUR_WRITES))
		return false;
	if (tcs_level_join(now->level, leader->level) != leader->level ||
		memcmp(&now->token, &leader->token, sizeof(TcsToken)) != 0 ||
		(now->without_token != leader->without_token &&
		 now->without_token != TCS_WITHOUT_TOKEN_ACCEPT))
		return true;
	return now->level == TCS_LEVEL_BOUNDED && leader->level == TCS_LEVEL_BOUNDED &&
		(now->max_staleness < leader->max_staleness ||
		 (now->max_lag >= 0 && (leader->max_lag < 0 || now->max_lag < leader->max_lag)));
}

/* Refuse, or serve a level that the leader's statement has. */
static void
refuse_in_worker(TcsRead *read, TcsLevel weakest_unproven)
{
	TcsUnmet   *facts = &read->facts;
	TcsLevel	served_at;

	/* in an empty context, weaker levels ask for nothing more */
	if (tcs_fallback_decide(read->choice.fallback, &read->context, facts, false,
							&served_at) == TCS_VERDICT_REFUSE ||
		tcs_level_rank(served_at) > tcs_level_rank(weakest_unproven))
	{
		tcs_stats_count_error(facts->req.level);
		tcs_fallback_error(facts);
	}
	tcs_stats_count_downgrade(facts->req.level, served_at, facts->reason);
	tcs_fallback_warn(facts, served_at);
}

/* A newer snapshot at level "linearizable" is to be confirmed, as in the leader. */
static void
confirm_in_worker(TcsRead *read)
{
	TcsUnmet   *facts = &read->facts;
	TcsConfirmed known;

	facts->req.confirm = true;
	if (facts->in_recovery)
	{
		/* an old problem does not count, an old leadership does */
		tcs_fresh_confirmed(&known);
		facts->req.fresh_after = Max(known.best.asked_at, known.problem_at + 1);
		facts->proof.at = tcs_fresh_position();
	}
	/* of the leader's statement, or the client was told that it is not */
	read->client->confirmed = true;
	if (!tcs_confirm_snapshot(read, tcs_deadline_after(tcs_guc_max_wait())))
		refuse_in_worker(read, TCS_LEVEL_LINEARIZABLE);
}

/* In a parallel worker, a function is about to run a statement. */
void
tcs_gate_pass_in_worker(QueryDesc *query_desc)
{
	TcsWorkerSettings now;
	bool		confirms = tcs_read_level == TCS_LEVEL_LINEARIZABLE && !IsolationUsesXactSnapshot();
	TcsRead		read;

	get_settings(&now);
	if (!leader_settings.known || (!confirms && !asks_for_more_than_leader(&now)))
		return;
	memset(&read, 0, sizeof(read));
	read.site = (TcsSite)
	{
		.kind = TCS_SITE_NESTED,.query_desc = query_desc
	};
	read.client = &tcs_client_statement;
	tcs_choice_by_settings(&read.choice);
	read.context.one_snapshot = read.facts.one_snapshot = IsolationUsesXactSnapshot();
	read.facts.nested = true;
	read.facts.in_recovery = RecoveryInProgress();
	read.facts.now = tcs_now();
	read.facts.req.level = now.level;
	if (asks_for_more_than_leader(&now))
	{
		read.facts.reason = TCS_REASON_SNAPSHOT;
		refuse_in_worker(&read, leader_settings.level);
	}
	else
		confirm_in_worker(&read);
}
