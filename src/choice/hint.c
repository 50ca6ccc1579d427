/*-------------------------------------------------------------------------
 *
 * hint.c
 *	  Hints: what a statement asks for in a comment of its own.
 *
 * NOTES
 *	  A hint is a comment that begins with "tcs(":
 *
 *		[/]* tcs(bounded, max_staleness=2s, fallback='redirect, error') *[/]
 *
 *	  (without the brackets).  It counts in the gap before its statement's first
 *	  word, among other comments and white space, or in the gap before the query
 *	  of EXPLAIN, DECLARE, PREPARE, CREATE TABLE AS and COPY.
 *
 *	  Whoever writes a hint asks for something, and must not silently get less.
 *	  So what is wrong with one, a second one, and one where none counts are
 *	  errors, or with tcs.hint_errors = warning are told by one WARNING for each
 *	  call.  A session token is there to see a certain write, and is never left
 *	  out.  Comments that do not begin with "tcs(" are nobody's business, apart
 *	  from "-- tcs(" and pg_hint_plan's form with a plus sign.
 *
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

#include "access/xact.h"
#include "common/keywords.h"
#include "mb/pg_wchar.h"
#include "parser/scanner.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "base/settings.h"
#include "choice/hint.h"

/* How much of a client's text is repeated in a message, in bytes. */
#define TCS_HINT_SHOWN	64

/* What to do about a hint where none counts. */
static const char place_advice[] = "Write /* tcs(...) */ before the first word of the statement, or before the query within EXPLAIN, DECLARE, PREPARE, CREATE TABLE AS and COPY.";

/* The place of a hint, and of others in the same gap; -1: none. */
typedef struct HintPlace
{
	int			hint;
	int			second;
	int			odd;			/* a comment of another form that means one */
} HintPlace;

/* A search by core's scanner in a part of a message. */
typedef struct HintScan
{
	const char *source;
	int			begin;			/* of the part, a boundary of tokens */
	int			end;
	int			boundary;		/* result: behind the last semicolon */
	HintPlace	place;			/* result: before the inner query */
	int			inner;			/* the hint before the inner query, or -1 */
	int			misplaced;		/* result: a hint elsewhere; -1: none */

	/* the scanner, and the token that it is at */
	core_yyscan_t scanner;
	core_yy_extra_type extra;
	int			token;			/* its character, if it is one; 0: the end */
	const char *text;
	int			behind;			/* where it ends, in the source */
} HintScan;

/* A hint while it is read. */
typedef struct HintReader
{
	const char *source;
	int			at;
	int			end;			/* of the inside of the comment */
	TcsHint    *hint;

	/* what is wrong with it */
	int			bad_at;
	const char *detail;
	const char *advice;			/* NULL: the form of a hint */
} HintReader;

static inline bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static inline bool
is_word_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(c >= '0' && c <= '9') || c == '_' || IS_HIGHBIT_SET(c);
}

/*
 * Is this the beginning of a hint?  Returns the place behind its parenthesis, or -1.
 */
static int
begin_of_hint(const char *source, int at, int end)
{
	if (end - at < 2 || source[at] != '/' || source[at + 1] != '*')
		return -1;
	at += 2;
	while (at < end && is_space(source[at]))
		at++;
	if (end - at < 3 || pg_strncasecmp(source + at, "tcs", 3) != 0)
		return -1;
	at += 3;
	while (at < end && is_space(source[at]))
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
	while (at < end && is_space(source[at]) && source[at] != '\n' && source[at] != '\r')
		at++;
	if (end - at < 3 || pg_strncasecmp(source + at, "tcs", 3) != 0)
		return false;
	at += 3;
	while (at < end && is_space(source[at]) && source[at] != '\n' && source[at] != '\r')
		at++;
	return at < end && source[at] == '(';
}

/* Does a comment begin here that is a hint, or is meant to be one? */
static bool
begins_like_hint(const char *source, int at, int end)
{
	return begin_of_hint(source, at, end) >= 0 || is_odd_hint(source, at, end);
}

/* Does what opens this parenthesis look like a hint? */
static bool
opens_hint(const char *source, const char *parenthesis)
{
	const char *p = parenthesis;

	while (p > source && is_space(p[-1]))
		p--;
	if (p - source < 5 || pg_strncasecmp(p - 3, "tcs", 3) != 0)
		return false;
	p -= 3;
	while (p > source && is_space(p[-1]))
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

static bool
looks_hinted(const char *source, int at, int end)
{
	const char *parenthesis = memchr(source + at, '(', end - at);

	return parenthesis != NULL && tcs_hint_look_inside(source, parenthesis, source + end);
}

/* The end of the comment that begins here; comments nest. */
static int
skip_comment(const char *source, int at, int end)
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
static int
skip_gap(const char *source, int at, int end, HintPlace *place)
{
	place->hint = place->second = place->odd = -1;
	while (at < end)
	{
		if (is_space(source[at]))
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
			if (begin_of_hint(source, at, end) < 0)
			{
				if (place->odd < 0 && is_odd_hint(source, at, end))
					place->odd = at;
			}
			else if (place->hint < 0)
				place->hint = at;
			else if (place->second < 0)
				place->second = at;
			at = skip_comment(source, at, end);
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
		HintPlace	place;

		at = skip_gap(source, at, end, &place);
		if (source[at] != ';' && source[at] != '\0')
			return at;			/* the gap belongs to the statement that begins here */
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
static bool
has_query_inside(const char *word)
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

		while (before > source && is_space(before[-1]))
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

	while (is_space(*p))
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
	HintPlace	place;

	(void) skip_gap(scan->source, at, scan->end, &place);
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
		HintPlace	place;

		(void) skip_gap(scan->source, scan->behind, scan->end, &place);
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
static int
find_boundary(const char *source, int location)
{
	HintScan	scan = {.source = source, .end = location};
	HintPlace	place;

	if (location == 0 || source[location - 1] == ';')
		return location;
	/* the first statement, with nothing but comments before it */
	if (skip_gap(source, 0, location, &place) == location)
		return 0;
	if (!run_scanner(&scan, scan_statements) ||
		skip_gap(source, scan.boundary, location, &place) != location)
		return -1;
	return scan.boundary;
}


/* ---- reading ---- */

/* Text for a message, cut if it is long. */
static const char *
shown(const char *text, int len)
{
	if (len <= TCS_HINT_SHOWN)
		return pnstrdup(text, len);
	return psprintf("%.*s...", pg_mbcliplen(text, len, TCS_HINT_SHOWN), text);
}

/* Note what is wrong, for which the result is false. */
static bool
bad(HintReader *reader, int at, const char *detail, const char *advice)
{
	reader->bad_at = at;
	reader->detail = detail;
	reader->advice = advice;
	return false;
}

static void
skip_space(HintReader *reader)
{
	while (reader->at < reader->end && is_space(reader->source[reader->at]))
		reader->at++;
}

static inline bool
at_char(const HintReader *reader, char c)
{
	return reader->at < reader->end && reader->source[reader->at] == c;
}

/* A word, of no length if there is none. */
static const char *
read_word(HintReader *reader)
{
	int			begin = reader->at;

	while (reader->at < reader->end && is_word_char(reader->source[reader->at]))
		reader->at++;
	return pnstrdup(reader->source + begin, reader->at - begin);
}

/* A value, in quotes or up to the next comma or parenthesis; NULL if it is bad. */
static char *
read_value(HintReader *reader)
{
	const char *source = reader->source;
	int			begin;
	int			end;

	skip_space(reader);
	begin = reader->at;
	if (at_char(reader, '\''))
	{
		const char *quote;

		begin++;
		quote = memchr(source + begin, '\'', reader->end - begin);
		if (quote == NULL)
		{
			(void) bad(reader, reader->at, "A quote is not closed.", NULL);
			return NULL;
		}
		end = quote - source;
		reader->at = end + 1;
	}
	else
	{
		while (reader->at < reader->end && source[reader->at] != ',' &&
			   source[reader->at] != ')')
			reader->at++;
		end = reader->at;
		while (end > begin && is_space(source[end - 1]))
			end--;
	}
	if (end == begin)
	{
		(void) bad(reader, begin, "A value is empty.", NULL);
		return NULL;
	}
	return pnstrdup(source + begin, end - begin);
}

static bool
set_level(HintReader *reader, int at, const char *name)
{
	if (!tcs_level_by_name(name, &reader->hint->level))
		return bad(reader, at,
				   psprintf("\"%s\" is not a level.", shown(name, strlen(name))),
				   "Valid levels: eventual, consistent_prefix, bounded, read_your_writes, monotonic_reads, session, sequential, causal, strong, linearizable.");
	if (reader->hint->level == TCS_LEVEL_SNAPSHOT)
		return bad(reader, at,
				   "Level \"snapshot\" is a property of a transaction, not of a statement.",
				   "Use SET tcs.read_level before the transaction.");
	return true;
}

static bool
set_time(HintReader *reader, int at, const char *name, const char *value,
		 int least, int *result)
{
	const char *units = NULL;

	if (!parse_int(value, result, GUC_UNIT_MS, &units))
		return bad(reader, at,
				   psprintf("\"%s\" is not a value for \"%s\".",
							shown(value, strlen(value)), name),
				   units);
	if (*result < least)
		return bad(reader, at,
				   psprintf("%d ms is outside the valid range for \"%s\" (%d .. %d).",
							*result, name, least, INT_MAX),
				   NULL);
	return true;
}

static bool
set_fallback(HintReader *reader, int at, const char *value)
{
	TcsFallback *fallback = &reader->hint->fallback;
	const char *step;
	int			len;

	if (tcs_fallback_parse(value, fallback, &step, &len))
		return true;
	return bad(reader, at,
			   fallback->nsteps >= TCS_MAX_FALLBACK_STEPS - 1 ?
			   psprintf("The fallback has more than %d steps.", TCS_MAX_FALLBACK_STEPS - 1) :
			   len == 0 ? "A step of the fallback is empty." :
			   psprintf("\"%s\" is not a step of a fallback.", shown(step, len)),
			   psprintf("Valid steps: redirect, error, %s.", tcs_level_names_hint()));
}

static bool
set_token(HintReader *reader, int at, const char *value)
{
	if (tcs_hints != TCS_HINTS_ALL)
		return bad(reader, at,
				   "A token in a hint is accepted only if tcs.hints is \"all\".",
				   "Use SET tcs.session_token, or SET tcs.hints = 'all'.");
	if (!tcs_token_parse(value, &reader->hint->token))
		return bad(reader, at,
				   "The value of \"session_token\" is not a session token, or it was damaged on its way.",
				   "Hand back the text of tcs.session_token or tcs.session_token() unchanged.");
	return true;
}

static bool
set_write_level(HintReader *reader, int at, const char *value)
{
	TcsWriteLevel *level = &reader->hint->write_level;

	if (!tcs_write_level_by_name(value, level) || *level == TCS_WRITE_DEFAULT)
		return bad(reader, at,
				   psprintf("\"%s\" is not a write level.", shown(value, strlen(value))),
				   "Valid write levels: eventual, session, quorum, strong.");
	return true;
}

/* One item between commas. */
static bool
read_item(HintReader *reader, bool first)
{
	static const struct
	{
		const char *name;
		uint32		flag;
	}			items[] =
	{
		{"level", TCS_HINT_LEVEL},
		{"max_staleness", TCS_HINT_MAX_STALENESS},
		{"max_wait", TCS_HINT_MAX_WAIT},
		{"fallback", TCS_HINT_FALLBACK},
		{"session_token", TCS_HINT_TOKEN},
		{"write_level", TCS_HINT_WRITE_LEVEL},
	};
	const char *name;
	const char *value;
	int			at;
	int			value_at;
	uint32		flag = 0;

	skip_space(reader);
	at = reader->at;
	name = read_word(reader);
	skip_space(reader);
	if (name[0] == '\0')
		return bad(reader, at, reader->at < reader->end &&
				   reader->source[reader->at] != ',' && reader->source[reader->at] != ')' ?
				   "An item does not begin with a name." :
				   first && !at_char(reader, ',') ? "The hint is empty." : "An item is empty.",
				   NULL);
	if (!at_char(reader, '='))
	{
		/* a level, by its place */
		if (!first)
			return bad(reader, at,
					   psprintf("\"%s\" has no value, and a level has to be the first item.",
								shown(name, strlen(name))), NULL);
		reader->hint->set |= TCS_HINT_LEVEL;
		return set_level(reader, at, name);
	}

	for (int i = 0; i < lengthof(items); i++)
	{
		if (pg_strcasecmp(name, items[i].name) == 0)
			flag = items[i].flag;
	}
	if (flag == 0)
		return bad(reader, at,
				   psprintf("\"%s\" cannot be set in a hint.", shown(name, strlen(name))), NULL);
	if (reader->hint->set & flag)
		return bad(reader, at, psprintf("\"%s\" is set twice.", name), NULL);
	reader->hint->set |= flag;

	reader->at++;
	skip_space(reader);
	value_at = reader->at;
	value = read_value(reader);
	if (value == NULL)
		return false;
	skip_space(reader);
	switch (flag)
	{
		case TCS_HINT_LEVEL:
			return set_level(reader, value_at, value);
		case TCS_HINT_MAX_STALENESS:
			return set_time(reader, value_at, name, value, 0, &reader->hint->max_staleness);
		case TCS_HINT_MAX_WAIT:
			return set_time(reader, value_at, name, value, -1, &reader->hint->max_wait);
		case TCS_HINT_FALLBACK:
			return set_fallback(reader, value_at, value);
		case TCS_HINT_WRITE_LEVEL:
			return set_write_level(reader, value_at, value);
		default:
			return set_token(reader, value_at, value);
	}
}

/* The inside of a hint, from its parenthesis on. */
static bool
read_items(HintReader *reader)
{
	bool		first = true;

	do
	{
		if (!first)
			reader->at++;
		if (!read_item(reader, first))
			return false;
		first = false;
	} while (at_char(reader, ','));

	if (reader->at >= reader->end)
		return bad(reader, reader->at, "The closing parenthesis is missing.", NULL);
	if (!at_char(reader, ')'))
		return bad(reader, reader->at, "A comma or the closing parenthesis is missing.", NULL);
	reader->at++;
	skip_space(reader);
	if (reader->at < reader->end)
		return bad(reader, reader->at, "There is something behind the closing parenthesis.", NULL);
	return true;
}

/*
 * Point at a place of the message; of a prepared statement's, which is not what
 * the client has sent now, show the text as well.
 */
static int
point_at(const char *source, int at)
{
	int			position = pg_mbstrlen_with_len(source, at) + 1;

	if (debug_query_string != NULL && strcmp(debug_query_string, source) == 0)
		return errposition(position);
	internalerrquery(source);
	return internalerrposition(position);
}

/* Does the comment that begins here have a session token in it? */
static bool
mentions_token(const char *source, int at, int end)
{
	static const char name[] = "session_token";

	for (; end - at >= (int) strlen(name); at++)
	{
		if (pg_strncasecmp(source + at, name, strlen(name)) == 0)
			return true;
	}
	return false;
}

/* Is a session token in the comment that begins here, under whatever name? */
static bool
contains_token(const char *source, int at, int end)
{
	while (at < end)
	{
		int			begin = at;
		char		word[TCS_TOKEN_MAXLEN + 1];
		TcsToken	token;

		while (at < end && (is_word_char(source[at]) || source[at] == '.' ||
							source[at] == ':' || source[at] == '-'))
			at++;
		if (at > begin && at - begin <= TCS_TOKEN_MAXLEN)
		{
			memcpy(word, source + begin, at - begin);
			word[at - begin] = '\0';
			if (tcs_token_parse(word, &token))
				return true;
		}
		at++;
	}
	return false;
}

/*
 * Say what is wrong with a hint.  Without an error, the statement runs as if there
 * were none, which can be less fresh than it should be.  So with a token, which is
 * there for nothing else, it is an error always, as SET of the same text would be.
 * That holds also if the name of the item is misspelt.
 */
static void
report(const HintReader *reader, int begin, int end, bool misplaced)
{
	int			elevel = tcs_hint_errors == TCS_HINT_ERRORS_ERROR ||
		mentions_token(reader->source, begin, end) ||
		contains_token(reader->source, begin, end) ? ERROR : WARNING;

	ereport(elevel,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 elevel == ERROR ?
			 (misplaced ? errmsg("misplaced hint for tcs") : errmsg("malformed hint for tcs")) :
			 (misplaced ? errmsg("ignoring misplaced hint for tcs") : errmsg("ignoring malformed hint for tcs")),
			 errdetail("%s", reader->detail),
			 reader->advice ? errhint("%s", reader->advice) :
			 errhint("Write /* tcs(level, max_staleness=2s, max_wait=200ms, fallback='redirect, error') */; each item can be left out."),
			 point_at(reader->source, reader->bad_at)));
}

/* A comment that begins here is a hint where none counts. */
static void
report_misplaced(const char *source, int at, int end, const char *detail, const char *advice)
{
	HintReader	reader = {.source = source,.bad_at = at,.detail = detail,.advice = advice};

	if (source[at] == '/')
		end = skip_comment(source, at, end);
	else
		end = at + strcspn(source + at, "\r\n");
	report(&reader, at, end, true);
}

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

	return looks_hinted(source, begin, end) ? find_boundary(source, location) : -1;
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
	HintPlace	place;

	if (begin < 0)
		return;
	(void) skip_gap(source, begin, end, &place);
	if (place.hint >= 0)
		report_misplaced(source, place.hint, end, detail, advice);
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
	report_misplaced(source, astray, INT_MAX,
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
		report_misplaced(source, odd, end,
						 "A hint is a comment that begins with \"/*\", and tcs follows.", place_advice);
		return true;
	}
	if (looks_hinted(source, word, end))
	{
		HintScan	scan = {.source = source,.begin = word,.end = end,.inner = inner};

		if (run_scanner(&scan, scan_misplaced) && scan.misplaced >= 0)
		{
			report_misplaced(source, scan.misplaced, end,
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
	HintReader	reader = {.source = source, .hint = hint};
	HintPlace	place;
	int			begin;
	int			end;
	int			word;
	int			inner = -1;
	int			last;

	hint->set = 0;
	if (tcs_hints == TCS_HINTS_OFF)
		return false;

	refuse_astray(source, location, len);
	end = end_of_statement(source, location, len);
	location = Max(location, 0);
	begin = begin_of_part(source, location, end);
	if (begin < 0)
		return false;

	word = skip_gap(source, begin, end, &place);
	if (has_query_inside(source + word) && looks_hinted(source, word, end))
	{
		HintScan	scan = {.source = source, .begin = word, .end = end};

		if (run_scanner(&scan, scan_query_inside) && scan.place.hint >= 0)
		{
			inner = scan.place.hint;
			/* with one before the first word as well, both would be lost */
			if (place.hint < 0)
				place = scan.place;
			else if (place.second < 0)
				place.second = inner;
		}
	}
	if (find_misplaced(source, word, end, place.odd, inner))
		return false;
	if (place.hint < 0)
		return false;

	memset(hint, 0, sizeof(*hint));
	reader.at = begin_of_hint(source, place.hint, end);
	last = skip_comment(source, place.hint, end);
	reader.end = last - strlen("*/");
	if (place.second >= 0)
		last = skip_comment(source, place.second, end);
	if (read_items(&reader) &&
		(place.second < 0 ||
		 bad(&reader, place.second, "The statement has another hint.", "Write all items into one hint.")))
		return true;
	hint->set = 0;
	report(&reader, place.hint, last, false);
	return false;
}
