/*-------------------------------------------------------------------------
 *
 * requirement.c
 *	  What a read asks of its snapshot.
 *
 * NOTES
 *	  Pure: what goes in is in the context, what comes out in the requirement.
 *	  "bounded" and "strong" are one thing, commits acknowledged before an
 *	  instant, which lies in the past for the one and is the statement's
 *	  arrival for the other.
 *
 *	  On a primary only what was seen on a standby asks for anything: whatever
 *	  was acknowledged is visible there, but a commit can be replayed and read
 *	  elsewhere before its own backend has finished (see primary/commits_in_flight.c).
 *
 *	  "linearizable" is "strong", and then a confirmation of what the snapshot
 *	  shows, which can only come after it was taken; that part is the gate's.  A
 *	  linearizable read of another node may have returned anything up to the
 *	  position that was confirmed last, so on a primary that is asked for like
 *	  what a token has seen on a standby, and on a standby it is part of each
 *	  answer (see primary/quorum.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/level.h"
#include "gate/requirement.h"

/* The part of a token that a level asks for. */
static XLogRecPtr
token_part(TcsLevel level, const TcsToken *token)
{
	XLogRecPtr	written = token->written;
	XLogRecPtr	seen = Max(token->seen_primary, token->seen_standby);

	switch (level)
	{
		case TCS_LEVEL_EVENTUAL:
		case TCS_LEVEL_CONSISTENT_PREFIX:
			return InvalidXLogRecPtr;
		case TCS_LEVEL_READ_YOUR_WRITES:
			return written;
		case TCS_LEVEL_MONOTONIC_READS:
			return seen;
		default:
			return Max(written, seen);
	}
}

/* Of what the session did apart from its token, what does a level ask for? */
static uint32
apart_flags(TcsLevel level)
{
	switch (level)
	{
		case TCS_LEVEL_READ_YOUR_WRITES:
			return TCS_TOKEN_WROTE_APART;
		case TCS_LEVEL_MONOTONIC_READS:
			return TCS_TOKEN_SAW_APART;
		default:
			return TCS_TOKEN_APART;
	}
}

/*
 * On a primary, which has all that the token names or has lost it: which commits
 * may still be under way?
 */
static void
require_commits(TcsLevel level, const TcsContext *context, XLogRecPtr lsn,
				TcsRequirement *req)
{
	const TcsToken *token = context->token;
	TcsPosition written;

	if (token->tli == context->at.tli && lsn > context->at.lsn)
	{
		req->reason = TCS_REASON_LOST;
		req->past_end = true;
		req->not_durable = lsn == token->written &&
			(token->flags & TCS_TOKEN_NOT_DURABLE) != 0;
		return;
	}

	/* nothing of an older timeline is still under way */
	req->needed.lsn = token->tli == context->at.tli &&
		level != TCS_LEVEL_READ_YOUR_WRITES ?
		token->seen_standby : InvalidXLogRecPtr;

	/*
	 * That it is visible here is no help to a snapshot that was taken before.
	 * What was only read here is not counted: the transaction chose its
	 * snapshot, and a dump by several sessions imports one on purpose.
	 */
	written.tli = token->tli;
	written.lsn = level == TCS_LEVEL_MONOTONIC_READS ? InvalidXLogRecPtr : token->written;
	if (context->fixed && !tcs_position_reached(written, context->acknowledged))
		req->needed.lsn = Max(req->needed.lsn, written.lsn);
}

/* Turn a token into a position on this node's history, or into a refusal. */
static void
require_token(TcsLevel level, const TcsContext *context, TcsRequirement *req)
{
	const TcsToken *token = context->token;
	XLogRecPtr	lsn;
	bool		apart;

	if (token == NULL || tcs_level_rank(level) == 0)
		return;
	if (token->version == 0)
	{
		req->reason = TCS_REASON_UNKNOWN;
		req->detail = "The session token was made by a newer version of tcs.";
		req->hint = "Upgrade tcs on this node.";
		return;
	}
	lsn = token_part(level, token);
	apart = (token->flags & apart_flags(level)) != 0;
	if (lsn == InvalidXLogRecPtr && !apart)
		return;

	req->needed.tli = token->tli;
	req->needed.lsn = lsn;
	req->token_at = req->needed;
	if (token->system_identifier != context->system_identifier)
	{
		req->reason = TCS_REASON_FOREIGN;
		return;
	}

	switch (tcs_history_locate(context->history, token->tli, token->tli_begin,
							   lsn, &req->fork))
	{
		case TCS_HISTORY_FORKED:
			req->reason = TCS_REASON_LOST;
			return;
		case TCS_HISTORY_UNKNOWN:
			req->reason = TCS_REASON_UNKNOWN;
			req->detail = "The timeline history file of this node is missing.";
			return;
		case TCS_HISTORY_NEWER:
			if (apart)
				break;
			/* a standby may yet follow; a primary was deposed */
			if (!context->in_recovery)
				req->reason = TCS_REASON_BEHIND;
			return;
		case TCS_HISTORY_YES:
			break;
	}
	if (apart)
	{
		req->reason = TCS_REASON_LOST;
		req->apart = true;
		return;
	}

	if (!context->in_recovery)
		require_commits(level, context, lsn, req);
}

/*
 * The session was handed no token, so at a level that goes by it nothing tells
 * what the client has written or seen elsewhere.
 */
static void
require_without_token(TcsLevel level, const TcsContext *context, TcsRequirement *req)
{
	if (context->token_dropped && tcs_level_rank(level) > 0)
	{
		req->as_strong = req->token_dropped = true;
		return;
	}
	if (context->token_handed || !tcs_level_is_by_token(level))
		return;
	switch (context->without_token)
	{
		case TCS_WITHOUT_TOKEN_ACCEPT:
			break;
		case TCS_WITHOUT_TOKEN_STRONG:
			req->as_strong = true;
			break;
		case TCS_WITHOUT_TOKEN_ERROR:
			req->reason = TCS_REASON_NO_TOKEN;
			break;
	}
}

/*
 * The lag bound as a position: that far behind the newest answer.
 *
 * Called again in the wait (wait.c) once an answer has come, if there was none.
 */
void
tcs_requirement_add_lag(TcsRequirement *req, bool have_newest,
						const TcsAnswer *newest, int64 max_lag, TcsPosition at)
{
	XLogRecPtr	lsn;

	if (max_lag < 0)
		return;
	req->need_newest = !have_newest;
	req->max_lag = max_lag;
	if (!have_newest)
		return;

	lsn = newest->at.lsn > max_lag ? newest->at.lsn - max_lag : InvalidXLogRecPtr;
	if (lsn > req->needed.lsn)
	{
		req->needed.lsn = lsn;
		/* the newest answer may be of a timeline that is still to come */
		req->needed.tli = Max(req->needed.tli, Min(newest->at.tli, at.tli));
	}
}

/* Compute what a read at a level asks for. */
void
tcs_requirement_make(TcsLevel level, const TcsContext *context,
					 TcsRequirement *req)
{
	memset(req, 0, sizeof(*req));
	req->level = level;
	req->made_on = context->at.tli;
	req->confirm = level == TCS_LEVEL_LINEARIZABLE && !context->is_confirmed;
	require_token(level, context, req);
	if (req->reason != TCS_REASON_NONE)
		return;
	if (!context->in_recovery)
	{
		if (req->confirm && context->confirmed > req->needed.lsn)
		{
			req->needed.tli = context->at.tli;
			req->needed.lsn = context->confirmed;
			req->by_quorum = true;
		}
		return;
	}

	require_without_token(level, context, req);
	if (level == TCS_LEVEL_STRONG || level == TCS_LEVEL_LINEARIZABLE || req->as_strong)
		req->fresh_after = Max(context->arrival, 1);
	else if (level == TCS_LEVEL_BOUNDED)
	{
		req->fresh_after = Max(context->arrival - context->max_staleness, 1);
		tcs_requirement_add_lag(req, context->have_newest, &context->newest,
								context->max_lag, context->at);
	}
}

/* Its strength, as of levels; see tcs_level_rank(). */
int
tcs_requirement_rank(const TcsRequirement *req)
{
	return tcs_level_rank(req->as_strong || req->reason == TCS_REASON_NO_TOKEN ?
						  TCS_LEVEL_STRONG : req->level);
}

/* Does it ask for nothing at all? */
bool
tcs_requirement_is_empty(const TcsRequirement *req)
{
	return req->reason == TCS_REASON_NONE &&
		req->needed.lsn == InvalidXLogRecPtr &&
		req->fresh_after == 0 && !req->need_newest && !req->confirm;
}

/* The position to show for it; lsn 0 if there is none. */
TcsPosition
tcs_requirement_position(const TcsRequirement *req)
{
	if (req->target.lsn > req->needed.lsn)
		return req->target;
	return req->needed;
}

/* Does a snapshot with this proof meet it, but for a confirmation? */
bool
tcs_requirement_met(const TcsRequirement *req, const TcsProof *proof)
{
	if (req->reason != TCS_REASON_NONE || req->need_newest)
		return false;
	if (req->needed.lsn != InvalidXLogRecPtr &&
		!tcs_position_reached(req->needed, proof->at))
		return false;
	return req->fresh_after == 0 || proof->fresh_at >= req->fresh_after;
}
