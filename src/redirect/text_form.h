/*-------------------------------------------------------------------------
 *
 * text_form.h
 *	  Values as text that another server reads as the same values.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TCS_TEXT_FORM_H
#define TCS_TEXT_FORM_H

extern bool tcs_text_form_is_exact(void);
extern bool tcs_text_form_is_read_exactly(void);
extern int	tcs_text_form_begin(void);
extern void tcs_text_form_end(int level);
extern Datum tcs_text_form_read(const char *data, Oid type, int32 typmod);

#endif							/* TCS_TEXT_FORM_H */
