/*
 * Results as a Parquet file, row by row.
 *
 * Owns: which columns a file has, its row groups, that it is whole or not there. Does not own: what
 * results are, the file's final name. Thread rule: a writer belongs to one thread at a time; it has
 * a thread of its own that writes.
 *
 * A tensor of one value in each row is a column of that value, any other one a column of lists,
 * nested as deep as the row's rank. FP16 and BF16 become FLOAT, for which Parquet's readers have a
 * type everywhere; the others keep their width. A row group ends at FM_PARQUET_GROUP_BYTES or
 * FM_PARQUET_GROUP_ROWS, whichever comes first, so memory does not grow with the file.
 */
#ifndef FM_HOST_SOURCE_PARQUET_WRITER_H
#define FM_HOST_SOURCE_PARQUET_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_PARQUET_GROUP_ROWS 122880
/* In memory, before it is encoded, for which DuckDB takes some 15 bytes more for each element. */
#define FM_PARQUET_GROUP_BYTES (16 << 20)

enum fm_parquet_kind {
    FM_PARQUET_TENSOR,
    FM_PARQUET_TEXT, /* UTF-8; what is malformed becomes U+FFFD */
    FM_PARQUET_JSON, /* a JSON value, as it is written */
    FM_PARQUET_KIND_COUNT_,
};

struct fm_parquet_column {
    const char *name; /* not empty, UTF-8, and no other's in another case of letters */
    enum fm_parquet_kind kind;
    uint32_t dtype; /* of a tensor */
    uint32_t rank;  /* of a tensor's row: 0 for one value */
    bool text;      /* a tensor of BYTES holds text, as above; else they are a BLOB each */
};

/* One column's part of a row. */
struct fm_parquet_value {
    bool null;
    const void *data; /* the row's bytes in the tensor, or the text */
    size_t size;
    const int64_t *shape; /* of a tensor's row: [rank]; not looked at for rank 0 */
};

struct fm_parquet_writer;

/* Whether files can be written at all: FM_EUNSUPPORTED, FM_ENOTFOUND, as below. */
int FM_NODISCARD fm_parquet_writer_check(struct fm_error *reterr);
/*
 * Creates or truncates the file. The columns are copied; `compression` is "none", "snappy", "zstd"
 * or "gzip". FM_EINVAL: no columns, or a name that
 * cannot be one; FM_EUNSUPPORTED: Parquet has no type for a tensor's (FP8, complex, 4 bits), or
 * this build has no DuckDB; FM_ENOTFOUND: its library is not there; FM_EPERM, FM_EIO, FM_ENOMEM.
 */
int FM_NODISCARD fm_parquet_writer_create(const char *path, const struct fm_parquet_column *columns,
                                          uint32_t column_count, const char *compression,
                                          struct fm_parquet_writer **ret_writer,
                                          struct fm_error *reterr);
/*
 * One row: values[column_count]. FM_ETYPE, FM_EINVAL: a value's size is not what its type and shape
 * say; then nothing was added. FM_ENOSPC, FM_EIO, FM_ENOMEM: the file cannot be written, also
 * because of rows before this one; then only abandon is left.
 */
int FM_NODISCARD fm_parquet_writer_append(struct fm_parquet_writer *writer,
                                          const struct fm_parquet_value *values,
                                          struct fm_error *reterr);
/* Completes the file and flushes it to the disk (not its directory). Takes the writer in any case;
 * after an error the file is not there. */
int FM_NODISCARD fm_parquet_writer_finish(struct fm_parquet_writer *writer, uint64_t *ret_bytes,
                                          struct fm_error *reterr);
/* Takes the writer, and removes the file. Accepts NULL. */
void fm_parquet_writer_abandon(struct fm_parquet_writer *writer);

#endif
