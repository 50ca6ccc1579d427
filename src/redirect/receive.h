/*-------------------------------------------------------------------------
 *
 * receive.h
 *	  Values that are not left to their types to be received.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_RECEIVE_H
#define TCS_RECEIVE_H

#include "lib/stringinfo.h"

extern bool tcs_receive_is_special(Oid type);
extern bool tcs_receive_is_ours(Oid type);
extern void tcs_receive_require_end(const StringInfoData *buf, Oid type);
extern Datum tcs_receive(StringInfo buf, Oid type, int32 typmod);
extern bool tcs_receive_needs_text(Oid type, Datum value);

#endif							/* TCS_RECEIVE_H */
