/*
 * Unit tests of what holds for every built-in operator: a sound table, a section in
 * docs/operators.md that says what the table says, and no leak or crash wherever memory runs out.
 */
#include "host/runtime/operators/table.h"

#include <spng.h>

#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/os/file.h"
#include "tests/harness/operator_rig.h"
#include "tests/harness/test.h"

TEST(the_table_is_sound)
{
    struct fm_error error = {0};
    int status = fm_operator_plugin_check(&fm_operators_builtin, "builtin", &error);
    CHECK_STR_EQ(error.text, "");
    CHECK_INT_EQ(status, 0);
}

/* A row of the parameter table in the documentation. */
static void row_format(const struct fm_operator_parameter *parameter, struct fm_text *row)
{
    const char *value = parameter->default_value;
    fm_text_append_format(row, "| `%s` | %s%s%s | %s |\n", parameter->name,
                          value == NULL || value[0] == '\0' ? "" : "`",
                          value == NULL      ? "required"
                          : value[0] == '\0' ? ""
                                             : value,
                          value == NULL || value[0] == '\0' ? "" : "`", parameter->help);
}

TEST(every_operator_is_documented)
{
    char *document = NULL;
    size_t size = 0;
    CHECK_INT_EQ(fm_file_read("docs/operators.md", 1 << 20, &document, &size, NULL), 0);
    for (size_t i = 0; i < fm_operators_builtin.operator_count; i++) {
        const struct fm_operator *operator_ = fm_operators_builtin.operators[i];
        char heading[128];
        (void)snprintf(heading, sizeof(heading), "\n## %s\n", operator_->name);
        CHECK_STR_CONTAINS(document, heading);
        char *section = strstr(document, heading) + 4;
        char *end = strstr(section, "\n## ");
        char saved = '\0';
        if (end != NULL) {
            saved = *end;
            *end = '\0';
        }
        const struct fm_operator_parameter *parameter = operator_->parameters;
        for (; parameter != NULL && parameter->name != NULL; parameter++) {
            struct fm_text row = {0};
            row_format(parameter, &row);
            CHECK_STR_CONTAINS(section, row.data);
            fm_text_deinit(&row);
        }
        if (end != NULL) {
            *end = saved;
        }
    }
    fm_free(document);
}

/* --- Running out of memory --- */

static const uint8_t image_bytes[12] = {0, 50, 100, 150, 200, 250, 9, 8, 7, 6, 5, 4};

static void image_input(struct fm_rig *rig)
{
    const int64_t shape[3] = {2, 2, 3};
    memcpy(fm_rig_input(rig, 0, FM_DTYPE_UINT8, 3, shape), image_bytes, 12);
}

static void png_input(struct fm_rig *rig)
{
    struct spng_ihdr header = {
        .width = 2, .height = 2, .bit_depth = 8, .color_type = SPNG_COLOR_TYPE_TRUECOLOR};
    int code = 0;
    size_t size = 0;
    spng_ctx *context = spng_ctx_new(SPNG_CTX_ENCODER);
    (void)spng_set_option(context, SPNG_ENCODE_TO_BUFFER, 1);
    (void)spng_set_ihdr(context, &header);
    (void)spng_encode_image(context, image_bytes, 12, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE);
    void *file = spng_get_png_buffer(context, &size, &code);
    fm_rig_input_bytes(rig, 0, file, size);
    free(file);
    spng_ctx_free(context);
}

static void warp_input(struct fm_rig *rig)
{
    const int64_t shape[2] = {4, 2};
    image_input(rig);
    memcpy(fm_rig_input(rig, 1, FM_DTYPE_FP32, 2, shape), (const float[]){0, 0, 2, 0, 2, 2, 0, 2},
           32);
}

static void turn_input(struct fm_rig *rig)
{
    const int64_t shape[1] = {2};
    image_input(rig);
    ((float *)fm_rig_input(rig, 1, FM_DTYPE_FP32, 1, shape))[1] = 1;
}

static void scores_input(struct fm_rig *rig)
{
    const int64_t shape[2] = {3, 2};
    float *scores = fm_rig_input(rig, 0, FM_DTYPE_FP32, 2, shape);
    memcpy(scores, (const float[]){0, 1, 1, 0, 0, 1}, 24);
}

static void steps_input(struct fm_rig *rig)
{
    const int64_t shape[2] = {2, 3};
    float *scores = fm_rig_input(rig, 0, FM_DTYPE_FP32, 2, shape);
    memcpy(scores, (const float[]){0, 1, 0, 0, 0, 1}, 24);
}

/* Creation and one run with the n-th allocation failing, for every n. */
static void sweep(const char *name, const char *parameters, void (*input)(struct fm_rig *rig))
{
    for (uint64_t n = 1; n < 1000; n++) {
        struct fm_rig rig;
        (void)fm_memory_fail_at(n, 0);
        int status = fm_rig_create(&rig, name, parameters);
        uint64_t made = fm_memory_fail_at(0, 0);
        if (status == 0) {
            input(&rig);
            /* When creation used up fewer, the rest counts in the run. */
            (void)fm_memory_fail_at(n > made ? n - made : 0, 0);
            status = fm_rig_run(&rig);
            made += fm_memory_fail_at(0, 0);
        }
        if (status != 0) {
            CHECK_INT_EQ(status, FM_ENOMEM);
            CHECK(rig.error.text[0] != '\0');
        }
        fm_rig_destroy(&rig);
        if (made < n) {
            CHECK_INT_EQ(status, 0);
            return;
        }
        CHECK_INT_EQ(status, FM_ENOMEM);
    }
}

TEST(no_memory_is_an_ordinary_error)
{
    static const char keys[] = "/tmp/fm-test-sweep-keys.txt";
    CHECK_INT_EQ(fm_file_write_atomic(keys, "a\nb\n", 4, NULL), 0);
    sweep("image_decode", NULL, png_input);
    sweep("image_decode", "channels=gray", png_input);
    sweep("image_tensor", "width=5;height=3", image_input);
    sweep("crop_warp", "height=4", warp_input);
    sweep("rotate_by_class", NULL, turn_input);
    sweep("softmax", NULL, scores_input);
    sweep("argmax", NULL, scores_input);
    sweep("top_k", "labels_file=/tmp/fm-test-sweep-keys.txt;k=1", scores_input);
    sweep("ctc_decode", "keys_file=/tmp/fm-test-sweep-keys.txt;space=false", steps_input);
    CHECK_INT_EQ(fm_file_remove(keys, NULL), 0);
}

TEST_MAIN()
