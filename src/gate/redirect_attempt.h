/*-------------------------------------------------------------------------
 *
 * redirect_attempt.h
 *	  Sending a statement to the primary in place of running it here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_REDIRECT_ATTEMPT_H
#define TCS_REDIRECT_ATTEMPT_H

#include "base/tcs.h"
#include "statement/site.h"
#include "token/token.h"

/* What is asked of a redirect, and what comes of it. */
typedef struct TcsRedirectAttempt
{
	TcsLevel	level;
	const TcsToken *token;		/* or NULL */
	bool		whole;			/* the transaction goes, with all its
								 * statements */
	char	   *why;			/* for EXPLAIN */

	/* out: if it runs there, what its snapshot there shows */
	TcsPosition shown;
	/* else why not */
	const char *failure;
	const char *cause;			/* the same in words that everybody may see */
	const char *lost;			/* the primary's detail if what the token
								 * names is not part of its history */
} TcsRedirectAttempt;

extern bool tcs_redirect_is_possible(const TcsSite *site);
extern bool tcs_redirect_try(TcsSite *site, TcsRedirectAttempt *attempt);
extern void tcs_redirect_in_whole(TcsSite *site);
extern void tcs_redirect_check_used(const TcsArmed *armed);
extern PlannedStmt *tcs_redirect_planned(TcsArmed *armed, PlannedStmt *local,
										 int cursor_options);
extern void tcs_redirect_started(TcsArmed *armed, QueryDesc *query_desc, int eflags);

#endif							/* TCS_REDIRECT_ATTEMPT_H */
