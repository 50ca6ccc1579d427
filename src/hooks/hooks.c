/*-------------------------------------------------------------------------
 *
 * hooks.c
 *	  Where statements come to the gate.
 *
 * NOTES
 *	  The gate is for statements of the client, not for those that functions
 *	  run.  statement/hook_frames.c tells them apart, whatever errors came before.  What
 *	  runs without a portal is taken for a part of something as well.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "parser/analyze.h"
#include "storage/proc.h"

#include "base/compat.h"
#include "base/settings.h"
#include "choice/hint_origin.h"
#include "hooks/hooks.h"
#include "redirect/names.h"
#include "redirect/remote_xact.h"
#include "session/redirected_for.h"
#include "session/session_token.h"
#include "statement/hook_frames.h"
#include "statement/quietly.h"
#include "write/write_level.h"

static post_parse_analyze_hook_type prev_post_parse_analyze = NULL;

static pg_noinline void
after_analysis(ParseState *pstate, Query *query, TCS_JUMBLE_STATE *jstate)
{
	if (prev_post_parse_analyze)
		prev_post_parse_analyze(pstate, query, jstate);
	if (query->commandType != CMD_SELECT)
		tcs_hint_note_origin(pstate->p_sourcetext, query);
	if (tcs_guc_redirected() != NULL)
		tcs_names_require(pstate->p_sourcetext, query);
}

/*
 * A statement has been analysed: a rule may replace it, or a standby have sent it.
 * For a SELECT of a client there is nothing to do.
 */
static void
tcs_post_parse_analyze(ParseState *pstate, Query *query, TCS_JUMBLE_STATE *jstate)
{
	if (unlikely(query->commandType != CMD_SELECT || tcs_guc_redirected() != NULL ||
				 prev_post_parse_analyze != NULL))
		after_analysis(pstate, query, jstate);
}

/*
 * A transaction that has a write level ends.  Apart, since a struct on the stack of
 * the callback would cost each transaction a check of the stack.
 */
static pg_noinline void
end_write(XactEvent event)
{
	TcsWriteAsked next;

	/* a procedure goes on; after an error there is no frame left */
	tcs_frames_write_asked(&next);
	tcs_write_transaction_ended(event, &next);
}

/*
 * The only such callback of most sessions: the list is gone through at each commit.
 *
 * A transaction that has not written and whose reads are not reported has
 * nothing to do here.  That is nearly all there are on a standby, where all
 * transactions are read-only.  A read-only one can have written by COMMIT
 * PREPARED.
 */
static void
tcs_xact_callback(XactEvent event, void *arg)
{
	if (unlikely(tcs_remote_is_connected) &&
		(event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		 event == XACT_EVENT_PREPARE))
		tcs_remote_transaction_ended();
	if (unlikely(tcs_write_is_ending) &&
		(event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		 event == XACT_EVENT_PREPARE))
		end_write(event);
	if (event == XACT_EVENT_COMMIT)
	{
		if (!tcs_session_is_ending)
			return;
	}
	else if (event == XACT_EVENT_PRE_COMMIT)
	{
		if (XactReadOnly && tcs_report_token != TCS_REPORT_ALL &&
			!TransactionIdIsValid(MyProc->xid) &&
			XactLastRecEnd == InvalidXLogRecPtr &&
			!(tcs_session_report_is_pending && RecoveryInProgress()))
			return;
		if (unlikely(tcs_write_in_force != TCS_WRITE_DEFAULT ||
					 tcs_standbys_defined_compat()))
			tcs_write_before_commit(event);
	}
	else if (event == XACT_EVENT_PRE_PREPARE)
		tcs_write_before_commit(event);
	else if (event == XACT_EVENT_ABORT)
		tcs_quietly_is_running = false;
	tcs_session_at_xact_event(event);
}

static void
tcs_subxact_callback(SubXactEvent event, SubTransactionId mySubid,
					 SubTransactionId parentSubid, void *arg)
{
	if (unlikely(tcs_quietly_is_running))
		return;
	if (unlikely(tcs_remote_is_connected) &&
		(event == SUBXACT_EVENT_ABORT_SUB || event == SUBXACT_EVENT_COMMIT_SUB))
		tcs_remote_subtransaction_ended(GetCurrentTransactionNestLevel(),
										event == SUBXACT_EVENT_COMMIT_SUB);
	if (event == SUBXACT_EVENT_ABORT_SUB)
		tcs_session_rolled_back();
}

void
tcs_hooks_install(void)
{
	tcs_hook_executor_install();
	tcs_hook_utility_install();
	tcs_hook_planner_install();
	tcs_hook_functions_install();
	tcs_hook_log_install();
	prev_post_parse_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = tcs_post_parse_analyze;
	RegisterXactCallback(tcs_xact_callback, NULL);
	RegisterSubXactCallback(tcs_subxact_callback, NULL);
}
