/*-------------------------------------------------------------------------
 *
 * rule_resolve.c
 *	  Rules whose objects are not there yet: how names become objects.
 *
 * NOTES
 *	  pg_dump writes the rows of tcs.rule with the names of their objects in the
 *	  columns missing_*, and with nothing in the columns of the objects.  (The
 *	  condition in the SQL script does that.)  The trigger on the table looks the
 *	  names up when the dump is restored.  All rows are restored by one COPY, before
 *	  what pg_dump puts behind the data: functions and materialized views that need
 *	  a primary key.  So a name that means nothing is not an error, which would take
 *	  the rules of all others along.  The row is kept and waits for its object.
 *
 *	  Until then the row is unresolved, and no rule.  Its column "unresolved" has its
 *	  id, so that it can stand beside a rule with the same criteria.
 *
 *	  What is in force when a dump is made is in force where it is restored, and
 *	  nothing else is.  A row that was unresolved then is held: another row may have
 *	  taken its name since, or a stranger made an object of that name.  It is put in
 *	  force only by tcs.resolve_rules().
 *
 *	  A name proves nothing.  Anyone who may create something in a schema could wait for
 *	  a row there and have it bound to an object of his; and by the name of a schema
 *	  he can rename what is in it.  So an object gets its rules by itself only from
 *	  the transaction that makes or changes it, if its owner and the present user
 *	  could have made them: they may write the table.  That is so while a dump is
 *	  restored.  All others get theirs by tcs.resolve_rules(), whose caller may write
 *	  the table, too.
 *
 *	  COPY and the creation of an object can run at the same time (pg_restore -j).
 *	  Neither sees the other before it is committed.  So anyone who creates something
 *	  takes a lock, and anyone who keeps an unresolved row takes one that conflicts and
 *	  looks again.  Only those take it whose objects can get rules by themselves: who
 *	  may write the tables, and creates no temporary relation.  Otherwise everybody
 *	  could hold up a restore, and a restore everybody.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "base/identity.h"
#include "rules/rule_cache.h"
#include "rules/rule_table.h"

/* Kinds of objects that a row names. */
typedef struct Kind
{
	const char *what;
	Oid			class;
	int			missing;		/* column of the name */
	int			here;			/* column of the object */
} Kind;

static const Kind rule_kinds[] = {
	{"relation", RelationRelationId, Anum_rule_missing_relation, Anum_rule_relation},
	{"function", ProcedureRelationId, Anum_rule_missing_function, Anum_rule_function},
	{"schema", NamespaceRelationId, Anum_rule_missing_schema, Anum_rule_schema},
	{"role", AuthIdRelationId, Anum_rule_missing_role, Anum_rule_role},
};

static const Kind group_kinds[] = {
	{"relation", RelationRelationId, Anum_group_missing, Anum_group_relation},
};

/* Columns that tell rules apart. */
static const int criteria[] = {
	Anum_rule_relation, Anum_rule_function, Anum_rule_schema, Anum_rule_role,
	Anum_rule_application_name, Anum_rule_operation
};

/* Who asks for names to be looked up, and for which objects. */
typedef enum Occasion
{
	COMPARED,					/* nothing is said, and all objects count */
	RESTORED,					/* warns of what is missing */
	CREATED,					/* only objects whose owner may make rules */
	ENABLED,					/* restored, with triggers off: likewise */
	DEMANDED					/* tcs.resolve_rules(): says what it does, and
								 * what is held counts as well */
} Occasion;

typedef struct Search
{
	Occasion	occasion;
	bool		functions;		/* for CREATED: may there be a new function? */
	Oid			role;			/* for CREATED: the new role, or InvalidOid */
} Search;

/* What an owner needs to be given rules by himself; see sqlfuncs/rule_funcs.c. */
#define RULE_PRIVILEGES		(ACL_INSERT | ACL_UPDATE)
#define GROUP_PRIVILEGES	(ACL_INSERT | ACL_DELETE)


/* ---- rows ---- */

/* Of the two tables, which were checked when opened, this one begins with a relation. */
static bool
is_of_groups(Relation rel)
{
	return TupleDescAttr(RelationGetDescr(rel), 0)->atttypid == REGCLASSOID;
}

static const Kind *
kinds_of(Relation rel, int *n)
{
	bool		groups = is_of_groups(rel);

	*n = groups ? lengthof(group_kinds) : lengthof(rule_kinds);
	return groups ? group_kinds : rule_kinds;
}

static bool
is_null(Relation rel, HeapTuple tuple, int attnum)
{
	return heap_attisnull(tuple, attnum, RelationGetDescr(rel));
}

int32
tcs_rule_id(Relation rel, HeapTuple tuple)
{
	bool		isnull;
	Datum		id = heap_getattr(tuple, Anum_rule_id, RelationGetDescr(rel), &isnull);

	return isnull ? 0 : DatumGetInt32(id);
}

/*
 * Does a row wait for an object?  Such a row is no rule.
 *
 * The names are looked at as well, since a table can be filled without triggers.
 */
bool
tcs_rule_is_unresolved(Relation rel, HeapTuple tuple)
{
	int			n;
	const Kind *kinds = kinds_of(rel, &n);

	for (int i = 0; i < n; i++)
	{
		if (!is_null(rel, tuple, kinds[i].missing))
			return true;
	}
	return !is_of_groups(rel) && !is_null(rel, tuple, Anum_rule_unresolved);
}

/* Is a row held, unless somebody has said by hand what it is for? */
static bool
is_held(Relation rel, HeapTuple tuple)
{
	int			held = is_of_groups(rel) ? Anum_group_held : Anum_rule_held;
	int			n;
	const Kind *kinds = kinds_of(rel, &n);
	bool		isnull;

	if (!DatumGetBool(heap_getattr(tuple, held, RelationGetDescr(rel), &isnull)) || isnull)
		return false;
	for (int i = 0; i < n; i++)
	{
		if (!is_null(rel, tuple, kinds[i].missing) && is_null(rel, tuple, kinds[i].here))
			return true;
	}
	return false;
}

static HeapTuple
with_column(Relation rel, HeapTuple tuple, int attnum, Datum value, bool isnull)
{
	return heap_modify_tuple_by_cols(tuple, RelationGetDescr(rel), 1, &attnum, &value, &isnull);
}

/* A row with its object in the place of the name. */
static HeapTuple
with_object(Relation rel, HeapTuple tuple, const Kind *kind, Oid object)
{
	int			number = kind->class == ProcedureRelationId ? Anum_rule_function_oid :
		Anum_rule_schema_oid;
	NameData	schema;

	tuple = with_column(rel, tuple, kind->missing, (Datum) 0, true);
	if (kind->class == RelationRelationId || kind->class == AuthIdRelationId)
		return with_column(rel, tuple, kind->here, ObjectIdGetDatum(object), false);
	if (kind->class == ProcedureRelationId)
		tuple = with_column(rel, tuple, kind->here,
							CStringGetTextDatum(tcs_identity_of_function(object)), false);
	else
	{
		namestrcpy(&schema, get_namespace_name(object));
		tuple = with_column(rel, tuple, kind->here, NameGetDatum(&schema), false);
	}
	tuple = with_column(rel, tuple, number, ObjectIdGetDatum(object), false);
	return with_column(rel, tuple, Anum_rule_oids_of,
					   CStringGetTextDatum(tcs_rule_origin_of_oids()), false);
}

static bool
same_value(Relation rel, HeapTuple a, HeapTuple b, int attnum)
{
	char	   *text_a;
	char	   *text_b;

	if (attnum == Anum_rule_relation || attnum == Anum_rule_role)
		return tcs_rule_oid(rel, a, attnum) == tcs_rule_oid(rel, b, attnum);
	if (attnum == Anum_rule_function || attnum == Anum_rule_schema)
		return tcs_rule_same_object(rel, a, b, attnum);
	text_a = tcs_rule_text(rel, a, attnum);
	text_b = tcs_rule_text(rel, b, attnum);
	if (text_a == NULL || text_b == NULL)
		return text_a == NULL && text_b == NULL;
	return strcmp(text_a, text_b) == 0;
}

/* Have two rows, none of which is unresolved, the same criteria? */
bool
tcs_rule_same_criteria(Relation rel, HeapTuple a, HeapTuple b)
{
	for (int i = 0; i < lengthof(criteria); i++)
	{
		if (!same_value(rel, a, b, criteria[i]))
			return false;
	}
	return true;
}


/* ---- names ---- */

/*
 * The relation of a name with schema.  No privilege is asked for, and nothing is an
 * error: somebody may be about to do something else.
 */
static Oid
relation_of_name(const char *name)
{
	List	   *parts;
	Oid			schema;

	if (!SplitIdentifierString(pstrdup(name), '.', &parts) || list_length(parts) != 2)
		return InvalidOid;
	schema = get_namespace_oid(linitial(parts), true);
	return OidIsValid(schema) ? get_relname_relid(lsecond(parts), schema) : InvalidOid;
}

static Oid
object_of_name(Oid class, const char *name, const Search *search)
{
	switch (class)
	{
		case RelationRelationId:
			return relation_of_name(name);
		case ProcedureRelationId:
			/* a long search */
			return search->occasion == CREATED && !search->functions ? InvalidOid :
				tcs_identity_find_function(name);
		case NamespaceRelationId:
			return get_namespace_oid(name, true);
		default:
			return get_role_oid(name, true);
	}
}

/* The owner of an object; *is_new: has the present transaction made or changed it? */
static Oid
owner_of(Oid class, Oid object, bool *is_new)
{
	int			cache = get_object_catcache_oid(class);
	HeapTuple	tuple = SearchSysCache1(cache, ObjectIdGetDatum(object));
	Datum		owner;
	bool		isnull;

	*is_new = false;
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = SysCacheGetAttr(cache, tuple, get_object_attnum_owner(class), &isnull);
	*is_new = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
	ReleaseSysCache(tuple);
	return isnull ? InvalidOid : DatumGetObjectId(owner);
}

static bool
has_privileges(Oid table, Oid role, AclMode privileges)
{
	return OidIsValid(table) && OidIsValid(role) &&
		pg_class_aclmask(table, role, privileges, ACLMASK_ALL) == privileges;
}

static bool
may_write(Relation rel, Oid role)
{
	return has_privileges(RelationGetRelid(rel), role,
						  is_of_groups(rel) ? GROUP_PRIVILEGES : RULE_PRIVILEGES);
}

/* May the present user write one of the tables? */
static bool
may_write_any(void)
{
	return has_privileges(tcs_rule_table_oid(TCS_TABLE_RULE), GetUserId(), RULE_PRIVILEGES) ||
		has_privileges(tcs_rule_table_oid(TCS_TABLE_GROUP), GetUserId(), GROUP_PRIVILEGES);
}

/* What a message calls a row. */
static char *
row_in_words(Relation rel, HeapTuple tuple)
{
	if (is_of_groups(rel))
		return psprintf("membership in group \"%s\"", tcs_rule_text(rel, tuple, Anum_group_name));
	return psprintf("rule %d", tcs_rule_id(rel, tuple));
}

/* Tell the owner of an object why he is not given what is meant for its name. */
static void
warn_owner(Relation rel, HeapTuple tuple, const Kind *kind, const char *name)
{
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("%s is not in force for %s \"%s\"",
					row_in_words(rel, tuple), kind->what, name),
			 errdetail("It was made when there was no such %s, and role \"%s\" may not make rules.",
					   kind->what, GetUserNameFromId(GetUserId(), true)),
			 errhint("Anyone who may write the tables of rules can call tcs.resolve_rules().")));
}

/*
 * May an object that has a name of a row be given to that row?  A role has no owner:
 * it is given only if the role that creates it may write the table.
 */
static bool
is_fit(Relation rel, HeapTuple tuple, const Kind *kind, const char *name, Oid object,
	   const Search *search)
{
	Oid			owner;
	bool		is_new;

	if (search->occasion == COMPARED)
		return true;
	if (search->occasion == CREATED)
	{
		if (kind->class == AuthIdRelationId)
			return object == search->role && may_write(rel, GetUserId());
		owner = owner_of(kind->class, object, &is_new);
		if (!is_new)
			return false;
		if (!may_write(rel, owner) || !may_write(rel, GetUserId()))
		{
			if (owner == GetUserId())
				warn_owner(rel, tuple, kind, name);
			return false;
		}
	}
	return tcs_rule_check_object(kind->class, object, WARNING);
}

/* Say that an object is missing, to who can do something about it. */
static void
warn_of_missing(Relation rel, HeapTuple tuple, const Kind *kind, const char *name,
				const Search *search)
{
	if (search->occasion != RESTORED && search->occasion != ENABLED && search->occasion != DEMANDED)
		return;
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("%s is not in force: there is no %s \"%s\" that it could be for",
					row_in_words(rel, tuple), kind->what, name),
			 errdetail("It is kept, and shown as unresolved."),
			 errhint("When the %s is there, see tcs.rules and tcs.groups, and call tcs.resolve_rules() if it is still unresolved.",
					 kind->what)));
}

/* A row with the objects that were found; *missing says whether any was not. */
static HeapTuple
find_objects(Relation rel, HeapTuple tuple, const Search *search, bool *missing)
{
	int			n;
	const Kind *kinds = kinds_of(rel, &n);
	HeapTuple	found = tuple;

	*missing = false;
	for (int i = 0; i < n; i++)
	{
		const Kind *kind = &kinds[i];
		char	   *name = tcs_rule_text(rel, tuple, kind->missing);
		Oid			object;

		if (name == NULL)
			continue;
		if (!is_null(rel, tuple, kind->here))
		{
			/* somebody has said by hand what it is */
			found = with_column(rel, found, kind->missing, (Datum) 0, true);
			continue;
		}
		object = object_of_name(kind->class, name, search);
		if (OidIsValid(object) && is_fit(rel, tuple, kind, name, object, search))
			found = with_object(rel, found, kind, object);
		else
		{
			warn_of_missing(rel, tuple, kind, name, search);
			*missing = true;
		}
	}
	return found;
}

/*
 * An unresolved row as it would be, to be compared; NULL if something is missing and
 * "partly" does not allow that.
 */
HeapTuple
tcs_rule_as_resolved(Relation rel, HeapTuple tuple, bool partly)
{
	Search		search = {.occasion = COMPARED};
	bool		missing;
	HeapTuple	found = find_objects(rel, tuple, &search, &missing);

	return missing && !partly ? NULL : found;
}

/* Is there another row in the place that a row would have? */
static bool
place_is_taken(Relation rel, HeapTuple tuple)
{
	/* the rows that one command brings must see each other */
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, SnapshotSelf, 0, NULL);
	HeapTuple	other;
	bool		taken = false;

	while (!taken && HeapTupleIsValid(other = systable_getnext(scan)))
	{
		if (tcs_rule_is_unresolved(rel, other))
			continue;
		taken = is_of_groups(rel) ?
			tcs_rule_oid(rel, other, Anum_group_relation) == tcs_rule_oid(rel, tuple, Anum_group_relation) :
			tcs_rule_same_criteria(rel, other, tuple);
	}
	systable_endscan(scan);
	return taken;
}

/* A row of rules says whether it is resolved, by its id or nothing; then none is held. */
static HeapTuple
marked_tuple(Relation rel, HeapTuple tuple, bool unresolved)
{
	int			held = is_of_groups(rel) ? Anum_group_held : Anum_rule_held;

	if (!unresolved && !is_null(rel, tuple, held))
		tuple = with_column(rel, tuple, held, (Datum) 0, true);
	if (is_of_groups(rel) || (!unresolved && is_null(rel, tuple, Anum_rule_unresolved)))
		return tuple;
	return with_column(rel, tuple, Anum_rule_unresolved,
					   Int32GetDatum(tcs_rule_id(rel, tuple)), !unresolved);
}

/* Say that a row is held, to who can do something about it. */
static void
warn_of_held(Relation rel, HeapTuple tuple, const Search *search)
{
	if (search->occasion != RESTORED && search->occasion != ENABLED)
		return;
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("%s is not in force: it was not when it was dumped", row_in_words(rel, tuple)),
			 errdetail("It is kept, and shown as unresolved."),
			 errhint("Drop it, or call tcs.resolve_rules() to put it in force.")));
}

/* A row with what was found, or as it is if that cannot be. */
static HeapTuple
resolve_row(Relation rel, HeapTuple tuple, const Search *search)
{
	bool		missing;
	HeapTuple	found;

	if (!tcs_rule_is_unresolved(rel, tuple))
		return tuple;
	if (search->occasion != COMPARED && search->occasion != DEMANDED && is_held(rel, tuple))
	{
		warn_of_held(rel, tuple, search);
		return marked_tuple(rel, tuple, true);
	}
	found = find_objects(rel, tuple, search, &missing);
	if (!missing && place_is_taken(rel, found))
	{
		if (search->occasion != COMPARED)
			ereport(WARNING,
					(errcode(ERRCODE_WARNING),
					 errmsg("%s is not in force: another row is for the same", row_in_words(rel, tuple)),
					 errdetail("It is kept, and shown as unresolved."),
					 errhint("Drop one of them.")));
		return marked_tuple(rel, tuple, true);
	}
	if (!missing && search->occasion == DEMANDED)
		ereport(NOTICE, (errmsg("%s is in force", row_in_words(rel, tuple))));
	return marked_tuple(rel, found, missing);
}


/* ---- a row that is new ---- */

/*
 * Keeps unresolved rows and new objects apart: ShareLock for the former,
 * RowExclusiveLock for the latter.  No relation is locked by that.
 */
static void
lock_creation(LOCKMODE mode)
{
	LockDatabaseObject(RelationRelationId, tcs_rule_table_oid(TCS_TABLE_RULE),
					   TCS_LOCK_CREATION, mode);
}

/* Trigger on a table: a row that may come from a dump. */
HeapTuple
tcs_rule_resolve_new(Relation rel, HeapTuple tuple)
{
	Search		search = {.occasion = COMPARED};

	if (!tcs_rule_is_unresolved(rel, tuple))
		return tuple;
	if (!is_held(rel, tuple) && tcs_rule_is_unresolved(rel, resolve_row(rel, tuple, &search)))
		lock_creation(ShareLock);
	search.occasion = RESTORED;
	return resolve_row(rel, tuple, &search);
}


/* ---- rows that are there ---- */

/*
 * Was an object found for a row, or is it to be marked?  Anyone who only creates
 * something changes, and thereby locks, no row but those that it was found for.
 */
static bool
is_changed(Relation rel, HeapTuple old, HeapTuple tuple, const Search *search)
{
	int			n;
	const Kind *kinds = kinds_of(rel, &n);

	for (int i = 0; i < n; i++)
	{
		if (is_null(rel, old, kinds[i].missing) != is_null(rel, tuple, kinds[i].missing))
			return true;
	}
	return search->occasion != CREATED && !is_of_groups(rel) &&
		is_null(rel, old, Anum_rule_unresolved) != is_null(rel, tuple, Anum_rule_unresolved);
}

/* Resolve what can be resolved in a table; returns how many rows are rules now. */
static int
resolve_table(TcsRuleTable table, const Search *search)
{
	Relation	rel = tcs_rule_table_try_open(table, AccessShareLock);
	int			n = 0;
	bool		again = rel != NULL;

	while (again)
	{
		ListCell   *lc;

		again = false;
		foreach(lc, tcs_rule_table_rows(rel))
		{
			HeapTuple	old = lfirst(lc);
			HeapTuple	tuple = resolve_row(rel, old, search);

			if (!is_changed(rel, old, tuple, search))
				continue;
			LockRelationOid(RelationGetRelid(rel), RowExclusiveLock);
			if (!tcs_rule_table_try_update(rel, old, tuple))
				again = true;	/* there is a newer row, or none */
			else if (!tcs_rule_is_unresolved(rel, tuple))
				n++;
		}
	}
	if (rel != NULL)
		relation_close(rel, AccessShareLock);
	return n;
}

/* Is there anything to be resolved? */
static bool
has_unresolved(TcsRuleTable table)
{
	Relation	rel = tcs_rule_table_try_open(table, AccessShareLock);
	bool		found = false;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (rel == NULL)
		return false;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
		found = tcs_rule_is_unresolved(rel, tuple);
	systable_endscan(scan);
	relation_close(rel, AccessShareLock);
	return found;
}

static int
resolve_tables(const Search *search)
{
	return resolve_table(TCS_TABLE_RULE, search) + resolve_table(TCS_TABLE_GROUP, search);
}

/* tcs.resolve_rules(), by somebody who may write the tables. */
int
tcs_rules_resolve_all(void)
{
	Search		search = {.occasion = DEMANDED};

	return resolve_tables(&search);
}

/* Does a statement create a temporary relation, for which there are no rules? */
bool
tcs_rules_creates_temporary(const Node *statement)
{
	const RangeVar *relation = NULL;

	if (IsA(statement, CreateStmt))
		relation = ((const CreateStmt *) statement)->relation;
	else if (IsA(statement, CreateTableAsStmt))
		relation = ((const CreateTableAsStmt *) statement)->into->rel;
	else if (IsA(statement, ViewStmt))
		relation = ((const ViewStmt *) statement)->view;
	return relation != NULL &&
		(relation->relpersistence == RELPERSISTENCE_TEMP ||
		 (relation->schemaname && strcmp(relation->schemaname, "pg_temp") == 0));
}

/*
 * A statement has created something, or given it another name, schema or owner.
 * Anyone who ran it need not see the rules.
 */
void
tcs_rules_after_creation(bool functions)
{
	Search		search = {.occasion = CREATED,.functions = functions};

	if (!OidIsValid(tcs_rule_table_oid(TCS_TABLE_RULE)))
		return;
	if (may_write_any())
		lock_creation(RowExclusiveLock);
	if (!has_unresolved(TCS_TABLE_RULE) && !has_unresolved(TCS_TABLE_GROUP))
		return;
	CommandCounterIncrement();
	/* are there rows that wait for it? */
	(void) resolve_tables(&search);
}

/* A table of rules was altered by its owner, who may write it: see tcs_rules_alters_table(). */
void
tcs_rules_after_altered_table(void)
{
	Search		search = {.occasion = ENABLED};

	CommandCounterIncrement();
	(void) resolve_tables(&search);
}

/*
 * A role has been created; it is not visible yet.  Roles that are created in another
 * database wait for tcs.resolve_rules().
 */
void
tcs_rules_role_created(Oid role)
{
	Search		search = {.occasion = CREATED,.role = role};

	if (RecoveryInProgress() || !OidIsValid(tcs_rule_table_oid(TCS_TABLE_RULE)) ||
		!has_unresolved(TCS_TABLE_RULE))
		return;
	CommandCounterIncrement();
	(void) resolve_tables(&search);
}
