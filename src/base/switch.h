/*-------------------------------------------------------------------------
 *
 * switch.h
 *	  The switch tcs.enabled, as those who wait see it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_SWITCH_H
#define TCS_SWITCH_H

#include "storage/lwlock.h"

extern void tcs_switch_set(bool on);
extern bool tcs_switch_is_on(void);

extern Size tcs_switch_shmem_size(void);
extern void tcs_switch_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_SWITCH_H */
