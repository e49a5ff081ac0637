/*
 * Tests of host/runtime/pipeline_file: what a file says, and the place of every mistake in it.
 */
#include "host/runtime/pipeline_file.h"

#include "core/util/assert.h"
#include "tests/harness/test.h"

static int load(const char *path, const char *text, struct fm_pipeline_file **ret_file,
                struct fm_error *reterr)
{
    *reterr = (struct fm_error){0};
    return fm_pipeline_file_load_text(path, text, strlen(text), ret_file, reterr);
}

static const char whole[] =
    "name: ocr\n"
    "models: ../models\n"
    "plugins: [ocr_text, lib/libx.so, local.so, /abs/y.so]\n"
    "inputs:\n"
    "  - {name: image, dtype: BYTES, shape: [1]}\n"
    "  - {name: scale, dtype: FP32, shape: [-1, 3]}\n"
    "  - {name: one, dtype: TYPE_INT64, shape: []}\n"
    "stages:\n"
    "  - name: page\n"
    "    operator: image_decode\n"
    "    inputs: {bytes: image}\n"
    "    parameters: {max_pixels: 50000000, mean: [0.5, 0.25], tags: {a: 1, b: x}, none: ~}\n"
    "  - name: detect\n"
    "    model: det\n"
    "    version: 3\n"
    "    inputs: {x: page.image}\n"
    "    batch: {max: 4, bucket_axis: 2, bucket_step: 32, pad_value: -0.5, wait_for: 4}\n"
    "    instances: 2\n"
    "    settings: {threads: 1}\n"
    "  - name: lines\n"
    "    operator: ocr_boxes\n"
    "    inputs: detect\n"
    "    fan_out_max: 2000\n"
    "outputs:\n"
    "  text: lines.text\n";

TEST(everything_is_read)
{
    struct fm_pipeline_file *file = NULL;
    struct fm_error error;
    CHECK_INT_EQ(load("a/b/ocr.yaml", whole, &file, &error), 0);
    CHECK_STR_EQ(file->spec.name, "ocr");
    CHECK_STR_EQ(file->spec.file, "a/b/ocr.yaml");
    CHECK_STR_EQ(file->directory, "a/b");
    CHECK_STR_EQ(file->models, "a/b/../models");
    CHECK_UINT_EQ(file->plugin_count, 4);
    CHECK_STR_EQ(file->plugins[0], "ocr_text");
    CHECK_STR_EQ(file->plugins[1], "a/b/lib/libx.so");
    CHECK_STR_EQ(file->plugins[2], "a/b/./local.so");
    CHECK_STR_EQ(file->plugins[3], "/abs/y.so");
    CHECK_UINT_EQ(file->spec.input_count, 3);
    CHECK_STR_EQ(file->spec.inputs[0].name, "image");
    CHECK_UINT_EQ(file->spec.inputs[0].dtype, FM_DTYPE_BYTES);
    CHECK_INT_EQ(file->spec.inputs[1].rank, 2);
    CHECK_INT_EQ(file->spec.inputs[1].shape[0], -1);
    CHECK_UINT_EQ(file->spec.inputs[2].dtype, FM_DTYPE_INT64);
    CHECK_INT_EQ(file->spec.inputs[2].rank, 0);
    CHECK_UINT_EQ(file->spec.stage_count, 3);
    CHECK_UINT_EQ(file->spec.output_count, 1);
    CHECK_STR_EQ(file->spec.outputs[0].port, "text");
    CHECK_STR_EQ(file->spec.outputs[0].source, "lines.text");
    CHECK_UINT_EQ(file->spec.outputs[0].mark.line, 25);
    CHECK_UINT_EQ(file->spec.outputs[0].mark.column, 9);
    fm_pipeline_file_free(file);
}

TEST(stages_are_read)
{
    struct fm_pipeline_file *file = NULL;
    struct fm_error error;
    CHECK_INT_EQ(load("a/b/ocr.yaml", whole, &file, &error), 0);
    const struct fm_stage_spec *page = &file->spec.stages[0];
    const struct fm_stage_settings *page_settings = &file->stages[0];
    CHECK_INT_EQ(page->kind, FM_STAGE_OPERATOR);
    CHECK_STR_EQ(page->target, "image_decode");
    CHECK_UINT_EQ(page->mark.line, 9);
    CHECK_UINT_EQ(page->mark.column, 5);
    CHECK_UINT_EQ(page->input_count, 1);
    CHECK_STR_EQ(page->inputs[0].port, "bytes");
    CHECK_UINT_EQ(page->inputs[0].mark.column, 21);
    CHECK_INT_EQ(page->batch.bucket_axis, -1);
    CHECK_UINT_EQ(page_settings->parameter_count, 3);
    CHECK_STR_EQ(page_settings->parameters[0].key, "max_pixels");
    CHECK_STR_EQ(page_settings->parameters[1].value, "0.5,0.25");
    CHECK_STR_EQ(page_settings->parameters[2].value, "a=1,b=x");
    const struct fm_stage_spec *detect = &file->spec.stages[1];
    CHECK_INT_EQ(detect->kind, FM_STAGE_MODEL);
    CHECK_UINT_EQ(detect->batch.max, 4);
    CHECK_INT_EQ(detect->batch.bucket_axis, 2);
    CHECK_UINT_EQ(detect->batch.bucket_step, 32);
    CHECK_UINT_EQ(detect->batch.wait_for, 4);
    CHECK_NEAR(detect->batch.pad_value, -0.5, 0);
    CHECK_UINT_EQ(file->stages[1].model_version, 3);
    CHECK_UINT_EQ(file->stages[1].instances, 2);
    CHECK_STR_EQ(file->stages[1].parameters[0].key, "threads");
    const struct fm_stage_spec *lines = &file->spec.stages[2];
    CHECK_PTR_EQ(lines->inputs[0].port, NULL);
    CHECK_STR_EQ(lines->inputs[0].source, "detect");
    CHECK_UINT_EQ(lines->fan_out_max, 2000);
    fm_pipeline_file_free(file);
}

#define INPUTS  "inputs: [{name: x, dtype: FP32, shape: [1]}]\n"
#define STAGES  "stages: [{name: s, operator: o, inputs: x}]\n"
#define OUTPUTS "outputs: {y: s}\n"

TEST(the_name_may_come_from_the_path)
{
    static const struct {
        const char *path;
        const char *name;
        const char *directory;
    } rows[] = {{"repo/ocr/pipeline.yaml", "ocr", "repo/ocr"},
                {"pages.yaml", "pages", "."},
                {"pipeline.yaml", "pipeline", "."},
                {"/pipeline.yaml", "pipeline", "/"},
                {"../pipeline.yaml", "pipeline", ".."}};
    for (size_t i = 0; i < FM_COUNT_OF(rows); i++) {
        struct fm_pipeline_file *file = NULL;
        struct fm_error error;
        CHECK_INT_EQ(load(rows[i].path, INPUTS STAGES OUTPUTS, &file, &error), 0);
        CHECK_STR_EQ(file->spec.name, rows[i].name);
        CHECK_STR_EQ(file->directory, rows[i].directory);
        CHECK_PTR_EQ(file->models, NULL);
        fm_pipeline_file_free(file);
    }
    fm_pipeline_file_free(NULL);
}

static const struct {
    const char *text;
    const char *message;
} mistakes[] = {
    {"", "p.yaml:1:1: the file is empty"},
    {"[1]", "p.yaml:1:1: a map is expected here, not a list"},
    {"stage: []\n" INPUTS OUTPUTS,
     "p.yaml:1:1: missing key 'stages'; is 'stage' a misspelling of it?"},
    {STAGES OUTPUTS, "p.yaml:1:1: missing key 'inputs'"},
    {INPUTS STAGES, "p.yaml:1:1: missing key 'outputs'"},
    {INPUTS STAGES "outputs: {}\n", "p.yaml:3:10: a pipeline has at least one output"},
    {INPUTS STAGES OUTPUTS "plugin: [x]\n",
     "p.yaml:4:1: unknown key 'plugin'; did you mean 'plugins'?"},
    {INPUTS STAGES OUTPUTS "plugins: x\n", "p.yaml:4:10: a list is expected here, not 'x'"},
    {INPUTS STAGES OUTPUTS "plugins: ['']\n",
     "p.yaml:4:11: an entry of 'plugins' is empty: write a plug-in's name"},
    {INPUTS STAGES OUTPUTS "name: ''\n",
     "p.yaml:4:7: 'name' is empty: write what it names after it, as 'name: <text>'"},
    {INPUTS STAGES OUTPUTS "models: [a]\n",
     "p.yaml:4:9: a single value is expected here, not a list"},
    {"inputs: []\n" STAGES OUTPUTS, "p.yaml:1:9: a pipeline has 1 to 1024 inputs, this one has 0"},
    {"inputs: [x]\n" STAGES OUTPUTS, "p.yaml:1:10: a map is expected here, not 'x'"},
    {"inputs: [{name: x, dtype: FP3, shape: [1]}]\n" STAGES OUTPUTS,
     "p.yaml:1:27: 'FP3' is no data type; did you mean 'FP32'?"},
    {"inputs: [{name: x, dtype: thing, shape: [1]}]\n" STAGES OUTPUTS,
     "p.yaml:1:27: 'thing' is no data type (FP32, INT64"},
    {"inputs: [{name: x, dtype: FP32}]\n" STAGES OUTPUTS, "p.yaml:1:10: missing key 'shape'"},
    {"inputs: [{name: x, dtype: FP32, shape: [1, 0]}]\n" STAGES OUTPUTS,
     "p.yaml:1:44: a dimension must be a whole number of at least 1"},
    {"inputs: [{name: x, dtype: FP32, shape: [a]}]\n" STAGES OUTPUTS,
     "p.yaml:1:41: a dimension must be"},
    {"inputs: [{name: x, dtype: FP32, shape: [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}]\n" STAGES
         OUTPUTS,
     "p.yaml:1:40: a shape has at most 16 dimensions, this one has 17"},
    {"inputs: [{name: x, dtype: FP32, shape: [1], optional: yes}]\n" STAGES OUTPUTS,
     "p.yaml:1:45: unknown key 'optional'"},
    {"inputs: [{name: x, dtype: FP32, shape: [1]}, {name: x, dtype: FP32, shape: [1]}]\n" STAGES
         OUTPUTS,
     "p.yaml:1:46: two inputs are called 'x'"},
    {INPUTS "stages: []\n" OUTPUTS, "p.yaml:2:9: a pipeline has 1 to 256 stages, this one has 0"},
    {INPUTS "stages: [{operator: o}]\n" OUTPUTS, "p.yaml:2:10: missing key 'name'"},
    {INPUTS "stages: [{name: s, inputs: x}]\n" OUTPUTS,
     "p.yaml:2:10: stage 's' needs 'model: <name>' or 'operator: <name>'"},
    {INPUTS "stages: [{name: s, operater: o}]\n" OUTPUTS,
     "p.yaml:2:20: unknown key 'operater'; did you mean 'operator'?"},
    {INPUTS "stages: [{name: s, operator: o, model: m}]\n" OUTPUTS,
     "p.yaml:2:10: stage 's' has both 'model' and 'operator'"},
    {INPUTS "stages: [{name: s, model: m, parameters: {}}]\n" OUTPUTS,
     "p.yaml:2:30: 'parameters' is for operators"},
    {INPUTS "stages: [{name: s, operator: o, settings: {}}]\n" OUTPUTS,
     "p.yaml:2:33: 'settings' is for models"},
    {INPUTS "stages: [{name: s, operator: o, batch: {}}]\n" OUTPUTS,
     "p.yaml:2:33: 'batch' is for models"},
    {INPUTS "stages: [{name: s, operator: o, parameter: {}}]\n" OUTPUTS,
     "p.yaml:2:33: unknown key 'parameter'; did you mean 'parameters'?"},
    {INPUTS "stages: [{name: s, operator: o, parameters: [a]}]\n" OUTPUTS,
     "p.yaml:2:45: a map is expected here, not a list"},
    {INPUTS "stages: [{name: s, operator: o, parameters: {a: [[1]]}}]\n" OUTPUTS,
     "p.yaml:2:50: a list or map of settings holds single values only, not a list"},
    {INPUTS "stages: [{name: s, operator: o, parameters: {a: ['1,2']}}]\n" OUTPUTS,
     "p.yaml:2:50: an element of a list"},
    {INPUTS "stages: [{name: s, operator: o, parameters: {a: {'k=': 1}}}]\n" OUTPUTS,
     "p.yaml:2:56: a key of a map of settings"},
    {INPUTS "stages: [{name: s, operator: o, fan_out_max: 0}]\n" OUTPUTS,
     "p.yaml:2:46: 'fan_out_max' must be a whole number from 1 to 16777216, not '0'"},
    {INPUTS "stages: [{name: s, operator: o, inputs: [x]}]\n" OUTPUTS,
     "p.yaml:2:41: 'inputs' of a stage is a map"},
    {INPUTS "stages: [{name: s, operator: o, inputs: {a: {b: c}}}]\n" OUTPUTS,
     "p.yaml:2:45: a single value is expected here, not a map"},
    {INPUTS "stages: [{name: s, operator: o, inputs: {a: ''}}]\n" OUTPUTS,
     "p.yaml:2:45: the source of 'a' is empty: name an input of the pipeline, a stage"},
    {INPUTS "stages: [{name: s, model: m, version: 0}]\n" OUTPUTS,
     "p.yaml:2:39: 'version' must be a whole number of at least 1"},
    {INPUTS "stages: [{name: s, model: m, instances: 300}]\n" OUTPUTS,
     "p.yaml:2:41: 'instances' must be a whole number from 1 to 256"},
    {INPUTS "stages: [{name: s, model: m, batch: {maximum: 4}}]\n" OUTPUTS,
     "p.yaml:2:38: unknown key 'maximum'"},
    {INPUTS "stages: [{name: s, model: m, batch: {bucket_step: 4}}]\n" OUTPUTS,
     "p.yaml:2:51: 'bucket_step' and 'pad_value' need a 'bucket_axis'"},
    {INPUTS "stages: [{name: s, model: m, batch: {max: 2, wait_for: 3}}]\n" OUTPUTS,
     "p.yaml:2:56: 'wait_for' is larger than 'max' (2)"},
    {INPUTS "stages: [{name: s, model: m, batch: 4}]\n" OUTPUTS,
     "p.yaml:2:37: a map is expected here, not '4'"},
};

TEST(every_mistake_has_its_place)
{
    for (size_t i = 0; i < FM_COUNT_OF(mistakes); i++) {
        struct fm_pipeline_file *file = NULL;
        struct fm_error error;
        CHECK_INT_EQ(load("p.yaml", mistakes[i].text, &file, &error), FM_EINVAL);
        CHECK_PTR_EQ(file, NULL);
        CHECK_STR_CONTAINS(error.text, mistakes[i].message);
    }
}

TEST(a_file_that_is_not_there)
{
    struct fm_pipeline_file *file = NULL;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_pipeline_file_load("/nonexistent/p.yaml", &file, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "/nonexistent/p.yaml");
}

TEST(memory_may_fail_anywhere)
{
    for (uint64_t countdown = 1;; countdown++) {
        struct fm_pipeline_file *file = NULL;
        struct fm_error error = {0};
        (void)fm_memory_fail_at(countdown, 0);
        int status = load("p.yaml", whole, &file, &error);
        (void)fm_memory_fail_at(0, 0);
        if (status == 0) {
            fm_pipeline_file_free(file);
            CHECK_INT_GT(countdown, 4);
            return;
        }
        CHECK_INT_EQ(status, FM_ENOMEM);
        CHECK_PTR_EQ(file, NULL);
    }
}

TEST_MAIN()
