/*-------------------------------------------------------------------------
 *
 * statement_text.h
 *	  A statement as it can be run on another node.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_STATEMENT_TEXT_H
#define TCS_STATEMENT_TEXT_H

#include "executor/execdesc.h"
#include "nodes/parsenodes.h"

/* A column of the result, as the client was promised it. */
typedef struct TcsColumn
{
	Oid			type;			/* a domain's base type */
	int32		typmod;
	bool		as_text;		/* the primary sends it as text */
} TcsColumn;

typedef struct TcsStatement
{
	const char *why_not;		/* why it has to stay, or NULL */
	const char *sql;
	const char *mark;			/* goes behind it; see redirect/names.c */
	int			ncolumns;
	TcsColumn  *columns;
	bool		runs_user_code; /* which may change settings */
	bool		leaves_cursors; /* which the client may fetch from */
	bool		is_source;		/* the text is the client's own */
	List	   *told;			/* notices of its analysis; the client has had
								 * them */

	/* of a prepared statement, which is prepared on the primary as well */
	uint32		number;			/* 0: it is none */
} TcsStatement;

extern TcsStatement *tcs_statement_of_query(const QueryDesc *query_desc);
extern TcsStatement *tcs_statement_of_utility(const PlannedStmt *plan, const char *source,
											  ParamListInfo params);

#endif							/* TCS_STATEMENT_TEXT_H */
