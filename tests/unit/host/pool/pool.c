/*
 * The pool over real backends: identity, whose answers tell whose rows they are, and emulated,
 * which takes time, fails on command, and completes on a thread of its own.
 */
#include "host/pool/pool.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

enum { COLUMNS = 4, CALLS = 400, RIG_ACCELERATORS_MAX = 8 };

#define MS ((uint64_t)1000000)

struct rig {
    struct fm_pool *pool;
    struct fm_model *model;
    struct fm_pool_model *in_pool;
    struct fm_profile profile;
    struct fm_mutex mutex;
    struct fm_condition condition;
    uint32_t done;
    uint32_t submitted;
    uint64_t last_batch[RIG_ACCELERATORS_MAX]; /* of each: the number of its last one */
};

struct call {
    struct fm_pool_request request;
    struct fm_value input;
    struct fm_value output;
    struct rig *rig;
    float first;
    bool here; /* done on the thread that submits for 0 */
};

struct rig_options {
    const char *backend;
    const char *const *settings; /* key, value, ..., NULL */
    const char *inputs;
    enum fm_sched_policy_kind policy;
    uint32_t accelerators;
    uint32_t batch_max;
    uint32_t rows_max;
    uint64_t slo_ns;
    uint64_t hang_ns;
    bool shares_threads;
    bool quick;    /* says the profile */
    bool no_brief; /* batches on submitters' threads */
};

static _Thread_local bool is_submitter;
static _Atomic uint32_t hangs_told;
static _Atomic uint32_t returns_told;

static void on_hang(void *context, const struct fm_pool_hang *hang)
{
    (void)context;
    CHECK(hang->over || (hang->ran_ns > 0 && strcmp(hang->model, "net") == 0));
    atomic_fetch_add(hang->over ? &returns_told : &hangs_told, 1);
}

/* Batches of an accelerator run in the order of their numbers. */
static void on_run(void *context, const struct fm_pool_run *run)
{
    struct rig *rig = context;
    CHECK(run->accelerator < RIG_ACCELERATORS_MAX);
    CHECK(run->batch >= rig->last_batch[run->accelerator]);
    rig->last_batch[run->accelerator] = run->batch;
}

static void rig_fail(const struct fm_error *error)
{
    printf("# %s\n", error->text);
    abort();
}

static void rig_open(struct rig *rig, const struct rig_options *options)
{
    struct fm_model_config config;
    struct fm_error error = {0};
    memset(rig, 0, sizeof(*rig));
    fm_mutex_init(&rig->mutex);
    fm_condition_init(&rig->condition);
    fm_model_config_init(&config);
    config.name = "net";
    config.backend = options->backend;
    config.instance_count = options->accelerators;
    config.max_batch_size = options->batch_max;
    bool identity = strcmp(options->backend, "identity") == 0;
    int status = fm_model_config_set(
        &config, "inputs", options->inputs != NULL ? options->inputs : "x:FP32[-1,4]", &error);
    status = status != 0
                 ? status
                 : fm_model_config_set(&config, "outputs", identity ? "y" : "y:FP32[-1,4]", &error);
    for (const char *const *setting = options->settings; setting != NULL && *setting != NULL;
         setting += 2) {
        status =
            status != 0 ? status : fm_model_config_set(&config, setting[0], setting[1], &error);
    }
    status = status != 0 ? status : fm_model_load(&config, &rig->model, &error);
    fm_model_config_deinit(&config);
    if (status != 0) {
        rig_fail(&error);
    }
    const struct fm_pool_type type = {.name = "test",
                                      .accelerators = options->accelerators,
                                      .shares_threads = options->shares_threads};
    const struct fm_pool_options pool = {.policy = options->policy,
                                         .types = &type,
                                         .type_count = 1,
                                         .models_max = 4,
                                         .rows_max = options->rows_max,
                                         .batch_max = 64,
                                         .hang_ns = options->hang_ns,
                                         .on_hang = on_hang,
                                         .on_run = on_run,
                                         .context = rig,
                                         .brief = !options->no_brief,
                                         .submitter_count = 2};
    status = fm_profile_add_affine(&rig->profile, options->quick ? 100 : MS / 10,
                                   options->quick ? 1000 : MS, 64, &error);
    status = status != 0 ? status : fm_pool_create(&pool, &rig->pool, &error);
    const struct fm_pool_model_options model = {.name = "net",
                                                .models = {rig->model},
                                                .profiles = {&rig->profile},
                                                .slo_ns = options->slo_ns > 0 ? options->slo_ns
                                                                              : 10000 * MS};
    status = status != 0 ? status : fm_pool_model_add(rig->pool, &model, &rig->in_pool, &error);
    if (status != 0) {
        rig_fail(&error);
    }
}

static void rig_close(struct rig *rig)
{
    CHECK(fm_pool_model_remove(rig->pool, rig->in_pool));
    fm_pool_destroy(rig->pool);
    fm_model_free(rig->model);
    fm_condition_deinit(&rig->condition);
    fm_mutex_deinit(&rig->mutex);
}

static void on_done(struct fm_pool_request *request)
{
    struct call *call = request->user;
    struct rig *rig = call->rig;
    call->here = is_submitter;
    fm_mutex_lock(&rig->mutex);
    rig->done++;
    fm_condition_broadcast(&rig->condition);
    fm_mutex_unlock(&rig->mutex);
}

/* Row r, column c of a call holds first + 10 r + c. */
static void call_make(struct call *call, struct rig *rig, uint32_t rows, uint32_t columns,
                      float first)
{
    const int64_t shape[2] = {rows, columns};
    memset(call, 0, sizeof *call);
    CHECK_INT_EQ(fm_value_alloc(&call->input, FM_DTYPE_FP32, shape, 2, 0), 0);
    float *data = call->input.tensor.data;
    for (uint32_t i = 0; i < rows * columns; i++) {
        data[i] = first + (float)(10 * (i / columns) + i % columns);
    }
    call->rig = rig;
    call->first = first;
    call->request.model = rig->in_pool;
    call->request.inputs = &call->input;
    call->request.outputs = &call->output;
    call->request.rows = rows;
    call->request.done = on_done;
    call->request.user = call;
}

static int call_submit(struct call *call)
{
    int status = fm_pool_submit(call->rig->pool, 0, &call->request);
    call->rig->submitted += status == 0 ? 1 : 0;
    return status;
}

static void wait_all(struct rig *rig)
{
    fm_pool_flush(rig->pool, 0);
    uint64_t until_ns = fm_os_now_ns() + 20000 * MS;
    fm_mutex_lock(&rig->mutex);
    while (rig->done < rig->submitted &&
           fm_condition_wait_until(&rig->condition, &rig->mutex, until_ns)) {
    }
    CHECK_UINT_EQ(rig->done, rig->submitted);
    fm_mutex_unlock(&rig->mutex);
}

/* The answer is what was asked: identity's. */
static bool is_answered(const struct call *call, uint32_t columns)
{
    const struct fm_tensor *tensor = &call->output.tensor;
    if (call->request.error.status != 0 || tensor->rank != 2 ||
        tensor->shape[0] != (int64_t)call->request.rows || tensor->shape[1] != columns) {
        return false;
    }
    const float *data = tensor->data;
    for (uint32_t i = 0; i < call->request.rows * columns; i++) {
        if (data[i] != call->first + (float)(10 * (i / columns) + i % columns)) {
            return false;
        }
    }
    return true;
}

static void call_free(struct call *call)
{
    fm_value_unref(&call->input);
    fm_value_unref(&call->output);
}

TEST(every_request_gets_its_own_rows_back)
{
    static struct call calls[CALLS];
    struct rig rig;
    rig_open(&rig, &(struct rig_options){
                       .backend = "identity", .accelerators = 2, .batch_max = 8, .rows_max = 4096});
    for (uint32_t i = 0; i < CALLS; i++) {
        /* 1 to 20 rows: more than a batch takes, too. */
        call_make(&calls[i], &rig, 1 + i % 20, COLUMNS, (float)(1000 * i));
        while (call_submit(&calls[i]) != 0) {
            CHECK_INT_EQ(calls[i].request.error.status, FM_EAGAIN);
            fm_pool_flush(rig.pool, 0);
            fm_sleep_until(fm_os_now_ns() + MS / 10);
        }
        if (i % 7 == 0) {
            fm_pool_flush(rig.pool, 0);
        }
    }
    wait_all(&rig);
    uint32_t right = 0;
    for (uint32_t i = 0; i < CALLS; i++) {
        right += is_answered(&calls[i], COLUMNS) ? 1 : 0;
        CHECK(calls[i].request.done_ns >= calls[i].request.computed_ns);
        CHECK(calls[i].request.computed_ns >= calls[i].request.computing_ns);
        CHECK(calls[i].request.computing_ns >= calls[i].request.started_ns);
        CHECK(calls[i].request.started_ns >= calls[i].request.arrived_ns);
        call_free(&calls[i]);
    }
    CHECK_UINT_EQ(right, CALLS);
    rig_close(&rig);
}

TEST(one_whole_request_is_not_copied)
{
    struct call call;
    struct rig rig;
    rig_open(&rig, &(struct rig_options){.backend = "identity", .accelerators = 1, .batch_max = 8});
    call_make(&call, &rig, 8, COLUMNS, 1);
    CHECK_INT_EQ(call_submit(&call), 0);
    wait_all(&rig);
    CHECK(is_answered(&call, COLUMNS));
    CHECK_UINT_EQ(call.request.bytes_copied, 0);
    CHECK_UINT_EQ(call.request.batch_rows, 8);
    call_free(&call);
    rig_close(&rig);
}

TEST(shapes_that_differ_do_not_mix)
{
    static struct call calls[60];
    struct rig rig;
    rig_open(&rig, &(struct rig_options){.backend = "identity",
                                         .inputs = "x:FP32[-1,-1]",
                                         .accelerators = 1,
                                         .batch_max = 16});
    for (uint32_t i = 0; i < FM_COUNT_OF(calls); i++) {
        call_make(&calls[i], &rig, 1 + i % 3, 1 + i % 5, (float)(100 * i));
        CHECK_INT_EQ(call_submit(&calls[i]), 0);
    }
    wait_all(&rig);
    for (uint32_t i = 0; i < FM_COUNT_OF(calls); i++) {
        CHECK(is_answered(&calls[i], 1 + i % 5));
        call_free(&calls[i]);
    }
    rig_close(&rig);
}

/* Rows of one request on both accelerators at once: half the time of all on one. */
TEST(a_large_request_runs_on_several_accelerators)
{
    struct call call;
    struct rig rig;
    static const char *const settings[] = {"alpha", "10ms", NULL};
    rig_open(&rig, &(struct rig_options){.backend = "emulated",
                                         .settings = settings,
                                         .accelerators = 2,
                                         .batch_max = 4,
                                         .policy = FM_SCHED_POLICY_EAGER});
    call_make(&call, &rig, 8, COLUMNS, 0);
    CHECK_INT_EQ(call_submit(&call), 0);
    wait_all(&rig);
    CHECK_INT_EQ(call.request.error.status, 0);
    CHECK_INT_EQ(call.output.tensor.shape[0], 8);
    struct fm_pool_accelerator_stats stats[2];
    for (uint32_t i = 0; i < 2; i++) {
        fm_pool_accelerator_stats(rig.pool, i, &stats[i]);
        CHECK_UINT_EQ(stats[i].rows, 4);
        CHECK_UINT_EQ(stats[i].batches, 1);
    }
    call_free(&call);
    rig_close(&rig);
}

/* Every third run fails, whatever is in it: batches are taken apart, and who is alone then fails.
 */
TEST(what_fails_fails_alone)
{
    static struct call calls[CALLS];
    struct rig rig;
    static const char *const settings[] = {"alpha", "100us", "fail_every", "3", NULL};
    rig_open(&rig, &(struct rig_options){.backend = "emulated",
                                         .settings = settings,
                                         .accelerators = 2,
                                         .batch_max = 8,
                                         .shares_threads = true});
    for (uint32_t i = 0; i < CALLS; i++) {
        call_make(&calls[i], &rig, 1 + i % 3, COLUMNS, 0);
        CHECK_INT_EQ(call_submit(&calls[i]), 0);
    }
    wait_all(&rig);
    uint32_t good = 0;
    uint32_t failed = 0;
    for (uint32_t i = 0; i < CALLS; i++) {
        good += calls[i].request.error.status == 0 ? 1 : 0;
        if (calls[i].request.error.status != 0) {
            failed++;
            CHECK_INT_EQ(calls[i].request.error.status, FM_EINTERNAL);
            CHECK_STR_CONTAINS(calls[i].request.error.text, "injected failure");
            CHECK(calls[i].output.buffer == NULL);
        } else {
            CHECK_INT_EQ(calls[i].output.tensor.shape[0], calls[i].request.rows);
        }
        call_free(&calls[i]);
    }
    CHECK(good > CALLS / 3 && failed > 0);
    rig_close(&rig);
}

/* Of all accelerators. */
struct sums {
    uint64_t hangs;
    uint64_t batches;
    uint64_t brief;
    uint32_t down;
};

static struct sums sums_of(const struct rig *rig)
{
    struct sums sums = {0};
    for (uint32_t i = 0; i < fm_pool_accelerator_count(rig->pool); i++) {
        struct fm_pool_accelerator_stats stats;
        fm_pool_accelerator_stats(rig->pool, i, &stats);
        sums.hangs += stats.hangs;
        sums.batches += stats.batches;
        sums.brief += stats.brief;
        sums.down += stats.down ? 1 : 0;
    }
    return sums;
}

static void wait_up(const struct rig *rig)
{
    uint64_t until_ns = fm_os_now_ns() + 20000 * MS;
    while (fm_pool_down_count(rig->pool) > 0 && fm_os_now_ns() < until_ns) {
        fm_sleep_until(fm_os_now_ns() + MS);
    }
    CHECK_UINT_EQ(fm_pool_down_count(rig->pool), 0);
}

/* Waves of requests against a model of which every third batch of an accelerator hangs for longer
 * than it may: all are answered, those of such batches with an error, and the inputs of requests
 * that were answered can go while the model still holds on to them. */
static void hang_waves(bool shares_threads, enum fm_sched_policy_kind policy)
{
    static struct call calls[CALLS];
    static const char *const settings[] = {"alpha", "100us", "hang_every", "3",
                                           "hang",  "300ms", NULL};
    struct rig rig;
    uint32_t good = 0;
    uint32_t hung = 0;
    atomic_store(&hangs_told, 0);
    atomic_store(&returns_told, 0);
    rig_open(&rig, &(struct rig_options){.backend = "emulated",
                                         .settings = settings,
                                         .inputs = "x:FP32[-1,-1]",
                                         .accelerators = 3,
                                         .batch_max = 8,
                                         .policy = policy,
                                         .hang_ns = 60 * MS,
                                         .shares_threads = shares_threads});
    for (uint32_t wave = 0; wave < 4; wave++) {
        for (uint32_t i = 0; i < CALLS / 4; i++) {
            call_make(&calls[i], &rig, 1 + i % 3, 1 + i % 2 * (COLUMNS - 1), 0);
            calls[i].request.deadline_ns = fm_os_now_ns() + 8000 * MS;
            CHECK_INT_EQ(call_submit(&calls[i]), 0);
        }
        wait_all(&rig);
        for (uint32_t i = 0; i < CALLS / 4; i++) {
            const struct fm_error *error = &calls[i].request.error;
            good += error->status == 0 ? 1 : 0;
            if (error->status != 0) {
                hung++;
                CHECK_INT_EQ(error->status, FM_EINTERNAL);
                CHECK_STR_CONTAINS(error->text, "the accelerator does not answer");
                CHECK(calls[i].output.buffer == NULL);
            }
            call_free(&calls[i]);
        }
    }
    CHECK(good > 0 && hung > 0);
    wait_up(&rig);
    struct sums sums = sums_of(&rig);
    CHECK_UINT_EQ(sums.down, 0);
    CHECK(sums.hangs > 0);
    rig_close(&rig);
    CHECK_UINT_EQ(atomic_load(&hangs_told), sums.hangs);
    CHECK_UINT_EQ(atomic_load(&returns_told), sums.hangs);
}

TEST(what_hangs_is_given_up_and_comes_back)
{
    hang_waves(false, FM_SCHED_POLICY_DEFERRED);
    hang_waves(true, FM_SCHED_POLICY_DEFERRED);
    hang_waves(true, FM_SCHED_POLICY_CLOCKWORK);
}

/* A model whose runs hang can be removed: it is abandoned once they were given up, while they still
 * go on, and the pool goes on without it. */
TEST(a_model_that_hangs_is_abandoned)
{
    static struct call calls[4];
    static const char *const settings[] = {"hang_every", "1", "hang", "3s", NULL};
    for (int shares = 0; shares < 2; shares++) {
        struct rig rig;
        rig_open(&rig, &(struct rig_options){.backend = "emulated",
                                             .settings = settings,
                                             .accelerators = 2,
                                             .batch_max = 1,
                                             .hang_ns = 60 * MS,
                                             .shares_threads = shares == 1});
        uint64_t start_ns = fm_os_now_ns();
        for (uint32_t i = 0; i < 4; i++) {
            call_make(&calls[i], &rig, 1, COLUMNS, 0);
            calls[i].request.deadline_ns = start_ns + 20000 * MS;
            CHECK_INT_EQ(call_submit(&calls[i]), 0);
        }
        fm_pool_flush(rig.pool, 0);
        while (fm_pool_down_count(rig.pool) == 0 && fm_os_now_ns() - start_ns < 20000 * MS) {
            fm_sleep_until(fm_os_now_ns() + MS);
        }
        CHECK(!fm_pool_model_remove(rig.pool, rig.in_pool));
        wait_all(&rig);
        CHECK_UINT_EQ(fm_pool_abandoned_count(rig.pool), 1);
        CHECK(fm_pool_down_count(rig.pool) > 0);
        for (uint32_t i = 0; i < 4; i++) {
            CHECK(calls[i].request.error.status < 0);
            call_free(&calls[i]);
        }
        wait_up(&rig);
        rig.in_pool = NULL;
        rig_close(&rig);
    }
}

TEST(what_is_late_or_cancelled_is_answered_and_does_not_run)
{
    static struct call calls[40];
    struct rig rig;
    static const char *const settings[] = {"alpha", "0ms", "beta", "20ms", NULL};
    rig_open(&rig, &(struct rig_options){.backend = "emulated",
                                         .settings = settings,
                                         .accelerators = 1,
                                         .batch_max = 1,
                                         .policy = FM_SCHED_POLICY_EAGER});
    for (uint32_t i = 0; i < FM_COUNT_OF(calls); i++) {
        call_make(&calls[i], &rig, 1, COLUMNS, 0);
        calls[i].request.deadline_ns = i < 20 ? fm_os_now_ns() + 100 * MS : 0;
        CHECK_INT_EQ(call_submit(&calls[i]), 0);
    }
    fm_pool_flush(rig.pool, 0);
    for (uint32_t i = 20; i < FM_COUNT_OF(calls); i++) {
        fm_pool_cancel(rig.pool, 0, &calls[i].request);
    }
    wait_all(&rig);
    uint32_t late = 0;
    uint32_t cancelled = 0;
    for (uint32_t i = 0; i < FM_COUNT_OF(calls); i++) {
        late += calls[i].request.error.status == FM_EDEADLINE ? 1 : 0;
        cancelled += calls[i].request.drop == FM_SCHED_DROP_CANCELLED ? 1 : 0;
        if (calls[i].request.error.status == FM_EDEADLINE) {
            CHECK_STR_CONTAINS(calls[i].request.error.text, "Request timeout expired");
        }
        call_free(&calls[i]);
    }
    CHECK(late >= 10);
    CHECK_UINT_EQ(cancelled, 20);
    rig_close(&rig);
}

/* A cancel that comes when the request is over, and its slot another's already. */
TEST(a_late_cancel_hits_nobody_else)
{
    static struct call calls[64];
    struct rig rig;
    rig_open(&rig, &(struct rig_options){
                       .backend = "identity", .accelerators = 1, .batch_max = 1, .rows_max = 2});
    for (uint32_t i = 0; i < FM_COUNT_OF(calls); i++) {
        call_make(&calls[i], &rig, 1, COLUMNS, (float)i);
        while (call_submit(&calls[i]) != 0) {
            fm_sleep_until(fm_os_now_ns() + MS / 20);
        }
        if (i >= 2) {
            fm_pool_cancel(rig.pool, 0, &calls[i - 2].request);
        }
        fm_pool_flush(rig.pool, 0);
    }
    wait_all(&rig);
    for (uint32_t i = 0; i < FM_COUNT_OF(calls); i++) {
        CHECK(is_answered(&calls[i], COLUMNS));
        call_free(&calls[i]);
    }
    rig_close(&rig);
}

/* After any load: beside idle accelerators nobody waits for company that does not come. */
TEST(a_lone_request_does_not_wait_for_its_far_deadline)
{
    static struct call calls[CALLS];
    struct rig rig;
    uint64_t longest_ns = 0;
    rig_open(&rig,
             &(struct rig_options){
                 .backend = "identity", .accelerators = 2, .batch_max = 8, .slo_ns = 60000 * MS});
    for (uint32_t round = 0; round < 20; round++) {
        uint32_t count = 20 + 17 * round;
        for (uint32_t i = 0; i < count; i++) {
            call_make(&calls[i], &rig, 1 + i % 3, COLUMNS, (float)i);
            /* Some cannot be met, which is no reason to expect more. */
            calls[i].request.deadline_ns = i % 5 == 0 ? 1 : 0;
            CHECK_INT_EQ(call_submit(&calls[i]), 0);
            if (i % (1 + round) == 0) {
                fm_pool_flush(rig.pool, 0);
            }
        }
        wait_all(&rig);
        struct call lone;
        call_make(&lone, &rig, 1, COLUMNS, 1);
        lone.request.deadline_ns = fm_os_now_ns() + 60000 * MS;
        CHECK_INT_EQ(call_submit(&lone), 0);
        wait_all(&rig);
        uint64_t took_ns = lone.request.done_ns - lone.request.arrived_ns;
        longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
        CHECK(is_answered(&lone, COLUMNS));
        call_free(&lone);
        for (uint32_t i = 0; i < count; i++) {
            CHECK(calls[i].request.done_ns - calls[i].request.arrived_ns < 3000 * MS);
            call_free(&calls[i]);
        }
    }
    printf("# the longest wait of a lone request: %.3f ms\n", (double)longest_ns / 1e6);
    CHECK(longest_ns < 2000 * MS);
    rig_close(&rig);
}

/* `latest` would hold a lone request for almost a minute. */
TEST(a_pool_that_drains_holds_nothing_back)
{
    struct call calls[3];
    struct rig rig;
    rig_open(&rig, &(struct rig_options){.backend = "identity",
                                         .accelerators = 2,
                                         .batch_max = 8,
                                         .policy = FM_SCHED_POLICY_LATEST,
                                         .slo_ns = 60000 * MS});
    for (uint32_t i = 0; i < FM_COUNT_OF(calls); i++) {
        call_make(&calls[i], &rig, 1, COLUMNS, (float)i);
        calls[i].request.deadline_ns = fm_os_now_ns() + 60000 * MS;
    }
    CHECK_INT_EQ(call_submit(&calls[0]), 0);
    CHECK_INT_EQ(call_submit(&calls[1]), 0);
    fm_pool_flush(rig.pool, 0);
    fm_pool_drain(rig.pool);
    wait_all(&rig);
    CHECK_INT_EQ(call_submit(&calls[2]), 0);
    wait_all(&rig);
    fm_pool_drain(rig.pool);
    for (uint32_t i = 0; i < FM_COUNT_OF(calls); i++) {
        CHECK(is_answered(&calls[i], COLUMNS));
        CHECK(calls[i].request.done_ns - calls[i].request.arrived_ns < 30000 * MS);
        call_free(&calls[i]);
    }
    rig_close(&rig);
}

TEST(a_model_goes_with_what_it_has_queued)
{
    static struct call calls[20];
    struct rig rig;
    static const char *const settings[] = {"beta", "20ms", NULL};
    rig_open(&rig, &(struct rig_options){.backend = "emulated",
                                         .settings = settings,
                                         .accelerators = 1,
                                         .batch_max = 1,
                                         .policy = FM_SCHED_POLICY_EAGER});
    for (uint32_t i = 0; i < FM_COUNT_OF(calls); i++) {
        call_make(&calls[i], &rig, 1, COLUMNS, 0);
        CHECK_INT_EQ(call_submit(&calls[i]), 0);
    }
    fm_pool_flush(rig.pool, 0);
    CHECK(fm_pool_model_remove(rig.pool, rig.in_pool));
    rig.in_pool = NULL;
    CHECK_UINT_EQ(rig.done, FM_COUNT_OF(calls)); /* by the time it returns */
    uint32_t gone = 0;
    for (uint32_t i = 0; i < FM_COUNT_OF(calls); i++) {
        gone += calls[i].request.drop == FM_SCHED_DROP_MODEL_GONE ? 1 : 0;
        call_free(&calls[i]);
    }
    CHECK(gone >= 18);
    rig_close(&rig);
}

TEST(every_policy_serves)
{
    static struct call calls[100];
    for (unsigned policy = 0; policy < FM_SCHED_POLICY_COUNT_; policy++) {
        if (policy == FM_SCHED_POLICY_SHEPHERD) {
            continue;
        }
        struct rig rig;
        rig_open(&rig, &(struct rig_options){.backend = "identity",
                                             .accelerators = 2,
                                             .batch_max = 8,
                                             .slo_ns = 500 * MS,
                                             .policy = (enum fm_sched_policy_kind)policy});
        for (uint32_t i = 0; i < FM_COUNT_OF(calls); i++) {
            call_make(&calls[i], &rig, 1, COLUMNS, (float)i);
            CHECK_INT_EQ(call_submit(&calls[i]), 0);
            fm_pool_flush(rig.pool, 0);
        }
        wait_all(&rig);
        uint32_t right = 0;
        for (uint32_t i = 0; i < FM_COUNT_OF(calls); i++) {
            right += is_answered(&calls[i], COLUMNS) ? 1 : 0;
            call_free(&calls[i]);
        }
        CHECK(right > 0);
        rig_close(&rig);
    }
}

TEST(what_cannot_be_is_refused_in_words)
{
    struct fm_error error;
    struct fm_pool *pool;
    const struct fm_pool_type type = {.name = "test", .accelerators = 0};
    struct fm_pool_options options = {
        .types = &type, .type_count = 1, .batch_max = 8, .submitter_count = 1};
    CHECK_INT_EQ(fm_pool_create(&options, &pool, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "'test' has 0 accelerators");
    const struct fm_pool_type one = {.name = "test", .accelerators = 1};
    options.types = &one;
    options.policy = FM_SCHED_POLICY_SHEPHERD;
    CHECK_INT_EQ(fm_pool_create(&options, &pool, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "shepherd");
    options.policy = FM_SCHED_POLICY_DEFERRED;
    options.submitter_count = 0;
    CHECK_INT_EQ(fm_pool_create(&options, &pool, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "submitter_count");
    struct rig rig;
    struct call call;
    rig_open(&rig, &(struct rig_options){
                       .backend = "identity", .accelerators = 2, .batch_max = 8, .rows_max = 16});
    call_make(&call, &rig, 17, COLUMNS, 0);
    call.request.computed_ns = 1; /* as of what it was used for before */
    CHECK_INT_EQ(call_submit(&call), FM_ETOOLARGE);
    CHECK_UINT_EQ(call.request.computed_ns, 0);
    CHECK_STR_CONTAINS(call.request.error.text, "17 rows");
    struct fm_pool_model *model;
    struct fm_pool_model_options wrong = {.name = "other", .slo_ns = MS};
    CHECK_INT_EQ(fm_pool_model_add(rig.pool, &wrong, &model, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "runs on no type");
    wrong.models[0] = rig.model;
    CHECK_INT_EQ(fm_pool_model_add(rig.pool, &wrong, &model, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "no profile");
    call_free(&call);
    rig_close(&rig);
}

/* Two threads, each a submitter of its own. */
static void other_submitter(void *argument)
{
    static struct call calls[CALLS];
    struct rig *rig = argument;
    for (uint32_t i = 0; i < CALLS; i++) {
        call_make(&calls[i], rig, 1 + i % 4, COLUMNS, (float)i);
        int status = fm_pool_submit(rig->pool, 1, &calls[i].request);
        CHECK_INT_EQ(status, 0);
        fm_pool_flush(rig->pool, 1);
    }
    uint64_t until_ns = fm_os_now_ns() + 20000 * MS;
    fm_mutex_lock(&rig->mutex);
    while (rig->done < 2 * CALLS &&
           fm_condition_wait_until(&rig->condition, &rig->mutex, until_ns)) {
    }
    CHECK_UINT_EQ(rig->done, 2 * CALLS);
    fm_mutex_unlock(&rig->mutex);
    for (uint32_t i = 0; i < CALLS; i++) {
        CHECK(is_answered(&calls[i], COLUMNS));
        call_free(&calls[i]);
    }
}

TEST(submitters_do_not_know_each_other)
{
    static struct call calls[CALLS];
    struct rig rig;
    rig_open(&rig, &(struct rig_options){.backend = "identity", .accelerators = 2, .batch_max = 8});
    struct fm_thread thread = {0};
    CHECK_INT_EQ(fm_thread_start(&thread, "submitter", other_submitter, &rig), 0);
    for (uint32_t i = 0; i < CALLS; i++) {
        call_make(&calls[i], &rig, 1 + i % 4, COLUMNS, (float)(7 * i));
        CHECK_INT_EQ(fm_pool_submit(rig.pool, 0, &calls[i].request), 0);
        fm_pool_flush(rig.pool, 0);
    }
    fm_thread_join(&thread);
    for (uint32_t i = 0; i < CALLS; i++) {
        CHECK(is_answered(&calls[i], COLUMNS));
        call_free(&calls[i]);
    }
    rig_close(&rig);
}

/* Calls one by one: within the time so many of them are done by the flush itself; not all, as who
 * has worked last may not sleep yet. 0: none is. */
static void check_done_here(struct rig *rig, uint32_t columns, uint32_t expected, uint64_t time_ns)
{
    uint64_t until_ns = fm_os_now_ns() + time_ns;
    uint32_t here = 0;
    is_submitter = true;
    while (here < (expected > 0 ? expected : 1) && fm_os_now_ns() < until_ns) {
        struct call call;
        call_make(&call, rig, 1 + here % 3, columns, (float)here);
        CHECK_INT_EQ(call_submit(&call), 0);
        wait_all(rig);
        here += call.here ? 1 : 0;
        CHECK_INT_EQ(call.request.error.status, 0);
        call_free(&call);
    }
    is_submitter = false;
    CHECK_UINT_EQ(here, expected);
}

TEST(brief_batches_run_on_the_thread_that_brings_them)
{
    struct rig rig;
    rig_open(&rig, &(struct rig_options){
                       .backend = "identity", .accelerators = 2, .batch_max = 8, .quick = true});
    check_done_here(&rig, COLUMNS, 50, 20000 * MS);
    struct sums sums = sums_of(&rig);
    CHECK_UINT_EQ(sums.brief, 50);
    CHECK(sums.batches >= 50);
    rig_close(&rig);
}

TEST(others_are_left_to_the_accelerators_threads)
{
    static const char *const waits[] = {"alpha", "1us", "beta", "1us", NULL};
    struct rig rig;
    /* By its profile it takes a millisecond. */
    rig_open(&rig, &(struct rig_options){.backend = "identity", .accelerators = 1, .batch_max = 8});
    check_done_here(&rig, COLUMNS, 0, 50 * MS);
    rig_close(&rig);
    /* Nobody wants that. */
    rig_open(&rig, &(struct rig_options){.backend = "identity",
                                         .accelerators = 1,
                                         .batch_max = 8,
                                         .quick = true,
                                         .no_brief = true});
    check_done_here(&rig, COLUMNS, 0, 50 * MS);
    rig_close(&rig);
    /* Its rows are large. */
    rig_open(&rig, &(struct rig_options){.backend = "identity",
                                         .inputs = "x:FP32[-1,-1]",
                                         .accelerators = 1,
                                         .batch_max = 8,
                                         .quick = true});
    check_done_here(&rig, 100000, 0, 50 * MS);
    rig_close(&rig);
    /* It waits, however short. */
    rig_open(&rig, &(struct rig_options){.backend = "emulated",
                                         .settings = waits,
                                         .accelerators = 1,
                                         .batch_max = 8,
                                         .quick = true});
    check_done_here(&rig, COLUMNS, 0, 50 * MS);
    rig_close(&rig);
}

struct mixing {
    struct rig *rig;
    struct fm_pool_model *models[2];
    uint32_t submitter;
    struct call calls[CALLS];
};

static void mixing_run(void *argument)
{
    struct mixing *mixing = argument;
    for (uint32_t i = 0; i < CALLS; i++) {
        struct call *call = &mixing->calls[i];
        call_make(call, mixing->rig, 1 + i % 4, COLUMNS, (float)i);
        call->request.model = mixing->models[i % 3 == 0];
        CHECK_INT_EQ(fm_pool_submit(mixing->rig->pool, mixing->submitter, &call->request), 0);
        /* Sometimes more than a turn takes; sometimes when the accelerators have gone to sleep. */
        if (i % 64 == 0 || (i / 64 % 2 == 0 && i % 3 == 0)) {
            fm_pool_flush(mixing->rig->pool, mixing->submitter);
        }
        if (i % 40 == 0) {
            fm_sleep_until(fm_os_now_ns() + 5 * MS);
        }
    }
    fm_pool_flush(mixing->rig->pool, mixing->submitter);
}

/* Two submitters and two accelerators, a model that is brief and one that is not. */
TEST(brief_batches_and_others_share_accelerators)
{
    static struct mixing mixing[2];
    struct rig rig;
    struct fm_pool_model *slow = NULL;
    struct fm_profile profile = {0};
    struct fm_error error = {0};
    rig_open(&rig, &(struct rig_options){
                       .backend = "identity", .accelerators = 2, .batch_max = 8, .quick = true});
    CHECK_INT_EQ(fm_profile_add_affine(&profile, MS / 10, MS, 64, &error), 0);
    const struct fm_pool_model_options options = {
        .name = "slow", .models = {rig.model}, .profiles = {&profile}, .slo_ns = 10000 * MS};
    CHECK_INT_EQ(fm_pool_model_add(rig.pool, &options, &slow, &error), 0);
    struct fm_thread threads[2] = {0};
    for (uint32_t i = 0; i < 2; i++) {
        mixing[i].rig = &rig;
        mixing[i].models[0] = rig.in_pool;
        mixing[i].models[1] = slow;
        mixing[i].submitter = i;
        CHECK_INT_EQ(fm_thread_start(&threads[i], "submitter", mixing_run, &mixing[i]), 0);
    }
    fm_thread_join(&threads[0]);
    fm_thread_join(&threads[1]);
    rig.submitted = 2 * CALLS;
    wait_all(&rig);
    uint32_t right = 0;
    for (uint32_t i = 0; i < 2 * CALLS; i++) {
        struct call *call = &mixing[i / CALLS].calls[i % CALLS];
        right += is_answered(call, COLUMNS) ? 1 : 0;
        call_free(call);
    }
    CHECK_UINT_EQ(right, 2 * CALLS);
    struct sums sums = sums_of(&rig);
    printf("# of %u batches %u were brief\n", (unsigned)sums.batches, (unsigned)sums.brief);
    CHECK(sums.brief > 0 && sums.brief < sums.batches);
    CHECK(fm_pool_model_remove(rig.pool, slow));
    rig_close(&rig);
}

/* Submits what a backend takes `ms` for, and flushes. */
struct dawdling {
    struct rig *rig;
    struct call call;
    float ms;
};

static void dawdling_run(void *argument)
{
    struct dawdling *dawdling = argument;
    call_make(&dawdling->call, dawdling->rig, 1, COLUMNS, 100000 + dawdling->ms);
    CHECK_INT_EQ(fm_pool_submit(dawdling->rig->pool, 1, &dawdling->call.request), 0);
    fm_pool_flush(dawdling->rig->pool, 1);
}

/* What is told is told after it has happened. */
static void check_told(_Atomic uint32_t *counter, uint32_t expected)
{
    uint64_t until_ns = fm_os_now_ns() + 20000 * MS;
    while (atomic_load(counter) < expected && fm_os_now_ns() < until_ns) {
        fm_sleep_until(fm_os_now_ns() + MS);
    }
    CHECK_UINT_EQ(atomic_load(counter), expected);
}

static void dawdling_open(struct rig *rig, uint64_t hang_ns)
{
    char path[4096];
    const char *own = getenv("FERMATA_PLUGIN_PATH");
    (void)snprintf(path, sizeof path, "%s:%s", own != NULL ? own : ".", getenv("FM_TEST_PLUGINS"));
    CHECK_INT_EQ(setenv("FERMATA_PLUGIN_PATH", path, 1), 0);
    rig_open(rig, &(struct rig_options){.backend = "dawdles",
                                        .accelerators = 2,
                                        .batch_max = 8,
                                        .hang_ns = hang_ns,
                                        .quick = true});
}

/* A loop that hangs in a brief batch holds up nobody else, and its request is answered. */
TEST(a_brief_batch_that_hangs_is_given_up_as_any_other)
{
    static struct dawdling dawdling;
    struct rig rig;
    if (getenv("FM_TEST_PLUGINS") == NULL) {
        TEST_SKIP("FM_TEST_PLUGINS is not set");
    }
    dawdling_open(&rig, 100 * MS);
    check_done_here(&rig, COLUMNS, 1, 20000 * MS);
    uint32_t told = atomic_load(&hangs_told);
    uint32_t returned = atomic_load(&returns_told);
    uint64_t brief = sums_of(&rig).brief;
    struct fm_thread thread = {0};
    fm_sleep_until(fm_os_now_ns() + 200 * MS); /* all of them sleep */
    dawdling = (struct dawdling){.rig = &rig, .ms = 3000};
    rig.submitted++;
    CHECK_INT_EQ(fm_thread_start(&thread, "submitter", dawdling_run, &dawdling), 0);
    wait_all(&rig);
    CHECK_INT_EQ(dawdling.call.request.error.status, FM_EINTERNAL);
    check_told(&hangs_told, told + 1);
    CHECK_UINT_EQ(atomic_load(&returns_told), returned);
    /* Its thread is still in there: the other accelerator serves. */
    struct call call;
    call_make(&call, &rig, 3, COLUMNS, 5);
    CHECK_INT_EQ(call_submit(&call), 0);
    wait_all(&rig);
    CHECK(is_answered(&call, COLUMNS));
    CHECK_UINT_EQ(atomic_load(&returns_told), returned);
    call_free(&call);
    fm_thread_join(&thread);
    wait_up(&rig);
    check_told(&returns_told, returned + 1);
    CHECK(sums_of(&rig).brief > brief); /* it was */
    call_make(&call, &rig, 3, COLUMNS, 6);
    CHECK_INT_EQ(call_submit(&call), 0);
    wait_all(&rig);
    CHECK(is_answered(&call, COLUMNS));
    call_free(&call);
    call_free(&dawdling.call);
    rig_close(&rig);
}

/* One that is slow, time and again, is left to the accelerators' threads. */
TEST(who_is_not_brief_is_not_believed)
{
    struct rig rig;
    if (getenv("FM_TEST_PLUGINS") == NULL) {
        TEST_SKIP("FM_TEST_PLUGINS is not set");
    }
    dawdling_open(&rig, 0);
    is_submitter = true;
    uint32_t here = 0;
    uint64_t start_ns = fm_os_now_ns();
    for (uint32_t i = 0; i < 100; i++) {
        struct call call;
        call_make(&call, &rig, 1, COLUMNS, 100010);
        CHECK_INT_EQ(call_submit(&call), 0);
        wait_all(&rig);
        here += call.here ? 1 : 0;
        CHECK_INT_EQ(call.request.error.status, 0);
        call_free(&call);
    }
    is_submitter = false;
    /* Of each second that has begun, 20 ms and what the last one takes beyond. */
    uint64_t seconds = 1 + (fm_os_now_ns() - start_ns) / (1000 * MS);
    CHECK(here >= 1 && here <= 3 * seconds);
    rig_close(&rig);
}

TEST(no_memory_is_said_wherever_it_ends)
{
    const struct fm_pool_type type = {.name = "test", .accelerators = 2};
    const struct fm_pool_options options = {.types = &type,
                                            .type_count = 1,
                                            .models_max = 4,
                                            .rows_max = 64,
                                            .batch_max = 8,
                                            .submitter_count = 2};
    int status = FM_ENOMEM;
    for (uint64_t nth = 1; status == FM_ENOMEM; nth++) {
        struct fm_pool *pool = NULL;
        struct fm_error error;
        (void)fm_memory_fail_at(nth, 0);
        status = fm_pool_create(&options, &pool, &error);
        (void)fm_memory_fail_at(0, 0);
        if (status == 0) {
            CHECK(nth > 10);
            fm_pool_destroy(pool);
        }
    }
    CHECK_INT_EQ(status, 0);
}

int main(int argc, char **argv)
{
    return fm_test_main(argc, argv);
}
