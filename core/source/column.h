/*
 * From text to tensors: one CSV field, or one JSON value, to one row of a tensor.
 *
 * Owns: which text stands for which value of a data type, range checks, the nesting of arrays, the
 * words when something does not fit. Does not own: which column feeds which input, the position in
 * the file (the caller puts it in front of the words), batches. Thread rule: caller's memory.
 *
 * A row is one element, or an array of the column's shape, written as nested JSON arrays; a flat
 * array will do where the shape has no variable dimension, as in the Open Inference Protocol. Of
 * one element the brackets may be left out. What stands for an element:
 *
 *   type            JSON                          CSV
 *   BOOL            true, false, 1, 0             the same, in any case (True, FALSE)
 *   integers        a number without fraction     the same; leading zeros and a + may be there
 *   FP16 to FP64    a number; "NaN",              the same, also .5 and 1., and nan, inf, -inf,
 *                   "Infinity", "-Infinity"       all of them in any case
 *   BYTES           a string, unescaped           the field as it stands, also an empty one
 *
 * A number out of the type's range is an error, and for floating point that is one that would
 * become an infinity. In CSV blanks around numbers do not matter; an empty field is no number. An
 * array in a CSV field is JSON, so its elements are written as in JSON.
 *
 * LIMITATIONS. FP8, complex numbers and the types of 4 bits have no text form here. A value for
 * FP32 is rounded twice, over FP64, as everywhere in Fermata.
 */
#ifndef FM_CORE_SOURCE_COLUMN_H
#define FM_CORE_SOURCE_COLUMN_H

#include "core/proto/json.h"
#include "core/tensor/tensor.h"

struct fm_column {
    const char *name;           /* for the words; borrowed */
    uint32_t dtype;             /* enum fm_dtype */
    uint32_t rank;              /* of a row: without the batch dimension */
    int64_t shape[FM_RANK_MAX]; /* -1: variable */
};

/* FM_EUNSUPPORTED: the type has no text form. FM_EINVAL, FM_ETOOLARGE: the shape is none. To be
 * called once, before the two below. */
int FM_NODISCARD fm_column_check(const struct fm_column *column, struct fm_error *reterr);

/* FM_ENOTFOUND: none of the names is `name`; the words have the likely one, or all of them. */
int fm_column_unknown(const char *name, const char *const *names, uint32_t count,
                      struct fm_error *reterr);

/*
 * Appends the row that the field stands for to `out`, in the form of tensor bytes (BYTES: each with
 * its length in front), so that rows of one shape make a batch. ret_shape[column->rank]: the shape
 * that it has; NULL allowed. FM_ETYPE with words ("column 'age': '12x' is no INT32"), FM_EINVAL: an
 * array is malformed JSON, FM_ENOMEM; then `out` has the length that it had.
 */
int FM_NODISCARD fm_column_from_field(const struct fm_column *column, const char *data, size_t size,
                                      struct fm_text *out, int64_t *ret_shape,
                                      struct fm_error *reterr);
/* The same for the JSON value that comes next (after a key, or at the beginning). After an error
 * the reader's place is not defined. */
int FM_NODISCARD fm_column_from_json(const struct fm_column *column, struct fm_json_reader *reader,
                                     struct fm_text *out, int64_t *ret_shape,
                                     struct fm_error *reterr);

#endif
