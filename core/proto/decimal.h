/*
 * Decimal text to binary floating point and back, exactly.
 *
 * Owns: correctly rounded reading (any length, any exponent) and the shortest text that reads back
 * the same. Does not own: JSON syntax; the caller has checked it. Independent of the C locale.
 * Thread rule: pure functions.
 */
#ifndef FM_CORE_PROTO_DECIMAL_H
#define FM_CORE_PROTO_DECIMAL_H

#include <stdbool.h>
#include <stddef.h>

#include "fermata/status.h"

/* Room for the longest text that fm_decimal_write_* makes, with its NUL. */
#define FM_DECIMAL_SIZE 40

/*
 * `text` is a number of JSON's grammar: -?digits[.digits][(e|E)[+-]digits]. Rounds to nearest, ties
 * to even. FM_ETYPE when the value is too large for a double; too small a value becomes 0 with its
 * sign.
 */
int FM_NODISCARD fm_decimal_read(const char *text, size_t length, double *ret_value);
/* Likewise, of what nearly all numbers are: any text. False: it is no such number, or no number. */
bool fm_decimal_read_plain(const char *text, size_t length, double *ret_value);
/* Such a number at the beginning of any text: how long it is. 0: there is none. What follows is the
 * caller's to look at (12e5 begins with 12). */
size_t fm_decimal_take_plain(const char *text, size_t length, double *ret_value);

/*
 * Writes a finite value with the fewest digits that read back the same ("0.1", "1.0", "1e+30"); a
 * float may be read back through a double. Returns the length.
 */
size_t fm_decimal_write_float(float value, char text[FM_DECIMAL_SIZE]);
size_t fm_decimal_write_double(double value, char text[FM_DECIMAL_SIZE]);

#endif
