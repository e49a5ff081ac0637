/*
 * NumPy's .npy files: one array as dtype, shape and bytes, whole or by its header alone.
 *
 * Owns: the format, versions 1 to 3 (numpy.lib.format). Does not own: files. Little-endian machines
 * only, as the rest of Fermata. Refuses with a sentence that says what to do: Fortran order,
 * big-endian numbers, structures, dates, objects (pickle). Byte strings (S<n>) and texts (U<n>, as
 * UTF-8) are tensors of BYTES without their trailing zeros, as NumPy itself reads them. Thread
 * rule: pure.
 */
#ifndef FM_CORE_PROTO_NPY_H
#define FM_CORE_PROTO_NPY_H

#include "core/tensor/tensor.h"
#include "core/util/text.h"

/* The longest header that is read, with what stands before it. */
#define FM_NPY_HEADER_MAX (65536u + 12u)

/* What a file's header says. */
struct fm_npy_header {
    uint32_t dtype;
    uint32_t rank;
    int64_t shape[FM_RANK_MAX];
    size_t element_size; /* in the file; of BYTES: the width of its strings */
    bool unicode;        /* of BYTES: they are code points of 32 bits */
    size_t data_offset;  /* where the array's bytes begin */
};

/* `data`: the file's beginning, of which FM_NPY_HEADER_MAX bytes are always enough. The same words
 * as below; whether all of the array is there is not looked at. */
int FM_NODISCARD fm_npy_header_read(const void *data, size_t size, struct fm_npy_header *ret_header,
                                    struct fm_error *reterr);
/* One string of the file, as it is in a tensor: without the zeros behind it, code points as UTF-8
 * (what is none becomes U+FFFD). Writes at most element_size bytes to `out` (NULL: none) and
 * returns how many there are. */
size_t fm_npy_string_get(const struct fm_npy_header *header, const char *string, char *out);

/* Reads a complete file. *ret_value owns a copy of the data. FM_ECORRUPT, FM_EUNSUPPORTED,
 * FM_ENOMEM. */
int FM_NODISCARD fm_npy_read(const void *data, size_t size, struct fm_value *ret_value,
                             struct fm_error *reterr);
/* Appends a complete file. FM_EUNSUPPORTED for types NumPy has no name for (BF16, FP8, 4 bits). */
int FM_NODISCARD fm_npy_write(const struct fm_tensor *tensor, struct fm_text *text,
                              struct fm_error *reterr);

#endif
