/*
 * From files to tensors: what an argument of `fermata infer` holds, and the tensor a port takes
 * from it.
 *
 * Owns: recognising a file by its content (.npy, JPEG, PNG, JSON, anything else), and fitting it to
 * a port. Does not own: reading files, running. Thread rule: no shared state.
 */
#ifndef FM_ENGINES_INFER_INPUT_H
#define FM_ENGINES_INFER_INPUT_H

#include "core/tensor/tensor.h"
#include "engines/infer/image.h"

enum fm_input_kind { FM_INPUT_RAW, FM_INPUT_NPY, FM_INPUT_IMAGE, FM_INPUT_JSON };

/* By content; JSON is what begins with '{' after white space and names "inputs". */
enum fm_input_kind fm_input_recognize(const void *data, size_t size);

/* One file and what it is for. */
struct fm_input_file {
    const char *label; /* for messages and results: the path, or "-" */
    const char *data;  /* borrowed */
    size_t size;
    const int64_t *shape; /* of raw numbers, as the user gave it; NULL: must follow from the port */
    uint32_t rank;
};

/*
 * The tensor that `port` takes from the file, with the batch dimension in front when `batched` (a
 * file that holds one row gets it with size 1). A BYTES port takes the file's bytes as one string,
 * unless it is a .npy; other ports take .npy arrays, raw little-endian numbers, and, when they look
 * like an image, JPEG and PNG (plan, from fm_image_plan_make, says how). Messages name the file,
 * the port and what would fit.
 */
int FM_NODISCARD fm_input_convert(const struct fm_input_file *file, const struct fm_port *port,
                                  bool batched, const struct fm_image_plan *plan,
                                  struct fm_value *ret_value, struct fm_error *reterr);

/* Rows of several values of one port, stacked along dimension 0. Their other dimensions must agree.
 * The values are borrowed. */
int FM_NODISCARD fm_input_stack(const struct fm_value *values, size_t count,
                                struct fm_value *ret_value, struct fm_error *reterr);

#endif
