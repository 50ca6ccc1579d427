/*-------------------------------------------------------------------------
 *
 * wait_queue.c
 *	  Sessions that wait for replay or for an answer of the primary.
 *
 * NOTES
 *	  A session publishes what it sleeps for, looks once more whether it is
 *	  there already (the caller's loop does, see gate/wait.c), and sleeps on its
 *	  latch.  The worker wakes exactly those whose position replay has come to:
 *	  it compares one atomic word, the smallest position awaited, and takes the
 *	  lock only when that is reached.  Waking everybody at each record would
 *	  make replay several times slower.
 *
 *	  Who waits for an answer gets a ticket: the number of the first question
 *	  that has not been asked yet.  Tickets are given and questions are
 *	  numbered under the same lock, and the worker reads the clock after it
 *	  took a number, so the answer was asked for after the session arrived: the
 *	  rule of Raft's ReadIndex.  When it comes, the worker turns the ticket into
 *	  a position without waking the session, which has nothing to do yet.
 *
 *	  Askers wake the worker only when it has use for it: not while a question
 *	  is on its way, since it looks for new askers when the answer comes.
 *
 *	  A slot is used by the process whose number it has, or by nobody.  It is
 *	  given back on normal exit, error and process exit by the same function.
 *	  Latches are set after the lock is released; setting the latch of a
 *	  process that has gone on, or away, is harmless.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"

#include "base/compat.h"
#include "base/history.h"
#include "base/relax.h"
#include "standby/freshness.h"
#include "standby/wait_queue.h"

#ifdef TCS_HAVE_WAIT_FOR_LSN
#include "access/xlogwait.h"
#endif

/* Latches set per turn of the lock. */
#define TCS_WAKE_BATCH	16

/* Longest sleep while no worker is there to end it. */
#define TCS_ALONE_US	20000

/* Longest sleep without a look around, should every wake-up have been lost. */
#define TCS_SAFETY_US	5000000

/* Longest stay in core's queue without a look at what core does not know. */
#define TCS_CORE_SLICE_US	1000000

typedef enum TcsWaiterState
{
	TCS_SLOT_FREE,
	TCS_SLOT_ASKING,			/* in the list of askers */
	TCS_SLOT_HEAPED,			/* in the heap */
	TCS_SLOT_CONFIRMING,		/* in the list of those who want that */
	TCS_SLOT_WOKEN				/* taken out by the worker */
} TcsWaiterState;

/* All fields are protected by the LWLock tcs_queue. */
typedef struct TcsWaiter
{
	TcsWaiterState state;
	bool		holding;
	uint64		ticket;			/* while asking */
	TcsPosition target;			/* while in the heap */
	TcsConfirmation confirmation;	/* while confirming: what is wanted */
	TcsAnswer	answer;			/* asked_at 0 until it is there */
	Latch	   *latch;
	dlist_node	asker_node;		/* in either list */
	pairingheap_node heap_node;
} TcsWaiter;

typedef struct TcsQueue
{
	/* when replay was last seen to wait for a session; atomic, 0: it does not */
	pg_atomic_uint64 replay_blocked;

	/* sessions in core's queue; atomic */
	pg_atomic_uint32 nin_core;

	/*
	 * Smallest LSN in the heap, PG_UINT64_MAX if it is empty.  Written under
	 * the lock, read without it by tcs_queue_wake_reached().
	 */
	pg_atomic_uint64 min_lsn;

	/* all others are protected by the LWLock tcs_queue */
	pairingheap heap;			/* by LSN, smallest first */
	dlist_head	askers;			/* by ticket, smallest first */
	dlist_head	confirming;
	int64		confirm_after;	/* the latest instant any of them has asked
								 * for */
	int			nwaiting;
	int			nholding;
	int			nunasked;		/* askers that came after the last question */
	int			wake_at;		/* number of them that wakes the worker */
	uint64		asked;			/* number of the last question asked */
	Latch	   *worker_latch;	/* NULL while no worker runs */
	TcsWaiter	slots[FLEXIBLE_ARRAY_MEMBER];
} TcsQueue;

static TcsQueue *queue = NULL;
static LWLock *queue_lock = NULL;

static uint32 wait_event_replay = 0;
static uint32 wait_event_answer = 0;
static uint32 wait_event_quorum = 0;

Size
tcs_queue_shmem_size(void)
{
	return add_size(offsetof(TcsQueue, slots),
					mul_size(MaxBackends, sizeof(TcsWaiter)));
}

static int
compare_slots(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const TcsWaiter *sa = pairingheap_const_container(TcsWaiter, heap_node, a);
	const TcsWaiter *sb = pairingheap_const_container(TcsWaiter, heap_node, b);

	/* a max-heap: the smallest LSN must compare as the largest */
	if (sa->target.lsn < sb->target.lsn)
		return 1;
	return sa->target.lsn > sb->target.lsn ? -1 : 0;
}

void
tcs_queue_shmem_init(void *ptr, LWLock *lock, bool found)
{
	queue = ptr;
	queue_lock = lock;
	if (found)
		return;

	memset(queue, 0, tcs_queue_shmem_size());
	pg_atomic_init_u64(&queue->replay_blocked, 0);
	pg_atomic_init_u32(&queue->nin_core, 0);
	pg_atomic_init_u64(&queue->min_lsn, PG_UINT64_MAX);
	queue->heap.ph_compare = compare_slots;
	dlist_init(&queue->askers);
	dlist_init(&queue->confirming);
	queue->wake_at = 1;
}

static TcsWaiter *
my_slot(void)
{
	int			procno = tcs_my_proc_number_compat();

	if (procno < 0 || procno >= MaxBackends)
		elog(ERROR, "process number %d has no slot in the queue of tcs", procno);
	return &queue->slots[procno];
}

static void
update_min_lsn(void)
{
	Assert(LWLockHeldByMeInMode(queue_lock, LW_EXCLUSIVE));

	if (pairingheap_is_empty(&queue->heap))
		pg_atomic_write_u64(&queue->min_lsn, PG_UINT64_MAX);
	else
		pg_atomic_write_u64(&queue->min_lsn,
							pairingheap_container(TcsWaiter, heap_node,
												  pairingheap_first(&queue->heap))->target.lsn);
}

/* Put a slot into the heap. */
static void
heap_slot(TcsWaiter *slot, TcsPosition target)
{
	Assert(LWLockHeldByMeInMode(queue_lock, LW_EXCLUSIVE));

	slot->state = TCS_SLOT_HEAPED;
	slot->target = target;
	pairingheap_add(&queue->heap, &slot->heap_node);
	update_min_lsn();
}

/* Take a slot out of whatever it is in; it stays in use. */
static void
detach_slot(TcsWaiter *slot)
{
	Assert(LWLockHeldByMeInMode(queue_lock, LW_EXCLUSIVE));

	if (slot->state == TCS_SLOT_ASKING)
	{
		dlist_delete(&slot->asker_node);
		if (slot->ticket > queue->asked)
			queue->nunasked--;
	}
	else if (slot->state == TCS_SLOT_CONFIRMING)
		dlist_delete(&slot->asker_node);
	else if (slot->state == TCS_SLOT_HEAPED)
	{
		pairingheap_remove(&queue->heap, &slot->heap_node);
		update_min_lsn();
	}
	slot->state = TCS_SLOT_WOKEN;
}

/*
 * Publish what this process is about to sleep for.  Returns whether there is a
 * worker to wake it.
 */
static bool
enter_queue(TcsWaiter *slot, const TcsSleep *sleep)
{
	Latch	   *worker_latch;
	bool		wake_worker;
	bool		first;

	LWLockAcquire(queue_lock, LW_EXCLUSIVE);
	Assert(slot->state == TCS_SLOT_FREE);
	memset(slot, 0, sizeof(*slot));
	slot->holding = sleep->holding;
	slot->latch = MyLatch;
	if (sleep->kind == TCS_SLEEP_ANSWER)
	{
		slot->state = TCS_SLOT_ASKING;
		slot->ticket = queue->asked + 1;
		dlist_push_tail(&queue->askers, &slot->asker_node);
		wake_worker = ++queue->nunasked >= queue->wake_at;
	}
	else if (sleep->kind == TCS_SLEEP_CONFIRMATION)
	{
		slot->state = TCS_SLOT_CONFIRMING;
		slot->confirmation = sleep->confirmation;
		queue->confirm_after = Max(queue->confirm_after, sleep->confirmation.asked_at);
		/* while somebody waits it asks again and again, and looks before */
		wake_worker = dlist_is_empty(&queue->confirming);
		dlist_push_tail(&queue->confirming, &slot->asker_node);
	}
	else
	{
		/* who sleeps again wakes it only if it may not be watching replay */
		wake_worker = !sleep->again || pairingheap_is_empty(&queue->heap);
		heap_slot(slot, sleep->target);
	}
	/* the worker rests while nobody waits, or nobody that holds anything */
	first = queue->nwaiting++ == 0;
	if (slot->holding)
		first |= queue->nholding++ == 0;
	worker_latch = queue->worker_latch;
	LWLockRelease(queue_lock);

	if ((wake_worker || first) && worker_latch)
		SetLatch(worker_latch);
	return worker_latch != NULL;
}

/* Give the slot back; returns the answer that came meanwhile, if any. */
static TcsAnswer
leave_queue(TcsWaiter *slot)
{
	TcsAnswer	answer;

	LWLockAcquire(queue_lock, LW_EXCLUSIVE);
	if (slot->state != TCS_SLOT_FREE)
	{
		detach_slot(slot);
		slot->state = TCS_SLOT_FREE;
		queue->nwaiting--;
		if (slot->holding)
			queue->nholding--;
	}
	answer = slot->answer;
	LWLockRelease(queue_lock);
	return answer;
}

/* The cleanup on error and exit. */
static void
leave_queue_callback(int code, Datum arg)
{
	(void) leave_queue((TcsWaiter *) DatumGetPointer(arg));
}

/* Is it there what a sleep is for? */
static bool
is_there(const TcsSleep *sleep)
{
	TcsConfirmed confirmed;

	/*
	 * Anyone who opens the emergency valve says so first and looks through
	 * the queue second; we do it the other way round.
	 */
	if (tcs_relax_began_after(sleep->since))
		return true;
	switch (sleep->kind)
	{
		case TCS_SLEEP_REPLAY:
			return tcs_position_reached(sleep->target, tcs_fresh_position());
		case TCS_SLEEP_ANSWER:
			return false;
		case TCS_SLEEP_CONFIRMATION:
			break;
	}
	tcs_fresh_confirmed(&confirmed);
	return tcs_fresh_confirms(&confirmed, &sleep->confirmation) != TCS_CONFIRM_WAIT;
}

/*
 * Sleep until the worker wakes us, at most timeout_us.
 *
 * May return early for any reason; the caller looks itself whether it has
 * what it wants, and calls again.  The answer that came meanwhile, if any, is
 * returned in sleep->answer.  Throws what CHECK_FOR_INTERRUPTS() throws.
 *
 * Entering the queue comes before the look at replay that decides to sleep:
 * the worker, who looks at replay first and at the queue second, then either
 * finds us or had nothing to tell us that we do not find ourselves.
 */
void
tcs_queue_sleep(TcsSleep *sleep, int64 timeout_us)
{
	TcsWaiter  *slot = my_slot();
	uint32		wait_event;
	int64		longest;

	if (wait_event_replay == 0)
	{
		wait_event_replay = tcs_wait_event_compat("TcsReplay");
		wait_event_answer = tcs_wait_event_compat("TcsReadIndex");
		wait_event_quorum = tcs_wait_event_compat("TcsQuorum");
	}
	wait_event = sleep->kind == TCS_SLEEP_ANSWER ? wait_event_answer :
		sleep->kind == TCS_SLEEP_REPLAY ? wait_event_replay : wait_event_quorum;

	/* a wake-up that is left over would cost us our place in the queue */
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	longest = enter_queue(slot, sleep) ? TCS_SAFETY_US : TCS_ALONE_US;
	longest = Min(longest, timeout_us);
	PG_ENSURE_ERROR_CLEANUP(leave_queue_callback, PointerGetDatum(slot));
	{
		if (!is_there(sleep))
			(void) WaitLatch(MyLatch,
							 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 (longest + 999) / 1000, wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	PG_END_ENSURE_ERROR_CLEANUP(leave_queue_callback, PointerGetDatum(slot));
	sleep->answer = leave_queue(slot);
}

#ifdef TCS_HAVE_WAIT_FOR_LSN

static void
leave_core(int code, Datum arg)
{
	pg_atomic_fetch_sub_u32(&queue->nin_core, 1);
}

/*
 * Sleep in core's queue until replay comes to a position, or for a while.  The
 * startup process wakes us itself.  Core throws on interrupts, returns on
 * promotion, and cleans up after itself.
 */
void
tcs_queue_sleep_in_core(TcsPosition target, int64 timeout_us)
{
	pg_atomic_fetch_add_u32(&queue->nin_core, 1);
	PG_ENSURE_ERROR_CLEANUP(leave_core, (Datum) 0);
	{
		(void) WaitForLSN(WAIT_LSN_TYPE_STANDBY_REPLAY, target.lsn,
						  (int) ((Min(timeout_us, TCS_CORE_SLICE_US) + 999) / 1000));
	}
	PG_END_ENSURE_ERROR_CLEANUP(leave_core, (Datum) 0);
	leave_core(0, (Datum) 0);
}

#endif

/*
 * Has replay been seen to stand still because it waits for a session, after an
 * instant?  What was seen before may be over.
 */
bool
tcs_queue_replay_blocked_after(int64 instant)
{
	return (int64) pg_atomic_read_u64(&queue->replay_blocked) > instant;
}

int
tcs_queue_length(void)
{
	int			n;

	LWLockAcquire(queue_lock, LW_SHARED);
	n = queue->nwaiting;
	LWLockRelease(queue_lock);
	return n + (int) pg_atomic_read_u32(&queue->nin_core);
}

/* What is there to do? */
void
tcs_queue_look(TcsQueueView *view)
{
	LWLockAcquire(queue_lock, LW_SHARED);
	view->waiting = queue->nwaiting > 0;
	view->holding = queue->nholding > 0;
	view->asking = !dlist_is_empty(&queue->askers);
	view->confirming = !dlist_is_empty(&queue->confirming);
	view->confirm_after = queue->confirm_after;
	LWLockRelease(queue_lock);
}

/*
 * Let the worker be woken when a number has come that wants an answer to a
 * question that has not been asked.  Returns how many there are: anyone who is not
 * among them will see the new number.
 */
int
tcs_queue_wake_worker_at(int naskers)
{
	int			n;

	LWLockAcquire(queue_lock, LW_EXCLUSIVE);
	queue->wake_at = naskers;
	n = queue->nunasked;
	LWLockRelease(queue_lock);
	return n;
}

/*
 * Take the number of the question that is about to be asked.  The caller
 * reads the clock after this.
 */
uint64
tcs_queue_ask(void)
{
	uint64		question;

	LWLockAcquire(queue_lock, LW_EXCLUSIVE);
	question = ++queue->asked;
	queue->nunasked = 0;
	LWLockRelease(queue_lock);
	return question;
}

/*
 * Hand an answer to all whose tickets it serves; they wait for replay now.
 * Returns how many they are.
 */
int
tcs_queue_answer(uint64 question, const TcsAnswer *answer)
{
	int			served = 0;

	LWLockAcquire(queue_lock, LW_EXCLUSIVE);
	while (!dlist_is_empty(&queue->askers))
	{
		TcsWaiter  *slot = dlist_head_element(TcsWaiter, asker_node, &queue->askers);

		if (slot->ticket > question)
			break;
		detach_slot(slot);
		slot->answer = *answer;
		heap_slot(slot, answer->at);
		served++;
	}
	LWLockRelease(queue_lock);
	return served;
}

/*
 * Does anybody wait for replay?  Who begins to after this sets the latch of
 * the worker.
 */
bool
tcs_queue_replay_awaited(void)
{
	return pg_atomic_read_u64(&queue->min_lsn) != PG_UINT64_MAX;
}

/* Bytes from a position to the first one that is awaited; 0 if none is. */
uint64
tcs_queue_distance(XLogRecPtr lsn)
{
	uint64		min_lsn = pg_atomic_read_u64(&queue->min_lsn);

	return min_lsn == PG_UINT64_MAX || min_lsn <= lsn ? 0 : min_lsn - lsn;
}

/* Wake anyone who waits for a position up to "reached". */
void
tcs_queue_wake_reached(TcsPosition reached)
{
	/* pairs with update_min_lsn(); see tcs_queue_sleep() for the order */
	while (pg_atomic_read_u64(&queue->min_lsn) <= reached.lsn)
	{
		Latch	   *latches[TCS_WAKE_BATCH];
		int			n = 0;

		LWLockAcquire(queue_lock, LW_EXCLUSIVE);
		while (n < TCS_WAKE_BATCH && !pairingheap_is_empty(&queue->heap))
		{
			TcsWaiter  *slot = pairingheap_container(TcsWaiter, heap_node,
													 pairingheap_first(&queue->heap));

			if (slot->target.lsn > reached.lsn)
				break;
			detach_slot(slot);
			latches[n++] = slot->latch;
		}
		LWLockRelease(queue_lock);

		for (int i = 0; i < n; i++)
			SetLatch(latches[i]);
	}
}

/*
 * Wake anyone who has what he wants of the quorum, or will not get it.  What is
 * confirmed has been published before this call.
 */
void
tcs_queue_wake_confirmed(const TcsConfirmed *confirmed)
{
	Latch	   *latches[TCS_WAKE_BATCH];
	int			n;

	do
	{
		dlist_mutable_iter iter;

		n = 0;
		LWLockAcquire(queue_lock, LW_EXCLUSIVE);
		dlist_foreach_modify(iter, &queue->confirming)
		{
			TcsWaiter  *slot = dlist_container(TcsWaiter, asker_node, iter.cur);

			if (n == TCS_WAKE_BATCH)
				break;
			if (tcs_fresh_confirms(confirmed, &slot->confirmation) == TCS_CONFIRM_WAIT)
				continue;
			detach_slot(slot);
			latches[n++] = slot->latch;
		}
		LWLockRelease(queue_lock);

		for (int i = 0; i < n; i++)
			SetLatch(latches[i]);
	} while (n == TCS_WAKE_BATCH);
}

/* Set the latch of everybody who waits, or of those who hold something. */
static void
wake_some(bool only_holding)
{
	for (int start = 0; start < MaxBackends;)
	{
		Latch	   *latches[TCS_WAKE_BATCH];
		int			n = 0;

		LWLockAcquire(queue_lock, LW_SHARED);
		for (; start < MaxBackends && n < TCS_WAKE_BATCH; start++)
		{
			TcsWaiter  *slot = &queue->slots[start];

			if (slot->state != TCS_SLOT_FREE && (slot->holding || !only_holding))
				latches[n++] = slot->latch;
		}
		LWLockRelease(queue_lock);

		for (int i = 0; i < n; i++)
			SetLatch(latches[i]);
	}
}

/* Let everybody look around: promotion, shutdown, tcs switched off. */
void
tcs_queue_wake_all(void)
{
	wake_some(false);
}

/*
 * Note when replay was seen to wait for a session (0: it does not), and tell
 * those who may be it.
 */
void
tcs_queue_set_replay_blocked(int64 seen_at)
{
	pg_atomic_write_u64(&queue->replay_blocked, seen_at);
	if (seen_at != 0)
		wake_some(true);
}

/*
 * The worker goes.  Who is in the queue is woken; who comes later sees that
 * nobody will wake him.
 */
static void
detach_worker(int code, Datum arg)
{
	LWLockAcquire(queue_lock, LW_EXCLUSIVE);
	queue->worker_latch = NULL;
	LWLockRelease(queue_lock);
	tcs_queue_set_replay_blocked(0);
	tcs_queue_wake_all();
}

/* Tell sessions whose latch to set.  There is one worker. */
void
tcs_queue_attach_worker(void)
{
	LWLockAcquire(queue_lock, LW_EXCLUSIVE);
	queue->worker_latch = MyLatch;
	queue->wake_at = 1;
	LWLockRelease(queue_lock);
	before_shmem_exit(detach_worker, (Datum) 0);
}
