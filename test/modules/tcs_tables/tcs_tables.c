/*-------------------------------------------------------------------------
 *
 * tcs_tables.c
 *	  A module for tests: the pure stages of tcs, driven by tables.
 *
 * NOTES
 *	  The sources of the stages are compiled into this module a second time,
 *	  rather than called in tcs.so.  That proves that they are pure: a stage
 *	  that comes to need another part of tcs leaves an undefined symbol, and the
 *	  build fails.  It needs no symbols of tcs.so to be visible, and a server
 *	  without tcs can run the tables.
 *
 *	  Where a stage reads settings by name, this module defines them; the list
 *	  is in choice.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"

PG_MODULE_MAGIC;
