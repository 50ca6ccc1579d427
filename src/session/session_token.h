/*-------------------------------------------------------------------------
 *
 * session_token.h
 *	  This session's token: what it has written and read on this node.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_SESSION_TOKEN_H
#define TCS_SESSION_TOKEN_H

#include "access/xact.h"

#include "token/token.h"

/* Is a token waiting for tcs_session_report_pending()? */
extern TCS_LOCAL bool tcs_session_report_is_pending;

/* Is anything left to be done at the commit of this transaction? */
extern TCS_LOCAL bool tcs_session_is_ending;

extern bool tcs_session_current_token(TcsToken *token);
extern bool tcs_session_primary_token(const TcsToken *given, TcsToken *token);
extern bool tcs_session_has_uncommitted(void);
extern void tcs_session_note_prepared(void);
extern void tcs_session_note_notify(void);
extern void tcs_session_report_pending(void);
extern void tcs_session_note_redirected(const TcsToken *seen, const TcsToken *sent);
extern void tcs_session_rolled_back(void);
extern void tcs_session_at_xact_event(XactEvent event);

#endif							/* TCS_SESSION_TOKEN_H */
