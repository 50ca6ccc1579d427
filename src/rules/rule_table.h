/*-------------------------------------------------------------------------
 *
 * rule_table.h
 *	  The tables that rules and groups are kept in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_RULE_TABLE_H
#define TCS_RULE_TABLE_H

#include "access/htup.h"
#include "nodes/nodes.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

/* Columns of tcs.rule, in the order of the SQL script. */
enum
{
	Anum_rule_id = 1,
	Anum_rule_relation,
	Anum_rule_function,
	Anum_rule_schema,
	Anum_rule_role,
	Anum_rule_missing_relation,
	Anum_rule_missing_function,
	Anum_rule_missing_schema,
	Anum_rule_missing_role,
	Anum_rule_unresolved,
	Anum_rule_held,
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
	Anum_rule_function_oid,
	Anum_rule_oids_of,
	Anum_rule_set_by,
	Anum_rule_set_at,
	Natts_rule = Anum_rule_set_at
};

/* Columns of tcs.rule_group. */
enum
{
	Anum_group_relation = 1,
	Anum_group_name,
	Anum_group_missing,
	Anum_group_held,
	Natts_group = Anum_group_held
};

typedef enum TcsRuleTable
{
	TCS_TABLE_RULE,
	TCS_TABLE_GROUP
} TcsRuleTable;

/* rules/rule_table.c */
extern Oid	tcs_rule_table_oid(TcsRuleTable table);
extern Relation tcs_rule_table_open(TcsRuleTable table, LOCKMODE lockmode);
extern Relation tcs_rule_table_try_open(TcsRuleTable table, LOCKMODE lockmode);
extern List *tcs_rule_table_rows(Relation rel);
extern void tcs_rule_table_insert(Relation rel, HeapTuple tuple);
extern void tcs_rule_table_update(Relation rel, HeapTuple old, HeapTuple tuple);
extern bool tcs_rule_table_try_update(Relation rel, HeapTuple old, HeapTuple tuple);
extern bool tcs_rule_table_delete(Relation rel, HeapTuple tuple);
extern void tcs_rule_table_changed(void);
extern char *tcs_rule_text(Relation rel, HeapTuple tuple, int attnum);
extern Oid	tcs_rule_oid(Relation rel, HeapTuple tuple, int attnum);
extern char *tcs_rule_origin_of_oids(void);
extern Oid	tcs_rule_known_object(Relation rel, HeapTuple tuple, int attnum);
extern bool tcs_rule_is_for(Relation rel, HeapTuple tuple, int attnum, Oid object, const char *name);
extern bool tcs_rule_same_object(Relation rel, HeapTuple a, HeapTuple b, int attnum);
extern void tcs_rules_object_dropped(Oid class, Oid object, int column, int flags);
extern void tcs_rules_trigger_created(Oid trigger);

/* rules/rule_rename.c */
extern List *tcs_rules_before_rename(const Node *statement);
extern void tcs_rules_after_rename(const List *named);

/* rules/rule_names.c */
extern Oid	tcs_rule_keep_schema(const char *name, bool missing_ok);
extern void tcs_rule_keep_function(Oid function);
extern void tcs_rule_expect_renames(void);
extern void tcs_rules_object_altered(Oid class, Oid object, int column);

/* rules/rule_check.c */
extern HeapTuple tcs_rule_check_rule(Relation rel, HeapTuple tuple);
extern HeapTuple tcs_rule_check_group(Relation rel, HeapTuple tuple, bool is_new);

/* rules/rule_target.c */
extern bool tcs_rule_check_object(Oid class, Oid object, int elevel);

/* rules/rule_resolve.c */
extern int32 tcs_rule_id(Relation rel, HeapTuple tuple);
extern bool tcs_rule_is_unresolved(Relation rel, HeapTuple tuple);
extern HeapTuple tcs_rule_as_resolved(Relation rel, HeapTuple tuple, bool partly);
extern HeapTuple tcs_rule_resolve_new(Relation rel, HeapTuple tuple);
extern bool tcs_rule_same_criteria(Relation rel, HeapTuple a, HeapTuple b);
extern int	tcs_rules_resolve_all(void);
extern void tcs_rules_role_created(Oid role);

/*
 * Locks on objects, by number of a column: on the tables, and the last one on schemas,
 * functions and types.  Core takes none of these, so nobody gets one but by what is
 * written here.
 */
#define TCS_LOCK_CREATION	1	/* see rules/rule_resolve.c */
#define TCS_LOCK_CHANGE		2	/* held by set_rule() and its kin */
#define TCS_LOCK_NAME		3	/* see rules/rule_names.c */

extern bool tcs_rules_creates_temporary(const Node *statement);
extern bool tcs_rules_alters_table(const Node *statement);
extern void tcs_rules_after_creation(bool functions);
extern void tcs_rules_after_altered_table(void);

#endif							/* TCS_RULE_TABLE_H */
