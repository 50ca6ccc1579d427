/*-------------------------------------------------------------------------
 *
 * statement_queries.c
 *	  A look at the queries of a statement that has come to the gate.
 *
 * NOTES
 *	  A plan does not tell all that a statement reads: the planner has evaluated
 *	  some functions, and inlined others.  So the statement is analysed again from
 *	  its text, or taken from where it is kept, and rewritten.  This is only for
 *	  when the gate is about to wait, refuse or redirect.
 *
 *	  The look must leave nothing behind that replay would have to wait for, and no
 *	  error: after the wait, names may be found that are not there yet.  So it
 *	  happens in a subtransaction that is always rolled back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "rewrite/rewriteHandler.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"

#include "statement/quietly.h"
#include "statement/statement_queries.h"
#include "statement/statement_source.h"

TcsPlanned	tcs_planned;

typedef struct Look
{
	const TcsSite *site;
	TcsLookCallback callback;
	void	   *arg;
	bool		found;
} Look;

static void
do_look(void *arg)
{
	Look	   *look = arg;
	const TcsSite *site = look->site;
	Query	   *query;
	ListCell   *lc;

	if (site->kind == TCS_SITE_QUERY)
		query = tcs_statement_query(site->query_desc);
	else
		query = tcs_statement_utility_query(site->utility, site->source);
	if (query == NULL)
		return;
	/* rewriting changes it, and that of a utility statement is still needed */
	query = copyObject(query);
	AcquireRewriteLocks(query, true, false);
	foreach(lc, pg_rewrite_query(query))
		look->callback(lfirst_node(Query, lc), look->arg);
	look->found = true;
}

/*
 * Call back for each query of a statement.  Returns false if its queries cannot be
 * told, or if names may have come to mean something else since it was planned.
 */
bool
tcs_look_at_queries(const TcsSite *site, TcsLookCallback callback, void *arg)
{
	Look		look = {site, callback, arg, false};
	uint64		known = SharedInvalidMessageCounter;
	List	   *told;

	if (site->kind != TCS_SITE_QUERY && site->kind != TCS_SITE_UTILITY)
		return false;
	if (tcs_planned.in_message == GetCurrentStatementStartTimestamp())
		known = tcs_planned.began_at;
	if (tcs_quietly_do(do_look, &look, true, &told) != NULL)
		return false;
	return look.found && (site->kind == TCS_SITE_UTILITY || known == SharedInvalidMessageCounter);
}
