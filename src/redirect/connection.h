/*-------------------------------------------------------------------------
 *
 * connection.h
 *	  A session's connection to another server: libpq, waiting, errors.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_CONNECTION_H
#define TCS_CONNECTION_H

#include "libpq-fe.h"
#include "storage/latch.h"

#include "base/hosts.h"
#include "base/wire.h"
#include "redirect/outage.h"
#include "redirect/redirect_server.h"

/* How the wait for a result ended. */
typedef enum TcsArrival
{
	TCS_ARRIVED,
	TCS_ARRIVED_TOO_LATE,
	TCS_CONNECTION_LOST
} TcsArrival;

/* The one connection of this process. */
typedef struct TcsPeer
{
	PGconn	   *conn;			/* NULL: none */
	char		server[NAMEDATALEN];	/* its name, for messages */
	uint64		name;			/* unique, for the names of what is prepared */
	bool		unprepared;		/* a pooler does not keep prepared statements */
	WaitEventSet *events;		/* latch, postmaster, socket */
	int			awaited;		/* the socket events that the set waits for */
	int			syncs;			/* sent, and not read yet */
	TcsIntake	intake;			/* since the last result */
	bool		separated;		/* the last result was the NULL behind those
								 * of a command */
	const char *violation;		/* what it has sent that it must not, or NULL;
								 * the connection is of no more use */
	bool		running;		/* the first of them ends the client's
								 * statement */
	bool		raised;			/* was an error of the server raised just now? */
	const char *sql;			/* while it runs: its text, as it was sent */
	PGresult   *result;			/* the last one; freed with the next */
	PGresult   *error;			/* that is being raised; freed at the end of
								 * the transaction */
} TcsPeer;

extern TcsPeer tcs_peer;

extern void tcs_peer_get_hosts(const TcsServer *server, TcsHostLists *lists);
extern bool tcs_peer_connect(const TcsServer *server, const TcsHost *host,
							 int64 deadline, TcsFailure *failure);
extern char *tcs_peer_place(const TcsHost *host);

extern void tcs_peer_receive_notice(void *arg, const PGresult *result);
extern uint32 tcs_peer_wait_event(void);
extern long tcs_peer_timeout_ms(int64 deadline);
extern void tcs_peer_close(void);
extern char *tcs_peer_message(const char *message);
extern void tcs_peer_forget_error(void);
extern void tcs_peer_forget_messages(void);

extern const char *tcs_peer_name(const char *what, uint32 number);
extern bool tcs_peer_command(const char *what, const char *sql);
extern bool tcs_peer_sync(void);

extern void tcs_peer_expect_answers(void);
extern void tcs_peer_expect_rows(void);
extern TcsArrival tcs_peer_fetch(int64 deadline);
extern TcsArrival tcs_peer_read_to_sync(int64 deadline);
extern TcsArrival tcs_peer_read_to_last_sync(int64 deadline);
extern bool tcs_peer_skip(void);
extern bool tcs_peer_is_sound(void);
extern char *tcs_peer_loss(void);
extern void tcs_peer_violates(const char *violation);
extern void tcs_peer_refuse_answer(void);
extern void tcs_peer_fetch_or_throw(int64 deadline);
extern void tcs_peer_raise(void);

#endif							/* TCS_CONNECTION_H */
