/*-------------------------------------------------------------------------
 *
 * rule_funcs.c
 *	  SQL-callable functions that make and drop rules and groups.
 *
 * NOTES
 *	  They need the same privileges on the tables as the statements would that
 *	  they stand for.  They run no SQL, so that nothing in the way of the caller
 *	  can be put in the place of what they mean, and no trigger of anybody runs.
 *	  For the same reason no level is asked of them: a rule that cannot be met can
 *	  always be dropped.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/sequence.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/identity.h"
#include "base/interval.h"
#include "base/level.h"
#include "primary/quorum.h"
#include "rules/rule_table.h"
#include "write/write_level.h"

PG_FUNCTION_INFO_V1(tcs_set_rule);
PG_FUNCTION_INFO_V1(tcs_drop_rule);
PG_FUNCTION_INFO_V1(tcs_resolve_rules);
PG_FUNCTION_INFO_V1(tcs_set_group);
PG_FUNCTION_INFO_V1(tcs_drop_group);

/* Arguments of set_rule(). */
enum
{
	ARG_RELATION,
	ARG_LEVEL,
	ARG_MAX_STALENESS,
	ARG_MAX_WAIT,
	ARG_FALLBACK,
	ARG_FLOOR,
	ARG_HARD,
	ARG_SCHEMA,
	ARG_FUNCTION,
	ARG_ROLE,
	ARG_DATABASE,
	ARG_APPLICATION_NAME,
	ARG_OPERATION,
	ARG_REASON
};


/* ---- parts ---- */

/* A table to be changed, as far as the caller may. */
static Oid
table_to_change(TcsRuleTable table, AclMode privileges, const char *function)
{
	Oid			relid;

	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
	relid = tcs_rule_table_oid(table);
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("extension tcs is not installed in this database"),
				 errhint("Use CREATE EXTENSION tcs.")));
	/* before the lock, which would keep others waiting */
	if (pg_class_aclmask(relid, GetUserId(), privileges, ACLMASK_ALL) != privileges)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(relid));
	return relid;
}

/* Open it. */
static Relation
open_to_change(TcsRuleTable table, AclMode privileges, const char *function)
{
	Oid			relid = table_to_change(table, privileges, function);
	Relation	rel;

	/*
	 * One caller at a time; who drops something, or writes by hand, does not wait.
	 * No mode of lock on the table itself will do, since ANALYZE takes it, too, and
	 * anyone who owns the database may run that.
	 */
	LockDatabaseObject(RelationRelationId, relid, TCS_LOCK_CHANGE, ExclusiveLock);
	rel = tcs_rule_table_open(table, RowExclusiveLock);
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("extension tcs is not installed in this database"),
				 errhint("Use CREATE EXTENSION tcs.")));
	if (check_enable_rls(RelationGetRelid(rel), InvalidOid, false) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("query would be affected by row-level security policy for table \"%s\"",
						RelationGetRelationName(rel)),
				 errdetail("Functions of extension tcs do not look at policies.")));
	return rel;
}

/* An interval in ms, as settings have it. */
static int32
interval_ms(const Interval *interval)
{
	double		ms = tcs_interval_us(interval) / 1000.0;

	if (ms < PG_INT32_MIN || ms > PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("interval out of range")));
	return (int32) rint(ms);
}

/* The signature of a function, as the table has it. */
static Datum
signature_of(Oid function)
{
	if (!SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(function)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	return CStringGetTextDatum(tcs_identity_of_function(function));
}

/* Rules are kept in the database that they are for. */
static void
require_database(const char *name)
{
	char	   *here = get_database_name(MyDatabaseId);

	if (here == NULL || strcmp(name, here) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot create rule for database \"%s\" in database \"%s\"",
						name, here ? here : ""),
				 errhint("Connect to database \"%s\": rules are kept in the database that they are for.", name)));
}

/* Say that nothing was dropped. */
static void
no_such_rule(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("there is no such rule or group"),
			 errhint("See tcs.rules and tcs.groups; all criteria of a rule have to be named, or its id.")));
}


/* ---- can it be met? ---- */

/* The level that a rule insists on: the strongest that nothing may replace. */
static bool
insists_on_linearizable(Relation rel, HeapTuple tuple)
{
	char	   *level = tcs_rule_text(rel, tuple, Anum_rule_level);
	char	   *floor = tcs_rule_text(rel, tuple, Anum_rule_floor);
	char	   *fallback = tcs_rule_text(rel, tuple, Anum_rule_fallback);
	TcsFallback steps;
	const char *bad_step;
	int			bad_len;

	if (floor != NULL && strcmp(floor, "linearizable") == 0)
		return true;
	if (level == NULL || strcmp(level, "linearizable") != 0)
		return false;
	if (fallback == NULL || !tcs_fallback_parse(fallback, &steps, &bad_step, &bad_len))
		return true;
	/* with a weaker level among its steps, reads are served */
	for (int i = 0; i < steps.nsteps; i++)
	{
		if (steps.steps[i].kind == TCS_STEP_LEVEL)
			return false;
	}
	return true;
}

/*
 * Warn if this server, as it is, cannot give what a rule asks for.  The rule is made
 * all the same: it may be meant for the cluster as it will be.
 */
static void
warn_if_it_cannot_be_met(Relation rel, HeapTuple tuple)
{
	char	   *operation = tcs_rule_text(rel, tuple, Anum_rule_operation);
	char	   *level_name = tcs_rule_text(rel, tuple, Anum_rule_level);
	TcsWriteLevel level;
	TcsQuorum	quorum;
	const char *problem = NULL;

	if (strcmp(operation, "write") == 0)
	{
		if (level_name && tcs_write_level_by_name(level_name, &level))
			problem = tcs_write_problem(level);
		if (problem != NULL)
			ereport(WARNING,
					(errcode(ERRCODE_WARNING),
					 errmsg("this server cannot commit at write level \"%s\"", level_name),
					 errdetail("%s  What the rule is for cannot be written until that has changed.", problem),
					 errhint("Name the standbys in \"synchronous_standby_names\", or drop the rule with tcs.drop_rule(id => %d).",
							 tcs_rule_id(rel, tuple))));
		return;
	}
	if (!insists_on_linearizable(rel, tuple))
		return;
	tcs_quorum_look(&quorum);
	if ((quorum.state == TCS_QUORUM_USABLE && quorum.flushed != InvalidXLogRecPtr) ||
		quorum.state == TCS_QUORUM_RELOADING)
		return;
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("this server cannot serve reads at level \"linearizable\""),
			 errdetail("%s  What the rule is for cannot be read until that has changed, unless \"tcs.fallback\" allows less.",
					   tcs_quorum_problem(quorum.state)),
			 errhint("Name the standbys in \"synchronous_standby_names\", give the rule a fallback such as 'strong, error', or drop it with tcs.drop_rule(id => %d).",
					 tcs_rule_id(rel, tuple))));
}


/* ---- rules ---- */

/*
 * Drop the rules of roles that are gone: they apply to nobody.  So do those of
 * relations that were dropped while the library was not loaded, until their numbers
 * are used again.
 */
static void
drop_rules_of_nobody(Relation rel)
{
	ListCell   *lc;

	foreach(lc, tcs_rule_table_rows(rel))
	{
		Oid			role = tcs_rule_oid(rel, lfirst(lc), Anum_rule_role);
		Oid			relation = tcs_rule_oid(rel, lfirst(lc), Anum_rule_relation);

		if ((OidIsValid(role) && !SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role))) ||
			(OidIsValid(relation) && !SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relation))))
			(void) tcs_rule_table_delete(rel, lfirst(lc));
	}
}

/* Put an argument into a column, if it was given. */
static void
take_argument(FunctionCallInfo fcinfo, int arg, Datum *values, bool *nulls, int attnum)
{
	nulls[attnum - 1] = PG_ARGISNULL(arg);
	values[attnum - 1] = PG_ARGISNULL(arg) ? (Datum) 0 : PG_GETARG_DATUM(arg);
}

/* The row that the arguments of set_rule() describe, without an id. */
static HeapTuple
row_of_arguments(FunctionCallInfo fcinfo, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Datum	   *values = palloc0(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));
	NameData	set_by;

	memset(nulls, true, desc->natts * sizeof(bool));
	take_argument(fcinfo, ARG_RELATION, values, nulls, Anum_rule_relation);
	take_argument(fcinfo, ARG_LEVEL, values, nulls, Anum_rule_level);
	take_argument(fcinfo, ARG_FALLBACK, values, nulls, Anum_rule_fallback);
	take_argument(fcinfo, ARG_FLOOR, values, nulls, Anum_rule_floor);
	take_argument(fcinfo, ARG_SCHEMA, values, nulls, Anum_rule_schema);
	take_argument(fcinfo, ARG_ROLE, values, nulls, Anum_rule_role);
	take_argument(fcinfo, ARG_APPLICATION_NAME, values, nulls, Anum_rule_application_name);
	take_argument(fcinfo, ARG_OPERATION, values, nulls, Anum_rule_operation);
	take_argument(fcinfo, ARG_REASON, values, nulls, Anum_rule_reason);
	if (!PG_ARGISNULL(ARG_MAX_STALENESS))
	{
		values[Anum_rule_max_staleness - 1] =
			Int32GetDatum(interval_ms(PG_GETARG_INTERVAL_P(ARG_MAX_STALENESS)));
		nulls[Anum_rule_max_staleness - 1] = false;
	}
	if (!PG_ARGISNULL(ARG_MAX_WAIT))
	{
		values[Anum_rule_max_wait - 1] =
			Int32GetDatum(interval_ms(PG_GETARG_INTERVAL_P(ARG_MAX_WAIT)));
		nulls[Anum_rule_max_wait - 1] = false;
	}
	if (!PG_ARGISNULL(ARG_FUNCTION))
	{
		values[Anum_rule_function - 1] = signature_of(PG_GETARG_OID(ARG_FUNCTION));
		nulls[Anum_rule_function - 1] = false;
	}
	values[Anum_rule_id - 1] = Int32GetDatum(0);
	values[Anum_rule_hard - 1] =
		BoolGetDatum(!PG_ARGISNULL(ARG_HARD) && PG_GETARG_BOOL(ARG_HARD));
	namestrcpy(&set_by, GetUserNameFromId(GetSessionUserId(), false));
	values[Anum_rule_set_by - 1] = NameGetDatum(&set_by);
	values[Anum_rule_set_at - 1] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	nulls[Anum_rule_id - 1] = nulls[Anum_rule_hard - 1] = nulls[Anum_rule_set_by - 1] =
		nulls[Anum_rule_set_at - 1] = false;
	return heap_form_tuple(desc, values, nulls);
}

/* The row with the same criteria, or NULL. */
static HeapTuple
find_same(Relation rel, HeapTuple tuple)
{
	ListCell   *lc;

	foreach(lc, tcs_rule_table_rows(rel))
	{
		if (!tcs_rule_is_unresolved(rel, lfirst(lc)) &&
			tcs_rule_same_criteria(rel, lfirst(lc), tuple))
			return lfirst(lc);
	}
	return NULL;
}

/* Drop rows that would have the same criteria, but wait to be resolved. */
static void
drop_unresolved_same(Relation rel, HeapTuple tuple)
{
	ListCell   *lc;

	foreach(lc, tcs_rule_table_rows(rel))
	{
		HeapTuple	resolved;

		if (!tcs_rule_is_unresolved(rel, lfirst(lc)))
			continue;
		resolved = tcs_rule_as_resolved(rel, lfirst(lc), false);
		if (resolved != NULL && tcs_rule_same_criteria(rel, resolved, tuple))
			(void) tcs_rule_table_delete(rel, lfirst(lc));
	}
}

/*
 * What is named may be about to be renamed or dropped by somebody who cannot see this
 * rule.  He is waited for before others have to wait for us.
 */
static void
keep_names(FunctionCallInfo fcinfo)
{
	if (!PG_ARGISNULL(ARG_SCHEMA))
		(void) tcs_rule_keep_schema(NameStr(*PG_GETARG_NAME(ARG_SCHEMA)), true);
	if (!PG_ARGISNULL(ARG_FUNCTION))
		tcs_rule_keep_function(PG_GETARG_OID(ARG_FUNCTION));
}

/* set_rule(): make or replace a rule; returns its id. */
Datum
tcs_set_rule(PG_FUNCTION_ARGS)
{
	const AclMode privileges = ACL_INSERT | ACL_UPDATE;
	Relation	rel;
	int			id_column = Anum_rule_id;
	bool		isnull = false;
	HeapTuple	tuple;
	HeapTuple	old;
	int32		id;
	Datum		value;

	(void) table_to_change(TCS_TABLE_RULE, privileges, "tcs.set_rule()");
	keep_names(fcinfo);
	rel = open_to_change(TCS_TABLE_RULE, privileges, "tcs.set_rule()");
	if (!PG_ARGISNULL(ARG_DATABASE))
		require_database(NameStr(*PG_GETARG_NAME(ARG_DATABASE)));
	drop_rules_of_nobody(rel);
	tuple = tcs_rule_check_rule(rel, row_of_arguments(fcinfo, rel));
	drop_unresolved_same(rel, tuple);
	old = find_same(rel, tuple);
	id = old ? tcs_rule_id(rel, old) :
		(int32) nextval_internal(tcs_identity_sequence_compat(rel, Anum_rule_id), false);
	value = Int32GetDatum(id);
	tuple = heap_modify_tuple_by_cols(tuple, RelationGetDescr(rel), 1, &id_column, &value, &isnull);
	if (old)
		tcs_rule_table_update(rel, old, tuple);
	else
		tcs_rule_table_insert(rel, tuple);
	warn_if_it_cannot_be_met(rel, tuple);
	/* the next caller waits until this is committed */
	relation_close(rel, NoLock);
	PG_RETURN_INT32(id);
}

/* Arguments of drop_rule(), by column. */
static const int drop_arguments[] = {
	Anum_rule_relation, Anum_rule_schema, Anum_rule_function, Anum_rule_role,
	Anum_rule_application_name, Anum_rule_operation
};

#define ARG_DROP_ID lengthof(drop_arguments)

/* Has a row what an argument of drop_rule() says? */
static bool
argument_matches(FunctionCallInfo fcinfo, int arg, Relation rel, HeapTuple tuple)
{
	int			attnum = drop_arguments[arg];
	char	   *has;

	if (attnum == Anum_rule_relation || attnum == Anum_rule_role)
		return tcs_rule_oid(rel, tuple, attnum) ==
			(PG_ARGISNULL(arg) ? InvalidOid : PG_GETARG_OID(arg));
	has = tcs_rule_text(rel, tuple, attnum);
	if (PG_ARGISNULL(arg) || has == NULL)
		return PG_ARGISNULL(arg) && has == NULL;
	if (attnum == Anum_rule_schema)
		return tcs_rule_is_for(rel, tuple, attnum,
							   get_namespace_oid(NameStr(*PG_GETARG_NAME(arg)), true),
							   NameStr(*PG_GETARG_NAME(arg)));
	if (attnum == Anum_rule_function)
		return tcs_rule_is_for(rel, tuple, attnum, PG_GETARG_OID(arg),
							   TextDatumGetCString(signature_of(PG_GETARG_OID(arg))));
	return strcmp(has, text_to_cstring(PG_GETARG_TEXT_PP(arg))) == 0;
}

/* Is it the rule to be dropped: of an id, or with exactly these criteria? */
static bool
is_to_be_dropped(FunctionCallInfo fcinfo, Relation rel, HeapTuple tuple)
{
	bool		by_id = !PG_ARGISNULL(ARG_DROP_ID);

	if (by_id && tcs_rule_id(rel, tuple) != PG_GETARG_INT32(ARG_DROP_ID))
		return false;
	if (tcs_rule_is_unresolved(rel, tuple))
		tuple = tcs_rule_as_resolved(rel, tuple, by_id);
	if (tuple == NULL)
		return false;
	for (int i = 0; i < lengthof(drop_arguments); i++)
	{
		/* with an id, others may be left out; the operation has a default */
		if (by_id && (PG_ARGISNULL(i) || drop_arguments[i] == Anum_rule_operation))
			continue;
		if (!argument_matches(fcinfo, i, rel, tuple))
			return false;
	}
	return true;
}

/* drop_rule(): returns the id of what it has dropped. */
Datum
tcs_drop_rule(PG_FUNCTION_ARGS)
{
	Relation	rel = open_to_change(TCS_TABLE_RULE, ACL_DELETE, "tcs.drop_rule()");
	int32		id = 0;
	bool		found = false;
	ListCell   *lc;

	foreach(lc, tcs_rule_table_rows(rel))
	{
		if (!is_to_be_dropped(fcinfo, rel, lfirst(lc)))
			continue;
		if (!tcs_rule_table_delete(rel, lfirst(lc)))
			continue;
		id = tcs_rule_id(rel, lfirst(lc));
		found = true;
	}
	if (!found)
		no_such_rule();
	relation_close(rel, NoLock);
	PG_RETURN_INT32(id);
}


/* ---- groups ---- */

/* Delete the members of a group; returns how many there were. */
static int
delete_group(Relation rel, const char *name)
{
	int			n = 0;
	ListCell   *lc;

	foreach(lc, tcs_rule_table_rows(rel))
	{
		char	   *has = tcs_rule_text(rel, lfirst(lc), Anum_group_name);

		if (has == NULL || strcmp(has, name) != 0)
			continue;
		if (tcs_rule_table_delete(rel, lfirst(lc)))
			n++;
	}
	return n;
}

static void
null_member(const char *column)
{
	ereport(ERROR,
			(errcode(ERRCODE_NOT_NULL_VIOLATION),
			 errmsg("%s of a group must not be null", column)));
}

/* set_group(name, VARIADIC relations): make or replace a group. */
Datum
tcs_set_group(PG_FUNCTION_ARGS)
{
	Relation	rel = open_to_change(TCS_TABLE_GROUP, ACL_INSERT | ACL_DELETE, "tcs.set_group()");
	TupleDesc	desc = RelationGetDescr(rel);
	Datum	   *values = palloc0(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));
	List	   *done = NIL;
	Datum	   *members = NULL;
	bool	   *member_nulls = NULL;
	int			n = 0;

	if (PG_ARGISNULL(0))
		null_member("name");
	(void) delete_group(rel, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	if (!PG_ARGISNULL(1))
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), REGCLASSOID, sizeof(Oid), true,
						  TYPALIGN_INT, &members, &member_nulls, &n);
	memset(nulls, true, desc->natts * sizeof(bool));
	nulls[Anum_group_relation - 1] = nulls[Anum_group_name - 1] = false;
	values[Anum_group_name - 1] = PG_GETARG_DATUM(0);
	for (int i = 0; i < n; i++)
	{
		HeapTuple	tuple;

		if (member_nulls[i])
			null_member("relation");
		if (list_member_oid(done, DatumGetObjectId(members[i])))
			continue;
		done = lappend_oid(done, DatumGetObjectId(members[i]));
		values[Anum_group_relation - 1] = members[i];
		tuple = heap_form_tuple(desc, values, nulls);
		tcs_rule_table_insert(rel, tcs_rule_check_group(rel, tuple, true));
	}
	relation_close(rel, NoLock);
	PG_RETURN_VOID();
}

/* drop_group(name): returns how many members it had. */
Datum
tcs_drop_group(PG_FUNCTION_ARGS)
{
	Relation	rel = open_to_change(TCS_TABLE_GROUP, ACL_DELETE, "tcs.drop_group()");
	int			n = PG_ARGISNULL(0) ? 0 : delete_group(rel, text_to_cstring(PG_GETARG_TEXT_PP(0)));

	if (n == 0)
		no_such_rule();
	relation_close(rel, NoLock);
	PG_RETURN_INT32(n);
}


/* ---- what is not there yet ---- */

/* resolve_rules(): find objects by name; returns how many rows are in force now. */
Datum
tcs_resolve_rules(PG_FUNCTION_ARGS)
{
	Relation	rules = open_to_change(TCS_TABLE_RULE, ACL_INSERT | ACL_UPDATE, "tcs.resolve_rules()");
	Relation	groups = open_to_change(TCS_TABLE_GROUP, ACL_INSERT | ACL_DELETE, "tcs.resolve_rules()");
	int			n = tcs_rules_resolve_all();

	relation_close(groups, NoLock);
	relation_close(rules, NoLock);
	PG_RETURN_INT32(n);
}
