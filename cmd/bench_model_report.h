/*
 * What `fermata bench model` prints: of one model a page, of several a table; and both as JSON.
 *
 * Thread rule: the main thread.
 */
#ifndef FM_CMD_BENCH_MODEL_REPORT_H
#define FM_CMD_BENCH_MODEL_REPORT_H

#include "core/onnx/families.h"
#include "core/onnx/model_counts.h"
#include "engines/bench/model_directory.h"

/* One model, as far as it is known. */
struct fm_bench_model {
    const char *name; /* among the others of its grid */
    struct fm_family_spec spec;
    struct fm_model_counts counts;
    uint64_t file_bytes;
    const struct fm_model_directory *directory; /* NULL: nothing was written */
};

struct fm_bench_model_report {
    const struct fm_bench_model *models;
    uint32_t count;
    const int64_t *batches;
    uint32_t batch_count;
};

void fm_bench_model_report_text(const struct fm_bench_model_report *report, struct fm_text *text);
void fm_bench_model_report_json(const struct fm_bench_model_report *report, struct fm_text *text);

#endif
