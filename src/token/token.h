/*-------------------------------------------------------------------------
 *
 * token.h
 *	  The session token: what a session has written and may have read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_TOKEN_H
#define TCS_TOKEN_H

#include "base/tcs.h"

#define TCS_TOKEN_VERSION	1

/*
 * Longest token text.  PgBouncer compares the settings it tracks in a buffer
 * of 128 bytes and, for longer ones, runs a client with another's value.
 */
#define TCS_TOKEN_MAXLEN	125

/* flags: "written" was not known to be flushed when the token was made */
#define TCS_TOKEN_NOT_DURABLE	1

/*
 * flags: the session has also written, or read, on a history that the rest of
 * the token does not lie on.  One of the two is lost; see session/session_token.c
 */
#define TCS_TOKEN_WROTE_APART	2
#define TCS_TOKEN_SAW_APART		4
#define TCS_TOKEN_APART			(TCS_TOKEN_WROTE_APART | TCS_TOKEN_SAW_APART)

typedef struct TcsToken
{
	int			version;		/* 0: a token of a version we do not know */
	uint64		system_identifier;
	TimeLineID	tli;
	uint32		flags;
	XLogRecPtr	tli_begin;		/* where the timeline began; 0 for the first */
	XLogRecPtr	written;		/* end of the last own commit */
	XLogRecPtr	seen_primary;	/* upper bound of what was read on a primary */
	XLogRecPtr	seen_standby;	/* the same of reads on standbys */
} TcsToken;

extern bool tcs_token_parse(const char *text, TcsToken *token);
extern void tcs_token_format(const TcsToken *token,
							 char buf[TCS_TOKEN_MAXLEN + 1]);
extern void tcs_token_raise(TcsToken *token, const TcsToken *other);

#endif							/* TCS_TOKEN_H */
