/*-------------------------------------------------------------------------
 *
 * read.c
 *	  What is known of a read: everything that a decision goes by.
 *
 * NOTES
 *	  Settings, session, server and transaction are looked at here, once, and
 *	  again after a wait for what can have changed in it.  Decisions (decide.c,
 *	  requirement.c, fallback_decide.c) see the TcsRead alone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "tcop/pquery.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/xact.h"
#include "gate/context.h"
#include "gate/gate.h"
#include "gate/read.h"
#include "gate/snapshot_swap.h"
#include "gate/transaction.h"
#include "redirect/redirect_server.h"
#include "redirect/remote_xact.h"
#include "session/proof.h"
#include "standby/lease_held.h"
#include "statement/hook_frames.h"

TcsClientStatement tcs_client_statement = {.at_once_level = -1};

/* Has the statement that is planned at present, or was last, come here for that? */
static bool
planning_came_here(const TcsClientStatement *client)
{
	return client->planned_in == GetCurrentStatementStartTimestamp();
}

/*
 * The moment from which on freshness is asked for: that of the transaction, or
 * of the client's statement if this is below it.
 */
static int64
arrival_of(const TcsRead *read)
{
	const TcsClientStatement *client = read->client;

	if (read->context.one_snapshot)
		return tcs_transaction.arrival;
	if (read->site.kind != TCS_SITE_NESTED || read->site.resumed)
		return read->context.arrival;
	/* with a portal, it is planned again at the gate, as its own read goes on */
	if (ActivePortal == NULL && tcs_frames_begin_with(TCS_FRAME_PLANNER))
		return planning_came_here(client) ? client->planning_arrival : read->context.arrival;
	if (client->at_once_level < 0 && client->arrival != 0)
		return client->arrival;
	return read->context.arrival;
}

/* Is it below a statement of the client that was confirmed itself? */
bool
tcs_read_is_led_by_confirmed(const TcsRead *read)
{
	return read->site.kind == TCS_SITE_NESTED && read->client->at_once_level < 0 &&
		read->client->confirmed;
}

/* Is the plan of the statement that comes to the gate to be made again? */
bool
tcs_read_has_void_plan(void)
{
	return tcs_client_statement.plan_is_void && planning_came_here(&tcs_client_statement);
}

/* Note that planning comes here, for what it runs and for the statement to come. */
static void
note_planning(TcsClientStatement *client, int64 arrival)
{
	client->planned_in = GetCurrentStatementStartTimestamp();
	client->planning_arrival = arrival;
	client->planning_waited_us = 0;
	client->plan_is_void = false;
}

/*
 * Is the snapshot at hand one that stays?  That of a REPEATABLE READ transaction
 * does, unless nobody has used it yet.
 */
static bool
snapshot_is_fixed(const TcsSite *site, bool one_snapshot)
{
	return one_snapshot && FirstSnapshotSet &&
		!((tcs_site_is_read(site) || site->kind == TCS_SITE_PLANNER) &&
		  tcs_transaction.used_in != tcs_xact_id());
}

/* The client's side and this node, as they are for this read. */
static void
begin_context(TcsRead *read)
{
	const TcsSite *site = &read->site;
	TcsContext *context = &read->context;

	tcs_context_build(context, &read->choice, tcs_choice_token(&read->choice));
	context->fixed = snapshot_is_fixed(site, context->one_snapshot);
	/* what is asked for without a token is asked of each statement */
	if (site->token_only)
		context->without_token = TCS_WITHOUT_TOKEN_ACCEPT;
	/* the moment of a transaction that outlived a promotion lies before it */
	if (context->one_snapshot && TransactionStartedDuringRecovery())
		context->in_recovery = true;

	if (context->one_snapshot)
	{
		tcs_transaction_note(context->arrival);
		context->acknowledged = tcs_transaction.acknowledged;
	}
	context->arrival = arrival_of(read);

	/* what was confirmed since the calling statement came is no concern of it */
	if (tcs_read_is_led_by_confirmed(read))
		context->confirmed = InvalidXLogRecPtr;

	/* where nothing is read yet, the statement to come is what is confirmed */
	context->is_confirmed = (context->fixed && tcs_transaction.confirmed) || site->explain_only ||
		site->kind == TCS_SITE_BARE || site->kind == TCS_SITE_PLANNER;
}

/* The facts that no requirement is needed for. */
static void
begin_facts(TcsRead *read, bool fixed)
{
	TcsUnmet   *facts = &read->facts;

	memset(facts, 0, sizeof(*facts));
	facts->has_floor = read->choice.has_floor;
	facts->floor = read->choice.floor;
	facts->rule = read->choice.rule;
	facts->may_relax = true;
	facts->token_only = read->site.token_only;
	facts->in_recovery = read->context.in_recovery;
	facts->nested = read->site.kind == TCS_SITE_NESTED;
	facts->rules_changed = read->site.rules_changed;
	facts->one_snapshot = read->context.one_snapshot;
	facts->fixed = fixed;
	facts->imported = fixed && tcs_transaction.imported;
	facts->now = read->context.arrival;
	facts->may_use_lease = facts->in_recovery && tcs_site_is_read(&read->site) &&
		!IsolationUsesXactSnapshot();
	/* its planning has waited for it */
	if (read->site.kind == TCS_SITE_QUERY && planning_came_here(read->client))
		facts->waited_us = read->client->planning_waited_us;
}

/*
 * Set up a read that has come to the gate with a site and a choice; again if
 * another level was chosen since.
 */
void
tcs_read_begin(TcsRead *read)
{
	TcsSite    *site = &read->site;
	TcsClientStatement *client = &tcs_client_statement;
	TcsLevel	level = read->choice.level;
	bool		fixed;

	read->client = client;
	read->follows = tcs_remote_is_begun();
	if (unlikely(read->follows))
	{
		memset(&read->facts, 0, sizeof(read->facts));
		read->facts.req.level = level;
		read->facts.in_recovery = true;
		return;
	}
	if (site->token_only && tcs_level_rank(level) > tcs_level_rank(TCS_LEVEL_SESSION))
		level = TCS_LEVEL_SESSION;

	begin_context(read);
	fixed = read->context.fixed;
	if (site->kind == TCS_SITE_PLANNER)
		note_planning(client, read->context.arrival);
	if (tcs_site_is_read(site))
	{
		client->at_once_level = -1;
		client->arrival = read->context.arrival;
		client->confirmed = fixed && tcs_transaction.confirmed;
		client->relaxed = false;
	}
	begin_facts(read, fixed);
	tcs_requirement_make(level, &read->context, &read->facts.req);
	read->may_drop_token = read->context.may_drop_token &&
		tcs_site_is_read(site) && !site->explain_only;
	tcs_read_weigh(read);
}

/*
 * At level "snapshot" in READ COMMITTED: can this statement fix the snapshot of
 * its transaction?
 *
 * Only if no other has read before, on the primary either.  That is known of the
 * only statement of a transaction, and, of a sequence without BEGIN, if the level
 * is older than the transaction: the first that read would have fixed it.
 */
static bool
may_fix_snapshot(TcsSite *site)
{
	if (site->kind == TCS_SITE_BARE)
		return true;
	if (site->kind == TCS_SITE_NESTED || !tcs_swap_is_possible(site) ||
		tcs_redirected_in == tcs_xact_id() ||
		GetCurrentTransactionNestLevel() > 1 ||
		!(tcs_xact_statement_is_sole() || tcs_guc_level_set_in() != tcs_xact_id()))
		return false;
	site->fix_snapshot = true;
	return true;
}

/*
 * The snapshot of the transaction is fixed, and not yet known to be as fresh as is
 * asked for.  It is if the primary, asked since, names no more than the snapshot
 * is known to include.  With "wait" an answer is waited for, but not replay.
 * Returns whether all that is asked for is proved now, and was not before.
 */
bool
tcs_prove_fixed_snapshot(const TcsRead *read, bool wait)
{
	const TcsSite *site = &read->site;
	const TcsRequirement *req = &read->facts.req;
	TcsPosition included = tcs_transaction.proof.at;
	int64		deadline = 0;
	TcsAnswer	answer;

	if (site->kind == TCS_SITE_BARE || site->explain_only || req->fresh_after == 0 ||
		req->reason != TCS_REASON_NONE || included.lsn == InvalidXLogRecPtr ||
		tcs_transaction.proof.fresh_at >= req->fresh_after || !RecoveryInProgress())
		return false;
	if (wait)
		deadline = tcs_deadline_after(read->choice.max_wait);
	if (tcs_wait_for_answer(req->fresh_after, deadline, &answer) != TCS_WAIT_MET ||
		answer.at.tli != included.tli || answer.at.lsn > included.lsn)
		return false;
	tcs_transaction.proof.fresh_at = answer.asked_at;
	return tcs_requirement_met(req, &tcs_transaction.proof);
}

/*
 * The snapshot at hand was taken after an earlier statement.  If the lease that was
 * seen valid then still is, it has all that was acknowledged before it was taken.
 */
static void
prove_by_lease(TcsRead *read)
{
	TcsUnmet   *facts = &read->facts;
	const TcsRequirement *req = &facts->req;

	if (!facts->may_use_lease || req->fresh_after == 0 || req->confirm ||
		facts->proof.fresh_at >= req->fresh_after || !tcs_held_continues())
		return;
	facts->by_lease = true;
	facts->proof.fresh_at = req->fresh_after;
	tcs_proof_raise(&tcs_proven.proof, &facts->proof);
}

/* Compare the requirement with what is proved of the snapshot at hand. */
void
tcs_read_weigh(TcsRead *read)
{
	TcsSite    *site = &read->site;
	TcsUnmet   *facts = &read->facts;

	if (facts->fixed)
	{
		(void) tcs_prove_fixed_snapshot(read, false);
		facts->proof = tcs_transaction.proof;
	}
	else if (!site->resumed)
	{
		facts->proof = tcs_proven.proof;
		prove_by_lease(read);
	}
	read->met = tcs_requirement_is_empty(&facts->req) ||
		tcs_requirement_met(&facts->req, &facts->proof);
	read->plan_is_void = site->kind == TCS_SITE_QUERY && !facts->fixed &&
		tcs_read_has_void_plan();
	if (read->plan_is_void)
	{
		/* it can have what was read meanwhile in it, as constants */
		read->met = false;
		tcs_swap_distrust_plan();
	}
	read->misplaced = facts->req.level == TCS_LEVEL_SNAPSHOT && !read->context.one_snapshot &&
		!may_fix_snapshot(site);
	/* a quorum can confirm what it shows, not that it misses nothing */
	read->misplaced |= facts->req.confirm && facts->fixed && tcs_transaction.imported;
}

/* Read again what can have changed during a wait. */
void
tcs_read_renew_context(TcsRead *read)
{
	TcsContext *context = &read->context;
	TcsContext	old = *context;

	tcs_context_build(context, &read->choice, old.token);
	context->arrival = old.arrival;
	context->is_confirmed = old.is_confirmed;
	context->token_dropped = old.token_dropped;
	context->generation = old.generation;
	context->one_snapshot = old.one_snapshot;
	if (old.without_token == TCS_WITHOUT_TOKEN_ACCEPT)
		context->without_token = old.without_token;
}

/*
 * The token is lost, and the client wants rather to go on without: drop it, and ask
 * for what "strong" does in its place.  That has all that was acknowledged, so it
 * can miss nothing that is still there.  Returns whether that is so.
 *
 * A hint's token is its statement's alone; behind it the session's counts.  BEGIN,
 * SET and planning leave it to the statement to come, and inside a function it is
 * too late to ask for more.
 */
bool
tcs_read_drop_lost_token(TcsRead *read)
{
	TcsContext *context = &read->context;
	TcsUnmet   *facts = &read->facts;

	if (!read->may_drop_token || !tcs_reason_is_lost(facts->req.reason))
		return false;
	while (tcs_reason_is_lost(facts->req.reason) && context->token != NULL)
	{
		tcs_fallback_warn_dropped(facts);
		if (read->choice.token != NULL)
			read->choice.token = NULL;
		else
			tcs_guc_drop_token();
		context->token = tcs_choice_token(&read->choice);
		context->token_handed = context->token != NULL && tcs_guc_token_is_handed();
		context->token_is_missing = tcs_context_token_is_missing();
		context->token_dropped = true;
		context->generation = tcs_settings_generation;
		tcs_requirement_make(facts->req.level, context, &facts->req);
	}
	facts->reason = facts->req.reason;
	facts->hopeless = NULL;
	return true;
}

/*
 * What a read waits for is not there, and the emergency valve is open, or was
 * opened since: ask for less.  Returns whether that is so.
 */
bool
tcs_read_ask_for_less(TcsRead *read)
{
	TcsRequirement *req = &read->facts.req;

	if (!read->facts.may_relax ||
		!tcs_choice_relax(&read->choice, tcs_requirement_rank(req)))
		return false;
	req->as_strong = false;
	req->level = read->choice.level;
	if (read->facts.token_only && tcs_level_rank(req->level) > tcs_level_rank(TCS_LEVEL_SESSION))
		req->level = TCS_LEVEL_SESSION;
	return true;
}

/*
 * Does something wait here for a statement to come, which can be redirected?
 * Then it need not wait longer than that would.
 */
bool
tcs_read_waits_briefly(const TcsRead *read)
{
	return (read->site.kind == TCS_SITE_BARE || read->site.kind == TCS_SITE_PLANNER) &&
		read->facts.in_recovery && read->context.may_redirect &&
		tcs_fallback_has_redirect(read->choice.fallback) && tcs_server_exists();
}
