/*-------------------------------------------------------------------------
 *
 * snapshot_swap.h
 *	  Giving back a statement's snapshot and locks, and taking new ones.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_SNAPSHOT_SWAP_H
#define TCS_SNAPSHOT_SWAP_H

#include "base/tcs.h"
#include "statement/site.h"

/* Name of what stands in a plan that is to be made yet; see hooks/plan_guard.c. */
#define TCS_STUB_NAME		"tcs stub"

extern bool tcs_swap_is_possible(const TcsSite *site);
extern void tcs_swap_drop_snapshot(TcsSite *site);
extern void tcs_swap_take_snapshot(TcsSite *site);
extern PlannedStmt *tcs_swap_reanalyze_utility(const PlannedStmt *old,
											   const char *source,
											   ParamListInfo params,
											   QueryEnvironment *query_env);
extern bool tcs_swap_can_reanalyze_query(const Query *query, const char *source);
extern Query *tcs_swap_reanalyze_query(Query *old, const char *source);
extern void tcs_swap_leave_conflicts(void);
extern void tcs_swap_release_locks(const TcsSite *site);
extern void tcs_swap_retake_locks(const TcsSite *site);
extern bool tcs_swap_try_locks(const TcsSite *site);
extern void tcs_swap_stop_watching(void);
extern void tcs_swap_distrust_plan(void);

#endif							/* TCS_SNAPSHOT_SWAP_H */
