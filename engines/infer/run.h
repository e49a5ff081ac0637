/*
 * Runs a handful of items on a servable: what a model can batch is batched, the rest is submitted
 * side by side.
 *
 * Owns: forming requests from items and cutting results out of batches again. Does not own: the
 * servable, items, printing. Thread rule: call from one thread, which waits.
 */
#ifndef FM_ENGINES_INFER_RUN_H
#define FM_ENGINES_INFER_RUN_H

#include "host/runtime/servable.h"

/* One set of inputs. Values are borrowed: an item can be run again. */
struct fm_infer_item {
    const char *label;
    struct fm_value *inputs; /* by input of the servable; zeroed: absent */
    uint32_t rows;           /* size of the batch dimension; 1 where there is none */
};

struct fm_infer_result {
    struct fm_value *outputs; /* by output of the servable; owned, zeroed when it failed */
    struct fm_error error;    /* status 0: outputs are complete */
    uint64_t latency_ns;      /* from submitting to the end, of the request the item was part of */
    uint32_t batch_rows;      /* rows of that request */
};

/*
 * Fills results[count] (zeroed by the caller). A failed item does not fail the others; the return
 * value is that of things that concern all (memory). Free each with fm_infer_result_deinit.
 */
int FM_NODISCARD fm_infer_run(struct fm_servable *servable, const struct fm_infer_item *items,
                              size_t count, struct fm_infer_result *results,
                              struct fm_error *reterr);
void fm_infer_result_deinit(struct fm_infer_result *result, uint32_t output_count);

/* Rows [first, first + count) of a tensor whose dimension 0 is the batch; shares the bytes. */
int FM_NODISCARD fm_infer_slice(const struct fm_value *value, uint32_t first, uint32_t count,
                                struct fm_value *ret_value, struct fm_error *reterr);

#endif
