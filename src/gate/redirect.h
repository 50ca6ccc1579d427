/*-------------------------------------------------------------------------
 *
 * redirect.h
 *	  Sending a statement to the primary in place of running it here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_REDIRECT_H
#define TCS_REDIRECT_H

#include "gate/fallback.h"
#include "gate/gate.h"

extern bool tcs_redirect_is_possible(const TcsSite *site);
extern bool tcs_redirect_try(TcsSite *site, const TcsContext *context,
							 TcsUnmet *unmet);
extern void tcs_redirect_in_whole(TcsSite *site);
extern void tcs_redirect_check_used(const TcsArmed *armed);
extern PlannedStmt *tcs_redirect_planned(TcsArmed *armed, PlannedStmt *local,
										 int cursor_options);
extern void tcs_redirect_started(TcsArmed *armed, QueryDesc *query_desc, int eflags);

#endif							/* TCS_REDIRECT_H */
