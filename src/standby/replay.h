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

/* What replay does. */
typedef enum TcsReplayState
{
	TCS_REPLAY_GOES_ON,
	TCS_REPLAY_AT_TARGET,
	TCS_REPLAY_PAUSED,
	TCS_REPLAY_BLOCKED,			/* by a session on this node */
	TCS_REPLAY_DELAYED,
	TCS_REPLAY_NOT_STREAMING,
	TCS_REPLAY_ARCHIVE_ONLY,
	TCS_REPLAY_NO_SOURCE,
	TCS_REPLAY_NOT_ADVANCING	/* and no cause is known */
} TcsReplayState;

extern void tcs_replay_find_startup(void);
extern bool tcs_replay_waits_for_session(void);
extern bool tcs_replay_waits_for_snapshot(void);
extern bool tcs_replay_waits_for_this_session(void);
extern bool tcs_replay_has_ended(void);
extern TcsReplayState tcs_replay_state(void);
extern const char *tcs_replay_state_name(TcsReplayState state);
extern const char *tcs_replay_state_detail(TcsReplayState state);
extern const char *tcs_replay_stall_reason(void);
extern bool tcs_replay_is_held(void);
extern bool tcs_replay_receiver_streams(void);

extern Size tcs_replay_shmem_size(void);
extern void tcs_replay_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_REPLAY_H */
