/*-------------------------------------------------------------------------
 *
 * rule_table.c
 *	  The tables that rules are kept in: how they are opened, read and changed,
 *	  and when rows go with what they are for.
 *
 * NOTES
 *	  The tables are found by pg_depend and opened by number.  Before a row is
 *	  touched, the table must have the columns that the SQL script gave it.
 *
 *	  Rows are changed as core changes its catalogs, and not by SQL.  So no
 *	  trigger, rule, policy or constraint that somebody else has put on a table
 *	  runs with the rights of the role that caused the change: often a superuser who
 *	  only dropped a table or a role.
 *
 *	  Rows that come from a dump have names alone; see rules/rule_resolve.c.
 *
 *	  A relation or a role is kept as its number, so renaming does not matter.
 *	  A schema or a function is kept by name, since pg_upgrade moves no table
 *	  whose columns are of the types for their numbers.  The number is kept beside
 *	  it, with a mark of the cluster and database that it is of.  There it is the
 *	  number that counts.  The name is put right when the object is renamed, see
 *	  rules/rule_rename.c.  It can be late, since who renames does not see a rule that
 *	  is not committed yet.  In a copy of the database, after pg_upgrade, or a restore
 *	  without triggers, the name counts.
 *
 *	  What is dropped takes its rules with it.  Hooks see to that, and to renames,
 *	  and not event triggers: those would make DDL fail in a server that does not
 *	  load the library.  A role takes the rules of the database that it is dropped
 *	  in.  Rules for roles that are gone apply to nobody, and are not shown.  What
 *	  was dropped without the library leaves its rules behind until the next
 *	  tcs.set_rule(); what was renamed shows its old name until the next rename.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/identity.h"
#include "base/own_objects.h"
#include "rules/rule_cache.h"
#include "rules/rule_table.h"

typedef struct Column
{
	const char *name;
	Oid			type;
} Column;

static const Column rule_columns[Natts_rule] = {
	{"id", INT4OID}, {"relation", REGCLASSOID}, {"function", TEXTOID},
	{"schema", NAMEOID}, {"role", REGROLEOID}, {"missing_relation", TEXTOID},
	{"missing_function", TEXTOID}, {"missing_schema", NAMEOID}, {"missing_role", NAMEOID},
	{"unresolved", INT4OID}, {"held", BOOLOID}, {"application_name", TEXTOID},
	{"operation", TEXTOID}, {"level", TEXTOID}, {"max_staleness", INT4OID},
	{"max_wait", INT4OID}, {"fallback", TEXTOID}, {"floor", TEXTOID},
	{"hard", BOOLOID}, {"reason", TEXTOID}, {"schema_oid", OIDOID},
	{"function_oid", OIDOID}, {"oids_of", TEXTOID}, {"set_by", NAMEOID},
	{"set_at", TIMESTAMPTZOID},
};

static const Column group_columns[Natts_group] = {
	{"relation", REGCLASSOID}, {"name", TEXTOID}, {"missing", TEXTOID},
	{"held", BOOLOID},
};


/* ---- opening ---- */

/* The number of a table, or InvalidOid if the extension is not here. */
Oid
tcs_rule_table_oid(TcsRuleTable table)
{
	return tcs_own_relation(table == TCS_TABLE_RULE ? "rule" : "rule_group");
}

/*
 * What is wrong with a table, or NULL.
 *
 * Its owner can change it in any way.  More columns at the end may be those of a
 * later version; they stay null in what is written here.
 */
static const char *
table_problem(Relation rel, TcsRuleTable table)
{
	const Column *columns = table == TCS_TABLE_RULE ? rule_columns : group_columns;
	int			ncolumns = table == TCS_TABLE_RULE ? Natts_rule : Natts_group;
	TupleDesc	desc = RelationGetDescr(rel);

	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relispartition)
		return "It is not an ordinary table.";
	if (rel->rd_rel->relam != HEAP_TABLE_AM_OID)
		return "It has another access method than \"heap\".";
	for (int i = 0; i < ncolumns; i++)
	{
		if (i >= desc->natts || TupleDescAttr(desc, i)->attisdropped ||
			strcmp(NameStr(TupleDescAttr(desc, i)->attname), columns[i].name) != 0 ||
			TupleDescAttr(desc, i)->atttypid != columns[i].type)
			return psprintf("Column %d should be \"%s\" of type %s.", i + 1,
							columns[i].name, format_type_be(columns[i].type));
	}
	for (int i = ncolumns; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped &&
			(TupleDescAttr(desc, i)->attnotnull || TupleDescAttr(desc, i)->attgenerated))
			return psprintf("Column \"%s\", which is not the extension's, cannot be left null.",
							NameStr(TupleDescAttr(desc, i)->attname));
	}
	return NULL;
}

/* Open a table by number; NULL if it is gone by now. */
static Relation
open_table(TcsRuleTable table, LOCKMODE lockmode, const char **problem)
{
	Oid			relid = tcs_rule_table_oid(table);
	Relation	rel;

	*problem = NULL;
	if (!OidIsValid(relid))
		return NULL;
	rel = try_relation_open(relid, lockmode);
	if (rel != NULL)
		*problem = table_problem(rel, table);
	return rel;
}

/* Open a table; NULL if the extension is not here, and an error if it is damaged. */
Relation
tcs_rule_table_open(TcsRuleTable table, LOCKMODE lockmode)
{
	const char *problem;
	Relation	rel = open_table(table, lockmode, &problem);

	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not as extension tcs has made it",
						RelationGetRelationName(rel)),
				 errdetail("%s", problem),
				 errhint("If only this node says so, its library is of another build than the extension: install the same one on all nodes. "
						 "Else undo the change, or use DROP EXTENSION tcs and CREATE EXTENSION tcs.")));
	return rel;
}

/*
 * The same for what goes on without rules: a table that is damaged is NULL, too.
 * Otherwise nobody could mend it, since that is DDL.
 */
Relation
tcs_rule_table_try_open(TcsRuleTable table, LOCKMODE lockmode)
{
	const char *problem;
	Relation	rel = open_table(table, lockmode, &problem);

	if (problem == NULL)
		return rel;
	relation_close(rel, lockmode);
	return NULL;
}


/* ---- reading and changing ---- */

/* All rows, as they are now, as copies. */
List *
tcs_rule_table_rows(Relation rel)
{
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	List	   *rows = NIL;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		rows = lappend(rows, heap_copytuple(tuple));
	systable_endscan(scan);
	return rows;
}

/* A column as palloc'd text, or NULL. */
char *
tcs_rule_text(Relation rel, HeapTuple tuple, int attnum)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, attnum, RelationGetDescr(rel), &isnull);

	if (isnull)
		return NULL;
	if (TupleDescAttr(RelationGetDescr(rel), attnum - 1)->atttypid == NAMEOID)
		return pstrdup(NameStr(*DatumGetName(value)));
	return TextDatumGetCString(value);
}

/* A column that has an object's number; InvalidOid if it is null. */
Oid
tcs_rule_oid(Relation rel, HeapTuple tuple, int attnum)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, attnum, RelationGetDescr(rel), &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(value);
}

/* What the numbers of schemas and functions are of: cluster and database. */
char *
tcs_rule_origin_of_oids(void)
{
	return psprintf(UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId);
}

/* Are the numbers that a row has of this database? */
static bool
has_numbers(Relation rel, HeapTuple tuple)
{
	char	   *origin = tcs_rule_text(rel, tuple, Anum_rule_oids_of);

	return origin != NULL && strcmp(origin, tcs_rule_origin_of_oids()) == 0;
}

/*
 * The function or schema of a row by its number, or InvalidOid.  "attnum" is the
 * column of its name.  Only a number of this database counts, and only while there is
 * such an object; otherwise the name does.
 */
Oid
tcs_rule_known_object(Relation rel, HeapTuple tuple, int attnum)
{
	bool		is_function = attnum == Anum_rule_function;
	Oid			object;

	if (heap_attisnull(tuple, attnum, RelationGetDescr(rel)) || !has_numbers(rel, tuple))
		return InvalidOid;
	object = tcs_rule_oid(rel, tuple, is_function ? Anum_rule_function_oid : Anum_rule_schema_oid);
	return SearchSysCacheExists1(is_function ? PROCOID : NAMESPACEOID, ObjectIdGetDatum(object)) ?
		object : InvalidOid;
}

/* Do two names in a column mean the same? */
static bool
same_name(int attnum, const char *a, const char *b)
{
	return attnum == Anum_rule_function ? tcs_identity_same(a, b) : strcmp(a, b) == 0;
}

/* Is a row for a function or schema, of which number and name are given? */
bool
tcs_rule_is_for(Relation rel, HeapTuple tuple, int attnum, Oid object, const char *name)
{
	char	   *text = tcs_rule_text(rel, tuple, attnum);
	Oid			known = tcs_rule_known_object(rel, tuple, attnum);

	if (OidIsValid(known))
		return known == object;
	return text != NULL && name != NULL && same_name(attnum, text, name);
}

/* Are two rows for the same function or schema, or both for none? */
bool
tcs_rule_same_object(Relation rel, HeapTuple a, HeapTuple b, int attnum)
{
	char	   *name_a = tcs_rule_text(rel, a, attnum);
	char	   *name_b = tcs_rule_text(rel, b, attnum);
	Oid			known_a = tcs_rule_known_object(rel, a, attnum);
	Oid			known_b = tcs_rule_known_object(rel, b, attnum);

	if (name_a == NULL || name_b == NULL)
		return name_a == NULL && name_b == NULL;
	if (OidIsValid(known_a) && OidIsValid(known_b))
		return known_a == known_b;
	return same_name(attnum, name_a, name_b);
}

/* All processes, on all nodes, forget their copy when this is committed. */
void
tcs_rule_table_changed(void)
{
	Oid			relid = tcs_rule_table_oid(TCS_TABLE_RULE);

	if (OidIsValid(relid))
		CacheInvalidateRelcacheByRelid(relid);
}

/*
 * An index with an expression or a condition runs functions, and one that is
 * deferred or excludes is checked by a trigger.  Ours are none of these.
 */
static void
require_plain_indexes(Relation rel)
{
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		bool		plain = RelationGetIndexExpressions(index) == NIL &&
			RelationGetIndexPredicate(index) == NIL &&
			!index->rd_index->indisexclusion && index->rd_index->indimmediate;

		if (!plain)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("table \"%s\" is not as extension tcs has made it",
							RelationGetRelationName(rel)),
					 errdetail("Index \"%s\" has an expression or a condition, is deferrable, or excludes.",
							   RelationGetRelationName(index)),
					 errhint("Drop the index.")));
		index_close(index, AccessShareLock);
	}
}

void
tcs_rule_table_insert(Relation rel, HeapTuple tuple)
{
	require_plain_indexes(rel);
	CatalogTupleInsert(rel, tuple);
	tcs_rule_table_changed();
	CommandCounterIncrement();
}

/* Lock a row that is to be changed, and wait for anyone who is changing it. */
static TM_Result
lock_row(Relation rel, HeapTuple tuple)
{
	HeapTupleData row = {.t_self = tuple->t_self};
	TM_FailureData failure;
	TM_Result	result;
	Buffer		buffer;

	result = heap_lock_tuple(rel, &row, GetCurrentCommandId(false), LockTupleExclusive,
							 LockWaitBlock, false, &buffer, &failure);
	ReleaseBuffer(buffer);
	return result;
}

static void
require_locked(Relation rel, TM_Result result)
{
	if (result != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not change table \"%s\" because of a concurrent change",
						RelationGetRelationName(rel)),
				 errhint("Try again.")));
}

void
tcs_rule_table_update(Relation rel, HeapTuple old, HeapTuple tuple)
{
	require_plain_indexes(rel);
	require_locked(rel, lock_row(rel, old));
	CatalogTupleUpdate(rel, &old->t_self, tuple);
	tcs_rule_table_changed();
	CommandCounterIncrement();
}

/* The same; false if somebody else has changed or deleted the row. */
bool
tcs_rule_table_try_update(Relation rel, HeapTuple old, HeapTuple tuple)
{
	TM_Result	result;

	require_plain_indexes(rel);
	result = lock_row(rel, old);
	if (result == TM_Updated || result == TM_Deleted)
		return false;
	require_locked(rel, result);
	CatalogTupleUpdate(rel, &old->t_self, tuple);
	tcs_rule_table_changed();
	CommandCounterIncrement();
	return true;
}

static void
delete_locked(Relation rel, HeapTuple tuple)
{
	CatalogTupleDelete(rel, &tuple->t_self);
	tcs_rule_table_changed();
	CommandCounterIncrement();
}

/* False if somebody else has deleted it. */
bool
tcs_rule_table_delete(Relation rel, HeapTuple tuple)
{
	TM_Result	result = lock_row(rel, tuple);

	if (result == TM_Deleted)
		return false;
	require_locked(rel, result);
	delete_locked(rel, tuple);
	return true;
}


/* ---- what is dropped ---- */

/* Has a row lost its object? */
typedef bool (*RowTest) (Relation rel, HeapTuple tuple, const void *what);

/* The rows that a test is true for, as copies. */
static List *
matching_rows(Relation rel, RowTest test, const void *what)
{
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	List	   *rows = NIL;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (test(rel, tuple, what))
			rows = lappend(rows, heap_copytuple(tuple));
	}
	systable_endscan(scan);
	return rows;
}

/*
 * Delete the rows that a test is true for.
 *
 * Anybody who drops something comes here.  So what he locks until he commits is no
 * more than the rows that go: others can make and drop rules meanwhile.
 */
static void
delete_rows(TcsRuleTable table, RowTest test, const void *what)
{
	Relation	rel = tcs_rule_table_try_open(table, AccessShareLock);
	bool		again = rel != NULL;

	while (again)
	{
		ListCell   *lc;

		again = false;
		foreach(lc, matching_rows(rel, test, what))
		{
			TM_Result	result;

			LockRelationOid(RelationGetRelid(rel), RowExclusiveLock);
			result = lock_row(rel, lfirst(lc));
			if (result == TM_Ok)
				delete_locked(rel, lfirst(lc));
			else if (result == TM_Updated)
				again = true;	/* there is a newer row, which is seen now */
			else if (result != TM_Deleted)
				require_locked(rel, result);
		}
	}
	if (rel != NULL)
		relation_close(rel, AccessShareLock);
}

/* A schema or a function that is about to be dropped. */
typedef struct Dropped
{
	int			attnum;			/* column of such objects */
	Oid			object;
	const char *name;
} Dropped;

static bool
rule_is_of_dropped(Relation rel, HeapTuple tuple, const void *what)
{
	const Dropped *dropped = what;

	return tcs_rule_is_for(rel, tuple, dropped->attnum, dropped->object, dropped->name);
}

static bool
rule_is_of_relation(Relation rel, HeapTuple tuple, const void *what)
{
	return tcs_rule_oid(rel, tuple, Anum_rule_relation) == *(const Oid *) what;
}

static bool
member_is_dropped(Relation rel, HeapTuple tuple, const void *what)
{
	return tcs_rule_oid(rel, tuple, Anum_group_relation) == *(const Oid *) what;
}

/* Can a relation have rules or be in a group? */
static bool
relation_may_have_rules(Oid relid)
{
	switch (get_rel_relkind(relid))
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
		case RELKIND_VIEW:
		case RELKIND_MATVIEW:
		case RELKIND_FOREIGN_TABLE:
			return relid >= FirstNormalObjectId &&
				get_rel_persistence(relid) != RELPERSISTENCE_TEMP;
		default:
			return false;
	}
}

static bool
rule_is_of_role(Relation rel, HeapTuple tuple, const void *what)
{
	return tcs_rule_oid(rel, tuple, Anum_rule_role) == *(const Oid *) what;
}

/*
 * An object is about to be dropped, by somebody who need not see the rules: they go
 * with it.  Its name can still be looked up.
 */
void
tcs_rules_object_dropped(Oid class, Oid object, int column, int flags)
{
	Dropped		dropped = {.object = object};

	/*
	 * what core drops for its own purposes, such as temporary tables, has
	 * none
	 */
	if (column != 0 || (flags & PERFORM_DELETION_INTERNAL) != 0 || RecoveryInProgress())
		return;
	switch (class)
	{
		case RelationRelationId:
			if (!relation_may_have_rules(object))
				return;
			delete_rows(TCS_TABLE_GROUP, member_is_dropped, &object);
			delete_rows(TCS_TABLE_RULE, rule_is_of_relation, &object);
			return;
		case NamespaceRelationId:
			dropped.attnum = Anum_rule_schema;
			dropped.name = get_namespace_name(object);
			break;
		case ProcedureRelationId:
			if (object < FirstNormalObjectId)
				return;
			dropped.attnum = Anum_rule_function;
			dropped.name = tcs_identity_of_function(object);
			break;
		case AuthIdRelationId:
			delete_rows(TCS_TABLE_RULE, rule_is_of_role, &object);
			return;
		default:
			return;
	}
	delete_rows(TCS_TABLE_RULE, rule_is_of_dropped, &dropped);
}


/* ---- triggers of others ---- */

/*
 * A trigger has been made.  On a table of the extension only the owner of the table
 * may make one.  The privilege TRIGGER, which GRANT ALL includes, would make anyone who
 * has it the author of what runs when a superuser writes to the table by hand.  So
 * would REFERENCES, by the triggers of a foreign key.
 */
void
tcs_rules_trigger_created(Oid trigger)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	Oid			relid = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger));
	/* the row is of the present command */
	scan = systable_beginscan(rel, TriggerOidIndexId, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		relid = ((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	if (OidIsValid(relid) && !tcs_owns_relation_compat(relid, GetUserId()) &&
		tcs_is_own(RelationRelationId, relid))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of relation %s", get_rel_name(relid)),
				 errdetail("Triggers and foreign keys on tables of extension tcs are for their owner alone.")));
}

/*
 * Is a statement an ALTER TABLE of a table of rules?  Their owner switches triggers on
 * again when a dump has been restored without (pg_restore --disable-triggers).
 */
bool
tcs_rules_alters_table(const Node *statement)
{
	const RangeVar *table = ((const AlterTableStmt *) statement)->relation;
	Oid			relid;

	if (strcmp(table->relname, "rule") != 0 && strcmp(table->relname, "rule_group") != 0)
		return false;
	relid = RangeVarGetRelid(table, NoLock, true);
	return OidIsValid(relid) &&
		(relid == tcs_rule_table_oid(TCS_TABLE_RULE) || relid == tcs_rule_table_oid(TCS_TABLE_GROUP));
}
