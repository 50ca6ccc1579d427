/*-------------------------------------------------------------------------
 *
 * asker_settings.c
 *	  Settings by which a standby asks its primary; not for users.
 *
 * NOTES
 *	  A replication connection cannot call functions, but it can SHOW a setting.  The
 *	  answer is made when it is shown.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/guc.h"

#include "primary/asker_settings.h"

static char *tcs_asker = NULL;
static char *tcs_read_index_dummy = NULL;
static char *tcs_quorum_index_dummy = NULL;
static char *tcs_quorum_round_dummy = NULL;

/*
 * What a standby says of itself at its start is shown in databases of any
 * encoding, and start-up options are in none.
 */
static bool
check_asker(char **newval, void **extra, GucSource source)
{
	for (const char *p = *newval; p && *p != '\0'; p++)
	{
		if (*p < ' ' || *p > '~')
		{
			GUC_check_errdetail("It can only contain printable ASCII characters.");
			return false;
		}
	}
	return true;
}

/* Who shows the answers uses what a standby has said, so it is handed in. */
void
tcs_asker_define_settings(GucShowHook show_read_index, GucShowHook show_quorum,
						  GucShowHook show_round)
{
	DefineCustomStringVariable("tcs.asker",
							   "Names the versions of a standby that asks for the read index.",
							   NULL,
							   &tcs_asker, "", PGC_BACKEND,
							   GUC_NO_SHOW_ALL | GUC_DISALLOW_IN_FILE | GUC_NOT_IN_SAMPLE,
							   check_asker, NULL, NULL);

	DefineCustomStringVariable("tcs.read_index",
							   "Shows the read index to a standby that asks over a replication connection.",
							   NULL,
							   &tcs_read_index_dummy, "", PGC_INTERNAL,
							   GUC_NO_SHOW_ALL | GUC_DISALLOW_IN_FILE | GUC_NOT_IN_SAMPLE | GUC_NO_RESET_ALL,
							   NULL, NULL, show_read_index);

	DefineCustomStringVariable("tcs.quorum_index",
							   "Shows what a quorum has confirmed, in addition.",
							   NULL,
							   &tcs_quorum_index_dummy, "", PGC_INTERNAL,
							   GUC_NO_SHOW_ALL | GUC_DISALLOW_IN_FILE | GUC_NOT_IN_SAMPLE | GUC_NO_RESET_ALL,
							   NULL, NULL, show_quorum);

	DefineCustomStringVariable("tcs.quorum_round",
							   "Makes the primary ask its quorum, in addition.",
							   NULL,
							   &tcs_quorum_round_dummy, "", PGC_INTERNAL,
							   GUC_NO_SHOW_ALL | GUC_DISALLOW_IN_FILE | GUC_NOT_IN_SAMPLE | GUC_NO_RESET_ALL,
							   NULL, NULL, show_round);
}

/* The versions that the peer of this connection told at its start. */
const char *
tcs_guc_asker(void)
{
	return tcs_asker ? tcs_asker : "";
}
