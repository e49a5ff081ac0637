/*
 * The loop that one writes first: read a batch of files, decode them, run the first model on all of
 * them, then the others on what each file gave, write, and on to the next batch. One thread, both
 * models in it, the same operators and models as the job that it is compared with.
 *
 *     plain_loop PIPELINE BATCH OUTPUT FILE...
 *
 * Prints one JSON line: files, seconds, files per second. Not part of the product;
 * perf/batch_pipelines runs it beside the job.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/plan/flow.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/runtime/model_batch.h"
#include "host/runtime/servable.h"
#include "perf/operator_run.h"

enum { BATCH_MAX = 64 };

struct loop {
    const struct fm_pipeline *pipeline;
    const struct fm_stage_binding *bindings;
    struct fm_flow *flow;
    FILE *output;
};

static void die(const char *what, const char *text)
{
    fprintf(stderr, "plain_loop: %s: %s\n", what, text);
    exit(1);
}

static void run_model(struct loop *loop, const struct fm_flow_task *task)
{
    const struct fm_pipeline_stage *stage = &loop->pipeline->stages[task->stage];
    struct fm_model_batch batch;
    struct fm_error error = {0};
    struct fm_value *results[FM_FLOW_BATCH_ITEMS_MAX];
    uint32_t count = 1;
    fm_model_batch_init(&batch, loop->pipeline, task->stage, task->item_count, task->rows);
    if (!batch.ready || stage->input_count != 1 || stage->output_count != 1) {
        die(stage->spec->name, "only models with one input and one output are measured");
    }
    for (uint32_t i = 0; i < task->item_count; i++) {
        fm_flow_input_get(loop->flow, task->items[i], 0, fm_model_batch_item_input(&batch, i, 0));
    }
    int status = fm_model_batch_gather(&batch, &error);
    struct fm_execution execution = {.struct_size = sizeof(execution),
                                     .input_count = batch.input_count,
                                     .output_count = batch.output_count,
                                     .batch_size = task->rows,
                                     .inputs = batch.inputs,
                                     .outputs = batch.outputs};
    status = status != 0 ? status
                         : fm_model_run(loop->bindings[task->stage].model, 0, &execution, &error);
    status = status != 0 ? status : fm_model_batch_scatter(&batch, results, &error);
    if (status != 0) {
        die(stage->spec->name, error.text);
    }
    for (uint32_t i = 0; i < task->item_count; i++) {
        fm_flow_item_done(loop->flow, 0, task->items[i], 0, &results[i], &count);
    }
    fm_model_batch_deinit(&batch);
}

static bool step(struct loop *loop, enum fm_stage_kind kind)
{
    struct fm_flow_task task;
    if (!fm_flow_next(loop->flow, 0, kind, &task)) {
        return false;
    }
    if (kind == FM_STAGE_MODEL) {
        run_model(loop, &task);
    } else {
        perf_operator_run(loop->flow, loop->pipeline, loop->bindings, &task);
    }
    fm_flow_task_end(loop->flow, 0, 0, &task);
    return true;
}

static void admit(struct loop *loop, const char *path)
{
    struct fm_flow_request *request = NULL;
    struct fm_value input = {0};
    struct fm_error error = {0};
    char *data = NULL;
    size_t size = 0;
    if (fm_file_read(path, (size_t)1 << 30, &data, &size, &error) != 0) {
        die("reading", error.text);
    }
    if (fm_value_from_bytes(&input, data, size) != 0 ||
        fm_flow_admit(loop->flow, 0, &input, 1, 0, (void *)(uintptr_t)path, &request) != 0) {
        die(path, "out of memory");
    }
    fm_free(data);
}

static void write_out(struct loop *loop, struct fm_flow_request *finished)
{
    fprintf(loop->output, "{\"id\": \"%s\"", (const char *)fm_flow_request_user(finished));
    for (uint32_t i = 0; i < loop->pipeline->output_count; i++) {
        uint32_t count = fm_flow_output_count(finished, i);
        fprintf(loop->output, ", \"%s\": [", loop->pipeline->outputs[i].name);
        for (uint32_t e = 0; e < count; e++) {
            const struct fm_tensor *tensor = &fm_flow_output_get(finished, i, e)->tensor;
            for (size_t n = 0; n < tensor->size / sizeof(float); n++) {
                fprintf(loop->output, "%s%g", e + n > 0 ? "," : "",
                        (double)((const float *)tensor->data)[n]);
            }
        }
        fputs("]", loop->output);
    }
    fputs("}\n", loop->output);
    fm_flow_request_free(finished);
}

/* All files are decoded, then the first model runs on all of them; what each gives is cut and runs
 * through the next model before the next one's turn. */
static void batch_run(struct loop *loop, char **paths, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        admit(loop, paths[i]);
    }
    while (step(loop, FM_STAGE_OPERATOR)) {
    }
    while (step(loop, FM_STAGE_MODEL) || step(loop, FM_STAGE_OPERATOR)) {
    }
    struct fm_flow_request *finished = NULL;
    for (size_t i = 0; i < count; i++) {
        finished = fm_flow_finished(loop->flow);
        if (finished == NULL) {
            die(paths[i], "the flow stands still");
        }
        write_out(loop, finished);
    }
}

static struct fm_flow *flow_make(const struct fm_servable *servable, uint32_t batch)
{
    const struct fm_pipeline *pipeline = fm_servable_pipeline(servable);
    uint32_t ones[FM_PIPELINE_STAGES_MAX];
    uint32_t batches[FM_PIPELINE_STAGES_MAX];
    struct fm_flow *flow = NULL;
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        uint32_t most = pipeline->stages[i].ports.batch_max;
        ones[i] = 1;
        batches[i] = most < batch ? most : batch;
    }
    struct fm_flow_options options = {
        .requests_max = batch, .operator_slots = 1, .stage_slots = ones, .batch_max = batches};
    if (fm_flow_create(pipeline, &options, &flow) != 0) {
        die("plain_loop", "out of memory");
    }
    return flow;
}

int main(int argc, char **argv)
{
    uint64_t batch = 0;
    struct fm_error error = {0};
    struct fm_servable *servable = NULL;
    struct fm_servable_options options = {.operator_threads = 1, .instances = 1};
    if (argc < 5 || fm_parse_uint64(argv[2], &batch) != 0 || batch < 1 || batch > BATCH_MAX) {
        fprintf(stderr, "usage: plain_loop PIPELINE BATCH OUTPUT FILE...\n");
        return 2;
    }
    if (fm_servable_open_path(argv[1], &options, &servable, &error) != 0) {
        die(argv[1], error.text);
    }
    struct loop loop = {.pipeline = fm_servable_pipeline(servable),
                        .bindings = fm_servable_bindings(servable),
                        .flow = flow_make(servable, (uint32_t)batch),
                        .output = fopen(argv[3], "w")};
    if (loop.output == NULL) {
        die(argv[3], "cannot be written");
    }
    char **files = argv + 4;
    size_t count = (size_t)argc - 4;
    uint64_t start_ns = fm_os_now_ns();
    for (size_t i = 0; i < count; i += batch) {
        batch_run(&loop, files + i, count - i < batch ? count - i : batch);
    }
    if (fclose(loop.output) != 0) {
        die(argv[3], "cannot be written");
    }
    double seconds = (double)(fm_os_now_ns() - start_ns) / 1e9;
    printf("{\"files\": %zu, \"seconds\": %.3f, \"files_per_second\": %.3f}\n", count, seconds,
           (double)count / seconds);
    fm_flow_destroy(loop.flow);
    fm_servable_close(servable);
    return 0;
}
