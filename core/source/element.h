/*
 * From numbers to elements of tensors: what a file holds as numbers of one type, as another type.
 *
 * Owns: the ranges of the types, rounding, what does not fit, and the words for it. Does not own:
 * texts (column.h), shapes. Thread rule: pure.
 *
 * A number keeps its value: an integer must be within the type's range, a number with a fraction is
 * no integer, and for BOOL it must be 0 or 1. Only floating point rounds: to nearest even, and a
 * finite number that would become infinite is refused. NaN and the infinities stay what they are.
 * Integers become floating point over FP64. true and false count as 1 and 0.
 */
#ifndef FM_CORE_SOURCE_ELEMENT_H
#define FM_CORE_SOURCE_ELEMENT_H

#include "core/proto/json.h"
#include "core/tensor/tensor.h"

bool fm_element_is_unsigned(uint32_t dtype); /* UINT8 to UINT64 */
bool fm_element_is_signed(uint32_t dtype);   /* INT8 to INT64 */
bool fm_element_is_float(uint32_t dtype);    /* FP16, BF16, FP32, FP64 */
/* Those three, and BOOL. */
bool fm_element_is_number(uint32_t dtype);

uint64_t fm_element_unsigned_max(uint32_t dtype); /* of a type that is unsigned */
int64_t fm_element_signed_max(uint32_t dtype);    /* of one that is signed */

/* `value` as an element of a type of floating point. False: a finite one would become infinite. */
bool fm_element_from_double(uint32_t dtype, double value, unsigned char out[8]);

/*
 * `count` elements of the type `from` at `data` as elements of the type `to` at `out`, which has
 * room; both are numbers, and data may lie at any address. False: element *ret_bad has no value
 * there, and `out` holds anything.
 */
bool fm_elements_convert(uint32_t from, const void *data, uint64_t count, uint32_t to, void *out,
                         uint64_t *ret_bad);

/* FM_ETYPE: "column 'age': '300' is no UINT8: it must be 0 to 255", of element `index` of `data`.
 */
int fm_element_refuse(const char *column, uint32_t from, const void *data, uint64_t index,
                      uint32_t to, struct fm_error *reterr);
/* "it must be 0 to 255", what a number has to be for the type; cut to the size. */
void fm_element_range(uint32_t dtype, char *text, size_t size);

/* Element `index` of a type of numbers. NaN and the infinities become null. */
void fm_element_write_json(struct fm_json_writer *writer, uint32_t dtype, const void *data,
                           uint64_t index);

#endif
