/*-------------------------------------------------------------------------
 *
 * install.c
 *	  What the SQL script cannot say: CREATE EXTENSION trusts nobody.
 *
 * NOTES
 *	  CREATE EXTENSION goes into a schema tcs that is there already, no matter who made
 *	  it and whatever is in it.  And it obeys default privileges: with ALTER DEFAULT
 *	  PRIVILEGES GRANT ALL ON TABLES, somebody would have TRIGGER on the table of
 *	  rules from its first moment on.
 *
 *	  Privileges on a schema that others have seen are another matter.  What is
 *	  revoked here stays with them until the transaction commits, and anyone who has
 *	  once been let in may create something much later.  CREATE FUNCTION checks the
 *	  privilege first, and can then be made to wait for a lock.  So nobody else may
 *	  have CREATE when we look, and transactions from before are waited for, as CREATE
 *	  INDEX CONCURRENTLY does.  There is none to wait for if the schema is as it was
 *	  created: then nobody else ever had the privilege.  So a restore does not wait.
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
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
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

/*
 * The objects that depend on another one; deptype '\0' is any.  With a dirty snapshot
 * also those of transactions that are still open, prepared ones included.
 */
static List *
dependents_of(Oid class, Oid object, char deptype, Snapshot snapshot)
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
	scan = systable_beginscan(rel, DependReferenceIndexId, true, snapshot, 2, keys);
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
run_statement(const char *statement)
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
		run_statement(psprintf("REVOKE ALL ON %s FROM %s CASCADE", object,
							   grantee == ACL_ID_PUBLIC ? "PUBLIC" :
							   quote_identifier(GetUserNameFromId(grantee, false))));
	}
}

static void
require_superuser_owns(const char *name, Oid owner)
{
	if (!superuser_arg(owner))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("schema \"%s\" belongs to role \"%s\", who is not a superuser",
						name, GetUserNameFromId(owner, false)),
				 errdetail("The owner could put functions of his own beside those of the extension."),
				 errhint("Drop the schema, or give it to a superuser with ALTER SCHEMA ... OWNER TO.")));
}

static void
require_empty(Oid schema, const char *name)
{
	SnapshotData dirty;
	ListCell   *lc;

	InitDirtySnapshot(dirty);
	foreach(lc, dependents_of(NamespaceRelationId, schema, '\0', &dirty))
	{
		const ObjectAddress *object = lfirst(lc);
		char	   *description;

		if ((object->classId == ExtensionRelationId && object->objectId == CurrentExtensionObject) ||
			getExtensionOfObject(object->classId, object->objectId) == CurrentExtensionObject)
			continue;
		description = getObjectDescription(object, true);
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("schema \"%s\" is not empty", name),
				 description ? errdetail("It has %s.", description) :
				 errdetail("A transaction that is still open has created something in it."),
				 errhint("The extension must have the schema for itself: move what is in it, or drop it.")));
	}
}

/*
 * Has any transaction but this one seen the schema?  Then there is a row of it that
 * somebody else wrote.
 */
static bool
others_have_seen(Oid schema)
{
	Relation	rel = table_open(NamespaceRelationId, AccessShareLock);
	bool		found = false;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_namespace_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(schema));
	scan = systable_beginscan(rel, NamespaceOidIndexId, true, SnapshotAny, 1, &key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
		found = !TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* Nobody but superusers may have CREATE on the schema. */
static void
require_no_other_creator(const char *name, Datum acl)
{
	Acl		   *copy = DatumGetAclPCopy(acl);

	for (int i = 0; i < ACL_NUM(copy); i++)
	{
		const AclItem *item = &ACL_DAT(copy)[i];
		bool		is_public = item->ai_grantee == ACL_ID_PUBLIC;
		const char *grantee;

		if ((ACLITEM_GET_PRIVS(*item) & ACL_CREATE) == 0 ||
			(!is_public && superuser_arg(item->ai_grantee)))
			continue;
		grantee = is_public ? "PUBLIC" : GetUserNameFromId(item->ai_grantee, false);
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("role \"%s\" may create objects in schema \"%s\"", grantee, name),
				 errdetail("The role could put functions of its own beside those of the extension."),
				 errhint("Run REVOKE CREATE ON SCHEMA %s FROM %s, and commit; or drop the schema.",
						 quote_identifier(name), is_public ? grantee : quote_identifier(grantee))));
	}
}

/*
 * Wait for all transactions in this database that are under way.
 *
 * Any of them may have been let in by privileges that are revoked by now, even if it
 * holds no snapshot.  Prepared ones do not count: they create nothing more.
 */
static void
wait_for_others(void)
{
	VirtualTransactionId *others;
	int			n;

	others = GetCurrentVirtualXIDs(InvalidTransactionId, false, false,
								   PROC_IS_AUTOVACUUM | PROC_IN_VACUUM, &n);
	for (int i = 0; i < n; i++)
		(void) VirtualXactLock(others[i], true);
}

/*
 * Make sure that nobody creates something in a schema that others know, while we are
 * at work or afterwards.
 */
static void
shut_out_others(Oid schema, HeapTuple tuple, Datum acl, bool no_acl)
{
	const char *name = NameStr(((Form_pg_namespace) GETSTRUCT(tuple))->nspname);

	if (TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("schema \"%s\" has been altered by this transaction", name),
				 errdetail("Others may create objects in it as long as they do not see that."),
				 errhint("Commit first, then run CREATE EXTENSION.")));
	if (!no_acl)
		require_no_other_creator(name, acl);
	if ((tuple->t_data->t_infomask & HEAP_UPDATED) == 0)
		return;					/* it was never granted to anybody */
	wait_for_others();
	require_empty(schema, name);
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
	acl = SysCacheGetAttr(NAMESPACEOID, tuple, Anum_pg_namespace_nspacl, &isnull);
	require_superuser_owns(NameStr(namespace->nspname), namespace->nspowner);
	require_empty(schema, NameStr(namespace->nspname));
	if (others_have_seen(schema))
		shut_out_others(schema, tuple, acl, isnull);
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

static void
secure_namespace(Oid schema)
{
	HeapTuple	tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(schema));
	Form_pg_namespace form;
	Datum		acl;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_namespace) GETSTRUCT(tuple);
	acl = SysCacheGetAttr(NAMESPACEOID, tuple, Anum_pg_namespace_nspacl, &isnull);
	if (!isnull)
		revoke_from_others(psprintf("SCHEMA %s", quote_identifier(NameStr(form->nspname))),
						   acl, form->nspowner, true);
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
	foreach(lc, dependents_of(ExtensionRelationId, CurrentExtensionObject, DEPENDENCY_EXTENSION, NULL))
	{
		const ObjectAddress *object = lfirst(lc);

		if (object->classId == RelationRelationId)
			secure_relation(object->objectId);
		else if (object->classId == ProcedureRelationId)
			secure_function(object->objectId);
		else if (object->classId == NamespaceRelationId)
			secure_namespace(object->objectId);
	}
	SPI_finish();
	PG_RETURN_VOID();
}
