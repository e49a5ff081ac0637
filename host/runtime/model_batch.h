/*
 * One batch: item tensors gathered into the model's inputs, and the model's outputs scattered back
 * to the items.
 *
 * Owns: assembly (a single item passes through without a copy; several are copied once), padding
 * within a bucket, and the views into a batched output (no copy). Does not own: which items go
 * together (core/plan/flow). Thread rule: one batch, one thread at a time.
 */
#ifndef FM_HOST_RUNTIME_MODEL_BATCH_H
#define FM_HOST_RUNTIME_MODEL_BATCH_H

#include "core/plan/pipeline.h"
#include "core/tensor/tensor.h"
#include "fermata/backend.h"

struct fm_model_batch {
    const struct fm_pipeline_stage *stage;
    const struct fm_pipeline *pipeline;
    struct fm_value *items;        /* [item][input] */
    struct fm_tensor *inputs;      /* by model input */
    struct fm_value *input_owners; /* what `inputs` point into */
    struct fm_output *outputs;     /* by model output */
    struct fm_value *results;      /* [item][output] */
    uint32_t item_count;
    uint32_t input_count;
    uint32_t output_count;
    uint32_t rows;
    bool ready; /* memory for all of it is there */
};

/* Never fails: without memory `ready` stays false, and gather reports it. */
void fm_model_batch_init(struct fm_model_batch *batch, const struct fm_pipeline *pipeline,
                         uint32_t stage, uint32_t item_count, uint32_t rows);
/* Where to put (with a reference) input `input` of item `item`. */
struct fm_value *fm_model_batch_item_input(struct fm_model_batch *batch, uint32_t item,
                                           uint32_t input);
/* Fills batch->inputs and batch->outputs[].wanted. */
int FM_NODISCARD fm_model_batch_gather(struct fm_model_batch *batch, struct fm_error *reterr);
/* After the run: ret_items[i][j] is output j of item i (borrowed from the batch; take it by
 * zeroing). Takes over the outputs' memory. */
int FM_NODISCARD fm_model_batch_scatter(struct fm_model_batch *batch, struct fm_value **ret_items,
                                        struct fm_error *reterr);
void fm_model_batch_deinit(struct fm_model_batch *batch);

/* Stacks the elements of an inner scope into one tensor, as struct fm_pipeline_output says. */
int FM_NODISCARD fm_model_batch_stack(const struct fm_pipeline_output *output,
                                      const struct fm_value *const *elements, uint32_t count,
                                      struct fm_value *ret_value, struct fm_error *reterr);

#endif
