/*-------------------------------------------------------------------------
 *
 * read_only.h
 *	  What a read-only transaction refuses anyway.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_REFUSED_H
#define TCS_REFUSED_H

#include "statement/site.h"

extern void tcs_refused_check(const TcsSite *site);
extern void tcs_refused_check_query(Query *query);

#endif							/* TCS_REFUSED_H */
