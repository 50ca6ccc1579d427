/*-------------------------------------------------------------------------
 *
 * hook_utility.c
 *	  Utility statements come to the gate here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/defrem.h"
#include "nodes/parsenodes.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#include "tcop/pquery.h"
#include "tcop/utility.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/leavable.h"
#include "base/own_objects.h"
#include "base/xact.h"
#include "choice/choice.h"
#include "choice/standing_default.h"
#include "gate/gate.h"
#include "gate/redirect_attempt.h"
#include "gate/snapshot_swap.h"
#include "gate/transaction.h"
#include "hooks/arrive.h"
#include "hooks/hooks.h"
#include "hooks/plan_guard.h"
#include "hooks/set_local.h"
#include "primary/acknowledged.h"
#include "primary/commits_in_flight.h"
#include "redirect/leftovers.h"
#include "redirect/redirect_server.h"
#include "rules/rule_table.h"
#include "session/redirected_for.h"
#include "session/session_token.h"
#include "statement/exempt.h"
#include "statement/hook_frames.h"
#include "statement/planning_reads.h"
#include "statement/read_only.h"
#include "statement/statement_queries.h"
#include "statement/statement_source.h"
#include "statement/utility_kind.h"
#include "write/write_level.h"

static ProcessUtility_hook_type prev_ProcessUtility = NULL;

/* The transaction that was given a weaker isolation level explicitly. */
static LocalTransactionId weak_isolation_in = InvalidLocalTransactionId;

/* What is to be done after a utility statement has run. */
typedef enum TcsAfterwards
{
	TCS_AFTER_NOTHING,
	TCS_AFTER_BEGIN,
	TCS_AFTER_CHAIN,
	TCS_AFTER_SET,
	TCS_AFTER_SET_WITHOUT_WAIT, /* its next read waits by itself */
	TCS_AFTER_SNAPSHOT_IMPORT,
	TCS_AFTER_CREATION,			/* of a relation or schema, or a change of its
								 * owner */
	TCS_AFTER_ROUTINE,			/* the same of a function */
	TCS_AFTER_ALTERED_RULES,	/* a change of the tables of rules themselves */
	TCS_AFTER_RENAME
} TcsAfterwards;

/* COPY of a table within another statement, which has no plan; see check_nested(). */
static void
check_nested_copy(const PlannedStmt *pstmt)
{
	TcsClientStatement *client = &tcs_client_statement;
	TcsRead		read;

	if (((CopyStmt *) pstmt->utilityStmt)->relation == NULL)
		return;
	if (client->generation == tcs_settings_generation && !tcs_rules_exist() && !tcs_can_leave())
		return;
	(void) tcs_choice_of_utility(pstmt, NULL, &read.hint, &read.choice, NULL);
	if (unlikely(tcs_can_leave()))
		tcs_guard_check(NULL, &read.choice);
	if (tcs_client_is_chosen())
		tcs_choice_join(&client->choice, &read.choice);
	tcs_arrive_nested(&read, NULL);
}

static void
note_reads(Query *query, void *arg)
{
	*(bool *) arg |= tcs_planning_reads(query);
}

/* Can planning the statement read, as far as can be told? */
static bool
planning_of_site_reads(const TcsSite *site)
{
	bool		reads = false;

	return !tcs_look_at_queries(site, note_reads, &reads) || reads;
}

/*
 * Is what the hint of a nested statement asks for met, as far as can be told without
 * a comparison?  Where the emergency valve has lowered the client's statement,
 * nothing in it asks for more.
 */
static bool
nested_hint_is_met(TcsRead *read)
{
	TcsClientStatement *client = &tcs_client_statement;

	if ((read->hint.set & (TCS_HINT_LEVEL | TCS_HINT_TOKEN | TCS_HINT_MAX_STALENESS)) == 0)
		return true;
	if (tcs_client_is_chosen() && client->choice.choice.by == TCS_BY_RELAX)
		tcs_choice_join(&client->choice, &read->choice);
	if (!tcs_frames_include(TCS_FRAME_RESUMED) && tcs_gate_is_satisfied(&read->choice))
		return true;
	/* what core refuses is refused in core's words */
	tcs_refused_check(&read->site);
	if (read->site.explain_only && !planning_of_site_reads(&read->site))
		return true;
	return tcs_standing_excuses(&read->site, &read->choice) && read->site.reads_nothing;
}

/*
 * A prepared statement is run within another one: by a function, say.  Hints in the
 * text of functions are not read, but the one that was prepared goes with its
 * statement.  It is compared before planning, which can read as well.
 */
static void
check_nested_execute(const PlannedStmt *pstmt, const char *source, TcsFrame *frame)
{
	TcsText		text = tcs_statement_prepared_text(pstmt->utilityStmt);
	TcsRead		read;

	if (!tcs_hint_is_possible(text.source, text.location, text.len))
		return;
	(void) tcs_choice_of_utility(pstmt, NULL, &read.hint, &read.choice, &frame->prepared);
	if (read.hint.set == 0)
		return;
	if (unlikely(tcs_can_leave()))
		tcs_guard_check(NULL, &read.choice);
	tcs_arrive_note_doubtful(&read.choice);
	read.site = (TcsSite)
	{
		.kind = TCS_SITE_UTILITY,.utility = pstmt->utilityStmt,.plan = pstmt,
			.source = source,.explain_only = tcs_utility_explains_only(pstmt->utilityStmt)
	};
	if (!nested_hint_is_met(&read))
		tcs_arrive_nested(&read, NULL);
	/* it only raises: the transaction is not the statement's own */
	if (!read.site.explain_only)
		tcs_write_require(read.choice.write_level, 0);
}

/* Before a utility statement runs that is not the client's own. */
static void
before_nested_utility(const PlannedStmt *pstmt, const char *source, TcsFrame *frame)
{
	switch (nodeTag(pstmt->utilityStmt))
	{
		case T_CopyStmt:
			if (!((CopyStmt *) pstmt->utilityStmt)->is_from)
				check_nested_copy(pstmt);
			break;
		case T_ExecuteStmt:
		case T_ExplainStmt:
		case T_CreateTableAsStmt:
			check_nested_execute(pstmt, source, frame);
			break;
		default:
			break;
	}
}

/*
 * Is it BEGIN or SET TRANSACTION with an isolation level that gives each statement
 * its snapshot?
 */
static bool
asks_for_weak_isolation(Node *statement)
{
	List	   *options = NIL;
	ListCell   *lc;

	if (IsA(statement, TransactionStmt))
		options = ((TransactionStmt *) statement)->options;
	else if (IsA(statement, VariableSetStmt) &&
			 ((VariableSetStmt *) statement)->kind == VAR_SET_MULTI &&
			 strcmp(((VariableSetStmt *) statement)->name, "TRANSACTION") == 0)
		options = ((VariableSetStmt *) statement)->args;
	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "transaction_isolation") == 0)
		{
			const char *level = strVal(&castNode(A_Const, option->arg)->val);

			return strcmp(level, "read committed") == 0 ||
				strcmp(level, "read uncommitted") == 0;
		}
	}
	return false;
}

static void
refuse_weak_isolation(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("read level \"snapshot\" needs isolation level REPEATABLE READ or SERIALIZABLE"),
			 errhint("Leave out the isolation level, or choose level \"session\" for snapshots per statement.")));
}

/*
 * EXPLAIN without ANALYZE: has it to wait, since planning may read?  It runs what is
 * declared IMMUTABLE, and shows the result.  A later EXECUTE can get that plan.
 */
static bool
explain_has_to_wait(const TcsRead *read)
{
	return !read->site.armed && tcs_gate_is_open_here() &&
		!tcs_gate_is_satisfied(&read->choice) && planning_of_site_reads(&read->site);
}

/*
 * EXPLAIN without ANALYZE comes to tell whether its statement would be redirected.
 * If that is not so, and planning may read, it is a read itself.
 */
static void
explain_arrives(TcsRead *read)
{
	TcsSite    *site = &read->site;
	bool		released;

	site->explain_only = true;
	if (tcs_server_exists())
		tcs_arrive(read);
	else
	{
		if (tcs_session_report_is_pending)
			tcs_session_report_pending();
		tcs_client_statement.generation = tcs_settings_generation;
	}
	released = site->locks_released;
	if (explain_has_to_wait(read))
	{
		site->explain_only = false;
		site->explain_reads = true;
		site->holding &= !released;
		tcs_arrive(read);
		site->locks_released |= released;
	}
}

/*
 * Before a utility statement runs.  Returns the statement to run: if the gate
 * let invalidations in, names that were looked up before may have come to mean
 * other objects.  In the frame: its redirect, if its query is to run elsewhere, and
 * the text of the prepared statement, if it runs one with a hint.
 */
static PlannedStmt *
before_utility(PlannedStmt *pstmt, const char *source, ParamListInfo params,
			   QueryEnvironment *query_env, TcsFrame *frame)
{
	Node	   *statement = pstmt->utilityStmt;
	bool		explain_only = tcs_utility_explains_only(statement);
	bool		reads = explain_only || tcs_utility_reads(statement);
	bool		reads_nothing = false;

	tcs_client_statement.started = NULL;
	if (asks_for_weak_isolation(statement))
	{
		/* SET TRANSACTION can come too late, which core says */
		if (tcs_read_level == TCS_LEVEL_SNAPSHOT && IsA(statement, TransactionStmt))
			refuse_weak_isolation();
		/* BEGIN has its transaction by now */
		weak_isolation_in = tcs_xact_id();
	}
	if (reads)
	{
		uint64		known = SharedInvalidMessageCounter;
		TcsRead		read;
		TcsSite    *site = &read.site;

		read.site = (TcsSite)
		{
			.kind = TCS_SITE_UTILITY,.utility = statement,.plan = pstmt,
				.source = source,.params = params
		};
		site->holding = tcs_utility_holds_locks(statement);
		site->holding |= tcs_choice_of_utility(pstmt, source, &read.hint, &read.choice,
											   &frame->prepared);
		if (explain_only)
			explain_arrives(&read);
		else
			tcs_arrive(&read);
		reads_nothing = site->reads_nothing;
		frame->armed = site->armed;
		if (unlikely(site->locks_released ||
					 (known != SharedInvalidMessageCounter &&
					  TransactionStartedDuringRecovery())) &&
			(tcs_utility_holds_locks(statement) || IsA(statement, CallStmt)))
			pstmt = tcs_swap_reanalyze_utility(pstmt, source, params, query_env);
	}
	else
	{
		tcs_choice_check_utility_hint(pstmt, source);
		if (tcs_session_report_is_pending)
			tcs_session_report_pending();
	}
	if (IsolationUsesXactSnapshot() && ActiveSnapshotSet() &&
		!reads_nothing && tcs_utility_uses_snapshot(statement))
		tcs_transaction_note_snapshot_use();
	if (!reads)
		tcs_client_statement.generation = tcs_settings_generation;
	return pstmt;
}

/* Is a statement all that its message has?  False for some that are. */
static bool
is_whole_message(const PlannedStmt *pstmt, const char *source)
{
	const char *end = source + pstmt->stmt_len;

	return pstmt->stmt_location == 0 &&
		(pstmt->stmt_len == 0 || *end == '\0' || (*end == ';' && end[1] == '\0'));
}

/*
 * SET within a transaction: is it one to wait behind?  What reads next waits by itself
 * if it has to, but then it holds locks, and names in it are looked up already.  So
 * SET waits if it is about what a read asks for, and a read is likely to follow.  A
 * RESET in a message of several statements is rather there to ask for less.
 */
static bool
set_is_before_read(const PlannedStmt *pstmt, const char *source)
{
	const VariableSetStmt *set = castNode(VariableSetStmt, pstmt->utilityStmt);

	if (set->kind == VAR_SET_MULTI)
		return true;
	if (set->kind != VAR_SET_VALUE && set->kind != VAR_SET_CURRENT &&
		!is_whole_message(pstmt, source))
		return false;
	return set->name == NULL || pg_strncasecmp(set->name, "tcs.", 4) == 0 ||
		pg_strcasecmp(set->name, "transaction_isolation") == 0;
}

/* Decided before it runs, since some free their own parse tree. */
static TcsAfterwards
decide_afterwards(const PlannedStmt *pstmt, const char *source)
{
	Node	   *statement = pstmt->utilityStmt;

	if (IsA(statement, TransactionStmt))
	{
		TransactionStmtKind kind = ((TransactionStmt *) statement)->kind;

		if (kind == TRANS_STMT_BEGIN || kind == TRANS_STMT_START)
			return TCS_AFTER_BEGIN;
		return ((TransactionStmt *) statement)->chain ? TCS_AFTER_CHAIN : TCS_AFTER_NOTHING;
	}
	if (IsA(statement, VariableSetStmt))
	{
		VariableSetStmt *set = (VariableSetStmt *) statement;

		if (set->kind == VAR_SET_MULTI && strcmp(set->name, "TRANSACTION SNAPSHOT") == 0)
			return TCS_AFTER_SNAPSHOT_IMPORT;
		return IsTransactionBlock() && !set_is_before_read(pstmt, source) ?
			TCS_AFTER_SET_WITHOUT_WAIT : TCS_AFTER_SET;
	}
	return TCS_AFTER_NOTHING;
}

/*
 * After BEGIN, or SET before the first query: level "snapshot" makes the
 * transaction REPEATABLE READ; what has been that before, SET TRANSACTION cannot
 * undo.
 *
 * After BEGIN, or SET in a REPEATABLE READ block: a chance to wait while there
 * is no snapshot, which is left to the first read where SET says nothing of reads.  BEGIN in READ COMMITTED waits for the token only: what else
 * is asked for is asked of each statement again.
 */
static void
after_utility(TcsAfterwards afterwards, bool was_in_block, bool was_repeatable,
			  const List *named_rules)
{
	TcsRead		read;

	if (afterwards == TCS_AFTER_NOTHING)
		return;
	if (tcs_read_level == TCS_LEVEL_SNAPSHOT && !FirstSnapshotSet &&
		(afterwards == TCS_AFTER_BEGIN || afterwards == TCS_AFTER_SET ||
		 afterwards == TCS_AFTER_SET_WITHOUT_WAIT) &&
		!IsolationUsesXactSnapshot() && GetCurrentTransactionNestLevel() == 1)
	{
		if (was_repeatable || weak_isolation_in == tcs_xact_id())
			refuse_weak_isolation();
		tcs_transaction_fix_isolation();
	}

	read.site = (TcsSite)
	{
		.kind = TCS_SITE_BARE
	};
	switch (afterwards)
	{
		case TCS_AFTER_NOTHING:
			return;
		case TCS_AFTER_SNAPSHOT_IMPORT:
			tcs_transaction_snapshot_imported();
			return;
		case TCS_AFTER_CHAIN:
			/* the next transaction has no BEGIN that could do so */
			if (IsolationUsesXactSnapshot())
				tcs_proof_note();
			return;
		case TCS_AFTER_BEGIN:
			if (IsolationUsesXactSnapshot())
				tcs_transaction_prove();
			else
				read.site.token_only = true;
			/* a redundant BEGIN, or one behind other statements */
			read.site.holding = was_in_block;
			break;
		case TCS_AFTER_SET:
		case TCS_AFTER_SET_WITHOUT_WAIT:
			if (!IsTransactionBlock() || !IsolationUsesXactSnapshot() || FirstSnapshotSet)
				return;
			tcs_transaction_prove();
			if (tcs_guc_redirected() != NULL)
				tcs_gate_await_redirected(tcs_guc_redirected());
			if (afterwards == TCS_AFTER_SET_WITHOUT_WAIT)
				return;
			/* earlier statements of the block may have taken locks */
			read.site.holding = true;
			break;
		case TCS_AFTER_RENAME:
			tcs_rules_after_rename(named_rules);
			tcs_rules_after_creation(true);
			return;
		case TCS_AFTER_CREATION:
			tcs_rules_after_creation(false);
			return;
		case TCS_AFTER_ROUTINE:
			tcs_rules_after_creation(true);
			return;
		case TCS_AFTER_ALTERED_RULES:
			tcs_rules_after_altered_table();
			return;
	}
	tcs_choice_by_settings(&read.choice);
	if (!tcs_gate_is_satisfied(&read.choice))
	{
		/* what settles the gate here may not bring back what was unsettled */
		if (unlikely(tcs_client_statement.ran_too_early))
			tcs_gate_forget_early_runs();
		tcs_gate_pass_slowly(&read);
	}
}

/*
 * Is a utility statement the client's own?  What triggers run after a query or at
 * commit, and functions called by the protocol, have no frame of ours around them,
 * but no portal for a utility statement either.
 */
static bool
utility_is_outermost(void)
{
	ListCell   *lc;

	if (tcs_frame_innermost() != NULL || ActivePortal == NULL)
		return false;
	foreach(lc, ActivePortal->stmts)
	{
		if (lfirst_node(PlannedStmt, lc)->commandType == CMD_UTILITY)
			return true;
	}
	return false;
}

/* COMMIT PREPARED or ROLLBACK PREPARED? */
static bool
is_transaction_kind(Node *statement, TransactionStmtKind kind)
{
	return IsA(statement, TransactionStmt) && ((TransactionStmt *) statement)->kind == kind;
}

/* Its commit record is not written by a commit of ours. */
static void
before_end_of_prepared(bool commits)
{
	tcs_write_before_prepared(commits);
	tcs_session_note_prepared();
	tcs_commits_enter();
}

/* It is done, whatever becomes of this transaction. */
static void
after_end_of_prepared(bool commits)
{
	tcs_commits_leave();
	if (RecoveryInProgress())
		return;
	tcs_acknowledged_note(XactLastRecEnd);
	tcs_write_after_prepared(commits);
}

/*
 * CALL or DO is about to run: what is asked of each transaction that it makes?  Its
 * hint has been looked at when it came to the gate.  A procedure that another one
 * calls can have a rule of its own.
 */
static void
ask_of_commits(Node *statement, bool nested, TcsWriteAsked *asked)
{
	const FuncExpr *call = IsA(statement, CallStmt) ?
		((CallStmt *) statement)->funcexpr : NULL;

	memset(asked, 0, sizeof(*asked));
	if (!tcs_gate_is_open_here())
		return;
	if (!nested && tcs_client_is_chosen())
		*asked = tcs_write_asked_by_hint(tcs_client_statement.choice.choice.write_level,
										 tcs_xact_statement_is_sole());
	if (call != NULL && tcs_rules_exist())
		tcs_rules_function_writes(call->funcid, &asked->level, &asked->rule_id);
}

/*
 * A statement that writes, or makes something that rules may speak of.  "source" is
 * NULL below another one.  Returns what is to be done afterwards; *named_rules is for
 * that, if it is a rename; *asked is set for CALL and DO.
 */
static TcsAfterwards
before_change(const PlannedStmt *pstmt, const char *source, bool nested,
			  TcsAfterwards afterwards, List **named_rules, TcsWriteAsked *asked)
{
	Node	   *statement = pstmt->utilityStmt;

	switch (nodeTag(statement))
	{
		case T_CallStmt:
		case T_DoStmt:
			ask_of_commits(statement, source == NULL, asked);
			break;
		case T_NotifyStmt:
			tcs_session_note_notify();
			break;
		case T_RenameStmt:
		case T_AlterObjectSchemaStmt:
			*named_rules = tcs_rules_before_rename(statement);
			return TCS_AFTER_RENAME;
		case T_CreateStmt:
		case T_CreateTableAsStmt:
		case T_CreateForeignTableStmt:
		case T_ViewStmt:
		case T_CreateSchemaStmt:
			if (!tcs_rules_creates_temporary(statement))
				return TCS_AFTER_CREATION;
			break;
		case T_CreateFunctionStmt:
		case T_DefineStmt:
		case T_AlterOwnerStmt:
			return TCS_AFTER_ROUTINE;
		case T_AlterTableStmt:
			return tcs_rules_alters_table(statement) ?
				TCS_AFTER_ALTERED_RULES : TCS_AFTER_CREATION;
		case T_CopyStmt:
			if (((CopyStmt *) statement)->is_from && tcs_gate_is_open_here())
				tcs_choice_note_utility_write(pstmt, source);
			break;
		case T_TruncateStmt:
		case T_RefreshMatViewStmt:
			if (tcs_gate_is_open_here())
				tcs_choice_note_utility_write(pstmt, source);
			break;
		default:
			break;
	}
	return afterwards;
}

/* What its frame is. */
static int
frame_kind(Node *statement, bool nested)
{
	if (IsA(statement, CallStmt) || IsA(statement, DoStmt))
		return TCS_FRAME_UTILITY | TCS_FRAME_PROCEDURE;
	if (IsA(statement, FetchStmt) && !nested)
		return TCS_FRAME_UTILITY | TCS_FRAME_RESUMED;
	return TCS_FRAME_UTILITY;
}

static void
tcs_ProcessUtility(PlannedStmt *pstmt, const char *queryString,
				   bool readOnlyTree, ProcessUtilityContext context,
				   ParamListInfo params, QueryEnvironment *queryEnv,
				   DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *statement = pstmt->utilityStmt;
	bool		nested = !utility_is_outermost();
	bool		top = !nested && context <= PROCESS_UTILITY_QUERY &&
		tcs_gate_is_open_here();
	bool		commits_prepared = is_transaction_kind(statement, TRANS_STMT_COMMIT_PREPARED);
	bool		ends_prepared = commits_prepared ||
		is_transaction_kind(statement, TRANS_STMT_ROLLBACK_PREPARED);
	TcsAfterwards afterwards = top ?
		decide_afterwards(pstmt, queryString) : TCS_AFTER_NOTHING;
	bool		was_in_block = IsTransactionBlock() ||
		(MyXactFlags & XACT_FLAGS_PIPELINING) != 0;
	bool		was_repeatable = IsolationUsesXactSnapshot();
	List	   *named_rules = NIL;
	int			is = frame_kind(statement, nested);
	TcsFrame	frame;

	frame.armed = NULL;
	frame.prepared.source = NULL;
	if (top)
	{
		tcs_set_local_before_utility(statement, context == PROCESS_UTILITY_TOPLEVEL);
		pstmt = before_utility(pstmt, queryString, params, queryEnv, &frame);
	}
	else if (nested && tcs_gate_is_open_here())
		before_nested_utility(pstmt, queryString, &frame);
	if (ends_prepared && !RecoveryInProgress())
		before_end_of_prepared(commits_prepared);
	if (unlikely(tcs_leftover_is_watched))
		tcs_leftover_refuse_utility(statement);
	afterwards = before_change(pstmt, top ? queryString : NULL, nested, afterwards,
							   &named_rules, &frame.asked);

	tcs_frame_push(&frame, is);
	if (prev_ProcessUtility)
		prev_ProcessUtility(pstmt, queryString, readOnlyTree, context,
							params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context,
								params, queryEnv, dest, qc);
	tcs_frame_pop(&frame);
	if (unlikely(frame.armed != NULL))
		tcs_redirect_check_used(frame.armed);

	if (ends_prepared)
		after_end_of_prepared(commits_prepared);
	after_utility(afterwards, was_in_block, was_repeatable, named_rules);
}

void
tcs_hook_utility_install(void)
{
	prev_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = tcs_ProcessUtility;
}
