/*-------------------------------------------------------------------------
 *
 * explain_privileges.h
 *	  explain_level() of a statement that its caller may not run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_EXPLAIN_PRIVILEGES_H
#define TCS_EXPLAIN_PRIVILEGES_H

#include "nodes/parsenodes.h"

extern void tcs_explain_require_privileges(Query *query, const char *source);

#endif							/* TCS_EXPLAIN_PRIVILEGES_H */
