/*-------------------------------------------------------------------------
 *
 * notices.h
 *	  Notices that the client has had already.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_NOTICES_H
#define TCS_NOTICES_H

#include "nodes/pg_list.h"

#include "base/tcs.h"

/* Is the next statement to be planned one that may run elsewhere? */
extern TCS_LOCAL bool tcs_told_is_wanted;

extern void tcs_told_want(void);
extern void tcs_told_watch_planning(ErrorContextCallback *callback);
extern void tcs_told_planned(ErrorContextCallback *callback);

extern void tcs_told_expect(const List *by_text);
extern void tcs_told_expect_of_input(Oid type, const char *text);
extern void tcs_told_forget(void);
extern bool tcs_told_is_repeated(int sqlerrcode, const char *message);

#endif							/* TCS_NOTICES_H */
