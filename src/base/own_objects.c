/*-------------------------------------------------------------------------
 *
 * own_objects.c
 *	  Which objects of this database belong to the extension.
 *
 * NOTES
 *	  A name proves nothing: anyone who may create a schema can make a table
 *	  tcs.rule.  An object is the extension's if pg_depend says that it is a
 *	  member.  Only the owner of the extension can make it one, and the owner is
 *	  a superuser.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_language.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/own_objects.h"

/*
 * The extension and its schema; InvalidOid if it is not installed.
 *
 * The schema is taken from pg_extension by number.  So it is found under any name.
 */
static Oid
own_extension(Oid *schema)
{
	Oid			extension = InvalidOid;
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	*schema = InvalidOid;
	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("tcs"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		extension = ((Form_pg_extension) GETSTRUCT(tuple))->oid;
		*schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return extension;
}

Oid
tcs_own_schema(void)
{
	Oid			schema;

	(void) own_extension(&schema);
	return schema;
}

bool
tcs_is_own(Oid class, Oid object)
{
	Oid			extension;
	Oid			schema;

	if (object < FirstNormalObjectId)
		return false;
	extension = getExtensionOfObject(class, object);
	/* without an extension both would be InvalidOid */
	return OidIsValid(extension) && extension == own_extension(&schema);
}

bool
tcs_is_own_schema(Oid schema)
{
	return OidIsValid(schema) &&
		(schema == tcs_own_schema() || tcs_is_own(NamespaceRelationId, schema));
}

/*
 * Is it a function of this extension?
 *
 * All of ours are in C, or aggregates.  That is looked at first, so that other
 * functions cost no search of pg_depend.
 */
bool
tcs_is_own_function(Oid function)
{
	HeapTuple	tuple;
	bool		possible;

	if (function < FirstNormalObjectId)
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		return false;
	possible = ((Form_pg_proc) GETSTRUCT(tuple))->prolang == ClanguageId ||
		((Form_pg_proc) GETSTRUCT(tuple))->prokind == PROKIND_AGGREGATE;
	ReleaseSysCache(tuple);
	return possible && tcs_is_own(ProcedureRelationId, function);
}

Oid
tcs_own_relation(const char *name)
{
	Oid			schema;
	Oid			extension = own_extension(&schema);
	Oid			relid;

	if (!OidIsValid(extension))
		return InvalidOid;
	relid = get_relname_relid(name, schema);
	if (!OidIsValid(relid) || getExtensionOfObject(RelationRelationId, relid) != extension)
		return InvalidOid;
	return relid;
}
