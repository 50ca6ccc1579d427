/*-------------------------------------------------------------------------
 *
 * leftovers.h
 *	  What a redirected statement would leave behind on the primary.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_LEFTOVERS_H
#define TCS_LEFTOVERS_H

#include "nodes/nodes.h"

#include "base/tcs.h"

extern void tcs_leftover_watch(void);
extern void tcs_leftover_refuse_utility(Node *statement);
extern void tcs_leftover_require_none(bool may_hold);
extern void tcs_leftover_require_no_cursor(void);

/* Does a redirected transaction run here? */
extern TCS_LOCAL bool tcs_leftover_is_watched;

#endif							/* TCS_LEFTOVERS_H */
