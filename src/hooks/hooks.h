/*-------------------------------------------------------------------------
 *
 * hooks.h
 *	  Where statements come to the gate.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_HOOKS_H
#define TCS_HOOKS_H

extern void tcs_hooks_install(void);
extern bool tcs_utility_reads(Node *statement);

#endif							/* TCS_HOOKS_H */
