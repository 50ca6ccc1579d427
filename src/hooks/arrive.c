/*-------------------------------------------------------------------------
 *
 * arrive.c
 *	  A statement arrives at the gate, by whatever hook.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "tcop/pquery.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/leavable.h"
#include "base/stats.h"
#include "base/xact.h"
#include "hooks/arrive.h"
#include "session/session_token.h"
#include "statement/hook_frames.h"
#include "write/write_level.h"

TcsAttachment tcs_attachment = TCS_ATTACH_UNDECIDED;

void
tcs_arrive_decide_attachment(void)
{
	tcs_attachment = tcs_is_client_backend() && tcs_stats_attach() ?
		TCS_ATTACHED : TCS_NOT_ATTACHED;
}

/*
 * Parallel workers know the settings, and not what a hint or a rule has chosen in
 * their place.  It matters to them at "linearizable" (see
 * tcs_gate_pass_in_worker()): then the statement does without them.
 */
void
tcs_arrive_leave_out_workers(const TcsChoice *choice, QueryDesc *query_desc)
{
	if (!choice->plain &&
		(choice->level == TCS_LEVEL_LINEARIZABLE || tcs_read_level == TCS_LEVEL_LINEARIZABLE))
		query_desc->plannedstmt->parallelModeNeeded = false;
}

/*
 * What a function reads is compared with what is proved of the snapshot, which a
 * parallel worker does not know.  So where there are rules, no worker calls one.
 *
 * This is seen to when the plan is made, and when it starts: the rules may be newer
 * than the plan.  From 19 on a plan that has no words of ours is not looked at when it
 * starts, but a change of the rules has all plans made again.
 */
void
tcs_arrive_keep_functions_from_workers(PlannedStmt *plan)
{
	ListCell   *lc;

	if (!plan->parallelModeNeeded || !tcs_rules_exist())
		return;
	foreach(lc, plan->invalItems)
	{
		if (((PlanInvalItem *) lfirst(lc))->cacheId == PROCOID)
			plan->parallelModeNeeded = false;
	}
}

/* Note what the statement of the client was checked against. */
static void
note_statement(const TcsChoice *choice)
{
	TcsClientStatement *client = &tcs_client_statement;

	client->rules_changes = tcs_rules_changes;
	if (likely(choice->plain))
	{
		client->generation = tcs_settings_generation;
		return;
	}
	client->generation = 0;
	client->choice_generation = tcs_settings_generation;
	tcs_choice_keep(choice, &client->choice);
}

/*
 * What runs now belongs to no statement that has come to the gate: nothing that was
 * proved for the last one's moment is for it.
 */
void
tcs_arrive_forget(void)
{
	tcs_client_statement.generation = tcs_settings_generation;
	tcs_client_statement.rules_changes = tcs_rules_changes;
	tcs_client_statement.arrival = 0;
}

/* A top-level statement comes to the gate; site and choice are filled in. */
void
tcs_arrive(TcsRead *read)
{
	if (tcs_session_report_is_pending)
		tcs_session_report_pending();
	if (unlikely(tcs_client_statement.ran_too_early))
		tcs_gate_forget_early_runs();
	if (unlikely(tcs_remote_is_begun()) ||
		!(read->choice.plain ? tcs_gate_pass_at_once() : tcs_gate_pass_choice_at_once(&read->choice)))
		tcs_gate_pass_slowly(read);
	if (unlikely(read->choice.write_level != TCS_WRITE_DEFAULT))
		tcs_write_by_hint(read->choice.write_level, tcs_xact_statement_is_sole());
	note_statement(&read->choice);
}

/*
 * Planning runs a statement of a function, and what that asks for may be refused.  Should
 * the function go on all the same, the plan is made again: it cannot be if its statement
 * writes, or goes by a fixed snapshot.  When it is made again, a portal is there.
 */
void
tcs_arrive_note_doubtful(const TcsChoice *choice)
{
	if (ActivePortal != NULL || IsolationUsesXactSnapshot() ||
		!tcs_frames_begin_with(TCS_FRAME_PLANNER) ||
		tcs_frames_begin_with(TCS_FRAME_WRITES) ||
		tcs_gate_is_satisfied(choice))
		return;
	/* what planning could be left for was met, but for a confirmation */
	if (tcs_can_leave() && choice->level != TCS_LEVEL_LINEARIZABLE)
		return;
	tcs_gate_note_early_run();
	tcs_frames_note_function(InvalidOid);
}

/* Compare what was chosen for something below a statement with what is proved. */
void
tcs_arrive_nested(TcsRead *read, QueryDesc *query_desc)
{
	bool		resumed = tcs_frames_include(TCS_FRAME_RESUMED);

	if (!resumed && tcs_gate_is_satisfied(&read->choice))
		return;
	read->site = (TcsSite)
	{
		.kind = TCS_SITE_NESTED,.query_desc = query_desc
	};
	read->site.resumed = resumed;
	read->site.rules_changed = tcs_client_statement.rules_changes != tcs_rules_changes;
	tcs_gate_pass_slowly(read);
}
