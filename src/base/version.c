/*-------------------------------------------------------------------------
 *
 * version.c
 *	  Which tcs this is.
 *
 * NOTES
 *	  TCS_BUILD is what git says of the sources; a release has none.  The Makefile
 *	  compiles this file anew when that has changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "base/tcs.h"
#include "base/version.h"

#ifdef TCS_BUILD
const char *const tcs_version_string = TCS_VERSION " (" TCS_BUILD ")";
#else
const char *const tcs_version_string = TCS_VERSION;
#endif

PG_FUNCTION_INFO_V1(tcs_version);
Datum
tcs_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text_with_len(tcs_version_string,
											  strlen(tcs_version_string)));
}
