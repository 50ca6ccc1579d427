/*-------------------------------------------------------------------------
 *
 * open_cursors.c
 *	  Cursors that a redirected statement has opened.
 *
 * NOTES
 *	  A function that returns a cursor opens it in the transaction on the primary,
 *	  where the client's FETCH cannot reach it.  So when the statement has ended,
 *	  the cursor's rows are brought here, and a portal of its name is made that has
 *	  them in a store, as core does it with a cursor WITH HOLD.  It ends with the
 *	  transaction, as the cursor would.
 *
 *	  Only statements whose functions have refcursor among their types are looked
 *	  after in this way (redirect/portable.c); their transaction on the primary is kept
 *	  open for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/settings.h"
#include "redirect/open_cursors.h"
#include "redirect/portable.h"
#include "redirect/receive.h"
#include "redirect/remote_xact.h"
#include "redirect/text_form.h"

#define TCS_SQL_CURSORS \
	"SELECT name, is_scrollable, statement FROM pg_catalog.pg_cursors" \
	" WHERE name OPERATOR(pg_catalog.<>) '' ORDER BY creation_time, name"

/* More cursors than this are not brought: a peer could name them without end. */
#define TCS_MAX_CURSORS	1000

/* A cursor on the primary. */
typedef struct Cursor
{
	char	   *name;
	char	   *quoted;
	char	   *statement;
	bool		scroll;
} Cursor;

/* Where its rows go to. */
typedef struct Store
{
	Portal		portal;
	int			ncolumns;
	bool		as_text;
	FmgrInfo   *functions;		/* of input or of receiving */
	Oid		   *ioparams;
	bool	   *ours;			/* to be received by redirect/receive.c */
	Datum	   *values;
	bool	   *nulls;
	PGresult   *result;			/* whose rows are put there now */
	MemoryContext row_context;
} Store;

/* Note the cursors that there are. */
static void
take_cursors(PGresult *result, void *arg)
{
	List	  **cursors = arg;

	if (PQnfields(result) != 3)
		tcs_peer_refuse_answer();
	for (int i = 0; i < PQntuples(result); i++)
	{
		Cursor	   *cursor = palloc(sizeof(Cursor));

		for (int j = 0; j < 3; j++)
		{
			if (PQgetisnull(result, i, j) || PQfformat(result, j) != 0 ||
				!pg_verifymbstr(PQgetvalue(result, i, j), PQgetlength(result, i, j), true))
				tcs_peer_refuse_answer();
		}
		if (PQgetlength(result, i, 0) >= NAMEDATALEN ||
			list_length(*cursors) >= TCS_MAX_CURSORS)
			tcs_peer_refuse_answer();
		cursor->name = pstrdup(PQgetvalue(result, i, 0));
		cursor->quoted = pstrdup(quote_identifier(cursor->name));
		cursor->scroll = strcmp(PQgetvalue(result, i, 1), "t") == 0;
		cursor->statement = pstrdup(PQgetvalue(result, i, 2));
		*cursors = lappend(*cursors, cursor);
	}
}

/* The columns of a cursor. */
typedef struct Columns
{
	List	   *target_list;	/* as a plan has them */
	bool		as_text;
	const char *may_run_code;	/* one that must not travel as text, or NULL */
} Columns;

static void
take_columns(PGresult *description, void *arg)
{
	Columns    *columns = arg;

	for (int i = 0; i < PQnfields(description); i++)
	{
		Oid			type = PQftype(description, i);
		TcsTransfer transfer = TCS_TRANSFER_IMPOSSIBLE;
		TargetEntry *target;

		if (!pg_verifymbstr(PQfname(description, i), strlen(PQfname(description, i)), true))
			tcs_peer_refuse_answer();
		if (SearchSysCacheExists1(TYPEOID, ObjectIdGetDatum(type)))
			transfer = tcs_portable_type(type);
		/* a domain is told as what it is made of */
		if (get_typtype(type) == TYPTYPE_DOMAIN)
			tcs_peer_refuse_answer();
		/* there is no way to have it cast */
		if (transfer == TCS_TRANSFER_IMPOSSIBLE ||
			(tcs_portable_text_type(type) != type && type != XMLOID))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot bring the cursor of a redirected statement to the standby"),
					 errdetail("Its column \"%s\" has a type whose values cannot be brought back.",
							   PQfname(description, i))));
		columns->as_text |= transfer == TCS_TRANSFER_TEXT;
		if (tcs_receive_may_run_code(type))
			columns->may_run_code = pstrdup(PQfname(description, i));

		/*
		 * its query runs as rows are fetched: no setting can be changed for
		 * their text
		 */
		if (columns->as_text && !tcs_text_form_is_exact())
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot bring the cursor of a redirected statement to the standby"),
					 errdetail("Its rows travel as text, which does not bring all values back under the present settings."),
					 errhint("Set DateStyle to ISO, IntervalStyle to postgres, extra_float_digits to 1, array_nulls to on, and xmloption to content.")));
		target = makeTargetEntry((Expr *) makeNullConst(type, PQfmod(description, i),
														get_typcollation(type)),
								 i + 1, pstrdup(PQfname(description, i)), false);
		target->resorigtbl = PQftable(description, i);
		target->resorigcol = PQftablecol(description, i);
		columns->target_list = lappend(columns->target_list, target);
	}

	/* the text of all columns is read by their types */
	if (columns->as_text && columns->may_run_code)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot bring the cursor of a redirected statement to the standby"),
				 errdetail("Its rows travel as text, and making a value of column \"%s\" out of that could run functions of other users.",
						   columns->may_run_code)));
}

/* A portal like one that has been run and holds its rows. */
static Portal
make_portal(const Cursor *cursor, List *target_list)
{
	Portal		portal = CreatePortal(cursor->name, false, false);
	MemoryContext old = MemoryContextSwitchTo(portal->portalContext);
	PlannedStmt *plan = makeNode(PlannedStmt);
	Result	   *node = makeNode(Result);

	node->plan.targetlist = copyObject(target_list);
	plan->commandType = CMD_SELECT;
	plan->canSetTag = true;
	plan->planTree = &node->plan;
	plan->stmt_location = -1;
	PortalDefineQuery(portal, NULL, pstrdup(cursor->statement), CMDTAG_SELECT,
					  list_make1(plan), NULL);
	portal->tupDesc = ExecTypeFromTL(node->plan.targetlist);
	MemoryContextSwitchTo(old);

	portal->visible = true;
	portal->cursorOptions = cursor->scroll ? CURSOR_OPT_SCROLL : CURSOR_OPT_NO_SCROLL;
	portal->strategy = PORTAL_ONE_SELECT;
	portal->atStart = true;
	portal->atEnd = false;
	portal->portalPos = 0;
	PortalCreateHoldStore(portal);
	portal->status = PORTAL_READY;
	return portal;
}

static void
make_store(Store *store, Portal portal, bool as_text)
{
	TupleDesc	desc = portal->tupDesc;

	store->portal = portal;
	store->as_text = as_text;
	store->ncolumns = desc->natts;
	store->functions = palloc0(Max(desc->natts, 1) * sizeof(FmgrInfo));
	store->ioparams = palloc0(Max(desc->natts, 1) * sizeof(Oid));
	store->ours = palloc0(Max(desc->natts, 1) * sizeof(bool));
	store->values = palloc0(Max(desc->natts, 1) * sizeof(Datum));
	store->nulls = palloc0(Max(desc->natts, 1) * sizeof(bool));
	store->row_context = AllocSetContextCreate(CurrentMemoryContext, "tcs row",
											   ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < desc->natts; i++)
	{
		Oid			type = TupleDescAttr(desc, i)->atttypid;
		Oid			function;

		if (as_text)
			getTypeInputInfo(tcs_portable_text_type(type), &function, &store->ioparams[i]);
		else
			getTypeBinaryInputInfo(type, &function, &store->ioparams[i]);
		fmgr_info(function, &store->functions[i]);
		store->ours[i] = tcs_receive_is_ours(type);
	}
}

static Datum
make_value(Store *store, PGresult *result, int row, int column)
{
	Form_pg_attribute attribute = TupleDescAttr(store->portal->tupDesc, column);
	char	   *data = PQgetvalue(result, row, column);
	StringInfoData buf;
	Datum		value;

	if (store->as_text)
	{
		/* functions of input take that for granted; those of receiving do not */
		pg_verifymbstr(data, PQgetlength(result, row, column), false);
		return InputFunctionCall(&store->functions[column], data,
								 store->ioparams[column], attribute->atttypmod);
	}
	buf.data = data;
	buf.len = PQgetlength(result, row, column);
	buf.maxlen = buf.len + 1;
	buf.cursor = 0;
	if (store->ours[column])
		return tcs_receive(&buf, attribute->atttypid, attribute->atttypmod);
	value = ReceiveFunctionCall(&store->functions[column], &buf,
								store->ioparams[column], attribute->atttypmod);
	tcs_receive_require_end(&buf, attribute->atttypid);
	return value;
}

/* Put the rows of a result into the store. */
static void
store_rows(void *arg)
{
	Store	   *store = arg;
	PGresult   *result = store->result;
	TupleDesc	desc = store->portal->tupDesc;

	for (int i = 0; i < PQntuples(result); i++)
	{
		MemoryContext old;

		MemoryContextReset(store->row_context);
		old = MemoryContextSwitchTo(store->row_context);
		for (int j = 0; j < store->ncolumns; j++)
		{
			if (PQftype(result, j) != TupleDescAttr(desc, j)->atttypid ||
				PQfformat(result, j) != (store->as_text ? 0 : 1))
				tcs_peer_refuse_answer();
			store->nulls[j] = PQgetisnull(result, i, j) != 0;
			store->values[j] = store->nulls[j] ? (Datum) 0 : make_value(store, result, i, j);
		}
		MemoryContextSwitchTo(store->portal->holdContext);
		tuplestore_putvalues(store->portal->holdStore, desc, store->values, store->nulls);
		MemoryContextSwitchTo(old);
	}
}

/* Some rows have come. */
static void
take_rows(PGresult *result, void *arg)
{
	Store	   *store = arg;
	int			level = NewGUCNestLevel();

	if (PQnfields(result) != store->ncolumns)
		tcs_peer_refuse_answer();
	/* what is said about a text was said when the value was made */
	if (store->as_text)
		tcs_guc_set_for_now("client_min_messages", "error");
	store->result = result;
	tcs_wire_in_own_encoding(store_rows, store);
	AtEOXact_GUC(true, level);
}

static void
bring_cursor(const Cursor *cursor)
{
	Store		store;
	Columns		columns = {0};

	/* as the one who opens it would say */
	if (PortalIsValid(GetPortalByName(cursor->name)))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_CURSOR),
				 errmsg("cursor \"%s\" already in use", cursor->name)));
	tcs_remote_describe(cursor->name, take_columns, &columns);
	make_store(&store, make_portal(cursor, columns.target_list), columns.as_text);
	tcs_remote_run(psprintf("FETCH ALL FROM %s", cursor->quoted), columns.as_text ? 0 : 1,
				   take_rows, &store);
	tuplestore_rescan(store.portal->holdStore);
	tcs_remote_run(psprintf("CLOSE %s", cursor->quoted), 0, NULL, NULL);
}

/*
 * A statement that may have opened cursors has ended; its transaction on the
 * primary is still there.
 */
void
tcs_cursors_bring(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "tcs cursors",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	List	   *cursors = NIL;
	ListCell   *lc;

	tcs_remote_run(TCS_SQL_CURSORS, 0, take_cursors, &cursors);
	foreach(lc, cursors)
		bring_cursor(lfirst(lc));
	tcs_remote_release();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
