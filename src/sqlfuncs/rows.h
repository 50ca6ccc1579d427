/*-------------------------------------------------------------------------
 *
 * rows.h
 *	  What all SQL-callable functions share: arguments and rows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_ROWS_H
#define TCS_ROWS_H

#include "access/tupdesc.h"
#include "fmgr.h"
#include "utils/guc.h"

#include "choice/choice.h"

extern void tcs_require_preloaded(void);

/*
 * A row of "known" columns.  The function may be declared with fewer or with more:
 * during an upgrade, the SQL script and the library can be of different versions.
 * Columns that the library does not know are null.
 */
extern Datum tcs_one_row(FunctionCallInfo fcinfo, int known, Datum *values, bool *nulls);
extern void tcs_put_row(FunctionCallInfo fcinfo, int known, Datum *values, bool *nulls);

/* Values that may be unknown. */
extern Datum tcs_text_or_null(const char *value, bool *null);
extern Datum tcs_count_or_null(int value, bool *null);

/* Who has chosen a level: one word of a fixed list. */
extern const char *tcs_level_source_name(TcsChoiceBy by, GucSource level_source, int rule);

#endif							/* TCS_ROWS_H */
