/*-------------------------------------------------------------------------
 *
 * builtin.c
 *	  What the built-in functions and views read, and where they belong.
 *
 * NOTES
 *	  The gate asks what a function reads; redirect asks whether it can run on
 *	  another node.  Both answers come from one list, statement/builtin_list.h.
 *
 *	  A function is built in if initdb gave it its number and it is in pg_catalog.
 *	  Only a superuser can put another body behind such a number.  One whose
 *	  language is neither internal nor SQL is not what the list was made for.
 *
 *	  What is not in the list is not known: it counts as reading data, and stays.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_language.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "statement/builtin.h"
#include "statement/builtin_list.h"

/* One of the lists. */
typedef struct BuiltinList
{
	const char *const *names;	/* in order */
	int			n;
	TcsReads	reads;
	bool		stays;
} BuiltinList;

#define LIST(names, reads, stays)	{names, lengthof(names), reads, stays}

static const BuiltinList lists[] = {
	LIST(node_or_session_functions, TCS_READS_NOTHING, true),
	LIST(nothing_functions, TCS_READS_NOTHING, false),
	LIST(catalogs_functions, TCS_READS_CATALOGS, false),
	LIST(catalogs_here_functions, TCS_READS_CATALOGS, true),
	LIST(data_functions, TCS_READS_DATA, false),
	LIST(data_here_functions, TCS_READS_DATA, true),
};

/*
 * Views that show this node or session, and nothing else.  They may take names
 * out of the catalogs to show it.
 */
static const char *const local_views[] = {
	"pg_aios", "pg_backend_memory_contexts", "pg_config", "pg_cursors",
	"pg_dsm_registry_allocations", "pg_file_settings", "pg_hba_file_rules",
	"pg_ident_file_mappings", "pg_locks", "pg_prepared_statements",
	"pg_replication_origin_status", "pg_replication_slots", "pg_settings",
	"pg_shmem_allocations", "pg_shmem_allocations_numa",
	"pg_timezone_abbrevs", "pg_timezone_names", "pg_wait_events",
};

/*
 * What was found out about each number that initdb can give; 0: not yet.  Else
 * KNOWN, what it reads, and STAYS.
 */
#define KNOWN	0x80
#define STAYS	0x40
#define READS	0x03

static uint8 known[FirstNormalObjectId];
static bool any_known = false;

static int
compare_names(const void *a, const void *b)
{
	return strcmp((const char *) a, *(const char *const *) b);
}

static bool
is_listed(const char *name, const char *const *names, int n)
{
	return bsearch(name, names, n, sizeof(char *), compare_names) != NULL;
}

/* Look a function up in the lists. */
static uint8
look_up_name(const char *name)
{
	for (int i = 0; i < lengthof(lists); i++)
	{
		if (is_listed(name, lists[i].names, lists[i].n))
			return lists[i].reads | (lists[i].stays ? STAYS : 0);
	}
	return TCS_READS_DATA | STAYS;
}

static uint8
judge_function(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	uint8		result;

	if (!HeapTupleIsValid(tuple))
		return TCS_READS_DATA | STAYS;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prolang != INTERNALlanguageId && proc->prolang != SQLlanguageId)
		result = TCS_READS_DATA | STAYS;
	/* those of information_schema look up types and columns */
	else if (proc->pronamespace != PG_CATALOG_NAMESPACE)
		result = TCS_READS_CATALOGS;
	else if (proc->provolatile == PROVOLATILE_IMMUTABLE)
		result = TCS_READS_NOTHING;
	else
		result = look_up_name(NameStr(proc->proname));
	ReleaseSysCache(tuple);
	return result;
}

/* pg_proc has changed. */
static void
forget_known(Datum arg, int cacheid, uint32 hashvalue)
{
	if (any_known)
		memset(known, 0, sizeof(known));
	any_known = false;
}

/* What is known of a built-in function. */
static uint8
look_up(Oid function)
{
	static bool registered = false;
	uint8		result;

	Assert(function < FirstNormalObjectId);
	if (likely(known[function] != 0))
		return known[function];
	if (!registered)
	{
		CacheRegisterSyscacheCallback(PROCOID, forget_known, (Datum) 0);
		registered = true;
	}
	result = judge_function(function) | KNOWN;
	known[function] = result;
	any_known = true;
	return result;
}

/* What does a function read?  Of one that is not built in nothing is known. */
TcsReads
tcs_builtin_reads(Oid function)
{
	return function < FirstNormalObjectId ?
		(TcsReads) (look_up(function) & READS) : TCS_READS_DATA;
}

/* Does a built-in function belong to this node or session? */
bool
tcs_builtin_stays(Oid function)
{
	return function < FirstNormalObjectId && (look_up(function) & STAYS) != 0;
}

/* The name of a relation of pg_catalog that initdb made, or NULL. */
static const char *
builtin_relation(Oid relid)
{
	return relid < FirstNormalObjectId &&
		get_rel_namespace(relid) == PG_CATALOG_NAMESPACE ? get_rel_name(relid) : NULL;
}

/* Does a view show nothing but this node or session? */
bool
tcs_builtin_view_is_local(Oid relid)
{
	const char *name = builtin_relation(relid);

	if (name == NULL)
		return false;
	/* of tables, indexes and functions it is the catalogs that say which */
	if (strncmp(name, "pg_stat_", 8) == 0)
		return !(strstr(name, "_tables") || strstr(name, "_indexes") ||
				 strstr(name, "user_functions") || strstr(name, "subscription") ||
				 strstr(name, "autovacuum_scores"));
	return is_listed(name, local_views, lengthof(local_views));
}

/* Does a view tell of this node or session, so that another node cannot? */
bool
tcs_builtin_view_stays(Oid relid)
{
	const char *name = builtin_relation(relid);

	return name != NULL &&
		(strncmp(name, "pg_stat_", 8) == 0 || strncmp(name, "pg_statio_", 10) == 0 ||
		 is_listed(name, local_views, lengthof(local_views)));
}
