/*-------------------------------------------------------------------------
 *
 * lease_worker.h
 *	  The background worker that holds a standby's read lease.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_LEASE_WORKER_H
#define TCS_LEASE_WORKER_H

extern void tcs_lease_worker_register(void);
extern PGDLLEXPORT void tcs_lease_worker_main(Datum arg);

#endif							/* TCS_LEASE_WORKER_H */
