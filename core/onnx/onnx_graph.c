/*
 * ONNX graphs. See onnx_graph.h.
 */
#include "core/onnx/onnx_graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/util/hash.h"

enum { NAME_SIZE = 96, CAPACITY_MIN = 64 };

void fm_onnx_graph_init(struct fm_onnx_graph *graph, uint64_t seed)
{
    *graph = (struct fm_onnx_graph){.seed = seed, .spare = {.name = "", .type = FM_ONNX_FLOAT}};
    fm_arena_init(&graph->arena, 0);
}

void fm_onnx_graph_deinit(struct fm_onnx_graph *graph)
{
    fm_free(graph->values);
    fm_free(graph->nodes);
    fm_arena_deinit(&graph->arena);
    graph->values = NULL;
    graph->nodes = NULL;
    graph->value_count = graph->node_count = 0;
}

const char *fm_onnx_graph_name(struct fm_onnx_graph *graph, const char *format, ...)
{
    char text[NAME_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    char *name = fm_arena_strdup(&graph->arena, text);
    graph->failed = graph->failed || name == NULL;
    return name != NULL ? name : "";
}

/* A copy of a list in the graph's memory; NULL for none, and when memory failed. */
static void *list_copy(struct fm_onnx_graph *graph, const void *list, size_t size)
{
    if (size == 0) {
        return NULL;
    }
    void *copy = fm_arena_alloc(&graph->arena, size);
    if (copy == NULL) {
        graph->failed = true;
        return NULL;
    }
    memcpy(copy, list, size);
    return copy;
}

/* `list` with room for one more; false (and failed) when there is none. */
static bool list_grow(struct fm_onnx_graph *graph, void **list, size_t size, uint32_t count,
                      uint32_t *capacity)
{
    if (count < *capacity) {
        return true;
    }
    uint32_t wanted = *capacity > 0 ? *capacity * 2 : CAPACITY_MIN;
    void *grown = fm_realloc(*list, wanted * size);
    if (grown == NULL) {
        graph->failed = true;
        return false;
    }
    *list = grown;
    *capacity = wanted;
    return true;
}

static uint32_t value_add(struct fm_onnx_graph *graph, struct fm_onnx_value value,
                          const int64_t *shape)
{
    void *values = graph->values;
    bool grown = !graph->failed && list_grow(graph, &values, sizeof *graph->values,
                                             graph->value_count, &graph->value_capacity);
    graph->values = values;
    if (!grown) {
        return FM_ONNX_NONE;
    }
    for (uint32_t i = 0; i < value.rank; i++) {
        value.shape[i] = shape[i];
    }
    graph->values[graph->value_count] = value;
    return graph->value_count++;
}

uint32_t fm_onnx_graph_input(struct fm_onnx_graph *graph, const char *name, enum fm_onnx_type type,
                             uint32_t rank, const int64_t *shape)
{
    return value_add(
        graph,
        (struct fm_onnx_value){.name = name, .type = type, .role = FM_ONNX_INPUT, .rank = rank},
        shape);
}

uint32_t fm_onnx_graph_parameter(struct fm_onnx_graph *graph, const char *name, uint32_t rank,
                                 const int64_t *shape, double center, double radius)
{
    return value_add(graph,
                     (struct fm_onnx_value){.name = name,
                                            .type = FM_ONNX_FLOAT,
                                            .role = FM_ONNX_PARAMETER,
                                            .rank = rank,
                                            .center = center,
                                            .radius = radius},
                     shape);
}

uint32_t fm_onnx_graph_number(struct fm_onnx_graph *graph, const char *name, double number)
{
    return value_add(
        graph,
        (struct fm_onnx_value){
            .name = name, .type = FM_ONNX_FLOAT, .role = FM_ONNX_CONSTANT, .center = number},
        NULL);
}

uint32_t fm_onnx_graph_integers(struct fm_onnx_graph *graph, const char *name,
                                const int64_t *integers, uint32_t count, bool is_scalar)
{
    struct fm_onnx_value value = {.name = name,
                                  .type = FM_ONNX_INT64,
                                  .role = FM_ONNX_CONSTANT,
                                  .rank = is_scalar ? 0 : 1,
                                  .integers = list_copy(graph, integers, count * sizeof *integers)};
    int64_t size = count;
    return value_add(graph, value, &size);
}

uint32_t fm_onnx_graph_inner(struct fm_onnx_graph *graph, const char *name, enum fm_onnx_type type,
                             uint32_t rank, const int64_t *shape)
{
    return value_add(
        graph,
        (struct fm_onnx_value){.name = name, .type = type, .role = FM_ONNX_INNER, .rank = rank},
        shape);
}

void fm_onnx_graph_output(struct fm_onnx_graph *graph, uint32_t value, const char *name)
{
    if (value < graph->value_count) {
        graph->values[value].name = name;
        graph->values[value].role = FM_ONNX_OUTPUT;
    }
}

void fm_onnx_graph_node(struct fm_onnx_graph *graph, const struct fm_onnx_node *node)
{
    void *nodes = graph->nodes;
    bool grown = !graph->failed && list_grow(graph, &nodes, sizeof *graph->nodes, graph->node_count,
                                             &graph->node_capacity);
    graph->nodes = nodes;
    if (!grown) {
        return;
    }
    struct fm_onnx_node copy = *node;
    copy.inputs = list_copy(graph, node->inputs, node->input_count * sizeof *node->inputs);
    for (uint32_t i = 0; i < node->attribute_count; i++) {
        struct fm_onnx_attribute *attribute = &copy.attributes[i];
        attribute->integers = list_copy(graph, attribute->integers,
                                        attribute->integer_count * sizeof *attribute->integers);
    }
    if (!graph->failed) {
        graph->nodes[graph->node_count++] = copy;
    }
}

const struct fm_onnx_value *fm_onnx_graph_value(const struct fm_onnx_graph *graph, uint32_t value)
{
    return value < graph->value_count ? &graph->values[value] : &graph->spare;
}

uint32_t fm_onnx_graph_find(const struct fm_onnx_graph *graph, const char *name)
{
    for (uint32_t i = 0; i < graph->value_count; i++) {
        if (strcmp(graph->values[i].name, name) == 0) {
            return i;
        }
    }
    return FM_ONNX_NONE;
}

uint64_t fm_onnx_value_elements(const struct fm_onnx_value *value)
{
    uint64_t elements = 1;
    for (uint32_t i = 0; i < value->rank; i++) {
        elements *= value->shape[i] == FM_ONNX_BATCH ? 1 : (uint64_t)value->shape[i];
    }
    return elements;
}

uint64_t fm_onnx_value_bytes(const struct fm_onnx_value *value)
{
    return fm_onnx_value_elements(value) *
           (value->type == FM_ONNX_INT64 ? sizeof(int64_t) : sizeof(float));
}

bool fm_onnx_value_has_batch(const struct fm_onnx_value *value)
{
    return value->role != FM_ONNX_PARAMETER && value->role != FM_ONNX_CONSTANT;
}

void fm_onnx_numbers_begin(const struct fm_onnx_graph *graph, const struct fm_onnx_value *value,
                           struct fm_onnx_numbers *ret_numbers)
{
    /* A generator for each name: what one layer holds does not depend on the others. */
    uint64_t name = fm_hash_add(FM_HASH_START, value->name, strlen(value->name) + 1);
    ret_numbers->center = value->center;
    ret_numbers->radius = value->radius;
    fm_random_init(&ret_numbers->random, graph->seed ^ name);
}

void fm_onnx_numbers_next(struct fm_onnx_numbers *numbers, float *ret_values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double unit = fm_random_unit(&numbers->random);
        ret_values[i] = (float)(numbers->center + (2 * unit - 1) * numbers->radius);
    }
}
