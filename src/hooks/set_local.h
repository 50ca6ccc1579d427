/*-------------------------------------------------------------------------
 *
 * set_local.h
 *	  SET LOCAL that comes to nothing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_SET_LOCAL_H
#define TCS_SET_LOCAL_H

extern void tcs_set_local_before_utility(Node *statement, bool is_top_level);

#endif							/* TCS_SET_LOCAL_H */
