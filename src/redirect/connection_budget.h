/*-------------------------------------------------------------------------
 *
 * connection_budget.h
 *	  How many connections to the redirect server this node has.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_CONNECTION_BUDGET_H
#define TCS_CONNECTION_BUDGET_H

#include "port/atomics.h"
#include "storage/lwlock.h"

/* What a session does with its connection. */
typedef enum TcsBudgetSlotState
{
	TCS_SLOT_NONE,				/* it has none */
	TCS_SLOT_BUSY,
	TCS_SLOT_IDLE
} TcsBudgetSlotState;

/* Everything that happened to redirects of this node, for tcs.redirects. */
typedef struct TcsBudgetCounts
{
	int			open;
	int			idle;
	uint64		connected;		/* connections made */
	uint64		failed;			/* redirects that could not be started */
	uint64		over_budget;	/* of these, for want of a connection */
} TcsBudgetCounts;

extern bool tcs_budget_take(int max, int64 deadline);
extern void tcs_budget_give_back(void);
extern void tcs_budget_set_busy(void);
extern bool tcs_budget_set_idle(void);
extern bool tcs_budget_is_wanted(void);
extern void tcs_budget_count_connection(void);
extern void tcs_budget_count_failure(bool over_budget);
extern void tcs_budget_get_counts(TcsBudgetCounts *counts);

extern Size tcs_budget_shmem_size(void);
extern void tcs_budget_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_CONNECTION_BUDGET_H */
