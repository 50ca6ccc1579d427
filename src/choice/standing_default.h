/*-------------------------------------------------------------------------
 *
 * standing_default.h
 *	  What a standing default does not ask for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_STANDING_DEFAULT_H
#define TCS_STANDING_DEFAULT_H

#include "choice/choice.h"
#include "statement/site.h"

extern bool tcs_standing_excuses(TcsSite *site, TcsChoice *choice);
extern bool tcs_standing_excuses_query(Query *query, TcsChoice *choice);

#endif							/* TCS_STANDING_DEFAULT_H */
