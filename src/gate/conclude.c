/*-------------------------------------------------------------------------
 *
 * conclude.c
 *	  How a read ends: served, redirected, downgraded or refused.
 *
 * NOTES
 *	  tcs.last_read is written through here, and the counters of how reads end.  What
 *	  the fast path counts is in gate.h.  Time-outs are counted where they happen.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"

#include "base/compat.h"
#include "base/relax.h"
#include "base/xact.h"
#include "gate/gate.h"
#include "gate/read.h"
#include "gate/snapshot_swap.h"
#include "gate/transaction.h"
#include "session/proof.h"
#include "session/session_token.h"

/* Count a read, which a hint may have handed a token. */
static void
count_read(const TcsRead *read, TcsLevel level)
{
	if (read->choice.token != NULL)
		tcs_stats_count_read_with_token(level);
	else
		tcs_stats_count_read(level);
}

/*
 * The requirement in force is met: for good, or as long as the proof is young
 * enough.  "strong" asks again each time, and so does a bound of zero or one in
 * bytes, which moves with each answer.
 */
static void
settle_proof(const TcsRead *read)
{
	const TcsRequirement *req = &read->facts.req;

	/* what is met at these levels has the whole token in it, if there is one */
	if (read->choice.token == NULL && !tcs_session_report_is_pending &&
		(read->context.token == NULL ||
		 tcs_level_rank(req->level) >= tcs_level_rank(TCS_LEVEL_SESSION)) &&
		!read->context.token_is_missing)
		tcs_proven.token_settled = read->context.generation;
	/* of a statement to come, settings may not be all that counts */
	if (!read->choice.plain)
		return;
	/* a report that is pending has to be made by the next statement */
	tcs_proven.settled = tcs_session_report_is_pending ? 0 : read->context.generation;
	tcs_proven.max_age = 0;
	if (req->level == TCS_LEVEL_SNAPSHOT || req->level == TCS_LEVEL_LINEARIZABLE)
		tcs_proven.settled = 0;
	if (req->fresh_after == 0)
		return;
	if (req->level == TCS_LEVEL_BOUNDED && read->choice.max_lag < 0 && read->choice.max_staleness > 0)
		tcs_proven.max_age = (int64) read->choice.max_staleness * 1000;
	else
		tcs_proven.settled = 0;
}

/*
 * A read is served at less, as all are on this node for a time.  Counted as a
 * downgrade of what it asked for; statements inside a function whose caller was
 * told so are silent.
 */
static void
pass_relaxed(TcsRead *read)
{
	const TcsSite *site = &read->site;
	TcsUnmet   *facts = &read->facts;
	bool		told = site->kind == TCS_SITE_NESTED && read->client->relaxed;

	/* the statement to come will say so itself */
	if (told || site->explain_only || !(tcs_site_is_read(site) || site->kind == TCS_SITE_NESTED))
		return;
	read->client->relaxed = true;
	if (tcs_site_is_read(site))
		count_read(read, read->choice.asked);
	tcs_stats_count_downgrade(read->choice.asked, facts->req.level, TCS_REASON_RELAXED);
	tcs_relax_count();
	facts->reason = TCS_REASON_RELAXED;
	tcs_last_read_note(read, TCS_OUTCOME_DOWNGRADED, facts->req.level);
	tcs_fallback_warn_relaxed(read->choice.asked, facts->req.level);
}

/* A requirement is met; count and remember. */
void
tcs_read_pass(TcsRead *read)
{
	const TcsSite *site = &read->site;
	TcsUnmet   *facts = &read->facts;
	bool		waited = facts->waited_us > 0;

	/* a nested check says something of the outer statement's snapshot only */
	if (!site->token_only && site->kind != TCS_SITE_NESTED)
		settle_proof(read);

	/* on a primary, what is acknowledged is in all snapshots to come */
	if (!facts->in_recovery && facts->req.token_at.lsn != InvalidXLogRecPtr &&
		site->kind != TCS_SITE_NESTED)
		tcs_proof_note_acknowledged(facts->req.token_at);
	/* while nobody has used it, the transaction's snapshot is yet to be taken */
	if (read->context.one_snapshot && tcs_transaction.lxid == tcs_xact_id() &&
		tcs_transaction.used_in != tcs_transaction.lxid)
		tcs_transaction.acknowledged = tcs_proven.acknowledged;
	facts->reason = TCS_REASON_NONE;
	facts->now = tcs_now();
	if (read->choice.by == TCS_BY_RELAX)
	{
		pass_relaxed(read);
		return;
	}
	/* the statement to come tells of it, so that must not pass at once */
	if (site->kind == TCS_SITE_PLANNER)
	{
		read->client->planning_waited_us = facts->waited_us;
		if (waited)
			tcs_proof_unsettle();
		return;
	}
	if (waited)
		tcs_stats_count_wait(facts->req.level, facts->waited_us);

	/* BEGIN and SET count where they have waited in place of a read */
	if ((tcs_site_is_read(site) && !site->explain_only) || waited)
	{
		count_read(read, facts->req.level);
		tcs_last_read_note(read, waited ? TCS_OUTCOME_WAITED : TCS_OUTCOME_AT_ONCE,
						   facts->req.level);
	}
}

/* The statement runs on the primary. */
void
tcs_read_note_redirected(TcsRead *read)
{
	TcsUnmet   *facts = &read->facts;

	facts->now = tcs_now();
	if (read->site.explain_only)
		return;
	count_read(read, facts->req.level);
	tcs_stats_count_redirect(facts->req.level);
	tcs_last_read_note(read, TCS_OUTCOME_REDIRECTED, facts->req.level);
}

/* Refuse the statement. */
void
tcs_read_refuse(TcsRead *read)
{
	TcsUnmet   *facts = &read->facts;

	facts->now = tcs_now();
	if (read->site.kind != TCS_SITE_NESTED)
		count_read(read, facts->req.level);
	tcs_stats_count_error(facts->req.level);
	tcs_last_read_note(read, TCS_OUTCOME_ERROR, facts->req.level);
	tcs_fallback_error(facts);
}

/* A requirement is not met: serve a weaker level or refuse. */
void
tcs_read_fail(TcsRead *read)
{
	const TcsSite *site = &read->site;
	TcsUnmet   *facts = &read->facts;
	TcsLevel	served_at;

	/*
	 * After BEGIN, SET and planning the statement to come will say so itself.
	 * An error of BEGIN would make a script go on in autocommit.  If the wait
	 * was cut short because that statement may be redirected, it may also
	 * have to wait on.
	 */
	if (site->explain_only)
		return;
	/* planning goes on with what there is */
	if (site->kind == TCS_SITE_PLANNER)
	{
		read->client->plan_is_void = true;
		read->client->planning_waited_us = facts->waited_us;
	}
	if (site->kind == TCS_SITE_BARE || site->kind == TCS_SITE_PLANNER)
	{
		if (tcs_read_waits_briefly(read))
			return;
		/* the statement itself can give its locks back, and wait on */
		if (site->kind == TCS_SITE_PLANNER && facts->reason == TCS_REASON_BLOCKING &&
			tcs_xact_statement_is_sole())
			return;
		tcs_transaction_note_gave_up(read->context.generation, facts->waited_us, facts->reason);
		return;
	}

	if (tcs_fallback_decide(read->choice.fallback, &read->context, facts, false,
							&served_at) == TCS_VERDICT_REFUSE)
		tcs_read_refuse(read);
	facts->now = tcs_now();
	if (tcs_site_is_read(site))
		count_read(read, facts->req.level);
	tcs_stats_count_downgrade(facts->req.level, served_at, facts->reason);
	tcs_last_read_note(read, TCS_OUTCOME_DOWNGRADED, served_at);
	tcs_fallback_warn(facts, served_at);
}
