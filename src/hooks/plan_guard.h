/*-------------------------------------------------------------------------
 *
 * plan_guard.h
 *	  Planning that ends before it reads too early.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_PLAN_GUARD_H
#define TCS_PLAN_GUARD_H

#include "nodes/plannodes.h"

#include "choice/choice.h"

extern TCS_LOCAL bool tcs_guard_is_possible(const Query *query, const char *source);
extern TCS_LOCAL void tcs_guard_keep_choice(const TcsChoice *choice);
extern TCS_LOCAL void tcs_guard_check(const PlannedStmt *plan, const TcsChoice *choice);
extern TCS_LOCAL void tcs_guard_check_function(Oid function);
extern TCS_LOCAL PlannedStmt *tcs_guard_make_stub(const Query *query);

#endif							/* TCS_PLAN_GUARD_H */
