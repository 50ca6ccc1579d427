/*-------------------------------------------------------------------------
 *
 * facts.h
 *	  One row of a table: facts as name=value, and readers for them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_TABLES_FACTS_H
#define TCS_TABLES_FACTS_H

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

#include "gate/fallback.h"

typedef struct Facts Facts;

/* A word, and the bit that it stands for. */
typedef struct FactBit
{
	const char *name;
	int			bit;
} FactBit;

extern Facts *facts_parse(const char *text);
extern void facts_check_all_used(const Facts *facts);

/* Each of these returns a default where the row does not say it. */
extern const char *fact_text(Facts *facts, const char *name, const char *otherwise);
extern bool fact_flag(Facts *facts, const char *name);
extern int64 fact_number(Facts *facts, const char *name, int64 otherwise);
extern TcsLevel fact_level(Facts *facts, const char *name, TcsLevel otherwise);
extern TcsPosition fact_position(Facts *facts, const char *name, TcsPosition otherwise);
extern int	fact_one_of(Facts *facts, const char *name, const char *const *words,
						int otherwise);
extern int	fact_bits(Facts *facts, const char *name, const FactBit *words);
extern void fact_fallback(Facts *facts, const char *name, TcsFallback *fallback);

/* in requirement.c */
extern void facts_to_context(Facts *facts, TcsContext *context);
extern TcsReason fact_reason(Facts *facts, const char *name);
extern void say_position(StringInfo out, TcsPosition position);
extern const char *say_reason(TcsReason reason);

#endif							/* TCS_TABLES_FACTS_H */
