/*-------------------------------------------------------------------------
 *
 * relax.h
 *	  The emergency valve: for a time, this node serves reads at less.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_RELAX_H
#define TCS_RELAX_H

#include "storage/lwlock.h"

#include "base/level.h"

extern bool tcs_relax_in_force(TcsLevel *level);
extern bool tcs_relax_began_after(int64 instant);
extern void tcs_relax_count(void);

extern Size tcs_relax_shmem_size(void);
extern void tcs_relax_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_RELAX_H */
