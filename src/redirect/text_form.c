/*-------------------------------------------------------------------------
 *
 * text_form.c
 *	  Values as text that another server reads as the same values.
 *
 * NOTES
 *	  Most values of a redirected statement travel in binary, which no setting
 *	  changes.  A few travel as text (redirect/portable.c).  A row that has the name of
 *	  an object in it is such a value, and may have anything else in it, too.
 *
 *	  The statement runs under the client's settings, and under some of these input
 *	  does not undo output.  IST is written for Asia/Kolkata and read as Israel's
 *	  time, array_nulls = off reads NULL as a string, extra_float_digits cuts
 *	  digits off.  So values are written and read under settings of our own, as
 *	  pg_dump and postgres_fdw do it.  The statement itself keeps those of the client:
 *	  they are changed around the one value only.
 *
 *	  A column that cannot come in binary comes as text of our own: the value in the
 *	  form of redirect/send.c in hexadecimal, and then the names of the objects in it.
 *	  A name is the object's number in that form, which is the same on all nodes.  But
 *	  the primary may have given another name to that object, and this standby not
 *	  know yet.  So the names that the number has here must be those that came.
 *
 *	  Nowhere is a value read by the input function of an array, a row or a range.
 *	  These evaluate the constraints of domains in them (redirect/receive.c says what
 *	  would come of it).
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
#include "utils/typcache.h"
#include "utils/xml.h"

#include "base/settings.h"
#include "redirect/connection.h"
#include "redirect/receive.h"
#include "redirect/send.h"
#include "redirect/text_form.h"

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
 * returns.  After an error, the end of the transaction or subtransaction undoes it.
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

/* A value out of what redirect_text() has made of it. */
Datum
tcs_text_form_read(const char *data, Oid type, int32 typmod)
{
	const char *names = strchr(data, ':');
	int			level;
	StringInfoData buf;
	StringInfoData again;
	StringInfoData names_here;
	Datum		value;

	if (names == NULL)
		tcs_peer_refuse_answer();
	initStringInfo(&buf);
	initStringInfo(&again);
	initStringInfo(&names_here);
	enlargeStringInfo(&buf, (names - data) / 2 + 1);
	buf.len = hex_decode(data, names - data, buf.data);
	buf.data[buf.len] = '\0';

	level = tcs_text_form_begin();
	value = tcs_receive(&buf, type, typmod);
	tcs_send(&again, &names_here, type, value);
	tcs_text_form_end(level);
	if (strcmp(names + 1, names_here.data) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a value of type %s from the redirect server is another one on this standby",
						format_type_be(type)),
				 errdetail("The primary has changed the name or the definition of an object in it, and this standby has not replayed that."),
				 errhint("Retry the transaction.")));
	return value;
}

PG_FUNCTION_INFO_V1(tcs_redirect_text);

/*
 * redirect_text(record) returns text: the one value of a row, and the names in it.
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
	Oid			type;
	Datum		value;
	bool		isnull;
	int			level;
	StringInfoData buf;
	StringInfoData names;
	StringInfoData text;

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
	type = TupleDescAttr(desc, 0)->atttypid;
	ReleaseTupleDesc(desc);
	initStringInfo(&buf);
	initStringInfo(&names);
	initStringInfo(&text);
	level = tcs_text_form_begin();
	tcs_send(&buf, &names, type, value);
	tcs_text_form_end(level);

	enlargeStringInfo(&text, 2 * buf.len);
	text.len = hex_encode(buf.data, buf.len, text.data);
	appendStringInfo(&text, ":%s", names.data);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(text.data, text.len));
}
