/*
 * One finished row: what it consists of, and as one JSON line: results, or a dead letter.
 *
 * Owns: how outputs of a pipeline look as JSON. docs/batch.md shows it. Does not own: other formats
 * of results (sink.h). Thread rule: pure, on the caller's memory.
 */
#ifndef FM_ENGINES_BATCH_ROW_FORMAT_H
#define FM_ENGINES_BATCH_ROW_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/proto/json.h"
#include "core/tensor/tensor.h"
#include "core/util/text.h"
#include "engines/batch/job_file.h"

struct fm_row_format {
    const struct fm_sink *sink; /* what rows are written by, and how it compresses them */
    const char *compression;
    const struct fm_port *outputs;
    uint32_t output_count;
    bool strip_rows; /* one model: outputs carry a leading batch dimension of 1 that is not shown */
    enum fm_job_bytes bytes;
    bool timings;
    const char *const *stage_names;
    uint32_t stage_count;
    const char *const
        *passed; /* columns of the source whose values stand in front of the outputs */
    uint32_t passed_count;
    /* By passed column: the type that all its values have, BYTES for texts; INVALID: each may be
     * anything, and stays JSON. NULL: all of them are such. */
    const uint32_t *passed_types;
    const char *embedding; /* of answers: the output that is the embedding; NULL: there is none */
};

/* FM_EINVAL: an output's or a passed column's name collides with another one or with a key of ours;
 * FM_EUNSUPPORTED: a type that has no form in any format; and what the sink says. */
int FM_NODISCARD fm_row_format_check(const struct fm_row_format *format, struct fm_error *reterr);

struct fm_row_id {
    const char *data;
    size_t size;
};

/* One row with its results. */
struct fm_result {
    struct fm_row_id id;
    const char *passed;              /* JSON values with a NUL behind each; NULL: none */
    const struct fm_tensor *outputs; /* by output */
    const uint64_t *stage_ns;        /* by stage, where timings are written */
    uint64_t total_ns;
};

/* Whether it is UTF-8. */
bool fm_row_id_is_text(const struct fm_row_id *id);
/* Whether each row of the output is one value, by what the pipeline says of it: it has no axes but
 * that of the batch, or one behind it, of length 1. */
bool fm_row_output_is_one(const struct fm_row_format *format, const struct fm_port *port);
/* A row's value as JSON: null when the pipeline gave none. FM_EUNSUPPORTED, FM_ECORRUPT, FM_ENOMEM.
 */
int FM_NODISCARD fm_row_output_write(const struct fm_row_format *format, const struct fm_port *port,
                                     const struct fm_tensor *tensor, struct fm_json_writer *json);
/* All that is behind the first axes of a tensor, as nested arrays; likewise. */
int FM_NODISCARD fm_row_tensor_write(const struct fm_tensor *tensor, uint32_t axes,
                                     enum fm_job_bytes bytes, struct fm_json_writer *json);
/* One string of a tensor of BYTES: *cursor is where it begins, and is moved behind it. FM_ECORRUPT.
 */
int FM_NODISCARD fm_row_bytes_next(const struct fm_tensor *tensor, size_t *cursor,
                                   const char **ret_data, size_t *ret_size);
double fm_row_milliseconds(uint64_t ns); /* with three digits behind the point */

/* Appends {"id": ..., passed..., outputs..., "timings": {...}} and a newline. FM_EUNSUPPORTED,
 * FM_ECORRUPT, FM_ENOMEM: nothing was appended. */
int FM_NODISCARD fm_row_format_result(const struct fm_row_format *format,
                                      const struct fm_result *result, struct fm_text *text,
                                      struct fm_error *reterr);

struct fm_dead_letter {
    struct fm_row_id id;
    const char *source; /* the file */
    /* Of a file that holds rows: its own id, and the row's number in it. NULL: the file is the row.
     */
    const char *file;
    uint64_t file_row;
    uint64_t line;     /* of the file, where the row begins; 0: not known */
    uint64_t row;      /* of the job */
    const char *stage; /* "read", a stage's name, "write" */
    int status;
    const char *message;
    uint64_t attempts;
    /* The record as it stands in the file, or its beginning; NULL: there is none. */
    const char *raw;
    size_t raw_size;
    bool raw_truncated;
    /* Or what was read of the row, by input of the pipeline, as a JSON object; NULL: nothing. */
    const char *columns;
    bool answer; /* it is one to a request, too: "custom_id", "response", "error" */
};

/* Of a record, or of what was read of a row: more is cut off. */
#define FM_LETTER_RAW_MAX ((size_t)16384)

/* Appends {"id", "row", "source", "file", "file_row", "line", "stage", "code", "message",
 * "attempts", "raw", "columns"} and a newline; of an answer also its members. FM_ENOMEM: nothing
 * was appended. */
int FM_NODISCARD fm_row_format_letter(const struct fm_dead_letter *letter, struct fm_text *text);

#endif
