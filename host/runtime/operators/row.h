/*
 * Rows of scores: maximum and softmax over the last axis, in loops that the compiler turns into
 * vector code.
 *
 * Thread rule: pure functions.
 */
#ifndef FM_HOST_RUNTIME_OPERATORS_ROW_H
#define FM_HOST_RUNTIME_OPERATORS_ROW_H

#include <stddef.h>
#include <stdint.h>

/*
 * The index of the first greatest value; NaNs are passed over. SIZE_MAX when there is none (count
 * 0, nothing but NaN or minus infinity). ret_value may be NULL.
 */
size_t fm_row_maximum(const float *values, size_t count, float *ret_value);
/* The sum of exp(values[i] - maximum). */
double fm_row_exp_sum(const float *values, size_t count, float maximum);

#endif
