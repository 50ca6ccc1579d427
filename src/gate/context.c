/*-------------------------------------------------------------------------
 *
 * context.c
 *	  Reading, once, everything that a requirement depends on.
 *
 * NOTES
 *	  Below this point no setting is read.  Excepted are those that a read needs
 *	  only when it waits or is redirected.  To read them here would cost instructions
 *	  where the requirement is met, as in each statement of a REPEATABLE READ
 *	  transaction at "bounded".  They are, with the number of those instructions:
 *
 *		choice/standing_default.c	who has said what is asked for	45
 *		gate/wait.c					tcs.max_wait_unknown			3
 *					tcs.primary_conninfo and primary_conninfo		6
 *		redirect					server, limits and time-outs	3 each
 *
 *	  A session reads its configuration between statements alone, so a setting is
 *	  the same there as here, unless a function that planning runs has changed it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"

#include "base/compat.h"
#include "gate/context.h"
#include "primary/quorum.h"
#include "standby/freshness.h"

/*
 * Is this a session without a token on a standby where that is not accepted?  Then
 * what is met by one statement says nothing of the next.
 */
bool
tcs_context_token_is_missing(void)
{
	return tcs_without_token != TCS_WITHOUT_TOKEN_ACCEPT &&
		!tcs_guc_token_is_handed() && RecoveryInProgress();
}

/* Without a choice, as the settings say; the token may be NULL. */
void
tcs_context_build(TcsContext *context, const TcsChoice *choice, const TcsToken *token)
{
	memset(context, 0, sizeof(*context));
	context->token = token;
	context->token_handed = token != NULL &&
		(token != tcs_guc_token() || tcs_guc_token_is_handed());
	context->token_is_missing = tcs_context_token_is_missing();
	context->may_drop_token = tcs_lost_token == TCS_LOST_TOKEN_DROP;
	/* who opens the emergency valve knows that tokens may be missing */
	context->without_token =
		choice != NULL && (choice->by == TCS_BY_RELAX || choice->by == TCS_BY_EXEMPT) ?
		TCS_WITHOUT_TOKEN_ACCEPT : (TcsWithoutToken) tcs_without_token;
	context->max_staleness =
		(int64) (choice != NULL ? choice->max_staleness : tcs_max_staleness) * 1000;
	context->max_lag = tcs_max_lag < 0 ? -1 : (int64) tcs_max_lag * 1024;
	context->may_redirect = tcs_max_redirect_connections > 0;
	context->redirect_after = tcs_redirect_after;
	context->generation = tcs_settings_generation;
	context->one_snapshot = IsolationUsesXactSnapshot();
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
