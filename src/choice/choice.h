/*-------------------------------------------------------------------------
 *
 * choice.h
 *	  Which level a statement gets, and why.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_CHOICE_H
#define TCS_CHOICE_H

#include "nodes/plannodes.h"

#include "base/settings.h"
#include "choice/hint.h"
#include "rules/rule_cache.h"
#include "statement/site.h"
#include "token/token_setting.h"

/* Who has decided the level. */
typedef enum TcsChoiceBy
{
	TCS_BY_SETTING,				/* tcs.read_level; see level_source */
	TCS_BY_RULE,
	TCS_BY_FLOOR,				/* of a rule, above what was asked for */
	TCS_BY_HINT,
	TCS_BY_RELAX,				/* the emergency valve, below it */
	TCS_BY_EXEMPT				/* standing defaults do not bind it */
} TcsChoiceBy;

/* All that a statement's requirement and its fallback are made from. */
typedef struct TcsChoice
{
	TcsLevel	level;
	TcsChoiceBy by;
	GucSource	level_source;	/* for SETTING */
	int			rule;			/* for RULE and FLOOR: which */
	bool		hinted;			/* the hint named the level */
	bool		plain;			/* neither hint nor rule had a say */
	uint64		serial;			/* same number, same choice; 0: unknown */
	int			max_staleness;	/* ms */
	int			max_lag;		/* kB, -1: off */
	int			max_wait;		/* ms, -1: for ever; under its limit */
	bool		has_floor;
	TcsLevel	floor;			/* of the rules; no step of the fallback goes
								 * below, nor beyond max_staleness */
	int			floor_staleness;	/* ms, if a floor is "bounded"; else -1 */
	bool		has_hard;
	TcsLevel	hard;			/* the emergency valve goes no lower */
	TcsLevel	asked;			/* for RELAX: level, by and rule without it */
	TcsChoiceBy asked_by;
	int			asked_rule;
	TcsWriteLevel write_level;	/* the hint's; DEFAULT: not said */
	const TcsFallback *fallback;
	const TcsToken *token;		/* the hint's; NULL: the session's, which may
								 * be replaced before it is looked at */
} TcsChoice;

/* A choice that outlives the statement it was made for. */
typedef struct TcsKeptChoice
{
	TcsChoice	choice;
	TcsFallback fallback;
	TcsToken	token;
} TcsKeptChoice;

/* Did the client say it in this session? */
static inline bool
tcs_source_is_said(GucSource source)
{
	return source >= PGC_S_INTERACTIVE;
}

/* The token that counts, or NULL. */
static inline const TcsToken *
tcs_choice_token(const TcsChoice *choice)
{
	return choice->token ? choice->token : tcs_guc_token();
}

extern void tcs_choice_keep(const TcsChoice *choice, TcsKeptChoice *kept);
extern void tcs_choice_join(const TcsKeptChoice *outer, TcsChoice *choice);

extern void tcs_choice_make(const TcsHint *hint, const TcsRuleVerdict *rules,
							TcsChoice *choice);
extern bool tcs_choice_relax(TcsChoice *choice, int rank);
extern void tcs_choice_raise_for_group(TcsChoice *choice);
extern void tcs_choice_add_inner(TcsChoice *choice, const TcsChoice *inner);
extern void tcs_choice_by_settings(TcsChoice *choice);
extern void tcs_choice_of_plan(const PlannedStmt *plan, TcsHint *hint, TcsChoice *choice);
extern bool tcs_choice_of_utility(const PlannedStmt *pstmt, const char *source,
								  TcsHint *hint, TcsChoice *choice,
								  TcsText *prepared_text);
extern void tcs_choice_of_query(Query *query, const char *source, TcsHint *hint,
								TcsChoice *choice);
extern bool tcs_choice_of_simple_query(const Query *query, const char *source,
									   TcsChoice *choice);
extern void tcs_choice_of_function(Oid function, TcsChoice *choice);
extern void tcs_choice_of_plan_by_rules(const PlannedStmt *plan, TcsChoice *choice);
extern bool tcs_choice_is_marked(const PlannedStmt *plan, bool hint_was_seen);
extern List *tcs_choice_functions(Query *query);
extern void tcs_choice_mark(PlannedStmt *plan, const TcsText *text, List *functions,
							Query *unplanned);
extern void tcs_choice_note_write(const PlannedStmt *plan);
extern TcsWriteLevel tcs_choice_write_level_of_hint(const TcsText *text);
extern void tcs_choice_check_utility_hint(const PlannedStmt *pstmt, const char *source);
extern List *tcs_choice_truncated_tables(const TruncateStmt *truncate);
extern bool tcs_choice_collect_utility_writes(Node *statement, TcsRuleItems *items);
extern void tcs_choice_note_utility_write(const PlannedStmt *pstmt, const char *source);

#endif							/* TCS_CHOICE_H */
