/*-------------------------------------------------------------------------
 *
 * redirected_for.c
 *	  What a standby asks of a transaction that it begins here.
 *
 * NOTES
 *	  It says so by a setting, which comes with the BEGIN: what must be there is
 *	  waited for before the transaction has its snapshot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <inttypes.h>

#include "utils/guc.h"

#include "base/compat.h"
#include "base/level.h"
#include "session/redirected_for.h"

static char *tcs_redirected_for = NULL;
const TcsRedirected *tcs_redirected_asked = NULL;

static bool
check_redirected_for(char **newval, void **extra, GucSource source)
{
	TcsRedirected redirected;
	char		level[32];
	char		token[TCS_TOKEN_MAXLEN + 2] = "";
	int			end = 0;

	if (*newval == NULL || **newval == '\0')
		return true;
	memset(&redirected, 0, sizeof(redirected));
	if (sscanf(*newval, "%31s %d %n", level, &redirected.max_wait, &end) < 2 ||
		!tcs_level_by_name(level, &redirected.level))
		return false;
	if ((*newval)[end] == '@')
	{
		const char *position = *newval + end;
		TcsKnown   *known = &redirected.known;

		if (sscanf(position, "@%u,%" SCNx64 ",%" SCNx64 ",%u,%" SCNx64 " %n",
				   &known->replayed.tli, &known->begin, &known->replayed.lsn,
				   &known->newest, &known->least, &end) < 5 || known->replayed.tli == 0)
			return false;
		(void) sscanf(position + end, "%126s", token);
	}
	else
		(void) sscanf(*newval + end, "%126s", token);
	redirected.have_token = token[0] != '\0';
	if (redirected.have_token && !tcs_token_parse(token, &redirected.token))
		return false;
	*extra = tcs_guc_malloc_compat(sizeof(TcsRedirected));
	if (*extra == NULL)
		return false;
	memcpy(*extra, &redirected, sizeof(TcsRedirected));
	return true;
}

static void
assign_redirected_for(const char *newval, void *extra)
{
	tcs_redirected_asked = (const TcsRedirected *) extra;
}

void
tcs_redirected_define_setting(void)
{
	DefineCustomStringVariable(TCS_REDIRECTED_FOR,
							   "Names what a standby needs of the transaction that it begins here.",
							   NULL,
							   &tcs_redirected_for, "", PGC_USERSET,
							   GUC_NO_SHOW_ALL | GUC_DISALLOW_IN_FILE | GUC_NOT_IN_SAMPLE | GUC_NO_RESET_ALL,
							   check_redirected_for, assign_redirected_for, NULL);
}
