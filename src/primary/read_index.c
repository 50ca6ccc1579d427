/*-------------------------------------------------------------------------
 *
 * read_index.c
 *	  The read index: made on the primary, told to standbys.
 *
 * NOTES
 *	  The read index is a position that covers every commit acknowledged so
 *	  far, asynchronous ones included, and that standbys will reach without
 *	  any further write.  There are two:
 *
 *	  What a standby is told covers what is *acknowledged*: the largest end of
 *	  a commit that its backend has come back from, flushed if it was
 *	  asynchronous.  Each process notes that end in its commit callback, which
 *	  comes before its client is answered.  WAL of others that are still under
 *	  way is not in it, so nobody waits for it to be flushed, sent and replayed.
 *
 *	  What a session's own token needs covers what is *visible*, which includes
 *	  commits on their way between ProcArrayEndTransaction() and the callback:
 *	  the end of inserted WAL, folded back when it points behind a page header
 *	  that nobody has sent yet, and flushed.
 *
 *	  The raw insert position may stay out of reach, and the raw flush position
 *	  misses asynchronous commits or ends within a record.
 *
 *	  An answer is one line of text, since it travels either as the value of a
 *	  setting over a replication connection (which knows no other statement
 *	  that could carry it) or as a column:
 *
 *		version flags sysid lsn library tli:begin[,tli:begin ...] end
 *			[ quorum:config:flushed:round][ lease=longest:duration:new]
 *
 *	  "end" is the end of the primary's WAL on disk.  The read index may go back:
 *	  it is the end of some commit, and who has noted that, or the quorum's
 *	  position, is forgotten by a restart.  A standby also replays WAL beyond it.
 *	  The end of WAL on disk can do neither.  A primary streams only what it has
 *	  flushed, so nobody has received more of its timeline than that.  It outlives a
 *	  crash: the flushed part ends behind a record or at the end of a page, and
 *	  recovery goes on there, also if a record was cut at that page.  So this tells
 *	  a standby of an answer that is an old one, and of a server that is a copy of
 *	  an earlier state.  The exception is a primary that has lost WAL which it had
 *	  flushed (fsync = off); its standbys are then ahead of it, and wrong.
 *
 *	  The last part is for those who ask for it: the state of the quorum
 *	  (TcsQuorumState), its configuration, what it has flushed, and the position
 *	  behind which a round was begun (see primary/quorum.c).
 *
 *	  "lease" says how long read leases last at most, and which one was granted (see
 *	  primary/lease_grant.c).  Without it there are none.
 *
 *	  Readers must ignore what follows after the fields they know.
 *
 *	  The worker of a standby holds one of max_wal_senders, and replication goes
 *	  first.  A server that refuses a replication connection because they are
 *	  used up counts that.  Each worker that was connected before gets an error
 *	  instead of its next answer, and leaves (see standby/worker.c).  All leave: the
 *	  server does not know how many connections are needed.  It knows of those
 *	  that have a physical slot, and keeps room for them.
 *
 *	  A connection takes its place before it authenticates, so anybody who reaches
 *	  the port can use the places up for a moment.  No worker leaves for that, as
 *	  places are free again soon, and a standby that was refused tries again.  If
 *	  no place becomes free for long, workers leave all the same: a standby may be
 *	  kept out by them together with who holds the rest.
 *
 *	  Who asks is remembered by process, for the view tcs.standbys.  A slot is
 *	  written by the process that it belongs to, under the lock, and cleared at
 *	  its exit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <inttypes.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "common/ip.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/settings.h"
#include "primary/acknowledged.h"
#include "primary/asker_settings.h"
#include "primary/lease_grant.h"
#include "primary/quorum.h"
#include "primary/read_index.h"
#include "primary/smart_shutdown.h"
#include "primary/walsender_places.h"

#define TCS_MAX_ASKERS		64
#define TCS_ASKER_ANSWERS	64

/* Answers kept for the estimate of an asker's staleness are this far apart. */
#define TCS_ASKER_SPACING	100000

/* Protected by the LWLock tcs_readindex, as is the whole array. */
typedef struct TcsAsker
{
	TcsAskerInfo info;			/* pid 0: free */
	int			next;			/* of the ring below */
	struct
	{
		int64		asked_at;
		XLogRecPtr	lsn;
	}			answers[TCS_ASKER_ANSWERS];
} TcsAsker;

typedef struct TcsReadIndex
{
	/*
	 * Replication connections that were refused for want of a walsender:
	 * while all were in use, and while others had a place that had not
	 * authenticated yet.  Atomic, only counted up, by processes that have no
	 * PGPROC.
	 */
	pg_atomic_uint32 refused;
	pg_atomic_uint32 crowded_out;

	TcsAsker	askers[TCS_MAX_ASKERS];
} TcsReadIndex;

static TcsReadIndex *shared = NULL;
static TcsAsker *askers = NULL;
static LWLock *askers_lock = NULL;
static TcsAsker *my_asker = NULL;

/* What shared->refused was when this walsender was asked first. */
static uint32 refused_before = 0;
static bool was_asked = false;

Size
tcs_readindex_shmem_size(void)
{
	return sizeof(TcsReadIndex);
}

void
tcs_readindex_shmem_init(void *ptr, LWLock *lock, bool found)
{
	shared = ptr;
	askers = shared->askers;
	askers_lock = lock;
	if (found)
		return;

	memset(shared, 0, sizeof(TcsReadIndex));
	pg_atomic_init_u32(&shared->refused, 0);
	pg_atomic_init_u32(&shared->crowded_out, 0);
}

/*
 * Make a read index of all that is visible.  Primary only; may write WAL out,
 * so it may take an fsync.
 *
 * The position must be read before it is folded back, and flushed after: the
 * flush of a position behind the end of the records would be complained about.
 */
TcsPosition
tcs_readindex_make(void)
{
	TcsPosition position;
	XLogRecPtr	lsn = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(lsn, wal_segment_size) == SizeOfXLogLongPHD)
		lsn -= SizeOfXLogLongPHD;
	else if (lsn % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		lsn -= SizeOfXLogShortPHD;

	if (GetFlushRecPtr(NULL) < lsn)
		XLogFlush(lsn);

	position.lsn = lsn;
	position.tli = GetWALInsertionTimeLine();
	return position;
}

/*
 * Make a read index of all that is acknowledged, and of what linearizable reads
 * may have returned already.  Primary only; writes WAL out
 * for asynchronous commits, and for what transactions without an xid have logged
 * (pruning), as one of these may be a COMMIT PREPARED.
 *
 * Who was answered before we were asked has noted its commit before that; the
 * messages in between are the memory barriers.  Positions only grow, so any
 * noted one also covers what was acknowledged before this server's start or
 * promotion; while there is none, all that is inserted covers that.
 */
static TcsPosition
make_acknowledged(void)
{
	XLogRecPtr	lsn = tcs_acknowledged();
	TcsPosition position;

	if (lsn == InvalidXLogRecPtr)
		return tcs_readindex_make();
	lsn = Max(lsn, tcs_quorum_confirmed());
	if (GetFlushRecPtr(NULL) < lsn)
		XLogFlush(lsn);

	position.lsn = lsn;
	position.tli = GetWALInsertionTimeLine();
	return position;
}

/*
 * An error ends a process: is it a replication connection that found no
 * walsender?  Called from emit_log_hook.
 *
 * InitProcess() raises that before there is a PGPROC, so no LWLock can be taken.
 * The workers' own connections do not count, or they would drive each other out.
 * A client that lies about its name harms nobody but itself.
 */
void
tcs_readindex_note_refused(int sqlstate)
{
	if (sqlstate == ERRCODE_TOO_MANY_CONNECTIONS && am_walsender &&
		MyProc == NULL && shared != NULL && !tcs_client_is_asker())
		pg_atomic_fetch_add_u32(tcs_walsenders_unused() > 0 ? &shared->crowded_out :
								&shared->refused, 1);
}

/*
 * Give way if somebody was refused since this walsender was asked first, or would
 * be soon.
 */
static void
yield_to_replication(void)
{
	uint32		refused = pg_atomic_read_u32(&shared->refused);
	uint32		crowded_out = pg_atomic_read_u32(&shared->crowded_out);
	NameData	slot;

	if (tcs_walsenders_standby_is_away(&slot))
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_CONNECTIONS),
				 errmsg("max_wal_senders has no room for replication slot \"%s\": the worker of tcs gives way to replication",
						NameStr(slot))));
	if (tcs_walsenders_are_crowded(crowded_out) || (was_asked && refused != refused_before))
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_CONNECTIONS),
				 errmsg("max_wal_senders is used up: the worker of tcs gives way to replication")));
	refused_before = refused;
	was_asked = true;
}

static void
forget_asker(int code, Datum arg)
{
	LWLockAcquire(askers_lock, LW_EXCLUSIVE);
	my_asker->info.pid = 0;
	LWLockRelease(askers_lock);
	my_asker = NULL;
}

/* The peer's address as pg_stat_replication shows it; empty for a socket. */
static void
copy_client_addr(char *buf, int size)
{
	SockAddr   *addr = &MyBEEntry->st_clientaddr;

	if (addr->addr.ss_family == AF_UNIX ||
		pg_getnameinfo_all(&addr->addr, addr->salen, buf, size, NULL, 0,
						   NI_NUMERICHOST) != 0)
		buf[0] = '\0';
}

/* The name of the standby that asks. */
static const char *
asker_name(void)
{
	const char *name = application_name ? application_name : "";

	if (strncmp(name, TCS_ASKER_PREFIX, strlen(TCS_ASKER_PREFIX)) == 0)
		name += strlen(TCS_ASKER_PREFIX);
	return name;
}

/* Find a slot for this process, which asks for the first time. */
static void
register_asker(void)
{
	TcsAsker   *slot = NULL;
	const char *name = asker_name();
	char		library[TCS_VERSION_LEN] = "";
	char		build[TCS_BUILD_LEN - 3] = "";
	int			token_version = 0;

	/*
	 * it is shown in databases of any encoding, but check_asker() has seen to
	 * that
	 */
	(void) sscanf(tcs_guc_asker(), "%15s %d (%60[^)])", library, &token_version, build);
	if (MyBackendType == B_WAL_SENDER)
		tcs_walsender_sleep_on_compat();

	LWLockAcquire(askers_lock, LW_EXCLUSIVE);
	for (int i = 0; i < TCS_MAX_ASKERS && slot == NULL; i++)
	{
		if (askers[i].info.pid == 0)
			slot = &askers[i];
	}
	if (slot)
	{
		memset(slot, 0, sizeof(*slot));
		slot->info.pid = MyProcPid;
		slot->info.token_version = Max(token_version, 0);
		snprintf(slot->info.library, sizeof(slot->info.library), build[0] ? "%s (%s)" : "%s",
				 library, build);
		strlcpy(slot->info.application_name, name, NAMEDATALEN);
		copy_client_addr(slot->info.client_addr, sizeof(slot->info.client_addr));
	}
	LWLockRelease(askers_lock);

	if (slot)
	{
		my_asker = slot;
		before_shmem_exit(forget_asker, (Datum) 0);
	}
}

/* Note that this process was told a position. */
static void
note_asker(XLogRecPtr lsn)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		asked_at = tcs_now();
	int			last;

	/*
	 * only nodes introduce themselves; a person who calls the function does
	 * not
	 */
	if (tcs_guc_asker()[0] == '\0')
		return;
	if (my_asker == NULL)
		register_asker();
	if (my_asker == NULL)
		return;					/* more than TCS_MAX_ASKERS: not shown */

	LWLockAcquire(askers_lock, LW_EXCLUSIVE);
	my_asker->info.last_asked = now;
	my_asker->info.last_answer = lsn;
	my_asker->info.questions++;
	last = (my_asker->next + TCS_ASKER_ANSWERS - 1) % TCS_ASKER_ANSWERS;
	if (asked_at - my_asker->answers[last].asked_at >= TCS_ASKER_SPACING)
	{
		my_asker->answers[my_asker->next].asked_at = asked_at;
		my_asker->answers[my_asker->next].lsn = lsn;
		my_asker->next = (my_asker->next + 1) % TCS_ASKER_ANSWERS;
	}
	LWLockRelease(askers_lock);
}

/* Copy what is known of the askers; returns how many. */
int
tcs_readindex_askers(TcsAskerInfo *infos, int max)
{
	int			n = 0;

	LWLockAcquire(askers_lock, LW_SHARED);
	for (int i = 0; i < TCS_MAX_ASKERS && n < max; i++)
	{
		if (askers[i].info.pid != 0)
			infos[n++] = askers[i].info;
	}
	LWLockRelease(askers_lock);
	return n;
}

/*
 * How stale a standby that has replayed a position can be, by the answers it
 * was given: the age of the newest one it has replayed.  False if none is
 * known.
 */
bool
tcs_readindex_asker_staleness(int pid, XLogRecPtr replayed, int64 *staleness)
{
	int64		newest = 0;

	LWLockAcquire(askers_lock, LW_SHARED);
	for (int i = 0; i < TCS_MAX_ASKERS; i++)
	{
		if (askers[i].info.pid != pid)
			continue;
		for (int j = 0; j < TCS_ASKER_ANSWERS; j++)
		{
			if (askers[i].answers[j].asked_at != 0 &&
				askers[i].answers[j].lsn <= replayed)
				newest = Max(newest, askers[i].answers[j].asked_at);
		}
	}
	LWLockRelease(askers_lock);
	*staleness = tcs_now() - newest;
	return newest != 0;
}

/*
 * What a quorum has confirmed, as part of an answer.
 *
 * The round is begun after the look: what it needs is not in there yet.
 */
static void
append_quorum(StringInfo buf, TcsQuestion question)
{
	TcsQuorum	quorum;
	XLogRecPtr	round = InvalidXLogRecPtr;

	tcs_quorum_look(&quorum);
	if (quorum.state == TCS_QUORUM_USABLE)
	{
		tcs_quorum_note_confirmed(quorum.flushed);
		if (question == TCS_ASK_ROUND)
			round = tcs_quorum_start_round();
	}
	appendStringInfo(buf, " %d:%x:%" PRIx64 ":%" PRIx64, (int) quorum.state,
					 quorum.config, quorum.flushed, round);
}

/* The question of a standby for a lease, if it is one. */
static bool
is_for_lease(TcsQuestion question, TcsLeaseQuestion *lease)
{
	switch (question)
	{
		case TCS_ASK_LEASE_FIRST:
			*lease = TCS_LEASE_FIRST;
			return true;
		case TCS_ASK_LEASE_NEXT:
			*lease = TCS_LEASE_NEXT;
			return true;
		case TCS_ASK_LEASE_DROP:
			*lease = TCS_LEASE_DROP;
			return true;
		case TCS_ASK_READ_INDEX:
		case TCS_ASK_QUORUM:
		case TCS_ASK_ROUND:
		case TCS_QUESTION_COUNT:
			break;
	}
	return false;
}

/* The answer to a standby, as palloc'd text. */
char *
tcs_readindex_answer(TcsQuestion question)
{
	StringInfoData buf;

	initStringInfo(&buf);
	if (RecoveryInProgress())
	{
		appendStringInfo(&buf, "%d standby %" PRIx64 " 0 %s 0:0 0",
						 TCS_ANSWER_VERSION, GetSystemIdentifier(), TCS_VERSION);
		note_asker(InvalidXLogRecPtr);
	}
	else
	{
		TcsLeaseGrant grant = {.longest = tcs_lease_longest()};
		TcsLeaseQuestion lease;
		bool		for_lease = is_for_lease(question, &lease);
		TcsPosition position;
		const TcsHistory *history;

		/* the lease first, then what was committed */
		if (for_lease)
			tcs_lease_take_question(lease, asker_name(), &grant);
		position = make_acknowledged();
		history = tcs_history_get(position.tli);
		appendStringInfo(&buf, "%d primary %" PRIx64 " %" PRIx64 " %s ",
						 TCS_ANSWER_VERSION, GetSystemIdentifier(), position.lsn,
						 TCS_VERSION);
		for (int i = 0; i < history->n && i < TCS_ANSWER_TIMELINES; i++)
			appendStringInfo(&buf, "%s%x:%" PRIx64, i > 0 ? "," : "",
							 history->timelines[i].tli, history->timelines[i].begin);
		/* after the read index was flushed, so it is not less */
		appendStringInfo(&buf, " %" PRIx64, GetFlushRecPtr(NULL));
		if (question == TCS_ASK_QUORUM || question == TCS_ASK_ROUND)
			append_quorum(&buf, question);
		if (for_lease || grant.longest > 0)
			appendStringInfo(&buf, TCS_LEASE_PART "%" PRIx64 ":%" PRIx64 ":%d",
							 grant.longest, grant.duration, grant.is_new);
		if (for_lease)
			tcs_lease_note_told(position.lsn);
		else
			note_asker(position.lsn);
	}
	return buf.data;
}

/*
 * The show hooks answer standbys only: walsenders, and connections that said at their
 * start that they ask.  For everybody else the settings are empty, so that nobody
 * makes the server write WAL by looking at them, as pg_settings does before it leaves
 * them out.
 */
static const char *
show_answer(TcsQuestion question)
{
	static char answer[TCS_ANSWER_MAXLEN];
	char	   *text;
	TcsLeaseQuestion lease;

	/* who looks at all settings wants no lease */
	if (is_for_lease(question, &lease) && tcs_guc_asker()[0] == '\0')
		return "";
	if (MyBackendType == B_WAL_SENDER)
		yield_to_replication();
	else
	{
		if (tcs_guc_asker()[0] == '\0' || !IsTransactionState())
			return "";
		/* a setting of the database may have made it another role */
		if (!superuser_arg(GetSessionUserId()) && !has_rolreplication(GetSessionUserId()))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied to ask for the read index"),
					 errdetail("Only roles with the REPLICATION attribute may ask for the read index.")));
		tcs_leave_if_stopping();
	}
	text = tcs_readindex_answer(question);

	strlcpy(answer, text, sizeof(answer));
	pfree(text);
	return answer;
}

static const char *
show_read_index(void)
{
	return show_answer(TCS_ASK_READ_INDEX);
}

static const char *
show_quorum(void)
{
	return show_answer(TCS_ASK_QUORUM);
}

static const char *
show_round(void)
{
	return show_answer(TCS_ASK_ROUND);
}

static const char *
show_lease_first(void)
{
	return show_answer(TCS_ASK_LEASE_FIRST);
}

static const char *
show_lease_next(void)
{
	return show_answer(TCS_ASK_LEASE_NEXT);
}

static const char *
show_lease_drop(void)
{
	return show_answer(TCS_ASK_LEASE_DROP);
}

/* By TcsQuestion: the show hooks of the settings by which it is asked. */
const GucShowHook tcs_readindex_show[TCS_QUESTION_COUNT] = {
	show_read_index, show_quorum, show_round, show_lease_first, show_lease_next, show_lease_drop
};
