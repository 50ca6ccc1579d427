/*-------------------------------------------------------------------------
 *
 * session_token.c
 *	  This session's token: what it has written and read on this node.
 *
 * NOTES
 *	  tcs.session_token is the token that the client handed in, raised by what
 *	  the session does.  On the primary, a transaction that wrote raises its
 *	  "written" part to the end of its commit record, in the commit callback:
 *	  ReadyForQuery comes later, and the changed setting is reported before it,
 *	  so the client has the token without asking.
 *
 *	  An ERROR in the commit callback would be a PANIC of the whole server, and
 *	  set_config_option() allocates.  So PRE_COMMIT, where an error is an
 *	  ordinary rollback, sets the token as far as it is known, which also makes
 *	  the entry of the GUC stack that makes it survive the commit, over SET LOCAL
 *	  in the same transaction, and marks it to be reported.  COMMIT then writes
 *	  the position of the commit into the place that was made for it.
 *
 *	  A transaction can get its xid after PRE_COMMIT: by NOTIFY, which we see
 *	  coming, by ON COMMIT DROP, which we take any use of temporary tables for,
 *	  and by pg_notify(), which we do not see.  That one finds no place, and
 *	  neither does a transaction for whose token memory ran out.  Those are
 *	  reported at the next statement, and counted.
 *
 *	  What the session was given and does not lie on this node's history stays,
 *	  and what is done here is not added to it: a lost token would otherwise
 *	  become one that is satisfied, with the loss told to nobody.
 *
 *	  XactLastCommitEnd also moves for transactions that wrote WAL without an
 *	  xid (pruning, hint bits); reporting those would make a pooler that tracks
 *	  the setting inject thousands of SETs.  So only an xid counts, and COMMIT
 *	  PREPARED, which has none of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "utils/snapmgr.h"

#include "base/history.h"
#include "base/settings.h"
#include "base/stats.h"
#include "base/xact.h"
#include "primary/acknowledged.h"
#include "primary/commits_in_flight.h"
#include "primary/lease_grant.h"
#include "primary/read_index.h"
#include "session/proof.h"
#include "session/session_token.h"
#include "standby/freshness.h"
#include "token/token_setting.h"

/* A token to be reported; made in PRE_COMMIT as far as possible. */
static TcsToken next_token;
static bool next_is_of_here = false;	/* what is written here can be added
										 * to it */
bool		tcs_session_is_ending = false;	/* on a primary, with something to
											 * do */
static bool place_made = false; /* by PRE_COMMIT, for COMMIT to fill in */
static bool prepared_transaction_ended = false;
static bool xid_to_come = false;	/* NOTIFY gets its xid only at commit */

/* End of the last commit of this session that wrote, and its timeline. */
static TcsPosition last_written;

/* A token that could not be set in the commit callback. */
static TcsToken pending_token;
static TcsToken pending_covers; /* a token that is all in it, if known */
static bool pending_covers_known = false;
static bool pending_was_set = false;	/* in this transaction, which may yet
										 * fail */
bool		tcs_session_report_is_pending = false;

/*
 * Begin a token for this node: the one given, or an empty one if that is NULL.
 * Returns whether positions of this node may be added to it; if not, see
 * note_apart().  May throw (reads the timeline history).
 */
static bool
start_token(TcsToken *token, TimeLineID tli, const TcsToken *given)
{
	const TcsHistory *history = tcs_history_get(tli);

	if (given != NULL && (given->version == 0 ||
						  given->system_identifier != GetSystemIdentifier()))
	{
		*token = *given;
		return false;
	}

	memset(token, 0, sizeof(*token));
	token->version = TCS_TOKEN_VERSION;
	token->system_identifier = GetSystemIdentifier();
	token->tli = tli;
	token->tli_begin = history->known ? history->timelines[0].begin : 0;

	if (given == NULL)
		return true;
	switch (tcs_history_locate(history, given->tli, given->tli_begin,
							   Max(given->written,
								   Max(given->seen_primary, given->seen_standby)),
							   NULL))
	{
		case TCS_HISTORY_YES:
			tcs_token_raise(token, given);
			/* what another timeline was founded on was flushed with it */
			if (given->tli < tli)
				token->flags &= ~TCS_TOKEN_NOT_DURABLE;
			return true;
		case TCS_HISTORY_NEWER:
		case TCS_HISTORY_FORKED:
		case TCS_HISTORY_UNKNOWN:
			break;
	}
	*token = *given;
	return false;
}

/*
 * The session has written or read on a history that its token does not lie on,
 * as it may at level "eventual", or by what no level is asked for.
 *
 * A token has one history, so the other part is not a position but a mark, for
 * which every node refuses it.  Of another cluster, or of a later version, it is
 * refused here as it is, and stays good where it came from.
 */
static void
note_apart(TcsToken *token, uint32 what)
{
	if (token->version != 0 && token->system_identifier == GetSystemIdentifier())
		token->flags |= what;
}

/*
 * What the session's token comes to with what is pending.
 *
 * The setting can have fallen back behind what is pending, by a rollback, and
 * the client can have set another one.  Neither may be lost.  The primary knew
 * the setting when it made what is pending, unless a hint was in its place.
 */
static void
add_pending(TcsToken *token)
{
	const TcsToken *present = tcs_guc_token();
	const TcsToken *older = present;
	const TcsToken *newer = &pending_token;

	if (present == NULL ||
		(pending_covers_known && memcmp(present, &pending_covers, sizeof(TcsToken)) == 0))
	{
		*token = pending_token;
		return;
	}
	if (present->version != 0 && present->tli == pending_token.tli &&
		present->tli_begin == pending_token.tli_begin &&
		present->system_identifier == pending_token.system_identifier)
	{
		*token = *present;
		tcs_token_raise(token, &pending_token);
		return;
	}
	if (present->tli > pending_token.tli)
	{
		older = &pending_token;
		newer = present;
	}
	if (start_token(token, newer->tli, older))
		tcs_token_raise(token, newer);
	else
		note_apart(token, TCS_TOKEN_SAW_APART);
}

/* The token that the client handed in, with what is pending; NULL if none. */
static const TcsToken *
known_token(TcsToken *buf)
{
	if (!tcs_session_report_is_pending)
		return tcs_guc_token();
	add_pending(buf);
	return buf;
}

/*
 * The token of all that this session has written and may have read.
 *
 * On the primary "read" is covered by a read index; on a standby by the end of
 * the record that is being replayed, since its effects may be visible before
 * the position of replay moves.  May throw, and on the primary flush WAL.
 *
 * Returns whether positions of this node may be added to it.
 */
bool
tcs_session_current_token(TcsToken *token)
{
	bool		is_of_here;
	TcsToken	buf;
	const TcsToken *known = known_token(&buf);

	if (RecoveryInProgress())
	{
		TimeLineID	tli;
		XLogRecPtr	seen;

		seen = GetCurrentReplayRecPtr(&tli);

		/*
		 * On the way to the next timeline, what lies before its beginning is
		 * part of it.  Of one still farther away that is not known.
		 */
		is_of_here = start_token(token, tli, known) ||
			(token->system_identifier == GetSystemIdentifier() &&
			 token->tli == tli + 1 && seen <= token->tli_begin);
		if (is_of_here)
			token->seen_standby = Max(token->seen_standby, seen);
		else
			note_apart(token, TCS_TOKEN_SAW_APART);
	}
	else
	{
		is_of_here = tcs_session_primary_token(known, token);

		/*
		 * This process has seen all that this server did since that commit,
		 * so it is the one that has been flushed just now.
		 */
		if (is_of_here && last_written.tli == token->tli && last_written.lsn >= token->written)
		{
			token->written = last_written.lsn;
			token->flags &= ~TCS_TOKEN_NOT_DURABLE;
		}
	}
	return is_of_here;
}

/*
 * On a primary: a token, and all that may have been seen here by now.  Returns
 * whether positions of this node may be added to it.
 */
bool
tcs_session_primary_token(const TcsToken *given, TcsToken *token)
{
	TcsPosition position = tcs_readindex_make();

	if (!start_token(token, position.tli, given))
	{
		note_apart(token, TCS_TOKEN_SAW_APART);
		return false;
	}
	token->seen_primary = Max(token->seen_primary, position.lsn);
	return true;
}

/*
 * Does a token that is made now miss what its own transaction or statement
 * writes?  The position of a commit is known only when it is done.
 *
 * A query with a data-modifying WITH may not have come to its writes yet.
 */
bool
tcs_session_has_uncommitted(void)
{
	ListCell   *lc;

	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return true;
	if (ActivePortal == NULL)
		return false;
	foreach(lc, ActivePortal->stmts)
	{
		if (lfirst_node(PlannedStmt, lc)->hasModifyingCTE)
			return true;
	}
	return false;
}

/* COMMIT or ROLLBACK PREPARED ran in this transaction. */
void
tcs_session_note_prepared(void)
{
	prepared_transaction_ended = true;
}

/* NOTIFY ran in this transaction. */
void
tcs_session_note_notify(void)
{
	xid_to_come = true;
}

/*
 * Set the token by our own doing: it asks for nothing that this session does
 * not see already, so a gate that was satisfied stays so, unless the token is
 * one that no node satisfies.
 */
static bool
set_own_token(const TcsToken *token)
{
	uint64		generation = tcs_settings_generation;
	char		buf[TCS_TOKEN_MAXLEN + 1];

	if (token->version == 0)
		return true;			/* stays as it is */
	tcs_token_format(token, buf);
	if (!tcs_guc_set_token(token, buf))
		return false;
	if ((token->flags & TCS_TOKEN_APART) == 0)
		tcs_proof_carry_over(generation);
	return true;
}

/* Let the next statement report pending_token. */
static void
make_pending(void)
{
	tcs_session_report_is_pending = true;
	tcs_proof_unsettle();
}

/*
 * A statement of this session runs on the primary, and may see this much; the
 * session's next reads must not fall back behind it.
 *
 * The token has it before the first row goes out, so that anyone who asks for the
 * token after that row gets it.  The gate is unsettled first: this asks for more
 * than what was proved here.
 *
 * "sent" is the token that the primary was sent, or NULL; what it has answered
 * covers that.  This node could not tell so, as long as it does not know the history
 * of a new primary.
 */
void
tcs_session_note_redirected(const TcsToken *seen, const TcsToken *sent)
{
	const TcsToken *present = tcs_guc_token();

	/* mostly nothing was written there since the last one */
	if (!tcs_session_report_is_pending && present != NULL &&
		memcmp(present, seen, sizeof(TcsToken)) == 0)
		return;
	pending_covers_known = !tcs_session_report_is_pending && sent != NULL;
	if (pending_covers_known)
		pending_covers = *sent;
	pending_token = *seen;
	make_pending();
	tcs_session_report_pending();
}

/*
 * Put what is pending into the token: what a commit callback could not, and
 * what a rollback has taken back.  May throw.
 */
void
tcs_session_report_pending(void)
{
	TcsToken	token;

	/* the rollback that is to come would take it back again */
	if (IsAbortedTransactionBlockState())
		return;
	add_pending(&token);
	tcs_session_report_is_pending = false;
	pending_was_set = true;
	tcs_session_is_ending = true;
	if (!set_own_token(&token))
	{
		make_pending();
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("The session token could not be set.")));
	}
	pending_token = token;
}

/*
 * With tcs.report_token = off, the token that was reported last does not cover
 * what this transaction wrote, and the client must not take it for one that
 * does.  So an empty one is reported.  What the session has been handed stays in
 * force for its reads.
 */
static void
withdraw_token(void)
{
	uint64		generation = tcs_settings_generation;

	if (tcs_guc_token() == NULL || tcs_session_token[0] == '\0')
		return;
	if (!tcs_guc_withdraw_token())
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not empty \"%s\"", "tcs.session_token")));
	tcs_proof_carry_over(generation);
}

/*
 * Before the commit record; an error here is an ordinary rollback.
 *
 * What is to be reported is made here as far as it can be.
 */
static void
pre_commit(void)
{
	bool		writes;

	if (RecoveryInProgress())
	{
		/* of a statement that ran on the primary */
		if (tcs_session_report_is_pending)
			tcs_session_report_pending();
		if (tcs_report_token != TCS_REPORT_ALL || !FirstSnapshotSet ||
			!tcs_is_client_backend())
			return;
		(void) tcs_session_current_token(&next_token);
		(void) set_own_token(&next_token);
		return;
	}

	tcs_session_is_ending = true;
	tcs_commits_enter();
	if (!tcs_is_client_backend())
	{
		tcs_lease_before_commit();
		return;
	}

	writes = TransactionIdIsValid(GetTopTransactionIdIfAny()) ||
		prepared_transaction_ended;
	if (writes || xid_to_come)
		tcs_lease_before_commit();
	if (tcs_report_token == TCS_REPORT_OFF)
	{
		if (writes)
			withdraw_token();
		return;
	}
	if (!writes && tcs_report_token == TCS_REPORT_ALL && FirstSnapshotSet)
	{
		/* pg_notify() writes yet, and its commit is added to this token */
		next_is_of_here = tcs_session_current_token(&next_token);
		place_made = set_own_token(&next_token);
	}
	else
	{
		/* even if it does not write: an xid may still come */
		next_is_of_here = start_token(&next_token, GetWALInsertionTimeLine(), tcs_guc_token());
		if (writes || xid_to_come ||
			(MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE) != 0)
			place_made = set_own_token(&next_token);
	}
}

/* Put the position of the commit into the token; nothing here may throw. */
static void
report_commit(void)
{
	char		buf[TCS_TOKEN_MAXLEN + 1];

	if (!next_is_of_here)
		note_apart(&next_token, TCS_TOKEN_WROTE_APART);
	else if (last_written.lsn >= next_token.written)
	{
		next_token.written = last_written.lsn;

		/*
		 * synchronous_commit does not tell: what drops a table is flushed in
		 * any case, and what has an xid but wrote nothing else is not.
		 */
		if (GetFlushRecPtr(NULL) < last_written.lsn)
			next_token.flags |= TCS_TOKEN_NOT_DURABLE;
		else
			next_token.flags &= ~TCS_TOKEN_NOT_DURABLE;
	}
	/* the end of the commit bounds all that was read before it, too */
	if (tcs_report_token == TCS_REPORT_ALL && next_is_of_here)
		next_token.seen_primary = Max(next_token.seen_primary, last_written.lsn);
	else if (tcs_report_token == TCS_REPORT_ALL)
		note_apart(&next_token, TCS_TOKEN_SAW_APART);
	if (next_token.version == 0)
		return;					/* stays as it is */

	if (place_made)
	{
		if (!next_is_of_here)
			tcs_proof_unsettle();
		tcs_token_format(&next_token, buf);
		tcs_guc_overwrite_token(&next_token, buf);
		return;
	}
	pending_token = next_token;
	pending_covers_known = false;
	make_pending();
	tcs_stats_count_late_report();
}

/* After the commit record: nothing here may throw. */
static void
note_committed(void)
{
	tcs_commits_leave();
	/* also without an xid: the commit of a prepared one may be in it */
	tcs_acknowledged_note(XactLastCommitEnd);
	if (!TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
		!prepared_transaction_ended)
	{
		/* an apply worker can have committed a prepared one */
		if (!tcs_is_client_backend())
			tcs_lease_after_commit(XactLastCommitEnd);
		return;
	}

	tcs_lease_after_commit(XactLastCommitEnd);
	last_written.tli = GetWALInsertionTimeLine();
	last_written.lsn = XactLastCommitEnd;
	tcs_proof_note_acknowledged(last_written);
	if (tcs_report_token != TCS_REPORT_OFF && tcs_is_client_backend())
		report_commit();
}

/*
 * After a rollback, of a transaction or a part of one: what was reported late
 * in it has been taken back.
 */
void
tcs_session_rolled_back(void)
{
	if (pending_was_set)
		make_pending();
	pending_was_set = false;
}

static void
forget_transaction(void)
{
	tcs_session_is_ending = false;
	prepared_transaction_ended = false;
	xid_to_come = false;
	place_made = false;
	next_is_of_here = false;
	pending_was_set = false;
}

/* Called at each transaction event at which there may be something to do. */
void
tcs_session_at_xact_event(XactEvent event)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			pre_commit();
			break;

		case XACT_EVENT_COMMIT:
			if (tcs_session_is_ending)
			{
				note_committed();
				forget_transaction();
			}
			break;

		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			tcs_commits_leave();
			tcs_session_rolled_back();
			forget_transaction();
			break;

		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PRE_PREPARE:
			break;
	}
}
