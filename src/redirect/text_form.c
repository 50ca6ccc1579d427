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
 *	  Names of objects are the reason for text, and the only thing in it that can
 *	  still be read as something else: the primary may have given a name to another
 *	  object, and this standby not know yet.  So the binary form, where a name is the
 *	  object's number, comes along in hexadecimal.  The value that was read must have
 *	  the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "utils/xml.h"

#include "base/settings.h"
#include "redirect/connection.h"
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

static bool can_be_sent(Oid type);

static bool
attributes_can_be_sent(Oid type)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);
	bool		result = true;

	for (int i = 0; i < desc->natts && result; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped)
			result = can_be_sent(TupleDescAttr(desc, i)->atttypid);
	}
	ReleaseTupleDesc(desc);
	return result;
}

/* Has a type a binary form, and so has all that its values are made of? */
static bool
can_be_sent(Oid type)
{
	HeapTuple	tuple;
	bool		result;

	check_stack_depth();
	type = getBaseType(type);
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
		return false;
	result = OidIsValid(((Form_pg_type) GETSTRUCT(tuple))->typsend);
	ReleaseSysCache(tuple);
	if (!result)
		return false;
	if (OidIsValid(get_element_type(type)))
		return can_be_sent(get_element_type(type));
	switch (get_typtype(type))
	{
		case TYPTYPE_COMPOSITE:
			return attributes_can_be_sent(type);
		case TYPTYPE_RANGE:
			return can_be_sent(get_range_subtype(type));
		case TYPTYPE_MULTIRANGE:
			return can_be_sent(get_multirange_range(type));
		case TYPTYPE_PSEUDO:
			return false;
		default:
			return true;
	}
}

/* The binary form of a value in hexadecimal; empty if it has none. */
static char *
binary_form(Oid type, Datum value)
{
	Oid			function;
	bool		is_varlena;
	bytea	   *bytes;
	char	   *hex;
	uint64		length;

	if (!can_be_sent(type))
		return pstrdup("");
	getTypeBinaryOutputInfo(type, &function, &is_varlena);
	bytes = OidSendFunctionCall(function, value);
	hex = palloc(2 * VARSIZE_ANY_EXHDR(bytes) + 1);
	length = hex_encode(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), hex);
	hex[length] = '\0';
	return hex;
}

/*
 * A value out of what redirect_text() has made of it.  "type" is the one whose input
 * function is given.
 */
Datum
tcs_text_form_read(char *data, Oid type, FmgrInfo *input, Oid ioparam, int32 typmod)
{
	char	   *text = strchr(data, ':');
	int			level;
	Datum		value;
	char	   *here;

	if (text == NULL)
		tcs_peer_refuse_answer();
	level = tcs_text_form_begin();
	value = InputFunctionCall(input, text + 1, ioparam, typmod);
	tcs_text_form_end(level);

	here = binary_form(type, value);
	if (strlen(here) != text - data || strncmp(here, data, text - data) != 0)
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
 * redirect_text(record) returns text: the one value of a row, in both forms.
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
	Oid			function;
	Oid			ioparam;
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
	type = getBaseType(TupleDescAttr(desc, 0)->atttypid);
	ReleaseTupleDesc(desc);
	getTypeOutputInfo(type, &function, &is_varlena);
	level = tcs_text_form_begin();
	text = OidOutputFunctionCall(function, value);

	/*
	 * The binary form is that of the value as it is read again.  Arrays have
	 * several for one text: an empty one can have a dimension, one that has
	 * lost its last NULL still has a bitmap for them.
	 */
	if (can_be_sent(type))
	{
		getTypeInputInfo(type, &function, &ioparam);
		value = OidInputFunctionCall(function, text, ioparam, -1);
	}
	tcs_text_form_end(level);
	text = psprintf("%s:%s", binary_form(type, value), text);
	PG_RETURN_TEXT_P(cstring_to_text(text));
}
