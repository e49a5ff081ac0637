/* Tests of host/runtime/servable: which stages of a pipeline share a loaded model, that they can
 * run on it, and on which accelerators they do. */
#include "host/runtime/servable.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/harness/test.h"

static char root[64];
static struct fm_servable_options options; /* with which chains are opened */

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

/* A repository with the model m and a pipeline of three stages in a row, whose further keys are
 * given. */
static int open_chain(const char *first, const char *second, const char *third,
                      struct fm_servable **ret_servable, struct fm_error *reterr)
{
    char text[1024];
    char path[160];
    (void)snprintf(root, sizeof(root), "/tmp/fm-servable-XXXXXX");
    if (mkdtemp(root) == NULL) {
        abort();
    }
    make_directory("m");
    make_directory("m/1");
    make_directory("p");
    put("m/model.yaml", "backend: identity\nmax_batch_size: 4\ninstances: 1\n"
                        "settings: {inputs: \"x:INT32[-1,2]\"}\n");
    (void)snprintf(text, sizeof(text),
                   "inputs: [{name: x, dtype: INT32, shape: [2]}]\n"
                   "stages:\n"
                   "  - {name: a, model: m, inputs: x%s}\n"
                   "  - {name: b, model: m, inputs: a%s}\n"
                   "  - {name: c, model: m, inputs: b%s}\n"
                   "outputs: {y: c}\n",
                   first, second, third);
    put("p/pipeline.yaml", text);
    (void)snprintf(path, sizeof(path), "%s/p/pipeline.yaml", root);
    return fm_servable_open_path(path, &options, ret_servable, reterr);
}

static void close_chain(struct fm_servable *servable)
{
    char path[160];
    static const char *const names[] = {"p/pipeline.yaml", "p", "m/model.yaml", "m/1", "m", ""};
    fm_servable_close(servable);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", root, names[i]);
        (void)remove(path);
    }
}

struct flight {
    struct fm_request request;
    struct fm_value input;
    struct fm_value output;
};

static void ignore_done(struct fm_request *request)
{
    (void)request;
}

TEST(stages_that_ask_for_the_same_model_share_it)
{
    struct fm_servable *servable = NULL;
    struct fm_error error = {0};
    int status = open_chain("", "", ", settings: {outputs: \"z\"}", &servable, &error);
    CHECK_STR_EQ(error.text, "");
    CHECK_INT_EQ(status, 0);
    const struct fm_stage_binding *bindings = fm_servable_bindings(servable);
    CHECK_PTR_EQ(bindings[0].model, bindings[1].model);
    CHECK_PTR_NE(bindings[0].model, bindings[2].model);
    close_chain(servable);
}

TEST(other_instances_are_another_model)
{
    struct fm_servable *servable = NULL;
    struct fm_error error = {0};
    CHECK_INT_EQ(open_chain("", ", instances: 2", ", instances: 2", &servable, &error), 0);
    const struct fm_stage_binding *bindings = fm_servable_bindings(servable);
    CHECK_PTR_NE(bindings[0].model, bindings[1].model);
    CHECK_PTR_EQ(bindings[1].model, bindings[2].model);
    close_chain(servable);
}

/* One instance for three stages: they take turns, and no request is lost or mixed up. */
TEST(stages_take_turns_on_a_shared_instance)
{
    enum { FLIGHTS = 64 };
    struct fm_servable *servable = NULL;
    struct fm_error error = {0};
    static struct flight flights[FLIGHTS];
    CHECK_INT_EQ(open_chain("", "", "", &servable, &error), 0);
    const struct fm_stage_binding *bindings = fm_servable_bindings(servable);
    CHECK_PTR_EQ(bindings[0].model, bindings[2].model);
    int64_t shape[1] = {2};
    for (int i = 0; i < FLIGHTS; i++) {
        struct flight *flight = &flights[i];
        CHECK_INT_EQ(fm_value_alloc(&flight->input, FM_DTYPE_INT32, shape, 1, 0), 0);
        ((int32_t *)flight->input.tensor.data)[0] = i;
        ((int32_t *)flight->input.tensor.data)[1] = -i;
        flight->request.inputs = &flight->input;
        flight->request.outputs = &flight->output;
        flight->request.done = ignore_done;
        CHECK_INT_EQ(fm_executor_submit(fm_servable_executor(servable), &flight->request), 0);
    }
    close_chain(servable); /* waits for all of them */
    for (int i = 0; i < FLIGHTS; i++) {
        CHECK_INT_EQ(flights[i].request.error.status, 0);
        CHECK_INT_EQ(((int32_t *)flights[i].output.tensor.data)[0], i);
        CHECK_INT_EQ(((int32_t *)flights[i].output.tensor.data)[1], -i);
        fm_value_unref(&flights[i].output);
    }
}

/* Two groups of accelerators, a and b.0, b.1, for chains that are opened next. */
static void two_groups(const struct fm_stage_groups *stages, uint32_t count)
{
    static struct fm_accelerator_group groups[FM_GROUPS_MAX];
    options = (struct fm_servable_options){.stage_groups = stages, .stage_group_count = count};
    CHECK_INT_EQ(fm_accelerator_groups_parse("a=cpu:1,b=cpu:2", groups, &options.group_count, NULL),
                 0);
    options.groups = groups;
}

TEST(stages_have_places_on_the_accelerators_that_they_name)
{
    struct fm_servable *servable = NULL;
    struct fm_error error = {0};
    const struct fm_stage_groups second = {.stage = "b", .names = {"b"}, .name_count = 1};
    CHECK_INT_EQ(open_chain(", accelerators: a", ", accelerators: a", "", &servable, &error), 0);
    CHECK_UINT_EQ(fm_servable_accelerator_count(servable), 0);
    CHECK_UINT_EQ(fm_servable_stage_slots(servable, 0), 1);
    uint64_t fingerprint = fm_servable_fingerprint(servable);
    close_chain(servable);
    two_groups(&second, 1);
    CHECK_INT_EQ(open_chain(", accelerators: a", ", accelerators: a", "", &servable, &error), 0);
    CHECK_STR_EQ(error.text, "");
    const struct fm_stage_binding *bindings = fm_servable_bindings(servable);
    CHECK_UINT_EQ(fm_servable_accelerator_count(servable), 3);
    CHECK_STR_EQ(fm_servable_accelerator_name(servable, 0), "a");
    CHECK_STR_EQ(fm_servable_accelerator_name(servable, 2), "b.1");
    for (uint32_t i = 0; i < 3; i++) {
        CHECK((bindings[0].places[i].model != NULL) == (i == 0));
        CHECK((bindings[1].places[i].model != NULL) == (i > 0));
        CHECK_UINT_EQ(bindings[2].places[i].instance, i == 2 ? 1 : 0);
    }
    /* The third may run on all of them, and shares what the others have there. */
    CHECK_PTR_EQ(bindings[2].places[0].model, bindings[0].model);
    CHECK_PTR_EQ(bindings[2].places[1].model, bindings[1].model);
    CHECK_PTR_EQ(bindings[2].places[2].model, bindings[1].model);
    CHECK_UINT_EQ(fm_servable_stage_slots(servable, 0), 1);
    CHECK_UINT_EQ(fm_servable_stage_slots(servable, 1), 2);
    CHECK_UINT_EQ(fm_servable_stage_slots(servable, 2), 3);
    /* It is the same pipeline, with the same answers (but in another directory, which does not
     * count). */
    CHECK_UINT_EQ(fm_servable_fingerprint(servable), fingerprint);
    close_chain(servable);
    options = (struct fm_servable_options){0};
}

/* The same where others run the models: what a stage does not name is not loaded for it. */
TEST(stages_are_loaded_for_the_groups_that_they_name)
{
    struct fm_servable *servable = NULL;
    struct fm_error error = {0};
    two_groups(NULL, 0);
    options.outside = true;
    CHECK_INT_EQ(open_chain(", accelerators: a", ", accelerators: [a, b]", "", &servable, &error),
                 0);
    CHECK(fm_servable_group_model(servable, 0, 0) != NULL);
    CHECK(fm_servable_group_model(servable, 0, 1) == NULL);
    CHECK(fm_servable_group_model(servable, 1, 1) != NULL);
    CHECK_UINT_EQ(fm_servable_accelerator_count(servable), 0);
    close_chain(servable);
    options = (struct fm_servable_options){0};
}

TEST_MAIN()
