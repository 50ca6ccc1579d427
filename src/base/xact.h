/*-------------------------------------------------------------------------
 *
 * xact.h
 *	  The transaction at hand, and whose it is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_XACT_H
#define TCS_XACT_H

#include "storage/lock.h"

extern bool tcs_is_client_backend(void);
extern LocalTransactionId tcs_xact_id(void);
extern void tcs_xact_renew_virtual_id(void);
extern bool tcs_xact_statement_is_sole(void);

#endif							/* TCS_XACT_H */
