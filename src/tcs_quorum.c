/*-------------------------------------------------------------------------
 *
 * tcs_quorum.c
 *	  What a quorum of the cluster has confirmed to its primary.
 *
 * NOTES
 *	  "linearizable" asks for two things that the primary alone cannot know:
 *	  that it still is the primary, and that what a read has seen outlives it.
 *	  Both come from one observation.  Let I be the insert position, read at
 *	  some instant, and let enough synchronous standbys report later that they
 *	  have flushed WAL beyond I.  Then
 *
 *		a quorum has received from this server what was written after that
 *		instant: no other server can have had commits confirmed by a quorum
 *		before it, because two quorums share a member, and that one followed
 *		us afterwards (ReadIndex of Ongaro's Raft, section 6.4, where the
 *		heartbeat is a WAL record);
 *
 *		everything up to I is on a quorum, so whoever is promoted by taking the
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
 *	  cancel, and when the setting becomes empty): positions are looked at, in
 *	  the shared state of those walsenders that count themselves synchronous.
 *
 *	  The highest position that was given out as confirmed is remembered, and
 *	  read indexes are never below it: the commit that a linearizable read of
 *	  another node has returned may not have come back from its own wait here
 *	  (see tcs_commits.c).  It is lost in a crash of this server; then, until the
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
#include "replication/syncrep.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#include "tcs_compat.h"
#include "tcs_quorum.h"
#include "tcs_shmem.h"

/* Who has written the record of a round looks so often, in us. */
#define TCS_LOOK_MIN_US		100
#define TCS_LOOK_MAX_US		5000

/* All others are woken, or look so often, should that one have gone. */
#define TCS_FOLLOW_MS		10

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
tcs_quorum_shmem_init(void *ptr, bool found)
{
	shared = ptr;
	round_lock = tcs_shmem_lock("tcs_quorum");
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

/* Is a list of synchronous standbys one that the argument above holds for? */
static TcsQuorumState
judge_config(const SyncRepConfigData *config, int *nnames)
{
	const char *name;
	int			n = 0;

	if (config == NULL || !tcs_sync_standbys_defined_compat())
		return TCS_QUORUM_NONE;
	name = config->member_names;
	for (int i = 0; i < config->nmembers; i++, name += strlen(name) + 1)
	{
		if (strcmp(name, "*") == 0)
			return TCS_QUORUM_ANYBODY;
		if (is_first_mention(name, config))
			n++;
	}
	*nnames = n;
	return 2 * (config->num_sync + 1) > n + 1 ?
		TCS_QUORUM_USABLE : TCS_QUORUM_SPLIT;
}

static int
compare_flushed(const void *a, const void *b)
{
	XLogRecPtr	fa = ((const SyncRepStandbyData *) a)->flush;
	XLogRecPtr	fb = ((const SyncRepStandbyData *) b)->flush;

	/* largest first */
	return fa > fb ? -1 : fa < fb;
}

/*
 * Look at the quorum.  Primary only.
 *
 * The positions are read one by one, which is no harm: each only grows, so what
 * was seen of the last one is true of all at the end.
 */
void
tcs_quorum_look(TcsQuorum *quorum)
{
	SyncRepStandbyData *standbys;
	int			nnames = 0;
	int			n;

	quorum->flushed = InvalidXLogRecPtr;
	quorum->config = 0;
	quorum->state = judge_config(SyncRepConfig, &nnames);
	if (quorum->state != TCS_QUORUM_USABLE)
		return;
	quorum->config = hash_bytes((const unsigned char *) SyncRepConfig,
								SyncRepConfig->config_size);

	n = SyncRepGetCandidateStandbys(&standbys);
	if (n > nnames)
		quorum->state = TCS_QUORUM_NAMESAKES;
	else if (n >= SyncRepConfig->num_sync)
	{
		qsort(standbys, n, sizeof(SyncRepStandbyData), compare_flushed);
		quorum->flushed = standbys[SyncRepConfig->num_sync - 1].flush;
	}
	pfree(standbys);
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
 * It does not count as activity, lest an idle server begin to checkpoint.
 */
XLogRecPtr
tcs_quorum_start_round(void)
{
	XLogRecPtr	before = GetXLogInsertRecPtr();
	XLogRecPtr	end;
	char		nothing = 0;

	XLogBeginInsert();
	XLogSetRecordFlags(XLOG_MARK_UNIMPORTANT);
	XLogRegisterData((void *) &nothing, sizeof(nothing));
	end = XLogInsert(RM_XLOG_ID, XLOG_NOOP);
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

/* Sleep so many us.  A latch knows milliseconds only, which is long here. */
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
 * Primary only.  The caller may hold a snapshot and locks: nothing that it holds
 * is in the way of what is waited for.
 */
TcsQuorumResult
tcs_quorum_wait(XLogRecPtr upto, int64 deadline, TcsQuorum *quorum)
{
	static uint32 wait_event = 0;
	int64		pause = TCS_LOOK_MIN_US;
	bool		leading = false;
	uint32		config;

	if (wait_event == 0)
		wait_event = tcs_wait_event_compat("TcsQuorum");

	tcs_quorum_look(quorum);
	config = quorum->config;
	for (;;)
	{
		int64		left;

		if (quorum->state != TCS_QUORUM_USABLE || quorum->config != config)
			return TCS_QUORUM_REFUSED;
		if (quorum->flushed > upto)
			break;
		left = deadline - tcs_now();
		if (left <= 0)
		{
			ConditionVariableCancelSleep();
			return TCS_QUORUM_TIMEOUT;
		}
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
		{
			ConditionVariablePrepareToSleep(&shared->confirmation);
			(void) ConditionVariableTimedSleep(&shared->confirmation,
											   Min(TCS_FOLLOW_MS, (left + 999) / 1000),
											   wait_event);
		}
		tcs_quorum_look(quorum);
	}
	ConditionVariableCancelSleep();
	tcs_quorum_note_confirmed(quorum->flushed);
	if (leading)
		ConditionVariableBroadcast(&shared->confirmation);
	return TCS_QUORUM_CONFIRMED;
}

/* What is wrong with the quorum, for an error's detail; NULL: nothing. */
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
			return "More synchronous standbys are connected to the primary than synchronous_standby_names has names.";
		case TCS_QUORUM_NOT_TOLD:
			return "The primary runs a version of tcs that does not know this level.";
	}
	return NULL;
}
