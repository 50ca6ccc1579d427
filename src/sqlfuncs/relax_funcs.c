/*-------------------------------------------------------------------------
 *
 * relax_funcs.c
 *	  SQL-callable functions of the emergency valve: relax(), relax_end(), tcs.relaxed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "common/string.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/interval.h"
#include "base/relax.h"
#include "sqlfuncs/rows.h"
#include "standby/wait_queue.h"

PG_FUNCTION_INFO_V1(tcs_relax);
PG_FUNCTION_INFO_V1(tcs_relax_end);
PG_FUNCTION_INFO_V1(tcs_relaxed);

/* Longest time; who wants more wants another tcs.read_level. */
#define TCS_RELAX_MAX			USECS_PER_DAY

static TcsLevel
level_argument(const char *name)
{
	TcsLevel	level = tcs_level_require(name, TCS_LEVEL_BIT(TCS_LEVEL_SNAPSHOT) |
										  TCS_LEVEL_BIT(TCS_LEVEL_LINEARIZABLE));

	if (level == TCS_LEVEL_SNAPSHOT || level == TCS_LEVEL_LINEARIZABLE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reads cannot be relaxed to level \"%s\"", tcs_level_name(level)),
				 level == TCS_LEVEL_SNAPSHOT ? errhint("Use \"session\".") : 0));
	return level;
}

/* In us. */
static int64
duration_argument(const Interval *interval)
{
	int64		us = tcs_interval_us(interval);

	if (us <= 0 || us > TCS_RELAX_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"duration\" must be positive, and a day at most"),
				 errhint("For longer, set tcs.read_level for roles or databases, or change the rules.")));
	return us;
}

/* Cut to what there is room for. */
static char *
reason_argument(text *argument)
{
	char	   *reason = text_to_cstring(argument);

	if (strspn(reason, " \t\n\r") == strlen(reason))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a reason must be given"),
				 errhint("It is logged, and shown by tcs.relaxed.")));
	reason[pg_mbcliplen(reason, strlen(reason), TCS_RELAX_REASON_LEN - 1)] = '\0';
	return reason;
}

/*
 * relax(level, duration, reason): from now on, for a time, this node serves at that
 * level what asks for more and would have to wait.
 */
Datum
tcs_relax(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"level", "duration", "reason"};
	const char *user = GetUserNameFromId(GetSessionUserId(), false);
	TcsLevel	level;
	int64		length;
	char	   *reason;

	for (int i = 0; i < lengthof(names); i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" of tcs.relax() must not be null", names[i])));
	}
	level = level_argument(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	length = duration_argument(PG_GETARG_INTERVAL_P(1));
	reason = reason_argument(PG_GETARG_TEXT_PP(2));

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
 * What cannot be said here becomes a question mark: anyone who looks for the reason
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

/*
 * One row; level is null if nothing is in force.  Why, and by whom, is shown to those
 * who may see what sessions do.
 */
Datum
tcs_relaxed(PG_FUNCTION_ARGS)
{
	bool		may_see_more = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	Datum		values[6];
	bool		nulls[6];
	TcsRelaxed	relaxed;

	tcs_require_preloaded();
	tcs_relax_get(&relaxed);
	memset(nulls, !relaxed.in_force, sizeof(nulls));
	values[0] = relaxed.in_force ? CStringGetTextDatum(tcs_level_name(relaxed.level)) : (Datum) 0;
	values[1] = TimestampTzGetDatum(relaxed.began_at);
	values[2] = TimestampTzGetDatum(relaxed.ends_at);
	values[3] = CStringGetTextDatum(text_from(relaxed.reason, relaxed.encoding));
	values[4] = CStringGetTextDatum(text_from(relaxed.role, relaxed.encoding));
	values[5] = Int64GetDatum((int64) relaxed.served);
	nulls[3] = nulls[4] = !relaxed.in_force || !may_see_more;
	nulls[5] = false;
	return tcs_one_row(fcinfo, lengthof(values), values, nulls);
}
