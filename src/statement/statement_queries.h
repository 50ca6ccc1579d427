/*-------------------------------------------------------------------------
 *
 * statement_queries.h
 *	  A look at the queries of a statement that has come to the gate.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_LOOK_H
#define TCS_LOOK_H

#include "gate/gate.h"

/* Called for each query of the statement, rewritten. */
typedef void (*TcsLookCallback) (Query *query, void *arg);

extern bool tcs_look_at_queries(const TcsSite *site, TcsLookCallback callback, void *arg);

#endif							/* TCS_LOOK_H */
