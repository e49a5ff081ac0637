/*
 * ONNX models as protobuf. See onnx_writer.h. Field numbers are those of onnx.proto; a number that
 * is a field's has a name here.
 *
 * HOW IT WORKS: a message begins with its length, so everything in a model has to be measured
 * before its first byte is out. Only parameters are large, and their lengths follow from their
 * shapes. So the rest is made first, in three texts, and then all is put out in order:
 *
 *   model's fields, graph's tag and length | nodes | parameter's fields, its numbers, ... | ports
 */
#include "core/onnx/onnx_writer.h"

#include <string.h>

#include "core/proto/protobuf.h"
#include "core/util/error.h"

enum { NUMBERS_STEP = 2048 };

enum { MODEL_IR_VERSION = 1, MODEL_PRODUCER = 2, MODEL_DOC = 6, MODEL_GRAPH = 7, MODEL_OPSET = 8 };
enum { GRAPH_NODE = 1, GRAPH_NAME = 2, GRAPH_INITIALIZER = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12 };
enum { NODE_INPUT = 1, NODE_OUTPUT = 2, NODE_OPERATION = 4, NODE_ATTRIBUTE = 5 };
enum { ATTRIBUTE_NAME = 1, ATTRIBUTE_INT = 3, ATTRIBUTE_INTS = 8, ATTRIBUTE_TYPE = 20 };
enum { ATTRIBUTE_TYPE_INT = 2, ATTRIBUTE_TYPE_INTS = 7 };
enum { TENSOR_DIMS = 1, TENSOR_TYPE = 2, TENSOR_NAME = 8, TENSOR_RAW_DATA = 9 };
enum { PORT_NAME = 1, PORT_TYPE = 2, TYPE_TENSOR = 1, TENSOR_TYPE_ELEMENT = 1 };
enum { TENSOR_TYPE_SHAPE = 2, SHAPE_DIM = 1, DIM_VALUE = 1, DIM_NAME = 2, OPSET_VERSION = 2 };

/* What is made before anything is put out. */
struct draft {
    struct fm_text head;
    struct fm_text nodes;
    struct fm_text ports;
    struct fm_text scratch; /* of initializers: the fields in front of the numbers */
    uint64_t bytes;         /* of the model */
};

static void draft_deinit(struct draft *draft)
{
    fm_text_deinit(&draft->head);
    fm_text_deinit(&draft->nodes);
    fm_text_deinit(&draft->ports);
    fm_text_deinit(&draft->scratch);
}

/* A finished message becomes a field, and its text is free for the next. */
static void message_close(struct fm_text *text, uint32_t number, struct fm_text *message)
{
    text->failed = text->failed || message->failed;
    fm_protobuf_append_bytes(text, number, message->data, message->length);
    fm_text_deinit(message);
}

static void attribute_append(struct fm_text *node, const struct fm_onnx_attribute *attribute)
{
    struct fm_text message = {0};
    fm_protobuf_append_string(&message, ATTRIBUTE_NAME, attribute->name);
    if (attribute->integers != NULL) {
        for (uint32_t i = 0; i < attribute->integer_count; i++) {
            fm_protobuf_append_uint(&message, ATTRIBUTE_INTS, (uint64_t)attribute->integers[i]);
        }
        fm_protobuf_append_uint(&message, ATTRIBUTE_TYPE, ATTRIBUTE_TYPE_INTS);
    } else {
        fm_protobuf_append_uint(&message, ATTRIBUTE_INT, (uint64_t)attribute->integer);
        fm_protobuf_append_uint(&message, ATTRIBUTE_TYPE, ATTRIBUTE_TYPE_INT);
    }
    message_close(node, NODE_ATTRIBUTE, &message);
}

static void node_append(const struct fm_onnx_graph *graph, struct fm_text *text,
                        const struct fm_onnx_node *node)
{
    struct fm_text message = {0};
    for (uint32_t i = 0; i < node->input_count; i++) {
        fm_protobuf_append_string(&message, NODE_INPUT,
                                  fm_onnx_graph_value(graph, node->inputs[i])->name);
    }
    for (uint32_t i = 0; i < node->output_count; i++) {
        fm_protobuf_append_string(&message, NODE_OUTPUT,
                                  fm_onnx_graph_value(graph, node->outputs[i])->name);
    }
    fm_protobuf_append_string(&message, NODE_OPERATION, node->operation);
    for (uint32_t i = 0; i < node->attribute_count; i++) {
        attribute_append(&message, &node->attributes[i]);
    }
    message_close(text, GRAPH_NODE, &message);
}

static void port_append(struct fm_text *text, uint32_t number, const struct fm_onnx_value *value)
{
    struct fm_text shape = {0};
    for (uint32_t i = 0; i < value->rank; i++) {
        struct fm_text dim = {0};
        if (value->shape[i] == FM_ONNX_BATCH) {
            fm_protobuf_append_string(&dim, DIM_NAME, "batch");
        } else {
            fm_protobuf_append_uint(&dim, DIM_VALUE, (uint64_t)value->shape[i]);
        }
        message_close(&shape, SHAPE_DIM, &dim);
    }
    struct fm_text tensor = {0};
    fm_protobuf_append_uint(&tensor, TENSOR_TYPE_ELEMENT, (uint64_t)value->type);
    message_close(&tensor, TENSOR_TYPE_SHAPE, &shape);
    struct fm_text type = {0};
    message_close(&type, TYPE_TENSOR, &tensor);
    struct fm_text port = {0};
    fm_protobuf_append_string(&port, PORT_NAME, value->name);
    message_close(&port, PORT_TYPE, &type);
    message_close(text, number, &port);
}

/* Everything of an initializer but its numbers: the field's tag and length, and what stands in
 * front of them. */
static void initializer_begin(struct fm_text *scratch, const struct fm_onnx_value *value)
{
    fm_text_clear(scratch);
    struct fm_text tensor = {0};
    for (uint32_t i = 0; i < value->rank; i++) {
        fm_protobuf_append_uint(&tensor, TENSOR_DIMS, (uint64_t)value->shape[i]);
    }
    fm_protobuf_append_uint(&tensor, TENSOR_TYPE, (uint64_t)value->type);
    fm_protobuf_append_string(&tensor, TENSOR_NAME, value->name);
    uint8_t prefix[2 * FM_PROTOBUF_VARINT_MAX];
    uint64_t bytes = fm_onnx_value_bytes(value);
    uint8_t *end = fm_protobuf_put_length(prefix, TENSOR_RAW_DATA, bytes);
    fm_text_append(&tensor, prefix, (size_t)(end - prefix));
    end = fm_protobuf_put_length(prefix, GRAPH_INITIALIZER, tensor.length + bytes);
    fm_text_append(scratch, prefix, (size_t)(end - prefix));
    fm_text_append(scratch, tensor.data, tensor.length);
    scratch->failed = scratch->failed || tensor.failed;
    fm_text_deinit(&tensor);
}

static int draft_make(struct draft *draft, const struct fm_onnx_graph *graph,
                      struct fm_error *reterr)
{
    bool failed = graph->failed;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        node_append(graph, &draft->nodes, &graph->nodes[i]);
    }
    fm_protobuf_append_string(&draft->nodes, GRAPH_NAME, "fermata");
    uint64_t initializers = 0;
    for (uint32_t i = 0; i < graph->value_count; i++) {
        const struct fm_onnx_value *value = &graph->values[i];
        if (value->role == FM_ONNX_INPUT || value->role == FM_ONNX_OUTPUT) {
            port_append(&draft->ports, value->role == FM_ONNX_INPUT ? GRAPH_INPUT : GRAPH_OUTPUT,
                        value);
        } else if (value->role != FM_ONNX_INNER) {
            initializer_begin(&draft->scratch, value);
            failed = failed || draft->scratch.failed;
            initializers += draft->scratch.length + fm_onnx_value_bytes(value);
        }
    }
    fm_protobuf_append_uint(&draft->head, MODEL_IR_VERSION, FM_ONNX_IR_VERSION);
    fm_protobuf_append_string(&draft->head, MODEL_PRODUCER, "fermata");
    if (graph->description != NULL) {
        fm_protobuf_append_string(&draft->head, MODEL_DOC, graph->description);
    }
    struct fm_text opset = {0};
    fm_protobuf_append_uint(&opset, OPSET_VERSION, FM_ONNX_OPSET);
    message_close(&draft->head, MODEL_OPSET, &opset);
    uint64_t body = draft->nodes.length + initializers + draft->ports.length;
    uint8_t prefix[2 * FM_PROTOBUF_VARINT_MAX];
    uint8_t *end = fm_protobuf_put_length(prefix, MODEL_GRAPH, body);
    fm_text_append(&draft->head, prefix, (size_t)(end - prefix));
    draft->bytes = draft->head.length + body;
    if (failed || draft->head.failed || draft->nodes.failed || draft->ports.failed) {
        return fm_error_set(reterr, FM_ENOMEM, "no memory for the graph of an ONNX model");
    }
    if (draft->bytes > FM_ONNX_BYTES_MAX) {
        return fm_error_set(reterr, FM_ETOOLARGE,
                            "the model would have %.2f GiB, and an ONNX file ends at 2 GiB: make "
                            "it smaller",
                            (double)draft->bytes / 1073741824.0);
    }
    return 0;
}

/* As little-endian bytes, whatever the processor's order is. */
static int numbers_put(const struct fm_onnx_graph *graph, const struct fm_onnx_value *value,
                       const struct fm_onnx_sink *sink, struct fm_error *reterr)
{
    float numbers[NUMBERS_STEP];
    uint8_t bytes[NUMBERS_STEP * sizeof(float)];
    struct fm_onnx_numbers source;
    fm_onnx_numbers_begin(graph, value, &source);
    uint64_t left = fm_onnx_value_elements(value);
    int status = 0;
    while (left > 0 && status == 0) {
        size_t count = left < NUMBERS_STEP ? (size_t)left : NUMBERS_STEP;
        fm_onnx_numbers_next(&source, numbers, count);
        for (size_t i = 0; i < count; i++) {
            uint32_t bits;
            memcpy(&bits, &numbers[i], sizeof bits);
            for (size_t j = 0; j < sizeof bits; j++) {
                bytes[i * sizeof bits + j] = (uint8_t)(bits >> (8 * j));
            }
        }
        status = sink->put(sink->context, bytes, count * sizeof(float), reterr);
        left -= count;
    }
    return status;
}

static int integers_put(const struct fm_onnx_value *value, const struct fm_onnx_sink *sink,
                        struct fm_error *reterr)
{
    uint64_t count = fm_onnx_value_elements(value);
    int status = 0;
    for (uint64_t i = 0; i < count && status == 0; i++) {
        uint8_t bytes[sizeof(int64_t)];
        for (size_t j = 0; j < sizeof bytes; j++) {
            bytes[j] = (uint8_t)((uint64_t)value->integers[i] >> (8 * j));
        }
        status = sink->put(sink->context, bytes, sizeof bytes, reterr);
    }
    return status;
}

static int initializers_put(struct draft *draft, const struct fm_onnx_graph *graph,
                            const struct fm_onnx_sink *sink, struct fm_error *reterr)
{
    int status = 0;
    for (uint32_t i = 0; i < graph->value_count && status == 0; i++) {
        const struct fm_onnx_value *value = &graph->values[i];
        if (fm_onnx_value_has_batch(value)) {
            continue;
        }
        initializer_begin(&draft->scratch, value);
        status = draft->scratch.failed
                     ? fm_error_set(reterr, FM_ENOMEM, "no memory for '%s'", value->name)
                     : sink->put(sink->context, draft->scratch.data, draft->scratch.length, reterr);
        if (status == 0) {
            status = value->type == FM_ONNX_INT64 ? integers_put(value, sink, reterr)
                                                  : numbers_put(graph, value, sink, reterr);
        }
    }
    return status;
}

int fm_onnx_measure(const struct fm_onnx_graph *graph, uint64_t *ret_bytes, struct fm_error *reterr)
{
    struct draft draft = {.bytes = 0};
    int status = draft_make(&draft, graph, reterr);
    *ret_bytes = draft.bytes;
    draft_deinit(&draft);
    return status;
}

int fm_onnx_write(const struct fm_onnx_graph *graph, const struct fm_onnx_sink *sink,
                  struct fm_error *reterr)
{
    struct draft draft = {.bytes = 0};
    int status = draft_make(&draft, graph, reterr);
    if (status == 0) {
        status = sink->put(sink->context, draft.head.data, draft.head.length, reterr);
    }
    if (status == 0) {
        status = sink->put(sink->context, draft.nodes.data, draft.nodes.length, reterr);
    }
    if (status == 0) {
        status = initializers_put(&draft, graph, sink, reterr);
    }
    if (status == 0) {
        status = sink->put(sink->context, draft.ports.data, draft.ports.length, reterr);
    }
    draft_deinit(&draft);
    return status;
}
