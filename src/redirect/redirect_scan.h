/*-------------------------------------------------------------------------
 *
 * redirect_scan.h
 *	  The plan node whose rows come from the primary.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_REDIRECT_SCAN_H
#define TCS_REDIRECT_SCAN_H

#include "nodes/plannodes.h"

#include "redirect/statement_text.h"

extern PlannedStmt *tcs_scan_make_plan(const PlannedStmt *local,
									   const TcsStatement *statement,
									   const char *server, const char *why,
									   bool sent, bool buffered);
extern void tcs_scan_init(void);

#endif							/* TCS_REDIRECT_SCAN_H */
