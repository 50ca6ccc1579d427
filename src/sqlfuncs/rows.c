/*-------------------------------------------------------------------------
 *
 * rows.c
 *	  What all SQL-callable functions share: arguments and rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "sqlfuncs/rows.h"

/* Refuse to work in a server that has loaded us for pg_upgrade only. */
void
tcs_require_preloaded(void)
{
	if (IsBinaryUpgrade)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("tcs must be loaded via shared_preload_libraries")));
}

/* Columns that the library does not know are null. */
static void
add_unknown_columns(TupleDesc desc, int known, Datum **values, bool **nulls)
{
	Datum	   *all_values;
	bool	   *all_nulls;

	if (desc->natts <= known)
		return;
	all_values = palloc0(desc->natts * sizeof(Datum));
	all_nulls = palloc(desc->natts * sizeof(bool));
	memset(all_nulls, true, desc->natts * sizeof(bool));
	memcpy(all_values, *values, known * sizeof(Datum));
	memcpy(all_nulls, *nulls, known * sizeof(bool));
	*values = all_values;
	*nulls = all_nulls;
}

/* The row that a function returns. */
Datum
tcs_one_row(FunctionCallInfo fcinfo, int known, Datum *values, bool *nulls)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);
	add_unknown_columns(desc, known, &values, &nulls);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

/* One more row of a function that has called InitMaterializedSRF(). */
void
tcs_put_row(FunctionCallInfo fcinfo, int known, Datum *values, bool *nulls)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	add_unknown_columns(rsinfo->setDesc, known, &values, &nulls);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* A text; null if there is none. */
Datum
tcs_text_or_null(const char *value, bool *null)
{
	*null = value == NULL;
	return value == NULL ? (Datum) 0 : CStringGetTextDatum(value);
}

/* A number; null if it is negative. */
Datum
tcs_count_or_null(int value, bool *null)
{
	*null = value < 0;
	return Int32GetDatum(value);
}

const char *
tcs_level_source_name(TcsChoiceBy by, GucSource level_source, int rule)
{
	switch (by)
	{
		case TCS_BY_RULE:
			return "rule";
		case TCS_BY_FLOOR:
			return rule != 0 ? "floor" : "group";
		case TCS_BY_HINT:
			return "hint";
		case TCS_BY_RELAX:
			return "relaxed";
		case TCS_BY_EXEMPT:
			return "exempt";
		case TCS_BY_SETTING:
			break;
	}
	switch (level_source)
	{
		case PGC_S_DEFAULT:
		case PGC_S_DYNAMIC_DEFAULT:
			return "default";
		case PGC_S_ENV_VAR:
		case PGC_S_FILE:
		case PGC_S_ARGV:
			return "configuration";
		case PGC_S_GLOBAL:
			return "all_roles";
		case PGC_S_DATABASE:
			return "database";
		case PGC_S_USER:
			return "role";
		case PGC_S_DATABASE_USER:
			return "role_in_database";
		case PGC_S_CLIENT:
			return "connection";
		default:
			return "session";
	}
}
