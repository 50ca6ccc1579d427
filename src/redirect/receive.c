/*-------------------------------------------------------------------------
 *
 * receive.c
 *	  Values that are not left to their types to be received.
 *
 * NOTES
 *	  What comes in binary is read by the receive functions of the types, which
 *	  check it; they must take all of it, as with parameters of clients.  There are
 *	  two kinds of values that these functions would not take.
 *
 *	  An empty value of tsquery, int2vector or oidvector is sent, and refused when
 *	  it is received.  The text of a tsquery is no way out, as it loses parentheses,
 *	  which comparisons see, and as reading an empty one sends a notice.  So we take
 *	  values of these types, and the arrays and rows that have them in them, out of
 *	  their binary form here, and leave to the types all that they can do.
 *
 *	  Domains are read as what they are made of, also within arrays and rows.  Their
 *	  constraints are not checked here.  The primary returns values that do not meet
 *	  them: those that are older than a constraint that is NOT VALID, and NULL for a
 *	  domain that is NOT NULL, from the nullable side of a join or from a scalar
 *	  subquery without rows.  These must not fail.  A CHECK is also code of users: it
 *	  may read tables, and would do so here for each value, at no level at all.
 *
 *	  What comes is from another server: it is checked as the types would.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "tsearch/ts_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "redirect/receive.h"

/* Is it one of the types themselves? */
static bool
refuses_empty(Oid type)
{
	return type == TSQUERYOID || type == INT2VECTOROID || type == OIDVECTOROID;
}

typedef bool (*TypeTest) (Oid type);

static bool
is_special(Oid type)
{
	return refuses_empty(getBaseType(type));
}

static bool
is_special_or_domain(Oid type)
{
	return is_special(type) || get_typtype(type) == TYPTYPE_DOMAIN;
}

static bool is_or_has(Oid type, TypeTest test);

/* Has a row type such a value in it? */
static bool
has_attribute(Oid type, TypeTest test)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);
	bool		result = false;

	for (int i = 0; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped &&
			is_or_has(TupleDescAttr(desc, i)->atttypid, test))
			result = true;
	}
	ReleaseTupleDesc(desc);
	return result;
}

/* Is it a type that passes the test, or has it a part that does? */
static bool
is_or_has(Oid type, TypeTest test)
{
	Oid			element;

	check_stack_depth();
	if (test(type))
		return true;
	type = getBaseType(type);
	element = get_element_type(type);
	if (OidIsValid(element))
		return is_or_has(element, test);
	return get_typtype(type) == TYPTYPE_COMPOSITE && has_attribute(type, test);
}

/* Can a type not read all that it sends? */
bool
tcs_receive_is_special(Oid type)
{
	return is_or_has(type, is_special);
}

/*
 * Must a value of this type be received here?  A domain by itself is what it is
 * made of.
 */
bool
tcs_receive_is_ours(Oid type)
{
	return is_or_has(getBaseType(type), is_special_or_domain);
}

static void
refuse_value(Oid type)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
			 errmsg("malformed value of type %s from the redirect server", format_type_be(type))));
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
			refuse_value(type);
		values[i] = receive_part(buf, attribute->atttypid, attribute->atttypmod, &nulls[i]);
	}
	if (ncolumns != 0)
		refuse_value(type);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
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

/* A value out of its binary form, which is all of the buffer. */
Datum
tcs_receive(StringInfo buf, Oid type, int32 typmod)
{
	Oid			element;
	Oid			function;
	Oid			ioparam;
	Datum		result;

	check_stack_depth();
	type = getBaseTypeAndTypmod(type, &typmod);
	if (receive_empty(buf, type, &result))
		return result;
	buf->cursor = 0;
	element = get_element_type(type);
	if (refuses_empty(type) || !tcs_receive_is_ours(type))
	{
		getTypeBinaryInputInfo(type, &function, &ioparam);
		result = OidReceiveFunctionCall(function, buf, ioparam, typmod);
	}
	else if (OidIsValid(element))
		result = receive_array(buf, type, element, typmod);
	else
		result = receive_row(buf, type, typmod);
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
