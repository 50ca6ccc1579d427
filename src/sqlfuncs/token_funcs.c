/*-------------------------------------------------------------------------
 *
 * token_funcs.c
 *	  SQL-callable functions about session tokens.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/errcodes.h"
#include "base/history.h"
#include "base/interval.h"
#include "base/settings.h"
#include "gate/context.h"
#include "gate/gate.h"
#include "session/session_token.h"
#include "sqlfuncs/rows.h"
#include "token/token.h"

PG_FUNCTION_INFO_V1(tcs_session_token_fn);
PG_FUNCTION_INFO_V1(tcs_token_info);
PG_FUNCTION_INFO_V1(tcs_merge_tokens);
PG_FUNCTION_INFO_V1(tcs_wait_for);

/* Parse the text of a token argument, or throw. */
static void
parse_token_argument(text *argument, TcsToken *token)
{
	char	   *str = text_to_cstring(argument);

	if (!tcs_token_parse(str, token))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid session token: \"%.*s\"",
						pg_mbcliplen(str, strlen(str), TCS_TOKEN_MAXLEN), str),
				 errdetail("This is not a session token, or it was damaged on its way.")));
}

static void
require_known_version(const TcsToken *token)
{
	if (token->version == 0)
		ereport(ERROR,
				(errcode(ERRCODE_TCS_FRESHNESS_UNKNOWN),
				 errmsg("the session token was made by a newer version of tcs"),
				 errhint("Upgrade tcs on this node.")));
}

Datum
tcs_session_token_fn(PG_FUNCTION_ARGS)
{
	TcsToken	token;
	char		buf[TCS_TOKEN_MAXLEN + 1];

	tcs_require_preloaded();
	if (tcs_session_has_uncommitted())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot take a session token in a transaction that has written"),
				 errdetail("The token would not cover what the transaction writes: its position is known only after COMMIT."),
				 errhint("Take the token after COMMIT, or use the one that the server reports as parameter tcs.session_token.")));
	(void) tcs_session_current_token(&token);
	require_known_version(&token);
	tcs_token_format(&token, buf);
	PG_RETURN_TEXT_P(cstring_to_text(buf));
}

/* Is what a token names part of this node's history? */
typedef enum TokenHistory
{
	TOKEN_ON_HISTORY,
	TOKEN_ELSEWHERE,
	TOKEN_NOT_YET_KNOWN
} TokenHistory;

/*
 * The same with the reason, for people, if it is not.
 *
 * On the timeline that a standby replays, what it has not come to yet may still
 * be left behind by another timeline; so that is not known.  A primary knows
 * where its WAL ends.
 */
static TokenHistory
judge_history(const TcsToken *token, const TcsContext *context, const char **detail)
{
	XLogRecPtr	highest = Max(token->written,
							  Max(token->seen_primary, token->seen_standby));
	TcsPosition named = {token->tli, highest};
	TcsOnHistory where;
	TcsTimeline fork;

	*detail = NULL;
	if (token->system_identifier != context->system_identifier)
	{
		*detail = "another cluster";
		return TOKEN_ELSEWHERE;
	}
	where = tcs_history_locate(context->history, token->tli, token->tli_begin,
							   highest, &fork);
	if (where == TCS_HISTORY_FORKED)
	{
		*detail = fork.tli == 0 ? "another timeline" :
			psprintf("forked at " TCS_LSN_FMT " of timeline %u",
					 LSN_FORMAT_ARGS(fork.end), fork.tli);
		return TOKEN_ELSEWHERE;
	}
	if (where != TCS_HISTORY_UNKNOWN && (token->flags & TCS_TOKEN_APART) != 0)
	{
		*detail = "part of it is on another history";
		return TOKEN_ELSEWHERE;
	}
	if (where == TCS_HISTORY_YES)
	{
		if (tcs_position_reached(named, context->at))
			return TOKEN_ON_HISTORY;
		if (!context->in_recovery)
		{
			*detail = psprintf("WAL ends at " TCS_LSN_FMT,
							   LSN_FORMAT_ARGS(context->at.lsn));
			return TOKEN_ELSEWHERE;
		}
	}
	*detail = "not yet known";
	return TOKEN_NOT_YET_KNOWN;
}

/* A position; null if the token has none. */
static Datum
lsn_or_null(XLogRecPtr lsn, bool *null)
{
	*null = lsn == InvalidXLogRecPtr;
	return LSNGetDatum(lsn);
}

Datum
tcs_token_info(PG_FUNCTION_ARGS)
{
	TcsToken	token;
	TcsContext	context;
	Datum		values[11];
	bool		nulls[11] = {false};
	const char *detail;
	TokenHistory history;

	tcs_require_preloaded();
	parse_token_argument(PG_GETARG_TEXT_PP(0), &token);
	if (token.version == 0)
	{
		memset(nulls, true, sizeof(nulls));
		values[9] = CStringGetTextDatum("made by a newer version of tcs");
		nulls[9] = false;
		return tcs_one_row(fcinfo, lengthof(values), values, nulls);
	}

	tcs_context_build(&context, NULL, &token);
	history = judge_history(&token, &context, &detail);
	values[0] = Int32GetDatum(token.version);
	values[1] = Int64GetDatum((int64) token.system_identifier);
	values[2] = Int32GetDatum((int32) token.tli);
	values[3] = LSNGetDatum(token.tli_begin);
	values[4] = lsn_or_null(token.written, &nulls[4]);

	/*
	 * That the position has been flushed by now says nothing: after a crash,
	 * it can be another commit's.  On an older timeline it cannot.
	 */
	values[5] = BoolGetDatum((token.flags & TCS_TOKEN_NOT_DURABLE) == 0 ||
							 (history == TOKEN_ON_HISTORY && token.tli < context.at.tli));
	nulls[5] = nulls[4];
	values[6] = lsn_or_null(token.seen_primary, &nulls[6]);
	values[7] = lsn_or_null(token.seen_standby, &nulls[7]);
	values[8] = BoolGetDatum(history == TOKEN_ON_HISTORY);
	nulls[8] = history == TOKEN_NOT_YET_KNOWN;
	values[9] = tcs_text_or_null(detail, &nulls[9]);
	/* what is not of this history will never be reached */
	values[10] = BoolGetDatum(history == TOKEN_ON_HISTORY);
	nulls[10] = history == TOKEN_ELSEWHERE;
	return tcs_one_row(fcinfo, lengthof(values), values, nulls);
}

/*
 * Make a token that asks for what either asks for.  Of two timelines the newer
 * one stays, and the other's positions must lie on its history.
 */
static void
merge_tokens(TcsToken *a, TcsToken *b)
{
	TcsToken   *older = a->tli < b->tli ? a : b;
	TcsToken   *newer = a->tli < b->tli ? b : a;
	XLogRecPtr	highest = Max(older->written,
							  Max(older->seen_primary, older->seen_standby));
	TcsContext	context;
	TcsTimeline fork;

	if (a->system_identifier != b->system_identifier)
		ereport(ERROR,
				(errcode(ERRCODE_TCS_FOREIGN_CLUSTER),
				 errmsg("cannot merge session tokens of different database clusters")));

	if (older->tli != newer->tli || older->tli_begin != newer->tli_begin)
	{
		tcs_context_build(&context, NULL, NULL);
		if (context.system_identifier != newer->system_identifier ||
			tcs_history_locate(context.history, newer->tli, newer->tli_begin,
							   newer->tli_begin + 1, NULL) != TCS_HISTORY_YES)
			ereport(ERROR,
					(errcode(ERRCODE_TCS_FRESHNESS_UNKNOWN),
					 errmsg("cannot merge session tokens of different timelines here"),
					 errdetail("This node does not know the history of timeline %u.",
							   newer->tli),
					 errhint("Merge them on a node that follows the present primary.")));
		if (tcs_history_locate(context.history, older->tli, older->tli_begin,
							   highest, &fork) != TCS_HISTORY_YES)
			ereport(ERROR,
					(errcode(ERRCODE_TCS_LOST_IN_FAILOVER),
					 errmsg("cannot merge session tokens of different histories"),
					 errdetail("What one of them names on timeline %u was lost in a failover.",
							   older->tli)));
		/* as in a session: its timeline has been left behind it */
		older->flags &= ~TCS_TOKEN_NOT_DURABLE;
	}
	tcs_token_raise(newer, older);
	if (newer != a)
		*a = *newer;
}

Datum
tcs_merge_tokens(PG_FUNCTION_ARGS)
{
	TcsToken	a;
	TcsToken	b;
	char		buf[TCS_TOKEN_MAXLEN + 1];
	bool		empty_a;
	bool		empty_b;

	tcs_require_preloaded();
	/* no token asks for nothing */
	empty_a = PG_ARGISNULL(0) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(0)) == 0;
	empty_b = PG_ARGISNULL(1) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(1)) == 0;
	if (!empty_a)
	{
		parse_token_argument(PG_GETARG_TEXT_PP(0), &a);
		require_known_version(&a);
	}
	if (!empty_b)
	{
		parse_token_argument(PG_GETARG_TEXT_PP(1), &b);
		require_known_version(&b);
	}
	if (empty_a && empty_b)
		PG_RETURN_NULL();
	if (empty_a)
		a = b;
	else if (!empty_b)
		merge_tokens(&a, &b);
	tcs_token_format(&a, buf);
	PG_RETURN_TEXT_P(cstring_to_text(buf));
}

/*
 * Wait without the snapshot that the CALL has, as core's procedures that wait
 * do: an atomic context (a function or a transaction block of a procedure)
 * cannot give it back.
 */
Datum
tcs_wait_for(PG_FUNCTION_ARGS)
{
	CallContext *call = fcinfo->context && IsA(fcinfo->context, CallContext) ?
	(CallContext *) fcinfo->context : NULL;
	TcsToken	token;
	int			max_wait = tcs_guc_max_wait();

	tcs_require_preloaded();
	if (PG_ARGISNULL(0) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(0)) == 0)
		PG_RETURN_VOID();
	parse_token_argument(PG_GETARG_TEXT_PP(0), &token);
	if (!PG_ARGISNULL(1))
	{
		int64		us = tcs_interval_us(PG_GETARG_INTERVAL_P(1));

		if (us < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"max_wait\" must not be negative")));
		max_wait = (int) Min(us / 1000 + (us % 1000 != 0), PG_INT32_MAX);
		if (tcs_max_wait_limit >= 0)
			max_wait = Min(max_wait, tcs_max_wait_limit);
	}

	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("tcs.wait_for() cannot be used in a transaction with isolation level REPEATABLE READ"),
				 errhint("SET tcs.session_token before the first query of the transaction waits for it.")));
	if (call != NULL && ActiveSnapshotSet())
	{
		/* the portal takes a new one when it needs it */
		if (ActivePortal && ActivePortal->portalSnapshot == GetActiveSnapshot())
			ActivePortal->portalSnapshot = NULL;
		PopActiveSnapshot();
	}
	InvalidateCatalogSnapshot();
	if (call == NULL || ActiveSnapshotSet())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("tcs.wait_for() must be called directly, not within a function or another statement")));

	tcs_gate_wait_for_token(&token, max_wait);
	PG_RETURN_VOID();
}

