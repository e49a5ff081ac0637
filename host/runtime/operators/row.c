/*
 * Maximum and softmax sums of rows. See row.h.
 */
#include "host/runtime/operators/row.h"

#include <math.h>

enum { LANES = 16 };

size_t fm_row_maximum(const float *values, size_t count, float *ret_value)
{
    /* One running maximum per lane keeps the loop free of a chain of comparisons. NaN compares
     * false and is never taken. */
    float lanes[LANES];
    for (size_t j = 0; j < LANES; j++) {
        lanes[j] = -INFINITY;
    }
    size_t whole = count - count % LANES;
    for (size_t i = 0; i < whole; i += LANES) {
        for (size_t j = 0; j < LANES; j++) {
            lanes[j] = values[i + j] > lanes[j] ? values[i + j] : lanes[j];
        }
    }
    float best = -INFINITY;
    for (size_t j = 0; j < LANES; j++) {
        best = lanes[j] > best ? lanes[j] : best;
    }
    for (size_t i = whole; i < count; i++) {
        best = values[i] > best ? values[i] : best;
    }
    if (ret_value != NULL) {
        *ret_value = best;
    }
    if (best == -INFINITY) {
        return SIZE_MAX;
    }
    size_t at = 0;
    for (; at < whole; at += LANES) {
        int found = 0;
        for (size_t j = 0; j < LANES; j++) {
            found |= values[at + j] == best;
        }
        if (found) {
            break;
        }
    }
    while (at < count && values[at] != best) {
        at++;
    }
    return at;
}

double fm_row_exp_sum(const float *values, size_t count, float maximum)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)expf(values[i] - maximum);
    }
    return sum;
}
