/*-------------------------------------------------------------------------
 *
 * requirement.h
 *	  What a read asks of its snapshot.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_REQUIREMENT_H
#define TCS_REQUIREMENT_H

#include "base/history.h"
#include "base/settings.h"
#include "token/token.h"

/* What a requirement depends on, besides the level; read once by the gate. */
typedef struct TcsContext
{
	/* the client's side */
	const TcsToken *token;		/* or NULL */
	bool		token_handed;	/* by the client, for the session or this read */
	bool		token_is_missing;	/* the session has none, and should */
	bool		may_drop_token; /* if it is lost */
	bool		token_dropped;	/* it was lost: read as at level "strong" */
	bool		may_redirect;
	int			redirect_after; /* ms */
	TcsWithoutToken without_token;
	int64		max_staleness;	/* us */
	int64		max_lag;		/* bytes, -1: off */
	uint64		generation;		/* of the settings that this was read from */
	bool		one_snapshot;	/* the transaction reads by one: its isolation
								 * level */

	/* this node */
	bool		fixed;			/* the snapshot at hand was taken before */
	bool		is_confirmed;	/* and a quorum has confirmed what it shows */
	bool		in_recovery;
	uint64		system_identifier;
	TcsPosition at;				/* replayed, or inserted on a primary */
	XLogRecPtr	confirmed;		/* on a primary: by a quorum, for anybody */
	TcsPosition acknowledged;	/* on a primary: what the snapshot at hand has
								 * of this session's tokens, if it is fixed */
	const TcsHistory *history;	/* that ends in at.tli */
	bool		have_newest;
	TcsAnswer	newest;			/* the primary's newest answer */

	int64		arrival;		/* the statement's moment */
} TcsContext;

typedef struct TcsRequirement
{
	TcsLevel	level;
	TcsReason	reason;			/* not NONE: no wait can meet it */
	const char *detail;			/* for UNKNOWN: why, if not for want of
								 * answers; for LOST: in the words of the
								 * primary, if that has said so */
	const char *hint;			/* with a detail; may be NULL */
	TcsTimeline fork;			/* for LOST: the timeline left, tli 0: none */
	bool		past_end;		/* for LOST: it is past the end of WAL here */
	bool		not_durable;	/* for LOST: it was not flushed */
	bool		apart;			/* for LOST: it spans two histories */
	TcsPosition needed;			/* lsn 0: none */
	bool		by_quorum;		/* a quorum's confirmation names that, not the
								 * token */
	TcsPosition token_at;		/* the whole of what the token names */
	TimeLineID	made_on;		/* valid as long as the node is on this */
	int64		fresh_after;	/* 0: none */
	bool		as_strong;		/* for want of a token ... */
	bool		token_dropped;	/* ... that was lost */
	bool		confirm;		/* a quorum has to confirm what is shown */
	TcsPosition target;			/* that a wait for fresh_after chose; for show */
	bool		need_newest;	/* a lag bound, and no answer to count from: */
	int64		max_lag;		/* bytes */
} TcsRequirement;

extern void tcs_requirement_make(TcsLevel level, const TcsContext *context,
								 TcsRequirement *req);
extern void tcs_requirement_add_lag(TcsRequirement *req, bool have_newest,
									const TcsAnswer *newest, int64 max_lag,
									TcsPosition at);
extern int	tcs_requirement_rank(const TcsRequirement *req);
extern bool tcs_requirement_is_empty(const TcsRequirement *req);
extern TcsPosition tcs_requirement_position(const TcsRequirement *req);
extern bool tcs_requirement_met(const TcsRequirement *req,
								const TcsProof *proof);

#endif							/* TCS_REQUIREMENT_H */
