/*-------------------------------------------------------------------------
 *
 * rule_cache.h
 *	  Rules by data: which level the relations of a statement ask for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_RULE_CACHE_H
#define TCS_RULE_CACHE_H

#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "nodes/plannodes.h"

#include "base/level.h"
#include "write/write_level.h"

/* What the rules say of a statement that reads. */
typedef struct TcsRuleVerdict
{
	uint64		made_for;		/* rules and session as they were */
	bool		has_level;
	bool		unruled;		/* it also reads what no rule speaks of */
	TcsLevel	level;			/* the strongest */
	bool		by_membership;	/* a rule for a role that this one is a member
								 * of counted */
	int			rule;			/* id of that one */
	int			max_staleness;	/* ms; -1: not said */
	int			max_wait;		/* ms; TCS_RULE_NO_WAIT: not said */
	bool		has_fallback;
	TcsFallback fallback;
	bool		has_floor;
	TcsLevel	floor;			/* the strongest */
	int			floor_rule;
	int			floor_staleness;	/* ms, if the floor is "bounded" */
	bool		has_hard;
	TcsLevel	hard;			/* the strongest hard floor */
} TcsRuleVerdict;

#define TCS_RULE_NO_WAIT	(-2)

/*
 * The relations and functions of a statement, as far as rules know them, in any
 * order.  Collected by tcs_rules_collect_*(), interned under a number.
 */
typedef struct TcsRuleItems
{
	List	   *reads;			/* OIDs of relations that have rules */
	List	   *functions;		/* OIDs of functions that have rules */
	List	   *writes;			/* OIDs of relations with rules for writes */
	bool		unruled;		/* there are relations without */
	bool		covered;		/* likewise, but read by a view that has one */
	Oid			sole;			/* of reads, if it is the only one so far and
								 * not in the list; InvalidOid: none */
	int			sole_set;		/* number of its set */
} TcsRuleItems;

/* It is known that there are no rules; looked at for each statement planned. */
extern TCS_LOCAL bool tcs_rules_idle;

/* Counts changes of the rules. */
extern uint64 tcs_rules_changes;

/* A statement is planned to see what it reads, and not to be run. */
extern bool tcs_rules_plan_ahead;

/* Is there any rule for this database?  Loads them if they have changed. */
extern bool tcs_rules_exist(void);

/* Is there one that goes by role or application alone? */
extern bool tcs_rules_by_session_exist(void);

extern void tcs_rules_collect_plan(const PlannedStmt *plan, TcsRuleItems *items);
extern void tcs_rules_collect_query(Query *query, TcsRuleItems *items);
extern bool tcs_rules_collect_simple(const Query *query, TcsRuleItems *items);
extern bool tcs_rules_may_be_inlined(Query *query);
extern PlannedStmt *tcs_rules_plan_to_look(Query *query);
extern void tcs_rules_collect_made(const PlannedStmt *plan, Query *unplanned, TcsRuleItems *items);
extern bool tcs_rules_for_functions_exist(void);
extern void tcs_rules_collect_copy(CopyStmt *copy, TcsRuleItems *items);
extern void tcs_rules_collect_function(Oid function, TcsRuleItems *items);
extern void tcs_rules_collect_functions(Node *node, TcsRuleItems *items);
extern void tcs_rules_collect_write(Oid relid, TcsRuleItems *items);
extern void tcs_rules_collect_writes(const PlannedStmt *plan, TcsRuleItems *items);
extern int	tcs_rules_intern(TcsRuleItems *items);

extern const TcsRuleVerdict *tcs_rules_verdict(int set, bool *wrote_to_group);
extern void tcs_rules_note_write(int set);
extern bool tcs_rules_of_function(Oid function);
extern bool tcs_rules_name_function(Oid function);
extern void tcs_rules_note_function(Oid function);
extern void tcs_rules_function_writes(Oid function, TcsWriteLevel *level, int *rule);
extern void tcs_rules_write_verdict(int set, TcsWriteLevel *level, int *rule);
extern const char *tcs_rules_reason(int rule);
extern void tcs_rules_parents_changed(Oid child);
extern void tcs_rules_init(void);

extern bool tcs_rules_own_table(Oid relid);
extern bool tcs_rules_own_view(Oid relid);

#endif							/* TCS_RULE_CACHE_H */
