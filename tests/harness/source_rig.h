/*
 * Reads files through a format of host/source and tells what came as text, which tests compare.
 *
 * Thread rule: caller's memory.
 */
#ifndef FM_TESTS_HARNESS_SOURCE_RIG_H
#define FM_TESTS_HARNESS_SOURCE_RIG_H

#include "host/source/source.h"

enum { FM_SOURCE_RIG_TENSORS = 4, FM_SOURCE_RIG_NAMES = 4 };

/* One column, or several of one element each, for one input. */
#define FM_SOURCE_TENSOR(type, rank_, shape_, ...)                                               \
    {                                                                                            \
        .column = {.name = "input", .dtype = FM_DTYPE_##type, .rank = (rank_), .shape = shape_}, \
        .names = (const char *const[]){__VA_ARGS__},                                             \
        .name_count = sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *),               \
    }
#define FM_SOURCE_SHAPE(...) \
    {                        \
        __VA_ARGS__          \
    }

/*
 * Opens at a point for row `point`, passes over `skip` rows, and reads up to `rows`, rows_max in a
 * block. For each a line:
 *
 *   7 id=x 1.5; [2]1,2; 'text' | {"passed":1} | null
 *   8 !why it is bad
 *
 * with "--" between blocks. What fails as a whole is the last line: "!! ETYPE why". The caller
 * frees it (fm_free).
 */
char *fm_source_rig_read(const struct fm_source_spec *spec, const char *path, uint64_t point,
                         uint64_t skip, uint64_t rows, uint32_t rows_max);
/* "rows: row/offset, ..." of the points, or "!! ETYPE why". Likewise. */
char *fm_source_rig_count(const struct fm_source_spec *spec, const char *path);

#endif
