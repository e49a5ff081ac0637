/*
 * Unit tests of softmax, argmax and top_k.
 */
#include <unistd.h>

#include "host/os/file.h"
#include "tests/harness/operator_rig.h"
#include "tests/harness/test.h"

static float *scores_input(struct fm_rig *rig, const char *name, const char *parameters,
                           int64_t rows, int64_t classes)
{
    const int64_t shape[2] = {rows, classes};
    if (fm_rig_create(rig, name, parameters) != 0) {
        return NULL;
    }
    /* One row: rank 1, as a model's row arrives. */
    return rows == 1 ? fm_rig_input(rig, 0, FM_DTYPE_FP32, 1, shape + 1)
                     : fm_rig_input(rig, 0, FM_DTYPE_FP32, 2, shape);
}

TEST(softmax_of_known_values)
{
    struct fm_rig rig;
    float *scores = scores_input(&rig, "softmax", NULL, 2, 3);
    memcpy(scores, (const float[]){0, logf(2), logf(5), 1000, 1000, -INFINITY}, 24);
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    const float *result = fm_rig_output(&rig, 0)->data;
    const float expected[6] = {0.125f, 0.25f, 0.625f, 0.5f, 0.5f, 0};
    for (int i = 0; i < 6; i++) {
        CHECK_NEAR(result[i], expected[i], 1e-6);
    }
    scores[0] = INFINITY;
    CHECK_INT_EQ(fm_rig_run(&rig), FM_ECORRUPT);
    scores[0] = scores[1] = scores[2] = NAN;
    CHECK_INT_EQ(fm_rig_run(&rig), FM_ECORRUPT);
    CHECK_STR_CONTAINS(rig.error.text, "row 0");
    fm_rig_destroy(&rig);
}

TEST(argmax_takes_the_first_of_equals_at_every_length)
{
    for (int64_t classes = 1; classes <= 70; classes++) {
        for (int64_t at = 0; at < classes; at += 3) {
            struct fm_rig rig;
            float *scores = scores_input(&rig, "argmax", NULL, 1, classes);
            for (int64_t i = 0; i < classes; i++) {
                scores[i] = i == at || i == at + 5 ? 2 : i == at + 1 ? NAN : -1;
            }
            CHECK_INT_EQ(fm_rig_run(&rig), 0);
            CHECK_INT_EQ(fm_rig_output(&rig, 0)->rank, 0);
            CHECK_INT_EQ(*(int64_t *)fm_rig_output(&rig, 0)->data, at);
            CHECK_NEAR(*(float *)fm_rig_output(&rig, 1)->data, 2, 0);
            fm_rig_destroy(&rig);
        }
    }
}

TEST(argmax_by_row)
{
    struct fm_rig rig;
    float *scores = scores_input(&rig, "argmax", NULL, 2, 2);
    memcpy(scores, (const float[]){1, 2, 4, 3}, 16);
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    CHECK_INT_EQ(fm_rig_output(&rig, 0)->shape[0], 2);
    CHECK_MEM_EQ(fm_rig_output(&rig, 0)->data, ((const int64_t[]){1, 0}), 16);
    scores[2] = scores[3] = NAN;
    CHECK_INT_EQ(fm_rig_run(&rig), FM_ECORRUPT);
    CHECK_STR_CONTAINS(rig.error.text, "row 1");
    fm_rig_destroy(&rig);
}

TEST(top_k_orders_and_names)
{
    char path[64];
    char parameters[128];
    struct fm_rig rig;
    (void)snprintf(path, sizeof(path), "/tmp/fm-test-labels-%d", (int)getpid());
    CHECK_INT_EQ(fm_file_write_atomic(path, "cat\ndog\nbird\nfish\n", 18, NULL), 0);
    (void)snprintf(parameters, sizeof(parameters), "k=3;labels_file=%s;softmax=true", path);
    float *scores = scores_input(&rig, "top_k", parameters, 1, 4);
    CHECK(scores != NULL);
    memcpy(scores, (const float[]){0, logf(2), 0, logf(4)}, 16);
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    CHECK_MEM_EQ(fm_rig_output(&rig, 1)->data, ((const int64_t[]){3, 1, 0}), 24);
    CHECK_NEAR(((float *)fm_rig_output(&rig, 0)->data)[0], 0.5, 1e-6);
    CHECK_NEAR(((float *)fm_rig_output(&rig, 0)->data)[2], 0.125, 1e-6);
    CHECK_MEM_EQ(fm_rig_output(&rig, 2)->data, "\4\0\0\0fish\3\0\0\0dog\3\0\0\0cat", 22);
    fm_rig_inputs_clear(&rig);
    const int64_t five[1] = {5};
    CHECK(fm_rig_input(&rig, 0, FM_DTYPE_FP32, 1, five) != NULL);
    CHECK_INT_EQ(fm_rig_run(&rig), FM_ETYPE);
    CHECK_STR_CONTAINS(rig.error.text, "5 classes, but labels_file has 4 lines");
    fm_rig_destroy(&rig);
    (void)unlink(path);
    CHECK_INT_EQ(fm_rig_create(&rig, "top_k", parameters), FM_ENOTFOUND);
}

TEST(top_k_of_rows_with_few_classes)
{
    struct fm_rig rig;
    float *scores = scores_input(&rig, "top_k", NULL, 2, 3);
    memcpy(scores, (const float[]){1, 3, 2, 5, 5, 6}, 24);
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    CHECK_INT_EQ(fm_rig_output(&rig, 0)->shape[1], 3);
    CHECK_MEM_EQ(fm_rig_output(&rig, 1)->data, ((const int64_t[]){1, 2, 0, 2, 0, 1}), 48);
    CHECK_INT_EQ(rig.output_count, 2);
    scores[0] = NAN;
    CHECK_INT_EQ(fm_rig_run(&rig), FM_ECORRUPT);
    fm_rig_destroy(&rig);
    CHECK_INT_EQ(fm_rig_create(&rig, "top_k", "k=0"), FM_EINVAL);
}

TEST(scores_need_a_class_axis)
{
    static const char *const names[] = {"softmax", "argmax", "top_k"};
    const int64_t empty[2] = {2, 0};
    for (int i = 0; i < 3; i++) {
        struct fm_rig rig;
        CHECK_INT_EQ(fm_rig_create(&rig, names[i], NULL), 0);
        CHECK(fm_rig_input(&rig, 0, FM_DTYPE_FP32, 0, empty) != NULL);
        CHECK_INT_EQ(fm_rig_run(&rig), FM_ETYPE);
        fm_rig_inputs_clear(&rig);
        CHECK(fm_rig_input(&rig, 0, FM_DTYPE_FP32, 2, empty) != NULL);
        CHECK_INT_EQ(fm_rig_run(&rig), FM_ETYPE);
        CHECK_STR_CONTAINS(rig.error.text, "[2,0] have no classes");
        fm_rig_destroy(&rig);
    }
}

TEST_MAIN()
