/*-------------------------------------------------------------------------
 *
 * shmem.c
 *	  Shared memory of tcs: who needs how much, and when it is set up.
 *
 * NOTES
 *	  Each object belongs to the module that declares it; nobody else sees its
 *	  fields.  The module is handed a lock with it, whether it needs one or not.
 *	  After a crash the postmaster sets shared memory up again, so all knowledge of
 *	  freshness starts as unknown.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "base/hosts.h"
#include "base/relax.h"
#include "base/stats.h"
#include "base/switch.h"
#include "primary/acknowledged.h"
#include "primary/commits_in_flight.h"
#include "primary/lease_grant.h"
#include "primary/quorum.h"
#include "primary/read_index.h"
#include "redirect/connection_budget.h"
#include "redirect/outage.h"
#include "shmem.h"
#include "standby/freshness.h"
#include "standby/lease_held.h"
#include "standby/replay.h"
#include "standby/wait_queue.h"
#include "write/write_level.h"

typedef struct TcsShmemModule
{
	const char *name;			/* of the object, and of its LWLock's tranche */
	Size		(*size) (void);
	void		(*init) (void *ptr, LWLock *lock, bool found);
} TcsShmemModule;

static const TcsShmemModule modules[] = {
	{"tcs_switch", tcs_switch_shmem_size, tcs_switch_shmem_init},
	{"tcs_fresh", tcs_fresh_shmem_size, tcs_fresh_shmem_init},
	{"tcs_queue", tcs_queue_shmem_size, tcs_queue_shmem_init},
	{"tcs_acknowledged", tcs_acknowledged_shmem_size, tcs_acknowledged_shmem_init},
	{"tcs_commits", tcs_commits_shmem_size, tcs_commits_shmem_init},
	{"tcs_lease", tcs_lease_shmem_size, tcs_lease_shmem_init},
	{"tcs_held", tcs_held_shmem_size, tcs_held_shmem_init},
	{"tcs_quorum", tcs_quorum_shmem_size, tcs_quorum_shmem_init},
	{"tcs_readindex", tcs_readindex_shmem_size, tcs_readindex_shmem_init},
	{"tcs_replay", tcs_replay_shmem_size, tcs_replay_shmem_init},
	{"tcs_relax", tcs_relax_shmem_size, tcs_relax_shmem_init},
	{"tcs_budget", tcs_budget_shmem_size, tcs_budget_shmem_init},
	{"tcs_hosts", tcs_hosts_shmem_size, tcs_hosts_shmem_init},
	{"tcs_outage", tcs_outage_shmem_size, tcs_outage_shmem_init},
	{"tcs_stats", tcs_stats_shmem_size, tcs_stats_shmem_init},
	{"tcs_write", tcs_write_shmem_size, tcs_write_shmem_init},
};

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static void
tcs_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	for (int i = 0; i < lengthof(modules); i++)
	{
		RequestAddinShmemSpace(MAXALIGN(modules[i].size()));
		RequestNamedLWLockTranche(modules[i].name, 1);
	}
}

static void
tcs_shmem_startup(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < lengthof(modules); i++)
	{
		bool		found;
		void	   *ptr;

		ptr = ShmemInitStruct(modules[i].name, modules[i].size(), &found);
		modules[i].init(ptr, &GetNamedLWLockTranche(modules[i].name)->lock, found);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
tcs_shmem_install_hooks(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = tcs_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = tcs_shmem_startup;
}
