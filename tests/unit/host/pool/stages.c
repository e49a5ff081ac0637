/*
 * Pipelines whose models the pool runs: the split of their time, answers, failures, batches across
 * requests.
 */
#include "host/pool/stages.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/util/error.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

enum { ACCELERATORS = 2, CALLS = 100, STAGES = 3 };

#define MS ((uint64_t)1000000)

static char root[64];

static void put(const char *name, const char *text)
{
    char path[160];
    (void)snprintf(path, sizeof(path), "%s/%s", root, name);
    FILE *file = fopen(path, "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
        abort();
    }
}

static void make_directory(const char *name)
{
    char path[160];
    (void)snprintf(path, sizeof(path), "%s/%s", root, name);
    if (mkdir(path, 0755) != 0) {
        abort();
    }
}

struct rig {
    struct fm_servable *servable;
    struct fm_pool *pool;
    struct fm_pool_stages *stages;
    struct fm_profile profiles[STAGES];
    struct fm_mutex mutex;
    struct fm_condition condition;
    uint32_t done;
};

/* A chain x -> a -> b -> c -> y; a and c run model m, b runs model n, whose yaml is given. */
static int rig_open(struct rig *rig, const char *second, uint64_t slo_ns, struct fm_error *reterr)
{
    char path[160];
    memset(rig, 0, sizeof *rig);
    fm_mutex_init(&rig->mutex);
    fm_condition_init(&rig->condition);
    (void)snprintf(root, sizeof(root), "/tmp/fm-stages-XXXXXX");
    if (mkdtemp(root) == NULL) {
        abort();
    }
    static const char *const folders[] = {"m", "m/1", "n", "n/1", "p"};
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        make_directory(folders[i]);
    }
    put("m/model.yaml", "backend: identity\nmax_batch_size: 8\n"
                        "settings: {inputs: \"x:FP32[-1,2]\"}\n");
    put("n/model.yaml", second);
    put("p/pipeline.yaml", "inputs: [{name: x, dtype: FP32, shape: [2]}]\n"
                           "stages:\n"
                           "  - {name: a, model: m, inputs: x}\n"
                           "  - {name: b, model: n, inputs: a}\n"
                           "  - {name: c, model: m, inputs: b}\n"
                           "outputs: {y: c}\n");
    (void)snprintf(path, sizeof(path), "%s/p/pipeline.yaml", root);
    const struct fm_servable_options options = {.outside = true, .instances = ACCELERATORS};
    int status = fm_servable_open_path(path, &options, &rig->servable, reterr);
    const struct fm_pool_type type = {.name = "test", .accelerators = ACCELERATORS};
    const struct fm_pool_options pool = {
        .types = &type, .type_count = 1, .models_max = 8, .batch_max = 8, .submitter_count = 1};
    status = status != 0 ? status : fm_pool_create(&pool, &rig->pool, reterr);
    struct fm_pool_model_options models[STAGES] = {0};
    for (uint32_t i = 0; i < STAGES && status == 0; i++) {
        /* b takes twice as long as the two others. */
        status =
            fm_profile_add_affine(&rig->profiles[i], MS / 10, i == 1 ? 4 * MS : 2 * MS, 8, reterr);
        models[i].name = "stage";
        models[i].models[0] = fm_servable_bindings(rig->servable)[i].model;
        models[i].profiles[0] = &rig->profiles[i];
    }
    const struct fm_pool_stages_options stages = {
        .servable = rig->servable, .models = models, .slo_ns = slo_ns};
    return status != 0 ? status : fm_pool_stages_create(rig->pool, &stages, &rig->stages, reterr);
}

static void rig_close(struct rig *rig)
{
    static const char *const names[] = {
        "p/pipeline.yaml", "p", "m/model.yaml", "m/1", "m", "n/model.yaml", "n/1", "n", ""};
    CHECK(fm_pool_stages_destroy(rig->stages));
    fm_pool_destroy(rig->pool);
    fm_servable_close(rig->servable);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[160];
        (void)snprintf(path, sizeof(path), "%s/%s", root, names[i]);
        (void)remove(path);
    }
    fm_condition_deinit(&rig->condition);
    fm_mutex_deinit(&rig->mutex);
}

struct call {
    struct fm_request request;
    struct fm_value input;
    struct fm_value output;
    struct rig *rig;
};

static void on_done(struct fm_request *request)
{
    struct call *call = request->user;
    fm_mutex_lock(&call->rig->mutex);
    call->rig->done++;
    fm_condition_broadcast(&call->rig->condition);
    fm_mutex_unlock(&call->rig->mutex);
}

static void calls_run(struct rig *rig, struct call *calls, uint64_t budget_ns)
{
    static const int64_t shape[1] = {2};
    for (uint32_t i = 0; i < CALLS; i++) {
        memset(&calls[i], 0, sizeof calls[i]);
        CHECK_INT_EQ(fm_value_alloc(&calls[i].input, FM_DTYPE_FP32, shape, 1, 0), 0);
        float *data = calls[i].input.tensor.data;
        data[0] = (float)i;
        data[1] = (float)-(int)i;
        calls[i].rig = rig;
        calls[i].request =
            (struct fm_request){.inputs = &calls[i].input,
                                .outputs = &calls[i].output,
                                .rows = 1,
                                .deadline_ns = budget_ns > 0 ? fm_os_now_ns() + budget_ns : 0,
                                .done = on_done,
                                .user = &calls[i]};
        CHECK_INT_EQ(fm_executor_submit(fm_servable_executor(rig->servable), &calls[i].request), 0);
    }
    uint64_t until_ns = fm_os_now_ns() + 20000 * MS;
    fm_mutex_lock(&rig->mutex);
    while (rig->done < CALLS && fm_condition_wait_until(&rig->condition, &rig->mutex, until_ns)) {
    }
    CHECK_UINT_EQ(rig->done, CALLS);
    fm_mutex_unlock(&rig->mutex);
}

static const char identity[] = "backend: identity\nmax_batch_size: 8\n"
                               "settings: {inputs: \"x:FP32[-1,2]\"}\n";

TEST(answers_come_through_all_stages)
{
    static struct call calls[CALLS];
    struct rig rig;
    struct fm_error error = {0};
    int status = rig_open(&rig, identity, 10000 * MS, &error);
    CHECK_STR_EQ(error.text, "");
    CHECK_INT_EQ(status, 0);
    calls_run(&rig, calls, 0);
    for (uint32_t i = 0; i < CALLS; i++) {
        CHECK_INT_EQ(calls[i].request.error.status, 0);
        CHECK_INT_EQ(calls[i].output.tensor.rank, 1);
        const float *data = calls[i].output.tensor.data;
        CHECK(data != NULL && data[0] == (float)i && data[1] == (float)-(int)i);
        fm_value_unref(&calls[i].output);
    }
    rig_close(&rig);
}

TEST(items_of_several_requests_run_together)
{
    static struct call calls[CALLS];
    struct rig rig;
    struct fm_error error = {0};
    CHECK_INT_EQ(rig_open(&rig,
                          "backend: emulated\nmax_batch_size: 8\n"
                          "settings: {inputs: \"x:FP32[-1,2]\", outputs: \"y:FP32[-1,2]\", "
                          "alpha: 100us, beta: 4ms}\n",
                          10000 * MS, &error),
                 0);
    calls_run(&rig, calls, 0);
    for (uint32_t i = 0; i < CALLS; i++) {
        CHECK_INT_EQ(calls[i].request.error.status, 0);
        fm_value_unref(&calls[i].output);
    }
    uint64_t batches = 0;
    uint64_t rows = 0;
    for (uint32_t i = 0; i < ACCELERATORS; i++) {
        struct fm_pool_accelerator_stats stats;
        fm_pool_accelerator_stats(rig.pool, i, &stats);
        batches += stats.batches;
        rows += stats.rows;
    }
    CHECK_UINT_EQ(rows, CALLS * STAGES);
    /* At the least those of b, which takes its time. */
    CHECK(batches < rows - CALLS / 2);
    rig_close(&rig);
}

TEST(the_time_is_split_and_stages_of_one_model_share_it)
{
    struct rig rig;
    struct fm_error error = {0};
    CHECK_INT_EQ(rig_open(&rig, identity, 100 * MS, &error), 0);
    uint64_t sum_ns = 0;
    for (uint32_t i = 0; i < STAGES; i++) {
        sum_ns += fm_pool_stages_budget_ns(rig.stages, i);
    }
    CHECK(sum_ns <= 100 * MS && sum_ns >= 95 * MS);
    CHECK(fm_pool_stages_budget_ns(rig.stages, 1) > fm_pool_stages_budget_ns(rig.stages, 0));
    CHECK(fm_pool_stages_model(rig.stages, 0) == fm_pool_stages_model(rig.stages, 2));
    CHECK(fm_pool_stages_model(rig.stages, 0) != fm_pool_stages_model(rig.stages, 1));
    rig_close(&rig);
}

TEST(what_cannot_be_met_or_fails_is_said_with_its_stage)
{
    static struct call calls[CALLS];
    struct rig rig;
    struct fm_error error = {0};
    CHECK_INT_EQ(rig_open(&rig,
                          "backend: emulated\nmax_batch_size: 8\n"
                          "settings: {inputs: \"x:FP32[-1,2]\", outputs: \"y:FP32[-1,2]\", "
                          "fail_every: 1}\n",
                          60000 * MS, &error),
                 0);
    calls_run(&rig, calls, 0);
    for (uint32_t i = 0; i < CALLS; i++) {
        CHECK_INT_EQ(calls[i].request.error.status, FM_EINTERNAL);
        CHECK_INT_EQ(calls[i].request.failed_stage, 1);
    }
    rig.done = 0;
    calls_run(&rig, calls, MS); /* less than the stages take */
    for (uint32_t i = 0; i < CALLS; i++) {
        CHECK_INT_EQ(calls[i].request.error.status, FM_EDEADLINE);
    }
    rig_close(&rig);
    CHECK_INT_EQ(rig_open(&rig, identity, 3 * MS, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "16600 us"); /* the least there is */
    rig_close(&rig);
}

int main(int argc, char **argv)
{
    return fm_test_main(argc, argv);
}
