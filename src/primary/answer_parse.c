/*-------------------------------------------------------------------------
 *
 * answer_parse.c
 *	  Reading an answer of a primary off the wire.
 *
 * NOTES
 *	  The format is that of read_index.c.  What comes is not trusted: a field that is
 *	  no number, or out of its range, makes the answer none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <errno.h>

#include "base/settings.h"
#include "primary/read_index.h"

/* Take a number off a text; false if none is there, or one that is too large. */
static bool
take_number(const char **text, int base, uint64 max, uint64 *value)
{
	char	   *end;

	/* what strtoull() would take besides digits */
	if (!isxdigit((unsigned char) **text) ||
		(base == 16 && (*text)[0] == '0' && ((*text)[1] == 'x' || (*text)[1] == 'X')))
		return false;
	errno = 0;
	*value = strtoull(*text, &end, base);
	if (errno != 0 || end == *text || *value > max)
		return false;
	*text = end;
	return true;
}

/* Take a character off a text; false if another one is there. */
static bool
take_char(const char **text, char c)
{
	if (**text != c)
		return false;
	(*text)++;
	return true;
}

/* Take a word off a text, and the blank after it. */
static bool
take_word(const char **text, char *word, int size)
{
	int			len = strcspn(*text, " ");

	if (len == 0 || len >= size || (*text)[len] != ' ')
		return false;
	memcpy(word, *text, len);
	word[len] = '\0';
	*text += len + 1;
	return true;
}

/*
 * Take the timelines off a text, newest first.  Each must have begun before the
 * next one did.
 */
static bool
take_timelines(const char **text, TcsAnswerText *answer)
{
	do
	{
		TcsTimeline *t = &answer->timelines[answer->ntimelines];
		uint64		tli;

		if (!take_number(text, 16, PG_UINT32_MAX, &tli) || !take_char(text, ':') ||
			!take_number(text, 16, PG_UINT64_MAX, &t->begin))
			return false;
		t->tli = (TimeLineID) tli;
		if (answer->ntimelines > 0)
		{
			if (t->tli == 0 || t->tli >= t[-1].tli || t->begin > t[-1].begin)
				return false;
			t->end = t[-1].begin;
		}
		answer->ntimelines++;
	} while (answer->ntimelines < TCS_ANSWER_TIMELINES && take_char(text, ','));

	/* a standby does not say which timeline it is on */
	return answer->standby || answer->timelines[0].tli != 0;
}

/* Take what is said of the quorum, if anything is. */
static void
take_quorum(const char *text, TcsAnswerText *answer)
{
	TcsQuorum	told = {0};
	XLogRecPtr	round;
	uint64		state;
	uint64		config;

	answer->quorum.state = TCS_QUORUM_NOT_TOLD;
	if (!take_char(&text, ' ') ||
		!take_number(&text, 10, PG_INT32_MAX, &state) || !take_char(&text, ':') ||
		!take_number(&text, 16, PG_UINT32_MAX, &config) || !take_char(&text, ':') ||
		!take_number(&text, 16, PG_UINT64_MAX, &told.flushed) || !take_char(&text, ':') ||
		!take_number(&text, 16, PG_UINT64_MAX, &round) || state >= TCS_QUORUM_NOT_TOLD)
		return;
	told.state = (TcsQuorumState) state;
	told.config = (uint32) config;
	answer->quorum = told;
	answer->round = round;
}

/* Take what is said of leases, if anything is; all of it or nothing. */
static void
take_lease(const char *text, TcsAnswerText *answer)
{
	uint64		longest;
	uint64		duration;
	uint64		is_new;

	text = strstr(text, TCS_LEASE_PART);
	if (text == NULL)
		return;
	text += strlen(TCS_LEASE_PART);
	if (!take_number(&text, 16, TCS_LEASE_MAX * 1000, &longest) || !take_char(&text, ':') ||
		!take_number(&text, 16, longest, &duration) || !take_char(&text, ':') ||
		!take_number(&text, 10, 1, &is_new))
		return;
	answer->lease_longest = (int64) longest;
	answer->lease_duration = (int64) duration;
	answer->lease_is_new = is_new != 0;
}

/* Read an answer; false if it is none that this version understands. */
bool
tcs_readindex_parse(const char *text, TcsAnswerText *answer)
{
	char		role[16];
	uint64		version;

	memset(answer, 0, sizeof(*answer));
	if (strnlen(text, TCS_ANSWER_MAXLEN) == TCS_ANSWER_MAXLEN)
		return false;
	for (const char *p = text; *p != '\0'; p++)
	{
		if (*p < ' ' || *p > '~')
			return false;
	}
	if (!take_number(&text, 10, PG_INT32_MAX, &version) || version < 1 ||
		!take_char(&text, ' ') || !take_word(&text, role, sizeof(role)) ||
		!take_number(&text, 16, PG_UINT64_MAX, &answer->system_identifier) ||
		!take_char(&text, ' ') ||
		!take_number(&text, 16, PG_UINT64_MAX, &answer->lsn) ||
		!take_char(&text, ' ') ||
		!take_word(&text, answer->library, sizeof(answer->library)))
		return false;
	answer->standby = strcmp(role, "primary") != 0;
	if (!take_timelines(&text, answer) || !take_char(&text, ' ') ||
		!take_number(&text, 16, PG_UINT64_MAX, &answer->flushed))
		return false;
	take_quorum(text, answer);
	take_lease(text, answer);
	return true;
}
