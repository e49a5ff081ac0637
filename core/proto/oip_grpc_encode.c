/*
 * Tensors to ModelInferResponse. See oip_grpc.h. Everything but tensors is written into one piece
 * of memory whose size is known beforehand. Pure.
 */
#include <stdio.h>
#include <string.h>

#include "core/proto/oip_grpc.h"
#include "core/proto/oip_internal.h"
#include "core/proto/protobuf.h"
#include "core/util/assert.h"
#include "core/util/error.h"

/* Field numbers of ModelInferResponse, its tensors, and the envelope. */
enum { RESPONSE_NAME = 1, RESPONSE_VERSION, RESPONSE_ID, RESPONSE_PARAMETERS, RESPONSE_OUTPUTS };
enum { RESPONSE_RAW = 6 };
enum { TENSOR_NAME = 1, TENSOR_DATATYPE, TENSOR_SHAPE, TENSOR_PARAMETERS };
enum { ENTRY_KEY = 1, ENTRY_VALUE };
enum { PARAMETER_BOOL = 1, PARAMETER_INT64, PARAMETER_STRING };
enum { STREAM_ERROR = 1, STREAM_RESPONSE };

/* In front of the response: tag and length of the envelope. */
#define ENVELOPE_BYTES 11
/* A tag below 16 and a length, or a tag and a number. */
#define FIELD_BYTES     11
#define PARAMETER_BYTES 64 /* with a key of ours, without a string's bytes */
#define DIMENSION_BYTES 10
#define VERSION_BYTES   24
#define DATATYPE_BYTES  16

static size_t output_bound(const struct fm_oip_encoding *from, const struct fm_oip_output *wanted)
{
    const struct fm_tensor *tensor = &from->outputs[wanted->port].tensor;
    size_t dimensions = tensor->rank <= FM_RANK_MAX ? tensor->rank : FM_RANK_MAX;
    size_t size = 5 * FIELD_BYTES + strlen(from->signature->outputs[wanted->port].name) +
                  DATATYPE_BYTES + (dimensions + 2) * DIMENSION_BYTES;
    if (wanted->region.name != NULL) {
        size += 3 * PARAMETER_BYTES + strlen(wanted->region.name);
    }
    return size;
}

static size_t head_bound(const struct fm_oip_encoding *from, uint32_t output_count)
{
    size_t size = ENVELOPE_BYTES + 3 * FIELD_BYTES + strlen(from->signature->name) + VERSION_BYTES +
                  from->request->id_length + PARAMETER_BYTES;
    for (uint32_t i = 0; i < output_count; i++) {
        size += output_bound(from, &from->request->outputs[i]);
    }
    return size;
}

/*
 * A message inside a message is written two bytes behind where it shall begin, which is right for
 * those of less than 128 bytes; others move. `body` is where it was written and `end` its end.
 */
#define INSIDE_BYTES 2

static uint8_t *inside_close(uint8_t *body, uint8_t *end, uint32_t number)
{
    size_t size = (size_t)(end - body);
    uint8_t *start = body - INSIDE_BYTES;
    size_t front = 1 + fm_protobuf_varint_size(size);
    if (front != INSIDE_BYTES) {
        memmove(start + front, body, size);
    }
    (void)fm_protobuf_put_length(start, number, size);
    return start + front + size;
}

static uint8_t *put_string(uint8_t *out, uint32_t number, const char *string)
{
    return fm_protobuf_put_bytes(out, number, string, strlen(string));
}

/* The head of a map's entry with a parameter whose value takes `size` bytes, which come next. */
static uint8_t *put_parameter(uint8_t *out, uint32_t number, const char *key, size_t size)
{
    size_t key_size = strlen(key);
    size_t entry =
        1 + fm_protobuf_varint_size(key_size) + key_size + 1 + fm_protobuf_varint_size(size) + size;
    out = fm_protobuf_put_length(out, number, entry);
    out = fm_protobuf_put_bytes(out, ENTRY_KEY, key, key_size);
    return fm_protobuf_put_length(out, ENTRY_VALUE, size);
}

static uint8_t *put_region(uint8_t *out, const struct fm_oip_region *region, size_t size)
{
    size_t name = strlen(region->name);
    out = put_parameter(out, TENSOR_PARAMETERS, "shared_memory_region",
                        1 + fm_protobuf_varint_size(name) + name);
    out = put_string(out, PARAMETER_STRING, region->name);
    out = put_parameter(out, TENSOR_PARAMETERS, "shared_memory_byte_size",
                        1 + fm_protobuf_varint_size(size));
    out = fm_protobuf_put_uint(out, PARAMETER_INT64, size);
    out = put_parameter(out, TENSOR_PARAMETERS, "shared_memory_offset",
                        1 + fm_protobuf_varint_size(region->offset));
    return fm_protobuf_put_uint(out, PARAMETER_INT64, region->offset);
}

static uint8_t *put_output(uint8_t *out, const char *name, const struct fm_oip_region *region,
                           const struct fm_tensor *tensor)
{
    uint8_t *body = out + INSIDE_BYTES;
    size_t dimensions = 0;
    out = put_string(body, TENSOR_NAME, name);
    out = put_string(out, TENSOR_DATATYPE, fm_dtype_name(tensor->dtype));
    for (uint32_t i = 0; i < tensor->rank; i++) {
        dimensions += fm_protobuf_varint_size((uint64_t)tensor->shape[i]);
    }
    if (tensor->rank > 0) {
        out = fm_protobuf_put_length(out, TENSOR_SHAPE, dimensions);
    }
    for (uint32_t i = 0; i < tensor->rank; i++) {
        out = fm_protobuf_put_varint(out, (uint64_t)tensor->shape[i]);
    }
    if (region->name != NULL) {
        out = put_region(out, region, tensor->size);
    }
    return inside_close(body, out, RESPONSE_OUTPUTS);
}

static uint8_t *put_head(uint8_t *out, const struct fm_oip_encoding *from,
                         const struct fm_oip_grpc_form *form)
{
    uint8_t digits[VERSION_BYTES];
    uint8_t *digit = digits + sizeof(digits);
    uint64_t version = from->signature->version;
    do {
        *--digit = (uint8_t)('0' + version % 10);
        version /= 10;
    } while (version > 0);
    out = put_string(out, RESPONSE_NAME, from->signature->name);
    out = fm_protobuf_put_bytes(out, RESPONSE_VERSION, digit,
                                (size_t)(digits + sizeof(digits) - digit));
    if (from->request->id_length > 0) {
        out = fm_protobuf_put_bytes(out, RESPONSE_ID, from->request->id, from->request->id_length);
    }
    if (form->stream) {
        out = put_parameter(out, RESPONSE_PARAMETERS, "triton_final_response", 2);
        out = fm_protobuf_put_uint(out, PARAMETER_BOOL, form->final);
    }
    return out;
}

/* The entries of raw_output_contents. The tensors wait in every second part; bytes of the head and
 * tensors become the parts, in turn, without empty ones. */
static uint8_t *put_raw(uint8_t *out, struct fm_oip_response *response, uint32_t output_count,
                        const uint8_t *start)
{
    struct fm_oip_part *parts = response->parts;
    uint32_t count = 0;
    for (uint32_t i = 0; i < output_count; i++) {
        const struct fm_oip_part tensor = parts[2 * (size_t)i + 1];
        out = fm_protobuf_put_length(out, RESPONSE_RAW, tensor.size);
        if (tensor.size > 0) {
            parts[count++] = (struct fm_oip_part){start, (size_t)(out - start)};
            parts[count++] = tensor;
            start = out;
        }
    }
    if (out > start || count == 0) {
        parts[count++] = (struct fm_oip_part){start, (size_t)(out - start)};
    }
    response->part_count = count;
    return out;
}

/* Puts `size` bytes in front of the first part, where room was left. */
static void prepend(struct fm_oip_response *response, const uint8_t *bytes, size_t size)
{
    struct fm_oip_part *first = &response->parts[0];
    uint8_t *at =
        (uint8_t *)response->head.data + ((const char *)first->data - response->head.data);
    memcpy(at - size, bytes, size);
    first->data = at - size;
    first->size += size;
    response->body_size += size;
}

static int finish(const struct fm_oip_encoding *from, const struct fm_oip_grpc_form *form)
{
    struct fm_oip_response *response = from->response;
    response->binary = true;
    for (uint32_t i = 0; i < response->part_count; i++) {
        response->body_size += response->parts[i].size;
    }
    if (response->body_size > FM_OIP_GRPC_MESSAGE_MAX - ENVELOPE_BYTES) {
        return fm_error_set(from->reterr, FM_ETOOLARGE,
                            "the answer of model '%s' has %zu bytes, but a gRPC message holds at "
                            "most %d; ask for fewer outputs or use shared memory",
                            from->signature->name, response->body_size, FM_OIP_GRPC_MESSAGE_MAX);
    }
    if (form->stream) {
        uint8_t envelope[ENVELOPE_BYTES];
        const uint8_t *end = fm_protobuf_put_length(envelope, STREAM_RESPONSE, response->body_size);
        prepend(response, envelope, (size_t)(end - envelope));
    }
    return 0;
}

static int encode(const struct fm_oip_encoding *from, uint32_t output_count,
                  const struct fm_oip_grpc_form *form)
{
    struct fm_oip_response *response = from->response;
    size_t bound = head_bound(from, output_count);
    uint8_t *memory = (uint8_t *)fm_text_reserve(&response->head, bound);
    if (memory == NULL) {
        return fm_oip_response_no_memory(from);
    }
    uint8_t *start = memory + ENVELOPE_BYTES;
    uint8_t *out = put_head(start, from, form);
    for (uint32_t i = 0; i < output_count; i++) {
        const struct fm_oip_output *wanted = &from->request->outputs[i];
        const struct fm_tensor *tensor = NULL;
        int status = fm_oip_output_prepare(from, i, &tensor);
        if (status != 0) {
            return status;
        }
        out = put_output(out, from->signature->outputs[wanted->port].name, &wanted->region, tensor);
        response->parts[2 * (size_t)i + 1] =
            (struct fm_oip_part){tensor->data, wanted->region.name != NULL ? 0 : tensor->size};
    }
    out = put_raw(out, response, output_count, start);
    FM_ASSERT(out <= memory + bound);
    return finish(from, form);
}

static int encode_response(const struct fm_oip_encoding *from, uint32_t output_count,
                           const struct fm_oip_grpc_form *form)
{
    int status = fm_oip_response_init(from->response, 2 * output_count + 1);
    if (status != 0) {
        return fm_oip_response_no_memory(from);
    }
    status = encode(from, output_count, form);
    if (status != 0) {
        fm_oip_response_deinit(from->response);
    }
    return status;
}

int fm_oip_grpc_encode(const struct fm_oip_signature *signature,
                       const struct fm_oip_request *request, const struct fm_value *outputs,
                       fm_oip_labels labels, void *labels_context,
                       const struct fm_oip_grpc_form *form, struct fm_oip_response *ret_response,
                       struct fm_error *reterr)
{
    const struct fm_oip_encoding from = {.signature = signature,
                                         .request = request,
                                         .outputs = outputs,
                                         .labels = labels,
                                         .labels_context = labels_context,
                                         .response = ret_response,
                                         .reterr = reterr};
    return encode_response(&from, request->output_count, form);
}

int fm_oip_grpc_encode_empty(const struct fm_oip_signature *signature,
                             const struct fm_oip_request *request,
                             const struct fm_oip_grpc_form *form,
                             struct fm_oip_response *ret_response, struct fm_error *reterr)
{
    const struct fm_oip_encoding from = {
        .signature = signature, .request = request, .response = ret_response, .reterr = reterr};
    return encode_response(&from, 0, form);
}

/* A string that every client can read: it may hold pieces of the request, and those may be
 * anything.
 */
static uint8_t *put_repaired(uint8_t *out, uint32_t number, const char *text, size_t length)
{
    out = fm_protobuf_put_bytes(out, number, text, length);
    uint8_t *start = out - length;
    for (size_t at = 0; at < length;) {
        size_t sequence = fm_utf8_sequence((const char *)start + at, length - at);
        if (sequence == 0) {
            start[at] = '?';
        }
        at += sequence > 0 ? sequence : 1;
    }
    return out;
}

int fm_oip_grpc_encode_stream_error(const char *message, const char *id, size_t id_length,
                                    struct fm_oip_response *ret_response)
{
    if (fm_oip_response_init(ret_response, 1) != 0) {
        return FM_ENOMEM;
    }
    size_t bound = ENVELOPE_BYTES + 3 * FIELD_BYTES + strlen(message) + id_length;
    uint8_t *memory = (uint8_t *)fm_text_reserve(&ret_response->head, bound);
    if (memory == NULL) {
        fm_oip_response_deinit(ret_response);
        return FM_ENOMEM;
    }
    uint8_t *start = memory + ENVELOPE_BYTES;
    uint8_t *out = put_repaired(start, STREAM_ERROR, message, strlen(message));
    if (id != NULL && id_length > 0) {
        out = fm_protobuf_put_length(out, STREAM_RESPONSE,
                                     1 + fm_protobuf_varint_size(id_length) + id_length);
        out = put_repaired(out, RESPONSE_ID, id, id_length);
    }
    ret_response->binary = true;
    ret_response->part_count = 1;
    ret_response->parts[0] = (struct fm_oip_part){start, (size_t)(out - start)};
    ret_response->body_size = ret_response->parts[0].size;
    return 0;
}
