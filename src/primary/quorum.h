/*-------------------------------------------------------------------------
 *
 * quorum.h
 *	  What a quorum of the cluster has confirmed to its primary.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_QUORUM_H
#define TCS_QUORUM_H

#include "storage/lwlock.h"

#include "base/tcs.h"

/* Can synchronous_standby_names tell who the primary is?  If not, why? */
typedef enum TcsQuorumState
{
	TCS_QUORUM_USABLE,
	TCS_QUORUM_NONE,			/* there are no synchronous standbys */
	TCS_QUORUM_ANYBODY,			/* "*": nobody knows how many there are */
	TCS_QUORUM_SPLIT,			/* two sides could both form one */
	TCS_QUORUM_NAMESAKES,		/* two standbys of one name */
	TCS_QUORUM_RELOADING,		/* it may be another one in a moment */
	TCS_QUORUM_NOT_TOLD			/* by a primary of an older version */
} TcsQuorumState;

/* A look at the quorum of this primary. */
typedef struct TcsQuorum
{
	TcsQuorumState state;
	uint32		config;			/* changes with synchronous_standby_names */
	XLogRecPtr	flushed;		/* by a quorum, this server included; 0: none */
} TcsQuorum;

/* What synchronous_standby_names says, and who of them is there. */
typedef struct TcsQuorumConfig
{
	int			standbys;		/* names, each once; -1: "*" is one of them */
	int			needed;			/* standbys that have to confirm */
	bool		first;			/* those that come first; else any */
	int			connected;		/* standbys that could confirm now */
} TcsQuorumConfig;

/* How a wait for it ended. */
typedef enum TcsQuorumResult
{
	TCS_QUORUM_CONFIRMED,
	TCS_QUORUM_TIMEOUT,
	TCS_QUORUM_DISABLED,		/* tcs was switched off */
	TCS_QUORUM_RELAXED,			/* the emergency valve was opened */
	TCS_QUORUM_REFUSED
} TcsQuorumResult;

extern bool tcs_quorum_config(TcsQuorumConfig *config);
extern void tcs_quorum_look(TcsQuorum *quorum);
extern XLogRecPtr tcs_quorum_confirmed(void);
extern void tcs_quorum_note_confirmed(XLogRecPtr flushed);
extern XLogRecPtr tcs_quorum_start_round(void);
extern TcsQuorumResult tcs_quorum_wait(XLogRecPtr upto, int64 deadline,
									   TcsQuorum *quorum);
extern const char *tcs_quorum_problem(TcsQuorumState state);

extern Size tcs_quorum_shmem_size(void);
extern void tcs_quorum_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_QUORUM_H */
