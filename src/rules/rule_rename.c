/*-------------------------------------------------------------------------
 *
 * rule_rename.c
 *	  Rules follow their schema or function when it gets another name.
 *
 * NOTES
 *	  A row has the name of its schema or function, and the number; see
 *	  rules/rule_table.c.  A function has another name also if its schema has, or the
 *	  type of an argument.  So all rows are looked at whenever anything is renamed.
 *
 *	  Anybody may rename what is his, and leave the transaction open.  So a row is
 *	  written, and thereby locked, only if the name in it is not that of its object any
 *	  more.  Anyone who owns a type can still lock the rules of functions that take
 *	  it as an argument: those do get another name.
 *
 *	  Numbers of another database or cluster mean nothing.  They stay in a row as they
 *	  are until its object is renamed.  What the rows without good numbers are for is
 *	  looked up by name before the rename, and kept in memory until it is done.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/identity.h"
#include "base/own_objects.h"
#include "rules/rule_cache.h"
#include "rules/rule_table.h"

/* A row without good numbers, and what its name meant before the rename. */
typedef struct NamedRow
{
	int32		id;
	Oid			schema;
	Oid			function;
} NamedRow;

/*
 * The extension is not relocatable: clients call its functions by the name of its
 * schema.  Under another name, anyone who may create a schema could offer his own.
 */
static void
refuse_other_schema(const Node *statement)
{
	const RenameStmt *rename = (const RenameStmt *) statement;

	if (IsA(rename, RenameStmt) && rename->renameType == OBJECT_SCHEMA &&
		tcs_is_own_schema(get_namespace_oid(rename->subname, true)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("schema \"%s\" cannot be renamed because extension tcs is in it",
						rename->subname)));
}

/* What the name in a row means, if the row has no good number; else NULL. */
static NamedRow *
look_up_name(Relation rel, HeapTuple tuple)
{
	char	   *schema = tcs_rule_text(rel, tuple, Anum_rule_schema);
	char	   *function = tcs_rule_text(rel, tuple, Anum_rule_function);
	NamedRow   *row;

	if ((schema == NULL || OidIsValid(tcs_rule_known_object(rel, tuple, Anum_rule_schema))) &&
		(function == NULL || OidIsValid(tcs_rule_known_object(rel, tuple, Anum_rule_function))))
		return NULL;
	row = palloc0(sizeof(NamedRow));
	row->id = tcs_rule_id(rel, tuple);
	if (schema != NULL)
		row->schema = get_namespace_oid(schema, true);
	if (function != NULL)
		row->function = tcs_identity_find_function(function);
	return row;
}

/*
 * Something is about to get another name or schema.  Returns what to hand to
 * tcs_rules_after_rename().
 */
List *
tcs_rules_before_rename(const Node *statement)
{
	Relation	rel;
	List	   *named = NIL;
	ListCell   *lc;

	/* a read-only transaction is refused by the statement itself */
	if (XactReadOnly || !OidIsValid(tcs_rule_table_oid(TCS_TABLE_RULE)))
		return NIL;
	refuse_other_schema(statement);
	tcs_rule_expect_renames();
	rel = tcs_rule_table_try_open(TCS_TABLE_RULE, AccessShareLock);
	if (rel == NULL)
		return NIL;
	foreach(lc, tcs_rule_table_rows(rel))
	{
		NamedRow   *row = look_up_name(rel, lfirst(lc));

		if (row != NULL)
			named = lappend(named, row);
	}
	relation_close(rel, AccessShareLock);
	return named;
}

/* The object of a row, by its number or by what its name meant before. */
static Oid
object_of_row(Relation rel, HeapTuple tuple, int attnum, const List *named)
{
	Oid			known = tcs_rule_known_object(rel, tuple, attnum);
	int32		id = tcs_rule_id(rel, tuple);
	ListCell   *lc;

	foreach(lc, OidIsValid(known) ? NIL : named)
	{
		const NamedRow *row = lfirst(lc);

		if (row->id == id)
			return attnum == Anum_rule_function ? row->function : row->schema;
	}
	return known;
}

/* A row with the present name of its object, its number, and whose number that is. */
static HeapTuple
with_name(Relation rel, HeapTuple tuple, int attnum, Datum name, Oid object)
{
	int			columns[] = {
		attnum,
		attnum == Anum_rule_function ? Anum_rule_function_oid : Anum_rule_schema_oid,
		Anum_rule_oids_of
	};
	Datum		values[] = {
		name, ObjectIdGetDatum(object), CStringGetTextDatum(tcs_rule_origin_of_oids())
	};
	bool		nulls[lengthof(columns)] = {false};

	return heap_modify_tuple_by_cols(tuple, RelationGetDescr(rel), lengthof(columns),
									 columns, values, nulls);
}

/* A row whose schema or function has another name now, with that; else NULL. */
static HeapTuple
renamed_row(Relation rel, HeapTuple tuple, const List *named)
{
	char	   *schema = tcs_rule_text(rel, tuple, Anum_rule_schema);
	char	   *function = tcs_rule_text(rel, tuple, Anum_rule_function);
	Oid			object;
	char	   *name;

	if (schema != NULL)
	{
		NameData	new_name;

		object = object_of_row(rel, tuple, Anum_rule_schema, named);
		name = OidIsValid(object) ? get_namespace_name(object) : NULL;
		if (name == NULL || strcmp(name, schema) == 0)
			return NULL;
		namestrcpy(&new_name, name);
		return with_name(rel, tuple, Anum_rule_schema, NameGetDatum(&new_name), object);
	}
	if (function == NULL)
		return NULL;
	object = object_of_row(rel, tuple, Anum_rule_function, named);
	if (!OidIsValid(object) || !SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(object)))
		return NULL;
	name = tcs_identity_of_function(object);
	if (tcs_identity_same(name, function))
		return NULL;
	return with_name(rel, tuple, Anum_rule_function, CStringGetTextDatum(name), object);
}

/* The rename is done. */
void
tcs_rules_after_rename(const List *named)
{
	Relation	rel;
	ListCell   *lc;

	CommandCounterIncrement();
	rel = tcs_rule_table_try_open(TCS_TABLE_RULE, AccessShareLock);
	if (rel == NULL)
		return;
	foreach(lc, tcs_rule_table_rows(rel))
	{
		HeapTuple	tuple = renamed_row(rel, lfirst(lc), named);

		if (tuple == NULL)
			continue;
		LockRelationOid(RelationGetRelid(rel), RowExclusiveLock);
		tcs_rule_table_update(rel, lfirst(lc), tuple);
	}
	relation_close(rel, AccessShareLock);
}
