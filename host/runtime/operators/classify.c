/*
 * Operators softmax, argmax and top_k: scores of classes along the last axis.
 *
 * A row without a greatest value (all NaN or minus infinity) is an error: it means that the model
 * failed, and no class would be right. Thread rule: the states are constant.
 */
#include <math.h>
#include <string.h>

#include "core/tensor/tensor.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/runtime/operators/option.h"
#include "host/runtime/operators/row.h"
#include "host/runtime/operators/table.h"

static const struct fm_port scores_port = {.name = "scores", .dtype = FM_DTYPE_FP32, .rank = -1};

/* The scores as rows of `length`. */
struct rows {
    const float *values;
    size_t count;
    size_t length;
};

static int rows_view(struct fm_operator_call *call, struct rows *rows)
{
    char shape[160];
    const struct fm_tensor *tensor = &call->inputs[0].items[0];
    if (tensor->rank == 0 || tensor->shape[tensor->rank - 1] == 0) {
        return fm_error_set(&call->error, FM_ETYPE,
                            "scores of shape %s have no classes along the last axis",
                            fm_shape_format(tensor->shape, tensor->rank, shape, sizeof(shape)));
    }
    rows->values = tensor->data;
    rows->length = (size_t)tensor->shape[tensor->rank - 1];
    rows->count = tensor->size / sizeof(float) / rows->length;
    return 0;
}

static int row_failed(struct fm_operator_call *call, size_t row)
{
    return fm_error_set(&call->error, FM_ECORRUPT,
                        "row %zu of the scores has no greatest value: all are NaN or minus "
                        "infinity",
                        row);
}

static void nothing_destroy(void *state)
{
    (void)state;
}

static int nothing_create(const struct fm_host *host, const struct fm_setting *settings,
                          size_t setting_count, void **ret_state, struct fm_error *reterr)
{
    (void)host;
    (void)settings;
    (void)setting_count;
    (void)reterr;
    *ret_state = NULL;
    return 0;
}

/* --- softmax --- */

static int softmax_ports(void *state, const struct fm_port **ret_inputs, uint32_t *ret_input_count,
                         const struct fm_port **ret_outputs, uint32_t *ret_output_count)
{
    static const struct fm_port output = {
        .name = "probabilities", .dtype = FM_DTYPE_FP32, .rank = -1};
    (void)state;
    *ret_inputs = &scores_port;
    *ret_input_count = 1;
    *ret_outputs = &output;
    *ret_output_count = 1;
    return 0;
}

static int softmax_run(void *state, struct fm_operator_call *call)
{
    (void)state;
    struct rows rows = {0};
    void *data = NULL;
    int status = rows_view(call, &rows);
    if (status == 0) {
        status = call->emit(call, 0, &call->inputs[0].items[0], &data);
    }
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < rows.count; i++) {
        const float *values = rows.values + i * rows.length;
        float *result = (float *)data + i * rows.length;
        float maximum = 0;
        if (fm_row_maximum(values, rows.length, &maximum) == SIZE_MAX) {
            return row_failed(call, i);
        }
        if (isinf(maximum)) {
            return fm_error_set(&call->error, FM_ECORRUPT,
                                "row %zu of the scores has an infinite "
                                "value",
                                i);
        }
        float factor = (float)(1 / fm_row_exp_sum(values, rows.length, maximum));
        for (size_t j = 0; j < rows.length; j++) {
            result[j] = expf(values[j] - maximum) * factor;
        }
    }
    return 0;
}

const struct fm_operator fm_operator_softmax = {
    .struct_size = sizeof(struct fm_operator),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "softmax",
    .summary = "scores to probabilities along the last axis",
    .create = nothing_create,
    .destroy = nothing_destroy,
    .ports = softmax_ports,
    .run = softmax_run,
};

/* --- argmax --- */

static int argmax_ports(void *state, const struct fm_port **ret_inputs, uint32_t *ret_input_count,
                        const struct fm_port **ret_outputs, uint32_t *ret_output_count)
{
    static const struct fm_port outputs[] = {
        {.name = "index", .dtype = FM_DTYPE_INT64, .rank = -1},
        {.name = "value", .dtype = FM_DTYPE_FP32, .rank = -1},
    };
    (void)state;
    *ret_inputs = &scores_port;
    *ret_input_count = 1;
    *ret_outputs = outputs;
    *ret_output_count = 2;
    return 0;
}

static int argmax_run(void *state, struct fm_operator_call *call)
{
    (void)state;
    struct rows rows = {0};
    void *indices = NULL;
    void *values = NULL;
    int status = rows_view(call, &rows);
    if (status != 0) {
        return status;
    }
    struct fm_tensor like = call->inputs[0].items[0];
    like.rank--;
    like.dtype = FM_DTYPE_INT64;
    status = call->emit(call, 0, &like, &indices);
    if (status == 0) {
        like.dtype = FM_DTYPE_FP32;
        status = call->emit(call, 1, &like, &values);
    }
    for (size_t i = 0; status == 0 && i < rows.count; i++) {
        size_t index =
            fm_row_maximum(rows.values + i * rows.length, rows.length, (float *)values + i);
        if (index == SIZE_MAX) {
            status = row_failed(call, i);
        }
        ((int64_t *)indices)[i] = (int64_t)index;
    }
    return status;
}

const struct fm_operator fm_operator_argmax = {
    .struct_size = sizeof(struct fm_operator),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "argmax",
    .summary = "the greatest score along the last axis, and where it is",
    .create = nothing_create,
    .destroy = nothing_destroy,
    .ports = argmax_ports,
    .run = argmax_run,
};

/* --- top_k --- */

enum { TOP_K_MAX = 1000 };
enum { PARAMETER_K, PARAMETER_LABELS, PARAMETER_SOFTMAX };

static const struct fm_operator_parameter top_k_parameters[] = {
    [PARAMETER_K] = {"k", "5", "classes to keep, 1 to 1000; fewer when there are fewer"},
    [PARAMETER_LABELS] = {"labels_file", "",
                          "text file with one class name a line; adds the output labels"},
    [PARAMETER_SOFTMAX] = {"softmax", "false", "true: turn the scores into probabilities first"},
    {NULL, NULL, NULL},
};

struct top_k_state {
    uint64_t k;
    bool softmax;
    struct fm_option_lines labels;
};

static void top_k_destroy(void *state_)
{
    struct top_k_state *state = state_;
    if (state != NULL) {
        fm_option_lines_deinit(&state->labels);
        fm_free(state);
    }
}

static int top_k_create(const struct fm_host *host, const struct fm_setting *settings,
                        size_t setting_count, void **ret_state, struct fm_error *reterr)
{
    (void)host;
    (void)setting_count;
    struct top_k_state *state = fm_alloc_zero(1, sizeof(*state));
    if (state == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    int status = fm_option_uint(&settings[PARAMETER_K], 1, TOP_K_MAX, &state->k, reterr);
    if (status == 0) {
        status = fm_option_bool(&settings[PARAMETER_SOFTMAX], &state->softmax, reterr);
    }
    if (status == 0 && settings[PARAMETER_LABELS].value[0] != '\0') {
        status = fm_option_lines_read(&settings[PARAMETER_LABELS], &state->labels, reterr);
    }
    if (status != 0) {
        top_k_destroy(state);
        return status;
    }
    *ret_state = state;
    return 0;
}

static int top_k_ports(void *state_, const struct fm_port **ret_inputs, uint32_t *ret_input_count,
                       const struct fm_port **ret_outputs, uint32_t *ret_output_count)
{
    static const struct fm_port outputs[] = {
        {.name = "values", .dtype = FM_DTYPE_FP32, .rank = -1},
        {.name = "indices", .dtype = FM_DTYPE_INT64, .rank = -1},
        {.name = "labels", .dtype = FM_DTYPE_BYTES, .rank = -1},
    };
    const struct top_k_state *state = state_;
    *ret_inputs = &scores_port;
    *ret_input_count = 1;
    *ret_outputs = outputs;
    *ret_output_count = state->labels.count > 0 ? 3 : 2;
    return 0;
}

/* The k greatest in falling order, equal ones in rising index, by insertion: k is small and most
 * values fail the first comparison. */
static size_t top_select(const float *scores, size_t length, size_t k, float *values,
                         int64_t *indices)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        float score = scores[i];
        if (isnan(score) || (count == k && score <= values[k - 1])) {
            continue;
        }
        size_t at = count < k ? count++ : k - 1;
        while (at > 0 && values[at - 1] < score) {
            values[at] = values[at - 1];
            indices[at] = indices[at - 1];
            at--;
        }
        values[at] = score;
        indices[at] = (int64_t)i;
    }
    return count;
}

static int labels_emit(struct fm_operator_call *call, const struct fm_option_lines *labels,
                       const struct fm_tensor *shape, const int64_t *indices, size_t count)
{
    struct fm_tensor like = *shape;
    like.dtype = FM_DTYPE_BYTES;
    like.size = 0;
    for (size_t i = 0; i < count; i++) {
        like.size += 4 + strlen(labels->lines[indices[i]]);
    }
    void *data = NULL;
    int status = call->emit(call, 2, &like, &data);
    if (status != 0) {
        return status;
    }
    unsigned char *out = data;
    for (size_t i = 0; i < count; i++) {
        const char *label = labels->lines[indices[i]];
        size_t length = strlen(label);
        for (int b = 0; b < 4; b++) {
            *out++ = (unsigned char)(length >> (8 * b));
        }
        /* BYTES elements carry their length and no terminator. NOLINTNEXTLINE */
        memcpy(out, label, length);
        out += length;
    }
    return 0;
}

static int top_k_run(void *state_, struct fm_operator_call *call)
{
    const struct top_k_state *state = state_;
    struct rows rows = {0};
    void *values = NULL;
    void *indices = NULL;
    int status = rows_view(call, &rows);
    if (status != 0) {
        return status;
    }
    if (state->labels.count > 0 && state->labels.count != rows.length) {
        return fm_error_set(&call->error, FM_ETYPE, "%zu classes, but labels_file has %zu lines",
                            rows.length, state->labels.count);
    }
    size_t k = state->k < rows.length ? (size_t)state->k : rows.length;
    struct fm_tensor like = call->inputs[0].items[0];
    like.shape[like.rank - 1] = (int64_t)k;
    status = call->emit(call, 0, &like, &values);
    if (status == 0) {
        like.dtype = FM_DTYPE_INT64;
        status = call->emit(call, 1, &like, &indices);
    }
    for (size_t i = 0; status == 0 && i < rows.count; i++) {
        const float *scores = rows.values + i * rows.length;
        float *best = (float *)values + i * k;
        size_t found = top_select(scores, rows.length, k, best, (int64_t *)indices + i * k);
        if (found < k) {
            return fm_error_set(&call->error, FM_ECORRUPT,
                                "row %zu of the scores has only %zu numbers, the rest are NaN", i,
                                found);
        }
        if (state->softmax) {
            float maximum = best[0];
            double sum = fm_row_exp_sum(scores, rows.length, maximum);
            if (isinf(maximum) || isnan(sum)) {
                return fm_error_set(&call->error, FM_ECORRUPT,
                                    "row %zu of the scores has infinite or NaN values", i);
            }
            for (size_t j = 0; j < k; j++) {
                best[j] = (float)((double)expf(best[j] - maximum) / sum);
            }
        }
    }
    if (status == 0 && state->labels.count > 0) {
        status = labels_emit(call, &state->labels, &like, indices, rows.count * k);
    }
    return status;
}

const struct fm_operator fm_operator_top_k = {
    .struct_size = sizeof(struct fm_operator),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "top_k",
    .summary = "the greatest scores along the last axis, with their indices and names",
    .parameters = top_k_parameters,
    .create = top_k_create,
    .destroy = top_k_destroy,
    .ports = top_k_ports,
    .run = top_k_run,
};
