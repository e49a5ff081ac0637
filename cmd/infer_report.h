/*
 * How `fermata infer` shows models and results, for people and as JSON.
 *
 * Owns: layout. Does not own: running, files. Thread rule: the main thread.
 */
#ifndef FM_CMD_INFER_REPORT_H
#define FM_CMD_INFER_REPORT_H

#include "cmd/command.h"
#include "core/util/text.h"
#include "engines/infer/image.h"
#include "engines/infer/run.h"

/* What to show. */
struct fm_infer_view {
    const struct fm_call *call;
    const struct fm_servable *servable;
    uint32_t top; /* classes; 0: none, unless the model has labels for an output */
    bool top_given;
    bool softmax;
    uint32_t values;           /* first values of each output; 0: all */
    const char *const *labels; /* of the first output, from --labels; NULL: the model's own */
    size_t label_count;
    const struct fm_image_plan *plans; /* by input */
};

/* Latencies of --repeat, ascending. */
struct fm_infer_latencies {
    uint64_t *ns;
    uint32_t count;
};

/* The model: ports, batching, stages, what each input takes. Appends text, or with call->json a
 * JSON document. */
void fm_infer_describe(const struct fm_infer_view *view, struct fm_text *text);
/* Results of all items. */
void fm_infer_report(const struct fm_infer_view *view, const struct fm_infer_item *items,
                     const struct fm_infer_result *results, size_t count,
                     const struct fm_infer_latencies *latencies, struct fm_text *text);

#endif
