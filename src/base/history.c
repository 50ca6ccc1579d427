/*-------------------------------------------------------------------------
 *
 * history.c
 *	  The timeline history of this node, read once per timeline.
 *
 * NOTES
 *	  Equal WAL positions of different timelines name different WAL.  A
 *	  position can only be compared with this node's after it was found on
 *	  this node's history, by number and by the place where its timeline
 *	  began: two standbys promoted at the same time take the same number.
 *
 *	  Positions of tokens and answers are ends of records, so a timeline owns
 *	  begin < p <= end: a commit that ends exactly where the timeline was left
 *	  is still part of it.  (Core's timeline.c speaks of begin <= p < end.)
 *
 *	  The cache is per process and holds one history.  Reading it can throw
 *	  (file access), so anyone who may not throw calls tcs_history_get() earlier.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>
#include <sys/stat.h>

#include "access/timeline.h"
#include "access/xlog_internal.h"
#include "storage/fd.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "base/history.h"

static TcsHistory history_cache;

/*
 * History that ends in the given timeline.  Valid until the next call with
 * another timeline.
 */
const TcsHistory *
tcs_history_get(TimeLineID tli)
{
	MemoryContext context;
	MemoryContext oldcontext;
	List	   *entries;
	TcsTimeline *timelines;
	int			n = 0;

	if (history_cache.tli == tli)
		return &history_cache;

	context = AllocSetContextCreate(CurrentMemoryContext, "tcs history",
									ALLOCSET_SMALL_SIZES);
	oldcontext = MemoryContextSwitchTo(context);
	entries = readTimeLineHistory(tli);
	MemoryContextSwitchTo(oldcontext);

	timelines = MemoryContextAlloc(TopMemoryContext,
								   list_length(entries) * sizeof(TcsTimeline));
	for (int i = 0; i < list_length(entries); i++)
	{
		TimeLineHistoryEntry *entry = list_nth(entries, i);

		timelines[n].tli = entry->tli;
		timelines[n].begin = entry->begin;
		timelines[n].end = entry->end;
		n++;
	}
	MemoryContextDelete(context);

	if (history_cache.timelines)
		pfree(history_cache.timelines);
	history_cache.timelines = timelines;
	history_cache.n = n;
	/* readTimeLineHistory() makes a missing file look like a first timeline */
	history_cache.known = (tli == 1 || n > 1);
	history_cache.tli = tli;

	/* a missing file may still arrive: do not remember that it was missing */
	if (!history_cache.known)
		history_cache.tli = 0;
	return &history_cache;
}

/*
 * Where a position stands with respect to a history.
 *
 * For FORKED, *fork (may be NULL) is the timeline that this history left
 * before it came to the position; its tli is 0 if it never was on it.
 */
TcsOnHistory
tcs_history_locate(const TcsHistory *history, TimeLineID tli,
				   XLogRecPtr begin, XLogRecPtr lsn, TcsTimeline *fork)
{
	if (fork)
		memset(fork, 0, sizeof(*fork));
	if (!history->known)
		return TCS_HISTORY_UNKNOWN;
	if (tli > history->timelines[0].tli)
		return TCS_HISTORY_NEWER;

	for (int i = 0; i < history->n; i++)
	{
		const TcsTimeline *t = &history->timelines[i];

		if (t->tli != tli)
			continue;
		if (t->begin == begin && (t->end == InvalidXLogRecPtr || lsn <= t->end))
			return TCS_HISTORY_YES;
		if (fork && t->begin == begin)
			*fork = *t;
		return TCS_HISTORY_FORKED;
	}
	return TCS_HISTORY_FORKED;
}

/* Does recovery go on to the newest timeline there is? */
static bool
follows_latest(void)
{
	const char *target = GetConfigOption("recovery_target_timeline", true, false);

	return target != NULL && (target[0] == '\0' || strcmp(target, "latest") == 0);
}

/*
 * The newest timeline whose history file has come here since "known" was the newest.
 * The WAL receiver fetches them from the server that it streams from, also if this
 * standby cannot follow there.  It fetches them in order, without a gap.
 */
TimeLineID
tcs_history_newest_fetched(TimeLineID known)
{
	char		path[MAXPGPATH];
	struct stat st;

	if (!follows_latest())
		return known;
	for (;; known++)
	{
		TLHistoryFilePath(path, known + 1);
		if (stat(path, &st) != 0)
			return known;
	}
}

/*
 * The timeline that recovery aims at, as far as can be told from outside of the startup
 * process; 0 if that is the one replayed.
 *
 * By default that is the newest one whose history file is there, and after a restart
 * older ones are replayed first.  Unlike core we do not look for gaps in the numbers:
 * where there is one, core cannot go on to what is behind it either.
 */
TimeLineID
tcs_history_aimed_at(void)
{
	const char *target = GetConfigOption("recovery_target_timeline", true, false);
	TimeLineID	newest = 0;
	DIR		   *dir;
	struct dirent *entry;

	if (target == NULL || strcmp(target, "current") == 0)
		return 0;
	if (!follows_latest())
		return (TimeLineID) strtoul(target, NULL, 0);

	dir = AllocateDir(XLOGDIR);
	while ((entry = ReadDirExtended(dir, XLOGDIR, LOG)) != NULL)
	{
		if (IsTLHistoryFileName(entry->d_name))
			newest = Max(newest, (TimeLineID) strtoul(entry->d_name, NULL, 16));
	}
	FreeDir(dir);
	return newest;
}

/* Is a position, whose timeline was once part of this history, still? */
bool
tcs_history_has(const TcsHistory *history, TcsPosition position)
{
	for (int i = 0; i < history->n; i++)
	{
		const TcsTimeline *t = &history->timelines[i];

		if (t->tli == position.tli)
			return t->end == InvalidXLogRecPtr || position.lsn <= t->end;
	}
	return position.tli > history->tli;
}

/*
 * Does a node that has everything up to "reached" have "needed"?
 *
 * Both must lie on one history.  Then a position of an older timeline is
 * below everything of a newer one, and a newer timeline has not been come to,
 * whatever the numbers say.
 */
bool
tcs_position_reached(TcsPosition needed, TcsPosition reached)
{
	return needed.tli <= reached.tli && needed.lsn <= reached.lsn;
}
