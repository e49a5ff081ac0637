/*
 * Loading a model, beyond model.c beside this file: optional inputs, full shapes without batching,
 * a warm-up that fails, and every allocation failing once.
 */
#include "host/runtime/model.h"

#include "tests/harness/subject.h"
#include "tests/harness/test.h"

/* identity: x FP32[-1,4] and t BYTES[-1], answered as "score" and "word". */
static struct fm_model_config two_ports(void)
{
    struct fm_model_config config;
    fm_model_config_init(&config);
    config.name = "pair";
    config.version = 5;
    config.backend = "identity";
    config.instance_count = 1;
    if (fm_model_config_set(&config, "inputs", "x:FP32[-1,4], t:BYTES[-1]", NULL) != 0 ||
        fm_model_config_set(&config, "outputs", "score, word", NULL) != 0) {
        abort();
    }
    return config;
}

static int load_and_drop(struct fm_model_config *config, struct fm_model **ret_model,
                         struct fm_error *reterr)
{
    int status = fm_model_load(config, ret_model, reterr);
    fm_model_config_deinit(config);
    return status;
}

TEST(declarations_that_fit)
{
    struct fm_model_config config = two_ports();
    struct fm_model *model = NULL;
    uint32_t count = 0;
    /* As in Triton: without the batch dimension, because the model batches. */
    struct fm_model_port_config inputs[] = {
        {.name = "t", .dtype = FM_DTYPE_BYTES, .rank = 0},
        {.name = "x", .dtype = FM_DTYPE_FP32, .rank = 1, .shape = {4}, .optional = true}};
    struct fm_model_port_config outputs[] = {
        {.name = "score", .dtype = FM_DTYPE_INVALID, .rank = -1}};
    config.inputs = inputs;
    config.input_count = 2;
    config.outputs = outputs;
    config.output_count = 1;
    CHECK_INT_EQ(load_and_drop(&config, &model, NULL), 0);
    const struct fm_port *ports = fm_model_inputs(model, &count);
    CHECK_INT_EQ(count, 2);
    CHECK_INT_EQ(ports[0].flags, FM_PORT_OPTIONAL);
    CHECK_INT_EQ(ports[1].flags, 0);
    fm_model_free(model);
}

TEST(declarations_without_batching_have_full_shapes)
{
    struct fm_model_config config = two_ports();
    struct fm_model *model = NULL;
    uint32_t count = 0;
    struct fm_model_port_config inputs[] = {
        {.name = "x", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {7, 4}}};
    config.max_batch_size = 0;
    config.inputs = inputs;
    config.input_count = 1;
    CHECK_INT_EQ(load_and_drop(&config, &model, NULL), 0);
    CHECK_INT_EQ(fm_model_inputs(model, &count)[0].shape[0],
                 7); /* narrower than the model: taken over */
    fm_model_free(model);
}

TEST(optional_inputs_may_be_absent)
{
    struct fm_model_config config = two_ports();
    struct fm_model *model = NULL;
    struct fm_model_port_config inputs[] = {{.name = "t", .rank = -1, .optional = true}};
    struct fm_subject_run run;
    float values[4] = {1, 2, 3, 4};
    config.inputs = inputs;
    config.input_count = 1;
    CHECK_INT_EQ(load_and_drop(&config, &model, NULL), 0);
    fm_subject_run_init(&run, 2, 2, 1);
    run.outputs[1].wanted = 0;
    run.inputs[0] = fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){1, 4}, 2, values, sizeof(values));
    CHECK_INT_EQ(fm_model_run(model, 0, &run.execution, NULL), 0);
    fm_subject_run_release(&run);
    fm_model_free(model);
}

TEST(warm_up_that_fails)
{
    struct fm_model_config config;
    struct fm_model *model = NULL;
    struct fm_error error = {0};
    fm_model_config_init(&config);
    config.name = "m";
    config.backend = "emulated";
    config.warmup_count = 1;
    CHECK_INT_EQ(fm_model_config_set(&config, "fail_every", "1", NULL), 0);
    CHECK_INT_EQ(load_and_drop(&config, &model, &error), FM_EINTERNAL);
    CHECK_STR_CONTAINS(error.text, "model 'm' version 1: warm-up: emulated: injected failure");
}

/* The Nth allocation fails, N grows until none does: every failure is an error, none a crash or a
 * leak. */
TEST(out_of_memory)
{
    int failures = 0;
    for (uint64_t n = 1; n < 1000; n++) {
        struct fm_model_config config = two_ports();
        struct fm_model *model = NULL;
        struct fm_error error = {0};
        struct fm_model_port_config inputs[] = {{.name = "t", .rank = 0, .dtype = FM_DTYPE_BYTES}};
        config.inputs = inputs;
        config.input_count = 1;
        config.warmup_count = 1;
        (void)fm_memory_fail_at(n, 0);
        int status = fm_model_load(&config, &model, &error);
        uint64_t allocations = fm_memory_fail_at(0, 0);
        fm_model_config_deinit(&config);
        fm_model_free(model);
        CHECK(status == 0 || (error.status == status && error.text[0] != '\0'));
        failures += status != 0 ? 1 : 0;
        if (allocations < n) { /* the Nth never came */
            CHECK_INT_EQ(status, 0);
            CHECK_INT_GT(failures, 3);
            return;
        }
    }
    TEST_FAIL_("an allocation fails however late");
}

TEST_MAIN()
