/*-------------------------------------------------------------------------
 *
 * token_setting.h
 *	  The setting tcs.session_token.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_TOKEN_SETTING_H
#define TCS_TOKEN_SETTING_H

#include "token/token.h"

extern char *tcs_session_token;

extern const TcsToken *tcs_guc_token(void);
extern bool tcs_guc_token_is_handed(void);
extern bool tcs_guc_token_is_standing(void);
extern bool tcs_guc_set_token(const TcsToken *token, const char *text);
extern bool tcs_guc_withdraw_token(void);
extern void tcs_guc_drop_token(void);
extern void tcs_guc_overwrite_token(const TcsToken *token, const char *text);
extern void tcs_token_define_setting(void);

#endif							/* TCS_TOKEN_SETTING_H */
