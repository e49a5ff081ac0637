/*
 * An ONNX graph that is being made: its values, its nodes, and what the values hold.
 *
 * Owns: names, shapes, how parameters are filled from the seed. Parameters are recipes and take no
 * memory until somebody asks for their numbers, so that a graph of gigabytes is small. Does not
 * own: which nodes make which network (onnx_layers.h, families.h), the file's form (onnx_writer.h).
 * Errors of memory stick in `failed`, as in fm_text: builders need not look, whoever has built
 * looks once. Thread rule: caller's memory.
 */
#ifndef FM_CORE_ONNX_ONNX_GRAPH_H
#define FM_CORE_ONNX_ONNX_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#include "core/util/memory.h"
#include "core/util/random.h"
#include "fermata/status.h"

#define FM_ONNX_RANK_MAX       4u
#define FM_ONNX_OUTPUTS_MAX    2u
#define FM_ONNX_ATTRIBUTES_MAX 3u
#define FM_ONNX_BATCH          (-1)       /* the size of the one axis that is the batch */
#define FM_ONNX_NONE           UINT32_MAX /* an input or output of a node that is left out */

/* The numbers of TensorProto.DataType. */
enum fm_onnx_type { FM_ONNX_FLOAT = 1, FM_ONNX_INT64 = 7 };

enum fm_onnx_role {
    FM_ONNX_INPUT,     /* of the graph */
    FM_ONNX_PARAMETER, /* of the model: learnt, were it a real one */
    FM_ONNX_CONSTANT,  /* of the graph: a shape, an axis, a number of a formula */
    FM_ONNX_INNER,     /* made by a node for other nodes */
    FM_ONNX_OUTPUT,    /* of the graph */
    FM_ONNX_ROLE_COUNT_
};

struct fm_onnx_value {
    const char *name;
    enum fm_onnx_type type;
    enum fm_onnx_role role;
    uint32_t rank;
    int64_t shape[FM_ONNX_RANK_MAX]; /* FM_ONNX_BATCH once, unless PARAMETER or CONSTANT */
    double center;                   /* FLOAT, PARAMETER and CONSTANT: numbers are uniform ... */
    double radius;                   /* ... in [center - radius, center + radius) */
    const int64_t *integers;         /* INT64, CONSTANT; owned by the graph */
};

/* An integer, or (integers != NULL) a list of them. */
struct fm_onnx_attribute {
    const char *name;
    int64_t integer;
    const int64_t *integers;
    uint32_t integer_count;
};

struct fm_onnx_node {
    const char *operation;
    const uint32_t *inputs; /* values, or FM_ONNX_NONE */
    uint32_t input_count;
    uint32_t outputs[FM_ONNX_OUTPUTS_MAX];
    uint32_t output_count;
    struct fm_onnx_attribute attributes[FM_ONNX_ATTRIBUTES_MAX];
    uint32_t attribute_count;
    uint64_t flop; /* per row, counted as model_counts.h says */
    bool is_view;  /* its output is its input, seen otherwise: nothing is moved */
    bool picks;    /* of its first input it reads as much as it gives (Gather) */
};

/* init before use, deinit at the end, whatever happened in between. */
struct fm_onnx_graph {
    struct fm_arena arena;
    const char *description; /* what was asked for, in words; may be NULL */
    uint64_t seed;
    struct fm_onnx_value *values;
    uint32_t value_count;
    uint32_t value_capacity;
    struct fm_onnx_node *nodes;
    uint32_t node_count;
    uint32_t node_capacity;
    bool failed;                /* there was no memory for it */
    struct fm_onnx_value spare; /* what a value is where there was no memory for it */
};

void fm_onnx_graph_init(struct fm_onnx_graph *graph, uint64_t seed);
void fm_onnx_graph_deinit(struct fm_onnx_graph *graph);

/* "layer3.weight", in the graph's memory; "" when it failed. */
const char *fm_onnx_graph_name(struct fm_onnx_graph *graph, const char *format, ...)
    FM_PRINTF(2, 3);

/*
 * Each adds a value and returns its index, by which nodes name it. Names are borrowed for the
 * graph's life, shapes and integers during the call. Where memory fails the index is FM_ONNX_NONE,
 * with which everything here may be called.
 */
uint32_t fm_onnx_graph_input(struct fm_onnx_graph *graph, const char *name, enum fm_onnx_type type,
                             uint32_t rank, const int64_t *shape);
uint32_t fm_onnx_graph_parameter(struct fm_onnx_graph *graph, const char *name, uint32_t rank,
                                 const int64_t *shape, double center, double radius);
uint32_t fm_onnx_graph_number(struct fm_onnx_graph *graph, const char *name, double number);
/* A list of integers; is_scalar: one, without an axis. */
uint32_t fm_onnx_graph_integers(struct fm_onnx_graph *graph, const char *name,
                                const int64_t *integers, uint32_t count, bool is_scalar);
uint32_t fm_onnx_graph_inner(struct fm_onnx_graph *graph, const char *name, enum fm_onnx_type type,
                             uint32_t rank, const int64_t *shape);
/* An INNER becomes the graph's OUTPUT of that name. */
void fm_onnx_graph_output(struct fm_onnx_graph *graph, uint32_t value, const char *name);
/* Adds a node; the lists of `node` are copied. */
void fm_onnx_graph_node(struct fm_onnx_graph *graph, const struct fm_onnx_node *node);

/* Borrowed, until a value is added. */
const struct fm_onnx_value *fm_onnx_graph_value(const struct fm_onnx_graph *graph, uint32_t value);
/* The value of that name, FM_ONNX_NONE: there is none. */
uint32_t fm_onnx_graph_find(const struct fm_onnx_graph *graph, const char *name);
/* How many numbers it holds; of what has a batch, in each row. */
uint64_t fm_onnx_value_elements(const struct fm_onnx_value *value);
/* The bytes of these. */
uint64_t fm_onnx_value_bytes(const struct fm_onnx_value *value);
bool fm_onnx_value_has_batch(const struct fm_onnx_value *value);

/*
 * The numbers of a FLOAT PARAMETER or CONSTANT, from the first on, in as many calls as one likes.
 * They depend on the graph's seed, the value's name, center and radius, and on nothing else.
 */
struct fm_onnx_numbers {
    double center;
    double radius;
    struct fm_random random;
};
void fm_onnx_numbers_begin(const struct fm_onnx_graph *graph, const struct fm_onnx_value *value,
                           struct fm_onnx_numbers *ret_numbers);
void fm_onnx_numbers_next(struct fm_onnx_numbers *numbers, float *ret_values, size_t count);

#endif
