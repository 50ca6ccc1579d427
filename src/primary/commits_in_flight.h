/*-------------------------------------------------------------------------
 *
 * commits_in_flight.h
 *	  Commits under way on the primary.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_COMMITS_IN_FLIGHT_H
#define TCS_COMMITS_IN_FLIGHT_H

#include "storage/lwlock.h"
#include "utils/snapshot.h"

#include "base/tcs.h"

extern void tcs_commits_enter(void);
extern void tcs_commits_leave(void);
extern bool tcs_commits_under_way(XLogRecPtr upto);
extern XLogRecPtr tcs_commits_done_up_to(XLogRecPtr upto);

extern Size tcs_commits_shmem_size(void);
extern void tcs_commits_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_COMMITS_IN_FLIGHT_H */
