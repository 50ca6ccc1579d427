/*-------------------------------------------------------------------------
 *
 * decide.c
 *	  What is to be done with a read: the next step, from what is known of it.
 *
 * NOTES
 *	  Pure: it reads the TcsRead, and neither settings nor the state of session
 *	  or server.  Each step is taken by gate.c, which comes back with what has
 *	  changed.  test/modules has the table of what is decided when.
 *
 *	  A read whose requirement is met passes at once.  All that comes later is
 *	  for one that would have to wait, or be redirected or refused.  First comes
 *	  what makes that unnecessary: core refuses it anyway, standing defaults do
 *	  not bind it, the emergency valve is open.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "gate/read.h"

/* A new snapshot was asked for: what has become of that? */
static TcsAction
decide_renewed(const TcsRead *read, TcsFailing *failing)
{
	const TcsUnmet *facts = &read->facts;

	switch (read->result)
	{
		case TCS_WAIT_REDIRECTED:
			return TCS_ACTION_NOTE_REDIRECTED;
		case TCS_WAIT_DISABLED:
			return TCS_ACTION_LEAVE;
		case TCS_WAIT_MET:
			if (facts->req.confirm && !(read->tried & TCS_TRIED_CONFIRM))
				return TCS_ACTION_CONFIRM;
			if (facts->reason == TCS_REASON_NONE)
				return TCS_ACTION_SERVE;
			break;
		case TCS_WAIT_NOT_IN_RECOVERY:
			if (!(read->tried & TCS_TRIED_PROMOTED))
				return TCS_ACTION_JUDGE_PROMOTED;
			if (facts->reason == TCS_REASON_NONE && read->met)
				return TCS_ACTION_SERVE;
			break;
		default:
			break;
	}
	*failing = TCS_FAILING_AFTER_WAIT;
	return TCS_ACTION_FAIL;
}

/* It is fresh enough, or will be, and a quorum has to confirm that. */
static bool
needs_only_confirmation(const TcsRead *read)
{
	const TcsUnmet *facts = &read->facts;

	/*
	 * on a primary, a snapshot from before a commit was waited for is no
	 * proof
	 */
	return read->met && facts->req.confirm &&
		(facts->in_recovery || facts->req.needed.lsn == InvalidXLogRecPtr ||
		 facts->fixed || read->site.kind == TCS_SITE_NESTED);
}

/* What is done before a read waits, and makes that unnecessary. */
static bool
decide_before_wait(const TcsRead *read, TcsAction *action)
{
	bool		leaves = read->site.kind == TCS_SITE_BARE && read->facts.fixed;

	if (!(read->tried & TCS_TRIED_WRITE))
		*action = TCS_ACTION_REFUSE_WRITE;
	else if (!(read->tried & TCS_TRIED_EXCUSE))
		*action = TCS_ACTION_EXCUSE;
	else if (!(read->tried & TCS_TRIED_RELAX) && !leaves &&
			 (!read->met || read->misplaced || read->facts.req.confirm))
		*action = TCS_ACTION_RELAX;
	else
		return false;
	return true;
}

/* The next step.  With TCS_ACTION_FAIL comes why. */
TcsAction
tcs_gate_decide(const TcsRead *read, TcsFailing *failing)
{
	const TcsUnmet *facts = &read->facts;
	TcsAction	action;

	*failing = TCS_FAILING_NOT;
	if (read->follows)
		return TCS_ACTION_FOLLOW;
	if (read->tried & TCS_TRIED_RENEW)
		return decide_renewed(read, failing);
	if (read->tried & TCS_TRIED_CONFIRM)
	{
		if (facts->reason == TCS_REASON_NONE)
			return TCS_ACTION_SERVE;
		*failing = TCS_FAILING_AFTER_WAIT;
		return TCS_ACTION_FAIL;
	}
	if (read->may_drop_token && tcs_reason_is_lost(facts->req.reason) &&
		!(read->tried & TCS_TRIED_DROP))
		return TCS_ACTION_DROP_TOKEN;
	if (read->met && !read->misplaced && !facts->req.confirm && !read->site.fix_snapshot)
		return TCS_ACTION_SERVE;

	if (decide_before_wait(read, &action))
		return action;
	if (read->misplaced)
	{
		*failing = TCS_FAILING_MISPLACED;
		return TCS_ACTION_FAIL;
	}
	if (needs_only_confirmation(read))
		return TCS_ACTION_CONFIRM;
	/* SET after the first query: the next statement will tell */
	if (read->site.kind == TCS_SITE_BARE && facts->fixed)
		return TCS_ACTION_LEAVE;

	if (!(read->tried & TCS_TRIED_SURVEY))
		return TCS_ACTION_SURVEY;
	/* a plan that is void has to be made again even to serve less */
	if (facts->req.reason != TCS_REASON_NONE &&
		(facts->fixed || !read->can_swap ||
		 !(read->can_redirect || read->plan_is_void)))
	{
		*failing = TCS_FAILING_UNMEETABLE;
		return TCS_ACTION_FAIL;
	}
	if (facts->fixed && !(read->tried & TCS_TRIED_ASK))
		return TCS_ACTION_ASK;
	if (facts->fixed || !read->can_swap)
	{
		/* a statement that was not bound may have come between */
		*failing = facts->fixed && read->gave_up ? TCS_FAILING_GAVE_UP : TCS_FAILING_TOO_LATE;
		return TCS_ACTION_FAIL;
	}
	return TCS_ACTION_RENEW;
}
