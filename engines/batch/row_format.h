/*
 * One finished row as one JSON line: results, or a dead letter.
 *
 * Owns: how outputs of a pipeline look as JSON. docs/batch.md shows it. Thread rule: pure, on the
 * caller's memory.
 */
#ifndef FM_ENGINES_BATCH_ROW_FORMAT_H
#define FM_ENGINES_BATCH_ROW_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/tensor/tensor.h"
#include "core/util/text.h"
#include "engines/batch/job_file.h"

struct fm_row_format {
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
};

/* FM_EINVAL: an output's or a passed column's name collides with another one or with a key of ours;
 * FM_EUNSUPPORTED: a type without a JSON form. */
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

/* Appends {"id": ..., passed..., outputs..., "timings": {...}} and a newline. FM_EUNSUPPORTED,
 * FM_ECORRUPT, FM_ENOMEM: nothing was appended. */
int FM_NODISCARD fm_row_format_result(const struct fm_row_format *format,
                                      const struct fm_result *result, struct fm_text *text,
                                      struct fm_error *reterr);

struct fm_dead_letter {
    struct fm_row_id id;
    const char *source; /* the file */
    uint64_t line;      /* of the file, where the row begins; 0: not known */
    uint64_t row;       /* of the job */
    const char *stage;  /* "read", a stage's name, "write" */
    int status;
    const char *message;
    uint64_t attempts;
};

/* Appends {"id", "row", "source", "line", "stage", "code", "message", "attempts"} and a newline.
 * FM_ENOMEM: nothing was appended. */
int FM_NODISCARD fm_row_format_letter(const struct fm_dead_letter *letter, struct fm_text *text);

#endif
