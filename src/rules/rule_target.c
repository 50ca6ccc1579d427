/*-------------------------------------------------------------------------
 *
 * rule_target.c
 *	  Of which objects can rules speak?
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/identity.h"
#include "base/own_objects.h"
#include "rules/rule_table.h"

/*
 * Can rules speak of a relation?  False, or an error, as the level of the message is.
 */
static bool
check_relation(Oid relid, int elevel)
{
	char		kind = get_rel_relkind(relid);

	if (kind == '\0')
		ereport(elevel,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	else if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE &&
			 kind != RELKIND_VIEW && kind != RELKIND_MATVIEW && kind != RELKIND_FOREIGN_TABLE)
		ereport(elevel,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot create rule for \"%s\"", get_rel_name(relid)),
				 errdetail("Rules are for tables, views, materialized views and foreign tables.")));
	else if (relid < FirstNormalObjectId)
		ereport(elevel,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot create rule for system catalog \"%s\"", get_rel_name(relid))));
	/* a rule that cannot be met would keep people from dropping it */
	else if (tcs_is_own(RelationRelationId, relid))
		ereport(elevel,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot create rule for \"%s\" of extension tcs", get_rel_name(relid))));
	/* it goes with its session, and nobody is told */
	else if (get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		ereport(elevel,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot create rule for temporary table \"%s\"", get_rel_name(relid))));
	else
		return true;
	return false;
}

/* The same of a schema and of a function. */
static bool
check_schema(Oid schema, int elevel)
{
	if ((schema < FirstNormalObjectId && schema != PG_PUBLIC_NAMESPACE) ||
		isAnyTempNamespace(schema))
		ereport(elevel,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot create rule for schema \"%s\"", get_namespace_name(schema)),
				 errdetail("System catalogs and temporary tables have no rules.")));
	else if (tcs_is_own_schema(schema))
		ereport(elevel,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot create rule for schema \"%s\" of extension tcs",
						get_namespace_name(schema))));
	else
		return true;
	return false;
}

/* Does it go with its session: itself, or the type of an argument? */
static bool
is_temporary_function(Oid function)
{
	Oid		   *types;
	int			n;
	bool		temporary = isAnyTempNamespace(get_func_namespace(function));

	(void) get_func_signature(function, &types, &n);
	for (int i = 0; i < n && !temporary; i++)
	{
		HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(types[i]));

		if (!HeapTupleIsValid(tuple))
			continue;
		temporary = isAnyTempNamespace(((Form_pg_type) GETSTRUCT(tuple))->typnamespace);
		ReleaseSysCache(tuple);
	}
	return temporary;
}

static bool
check_function(Oid function, int elevel)
{
	if (!SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(function)))
		ereport(elevel,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	else if (function < FirstNormalObjectId)
		ereport(elevel,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot create rule for function %s of the system",
						tcs_identity_of_function(function))));
	else if (tcs_is_own_function(function))
		ereport(elevel,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot create rule for function %s of extension tcs",
						tcs_identity_of_function(function))));
	else if (is_temporary_function(function))
		ereport(elevel,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot create rule for temporary function %s",
						tcs_identity_of_function(function))));
	else
		return true;
	return false;
}

/* Can rules speak of an object, which is there? */
bool
tcs_rule_check_object(Oid class, Oid object, int elevel)
{
	switch (class)
	{
		case RelationRelationId:
			return check_relation(object, elevel);
		case ProcedureRelationId:
			return check_function(object, elevel);
		case NamespaceRelationId:
			return check_schema(object, elevel);
		default:
			return true;
	}
}
