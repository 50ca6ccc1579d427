/*-------------------------------------------------------------------------
 *
 * identity.c
 *	  Texts that say which object is meant, whatever a session has set.
 *
 * NOTES
 *	  Core quotes all names in such a text if quote_all_identifiers is on, which
 *	  any client may say.  Otherwise it quotes what its grammar calls a keyword,
 *	  and later versions have more of these.  All else in the texts made here has
 *	  a schema, or is a built-in type, and depends on no setting.
 *
 *	  So a text to be stored or sent is made with quote_all_identifiers off.  And
 *	  texts are compared without the quotes that a name does not need.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_proc.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/guc.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "base/identity.h"
#include "base/settings.h"

char *
tcs_identity_of_function(Oid function)
{
	int			level = NewGUCNestLevel();
	char	   *text;

	tcs_guc_set_for_now("quote_all_identifiers", "off");
	text = format_procedure_qualified(function);
	AtEOXact_GUC(true, level);
	return text;
}

char *
tcs_identity_of_object(const ObjectAddress *object)
{
	int			level = NewGUCNestLevel();
	char	   *text;

	tcs_guc_set_for_now("quote_all_identifiers", "off");
	text = getObjectIdentity(object, false);
	AtEOXact_GUC(true, level);
	return text;
}

/*
 * The end of a quoted name, behind its last quote; the end of the text if that is
 * missing.  *plain: would the name be the same without quotes, were it no keyword?
 */
static const char *
end_of_quoted(const char *quoted, bool *plain)
{
	const char *p = quoted + 1;

	*plain = (*p >= 'a' && *p <= 'z') || *p == '_';
	for (; *p != '\0'; p++)
	{
		if (*p == '"' && *++p != '"')
			return p;
		*plain &= (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '_';
	}
	*plain = false;
	return p;
}

/* A text without the quotes that no name in it needs. */
static char *
without_needless_quotes(const char *text)
{
	char	   *result = palloc(strlen(text) + 1);
	char	   *to = result;

	while (*text != '\0')
	{
		const char *end = text + 1;
		bool		plain = false;
		int			len;

		if (*text == '"')
			end = end_of_quoted(text, &plain);
		len = end - text - (plain ? 2 : 0);
		memcpy(to, text + (plain ? 1 : 0), len);
		to += len;
		text = end;
	}
	*to = '\0';
	return result;
}

bool
tcs_identity_same(const char *a, const char *b)
{
	return strcmp(a, b) == 0 ||
		strcmp(without_needless_quotes(a), without_needless_quotes(b)) == 0;
}

/* Is it a function of this signature? */
static bool
has_signature(Oid function, const char *signature)
{
	return SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(function)) &&
		tcs_identity_same(tcs_identity_of_function(function), signature);
}

/*
 * Take an identifier off the beginning of a signature: quoted, or up to a dot or a
 * parenthesis.  NULL if it cannot be the name of anything.
 */
static char *
take_identifier(const char **signature)
{
	const char *p = *signature;
	bool		quoted = *p == '"';
	char	   *name = palloc(strlen(p) + 1);
	int			n = 0;

	if (quoted)
		p++;
	while (*p != '\0' && (quoted || (*p != '.' && *p != '(')))
	{
		if (quoted && *p == '"' && *++p != '"')
		{
			quoted = false;
			break;
		}
		name[n++] = *p++;
	}
	name[n] = '\0';
	*signature = p;
	return quoted || n == 0 || n >= NAMEDATALEN ? NULL : name;
}

/*
 * The function of a signature, or InvalidOid.
 *
 * Only the name in it is parsed.  The rest may have a type that is gone, or a schema
 * that the present user may not use, and that must be no error.
 */
Oid
tcs_identity_find_function(const char *signature)
{
	const char *rest = signature;
	char	   *name;
	CatCList   *functions;
	Oid			found = InvalidOid;

	if (take_identifier(&rest) == NULL || *rest++ != '.' || (name = take_identifier(&rest)) == NULL)
		return InvalidOid;
	functions = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
	for (int i = 0; i < functions->n_members && !OidIsValid(found); i++)
	{
		HeapTuple	tuple = &functions->members[i]->tuple;
		Oid			function = ((Form_pg_proc) GETSTRUCT(tuple))->oid;

		if (function >= FirstNormalObjectId && has_signature(function, signature))
			found = function;
	}
	ReleaseSysCacheList(functions);
	return found;
}
