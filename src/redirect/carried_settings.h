/*-------------------------------------------------------------------------
 *
 * carried_settings.h
 *	  A session's settings, carried to where its statement runs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_CARRIED_SETTINGS_H
#define TCS_CARRIED_SETTINGS_H

#include "lib/stringinfo.h"

extern void tcs_settings_collect(StringInfo buf);
extern void tcs_settings_apply(const char *data, int len);
extern void tcs_settings_require_unchanged(void);
extern bool tcs_settings_is_carried(const char *name);

#endif							/* TCS_CARRIED_SETTINGS_H */
