/*-------------------------------------------------------------------------
 *
 * send.c
 *	  Values in a form that redirect/receive.c takes, and the names in them.
 *
 * NOTES
 *	  The form is the binary one of core.  A part whose type has none is its text
 *	  instead.  A name of an object is its number there, so the names are written
 *	  down beside it, in the order in which they come.
 *
 *	  Only functions of output and of sending are called here.  They evaluate nothing
 *	  that a user has written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/multirangetypes.h"
#include "utils/rangetypes.h"
#include "utils/typcache.h"

#include "redirect/receive.h"
#include "redirect/send.h"
#include "statement/exempt.h"

static char *
output(Oid type, Datum value)
{
	Oid			function;
	bool		is_varlena;

	getTypeOutputInfo(type, &function, &is_varlena);
	return OidOutputFunctionCall(function, value);
}

/* Does core's binary form not say all of it? */
static bool
needs_more(Oid type)
{
	return tcs_type_is_name(type) || tcs_type_lacks_binary(type);
}

/* A value in its type's own form. */
static void
send_by_type(StringInfo buf, Oid type, Datum value)
{
	Oid			function;
	bool		is_varlena;
	bytea	   *bytes;

	if (tcs_type_lacks_binary(type))
	{
		appendStringInfoString(buf, output(type, value));
		return;
	}
	getTypeBinaryOutputInfo(type, &function, &is_varlena);
	bytes = OidSendFunctionCall(function, value);
	appendBinaryStringInfo(buf, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
}

/* A value within another one, with its length before it. */
static void
send_part(StringInfo buf, StringInfo names, Oid type, Datum value, bool isnull)
{
	const int	start = buf->len;
	uint32		length;

	pq_sendint32(buf, (uint32) -1);
	if (isnull)
		return;
	tcs_send(buf, names, type, value);
	length = pg_hton32(buf->len - start - sizeof(length));
	memcpy(buf->data + start, &length, sizeof(length));
}

static void
send_array(StringInfo buf, StringInfo names, Oid element, ArrayType *array)
{
	int16		typlen;
	bool		typbyval;
	char		typalign;
	Datum	   *values;
	bool	   *nulls;
	int			nitems;

	get_typlenbyvalalign(element, &typlen, &typbyval, &typalign);
	deconstruct_array(array, element, typlen, typbyval, typalign, &values, &nulls, &nitems);
	pq_sendint32(buf, ARR_NDIM(array));
	pq_sendint32(buf, ARR_HASNULL(array) ? 1 : 0);
	pq_sendint32(buf, element);
	for (int i = 0; i < ARR_NDIM(array); i++)
	{
		pq_sendint32(buf, ARR_DIMS(array)[i]);
		pq_sendint32(buf, ARR_LBOUND(array)[i]);
	}
	for (int i = 0; i < nitems; i++)
		send_part(buf, names, element, values[i], nulls[i]);
}

static void
send_row(StringInfo buf, StringInfo names, HeapTupleHeader row)
{
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(HeapTupleHeaderGetTypeId(row),
												   HeapTupleHeaderGetTypMod(row));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row),.t_data = row};
	Datum	   *values = palloc(Max(desc->natts, 1) * sizeof(Datum));
	bool	   *nulls = palloc(Max(desc->natts, 1) * sizeof(bool));
	int			ncolumns = 0;

	ItemPointerSetInvalid(&tuple.t_self);
	heap_deform_tuple(&tuple, desc, values, nulls);
	for (int i = 0; i < desc->natts; i++)
		ncolumns += !TupleDescAttr(desc, i)->attisdropped;
	pq_sendint32(buf, ncolumns);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped)
			continue;
		pq_sendint32(buf, attribute->atttypid);
		send_part(buf, names, attribute->atttypid, values[i], nulls[i]);
	}
}

static void
send_range(StringInfo buf, StringInfo names, Oid subtype, RangeType *range)
{
	RangeBound	lower;
	RangeBound	upper;
	bool		empty;
	const char	flags = range_get_flags(range);

	range_deserialize(lookup_type_cache(RangeTypeGetOid(range), TYPECACHE_RANGE_INFO),
					  range, &lower, &upper, &empty);
	pq_sendbyte(buf, flags);
	if (RANGE_HAS_LBOUND(flags))
		send_part(buf, names, subtype, lower.val, false);
	if (RANGE_HAS_UBOUND(flags))
		send_part(buf, names, subtype, upper.val, false);
}

static void
send_multirange(StringInfo buf, StringInfo names, Oid range, MultirangeType *multirange)
{
	TypeCacheEntry *entry = lookup_type_cache(range, TYPECACHE_RANGE_INFO);

	pq_sendint32(buf, multirange->rangeCount);
	for (int i = 0; i < multirange->rangeCount; i++)
		send_part(buf, names, range,
				  RangeTypePGetDatum(multirange_get_range(entry, multirange, i)), false);
}

/* Append the form of a value to "buf", and the names that it shows to "names". */
void
tcs_send(StringInfo buf, StringInfo names, Oid type, Datum value)
{
	Oid			part;

	check_stack_depth();
	type = getBaseType(type);
	if (tcs_type_is_name(type))
	{
		char	   *name = output(type, value);

		/* with their lengths, so that no two can pass for another two */
		appendStringInfo(names, "%zu %s ", strlen(name), name);
	}
	switch (tcs_type_is_or_has(type, needs_more) ? tcs_shape_of(type, &part) : TCS_SHAPE_PLAIN)
	{
		case TCS_SHAPE_PLAIN:
			send_by_type(buf, type, value);
			break;
		case TCS_SHAPE_ARRAY:
			send_array(buf, names, part, DatumGetArrayTypeP(value));
			break;
		case TCS_SHAPE_ROW:
			send_row(buf, names, DatumGetHeapTupleHeader(value));
			break;
		case TCS_SHAPE_RANGE:
			send_range(buf, names, part, DatumGetRangeTypeP(value));
			break;
		case TCS_SHAPE_MULTIRANGE:
			send_multirange(buf, names, part, DatumGetMultirangeTypeP(value));
			break;
	}
}
