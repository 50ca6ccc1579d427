/*-------------------------------------------------------------------------
 *
 * relax.h
 *	  The emergency valve: for a time, this node serves reads at less.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_RELAX_H
#define TCS_RELAX_H

#include "datatype/timestamp.h"
#include "storage/lwlock.h"

#include "base/level.h"

#define TCS_RELAX_REASON_LEN	256

/* The valve, for people; the fields up to "role" stay when it is over. */
typedef struct TcsRelaxed
{
	bool		in_force;
	TcsLevel	level;			/* if it is in force */
	TimestampTz began_at;
	TimestampTz ends_at;
	int			encoding;		/* of the database that the texts are from */
	char		reason[TCS_RELAX_REASON_LEN];
	char		role[NAMEDATALEN];
	uint64		served;			/* reads at less than they asked for */
} TcsRelaxed;

extern bool tcs_relax_in_force(TcsLevel *level);
extern bool tcs_relax_began_after(int64 instant);
extern void tcs_relax_count(void);
extern void tcs_relax_start(TcsLevel level, int64 length, const char *reason, const char *role);
extern bool tcs_relax_stop(void);
extern void tcs_relax_get(TcsRelaxed *relaxed);

extern Size tcs_relax_shmem_size(void);
extern void tcs_relax_shmem_init(void *ptr, LWLock *lock, bool found);

#endif							/* TCS_RELAX_H */
