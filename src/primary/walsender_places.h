/*-------------------------------------------------------------------------
 *
 * walsender_places.h
 *	  Has the primary room for a standby that comes?
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_WALSENDER_PLACES_H
#define TCS_WALSENDER_PLACES_H

extern int	tcs_walsenders_unused(void);
extern bool tcs_walsenders_standby_is_away(NameData *name);
extern bool tcs_walsenders_are_crowded(uint32 crowded_out);

#endif							/* TCS_WALSENDER_PLACES_H */
