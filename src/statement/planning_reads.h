/*-------------------------------------------------------------------------
 *
 * planning_reads.h
 *	  Can planning a statement read tables?
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_PLANNING_READS_H
#define TCS_PLANNING_READS_H

#include "nodes/parsenodes.h"

/* What may planning run, for all that it can read? */
typedef enum TcsPlanningRuns
{
	TCS_PLANNING_RUNS_NOTHING,
	TCS_PLANNING_GUESSES,		/* STABLE functions, for an estimate */
	TCS_PLANNING_EVALUATES		/* IMMUTABLE ones, for their result */
} TcsPlanningRuns;

extern TcsPlanningRuns tcs_planning_runs(Query *query);
extern bool tcs_planning_reads(Query *query);

#endif							/* TCS_PLANNING_READS_H */
