/*-------------------------------------------------------------------------
 *
 * shmem.h
 *	  Shared memory of tcs: who needs how much, and when it is set up.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_SHMEM_H
#define TCS_SHMEM_H

extern void tcs_shmem_install_hooks(void);

#endif							/* TCS_SHMEM_H */
