/*-------------------------------------------------------------------------
 *
 * builtin.h
 *	  What the built-in functions and views read, and where they belong.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_BUILTIN_H
#define TCS_BUILTIN_H

#include "base/tcs.h"

/* What a function or a statement reads; each includes the ones before. */
typedef enum TcsReads
{
	TCS_READS_NOTHING,			/* nothing that could be stale */
	TCS_READS_CATALOGS,
	TCS_READS_DATA				/* data of users, or it is not known */
} TcsReads;

extern TcsReads tcs_builtin_reads(Oid function);
extern bool tcs_builtin_stays(Oid function);
extern bool tcs_builtin_view_is_local(Oid relid);
extern bool tcs_builtin_view_stays(Oid relid);

#endif							/* TCS_BUILTIN_H */
