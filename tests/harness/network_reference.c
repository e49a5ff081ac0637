/*
 * Networks in plain loops. See network_reference.h. Each function is one node, or the nodes that
 * its first line names.
 */
#include "tests/harness/network_reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLOAT_BYTES = 4, INTEGER_BYTES = 8, NAME_SIZE = 96 };

void fm_reference_init(struct fm_reference *reference, const struct fm_family_spec *spec,
                       const struct fm_onnx_graph *graph)
{
    memset(reference, 0, sizeof *reference);
    reference->spec = spec;
    reference->graph = graph;
}

void fm_reference_deinit(struct fm_reference *reference)
{
    for (uint32_t i = 0; i < reference->weight_count; i++) {
        free(reference->weights[i].numbers);
    }
}

static size_t value_of(const struct fm_reference *reference, enum fm_family_parameter parameter)
{
    return (size_t)fm_family_value(reference->spec, parameter);
}

/* A new array of this row. */
static double *array(struct fm_reference *reference, size_t count)
{
    double *made = calloc(count + 1, sizeof *made);
    if (made == NULL || reference->scratch_count == FM_REFERENCE_WEIGHTS_MAX * 4) {
        abort();
    }
    reference->scratch[reference->scratch_count++] = made;
    return made;
}

/* The parameter `name`.`part`, which has to have `count` numbers. */
static const float *weight(struct fm_reference *reference, const char *name, const char *part,
                           size_t count)
{
    static const float none[1];
    char wanted[NAME_SIZE];
    (void)snprintf(wanted, sizeof wanted, "%s.%s", name, part);
    for (uint32_t i = 0; i < reference->weight_count; i++) {
        if (strcmp(reference->weights[i].name, wanted) == 0) {
            return reference->weights[i].numbers;
        }
    }
    uint32_t index = fm_onnx_graph_find(reference->graph, wanted);
    const struct fm_onnx_value *value = fm_onnx_graph_value(reference->graph, index);
    if (index == FM_ONNX_NONE || fm_onnx_value_elements(value) != count ||
        reference->weight_count == FM_REFERENCE_WEIGHTS_MAX) {
        printf("# no parameter %s of %zu numbers\n", wanted, count);
        reference->failed = true;
        return none;
    }
    struct fm_onnx_numbers source;
    float *numbers = malloc((count + 1) * sizeof *numbers);
    if (numbers == NULL) {
        abort();
    }
    fm_onnx_numbers_begin(reference->graph, value, &source);
    fm_onnx_numbers_next(&source, numbers, count);
    reference->parameters += count;
    reference->weights[reference->weight_count].name = value->name;
    reference->weights[reference->weight_count++].numbers = numbers;
    return numbers;
}

static void moves(struct fm_reference *reference, size_t count)
{
    reference->moved += count * FLOAT_BYTES;
}

/* Gemm: weights [m, n]. */
static double *gemm(struct fm_reference *reference, const char *name, const double *x, size_t n,
                    size_t m)
{
    const float *w = weight(reference, name, "weight", n * m);
    const float *b = weight(reference, name, "bias", m);
    double *y = array(reference, m);
    for (size_t j = 0; j < m && !reference->failed; j++) {
        for (size_t i = 0; i < n; i++) {
            y[j] += x[i] * (double)w[j * n + i];
            reference->flop += 2;
        }
        y[j] += (double)b[j];
        reference->flop++;
    }
    moves(reference, n + m);
    return y;
}

/* MatMul and Add: weights [n, m], for each of `positions`. */
static double *linear(struct fm_reference *reference, const char *name, const double *x,
                      size_t positions, size_t n, size_t m)
{
    const float *w = weight(reference, name, "weight", n * m);
    const float *b = weight(reference, name, "bias", m);
    double *y = array(reference, positions * m);
    for (size_t p = 0; p < positions && !reference->failed; p++) {
        for (size_t j = 0; j < m; j++) {
            for (size_t i = 0; i < n; i++) {
                y[p * m + j] += x[p * n + i] * (double)w[i * m + j];
                reference->flop += 2;
            }
            y[p * m + j] += (double)b[j];
            reference->flop++;
        }
    }
    moves(reference, positions * (n + m));
    moves(reference, positions * (m + m));
    return y;
}

static void relu(struct fm_reference *reference, double *x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        x[i] = x[i] > 0 ? x[i] : 0;
        reference->flop++;
    }
    moves(reference, 2 * count);
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* ---- mlp ---- */

/* `layers` times Gemm and Relu; the last to `last`. Returns what came out. */
static double *mlp(struct fm_reference *reference, const char *name, double *x, size_t n,
                   size_t layers, size_t hidden, size_t last)
{
    for (size_t i = 0; i < layers; i++) {
        char layer[NAME_SIZE];
        size_t m = i + 1 == layers ? last : hidden;
        (void)snprintf(layer, sizeof layer, "%s%zu", name, i);
        x = gemm(reference, layer, x, n, m);
        relu(reference, x, m);
        n = m;
    }
    return x;
}

static double *mlp_row(struct fm_reference *reference, double *x, size_t *ret_count)
{
    size_t hidden = value_of(reference, FM_FAMILY_HIDDEN);
    *ret_count = value_of(reference, FM_FAMILY_OUTPUTS);
    x = mlp(reference, "layer", x, value_of(reference, FM_FAMILY_INPUTS),
            value_of(reference, FM_FAMILY_LAYERS), hidden, hidden);
    return gemm(reference, "head", x, hidden, *ret_count);
}

/* ---- cnn ---- */

/* One output of a convolution; what lies outside the image is 0, and is multiplied all the same. */
static double conv_at(struct fm_reference *reference, const double *x, size_t side, const float *w,
                      size_t channels, size_t kernel, size_t row, size_t column)
{
    double sum = 0;
    for (size_t c = 0; c < channels; c++) {
        for (size_t i = 0; i < kernel; i++) {
            for (size_t j = 0; j < kernel; j++) {
                size_t at_row = row + i - kernel / 2;
                size_t at_column = column + j - kernel / 2; /* wraps below 0 to above side */
                bool inside = at_row < side && at_column < side;
                double pixel = inside ? x[(c * side + at_row) * side + at_column] : 0;
                sum += pixel * (double)w[(c * kernel + i) * kernel + j];
                reference->flop += 2;
            }
        }
    }
    return sum;
}

static double *conv(struct fm_reference *reference, const char *name, const double *x,
                    size_t channels, size_t side, size_t kernel, size_t outputs)
{
    size_t taps = channels * kernel * kernel;
    const float *w = weight(reference, name, "weight", outputs * taps);
    const float *b = weight(reference, name, "bias", outputs);
    double *y = array(reference, outputs * side * side);
    for (size_t o = 0; o < outputs && !reference->failed; o++) {
        for (size_t pixel = 0; pixel < side * side; pixel++) {
            double sum = conv_at(reference, x, side, w + o * taps, channels, kernel, pixel / side,
                                 pixel % side);
            y[o * side * side + pixel] = sum + (double)b[o];
            reference->flop++;
        }
    }
    moves(reference, (channels + outputs) * side * side);
    return y;
}

static double *max_pool(struct fm_reference *reference, const double *x, size_t channels,
                        size_t side)
{
    size_t half = side / 2;
    double *y = array(reference, channels * half * half);
    for (size_t c = 0; c < channels; c++) {
        for (size_t i = 0; i < half; i++) {
            for (size_t j = 0; j < half; j++) {
                const double *corner = x + (c * side + 2 * i) * side + 2 * j;
                double most = corner[0];
                for (size_t other = 1; other < 4; other++) {
                    most = fmax(most, corner[other / 2 * side + other % 2]);
                    reference->flop++;
                }
                y[(c * half + i) * half + j] = most;
            }
        }
    }
    moves(reference, channels * (side * side + half * half));
    return y;
}

static double *average_pool(struct fm_reference *reference, const double *x, size_t channels,
                            size_t pixels)
{
    double *y = array(reference, channels);
    for (size_t c = 0; c < channels; c++) {
        y[c] = x[c * pixels];
        for (size_t i = 1; i < pixels; i++) {
            y[c] += x[c * pixels + i];
            reference->flop++;
        }
        y[c] /= (double)pixels;
        reference->flop++;
    }
    moves(reference, channels * (pixels + 1));
    return y;
}

static double *cnn_row(struct fm_reference *reference, double *x, size_t *ret_count)
{
    size_t side = value_of(reference, FM_FAMILY_IMAGE);
    size_t channels = value_of(reference, FM_FAMILY_CHANNELS);
    for (size_t i = 0; i < value_of(reference, FM_FAMILY_LAYERS); i++) {
        char layer[NAME_SIZE];
        (void)snprintf(layer, sizeof layer, "layer%zu", i);
        x = conv(reference, layer, x, i == 0 ? 3 : channels, side,
                 value_of(reference, FM_FAMILY_KERNEL), channels);
        relu(reference, x, channels * side * side);
        if (i % 2 == 1 && side >= 4) {
            x = max_pool(reference, x, channels, side);
            side /= 2;
        }
    }
    x = average_pool(reference, x, channels, side * side);
    *ret_count = value_of(reference, FM_FAMILY_OUTPUTS);
    return gemm(reference, "head", x, channels, *ret_count);
}

/* ---- rnn, lstm ---- */

/* What goes into one gate's function: W x + R h + both biases. */
static double gate_sum(struct fm_reference *reference, const float *w, const float *r,
                       const float *b, size_t gate, size_t gates, const double *x, size_t n,
                       const double *h, size_t hidden)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += x[i] * (double)w[gate * n + i];
        reference->flop += 2;
    }
    for (size_t i = 0; i < hidden; i++) {
        sum += h[i] * (double)r[gate * hidden + i];
        reference->flop += 2;
    }
    reference->flop += 2;
    return sum + (double)b[gate] + (double)b[gates * hidden + gate];
}

/* The two formulas, from the sums of one cell's gates. */
static double cell_next(struct fm_reference *reference, const double *sums, double *cell)
{
    if (reference->spec->family == FM_FAMILY_RNN) {
        reference->flop += 1;
        return tanh(sums[0]);
    }
    double input = sigmoid(sums[0]);
    double output = sigmoid(sums[1]);
    double forget = sigmoid(sums[2]);
    double candidate = tanh(sums[3]);
    *cell = forget * *cell + input * candidate;
    reference->flop += 4 + 3 + 2;
    return output * tanh(*cell);
}

static double *recurrent(struct fm_reference *reference, const char *name, const double *x,
                         size_t steps, size_t n, size_t hidden)
{
    size_t gates = reference->spec->family == FM_FAMILY_RNN ? 1 : 4;
    const float *w = weight(reference, name, "weight", gates * hidden * n);
    const float *r = weight(reference, name, "recurrent", gates * hidden * hidden);
    const float *b = weight(reference, name, "bias", 2 * gates * hidden);
    double *y = array(reference, steps * hidden);
    double *cell = array(reference, hidden);
    const double *h = array(reference, hidden);
    for (size_t t = 0; t < steps && !reference->failed; t++) {
        for (size_t j = 0; j < hidden; j++) {
            double sums[4];
            for (size_t gate = 0; gate < gates; gate++) {
                sums[gate] =
                    gate_sum(reference, w, r, b, gate * hidden + j, gates, x + t * n, n, h, hidden);
            }
            y[t * hidden + j] = cell_next(reference, sums, &cell[j]);
        }
        h = y + t * hidden;
    }
    return y;
}

static double *rnn_row(struct fm_reference *reference, double *x, size_t *ret_count)
{
    size_t steps = value_of(reference, FM_FAMILY_SEQUENCE);
    size_t n = value_of(reference, FM_FAMILY_INPUTS);
    size_t hidden = value_of(reference, FM_FAMILY_HIDDEN);
    size_t layers = value_of(reference, FM_FAMILY_LAYERS);
    moves(reference, 2 * steps * n); /* the transposition */
    for (size_t i = 0; i < layers; i++) {
        char layer[NAME_SIZE];
        (void)snprintf(layer, sizeof layer, "layer%zu", i);
        x = recurrent(reference, layer, x, steps, n, hidden);
        moves(reference, steps * n + (i + 1 == layers ? 1 : steps) * hidden);
        n = hidden;
    }
    *ret_count = value_of(reference, FM_FAMILY_OUTPUTS);
    return gemm(reference, "head", x + (steps - 1) * hidden, hidden, *ret_count);
}

/* ---- transformer ---- */

static double *norm(struct fm_reference *reference, const char *name, const double *x,
                    size_t positions, size_t n)
{
    const float *scale = weight(reference, name, "scale", n);
    const float *bias = weight(reference, name, "bias", n);
    double *y = array(reference, positions * n);
    for (size_t p = 0; p < positions && !reference->failed; p++) {
        const double *row = x + p * n;
        double mean = row[0];
        for (size_t i = 1; i < n; i++) {
            mean += row[i];
            reference->flop++;
        }
        mean /= (double)n;
        reference->flop++;
        double variance = 0;
        for (size_t i = 0; i < n; i++) {
            double difference = row[i] - mean;
            y[p * n + i] = difference;
            variance += difference * difference;
            reference->flop += i == 0 ? 2 : 3; /* nothing is added to the first square */
        }
        double factor = 1 / sqrt(variance / (double)n + 1e-5);
        reference->flop += 4;
        for (size_t i = 0; i < n; i++) {
            y[p * n + i] = y[p * n + i] * factor * (double)scale[i] + (double)bias[i];
            reference->flop += 3;
        }
    }
    moves(reference, 2 * positions * n);
    return y;
}

static void softmax(struct fm_reference *reference, double *x, size_t n)
{
    double most = x[0];
    for (size_t i = 1; i < n; i++) {
        most = fmax(most, x[i]);
        reference->flop++;
    }
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        x[i] = exp(x[i] - most);
        sum += x[i];
        reference->flop += i == 0 ? 2 : 3;
    }
    for (size_t i = 0; i < n; i++) {
        x[i] /= sum;
        reference->flop++;
    }
}

/* Of one head: MatMul, Mul, Softmax, MatMul. q, k and v are [sequence, hidden]; columns from
 * `begin` on are the head's. */
static void head_mix(struct fm_reference *reference, const double *q, const double *k,
                     const double *v, size_t begin, size_t size, size_t sequence, size_t hidden,
                     double *y)
{
    double *scores = array(reference, sequence);
    double scale = (double)(float)(1 / sqrt((double)size));
    for (size_t i = 0; i < sequence; i++) {
        for (size_t j = 0; j < sequence; j++) {
            scores[j] = 0;
            for (size_t d = begin; d < begin + size; d++) {
                scores[j] += q[i * hidden + d] * k[j * hidden + d];
                reference->flop += 2;
            }
            scores[j] *= scale;
            reference->flop++;
        }
        softmax(reference, scores, sequence);
        for (size_t d = begin; d < begin + size; d++) {
            for (size_t j = 0; j < sequence; j++) {
                y[i * hidden + d] += scores[j] * v[j * hidden + d];
                reference->flop += 2;
            }
        }
    }
    moves(reference, (2 * size + sequence) * sequence); /* q k^T */
    moves(reference, 2 * sequence * sequence);          /* its scale */
    moves(reference, 2 * sequence * sequence);          /* its softmax */
    moves(reference, (sequence + 2 * size) * sequence); /* times v */
}

static double *attention(struct fm_reference *reference, const char *block, const double *x,
                         size_t sequence, size_t hidden)
{
    static const char *const what[] = {"query", "key", "value"};
    double *parts[3];
    char name[NAME_SIZE];
    for (int i = 0; i < 3; i++) {
        (void)snprintf(name, sizeof name, "%s.%s", block, what[i]);
        parts[i] = linear(reference, name, x, sequence, hidden, hidden);
        moves(reference, 2 * sequence * hidden); /* its transposition */
    }
    size_t heads = value_of(reference, FM_FAMILY_HEADS);
    double *mixed = array(reference, sequence * hidden);
    for (size_t head = 0; head < heads; head++) {
        head_mix(reference, parts[0], parts[1], parts[2], head * (hidden / heads), hidden / heads,
                 sequence, hidden, mixed);
    }
    moves(reference, 2 * sequence * hidden);
    (void)snprintf(name, sizeof name, "%s.output", block);
    return linear(reference, name, mixed, sequence, hidden, hidden);
}

/* Div, Erf, Add, Mul, Mul; the first Mul reads two. */
static void gelu(struct fm_reference *reference, double *x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        x[i] = x[i] * (erf(x[i] / sqrt(2)) + 1) * 0.5;
        reference->flop += 5;
    }
    moves(reference, (2 + 2 + 2 + 3 + 2) * count);
}

static double *added(struct fm_reference *reference, double *x, const double *change, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        x[i] += change[i];
        reference->flop++;
    }
    moves(reference, 3 * count);
    return x;
}

static double *transformer_row(struct fm_reference *reference, double *x, size_t *ret_count)
{
    size_t sequence = value_of(reference, FM_FAMILY_SEQUENCE);
    size_t hidden = value_of(reference, FM_FAMILY_HIDDEN);
    size_t wide = hidden * value_of(reference, FM_FAMILY_EXPANSION);
    *ret_count = sequence * hidden;
    for (size_t i = 0; i < value_of(reference, FM_FAMILY_LAYERS); i++) {
        char block[NAME_SIZE / 2];
        char name[NAME_SIZE];
        (void)snprintf(block, sizeof block, "layer%zu", i);
        (void)snprintf(name, sizeof name, "%s.norm1", block);
        double *normal = norm(reference, name, x, sequence, hidden);
        double *change = attention(reference, block, normal, sequence, hidden);
        x = added(reference, x, change, *ret_count);
        (void)snprintf(name, sizeof name, "%s.norm2", block);
        normal = norm(reference, name, x, sequence, hidden);
        (void)snprintf(name, sizeof name, "%s.up", block);
        change = linear(reference, name, normal, sequence, hidden, wide);
        gelu(reference, change, sequence * wide);
        (void)snprintf(name, sizeof name, "%s.down", block);
        change = linear(reference, name, change, sequence, wide, hidden);
        x = added(reference, x, change, *ret_count);
    }
    return norm(reference, "norm", x, sequence, hidden);
}

/* ---- dlrm ---- */

/* The rows that were asked for, behind the bottom's output. */
static double *vectors_make(struct fm_reference *reference, const double *bottom,
                            const int64_t *indices)
{
    size_t tables = value_of(reference, FM_FAMILY_TABLES);
    size_t width = value_of(reference, FM_FAMILY_WIDTH);
    int64_t rows = (int64_t)value_of(reference, FM_FAMILY_ROWS);
    double *vectors = array(reference, (tables + 1) * width);
    memcpy(vectors, bottom, width * sizeof *vectors);
    reference->moved += 2 * tables * INTEGER_BYTES; /* the remainders */
    for (size_t i = 0; i < tables && !reference->failed; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof name, "table%zu", i);
        const float *table = weight(reference, name, "weight", (size_t)rows * width);
        int64_t row = indices[i] % rows;
        row += row < 0 ? rows : 0;
        for (size_t j = 0; j < width && !reference->failed; j++) {
            vectors[(i + 1) * width + j] = (double)table[(size_t)row * width + j];
            reference->gathered += FLOAT_BYTES;
        }
        reference->moved += 3 * INTEGER_BYTES; /* the index is picked, and read */
        moves(reference, width);
    }
    moves(reference, 2 * (tables + 1) * width); /* they are joined */
    return vectors;
}

static double *dlrm_row(struct fm_reference *reference, double *x, const int64_t *indices,
                        size_t *ret_count)
{
    size_t count = value_of(reference, FM_FAMILY_TABLES) + 1;
    size_t width = value_of(reference, FM_FAMILY_WIDTH);
    size_t hidden = value_of(reference, FM_FAMILY_HIDDEN);
    double *bottom = mlp(reference, "bottom", x, value_of(reference, FM_FAMILY_DENSE),
                         value_of(reference, FM_FAMILY_BOTTOM), hidden, width);
    double *vectors = vectors_make(reference, bottom, indices);
    double *features = array(reference, width + count * count);
    memcpy(features, bottom, width * sizeof *features);
    size_t n = width;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) { /* all of them, as MatMul does; half are used */
            double sum = 0;
            for (size_t k = 0; k < width; k++) {
                sum += vectors[i * width + k] * vectors[j * width + k];
                reference->flop += 2;
            }
            if (j < i) {
                features[n++] = sum;
            }
        }
    }
    moves(reference, 2 * count * width);                 /* the transposition */
    moves(reference, 2 * count * width + count * count); /* the products */
    moves(reference, 2 * (n - width));                   /* those that are picked */
    moves(reference, 2 * n);                             /* and joined with the bottom's output */
    x = mlp(reference, "top", features, n, value_of(reference, FM_FAMILY_TOP), hidden, hidden);
    x = gemm(reference, "head", x, hidden, 1);
    x[0] = sigmoid(x[0]);
    reference->flop++;
    moves(reference, 2);
    *ret_count = 1;
    return x;
}

void fm_reference_row(struct fm_reference *reference, const float *x, const int64_t *indices,
                      double *ret_y)
{
    size_t n = 0;
    for (uint32_t i = 0; i < reference->graph->value_count; i++) {
        const struct fm_onnx_value *value = &reference->graph->values[i];
        if (value->role == FM_ONNX_INPUT && value->type == FM_ONNX_FLOAT) {
            n = (size_t)fm_onnx_value_elements(value);
        }
    }
    double *row = array(reference, n);
    for (size_t i = 0; i < n; i++) {
        row[i] = (double)x[i];
    }
    size_t count = 0;
    const double *y = NULL;
    switch (reference->spec->family) {
    case FM_FAMILY_MLP:
        y = mlp_row(reference, row, &count);
        break;
    case FM_FAMILY_CNN:
        y = cnn_row(reference, row, &count);
        break;
    case FM_FAMILY_RNN:
    case FM_FAMILY_LSTM:
        y = rnn_row(reference, row, &count);
        break;
    case FM_FAMILY_TRANSFORMER:
        y = transformer_row(reference, row, &count);
        break;
    case FM_FAMILY_DLRM:
        y = dlrm_row(reference, row, indices, &count);
        break;
    case FM_FAMILY_COUNT_:
        abort();
    }
    memcpy(ret_y, y, count * sizeof *ret_y);
    while (reference->scratch_count > 0) {
        free(reference->scratch[--reference->scratch_count]);
    }
}
