/*-------------------------------------------------------------------------
 *
 * replay.c
 *	  The startup process, looked at from outside.
 *
 * NOTES
 *	  Replay can stand still for a reason that waiting does not cure.  A user
 *	  who is told that a standby is behind wants to know it, and a session that
 *	  holds what replay waits for must not wait for replay.
 *
 *	  The worker finds the startup process's PGPROC once, and publishes its
 *	  number.  It stays the same as long as the server runs: if the startup
 *	  process dies, shared memory is set up again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "replication/walreceiver.h"
#include "storage/bufmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/spin.h"
#include "utils/backend_status.h"

#include "base/compat.h"
#include "standby/replay.h"

#define TCS_NO_PROC		PG_UINT32_MAX

/* Number of the startup process's PGPROC; written by the worker. */
static pg_atomic_uint32 *startup_procno = NULL;

Size
tcs_replay_shmem_size(void)
{
	return sizeof(pg_atomic_uint32);
}

void
tcs_replay_shmem_init(void *ptr, LWLock *lock, bool found)
{
	startup_procno = ptr;
	if (!found)
		pg_atomic_init_u32(startup_procno, TCS_NO_PROC);
}

/* Find the startup process, unless that was done.  Worker only. */
void
tcs_replay_find_startup(void)
{
	int			n;

	if (pg_atomic_read_u32(startup_procno) != TCS_NO_PROC)
		return;
	pgstat_clear_backend_activity_snapshot();
	n = pgstat_fetch_stat_numbackends();
	for (int i = 1; i <= n; i++)
	{
		LocalPgBackendStatus *local = tcs_local_beentry_compat(i);
		PGPROC	   *proc;

		if (local == NULL || local->backendStatus.st_backendType != B_STARTUP)
			continue;
		proc = AuxiliaryPidGetProc(local->backendStatus.st_procpid);
		if (proc)
			pg_atomic_write_u32(startup_procno, proc - ProcGlobal->allProcs);
	}
	pgstat_clear_backend_activity_snapshot();
}

/* What the startup process waits for right now; 0: nothing, or not known. */
static uint32
startup_wait_event(void)
{
	uint32		procno = pg_atomic_read_u32(startup_procno);
	volatile PGPROC *proc;

	if (procno == TCS_NO_PROC)
		return 0;
	proc = &ProcGlobal->allProcs[procno];
	return proc->wait_event_info;
}

/* Does replay wait for the snapshot of a session? */
bool
tcs_replay_waits_for_snapshot(void)
{
	uint32		wait_event = startup_wait_event();

	return wait_event == WAIT_EVENT_RECOVERY_CONFLICT_SNAPSHOT ||
		wait_event == WAIT_EVENT_RECOVERY_CONFLICT_TABLESPACE;
}

/* Does it wait for a lock, snapshot or buffer pin of a session? */
bool
tcs_replay_waits_for_session(void)
{
	uint32		wait_event = startup_wait_event();

	return (wait_event & 0xFF000000) == PG_WAIT_LOCK ||
		(wait_event & 0xFF000000) == TCS_WAIT_BUFFER_PIN_CLASS ||
		tcs_replay_waits_for_snapshot();
}

/*
 * Does it wait for a lock or buffer pin of this session?
 *
 * The lock that it waits for is looked at without the lock on its partition.  It
 * may be another by now, or its tag be half of one and half of another.  So who
 * acts on this looks twice.  Snapshots are left out: from here nobody can see
 * for whose snapshot replay waits.
 */
bool
tcs_replay_waits_for_this_session(void)
{
	uint32		procno = pg_atomic_read_u32(startup_procno);
	LOCK	   *lock;
	LOCKTAG		tag;

	if (!tcs_replay_waits_for_session())
		return false;
	if (HoldingBufferPinThatDelaysRecovery())
		return true;
	lock = ((volatile PGPROC *) &ProcGlobal->allProcs[procno])->waitLock;
	if (lock == NULL)
		return false;
	tag = lock->tag;
	return tcs_holds_lock_compat(&tag);
}

/*
 * Has replay stopped where it will never go on?
 *
 * Paused in a recovery that has a target, it is resumed in order to end there,
 * or goes on no further than to there.  Nobody who waits for more is served: at
 * the target this server becomes a primary, with a timeline of its own.
 */
bool
tcs_replay_has_ended(void)
{
	return recoveryTarget != RECOVERY_TARGET_UNSET &&
		recoveryTargetAction == RECOVERY_TARGET_ACTION_PAUSE &&
		GetRecoveryPauseState() != RECOVERY_NOT_PAUSED;
}

/* What keeps replay from going on, as far as that is known. */
TcsReplayState
tcs_replay_state(void)
{
	bool		streams = PrimaryConnInfo && PrimaryConnInfo[0];
	bool		restores = recoveryRestoreCommand && recoveryRestoreCommand[0];

	if (tcs_replay_has_ended())
		return TCS_REPLAY_AT_TARGET;
	if (GetRecoveryPauseState() != RECOVERY_NOT_PAUSED)
		return TCS_REPLAY_PAUSED;
	if (tcs_replay_waits_for_session())
		return TCS_REPLAY_BLOCKED;
	if (recovery_min_apply_delay > 0)
		return TCS_REPLAY_DELAYED;
	if (tcs_replay_receiver_streams())
		return TCS_REPLAY_GOES_ON;
	if (streams)
		return TCS_REPLAY_NOT_STREAMING;
	return restores ? TCS_REPLAY_ARCHIVE_ONLY : TCS_REPLAY_NO_SOURCE;
}

/* For programs: one word. */
const char *
tcs_replay_state_name(TcsReplayState state)
{
	switch (state)
	{
		case TCS_REPLAY_GOES_ON:
			return "replaying";
		case TCS_REPLAY_AT_TARGET:
			return "paused_at_target";
		case TCS_REPLAY_PAUSED:
			return "paused";
		case TCS_REPLAY_BLOCKED:
			return "blocked_by_session";
		case TCS_REPLAY_DELAYED:
			return "delayed";
		case TCS_REPLAY_NOT_STREAMING:
			return "receiver_not_streaming";
		case TCS_REPLAY_ARCHIVE_ONLY:
			return "archive_only";
		case TCS_REPLAY_NO_SOURCE:
			return "no_wal_source";
		case TCS_REPLAY_NOT_ADVANCING:
			return "not_advancing";
	}
	return "unknown";
}

/* For people: a sentence; NULL if nothing is known to stop replay. */
const char *
tcs_replay_state_detail(TcsReplayState state)
{
	switch (state)
	{
		case TCS_REPLAY_GOES_ON:
			break;
		case TCS_REPLAY_AT_TARGET:
			return "Replay is paused at its recovery target, or before it (see recovery_target_action).";
		case TCS_REPLAY_PAUSED:
			return "Replay is paused (by pg_wal_replay_pause(), or for settings that are lower than the primary's).";
		case TCS_REPLAY_BLOCKED:
			return "Replay waits for a lock, snapshot or buffer pin of a session on this standby (see max_standby_streaming_delay).";
		case TCS_REPLAY_DELAYED:
			return "Replay is delayed by recovery_min_apply_delay.";
		case TCS_REPLAY_NOT_STREAMING:
			return "This standby receives no WAL: its WAL receiver is not streaming (see its server log).";
		case TCS_REPLAY_ARCHIVE_ONLY:
			return "This standby gets WAL from an archive alone: primary_conninfo is not set.";
		case TCS_REPLAY_NO_SOURCE:
			return "This standby receives no WAL: neither primary_conninfo nor restore_command is set.";
		case TCS_REPLAY_NOT_ADVANCING:
			return "Replay is not advancing at present.";
	}
	return NULL;
}

/* Why replay does not advance, for people; NULL if nothing is known to stop it. */
const char *
tcs_replay_stall_reason(void)
{
	return tcs_replay_state_detail(tcs_replay_state());
}

/*
 * Does replay stand still with WAL before it?  Then nobody asks for a WAL receiver
 * that has ended, for as long as that lasts.
 */
bool
tcs_replay_is_held(void)
{
	return GetRecoveryPauseState() != RECOVERY_NOT_PAUSED || recovery_min_apply_delay > 0 ||
		tcs_replay_waits_for_session();
}

/*
 * Is the WAL receiver connected to the server that this one streams from?
 *
 * It calls itself streaming from its start on; ready_to_display says that it is
 * connected, so that it holds its walsender there.
 */
bool
tcs_replay_receiver_streams(void)
{
	bool		streams;

	SpinLockAcquire(&WalRcv->mutex);
	streams = WalRcv->pid != 0 && WalRcv->ready_to_display &&
		WalRcv->walRcvState == WALRCV_STREAMING;
	SpinLockRelease(&WalRcv->mutex);
	return streams;
}
