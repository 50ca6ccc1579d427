/*-------------------------------------------------------------------------
 *
 * site.h
 *	  Where a statement comes to the gate, and with what.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_SITE_H
#define TCS_SITE_H

#include "executor/execdesc.h"
#include "nodes/params.h"

/* The text of a statement, within that of its message. */
typedef struct TcsText
{
	const char *source;			/* of the whole message; NULL: there is none */
	int			location;
	int			len;			/* 0: up to the end */
} TcsText;

/* Where a statement comes to the gate. */
typedef enum TcsSiteKind
{
	TCS_SITE_QUERY,				/* ExecutorStart of a top-level statement */
	TCS_SITE_UTILITY,			/* a utility statement that reads */
	TCS_SITE_CALL,				/* a function called without a statement */
	TCS_SITE_PLANNER,			/* planning, which may evaluate functions */
	TCS_SITE_BARE,				/* no snapshot in use: BEGIN, SET, wait_for() */
	TCS_SITE_NESTED				/* below another statement */
} TcsSiteKind;

/* The redirect of a utility statement's query (gate/redirect_attempt.c). */
typedef struct TcsArmed TcsArmed;

typedef struct TcsSite
{
	TcsSiteKind kind;
	QueryDesc  *query_desc;		/* QUERY and NESTED */
	int			eflags;			/* QUERY */
	Node	   *utility;		/* UTILITY; its plan, text and parameters: */
	const PlannedStmt *plan;
	const char *source;
	ParamListInfo params;
	Oid			function;		/* CALL */
	bool		explain_only;	/* UTILITY: EXPLAIN that does not run it */
	bool		explain_reads;	/* UTILITY: the same, and planning may read:
								 * it stays here */
	bool		reads_nothing;	/* UTILITY: it was found to read nothing that
								 * could be stale */
	bool		reanalyzable;	/* PLANNER: its query can be analysed again,
								 * which is done if its locks were given back */
	bool		token_only;		/* BARE: check nothing but the token */
	bool		fix_snapshot;	/* its new snapshot is to be the transaction's */
	bool		holding;		/* the session may hold what replay needs;
								 * UTILITY: locks of its own analysis */
	bool		had_hold_snapshot;	/* the portal kept it */
	bool		locks_released; /* for a wait, or for its run elsewhere */
	bool		redirected;		/* QUERY: its plan is replaced */
	TcsArmed   *armed;			/* UTILITY: the plan of its query will be */
	bool		rules_changed;	/* NESTED: since its statement came */
	bool		resumed;		/* NESTED: in a cursor that goes on */
} TcsSite;

#endif							/* TCS_SITE_H */
