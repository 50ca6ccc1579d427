/*-------------------------------------------------------------------------
 *
 * hook_functions.c
 *	  Functions that are called without a statement, or have a rule.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "fmgr.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/leavable.h"
#include "choice/choice.h"
#include "gate/transaction.h"
#include "hooks/arrive.h"
#include "hooks/hooks.h"
#include "hooks/plan_guard.h"
#include "rules/rule_table.h"
#include "session/session_token.h"
#include "statement/exempt.h"
#include "statement/hook_frames.h"

static object_access_hook_type prev_object_access = NULL;
static needs_fmgr_hook_type prev_needs_fmgr = NULL;
static fmgr_hook_type prev_fmgr = NULL;

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
	if (!tcs_gate_is_open_here())
		return;
	if (tcs_session_report_is_pending)
		tcs_session_report_pending();
	if (ActiveSnapshotSet() && !tcs_exempt_function(function))
	{
		TcsRead		read;

		read.site = (TcsSite)
		{
			.kind = TCS_SITE_CALL,.function = function
		};
		tcs_choice_of_function(function, &read.choice);
		tcs_arrive(&read);
		if (IsolationUsesXactSnapshot())
			tcs_transaction_note_snapshot_use();
	}
}

/* Does a choice ask for more than its statement was checked for? */
static bool
asks_for_more_than(const TcsChoice *choice, TcsLevel level, int max_staleness)
{
	return tcs_level_rank(choice->level) > tcs_level_rank(level) ||
		(choice->level == TCS_LEVEL_BOUNDED && choice->max_staleness < max_staleness);
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
	TcsClientStatement *client = &tcs_client_statement;
	TcsRead		read;

	/* errors of EXPLAIN help nobody */
	if (!tcs_gate_is_open_here() || !tcs_rules_of_function(function) ||
		tcs_frames_include(TCS_FRAME_EXPLAIN))
		return;

	/*
	 * What planning runs is chosen for when the statement comes to the gate,
	 * and its plan is made again there.  A statement that writes is planned
	 * once.
	 */
	if (tcs_can_leave() ||
		(tcs_frames_begin_with(TCS_FRAME_PLANNER) && !tcs_frames_begin_with(TCS_FRAME_WRITES)))
	{
		tcs_gate_note_early_run();
		if (tcs_can_leave())
		{
			tcs_guard_check_function(function);
			return;
		}
		tcs_frames_note_function(function);
	}
	tcs_rules_note_function(function);
	tcs_choice_of_function(function, &read.choice);
	if (tcs_client_is_chosen())
	{
		const TcsChoice *outer = &client->choice.choice;

		tcs_choice_join(&client->choice, &read.choice);
		if (asks_for_more_than(&read.choice, outer->level, outer->max_staleness))
			tcs_arrive_nested(&read, NULL);
	}
	else if (client->generation != tcs_settings_generation ||
			 asks_for_more_than(&read.choice, (TcsLevel) tcs_read_level, tcs_max_staleness))
		tcs_arrive_nested(&read, NULL);
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

/* Something is made, changed or dropped. */
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
	else if (access == OAT_POST_ALTER && classId == InheritsRelationId)
		tcs_rules_parents_changed(objectId);
	else if (access == OAT_POST_ALTER)
		tcs_rules_object_altered(classId, objectId, subId);
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

void
tcs_hook_functions_install(void)
{
	prev_object_access = object_access_hook;
	object_access_hook = tcs_object_access;
	prev_needs_fmgr = needs_fmgr_hook;
	needs_fmgr_hook = tcs_needs_fmgr;
	prev_fmgr = fmgr_hook;
	fmgr_hook = tcs_fmgr;
}
