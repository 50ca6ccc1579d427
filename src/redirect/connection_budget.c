/*-------------------------------------------------------------------------
 *
 * connection_budget.c
 *	  How many connections to the redirect server this node has.
 *
 * NOTES
 *	  A lagging standby must not bury its primary under connections, so their
 *	  number is limited per node, idle ones included.  Who needs one when there
 *	  is none left asks the session whose connection has been idle for longest
 *	  to close it, then the next, and in the end the first again.
 *
 *	  That session sits in the wait for its client's next message.  Core runs
 *	  nothing of an extension there: a latch wakes it, it looks at core's own
 *	  flags, and sleeps on.  So neither a flag nor a latch of ours would do.  One
 *	  of core's flags has it run a transaction: the interrupt for sessions that must
 *	  catch up with invalidations.  At the end of that our callback sees the request
 *	  (tcs_budget_is_wanted()).  A session that is inside of a transaction block
 *	  does not come by, so its connection is not idle in this sense.
 *
 *	  The count is exact: it changes under the lock only.  The state of a slot
 *	  is written by its owner alone, without the lock; a stale look at it costs
 *	  a useless request, or a wait that its deadline ends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procsignal.h"

#include "base/compat.h"
#include "base/settings.h"
#include "base/tcs.h"
#include "redirect/connection_budget.h"

/* How long one session gets to give up its connection, in ms. */
#define TCS_ASK_MS		20

/* How long one is asked for in all, in us. */
#define TCS_ASK_IN_ALL_US	200000

typedef struct TcsBudgetSlot
{
	int			pid;			/* under the lock; 0: free */
	pg_atomic_uint32 state;		/* TcsBudgetSlotState; by its owner */
	pg_atomic_uint64 idle_since;	/* tcs_now(); by its owner */
	pg_atomic_uint64 wanted_at; /* tcs_now(), by who has asked for it; cleared
								 * by the owner */
} TcsBudgetSlot;

typedef struct TcsBudget
{
	int			open;			/* under the lock */
	ConditionVariable given_back;
	pg_atomic_uint64 connected; /* counters: only ever raised, by anybody */
	pg_atomic_uint64 failed;
	pg_atomic_uint64 over_budget;
	TcsBudgetSlot slots[FLEXIBLE_ARRAY_MEMBER]; /* by process number */
} TcsBudget;

static TcsBudget *budget = NULL;
static LWLock *budget_lock = NULL;
static TcsBudgetSlot *my_slot = NULL;	/* while this session has a connection */

Size
tcs_budget_shmem_size(void)
{
	return add_size(offsetof(TcsBudget, slots),
					mul_size(MaxBackends, sizeof(TcsBudgetSlot)));
}

void
tcs_budget_shmem_init(void *ptr, LWLock *lock, bool found)
{
	budget = ptr;
	budget_lock = lock;
	if (found)
		return;
	memset(budget, 0, tcs_budget_shmem_size());
	ConditionVariableInit(&budget->given_back);
	pg_atomic_init_u64(&budget->connected, 0);
	pg_atomic_init_u64(&budget->failed, 0);
	pg_atomic_init_u64(&budget->over_budget, 0);
	for (int i = 0; i < MaxBackends; i++)
	{
		pg_atomic_init_u32(&budget->slots[i].state, TCS_SLOT_NONE);
		pg_atomic_init_u64(&budget->slots[i].idle_since, 0);
		pg_atomic_init_u64(&budget->slots[i].wanted_at, 0);
	}
}

static void
give_back_at_exit(int code, Datum arg)
{
	tcs_budget_give_back();
}

/* Take a connection out of the budget if there is one left. */
static bool
try_take(int max)
{
	bool		taken;

	LWLockAcquire(budget_lock, LW_EXCLUSIVE);
	taken = budget->open < max;
	if (taken)
	{
		budget->open++;
		my_slot = &budget->slots[tcs_my_proc_number_compat()];
		my_slot->pid = MyProcPid;
		pg_atomic_write_u64(&my_slot->wanted_at, 0);
		pg_atomic_write_u32(&my_slot->state, TCS_SLOT_BUSY);
	}
	LWLockRelease(budget_lock);
	return taken;
}

/* Is it better to ask a than b: not asked for longer, then idle for longer? */
static bool
is_better(TcsBudgetSlot *a, TcsBudgetSlot *b)
{
	uint64		asked_a = pg_atomic_read_u64(&a->wanted_at);
	uint64		asked_b = pg_atomic_read_u64(&b->wanted_at);

	if (asked_a != asked_b)
		return asked_a < asked_b;
	return pg_atomic_read_u64(&a->idle_since) < pg_atomic_read_u64(&b->idle_since);
}

/*
 * Ask a session that has an idle connection to close it: one that nobody has
 * asked yet, if there is one, else one that did not come by for the last request.
 * Returns false if none is idle.
 */
static bool
ask_for_idle(void)
{
	TcsBudgetSlot *best = NULL;
	int			pid = 0;

	LWLockAcquire(budget_lock, LW_SHARED);
	for (int i = 0; i < MaxBackends; i++)
	{
		TcsBudgetSlot *slot = &budget->slots[i];

		if (slot->pid != 0 &&
			pg_atomic_read_u32(&slot->state) == TCS_SLOT_IDLE &&
			(best == NULL || is_better(slot, best)))
			best = slot;
	}
	if (best)
	{
		pg_atomic_write_u64(&best->wanted_at, tcs_now());
		pid = best->pid;
	}
	LWLockRelease(budget_lock);

	if (best)
		(void) SendProcSignal(pid, PROCSIG_CATCHUP_INTERRUPT, TCS_NO_PROC_COMPAT);
	return best != NULL;
}

/*
 * Take a connection out of the budget, if need be one that another session has
 * and does not use.  Returns false if there is none to be had within a fraction
 * of a second, or until the deadline, an instant of tcs_now().
 */
bool
tcs_budget_take(int max, int64 deadline)
{
	static uint32 wait_event = 0;
	bool		taken;
	static bool at_exit = false;

	Assert(my_slot == NULL);
	if (!at_exit)
	{
		before_shmem_exit(give_back_at_exit, (Datum) 0);
		at_exit = true;
	}

	taken = try_take(max);
	if (taken || max == 0)
		return taken;
	if (wait_event == 0)
		wait_event = tcs_wait_event_compat("TcsRedirectBudget");

	deadline = Min(deadline, tcs_now() + TCS_ASK_IN_ALL_US);
	ConditionVariablePrepareToSleep(&budget->given_back);
	while (!(taken = try_take(max)) && tcs_now() < deadline && ask_for_idle())
		(void) ConditionVariableTimedSleep(&budget->given_back, TCS_ASK_MS, wait_event);
	ConditionVariableCancelSleep();
	return taken;
}

/* This session's connection is closed. */
void
tcs_budget_give_back(void)
{
	if (my_slot == NULL)
		return;
	LWLockAcquire(budget_lock, LW_EXCLUSIVE);
	budget->open--;
	my_slot->pid = 0;
	pg_atomic_write_u32(&my_slot->state, TCS_SLOT_NONE);
	my_slot = NULL;
	LWLockRelease(budget_lock);
	ConditionVariableSignal(&budget->given_back);
}

/* This session uses its connection. */
void
tcs_budget_set_busy(void)
{
	pg_atomic_write_u32(&my_slot->state, TCS_SLOT_BUSY);
}

/* It does not any more; true if that is news. */
bool
tcs_budget_set_idle(void)
{
	if (pg_atomic_read_u32(&my_slot->state) == TCS_SLOT_IDLE)
		return false;
	pg_atomic_write_u64(&my_slot->idle_since, tcs_now());
	pg_atomic_write_u32(&my_slot->state, TCS_SLOT_IDLE);
	return true;
}

/* Is this session to give its connection up? */
bool
tcs_budget_is_wanted(void)
{
	return my_slot != NULL &&
		(pg_atomic_read_u64(&my_slot->wanted_at) != 0 ||
		 budget->open > tcs_max_redirect_connections);
}

void
tcs_budget_count_connection(void)
{
	pg_atomic_fetch_add_u64(&budget->connected, 1);
}

void
tcs_budget_count_failure(bool over_budget)
{
	pg_atomic_fetch_add_u64(&budget->failed, 1);
	if (over_budget)
		pg_atomic_fetch_add_u64(&budget->over_budget, 1);
}

void
tcs_budget_get_counts(TcsBudgetCounts *counts)
{
	counts->idle = 0;
	LWLockAcquire(budget_lock, LW_SHARED);
	counts->open = budget->open;
	for (int i = 0; i < MaxBackends; i++)
	{
		if (pg_atomic_read_u32(&budget->slots[i].state) == TCS_SLOT_IDLE)
			counts->idle++;
	}
	LWLockRelease(budget_lock);
	counts->connected = pg_atomic_read_u64(&budget->connected);
	counts->failed = pg_atomic_read_u64(&budget->failed);
	counts->over_budget = pg_atomic_read_u64(&budget->over_budget);
}
