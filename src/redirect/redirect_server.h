/*-------------------------------------------------------------------------
 *
 * redirect_server.h
 *	  The redirect server: a foreign server and the user's mapping to it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_REDIRECT_SERVER_H
#define TCS_REDIRECT_SERVER_H

/* How to connect, and as whom. */
typedef struct TcsServer
{
	char	   *name;
	const char **keywords;		/* NULL-terminated, for libpq */
	const char **values;
	bool		has_password;	/* a password of the mapping */
	bool		needs_proof;	/* the server must have asked for it, or for a
								 * credential of the client */
} TcsServer;

extern bool tcs_server_exists(void);
extern TcsServer *tcs_server_get(char **why_not);

#endif							/* TCS_REDIRECT_SERVER_H */
