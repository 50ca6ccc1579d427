/*-------------------------------------------------------------------------
 *
 * worker_answer.c
 *	  What an answer of the primary is worth to the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"

#include "base/history.h"
#include "primary/lease_grant.h"
#include "standby/replay.h"
#include "standby/worker_hosts.h"
#include "standby/worker_parts.h"

/* All in us. */
#define TCS_GATHER_MAX			500 /* longest wait for more askers */
#define TCS_QUORUM_LOOK_MIN		100 /* between looks for a confirmation */
#define TCS_QUORUM_LOOK_MAX		2000

/*
 * Does an answer show less WAL than the primary must have, and how much is missing?
 *
 * A primary streams only what it has flushed, and archives only what is on its
 * disk.  So it has what was received or replayed here before it was asked, and what
 * it has told before.  See primary/read_index.c for why that cannot become less.
 * The position of replay is needed besides that of the WAL receiver, which is lost
 * with shared memory: a new one begins at the start of a segment.
 *
 * For an instant an honest answer can be below that.  The primary archives a segment
 * just before it says that it is flushed.  Where it switches segments, replay is at
 * the end of the segment when the record has come, though the rest may not be flushed
 * yet.  A cascading standby streams either.  See take_less().
 *
 * Only positions of one timeline can be compared, and only of the one that is
 * replayed: there can be another one of the same number until replay has followed to
 * one of them.  So nothing is known here of the timeline of a primary just promoted
 * but where it began, and what a standby has of the former one's WAL does not count.
 *
 * What was told counts only on its own connection.  The next one may be to
 * another server, and one that has lied must not keep out the primary.
 */
static bool
answer_goes_back(const TcsAnswerText *answer, TcsPosition at, uint64 *missing)
{
	const TcsTimeline *newest = &answer->timelines[0];
	XLogRecPtr	least = newest->begin;

	if (newest->tli == at.tli)
	{
		if (at.tli == tcs_worker.had.tli)
			least = Max(least, tcs_worker.had.lsn);
		if (at.tli == tcs_worker.had_replayed.tli)
			least = Max(least, tcs_worker.had_replayed.lsn);
		if (at.tli == tcs_worker.tli)
			least = Max(least, tcs_worker.told);
	}
	*missing = least - Min(least, answer->flushed);
	return *missing > 0;
}

/*
 * When the question was sent, was it known how much WAL of the replayed timeline is
 * here?
 *
 * A restart forgets what had been received and not replayed.  The startup process
 * asks for a WAL receiver when it has replayed all WAL that it can find.  Before that
 * it may go on to WAL that the server asked does not have, and pass the position of
 * the answer on the way.
 *
 * Without streaming there is nothing that was received.  A delayed standby may not
 * ask for a WAL receiver for hours, so its answers are taken; docs/limits.md says so.
 * At a recovery target replay goes no further.
 */
static bool
wal_here_is_known(void)
{
	return tcs_worker.had.lsn != InvalidXLogRecPtr ||
		PrimaryConnInfo == NULL || PrimaryConnInfo[0] == '\0' ||
		recovery_min_apply_delay > 0 || tcs_replay_has_ended();
}

/*
 * The timeline of an answer's history that is the one replayed; NULL if the server has
 * never been on it.
 */
static const TcsTimeline *
replayed_timeline_of(const TcsAnswerText *answer, const TcsHistory *history)
{
	for (int i = 0; i < answer->ntimelines; i++)
	{
		if (answer->timelines[i].tli == history->tli &&
			answer->timelines[i].begin == history->timelines[0].begin)
			return &answer->timelines[i];
	}
	return NULL;
}

/* Why an answer of an older timeline is not used. */
static const char *
describe_deposed(TimeLineID tli, TimeLineID newest, TimeLineID replayed)
{
	static char text[TCS_REASON_LEN];

	if (newest == replayed)
		return "the server asked is on an older timeline: it was deposed as primary";
	snprintf(text, sizeof(text),
			 "the server asked is on timeline %u, but there is a primary on timeline %u (if that one was given up, restart this standby)",
			 tli, newest);
	return text;
}

/*
 * May an answer be used?
 *
 * Only from a primary of this cluster, on the timeline that is replayed or on
 * one that descends from it beyond what is replayed.  An older timeline is that
 * of a deposed primary, which does not know what its successor acknowledged.
 *
 * Also a primary that this standby cannot follow, as it has replayed more of the
 * timeline that both come from, shows that there is a newer one.
 */
static bool
answer_is_usable(const TcsAnswerText *answer, TcsPosition at, const char **reason)
{
	const TcsHistory *history;
	const TcsTimeline *replayed;

	if (answer->system_identifier != GetSystemIdentifier())
	{
		*reason = "the server asked is of another database cluster";
		return false;
	}
	if (answer->standby)
	{
		*reason = "the server asked is itself a standby; set tcs.primary_conninfo to the primary";
		return false;
	}
	if (answer->timelines[0].tli < tcs_fresh_newest_timeline())
	{
		*reason = describe_deposed(answer->timelines[0].tli, tcs_fresh_newest_timeline(), at.tli);
		return false;
	}
	if (answer->lsn == InvalidXLogRecPtr || answer->lsn < answer->timelines[0].begin ||
		answer->lsn > answer->flushed)
	{
		*reason = "the server asked gives a position that no primary can have";
		return false;
	}
	history = tcs_history_get(at.tli);
	if (!history->known)
	{
		*reason = "the timeline history file of this standby is missing";
		return false;
	}
	replayed = replayed_timeline_of(answer, history);
	if (replayed != NULL)
		tcs_fresh_note_timeline(answer->timelines[0].tli);
	if (replayed == NULL || (replayed->end != InvalidXLogRecPtr && at.lsn > replayed->end))
	{
		*reason = "the timeline of the server asked does not descend from what this standby has replayed";
		return false;
	}
	return true;
}

/*
 * What an answer says of the quorum: has it confirmed the round that is on its
 * way, is a new one begun?
 *
 * What was confirmed under another setting is not mixed with it: a position
 * counts only together with the quorum that has it.
 */
static void
take_confirmation(const TcsAnswerText *told)
{
	TimeLineID	tli = told->timelines[0].tli;
	XLogRecPtr	flushed = told->quorum.flushed;
	TcsConfirmed confirmed;

	tcs_fresh_confirmed(&confirmed);
	if (told->quorum.state == TCS_QUORUM_RELOADING)
	{
		tcs_worker.round.asked_at = 0;
		tcs_worker.round.hold_until = tcs_now() + TCS_QUORUM_LOOK_MAX;
	}
	else if (told->quorum.state != TCS_QUORUM_USABLE)
	{
		tcs_worker.round.asked_at = 0;
		confirmed.problem = told->quorum.state;
		confirmed.problem_at = tcs_worker.asked_at;
	}
	else
	{
		if (tcs_worker.round.config != told->quorum.config || tcs_worker.round.behind.tli != tli)
			tcs_worker.round.asked_at = 0;
		if (confirmed.config != told->quorum.config || confirmed.best.at.tli != tli)
		{
			memset(&confirmed, 0, sizeof(confirmed));
			confirmed.config = told->quorum.config;
			confirmed.best.at.tli = tli;
		}
		if (tcs_worker.round.asked_at != 0 && flushed > tcs_worker.round.behind.lsn)
		{
			confirmed.best.asked_at = tcs_worker.round.asked_at;
			tcs_worker.round.asked_at = 0;
		}
		if (flushed > confirmed.best.at.lsn)
		{
			confirmed.best.at.lsn = flushed;
			tcs_worker.round.pause = TCS_QUORUM_LOOK_MIN;
		}
	}
	if (told->round != InvalidXLogRecPtr)
	{
		tcs_worker.round.asked_at = tcs_worker.asked_at;
		tcs_worker.round.behind.tli = tli;
		tcs_worker.round.behind.lsn = told->round;
		tcs_worker.round.config = told->quorum.config;
		tcs_worker.round.pause = TCS_QUORUM_LOOK_MIN;
	}
	tcs_worker.round.pause = Max(tcs_worker.round.pause, TCS_QUORUM_LOOK_MIN);
	tcs_worker.round.look_at = tcs_now() + tcs_worker.round.pause;
	tcs_worker.round.pause = Min(tcs_worker.round.pause * 5 / 4, TCS_QUORUM_LOOK_MAX);

	tcs_fresh_set_confirmed(&confirmed);
	tcs_queue_wake_confirmed(&confirmed);
}

/*
 * An answer has come that may not be used.
 *
 * A standby may be promoted, so it is asked on.  But the way to the primary may
 * lead elsewhere by now: to another host of a list, where a deposed primary
 * looks like one to libpq, or to where a name or a proxy points today.
 */
static void
refuse_answer(const char *reason)
{
	tcs_worker_set_link(TCS_LINK_REFUSED, reason);
	tcs_worker.round.hold_until = tcs_now() + TCS_REPEAT_AFTER;
	if (tcs_conn_has_another_host())
		tcs_worker.backoff = Min(Max(tcs_worker.backoff * 2, TCS_BACKOFF_MIN), TCS_BACKOFF_MAX);
	else if (tcs_now() - tcs_worker.attempt_at >= TCS_GIVE_UP_AFTER)
		tcs_worker.backoff = 0;
	else
		return;
	tcs_search_pass_over();
	tcs_worker_close_connection();
}

/*
 * An answer has come that shows less WAL than the primary must have.
 *
 * It is not used.  If the primary is about to say that it has more, no more than
 * a segment is missing, and that only for an instant.  So then nobody is told at once.
 */
static void
take_less(uint64 missing)
{
	int64		now = tcs_now();

	if (tcs_worker.less_since == 0)
		tcs_worker.less_since = now;
	if (missing > wal_segment_size || now - tcs_worker.less_since >= TCS_LESS_AFTER)
		refuse_answer("the server asked has less WAL than the primary had before: it is an older copy, or its answer is an old one");
	else
		tcs_worker.round.hold_until = now + TCS_REPEAT_AFTER;
}

/*
 * May an answer be used, for a lease?  If not, why; tcs_worker has what was known when
 * it was asked.
 */
bool
tcs_worker_judge_for_lease(const TcsAnswerText *text, TcsPosition at, const char **reason)
{
	uint64		missing;

	if (!answer_is_usable(text, at, reason))
		return false;
	if (text->timelines[0].tli != at.tli)
		*reason = "the primary is on a timeline that is not replayed yet";
	else if (answer_goes_back(text, at, &missing))
		*reason = "the server asked has less WAL than the primary had before";
	else if (!wal_here_is_known())
		*reason = "this standby still replays the WAL that it had when it started";
	else
	{
		if (at.tli == tcs_worker.tli)
			tcs_worker.told = Max(tcs_worker.told, text->flushed);
		return true;
	}
	return false;
}

/* An answer has come. */
void
tcs_worker_take_answer(const TcsAnswerText *text)
{
	TcsPosition at = tcs_fresh_position();
	TcsAnswer	answer;
	const char *reason;
	uint64		missing;
	int64		now;

	if (!answer_is_usable(text, at, &reason))
	{
		refuse_answer(reason);
		return;
	}
	if (answer_goes_back(text, at, &missing))
	{
		take_less(missing);
		return;
	}
	tcs_worker.less_since = 0;
	if (text->timelines[0].tli == at.tli && !wal_here_is_known())
	{
		tcs_worker_set_link(TCS_LINK_CONNECTING,
							"this standby still replays the WAL that it had when it started");
		tcs_worker.round.hold_until = tcs_now() + TCS_REPEAT_AFTER;
		return;
	}
	/* a server that answers, and fails, again and again is not worth more */
	tcs_worker.backoff = tcs_now() - tcs_worker.attempt_at >= TCS_SETTLED_AFTER ? 0 :
		Min(tcs_worker.backoff, TCS_BACKOFF_WANTED);
	tcs_worker_set_link(TCS_LINK_UP, "");
	answer.asked_at = tcs_worker.asked_at;
	answer.at.tli = text->timelines[0].tli;
	answer.at.lsn = text->lsn;
	if (answer.at.tli == at.tli && at.tli == tcs_worker.tli)
		tcs_worker.told = Max(tcs_worker.told, text->flushed);

	tcs_fresh_add_answer(&answer);
	tcs_lease_note_longest(text->lease_longest, tcs_worker.asked_at);
	if (tcs_worker.asked_for_quorum)
		take_confirmation(text);
	now = tcs_now();
	tcs_worker.population = tcs_queue_answer(tcs_worker.question, &answer);
	if (tcs_worker.population > 0)
		tcs_worker.moved_at = now;	/* they wait for replay since now */
	tcs_worker.population += tcs_queue_wake_worker_at(TCS_WAKE_NEVER);
	tcs_worker.gather_until = tcs_worker.population > 1 ?
		now + Min(2 * (now - tcs_worker.asked_at), TCS_GATHER_MAX) : 0;
}
