/*-------------------------------------------------------------------------
 *
 * shmem.h
 *	  Shared memory of tcs: who needs how much, and when it is set up.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_SHMEM_H
#define TCS_SHMEM_H

#include "storage/lwlock.h"

extern void tcs_shmem_install_hooks(void);
extern LWLock *tcs_shmem_lock(const char *tranche);

#endif							/* TCS_SHMEM_H */
