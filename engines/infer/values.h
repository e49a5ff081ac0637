/*
 * Looking at a tensor: elements as numbers, a summary, the best classes.
 *
 * Owns: reading every dtype as a number, and the order of classes. Does not own: printing. Thread
 * rule: pure.
 */
#ifndef FM_ENGINES_INFER_VALUES_H
#define FM_ENGINES_INFER_VALUES_H

#include "core/tensor/tensor.h"

/* True for dtypes whose elements fm_element_number reads: all but BYTES, complex and FP8. */
bool fm_dtype_is_number(uint32_t dtype);
bool fm_dtype_is_float(uint32_t dtype);
/* Element `index` of a checked tensor of such a dtype. 64-bit integers beyond 2^53 are rounded. */
double fm_element_number(const struct fm_tensor *tensor, uint64_t index);

struct fm_summary {
    uint64_t count;
    uint64_t not_finite; /* left out of the numbers below */
    double min, max, mean;
};
void fm_summarize(const struct fm_tensor *tensor, struct fm_summary *ret_summary);

struct fm_class {
    uint32_t index;
    double score;
};
/*
 * The `count` highest of the `size` elements from `first` on, best first; of equal ones the lower
 * index first; NaN never. Returns how many were written to classes.
 */
uint32_t fm_top(const struct fm_tensor *tensor, uint64_t first, uint32_t size, uint32_t count,
                struct fm_class *classes);

#endif
