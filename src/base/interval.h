/*-------------------------------------------------------------------------
 *
 * interval.h
 *	  Intervals of SQL and microseconds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_INTERVAL_H
#define TCS_INTERVAL_H

#include "utils/timestamp.h"

extern int64 tcs_interval_us(const Interval *interval);
extern Interval *tcs_interval_of_us(int64 us);

#endif							/* TCS_INTERVAL_H */
