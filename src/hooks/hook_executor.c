/*-------------------------------------------------------------------------
 *
 * hook_executor.c
 *	  Plans that are started and run come to the gate here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "tcop/pquery.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/leavable.h"
#include "base/xact.h"
#include "choice/choice.h"
#include "gate/gate.h"
#include "gate/redirect_attempt.h"
#include "gate/transaction.h"
#include "hooks/arrive.h"
#include "hooks/hooks.h"
#include "hooks/plan_guard.h"
#include "session/session_token.h"
#include "statement/exempt.h"
#include "statement/hook_frames.h"
#include "write/write_level.h"

static ExecutorStart_hook_type prev_ExecutorStart = NULL;
static ExecutorRun_hook_type prev_ExecutorRun = NULL;

/*
 * At level "snapshot", a procedure that has ended the transaction runs in one
 * that nobody has made REPEATABLE READ, and has no means to.
 */
static void
require_one_snapshot(void)
{
	if (!IsolationUsesXactSnapshot() && tcs_frames_include(TCS_FRAME_PROCEDURE))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("a procedure cannot read at level \"snapshot\" after it has ended its transaction"),
				 errhint("Use SET TRANSACTION ISOLATION LEVEL REPEATABLE READ in the procedure, or another read level.")));
}

/* A statement below another: compare only, and only if settings changed. */
static void
check_nested(QueryDesc *query_desc)
{
	TcsClientStatement *client = &tcs_client_statement;
	bool		same_settings = client->generation == tcs_settings_generation;
	bool		chosen = tcs_client_is_chosen();
	TcsFrame   *frame = tcs_frame_innermost();
	bool		hint_was_seen = frame != NULL && tcs_frame_is_hinted(frame);
	TcsLevel	level = chosen ? client->choice.choice.level : (TcsLevel) tcs_read_level;
	TcsRead		read;

	if (unlikely(tcs_can_leave()))
	{
		tcs_choice_of_plan(query_desc->plannedstmt, &read.hint, &read.choice);
		tcs_guard_check(query_desc->plannedstmt, &read.choice);
	}

	/*
	 * What a newer snapshot shows, a quorum has to confirm as well; for what
	 * planning reads the gate sees to that, which is still to come.
	 */
	if ((same_settings || chosen) &&
		(level != TCS_LEVEL_LINEARIZABLE || tcs_frames_begin_with(TCS_FRAME_PLANNER)) &&
		!(chosen && tcs_read_level == TCS_LEVEL_LINEARIZABLE) &&
		(!tcs_plan_may_have_words_compat(query_desc->plannedstmt) ||
		 !tcs_choice_is_marked(query_desc->plannedstmt, hint_was_seen)))
	{
		if (level == TCS_LEVEL_SNAPSHOT)
			require_one_snapshot();
		return;
	}

	/* the client's own EXECUTE may have had a hint in its place */
	if (hint_was_seen && tcs_frame_next(frame->link.previous) == NULL)
		tcs_choice_of_plan_by_rules(query_desc->plannedstmt, &read.choice);
	else
		tcs_choice_of_plan(query_desc->plannedstmt, &read.hint, &read.choice);
	if (chosen)
		tcs_choice_join(&client->choice, &read.choice);
	tcs_arrive_leave_out_workers(&read.choice, query_desc);

	tcs_arrive_note_doubtful(&read.choice);
	tcs_arrive_nested(&read, query_desc);
	/* settings that a function changed are what its next statements go by */
	if (!same_settings && !chosen)
		client->generation = tcs_settings_generation;
}

/*
 * Is this the only statement of the portal that runs?  False for some that are,
 * which are then looked at more closely.
 */
static inline bool
is_sole_of_portal(const PlannedStmt *plan)
{
	return ActivePortal != NULL && ActivePortal->stmts != NIL &&
		linitial(ActivePortal->stmts) == plan;
}

/* A plan is about to be started, and it is not the simplest case. */
static pg_noinline void
before_executor(QueryDesc *query_desc, int eflags)
{
	TcsFrame   *frame = tcs_frame_innermost();
	TcsWriteLevel write_level;
	TcsRead		read;

	if (frame != NULL)
		tcs_redirect_started(tcs_frame_armed(frame), query_desc, eflags);
	if (!tcs_gate_is_open_here())
	{
		if (unlikely(IsParallelWorker()) && tcs_enabled)
		{
			if (frame == NULL)
				tcs_gate_begin_in_worker();
			else
				tcs_gate_pass_in_worker(query_desc);
		}
		return;
	}
	tcs_arrive_keep_functions_from_workers(query_desc->plannedstmt);
	if (query_desc->operation != CMD_SELECT || query_desc->plannedstmt->hasModifyingCTE)
		tcs_choice_note_write(query_desc->plannedstmt);

	/*
	 * What is not the portal's own statement is part of something: of a
	 * function call of the protocol, of a deferred trigger, of an input
	 * function, of the pruning of partitions when the executor starts.
	 */
	if (frame != NULL || ActivePortal == NULL ||
		!(is_sole_of_portal(query_desc->plannedstmt) ||
		  list_member_ptr(ActivePortal->stmts, query_desc->plannedstmt)))
	{
		check_nested(query_desc);
		return;
	}
	tcs_client_statement.started = query_desc;

	/*
	 * what is exempt has shown nothing of the snapshot, but may show the
	 * token
	 */
	if (tcs_exempt_plan(query_desc->plannedstmt, &write_level))
	{
		if (tcs_session_report_is_pending)
			tcs_session_report_pending();
		if (unlikely(write_level != TCS_WRITE_DEFAULT) && tcs_hints != TCS_HINTS_OFF)
			tcs_write_by_hint(write_level, tcs_xact_statement_is_sole());
		tcs_arrive_forget();
		return;
	}
	read.site = (TcsSite)
	{
		.kind = TCS_SITE_QUERY,.query_desc = query_desc,.eflags = eflags
	};
	tcs_choice_of_plan(query_desc->plannedstmt, &read.hint, &read.choice);
	tcs_arrive(&read);
	tcs_arrive_leave_out_workers(&read.choice, query_desc);
	if (IsolationUsesXactSnapshot())
		tcs_transaction_note_snapshot_use();
}

/* A plan is started that is only shown. */
static pg_noinline void
start_to_explain(QueryDesc *query_desc, int eflags)
{
	TcsFrame   *outer = tcs_frame_innermost();
	TcsFrame	frame;

	if (outer != NULL)
		tcs_redirect_started(tcs_frame_armed(outer), query_desc, eflags);
	tcs_frame_push(&frame, TCS_FRAME_EXPLAIN);
	if (prev_ExecutorStart)
		prev_ExecutorStart(query_desc, eflags);
	else
		standard_ExecutorStart(query_desc, eflags);
	tcs_frame_pop(&frame);
}

/*
 * The hot path of tcs: a top-level statement whose requirement was met before,
 * and still is, passes with these tests alone.
 *
 * A gate that is settled implies that this process comes to it, that tcs is
 * switched on and that no report is pending; see tcs_proof_unsettle().
 */
static void
tcs_ExecutorStart(QueryDesc *queryDesc, int eflags)
{
	if (likely(tcs_proof_is_settled() &&
			   tcs_frame_innermost() == NULL &&
			   is_sole_of_portal(queryDesc->plannedstmt) &&
			   !tcs_plan_may_have_words_compat(queryDesc->plannedstmt) &&
			   !IsolationUsesXactSnapshot() &&
			   (eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0 &&
			   tcs_gate_pass_at_once()))
	{
		tcs_client_statement.generation = tcs_settings_generation;
		tcs_client_statement.started = queryDesc;
	}
	else if ((eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0)
		before_executor(queryDesc, eflags);
	else
	{
		start_to_explain(queryDesc, eflags);
		return;
	}

	if (prev_ExecutorStart)
		prev_ExecutorStart(queryDesc, eflags);
	else
		standard_ExecutorStart(queryDesc, eflags);
}

/*
 * A plan is run: can its snapshot be older than what was proved last?  It is if
 * the client goes on with a cursor.  Below a statement it is if the portal is from
 * before that statement: one that a function fetches from, or one WITH HOLD that
 * a procedure's COMMIT runs to its end.
 */
static pg_noinline int
judge_run(const QueryDesc *query_desc)
{
	bool		resumed;

	if (tcs_frame_innermost() == NULL)
		resumed = query_desc != tcs_client_statement.started || query_desc->already_executed;
	else
		resumed = ActivePortal != NULL && ActivePortal->queryDesc == query_desc &&
			((ActivePortal->cursorOptions & CURSOR_OPT_HOLD) != 0 ||
			 ActivePortal->creation_time != GetCurrentStatementStartTimestamp());
	return resumed ? TCS_FRAME_RESUMED : 0;
}

static inline void
run_in_frame(int is, TCS_RUN_ARGS)
{
	TcsFrame	frame;

	tcs_frame_push(&frame, is);
	if (prev_ExecutorRun)
		prev_ExecutorRun(TCS_RUN_PASS);
	else
		standard_ExecutorRun(TCS_RUN_PASS);
	tcs_frame_pop(&frame);
}

static pg_noinline void
run_with_functions(TCS_RUN_ARGS)
{
	run_in_frame(judge_run(queryDesc), TCS_RUN_PASS);
}

static void
tcs_ExecutorRun(TCS_RUN_ARGS)
{
	/* without functions of users nothing goes by how old the snapshot is */
	if (likely(queryDesc->plannedstmt->invalItems == NIL))
		run_in_frame(0, TCS_RUN_PASS);
	else
		run_with_functions(TCS_RUN_PASS);
}

void
tcs_hook_executor_install(void)
{
	prev_ExecutorStart = ExecutorStart_hook;
	ExecutorStart_hook = tcs_ExecutorStart;
	prev_ExecutorRun = ExecutorRun_hook;
	ExecutorRun_hook = tcs_ExecutorRun;
}
