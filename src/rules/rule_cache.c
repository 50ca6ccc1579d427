/*-------------------------------------------------------------------------
 *
 * rule_cache.c
 *	  Rules by data: the copy that each process keeps.
 *
 * NOTES
 *	  Rules are rows of tcs.rule, and groups of tcs.rule_group, so they are
 *	  replicated and kept by pg_dump.  Each process keeps a copy.  A trigger on
 *	  the tables sends a relcache invalidation for tcs.rule with the commit,
 *	  which replay repeats on standbys: there the copy is read again, and all
 *	  cached plans are made again, since each carries the number of a set of
 *	  rules (see choice/choice.c).  A statement that goes on with a plan looks at no
 *	  catalog for its rules.
 *
 *	  Role and application of the session are matched with all rules once, and
 *	  again when one of them, or a membership, has changed.
 *
 *	  Which relations a rule speaks of is found out in rules/rule_known.c, what
 *	  the rules of a statement come to in rules/rule_verdict.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/identity.h"
#include "base/own_objects.h"
#include "base/settings.h"
#include "rules/rule_copy.h"
#include "rules/rule_table.h"

TcsRulesCopy tcs_rules = {.epoch = 1};

static MemoryContext rules_context = NULL;
static Oid	rule_relid = InvalidOid;
static Oid	group_relid = InvalidOid;
static Oid	own_schema = InvalidOid;

bool		tcs_rules_plan_ahead = false;
bool		tcs_rules_idle = false;
uint64		tcs_rules_changes = 0;

/* Whom rules were matched with. */
static bool session_valid = false;
static uint64 role_changes = 0;
static Oid	session_role = InvalidOid;
static Oid	session_user_role = InvalidOid;
static char session_application[NAMEDATALEN];


/* ---- invalidation ---- */

/*
 * Some relation has changed.  If it is tcs.rule, plans carry sets of rules that
 * are not in force any more.
 */
static void
relation_changed(Datum arg, Oid relid)
{
	tcs_rules_relation_changed(relid);
	if (relid == InvalidOid || (OidIsValid(rule_relid) && relid == rule_relid))
	{
		tcs_rules.valid = tcs_rules_idle = false;
		tcs_rules.epoch++;
		tcs_settings_generation++;
		tcs_rules_changes++;
		ResetPlanCache();
	}
}

/* A schema was made or dropped: the extension may be one that now is there. */
static void
schema_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	if (!OidIsValid(rule_relid))
		tcs_rules.valid = tcs_rules_idle = false;
}

/*
 * Foreign-data wrappers are hardly ever made, and one of them with this extension:
 * it may be there now, also in a schema that was there before, and plans made so
 * far know no rules.
 */
static void
wrappers_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	if (OidIsValid(rule_relid))
		return;
	tcs_rules.valid = tcs_rules_idle = false;
	tcs_settings_generation++;
	ResetPlanCache();
}

/*
 * A role or a membership has changed.  The owner of a database is a member of
 * pg_database_owner there.
 */
static void
role_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	session_valid = false;
	role_changes++;
}

void
tcs_rules_init(void)
{
	static bool registered = false;

	if (registered)
		return;
	registered = true;
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, schema_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(FOREIGNDATAWRAPPEROID, wrappers_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, role_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, role_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(DATABASEOID, role_changed, (Datum) 0);
}


/* ---- the copy ---- */

static int32
column_number(Relation rel, HeapTuple tuple, int attnum, int32 if_null)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, attnum, RelationGetDescr(rel), &isnull);

	return isnull ? if_null : DatumGetInt32(value);
}

/*
 * The function and the schema of a rule; false if they are gone.
 *
 * The numbers count if they are of this database.  The names can be late: anyone who
 * renames something does not see a rule that is not committed yet.
 */
static bool
read_objects(Relation rel, HeapTuple tuple, TcsRule *rule)
{
	char	   *text = tcs_rule_text(rel, tuple, Anum_rule_function);

	rule->function = text ? tcs_rule_known_object(rel, tuple, Anum_rule_function) : InvalidOid;
	if (text && !OidIsValid(rule->function) &&
		!OidIsValid(rule->function = tcs_identity_find_function(text)))
		return false;

	text = tcs_rule_text(rel, tuple, Anum_rule_schema);
	rule->schema = text ? tcs_rule_known_object(rel, tuple, Anum_rule_schema) : InvalidOid;
	if (text && !OidIsValid(rule->schema) &&
		!OidIsValid(rule->schema = get_namespace_oid(text, true)))
		return false;
	return true;
}

/*
 * Take a rule from its row.  False if it can apply to nothing here: its object is
 * gone, or it is of a later version.
 */
static bool
read_rule(Relation rel, HeapTuple tuple, TcsRule *rule)
{
	char	   *text;
	bool		isnull;

	memset(rule, 0, sizeof(*rule));
	rule->id = column_number(rel, tuple, Anum_rule_id, 0);
	rule->relation = tcs_rule_oid(rel, tuple, Anum_rule_relation);
	rule->role = tcs_rule_oid(rel, tuple, Anum_rule_role);
	if (!read_objects(rel, tuple, rule))
		return false;
	rule->application_name = tcs_rule_text(rel, tuple, Anum_rule_application_name);
	rule->reason = tcs_rule_text(rel, tuple, Anum_rule_reason);
	text = tcs_rule_text(rel, tuple, Anum_rule_operation);
	rule->writes = text && strcmp(text, "write") == 0;

	text = tcs_rule_text(rel, tuple, Anum_rule_level);
	rule->has_level = text != NULL;
	if (text && !(rule->writes ? tcs_write_level_by_name(text, &rule->write_level) :
				  tcs_level_by_name(text, &rule->level)))
		return false;
	text = tcs_rule_text(rel, tuple, Anum_rule_floor);
	rule->has_floor = text != NULL;
	if (text && !tcs_level_by_name(text, &rule->floor))
		return false;
	rule->hard = DatumGetBool(heap_getattr(tuple, Anum_rule_hard, RelationGetDescr(rel), &isnull)) && !isnull;
	rule->max_staleness = column_number(rel, tuple, Anum_rule_max_staleness, -1);
	rule->max_wait = column_number(rel, tuple, Anum_rule_max_wait, TCS_RULE_NO_WAIT);
	text = tcs_rule_text(rel, tuple, Anum_rule_fallback);
	if (text)
	{
		const char *bad_step;
		int			bad_len;

		if (!tcs_fallback_parse(text, &rule->fallback, &bad_step, &bad_len))
			return false;
		rule->has_fallback = true;
	}
	return true;
}

/* Note what kinds of rules there are, so that others need not be looked for. */
static void
note_kind(const TcsRule *rule)
{
	if (rule->application_name)
		tcs_rules.have_application = true;
	if (OidIsValid(rule->function))
		tcs_rules.have_any_function = true;
	if (rule->writes)
	{
		tcs_rules.have_write = true;
		if (tcs_rule_is_by_session(rule))
			tcs_rules.have_session_write = true;
	}
	else
	{
		tcs_rules.have_read = true;
		if (OidIsValid(rule->function))
			tcs_rules.have_function = true;
		else if (tcs_rule_is_by_session(rule))
			tcs_rules.have_session = true;
	}
}

/* Read tcs.rule into rules_context. */
static void
load_rules(Relation rel)
{
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	int			allocated = 16;
	HeapTuple	tuple;

	tcs_rules.rule = palloc(allocated * sizeof(TcsRule));
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (tcs_rules.n == allocated)
			tcs_rules.rule = repalloc(tcs_rules.rule, (allocated *= 2) * sizeof(TcsRule));
		if (tcs_rule_is_unresolved(rel, tuple))
			continue;
		if (read_rule(rel, tuple, &tcs_rules.rule[tcs_rules.n]))
			note_kind(&tcs_rules.rule[tcs_rules.n++]);
		else
			ereport(DEBUG1,
					(errmsg_internal("tcs: rule %d applies to nothing here",
									 tcs_rules.rule[tcs_rules.n].id)));
	}
	systable_endscan(scan);
}

/* Read tcs.rule_group; its columns are relation and name. */
static void
load_groups(Relation rel)
{
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(TcsRuleMember),.hcxt = CurrentMemoryContext};
	List	   *names = NIL;
	HeapTuple	tuple;

	tcs_rules.members = hash_create("tcs group members", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Oid			relid = tcs_rule_oid(rel, tuple, Anum_group_relation);
		char	   *name = tcs_rule_text(rel, tuple, Anum_group_name);
		int			number = 0;
		TcsRuleMember *member;
		ListCell   *lc;

		if (tcs_rule_is_unresolved(rel, tuple))
			continue;
		foreach(lc, names)
		{
			if (strcmp(lfirst(lc), name) == 0)
				number = foreach_current_index(lc) + 1;
		}
		if (number == 0)
		{
			names = lappend(names, name);
			number = list_length(names);
		}
		member = hash_search(tcs_rules.members, &relid, HASH_ENTER, NULL);
		member->group = number;
	}
	systable_endscan(scan);
	tcs_rules.ngroups = list_length(names);
	tcs_rules.group_written = palloc0((tcs_rules.ngroups + 1) * sizeof(LocalTransactionId));
}

/*
 * Where the extension is, its tables must be.  Their owner can rename or move one, or
 * take it out of the extension.  That is not the same as having no rules.  Only
 * while CREATE EXTENSION is at work it may have none yet.
 */
static void
require_tables(void)
{
	if (!OidIsValid(own_schema) || (OidIsValid(rule_relid) && OidIsValid(group_relid)) ||
		(creating_extension && CurrentExtensionObject == get_extension_oid("tcs", true)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("extension tcs has lost its table \"%s\"",
					OidIsValid(rule_relid) ? "rule_group" : "rule"),
			 errdetail("The table was renamed, moved or taken out of the extension, so no rule is known."),
			 errhint("Undo the change, or use DROP EXTENSION tcs and CREATE EXTENSION tcs.")));
}

/*
 * Read the tables again.
 *
 * They are read by a catalog snapshot of their own, so that the transaction's is
 * not touched, and one that was taken before the change is not used.  If a
 * change comes while they are read, they are read again next time.
 */
void
tcs_rules_load(void)
{
	MemoryContext oldcontext;
	Relation	rel;
	Relation	groups;

	tcs_rules_init();
	tcs_rules_forget_known();
	if (rules_context == NULL)
		rules_context = AllocSetContextCreate(TopMemoryContext, "tcs rules",
											  ALLOCSET_DEFAULT_SIZES);
	tcs_rules.n = tcs_rules.ngroups = 0;
	tcs_rules.members = NULL;
	tcs_rules.have_session = tcs_rules.have_function = tcs_rules.have_read = tcs_rules.have_write =
		tcs_rules.have_session_write = tcs_rules.have_application =
		tcs_rules.have_any_function = false;
	session_valid = false;
	MemoryContextReset(rules_context);
	tcs_rules.epoch++;

	/* a change that comes while they are looked for and read makes it false */
	tcs_rules.valid = true;
	oldcontext = MemoryContextSwitchTo(rules_context);
	PG_TRY();
	{
		rule_relid = tcs_rule_table_oid(TCS_TABLE_RULE);
		group_relid = tcs_rule_table_oid(TCS_TABLE_GROUP);
		own_schema = tcs_own_schema();
		require_tables();
		rel = tcs_rule_table_open(TCS_TABLE_RULE, AccessShareLock);
		groups = tcs_rule_table_open(TCS_TABLE_GROUP, AccessShareLock);
		if (rel != NULL && groups != NULL)
		{
			load_rules(rel);
			load_groups(groups);
		}
		if (rel != NULL)
			relation_close(rel, AccessShareLock);
		if (groups != NULL)
			relation_close(groups, AccessShareLock);
	}
	PG_CATCH();
	{
		tcs_rules.valid = false;
		tcs_rules.n = tcs_rules.ngroups = 0;
		tcs_rules.members = NULL;
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(oldcontext);
}

bool
tcs_rules_exist(void)
{
	if (unlikely(!tcs_rules.valid))
	{
		tcs_rules_load();
		/* if no change has come meanwhile */
		tcs_rules_idle = tcs_rules.valid && tcs_rules.n == 0 && tcs_rules.ngroups == 0;
	}
	return tcs_rules.n > 0 || tcs_rules.ngroups > 0;
}

/*
 * Is it a table of rules itself?  No rule speaks of these, and none may keep people
 * from changing them.  Only for when there are rules.
 */
bool
tcs_rules_own_table(Oid relid)
{
	return relid == rule_relid || relid == group_relid;
}

/* The same of a view of the extension. */
bool
tcs_rules_own_view(Oid relid)
{
	return OidIsValid(own_schema) && get_rel_namespace(relid) == own_schema &&
		tcs_is_own(RelationRelationId, relid);
}

bool
tcs_rules_by_session_exist(void)
{
	return tcs_rules_exist() && tcs_rules.have_session;
}

/* Is a user a member of the role of a rule, if it has one? */
static bool
is_for_user(const TcsRule *rule, Oid user)
{
	return !OidIsValid(rule->role) ||
		(SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(rule->role)) &&
		 is_member_of_role_nosuper(user, rule->role));
}

static bool
is_for_application(const TcsRule *rule)
{
	return rule->application_name == NULL ||
		DatumGetBool(DirectFunctionCall2Coll(textlike, DEFAULT_COLLATION_OID,
											 CStringGetTextDatum(session_application),
											 CStringGetTextDatum(rule->application_name)));
}

/*
 * Which rules are in force for the role and application of this session?
 *
 * The floor of a role is also that of who connected as it and has become another.
 */
void
tcs_rules_match_session(void)
{
	const char *application = application_name ? application_name : "";
	uint64		matched_at;

	if (likely(session_valid && session_role == GetUserId() &&
			   session_user_role == GetSessionUserId() &&
			   (!tcs_rules.have_application ||
				strncmp(session_application, application, NAMEDATALEN - 1) == 0)))
		return;
	/* if something fails, or a role changes meanwhile, all are matched again */
	session_valid = false;
	matched_at = role_changes;
	session_role = GetUserId();
	session_user_role = GetSessionUserId();
	strlcpy(session_application, application, NAMEDATALEN);
	tcs_rules.epoch++;
	for (int i = 0; i < tcs_rules.n; i++)
	{
		TcsRule    *rule = &tcs_rules.rule[i];
		bool		of_application = is_for_application(rule);

		rule->in_force = of_application && is_for_user(rule, session_role);
		rule->by_membership = OidIsValid(rule->role) && rule->role != session_role;
		rule->floor_in_force = rule->in_force ||
			(of_application && is_for_user(rule, session_user_role));
	}
	session_valid = matched_at == role_changes;
}
