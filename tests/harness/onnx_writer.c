/*
 * ONNX models as protobuf. See onnx_writer.h. Field numbers are those of onnx.proto.
 */
#include "tests/harness/onnx_writer.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { WIRE_VARINT = 0, WIRE_BYTES = 2, OPSET_DEFAULT = 21, IR_VERSION = 10 };

static void put_varint(struct fm_text *text, uint64_t value)
{
    while (value >= 0x80) {
        fm_text_append_char(text, (char)(unsigned char)(value | 0x80));
        value >>= 7;
    }
    fm_text_append_char(text, (char)(unsigned char)value);
}

static void put_int(struct fm_text *text, unsigned field, int64_t value)
{
    put_varint(text, field << 3 | WIRE_VARINT);
    put_varint(text, (uint64_t)value);
}

static void put_bytes(struct fm_text *text, unsigned field, const void *data, size_t length)
{
    put_varint(text, field << 3 | WIRE_BYTES);
    put_varint(text, length);
    if (length > 0) {
        fm_text_append(text, data, length);
    }
}

static void put_string(struct fm_text *text, unsigned field, const char *string)
{
    put_bytes(text, field, string, strlen(string));
}

/* Puts a finished message into its parent and frees it. */
static void put_message(struct fm_text *text, unsigned field, struct fm_text *message)
{
    text->failed = text->failed || message->failed;
    put_bytes(text, field, message->data, message->length);
    fm_text_deinit(message);
}

int fm_onnx_element_type(uint32_t dtype)
{
    static const unsigned char types[FM_DTYPE_COUNT_] = {
        [FM_DTYPE_FP32] = 1,     [FM_DTYPE_UINT8] = 2,        [FM_DTYPE_INT8] = 3,
        [FM_DTYPE_UINT16] = 4,   [FM_DTYPE_INT16] = 5,        [FM_DTYPE_INT32] = 6,
        [FM_DTYPE_INT64] = 7,    [FM_DTYPE_BYTES] = 8,        [FM_DTYPE_BOOL] = 9,
        [FM_DTYPE_FP16] = 10,    [FM_DTYPE_FP64] = 11,        [FM_DTYPE_UINT32] = 12,
        [FM_DTYPE_UINT64] = 13,  [FM_DTYPE_COMPLEX64] = 14,   [FM_DTYPE_COMPLEX128] = 15,
        [FM_DTYPE_BF16] = 16,    [FM_DTYPE_FP8E4M3FN] = 17,   [FM_DTYPE_FP8E4M3FNUZ] = 18,
        [FM_DTYPE_FP8E5M2] = 19, [FM_DTYPE_FP8E5M2FNUZ] = 20, [FM_DTYPE_UINT4] = 21,
        [FM_DTYPE_INT4] = 22,
    };
    return dtype < FM_DTYPE_COUNT_ ? types[dtype] : 0;
}

/* TypeProto.Tensor. */
static struct fm_text tensor_type(const struct fm_port *port)
{
    struct fm_text type = {0};
    struct fm_text shape = {0};
    const char *name = strncmp(port->name, "out_", 4) == 0 ? port->name + 4 : port->name;
    put_int(&type, 1, fm_onnx_element_type(port->dtype));
    for (int32_t axis = 0; axis < port->rank; axis++) {
        struct fm_text dimension = {0};
        if (port->shape[axis] >= 0) {
            put_int(&dimension, 1, port->shape[axis]);
        } else {
            char symbol[80];
            (void)snprintf(symbol, sizeof(symbol), axis == 0 ? "batch" : "%.60s_%d", name, axis);
            put_string(&dimension, 2, symbol);
        }
        put_message(&shape, 1, &dimension);
    }
    put_message(&type, 2, &shape);
    return type;
}

static void put_value_info(struct fm_onnx_writer *writer, unsigned field, const char *name,
                           struct fm_text *take_type)
{
    struct fm_text info = {0};
    put_string(&info, 1, name);
    put_message(&info, 2, take_type);
    put_message(&writer->graph, field, &info);
}

static void put_port(struct fm_onnx_writer *writer, unsigned field, const struct fm_port *port)
{
    struct fm_text type = {0};
    struct fm_text tensor = tensor_type(port);
    put_message(&type, 1, &tensor);
    put_value_info(writer, field, port->name, &type);
}

void fm_onnx_input(struct fm_onnx_writer *writer, const struct fm_port *port)
{
    put_port(writer, 11, port);
}

void fm_onnx_output(struct fm_onnx_writer *writer, const struct fm_port *port)
{
    put_port(writer, 12, port);
}

void fm_onnx_input_of_kind(struct fm_onnx_writer *writer, const char *name, enum fm_onnx_kind kind)
{
    static const unsigned fields[] = {
        [FM_ONNX_TENSOR] = 1, [FM_ONNX_SEQUENCE] = 4, [FM_ONNX_OPTIONAL] = 9, [FM_ONNX_MAP] = 5};
    struct fm_port element = {.name = name, .dtype = FM_DTYPE_FP32, .rank = 1, .shape = {-1}};
    struct fm_text tensor = tensor_type(&element);
    struct fm_text type = {0};
    if (kind == FM_ONNX_TENSOR) {
        put_message(&type, 1, &tensor);
    } else {
        struct fm_text inner = {0};
        struct fm_text outer = {0};
        put_message(&inner, 1, &tensor);
        if (kind == FM_ONNX_MAP) {
            put_int(&outer, 1, fm_onnx_element_type(FM_DTYPE_INT64));
        }
        put_message(&outer, kind == FM_ONNX_MAP ? 2 : 1, &inner);
        put_message(&type, fields[kind], &outer);
    }
    put_value_info(writer, 11, name, &type);
}

static void put_names(struct fm_text *text, unsigned field, const char *names)
{
    while (*names != '\0') {
        size_t length = strcspn(names, ",");
        put_bytes(text, field, names, length);
        names += length + (names[length] == ',' ? 1 : 0);
    }
}

static void put_node(struct fm_onnx_writer *writer, const char *operation, const char *inputs,
                     const char *outputs, struct fm_text *take_attribute)
{
    struct fm_text node = {0};
    put_names(&node, 1, inputs);
    put_names(&node, 2, outputs);
    put_string(&node, 4, operation);
    if (take_attribute != NULL) {
        put_message(&node, 5, take_attribute);
    }
    put_message(&writer->graph, 1, &node);
}

void fm_onnx_node(struct fm_onnx_writer *writer, const char *operation, const char *inputs,
                  const char *outputs)
{
    put_node(writer, operation, inputs, outputs, NULL);
}

void fm_onnx_node_int(struct fm_onnx_writer *writer, const char *operation, const char *inputs,
                      const char *outputs, const char *attribute, int64_t value)
{
    struct fm_text message = {0};
    put_string(&message, 1, attribute);
    put_int(&message, 3, value);
    put_int(&message, 20, 2); /* AttributeProto.INT */
    put_node(writer, operation, inputs, outputs, &message);
}

static struct fm_text tensor_head(const char *name, const struct fm_tensor *tensor)
{
    struct fm_text message = {0};
    for (uint32_t axis = 0; axis < tensor->rank; axis++) {
        put_int(&message, 1, tensor->shape[axis]);
    }
    put_int(&message, 2, fm_onnx_element_type(tensor->dtype));
    put_string(&message, 8, name);
    return message;
}

void fm_onnx_constant(struct fm_onnx_writer *writer, const char *name,
                      const struct fm_tensor *tensor)
{
    struct fm_text message = tensor_head(name, tensor);
    put_bytes(&message, 9, tensor->data, tensor->size);
    put_message(&writer->graph, 5, &message);
}

void fm_onnx_constant_external(struct fm_onnx_writer *writer, const char *name,
                               const struct fm_tensor *tensor, const char *location)
{
    struct fm_text message = tensor_head(name, tensor);
    struct fm_text entry = {0};
    put_string(&entry, 1, "location");
    put_string(&entry, 2, location);
    put_message(&message, 13, &entry);
    put_int(&message, 14, 1); /* TensorProto.EXTERNAL */
    put_message(&writer->graph, 5, &message);
}

void fm_onnx_finish(struct fm_onnx_writer *writer, struct fm_text *ret_bytes)
{
    struct fm_text opset = {0};
    struct fm_text graph = {0};
    put_int(ret_bytes, 1, IR_VERSION);
    put_string(ret_bytes, 2, "fermata tests");
    if (writer->graph.length > 0) {
        fm_text_append(&graph, writer->graph.data, writer->graph.length);
    }
    graph.failed = graph.failed || writer->graph.failed;
    put_string(&graph, 2, "test");
    put_message(ret_bytes, 7, &graph);
    put_string(&opset, 1, "");
    put_int(&opset, 2, writer->opset > 0 ? writer->opset : OPSET_DEFAULT);
    put_message(ret_bytes, 8, &opset);
}

int fm_onnx_save(struct fm_onnx_writer *writer, const char *path)
{
    struct fm_text bytes = {0};
    fm_onnx_finish(writer, &bytes);
    FILE *file = bytes.failed ? NULL : fopen(path, "wb");
    bool good = file != NULL && fwrite(bytes.data, 1, bytes.length, file) == bytes.length;
    good = file != NULL && fclose(file) == 0 && good;
    fm_text_deinit(&bytes);
    return good ? 0 : FM_EIO;
}

void fm_onnx_deinit(struct fm_onnx_writer *writer)
{
    fm_text_deinit(&writer->graph);
}

int fm_onnx_save_identity(const char *path, const struct fm_port *inputs, size_t count)
{
    struct fm_onnx_writer writer = {0};
    for (size_t i = 0; i < count; i++) {
        char name[80];
        (void)snprintf(name, sizeof(name), "out_%.60s", inputs[i].name);
        struct fm_port output = inputs[i];
        output.name = name;
        fm_onnx_input(&writer, &inputs[i]);
        fm_onnx_output(&writer, &output);
        if (inputs[i].dtype == FM_DTYPE_UINT4 || inputs[i].dtype == FM_DTYPE_INT4) {
            fm_onnx_node_int(&writer, "Cast", inputs[i].name, name, "to",
                             fm_onnx_element_type(inputs[i].dtype));
        } else {
            fm_onnx_node(&writer, "Identity", inputs[i].name, name);
        }
    }
    int status = fm_onnx_save(&writer, path);
    fm_onnx_deinit(&writer);
    return status;
}
