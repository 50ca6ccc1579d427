/*-------------------------------------------------------------------------
 *
 * hint_parse.c
 *	  To read a hint, and to say what is wrong with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"

#include "base/settings.h"
#include "choice/hint.h"
#include "choice/hint_parts.h"

/* How much of a client's text is repeated in a message, in bytes. */
#define TCS_HINT_SHOWN	64

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

/* Text for a message, cut if it is long. */
static const char *
shortened_text(const char *text, int len)
{
	if (len <= TCS_HINT_SHOWN)
		return pnstrdup(text, len);
	return psprintf("%.*s...", pg_mbcliplen(text, len, TCS_HINT_SHOWN), text);
}

/* Note what is wrong, for which the result is false. */
static bool
note_mistake(HintReader *reader, int at, const char *detail, const char *advice)
{
	reader->bad_at = at;
	reader->detail = detail;
	reader->advice = advice;
	return false;
}

static void
skip_space(HintReader *reader)
{
	while (reader->at < reader->end && tcs_hint_is_space(reader->source[reader->at]))
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

	while (reader->at < reader->end && tcs_hint_is_word_char(reader->source[reader->at]))
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
			(void) note_mistake(reader, reader->at, "A quote is not closed.", NULL);
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
		while (end > begin && tcs_hint_is_space(source[end - 1]))
			end--;
	}
	if (end == begin)
	{
		(void) note_mistake(reader, begin, "A value is empty.", NULL);
		return NULL;
	}
	return pnstrdup(source + begin, end - begin);
}

static bool
set_level(HintReader *reader, int at, const char *name)
{
	if (!tcs_level_by_name(name, &reader->hint->level))
		return note_mistake(reader, at,
							psprintf("Invalid read level: \"%s\".", shortened_text(name, strlen(name))),
							psprintf("Valid levels: %s.",
									 tcs_option_names_hint(tcs_level_options,
														   TCS_LEVEL_BIT(TCS_LEVEL_SNAPSHOT))));
	if (reader->hint->level == TCS_LEVEL_SNAPSHOT)
		return note_mistake(reader, at,
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
		return note_mistake(reader, at,
							psprintf("\"%s\" is not a value for \"%s\".",
									 shortened_text(value, strlen(value)), name),
							units);
	if (*result < least)
		return note_mistake(reader, at,
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
	return note_mistake(reader, at,
						fallback->nsteps >= TCS_MAX_FALLBACK_STEPS - 1 ?
						psprintf("The fallback has more than %d steps.", TCS_MAX_FALLBACK_STEPS - 1) :
						len == 0 ? "A step of the fallback is empty." :
						psprintf("\"%s\" is not a step of a fallback.", shortened_text(step, len)),
						psprintf("Valid steps: redirect, error, %s.", tcs_level_names_hint()));
}

static bool
set_token(HintReader *reader, int at, const char *value)
{
	if (tcs_hints != TCS_HINTS_ALL)
		return note_mistake(reader, at,
							"A token in a hint is accepted only if tcs.hints is \"all\".",
							"Use SET tcs.session_token, or SET tcs.hints = 'all'.");
	if (!tcs_token_parse(value, &reader->hint->token))
		return note_mistake(reader, at,
							"The value of \"session_token\" is not a session token, or it was damaged on its way.",
							"Hand back the text of tcs.session_token or tcs.session_token() unchanged.");
	return true;
}

static bool
set_write_level(HintReader *reader, int at, const char *value)
{
	TcsWriteLevel *level = &reader->hint->write_level;

	if (!tcs_write_level_by_name(value, level) || *level == TCS_WRITE_DEFAULT)
		return note_mistake(reader, at,
							psprintf("\"%s\" is not a write level.", shortened_text(value, strlen(value))),
							psprintf("Valid write levels: %s.", tcs_write_level_names_hint()));
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
		return note_mistake(reader, at, reader->at < reader->end &&
							reader->source[reader->at] != ',' && reader->source[reader->at] != ')' ?
							"An item does not begin with a name." :
							first && !at_char(reader, ',') ? "The hint is empty." : "An item is empty.",
							NULL);
	if (!at_char(reader, '='))
	{
		/* a level, by its place */
		if (!first)
			return note_mistake(reader, at,
								psprintf("\"%s\" has no value, and a level has to be the first item.",
										 shortened_text(name, strlen(name))), NULL);
		reader->hint->set |= TCS_HINT_LEVEL;
		return set_level(reader, at, name);
	}

	for (int i = 0; i < lengthof(items); i++)
	{
		if (pg_strcasecmp(name, items[i].name) == 0)
			flag = items[i].flag;
	}
	if (flag == 0)
		return note_mistake(reader, at,
							psprintf("\"%s\" cannot be set in a hint.", shortened_text(name, strlen(name))), NULL);
	if (reader->hint->set & flag)
		return note_mistake(reader, at, psprintf("\"%s\" is set twice.", name), NULL);
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
		return note_mistake(reader, reader->at, "The closing parenthesis is missing.", NULL);
	if (!at_char(reader, ')'))
		return note_mistake(reader, reader->at, "A comma or the closing parenthesis is missing.", NULL);
	reader->at++;
	skip_space(reader);
	if (reader->at < reader->end)
		return note_mistake(reader, reader->at, "There is something behind the closing parenthesis.", NULL);
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

		while (at < end && (tcs_hint_is_word_char(source[at]) || source[at] == '.' ||
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
report_hint(const HintReader *reader, int begin, int end, bool misplaced)
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
void
tcs_hint_report_misplaced(const char *source, int at, int end, const char *detail, const char *advice)
{
	HintReader	reader = {.source = source,.bad_at = at,.detail = detail,.advice = advice};

	if (source[at] == '/')
		end = tcs_hint_skip_comment(source, at, end);
	else
		end = at + strcspn(source + at, "\r\n");
	report_hint(&reader, at, end, true);
}

/*
 * Read the hint at this place, and complain if it is malformed, or if the statement
 * has a second one.
 */
bool
tcs_hint_read(const char *source, const TcsHintPlace *place, int end, TcsHint *hint)
{
	HintReader	reader = {.source = source,.hint = hint};
	int			last;

	memset(hint, 0, sizeof(*hint));
	reader.at = tcs_hint_begin(source, place->hint, end);
	last = tcs_hint_skip_comment(source, place->hint, end);
	reader.end = last - strlen("*/");
	if (place->second >= 0)
		last = tcs_hint_skip_comment(source, place->second, end);
	if (read_items(&reader) &&
		(place->second < 0 ||
		 note_mistake(&reader, place->second, "The statement has another hint.", "Write all items into one hint.")))
		return true;
	hint->set = 0;
	report_hint(&reader, place->hint, last, false);
	return false;
}
