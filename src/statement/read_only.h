/*-------------------------------------------------------------------------
 *
 * read_only.h
 *	  What a read-only transaction refuses anyway.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_READ_ONLY_H
#define TCS_READ_ONLY_H

#include "statement/site.h"

extern void tcs_refused_check(const TcsSite *site);
extern void tcs_refused_check_query(Query *query);

#endif							/* TCS_READ_ONLY_H */
