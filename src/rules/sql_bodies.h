/*-------------------------------------------------------------------------
 *
 * sql_bodies.h
 *	  What functions in SQL are made of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_SQL_BODIES_H
#define TCS_SQL_BODIES_H

#include "access/htup.h"
#include "nodes/pg_list.h"

extern List *tcs_sql_body(HeapTuple tuple, Node *call, bool one_statement);
extern List *tcs_sql_bodies(Query *query);

#endif							/* TCS_SQL_BODIES_H */
