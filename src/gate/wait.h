/*-------------------------------------------------------------------------
 *
 * wait.h
 *	  Waiting until a requirement is met.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_WAIT_H
#define TCS_WAIT_H

#include "gate/requirement.h"
#include "standby/freshness.h"

typedef enum TcsWaitResult
{
	TCS_WAIT_MET,
	TCS_WAIT_TIMEOUT,
	TCS_WAIT_HOPELESS,			/* it is known that it would be a timeout */
	TCS_WAIT_REDIRECTED,		/* not waited for any more: it runs elsewhere */
	TCS_WAIT_BLOCKING,			/* replay waits for what this session holds */
	TCS_WAIT_OTHER_TIMELINE,	/* replay has followed to another one: the
								 * requirement is to be made again */
	TCS_WAIT_NOT_IN_RECOVERY,	/* promoted: decide again */
	TCS_WAIT_DISABLED,			/* tcs was switched off */
	TCS_WAIT_RELAXED,			/* the emergency valve was opened */
	TCS_WAIT_NO_QUORUM			/* fresh enough, but nobody can confirm that */
} TcsWaitResult;

extern TcsWaitResult tcs_wait_for_replay(TcsRequirement *req, int64 deadline,
										 bool holding, const char **hopeless,
										 TcsProof *proof);
extern TcsWaitResult tcs_wait_for_answer(int64 asked_after, int64 deadline,
										 TcsAnswer *answer);
extern TcsWaitResult tcs_wait_for_confirmation(const TcsConfirmation *wanted,
											   int64 deadline,
											   TcsConfirmed *confirmed);
extern TcsWaitResult tcs_wait_for_commits(XLogRecPtr upto, int64 deadline);
extern int64 tcs_deadline_after(int max_wait_ms);
extern void tcs_wait_briefly(void);

#endif							/* TCS_WAIT_H */
