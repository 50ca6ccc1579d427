/*-------------------------------------------------------------------------
 *
 * exempt.h
 *	  Statements that read nothing which could be stale.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_EXEMPT_H
#define TCS_EXEMPT_H

#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"

#include "statement/builtin.h"
#include "write/write_level.h"

extern bool tcs_exempt_query(Query *query);
extern bool tcs_exempt_administration(Query *query);
extern bool tcs_exempt_function(Oid funcid);
extern TcsReads tcs_exempt_function_reads(Oid funcid);
extern TcsReads tcs_exempt_table_reads(Oid relid);
extern TcsReads tcs_exempt_query_reads(Query *query);
extern bool tcs_expression_reads(Node *expr);
extern void tcs_exempt_mark(PlannedStmt *plan, TcsWriteLevel write_level);
extern bool tcs_exempt_plan(const PlannedStmt *plan, TcsWriteLevel *write_level);
extern bool tcs_type_is_name(Oid type);

#endif							/* TCS_EXEMPT_H */
