/*-------------------------------------------------------------------------
 *
 * replay.h
 *	  The startup process, looked at from outside.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_REPLAY_H
#define TCS_REPLAY_H

#include "storage/lwlock.h"

/* where no cause is known */
#define TCS_REPLAY_STANDS_STILL "Replay is not advancing at present."

extern void tcs_replay_find_startup(void);
extern bool tcs_replay_waits_for_session(void);
extern bool tcs_replay_waits_for_snapshot(void);
extern bool tcs_replay_waits_for_this_session(void);
extern bool tcs_replay_has_ended(void);
extern const char *tcs_replay_stall_reason(void);
extern bool tcs_replay_is_held(void);
extern bool tcs_replay_receiver_streams(void);

extern Size tcs_replay_shmem_size(void);
extern void tcs_replay_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_REPLAY_H */
