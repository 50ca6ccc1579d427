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

/* What values of a type are made of. */
typedef enum TcsShape
{
	TCS_SHAPE_PLAIN,			/* nothing that we look into */
	TCS_SHAPE_ARRAY,
	TCS_SHAPE_ROW,
	TCS_SHAPE_RANGE,
	TCS_SHAPE_MULTIRANGE
} TcsShape;

typedef bool (*TcsTypeTest) (Oid type);

extern TcsShape tcs_shape_of(Oid type, Oid *part);
extern bool tcs_type_is_or_has(Oid type, TcsTypeTest test);
extern bool tcs_type_lacks_binary(Oid type);
extern bool tcs_receive_may_run_code(Oid type);
extern bool tcs_receive_range_runs_code(Oid type);
extern bool tcs_receive_is_special(Oid type);
extern bool tcs_receive_is_ours(Oid type);
extern void tcs_receive_require_end(const StringInfoData *buf, Oid type);
extern Datum tcs_receive(StringInfo buf, Oid type, int32 typmod);
extern bool tcs_receive_needs_text(Oid type, Datum value);

#endif							/* TCS_RECEIVE_H */
