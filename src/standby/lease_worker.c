/*-------------------------------------------------------------------------
 *
 * lease_worker.c
 *	  The background worker that holds a standby's read lease.
 *
 * NOTES
 *	  A process of its own, as its question stays with the primary until there is
 *	  something to tell (see primary/lease_grant.c), while the other worker is asked for
 *	  answers at any time.  It connects as that one does, and what it must know of an
 *	  answer to use it is judged in the same place (worker_answer.c).
 *
 *	  One turn: note the time, ask, wait for the answer, wait until replay has come to
 *	  the position that it tells, use the lease, ask again.  The question says that the
 *	  position is here.  The lease counts from before the question was sent.
 *
 *	  Replay that is late holds up commits on the primary.  After tcs.lease_max_lag the
 *	  lease is given back: first ended here, then dropped there.  The next one is
 *	  asked for after a pause, which grows if that happens again soon.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"

#include "base/compat.h"
#include "base/settings.h"
#include "primary/lease_grant.h"
#include "standby/lease_held.h"
#include "standby/lease_worker.h"
#include "standby/replay.h"
#include "standby/worker_hosts.h"
#include "standby/worker_parts.h"

/* All in us. */
#define TCS_LEASE_RETRY			1000000 /* nothing was granted */
#define TCS_LEASE_YIELD			30000000	/* walsenders are needed for
											 * others */
#define TCS_LEASE_IDLE			10000000
#define TCS_LEASE_POLL			200 /* between looks at replay, before 16 */
#define TCS_LEASE_SETTLED		60000000	/* then the pause is short again */

/* What the worker knows, in its own memory. */
static struct
{
	int64		attempt_at;		/* when the connection was last begun */
	int64		backoff;
	int64		hold_until;		/* nothing is asked before */
	int64		lag_pause;		/* after a lease was given back */
	int64		asked_at;		/* of the question on its way */
	bool		asked_to_drop;	/* by it */
	bool		leaves;			/* the connection, when it has dropped its
								 * lease */
	bool		has_told;		/* all that was told last is replayed */
	bool		pending;		/* an answer waits for replay: */
	XLogRecPtr	due;			/* up to here */
	int64		due_since;
	int64		until;			/* then the lease is valid until here */
	bool		is_new;
	TcsWakeUp	wake_up;		/* what ended the last sleep */
}			lease;

static uint32 wait_event_main = 0;

void
tcs_lease_worker_register(void)
{
	tcs_worker_register_as("tcs lease worker", "tcs_lease_worker_main");
}

static bool
is_wanted(void)
{
	return tcs_enabled && tcs_lease != TCS_LEASE_OFF;
}

/* End the lease, if there is one; a change goes to the server log. */
static void
end_lease(TcsHeldState why, const char *detail)
{
	TcsHeldInfo before;

	tcs_held_get(&before);
	tcs_held_end(why);
	if (before.state != why && (before.state == TCS_HELD_HOLDS || why == TCS_HELD_NOT_GRANTED))
		ereport(LOG,
				(errmsg("tcs: this standby holds no read lease: %s", detail)));
}

/*
 * Close the connection.  A lease that is held stays valid until its end: the primary
 * waits for it.
 */
static void
leave_connection(void)
{
	tcs_conn_close();
	tcs_worker.told = InvalidXLogRecPtr;
	lease.pending = lease.has_told = lease.asked_to_drop = lease.leaves = false;
}

static void
lose_connection(const char *reason)
{
	bool		gave_way = tcs_conn_gave_way();

	leave_connection();
	lease.backoff = gave_way ? TCS_LEASE_YIELD :
		Min(Max(lease.backoff * 2, TCS_BACKOFF_MIN), TCS_BACKOFF_MAX);
	ereport(DEBUG1, (errmsg_internal("tcs: connection for read leases: %s", reason)));
}

/* Begin to connect, if it is time to.  Replication comes first; see worker_link.c. */
static void
connect_if_due(int64 now)
{
	bool		own = tcs_primary_conninfo && tcs_primary_conninfo[0];
	const char *conninfo = own ? tcs_primary_conninfo : PrimaryConnInfo;
	char		reason[TCS_REASON_LEN] = "";

	if (now - lease.attempt_at < lease.backoff || conninfo == NULL || conninfo[0] == '\0' ||
		(!own && !tcs_replay_receiver_streams()))
		return;
	lease.attempt_at = now;
	if (!tcs_conn_start(conninfo, !own, reason))
		lose_connection(reason);
}

static void
ask(TcsQuestion question)
{
	char		reason[TCS_REASON_LEN] = "";

	tcs_worker_note_wal_here();
	lease.asked_to_drop = question == TCS_ASK_LEASE_DROP;
	/* the clock first, the question second */
	lease.asked_at = tcs_now();
	if (!tcs_conn_ask(question, reason))
		lose_connection(reason);
}

/* An answer has come. */
static void
take_answer(const TcsAnswerText *text)
{
	TcsPosition at = tcs_fresh_position();
	const char *reason = "";
	int64		now = tcs_now();

	lease.has_told = false;
	if (lease.asked_to_drop)
	{
		lease.asked_to_drop = false;
		if (lease.leaves)
			lose_connection("its answer was of no use");
		return;
	}
	if (!tcs_worker_judge_for_lease(text, at, &reason))
	{
		end_lease(TCS_HELD_CONNECTING, reason);
		/* it may have granted one, which is given back first */
		lease.leaves = true;
		return;
	}
	lease.backoff = 0;
	if (text->lease_duration == 0)
	{
		end_lease(TCS_HELD_NOT_GRANTED, "the primary grants none");
		lease.hold_until = now + TCS_LEASE_RETRY;
		return;
	}
	lease.pending = true;
	lease.due = text->lsn;
	lease.due_since = now;
	lease.until = lease.asked_at + text->lease_duration / 8 * 7;
	lease.is_new = text->lease_is_new;
}

/* Replay is late: give the lease back, here first and then there. */
static void
give_back(int64 now)
{
	end_lease(TCS_HELD_LAGGING, "replay is late, so it was given back");
	if (now - lease.attempt_at > TCS_LEASE_SETTLED && lease.hold_until + TCS_LEASE_SETTLED < now)
		lease.lag_pause = 0;
	lease.lag_pause = Min(Max(lease.lag_pause * 2, TCS_LEASE_RETRY), TCS_BACKOFF_MAX);
	lease.hold_until = now + lease.lag_pause;
	lease.pending = false;
	ask(TCS_ASK_LEASE_DROP);
}

/* Is what the answer told replayed?  Then the lease counts. */
static void
use_if_replayed(int64 now)
{
	TcsHeldInfo before;

	if (tcs_fresh_position().lsn < lease.due)
	{
		if (now - lease.due_since >= (int64) tcs_lease_max_lag * 1000)
			give_back(now);
		return;
	}
	tcs_held_get(&before);
	if (lease.is_new)
		tcs_held_begin(lease.until);
	else
		tcs_held_extend(lease.until);
	if (before.state != TCS_HELD_HOLDS)
		ereport(LOG, (errmsg("tcs: this standby holds a read lease")));
	lease.pending = false;
	lease.has_told = true;
}

/* Replay is on another timeline now: what the former primary granted is not renewed. */
static void
look_at_timeline(void)
{
	TimeLineID	tli = tcs_fresh_position().tli;

	if (tli == tcs_worker.tli)
		return;
	if (tcs_worker.tli != 0)
	{
		end_lease(TCS_HELD_CONNECTING, "replay has followed to another timeline");
		leave_connection();
	}
	tcs_worker.tli = tli;
}

/* Nobody wants the lease any more. */
static void
stop_holding(void)
{
	end_lease(TCS_HELD_OFF, "\"tcs.lease\" or \"tcs.enabled\" is off");
	if (tcs_conn_state() == TCS_CONN_IDLE && !lease.asked_to_drop)
		ask(TCS_ASK_LEASE_DROP);
	else if (tcs_conn_state() != TCS_CONN_ASKED || !lease.asked_to_drop)
		leave_connection();
}

static void
tend_connection(void)
{
	TcsAnswerText text;
	char		reason[TCS_REASON_LEN] = "";
	bool		answered;
	int64		now = tcs_now();

	if (lease.wake_up.socket)
	{
		if (!tcs_conn_advance(&answered, &text, reason))
			lose_connection(reason);
		else if (answered && is_wanted())
			take_answer(&text);
		else if (answered)
			leave_connection();
	}
	look_at_timeline();
	if (!is_wanted())
	{
		stop_holding();
		return;
	}
	switch (tcs_conn_state())
	{
		case TCS_CONN_CLOSED:
			connect_if_due(now);
			break;
		case TCS_CONN_CONNECTING:
			if (!tcs_conn_check_time(reason))
				lose_connection(reason);
			break;
		case TCS_CONN_IDLE:
			if (lease.leaves)
				ask(TCS_ASK_LEASE_DROP);
			else if (lease.pending)
				use_if_replayed(tcs_now());
			if (tcs_conn_state() == TCS_CONN_IDLE && !lease.pending && now >= lease.hold_until)
				ask(lease.has_told ? TCS_ASK_LEASE_NEXT : TCS_ASK_LEASE_FIRST);
			break;
		case TCS_CONN_ASKED:
			if (now - lease.asked_at > TCS_GIVE_UP_AFTER)
				lose_connection("the primary did not answer within 5 s");
			break;
	}
}

/* How long nothing will happen by itself, in us. */
static int64
time_to_sleep(void)
{
	int64		now = tcs_now();
	int64		sleep = TCS_LEASE_IDLE;

	if (!is_wanted())
		return sleep;
	switch (tcs_conn_state())
	{
		case TCS_CONN_CLOSED:
			sleep = Min(Max(lease.attempt_at + lease.backoff - now, 100000), TCS_LEASE_RETRY);
			break;
		case TCS_CONN_CONNECTING:
			sleep = 100000;
			break;
		case TCS_CONN_IDLE:
			sleep = lease.pending ?
				lease.due_since + (int64) tcs_lease_max_lag * 1000 - now :
				lease.hold_until - now;
			break;
		case TCS_CONN_ASKED:
			sleep = lease.asked_at + TCS_GIVE_UP_AFTER - now;
			break;
	}
	return Min(Max(sleep, 0), TCS_LEASE_IDLE);
}

/* Sleep; while an answer waits for replay, no longer than that. */
static void
sleep_until_due(int64 timeout_us)
{
	bool		awaits_replay = lease.pending && tcs_conn_state() == TCS_CONN_IDLE;

	if (!awaits_replay)
	{
		lease.wake_up = tcs_sleep(timeout_us, wait_event_main);
		return;
	}
#ifdef TCS_HAVE_REPLAY_CV
	if (max_wal_senders > 0)
	{
		/* on the list first, then a look at the position */
		ConditionVariablePrepareToSleep(&WalSndCtl->wal_replay_cv);
		if (tcs_fresh_position().lsn < lease.due)
			lease.wake_up = tcs_sleep(timeout_us, wait_event_main);
		ConditionVariableCancelSleep();
		return;
	}
#endif
	lease.wake_up = tcs_sleep(Min(timeout_us, TCS_LEASE_POLL), wait_event_main);
}

static void
reload_configuration(void)
{
	lease.backoff = 0;
	if (tcs_worker_reload())
		leave_connection();
}

static void
worker_exit(int code, Datum arg)
{
	tcs_conn_close();
	tcs_held_end(TCS_HELD_OFF);
	tcs_held_set_worker(0);
}

void
tcs_lease_worker_main(Datum arg)
{
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	/* a primary grants leases, and holds none */
	if (!RecoveryInProgress())
		proc_exit(0);

	wait_event_main = tcs_wait_event_compat("TcsLeaseWorkerMain");
	tcs_held_set_worker(MyProcPid);
	before_shmem_exit(worker_exit, (Datum) 0);
	while (!ShutdownRequestPending && RecoveryInProgress())
	{
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			reload_configuration();
		}
		tend_connection();
		sleep_until_due(time_to_sleep());
	}
	proc_exit(ShutdownRequestPending ? 1 : 0);
}
