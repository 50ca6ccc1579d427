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

extern bool tcs_planning_may_read(Query *query);
extern bool tcs_planning_reads(Query *query);

#endif							/* TCS_PLANNING_READS_H */
