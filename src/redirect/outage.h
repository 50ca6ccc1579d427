/*-------------------------------------------------------------------------
 *
 * outage.h
 *	  Redirects that fail: why, and since when.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_OUTAGE_H
#define TCS_OUTAGE_H

#include "storage/lwlock.h"

/*
 * Why a redirect did not begin.  Of several hosts, the one that comes later here
 * tells more.
 */
typedef enum TcsCause
{
	TCS_CAUSE_NONE,
	TCS_CAUSE_OTHER_CLUSTER,
	TCS_CAUSE_NOT_PRIMARY,
	TCS_CAUSE_DEPOSED,
	TCS_CAUSE_TOKEN,			/* it does not have what the token names */
	TCS_CAUSE_UNREACHABLE,
	TCS_CAUSE_SILENT,
	TCS_CAUSE_LOST,
	TCS_CAUSE_NO_ROOM,
	TCS_CAUSE_NOT_ADMITTED,
	TCS_CAUSE_REFUSED,			/* by its SQLSTATE */
	TCS_CAUSE_TOKEN_LOST,		/* its history is not the token's */
	TCS_CAUSE_SETUP,
	TCS_CAUSE_BUDGET
} TcsCause;

/* These causes are known by what redirect_begin() says. */
#define TCS_REFUSED_CLUSTER "the redirect server is of another database cluster"
#define TCS_REFUSED_STANDBY "the redirect server is not a primary, but a standby"
#define TCS_REFUSED_HISTORY "the redirect server does not have what the standby has replayed"
#define TCS_REFUSED_DEPOSED "the redirect server is not the primary any more"
#define TCS_REFUSED_LESS "the redirect server has less WAL than the primary had before"

typedef struct TcsFailure
{
	TcsCause	cause;
	char		sqlstate[6];	/* of the server, or empty */
	char	   *text;			/* for a detail line, with hosts and roles */
} TcsFailure;

extern void tcs_failure_set(TcsFailure *failure, TcsCause cause, char *text);
extern void tcs_failure_of_connecting(TcsFailure *failure, char *text);
extern void tcs_failure_add(TcsFailure *all, const TcsFailure *one);
extern const char *tcs_failure_in_general(const TcsFailure *failure);

extern void tcs_outage_note_failure(const char *server, const TcsFailure *failure);
extern void tcs_outage_note_success(const char *server);

extern Size tcs_outage_shmem_size(void);
extern void tcs_outage_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_OUTAGE_H */
