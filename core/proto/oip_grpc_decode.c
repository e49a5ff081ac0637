/*
 * ModelInferRequest to tensors. See oip_grpc.h. Nothing is copied but typed contents, and raw ones
 * that lie unaligned. Pure.
 */
#include <string.h>

#include "core/proto/oip_grpc.h"
#include "core/proto/oip_internal.h"
#include "core/proto/protobuf.h"
#include "core/util/error.h"

/* Field numbers of ModelInferRequest, of its tensors, and of what is inside them. */
enum { REQUEST_NAME = 1, REQUEST_VERSION, REQUEST_ID, REQUEST_PARAMETERS, REQUEST_INPUTS };
enum { REQUEST_OUTPUTS = 6, REQUEST_RAW };
enum { TENSOR_NAME = 1, TENSOR_DATATYPE, TENSOR_SHAPE, TENSOR_PARAMETERS, TENSOR_CONTENTS };
enum { OUTPUT_NAME = 1, OUTPUT_PARAMETERS };
enum { ENTRY_KEY = 1, ENTRY_VALUE };
enum { PARAMETER_BOOL = 1, PARAMETER_INT64, PARAMETER_STRING, PARAMETER_DOUBLE, PARAMETER_UINT64 };
enum {
    CONTENTS_BOOL = 1,
    CONTENTS_INT,
    CONTENTS_INT64,
    CONTENTS_UINT,
    CONTENTS_UINT64,
    CONTENTS_FP32,
    CONTENTS_FP64,
    CONTENTS_BYTES,
};

struct decoder {
    struct fm_oip_decoding to;
    struct fm_protobuf_reader raw; /* at or before the next entry of raw_input_contents */
    uint32_t raw_count;
    uint32_t raw_used;
    uint32_t next_input; /* port that probably comes next: most clients keep the model's order */
    uint32_t next_output;
};

static int malformed(struct fm_error *reterr, const char *where)
{
    return fm_error_set(reterr, FM_EINVAL,
                        "the request is no well-formed ModelInferRequest: mistake in %s", where);
}

static bool is_bytes(const struct fm_protobuf_field *field)
{
    return field->type == FM_PROTOBUF_BYTES;
}

int fm_oip_grpc_peek(const void *data, size_t size, struct fm_oip_grpc_head *ret_head,
                     struct fm_error *reterr)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(data, size);
    struct fm_protobuf_field field;
    struct fm_oip_grpc_head head = {{"", 0}, {"", 0}, {"", 0}, NULL, 0};
    int more;
    const uint8_t *before = reader.at;
    if (size > FM_OIP_GRPC_MESSAGE_MAX) {
        return fm_error_set(reterr, FM_ETOOLARGE, "a gRPC message holds at most %d bytes",
                            FM_OIP_GRPC_MESSAGE_MAX);
    }
    while ((more = fm_protobuf_next(&reader, &field)) == 1) {
        if (field.number >= REQUEST_NAME && field.number <= REQUEST_RAW && !is_bytes(&field)) {
            return malformed(reterr, "the type of a field");
        }
        const struct fm_oip_view view = {(const char *)field.data, field.size};
        if (field.number == REQUEST_NAME) {
            head.model_name = view;
        } else if (field.number == REQUEST_VERSION) {
            head.model_version = view;
        } else if (field.number == REQUEST_ID) {
            head.id = view;
        } else if (field.number == REQUEST_RAW) {
            head.raw = head.raw_count++ == 0 ? (const char *)before : head.raw;
        }
        before = reader.at;
    }
    if (more != 0) {
        return malformed(reterr, "its fields");
    }
    *ret_head = head;
    return 0;
}

int fm_oip_version_parse(const char *version, size_t length, uint64_t *ret_version,
                         struct fm_error *reterr)
{
    uint64_t value = 0;
    *ret_version = 0;
    if (length == 0 || (length == 2 && memcmp(version, "-1", 2) == 0)) {
        return 0;
    }
    bool good = length <= 20;
    for (size_t i = 0; good && i < length; i++) {
        unsigned digit = (unsigned)(unsigned char)version[i] - '0';
        good = digit <= 9 && value <= (UINT64_MAX - digit) / 10;
        value = value * 10 + digit;
    }
    if (!good || value == 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "failed to get model version from specified version string '%.*s': it "
                            "is a positive number or empty",
                            length > 40 ? 40 : (int)length, version);
    }
    *ret_version = value;
    return 0;
}

/* --- Parameters --- */

struct parameter {
    struct fm_protobuf_field key;
    uint32_t kind; /* PARAMETER_*; 0: none */
    struct fm_protobuf_field value;
};

static int read_parameter_value(struct decoder *decoder, const struct fm_protobuf_field *message,
                                struct parameter *parameter)
{
    static const uint8_t types[] = {[PARAMETER_BOOL] = FM_PROTOBUF_VARINT,
                                    [PARAMETER_INT64] = FM_PROTOBUF_VARINT,
                                    [PARAMETER_STRING] = FM_PROTOBUF_BYTES,
                                    [PARAMETER_DOUBLE] = FM_PROTOBUF_FIXED64,
                                    [PARAMETER_UINT64] = FM_PROTOBUF_VARINT};
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(message->data, message->size);
    struct fm_protobuf_field field;
    int more;
    while ((more = fm_protobuf_next(&reader, &field)) == 1) {
        if (field.number > PARAMETER_UINT64) {
            continue;
        }
        if (field.type != types[field.number]) {
            more = FM_EINVAL;
            break;
        }
        parameter->kind = field.number;
        parameter->value = field;
    }
    return more == 0 ? 0 : malformed(decoder->to.reterr, "a parameter's value");
}

/* An entry of a map of parameters. */
static int read_parameter(struct decoder *decoder, const struct fm_protobuf_field *entry,
                          struct parameter *ret_parameter)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(entry->data, entry->size);
    struct fm_protobuf_field field;
    ret_parameter->key = (struct fm_protobuf_field){.type = FM_PROTOBUF_BYTES};
    ret_parameter->key.data = (const uint8_t *)"";
    ret_parameter->kind = 0;
    int more = is_bytes(entry) ? 0 : FM_EINVAL;
    while (more == 0 && (more = fm_protobuf_next(&reader, &field)) == 1) {
        more = 0;
        if (field.number > ENTRY_VALUE) {
            continue;
        }
        if (!is_bytes(&field)) {
            more = FM_EINVAL;
        } else if (field.number == ENTRY_KEY) {
            ret_parameter->key = field;
        } else {
            int status = read_parameter_value(decoder, &field, ret_parameter);
            if (status != 0) {
                return status;
            }
        }
    }
    return more == 0 ? 0 : malformed(decoder->to.reterr, "a parameter");
}

/* A whole number that is not negative, in whichever kind it was sent. */
static int parameter_uint(struct decoder *decoder, const struct parameter *parameter,
                          const char *where, uint64_t max, uint64_t *ret_value)
{
    const struct fm_protobuf_field *value = &parameter->value;
    char text[24];
    bool good = false;
    if (parameter->kind == PARAMETER_INT64 || parameter->kind == PARAMETER_UINT64) {
        *ret_value = value->value;
        good = true;
    } else if (parameter->kind == PARAMETER_STRING && value->size > 0 &&
               value->size < sizeof(text) && value->data[0] >= '0' && value->data[0] <= '9') {
        memcpy(text, value->data, value->size);
        text[value->size] = '\0';
        good = strlen(text) == value->size && fm_parse_uint64(text, ret_value) == 0;
    }
    return good && *ret_value <= max ? 0 : fm_oip_number_wrong(&decoder->to, where, max);
}

/* A sequence is one whose id is neither 0 nor empty. */
static bool is_sequence(const struct parameter *parameter)
{
    return parameter->kind == PARAMETER_STRING
               ? parameter->value.size > 0
               : parameter->kind != 0 && parameter->value.value != 0;
}

static int request_parameter(struct decoder *decoder, const struct fm_protobuf_field *entry)
{
    struct fm_oip_request *request = decoder->to.request;
    struct parameter parameter;
    int status = read_parameter(decoder, entry, &parameter);
    if (status != 0) {
        return status;
    }
    if (fm_protobuf_equals(&parameter.key, "timeout")) {
        return parameter_uint(decoder, &parameter, "parameter timeout (microseconds)", INT64_MAX,
                              &request->timeout_us);
    }
    if (fm_protobuf_equals(&parameter.key, "priority")) {
        return parameter_uint(decoder, &parameter, "parameter priority", INT64_MAX,
                              &request->priority);
    }
    if (fm_protobuf_equals(&parameter.key, "triton_enable_empty_final_response")) {
        request->empty_final_response =
            parameter.kind == PARAMETER_BOOL && parameter.value.value != 0;
    } else if (fm_protobuf_equals(&parameter.key, "sequence_id") && is_sequence(&parameter)) {
        return fm_oip_sequence_refused(&decoder->to);
    }
    return 0;
}

/* Of an input or output: where in shared memory it lies. *ret_taken: it was one of those. */
static int region_parameter(struct decoder *decoder, const struct parameter *parameter,
                            struct fm_oip_region_request *region, bool *ret_taken)
{
    *ret_taken = true;
    if (fm_protobuf_equals(&parameter->key, "shared_memory_region")) {
        return parameter->kind != PARAMETER_STRING
                   ? fm_error_set(decoder->to.reterr, FM_EINVAL,
                                  "a tensor's shared_memory_region must be a string")
                   : fm_oip_region_name_set(&decoder->to, region,
                                            (const char *)parameter->value.data,
                                            parameter->value.size);
    }
    if (fm_protobuf_equals(&parameter->key, "shared_memory_byte_size")) {
        region->has_size = true;
        return parameter_uint(decoder, parameter, "a tensor's shared_memory_byte_size", INT64_MAX,
                              &region->size);
    }
    if (fm_protobuf_equals(&parameter->key, "shared_memory_offset")) {
        return parameter_uint(decoder, parameter, "a tensor's shared_memory_offset", INT64_MAX,
                              &region->offset);
    }
    *ret_taken = false;
    return 0;
}

static void region_clear(struct fm_oip_region_request *region)
{
    /* Not the whole name: it is long, and few tensors have one. */
    region->given = false;
    region->has_size = false;
    region->offset = 0;
    region->size = 0;
    region->name[0] = '\0';
}

/* --- Typed contents --- */

/* The field of InferTensorContents for a type, and the type of its elements. 0: there is none. */
static uint32_t contents_field(uint32_t dtype, uint32_t *ret_type)
{
    static const uint8_t fields[FM_DTYPE_COUNT_] = {
        [FM_DTYPE_BOOL] = CONTENTS_BOOL,     [FM_DTYPE_UINT8] = CONTENTS_UINT,
        [FM_DTYPE_UINT16] = CONTENTS_UINT,   [FM_DTYPE_UINT32] = CONTENTS_UINT,
        [FM_DTYPE_UINT64] = CONTENTS_UINT64, [FM_DTYPE_INT8] = CONTENTS_INT,
        [FM_DTYPE_INT16] = CONTENTS_INT,     [FM_DTYPE_INT32] = CONTENTS_INT,
        [FM_DTYPE_INT64] = CONTENTS_INT64,   [FM_DTYPE_FP32] = CONTENTS_FP32,
        [FM_DTYPE_FP64] = CONTENTS_FP64,     [FM_DTYPE_BYTES] = CONTENTS_BYTES,
    };
    uint32_t field = fields[dtype];
    *ret_type = field == CONTENTS_FP32    ? FM_PROTOBUF_FIXED32
                : field == CONTENTS_FP64  ? FM_PROTOBUF_FIXED64
                : field == CONTENTS_BYTES ? FM_PROTOBUF_BYTES
                                          : FM_PROTOBUF_VARINT;
    return field;
}

static const char *contents_name(uint32_t field)
{
    static const char *const names[] = {"contents",       "bool_contents", "int_contents",
                                        "int64_contents", "uint_contents", "uint64_contents",
                                        "fp32_contents",  "fp64_contents", "bytes_contents"};
    return names[field <= CONTENTS_BYTES ? field : 0];
}

/* Walks every element-carrying field of every `contents` that a tensor message has: a message that
 * comes twice is one message in two pieces. */
struct contents_walk {
    struct fm_protobuf_reader tensor;
    struct fm_protobuf_reader contents;
};

static int contents_next(struct contents_walk *walk, struct fm_protobuf_field *ret_field)
{
    for (;;) {
        int more = fm_protobuf_next(&walk->contents, ret_field);
        if (more != 0) {
            return more;
        }
        do {
            more = fm_protobuf_next(&walk->tensor, ret_field);
        } while (more == 1 && ret_field->number != TENSOR_CONTENTS);
        if (more != 1) {
            return more;
        }
        walk->contents = fm_protobuf_reader_make(ret_field->data, ret_field->size);
    }
}

/* Counts the elements, and for BYTES their bytes. */
static int contents_measure(struct decoder *decoder, const struct fm_oip_input *input,
                            struct contents_walk walk, uint64_t *ret_count, size_t *ret_size)
{
    const char *name = decoder->to.signature->inputs[input->port].name;
    uint32_t type;
    uint32_t wanted = contents_field(input->dtype, &type);
    struct fm_protobuf_field field;
    int more;
    if (wanted == 0) {
        return fm_error_set(decoder->to.reterr, FM_EINVAL,
                            "input '%s' is %s, which has no form in contents; use "
                            "raw_input_contents",
                            name, fm_dtype_name(input->dtype));
    }
    *ret_count = 0;
    *ret_size = 0;
    while ((more = contents_next(&walk, &field)) == 1) {
        uint64_t count = 0;
        if (field.number > CONTENTS_BYTES) {
            continue;
        }
        if (field.number != wanted) {
            if (is_bytes(&field) && field.size == 0 && field.number != CONTENTS_BYTES) {
                continue;
            }
            return fm_error_set(decoder->to.reterr, FM_ETYPE,
                                "input '%s' is %s, whose elements belong in %s, not in %s", name,
                                fm_dtype_name(input->dtype), contents_name(wanted),
                                contents_name(field.number));
        }
        if (fm_protobuf_packed_count(&field, type, &count) != 0) {
            more = FM_EINVAL;
            break;
        }
        *ret_count += count;
        *ret_size += 4 + field.size;
    }
    return more == 0 ? 0 : malformed(decoder->to.reterr, "an input's contents");
}

static int element_wrong(struct decoder *decoder, const struct fm_oip_input *input, uint64_t index,
                         uint64_t element)
{
    long long value =
        input->dtype >= FM_DTYPE_INT8 ? (int32_t)(uint32_t)element : (long long)(uint32_t)element;
    return fm_error_set(decoder->to.reterr, FM_ETYPE,
                        "input '%s': element %llu, %lld is not a value of type %s",
                        decoder->to.signature->inputs[input->port].name, (unsigned long long)index,
                        value, fm_dtype_name(input->dtype));
}

/* One element to its place; false when it does not fit the type. */
static bool element_store(uint32_t dtype, uint64_t element, unsigned char *out)
{
    uint32_t bits = fm_dtype_bits(dtype);
    if (dtype == FM_DTYPE_BOOL) {
        *out = element != 0;
        return true;
    }
    if (bits < 64 && dtype >= FM_DTYPE_UINT8 && dtype <= FM_DTYPE_UINT32 &&
        (uint32_t)element >> (bits - 1) > 1) {
        return false;
    }
    if (dtype == FM_DTYPE_INT8 || dtype == FM_DTYPE_INT16) {
        int32_t value = (int32_t)(uint32_t)element;
        if (value >= 1 << (bits - 1) || value < -(1 << (bits - 1))) {
            return false;
        }
    }
    memcpy(out, &element, bits / 8);
    return true;
}

static int contents_fill(struct decoder *decoder, const struct fm_oip_input *input,
                         struct contents_walk walk, unsigned char *out)
{
    uint32_t type;
    uint32_t wanted = contents_field(input->dtype, &type);
    size_t unit = fm_dtype_bits(input->dtype) / 8;
    struct fm_protobuf_field field;
    uint64_t index = 0;
    while (contents_next(&walk, &field) == 1) {
        if (field.number != wanted) {
            continue;
        }
        if (type == FM_PROTOBUF_BYTES) {
            uint32_t length = (uint32_t)field.size;
            memcpy(out, &length, sizeof(length));
            memcpy(out + sizeof(length), field.data, field.size);
            out += sizeof(length) + field.size;
        } else if (!is_bytes(&field)) {
            if (!element_store(input->dtype, field.value, out)) {
                return element_wrong(decoder, input, index, field.value);
            }
            out += unit;
            index++;
        } else if (type != FM_PROTOBUF_VARINT) {
            memcpy(out, field.data, field.size);
            out += field.size;
        } else {
            struct fm_protobuf_reader packed = fm_protobuf_reader_make(field.data, field.size);
            uint64_t element = 0;
            int more;
            while ((more = fm_protobuf_packed_next(&packed, type, &element)) == 1) {
                if (!element_store(input->dtype, element, out)) {
                    return element_wrong(decoder, input, index, element);
                }
                out += unit;
                index++;
            }
            if (more != 0) {
                return malformed(decoder->to.reterr, "an input's contents");
            }
        }
    }
    return 0;
}

static int read_contents(struct decoder *decoder, const struct fm_oip_input *input,
                         const struct fm_protobuf_field *tensor, struct fm_value *ret_value)
{
    struct contents_walk walk = {fm_protobuf_reader_make(tensor->data, tensor->size),
                                 fm_protobuf_reader_make(NULL, 0)};
    uint64_t count = 0;
    uint64_t expected = 0;
    size_t size = 0;
    int status = contents_measure(decoder, input, walk, &count, &size);
    if (status != 0) {
        return status;
    }
    if (fm_shape_element_count(input->shape, input->rank, &expected) != 0) {
        /* No message holds so many. */
        expected = UINT64_MAX;
    }
    if (expected != count) {
        char shape[128];
        return fm_error_set(decoder->to.reterr, FM_ETYPE,
                            "input '%s': shape %s needs %llu elements, but its data has %s",
                            decoder->to.signature->inputs[input->port].name,
                            fm_shape_format(input->shape, input->rank, shape, sizeof(shape)),
                            (unsigned long long)expected, count > expected ? "more" : "fewer");
    }
    struct fm_value value = {0};
    if (fm_value_alloc(&value, input->dtype, input->shape, input->rank, size) != 0) {
        return fm_oip_no_memory(&decoder->to);
    }
    status = contents_fill(decoder, input, walk, value.tensor.data);
    if (status != 0) {
        fm_value_unref(&value);
        return status;
    }
    decoder->to.request->bytes_copied += value.tensor.size;
    *ret_value = value;
    return 0;
}

/* --- Inputs --- */

static int port_find(struct decoder *decoder, const struct fm_protobuf_field *field,
                     const struct fm_port *ports, uint32_t count, const char *what, uint32_t *next,
                     int64_t *ret_port)
{
    uint32_t port = *next;
    for (uint32_t i = 0; i < count; i++) {
        if (fm_protobuf_equals(field, ports[port].name)) {
            *ret_port = port;
            *next = port + 1 < count ? port + 1 : 0;
            return 0;
        }
        port = port + 1 < count ? port + 1 : 0;
    }
    char name[FM_OIP_NAME_SIZE];
    size_t length = field->size < sizeof(name) - 1 ? field->size : sizeof(name) - 1;
    memcpy(name, field->data, length);
    name[length] = '\0';
    return fm_oip_port_unknown(&decoder->to, what, name, ports, count);
}

static int read_datatype(struct decoder *decoder, const struct fm_protobuf_field *field,
                         struct fm_oip_input *input)
{
    if (input->port >= 0) {
        /* What nearly every request says; the table need not be searched. */
        uint32_t expected = decoder->to.signature->inputs[input->port].dtype;
        if (fm_protobuf_equals(field, fm_dtype_name(expected)) && expected != FM_DTYPE_INVALID) {
            input->dtype = expected;
            return 0;
        }
    }
    input->dtype = fm_dtype_parse((const char *)field->data, field->size);
    if (input->dtype != FM_DTYPE_INVALID) {
        return 0;
    }
    char name[FM_OIP_NAME_SIZE];
    size_t length = field->size < sizeof(name) - 1 ? field->size : sizeof(name) - 1;
    memcpy(name, field->data, length);
    name[length] = '\0';
    return fm_oip_dtype_unknown(&decoder->to, name);
}

static int read_shape(struct decoder *decoder, const struct fm_protobuf_field *field,
                      struct fm_oip_input *input)
{
    if (field->type == FM_PROTOBUF_VARINT) {
        return fm_oip_dimension_add(&decoder->to, input, (int64_t)field->value);
    }
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(field->data, field->size);
    uint64_t dimension = 0;
    int more = is_bytes(field) ? 0 : FM_EINVAL;
    while (more == 0 &&
           (more = fm_protobuf_packed_next(&reader, FM_PROTOBUF_VARINT, &dimension)) == 1) {
        int status = fm_oip_dimension_add(&decoder->to, input, (int64_t)dimension);
        if (status != 0) {
            return status;
        }
        more = 0;
    }
    return more == 0 ? 0 : malformed(decoder->to.reterr, "an input's shape");
}

/* The next entry of raw_input_contents. */
static int read_raw(struct decoder *decoder, const struct fm_oip_input *input,
                    struct fm_value *ret_value)
{
    const char *name = decoder->to.signature->inputs[input->port].name;
    struct fm_protobuf_field field;
    if (decoder->raw_used == decoder->raw_count) {
        return decoder->raw_count == 0
                   ? fm_error_set(decoder->to.reterr, FM_EINVAL, "input '%s' has no data", name)
                   : fm_error_set(decoder->to.reterr, FM_EINVAL,
                                  "input '%s' has no data: raw_input_contents has only %u entries",
                                  name, decoder->raw_count);
    }
    decoder->raw_used++;
    do {
        if (fm_protobuf_next(&decoder->raw, &field) != 1) {
            return malformed(decoder->to.reterr, "raw_input_contents");
        }
    } while (field.number != REQUEST_RAW);
    int status = fm_oip_input_size_check(&decoder->to, input, field.size,
                                         "its entry of raw_input_contents has");
    return status != 0 ? status
                       : fm_oip_input_from_body(&decoder->to, input, (const char *)field.data,
                                                field.size, ret_value);
}

static int finish_input(struct decoder *decoder, const struct fm_oip_input *input,
                        bool has_contents, const struct fm_protobuf_field *message)
{
    int status = fm_oip_input_check(&decoder->to, input);
    if (status != 0) {
        return status;
    }
    const char *name = decoder->to.signature->inputs[input->port].name;
    struct fm_value *value = &decoder->to.request->inputs[input->port];
    if (input->region.given) {
        return has_contents
                   ? fm_error_set(decoder->to.reterr, FM_EINVAL,
                                  "input '%s' has both contents and shared_memory_region", name)
                   : fm_oip_input_from_region(&decoder->to, input, value);
    }
    if (!has_contents) {
        return read_raw(decoder, input, value);
    }
    return decoder->raw_count > 0
               ? fm_error_set(decoder->to.reterr, FM_EINVAL,
                              "contents field must not be specified when using raw_input_contents "
                              "for '%s' for model '%s'",
                              name, decoder->to.signature->name)
               : read_contents(decoder, input, message, value);
}

static int read_input_field(struct decoder *decoder, const struct fm_protobuf_field *field,
                            struct fm_oip_input *input, bool *has_contents)
{
    const struct fm_oip_signature *signature = decoder->to.signature;
    int status = 0;
    if (field->number == TENSOR_SHAPE) {
        return read_shape(decoder, field, input);
    }
    if (field->number <= TENSOR_CONTENTS && !is_bytes(field)) {
        return malformed(decoder->to.reterr, "an input");
    }
    if (field->number == TENSOR_NAME) {
        status = port_find(decoder, field, signature->inputs, signature->input_count, "input",
                           &decoder->next_input, &input->port);
        return status != 0 ? status : fm_oip_input_once(&decoder->to, input);
    }
    if (field->number == TENSOR_DATATYPE) {
        return read_datatype(decoder, field, input);
    }
    if (field->number == TENSOR_PARAMETERS) {
        struct parameter parameter;
        bool taken;
        status = read_parameter(decoder, field, &parameter);
        return status != 0 ? status : region_parameter(decoder, &parameter, &input->region, &taken);
    }
    *has_contents = *has_contents || field->number == TENSOR_CONTENTS;
    return 0;
}

static int read_input(struct decoder *decoder, const struct fm_protobuf_field *message)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(message->data, message->size);
    struct fm_protobuf_field field;
    struct fm_oip_input input;
    bool has_contents = false;
    int more;
    input.port = -1;
    input.dtype = FM_DTYPE_INVALID;
    input.rank = 0;
    /* A shape of no dimensions is written as nothing at all. */
    input.has_shape = true;
    region_clear(&input.region);
    while ((more = fm_protobuf_next(&reader, &field)) == 1) {
        int status = read_input_field(decoder, &field, &input, &has_contents);
        if (status != 0) {
            return status;
        }
    }
    return more == 0 ? finish_input(decoder, &input, has_contents, message)
                     : malformed(decoder->to.reterr, "an input");
}

/* --- Outputs --- */

static int read_output_parameter(struct decoder *decoder, const struct fm_protobuf_field *field,
                                 struct fm_oip_output *output, struct fm_oip_region_request *region)
{
    struct parameter parameter;
    bool taken = false;
    int status = read_parameter(decoder, field, &parameter);
    if (status == 0) {
        status = region_parameter(decoder, &parameter, region, &taken);
    }
    if (status != 0 || taken || !fm_protobuf_equals(&parameter.key, "classification")) {
        return status;
    }
    uint64_t classes = 0;
    status = parameter_uint(decoder, &parameter, "an output's classification", FM_OIP_CLASSES_MAX,
                            &classes);
    output->classes = (uint32_t)classes;
    return status;
}

static int read_output(struct decoder *decoder, const struct fm_protobuf_field *message)
{
    const struct fm_oip_signature *signature = decoder->to.signature;
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(message->data, message->size);
    struct fm_protobuf_field field;
    struct fm_oip_output output = {.binary = true};
    struct fm_oip_region_request region;
    int64_t port = -1;
    int more;
    region_clear(&region);
    while ((more = fm_protobuf_next(&reader, &field)) == 1) {
        int status = 0;
        if (field.number <= OUTPUT_PARAMETERS && !is_bytes(&field)) {
            return malformed(decoder->to.reterr, "an output");
        }
        if (field.number == OUTPUT_NAME) {
            status = port_find(decoder, &field, signature->outputs, signature->output_count,
                               "output", &decoder->next_output, &port);
        } else if (field.number == OUTPUT_PARAMETERS) {
            status = read_output_parameter(decoder, &field, &output, &region);
        }
        if (status != 0) {
            return status;
        }
    }
    if (more != 0) {
        return malformed(decoder->to.reterr, "an output");
    }
    if (port < 0) {
        return fm_error_set(decoder->to.reterr, FM_EINVAL, "an output has no name");
    }
    output.port = (uint32_t)port;
    return fm_oip_output_add(&decoder->to, &output, &region);
}

/* --- The request --- */

static int read_request(struct decoder *decoder)
{
    const struct fm_oip_body *body = decoder->to.body;
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(body->data, body->size);
    struct fm_protobuf_field field;
    int more;
    while ((more = fm_protobuf_next(&reader, &field)) == 1) {
        int status = 0;
        if (field.number == REQUEST_INPUTS) {
            status = read_input(decoder, &field);
        } else if (field.number == REQUEST_OUTPUTS) {
            status = read_output(decoder, &field);
        } else if (field.number == REQUEST_PARAMETERS) {
            status = request_parameter(decoder, &field);
        }
        if (status != 0) {
            return status;
        }
    }
    if (more != 0) {
        return malformed(decoder->to.reterr, "its fields");
    }
    if (decoder->raw_used != decoder->raw_count) {
        return fm_error_set(decoder->to.reterr, FM_EINVAL,
                            "raw_input_contents has %u entries, but %u inputs take one",
                            decoder->raw_count, decoder->raw_used);
    }
    return 0;
}

static int decode(struct decoder *decoder, const struct fm_oip_grpc_head *head)
{
    struct fm_oip_request *request = decoder->to.request;
    int status = fm_oip_request_init(&decoder->to, head->id.size);
    if (status == 0 && head->id.size > 0) {
        status = fm_oip_id_set(&decoder->to, head->id.data, head->id.size, head->id.size);
    }
    if (status == 0) {
        status = read_request(decoder);
    }
    if (status == 0) {
        status = fm_oip_inputs_settle(&decoder->to);
    }
    if (status == 0 && request->output_count == 0) {
        for (uint32_t i = 0; i < decoder->to.signature->output_count; i++) {
            request->outputs[i] = (struct fm_oip_output){.port = i, .binary = true};
        }
        request->output_count = decoder->to.signature->output_count;
    }
    return status;
}

int fm_oip_grpc_decode(const struct fm_oip_signature *signature, const struct fm_oip_body *body,
                       const struct fm_oip_grpc_head *head, struct fm_oip_request *ret_request,
                       struct fm_error *reterr)
{
    struct fm_oip_request request = {.rows = 1};
    struct decoder decoder = {
        .to = {.signature = signature, .body = body, .request = &request, .reterr = reterr},
        .raw_count = head->raw_count};
    if (head->raw != NULL) {
        decoder.raw =
            fm_protobuf_reader_make(head->raw, body->size - (size_t)(head->raw - body->data));
    }
    int status = decode(&decoder, head);
    if (status != 0) {
        fm_oip_request_deinit(&request);
        return status;
    }
    *ret_request = request;
    return 0;
}
