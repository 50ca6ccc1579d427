/*-------------------------------------------------------------------------
 *
 * hint_parts.h
 *	  What the files of hints share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_HINT_PARTS_H
#define TCS_HINT_PARTS_H

#include "choice/hint.h"

/* The place of a hint, and of others in the same gap; -1: none. */
typedef struct TcsHintPlace
{
	int			hint;
	int			second;
	int			odd;			/* a comment of another form that means one */
} TcsHintPlace;

static inline bool
tcs_hint_is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static inline bool
tcs_hint_is_word_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(c >= '0' && c <= '9') || c == '_' || IS_HIGHBIT_SET(c);
}

/* in hint_find.c */
extern int	tcs_hint_begin(const char *source, int at, int end);
extern bool tcs_hint_looks_hinted(const char *source, int at, int end);
extern int	tcs_hint_skip_comment(const char *source, int at, int end);
extern int	tcs_hint_skip_gap(const char *source, int at, int end, TcsHintPlace *place);
extern bool tcs_hint_has_query_inside(const char *word);
extern int	tcs_hint_find_boundary(const char *source, int location);
extern bool tcs_hint_find_inside(const char *source, int word, int end, TcsHintPlace *place);
extern int	tcs_hint_find_behind(const char *source, int word, int end, int inner);

/* in hint_parse.c */
extern bool tcs_hint_read(const char *source, const TcsHintPlace *place, int end,
						  TcsHint *hint);
extern void tcs_hint_report_misplaced(const char *source, int at, int end,
									  const char *detail, const char *advice);

#endif							/* TCS_HINT_PARTS_H */
