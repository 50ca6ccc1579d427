/*-------------------------------------------------------------------------
 *
 * standing_default.h
 *	  What a standing default does not ask for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_STANDING_H
#define TCS_STANDING_H

#include "statement/site.h"

extern bool tcs_standing_excuses(TcsSite *site);
extern bool tcs_standing_excuses_query(Query *query);

#endif							/* TCS_STANDING_H */
