/*-------------------------------------------------------------------------
 *
 * relax_funcs.c
 *	  SQL functions of the emergency valve.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "common/string.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/relax.h"
#include "standby/wait_queue.h"

PG_FUNCTION_INFO_V1(tcs_relax);
PG_FUNCTION_INFO_V1(tcs_relax_end);
PG_FUNCTION_INFO_V1(tcs_relaxed);

/* Longest time; who wants more wants another tcs.read_level. */
#define TCS_RELAX_MAX			USECS_PER_DAY

/* Length of an interval in us; throws if it cannot be that of a relaxation. */
static int64
length_of(const Interval *interval)
{
	double		us = (double) interval->time +
		((double) interval->month * DAYS_PER_MONTH + interval->day) * USECS_PER_DAY;

	if (us <= 0 || us > TCS_RELAX_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the time must be positive, and a day at most"),
				 errhint("For longer, set tcs.read_level for roles or databases, or change the rules.")));
	return (int64) us;
}

/*
 * relax(level, "for", reason): from now on, for a time, this node serves at that
 * level what asks for more and would have to wait.
 */
Datum
tcs_relax(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"level", "for", "reason"};
	char	   *name;
	char	   *reason;
	int64		length;
	const char *user = GetUserNameFromId(GetSessionUserId(), false);
	TcsLevel	level;

	for (int i = 0; i < lengthof(names); i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" of tcs.relax() must not be null", names[i])));
	}
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	length = length_of(PG_GETARG_INTERVAL_P(1));
	reason = text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (!tcs_level_by_name(name, &level))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not a read level", name),
				 errhint("Valid levels: %s.", tcs_level_names_hint())));
	if (level == TCS_LEVEL_SNAPSHOT || level == TCS_LEVEL_LINEARIZABLE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reads cannot be relaxed to level \"%s\"", tcs_level_name(level)),
				 level == TCS_LEVEL_SNAPSHOT ? errhint("Use \"session\".") : 0));
	if (strspn(reason, " \t\n\r") == strlen(reason))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a reason must be given"),
				 errhint("It is logged, and shown by tcs.relaxed().")));

	reason[pg_mbcliplen(reason, strlen(reason), TCS_RELAX_REASON_LEN - 1)] = '\0';

	tcs_relax_start(level, length, reason, user);
	tcs_queue_wake_all();
	PG_RETURN_VOID();
}

/* relax_end(): no more.  Returns whether it was in force. */
Datum
tcs_relax_end(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(tcs_relax_stop());
}

/*
 * A text that may come from a database of another encoding, in that of this one.
 * What cannot be said here becomes a question mark: whoever looks for the reason
 * must not get an error.
 */
static char *
text_from(const char *text, int encoding)
{
	int			here = GetDatabaseEncoding();
	int			len = strlen(text);
	Oid			conversion;
	StringInfoData buf;
	unsigned char *converted;

	if (encoding == here || here == PG_SQL_ASCII || pg_is_ascii(text))
		return pstrdup(text);
	conversion = encoding == PG_SQL_ASCII ? InvalidOid :
		FindDefaultConversionProc(encoding, here);
	converted = palloc(len * MAX_CONVERSION_GROWTH + 1);
	initStringInfo(&buf);
	for (const char *p = text; *p != '\0';)
	{
		if (OidIsValid(conversion))
		{
			converted[0] = '\0';
			p += pg_do_encoding_conversion_buf(conversion, encoding, here,
											   (unsigned char *) p, text + len - p,
											   converted, len * MAX_CONVERSION_GROWTH + 1, true);
			appendStringInfoString(&buf, (char *) converted);
		}
		else if (!IS_HIGHBIT_SET(*p))
		{
			appendStringInfoChar(&buf, *p++);
			continue;
		}
		if (*p == '\0')
			break;
		appendStringInfoChar(&buf, '?');
		p += Min(Max(pg_encoding_mblen(encoding, p), 1), text + len - p);
	}
	return buf.data;
}

/* relaxed(): one row; level is null if it is not in force. */
Datum
tcs_relaxed(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[6];
	bool		nulls[6];
	TcsRelaxed	relaxed;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tcs_relax_get(&relaxed);

	memset(nulls, !relaxed.in_force, sizeof(nulls));
	values[0] = relaxed.in_force ? CStringGetTextDatum(tcs_level_name(relaxed.level)) : (Datum) 0;
	values[1] = TimestampTzGetDatum(relaxed.began_at);
	values[2] = TimestampTzGetDatum(relaxed.ends_at);
	values[3] = CStringGetTextDatum(text_from(relaxed.reason, relaxed.encoding));
	values[4] = CStringGetTextDatum(text_from(relaxed.role, relaxed.encoding));
	values[5] = Int64GetDatum((int64) relaxed.served);
	nulls[5] = false;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
