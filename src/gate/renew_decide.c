/*-------------------------------------------------------------------------
 *
 * renew_decide.c
 *	  A read has to wait, or be redirected: the next step, from what came of the
 *	  last one.
 *
 * NOTES
 *	  Pure: it reads the TcsRenewal alone.  Each step is taken by renew.c, which
 *	  comes back with what has changed.  test/modules has the table of what is
 *	  decided when.
 *
 *	  Where a read can be redirected, its first wait is short, and given up when it
 *	  is known to be hopeless.  If it then turns out that it cannot be redirected
 *	  after all, the rest of the time is waited for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "gate/read.h"

/* The steps that count as taken after one more. */
int
tcs_renew_tried(int tried, TcsRenewStep step)
{
	/* without the token all begins again */
	if (step == TCS_RENEW_DROP_TOKEN)
		tried = 0;
	return tried | (1 << step);
}

/* Has it not been met, on this node? */
bool
tcs_renewal_is_unmet(const TcsRenewal *renewal)
{
	return renewal->result == TCS_WAIT_TIMEOUT || renewal->result == TCS_WAIT_HOPELESS ||
		renewal->result == TCS_WAIT_BLOCKING || renewal->result == TCS_WAIT_NO_QUORUM;
}

/* The short wait of a read that can be redirected is over. */
static bool
decide_after_short_wait(const TcsRenewal *renewal, TcsRenewStep *step)
{
	/* the primary has no other quorum */
	if (renewal->result == TCS_WAIT_NO_QUORUM)
		return false;
	if (renewal->redirect_is_next && !(renewal->tried & TCS_RENEWED_REDIRECT))
		*step = TCS_RENEW_REDIRECT;
	else if (renewal->can_release && !(renewal->tried & TCS_RENEWED_RELEASE_LOCKS))
		*step = TCS_RENEW_RELEASE_LOCKS;
	/* no wait ends while replay waits for this session */
	else if (renewal->result == TCS_WAIT_BLOCKING &&
			 !(renewal->tried & TCS_RENEWED_RELEASE_LOCKS))
		return false;
	/* it is refused, for a reason that the primary may have told */
	else if (renewal->unmeetable)
		return false;
	else
		*step = TCS_RENEW_WAIT;
	return true;
}

/* The next step. */
TcsRenewStep
tcs_renew_decide(const TcsRenewal *renewal)
{
	TcsRenewStep step;

	if (!(renewal->tried & (TCS_RENEWED_WAIT_BRIEFLY | TCS_RENEWED_WAIT)))
		return renewal->can_redirect || renewal->may_come_late ?
			TCS_RENEW_WAIT_BRIEFLY : TCS_RENEW_WAIT;
	if (!tcs_renewal_is_unmet(renewal))
		return TCS_RENEW_END;
	if (!(renewal->tried & TCS_RENEWED_REASON))
	{
		if (renewal->can_redirect && !(renewal->tried & TCS_RENEWED_WAIT) &&
			decide_after_short_wait(renewal, &step))
			return step;
		if (renewal->token_is_lost && !(renewal->tried & TCS_RENEWED_DROP_TOKEN))
			return TCS_RENEW_DROP_TOKEN;
		return TCS_RENEW_NOTE_REASON;
	}

	/*
	 * Before locks are taken again, or the statement is analysed again:
	 * replay may have stopped while it holds one of them.
	 */
	return renewal->refuse_is_next ? TCS_RENEW_REFUSE : TCS_RENEW_END;
}
