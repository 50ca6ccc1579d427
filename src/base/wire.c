/*-------------------------------------------------------------------------
 *
 * wire.c
 *	  What another server sends: how much of it, in which shape, which text.
 *
 * NOTES
 *	  The server at the other end of a connection may not be the one that was
 *	  meant, or may not be well.  Nothing that it sends is believed before it is
 *	  looked at.
 *
 *	  libpq reads a message as a whole, whatever length its header claims, and
 *	  keeps all that comes up to the end of an answer.  It does not tell how much
 *	  that is.  So two things are looked at while an answer is not complete.
 *
 *		The bytes that wait in the socket are counted before libpq is let at
 *		them.  Bytes that it leaves there are counted again.  That is too much
 *		rather than too little, and does no harm: an answer of one line is
 *		complete after one or two reads.
 *
 *		libpq makes room for a message as soon as it has seen the header, and
 *		then reads as long as something is there, which can be for seconds.  That
 *		room is seen in what malloc() has given out, before the message is read.
 *
 *	  Neither is done while the rows of a client's statement come: a row can have
 *	  as much as memory allows.
 *
 *	  libpq keeps the value of each parameter that a server reports, as long as the
 *	  connection lasts.  It does not tell how many there are, and searches them one
 *	  by one.  A server can report new ones with each answer.  So it is also looked
 *	  at how much more this process has of malloc() than when the connection was
 *	  made, without what is in memory contexts.  Other libraries can grow, too; but
 *	  all that follows is another connection.  In a session that is looked at
 *	  between transactions, so what comes within one is not bounded by it; but
 *	  searching them must not take long.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "base/wire.h"

/* Room that libpq may make for an answer, in multiples of what may come. */
#define TCS_ROOM_FACTOR		4

/* Time that libpq may take to look at what is no row, in us. */
#define TCS_PARSE_MAX		100000

/* Digits that SCRAM's number of iterations may have: about a second's work. */
#define TCS_ITERATIONS_DIGITS	6


/* ---- how much ---- */

/*
 * How much this process has of malloc(), in bytes; 0 if that cannot be told.
 * It is looked at only around calls of libpq.
 */
static Size
allocated_bytes(void)
{
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
#else
	return 0;
#endif
}

/* How much of it is in no memory context. */
static int64
allocated_outside(void)
{
	return (int64) allocated_bytes() - (int64) MemoryContextMemAllocated(TopMemoryContext, true);
}

/* A connection has been made. */
void
tcs_growth_begin(TcsGrowth *growth, int64 limit)
{
	growth->allocated = allocated_bytes();
	growth->outside = allocated_outside();
	growth->limit = limit;
}

/* Has more been kept for it since than may be? */
bool
tcs_growth_is_over(TcsGrowth *growth)
{
	int64		total = allocated_bytes();
	int64		outside;

	/* contexts are many: look at them only if there is something to be found */
	if (total == 0 || total <= growth->allocated + growth->limit)
		return false;
	outside = allocated_outside();
	if (outside > growth->outside + growth->limit)
		return true;
	growth->allocated = total - Max(outside - growth->outside, 0);
	return false;
}

/*
 * Answers are waited for, of which each may have so much.  To be called before
 * libpq looks at the first of them.
 */
void
tcs_intake_begin(TcsIntake *intake, int64 limit)
{
	intake->bytes = 0;
	intake->limit = limit;
	intake->allocated = limit <= TCS_INTAKE_ANSWER ? allocated_bytes() : 0;
	intake->slow = false;
	intake->iterations = 0;
}

/* The next one of them is waited for. */
void
tcs_intake_next(TcsIntake *intake)
{
	intake->bytes = 0;
}

/* Has more come than the answer that is still not complete may have? */
bool
tcs_intake_is_over(const TcsIntake *intake)
{
	return intake->bytes > intake->limit ||
		(intake->allocated != 0 &&
		 allocated_bytes() > intake->allocated + TCS_ROOM_FACTOR * intake->limit);
}

/* Count what waits in the socket. */
static void
count_pending(TcsIntake *intake, PGconn *conn)
{
	int			pending = 0;

	if (PQsocket(conn) >= 0 && ioctl(PQsocket(conn), FIONREAD, &pending) != 0)
		pending = 0;
	intake->bytes += Max(pending, 1);
}

/* The time on a processor that this process has had, in us. */
static int64
processor_time(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) != 0)
		return 0;
	return (int64) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/*
 * Let libpq read.  False if the connection is lost.  Nobody here listens, so
 * notifications are dropped; libpq would keep them for ever.
 *
 * This is also where libpq looks at what it has read.  If that is not the end of a
 * row, which is copied, it takes microseconds.  With very many parameters it takes
 * ever longer, and nothing can interrupt it; then intake->slow is set.
 */
bool
tcs_intake_read(TcsIntake *intake, PGconn *conn)
{
	PGnotify   *notification;
	int64		start;

	count_pending(intake, conn);
	if (!PQconsumeInput(conn))
		return false;
	start = processor_time();
	while ((notification = PQnotifies(conn)) != NULL)
		PQfreemem(notification);
	if (processor_time() - start > TCS_PARSE_MAX && PQisBusy(conn))
		intake->slow = true;
	return true;
}

/*
 * Does a server that asks for a password by SCRAM want more iterations than can
 * be waited for?  libpq computes them all within one call: for hours, if the number
 * is large, deaf to signals.  So what has come is looked at before libpq gets it.
 *
 * The number is ",i=" and digits in the server's first message; see RFC 5802.  It
 * can be split between calls.  What comes between this look and libpq's is not seen,
 * and nothing is within TLS: there it is the certificate that has to be trusted.
 */
static bool
asks_for_too_much(TcsIntake *intake, PGconn *conn)
{
	static const char start[] = ",i=";
	const int	nstart = lengthof(start) - 1;
	int			pending = 0;
	char	   *bytes;
	int			n;

	if (PQsocket(conn) < 0 || PQsslInUse(conn) ||
		ioctl(PQsocket(conn), FIONREAD, &pending) != 0 || pending <= 0)
		return false;
	bytes = palloc(Min(pending, TCS_INTAKE_ANSWER));
	n = recv(PQsocket(conn), bytes, Min(pending, TCS_INTAKE_ANSWER), MSG_PEEK | MSG_DONTWAIT);
	for (int i = 0; i < n && intake->iterations <= nstart + TCS_ITERATIONS_DIGITS; i++)
	{
		if (intake->iterations < nstart ? bytes[i] == start[intake->iterations] :
			bytes[i] >= '0' && bytes[i] <= '9')
			intake->iterations++;
		else
			intake->iterations = bytes[i] == start[0] ? 1 : 0;
	}
	pfree(bytes);
	return intake->iterations > nstart + TCS_ITERATIONS_DIGITS;
}

/*
 * PQconnectPoll(), with bounds.  If it fails with *violation set, that is the
 * reason, else it is libpq's.
 *
 * A server that does not report whether it is a standby is asked by libpq, which
 * takes an answer without columns for one with a column, and crashes.  All
 * servers report it that have a tcs.
 */
PostgresPollingStatusType
tcs_wire_connect(TcsIntake *intake, PGconn *conn, const char **violation)
{
	PostgresPollingStatusType polling;

	*violation = NULL;
	if (asks_for_too_much(intake, conn))
	{
		*violation = "the server asks for more than 999999 iterations of SCRAM";
		return PGRES_POLLING_FAILED;
	}
	count_pending(intake, conn);
	polling = tcs_intake_is_over(intake) ? PGRES_POLLING_FAILED : PQconnectPoll(conn);
	if (tcs_intake_is_over(intake))
	{
		*violation = "the server sent more than belongs to the start of a connection";
		return PGRES_POLLING_FAILED;
	}
	if (PQstatus(conn) == CONNECTION_CHECK_WRITABLE ||
		PQstatus(conn) == CONNECTION_CHECK_STANDBY)
	{
		*violation = "the server does not report whether it is a standby, as PostgreSQL does since version 14";
		return PGRES_POLLING_FAILED;
	}
	return polling;
}


/* ---- in which shape ---- */

/* Is it one row of one column that is not null? */
bool
tcs_wire_is_value(const PGresult *result)
{
	return PQntuples(result) == 1 && PQnfields(result) == 1 &&
		!PQgetisnull(result, 0, 0);
}

/* None of our commands is a COPY.  libpq tells of one again and again. */
bool
tcs_wire_is_copy(ExecStatusType status)
{
	return status == PGRES_COPY_IN || status == PGRES_COPY_OUT ||
		status == PGRES_COPY_BOTH;
}

/*
 * The SQLSTATE of an error or a notice.  False if it has none, or one that is
 * malformed.
 */
bool
tcs_wire_sqlstate(const PGresult *result, int *sqlstate)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (state == NULL || strlen(state) != 5 ||
		strspn(state, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 5)
		return false;
	*sqlstate = MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
	return true;
}


/* ---- which text ---- */

/*
 * Make a text printable ASCII, in place: for one that is shown in databases of
 * any encoding.
 */
void
tcs_wire_ascii(char *text)
{
	for (; *text != '\0'; text++)
	{
		if (*text < ' ' || *text > '~')
			*text = '?';
	}
}

/*
 * A palloc'd copy of a text, fit to be shown in this database.
 *
 * Characters that a terminal would obey become question marks, and so do those
 * beyond ASCII if the text is not valid in the database's encoding.  A database
 * without one passes on anything, so there it has to be valid in the client's:
 * otherwise its conversion would be the error that the client sees.
 */
char *
tcs_wire_text(const char *text)
{
	int			len = strnlen(text, TCS_WIRE_TEXT_MAX + 1);
	int			encoding = GetDatabaseEncoding();
	char	   *copy;
	bool		valid;

	if (encoding == PG_SQL_ASCII)
		encoding = pg_get_client_encoding();
	if (len > TCS_WIRE_TEXT_MAX)
		len = pg_mbcliplen(text, TCS_WIRE_TEXT_MAX, TCS_WIRE_TEXT_MAX);
	copy = pnstrdup(text, len);
	valid = pg_verify_mbstr(encoding, copy, len, true);
	for (unsigned char *p = (unsigned char *) copy; *p != '\0'; p++)
	{
		if ((*p < ' ' && *p != '\n' && *p != '\t') || *p == 0x7f || (*p > 0x7f && !valid))
			*p = '?';
		/* U+0080 to U+009F are such characters, too */
		else if (*p == 0xc2 && p[1] <= 0x9f && encoding == PG_UTF8)
			p[0] = p[1] = '?';
	}
	return copy;
}

/*
 * Run something with the database's encoding as that of the client.
 *
 * Functions that send and receive values convert text to and from the client's
 * encoding.  The other server is told to use the database's.
 */
void
tcs_wire_in_own_encoding(void (*run) (void *arg), void *arg)
{
	int			client = pg_get_client_encoding();

	if (likely(client == GetDatabaseEncoding()))
	{
		run(arg);
		return;
	}
	(void) SetClientEncoding(GetDatabaseEncoding());
	PG_TRY();
	{
		run(arg);
	}
	PG_FINALLY();
	{
		/* it was in force before, so it needs no look into the catalogs */
		(void) SetClientEncoding(client);
	}
	PG_END_TRY();
}
