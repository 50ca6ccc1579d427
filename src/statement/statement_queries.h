/*-------------------------------------------------------------------------
 *
 * statement_queries.h
 *	  A look at the queries of a statement that has come to the gate.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_STATEMENT_QUERIES_H
#define TCS_STATEMENT_QUERIES_H

#include "base/tcs.h"
#include "statement/site.h"

/* The last planning of a statement of the client; the hooks note it. */
typedef struct TcsPlanned
{
	TimestampTz in_message;		/* start of the client's message; 0: none */
	uint64		began_at;		/* SharedInvalidMessageCounter before it */
} TcsPlanned;

extern TCS_LOCAL TcsPlanned tcs_planned;

/* Called for each query of the statement, rewritten. */
typedef void (*TcsLookCallback) (Query *query, void *arg);

extern bool tcs_look_at_queries(const TcsSite *site, TcsLookCallback callback, void *arg);

#endif							/* TCS_STATEMENT_QUERIES_H */
