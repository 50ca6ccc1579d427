/*-------------------------------------------------------------------------
 *
 * token_setting.c
 *	  The setting tcs.session_token.
 *
 * NOTES
 *	  The check hook parses, and leaves the token in "extra"; the assign hook only
 *	  assigns.  See also base/settings.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/guc.h"

#include "base/compat.h"
#include "base/settings.h"
#include "base/stats.h"
#include "token/token_setting.h"

char	   *tcs_session_token = NULL;

/* The extra of tcs.session_token. */
typedef struct HeldToken
{
	TcsToken	token;
	bool		handed;			/* the client handed it in, or one that it was
								 * raised from */
	bool		standing;		/* configuration, database or role have it */
} HeldToken;

static HeldToken *held_token = NULL;
static const TcsToken *trusted_token = NULL;	/* see tcs_guc_set_token() */

/* The token that the client handed in, raised by what was done since; or NULL. */
const TcsToken *
tcs_guc_token(void)
{
	return held_token ? &held_token->token : NULL;
}

/*
 * Has the client handed in a token?  Not if it is only what this session has seen
 * and done here.  '' is none, as after RESET and DISCARD ALL.
 */
bool
tcs_guc_token_is_handed(void)
{
	return held_token != NULL && held_token->handed;
}

/*
 * Does it come from the configuration, the database or the role?  No more when this
 * session has raised it.
 */
bool
tcs_guc_token_is_standing(void)
{
	return held_token != NULL && held_token->standing;
}

/*
 * Set tcs.session_token as SET would, to a token of our own making.
 *
 * Reports failure by its result and a LOG message.
 */
bool
tcs_guc_set_token(const TcsToken *token, const char *text)
{
	int			result;

	trusted_token = token;
	result = set_config_option("tcs.session_token", text,
							   PGC_USERSET, PGC_S_SESSION,
							   GUC_ACTION_SET, true, LOG, false);
	trusted_token = NULL;
	return result > 0;
}

/*
 * Report that there is no token, and keep the one in force: the value becomes '',
 * and what was parsed stays.  Reports failure as tcs_guc_set_token() does.
 */
bool
tcs_guc_withdraw_token(void)
{
	return tcs_guc_set_token(&held_token->token, "");
}

/* Was the token in force set by SET LOCAL? */
static bool
token_is_local(void)
{
	int			n;
	struct config_generic **settings = tcs_all_settings_compat(&n);

	for (int i = 0; i < n; i++)
	{
		if (strcmp(settings[i]->name, "tcs.session_token") == 0)
			return settings[i]->stack != NULL &&
				(settings[i]->stack->state == GUC_LOCAL ||
				 settings[i]->stack->state == GUC_SET_LOCAL);
	}
	return false;
}

/*
 * Drop the session's token, as SET to '' would; after SET LOCAL for the transaction
 * only, since the one before is another token.  Throws.
 */
void
tcs_guc_drop_token(void)
{
	(void) set_config_option("tcs.session_token", "", PGC_USERSET, PGC_S_SESSION,
							 token_is_local() ? GUC_ACTION_LOCAL : GUC_ACTION_SET,
							 true, 0, false);
}

/*
 * Write another token over the one that is set, in place.
 *
 * This is for the commit callback, which can neither throw nor allocate; the
 * value there is one that tcs_guc_set_token() has just set, so that it is
 * nobody else's, and that has the same length.
 */
void
tcs_guc_overwrite_token(const TcsToken *token, const char *text)
{
	Assert(held_token != NULL && strlen(tcs_session_token) == strlen(text));

	strcpy(tcs_session_token, text);
	held_token->token = *token;
}

static bool
check_session_token(char **newval, void **extra, GucSource source)
{
	HeldToken	held = {.handed = true,.standing = source < PGC_S_CLIENT};
	HeldToken  *stored;

	/* with our own doing, a token can be in force that is not shown */
	if (trusted_token)
	{
		held.token = *trusted_token;
		held.handed = tcs_guc_token_is_handed();
		held.standing = false;
	}
	else if (*newval == NULL || **newval == '\0')
	{
		*extra = NULL;
		return true;
	}
	else if (!tcs_token_parse(*newval, &held.token))
	{
		GUC_check_errcode(ERRCODE_INVALID_PARAMETER_VALUE);
		/* core's message would repeat the whole text, however long */
		GUC_check_errmsg("invalid value for parameter \"%s\": \"%.*s\"",
						 "tcs.session_token",
						 pg_mbcliplen(*newval, strlen(*newval), TCS_TOKEN_MAXLEN),
						 *newval);
		GUC_check_errdetail("This is not a session token, or it was damaged on its way.");
		GUC_check_errhint("Hand back the text of tcs.session_token or tcs.session_token() unchanged, or '' for no token.");
		return false;
	}

	stored = tcs_guc_malloc_compat(sizeof(HeldToken));
	if (stored == NULL)
		return false;
	*stored = held;
	*extra = stored;
	return true;
}

static void
assign_session_token(const char *newval, void *extra)
{
	held_token = (HeldToken *) extra;
	tcs_stats_set_token_handed(tcs_guc_token_is_handed());
	tcs_settings_generation++;
}

void
tcs_token_define_setting(void)
{
	DefineCustomStringVariable("tcs.session_token",
							   "Sets the token of what this session must see.",
							   "The server raises it at each commit that wrote; hand it to the node that is read next.",
							   &tcs_session_token, "", PGC_USERSET,
							   GUC_REPORT | GUC_DISALLOW_IN_FILE | GUC_NOT_IN_SAMPLE,
							   check_session_token, assign_session_token, NULL);
}
