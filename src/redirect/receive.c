/*-------------------------------------------------------------------------
 *
 * receive.c
 *	  Values that are not left to their types to be received.
 *
 * NOTES
 *	  What comes in binary is read by the receive functions of the types, which
 *	  check it; they must take all of it, as with parameters of clients.  Some values
 *	  are taken out of their binary form here, and only their smallest parts are left
 *	  to the types.
 *
 *	  Domains are read as what they are made of, wherever they are: in arrays, rows,
 *	  ranges and multiranges.  Nothing here evaluates a constraint.  A CHECK is code
 *	  of the domain's owner.  A read of a table runs none, so it would run here as
 *	  somebody who has never asked for it, a superuser perhaps.  Also, the primary
 *	  returns values that do not meet their constraints: those that are older than a
 *	  constraint that is NOT VALID, and NULL for a domain that is NOT NULL, from the
 *	  nullable side of a join.  These must not fail.
 *
 *	  A row type of a user can get a domain as a new attribute at any time, also
 *	  between two rows of one result.  So these are always read here, whatever is in
 *	  them now.  All else that decides who reads a value is fixed when the type is
 *	  made.  Ranges of users are read here, too: making one calls functions that its
 *	  owner may have written, see tcs_receive_range_runs_code().
 *
 *	  An empty value of tsquery, int2vector or oidvector is sent, and refused when
 *	  it is received.  The text of a tsquery is no way out, as it loses parentheses,
 *	  which comparisons see, and as reading an empty one sends a notice.
 *
 *	  A type without a binary form sends text (redirect/send.c).
 *
 *	  What comes is from another server: it is checked as the types would.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_language.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "tsearch/ts_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/multirangetypes.h"
#include "utils/rangetypes.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "redirect/receive.h"

/* Is it one of the types themselves? */
static bool
refuses_empty(Oid type)
{
	return type == TSQUERYOID || type == INT2VECTOROID || type == OIDVECTOROID;
}

/*
 * What are values of a type made of?  *part gets the type of the parts, except for
 * rows.  Of a domain it is what its base type is made of.
 */
TcsShape
tcs_shape_of(Oid type, Oid *part)
{
	type = getBaseType(type);
	*part = InvalidOid;
	/* these count as arrays, but have functions of their own */
	if (refuses_empty(type))
		return TCS_SHAPE_PLAIN;
	*part = get_element_type(type);
	if (OidIsValid(*part))
		return TCS_SHAPE_ARRAY;
	switch (get_typtype(type))
	{
		case TYPTYPE_COMPOSITE:
			return TCS_SHAPE_ROW;
		case TYPTYPE_RANGE:
			*part = get_range_subtype(type);
			return TCS_SHAPE_RANGE;
		case TYPTYPE_MULTIRANGE:
			*part = get_multirange_range(type);
			return TCS_SHAPE_MULTIRANGE;
		default:
			return TCS_SHAPE_PLAIN;
	}
}

/* Has a row type such a value in it? */
static bool
has_attribute(Oid type, TcsTypeTest test)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);
	bool		result = false;

	for (int i = 0; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped &&
			tcs_type_is_or_has(TupleDescAttr(desc, i)->atttypid, test))
			result = true;
	}
	ReleaseTupleDesc(desc);
	return result;
}

/* Is it a type that passes the test, or has it a part that does? */
bool
tcs_type_is_or_has(Oid type, TcsTypeTest test)
{
	Oid			part;

	check_stack_depth();
	if (test(type))
		return true;
	switch (tcs_shape_of(type, &part))
	{
		case TCS_SHAPE_PLAIN:
			return false;
		case TCS_SHAPE_ROW:
			return has_attribute(getBaseType(type), test);
		default:
			return tcs_type_is_or_has(part, test);
	}
}

static bool
is_special(Oid type)
{
	return refuses_empty(getBaseType(type));
}

/* Can a type not read all that it sends? */
bool
tcs_receive_is_special(Oid type)
{
	return tcs_type_is_or_has(type, is_special);
}

/* Has it no binary form? */
bool
tcs_type_lacks_binary(Oid type)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(getBaseType(type)));
	Form_pg_type form;
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return true;
	form = (Form_pg_type) GETSTRUCT(tuple);
	result = !OidIsValid(form->typsend) || !OidIsValid(form->typreceive);
	ReleaseSysCache(tuple);
	return result;
}

/* Would its own functions evaluate what a user has written, now or a moment later? */
static bool
may_run_code(Oid type)
{
	char		kind = get_typtype(type);

	return kind == TYPTYPE_DOMAIN ||
		(type >= FirstNormalObjectId && (kind == TYPTYPE_COMPOSITE || kind == TYPTYPE_RANGE));
}

/*
 * Must a value not be left to the functions of its type, because of whose code
 * these may run?  A domain by itself is what it is made of.
 */
bool
tcs_receive_may_run_code(Oid type)
{
	return tcs_type_is_or_has(getBaseType(type), may_run_code);
}

static bool
is_ours(Oid type)
{
	return is_special(type) || may_run_code(type) || tcs_type_lacks_binary(type);
}

/* Must a value of this type be received here? */
bool
tcs_receive_is_ours(Oid type)
{
	return tcs_type_is_or_has(getBaseType(type), is_ours);
}

/* May somebody else than a superuser have written it? */
static bool
is_code(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			language;

	if (!HeapTupleIsValid(tuple))
		return true;
	language = ((Form_pg_proc) GETSTRUCT(tuple))->prolang;
	ReleaseSysCache(tuple);
	return language != INTERNALlanguageId && language != ClanguageId;
}

static bool
is_compared_by_code(Oid type)
{
	Oid			function = lookup_type_cache(type, TYPECACHE_CMP_PROC)->cmp_proc;

	return OidIsValid(function) && is_code(function);
}

/*
 * Does making a range of this type run what a user may have written?  It calls the
 * canonical function, and compares the bounds.
 */
bool
tcs_receive_range_runs_code(Oid type)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_RANGE_INFO);

	return is_code(entry->rng_cmp_proc_finfo.fn_oid) ||
		(OidIsValid(entry->rng_canonical_finfo.fn_oid) &&
		 is_code(entry->rng_canonical_finfo.fn_oid)) ||
		tcs_type_is_or_has(entry->rngelemtype->type_id, is_compared_by_code);
}

static void
refuse_value(Oid type)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
			 errmsg("malformed value of type %s from the redirect server", format_type_be(type))));
}

/* A row that comes has other attributes than its type has here. */
static void
refuse_row(Oid type)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to a concurrent schema change"),
			 errdetail("The attributes of type %s on the primary are not those that this standby knows.",
					   format_type_be(type)),
			 errhint("Retry the transaction.")));
}

/* A value within another one, with its length before it. */
static Datum
receive_part(StringInfo buf, Oid type, int32 typmod, bool *isnull)
{
	int			len = pq_getmsgint(buf, 4);
	StringInfoData part;
	Datum		result;
	char		next;

	*isnull = len == -1;
	if (*isnull)
		return (Datum) 0;
	if (len < 0 || len > buf->len - buf->cursor)
		refuse_value(type);

	/* functions expect a zero behind it */
	part.data = &buf->data[buf->cursor];
	part.len = len;
	part.maxlen = len + 1;
	part.cursor = 0;
	buf->cursor += len;
	next = buf->data[buf->cursor];
	buf->data[buf->cursor] = '\0';
	result = tcs_receive(&part, type, typmod);
	buf->data[buf->cursor] = next;
	return result;
}

static Datum
receive_array(StringInfo buf, Oid type, Oid element, int32 typmod)
{
	int			ndim = pq_getmsgint(buf, 4);
	int			nitems;
	int			dims[MAXDIM];
	int			bounds[MAXDIM];
	Datum	   *values;
	bool	   *nulls;
	int16		typlen;
	bool		typbyval;
	char		typalign;

	(void) pq_getmsgint(buf, 4);	/* whether there are NULLs */
	if (ndim < 0 || ndim > MAXDIM || pq_getmsgint(buf, sizeof(Oid)) != element)
		refuse_value(type);
	for (int i = 0; i < ndim; i++)
	{
		dims[i] = pq_getmsgint(buf, 4);
		bounds[i] = pq_getmsgint(buf, 4);
	}
	nitems = ArrayGetNItems(ndim, dims);
	ArrayCheckBounds(ndim, dims, bounds);
	/* each has its length at least */
	if (nitems > (buf->len - buf->cursor) / 4)
		refuse_value(type);
	if (nitems == 0)
		return PointerGetDatum(construct_empty_array(element));

	values = palloc(nitems * sizeof(Datum));
	nulls = palloc(nitems * sizeof(bool));
	for (int i = 0; i < nitems; i++)
		values[i] = receive_part(buf, element, typmod, &nulls[i]);
	get_typlenbyvalalign(element, &typlen, &typbyval, &typalign);
	return PointerGetDatum(construct_md_array(values, nulls, ndim, dims, bounds, element,
											  typlen, typbyval, typalign));
}

static Datum
receive_row(StringInfo buf, Oid type, int32 typmod)
{
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(type, typmod);
	Datum	   *values = palloc0(Max(desc->natts, 1) * sizeof(Datum));
	bool	   *nulls = palloc(Max(desc->natts, 1) * sizeof(bool));
	int			ncolumns = pq_getmsgint(buf, 4);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		nulls[i] = true;
		if (attribute->attisdropped)
			continue;
		if (ncolumns-- <= 0 || pq_getmsgint(buf, sizeof(Oid)) != attribute->atttypid)
			refuse_row(type);
		values[i] = receive_part(buf, attribute->atttypid, attribute->atttypmod, &nulls[i]);
	}
	if (ncolumns != 0)
		refuse_row(type);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

/* A bound of a range, if it is there. */
static void
receive_bound(StringInfo buf, Oid type, Oid subtype, RangeBound *bound)
{
	bool		isnull;

	if (bound->infinite)
		return;
	bound->val = receive_part(buf, subtype, -1, &isnull);
	if (isnull)
		refuse_value(type);
}

static Datum
receive_range(StringInfo buf, Oid type)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_RANGE_INFO);
	Oid			subtype = entry->rngelemtype->type_id;
	int			flags = pq_getmsgbyte(buf) & ~(RANGE_LB_NULL | RANGE_UB_NULL);
	bool		empty = (flags & RANGE_EMPTY) != 0;
	RangeBound	lower = {.lower = true};
	RangeBound	upper = {.lower = false};

	/* a function may have been replaced since the statement was looked at */
	if (tcs_receive_range_runs_code(type))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot bring a value of type %s from the redirect server",
						format_type_be(type)),
				 errdetail("Making it would run a function that is not written in C.")));
	lower.infinite = !RANGE_HAS_LBOUND(flags);
	lower.inclusive = (flags & RANGE_LB_INC) != 0;
	upper.infinite = !RANGE_HAS_UBOUND(flags);
	upper.inclusive = (flags & RANGE_UB_INC) != 0;
	receive_bound(buf, type, subtype, &lower);
	receive_bound(buf, type, subtype, &upper);
	return RangeTypePGetDatum(tcs_make_range_compat(entry, &lower, &upper, empty));
}

static Datum
receive_multirange(StringInfo buf, Oid type, Oid range)
{
	int			nranges = pq_getmsgint(buf, 4);
	RangeType **ranges;
	bool		isnull;

	/* each has its length at least */
	if (nranges < 0 || nranges > (buf->len - buf->cursor) / 4)
		refuse_value(type);
	ranges = palloc(Max(nranges, 1) * sizeof(RangeType *));
	for (int i = 0; i < nranges; i++)
	{
		Datum		value = receive_part(buf, range, -1, &isnull);

		if (isnull)
			refuse_value(type);
		ranges[i] = DatumGetRangeTypeP(value);
	}
	return MultirangeTypePGetDatum(make_multirange(type, lookup_type_cache(range, TYPECACHE_RANGE_INFO),
												   nranges, ranges));
}

static Datum
receive_empty_tsquery(void)
{
	TSQuery		query = palloc0(HDRSIZETQ);

	SET_VARSIZE(query, HDRSIZETQ);
	return TSQueryGetDatum(query);
}

/* Is it an empty int2vector or oidvector: an array of one dimension of no length? */
static bool
is_empty_vector(StringInfo buf, Oid type)
{
	Oid			element = type == INT2VECTOROID ? INT2OID : OIDOID;

	return buf->len == 5 * sizeof(int32) &&
		pq_getmsgint(buf, 4) == 1 &&
		pq_getmsgint(buf, 4) == 0 &&
		pq_getmsgint(buf, sizeof(Oid)) == element &&
		pq_getmsgint(buf, 4) == 0 &&
		pq_getmsgint(buf, 4) == 0;
}

/* An empty value of one of the types, if the buffer has that. */
static bool
receive_empty(StringInfo buf, Oid type, Datum *result)
{
	if (type == TSQUERYOID && buf->len == 4 && pq_getmsgint(buf, 4) == 0)
		*result = receive_empty_tsquery();
	else if (type == INT2VECTOROID && is_empty_vector(buf, type))
		*result = PointerGetDatum(buildint2vector(NULL, 0));
	else if (type == OIDVECTOROID && is_empty_vector(buf, type))
		*result = PointerGetDatum(buildoidvector(NULL, 0));
	else
		return false;
	return true;
}

/* A value that its type reads. */
static Datum
receive_by_type(StringInfo buf, Oid type, int32 typmod)
{
	Oid			function;
	Oid			ioparam;
	Datum		result;

	if (!tcs_type_lacks_binary(type))
	{
		getTypeBinaryInputInfo(type, &function, &ioparam);
		return OidReceiveFunctionCall(function, buf, ioparam, typmod);
	}
	getTypeInputInfo(type, &function, &ioparam);
	pg_verifymbstr(buf->data, buf->len, false);
	result = OidInputFunctionCall(function, pnstrdup(buf->data, buf->len), ioparam, typmod);
	buf->cursor = buf->len;
	return result;
}

/* A value out of its binary form, which is all of the buffer. */
Datum
tcs_receive(StringInfo buf, Oid type, int32 typmod)
{
	Oid			part;
	Datum		result = (Datum) 0;

	check_stack_depth();
	type = getBaseTypeAndTypmod(type, &typmod);
	if (receive_empty(buf, type, &result))
		return result;
	buf->cursor = 0;
	switch (tcs_receive_is_ours(type) ? tcs_shape_of(type, &part) : TCS_SHAPE_PLAIN)
	{
		case TCS_SHAPE_PLAIN:
			result = receive_by_type(buf, type, typmod);
			break;
		case TCS_SHAPE_ARRAY:
			result = receive_array(buf, type, part, typmod);
			break;
		case TCS_SHAPE_ROW:
			result = receive_row(buf, type, typmod);
			break;
		case TCS_SHAPE_RANGE:
			result = receive_range(buf, type);
			break;
		case TCS_SHAPE_MULTIRANGE:
			result = receive_multirange(buf, type, part);
			break;
	}
	tcs_receive_require_end(buf, type);
	return result;
}

/* A value must be all of its binary form, as core demands of parameters. */
void
tcs_receive_require_end(const StringInfoData *buf, Oid type)
{
	if (unlikely(buf->cursor != buf->len))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("incorrect binary data format in a value of type %s from the redirect server",
						format_type_be(type))));
}

/*
 * Has a value to be sent as text, since its type on the other server would not
 * read its binary form?  In the text of arrays and rows, what is empty stands in
 * quotes.
 */
bool
tcs_receive_needs_text(Oid type, Datum value)
{
	Oid			function;
	bool		is_varlena;

	if (!tcs_receive_is_special(type))
		return false;
	switch (getBaseType(type))
	{
		case TSQUERYOID:
			return DatumGetTSQuery(value)->size == 0;
		case INT2VECTOROID:
		case OIDVECTOROID:
			return ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(value)),
								  ARR_DIMS(DatumGetArrayTypeP(value))) == 0;
		default:
			break;
	}
	getTypeOutputInfo(type, &function, &is_varlena);
	return strstr(OidOutputFunctionCall(function, value), "\"\"") != NULL;
}
