/*-------------------------------------------------------------------------
 *
 * serve_redirected.c
 *	  What a primary waits for before it runs what a standby has sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/history.h"
#include "base/xact.h"
#include "gate/context.h"
#include "gate/gate.h"
#include "gate/read.h"
#include "gate/snapshot_swap.h"
#include "gate/wait.h"
#include "redirect/outage.h"

/* What was waited for before the snapshot of a redirected transaction. */
static struct
{
	LocalTransactionId lxid;	/* which one; 0: none */
	TcsRedirected wanted;
	bool		met;
}			awaited;

/*
 * A standby is about to run statements here in a transaction that has no
 * snapshot yet: wait for the commits that they need and that are under way.
 *
 * Look first, snapshot second (see primary/commits_in_flight.c): once redirect_begin() runs,
 * the transaction has its snapshot, and no look tells what that has missed.
 * What is refused for another reason is refused there, with its number.
 */
void
tcs_gate_await_redirected(const TcsRedirected *wanted)
{
	TcsContext	context;
	TcsRequirement req;
	TcsWaitResult result = TCS_WAIT_MET;

	Assert(IsolationUsesXactSnapshot() && !FirstSnapshotSet);
	awaited.lxid = InvalidLocalTransactionId;
	tcs_context_build(&context, NULL, wanted->have_token ? &wanted->token : NULL);
	tcs_requirement_make(wanted->level, &context, &req);
	if (!context.in_recovery && req.reason == TCS_REASON_NONE)
	{
		/* who relaxes reads has done so on the standby */
		do
			result = tcs_wait_for_commits(req.needed.lsn, tcs_deadline_after(Max(wanted->max_wait, 0)));
		while (result == TCS_WAIT_RELAXED);
	}
	awaited.wanted = *wanted;
	awaited.met = result == TCS_WAIT_MET;
	awaited.lxid = tcs_xact_id();
}

/*
 * Is this the standby's primary?  It has all that the standby knows of.
 *
 * The standby's sessions may have read whatever it has replayed.  This server can be
 * a former primary, or a copy that was restored to an earlier point.  It may have a
 * newer timeline of its own then, so the history has to be looked at, too.
 */
static void
require_known(const TcsKnown *known)
{
	TimeLineID	tli = GetWALInsertionTimeLine();
	XLogRecPtr	end = GetXLogInsertRecPtr();

	if (known->replayed.tli == 0)
		return;
	if (tli < known->newest)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg(TCS_REFUSED_DEPOSED),
				 errdetail("It is on timeline %u; the standby knows of timeline %u.",
						   tli, known->newest)));
	if (tli == known->newest && end < known->least)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg(TCS_REFUSED_LESS),
				 errdetail("It has written WAL up to %X/%X; the standby knows of %X/%X.",
						   LSN_FORMAT_ARGS(end), LSN_FORMAT_ARGS(known->least))));
	if (tcs_history_locate(tcs_history_get(tli), known->replayed.tli, known->begin,
						   known->replayed.lsn, NULL) != TCS_HISTORY_YES)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg(TCS_REFUSED_HISTORY),
				 errdetail("The standby has replayed %X/%X of timeline %u; this server writes timeline %u, which does not come from there.",
						   LSN_FORMAT_ARGS(known->replayed.lsn), known->replayed.tli, tli)));
}

/*
 * Does this primary have what a statement needs that a standby has sent?
 *
 * First, is it the primary at all?  Only the primary can tell that the write of a
 * token is lost.
 *
 * The snapshot it will use is that of the transaction.  Commits that it must
 * not miss were waited for before it was taken.  Throws what a read here would
 * be refused with; returns what was asked for.
 */
const TcsRedirected *
tcs_gate_check_redirected(void)
{
	const TcsRedirected *wanted = &awaited.wanted;
	TcsRead		read;
	TcsUnmet   *facts = &read.facts;

	if (awaited.lxid != tcs_xact_id())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("redirect_begin() must be called in a transaction that began with SET LOCAL %s",
						TCS_REDIRECTED_FOR)));
	require_known(&wanted->known);
	memset(&read, 0, sizeof(read));
	read.site.kind = TCS_SITE_CALL;
	read.client = &tcs_client_statement;
	tcs_choice_by_settings(&read.choice);
	tcs_context_build(&read.context, &read.choice, wanted->have_token ? &wanted->token : NULL);
	facts->one_snapshot = read.context.one_snapshot;
	facts->now = read.context.arrival;
	facts->proof.at = read.context.at;
	tcs_requirement_make(wanted->level, &read.context, &facts->req);
	facts->reason = facts->req.reason;
	if (facts->reason == TCS_REASON_NONE && !awaited.met)
		facts->reason = TCS_REASON_BEHIND;
	if (facts->reason != TCS_REASON_NONE ||
		!tcs_confirm_snapshot(&read, tcs_deadline_after(read.choice.max_wait)))
		tcs_fallback_error(facts);
	return wanted;
}
