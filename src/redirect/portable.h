/*-------------------------------------------------------------------------
 *
 * portable.h
 *	  Whether a statement can run on another node, and come back as it is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_PORTABLE_H
#define TCS_PORTABLE_H

#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"

/* How a column's values travel. */
typedef enum TcsTransfer
{
	TCS_TRANSFER_BINARY,
	TCS_TRANSFER_TEXT,
	TCS_TRANSFER_IMPOSSIBLE
} TcsTransfer;

extern const char *tcs_portable_query(Query *query, bool *runs_user_code,
									  bool *leaves_cursors);
extern TcsTransfer tcs_portable_type(Oid type);
extern bool tcs_portable_is_name(Oid type);
extern Oid	tcs_portable_text_type(Oid type);

#endif							/* TCS_PORTABLE_H */
