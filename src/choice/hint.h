/*-------------------------------------------------------------------------
 *
 * hint.h
 *	  Hints: what a statement asks for in a comment of its own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_HINT_H
#define TCS_HINT_H

#include "base/level.h"
#include "token/token.h"
#include "write/write_level.h"

/* What a hint has set. */
#define TCS_HINT_LEVEL			1
#define TCS_HINT_MAX_STALENESS	2
#define TCS_HINT_MAX_WAIT		4
#define TCS_HINT_FALLBACK		8
#define TCS_HINT_TOKEN			16
#define TCS_HINT_WRITE_LEVEL	32

typedef struct TcsHint
{
	uint32		set;			/* TCS_HINT_*; 0: there is none */
	TcsLevel	level;
	int			max_staleness;	/* ms */
	int			max_wait;		/* ms, -1: for ever */
	TcsFallback fallback;
	TcsToken	token;
	TcsWriteLevel write_level;
} TcsHint;

extern bool tcs_hint_look(const char *source, int location);
extern bool tcs_hint_look_inside(const char *source, const char *at,
								 const char *end);
extern int	tcs_hint_astray(const char *source, int location, int len);
extern void tcs_hint_refuse(const char *source, int location, int len,
							const char *detail, const char *advice);
extern void tcs_hint_refuse_all(const char *source, const char *detail,
								const char *advice);
extern bool tcs_hint_find(const char *source, int location, int len,
						  TcsHint *hint);

static inline bool
tcs_hint_is_letter(char c)
{
	return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

/*
 * May there be a hint before the first word of the statement at this place of a
 * message?  True for more than have one, never false for one that has.
 */
static inline bool
tcs_hint_may_lead(const char *source, int location)
{
	if (source == NULL)
		return false;
	if (likely(location <= 0))
	{
		/* a message that begins with a word has none before it */
		if (likely(tcs_hint_is_letter(source[0])))
			return false;
	}
	return tcs_hint_look(source, location);
}

/*
 * Is there a hint beside this statement that belongs to none?  A statement that is
 * its whole message has nothing beside it, nor has one with a semicolon at its end.
 */
static inline bool
tcs_hint_is_astray(const char *source, int location, int len)
{
	return source != NULL && location >= 0 &&
		((unlikely(location > 0) && !tcs_hint_is_letter(source[0])) ||
		 (unlikely(len > 0) && source[location + len] == ';' &&
		  source[location + len + 1] != '\0')) &&
		tcs_hint_astray(source, location, len) >= 0;
}

/* The same anywhere in the statement or beside it, where it may be misplaced. */
static inline bool
tcs_hint_is_possible(const char *source, int location, int len)
{
	const char *begin;
	const char *parenthesis;

	if (source == NULL)
		return false;
	if (tcs_hint_may_lead(source, location) ||
		tcs_hint_is_astray(source, location, len))
		return true;

	/* no hint is without a parenthesis, and many statements have none */
	begin = likely(location <= 0) ? source : source + location;
	/* the action of a rule has no place, and a length from elsewhere */
	if (unlikely(location < 0))
		len = 0;
	parenthesis = len > 0 ? memchr(begin, '(', len) : strchr(begin, '(');
	return unlikely(parenthesis != NULL) &&
		tcs_hint_look_inside(source, parenthesis, len > 0 ? begin + len : NULL);
}

#endif							/* TCS_HINT_H */
