/*-------------------------------------------------------------------------
 *
 * quorum.c
 *	  What a quorum of the cluster has confirmed to its primary.
 *
 * NOTES
 *	  "linearizable" asks for two things that the primary alone cannot know:
 *	  that it still is the primary, and that what a read has seen outlives it.
 *	  Both come from one observation.  Let I be the insert position, read at
 *	  some instant, and let enough synchronous standbys report later that they
 *	  have flushed WAL beyond I.  Then
 *
 *		a quorum has received what this server wrote after that instant: no
 *		other server can have had commits confirmed by a quorum before it,
 *		because two quorums share a member, and that one followed us
 *		afterwards (ReadIndex of Ongaro's Raft, section 6.4, where the
 *		heartbeat is a WAL record);
 *
 *		everything up to I is on a quorum, so anyone who is promoted by taking the
 *		most advanced of any majority has it.
 *
 *	  A record that says nothing (XLOG_NOOP) is written where nobody else
 *	  writes one.  At most one of ours is on its way at a time; it serves all who
 *	  came before it was written.
 *
 *	  The argument needs quorums that share a member.  A cluster of this server
 *	  and n named standbys, of which k have to confirm, gives that if
 *	  2 * (k + 1) > n + 1.  For FIRST k this is asked as well: when standbys are
 *	  gone, any k of the list can be the first ones.  Every server of the cluster
 *	  that may become primary must have such a setting before it does; that is
 *	  the administrator's part, and in the manual.
 *
 *	  Nothing is inferred from the end of a wait in core (it also ends by a
 *	  cancel, and when the setting becomes empty), nor from what core takes for a
 *	  confirmation: positions are looked at, in the shared state of those
 *	  walsenders that count themselves synchronous, and these are looked at more
 *	  closely than core does.
 *
 *	  The highest position that was given out as confirmed is remembered, and
 *	  read indexes are never below it: the commit that a linearizable read of
 *	  another node has returned may not have come back from its own wait here
 *	  (see primary/commits_in_flight.c).  It is lost in a crash of this server; then, until the
 *	  first commit, a read index covers all that is inserted, which is more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xloginsert.h"
#include "catalog/pg_control.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "postmaster/interrupt.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "utils/backend_status.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "base/relax.h"
#include "base/switch.h"
#include "primary/quorum.h"

/* Who has written the record of a round looks so often, in us. */
#define TCS_LOOK_MIN_US		100
#define TCS_LOOK_MAX_US		5000

/* Who waits when settings are read again looks so long whether tcs was switched off. */
#define TCS_RELOAD_US		200000

/* All others are woken, or look so often, should that one have gone. */
#define TCS_FOLLOW_MS		10

/* A synchronous standby that is connected. */
typedef struct Member
{
	int			pid;			/* of its walsender */
	int			priority;		/* place in the list; 1 for all of ANY */
	XLogRecPtr	flushed;
	char		name[NAMEDATALEN];
	bool		is_logical;		/* a subscription, or gone since */
}			Member;

typedef struct TcsQuorumShared
{
	/* highest position given out as confirmed; atomic, never lowered */
	pg_atomic_uint64 confirmed;

	/*
	 * Insert position before the record of the last round that a session of
	 * this server began; 0: none.  Written under the LWLock tcs_quorum, read
	 * without it.
	 */
	pg_atomic_uint64 round;

	/* signalled by the first one who sees a round confirmed */
	ConditionVariable confirmation;
} TcsQuorumShared;

static TcsQuorumShared *shared = NULL;
static LWLock *round_lock = NULL;

Size
tcs_quorum_shmem_size(void)
{
	return sizeof(TcsQuorumShared);
}

void
tcs_quorum_shmem_init(void *ptr, LWLock *lock, bool found)
{
	shared = ptr;
	round_lock = lock;
	if (found)
		return;

	pg_atomic_init_u64(&shared->confirmed, 0);
	pg_atomic_init_u64(&shared->round, 0);
	ConditionVariableInit(&shared->confirmation);
}

/* Is a name the first of its kind in the list? */
static bool
is_first_mention(const char *name, const SyncRepConfigData *config)
{
	const char *earlier = config->member_names;

	for (; earlier < name; earlier += strlen(earlier) + 1)
	{
		if (pg_strcasecmp(earlier, name) == 0)
			return false;
	}
	return true;
}

/* How many standbys does a list name?  -1 if that cannot be told. */
static int
count_names(const SyncRepConfigData *config)
{
	const char *name = config->member_names;
	int			n = 0;

	for (int i = 0; i < config->nmembers; i++, name += strlen(name) + 1)
	{
		if (strcmp(name, "*") == 0)
			return -1;
		if (is_first_mention(name, config))
			n++;
	}
	return n;
}

/* Is a list of synchronous standbys one that the argument above holds for? */
static TcsQuorumState
judge_config(const SyncRepConfigData *config)
{
	int			n;

	if (config == NULL)
		return TCS_QUORUM_NONE;
	n = count_names(config);
	if (n < 0)
		return TCS_QUORUM_ANYBODY;
	return 2 * (config->num_sync + 1) > n + 1 ?
		TCS_QUORUM_USABLE : TCS_QUORUM_SPLIT;
}

/*
 * Copy what the walsenders know of the synchronous standbys.  Returns how many
 * there are.
 *
 * A standby that has just been pointed here asks for the timeline that it is on,
 * which may be an older one; it is sent that up to where ours began, and reports
 * as flushed what it has, which can be more, of another history.  So nobody
 * counts for more than was sent to him: of an older timeline that ends before
 * anything that is asked for here.
 */
static int
collect_members(Member * members)
{
	int			n = 0;

	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd	   *walsnd = &WalSndCtl->walsnds[i];
		Member	   *member = &members[n];
		WalSndState state;

		SpinLockAcquire(&walsnd->mutex);
		member->pid = walsnd->pid;
		member->priority = walsnd->sync_standby_priority;
		member->flushed = Min(walsnd->flush, walsnd->sentPtr);
		state = walsnd->state;
		SpinLockRelease(&walsnd->mutex);

		if (member->pid != 0 && member->priority > 0 &&
			(state == WALSNDSTATE_STREAMING || state == WALSNDSTATE_STOPPING) &&
			member->flushed != InvalidXLogRecPtr)
			n++;
	}
	return n;
}

/* The setting of this server, in numbers; false if it names nobody. */
bool
tcs_quorum_config(TcsQuorumConfig *config)
{
	Member	   *members;

	if (SyncRepConfig == NULL)
		return false;
	config->standbys = count_names(SyncRepConfig);
	config->needed = SyncRepConfig->num_sync;
	config->first = SyncRepConfig->syncrep_method == SYNC_REP_PRIORITY;
	members = palloc(Max(max_wal_senders, 1) * sizeof(Member));
	config->connected = collect_members(members);
	pfree(members);
	return true;
}

/* What can be said of a standby by its connection; fixed while that lasts. */
static void
look_up_member(Member * member)
{
	int			n = pgstat_fetch_stat_numbackends();

	member->name[0] = '\0';
	member->is_logical = true;
	for (int i = 1; i <= n; i++)
	{
		LocalPgBackendStatus *local = tcs_local_beentry_compat(i);

		if (local == NULL || local->backendStatus.st_procpid != member->pid)
			continue;
		strlcpy(member->name, local->backendStatus.st_appname, NAMEDATALEN);
		/* a WAL receiver is connected to no database */
		member->is_logical = OidIsValid(local->backendStatus.st_databaseid);
		return;
	}
}

/*
 * Who is it?  Looked up when somebody has come or gone, as that copies the state of
 * all backends.
 */
static void
identify_members(Member * members, int n)
{
	static Member * known = NULL;
	static int	nknown = 0;
	bool		same = n == nknown;

	for (int i = 0; i < n && same; i++)
		same = members[i].pid == known[i].pid;
	if (!same)
	{
		if (known == NULL)
			known = MemoryContextAlloc(TopMemoryContext, max_wal_senders * sizeof(Member));
		nknown = 0;
		pgstat_clear_backend_activity_snapshot();
		for (int i = 0; i < n; i++)
		{
			known[i].pid = members[i].pid;
			look_up_member(&known[i]);
		}
		pgstat_clear_backend_activity_snapshot();
		nknown = n;
	}
	for (int i = 0; i < n; i++)
	{
		memcpy(members[i].name, known[i].name, NAMEDATALEN);
		members[i].is_logical = known[i].is_logical;
	}
}

/* Leave out who holds no WAL that could be promoted. */
static int
drop_logical(Member * members, int n)
{
	int			kept = 0;

	for (int i = 0; i < n; i++)
	{
		if (!members[i].is_logical)
			members[kept++] = members[i];
	}
	return kept;
}

/* Do two of them have one name, so that nobody knows how many there are? */
static bool
has_namesakes(const Member * members, int n)
{
	for (int i = 0; i < n; i++)
		for (int j = i + 1; j < n; j++)
		{
			if (pg_strcasecmp(members[i].name, members[j].name) == 0)
				return true;
		}
	return false;
}

/* Of FIRST, those first in the list; of ANY, those who have flushed most. */
static int
compare_members(const void *a, const void *b)
{
	const		Member *ma = a;
	const		Member *mb = b;

	if (ma->priority != mb->priority)
		return ma->priority < mb->priority ? -1 : 1;
	return ma->flushed > mb->flushed ? -1 : ma->flushed < mb->flushed;
}

/*
 * Look at the quorum.  Primary only.
 *
 * The positions are read one by one: each was reached when it was read, so all
 * are at the end.
 */
void
tcs_quorum_look(TcsQuorum *quorum)
{
	static Member * members = NULL;
	int			n;

	quorum->flushed = InvalidXLogRecPtr;
	quorum->config = 0;
	quorum->state = judge_config(SyncRepConfig);
	/* a session reads its settings again only between statements */
	if (ConfigReloadPending)
		quorum->state = TCS_QUORUM_RELOADING;
	if (quorum->state != TCS_QUORUM_USABLE)
		return;
	quorum->config = hash_bytes((const unsigned char *) SyncRepStandbyNames,
								strlen(SyncRepStandbyNames));

	if (members == NULL)
		members = MemoryContextAlloc(TopMemoryContext, max_wal_senders * sizeof(Member));
	n = collect_members(members);
	identify_members(members, n);
	n = drop_logical(members, n);
	if (has_namesakes(members, n))
		quorum->state = TCS_QUORUM_NAMESAKES;
	else if (n >= SyncRepConfig->num_sync)
	{
		/* all have one priority where the list says ANY */
		qsort(members, n, sizeof(Member), compare_members);
		quorum->flushed = members[0].flushed;
		for (int i = 1; i < SyncRepConfig->num_sync; i++)
			quorum->flushed = Min(quorum->flushed, members[i].flushed);
	}
}

/* The highest position that was given out as confirmed. */
XLogRecPtr
tcs_quorum_confirmed(void)
{
	return pg_atomic_read_u64(&shared->confirmed);
}

/* A position is about to be given out as confirmed. */
void
tcs_quorum_note_confirmed(XLogRecPtr flushed)
{
	uint64		noted = pg_atomic_read_u64(&shared->confirmed);

	while (noted < flushed &&
		   !pg_atomic_compare_exchange_u64(&shared->confirmed, &noted, flushed))
		;
}

/*
 * Write a record for a quorum to confirm.  Returns a position that was the end
 * of WAL before; the confirmation is that more than this is flushed.
 *
 * It does not count as activity, or an idle server would begin to checkpoint; nor as
 * something that the transaction has written, or its end would be told to standbys as
 * acknowledged, and be waited for there.
 */
XLogRecPtr
tcs_quorum_start_round(void)
{
	XLogRecPtr	before = GetXLogInsertRecPtr();
	XLogRecPtr	last_of_transaction = XactLastRecEnd;
	XLogRecPtr	end;
	char		nothing = 0;

	XLogBeginInsert();
	XLogSetRecordFlags(XLOG_MARK_UNIMPORTANT);
	XLogRegisterData((void *) &nothing, sizeof(nothing));
	end = XLogInsert(RM_XLOG_ID, XLOG_NOOP);
	XactLastRecEnd = last_of_transaction;
	XLogFlush(end);
	return before;
}

/*
 * Begin a round if none is on its way that has not been confirmed up to
 * "flushed".  Returns whether we did.
 */
static bool
start_round_if_none(XLogRecPtr flushed)
{
	bool		started = false;

	if (pg_atomic_read_u64(&shared->round) >= flushed)
		return false;
	LWLockAcquire(round_lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u64(&shared->round) < flushed)
	{
		/* the others need to know the position, not that it is flushed */
		pg_atomic_write_u64(&shared->round, GetXLogInsertRecPtr());
		started = true;
	}
	LWLockRelease(round_lock);

	if (started)
		(void) tcs_quorum_start_round();
	return started;
}

/* Sleep for some us.  A latch knows milliseconds only, which is long here. */
static void
look_again_after(int64 us, uint32 wait_event)
{
	if (us < 1000)
		pg_usleep(us);
	else
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 us / 1000, wait_event);
		ResetLatch(MyLatch);
	}
	CHECK_FOR_INTERRUPTS();
}

/*
 * Wait until a quorum has flushed more than a position of this server.
 *
 * A statement runs with the settings that it began with.  After a reload another
 * quorum may be in force, so the one that it knows is given up.
 *
 * Primary only.  The caller may hold a snapshot and locks: nothing that it holds
 * is in the way of what is waited for.
 */
TcsQuorumResult
tcs_quorum_wait(XLogRecPtr upto, int64 deadline, TcsQuorum *quorum)
{
	static uint32 wait_event = 0;
	int64		pause = TCS_LOOK_MIN_US;
	bool		leading = false;
	int64		reloaded_at = 0;
	int64		started = tcs_now();
	TcsQuorumResult result;

	if (wait_event == 0)
		wait_event = tcs_wait_event_compat("TcsQuorum");

	/* before each look, so that no signal that comes after it is lost */
	ConditionVariablePrepareToSleep(&shared->confirmation);
	for (;;)
	{
		int64		left = deadline - tcs_now();

		tcs_quorum_look(quorum);
		if (quorum->state == TCS_QUORUM_RELOADING)
		{
			/* in a moment we know whether that was to let us go */
			if (reloaded_at == 0)
				reloaded_at = tcs_now();
			result = !tcs_switch_is_on() ? TCS_QUORUM_DISABLED : TCS_QUORUM_REFUSED;
			if (result == TCS_QUORUM_REFUSED &&
				tcs_now() - reloaded_at < Min(left, TCS_RELOAD_US))
			{
				look_again_after(TCS_LOOK_MAX_US, wait_event);
				continue;
			}
		}
		else if (quorum->state != TCS_QUORUM_USABLE)
			result = TCS_QUORUM_REFUSED;
		else if (quorum->flushed > upto)
			result = TCS_QUORUM_CONFIRMED;
		else if (tcs_relax_began_after(started))
			result = TCS_QUORUM_RELAXED;
		else if (left <= 0)
			result = TCS_QUORUM_TIMEOUT;
		else
		{
			if (quorum->flushed != InvalidXLogRecPtr &&
				start_round_if_none(quorum->flushed))
			{
				leading = true;
				pause = TCS_LOOK_MIN_US;
			}
			if (leading)
			{
				look_again_after(Min(pause, left), wait_event);
				pause = Min(pause * 5 / 4, TCS_LOOK_MAX_US);
			}
			else
				(void) ConditionVariableTimedSleep(&shared->confirmation,
												   Min(TCS_FOLLOW_MS, (left + 999) / 1000),
												   wait_event);
			continue;
		}
		break;
	}
	ConditionVariableCancelSleep();
	if (result == TCS_QUORUM_CONFIRMED)
		tcs_quorum_note_confirmed(quorum->flushed);
	if (leading)
		ConditionVariableBroadcast(&shared->confirmation);
	return result;
}

/* What is wrong with the quorum, for an error's detail. */
const char *
tcs_quorum_problem(TcsQuorumState state)
{
	switch (state)
	{
		case TCS_QUORUM_USABLE:
			break;
		case TCS_QUORUM_NONE:
			return "The primary has no synchronous standbys that could confirm that it still is the primary: synchronous_standby_names is empty there.";
		case TCS_QUORUM_ANYBODY:
			return "synchronous_standby_names of the primary contains \"*\", so nobody knows how many standbys a majority is.";
		case TCS_QUORUM_SPLIT:
			return "With synchronous_standby_names of the primary, two halves of the cluster could both confirm a primary of their own.";
		case TCS_QUORUM_NAMESAKES:
			return "Two synchronous standbys of the primary have the same name, so that nobody knows how many there are.";
		case TCS_QUORUM_RELOADING:
			return "The configuration was reloaded while the read waited, and with it perhaps synchronous_standby_names.";
		case TCS_QUORUM_NOT_TOLD:
			return "The primary runs a version of tcs that does not know this level.";
	}
	return "The primary's quorum has confirmed nothing.";
}
