/*-------------------------------------------------------------------------
 *
 * worker_link_state.c
 *	  The state of the worker's link: what is told of it, and its end.
 *
 * NOTES
 *	  Below both who tends the connection and who judges answers: each of them
 *	  can find that the link is of no use.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "standby/worker_hosts.h"
#include "standby/worker_parts.h"

/*
 * Does a state of the link belong into the log?
 *
 * A reason is logged once until the link has been up for some time.  That it is up
 * is logged only after a reason was.  Otherwise the log could fill: hosts of a list
 * are tried by turns and have a reason each, and a proxy may lead to a server that
 * is of use and to one that is not by turns.
 */
static bool
is_news(TcsLinkState state, const char *reason)
{
	static uint32 told[8];
	static int	ntold = 0;
	static int64 up_since = 0;
	static bool told_up = false;
	uint32		hash = hash_bytes((const unsigned char *) reason, strlen(reason));
	bool		news = !told_up;

	if (state == TCS_LINK_UP)
	{
		up_since = tcs_now();
		told_up = true;
		return news;
	}
	if (up_since != 0 && tcs_now() - up_since >= TCS_SETTLED_AFTER)
		ntold = 0;
	up_since = 0;
	for (int i = 0; i < Min(ntold, lengthof(told)); i++)
	{
		if (told[i] == hash)
			return false;
	}
	told[ntold++ % lengthof(told)] = hash;
	told_up = false;
	return true;
}

/*
 * Publish a state of the link; a change goes to the server log.  "general" is the
 * reason without names of hosts and roles.
 */
void
tcs_worker_set_link_to(TcsLinkState state, const char *reason, const char *general)
{
	if (!tcs_fresh_set_link(state, reason, general))
		return;
	if (state == TCS_LINK_UP)
		tcs_search_note_primary();
	if (state == TCS_LINK_CONNECTING || !is_news(state, reason))
		return;
	if (state == TCS_LINK_UP)
		ereport(LOG, (errmsg("tcs: connected to the primary")));
	else
		ereport(LOG,
				(errmsg("tcs: no usable answer from the primary: %s", reason)));
}

/* The same for a reason that everybody may see. */
void
tcs_worker_set_link(TcsLinkState state, const char *reason)
{
	tcs_worker_set_link_to(state, reason, reason);
}

/*
 * Close the connection.  Whose question is lost with it is asked for at once by
 * the next one; what a quorum was asked there, no other answer tells.  Nor does
 * what a server has said of its quorum outlive the connection: the next one may
 * be to another server, and this one may have lied.
 */
void
tcs_worker_close_connection(void)
{
	TcsConfirmed nothing = {0};

	tcs_worker.last_asked = 0;
	tcs_worker.told = InvalidXLogRecPtr;
	tcs_worker.less_since = 0;
	memset(&tcs_worker.round, 0, sizeof(tcs_worker.round));
	tcs_fresh_set_confirmed(&nothing);
	tcs_conn_close();
	(void) tcs_queue_wake_worker_at(1);
}
