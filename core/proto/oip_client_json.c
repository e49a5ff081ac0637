/*
 * Answers of the REST form: JSON, and binary tensors behind it. See oip_client.h. Pure.
 *
 * The members of an object may come in any order: "data" that comes before the shape and the type
 * is skipped, and read at the end of the object. Some servers write the members that they leave out
 * as null.
 */
#include <math.h>
#include <string.h>

#include "core/proto/json.h"
#include "core/proto/oip_client.h"
#include "core/proto/oip_internal.h"
#include "core/util/error.h"

struct decoder {
    const struct fm_oip_client_body *body;
    const struct fm_client_request *request;
    struct fm_oip_client_answer *answer;
    struct fm_error *reterr;
    struct fm_json_reader reader;
    size_t binary_offset; /* of the next binary tensor */
    uint32_t output_capacity;
};

/* One element of "outputs" while its members are gathered. */
struct output {
    const char *name;
    struct fm_tensor tensor;
    bool has_shape;
    bool has_type;
    bool has_data;
    bool has_binary;
    bool in_region;
    uint64_t binary_size;
    struct fm_json_reader data;
};

int fm_oip_client_no_memory(struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_ENOMEM, "out of memory for the answer");
}

static int malformed(struct decoder *decoder, const char *what)
{
    const struct fm_error *error = &decoder->reader.error;
    return fm_error_set(decoder->reterr, FM_ECORRUPT, "the answer is malformed: %s",
                        error->status != 0 ? error->text : what);
}

/* --- Tensors --- */

static size_t alignment(uint32_t dtype)
{
    uint32_t bits = fm_dtype_bits(dtype);
    return bits < 16 ? 1 : bits > 64 ? sizeof(double) : bits / 8;
}

int fm_oip_client_tensor_set(const struct fm_oip_client_body *body, const char *name,
                             const char *data, size_t size, struct fm_value *value,
                             struct fm_error *reterr)
{
    struct fm_tensor *tensor = &value->tensor;
    tensor->data = (void *)(uintptr_t)data;
    tensor->size = size;
    int status = fm_tensor_check(tensor, reterr);
    if (status != 0) {
        tensor->data = NULL;
        return fm_error_prefix(
            reterr, fm_error_set(reterr, FM_ECORRUPT, "%s", reterr != NULL ? reterr->text : ""),
            "output '%s' of the answer", name);
    }
    if (body->buffer != NULL && (uintptr_t)data % alignment(tensor->dtype) == 0) {
        value->buffer = fm_buffer_ref(body->buffer);
        return 0;
    }
    value->buffer = fm_buffer_create(size);
    if (value->buffer == NULL) {
        tensor->data = NULL;
        return fm_oip_client_no_memory(reterr);
    }
    tensor->data = fm_buffer_data(value->buffer);
    if (size > 0) {
        memcpy(tensor->data, data, size);
    }
    return 0;
}

/* NaN and infinities have no JSON form, and come as null. */
static int element_store(const struct fm_json_reader *reader, enum fm_json_token token,
                         struct fm_oip_elements *elements)
{
    if (token == FM_JSON_NULL && elements->dtype == FM_DTYPE_FP32) {
        const float none = NAN;
        memcpy(elements->out, &none, sizeof(none));
        elements->out += sizeof(none);
        return 0;
    }
    if (token == FM_JSON_NULL && elements->dtype == FM_DTYPE_FP64) {
        const double none = (double)NAN;
        memcpy(elements->out, &none, sizeof(none));
        elements->out += sizeof(none);
        return 0;
    }
    return fm_oip_element_store(reader, token, elements);
}

/* Reads the array, flat or nested, or the bare value that comes next. */
static int elements_read(struct decoder *decoder, struct fm_json_reader *reader, const char *name,
                         uint64_t count, struct fm_oip_elements *elements)
{
    uint32_t depth = 0;
    uint64_t index = 0;
    do {
        enum fm_json_token token = fm_json_next(reader);
        if (token == FM_JSON_ARRAY_BEGIN) {
            depth++;
        } else if (token == FM_JSON_ARRAY_END) {
            depth--;
        } else {
            int status = index < count ? element_store(reader, token, elements) : FM_ETYPE;
            if (status != 0) {
                return status == FM_ENOMEM
                           ? fm_oip_client_no_memory(decoder->reterr)
                           : fm_error_set(decoder->reterr, FM_ECORRUPT,
                                          "output '%s' of the answer: element %llu is not a value "
                                          "of type %s, or is one too many",
                                          name, (unsigned long long)index,
                                          fm_dtype_name(elements->dtype));
            }
            index++;
        }
    } while (depth > 0);
    return index == count
               ? 0
               : fm_error_set(decoder->reterr, FM_ECORRUPT,
                              "output '%s' of the answer has %llu elements, but its "
                              "shape needs %llu",
                              name, (unsigned long long)index, (unsigned long long)count);
}

static int json_tensor(struct decoder *decoder, struct output *output, struct fm_value *value)
{
    const struct fm_tensor *tensor = &output->tensor;
    struct fm_text text = {0};
    struct fm_oip_elements elements = {.dtype = tensor->dtype, .text = &text};
    uint64_t count = 0;
    if (!fm_oip_has_json_form(tensor->dtype) ||
        fm_shape_element_count(tensor->shape, tensor->rank, &count) != 0 ||
        count > output->data.length / 2 + 1) {
        /* An element takes at least two characters. */
        return fm_error_set(decoder->reterr, FM_ECORRUPT,
                            "output '%s' of the answer has data that do not fit its type and shape",
                            output->name);
    }
    if (tensor->dtype != FM_DTYPE_BYTES) {
        if (fm_value_alloc(value, tensor->dtype, tensor->shape, tensor->rank, 0) != 0) {
            return fm_oip_client_no_memory(decoder->reterr);
        }
        elements.out = value->tensor.data;
        return elements_read(decoder, &output->data, output->name, count, &elements);
    }
    int status = elements_read(decoder, &output->data, output->name, count, &elements);
    if (status == 0 &&
        fm_value_alloc(value, tensor->dtype, tensor->shape, tensor->rank, text.length) != 0) {
        status = fm_oip_client_no_memory(decoder->reterr);
    }
    if (status == 0 && text.length > 0) {
        memcpy(value->tensor.data, text.data, text.length);
    }
    fm_text_deinit(&text);
    return status;
}

static int binary_tensor(struct decoder *decoder, const struct output *output,
                         struct fm_value *value)
{
    const struct fm_oip_client_body *body = decoder->body;
    size_t left = body->size - decoder->binary_offset;
    if (output->binary_size > left) {
        return fm_error_set(decoder->reterr, FM_ECORRUPT,
                            "output '%s' of the answer: binary_data_size is %llu, but only %zu "
                            "bytes are left in the body",
                            output->name, (unsigned long long)output->binary_size, left);
    }
    const char *data = body->data + decoder->binary_offset;
    decoder->binary_offset += (size_t)output->binary_size;
    value->tensor = output->tensor;
    return fm_oip_client_tensor_set(body, output->name, data, (size_t)output->binary_size, value,
                                    decoder->reterr);
}

bool fm_oip_client_region_asked(const struct fm_client_request *request, const char *name)
{
    for (uint32_t i = 0; request != NULL && i < request->output_count; i++) {
        if (request->outputs[i].region != NULL && strcmp(request->outputs[i].name, name) == 0) {
            return true;
        }
    }
    return request == NULL;
}

static int output_finish(struct decoder *decoder, struct output *output)
{
    struct fm_oip_client_answer *answer = decoder->answer;
    if (output->name == NULL || !output->has_shape || !output->has_type) {
        return fm_error_set(decoder->reterr, FM_ECORRUPT,
                            "an output of the answer has no name, no shape, or no data type that "
                            "is known");
    }
    if (answer->output_count == decoder->output_capacity) {
        uint32_t capacity = answer->output_count < 8 ? 8 : 2 * answer->output_count;
        struct fm_oip_client_output *list = NULL;
        if (answer->output_count < FM_OIP_CLIENT_OUTPUTS_MAX) {
            list = fm_realloc(answer->outputs, capacity * sizeof(*list));
        }
        if (list == NULL) {
            return fm_error_set(decoder->reterr, FM_ETOOLARGE,
                                "the answer has more outputs than there is room for");
        }
        answer->outputs = list;
        decoder->output_capacity = capacity;
    }
    struct fm_oip_client_output *made = &answer->outputs[answer->output_count++];
    *made =
        (struct fm_oip_client_output){.name = output->name, .value = {.tensor = output->tensor}};
    if (output->has_binary) {
        return binary_tensor(decoder, output, &made->value);
    }
    if (output->has_data) {
        return json_tensor(decoder, output, &made->value);
    }
    return output->in_region || fm_oip_client_region_asked(decoder->request, output->name)
               ? 0
               : fm_error_set(decoder->reterr, FM_ECORRUPT, "output '%s' of the answer has no data",
                              output->name);
}

/* --- Members --- */

/* The string that is the reader's token; NULL: out of memory. */
static const char *arena_string(struct fm_json_reader *reader, struct fm_arena *arena)
{
    struct fm_text text = {0};
    fm_json_decode(reader, &text);
    const char *string =
        text.failed ? NULL
                    : fm_arena_strndup(arena, text.data != NULL ? text.data : "", text.length);
    fm_text_deinit(&text);
    return string;
}

/* The string that comes next, in the arena. null leaves it as it was. */
static int string_read(struct decoder *decoder, const char **ret_string)
{
    enum fm_json_token token = fm_json_next(&decoder->reader);
    if (token == FM_JSON_NULL) {
        return 0;
    }
    if (token != FM_JSON_STRING) {
        return malformed(decoder, "a string was expected");
    }
    const char *string = arena_string(&decoder->reader, &decoder->answer->arena);
    if (string == NULL) {
        return fm_oip_client_no_memory(decoder->reterr);
    }
    *ret_string = string;
    return 0;
}

static int skip(struct decoder *decoder)
{
    return fm_json_skip(&decoder->reader) == 0 ? 0 : malformed(decoder, "a value was expected");
}

static int shape_read(struct fm_json_reader *reader, struct fm_tensor *tensor)
{
    enum fm_json_token token = fm_json_next(reader);
    tensor->rank = 0;
    if (token != FM_JSON_ARRAY_BEGIN) {
        return FM_ECORRUPT;
    }
    while ((token = fm_json_next(reader)) == FM_JSON_NUMBER) {
        if (tensor->rank == FM_RANK_MAX ||
            fm_json_int64(reader, &tensor->shape[tensor->rank++]) != 0) {
            return FM_ECORRUPT;
        }
    }
    return token == FM_JSON_ARRAY_END ? 0 : FM_ECORRUPT;
}

static int output_parameters(struct decoder *decoder, struct output *output)
{
    struct fm_json_reader *reader = &decoder->reader;
    enum fm_json_token token = fm_json_next(reader);
    if (token == FM_JSON_NULL) {
        return 0;
    }
    if (token != FM_JSON_OBJECT_BEGIN) {
        return malformed(decoder, "an output's parameters must be an object");
    }
    while ((token = fm_json_next(reader)) == FM_JSON_KEY) {
        if (fm_json_equals(reader, "binary_data_size")) {
            token = fm_json_next(reader);
            output->has_binary = token != FM_JSON_NULL;
            if (output->has_binary &&
                (token != FM_JSON_NUMBER || fm_json_uint64(reader, &output->binary_size) != 0)) {
                return malformed(decoder, "binary_data_size must be a number");
            }
            continue;
        }
        output->in_region = output->in_region || fm_json_equals(reader, "shared_memory_region");
        int status = skip(decoder);
        if (status != 0) {
            return status;
        }
    }
    return token == FM_JSON_OBJECT_END ? 0 : malformed(decoder, "an output's parameters");
}

static int output_member(struct decoder *decoder, struct output *output)
{
    struct fm_json_reader *reader = &decoder->reader;
    if (fm_json_equals(reader, "name")) {
        return string_read(decoder, &output->name);
    }
    if (fm_json_equals(reader, "datatype")) {
        if (fm_json_next(reader) != FM_JSON_STRING) {
            return malformed(decoder, "a datatype must be a string");
        }
        output->tensor.dtype = fm_dtype_parse(reader->text, reader->text_length);
        output->has_type = output->tensor.dtype != FM_DTYPE_INVALID;
        return 0;
    }
    if (fm_json_equals(reader, "shape")) {
        output->has_shape = true;
        return shape_read(reader, &output->tensor) == 0 ? 0 : malformed(decoder, "a shape");
    }
    if (fm_json_equals(reader, "parameters")) {
        return output_parameters(decoder, output);
    }
    if (fm_json_equals(reader, "data")) {
        output->has_data = true;
        output->data = *reader;
    }
    return skip(decoder);
}

static int outputs_read(struct decoder *decoder)
{
    struct fm_json_reader *reader = &decoder->reader;
    enum fm_json_token token = fm_json_next(reader);
    if (token != FM_JSON_ARRAY_BEGIN) {
        return malformed(decoder, "outputs must be an array");
    }
    while ((token = fm_json_next(reader)) == FM_JSON_OBJECT_BEGIN) {
        struct output output = {0};
        int status = 0;
        while (status == 0 && (token = fm_json_next(reader)) == FM_JSON_KEY) {
            status = output_member(decoder, &output);
        }
        if (status == 0 && token != FM_JSON_OBJECT_END) {
            status = malformed(decoder, "an output must be an object");
        }
        status = status == 0 ? output_finish(decoder, &output) : status;
        if (status != 0) {
            return status;
        }
    }
    return token == FM_JSON_ARRAY_END ? 0 : malformed(decoder, "outputs must be objects");
}

static int answer_read(struct decoder *decoder)
{
    struct fm_json_reader *reader = &decoder->reader;
    struct fm_oip_client_answer *answer = decoder->answer;
    enum fm_json_token token = fm_json_next(reader);
    bool has_outputs = false;
    if (token != FM_JSON_OBJECT_BEGIN) {
        return malformed(decoder, "it is no JSON object");
    }
    while ((token = fm_json_next(reader)) == FM_JSON_KEY) {
        int status = 0;
        if (fm_json_equals(reader, "model_name")) {
            status = string_read(decoder, &answer->model);
        } else if (fm_json_equals(reader, "model_version")) {
            status = string_read(decoder, &answer->version);
        } else if (fm_json_equals(reader, "id")) {
            status = string_read(decoder, &answer->id);
        } else if (fm_json_equals(reader, "outputs") && !has_outputs) {
            has_outputs = true;
            status = outputs_read(decoder);
        } else {
            status = skip(decoder);
        }
        if (status != 0) {
            return status;
        }
    }
    if (token != FM_JSON_OBJECT_END || fm_json_next(reader) != FM_JSON_END) {
        return malformed(decoder, "it does not end where it should");
    }
    if (has_outputs && decoder->body->header_length != FM_OIP_HEADER_ABSENT &&
        decoder->binary_offset != decoder->body->size) {
        return fm_error_set(decoder->reterr, FM_ECORRUPT,
                            "the answer has %zu bytes behind its last tensor",
                            decoder->body->size - decoder->binary_offset);
    }
    return has_outputs ? 0 : malformed(decoder, "it has no outputs");
}

int fm_oip_client_decode_json(const struct fm_oip_client_body *body,
                              const struct fm_client_request *request,
                              struct fm_oip_client_answer *answer, struct fm_error *reterr)
{
    struct decoder decoder = {.body = body, .request = request, .answer = answer, .reterr = reterr};
    size_t json_size = body->size;
    *answer = (struct fm_oip_client_answer){.model = "", .version = "", .id = ""};
    if (body->header_length != FM_OIP_HEADER_ABSENT) {
        if (body->header_length > body->size) {
            return fm_error_set(reterr, FM_ECORRUPT,
                                "the answer's JSON is said to have %llu bytes, but only %zu came",
                                (unsigned long long)body->header_length, body->size);
        }
        json_size = (size_t)body->header_length;
    }
    decoder.binary_offset = json_size;
    fm_json_reader_init(&decoder.reader, body->data, json_size);
    int status = answer_read(&decoder);
    if (status != 0) {
        fm_oip_client_answer_deinit(answer);
    }
    return status;
}

void fm_oip_client_answer_deinit(struct fm_oip_client_answer *answer)
{
    for (uint32_t i = 0; i < answer->output_count; i++) {
        fm_value_unref(&answer->outputs[i].value);
    }
    fm_free(answer->outputs);
    fm_arena_deinit(&answer->arena);
    *answer = (struct fm_oip_client_answer){0};
}

/* --- Small documents --- */

/* Stands behind the key `name` of the top object. */
static bool member_find(struct fm_json_reader *reader, const char *data, size_t size,
                        const char *name)
{
    fm_json_reader_init(reader, data, size);
    if (fm_json_next(reader) != FM_JSON_OBJECT_BEGIN) {
        return false;
    }
    while (fm_json_next(reader) == FM_JSON_KEY) {
        if (fm_json_equals(reader, name)) {
            return true;
        }
        if (fm_json_skip(reader) != 0) {
            return false;
        }
    }
    return false;
}

bool fm_oip_client_error_read(const char *data, size_t size, struct fm_text *text)
{
    struct fm_json_reader reader;
    if (!member_find(&reader, data, size, "error") || fm_json_next(&reader) != FM_JSON_STRING) {
        return false;
    }
    fm_json_decode(&reader, text);
    return !text->failed && text->length > 0;
}

bool fm_oip_client_flag_read(const char *data, size_t size, const char *name, bool *ret_value)
{
    struct fm_json_reader reader;
    if (!member_find(&reader, data, size, name)) {
        return false;
    }
    enum fm_json_token token = fm_json_next(&reader);
    *ret_value = token == FM_JSON_TRUE;
    return token == FM_JSON_TRUE || token == FM_JSON_FALSE;
}

/* --- A model's metadata --- */

static int port_read(struct fm_json_reader *reader, struct fm_arena *arena, struct fm_port *port)
{
    struct fm_tensor tensor = {0};
    enum fm_json_token token;
    *port = (struct fm_port){.name = ""};
    while ((token = fm_json_next(reader)) == FM_JSON_KEY) {
        bool name = fm_json_equals(reader, "name");
        bool type = fm_json_equals(reader, "datatype");
        if (fm_json_equals(reader, "shape")) {
            if (shape_read(reader, &tensor) != 0) {
                return FM_ECORRUPT;
            }
        } else if (!name && !type) {
            if (fm_json_skip(reader) != 0) {
                return FM_ECORRUPT;
            }
        } else if ((token = fm_json_next(reader)) == FM_JSON_NULL) {
            continue;
        } else if (token != FM_JSON_STRING) {
            return FM_ECORRUPT;
        } else if (type) {
            port->dtype = fm_dtype_parse(reader->text, reader->text_length);
        } else {
            port->name = arena_string(reader, arena);
            if (port->name == NULL) {
                return FM_ENOMEM;
            }
        }
    }
    port->rank = (int32_t)tensor.rank;
    memcpy(port->shape, tensor.shape, sizeof(port->shape));
    return token == FM_JSON_OBJECT_END ? 0 : FM_ECORRUPT;
}

static int ports_read(struct fm_json_reader *reader, struct fm_arena *arena,
                      const struct fm_port **ret_ports, uint32_t *ret_count)
{
    struct fm_json_reader counting = *reader;
    uint32_t count = 0;
    enum fm_json_token token = fm_json_next(reader);
    if (token == FM_JSON_NULL) {
        return 0;
    }
    if (token != FM_JSON_ARRAY_BEGIN) {
        return FM_ECORRUPT;
    }
    /* Twice over the same text: for their number, and for them. */
    (void)fm_json_next(&counting);
    while (fm_json_next(&counting) == FM_JSON_OBJECT_BEGIN) {
        while (fm_json_next(&counting) == FM_JSON_KEY) {
            if (fm_json_skip(&counting) != 0) {
                return FM_ECORRUPT;
            }
        }
        count++;
    }
    if (count > FM_OIP_CLIENT_OUTPUTS_MAX) {
        return FM_ECORRUPT;
    }
    struct fm_port *ports = fm_arena_alloc(arena, (count + 1) * sizeof(*ports));
    if (ports == NULL) {
        return FM_ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        int status = fm_json_next(reader) == FM_JSON_OBJECT_BEGIN
                         ? port_read(reader, arena, &ports[i])
                         : FM_ECORRUPT;
        if (status != 0) {
            return status;
        }
    }
    *ret_ports = ports;
    *ret_count = count;
    return fm_json_next(reader) == FM_JSON_ARRAY_END ? 0 : FM_ECORRUPT;
}

static int model_member(struct fm_json_reader *reader, struct fm_arena *arena,
                        struct fm_client_model *model)
{
    bool name = fm_json_equals(reader, "name");
    if (name || fm_json_equals(reader, "platform")) {
        enum fm_json_token token = fm_json_next(reader);
        if (token != FM_JSON_STRING) {
            return token == FM_JSON_NULL ? 0 : FM_ECORRUPT;
        }
        const char *string = arena_string(reader, arena);
        *(name ? &model->name : &model->platform) = string;
        return string != NULL ? 0 : FM_ENOMEM;
    }
    if (fm_json_equals(reader, "inputs")) {
        return ports_read(reader, arena, &model->inputs, &model->input_count);
    }
    if (fm_json_equals(reader, "outputs")) {
        return ports_read(reader, arena, &model->outputs, &model->output_count);
    }
    return fm_json_skip(reader) == 0 ? 0 : FM_ECORRUPT;
}

int fm_oip_client_model_read(const char *data, size_t size, struct fm_arena *arena,
                             struct fm_client_model *ret_model, struct fm_error *reterr)
{
    struct fm_json_reader reader;
    enum fm_json_token token = FM_JSON_OBJECT_END;
    int status = FM_ECORRUPT;
    *ret_model = (struct fm_client_model){.name = "", .platform = ""};
    fm_json_reader_init(&reader, data, size);
    if (fm_json_next(&reader) == FM_JSON_OBJECT_BEGIN) {
        status = 0;
        while (status == 0 && (token = fm_json_next(&reader)) == FM_JSON_KEY) {
            status = model_member(&reader, arena, ret_model);
        }
    }
    status = status == 0 && token != FM_JSON_OBJECT_END ? FM_ECORRUPT : status;
    if (status != 0) {
        return fm_error_set(reterr, status, "the model's metadata are malformed: %s",
                            reader.error.status != 0 ? reader.error.text : fm_status_text(status));
    }
    return 0;
}
