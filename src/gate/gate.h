/*-------------------------------------------------------------------------
 *
 * gate.h
 *	  The gate that each read passes before its snapshot is used.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_GATE_H
#define TCS_GATE_H

#include "access/xact.h"

#include "base/settings.h"
#include "base/stats.h"
#include "gate/last_read.h"
#include "gate/read.h"
#include "session/proof.h"
#include "session/redirected_for.h"
#include "standby/freshness.h"

extern void tcs_gate_pass_slowly(TcsRead *read);
extern void tcs_gate_void_plan(void);
extern void tcs_gate_note_early_run(void);
extern void tcs_gate_forget_early_runs(void);
extern bool tcs_gate_is_satisfied(const TcsChoice *choice);
extern bool tcs_gate_pass_choice_at_once(const TcsChoice *choice);
extern void tcs_gate_begin_in_worker(void);
extern void tcs_gate_pass_in_worker(QueryDesc *query_desc);
extern bool tcs_gate_token_is_missing(TcsLevel level);
extern bool tcs_gate_token_is_reached(TcsLevel level);
extern void tcs_gate_wait_for_token(const TcsToken *token, int max_wait_ms);

/* serve_redirected.c */
extern void tcs_gate_await_redirected(const TcsRedirected *wanted);
extern const TcsRedirected *tcs_gate_check_redirected(void);

/* Count a read that passes at once. */
static inline void
tcs_gate_count_at_once(void)
{
	tcs_stats_count_read((TcsLevel) tcs_read_level);
	tcs_client_statement.at_once_level = tcs_read_level;
}

/*
 * The fast path: is the requirement in force satisfied by what was proved
 * before this statement's snapshot was taken?  Counts the read if so.
 *
 * A token stays satisfied: positions only grow, and the proof was noted before
 * the snapshots of all later statements.  A bound is satisfied as long as the
 * proof is young enough; when it gets old, it is renewed for the statements to
 * come, whose snapshots will be newer.  In REPEATABLE READ age counts from the
 * start of the transaction, which the slow way knows.
 */
static inline bool
tcs_gate_pass_at_once(void)
{
	if (unlikely(!tcs_proof_is_settled()))
		return false;
	if (tcs_proven.max_age != 0)
	{
		int64		now = tcs_now();
		int64		age = now - tcs_proven.proof.fresh_at;

		if (IsolationUsesXactSnapshot() || age > tcs_proven.max_age)
			return false;
		tcs_client_statement.at_once_at = now;
		tcs_client_statement.at_once_proof_kept = age > tcs_proven.max_age / 8;
		if (tcs_client_statement.at_once_proof_kept)
		{
			tcs_last.proof = tcs_proven.proof;
			tcs_fresh_read_mirror(&tcs_proven.proof);
		}
	}
	tcs_gate_count_at_once();
	return true;
}

#endif							/* TCS_GATE_H */
