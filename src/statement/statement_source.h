/*-------------------------------------------------------------------------
 *
 * statement_source.h
 *	  The query of a statement that is about to run, from its text or its plan.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_STATEMENT_SOURCE_H
#define TCS_STATEMENT_SOURCE_H

#include "executor/execdesc.h"
#include "nodes/parsenodes.h"
#include "utils/plancache.h"

#include "statement/site.h"

extern const char *tcs_statement_own_text(const char *source, int location, int len);
extern List *tcs_statement_parse(const PlannedStmt *plan, const char **source);
extern Oid *tcs_statement_param_types(ParamListInfo params, int *n);
extern Query *tcs_statement_analyze_again(RawStmt *raw, const char *source, Oid *types, int ntypes);
extern RawStmt *tcs_statement_parse_quietly(const PlannedStmt *plan, const char **source);
extern Query *tcs_statement_query_of_plan(CachedPlanSource *plansource);
extern Query *tcs_statement_query_of_copy(const CopyStmt *copy, const char *source);
extern Query *tcs_statement_query(const QueryDesc *query_desc);
extern Query *tcs_statement_utility_query(Node *utility, const char *source);
extern bool tcs_statement_arguments_read(ExecuteStmt *execute, const char *source);
extern bool tcs_utility_can_go(Node *utility);
extern ExecuteStmt *tcs_utility_execute(Node *utility);
extern TcsText tcs_statement_prepared_text(Node *utility);
extern bool tcs_statement_is_of(ExecuteStmt *execute, const char *source);

#endif							/* TCS_STATEMENT_SOURCE_H */
