/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  The differences between PostgreSQL 15 and 19; the only place that may
 *	  test PG_VERSION_NUM.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_COMPAT_H
#define TCS_COMPAT_H

#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "optimizer/planner.h"
#include "parser/scanner.h"
#include "replication/syncrep.h"
#include "replication/walreceiver.h"
#include "replication/walsender_private.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/sinvaladt.h"
#include "storage/spin.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/wait_event.h"

/* 18 moved the printing of properties */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#else
#include "commands/explain.h"
#endif

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 200000
#error "tcs supports PostgreSQL 15 to 19"
#endif

/* 19 pads the low half of an LSN */
#if PG_VERSION_NUM >= 190000
#define TCS_LSN_FMT "%X/%08X"
#else
#define TCS_LSN_FMT "%X/%X"
#endif

/* 18 puts name and version into the module magic */
#if PG_VERSION_NUM >= 180000
#define TCS_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "tcs", .version = TCS_VERSION)
#else
#define TCS_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* from 17 on, libpq can put several rows into one result; for those who use it */
#ifdef LIBPQ_HAS_CHUNK_MODE
#define tcs_rows_mode_compat(conn, rows) PQsetChunkedRowsMode(conn, rows)
#define tcs_is_rows_compat(status) ((status) == PGRES_TUPLES_CHUNK)
#else
#define tcs_is_rows_compat(status) ((status) == PGRES_SINGLE_TUPLE)
#define tcs_rows_mode_compat(conn, rows) PQsetSingleRowMode(conn)
#endif

/* 19 hands the planner an ExplainState */
#if PG_VERSION_NUM >= 190000
#define TCS_JUMBLE_STATE const JumbleState
#else
#define TCS_JUMBLE_STATE JumbleState
#endif

#if PG_VERSION_NUM >= 190000
#define TCS_PLANNER_ARGS \
	Query *parse, const char *query_string, int cursorOptions, \
	ParamListInfo boundParams, struct ExplainState *es
#define TCS_PLANNER_PASS parse, query_string, cursorOptions, boundParams, es
#else
#define TCS_PLANNER_ARGS \
	Query *parse, const char *query_string, int cursorOptions, \
	ParamListInfo boundParams
#define TCS_PLANNER_PASS parse, query_string, cursorOptions, boundParams
#endif

/* 18 dropped execute_once */
#if PG_VERSION_NUM >= 180000
#define TCS_RUN_ARGS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count
#define TCS_RUN_PASS queryDesc, direction, count
#else
#define TCS_RUN_ARGS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count, bool execute_once
#define TCS_RUN_PASS queryDesc, direction, count, execute_once
#endif

/* from 16 on, replay broadcasts a condition variable for each record */
#if PG_VERSION_NUM >= 160000
#define TCS_HAVE_REPLAY_CV 1
#endif

/* from 19 on, core has a queue of its own for sessions that wait for replay */
#if PG_VERSION_NUM >= 190000
#define TCS_HAVE_WAIT_FOR_LSN 1
#endif

/* the class of waits for buffer pins was renamed twice */
#if PG_VERSION_NUM >= 190000
#define TCS_WAIT_BUFFER_PIN_CLASS PG_WAIT_BUFFER
#elif PG_VERSION_NUM >= 170000
#define TCS_WAIT_BUFFER_PIN_CLASS PG_WAIT_BUFFERPIN
#else
#define TCS_WAIT_BUFFER_PIN_CLASS PG_WAIT_BUFFER_PIN
#endif

/*
 * The privileges that a plan or a query needs: a list of entries, and what one of
 * them says.  16 took them out of the range table.
 */
#if PG_VERSION_NUM >= 160000
#define tcs_plan_permissions_compat(plan) ((plan)->permInfos)
#define tcs_query_permissions_compat(query) ((query)->rteperminfos)
static inline bool
tcs_permission_compat(void *entry, Oid *relid, AclMode *required)
{
	*relid = ((RTEPermissionInfo *) entry)->relid;
	*required = ((RTEPermissionInfo *) entry)->requiredPerms;
	return true;
}
#else
#define tcs_plan_permissions_compat(plan) ((plan)->rtable)
#define tcs_query_permissions_compat(query) ((query)->rtable)
static inline bool
tcs_permission_compat(void *entry, Oid *relid, AclMode *required)
{
	*relid = ((RangeTblEntry *) entry)->relid;
	*required = ((RangeTblEntry *) entry)->requiredPerms;
	return ((RangeTblEntry *) entry)->rtekind == RTE_RELATION;
}
#endif

/* The n-th entry of the local copy of backend states, counted from 1. */
static inline LocalPgBackendStatus *
tcs_local_beentry_compat(int n)
{
#if PG_VERSION_NUM >= 160000
	return pgstat_get_local_beentry_by_index(n);
#else
	return pgstat_fetch_stat_local_beentry(n);
#endif
}

static inline PlannedStmt *
tcs_plan_query_compat(Query *query, const char *query_string,
					  int cursorOptions, ParamListInfo boundParams)
{
#if PG_VERSION_NUM >= 190000
	return pg_plan_query(query, query_string, cursorOptions, boundParams, NULL);
#else
	return pg_plan_query(query, query_string, cursorOptions, boundParams);
#endif
}

/* Does this session hold a lock of a kind that it can have on a standby? */
static inline bool
tcs_holds_lock_compat(const LOCKTAG *tag)
{
#if PG_VERSION_NUM >= 170000
	return LockHeldByMe(tag, AccessShareLock, true);
#else
	return LockHeldByMe(tag, AccessShareLock) || LockHeldByMe(tag, RowShareLock) ||
		LockHeldByMe(tag, RowExclusiveLock);
#endif
}

/* The range table indexes of the relations that a plan writes. */
static inline Bitmapset *
tcs_result_relations_compat(const PlannedStmt *plan)
{
#if PG_VERSION_NUM >= 190000
	return plan->resultRelationRelids;
#else
	Bitmapset  *result = NULL;
	ListCell   *lc;

	foreach(lc, plan->resultRelations)
		result = bms_add_member(result, lfirst_int(lc));
	return result;
#endif
}

/* What a range table entry may do; from 16 on in a list of its own. */
#if PG_VERSION_NUM >= 160000
#define TCS_PERM_INFOS			permInfos
#else
#define TCS_PERM_INFOS			rtable
#endif

static inline AclMode
tcs_required_perms_compat(List *infos, const RangeTblEntry *rte)
{
#if PG_VERSION_NUM >= 160000
	return rte->perminfoindex == 0 ? 0 :
		list_nth_node(RTEPermissionInfo, infos, rte->perminfoindex - 1)->requiredPerms;
#else
	return rte->requiredPerms;
#endif
}

/* for SendProcSignal(), which then goes by the process id */
#if PG_VERSION_NUM >= 170000
#define TCS_NO_PROC_COMPAT INVALID_PROC_NUMBER
#else
#define TCS_NO_PROC_COMPAT InvalidBackendId
#endif

/* All settings of the server, in an array. */
static inline struct config_generic **
tcs_all_settings_compat(int *n)
{
#if PG_VERSION_NUM >= 160000
	return get_guc_variables(n);
#else
	*n = GetNumConfigOptions();
	return get_guc_variables();
#endif
}

/*
 * The client's port has its SCRAM keys from 18 on.  Its layout does not depend
 * on GSSAPI, the headers of which need not be installed.
 */
#if PG_VERSION_NUM >= 160000 && defined(ENABLE_GSS)
#define TCS_HAS_DELEGATION
#endif
#if PG_VERSION_NUM >= 180000
#undef ENABLE_GSS
#include "common/base64.h"
#include "common/scram-common.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#endif

/* From 18 on, a user's SCRAM keys can be passed on in place of a password. */
static inline bool
tcs_is_scram_option_compat(const char *name)
{
#if PG_VERSION_NUM >= 180000
	return strcmp(name, "use_scram_passthrough") == 0;
#else
	return false;
#endif
}

/* Add the client's SCRAM keys to libpq's options; false if there are none. */
static inline bool
tcs_scram_passthrough_compat(const char **keywords, const char **values, int *n)
{
#if PG_VERSION_NUM >= 180000
	if (MyProcPort != NULL && MyProcPort->has_scram_keys)
	{
		const uint8 *keys[] = {MyProcPort->scram_ClientKey, MyProcPort->scram_ServerKey};
		const char *names[] = {"scram_client_key", "scram_server_key"};

		for (int i = 0; i < 2; i++)
		{
			int			size = pg_b64_enc_len(SCRAM_MAX_KEY_LEN);
			char	   *text = palloc0(size + 1);

			if (pg_b64_encode(keys[i], SCRAM_MAX_KEY_LEN, text, size) < 0)
				elog(ERROR, "could not encode SCRAM key");
			keywords[*n] = names[i];
			values[(*n)++] = text;
		}
		/* nothing else may do, since there is no password to check */
		keywords[*n] = "require_auth";
		values[(*n)++] = "scram-sha-256";
		return true;
	}
#endif
	return false;
}

/*
 * From 16 on, a client can delegate its GSSAPI credential, and libpq uses that.
 * Core's header needs those of GSSAPI, which need not be installed.
 */
#ifdef TCS_HAS_DELEGATION
extern bool be_gssapi_get_delegation(struct Port *port);
#endif

static inline bool
tcs_has_delegated_credential_compat(void)
{
#ifdef TCS_HAS_DELEGATION
	return MyProcPort != NULL && be_gssapi_get_delegation(MyProcPort);
#else
	return false;
#endif
}

/* Did libpq use GSSAPI?  A macro, as few files know libpq. */
#ifdef TCS_HAS_DELEGATION
#define tcs_used_gssapi_compat(conn)	(PQconnectionUsedGSSAPI(conn) != 0)
#else
#define tcs_used_gssapi_compat(conn)	(false)
#endif

/* 16 can report errors of it otherwise; a macro, as few files know ranges */
#if PG_VERSION_NUM >= 160000
#define tcs_make_range_compat(entry, lower, upper, empty) make_range(entry, lower, upper, empty, NULL)
#else
#define tcs_make_range_compat(entry, lower, upper, empty) make_range(entry, lower, upper, empty)
#endif

/* Memory for the "extra" of a GUC; NULL when there is none, never an error. */
static inline void *
tcs_guc_malloc_compat(size_t size)
{
#if PG_VERSION_NUM >= 160000
	return guc_malloc(LOG, size);
#else
	return malloc(size);
#endif
}

static inline void
tcs_guc_free_compat(void *ptr)
{
#if PG_VERSION_NUM >= 160000
	guc_free(ptr);
#else
	free(ptr);
#endif
}

/* Index of this process in ProcGlobal->allProcs. */
static inline int
tcs_my_proc_number_compat(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProcNumber;
#else
	return MyProc->pgprocno;
#endif
}

static inline LocalTransactionId
tcs_my_lxid_compat(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProc->vxid.lxid;
#else
	return MyProc->lxid;
#endif
}

/* Make the WAL receiver send a status message; 19 has another name for it. */
static inline void
tcs_walrcv_reply_compat(void)
{
#if PG_VERSION_NUM >= 190000
	WalRcvRequestApplyReply();
#else
	WalRcvForceReply();
#endif
}

/*
 * Give this transaction another virtual id, as StartTransaction() gives it its
 * first one.
 */
static inline void
tcs_renew_virtual_xid_compat(void)
{
	VirtualTransactionId vxid;

	VirtualXactLockTableCleanup();
	vxid.localTransactionId = GetNextLocalTransactionId();
#if PG_VERSION_NUM >= 170000
	vxid.procNumber = MyProcNumber;
	VirtualXactLockTableInsert(vxid);
	MyProc->vxid.lxid = vxid.localTransactionId;
#else
	vxid.backendId = MyBackendId;
	VirtualXactLockTableInsert(vxid);
	MyProc->lxid = vxid.localTransactionId;
#endif
}

/*
 * This walsender will never stream: spare it, and those who commit, the
 * wake-ups.  Before 16 each flush of WAL sets the latch of all walsenders, also
 * of one that waits for its client's next command; which it goes on to do.
 */
static inline void
tcs_walsender_sleep_on_compat(void)
{
#if PG_VERSION_NUM < 160000
	SpinLockAcquire(&MyWalSnd->mutex);
	MyWalSnd->latch = NULL;
	SpinLockRelease(&MyWalSnd->mutex);
#endif
}

/*
 * Is there a place for one more replication connection?  A look without the lock of
 * the list: it can be late by a moment.
 */
static inline bool
tcs_walsender_place_is_free_compat(void)
{
#if PG_VERSION_NUM >= 160000
	return !dlist_is_empty(&ProcGlobal->walsenderFreeProcs);
#else
	return ProcGlobal->walsenderFreeProcs != NULL;
#endif
}

/*
 * Do commits wait for standbys now, if synchronous_commit asks for it?  The
 * releases of May 2025 replaced the flag by a status.
 */
static inline bool
tcs_standbys_defined_compat(void)
{
	bool		named = SyncRepStandbyNames != NULL && SyncRepStandbyNames[0] != '\0';
	volatile WalSndCtlData *ctl = WalSndCtl;

#ifdef SYNC_STANDBY_DEFINED
	if ((ctl->sync_standbys_status & SYNC_STANDBY_INIT) != 0)
		return (ctl->sync_standbys_status & SYNC_STANDBY_DEFINED) != 0;
	return named;
#else
	return ctl->sync_standbys_defined && named;
#endif
}

/* Does a search path lead to what the present one leads to? */
#if PG_VERSION_NUM >= 170000
#define tcs_search_path_is_current_compat(path) SearchPathMatchesCurrentEnvironment(path)
#else
#define tcs_search_path_is_current_compat(path) OverrideSearchPathMatchesCurrent(path)
#endif

/*
 * The lock after the given one in a partition of this process's locks, or the
 * first; NULL if there is none.
 */
static inline PROCLOCK *
tcs_next_proclock_compat(int partition, PROCLOCK *held)
{
#if PG_VERSION_NUM >= 160000
	dlist_head *list = &MyProc->myProcLocks[partition];

	if (held != NULL)
		return dlist_has_next(list, &held->procLink) ?
			dlist_container(PROCLOCK, procLink, dlist_next_node(list, &held->procLink)) : NULL;
	return dlist_is_empty(list) ? NULL :
		dlist_container(PROCLOCK, procLink, dlist_head_node(list));
#else
	SHM_QUEUE  *list = &MyProc->myProcLocks[partition];

	return (PROCLOCK *) SHMQueueNext(list, held ? &held->procLink : list,
									 offsetof(PROCLOCK, procLink));
#endif
}

/* A set of events that lasts as long as the process. */
static inline WaitEventSet *
tcs_create_wait_event_set_compat(int nevents)
{
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, nevents);
#else
	return CreateWaitEventSet(TopMemoryContext, nevents);
#endif
}

/* A wait event of our own where the server has such; "Extension" before. */
static inline uint32
tcs_wait_event_compat(const char *name)
{
#if PG_VERSION_NUM >= 170000
	return WaitEventExtensionNew(name);
#else
	return PG_WAIT_EXTENSION;
#endif
}

/* Does a role own a relation?  16 has one function for all kinds of objects. */
static inline bool
tcs_owns_relation_compat(Oid relid, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, relid, role);
#else
	return pg_class_ownercheck(relid, role);
#endif
}

static inline bool
tcs_may_execute_compat(Oid function, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE) == ACLCHECK_OK;
#else
	return pg_proc_aclcheck(function, role, ACL_EXECUTE) == ACLCHECK_OK;
#endif
}

/* Fails if the relations of a query, without those of its subqueries, are not to be used. */
static inline void
tcs_require_permissions_compat(Query *query)
{
#if PG_VERSION_NUM >= 160000
	(void) ExecCheckPermissions(query->rtable, query->rteperminfos, true);
#else
	(void) ExecCheckRTPerms(query->rtable, true);
#endif
}

/* The same for all relations of a plan. */
static inline void
tcs_require_permissions_of_plan_compat(PlannedStmt *plan)
{
#if PG_VERSION_NUM >= 160000
	(void) ExecCheckPermissions(plan->rtable, plan->permInfos, true);
#else
	(void) ExecCheckRTPerms(plan->rtable, true);
#endif
}

/* May a role refresh a materialized view?  Up to 16 that is for its owner alone. */
static inline AclResult
tcs_may_refresh_compat(Oid relid, Oid role)
{
#if PG_VERSION_NUM >= 170000
	return pg_class_aclcheck(relid, role, ACL_MAINTAIN);
#else
	return tcs_owns_relation_compat(relid, role) ? ACLCHECK_OK : ACLCHECK_NOT_OWNER;
#endif
}

/* The sequence of an identity column; 17 takes the relation. */
static inline Oid
tcs_identity_sequence_compat(Relation rel, AttrNumber attnum)
{
#if PG_VERSION_NUM >= 170000
	return getIdentitySequence(rel, attnum, false);
#else
	return getIdentitySequence(RelationGetRelid(rel), attnum, false);
#endif
}

/* A scanner without warnings of backslashes in strings; 19 has none any more. */
static inline void
tcs_no_escape_warning_compat(core_yy_extra_type *extra)
{
#if PG_VERSION_NUM < 190000
	extra->escape_string_warning = false;
#endif
}

/* Does a process use the slot?  Its spinlock is held. */
#if PG_VERSION_NUM >= 190000
#define tcs_slot_is_active_compat(slot) ((slot)->active_proc != INVALID_PROC_NUMBER)
#else
#define tcs_slot_is_active_compat(slot) ((slot)->active_pid != 0)
#endif

/*
 * Words that tcs keeps in a plan, each of some kind, where they survive the plan
 * cache.  From 19 on there is a place for extensions.  Before, they are invalidation
 * items of caches that do not exist, which plancache.c copies and never matches.
 */
#if PG_VERSION_NUM >= 190000
static inline DefElem *
tcs_plan_state(const PlannedStmt *plan)
{
	ListCell   *lc;

	foreach(lc, plan->extension_state)
	{
		if (strcmp(lfirst_node(DefElem, lc)->defname, "tcs") == 0)
			return lfirst_node(DefElem, lc);
	}
	return NULL;
}
#endif

static inline void
tcs_plan_add_word_compat(PlannedStmt *plan, int kind, uint32 word)
{
#if PG_VERSION_NUM >= 190000
	DefElem    *state = tcs_plan_state(plan);

	if (state == NULL)
	{
		state = makeDefElem(pstrdup("tcs"), NULL, -1);
		plan->extension_state = lappend(plan->extension_state, state);
	}
	state->arg = (Node *) lappend_int(lappend_int((List *) state->arg, kind), (int) word);
#else
	PlanInvalItem *item = makeNode(PlanInvalItem);

	item->cacheId = kind;
	item->hashValue = word;
	plan->invalItems = lappend(plan->invalItems, item);
#endif
}

/* The next word of a kind, from a place that begins at 0. */
static inline bool
tcs_plan_next_word_compat(const PlannedStmt *plan, int kind, int *place, uint32 *word)
{
#if PG_VERSION_NUM >= 190000
	const DefElem *state = tcs_plan_state(plan);
	const List *words = state ? (const List *) state->arg : NIL;

	for (; *place < list_length(words); *place += 2)
	{
		if (list_nth_int(words, *place) == kind)
		{
			*word = (uint32) list_nth_int(words, *place + 1);
			*place += 2;
			return true;
		}
	}
#else
	while (*place < list_length(plan->invalItems))
	{
		const PlanInvalItem *item = list_nth(plan->invalItems, (*place)++);

		if (item->cacheId == kind)
		{
			*word = item->hashValue;
			return true;
		}
	}
#endif
	return false;
}

/* May there be such words?  False is certain. */
#if PG_VERSION_NUM >= 190000
#define tcs_plan_may_have_words_compat(plan) ((plan)->extension_state != NIL)
#else
#define tcs_plan_may_have_words_compat(plan) ((plan)->invalItems != NIL)
#endif

#endif							/* TCS_COMPAT_H */
