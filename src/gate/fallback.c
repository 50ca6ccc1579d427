/*-------------------------------------------------------------------------
 *
 * fallback.c
 *	  What a client is told of a read whose requirement is not met: all messages.
 *
 * NOTES
 *	  Which step of tcs.fallback is taken is decided in fallback_decide.c.  A weaker
 *	  level is taken only if what that level promises holds for the snapshot at
 *	  hand, and the client is told so.  The warning goes to the client alone: one line per read would
 *	  bury a server log, and the counters have it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"

#include "base/compat.h"
#include "base/errcodes.h"
#include "base/stats.h"
#include "gate/fallback.h"
#include "gate/transaction.h"
#include "primary/read_index.h"
#include "standby/freshness.h"
#include "standby/replay.h"

/* How the standby gets on, for a detail line: an estimate or the obstacle. */
static char *
describe_progress(XLogRecPtr needed, XLogRecPtr reached)
{
	const char *stalled = tcs_replay_stall_reason();
	double		rate = tcs_fresh_replay_rate();

	if (stalled)
		return pstrdup(stalled);
	if (rate <= 0 || needed <= reached)
		return pstrdup(tcs_replay_state_detail(TCS_REPLAY_NOT_ADVANCING));
	return psprintf("At the present replay rate it would be reached in about %.0f ms.",
					Max(1.0, (double) (needed - reached) / rate * 1000.0));
}

/* Age of what the proof shows, in ms, or "unknown". */
static char *
describe_staleness(const TcsUnmet *unmet)
{
	if (unmet->proof.fresh_at == 0)
		return pstrdup("unknown");
	return psprintf("%.0f ms", (unmet->now - unmet->proof.fresh_at) / 1000.0);
}

/* Why so much was asked for, as a further sentence. */
static const char *
describe_missing_token(const TcsUnmet *unmet)
{
	if (unmet->req.token_dropped)
		return " The session token was dropped, so this is read as at level \"strong\".";
	return unmet->req.as_strong ?
		" The session was handed no token, so this is read as at level \"strong\"." : "";
}

/* The same, and why the statement was not redirected. */
static const char *
describe_redirect(const TcsUnmet *unmet)
{
	if (unmet->redirect_failure == NULL)
		return describe_missing_token(unmet);
	return psprintf("%s The statement was not redirected: %s.",
					describe_missing_token(unmet), unmet->redirect_failure);
}

/* What a hint says last: a level below the one asked for would be served. */
static const char *
advise_level(const TcsUnmet *unmet, const char *sentence)
{
	/* tcs.fallback does not go below a floor */
	if (unmet->has_floor &&
		tcs_level_rank(unmet->floor) >= tcs_requirement_rank(&unmet->req))
		return "A floor in tcs.rules forbids a weaker level; tcs.relax() is for an emergency.";
	return sentence;
}

static const char *const allow_weaker = "A weaker level can be allowed in tcs.fallback.";
static const char *const allow_strong = "Level \"strong\" can be allowed in tcs.fallback.";

/* What is behind: the token's position, or the primary's answer. */
static TcsPosition
needed_position(const TcsUnmet *unmet)
{
	const TcsRequirement *req = &unmet->req;
	TcsAnswer	target;

	if (req->fresh_after != 0 &&
		(req->needed.lsn == InvalidXLogRecPtr ||
		 tcs_position_reached(req->needed, unmet->proof.at)) &&
		tcs_fresh_target(req->fresh_after, &target))
		return target.at;
	return req->needed;
}

static int
report_behind(const TcsUnmet *unmet)
{
	const TcsRequirement *req = &unmet->req;
	double		waited = unmet->waited_us / 1000.0;
	TcsPosition needed = needed_position(unmet);
	const char *stalled = unmet->in_recovery ? tcs_replay_stall_reason() : NULL;

	if (!unmet->in_recovery && req->reason == TCS_REASON_NONE)
	{
		errmsg(req->by_quorum ?
			   "a commit that a read on a standby may have shown is not visible here yet" :
			   "a commit that this session has seen on a standby is not visible here yet");
		errdetail("%s " TCS_LSN_FMT ", and after waiting %.0f ms a commit before that was still under way on this primary; it may wait for a synchronous standby.",
				  req->by_quorum ? "A quorum has confirmed" : "The token names",
				  LSN_FORMAT_ARGS(req->needed.lsn), waited);
		return errhint("Retry, raise tcs.max_wait, or see the wait event SyncRep in pg_stat_activity.");
	}
	if (!unmet->in_recovery)
	{
		errmsg("this server is on an older timeline than the session token");
		errdetail("The token is of timeline %u, this server writes timeline %u: it is not the primary any more.",
				  needed.tli, unmet->proof.at.tli);
		return errhint("Connect to the present primary or one of its standbys.");
	}

	errmsg("this standby is behind what a read at level \"%s\" needs",
		   tcs_level_name(req->level));
	if (needed.tli > unmet->proof.at.tli)
		errdetail("Needed " TCS_LSN_FMT " of timeline %u, reached " TCS_LSN_FMT " of timeline %u after waiting %.0f ms.%s%s%s",
				  LSN_FORMAT_ARGS(needed.lsn), needed.tli,
				  LSN_FORMAT_ARGS(unmet->proof.at.lsn), unmet->proof.at.tli, waited,
				  stalled ? " " : "", stalled ? stalled : "",
				  describe_redirect(unmet));
	else
		errdetail("Needed " TCS_LSN_FMT ", reached " TCS_LSN_FMT " (staleness %s) after waiting %.0f ms. %s%s",
				  LSN_FORMAT_ARGS(needed.lsn), LSN_FORMAT_ARGS(unmet->proof.at.lsn),
				  describe_staleness(unmet), waited,
				  describe_progress(needed.lsn, unmet->proof.at.lsn),
				  describe_redirect(unmet));
	return errhint("Retry, ask another node, or raise tcs.max_wait. %s",
				   advise_level(unmet, allow_weaker));
}

static int
report_unknown(const TcsUnmet *unmet)
{
	TcsLinkInfo link;

	if (unmet->req.detail)
	{
		errmsg("cannot tell whether this server is fresh enough for a read at level \"%s\"",
			   tcs_level_name(unmet->req.level));
		errdetail("%s%s", unmet->req.detail, describe_redirect(unmet));
		return unmet->req.hint ? errhint("%s", unmet->req.hint) : 0;
	}

	tcs_fresh_get_link(&link);
	errmsg("cannot tell whether this standby is fresh enough for a read at level \"%s\"",
		   tcs_level_name(unmet->req.level));
	if (link.worker_pid == 0)
	{
		errdetail("The worker that asks the primary is not running (waited %.0f ms).",
				  unmet->waited_us / 1000.0);
		return errhint("See the server log; max_worker_processes may be too low.");
	}
	if (link.lost_at != 0 && tcs_now() >= tcs_fresh_gone_at())
		errdetail("The primary has given no usable answer for %.0f s: %s. The read has waited %.0f ms.%s",
				  (tcs_now() - link.lost_at) / 1000000.0, tcs_fresh_link_reason(&link),
				  unmet->waited_us / 1000.0, describe_redirect(unmet));
	else if (link.state == TCS_LINK_UP)
		errdetail("The primary has not answered within %.0f ms.%s",
				  unmet->waited_us / 1000.0, describe_redirect(unmet));
	else
		errdetail("No usable answer of the primary within %.0f ms: %s.%s",
				  unmet->waited_us / 1000.0, tcs_fresh_link_reason(&link),
				  describe_redirect(unmet));
	return errhint("See tcs.status for the link to the primary; ask another node meanwhile. %s",
				   advise_level(unmet, allow_weaker));
}

static int
report_lost(const TcsUnmet *unmet)
{
	const TcsRequirement *req = &unmet->req;

	errmsg(req->detail ? "what the session token names is not part of the primary's history" :
		   "what the session token names is not part of this server's history");
	if (req->detail)
		errdetail_internal("%s", req->detail);
	else if (req->apart)
		errdetail("The token names timeline %u, and the session has also written or read on another history: one of the two was lost in a failover.",
				  req->needed.tli);
	else if (req->fork.tli != 0)
		errdetail("The token names " TCS_LSN_FMT " of timeline %u, which this server's history left at " TCS_LSN_FMT ": the write was lost in a failover.",
				  LSN_FORMAT_ARGS(req->needed.lsn), req->needed.tli,
				  LSN_FORMAT_ARGS(req->fork.end));
	else if (req->past_end)
		errdetail("The token names " TCS_LSN_FMT ", but this server has written WAL only up to " TCS_LSN_FMT ": the write was lost in a crash, or the token is not genuine.%s",
				  LSN_FORMAT_ARGS(req->needed.lsn),
				  LSN_FORMAT_ARGS(unmet->proof.at.lsn),
				  req->not_durable ?
				  " The write was not flushed when the token was made (see synchronous_commit)." : "");
	else
		errdetail("The token names " TCS_LSN_FMT " of another timeline %u: the write was lost in a failover.",
				  LSN_FORMAT_ARGS(req->needed.lsn), req->needed.tli);
	return errhint("Check whether the write is there, repeat it if not, and set tcs.session_token to ''.");
}

/* Is it a transaction of level "snapshot" that asks for more than it has? */
static bool
is_misplaced_snapshot(const TcsUnmet *unmet)
{
	return !unmet->nested &&
		(unmet->req.level == TCS_LEVEL_SNAPSHOT || tcs_transaction_is_by_level());
}

/* What is known of a snapshot that is too old, as a detail line. */
static void
describe_snapshot(const TcsUnmet *unmet)
{
	if (unmet->imported)
		errdetail("The snapshot was imported, and nothing is known of what it includes.");
	else if (unmet->req.needed.lsn != InvalidXLogRecPtr &&
			 !tcs_position_reached(unmet->req.needed, unmet->proof.at))
		errdetail("Needed " TCS_LSN_FMT ", the snapshot is known to include " TCS_LSN_FMT ".",
				  LSN_FORMAT_ARGS(unmet->req.needed.lsn),
				  LSN_FORMAT_ARGS(unmet->proof.at.lsn));
	else
		errdetail("The snapshot is known to include " TCS_LSN_FMT ", and the primary had acknowledged more by the moment asked for, or has not answered.",
				  LSN_FORMAT_ARGS(unmet->proof.at.lsn));
}

static int
report_snapshot(const TcsUnmet *unmet)
{
	if (is_misplaced_snapshot(unmet))
	{
		errmsg("a read at level \"%s\" came too late in its transaction",
			   tcs_level_name(unmet->req.level));
		if (unmet->req.level == TCS_LEVEL_SNAPSHOT && !unmet->one_snapshot)
		{
			errdetail("The transaction may have read at another level before, and has no snapshot of its own.");
			return errhint("Set the level before the transaction, or before its first query; it is in force for the next one.");
		}
		errdetail("Needed " TCS_LSN_FMT ", the transaction's snapshot is known to include " TCS_LSN_FMT ".",
				  LSN_FORMAT_ARGS(unmet->req.needed.lsn),
				  LSN_FORMAT_ARGS(unmet->proof.at.lsn));
		return errhint("Set level and token before the transaction, or before its first query; they are in force for the next one.");
	}
	if (unmet->rules_changed && !unmet->fixed)
	{
		errmsg("could not serialize access: the rules have changed while the statement ran");
		errdetail("What it reads is to be read at level \"%s\" now.", tcs_level_name(unmet->req.level));
		return errhint("Retry the transaction.");
	}
	if (unmet->nested && !unmet->one_snapshot)
	{
		errmsg("a read inside a statement asks for more freshness than the statement itself");
		errdetail("It is at level \"%s\"; a wait inside a statement would come too late for its snapshot.",
				  tcs_level_name(unmet->req.level));
		return errhint("Set level and token before the calling statement, or make a rule for the function that reads.");
	}
	if (unmet->retry_helps)
	{
		errmsg("could not serialize access: the transaction's snapshot is older than what a read at level \"%s\" needs",
			   tcs_level_name(unmet->req.level));
		describe_snapshot(unmet);
		return errhint("Retry the transaction.");
	}
	errmsg("a read at level \"%s\" came too late in its transaction",
		   tcs_level_name(unmet->req.level));
	describe_snapshot(unmet);
	if (unmet->imported)
		return errhint("Where snapshots are imported, set tcs.read_level to \"eventual\", and check freshness in the session that exports.");
	if (!unmet->fixed)
		return errhint("Read by a statement of its own.");
	return errhint("Set tcs.read_level to \"%s\", and the session token, before the transaction's first query: a rule or hint of a later statement cannot renew the snapshot.",
				   tcs_level_name(unmet->req.level));
}

static int
report_unconfirmed(const TcsUnmet *unmet)
{
	errmsg("cannot tell whether %s when a read at level \"%s\" came",
		   unmet->in_recovery ? "the primary still was one" : "this server still was the primary",
		   tcs_level_name(unmet->req.level));
	if (unmet->seen.lsn != InvalidXLogRecPtr)
		errdetail("The read can show what was written up to " TCS_LSN_FMT ", and its quorum of synchronous standbys has confirmed " TCS_LSN_FMT " after %.0f ms.%s",
				  LSN_FORMAT_ARGS(unmet->seen.lsn), LSN_FORMAT_ARGS(unmet->confirmed),
				  unmet->waited_us / 1000.0, describe_redirect(unmet));
	else
		errdetail("Its quorum of synchronous standbys has not confirmed that after %.0f ms.%s",
				  unmet->waited_us / 1000.0, describe_redirect(unmet));
	return errhint("See pg_stat_replication on the primary for its synchronous standbys; ask another node, or raise tcs.max_wait. %s",
				   advise_level(unmet, allow_strong));
}

/* SQLSTATE of a reason. */
static int
sqlstate_of(const TcsUnmet *unmet)
{
	switch (unmet->reason)
	{
		case TCS_REASON_BEHIND:
			return ERRCODE_TCS_BEHIND;
		case TCS_REASON_FOREIGN:
			return ERRCODE_TCS_FOREIGN_CLUSTER;
		case TCS_REASON_LOST:
			return ERRCODE_TCS_LOST_IN_FAILOVER;
		case TCS_REASON_SNAPSHOT:
			if (is_misplaced_snapshot(unmet))
				return ERRCODE_ACTIVE_SQL_TRANSACTION;
			if (unmet->nested && !unmet->one_snapshot)
				return unmet->rules_changed ? ERRCODE_T_R_SERIALIZATION_FAILURE :
					ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
			return unmet->retry_helps ? ERRCODE_T_R_SERIALIZATION_FAILURE :
				ERRCODE_ACTIVE_SQL_TRANSACTION;
		case TCS_REASON_BLOCKING:
			return ERRCODE_T_R_DEADLOCK_DETECTED;
		case TCS_REASON_NO_QUORUM:
			return ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
		case TCS_REASON_NO_TOKEN:
			return ERRCODE_TCS_NO_TOKEN;
		case TCS_REASON_UNCONFIRMED:
		case TCS_REASON_UNKNOWN:
		case TCS_REASON_NONE:
		case TCS_REASON_RELAXED:
		case TCS_REASON_COUNT:
			break;
	}
	return ERRCODE_TCS_FRESHNESS_UNKNOWN;
}

/* Message, detail and hint of a reason. */
static int
report_reason(const TcsUnmet *unmet)
{
	switch (unmet->reason)
	{
		case TCS_REASON_BEHIND:
			return report_behind(unmet);
		case TCS_REASON_FOREIGN:
			errmsg("the session token is of another database cluster");
			errdetail("The token was made by a cluster with another system identifier.");
			return errhint("Hand a token only to the cluster that it came from, or set tcs.session_token to ''.");
		case TCS_REASON_LOST:
			return report_lost(unmet);
		case TCS_REASON_SNAPSHOT:
			return report_snapshot(unmet);
		case TCS_REASON_BLOCKING:
			errmsg("deadlock detected between this session and replay");
			errdetail("The session waits for replay, which waits for a lock, snapshot or buffer pin of a session that holds one.");
			return errhint("Retry the transaction, with the session token set before its first query.");
		case TCS_REASON_NO_QUORUM:
			errmsg("no quorum can confirm a read at level \"%s\"", tcs_level_name(unmet->req.level));
			errdetail("%s", tcs_quorum_problem(unmet->quorum));
			if (unmet->quorum == TCS_QUORUM_RELOADING)
				return errhint("Retry the statement.");
			return errhint("On each server that may be primary, name more than half of the cluster in synchronous_standby_names, without the server itself (\"ANY 1 (b, c)\" on a). %s",
						   advise_level(unmet, allow_strong));
		case TCS_REASON_UNCONFIRMED:
			return report_unconfirmed(unmet);
		case TCS_REASON_NO_TOKEN:
			errmsg("a read at level \"%s\" needs a session token on a standby",
				   tcs_level_name(unmet->req.level));
			errdetail("The session was handed none, and tcs.without_token is \"error\".");
			return errhint("Hand in the token of the last write with SET tcs.session_token, or read on the primary.");
		case TCS_REASON_UNKNOWN:
		case TCS_REASON_NONE:
		case TCS_REASON_RELAXED:
		case TCS_REASON_COUNT:
			break;
	}
	return report_unknown(unmet);
}

/* Refuse the read. */
void
tcs_fallback_error(const TcsUnmet *unmet)
{
	ereport(ERROR,
			(errcode(sqlstate_of(unmet)), report_reason(unmet),
			 unmet->rule != 0 ? errcontext("read level required by rule %d", unmet->rule) : 0));
}

/* Tell the client that it gets less than it asked for. */
void
tcs_fallback_warn(const TcsUnmet *unmet, TcsLevel served_at)
{
	TcsPosition needed = needed_position(unmet);
	bool		unknown = unmet->reason == TCS_REASON_UNKNOWN;

	ereport(WARNING_CLIENT_ONLY,
			(errcode(sqlstate_of(unmet)),
			 errmsg("read served at level \"%s\" instead of \"%s\"",
					tcs_level_name(served_at), tcs_level_name(unmet->req.level)),
			 unmet->reason == TCS_REASON_NO_QUORUM ?
			 errdetail("Reason: %s. %s", tcs_reason_text(unmet->reason),
					   tcs_quorum_problem(unmet->quorum)) :
			 !unknown ?
			 errdetail("Reason: %s. Needed " TCS_LSN_FMT ", reached " TCS_LSN_FMT " after waiting %.0f ms.",
					   tcs_reason_text(unmet->reason),
					   LSN_FORMAT_ARGS(needed.lsn),
					   LSN_FORMAT_ARGS(unmet->proof.at.lsn),
					   unmet->waited_us / 1000.0) :
			 unmet->proof.fresh_at != 0 ?
			 errdetail("The primary did not answer in time; the read is at most %s stale.",
					   describe_staleness(unmet)) :
			 errdetail("The freshness of this standby is not known.")));
}

/* Tell the client that its token is gone, and why. */
void
tcs_fallback_warn_dropped(const TcsUnmet *unmet)
{
	const TcsRequirement *req = &unmet->req;

	ereport(WARNING_CLIENT_ONLY,
			(errcode(req->reason == TCS_REASON_FOREIGN ? ERRCODE_TCS_FOREIGN_CLUSTER :
					 ERRCODE_TCS_LOST_IN_FAILOVER),
			 errmsg("a session token that cannot be served was dropped"),
			 req->reason == TCS_REASON_FOREIGN ?
			 errdetail("It was made by a cluster with another system identifier.") :
			 errdetail("It names " TCS_LSN_FMT " of timeline %u, which is not part of this server's history: the write was lost in a failover or crash.",
					   LSN_FORMAT_ARGS(req->token_at.lsn), req->token_at.tli),
			 errhint("Check whether the last write is there.  What follows is read as at level \"strong\", once.")));
}

/* The same where this node serves less to everybody. */
void
tcs_fallback_warn_relaxed(TcsLevel asked, TcsLevel served_at)
{
	ereport(WARNING_CLIENT_ONLY,
			(errcode(ERRCODE_WARNING),
			 errmsg("read served at level \"%s\" instead of \"%s\"",
					tcs_level_name(served_at), tcs_level_name(asked)),
			 errdetail("Reason: %s. This node serves less for a time; see tcs.relaxed.",
					   tcs_reason_text(TCS_REASON_RELAXED))));
}
