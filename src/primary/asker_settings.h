/*-------------------------------------------------------------------------
 *
 * asker_settings.h
 *	  Settings by which a standby asks its primary; not for users.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_ASKER_SETTINGS_H
#define TCS_ASKER_SETTINGS_H

#include "utils/guc.h"

extern const char *tcs_guc_asker(void);
extern void tcs_asker_define_settings(const GucShowHook *show);

#endif							/* TCS_ASKER_SETTINGS_H */
