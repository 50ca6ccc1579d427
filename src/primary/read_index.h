/*-------------------------------------------------------------------------
 *
 * read_index.h
 *	  The read index: made on the primary, told to standbys.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_READ_INDEX_H
#define TCS_READ_INDEX_H

#include "datatype/timestamp.h"
#include "storage/lwlock.h"
#include "utils/guc.h"

#include "base/history.h"
#include "primary/quorum.h"

#define TCS_ANSWER_VERSION		1
#define TCS_ANSWER_MAXLEN		1024
#define TCS_LEASE_PART			" lease="	/* begins what it says of leases */
#define TCS_ANSWER_TIMELINES	16
#define TCS_VERSION_LEN			16
#define TCS_BUILD_LEN			64

/* application_name of an asker: this, and the name of its WAL receiver */
#define TCS_ASKER_PREFIX		"tcs:"

/* What a standby wants to be told, besides the read index. */
typedef enum TcsQuestion
{
	TCS_ASK_READ_INDEX,			/* nothing else */
	TCS_ASK_QUORUM,				/* what a quorum has confirmed */
	TCS_ASK_ROUND,				/* the same, and a new round is to be begun */
	TCS_ASK_LEASE_FIRST,		/* a read lease; nothing is held */
	TCS_ASK_LEASE_NEXT,			/* the same; what was told last is here */
	TCS_ASK_LEASE_DROP,			/* nothing is held, and nothing is wanted */
	TCS_QUESTION_COUNT
} TcsQuestion;

/* An answer as it was read off the wire. */
typedef struct TcsAnswerText
{
	bool		standby;		/* the asked node is itself in recovery */
	uint64		system_identifier;
	XLogRecPtr	lsn;
	char		library[TCS_VERSION_LEN];
	int			ntimelines;
	TcsTimeline timelines[TCS_ANSWER_TIMELINES];	/* newest first */
	XLogRecPtr	flushed;		/* end of WAL on disk there */
	TcsQuorum	quorum;			/* not told: TCS_QUORUM_NOT_TOLD */
	XLogRecPtr	round;			/* of the round that was begun: more than this
								 * has to be flushed; 0: none was */
	int64		lease_longest;	/* us; no lease there lasts longer; 0: there
								 * are none */
	int64		lease_duration; /* us; 0: none was granted */
	bool		lease_is_new;
} TcsAnswerText;

/* A standby that asks, as the primary knows it. */
typedef struct TcsAskerInfo
{
	int			pid;
	char		application_name[NAMEDATALEN];
	char		client_addr[64];
	char		library[TCS_VERSION_LEN + TCS_BUILD_LEN];	/* as tcs_version_string */
	int			token_version;
	TimestampTz last_asked;
	XLogRecPtr	last_answer;
	uint64		questions;
} TcsAskerInfo;

extern TcsPosition tcs_readindex_make(void);
extern const GucShowHook tcs_readindex_show[TCS_QUESTION_COUNT];	/* by TcsQuestion */
extern void tcs_readindex_note_refused(int sqlstate);
extern char *tcs_readindex_answer(TcsQuestion question);
extern bool tcs_readindex_parse(const char *text, TcsAnswerText *answer);
extern int	tcs_readindex_askers(TcsAskerInfo *infos, int max);
extern bool tcs_readindex_asker_staleness(int pid, XLogRecPtr replayed,
										  int64 *staleness);

/* in base/startup_packet.c */
extern bool tcs_client_is_asker(void);

extern Size tcs_readindex_shmem_size(void);
extern void tcs_readindex_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_READ_INDEX_H */
