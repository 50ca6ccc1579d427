/*-------------------------------------------------------------------------
 *
 * hook_planner.c
 *	  Planning: what it may read, and the marks it leaves in the plan.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "optimizer/planner.h"
#include "storage/sinval.h"
#include "tcop/pquery.h"

#include "base/compat.h"
#include "base/leavable.h"
#include "choice/choice.h"
#include "gate/gate.h"
#include "gate/redirect_attempt.h"
#include "gate/snapshot_swap.h"
#include "hooks/arrive.h"
#include "hooks/hooks.h"
#include "hooks/plan_guard.h"
#include "redirect/notices.h"
#include "statement/exempt.h"
#include "statement/hook_frames.h"
#include "statement/planning_reads.h"
#include "statement/read_only.h"
#include "statement/statement_queries.h"

#define NOT_EXEMPT		(-1)

static planner_hook_type prev_planner = NULL;

/*
 * May planning read, and has what it reads to be waited for?  *guard: may it come to
 * that?  A function that planning only guesses with need not be run at all.
 */
static bool
may_have_to_wait(Query *query, const char *source, TcsRead *read, bool *guard)
{
	TcsPlanningRuns runs;

	/* most queries are sooner judged than searched for functions */
	if (tcs_choice_of_simple_query(query, source, &read->choice) &&
		tcs_gate_is_satisfied(&read->choice))
		return false;
	runs = tcs_planning_runs(query);
	if (runs == TCS_PLANNING_RUNS_NOTHING)
		return false;
	tcs_choice_of_query(query, source, &read->hint, &read->choice);
	if (tcs_gate_is_satisfied(&read->choice))
	{
		*guard = RecoveryInProgress() && tcs_rules_for_functions_exist();
		return false;
	}
	*guard = true;
	return runs == TCS_PLANNING_EVALUATES;
}

/*
 * Settings that are met do not decide about what planning may read.  Returns the
 * query to plan: names can have come to mean something else during the wait.
 * *guard: planning has to end before it reads too early.
 */
static pg_noinline Query *
wait_before_planning(Query *query, const char *source, bool *guard)
{
	const uint64 known = SharedInvalidMessageCounter;
	TcsRead		read;

	if (!tcs_remote_is_begun() && may_have_to_wait(query, source, &read, guard))
	{
		/* what is refused anyway must not read anything before */
		tcs_refused_check_query(query);
		/* locks of parse analysis are held */
		read.site = (TcsSite)
		{
			.kind = TCS_SITE_PLANNER,.holding = true
		};
		read.site.reanalyzable = tcs_swap_can_reanalyze_query(query, source);
		tcs_gate_pass_slowly(&read);
		if (read.site.locks_released ||
			(read.site.reanalyzable && known != SharedInvalidMessageCounter))
			query = tcs_swap_reanalyze_query(query, source);

		/*
		 * A conflict with replay in the subtransaction of a guard ends the
		 * session.
		 */
		*guard = !tcs_gate_is_satisfied(&read.choice) ||
			(RecoveryInProgress() && tcs_rules_exist());
	}
	*guard = *guard && tcs_guard_is_possible(query, source);
	if (*guard)
		tcs_guard_keep_choice(&read.choice);
	if (tcs_redirect_server[0] != '\0')
		tcs_told_want();
	return query;
}

/*
 * The hot path of planning: neither hint nor rule has a say, what the settings ask
 * for is met, and the first table tells that the statement is not exempt.  See
 * tcs_ExecutorStart() for what else a gate implies that is settled.
 */
static inline bool
is_met_before_planning(const Query *query, const char *source)
{
	return tcs_frame_innermost() == NULL &&
		tcs_rules_idle && !tcs_rules_plan_ahead && !tcs_told_is_wanted &&
		tcs_proof_is_settled() &&
		(query->commandType != CMD_SELECT ||
		 (query->rtable != NIL &&
		  linitial_node(RangeTblEntry, query->rtable)->rtekind == RTE_RELATION)) &&
		!tcs_hint_is_possible(source, query->stmt_location, query->stmt_len) &&
		tcs_proof_is_young();
}

/*
 * What planning runs from here on was gated before, or is only guessed with; the
 * statement itself is still to come to the gate.
 */
static inline void
note_planning_begins(void)
{
	tcs_client_statement.rules_changes = tcs_rules_changes;
	tcs_client_statement.generation = tcs_settings_generation;
	tcs_planned.in_message = GetCurrentStatementStartTimestamp();
	tcs_planned.began_at = SharedInvalidMessageCounter;
}

/* The frame of planning; writes tells whether the plan can be made again. */
static inline void
push_frame(TcsFrame *frame, const Query *query, int is)
{
	is |= TCS_FRAME_PLANNER;
	if (unlikely(query->commandType != CMD_SELECT || query->hasModifyingCTE))
		is |= TCS_FRAME_WRITES;
	frame->ran = NIL;
	tcs_frame_push(frame, is);
}

static inline PlannedStmt *
call_planner(TCS_PLANNER_ARGS)
{
	return prev_planner ? prev_planner(TCS_PLANNER_PASS) : standard_planner(TCS_PLANNER_PASS);
}

/* Plan, or return NULL before a function reads too early. */
static pg_noinline PlannedStmt *
call_planner_guarded(TCS_PLANNER_ARGS)
{
	TcsLeavable leavable;
	PlannedStmt *volatile plan = NULL;

	tcs_leavable_begin(&leavable);
	PG_TRY();
	{
		plan = call_planner(TCS_PLANNER_PASS);
		tcs_leavable_end(&leavable);
	}
	PG_CATCH();
	{
		tcs_leavable_catch(&leavable);
	}
	PG_END_TRY();
	return leavable.left ? NULL : plan;
}

/*
 * Planning has run what should have waited, or was left before.  Without a rule or a
 * hint, a function can ask for more by a SET of its own.
 */
static pg_noinline void
discard_early_runs(bool ahead)
{
	if (!ahead)
		tcs_gate_void_plan();
	tcs_gate_forget_early_runs();
}

/*
 * Before planning: the verdict whether the statement is exempt, and a wait if
 * planning itself may read.  *parse is the query to plan; *guard: planning has to end
 * before it reads too early.  Returns the write level that the hint of an exempt
 * statement asks for, or NOT_EXEMPT.
 */
static int
before_planning(Query **parse, const TcsText *text, bool plain, bool *guard)
{
	Query	   *query = *parse;

	if (!tcs_gate_is_open_here())
		return NOT_EXEMPT;
	tcs_client_statement.planned_in = 0;
	if (unlikely(tcs_client_statement.ran_too_early))
		tcs_gate_forget_early_runs();
	if (tcs_exempt_query(query) || (!plain && tcs_exempt_administration(query)))
		return plain ? TCS_WRITE_DEFAULT : tcs_choice_write_level_of_hint(text);
	if (ActivePortal == NULL && !(tcs_proof_meets_settings() && plain))
		*parse = wait_before_planning(query, text->source, guard);
	note_planning_begins();
	return NOT_EXEMPT;
}

/*
 * The verdict for a prepared statement that has a hint and whose EXECUTE is at work,
 * which has come to the gate before.  The plan can serve a Bind later on.
 */
static int
judge_prepared(Query *query, const TcsText *text)
{
	return tcs_exempt_query(query) || tcs_exempt_administration(query) ?
		tcs_choice_write_level_of_hint(text) : NOT_EXEMPT;
}

/* The text of a statement that is planned, where a hint in it counts. */
static TcsText
text_for_hints(const TcsFrame *outer, const Query *query, const char *source)
{
	if (outer == NULL)
		return (TcsText) {source, query->stmt_location, query->stmt_len};
	/* not what functions run; arguments of EXECUTE can call some */
	if (tcs_frame_is_hinted(outer) && outer->prepared.source == source)
		return outer->prepared;
	return (TcsText) {.source = NULL};
}

/* Planning that is not on the hot path. */
static pg_noinline PlannedStmt *
plan_with_care(TCS_PLANNER_ARGS)
{
	TcsFrame   *outer = tcs_frame_innermost();
	const TcsText text = text_for_hints(outer, parse, query_string);

	/* settings alone decide: there is neither a hint nor a rule */
	const bool	plain = tcs_rules_idle &&
		!tcs_hint_is_possible(text.source, text.location, text.len);
	const bool	ahead = tcs_rules_plan_ahead;
	bool		guarded = false;
	const int	exempt = ahead ? NOT_EXEMPT :
		outer == NULL ? before_planning(&parse, &text, plain, &guarded) :
		text.source != NULL ? judge_prepared(parse, &text) : NOT_EXEMPT;
	const bool	marked = !plain && exempt == NOT_EXEMPT && !ahead &&
		tcs_attachment == TCS_ATTACHED && tcs_enabled;
	const bool	watched = unlikely(tcs_told_is_wanted);
	List	   *functions = marked ? tcs_choice_functions(parse) : NIL;
	Query	   *unplanned = guarded ? copyObject(parse) : NULL;
	TcsFrame	frame;
	ErrorContextCallback callback;
	PlannedStmt *plan;

	/* what planning runs is planned to be run */
	tcs_rules_plan_ahead = false;
	push_frame(&frame, parse, (ahead ? TCS_FRAME_AHEAD : 0) | (guarded ? TCS_FRAME_GUARDED : 0));
	if (watched)
		tcs_told_watch_planning(&callback);
	plan = guarded ? call_planner_guarded(TCS_PLANNER_PASS) : call_planner(TCS_PLANNER_PASS);
	if (watched)
		tcs_told_planned(&callback);
	tcs_frame_pop(&frame);

	if (unlikely(plan == NULL))
		plan = tcs_guard_make_stub(unplanned);
	else
		unplanned = NULL;
	if (unlikely(frame.ran != NIL || unplanned != NULL))
	{
		if (marked)
			functions = list_concat_unique_oid(functions, list_delete_oid(frame.ran, InvalidOid));
		discard_early_runs(ahead);
	}
	if (exempt != NOT_EXEMPT)
		tcs_exempt_mark(plan, (TcsWriteLevel) exempt);
	else if (marked)
	{
		tcs_arrive_keep_functions_from_workers(plan);
		tcs_choice_mark(plan, &text, functions, unplanned);
	}
	if (unlikely(outer != NULL && tcs_frame_armed(outer) != NULL))
		plan = tcs_redirect_planned(outer->armed, plan, cursorOptions);
	return plan;
}

static PlannedStmt *
tcs_planner(TCS_PLANNER_ARGS)
{
	TcsFrame	frame;
	PlannedStmt *plan;

	if (unlikely(!is_met_before_planning(parse, query_string)))
		return plan_with_care(TCS_PLANNER_PASS);
	tcs_client_statement.planned_in = 0;
	note_planning_begins();
	push_frame(&frame, parse, 0);
	plan = call_planner(TCS_PLANNER_PASS);
	tcs_frame_pop(&frame);
	if (unlikely(frame.ran != NIL))
		discard_early_runs(false);
	return plan;
}

void
tcs_hook_planner_install(void)
{
	prev_planner = planner_hook;
	planner_hook = tcs_planner;
}
