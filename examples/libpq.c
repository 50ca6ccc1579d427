/*
 * libpq: write on the primary, read it back on a standby.
 *
 *	   cc -I"$(pg_config --includedir)" libpq.c -o libpq -lpq
 *	   PRIMARY_URL=... STANDBY_URL=... ./libpq
 *
 * The token comes with the write, as ParameterStatus: PQparameterStatus()
 * asks nobody.  It goes to the standby in the pipeline of the read, so handing
 * it over costs no round trip either.
 */
#include <stdio.h>
#include <stdlib.h>

#include <libpq-fe.h>

static void
fail(PGconn *conn, const char *what)
{
	fprintf(stderr, "%s: %s\n", what, PQerrorMessage(conn));
	exit(1);
}

static PGconn *
connect_to(const char *variable)
{
	const char *url = getenv(variable);
	PGconn	   *conn = PQconnectdb(url ? url : "");

	if (PQstatus(conn) != CONNECTION_OK)
		fail(conn, variable);
	return conn;
}

/* The next result of a pipeline, and the NULL that ends it. */
static PGresult *
next_result(PGconn *conn)
{
	PGresult   *result = PQgetResult(conn);

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		fail(conn, "read on the standby");
	if (PQgetResult(conn) != NULL)
		fail(conn, "pipeline");
	return result;
}

int
main(void)
{
	PGconn	   *primary = connect_to("PRIMARY_URL");
	PGconn	   *standby = connect_to("STANDBY_URL");
	const char *body = "hello from libpq";
	const char *token;
	const char *id;
	PGresult   *written;
	PGresult   *read;
	int			found;

	written = PQexecParams(primary, "INSERT INTO notes (body) VALUES ($1) RETURNING id",
						   1, NULL, &body, NULL, NULL, 0);
	if (PQresultStatus(written) != PGRES_TUPLES_OK)
		fail(primary, "write on the primary");
	id = PQgetvalue(written, 0, 0);
	token = PQparameterStatus(primary, "tcs.session_token");
	printf("token: %s\n", token ? token : "");

	/*
	 * Up to the Sync a pipeline is one transaction, which is how long the
	 * "true" of set_config() keeps the token: SET LOCAL with a parameter.
	 */
	PQenterPipelineMode(standby);
	PQsendQueryParams(standby, "SELECT set_config('tcs.session_token', $1, true)",
					  1, NULL, &token, NULL, NULL, 0);
	PQsendQueryParams(standby, "SELECT body FROM notes WHERE id = $1",
					  1, NULL, &id, NULL, NULL, 0);
	PQpipelineSync(standby);
	PQclear(next_result(standby));
	read = next_result(standby);

	found = PQntuples(read);
	printf("standby: %s\n", found ? PQgetvalue(read, 0, 0) : "no such row");
	if (!found || !token || !*token)
		return 1;

	PQclear(written);
	PQclear(read);
	PQfinish(primary);
	PQfinish(standby);
	return 0;
}
