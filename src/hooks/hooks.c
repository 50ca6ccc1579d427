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

#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_trigger.h"
#include "commands/defrem.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "optimizer/planner.h"
#include "parser/analyze.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/backend_status.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/own_objects.h"
#include "choice/choice.h"
#include "gate/gate.h"
#include "gate/redirect.h"
#include "gate/snapshot_swap.h"
#include "hooks/hooks.h"
#include "hooks/set_local.h"
#include "primary/commits_in_flight.h"
#include "primary/read_index.h"
#include "redirect/leftovers.h"
#include "redirect/names.h"
#include "redirect/notices.h"
#include "redirect/redirect_server.h"
#include "redirect/remote_xact.h"
#include "redirect/round_trip.h"
#include "rules/rule_table.h"
#include "session/redirected_for.h"
#include "session/session_token.h"
#include "statement/exempt.h"
#include "statement/hook_frames.h"
#include "statement/quietly.h"
#include "statement/read_only.h"
#include "statement/statement_queries.h"
#include "write/write_level.h"

static ExecutorStart_hook_type prev_ExecutorStart = NULL;
static ExecutorRun_hook_type prev_ExecutorRun = NULL;
static ProcessUtility_hook_type prev_ProcessUtility = NULL;
static planner_hook_type prev_planner = NULL;
static object_access_hook_type prev_object_access = NULL;
static needs_fmgr_hook_type prev_needs_fmgr = NULL;
static fmgr_hook_type prev_fmgr = NULL;
static post_parse_analyze_hook_type prev_post_parse_analyze = NULL;

/* The transaction that was given a weaker isolation level in so many words. */
static LocalTransactionId weak_isolation_in = InvalidLocalTransactionId;

/*
 * Settings that the statement of the client was checked against; 0 if a hint or a
 * rule had a say, and then that choice, and the settings it was made with.
 */
static uint64 statement_generation = 0;
static TcsKeptChoice statement_choice;
static uint64 statement_choice_generation = 0;
static uint64 statement_rules_changes = 0;

/*
 * The plan of the client that was started last, if that was seen; only compared.
 * When another one goes on, as the portal of a cursor does, its snapshot may be
 * older than what was proved last, and what it calls must not go by that.
 */
static const QueryDesc *started = NULL;

/* Is this process one that comes to the gate? */
static enum
{
	TCS_ATTACH_UNDECIDED,
	TCS_ATTACHED,
	TCS_NOT_ATTACHED
}			attachment = TCS_ATTACH_UNDECIDED;

static void
decide_attachment(void)
{
	attachment = tcs_is_client_backend() && tcs_stats_attach() ?
		TCS_ATTACHED : TCS_NOT_ATTACHED;
}

static inline bool
gate_is_open_here(void)
{
	if (unlikely(attachment == TCS_ATTACH_UNDECIDED))
		decide_attachment();
	/* what runs elsewhere goes on there, also if tcs is switched off now */
	return attachment == TCS_ATTACHED && (tcs_enabled || tcs_remote_is_begun());
}

/*
 * Parallel workers know the settings, and not what a hint or a rule has chosen in
 * their place.  It matters to them at "linearizable" (see
 * tcs_gate_pass_in_worker()): then the statement does without them.
 */
static void
leave_out_workers(QueryDesc *query_desc)
{
	if (!tcs_choice.plain &&
		(tcs_choice.level == TCS_LEVEL_LINEARIZABLE || tcs_read_level == TCS_LEVEL_LINEARIZABLE))
		query_desc->plannedstmt->parallelModeNeeded = false;
}

/*
 * What a function reads is compared with what is proved of the snapshot, which a
 * parallel worker does not know.  So where there are rules, no worker calls one.
 */
static void
keep_functions_from_workers(PlannedStmt *plan)
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
note_statement(void)
{
	statement_rules_changes = tcs_rules_changes;
	if (likely(tcs_choice.plain))
	{
		statement_generation = tcs_settings_generation;
		return;
	}
	statement_generation = 0;
	statement_choice_generation = tcs_settings_generation;
	tcs_choice_keep(&statement_choice);
}

/*
 * What runs now belongs to no statement that has come to the gate: nothing that was
 * proved for the last one's moment is for it.
 */
static void
forget_statement(void)
{
	statement_generation = tcs_settings_generation;
	statement_rules_changes = tcs_rules_changes;
	tcs_gate.arrival = 0;
}

/* A top-level statement comes to the gate. */
static void
pass_gate(TcsSite *site)
{
	if (tcs_session_report_is_pending)
		tcs_session_report_pending();
	if (unlikely(tcs_remote_is_begun()) ||
		!(tcs_choice.plain ? tcs_gate_pass_at_once() : tcs_gate_pass_choice_at_once()))
		tcs_gate_pass_slowly(site);
	if (unlikely(tcs_choice.write_level != TCS_WRITE_DEFAULT))
		tcs_write_by_hint(tcs_choice.write_level, tcs_gate_statement_is_sole());
	note_statement();
}

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

/* Compare what was chosen for something below a statement with what is proved. */
static void
compare_nested(QueryDesc *query_desc)
{
	TcsSite		site = {.kind = TCS_SITE_NESTED,.query_desc = query_desc};

	site.resumed = tcs_frames_include(TCS_FRAME_RESUMED);
	if (!site.resumed && tcs_gate_is_satisfied())
		return;
	site.rules_changed = statement_rules_changes != tcs_rules_changes;
	tcs_gate_pass_slowly(&site);
}

/* Was the statement of the client checked by a choice that is still in force? */
static inline bool
statement_is_chosen(void)
{
	return statement_generation == 0 &&
		statement_choice_generation == tcs_settings_generation;
}

/* A statement below another: compare only, and only if settings changed. */
static void
check_nested(QueryDesc *query_desc)
{
	bool		same_settings = statement_generation == tcs_settings_generation;
	bool		chosen = statement_is_chosen();
	TcsLevel	level = chosen ? statement_choice.choice.level : (TcsLevel) tcs_read_level;

	/*
	 * What a newer snapshot shows, a quorum has to confirm as well; for what
	 * planning reads the gate sees to that, which is still to come.
	 */
	if ((same_settings || chosen) &&
		(level != TCS_LEVEL_LINEARIZABLE || tcs_frames_begin_with(TCS_FRAME_PLANNER)) &&
		!(chosen && tcs_read_level == TCS_LEVEL_LINEARIZABLE) &&
		(query_desc->plannedstmt->invalItems == NIL ||
		 !tcs_choice_is_marked(query_desc->plannedstmt)))
	{
		if (level == TCS_LEVEL_SNAPSHOT)
			require_one_snapshot();
		return;
	}

	/*
	 * The gate is still to come, and waits for what this finds out.  The plan is
	 * thrown away, so what its functions read goes nowhere.
	 */
	if (tcs_frames_include(TCS_FRAME_AHEAD))
		return;
	tcs_choice_of_plan(query_desc->plannedstmt);
	if (chosen)
		tcs_choice_join(&statement_choice);
	leave_out_workers(query_desc);
	compare_nested(query_desc);
	/* settings that a function changed are what its next statements go by */
	if (!same_settings && !chosen)
		statement_generation = tcs_settings_generation;
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
	TcsSite		site = {.kind = TCS_SITE_QUERY};
	TcsFrame   *frame = tcs_frame_innermost();

	if (frame != NULL)
		tcs_redirect_started(tcs_frame_armed(frame), query_desc, eflags);
	if (!gate_is_open_here())
	{
		if (unlikely(IsParallelWorker()) && frame != NULL && tcs_enabled)
			tcs_gate_pass_in_worker(query_desc);
		return;
	}
	keep_functions_from_workers(query_desc->plannedstmt);
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
	started = query_desc;
	/* what is exempt has shown nothing of the snapshot, but may show the token */
	if (tcs_exempt_plan(query_desc->plannedstmt))
	{
		if (tcs_session_report_is_pending)
			tcs_session_report_pending();
		forget_statement();
		return;
	}
	site.query_desc = query_desc;
	site.eflags = eflags;
	tcs_choice_of_plan(query_desc->plannedstmt);
	pass_gate(&site);
	leave_out_workers(query_desc);
	if (IsolationUsesXactSnapshot())
		tcs_gate_note_snapshot_use();
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
			   queryDesc->plannedstmt->invalItems == NIL &&
			   !IsolationUsesXactSnapshot() &&
			   (eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0 &&
			   tcs_gate_pass_at_once()))
	{
		statement_generation = tcs_settings_generation;
		started = queryDesc;
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
		resumed = query_desc != started || query_desc->already_executed;
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

/*
 * Is the protocol's function call (libpq's PQfn(), large objects) about to be
 * served?  Nothing is around it: what it calls in turn has its callers' entries in
 * error_context_stack.
 */
static bool
in_protocol_call(void)
{
	return error_context_stack == NULL &&
		(!pgstat_track_activities || MyBEEntry->st_state == STATE_FASTPATH);
}

/*
 * Is a value of Bind about to be checked, by a function in a constraint of its
 * domain?  Bind has one entry in error_context_stack then.  So has a deferred
 * trigger at commit.  A login trigger has no query string.
 */
static bool
in_parameters(void)
{
	return debug_query_string != NULL &&
		error_context_stack != NULL && error_context_stack->previous == NULL &&
		DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0)) == 0;
}

/*
 * A function that the client's message calls without a statement of its own has
 * neither plan nor portal, but lets this hook know, right after the snapshot was
 * taken.
 */
static void
before_call(Oid function)
{
	if (!gate_is_open_here())
		return;
	if (tcs_session_report_is_pending)
		tcs_session_report_pending();
	if (ActiveSnapshotSet() && !tcs_exempt_function(function))
	{
		TcsSite		site = {.kind = TCS_SITE_CALL,.function = function};

		tcs_choice_of_function(function);
		pass_gate(&site);
		if (IsolationUsesXactSnapshot())
			tcs_gate_note_snapshot_use();
	}
}

/* COPY of a table within another statement, which has no plan; see check_nested(). */
static void
check_nested_copy(const PlannedStmt *pstmt)
{
	if (!gate_is_open_here() || ((CopyStmt *) pstmt->utilityStmt)->relation == NULL)
		return;
	if (statement_generation == tcs_settings_generation && !tcs_rules_exist())
		return;
	(void) tcs_choice_of_utility(pstmt, NULL);
	if (statement_is_chosen())
		tcs_choice_join(&statement_choice);
	compare_nested(NULL);
}

/* Does the choice at hand ask for more than its statement was checked for? */
static bool
asks_for_more_than(TcsLevel level, int max_staleness)
{
	return tcs_level_rank(tcs_choice.level) > tcs_level_rank(level) ||
		(tcs_choice.level == TCS_LEVEL_BOUNDED && tcs_choice.max_staleness < max_staleness);
}

/*
 * A function that has a rule is about to run, by whatever way: as a part of a plan,
 * inlined, in an expression of a procedural language, as an argument of EXECUTE, in
 * a check of a domain or in an aggregate.  Where its statement was not chosen for
 * with it in mind, all that is left is to compare.
 */
static void
check_function(Oid function)
{
	TcsChoice	outer = tcs_choice;

	/* errors of EXPLAIN help nobody */
	if (!gate_is_open_here() || !tcs_rules_of_function(function) ||
		tcs_frames_include(TCS_FRAME_EXPLAIN))
		return;

	/*
	 * What planning runs is chosen for when the statement comes to the gate, and
	 * its plan is made anew there.  A statement that writes is planned once.
	 */
	if (tcs_frames_begin_with(TCS_FRAME_PLANNER) && !tcs_frames_begin_with(TCS_FRAME_WRITES))
	{
		tcs_frames_note_function(function);
		return;
	}
	tcs_rules_note_function(function);
	tcs_choice_of_function(function);
	if (statement_is_chosen())
	{
		tcs_choice_join(&statement_choice);
		if (asks_for_more_than(statement_choice.choice.level, statement_choice.choice.max_staleness))
			compare_nested(NULL);
	}
	else if (statement_generation != tcs_settings_generation ||
			 asks_for_more_than((TcsLevel) tcs_read_level, tcs_max_staleness))
		compare_nested(NULL);
	tcs_choice = outer;
}

/* A function is about to run, and that may be of interest. */
static pg_noinline void
before_function(Oid function)
{
	if (ActivePortal == NULL && tcs_frame_innermost() == NULL &&
		(in_protocol_call() || in_parameters()))
		before_call(function);
	else if (!tcs_rules_idle && function >= FirstNormalObjectId)
		check_function(function);
}

/* Something is made or dropped. */
static pg_noinline void
note_ddl(ObjectAccessType access, Oid classId, Oid objectId, int subId, void *arg)
{
	if (access == OAT_DROP)
		tcs_rules_object_dropped(classId, objectId, subId,
								 arg ? ((ObjectAccessDrop *) arg)->dropflags : 0);
	else if (access == OAT_POST_CREATE && classId == TriggerRelationId)
		tcs_rules_trigger_created(objectId);
	else if (access == OAT_POST_CREATE && classId == AuthIdRelationId)
		tcs_rules_role_created(objectId);
}

static void
tcs_object_access(ObjectAccessType access, Oid classId, Oid objectId,
				  int subId, void *arg)
{
	if (unlikely(prev_object_access != NULL))
		prev_object_access(access, classId, objectId, subId, arg);

	/* all functions that a statement calls come here */
	if (likely(access == OAT_FUNCTION_EXECUTE))
	{
		if (unlikely(ActivePortal == NULL ||
					 (objectId >= FirstNormalObjectId && !tcs_rules_idle)))
			before_function(objectId);
	}
	else
		note_ddl(access, classId, objectId, subId, arg);
}

/*
 * The hook above comes when an expression is made ready.  PL/pgSQL keeps those for
 * a transaction, and types keep those of their domains for longer.  So each call
 * of a function that has a rule comes here, too, and none is inlined.  This is
 * asked in the midst of anything, so rules that have changed are not loaded: what
 * runs such a function has loaded them before.
 *
 * What a plan itself calls was made ready when the plan was started, for the same
 * statement.  PL/pgSQL has an entry of its own in error_context_stack, on ours.
 */
static bool
tcs_needs_fmgr(Oid function)
{
	return (prev_needs_fmgr != NULL && prev_needs_fmgr(function)) ||
		(unlikely(!tcs_rules_idle) && function >= FirstNormalObjectId &&
		 tcs_rules_name_function(function));
}

static void
tcs_fmgr(FmgrHookEventType event, FmgrInfo *flinfo, Datum *arg)
{
	if (prev_fmgr != NULL)
		prev_fmgr(event, flinfo, arg);
	if (event == FHET_START && !tcs_rules_idle &&
		flinfo->fn_oid >= FirstNormalObjectId && !tcs_frame_is_top())
		check_function(flinfo->fn_oid);
}

/* May planning read, and has what it reads to be waited for? */
static bool
may_have_to_wait(Query *query, const char *source)
{
	/* most queries are sooner judged than searched for functions */
	if (tcs_choice_of_simple_query(query, source) && tcs_gate_is_satisfied())
		return false;
	if (!tcs_query_may_evaluate_reads(query))
		return false;
	tcs_choice_of_query(query, source);
	return !tcs_gate_is_satisfied();
}

/*
 * Settings that are met do not decide about what planning may read.  Returns the
 * query to plan: names can have come to mean something else during the wait.
 */
static pg_noinline Query *
wait_before_planning(Query *query, const char *source)
{
	const uint64 known = SharedInvalidMessageCounter;

	if (!tcs_remote_is_begun() && may_have_to_wait(query, source))
	{
		TcsSite		site = {.kind = TCS_SITE_PLANNER};

		/* what is refused anyway must not read anything before */
		tcs_refused_check_query(query);
		/* locks of parse analysis are held */
		site.holding = true;
		site.reanalyzable = tcs_swap_can_reanalyze_query(query, source);
		tcs_gate_pass_slowly(&site);
		if (site.locks_released ||
			(site.reanalyzable && known != SharedInvalidMessageCounter))
			query = tcs_swap_reanalyze_query(query, source);
	}
	if (tcs_redirect_server[0] != '\0')
		tcs_told_want();
	return query;
}

/*
 * The hot path of planning: there is nothing to wait for, and the first table tells
 * that the statement is not exempt.  See tcs_ExecutorStart() for what else a gate
 * implies that is settled.
 */
static inline bool
is_met_before_planning(const Query *query, bool plain)
{
	return plain && tcs_proof_is_settled() &&
		tcs_proven.max_age == 0 &&
		(query->commandType != CMD_SELECT ||
		 (query->rtable != NIL &&
		  linitial_node(RangeTblEntry, query->rtable)->rtekind == RTE_RELATION));
}

/*
 * Before planning: the verdict whether the statement is exempt, and a wait if
 * planning itself may read.  *parse is the query to plan.
 */
static bool
before_planning(Query **parse, const char *source, bool plain)
{
	Query	   *query = *parse;
	const bool	met = likely(is_met_before_planning(query, plain));

	if (!met && !gate_is_open_here())
		return false;
	tcs_gate.planned_in = 0;
	if (!met)
	{
		if (tcs_exempt_query(query) || (!plain && tcs_exempt_administration(query)))
		{
			if (!plain)
				tcs_choice_check_hint(query, source);
			return true;
		}
		if (ActivePortal == NULL && !(tcs_proof_meets_settings() && plain))
			*parse = wait_before_planning(query, source);
	}

	/*
	 * What planning runs from here on was gated above, or is only guessed
	 * with; the statement itself is still to come to the gate.
	 */
	statement_rules_changes = tcs_rules_changes;
	statement_generation = tcs_settings_generation;
	tcs_planned.in_message = GetCurrentStatementStartTimestamp();
	tcs_planned.began_at = SharedInvalidMessageCounter;
	return false;
}

static PlannedStmt *
tcs_planner(TCS_PLANNER_ARGS)
{
	TcsFrame   *outer = tcs_frame_innermost();
	/* settings alone decide: there is neither a hint nor a rule */
	const bool	plain = likely(tcs_rules_idle) &&
		(outer != NULL ||
		 !tcs_hint_is_possible(query_string, parse->stmt_location, parse->stmt_len));
	const bool	ahead = tcs_rules_plan_ahead;
	const bool	exempt = !ahead && outer == NULL &&
		before_planning(&parse, query_string, plain);
	const bool	marked = !plain && !exempt && !ahead &&
		attachment == TCS_ATTACHED && tcs_enabled;
	const bool	watched = unlikely(tcs_told_is_wanted);
	List	   *functions = marked ? tcs_choice_functions(parse) : NIL;
	TcsFrame	frame;
	ErrorContextCallback callback;
	PlannedStmt *plan;

	/* what planning runs is planned to be run */
	tcs_rules_plan_ahead = false;
	frame.ran = NIL;
	tcs_frame_push(&frame, TCS_FRAME_PLANNER | (ahead ? TCS_FRAME_AHEAD : 0) |
				   (parse->commandType != CMD_SELECT || parse->hasModifyingCTE ? TCS_FRAME_WRITES : 0));
	if (watched)
		tcs_told_watch_planning(&callback);
	plan = prev_planner ? prev_planner(TCS_PLANNER_PASS) :
		standard_planner(TCS_PLANNER_PASS);
	if (watched)
		tcs_told_planned(&callback);
	tcs_frame_pop(&frame);

	if (unlikely(frame.ran != NIL) && marked)
	{
		functions = list_concat_unique_oid(functions, frame.ran);
		tcs_gate_void_plan();
	}
	if (exempt)
		tcs_exempt_mark(plan);
	else if (marked)
		tcs_choice_mark(plan, parse, outer == NULL ? query_string : NULL, functions);
	if (unlikely(outer != NULL && tcs_frame_armed(outer) != NULL))
		plan = tcs_redirect_planned(outer->armed, plan, cursorOptions);
	return plan;
}

/* Is it EXPLAIN that does not run what it explains? */
static bool
explains_only(Node *statement)
{
	ListCell   *lc;

	if (!IsA(statement, ExplainStmt))
		return false;
	foreach(lc, ((ExplainStmt *) statement)->options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "analyze") == 0 && defGetBoolean(option))
			return false;
	}
	return true;
}

/* Does a utility statement read, so that it has to come to the gate? */
bool
tcs_utility_reads(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_ExecuteStmt:
		case T_DeclareCursorStmt:
		case T_DoStmt:
		case T_CreateTableAsStmt:
		case T_RefreshMatViewStmt:
			return true;
		case T_CallStmt:
			{
				FuncExpr   *call = ((CallStmt *) statement)->funcexpr;

				return call == NULL || !tcs_is_own_function(call->funcid);
			}
		case T_CopyStmt:
			return !((CopyStmt *) statement)->is_from;
		case T_ExplainStmt:
			/* also without ANALYZE, to tell whether it would be redirected */
			return !explains_only(statement) || tcs_server_exists();
		default:
			return false;
	}
}

/* Does a utility statement hold locks of its own parse analysis by now? */
static bool
utility_holds_locks(Node *statement)
{
	return IsA(statement, DeclareCursorStmt) || IsA(statement, ExplainStmt);
}

/*
 * Is it BEGIN or SET TRANSACTION with an isolation level that gives each statement
 * its snapshot?
 */
static bool
asks_for_weak_isolation(Node *statement)
{
	List	   *options = NIL;
	ListCell   *lc;

	if (IsA(statement, TransactionStmt))
		options = ((TransactionStmt *) statement)->options;
	else if (IsA(statement, VariableSetStmt) &&
			 ((VariableSetStmt *) statement)->kind == VAR_SET_MULTI &&
			 strcmp(((VariableSetStmt *) statement)->name, "TRANSACTION") == 0)
		options = ((VariableSetStmt *) statement)->args;
	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "transaction_isolation") == 0)
		{
			const char *level = strVal(&castNode(A_Const, option->arg)->val);

			return strcmp(level, "read committed") == 0 ||
				strcmp(level, "read uncommitted") == 0;
		}
	}
	return false;
}

static void
refuse_weak_isolation(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("read level \"snapshot\" needs isolation level REPEATABLE READ or SERIALIZABLE"),
			 errhint("Leave out the isolation level, or choose level \"session\" for snapshots per statement.")));
}

/*
 * Does a utility statement that PostgreSQL gives a snapshot show something of it?
 *
 * All others that a standby allows take no snapshot, or come to the gate.  On a
 * primary there is DDL besides, which reads with it.
 */
static bool
utility_uses_snapshot(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_ClosePortalStmt:
		case T_DeallocateStmt:
		case T_DiscardStmt:
		case T_LoadStmt:
		case T_PrepareStmt:
			return false;
		case T_CallStmt:
			/* a procedure of ours, or it comes to the gate */
			return tcs_utility_reads(statement) ||
				tcs_expression_reads((Node *) ((CallStmt *) statement)->funcexpr);
		case T_ExplainStmt:
			/* one that only plans has seen nothing with it */
			return !explains_only(statement);
		default:
			return true;
	}
}

/*
 * Before a utility statement runs.  Returns the statement to run: if the gate
 * let invalidations in, names that were looked up before may have come to mean
 * other objects.  In "armed": its redirect, if its query is to run elsewhere.
 */
static PlannedStmt *
before_utility(PlannedStmt *pstmt, const char *source, ParamListInfo params,
			   QueryEnvironment *query_env, TcsArmed **armed)
{
	Node	   *statement = pstmt->utilityStmt;
	TcsSite		site = {.kind = TCS_SITE_UTILITY};

	started = NULL;
	if (asks_for_weak_isolation(statement))
	{
		/* SET TRANSACTION can come too late, which core says */
		if (tcs_read_level == TCS_LEVEL_SNAPSHOT && IsA(statement, TransactionStmt))
			refuse_weak_isolation();
		/* BEGIN has its transaction by now */
		weak_isolation_in = tcs_swap_transaction();
	}
	if (tcs_utility_reads(statement))
	{
		uint64		known = SharedInvalidMessageCounter;

		site.utility = statement;
		site.plan = pstmt;
		site.source = source;
		site.params = params;
		site.holding = utility_holds_locks(statement);
		site.explain_only = explains_only(statement);
		site.holding |= tcs_choice_of_utility(pstmt, source);
		pass_gate(&site);
		*armed = site.armed;
		if (unlikely(site.locks_released ||
					 (known != SharedInvalidMessageCounter &&
					  TransactionStartedDuringRecovery())) &&
			(utility_holds_locks(statement) || IsA(statement, CallStmt)))
			pstmt = tcs_swap_reanalyze_utility(pstmt, source, params, query_env);
	}
	else
	{
		tcs_choice_check_utility_hint(pstmt, source);
		if (tcs_session_report_is_pending)
			tcs_session_report_pending();
	}
	if (IsolationUsesXactSnapshot() && ActiveSnapshotSet() &&
		!site.reads_nothing && utility_uses_snapshot(statement))
		tcs_gate_note_snapshot_use();
	if (!tcs_utility_reads(statement))
		statement_generation = tcs_settings_generation;
	return pstmt;
}

/* A redirected statement has been analysed here. */
static void
tcs_post_parse_analyze(ParseState *pstate, Query *query, TCS_JUMBLE_STATE *jstate)
{
	if (prev_post_parse_analyze)
		prev_post_parse_analyze(pstate, query, jstate);
	if (unlikely(tcs_guc_redirected() != NULL))
		tcs_names_require(pstate->p_sourcetext, query);
}

/* What is to be done after a utility statement has run. */
typedef enum TcsAfterwards
{
	TCS_AFTER_NOTHING,
	TCS_AFTER_BEGIN,
	TCS_AFTER_CHAIN,
	TCS_AFTER_SET,
	TCS_AFTER_SNAPSHOT_IMPORT,
	TCS_AFTER_CREATION,			/* of a relation or schema, or a change of its owner */
	TCS_AFTER_ROUTINE,			/* the same of a function */
	TCS_AFTER_ALTERED_RULES,	/* a change of the tables of rules themselves */
	TCS_AFTER_RENAME
} TcsAfterwards;

/* Decided before it runs, since some free their own parse tree. */
static TcsAfterwards
decide_afterwards(Node *statement)
{
	if (IsA(statement, TransactionStmt))
	{
		TransactionStmtKind kind = ((TransactionStmt *) statement)->kind;

		if (kind == TRANS_STMT_BEGIN || kind == TRANS_STMT_START)
			return TCS_AFTER_BEGIN;
		return ((TransactionStmt *) statement)->chain ? TCS_AFTER_CHAIN : TCS_AFTER_NOTHING;
	}
	if (IsA(statement, VariableSetStmt))
	{
		VariableSetStmt *set = (VariableSetStmt *) statement;

		return set->kind == VAR_SET_MULTI &&
			strcmp(set->name, "TRANSACTION SNAPSHOT") == 0 ?
			TCS_AFTER_SNAPSHOT_IMPORT : TCS_AFTER_SET;
	}
	return TCS_AFTER_NOTHING;
}

/*
 * After BEGIN, or SET before the first query: level "snapshot" makes the
 * transaction REPEATABLE READ; what has been that before, SET TRANSACTION cannot
 * undo.
 *
 * After BEGIN, or SET in a REPEATABLE READ block: a chance to wait while there
 * is no snapshot.  BEGIN in READ COMMITTED waits for the token only: what else
 * is asked for is asked of each statement anew.
 */
static void
after_utility(TcsAfterwards afterwards, bool was_in_block, bool was_repeatable)
{
	TcsSite		site = {0};

	if (tcs_read_level == TCS_LEVEL_SNAPSHOT && !FirstSnapshotSet &&
		(afterwards == TCS_AFTER_BEGIN || afterwards == TCS_AFTER_SET) &&
		!IsolationUsesXactSnapshot() && GetCurrentTransactionNestLevel() == 1)
	{
		if (was_repeatable || weak_isolation_in == tcs_swap_transaction())
			refuse_weak_isolation();
		tcs_gate_fix_isolation();
	}

	site.kind = TCS_SITE_BARE;
	switch (afterwards)
	{
		case TCS_AFTER_NOTHING:
			return;
		case TCS_AFTER_SNAPSHOT_IMPORT:
			tcs_gate_snapshot_imported();
			return;
		case TCS_AFTER_CHAIN:
			/* the next transaction has no BEGIN that could do so */
			if (IsolationUsesXactSnapshot())
				tcs_proof_note();
			return;
		case TCS_AFTER_BEGIN:
			if (IsolationUsesXactSnapshot())
				tcs_gate_prove_transaction();
			else
				site.token_only = true;
			/* a redundant BEGIN, or one behind other statements */
			site.holding = was_in_block;
			break;
		case TCS_AFTER_SET:
			if (!IsTransactionBlock() || !IsolationUsesXactSnapshot() || FirstSnapshotSet)
				return;
			tcs_gate_prove_transaction();
			if (tcs_guc_redirected() != NULL)
				tcs_gate_await_redirected(tcs_guc_redirected());
			/* earlier statements of the block may have taken locks */
			site.holding = true;
			break;
		case TCS_AFTER_RENAME:
			tcs_rules_after_rename();
			tcs_rules_after_creation(true);
			return;
		case TCS_AFTER_CREATION:
			tcs_rules_after_creation(false);
			return;
		case TCS_AFTER_ROUTINE:
			tcs_rules_after_creation(true);
			return;
		case TCS_AFTER_ALTERED_RULES:
			tcs_rules_after_altered_table();
			return;
	}
	tcs_choice_by_settings();
	if (!tcs_gate_is_satisfied())
		tcs_gate_pass_slowly(&site);
}

/*
 * Is a utility statement the client's own?  What triggers run after a query or at
 * commit, and functions called by the protocol, have no frame of ours around them,
 * but no portal for a utility statement either.
 */
static bool
utility_is_outermost(void)
{
	ListCell   *lc;

	if (tcs_frame_innermost() != NULL || ActivePortal == NULL)
		return false;
	foreach(lc, ActivePortal->stmts)
	{
		if (lfirst_node(PlannedStmt, lc)->commandType == CMD_UTILITY)
			return true;
	}
	return false;
}

static void
tcs_ProcessUtility(PlannedStmt *pstmt, const char *queryString,
				   bool readOnlyTree, ProcessUtilityContext context,
				   ParamListInfo params, QueryEnvironment *queryEnv,
				   DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *statement = pstmt->utilityStmt;
	bool		nested = !utility_is_outermost();
	bool		top = !nested && context <= PROCESS_UTILITY_QUERY &&
		gate_is_open_here();
	bool		commits_prepared = IsA(statement, TransactionStmt) &&
	((TransactionStmt *) statement)->kind == TRANS_STMT_COMMIT_PREPARED;
	bool		ends_prepared = commits_prepared ||
	(IsA(statement, TransactionStmt) &&
	 ((TransactionStmt *) statement)->kind == TRANS_STMT_ROLLBACK_PREPARED);
	TcsAfterwards afterwards = top ? decide_afterwards(statement) : TCS_AFTER_NOTHING;
	bool		was_in_block = IsTransactionBlock() ||
	(MyXactFlags & XACT_FLAGS_PIPELINING) != 0;
	bool		was_repeatable = IsolationUsesXactSnapshot();
	int			is = TCS_FRAME_UTILITY;
	TcsFrame	frame = {.armed = NULL};

	if (IsA(statement, CallStmt) || IsA(statement, DoStmt))
		is |= TCS_FRAME_PROCEDURE;
	else if (IsA(statement, FetchStmt) && !nested)
		is |= TCS_FRAME_RESUMED;
	if (top)
	{
		tcs_set_local_before_utility(statement, context == PROCESS_UTILITY_TOPLEVEL);
		pstmt = before_utility(pstmt, queryString, params, queryEnv, &frame.armed);
	}
	if (ends_prepared && !RecoveryInProgress())
	{
		tcs_write_before_prepared(commits_prepared);
		/* its commit record is not written by a commit of ours */
		tcs_session_note_prepared();
		tcs_commits_enter();
	}
	if (unlikely(tcs_leftover_is_watched))
		tcs_leftover_refuse_utility(statement);
	switch (nodeTag(statement))
	{
		case T_NotifyStmt:
			tcs_session_note_notify();
			break;
		case T_RenameStmt:
		case T_AlterObjectSchemaStmt:
			tcs_rules_before_rename(statement);
			afterwards = TCS_AFTER_RENAME;
			break;
		case T_CreateStmt:
		case T_CreateTableAsStmt:
		case T_CreateForeignTableStmt:
		case T_ViewStmt:
		case T_CreateSchemaStmt:
			if (!tcs_rules_creates_temporary(statement))
				afterwards = TCS_AFTER_CREATION;
			break;
		case T_CreateFunctionStmt:
		case T_DefineStmt:
		case T_AlterOwnerStmt:
			afterwards = TCS_AFTER_ROUTINE;
			break;
		case T_AlterTableStmt:
			afterwards = tcs_rules_alters_table(statement) ?
				TCS_AFTER_ALTERED_RULES : TCS_AFTER_CREATION;
			break;
		case T_CopyStmt:
			if (!((CopyStmt *) statement)->is_from && nested)
				check_nested_copy(pstmt);
			if (((CopyStmt *) statement)->is_from && gate_is_open_here())
				tcs_choice_note_utility_write(pstmt, top ? queryString : NULL);
			break;
		case T_TruncateStmt:
		case T_RefreshMatViewStmt:
			if (gate_is_open_here())
				tcs_choice_note_utility_write(pstmt, top ? queryString : NULL);
			break;
		default:
			break;
	}

	tcs_frame_push(&frame, is);
	if (prev_ProcessUtility)
		prev_ProcessUtility(pstmt, queryString, readOnlyTree, context,
							params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context,
								params, queryEnv, dest, qc);
	tcs_frame_pop(&frame);
	if (unlikely(frame.armed != NULL))
		tcs_redirect_check_used(frame.armed);

	if (ends_prepared)
	{
		tcs_commits_leave();
		/* it is done, whatever becomes of this transaction */
		if (!RecoveryInProgress())
		{
			tcs_readindex_note_commit(XactLastRecEnd);
			tcs_write_after_prepared(commits_prepared);
		}
	}
	after_utility(afterwards, was_in_block, was_repeatable);
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
		tcs_write_transaction_ended(event);
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
	prev_ExecutorStart = ExecutorStart_hook;
	ExecutorStart_hook = tcs_ExecutorStart;
	prev_ExecutorRun = ExecutorRun_hook;
	ExecutorRun_hook = tcs_ExecutorRun;
	prev_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = tcs_ProcessUtility;
	prev_planner = planner_hook;
	planner_hook = tcs_planner;
	prev_post_parse_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = tcs_post_parse_analyze;
	prev_object_access = object_access_hook;
	object_access_hook = tcs_object_access;
	prev_needs_fmgr = needs_fmgr_hook;
	needs_fmgr_hook = tcs_needs_fmgr;
	prev_fmgr = fmgr_hook;
	fmgr_hook = tcs_fmgr;
	RegisterXactCallback(tcs_xact_callback, NULL);
	RegisterSubXactCallback(tcs_subxact_callback, NULL);
}
