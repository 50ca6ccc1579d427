/*-------------------------------------------------------------------------
 *
 * smart_shutdown.c
 *	  A smart shutdown must not wait for what standbys have connected.
 *
 * NOTES
 *	  A smart shutdown waits until all clients have left.  The worker of a standby
 *	  that asks by tcs.primary_conninfo is such a client, and never leaves by
 *	  itself.  Nor does a connection for redirects over which statements keep
 *	  coming.  (A worker that asks by primary_conninfo is a walsender, and those are
 *	  not waited for.)  So the process that serves one of these ends itself at the
 *	  next question or redirected transaction.  The other side connects again, and
 *	  is refused as everybody is.
 *
 *	  What the postmaster is about is in its own memory alone.  But it writes it into
 *	  postmaster.pid, for pg_ctl and the like.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/fd.h"
#include "utils/pidfile.h"

#include "base/tcs.h"
#include "primary/smart_shutdown.h"

#define TCS_LOOK_INTERVAL	1000000 /* us between looks at the file */

/* Does the postmaster's file say that it is shutting down? */
static bool
postmaster_is_stopping(void)
{
	FILE	   *file = AllocateFile("postmaster.pid", "r");
	char		line[MAXPGPATH + 2];
	bool		stopping = false;

	/* if it cannot be told, go on */
	if (file == NULL)
		return false;
	for (int n = 1; n <= LOCK_FILE_LINE_PM_STATUS && fgets(line, sizeof(line), file); n++)
		stopping = n == LOCK_FILE_LINE_PM_STATUS &&
			strncmp(line, PM_STATUS_STOPPING, strlen(PM_STATUS_STOPPING)) == 0;
	FreeFile(file);
	return stopping;
}

/* End this process, which serves a standby, if a shutdown may be waiting for it. */
void
tcs_leave_if_stopping(void)
{
	static int64 looked_at = 0;
	int64		now = tcs_now();

	if (looked_at != 0 && now - looked_at < TCS_LOOK_INTERVAL)
		return;
	looked_at = now;
	if (postmaster_is_stopping())
		ereport(FATAL,
				(errcode(ERRCODE_CANNOT_CONNECT_NOW),
				 errmsg("the database system is shutting down"),
				 errdetail("A connection of a standby ends, so that a smart shutdown does not wait for it.")));
}
