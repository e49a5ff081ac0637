/*
 * Infer requests as JSON with binary tensors behind it, and as ModelInferRequest. See oip_client.h.
 * Tensors are not copied. Pure.
 */
#include <string.h>

#include "core/proto/oip_client.h"
#include "core/proto/oip_grpc.h"
#include "core/proto/oip_internal.h"
#include "core/proto/protobuf.h"
#include "core/util/error.h"

#define VARINT_MAX ((size_t)FM_PROTOBUF_VARINT_MAX)

/* --- What both forms check --- */

static int input_check(const struct fm_client_input *input, struct fm_error *reterr)
{
    const struct fm_tensor *tensor = &input->tensor;
    if (input->name == NULL || input->name[0] == '\0') {
        return fm_error_set(reterr, FM_EINVAL, "an input has no name");
    }
    if (tensor->dtype == FM_DTYPE_INVALID || tensor->dtype >= FM_DTYPE_COUNT_) {
        return fm_error_set(reterr, FM_ETYPE, "input '%s' has no data type", input->name);
    }
    if (input->region == NULL) {
        int status = fm_tensor_check(tensor, reterr);
        return status != 0 ? fm_error_prefix(reterr, status, "input '%s'", input->name) : 0;
    }
    uint64_t count = 0;
    if (tensor->rank > FM_RANK_MAX ||
        fm_shape_element_count(tensor->shape, tensor->rank, &count) != 0) {
        return fm_error_set(reterr, FM_ETYPE, "input '%s' has an impossible shape", input->name);
    }
    return 0;
}

static int parameter_check(const struct fm_client_parameter *parameter, struct fm_error *reterr)
{
    static const char *const reserved[] = {"priority", "timeout", "binary_data_output"};
    if (parameter->name == NULL || parameter->name[0] == '\0') {
        return fm_error_set(reterr, FM_EINVAL, "a parameter has no name");
    }
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        if (strcmp(parameter->name, reserved[i]) == 0) {
            return fm_error_set(reterr, FM_EINVAL,
                                "'%s' is not a parameter of your own: use the request's fields",
                                parameter->name);
        }
    }
    if (parameter->kind > FM_CLIENT_PARAMETER_NUMBER ||
        (parameter->kind == FM_CLIENT_PARAMETER_STRING && parameter->string == NULL)) {
        return fm_error_set(reterr, FM_EINVAL, "parameter '%s' has no value", parameter->name);
    }
    return 0;
}

static int request_check(const struct fm_client_request *request, struct fm_error *reterr)
{
    int status = 0;
    if (request->model == NULL || request->model[0] == '\0') {
        return fm_error_set(reterr, FM_EINVAL, "the request names no model");
    }
    for (uint32_t i = 0; status == 0 && i < request->input_count; i++) {
        status = input_check(&request->inputs[i], reterr);
    }
    for (uint32_t i = 0; status == 0 && i < request->output_count; i++) {
        if (request->outputs[i].name == NULL || request->outputs[i].name[0] == '\0') {
            status = fm_error_set(reterr, FM_EINVAL, "an output has no name");
        }
    }
    for (uint32_t i = 0; status == 0 && i < request->parameter_count; i++) {
        status = parameter_check(&request->parameters[i], reterr);
    }
    return status;
}

/* Microseconds, and not none where there is some. */
static uint64_t timeout_us(const struct fm_client_request *request)
{
    return request->timeout_ns / 1000 + (request->timeout_ns % 1000 != 0);
}

/* One part for the head and two for each input: bytes of the head, then the tensor. */
static int message_init(struct fm_oip_client_message *message, uint32_t input_count,
                        struct fm_error *reterr)
{
    *message = (struct fm_oip_client_message){0};
    message->parts = fm_alloc_zero(2 * (size_t)input_count + 1, sizeof(*message->parts));
    return message->parts != NULL
               ? 0
               : fm_error_set(reterr, FM_ENOMEM, "out of memory for the request");
}

void fm_oip_client_message_deinit(struct fm_oip_client_message *message)
{
    fm_text_deinit(&message->head);
    fm_free(message->parts);
    *message = (struct fm_oip_client_message){0};
}

static int message_failed(struct fm_oip_client_message *message, int status,
                          struct fm_error *reterr)
{
    fm_oip_client_message_deinit(message);
    return status != FM_ENOMEM ? status
                               : fm_error_set(reterr, status, "out of memory for the request");
}

static void part_add(struct fm_oip_client_message *message, const void *data, size_t size)
{
    if (size > 0) {
        message->parts[message->part_count++] = (struct fm_oip_part){data, size};
        message->size += size;
    }
}

/* --- JSON --- */

static void json_region(struct fm_json_writer *writer, const char *region, uint64_t offset,
                        uint64_t size)
{
    fm_json_member_string(writer, "shared_memory_region", region);
    fm_json_member_uint(writer, "shared_memory_byte_size", size);
    if (offset > 0) {
        fm_json_member_uint(writer, "shared_memory_offset", offset);
    }
}

static int json_input(struct fm_json_writer *writer, const struct fm_client_input *input,
                      bool binary, struct fm_error *reterr)
{
    const struct fm_tensor *tensor = &input->tensor;
    fm_json_object_begin(writer);
    fm_json_member_string(writer, "name", input->name);
    fm_json_member_string(writer, "datatype", fm_dtype_name(tensor->dtype));
    fm_json_member_ints(writer, "shape", tensor->shape, tensor->rank);
    if (input->region != NULL || binary) {
        fm_json_key(writer, "parameters");
        fm_json_object_begin(writer);
        if (input->region != NULL) {
            json_region(writer, input->region, input->region_offset, tensor->size);
        } else {
            fm_json_member_uint(writer, "binary_data_size", tensor->size);
        }
        fm_json_object_end(writer);
    } else {
        uint64_t count = 0;
        int status = fm_shape_element_count(tensor->shape, tensor->rank, &count);
        fm_json_key(writer, "data");
        if (status != 0 || !fm_oip_elements_write(writer, tensor, count)) {
            return fm_error_set(reterr, FM_EUNSUPPORTED,
                                "input '%s' is %s, which has no JSON form; send it binary",
                                input->name, fm_dtype_name(tensor->dtype));
        }
    }
    fm_json_object_end(writer);
    return 0;
}

static void json_output(struct fm_json_writer *writer, const struct fm_client_output *output,
                        bool binary)
{
    fm_json_object_begin(writer);
    fm_json_member_string(writer, "name", output->name);
    fm_json_key(writer, "parameters");
    fm_json_object_begin(writer);
    if (output->region != NULL) {
        json_region(writer, output->region, output->region_offset, output->region_size);
    } else {
        fm_json_key(writer, "binary_data");
        fm_json_bool(writer, binary);
    }
    if (output->classes > 0) {
        fm_json_member_uint(writer, "classification", output->classes);
    }
    fm_json_object_end(writer);
    fm_json_object_end(writer);
}

static void json_parameter(struct fm_json_writer *writer,
                           const struct fm_client_parameter *parameter)
{
    fm_json_key(writer, parameter->name);
    if (parameter->kind == FM_CLIENT_PARAMETER_STRING) {
        fm_json_string(writer, parameter->string);
    } else if (parameter->kind == FM_CLIENT_PARAMETER_INT) {
        fm_json_int(writer, parameter->integer);
    } else if (parameter->kind == FM_CLIENT_PARAMETER_BOOL) {
        fm_json_bool(writer, parameter->is_true != 0);
    } else {
        fm_json_number(writer, parameter->number);
    }
}

static void json_parameters(struct fm_json_writer *writer, const struct fm_client_request *request,
                            bool binary)
{
    bool all_binary = binary && request->output_count == 0;
    if (!all_binary && request->priority == 0 && request->timeout_ns == 0 &&
        request->parameter_count == 0) {
        return;
    }
    fm_json_key(writer, "parameters");
    fm_json_object_begin(writer);
    if (all_binary) {
        fm_json_key(writer, "binary_data_output");
        fm_json_bool(writer, true);
    }
    if (request->priority > 0) {
        fm_json_member_uint(writer, "priority", request->priority);
    }
    if (request->timeout_ns > 0) {
        fm_json_member_uint(writer, "timeout", timeout_us(request));
    }
    for (uint32_t i = 0; i < request->parameter_count; i++) {
        json_parameter(writer, &request->parameters[i]);
    }
    fm_json_object_end(writer);
}

int fm_oip_client_encode_json(const struct fm_client_request *request, bool binary,
                              struct fm_oip_client_message *message, struct fm_error *reterr)
{
    struct fm_json_writer writer;
    int status = request_check(request, reterr);
    status = status == 0 ? message_init(message, request->input_count, reterr) : status;
    if (status != 0) {
        return status;
    }
    fm_json_writer_init(&writer, &message->head);
    fm_json_object_begin(&writer);
    if (request->id != NULL && request->id[0] != '\0') {
        fm_json_member_string(&writer, "id", request->id);
    }
    json_parameters(&writer, request, binary);
    fm_json_key(&writer, "inputs");
    fm_json_array_begin(&writer);
    for (uint32_t i = 0; status == 0 && i < request->input_count; i++) {
        status = json_input(&writer, &request->inputs[i], binary, reterr);
    }
    if (status != 0) {
        return message_failed(message, status, reterr);
    }
    fm_json_array_end(&writer);
    if (request->output_count > 0) {
        fm_json_key(&writer, "outputs");
        fm_json_array_begin(&writer);
        for (uint32_t i = 0; i < request->output_count; i++) {
            json_output(&writer, &request->outputs[i], binary);
        }
        fm_json_array_end(&writer);
    }
    fm_json_object_end(&writer);
    if (message->head.failed) {
        return message_failed(message, FM_ENOMEM, reterr);
    }
    part_add(message, message->head.data, message->head.length);
    for (uint32_t i = 0; binary && i < request->input_count; i++) {
        const struct fm_client_input *input = &request->inputs[i];
        if (input->region == NULL) {
            message->binary = true;
            part_add(message, input->tensor.data, input->tensor.size);
        }
    }
    return 0;
}

/* --- Protocol buffers --- */

/* An entry of a map of InferParameter; `value` is the whole InferParameter. */
static void grpc_entry(struct fm_text *text, uint32_t field, const char *key, struct fm_text *value)
{
    struct fm_text entry = {0};
    fm_protobuf_append_bytes(&entry, 1, key, strlen(key));
    fm_protobuf_append_bytes(&entry, 2, value->data, value->length);
    fm_protobuf_append_bytes(text, field, entry.data, entry.length);
    text->failed = text->failed || entry.failed || value->failed;
    fm_text_deinit(&entry);
    fm_text_deinit(value);
}

/* Values that are the default of their type are written too: the oneof says which kind it is. */
static void grpc_entry_number(struct fm_text *text, uint32_t field, const char *key, uint32_t kind,
                              uint64_t number)
{
    struct fm_text value = {0};
    uint8_t bytes[2 * VARINT_MAX];
    uint8_t *end = fm_protobuf_put_uint(bytes, kind, number);
    fm_text_append(&value, bytes, (size_t)(end - bytes));
    grpc_entry(text, field, key, &value);
}

static void grpc_entry_string(struct fm_text *text, uint32_t field, const char *key,
                              const char *string)
{
    struct fm_text value = {0};
    fm_protobuf_append_bytes(&value, 3, string, strlen(string));
    grpc_entry(text, field, key, &value);
}

static void grpc_parameter(struct fm_text *text, const struct fm_client_parameter *parameter)
{
    struct fm_text value = {0};
    uint8_t bytes[1 + sizeof(double)];
    if (parameter->kind == FM_CLIENT_PARAMETER_STRING) {
        grpc_entry_string(text, 4, parameter->name, parameter->string);
    } else if (parameter->kind == FM_CLIENT_PARAMETER_INT) {
        grpc_entry_number(text, 4, parameter->name, 2, (uint64_t)parameter->integer);
    } else if (parameter->kind == FM_CLIENT_PARAMETER_BOOL) {
        grpc_entry_number(text, 4, parameter->name, 1, parameter->is_true != 0);
    } else {
        (void)fm_protobuf_put_tag(bytes, 4, FM_PROTOBUF_FIXED64);
        memcpy(bytes + 1, &parameter->number, sizeof(double));
        fm_text_append(&value, bytes, sizeof(bytes));
        grpc_entry(text, 4, parameter->name, &value);
    }
}

static void grpc_region(struct fm_text *text, uint32_t field, const char *region, uint64_t offset,
                        uint64_t size)
{
    grpc_entry_string(text, field, "shared_memory_region", region);
    grpc_entry_number(text, field, "shared_memory_byte_size", 2, size);
    if (offset > 0) {
        grpc_entry_number(text, field, "shared_memory_offset", 2, offset);
    }
}

static void grpc_input(struct fm_text *text, const struct fm_client_input *input)
{
    struct fm_text tensor = {0};
    uint8_t shape[FM_RANK_MAX * VARINT_MAX];
    uint8_t *end = shape;
    for (uint32_t i = 0; i < input->tensor.rank; i++) {
        end = fm_protobuf_put_varint(end, (uint64_t)input->tensor.shape[i]);
    }
    fm_protobuf_append_string(&tensor, 1, input->name);
    fm_protobuf_append_string(&tensor, 2, fm_dtype_name(input->tensor.dtype));
    if (end > shape) {
        fm_protobuf_append_bytes(&tensor, 3, shape, (size_t)(end - shape));
    }
    if (input->region != NULL) {
        grpc_region(&tensor, 4, input->region, input->region_offset, input->tensor.size);
    }
    fm_protobuf_append_bytes(text, 5, tensor.data, tensor.length);
    text->failed = text->failed || tensor.failed;
    fm_text_deinit(&tensor);
}

static void grpc_output(struct fm_text *text, const struct fm_client_output *output)
{
    struct fm_text tensor = {0};
    fm_protobuf_append_string(&tensor, 1, output->name);
    if (output->region != NULL) {
        grpc_region(&tensor, 2, output->region, output->region_offset, output->region_size);
    }
    if (output->classes > 0) {
        grpc_entry_number(&tensor, 2, "classification", 2, output->classes);
    }
    fm_protobuf_append_bytes(text, 6, tensor.data, tensor.length);
    text->failed = text->failed || tensor.failed;
    fm_text_deinit(&tensor);
}

static void grpc_head(struct fm_text *head, const struct fm_client_request *request)
{
    fm_protobuf_append_string(head, 1, request->model);
    if (request->version != NULL && request->version[0] != '\0') {
        fm_protobuf_append_string(head, 2, request->version);
    }
    if (request->id != NULL && request->id[0] != '\0') {
        fm_protobuf_append_string(head, 3, request->id);
    }
    if (request->priority > 0) {
        grpc_entry_number(head, 4, "priority", 5, request->priority);
    }
    if (request->timeout_ns > 0) {
        grpc_entry_number(head, 4, "timeout", 2, timeout_us(request));
    }
    for (uint32_t i = 0; i < request->parameter_count; i++) {
        grpc_parameter(head, &request->parameters[i]);
    }
    for (uint32_t i = 0; i < request->input_count; i++) {
        grpc_input(head, &request->inputs[i]);
    }
    for (uint32_t i = 0; i < request->output_count; i++) {
        grpc_output(head, &request->outputs[i]);
    }
}

/* Tag and length of each raw tensor, at the end of the head; then the parts, once the head does not
 * move any more. */
static void grpc_raw(struct fm_oip_client_message *message, const struct fm_client_request *request)
{
    struct fm_text *head = &message->head;
    size_t begin = 0;
    for (int pass = 0; pass < 2 && !head->failed; pass++) {
        size_t at = begin;
        begin = head->length;
        for (uint32_t i = 0; i < request->input_count; i++) {
            const struct fm_tensor *tensor = &request->inputs[i].tensor;
            uint8_t bytes[2 * VARINT_MAX];
            size_t size = (size_t)(fm_protobuf_put_length(bytes, 7, tensor->size) - bytes);
            if (request->inputs[i].region != NULL) {
                continue;
            }
            if (pass == 0) {
                fm_text_append(head, bytes, size);
                continue;
            }
            /* The first piece begins where the head does. */
            const char *from = message->part_count == 0 ? head->data : head->data + at;
            at += size;
            part_add(message, from, (size_t)(head->data + at - from));
            part_add(message, tensor->data, tensor->size);
        }
    }
    if (message->part_count == 0 && !head->failed) {
        part_add(message, head->data, head->length);
    }
}

int fm_oip_client_encode_grpc(const struct fm_client_request *request,
                              struct fm_oip_client_message *message, struct fm_error *reterr)
{
    int status = request_check(request, reterr);
    status = status == 0 ? message_init(message, request->input_count, reterr) : status;
    if (status != 0) {
        return status;
    }
    grpc_head(&message->head, request);
    grpc_raw(message, request);
    if (message->head.failed) {
        return message_failed(message, FM_ENOMEM, reterr);
    }
    if (message->size > FM_OIP_GRPC_MESSAGE_MAX) {
        (void)fm_error_set(reterr, FM_ETOOLARGE, "a gRPC message holds at most %d bytes",
                           FM_OIP_GRPC_MESSAGE_MAX);
        return message_failed(message, FM_ETOOLARGE, reterr);
    }
    return 0;
}
