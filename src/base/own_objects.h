/*-------------------------------------------------------------------------
 *
 * own_objects.h
 *	  Which objects of this database belong to the extension.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_OWN_OBJECTS_H
#define TCS_OWN_OBJECTS_H

/* Is an object a member of the extension? */
extern bool tcs_is_own(Oid class, Oid object);
extern bool tcs_is_own_function(Oid function);

/* Relation of the extension that has this name in its schema, or InvalidOid. */
extern Oid	tcs_own_relation(const char *name);

/* Is a schema one of the extension: that of what users call, or tcs_internal? */
extern bool tcs_is_own_schema(Oid schema);

/* Schema of the extension, or InvalidOid if it is not installed here. */
extern Oid	tcs_own_schema(void);

#endif							/* TCS_OWN_OBJECTS_H */
