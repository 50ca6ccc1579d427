/*-------------------------------------------------------------------------
 *
 * rule_check.c
 *	  What may be in the tables of rules.
 *
 * NOTES
 *	  A row is checked by tcs.set_rule(), and by a trigger on the table, so that
 *	  a restored dump and an INSERT by hand are checked as well.  A dump has names of
 *	  objects in columns of their own, and those may be missing; see
 *	  rules/rule_resolve.c.  A name in another column has to mean something.  The trigger
 *	  functions may be attached to any table by each role that may call them;
 *	  so they look first whether the table is the extension's.
 *
 *	  Rules are for the objects and roles of one database.  A publication FOR ALL
 *	  TABLES has the tables of rules in it, as extensions cannot keep tables out.
 *	  So the subscriber leaves out what comes that way: its rules are its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/identity.h"
#include "base/level.h"
#include "rules/rule_cache.h"
#include "rules/rule_table.h"
#include "write/write_level.h"

PG_FUNCTION_INFO_V1(tcs_rule_check);
PG_FUNCTION_INFO_V1(tcs_group_check);
PG_FUNCTION_INFO_V1(tcs_rules_changed);

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
clear_value(Row *row, const char *column)
{
	int			attnum = SPI_fnumber(row->desc, column);
	Datum		value = (Datum) 0;
	bool		isnull = true;

	if (!heap_attisnull(row->tuple, attnum, row->desc))
		row->tuple = heap_modify_tuple_by_cols(row->tuple, row->desc, 1, &attnum, &value, &isnull);
}

/* Refuse a row; "detail" is a call of errdetail(). */
#define bad_rule(message) \
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg(message)))
#define bad_rule_detail(message, detail) \
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg(message), detail))

/*
 * Name and number of schema and function, so that both are right.  Names that come
 * from a dump are looked up behind these, and may stay as they are.
 */
static void
resolve_objects(Row *row, Relation rel)
{
	char	   *schema = text_of(row, "schema");
	char	   *function = text_of(row, "function");
	bool		isnull;
	Datum		relation = value_of(row, "relation", &isnull);
	Datum		role;

	if ((!isnull || text_of(row, "missing_relation") ? 1 : 0) +
		(schema || text_of(row, "missing_schema") ? 1 : 0) +
		(function || text_of(row, "missing_function") ? 1 : 0) > 1)
		bad_rule_detail("a rule is for one of relation, schema and function",
						errdetail("Make a rule for each."));
	if (!isnull)
		(void) tcs_rule_check_object(RelationRelationId, DatumGetObjectId(relation), ERROR);
	role = value_of(row, "role", &isnull);
	if (!isnull)
		(void) GetUserNameFromId(DatumGetObjectId(role), false);
	clear_value(row, "schema_oid");
	clear_value(row, "function_oid");
	clear_value(row, "unresolved");
	if (schema)
	{
		Oid			oid = tcs_rule_keep_schema(schema, false);

		(void) tcs_rule_check_object(NamespaceRelationId, oid, ERROR);
		set_value(row, "schema_oid", ObjectIdGetDatum(oid));
	}
	if (function)
	{
		Oid			oid = DatumGetObjectId(DirectFunctionCall1(regprocedurein,
															   CStringGetDatum(function)));

		tcs_rule_keep_function(oid);
		(void) tcs_rule_check_object(ProcedureRelationId, oid, ERROR);
		set_value(row, "function_oid", ObjectIdGetDatum(oid));
		set_value(row, "function",
				  CStringGetTextDatum(tcs_identity_of_function(oid)));
	}
	set_value(row, "oids_of", CStringGetTextDatum(tcs_rule_origin_of_oids()));
	row->tuple = tcs_rule_resolve_new(rel, row->tuple);
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
	*level = tcs_level_require(name, TCS_LEVEL_BIT(TCS_LEVEL_SNAPSHOT));
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
		bad_rule("a rule needs a level or a floor");
	if (has_floor && floor == TCS_LEVEL_BOUNDED && text_of(row, "max_staleness") == NULL)
		bad_rule("a floor \"bounded\" needs max_staleness");
	if (has_level && has_floor && tcs_level_join(level, floor) != level)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("floor \"%s\" is above level \"%s\" of the rule",
						tcs_level_name(floor), tcs_level_name(level)),
				 errhint("Raise the level to the floor at least.")));
	if (hard && strcmp(hard, "t") == 0 && !has_floor)
		bad_rule("only a rule with a floor can be hard");
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
		bad_rule("a rule for writes needs a level");
	if (!tcs_write_level_by_name(name, &level) || level == TCS_WRITE_DEFAULT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not a write level", name),
				 errhint("Valid levels: %s.", tcs_write_level_names_hint())));
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
		bad_rule("max_staleness must not be negative");
	value = value_of(row, "max_wait", &isnull);
	if (!isnull && DatumGetInt32(value) < -1)
		bad_rule_detail("max_wait must not be negative",
						errdetail("-1 ms waits for ever, 0 does not wait."));
}

/* A row that is to be written, with the numbers and names of its objects. */
HeapTuple
tcs_rule_check_rule(Relation rel, HeapTuple tuple)
{
	Row			row = {.tuple = tuple,.desc = RelationGetDescr(rel)};
	char	   *operation = text_of(&row, "operation");
	char	   *application = text_of(&row, "application_name");

	resolve_objects(&row, rel);
	check_numbers(&row);
	if (application && application[0] == '\0')
		bad_rule_detail("the pattern for application_name must not be empty",
						errdetail("\"%%\" matches every name."));
	if (application && strlen(application) > 256)
		bad_rule_detail("the pattern for application_name is too long",
						errdetail("It may have 256 bytes."));
	if (application && ends_in_escape(application))
		bad_rule_detail("the pattern for application_name must not end with a backslash",
						errdetail("A backslash makes the next character stand for itself."));
	if (operation && strcmp(operation, "read") == 0)
		check_read_rule(&row);
	else if (operation && strcmp(operation, "write") == 0)
		check_write_rule(&row);
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not an operation", operation ? operation : ""),
				 errhint("Valid operations: read, write.")));
	return row.tuple;
}

/* The unique index says so as well, but in numbers, and also between sessions. */
static void
require_in_no_group(Relation rel, Oid relid)
{
	ListCell   *lc;

	foreach(lc, tcs_rule_table_rows(rel))
	{
		HeapTuple	tuple = lfirst(lc);

		if (tcs_rule_oid(rel, tuple, Anum_group_relation) == relid)
			ereport(ERROR,
					(errcode(ERRCODE_UNIQUE_VIOLATION),
					 errmsg("\"%s\" is in group \"%s\" already",
							get_rel_name(relid), tcs_rule_text(rel, tuple, Anum_group_name)),
					 errdetail("A relation is in one group at most."),
					 errhint("Use tcs.drop_group(), or name all members of both in one group.")));
	}
}

/* The same of a member of a group. */
HeapTuple
tcs_rule_check_group(Relation rel, HeapTuple tuple, bool is_new)
{
	char	   *name = tcs_rule_text(rel, tuple, Anum_group_name);
	Oid			relation = tcs_rule_oid(rel, tuple, Anum_group_relation);

	if (OidIsValid(relation))
	{
		(void) tcs_rule_check_object(RelationRelationId, relation, ERROR);
		if (is_new)
			require_in_no_group(rel, relation);
	}
	else if (tcs_rule_text(rel, tuple, Anum_group_missing) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("relation of a group must not be null")));
	tuple = tcs_rule_resolve_new(rel, tuple);
	if (name && name[0] == '\0')
		bad_rule("the name of a group must not be empty");
	return tuple;
}


/* ---- triggers ---- */

/* Throws if a function was not called as a trigger on a table of the extension. */
static const TriggerData *
require_own_trigger(FunctionCallInfo fcinfo)
{
	const TriggerData *trigger = (const TriggerData *) fcinfo->context;
	Oid			relid;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager",
						get_func_name(fcinfo->flinfo->fn_oid))));
	relid = RelationGetRelid(trigger->tg_relation);
	if (relid != tcs_rule_table_oid(TCS_TABLE_RULE) &&
		relid != tcs_rule_table_oid(TCS_TABLE_GROUP))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was called for table \"%s\", which is not of extension tcs",
						get_func_name(fcinfo->flinfo->fn_oid),
						RelationGetRelationName(trigger->tg_relation))));
	return trigger;
}

/* Does logical replication bring this?  Then it is for another database. */
static bool
is_replicated(void)
{
	static bool told = false;

	if (!IsLogicalWorker())
		return false;
	if (!told)
		ereport(LOG,
				(errmsg("rules of tcs that come by logical replication are left out"),
				 errdetail("A publication FOR ALL TABLES includes the tables of rules.")));
	told = true;
	return true;
}

/*
 * The row that a trigger is to check; NULL if it is to leave the row out.  The
 * table must be the one that its function is for, with the columns that it is
 * meant to have.
 */
static HeapTuple
row_of_trigger(FunctionCallInfo fcinfo, TcsRuleTable table, Relation *rel)
{
	const TriggerData *trigger = require_own_trigger(fcinfo);
	TriggerEvent event = trigger->tg_event;

	if (!TRIGGER_FIRED_BEFORE(event) || !TRIGGER_FIRED_FOR_ROW(event) ||
		RelationGetRelid(trigger->tg_relation) != tcs_rule_table_oid(table))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired for each row before INSERT, UPDATE or DELETE of its own table",
						get_func_name(fcinfo->flinfo->fn_oid))));
	if (is_replicated())
		return NULL;
	*rel = tcs_rule_table_open(table, NoLock);
	return TRIGGER_FIRED_BY_UPDATE(event) ? trigger->tg_newtuple : trigger->tg_trigtuple;
}

/* Is a row of a trigger to be written? */
static bool
is_written(FunctionCallInfo fcinfo)
{
	return !TRIGGER_FIRED_BY_DELETE(((TriggerData *) fcinfo->context)->tg_event);
}

/* BEFORE INSERT, UPDATE or DELETE of tcs.rule, each row. */
Datum
tcs_rule_check(PG_FUNCTION_ARGS)
{
	Relation	rel;
	HeapTuple	tuple = row_of_trigger(fcinfo, TCS_TABLE_RULE, &rel);

	if (tuple == NULL)
		return PointerGetDatum(NULL);
	if (is_written(fcinfo))
		tuple = tcs_rule_check_rule(rel, tuple);
	relation_close(rel, NoLock);
	return PointerGetDatum(tuple);
}

/* The same of tcs.rule_group. */
Datum
tcs_group_check(PG_FUNCTION_ARGS)
{
	Relation	rel;
	HeapTuple	tuple = row_of_trigger(fcinfo, TCS_TABLE_GROUP, &rel);
	bool		is_new = TRIGGER_FIRED_BY_INSERT(((TriggerData *) fcinfo->context)->tg_event);

	if (tuple == NULL)
		return PointerGetDatum(NULL);
	if (is_written(fcinfo))
		tuple = tcs_rule_check_group(rel, tuple, is_new);
	relation_close(rel, NoLock);
	return PointerGetDatum(tuple);
}

/* AFTER each row that is changed, and TRUNCATE: all forget their copies. */
Datum
tcs_rules_changed(PG_FUNCTION_ARGS)
{
	const TriggerData *trigger = require_own_trigger(fcinfo);

	/* there are no rows to leave out */
	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event) && is_replicated())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("TRUNCATE of table \"%s\" cannot come by logical replication",
						RelationGetRelationName(trigger->tg_relation)),
				 errdetail("The rules of a subscriber are its own."),
				 errhint("Use ALTER SUBSCRIPTION ... SKIP, and a publication without the tables of extension tcs.")));
	tcs_rule_table_changed();
	return PointerGetDatum(NULL);
}
