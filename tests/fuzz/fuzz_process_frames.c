/*
 * Fuzzes the reader of answers of `process` operators: any bytes, in pieces of any size, give
 * tensors that hold together, or a failure with words; never more than the frame says is read; and
 * the pieces do not matter.
 *
 * Input: one byte that says the size of pieces and whether the program starts, then what it writes.
 */
#include <string.h>

#include "core/proto/process_frames.h"
#include "core/tensor/tensor.h"
#include "core/util/hash.h"
#include "core/util/memory.h"
#include "tests/fuzz/check.h"

enum { BYTES_MAX = 1 << 16, ITEM = 7 };

static const struct fm_port outputs[] = {
    {.name = "y", .dtype = FM_DTYPE_FP32, .rank = 1, .shape = {-1}},
    {.name = "lines", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}, .flags = FM_PORT_MANY},
};

/* What came out, in a form that can be compared. */
struct sink {
    uint64_t hash;
    unsigned char *last; /* the latest element's bytes, to be hashed when they are there */
    size_t last_size;
};

static void last_hash(struct sink *sink)
{
    if (sink->last != NULL) {
        sink->hash = fm_hash_add(sink->hash, sink->last, sink->last_size);
        fm_free(sink->last);
        sink->last = NULL;
    }
}

static int sink_emit(void *context, uint32_t port, const struct fm_tensor *like, void **ret_data)
{
    struct sink *sink = context;
    size_t size = 0;
    last_hash(sink);
    FUZZ_CHECK(port < 2 && like->rank <= FM_RANK_MAX && like->size <= BYTES_MAX);
    FUZZ_CHECK(like->dtype == FM_DTYPE_BYTES ||
               (fm_tensor_bytes(like->dtype, like->shape, like->rank, &size) == 0 &&
                size == like->size && !fm_fuzz_canary));
    sink->last = fm_alloc_zero(1, like->size + 1);
    sink->last_size = like->size;
    if (sink->last == NULL || (like->rank > 0 && like->shape[0] == 99)) {
        return FM_ENOMEM;
    }
    *ret_data = sink->last;
    sink->hash = fm_hash_add(sink->hash, like->shape, like->rank * sizeof(like->shape[0]));
    return 0;
}

/* Returns the hash of all that can be seen. */
static uint64_t read_all(const uint8_t *data, size_t size, bool starting, size_t step)
{
    static struct fm_process_answer answer;
    struct sink sink = {.hash = FM_HASH_START};
    const struct fm_process_answer_options options = {.starting = starting,
                                                      .id = ITEM,
                                                      .outputs = outputs,
                                                      .output_count = 2,
                                                      .bytes_max = BYTES_MAX,
                                                      .emit = sink_emit,
                                                      .context = &sink};
    size_t at = 0;
    size_t wanted = 1;
    int status = 0;
    fm_process_answer_begin(&answer, &options);
    for (;;) {
        void *place = NULL;
        fm_process_answer_place(&answer, &place, &wanted);
        size_t part = wanted < step ? wanted : step;
        part = part < size - at ? part : size - at;
        if (part == 0) {
            break;
        }
        memcpy(place, data + at, part);
        at += part;
        status = fm_process_answer_advance(&answer, part);
        if (status != 0) {
            FUZZ_CHECK((status == FM_ECORRUPT || status == FM_ETOOLARGE) && at == 16);
            FUZZ_CHECK(answer.error.status == status && answer.error.text[0] != '\0');
            break;
        }
    }
    if (status == 0 && wanted == 0) {
        uint64_t body = 0;
        memcpy(&body, data + 8, sizeof(body));
        FUZZ_CHECK(at == 16 + body);
        FUZZ_CHECK(strlen(answer.words) <= FM_PROCESS_WORDS_BYTES_MAX);
        FUZZ_CHECK(answer.item_status == 0 || answer.item_status == FM_ENOMEM ||
                   answer.error.text[0] != '\0');
        FUZZ_CHECK(!starting || answer.emitted == 0);
    }
    last_hash(&sink);
    uint64_t hash = fm_hash_add(sink.hash, &status, sizeof(status));
    hash = fm_hash_add(hash, &at, sizeof(at));
    hash = fm_hash_add(hash, answer.error.text, strlen(answer.error.text));
    hash = fm_hash_add(hash, answer.words, strlen(answer.words));
    hash = fm_hash_add(hash, &answer.item_status, sizeof(answer.item_status));
    return fm_hash_add(hash, &answer.emitted, sizeof(answer.emitted));
}

/* Only the head comes through the pipe: what comes out is the same. */
static void read_memory(const uint8_t *data, size_t size)
{
    static struct fm_process_answer whole;
    static struct fm_process_answer shared;
    uint64_t body = 0;
    memcpy(&body, data + 8, sizeof(body));
    if (memcmp(data, "DONE", 4) != 0 || body > size - FM_PROCESS_HEAD_SIZE) {
        return;
    }
    struct sink sinks[2] = {{.hash = FM_HASH_START}, {.hash = FM_HASH_START}};
    struct fm_process_answer *answers[2] = {&whole, &shared};
    for (int i = 0; i < 2; i++) {
        uint8_t *copy = fm_alloc(size);
        FUZZ_CHECK(copy != NULL);
        memcpy(copy, data, size);
        memcpy(copy, i == 0 ? "DONE" : "DMEM", 4);
        const struct fm_process_answer_options options = {
            .id = ITEM,
            .outputs = outputs,
            .output_count = 2,
            .bytes_max = BYTES_MAX,
            .memory = {.data = copy + FM_PROCESS_HEAD_SIZE, .half = (size_t)body},
            .emit = sink_emit,
            .context = &sinks[i]};
        void *place = NULL;
        size_t wanted = 0;
        int status = 0;
        fm_process_answer_begin(answers[i], &options);
        for (size_t at = 0; status == 0; at += wanted) {
            fm_process_answer_place(answers[i], &place, &wanted);
            if (wanted == 0) {
                break;
            }
            FUZZ_CHECK(i == 0 || at == 0);
            memcpy(place, copy + at, wanted);
            status = fm_process_answer_advance(answers[i], wanted);
        }
        last_hash(&sinks[i]);
        fm_free(copy);
    }
    FUZZ_CHECK(sinks[0].hash == sinks[1].hash && whole.emitted == shared.emitted &&
               whole.item_status == shared.item_status &&
               strcmp(whole.error.text, shared.error.text) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    bool starting = data[0] % 2 == 1;
    uint64_t whole = read_all(data + 1, size - 1, starting, SIZE_MAX);
    FUZZ_CHECK(read_all(data + 1, size - 1, starting, 1u + data[0] / 2u) == whole);
    if (size > FM_PROCESS_HEAD_SIZE) {
        read_memory(data + 1, size - 1);
    }
    return 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}

static void put(struct fm_text *text, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        fm_text_append_char(text, (char)(value >> (8 * i)));
    }
}

static void put_tensor(struct fm_text *text, uint32_t dtype, uint64_t dimension, size_t size)
{
    put(text, dtype, 4);
    put(text, 1, 4);
    put(text, dimension, 8);
    put(text, size, 8);
    put(text, size - 4, 8);
    for (size_t i = 8; i < (size + 7) / 8 * 8; i++) {
        put(text, i, 1);
    }
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char *const kinds[] = {"DONE", "FAIL", "REDY", "Hell", "DONE", "DONE"};
    struct fm_text body = {0};
    struct fm_text text = {0};
    if (index >= sizeof(kinds) / sizeof(kinds[0])) {
        return 0;
    }
    if (index == 1) {
        fm_text_append_string(&body, "no such w\xc3\xb6rd\n");
    } else if (index != 2) {
        put(&body, 1, 8);
        put_tensor(&body, FM_DTYPE_FP32, index == 5 ? 99 : 4, 16);
        put(&body, index == 4 ? 3 : 2, 8);
        put_tensor(&body, FM_DTYPE_BYTES, 1, 9);
        put_tensor(&body, FM_DTYPE_BYTES, 1, 12);
    }
    put(&text, index == 2 ? 3 : 10, 1);
    fm_text_append(&text, kinds[index], 4);
    put(&text, ITEM, 4);
    put(&text, body.length, 8);
    fm_text_append(&text, body.data, body.length);
    fm_text_deinit(&body);
    return fm_fuzz_bytes(&text, data, capacity);
}
