/*
 * Remembered JSON of requests and answers. See oip_memo.h. Pure.
 *
 * HOW IT WORKS: a head that was read with success is kept without its id, which has to be its first
 * member and free of escapes: {"id":"...", and the rest. A request whose rest is the same bytes
 * says the same. The same for answers: what is behind the id depends on the request's head and on
 * the outputs' types, shapes and sizes.
 */
#include "core/proto/oip_memo.h"

#include <string.h>

#include "core/proto/oip_internal.h"
#include "core/util/memory.h"

/* What stands in front of an id. */
#define ID_FRONT        "{\"id\":\""
#define ID_FRONT_LENGTH (sizeof(ID_FRONT) - 1)

struct fm_oip_seen {
    uint64_t number; /* of all that were remembered for the model */
    bool has_id;
    size_t size; /* of the tensors behind the JSON */
    uint64_t timeout_us;
    uint64_t priority;
    uint32_t rows;
    uint32_t input_count;
    uint32_t output_count;
    uint8_t ports[FM_OIP_MEMO_PORTS_MAX];                /* of the inputs, as their bytes lie */
    struct fm_oip_output outputs[FM_OIP_MEMO_PORTS_MAX]; /* without regions */
    bool answer_fits;                                    /* such answers can be remembered */
    struct fm_text answer;                               /* behind the id; empty: none yet */
    char *text;                                          /* behind the id */
    size_t text_length;
    struct fm_tensor *answers; /* shapes; data is not used */
    struct fm_tensor inputs[]; /* likewise; behind them the answers' and the text */
};

/* A text in front of which an id may stand. */
struct split {
    const char *id; /* NULL: none */
    size_t id_length;
    const char *rest;
    size_t rest_length;
};

/* False: an id that has to be read to be understood. */
static bool split_make(const char *text, size_t length, struct split *ret_split)
{
    *ret_split = (struct split){.rest = text, .rest_length = length};
    if (length < ID_FRONT_LENGTH || memcmp(text, ID_FRONT, ID_FRONT_LENGTH) != 0) {
        return true;
    }
    const char *id = text + ID_FRONT_LENGTH;
    size_t most = length - ID_FRONT_LENGTH;
    most = most <= FM_OIP_ID_BYTES_MAX ? most : FM_OIP_ID_BYTES_MAX;
    size_t end = 0;
    while (end < most && id[end] != '"') {
        if (id[end] < 0x20 || id[end] >= 0x7F || id[end] == '\\') {
            return false;
        }
        end++;
    }
    *ret_split = (struct split){id, end, id + end, length - ID_FRONT_LENGTH - end};
    return end > 0 && end < most;
}

static void seen_free(struct fm_oip_seen *seen)
{
    if (seen != NULL) {
        fm_text_deinit(&seen->answer);
        fm_free(seen);
    }
}

void fm_oip_memo_deinit(struct fm_oip_memo *memo)
{
    for (size_t i = 0; i < FM_OIP_MEMO_HEADS; i++) {
        seen_free(memo->heads[i]);
    }
    *memo = (struct fm_oip_memo){0};
}

/* --- requests --- */

static struct fm_oip_seen *find(const struct fm_oip_memo *memo, const struct split *split)
{
    for (size_t i = 0; i < FM_OIP_MEMO_HEADS; i++) {
        struct fm_oip_seen *seen = memo->heads[i];
        if (seen != NULL && seen->text_length == split->rest_length &&
            seen->has_id == (split->id != NULL) &&
            memcmp(seen->text, split->rest, split->rest_length) == 0) {
            return seen;
        }
    }
    return NULL;
}

int fm_oip_memo_decode(const struct fm_oip_decoding *decoding, size_t head_length, bool *ret_found)
{
    const struct fm_oip_body *body = decoding->body;
    struct fm_oip_request *request = decoding->request;
    struct split split;
    *ret_found = false;
    if (body->memo == NULL || body->memo->remembered == 0 ||
        !split_make(body->data, head_length, &split)) {
        return 0;
    }
    struct fm_oip_seen *seen = find(body->memo, &split);
    if (seen == NULL || body->size - head_length != seen->size) {
        return 0;
    }
    *ret_found = true;
    const char *data = body->data + head_length;
    for (uint32_t i = 0; i < seen->input_count; i++) {
        const struct fm_tensor *tensor = &seen->inputs[i];
        int status = fm_oip_tensor_from_body(decoding, seen->ports[i], tensor, data);
        if (status != 0) {
            return status;
        }
        data += tensor->size;
    }
    memcpy(request->outputs, seen->outputs, seen->output_count * sizeof(seen->outputs[0]));
    request->output_count = seen->output_count;
    request->timeout_us = seen->timeout_us;
    request->priority = seen->priority;
    request->rows = seen->rows;
    request->memo = body->memo;
    request->seen_number = seen->number;
    return split.id != NULL ? fm_oip_id_set(decoding, split.id, split.id_length, FM_OIP_ID_INLINE)
                            : 0;
}

static bool outputs_fit(const struct fm_oip_request *request)
{
    for (uint32_t i = 0; i < request->output_count; i++) {
        const struct fm_oip_output *output = &request->outputs[i];
        if (!output->binary || output->classes > 0 || output->region.name != NULL) {
            return false;
        }
    }
    return true;
}

static struct fm_oip_seen *seen_create(const struct fm_oip_decoding *decoding,
                                       const struct split *split, const struct fm_oip_sight *sight)
{
    const struct fm_oip_request *request = decoding->request;
    size_t tensors = (size_t)sight->inputs + request->output_count;
    struct fm_oip_seen *seen =
        fm_alloc(sizeof(*seen) + tensors * sizeof(struct fm_tensor) + split->rest_length);
    if (seen == NULL) {
        return NULL;
    }
    *seen = (struct fm_oip_seen){.has_id = split->id != NULL,
                                 .size = decoding->body->size - sight->length,
                                 .timeout_us = request->timeout_us,
                                 .priority = request->priority,
                                 .rows = request->rows,
                                 .input_count = sight->inputs,
                                 .output_count = request->output_count,
                                 .answer_fits = outputs_fit(request),
                                 .answers = seen->inputs + sight->inputs,
                                 .text = (char *)(seen->inputs + tensors),
                                 .text_length = split->rest_length};
    for (uint32_t i = 0; i < sight->inputs; i++) {
        seen->ports[i] = sight->ports[i];
        seen->inputs[i] = request->inputs[sight->ports[i]].tensor;
    }
    memcpy(seen->outputs, request->outputs, request->output_count * sizeof(seen->outputs[0]));
    memcpy(seen->text, split->rest, split->rest_length);
    return seen;
}

void fm_oip_memo_request(const struct fm_oip_decoding *decoding, const struct fm_oip_sight *sight)
{
    struct fm_oip_memo *memo = decoding->body->memo;
    struct fm_oip_request *request = decoding->request;
    struct split split;
    if (memo == NULL || sight->other || sight->inputs == 0 ||
        sight->inputs > FM_OIP_MEMO_PORTS_MAX || request->output_count > FM_OIP_MEMO_PORTS_MAX ||
        !split_make(decoding->body->data, sight->length, &split) ||
        split.rest_length > FM_OIP_MEMO_TEXT_MAX || sight->ids != (split.id != NULL ? 1u : 0u)) {
        return;
    }
    /* Without memory for it the next one is read again. */
    struct fm_oip_seen *seen = seen_create(decoding, &split, sight);
    if (seen == NULL) {
        return;
    }
    size_t slot = memo->remembered % FM_OIP_MEMO_HEADS;
    seen_free(memo->heads[slot]);
    memo->heads[slot] = seen;
    seen->number = ++memo->remembered;
    request->memo = memo;
    request->seen_number = seen->number;
}

/* --- answers --- */

static struct fm_oip_seen *seen_of(const struct fm_oip_encoding *encoding)
{
    const struct fm_oip_request *request = encoding->request;
    struct fm_oip_memo *memo = request->memo;
    if (memo == NULL) {
        return NULL;
    }
    struct fm_oip_seen *seen = memo->heads[(request->seen_number - 1) % FM_OIP_MEMO_HEADS];
    return seen->number == request->seen_number && seen->answer_fits ? seen : NULL;
}

static bool same_shape(const struct fm_tensor *a, const struct fm_tensor *b)
{
    return a->dtype == b->dtype && a->rank == b->rank && a->size == b->size &&
           memcmp(a->shape, b->shape, a->rank * sizeof(a->shape[0])) == 0;
}

bool fm_oip_memo_encode(const struct fm_oip_encoding *encoding)
{
    const struct fm_oip_request *request = encoding->request;
    struct fm_oip_response *response = encoding->response;
    struct fm_oip_seen *seen = seen_of(encoding);
    if (seen == NULL || seen->answer.length == 0) {
        return false;
    }
    for (uint32_t i = 0; i < request->output_count; i++) {
        const struct fm_tensor *tensor = NULL;
        struct fm_oip_encoding quiet = *encoding;
        quiet.reterr = NULL;
        if (fm_oip_output_prepare(&quiet, i, &tensor) != 0 ||
            !same_shape(tensor, &seen->answers[i])) {
            return false;
        }
        response->parts[1 + i] = (struct fm_oip_part){tensor->data, tensor->size};
    }
    size_t front = seen->has_id ? ID_FRONT_LENGTH + request->id_length : 0;
    char *head = fm_text_reserve(&response->head, front + seen->answer.length);
    if (head == NULL) {
        fm_text_clear(&response->head);
        return false;
    }
    if (seen->has_id) {
        memcpy(head, ID_FRONT, ID_FRONT_LENGTH);
        memcpy(head + ID_FRONT_LENGTH, request->id, request->id_length);
    }
    memcpy(head + front, seen->answer.data, seen->answer.length);
    response->binary = true;
    response->part_count = 1 + request->output_count;
    return true;
}

void fm_oip_memo_response(const struct fm_oip_encoding *encoding)
{
    const struct fm_oip_request *request = encoding->request;
    const struct fm_text *head = &encoding->response->head;
    struct fm_oip_seen *seen = seen_of(encoding);
    if (seen == NULL) {
        return;
    }
    size_t front = seen->has_id ? ID_FRONT_LENGTH + request->id_length : 0;
    if (head->length - front > FM_OIP_MEMO_TEXT_MAX) {
        return;
    }
    for (uint32_t i = 0; i < request->output_count; i++) {
        seen->answers[i] = encoding->outputs[request->outputs[i].port].tensor;
    }
    fm_text_clear(&seen->answer);
    fm_text_append(&seen->answer, head->data + front, head->length - front);
    if (seen->answer.failed) {
        fm_text_deinit(&seen->answer);
    }
}
