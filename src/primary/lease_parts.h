/*-------------------------------------------------------------------------
 *
 * lease_parts.h
 *	  What the files of read leases share on the primary.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_LEASE_PARTS_H
#define TCS_LEASE_PARTS_H

#include "primary/lease_grant.h"

/* So long before it is used a longer duration is told to all standbys, in us. */
#define TCS_LEASE_NOTICE		10000000

/* Protected by the LWLock tcs_lease, as is the whole array. */
typedef struct TcsLeaseSlot
{
	int64		expires;		/* us; 0: free */
	int64		granted_at;		/* us; renewals since do not count */
	int			pid;			/* of the walsender; 0: it is gone */
	int			procno;			/* valid while pid is */
	XLogRecPtr	told;
	XLogRecPtr	reached;
	TcsLeaseHolderInfo info;	/* what only the view shows */
} TcsLeaseSlot;

typedef struct TcsLeases
{
	TcsLeaseSlot slots[TCS_LEASE_HOLDERS];

	/*
	 * Is a slot taken, or may a lease of a former primary be alive?  Set
	 * under the lock before a lease is written, cleared under the lock; read
	 * without it, after a full barrier.
	 */
	pg_atomic_uint32 in_use;

	/*
	 * no lease of this server, or of its predecessor, lasts longer; us;
	 * atomic
	 */
	pg_atomic_uint64 longest;

	/*
	 * Nothing is acknowledged before; us, 0: not known yet.  Atomic; set once
	 * by the first who finds that the server is a primary.
	 */
	pg_atomic_uint64 quiet_until;

	/* written at start-up only */
	int64		started_at;
	bool		had_file;		/* leases have been granted in this cluster */
	bool		was_standby;	/* this is not a primary that goes on */

	/* when a primary has told how long leases last; us, 0: never; atomic */
	pg_atomic_uint64 told_at;

	/*
	 * Leases of up to this may be granted: all standbys that can be promoted
	 * have been told that there are such.  Both under the lock.
	 */
	int64		usable;			/* us */
	int64		announced_at;	/* when "longest" became more */

	/*
	 * For each process, the end of the commit that it waits with; 0: none.
	 * Written by that process alone.
	 */
	pg_atomic_uint64 waits[FLEXIBLE_ARRAY_MEMBER];
} TcsLeases;

extern TCS_LOCAL TcsLeases *tcs_lease_state;
extern TCS_LOCAL LWLock *tcs_lease_lock;

/* in lease_shared.c */
extern bool tcs_lease_write_file(int64 longest, int64 usable, int elevel);
extern bool tcs_lease_announce(int64 longest, int elevel);
extern int64 tcs_lease_quiet_until(void);

#endif							/* TCS_LEASE_PARTS_H */
