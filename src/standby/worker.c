/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The background worker of a standby: asks the primary, wakes sessions.
 *
 * NOTES
 *	  worker_link.c makes the connection and asks, worker_answer.c judges what comes
 *	  back, worker_conn.c speaks to the primary, worker_sleep.c sleeps.
 *
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
 *	  does.  From 16 on it sleeps on the condition variable that replay broadcasts
 *	  for each record.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
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
#include "base/history.h"
#include "base/settings.h"
#include "base/stats.h"
#include "base/switch.h"
#include "base/version.h"
#include "primary/lease_grant.h"
#include "standby/replay.h"
#include "standby/worker.h"
#include "standby/worker_parts.h"

/* All in us. */
#define TCS_BLOCKED_AFTER		50000	/* replay waits for a session */
#define TCS_NUDGE_AFTER			20000	/* WAL that should be here is not */
#define TCS_NUDGE_MAX			1000000
#define TCS_SUMMARY_INTERVAL	10000000
#define TCS_QUIET_AFTER			60000000	/* no refusal: they are over */
#define TCS_IDLE_SLEEP			500000
#define TCS_WATCH_SLEEP			20000	/* while somebody waits */
#define TCS_POLL_MIN			100 /* between looks at replay, before 16 */
#define TCS_POLL_MAX			10000
#define TCS_POLL_BUSY_MAX		2000	/* while it moves */

TcsWorker	tcs_worker;

static uint32 wait_event_main = 0;

/* Register a worker that runs from when the standby is consistent. */
void
tcs_worker_register_as(const char *name, const char *function)
{
	BackgroundWorker bgw;

	memset(&bgw, 0, sizeof(bgw));
	strlcpy(bgw.bgw_name, name, BGW_MAXLEN);
	strlcpy(bgw.bgw_type, name, BGW_MAXLEN);
	snprintf(bgw.bgw_library_name, BGW_MAXLEN, "tcs");
	strlcpy(bgw.bgw_function_name, function, BGW_MAXLEN);
	bgw.bgw_flags = BGWORKER_SHMEM_ACCESS;
	bgw.bgw_start_time = BgWorkerStart_ConsistentState;
	bgw.bgw_restart_time = 1;
	RegisterBackgroundWorker(&bgw);
}

void
tcs_worker_register(void)
{
	tcs_worker_register_as("tcs worker", "tcs_worker_main");
}

/* Tell sessions that hold something if replay waits for one, and keeps doing so. */
static void
watch_replay(bool holding)
{
	int64		now = tcs_now();

	if (!holding || !tcs_replay_waits_for_session())
	{
		tcs_worker.blocked_since = 0;
		tcs_queue_set_replay_blocked(0);
		return;
	}
	if (tcs_worker.blocked_since == 0)
		tcs_worker.blocked_since = now;
	if (now - tcs_worker.blocked_since >= TCS_BLOCKED_AFTER)
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

	if (here != tcs_worker.nudged_for)
		tcs_worker.nudge_pause = TCS_NUDGE_AFTER;
	tcs_worker.nudged_for = here;
	if (now - tcs_worker.nudged_at < tcs_worker.nudge_pause)
		return;
	/* what a session's token names may be behind what is acknowledged */
	missing = tcs_queue_distance(here) > 0 ||
		(tcs_fresh_newest(&newest) && now - newest.asked_at >= TCS_NUDGE_AFTER &&
		 newest.at.lsn > here);
	if (!missing)
		return;
	tcs_walrcv_reply_compat();
	tcs_worker.nudged_at = now;
	/* more often than not there is no more WAL to be had */
	tcs_worker.nudge_pause = Min(tcs_worker.nudge_pause * 2, TCS_NUDGE_MAX);
}

/* Look at replay: publish what it proves, wake whom it frees. */
static void
tend_replay(const TcsQueueView *view)
{
	TcsPosition at = tcs_fresh_position();
	int64		now = tcs_now();

	if (at.tli != tcs_worker.tli)
	{
		tcs_worker.round.asked_at = 0;
		tcs_worker.told = InvalidXLogRecPtr;
		tcs_fresh_forget(at.tli);
		if (tcs_worker.tli != 0)
			ereport(LOG,
					(errmsg("tcs: this standby has followed the primary to timeline %u",
							at.tli)));
		tcs_worker.tli = at.tli;
	}
	if (at.lsn != tcs_worker.moved_to)
	{
		tcs_worker.moved_to = at.lsn;
		tcs_worker.moved_at = now;
	}
	tcs_queue_wake_reached(at);
	tcs_replay_find_startup();
	watch_replay(view->holding);
	if (view->waiting)
		nudge_walsender(now);

	/* while it looks often, the mirror need not keep up with every look */
	if (!view->waiting || now - tcs_worker.mirror_at >= TCS_WATCH_SLEEP)
	{
		tcs_fresh_publish_mirror();
		tcs_worker.mirror_at = now;
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

	if (now - tcs_worker.summary_at < TCS_SUMMARY_INTERVAL)
		return;
	tcs_stats_get(stats, &reset_time);
	for (int level = 0; level < TCS_LEVEL_COUNT; level++)
	{
		total += stats[level].errors;
		for (int i = 0; i < TCS_LEVEL_COUNT; i++)
			for (int j = 0; j < TCS_REASON_COUNT; j++)
				total += stats[level].downgraded[i][j];
	}
	if (total < tcs_worker.summary_count)
		before = 0;				/* the counters were reset */
	if (total > tcs_worker.summary_count && tcs_worker.summary_at != 0)
	{
		last_at = now;
		if (!refusing)
		{
			refusing = true;
			before = tcs_worker.summary_count;
			ereport(LOG,
					(errmsg("tcs: reads are refused or served below their level"),
					 errhint("See tcs.status and tcs.stat_reads on this standby.")));
		}
	}
	else if (refusing && now - last_at >= TCS_QUIET_AFTER)
	{
		refusing = false;
		ereport(LOG,
				(errmsg("tcs: no read has been refused or served below its level for %d min; " UINT64_FORMAT " were before",
						TCS_QUIET_AFTER / 60000000, total - before)));
	}
	tcs_worker.summary_at = now;
	tcs_worker.summary_count = total;
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
			sleep = Min(sleep, Max(tcs_worker.attempt_at + tcs_worker.backoff, tcs_worker.yield_until) - now);
			break;
		case TCS_CONN_IDLE:
			if (tcs_worker.gathering)
				sleep = Min(sleep, tcs_worker.gather_until - now);
			if (view->confirming)
				sleep = Min(sleep, Max(tcs_worker.round.look_at, tcs_worker.round.hold_until) - now);
			sleep = Min(sleep, tcs_worker.last_asked + tcs_worker_probe_interval() - now);
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
		tcs_worker.wake_up = tcs_sleep(Min(timeout_us, 1000), wait_event_main);
		return;
	}
	ConditionVariablePrepareToSleep(&WalSndCtl->wal_replay_cv);
	tcs_queue_wake_reached(tcs_fresh_position());
	tcs_worker.wake_up = tcs_sleep(timeout_us, wait_event_main);
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
	int64		pause = (tcs_now() - tcs_worker.moved_at) / 200;
	double		rate = tcs_fresh_replay_rate();

	if (rate > 0)
	{
		double		left = tcs_queue_distance(tcs_worker.moved_to) / rate * 1000000;

		pause = Max(pause, (int64) Min(left / 4, TCS_POLL_BUSY_MAX));
	}
	return Max(Min(pause, TCS_POLL_MAX), TCS_POLL_MIN);
}

/* Somebody waits for replay: look again soon. */
static void
sleep_on_replay(int64 timeout_us)
{
	tcs_worker.wake_up = tcs_sleep(Min(pause_of_polling(), timeout_us), wait_event_main);
}

#endif

/* Read the configuration again.  Does the primary have to be connected to again? */
bool
tcs_worker_reload(void)
{
	char	   *conninfo = pstrdup(tcs_primary_conninfo ? tcs_primary_conninfo : "");
	char	   *derived = pstrdup(PrimaryConnInfo ? PrimaryConnInfo : "");
	bool		changed;

	ProcessConfigFile(PGC_SIGHUP);
	changed = strcmp(conninfo, tcs_primary_conninfo) != 0 ||
		strcmp(derived, PrimaryConnInfo ? PrimaryConnInfo : "") != 0;
	pfree(conninfo);
	pfree(derived);
	return changed;
}

static void
reload_configuration(void)
{
	if (tcs_worker_reload())
	{
		tcs_worker_close_connection();
		tcs_worker.backoff = tcs_worker.yield_until = tcs_worker.yield_pause = tcs_worker.unfed_since = 0;
		tcs_worker_set_link(TCS_LINK_CONNECTING, "connecting to the primary");
	}

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
		tcs_worker_tend_connection(&view);
		tend_replay(&view);
		log_refusals();

		timeout_us = time_to_sleep(&view);
		if (tcs_queue_replay_awaited() && timeout_us > 0)
			sleep_on_replay(timeout_us);
		else
			tcs_worker.wake_up = tcs_sleep(timeout_us, wait_event_main);
		/* somebody new: look often again for a while */
		if (tcs_worker.wake_up.latch)
		{
			tcs_worker.moved_at = tcs_now();
			tcs_worker.nudge_pause = TCS_NUDGE_AFTER;
		}
	}

	if (!ShutdownRequestPending)
	{
		tcs_lease_note_promotion();
		ereport(LOG, (errmsg("tcs: this server is no standby any more, worker ends")));
	}

	/* an exit code other than 0 lets the postmaster start us again */
	proc_exit(ShutdownRequestPending ? 1 : 0);
}
