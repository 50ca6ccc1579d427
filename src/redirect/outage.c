/*-------------------------------------------------------------------------
 *
 * outage.c
 *	  Redirects that fail: why, and since when.
 *
 * NOTES
 *	  The server log has a line when redirects begin to fail, and one when they
 *	  work again: no line per statement.  What is wrong with a server concerns
 *	  everybody who uses it in this database.  What is wrong with the credentials or
 *	  the rights of a role concerns that role.  Each is an outage of its own, so that
 *	  a role that fails and one that does not do not take turns in the log.
 *
 *	  A session can make its own redirects fail, for example by a short
 *	  tcs.redirect_timeout.  So the number of lines per outage and minute is
 *	  limited.
 *
 *	  Two kinds of causes are no outage, as the next statement may fare better: there
 *	  is no connection left in the budget, which tcs.stat_redirects counts; and the primary
 *	  does not have what the session's token names, which may be forged, or lost in a
 *	  failover.  The latter counts for more than hosts that cannot be reached: it is
 *	  the answer of a server that could.
 *
 *	  Text that libpq or a server has made names hosts and roles.  Such text is for
 *	  the log, and for the error message of the session whose connection it is, as in
 *	  postgres_fdw.  What is kept for longer is said in general words, beside the
 *	  SQLSTATE.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"

#include "base/tcs.h"
#include "redirect/outage.h"

/* Outages that are known at a time; a further one takes the place of the oldest. */
#define TCS_OUTAGES		64

/* How often each is told of, in us. */
#define TCS_OUTAGE_LINES	5
#define TCS_OUTAGE_WINDOW	60000000

/* Hosts that a message tells of. */
#define TCS_FAILURE_TEXT_MAX	2000

typedef struct TcsOutage
{
	uint64		key;			/* 0: free */
	bool		lasts;
	bool		logged;			/* its beginning was */
	int64		failed_at;		/* last */
	int64		window;			/* when lines were begun to be counted */
	int			lines;
} TcsOutage;

typedef struct TcsOutages
{
	pg_atomic_uint32 lasting;	/* how many; changed under the lock */
	TcsOutage	outages[TCS_OUTAGES];	/* under the lock */
} TcsOutages;

static TcsOutages *shared = NULL;
static LWLock *outage_lock = NULL;

/* What is said of a cause in general. */
static const struct
{
	const char *sqlstate;
	const char *text;
}			causes[] = {
	[TCS_CAUSE_NONE] = {"", ""},
	[TCS_CAUSE_OTHER_CLUSTER] = {"55000", "the redirect server is of another database cluster"},
	[TCS_CAUSE_NOT_PRIMARY] = {"55000", "no host of the redirect server is the primary"},
	[TCS_CAUSE_DEPOSED] = {"55000", "the redirect server is not the primary any more"},
	[TCS_CAUSE_TOKEN] = {"TC001", "the redirect server does not have what the session token names"},
	[TCS_CAUSE_UNREACHABLE] = {"08001", "the redirect server cannot be reached"},
	[TCS_CAUSE_SILENT] = {"08001", "the redirect server has not answered in time"},
	[TCS_CAUSE_LOST] = {"08006", "the connection to the redirect server was lost"},
	[TCS_CAUSE_NO_ROOM] = {"53300", "the redirect server has no room for another connection"},
	[TCS_CAUSE_NOT_ADMITTED] = {"28000", "the redirect server does not admit this role"},
	[TCS_CAUSE_REFUSED] = {"55000", "the redirect server has refused the transaction"},
	[TCS_CAUSE_TOKEN_LOST] = {"TC003", "what the session token names is not part of the history of the redirect server"},
	[TCS_CAUSE_SETUP] = {"55000", "the redirect server is not set up for this role"},
	[TCS_CAUSE_BUDGET] = {"53300", "all connections that tcs.max_redirect_connections allows are in use"},
};

/* Parts of libpq's messages, and of FATAL errors, that tell the cause. */
static const struct
{
	const char *part;
	TcsCause	cause;
}			messages[] = {
	{"server is in hot standby mode", TCS_CAUSE_NOT_PRIMARY},
	{"server is not in hot standby mode", TCS_CAUSE_NOT_PRIMARY},
	{"session is read-only", TCS_CAUSE_NOT_PRIMARY},
	{"session is not read-only", TCS_CAUSE_NOT_PRIMARY},
	{"authentication failed", TCS_CAUSE_NOT_ADMITTED},
	{"authentication method requirement", TCS_CAUSE_NOT_ADMITTED},
	{"no pg_hba.conf entry", TCS_CAUSE_NOT_ADMITTED},
	{"pg_hba.conf rejects", TCS_CAUSE_NOT_ADMITTED},
	{"no password supplied", TCS_CAUSE_NOT_ADMITTED},
	{"permission denied for database", TCS_CAUSE_NOT_ADMITTED},
	{"is not permitted to log in", TCS_CAUSE_NOT_ADMITTED},
	{"too many clients", TCS_CAUSE_NO_ROOM},
	{"too many connections", TCS_CAUSE_NO_ROOM},
	{"connection slots are reserved", TCS_CAUSE_NO_ROOM},
	{"does not exist", TCS_CAUSE_REFUSED},
};

Size
tcs_outage_shmem_size(void)
{
	return sizeof(TcsOutages);
}

void
tcs_outage_shmem_init(void *ptr, LWLock *lock, bool found)
{
	shared = ptr;
	outage_lock = lock;
	if (found)
		return;
	memset(shared, 0, sizeof(TcsOutages));
	pg_atomic_init_u32(&shared->lasting, 0);
}


/* ---- causes ---- */

void
tcs_failure_set(TcsFailure *failure, TcsCause cause, char *text)
{
	failure->cause = cause;
	failure->sqlstate[0] = '\0';
	failure->text = text;
}

/* The same where libpq could not connect.  It gives no SQLSTATE. */
void
tcs_failure_of_connecting(TcsFailure *failure, char *text)
{
	tcs_failure_set(failure, TCS_CAUSE_UNREACHABLE, text);
	for (int i = 0; i < lengthof(messages); i++)
	{
		/* a file or a socket that does not exist is no refusal */
		if (strstr(text, messages[i].part) &&
			(messages[i].cause != TCS_CAUSE_REFUSED || strstr(text, "FATAL")))
		{
			failure->cause = messages[i].cause;
			return;
		}
	}
}

/* One more host has failed. */
void
tcs_failure_add(TcsFailure *all, const TcsFailure *one)
{
	if (one->cause >= all->cause)
	{
		all->cause = one->cause;
		strlcpy(all->sqlstate, one->sqlstate, sizeof(all->sqlstate));
	}
	if (all->text == NULL)
		all->text = one->text;
	else if (strlen(all->text) + strlen(one->text) < TCS_FAILURE_TEXT_MAX)
		all->text = psprintf("%s; %s", all->text, one->text);
}

/* SQLSTATE and cause, in words that everybody may see. */
const char *
tcs_failure_in_general(const TcsFailure *failure)
{
	return psprintf("%s: %s",
					failure->sqlstate[0] ? failure->sqlstate : causes[failure->cause].sqlstate,
					causes[failure->cause].text);
}


/* ---- outages ---- */

/*
 * Does a failure concern the session's role alone?  A refusal does, unless its
 * SQLSTATE says that the server is not what it should be: without the library, or
 * another database.
 */
static bool
is_of_role(const TcsFailure *failure)
{
	if (failure->cause == TCS_CAUSE_REFUSED)
		return strcmp(failure->sqlstate, "55000") != 0 && strcmp(failure->sqlstate, "3F000") != 0;
	return failure->cause == TCS_CAUSE_NOT_ADMITTED || failure->cause == TCS_CAUSE_SETUP;
}

/* The key of an outage of a server, for a role or, with InvalidOid, for all. */
static uint64
key_of(const char *server, Oid role)
{
	uint64		key = hash_bytes_extended((const unsigned char *) server, strlen(server),
										  ((uint64) MyDatabaseId << 32) | role);

	return key != 0 ? key : 1;
}

/* Find an outage by its key, under the lock; NULL if it is not known. */
static TcsOutage *
find_outage(uint64 key)
{
	for (int i = 0; i < TCS_OUTAGES; i++)
	{
		if (shared->outages[i].key == key)
			return &shared->outages[i];
	}
	return NULL;
}

/* Make room for another one, under the lock. */
static TcsOutage *
replace_oldest(uint64 key)
{
	TcsOutage  *oldest = &shared->outages[0];

	for (int i = 1; i < TCS_OUTAGES && oldest->key != 0; i++)
	{
		TcsOutage  *outage = &shared->outages[i];

		if (outage->key == 0 || outage->failed_at < oldest->failed_at)
			oldest = outage;
	}
	if (oldest->lasts)
		pg_atomic_fetch_sub_u32(&shared->lasting, 1);
	memset(oldest, 0, sizeof(TcsOutage));
	oldest->key = key;
	return oldest;
}

/* May its beginning be logged now?  Under the lock. */
static bool
take_line(TcsOutage *outage, int64 now)
{
	if (now - outage->window >= TCS_OUTAGE_WINDOW)
	{
		outage->window = now;
		outage->lines = 0;
	}
	return outage->lines++ < TCS_OUTAGE_LINES;
}

/* A redirect has failed.  Says so in the log if that is news. */
void
tcs_outage_note_failure(const char *server, const TcsFailure *failure)
{
	Oid			role = is_of_role(failure) ? GetSessionUserId() : InvalidOid;
	uint64		key = key_of(server, role);
	int64		now = tcs_now();
	TcsOutage  *outage;
	bool		is_news = false;

	if (failure->cause == TCS_CAUSE_BUDGET || failure->cause == TCS_CAUSE_TOKEN ||
		failure->cause == TCS_CAUSE_TOKEN_LOST)
		return;
	LWLockAcquire(outage_lock, LW_EXCLUSIVE);
	outage = find_outage(key);
	if (outage == NULL)
		outage = replace_oldest(key);
	outage->failed_at = now;
	if (!outage->lasts)
	{
		outage->lasts = true;
		pg_atomic_fetch_add_u32(&shared->lasting, 1);
		is_news = outage->logged = take_line(outage, now);
	}
	LWLockRelease(outage_lock);

	if (is_news && OidIsValid(role))
		ereport(LOG_SERVER_ONLY,
				(errmsg("tcs: reads of role \"%s\" cannot be redirected to server \"%s\": %s",
						GetUserNameFromId(role, false), server, failure->text)));
	else if (is_news)
		ereport(LOG_SERVER_ONLY,
				(errmsg("tcs: reads cannot be redirected to server \"%s\": %s",
						server, failure->text)));
}

/* Does an outage last?  In most cases another one does. */
static bool
is_lasting(uint64 key)
{
	TcsOutage  *outage;
	bool		lasts;

	LWLockAcquire(outage_lock, LW_SHARED);
	outage = find_outage(key);
	lasts = outage && outage->lasts;
	LWLockRelease(outage_lock);
	return lasts;
}

/* End an outage, if it lasts.  Is a line to be written? */
static bool
end_outage(uint64 key)
{
	TcsOutage  *outage;
	bool		is_news = false;

	if (!is_lasting(key))
		return false;
	LWLockAcquire(outage_lock, LW_EXCLUSIVE);
	outage = find_outage(key);
	if (outage && outage->lasts)
	{
		outage->lasts = false;
		pg_atomic_fetch_sub_u32(&shared->lasting, 1);
		is_news = outage->logged;
	}
	LWLockRelease(outage_lock);
	return is_news;
}

/* A redirect has begun.  Says so in the log if that is news. */
void
tcs_outage_note_success(const char *server)
{
	if (likely(pg_atomic_read_u32(&shared->lasting) == 0))
		return;
	if (end_outage(key_of(server, InvalidOid)))
		ereport(LOG_SERVER_ONLY,
				(errmsg("tcs: reads are redirected to server \"%s\" again", server)));
	if (end_outage(key_of(server, GetSessionUserId())))
		ereport(LOG_SERVER_ONLY,
				(errmsg("tcs: reads of role \"%s\" are redirected to server \"%s\" again",
						GetUserNameFromId(GetSessionUserId(), false), server)));
}
