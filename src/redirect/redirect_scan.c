/*-------------------------------------------------------------------------
 *
 * redirect_scan.c
 *	  The plan node whose rows come from the primary.
 *
 * NOTES
 *	  A redirected statement has a plan of this one node, so that portals,
 *	  cursors, EXPLAIN, COPY and command tags work as ever.  It can only go
 *	  forward; where the executor may want to go back, a Material node is put on
 *	  top of it.  Rows are taken as they come and passed on one by one, in memory
 *	  of one row; only if the session sends another statement while some are
 *	  still to come, they are put away first, in work_mem and then on disk.
 *
 *	  The result must have the columns that the client was promised when the
 *	  statement was analysed here.  The catalogs of the primary may have moved on:
 *	  then it is 40001, as for any schema change that comes between.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/planmain.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/resowner.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "redirect/open_cursors.h"
#include "redirect/portable.h"
#include "redirect/receive.h"
#include "redirect/redirect_scan.h"
#include "redirect/remote_xact.h"
#include "redirect/text_form.h"

/* What custom_private has, in this order. */
enum
{
	PRIVATE_SQL,				/* String */
	PRIVATE_SERVER,				/* String */
	PRIVATE_WHY,				/* String */
	PRIVATE_NUMBER,				/* Integer */
	PRIVATE_USER_CODE,			/* Integer */
	PRIVATE_CURSORS,			/* Integer */
	PRIVATE_SENT,				/* Integer: was it sent when the plan was
								 * made? */
	PRIVATE_AS_TEXT,			/* IntList: per column */
	PRIVATE_MARK				/* String: see redirect/names.c */
};

typedef struct TcsScan
{
	CustomScanState css;
	TcsReader	reader;
	MemoryContextCallback detach;
	TcsStatement statement;

	FmgrInfo   *functions;		/* of input or of receiving, per column */
	Oid		   *ioparams;
	bool	   *ours;			/* to be received by redirect/receive.c, per
								 * column */

	PGresult   *result;			/* belongs to the connection */
	int			next_row;
	bool		checked;		/* its columns were compared */
	Datum	   *values;			/* of the slot at hand */
	bool	   *nulls;
	MemoryContext row_context;
	Tuplestorestate *put_away;	/* rows that had to make room, or NULL */
	TupleTableSlot *away_slot;	/* and one of them */
	bool		all_away;		/* these are all: none is left on the
								 * connection */
	ErrorData  *error;			/* that comes after them, or NULL */
	bool		broken;			/* putting away did not succeed */
	bool		fetched;		/* has any row been taken? */
	const char *cursor;			/* its name, for messages */
} TcsScan;

static Node *create_scan_state(CustomScan *scan);
static void begin_scan(CustomScanState *css, EState *estate, int eflags);
static TupleTableSlot *exec_scan(CustomScanState *css);
static void end_scan(CustomScanState *css);
static void rescan_plan(CustomScanState *css);
static void explain_scan(CustomScanState *css, List *ancestors, ExplainState *es);

static const CustomScanMethods scan_methods = {
	.CustomName = "TcsRedirect",
	.CreateCustomScanState = create_scan_state,
};

static const CustomExecMethods exec_methods = {
	.CustomName = "TcsRedirect",
	.BeginCustomScan = begin_scan,
	.ExecCustomScan = exec_scan,
	.EndCustomScan = end_scan,
	.ReScanCustomScan = rescan_plan,
	.ExplainCustomScan = explain_scan,
};

void
tcs_scan_init(void)
{
	RegisterCustomScanMethods(&scan_methods);
}


/* ---- the plan ---- */

static void
refuse_columns(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to a concurrent schema change"),
			 errdetail("The columns of the result on the primary are not those that this standby has promised."),
			 errhint("Retry the statement.")));
}

/* Fill in the target lists: what comes, and the same passed on. */
static void
make_target_lists(CustomScan *scan, List *promised)
{
	ListCell   *lc;
	AttrNumber	n = 0;

	foreach(lc, promised)
	{
		TargetEntry *target = lfirst_node(TargetEntry, lc);
		Node	   *expr = (Node *) target->expr;
		Oid			type = exprType(expr);
		int32		typmod = exprTypmod(expr);
		Oid			collation = exprCollation(expr);
		TargetEntry *passed_on;

		if (target->resjunk)
			continue;
		n++;
		scan->custom_scan_tlist =
			lappend(scan->custom_scan_tlist,
					makeTargetEntry((Expr *) makeNullConst(type, typmod, collation),
									n, target->resname, false));
		passed_on = makeTargetEntry((Expr *) makeVar(INDEX_VAR, n, type, typmod, collation, 0),
									n, target->resname, false);
		passed_on->resorigtbl = target->resorigtbl;
		passed_on->resorigcol = target->resorigcol;
		scan->scan.plan.targetlist = lappend(scan->scan.plan.targetlist, passed_on);
	}
}

/* Let rows that have been passed on be had again. */
static Plan *
buffer_plan(Plan *plan)
{
	Material   *material = makeNode(Material);

	material->plan.targetlist = copyObject(plan->targetlist);
	material->plan.lefttree = plan;
	material->plan.plan_rows = plan->plan_rows;
	material->plan.plan_width = plan->plan_width;
	return &material->plan;
}

/*
 * A plan that has its rows from the primary, in place of a local one.
 *
 * "sent": the statement was sent already; otherwise it is when the plan is
 * started.
 */
PlannedStmt *
tcs_scan_make_plan(const PlannedStmt *local, const TcsStatement *statement,
				   const char *server, const char *why, bool sent, bool buffered)
{
	PlannedStmt *plan = makeNode(PlannedStmt);
	CustomScan *scan = makeNode(CustomScan);
	List	   *as_text = NIL;

	/* the local plan may be of a later moment than the statement */
	if (ExecCleanTargetListLength(local->planTree->targetlist) != statement->ncolumns)
		refuse_columns();

	for (int i = 0; i < statement->ncolumns; i++)
		as_text = lappend_int(as_text, statement->columns[i].as_text);

	scan->methods = &scan_methods;
	scan->scan.plan.plan_rows = local->planTree->plan_rows;
	scan->scan.plan.plan_width = local->planTree->plan_width;
	make_target_lists(scan, local->planTree->targetlist);
	scan->custom_private = list_make5(makeString(pstrdup(statement->sql)),
									  makeString(pstrdup(server)),
									  makeString(pstrdup(why)),
									  makeInteger((int) statement->number),
									  makeInteger(statement->runs_user_code));
	scan->custom_private = lappend(scan->custom_private, makeInteger(statement->leaves_cursors));
	scan->custom_private = lappend(scan->custom_private, makeInteger(sent));
	scan->custom_private = lappend(scan->custom_private, as_text);
	scan->custom_private = lappend(scan->custom_private, makeString(pstrdup(statement->mark)));

	plan->commandType = CMD_SELECT;
	plan->queryId = local->queryId;
	plan->canSetTag = local->canSetTag;
	plan->stmt_location = local->stmt_location;
	plan->stmt_len = local->stmt_len;
	plan->planTree = buffered ? buffer_plan(&scan->scan.plan) : &scan->scan.plan;
	return plan;
}


/* ---- execution ---- */

static void put_rows_away(TcsReader *reader);

static Node *
create_scan_state(CustomScan *scan)
{
	TcsScan    *state = palloc0(sizeof(TcsScan));

	NodeSetTag(state, T_CustomScanState);
	state->css.methods = &exec_methods;
	state->reader.put_away = put_rows_away;
	return (Node *) state;
}

static char *
private_string(List *private, int n)
{
	return strVal(list_nth(private, n));
}

static int
private_int(List *private, int n)
{
	return intVal(list_nth(private, n));
}

/* The state may go away in any way: the connection must not keep it. */
static void
detach_scan(void *arg)
{
	tcs_remote_detach(&((TcsScan *) arg)->reader);
}

/* Look up the functions that make values out of what comes. */
static void
look_up_functions(TcsScan *state, TupleDesc desc, List *as_text)
{
	TcsStatement *statement = &state->statement;

	statement->ncolumns = desc->natts;
	statement->columns = palloc0(Max(desc->natts, 1) * sizeof(TcsColumn));
	state->functions = palloc0(Max(desc->natts, 1) * sizeof(FmgrInfo));
	state->ioparams = palloc0(Max(desc->natts, 1) * sizeof(Oid));
	state->ours = palloc0(Max(desc->natts, 1) * sizeof(bool));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		TcsColumn  *column = &statement->columns[i];
		Oid			function;

		column->typmod = attribute->atttypmod;
		column->type = getBaseTypeAndTypmod(attribute->atttypid, &column->typmod);
		column->as_text = list_nth_int(as_text, i) != 0;

		/*
		 * A pg_node_tree is taken for an expression that this server has
		 * made. Its input function takes none from anybody, and so it is with
		 * those of another server; only NULL comes back.
		 */
		if (column->type == PG_NODE_TREEOID)
			getTypeInputInfo(column->type, &function, &state->ioparams[i]);
		else if (column->as_text)
			getTypeInputInfo(TEXTOID, &function, &state->ioparams[i]);
		else
			getTypeBinaryInputInfo(column->type, &function, &state->ioparams[i]);
		fmgr_info(function, &state->functions[i]);
		state->ours[i] = !column->as_text && tcs_receive_is_ours(column->type);
	}
}

static void
begin_scan(CustomScanState *css, EState *estate, int eflags)
{
	TcsScan    *state = (TcsScan *) css;
	List	   *private = ((CustomScan *) css->ss.ps.plan)->custom_private;

	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;

	state->statement.sql = private_string(private, PRIVATE_SQL);
	state->statement.mark = private_string(private, PRIVATE_MARK);
	state->statement.number = (uint32) private_int(private, PRIVATE_NUMBER);
	state->statement.runs_user_code = private_int(private, PRIVATE_USER_CODE) != 0;
	state->statement.leaves_cursors = private_int(private, PRIVATE_CURSORS) != 0;
	look_up_functions(state, css->ss.ss_ScanTupleSlot->tts_tupleDescriptor,
					  list_nth(private, PRIVATE_AS_TEXT));
	state->cursor = pstrdup(ActivePortal ? ActivePortal->name : "");
	state->row_context = AllocSetContextCreate(estate->es_query_cxt, "tcs row",
											   ALLOCSET_DEFAULT_SIZES);

	if (!private_int(private, PRIVATE_SENT))
		tcs_remote_send(&state->statement, estate->es_param_list_info);
	state->reader.sql = state->statement.sql;
	state->detach.func = detach_scan;
	state->detach.arg = state;
	MemoryContextRegisterResetCallback(estate->es_query_cxt, &state->detach);
	tcs_remote_attach(&state->reader);
}

/* Are these the columns that the client was promised? */
static void
check_columns(TcsScan *state)
{
	const TcsStatement *statement = &state->statement;
	bool		same = PQnfields(state->result) == statement->ncolumns;

	for (int i = 0; same && i < statement->ncolumns; i++)
	{
		const TcsColumn *column = &statement->columns[i];

		if (PQfformat(state->result, i) != 1)
			same = false;
		else if (column->as_text)
			same = PQftype(state->result, i) == TEXTOID;
		else
			same = PQftype(state->result, i) == column->type &&
				(column->typmod < 0 || PQfmod(state->result, i) == column->typmod);
	}
	if (!same)
		refuse_columns();
	state->checked = true;
}

/* Move to the next row of what came; false at the end. */
static bool
next_row(TcsScan *state)
{
	while (state->result == NULL || state->next_row >= PQntuples(state->result))
	{
		/* it goes away with the next, also if that one does not come */
		state->result = NULL;
		state->result = tcs_remote_next(&state->reader);
		if (state->result == NULL)
		{
			if (unlikely(state->statement.leaves_cursors))
				tcs_cursors_bring();
			state->statement.leaves_cursors = false;
			return false;
		}
		state->next_row = 0;
		if (!state->checked || PQnfields(state->result) != state->statement.ncolumns)
			check_columns(state);
	}
	return true;
}

/* One value out of the present row. */
static Datum
make_value(TcsScan *state, int column)
{
	const TcsColumn *promised = &state->statement.columns[column];
	char	   *data = PQgetvalue(state->result, state->next_row, column);
	StringInfoData buf;
	Datum		value;
	Oid			type;

	if (promised->as_text)
	{
		/* functions of input take that for granted; those of receiving do not */
		pg_verifymbstr(data, PQgetlength(state->result, state->next_row, column), false);
		type = tcs_portable_text_type(promised->type);
		if (type != TEXTOID)
			return tcs_text_form_read(data, type, promised->typmod);
		return InputFunctionCall(&state->functions[column], data,
								 state->ioparams[column], promised->typmod);
	}

	/* only looked at, and libpq ends it with a zero as functions expect it */
	buf.data = data;
	buf.len = PQgetlength(state->result, state->next_row, column);
	buf.maxlen = buf.len + 1;
	buf.cursor = 0;
	if (unlikely(state->ours[column]))
		return tcs_receive(&buf, promised->type, promised->typmod);
	value = ReceiveFunctionCall(&state->functions[column], &buf,
								state->ioparams[column], promised->typmod);
	tcs_receive_require_end(&buf, promised->type);
	return value;
}

/* Make all values of the present row. */
static void
make_values(void *arg)
{
	TcsScan    *state = arg;

	for (int i = 0; i < state->statement.ncolumns; i++)
	{
		state->nulls[i] = PQgetisnull(state->result, state->next_row, i) != 0;
		state->values[i] = state->nulls[i] ? (Datum) 0 : make_value(state, i);
	}
}

/* Store the next row from the primary in the slot; false at the end. */
static bool
store_next_row(TcsScan *state, TupleTableSlot *slot)
{
	MemoryContext old;

	ExecClearTuple(slot);
	if (!next_row(state))
		return false;
	MemoryContextReset(state->row_context);
	old = MemoryContextSwitchTo(state->row_context);
	state->values = slot->tts_values;
	state->nulls = slot->tts_isnull;
	tcs_wire_in_own_encoding(make_values, state);
	MemoryContextSwitchTo(old);
	state->next_row++;
	ExecStoreVirtualTuple(slot);
	return true;
}

/* Move the rest of the rows into the store. */
static void
read_all_rows(TcsScan *state, TupleTableSlot *slot)
{
	while (store_next_row(state, slot))
	{
		tuplestore_puttupleslot(state->put_away, slot);
		CHECK_FOR_INTERRUPTS();
	}
	state->all_away = true;
}

static void
add_context_of_cursor(void *arg)
{
	/*
	 * an error that waits for its own FETCH has nothing to do with that
	 * statement
	 */
	if (tcs_peer.raised && !tcs_remote_is_begun())
		return;
	errcontext("reading the remaining rows of redirected cursor \"%s\", ahead of the next statement",
			   ((TcsScan *) arg)->cursor);
}

/*
 * Another statement needs the connection: keep the rest of the rows here.
 *
 * If that is interrupted, or there is no room, the rows are lost to the reader.
 * If the primary stops with an error, it is for anyone who comes to that row, not
 * for the statement that needs the connection; but a transaction that runs there
 * as a whole has failed with it.  Such an error has just been raised by our own
 * code, which holds nothing, so that it can be caught.
 */
static void
put_rows_away(TcsReader *reader)
{
	TcsScan    *state = (TcsScan *) ((char *) reader - offsetof(TcsScan, reader));
	EState	   *estate = state->css.ss.ps.state;
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	ResourceOwner owner = CurrentResourceOwner;
	TupleDesc	desc = state->css.ss.ss_ScanTupleSlot->tts_tupleDescriptor;
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);

	if (state->put_away == NULL)
	{
		/* files on disk must live as long as the portal that we belong to */
		CurrentResourceOwner = TopTransactionResourceOwner;
		state->put_away = tuplestore_begin_heap(false, false, work_mem);
		CurrentResourceOwner = owner;
		state->away_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	}
	tcs_peer.raised = false;
	PG_TRY();
	{
		ErrorContextCallback callback = {.callback = add_context_of_cursor,.arg = state};

		callback.previous = error_context_stack;
		error_context_stack = &callback;
		read_all_rows(state, slot);
		error_context_stack = callback.previous;
	}
	PG_CATCH();
	{
		if (!tcs_peer.raised || tcs_remote_is_begun())
		{
			state->broken = true;
			tcs_remote_detach(reader);
			PG_RE_THROW();
		}
		MemoryContextSwitchTo(estate->es_query_cxt);
		state->error = CopyErrorData();
		state->all_away = true;
		FlushErrorState();
		tcs_remote_detach(reader);
	}
	PG_END_TRY();
	ExecDropSingleTupleTableSlot(slot);
	MemoryContextSwitchTo(old);
}

/* Store the next of the rows that were put away; false if there are no more. */
static bool
store_away_row(TcsScan *state, TupleTableSlot *slot)
{
	ExecClearTuple(slot);
	if (!tuplestore_gettupleslot(state->put_away, true, false, state->away_slot))
		return false;
	slot_getallattrs(state->away_slot);
	for (int i = 0; i < state->statement.ncolumns; i++)
	{
		slot->tts_values[i] = state->away_slot->tts_values[i];
		slot->tts_isnull[i] = state->away_slot->tts_isnull[i];
	}
	ExecStoreVirtualTuple(slot);
	return true;
}

static TupleTableSlot *
access_next(TcsScan *state)
{
	TupleTableSlot *slot = state->css.ss.ss_ScanTupleSlot;

	state->fetched = true;
	if (state->broken)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the rest of the rows from the redirect server is lost"),
				 errdetail("Another statement needed the connection, and was given up while the rows were put away."),
				 errhint("Retry the transaction.")));
	if (state->put_away && store_away_row(state, slot))
		return slot;
	if (state->error)
		ThrowErrorData(state->error);
	if (!state->all_away)
		(void) store_next_row(state, slot);
	return slot;
}

static bool
recheck_row(TcsScan *state, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
exec_scan(CustomScanState *css)
{
	return ExecScan(&css->ss, (ExecScanAccessMtd) access_next,
					(ExecScanRecheckMtd) recheck_row);
}

static void
end_scan(CustomScanState *css)
{
	TcsScan    *state = (TcsScan *) css;

	tcs_remote_detach(&state->reader);
	if (state->put_away)
	{
		ExecDropSingleTupleTableSlot(state->away_slot);
		tuplestore_end(state->put_away);
	}
	state->put_away = NULL;
}

/* Portals may start over before they have fetched anything. */
static void
rescan_plan(CustomScanState *css)
{
	if (((TcsScan *) css)->fetched)
		elog(ERROR, "a redirected statement cannot be scanned again");
}

static void
explain_scan(CustomScanState *css, List *ancestors, ExplainState *es)
{
	List	   *private = ((CustomScan *) css->ss.ps.plan)->custom_private;

	ExplainPropertyText("Server", private_string(private, PRIVATE_SERVER), es);
	ExplainPropertyText("Remote SQL", private_string(private, PRIVATE_SQL), es);
	ExplainPropertyText("Reason", private_string(private, PRIVATE_WHY), es);
}
