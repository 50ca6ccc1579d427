/*-------------------------------------------------------------------------
 *
 * level.h
 *	  Names and strength of read levels, and the steps of a fallback list.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_LEVEL_H
#define TCS_LEVEL_H

#include "utils/guc.h"

#include "base/tcs.h"

#define TCS_MAX_FALLBACK_STEPS	16

/* A level in a set of levels. */
#define TCS_LEVEL_BIT(level)	(1U << (level))

typedef enum TcsStepKind
{
	TCS_STEP_ERROR,
	TCS_STEP_REDIRECT,
	TCS_STEP_LEVEL
} TcsStepKind;

typedef struct TcsStep
{
	TcsStepKind kind;
	TcsLevel	level;			/* for TCS_STEP_LEVEL */
} TcsStep;

/* A parsed tcs.fallback; always ends in an error, written or not. */
typedef struct TcsFallback
{
	int			nsteps;
	TcsStep		steps[TCS_MAX_FALLBACK_STEPS];
} TcsFallback;

extern const struct config_enum_entry tcs_level_options[];

extern const char *tcs_level_name(TcsLevel level);
extern bool tcs_level_by_name(const char *name, TcsLevel *level);
extern TcsLevel tcs_level_require(const char *name, uint32 except);
extern int	tcs_level_rank(TcsLevel level);
extern bool tcs_level_is_by_token(TcsLevel level);
extern TcsLevel tcs_level_join(TcsLevel a, TcsLevel b);
extern const char *tcs_option_names_hint(const struct config_enum_entry *options, uint32 except);
extern const char *tcs_level_names_hint(void);
extern char *tcs_fallback_text(const TcsFallback *fallback);
extern bool tcs_fallback_parse(const char *text, TcsFallback *fallback,
							   const char **bad_step, int *bad_len);

#endif							/* TCS_LEVEL_H */
