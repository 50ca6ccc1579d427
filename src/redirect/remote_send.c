/*-------------------------------------------------------------------------
 *
 * remote_send.c
 *	  What is sent to the redirect server within a transaction.
 *
 * NOTES
 *	  Statements, settings and COMMIT go out as parts of a pipeline, whose results
 *	  are read elsewhere (redirect/remote_begin.c, redirect/remote_xact.c).  Nothing here waits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "redirect/carried_settings.h"
#include "redirect/notices.h"
#include "redirect/portable.h"
#include "redirect/receive.h"
#include "redirect/remote_state.h"
#include "redirect/text_form.h"
#include "statement/statement_source.h"

#define TCS_SQL_SETTINGS "SELECT tcs_internal.redirect_settings($1::pg_catalog.bytea)"
#define TCS_SQL_CHECK	"SELECT tcs_internal.redirect_check(%s, %s)"


/* Collect the settings to be sent; true if they are not those in force there. */
bool
tcs_send_collect_settings(void)
{
	StringInfoData settings;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	bool		changed;

	if (tcs_remote.settings.data == NULL)
		initStringInfo(&tcs_remote.settings);
	initStringInfo(&settings);
	MemoryContextSwitchTo(old);
	tcs_settings_collect(&settings);
	changed = !tcs_remote.settings_known || settings.len != tcs_remote.settings.len ||
		memcmp(settings.data, tcs_remote.settings.data, settings.len) != 0;
	pfree(tcs_remote.settings.data);
	tcs_remote.settings = settings;
	tcs_remote.settings_known = true;
	return changed;
}

/* Settings that have changed since the transaction began there. */
bool
tcs_send_settings(void)
{
	const char *value = tcs_remote.settings.data;
	const int	length = tcs_remote.settings.len;
	const int	format = 1;

	return PQsendQueryParams(tcs_peer.conn, TCS_SQL_SETTINGS, 1, NULL, &value,
							 &length, &format, 0);
}

/* A parameter as it is sent. */
static void
encode_param(const ParamExternData *param, const char **value, int *length, int *format)
{
	Oid			function;
	bool		is_varlena;
	int			level;

	if (param->isnull || !OidIsValid(param->ptype))
	{
		*value = NULL;
		return;
	}
	if ((tcs_portable_type(param->ptype) == TCS_TRANSFER_BINARY &&
		 !tcs_receive_needs_text(param->ptype, param->value)) ||
		tcs_portable_is_name(param->ptype))
	{
		bytea	   *bytes;

		getTypeBinaryOutputInfo(param->ptype, &function, &is_varlena);
		bytes = OidSendFunctionCall(function, param->value);
		*value = VARDATA(bytes);
		*length = VARSIZE(bytes) - VARHDRSZ;
		*format = 1;
		return;
	}
	/* names are none of these, so it is an array, a row or a range */
	if (!tcs_text_form_is_read_exactly())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot redirect a parameter of type %s while array_nulls is off or xmloption is document",
						format_type_be(param->ptype))));
	getTypeOutputInfo(param->ptype, &function, &is_varlena);
	level = tcs_text_form_begin();
	*value = OidOutputFunctionCall(function, param->value);
	tcs_text_form_end(level);
	if (tcs_receive_is_special(param->ptype))
		tcs_told_expect_of_input(param->ptype, *value);
}

/* Parameters as they are sent. */
typedef struct Params
{
	const ParamExternData *params;
	int			n;
	const char **values;
	int		   *lengths;
	int		   *formats;
} Params;

static void
encode_params(void *arg)
{
	Params	   *p = arg;

	for (int i = 0; i < p->n; i++)
		encode_param(&p->params[i], &p->values[i], &p->lengths[i], &p->formats[i]);
}

/* The client's statement; its rows are to come in binary. */
static bool
send_statement(const TcsStatement *statement, ParamListInfo params)
{
	int			n;
	Oid		   *types = tcs_statement_param_types(params, &n);
	const char **values = palloc0(Max(n, 1) * sizeof(char *));
	int		   *lengths = palloc0(Max(n, 1) * sizeof(int));
	int		   *formats = palloc0(Max(n, 1) * sizeof(int));
	const char *sql = psprintf("%s%s", statement->sql, statement->mark);

	if (n > 0)
	{
		Params		encoded = {params->params, n, values, lengths, formats};

		tcs_wire_in_own_encoding(encode_params, &encoded);
	}

	tcs_peer.running = true;
	tcs_peer.sql = NULL;
	tcs_remote.started = false;
	tcs_remote.preparing = 0;
	if (statement->number == 0 || tcs_peer.unprepared)
		return PQsendQueryParams(tcs_peer.conn, sql, n, types, values,
								 lengths, formats, 1);

	if (!bms_is_member(statement->number, tcs_remote.prepared))
	{
		if (!PQsendPrepare(tcs_peer.conn, tcs_peer_name("", statement->number),
						   sql, n, types))
			return false;
		tcs_remote.preparing = statement->number;
	}
	return PQsendQueryPrepared(tcs_peer.conn, tcs_peer_name("", statement->number), n, values, lengths, formats, 1);
}

/* The statement, what follows on it, and the end of its transaction. */
bool
tcs_send_statement(const TcsStatement *statement, ParamListInfo params)
{
	if (!send_statement(statement, params))
		return false;
	tcs_remote.check_follows = statement->runs_user_code;
	/* its locks last as long as they would in the client's transaction */
	if (tcs_remote.check_follows &&
		!tcs_peer_command(NULL, psprintf(TCS_SQL_CHECK,
										 tcs_remote.whole || !IsTransactionBlock() ?
										 "true" : "false",
										 statement->leaves_cursors || !IsTransactionBlock() ?
										 "true" : "false")))
		return false;
	tcs_remote.lasting = statement->leaves_cursors && !tcs_remote.whole;
	tcs_remote.commit_follows = !tcs_remote.whole && !tcs_remote.lasting;
	if (tcs_remote.commit_follows && !tcs_peer_command("commit", TCS_SQL_COMMIT))
		return false;
	return tcs_peer_sync();
}

/* The end of a transaction, or what is to be done after it has failed. */
bool
tcs_send_commit(void)
{
	if (!tcs_peer_command("commit", TCS_SQL_COMMIT) || !tcs_peer_sync())
		return false;
	tcs_remote.open = false;
	return true;
}
