/*-------------------------------------------------------------------------
 *
 * hint_origin.c
 *	  Where the text is of a statement that a rule has made another of.
 *
 * NOTES
 *	  What a rule of CREATE RULE adds to a statement, or puts in its place, has no
 *	  place in the message.  The hint is before the statement that the client
 *	  wrote.  Core analyses each statement of a message just before it plans what
 *	  the rules have made of it.  So the last place that analysis saw in this
 *	  message is the place of the statement.
 *
 *	  A prepared statement that is planned again has not been analysed in this
 *	  message.  If its text is one statement, that is the one.  The text of PREPARE
 *	  can have several; then nobody knows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "nodes/plannodes.h"
#include "tcop/tcopprot.h"

#include "choice/hint_origin.h"
#include "statement/statement_source.h"

/* The last statement of the client that was analysed and that a rule can change. */
static const char *noted_source = NULL;
static TimestampTz noted_in_message = 0;
static int	noted_location = 0;
static int	noted_len = 0;

/*
 * A statement has been analysed.  What a function runs has another text than the
 * message, and is left out.
 */
void
tcs_hint_note_origin(const char *source, const Query *query)
{
	if (source == NULL || source != debug_query_string)
		return;
	noted_source = source;
	noted_in_message = GetCurrentStatementStartTimestamp();
	noted_location = query->stmt_location;
	noted_len = query->stmt_len;
}

/* The place of the statement that a rule has changed.  False if nobody knows it. */
bool
tcs_hint_find_origin(const char *source, int *location, int *len)
{
	PlannedStmt whole = {.stmt_location = 0};
	RawStmt    *raw;

	if (noted_source == source &&
		noted_in_message == GetCurrentStatementStartTimestamp())
	{
		*location = noted_location;
		*len = noted_len;
		return true;
	}
	raw = tcs_statement_parse_quietly(&whole, &source);
	if (raw == NULL)
		return false;
	*location = raw->stmt_location;
	*len = raw->stmt_len;
	return true;
}
