/*-------------------------------------------------------------------------
 *
 * arrive.h
 *	  A statement arrives at the gate, by whatever hook.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_ARRIVE_H
#define TCS_ARRIVE_H

#include "base/settings.h"
#include "gate/gate.h"
#include "redirect/remote_xact.h"

/* Is this process one that comes to the gate? */
typedef enum TcsAttachment
{
	TCS_ATTACH_UNDECIDED,
	TCS_ATTACHED,
	TCS_NOT_ATTACHED
} TcsAttachment;

extern TCS_LOCAL TcsAttachment tcs_attachment;

extern TCS_LOCAL void tcs_arrive_decide_attachment(void);
extern TCS_LOCAL void tcs_arrive(TcsRead *read);
extern TCS_LOCAL void tcs_arrive_note_doubtful(const TcsChoice *choice);
extern TCS_LOCAL void tcs_arrive_nested(TcsRead *read, QueryDesc *query_desc);
extern TCS_LOCAL void tcs_arrive_forget(void);
extern TCS_LOCAL void tcs_arrive_keep_functions_from_workers(PlannedStmt *plan);
extern TCS_LOCAL void tcs_arrive_leave_out_workers(const TcsChoice *choice, QueryDesc *query_desc);

static inline bool
tcs_gate_is_open_here(void)
{
	if (unlikely(tcs_attachment == TCS_ATTACH_UNDECIDED))
		tcs_arrive_decide_attachment();
	/* what runs elsewhere goes on there, also if tcs is switched off now */
	return tcs_attachment == TCS_ATTACHED && (tcs_enabled || tcs_remote_is_begun());
}

/* Was the statement of the client checked by a choice that is still in force? */
static inline bool
tcs_client_is_chosen(void)
{
	return tcs_client_statement.generation == 0 &&
		tcs_client_statement.choice_generation == tcs_settings_generation;
}

#endif							/* TCS_ARRIVE_H */
