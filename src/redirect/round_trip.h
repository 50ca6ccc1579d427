/*-------------------------------------------------------------------------
 *
 * round_trip.h
 *	  Does a text mean what a query means?
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_ROUND_TRIP_H
#define TCS_ROUND_TRIP_H

#include "nodes/parsenodes.h"

extern bool tcs_roundtrip_check(const Query *query, const char *text,
								uint64 *names, List **told);
extern char *tcs_roundtrip_source(const Query *query, const char *source,
								  uint64 *names, List **told);

#endif							/* TCS_ROUND_TRIP_H */
