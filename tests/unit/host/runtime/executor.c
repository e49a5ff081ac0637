/*
 * The executor over real backends: one-model pipelines of identity (completes inside submit) and
 * emulated (completes later, fails and waits on command).
 */
#include "host/runtime/executor.h"

#include <stdatomic.h>

#include "host/os/os.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

enum { COLUMNS = 4, CALLS_MAX = 64 };

#define MS ((uint64_t)1000000)

/* A one-model pipeline x [-1,4] -> y [-1,4], as a servable makes it. */
struct rig {
    struct fm_model *model;
    struct fm_stage_ports ports;
    struct fm_stage_spec stage;
    struct fm_binding_spec inputs[2];
    struct fm_binding_spec outputs[2];
    struct fm_pipeline_spec spec;
    struct fm_pipeline *pipeline;
    struct fm_executor *executor;
};

/* `settings` is key, value, ..., NULL. Ends the test program when the rig cannot be built. */
static void rig_open(struct rig *rig, const char *backend, uint32_t instances,
                     uint32_t requests_max, const char *const *settings)
{
    static const char *const sources[] = {"@.y", "@.z"};
    struct fm_model_config config;
    struct fm_error error = {0};
    memset(rig, 0, sizeof(*rig));
    fm_model_config_init(&config);
    config.name = "net";
    config.backend = backend;
    config.instance_count = instances;
    int status = fm_model_config_set(&config, "outputs",
                                     strcmp(backend, "identity") == 0 ? "y" : "y:FP32[-1,4]", NULL);
    status = status != 0 ? status : fm_model_config_set(&config, "inputs", "x:FP32[-1,4]", NULL);
    for (; status == 0 && settings != NULL && settings[0] != NULL; settings += 2) {
        status = fm_model_config_set(&config, settings[0], settings[1], &error);
    }
    status = status != 0 ? status : fm_model_load(&config, &rig->model, &error);
    fm_model_config_deinit(&config);
    if (status == 0) {
        rig->ports.inputs = fm_model_inputs(rig->model, &rig->ports.input_count);
        rig->ports.outputs = fm_model_outputs(rig->model, &rig->ports.output_count);
        rig->ports.batch_max = fm_model_batch_max(rig->model);
        for (uint32_t i = 0; i < rig->ports.input_count && i < 2; i++) {
            rig->inputs[i] = (struct fm_binding_spec){.port = rig->ports.inputs[i].name,
                                                      .source = rig->ports.inputs[i].name};
        }
        for (uint32_t i = 0; i < rig->ports.output_count && i < 2; i++) {
            rig->outputs[i] =
                (struct fm_binding_spec){.port = rig->ports.outputs[i].name, .source = sources[i]};
        }
        rig->stage = (struct fm_stage_spec){.name = "@",
                                            .kind = FM_STAGE_MODEL,
                                            .target = "net",
                                            .inputs = rig->inputs,
                                            .input_count = rig->ports.input_count,
                                            .items_have_rows = true,
                                            .batch = {.bucket_axis = -1}};
        rig->spec =
            (struct fm_pipeline_spec){.file = "test",
                                      .name = "net",
                                      .inputs = (struct fm_port *)(uintptr_t)rig->ports.inputs,
                                      .input_count = rig->ports.input_count,
                                      .stages = &rig->stage,
                                      .stage_count = 1,
                                      .outputs = rig->outputs,
                                      .output_count = rig->ports.output_count};
        status = fm_pipeline_link(&rig->spec, &rig->ports, &rig->pipeline, &error);
    }
    if (status == 0) {
        struct fm_stage_binding binding = {.model = rig->model};
        struct fm_executor_options options = {.requests_max = requests_max};
        status = fm_executor_create(rig->pipeline, &binding, &options, &rig->executor, &error);
    }
    if (status != 0) {
        printf("# %s\n", error.text);
        abort();
    }
}

static void rig_close(struct rig *rig)
{
    fm_executor_destroy(rig->executor);
    fm_pipeline_free(rig->pipeline);
    fm_model_free(rig->model);
}

/* Counts finished requests, and lets a test wait for them. */
struct counter {
    struct fm_mutex mutex;
    struct fm_condition condition;
    uint32_t done;
};

struct call {
    struct fm_request request;
    struct fm_value inputs[2];
    struct fm_value output;
    struct fm_stage_timing timing;
    struct counter *counter;
    uint32_t order; /* its place among the finished ones, from 1 */
};

static void counter_init(struct counter *counter)
{
    counter->done = 0;
    fm_mutex_init(&counter->mutex);
    fm_condition_init(&counter->condition);
}

static void counter_deinit(struct counter *counter)
{
    fm_condition_deinit(&counter->condition);
    fm_mutex_deinit(&counter->mutex);
}

static void counter_wait(struct counter *counter, uint32_t count)
{
    fm_mutex_lock(&counter->mutex);
    while (counter->done < count) {
        fm_condition_wait(&counter->condition, &counter->mutex);
    }
    fm_mutex_unlock(&counter->mutex);
}

static void count_done(struct fm_request *request)
{
    struct call *call = request->user;
    fm_mutex_lock(&call->counter->mutex);
    call->order = ++call->counter->done;
    fm_condition_broadcast(&call->counter->condition);
    fm_mutex_unlock(&call->counter->mutex);
}

/* A request of `rows` rows whose numbers begin with `first`. */
static void call_init(struct call *call, struct counter *counter, int64_t rows, float first)
{
    memset(call, 0, sizeof(*call));
    if (fm_value_alloc(&call->inputs[0], FM_DTYPE_FP32, (int64_t[]){rows, COLUMNS}, 2, 0) != 0) {
        abort();
    }
    for (int64_t i = 0; i < rows * COLUMNS; i++) {
        ((float *)call->inputs[0].tensor.data)[i] = first + (float)i;
    }
    call->counter = counter;
    call->request = (struct fm_request){.inputs = call->inputs,
                                        .outputs = &call->output,
                                        .timings = &call->timing,
                                        .done = count_done,
                                        .user = call};
}

static void call_deinit(struct call *call)
{
    fm_value_unref(&call->inputs[0]);
    fm_value_unref(&call->inputs[1]);
    fm_value_unref(&call->output);
}

static bool echoes(const struct call *call, int64_t rows, float first)
{
    const struct fm_tensor *tensor = &call->output.tensor;
    if (tensor->dtype != FM_DTYPE_FP32 || tensor->rank != 2 || tensor->shape[0] != rows) {
        return false;
    }
    for (int64_t i = 0; i < rows * COLUMNS; i++) {
        if (((const float *)tensor->data)[i] != first + (float)i) {
            return false;
        }
    }
    return true;
}

/* Waits until the stage has `running` runs in progress. */
static void wait_running(struct rig *rig, uint32_t running)
{
    struct fm_executor_stage_stats stats;
    do {
        fm_sleep_until(fm_os_now_ns() + MS / 10);
        fm_executor_stats(rig->executor, 0, &stats);
    } while (stats.running != running);
}

/* --- One request --- */

TEST(one_request)
{
    struct rig rig;
    struct call call;
    rig_open(&rig, "identity", 1, 0, NULL);
    for (int64_t rows = 1; rows <= 8; rows++) {
        call_init(&call, NULL, rows, 10);
        CHECK_INT_EQ(fm_executor_run(rig.executor, &call.request), 0);
        CHECK(echoes(&call, rows, 10));
        CHECK(call.inputs[0].buffer == NULL); /* taken */
        CHECK_INT_EQ(call.request.rows, rows);
        CHECK_UINT_EQ(call.timing.items, 1);
        CHECK(call.request.submitted_ns > 0 && call.request.submitted_ns <= call.request.done_ns);
        call_deinit(&call);
    }
    struct fm_executor_stage_stats stats;
    fm_executor_stats(rig.executor, 0, &stats);
    CHECK_UINT_EQ(stats.items, 8);
    CHECK_UINT_EQ(stats.batches, 8);
    CHECK_UINT_EQ(stats.slots, 1);
    rig_close(&rig);
}

/* --- Completion inside submit --- */

struct chain {
    struct rig *rig;
    struct fm_value inputs[1];
    struct fm_value outputs[1];
    struct fm_request request;
    uint32_t left;
    uint32_t refused;
    uintptr_t stack_low;
    uintptr_t stack_high;
};

static void chain_submit(struct chain *chain)
{
    if (fm_value_alloc(&chain->inputs[0], FM_DTYPE_FP32, (int64_t[]){1, COLUMNS}, 2, 0) != 0) {
        abort();
    }
    memset(chain->inputs[0].tensor.data, 0, chain->inputs[0].tensor.size);
    if (fm_executor_submit(chain->rig->executor, &chain->request) != 0) {
        fm_value_unref(&chain->inputs[0]);
        chain->refused++;
    }
}

static void chain_done(struct fm_request *request)
{
    struct chain *chain = request->user;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    chain->stack_low = here < chain->stack_low ? here : chain->stack_low;
    chain->stack_high = here > chain->stack_high ? here : chain->stack_high;
    fm_value_unref(&chain->outputs[0]);
    if (--chain->left > 0) {
        chain_submit(chain);
    }
}

/* A request may be submitted from another's done(), over and over, on a backend that completes at
 * once: the stack must not grow. With one place, too: a request gives its place back before done.
 */
TEST(submit_from_done_does_not_recurse)
{
    struct rig rig;
    rig_open(&rig, "identity", 1, 1, NULL);
    struct chain chain = {.rig = &rig, .left = 10000, .stack_low = UINTPTR_MAX};
    chain.request = (struct fm_request){
        .inputs = chain.inputs, .outputs = chain.outputs, .done = chain_done, .user = &chain};
    chain_submit(&chain);
    CHECK_UINT_EQ(chain.left, 0);
    CHECK_UINT_EQ(chain.refused, 0);
    CHECK_UINT_EQ(chain.stack_high - chain.stack_low, 0);
    rig_close(&rig);
}

/* --- Batches --- */

TEST(concurrent_requests_share_batches)
{
    static const char *const settings[] = {"alpha", "0", "beta", "30ms", NULL};
    struct rig rig;
    struct call calls[17];
    struct counter counter;
    struct fm_executor_stage_stats stats;
    counter_init(&counter);
    rig_open(&rig, "emulated", 1, 0, settings);
    for (int i = 0; i < 17; i++) {
        call_init(&calls[i], &counter, 1, 0);
        CHECK_INT_EQ(fm_executor_submit(rig.executor, &calls[i].request), 0);
    }
    counter_wait(&counter, 17);
    fm_executor_stats(rig.executor, 0, &stats);
    CHECK_UINT_EQ(stats.items, 17);
    CHECK_UINT_EQ(stats.failures, 0);
    /* The first alone or with few, the rest in eights: 3 when this thread is not held up. */
    CHECK_INT_LE(stats.batches, 6);
    for (int i = 0; i < 17; i++) {
        CHECK_INT_EQ(calls[i].request.error.status, 0);
        CHECK_INT_EQ(calls[i].output.tensor.shape[0], 1);
        call_deinit(&calls[i]);
    }
    rig_close(&rig);
    counter_deinit(&counter);
}

TEST(rows_never_exceed_the_maximum)
{
    static const char *const settings[] = {"alpha", "0", "beta", "5ms", NULL};
    struct rig rig;
    struct call calls[9];
    struct counter counter;
    struct fm_executor_stage_stats stats;
    counter_init(&counter);
    rig_open(&rig, "emulated", 1, 0, settings);
    for (int i = 0; i < 9; i++) { /* five rows each: no two fit in eight */
        call_init(&calls[i], &counter, 5, 0);
        CHECK_INT_EQ(fm_executor_submit(rig.executor, &calls[i].request), 0);
    }
    counter_wait(&counter, 9);
    fm_executor_stats(rig.executor, 0, &stats);
    CHECK_UINT_EQ(stats.batches, 9);
    for (int i = 0; i < 9; i++) {
        CHECK_INT_EQ(calls[i].output.tensor.shape[0], 5);
        CHECK_UINT_EQ(calls[i].order, i + 1);
        call_deinit(&calls[i]);
    }
    rig_close(&rig);
    counter_deinit(&counter);
}

/* A batch that fails is taken apart: who fails alone fails, the others are answered. */
TEST(failing_batch_is_isolated)
{
    static const char *const settings[] = {"alpha", "0", "beta", "50ms", "fail_every", "2", NULL};
    struct rig rig;
    struct call calls[5];
    struct counter counter;
    struct fm_executor_stage_stats stats;
    uint32_t failed = 0;
    counter_init(&counter);
    rig_open(&rig, "emulated", 1, 0, settings);
    for (int i = 0; i < 5; i++) {
        call_init(&calls[i], &counter, 1, 0);
    }
    CHECK_INT_EQ(fm_executor_submit(rig.executor, &calls[0].request), 0);
    wait_running(&rig, 1);
    for (int i = 1; i < 5; i++) {
        CHECK_INT_EQ(fm_executor_submit(rig.executor, &calls[i].request), 0);
    }
    counter_wait(&counter, 5);
    CHECK_INT_EQ(calls[0].request.error.status, 0);
    for (int i = 1; i < 5; i++) {
        const struct fm_request *request = &calls[i].request;
        if (request->error.status != 0) {
            CHECK_INT_EQ(request->error.status, FM_EINTERNAL);
            CHECK_STR_CONTAINS(request->error.text, "injected failure");
            CHECK_INT_EQ(request->failed_stage, 0);
            CHECK(calls[i].output.buffer == NULL);
            failed++;
        }
    }
    /* Batch 2 was the four; 3, 4, 5, 6 were one each, of which the even ones fail. */
    CHECK_UINT_EQ(failed, 2);
    fm_executor_stats(rig.executor, 0, &stats);
    CHECK_UINT_EQ(stats.batches, 6);
    CHECK_UINT_EQ(stats.failures, 2);
    CHECK_UINT_EQ(stats.items, 5);
    for (int i = 0; i < 5; i++) {
        call_deinit(&calls[i]);
    }
    rig_close(&rig);
    counter_deinit(&counter);
}

/* --- Ends before the end --- */

TEST(deadline_drops_what_has_not_started)
{
    static const char *const settings[] = {"alpha", "0", "beta", "100ms", NULL};
    struct rig rig;
    struct call calls[3];
    struct counter counter;
    counter_init(&counter);
    rig_open(&rig, "emulated", 1, 0, settings);
    for (int i = 0; i < 3; i++) {
        call_init(&calls[i], &counter, 1, 0);
    }
    CHECK_INT_EQ(fm_executor_submit(rig.executor, &calls[0].request), 0);
    wait_running(&rig, 1);
    calls[1].request.deadline_ns = fm_os_now_ns() + 20 * MS;
    calls[2].request.deadline_ns = fm_os_now_ns() + 60000 * MS;
    CHECK_INT_EQ(fm_executor_submit(rig.executor, &calls[1].request), 0);
    CHECK_INT_EQ(fm_executor_submit(rig.executor, &calls[2].request), 0);
    counter_wait(&counter, 3);
    CHECK_INT_EQ(calls[0].request.error.status, 0);
    CHECK_INT_EQ(calls[1].request.error.status, FM_EDEADLINE);
    CHECK_INT_EQ(calls[2].request.error.status, 0);
    for (int i = 0; i < 3; i++) {
        call_deinit(&calls[i]);
    }
    rig_close(&rig);
    counter_deinit(&counter);
}

TEST(deadline_in_the_past)
{
    struct rig rig;
    struct call call;
    rig_open(&rig, "identity", 1, 0, NULL);
    call_init(&call, NULL, 1, 0);
    call.request.deadline_ns = 1;
    CHECK_INT_EQ(fm_executor_run(rig.executor, &call.request), FM_EDEADLINE);
    CHECK(call.output.buffer == NULL);
    call_deinit(&call);
    rig_close(&rig);
}

TEST(cancel)
{
    static const char *const settings[] = {"alpha", "0", "beta", "150ms", NULL};
    struct rig rig;
    struct call calls[2];
    struct counter counter;
    counter_init(&counter);
    rig_open(&rig, "emulated", 1, 0, settings);
    for (int i = 0; i < 2; i++) {
        call_init(&calls[i], &counter, 1, 0);
    }
    CHECK_INT_EQ(fm_executor_submit(rig.executor, &calls[0].request), 0);
    wait_running(&rig, 1);
    CHECK_INT_EQ(fm_executor_submit(rig.executor, &calls[1].request), 0);
    fm_executor_cancel(rig.executor, &calls[1].request); /* waiting: ends at once */
    counter_wait(&counter, 1);
    CHECK_UINT_EQ(calls[1].order, 1);
    CHECK_INT_EQ(calls[1].request.error.status, FM_ECANCELLED);
    fm_executor_cancel(rig.executor, &calls[1].request); /* again, after its end */
    fm_executor_cancel(rig.executor, &calls[0].request); /* running */
    counter_wait(&counter, 2);
    CHECK_INT_EQ(calls[0].request.error.status, FM_ECANCELLED);
    CHECK(calls[0].output.buffer == NULL);
    fm_executor_cancel(rig.executor, &calls[0].request);
    for (int i = 0; i < 2; i++) {
        call_deinit(&calls[i]);
    }
    rig_close(&rig);
    counter_deinit(&counter);
}

TEST(requests_max)
{
    static const char *const settings[] = {"alpha", "0", "beta", "50ms", NULL};
    struct rig rig;
    struct call calls[4];
    struct counter counter;
    counter_init(&counter);
    rig_open(&rig, "emulated", 1, 3, settings);
    for (int i = 0; i < 4; i++) {
        call_init(&calls[i], &counter, 1, 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_INT_EQ(fm_executor_submit(rig.executor, &calls[i].request), 0);
    }
    CHECK_INT_EQ(fm_executor_submit(rig.executor, &calls[3].request), FM_EAGAIN);
    CHECK_STR_CONTAINS(calls[3].request.error.text, "too many requests");
    CHECK(calls[3].inputs[0].buffer != NULL); /* still the caller's */
    counter_wait(&counter, 3);
    CHECK_INT_EQ(fm_executor_submit(rig.executor, &calls[3].request), 0);
    counter_wait(&counter, 4);
    for (int i = 0; i < 4; i++) {
        CHECK_INT_EQ(calls[i].request.error.status, 0);
        call_deinit(&calls[i]);
    }
    rig_close(&rig);
    counter_deinit(&counter);
}

TEST(destroy_waits_for_all)
{
    static const char *const settings[] = {"alpha", "0", "beta", "10ms", NULL};
    struct rig rig;
    struct call calls[CALLS_MAX];
    struct counter counter;
    counter_init(&counter);
    rig_open(&rig, "emulated", 2, 0, settings);
    for (int i = 0; i < CALLS_MAX; i++) {
        call_init(&calls[i], &counter, 1, 0);
        CHECK_INT_EQ(fm_executor_submit(rig.executor, &calls[i].request), 0);
    }
    rig_close(&rig);
    CHECK_UINT_EQ(counter.done, CALLS_MAX);
    for (int i = 0; i < CALLS_MAX; i++) {
        CHECK_INT_EQ(calls[i].request.error.status, 0);
        call_deinit(&calls[i]);
    }
    counter_deinit(&counter);
}

/* The thread that completed the last batch is still on its way out when its request is done. */
TEST(destroy_right_after_the_last_request)
{
    static const char *const settings[] = {"alpha", "0", "beta", "0", NULL};
    for (int round = 0; round < 100; round++) {
        struct rig rig;
        struct call calls[4];
        struct counter counter;
        counter_init(&counter);
        rig_open(&rig, "emulated", 2, 0, settings);
        for (int i = 0; i < 4; i++) {
            call_init(&calls[i], &counter, 8, 0);
            CHECK_INT_EQ(fm_executor_submit(rig.executor, &calls[i].request), 0);
        }
        counter_wait(&counter, 4);
        rig_close(&rig);
        for (int i = 0; i < 4; i++) {
            CHECK_INT_EQ(calls[i].request.error.status, 0);
            call_deinit(&calls[i]);
        }
        counter_deinit(&counter);
    }
}

/* --- Threads --- */

struct client {
    struct rig *rig;
    uint32_t index;
    bool echo;
    uint32_t wrong;
};

static void client_main(void *argument)
{
    struct client *client = argument;
    for (uint32_t i = 0; i < 200; i++) {
        struct call call;
        int64_t rows = 1 + (i + client->index) % 4;
        float first = (float)(client->index * 1000 + i);
        call_init(&call, NULL, rows, first);
        bool good = fm_executor_run(client->rig->executor, &call.request) == 0 &&
                    call.output.tensor.shape[0] == rows &&
                    (!client->echo || echoes(&call, rows, first));
        client->wrong += good ? 0 : 1;
        call_deinit(&call);
    }
}

static void clients_run(const char *backend, const char *const *settings)
{
    enum { CLIENTS = 6 };
    struct rig rig;
    struct client clients[CLIENTS];
    struct fm_thread threads[CLIENTS];
    struct fm_executor_stage_stats stats;
    rig_open(&rig, backend, 2, 0, settings);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        clients[i] =
            (struct client){.rig = &rig, .index = i, .echo = strcmp(backend, "identity") == 0};
        CHECK_INT_EQ(fm_thread_start(&threads[i], "client", client_main, &clients[i]), 0);
    }
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < CLIENTS; i++) {
        fm_thread_join(&threads[i]);
        wrong += clients[i].wrong;
    }
    fm_executor_stats(rig.executor, 0, &stats);
    rig_close(&rig);
    CHECK_UINT_EQ(wrong, 0);
    CHECK_UINT_EQ(stats.items, CLIENTS * 200);
    CHECK_UINT_EQ(stats.failures, 0);
}

TEST(many_threads_inline)
{
    clients_run("identity", NULL);
}

TEST(many_threads_asynchronous)
{
    static const char *const settings[] = {"alpha", "0", "beta", "20us", NULL};
    clients_run("emulated", settings);
}

/* --- Refusals --- */

TEST(inputs_refused)
{
    static const struct {
        uint32_t dtype;
        uint32_t rank;
        int64_t shape[3];
        int status;
        const char *words;
    } wrong[] = {
        {FM_DTYPE_INVALID, 0, {0}, FM_EINVAL, "input 'x' is missing"},
        {FM_DTYPE_INT32, 2, {1, 4}, FM_ETYPE, "must be FP32, but is INT32"},
        {FM_DTYPE_FP32, 2, {1, 5}, FM_ETYPE, "must have shape [-1,4], but has [1,5]"},
        {FM_DTYPE_FP32, 3, {1, 4, 1}, FM_ETYPE, "must have shape [-1,4], but has [1,4,1]"},
        {FM_DTYPE_FP32, 2, {0, 4}, FM_EINVAL, "batch size 0 is not between 1 and"},
        {FM_DTYPE_FP32, 2, {9, 4}, FM_EINVAL, "maximum of 8"},
    };
    struct rig rig;
    struct call call;
    rig_open(&rig, "identity", 1, 0, NULL);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        call_init(&call, NULL, 1, 0);
        fm_value_unref(&call.inputs[0]);
        if (wrong[i].dtype != FM_DTYPE_INVALID) {
            CHECK_INT_EQ(
                fm_value_alloc(&call.inputs[0], wrong[i].dtype, wrong[i].shape, wrong[i].rank, 0),
                0);
        }
        CHECK_INT_EQ(fm_executor_run(rig.executor, &call.request), wrong[i].status);
        CHECK_STR_CONTAINS(call.request.error.text, wrong[i].words);
        CHECK_INT_EQ(call.request.error.status, wrong[i].status);
        call_deinit(&call);
    }
    rig_close(&rig);
}

TEST(inputs_disagree_on_rows)
{
    static const char *const settings[] = {"inputs", "a:FP32[-1,4], b:FP32[-1,4]", NULL};
    struct rig rig;
    struct call call;
    rig_open(&rig, "emulated", 1, 0, settings);
    call_init(&call, NULL, 2, 0);
    CHECK_INT_EQ(fm_value_alloc(&call.inputs[1], FM_DTYPE_FP32, (int64_t[]){3, 4}, 2, 0), 0);
    CHECK_INT_EQ(fm_executor_run(rig.executor, &call.request), FM_EINVAL);
    CHECK_STR_CONTAINS(call.request.error.text, "2 and 3 rows");
    call_deinit(&call);
    rig_close(&rig);
}

TEST_MAIN()
