/*-------------------------------------------------------------------------
 *
 * lease_held.h
 *	  The read lease that this standby holds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_LEASE_HELD_H
#define TCS_LEASE_HELD_H

#include "storage/lwlock.h"

#include "base/tcs.h"

/* Why there is no lease; see tcs_held_state_name(). */
typedef enum TcsHeldState
{
	TCS_HELD_OFF,				/* tcs.lease is off, or there is no worker */
	TCS_HELD_CONNECTING,
	TCS_HELD_NOT_GRANTED,		/* the primary grants none */
	TCS_HELD_LAGGING,			/* given back, as replay was late */
	TCS_HELD_HOLDS
} TcsHeldState;

typedef struct TcsHeldInfo
{
	int			pid;			/* of the lease worker; 0: there is none */
	TcsHeldState state;
	int64		left;			/* us until it is over; 0: none is held */
	uint64		grants;
	uint64		renewals;
	uint64		lags;			/* given back, as replay was late */
} TcsHeldInfo;

/* for everybody */
extern bool tcs_held_is_valid(void);
extern bool tcs_held_continues(void);
extern void tcs_held_get(TcsHeldInfo *info);
extern const char *tcs_held_state_name(TcsHeldState state);

/* for the lease worker */
extern void tcs_held_set_worker(int pid);
extern void tcs_held_begin(int64 until);
extern void tcs_held_extend(int64 until);
extern void tcs_held_end(TcsHeldState why);

extern Size tcs_held_shmem_size(void);
extern void tcs_held_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_LEASE_HELD_H */
