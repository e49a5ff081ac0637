/*
 * What outputs of both forms go through before they are written, classification among it. See
 * oip_internal.h. Pure.
 */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/oip_internal.h"
#include "core/util/error.h"
#include "core/util/memory.h"

/* --- Classification --- */

/* Element `index` of a numeric tensor as a double; NaN for types that cannot be ranked. */
static double element(const struct fm_tensor *tensor, uint64_t index)
{
    size_t size = fm_dtype_bits(tensor->dtype) / 8;
    const unsigned char *at = (const unsigned char *)tensor->data + index * size;
    if (tensor->dtype == FM_DTYPE_FP32) {
        float value;
        memcpy(&value, at, sizeof(value));
        return (double)value;
    }
    if (tensor->dtype == FM_DTYPE_FP64) {
        double value;
        memcpy(&value, at, sizeof(value));
        return value;
    }
    if (tensor->dtype == FM_DTYPE_FP16 || tensor->dtype == FM_DTYPE_BF16) {
        uint16_t value;
        memcpy(&value, at, sizeof(value));
        return (double)(tensor->dtype == FM_DTYPE_FP16 ? fm_fp16_to_float(value)
                                                       : fm_bf16_to_float(value));
    }
    uint64_t value = 0;
    memcpy(&value, at, size);
    unsigned shift = (unsigned)(64 - 8 * size);
    return tensor->dtype >= FM_DTYPE_INT8 ? (double)((int64_t)(value << shift) >> shift)
                                          : (double)value;
}

struct ranked {
    double value;
    uint64_t index;
};

/* Puts a candidate into `best` (sorted, best first, `*count` of at most `max`). Ties: the lower
 * index first. NaN ranks last. */
static void rank(struct ranked *best, uint32_t *count, uint32_t max, struct ranked candidate)
{
    double key = isnan(candidate.value) ? -INFINITY : candidate.value;
    uint32_t at = *count;
    if (at == max) {
        if (!(key > (isnan(best[at - 1].value) ? -INFINITY : best[at - 1].value))) {
            return;
        }
        at--;
    } else {
        (*count)++;
    }
    while (at > 0 && key > (isnan(best[at - 1].value) ? -INFINITY : best[at - 1].value)) {
        best[at] = best[at - 1];
        at--;
    }
    best[at] = candidate;
}

static void append_class(struct fm_text *text, const struct ranked *ranked,
                         const char *const *labels, size_t label_count)
{
    char value[400];
    int length =
        snprintf(value, sizeof(value), "%f:%llu", ranked->value, (unsigned long long)ranked->index);
    const char *label =
        labels != NULL && ranked->index < label_count ? labels[ranked->index] : NULL;
    size_t label_length = label != NULL ? strlen(label) : 0;
    uint32_t total = (uint32_t)((size_t)length + (label != NULL ? 1 + label_length : 0));
    fm_text_append(text, &total, sizeof(total));
    fm_text_append(text, value, (size_t)length);
    if (label != NULL) {
        fm_text_append_char(text, ':');
        fm_text_append(text, label, label_length);
    }
}

struct label_list {
    const char *const *texts;
    size_t count;
};

/* tensor [rows, classes...] to BYTES [rows, k], or without a batch [classes...] to [k]. */
static int classify(const struct fm_tensor *tensor, bool batched, uint32_t k,
                    const struct label_list *labels, struct fm_value *ret_value)
{
    uint64_t count = 0;
    if (fm_shape_element_count(tensor->shape, tensor->rank, &count) != 0) {
        return FM_EINTERNAL;
    }
    uint64_t rows = batched && tensor->rank > 0 ? (uint64_t)tensor->shape[0] : 1;
    uint64_t classes = rows > 0 ? count / rows : 0;
    k = classes < k ? (uint32_t)classes : k;
    struct ranked *best = fm_alloc_zero(k, sizeof(*best));
    struct fm_text text = {0};
    for (uint64_t row = 0; best != NULL && k > 0 && row < rows; row++) {
        uint32_t found = 0;
        for (uint64_t i = 0; i < classes; i++) {
            rank(best, &found, k, (struct ranked){element(tensor, row * classes + i), i});
        }
        for (uint32_t i = 0; i < found; i++) {
            append_class(&text, &best[i], labels->texts, labels->count);
        }
    }
    int64_t shape[2] = {(int64_t)rows, k};
    int status = best == NULL || text.failed
                     ? FM_ENOMEM
                     : fm_value_alloc(ret_value, FM_DTYPE_BYTES, batched ? shape : shape + 1,
                                      batched ? 2 : 1, text.length);
    if (status == 0 && text.length > 0) {
        memcpy(ret_value->tensor.data, text.data, text.length);
    }
    fm_free(best);
    fm_text_deinit(&text);
    return status;
}

static int classified(const struct fm_oip_encoding *encoding, uint32_t index,
                      const struct fm_tensor **tensor)
{
    const struct fm_oip_request *request = encoding->request;
    const struct fm_oip_output *wanted = &request->outputs[index];
    const char *name = encoding->signature->outputs[wanted->port].name;
    struct fm_oip_response *response = encoding->response;
    uint32_t dtype = (*tensor)->dtype;
    if (dtype == FM_DTYPE_BYTES || fm_dtype_bits(dtype) < 8 || dtype > FM_DTYPE_BF16) {
        return fm_error_set(encoding->reterr, FM_EINVAL,
                            "output '%s' is %s: classification needs numbers", name,
                            fm_dtype_name(dtype));
    }
    if (response->classified == NULL) {
        response->classified = fm_alloc_zero(request->output_count, sizeof(*response->classified));
        response->classified_count = response->classified != NULL ? request->output_count : 0;
    }
    struct label_list list = {0};
    if (encoding->labels != NULL) {
        list.texts = encoding->labels(encoding->labels_context, wanted->port, &list.count);
    }
    int status = response->classified == NULL
                     ? FM_ENOMEM
                     : classify(*tensor, encoding->signature->batch_max > 0, wanted->classes, &list,
                                &response->classified[index]);
    if (status != 0) {
        return fm_error_set(encoding->reterr, status, "classification of output '%s': %s", name,
                            fm_status_text(status));
    }
    *tensor = &response->classified[index].tensor;
    return 0;
}

int fm_oip_output_prepare(const struct fm_oip_encoding *encoding, uint32_t index,
                          const struct fm_tensor **ret_tensor)
{
    const struct fm_oip_output *wanted = &encoding->request->outputs[index];
    const struct fm_tensor *tensor = &encoding->outputs[wanted->port].tensor;
    const char *name = encoding->signature->outputs[wanted->port].name;
    /* Asked for the words only when something is wrong. */
    if (tensor->dtype == FM_DTYPE_INVALID || fm_tensor_check(tensor, NULL) != 0) {
        struct fm_error error = {0};
        if (tensor->dtype != FM_DTYPE_INVALID) {
            (void)!fm_tensor_check(tensor, &error);
        }
        return fm_error_set(encoding->reterr, FM_EINTERNAL,
                            "model '%s' gave no valid output '%s'%s%s", encoding->signature->name,
                            name, error.status != 0 ? ": " : "", error.text);
    }
    int status = wanted->classes > 0 ? classified(encoding, index, &tensor) : 0;
    if (status != 0) {
        return status;
    }
    const struct fm_oip_region *region = &wanted->region;
    if (region->name != NULL) {
        if (tensor->size > region->size) {
            return fm_error_set(encoding->reterr, FM_EINVAL,
                                "shared memory size specified with the request for output '%s' "
                                "(%zu bytes) should be at least %zu bytes to hold the results",
                                name, region->size, tensor->size);
        }
        if (tensor->size > 0) {
            /* An output may be an input that was passed through, from a region that overlaps. */
            memmove(region->data, tensor->data, tensor->size);
        }
        encoding->response->bytes_copied += tensor->size;
    }
    *ret_tensor = tensor;
    return 0;
}

int fm_oip_response_no_memory(const struct fm_oip_encoding *encoding)
{
    return fm_error_set(encoding->reterr, FM_ENOMEM,
                        "out of memory while writing the answer of model '%s'",
                        encoding->signature->name);
}

int fm_oip_response_init(struct fm_oip_response *response, uint32_t part_count)
{
    memset(response, 0, offsetof(struct fm_oip_response, inline_parts)); /* what is used */
    response->parts = response->inline_parts;
    fm_text_begin(&response->head, response->inline_head, sizeof(response->inline_head));
    if (part_count > FM_OIP_PARTS_INLINE) {
        response->parts = fm_alloc(part_count * sizeof(*response->parts));
    }
    return response->parts != NULL ? 0 : FM_ENOMEM;
}

void fm_oip_response_deinit(struct fm_oip_response *response)
{
    for (uint32_t i = 0; i < response->classified_count; i++) {
        fm_value_unref(&response->classified[i]);
    }
    fm_free(response->classified);
    if (response->parts != response->inline_parts) {
        fm_free(response->parts);
    }
    fm_text_deinit(&response->head);
    memset(response, 0, offsetof(struct fm_oip_response, inline_parts));
}
