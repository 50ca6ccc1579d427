/*-------------------------------------------------------------------------
 *
 * freshness.c
 *	  What this standby knows of its own freshness.
 *
 * NOTES
 *	  The worker asks the primary for its read index.  Asked at local time t0,
 *	  the answer is a position that covers every commit acknowledged before
 *	  t0.  A standby that has replayed that position is therefore at most
 *	  (now - t0) stale.  One clock, so skew cannot make this lie; silence of
 *	  the primary makes it grow, as it must.
 *
 *	  Answers wait in a ring, oldest first, until they are replayed.  Only the
 *	  newest replayed one says anything, so older ones are dropped.  While
 *	  replay lags so far that the ring fills up, every second answer goes:
 *	  precision is lost, correctness is not, since each answer is true by itself.
 *
 *	  An answer counts only while the standby replays the timeline of the
 *	  answer.  On an older one the position has not been come to, whatever its
 *	  number; on a newer one the answer is from a deposed primary, which does
 *	  not know what its successor has acknowledged.  The same goes for a timeline
 *	  that is older than one known of, which replay has not come to, or never can,
 *	  as this standby still follows the deposed primary.
 *
 *	  A primary that has given no usable answer for some time counts as gone, and
 *	  then reads need not wait for its answer one by one (tcs.max_wait_unknown).
 *	  That time is as long as an attempt to connect may take, and as a WAL receiver
 *	  waits by default before its next attempt.  What is over sooner may be a
 *	  restart or a switchover, where waiting helps.  The state alone does not tell:
 *	  it is "down" after the first failure.  One read at a time, every few seconds,
 *	  waits as ever: while somebody waits the worker tries again every second,
 *	  and else ever more rarely.
 *
 *	  The mirror is what the worker last proved, in a form that a read costs a
 *	  few loads: a sequence number, odd while the worker writes, and three
 *	  words.  It may be late, which makes it a lower bound, never wrong.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlogrecovery.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/spin.h"
#include "utils/acl.h"

#include "standby/freshness.h"

#define TCS_RING_SIZE		512

/* Answers closer together than this are merged, in us. */
#define TCS_RING_SPACING	5000

/* Without an answer for so long, the primary is gone, in us. */
#define TCS_GONE_AFTER		5000000

/* From one read that waits nevertheless to the next, in us. */
#define TCS_PROBE_PAUSE		5000000
#define TCS_PROBE_MAX		60000000

/* Time over which the replay rate is taken, in us. */
#define TCS_RATE_WINDOW		1000000

typedef struct TcsFresh
{
	/*
	 * Protected by the LWLock tcs_fresh: the worker writes under exclusive
	 * lock, everybody reads under shared lock.
	 */
	TimeLineID	tli;			/* that the worker has seen replay on; 0: none */
	int			nanswers;
	TcsAnswer	answers[TCS_RING_SIZE]; /* by asked_at, oldest first */
	bool		have_newest;
	TcsAnswer	newest;			/* may be missing in the ring (spacing) */
	TcsConfirmed confirmed;

	/*
	 * The mirror.  Written by the worker alone, between two increments of
	 * mirror_seq; see tcs_fresh_publish_mirror() and tcs_fresh_read_mirror().
	 */
	pg_atomic_uint32 mirror_seq;
	TcsProof	mirror;

	/* bytes per second; written by the worker, read as a hint */
	pg_atomic_uint64 replay_rate;

	/* when a read may wait although the primary is gone; atomic */
	pg_atomic_uint64 probe_after;

	/*
	 * The newest timeline of this cluster that is known here, though it may
	 * not be replayed yet.  Atomic; only raised, by compare and exchange.
	 */
	pg_atomic_uint32 newest_timeline;

	/* protected by the spinlock */
	slock_t		mutex;
	TcsLinkInfo link;
} TcsFresh;

static TcsFresh *fresh = NULL;
static LWLock *fresh_lock = NULL;

Size
tcs_fresh_shmem_size(void)
{
	return sizeof(TcsFresh);
}

void
tcs_fresh_shmem_init(void *ptr, LWLock *lock, bool found)
{
	fresh = ptr;
	fresh_lock = lock;
	if (found)
		return;

	memset(fresh, 0, sizeof(TcsFresh));
	pg_atomic_init_u32(&fresh->mirror_seq, 0);
	pg_atomic_init_u64(&fresh->replay_rate, 0);
	pg_atomic_init_u64(&fresh->probe_after, 0);
	pg_atomic_init_u32(&fresh->newest_timeline, 0);
	SpinLockInit(&fresh->mutex);
	fresh->link.lost_at = tcs_now();	/* until there is a worker */
}

/*
 * Where replay stands: a lower bound of what a snapshot taken from now on
 * includes.  Position and timeline are read together, under core's spinlock.
 */
TcsPosition
tcs_fresh_position(void)
{
	TcsPosition position;

	position.lsn = GetXLogReplayRecPtr(&position.tli);
	return position;
}

/*
 * The newest timeline that is known here: replayed, told of by a primary, streamed,
 * aimed at by recovery, or fetched as a history file.  A server on an older one was deposed as primary.
 */
TimeLineID
tcs_fresh_newest_timeline(void)
{
	return Max(tcs_fresh_position().tli, pg_atomic_read_u32(&fresh->newest_timeline));
}

/*
 * There is such a timeline.  Worker and lease worker only.
 *
 * It is not forgotten before this server restarts: that no primary of it answers any
 * more says nothing about what it has acknowledged.
 */
void
tcs_fresh_note_timeline(TimeLineID tli)
{
	uint32		known = pg_atomic_read_u32(&fresh->newest_timeline);

	while (tli > known &&
		   !pg_atomic_compare_exchange_u32(&fresh->newest_timeline, &known, tli))
		;
}

/* The instant that an answer proves, if replay has come to it; else 0. */
static inline int64
answer_proves(const TcsAnswer *answer, TcsPosition at)
{
	if (answer->at.tli == at.tli && answer->at.lsn <= at.lsn)
		return answer->asked_at;
	return 0;
}

/*
 * Prove as much as can be proved of any snapshot taken after this call.
 *
 * "own" is an answer that the caller holds and the ring may have lost, or
 * NULL.
 */
void
tcs_fresh_prove(const TcsAnswer *own, TcsProof *proof)
{
	proof->at = tcs_fresh_position();
	proof->fresh_at = own ? answer_proves(own, proof->at) : 0;

	LWLockAcquire(fresh_lock, LW_SHARED);
	if (proof->at.tli != fresh->tli)
	{
		/* the worker has yet to look at another timeline */
		LWLockRelease(fresh_lock);
		return;
	}
	if (fresh->have_newest)
		proof->fresh_at = Max(proof->fresh_at,
							  answer_proves(&fresh->newest, proof->at));
	for (int i = fresh->nanswers - 1; i >= 0; i--)
	{
		int64		t = answer_proves(&fresh->answers[i], proof->at);

		if (t != 0)
		{
			proof->fresh_at = Max(proof->fresh_at, t);
			break;
		}
	}
	LWLockRelease(fresh_lock);
}

/*
 * Copy the mirror, if it proves something newer than *proof.
 *
 * Pairs with tcs_fresh_publish_mirror().  While the worker writes, nothing is
 * copied: the caller keeps what it had, which is still true.
 */
void
tcs_fresh_read_mirror(TcsProof *proof)
{
	uint32		seq = pg_atomic_read_u32(&fresh->mirror_seq);
	TcsProof	copy;

	if (seq & 1)
		return;
	pg_read_barrier();
	copy = fresh->mirror;
	pg_read_barrier();
	if (pg_atomic_read_u32(&fresh->mirror_seq) != seq)
		return;
	if (copy.fresh_at > proof->fresh_at && copy.at.tli >= proof->at.tli)
		*proof = copy;
}

/*
 * The oldest answer that was asked for at or after an instant: the nearest
 * position whose replay proves freshness of that instant.
 */
bool
tcs_fresh_target(int64 fresh_after, TcsAnswer *target)
{
	TimeLineID	tli = tcs_fresh_position().tli;
	bool		found = false;

	LWLockAcquire(fresh_lock, LW_SHARED);
	if (fresh->tli != tli)
	{
		/* as in tcs_fresh_prove(): these answers will be dropped */
		LWLockRelease(fresh_lock);
		return false;
	}
	for (int i = 0; i < fresh->nanswers && !found; i++)
	{
		if (fresh->answers[i].asked_at >= fresh_after)
		{
			*target = fresh->answers[i];
			found = true;
		}
	}
	if (!found && fresh->have_newest && fresh->newest.asked_at >= fresh_after)
	{
		*target = fresh->newest;
		found = true;
	}
	LWLockRelease(fresh_lock);
	return found;
}

bool
tcs_fresh_newest(TcsAnswer *newest)
{
	bool		found;

	LWLockAcquire(fresh_lock, LW_SHARED);
	found = fresh->have_newest;
	*newest = fresh->newest;
	LWLockRelease(fresh_lock);
	return found;
}

/* What the quorum has confirmed on the timeline that is replayed. */
void
tcs_fresh_confirmed(TcsConfirmed *confirmed)
{
	TimeLineID	tli = tcs_fresh_position().tli;

	LWLockAcquire(fresh_lock, LW_SHARED);
	*confirmed = fresh->confirmed;
	/* as in tcs_fresh_prove(): of another one of that number, maybe */
	if (fresh->tli != tli)
		memset(confirmed, 0, sizeof(*confirmed));
	LWLockRelease(fresh_lock);
}

/*
 * Does what is confirmed give what is wanted: that the primary was one at or
 * after an instant, and has everything up to a position on its quorum?
 *
 * On another timeline it is another primary, who cannot speak for the former.
 */
TcsConfirmVerdict
tcs_fresh_confirms(const TcsConfirmed *confirmed, const TcsConfirmation *wanted)
{
	if (confirmed->best.at.tli == wanted->at.tli &&
		confirmed->best.asked_at >= wanted->asked_at &&
		confirmed->best.at.lsn >= wanted->at.lsn)
		return TCS_CONFIRM_YES;
	if (confirmed->problem_at != 0 && confirmed->problem_at >= wanted->asked_at)
		return TCS_CONFIRM_NO_QUORUM;
	return TCS_CONFIRM_WAIT;
}

/* Recent speed of replay in bytes per second; 0 if it stands still. */
double
tcs_fresh_replay_rate(void)
{
	return (double) pg_atomic_read_u64(&fresh->replay_rate);
}

/* Drop answers that newer replayed ones have made useless. */
static void
drop_replayed(TcsPosition at)
{
	int			last = -1;

	for (int i = 0; i < fresh->nanswers; i++)
	{
		if (answer_proves(&fresh->answers[i], at) != 0)
			last = i;
	}
	if (last > 0)
	{
		fresh->nanswers -= last;
		memmove(fresh->answers, fresh->answers + last,
				fresh->nanswers * sizeof(TcsAnswer));
	}
}

/* Drop every second answer, but the oldest and the newest. */
static void
thin_out(void)
{
	int			n = 0;

	for (int i = 0; i < fresh->nanswers; i++)
	{
		if (i % 2 == 0 || i == fresh->nanswers - 1)
			fresh->answers[n++] = fresh->answers[i];
	}
	fresh->nanswers = n;
}

/* Remember an answer.  Worker only. */
void
tcs_fresh_add_answer(const TcsAnswer *answer)
{
	TcsAnswer  *last;

	LWLockAcquire(fresh_lock, LW_EXCLUSIVE);
	fresh->newest = *answer;
	fresh->have_newest = true;

	last = fresh->nanswers > 0 ? &fresh->answers[fresh->nanswers - 1] : NULL;
	if (last && last->at.tli == answer->at.tli && last->at.lsn == answer->at.lsn)
	{
		/* same position, later question: it proves strictly more */
		last->asked_at = answer->asked_at;
	}
	else if (!last || answer->asked_at - last->asked_at >= TCS_RING_SPACING)
	{
		if (fresh->nanswers == TCS_RING_SIZE)
		{
			drop_replayed(tcs_fresh_position());
			if (fresh->nanswers == TCS_RING_SIZE)
				thin_out();
		}
		fresh->answers[fresh->nanswers++] = *answer;
	}
	LWLockRelease(fresh_lock);
}

/* Publish what is known of the quorum.  Worker only. */
void
tcs_fresh_set_confirmed(const TcsConfirmed *confirmed)
{
	LWLockAcquire(fresh_lock, LW_EXCLUSIVE);
	fresh->confirmed = *confirmed;
	LWLockRelease(fresh_lock);
}

/*
 * Forget all answers: replay is on another timeline now.  Worker only.
 *
 * An answer that came before from that timeline is dropped as well: two
 * timelines can have one number, and only now it is known which one replay has
 * followed to.
 */
void
tcs_fresh_forget(TimeLineID tli)
{
	LWLockAcquire(fresh_lock, LW_EXCLUSIVE);
	fresh->tli = tli;
	fresh->nanswers = 0;
	fresh->have_newest = false;
	memset(&fresh->confirmed, 0, sizeof(fresh->confirmed));
	LWLockRelease(fresh_lock);
}

/* Keep the replay rate up to date; called with each look at the position. */
static void
measure_rate(TcsPosition at)
{
	static XLogRecPtr window_lsn = InvalidXLogRecPtr;
	static int64 window_start = 0;
	int64		now = tcs_now();

	if (window_start != 0 && now - window_start < TCS_RATE_WINDOW)
		return;
	if (window_start != 0 && at.lsn >= window_lsn)
		pg_atomic_write_u64(&fresh->replay_rate,
							(uint64) ((double) (at.lsn - window_lsn) * 1000000.0 /
									  (now - window_start)));
	window_start = now;
	window_lsn = at.lsn;
}

/*
 * Publish what is proved now.  Worker only, which makes it the only writer.
 *
 * Pairs with tcs_fresh_read_mirror(): the sequence number is odd while the
 * mirror changes, and the barriers keep the changes between its two steps.
 */
void
tcs_fresh_publish_mirror(void)
{
	TcsProof	proof;
	uint32		seq = pg_atomic_read_u32(&fresh->mirror_seq);

	tcs_fresh_prove(NULL, &proof);
	measure_rate(proof.at);

	if (proof.fresh_at == fresh->mirror.fresh_at &&
		proof.at.lsn == fresh->mirror.at.lsn &&
		proof.at.tli == fresh->mirror.at.tli)
		return;
	pg_atomic_write_u32(&fresh->mirror_seq, seq + 1);
	pg_write_barrier();
	fresh->mirror = proof;
	pg_write_barrier();
	pg_atomic_write_u32(&fresh->mirror_seq, seq + 2);
}

/* Does a link in this state give no usable answers? */
static bool
link_is_lost(TcsLinkState state)
{
	return state == TCS_LINK_STALLED || state == TCS_LINK_DOWN ||
		state == TCS_LINK_REFUSED;
}

/* Note since when.  The caller holds the spinlock. */
static void
note_lost(bool lost, int64 now)
{
	if (!lost)
		fresh->link.lost_at = 0;
	else if (fresh->link.lost_at == 0)
	{
		fresh->link.lost_at = now;
		pg_atomic_write_u64(&fresh->probe_after, now + TCS_GONE_AFTER + TCS_PROBE_PAUSE);
	}
}

/*
 * Note the state of the link; true if that is news.  "general" is the reason
 * without what only monitors may see.  Worker only.
 */
bool
tcs_fresh_set_link(TcsLinkState state, const char *reason, const char *general)
{
	bool		changed;

	/* the worker is the only writer, so it may read without the lock */
	changed = fresh->link.state != state ||
		strncmp(fresh->link.reason, reason, TCS_REASON_LEN - 1) != 0;
	if (changed)
	{
		char		copy[TCS_REASON_LEN];
		char		copy_general[TCS_REASON_LEN];
		int64		now = tcs_now();

		strlcpy(copy, reason, sizeof(copy));
		strlcpy(copy_general, general, sizeof(copy_general));
		SpinLockAcquire(&fresh->mutex);
		fresh->link.state = state;
		note_lost(link_is_lost(state), now);
		memcpy(fresh->link.reason, copy, sizeof(copy));
		memcpy(fresh->link.general, copy_general, sizeof(copy_general));
		SpinLockRelease(&fresh->mutex);
	}
	return changed;
}

void
tcs_fresh_set_worker(int pid)
{
	int64		now = tcs_now();

	SpinLockAcquire(&fresh->mutex);
	fresh->link.worker_pid = pid;
	note_lost(pid == 0, now);
	if (pid == 0)
		fresh->link.state = TCS_LINK_NONE;
	SpinLockRelease(&fresh->mutex);
}

void
tcs_fresh_get_link(TcsLinkInfo *info)
{
	SpinLockAcquire(&fresh->mutex);
	*info = fresh->link;
	SpinLockRelease(&fresh->mutex);
}

/*
 * The instant from which on the primary counts as gone, if it gives no usable
 * answer until then; PG_INT64_MAX while it gives some.
 */
int64
tcs_fresh_gone_at(void)
{
	int64		lost_at;

	SpinLockAcquire(&fresh->mutex);
	lost_at = fresh->link.lost_at;
	SpinLockRelease(&fresh->mutex);
	return lost_at == 0 ? PG_INT64_MAX : lost_at + TCS_GONE_AFTER;
}

/*
 * May a read wait for an answer until its deadline although the primary is gone?
 * If so no other may before that is over, or a minute has passed.
 */
bool
tcs_fresh_may_probe(int64 deadline)
{
	int64		now = tcs_now();
	uint64		after = pg_atomic_read_u64(&fresh->probe_after);

	return now >= (int64) after &&
		pg_atomic_compare_exchange_u64(&fresh->probe_after, &after,
									   Min(Max(deadline, now + TCS_PROBE_PAUSE),
										   now + TCS_PROBE_MAX));
}

/*
 * The reason of a link's state, as far as the current user may see it: it can
 * name hosts and roles, which core shows to pg_read_all_stats alone.  Everybody
 * is told what kind of failure it is.
 */
const char *
tcs_fresh_link_reason(const TcsLinkInfo *info)
{
	if (info->reason[0] == '\0')
		return tcs_link_state_name(info->state);
	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
		return strcmp(info->general, info->reason) == 0 ? info->general :
			psprintf("%s (members of pg_read_all_stats are shown more)", info->general);
	return info->reason;
}

const char *
tcs_link_state_name(TcsLinkState state)
{
	switch (state)
	{
		case TCS_LINK_NONE:
			return "none";
		case TCS_LINK_CONNECTING:
			return "connecting";
		case TCS_LINK_UP:
			return "up";
		case TCS_LINK_STALLED:
			return "stalled";
		case TCS_LINK_DOWN:
			return "down";
		case TCS_LINK_REFUSED:
			return "refused";
	}
	return "unknown";
}
