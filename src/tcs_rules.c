/*-------------------------------------------------------------------------
 *
 * tcs_rules.c
 *	  Rules by data: which level the relations of a statement ask for.
 *
 * NOTES
 *	  Rules are rows of tcs.rule, and groups of tcs.rule_group, so they are
 *	  replicated and kept by pg_dump.  Each process keeps a copy.  A trigger on
 *	  the tables sends a relcache invalidation for tcs.rule with the commit,
 *	  which replay repeats on standbys: there the copy is read again, and all
 *	  cached plans are made anew, since each carries the number of a set of
 *	  rules (see tcs_choice.c).  A statement that goes on with a plan looks at no
 *	  catalog for its rules.
 *
 *	  Of the rules that speak of one relation, the most specific one gives the
 *	  level: that of the relation or function itself, of an ancestor, of the
 *	  schema, of nothing but the session; among those of one kind the one that
 *	  names the role, then the one that names the application.  Of the relations
 *	  of a statement the strongest counts.  Floors are another thing: each that
 *	  applies, applies.
 *
 *	  A relation stands for all that is read through it: partitions and
 *	  children, the relations and functions of a view.  What is read only
 *	  through a view that has a rule needs none of its own.  Each relation that
 *	  was looked up is remembered until any relation changes; which is only
 *	  looked at when a statement is planned.
 *
 *	  Role and application of the session are matched with all rules once, and
 *	  again when one of them, or a membership, has changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "commands/extension.h"
#include "catalog/dependency.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rewriteSupport.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "tcs_compat.h"
#include "tcs_guc.h"
#include "tcs_rules.h"
#include "tcs_swap.h"
#include "tcs_write.h"

/* Columns of tcs.rule, in the order of the SQL script. */
enum
{
	Anum_rule_id = 1,
	Anum_rule_relation,
	Anum_rule_function,
	Anum_rule_schema,
	Anum_rule_role,
	Anum_rule_application_name,
	Anum_rule_operation,
	Anum_rule_level,
	Anum_rule_max_staleness,
	Anum_rule_max_wait,
	Anum_rule_fallback,
	Anum_rule_floor,
	Anum_rule_hard,
	Anum_rule_reason,
	Anum_rule_schema_oid,
	Anum_rule_function_oid
};

/* How specific a rule is: its object first, then role, then application. */
#define TCS_WEIGHT_SELF		32
#define TCS_WEIGHT_ANCESTOR	24
#define TCS_WEIGHT_SCHEMA	16
#define TCS_WEIGHT_ROLE		4
#define TCS_WEIGHT_APPLICATION 2

typedef struct Rule
{
	int			id;
	Oid			relation;
	Oid			function;
	Oid			schema;
	Oid			role;
	char	   *application_name;	/* LIKE pattern, or NULL */
	char	   *reason;			/* or NULL */
	bool		writes;
	bool		has_level;
	TcsLevel	level;			/* of reads */
	TcsWriteLevel write_level;	/* of writes */
	int			max_staleness;	/* ms, -1: not said */
	int			max_wait;		/* ms, TCS_RULE_NO_WAIT: not said */
	bool		has_fallback;
	TcsFallback fallback;
	bool		has_floor;
	bool		hard;
	TcsLevel	floor;
	bool		in_force;		/* of this session's role and application */
	bool		floor_in_force; /* also of who became that role */
} Rule;

/* A relation in a group. */
typedef struct Member
{
	Oid			relation;		/* key */
	int			group;			/* number, from 1 on */
} Member;

/* A rule that speaks of a relation, and how specifically. */
typedef struct Candidate
{
	int			rule;			/* index */
	int			weight;			/* of the object */
} Candidate;

/* What is known of a relation. */
typedef struct KnownRelation
{
	Oid			relid;			/* key */
	bool		complete;		/* is what follows known? */
	int			ncandidates;	/* rules of the relation itself */
	Candidate  *candidates;
	int			group;			/* 0: none */
	List	   *through;		/* OIDs of relations that are read with it */
	List	   *functions;		/* OIDs of functions with rules, likewise */
	bool		is_view;
	int			sole_set;		/* number of the set of it alone; 0: not known */
} KnownRelation;

/* Key of a set: what a statement has, in order. */
typedef struct RuleSet
{
	struct RuleSet *next;		/* of the same hash */
	uint32		hash;
	int			number;
	bool		unruled;
	int			nreads;
	int			nfunctions;
	int			nwrites;
	Oid		   *oids;			/* of reads, functions, writes */
	TcsRuleVerdict verdict;
	List	   *groups;			/* numbers of groups that are read */
} RuleSet;

typedef struct SetBucket
{
	uint32		hash;			/* key */
	RuleSet    *first;
} SetBucket;

/* The copy of the tables. */
static MemoryContext rules_context = NULL;
static Oid	rule_relid = InvalidOid;
static bool rules_valid = false;
static int	nrules = 0;
static bool have_rows = false;	/* also of rules that apply to nothing */
static Rule *rules = NULL;
static HTAB *members = NULL;	/* Oid -> Member */
static int	ngroups = 0;
static LocalTransactionId *group_written = NULL;	/* by number */
static bool have_session_rules = false;
static bool have_application_rules = false;
static bool have_function_rules = false;
static bool have_read_rules = false;
static bool have_write_rules = false;
static bool have_session_write_rules = false;

/* Relations looked up so far. */
static MemoryContext known_context = NULL;
static HTAB *known = NULL;
static bool known_is_stale = false;
static int	looking_up = 0;		/* depth of look_up() */

/*
 * Relations that others inherit from, of all that were looked up.  When one of
 * them changes, its place among its own parents may have, and with it the rules of
 * those others, whose plans core has no reason to make anew.  (Below a partitioned
 * table it has.)
 */
static HTAB *inherited_from = NULL;

/* Sets; these are never freed, since plans have their numbers. */
static HTAB *sets_by_hash = NULL;
static RuleSet **sets = NULL;
static int	nsets = 0;

/*
 * Counts changes of the rules, and of role or application of the session; a
 * verdict holds for one value.
 */
static uint64 epoch = 1;
bool		tcs_rules_plan_ahead = false;
bool		tcs_rules_idle = false;
static bool session_valid = false;
static Oid	session_role = InvalidOid;
static Oid	session_user_role = InvalidOid;
static char session_application[NAMEDATALEN];


/* ---- invalidation ---- */

/*
 * What is known of relations holds no more.  It is thrown away when nobody is
 * about to use it, since invalidations come in the midst of looking up.
 */
static void
forget_known(void)
{
	known_is_stale = true;
	epoch++;
}

/*
 * Some relation has changed.  If it is tcs.rule, plans carry sets of rules that
 * are not in force any more.
 */
static void
relation_changed(Datum arg, Oid relid)
{
	if (known != NULL && !known_is_stale)
		forget_known();
	if (inherited_from != NULL && OidIsValid(relid) &&
		hash_search(inherited_from, &relid, HASH_FIND, NULL) != NULL)
		ResetPlanCache();
	if (relid == InvalidOid || (OidIsValid(rule_relid) && relid == rule_relid))
	{
		rules_valid = tcs_rules_idle = false;
		epoch++;
		tcs_settings_generation++;
		ResetPlanCache();
	}
}

/* A schema was made or dropped: the extension may be one that now is there. */
static void
schema_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	if (!OidIsValid(rule_relid))
		rules_valid = tcs_rules_idle = false;
}

/*
 * Event triggers are hardly ever made, and some of them with this extension: it
 * may be there now, also in a schema that was there before, and plans made so far
 * know no rules.
 */
static void
event_triggers_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	if (OidIsValid(rule_relid))
		return;
	rules_valid = tcs_rules_idle = false;
	tcs_settings_generation++;
	ResetPlanCache();
}

/* A role or a membership has changed. */
static void
role_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	session_valid = false;
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
	CacheRegisterSyscacheCallback(EVENTTRIGGEROID, event_triggers_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, role_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, role_changed, (Datum) 0);
}


/* ---- the copy ---- */

/* Table of that name of this extension, or InvalidOid. */
static Oid
own_table(const char *name)
{
	Oid			schema = get_namespace_oid("tcs", true);
	Oid			relid;

	if (!OidIsValid(schema))
		return InvalidOid;
	relid = get_relname_relid(name, schema);
	if (!OidIsValid(relid) ||
		getExtensionOfObject(RelationRelationId, relid) != get_extension_oid("tcs", true))
		return InvalidOid;
	return relid;
}

/* A column as palloc'd text, or NULL. */
static char *
column_text(Relation rel, HeapTuple tuple, int attnum)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, attnum, RelationGetDescr(rel), &isnull);

	if (isnull)
		return NULL;
	if (TupleDescAttr(RelationGetDescr(rel), attnum - 1)->atttypid == NAMEOID)
		return pstrdup(NameStr(*DatumGetName(value)));
	return TextDatumGetCString(value);
}

static int32
column_number(Relation rel, HeapTuple tuple, int attnum, int32 if_null)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, attnum, RelationGetDescr(rel), &isnull);

	return isnull ? if_null : DatumGetInt32(value);
}

/* Is it a function of this signature, as the table has it? */
static bool
has_signature(Oid function, const char *signature)
{
	return OidIsValid(function) &&
		SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(function)) &&
		strcmp(format_procedure_qualified(function), signature) == 0;
}

/*
 * The function of a signature, or InvalidOid.
 *
 * "known" is its number, if the table's are of this database.  A signature is not
 * parsed: it may have a type that is gone, or a schema that the present user may
 * not use, and a rule must not make statements fail.
 */
static Oid
function_by_signature(const char *signature, Oid known)
{
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			found = InvalidOid;

	if (has_signature(known, signature))
		return known;
	rel = table_open(ProcedureRelationId, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (!OidIsValid(found) && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Oid			function = ((Form_pg_proc) GETSTRUCT(tuple))->oid;

		if (function >= FirstNormalObjectId && has_signature(function, signature))
			found = function;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * Take a rule from its row.  False if it can apply to nothing here: its object is
 * gone, or it is of a later version.
 */
static bool
read_rule(Relation rel, HeapTuple tuple, Rule *rule)
{
	char	   *text;
	bool		isnull;

	memset(rule, 0, sizeof(*rule));
	rule->id = column_number(rel, tuple, Anum_rule_id, 0);
	rule->relation = (Oid) column_number(rel, tuple, Anum_rule_relation, 0);
	rule->role = (Oid) column_number(rel, tuple, Anum_rule_role, 0);
	text = column_text(rel, tuple, Anum_rule_function);
	if (text && !OidIsValid(rule->function =
							function_by_signature(text, (Oid) column_number(rel, tuple, Anum_rule_function_oid, 0))))
		return false;
	text = column_text(rel, tuple, Anum_rule_schema);
	if (text && !OidIsValid(rule->schema = get_namespace_oid(text, true)))
		return false;
	rule->application_name = column_text(rel, tuple, Anum_rule_application_name);
	rule->reason = column_text(rel, tuple, Anum_rule_reason);
	text = column_text(rel, tuple, Anum_rule_operation);
	rule->writes = text && strcmp(text, "write") == 0;

	text = column_text(rel, tuple, Anum_rule_level);
	rule->has_level = text != NULL;
	if (text && !(rule->writes ? tcs_write_level_by_name(text, &rule->write_level) :
				  tcs_level_by_name(text, &rule->level)))
		return false;
	text = column_text(rel, tuple, Anum_rule_floor);
	rule->has_floor = text != NULL;
	if (text && !tcs_level_by_name(text, &rule->floor))
		return false;
	rule->hard = DatumGetBool(heap_getattr(tuple, Anum_rule_hard, RelationGetDescr(rel), &isnull)) && !isnull;
	rule->max_staleness = column_number(rel, tuple, Anum_rule_max_staleness, -1);
	rule->max_wait = column_number(rel, tuple, Anum_rule_max_wait, TCS_RULE_NO_WAIT);
	text = column_text(rel, tuple, Anum_rule_fallback);
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

/* Does it speak of no object, but of all that a role or an application does? */
static inline bool
is_by_session(const Rule *rule)
{
	return !OidIsValid(rule->relation) && !OidIsValid(rule->function) &&
		!OidIsValid(rule->schema);
}

/* Note what kinds of rules there are, so that others need not be looked for. */
static void
note_kind(const Rule *rule)
{
	if (rule->application_name)
		have_application_rules = true;
	if (rule->writes)
	{
		have_write_rules = true;
		if (is_by_session(rule))
			have_session_write_rules = true;
	}
	else
	{
		have_read_rules = true;
		if (OidIsValid(rule->function))
			have_function_rules = true;
		else if (is_by_session(rule))
			have_session_rules = true;
	}
}

/* Read tcs.rule into rules_context. */
static void
load_rules(Relation rel)
{
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	int			allocated = 16;
	HeapTuple	tuple;

	rules = palloc(allocated * sizeof(Rule));
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		have_rows = true;
		if (nrules == allocated)
			rules = repalloc(rules, (allocated *= 2) * sizeof(Rule));
		if (read_rule(rel, tuple, &rules[nrules]))
			note_kind(&rules[nrules++]);
		else
			ereport(DEBUG1,
					(errmsg_internal("tcs: rule %d applies to nothing here",
									 rules[nrules].id)));
	}
	systable_endscan(scan);
}

/* Read tcs.rule_group; its columns are relation and name. */
static void
load_groups(Relation rel)
{
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(Member),.hcxt = CurrentMemoryContext};
	List	   *names = NIL;
	HeapTuple	tuple;

	members = hash_create("tcs group members", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Oid			relid = (Oid) column_number(rel, tuple, 1, 0);
		char	   *name = column_text(rel, tuple, 2);
		int			number = 0;
		Member	   *member;
		ListCell   *lc;

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
		have_rows = true;
		member = hash_search(members, &relid, HASH_ENTER, NULL);
		member->group = number;
	}
	systable_endscan(scan);
	ngroups = list_length(names);
	group_written = palloc0((ngroups + 1) * sizeof(LocalTransactionId));
}

/*
 * Read the tables again.
 *
 * They are read by a catalog snapshot of their own, so that the transaction's is
 * not touched, and one that was taken before the change is not used.  If a
 * change comes while they are read, they are read again next time.
 */
static void
load(void)
{
	MemoryContext oldcontext;
	Oid			group_relid;
	Relation	rel;

	tcs_rules_init();
	forget_known();
	if (rules_context == NULL)
		rules_context = AllocSetContextCreate(TopMemoryContext, "tcs rules",
											  ALLOCSET_DEFAULT_SIZES);
	nrules = ngroups = 0;
	members = NULL;
	have_rows = false;
	have_session_rules = have_function_rules = have_read_rules = have_write_rules =
		have_session_write_rules = have_application_rules = false;
	session_valid = false;
	MemoryContextReset(rules_context);
	epoch++;

	rules_valid = true;
	rule_relid = own_table("rule");
	group_relid = own_table("rule_group");
	if (!OidIsValid(rule_relid) || !OidIsValid(group_relid))
		return;

	oldcontext = MemoryContextSwitchTo(rules_context);
	PG_TRY();
	{
		rel = table_open(rule_relid, AccessShareLock);
		load_rules(rel);
		table_close(rel, AccessShareLock);
		rel = table_open(group_relid, AccessShareLock);
		load_groups(rel);
		table_close(rel, AccessShareLock);
	}
	PG_CATCH();
	{
		rules_valid = false;
		nrules = ngroups = 0;
		members = NULL;
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(oldcontext);
}

bool
tcs_rules_exist(void)
{
	if (unlikely(!rules_valid))
	{
		load();
		/* if no change has come meanwhile */
		tcs_rules_idle = rules_valid && nrules == 0 && ngroups == 0;
	}
	return nrules > 0 || ngroups > 0;
}

/* Is there anything in the tables, of use or not? */
bool
tcs_rules_have_rows(void)
{
	(void) tcs_rules_exist();
	return have_rows;
}

bool
tcs_rules_by_session_exist(void)
{
	return tcs_rules_exist() && have_session_rules;
}

/* Is a user a member of the role of a rule, if it has one? */
static bool
is_for_user(const Rule *rule, Oid user)
{
	return !OidIsValid(rule->role) ||
		(SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(rule->role)) &&
		 is_member_of_role_nosuper(user, rule->role));
}

static bool
is_for_application(const Rule *rule)
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
static void
match_session(void)
{
	const char *application = application_name ? application_name : "";

	if (likely(session_valid && session_role == GetUserId() &&
			   session_user_role == GetSessionUserId() &&
			   (!have_application_rules ||
				strncmp(session_application, application, NAMEDATALEN - 1) == 0)))
		return;
	/* if something fails, all are matched again */
	session_valid = false;
	session_role = GetUserId();
	session_user_role = GetSessionUserId();
	strlcpy(session_application, application, NAMEDATALEN);
	epoch++;
	for (int i = 0; i < nrules; i++)
	{
		Rule	   *rule = &rules[i];
		bool		of_application = is_for_application(rule);

		rule->in_force = of_application && is_for_user(rule, session_role);
		rule->floor_in_force = rule->in_force ||
			(of_application && is_for_user(rule, session_user_role));
	}
	session_valid = true;
}


/* ---- relations ---- */

static void
add_candidate(KnownRelation *relation, int rule, int weight)
{
	int			n = relation->ncandidates;

	if ((n & (n - 1)) == 0)
		relation->candidates = relation->candidates ?
			repalloc(relation->candidates, Max(n * 2, 1) * sizeof(Candidate)) :
			palloc(sizeof(Candidate));
	relation->candidates[n].rule = rule;
	relation->candidates[n].weight = weight;
	relation->ncandidates++;
}

static void
note_inherited_from(Oid relid)
{
	if (get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE)
		return;
	if (inherited_from == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(Oid)};

		inherited_from = hash_create("tcs rules, inherited from", 32, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	(void) hash_search(inherited_from, &relid, HASH_ENTER, NULL);
}

/* The relations that one is a child or partition of, near and far. */
static List *
ancestors_of(Oid relid)
{
	List	   *found = NIL;
	List	   *todo = list_make1_oid(relid);
	Relation	inherits = table_open(InheritsRelationId, AccessShareLock);

	while (todo != NIL)
	{
		Oid			child = linitial_oid(todo);
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	tuple;

		todo = list_delete_first(todo);
		ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(child));
		scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			Oid			parent = ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent;

			if (!list_member_oid(found, parent))
			{
				found = lappend_oid(found, parent);
				todo = lappend_oid(todo, parent);
				note_inherited_from(parent);
			}
		}
		systable_endscan(scan);
	}
	table_close(inherits, AccessShareLock);
	return found;
}

/* Its children and partitions, near and far, without locks on them. */
static List *
descendants_of(Oid relid)
{
	List	   *found = NIL;
	ListCell   *lc;

	foreach(lc, find_inheritance_children(relid, NoLock))
	{
		found = list_append_unique_oid(found, lfirst_oid(lc));
		found = list_concat_unique_oid(found, descendants_of(lfirst_oid(lc)));
	}
	return found;
}

typedef struct QueryObjects
{
	List	   *relations;
	List	   *functions;		/* those with rules */
} QueryObjects;

/* Does an entry of a range table stand for a relation that is read? */
static inline bool
is_relation(const RangeTblEntry *rte)
{
	/* from 16 on, an expanded view is a subquery that has its number */
	return OidIsValid(rte->relid) &&
		(rte->rtekind == RTE_RELATION || rte->rtekind == RTE_SUBQUERY);
}

static bool
function_has_rule(Oid function)
{
	for (int i = 0; i < nrules; i++)
	{
		if (rules[i].function == function && OidIsValid(function))
			return true;
	}
	return false;
}

static bool
note_function(Oid function, void *context)
{
	QueryObjects *objects = context;

	if (function >= FirstNormalObjectId && function_has_rule(function))
		objects->functions = list_append_unique_oid(objects->functions, function);
	return false;
}

/* Relations and functions of a query, those of its subqueries included. */
static bool
query_objects_walker(Node *node, QueryObjects *objects)
{
	if (node == NULL)
		return false;
	if (have_function_rules)
		(void) check_functions_in_node(node, note_function, objects);
	if (IsA(node, Query))
	{
		ListCell   *lc;

		foreach(lc, ((Query *) node)->rtable)
		{
			RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

			if (is_relation(rte))
				objects->relations = list_append_unique_oid(objects->relations, rte->relid);
		}
		return query_tree_walker((Query *) node, query_objects_walker, objects, 0);
	}
	return expression_tree_walker(node, query_objects_walker, objects);
}

/* What a view reads. */
static void
look_through_view(Oid relid, QueryObjects *objects)
{
	Relation	view = table_open(relid, NoLock);

	if (view->rd_rules != NULL)
		(void) query_objects_walker((Node *) get_view_query(view), objects);
	table_close(view, NoLock);
}

static KnownRelation *look_up(Oid relid);

/* The rules of a relation itself. */
static void
find_candidates(KnownRelation *relation)
{
	Oid			schema = get_rel_namespace(relation->relid);
	List	   *ancestors = ancestors_of(relation->relid);

	for (int i = 0; i < nrules; i++)
	{
		const Rule *rule = &rules[i];

		if (rule->relation == relation->relid)
			add_candidate(relation, i, TCS_WEIGHT_SELF);
		else if (OidIsValid(rule->relation) && list_member_oid(ancestors, rule->relation))
			add_candidate(relation, i, TCS_WEIGHT_ANCESTOR);
		else if (OidIsValid(rule->schema) && rule->schema == schema)
			add_candidate(relation, i, TCS_WEIGHT_SCHEMA);
	}
}

/* All that is read with a relation. */
static void
find_through(KnownRelation *relation)
{
	QueryObjects objects = {0};
	ListCell   *lc;

	if (relation->is_view)
		look_through_view(relation->relid, &objects);
	else if (has_subclass(relation->relid))
		objects.relations = descendants_of(relation->relid);
	relation->functions = objects.functions;
	foreach(lc, objects.relations)
	{
		Oid			relid = lfirst_oid(lc);
		KnownRelation *other;

		if (relid == relation->relid)
			continue;
		relation->through = list_append_unique_oid(relation->through, relid);
		if (!relation->is_view)
			continue;
		other = look_up(relid);
		relation->through = list_concat_unique_oid(relation->through, other->through);
		relation->functions = list_concat_unique_oid(relation->functions, other->functions);
	}
}

/* The table of what is known, empty if that holds no more. */
static void
prepare_known(void)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(KnownRelation)};

	if (known_is_stale && looking_up == 0)
	{
		if (known_context != NULL)
			MemoryContextReset(known_context);
		known = NULL;
		known_is_stale = false;
	}
	if (known != NULL)
		return;
	if (known_context == NULL)
		known_context = AllocSetContextCreate(TopMemoryContext, "tcs rules of relations",
											  ALLOCSET_DEFAULT_SIZES);
	ctl.hcxt = known_context;
	known = hash_create("tcs rules of relations", 128, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Find out all about a relation. */
static void
complete(KnownRelation *relation)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(known_context);
	Member	   *member = members ? hash_search(members, &relation->relid, HASH_FIND, NULL) : NULL;
	char		kind = get_rel_relkind(relation->relid);

	relation->is_view = kind == RELKIND_VIEW;
	relation->group = member ? member->group : 0;
	/* one that is gone has nothing */
	if (kind != '\0')
	{
		find_candidates(relation);
		find_through(relation);
	}
	relation->complete = true;
	MemoryContextSwitchTo(oldcontext);
}

/*
 * What is known of a relation; looked up if need be.  Valid until the next call,
 * or, of those on the way of another, until that one returns.
 */
static KnownRelation *
look_up(Oid relid)
{
	KnownRelation *relation;
	bool		found;

	prepare_known();
	relation = hash_search(known, &relid, HASH_ENTER, &found);
	if (found && (relation->complete || looking_up > 0))
		return relation;		/* a view that leads back to itself is on its
								 * way */
	memset((char *) relation + sizeof(Oid), 0, sizeof(*relation) - sizeof(Oid));
	looking_up++;
	PG_TRY();
	{
		complete(relation);
	}
	PG_FINALLY();
	{
		looking_up--;
	}
	PG_END_TRY();
	return relation;
}


/* ---- collecting ---- */

/* Does any rule for reads speak of it? */
static bool
has_read_rule(const KnownRelation *relation)
{
	if (relation->group != 0)
		return true;
	for (int i = 0; i < relation->ncandidates; i++)
	{
		if (!rules[relation->candidates[i].rule].writes)
			return true;
	}
	return false;
}

/* Put the sole relation into the list, since others may come. */
static void
list_sole(TcsRuleItems *items)
{
	if (!OidIsValid(items->sole))
		return;
	items->reads = lappend_oid(items->reads, items->sole);
	items->sole = InvalidOid;
}

/*
 * Add the one relation that is read, as in most statements.  False if it takes
 * others or functions with it.
 */
static bool
collect_sole(Oid relid, TcsRuleItems *items)
{
	KnownRelation *relation;

	list_sole(items);
	if (!have_read_rules && ngroups == 0)
		return true;
	relation = look_up(relid);
	if (relation->through != NIL || relation->functions != NIL || relation->is_view)
		return false;
	if (!has_read_rule(relation))
		items->unruled = true;
	else if (items->reads == NIL && relation->sole_set != 0)
	{
		items->sole = relid;
		items->sole_set = relation->sole_set;
	}
	else
		items->reads = list_append_unique_oid(items->reads, relid);
	return true;
}

/* Add relations that are read. */
static void
collect_relations(List *relids, TcsRuleItems *items)
{
	List	   *all = NIL;
	List	   *covered = NIL;
	ListCell   *lc;

	list_sole(items);
	if (!have_read_rules && ngroups == 0)
		return;
	foreach(lc, relids)
	{
		Oid			relid = lfirst_oid(lc);
		KnownRelation *relation;

		/* catalogs have no rules, and do not count as without */
		if (relid < FirstNormalObjectId)
			continue;
		relation = look_up(relid);
		all = list_append_unique_oid(all, relid);
		all = list_concat_unique_oid(all, relation->through);
		if (relation->is_view && has_read_rule(relation))
			covered = list_concat_unique_oid(covered, relation->through);
		items->functions = list_concat_unique_oid(items->functions, relation->functions);
	}
	foreach(lc, all)
	{
		KnownRelation *relation = look_up(lfirst_oid(lc));

		if (has_read_rule(relation))
			items->reads = list_append_unique_oid(items->reads, relation->relid);
		else if (!relation->is_view && !list_member_oid(covered, relation->relid))
			items->unruled = true;
	}
}

/* Is it an INSERT that reads nothing of where it writes? */
static bool
only_inserts(const PlannedStmt *plan)
{
	return plan->commandType == CMD_INSERT && !plan->hasReturning &&
		!plan->hasModifyingCTE && IsA(plan->planTree, ModifyTable) &&
		((ModifyTable *) plan->planTree)->onConflictAction == ONCONFLICT_NONE;
}

/* Add the relation of a list of one, and return true; or false for any other. */
static bool
collect_sole_entry(const List *rtable, TcsRuleItems *items)
{
	const RangeTblEntry *rte;

	if (list_length(rtable) != 1)
		return false;
	rte = linitial_node(RangeTblEntry, rtable);
	return rte->rtekind == RTE_RELATION && rte->relid >= FirstNormalObjectId &&
		collect_sole(rte->relid, items);
}

/*
 * Add what a plan reads.  (Its list of relations that it depends on also has those
 * of which nothing but the name is used, as constants of type regclass.)
 */
void
tcs_rules_collect_plan(const PlannedStmt *plan, TcsRuleItems *items)
{
	Bitmapset  *written = only_inserts(plan) ? tcs_result_relations_compat(plan) : NULL;
	List	   *relids = NIL;
	ListCell   *lc;

	if (written == NULL && collect_sole_entry(plan->rtable, items))
		return;
	foreach(lc, plan->rtable)
	{
		const RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (is_relation(rte) && !bms_is_member(foreach_current_index(lc) + 1, written))
			relids = list_append_unique_oid(relids, rte->relid);
	}
	collect_relations(relids, items);
}

/* Is it a call of a function in SQL? */
static bool
calls_sql_function(Node *expression)
{
	HeapTuple	tuple;
	bool		is_sql;

	if (!IsA(expression, FuncExpr))
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(((FuncExpr *) expression)->funcid));
	if (!HeapTupleIsValid(tuple))
		return false;
	is_sql = ((Form_pg_proc) GETSTRUCT(tuple))->prolang == SQLlanguageId;
	ReleaseSysCache(tuple);
	return is_sql;
}

/* Does a query call a function in SQL as a table, which planning may inline? */
static bool
inlined_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblFunction) && calls_sql_function(((RangeTblFunction *) node)->funcexpr))
		return true;
	if (IsA(node, Query))
	{
		ListCell   *lc;

		foreach(lc, ((Query *) node)->rtable)
		{
			const RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);
			ListCell   *lf;

			foreach(lf, rte->rtekind == RTE_FUNCTION ? rte->functions : NIL)
			{
				if (inlined_walker(lfirst(lf), context))
					return true;
			}
		}
		return query_tree_walker((Query *) node, inlined_walker, context, 0);
	}
	return expression_tree_walker(node, inlined_walker, context);
}

/* May planning find out more of what a query reads? */
bool
tcs_rules_may_be_inlined(Query *query)
{
	return query->commandType == CMD_SELECT && inlined_walker((Node *) query, NULL);
}

/* Add what only planning finds out, before the statement is planned. */
static void
collect_inlined(Query *query, TcsRuleItems *items)
{
	ListCell   *lc;

	PG_TRY();
	{
		foreach(lc, pg_rewrite_query(copyObject(query)))
		{
			PlannedStmt *plan;

			tcs_rules_plan_ahead = true;
			plan = tcs_plan_query_compat(lfirst_node(Query, lc), "",
													  CURSOR_OPT_PARALLEL_OK, NULL);

			tcs_rules_collect_plan(plan, items);
		}
	}
	PG_FINALLY();
	{
		tcs_rules_plan_ahead = false;
	}
	PG_END_TRY();
}

/* Add all that an analysed query has, with its functions. */
void
tcs_rules_collect_query(Query *query, TcsRuleItems *items)
{
	QueryObjects objects = {0};

	(void) query_objects_walker((Node *) query, &objects);
	collect_relations(objects.relations, items);
	items->functions = list_concat_unique_oid(items->functions, objects.functions);
	if (tcs_rules_may_be_inlined(query))
		collect_inlined(query, items);
}

/*
 * Add all that an analysed query has, if that is one table and there is nothing
 * to be searched for.  False if it is another query.
 */
bool
tcs_rules_collect_simple(const Query *query, TcsRuleItems *items)
{
	return !have_function_rules && !query->hasSubLinks && query->cteList == NIL &&
		collect_sole_entry(query->rtable, items);
}

/* Add the functions of an analysed query alone. */
void
tcs_rules_collect_functions(Query *query, TcsRuleItems *items)
{
	QueryObjects objects = {0};

	if (!have_function_rules)
		return;
	(void) query_objects_walker((Node *) query, &objects);
	items->functions = list_concat_unique_oid(items->functions, objects.functions);
}

void
tcs_rules_collect_function(Oid function, TcsRuleItems *items)
{
	if (function_has_rule(function))
		items->functions = list_append_unique_oid(items->functions, function);
}

static bool
raw_relations_walker(Node *node, List **relids)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeVar))
	{
		Oid			relid = RangeVarGetRelid((RangeVar *) node, NoLock, true);

		if (OidIsValid(relid))
			*relids = list_append_unique_oid(*relids, relid);
		return false;
	}
	return raw_expression_tree_walker(node, raw_relations_walker, relids);
}

/*
 * Add the relations of a COPY, the query of which is not analysed yet.  A name
 * that a CTE has counts as a relation, if there is one; its functions are not
 * known.
 */
void
tcs_rules_collect_copy(CopyStmt *copy, TcsRuleItems *items)
{
	List	   *relids = NIL;

	(void) raw_relations_walker(copy->query ? copy->query : (Node *) copy->relation, &relids);
	collect_relations(relids, items);
}

/* Add a relation that a statement writes. */
void
tcs_rules_collect_write(Oid relid, TcsRuleItems *items)
{
	KnownRelation *relation;
	bool		matters;

	if (relid < FirstNormalObjectId || (!have_write_rules && ngroups == 0))
		return;
	relation = look_up(relid);
	matters = relation->group != 0 || have_session_write_rules;
	for (int i = 0; i < relation->ncandidates && !matters; i++)
		matters = rules[relation->candidates[i].rule].writes;
	if (matters)
		items->writes = list_append_unique_oid(items->writes, relid);
}


/* ---- sets ---- */

static int
copy_oids(Oid *to, const List *from)
{
	ListCell   *lc;
	int			n = 0;

	foreach(lc, from)
		to[n++] = lfirst_oid(lc);
	return n;
}

/* The number of a set, from 1 on; 0 if it says nothing. */
int
tcs_rules_intern(TcsRuleItems *items)
{
	int			n;
	Oid			few[16];
	Oid		   *oids = few;
	int			nreads;
	int			nfunctions;
	uint32		hash;
	SetBucket  *bucket;
	RuleSet    *set;
	bool		found;
	MemoryContext oldcontext;

	if (OidIsValid(items->sole) && items->functions == NIL && items->writes == NIL &&
		!items->unruled)
		return items->sole_set;
	list_sole(items);
	n = list_length(items->reads) + list_length(items->functions) +
		list_length(items->writes);
	if (n == 0 && !have_session_rules)
		return 0;
	if (n > lengthof(few))
		oids = palloc(n * sizeof(Oid));
	nreads = copy_oids(oids, items->reads);
	nfunctions = copy_oids(oids + nreads, items->functions);
	(void) copy_oids(oids + nreads + nfunctions, items->writes);
	hash = hash_bytes((unsigned char *) oids, n * sizeof(Oid)) ^
		(uint32) (nreads * 31 + nfunctions * 7 + items->unruled);

	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	if (sets_by_hash == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(uint32),.entrysize = sizeof(SetBucket)};

		sets_by_hash = hash_create("tcs sets of rules", 128, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	bucket = hash_search(sets_by_hash, &hash, HASH_ENTER, &found);
	if (!found)
		bucket->first = NULL;
	for (set = bucket->first; set != NULL; set = set->next)
	{
		if (set->nreads == nreads && set->nfunctions == nfunctions &&
			set->nreads + set->nfunctions + set->nwrites == n &&
			set->unruled == items->unruled &&
			memcmp(set->oids, oids, n * sizeof(Oid)) == 0)
			break;
	}
	if (set == NULL)
	{
		if ((nsets & (nsets + 1)) == 0)
			sets = sets ? repalloc(sets, 2 * (nsets + 1) * sizeof(RuleSet *)) :
				palloc(2 * sizeof(RuleSet *));
		set = palloc0(sizeof(RuleSet));
		set->oids = palloc((n + 1) * sizeof(Oid));
		memcpy(set->oids, oids, n * sizeof(Oid));
		set->hash = hash;
		set->nreads = nreads;
		set->nfunctions = nfunctions;
		set->nwrites = n - nreads - nfunctions;
		set->unruled = items->unruled;
		set->next = bucket->first;
		bucket->first = set;
		set->number = ++nsets;
		sets[nsets] = set;
	}
	MemoryContextSwitchTo(oldcontext);
	if (n == 1 && items->reads != NIL && !items->unruled)
		look_up(oids[0])->sole_set = set->number;
	if (oids != few)
		pfree(oids);
	return set->number;
}


/* ---- verdicts ---- */

/* Take the level of a rule into a verdict, if it is the stronger one. */
static void
raise_level(TcsRuleVerdict *verdict, const Rule *rule)
{
	TcsLevel	joined = verdict->has_level ? tcs_level_join(verdict->level, rule->level) : rule->level;
	bool		same = verdict->has_level && joined == verdict->level;

	if (!same)
	{
		verdict->rule = rule->id;
		verdict->max_wait = rule->max_wait;
		verdict->has_fallback = rule->has_fallback;
		verdict->fallback = rule->fallback;
		verdict->max_staleness = rule->max_staleness;
	}
	else if (joined == TCS_LEVEL_BOUNDED && rule->level == TCS_LEVEL_BOUNDED &&
			 rule->max_staleness >= 0 &&
			 (verdict->max_staleness < 0 || rule->max_staleness < verdict->max_staleness))
	{
		verdict->rule = rule->id;
		verdict->max_staleness = rule->max_staleness;
	}
	verdict->level = joined;
	verdict->has_level = true;
}

static void
raise_floor(TcsRuleVerdict *verdict, const Rule *rule)
{
	TcsLevel	joined = verdict->has_floor ? tcs_level_join(verdict->floor, rule->floor) : rule->floor;

	if (!verdict->has_floor || joined != verdict->floor)
		verdict->floor_rule = rule->id;
	if (rule->floor == TCS_LEVEL_BOUNDED && rule->max_staleness >= 0 &&
		(verdict->floor_staleness < 0 || rule->max_staleness < verdict->floor_staleness))
	{
		verdict->floor_staleness = rule->max_staleness;
		if (joined == TCS_LEVEL_BOUNDED)
			verdict->floor_rule = rule->id;
	}
	verdict->floor = joined;
	verdict->has_floor = true;
	if (rule->hard)
	{
		verdict->hard = verdict->has_hard ? tcs_level_join(verdict->hard, rule->floor) : rule->floor;
		verdict->has_hard = true;
	}
}

/* How specific is a rule, given how specific its object is? */
static int
weight_of(const Rule *rule, int object_weight)
{
	return object_weight + (OidIsValid(rule->role) ? TCS_WEIGHT_ROLE : 0) +
		(rule->application_name ? TCS_WEIGHT_APPLICATION : 0);
}

/* Is one rule to be preferred to another, as the more specific or stronger? */
static bool
is_preferred(const Rule *rule, int weight, const Rule *best, int best_weight)
{
	if (best == NULL || weight != best_weight)
		return best == NULL || weight > best_weight;
	return tcs_level_rank(rule->level) > tcs_level_rank(best->level);
}

/* The rule that goes by the session alone; floors of such are taken in. */
static const Rule *
best_session_rule(TcsRuleVerdict *verdict)
{
	const Rule *best = NULL;
	int			best_weight = 0;

	for (int i = 0; i < nrules && have_session_rules; i++)
	{
		const Rule *rule = &rules[i];

		if (rule->writes || !is_by_session(rule))
			continue;
		if (rule->has_floor && rule->floor_in_force)
			raise_floor(verdict, rule);
		if (rule->has_level && rule->in_force && is_preferred(rule, weight_of(rule, 0), best, best_weight))
		{
			best = rule;
			best_weight = weight_of(rule, 0);
		}
	}
	return best;
}

/* Take a relation into a verdict. */
static void
judge_relation(const KnownRelation *relation, const Rule *by_session,
			   TcsRuleVerdict *verdict)
{
	const Rule *best = NULL;
	int			best_weight = 0;

	for (int i = 0; i < relation->ncandidates; i++)
	{
		const Rule *rule = &rules[relation->candidates[i].rule];
		int			weight = weight_of(rule, relation->candidates[i].weight);

		if (rule->writes)
			continue;
		if (rule->has_floor && rule->floor_in_force)
			raise_floor(verdict, rule);
		if (rule->has_level && rule->in_force && is_preferred(rule, weight, best, best_weight))
		{
			best = rule;
			best_weight = weight;
		}
	}
	if (best == NULL)
		best = by_session;
	if (best != NULL)
		raise_level(verdict, best);
	else if (!relation->is_view)
		verdict->unruled = true;
}

/* The members of a group pull each other up. */
static void
judge_group(int group, TcsRuleVerdict *verdict)
{
	HASH_SEQ_STATUS status;
	Member	   *member;
	List	   *relids = NIL;
	ListCell   *lc;

	hash_seq_init(&status, members);
	while ((member = hash_seq_search(&status)) != NULL)
	{
		if (member->group == group)
			relids = lappend_oid(relids, member->relation);
	}
	foreach(lc, relids)
	{
		KnownRelation *relation;
		TcsRuleVerdict others = *verdict;

		if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(lfirst_oid(lc))))
			continue;
		relation = look_up(lfirst_oid(lc));
		/* one without a rule pulls nobody down */
		judge_relation(relation, NULL, &others);
		others.unruled = verdict->unruled;
		*verdict = others;
	}
}

static void
judge_function(Oid function, TcsRuleVerdict *verdict)
{
	const Rule *best = NULL;
	int			best_weight = 0;

	for (int i = 0; i < nrules; i++)
	{
		const Rule *rule = &rules[i];

		if (rule->function != function || rule->writes)
			continue;
		if (rule->has_floor && rule->floor_in_force)
			raise_floor(verdict, rule);
		if (rule->has_level && rule->in_force && is_preferred(rule, weight_of(rule, 0), best, best_weight))
		{
			best = rule;
			best_weight = weight_of(rule, 0);
		}
	}
	if (best != NULL)
		raise_level(verdict, best);
}

static void
judge_set(RuleSet *set)
{
	TcsRuleVerdict *verdict = &set->verdict;
	const Rule *by_session;

	memset(verdict, 0, sizeof(*verdict));
	verdict->max_staleness = verdict->floor_staleness = -1;
	verdict->max_wait = TCS_RULE_NO_WAIT;
	list_free(set->groups);
	set->groups = NIL;

	by_session = best_session_rule(verdict);
	for (int i = 0; i < set->nreads; i++)
	{
		KnownRelation *relation = look_up(set->oids[i]);

		judge_relation(relation, by_session, verdict);
		if (relation->group != 0)
		{
			MemoryContext oldcontext = MemoryContextSwitchTo(TopMemoryContext);

			set->groups = list_append_unique_int(set->groups, relation->group);
			MemoryContextSwitchTo(oldcontext);
			judge_group(relation->group, verdict);
		}
	}
	for (int i = 0; i < set->nfunctions; i++)
		judge_function(set->oids[set->nreads + i], verdict);

	/* what no rule speaks of is the session's, or a standing default's */
	if (set->unruled || (set->nreads == 0 && set->nfunctions == 0))
	{
		if (by_session != NULL)
			raise_level(verdict, by_session);
		else
			verdict->unruled = true;
	}
}

/*
 * What the rules say of a statement that reads a set.  *wrote_to_group: has the
 * present transaction written to a member of a group that it reads?
 */
const TcsRuleVerdict *
tcs_rules_verdict(int number, bool *wrote_to_group)
{
	RuleSet    *set = sets[number];
	ListCell   *lc;

	if (unlikely(!rules_valid))
		load();
	match_session();
	if (unlikely(set->verdict.made_for != epoch))
	{
		uint64		judged_for;

		/* looking relations up can let changes in */
		do
		{
			judged_for = epoch;
			judge_set(set);
		} while (judged_for != epoch && rules_valid);
		set->verdict.made_for = judged_for;
	}
	*wrote_to_group = false;
	foreach(lc, set->groups)
	{
		if (group_written[lfirst_int(lc)] == tcs_swap_transaction())
			*wrote_to_group = true;
	}
	return &set->verdict;
}

/* A rule for writes that is in force speaks of a commit. */
static void
raise_write_level(const Rule *rule, TcsWriteLevel *level, int *id)
{
	if (rule->writes && rule->in_force && rule->write_level > *level)
	{
		*level = rule->write_level;
		*id = rule->id;
	}
}

/*
 * The level that the rules ask for of a commit, and which of them, if that is
 * more than "level".
 */
void
tcs_rules_write_verdict(int number, TcsWriteLevel *level, int *id)
{
	RuleSet    *set = sets[number];

	if (unlikely(!rules_valid))
		load();
	match_session();
	for (int i = 0; i < set->nwrites; i++)
	{
		KnownRelation *relation = look_up(set->oids[set->nreads + set->nfunctions + i]);

		for (int j = 0; j < relation->ncandidates; j++)
			raise_write_level(&rules[relation->candidates[j].rule], level, id);
	}
	for (int i = 0; i < nrules && have_session_write_rules; i++)
	{
		if (is_by_session(&rules[i]))
			raise_write_level(&rules[i], level, id);
	}
}

/* The present transaction is about to write what a set has. */
void
tcs_rules_note_write(int number)
{
	RuleSet    *set = sets[number];
	TcsWriteLevel level = TCS_WRITE_DEFAULT;
	int			id = 0;

	tcs_rules_write_verdict(number, &level, &id);
	for (int i = 0; i < set->nwrites; i++)
	{
		int			group = look_up(set->oids[set->nreads + set->nfunctions + i])->group;

		if (group != 0)
			group_written[group] = tcs_swap_transaction();
	}
	if (id != 0)
		tcs_write_require(level, id);
}

/* Why a rule was made, as whoever made it said; or NULL. */
const char *
tcs_rules_reason(int id)
{
	for (int i = 0; i < nrules; i++)
	{
		if (rules[i].id == id)
			return rules[i].reason;
	}
	return NULL;
}
