/*
 * ONNX files, read back with the protobuf reader.
 */
#include "core/onnx/onnx_writer.h"

#include "core/onnx/families.h"
#include "core/proto/protobuf.h"
#include "core/util/hash.h"
#include "core/util/text.h"
#include "tests/harness/test.h"

static int text_put(void *context, const void *data, size_t size, struct fm_error *reterr)
{
    (void)reterr;
    struct fm_text *text = context;
    fm_text_append(text, data, size);
    return text->failed ? FM_ENOMEM : 0;
}

/* The whole file of a family at its defaults, but small. */
static int family_write(enum fm_family family, uint64_t seed, struct fm_onnx_graph *ret_graph,
                        struct fm_text *ret_text, uint64_t *ret_bytes)
{
    struct fm_family_spec spec = {.family = family, .seed = seed};
    if (family == FM_FAMILY_DLRM) {
        spec.values[FM_FAMILY_ROWS] = 50;
    }
    struct fm_onnx_sink sink = {.put = text_put, .context = ret_text};
    int status = fm_family_build(&spec, ret_graph, ret_bytes, NULL);
    return status != 0 ? status : fm_onnx_write(ret_graph, &sink, NULL);
}

/* The first field `number` of a message; size 0 and value 0 when there is none. */
static struct fm_protobuf_field field_of(const void *data, size_t size, uint32_t number)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(data, size);
    struct fm_protobuf_field field;
    while (fm_protobuf_next(&reader, &field) == 1) {
        if (field.number == number) {
            return field;
        }
    }
    return (struct fm_protobuf_field){.data = (const uint8_t *)""};
}

/* Whether an initializer is the value of its name: dims, type, and its numbers as bytes. */
static bool initializer_is_right(const struct fm_onnx_graph *graph,
                                 const struct fm_protobuf_field *tensor)
{
    char name[128];
    struct fm_protobuf_field field = field_of(tensor->data, tensor->size, 8);
    (void)snprintf(name, sizeof name, "%.*s", (int)field.size, (const char *)field.data);
    uint32_t index = fm_onnx_graph_find(graph, name);
    const struct fm_onnx_value *value = fm_onnx_graph_value(graph, index);
    struct fm_protobuf_field raw = field_of(tensor->data, tensor->size, 9);
    if (index == FM_ONNX_NONE || raw.size != fm_onnx_value_bytes(value) ||
        field_of(tensor->data, tensor->size, 2).value != (uint64_t)value->type) {
        return false;
    }
    uint64_t elements = 1;
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(tensor->data, tensor->size);
    while (fm_protobuf_next(&reader, &field) == 1) {
        elements *= field.number == 1 ? field.value : 1;
    }
    if (elements != fm_onnx_value_elements(value)) {
        return false;
    }
    if (value->type == FM_ONNX_INT64) {
        return memcmp(raw.data, value->integers, raw.size) == 0;
    }
    /* One by one: pieces of any size are the same numbers. */
    struct fm_onnx_numbers source;
    fm_onnx_numbers_begin(graph, value, &source);
    for (uint64_t i = 0; i < elements; i++) {
        float number;
        fm_onnx_numbers_next(&source, &number, 1);
        double centred = (double)number - value->center;
        if (memcmp(raw.data + i * sizeof number, &number, sizeof number) != 0 ||
            !(fabs(centred) <= value->radius + 1e-6)) {
            return false;
        }
    }
    return true;
}

TEST(what_is_written_can_be_read)
{
    for (int family = 0; family < FM_FAMILY_COUNT_; family++) {
        struct fm_onnx_graph graph;
        struct fm_text text = {0};
        uint64_t bytes = 0;
        CHECK_INT_EQ(family_write((enum fm_family)family, 1, &graph, &text, &bytes), 0);
        CHECK_UINT_EQ(text.length, bytes);
        CHECK_UINT_EQ(field_of(text.data, text.length, 1).value, FM_ONNX_IR_VERSION);
        struct fm_protobuf_field opset = field_of(text.data, text.length, 8);
        CHECK_UINT_EQ(field_of(opset.data, opset.size, 2).value, FM_ONNX_OPSET);
        struct fm_protobuf_field words = field_of(text.data, text.length, 6);
        CHECK(fm_protobuf_equals(&words, graph.description));
        struct fm_protobuf_field body = field_of(text.data, text.length, 7);
        CHECK(body.data + body.size == (const uint8_t *)text.data + text.length);
        uint32_t nodes = 0;
        uint32_t initializers = 0;
        uint32_t ports = 0;
        struct fm_protobuf_reader reader = fm_protobuf_reader_make(body.data, body.size);
        struct fm_protobuf_field field;
        int more = fm_protobuf_next(&reader, &field);
        for (; more == 1; more = fm_protobuf_next(&reader, &field)) {
            nodes += field.number == 1;
            initializers += field.number == 5;
            ports += field.number == 11 || field.number == 12;
            CHECK(field.number != 5 || initializer_is_right(&graph, &field));
        }
        CHECK_INT_EQ(more, 0);
        CHECK_UINT_EQ(nodes, graph.node_count);
        CHECK_UINT_EQ(ports, family == FM_FAMILY_DLRM ? 3 : 2);
        uint32_t expected = 0;
        for (uint32_t i = 0; i < graph.value_count; i++) {
            expected += !fm_onnx_value_has_batch(&graph.values[i]);
        }
        CHECK_UINT_EQ(initializers, expected);
        fm_text_deinit(&text);
        fm_onnx_graph_deinit(&graph);
    }
}

/* What ONNX asks of a graph: names are unique, and what a node reads is made before it. */
TEST(graphs_are_in_order)
{
    for (int family = 0; family < FM_FAMILY_COUNT_; family++) {
        struct fm_family_spec spec = {.family = (enum fm_family)family};
        struct fm_onnx_graph graph;
        CHECK_INT_EQ(fm_family_build(&spec, &graph, NULL, NULL), 0);
        bool *made = calloc(graph.value_count, sizeof *made);
        CHECK(made != NULL);
        for (uint32_t i = 0; i < graph.value_count; i++) {
            const struct fm_onnx_value *value = &graph.values[i];
            made[i] = value->role == FM_ONNX_INPUT || !fm_onnx_value_has_batch(value);
            CHECK_UINT_EQ(fm_onnx_graph_find(&graph, value->name), i);
        }
        for (uint32_t i = 0; i < graph.node_count; i++) {
            const struct fm_onnx_node *node = &graph.nodes[i];
            for (uint32_t j = 0; j < node->input_count; j++) {
                CHECK(node->inputs[j] < graph.value_count && made[node->inputs[j]]);
            }
            for (uint32_t j = 0; j < node->output_count; j++) {
                CHECK(node->outputs[j] == FM_ONNX_NONE || !made[node->outputs[j]]);
                if (node->outputs[j] != FM_ONNX_NONE) {
                    made[node->outputs[j]] = true;
                }
            }
        }
        for (uint32_t i = 0; i < graph.value_count; i++) {
            CHECK(made[i]);
        }
        free(made);
        fm_onnx_graph_deinit(&graph);
    }
}

/* A change of these changes every model that was measured; the seed changes all of them. */
TEST(the_same_bytes_everywhere)
{
    static const uint64_t hashes[FM_FAMILY_COUNT_] = {
        [FM_FAMILY_MLP] = 0x9b8ff6beb39b5bf1,         [FM_FAMILY_CNN] = 0xbc27696207ea2f44,
        [FM_FAMILY_RNN] = 0x0513d716ecb7d22a,         [FM_FAMILY_LSTM] = 0x7b6d91905897664e,
        [FM_FAMILY_TRANSFORMER] = 0x6da68a7cd1acd3e8, [FM_FAMILY_DLRM] = 0xbd53df68543ad296};
    int wrong = 0;
    for (int family = 0; family < FM_FAMILY_COUNT_; family++) {
        struct fm_onnx_graph graph;
        struct fm_text text = {0};
        struct fm_text other = {0};
        CHECK_INT_EQ(family_write((enum fm_family)family, 1, &graph, &text, NULL), 0);
        fm_onnx_graph_deinit(&graph);
        CHECK_INT_EQ(family_write((enum fm_family)family, 2, &graph, &other, NULL), 0);
        fm_onnx_graph_deinit(&graph);
        uint64_t hash = fm_hash_add(FM_HASH_START, text.data, text.length);
        if (hash != hashes[family]) {
            printf("# %s: 0x%016" PRIx64 "\n", fm_family_name((enum fm_family)family), hash);
        }
        wrong += hash != hashes[family];
        CHECK(text.length == other.length && memcmp(text.data, other.data, text.length) != 0);
        fm_text_deinit(&text);
        fm_text_deinit(&other);
    }
    CHECK_INT_EQ(wrong, 0);
}

/* Takes so many calls and fails then. */
struct failing {
    int left;
    int calls;
};

static int failing_put(void *context, const void *data, size_t size, struct fm_error *reterr)
{
    (void)data, (void)size, (void)reterr;
    struct failing *failing = context;
    failing->calls++;
    return failing->left-- > 0 ? 0 : FM_EIO;
}

TEST(a_sink_that_fails_ends_the_writing)
{
    struct fm_family_spec spec = {
        .family = FM_FAMILY_TRANSFORMER,
        .values = {[FM_FAMILY_LAYERS] = 1, [FM_FAMILY_HIDDEN] = 8, [FM_FAMILY_HEADS] = 2}};
    struct fm_onnx_graph graph;
    CHECK_INT_EQ(fm_family_build(&spec, &graph, NULL, NULL), 0);
    struct failing all = {.left = 1 << 20};
    struct fm_onnx_sink sink = {.put = failing_put, .context = &all};
    CHECK_INT_EQ(fm_onnx_write(&graph, &sink, NULL), 0);
    CHECK(all.calls > 40);
    for (int i = 0; i < all.calls; i++) {
        struct failing failing = {.left = i};
        sink.context = &failing;
        CHECK_INT_EQ(fm_onnx_write(&graph, &sink, NULL), FM_EIO);
        CHECK_INT_EQ(failing.calls, i + 1);
    }
    fm_onnx_graph_deinit(&graph);
}

TEST(memory_that_fails)
{
    struct fm_family_spec spec = {.family = FM_FAMILY_DLRM, .values = {[FM_FAMILY_ROWS] = 5}};
    struct fm_onnx_graph graph;
    CHECK_INT_EQ(fm_family_build(&spec, &graph, NULL, NULL), 0);
    struct failing counted = {.left = 1 << 20};
    struct fm_onnx_sink sink = {.put = failing_put, .context = &counted};
    int status = FM_ENOMEM;
    for (uint64_t n = 1; status != 0; n++) {
        CHECK(n < 10000);
        struct fm_error error = {0};
        (void)fm_memory_fail_at(n, 0);
        status = fm_onnx_write(&graph, &sink, &error);
        (void)fm_memory_fail_at(0, 0);
        CHECK(status == 0 || (status == FM_ENOMEM && strstr(error.text, "no memory") != NULL));
    }
    fm_onnx_graph_deinit(&graph);
}

TEST_MAIN()
