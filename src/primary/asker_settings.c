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
#include "primary/read_index.h"

static char *tcs_asker = NULL;

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

/* A setting that is shown as the answer to a question. */
static void
define_question(const char *name, const char *description, GucShowHook show)
{
	static char *dummies[TCS_QUESTION_COUNT];
	static int	ndummies = 0;

	DefineCustomStringVariable(name, description, NULL,
							   &dummies[ndummies++], "", PGC_INTERNAL,
							   GUC_NO_SHOW_ALL | GUC_DISALLOW_IN_FILE | GUC_NOT_IN_SAMPLE | GUC_NO_RESET_ALL,
							   NULL, NULL, show);
}

/* Who shows the answers uses what a standby has said, so it is handed in. */
void
tcs_asker_define_settings(const GucShowHook *show)
{
	DefineCustomStringVariable("tcs.asker",
							   "Names the versions of a standby that asks for the read index.",
							   NULL,
							   &tcs_asker, "", PGC_BACKEND,
							   GUC_NO_SHOW_ALL | GUC_DISALLOW_IN_FILE | GUC_NOT_IN_SAMPLE,
							   check_asker, NULL, NULL);

	define_question("tcs.read_index",
					"Shows the read index to a standby that asks over a replication connection.",
					show[TCS_ASK_READ_INDEX]);
	define_question("tcs.quorum_index",
					"Shows what a quorum has confirmed, in addition.",
					show[TCS_ASK_QUORUM]);
	define_question("tcs.quorum_round",
					"Makes the primary ask its quorum, in addition.",
					show[TCS_ASK_ROUND]);
	define_question("tcs.lease_first",
					"Asks for a read lease, holding none.",
					show[TCS_ASK_LEASE_FIRST]);
	define_question("tcs.lease_next",
					"Asks for the renewal of a read lease, having what was told last.",
					show[TCS_ASK_LEASE_NEXT]);
	define_question("tcs.lease_drop",
					"Gives a read lease back.",
					show[TCS_ASK_LEASE_DROP]);
}

/* The versions that the peer of this connection told at its start. */
const char *
tcs_guc_asker(void)
{
	return tcs_asker ? tcs_asker : "";
}
