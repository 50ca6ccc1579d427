/*-------------------------------------------------------------------------
 *
 * worker_sleep.h
 *	  How the worker sleeps.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_WORKER_SLEEP_H
#define TCS_WORKER_SLEEP_H

#include "base/tcs.h"

/* What ended a sleep; both may have, or neither. */
typedef struct TcsWakeUp
{
	bool		latch;
	bool		socket;
} TcsWakeUp;

extern TcsWakeUp tcs_sleep(int64 timeout_us, uint32 wait_event);

#endif							/* TCS_WORKER_SLEEP_H */
