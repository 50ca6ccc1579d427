/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  Settings of tcs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_SETTINGS_H
#define TCS_SETTINGS_H

#include "utils/guc.h"

#include "base/level.h"

typedef enum TcsReportToken
{
	TCS_REPORT_OFF,
	TCS_REPORT_WRITES,
	TCS_REPORT_ALL
} TcsReportToken;

typedef enum TcsHints
{
	TCS_HINTS_OFF,
	TCS_HINTS_ON,
	TCS_HINTS_ALL
} TcsHints;

/*
 * What a read of a standby does at a level that goes by the token, in a session
 * that was handed none.
 */
typedef enum TcsWithoutToken
{
	TCS_WITHOUT_TOKEN_ACCEPT,
	TCS_WITHOUT_TOKEN_STRONG,
	TCS_WITHOUT_TOKEN_ERROR
} TcsWithoutToken;

/* What becomes of a token that was lost, or is of another cluster. */
typedef enum TcsLostToken
{
	TCS_LOST_TOKEN_ERROR,
	TCS_LOST_TOKEN_DROP
} TcsLostToken;

typedef enum TcsHintErrors
{
	TCS_HINT_ERRORS_ERROR,
	TCS_HINT_ERRORS_WARNING
} TcsHintErrors;

/* Values of tcs.lease. */
typedef enum TcsLeaseMode
{
	TCS_LEASE_OFF,
	TCS_LEASE_ON
} TcsLeaseMode;

/* Bounds of tcs.lease_duration, in ms. */
#define TCS_LEASE_MIN		200
#define TCS_LEASE_MAX		INT64CONST(10000)

extern TCS_LOCAL int tcs_read_level;
extern TCS_LOCAL int tcs_report_token;
extern TCS_LOCAL int tcs_hints;
extern int	tcs_hint_errors;
extern int	tcs_without_token;
extern int	tcs_lost_token;
extern int	tcs_max_staleness;	/* ms */
extern int	tcs_max_lag;		/* kB, -1: off */
extern int	tcs_max_wait;		/* ms, -1: for ever */
extern int	tcs_max_wait_limit; /* ms, -1: no limit */
extern int	tcs_max_wait_unknown;	/* ms, -1: no limit */
extern int	tcs_probe_interval; /* ms */
extern char *tcs_primary_conninfo;
extern char *tcs_redirect_server;
extern int	tcs_redirect_after; /* ms */
extern int	tcs_redirect_timeout;	/* ms */
extern int	tcs_redirect_idle_timeout;	/* ms, 0: never */
extern int	tcs_max_redirect_connections;
extern TCS_LOCAL bool tcs_enabled;
extern int	tcs_lease_duration;
extern int	tcs_lease;
extern int	tcs_lease_max_lag;

/*
 * Changes whenever a setting that decides about a read may have changed.  The
 * gate remembers the number at which it was last satisfied, so that a read
 * which asks for nothing new costs one comparison.  Starts at 1.
 */
extern TCS_LOCAL uint64 tcs_settings_generation;

/* The same of the settings, and their sources, that a choice is made from. */
extern TCS_LOCAL uint64 tcs_choice_generation;

extern const TcsFallback *tcs_guc_fallback(void);
extern GucSource tcs_guc_level_source(void);
extern GucSource tcs_guc_max_staleness_source(void);
extern GucSource tcs_guc_max_wait_source(void);
extern GucSource tcs_guc_fallback_source(void);
extern GucSource tcs_guc_without_token_source(void);
extern LocalTransactionId tcs_guc_level_set_in(void);
extern int	tcs_guc_max_wait(void);
extern void tcs_guc_set_for_now(const char *name, const char *value);
extern void tcs_guc_define_settings(void);

#endif							/* TCS_SETTINGS_H */
