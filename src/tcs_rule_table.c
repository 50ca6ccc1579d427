/*-------------------------------------------------------------------------
 *
 * tcs_rule_table.c
 *	  The tables that rules are kept in: what goes in, and when it goes.
 *
 * NOTES
 *	  Rules are checked by a trigger on the table, so that a restored dump and
 *	  an INSERT by hand are checked as tcs.set_rule() is.
 *
 *	  A relation or a role is kept as its number, so renaming does not matter.
 *	  A schema or a function is kept by name, since pg_upgrade moves no table
 *	  that has their numbers; an event trigger changes the name when they are
 *	  renamed, by the numbers that are kept beside it, with a mark of the cluster
 *	  and database that they are of.  After pg_upgrade, or a restore without
 *	  triggers, they are looked up anew before the next rename.  What is dropped takes its
 *	  rules with it: by event trigger, and for roles, for which there is none, by
 *	  a look before the drop, in the database that it is made in.  Rules for roles
 *	  that are gone apply to nobody, and are not shown.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include <math.h>

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "commands/dbcommands.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "tcs_compat.h"
#include "tcs_level.h"
#include "tcs_rules.h"
#include "tcs_write.h"

PG_FUNCTION_INFO_V1(tcs_rule_check);
PG_FUNCTION_INFO_V1(tcs_group_check);
PG_FUNCTION_INFO_V1(tcs_rules_changed);
PG_FUNCTION_INFO_V1(tcs_milliseconds);
PG_FUNCTION_INFO_V1(tcs_require_database);
PG_FUNCTION_INFO_V1(tcs_require_dropped);
PG_FUNCTION_INFO_V1(tcs_rules_on_drop);
PG_FUNCTION_INFO_V1(tcs_rules_on_rename);

/* ---- the check of a row ---- */

/* The row of a trigger, by names of columns. */
typedef struct Row
{
	HeapTuple	tuple;
	TupleDesc	desc;
} Row;

/* Text of a column, or NULL. */
static char *
text_of(const Row *row, const char *column)
{
	return SPI_getvalue(row->tuple, row->desc, SPI_fnumber(row->desc, column));
}

static Datum
value_of(const Row *row, const char *column, bool *isnull)
{
	return heap_getattr(row->tuple, SPI_fnumber(row->desc, column), row->desc, isnull);
}

static void
set_value(Row *row, const char *column, Datum value)
{
	int			attnum = SPI_fnumber(row->desc, column);
	bool		isnull = false;

	row->tuple = heap_modify_tuple_by_cols(row->tuple, row->desc, 1, &attnum, &value, &isnull);
}

static void
bad_rule(const char *message, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", message),
			 detail ? errdetail("%s", detail) : 0));
}

/* Can rules speak of a relation of this kind?  Throws if not. */
static void
require_relation(Oid relid)
{
	char		kind = get_rel_relkind(relid);

	if (kind == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE &&
		kind != RELKIND_VIEW && kind != RELKIND_MATVIEW && kind != RELKIND_FOREIGN_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("a rule cannot be made for \"%s\"", get_rel_name(relid)),
				 errdetail("Rules are for tables, views, materialized views and foreign tables.")));
	if (relid < FirstNormalObjectId)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("a rule cannot be made for system catalog \"%s\"", get_rel_name(relid))));
	/* it goes with its session, and nobody is told */
	if (get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("a rule cannot be made for temporary table \"%s\"", get_rel_name(relid))));
}

/* The same of a schema and of a function. */
static Oid
require_schema(const char *name)
{
	Oid			schema = get_namespace_oid(name, false);

	if ((schema < FirstNormalObjectId && schema != PG_PUBLIC_NAMESPACE) ||
		isAnyTempNamespace(schema))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("a rule cannot be made for schema \"%s\"", name),
				 errdetail("System catalogs and temporary tables have no rules.")));
	return schema;
}

static Oid
require_function(const char *signature)
{
	Oid			function = DatumGetObjectId(DirectFunctionCall1(regprocedurein,
																CStringGetDatum(signature)));

	if (!SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(function)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	if (function < FirstNormalObjectId)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("a rule cannot be made for function %s of the system", signature)));
	return function;
}

/* What the numbers of schemas and functions are of: cluster and database. */
static char *
origin_of_oids(void)
{
	return psprintf(UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId);
}

/* Name and number of schema and function, so that both are right. */
static void
resolve_objects(Row *row)
{
	char	   *schema = text_of(row, "schema");
	char	   *function = text_of(row, "function");
	bool		isnull;
	Datum		relation = value_of(row, "relation", &isnull);
	Datum		role;

	if ((isnull ? 0 : 1) + (schema ? 1 : 0) + (function ? 1 : 0) > 1)
		bad_rule("a rule is for one of relation, schema and function",
				 "Make a rule for each.");
	if (!isnull)
		require_relation(DatumGetObjectId(relation));
	role = value_of(row, "role", &isnull);
	if (!isnull)
		(void) GetUserNameFromId(DatumGetObjectId(role), false);
	if (schema)
		set_value(row, "schema_oid",
				  ObjectIdGetDatum(require_schema(schema)));
	if (function)
	{
		Oid			oid = require_function(function);

		set_value(row, "function_oid", ObjectIdGetDatum(oid));
		set_value(row, "function",
				  CStringGetTextDatum(format_procedure_qualified(oid)));
	}
	set_value(row, "oids_of", CStringGetTextDatum(origin_of_oids()));
}

/*
 * A LIKE pattern is matched when sessions read, and must not fail then: does it
 * end in a backslash that escapes nothing?
 */
static bool
ends_in_escape(const char *pattern)
{
	int			n = 0;

	for (int len = strlen(pattern); n < len && pattern[len - n - 1] == '\\';)
		n++;
	return n % 2 == 1;
}

/* The read level of a column; false if there is none. */
static bool
read_level_of(const Row *row, const char *column, TcsLevel *level)
{
	char	   *name = text_of(row, column);

	if (name == NULL)
		return false;
	if (!tcs_level_by_name(name, level))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not a read level", name),
				 errhint("Valid levels: %s.", tcs_level_names_hint())));
	if (*level == TCS_LEVEL_SNAPSHOT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a rule cannot ask for level \"snapshot\""),
				 errdetail("One snapshot for all statements is a property of a transaction, which has begun before its statements are known."),
				 errhint("Use \"session\", and ALTER ROLE ... SET tcs.read_level = snapshot for whole transactions.")));
	return true;
}

static void
check_read_rule(const Row *row)
{
	TcsLevel	level;
	TcsLevel	floor;
	bool		has_level = read_level_of(row, "level", &level);
	bool		has_floor = read_level_of(row, "floor", &floor);
	char	   *fallback = text_of(row, "fallback");
	char	   *hard = text_of(row, "hard");

	if (!has_level && !has_floor)
		bad_rule("a rule needs a level or a floor", NULL);
	if (has_floor && floor == TCS_LEVEL_BOUNDED && text_of(row, "max_staleness") == NULL)
		bad_rule("a floor \"bounded\" needs max_staleness", NULL);
	if (has_level && has_floor && tcs_level_join(level, floor) != level)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("floor \"%s\" is above level \"%s\" of the rule",
						tcs_level_name(floor), tcs_level_name(level)),
				 errhint("Raise the level to the floor at least.")));
	if (hard && strcmp(hard, "t") == 0 && !has_floor)
		bad_rule("only a rule with a floor can be hard", NULL);
	if (fallback)
	{
		TcsFallback parsed;
		const char *bad_step;
		int			bad_len;

		if (!tcs_fallback_parse(fallback, &parsed, &bad_step, &bad_len))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid fallback \"%s\"", fallback),
					 errdetail("\"%.*s\" is not a step.", bad_len, bad_step),
					 errhint("Valid steps: redirect, error, %s.", tcs_level_names_hint())));
	}
}

static void
check_write_rule(const Row *row)
{
	char	   *name = text_of(row, "level");
	TcsWriteLevel level;
	static const char *const read_only[] = {"floor", "fallback", "max_staleness", "max_wait"};

	if (name == NULL)
		bad_rule("a rule for writes needs a level", NULL);
	if (!tcs_write_level_by_name(name, &level) || level == TCS_WRITE_DEFAULT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not a write level", name),
				 errhint("Valid levels: eventual, session, quorum, strong.")));
	for (int i = 0; i < lengthof(read_only); i++)
	{
		if (text_of(row, read_only[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a rule for writes has no %s", read_only[i]),
					 errdetail("Its level is the least that a commit gets.")));
	}
}

static void
check_numbers(const Row *row)
{
	bool		isnull;
	Datum		value = value_of(row, "max_staleness", &isnull);

	if (!isnull && DatumGetInt32(value) < 0)
		bad_rule("max_staleness must not be negative", NULL);
	value = value_of(row, "max_wait", &isnull);
	if (!isnull && DatumGetInt32(value) < -1)
		bad_rule("max_wait must not be negative",
				 "-1 ms waits for ever, 0 does not wait.");
}

static Row
row_of_trigger(FunctionCallInfo fcinfo)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Row			row;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		elog(ERROR, "must be called as a trigger before INSERT or UPDATE of a row");
	row.desc = RelationGetDescr(trigger->tg_relation);
	row.tuple = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
		trigger->tg_newtuple : trigger->tg_trigtuple;
	return row;
}

/* BEFORE INSERT OR UPDATE of tcs.rule, each row. */
Datum
tcs_rule_check(PG_FUNCTION_ARGS)
{
	Row			row = row_of_trigger(fcinfo);
	char	   *operation = text_of(&row, "operation");
	char	   *application = text_of(&row, "application_name");

	resolve_objects(&row);
	check_numbers(&row);
	if (application && application[0] == '\0')
		bad_rule("the pattern for application_name must not be empty",
				 "\"%\" matches every name.");
	if (application && strlen(application) > 256)
		bad_rule("the pattern for application_name is too long",
				 "It may have 256 bytes.");
	if (application && ends_in_escape(application))
		bad_rule("the pattern for application_name must not end with a backslash",
				 "A backslash makes the next character stand for itself.");
	if (operation && strcmp(operation, "read") == 0)
		check_read_rule(&row);
	else if (operation && strcmp(operation, "write") == 0)
		check_write_rule(&row);
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not an operation", operation ? operation : ""),
				 errhint("Valid operations: read, write.")));
	return PointerGetDatum(row.tuple);
}

/* The unique index says so as well, but in numbers, and also between sessions. */
static void
require_in_no_group(const TriggerData *trigger, Oid relid)
{
	Relation	rel = trigger->tg_relation;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (!TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		return;
	InvalidateCatalogSnapshot();
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Row			row = {.desc = RelationGetDescr(rel),.tuple = tuple};
		bool		isnull;

		if (DatumGetObjectId(value_of(&row, "relation", &isnull)) == relid)
			ereport(ERROR,
					(errcode(ERRCODE_UNIQUE_VIOLATION),
					 errmsg("\"%s\" is in group \"%s\" already",
							get_rel_name(relid), text_of(&row, "name")),
					 errdetail("A relation is in one group at most."),
					 errhint("Use tcs.drop_group(), or name all members of both in one group.")));
	}
	systable_endscan(scan);
}

/* BEFORE INSERT OR UPDATE of tcs.rule_group, each row. */
Datum
tcs_group_check(PG_FUNCTION_ARGS)
{
	Row			row = row_of_trigger(fcinfo);
	char	   *name = text_of(&row, "name");
	bool		isnull;
	Datum		relation = value_of(&row, "relation", &isnull);

	if (!isnull)
	{
		require_relation(DatumGetObjectId(relation));
		require_in_no_group((TriggerData *) fcinfo->context, DatumGetObjectId(relation));
	}
	if (name && name[0] == '\0')
		bad_rule("the name of a group must not be empty", NULL);
	return PointerGetDatum(row.tuple);
}

/*
 * AFTER each row that is changed: all processes, on all nodes,
 * forget their copy when it has committed, and has been replayed.
 */
Datum
tcs_rules_changed(PG_FUNCTION_ARGS)
{
	Oid			relid;

	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "must be called as a trigger");
	relid = get_relname_relid("rule", get_namespace_oid("tcs", false));
	if (OidIsValid(relid))
		CacheInvalidateRelcacheByRelid(relid);
	return PointerGetDatum(NULL);
}


/* ---- parts of the functions in SQL ---- */

/* An interval in ms, as settings have it. */
Datum
tcs_milliseconds(PG_FUNCTION_ARGS)
{
	Interval   *interval = PG_GETARG_INTERVAL_P(0);
	double		ms = (((double) interval->month * DAYS_PER_MONTH + interval->day) *
					  USECS_PER_DAY + interval->time) / 1000.0;

	if (ms < PG_INT32_MIN || ms > PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("interval out of range")));
	PG_RETURN_INT32((int32) rint(ms));
}

/* Rules are kept in the database that they are for. */
Datum
tcs_require_database(PG_FUNCTION_ARGS)
{
	const char *name = PG_ARGISNULL(0) ? NULL : NameStr(*PG_GETARG_NAME(0));
	char	   *here = get_database_name(MyDatabaseId);

	if (name && strcmp(name, here) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a rule for database \"%s\" cannot be made in database \"%s\"", name, here),
				 errhint("Connect to database \"%s\": rules are kept in the database that they are for.", name)));
	PG_RETURN_BOOL(true);
}

/* What was dropped, or an error if that is nothing. */
Datum
tcs_require_dropped(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no such rule or group"),
				 errhint("See tcs.rules and tcs.groups; all criteria of a rule have to be named, or its id.")));
	PG_RETURN_INT32(PG_GETARG_INT32(0));
}


/* ---- objects that change or go ---- */

/*
 * Run a statement that changes the tables.  Whoever caused it may have another
 * search_path in mind.
 */
static void
run(const char *statement)
{
	int			settings = NewGUCNestLevel();

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute(statement, false, 0) < 0)
		elog(ERROR, "could not change the rules: \"%s\"", statement);
	SPI_finish();
	AtEOXact_GUC(true, settings);
}

/* Are the tables still there? */
static bool
have_tables(void)
{
	Oid			schema = get_namespace_oid("tcs", true);

	return OidIsValid(schema) && OidIsValid(get_relname_relid("rule", schema)) &&
		OidIsValid(get_relname_relid("rule_group", schema));
}

/* Event trigger: what is dropped takes its rules with it. */
Datum
tcs_rules_on_drop(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		elog(ERROR, "must be called as an event trigger");
	if (!have_tables() || !tcs_rules_have_rows())
		PG_RETURN_NULL();
	run("DELETE FROM tcs.rule r USING pg_event_trigger_dropped_objects() d"
		" WHERE (d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND r.relation::oid = d.objid)"
		" OR (d.classid = 'pg_namespace'::regclass AND r.schema = d.object_name)"
		" OR (d.classid = 'pg_proc'::regclass AND r.function = d.object_identity)");
	run("DELETE FROM tcs.rule_group g USING pg_event_trigger_dropped_objects() d"
		" WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND g.relation::oid = d.objid");
	PG_RETURN_NULL();
}

/*
 * Event trigger, before and after: schemas and functions may get other names.
 * Before, those whose numbers are not of this place get them; which the check of
 * the row sees to.
 */
Datum
tcs_rules_on_rename(PG_FUNCTION_ARGS)
{
	const char *origin;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		elog(ERROR, "must be called as an event trigger");
	if (!have_tables() || !tcs_rules_have_rows())
		PG_RETURN_NULL();
	origin = origin_of_oids();
	if (strcmp(((EventTriggerData *) fcinfo->context)->event, "ddl_command_start") == 0)
	{
		run(psprintf("UPDATE tcs.rule r SET oids_of = '%s'"
					 " WHERE r.oids_of IS DISTINCT FROM '%s'"
					 " AND (to_regnamespace(quote_ident(r.schema)) IS NOT NULL"
					 " OR to_regprocedure(r.function) IS NOT NULL)", origin, origin));
		PG_RETURN_NULL();
	}
	run(psprintf("UPDATE tcs.rule r SET schema = n.nspname FROM pg_namespace n"
				 " WHERE n.oid = r.schema_oid AND n.nspname <> r.schema AND r.oids_of = '%s'",
				 origin));
	run(psprintf("UPDATE tcs.rule r SET function = (pg_identify_object('pg_proc'::regclass, p.oid, 0)).identity"
				 " FROM pg_proc p WHERE p.oid = r.function_oid AND r.oids_of = '%s'"
				 " AND (pg_identify_object('pg_proc'::regclass, p.oid, 0)).identity <> r.function",
				 origin));
	PG_RETURN_NULL();
}

/* A role is about to be dropped, by somebody who need not see the rules. */
void
tcs_rules_role_dropped(Oid role)
{
	Oid			user;
	int			context;
	char		statement[128];

	if (RecoveryInProgress() || !have_tables() || !tcs_rules_have_rows())
		return;
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
	snprintf(statement, sizeof(statement),
			 "DELETE FROM tcs.rule WHERE role::oid = %u", role);
	run(statement);
	SetUserIdAndSecContext(user, context);
}
