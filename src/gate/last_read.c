/*-------------------------------------------------------------------------
 *
 * last_read.c
 *	  The facts of the last read, for tcs.last_read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "base/settings.h"
#include "gate/gate.h"
#include "gate/last_read.h"
#include "gate/read.h"
#include "session/proof.h"

TcsLastRead tcs_last;

/*
 * Why was it not redirected?  It may have been at a later attempt, as when its
 * token was dropped.
 */
static void
note_redirect_failure(const TcsUnmet *facts, TcsLastRead *last)
{
	const char *why = facts->redirect_cause ? facts->redirect_cause : facts->redirect_failure;
	size_t		len;

	if (why == NULL || last->outcome == TCS_OUTCOME_REDIRECTED)
		why = "";
	len = pg_mbcliplen(why, strlen(why), sizeof(last->redirect_failure) - 1);
	memcpy(last->redirect_failure, why, len);
	last->redirect_failure[len] = '\0';
}

/* Keep the facts for tcs.last_read. */
void
tcs_last_read_note(const TcsRead *read, TcsOutcome outcome, TcsLevel served_at)
{
	const TcsUnmet *facts = &read->facts;
	TcsLastRead *last = &tcs_last;

	tcs_client_statement.at_once_level = -1;
	last->outcome = outcome == TCS_OUTCOME_AT_ONCE && facts->by_lease ?
		TCS_OUTCOME_BY_LEASE : outcome;
	last->level = facts->req.level;
	last->served_at = served_at;
	last->by = read->choice.by;
	last->level_source = read->choice.level_source;
	last->rule = read->choice.rule;
	if (read->choice.by == TCS_BY_RELAX)
	{
		last->level = read->choice.asked;
		last->by = read->choice.asked_by;
		last->rule = read->choice.asked_rule;
	}
	last->reason = facts->reason;
	last->on_primary = !facts->in_recovery;
	last->needed = tcs_requirement_position(&facts->req);
	last->proof = facts->proof;
	last->waited_us = facts->waited_us;
	last->at = facts->now;
	strlcpy(last->note, facts->hopeless ? facts->hopeless : "", sizeof(last->note));
	note_redirect_failure(facts, last);
}

/* A read has passed at once at a level that a hint or a rule has chosen. */
void
tcs_last_read_note_at_once(const TcsChoice *choice)
{
	TcsLastRead *last = &tcs_last;

	last->outcome = TCS_OUTCOME_AT_ONCE;
	last->level = last->served_at = choice->level;
	last->by = choice->by;
	last->level_source = choice->level_source;
	last->rule = choice->rule;
	last->reason = TCS_REASON_NONE;
	last->needed.lsn = InvalidXLogRecPtr;
	last->waited_us = 0;
	last->note[0] = '\0';
}

/* The facts of the last read, however it passed. */
void
tcs_last_read_get(TcsLastRead *last)
{
	const TcsClientStatement *client = &tcs_client_statement;

	*last = tcs_last;
	if (client->at_once_level < 0)
		return;
	last->outcome = TCS_OUTCOME_AT_ONCE;
	last->level = (TcsLevel) client->at_once_level;
	last->by = TCS_BY_SETTING;
	last->level_source = tcs_guc_level_source();
	last->reason = TCS_REASON_NONE;
	last->waited_us = 0;
	last->note[0] = last->redirect_failure[0] = '\0';
	last->at = tcs_proven.max_age != 0 ? client->at_once_at : 0;
	if (tcs_proven.max_age == 0 || !client->at_once_proof_kept)
		last->proof = tcs_proven.proof;
}
