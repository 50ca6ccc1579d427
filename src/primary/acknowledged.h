/*-------------------------------------------------------------------------
 *
 * acknowledged.h
 *	  The largest end of a commit of this server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_ACKNOWLEDGED_H
#define TCS_ACKNOWLEDGED_H

#include "access/xlogdefs.h"
#include "storage/lwlock.h"

extern void tcs_acknowledged_note(XLogRecPtr end);
extern XLogRecPtr tcs_acknowledged(void);

extern Size tcs_acknowledged_shmem_size(void);
extern void tcs_acknowledged_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_ACKNOWLEDGED_H */
