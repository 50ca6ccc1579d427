/*-------------------------------------------------------------------------
 *
 * names.h
 *	  Do the names in a redirected text mean the same objects on the primary?
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_NAMES_H
#define TCS_NAMES_H

#include "nodes/parsenodes.h"

extern uint64 tcs_names_digest(const Query *query);
extern char *tcs_names_mark(uint64 digest, bool wrapped);
extern void tcs_names_require(const char *source, const Query *query);

#endif							/* TCS_NAMES_H */
