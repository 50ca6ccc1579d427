/*-------------------------------------------------------------------------
 *
 * switch.c
 *	  The switch tcs.enabled, as those who wait see it.
 *
 * NOTES
 *	  A session that waits does not read the configuration.  So a process that has
 *	  read it tells the others here: the worker on a standby, the checkpointer
 *	  everywhere.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/atomics.h"

#include "base/switch.h"

/* Written by those two processes, read by anybody as a flag. */
static pg_atomic_uint32 *switched_on = NULL;

Size
tcs_switch_shmem_size(void)
{
	return sizeof(pg_atomic_uint32);
}

void
tcs_switch_shmem_init(void *ptr, LWLock *lock, bool found)
{
	switched_on = ptr;
	if (!found)
		pg_atomic_init_u32(switched_on, 1);
}

void
tcs_switch_set(bool on)
{
	pg_atomic_write_u32(switched_on, on);
}

/* Is tcs switched on, as far as those processes have seen? */
bool
tcs_switch_is_on(void)
{
	return pg_atomic_read_u32(switched_on) != 0;
}
