/*-------------------------------------------------------------------------
 *
 * utility_kind.h
 *	  Utility statements: which of them read, hold locks, show something of a snapshot.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_UTILITY_KIND_H
#define TCS_UTILITY_KIND_H

#include "nodes/nodes.h"

extern bool tcs_utility_explains_only(Node *statement);
extern bool tcs_utility_reads(Node *statement);
extern bool tcs_utility_holds_locks(Node *statement);
extern bool tcs_utility_uses_snapshot(Node *statement);

#endif							/* TCS_UTILITY_KIND_H */
