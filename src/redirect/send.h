/*-------------------------------------------------------------------------
 *
 * send.h
 *	  Values in a form that redirect/receive.c takes, and the names in them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_SEND_H
#define TCS_SEND_H

#include "lib/stringinfo.h"

extern void tcs_send(StringInfo buf, StringInfo names, Oid type, Datum value);

#endif							/* TCS_SEND_H */
