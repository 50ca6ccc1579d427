/*-------------------------------------------------------------------------
 *
 * write_level.h
 *	  Write levels: what a commit waits for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_WRITE_LEVEL_H
#define TCS_WRITE_LEVEL_H

#include "access/xact.h"
#include "datatype/timestamp.h"
#include "storage/lwlock.h"
#include "utils/guc.h"

#include "base/tcs.h"

/* In order of strength. */
typedef enum TcsWriteLevel
{
	TCS_WRITE_DEFAULT,			/* as synchronous_commit says */
	TCS_WRITE_EVENTUAL,
	TCS_WRITE_SESSION,
	TCS_WRITE_QUORUM,
	TCS_WRITE_STRONG,
	TCS_WRITE_LEVEL_COUNT
} TcsWriteLevel;

/*
 * What a statement asks of the commits of its transactions.  That of a CALL or DO
 * holds in each transaction that it makes; see tcs_frames_write_asked().
 */
typedef struct TcsWriteAsked
{
	TcsWriteLevel level;		/* at least this */
	int			rule_id;		/* who asks; 0: a hint */
	TcsWriteLevel hinted;		/* in place of a value of tcs.write_level */
	uint64		instead_of;		/* the number of that value; 0: of none */
} TcsWriteAsked;

/* Sums for one write level. */
typedef struct TcsWriteStats
{
	uint64		commits;
	uint64		waited;			/* of them, for standbys */
	uint64		cancelled;		/* waits that ended without the confirmation */
	uint64		refused;
} TcsWriteStats;

/* Setting tcs.write_level. */
extern int	tcs_write_level;

/* Strongest of the setting and of what rules require; read at each commit. */
extern TCS_LOCAL TcsWriteLevel tcs_write_in_force;

/* Has this transaction something to be done at its end?  Read at each. */
extern TCS_LOCAL bool tcs_write_is_ending;

/*
 * For a statement that writes what a rule is for: the transaction shall be
 * committed at this level at least.  Throws 55000 if this server cannot; to be
 * called before the statement runs.  rule_id is for the message, 0: none.
 *
 * Only ever raises: neither the level that the session is at, nor an earlier
 * call, nor synchronous_commit is lowered by it.  Forgotten at the end of the
 * transaction, also of one that is prepared; not when a subtransaction is
 * rolled back.
 */
extern void tcs_write_require(TcsWriteLevel level, int rule_id);

/*
 * For a statement with a hint: its transaction shall be committed at this level,
 * if it is alone in it; else at this level at least.  The first function tells what
 * the hint asks for, the second one asks for it.
 */
extern TcsWriteAsked tcs_write_asked_by_hint(TcsWriteLevel level, bool alone);
extern void tcs_write_by_hint(TcsWriteLevel level, bool alone);

/* What the transaction would be committed at by now. */
extern TcsWriteLevel tcs_write_level_in_force(void);

extern const char *tcs_write_level_name(TcsWriteLevel level);
extern bool tcs_write_level_by_name(const char *name, TcsWriteLevel *level);
extern const char *tcs_write_level_names_hint(void);

/* Can this server give a level?  If not, why; for an error's detail. */
extern const char *tcs_write_problem(TcsWriteLevel level);

/* The value of synchronous_commit for a level; NULL for "default". */
extern const char *tcs_write_synchronous_commit(TcsWriteLevel level);

extern void tcs_write_define_setting(void);
extern void tcs_write_before_commit(XactEvent event);
extern void tcs_write_transaction_ended(XactEvent event, const TcsWriteAsked *next);
extern void tcs_write_before_prepared(bool is_commit);
extern void tcs_write_after_prepared(bool is_commit);

extern void tcs_write_stats_get(TcsWriteStats sums[TCS_WRITE_LEVEL_COUNT],
								TimestampTz *reset_time);
extern void tcs_write_stats_reset(void);

extern Size tcs_write_shmem_size(void);
extern void tcs_write_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_WRITE_LEVEL_H */
