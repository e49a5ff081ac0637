/*
 * Tensors to infer responses. See oip.h. Pure.
 */
#include <math.h>
#include <string.h>

#include "core/proto/json.h"
#include "core/proto/oip_internal.h"
#include "core/util/error.h"
#include "core/util/memory.h"

/* --- Tensor data as JSON --- */

static void write_integers(struct fm_json_writer *writer, const struct fm_tensor *tensor,
                           uint64_t count)
{
    const unsigned char *data = tensor->data;
    size_t size = fm_dtype_bits(tensor->dtype) / 8;
    bool is_signed = tensor->dtype >= FM_DTYPE_INT8 && tensor->dtype <= FM_DTYPE_INT64;
    unsigned shift = (unsigned)(64 - 8 * size);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t value = 0;
        memcpy(&value, data + i * size, size);
        if (is_signed) {
            /* Sign extension: to the top and back. */
            fm_json_int(writer, (int64_t)(value << shift) >> shift);
        } else {
            fm_json_uint(writer, value);
        }
    }
}

static void write_bytes(struct fm_json_writer *writer, const struct fm_tensor *tensor,
                        uint64_t count)
{
    const char *at = tensor->data;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t length = 0;
        memcpy(&length, at, sizeof(length));
        fm_json_string_n(writer, at + 4, length);
        at += 4 + (size_t)length;
    }
}

bool fm_oip_elements_write(struct fm_json_writer *writer, const struct fm_tensor *tensor,
                           uint64_t count)
{
    const unsigned char *data = tensor->data;
    fm_json_array_begin(writer);
    if (tensor->dtype == FM_DTYPE_FP32) {
        for (uint64_t i = 0; i < count; i++) {
            float value;
            memcpy(&value, data + i * sizeof(value), sizeof(value));
            fm_json_float(writer, value);
        }
    } else if (tensor->dtype == FM_DTYPE_FP64) {
        for (uint64_t i = 0; i < count; i++) {
            double value;
            memcpy(&value, data + i * sizeof(value), sizeof(value));
            fm_json_number(writer, value);
        }
    } else if (tensor->dtype == FM_DTYPE_BOOL) {
        for (uint64_t i = 0; i < count; i++) {
            fm_json_bool(writer, data[i] != 0);
        }
    } else if (tensor->dtype == FM_DTYPE_BYTES) {
        write_bytes(writer, tensor, count);
    } else if (tensor->dtype >= FM_DTYPE_UINT8 && tensor->dtype <= FM_DTYPE_INT64) {
        write_integers(writer, tensor, count);
    } else {
        return false;
    }
    fm_json_array_end(writer);
    return true;
}

/* --- The response --- */

struct encoder {
    struct fm_oip_encoding from;
    struct fm_json_writer writer;
};

static void write_shape(struct fm_json_writer *writer, const int64_t *shape, uint32_t shape_rank)
{
    fm_json_array_begin(writer);
    for (uint32_t i = 0; i < shape_rank; i++) {
        fm_json_int(writer, shape[i]);
    }
    fm_json_array_end(writer);
}

static int encode_output(struct encoder *encoder, const struct fm_oip_output *wanted,
                         const struct fm_tensor *tensor)
{
    const char *name = encoder->from.signature->outputs[wanted->port].name;
    struct fm_oip_response *response = encoder->from.response;
    struct fm_json_writer *writer = &encoder->writer;
    fm_json_object_begin(writer);
    fm_json_member_string(writer, "name", name);
    fm_json_member_string(writer, "datatype", fm_dtype_name(tensor->dtype));
    fm_json_key(writer, "shape");
    write_shape(writer, tensor->shape, tensor->rank);
    if (wanted->region.name != NULL) {
        /* Nothing more, as Triton: its C++ client takes any "parameters" for a binary tensor's, and
         * fails without a binary_data_size. Whoever asked knows where the data are. */
    } else if (wanted->binary) {
        fm_json_key(writer, "parameters");
        fm_json_object_begin(writer);
        fm_json_member_uint(writer, "binary_data_size", tensor->size);
        fm_json_object_end(writer);
        response->binary = true;
        response->parts[response->part_count++] = (struct fm_oip_part){tensor->data, tensor->size};
    } else {
        uint64_t count = 0;
        fm_json_key(writer, "data");
        if (fm_shape_element_count(tensor->shape, tensor->rank, &count) != 0 ||
            !fm_oip_elements_write(writer, tensor, count)) {
            return fm_error_set(
                encoder->from.reterr, FM_EINVAL,
                "output '%s' is %s, which has no JSON form; ask for it with \"binary_data\": true",
                name, fm_dtype_name(tensor->dtype));
        }
    }
    fm_json_object_end(writer);
    return 0;
}

static void write_version(struct fm_json_writer *writer, uint64_t version)
{
    char text[24];
    size_t at = sizeof(text);
    do {
        text[--at] = (char)('0' + version % 10);
        version /= 10;
    } while (version != 0);
    fm_json_string_n(writer, text + at, sizeof(text) - at);
}

static int encode(struct encoder *encoder)
{
    const struct fm_oip_request *request = encoder->from.request;
    struct fm_json_writer *writer = &encoder->writer;
    fm_json_object_begin(writer);
    if (request->id != NULL && request->id_length > 0) {
        fm_json_key(writer, "id");
        fm_json_string_n(writer, request->id, request->id_length);
    }
    fm_json_member_string(writer, "model_name", encoder->from.signature->name);
    fm_json_key(writer, "model_version");
    write_version(writer, encoder->from.signature->version);
    fm_json_key(writer, "outputs");
    fm_json_array_begin(writer);
    for (uint32_t i = 0; i < request->output_count; i++) {
        const struct fm_tensor *tensor = NULL;
        int status = fm_oip_output_prepare(&encoder->from, i, &tensor);
        if (status == 0) {
            status = encode_output(encoder, &request->outputs[i], tensor);
        }
        if (status != 0) {
            return status;
        }
    }
    fm_json_array_end(writer);
    fm_json_object_end(writer);
    return encoder->from.response->head.failed ? FM_ENOMEM : 0;
}

/* One allocation for the JSON of most answers: what names and numbers take. */
static void reserve(const struct fm_oip_encoding *from)
{
    const struct fm_oip_request *request = from->request;
    size_t size = 128 + strlen(from->signature->name) + request->id_length;
    for (uint32_t i = 0; i < request->output_count; i++) {
        const struct fm_oip_output *wanted = &request->outputs[i];
        const struct fm_tensor *tensor = &from->outputs[wanted->port].tensor;
        bool apart = wanted->binary || wanted->classes > 0 || wanted->region.name != NULL;
        size += 160 + strlen(from->signature->outputs[wanted->port].name) +
                (apart ? 0 : 2 * tensor->size);
    }
    (void)fm_text_reserve(&from->response->head, size);
    fm_text_clear(&from->response->head);
}

int fm_oip_response_encode(const struct fm_oip_signature *signature,
                           const struct fm_oip_request *request, const struct fm_value *outputs,
                           fm_oip_labels labels, void *labels_context,
                           struct fm_oip_response *ret_response, struct fm_error *reterr)
{
    struct encoder encoder = {.from = {.signature = signature,
                                       .request = request,
                                       .outputs = outputs,
                                       .labels = labels,
                                       .labels_context = labels_context,
                                       .response = ret_response,
                                       .reterr = reterr}};
    int status = fm_oip_response_init(ret_response, request->output_count + 1);
    if (status == 0 && !fm_oip_memo_encode(&encoder.from)) {
        reserve(&encoder.from);
        fm_json_writer_init(&encoder.writer, &ret_response->head);
        ret_response->part_count = 1;
        status = encode(&encoder);
        if (status == 0) {
            fm_oip_memo_response(&encoder.from);
        }
    }
    if (status != 0) {
        fm_oip_response_deinit(ret_response);
        return status == FM_ENOMEM ? fm_oip_response_no_memory(&encoder.from) : status;
    }
    ret_response->parts[0] =
        (struct fm_oip_part){ret_response->head.data, ret_response->head.length};
    for (uint32_t i = 0; i < ret_response->part_count; i++) {
        ret_response->body_size += ret_response->parts[i].size;
    }
    return 0;
}

void fm_oip_write_error(struct fm_text *text, const char *message)
{
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    fm_json_key(&writer, "error");
    fm_json_string(&writer, message);
    fm_json_object_end(&writer);
}
