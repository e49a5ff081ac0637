/*
 * Tests of core/plan/pipeline: linking of good pipelines, and the words for every kind of bad one.
 */
#include "core/plan/pipeline.h"

#include "tests/harness/test.h"

/* The targets that the tests' stages use. */
static struct fm_port image_in[] = {
    {.name = "bytes", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}}};
static struct fm_port image_out[] = {
    {.name = "image", .dtype = FM_DTYPE_UINT8, .rank = 3, .shape = {-1, -1, 3}},
    {.name = "size", .dtype = FM_DTYPE_INT64, .rank = 1, .shape = {2}}};
static struct fm_port boxes_in[] = {
    {.name = "image", .dtype = FM_DTYPE_UINT8, .rank = 3, .shape = {-1, -1, 3}}};
static struct fm_port boxes_out[] = {
    {.name = "box", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {4, 2}, .flags = FM_PORT_MANY},
    {.name = "count", .dtype = FM_DTYPE_INT64, .rank = 1, .shape = {1}}};
static struct fm_port crop_in[] = {
    {.name = "image", .dtype = FM_DTYPE_UINT8, .rank = 3, .shape = {-1, -1, 3}},
    {.name = "box", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {4, 2}}};
static struct fm_port crop_out[] = {
    {.name = "crop", .dtype = FM_DTYPE_FP32, .rank = 3, .shape = {3, 48, -1}}};
static struct fm_port model_in[] = {
    {.name = "x", .dtype = FM_DTYPE_FP32, .rank = 4, .shape = {-1, 3, 48, -1}}};
static struct fm_port model_out[] = {
    {.name = "y", .dtype = FM_DTYPE_FP32, .rank = 3, .shape = {-1, -1, 10}}};
static struct fm_port join_in[] = {
    {.name = "all", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 10}, .flags = FM_PORT_MANY}};
static struct fm_port join_out[] = {
    {.name = "text", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}}};

static struct fm_stage_ports ports_of(const char *target)
{
    static const struct {
        const char *name;
        struct fm_stage_ports ports;
    } table[] = {{"decode", {image_in, 1, image_out, 2, 0}},
                 {"boxes", {boxes_in, 1, boxes_out, 2, 0}},
                 {"crop", {crop_in, 2, crop_out, 1, 0}},
                 {"net", {model_in, 1, model_out, 1, 8}},
                 {"join", {join_in, 1, join_out, 1, 0}}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(table[i].name, target) == 0) {
            return table[i].ports;
        }
    }
    return (struct fm_stage_ports){0};
}

struct fixture {
    struct fm_port inputs[1];
    struct fm_binding_spec bindings[8][2];
    struct fm_stage_spec stages[8];
    struct fm_binding_spec outputs[2];
    struct fm_pipeline_spec spec;
};

static void add(struct fixture *fixture, const char *name, const char *target, const char *port,
                const char *source, const char *second_port, const char *second_source)
{
    size_t index = fixture->spec.stage_count++;
    struct fm_binding_spec *bindings = fixture->bindings[index];
    bindings[0] = (struct fm_binding_spec){port, source, {(uint32_t)index + 10, 5}};
    bindings[1] = (struct fm_binding_spec){second_port, second_source, {(uint32_t)index + 10, 25}};
    fixture->stages[index] = (struct fm_stage_spec){
        .name = name,
        .kind = strcmp(target, "net") == 0 ? FM_STAGE_MODEL : FM_STAGE_OPERATOR,
        .target = target,
        .inputs = bindings,
        .input_count = second_source != NULL ? 2 : 1,
        .batch = {.bucket_axis = -1},
        .mark = {(uint32_t)index + 10, 3}};
}

/* page -> boxes -> crop -> net -> join: fan-out and fan-in. */
static void reading_fixture(struct fixture *fixture)
{
    memset(fixture, 0, sizeof(*fixture));
    fixture->inputs[0] =
        (struct fm_port){.name = "page", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}};
    fixture->spec = (struct fm_pipeline_spec){.file = "p.yaml",
                                              .name = "p",
                                              .inputs = fixture->inputs,
                                              .input_count = 1,
                                              .stages = fixture->stages,
                                              .outputs = fixture->outputs,
                                              .output_count = 1};
    add(fixture, "image", "decode", NULL, "page", NULL, NULL);
    add(fixture, "lines", "boxes", "image", "image.image", NULL, NULL);
    add(fixture, "cut", "crop", "image", "image.image", "box", "lines.box");
    add(fixture, "read", "net", "x", "cut", NULL, NULL);
    add(fixture, "text", "join", NULL, "read.y", NULL, NULL);
    fixture->outputs[0] = (struct fm_binding_spec){"text", "text", {30, 3}};
}

static int link_fixture(const struct fixture *fixture, struct fm_pipeline **ret_pipeline,
                        struct fm_error *error)
{
    struct fm_stage_ports ports[8];
    for (size_t i = 0; i < fixture->spec.stage_count; i++) {
        ports[i] = ports_of(fixture->stages[i].target);
    }
    *ret_pipeline = NULL;
    return fm_pipeline_link(&fixture->spec, ports, ret_pipeline, error);
}

TEST(a_good_pipeline_links)
{
    struct fixture fixture;
    struct fm_pipeline *pipeline = NULL;
    struct fm_error error = {0};
    reading_fixture(&fixture);
    CHECK_INT_EQ(link_fixture(&fixture, &pipeline, &error), 0);
    CHECK_UINT_EQ(pipeline->scope_count, 2);
    CHECK_UINT_EQ(pipeline->stages[0].scope, 0);
    CHECK_UINT_EQ(pipeline->stages[1].scope, 0);
    CHECK_INT_EQ(pipeline->stages[1].child_scope, 1);
    CHECK_UINT_EQ(pipeline->stages[2].scope, 1);
    CHECK_UINT_EQ(pipeline->stages[3].scope, 1);
    CHECK_UINT_EQ(pipeline->stages[4].scope, 0);
    CHECK(pipeline->stages[4].inputs[0].collects);
    CHECK(!pipeline->outputs[0].stacks);
    /* The model's batch dimension is not the item's. */
    CHECK_INT_EQ(pipeline->values[pipeline->stages[3].outputs[0]].type.rank, 2);
    CHECK_INT_EQ(pipeline->stages[4].depth, 4);
    fm_pipeline_free(pipeline);
}

TEST(an_inner_value_is_stacked)
{
    struct fixture fixture;
    struct fm_pipeline *pipeline = NULL;
    struct fm_error error = {0};
    reading_fixture(&fixture);
    fixture.outputs[1] = (struct fm_binding_spec){"boxes", "lines.box", {31, 3}};
    fixture.spec.output_count = 2;
    CHECK_INT_EQ(link_fixture(&fixture, &pipeline, &error), 0);
    CHECK(pipeline->outputs[1].stacks);
    CHECK_INT_EQ(pipeline->outputs[1].type.rank, 3);
    CHECK_INT_EQ(pipeline->outputs[1].type.shape[0], -1);
    CHECK_INT_EQ(pipeline->outputs[1].type.shape[1], 4);
    fm_pipeline_free(pipeline);
}

/* Breaks the good pipeline in one place and expects exactly these words. */
static void expect_error(const struct fixture *fixture, int status, const char *text)
{
    struct fm_pipeline *pipeline = NULL;
    struct fm_error error = {0};
    CHECK_INT_EQ(link_fixture(fixture, &pipeline, &error), status);
    CHECK_STR_EQ(error.text, text);
}

TEST(misspelt_source_gets_a_suggestion)
{
    struct fixture fixture;
    reading_fixture(&fixture);
    fixture.bindings[3][0].source = "cutt";
    expect_error(
        &fixture, FM_EINVAL,
        "p.yaml:13:5: 'cutt' is neither an input of the pipeline nor a stage; did you mean 'cut'?");
}

TEST(unknown_ports_are_named)
{
    struct fixture fixture;
    reading_fixture(&fixture);
    fixture.bindings[2][1].source = "lines.boxx";
    expect_error(&fixture, FM_EINVAL,
                 "p.yaml:12:25: stage 'lines' (boxes) has no output 'boxx'; did you mean 'box'?");
    reading_fixture(&fixture);
    fixture.bindings[2][1].port = "bx";
    expect_error(&fixture, FM_EINVAL,
                 "p.yaml:12:25: operator 'crop' has no input 'bx'; did you mean 'box'?");
}

TEST(cycles_are_walked)
{
    struct fixture fixture;
    reading_fixture(&fixture);
    fixture.bindings[1][0].source = "cut";
    fixture.bindings[1][0].port = "image";
    expect_error(&fixture, FM_EINVAL,
                 "p.yaml:11:3: the pipeline has a cycle: lines -> cut -> lines");
}

TEST(types_must_agree)
{
    struct fixture fixture;
    reading_fixture(&fixture);
    fixture.bindings[1][0].source = "image.size";
    expect_error(&fixture, FM_ETYPE,
                 "p.yaml:11:5: stage 'lines': input 'image' takes UINT8 [-1,-1,3], but "
                 "'image.size' is INT64 [2]");
}

TEST(missing_and_doubled_inputs)
{
    struct fixture fixture;
    reading_fixture(&fixture);
    fixture.stages[2].input_count = 1;
    expect_error(&fixture, FM_EINVAL, "p.yaml:12:3: stage 'cut': input 'box' of crop is not given");
    reading_fixture(&fixture);
    fixture.bindings[2][1].port = "image";
    expect_error(&fixture, FM_EINVAL, "p.yaml:12:25: stage 'cut': input 'image' is given twice");
    reading_fixture(&fixture);
    fixture.bindings[2][0].port = NULL;
    expect_error(&fixture, FM_EINVAL,
                 "p.yaml:12:5: operator 'crop' has 2 inputs: name them, as {<input>: image.image}");
}

TEST(fan_in_needs_a_fan_out)
{
    struct fixture fixture;
    reading_fixture(&fixture);
    /* join collects from scope 0: there is nothing to collect. */
    fixture.stages[3].target = "net";
    fixture.bindings[3][0].source = "image.image";
    expect_error(&fixture, FM_EINVAL,
                 "p.yaml:14:3: stage 'text': input 'all' takes all elements of a fan-out, but its "
                 "source has exactly one per request");
}

TEST(unused_stages_and_bad_outputs)
{
    struct fixture fixture;
    reading_fixture(&fixture);
    fixture.outputs[0].source = "read.y";
    expect_error(&fixture, FM_EINVAL,
                 "p.yaml:14:3: nothing uses stage 'text': remove it, or name one of its outputs "
                 "under 'outputs'");
    reading_fixture(&fixture);
    fixture.outputs[0].source = "image";
    expect_error(&fixture, FM_EINVAL,
                 "p.yaml:30:3: stage 'image' has 2 outputs: say which one, as 'image.<output>'");
    reading_fixture(&fixture);
    fixture.spec.output_count = 0;
    expect_error(&fixture, FM_EINVAL,
                 "p.yaml: the pipeline has no outputs: name at least one under 'outputs'");
}

TEST(names_are_unique)
{
    struct fixture fixture;
    reading_fixture(&fixture);
    fixture.stages[2].name = "lines";
    expect_error(&fixture, FM_EINVAL, "p.yaml:12:3: two stages are called 'lines': rename one");
    reading_fixture(&fixture);
    fixture.stages[2].name = "page";
    expect_error(
        &fixture, FM_EINVAL,
        "p.yaml:12:3: a stage and an input of the pipeline are both called 'page': rename one");
}

TEST(batches_are_checked)
{
    struct fixture fixture;
    struct fm_pipeline *pipeline = NULL;
    struct fm_error error = {0};
    reading_fixture(&fixture);
    fixture.stages[3].batch = (struct fm_batch_spec){.max = 4, .bucket_axis = 2, .bucket_step = 32};
    CHECK_INT_EQ(link_fixture(&fixture, &pipeline, &error), 0);
    fm_pipeline_free(pipeline);
    fixture.stages[3].batch.bucket_axis = 1;
    expect_error(&fixture, FM_EINVAL,
                 "p.yaml:13:3: stage 'read': bucket_axis 1 is not a variable dimension of the "
                 "first input, whose items have 3 dimensions");
    reading_fixture(&fixture);
    fixture.stages[3].batch.max = 9;
    expect_error(&fixture, FM_EINVAL,
                 "p.yaml:13:3: stage 'read': batch max 9 is more than the 8 of model 'net'");
    reading_fixture(&fixture);
    fixture.stages[2].batch.max = 2;
    expect_error(&fixture, FM_EINVAL,
                 "p.yaml:12:3: stage 'cut': 'batch' is given, but operator 'crop' does not batch");
}

TEST(out_of_memory_is_an_ordinary_error)
{
    struct fixture fixture;
    struct fm_pipeline *pipeline = NULL;
    struct fm_error error = {0};
    reading_fixture(&fixture);
    int status = FM_ENOMEM;
    for (uint64_t n = 1; status == FM_ENOMEM; n++) {
        (void)fm_memory_fail_at(n, 0);
        status = link_fixture(&fixture, &pipeline, &error);
        (void)fm_memory_fail_at(0, 0);
        CHECK(status == 0 || status == FM_ENOMEM);
    }
    CHECK_INT_EQ(status, 0);
    fm_pipeline_free(pipeline);
}

TEST_MAIN()
