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
#include "base/xact.h"
#include "choice/choice.h"
#include "gate/requirement.h"
#include "session/proof.h"
#include "session/redirected_for.h"
#include "standby/freshness.h"
#include "statement/site.h"

/* What became of the last statement that came to the gate. */
typedef enum TcsOutcome
{
	TCS_OUTCOME_NONE,
	TCS_OUTCOME_AT_ONCE,
	TCS_OUTCOME_WAITED,
	TCS_OUTCOME_REDIRECTED,
	TCS_OUTCOME_DOWNGRADED,
	TCS_OUTCOME_ERROR
} TcsOutcome;

typedef struct TcsLastRead
{
	TcsOutcome	outcome;
	TcsLevel	level;
	TcsLevel	served_at;
	TcsChoiceBy by;				/* who chose the level; for SETTING: */
	GucSource	level_source;
	int			rule;			/* for RULE and FLOOR */
	TcsReason	reason;
	bool		on_primary;
	TcsPosition needed;			/* lsn 0: none */
	TcsProof	proof;
	int64		waited_us;
	int64		at;				/* when; 0: the clock was not looked at */
	char		note[128];		/* for a person: why it was not waited for */
	char		redirect_failure[160];	/* and why it was not redirected */
} TcsLastRead;

/* What the gate knows of the statement at hand; local to the process. */
typedef struct TcsGate
{
	/*
	 * The statement at hand: if it took the fast path, its level, and what is
	 * needed to tell what it was served on; else -1, and what follows.
	 */
	int			at_once_level;
	int64		at_once_at;		/* for a bound */
	bool		at_once_proof_kept; /* in last.proof, as proof was renewed */
	int64		arrival;

	/*
	 * The planning of a statement of the client, if that had to come here; else
	 * planned_in is 0, or the start of an earlier message of the client.
	 */
	TimestampTz planned_in;
	int64		planning_arrival;
	bool		plan_is_void;	/* and the plan has to be made anew */
	TcsLastRead last;
} TcsGate;

extern TCS_LOCAL TcsGate tcs_gate;

/* The former names; until gate.c and hooks.c use the new ones. */
#define tcs_swap_transaction	tcs_xact_id
#define tcs_gate_statement_is_sole	tcs_xact_statement_is_sole

extern void tcs_gate_pass_slowly(TcsSite *site);
extern void tcs_gate_void_plan(void);
extern void tcs_gate_snapshot_imported(void);
extern void tcs_gate_prove_transaction(void);
extern void tcs_gate_fix_isolation(void);
extern bool tcs_gate_isolation_is_by_level(void);
extern void tcs_gate_note_snapshot_use(void);
extern bool tcs_gate_is_satisfied(void);
extern bool tcs_gate_pass_choice_at_once(void);
extern void tcs_gate_get_last(TcsLastRead *last);
extern void tcs_gate_pass_in_worker(QueryDesc *query_desc);
extern bool tcs_gate_token_is_missing(TcsLevel level);
extern bool tcs_gate_token_is_reached(TcsLevel level);
extern void tcs_gate_await_redirected(const TcsRedirected *wanted);
extern const TcsRedirected *tcs_gate_check_redirected(void);
extern void tcs_gate_wait_for_token(const TcsToken *token, int max_wait_ms);
extern void tcs_gate_build_context(TcsContext *context, const TcsToken *token);

/* Count a read that passes at once. */
static inline void
tcs_gate_count_at_once(void)
{
	tcs_stats_count_read((TcsLevel) tcs_read_level);
	tcs_gate.at_once_level = tcs_read_level;
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
		tcs_gate.at_once_at = now;
		tcs_gate.at_once_proof_kept = age > tcs_proven.max_age / 8;
		if (tcs_gate.at_once_proof_kept)
		{
			tcs_gate.last.proof = tcs_proven.proof;
			tcs_fresh_read_mirror(&tcs_proven.proof);
		}
	}
	tcs_gate_count_at_once();
	return true;
}

#endif							/* TCS_GATE_H */
