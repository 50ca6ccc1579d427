/*-------------------------------------------------------------------------
 *
 * lease_grant.h
 *	  Read leases: granted by the primary, waited for by its commits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_LEASE_GRANT_H
#define TCS_LEASE_GRANT_H

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#include "base/tcs.h"

#define TCS_LEASE_HOLDERS	16

/* What a standby says with its question for a lease. */
typedef enum TcsLeaseQuestion
{
	TCS_LEASE_FIRST,			/* I hold nothing */
	TCS_LEASE_NEXT,				/* I have what you told last */
	TCS_LEASE_DROP				/* I hold nothing, and want nothing */
} TcsLeaseQuestion;

/* What it is answered. */
typedef struct TcsLeaseGrant
{
	int64		duration;		/* us; 0: not granted */
	bool		is_new;			/* not a renewal */
	int64		longest;		/* us: no lease of this server lasts longer */
} TcsLeaseGrant;

/* A holder, for the view. */
typedef struct TcsLeaseHolderInfo
{
	int			pid;			/* 0: its connection is gone */
	char		application_name[NAMEDATALEN];
	TimestampTz since;
	int64		left;			/* us until it expires */
	XLogRecPtr	told;
	XLogRecPtr	reached;
	uint64		grants;
	uint64		renewals;
	uint64		commits;		/* that waited for it */
	int64		longest_wait;	/* us */
} TcsLeaseHolderInfo;

extern void tcs_lease_before_commit(void);
extern void tcs_lease_after_commit(XLogRecPtr end);

extern void tcs_lease_take_question(TcsLeaseQuestion question, const char *name,
									TcsLeaseGrant *grant);
extern void tcs_lease_note_told(XLogRecPtr lsn);
extern int64 tcs_lease_longest(void);
extern void tcs_lease_note_longest(int64 longest, int64 asked_at);
extern void tcs_lease_note_promotion(void);
extern int	tcs_lease_holders(TcsLeaseHolderInfo *infos, int max);

extern Size tcs_lease_shmem_size(void);
extern void tcs_lease_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_LEASE_GRANT_H */
