/*
 * The limit that a pipeline job is measured against: the same ONNX Runtime calls on the same
 * decoded inputs, in one loop per thread with nothing else.
 *
 *     bare_loop PIPELINE MODELS THREADS ROUNDS FILE...
 *
 * First runs the pipeline on every file, on one thread, and keeps the input of every model run
 * (batches of one). Then every thread takes whole files from a counter and calls Run on what was
 * kept, ROUNDS times over all files. Prints one JSON line: files per second of the loop, and how
 * much time the model calls of one file take. Not part of the product; perf/pipeline_vs_bare runs
 * it beside the job.
 */
#include <onnxruntime_c_api.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/plan/flow.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "host/runtime/model_batch.h"
#include "host/runtime/servable.h"
#include "perf/operator_run.h"

enum { THREADS_MAX = 64, STAGES_MAX = 16 };

/* The input of one model run. */
struct call {
    uint32_t stage;
    struct fm_tensor input;
};

struct page {
    struct call *calls;
    size_t count;
};

struct bench {
    const OrtApi *api;
    OrtSession *sessions[STAGES_MAX];
    const char *input_names[STAGES_MAX];
    const char *output_names[STAGES_MAX];
    struct page *pages;
    size_t page_count;
    size_t rounds;
    atomic_size_t next;
};

static void die(const char *what, const char *text)
{
    fprintf(stderr, "bare_loop: %s: %s\n", what, text);
    exit(1);
}

static void ort_check(const struct bench *bench, OrtStatus *status)
{
    if (status != NULL) {
        die("ONNX Runtime", bench->api->GetErrorMessage(status));
    }
}

/* --- recording --- */

static void page_record(struct page *page, uint32_t stage, const struct fm_tensor *input)
{
    page->calls = realloc(page->calls, (page->count + 1) * sizeof(*page->calls));
    void *copy = page->calls != NULL ? malloc(input->size) : NULL;
    if (copy == NULL) {
        die("recording", "out of memory");
    }
    memcpy(copy, input->data, input->size);
    page->calls[page->count] = (struct call){.stage = stage, .input = *input};
    page->calls[page->count++].input.data = copy;
}

static void run_model(struct fm_flow *flow, const struct fm_pipeline *pipeline,
                      const struct fm_stage_binding *bindings, const struct fm_flow_task *task,
                      struct page *page)
{
    const struct fm_pipeline_stage *stage = &pipeline->stages[task->stage];
    struct fm_model_batch batch;
    struct fm_error error = {0};
    struct fm_value *results[1];
    fm_model_batch_init(&batch, pipeline, task->stage, 1, 1);
    if (!batch.ready || stage->input_count != 1 || stage->output_count != 1) {
        die(stage->spec->name, "only models with one input and one output are measured");
    }
    fm_flow_input_get(flow, task->items[0], 0, fm_model_batch_item_input(&batch, 0, 0));
    int status = fm_model_batch_gather(&batch, &error);
    struct fm_execution execution = {.struct_size = sizeof(execution),
                                     .input_count = 1,
                                     .output_count = 1,
                                     .batch_size = 1,
                                     .inputs = batch.inputs,
                                     .outputs = batch.outputs};
    if (status == 0) {
        page_record(page, task->stage, &batch.inputs[0]);
        status = fm_model_run(bindings[task->stage].model, 0, &execution, &error);
    }
    status = status != 0 ? status : fm_model_batch_scatter(&batch, results, &error);
    if (status != 0) {
        die(stage->spec->name, error.text);
    }
    uint32_t count = 1;
    fm_flow_item_done(flow, 0, task->items[0], 0, results, &count);
    fm_model_batch_deinit(&batch);
}

/* The pipeline on one file, on this thread. */
static void page_run(const struct fm_servable *servable, const char *path, struct page *page)
{
    const struct fm_pipeline *pipeline = fm_servable_pipeline(servable);
    const struct fm_stage_binding *bindings = fm_servable_bindings(servable);
    uint32_t ones[FM_PIPELINE_STAGES_MAX];
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        ones[i] = 1;
    }
    struct fm_flow_options options = {
        .requests_max = 1, .operator_slots = 1, .stage_slots = ones, .batch_max = ones};
    struct fm_flow *flow = NULL;
    struct fm_flow_request *request = NULL;
    struct fm_value input = {0};
    struct fm_error error = {0};
    char *data = NULL;
    size_t size = 0;
    if (fm_file_read(path, (size_t)1 << 30, &data, &size, &error) != 0) {
        die("reading", error.text);
    }
    if (fm_flow_create(pipeline, &options, &flow) != 0 ||
        fm_value_from_bytes(&input, data, size) != 0 ||
        fm_flow_admit(flow, 0, &input, 1, 0, NULL, &request) != 0) {
        die(path, "out of memory");
    }
    fm_free(data);
    struct fm_flow_request *finished = NULL;
    while ((finished = fm_flow_finished(flow)) == NULL) {
        struct fm_flow_task task;
        if (fm_flow_next(flow, 0, FM_STAGE_OPERATOR, &task)) {
            perf_operator_run(flow, pipeline, bindings, &task);
        } else if (fm_flow_next(flow, 0, FM_STAGE_MODEL, &task)) {
            run_model(flow, pipeline, bindings, &task, page);
        } else {
            die(path, "the flow stands still");
        }
        fm_flow_task_end(flow, 0, 0, &task);
    }
    fm_flow_request_free(finished);
    fm_flow_destroy(flow);
}

/* --- the bare loop --- */

static ONNXTensorElementDataType element_type(uint32_t dtype)
{
    if (dtype != FM_DTYPE_FP32) {
        die("bare_loop", "only FP32 inputs are measured");
    }
    return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

static void call_run(struct bench *bench, const OrtMemoryInfo *memory, const struct call *call)
{
    OrtValue *input = NULL;
    OrtValue *output = NULL;
    const char *const input_names[1] = {bench->input_names[call->stage]};
    const char *const output_names[1] = {bench->output_names[call->stage]};
    ort_check(bench, bench->api->CreateTensorWithDataAsOrtValue(
                         memory, call->input.data, call->input.size, call->input.shape,
                         call->input.rank, element_type(call->input.dtype), &input));
    const OrtValue *const inputs[1] = {input};
    ort_check(bench, bench->api->Run(bench->sessions[call->stage], NULL, input_names, inputs, 1,
                                     output_names, 1, &output));
    bench->api->ReleaseValue(output);
    bench->api->ReleaseValue(input);
}

static void loop(void *argument)
{
    struct bench *bench = argument;
    OrtMemoryInfo *memory = NULL;
    ort_check(bench,
              bench->api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    for (;;) {
        size_t index = atomic_fetch_add(&bench->next, 1);
        if (index >= bench->page_count * bench->rounds) {
            break;
        }
        const struct page *page = &bench->pages[index % bench->page_count];
        for (size_t i = 0; i < page->count; i++) {
            call_run(bench, memory, &page->calls[i]);
        }
    }
    bench->api->ReleaseMemoryInfo(memory);
}

static void sessions_create(struct bench *bench, const struct fm_servable *servable,
                            const char *models)
{
    const struct fm_pipeline *pipeline = fm_servable_pipeline(servable);
    OrtEnv *environment = NULL;
    OrtSessionOptions *options = NULL;
    ort_check(bench, bench->api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "bare", &environment));
    ort_check(bench, bench->api->CreateSessionOptions(&options));
    ort_check(bench, bench->api->SetIntraOpNumThreads(options, 1));
    ort_check(bench, bench->api->SetInterOpNumThreads(options, 1));
    ort_check(bench, bench->api->SetSessionGraphOptimizationLevel(options, ORT_ENABLE_ALL));
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        const struct fm_pipeline_stage *stage = &pipeline->stages[i];
        if (stage->spec->kind != FM_STAGE_MODEL) {
            continue;
        }
        char path[4096];
        (void)snprintf(path, sizeof(path), "%s/%s/1/model.onnx", models, stage->spec->target);
        ort_check(bench,
                  bench->api->CreateSession(environment, path, options, &bench->sessions[i]));
        bench->input_names[i] = stage->ports.inputs[0].name;
        bench->output_names[i] = stage->ports.outputs[0].name;
    }
    bench->api->ReleaseSessionOptions(options);
}

static void measure(struct bench *bench, uint32_t thread_count)
{
    struct fm_thread threads[THREADS_MAX] = {{.running = false}};
    uint64_t calls = 0;
    for (size_t i = 0; i < bench->page_count; i++) {
        calls += bench->pages[i].count;
    }
    uint64_t start_ns = fm_os_now_ns();
    uint64_t start_cpu_ns = fm_os_cpu_ns();
    for (uint32_t i = 0; i < thread_count; i++) {
        if (fm_thread_start(&threads[i], "bare", loop, bench) != 0) {
            die("bare_loop", "cannot start a thread");
        }
    }
    for (uint32_t i = 0; i < thread_count; i++) {
        fm_thread_join(&threads[i]);
    }
    double seconds = (double)(fm_os_now_ns() - start_ns) / 1e9;
    double cpu_seconds = (double)(fm_os_cpu_ns() - start_cpu_ns) / 1e9;
    size_t pages = bench->page_count * bench->rounds;
    printf("{\"files\":%zu,\"threads\":%u,\"seconds\":%.3f,\"cpu_seconds\":%.3f,\"files_per_"
           "second\":%.4f,\"model_calls_per_file\":%.1f}\n",
           pages, thread_count, seconds, cpu_seconds, (double)pages / seconds,
           (double)calls / (double)bench->page_count);
}

int main(int argc, char **argv)
{
    uint64_t threads = 0;
    uint64_t rounds = 0;
    if (argc < 6 || fm_parse_uint64(argv[3], &threads) != 0 ||
        fm_parse_uint64(argv[4], &rounds) != 0 || threads < 1 || threads > THREADS_MAX) {
        fprintf(stderr, "usage: bare_loop PIPELINE MODELS THREADS ROUNDS FILE...\n");
        return 2;
    }
    struct fm_error error = {0};
    struct fm_servable *servable = NULL;
    struct fm_servable_options options = {.operator_threads = 1, .instances = 1};
    if (fm_servable_open_path(argv[1], &options, &servable, &error) != 0) {
        die(argv[1], error.text);
    }
    static struct bench bench;
    bench.api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    bench.page_count = (size_t)(argc - 5);
    bench.rounds = rounds;
    bench.pages = calloc(bench.page_count, sizeof(*bench.pages));
    if (bench.api == NULL || bench.pages == NULL ||
        fm_servable_pipeline(servable)->stage_count > STAGES_MAX) {
        die("bare_loop", "cannot start");
    }
    for (size_t i = 0; i < bench.page_count; i++) {
        page_run(servable, argv[5 + i], &bench.pages[i]);
    }
    sessions_create(&bench, servable, argv[2]);
    /* One file untimed: the first calls make the arenas. */
    size_t kept = bench.page_count * bench.rounds;
    atomic_store(&bench.next, kept - 1);
    loop(&bench);
    atomic_store(&bench.next, 0);
    measure(&bench, (uint32_t)threads);
    return 0;
}
