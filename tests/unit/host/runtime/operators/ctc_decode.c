/*
 * Unit tests of ctc_decode: collapsing, confidence, spaces, key files, wrong scores.
 */
#include <unistd.h>

#include "host/os/file.h"
#include "tests/harness/operator_rig.h"
#include "tests/harness/test.h"

static char keys_path[64];

/* Classes: blank, a, b, é, and the space when asked for. */
static const char *parameters_with(const char *more)
{
    static char text[256];
    (void)snprintf(keys_path, sizeof(keys_path), "/tmp/fm-test-keys-%d.txt", (int)getpid());
    static const char keys[] = "a\nb\r\n\xc3\xa9";
    if (fm_file_write_atomic(keys_path, keys, sizeof(keys) - 1, NULL) != 0) {
        return "keys_file=/nonexistent";
    }
    (void)snprintf(text, sizeof(text), "keys_file=%s%s", keys_path, more);
    return text;
}

static void rig_make(struct fm_rig *rig, const char *more)
{
    const char *parameters = parameters_with(more);
    int status = fm_rig_create(rig, "ctc_decode", parameters);
    (void)unlink(keys_path);
    CHECK_INT_EQ(status, 0);
}

static float *scores_input(struct fm_rig *rig, int64_t steps, int64_t classes)
{
    const int64_t shape[2] = {steps, classes};
    return fm_rig_input(rig, 0, FM_DTYPE_FP32, 2, shape);
}

/* Each letter of `line` is the winner of one step, '-' the blank, 'e' the third key, '_' the space;
 * its probability is 0.9, others share. */
static void line_input(struct fm_rig *rig, const char *line)
{
    static const char classes[] = "-abe_";
    int64_t steps = (int64_t)strlen(line);
    float *scores = scores_input(rig, steps, 5);
    for (int64_t t = 0; t < steps; t++) {
        for (int64_t c = 0; c < 5; c++) {
            scores[t * 5 + c] = classes[c] == line[t] ? 0.9f : 0.025f;
        }
    }
}

static void check_text(const struct fm_rig *rig, const char *want)
{
    const struct fm_tensor *text = fm_rig_output(rig, 0);
    CHECK_INT_EQ(text->size, strlen(want) + 4);
    CHECK_MEM_EQ((char *)text->data + 4, want, strlen(want));
}

TEST(runs_collapse_and_blanks_vanish)
{
    struct fm_rig rig;
    rig_make(&rig, "");
    line_input(&rig, "-aa-abb--e");
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    check_text(&rig, "aab\xc3\xa9");
    CHECK_NEAR(*(float *)fm_rig_output(&rig, 1)->data, 0.9, 1e-6);
    const struct fm_tensor *steps = fm_rig_output(&rig, 2);
    CHECK_INT_EQ(steps->shape[0], 4);
    CHECK_MEM_EQ(steps->data, ((const int32_t[]){1, 4, 5, 9}), 16);
    fm_rig_destroy(&rig);
}

TEST(nothing_read_is_an_empty_text)
{
    struct fm_rig rig;
    rig_make(&rig, "");
    line_input(&rig, "----");
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    check_text(&rig, "");
    CHECK_NEAR(*(float *)fm_rig_output(&rig, 1)->data, 0, 0);
    CHECK_INT_EQ(fm_rig_output(&rig, 2)->shape[0], 0);
    fm_rig_inputs_clear(&rig);
    CHECK(scores_input(&rig, 0, 5) != NULL);
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    check_text(&rig, "");
    fm_rig_destroy(&rig);
}

TEST(confidence_is_of_the_first_step_of_each_run)
{
    struct fm_rig rig;
    rig_make(&rig, "");
    line_input(&rig, "aab");
    float *scores = rig.inputs[0].items[0].tensor.data;
    scores[0 * 5 + 1] = 0.5f;
    scores[2 * 5 + 2] = 0.8f;
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    CHECK_NEAR(*(float *)fm_rig_output(&rig, 1)->data, 0.65, 1e-6);
    fm_rig_destroy(&rig);
}

TEST(spaces_come_by_class_and_by_recovery)
{
    struct fm_rig rig;
    rig_make(&rig, "");
    line_input(&rig, "a-__-b");
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    check_text(&rig, "a b");
    CHECK_INT_EQ(fm_rig_output(&rig, 2)->shape[0], 3);
    fm_rig_inputs_clear(&rig);
    line_input(&rig, "a--b-a");
    float *scores = rig.inputs[0].items[0].tensor.data;
    scores[1 * 5 + 4] = 0.06f;
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    check_text(&rig, "a ba");
    CHECK_INT_EQ(fm_rig_output(&rig, 2)->shape[0], 3);
    CHECK_NEAR(*(float *)fm_rig_output(&rig, 1)->data, 0.9, 1e-6);
    /* The steps of both characters count, those before the first do not. */
    scores[1 * 5 + 4] = 0;
    scores[5 * 5 + 4] = 0.06f;
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    check_text(&rig, "ab a");
    fm_rig_destroy(&rig);
    rig_make(&rig, ";space_threshold=1");
    line_input(&rig, "a--b");
    ((float *)rig.inputs[0].items[0].tensor.data)[1 * 5 + 4] = 0.89f;
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    check_text(&rig, "ab");
    fm_rig_destroy(&rig);
}

TEST(logits_give_the_same_text_and_confidence)
{
    struct fm_rig rig;
    rig_make(&rig, ";input=logits");
    line_input(&rig, "aa-_b");
    float *scores = rig.inputs[0].items[0].tensor.data;
    for (int i = 0; i < 25; i++) {
        scores[i] = logf(scores[i] * 3);
    }
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    check_text(&rig, "a b");
    CHECK_NEAR(*(float *)fm_rig_output(&rig, 1)->data, 0.9 / (0.9 + 4 * 0.025), 1e-5);
    fm_rig_destroy(&rig);
}

TEST(blank_may_be_the_last_class)
{
    struct fm_rig rig;
    rig_make(&rig, ";space=false;blank=3");
    float *scores = scores_input(&rig, 3, 4);
    scores[0 * 4 + 2] = 1;
    scores[1 * 4 + 3] = 1;
    scores[2 * 4 + 0] = 1;
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    check_text(&rig, "\xc3\xa9"
                     "a");
    fm_rig_destroy(&rig);
}

TEST(scores_must_fit_the_keys)
{
    struct fm_rig rig;
    rig_make(&rig, "");
    CHECK(scores_input(&rig, 3, 4) != NULL);
    CHECK_INT_EQ(fm_rig_run(&rig), FM_ETYPE);
    CHECK_STR_CONTAINS(rig.error.text, "have 4 classes, but keys_file, blank and space make 5");
    fm_rig_inputs_clear(&rig);
    float *scores = scores_input(&rig, 2, 5);
    for (int i = 0; i < 10; i++) {
        scores[i] = i < 5 ? 0.2f : NAN;
    }
    CHECK_INT_EQ(fm_rig_run(&rig), FM_ECORRUPT);
    CHECK_STR_CONTAINS(rig.error.text, "step 1 of 2");
    scores[7] = INFINITY;
    CHECK_INT_EQ(fm_rig_run(&rig), FM_ECORRUPT);
    fm_rig_destroy(&rig);
}

TEST(key_files_must_be_text)
{
    struct fm_rig rig;
    CHECK_INT_EQ(fm_rig_create(&rig, "ctc_decode", NULL), FM_EINVAL);
    CHECK_STR_CONTAINS(rig.error.text, "needs the parameter 'keys_file'");
    CHECK_INT_EQ(fm_rig_create(&rig, "ctc_decode", "keys_file=no/such/file"), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(rig.error.text, "no/such/file");
    char path[64];
    char parameters[96];
    (void)snprintf(path, sizeof(path), "/tmp/fm-test-bad-%d.txt", (int)getpid());
    (void)snprintf(parameters, sizeof(parameters), "keys_file=%s", path);
    CHECK_INT_EQ(fm_file_write_atomic(path, "a\n\xff\n", 4, NULL), 0);
    CHECK_INT_EQ(fm_rig_create(&rig, "ctc_decode", parameters), FM_ECORRUPT);
    CHECK_STR_CONTAINS(rig.error.text, "line 2");
    CHECK_INT_EQ(fm_file_write_atomic(path, "", 0, NULL), 0);
    CHECK_INT_EQ(fm_rig_create(&rig, "ctc_decode", parameters), FM_EINVAL);
    CHECK_STR_CONTAINS(rig.error.text, "is empty");
    (void)unlink(path);
}

TEST_MAIN()
