/*-------------------------------------------------------------------------
 *
 * worker_link.c
 *	  The worker's link to the primary: when to connect, when to ask.
 *
 * NOTES
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
 *	  At most one question is on its way; anyone who comes meanwhile is served by
 *	  the next one.  That is what makes one round trip serve many.  Those who
 *	  have just been served are likely to come again: for about the time of a
 *	  round trip the next question waits for as many as there were.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlogrecovery.h"
#include "replication/walreceiver.h"

#include "base/history.h"
#include "base/settings.h"
#include "standby/replay.h"
#include "standby/worker_hosts.h"
#include "standby/worker_parts.h"

/* All in us. */
#define TCS_UNFED_AFTER			5000000 /* no WAL receiver: say so */
#define TCS_STALL_AFTER			1000000 /* without an answer: say so */
#define TCS_YIELD_MIN			30000000	/* leave walsenders to others */
#define TCS_YIELD_MAX			600000000
#define TCS_YIELD_ASK			10000000	/* whether to, at the latest */
#define TCS_HISTORY_LOOK		500000	/* for history files that have come */

/* The primary needs its walsenders for replication: stay away for a while. */
static void
yield_to_replication(void)
{
	int64		now = tcs_now();

	/* it was refused again soon after the last pause: that was too short */
	if (now - tcs_worker.attempt_at < TCS_YIELD_MAX)
		tcs_worker.yield_pause = Min(tcs_worker.yield_pause * 2, TCS_YIELD_MAX);
	else
		tcs_worker.yield_pause = 0;
	tcs_worker.yield_pause = Max(tcs_worker.yield_pause, TCS_YIELD_MIN);
	tcs_worker.yield_until = now + tcs_worker.yield_pause;
}

/* The connection failed or is given up. */
static void
lose_connection(const char *reason)
{
	TcsLinkInfo link;

	if (tcs_conn_gave_way())
		yield_to_replication();
	tcs_fresh_get_link(&link);
	if (link.state == TCS_LINK_STALLED)
		tcs_search_pass_over();
	tcs_worker_close_connection();
	tcs_worker_set_link_to(TCS_LINK_DOWN, reason, tcs_conn_failure() ? tcs_conn_failure() : reason);
	tcs_worker.backoff = Min(Max(tcs_worker.backoff * 2, TCS_BACKOFF_MIN), TCS_BACKOFF_MAX);
}

/*
 * May a connection be made that takes one of the primary's walsenders?
 *
 * Until the WAL receiver streams it is looked for often, as anyone who waits for an
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
		tcs_worker.unfed_since = 0;
		return now < tcs_worker.yield_until;
	}
	/* whatever was refused there, the primary may have more room by then */
	tcs_worker.yield_until = tcs_worker.yield_pause = 0;
	tcs_worker.backoff = TCS_BACKOFF_MIN;
	if (tcs_worker.unfed_since == 0)
		tcs_worker.unfed_since = now;
	if (now - tcs_worker.unfed_since >= TCS_UNFED_AFTER)
		tcs_worker_set_link(TCS_LINK_DOWN,
							"no WAL receiver streams to this standby (see its server log); the primary is asked when one does");
	else
	{
		tcs_fresh_get_link(&link);
		if (link.state == TCS_LINK_NONE)
			tcs_worker_set_link(TCS_LINK_CONNECTING, "waiting for the WAL receiver to stream");
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
	int64		backoff = wanted ? Min(tcs_worker.backoff, TCS_BACKOFF_WANTED) : tcs_worker.backoff;
	TcsLinkInfo link;

	if (now - tcs_worker.attempt_at < backoff)
		return;
	tcs_worker.attempt_at = now;
	if (conninfo == NULL || conninfo[0] == '\0')
	{
		tcs_worker.backoff = TCS_BACKOFF_WANTED;
		tcs_worker_set_link(TCS_LINK_DOWN,
							"neither tcs.primary_conninfo nor primary_conninfo is set");
		return;
	}
	if (!own && replication_comes_first(now))
		return;

	/* keep the reason of the last failure until there is news */
	tcs_fresh_get_link(&link);
	if (link.state == TCS_LINK_NONE)
		tcs_worker_set_link(TCS_LINK_CONNECTING, "connecting to the primary");
	if (!tcs_conn_start(conninfo, !own, reason))
		lose_connection(reason);
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
	tcs_worker.gathering = now < tcs_worker.gather_until;
	enough = tcs_worker.gathering ? tcs_worker.population : 1;
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

	if (!view->confirming || now < tcs_worker.round.hold_until)
		return TCS_ASK_READ_INDEX;
	if (tcs_worker.round.asked_at == 0)
	{
		tcs_fresh_confirmed(&confirmed);
		if (confirmed.best.asked_at < view->confirm_after)
			return TCS_ASK_ROUND;
	}
	return now >= tcs_worker.round.look_at ? TCS_ASK_QUORUM : TCS_ASK_READ_INDEX;
}

/*
 * After what time a question is asked that nobody waits for.  A connection is not
 * held for long without asking whether it is in the way: of others who need a
 * walsender, or of a smart shutdown.
 */
int64
tcs_worker_probe_interval(void)
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

/*
 * A question is about to be sent: how much WAL is here?  The end of what was received
 * comes first: see wal_here_is_known().
 */
void
tcs_worker_note_wal_here(void)
{
	tcs_worker.had.lsn = GetWalRcvFlushRecPtr(NULL, &tcs_worker.had.tli);
	tcs_worker.had_replayed = tcs_fresh_position();
}

/* Ask, if it is time to or somebody waits for it. */
static void
ask_if_due(int64 now, const TcsQueueView *view)
{
	int64		interval = tcs_worker_probe_interval();
	TcsQuestion question = question_for_quorum(now, view);
	char		reason[TCS_REASON_LEN] = "";

	if (question == TCS_ASK_READ_INDEX && !askers_are_ready(now) &&
		!(view->asking && now - tcs_worker.last_asked >= TCS_REPEAT_AFTER) &&
		now - tcs_worker.last_asked < interval)
		return;

	(void) tcs_queue_wake_worker_at(TCS_WAKE_NEVER);
	tcs_worker.asked_for_quorum = question != TCS_ASK_READ_INDEX;
	/* the number first, the clock second: see standby/wait_queue.c */
	tcs_worker.question = tcs_queue_ask();
	tcs_worker_note_wal_here();
	note_timelines(tcs_worker.had.tli);
	tcs_worker.asked_at = tcs_worker.last_asked = tcs_now();
	if (!tcs_conn_ask(question, reason))
		lose_connection(reason);
}

/* Whatever is to be done about the connection. */
void
tcs_worker_tend_connection(const TcsQueueView *view)
{
	TcsAnswerText text;
	char		reason[TCS_REASON_LEN] = "";
	bool		answered;
	int64		now = tcs_now();

	/* the socket is looked at no more often than it has something to say */
	if (tcs_worker.wake_up.socket)
	{
		if (!tcs_conn_advance(&answered, &text, reason))
		{
			lose_connection(reason);
			return;
		}
		if (answered)
			tcs_worker_take_answer(&text);
	}

	switch (tcs_conn_state())
	{
		case TCS_CONN_CLOSED:
			(void) tcs_queue_wake_worker_at(1);
			connect_if_due(now, view->asking || view->confirming);
			break;
		case TCS_CONN_CONNECTING:
			if (!tcs_conn_check_time(reason))
				lose_connection(reason);
			break;
		case TCS_CONN_IDLE:
			ask_if_due(now, view);
			break;
		case TCS_CONN_ASKED:
			if (now - tcs_worker.asked_at > TCS_GIVE_UP_AFTER)
				lose_connection("the primary did not answer within 5 s");
			else if (now - tcs_worker.asked_at > TCS_STALL_AFTER)
				tcs_worker_set_link(TCS_LINK_STALLED, "the primary has not answered for more than 1 s");
			break;
	}
}
