/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The background worker of a standby: asks the primary, wakes sessions.
 *
 * NOTES
 *	  One worker per standby.  It runs from the moment that the standby is
 *	  consistent until promotion, and has no database connection.  Each turn it
 *
 *		takes what the primary has sent, and asks again if that is due;
 *		reads the position of replay, publishes what it proves, and wakes
 *		those sessions whose position is reached;
 *		looks whether replay waits for a session that waits for replay;
 *		sleeps until something of this can have changed.
 *
 *	  Replay does not tell extensions how far it is before PostgreSQL 16, so
 *	  there the worker looks often while somebody waits, less often the longer
 *	  nothing moves or the farther it has to go, and not at all while nobody
 *	  does.  From 16 on it sleeps on
 *	  the condition variable that replay broadcasts for each record.
 *
 *	  tcs yields to replication.  A connection by primary_conninfo holds one of the
 *	  primary's max_wal_senders.  So the worker begins one only while the WAL
 *	  receiver of its own standby has its own; otherwise, after a restart of the
 *	  primary, the worker could come first and the WAL receiver not at all.  And it
 *	  leaves when the primary says that somebody else was refused.  Then it stays
 *	  away for longer than a WAL receiver waits before it tries again, and longer
 *	  each time, as wal_retrieve_retry_interval of other standbys is not known here.
 *	  Meanwhile freshness is unknown.  A connection that has been made stays when
 *	  the WAL receiver ends: the primary says if it needs it.  A connection by
 *	  tcs.primary_conninfo takes nothing from replication, and is always made; a
 *	  standby that gets its WAL from an archive alone has no other.
 *
 *	  At most one question is on its way; whoever comes meanwhile is served by
 *	  the next one.  That is what makes one round trip serve many.  Those who
 *	  have just been served are likely to come again: for about the time of a
 *	  round trip the next question waits for as many as there were.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/walreceiver.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/pmsignal.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "utils/guc.h"

#include "base/compat.h"
#include "base/settings.h"
#include "base/stats.h"
#include "base/switch.h"
#include "base/timeline.h"
#include "base/version.h"
#include "standby/freshness.h"
#include "standby/replay.h"
#include "standby/wait_queue.h"
#include "standby/worker.h"
#include "standby/worker_conn.h"
#include "standby/worker_sleep.h"

/* All in us. */
#define TCS_CONNECT_TIMEOUT		5000000
#define TCS_STALL_AFTER			1000000 /* without an answer: say so */
#define TCS_GIVE_UP_AFTER		5000000 /* without an answer: connect anew */
#define TCS_BACKOFF_MIN			100000
#define TCS_BACKOFF_MAX			60000000
#define TCS_BACKOFF_WANTED		1000000 /* while somebody waits for an answer */
#define TCS_SETTLED_AFTER		10000000	/* a connection is not a flutter */
#define TCS_YIELD_MIN			30000000	/* leave walsenders to others */
#define TCS_YIELD_MAX			600000000
#define TCS_YIELD_ASK			10000000	/* whether to, at the latest */
#define TCS_REPEAT_AFTER		100000	/* a question whose answer was lost */
#define TCS_BLOCKED_AFTER		50000	/* replay waits for a session */
#define TCS_NUDGE_AFTER			20000	/* WAL that should be here is not */
#define TCS_NUDGE_MAX			1000000
#define TCS_SUMMARY_INTERVAL	10000000
#define TCS_HISTORY_LOOK		500000	/* for history files that have come */
#define TCS_QUIET_AFTER			60000000	/* no refusal: they are over */
#define TCS_IDLE_SLEEP			500000
#define TCS_WATCH_SLEEP			20000	/* while somebody waits */
#define TCS_POLL_MIN			100 /* between looks at replay, before 16 */
#define TCS_POLL_MAX			10000
#define TCS_POLL_BUSY_MAX		2000	/* while it moves */
#define TCS_GATHER_MAX			500 /* longest wait for more askers */
#define TCS_QUORUM_LOOK_MIN		100 /* between looks for a confirmation */
#define TCS_QUORUM_LOOK_MAX		2000

static struct
{
	int64		attempt_at;		/* when the connection was last begun */
	int64		backoff;
	int64		yield_until;	/* no connection that takes a walsender */
	int64		yield_pause;
	int64		unfed_since;	/* waits for the WAL receiver; 0: no */
	int64		asked_at;		/* of the question on its way */
	uint64		question;
	TcsPosition had;			/* end of WAL received when it was asked */
	int64		last_asked;		/* of any question */
	int			population;		/* askers served last, and those who came
								 * meanwhile */
	int64		gather_until;	/* wait so long for that many */
	bool		gathering;		/* so decided in this turn */
	TimeLineID	tli;			/* replayed when last looked */
	XLogRecPtr	told;			/* highest end of WAL on it that was told on
								 * this connection */
	int64		blocked_since;	/* 0: replay does not wait for a session */
	int64		moved_at;		/* when replay was last seen to move */
	XLogRecPtr	moved_to;
	int64		summary_at;
	uint64		summary_count;
	int64		mirror_at;

	/* a round of the primary's quorum, asked_at 0: none is on its way */
	struct
	{
		int64		asked_at;	/* when it was asked for */
		TcsPosition behind;		/* confirmed when more than this is flushed */
		uint32		config;		/* under this setting */
		int64		look_at;	/* when to ask what has become of it */
		int64		hold_until; /* nothing is asked before, if answers are of
								 * no use */
		int64		pause;
	}			round;
	bool		asked_for_quorum;	/* by the question on its way */

	int64		nudged_at;		/* when the WAL receiver was last made to
								 * reply */
	int64		nudge_pause;	/* from then to the next time */
	XLogRecPtr	nudged_for;		/* while that is the end of WAL here */
	TcsWakeUp	wake_up;		/* what ended the last sleep */
}			worker;

static uint32 wait_event_main = 0;

void
tcs_worker_register(void)
{
	BackgroundWorker bgw;

	memset(&bgw, 0, sizeof(bgw));
	snprintf(bgw.bgw_name, BGW_MAXLEN, "tcs worker");
	snprintf(bgw.bgw_type, BGW_MAXLEN, "tcs worker");
	snprintf(bgw.bgw_library_name, BGW_MAXLEN, "tcs");
	snprintf(bgw.bgw_function_name, BGW_MAXLEN, "tcs_worker_main");
	bgw.bgw_flags = BGWORKER_SHMEM_ACCESS;
	bgw.bgw_start_time = BgWorkerStart_ConsistentState;
	bgw.bgw_restart_time = 1;
	RegisterBackgroundWorker(&bgw);
}

/*
 * Does a state of the link belong into the log?
 *
 * A reason is logged once until the link has been up for some time.  That it is up
 * is logged only after a reason was.  Otherwise the log could fill: hosts of a list
 * are tried by turns and have a reason each, and a proxy may lead to a server that
 * is of use and to one that is not by turns.
 */
static bool
is_news(TcsLinkState state, const char *reason)
{
	static uint32 told[8];
	static int	ntold = 0;
	static int64 up_since = 0;
	static bool told_up = false;
	uint32		hash = hash_bytes((const unsigned char *) reason, strlen(reason));
	bool		news = !told_up;

	if (state == TCS_LINK_UP)
	{
		up_since = tcs_now();
		told_up = true;
		return news;
	}
	if (up_since != 0 && tcs_now() - up_since >= TCS_SETTLED_AFTER)
		ntold = 0;
	up_since = 0;
	for (int i = 0; i < Min(ntold, lengthof(told)); i++)
	{
		if (told[i] == hash)
			return false;
	}
	told[ntold++ % lengthof(told)] = hash;
	told_up = false;
	return true;
}

/*
 * Publish a state of the link; a change goes to the server log.  "general" is the
 * reason without names of hosts and roles.
 */
static void
set_link_to(TcsLinkState state, const char *reason, const char *general)
{
	if (!tcs_fresh_set_link(state, reason, general) || state == TCS_LINK_CONNECTING ||
		!is_news(state, reason))
		return;
	if (state == TCS_LINK_UP)
		ereport(LOG, (errmsg("tcs: connected to the primary")));
	else
		ereport(LOG,
				(errmsg("tcs: no usable answer from the primary: %s", reason)));
}

/* The same for a reason that everybody may see. */
static void
set_link(TcsLinkState state, const char *reason)
{
	set_link_to(state, reason, reason);
}

/*
 * Close the connection.  Whose question is lost with it is asked for at once by
 * the next one; what a quorum was asked there, no other answer tells.  Nor does
 * what a server has said of its quorum outlive the connection: the next one may
 * be to another server, and this one may have lied.
 */
static void
close_connection(void)
{
	TcsConfirmed nothing = {0};

	worker.last_asked = 0;
	worker.told = InvalidXLogRecPtr;
	memset(&worker.round, 0, sizeof(worker.round));
	tcs_fresh_set_confirmed(&nothing);
	tcs_conn_close();
	(void) tcs_queue_wake_worker_at(1);
}

/* The primary needs its walsenders for replication: stay away for a while. */
static void
yield_to_replication(void)
{
	int64		now = tcs_now();

	/* it was refused again soon after the last pause: that was too short */
	if (now - worker.attempt_at < TCS_YIELD_MAX)
		worker.yield_pause = Min(worker.yield_pause * 2, TCS_YIELD_MAX);
	else
		worker.yield_pause = 0;
	worker.yield_pause = Max(worker.yield_pause, TCS_YIELD_MIN);
	worker.yield_until = now + worker.yield_pause;
}

/* The connection failed or is given up. */
static void
lose_connection(const char *reason)
{
	if (tcs_conn_gave_way())
		yield_to_replication();
	close_connection();
	set_link_to(TCS_LINK_DOWN, reason, tcs_conn_failure() ? tcs_conn_failure() : reason);
	worker.backoff = Min(Max(worker.backoff * 2, TCS_BACKOFF_MIN), TCS_BACKOFF_MAX);
}

/*
 * May a connection be made that takes one of the primary's walsenders?
 *
 * Until the WAL receiver streams it is looked for often, as whoever waits for an
 * answer waits for it.  That it has not come at once is no news.  While replay is
 * held, none is started, so there is nobody to wait for; should the primary have no
 * room for it later, the worker gives way then.
 */
static bool
replication_comes_first(int64 now)
{
	TcsLinkInfo link;

	if (tcs_replay_receiver_streams() || tcs_replay_is_held())
	{
		worker.unfed_since = 0;
		return now < worker.yield_until;
	}
	/* whatever was refused there, the primary may have more room by then */
	worker.yield_until = worker.yield_pause = 0;
	worker.backoff = TCS_BACKOFF_MIN;
	if (worker.unfed_since == 0)
		worker.unfed_since = now;
	if (now - worker.unfed_since >= TCS_CONNECT_TIMEOUT)
		set_link(TCS_LINK_DOWN,
				 "no WAL receiver streams to this standby (see its server log); the primary is asked when one does");
	else
	{
		tcs_fresh_get_link(&link);
		if (link.state == TCS_LINK_NONE)
			set_link(TCS_LINK_CONNECTING, "waiting for the WAL receiver to stream");
	}
	return true;
}

/* Begin to connect, if it is time to. */
static void
connect_if_due(int64 now, bool wanted)
{
	char		reason[TCS_REASON_LEN] = "";
	bool		own = tcs_primary_conninfo && tcs_primary_conninfo[0];
	const char *conninfo = own ? tcs_primary_conninfo : PrimaryConnInfo;
	int64		backoff = wanted ? Min(worker.backoff, TCS_BACKOFF_WANTED) : worker.backoff;
	TcsLinkInfo link;

	if (now - worker.attempt_at < backoff)
		return;
	worker.attempt_at = now;
	if (conninfo == NULL || conninfo[0] == '\0')
	{
		worker.backoff = TCS_BACKOFF_WANTED;
		set_link(TCS_LINK_DOWN,
				 "neither tcs.primary_conninfo nor primary_conninfo is set");
		return;
	}
	if (!own && replication_comes_first(now))
		return;

	/* keep the reason of the last failure until there is news */
	tcs_fresh_get_link(&link);
	if (link.state == TCS_LINK_NONE)
		set_link(TCS_LINK_CONNECTING, "connecting to the primary");
	if (!tcs_conn_start(conninfo, !own, reason))
		lose_connection(reason);
}

/*
 * Does an answer go back: does it show less WAL than the primary must have?
 *
 * That is what had been streamed to us when we asked, and what it has told before;
 * see primary/read_index.c for why it cannot become less.  Only positions of one timeline
 * can be compared, and only of the one that is replayed: there can be another one
 * of the same number until replay has followed to one of them.  So nothing is
 * known here of the timeline of a primary just promoted but where it began, and
 * what a standby has of the former one's WAL does not count.
 *
 * What comes from an archive does not count, as the primary archives a segment an
 * instant before it says that it is flushed.  Nor does the position of replay,
 * which is the end of a whole segment where the primary has switched segments, and
 * may have flushed no more than the record.  A cascading standby passes on either,
 * so what it streams can be ahead for that instant.  Then one answer is refused,
 * and the next one is not.
 *
 * What was told counts only on its own connection.  The next one may be to
 * another server, and one that has lied must not keep out the primary.
 */
static bool
answer_goes_back(const TcsAnswerText *answer, TcsPosition at)
{
	const TcsTimeline *newest = &answer->timelines[0];
	XLogRecPtr	least = newest->begin;

	if (newest->tli == at.tli && at.tli == worker.had.tli)
		least = Max(least, worker.had.lsn);
	if (newest->tli == at.tli && at.tli == worker.tli)
		least = Max(least, worker.told);
	return answer->flushed < least;
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
	if (answer_goes_back(answer, at))
	{
		*reason = "the server asked has less WAL than the primary had before: it is an older copy, or its answer is an old one";
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
		worker.round.asked_at = 0;
		worker.round.hold_until = tcs_now() + TCS_QUORUM_LOOK_MAX;
	}
	else if (told->quorum.state != TCS_QUORUM_USABLE)
	{
		worker.round.asked_at = 0;
		confirmed.problem = told->quorum.state;
		confirmed.problem_at = worker.asked_at;
	}
	else
	{
		if (worker.round.config != told->quorum.config || worker.round.behind.tli != tli)
			worker.round.asked_at = 0;
		if (confirmed.config != told->quorum.config || confirmed.best.at.tli != tli)
		{
			memset(&confirmed, 0, sizeof(confirmed));
			confirmed.config = told->quorum.config;
			confirmed.best.at.tli = tli;
		}
		if (worker.round.asked_at != 0 && flushed > worker.round.behind.lsn)
		{
			confirmed.best.asked_at = worker.round.asked_at;
			worker.round.asked_at = 0;
		}
		if (flushed > confirmed.best.at.lsn)
		{
			confirmed.best.at.lsn = flushed;
			worker.round.pause = TCS_QUORUM_LOOK_MIN;
		}
	}
	if (told->round != InvalidXLogRecPtr)
	{
		worker.round.asked_at = worker.asked_at;
		worker.round.behind.tli = tli;
		worker.round.behind.lsn = told->round;
		worker.round.config = told->quorum.config;
		worker.round.pause = TCS_QUORUM_LOOK_MIN;
	}
	worker.round.pause = Max(worker.round.pause, TCS_QUORUM_LOOK_MIN);
	worker.round.look_at = tcs_now() + worker.round.pause;
	worker.round.pause = Min(worker.round.pause * 5 / 4, TCS_QUORUM_LOOK_MAX);

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
	set_link(TCS_LINK_REFUSED, reason);
	worker.round.hold_until = tcs_now() + TCS_REPEAT_AFTER;
	if (tcs_conn_has_another_host())
		worker.backoff = Min(Max(worker.backoff * 2, TCS_BACKOFF_MIN), TCS_BACKOFF_MAX);
	else if (tcs_now() - worker.attempt_at >= TCS_GIVE_UP_AFTER)
		worker.backoff = 0;
	else
		return;
	close_connection();
}

/* An answer has come. */
static void
take_answer(const TcsAnswerText *text)
{
	TcsPosition at = tcs_fresh_position();
	TcsAnswer	answer;
	const char *reason;
	int64		now;

	if (!answer_is_usable(text, at, &reason))
	{
		refuse_answer(reason);
		return;
	}
	/* a server that answers, and fails, again and again is not worth more */
	worker.backoff = tcs_now() - worker.attempt_at >= TCS_SETTLED_AFTER ? 0 :
		Min(worker.backoff, TCS_BACKOFF_WANTED);
	set_link(TCS_LINK_UP, "");
	answer.asked_at = worker.asked_at;
	answer.at.tli = text->timelines[0].tli;
	answer.at.lsn = text->lsn;
	if (answer.at.tli == at.tli && at.tli == worker.tli)
		worker.told = Max(worker.told, text->flushed);

	tcs_fresh_add_answer(&answer);
	if (worker.asked_for_quorum)
		take_confirmation(text);
	now = tcs_now();
	worker.population = tcs_queue_answer(worker.question, &answer);
	if (worker.population > 0)
		worker.moved_at = now;	/* they wait for replay since now */
	worker.population += tcs_queue_wake_worker_at(TCS_WAKE_NEVER);
	worker.gather_until = worker.population > 1 ?
		now + Min(2 * (now - worker.asked_at), TCS_GATHER_MAX) : 0;
}

/*
 * Is somebody there for whom to ask now?  In any case the next one for whom
 * there is wakes us.
 */
static bool
askers_are_ready(int64 now)
{
	int			enough;

	/* time_to_sleep() must come to the same view, whatever its clock says */
	worker.gathering = now < worker.gather_until;
	enough = worker.gathering ? worker.population : 1;
	return tcs_queue_wake_worker_at(enough) >= enough;
}

/*
 * What is to be asked for the sake of those who wait for a confirmation?  A new
 * round if somebody has come after the last one was asked for, and none is on its
 * way; else, after a pause, what is confirmed.
 */
static TcsQuestion
question_for_quorum(int64 now, const TcsQueueView *view)
{
	TcsConfirmed confirmed;

	if (!view->confirming || now < worker.round.hold_until)
		return TCS_ASK_READ_INDEX;
	if (worker.round.asked_at == 0)
	{
		tcs_fresh_confirmed(&confirmed);
		if (confirmed.best.asked_at < view->confirm_after)
			return TCS_ASK_ROUND;
	}
	return now >= worker.round.look_at ? TCS_ASK_QUORUM : TCS_ASK_READ_INDEX;
}

/*
 * After what time a question is asked that nobody waits for.  A connection is not
 * held for long without asking whether it is in the way: of others who need a
 * walsender, or of a smart shutdown.
 */
static int64
probe_interval(void)
{
	int64		interval = (int64) tcs_probe_interval * 1000;

	return interval == 0 ? TCS_YIELD_ASK : Min(interval, TCS_YIELD_ASK);
}

/*
 * What is streamed may be replayed much later, or never: then the history files that
 * came with it are all that tells.
 */
static void
note_timelines(TimeLineID streamed)
{
	static int64 looked_at = 0;
	int64		now = tcs_now();

	tcs_fresh_note_timeline(streamed);
	if (looked_at != 0 && now - looked_at < TCS_HISTORY_LOOK)
		return;
	looked_at = now;
	tcs_fresh_note_timeline(tcs_history_newest_fetched(tcs_fresh_newest_timeline()));
}

/* Ask, if it is time to or somebody waits for it. */
static void
ask_if_due(int64 now, const TcsQueueView *view)
{
	int64		interval = probe_interval();
	TcsQuestion question = question_for_quorum(now, view);
	char		reason[TCS_REASON_LEN] = "";

	if (question == TCS_ASK_READ_INDEX && !askers_are_ready(now) &&
		!(view->asking && now - worker.last_asked >= TCS_REPEAT_AFTER) &&
		now - worker.last_asked < interval)
		return;

	(void) tcs_queue_wake_worker_at(TCS_WAKE_NEVER);
	worker.asked_for_quorum = question != TCS_ASK_READ_INDEX;
	/* the number first, the clock second: see standby/wait_queue.c */
	worker.question = tcs_queue_ask();
	worker.had.lsn = GetWalRcvFlushRecPtr(NULL, &worker.had.tli);
	note_timelines(worker.had.tli);
	worker.asked_at = worker.last_asked = tcs_now();
	if (!tcs_conn_ask(question, reason))
		lose_connection(reason);
}

/* Whatever is to be done about the connection. */
static void
tend_connection(const TcsQueueView *view)
{
	TcsAnswerText text;
	char		reason[TCS_REASON_LEN] = "";
	bool		answered;
	int64		now = tcs_now();

	/* the socket is looked at no more often than it has something to say */
	if (worker.wake_up.socket)
	{
		if (!tcs_conn_advance(&answered, &text, reason))
		{
			lose_connection(reason);
			return;
		}
		if (answered)
			take_answer(&text);
	}

	switch (tcs_conn_state())
	{
		case TCS_CONN_CLOSED:
			(void) tcs_queue_wake_worker_at(1);
			connect_if_due(now, view->asking || view->confirming);
			break;
		case TCS_CONN_CONNECTING:
			if (now - worker.attempt_at > TCS_CONNECT_TIMEOUT)
				lose_connection("the connection attempt timed out");
			break;
		case TCS_CONN_IDLE:
			ask_if_due(now, view);
			break;
		case TCS_CONN_ASKED:
			if (now - worker.asked_at > TCS_GIVE_UP_AFTER)
				lose_connection("the primary did not answer within 5 s");
			else if (now - worker.asked_at > TCS_STALL_AFTER)
				set_link(TCS_LINK_STALLED, "the primary has not answered for more than 1 s");
			break;
	}
}

/* Tell sessions that hold something if replay waits for one, and keeps doing so. */
static void
watch_replay(bool holding)
{
	int64		now = tcs_now();

	if (!holding || !tcs_replay_waits_for_session())
	{
		worker.blocked_since = 0;
		tcs_queue_set_replay_blocked(0);
		return;
	}
	if (worker.blocked_since == 0)
		worker.blocked_since = now;
	if (now - worker.blocked_since >= TCS_BLOCKED_AFTER)
		tcs_queue_set_replay_blocked(now);
}

/*
 * WAL that the primary has flushed may stay there: a walsender can miss the
 * wake-up for it, and looks again only when the standby's next status message
 * comes (wal_receiver_status_interval).  While somebody waits, the WAL receiver
 * is made to send one.
 */
static void
nudge_walsender(int64 now)
{
	XLogRecPtr	here = GetWalRcvFlushRecPtr(NULL, NULL);
	TcsAnswer	newest;
	bool		missing;

	if (here != worker.nudged_for)
		worker.nudge_pause = TCS_NUDGE_AFTER;
	worker.nudged_for = here;
	if (now - worker.nudged_at < worker.nudge_pause)
		return;
	/* what a session's token names may be behind what is acknowledged */
	missing = tcs_queue_distance(here) > 0 ||
		(tcs_fresh_newest(&newest) && now - newest.asked_at >= TCS_NUDGE_AFTER &&
		 newest.at.lsn > here);
	if (!missing)
		return;
	tcs_walrcv_reply_compat();
	worker.nudged_at = now;
	/* more often than not there is no more WAL to be had */
	worker.nudge_pause = Min(worker.nudge_pause * 2, TCS_NUDGE_MAX);
}

/* Look at replay: publish what it proves, wake whom it frees. */
static void
tend_replay(const TcsQueueView *view)
{
	TcsPosition at = tcs_fresh_position();
	int64		now = tcs_now();

	if (at.tli != worker.tli)
	{
		worker.round.asked_at = 0;
		worker.told = InvalidXLogRecPtr;
		tcs_fresh_forget(at.tli);
		if (worker.tli != 0)
			ereport(LOG,
					(errmsg("tcs: this standby has followed the primary to timeline %u",
							at.tli)));
		worker.tli = at.tli;
	}
	if (at.lsn != worker.moved_to)
	{
		worker.moved_to = at.lsn;
		worker.moved_at = now;
	}
	tcs_queue_wake_reached(at);
	tcs_replay_find_startup();
	watch_replay(view->holding);
	if (view->waiting)
		nudge_walsender(now);

	/* while it looks often, the mirror need not keep up with every look */
	if (!view->waiting || now - worker.mirror_at >= TCS_WATCH_SLEEP)
	{
		tcs_fresh_publish_mirror();
		worker.mirror_at = now;
	}
}

/*
 * Reads are refused or served below their level: a line when that begins, and one
 * when it has not happened for some time.  How often it did is in tcs.stat_reads.
 */
static void
log_refusals(void)
{
	static bool refusing = false;
	static uint64 before;
	static int64 last_at;

	TcsLevelStats stats[TCS_LEVEL_COUNT];
	TimestampTz reset_time;
	uint64		total = 0;
	int64		now = tcs_now();

	if (now - worker.summary_at < TCS_SUMMARY_INTERVAL)
		return;
	tcs_stats_get(stats, &reset_time);
	for (int level = 0; level < TCS_LEVEL_COUNT; level++)
	{
		total += stats[level].errors;
		for (int i = 0; i < TCS_LEVEL_COUNT; i++)
			for (int j = 0; j < TCS_REASON_COUNT; j++)
				total += stats[level].downgraded[i][j];
	}
	if (total < worker.summary_count)
		before = 0;				/* the counters were reset */
	if (total > worker.summary_count && worker.summary_at != 0)
	{
		last_at = now;
		if (!refusing)
		{
			refusing = true;
			before = worker.summary_count;
			ereport(LOG,
					(errmsg("tcs: reads are refused or served below their level"),
					 errhint("See tcs.status() and tcs.stat_reads on this standby.")));
		}
	}
	else if (refusing && now - last_at >= TCS_QUIET_AFTER)
	{
		refusing = false;
		ereport(LOG,
				(errmsg("tcs: no read has been refused or served below its level for %d min; " UINT64_FORMAT " were before",
						TCS_QUIET_AFTER / 60000000, total - before)));
	}
	worker.summary_at = now;
	worker.summary_count = total;
}

/* How long nothing will happen by itself, in us. */
static int64
time_to_sleep(const TcsQueueView *view)
{
	int64		now = tcs_now();
	int64		sleep = view->waiting ? TCS_WATCH_SLEEP : TCS_IDLE_SLEEP;

	switch (tcs_conn_state())
	{
		case TCS_CONN_CLOSED:
			sleep = Min(sleep, Max(worker.attempt_at + worker.backoff, worker.yield_until) - now);
			break;
		case TCS_CONN_IDLE:
			if (worker.gathering)
				sleep = Min(sleep, worker.gather_until - now);
			if (view->confirming)
				sleep = Min(sleep, Max(worker.round.look_at, worker.round.hold_until) - now);
			sleep = Min(sleep, worker.last_asked + probe_interval() - now);
			break;
		case TCS_CONN_CONNECTING:
		case TCS_CONN_ASKED:
			break;
	}
	return Max(sleep, 0);
}

#ifdef TCS_HAVE_REPLAY_CV

/*
 * Somebody waits for replay: be woken by it.  The position is read after we
 * are on the list of the condition variable, so no record is missed.
 */
static void
sleep_on_replay(int64 timeout_us)
{
	if (max_wal_senders <= 0)
	{
		/* replay broadcasts only where cascading is possible */
		worker.wake_up = tcs_sleep(Min(timeout_us, 1000), wait_event_main);
		return;
	}
	ConditionVariablePrepareToSleep(&WalSndCtl->wal_replay_cv);
	tcs_queue_wake_reached(tcs_fresh_position());
	worker.wake_up = tcs_sleep(timeout_us, wait_event_main);
	ConditionVariableCancelSleep();
}

#else

/*
 * How long replay may be left alone while somebody waits for it: a small part
 * of the time that it has not moved and nobody else has come, or of the time
 * that it still needs at its present speed.
 */
static int64
pause_of_polling(void)
{
	int64		pause = (tcs_now() - worker.moved_at) / 200;
	double		rate = tcs_fresh_replay_rate();

	if (rate > 0)
	{
		double		left = tcs_queue_distance(worker.moved_to) / rate * 1000000;

		pause = Max(pause, (int64) Min(left / 4, TCS_POLL_BUSY_MAX));
	}
	return Max(Min(pause, TCS_POLL_MAX), TCS_POLL_MIN);
}

/* Somebody waits for replay: look again soon. */
static void
sleep_on_replay(int64 timeout_us)
{
	worker.wake_up = tcs_sleep(Min(pause_of_polling(), timeout_us), wait_event_main);
}

#endif

static void
reload_configuration(void)
{
	char	   *conninfo = pstrdup(tcs_primary_conninfo ? tcs_primary_conninfo : "");
	char	   *derived = pstrdup(PrimaryConnInfo ? PrimaryConnInfo : "");

	ProcessConfigFile(PGC_SIGHUP);

	if (strcmp(conninfo, tcs_primary_conninfo) != 0 ||
		strcmp(derived, PrimaryConnInfo ? PrimaryConnInfo : "") != 0)
	{
		close_connection();
		worker.backoff = worker.yield_until = worker.yield_pause = worker.unfed_since = 0;
		set_link(TCS_LINK_CONNECTING, "connecting to the primary");
	}
	pfree(conninfo);
	pfree(derived);

	tcs_switch_set(tcs_enabled);
	if (!tcs_enabled)
		tcs_queue_wake_all();
}

static void
worker_exit(int code, Datum arg)
{
	tcs_conn_close();
	tcs_fresh_set_worker(0);
}

void
tcs_worker_main(Datum arg)
{
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	/* a primary has nobody to ask; after promotion there is no way back */
	if (!RecoveryInProgress())
		proc_exit(0);

	wait_event_main = tcs_wait_event_compat("TcsWorkerMain");
	tcs_fresh_forget(0);
	tcs_fresh_note_timeline(tcs_history_aimed_at());
	tcs_fresh_set_worker(MyProcPid);
	tcs_queue_attach_worker();
	tcs_switch_set(tcs_enabled);
	before_shmem_exit(worker_exit, (Datum) 0);
	ereport(LOG, (errmsg("tcs: worker started, version %s", tcs_version_string)));

	while (!ShutdownRequestPending && RecoveryInProgress())
	{
		TcsQueueView view;
		int64		timeout_us;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			reload_configuration();
		}
		tcs_queue_look(&view);
		tend_connection(&view);
		tend_replay(&view);
		log_refusals();

		timeout_us = time_to_sleep(&view);
		if (tcs_queue_replay_awaited() && timeout_us > 0)
			sleep_on_replay(timeout_us);
		else
			worker.wake_up = tcs_sleep(timeout_us, wait_event_main);
		/* somebody new: look often again for a while */
		if (worker.wake_up.latch)
		{
			worker.moved_at = tcs_now();
			worker.nudge_pause = TCS_NUDGE_AFTER;
		}
	}

	if (!ShutdownRequestPending)
		ereport(LOG, (errmsg("tcs: this server is no standby any more, worker ends")));

	/* an exit code other than 0 lets the postmaster start us again */
	proc_exit(ShutdownRequestPending ? 1 : 0);
}
