/*-------------------------------------------------------------------------
 *
 * redirected_for.h
 *	  What a standby asks of a transaction that it begins here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_REDIRECTED_FOR_H
#define TCS_REDIRECTED_FOR_H

#include "base/tcs.h"
#include "token/token.h"

/* What a standby knows that the primary has. */
typedef struct TcsKnown
{
	TcsPosition replayed;		/* here; tli 0: not said */
	XLogRecPtr	begin;			/* of the timeline that is replayed */
	TimeLineID	newest;			/* timeline known of */
	XLogRecPtr	least;			/* WAL of that timeline; 0: nothing is known */
} TcsKnown;

/* What a standby asks of a transaction here, before its snapshot is taken. */
typedef struct TcsRedirected
{
	TcsLevel	level;
	int			max_wait;		/* ms */
	TcsKnown	known;
	bool		have_token;
	TcsToken	token;
} TcsRedirected;

/*
 * Name of the setting by which it asks, as "level ms
 * [@timeline,begin,replayed,newest timeline,least] [token]", the positions in
 * hexadecimal.
 */
#define TCS_REDIRECTED_FOR	"tcs.redirected_for"

extern TCS_LOCAL const TcsRedirected *tcs_redirected_asked;

extern void tcs_redirected_define_setting(void);

/* What a standby asks of this transaction, or NULL. */
static inline const TcsRedirected *
tcs_guc_redirected(void)
{
	return tcs_redirected_asked;
}

#endif							/* TCS_REDIRECTED_FOR_H */
