/*-------------------------------------------------------------------------
 *
 * tcs.c
 *	  Tunable consistency for reads on hot standbys: module start-up.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"

#include "base/compat.h"
#include "base/settings.h"
#include "hooks/hooks.h"
#include "primary/asker_settings.h"
#include "primary/read_index.h"
#include "redirect/redirect_scan.h"
#include "session/redirected_for.h"
#include "shmem.h"
#include "standby/lease_worker.h"
#include "standby/worker.h"
#include "token/token_setting.h"
#include "write/write_level.h"

TCS_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

/*
 * Not preloading is an error, not a silent nothing: the settings would be
 * accepted as placeholders, and reads that asked for freshness would be stale.
 * pg_upgrade loads libraries without using them, and may.  So may a worker of a
 * subscription: rules that come to it are left out (rules/rule_check.c).
 */
void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
	{
		if (IsBinaryUpgrade || IsLogicalWorker())
			return;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("tcs must be loaded via shared_preload_libraries"),
				 errhint("Add tcs to shared_preload_libraries on every node and restart the server.")));
	}

	tcs_guc_define_settings();
	tcs_token_define_setting();
	tcs_asker_define_settings(tcs_readindex_show);
	tcs_redirected_define_setting();
	tcs_write_define_setting();
	MarkGUCPrefixReserved("tcs");
	if (IsBinaryUpgrade)
		return;
	tcs_shmem_install_hooks();
	tcs_hooks_install();
	tcs_scan_init();
	tcs_worker_register();
	tcs_lease_worker_register();
}
