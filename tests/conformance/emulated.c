/*
 * What only the emulated backend has: its times, and the faults it makes on purpose.
 */
#include "host/os/os.h"
#include "host/os/thread.h"
#include "tests/harness/subject.h"
#include "tests/harness/test.h"

/* Settings are pairs of strings ended by NULL. */
static struct fm_model *load(const char *const *settings)
{
    struct fm_model_config config;
    struct fm_model *model = NULL;
    struct fm_error error = {0};
    fm_model_config_init(&config);
    config.name = "m";
    config.backend = "emulated";
    config.instance_count = 1;
    int status = 0;
    for (; status == 0 && *settings != NULL; settings += 2) {
        status = fm_model_config_set(&config, settings[0], settings[1], &error);
    }
    status = status != 0 ? status : fm_model_load(&config, &model, &error);
    fm_model_config_deinit(&config);
    if (status != 0) {
        printf("# %s\n", error.text);
    }
    return model;
}

static float row_values[64 * 4];

static int run_rows(struct fm_model *model, uint32_t rows, uint64_t *ret_ns,
                    struct fm_error *reterr)
{
    struct fm_subject_run run;
    fm_subject_run_init(&run, 1, 1, rows);
    run.inputs[0] =
        fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){rows, 4}, 2, row_values, (size_t)rows * 16);
    int status = fm_model_run(model, 0, &run.execution, reterr);
    *ret_ns = run.execution.end_ns - run.execution.start_ns;
    fm_subject_run_release(&run);
    return status;
}

/* A sleep may be late on a busy machine but never early. */
static void takes_at_least(const char *const *settings, const uint32_t *rows,
                           const uint64_t *expected_us, size_t count)
{
    struct fm_model *model = load(settings);
    CHECK(model != NULL);
    for (size_t i = 0; i < count; i++) {
        uint64_t ns = 0;
        uint64_t best = UINT64_MAX;
        for (int round = 0; round < 5; round++) {
            CHECK_INT_EQ(run_rows(model, rows[i], &ns, NULL), 0);
            CHECK_INT_GE(ns, expected_us[i] * 1000);
            best = ns < best ? ns : best;
        }
        CHECK_INT_LT(best, expected_us[i] * 1000 + 50000000);
    }
    fm_model_free(model);
}

TEST(latency_table)
{
    static const char *const settings[] = {"latency", "1:2ms, 4:5ms,8:6ms", NULL};
    static const uint32_t rows[] = {1, 2, 4, 6, 8, 12}; /* between points, and beyond the last */
    static const uint64_t expected[] = {2000, 3000, 5000, 5500, 6000, 7000};
    takes_at_least(settings, rows, expected, 6);
}

TEST(latency_line)
{
    static const char *const settings[] = {"alpha", "1ms", "beta", "2ms", NULL};
    static const uint32_t rows[] = {1, 8};
    static const uint64_t expected[] = {3000, 10000};
    takes_at_least(settings, rows, expected, 2);
}

TEST(latency_one_point)
{
    static const char *const settings[] = {"latency", "1:1ms", NULL};
    static const uint32_t rows[] = {1, 8};
    static const uint64_t expected[] = {1000, 1000};
    takes_at_least(settings, rows, expected, 2);
}

TEST(spread_is_seeded)
{
    static const char *const settings[] = {"latency", "1:2ms", "spread", "0.5", "seed", "7", NULL};
    uint64_t shortest = UINT64_MAX;
    uint64_t longest = 0;
    struct fm_model *model = load(settings);
    CHECK(model != NULL);
    for (int i = 0; i < 30; i++) {
        uint64_t ns = 0;
        CHECK_INT_EQ(run_rows(model, 1, &ns, NULL), 0);
        shortest = ns < shortest ? ns : shortest;
        longest = ns > longest ? ns : longest;
    }
    CHECK_INT_LT(shortest, 1900000);
    CHECK_INT_GT(longest, 2300000);
    fm_model_free(model);
}

TEST(fail_every)
{
    static const char *const settings[] = {"alpha", "0", "fail_every", "3", NULL};
    struct fm_model *model = load(settings);
    CHECK(model != NULL);
    for (int i = 1; i <= 9; i++) {
        uint64_t ns = 0;
        struct fm_error error = {0};
        int status = run_rows(model, 1, &ns, &error);
        CHECK_INT_EQ(status, i % 3 == 0 ? FM_EINTERNAL : 0);
        if (status != 0) {
            CHECK_STR_CONTAINS(error.text, "injected failure of batch");
        }
    }
    fm_model_free(model);
}

/* The same seed fails the same batches; another seed others. */
TEST(fail_rate)
{
    static const char *const seeds[] = {"1", "1", "2"};
    uint64_t masks[3] = {0};
    for (int s = 0; s < 3; s++) {
        const char *const settings[] = {"alpha", "0", "fail_rate", "0.3", "seed", seeds[s], NULL};
        struct fm_model *model = load(settings);
        CHECK(model != NULL);
        for (int i = 0; i < 60; i++) {
            uint64_t ns = 0;
            masks[s] |= (uint64_t)(run_rows(model, 1, &ns, NULL) != 0) << i;
        }
        fm_model_free(model);
    }
    CHECK_UINT_EQ(masks[0], masks[1]);
    CHECK(masks[0] != masks[2]);
    CHECK(masks[0] != 0 && masks[0] != UINT64_MAX >> 4);
}

TEST(hang_every)
{
    static const char *const settings[] = {"alpha", "0", "hang_every", "2", "hang", "30ms", NULL};
    struct fm_model *model = load(settings);
    uint64_t ns = 0;
    CHECK(model != NULL);
    CHECK_INT_EQ(run_rows(model, 1, &ns, NULL), 0);
    CHECK_INT_EQ(run_rows(model, 1, &ns, NULL), 0);
    CHECK_INT_GE(ns, 30000000);
    fm_model_free(model);
}

struct waiting {
    struct fm_mutex mutex;
    struct fm_condition condition;
    int status;
    bool done;
};

static void waiting_complete(struct fm_execution *execution, int status)
{
    struct waiting *waiting = execution->user;
    fm_mutex_lock(&waiting->mutex);
    waiting->status = status;
    waiting->done = true;
    fm_condition_signal(&waiting->condition);
    fm_mutex_unlock(&waiting->mutex);
}

/* submit hands over: it does not wait for the batch, and refuses a second one that would have to
 * queue behind a waiting one. */
TEST(submit_does_not_wait)
{
    static const char *const settings[] = {"alpha", "200ms", NULL};
    struct fm_model *model = load(settings);
    struct waiting waiting = {.done = false};
    struct fm_subject_run run;
    CHECK(model != NULL);
    fm_mutex_init(&waiting.mutex);
    fm_condition_init(&waiting.condition);
    fm_subject_run_init(&run, 1, 1, 1);
    run.inputs[0] = fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){1, 4}, 2, row_values, 16);
    run.execution.complete = waiting_complete;
    run.execution.user = &waiting;
    CHECK_INT_EQ(fm_model_submit(model, 0, &run.execution), 0);
    fm_mutex_lock(&waiting.mutex);
    bool done_at_once = waiting.done;
    while (!waiting.done) {
        fm_condition_wait(&waiting.condition, &waiting.mutex);
    }
    fm_mutex_unlock(&waiting.mutex);
    CHECK(!done_at_once);
    CHECK_INT_EQ(waiting.status, 0);
    fm_subject_run_release(&run);
    fm_condition_deinit(&waiting.condition);
    fm_mutex_deinit(&waiting.mutex);
    fm_model_free(model);
}

/* Destroying the instance ends its batch, however long that would take: here longer than a clock
 * can say. The batch waits for the thread or runs already; both are tried. */
TEST(destroy_ends_a_hanging_batch)
{
    static const char *const settings[] = {"alpha", "9000000000s", NULL};
    for (int round = 0; round < 4; round++) {
        struct fm_model *model = load(settings);
        struct waiting waiting = {.done = false};
        struct fm_subject_run run;
        CHECK(model != NULL);
        fm_mutex_init(&waiting.mutex);
        fm_condition_init(&waiting.condition);
        fm_subject_run_init(&run, 1, 1, 8);
        run.inputs[0] = fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){8, 4}, 2, row_values, 128);
        run.execution.complete = waiting_complete;
        run.execution.user = &waiting;
        CHECK_INT_EQ(fm_model_submit(model, 0, &run.execution), 0);
        if (round % 2 == 0) {
            fm_sleep_until(fm_os_now_ns() + 5000000);
        }
        fm_model_free(model);
        CHECK(waiting.done);
        CHECK_INT_EQ(waiting.status, FM_ECANCELLED);
        CHECK(run.outputs[0].release == NULL);
        fm_condition_deinit(&waiting.condition);
        fm_mutex_deinit(&waiting.mutex);
    }
}

/* An output whose size no number holds is refused, not cut. */
TEST(output_beyond_memory)
{
    static const char *const shapes[] = {"y:FP32[-1,4611686018427387904]",
                                         "y:BYTES[-1,4611686018427387904]",
                                         "y:FP64[-1,9223372036854775807]"};
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        const char *const settings[] = {"outputs", shapes[i], "alpha", "0", NULL};
        struct fm_model *model = load(settings);
        struct fm_error error = {0};
        uint64_t ns = 0;
        CHECK(model != NULL);
        CHECK_INT_EQ(run_rows(model, 1, &ns, &error), FM_ENOMEM);
        CHECK_STR_CONTAINS(error.text, "out of memory");
        fm_model_free(model);
    }
}

TEST(settings_that_make_no_sense)
{
    static const char *const bad[][3] = {
        {"latency", "fast", "growing batch sizes"},
        {"latency", "4:1ms,2:1ms", "'2:1ms'"},
        {"latency", "1:", "'1:'"},
        {"latency", "", "'latency' is empty"},
        {"alpha", "soon", "a duration such as 5ms"},
        {"spread", "-1", "a number from 0 to 2"},
        {"fail_rate", "1.5", "a number from 0 to 1"},
        {"fail_every", "x", "a number"},
        {"inputs", "x:FP99[-1]", "a data type"},
        {"inputs", "x:FP32", "a shape in brackets"},
        {"inputs", "x:FP32[a]", "a dimension"},
        {"inputs", "x:FP32[1],x:FP32[1]", "twice"},
        {"outputs", "y:FP32[-1,-1]", "dimension 0 only"},
        {"latencies", "1:1ms", "did you mean 'latency'?"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct fm_model_config config;
        struct fm_model *model = NULL;
        struct fm_error error = {0};
        fm_model_config_init(&config);
        config.name = "m";
        config.backend = "emulated";
        CHECK_INT_EQ(fm_model_config_set(&config, bad[i][0], bad[i][1], NULL), 0);
        CHECK_INT_EQ(fm_model_load(&config, &model, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, bad[i][2]);
        fm_model_config_deinit(&config);
    }
}

TEST_MAIN()
