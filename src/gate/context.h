/*-------------------------------------------------------------------------
 *
 * context.h
 *	  Reading, once, everything that a requirement depends on.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_CONTEXT_H
#define TCS_CONTEXT_H

#include "choice/choice.h"
#include "gate/requirement.h"

extern void tcs_context_build(TcsContext *context, const TcsChoice *choice,
							  const TcsToken *token);
extern bool tcs_context_token_is_missing(void);

#endif							/* TCS_CONTEXT_H */
