/*-------------------------------------------------------------------------
 *
 * open_cursors.h
 *	  Cursors that a redirected statement has opened.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_OPEN_CURSORS_H
#define TCS_OPEN_CURSORS_H

extern void tcs_cursors_bring(void);

#endif							/* TCS_OPEN_CURSORS_H */
