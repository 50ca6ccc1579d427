/*-------------------------------------------------------------------------
 *
 * interval.c
 *	  Intervals of SQL and microseconds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/interval.h"

/*
 * Length of an interval in us, by extract(epoch).  What does not fit, such as
 * 'infinity' of 17, becomes the largest or smallest number.
 */
int64
tcs_interval_us(const Interval *interval)
{
	double		seconds = DatumGetFloat8(DirectFunctionCall2(interval_part,
															 CStringGetTextDatum("epoch"),
															 PointerGetDatum(interval)));
	double		us = rint(seconds * USECS_PER_SEC);

	if (us >= (double) PG_INT64_MAX)
		return PG_INT64_MAX;
	if (us <= (double) PG_INT64_MIN)
		return PG_INT64_MIN;
	return (int64) us;
}

/* An interval of microseconds, as hours, minutes and seconds. */
Interval *
tcs_interval_of_us(int64 us)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = us;
	return interval;
}
