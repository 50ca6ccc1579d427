/*-------------------------------------------------------------------------
 *
 * plan_guard.c
 *	  Planning that ends before it reads too early.
 *
 * NOTES
 *	  Planning runs functions: those that are declared IMMUTABLE, for their result,
 *	  and STABLE ones for an estimate.  Some read tables.  That comes before the
 *	  statement has waited, so what they read can be stale.  To plan again later does
 *	  not undo it: the function can have shown what it read, or remember it.
 *
 *	  So a read that comes too early does not take place.  It ends planning (see
 *	  base/leavable.c), and a stub takes the place of the plan.  It has the columns of
 *	  the statement, and nothing else.  The statement comes to the gate with it, waits
 *	  there, and is planned for good on its new snapshot.  What functions read then is
 *	  compared as anywhere below a statement.
 *
 *	  A stub is not run.  The gate has its plan made again, or redirects it, since the
 *	  plan is void (see tcs_gate_void_plan()).  Should that fail, the statement does.
 *
 *	  Planning is guarded if its statement will have to wait, or if a function with a
 *	  rule may come up in it, which no query shows.  In any other case what asks for
 *	  more than its statement is refused (55000), as it is when the statement runs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"

#include "base/compat.h"
#include "base/leavable.h"
#include "base/xact.h"
#include "gate/gate.h"
#include "gate/snapshot_swap.h"
#include "gate/transaction.h"
#include "hooks/arrive.h"
#include "hooks/plan_guard.h"
#include "statement/exempt.h"
#include "statement/hook_frames.h"

/* Of the statement whose planning is guarded. */
static TcsKeptChoice guarded;

/*
 * Can the plan of a query be made again at the gate?  It can if the query is a plain
 * SELECT of the client, and nobody has read with its snapshot.
 */
bool
tcs_guard_is_possible(const Query *query, const char *source)
{
	return ActivePortal == NULL && source == debug_query_string &&
		query->commandType == CMD_SELECT && !query->hasModifyingCTE &&
		query->querySource == QSRC_ORIGINAL &&
		!(IsolationUsesXactSnapshot() && tcs_transaction.used_in == tcs_xact_id());
}

/* What the statement asks for counts for all that its planning reads. */
void
tcs_guard_keep_choice(const TcsChoice *choice)
{
	tcs_choice_keep(choice, &guarded);
}

/* Leave planning unless this is met by what is proved of its snapshot. */
static void
leave_unless_met(const TcsChoice *inner)
{
	TcsRead		read;

	read.choice = guarded.choice;
	if (!inner->plain)
		tcs_choice_add_inner(&read.choice, inner);
	if (tcs_gate_is_satisfied(&read.choice))
		return;
	read.site = (TcsSite)
	{
		.kind = TCS_SITE_NESTED
	};
	tcs_read_begin(&read);
	/* a quorum confirms it at the gate, or when it is read */
	if (!read.met)
		tcs_leave();
}

/* Is it a plan that only computes something? */
static bool
reads_nothing(const PlannedStmt *plan)
{
	const Plan *top = plan->planTree;

	return plan->commandType == CMD_SELECT && plan->relationOids == NIL &&
		plan->subplans == NIL && IsA(top, Result) && outerPlan(top) == NULL &&
		!tcs_expression_reads((Node *) top->targetlist) &&
		!tcs_expression_reads(((const Result *) top)->resconstantqual);
}

/*
 * A statement of a function is about to run in planning that can be left.  "plan" is
 * NULL if it reads for certain.
 *
 * Planning ahead finds out what a statement asks for, so that is not known yet.
 */
void
tcs_guard_check(const PlannedStmt *plan, const TcsChoice *choice)
{
	if (plan != NULL && reads_nothing(plan))
		return;
	if (tcs_frames_include(TCS_FRAME_AHEAD))
		tcs_leave();
	leave_unless_met(choice);
}

/* The same of a function that has a rule.  It is chosen for at the gate. */
void
tcs_guard_check_function(Oid function)
{
	TcsChoice	choice;

	if (tcs_frames_include(TCS_FRAME_AHEAD))
		tcs_leave();
	tcs_frames_note_function(function);
	tcs_choice_of_function(function, &choice);
	leave_unless_met(&choice);
}

/* A stub is about to be run. */
static Node *
refuse_stub(CustomScan *scan)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access: the statement could not be planned before it had waited"),
			 errhint("Retry the statement.")));
	return NULL;
}

static const CustomScanMethods stub_methods = {
	.CustomName = TCS_STUB_NAME,
	.CreateCustomScanState = refuse_stub
};

/* What takes the place of a plan that could not be made yet. */
PlannedStmt *
tcs_guard_make_stub(const Query *query)
{
	PlannedStmt *plan = makeNode(PlannedStmt);
	CustomScan *scan = makeNode(CustomScan);
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *column = flatCopyTargetEntry(lfirst_node(TargetEntry, lc));
		Node	   *expr = (Node *) column->expr;

		if (column->resjunk)
			continue;
		column->expr = (Expr *) makeNullConst(exprType(expr), exprTypmod(expr), exprCollation(expr));
		scan->scan.plan.targetlist = lappend(scan->scan.plan.targetlist, column);
	}
	scan->methods = &stub_methods;

	plan->commandType = CMD_SELECT;
	plan->queryId = query->queryId;
	plan->canSetTag = query->canSetTag;
	plan->stmt_location = query->stmt_location;
	plan->stmt_len = query->stmt_len;
	plan->planTree = &scan->scan.plan;
	return plan;
}
