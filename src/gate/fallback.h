/*-------------------------------------------------------------------------
 *
 * fallback.h
 *	  What becomes of a read whose requirement is not met.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_FALLBACK_H
#define TCS_FALLBACK_H

#include "base/level.h"
#include "gate/requirement.h"
#include "primary/quorum.h"

/* An unmet requirement, and what was tried. */
typedef struct TcsUnmet
{
	bool		may_use_lease;	/* a read lease proves freshness for it ... */
	bool		by_lease;		/* ... and has */
	TcsRequirement req;
	TcsReason	reason;
	TcsProof	proof;			/* what the snapshot to be used proves */
	TcsPosition seen;			/* what a quorum should have confirmed; lsn 0:
								 * it did not come to that */
	XLogRecPtr	confirmed;		/* and what it has */
	TcsQuorumState quorum;		/* what is wrong with it, for NO_QUORUM */
	int64		waited_us;
	bool		in_recovery;
	bool		nested;			/* inside a function */
	bool		rules_changed;	/* since the statement that calls it came */
	/* of a snapshot that is too old: */
	bool		one_snapshot;	/* the transaction reads by one */
	bool		fixed;			/* it is that of the transaction */
	bool		imported;		/* and somebody else's */
	bool		retry_helps;	/* the same would be served now */
	bool		may_relax;		/* the emergency valve may lower tcs_choice,
								 * which it was made for */
	bool		token_only;		/* of which no more than the token counts */
	bool		has_floor;
	TcsLevel	floor;			/* of rules; no fallback goes below */
	int			rule;			/* that the level is from; 0: from none */
	int64		now;
	const char *hopeless;		/* why it was not waited for; NULL: it was */
	const char *redirect_failure;	/* why it was not redirected; NULL: it was
									 * not tried */
	const char *redirect_cause; /* the same in words that everybody may see */
} TcsUnmet;

/* What is to become of it. */
typedef enum TcsVerdict
{
	TCS_VERDICT_REFUSE,
	TCS_VERDICT_DOWNGRADE,
	TCS_VERDICT_REDIRECT
} TcsVerdict;

/* in fallback_decide.c */
extern bool tcs_fallback_has_redirect(const TcsFallback *fallback);
extern TcsVerdict tcs_fallback_decide(const TcsFallback *fallback,
									  const TcsContext *context,
									  const TcsUnmet *unmet, bool can_redirect,
									  TcsLevel *served_at);

/* in fallback.c */
extern void tcs_fallback_error(const TcsUnmet *unmet);
extern void tcs_fallback_warn(const TcsUnmet *unmet, TcsLevel served_at);
extern void tcs_fallback_warn_dropped(const TcsUnmet *unmet);
extern void tcs_fallback_warn_relaxed(TcsLevel asked, TcsLevel served_at);

#endif							/* TCS_FALLBACK_H */
