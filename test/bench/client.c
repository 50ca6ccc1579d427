/*-------------------------------------------------------------------------
 *
 * client.c
 *	  The client of the benchmark.
 *
 * NOTES
 *	  client MODE key=value ...
 *
 *	  Each mode is one measurement and prints one line of key=value pairs.  The
 *	  latency of every operation is kept, and latencies=FILE writes them out, in
 *	  microseconds.  Answers that break the guarantee are counted: each reader
 *	  knows which version of its row the writer had been told is committed, and
 *	  an older one is "stale".
 *
 *		repeat	one statement again and again, in one of the three protocols
 *		write	clients that update a row each
 *		ryw		clients that write on the primary, then read on the standby; the
 *				latency runs from the acknowledgement to the row
 *		read	clients that read on the standby, with a writer on the primary
 *		idle	strong reads while only an open transaction writes WAL
 *		crowd	sessions that wait, told on standard input what to do
 *		catchup	time from now until a standby has replayed a position
 *		proxy	a socket that adds a delay to each direction
 *
 *	  Threads are used where clients are independent; the crowd is served by one
 *	  thread, whose own scheduling must not count as the server's.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "libpq-fe.h"

/* A client that polls does so this often. */
#define POLL_INTERVAL_US	1000

#define TOKEN_GUC	"tcs.session_token"


/* ---- arguments, errors, time, latencies ---- */

static char **arguments;

static void
die(const char *what, const char *detail)
{
	fprintf(stderr, "client: %s: %s\n", what, detail);
	exit(1);
}

static const char *
arg(const char *key, const char *otherwise)
{
	size_t		len = strlen(key);

	for (char **p = arguments; *p; p++)
	{
		if (strncmp(*p, key, len) == 0 && (*p)[len] == '=')
			return *p + len + 1;
	}
	if (otherwise == NULL)
		die("missing argument", key);
	return otherwise;
}

static double
number(const char *key, const char *otherwise)
{
	return atof(arg(key, otherwise));
}

static double
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e6 + ts.tv_nsec / 1e3;
}

static void
sleep_us(double us)
{
	struct timespec ts;

	if (us <= 0)
		return;
	ts.tv_sec = us / 1e6;
	ts.tv_nsec = (us - ts.tv_sec * 1e6) * 1e3;
	nanosleep(&ts, NULL);
}

typedef struct Series
{
	double	   *values;
	size_t		n;
	size_t		size;
} Series;

static void
add(Series *series, double value)
{
	if (series->n == series->size)
	{
		series->size = series->size ? series->size * 2 : 4096;
		series->values = realloc(series->values, series->size * sizeof(double));
		if (series->values == NULL)
			die("latencies", "out of memory");
	}
	series->values[series->n++] = value;
}

static int
compare(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return x < y ? -1 : x > y;
}

static double
percentile(const Series *sorted, double p)
{
	size_t		i = p / 100 * sorted->n;

	if (sorted->n == 0)
		return 0;
	return sorted->values[i < sorted->n ? i : sorted->n - 1];
}

/* The common part of each result line. */
static void
print_latencies(Series *all, double elapsed_us)
{
	const char *file = arg("latencies", "");

	qsort(all->values, all->n, sizeof(double), compare);
	if (file[0])
	{
		FILE	   *out = fopen(file, "w");

		if (out == NULL)
			die(file, strerror(errno));
		for (size_t i = 0; i < all->n; i++)
			fprintf(out, "%.1f\n", all->values[i]);
		fclose(out);
	}
	printf("ops=%zu rate=%.1f p50=%.1f p90=%.1f p99=%.1f max=%.1f",
		   all->n, all->n / elapsed_us * 1e6, percentile(all, 50),
		   percentile(all, 90), percentile(all, 99), percentile(all, 100));
}


/* ---- libpq ---- */

static PGconn *
connect_to(const char *conninfo, const char *setup)
{
	PGconn	   *conn = PQconnectdb(conninfo);
	PGresult   *res;

	if (PQstatus(conn) != CONNECTION_OK)
		die("connection failed", PQerrorMessage(conn));
	if (setup[0])
	{
		res = PQexec(conn, setup);
		if (PQresultStatus(res) != PGRES_COMMAND_OK && PQresultStatus(res) != PGRES_TUPLES_OK)
			die(setup, PQerrorMessage(conn));
		PQclear(res);
	}
	return conn;
}

static void
prepare(PGconn *conn, const char *name, const char *statement)
{
	PGresult   *res = PQprepare(conn, name, statement, 0, NULL);

	if (PQresultStatus(res) != PGRES_COMMAND_OK)
		die(statement, PQerrorMessage(conn));
	PQclear(res);
}

/* Reads of this thread that were refused, to be retried. */
static __thread long refused = 0;

/* Is this an error to be counted?  errors=count: every one is. */
static bool
is_refusal(const char *sqlstate)
{
	/* serialization_failure, deadlock_detected: no answer, no wrong one */
	return sqlstate && (strncmp(sqlstate, "40", 2) == 0 ||
						strcmp(arg("errors", ""), "count") == 0);
}

/* Copy the one value of a result, if it has one, and free it. */
static void
take(PGconn *conn, PGresult *res, char value[128])
{
	ExecStatusType status = PQresultStatus(res);

	if (status == PGRES_FATAL_ERROR)
	{
		static atomic_bool told = false;

		if (is_refusal(PQresultErrorField(res, PG_DIAG_SQLSTATE)))
		{
			refused++;
			if (!atomic_exchange(&told, true))
				fprintf(stderr, "client: refused: %s", PQresultErrorMessage(res));
			PQclear(res);
			return;
		}
	}
	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
		die("statement failed", PQerrorMessage(conn));
	if (status == PGRES_TUPLES_OK && PQntuples(res) > 0 && value)
		snprintf(value, 128, "%s", PQgetvalue(res, 0, 0));
	PQclear(res);
}

static void
execute(PGconn *conn, const char *name, const char *a, const char *b, char value[128])
{
	const char *values[2] = {a, b};

	take(conn, PQexecPrepared(conn, name, b ? 2 : a ? 1 : 0, values, NULL, NULL, 0), value);
}

/* The same in a pipeline, with its own Sync. */
static void
send_execute(PGconn *conn, const char *name, const char *a, const char *b)
{
	const char *values[2] = {a, b};

	if (!PQsendQueryPrepared(conn, name, b ? 2 : a ? 1 : 0, values, NULL, NULL, 0) ||
		!PQpipelineSync(conn))
		die(name, PQerrorMessage(conn));
}

static void
send_text(PGconn *conn, const char *text)
{
	if (!PQsendQueryParams(conn, text, 0, NULL, NULL, NULL, NULL, 0) ||
		!PQpipelineSync(conn))
		die(text, PQerrorMessage(conn));
}

/* Take what came up to the next Sync. */
static void
take_sync(PGconn *conn, char value[128])
{
	for (;;)
	{
		PGresult   *res = PQgetResult(conn);

		if (res == NULL)
		{
			if (PQstatus(conn) != CONNECTION_OK)
				die("connection lost", PQerrorMessage(conn));
			continue;
		}
		if (PQresultStatus(res) == PGRES_PIPELINE_SYNC)
		{
			PQclear(res);
			return;
		}
		take(conn, res, value);
	}
}

static void
begin_pipelines(PGconn *conn)
{
	if (!PQenterPipelineMode(conn))
		die("pipeline", PQerrorMessage(conn));
}

static const char *update_row = "UPDATE t SET v = $1 WHERE id = $2";
/*
 * The end of flushed WAL, as all commits here are synchronous.  The position of
 * insertion, which manuals name, can be past a page header that no record has
 * followed yet; one client alone would then wait for seconds now and then.
 */
static const char *ask_lsn = "SELECT pg_current_wal_flush_lsn()";
static const char *select_row = "SELECT v FROM t WHERE id = $1";


/* ---- threads ---- */

typedef struct Client
{
	int			number;
	pthread_t	thread;
	Series		latencies;
	long		stale;			/* answers that break the guarantee */
	long		refused;		/* reads that got an error, to be retried */
	double		cpu;			/* of its backend, us */
} Client;

static pthread_barrier_t barrier;
static double end_at;			/* set while all wait at the barrier */
static long base;				/* versions of this run are above those of earlier ones */
static atomic_bool stopped = false;

/* Run the clients; returns how long it took, after all are connected. */
static double
run_clients(Client *clients, int n, void *(*run) (void *), void (*started) (void),
			void (*ended) (void), void *(*watch) (void *))
{
	pthread_attr_t attr;
	pthread_t	watcher;
	double		start;
	double		elapsed;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	pthread_barrier_init(&barrier, NULL, n + 1 + (watch != NULL));
	if (watch && pthread_create(&watcher, &attr, watch, NULL) != 0)
		die("thread", "cannot be made");
	for (int i = 0; i < n; i++)
	{
		clients[i].number = i;
		if (pthread_create(&clients[i].thread, &attr, run, &clients[i]) != 0)
			die("thread", "cannot be made");
	}
	pthread_barrier_wait(&barrier);
	if (started)
		started();
	start = now_us();
	end_at = start + number("seconds", "1") * 1e6;
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < n; i++)
		pthread_join(clients[i].thread, NULL);
	elapsed = now_us() - start;
	if (watch)
		pthread_join(watcher, NULL);
	stopped = true;
	if (ended)
		ended();
	return elapsed;
}

/* A client is connected; wait for the others. */
static void
ready(void)
{
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
}

/* Latencies of all. */
static void
print_clients(Client *clients, int n, double elapsed)
{
	Series		all = {0};
	long		stale = 0;
	long		all_refused = 0;

	for (int i = 0; i < n; i++)
	{
		all_refused += clients[i].refused;
		for (size_t j = 0; j < clients[i].latencies.n; j++)
			add(&all, clients[i].latencies.values[j]);
		stale += clients[i].stale;
	}
	print_latencies(&all, elapsed);
	printf(" stale=%ld refused=%ld", stale, all_refused);
}

/* CPU time of a process, in us; schedstat has it in nanoseconds. */
static double
cpu_of(int pid)
{
	char		path[64];
	FILE	   *file;
	double		ns = 0;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
	if ((file = fopen(path, "r")) == NULL)
		return 0;
	if (fscanf(file, "%lf", &ns) != 1)
		ns = 0;
	fclose(file);
	return ns / 1e3;
}


/* The most memory a process has had so far, in kB. */
static long
memory_of(int pid)
{
	char		path[64];
	char		line[256];
	FILE	   *file;
	long		kb = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if ((file = fopen(path, "r")) == NULL)
		return 0;
	while (kb == 0 && fgets(line, sizeof(line), file))
		sscanf(line, "VmHWM: %ld", &kb);
	fclose(file);
	return kb;
}


/* ---- repeat ---- */

/*
 * Wait until a backend sleeps.  Otherwise our next message may be there before
 * it looks, which saves it a system call, at random.
 */
static void
let_sleep(int pid)
{
	char		path[64];

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	for (int calm = 0; calm < 3; sleep_us(100))
	{
		char		line[512];
		char	   *p;
		FILE	   *file = fopen(path, "r");

		if (file == NULL)
			return;
		p = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
		fclose(file);
		calm = p && p[2] == 'S' ? calm + 1 : 0;
	}
}

static void
mode_repeat(void)
{
	const char *protocol = arg("protocol", "simple");
	const char *statement = arg("statement", NULL);
	const char *other = arg("other", statement);	/* every second time */
	int			n = number("times", NULL);
	const char *values[1] = {arg("value", "1")};
	int			nvalues = strstr(statement, "$1") ? 1 : 0;
	PGconn	   *conn = connect_to(arg("conn", NULL), arg("setup", ""));
	Series		latencies = {0};
	double		start;

	if (strcmp(protocol, "prepared") == 0)
		prepare(conn, "s", statement);
	start = now_us();
	for (int i = 0; i < n; i++)
	{
		double		before = now_us();

		if (strcmp(protocol, "prepared") == 0)
			take(conn, PQexecPrepared(conn, "s", nvalues, values, NULL, NULL, 0), NULL);
		else if (strcmp(protocol, "extended") == 0)
			take(conn, PQexecParams(conn, i % 2 ? other : statement, nvalues, NULL, values, NULL, NULL, 0), NULL);
		else
			take(conn, PQexec(conn, i % 2 ? other : statement), NULL);
		add(&latencies, now_us() - before);

		let_sleep(PQbackendPID(conn));
	}
	print_latencies(&latencies, now_us() - start);
	printf(" pid=%d memory=%ld\n", PQbackendPID(conn), memory_of(PQbackendPID(conn)));
	PQfinish(conn);
}


/* ---- write ---- */

static void *
run_writer(void *data)
{
	Client	   *client = data;
	PGconn	   *conn = connect_to(arg("primary", NULL), arg("setup", ""));
	char		id[16];
	char		version[24];

	snprintf(id, sizeof(id), "%d", client->number + 1);
	prepare(conn, "w", update_row);
	ready();
	client->cpu = cpu_of(PQbackendPID(conn));
	for (long v = 1;; v++)
	{
		double		before = now_us();

		if (before >= end_at)
			break;
		snprintf(version, sizeof(version), "%ld", v);
		execute(conn, "w", version, id, NULL);
		add(&client->latencies, now_us() - before);
	}
	client->cpu = cpu_of(PQbackendPID(conn)) - client->cpu;
	PQfinish(conn);
	return NULL;
}

static void
mode_write(void)
{
	int			n = number("clients", "1");
	Client	   *clients = calloc(n, sizeof(Client));

	double		cpu = 0;
	long		ops = 0;

	print_clients(clients, n, run_clients(clients, n, run_writer, NULL, NULL, NULL));
	for (int i = 0; i < n; i++)
	{
		cpu += clients[i].cpu;
		ops += clients[i].latencies.n;
	}
	printf(" cpu=%.2f\n", cpu / ops);
}


/* ---- read your writes ---- */

/*
 * The ways to read one's own write on a standby:
 *
 *	tcs		the token goes in the same pipeline as the read
 *	message	the token goes in the same simple-protocol message as the read
 *	wait	WAIT FOR LSN, then the read
 *	pipe	WAIT FOR LSN and the read in one pipeline
 *	poll	ask the standby every millisecond how far it is, then the read
 *	none	just the read
 *	mix		tcs and message: every second client the one or the other
 *
 * wait, pipe and poll need the position of the write.  With lsn=free it comes
 * with the acknowledgement of the write (the question was in the same
 * pipeline); with lsn=ask it is asked for after it.  With interval=US a client
 * writes and reads at most once in that time.
 */
static void *
run_ryw(void *data)
{
	Client	   *client = data;
	const char *asked = arg("way", NULL);
	const char *way = strcmp(asked, "mix") != 0 ? asked :
		client->number % 2 ? "message" : "tcs";
	double		interval = number("interval", "0");
	bool		by_lsn = strcmp(way, "wait") == 0 || strcmp(way, "pipe") == 0 ||
		strcmp(way, "poll") == 0;
	bool		free_lsn = by_lsn && strcmp(arg("lsn", "free"), "free") == 0;
	bool		pipelined = strcmp(way, "tcs") == 0 || strcmp(way, "pipe") == 0;
	PGconn	   *primary = connect_to(arg("primary", NULL), "");
	PGconn	   *standby = connect_to(arg("conn", NULL), arg("setup", ""));
	double		due = 0;
	char		id[16];

	snprintf(id, sizeof(id), "%d", client->number + 1);
	prepare(primary, "w", update_row);
	prepare(primary, "lsn", ask_lsn);
	prepare(standby, "r", select_row);
	prepare(standby, "reached", "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn");
	if (free_lsn)
		begin_pipelines(primary);
	if (pipelined)
		begin_pipelines(standby);
	ready();

	for (long v = 1; now_us() < end_at; v++)
	{
		char		version[24];
		char		lsn[128] = "";
		char		value[128] = "";
		char		text[512];
		double		acknowledged;

		sleep_us(due - now_us());
		due = now_us() + interval;
		snprintf(version, sizeof(version), "%ld", base + v);
		if (free_lsn)
		{
			send_execute(primary, "w", version, id);
			send_execute(primary, "lsn", NULL, NULL);
			take_sync(primary, NULL);
			take_sync(primary, lsn);
		}
		else
			execute(primary, "w", version, id, NULL);
		acknowledged = now_us();

		if (by_lsn && !free_lsn)
			execute(primary, "lsn", NULL, NULL, lsn);

		if (strcmp(way, "tcs") == 0)
		{
			snprintf(text, sizeof(text), "SET " TOKEN_GUC " = '%s'",
					 PQparameterStatus(primary, TOKEN_GUC));
			send_text(standby, text);
			send_execute(standby, "r", id, NULL);
			take_sync(standby, NULL);
			take_sync(standby, value);
		}
		else if (strcmp(way, "message") == 0)
		{
			snprintf(text, sizeof(text),
					 "SET " TOKEN_GUC " = '%s'; SELECT v FROM t WHERE id = %s",
					 PQparameterStatus(primary, TOKEN_GUC), id);
			take(standby, PQexec(standby, text), value);
		}
		else if (strcmp(way, "wait") == 0)
		{
			snprintf(text, sizeof(text), "WAIT FOR LSN '%s'", lsn);
			take(standby, PQexec(standby, text), value);
			if (strcmp(value, "success") != 0)
				die("WAIT FOR", value);
			execute(standby, "r", id, NULL, value);
		}
		else if (strcmp(way, "pipe") == 0)
		{
			snprintf(text, sizeof(text), "WAIT FOR LSN '%s'", lsn);
			send_text(standby, text);
			send_execute(standby, "r", id, NULL);
			take_sync(standby, NULL);
			take_sync(standby, value);
		}
		else
		{
			if (strcmp(way, "poll") == 0)
			{
				while (execute(standby, "reached", lsn, NULL, value), value[0] != 't')
					sleep_us(POLL_INTERVAL_US);
			}
			execute(standby, "r", id, NULL, value);
		}
		if (refused > client->refused)
		{
			client->refused = refused;
			continue;
		}
		add(&client->latencies, now_us() - acknowledged);
		if (strcmp(value, version) != 0)
			client->stale++;
	}
	PQfinish(primary);
	PQfinish(standby);
	return NULL;
}

static void
mode_ryw(void)
{
	int			n = number("clients", "1");
	Client	   *clients = calloc(n, sizeof(Client));

	print_clients(clients, n, run_clients(clients, n, run_ryw, NULL, NULL, NULL));
	printf("\n");
}


/* ---- reads, with a writer ---- */

static atomic_long committed;	/* version of row 1 that is acknowledged */
static atomic_long writes;
static atomic_bool writing;
static int	writer_pid;

/* Writes at a steady rate, so that no variant is slowed by a faster writer. */
static void *
run_steady_writer(void *data)
{
	PGconn	   *conn = connect_to(arg("primary", NULL), "");
	double		interval = 1e6 / number("writes", "1000");
	double		next;
	char		version[24];

	prepare(conn, "w", update_row);
	writer_pid = PQbackendPID(conn);
	next = now_us();
	for (long v = base + 1; !stopped; v++)
	{
		snprintf(version, sizeof(version), "%ld", v);
		execute(conn, "w", version, "1", NULL);
		committed = v;
		writes++;
		writing = true;
		next += interval;
		sleep_us(next - now_us());
		/* no burst after a stall */
		if (next < now_us() - 100 * interval)
			next = now_us();
	}
	PQfinish(conn);
	return NULL;
}

/*
 * CPU time, in us, of the processes on the primary that answer questions of
 * this run: all children of the postmaster but the writer and those named in
 * except= (streaming walsenders, auxiliary processes).
 */
static double
questions_cpu(void)
{
	DIR		   *proc;
	struct dirent *entry;
	double		sum = 0;
	int			postmaster = number("postmaster", "0");
	char		except[1024];

	if (postmaster == 0)
		return 0;
	snprintf(except, sizeof(except), ",%s,", arg("except", ""));
	proc = opendir("/proc");
	while (proc && (entry = readdir(proc)))
	{
		int			pid = atoi(entry->d_name);
		char		path[64];
		char		line[512];
		char	   *p;
		FILE	   *file;
		int			parent = 0;

		if (pid == 0 || pid == writer_pid)
			continue;
		snprintf(line, sizeof(line), ",%d,", pid);
		if (strstr(except, line))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		if ((file = fopen(path, "r")) == NULL)
			continue;
		p = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
		fclose(file);
		if (p == NULL || sscanf(p, ") %*c %d", &parent) != 1 || parent != postmaster)
			continue;

		sum += cpu_of(pid);
	}
	if (proc)
		closedir(proc);
	return sum;
}

/*
 * way=plain: just the read; what it guarantees is the server's business.
 * way=wait, way=poll: ask the primary for its position before each read, then
 * wait for it by WAIT FOR LSN, or by asking the standby every millisecond.
 * statement= is another read of the row whose number is $1.
 */
static void *
run_reader(void *data)
{
	Client	   *client = data;
	const char *way = arg("way", "plain");
	bool		asks = strcmp(way, "plain") != 0;
	bool		checked = number("writes", "1000") > 0;
	PGconn	   *primary = asks ? connect_to(arg("primary", NULL), "") : NULL;
	PGconn	   *standby = connect_to(arg("conn", NULL), arg("setup", ""));
	char		id[16];

	/* all read the writer's row; without a writer, rows nobody touches */
	snprintf(id, sizeof(id), "%d", checked ? 1 : 5000 + client->number);
	prepare(standby, "r", arg("statement", select_row));
	prepare(standby, "reached", "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn");
	if (asks)
		prepare(primary, "lsn", ask_lsn);
	ready();
	for (;;)
	{
		double		before = now_us();
		long		expected = committed;
		char		value[128] = "";
		char		lsn[128];
		char		text[256];

		if (before >= end_at)
			break;
		if (asks)
			execute(primary, "lsn", NULL, NULL, lsn);
		if (strcmp(way, "wait") == 0)
		{
			snprintf(text, sizeof(text), "WAIT FOR LSN '%s'", lsn);
			take(standby, PQexec(standby, text), value);
			if (strcmp(value, "success") != 0)
				die("WAIT FOR", value);
		}
		else if (strcmp(way, "poll") == 0)
		{
			while (execute(standby, "reached", lsn, NULL, value), value[0] != 't')
				sleep_us(POLL_INTERVAL_US);
		}
		execute(standby, "r", id, NULL, value);
		if (refused > client->refused)
		{
			client->refused = refused;
			continue;
		}
		add(&client->latencies, now_us() - before);
		if (checked && atol(value) < expected)
			client->stale++;
	}
	if (primary)
		PQfinish(primary);
	PQfinish(standby);
	return NULL;
}

/* Time that the end of a run is left out of the CPU time. */
#define CPU_MARGIN_US	20000

static double cpu_before;
static double cpu_started;
static double cpu_used;			/* us per second */
static long writes_done;

static void
reads_started(void)
{
	writes_done = writes;
	cpu_before = questions_cpu();
	cpu_started = now_us();
}

static void
reads_ended(void)
{
	writes_done = writes - writes_done;
}

/* Backends that end take their CPU time with them, so look before they do. */
static void *
watch_cpu(void *data)
{
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	sleep_us(end_at - now_us() - CPU_MARGIN_US);
	cpu_used = (questions_cpu() - cpu_before) / (now_us() - cpu_started) * 1e6;
	return NULL;
}

static void
mode_read(void)
{
	int			n = number("clients", "1");
	Client	   *clients = calloc(n, sizeof(Client));
	pthread_t	writer;
	bool		writes_too = number("writes", "1000") > 0;
	double		elapsed;

	committed = base;
	if (writes_too)
	{
		if (pthread_create(&writer, NULL, run_steady_writer, NULL) != 0)
			die("thread", "cannot be made");
		while (!writing)
			sleep_us(1000);
	}
	elapsed = run_clients(clients, n, run_reader, reads_started, reads_ended, watch_cpu);
	print_clients(clients, n, elapsed);
	printf(" cpu=%.1f writes=%.1f\n", cpu_used, writes_done / elapsed * 1e6);
	if (writes_too)
		pthread_join(writer, NULL);
}


/* ---- strong reads on an idle primary with unflushed WAL ---- */

static void
mode_idle(void)
{
	PGconn	   *primary = connect_to(arg("primary", NULL), "BEGIN");
	PGconn	   *standby = connect_to(arg("conn", NULL), arg("setup", ""));
	int			n = number("times", "300");
	Series		latencies = {0};
	double		start = now_us();

	prepare(standby, "r", select_row);
	prepare(primary, "w", "INSERT INTO junk SELECT repeat('x', 1900) FROM generate_series(1, 70)");
	for (int i = 0; i < n; i++)
	{
		double		before;

		/* 130 kB that nobody else's commit will flush */
		execute(primary, "w", NULL, NULL, NULL);
		before = now_us();
		execute(standby, "r", "1", NULL, NULL);
		add(&latencies, now_us() - before);
	}
	print_latencies(&latencies, now_us() - start);
	printf("\n");
	PQfinish(primary);
	PQfinish(standby);
}


/* ---- many that wait ---- */

/*
 * Commands on standard input:
 *
 *	send TEXT	each session sends TEXT and the read in one pipeline
 *	release TEXT	run TEXT on the primary and see when each has its row
 *
 * A line is printed after each.
 */
static void
mode_crowd(void)
{
	int			n = number("clients", "500");
	PGconn	   *primary = connect_to(arg("primary", NULL), "");
	PGconn	  **conns = calloc(n, sizeof(PGconn *));
	struct pollfd *fds = calloc(n, sizeof(struct pollfd));
	int		   *syncs = calloc(n, sizeof(int));
	char		line[1024];

	for (int i = 0; i < n; i++)
	{
		conns[i] = connect_to(arg("conn", NULL), arg("setup", ""));
		prepare(conns[i], "r", select_row);
		begin_pipelines(conns[i]);
	}
	printf("connected=%d\n", n);
	fflush(stdout);

	while (fgets(line, sizeof(line), stdin))
	{
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "send ", 5) == 0)
		{
			for (int i = 0; i < n; i++)
			{
				send_text(conns[i], line + 5);
				send_execute(conns[i], "r", "5000", NULL);
				if (PQflush(conns[i]) != 0)
					die("send", PQerrorMessage(conns[i]));
				syncs[i] = 2;
			}
			printf("sent=%d\n", n);
		}
		else if (strncmp(line, "release ", 8) == 0)
		{
			int			open = n;
			int			early = 0;
			double		start = 0;
			Series		latencies = {0};

			for (int round = 0; open > 0; round++)
			{
				/* the first look finds those who did not wait */
				for (int i = 0; i < n; i++)
				{
					fds[i].fd = syncs[i] > 0 ? PQsocket(conns[i]) : -1;
					fds[i].events = POLLIN;
				}
				if (poll(fds, n, round == 0 ? 0 : 60000) == 0 && round > 0)
					die("release", "a session was not released within a minute");
				for (int i = 0; i < n; i++)
				{
					if (fds[i].fd < 0 || !fds[i].revents)
						continue;
					if (!PQconsumeInput(conns[i]))
						die("connection lost", PQerrorMessage(conns[i]));
					while (syncs[i] > 0 && !PQisBusy(conns[i]))
					{
						PGresult   *res = PQgetResult(conns[i]);

						if (res == NULL)
							continue;
						if (PQresultStatus(res) == PGRES_PIPELINE_SYNC)
						{
							PQclear(res);
							syncs[i]--;
						}
						else
							take(conns[i], res, NULL);
					}
					if (syncs[i] == 0)
					{
						open--;
						if (round == 0)
							early++;
						else
							add(&latencies, now_us() - start);
					}
				}
				if (round == 0)
				{
					take(primary, PQexec(primary, line + 8), NULL);
					start = now_us();
				}
			}
			print_latencies(&latencies, 1e6);
			printf(" early=%d\n", early);
			free(latencies.values);
		}
		else
			die("unknown command", line);
		fflush(stdout);
	}
}


/* ---- replay ---- */

static void
mode_catchup(void)
{
	PGconn	   *standby = connect_to(arg("conn", NULL), "");
	const char *lsn = arg("lsn", NULL);
	char		value[128] = "";
	double		start;

	prepare(standby, "reached", "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn");
	start = now_us();
	take(standby, PQexec(standby, "SELECT pg_wal_replay_resume()"), NULL);
	while (execute(standby, "reached", lsn, NULL, value), value[0] != 't')
		sleep_us(2000);
	printf("ms=%.1f\n", (now_us() - start) / 1e3);
	PQfinish(standby);
}


/* ---- a network in between ---- */

typedef struct Chunk
{
	struct Chunk *next;
	double		due;
	ssize_t		len;			/* 0: the sender has closed */
	char		data[];
} Chunk;

/* One direction of one connection. */
typedef struct Stream
{
	int			from;
	int			to;
	bool		ended;
	Chunk	   *first;
	Chunk	  **last;
} Stream;

static int
open_socket(const char *path, bool listening)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int			fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd < 0 ||
		(listening ? bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		 listen(fd, 128) != 0 :
		 connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0))
		die(path, strerror(errno));
	return fd;
}

/*
 * Passes bytes on, each "delay" microseconds after it came.  What is written
 * is small, so that a write never blocks for long.
 */
static void
mode_proxy(void)
{
	static Stream streams[1024];
	static struct pollfd fds[1025];
	int			nstreams = 0;
	double		delay = number("delay", "500");
	int			door = open_socket(arg("from", NULL), true);

	printf("listening=1\n");
	fflush(stdout);
	for (;;)
	{
		double		now = now_us();
		double		next = now + 1e6;
		struct timespec timeout;

		for (int i = 0; i < nstreams; i++)
		{
			Stream	   *s = &streams[i];

			while (s->first && s->first->due <= now)
			{
				Chunk	   *chunk = s->first;

				if (chunk->len == 0)
					shutdown(s->to, SHUT_WR);
				for (ssize_t done = 0; done < chunk->len;)
				{
					ssize_t		len = send(s->to, chunk->data + done,
										   chunk->len - done, MSG_NOSIGNAL);

					if (len <= 0)
						break;
					done += len;
				}
				s->first = chunk->next;
				if (s->first == NULL)
					s->last = &s->first;
				free(chunk);
			}
			if (s->first && s->first->due < next)
				next = s->first->due;
			fds[i].fd = s->ended ? -1 : s->from;
			fds[i].events = POLLIN;
		}
		fds[nstreams].fd = nstreams + 2 <= 1024 ? door : -1;
		fds[nstreams].events = POLLIN;

		now = now_us();
		if (next < now)
			next = now;
		timeout.tv_sec = (next - now) / 1e6;
		timeout.tv_nsec = (next - now - timeout.tv_sec * 1e6) * 1e3;
		if (ppoll(fds, nstreams + 1, &timeout, NULL) <= 0)
			continue;

		now = now_us();
		for (int i = 0; i < nstreams; i++)
		{
			static char buffer[65536];
			Chunk	   *chunk;
			ssize_t		len;

			if (fds[i].fd < 0 || !fds[i].revents)
				continue;
			len = read(streams[i].from, buffer, sizeof(buffer));
			if (len <= 0)
			{
				len = 0;
				streams[i].ended = true;
			}
			chunk = malloc(sizeof(Chunk) + len);
			if (chunk == NULL)
				die("proxy", "out of memory");
			memcpy(chunk->data, buffer, len);
			chunk->len = len;
			chunk->due = now + delay;
			chunk->next = NULL;
			*streams[i].last = chunk;
			streams[i].last = &chunk->next;
		}
		if (fds[nstreams].fd >= 0 && fds[nstreams].revents)
		{
			int			client = accept(door, NULL, NULL);
			int			server = open_socket(arg("to", NULL), false);

			for (int i = 0; i < 2; i++)
			{
				Stream	   *s = &streams[nstreams++];

				s->from = i == 0 ? client : server;
				s->to = i == 0 ? server : client;
				s->last = &s->first;
			}
		}
	}
}


int
main(int argc, char **argv)
{
	static const struct
	{
		const char *name;
		void		(*run) (void);
	}			modes[] = {
		{"repeat", mode_repeat},
		{"write", mode_write},
		{"ryw", mode_ryw},
		{"read", mode_read},
		{"idle", mode_idle},
		{"crowd", mode_crowd},
		{"catchup", mode_catchup},
		{"proxy", mode_proxy},
	};

	if (argc < 2)
		die("usage", "client MODE key=value ...");
	arguments = argv + 2;
	base = time(NULL) * 1000000L;

	/* a client that polls every millisecond shall do so, and not later */
	prctl(PR_SET_TIMERSLACK, 1);

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
	{
		if (strcmp(argv[1], modes[i].name) == 0)
		{
			modes[i].run();
			return 0;
		}
	}
	die("unknown mode", argv[1]);
}
