/*-------------------------------------------------------------------------
 *
 * version.h
 *	  Which tcs this is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_VERSION_H
#define TCS_VERSION_H

#include "base/tcs.h"

/* the release, and what git says of the build */
extern TCS_LOCAL const char *const tcs_version_string;

#endif							/* TCS_VERSION_H */
