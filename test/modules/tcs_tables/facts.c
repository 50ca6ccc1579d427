/*-------------------------------------------------------------------------
 *
 * facts.c
 *	  One row of a table: facts as name=value, and readers for them.
 *
 * NOTES
 *	  A row is a text like "level=session written=90".  A fact whose value is
 *	  "." counts as not said.  A name that nobody asks for is an error, so that
 *	  a slip in a table cannot make a row that tests nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "facts.h"

typedef struct Fact
{
	char	   *name;
	char	   *value;
	bool		used;
} Fact;

struct Facts
{
	List	   *list;			/* of Fact */
};

Facts *
facts_parse(const char *text)
{
	Facts	   *facts = palloc0(sizeof(Facts));
	char	   *rest = pstrdup(text);
	char	   *word;

	while ((word = strsep(&rest, " ")) != NULL)
	{
		Fact	   *fact;
		char	   *equals = strchr(word, '=');

		if (*word == '\0')
			continue;
		if (equals == NULL)
			elog(ERROR, "\"%s\" is no name=value", word);
		*equals = '\0';
		fact = palloc0(sizeof(Fact));
		fact->name = word;
		fact->value = equals + 1;
		facts->list = lappend(facts->list, fact);
	}
	return facts;
}

void
facts_check_all_used(const Facts *facts)
{
	ListCell   *lc;

	foreach(lc, facts->list)
	{
		const Fact *fact = lfirst(lc);

		if (!fact->used)
			elog(ERROR, "nothing depends on a fact \"%s\"", fact->name);
	}
}

/* The last one of this name counts, so that a row can override its section. */
const char *
fact_text(Facts *facts, const char *name, const char *otherwise)
{
	const char *value = otherwise;
	ListCell   *lc;

	foreach(lc, facts->list)
	{
		Fact	   *fact = lfirst(lc);

		if (strcmp(fact->name, name) != 0)
			continue;
		fact->used = true;
		value = strcmp(fact->value, ".") == 0 ? otherwise : fact->value;
	}
	return value;
}

bool
fact_flag(Facts *facts, const char *name)
{
	const char *value = fact_text(facts, name, "no");

	if (strcmp(value, "yes") == 0)
		return true;
	if (strcmp(value, "no") != 0)
		elog(ERROR, "\"%s\" is neither yes nor no: %s", name, value);
	return false;
}

static int64
parse_number(const char *name, const char *text, char **end)
{
	int64		number;

	errno = 0;
	number = strtoll(text, end, 10);
	if (errno != 0 || *end == text)
		elog(ERROR, "\"%s\" is no number: %s", name, text);
	return number;
}

int64
fact_number(Facts *facts, const char *name, int64 otherwise)
{
	const char *value = fact_text(facts, name, NULL);
	char	   *end;
	int64		number;

	if (value == NULL)
		return otherwise;
	number = parse_number(name, value, &end);
	if (*end != '\0')
		elog(ERROR, "\"%s\" is no number: %s", name, value);
	return number;
}

TcsLevel
fact_level(Facts *facts, const char *name, TcsLevel otherwise)
{
	const char *value = fact_text(facts, name, NULL);
	TcsLevel	level;

	if (value == NULL)
		return otherwise;
	if (!tcs_level_by_name(value, &level))
		elog(ERROR, "\"%s\" is no level: %s", name, value);
	return level;
}

/* A position is written timeline:lsn, both in decimal digits. */
TcsPosition
fact_position(Facts *facts, const char *name, TcsPosition otherwise)
{
	const char *value = fact_text(facts, name, NULL);
	TcsPosition position;
	char	   *end;

	if (value == NULL)
		return otherwise;
	position.tli = (TimeLineID) parse_number(name, value, &end);
	if (*end != ':')
		elog(ERROR, "\"%s\" is no timeline:lsn: %s", name, value);
	position.lsn = (XLogRecPtr) parse_number(name, end + 1, &end);
	if (*end != '\0')
		elog(ERROR, "\"%s\" is no timeline:lsn: %s", name, value);
	return position;
}

/* Place of the value in a list of words that ends with NULL. */
int
fact_one_of(Facts *facts, const char *name, const char *const *words, int otherwise)
{
	const char *value = fact_text(facts, name, NULL);

	if (value == NULL)
		return otherwise;
	for (int i = 0; words[i] != NULL; i++)
	{
		if (strcmp(words[i], value) == 0)
			return i;
	}
	elog(ERROR, "\"%s\" cannot be %s", name, value);
	return otherwise;
}

/* Words as "write+excuse", of a list that ends with NULL; without the fact, none. */
int
fact_bits(Facts *facts, const char *name, const FactBit *words)
{
	char	   *rest = pstrdup(fact_text(facts, name, ""));
	char	   *word;
	int			bits = 0;

	while ((word = strsep(&rest, "+")) != NULL)
	{
		int			i = 0;

		if (*word == '\0')
			continue;
		while (words[i].name != NULL && strcmp(words[i].name, word) != 0)
			i++;
		if (words[i].name == NULL)
			elog(ERROR, "\"%s\" cannot be %s", name, word);
		bits |= words[i].bit;
	}
	return bits;
}

/* As in tcs.fallback; without the fact, "error". */
void
fact_fallback(Facts *facts, const char *name, TcsFallback *fallback)
{
	const char *bad_step;
	int			bad_len;
	const char *value = fact_text(facts, name, "error");

	/* a step that has no level must not have one by chance that is skipped */
	memset(fallback, 0, sizeof(*fallback));
	if (!tcs_fallback_parse(value, fallback, &bad_step, &bad_len))
		elog(ERROR, "\"%s\" is no fallback: %s", name, value);
}
