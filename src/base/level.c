/*-------------------------------------------------------------------------
 *
 * level.c
 *	  Names and strength of read levels, and the steps of a fallback list.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "base/level.h"

const struct config_enum_entry tcs_level_options[] = {
	{"eventual", TCS_LEVEL_EVENTUAL, false},
	{"consistent_prefix", TCS_LEVEL_CONSISTENT_PREFIX, false},
	{"bounded", TCS_LEVEL_BOUNDED, false},
	{"read_your_writes", TCS_LEVEL_READ_YOUR_WRITES, false},
	{"monotonic_reads", TCS_LEVEL_MONOTONIC_READS, false},
	{"session", TCS_LEVEL_SESSION, false},
	{"sequential", TCS_LEVEL_SEQUENTIAL, false},
	{"causal", TCS_LEVEL_CAUSAL, false},
	{"snapshot", TCS_LEVEL_SNAPSHOT, false},
	{"strong", TCS_LEVEL_STRONG, false},
	{"linearizable", TCS_LEVEL_LINEARIZABLE, false},
	{NULL, 0, false}
};

const char *
tcs_level_name(TcsLevel level)
{
	for (const struct config_enum_entry *e = tcs_level_options; e->name; e++)
	{
		if (e->val == (int) level)
			return e->name;
	}
	return "unknown";
}

/* Level of a name; false for unknown ones. */
bool
tcs_level_by_name(const char *name, TcsLevel *level)
{
	for (const struct config_enum_entry *e = tcs_level_options; e->name; e++)
	{
		if (pg_strcasecmp(e->name, name) == 0)
		{
			*level = (TcsLevel) e->val;
			return true;
		}
	}
	return false;
}

/*
 * The same of an argument or a column: throws for unknown ones.  The caller refuses
 * levels of "except" (TCS_LEVEL_BIT) itself, so the hint does not name them.
 */
TcsLevel
tcs_level_require(const char *name, uint32 except)
{
	TcsLevel	level;

	if (!tcs_level_by_name(name, &level))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid read level: \"%s\"", name),
				 errhint("Valid levels: %s.",
						 tcs_option_names_hint(tcs_level_options, except))));
	return level;
}

/*
 * Strength of a level.  A level is weaker than another if its rank is lower:
 * whatever it promises of a statement's snapshot, the other promises too.  (That
 * "snapshot" gives one to a whole transaction is another matter.)
 */
int
tcs_level_rank(TcsLevel level)
{
	switch (level)
	{
		case TCS_LEVEL_EVENTUAL:
		case TCS_LEVEL_CONSISTENT_PREFIX:
			return 0;
		case TCS_LEVEL_READ_YOUR_WRITES:
		case TCS_LEVEL_MONOTONIC_READS:
			return 1;
		case TCS_LEVEL_SESSION:
		case TCS_LEVEL_SEQUENTIAL:
		case TCS_LEVEL_CAUSAL:
		case TCS_LEVEL_SNAPSHOT:
			return 2;
		case TCS_LEVEL_BOUNDED:
			return 3;
		case TCS_LEVEL_STRONG:
			return 4;
		case TCS_LEVEL_LINEARIZABLE:
		case TCS_LEVEL_COUNT:
			break;
	}
	return 5;
}

/* Is it a level at which the session's token alone says what has to be seen? */
bool
tcs_level_is_by_token(TcsLevel level)
{
	int			rank = tcs_level_rank(level);

	return rank > tcs_level_rank(TCS_LEVEL_EVENTUAL) &&
		rank <= tcs_level_rank(TCS_LEVEL_SESSION);
}

/*
 * The weakest level that promises what either does.  Of two that promise the same,
 * the first, but for "snapshot", which is also a promise to the transaction.
 */
TcsLevel
tcs_level_join(TcsLevel a, TcsLevel b)
{
	int			rank_a = tcs_level_rank(a);
	int			rank_b = tcs_level_rank(b);

	if (rank_a != rank_b)
		return rank_a > rank_b ? a : b;
	if ((a == TCS_LEVEL_READ_YOUR_WRITES && b == TCS_LEVEL_MONOTONIC_READS) ||
		(b == TCS_LEVEL_READ_YOUR_WRITES && a == TCS_LEVEL_MONOTONIC_READS))
		return TCS_LEVEL_SESSION;
	return b == TCS_LEVEL_SNAPSHOT ? b : a;
}

/* The names of an enum's values, for hints; "except" has the bits of those left out. */
const char *
tcs_option_names_hint(const struct config_enum_entry *options, uint32 except)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (const struct config_enum_entry *e = options; e->name; e++)
	{
		if ((except & (1U << e->val)) == 0)
			appendStringInfo(&buf, "%s%s", buf.len > 0 ? ", " : "", e->name);
	}
	return buf.data;
}

/* The names of all levels, which are all steps of a fallback. */
const char *
tcs_level_names_hint(void)
{
	return tcs_option_names_hint(tcs_level_options, 0);
}

/*
 * Parse a comma-separated list of steps.
 *
 * On failure the offending step is pointed out.  Neither throws nor
 * allocates, since it runs in a GUC check hook.
 */
bool
tcs_fallback_parse(const char *text, TcsFallback *fallback,
				   const char **bad_step, int *bad_len)
{
	const char *p = text;

	fallback->nsteps = 0;
	for (;;)
	{
		char		name[NAMEDATALEN];
		TcsStep    *step = &fallback->steps[fallback->nsteps];
		int			len;

		p += strspn(p, " \t\n\r");
		len = strcspn(p, ",");
		while (len > 0 && strchr(" \t\n\r", p[len - 1]))
			len--;
		*bad_step = p;
		*bad_len = pg_mbcliplen(p, len, NAMEDATALEN - 1);
		if (len == 0 || len >= NAMEDATALEN ||
			fallback->nsteps >= TCS_MAX_FALLBACK_STEPS - 1)
			return false;
		memcpy(name, p, len);
		name[len] = '\0';

		if (pg_strcasecmp(name, "error") == 0)
			step->kind = TCS_STEP_ERROR;
		else if (pg_strcasecmp(name, "redirect") == 0)
			step->kind = TCS_STEP_REDIRECT;
		else if (tcs_level_by_name(name, &step->level))
			step->kind = TCS_STEP_LEVEL;
		else
			return false;
		fallback->nsteps++;

		p += strcspn(p, ",");
		if (*p == '\0')
			break;
		p++;
	}
	fallback->steps[fallback->nsteps++].kind = TCS_STEP_ERROR;
	return true;
}

/* A list of steps as text, without the error at its end that is always there. */
char *
tcs_fallback_text(const TcsFallback *fallback)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < fallback->nsteps; i++)
	{
		const TcsStep *step = &fallback->steps[i];

		if (step->kind == TCS_STEP_ERROR)
		{
			appendStringInfo(&buf, "%serror", i > 0 ? ", " : "");
			break;
		}
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "",
						 step->kind == TCS_STEP_REDIRECT ? "redirect" : tcs_level_name(step->level));
	}
	return buf.data;
}
