/*
 * Frames to and from programs. See process_frames.h.
 *
 * HOW IT WORKS. The reader is a machine of states, each of which wants a number of bytes at a
 * place: the head of the frame, the number of elements of a port, the head of a tensor, its shape
 * and size, its bytes (straight to where they stay), what fills it up to 8. A body is never read
 * beyond its size: what is wrong inside it makes the rest of it be skipped, and the next frame
 * begins where it should.
 */
#include "core/proto/process_frames.h"

#include <inttypes.h>
#include <string.h>

#include "core/tensor/tensor.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"

enum { ALIGNMENT = 8, COUNT_SIZE = 8, TENSOR_HEAD_SIZE = 8, SIZE_SIZE = 8, READY_SIZE = 8 };

enum {
    STATE_FRAME,
    STATE_COUNT,
    STATE_TENSOR,
    STATE_SHAPE,
    STATE_DATA,
    STATE_FILL,
    STATE_WORDS,
    STATE_READY,
    STATE_SKIP,
    STATE_END,
};

/* --- Writing --- */

static void put_32(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (unsigned char)(value >> (8 * i));
    }
}

static void put_64(unsigned char *at, uint64_t value)
{
    put_32(at, (uint32_t)value);
    put_32(at + 4, (uint32_t)(value >> 32));
}

static void head_put(unsigned char *at, const char *kind, uint32_t id, uint64_t size)
{
    memcpy(at, kind, 4);
    put_32(at + 4, id);
    put_64(at + 8, size);
}

static size_t fill_of(size_t size)
{
    return (ALIGNMENT - size % ALIGNMENT) % ALIGNMENT;
}

static void ports_put(struct fm_text *text, const char *side, const struct fm_port *ports,
                      uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        fm_text_append_format(text, "%s %s %s %s", side, ports[i].name,
                              fm_dtype_name(ports[i].dtype),
                              (ports[i].flags & FM_PORT_MANY) != 0       ? "many"
                              : (ports[i].flags & FM_PORT_OPTIONAL) != 0 ? "optional"
                                                                         : "one");
        for (int32_t j = 0; j < ports[i].rank; j++) {
            fm_text_append_format(text, " %lld", (long long)ports[i].shape[j]);
        }
        fm_text_append_char(text, '\n');
    }
}

void fm_process_hello(struct fm_text *text, const char *stage, const struct fm_port *inputs,
                      uint32_t input_count, const struct fm_port *outputs, uint32_t output_count,
                      size_t memory_half)
{
    size_t start = text->length;
    (void)fm_text_reserve(text, FM_PROCESS_HEAD_SIZE);
    fm_text_append_format(text, "fermata-process %d\nstage %s\n", FM_PROCESS_VERSION, stage);
    ports_put(text, "input", inputs, input_count);
    ports_put(text, "output", outputs, output_count);
    if (memory_half > 0) {
        fm_text_append_format(text, "memory %zu\n", memory_half);
    }
    if (!text->failed) {
        head_put((unsigned char *)text->data + start, "HELO", 0,
                 text->length - start - FM_PROCESS_HEAD_SIZE);
    }
}

/* What the heads and fillings of the item take, how many tensors it has, and the frame's body. */
static void request_measure(const struct fm_tensor_list *inputs, uint32_t input_count,
                            size_t *ret_heads, size_t *ret_tensors, uint64_t *ret_body)
{
    size_t heads = FM_PROCESS_HEAD_SIZE;
    size_t tensors = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < input_count; i++) {
        heads += COUNT_SIZE;
        tensors += inputs[i].count;
        for (size_t j = 0; j < inputs[i].count; j++) {
            const struct fm_tensor *tensor = &inputs[i].items[j];
            heads += TENSOR_HEAD_SIZE + ALIGNMENT * (size_t)tensor->rank + SIZE_SIZE +
                     fill_of(tensor->size);
            bytes += tensor->size;
        }
    }
    *ret_heads = heads;
    *ret_tensors = tensors;
    *ret_body = heads - FM_PROCESS_HEAD_SIZE + bytes;
}

static int request_reserve(struct fm_process_request *request, size_t heads, size_t pieces)
{
    if (heads > request->heads_capacity) {
        unsigned char *memory = fm_realloc(request->heads, heads);
        if (memory == NULL) {
            return FM_ENOMEM;
        }
        request->heads = memory;
        request->heads_capacity = heads;
    }
    if (pieces > request->piece_capacity) {
        struct fm_process_piece *memory = fm_realloc(request->pieces, pieces * sizeof(memory[0]));
        if (memory == NULL) {
            return FM_ENOMEM;
        }
        request->pieces = memory;
        request->piece_capacity = pieces;
    }
    return 0;
}

static unsigned char *tensor_head_put(unsigned char *at, const struct fm_tensor *tensor)
{
    put_32(at, tensor->dtype);
    put_32(at + 4, tensor->rank);
    at += TENSOR_HEAD_SIZE;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        put_64(at, (uint64_t)tensor->shape[i]);
        at += ALIGNMENT;
    }
    put_64(at, tensor->size);
    return at + SIZE_SIZE;
}

static void piece_add(struct fm_process_request *request, const void *data, size_t size)
{
    if (size > 0) {
        FM_ASSERT(request->piece_count < request->piece_capacity);
        request->pieces[request->piece_count++] = (struct fm_process_piece){data, size};
    }
}

int fm_process_request_make(struct fm_process_request *request, uint32_t id,
                            const struct fm_tensor_list *inputs, uint32_t input_count)
{
    size_t heads = 0;
    size_t tensors = 0;
    uint64_t body = 0;
    request_measure(inputs, input_count, &heads, &tensors, &body);
    int status = request_reserve(request, heads, 2 * tensors + 1);
    if (status != 0) {
        return status;
    }
    unsigned char *at = request->heads;
    const unsigned char *from = at; /* of the piece of heads that has not been added yet */
    request->piece_count = 0;
    head_put(at, "ITEM", id, body);
    at += FM_PROCESS_HEAD_SIZE;
    for (uint32_t i = 0; i < input_count; i++) {
        put_64(at, inputs[i].count);
        at += COUNT_SIZE;
        for (size_t j = 0; j < inputs[i].count; j++) {
            const struct fm_tensor *tensor = &inputs[i].items[j];
            at = tensor_head_put(at, tensor);
            piece_add(request, from, (size_t)(at - from));
            piece_add(request, tensor->data, tensor->size);
            from = at;
            memset(at, 0, fill_of(tensor->size));
            at += fill_of(tensor->size);
        }
    }
    piece_add(request, from, (size_t)(at - from));
    FM_ASSERT((size_t)(at - request->heads) == heads);
    return 0;
}

void fm_process_request_share(struct fm_process_request *request,
                              const struct fm_process_memory *memory)
{
    uint64_t body = 0;
    for (size_t i = 0; i < request->piece_count; i++) {
        body += request->pieces[i].size;
    }
    body -= FM_PROCESS_HEAD_SIZE;
    if (body < FM_PROCESS_MEMORY_MIN || body > memory->half) {
        return;
    }
    unsigned char *at = memory->data;
    for (size_t i = 0; i < request->piece_count; i++) {
        size_t skip = i == 0 ? FM_PROCESS_HEAD_SIZE : 0;
        const unsigned char *data = request->pieces[i].data;
        memcpy(at, data + skip, request->pieces[i].size - skip);
        at += request->pieces[i].size - skip;
    }
    memcpy(request->heads, "IMEM", 4);
    request->pieces[0].size = FM_PROCESS_HEAD_SIZE;
    request->piece_count = 1;
}

void fm_process_request_deinit(struct fm_process_request *request)
{
    fm_free(request->heads);
    fm_free(request->pieces);
    *request = (struct fm_process_request){0};
}

/* --- Reading --- */

static uint32_t get_32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t get_64(const unsigned char *at)
{
    return (uint64_t)get_32(at) | (uint64_t)get_32(at + 4) << 32;
}

static void want_head(struct fm_process_answer *answer, int state, size_t size)
{
    answer->state = state;
    answer->head_size = size;
    answer->at = 0;
}

void fm_process_answer_begin(struct fm_process_answer *answer,
                             const struct fm_process_answer_options *options)
{
    answer->options = *options;
    answer->item_status = 0;
    fm_error_init(&answer->error);
    answer->words[0] = '\0';
    answer->words_size = 0;
    answer->emitted = 0;
    answer->shares = false;
    answer->in_memory = false;
    answer->left = 0;
    answer->port = 0;
    answer->elements = 0;
    want_head(answer, STATE_FRAME, FM_PROCESS_HEAD_SIZE);
}

/* The item has failed: what is left of its frame is read and forgotten. */
static void item_fail(struct fm_process_answer *answer, int status)
{
    answer->item_status = status;
    answer->state = answer->left > 0 ? STATE_SKIP : STATE_END;
}

static void item_fail_short(struct fm_process_answer *answer, const char *where)
{
    item_fail(answer,
              fm_error_set(&answer->error, FM_ECORRUPT,
                           "its answer ends in %s of output '%s' (%" PRIu64 " bytes are left)",
                           where, answer->options.outputs[answer->port].name, answer->left));
}

/* What comes next where a port may begin. */
static void port_next(struct fm_process_answer *answer)
{
    if (answer->port < answer->options.output_count) {
        if (answer->left < COUNT_SIZE) {
            item_fail_short(answer, "the number of elements");
        } else {
            want_head(answer, STATE_COUNT, COUNT_SIZE);
        }
    } else if (answer->left > 0) {
        item_fail(answer, fm_error_set(&answer->error, FM_ECORRUPT,
                                       "its answer has %" PRIu64 " bytes behind its last output",
                                       answer->left));
    } else {
        answer->state = STATE_END;
    }
}

/* What comes next where a tensor may begin. */
static void element_next(struct fm_process_answer *answer)
{
    if (answer->elements == 0) {
        answer->port++;
        port_next(answer);
    } else if (answer->left < TENSOR_HEAD_SIZE) {
        item_fail_short(answer, "an element");
    } else {
        want_head(answer, STATE_TENSOR, TENSOR_HEAD_SIZE);
    }
}

static void data_next(struct fm_process_answer *answer)
{
    answer->elements--;
    answer->at = 0;
    size_t fill = fill_of(answer->tensor.size);
    if (answer->left < fill) {
        item_fail_short(answer, "what fills an element up to 8 bytes");
    } else if (fill > 0) {
        want_head(answer, STATE_FILL, fill);
    } else {
        element_next(answer);
    }
}

/* The four bytes as somebody can read them. */
static const char *kind_show(const unsigned char *kind, char text[8])
{
    for (int i = 0; i < 4; i++) {
        text[i] = kind[i] > ' ' && kind[i] < 127 ? (char)kind[i] : '?';
    }
    text[4] = '\0';
    return text;
}

static int frame_head(struct fm_process_answer *answer)
{
    char shown[8];
    const unsigned char *head = answer->head;
    bool starting = answer->options.starting;
    uint32_t id = get_32(head + 4);
    answer->left = get_64(head + 8);
    if (memcmp(head, "FAIL", 4) == 0) {
        answer->frame = FM_PROCESS_FRAME_FAIL;
    } else if (starting && memcmp(head, "REDY", 4) == 0) {
        answer->frame = FM_PROCESS_FRAME_READY;
    } else if (!starting && (memcmp(head, "DONE", 4) == 0 || memcmp(head, "DMEM", 4) == 0)) {
        answer->frame = FM_PROCESS_FRAME_ANSWER;
        answer->in_memory = head[1] == 'M';
    } else {
        return fm_error_set(&answer->error, FM_ECORRUPT,
                            "it wrote '%s' where a frame %s or FAIL was expected; standard output "
                            "is for frames only, messages belong on standard error",
                            kind_show(head, shown), starting ? "REDY" : "DONE");
    }
    if (id != answer->options.id) {
        return fm_error_set(&answer->error, FM_ECORRUPT,
                            "it answered item %" PRIu32 ", but item %" PRIu32 " was asked for", id,
                            answer->options.id);
    }
    if (answer->left > answer->options.bytes_max) {
        return fm_error_set(&answer->error, FM_ETOOLARGE,
                            "its answer has %" PRIu64 " bytes, which is more than %" PRIu64
                            "; raise 'answer_bytes' if that is right",
                            answer->left, answer->options.bytes_max);
    }
    if (answer->in_memory && answer->left > answer->options.memory.half) {
        return fm_error_set(&answer->error, FM_ECORRUPT,
                            "its answer has %" PRIu64
                            " bytes in memory of which it shares %zu: it should be a frame",
                            answer->left, answer->options.memory.half);
    }
    if (answer->frame == FM_PROCESS_FRAME_ANSWER) {
        port_next(answer);
    } else if (answer->frame == FM_PROCESS_FRAME_READY && answer->left == READY_SIZE) {
        want_head(answer, STATE_READY, READY_SIZE);
    } else {
        answer->at = 0;
        answer->state = answer->left == 0                        ? STATE_END
                        : answer->frame == FM_PROCESS_FRAME_FAIL ? STATE_WORDS
                                                                 : STATE_SKIP;
    }
    return 0;
}

static void port_head(struct fm_process_answer *answer)
{
    const struct fm_port *port = &answer->options.outputs[answer->port];
    answer->elements = get_64(answer->head);
    if ((port->flags & FM_PORT_MANY) == 0 && answer->elements != 1) {
        item_fail(answer, fm_error_set(&answer->error, FM_ECORRUPT,
                                       "its answer has %" PRIu64
                                       " elements for output '%s', which takes one",
                                       answer->elements, port->name));
        return;
    }
    element_next(answer);
}

static void tensor_head(struct fm_process_answer *answer)
{
    const char *name = answer->options.outputs[answer->port].name;
    answer->tensor =
        (struct fm_tensor){.dtype = get_32(answer->head), .rank = get_32(answer->head + 4)};
    if (answer->tensor.dtype == FM_DTYPE_INVALID || answer->tensor.dtype >= FM_DTYPE_COUNT_ ||
        answer->tensor.rank > FM_RANK_MAX) {
        item_fail(answer, fm_error_set(&answer->error, FM_ECORRUPT,
                                       "its answer gives output '%s' the data type %" PRIu32
                                       " and %" PRIu32 " dimensions; there are types 1 to %d, and "
                                       "at most %d dimensions",
                                       name, answer->tensor.dtype, answer->tensor.rank,
                                       FM_DTYPE_COUNT_ - 1, FM_RANK_MAX));
        return;
    }
    size_t size = ALIGNMENT * (size_t)answer->tensor.rank + SIZE_SIZE;
    if (answer->left < size) {
        item_fail_short(answer, "the shape");
    } else {
        want_head(answer, STATE_SHAPE, size);
    }
}

/* Where the size does not go with the shape, or with the frame. */
static int size_check(struct fm_process_answer *answer, uint64_t size)
{
    struct fm_tensor *tensor = &answer->tensor;
    const char *name = answer->options.outputs[answer->port].name;
    char shape[160];
    size_t wanted = 0;
    uint64_t elements = 0;
    int status = tensor->dtype == FM_DTYPE_BYTES
                     ? fm_shape_element_count(tensor->shape, tensor->rank, &elements)
                     : fm_tensor_bytes(tensor->dtype, tensor->shape, tensor->rank, &wanted);
    (void)fm_shape_format(tensor->shape, tensor->rank, shape, sizeof(shape));
    if (status != 0) {
        return fm_error_set(&answer->error, FM_ECORRUPT,
                            "its answer gives output '%s' the impossible shape %s", name, shape);
    }
    if (tensor->dtype != FM_DTYPE_BYTES && size != wanted) {
        return fm_error_set(&answer->error, FM_ECORRUPT,
                            "its answer has %" PRIu64 " bytes for output '%s', but %s%s has %zu",
                            size, name, fm_dtype_name(tensor->dtype), shape, wanted);
    }
    if (size > answer->left) {
        return fm_error_set(&answer->error, FM_ECORRUPT,
                            "its answer has %" PRIu64 " bytes for output '%s', but its frame has "
                            "only %" PRIu64 " left",
                            size, name, answer->left);
    }
    return 0;
}

static void shape_head(struct fm_process_answer *answer)
{
    struct fm_tensor *tensor = &answer->tensor;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        tensor->shape[i] = (int64_t)get_64(answer->head + ALIGNMENT * (size_t)i);
    }
    uint64_t size = get_64(answer->head + ALIGNMENT * (size_t)tensor->rank);
    void *data = NULL;
    int status = size_check(answer, size);
    if (status == 0) {
        tensor->size = (size_t)size;
        status = answer->options.emit(answer->options.context, answer->port, tensor, &data);
        answer->emitted += status == 0 ? 1 : 0;
    }
    if (status != 0) {
        item_fail(answer, status);
        return;
    }
    answer->data = data;
    answer->at = 0;
    answer->state = STATE_DATA;
    if (tensor->size == 0) {
        data_next(answer);
    }
}

void fm_process_answer_place(struct fm_process_answer *answer, void **ret_data, size_t *ret_size)
{
    switch (answer->state) {
    case STATE_DATA:
        *ret_data = answer->data + answer->at;
        *ret_size = answer->tensor.size - answer->at;
        break;
    case STATE_WORDS:
    case STATE_SKIP:
        *ret_data = answer->scratch;
        *ret_size =
            answer->left < sizeof(answer->scratch) ? (size_t)answer->left : sizeof(answer->scratch);
        break;
    case STATE_END:
        *ret_data = NULL;
        *ret_size = 0;
        break;
    default:
        *ret_data = answer->head + answer->at;
        *ret_size = answer->head_size - answer->at;
        break;
    }
}

/* Keeps what there is room for; what is no UTF-8 and control characters become '?'. */
static void words_end(struct fm_process_answer *answer)
{
    size_t size = answer->words_size;
    for (size_t i = 0; i < size;) {
        size_t step = fm_utf8_sequence(answer->words + i, size - i);
        if (step == 0 || (unsigned char)answer->words[i] < ' ' || answer->words[i] == 127) {
            answer->words[i] = '?';
            step = 1;
        }
        i += step;
    }
    answer->words[size] = '\0';
}

static void words_add(struct fm_process_answer *answer, size_t size)
{
    size_t room = FM_PROCESS_WORDS_BYTES_MAX - answer->words_size;
    size_t kept = size < room ? size : room;
    memcpy(answer->words + answer->words_size, answer->scratch, kept);
    answer->words_size += kept;
    if (answer->left == 0) {
        answer->state = STATE_END;
    }
}

/* A head has come as a whole. */
static int head_done(struct fm_process_answer *answer)
{
    switch (answer->state) {
    case STATE_FRAME:
        return frame_head(answer);
    case STATE_COUNT:
        port_head(answer);
        break;
    case STATE_TENSOR:
        tensor_head(answer);
        break;
    case STATE_SHAPE:
        shape_head(answer);
        break;
    case STATE_READY:
        answer->shares = (answer->head[0] & 1) != 0;
        answer->state = STATE_END;
        break;
    default:
        element_next(answer);
        break;
    }
    return 0;
}

static int step(struct fm_process_answer *answer, size_t size)
{
    int status = 0;
    FM_ASSERT(answer->state != STATE_END);
    answer->at += size;
    if (answer->state != STATE_FRAME) {
        FM_ASSERT(size <= answer->left);
        answer->left -= size;
    }
    if (answer->state == STATE_WORDS) {
        words_add(answer, size);
    } else if (answer->state == STATE_SKIP) {
        answer->state = answer->left == 0 ? STATE_END : STATE_SKIP;
    } else if (answer->state == STATE_DATA) {
        if (answer->at == answer->tensor.size) {
            data_next(answer);
        }
    } else if (answer->at == answer->head_size) {
        status = head_done(answer);
    }
    if (answer->state == STATE_END && answer->frame == FM_PROCESS_FRAME_FAIL) {
        words_end(answer);
    }
    return status;
}

/* The body as if it came through the pipe. Every part is copied before it is looked at: a program
 * that changes it meanwhile spoils its own answer only. */
static void memory_read(struct fm_process_answer *answer)
{
    const unsigned char *at = answer->options.memory.data;
    void *place = NULL;
    size_t wanted = 0;
    for (;;) {
        fm_process_answer_place(answer, &place, &wanted);
        if (wanted == 0) {
            return;
        }
        memcpy(place, at, wanted);
        at += wanted;
        /* Behind a frame's head nothing can go wrong but the item. */
        int status = step(answer, wanted);
        FM_ASSERT(status == 0);
    }
}

int fm_process_answer_advance(struct fm_process_answer *answer, size_t size)
{
    int status = step(answer, size);
    if (status == 0 && answer->in_memory) {
        memory_read(answer);
    }
    return status;
}
