/*-------------------------------------------------------------------------
 *
 * hint_find.c
 *	  Where hints are in the text of a message.
 *
 * NOTES
 *	  Before 18, core tells as the place of a statement where the message begins,
 *	  or what is behind the semicolon; so the gap follows it.  From 18 on it is
 *	  the first token, so the gap precedes it.  The two are told apart by the byte
 *	  before: in the one case a semicolon, in the other a semicolon only if there
 *	  is no gap, since a comment ends in a slash or a newline.
 *
 *	  (The Query that EXPLAIN, DECLARE and CREATE TABLE AS plan has no place at
 *	  all, in any version, but a zero, which means the first statement of the
 *	  message.  Callers have to hand in the place of the utility statement.)
 *
 *	  White space and comments that follow a known boundary of tokens are read
 *	  here.  Where that boundary has to be found first, core's scanner finds it:
 *	  where the statements of a message begin, from 18 on, and where the query
 *	  begins in EXPLAIN and the others.  None of that is done unless something
 *	  that looks like a hint is found in the text, by its bytes: a parenthesis
 *	  behind "tcs" behind the beginning of a comment.  From 18 on, that is the
 *	  text of all statements before, if a comment is before this one.
 *
 *	  The scanner goes by settings that may have changed since the message was
 *	  parsed (standard_conforming_strings, up to 18).  If it then stumbles over
 *	  the text, or does not come to the statement, there is no hint.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "common/keywords.h"
#include "parser/scanner.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "base/settings.h"
#include "choice/hint.h"
#include "choice/hint_parts.h"

/* A search by core's scanner in a part of a message. */
typedef struct HintScan
{
	const char *source;
	int			begin;			/* of the part, a boundary of tokens */
	int			end;
	int			boundary;		/* result: behind the last semicolon */
	TcsHintPlace place;			/* result: before the inner query */
	int			inner;			/* the hint before the inner query, or -1 */
	int			misplaced;		/* result: a hint elsewhere; -1: none */

	/* the scanner, and the token that it is at */
	core_yyscan_t scanner;
	core_yy_extra_type extra;
	int			token;			/* its character, if it is one; 0: the end */
	const char *text;
	int			behind;			/* where it ends, in the source */
} HintScan;

/*
 * Is this the beginning of a hint?  Returns the place behind its parenthesis, or -1.
 */
int
tcs_hint_begin(const char *source, int at, int end)
{
	if (end - at < 2 || source[at] != '/' || source[at + 1] != '*')
		return -1;
	at += 2;
	while (at < end && tcs_hint_is_space(source[at]))
		at++;
	if (end - at < 3 || pg_strncasecmp(source + at, "tcs", 3) != 0)
		return -1;
	at += 3;
	while (at < end && tcs_hint_is_space(source[at]))
		at++;
	return at < end && source[at] == '(' ? at + 1 : -1;
}

/*
 * Is this a comment that is meant to be a hint, and has not the form of one?
 * These are "-- tcs(" and pg_hint_plan's form.
 */
static bool
is_odd_hint(const char *source, int at, int end)
{
	if (end - at < 3)
		return false;
	if (source[at] == '/' && source[at + 1] == '*' && source[at + 2] == '+')
		at += 3;
	else if (source[at] == '-' && source[at + 1] == '-')
		at += 2;
	else
		return false;
	while (at < end && tcs_hint_is_space(source[at]) && source[at] != '\n' && source[at] != '\r')
		at++;
	if (end - at < 3 || pg_strncasecmp(source + at, "tcs", 3) != 0)
		return false;
	at += 3;
	while (at < end && tcs_hint_is_space(source[at]) && source[at] != '\n' && source[at] != '\r')
		at++;
	return at < end && source[at] == '(';
}

/* Does a comment begin here that is a hint, or is meant to be one? */
static bool
begins_like_hint(const char *source, int at, int end)
{
	return tcs_hint_begin(source, at, end) >= 0 || is_odd_hint(source, at, end);
}

/* Does what opens this parenthesis look like a hint? */
static bool
opens_hint(const char *source, const char *parenthesis)
{
	const char *p = parenthesis;

	while (p > source && tcs_hint_is_space(p[-1]))
		p--;
	if (p - source < 5 || pg_strncasecmp(p - 3, "tcs", 3) != 0)
		return false;
	p -= 3;
	while (p > source && tcs_hint_is_space(p[-1]))
		p--;
	if (p > source && p[-1] == '+')
		p--;
	return p - source >= 2 &&
		begins_like_hint(source, p - source - 2, parenthesis + 1 - source);
}

/*
 * From this parenthesis on up to the end (NULL: of the message), is there anything
 * that looks like a hint, be it in a literal?
 */
bool
tcs_hint_look_inside(const char *source, const char *at, const char *end)
{
	while (at != NULL)
	{
		if (opens_hint(source, at))
			return true;
		at++;
		at = end ? memchr(at, '(', end - at) : strchr(at, '(');
	}
	return false;
}

bool
tcs_hint_looks_hinted(const char *source, int at, int end)
{
	const char *parenthesis = memchr(source + at, '(', end - at);

	return parenthesis != NULL && tcs_hint_look_inside(source, parenthesis, source + end);
}

/* The end of the comment that begins here; comments nest. */
int
tcs_hint_skip_comment(const char *source, int at, int end)
{
	int			depth = 0;

	do
	{
		if (end - at < 2)
			return end;
		if (source[at] == '\0')
			return at;
		if (source[at] == '/' && source[at + 1] == '*')
		{
			depth++;
			at += 2;
		}
		else if (source[at] == '*' && source[at + 1] == '/')
		{
			depth--;
			at += 2;
		}
		else
			at++;
	} while (depth > 0);
	return at;
}

/*
 * Skip white space and comments from a boundary of tokens on.  Returns where the
 * next token begins.  "end" can be INT_MAX for the end of the message.
 */
int
tcs_hint_skip_gap(const char *source, int at, int end, TcsHintPlace *place)
{
	place->hint = place->second = place->odd = -1;
	while (at < end)
	{
		if (tcs_hint_is_space(source[at]))
			at++;
		else if (end - at >= 2 && source[at] == '-' && source[at + 1] == '-')
		{
			if (place->odd < 0 && is_odd_hint(source, at, end))
				place->odd = at;
			while (at < end && source[at] != '\n' && source[at] != '\r' && source[at] != '\0')
				at++;
		}
		else if (end - at >= 2 && source[at] == '/' && source[at + 1] == '*')
		{
			if (tcs_hint_begin(source, at, end) < 0)
			{
				if (place->odd < 0 && is_odd_hint(source, at, end))
					place->odd = at;
			}
			else if (place->hint < 0)
				place->hint = at;
			else if (place->second < 0)
				place->second = at;
			at = tcs_hint_skip_comment(source, at, end);
		}
		else
			break;
	}
	return at;
}

/*
 * Skip empty statements from the boundary of one on.  Returns where the first token
 * of another begins, or the end.  In "astray": the first hint that is in an empty
 * statement, or behind the last semicolon; -1: none.
 */
static int
skip_empty_statements(const char *source, int at, int end, int *astray)
{
	*astray = -1;
	for (;;)
	{
		TcsHintPlace place;

		at = tcs_hint_skip_gap(source, at, end, &place);
		if (source[at] != ';' && source[at] != '\0')
			return at;			/* the gap belongs to the statement that
								 * begins here */
		if (*astray < 0)
			*astray = place.hint >= 0 && place.odd >= 0 ? Min(place.hint, place.odd) :
				Max(place.hint, place.odd);
		if (source[at] == '\0')
			return at;
		at++;
	}
}

/*
 * Where is a hint that belongs to no statement, and is beside this one?  -1: nowhere.
 *
 * Core makes no statement of an empty one, so no hook would come to its hint.  Each
 * statement answers for what is between it and the next, and the first also for what
 * is before it.  Both begin at a place that core has told, so no scanner is needed.
 */
int
tcs_hint_astray(const char *source, int location, int len)
{
	int			astray = -1;

	if (location > 0 && skip_empty_statements(source, 0, location, &astray) == location &&
		astray >= 0)
		return astray;
	astray = -1;
	if (location >= 0 && len > 0 && source[location + len] == ';')
		(void) skip_empty_statements(source, location + len + 1, INT_MAX, &astray);
	return astray;
}

/* Is this the first word of a statement that can have a hint further on? */
bool
tcs_hint_has_query_inside(const char *word)
{
	static const char *const begin[] = {"exp", "dec", "pre", "cop", "cre"};

	for (int i = 0; i < lengthof(begin); i++)
	{
		if (pg_strncasecmp(word, begin[i], 3) == 0)
			return true;
	}
	return false;
}

/*
 * The part of tcs_hint_may_lead() that is not inline.  Looks at some bytes to both
 * sides of the place, back to the line before at most.
 */
bool
tcs_hint_look(const char *source, int location)
{
	const char *p = source + Max(location, 0);
	const char *before = p;

	if (location > 0 && p[-1] != ';')
	{
		bool		newline = false;

		while (before > source && tcs_hint_is_space(before[-1]))
		{
			before--;
			newline |= *before == '\n' || *before == '\r';
		}
		if (before > source && before[-1] == '/')
			return true;
		/* a comment of one line can end in anything */
		while (newline && before - source >= 2 &&
			   before[-1] != '\n' && before[-1] != '\r')
		{
			before--;
			if (before[0] == '-' && before[-1] == '-')
				return true;
		}
	}

	while (tcs_hint_is_space(*p))
		p++;
	return (p[0] == '/' && p[1] == '*') || (p[0] == '-' && p[1] == '-');
}


/* ---- with core's scanner ---- */

static void
next_token(HintScan *scan)
{
	core_YYSTYPE value;
	YYLTYPE		location;

	scan->token = core_yylex(&value, &location, scan->scanner);
	/* flex has put a zero behind the token */
	scan->text = scan->extra.scanbuf + location;
	scan->behind = scan->begin + location + strlen(scan->text);
}

/* Is the token this word?  A quoted name has its quotes, and is none. */
static bool
at_word(const HintScan *scan, const char *word)
{
	return pg_strcasecmp(scan->text, word) == 0;
}

/* Where does the last statement of this part begin? */
static void
scan_statements(HintScan *scan)
{
	scan->boundary = scan->begin;
	for (next_token(scan); scan->token != 0; next_token(scan))
	{
		if (scan->token == ';')
			scan->boundary = scan->behind;
	}
}

/* Here, behind a token, the gap before a query begins: look for a hint in it. */
static void
note_gap(HintScan *scan, int at)
{
	TcsHintPlace place;

	(void) tcs_hint_skip_gap(scan->source, at, scan->end, &place);
	if (place.hint >= 0)
		scan->place = place;
}

/* Go to the parenthesis that closes the one the scanner is at. */
static void
skip_parentheses(HintScan *scan)
{
	int			depth = 0;

	do
	{
		if (scan->token == '(')
			depth++;
		else if (scan->token == ')')
			depth--;
		if (depth > 0)
			next_token(scan);
	} while (depth > 0 && scan->token != 0);
}

/* Go to the first such word that is in no parentheses. */
static void
go_to_word(HintScan *scan, const char *word)
{
	while (scan->token != 0 && !at_word(scan, word))
	{
		if (scan->token == '(')
			skip_parentheses(scan);
		if (scan->token != 0)
			next_token(scan);
	}
}

/* EXPLAIN; ends at the first token of what is explained, or in its middle. */
static void
scan_explain(HintScan *scan)
{
	int			behind = scan->behind;

	next_token(scan);
	if (scan->token == '(')
	{
		next_token(scan);
		if (scan->token == '(' || at_word(scan, "select") || at_word(scan, "with") ||
			at_word(scan, "values") || at_word(scan, "table"))
		{
			/* a query in parentheses, no options */
			note_gap(scan, behind);
			return;
		}
		while (scan->token != 0 && scan->token != ')')
		{
			if (scan->token == '(')
				skip_parentheses(scan);
			next_token(scan);
		}
		behind = scan->behind;
		next_token(scan);
	}
	else
	{
		if (at_word(scan, "analyze") || at_word(scan, "analyse"))
		{
			behind = scan->behind;
			next_token(scan);
		}
		if (at_word(scan, "verbose"))
		{
			behind = scan->behind;
			next_token(scan);
		}
	}
	note_gap(scan, behind);
}

/* CREATE, which has a query if it is a table or a materialized view. */
static void
scan_create(HintScan *scan)
{
	do
		next_token(scan);
	while (at_word(scan, "temp") || at_word(scan, "temporary") ||
		   at_word(scan, "local") || at_word(scan, "global") ||
		   at_word(scan, "unlogged"));
	if (!at_word(scan, "table") && !at_word(scan, "materialized"))
		return;
	go_to_word(scan, "as");
	if (scan->token != 0)
		note_gap(scan, scan->behind);
}

/*
 * Find the hint before the inner query of the statement with which this part
 * begins.
 */
static void
scan_query_inside(HintScan *scan)
{
	scan->place.hint = scan->place.second = scan->place.odd = -1;
	next_token(scan);
	if (at_word(scan, "explain"))
		scan_explain(scan);

	/* EXPLAIN can have those inside */
	if (at_word(scan, "create"))
		scan_create(scan);
	else if (at_word(scan, "copy"))
	{
		next_token(scan);
		if (scan->token == '(')
			note_gap(scan, scan->behind);
	}
	else if (at_word(scan, "declare") || at_word(scan, "prepare"))
	{
		go_to_word(scan, at_word(scan, "declare") ? "for" : "as");
		if (scan->token != 0)
			note_gap(scan, scan->behind);
	}
}

/*
 * Find a hint behind the first word of the statement with which this part begins,
 * other than the one before its inner query.
 *
 * A semicolon is in no statement but the body of CREATE FUNCTION; elsewhere the
 * scanner takes the text for something else than it was parsed for.
 */
static void
scan_misplaced(HintScan *scan)
{
	bool		creates;

	scan->misplaced = -1;
	next_token(scan);
	creates = at_word(scan, "create");
	for (; scan->token != 0 && (scan->token != ';' || creates); next_token(scan))
	{
		TcsHintPlace place;

		(void) tcs_hint_skip_gap(scan->source, scan->behind, scan->end, &place);
		if (place.hint >= 0 && place.hint != scan->inner)
			scan->misplaced = place.hint;
		else if (place.odd >= 0)
			scan->misplaced = place.odd;
		if (scan->misplaced >= 0)
			return;
	}
}

/*
 * Let core's scanner run over a part of a message.  What it had to say it has
 * said when the message was parsed.  False if it does not like the text.
 */
static bool
run_scanner(HintScan *scan, void (*walk) (HintScan *))
{
	MemoryContext outer = CurrentMemoryContext;
	MemoryContext context;
	int			level = NewGUCNestLevel();
	bool		done = true;

	tcs_guc_set_for_now("client_min_messages", "error");
	tcs_guc_set_for_now("log_min_messages", "error");
	tcs_guc_set_for_now("escape_string_warning", "off");
	context = AllocSetContextCreate(outer, "tcs hint", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);

	PG_TRY();
	{
		char	   *part = pnstrdup(scan->source + scan->begin, scan->end - scan->begin);

		scan->scanner = scanner_init(part, &scan->extra, &ScanKeywords, ScanKeywordTokens);
		walk(scan);
		scanner_finish(scan->scanner);
	}
	PG_CATCH();
	{
		int			category = ERRCODE_TO_CATEGORY(geterrcode());

		/* nothing but memory was used, so there is nothing else to undo */
		if (category != ERRCODE_TO_CATEGORY(ERRCODE_SYNTAX_ERROR) &&
			category != ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION))
			PG_RE_THROW();
		FlushErrorState();
		done = false;
	}
	PG_END_TRY();

	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
	AtEOXact_GUC(true, level);
	return done;
}

/*
 * Where the statement begins whose place this is, its gap included; -1 if that
 * cannot be told.
 */
int
tcs_hint_find_boundary(const char *source, int location)
{
	HintScan	scan = {.source = source,.end = location};
	TcsHintPlace place;

	if (location == 0 || source[location - 1] == ';')
		return location;
	/* the first statement, with nothing but comments before it */
	if (tcs_hint_skip_gap(source, 0, location, &place) == location)
		return 0;
	if (!run_scanner(&scan, scan_statements) ||
		tcs_hint_skip_gap(source, scan.boundary, location, &place) != location)
		return -1;
	return scan.boundary;
}

/* The hint before the query that a statement has inside of it. */
bool
tcs_hint_find_inside(const char *source, int word, int end, TcsHintPlace *place)
{
	HintScan	scan = {.source = source,.begin = word,.end = end};

	if (!run_scanner(&scan, scan_query_inside) || scan.place.hint < 0)
		return false;
	*place = scan.place;
	return true;
}

/* A hint behind the first word of the statement, but for an inner one; -1: none. */
int
tcs_hint_find_behind(const char *source, int word, int end, int inner)
{
	HintScan	scan = {.source = source,.begin = word,.end = end,.inner = inner};

	return run_scanner(&scan, scan_misplaced) ? scan.misplaced : -1;
}
