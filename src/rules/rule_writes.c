/*-------------------------------------------------------------------------
 *
 * rule_writes.c
 *	  Rules by data: the relations that a statement writes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "parser/parsetree.h"

#include "base/compat.h"
#include "rules/rule_copy.h"

/* Does it matter to any rule that a relation is written? */
static bool
write_matters(const TcsKnownRelation *relation)
{
	bool		matters = relation->groups != NIL || tcs_rules.have_session_write;

	for (int i = 0; i < relation->ncandidates && !matters; i++)
		matters = tcs_rules.rule[relation->candidates[i].rule].writes;
	return matters;
}

/*
 * Add a relation that a statement writes.  Which partition gets a row is not known
 * before: any may.
 */
void
tcs_rules_collect_write(Oid relid, TcsRuleItems *items)
{
	TcsKnownRelation *relation;
	ListCell   *lc;

	if (relid < FirstNormalObjectId || (!tcs_rules.have_write && tcs_rules.ngroups == 0) ||
		tcs_rules_own_table(relid))
		return;
	relation = tcs_rules_look_up(relid);
	if (write_matters(relation))
		items->writes = list_append_unique_oid(items->writes, relid);
	foreach(lc, relation->is_view ? NIL : list_copy(relation->through))
	{
		if (write_matters(tcs_rules_look_up(lfirst_oid(lc))))
			items->writes = list_append_unique_oid(items->writes, lfirst_oid(lc));
	}
}

/* Add what a plan writes, views that it writes through included. */
void
tcs_rules_collect_writes(const PlannedStmt *plan, TcsRuleItems *items)
{
	Bitmapset  *results;
	ListCell   *lc;
	int			index = -1;

	if (!tcs_rules.have_write && tcs_rules.ngroups == 0)
		return;
	results = tcs_result_relations_compat(plan);
	while ((index = bms_next_member(results, index)) >= 0)
		tcs_rules_collect_write(rt_fetch(index, plan->rtable)->relid, items);
	foreach(lc, plan->rtable)
	{
		const RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (tcs_rules_is_relation(rte) &&
			(tcs_required_perms_compat(plan->TCS_PERM_INFOS, rte) & (ACL_INSERT | ACL_UPDATE | ACL_DELETE)) != 0)
			tcs_rules_collect_write(rte->relid, items);
	}
}
