/*-------------------------------------------------------------------------
 *
 * token.c
 *	  Text form of session tokens, and their maximum.
 *
 * NOTES
 *	  A token is
 *
 *		version.sysid.timeline.begin.written.seen_primary.seen_standby.flags.check
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

#include "port/pg_bitutils.h"
#include "port/pg_crc32c.h"

#include "token/token.h"

#define TCS_TOKEN_NFIELDS	9

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

/* A part of a token between dots; no number unless it has 1 to 16 digits. */
typedef struct TcsTokenField
{
	uint64		value;
	int			width;
} TcsTokenField;

static inline bool
tcs_token_is_number(const TcsTokenField *field)
{
	return field->width >= 1 && field->width <= 16;
}

/*
 * Take a text apart, and copy it in lower case, in one pass.
 *
 * Returns the number of its fields, of which those that fit are filled in, and
 * the place of the last dot; or 0 if it is too long or not of the alphabet.
 */
static int
tcs_token_split(const char *text, char folded[TCS_TOKEN_MAXLEN],
				TcsTokenField field[TCS_TOKEN_NFIELDS],
				TcsTokenField *last, int *last_dot)
{
	TcsTokenField current = {0};
	int			n = 0;

	for (int i = 0; text[i] != '\0'; i++)
	{
		unsigned char c = (unsigned char) text[i];
		unsigned char lower = c | 0x20;

		if (i == TCS_TOKEN_MAXLEN)
			return 0;
		if (c >= '0' && c <= '9')
		{
			folded[i] = (char) c;
			current.value = (current.value << 4) | (c - '0');
			current.width++;
		}
		else if (lower >= 'a' && lower <= 'f')
		{
			folded[i] = (char) lower;
			current.value = (current.value << 4) | (lower - 'a' + 10);
			current.width++;
		}
		else if (c == '.')
		{
			folded[i] = '.';
			if (n < TCS_TOKEN_NFIELDS)
				field[n] = current;
			n++;
			*last_dot = i;
			memset(&current, 0, sizeof(current));
		}
		else if (c == ':' || c == '-')
		{
			/* other versions may use them */
			folded[i] = (char) c;
			current.width = TCS_TOKEN_MAXLEN;
		}
		else
			return 0;
	}
	if (n < TCS_TOKEN_NFIELDS)
		field[n] = current;
	*last = current;
	return n + 1;
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
	char		folded[TCS_TOKEN_MAXLEN];
	TcsTokenField field[TCS_TOKEN_NFIELDS];
	TcsTokenField check;
	int			last_dot = 0;
	int			n = tcs_token_split(text, folded, field, &check, &last_dot);

	memset(token, 0, sizeof(*token));
	if (n < 2 || !tcs_token_is_number(&check) ||
		check.value != tcs_token_check_digits(folded, last_dot) ||
		!tcs_token_is_number(&field[0]) || field[0].value == 0)
		return false;
	if (field[0].value != TCS_TOKEN_VERSION)
		return true;

	if (n != TCS_TOKEN_NFIELDS)
		return false;
	for (int i = 1; i < TCS_TOKEN_NFIELDS; i++)
	{
		if (!tcs_token_is_number(&field[i]))
			return false;
	}
	if (field[2].value == 0 || field[2].value > PG_UINT32_MAX ||
		field[7].width != 1)
		return false;

	token->version = TCS_TOKEN_VERSION;
	token->system_identifier = field[1].value;
	token->tli = (TimeLineID) field[2].value;
	token->tli_begin = field[3].value;
	token->written = field[4].value;
	token->seen_primary = field[5].value;
	token->seen_standby = field[6].value;
	token->flags = (uint32) field[7].value & (TCS_TOKEN_NOT_DURABLE | TCS_TOKEN_APART);
	return true;
}

/* Append a number in hexadecimal digits, at least "width" of them. */
static char *
tcs_token_put_hex(char *p, uint64 value, int width)
{
	int			n = Max(width, pg_leftmost_one_pos64(value | 1) / 4 + 1);

	for (int i = n - 1; i >= 0; i--)
	{
		p[i] = "0123456789abcdef"[value & 15];
		value >>= 4;
	}
	return p + n;
}

/*
 * Write the text of a token.
 *
 * The positions that a commit raises, and the check digits, have all their
 * digits, and the flags have one, so that a commit does not change the length (see session/session_token.c).
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
	*p++ = '.';
	p = tcs_token_put_hex(p, token->flags, 1);
	*p = '.';
	p = tcs_token_put_hex(p + 1, tcs_token_check_digits(buf, p - buf), 8);
	*p = '\0';
}

/*
 * Raise each position of token to that of other; both on one history.  What
 * either does not lie on stays apart.
 *
 * Whether the write is durable is told of the one that stays.  Of one and the
 * same, it was durable as soon as somebody knew it to be.
 */
void
tcs_token_raise(TcsToken *token, const TcsToken *other)
{
	uint32		durable = token->flags & TCS_TOKEN_NOT_DURABLE;
	uint32		apart = (token->flags | other->flags) & TCS_TOKEN_APART;

	if (other->written > token->written)
		durable = other->flags & TCS_TOKEN_NOT_DURABLE;
	else if (other->written == token->written)
		durable &= other->flags;
	token->flags = durable | apart;
	token->written = Max(token->written, other->written);
	token->seen_primary = Max(token->seen_primary, other->seen_primary);
	token->seen_standby = Max(token->seen_standby, other->seen_standby);
}
