/*-------------------------------------------------------------------------
 *
 * portable.c
 *	  Whether a statement can run on another node, and come back as it is.
 *
 * NOTES
 *	  A statement must stay where it is if it asks for this node's own state
 *	  (statistics, locks, settings of the server), or works with the state of
 *	  the session (temporary objects, settings, sequences, advisory locks), or
 *	  writes.  We look at the query with views expanded, so a view over
 *	  pg_stat_activity is recognised.  Functions of core are judged by the list
 *	  that the gate goes by as well (statement/builtin_list.h); one that is not in it
 *	  stays.  What a user's function does is not known; it goes, and the primary
 *	  looks afterwards whether it has changed a setting.
 *
 *	  Values travel in binary, which no setting changes.  Names of objects travel
 *	  as text: in binary they are numbers, and the name that a number has here
 *	  may be an old one.  Domains travel as what they are made of (redirect/receive.c
 *	  says why they are not checked).  A range does not travel if making one runs
 *	  functions that a user may have written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_range.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "nodes/nodeFuncs.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/own_objects.h"
#include "redirect/carried_settings.h"
#include "redirect/portable.h"
#include "redirect/receive.h"
#include "statement/builtin.h"
#include "statement/exempt.h"

/* Those that run a query which they are given as text. */
static const char *const runs_text[] = {
	"query_to_xml", "query_to_xml_and_xmlschema", "query_to_xmlschema",
	"ts_rewrite", "ts_stat",
};

/* What the walk through a query has found. */
typedef struct Findings
{
	const char *why_not;		/* the first obstacle, or NULL */
	bool		runs_user_code;
	bool		leaves_cursors;
} Findings;

static bool
is_one_of(const char *name, const char *const *list, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (strcmp(name, list[i]) == 0)
			return true;
	}
	return false;
}

/* Does a function take or return cursors, so that it may open some? */
static bool
has_cursors(HeapTuple tuple)
{
	Oid		   *types;
	char	  **names;
	char	   *modes;
	int			n = get_func_arg_info(tuple, &types, &names, &modes);

	for (int i = 0; i < n; i++)
	{
		if (types[i] == REFCURSOROID || get_element_type(types[i]) == REFCURSOROID)
			return true;
	}
	return ((Form_pg_proc) GETSTRUCT(tuple))->prorettype == REFCURSOROID;
}

/* check_functions_in_node() callback: true ends the walk. */
static bool
judge_function(Oid funcid, void *context)
{
	Findings   *findings = context;
	HeapTuple	tuple;
	Form_pg_proc proc;
	const char *name;
	bool		stays;

	if (tcs_is_own_function(funcid))
	{
		findings->why_not = "it asks tcs about this node";
		return true;
	}
	if (funcid >= FirstNormalObjectId)
		findings->runs_user_code = true;

	/* judged with its argument, see portable_walker() */
	if (funcid == F_CURRENT_SETTING_TEXT || funcid == F_CURRENT_SETTING_TEXT_BOOL)
		return false;

	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	if (!HeapTupleIsValid(tuple))
		return false;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	name = NameStr(proc->proname);
	findings->leaves_cursors |= funcid >= FirstNormalObjectId && has_cursors(tuple);
	if (funcid < FirstNormalObjectId && proc->provolatile == PROVOLATILE_VOLATILE &&
		is_one_of(name, runs_text, lengthof(runs_text)))
		findings->runs_user_code = true;
	stays = tcs_builtin_stays(funcid);
	if (stays)
		findings->why_not = psprintf("%s() belongs to this node or session", name);
	ReleaseSysCache(tuple);
	return stays;
}

/* Does current_setting() ask for something that travels with the statement? */
static bool
setting_is_carried(FuncExpr *call)
{
	Const	   *name = linitial(call->args);

	return IsA(name, Const) && !name->constisnull &&
		tcs_settings_is_carried(TextDatumGetCString(name->constvalue));
}

/* A relation of the query, views included. */
static bool
judge_relation(Oid relid, Findings *findings)
{
	const char *name = get_rel_name(relid);

	if (name == NULL)
		return false;
	if (get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		findings->why_not = psprintf("\"%s\" is temporary", name);
	else if (tcs_builtin_view_stays(relid))
		findings->why_not = psprintf("\"%s\" belongs to this node", name);
	return findings->why_not != NULL;
}

static bool
portable_walker(Node *node, void *context)
{
	Findings   *findings = context;

	if (node == NULL)
		return false;
	if (check_functions_in_node(node, judge_function, context))
		return true;
	if (IsA(node, FuncExpr) &&
		(((FuncExpr *) node)->funcid == F_CURRENT_SETTING_TEXT ||
		 ((FuncExpr *) node)->funcid == F_CURRENT_SETTING_TEXT_BOOL) &&
		!setting_is_carried((FuncExpr *) node))
	{
		findings->why_not = "it asks for a setting of this server";
		return true;
	}
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		/* a view that became a subquery keeps its number from 16 on */
		if (OidIsValid(rte->relid) && judge_relation(rte->relid, findings))
			return true;
		return false;
	}
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;

		if (query->commandType != CMD_SELECT || query->rowMarks)
		{
			findings->why_not = "it writes or locks";
			return true;
		}
		return query_tree_walker(query, portable_walker, context,
								 QTW_EXAMINE_RTES_BEFORE);
	}
	return expression_tree_walker(node, portable_walker, context);
}

/*
 * Why a query, analysed but not rewritten, cannot run elsewhere; NULL if it
 * can.  The query is used up.
 */
const char *
tcs_portable_query(Query *query, bool *runs_user_code, bool *leaves_cursors)
{
	Findings	findings = {0};
	ListCell   *lc;

	/* the query of a prepared statement is kept without its locks */
	AcquireRewriteLocks(query, true, false);
	foreach(lc, pg_rewrite_query(query))
	{
		if (portable_walker(lfirst(lc), &findings))
			break;
	}
	*runs_user_code = findings.runs_user_code;
	*leaves_cursors = findings.leaves_cursors;
	return findings.why_not;
}

/* Can no value of the type be made here of what is sent? */
static bool
cannot_be_read(Oid type)
{
	switch (type)
	{
			/* two objects may have the same name */
		case REGPROCOID:
		case REGOPEROID:
			/* they have no input functions */
		case PG_NODE_TREEOID:
		case PG_NDISTINCTOID:
		case PG_DEPENDENCIESOID:
		case PG_MCV_LISTOID:
		case PG_BRIN_BLOOM_SUMMARYOID:
		case PG_BRIN_MINMAX_MULTI_SUMMARYOID:
			return true;
		default:
			return false;
	}
}

/*
 * Is it the name of an object, one that may be shared by several included?  Its
 * number, which is the same on all nodes of a cluster, can be sent.
 */
bool
tcs_portable_is_name(Oid type)
{
	return tcs_type_is_name(getBaseType(type));
}

/* The weaker of two ways. */
static TcsTransfer
worse_transfer(TcsTransfer a, TcsTransfer b)
{
	return a > b ? a : b;
}

static TcsTransfer transfer_of(Oid type);

static TcsTransfer
transfer_of_attributes(Oid relid)
{
	TcsTransfer result = TCS_TRANSFER_BINARY;
	Relation	relation = relation_open(relid, AccessShareLock);

	for (int i = 0; i < relation->rd_att->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(relation->rd_att, i);

		if (!attribute->attisdropped)
			result = worse_transfer(result, transfer_of(attribute->atttypid));
	}
	relation_close(relation, AccessShareLock);
	return result;
}

/* How values of a type travel as a part of others. */
static TcsTransfer
transfer_of(Oid type)
{
	HeapTuple	tuple;
	Form_pg_type form;
	TcsTransfer result;

	type = getBaseType(type);
	if (cannot_be_read(type))
		return TCS_TRANSFER_IMPOSSIBLE;
	if (tcs_type_is_name(type))
		return TCS_TRANSFER_TEXT;

	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
		return TCS_TRANSFER_IMPOSSIBLE;
	form = (Form_pg_type) GETSTRUCT(tuple);
	if (!OidIsValid(form->typsend) || !OidIsValid(form->typreceive))
		result = TCS_TRANSFER_TEXT;
	else if (form->typtype == TYPTYPE_PSEUDO)
		result = type == VOIDOID ? TCS_TRANSFER_BINARY : TCS_TRANSFER_IMPOSSIBLE;
	else if (form->typtype == TYPTYPE_COMPOSITE)
		result = transfer_of_attributes(form->typrelid);
	else if (form->typtype == TYPTYPE_RANGE)
		result = tcs_receive_range_runs_code(type) ? TCS_TRANSFER_IMPOSSIBLE :
			transfer_of(get_range_subtype(type));
	else if (form->typtype == TYPTYPE_MULTIRANGE)
		result = transfer_of(get_multirange_range(type));
	else if (OidIsValid(form->typelem) && form->typlen == -1 &&
			 get_array_type(form->typelem) == type)
		result = transfer_of(form->typelem);
	else
		result = TCS_TRANSFER_BINARY;
	ReleaseSysCache(tuple);
	return result;
}

/* How the values of a column travel. */
TcsTransfer
tcs_portable_type(Oid type)
{
	return tcs_portable_text_type(type) != getBaseType(type) ? TCS_TRANSFER_TEXT :
		transfer_of(type);
}

/*
 * The type in whose text form a column is sent: that of a function or operator
 * has its arguments, without which there may be several of the name.
 */
Oid
tcs_portable_text_type(Oid type)
{
	type = getBaseType(type);
	if (type == REGPROCOID)
		return REGPROCEDUREOID;
	if (type == REGOPEROID)
		return REGOPERATOROID;
	/* which are text, and whose input functions do not take all their values */
	if (type == PG_NODE_TREEOID || type == XMLOID)
		return TEXTOID;
	return type;
}
