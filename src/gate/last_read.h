/*-------------------------------------------------------------------------
 *
 * last_read.h
 *	  The facts of the last read, for tcs.last_read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_LAST_READ_H
#define TCS_LAST_READ_H

#include "choice/choice.h"

/* What became of the last statement that came to the gate. */
typedef enum TcsOutcome
{
	TCS_OUTCOME_NONE,
	TCS_OUTCOME_AT_ONCE,
	TCS_OUTCOME_BY_LEASE,		/* the same, proved by a read lease */
	TCS_OUTCOME_WAITED,
	TCS_OUTCOME_REDIRECTED,
	TCS_OUTCOME_DOWNGRADED,
	TCS_OUTCOME_ERROR
} TcsOutcome;

typedef struct TcsLastRead
{
	TcsOutcome	outcome;
	TcsLevel	level;
	TcsLevel	served_at;
	TcsChoiceBy by;				/* who chose the level; for SETTING: */
	GucSource	level_source;
	int			rule;			/* for RULE and FLOOR */
	TcsReason	reason;
	bool		on_primary;
	TcsPosition needed;			/* lsn 0: none */
	TcsProof	proof;
	int64		waited_us;
	int64		at;				/* when; 0: the clock was not looked at */
	char		note[128];		/* for a person: why it was not waited for */
	char		redirect_failure[160];	/* and why it was not redirected */
} TcsLastRead;

struct TcsRead;

extern TCS_LOCAL TcsLastRead tcs_last;

extern void tcs_last_read_note(const struct TcsRead *read, TcsOutcome outcome,
							   TcsLevel served_at);
extern void tcs_last_read_note_at_once(const TcsChoice *choice);
extern void tcs_last_read_get(TcsLastRead *last);

#endif							/* TCS_LAST_READ_H */
