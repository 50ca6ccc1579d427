/*-------------------------------------------------------------------------
 *
 * write_level.c
 *	  Write levels: what a commit waits for.
 *
 * NOTES
 *	  A write level is a value of synchronous_commit with a promise: what
 *	  synchronous_standby_names cannot give is refused, where synchronous_commit
 *	  alone would just not wait.  It is set in PRE_COMMIT, after deferred
 *	  triggers, where an error is an ordinary rollback, for the rest of the
 *	  transaction: the end of the transaction, whichever it is, puts back what
 *	  the session had.  A savepoint cannot be open then.
 *
 *	  A hint of a statement that is alone in its transaction stands in place of the
 *	  setting, and can be weaker.  Each assignment of the setting gives its value a
 *	  number, which core keeps with the value in "extra".  So a value that the
 *	  statement itself sets counts, and when core takes it back, the hint counts
 *	  again.
 *
 *	  CALL and DO can make several transactions.  What they ask for is kept in
 *	  their frames (statement/hook_frames.h).  When one transaction ends, it is
 *	  handed to the next one.
 *
 *	  What gets its xid after PRE_COMMIT has no level: NOTIFY alone, which is not
 *	  replicated, and what other libraries write in a callback of theirs that
 *	  comes after ours.
 *
 *	  Two settings speak of one thing.  A standing synchronous_commit (file, role,
 *	  start-up options) gives way to the level, in both directions.  One that was
 *	  SET in the session counts if it is stronger, so that neither of two who
 *	  speak for the client is weakened by the other.  What rules require only
 *	  raises.
 *
 *	  A wait for standbys that is cancelled leaves a transaction committed here
 *	  and perhaps not there, and so does the one that core ends because
 *	  synchronous_standby_names has become empty, of which it says nothing.  Core
 *	  moves the confirmed position, which only grows, before it releases anybody.
 *	  So the commit callback looks whether that has reached the commit record; if
 *	  not, the wait was cut short, by whatever it was.  That is the present state
 *	  and not that of the end of the wait: what was confirmed in between is not
 *	  counted, and nothing is wrong with it.
 *
 *	  Core waits if WAL was written before the commit record and an xid was
 *	  assigned, so we look at both in PRE_COMMIT.  In the commit callback itself
 *	  nothing throws and nothing is allocated: an error there is a PANIC.
 *
 *	  Of PREPARE TRANSACTION only the beginning of its record is known to us
 *	  afterwards; a standby that has confirmed a part of the record is taken for
 *	  one that has all of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/level.h"
#include "base/settings.h"
#include "base/xact.h"
#include "session/session_token.h"
#include "write/write_level.h"

/* Counters of one level; all atomic. */
typedef struct TcsWriteCounters
{
	pg_atomic_uint64 commits;
	pg_atomic_uint64 waited;
	pg_atomic_uint64 cancelled;
	pg_atomic_uint64 refused;
} TcsWriteCounters;

typedef struct TcsWriteShared
{
	TcsWriteCounters level[TCS_WRITE_LEVEL_COUNT];
	pg_atomic_uint64 reset_time;	/* a TimestampTz; atomic */
} TcsWriteShared;

static TcsWriteShared *shared = NULL;

int			tcs_write_level = TCS_WRITE_DEFAULT;
TcsWriteLevel tcs_write_in_force = TCS_WRITE_DEFAULT;
bool		tcs_write_is_ending = false;

/* What was asked for in this transaction. */
static TcsWriteAsked asked = {0};

/* Number of the value of the setting, and the last one that was given. */
static uint64 value_number = 0;
static uint64 last_value_number = 0;

/* The commit under way, from PRE_COMMIT on. */
static TcsWriteLevel ending_level = TCS_WRITE_DEFAULT;
static int	ending_mode = SYNC_REP_NO_WAIT; /* what core waits for */

static const struct config_enum_entry write_level_options[] = {
	{"default", TCS_WRITE_DEFAULT, false},
	{"eventual", TCS_WRITE_EVENTUAL, false},
	{"session", TCS_WRITE_SESSION, false},
	{"quorum", TCS_WRITE_QUORUM, false},
	{"strong", TCS_WRITE_STRONG, false},
	{NULL, 0, false}
};

Size
tcs_write_shmem_size(void)
{
	return sizeof(TcsWriteShared);
}

void
tcs_write_shmem_init(void *ptr, LWLock *lock, bool found)
{
	shared = ptr;
	if (found)
		return;

	for (int i = 0; i < TCS_WRITE_LEVEL_COUNT; i++)
	{
		TcsWriteCounters *counters = &shared->level[i];

		pg_atomic_init_u64(&counters->commits, 0);
		pg_atomic_init_u64(&counters->waited, 0);
		pg_atomic_init_u64(&counters->cancelled, 0);
		pg_atomic_init_u64(&counters->refused, 0);
	}
	pg_atomic_init_u64(&shared->reset_time, (uint64) GetCurrentTimestamp());
}

const char *
tcs_write_level_name(TcsWriteLevel level)
{
	for (const struct config_enum_entry *e = write_level_options; e->name; e++)
	{
		if (e->val == (int) level)
			return e->name;
	}
	return "unknown";
}

/* Level of a name; false for unknown ones. */
bool
tcs_write_level_by_name(const char *name, TcsWriteLevel *level)
{
	for (const struct config_enum_entry *e = write_level_options; e->name; e++)
	{
		if (pg_strcasecmp(e->name, name) == 0)
		{
			*level = (TcsWriteLevel) e->val;
			return true;
		}
	}
	return false;
}

/* The names of all levels but "default", which asks for nothing. */
const char *
tcs_write_level_names_hint(void)
{
	return tcs_option_names_hint(write_level_options, 1U << TCS_WRITE_DEFAULT);
}

const char *
tcs_write_synchronous_commit(TcsWriteLevel level)
{
	switch (level)
	{
		case TCS_WRITE_EVENTUAL:
			return "off";
		case TCS_WRITE_SESSION:
			return "local";
		case TCS_WRITE_QUORUM:
			return "on";
		case TCS_WRITE_STRONG:
			return "remote_apply";
		case TCS_WRITE_DEFAULT:
		case TCS_WRITE_LEVEL_COUNT:
			break;
	}
	return NULL;
}

/* The same as a number, of which the greater is the stronger. */
static int
commit_value(TcsWriteLevel level)
{
	switch (level)
	{
		case TCS_WRITE_EVENTUAL:
			return SYNCHRONOUS_COMMIT_OFF;
		case TCS_WRITE_SESSION:
			return SYNCHRONOUS_COMMIT_LOCAL_FLUSH;
		case TCS_WRITE_QUORUM:
			return SYNCHRONOUS_COMMIT_REMOTE_FLUSH;
		case TCS_WRITE_STRONG:
			return SYNCHRONOUS_COMMIT_REMOTE_APPLY;
		case TCS_WRITE_DEFAULT:
		case TCS_WRITE_LEVEL_COUNT:
			break;
	}
	return -1;
}

/* The setting, or the hint that stands in its place. */
static TcsWriteLevel
chosen_level(void)
{
	if (asked.instead_of != 0 && asked.instead_of == value_number)
		return asked.hinted;
	return (TcsWriteLevel) tcs_write_level;
}

static void
reckon_in_force(void)
{
	tcs_write_in_force = Max(chosen_level(), asked.level);
}

/* Number the value. */
static bool
check_write_level(int *newval, void **extra, GucSource source)
{
	uint64	   *number = tcs_guc_malloc_compat(sizeof(uint64));

	if (number == NULL)
		return false;
	*number = ++last_value_number;
	*extra = number;
	return true;
}

static void
assign_write_level(int newval, void *extra)
{
	/* core sets the variable only afterwards */
	tcs_write_level = newval;
	value_number = extra ? *(uint64 *) extra : 0;
	reckon_in_force();
}

void
tcs_write_define_setting(void)
{
	DefineCustomEnumVariable("tcs.write_level",
							 "Sets what a commit waits for.",
							 "A level that synchronous_standby_names cannot give is refused; \"default\" leaves it to synchronous_commit.",
							 &tcs_write_level, TCS_WRITE_DEFAULT,
							 write_level_options, PGC_USERSET, 0,
							 check_write_level, assign_write_level, NULL);
}

TcsWriteLevel
tcs_write_level_in_force(void)
{
	return tcs_write_in_force;
}

/*
 * This process may have read the setting before or after the checkpointer,
 * which tells all others whether to wait; both have to say so.
 */
const char *
tcs_write_problem(TcsWriteLevel level)
{
	if (level < TCS_WRITE_QUORUM)
		return NULL;
	if (max_wal_senders == 0)
		return "Commits wait for no standby, since \"max_wal_senders\" is 0.";
	if (SyncRepConfig == NULL || !tcs_standbys_defined_compat())
		return "Commits wait for no standby, since \"synchronous_standby_names\" is empty.";
	return NULL;
}

/* Refuse a level that this server cannot give; rule_id is who asks, or 0. */
static void
require_available(TcsWriteLevel level, int rule_id)
{
	const char *problem = tcs_write_problem(level);

	if (problem == NULL)
		return;
	pg_atomic_fetch_add_u64(&shared->level[level].refused, 1);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot commit at write level \"%s\"", tcs_write_level_name(level)),
			 errdetail("%s", problem),
			 errhint("Name the standbys in \"synchronous_standby_names\", or choose write level \"session\" or \"eventual\"."),
			 rule_id != 0 && level > chosen_level() ?
			 errcontext("write level required by rule %d", rule_id) : 0));
}

/* Do levels count here?  Only for sessions of clients. */
static bool
levels_count_here(void)
{
	return tcs_enabled && tcs_is_client_backend();
}

void
tcs_write_require(TcsWriteLevel level, int rule_id)
{
	/* first, since who catches the error has not written */
	if (levels_count_here() && !RecoveryInProgress())
		require_available(level, rule_id);
	if (level > asked.level)
	{
		asked.level = level;
		asked.rule_id = rule_id;
		reckon_in_force();
		tcs_write_is_ending = true;
	}
}

TcsWriteAsked
tcs_write_asked_by_hint(TcsWriteLevel level, bool alone)
{
	TcsWriteAsked by_hint = {0};

	if (level == TCS_WRITE_DEFAULT || !levels_count_here())
		return by_hint;
	/* a floor: a function or trigger of the statement must not take it back */
	by_hint.level = level;
	if (alone)
	{
		/* it can also be lower than what the session has SET */
		by_hint.hinted = level;
		by_hint.instead_of = value_number;
	}
	return by_hint;
}

void
tcs_write_by_hint(TcsWriteLevel level, bool alone)
{
	TcsWriteAsked by_hint = tcs_write_asked_by_hint(level, alone);

	/* on a standby as well: a procedure can go on when that is a primary */
	tcs_write_require(by_hint.level, 0);
	asked.hinted = by_hint.hinted;
	asked.instead_of = by_hint.instead_of;
	reckon_in_force();
}

/* Was synchronous_commit SET in this session? */
static bool
was_set_here(void)
{
	static struct config_generic *setting = NULL;

	if (setting == NULL)
	{
		int			n;
		struct config_generic **settings = tcs_all_settings_compat(&n);

		for (int i = 0; i < n && setting == NULL; i++)
		{
			if (strcmp(settings[i]->name, "synchronous_commit") == 0)
				setting = settings[i];
		}
		if (setting == NULL)
			elog(ERROR, "setting synchronous_commit not found");
	}
	return setting->source == PGC_S_SESSION;
}

/* Set synchronous_commit for the rest of the transaction; throws. */
static void
set_synchronous_commit(TcsWriteLevel level)
{
	TcsWriteLevel chosen = chosen_level();
	int			value = commit_value(level);

	/* what may only be raised */
	if ((chosen < level || was_set_here()) && synchronous_commit >= value)
		return;
	if (synchronous_commit == value)
		return;
	(void) set_config_option("synchronous_commit", tcs_write_synchronous_commit(level),
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, 0, false);
}

/* What core waits for, by the present synchronous_commit. */
static int
wait_mode(void)
{
	if (!SyncRepRequested())
		return SYNC_REP_NO_WAIT;
	switch (synchronous_commit)
	{
		case SYNCHRONOUS_COMMIT_REMOTE_WRITE:
			return SYNC_REP_WAIT_WRITE;
		case SYNCHRONOUS_COMMIT_REMOTE_FLUSH:
			return SYNC_REP_WAIT_FLUSH;
		case SYNCHRONOUS_COMMIT_REMOTE_APPLY:
			return SYNC_REP_WAIT_APPLY;
		default:
			return SYNC_REP_NO_WAIT;
	}
}

/* Something is about to be committed or prepared at this level. */
static void
begin_ending(TcsWriteLevel level)
{
	/* first, so that an abort forgets the level */
	tcs_write_is_ending = true;
	ending_level = level;
	if (level != TCS_WRITE_DEFAULT)
	{
		require_available(level, asked.rule_id);
		set_synchronous_commit(level);
	}
	ending_mode = tcs_standbys_defined_compat() ? wait_mode() : SYNC_REP_NO_WAIT;
}

/*
 * Before the commit or prepare record; an error here is an ordinary rollback.
 */
void
tcs_write_before_commit(XactEvent event)
{
	if (event == XACT_EVENT_PRE_COMMIT &&
		!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	begin_ending(levels_count_here() ? tcs_write_in_force : TCS_WRITE_DEFAULT);
	/* of temporary and unlogged tables alone, core waits for nobody */
	if (event == XACT_EVENT_PRE_COMMIT && XactLastRecEnd == InvalidXLogRecPtr)
		ending_mode = SYNC_REP_NO_WAIT;
}

/* Has a position been confirmed?  Neither throws nor allocates. */
static bool
is_confirmed(XLogRecPtr upto, int mode)
{
	bool		confirmed;

	/* only grows, so that an old value is no reason to believe too much */
	if (((volatile WalSndCtlData *) WalSndCtl)->lsn[mode] >= upto)
		return true;
	LWLockAcquire(SyncRepLock, LW_SHARED);
	confirmed = WalSndCtl->lsn[mode] >= upto;
	LWLockRelease(SyncRepLock);
	return confirmed;
}

/* A wait of core up to a position has ended. */
static void
count_wait(XLogRecPtr upto, int mode)
{
	TcsWriteCounters *counters = &shared->level[ending_level];

	if (mode == SYNC_REP_NO_WAIT)
		return;
	if (ending_level != TCS_WRITE_DEFAULT)
		pg_atomic_fetch_add_u64(&counters->waited, 1);
	if (!is_confirmed(upto, mode))
		pg_atomic_fetch_add_u64(&counters->cancelled, 1);
}

static void
count_commit(XLogRecPtr end)
{
	if (ending_level != TCS_WRITE_DEFAULT)
		pg_atomic_fetch_add_u64(&shared->level[ending_level].commits, 1);
	count_wait(end, ending_mode);
}

static void
forget_ending(void)
{
	ending_level = TCS_WRITE_DEFAULT;
	ending_mode = SYNC_REP_NO_WAIT;
}

/*
 * At the end of a transaction, if something is to be done.  "next" is what the
 * statement that goes on asks of the next transaction.  Nothing here may throw.
 */
void
tcs_write_transaction_ended(XactEvent event, const TcsWriteAsked *next)
{
	if (event == XACT_EVENT_COMMIT)
		count_commit(XactLastCommitEnd);
	else if (event == XACT_EVENT_PREPARE)
		count_wait(ProcLastRecPtr + 1, Min(ending_mode, SYNC_REP_WAIT_FLUSH));

	forget_ending();
	asked = *next;
	reckon_in_force();
	/* the end of the next one has to forget it */
	tcs_write_is_ending = asked.level != TCS_WRITE_DEFAULT;
}

/*
 * Before COMMIT PREPARED or ROLLBACK PREPARED, which core has wait for standbys
 * as well.  The level is that of this session: nobody remembers at which one the
 * transaction was prepared.  A rollback has none, and is never refused.
 */
void
tcs_write_before_prepared(bool is_commit)
{
	begin_ending(is_commit && levels_count_here() ?
				 tcs_write_in_force : TCS_WRITE_DEFAULT);
}

/* After it.  The transaction around it, which writes nothing, is to come. */
void
tcs_write_after_prepared(bool is_commit)
{
	if (is_commit)
		count_commit(XactLastRecEnd);
	else
		count_wait(XactLastRecEnd, Min(ending_mode, SYNC_REP_WAIT_FLUSH));
	forget_ending();
}

/* Sums since the last reset. */
void
tcs_write_stats_get(TcsWriteStats sums[TCS_WRITE_LEVEL_COUNT], TimestampTz *reset_time)
{
	for (int i = 0; i < TCS_WRITE_LEVEL_COUNT; i++)
	{
		sums[i].commits = pg_atomic_read_u64(&shared->level[i].commits);
		sums[i].waited = pg_atomic_read_u64(&shared->level[i].waited);
		sums[i].cancelled = pg_atomic_read_u64(&shared->level[i].cancelled);
		sums[i].refused = pg_atomic_read_u64(&shared->level[i].refused);
	}
	*reset_time = (TimestampTz) pg_atomic_read_u64(&shared->reset_time);
}

void
tcs_write_stats_reset(void)
{
	for (int i = 0; i < TCS_WRITE_LEVEL_COUNT; i++)
	{
		(void) pg_atomic_exchange_u64(&shared->level[i].commits, 0);
		(void) pg_atomic_exchange_u64(&shared->level[i].waited, 0);
		(void) pg_atomic_exchange_u64(&shared->level[i].cancelled, 0);
		(void) pg_atomic_exchange_u64(&shared->level[i].refused, 0);
	}
	(void) pg_atomic_exchange_u64(&shared->reset_time, (uint64) GetCurrentTimestamp());
}
