/*
 * One operator item, by hand. See operator_run.h.
 */
#include "perf/operator_run.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/util/error.h"

void perf_operator_run(struct fm_flow *flow, const struct fm_pipeline *pipeline,
                       const struct fm_stage_binding *bindings, const struct fm_flow_task *task)
{
    const struct fm_pipeline_stage *stage = &pipeline->stages[task->stage];
    struct fm_value_list inputs[FM_PIPELINE_PORTS_MAX] = {{0}};
    struct fm_value_list outputs[FM_PIPELINE_PORTS_MAX] = {{0}};
    struct fm_value *values[FM_PIPELINE_PORTS_MAX];
    uint32_t counts[FM_PIPELINE_PORTS_MAX];
    struct fm_error error = {0};
    for (uint32_t j = 0; j < stage->input_count; j++) {
        inputs[j].count = fm_flow_input_count(flow, task->items[0], j);
        inputs[j].capacity = inputs[j].count;
        inputs[j].items = fm_alloc_zero(inputs[j].count, sizeof(struct fm_value));
        fm_flow_input_get(flow, task->items[0], j, inputs[j].items);
    }
    if (fm_operator_run(bindings[task->stage].operator_instance, inputs, stage->input_count,
                        outputs, stage->output_count, 100000, &error) != 0) {
        fprintf(stderr, "stage '%s': %s\n", stage->spec->name, error.text);
        exit(1);
    }
    for (uint32_t j = 0; j < stage->output_count; j++) {
        values[j] = outputs[j].items;
        counts[j] = (uint32_t)outputs[j].count;
    }
    fm_flow_item_done(flow, 0, task->items[0], 0, values, counts);
    for (uint32_t j = 0; j < stage->input_count; j++) {
        fm_value_list_deinit(&inputs[j]);
    }
    for (uint32_t j = 0; j < stage->output_count; j++) {
        fm_value_list_deinit(&outputs[j]);
    }
}
