/*-------------------------------------------------------------------------
 *
 * rule_names.c
 *	  A rule is made, and what it names is renamed, one after the other.
 *
 * NOTES
 *	  A row has a name, and a rename puts the new one into it (rules/rule_rename.c).  It
 *	  does not see a row that is not committed yet, and who makes the row does not see
 *	  the rename.  Core locks neither a schema nor a type that gets another name.  So
 *	  both take a lock of ours: who makes a rule for as long as its transaction, before
 *	  the name is looked up; a rename when the new name is in the catalogs, and before
 *	  the rows are looked at.
 *
 *	  A rename locks what it renames and nothing else.  So who leaves one open keeps
 *	  only those waiting who make a rule for just that.  They hold no lock of
 *	  tcs.set_rule() then, which others would wait for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/xact.h"
#include "rules/rule_table.h"

/* The transaction that has renamed something, or is about to. */
static LocalTransactionId renames_in = InvalidLocalTransactionId;

/* What the name of a function is made of, besides its own. */
typedef struct NameParts
{
	List	   *schemas;
	List	   *types;
} NameParts;

static void
share_name(Oid class, Oid object)
{
	LockDatabaseObject(class, object, TCS_LOCK_NAME, ShareLock);
}

/* Keep the names of a schema from changing, and the schema from being dropped. */
static void
keep_schema(Oid schema)
{
	share_name(NamespaceRelationId, schema);
	LockDatabaseObject(NamespaceRelationId, schema, 0, AccessShareLock);
}

/* The schema of a name, which it keeps while this transaction lasts. */
Oid
tcs_rule_keep_schema(const char *name, bool missing_ok)
{
	Oid			schema = get_namespace_oid(name, missing_ok);

	for (;;)
	{
		Oid			locked = schema;

		if (!OidIsValid(schema))
			return InvalidOid;
		keep_schema(schema);
		schema = get_namespace_oid(name, missing_ok);
		if (schema == locked)
			return schema;
	}
}

static NameParts
parts_of_function(Oid function)
{
	NameParts	parts = {0};
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;

	if (!HeapTupleIsValid(tuple))
		return parts;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	parts.schemas = list_make1_oid(proc->pronamespace);
	for (int i = 0; i < proc->pronargs; i++)
	{
		Oid			type = proc->proargtypes.values[i];
		Oid			element = get_element_type(type);
		HeapTuple	type_tuple;

		/* an array is shown by its elements */
		if (OidIsValid(element))
			type = element;
		type_tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
		if (!HeapTupleIsValid(type_tuple))
			continue;
		parts.types = list_append_unique_oid(parts.types, type);
		parts.schemas = list_append_unique_oid(parts.schemas,
											   ((Form_pg_type) GETSTRUCT(type_tuple))->typnamespace);
		ReleaseSysCache(type_tuple);
	}
	ReleaseSysCache(tuple);
	return parts;
}

/* A function keeps its name while this transaction lasts, and is not dropped. */
void
tcs_rule_keep_function(Oid function)
{
	NameParts	parts;
	NameParts	kept = {0};

	LockDatabaseObject(ProcedureRelationId, function, 0, AccessShareLock);
	share_name(ProcedureRelationId, function);
	for (;;)
	{
		ListCell   *lc;

		/* what it has been moved to meanwhile */
		parts = parts_of_function(function);
		if (equal(parts.schemas, kept.schemas) && equal(parts.types, kept.types))
			return;
		kept = parts;
		foreach(lc, parts.schemas)
			keep_schema(lfirst_oid(lc));
		foreach(lc, parts.types)
			share_name(TypeRelationId, lfirst_oid(lc));
	}
}

/* Something is about to get another name or schema, in this transaction. */
void
tcs_rule_expect_renames(void)
{
	renames_in = tcs_xact_id();
}

/* An object was altered, and may have another name now. */
void
tcs_rules_object_altered(Oid class, Oid object, int column)
{
	if (renames_in == InvalidLocalTransactionId || renames_in != tcs_xact_id() || column != 0)
		return;
	if (class == NamespaceRelationId || class == TypeRelationId || class == ProcedureRelationId)
		LockDatabaseObject(class, object, TCS_LOCK_NAME, ExclusiveLock);
}
