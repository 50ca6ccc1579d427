/*-------------------------------------------------------------------------
 *
 * acknowledged.c
 *	  The largest end of a commit of this server.
 *
 * NOTES
 *	  Each process notes the end of its commit when it has come back from it, before
 *	  its client is answered.  So a client that was answered has its commit noted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/atomics.h"

#include "primary/acknowledged.h"

/* 0 before the first commit.  Raised by compare and exchange, never lowered. */
static pg_atomic_uint64 *acknowledged = NULL;

Size
tcs_acknowledged_shmem_size(void)
{
	return sizeof(pg_atomic_uint64);
}

void
tcs_acknowledged_shmem_init(void *ptr, LWLock *lock, bool found)
{
	acknowledged = ptr;
	if (!found)
		pg_atomic_init_u64(acknowledged, 0);
}

/*
 * A transaction of this process has committed, and its client has not been
 * told yet.  Called in the commit callback, so nothing here may throw.
 */
void
tcs_acknowledged_note(XLogRecPtr end)
{
	uint64		noted = pg_atomic_read_u64(acknowledged);

	while (noted < end &&
		   !pg_atomic_compare_exchange_u64(acknowledged, &noted, end))
		;
}

XLogRecPtr
tcs_acknowledged(void)
{
	return pg_atomic_read_u64(acknowledged);
}
