/*-------------------------------------------------------------------------
 *
 * tcs_remote.c
 *	  This session's connection to the redirect server.
 *
 * NOTES
 *	  A redirected statement costs one round trip: everything goes out as one
 *	  pipeline,
 *
 *		BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY
 *		SET LOCAL tcs.redirected_for = level and token
 *		SELECT whether schema "tcs" is that of the extension
 *		SELECT tcs.redirect_begin(where, who, settings)
 *		(flush)
 *		the statement
 *		COMMIT
 *		(Sync)
 *
 *	  SET waits on the primary for commits that are under way and that the token
 *	  names.  It needs no snapshot, so the transaction takes its snapshot after
 *	  that wait.
 *
 *	  Nobody's functions but the extension's are called there: in a database
 *	  without the extension anybody may have made a schema "tcs", and this session's
 *	  user may be a superuser.  If the schema is not the extension's, the command
 *	  fails, and the server skips the call.  Types of the arguments are named, so
 *	  that no other function of that name fits better.
 *
 *	  redirect_begin() checks on the primary that it is the primary of this
 *	  cluster, this database and this user, that it has what the token names, and
 *	  sets the session's settings for the transaction.  Should it fail, the server
 *	  skips what follows up to the Sync, so the statement runs only where it
 *	  should.  Its answer is waited for before anything is decided, at most
 *	  tcs.redirect_timeout; the rows come when the executor wants them.  The
 *	  transaction's snapshot is there when redirect_begin() looks at the position
 *	  of WAL, so the position it returns covers all that the statement can show:
 *	  that is why it is REPEATABLE READ.  If the statement fails, the server skips
 *	  COMMIT as well; another one is sent then, at the end of the local transaction,
 *	  and its result is read before the next statement.
 *
 *	  Nothing on the server outlives a transaction but prepared statements, so
 *	  there may be a pooler between; if it does not keep those, we stop using
 *	  them.  Rows are taken one at a time (or some, from libpq 17 on), so a large
 *	  result stays in the network until it is wanted.
 *
 *	  A statement that is given up is not cancelled through libpq, whose cancel
 *	  can block for minutes before 17: unless its end has come already, the
 *	  connection is closed, and the server
 *	  looks every second whether its client is still there
 *	  (client_connection_check_interval).
 *
 *	  All waits are on this session's latch, the socket and the postmaster, and
 *	  can be interrupted.  After an error, tcs_remote_transaction_ended() finds
 *	  the connection as it is, and keeps it only if nothing is under way on it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/sinval.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timeout.h"

#include "tcs_budget.h"
#include "tcs_compat.h"
#include "tcs_fdw.h"
#include "tcs_fresh.h"
#include "tcs_guc.h"
#include "tcs_portable.h"
#include "tcs_receive.h"
#include "tcs_remote.h"
#include "tcs_settings.h"
#include "tcs_text_form.h"
#include "tcs_told.h"

#define TCS_SQL_BEGIN	"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
/* the text that is no number becomes the message */
#define TCS_SQL_GUARD \
	"SELECT (CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_extension e, pg_catalog.pg_namespace n" \
	" WHERE e.extname OPERATOR(pg_catalog.=) 'tcs' AND n.nspname OPERATOR(pg_catalog.=) 'tcs'" \
	" AND n.oid OPERATOR(pg_catalog.=) e.extnamespace)" \
	" THEN '1' ELSE 'extension tcs is not installed in this database' END)::pg_catalog.int4"
#define TCS_SQL_CALL \
	"SELECT tcs.redirect_begin($1::pg_catalog.int8, $2::pg_catalog.oid," \
	" $3::pg_catalog.oid, $4::pg_catalog.bytea)"
#define TCS_SQL_SETTINGS "SELECT tcs.redirect_settings($1::pg_catalog.bytea)"
#define TCS_SQL_CHECK	"SELECT tcs.redirect_check(%s, %s)"
#define TCS_SQL_COMMIT	"COMMIT"

/* Commands of ours before the statement; the last is redirect_begin(). */
#define TCS_BEGIN_COMMANDS	4

/* Statements prepared on one connection, before it is replaced by a new one. */
#define TCS_MAX_PREPARED	1000

bool		tcs_remote_is_connected = false;

static struct
{
	bool		ready;			/* connected and checked */
	Oid			user;			/* for whom it was made */
	bool		changed;		/* server or mapping were, since */
	Bitmapset  *prepared;		/* numbers of the client's statements that are */
	int			nprepared;		/* how many, also of those not used any more */
	int64		last_used;
	TcsGrowth	growth;

	uint32		preparing;		/* which is prepared first; 0: it is not */
	bool		started;		/* are the statement's own results being read? */
	bool		check_follows;	/* our commands behind it */
	bool		commit_follows;
	bool		open;			/* a transaction whose COMMIT was not sent */
	bool		whole;			/* which is to last as long as the local one */
	bool		lasting;		/* or until the cursors of its statement are
								 * brought */
	StringInfoData settings;	/* that were sent for it */
	bool		settings_known; /* and are in force there */
	int			depth;			/* savepoints in it, and our own level */
	int			rollback_to;	/* savepoint to return to first; 0: none */
	int			release;		/* savepoint to release first; 0: none */

	TcsReader  *reader;			/* who reads its rows, or NULL */
	int			reader_level;	/* of the subtransaction that it began in */
}			remote;

/*
 * The present transaction runs there as a whole, or did until the connection
 * was lost.
 */
static bool in_whole = false;

static TimeoutId idle_timer;
static volatile sig_atomic_t idle_expired = false;


/* Close the connection, in whatever state it is.  Does not throw. */
static void
close_connection(void)
{
	if (tcs_peer.conn)
		tcs_peer_close();
	tcs_budget_give_back();
	bms_free(remote.prepared);
	if (remote.settings.data)
		pfree(remote.settings.data);
	memset(&remote, 0, sizeof(remote));
	/* the end of the transaction is still to be seen */
	tcs_remote_is_connected = in_whole;
}

/*
 * Does the local transaction run there as a whole?  Also if the connection is
 * lost meanwhile: nothing of it may run here.
 */
bool
tcs_remote_is_begun(void)
{
	return in_whole;
}

/* Was a statement analysed there before? */
bool
tcs_remote_has_prepared(const TcsStatement *statement)
{
	return statement->number != 0 && bms_is_member(statement->number, remote.prepared);
}


/* ---- sending ---- */

/* Collect the settings to be sent; true if they are not those in force there. */
static bool
collect_settings(void)
{
	StringInfoData settings;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	bool		changed;

	if (remote.settings.data == NULL)
		initStringInfo(&remote.settings);
	initStringInfo(&settings);
	MemoryContextSwitchTo(old);
	tcs_settings_collect(&settings);
	changed = !remote.settings_known || settings.len != remote.settings.len ||
		memcmp(settings.data, remote.settings.data, settings.len) != 0;
	pfree(remote.settings.data);
	remote.settings = settings;
	remote.settings_known = true;
	return changed;
}

/*
 * What has to be visible there before the transaction takes its snapshot.  The
 * primary waits a bit less than we do, so that it can still say what for.
 */
static bool
send_wanted(const TcsRemoteBegin *begin, int64 deadline)
{
	char		token[TCS_TOKEN_MAXLEN + 1] = "";
	char		sql[TCS_TOKEN_MAXLEN + 100];
	int64		left = Max(deadline - tcs_now(), 0) / 1000;

	if (begin->token)
		tcs_token_format(begin->token, token);
	snprintf(sql, sizeof(sql), "SET LOCAL %s = '%s %d %s'", TCS_REDIRECTED_FOR,
			 tcs_level_name(begin->level), (int) Min(left - left / 8, PG_INT32_MAX), token);
	return tcs_peer_command(NULL, sql);
}

/* The call that makes the transaction on the primary what it has to be. */
static bool
send_call(void)
{
	char		identifier[32];
	const char *values[4];
	int			lengths[4] = {0};
	int			formats[4] = {0};

	(void) collect_settings();
	snprintf(identifier, sizeof(identifier), INT64_FORMAT, (int64) GetSystemIdentifier());
	values[0] = identifier;
	/* their names may be others' by now */
	values[1] = psprintf("%u", MyDatabaseId);
	values[2] = psprintf("%u", GetSessionUserId());
	values[3] = remote.settings.data;
	lengths[3] = remote.settings.len;
	formats[3] = 1;
	if (tcs_peer.unprepared)
		return PQsendQueryParams(tcs_peer.conn, TCS_SQL_CALL, lengthof(values), NULL,
								 values, lengths, formats, 0);
	return PQsendQueryPrepared(tcs_peer.conn, tcs_peer_name("call", 0),
							   lengthof(values), values, lengths, formats, 0);
}

/* Settings that have changed since the transaction began there. */
static bool
send_settings(void)
{
	const char *value = remote.settings.data;
	const int	length = remote.settings.len;
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
	remote.started = false;
	remote.preparing = 0;
	if (statement->number == 0 || tcs_peer.unprepared)
		return PQsendQueryParams(tcs_peer.conn, sql, n, types, values,
								 lengths, formats, 1);

	if (!bms_is_member(statement->number, remote.prepared))
	{
		if (!PQsendPrepare(tcs_peer.conn, tcs_peer_name("", statement->number),
						   sql, n, types))
			return false;
		remote.preparing = statement->number;
	}
	return PQsendQueryPrepared(tcs_peer.conn, tcs_peer_name("", statement->number), n, values, lengths, formats, 1);
}

/* The statement, what follows on it, and the end of its transaction. */
static bool
send_rest(const TcsStatement *statement, ParamListInfo params)
{
	if (!send_statement(statement, params))
		return false;
	remote.check_follows = statement->runs_user_code;
	/* its locks last as long as they would in the client's transaction */
	if (remote.check_follows &&
		!tcs_peer_command(NULL, psprintf(TCS_SQL_CHECK,
										 remote.whole || !IsTransactionBlock() ?
										 "true" : "false",
										 statement->leaves_cursors || !IsTransactionBlock() ?
										 "true" : "false")))
		return false;
	remote.lasting = statement->leaves_cursors && !remote.whole;
	remote.commit_follows = !remote.whole && !remote.lasting;
	if (remote.commit_follows && !tcs_peer_command("commit", TCS_SQL_COMMIT))
		return false;
	return tcs_peer_sync();
}

/* The end of a transaction, or what is to be done after it has failed. */
static bool
send_commit(void)
{
	if (!tcs_peer_command("commit", TCS_SQL_COMMIT) || !tcs_peer_sync())
		return false;
	remote.open = false;
	return true;
}

static bool
send_pipeline(const TcsRemoteBegin *begin, int64 deadline)
{
	if (!tcs_peer_command("begin", TCS_SQL_BEGIN))
		return false;
	remote.open = true;
	remote.whole = begin->whole;
	remote.depth = 1;
	remote.rollback_to = remote.release = 0;
	if (!send_wanted(begin, deadline) || !tcs_peer_command("guard", TCS_SQL_GUARD) ||
		!send_call())
		return false;
	if (begin->statement == NULL)
		return tcs_peer_sync();
	return PQsendFlushRequest(tcs_peer.conn) &&
		send_rest(begin->statement, begin->params);
}


/* ---- connecting ---- */

/* Is this how a pooler says that it does not keep prepared statements? */
static bool
is_about_prepared(const char *sqlstate)
{
	return strcmp(sqlstate, "26000") == 0 || strcmp(sqlstate, "42P05") == 0 ||
		strcmp(sqlstate, "08P01") == 0;
}

/* Keep what the server has refused with, and say it in words. */
static char *
describe_refusal(char sqlstate[6])
{
	const char *state = PQresultErrorField(tcs_peer.result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(tcs_peer.result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(tcs_peer.result, PG_DIAG_MESSAGE_DETAIL);

	strlcpy(sqlstate, state ? state : "", 6);
	if (message && detail && strncmp(sqlstate, "TC", 2) == 0)
		return psprintf("%s: %s", tcs_peer_message(message), tcs_peer_message(detail));
	if (message == NULL)
		message = PQresultErrorMessage(tcs_peer.result);
	return message[0] == '\0' ? pstrdup("the server did not say why it refused") :
		tcs_peer_message(message);
}

/*
 * Prepare what each transaction needs, in one before it: parse analysis takes a
 * snapshot, and BEGIN must come before the first.
 */
static bool
prepare_own(int64 deadline, char **failure)
{
	char		sqlstate[6] = "";
	bool		done;

	done = PQsendPrepare(tcs_peer.conn, tcs_peer_name("begin", 0), TCS_SQL_BEGIN, 0, NULL) &&
		PQsendPrepare(tcs_peer.conn, tcs_peer_name("commit", 0), TCS_SQL_COMMIT, 0, NULL) &&
		PQsendPrepare(tcs_peer.conn, tcs_peer_name("guard", 0), TCS_SQL_GUARD, 0, NULL) &&
		PQsendPrepare(tcs_peer.conn, tcs_peer_name("call", 0), TCS_SQL_CALL, 0, NULL) &&
		tcs_peer_sync();
	*failure = NULL;
	while (done && tcs_peer.syncs > 0)
	{
		done = tcs_peer_fetch(deadline) == TCS_ARRIVED;
		if (!done || tcs_peer.result == NULL)
			continue;
		switch (PQresultStatus(tcs_peer.result))
		{
			case PGRES_COMMAND_OK:
			case PGRES_PIPELINE_ABORTED:
				break;
			case PGRES_PIPELINE_SYNC:
				tcs_peer.syncs--;
				break;
			case PGRES_FATAL_ERROR:
				*failure = describe_refusal(sqlstate);
				break;
			default:
				tcs_peer_violates("the server's answers are not those to PREPARE");
				done = false;
		}
	}
	if (!done)
		*failure = tcs_peer.violation || tcs_now() < deadline ? tcs_peer_loss() :
			psprintf("no answer within tcs.redirect_timeout (%d ms)", tcs_redirect_timeout);
	else if (*failure && is_about_prepared(sqlstate))
	{
		tcs_peer.unprepared = true;
		*failure = NULL;
	}
	return *failure == NULL;
}

/* After ALTER or DROP of a server or a mapping. */
static void
server_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	remote.changed = true;
}

/*
 * The connection has been idle for long: have core run an empty transaction,
 * at whose end it is closed.  In a signal handler.
 */
static void
idle_timeout(void)
{
	idle_expired = true;
	catchupInterruptPending = true;
	SetLatch(MyLatch);
}

static void
close_at_exit(int code, Datum arg)
{
	close_connection();
}

static void
set_up(void)
{
	static bool done = false;

	if (done)
		return;
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, server_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, server_changed, (Datum) 0);
	idle_timer = RegisterTimeout(USER_TIMEOUT, idle_timeout);
	before_shmem_exit(close_at_exit, (Datum) 0);
	done = true;
}


/* Connect as this session's user. */
static bool
connect_anew(TcsRemoteBegin *begin, int64 deadline)
{
	TcsServer  *server = tcs_server_get(&begin->failure);

	if (server == NULL)
		return false;
	set_up();
	if (!tcs_budget_take(tcs_max_redirect_connections, deadline))
	{
		begin->over_budget = true;
		begin->failure = psprintf("all %d connections that tcs.max_redirect_connections allows are in use",
								  tcs_max_redirect_connections);
		return false;
	}
	tcs_remote_is_connected = true;
	if (!tcs_peer_connect(server, deadline, &begin->failure))
	{
		close_connection();
		return false;
	}
	remote.ready = true;
	remote.user = GetSessionUserId();
	tcs_budget_count_connection();
	tcs_growth_begin(&remote.growth, TCS_GROWTH_SESSION);
	if (!prepare_own(deadline, &begin->failure))
	{
		close_connection();
		return false;
	}
	return true;
}

/* Can the connection that is there be used for a new transaction? */
static bool
is_usable(int64 deadline)
{
	if (!remote.ready || !tcs_peer_is_sound() || remote.changed || remote.nprepared >= TCS_MAX_PREPARED ||
		remote.user != GetSessionUserId() || tcs_growth_is_over(&remote.growth) ||
		strncmp(tcs_peer.server, tcs_redirect_server, NAMEDATALEN - 1) != 0)
		return false;
	tcs_peer_expect_answers();
	/* a statement has failed, or was not read to its end */
	if (remote.open && !send_commit())
		return false;
	/* the server may have closed it */
	if (!tcs_intake_read(&tcs_peer.intake, tcs_peer.conn) || tcs_peer_read_to_last_sync(deadline) != TCS_ARRIVED)
		return false;
	return PQtransactionStatus(tcs_peer.conn) == PQTRANS_IDLE;
}


/* ---- beginning ---- */

/*
 * Read the result of one command, which must not fail, and has the given status.
 */
static TcsArrival
read_command(ExecStatusType wanted, int64 deadline, bool *failed)
{
	TcsArrival	arrival = tcs_peer_fetch(deadline);

	*failed = false;
	if (arrival != TCS_ARRIVED || PQresultStatus(tcs_peer.result) == wanted)
		return arrival;
	if (tcs_peer.result != NULL && PQresultStatus(tcs_peer.result) == PGRES_FATAL_ERROR)
	{
		*failed = true;
		return TCS_ARRIVED;
	}
	tcs_peer_violates("the server's answer is not that to the command it was sent");
	return TCS_CONNECTION_LOST;
}

/* The separator behind the result of a command. */
static TcsArrival
read_separator(int64 deadline)
{
	TcsArrival	arrival = tcs_peer_fetch(deadline);

	if (arrival == TCS_ARRIVED && tcs_peer.result != NULL)
	{
		tcs_peer_violates("the server gave more than one answer to a command");
		return TCS_CONNECTION_LOST;
	}
	return arrival;
}

/*
 * What redirect_begin() has answered; false if it is not to be trusted.  "here" is
 * where replay stood before it was called.
 */
static bool
take_token(TcsRemoteBegin *begin, TcsPosition here)
{
	TcsAnswer	newest;

	if (!tcs_wire_is_value(tcs_peer.result) || PQfformat(tcs_peer.result, 0) != 0 ||
		!tcs_token_parse(PQgetvalue(tcs_peer.result, 0, 0), &begin->seen) ||
		begin->seen.version == 0 ||
		begin->seen.system_identifier != GetSystemIdentifier())
	{
		begin->failure = pstrdup("its answer cannot be read");
		return false;
	}
	/* it would take the token's place, so it must not ask for less */
	if (begin->token && begin->token->version != 0 &&
		(begin->seen.written < begin->token->written ||
		 begin->seen.seen_primary < begin->token->seen_primary ||
		 begin->seen.seen_standby < begin->token->seen_standby))
	{
		begin->failure = pstrdup("its answer does not cover the session token");
		return false;
	}

	/*
	 * Its position is the end of all WAL that was inserted on the primary.  What
	 * this standby has replayed of that timeline was inserted before, so a
	 * primary cannot have less: it is an older copy, or its answer is an old one.
	 * That includes the rest of a segment that was switched, and what came from an
	 * archive.  WAL that a crash of the primary has lost was never sent to us.  On
	 * a later timeline nothing is known of it.
	 */
	if (begin->seen.tli == here.tli && begin->seen.seen_primary < here.lsn)
	{
		begin->failure = pstrdup("it has less WAL than this standby had replayed before");
		return false;
	}
	/* nor less than it has told the worker, which can be what the read needs */
	if (tcs_fresh_newest(&newest) && begin->seen.tli == newest.at.tli &&
		begin->seen.seen_primary < newest.at.lsn)
	{
		begin->failure = pstrdup("it has less WAL than the primary had before");
		return false;
	}
	/* a former primary that nobody has told */
	if (RecoveryInProgress() && begin->seen.tli < tcs_fresh_newest_timeline())
	{
		begin->failure = psprintf("it is on timeline %u, and not the primary any more",
								  begin->seen.tli);
		return false;
	}
	return true;
}

/* How an attempt to begin has ended. */
typedef enum Attempt
{
	BEGUN,
	LOST,						/* the connection is gone, or as good as */
	REFUSED,					/* the server said no; see sqlstate */
	TOO_LATE
} Attempt;

static Attempt
try_to_begin(TcsRemoteBegin *begin, int64 deadline, char sqlstate[6])
{
	TcsArrival	arrival = TCS_ARRIVED;
	bool		failed = false;
	TcsPosition here = tcs_fresh_position();

	if (!send_pipeline(begin, deadline))
		return LOST;
	/* libpq has made room for what was sent: that is not the server's doing */
	tcs_peer_expect_answers();
	for (int i = 0; i < TCS_BEGIN_COMMANDS; i++)
	{
		/* BEGIN and SET, then the two SELECTs */
		arrival = read_command(i < 2 ? PGRES_COMMAND_OK : PGRES_TUPLES_OK,
							   deadline, &failed);
		if (arrival != TCS_ARRIVED || failed)
			break;
		if (i == TCS_BEGIN_COMMANDS - 1 && !take_token(begin, here))
			return LOST;
		arrival = read_separator(deadline);
		if (arrival != TCS_ARRIVED)
			break;
	}
	if (arrival == TCS_ARRIVED && !failed)
	{
		if (begin->statement == NULL)
			return tcs_peer_read_to_last_sync(deadline) == TCS_ARRIVED ? BEGUN : LOST;
		return BEGUN;
	}

	if (arrival == TCS_ARRIVED)
	{
		begin->failure = describe_refusal(sqlstate);
		if (strcmp(sqlstate, "TC003") == 0)
		{
			const char *detail = PQresultErrorField(tcs_peer.result, PG_DIAG_MESSAGE_DETAIL);

			begin->lost = detail ? tcs_wire_text(detail) : pstrdup("The primary says so.");
		}
		return REFUSED;
	}
	if (arrival == TCS_ARRIVED_TOO_LATE)
	{
		begin->failure = psprintf("no answer within tcs.redirect_timeout (%d ms)",
								  tcs_redirect_timeout);
		return TOO_LATE;
	}
	begin->failure = tcs_peer_loss();
	return LOST;
}

/* After a refusal: end the transaction, so that the connection can be kept. */
static bool
end_refused(int64 deadline)
{
	if (remote.open && !send_commit())
		return false;
	return tcs_peer_read_to_last_sync(deadline) == TCS_ARRIVED &&
		PQtransactionStatus(tcs_peer.conn) == PQTRANS_IDLE;
}


/*
 * A statement's results were not read.  If it was to be prepared, nobody knows
 * whether it is: use another connection next time.
 */
static void
note_skipped(void)
{
	if (remote.preparing)
		remote.changed = true;
}

/*
 * Before another statement is sent: let the reader of the one under way put its
 * rows away.  If nobody wants them, they are skipped, or the connection is
 * closed if nothing else depends on it.
 */
static void
make_room(void)
{
	tcs_peer_forget_error();
	/* it has come to an error, and is to read no more */
	if (!tcs_peer.running)
		remote.reader = NULL;
	if (remote.reader)
	{
		TcsReader  *reader = remote.reader;

		reader->put_away(reader);
		Assert(remote.reader == NULL);
	}
	else if (tcs_peer.running && !tcs_remote_is_begun() && !tcs_peer_skip())
		close_connection();
	note_skipped();
}

/*
 * Begin a transaction on the primary, and send the statement if it is known.
 *
 * Returns false with begin->failure if that was not possible; the caller goes on
 * without the primary.  A connection that was kept may have died, or lead to a
 * server that is no primary any more, so whatever goes wrong with one is tried
 * again with a new one.
 */
bool
tcs_remote_begin(TcsRemoteBegin *begin, int64 deadline)
{
	deadline = Min(deadline, tcs_now() + (int64) tcs_redirect_timeout * 1000);
	make_room();
	for (;;)
	{
		bool		is_new = false;
		char		sqlstate[6] = "";
		Attempt		attempt;

		begin->lost = NULL;
		if (!is_usable(deadline))
		{
			close_connection();
			if (!connect_anew(begin, deadline))
				break;
			is_new = true;
		}
		tcs_budget_set_busy();
		attempt = try_to_begin(begin, deadline, sqlstate);
		if (attempt == BEGUN)
		{
			in_whole = begin->whole;
			return true;
		}

		if (attempt == REFUSED && end_refused(deadline))
		{
			if (is_about_prepared(sqlstate) && !tcs_peer.unprepared)
			{
				tcs_peer.unprepared = true;
				continue;
			}
		}
		if (begin->failure == NULL)
			begin->failure = tcs_peer_loss();
		close_connection();
		if (is_new || attempt == TOO_LATE || tcs_now() >= deadline)
			break;
	}
	tcs_budget_count_failure(begin->over_budget);
	return false;
}


/* ---- the statement ---- */

/* Bring the savepoints there to the level that we are at. */
static bool
send_savepoints(void)
{
	char		sql[64];
	int			level = GetCurrentTransactionNestLevel();

	if (remote.rollback_to)
	{
		snprintf(sql, sizeof(sql), "ROLLBACK TO SAVEPOINT tcs_%d", remote.rollback_to);
		if (!tcs_peer_command(NULL, sql))
			return false;
	}
	if (remote.release)
	{
		snprintf(sql, sizeof(sql), "RELEASE SAVEPOINT tcs_%d", remote.release);
		if (!tcs_peer_command(NULL, sql))
			return false;
	}
	remote.rollback_to = remote.release = 0;
	while (remote.depth < level)
	{
		snprintf(sql, sizeof(sql), "SAVEPOINT tcs_%d", ++remote.depth);
		if (!tcs_peer_command(NULL, sql))
			return false;
	}
	return true;
}

/*
 * Send what must come before a statement: savepoints, and settings that have
 * changed since.  Returns false if they could not be sent.
 */
static bool
send_preliminaries(int *savepoints, bool *settings)
{
	*savepoints = (remote.rollback_to != 0) + (remote.release != 0) +
		Max(GetCurrentTransactionNestLevel() - remote.depth, 0);
	*settings = false;
	if (!send_savepoints())
		return false;
	*settings = remote.whole && collect_settings();
	return !*settings || send_settings();
}

/* A result has come that is not one of what was sent.  Does not return. */
static void
refuse_result(void)
{
	tcs_peer_violates("the server's answers do not belong to what it was sent");
	tcs_peer_forget_error();
	tcs_peer_raise();
}

/* Read the separator behind the results of a command, or throw. */
static void
separate_or_throw(int64 deadline)
{
	tcs_peer_fetch_or_throw(deadline);
	if (tcs_peer.result != NULL)
		refuse_result();
}

/*
 * Read the result of a command of ours, which has the given status, and the
 * separator, or throw.
 */
static void
read_or_throw(ExecStatusType wanted, int64 deadline)
{
	tcs_peer_fetch_or_throw(deadline);
	if (PQresultStatus(tcs_peer.result) != wanted)
		refuse_result();
	separate_or_throw(deadline);
}

/*
 * Send a statement into the transaction that is open there.  Throws if the
 * connection is gone, or is not the present user's.
 */
void
tcs_remote_send(const TcsStatement *statement, ParamListInfo params)
{
	int64		deadline = tcs_now() + (int64) tcs_redirect_timeout * 1000;
	int			savepoints;
	bool		settings;

	make_room();
	tcs_peer_expect_answers();
	if (!remote.open)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the connection to the redirect server was lost, and the transaction that runs there with it"),
				 errhint("Retry the transaction.")));
	if (tcs_peer_read_to_last_sync(deadline) != TCS_ARRIVED)
	{
		tcs_peer_violates("the server did not end the statement before");
		tcs_peer_raise();
	}
	if (remote.user != GetSessionUserId())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the session's user has changed within a redirected transaction"),
				 errhint("Use SET ROLE, or change the user before the transaction.")));
	if (!send_preliminaries(&savepoints, &settings) || !send_rest(statement, params))
		tcs_peer_raise();
	/* not what libpq has made room for to send it */
	tcs_peer_expect_answers();
	for (int i = 0; i < savepoints; i++)
		read_or_throw(PGRES_COMMAND_OK, deadline);
	if (settings)
		read_or_throw(PGRES_TUPLES_OK, deadline);
}

/* The rows of the statement that was sent are to be read by this reader. */
void
tcs_remote_attach(TcsReader *reader)
{
	Assert(remote.reader == NULL && tcs_peer.running);
	reader->at_end = false;
	remote.reader = reader;
	tcs_peer.sql = reader->sql;
	remote.reader_level = GetCurrentTransactionNestLevel();
}

/* The reader wants no more; it may be that it has had all. */
void
tcs_remote_detach(TcsReader *reader)
{
	if (remote.reader == reader)
		remote.reader = NULL;
}

/* Read up to where the rows of the statement come.  Analysing it may take long. */
static void
start_reading(void)
{
	if (remote.preparing)
	{
		MemoryContext old;

		read_or_throw(PGRES_COMMAND_OK, PG_INT64_MAX);
		old = MemoryContextSwitchTo(TopMemoryContext);
		remote.prepared = bms_add_member(remote.prepared, remote.preparing);
		remote.nprepared++;
		MemoryContextSwitchTo(old);
		remote.preparing = 0;
	}
	tcs_peer_expect_rows();
	remote.started = true;
}

/* Read what follows on the rows of a statement, which takes no time there. */
static void
finish_statement(void)
{
	int64		deadline = tcs_now() + (int64) tcs_redirect_timeout * 1000;

	tcs_peer_expect_answers();
	separate_or_throw(deadline);
	if (remote.check_follows)
		read_or_throw(PGRES_TUPLES_OK, deadline);
	if (remote.commit_follows)
		read_or_throw(PGRES_COMMAND_OK, deadline);
	tcs_peer_fetch_or_throw(deadline);
	if (PQresultStatus(tcs_peer.result) != PGRES_PIPELINE_SYNC)
		refuse_result();
	tcs_peer.syncs--;
	tcs_peer.running = false;
	remote.open = remote.whole || remote.lasting;
}

/*
 * The next rows for the reader, valid until the next call; the last result has
 * none.  NULL after that.  Throws what the primary has thrown.
 */
PGresult *
tcs_remote_next(TcsReader *reader)
{
	if (reader->at_end)
		return NULL;
	/* it may have been closed, or its statement have failed, for another one */
	if (remote.reader != reader || !tcs_peer.running)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the connection to the redirect server is gone"),
				 errhint("Retry the transaction.")));

	if (!remote.started)
		start_reading();
	if (tcs_peer.result && PQresultStatus(tcs_peer.result) == PGRES_TUPLES_OK)
	{
		finish_statement();
		reader->at_end = true;
		remote.reader = NULL;
		return NULL;
	}
	/* they come when they come: statement_timeout is the client's affair */
	tcs_peer_fetch_or_throw(PG_INT64_MAX);
	if (PQresultStatus(tcs_peer.result) != PGRES_TUPLES_OK &&
		!tcs_is_rows_compat(PQresultStatus(tcs_peer.result)))
		refuse_result();
	return tcs_peer.result;
}

/* ---- more of a statement's transaction ---- */

void
tcs_remote_refuse_answer(void)
{
	tcs_peer_violates("the server's answers do not belong to what it was sent");
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("unexpected answer from the redirect server \"%s\"", tcs_peer.server)));
}

/* Fetch the next result of a command of ours; NULL behind the last. */
static PGresult *
next_result(int64 deadline)
{
	tcs_peer_fetch_or_throw(deadline);
	switch (PQresultStatus(tcs_peer.result))
	{
		case PGRES_COMMAND_OK:
		case PGRES_TUPLES_OK:
			return tcs_peer.result;
		default:
			if (tcs_peer.result != NULL && !tcs_is_rows_compat(PQresultStatus(tcs_peer.result)))
				tcs_remote_refuse_answer();
			return tcs_peer.result;
	}
}

/* The sync behind it. */
static void
finish_command(void)
{
	tcs_peer_expect_answers();
	tcs_peer_fetch_or_throw(tcs_now() + (int64) tcs_redirect_timeout * 1000);
	if (PQresultStatus(tcs_peer.result) != PGRES_PIPELINE_SYNC)
		tcs_remote_refuse_answer();
	tcs_peer.syncs--;
	tcs_peer.running = false;
}

/* Begin a command of ours that may fail as the client's statement may. */
static void
start_command(bool sent, const char *sql)
{
	tcs_peer.running = true;
	tcs_peer.sql = sql;
	if (!sent || !tcs_peer_sync())
	{
		tcs_peer_forget_error();
		tcs_peer_raise();
	}
}

/* Have a look at the columns of a portal there. */
void
tcs_remote_describe(const char *portal, void (*take) (PGresult *result, void *arg), void *arg)
{
	int64		deadline = tcs_now() + (int64) tcs_redirect_timeout * 1000;
	PGresult   *result;

	tcs_peer_expect_answers();
	start_command(PQsendDescribePortal(tcs_peer.conn, portal), "");
	while ((result = next_result(deadline)) != NULL)
		take(result, arg);
	finish_command();
}

/* Run a command in the transaction; "take", if not NULL, gets its rows. */
void
tcs_remote_run(const char *sql, int format,
			   void (*take) (PGresult *result, void *arg), void *arg)
{
	PGresult   *result;

	start_command(PQsendQueryParams(tcs_peer.conn, sql, 0, NULL, NULL, NULL, NULL, format), sql);
	/* as with the client's statement, there can be many, and late ones */
	tcs_peer_expect_rows();
	while ((result = next_result(PG_INT64_MAX)) != NULL)
	{
		if (take)
			take(result, arg);
	}
	finish_command();
}

/* The transaction of a statement is needed no more. */
void
tcs_remote_release(void)
{
	if (remote.lasting && remote.open)
		(void) send_commit();
	remote.lasting = false;
}


/* ---- the end of transactions ---- */

/* Have the connection closed when it has been idle for long. */
static void
watch_idleness(void)
{
	static int	watched_for = 0;	/* the setting when the timer was set */
	int64		idle = tcs_now() - remote.last_used;
	int64		limit = (int64) tcs_redirect_idle_timeout * 1000;

	if (watched_for != tcs_redirect_idle_timeout)
		disable_timeout(idle_timer, false);
	watched_for = tcs_redirect_idle_timeout;
	if (tcs_redirect_idle_timeout == 0)
		return;
	if (idle_expired && idle >= limit)
		close_connection();
	else if (!get_timeout_active(idle_timer))
		enable_timeout_after(idle_timer, (int) Max((limit - idle) / 1000 + 1, 1));
	idle_expired = false;
}

/*
 * The local transaction has ended.  Keep the connection if nothing is under way
 * on it but the end of its transaction.  Must not throw.
 */
void
tcs_remote_transaction_ended(void)
{
	remote.reader = NULL;
	in_whole = false;
	tcs_peer_forget_messages();
	if (remote.ready && tcs_peer.running && tcs_peer_skip() &&
		PQtransactionStatus(tcs_peer.conn) == PQTRANS_IDLE)
		remote.open = false;
	if (!remote.ready || tcs_peer.running || !tcs_peer_is_sound() ||
		(remote.open && !send_commit()) || PQflush(tcs_peer.conn) != 0 ||
		tcs_budget_is_wanted())
	{
		close_connection();
		return;
	}
	note_skipped();
	if (tcs_budget_set_idle())
		remote.last_used = tcs_now();
	watch_idleness();
}

/*
 * A subtransaction of the given level has ended here.  Its savepoint there is
 * seen to when the next statement is sent.  Must not throw.
 */
void
tcs_remote_subtransaction_ended(int level, bool committed)
{
	if (committed)
	{
		remote.reader_level = Min(remote.reader_level, level - 1);
		if (remote.depth >= level)
		{
			remote.release = level;
			remote.depth = level - 1;
		}
		return;
	}

	/* its statement ends there, too; in a whole transaction, all of it does */
	if (remote.reader && remote.reader_level >= level)
		remote.reader = NULL;
	if (tcs_peer.running && remote.reader == NULL && !tcs_peer_skip())
	{
		close_connection();
		return;
	}
	/* what was set in it is as it was before */
	remote.settings_known = false;
	if (remote.open && remote.whole && remote.depth >= level)
	{
		remote.rollback_to = remote.release = level;
		remote.depth = level - 1;
	}
}
