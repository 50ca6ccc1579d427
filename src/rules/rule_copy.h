/*-------------------------------------------------------------------------
 *
 * rule_copy.h
 *	  The copy of the rules that a process keeps, and what it knows of relations.
 *
 * For src/rules alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_RULE_COPY_H
#define TCS_RULE_COPY_H

#include "utils/hsearch.h"

#include "rules/rule_cache.h"

/* How specific a rule is: its object first, then role, then application. */
#define TCS_WEIGHT_SELF		32
#define TCS_WEIGHT_ANCESTOR	24
#define TCS_WEIGHT_SCHEMA	16
#define TCS_WEIGHT_ROLE		4
#define TCS_WEIGHT_APPLICATION 2

typedef struct TcsRule
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
	bool		by_membership;	/* this role is at most a member of the rule's */
	bool		floor_in_force; /* also of who became that role */
} TcsRule;

/* A relation in a group. */
typedef struct TcsRuleMember
{
	Oid			relation;		/* key */
	int			group;			/* number, from 1 on */
} TcsRuleMember;

/* A rule that speaks of a relation, and how specifically. */
typedef struct TcsRuleCandidate
{
	int			rule;			/* index */
	int			weight;			/* of the object */
} TcsRuleCandidate;

/*
 * What is known of a relation.  It holds while neither the relation has changed nor
 * any that it depends on: its ancestors, and what is read with it.  The count of
 * changes says so; see rules/rule_known.c.
 */
typedef struct TcsKnownRelation
{
	Oid			relid;			/* key */
	uint64		changed_at;		/* count at the last change of this relation */
	uint64		made_at;		/* count when the look-up began; 0: its
								 * changes are watched, but nothing else is
								 * known */
	uint64		checked_at;		/* count up to which it is known to hold */
	List	   *ancestors;		/* OIDs */
	int			ncandidates;	/* rules of the relation itself */
	TcsRuleCandidate *candidates;
	List	   *groups;			/* numbers; also those of its ancestors */
	List	   *through;		/* OIDs of relations that are read with it */
	List	   *functions;		/* OIDs of functions with rules, likewise */
	bool		has_all;		/* have these all?  Else what its query names */
	bool		is_view;
	int			sole_set;		/* number of the set of it alone; 0: not known */
} TcsKnownRelation;

/* The copy; read from the tables by tcs_rules_load(). */
typedef struct TcsRulesCopy
{
	bool		valid;
	int			n;
	TcsRule    *rule;			/* n of them */
	HTAB	   *members;		/* Oid -> TcsRuleMember */
	int			ngroups;
	LocalTransactionId *group_written;	/* by number: by which transaction */

	/* what kinds of rules there are, so that others need not be looked for */
	bool		have_read;
	bool		have_write;
	bool		have_function;	/* for reads */
	bool		have_any_function;
	bool		have_application;
	bool		have_session;	/* for reads, of no object */
	bool		have_session_write;

	/*
	 * Counts changes of the rules, of relations, and of role or application
	 * of the session; a verdict holds for one value.
	 */
	uint64		epoch;
} TcsRulesCopy;

extern TCS_LOCAL TcsRulesCopy tcs_rules;

/* Does it speak of no object, but of all that a role or an application does? */
static inline bool
tcs_rule_is_by_session(const TcsRule *rule)
{
	return !OidIsValid(rule->relation) && !OidIsValid(rule->function) &&
		!OidIsValid(rule->schema);
}

/* Put the sole relation into the list, since others may come. */
static inline void
tcs_rules_list_sole(TcsRuleItems *items)
{
	if (!OidIsValid(items->sole))
		return;
	items->reads = lappend_oid(items->reads, items->sole);
	items->sole = InvalidOid;
}

/* rules/rule_cache.c */
extern void tcs_rules_load(void);
extern void tcs_rules_match_session(void);

/* Have rules, and what is in force of them, as they are now. */
static inline void
tcs_rules_refresh(void)
{
	if (unlikely(!tcs_rules.valid))
		tcs_rules_load();
	tcs_rules_match_session();
}

/* Relations and functions that a query names. */
typedef struct TcsQueryObjects
{
	List	   *relations;
	List	   *functions;		/* those with rules */
} TcsQueryObjects;

/* rules/rule_known.c */
extern void tcs_rules_forget_known(void);
extern void tcs_rules_relation_changed(Oid relid);
extern TcsKnownRelation *tcs_rules_look_up(Oid relid);
extern TcsKnownRelation *tcs_rules_look_through(Oid relid);
extern bool tcs_rules_have_function(Oid function);
extern void tcs_rules_find_objects(Node *node, TcsQueryObjects *objects);

/* Does an entry of a range table stand for a relation that is read? */
static inline bool
tcs_rules_is_relation(const RangeTblEntry *rte)
{
	/* from 16 on, an expanded view is a subquery that has its number */
	return OidIsValid(rte->relid) &&
		(rte->rtekind == RTE_RELATION || rte->rtekind == RTE_SUBQUERY);
}

#endif							/* TCS_RULE_COPY_H */
