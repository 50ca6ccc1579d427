/*-------------------------------------------------------------------------
 *
 * leavable.h
 *	  Work that can be left before it does harm.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_LEAVABLE_H
#define TCS_LEAVABLE_H

#include "utils/resowner.h"

#include "base/tcs.h"

/* Lives on the C stack, from tcs_leavable_begin() on. */
typedef struct TcsLeavable
{
	struct TcsLeavable *outer;
	MemoryContext context;
	ResourceOwner owner;
	volatile bool left;			/* the work was left, or went on all the same */
} TcsLeavable;

extern TCS_LOCAL TcsLeavable *tcs_leavable_innermost;

extern void tcs_leavable_begin(TcsLeavable *leavable);
extern void tcs_leavable_end(TcsLeavable *leavable);
extern void tcs_leavable_catch(TcsLeavable *leavable);
extern void tcs_leave(void);

/* Is there work around us that can be left? */
static inline bool
tcs_can_leave(void)
{
	return tcs_leavable_innermost != NULL;
}

#endif							/* TCS_LEAVABLE_H */
