/*-------------------------------------------------------------------------
 *
 * smart_shutdown.h
 *	  A smart shutdown must not wait for what standbys have connected.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_STOPPING_H
#define TCS_STOPPING_H

extern void tcs_leave_if_stopping(void);

#endif							/* TCS_STOPPING_H */
