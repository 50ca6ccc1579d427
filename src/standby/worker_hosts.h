/*-------------------------------------------------------------------------
 *
 * worker_hosts.h
 *	  Which host the worker tries next, and how long that one may take.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_WORKER_HOSTS_H
#define TCS_WORKER_HOSTS_H

#include "libpq-fe.h"

#include "base/hosts.h"

extern void tcs_search_begin(const char *conninfo);
extern const char *tcs_search_conninfo(void);
extern const TcsHost *tcs_search_next(const PQconninfoOption *options);
extern bool tcs_search_has_several(void);
extern bool tcs_search_is_late(void);
extern void tcs_search_note_failure(const char *message);
extern void tcs_search_note_silence(void);
extern void tcs_search_note_connected(void);
extern void tcs_search_note_primary(void);
extern void tcs_search_pass_over(void);
extern const char *tcs_search_failures(void);
extern void tcs_search_end(void);

#endif							/* TCS_WORKER_HOSTS_H */
