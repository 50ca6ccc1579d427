/*-------------------------------------------------------------------------
 *
 * identity.h
 *	  Texts that say which object is meant, whatever a session has set.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_IDENTITY_H
#define TCS_IDENTITY_H

#include "catalog/objectaddress.h"

/* Schema, name and types of arguments of a function, which must be there. */
extern char *tcs_identity_of_function(Oid function);

/* The same of any object. */
extern char *tcs_identity_of_object(const ObjectAddress *object);

/* Do two texts of functions mean the same, however their names are quoted? */
extern bool tcs_identity_same(const char *a, const char *b);

/* The function that such a text is of; InvalidOid if there is none. */
extern Oid	tcs_identity_find_function(const char *identity);

#endif							/* TCS_IDENTITY_H */
