/* ocr_orient and ocr_page as a host runs them. */
#include "examples/ocr/page.c"
#include "examples/ocr/components.c"
#include "examples/ocr/reading_order.c"
#include "examples/ocr/rectangle.c"
#include "examples/ocr/text_detection.c"

#include "tests/harness/test.h"
#include "tests/unit/examples/ocr/call.h"

#define LINES 3

struct lines {
    uint8_t pixels[LINES][6];
    float probabilities[LINES][2];
    float quads[LINES][8];
    uint8_t texts[LINES][8];
    float confidences[LINES];
    struct fm_tensor crop[LINES], probability[LINES], quad[LINES], text[LINES], confidence[LINES];
};

/* Line 0 and 1 stand side by side, line 2 below; of 1 x 6 pixels each. */
static void lines_init(struct lines *lines, float turned)
{
    static const float quads[LINES][8] = {{10, 10, 50, 10, 50, 20, 10, 20},
                                          {60, 12, 90, 12, 90, 22, 60, 22},
                                          {10, 40, 50, 40, 50, 50, 10, 50}};
    for (int i = 0; i < LINES; i++) {
        for (int j = 0; j < 6; j++) {
            lines->pixels[i][j] = (uint8_t)(10 * i + j);
        }
        memcpy(lines->quads[i], quads[i], sizeof(quads[i]));
        lines->probabilities[i][0] = 1 - turned;
        lines->probabilities[i][1] = turned;
        lines->confidences[i] = 0.9f;
        memcpy(lines->texts[i], "\x02\0\0\0ab", 6);
        lines->texts[i][5] = (uint8_t)('0' + i);
        lines->crop[i] = (struct fm_tensor){.dtype = FM_DTYPE_UINT8,
                                            .rank = 3,
                                            .shape = {1, 3, 2},
                                            .data = lines->pixels[i],
                                            .size = 6};
        lines->probability[i] = (struct fm_tensor){.dtype = FM_DTYPE_FP32,
                                                   .rank = 1,
                                                   .shape = {2},
                                                   .data = lines->probabilities[i],
                                                   .size = 8};
        lines->quad[i] = (struct fm_tensor){.dtype = FM_DTYPE_FP32,
                                            .rank = 2,
                                            .shape = {4, 2},
                                            .data = lines->quads[i],
                                            .size = 32};
        lines->text[i] = (struct fm_tensor){
            .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}, .data = lines->texts[i], .size = 6};
        lines->confidence[i] = (struct fm_tensor){.dtype = FM_DTYPE_FP32,
                                                  .rank = 1,
                                                  .shape = {1},
                                                  .data = &lines->confidences[i],
                                                  .size = 4};
    }
}

static struct call *orient(struct lines *lines, size_t count, int *ret_status)
{
    struct call *call = call_create(3);
    call->inputs[0] = (struct fm_tensor_list){lines->crop, count};
    call->inputs[1] = (struct fm_tensor_list){lines->probability, count};
    call->inputs[2] = (struct fm_tensor_list){lines->quad, count};
    *ret_status = ocr_orient_operator.run(NULL, &call->call);
    return call;
}

static struct call *page(struct lines *lines, size_t count, const char *confidence_min,
                         int *ret_status)
{
    struct call *call = call_create(3);
    void *state = NULL;
    *ret_status =
        operator_create(&ocr_page_operator, "confidence_min", confidence_min, &state, NULL);
    call->inputs[0] = (struct fm_tensor_list){lines->text, count};
    call->inputs[1] = (struct fm_tensor_list){lines->confidence, count};
    call->inputs[2] = (struct fm_tensor_list){lines->quad, count};
    if (*ret_status == 0) {
        *ret_status = ocr_page_operator.run(state, &call->call);
    }
    ocr_page_operator.destroy(state);
    return call;
}

TEST(an_upright_page_is_forwarded)
{
    struct lines lines;
    int status = 0;
    lines_init(&lines, 0.1f);
    lines.probabilities[2][1] = 0.99f; /* one line errs */
    struct call *call = orient(&lines, LINES, &status);
    CHECK_INT_EQ(status, 0);
    CHECK_INT_EQ(call->forwards, 2 * LINES);
    CHECK_INT_EQ(call->counts[2], 1);
    CHECK_INT_EQ(*(uint8_t *)call->outputs[2][0].data, 0);
    CHECK_MEM_EQ(call->outputs[0][2].data, lines.pixels[2], 6);
    call_destroy(call);
}

TEST(a_page_on_its_head_is_turned_and_read_backwards)
{
    struct lines lines;
    int status = 0;
    lines_init(&lines, 0.8f);
    struct call *call = orient(&lines, LINES, &status);
    CHECK_INT_EQ(status, 0);
    CHECK_INT_EQ(*(uint8_t *)call->outputs[2][0].data, 1);
    CHECK_MEM_EQ(call->outputs[0][0].data, "\x18\x19\x16\x17\x14\x15",
                 6); /* line 2, pixel by pixel */
    CHECK_MEM_EQ(call->outputs[0][1].data, "\x0e\x0f\x0c\x0d\x0a\x0b", 6); /* line 1 */
    const float *quad = call->outputs[1][0].data;
    CHECK_NEAR(quad[0], 50, 0);
    CHECK_NEAR(quad[1], 50, 0);
    CHECK_NEAR(quad[4], 10, 0);
    CHECK_NEAR(quad[5], 40, 0);
    call_destroy(call);
}

TEST(a_page_without_lines)
{
    struct lines lines;
    int status = 0;
    lines_init(&lines, 0.8f);
    struct call *call = orient(&lines, 0, &status);
    CHECK_INT_EQ(status, 0);
    CHECK_INT_EQ(call->counts[0], 0);
    CHECK_INT_EQ(*(uint8_t *)call->outputs[2][0].data, 0);
    call_destroy(call);
    call = page(&lines, 0, "0.5", &status);
    CHECK_INT_EQ(status, 0);
    CHECK_INT_EQ(call->outputs[0][0].size, 4);
    CHECK_INT_EQ(call->outputs[2][0].shape[0], 0);
    call_destroy(call);
}

TEST(lines_side_by_side_share_a_line_of_text)
{
    struct lines lines;
    int status = 0;
    lines_init(&lines, 0);
    struct call *call = page(&lines, LINES, "0.5", &status);
    CHECK_INT_EQ(status, 0);
    CHECK_INT_EQ(call->outputs[0][0].size, 4 + 8);
    CHECK_MEM_EQ((char *)call->outputs[0][0].data + 4, "a0 a1\na2", 8);
    CHECK_INT_EQ(call->outputs[1][0].shape[0], 3);
    CHECK_MEM_EQ((char *)call->outputs[1][0].data + 6, "\x02\0\0\0a1", 6);
    CHECK_MEM_EQ((char *)call->outputs[2][0].data + 64, lines.quads[2], 32);
    CHECK_NEAR(((float *)call->outputs[3][0].data)[1], 0.9, 1e-6);
    call_destroy(call);
}

TEST(lines_of_little_confidence_or_no_text_are_left_out)
{
    struct lines lines;
    int status = 0;
    lines_init(&lines, 0);
    lines.confidences[0] = 0.4f;
    lines.confidences[1] = NAN;
    struct call *call = page(&lines, LINES, "0.5", &status);
    CHECK_INT_EQ(status, 0);
    CHECK_MEM_EQ((char *)call->outputs[0][0].data + 4, "a2", 2);
    CHECK_INT_EQ(call->outputs[3][0].shape[0], 1);
    call_destroy(call);
    memcpy(lines.texts[2], "\0\0\0\0", 4);
    lines.text[2].size = 4;
    call = page(&lines, LINES, "0.5", &status);
    CHECK_INT_EQ(status, 0);
    CHECK_INT_EQ(call->outputs[0][0].size, 4);
    call_destroy(call);
}

TEST(the_order_is_made_anew_of_lines_with_text)
{
    struct lines lines;
    int status = 0;
    float swap[8];
    lines_init(&lines, 0);
    memcpy(swap, lines.quads[0], sizeof(swap));
    memcpy(lines.quads[0], lines.quads[2], sizeof(swap));
    memcpy(lines.quads[2], swap, sizeof(swap));
    struct call *call = page(&lines, LINES, "0.5", &status);
    CHECK_INT_EQ(status, 0);
    CHECK_MEM_EQ((char *)call->outputs[0][0].data + 4, "a2 a1\na0", 8);
    CHECK_MEM_EQ((char *)call->outputs[2][0].data, lines.quads[2], 32);
    call_destroy(call);
    lines_init(&lines, 0);
    for (int i = 0; i < LINES; i++) { /* on its head: corner 0 is where the line begins */
        memcpy(swap, lines.quads[i], sizeof(swap));
        for (int j = 0; j < 8; j++) {
            lines.quads[i][j] = swap[(j + 4) % 8];
        }
    }
    call = page(&lines, LINES, "0.5", &status);
    CHECK_INT_EQ(status, 0);
    CHECK_MEM_EQ((char *)call->outputs[0][0].data + 4, "a2\na1 a0", 8);
    call_destroy(call);
}

TEST(inputs_that_do_not_fit_are_refused)
{
    struct lines lines;
    int status = 0;
    lines_init(&lines, 0);
    lines.texts[1][0] = 9; /* a length beyond the bytes */
    call_destroy(page(&lines, LINES, "0.5", &status));
    CHECK_INT_EQ(status, FM_ETYPE);
    lines_init(&lines, 0);
    lines.quads[2][3] = INFINITY;
    call_destroy(page(&lines, LINES, "0.5", &status));
    CHECK_INT_EQ(status, FM_EINVAL);
    call_destroy(page(&lines, LINES, "2", &status));
    CHECK_INT_EQ(status, FM_EINVAL);
    lines_init(&lines, 0.9f);
    lines.quads[0][0] = NAN;
    call_destroy(orient(&lines, LINES, &status));
    CHECK_INT_EQ(status, FM_EINVAL);
    struct call *call = call_create(3);
    call->inputs[0] = (struct fm_tensor_list){lines.crop, 3};
    call->inputs[1] = (struct fm_tensor_list){lines.probability, 2};
    call->inputs[2] = (struct fm_tensor_list){lines.quad, 3};
    CHECK_INT_EQ(ocr_orient_operator.run(NULL, &call->call), FM_EINVAL);
    CHECK_STR_CONTAINS(call->call.error.text, "one fan-out");
    call_destroy(call);
}

TEST_MAIN()
