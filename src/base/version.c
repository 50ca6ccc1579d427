/*-------------------------------------------------------------------------
 *
 * version.c
 *	  Which tcs this is.
 *
 * NOTES
 *	  TCS_BUILD is what git says of the sources; a release has none.  The Makefile
 *	  compiles this file again when that has changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/version.h"

#ifdef TCS_BUILD
const char *const tcs_version_string = TCS_VERSION " (" TCS_BUILD ")";
#else
const char *const tcs_version_string = TCS_VERSION;
#endif
