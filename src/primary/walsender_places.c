/*-------------------------------------------------------------------------
 *
 * walsender_places.c
 *	  Has the primary room for a standby that comes?
 *
 * NOTES
 *	  A replication connection takes one of max_wal_senders places when it has
 *	  told what it is, and becomes a walsender when it has authenticated.  So there
 *	  can be no place though walsenders are unused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "replication/slot.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"

#include "base/compat.h"
#include "base/tcs.h"
#include "primary/walsender_places.h"

/* The places are held without authentication for so long, in us. */
#define TCS_CROWDED_MAX		30000000

/*
 * How many walsenders are not in use?  Who has not authenticated yet uses none, but
 * has the place of one.
 */
int
tcs_walsenders_unused(void)
{
	int			unused = 0;

	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd	   *walsnd = &WalSndCtl->walsnds[i];

		SpinLockAcquire(&walsnd->mutex);
		if (walsnd->pid == 0)
			unused++;
		SpinLockRelease(&walsnd->mutex);
	}
	return unused;
}

/*
 * Are there more physical slots that nobody uses than walsenders that are free?
 * Then the name of one of these slots.
 *
 * Its standby will come back, and must not be refused first.  A standby that is
 * refused tries again after wal_retrieve_retry_interval; an HA agent that compares
 * timelines before it rewinds may go the long way.  Logical slots do not count, as
 * SQL can read them without a walsender.
 */
bool
tcs_walsenders_standby_is_away(NameData *name)
{
	int			away = 0;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];

		if (!slot->in_use)
			continue;
		SpinLockAcquire(&slot->mutex);
		if (SlotIsPhysical(slot) && slot->data.persistency == RS_PERSISTENT &&
			!tcs_slot_is_active_compat(slot))
		{
			*name = slot->data.name;
			away++;
		}
		SpinLockRelease(&slot->mutex);
	}
	LWLockRelease(ReplicationSlotControlLock);

	return away > 0 && away > tcs_walsenders_unused();
}

/*
 * Was somebody refused while some places are held without authentication, and has no
 * place been free for long, as far as this walsender has seen when it was asked?  "crowded_out" counts those who were refused.
 */
bool
tcs_walsenders_are_crowded(uint32 crowded_out)
{
	static int64 since = 0;
	static uint32 before;
	bool		has_room = tcs_walsender_place_is_free_compat();
	int64		now = tcs_now();

	if (has_room || since == 0)
	{
		since = has_room ? 0 : now;
		before = crowded_out;
		return false;
	}
	return crowded_out != before && now - since >= TCS_CROWDED_MAX;
}
