/*-------------------------------------------------------------------------
 *
 * relax.c
 *	  The emergency valve: for a time, this node serves reads at less.
 *
 * NOTES
 *	  When a primary is lost or standbys lag, somebody may decide that stale pages
 *	  are better than none.  tcs.relax() says so for this node and for a time: what
 *	  asks for more than a level, and is not there without a wait, is read at that
 *	  level, but for the floors of rules that are marked "hard".  Nothing is
 *	  written, so it works on a standby; it is forgotten in a crash or restart, and
 *	  ends by itself.
 *
 *	  A read whose requirement is met does not look here: it gets what it asked
 *	  for.  The others look at "until" where they would begin to wait, and those
 *	  that wait when it is opened are woken, and ask for less.  Each is told so by
 *	  a warning, and counted as a downgrade.
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
#include "port/atomics.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/relax.h"
#include "base/tcs.h"
#include "standby/wait_queue.h"

PG_FUNCTION_INFO_V1(tcs_relax);
PG_FUNCTION_INFO_V1(tcs_relax_end);
PG_FUNCTION_INFO_V1(tcs_relaxed);

#define TCS_RELAX_REASON_LEN	256

/* Longest time; who wants more wants another tcs.read_level. */
#define TCS_RELAX_MAX			USECS_PER_DAY

typedef struct TcsRelax
{
	/*
	 * End, on the clock of tcs_now(); 0: not in force.  Set under the lock, put
	 * to 0 by whoever first sees that it is past; read without it.
	 */
	pg_atomic_uint64 until;
	pg_atomic_uint64 since;		/* beginning; likewise */
	pg_atomic_uint32 level;		/* likewise */

	/* reads served at less than they asked for; atomic, 0 when it is opened */
	pg_atomic_uint64 served;

	/* protected by the LWLock tcs_relax */
	TimestampTz began_at;
	TimestampTz ends_at;
	int			encoding;		/* of the database that the texts are from */
	char		reason[TCS_RELAX_REASON_LEN];
	char		role[NAMEDATALEN];
} TcsRelax;

static TcsRelax *relax = NULL;
static LWLock *relax_lock = NULL;

Size
tcs_relax_shmem_size(void)
{
	return sizeof(TcsRelax);
}

void
tcs_relax_shmem_init(void *ptr, LWLock *lock, bool found)
{
	relax = ptr;
	relax_lock = lock;
	if (found)
		return;

	memset(relax, 0, sizeof(TcsRelax));
	pg_atomic_init_u64(&relax->until, 0);
	pg_atomic_init_u64(&relax->since, 0);
	pg_atomic_init_u32(&relax->level, 0);
	pg_atomic_init_u64(&relax->served, 0);
}

/* For a message: how many reads it has served. */
static int
report_served(void)
{
	unsigned long long served = pg_atomic_read_u64(&relax->served);

	return errdetail_plural("%llu read was served at less.",
							"%llu reads were served at less.", (unsigned long) served, served);
}

/*
 * Is it in force, and down to which level?
 *
 * The level is written before "until" and read after it; a level of the valve's
 * next opening is one that is in force as well.
 */
bool
tcs_relax_in_force(TcsLevel *level)
{
	uint64		until = pg_atomic_read_u64(&relax->until);

	if (likely(until == 0))
		return false;
	if (tcs_now() >= (int64) until)
	{
		/* the first who sees it says so */
		if (pg_atomic_compare_exchange_u64(&relax->until, &until, 0))
			ereport(LOG,
					(errmsg("tcs: reads are served at their own levels again, the time is over"),
					 report_served()));
		return false;
	}
	pg_read_barrier();
	*level = (TcsLevel) pg_atomic_read_u32(&relax->level);
	return true;
}

/* Has it come into force since?  For those who wait. */
bool
tcs_relax_began_after(int64 instant)
{
	return pg_atomic_read_u64(&relax->until) != 0 &&
		(int64) pg_atomic_read_u64(&relax->since) >= instant;
}

/* A read was served at less than the level that it asked for. */
void
tcs_relax_count(void)
{
	pg_atomic_fetch_add_u64(&relax->served, 1);
}

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
	int64		now = tcs_now();
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

	LWLockAcquire(relax_lock, LW_EXCLUSIVE);
	pg_atomic_write_u64(&relax->served, 0);
	relax->began_at = GetCurrentTimestamp();
	relax->ends_at = relax->began_at + length;
	relax->encoding = GetDatabaseEncoding();
	strlcpy(relax->reason, reason, sizeof(relax->reason));
	strlcpy(relax->role, user, NAMEDATALEN);
	pg_atomic_write_u32(&relax->level, level);
	pg_atomic_write_u64(&relax->since, now);
	pg_write_barrier();
	pg_atomic_write_u64(&relax->until, now + length);
	LWLockRelease(relax_lock);

	ereport(LOG,
			(errmsg("tcs: reads that would wait for more than level \"%s\" are served at it for %lld s, as set by \"%s\"",
					tcs_level_name(level), (long long) (length / USECS_PER_SEC), user),
			 errdetail("Reason: %s", reason)));
	tcs_queue_wake_all();
	PG_RETURN_VOID();
}

/* relax_end(): no more.  Returns whether it was in force. */
Datum
tcs_relax_end(PG_FUNCTION_ARGS)
{
	TcsLevel	level;
	bool		was_in_force = tcs_relax_in_force(&level);

	if (was_in_force)
	{
		pg_atomic_write_u64(&relax->until, 0);
		ereport(LOG,
				(errmsg("tcs: reads are served at their own levels again"),
				 report_served()));
	}
	PG_RETURN_BOOL(was_in_force);
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
	TcsLevel	level;
	bool		in_force = tcs_relax_in_force(&level);
	TcsRelax	copy;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	LWLockAcquire(relax_lock, LW_SHARED);
	memcpy(&copy, relax, sizeof(copy));
	LWLockRelease(relax_lock);

	memset(nulls, !in_force, sizeof(nulls));
	values[0] = in_force ? CStringGetTextDatum(tcs_level_name(level)) : (Datum) 0;
	values[1] = TimestampTzGetDatum(copy.began_at);
	values[2] = TimestampTzGetDatum(copy.ends_at);
	values[3] = CStringGetTextDatum(text_from(copy.reason, copy.encoding));
	values[4] = CStringGetTextDatum(text_from(copy.role, copy.encoding));
	values[5] = Int64GetDatum((int64) pg_atomic_read_u64(&relax->served));
	nulls[5] = false;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
