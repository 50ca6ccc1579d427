/*-------------------------------------------------------------------------
 *
 * redirect_server.c
 *	  The redirect server: a foreign server and the user's mapping to it.
 *
 * NOTES
 *	  Core keeps servers, mappings and their secrets, dumps them, replicates
 *	  them, and hides what is to be hidden; we only say which options there are,
 *	  and put them together for libpq.  As in postgres_fdw, user name and secrets
 *	  belong to the mapping, all else to the server, and a user who is no
 *	  superuser must bring credentials of his own: otherwise he would use those
 *	  of the operating system's user that the server runs as.  A superuser can
 *	  waive that by password_required, and he alone.  Then he has to make such a
 *	  mapping himself: each ALTER of it comes with all options that it has then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "libpq-fe.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/own_objects.h"
#include "base/settings.h"
#include "redirect/redirect_server.h"

PG_FUNCTION_INFO_V1(tcs_fdw_validator);

/* Defaults of ours where the server's options do not say otherwise. */
static const char *const defaults[][2] = {
	/* the hosts may be all nodes of a cluster; the primary is looked for */
	{"target_session_attrs", "primary"},
	/* a peer that is gone is noticed within some ten seconds */
	{"keepalives_idle", "5"},
	{"keepalives_interval", "2"},
	{"keepalives_count", "3"},
	{"tcp_user_timeout", "10000"},
	{"fallback_application_name", "tcs"},
};

/* Does it name a file of this server's machine that proves who somebody is? */
static bool
is_file_option(const char *name)
{
	return strcmp(name, "sslcert") == 0 || strcmp(name, "sslkey") == 0;
}

/* Is this an option of libpq that may stand in this catalog? */
static bool
is_libpq_option(const PQconninfoOption *option, Oid catalog)
{
	bool		of_mapping;

	/* debugging options, and those that we set */
	if (strchr(option->dispchar, 'D') ||
		strcmp(option->keyword, "fallback_application_name") == 0 ||
		strcmp(option->keyword, "client_encoding") == 0)
		return false;
	of_mapping = strcmp(option->keyword, "user") == 0 ||
		strchr(option->dispchar, '*') != NULL;
	/* those can differ from user to user */
	if (is_file_option(option->keyword) ||
		strcmp(option->keyword, "gssdelegation") == 0)
		return catalog == ForeignServerRelationId || catalog == UserMappingRelationId;
	return catalog == (of_mapping ? UserMappingRelationId : ForeignServerRelationId);
}

static bool
is_valid_option(const PQconninfoOption *options, const char *name, Oid catalog)
{
	for (const PQconninfoOption *option = options; option->keyword; option++)
	{
		if (strcmp(option->keyword, name) == 0)
			return is_libpq_option(option, catalog);
	}
	return false;
}

/*
 * Is this an option of ours that may stand in this catalog?  Its value must be a
 * boolean.
 */
static bool
is_own_option(DefElem *option, Oid catalog)
{
	if (strcmp(option->defname, "password_required") == 0 &&
		catalog == UserMappingRelationId)
	{
		if (!defGetBoolean(option) && !superuser())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("password_required=false is superuser-only"),
					 errhint("User mappings with the password_required option set to false may only be created or modified by the superuser.")));
		return true;
	}
	if (tcs_is_scram_option_compat(option->defname) &&
		(catalog == ForeignServerRelationId || catalog == UserMappingRelationId))
	{
		(void) defGetBoolean(option);
		return true;
	}
	return false;
}

/* Users make mappings, too, but may not use what is not theirs. */
static void
check_files(const DefElem *option, Oid catalog)
{
	if (catalog == UserMappingRelationId && is_file_option(option->defname) && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("sslcert and sslkey are superuser-only"),
				 errhint("User mappings with the sslcert or sslkey options set may only be created or modified by the superuser.")));
}

/*
 * CREATE and ALTER of servers and mappings.  HV00D for an option that libpq
 * does not have, or that belongs to the other of the two.
 */
Datum
tcs_fdw_validator(PG_FUNCTION_ARGS)
{
	List	   *given = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	PQconninfoOption *options = PQconndefaults();
	ListCell   *lc;

	if (options == NULL)
		ereport(ERROR, (errcode(ERRCODE_FDW_OUT_OF_MEMORY), errmsg("out of memory")));
	foreach(lc, given)
	{
		DefElem    *option = (DefElem *) lfirst(lc);
		const char *hint = NULL;

		check_files(option, catalog);
		if (is_own_option(option, catalog) ||
			is_valid_option(options, option->defname, catalog))
			continue;
		if (catalog == ForeignServerRelationId &&
			(is_valid_option(options, option->defname, UserMappingRelationId) ||
			 strcmp(option->defname, "password_required") == 0))
			hint = "Put it into the user mapping.";
		else if (catalog == UserMappingRelationId &&
				 is_valid_option(options, option->defname, ForeignServerRelationId))
			hint = "Put it into the server.";
		else
			hint = "Servers take the connection options of libpq, user mappings its user name and secrets.";
		PQconninfoFree(options);
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("invalid option \"%s\"", option->defname),
				 errhint("%s", hint)));
	}
	PQconninfoFree(options);
	PG_RETURN_VOID();
}

/* Is there a server to redirect to?  Looks into the system caches. */
bool
tcs_server_exists(void)
{
	return tcs_redirect_server[0] != '\0' && IsTransactionState() &&
		OidIsValid(get_foreign_server_oid(tcs_redirect_server, true));
}

static bool
has_user_mapping(Oid userid, Oid serverid)
{
	return SearchSysCacheExists2(USERMAPPINGUSERSERVER,
								 ObjectIdGetDatum(userid),
								 ObjectIdGetDatum(serverid)) ||
		SearchSysCacheExists2(USERMAPPINGUSERSERVER,
							  ObjectIdGetDatum(InvalidOid),
							  ObjectIdGetDatum(serverid));
}

/* The last value given for a keyword, or NULL. */
static const char *
value_of(const TcsServer *server, int n, const char *keyword)
{
	while (--n >= 0)
	{
		if (strcmp(server->keywords[n], keyword) == 0)
			return server->values[n];
	}
	return NULL;
}

static void
add_option(TcsServer *server, int *n, const char *keyword, const char *value)
{
	server->keywords[*n] = keyword;
	server->values[*n] = value;
	(*n)++;
}

/* What options say that are not libpq's. */
typedef struct OwnOptions
{
	bool		passthrough;
	bool		no_password;	/* none is required */
} OwnOptions;

static void
add_options(TcsServer *server, int *n, List *options, OwnOptions *own)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = (DefElem *) lfirst(lc);

		if (tcs_is_scram_option_compat(option->defname))
			own->passthrough |= defGetBoolean(option);
		else if (strcmp(option->defname, "password_required") == 0)
			own->no_password = !defGetBoolean(option);
		else
			add_option(server, n, option->defname, defGetString(option));
	}
}

/* Put together what libpq is to be told.  Returns false if secrets are missing. */
static bool
make_options(TcsServer *server, List *of_server, List *of_mapping, Oid user)
{
	int			max = list_length(of_server) + list_length(of_mapping) +
		lengthof(defaults) + 8;
	int			n = 0;
	OwnOptions	own = {0};
	const char *password;

	server->keywords = palloc0((max + 1) * sizeof(char *));
	server->values = palloc0((max + 1) * sizeof(char *));
	for (int i = 0; i < lengthof(defaults); i++)
		add_option(server, &n, defaults[i][0], defaults[i][1]);
	add_option(server, &n, "dbname", get_database_name(MyDatabaseId));
	add_option(server, &n, "user", GetUserNameFromId(user, false));
	add_options(server, &n, of_server, &own);
	add_options(server, &n, of_mapping, &own);
	add_option(server, &n, "client_encoding", GetDatabaseEncodingName());

	if (own.passthrough &&
		tcs_scram_passthrough_compat(server->keywords, server->values, &n))
		return true;

	/* as in postgres_fdw: not with what the server's own user may do */
	password = value_of(server, n, "password");
	server->has_password = password && password[0] != '\0';
	server->needs_proof = !superuser_arg(user) && !own.no_password;
	return !server->needs_proof || server->has_password ||
		tcs_has_delegated_credential_compat();
}

/*
 * The redirect server and the mapping of this session's user, in the current
 * memory context.  NULL with the reason if there is none that can be used.
 */
TcsServer *
tcs_server_get(char **why_not)
{
	Oid			user = GetSessionUserId();
	Oid			serverid = get_foreign_server_oid(tcs_redirect_server, true);
	ForeignServer *server;
	ForeignDataWrapper *fdw;
	UserMapping *mapping;
	TcsServer  *result;

	if (!OidIsValid(serverid))
	{
		*why_not = psprintf("server \"%s\" does not exist", tcs_redirect_server);
		return NULL;
	}
	server = GetForeignServer(serverid);
	fdw = GetForeignDataWrapper(server->fdwid);
	if (strcmp(fdw->fdwname, "tcs_fdw") != 0 ||
		!tcs_is_own(ForeignDataWrapperRelationId, fdw->fdwid))
	{
		*why_not = psprintf("server \"%s\" is not one of the foreign-data wrapper tcs_fdw",
							server->servername);
		return NULL;
	}
	if (!has_user_mapping(user, serverid))
	{
		*why_not = psprintf("server \"%s\" has no user mapping for \"%s\"",
							server->servername, GetUserNameFromId(user, false));
		return NULL;
	}
	mapping = GetUserMapping(user, serverid);

	result = palloc0(sizeof(TcsServer));
	result->name = server->servername;
	if (!make_options(result, server->options, mapping->options, user))
	{
		*why_not = psprintf("the user mapping of \"%s\" has no password, which a user who is no superuser needs",
							GetUserNameFromId(user, false));
		return NULL;
	}
	return result;
}
