/*-------------------------------------------------------------------------
 *
 * redirect_serve.c
 *	  What the primary does for a statement that a standby has sent.
 *
 * NOTES
 *	  See redirect/remote_xact.c for the other side.  The functions may be called by
 *	  anybody: they do nothing that the caller could not do himself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "gate/gate.h"
#include "primary/smart_shutdown.h"
#include "redirect/carried_settings.h"
#include "redirect/leftovers.h"
#include "redirect/outage.h"
#include "session/redirected_for.h"
#include "session/session_token.h"

PG_FUNCTION_INFO_V1(tcs_redirect_begin);
PG_FUNCTION_INFO_V1(tcs_redirect_check);
PG_FUNCTION_INFO_V1(tcs_redirect_settings);

/*
 * Is this where the standby meant to be?  Databases and roles are told by number,
 * as somebody can have given their names to others here.
 */
static void
require_place(uint64 system_identifier, Oid database, Oid user)
{
	if (system_identifier != GetSystemIdentifier())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg(TCS_REFUSED_CLUSTER)));
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg(TCS_REFUSED_STANDBY)));
	if (database != MyDatabaseId)
	{
		const char *meant = get_database_name(database);

		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the redirect server leads to database \"%s\" in place of \"%s\"",
						get_database_name(MyDatabaseId), meant ? meant : "?")));
	}
	if (user != GetSessionUserId())
	{
		const char *meant = GetUserNameFromId(user, true);

		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the redirect server leads to user \"%s\" in place of \"%s\"",
						GetUserNameFromId(GetSessionUserId(), false), meant ? meant : "?")));
	}
}

/*
 * redirect_begin(): the first statement of a redirected transaction.
 *
 * What it needs was said by SET LOCAL tcs.redirected_for, which has waited for
 * it before the transaction's snapshot was taken.  Returns a token that covers
 * all that the snapshot shows: the position is read here, after it.  55000 or 42501 if this is not the right place, TC001 to TC004 if this
 * node does not have what the token names.
 */
Datum
tcs_redirect_begin(PG_FUNCTION_ARGS)
{
	bytea	   *settings = PG_GETARG_BYTEA_PP(3);
	const TcsRedirected *wanted;
	TcsToken	seen;
	char		buf[TCS_TOKEN_MAXLEN + 1];

	require_place((uint64) PG_GETARG_INT64(0),
				  PG_GETARG_OID(1), PG_GETARG_OID(2));
	if (!IsolationUsesXactSnapshot() || !XactReadOnly)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("redirect_begin() must be called in a REPEATABLE READ, READ ONLY transaction")));
	tcs_leave_if_stopping();
	wanted = tcs_gate_check_redirected();
	tcs_leftover_watch();
	(void) tcs_session_primary_token(wanted->have_token ? &wanted->token : NULL, &seen);
	tcs_settings_apply(VARDATA_ANY(settings), VARSIZE_ANY_EXHDR(settings));
	tcs_token_format(&seen, buf);
	PG_RETURN_TEXT_P(cstring_to_text(buf));
}

/*
 * redirect_settings(): the session's settings have changed since the transaction
 * began.
 */
Datum
tcs_redirect_settings(PG_FUNCTION_ARGS)
{
	bytea	   *settings = PG_GETARG_BYTEA_PP(0);

	tcs_settings_apply(VARDATA_ANY(settings), VARSIZE_ANY_EXHDR(settings));
	PG_RETURN_VOID();
}

/*
 * redirect_check(): 0A000 if the statement has changed a setting, or holds an
 * advisory lock that it cannot keep.  Those of the transaction may be held if
 * nothing of the client's transaction comes after this one.  Cursors may be open
 * if they are brought to the standby, or if nobody comes to fetch from them.
 */
Datum
tcs_redirect_check(PG_FUNCTION_ARGS)
{
	tcs_settings_require_unchanged();
	tcs_leftover_require_none(PG_GETARG_BOOL(0));
	if (!PG_GETARG_BOOL(1))
		tcs_leftover_require_no_cursor();
	PG_RETURN_VOID();
}
