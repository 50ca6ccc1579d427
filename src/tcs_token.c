/*-------------------------------------------------------------------------
 *
 * tcs_token.c
 *	  Text form of session tokens, and their maximum.
 *
 * NOTES
 *	  A token is
 *
 *		version.sysid.timeline.begin.written.seen_primary.seen_standby.check
 *
 *	  in hexadecimal digits.  Every choice serves poolers: PgBouncer compares
 *	  values without regard to case, so the alphabet has none to lose; quotes
 *	  and backslashes do not occur; 125 bytes are never exceeded.  The check
 *	  digits are the CRC-32C of everything before the last dot.  That rule, the
 *	  leading version and the alphabet hold for all versions, so that a node
 *	  can tell a token of a later release from garbage.
 *
 *	  Nothing here throws, allocates or looks at shared state: the parser runs
 *	  in a GUC check hook and the formatter in a commit callback.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/pg_crc32c.h"

#include "tcs_token.h"

#define TCS_TOKEN_NFIELDS	8

/* CRC of a text in lower case. */
static uint32
tcs_token_check_digits(const char *text, int len)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, text, len);
	FIN_CRC32C(crc);
	return crc;
}

/*
 * Copy a text in lower case, if it is short enough and of the alphabet.
 * Returns its length, or -1.
 *
 * All characters of the alphabet have bit 0x20 set, or are its upper-case
 * letters, which get it; what is below 0x20 is not part of it.
 */
static int
tcs_token_fold(const char *text, char folded[TCS_TOKEN_MAXLEN + 1])
{
	int			len;

	for (len = 0; text[len] != '\0'; len++)
	{
		unsigned char c = (unsigned char) text[len];
		unsigned char lower = c | 0x20;

		if (len == TCS_TOKEN_MAXLEN || c < 0x20 ||
			!((lower >= '0' && lower <= ':') || (lower >= 'a' && lower <= 'f') ||
			  c == '.' || c == '-'))
			return -1;
		folded[len] = (char) lower;
	}
	folded[len] = '\0';
	return len;
}

/*
 * Read up to 16 hexadecimal digits that end at a dot or at the end of the
 * text; returns the place after them, or NULL.
 */
static const char *
tcs_token_read_hex(const char *p, uint64 *value)
{
	const char *start = p;

	*value = 0;
	for (; *p != '\0' && *p != '.'; p++)
	{
		if (*p == ':' || *p == '-')
			return NULL;
		*value = (*value << 4) | (*p <= '9' ? *p - '0' : *p - 'a' + 10);
	}
	return p > start && p - start <= 16 ? p : NULL;
}

/*
 * Parse the text of a token.
 *
 * Returns false for what is no token of any version.  A token of an unknown
 * version is accepted with version 0: refusing it at SET would cost a pooler
 * its server connection during a rolling upgrade, so it is refused when a
 * statement depends on it.
 */
bool
tcs_token_parse(const char *text, TcsToken *token)
{
	char		folded[TCS_TOKEN_MAXLEN + 1];
	uint64		field[TCS_TOKEN_NFIELDS];
	uint64		check;
	const char *last_dot;
	const char *p = folded;
	int			len = tcs_token_fold(text, folded);

	memset(token, 0, sizeof(*token));
	if (len < 0)
		return false;
	last_dot = strrchr(folded, '.');
	if (last_dot == NULL)
		return false;

	p = tcs_token_read_hex(last_dot + 1, &check);
	if (p == NULL || check != tcs_token_check_digits(folded, last_dot - folded))
		return false;

	p = folded;
	for (int i = 0; i < TCS_TOKEN_NFIELDS; i++)
	{
		p = tcs_token_read_hex(p, &field[i]);
		if (p == NULL || (i == 0 && field[0] == 0))
			return false;
		if (i == 0 && field[0] != TCS_TOKEN_VERSION)
			return true;
		if (*p != (i == TCS_TOKEN_NFIELDS - 1 ? '\0' : '.'))
			return false;
		p++;
	}
	if (field[2] == 0 || field[2] > PG_UINT32_MAX)
		return false;

	token->version = TCS_TOKEN_VERSION;
	token->system_identifier = field[1];
	token->tli = (TimeLineID) field[2];
	token->tli_begin = field[3];
	token->written = field[4];
	token->seen_primary = field[5];
	token->seen_standby = field[6];
	return true;
}

/* Append a number in hexadecimal digits, at least "width" of them. */
static char *
tcs_token_put_hex(char *p, uint64 value, int width)
{
	char		digits[16];
	int			n = 0;

	do
	{
		digits[n++] = "0123456789abcdef"[value & 15];
		value >>= 4;
	} while (value != 0);
	while (n < width)
		digits[n++] = '0';
	while (n > 0)
		*p++ = digits[--n];
	return p;
}

/*
 * Write the text of a token.
 *
 * The positions that a commit raises, and the check digits, have all their
 * digits, so that a commit does not change the length (see tcs_session.c).
 */
void
tcs_token_format(const TcsToken *token, char buf[TCS_TOKEN_MAXLEN + 1])
{
	char	   *p = buf;

	p = tcs_token_put_hex(p, TCS_TOKEN_VERSION, 1);
	*p++ = '.';
	p = tcs_token_put_hex(p, token->system_identifier, 1);
	*p++ = '.';
	p = tcs_token_put_hex(p, token->tli, 1);
	*p++ = '.';
	p = tcs_token_put_hex(p, token->tli_begin, 1);
	*p++ = '.';
	p = tcs_token_put_hex(p, token->written, 16);
	*p++ = '.';
	p = tcs_token_put_hex(p, token->seen_primary, 16);
	*p++ = '.';
	p = tcs_token_put_hex(p, token->seen_standby, 1);
	*p = '.';
	p = tcs_token_put_hex(p + 1, tcs_token_check_digits(buf, p - buf), 8);
	*p = '\0';
}

/* Raise each position of token to that of other; both on one history. */
void
tcs_token_raise(TcsToken *token, const TcsToken *other)
{
	token->written = Max(token->written, other->written);
	token->seen_primary = Max(token->seen_primary, other->seen_primary);
	token->seen_standby = Max(token->seen_standby, other->seen_standby);
}
