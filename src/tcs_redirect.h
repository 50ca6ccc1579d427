/*-------------------------------------------------------------------------
 *
 * tcs_redirect.h
 *	  Sending a statement to the primary in place of running it here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_REDIRECT_H
#define TCS_REDIRECT_H

#include "tcs_fallback.h"
#include "tcs_gate.h"

extern bool tcs_redirect_is_possible(const TcsSite *site);
extern bool tcs_redirect_try(TcsSite *site, const TcsContext *context,
							 TcsUnmet *unmet, int64 deadline);
extern void tcs_redirect_in_whole(TcsSite *site);
extern void tcs_redirect_unused(void);
extern PlannedStmt *tcs_redirect_planned(PlannedStmt *local, int cursor_options);
extern void tcs_redirect_started(QueryDesc *query_desc, int eflags);

/* Waits a utility statement for its query to be replaced? */
extern TCS_LOCAL bool tcs_redirect_is_armed;

#endif							/* TCS_REDIRECT_H */
