/*
 * Parameters of operators from text to values, with messages that name the parameter, the value and
 * what is allowed.
 *
 * A built-in operator's create() gets every declared parameter in order, so it reads them by index.
 * Thread rule: caller's memory.
 */
#ifndef FM_HOST_RUNTIME_OPERATORS_OPTION_H
#define FM_HOST_RUNTIME_OPERATORS_OPTION_H

#include <stdbool.h>

#include "fermata/operator.h"

/* A number from minimum to maximum, else FM_EINVAL. */
int FM_NODISCARD fm_option_uint(const struct fm_setting *setting, uint64_t minimum,
                                uint64_t maximum, uint64_t *ret_value, struct fm_error *reterr);
int FM_NODISCARD fm_option_double(const struct fm_setting *setting, double minimum, double maximum,
                                  double *ret_value, struct fm_error *reterr);
int FM_NODISCARD fm_option_bool(const struct fm_setting *setting, bool *ret_value,
                                struct fm_error *reterr);
/* The index in choices (NULL-terminated). */
int FM_NODISCARD fm_option_choice(const struct fm_setting *setting, const char *const *choices,
                                  int *ret_index, struct fm_error *reterr);
/*
 * One to count_max numbers separated by commas, spaces or both, with or without brackets. The rest
 * of `values` repeats the last one, so that a single number stands for all.
 */
int FM_NODISCARD fm_option_doubles(const struct fm_setting *setting, double minimum, double maximum,
                                   size_t count_max, double *values, struct fm_error *reterr);

/* A text file cut into lines without their ends (\n or \r\n); a last line without an end counts, an
 * empty file has none. */
struct fm_option_lines {
    char *data; /* the file, lines NUL-terminated */
    char **lines;
    size_t count;
};
/* Reads a key or label file of at most 16 MiB; it must be UTF-8 without NULs. */
int FM_NODISCARD fm_option_lines_read(const struct fm_setting *setting,
                                      struct fm_option_lines *ret_lines, struct fm_error *reterr);
void fm_option_lines_deinit(struct fm_option_lines *lines);

#endif
