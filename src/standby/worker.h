/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  The background worker of a standby.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_WORKER_H
#define TCS_WORKER_H

#include "fmgr.h"

extern void tcs_worker_register(void);
extern PGDLLEXPORT void tcs_worker_main(Datum arg);

#endif							/* TCS_WORKER_H */
