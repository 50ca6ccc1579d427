/*-------------------------------------------------------------------------
 *
 * errcodes.h
 *	  SQLSTATEs of tcs.
 *
 *	  Class TC lies in the range that the SQL standard leaves to
 *	  implementations (classes starting with I to Z).  A driver may take any
 *	  of the class as "ask another node".
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_ERRCODES_H
#define TCS_ERRCODES_H

#include "utils/elog.h"

#define ERRCODE_TCS_BEHIND				MAKE_SQLSTATE('T','C','0','0','1')
#define ERRCODE_TCS_FOREIGN_CLUSTER		MAKE_SQLSTATE('T','C','0','0','2')
#define ERRCODE_TCS_LOST_IN_FAILOVER	MAKE_SQLSTATE('T','C','0','0','3')
#define ERRCODE_TCS_FRESHNESS_UNKNOWN	MAKE_SQLSTATE('T','C','0','0','4')
#define ERRCODE_TCS_NO_TOKEN			MAKE_SQLSTATE('T','C','0','0','5')

#endif							/* TCS_ERRCODES_H */
