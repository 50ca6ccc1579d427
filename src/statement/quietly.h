/*-------------------------------------------------------------------------
 *
 * quietly.h
 *	  To try something in a subtransaction, without a word to the client.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_QUIETLY_H
#define TCS_QUIETLY_H

#include "nodes/pg_list.h"

/* One message. */
typedef struct TcsSaid
{
	int			sqlerrcode;
	char	   *message;
} TcsSaid;

extern bool tcs_quietly_is_running;

extern TcsSaid *tcs_said_make(int sqlerrcode, const char *message);
extern List *tcs_said_copy(const List *messages);
extern void tcs_quietly_begin(void);
extern List *tcs_quietly_end(void);
extern char *tcs_quietly_do(void (*work) (void *), void *arg, bool look, List **told);

#endif							/* TCS_QUIETLY_H */
