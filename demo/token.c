/*
 * demo/token.c
 *	  Runs one statement and prints the token that came back with its commit.
 *
 * There is no second question to the server: tcs.session_token is a parameter
 * that the server reports, like client_encoding, before it says that it is
 * ready for the next query.  libpq keeps it; every driver with access to
 * parameter status messages can do the same.
 *
 * Usage: token CONNINFO SQL
 */
#include <stdio.h>

#include <libpq-fe.h>

int
main(int argc, char **argv)
{
	PGconn	   *conn;
	PGresult   *res;
	const char *token;
	int			status = 1;

	if (argc != 3)
	{
		fprintf(stderr, "usage: %s CONNINFO SQL\n", argv[0]);
		return 2;
	}

	conn = PQconnectdb(argv[1]);
	res = PQexec(conn, argv[2]);
	if (PQresultStatus(res) != PGRES_COMMAND_OK &&
		PQresultStatus(res) != PGRES_TUPLES_OK)
		fprintf(stderr, "%s", PQerrorMessage(conn));
	else if ((token = PQparameterStatus(conn, "tcs.session_token")) == NULL)
		fprintf(stderr, "this server does not report tcs.session_token\n");
	else
	{
		printf("%s\n", token);
		status = 0;
	}
	PQclear(res);
	PQfinish(conn);
	return status;
}
