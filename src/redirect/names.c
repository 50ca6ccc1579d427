/*-------------------------------------------------------------------------
 *
 * names.c
 *	  Do the names in a redirected text mean the same objects on the primary?
 *
 * NOTES
 *	  A text is written and checked by the catalogs of the standby, which is
 *	  behind.  It leaves out schemas that are in search_path.  On the primary
 *	  somebody may have made an object of that name in an earlier schema by now:
 *	  a view or function that would run as the reader, although the reader has
 *	  named the schema.  Operators within IS DISTINCT FROM and the like have no
 *	  place for a schema at all.
 *
 *	  So the text carries a digest in a comment at its end: of the identities,
 *	  with schemas and types of arguments, of all objects that it names.  The
 *	  primary makes the same digest when it has analysed the text, and refuses it
 *	  if the two differ.  Objects of the system are left out on both sides, so one
 *	  that takes the place of a system object changes the digest.
 *
 *	  It is a set of identities, not of numbers: a table that was dropped and made
 *	  again in its schema is the table that the reader means.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_ts_config.h"
#include "catalog/pg_ts_dict.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "nodes/nodeFuncs.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "base/identity.h"
#include "redirect/names.h"

/* Without "tcs(", by which hints are told. */
#define TCS_NAMES_MARK		" /* names: "
#define TCS_NAMES_WRAPPED	" /* names within: "

/* What is found: a list of Oids for each class, without repetitions. */
typedef struct Named
{
	Oid			classid;
	List	   *objects;
} Named;

#define TCS_NAMED_CLASSES 8

typedef struct Names
{
	Named		named[TCS_NAMED_CLASSES];
} Names;

static void
add_name(Names *names, Oid classid, Oid object)
{
	if (object < FirstNormalObjectId)
		return;
	for (int i = 0; i < TCS_NAMED_CLASSES; i++)
	{
		Named	   *named = &names->named[i];

		if (!OidIsValid(named->classid))
			named->classid = classid;
		if (named->classid == classid)
		{
			named->objects = list_append_unique_oid(named->objects, object);
			return;
		}
	}
	elog(ERROR, "unexpected class %u", classid);
}

static void
add_type(Names *names, Oid type)
{
	Oid			element = get_element_type(type);

	add_name(names, TypeRelationId, OidIsValid(element) ? element : type);
}

/* A constant can be an object: of type regclass and its kin. */
static void
add_constant(Names *names, const Const *constant)
{
	add_type(names, constant->consttype);
	if (constant->constisnull)
		return;
	switch (constant->consttype)
	{
		case REGCLASSOID:
			add_name(names, RelationRelationId, DatumGetObjectId(constant->constvalue));
			break;
		case REGPROCOID:
		case REGPROCEDUREOID:
			add_name(names, ProcedureRelationId, DatumGetObjectId(constant->constvalue));
			break;
		case REGOPEROID:
		case REGOPERATOROID:
			add_name(names, OperatorRelationId, DatumGetObjectId(constant->constvalue));
			break;
		case REGTYPEOID:
			add_type(names, DatumGetObjectId(constant->constvalue));
			break;
		case REGCOLLATIONOID:
			add_name(names, CollationRelationId, DatumGetObjectId(constant->constvalue));
			break;
		case REGCONFIGOID:
			add_name(names, TSConfigRelationId, DatumGetObjectId(constant->constvalue));
			break;
		case REGDICTIONARYOID:
			add_name(names, TSDictionaryRelationId, DatumGetObjectId(constant->constvalue));
			break;
		case REGNAMESPACEOID:
			add_name(names, NamespaceRelationId, DatumGetObjectId(constant->constvalue));
			break;
	}
}

static void
add_operators(Names *names, const List *operators)
{
	ListCell   *lc;

	foreach(lc, operators)
		add_name(names, OperatorRelationId, lfirst_oid(lc));
}

/* The objects that an expression names itself. */
static void
add_of_expression(Names *names, Node *node)
{
	switch (nodeTag(node))
	{
		case T_Const:
			add_constant(names, (Const *) node);
			break;
		case T_FuncExpr:
			add_name(names, ProcedureRelationId, ((FuncExpr *) node)->funcid);
			break;
		case T_Aggref:
			add_name(names, ProcedureRelationId, ((Aggref *) node)->aggfnoid);
			break;
		case T_WindowFunc:
			add_name(names, ProcedureRelationId, ((WindowFunc *) node)->winfnoid);
			break;
		case T_TableSampleClause:
			add_name(names, ProcedureRelationId, ((TableSampleClause *) node)->tsmhandler);
			break;
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
			add_name(names, OperatorRelationId, ((OpExpr *) node)->opno);
			break;
		case T_ScalarArrayOpExpr:
			add_name(names, OperatorRelationId, ((ScalarArrayOpExpr *) node)->opno);
			break;
		case T_RowCompareExpr:
			add_operators(names, ((RowCompareExpr *) node)->opnos);
			break;
		case T_CollateExpr:
			add_name(names, CollationRelationId, ((CollateExpr *) node)->collOid);
			break;
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_ArrayCoerceExpr:
		case T_ConvertRowtypeExpr:
		case T_CoerceToDomain:
		case T_RowExpr:
			add_type(names, exprType(node));
			break;
		default:
			break;
	}
}

static bool
names_walker(Node *node, void *context)
{
	Names	   *names = context;

	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION)
			add_name(names, RelationRelationId, rte->relid);
		return false;			/* what is in it comes by itself */
	}
	if (IsA(node, Query))
	{
		ListCell   *lc;

		/* ORDER BY ... USING */
		foreach(lc, ((Query *) node)->sortClause)
			add_name(names, OperatorRelationId, lfirst_node(SortGroupClause, lc)->sortop);
		return query_tree_walker((Query *) node, names_walker, context,
								 QTW_EXAMINE_RTES_BEFORE);
	}
	add_of_expression(names, node);
	return expression_tree_walker(node, names_walker, context);
}

/*
 * A number for one object.  Who makes objects chooses their names, so a hash that can
 * be made to collide would not do.
 */
static uint64
digest_of_object(const ObjectAddress *address)
{
	char	   *identity = tcs_identity_of_object(address);
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
	uint8		hash[PG_SHA256_DIGEST_LENGTH];
	uint64		digest;

	if (ctx == NULL || pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) &address->classId, sizeof(Oid)) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) identity, strlen(identity)) < 0 ||
		pg_cryptohash_final(ctx, hash, sizeof(hash)) < 0)
		elog(ERROR, "could not compute a SHA-256 hash");
	pg_cryptohash_free(ctx);
	memcpy(&digest, hash, sizeof(digest));
	return digest;
}

/* A number for the set of objects, none of the system, that a query names. */
uint64
tcs_names_digest(const Query *query)
{
	Names		names = {0};
	uint64		digest = 0;

	(void) names_walker((Node *) query, &names);
	for (int i = 0; i < TCS_NAMED_CLASSES; i++)
	{
		ListCell   *lc;

		foreach(lc, names.named[i].objects)
		{
			ObjectAddress address = {names.named[i].classid, lfirst_oid(lc), 0};

			/* a sum, as the order is not that of the text */
			digest += digest_of_object(&address);
		}
	}
	return digest;
}

/*
 * The comment that goes behind a text.  "wrapped": the text is within another
 * query, which only converts its columns.
 */
char *
tcs_names_mark(uint64 digest, bool wrapped)
{
	return psprintf("%s" UINT64_FORMAT " */",
					wrapped ? TCS_NAMES_WRAPPED : TCS_NAMES_MARK, digest);
}

/* What stands behind the last mark of this kind, or NULL. */
static const char *
behind_mark(const char *source, const char *mark)
{
	const char *found = NULL;

	while ((source = strstr(source, mark)) != NULL)
		found = source += strlen(mark);
	return found;
}

/*
 * On the primary: refuse a text with a mark that does not fit.  40001.
 *
 * The mark is the last thing in the text, so nothing that the text quotes is taken
 * for it.  Texts without a mark are none that a standby has sent.
 */
void
tcs_names_require(const char *source, const Query *query)
{
	const char *digest;
	const Query *inner = query;

	if (source == NULL || query->commandType != CMD_SELECT)
		return;
	digest = behind_mark(source, TCS_NAMES_MARK);
	if (digest == NULL)
	{
		const RangeTblEntry *rte = query->rtable == NIL ? NULL :
			linitial_node(RangeTblEntry, query->rtable);

		digest = behind_mark(source, TCS_NAMES_WRAPPED);
		inner = rte != NULL && rte->rtekind == RTE_SUBQUERY ? rte->subquery : NULL;
	}
	if (digest == NULL)
		return;
	if (inner == NULL || tcs_names_digest(inner) != strtou64(digest, NULL, 10))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the names in the statement mean other objects on the primary"),
				 errdetail("The standby has not replayed yet what has changed there."),
				 errhint("Retry when the standby has caught up, or run the statement on the primary.")));
}
