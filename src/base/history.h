/*-------------------------------------------------------------------------
 *
 * history.h
 *	  The timeline history of this node, read once per timeline.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_HISTORY_H
#define TCS_HISTORY_H

#include "base/tcs.h"

/* One timeline of a history; a position belongs to it if begin < p <= end. */
typedef struct TcsTimeline
{
	TimeLineID	tli;
	XLogRecPtr	begin;
	XLogRecPtr	end;			/* 0: still going on */
} TcsTimeline;

typedef struct TcsHistory
{
	TimeLineID	tli;			/* the newest; 0: nothing read yet */
	bool		known;			/* was the history file there? */
	int			n;
	TcsTimeline *timelines;		/* newest first */
} TcsHistory;

typedef enum TcsOnHistory
{
	TCS_HISTORY_YES,
	TCS_HISTORY_FORKED,			/* this history left that timeline before */
	TCS_HISTORY_NEWER,			/* a timeline this node has not come to yet */
	TCS_HISTORY_UNKNOWN			/* this node's history file is missing */
} TcsOnHistory;

extern const TcsHistory *tcs_history_get(TimeLineID tli);
extern TcsOnHistory tcs_history_locate(const TcsHistory *history,
									   TimeLineID tli, XLogRecPtr begin,
									   XLogRecPtr lsn, TcsTimeline *fork);
extern TimeLineID tcs_history_aimed_at(void);
extern TimeLineID tcs_history_newest_fetched(TimeLineID known);
extern bool tcs_history_has(const TcsHistory *history, TcsPosition position);
extern bool tcs_position_reached(TcsPosition needed, TcsPosition reached);

#endif							/* TCS_HISTORY_H */
