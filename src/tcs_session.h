/*-------------------------------------------------------------------------
 *
 * tcs_session.h
 *	  This session's token: what it has written and read on this node.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_SESSION_H
#define TCS_SESSION_H

#include "tcs_token.h"

extern bool tcs_is_client_backend(void);
extern void tcs_session_current_token(TcsToken *token);
extern void tcs_session_note_prepared(void);
extern void tcs_session_note_notify(void);
extern void tcs_session_report_pending(void);
extern void tcs_session_init(void);

#endif							/* TCS_SESSION_H */
