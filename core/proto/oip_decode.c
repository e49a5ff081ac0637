/*
 * Infer requests to tensors. See oip.h. JSON numbers go straight into the tensor's memory; no tree
 * is built. Pure.
 *
 * The members of an object may come in any order. When "data" comes before the shape and the type
 * are known, the reader's state is kept, the value is skipped, and it is read at the end of the
 * object.
 */
#include <math.h>
#include <string.h>

#include "core/proto/json.h"
#include "core/proto/oip_internal.h"
#include "core/util/error.h"
#include "core/util/memory.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "binary tensors are little-endian, as the wire is");

struct decoder {
    struct fm_oip_decoding to;
    struct fm_json_reader reader;
    size_t binary_offset; /* in the body: the next binary tensor */
    bool binary_default;
    struct fm_oip_sight sight;
};

/* One element of "inputs" while its members are gathered. */
struct input {
    struct fm_oip_input is;
    bool has_data;
    bool has_binary;
    uint64_t binary_size;
    struct fm_json_reader data; /* where "data" stands */
};

static int malformed(struct decoder *decoder)
{
    const char *text =
        decoder->reader.error.status != 0 ? decoder->reader.error.text : "unexpected value";
    return fm_error_set(decoder->to.reterr, FM_EINVAL, "the request's JSON is malformed: %s", text);
}

static int wrong_kind(struct decoder *decoder, enum fm_json_token token, const char *where,
                      const char *expected)
{
    if (token == FM_JSON_ERROR) {
        return malformed(decoder);
    }
    return fm_error_set(decoder->to.reterr, FM_EINVAL, "%s must be %s", where, expected);
}

static int skip(struct decoder *decoder)
{
    return fm_json_skip(&decoder->reader) == 0 ? 0 : malformed(decoder);
}

/* The current STRING as a short name; longer ones are cut, which no known name is. */
static int current_name(struct decoder *decoder, char *name, size_t size)
{
    if (!decoder->reader.escaped) {
        size_t plain = decoder->reader.text_length;
        plain = plain < size - 1 ? plain : size - 1;
        memcpy(name, decoder->reader.text, plain);
        name[plain] = '\0';
        return 0;
    }
    struct fm_text text = {0};
    fm_json_decode(&decoder->reader, &text);
    size_t length = text.length < size - 1 ? text.length : size - 1;
    int status = text.failed ? fm_oip_no_memory(&decoder->to) : 0;
    if (status == 0 && length > 0) {
        memcpy(name, text.data, length);
    }
    name[status == 0 ? length : 0] = '\0';
    fm_text_deinit(&text);
    return status;
}

/* Index of the port the current STRING names, or -1. */
static int64_t port_find(const struct decoder *decoder, const struct fm_port *ports, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (fm_json_equals(&decoder->reader, ports[i].name)) {
            return i;
        }
    }
    return -1;
}

static int port_unknown(struct decoder *decoder, const char *what, const struct fm_port *ports,
                        uint32_t count)
{
    char name[FM_OIP_NAME_SIZE];
    return current_name(decoder, name, sizeof(name)) != 0
               ? FM_ENOMEM
               : fm_oip_port_unknown(&decoder->to, what, name, ports, count);
}

static int read_bool(struct decoder *decoder, const char *where, bool *ret_value)
{
    enum fm_json_token token = fm_json_next(&decoder->reader);
    if (token != FM_JSON_TRUE && token != FM_JSON_FALSE) {
        return wrong_kind(decoder, token, where, "true or false");
    }
    *ret_value = token == FM_JSON_TRUE;
    return 0;
}

/* A number that is not negative; some clients send it as a string. */
static int read_uint(struct decoder *decoder, const char *where, uint64_t max, uint64_t *ret_value)
{
    enum fm_json_token token = fm_json_next(&decoder->reader);
    if (token == FM_JSON_ERROR) {
        return malformed(decoder);
    }
    uint64_t value = 0;
    bool number =
        (token == FM_JSON_NUMBER || token == FM_JSON_STRING) && decoder->reader.text_length > 0;
    if (!number || fm_json_uint64(&decoder->reader, &value) != 0 || value > max) {
        return fm_oip_number_wrong(&decoder->to, where, max);
    }
    *ret_value = value;
    return 0;
}

/* --- Tensor data in JSON --- */

static int store_signed(const struct fm_json_reader *reader, int64_t min, int64_t max,
                        int64_t *ret_value)
{
    return fm_json_int64(reader, ret_value) == 0 && *ret_value >= min && *ret_value <= max
               ? 0
               : FM_ETYPE;
}

static int store_unsigned(const struct fm_json_reader *reader, uint64_t max, uint64_t *ret_value)
{
    return fm_json_uint64(reader, ret_value) == 0 && *ret_value <= max ? 0 : FM_ETYPE;
}

/* The low bytes of an integer of either sign: the tensor is little-endian, as the machine is. */
static int store_integer(const struct fm_json_reader *reader, uint32_t dtype, unsigned char *out)
{
    unsigned bits = fm_dtype_bits(dtype);
    if (dtype >= FM_DTYPE_UINT8 && dtype <= FM_DTYPE_UINT64) {
        uint64_t value = 0;
        if (store_unsigned(reader, UINT64_MAX >> (64 - bits), &value) != 0) {
            return FM_ETYPE;
        }
        memcpy(out, &value, bits / 8);
        return 0;
    }
    int64_t max = (int64_t)(UINT64_MAX >> (65 - bits));
    int64_t value = 0;
    if (store_signed(reader, -max - 1, max, &value) != 0) {
        return FM_ETYPE;
    }
    memcpy(out, &value, bits / 8);
    return 0;
}

static int store_float(const struct fm_json_reader *reader, uint32_t dtype, unsigned char *out)
{
    double value = 0;
    if (fm_json_double(reader, &value) != 0) {
        return FM_ETYPE;
    }
    if (dtype == FM_DTYPE_FP64) {
        memcpy(out, &value, sizeof(value));
        return 0;
    }
    float single = (float)value;
    memcpy(out, &single, sizeof(single));
    return isfinite(single) ? 0 : FM_ETYPE;
}

static int store_bool(const struct fm_json_reader *reader, enum fm_json_token token,
                      unsigned char *out)
{
    uint64_t value = token == FM_JSON_TRUE;
    if (token == FM_JSON_NUMBER && store_unsigned(reader, 1, &value) != 0) {
        return FM_ETYPE;
    }
    *out = (unsigned char)value;
    return token == FM_JSON_NUMBER || token == FM_JSON_TRUE || token == FM_JSON_FALSE ? 0
                                                                                      : FM_ETYPE;
}

static int store_bytes(const struct fm_json_reader *reader, struct fm_text *text)
{
    size_t start = text->length;
    if (fm_text_reserve(text, 4) == NULL) {
        return FM_ENOMEM;
    }
    fm_json_decode(reader, text);
    if (text->failed) {
        return FM_ENOMEM;
    }
    uint64_t length = text->length - start - 4;
    if (length > UINT32_MAX) {
        return FM_ETOOLARGE;
    }
    uint32_t prefix = (uint32_t)length;
    memcpy(text->data + start, &prefix, sizeof(prefix));
    return 0;
}

int fm_oip_element_store(const struct fm_json_reader *reader, enum fm_json_token token,
                         struct fm_oip_elements *sink)
{
    int status = FM_ETYPE;
    if (sink->dtype == FM_DTYPE_BYTES) {
        return token == FM_JSON_STRING ? store_bytes(reader, sink->text) : FM_ETYPE;
    }
    if (sink->dtype == FM_DTYPE_BOOL) {
        status = store_bool(reader, token, sink->out);
    } else if (token == FM_JSON_NUMBER) {
        status = sink->dtype == FM_DTYPE_FP32 || sink->dtype == FM_DTYPE_FP64
                     ? store_float(reader, sink->dtype, sink->out)
                     : store_integer(reader, sink->dtype, sink->out);
    }
    sink->out += fm_dtype_bits(sink->dtype) / 8;
    return status;
}

static int element_error(struct decoder *decoder, const struct fm_json_reader *reader,
                         const struct input *input, enum fm_json_token token, uint64_t index,
                         int status)
{
    const char *name = decoder->to.signature->inputs[input->is.port].name;
    if (token == FM_JSON_ERROR) {
        return fm_error_set(decoder->to.reterr, FM_EINVAL, "the request's JSON is malformed: %s",
                            reader->error.text);
    }
    if (status == FM_ENOMEM) {
        return fm_oip_no_memory(&decoder->to);
    }
    bool shown = token == FM_JSON_NUMBER || token == FM_JSON_TRUE || token == FM_JSON_FALSE ||
                 token == FM_JSON_NULL;
    int length = shown && reader->text_length < 40 ? (int)reader->text_length : 0;
    return fm_error_set(decoder->to.reterr, FM_ETYPE,
                        "input '%s': element %llu%s%.*s is not a value of type %s", name,
                        (unsigned long long)index, length > 0 ? ", " : "", length,
                        length > 0 ? reader->text : "", fm_dtype_name(input->is.dtype));
}

static int structure_error(struct decoder *decoder, const struct input *input)
{
    char shape[128];
    return fm_error_set(
        decoder->to.reterr, FM_ETYPE,
        "input '%s': the nesting of its data is neither flat nor that of its shape %s",
        decoder->to.signature->inputs[input->is.port].name,
        fm_shape_format(input->is.shape, input->is.rank, shape, sizeof(shape)));
}

/*
 * Reads the array (or, for rank 0, the bare value) that comes next into the sink. Flat data may
 * stand for any shape; nested data must have the shape's own structure, so that a transposed tensor
 * is noticed.
 */
static int read_elements(struct decoder *decoder, struct fm_json_reader *reader,
                         const struct input *input, uint64_t count, struct fm_oip_elements *sink)
{
    uint64_t seen[FM_RANK_MAX + 1] = {0}; /* children of the open array at each depth */
    uint32_t depth = 0;
    uint64_t index = 0;
    bool nested = false;
    do {
        enum fm_json_token token = fm_json_next(reader);
        if (token == FM_JSON_ARRAY_BEGIN) {
            if (depth > 0 && (depth >= input->is.rank || (!nested && index > 0))) {
                return structure_error(decoder, input);
            }
            nested = nested || depth > 0;
            seen[depth++]++;
            seen[depth] = 0;
        } else if (token == FM_JSON_ARRAY_END) {
            if (nested && seen[depth] != (uint64_t)input->is.shape[depth - 1]) {
                return structure_error(decoder, input);
            }
            depth--;
        } else {
            if (nested && depth != input->is.rank) {
                return token == FM_JSON_ERROR
                           ? element_error(decoder, reader, input, token, index, 0)
                           : structure_error(decoder, input);
            }
            if (token != FM_JSON_ERROR && index == count) {
                index++;
                break;
            }
            int status =
                token == FM_JSON_ERROR ? FM_EINVAL : fm_oip_element_store(reader, token, sink);
            if (status != 0) {
                return element_error(decoder, reader, input, token, index, status);
            }
            seen[depth]++;
            index++;
        }
    } while (depth > 0);
    if (index != count) {
        char shape[128];
        return fm_error_set(decoder->to.reterr, FM_ETYPE,
                            "input '%s': shape %s needs %llu elements, but its data has %s",
                            decoder->to.signature->inputs[input->is.port].name,
                            fm_shape_format(input->is.shape, input->is.rank, shape, sizeof(shape)),
                            (unsigned long long)count, index > count ? "more" : "fewer");
    }
    return 0;
}

bool fm_oip_has_json_form(uint32_t dtype)
{
    return (dtype >= FM_DTYPE_BOOL && dtype <= FM_DTYPE_INT64) || dtype == FM_DTYPE_FP32 ||
           dtype == FM_DTYPE_FP64 || dtype == FM_DTYPE_BYTES;
}

static int has_json_form(struct decoder *decoder, const char *what, const struct fm_port *port,
                         uint32_t dtype)
{
    if (fm_oip_has_json_form(dtype)) {
        return 0;
    }
    return fm_error_set(decoder->to.reterr, FM_EINVAL,
                        "%s '%s' is %s, which has no JSON form; use the binary tensor extension",
                        what, port->name, fm_dtype_name(dtype));
}

static void text_release(void *context)
{
    fm_free(context);
}

/* BYTES: the size is known only at the end, so the elements are gathered in a text whose memory
 * becomes the tensor's. */
static int read_json_bytes(struct decoder *decoder, struct fm_json_reader *reader,
                           const struct input *input, uint64_t count, struct fm_value *ret_value)
{
    struct fm_text text = {0};
    struct fm_oip_elements sink = {.dtype = FM_DTYPE_BYTES, .text = &text};
    int status = read_elements(decoder, reader, input, count, &sink);
    if (status == 0) {
        size_t size = text.length;
        char *data = fm_text_take(&text);
        struct fm_buffer *buffer =
            data != NULL ? fm_buffer_wrap(data, size, text_release, data) : NULL;
        if (buffer == NULL) {
            fm_free(data);
            return fm_oip_no_memory(&decoder->to);
        }
        *ret_value = (struct fm_value){
            .tensor = {.dtype = FM_DTYPE_BYTES, .rank = input->is.rank, .data = data, .size = size},
            .buffer = buffer};
        memcpy(ret_value->tensor.shape, input->is.shape, sizeof(input->is.shape));
    }
    fm_text_deinit(&text);
    return status;
}

static int read_json_tensor(struct decoder *decoder, struct fm_json_reader *reader,
                            const struct input *input, struct fm_value *ret_value)
{
    const struct fm_port *port = &decoder->to.signature->inputs[input->is.port];
    int status = has_json_form(decoder, "input", port, input->is.dtype);
    uint64_t count = 0;
    decoder->sight.other = true;
    if (status == 0 && fm_shape_element_count(input->is.shape, input->is.rank, &count) != 0) {
        /* No body holds so many. */
        count = UINT64_MAX;
    }
    /* An element takes at least two characters, so a small body cannot ask for a large tensor. */
    if (status == 0 && count > reader->length / 2 + 1) {
        char shape[128];
        return fm_error_set(decoder->to.reterr, FM_ETYPE,
                            "input '%s': shape %s needs %llu elements, but its data has fewer",
                            port->name,
                            fm_shape_format(input->is.shape, input->is.rank, shape, sizeof(shape)),
                            (unsigned long long)count);
    }
    if (status != 0 || input->is.dtype == FM_DTYPE_BYTES) {
        return status != 0 ? status : read_json_bytes(decoder, reader, input, count, ret_value);
    }
    struct fm_value value = {0};
    if (fm_value_alloc(&value, input->is.dtype, input->is.shape, input->is.rank, 0) != 0) {
        return fm_oip_no_memory(&decoder->to);
    }
    struct fm_oip_elements sink = {.dtype = input->is.dtype, .out = value.tensor.data};
    status = read_elements(decoder, reader, input, count, &sink);
    if (status != 0) {
        fm_value_unref(&value);
        return status;
    }
    *ret_value = value;
    return 0;
}

/* --- Binary tensors --- */

static int read_binary_tensor(struct decoder *decoder, const struct input *input,
                              struct fm_value *ret_value)
{
    const struct fm_oip_body *body = decoder->to.body;
    size_t left = body->size - decoder->binary_offset;
    if (input->binary_size > left) {
        return fm_error_set(
            decoder->to.reterr, FM_EINVAL,
            "input '%s': binary_data_size is %llu, but only %zu bytes are left in the body",
            decoder->to.signature->inputs[input->is.port].name,
            (unsigned long long)input->binary_size, left);
    }
    int status = fm_oip_input_size_check(&decoder->to, &input->is, input->binary_size,
                                         "binary_data_size is");
    const char *data = body->data + decoder->binary_offset;
    decoder->binary_offset += (size_t)input->binary_size;
    if (decoder->sight.inputs < FM_OIP_MEMO_PORTS_MAX) {
        decoder->sight.ports[decoder->sight.inputs] = (uint8_t)input->is.port;
    }
    decoder->sight.inputs++;
    return status != 0 ? status
                       : fm_oip_input_from_body(&decoder->to, &input->is, data,
                                                (size_t)input->binary_size, ret_value);
}

/* --- The members of an input --- */

static int read_shape(struct decoder *decoder, struct input *input)
{
    enum fm_json_token token = fm_json_next(&decoder->reader);
    if (token != FM_JSON_ARRAY_BEGIN) {
        return wrong_kind(decoder, token, "an input's shape", "an array of numbers");
    }
    input->is.rank = 0;
    while ((token = fm_json_next(&decoder->reader)) == FM_JSON_NUMBER) {
        int64_t dimension = 0;
        if (fm_json_int64(&decoder->reader, &dimension) != 0) {
            dimension = -1;
        }
        int status = fm_oip_dimension_add(&decoder->to, &input->is, dimension);
        if (status != 0) {
            return status;
        }
    }
    input->is.has_shape = true;
    return token == FM_JSON_ARRAY_END
               ? 0
               : wrong_kind(decoder, token, "an input's shape", "an array of numbers");
}

/* A parameter that says where in shared memory a tensor lies. False: the current key is none. */
static bool read_region(struct decoder *decoder, struct fm_oip_region_request *region,
                        int *ret_status)
{
    decoder->sight.other = true;
    if (fm_json_equals(&decoder->reader, "shared_memory_byte_size")) {
        region->has_size = true;
        *ret_status =
            read_uint(decoder, "a tensor's shared_memory_byte_size", INT64_MAX, &region->size);
        return true;
    }
    if (fm_json_equals(&decoder->reader, "shared_memory_offset")) {
        *ret_status =
            read_uint(decoder, "a tensor's shared_memory_offset", INT64_MAX, &region->offset);
        return true;
    }
    if (!fm_json_equals(&decoder->reader, "shared_memory_region")) {
        return false;
    }
    enum fm_json_token token = fm_json_next(&decoder->reader);
    if (token != FM_JSON_STRING) {
        *ret_status = wrong_kind(decoder, token, "a tensor's shared_memory_region", "a string");
        return true;
    }
    struct fm_text text = {0};
    fm_json_decode(&decoder->reader, &text);
    *ret_status = text.failed
                      ? fm_oip_no_memory(&decoder->to)
                      : fm_oip_region_name_set(&decoder->to, region,
                                               text.data != NULL ? text.data : "", text.length);
    fm_text_deinit(&text);
    return true;
}

static int read_input_parameters(struct decoder *decoder, struct input *input)
{
    enum fm_json_token token = fm_json_next(&decoder->reader);
    if (token != FM_JSON_OBJECT_BEGIN) {
        return wrong_kind(decoder, token, "an input's parameters", "an object");
    }
    while ((token = fm_json_next(&decoder->reader)) == FM_JSON_KEY) {
        int status = 0;
        if (fm_json_equals(&decoder->reader, "binary_data_size")) {
            input->has_binary = true;
            status =
                read_uint(decoder, "an input's binary_data_size", INT64_MAX, &input->binary_size);
        } else if (!read_region(decoder, &input->is.region, &status)) {
            status = skip(decoder);
        }
        if (status != 0) {
            return status;
        }
    }
    return token == FM_JSON_OBJECT_END ? 0 : malformed(decoder);
}

static int read_input_name(struct decoder *decoder, struct input *input)
{
    enum fm_json_token token = fm_json_next(&decoder->reader);
    if (token != FM_JSON_STRING) {
        return wrong_kind(decoder, token, "an input's name", "a string");
    }
    const struct fm_oip_signature *signature = decoder->to.signature;
    input->is.port = port_find(decoder, signature->inputs, signature->input_count);
    if (input->is.port < 0) {
        return port_unknown(decoder, "input", signature->inputs, signature->input_count);
    }
    return fm_oip_input_once(&decoder->to, &input->is);
}

static int read_input_datatype(struct decoder *decoder, struct input *input)
{
    enum fm_json_token token = fm_json_next(&decoder->reader);
    if (token != FM_JSON_STRING) {
        return wrong_kind(decoder, token, "an input's datatype", "a string");
    }
    char name[FM_OIP_NAME_SIZE];
    if (current_name(decoder, name, sizeof(name)) != 0) {
        return FM_ENOMEM;
    }
    input->is.dtype = fm_dtype_parse(name, strlen(name));
    return input->is.dtype != FM_DTYPE_INVALID ? 0 : fm_oip_dtype_unknown(&decoder->to, name);
}

static int finish_input(struct decoder *decoder, struct input *input)
{
    int status = fm_oip_input_check(&decoder->to, &input->is);
    if (status != 0) {
        return status;
    }
    const char *name = decoder->to.signature->inputs[input->is.port].name;
    struct fm_value *value = &decoder->to.request->inputs[input->is.port];
    if (input->is.region.given) {
        return input->has_data || input->has_binary
                   ? fm_error_set(decoder->to.reterr, FM_EINVAL,
                                  "input '%s' has both %s and shared_memory_region", name,
                                  input->has_data ? "data" : "binary_data_size")
                   : fm_oip_input_from_region(&decoder->to, &input->is, value);
    }
    if (input->has_binary) {
        return input->has_data ? fm_error_set(decoder->to.reterr, FM_EINVAL,
                                              "input '%s' has both data and binary_data_size", name)
                               : read_binary_tensor(decoder, input, value);
    }
    if (!input->has_data) {
        return fm_error_set(decoder->to.reterr, FM_EINVAL, "input '%s' has no data", name);
    }
    return value->tensor.dtype != FM_DTYPE_INVALID
               ? 0
               : read_json_tensor(decoder, &input->data, input, value);
}

/* "data": at once when everything it needs is known, else remembered and skipped. */
static int read_input_data(struct decoder *decoder, struct input *input)
{
    if (input->has_data) {
        return fm_error_set(decoder->to.reterr, FM_EINVAL, "an input has data twice");
    }
    input->has_data = true;
    if (input->is.port >= 0 && input->is.has_shape && input->is.dtype != FM_DTYPE_INVALID &&
        !input->has_binary) {
        int status = fm_oip_input_check(&decoder->to, &input->is);
        return status != 0 ? status
                           : read_json_tensor(decoder, &decoder->reader, input,
                                              &decoder->to.request->inputs[input->is.port]);
    }
    input->data = decoder->reader;
    return skip(decoder);
}

static int read_input(struct decoder *decoder)
{
    struct input input = {.is = {.port = -1}};
    enum fm_json_token token;
    while ((token = fm_json_next(&decoder->reader)) == FM_JSON_KEY) {
        int status = 0;
        if (fm_json_equals(&decoder->reader, "name")) {
            status = read_input_name(decoder, &input);
        } else if (fm_json_equals(&decoder->reader, "datatype")) {
            status = read_input_datatype(decoder, &input);
        } else if (fm_json_equals(&decoder->reader, "shape")) {
            status = read_shape(decoder, &input);
        } else if (fm_json_equals(&decoder->reader, "parameters")) {
            status = read_input_parameters(decoder, &input);
        } else if (fm_json_equals(&decoder->reader, "data")) {
            status = read_input_data(decoder, &input);
        } else {
            status = skip(decoder);
        }
        if (status != 0) {
            return status;
        }
    }
    return token == FM_JSON_OBJECT_END ? finish_input(decoder, &input) : malformed(decoder);
}

/* --- The members of an output --- */

struct output {
    int64_t port;
    bool binary_given;
    bool binary;
    uint64_t classes;
    struct fm_oip_region_request region;
};

static int read_output_parameters(struct decoder *decoder, struct output *output)
{
    enum fm_json_token token = fm_json_next(&decoder->reader);
    if (token != FM_JSON_OBJECT_BEGIN) {
        return wrong_kind(decoder, token, "an output's parameters", "an object");
    }
    while ((token = fm_json_next(&decoder->reader)) == FM_JSON_KEY) {
        int status = 0;
        if (fm_json_equals(&decoder->reader, "binary_data")) {
            output->binary_given = true;
            status = read_bool(decoder, "an output's binary_data", &output->binary);
        } else if (fm_json_equals(&decoder->reader, "classification")) {
            status = read_uint(decoder, "an output's classification", FM_OIP_CLASSES_MAX,
                               &output->classes);
        } else if (!read_region(decoder, &output->region, &status)) {
            status = skip(decoder);
        }
        if (status != 0) {
            return status;
        }
    }
    return token == FM_JSON_OBJECT_END ? 0 : malformed(decoder);
}

static int read_output(struct decoder *decoder)
{
    struct output output = {.port = -1};
    enum fm_json_token token;
    while ((token = fm_json_next(&decoder->reader)) == FM_JSON_KEY) {
        int status = 0;
        if (fm_json_equals(&decoder->reader, "name")) {
            token = fm_json_next(&decoder->reader);
            if (token != FM_JSON_STRING) {
                return wrong_kind(decoder, token, "an output's name", "a string");
            }
            output.port = port_find(decoder, decoder->to.signature->outputs,
                                    decoder->to.signature->output_count);
            if (output.port < 0) {
                return port_unknown(decoder, "output", decoder->to.signature->outputs,
                                    decoder->to.signature->output_count);
            }
        } else if (fm_json_equals(&decoder->reader, "parameters")) {
            status = read_output_parameters(decoder, &output);
        } else {
            status = skip(decoder);
        }
        if (status != 0) {
            return status;
        }
    }
    if (token != FM_JSON_OBJECT_END) {
        return malformed(decoder);
    }
    if (output.port < 0) {
        return fm_error_set(decoder->to.reterr, FM_EINVAL, "an output has no name");
    }
    /* One that does not say whether it is binary is settled at the end, when the request's own
     * default is known. */
    const struct fm_oip_output added = {.port = (uint32_t)output.port,
                                        .binary = output.binary,
                                        .binary_given = output.binary_given,
                                        .classes = (uint32_t)output.classes};
    return fm_oip_output_add(&decoder->to, &added, &output.region);
}

/* --- The request --- */

static int read_sequence_id(struct decoder *decoder)
{
    enum fm_json_token token = fm_json_next(&decoder->reader);
    if (token == FM_JSON_ERROR) {
        return malformed(decoder);
    }
    uint64_t id = 0;
    bool none =
        (token == FM_JSON_NUMBER && fm_json_uint64(&decoder->reader, &id) == 0 && id == 0) ||
        (token == FM_JSON_STRING && decoder->reader.text_length == 0);
    return none ? 0 : fm_oip_sequence_refused(&decoder->to);
}

static int read_parameters(struct decoder *decoder)
{
    enum fm_json_token token = fm_json_next(&decoder->reader);
    if (token != FM_JSON_OBJECT_BEGIN) {
        return wrong_kind(decoder, token, "the request's parameters", "an object");
    }
    while ((token = fm_json_next(&decoder->reader)) == FM_JSON_KEY) {
        int status = 0;
        if (fm_json_equals(&decoder->reader, "timeout")) {
            status = read_uint(decoder, "parameter timeout (microseconds)", INT64_MAX,
                               &decoder->to.request->timeout_us);
        } else if (fm_json_equals(&decoder->reader, "priority")) {
            status =
                read_uint(decoder, "parameter priority", INT64_MAX, &decoder->to.request->priority);
        } else if (fm_json_equals(&decoder->reader, "binary_data_output")) {
            status = read_bool(decoder, "parameter binary_data_output", &decoder->binary_default);
        } else if (fm_json_equals(&decoder->reader, "sequence_id")) {
            status = read_sequence_id(decoder);
        } else {
            status = skip(decoder);
        }
        if (status != 0) {
            return status;
        }
    }
    return token == FM_JSON_OBJECT_END ? 0 : malformed(decoder);
}

static int read_id(struct decoder *decoder)
{
    enum fm_json_token token = fm_json_next(&decoder->reader);
    if (token != FM_JSON_STRING) {
        return wrong_kind(decoder, token, "the request's id", "a string");
    }
    decoder->sight.ids++;
    if (!decoder->reader.escaped) {
        return fm_oip_id_set(&decoder->to, decoder->reader.text, decoder->reader.text_length,
                             FM_OIP_ID_INLINE);
    }
    struct fm_text text = {0};
    fm_json_decode(&decoder->reader, &text);
    int status = text.failed
                     ? fm_oip_no_memory(&decoder->to)
                     : fm_oip_id_set(&decoder->to, text.data, text.length, FM_OIP_ID_INLINE);
    fm_text_deinit(&text);
    return status;
}

/* "inputs" or "outputs": an array of objects. */
static int read_list(struct decoder *decoder, bool inputs)
{
    enum fm_json_token token = fm_json_next(&decoder->reader);
    const char *what = inputs ? "inputs" : "outputs";
    if (token != FM_JSON_ARRAY_BEGIN) {
        return wrong_kind(decoder, token, what, "an array of objects");
    }
    while ((token = fm_json_next(&decoder->reader)) == FM_JSON_OBJECT_BEGIN) {
        int status = inputs ? read_input(decoder) : read_output(decoder);
        if (status != 0) {
            return status;
        }
    }
    return token == FM_JSON_ARRAY_END ? 0 : wrong_kind(decoder, token, what, "an array of objects");
}

static int read_request(struct decoder *decoder)
{
    enum fm_json_token token = fm_json_next(&decoder->reader);
    if (token != FM_JSON_OBJECT_BEGIN) {
        return wrong_kind(decoder, token, "the request", "a JSON object");
    }
    while ((token = fm_json_next(&decoder->reader)) == FM_JSON_KEY) {
        int status = 0;
        if (fm_json_equals(&decoder->reader, "inputs")) {
            status = read_list(decoder, true);
        } else if (fm_json_equals(&decoder->reader, "outputs")) {
            status = read_list(decoder, false);
        } else if (fm_json_equals(&decoder->reader, "parameters")) {
            status = read_parameters(decoder);
        } else if (fm_json_equals(&decoder->reader, "id")) {
            status = read_id(decoder);
        } else {
            status = skip(decoder);
        }
        if (status != 0) {
            return status;
        }
    }
    if (token != FM_JSON_OBJECT_END || fm_json_next(&decoder->reader) != FM_JSON_END) {
        return malformed(decoder);
    }
    size_t left = decoder->to.body->size - decoder->binary_offset;
    if (left > 0) {
        return fm_error_set(decoder->to.reterr, FM_EINVAL,
                            "%zu bytes at the end of the body belong to no input; check "
                            "Inference-Header-Content-Length and the inputs' binary_data_size",
                            left);
    }
    return 0;
}

/* All outputs when none were named; the default form for those that did not say; and what JSON
 * cannot carry is refused before any work is done. */
static int settle_outputs(struct decoder *decoder)
{
    struct fm_oip_request *request = decoder->to.request;
    bool all = request->output_count == 0;
    uint32_t count = all ? decoder->to.signature->output_count : request->output_count;
    for (uint32_t i = 0; i < count; i++) {
        struct fm_oip_output *output = &request->outputs[i];
        if (all) {
            *output = (struct fm_oip_output){.port = i};
        }
        if (!output->binary_given) {
            output->binary = decoder->binary_default;
        }
        const struct fm_port *port = &decoder->to.signature->outputs[output->port];
        int status = output->binary || output->classes > 0 || output->region.name != NULL ||
                             port->dtype == FM_DTYPE_INVALID
                         ? 0
                         : has_json_form(decoder, "output", port, port->dtype);
        if (status != 0) {
            return status;
        }
    }
    request->output_count = count;
    return 0;
}

/* --- The raw form --- */

static int raw_error(struct decoder *decoder, const char *why)
{
    return fm_error_set(decoder->to.reterr, FM_EINVAL,
                        "the raw request form does not fit model '%s': %s",
                        decoder->to.signature->name, why);
}

/* The shape of the one tensor that the whole body is: the batch is 1, and one variable dimension
 * follows from the size. */
static int raw_shape(struct decoder *decoder, struct fm_oip_input *input)
{
    const struct fm_port *port = &decoder->to.signature->inputs[0];
    if (port->rank < 0) {
        return raw_error(decoder, "its input has no fixed rank");
    }
    int64_t variable = -1;
    input->port = 0;
    input->dtype = port->dtype;
    input->rank = (uint32_t)port->rank;
    for (uint32_t i = 0; i < input->rank; i++) {
        input->shape[i] = port->shape[i];
        if (port->shape[i] >= 0) {
            continue;
        }
        input->shape[i] = 1;
        if (port->dtype == FM_DTYPE_BYTES || (i == 0 && decoder->to.signature->batch_max > 0)) {
            continue;
        }
        if (variable >= 0) {
            return raw_error(
                decoder, "its input has more than one variable dimension; send its shape in JSON");
        }
        variable = i;
    }
    if (port->dtype == FM_DTYPE_BYTES) {
        return 0;
    }
    size_t unit = 0;
    if (fm_tensor_bytes(input->dtype, input->shape, input->rank, &unit) != 0) {
        return raw_error(decoder, "its input's shape is too large");
    }
    if (variable >= 0 && unit > 0 && decoder->to.body->size % unit == 0) {
        input->shape[variable] = (int64_t)(decoder->to.body->size / unit);
    } else if (unit != decoder->to.body->size) {
        char shape[128];
        return fm_error_set(
            decoder->to.reterr, FM_ETYPE, "the raw body has %zu bytes, but input '%s' is %s%s",
            decoder->to.body->size, port->name, fm_dtype_name(port->dtype),
            fm_shape_format(port->shape, (uint32_t)port->rank, shape, sizeof(shape)));
    }
    return 0;
}

static int decode_raw(struct decoder *decoder)
{
    const struct fm_oip_signature *signature = decoder->to.signature;
    if (signature->input_count != 1) {
        return raw_error(decoder, "it has more than one input");
    }
    if (decoder->to.body->size == 0) {
        return raw_error(decoder, "the body is empty");
    }
    struct fm_oip_input input = {.port = 0};
    int status = raw_shape(decoder, &input);
    if (status != 0) {
        return status;
    }
    decoder->binary_default = !decoder->to.body->raw_answers_json;
    struct fm_value *value = &decoder->to.request->inputs[0];
    if (input.dtype != FM_DTYPE_BYTES) {
        return fm_oip_input_from_body(&decoder->to, &input, decoder->to.body->data,
                                      decoder->to.body->size, value);
    }
    uint64_t count = 0;
    if (fm_shape_element_count(input.shape, input.rank, &count) != 0 || count != 1) {
        return raw_error(decoder, "its BYTES input has more than one element");
    }
    if (decoder->to.body->size > UINT32_MAX) {
        return fm_error_set(decoder->to.reterr, FM_ETOOLARGE,
                            "one BYTES element holds at most 4294967295 bytes");
    }
    if (fm_value_from_bytes(value, decoder->to.body->data, decoder->to.body->size) != 0) {
        return fm_oip_no_memory(&decoder->to);
    }
    value->tensor.rank = input.rank;
    memcpy(value->tensor.shape, input.shape, sizeof(input.shape));
    return 0;
}

static int decode(struct decoder *decoder)
{
    const struct fm_oip_body *body = decoder->to.body;
    int status = 0;
    if (body->header_length == 0) {
        status = decode_raw(decoder);
    } else if (body->header_length != FM_OIP_HEADER_ABSENT && body->header_length > body->size) {
        status = fm_error_set(decoder->to.reterr, FM_EINVAL,
                              "Inference-Header-Content-Length is %llu, but the body has %zu bytes",
                              (unsigned long long)body->header_length, body->size);
    } else {
        size_t length =
            body->header_length == FM_OIP_HEADER_ABSENT ? body->size : (size_t)body->header_length;
        bool found = false;
        status = fm_oip_memo_decode(&decoder->to, length, &found);
        if (status != 0 || found) {
            return status;
        }
        decoder->sight.length = length;
        decoder->binary_offset = length;
        fm_json_reader_init(&decoder->reader, body->data, length);
        status = read_request(decoder);
    }
    if (status == 0) {
        status = fm_oip_inputs_settle(&decoder->to);
    }
    if (status == 0) {
        status = settle_outputs(decoder);
    }
    if (status == 0 && decoder->sight.length > 0) {
        fm_oip_memo_request(&decoder->to, &decoder->sight);
    }
    return status;
}

int fm_oip_request_decode(const struct fm_oip_signature *signature, const struct fm_oip_body *body,
                          struct fm_oip_request *ret_request, struct fm_error *reterr)
{
    struct fm_oip_request request = {.rows = 1};
    struct decoder decoder = {
        .to = {.signature = signature, .body = body, .request = &request, .reterr = reterr}};
    int status = fm_oip_request_init(&decoder.to, FM_OIP_ID_INLINE);
    if (status == 0) {
        status = decode(&decoder);
    }
    if (status != 0) {
        fm_oip_request_deinit(&request);
        return status;
    }
    *ret_request = request;
    return 0;
}
