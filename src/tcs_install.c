/*-------------------------------------------------------------------------
 *
 * tcs_install.c
 *	  What the SQL script cannot say: CREATE EXTENSION trusts nobody.
 *
 * NOTES
 *	  CREATE EXTENSION goes into a schema tcs that is there already, whoever made
 *	  it and whatever is in it.  And it obeys default privileges: with ALTER DEFAULT
 *	  PRIVILEGES GRANT ALL ON TABLES, somebody would have TRIGGER on the table of
 *	  rules from its first moment on.
 *
 *	  The functions are called by the script alone, which drops them again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(tcs_secure_schema);
PG_FUNCTION_INFO_V1(tcs_secure_members);

static void
require_script(FunctionCallInfo fcinfo)
{
	if (!creating_extension ||
		getExtensionOfObject(ProcedureRelationId, fcinfo->flinfo->fn_oid) != CurrentExtensionObject)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("function \"%s\" can only be called by CREATE EXTENSION",
						get_func_name(fcinfo->flinfo->fn_oid))));
}

/* The objects that depend on another one; deptype '\0' is any. */
static List *
dependents_of(Oid class, Oid object, char deptype)
{
	Relation	rel = table_open(DependRelationId, AccessShareLock);
	List	   *result = NIL;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(class));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(object));
	scan = systable_beginscan(rel, DependReferenceIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);
		ObjectAddress *address;

		if (deptype != '\0' && depend->deptype != deptype)
			continue;
		address = palloc(sizeof(ObjectAddress));
		ObjectAddressSet(*address, depend->classid, depend->objid);
		result = lappend(result, address);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

static void
run(const char *statement)
{
	if (SPI_execute(statement, false, 0) < 0)
		elog(ERROR, "could not run \"%s\"", statement);
}

/* Take all rights on an object from those who are not its owner. */
static void
revoke_from_others(const char *object, Datum acl, Oid owner, bool also_from_public)
{
	Acl		   *copy = DatumGetAclPCopy(acl);
	List	   *done = NIL;

	for (int i = 0; i < ACL_NUM(copy); i++)
	{
		Oid			grantee = ACL_DAT(copy)[i].ai_grantee;

		if (grantee == owner || (grantee == ACL_ID_PUBLIC && !also_from_public) ||
			list_member_oid(done, grantee))
			continue;
		done = lappend_oid(done, grantee);
		run(psprintf("REVOKE ALL ON %s FROM %s CASCADE", object,
					 grantee == ACL_ID_PUBLIC ? "PUBLIC" :
					 quote_identifier(GetUserNameFromId(grantee, false))));
	}
}

/* Nobody but a superuser may own the schema, and it must have been empty. */
static void
require_trusted_schema(Oid schema, const char *name, Oid owner)
{
	ListCell   *lc;

	if (!superuser_arg(owner))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("schema \"%s\" belongs to role \"%s\", who is not a superuser",
						name, GetUserNameFromId(owner, false)),
				 errdetail("The owner could put functions of his own beside those of the extension."),
				 errhint("Drop the schema, or give it to a superuser with ALTER SCHEMA ... OWNER TO.")));
	foreach(lc, dependents_of(NamespaceRelationId, schema, '\0'))
	{
		const ObjectAddress *object = lfirst(lc);

		if ((object->classId == ExtensionRelationId && object->objectId == CurrentExtensionObject) ||
			getExtensionOfObject(object->classId, object->objectId) == CurrentExtensionObject)
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("schema \"%s\" is not empty", name),
				 errdetail("It has %s.", getObjectDescription(object, false)),
				 errhint("The extension must have the schema for itself: move what is in it, or drop it.")));
	}
}

/*
 * secure_schema(): first of all.  Is the schema fit for the extension?  Nobody may
 * create anything in it, whatever default privileges say.
 */
Datum
tcs_secure_schema(PG_FUNCTION_ARGS)
{
	Oid			schema;
	HeapTuple	tuple;
	Form_pg_namespace namespace;
	Datum		acl;
	bool		isnull;

	require_script(fcinfo);
	schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(schema));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for namespace %u", schema);
	namespace = (Form_pg_namespace) GETSTRUCT(tuple);
	require_trusted_schema(schema, NameStr(namespace->nspname), namespace->nspowner);
	acl = SysCacheGetAttr(NAMESPACEOID, tuple, Anum_pg_namespace_nspacl, &isnull);
	if (!isnull)
	{
		SPI_connect();
		revoke_from_others(psprintf("SCHEMA %s", quote_identifier(NameStr(namespace->nspname))),
						   acl, namespace->nspowner, true);
		SPI_finish();
	}
	ReleaseSysCache(tuple);
	PG_RETURN_VOID();
}

static void
secure_relation(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	Datum		acl;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_class) GETSTRUCT(tuple);
	acl = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relacl, &isnull);
	if (!isnull)
		revoke_from_others(psprintf("%s %s", form->relkind == RELKIND_SEQUENCE ? "SEQUENCE" : "TABLE",
									quote_qualified_identifier(get_namespace_name(form->relnamespace),
															   NameStr(form->relname))),
						   acl, form->relowner, true);
	ReleaseSysCache(tuple);
}

static void
secure_function(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Datum		acl;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		return;
	acl = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proacl, &isnull);
	if (!isnull)
		/* PUBLIC has what the script says, or less */
		revoke_from_others(psprintf("ROUTINE %s", format_procedure_qualified(function)),
						   acl, ((Form_pg_proc) GETSTRUCT(tuple))->proowner, false);
	ReleaseSysCache(tuple);
}

/*
 * secure_members(): when all is there.  The script then grants what it means to.
 */
Datum
tcs_secure_members(PG_FUNCTION_ARGS)
{
	ListCell   *lc;

	require_script(fcinfo);
	SPI_connect();
	foreach(lc, dependents_of(ExtensionRelationId, CurrentExtensionObject, DEPENDENCY_EXTENSION))
	{
		const ObjectAddress *object = lfirst(lc);

		if (object->classId == RelationRelationId)
			secure_relation(object->objectId);
		else if (object->classId == ProcedureRelationId)
			secure_function(object->objectId);
	}
	SPI_finish();
	PG_RETURN_VOID();
}
