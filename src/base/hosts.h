/*-------------------------------------------------------------------------
 *
 * hosts.h
 *	  The hosts of a connection string, in the order in which they are tried.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_HOSTS_H
#define TCS_HOSTS_H

#include "storage/lwlock.h"

#include "base/tcs.h"

/* The hosts as libpq is told them; NULL: not at all. */
typedef struct TcsHostLists
{
	const char *host;
	const char *hostaddr;
	const char *port;
} TcsHostLists;

/* One place to connect to.  NULL: libpq's default. */
typedef struct TcsHost
{
	const char *name;
	const char *address;
	const char *port;
	int			number;			/* in the list */
} TcsHost;

/* A walk over all of them. */
typedef struct TcsHostWalk TcsHostWalk;

extern TcsHostWalk *tcs_hosts_begin(const TcsHostLists *lists);
extern const TcsHost *tcs_hosts_next(TcsHostWalk *walk, int64 deadline);
extern int64 tcs_hosts_share(const TcsHostWalk *walk, int64 deadline);
extern bool tcs_hosts_has_several(const TcsHostWalk *walk);
extern void tcs_hosts_note_silent(TcsHostWalk *walk);
extern void tcs_hosts_note_primary(const TcsHostWalk *walk);

#define TCS_HOST_PARAMS	3

extern bool tcs_host_is_default(const TcsHost *host);
extern bool tcs_host_is_param(const char *keyword);
extern int	tcs_host_add_params(const TcsHost *host, const char **keywords,
								const char **values, int n);

extern Size tcs_hosts_shmem_size(void);
extern void tcs_hosts_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_HOSTS_H */
