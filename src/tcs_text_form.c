/*-------------------------------------------------------------------------
 *
 * tcs_text_form.c
 *	  Values as text that another server reads as the same values.
 *
 * NOTES
 *	  Most values of a redirected statement travel in binary, which no setting
 *	  changes.  A few travel as text (tcs_portable.c).  A row that has the name of
 *	  an object in it is such a value, and may have anything else in it, too.
 *
 *	  The statement runs under the client's settings, and under some of these input
 *	  does not undo output.  IST is written for Asia/Kolkata and read as Israel's
 *	  time, array_nulls = off reads NULL as a string, extra_float_digits cuts
 *	  digits off.  So values are written and read under settings of our own, the
 *	  ones that pg_dump and postgres_fdw use as well.  The statement itself keeps
 *	  those of the client: they are changed around the one value only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
#include "utils/xml.h"

#include "tcs_guc.h"
#include "tcs_text_form.h"

/* Is text of any value that comes from elsewhere read as it was meant? */
bool
tcs_text_form_is_read_exactly(void)
{
	return Array_nulls && xmloption == XMLOPTION_CONTENT;
}

/* Is a value that is written under the present settings read as the same value? */
bool
tcs_text_form_is_exact(void)
{
	return tcs_text_form_is_read_exactly() && DateStyle == USE_ISO_DATES &&
		(IntervalStyle == INTSTYLE_POSTGRES || IntervalStyle == INTSTYLE_ISO_8601) &&
		extra_float_digits > 0;
}

/*
 * Have values written and read exactly, until tcs_text_form_end() of what this
 * returns.  An error ends it as well, with the transaction or subtransaction.
 */
int
tcs_text_form_begin(void)
{
	int			level;

	if (likely(tcs_text_form_is_exact()))
		return 0;
	level = NewGUCNestLevel();
	tcs_guc_set_for_now("datestyle", "ISO");
	/* each field has a sign of its own, so the reader's style does not matter */
	tcs_guc_set_for_now("intervalstyle", "iso_8601");
	tcs_guc_set_for_now("extra_float_digits", "3");
	tcs_guc_set_for_now("array_nulls", "on");
	tcs_guc_set_for_now("xmloption", "content");
	return level;
}

void
tcs_text_form_end(int level)
{
	if (unlikely(level != 0))
		AtEOXact_GUC(true, level);
}

PG_FUNCTION_INFO_V1(tcs_redirect_text);

/*
 * redirect_text(record) returns text: the one value of a row, written so.
 *
 * It is called by name, with a row that has no other type than record.  So a function
 * of that name for another type of argument never fits better.
 */
Datum
tcs_redirect_text(PG_FUNCTION_ARGS)
{
	HeapTupleHeader row = PG_GETARG_HEAPTUPLEHEADER(0);
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row),.t_data = row};
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(row),
											  HeapTupleHeaderGetTypMod(row));
	Datum		value;
	bool		isnull;
	Oid			function;
	bool		is_varlena;
	int			level;
	char	   *text;

	ItemPointerSetInvalid(&tuple.t_self);
	if (desc->natts != 1 || TupleDescAttr(desc, 0)->attisdropped)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("row must have one column")));
	value = heap_getattr(&tuple, 1, desc, &isnull);
	if (isnull)
	{
		ReleaseTupleDesc(desc);
		PG_RETURN_NULL();
	}
	getTypeOutputInfo(TupleDescAttr(desc, 0)->atttypid, &function, &is_varlena);
	level = tcs_text_form_begin();
	text = OidOutputFunctionCall(function, value);
	tcs_text_form_end(level);
	ReleaseTupleDesc(desc);
	PG_RETURN_TEXT_P(cstring_to_text(text));
}
