/*-------------------------------------------------------------------------
 *
 * proof.c
 *	  What this session has proved of its snapshots to come.
 *
 * NOTES
 *	  tcs_proven.proof was read before the snapshot of every statement that comes
 *	  later.  A statement whose requirement it meets needs no further look,
 *	  whatever snapshot it has.
 *
 *	  On a primary, proof.at says that no commit before it was under way any more
 *	  when it was noted.  What the session knows to be acknowledged is another
 *	  thing: commits of others before that may be under way.
 *
 *	  Nothing here is shared, and nothing here decides: the gate does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"

#include "primary/commits_in_flight.h"
#include "session/proof.h"
#include "standby/freshness.h"

TcsProven	tcs_proven;

/*
 * Our own doing changed tcs.session_token, without asking for more: what was
 * settled before the change still is.
 */
void
tcs_proof_carry_over(uint64 generation)
{
	if (tcs_proven.settled == generation)
		tcs_proven.settled = tcs_settings_generation;
	if (tcs_proven.token_settled == generation)
		tcs_proven.token_settled = tcs_settings_generation;
}

/* The next statement has to take the slow way, whatever was proved. */
void
tcs_proof_unsettle(void)
{
	tcs_proven.settled = tcs_proven.token_settled = 0;
}

/*
 * All snapshots that this primary takes from now on include what has been
 * acknowledged, such as a commit of this session.
 */
void
tcs_proof_note_acknowledged(TcsPosition at)
{
	TcsPosition *known = &tcs_proven.acknowledged;

	if (at.tli > known->tli || (at.tli == known->tli && at.lsn > known->lsn))
		*known = at;
}

/*
 * Raise a proof by a newer one.  Both halves are facts that stay true, so each
 * is kept if the new one is older.
 */
void
tcs_proof_raise(TcsProof *proof, const TcsProof *newer)
{
	if (newer->at.tli >= proof->at.tli && newer->at.lsn >= proof->at.lsn)
		proof->at = newer->at;
	proof->fresh_at = Max(proof->fresh_at, newer->fresh_at);
}

/* Note what is proved of every snapshot taken from now on. */
void
tcs_proof_note(void)
{
	TcsProof	proof = {0};

	if (RecoveryInProgress())
		tcs_fresh_prove(NULL, &proof);
	else
	{
		proof.at.tli = GetWALInsertionTimeLine();
		proof.at.lsn = tcs_commits_done_up_to(GetXLogInsertRecPtr());
		if (proof.at.lsn == InvalidXLogRecPtr)
			return;
		tcs_proof_note_acknowledged(proof.at);
	}
	tcs_proof_raise(&tcs_proven.proof, &proof);
}

/* Does the proof satisfy the settings in force? */
bool
tcs_proof_meets_settings(void)
{
	return tcs_proof_is_settled() && tcs_proof_is_young();
}
