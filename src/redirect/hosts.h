/*-------------------------------------------------------------------------
 *
 * hosts.h
 *	  The hosts of the redirect server, in the order in which they are tried.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_HOSTS_H
#define TCS_HOSTS_H

#include "storage/lwlock.h"

#include "redirect/redirect_server.h"

/* One place to connect to.  NULL: libpq's default. */
typedef struct TcsHost
{
	const char *name;
	const char *address;
	const char *port;
	int			number;			/* in the server's list */
} TcsHost;

/* A walk over all of them. */
typedef struct TcsHostWalk TcsHostWalk;

extern TcsHostWalk *tcs_hosts_begin(const TcsServer *server);
extern const TcsHost *tcs_hosts_next(TcsHostWalk *walk, int64 deadline);
extern int64 tcs_hosts_share(const TcsHostWalk *walk, int64 deadline);
extern bool tcs_hosts_has_several(const TcsHostWalk *walk);
extern void tcs_hosts_note_silent(TcsHostWalk *walk);
extern void tcs_hosts_note_primary(const TcsHostWalk *walk);

extern Size tcs_hosts_shmem_size(void);
extern void tcs_hosts_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_HOSTS_H */
