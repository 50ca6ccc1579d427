/*-------------------------------------------------------------------------
 *
 * rule_verdict.c
 *	  Rules by data: what the rules of a statement come to.
 *
 * NOTES
 *	  Of the rules that speak of one relation, the most specific one gives the
 *	  level: that of the relation or function itself, of an ancestor, of the
 *	  schema, of nothing but the session; among those of one kind the one that
 *	  names the role, then the one that names the application.  Of the relations
 *	  of a statement the strongest counts.  Floors are another thing: each that
 *	  applies, applies.
 *
 *	  What a statement has is a set, known by a number that its plan carries, and
 *	  the verdict on a set is kept until rules, relations or session change.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "base/xact.h"
#include "rules/rule_copy.h"
#include "write/write_level.h"

/* Key of a set: what a statement has, in order. */
typedef struct RuleSet
{
	struct RuleSet *next;		/* of the same hash */
	uint32		hash;
	int			number;
	bool		unruled;		/* see TcsRuleItems */
	bool		covered;
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

/* How often a set is judged for one statement, at most. */
#define MAX_TRIES	10

/* Sets; these are never freed, since plans have their numbers. */
static HTAB *sets_by_hash = NULL;
static RuleSet **sets = NULL;
static int	nsets = 0;


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
	tcs_rules_list_sole(items);
	/* of rules that are equal the first counts: planned or not, the same */
	list_sort(items->reads, list_oid_cmp);
	list_sort(items->functions, list_oid_cmp);
	n = list_length(items->reads) + list_length(items->functions) +
		list_length(items->writes);
	if (n == 0 && !tcs_rules.have_session)
		return 0;
	if (n > lengthof(few))
		oids = palloc(n * sizeof(Oid));
	nreads = copy_oids(oids, items->reads);
	nfunctions = copy_oids(oids + nreads, items->functions);
	(void) copy_oids(oids + nreads + nfunctions, items->writes);
	hash = hash_bytes((unsigned char *) oids, n * sizeof(Oid)) ^
		(uint32) (nreads * 31 + nfunctions * 7 + items->unruled + 2 * items->covered);

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
			set->unruled == items->unruled && set->covered == items->covered &&
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
		set->covered = items->covered;
		set->next = bucket->first;
		bucket->first = set;
		set->number = ++nsets;
		sets[nsets] = set;
	}
	MemoryContextSwitchTo(oldcontext);
	if (n == 1 && items->reads != NIL && !items->unruled && !items->covered)
		tcs_rules_look_up(oids[0])->sole_set = set->number;
	if (oids != few)
		pfree(oids);
	return set->number;
}


/* ---- verdicts ---- */

/* Take the level of a rule into a verdict, if it is the stronger one. */
static void
raise_level(TcsRuleVerdict *verdict, const TcsRule *rule)
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
	verdict->by_membership |= rule->by_membership;
}

static void
raise_floor(TcsRuleVerdict *verdict, const TcsRule *rule)
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
weight_of(const TcsRule *rule, int object_weight)
{
	return object_weight + (OidIsValid(rule->role) ? TCS_WEIGHT_ROLE : 0) +
		(rule->application_name ? TCS_WEIGHT_APPLICATION : 0);
}

/* The best rule of an object, or of the session, that was found so far. */
typedef struct Best
{
	const TcsRule *rule;		/* or NULL */
	int			weight;
} Best;

/* Is a rule to be preferred to the best so far, as more specific or stronger? */
static bool
is_preferred(const TcsRule *rule, int weight, const Best *best)
{
	if (best->rule == NULL || weight != best->weight)
		return best->rule == NULL || weight > best->weight;
	return tcs_level_rank(rule->level) > tcs_level_rank(best->rule->level);
}

/* Take in the floor of a rule that applies; its level only if it is the best. */
static void
consider_rule(const TcsRule *rule, int object_weight, TcsRuleVerdict *verdict, Best *best)
{
	int			weight = weight_of(rule, object_weight);

	if (rule->writes)
		return;
	if (rule->has_floor && rule->floor_in_force)
		raise_floor(verdict, rule);
	if (rule->has_level && rule->in_force && is_preferred(rule, weight, best))
	{
		best->rule = rule;
		best->weight = weight;
	}
}

/* The rule that goes by the session alone, or NULL. */
static const TcsRule *
best_session_rule(TcsRuleVerdict *verdict)
{
	Best		best = {NULL};

	for (int i = 0; i < tcs_rules.n && tcs_rules.have_session; i++)
	{
		if (tcs_rule_is_by_session(&tcs_rules.rule[i]))
			consider_rule(&tcs_rules.rule[i], 0, verdict, &best);
	}
	return best.rule;
}

/* Take a relation into a verdict.  Returns whether a rule gives it a level. */
static bool
judge_relation(const TcsKnownRelation *relation, const TcsRule *by_session,
			   TcsRuleVerdict *verdict)
{
	Best		best = {NULL};

	for (int i = 0; i < relation->ncandidates; i++)
	{
		const TcsRuleCandidate *candidate = &relation->candidates[i];

		consider_rule(&tcs_rules.rule[candidate->rule], candidate->weight, verdict, &best);
	}
	if (best.rule == NULL)
		best.rule = by_session;
	if (best.rule == NULL)
		return false;
	raise_level(verdict, best.rule);
	return true;
}

/* Take a function into a verdict. */
static void
judge_function(Oid function, TcsRuleVerdict *verdict)
{
	Best		best = {NULL};

	for (int i = 0; i < tcs_rules.n; i++)
	{
		if (tcs_rules.rule[i].function == function)
			consider_rule(&tcs_rules.rule[i], 0, verdict, &best);
	}
	if (best.rule != NULL)
		raise_level(verdict, best.rule);
}

/*
 * Take a member of a group that is read into a verdict, with all that would be read
 * with it.  What has no rule pulls nobody down.
 */
static void
judge_member(Oid relid, TcsRuleVerdict *verdict)
{
	const TcsKnownRelation *relation = tcs_rules_look_through(relid);
	List	   *through = list_copy(relation->through);
	List	   *functions = list_copy(relation->functions);
	ListCell   *lc;

	(void) judge_relation(relation, NULL, verdict);
	foreach(lc, functions)
		judge_function(lfirst_oid(lc), verdict);
	foreach(lc, through)
		(void) judge_relation(tcs_rules_look_up(lfirst_oid(lc)), NULL, verdict);
}

/* The members of a group pull each other up. */
static void
judge_group(int group, TcsRuleVerdict *verdict)
{
	HASH_SEQ_STATUS status;
	TcsRuleMember *member;
	List	   *relids = NIL;
	ListCell   *lc;

	hash_seq_init(&status, tcs_rules.members);
	while ((member = hash_seq_search(&status)) != NULL)
	{
		if (member->group == group)
			relids = lappend_oid(relids, member->relation);
	}
	/* of one that is gone, nothing is known */
	foreach(lc, relids)
		judge_member(lfirst_oid(lc), verdict);
}

static void
judge_set(RuleSet *set)
{
	TcsRuleVerdict *verdict = &set->verdict;
	const TcsRule *by_session;
	List	   *groups = NIL;
	ListCell   *lc;
	MemoryContext oldcontext;

	memset(verdict, 0, sizeof(*verdict));
	verdict->max_staleness = verdict->floor_staleness = -1;
	verdict->max_wait = TCS_RULE_NO_WAIT;
	list_free(set->groups);
	set->groups = NIL;

	by_session = best_session_rule(verdict);
	for (int i = 0; i < set->nreads; i++)
	{
		TcsKnownRelation *relation = tcs_rules_look_up(set->oids[i]);

		/* what a view reads is spoken of by its rule only if that is in force */
		if (!judge_relation(relation, by_session, verdict) &&
			(!relation->is_view || set->covered))
			verdict->unruled = true;
		groups = list_concat_unique_int(groups, relation->groups);
	}
	foreach(lc, groups)
		judge_group(lfirst_int(lc), verdict);
	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	set->groups = list_copy(groups);
	MemoryContextSwitchTo(oldcontext);
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

	tcs_rules_refresh();
	if (unlikely(set->verdict.made_for != tcs_rules.epoch))
	{
		uint64		judged_for;
		int			tries = 0;

		/*
		 * Looking relations up can let changes in.  All that was looked up is
		 * as it was at some time of this statement once it was judged twice.
		 * Who changes what it reads all the time must not hold it up for
		 * ever; then the next statement judges again.
		 */
		do
		{
			judged_for = tcs_rules.epoch;
			judge_set(set);
		} while (judged_for != tcs_rules.epoch && tcs_rules.valid && ++tries < MAX_TRIES);
		set->verdict.made_for = judged_for;
	}
	*wrote_to_group = false;
	foreach(lc, set->groups)
	{
		if (tcs_rules.group_written[lfirst_int(lc)] == tcs_xact_id())
			*wrote_to_group = true;
	}
	return &set->verdict;
}

/* A rule for writes that is in force speaks of a commit. */
static void
raise_write_level(const TcsRule *rule, TcsWriteLevel *level, int *id)
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

	tcs_rules_refresh();
	for (int i = 0; i < set->nwrites; i++)
	{
		TcsKnownRelation *relation = tcs_rules_look_up(set->oids[set->nreads + set->nfunctions + i]);

		for (int j = 0; j < relation->ncandidates; j++)
			raise_write_level(&tcs_rules.rule[relation->candidates[j].rule], level, id);
	}
	for (int i = 0; i < tcs_rules.n && tcs_rules.have_session_write; i++)
	{
		if (tcs_rule_is_by_session(&tcs_rules.rule[i]))
			raise_write_level(&tcs_rules.rule[i], level, id);
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
		ListCell   *lc;

		foreach(lc, tcs_rules_look_up(set->oids[set->nreads + set->nfunctions + i])->groups)
			tcs_rules.group_written[lfirst_int(lc)] = tcs_xact_id();
	}
	if (id != 0)
		tcs_write_require(level, id);
}

/* The same of what a function or procedure writes. */
void
tcs_rules_function_writes(Oid function, TcsWriteLevel *level, int *id)
{
	if (!tcs_rules.have_write)
		return;
	tcs_rules_refresh();
	for (int i = 0; i < tcs_rules.n; i++)
	{
		if (tcs_rules.rule[i].function == function)
			raise_write_level(&tcs_rules.rule[i], level, id);
	}
}

/* A function is about to run: a rule may ask for more of what it writes. */
void
tcs_rules_note_function(Oid function)
{
	TcsWriteLevel level = TCS_WRITE_DEFAULT;
	int			id = 0;

	tcs_rules_function_writes(function, &level, &id);
	if (id != 0)
		tcs_write_require(level, id);
}

/* Why a rule was made, as its maker said; or NULL. */
const char *
tcs_rules_reason(int id)
{
	for (int i = 0; i < tcs_rules.n; i++)
	{
		if (tcs_rules.rule[i].id == id)
			return tcs_rules.rule[i].reason;
	}
	return NULL;
}
