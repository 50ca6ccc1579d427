/*-------------------------------------------------------------------------
 *
 * remote_state.h
 *	  The transaction on the redirect server, for the files that make it up.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_REMOTE_STATE_H
#define TCS_REMOTE_STATE_H

#include "lib/stringinfo.h"
#include "nodes/bitmapset.h"

#include "redirect/remote_xact.h"

#define TCS_SQL_COMMIT	"COMMIT"

typedef struct TcsRemote
{
	bool		ready;			/* connected and checked */
	Oid			user;			/* for whom it was made */
	bool		changed;		/* server or mapping were, since */
	Bitmapset  *prepared;		/* numbers of the client's statements that are */
	int			nprepared;		/* how many, also of those not used any more */
	int64		last_used;
	TcsGrowth	growth;
	bool		several;		/* hosts to choose from, if this one fails */

	uint32		preparing;		/* which is prepared first; 0: it is not */
	bool		started;		/* are the statement's own results being read? */
	bool		check_follows;	/* our commands behind it */
	bool		commit_follows;
	bool		open;			/* a transaction whose COMMIT was not sent */
	bool		whole;			/* which is to last as long as the local one */
	bool		lasting;		/* or until the cursors of its statement are
								 * brought */
	StringInfoData settings;	/* that were sent for it */
	bool		settings_known; /* and are in force there */
	int			depth;			/* savepoints in it, and our own level */
	int			rollback_to;	/* savepoint to return to first; 0: none */
	int			release;		/* savepoint to release first; 0: none */

	TcsReader  *reader;			/* who reads its rows, or NULL */
	int			reader_level;	/* of the subtransaction that it began in */
} TcsRemote;

extern TcsRemote tcs_remote;

/*
 * The present transaction runs there as a whole, or did until the connection
 * was lost.
 */
extern bool tcs_remote_in_whole;

/* redirect/remote_xact.c */
extern void tcs_remote_drop(void);
extern void tcs_remote_close(void);
extern void tcs_remote_make_room(void);
extern void tcs_remote_set_up(void);

/* redirect/remote_send.c */
extern bool tcs_send_collect_settings(void);
extern bool tcs_send_settings(void);
extern bool tcs_send_statement(const TcsStatement *statement, ParamListInfo params);
extern bool tcs_send_commit(void);

#endif							/* TCS_REMOTE_STATE_H */
