/*-------------------------------------------------------------------------
 *
 * startup_packet.c
 *	  What a client has said of itself before there is a session.
 *
 * NOTES
 *	  Core's header for that includes those of OpenSSL and GSSAPI, which are not
 *	  installed where PostgreSQL's own are.  What they declare is used in the tail
 *	  of the structure only, so this file does without.  It must not use more of
 *	  the structure than what comes before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#undef ENABLE_GSS
#undef USE_OPENSSL
#undef USE_SSL
#include "libpq/libpq-be.h"
#include "miscadmin.h"

#include "primary/read_index.h"

/* Does the client introduce itself as the worker of a standby? */
bool
tcs_client_is_asker(void)
{
	return MyProcPort != NULL && MyProcPort->application_name != NULL &&
		strncmp(MyProcPort->application_name, TCS_ASKER_PREFIX,
				strlen(TCS_ASKER_PREFIX)) == 0;
}
