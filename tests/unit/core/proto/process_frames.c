/*
 * Unit tests of core/proto/process_frames: what is written byte by byte, answers cut at every
 * place, and each way in which an answer can be wrong.
 */
#include "core/proto/process_frames.h"

#include "core/tensor/tensor.h"
#include "core/util/memory.h"
#include "tests/harness/test.h"

static const struct fm_port outputs[] = {
    {.name = "y", .dtype = FM_DTYPE_FP32, .rank = 1, .shape = {-1}},
    {.name = "lines", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}, .flags = FM_PORT_MANY},
};

/* --- Writing --- */

TEST(a_hello_says_version_stage_and_ports)
{
    static const struct fm_port inputs[] = {
        {.name = "x", .dtype = FM_DTYPE_INT64, .rank = 2, .shape = {-1, 3}},
        {.name = "s", .dtype = FM_DTYPE_FP16, .rank = 0, .flags = FM_PORT_OPTIONAL}};
    static const char body[] = "fermata-process 1\nstage tokens\ninput x INT64 one -1 3\n"
                               "input s FP16 optional\noutput y FP32 one -1\n"
                               "output lines BYTES many 1\nmemory 4096\n";
    struct fm_text text = {0};
    fm_process_hello(&text, "tokens", inputs, 2, outputs, 2, 4096);
    CHECK(!text.failed);
    CHECK_INT_EQ(text.length, 16 + sizeof(body) - 1);
    CHECK_MEM_EQ(text.data, "HELO\0\0\0\0", 8);
    CHECK_INT_EQ((unsigned char)text.data[8], sizeof(body) - 1);
    CHECK_MEM_EQ(text.data + 9, "\0\0\0\0\0\0\0", 7);
    CHECK_STR_EQ(text.data + 16, body);
    fm_text_deinit(&text);
}

static struct fm_text request_join(const struct fm_process_request *request)
{
    struct fm_text text = {0};
    for (size_t i = 0; i < request->piece_count; i++) {
        fm_text_append(&text, request->pieces[i].data, request->pieces[i].size);
    }
    return text;
}

TEST(a_request_byte_by_byte)
{
    static unsigned char bytes[3] = {1, 2, 3};
    static int64_t number = 0x0102030405060708;
    const struct fm_tensor first = {FM_DTYPE_UINT8, 1, {3}, bytes, 3};
    const struct fm_tensor second[2] = {{FM_DTYPE_INT64, 0, {0}, &number, 8},
                                        {FM_DTYPE_FP32, 2, {0, 5}, NULL, 0}};
    const struct fm_tensor_list inputs[3] = {{&first, 1}, {NULL, 0}, {second, 2}};
    static const unsigned char expected[] =
        "ITEM\x0d\x0c\x0b\x0a\x70\0\0\0\0\0\0\0"            /* head */
        "\1\0\0\0\0\0\0\0"                                  /* one element */
        "\2\0\0\0\1\0\0\0\3\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0"  /* UINT8 [3], 3 bytes */
        "\1\2\3\0\0\0\0\0"                                  /* filled up to 8 */
        "\0\0\0\0\0\0\0\0"                                  /* an absent input */
        "\2\0\0\0\0\0\0\0"                                  /* two elements */
        "\x9\0\0\0\0\0\0\0\x8\0\0\0\0\0\0\0"                /* INT64 [] */
        "\x8\7\6\5\4\3\2\1"                                 /* */
        "\xb\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0" /* FP32 [0,5] */
        "\0\0\0\0\0\0\0";                                   /* 0 bytes */
    struct fm_process_request request = {0};
    for (int round = 0; round < 2; round++) {
        CHECK_INT_EQ(fm_process_request_make(&request, 0x0a0b0c0d, inputs, 3), 0);
        struct fm_text text = request_join(&request);
        CHECK_INT_EQ(text.length, sizeof(expected));
        CHECK_MEM_EQ(text.data, expected, sizeof(expected));
        fm_text_deinit(&text);
    }
    fm_process_request_deinit(&request);
}

TEST(a_request_without_memory)
{
    const struct fm_tensor tensor = {FM_DTYPE_UINT8, 1, {0}, NULL, 0};
    const struct fm_tensor_list input = {&tensor, 1};
    for (uint64_t n = 1; n <= 2; n++) {
        struct fm_process_request request = {0};
        (void)fm_memory_fail_at(n, 0);
        int status = fm_process_request_make(&request, 1, &input, 1);
        (void)fm_memory_fail_at(0, 0);
        CHECK_INT_EQ(status, FM_ENOMEM);
        CHECK_INT_EQ(fm_process_request_make(&request, 1, &input, 1), 0);
        fm_process_request_deinit(&request);
    }
}

/* --- Reading --- */

enum { EMITTED_MAX = 16, EMITTED_SIZE = 256 };

struct sink {
    int status; /* of the element number fail_at */
    uint32_t fail_at;
    uint32_t count;
    uint32_t ports[EMITTED_MAX];
    struct fm_tensor tensors[EMITTED_MAX];
    unsigned char bytes[EMITTED_MAX][EMITTED_SIZE];
};

static int sink_emit(void *context, uint32_t port, const struct fm_tensor *like, void **ret_data)
{
    struct sink *sink = context;
    if (sink->status != 0 && sink->count == sink->fail_at) {
        return sink->status;
    }
    if (sink->count == EMITTED_MAX || like->size > EMITTED_SIZE) {
        return FM_ELIMIT;
    }
    sink->ports[sink->count] = port;
    sink->tensors[sink->count] = *like;
    *ret_data = sink->bytes[sink->count++];
    return 0;
}

static void put(struct fm_text *text, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        fm_text_append_char(text, (char)(value >> (8 * i)));
    }
}

static void put_tensor(struct fm_text *text, uint32_t dtype, int64_t dimension, const void *data,
                       size_t size)
{
    put(text, dtype, 4);
    put(text, 1, 4);
    put(text, (uint64_t)dimension, 8);
    put(text, size, 8);
    fm_text_append(text, data, size);
    put(text, 0, (int)((8 - size % 8) % 8));
}

static struct fm_text frame(const char *kind, uint32_t id, const struct fm_text *body)
{
    struct fm_text text = {0};
    fm_text_append(&text, kind, 4);
    put(&text, id, 4);
    put(&text, body->length, 8);
    fm_text_append(&text, body->data, body->length);
    return text;
}

/* y = [1, 2, 3] and three lines. */
static struct fm_text good_body(void)
{
    struct fm_text body = {0};
    const float numbers[3] = {1, 2, 3};
    put(&body, 1, 8);
    put_tensor(&body, FM_DTYPE_FP32, 3, numbers, sizeof(numbers));
    put(&body, 3, 8);
    put_tensor(&body, FM_DTYPE_BYTES, 1, "\5\0\0\0hello", 9);
    put_tensor(&body, FM_DTYPE_BYTES, 1, "\0\0\0\0", 4);
    put_tensor(&body, FM_DTYPE_BYTES, 0, "", 0);
    return body;
}

static struct fm_process_answer answer;

/* Feeds the text in pieces of `step` bytes; the first status that is not 0. *ret_used: bytes that
 * were wanted. */
static int feed(struct sink *sink, bool starting, const struct fm_text *text, size_t step,
                size_t *ret_used)
{
    const struct fm_process_answer_options options = {.starting = starting,
                                                      .id = 7,
                                                      .outputs = outputs,
                                                      .output_count = 2,
                                                      .bytes_max = 1000,
                                                      .emit = sink_emit,
                                                      .context = sink};
    size_t at = 0;
    int status = 0;
    fm_process_answer_begin(&answer, &options);
    while (status == 0 && at < text->length) {
        void *place = NULL;
        size_t size = 0;
        fm_process_answer_place(&answer, &place, &size);
        if (size == 0) {
            break;
        }
        size = size < step ? size : step;
        size = size < text->length - at ? size : text->length - at;
        memcpy(place, text->data + at, size);
        status = fm_process_answer_advance(&answer, size);
        at += size;
    }
    *ret_used = at;
    return status;
}

static bool is_complete(void)
{
    void *place = NULL;
    size_t size = 0;
    fm_process_answer_place(&answer, &place, &size);
    return size == 0;
}

/* Where one element goes. */
struct copy {
    unsigned char *data;
    size_t size;
};

static int copy_emit(void *context, uint32_t port, const struct fm_tensor *like, void **ret_data)
{
    struct copy *copy = context;
    if (port != 0 || like->size != copy->size) {
        return FM_ELIMIT;
    }
    *ret_data = copy->data;
    return 0;
}

/* Only the head of a frame comes through the pipe. */
static int take_head(const struct fm_process_answer_options *options, const char *head)
{
    void *place = NULL;
    size_t size = 0;
    fm_process_answer_begin(&answer, options);
    fm_process_answer_place(&answer, &place, &size);
    memcpy(place, head, size < FM_PROCESS_HEAD_SIZE ? size : FM_PROCESS_HEAD_SIZE);
    return fm_process_answer_advance(&answer, size);
}

TEST(an_answer_in_pieces_of_every_size)
{
    struct fm_text body = good_body();
    struct fm_text text = frame("DONE", 7, &body);
    for (size_t step = 1; step <= text.length; step++) {
        struct sink sink = {0};
        size_t used = 0;
        CHECK_INT_EQ(feed(&sink, false, &text, step, &used), 0);
        CHECK(is_complete());
        CHECK_INT_EQ(used, text.length);
        CHECK_INT_EQ(answer.frame, FM_PROCESS_FRAME_ANSWER);
        CHECK_INT_EQ(answer.item_status, 0);
        CHECK_INT_EQ(answer.emitted, 4);
        CHECK_INT_EQ(sink.count, 4);
        CHECK_INT_EQ(sink.ports[0], 0);
        CHECK_INT_EQ(sink.ports[3], 1);
        CHECK_INT_EQ(sink.tensors[0].dtype, FM_DTYPE_FP32);
        CHECK_INT_EQ(sink.tensors[0].shape[0], 3);
        CHECK_NEAR(((float *)(void *)sink.bytes[0])[2], 3, 0);
        CHECK_INT_EQ(sink.tensors[1].size, 9);
        CHECK_MEM_EQ(sink.bytes[1], "\5\0\0\0hello", 9);
        CHECK_INT_EQ(sink.tensors[3].size, 0);
    }
    fm_text_deinit(&body);
    fm_text_deinit(&text);
}

TEST(an_item_in_memory_and_back)
{
    static const struct fm_port port = {
        .name = "x", .dtype = FM_DTYPE_UINT8, .rank = 1, .shape = {-1}};
    static unsigned char shared[65536];
    static unsigned char bytes[FM_PROCESS_MEMORY_MIN + 1];
    struct fm_tensor tensor = {.dtype = FM_DTYPE_UINT8,
                               .rank = 1,
                               .shape = {sizeof(bytes)},
                               .data = bytes,
                               .size = sizeof(bytes)};
    struct fm_tensor_list list = {.items = &tensor, .count = 1};
    struct fm_process_request request = {0};
    struct fm_process_memory memory = {.data = shared, .half = sizeof(shared)};
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (unsigned char)(i * 7);
    }
    CHECK_INT_EQ(fm_process_request_make(&request, 7, &list, 1), 0);
    struct fm_text whole = request_join(&request);
    /* One byte more than there is room for; then just enough. */
    memory.half = whole.length - FM_PROCESS_HEAD_SIZE - 1;
    fm_process_request_share(&request, &memory);
    CHECK_MEM_EQ(request.heads, "ITEM", 4);
    memory.half++;
    fm_process_request_share(&request, &memory);
    CHECK_INT_EQ(request.piece_count, 1);
    CHECK_INT_EQ(request.pieces[0].size, FM_PROCESS_HEAD_SIZE);
    CHECK_MEM_EQ(request.pieces[0].data, "IMEM", 4);
    CHECK_MEM_EQ((const char *)request.pieces[0].data + 4, whole.data + 4, 12);
    CHECK_MEM_EQ(shared, whole.data + FM_PROCESS_HEAD_SIZE, memory.half);
    /* The same bytes as an answer. */
    unsigned char got[sizeof(bytes)];
    struct copy copy = {.data = got, .size = sizeof(got)};
    const struct fm_process_answer_options options = {.id = 7,
                                                      .outputs = &port,
                                                      .output_count = 1,
                                                      .bytes_max = sizeof(shared),
                                                      .memory = memory,
                                                      .emit = copy_emit,
                                                      .context = &copy};
    memcpy(whole.data, "DMEM", 4);
    CHECK_INT_EQ(take_head(&options, whole.data), 0);
    CHECK(is_complete());
    CHECK_INT_EQ(answer.item_status, 0);
    CHECK_INT_EQ(answer.emitted, 1);
    CHECK_MEM_EQ(got, bytes, sizeof(bytes));
    /* What is wrong in it is the item's matter; more than there is, or none at all, is no frame. */
    shared[0] = 2;
    CHECK_INT_EQ(take_head(&options, whole.data), 0);
    CHECK(is_complete());
    CHECK_INT_EQ(answer.item_status, FM_ECORRUPT);
    struct fm_process_answer_options smaller = options;
    smaller.memory.half--;
    CHECK_INT_EQ(take_head(&smaller, whole.data), FM_ECORRUPT);
    CHECK_STR_CONTAINS(answer.error.text, "it should be a frame");
    smaller.memory = (struct fm_process_memory){0};
    CHECK_INT_EQ(take_head(&smaller, whole.data), FM_ECORRUPT);
    fm_text_deinit(&whole);
    fm_process_request_deinit(&request);
    /* What is small goes as it always did. */
    tensor.size = 8;
    tensor.shape[0] = 8;
    CHECK_INT_EQ(fm_process_request_make(&request, 8, &list, 1), 0);
    fm_process_request_share(&request, &options.memory);
    CHECK_MEM_EQ(request.heads, "ITEM", 4);
    fm_process_request_deinit(&request);
}

TEST(who_is_ready_says_whether_it_shares)
{
    static const char *const bodies[] = {"", "\1\0\0\0\0\0\0\0", "\2\0\0\0\0\0\0\0", "\1\0\0\0"};
    static const size_t sizes[] = {0, 8, 8, 4};
    for (size_t i = 0; i < 4; i++) {
        struct sink sink = {0};
        struct fm_text body = {0};
        size_t used = 0;
        fm_text_append(&body, bodies[i], sizes[i]);
        struct fm_text text = frame("REDY", 7, &body);
        CHECK_INT_EQ(feed(&sink, true, &text, 3, &used), 0);
        CHECK(is_complete());
        CHECK_INT_EQ(used, text.length);
        CHECK_INT_EQ(answer.shares, i == 1);
        fm_text_deinit(&body);
        fm_text_deinit(&text);
    }
}

/* The item fails with the words, and the whole frame was read. */
static void check_item(const char *kind, struct fm_text *take_body, int status, const char *words)
{
    struct fm_text text = frame(kind, 7, take_body);
    for (size_t step = 1; step <= text.length; step += step < 40 ? 1 : 50) {
        struct sink sink = {0};
        size_t used = 0;
        CHECK_INT_EQ(feed(&sink, false, &text, step, &used), 0);
        CHECK(is_complete());
        CHECK_INT_EQ(used, text.length);
        CHECK_INT_EQ(answer.item_status, status);
        CHECK_STR_CONTAINS(answer.error.text, words);
    }
    fm_text_deinit(take_body);
    fm_text_deinit(&text);
}

TEST(a_body_that_is_wrong_costs_its_item_only)
{
    const float numbers[3] = {1, 2, 3};
    struct fm_text good = good_body();
    size_t length = good.length;
    fm_text_deinit(&good);
    for (size_t size = 0; size < length; size += 8) {
        struct fm_text body = good_body();
        body.length = size;
        check_item("DONE", &body, FM_ECORRUPT, "its answer");
        if (fm_test_failed) {
            return;
        }
    }
    struct fm_text body = good_body();
    put(&body, 0, 8);
    check_item("DONE", &body, FM_ECORRUPT, "8 bytes behind its last output");
    put(&body, 2, 8);
    put_tensor(&body, FM_DTYPE_FP32, 3, numbers, 12);
    check_item("DONE", &body, FM_ECORRUPT, "2 elements for output 'y'");
    put(&body, 1, 8);
    put_tensor(&body, 99, 3, numbers, 12);
    check_item("DONE", &body, FM_ECORRUPT, "the data type 99");
    put(&body, 1, 8);
    put_tensor(&body, FM_DTYPE_FP32, 4, numbers, 12);
    check_item("DONE", &body, FM_ECORRUPT, "12 bytes for output 'y', but FP32[4] has 16");
    put(&body, 1, 8);
    put_tensor(&body, FM_DTYPE_FP32, -4, numbers, 12);
    check_item("DONE", &body, FM_ECORRUPT, "impossible shape [-4]");
    put(&body, 1, 8);
    put_tensor(&body, FM_DTYPE_FP32, INT64_MAX, numbers, 12);
    check_item("DONE", &body, FM_ECORRUPT, "impossible shape");
    put(&body, 1, 8);
    put(&body, FM_DTYPE_FP32, 4);
    put(&body, FM_RANK_MAX + 1, 4);
    put(&body, 0, 8);
    check_item("DONE", &body, FM_ECORRUPT, "17 dimensions");
    put(&body, 1, 8);
    put(&body, FM_DTYPE_BYTES, 4);
    put(&body, 1, 4);
    put(&body, 1, 8);
    put(&body, UINT64_MAX, 8);
    check_item("DONE", &body, FM_ECORRUPT, "but its frame has only 0 left");
}

TEST(a_failing_emit_keeps_its_own_words)
{
    struct fm_text body = good_body();
    struct fm_text text = frame("DONE", 7, &body);
    for (uint32_t i = 0; i < 4; i++) {
        struct sink sink = {.status = FM_ENOMEM, .fail_at = i};
        size_t used = 0;
        CHECK_INT_EQ(feed(&sink, false, &text, 5, &used), 0);
        CHECK(is_complete());
        CHECK_INT_EQ(used, text.length);
        CHECK_INT_EQ(answer.item_status, FM_ENOMEM);
        CHECK_INT_EQ(answer.emitted, i);
        CHECK_INT_EQ(answer.error.status, 0);
    }
    fm_text_deinit(&body);
    fm_text_deinit(&text);
}

TEST(words_of_a_failure)
{
    static const struct {
        const char *given;
        const char *kept;
    } cases[] = {{"", ""},
                 {"no such word", "no such word"},
                 {"two\nlines\x7f", "two?lines?"},
                 {"\xc3\xa9t\xc3\xa9 \xff!", "\xc3\xa9t\xc3\xa9 ?!"}};
    struct sink sink = {0};
    size_t used = 0;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fm_text body = {0};
        fm_text_append_string(&body, cases[i].given);
        struct fm_text text = frame("FAIL", 7, &body);
        for (size_t step = 1; step < 20; step++) {
            CHECK_INT_EQ(feed(&sink, false, &text, step, &used), 0);
            CHECK(is_complete());
            CHECK_INT_EQ(answer.frame, FM_PROCESS_FRAME_FAIL);
            CHECK_STR_EQ(answer.words, cases[i].kept);
            CHECK_INT_EQ(feed(&sink, true, &text, step, &used), 0);
            CHECK_INT_EQ(answer.frame, FM_PROCESS_FRAME_FAIL);
        }
        fm_text_deinit(&body);
        fm_text_deinit(&text);
    }
    struct fm_text body = {0};
    for (int i = 0; i < 999; i++) {
        fm_text_append_char(&body, 'w');
    }
    struct fm_text text = frame("FAIL", 7, &body);
    CHECK_INT_EQ(feed(&sink, false, &text, 100, &used), 0);
    CHECK_INT_EQ(used, text.length);
    CHECK_INT_EQ(strlen(answer.words), FM_PROCESS_WORDS_BYTES_MAX);
    fm_text_deinit(&body);
    fm_text_deinit(&text);
}

static void check_frame(bool starting, const char *kind, uint32_t id, size_t body_size, int status,
                        const char *words)
{
    struct sink sink = {0};
    size_t used = 0;
    struct fm_text body = {0};
    for (size_t i = 0; i < body_size; i++) {
        fm_text_append_char(&body, 'x');
    }
    struct fm_text text = frame(kind, id, &body);
    CHECK_INT_EQ(feed(&sink, starting, &text, 3, &used), status);
    CHECK_STR_CONTAINS(answer.error.text, words);
    CHECK(status == 0 || used == 16);
    fm_text_deinit(&body);
    fm_text_deinit(&text);
}

TEST(what_is_no_frame)
{
    check_frame(false, "Hell", 7, 0, FM_ECORRUPT, "it wrote 'Hell' where a frame DONE or FAIL");
    check_frame(true, "\x1b[0m", 7, 0, FM_ECORRUPT, "it wrote '?[0m' where a frame REDY");
    check_frame(false, "REDY", 7, 0, FM_ECORRUPT, "where a frame DONE");
    check_frame(true, "DONE", 7, 0, FM_ECORRUPT, "where a frame REDY");
    check_frame(false, "DONE", 8, 0, FM_ECORRUPT, "it answered item 8, but item 7");
    check_frame(false, "FAIL", 0, 0, FM_ECORRUPT, "it answered item 0");
    check_frame(false, "DONE", 7, 1001, FM_ETOOLARGE, "more than 1000; raise 'answer_bytes'");
    check_frame(false, "FAIL", 7, 1000, 0, "");
    check_frame(true, "REDY", 7, 0, 0, "");
    /* For later versions: what a program says of itself. */
    check_frame(true, "REDY", 7, 900, 0, "");
    CHECK_INT_EQ(answer.frame, FM_PROCESS_FRAME_READY);
}

TEST_MAIN()
