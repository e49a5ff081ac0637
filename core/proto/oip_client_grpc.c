/*
 * ModelInferResponse and ModelStreamInferResponse to tensors. See oip_client.h. Raw contents are
 * referred to in place where they lie aligned. Pure.
 */
#include <string.h>

#include "core/proto/oip_client.h"
#include "core/proto/oip_internal.h"
#include "core/proto/protobuf.h"
#include "core/util/error.h"

/* Field numbers of ModelInferResponse and of its tensors. */
enum { ANSWER_MODEL = 1, ANSWER_VERSION, ANSWER_ID, ANSWER_PARAMETERS, ANSWER_OUTPUTS, ANSWER_RAW };
enum { TENSOR_NAME = 1, TENSOR_DATATYPE, TENSOR_SHAPE, TENSOR_PARAMETERS, TENSOR_CONTENTS };
enum { STREAM_ERROR = 1, STREAM_ANSWER };

struct decoder {
    const struct fm_oip_client_body *body;
    const struct fm_client_request *request;
    struct fm_oip_client_answer *answer;
    struct fm_error *reterr;
};

/* An output while its fields are gathered. */
struct output {
    struct fm_tensor tensor;
    const char *name;
    bool in_region;
    bool has_contents;
    struct fm_protobuf_field contents;
};

static int malformed(const struct decoder *decoder, const char *where)
{
    return fm_error_set(decoder->reterr, FM_ECORRUPT,
                        "the answer is no well-formed ModelInferResponse: mistake in %s", where);
}

static int string_set(struct decoder *decoder, const struct fm_protobuf_field *field,
                      const char **ret_string)
{
    if (field->type != FM_PROTOBUF_BYTES || memchr(field->data, '\0', field->size) != NULL) {
        return malformed(decoder, "a string");
    }
    *ret_string = fm_arena_strndup(&decoder->answer->arena, (const char *)field->data, field->size);
    return *ret_string != NULL ? 0 : fm_oip_client_no_memory(decoder->reterr);
}

/* --- Typed contents --- */

/* Which field of InferTensorContents has the elements, and how one of them is written. */
static uint32_t contents_field(uint32_t dtype, uint32_t *ret_type)
{
    *ret_type = dtype == FM_DTYPE_FP32   ? FM_PROTOBUF_FIXED32
                : dtype == FM_DTYPE_FP64 ? FM_PROTOBUF_FIXED64
                                         : FM_PROTOBUF_VARINT;
    switch (dtype) {
    case FM_DTYPE_BOOL:
        return 1;
    case FM_DTYPE_INT8:
    case FM_DTYPE_INT16:
    case FM_DTYPE_INT32:
        return 2;
    case FM_DTYPE_INT64:
        return 3;
    case FM_DTYPE_UINT8:
    case FM_DTYPE_UINT16:
    case FM_DTYPE_UINT32:
        return 4;
    case FM_DTYPE_UINT64:
        return 5;
    case FM_DTYPE_FP32:
        return 6;
    case FM_DTYPE_FP64:
        return 7;
    case FM_DTYPE_BYTES:
        return 8;
    default:
        return 0;
    }
}

/* The elements of one field, behind those that are already there. */
static int elements_add(const struct fm_protobuf_field *field, uint32_t dtype, uint32_t type,
                        struct fm_text *text)
{
    if (dtype == FM_DTYPE_BYTES) {
        uint32_t length = (uint32_t)field->size;
        if (field->type != FM_PROTOBUF_BYTES || field->size > UINT32_MAX) {
            return FM_ECORRUPT;
        }
        fm_text_append(text, &length, sizeof(length));
        fm_text_append(text, field->data, field->size);
        return text->failed ? FM_ENOMEM : 0;
    }
    uint64_t count = 0;
    uint64_t value = 0;
    size_t size = fm_dtype_bits(dtype) / 8;
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(field->data, field->size);
    if (fm_protobuf_packed_count(field, type, &count) != 0) {
        return FM_ECORRUPT;
    }
    if (field->type != FM_PROTOBUF_BYTES) {
        value = dtype == FM_DTYPE_BOOL ? field->value != 0 : field->value;
        fm_text_append(text, &value, size);
        return text->failed ? FM_ENOMEM : 0;
    }
    int more;
    while ((more = fm_protobuf_packed_next(&reader, type, &value)) == 1) {
        value = dtype == FM_DTYPE_BOOL ? value != 0 : value;
        fm_text_append(text, &value, size);
    }
    return more != 0 ? FM_ECORRUPT : text->failed ? FM_ENOMEM : 0;
}

static int contents_read(struct decoder *decoder, const struct output *output,
                         struct fm_value *value)
{
    const struct fm_oip_client_body copied = {.buffer = NULL};
    uint32_t type = 0;
    uint32_t wanted = contents_field(output->tensor.dtype, &type);
    struct fm_protobuf_reader reader =
        fm_protobuf_reader_make(output->contents.data, output->contents.size);
    struct fm_protobuf_field field;
    struct fm_text text = {0};
    int status = 0;
    int more = 0;
    while (status == 0 && (more = fm_protobuf_next(&reader, &field)) == 1) {
        if (field.number == wanted) {
            status = elements_add(&field, output->tensor.dtype, type, &text);
        }
    }
    if (status == FM_ENOMEM) {
        status = fm_oip_client_no_memory(decoder->reterr);
    } else if (status != 0 || more != 0) {
        status = malformed(decoder, "a tensor's contents");
    } else {
        value->tensor = output->tensor;
        status = fm_oip_client_tensor_set(&copied, output->name, text.data != NULL ? text.data : "",
                                          text.length, value, decoder->reterr);
    }
    fm_text_deinit(&text);
    return status;
}

/* --- Outputs --- */

static int shape_add(struct output *output, const struct fm_protobuf_field *field)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(field->data, field->size);
    uint64_t count = 0;
    uint64_t dimension = field->value;
    if (fm_protobuf_packed_count(field, FM_PROTOBUF_VARINT, &count) != 0 ||
        count > FM_RANK_MAX - output->tensor.rank) {
        return FM_ECORRUPT;
    }
    for (uint64_t i = 0; i < count; i++) {
        if (field->type == FM_PROTOBUF_BYTES &&
            fm_protobuf_packed_next(&reader, FM_PROTOBUF_VARINT, &dimension) != 1) {
            return FM_ECORRUPT;
        }
        output->tensor.shape[output->tensor.rank++] = (int64_t)dimension;
    }
    return 0;
}

static bool names_region(const struct fm_protobuf_field *entry)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(entry->data, entry->size);
    struct fm_protobuf_field field;
    bool found = false;
    while (fm_protobuf_next(&reader, &field) == 1) {
        found = found || (field.number == 1 && fm_protobuf_equals(&field, "shared_memory_region"));
    }
    return found;
}

static int output_read(struct decoder *decoder, const struct fm_protobuf_field *message,
                       struct output *output)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(message->data, message->size);
    struct fm_protobuf_field field;
    int status = message->type == FM_PROTOBUF_BYTES ? 0 : malformed(decoder, "an output");
    int more = 0;
    *output = (struct output){.name = ""};
    while (status == 0 && (more = fm_protobuf_next(&reader, &field)) == 1) {
        if (field.number == TENSOR_NAME) {
            status = string_set(decoder, &field, &output->name);
        } else if (field.number == TENSOR_DATATYPE) {
            output->tensor.dtype = field.type == FM_PROTOBUF_BYTES
                                       ? fm_dtype_parse((const char *)field.data, field.size)
                                       : FM_DTYPE_INVALID;
        } else if (field.number == TENSOR_SHAPE) {
            status = shape_add(output, &field) == 0 ? 0 : malformed(decoder, "a shape");
        } else if (field.number == TENSOR_PARAMETERS) {
            output->in_region = output->in_region || names_region(&field);
        } else if (field.number == TENSOR_CONTENTS && field.type == FM_PROTOBUF_BYTES) {
            output->contents = field;
            output->has_contents = true;
        }
    }
    if (status != 0 || more != 0) {
        return status != 0 ? status : malformed(decoder, "an output");
    }
    return output->tensor.dtype != FM_DTYPE_INVALID
               ? 0
               : fm_error_set(decoder->reterr, FM_ECORRUPT,
                              "output '%s' of the answer has a data type that is not known",
                              output->name);
}

/* The next entry of raw_output_contents. */
static int raw_next(struct decoder *decoder, struct fm_protobuf_reader *raw,
                    struct fm_protobuf_field *ret_field)
{
    int more;
    while ((more = fm_protobuf_next(raw, ret_field)) == 1) {
        if (ret_field->number == ANSWER_RAW) {
            return 0;
        }
    }
    return malformed(decoder, "raw_output_contents: an output has no entry");
}

/*
 * HOW IT WORKS: an answer that has as many raw entries as outputs has one for each, in order, empty
 * for what is elsewhere. With fewer, outputs with contents or in shared memory have none.
 */
static int output_fill(struct decoder *decoder, const struct output *output,
                       struct fm_protobuf_reader *raw, bool one_each)
{
    struct fm_oip_client_answer *answer = decoder->answer;
    struct fm_oip_client_output *made = &answer->outputs[answer->output_count++];
    struct fm_protobuf_field field = {.data = (const uint8_t *)""};
    *made =
        (struct fm_oip_client_output){.name = output->name, .value = {.tensor = output->tensor}};
    if (one_each || (!output->in_region && !output->has_contents)) {
        int status = raw_next(decoder, raw, &field);
        if (status != 0) {
            return status;
        }
    }
    if (field.size == 0 && output->has_contents) {
        return contents_read(decoder, output, &made->value);
    }
    if (field.size == 0 &&
        (output->in_region || fm_oip_client_region_asked(decoder->request, output->name))) {
        uint64_t count = 0;
        if (fm_shape_element_count(output->tensor.shape, output->tensor.rank, &count) != 0) {
            return malformed(decoder, "a shape");
        }
        if (count > 0) {
            return 0;
        }
    }
    return fm_oip_client_tensor_set(decoder->body, output->name, (const char *)field.data,
                                    field.size, &made->value, decoder->reterr);
}

/* The outputs, over a second reading of the message. */
static int outputs_read(struct decoder *decoder, const void *data, size_t size, uint32_t count,
                        uint32_t raw_count)
{
    struct fm_oip_client_answer *answer = decoder->answer;
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(data, size);
    struct fm_protobuf_reader raw = reader;
    struct fm_protobuf_field field;
    int status = 0;
    if (count > FM_OIP_CLIENT_OUTPUTS_MAX) {
        return fm_error_set(decoder->reterr, FM_ETOOLARGE,
                            "the answer has more outputs than there is room for");
    }
    answer->outputs = fm_alloc_zero((size_t)count + 1, sizeof(*answer->outputs));
    if (answer->outputs == NULL) {
        return fm_oip_client_no_memory(decoder->reterr);
    }
    while (status == 0 && fm_protobuf_next(&reader, &field) == 1) {
        if (field.number == ANSWER_OUTPUTS) {
            struct output output;
            status = output_read(decoder, &field, &output);
            status = status == 0 ? output_fill(decoder, &output, &raw, raw_count == count) : status;
        }
    }
    if (status == 0 && raw_count > 0) {
        while (fm_protobuf_next(&raw, &field) == 1) {
            if (field.number == ANSWER_RAW) {
                return malformed(decoder, "raw_output_contents: an entry has no output");
            }
        }
    }
    return status;
}

static int answer_read(struct decoder *decoder, const void *data, size_t size)
{
    struct fm_oip_client_answer *answer = decoder->answer;
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(data, size);
    struct fm_protobuf_field field;
    uint32_t output_count = 0;
    uint32_t raw_count = 0;
    int status = 0;
    int more = 0;
    while (status == 0 && (more = fm_protobuf_next(&reader, &field)) == 1) {
        if (field.number == ANSWER_MODEL) {
            status = string_set(decoder, &field, &answer->model);
        } else if (field.number == ANSWER_VERSION) {
            status = string_set(decoder, &field, &answer->version);
        } else if (field.number == ANSWER_ID) {
            status = string_set(decoder, &field, &answer->id);
        } else if (field.number == ANSWER_OUTPUTS) {
            output_count++;
        } else if (field.number == ANSWER_RAW) {
            raw_count++;
            status = field.type == FM_PROTOBUF_BYTES ? 0 : malformed(decoder, "its fields");
        }
    }
    if (status != 0 || more != 0) {
        return status != 0 ? status : malformed(decoder, "its fields");
    }
    return outputs_read(decoder, data, size, output_count, raw_count);
}

static int stream_read(struct decoder *decoder, const void *data, size_t size)
{
    struct fm_oip_client_answer *answer = decoder->answer;
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(data, size);
    struct fm_protobuf_field field;
    struct fm_protobuf_field inner = {.data = (const uint8_t *)""};
    int more;
    while ((more = fm_protobuf_next(&reader, &field)) == 1) {
        if (field.number == STREAM_ERROR) {
            int status = string_set(decoder, &field, &answer->error_text);
            if (status != 0) {
                return status;
            }
            if (field.size == 0) {
                answer->error_text = NULL; /* none, also if there was one before: the last counts */
            }
        } else if (field.number == STREAM_ANSWER) {
            /* Protobuf would merge them. No writer makes two. */
            if (inner.number != 0) {
                return malformed(decoder, "the stream's envelope, with two answers");
            }
            inner = field;
        }
    }
    if (more != 0 || (inner.number != 0 && inner.type != FM_PROTOBUF_BYTES)) {
        return malformed(decoder, "the stream's envelope");
    }
    return answer_read(decoder, inner.data, inner.size);
}

int fm_oip_client_decode_grpc(const struct fm_oip_client_body *body,
                              const struct fm_client_request *request, bool stream,
                              struct fm_oip_client_answer *answer, struct fm_error *reterr)
{
    struct decoder decoder = {.body = body, .request = request, .answer = answer, .reterr = reterr};
    *answer = (struct fm_oip_client_answer){.model = "", .version = "", .id = ""};
    int status = stream ? stream_read(&decoder, body->data, body->size)
                        : answer_read(&decoder, body->data, body->size);
    if (status != 0) {
        fm_oip_client_answer_deinit(answer);
    }
    return status;
}
