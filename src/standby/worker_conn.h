/*-------------------------------------------------------------------------
 *
 * worker_conn.h
 *	  The worker's connection to the primary.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_WORKER_CONN_H
#define TCS_WORKER_CONN_H

#include "primary/read_index.h"
#include "standby/freshness.h"

#define TCS_NO_LIBRARY \
	"the primary runs without tcs: add it to shared_preload_libraries there"

typedef enum TcsConnState
{
	TCS_CONN_CLOSED,
	TCS_CONN_CONNECTING,
	TCS_CONN_IDLE,
	TCS_CONN_ASKED				/* a question is on its way */
} TcsConnState;

extern bool tcs_conn_start(const char *conninfo, bool replication,
						   char *reason);
extern bool tcs_conn_check_time(char *reason);
extern bool tcs_conn_has_another_host(void);
extern bool tcs_conn_gave_way(void);
extern const char *tcs_conn_failure(void);
extern TcsConnState tcs_conn_state(void);
extern bool tcs_conn_ask(TcsQuestion question, char *reason);
extern bool tcs_conn_advance(bool *answered, TcsAnswerText *answer,
							 char *reason);
extern void tcs_conn_close(void);
extern uint64 tcs_conn_socket_serial(void);
extern int	tcs_conn_socket(void);
extern int	tcs_conn_wait_events(void);

/* in worker_conn_error.c */
extern const char *tcs_conn_describe_error(char *reason, const char *error,
										   bool replication, bool several_hosts);

#endif							/* TCS_WORKER_CONN_H */
