/*-------------------------------------------------------------------------
 *
 * hint.c
 *	  Hints: what a statement asks for in a comment of its own.
 *
 * NOTES
 *	  Where hints are in a text, hint_find.c knows; hint_parse.c reads one.
 *
 *	  A hint is a comment that begins with "tcs(":
 *
 *		[/]* tcs(bounded, max_staleness=2s, fallback='redirect, error') *[/]
 *
 *	  (without the brackets).  It counts in the gap before its statement's first
 *	  word, among other comments and white space, or in the gap before the query
 *	  of EXPLAIN, DECLARE, PREPARE, CREATE TABLE AS and COPY.
 *
 *	  Anyone who writes a hint asks for something, and must not silently get less.
 *	  So what is wrong with one, a second one, and one where none counts are
 *	  errors, or with tcs.hint_errors = warning are told by one WARNING for each
 *	  call.  A session token is there to see a certain write, and is never left
 *	  out.  Comments that do not begin with "tcs(" are nobody's business, apart
 *	  from "-- tcs(" and pg_hint_plan's form with a plus sign.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"

#include "base/settings.h"
#include "choice/hint.h"
#include "choice/hint_parts.h"

/* What to do about a hint where none counts. */
static const char place_advice[] = "Write /* tcs(...) */ before the first word of the statement, or before the query within EXPLAIN, DECLARE, PREPARE, CREATE TABLE AS and COPY.";

/* Where the text of a statement ends, whose location is not negative. */
static int
end_of_statement(const char *source, int location, int len)
{
	/* no place: then the length is not of this text */
	if (location < 0)
		return strlen(source);
	return len > 0 ? location + len : location + strlen(source + location);
}

/*
 * Where the part of a message begins in which the hint of the statement at this
 * place is, that is the gap before it; -1 if there is nothing like a hint.
 */
static int
begin_of_part(const char *source, int location, int end)
{
	int			begin = location > 0 && source[location - 1] != ';' ? 0 : location;

	return tcs_hint_looks_hinted(source, begin, end) ? tcs_hint_find_boundary(source, location) : -1;
}

/*
 * The statement at this place has a hint before it that is well-formed, and cannot
 * do what it asks for.
 */
void
tcs_hint_refuse(const char *source, int location, int len, const char *detail,
				const char *advice)
{
	int			end = end_of_statement(source, location, len);
	int			begin = begin_of_part(source, Max(location, 0), end);
	TcsHintPlace place;

	if (begin < 0)
		return;
	(void) tcs_hint_skip_gap(source, begin, end, &place);
	if (place.hint >= 0)
		tcs_hint_report_misplaced(source, place.hint, end, detail, advice);
}

/* Nobody knows which statement of this text runs: no hint in it can be for it. */
void
tcs_hint_refuse_all(const char *source, const char *detail, const char *advice)
{
	int			end = strlen(source);

	for (int at = 0; at < end; at++)
	{
		if (tcs_hint_begin(source, at, end) >= 0)
		{
			tcs_hint_report_misplaced(source, at, end, detail, advice);
			return;
		}
	}
}

/*
 * Is a hint beside the statement that belongs to none?  Says so, once while the same
 * message is worked on.
 */
static void
refuse_astray(const char *source, int location, int len)
{
	static TimestampTz last_message = 0;
	static const char *last_source = NULL;
	static int	last_astray = -1;
	int			astray;

	if (!tcs_hint_is_astray(source, location, len))
		return;
	astray = tcs_hint_astray(source, location, len);
	if (last_message == GetCurrentStatementStartTimestamp() &&
		last_source == source && last_astray == astray)
		return;
	tcs_hint_report_misplaced(source, astray, INT_MAX,
							  "A hint belongs to no statement if a semicolon, or the end of the message, follows it.",
							  place_advice);
	last_message = GetCurrentStatementStartTimestamp();
	last_source = source;
	last_astray = astray;
}

/* Is a hint where none counts?  Says so. */
static bool
find_misplaced(const char *source, int word, int end, int odd, int inner)
{
	if (odd >= 0)
	{
		tcs_hint_report_misplaced(source, odd, end,
								  "A hint is a comment that begins with \"/*\", and tcs follows.", place_advice);
		return true;
	}
	if (tcs_hint_looks_hinted(source, word, end))
	{
		int			misplaced = tcs_hint_find_behind(source, word, end, inner);

		if (misplaced >= 0)
		{
			tcs_hint_report_misplaced(source, misplaced, end,
									  "A hint does not count behind the first word of its statement.", place_advice);
			return true;
		}
	}
	return false;
}

/*
 * Find and read the hint of the statement at this place of a message: location
 * and len are those of its PlannedStmt or Query.
 *
 * A malformed or misplaced one is an error, or is told by one WARNING, and the
 * result is false.
 */
bool
tcs_hint_find(const char *source, int location, int len, TcsHint *hint)
{
	TcsHintPlace place;
	int			begin;
	int			end;
	int			word;
	int			inner = -1;

	hint->set = 0;
	if (tcs_hints == TCS_HINTS_OFF)
		return false;

	refuse_astray(source, location, len);
	end = end_of_statement(source, location, len);
	location = Max(location, 0);
	begin = begin_of_part(source, location, end);
	if (begin < 0)
		return false;

	word = tcs_hint_skip_gap(source, begin, end, &place);
	if (tcs_hint_has_query_inside(source + word) && tcs_hint_looks_hinted(source, word, end))
	{
		TcsHintPlace inside;

		if (tcs_hint_find_inside(source, word, end, &inside))
		{
			inner = inside.hint;
			/* with one before the first word as well, both would be lost */
			if (place.hint < 0)
				place = inside;
			else if (place.second < 0)
				place.second = inner;
		}
	}
	if (find_misplaced(source, word, end, place.odd, inner))
		return false;
	if (place.hint < 0)
		return false;
	return tcs_hint_read(source, &place, end, hint);
}
