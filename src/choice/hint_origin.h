/*-------------------------------------------------------------------------
 *
 * hint_origin.h
 *	  Where the text is of a statement that a rule has made another of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_HINT_ORIGIN_H
#define TCS_HINT_ORIGIN_H

#include "nodes/parsenodes.h"

extern void tcs_hint_note_origin(const char *source, const Query *query);
extern bool tcs_hint_find_origin(const char *source, int *location, int *len);

#endif							/* TCS_HINT_ORIGIN_H */
