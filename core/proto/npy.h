/*
 * NumPy's .npy files, in memory: one array as dtype, shape and bytes.
 *
 * Owns: the format, versions 1 to 3 (numpy.lib.format). Does not own: files. Little-endian machines
 * only, as the rest of Fermata. Refuses with a sentence that says what to do: Fortran order,
 * big-endian numbers, structures, dates, objects (pickle). Byte strings (S<n>) are tensors of BYTES
 * without their trailing zeros, as NumPy itself reads them. Thread rule: pure.
 */
#ifndef FM_CORE_PROTO_NPY_H
#define FM_CORE_PROTO_NPY_H

#include "core/tensor/tensor.h"
#include "core/util/text.h"

/* Reads a complete file. *ret_value owns a copy of the data. FM_ECORRUPT, FM_EUNSUPPORTED,
 * FM_ENOMEM. */
int FM_NODISCARD fm_npy_read(const void *data, size_t size, struct fm_value *ret_value,
                             struct fm_error *reterr);
/* Appends a complete file. FM_EUNSUPPORTED for types NumPy has no name for (BF16, FP8, 4 bits). */
int FM_NODISCARD fm_npy_write(const struct fm_tensor *tensor, struct fm_text *text,
                              struct fm_error *reterr);

#endif
