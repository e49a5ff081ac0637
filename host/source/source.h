/*
 * Files that hold many rows, read as tensors: one table of formats.
 *
 * Owns: which formats there are, which one a name means, and for each how a file is counted and
 * how rows are read from any place of it. Does not own: what a row is worth, where rows go
 * (engines/batch), what a text stands for (core/source). Thread rule: a reader belongs to one
 * thread at a time; specs are read-only once made, and shared.
 *
 * Counting a file gives points: places from which a reader may start. Row `n` is read from the last
 * point at or before it. What a point's offset and line mean is the format's own business.
 */
#ifndef FM_HOST_SOURCE_SOURCE_H
#define FM_HOST_SOURCE_SOURCE_H

#include "core/source/csv.h"
#include "core/source/record_scan.h"
#include "core/source/row_block.h"

/* One input of the pipeline, and the columns that fill it. */
struct fm_source_tensor {
    struct fm_column column; /* of a row, without the batch dimension; its name is the input's */
    /* One: its value is the whole row of the tensor. Several: each gives one element, in this
     * order, and the column's shape has as many. None: the format has no names (npy). */
    const char *const *names;
    uint32_t name_count;
};

struct fm_source_spec {
    const struct fm_source_format *format;
    const struct fm_source_tensor *tensors;
    uint32_t tensor_count;
    const char *id;            /* the column that names rows; NULL: none */
    const char *const *passed; /* columns whose values go to the results as they are */
    uint32_t passed_count;
    struct fm_csv_options csv;
    bool csv_header;           /* false: columns are named "0", "1", ... */
    uint64_t record_bytes_max; /* a longer record is an error */
    const char *url;           /* of openai_batch: where requests have to go; NULL: anywhere */
};

struct fm_source_reader;

struct fm_source_format {
    const char *name;           /* "csv" */
    const char *const *endings; /* of file names, with their dot; NULL-terminated */
    bool nameless;              /* a file is one column, which has no name */
    /*
     * Counts the rows of a file and gives the points, in order; the first one is for row 0. `take`
     * may be called on another thread, while the caller waits; what it returns, where it is not 0,
     * ends the counting and is returned.
     * Checks, from what the file itself says, that the wanted columns are there and can fit. The
     * words name the file, and the line where there is one. FM_ENOTFOUND, FM_EIO, FM_ECORRUPT,
     * FM_ETYPE, FM_EINVAL, FM_EUNSUPPORTED, FM_ENOMEM. FM_ENOTFOUND is also said of a column.
     */
    int (*count)(const struct fm_source_spec *spec, const char *path, fm_record_point_take take,
                 void *context, uint64_t *ret_rows, struct fm_error *reterr);
    /* Opens a file at a point; NULL: at its beginning. */
    int (*open)(const struct fm_source_spec *spec, const char *path,
                const struct fm_record_point *point, struct fm_source_reader **ret_reader,
                struct fm_error *reterr);
    /* Passes over rows without looking at their values. FM_ENOTFOUND: the file has not so many. */
    int (*skip)(struct fm_source_reader *reader, uint64_t rows, struct fm_error *reterr);
    /*
     * Adds up to rows_max rows to a block that was cleared; fewer when the next one does not fit
     * in, or at the end of the file: then none. Bad rows are in the block, with their words. What
     * it returns is wrong with the file as a whole: FM_EIO, FM_ECORRUPT, FM_ETOOLARGE, FM_ENOMEM.
     */
    int (*read)(struct fm_source_reader *reader, uint32_t rows_max, struct fm_row_block *block,
                struct fm_error *reterr);
    void (*close)(struct fm_source_reader *reader);
};

/* What every format's reader begins with. */
struct fm_source_reader {
    const struct fm_source_format *format;
    /* By passed column: the type of all its values, as far as the file says: BYTES are texts,
     * INVALID may be anything. NULL: the file says nothing. Stays until the close. */
    const uint32_t *passed_types;
};

/* All formats, NULL-terminated. */
extern const struct fm_source_format *const fm_source_formats[];

/* FM_ENOTFOUND, with the likely name. */
int FM_NODISCARD fm_source_format_find(const char *name, const struct fm_source_format **ret_format,
                                       struct fm_error *reterr);
/* By the ending of the file's name, in any case; NULL: none has it. */
const struct fm_source_format *fm_source_format_of(const char *path);

/* A JSON value's place in a tensor, or a text's, is the columns': see core/source/column.h. These
 * are the tensors' own columns, for fm_row_block_init. FM_ENOMEM; to be freed with fm_free. */
int FM_NODISCARD fm_source_columns(const struct fm_source_spec *spec,
                                   struct fm_column **ret_columns);

#endif
