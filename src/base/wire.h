/*-------------------------------------------------------------------------
 *
 * wire.h
 *	  What another server sends: how much of it, in which shape, which text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_WIRE_H
#define TCS_WIRE_H

#include "libpq-fe.h"

/* Texts of another server are cut at this length. */
#define TCS_WIRE_TEXT_MAX	65536

/* How much has come of an answer that is not complete. */
typedef struct TcsIntake
{
	int64		bytes;
	int64		limit;
	Size		allocated;		/* by this process, before the first one */
	bool		slow;			/* libpq took too long to look at it */
	int			iterations;		/* how much of SCRAM's number of them was seen */
} TcsIntake;

/* Enough for an answer of one line, and for a connection to be made; no limit. */
#define TCS_INTAKE_ANSWER	((int64) 1024 * 1024)
#define TCS_INTAKE_ROWS		PG_INT64_MAX

/* What may be kept for a connection, beyond what it took to make it. */
typedef struct TcsGrowth
{
	int64		allocated;		/* by this process, so much is within limits */
	int64		outside;		/* of memory contexts, when it was made */
	int64		limit;
} TcsGrowth;

/* A session has sent statements, for which libpq keeps the room. */
#define TCS_GROWTH_WORKER	((int64) 256 * 1024)
#define TCS_GROWTH_SESSION	((int64) 16 * 1024 * 1024)

extern void tcs_growth_begin(TcsGrowth *growth, int64 limit);
extern bool tcs_growth_is_over(TcsGrowth *growth);

extern void tcs_intake_begin(TcsIntake *intake, int64 limit);
extern void tcs_intake_next(TcsIntake *intake);
extern bool tcs_intake_is_over(const TcsIntake *intake);
extern bool tcs_intake_read(TcsIntake *intake, PGconn *conn);

extern PostgresPollingStatusType tcs_wire_connect(TcsIntake *intake, PGconn *conn,
												  const char **violation);
extern bool tcs_wire_is_value(const PGresult *result);
extern bool tcs_wire_is_copy(ExecStatusType status);
extern bool tcs_wire_sqlstate(const PGresult *result, int *sqlstate);
extern void tcs_wire_ascii(char *text);
extern char *tcs_wire_text(const char *text);
extern void tcs_wire_in_own_encoding(void (*run) (void *arg), void *arg);

#endif							/* TCS_WIRE_H */
