/*-------------------------------------------------------------------------
 *
 * proof.h
 *	  What this session has proved of its snapshots to come.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_PROOF_H
#define TCS_PROOF_H

#include "access/xact.h"

#include "base/settings.h"
#include "base/tcs.h"

/*
 * State that decides whether a read is satisfied without a further look; local
 * to the process.
 *
 * "settled" names the settings that the proof is known to satisfy.  Any change of
 * a setting gives them a new generation, and so unsettles them.
 */
typedef struct TcsProven
{
	uint64		settled;		/* settings generation that proof satisfies */
	uint64		token_settled;	/* the same of its token alone */
	int64		max_age;		/* us; while proof is no older; 0: for good */
	TcsProof	proof;			/* of every snapshot taken after it was noted */
	TcsPosition acknowledged;	/* on a primary: commits that this session
								 * knows of, which all snapshots to come
								 * include */
} TcsProven;

extern TCS_LOCAL TcsProven tcs_proven;

extern void tcs_proof_carry_over(uint64 generation);
extern void tcs_proof_unsettle(void);
extern void tcs_proof_note_acknowledged(TcsPosition at);
extern void tcs_proof_note(void);
extern void tcs_proof_raise(TcsProof *proof, const TcsProof *newer);
extern bool tcs_proof_meets_settings(void);

/* Are the settings in force known to be satisfied, at least by a young proof? */
static inline bool
tcs_proof_is_settled(void)
{
	return tcs_proven.settled == tcs_settings_generation;
}

/*
 * Where they are settled by a young proof alone: is it young enough?  In REPEATABLE
 * READ age counts from the start of the transaction, which the gate knows.
 */
static inline bool
tcs_proof_is_young(void)
{
	return likely(tcs_proven.max_age == 0) ||
		(!IsolationUsesXactSnapshot() &&
		 tcs_now() - tcs_proven.proof.fresh_at <= tcs_proven.max_age);
}

#endif							/* TCS_PROOF_H */
