/*
 * Tests of host/runtime/batch: one copy for several items and none for one, padding inside a
 * bucket, views of the outputs, stacking.
 */
#include "host/runtime/model_batch.h"

#include "core/util/memory.h"
#include "tests/harness/test.h"

/* One model stage [rows, 2, width] -> [rows, width] around the port shapes under test. */
struct fixture {
    struct fm_port inputs[1];
    struct fm_port model_in[1];
    struct fm_port model_out[1];
    struct fm_binding_spec binding[1];
    struct fm_binding_spec output[1];
    struct fm_stage_spec stage;
    struct fm_pipeline_spec spec;
    struct fm_pipeline *pipeline;
};

static void fixture_init(struct fixture *fixture, uint32_t dtype, bool items_have_rows,
                         uint32_t bucket_step)
{
    memset(fixture, 0, sizeof(*fixture));
    int32_t item_rank = items_have_rows ? 3 : 2;
    fixture->inputs[0] =
        (struct fm_port){.name = "in", .dtype = dtype, .rank = item_rank, .shape = {-1, -1, -1}};
    fixture->model_in[0] =
        (struct fm_port){.name = "x", .dtype = dtype, .rank = 3, .shape = {-1, -1, -1}};
    fixture->model_out[0] =
        (struct fm_port){.name = "y", .dtype = dtype, .rank = 2, .shape = {-1, -1}};
    fixture->binding[0] = (struct fm_binding_spec){"x", "in", {0, 0}};
    fixture->output[0] = (struct fm_binding_spec){"y", "m", {0, 0}};
    fixture->stage = (struct fm_stage_spec){.name = "m",
                                            .kind = FM_STAGE_MODEL,
                                            .target = "net",
                                            .inputs = fixture->binding,
                                            .input_count = 1,
                                            .items_have_rows = items_have_rows,
                                            .batch = {.bucket_axis = bucket_step > 0 ? 1 : -1,
                                                      .bucket_step = bucket_step,
                                                      .pad_value = 9}};
    fixture->spec = (struct fm_pipeline_spec){.file = "t",
                                              .name = "t",
                                              .inputs = fixture->inputs,
                                              .input_count = 1,
                                              .stages = &fixture->stage,
                                              .stage_count = 1,
                                              .outputs = fixture->output,
                                              .output_count = 1};
    struct fm_stage_ports ports = {fixture->model_in, 1, fixture->model_out, 1, 8};
    struct fm_error error = {0};
    if (fm_pipeline_link(&fixture->spec, &ports, &fixture->pipeline, &error) != 0) {
        printf("# %s\n", error.text);
        abort();
    }
}

static struct fm_value floats(const int64_t *shape, uint32_t rank, const float *numbers)
{
    struct fm_value value = {0};
    if (fm_value_alloc(&value, FM_DTYPE_FP32, shape, rank, 0) != 0) {
        abort();
    }
    memcpy(value.tensor.data, numbers, value.tensor.size);
    return value;
}

TEST(one_item_is_not_copied)
{
    struct fixture fixture;
    struct fm_model_batch batch;
    struct fm_error error = {0};
    fixture_init(&fixture, FM_DTYPE_FP32, false, 0);
    fm_model_batch_init(&batch, fixture.pipeline, 0, 1, 1);
    CHECK(batch.ready);
    struct fm_value item = floats((int64_t[]){2, 2}, 2, (float[]){1, 2, 3, 4});
    *fm_model_batch_item_input(&batch, 0, 0) = fm_value_ref(&item);
    CHECK_INT_EQ(fm_model_batch_gather(&batch, &error), 0);
    CHECK_PTR_EQ(batch.inputs[0].data, item.tensor.data);
    CHECK_UINT_EQ(batch.inputs[0].rank, 3);
    CHECK_INT_EQ(batch.inputs[0].shape[0], 1);
    CHECK_INT_EQ(batch.inputs[0].shape[2], 2);
    CHECK_UINT_EQ(batch.outputs[0].wanted, 1);
    fm_value_unref(&item);
    fm_model_batch_deinit(&batch);
    fm_pipeline_free(fixture.pipeline);
}

TEST(items_of_a_bucket_are_padded_to_the_widest)
{
    struct fixture fixture;
    struct fm_model_batch batch;
    struct fm_error error = {0};
    fixture_init(&fixture, FM_DTYPE_FP32, false, 4);
    fm_model_batch_init(&batch, fixture.pipeline, 0, 2, 2);
    *fm_model_batch_item_input(&batch, 0, 0) = floats((int64_t[]){2, 1}, 2, (float[]){1, 2});
    *fm_model_batch_item_input(&batch, 1, 0) =
        floats((int64_t[]){2, 3}, 2, (float[]){3, 4, 5, 6, 7, 8});
    CHECK_INT_EQ(fm_model_batch_gather(&batch, &error), 0);
    static const float expected[] = {1, 9, 9, 2, 9, 9, 3, 4, 5, 6, 7, 8};
    CHECK_UINT_EQ(batch.inputs[0].size, sizeof(expected));
    CHECK_MEM_EQ(batch.inputs[0].data, expected, sizeof(expected));
    CHECK_INT_EQ(batch.inputs[0].shape[0], 2);
    CHECK_INT_EQ(batch.inputs[0].shape[2], 3);
    fm_model_batch_deinit(&batch);
    fm_pipeline_free(fixture.pipeline);
}

TEST(different_shapes_are_refused)
{
    struct fixture fixture;
    struct fm_model_batch batch;
    struct fm_error error = {0};
    fixture_init(&fixture, FM_DTYPE_FP32, false, 0);
    fm_model_batch_init(&batch, fixture.pipeline, 0, 2, 2);
    *fm_model_batch_item_input(&batch, 0, 0) = floats((int64_t[]){2, 1}, 2, (float[]){1, 2});
    *fm_model_batch_item_input(&batch, 1, 0) = floats((int64_t[]){1, 2}, 2, (float[]){3, 4});
    CHECK_INT_EQ(fm_model_batch_gather(&batch, &error), FM_EINTERNAL);
    fm_model_batch_deinit(&batch);
    fm_pipeline_free(fixture.pipeline);
}

static int releases;

static void output_release(void *context)
{
    releases++;
    free(context);
}

static void output_set(struct fm_output *output, const int64_t *shape, uint32_t rank,
                       const float *numbers)
{
    size_t size = 0;
    CHECK_INT_EQ(fm_tensor_bytes(FM_DTYPE_FP32, shape, rank, &size), 0);
    void *data = malloc(size);
    memcpy(data, numbers, size);
    output->tensor =
        (struct fm_tensor){.dtype = FM_DTYPE_FP32, .rank = rank, .data = data, .size = size};
    memcpy(output->tensor.shape, shape, rank * sizeof(shape[0]));
    output->release = output_release;
    output->release_context = data;
}

TEST(requests_of_several_rows_share_a_batch)
{
    struct fixture fixture;
    struct fm_model_batch batch;
    struct fm_error error = {0};
    struct fm_value *items[2];
    releases = 0;
    fixture_init(&fixture, FM_DTYPE_FP32, true, 0);
    fm_model_batch_init(&batch, fixture.pipeline, 0, 2, 3);
    *fm_model_batch_item_input(&batch, 0, 0) = floats((int64_t[]){2, 1, 1}, 3, (float[]){1, 2});
    *fm_model_batch_item_input(&batch, 1, 0) = floats((int64_t[]){1, 1, 1}, 3, (float[]){3});
    CHECK_INT_EQ(fm_model_batch_gather(&batch, &error), 0);
    CHECK_INT_EQ(batch.inputs[0].shape[0], 3);
    output_set(&batch.outputs[0], (int64_t[]){3, 2}, 2, (float[]){10, 11, 20, 21, 30, 31});
    CHECK_INT_EQ(fm_model_batch_scatter(&batch, items, &error), 0);
    CHECK_INT_EQ(items[0][0].tensor.shape[0], 2);
    CHECK_INT_EQ(items[1][0].tensor.shape[0], 1);
    CHECK_NEAR(((float *)items[1][0].tensor.data)[1], 31, 0);
    struct fm_value kept = fm_value_ref(&items[1][0]);
    fm_model_batch_deinit(&batch);
    CHECK_INT_EQ(releases, 0); /* a view keeps the whole output alive */
    CHECK_NEAR(((float *)kept.tensor.data)[0], 30, 0);
    fm_value_unref(&kept);
    CHECK_INT_EQ(releases, 1);
    fm_pipeline_free(fixture.pipeline);
}

TEST(a_wrong_number_of_rows_is_the_models_fault)
{
    struct fixture fixture;
    struct fm_model_batch batch;
    struct fm_error error = {0};
    struct fm_value *items[1];
    releases = 0;
    fixture_init(&fixture, FM_DTYPE_FP32, true, 0);
    fm_model_batch_init(&batch, fixture.pipeline, 0, 1, 2);
    *fm_model_batch_item_input(&batch, 0, 0) = floats((int64_t[]){2, 1, 1}, 3, (float[]){1, 2});
    CHECK_INT_EQ(fm_model_batch_gather(&batch, &error), 0);
    output_set(&batch.outputs[0], (int64_t[]){1, 2}, 2, (float[]){10, 11});
    CHECK_INT_EQ(fm_model_batch_scatter(&batch, items, &error), FM_EINTERNAL);
    CHECK_STR_CONTAINS(error.text, "answered a batch of 2 rows with output 'y' of shape [1,2]");
    fm_model_batch_deinit(&batch);
    CHECK_INT_EQ(releases, 1);
    fm_pipeline_free(fixture.pipeline);
}

TEST(strings_are_gathered_and_cut_apart)
{
    struct fixture fixture;
    struct fm_model_batch batch;
    struct fm_error error = {0};
    struct fm_value *items[2];
    releases = 0;
    fixture_init(&fixture, FM_DTYPE_BYTES, true, 0);
    fm_model_batch_init(&batch, fixture.pipeline, 0, 2, 2);
    for (uint32_t i = 0; i < 2; i++) {
        struct fm_value *item = fm_model_batch_item_input(&batch, i, 0);
        CHECK_INT_EQ(fm_value_from_bytes(item, i == 0 ? "one" : "three", i == 0 ? 3 : 5), 0);
        item->tensor.rank = 3;
        item->tensor.shape[1] = item->tensor.shape[2] = 1;
    }
    CHECK_INT_EQ(fm_model_batch_gather(&batch, &error), 0);
    CHECK_UINT_EQ(batch.inputs[0].size, 4 + 3 + 4 + 5);
    void *copy = malloc(16);
    memcpy(copy, batch.inputs[0].data, 16);
    batch.outputs[0] = (struct fm_output){
        .tensor = {.dtype = FM_DTYPE_BYTES, .rank = 2, .shape = {2, 1}, .data = copy, .size = 16},
        .release = output_release,
        .release_context = copy,
        .wanted = 1};
    CHECK_INT_EQ(fm_model_batch_scatter(&batch, items, &error), 0);
    const char *data = NULL;
    size_t length = 0;
    CHECK_INT_EQ(fm_bytes_get(&items[1][0].tensor, 0, &data, &length), 0);
    CHECK_UINT_EQ(length, 5);
    CHECK_MEM_EQ(data, "three", 5);
    CHECK_UINT_EQ(items[0][0].tensor.size, 7);
    fm_model_batch_deinit(&batch);
    fm_pipeline_free(fixture.pipeline);
}

TEST(stacking)
{
    struct fm_value elements[2] = {floats((int64_t[]){2, 1}, 2, (float[]){1, 2}),
                                   floats((int64_t[]){2, 1}, 2, (float[]){3, 4})};
    const struct fm_value *pointers[2] = {&elements[0], &elements[1]};
    struct fm_pipeline_output output = {
        .name = "o",
        .stacks = true,
        .type = {.dtype = FM_DTYPE_FP32, .rank = 3, .shape = {-1, 2, 1}}};
    struct fm_value stacked = {0};
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_model_batch_stack(&output, pointers, 2, &stacked, &error), 0);
    CHECK_UINT_EQ(stacked.tensor.rank, 3);
    CHECK_INT_EQ(stacked.tensor.shape[0], 2);
    CHECK_NEAR(((float *)stacked.tensor.data)[3], 4, 0);
    fm_value_unref(&stacked);
    CHECK_INT_EQ(fm_model_batch_stack(&output, pointers, 0, &stacked, &error), 0);
    CHECK_INT_EQ(stacked.tensor.shape[0], 0);
    CHECK_INT_EQ(stacked.tensor.shape[1], 2);
    CHECK_UINT_EQ(stacked.tensor.size, 0);
    fm_value_unref(&stacked);
    elements[1].tensor.shape[0] = 1;
    elements[1].tensor.shape[1] = 2;
    CHECK_INT_EQ(fm_model_batch_stack(&output, pointers, 2, &stacked, &error), FM_ETYPE);
    CHECK_STR_CONTAINS(error.text, "elements of shapes [2,1] and [1,2] cannot be stacked");
    fm_value_unref(&elements[0]);
    fm_value_unref(&elements[1]);
    struct fm_value texts[2] = {{.buffer = NULL}, {.buffer = NULL}};
    CHECK_INT_EQ(fm_value_from_bytes(&texts[0], "a", 1), 0);
    CHECK_INT_EQ(fm_value_from_bytes(&texts[1], "bc", 2), 0);
    pointers[0] = &texts[0];
    pointers[1] = &texts[1];
    output.type = (struct fm_port){.dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {-1}};
    CHECK_INT_EQ(fm_model_batch_stack(&output, pointers, 2, &stacked, &error), 0);
    CHECK_UINT_EQ(stacked.tensor.rank, 1);
    CHECK_INT_EQ(stacked.tensor.shape[0], 2);
    CHECK_INT_EQ(fm_tensor_check(&stacked.tensor, &error), 0);
    fm_value_unref(&stacked);
    fm_value_unref(&texts[0]);
    fm_value_unref(&texts[1]);
}

TEST_MAIN()
