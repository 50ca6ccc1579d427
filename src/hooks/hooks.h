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
extern void tcs_hook_executor_install(void);
extern void tcs_hook_utility_install(void);
extern void tcs_hook_planner_install(void);
extern void tcs_hook_functions_install(void);
extern void tcs_hook_log_install(void);

#endif							/* TCS_HOOKS_H */
