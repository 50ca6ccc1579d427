/*-------------------------------------------------------------------------
 *
 * remote_xact.h
 *	  This session's connection to the redirect server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_REMOTE_XACT_H
#define TCS_REMOTE_XACT_H

#include "nodes/params.h"

#include "redirect/connection.h"
#include "redirect/statement_text.h"
#include "token/token.h"

/* Begin a transaction there, and check that it is where it should be. */
typedef struct TcsRemoteBegin
{
	TcsLevel	level;
	const TcsToken *token;		/* or NULL */
	bool		whole;			/* it is to last as long as the local one */
	const TcsStatement *statement;	/* to be sent at once, or NULL */
	ParamListInfo params;		/* of the statement */

	/* out */
	TcsToken	seen;			/* covers what the transaction's snapshot
								 * shows */
	TcsFailure	failure;		/* why it did not begin */
	char	   *lost;			/* the primary's detail if what the token
								 * names is not part of its history */
} TcsRemoteBegin;

/*
 * Who reads the rows of the statement that runs there.  There is one at a time:
 * if another statement is to be sent first, the reader is asked to put the rest
 * away.
 */
typedef struct TcsReader
{
	void		(*put_away) (struct TcsReader *reader);
	const char *sql;			/* the statement, as long as there is the
								 * reader */
	bool		at_end;
} TcsReader;

extern bool tcs_remote_begin(TcsRemoteBegin *begin);
extern bool tcs_remote_is_begun(void);
extern bool tcs_remote_has_prepared(const TcsStatement *statement);
extern void tcs_remote_send(const TcsStatement *statement, ParamListInfo params);
extern void tcs_remote_attach(TcsReader *reader);
extern void tcs_remote_detach(TcsReader *reader);
extern PGresult *tcs_remote_next(TcsReader *reader);

extern void tcs_remote_describe(const char *portal,
								void (*take) (PGresult *result, void *arg), void *arg);
extern void tcs_remote_run(const char *sql, int format,
						   void (*take) (PGresult *result, void *arg), void *arg);
extern void tcs_remote_release(void);

extern void tcs_remote_transaction_ended(void);
extern void tcs_remote_subtransaction_ended(int level, bool committed);

/* Is there anything to do at the end of a transaction? */
extern TCS_LOCAL bool tcs_remote_is_connected;

#endif							/* TCS_REMOTE_XACT_H */
