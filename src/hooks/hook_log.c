/*-------------------------------------------------------------------------
 *
 * hook_log.c
 *	  What goes to the server log: no passwords, and who was refused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "hooks/hooks.h"
#include "primary/read_index.h"

static emit_log_hook_type prev_emit_log_hook = NULL;

/*
 * Keep passwords out of the server log: on reload, core logs the new value of a
 * changed setting.  Replication connections that are refused are seen nowhere else.
 */
static void
tcs_emit_log(ErrorData *edata)
{
	if (edata->elevel == FATAL)
		tcs_readindex_note_refused(edata->sqlerrcode);
	if (edata->elevel == LOG && edata->message_id && edata->message &&
		strcmp(edata->message_id, "parameter \"%s\" changed to \"%s\"") == 0 &&
		strstr(edata->message, "tcs.primary_conninfo"))
		edata->message = pstrdup("parameter \"tcs.primary_conninfo\" changed");
	if (prev_emit_log_hook)
		prev_emit_log_hook(edata);
}

void
tcs_hook_log_install(void)
{
	prev_emit_log_hook = emit_log_hook;
	emit_log_hook = tcs_emit_log;
}
