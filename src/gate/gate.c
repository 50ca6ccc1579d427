/*-------------------------------------------------------------------------
 *
 * gate.c
 *	  The gate that each read passes before its snapshot is used.
 *
 * NOTES
 *	  What is proven belongs to a snapshot.  tcs_proven.proof was read before the
 *	  snapshot of every statement that comes later, so a statement whose
 *	  requirement it meets needs no further look, whatever snapshot it has.
 *	  Otherwise:
 *
 *		READ COMMITTED: the statement's snapshot (and, where nothing else is
 *		held, its locks) are given back, the position is read, and waited for if
 *		need be, and then a new snapshot is taken.  Position first, snapshot
 *		second: what is replayed in between is in the snapshot as well.
 *
 *		REPEATABLE READ: the snapshot of the transaction is fixed by its first
 *		query, so the requirement is compared with what was proved before that.
 *		BEGIN and SET come to the gate while there is no snapshot yet, note what
 *		is proved, whatever is asked for, and wait if need be.  What a later
 *		statement asks for may be met by that.  An answer of the primary that
 *		comes later can also prove the snapshot fresh: if it names no more than
 *		the snapshot is known to include.  What is not met is an error: 40001 if a
 *		transaction that begins now would be served, else 25001.  The first statement of a
 *		transaction may still change snapshots (see gate/snapshot_swap.c): in autocommit,
 *		and after COMMIT AND CHAIN, no hook comes before the snapshot is taken.
 *
 *		Simple and extended protocol, generic plans: the snapshot is taken in
 *		PortalStart(), just before ExecutorStart().  EXECUTE, DECLARE, EXPLAIN
 *		ANALYZE, COPY, CALL, DO: in PortalRunUtility(), just before the utility
 *		hook.  The protocol's function call: in HandleFunctionRequest(), just
 *		before the object access hook.  FETCH reads on with the cursor's, of which
 *		what was proved since says nothing.  Statements inside functions
 *		do not wait: the requirement was checked for the statement that calls
 *		them, and one that was raised since is an error if it is not met.
 *
 *	  Level "snapshot": the transaction becomes REPEATABLE READ, by BEGIN or by
 *	  its first statement, whose snapshot is replaced by the transaction's.
 *
 *	  Level "linearizable": when the snapshot is taken, what it can show is
 *	  bounded by the position read next, and a quorum has to confirm that before
 *	  the first row goes out.  That wait comes after the snapshot, so it is the
 *	  one that functions may be made to wait for as well: their statements take
 *	  newer snapshots.
 *
 *	  Nothing here is shared; what is, is read through standby/freshness.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/relax.h"
#include "choice/standing_default.h"
#include "gate/fallback.h"
#include "gate/gate.h"
#include "gate/redirect.h"
#include "gate/requirement.h"
#include "gate/snapshot_swap.h"
#include "gate/wait.h"
#include "primary/commits_in_flight.h"
#include "primary/quorum.h"
#include "primary/read_index.h"
#include "redirect/redirect_server.h"
#include "redirect/remote_xact.h"
#include "session/redirected_for.h"
#include "session/session_token.h"
#include "standby/wait_queue.h"
#include "statement/hook_frames.h"
#include "statement/read_only.h"
#include "token/token_setting.h"

TcsGate		tcs_gate = {.at_once_level = -1};

/* What is known of the snapshot of the present REPEATABLE READ transaction. */
static struct
{
	LocalTransactionId lxid;	/* which one; 0: none */
	TcsProof	proof;			/* noted before its snapshot was taken */
	TcsPosition acknowledged;	/* likewise; see TcsProven */
	bool		confirmed;		/* a quorum has confirmed all it shows */
	bool		by_level;		/* it is REPEATABLE READ because of the level */
	bool		imported;		/* the snapshot is somebody else's */
	int64		arrival;		/* the transaction's moment */
	LocalTransactionId used_in; /* in which its snapshot was used */
}			xact;

/*
 * A wait at BEGIN or SET that ended in vain: the statement to come refuses
 * without waiting again, unless something else is asked for by then.
 */
static struct
{
	LocalTransactionId lxid;
	uint64		generation;
	int64		waited_us;
	TcsReason	reason;
}			gave_up;

/*
 * The transaction in which a read at level "snapshot" was redirected for itself,
 * so that the one snapshot was the primary's.
 */
static LocalTransactionId redirected_in;

/* What was waited for before the snapshot of a redirected transaction. */
static struct
{
	LocalTransactionId lxid;	/* which one; 0: none */
	TcsRedirected wanted;
	bool		met;
}			awaited;

/* Has a quorum confirmed what the last statement that came here shows? */
static bool statement_confirmed = false;

/* Was it served at less than it asked for, because this node is relaxed? */
static bool statement_relaxed = false;

/*
 * Was the present transaction made REPEATABLE READ by level "snapshot", and
 * everything that was refused since must be told so?
 */
bool
tcs_gate_isolation_is_by_level(void)
{
	return xact.lxid == tcs_swap_transaction() && xact.by_level;
}

/* SET TRANSACTION SNAPSHOT: of somebody else's snapshot nothing is known. */
void
tcs_gate_snapshot_imported(void)
{
	xact.lxid = tcs_swap_transaction();
	memset(&xact.proof, 0, sizeof(xact.proof));
	memset(&xact.acknowledged, 0, sizeof(xact.acknowledged));
	xact.confirmed = false;
	xact.by_level = false;
	xact.imported = true;
	xact.arrival = tcs_now();
	xact.used_in = xact.lxid;
	tcs_proven.settled = 0;
}

/*
 * A statement of the client uses the snapshot of its REPEATABLE READ
 * transaction, which is fixed from now on.
 */
void
tcs_gate_note_snapshot_use(void)
{
	xact.used_in = tcs_swap_transaction();
}

/*
 * Is the requirement of a statement that a hint or a rule has chosen for met by
 * what was proved before?  In REPEATABLE READ the slow way knows.
 */
static bool
choice_is_met(void)
{
	bool		token_is_met = tcs_choice.token == NULL && !IsolationUsesXactSnapshot() &&
		tcs_proven.token_settled == tcs_settings_generation;

	switch (tcs_choice.level)
	{
		case TCS_LEVEL_EVENTUAL:
		case TCS_LEVEL_CONSISTENT_PREFIX:
			return true;
		case TCS_LEVEL_READ_YOUR_WRITES:
		case TCS_LEVEL_MONOTONIC_READS:
		case TCS_LEVEL_SESSION:
		case TCS_LEVEL_SEQUENTIAL:
		case TCS_LEVEL_CAUSAL:
			return token_is_met;
		case TCS_LEVEL_BOUNDED:
			if (!token_is_met || tcs_max_lag >= 0 || tcs_choice.max_staleness == 0)
				return false;
			return tcs_proven.proof.fresh_at != 0 &&
				tcs_now() - tcs_proven.proof.fresh_at <= (int64) tcs_choice.max_staleness * 1000;
		default:
			return false;
	}
}

/* As tcs_gate_pass_at_once(), for what a hint or a rule has chosen. */
bool
tcs_gate_pass_choice_at_once(void)
{
	if (!choice_is_met())
		return false;
	if (tcs_choice.level == TCS_LEVEL_BOUNDED)
	{
		tcs_gate.last.proof = tcs_proven.proof;
		tcs_gate.last.at = tcs_now();
		tcs_fresh_read_mirror(&tcs_proven.proof);
	}
	else
	{
		tcs_gate.last.proof = tcs_proven.proof;
		tcs_gate.last.at = 0;
	}
	tcs_stats_count_read(tcs_choice.level);
	tcs_gate.at_once_level = -1;
	tcs_gate.last.outcome = TCS_OUTCOME_AT_ONCE;
	tcs_gate.last.level = tcs_gate.last.served_at = tcs_choice.level;
	tcs_gate.last.by = tcs_choice.by;
	tcs_gate.last.level_source = tcs_choice.level_source;
	tcs_gate.last.rule = tcs_choice.rule;
	tcs_gate.last.reason = TCS_REASON_NONE;
	tcs_gate.last.needed.lsn = InvalidXLogRecPtr;
	tcs_gate.last.waited_us = 0;
	tcs_gate.last.note[0] = '\0';
	tcs_gate.arrival = 0;
	return true;
}

/* Is what was chosen met by what was proved before?  Nothing is counted. */
bool
tcs_gate_is_satisfied(void)
{
	return tcs_choice.plain ? tcs_proof_meets_settings() : choice_is_met();
}

/* The facts of the last read, however it passed. */
void
tcs_gate_get_last(TcsLastRead *last)
{
	*last = tcs_gate.last;
	if (tcs_gate.at_once_level < 0)
		return;
	last->outcome = TCS_OUTCOME_AT_ONCE;
	last->level = (TcsLevel) tcs_gate.at_once_level;
	last->by = TCS_BY_SETTING;
	last->level_source = tcs_guc_level_source();
	last->reason = TCS_REASON_NONE;
	last->waited_us = 0;
	last->note[0] = last->redirect_failure[0] = '\0';
	last->at = tcs_proven.max_age != 0 ? tcs_gate.at_once_at : 0;
	if (tcs_proven.max_age == 0 || !tcs_gate.at_once_proof_kept)
		last->proof = tcs_proven.proof;
}

/* Read everything that a requirement depends on, once. */
void
tcs_gate_build_context(TcsContext *context, const TcsToken *token)
{
	memset(context, 0, sizeof(*context));
	context->token = token;
	context->token_handed = token != NULL &&
		(token != tcs_guc_token() || tcs_guc_token_is_handed());
	/* who opens the emergency valve knows that tokens may be missing */
	context->without_token =
		tcs_choice.by == TCS_BY_RELAX || tcs_choice.by == TCS_BY_EXEMPT ? TCS_WITHOUT_TOKEN_ACCEPT :
		(TcsWithoutToken) tcs_without_token;
	context->max_staleness = (int64) tcs_choice.max_staleness * 1000;
	context->max_lag = tcs_max_lag < 0 ? -1 : (int64) tcs_max_lag * 1024;
	context->in_recovery = RecoveryInProgress();
	context->system_identifier = GetSystemIdentifier();
	context->arrival = tcs_now();
	if (context->in_recovery)
	{
		context->at = tcs_fresh_position();
		context->have_newest = tcs_fresh_newest(&context->newest);
	}
	else
	{
		context->at.tli = GetWALInsertionTimeLine();
		context->at.lsn = GetXLogInsertRecPtr();
		context->confirmed = tcs_quorum_confirmed();
	}
	context->history = tcs_history_get(context->at.tli);
}

/* Is this a statement that reads, as far as counters are concerned? */
static bool
site_is_read(const TcsSite *site)
{
	return site->kind == TCS_SITE_QUERY || site->kind == TCS_SITE_UTILITY ||
		site->kind == TCS_SITE_CALL;
}

/* Can no node of this history serve the token, now or later? */
static bool
is_lost(TcsReason reason)
{
	return reason == TCS_REASON_LOST || reason == TCS_REASON_FOREIGN;
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
static bool
drop_lost_token(const TcsSite *site, TcsContext *context, TcsUnmet *facts)
{
	if (tcs_lost_token != TCS_LOST_TOKEN_DROP || !is_lost(facts->req.reason) ||
		!site_is_read(site) || site->explain_only)
		return false;
	while (is_lost(facts->req.reason) && context->token != NULL)
	{
		tcs_fallback_warn_dropped(facts);
		if (tcs_choice.token != NULL)
			tcs_choice.token = NULL;
		else
			tcs_guc_drop_token();
		context->token = tcs_choice_token();
		context->token_handed = context->token != NULL && tcs_guc_token_is_handed();
		context->token_dropped = true;
		tcs_requirement_make(facts->req.level, context, &facts->req);
	}
	facts->reason = facts->req.reason;
	facts->hopeless = NULL;
	return true;
}

/* Read again what can have changed during a wait. */
static void
renew_context(TcsContext *context)
{
	TcsContext	old = *context;

	tcs_gate_build_context(context, old.token);
	context->arrival = old.arrival;
	context->is_confirmed = old.is_confirmed;
	context->token_dropped = old.token_dropped;
	if (old.without_token == TCS_WITHOUT_TOKEN_ACCEPT)
		context->without_token = old.without_token;
}

/* Note what is known of a REPEATABLE READ transaction when it first comes. */
static void
note_transaction(const TcsContext *context)
{
	LocalTransactionId lxid = tcs_swap_transaction();

	if (xact.lxid == lxid)
		return;
	xact.lxid = lxid;
	xact.arrival = context->arrival;

	/*
	 * tcs_proven.proof was noted in an earlier transaction, or in this one
	 * before it had a snapshot: it is changed nowhere else.
	 */
	xact.proof = tcs_proven.proof;
	xact.acknowledged = tcs_proven.acknowledged;
	xact.confirmed = false;
	xact.by_level = false;
	xact.imported = false;
}

/*
 * After BEGIN or SET in a REPEATABLE READ transaction: note what is proved of its
 * snapshot, as long as it has none.  What it reads later may ask for that.
 */
void
tcs_gate_prove_transaction(void)
{
	TcsContext	context = {.arrival = tcs_now()};

	if (FirstSnapshotSet)
		return;
	tcs_proof_note();
	note_transaction(&context);
	xact.proof = tcs_proven.proof;
	xact.acknowledged = tcs_proven.acknowledged;
}

/*
 * The snapshot of the transaction is fixed, and not yet known to be as fresh as is
 * asked for.  It is if the primary, asked since, names no more than the snapshot
 * is known to include.  With "wait" an answer is waited for, but not replay.
 * Returns whether all that is asked for is proved now, and was not before.
 */
static bool
prove_fixed_snapshot(const TcsSite *site, const TcsRequirement *req, bool wait)
{
	TcsPosition included = xact.proof.at;
	int64		deadline = 0;
	TcsAnswer	answer;

	if (site->kind == TCS_SITE_BARE || site->explain_only || req->fresh_after == 0 ||
		req->reason != TCS_REASON_NONE || included.lsn == InvalidXLogRecPtr ||
		xact.proof.fresh_at >= req->fresh_after || !RecoveryInProgress())
		return false;
	if (wait)
		deadline = tcs_choice.max_wait < 0 ? PG_INT64_MAX :
			tcs_now() + (int64) tcs_choice.max_wait * 1000;
	if (tcs_wait_for_answer(req->fresh_after, deadline, &answer) != TCS_WAIT_MET ||
		answer.at.tli != included.tli || answer.at.lsn > included.lsn)
		return false;
	xact.proof.fresh_at = answer.asked_at;
	return tcs_requirement_met(req, &xact.proof);
}

/*
 * A snapshot is too old, and cannot be replaced.  Would the same be served if it
 * were tried again now?
 */
static bool
retry_would_help(const TcsUnmet *facts)
{
	TcsRequirement req = facts->req;
	TcsProof	proof;

	if (facts->imported)
		return false;
	/* the plan is what is too old */
	if (tcs_requirement_is_empty(&req) || tcs_requirement_met(&req, &facts->proof))
		return true;
	if (!facts->in_recovery)
		return !tcs_commits_under_way(req.needed.lsn);
	/* what the primary acknowledges meanwhile would be too new again */
	if (tcs_requirement_rank(&req) >= tcs_level_rank(TCS_LEVEL_STRONG))
		return false;
	/* the moment would be a later one */
	if (req.fresh_after != 0 && facts->fixed)
		req.fresh_after += tcs_now() - xact.arrival;
	tcs_fresh_prove(NULL, &proof);
	return tcs_requirement_met(&req, &proof);
}

/*
 * Is this a session without a token on a standby where that is not accepted?  Then
 * what is met by one statement says nothing of the next.
 */
static bool
token_counts_as_missing(void)
{
	return tcs_without_token != TCS_WITHOUT_TOKEN_ACCEPT &&
		!tcs_guc_token_is_handed() && RecoveryInProgress();
}

/* The same, for a read at this level. */
bool
tcs_gate_token_is_missing(TcsLevel level)
{
	return token_counts_as_missing() && tcs_level_is_by_token(level);
}

/* Count a read, which a hint may have handed a token. */
static void
count_read(TcsLevel level)
{
	if (tcs_choice.token != NULL)
		tcs_stats_count_read_with_token(level);
	else
		tcs_stats_count_read(level);
}

/*
 * The requirement in force is met: for good, or as long as the proof is young
 * enough.  "strong" asks anew each time, and so does a bound of zero or one in
 * bytes, which moves with each answer.
 */
static void
settle(const TcsRequirement *req)
{
	/* what is met at these levels has the whole token in it, if there is one */
	if (tcs_choice.token == NULL && !tcs_session_report_is_pending &&
		(tcs_guc_token() == NULL ||
		 tcs_level_rank(req->level) >= tcs_level_rank(TCS_LEVEL_SESSION)) &&
		!token_counts_as_missing())
		tcs_proven.token_settled = tcs_settings_generation;
	/* of a statement to come, settings may not be all that counts */
	if (!tcs_choice.plain)
		return;
	/* a report that is pending has to be made by the next statement */
	tcs_proven.settled = tcs_session_report_is_pending ? 0 : tcs_settings_generation;
	tcs_proven.max_age = 0;
	if (req->level == TCS_LEVEL_SNAPSHOT || req->level == TCS_LEVEL_LINEARIZABLE)
		tcs_proven.settled = 0;
	if (req->fresh_after == 0)
		return;
	if (req->level == TCS_LEVEL_BOUNDED && tcs_max_lag < 0 && tcs_choice.max_staleness > 0)
		tcs_proven.max_age = (int64) tcs_choice.max_staleness * 1000;
	else
		tcs_proven.settled = 0;
}

/*
 * Why was it not redirected?  It may have been at a later attempt, as when its
 * token was dropped.
 */
static void
note_redirect_failure(const TcsUnmet *facts, TcsLastRead *last)
{
	const char *why = facts->redirect_cause ? facts->redirect_cause : facts->redirect_failure;
	size_t		len;

	if (why == NULL || last->outcome == TCS_OUTCOME_REDIRECTED)
		why = "";
	len = pg_mbcliplen(why, strlen(why), sizeof(last->redirect_failure) - 1);
	memcpy(last->redirect_failure, why, len);
	last->redirect_failure[len] = '\0';
}

/* Keep the facts for tcs.last_read(). */
static void
note_last(const TcsUnmet *facts, TcsOutcome outcome, TcsLevel served_at)
{
	TcsLastRead *last = &tcs_gate.last;

	tcs_gate.at_once_level = -1;
	last->outcome = outcome;
	last->level = facts->req.level;
	last->served_at = served_at;
	last->by = tcs_choice.by;
	last->level_source = tcs_choice.level_source;
	last->rule = tcs_choice.rule;
	if (tcs_choice.by == TCS_BY_RELAX)
	{
		last->level = tcs_choice.asked;
		last->by = tcs_choice.asked_by;
		last->rule = tcs_choice.asked_rule;
	}
	last->reason = facts->reason;
	last->on_primary = !facts->in_recovery;
	last->needed = tcs_requirement_position(&facts->req);
	last->proof = facts->proof;
	last->waited_us = facts->waited_us;
	last->at = facts->now;
	strlcpy(last->note, facts->hopeless ? facts->hopeless : "", sizeof(last->note));
	note_redirect_failure(facts, last);
}

/*
 * A read is served at less, as all are on this node for a time.  Counted as a
 * downgrade of what it asked for; statements inside a function whose caller was
 * told so are silent.
 */
static void
pass_relaxed(const TcsSite *site, TcsUnmet *facts)
{
	bool		told = site->kind == TCS_SITE_NESTED && statement_relaxed;

	/* the statement to come will say so itself */
	if (told || site->explain_only || !(site_is_read(site) || site->kind == TCS_SITE_NESTED))
		return;
	statement_relaxed = true;
	if (site_is_read(site))
		count_read(tcs_choice.asked);
	tcs_stats_count_downgrade(tcs_choice.asked, facts->req.level, TCS_REASON_RELAXED);
	tcs_relax_count();
	facts->reason = TCS_REASON_RELAXED;
	note_last(facts, TCS_OUTCOME_DOWNGRADED, facts->req.level);
	tcs_fallback_warn_relaxed(tcs_choice.asked, facts->req.level);
}

/* A requirement is met; count and remember. */
static void
pass(const TcsSite *site, TcsUnmet *facts)
{
	bool		waited = facts->waited_us > 0;

	/* a nested check says something of the outer statement's snapshot only */
	if (!site->token_only && site->kind != TCS_SITE_NESTED)
		settle(&facts->req);

	/* on a primary, what is acknowledged is in all snapshots to come */
	if (!facts->in_recovery && facts->req.token_at.lsn != InvalidXLogRecPtr &&
		site->kind != TCS_SITE_NESTED)
		tcs_proof_note_acknowledged(facts->req.token_at);
	/* while nobody has used it, the transaction's snapshot is yet to be taken */
	if (IsolationUsesXactSnapshot() && xact.lxid == tcs_my_lxid_compat() &&
		xact.used_in != xact.lxid)
		xact.acknowledged = tcs_proven.acknowledged;
	facts->reason = TCS_REASON_NONE;
	facts->now = tcs_now();
	if (tcs_choice.by == TCS_BY_RELAX)
	{
		pass_relaxed(site, facts);
		return;
	}
	if (waited)
		tcs_stats_count_wait(facts->req.level, facts->waited_us);

	/* BEGIN and SET count where they have waited in place of a read */
	if ((site_is_read(site) && !site->explain_only) || waited)
	{
		count_read(facts->req.level);
		note_last(facts, waited ? TCS_OUTCOME_WAITED : TCS_OUTCOME_AT_ONCE,
				  facts->req.level);
	}
}

/* The statement runs on the primary. */
static void
note_redirected(const TcsSite *site, TcsUnmet *facts)
{
	facts->now = tcs_now();
	if (site->explain_only)
		return;
	count_read(facts->req.level);
	tcs_stats_count_redirect(facts->req.level);
	note_last(facts, TCS_OUTCOME_REDIRECTED, facts->req.level);
}

/* Refuse the statement. */
static void
refuse(const TcsSite *site, TcsUnmet *facts)
{
	facts->now = tcs_now();
	if (site->kind != TCS_SITE_NESTED)
		count_read(facts->req.level);
	tcs_stats_count_error(facts->req.level);
	note_last(facts, TCS_OUTCOME_ERROR, facts->req.level);
	tcs_fallback_error(facts);
}

/*
 * Does something wait here for a statement to come, which can be redirected?
 * Then it need not wait longer than that would.
 */
static bool
waits_briefly(const TcsSite *site, const TcsUnmet *facts)
{
	return (site->kind == TCS_SITE_BARE || site->kind == TCS_SITE_PLANNER) &&
		facts->in_recovery && tcs_max_redirect_connections > 0 &&
		tcs_fallback_has_redirect(tcs_choice.fallback) && tcs_server_exists();
}

/* A requirement is not met: serve a weaker level or refuse. */
static void
fail(const TcsSite *site, const TcsContext *context, TcsUnmet *facts)
{
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
		tcs_gate.plan_is_void = true;
	if (site->kind == TCS_SITE_BARE || site->kind == TCS_SITE_PLANNER)
	{
		if (waits_briefly(site, facts))
			return;
		/* the statement itself can give its locks back, and wait on */
		if (site->kind == TCS_SITE_PLANNER && facts->reason == TCS_REASON_BLOCKING &&
			tcs_gate_statement_is_sole())
			return;
		gave_up.lxid = tcs_swap_transaction();
		gave_up.generation = tcs_settings_generation;
		gave_up.waited_us = facts->waited_us;
		gave_up.reason = facts->reason;
		return;
	}

	if (tcs_fallback_decide(tcs_choice.fallback, context, facts, false,
							&served_at) == TCS_VERDICT_REFUSE)
		refuse(site, facts);
	facts->now = tcs_now();
	if (site_is_read(site))
		count_read(facts->req.level);
	tcs_stats_count_downgrade(facts->req.level, served_at, facts->reason);
	note_last(facts, TCS_OUTCOME_DOWNGRADED, served_at);
	tcs_fallback_warn(facts, served_at);
}

/* Why a wait that has not met its requirement failed. */
static TcsReason
reason_for(const TcsUnmet *facts, TcsWaitResult result)
{
	const TcsRequirement *req = &facts->req;
	TcsAnswer	target;

	if (req->reason != TCS_REASON_NONE)
		return req->reason;
	if (result == TCS_WAIT_BLOCKING)
		return TCS_REASON_BLOCKING;
	if (result == TCS_WAIT_NO_QUORUM)
		return TCS_REASON_NO_QUORUM;
	if (req->confirm && tcs_requirement_met(req, &facts->proof))
		return TCS_REASON_UNCONFIRMED;
	if (req->needed.lsn != InvalidXLogRecPtr &&
		!tcs_position_reached(req->needed, facts->proof.at))
		return TCS_REASON_BEHIND;
	if (req->fresh_after != 0 && tcs_fresh_target(req->fresh_after, &target))
		return TCS_REASON_BEHIND;
	return req->fresh_after != 0 ? TCS_REASON_UNKNOWN : TCS_REASON_BEHIND;
}

/* The instant at which a wait that starts now has to end. */
static int64
deadline_after(int max_wait_ms)
{
	return max_wait_ms < 0 ? PG_INT64_MAX : tcs_now() + (int64) max_wait_ms * 1000;
}

/* Wait on a standby or on a primary, as the node is, on one timeline. */
static TcsWaitResult
wait_on_timeline(TcsUnmet *facts, bool holding, int64 deadline, bool impatient)
{
	int64		start = tcs_now();
	TcsWaitResult result;

	if (facts->in_recovery)
	{
		/* the first look is not a wait */
		tcs_fresh_prove(NULL, &facts->proof);
		if (facts->proof.at.tli != facts->req.made_on)
			return TCS_WAIT_OTHER_TIMELINE;
		if (tcs_requirement_met(&facts->req, &facts->proof))
			return TCS_WAIT_MET;
		result = tcs_wait_for_replay(&facts->req, deadline, holding,
									 impatient ? &facts->hopeless : NULL, &facts->proof);
	}
	else
	{
		if (!tcs_commits_under_way(facts->req.needed.lsn))
			result = TCS_WAIT_MET;
		else
			result = tcs_wait_for_commits(facts->req.needed.lsn, deadline);
		if (result == TCS_WAIT_MET)
		{
			if (facts->req.needed.lsn != InvalidXLogRecPtr)
				facts->proof.at = facts->req.needed;
			if (tcs_now() - start < 1000)
				return result;
		}
	}
	if (result == TCS_WAIT_TIMEOUT && !impatient)
		tcs_stats_count_timeout(facts->req.level);
	/* a look that found nothing to wait for, or had no time to, is no wait */
	if (deadline > start)
		facts->waited_us += tcs_now() - start;
	return result;
}

/*
 * A read that asked for what the primary had acknowledged has waited while
 * history went on without that primary: refuse, unless what the former primary
 * told is part of this history (lsn 0: it has told nothing).  Otherwise the read
 * may have been left without it for ever, whatever the new primary says: what is
 * told on a newer timeline than the read began on is told by that one.
 */
static void
require_former_primary(TcsUnmet *facts, const TcsContext *context,
					   TimeLineID began_on, TcsPosition told)
{
	/* the token is what decides, if it refuses already */
	if (facts->req.reason != TCS_REASON_NONE ||
		(told.lsn != InvalidXLogRecPtr && told.tli <= began_on &&
		 tcs_history_has(context->history, told)))
		return;
	facts->req.reason = TCS_REASON_UNKNOWN;
	facts->req.detail = "The primary changed during the wait, and what the former one had acknowledged before may be lost.";
	facts->req.hint = "Retry: a statement that starts now asks the new primary.";
}

/*
 * What a read waits for is not there, and the emergency valve is open, or was
 * opened since: ask for less.  Returns whether that is so.
 */
static bool
ask_for_less(TcsUnmet *facts)
{
	if (!facts->may_relax ||
		!tcs_choice_relax(&tcs_choice, tcs_requirement_rank(&facts->req)))
		return false;
	facts->req.as_strong = false;
	facts->req.level = tcs_choice.level;
	if (facts->token_only && tcs_level_rank(facts->req.level) > tcs_level_rank(TCS_LEVEL_SESSION))
		facts->req.level = TCS_LEVEL_SESSION;
	return true;
}

/*
 * Wait, wherever replay goes.
 *
 * A position lies on the history of a node or it does not, and that can change
 * when the node follows another timeline: the requirement is made anew then.
 * If it cannot be met on the new history, the result is a timeout, and
 * facts->req.reason says why.  "impatient": end as soon as it is known to be in
 * vain.
 */
static TcsWaitResult
wait_for(TcsContext *context, TcsUnmet *facts, bool holding, int64 deadline,
		 bool impatient)
{
	TcsWaitResult result;

	for (;;)
	{
		TimeLineID	began_on = facts->req.made_on;
		TcsPosition target;
		bool		waited_for_answer = facts->req.fresh_after != 0;

		result = wait_on_timeline(facts, holding, deadline, impatient);
		if (result == TCS_WAIT_RELAXED)
		{
			if (!ask_for_less(facts))
				continue;
			waited_for_answer = false;
		}
		else if (result != TCS_WAIT_OTHER_TIMELINE)
			break;
		target = facts->req.target;
		renew_context(context);
		if (facts->in_recovery && !context->in_recovery)
			return TCS_WAIT_NOT_IN_RECOVERY;
		tcs_requirement_make(facts->req.level, context, &facts->req);
		if (waited_for_answer)
			require_former_primary(facts, context, began_on, target);
		if (facts->req.reason != TCS_REASON_NONE)
			return TCS_WAIT_TIMEOUT;
	}
	return result;
}

/*
 * Promotion ended the wait: what is asked of a primary is another thing.  Its
 * snapshot is newer than the promotion, so all that was replayed is in it.
 *
 * What the former primary had acknowledged is another matter.  A read that
 * waited for its answer, or for WAL that its answer named, can have been left
 * without it for ever.
 */
static void
decide_after_promotion(const TcsSite *site, TcsContext *context, TcsUnmet *facts)
{
	TimeLineID	began_on = facts->req.made_on;
	bool		waited_for_answer = facts->req.fresh_after != 0;
	TcsAnswer	answer = {.at = facts->req.target};

	if (waited_for_answer && answer.at.lsn == InvalidXLogRecPtr)
		(void) tcs_fresh_target(facts->req.fresh_after, &answer);

	renew_context(context);
	tcs_requirement_make(facts->req.level, context, &facts->req);
	if (waited_for_answer)
		require_former_primary(facts, context, began_on, answer.at);
	(void) drop_lost_token(site, context, facts);
	/* its quorum has been asked by nobody yet */
	if (facts->req.confirm && facts->req.reason == TCS_REASON_NONE)
	{
		facts->req.reason = TCS_REASON_UNKNOWN;
		facts->req.detail = "This server was promoted while the read waited.";
		facts->req.hint = "Retry the statement.";
	}
	facts->in_recovery = false;
	facts->reason = facts->req.reason;
	facts->proof.at = context->at;
	if (facts->reason == TCS_REASON_NONE &&
		(tcs_requirement_is_empty(&facts->req) ||
		 tcs_requirement_met(&facts->req, &facts->proof)))
		pass(site, facts);
	else
		fail(site, context, facts);
}

/* Is it below a statement of the client that was confirmed itself? */
static bool
is_led_by_confirmed(const TcsSite *site)
{
	return site->kind == TCS_SITE_NESTED && tcs_gate.at_once_level < 0 &&
		statement_confirmed;
}

/*
 * Is it a statement inside a function that only writes?  What it writes after
 * what it has read is confirmed with its transaction.
 */
static bool
shows_nothing(const TcsSite *site)
{
	return site->kind == TCS_SITE_NESTED && site->query_desc != NULL &&
		site->query_desc->operation != CMD_SELECT &&
		!site->query_desc->plannedstmt->hasReturning;
}

/*
 * The snapshot is taken: has a quorum confirmed all that it can show, and that the
 * primary was one when the read came?  Waits for it.
 *
 * The bound is read after the snapshot.  On a standby it is the end of the record
 * that is being replayed: a commit is visible before it counts as replayed.  On a
 * primary it is the end of all WAL, and the confirmation of more than that is also
 * one of its leadership; a statement inside a function has that from the one that
 * calls it, if that was confirmed itself.
 *
 * Not met: facts->reason, with the numbers.
 */
static bool
confirm_snapshot(const TcsSite *site, TcsUnmet *facts, int64 deadline)
{
	int64		start = tcs_now();
	TcsWaitResult result = TCS_WAIT_MET;

	if (!facts->req.confirm || shows_nothing(site))
		return true;
	if (facts->in_recovery)
	{
		TcsConfirmation wanted = {.asked_at = facts->req.fresh_after};
		TcsConfirmed confirmed = {0};

		wanted.at.lsn = GetCurrentReplayRecPtr(&wanted.at.tli);
		facts->seen = wanted.at;
		/* if it is in recovery now, the snapshot was taken in it */
		if (!RecoveryInProgress() || wanted.at.tli != facts->proof.at.tli)
			result = TCS_WAIT_OTHER_TIMELINE;
		else
		{
			do
				result = tcs_wait_for_confirmation(&wanted, deadline, &confirmed);
			while (result == TCS_WAIT_RELAXED && !ask_for_less(facts));
		}
		facts->confirmed = confirmed.best.at.lsn;
		facts->quorum = confirmed.problem;
	}
	else
	{
		bool		led = is_led_by_confirmed(site);
		TcsQuorum	quorum;
		TcsQuorumResult quorum_result;

		facts->seen.tli = GetWALInsertionTimeLine();
		facts->seen.lsn = led ? tcs_readindex_make().lsn - 1 : GetXLogInsertRecPtr();
		do
			quorum_result = tcs_quorum_wait(facts->seen.lsn, deadline, &quorum);
		while (quorum_result == TCS_QUORUM_RELAXED && !ask_for_less(facts));
		switch (quorum_result)
		{
			case TCS_QUORUM_CONFIRMED:
				break;
			case TCS_QUORUM_TIMEOUT:
				result = TCS_WAIT_TIMEOUT;
				break;
			case TCS_QUORUM_DISABLED:
				result = TCS_WAIT_DISABLED;
				break;
			case TCS_QUORUM_RELAXED:
				result = TCS_WAIT_RELAXED;
				break;
			case TCS_QUORUM_REFUSED:
				result = TCS_WAIT_NO_QUORUM;
				break;
		}
		facts->confirmed = quorum.flushed;
		facts->quorum = quorum.state;
	}
	facts->waited_us += tcs_now() - start;

	switch (result)
	{
		case TCS_WAIT_MET:
		case TCS_WAIT_DISABLED:
			if (site->kind != TCS_SITE_NESTED)
				statement_confirmed = true;
			if (IsolationUsesXactSnapshot() && xact.lxid == tcs_swap_transaction())
				xact.confirmed = true;
			return true;
		case TCS_WAIT_RELAXED:
			/* all but the confirmation was met, and that is not asked for */
			facts->req.confirm = false;
			return true;
		case TCS_WAIT_NO_QUORUM:
			facts->reason = TCS_REASON_NO_QUORUM;
			return false;
		case TCS_WAIT_TIMEOUT:
			tcs_stats_count_timeout(facts->req.level);
			facts->reason = TCS_REASON_UNCONFIRMED;
			return false;
		default:
			break;
	}
	facts->reason = facts->req.reason = TCS_REASON_UNKNOWN;
	facts->req.detail = "The primary changed before its quorum had confirmed what the read shows.";
	facts->req.hint = "Retry: a statement that starts now asks the new primary.";
	return false;
}

/* Is a redirect to be tried when the wait is over? */
static bool
can_redirect(const TcsSite *site, const TcsUnmet *facts)
{
	return facts->in_recovery && facts->req.reason != TCS_REASON_NO_TOKEN &&
		!(site->fix_snapshot && !tcs_gate_statement_is_sole()) &&
		tcs_fallback_has_redirect(tcs_choice.fallback) &&
		tcs_redirect_is_possible(site);
}

/*
 * Is it a statement that holds nothing but the locks of its own analysis, and can
 * give them back?  It is analysed anew then.
 *
 * Planning keeps them if its statement may be redirected after a short wait.
 * Analysis would wait for a lock that replay may hold for long.
 */
static bool
gives_back_locks(const TcsSite *site, const TcsUnmet *facts)
{
	return (site->kind == TCS_SITE_UTILITY ||
			(site->kind == TCS_SITE_PLANNER && site->reanalyzable && !waits_briefly(site, facts))) &&
		site->holding && tcs_gate_statement_is_sole() && !HaveRegisteredOrActiveSnapshot();
}

/*
 * Wait until the requirement is met, or redirect the statement.
 *
 * Where it can be redirected, the wait is shorter, and given up when it is known
 * to be in vain.  If it then turns out that it cannot be redirected after all,
 * the rest of the time is waited for.
 */
static TcsWaitResult
wait_or_redirect(TcsSite *site, TcsContext *context, TcsUnmet *facts,
				 bool may_redirect, bool holding, int64 deadline)
{
	int64		redirect_at = deadline_after(tcs_redirect_after);
	TcsWaitResult result;
	TcsLevel	served_at;

	if (!may_redirect)
	{
		const bool	briefly = waits_briefly(site, facts);

		/* the server that was looked up may not hold replay back */
		InvalidateCatalogSnapshot();
		if (!briefly)
			return wait_for(context, facts, holding, deadline, false);
		result = wait_for(context, facts, holding, Min(deadline, redirect_at), true);
		return result == TCS_WAIT_HOPELESS ? TCS_WAIT_TIMEOUT : result;
	}

	result = wait_for(context, facts, holding, Min(deadline, redirect_at), true);
	if (result != TCS_WAIT_TIMEOUT && result != TCS_WAIT_HOPELESS &&
		result != TCS_WAIT_BLOCKING)
		return result;
	facts->reason = reason_for(facts, result);
	if (tcs_fallback_decide(tcs_choice.fallback, context, facts, true, &served_at) ==
		TCS_VERDICT_REDIRECT)
	{
		/* while it runs there, replay must not wait for its locks here */
		if (!holding && !site->locks_released)
		{
			tcs_swap_release_locks(site);
			site->locks_released = true;
		}
		if (tcs_redirect_try(site, context, facts))
			return TCS_WAIT_REDIRECTED;
	}
	if (gives_back_locks(site, facts))
	{
		tcs_swap_release_locks(site);
		site->locks_released = true;
		holding = false;
	}
	else if (result == TCS_WAIT_BLOCKING)
		return result;
	/* it is refused, for a reason that the primary may have told */
	if (facts->req.reason != TCS_REASON_NONE)
		return TCS_WAIT_TIMEOUT;
	/* nothing that we have looked up may hold replay back */
	InvalidateCatalogSnapshot();
	tcs_swap_leave_conflicts();
	return wait_for(context, facts, holding, deadline, false);
}

/* Did it end without meeting the requirement, on this node? */
static bool
ended_in_vain(TcsWaitResult result)
{
	return result == TCS_WAIT_TIMEOUT || result == TCS_WAIT_BLOCKING ||
		result == TCS_WAIT_NO_QUORUM;
}

/* Whatever can be said of the quorum, for a message. */
static void
note_quorum(TcsUnmet *facts)
{
	TcsConfirmed confirmed;

	if (!facts->req.confirm || !facts->in_recovery)
		return;
	tcs_fresh_confirmed(&confirmed);
	facts->confirmed = confirmed.best.at.lsn;
	facts->quorum = confirmed.problem;
}

/* Has this transaction waited in vain for what is still asked for, at BEGIN or SET? */
static bool
gave_up_before(void)
{
	return gave_up.lxid == tcs_swap_transaction() &&
		gave_up.generation == tcs_settings_generation;
}

/* Renew the statement's snapshot so that it meets the requirement, or fail. */
static void
renew_snapshot(TcsSite *site, TcsContext *context, TcsUnmet *facts)
{
	bool		sole = tcs_gate_statement_is_sole();
	bool		may_redirect = can_redirect(site, facts);
	int64		deadline = deadline_after(site->explain_only ? tcs_redirect_after :
										  tcs_choice.max_wait);
	TcsWaitResult result;
	bool		holding;
	bool		again = gave_up_before();

	if (!may_redirect && site_is_read(site) && facts->in_recovery &&
		tcs_fallback_has_redirect(tcs_choice.fallback) && tcs_server_exists())
		facts->redirect_failure = "a statement of this kind stays on this node";
	if (again)
		facts->waited_us = gave_up.waited_us;
	/* waited for already, or not to be had by waiting */
	if (again || facts->req.reason != TCS_REASON_NONE)
		deadline = 0;

	tcs_swap_drop_snapshot(site);
	/* what may run elsewhere is analysed here, so it keeps its locks until then */
	holding = (site->holding && (may_redirect || !gives_back_locks(site, facts))) ||
		HaveRegisteredOrActiveSnapshot() ||
		(site->kind != TCS_SITE_BARE && !sole);

	/* if the first look is enough, nothing need be given back */
	site->locks_released = false;
	if (facts->in_recovery)
	{
		tcs_fresh_prove(NULL, &facts->proof);
		if (!tcs_requirement_met(&facts->req, &facts->proof))
		{
			site->locks_released = !holding &&
				(site->kind == TCS_SITE_QUERY || gives_back_locks(site, facts));
			if (site->locks_released)
				tcs_swap_release_locks(site);
			InvalidateCatalogSnapshot();
			if (site->kind != TCS_SITE_BARE)
				tcs_swap_leave_conflicts();
		}
	}
	result = wait_or_redirect(site, context, facts, may_redirect, holding, deadline);
	/* the token can be lost during the wait, and the primary can have said so */
	if (ended_in_vain(result) && drop_lost_token(site, context, facts))
		result = wait_or_redirect(site, context, facts, may_redirect,
								  holding && !site->locks_released,
								  deadline_after(tcs_choice.max_wait));
	if (ended_in_vain(result))
	{
		TcsLevel	served_at;

		/*
		 * Refuse before locks are taken again, or the statement is analysed
		 * anew: replay may have stopped while it holds one of them.
		 */
		facts->reason = again && gave_up.reason == TCS_REASON_BLOCKING ?
			TCS_REASON_BLOCKING : reason_for(facts, result);
		note_quorum(facts);
		if ((site_is_read(site) || (site->kind == TCS_SITE_PLANNER && site->locks_released)) &&
			!site->explain_only &&
			tcs_fallback_decide(tcs_choice.fallback, context, facts, false,
								&served_at) == TCS_VERDICT_REFUSE)
			refuse(site, facts);
	}
	if (site->locks_released && !site->redirected && site->kind == TCS_SITE_QUERY)
		tcs_swap_retake_locks(site);

	tcs_swap_take_snapshot(site);

	if (result == TCS_WAIT_REDIRECTED)
	{
		if (site->fix_snapshot)
			redirected_in = tcs_swap_transaction();
		note_redirected(site, facts);
		return;
	}

	/*
	 * What was proved before the snapshot was taken holds for it and for all
	 * later ones; in REPEATABLE READ, for the transaction's.
	 */
	if (site->fix_snapshot)
	{
		note_transaction(context);
		xact.by_level = true;
	}
	tcs_proof_raise(&tcs_proven.proof, &facts->proof);
	if (xact.lxid == tcs_swap_transaction())
		xact.proof = facts->proof;

	switch (result)
	{
		case TCS_WAIT_MET:
			if (confirm_snapshot(site, facts, deadline))
				pass(site, facts);
			else
				fail(site, context, facts);
			break;
		case TCS_WAIT_DISABLED:
			break;
		case TCS_WAIT_NOT_IN_RECOVERY:
			decide_after_promotion(site, context, facts);
			break;
		case TCS_WAIT_TIMEOUT:
		case TCS_WAIT_BLOCKING:
		case TCS_WAIT_NO_QUORUM:
			fail(site, context, facts);
			break;
		case TCS_WAIT_OTHER_TIMELINE:	/* wait_for() goes on */
		case TCS_WAIT_RELAXED:
		case TCS_WAIT_HOPELESS: /* wait_or_redirect() does */
		case TCS_WAIT_REDIRECTED:	/* seen to above */
			Assert(false);
			fail(site, context, facts);
			break;
	}
}

/*
 * At level "snapshot" in READ COMMITTED: can this statement fix the snapshot of
 * its transaction?
 *
 * Only if no other has read before, on the primary either.  That is known of the
 * only statement of a transaction, and, of a sequence without BEGIN, if the level is older than the
 * transaction: the first that read would have fixed it.
 */
static bool
may_fix_snapshot(TcsSite *site, const TcsContext *context)
{
	if (site->kind == TCS_SITE_BARE)
		return true;
	if (site->kind == TCS_SITE_NESTED || !tcs_swap_is_possible(site) ||
		redirected_in == tcs_swap_transaction() ||
		GetCurrentTransactionNestLevel() > 1 ||
		!(tcs_gate_statement_is_sole() || tcs_guc_level_set_in() != tcs_swap_transaction()))
		return false;
	site->fix_snapshot = true;
	return true;
}

/*
 * After BEGIN, or SET before the first query, at level "snapshot": make the
 * transaction REPEATABLE READ, as StartTransaction() would.
 */
void
tcs_gate_fix_isolation(void)
{
	TcsContext	context;

	Assert(!FirstSnapshotSet && !IsolationUsesXactSnapshot());
	XactIsoLevel = XACT_REPEATABLE_READ;
	memset(&context, 0, sizeof(context));
	context.arrival = tcs_now();
	note_transaction(&context);
	xact.by_level = true;
}

/* Has the statement that is planned at present, or was last, come here for that? */
static bool
planning_came_here(void)
{
	return tcs_gate.planned_in == GetCurrentStatementStartTimestamp();
}

/*
 * The plan that was made last is to be made anew when its statement comes to the
 * gate, which it has to, unless its snapshot is fixed: then it is the plan's.
 */
void
tcs_gate_void_plan(void)
{
	tcs_gate.planned_in = GetCurrentStatementStartTimestamp();
	tcs_gate.plan_is_void = true;
	tcs_proof_unsettle();
}

/* Is the plan of the statement that comes to the gate to be made anew? */
static bool
plan_is_void(void)
{
	return tcs_gate.plan_is_void && planning_came_here();
}

/*
 * The moment from which on freshness is asked for: that of the transaction, or
 * of the client's statement if this is below it.
 */
static int64
arrival_of(const TcsSite *site, const TcsContext *context)
{
	if (IsolationUsesXactSnapshot())
		return xact.arrival;
	if (site->kind != TCS_SITE_NESTED || site->resumed)
		return context->arrival;
	if (tcs_frames_begin_with(TCS_FRAME_PLANNER))
		return planning_came_here() ? tcs_gate.planning_arrival : context->arrival;
	if (tcs_gate.at_once_level < 0 && tcs_gate.arrival != 0)
		return tcs_gate.arrival;
	return context->arrival;
}

/* Note that planning comes here, for what it runs and for the statement to come. */
static void
note_planning(int64 arrival)
{
	tcs_gate.planned_in = GetCurrentStatementStartTimestamp();
	tcs_gate.planning_arrival = arrival;
	tcs_gate.plan_is_void = false;
}

/*
 * A statement comes to the gate, and what was proved before does not do.
 */
void
tcs_gate_pass_slowly(TcsSite *site)
{
	TcsContext	context;
	TcsUnmet	facts = {0};
	TcsLevel	level = tcs_choice.level;
	bool		fixed;
	bool		met;
	bool		misplaced;

	if (unlikely(tcs_remote_is_begun()))
	{
		tcs_refused_check(site);
		tcs_redirect_in_whole(site);
		facts.req.level = level;
		facts.in_recovery = true;
		if (site_is_read(site))
			note_redirected(site, &facts);
		return;
	}
	if (site->token_only && tcs_level_rank(level) > tcs_level_rank(TCS_LEVEL_SESSION))
		level = TCS_LEVEL_SESSION;

	tcs_gate_build_context(&context, tcs_choice_token());
	/* a snapshot that nobody has used yet may still be replaced */
	fixed = IsolationUsesXactSnapshot() && FirstSnapshotSet &&
		!((site_is_read(site) || site->kind == TCS_SITE_PLANNER) &&
		  xact.used_in != tcs_swap_transaction());
	context.fixed = fixed;
	/* what is asked for without a token is asked of each statement */
	if (site->token_only)
		context.without_token = TCS_WITHOUT_TOKEN_ACCEPT;
	/* the moment of a transaction that outlived a promotion lies before it */
	if (IsolationUsesXactSnapshot() && TransactionStartedDuringRecovery())
		context.in_recovery = true;

	if (IsolationUsesXactSnapshot())
	{
		note_transaction(&context);
		context.acknowledged = xact.acknowledged;
	}
	context.arrival = arrival_of(site, &context);
	if (site->kind == TCS_SITE_PLANNER)
		note_planning(context.arrival);
	if (site_is_read(site))
	{
		tcs_gate.at_once_level = -1;
		tcs_gate.arrival = context.arrival;
	}

	/* what was confirmed since the calling statement came is no concern of it */
	if (is_led_by_confirmed(site))
		context.confirmed = InvalidXLogRecPtr;

	/* where nothing is read yet, the statement to come is what is confirmed */
	context.is_confirmed = (fixed && xact.confirmed) || site->explain_only ||
		site->kind == TCS_SITE_BARE || site->kind == TCS_SITE_PLANNER;
	if (site_is_read(site))
	{
		statement_confirmed = fixed && xact.confirmed;
		statement_relaxed = false;
	}

	facts.has_floor = tcs_choice.has_floor;
	facts.floor = tcs_choice.floor;
	facts.rule = tcs_choice.rule;
	facts.may_relax = true;
	facts.token_only = site->token_only;
	facts.in_recovery = context.in_recovery;
	facts.nested = site->kind == TCS_SITE_NESTED;
	facts.rules_changed = site->rules_changed;
	facts.fixed = fixed;
	facts.imported = fixed && xact.imported;
	facts.now = context.arrival;
	tcs_requirement_make(level, &context, &facts.req);
	(void) drop_lost_token(site, &context, &facts);
	if (fixed)
	{
		(void) prove_fixed_snapshot(site, &facts.req, false);
		facts.proof = xact.proof;
	}
	else if (!site->resumed)
		facts.proof = tcs_proven.proof;
	met = tcs_requirement_is_empty(&facts.req) ||
		tcs_requirement_met(&facts.req, &facts.proof);
	if (site->kind == TCS_SITE_QUERY && !fixed && plan_is_void())
	{
		/* it can have what was read meanwhile in it, as constants */
		met = false;
		tcs_swap_distrust_plan();
	}
	misplaced = level == TCS_LEVEL_SNAPSHOT && !IsolationUsesXactSnapshot() &&
		!may_fix_snapshot(site, &context);
	/* a quorum can confirm what it shows, not that it misses nothing */
	misplaced |= facts.req.confirm && fixed && xact.imported;
	if (met && !misplaced && !facts.req.confirm && !site->fix_snapshot)
	{
		pass(site, &facts);
		return;
	}

	/* from here on it would have to wait, or be redirected or refused */
	tcs_refused_check(site);

	/* if standing defaults alone ask for that, of the catalogs, they do not count */
	if (tcs_standing_excuses(site))
	{
		site->fix_snapshot = false;
		tcs_gate_pass_slowly(site);
		return;
	}

	/* with the emergency valve open it asks for less, once */
	if ((!met || misplaced || facts.req.confirm) &&
		!(site->kind == TCS_SITE_BARE && fixed) &&
		tcs_choice_relax(&tcs_choice, Max(tcs_level_rank(tcs_choice.level),
										  tcs_requirement_rank(&facts.req))))
	{
		site->fix_snapshot = false;
		tcs_gate_pass_slowly(site);
		return;
	}
	if (misplaced)
	{
		facts.reason = TCS_REASON_SNAPSHOT;
		fail(site, &context, &facts);
		return;
	}
	/* the snapshot at hand was taken after what it needs was proved */
	if (met && facts.req.confirm &&
		(facts.in_recovery || facts.req.needed.lsn == InvalidXLogRecPtr || fixed ||
		 site->kind == TCS_SITE_NESTED))
	{
		if (confirm_snapshot(site, &facts, deadline_after(tcs_choice.max_wait)))
			pass(site, &facts);
		else
			fail(site, &context, &facts);
		return;
	}
	if (site->kind == TCS_SITE_BARE && fixed)
		return;					/* SET after the first query: the next will
								 * tell */

	facts.reason = facts.req.reason;
	if (facts.reason != TCS_REASON_NONE &&
		!(!fixed && tcs_swap_is_possible(site) && can_redirect(site, &facts)))
	{
		facts.proof.at = context.at;
		fail(site, &context, &facts);
	}
	else if (fixed && prove_fixed_snapshot(site, &facts.req, true))
		tcs_gate_pass_slowly(site);
	else if (fixed || !tcs_swap_is_possible(site))
	{
		facts.reason = TCS_REASON_SNAPSHOT;
		/* a statement that was not bound may have come between */
		if (fixed && gave_up_before())
		{
			facts.reason = reason_for(&facts, TCS_WAIT_TIMEOUT);
			facts.waited_us = gave_up.waited_us;
		}
		else
		{
			facts.retry_helps = retry_would_help(&facts);
			/* then what is tried again finds that proved */
			if (facts.retry_helps)
				tcs_proof_note();
		}
		fail(site, &context, &facts);
	}
	else
	{
		const uint64 catalogs = SharedInvalidMessageCounter;

		PG_TRY();
		{
			renew_snapshot(site, &context, &facts);
		}
		PG_CATCH();
		{
			tcs_swap_stop_watching();
			PG_RE_THROW();
		}
		PG_END_TRY();

		/*
		 * The query was analysed before that wait.  If the catalogs changed, a
		 * name in it may mean another object by now; the plan does not tell.
		 */
		if (site->kind == TCS_SITE_PLANNER && facts.in_recovery &&
			catalogs != SharedInvalidMessageCounter)
			tcs_gate_void_plan();
	}
}

/*
 * In a parallel worker, a function is about to run a statement.
 *
 * The statement that calls it has passed in the leader, and settings cannot be
 * changed here.  But if the function is volatile, it has a newer snapshot, and
 * at level "linearizable" that is to be confirmed, as in the leader.
 */
void
tcs_gate_pass_in_worker(QueryDesc *query_desc)
{
	TcsSite		site = {.kind = TCS_SITE_NESTED,.query_desc = query_desc};
	TcsUnmet	facts = {.nested = true};
	TcsContext	context = {0};	/* weaker levels ask for nothing more */
	TcsConfirmed known;
	TcsLevel	served_at;

	if (tcs_read_level != TCS_LEVEL_LINEARIZABLE || IsolationUsesXactSnapshot())
		return;
	facts.in_recovery = RecoveryInProgress();
	facts.now = tcs_now();
	facts.req.level = TCS_LEVEL_LINEARIZABLE;
	facts.req.confirm = true;
	if (facts.in_recovery)
	{
		/* an old problem does not count, an old leadership does */
		tcs_fresh_confirmed(&known);
		facts.req.fresh_after = Max(known.best.asked_at, known.problem_at + 1);
		facts.proof.at = tcs_fresh_position();
	}
	/* of the leader's statement, or the client was told that it is not */
	statement_confirmed = true;
	if (confirm_snapshot(&site, &facts, deadline_after(tcs_guc_max_wait())))
		return;
	if (tcs_fallback_decide(tcs_guc_fallback(), &context, &facts, false,
							&served_at) == TCS_VERDICT_REFUSE)
	{
		tcs_stats_count_error(facts.req.level);
		tcs_fallback_error(&facts);
	}
	tcs_stats_count_downgrade(facts.req.level, served_at, facts.reason);
	tcs_fallback_warn(&facts, served_at);
}

/*
 * Would a read at a level be served now, as far as the session's token goes?
 * For tcs.can_serve().
 */
bool
tcs_gate_token_is_reached(TcsLevel level)
{
	TcsContext	context;
	TcsRequirement req;
	TcsProof	proof;

	if (tcs_level_rank(level) > tcs_level_rank(TCS_LEVEL_SESSION))
		level = TCS_LEVEL_SESSION;
	tcs_gate_build_context(&context, tcs_guc_token());
	context.without_token = TCS_WITHOUT_TOKEN_ACCEPT;
	tcs_requirement_make(level, &context, &req);
	if (tcs_requirement_is_empty(&req))
		return true;
	if (is_lost(req.reason) && tcs_lost_token == TCS_LOST_TOKEN_DROP)
		return !context.in_recovery;
	if (!context.in_recovery)
		return req.reason == TCS_REASON_NONE && !tcs_commits_under_way(req.needed.lsn);
	tcs_fresh_prove(NULL, &proof);
	return proof.at.tli == req.made_on && tcs_requirement_met(&req, &proof);
}

/*
 * A standby is about to run statements here in a transaction that has no
 * snapshot yet: wait for the commits that they need and that are under way.
 *
 * Look first, snapshot second (see primary/commits_in_flight.c): once redirect_begin() runs,
 * the transaction has its snapshot, and no look tells what that has missed.
 * What is refused for another reason is refused there, with its number.
 */
void
tcs_gate_await_redirected(const TcsRedirected *wanted)
{
	TcsContext	context;
	TcsRequirement req;
	TcsWaitResult result = TCS_WAIT_MET;

	Assert(IsolationUsesXactSnapshot() && !FirstSnapshotSet);
	awaited.lxid = InvalidLocalTransactionId;
	tcs_gate_build_context(&context, wanted->have_token ? &wanted->token : NULL);
	tcs_requirement_make(wanted->level, &context, &req);
	if (!context.in_recovery && req.reason == TCS_REASON_NONE)
	{
		/* who relaxes reads has done so on the standby */
		do
			result = tcs_wait_for_commits(req.needed.lsn, deadline_after(Max(wanted->max_wait, 0)));
		while (result == TCS_WAIT_RELAXED);
	}
	awaited.wanted = *wanted;
	awaited.met = result == TCS_WAIT_MET;
	awaited.lxid = tcs_swap_transaction();
}

/*
 * Does this primary have what a statement needs that a standby has sent?
 *
 * The snapshot it will use is that of the transaction.  Commits that it must
 * not miss were waited for before it was taken.  Throws what a read here would
 * be refused with; returns what was asked for.
 */
const TcsRedirected *
tcs_gate_check_redirected(void)
{
	const TcsRedirected *wanted = &awaited.wanted;
	TcsSite		site = {.kind = TCS_SITE_CALL};
	TcsContext	context;
	TcsUnmet	facts = {0};

	if (awaited.lxid != tcs_swap_transaction())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("redirect_begin() must be called in a transaction that began with SET LOCAL %s",
						TCS_REDIRECTED_FOR)));
	tcs_choice_by_settings();
	tcs_gate_build_context(&context, wanted->have_token ? &wanted->token : NULL);
	facts.now = context.arrival;
	facts.proof.at = context.at;
	tcs_requirement_make(wanted->level, &context, &facts.req);
	facts.reason = facts.req.reason;
	if (facts.reason == TCS_REASON_NONE && !awaited.met)
		facts.reason = TCS_REASON_BEHIND;
	if (facts.reason != TCS_REASON_NONE ||
		!confirm_snapshot(&site, &facts, deadline_after(tcs_choice.max_wait)))
		tcs_fallback_error(&facts);
	return wanted;
}

/*
 * Wait for a token that need not be that of the session; for tcs.wait_for().
 *
 * The caller has no snapshot.  Throws if the token is not reached in time.
 */
void
tcs_gate_wait_for_token(const TcsToken *token, int max_wait_ms)
{
	int64		deadline = deadline_after(max_wait_ms);
	TcsContext	context;
	TcsUnmet	facts = {0};
	TcsWaitResult result;

	do
	{
		tcs_gate_build_context(&context, token);
		facts.in_recovery = context.in_recovery;
		facts.proof = tcs_proven.proof;
		tcs_requirement_make(TCS_LEVEL_SESSION, &context, &facts.req);
		facts.reason = facts.req.reason;
		if (facts.reason != TCS_REASON_NONE)
		{
			facts.proof.at = context.at;
			break;
		}
		if (tcs_requirement_is_empty(&facts.req))
			return;
		tcs_swap_leave_conflicts();
		result = wait_for(&context, &facts,
						  !tcs_gate_statement_is_sole() || HaveRegisteredOrActiveSnapshot(),
						  deadline, false);
		tcs_proof_raise(&tcs_proven.proof, &facts.proof);
		if (result == TCS_WAIT_MET || result == TCS_WAIT_DISABLED)
			return;
		facts.reason = reason_for(&facts, result);
	} while (result == TCS_WAIT_NOT_IN_RECOVERY);

	facts.now = tcs_now();
	tcs_fallback_error(&facts);
}
