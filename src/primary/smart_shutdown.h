/*-------------------------------------------------------------------------
 *
 * smart_shutdown.h
 *	  A smart shutdown must not wait for what standbys have connected.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_SMART_SHUTDOWN_H
#define TCS_SMART_SHUTDOWN_H

extern void tcs_leave_if_stopping(void);

#endif							/* TCS_SMART_SHUTDOWN_H */
