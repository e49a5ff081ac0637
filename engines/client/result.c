/*
 * Results of inferences, and strings in tensors. See include/fermata/client.h.
 */
#include <string.h>

#include "core/util/error.h"
#include "engines/client/client_internal.h"

#define LENGTH_BYTES 4u /* in front of each element of a BYTES tensor */

struct fm_client_result *fm_client_result_make(struct fm_oip_client_answer *answer)
{
    struct fm_client_result *result = fm_alloc_zero(1, sizeof(*result));
    if (result == NULL) {
        fm_oip_client_answer_deinit(answer);
        return NULL;
    }
    result->answer = *answer;
    *answer = (struct fm_oip_client_answer){0};
    return result;
}

void fm_client_result_free(struct fm_client_result *result)
{
    if (result != NULL) {
        fm_oip_client_answer_deinit(&result->answer);
        fm_free(result);
    }
}

const char *fm_client_result_model(const struct fm_client_result *result)
{
    return result->answer.model != NULL ? result->answer.model : "";
}

const char *fm_client_result_version(const struct fm_client_result *result)
{
    return result->answer.version != NULL ? result->answer.version : "";
}

const char *fm_client_result_id(const struct fm_client_result *result)
{
    return result->answer.id != NULL ? result->answer.id : "";
}

uint32_t fm_client_result_count(const struct fm_client_result *result)
{
    return result->answer.output_count;
}

const char *fm_client_result_name(const struct fm_client_result *result, uint32_t index)
{
    return index < result->answer.output_count ? result->answer.outputs[index].name : NULL;
}

const struct fm_tensor *fm_client_result_output(const struct fm_client_result *result,
                                                uint32_t index)
{
    return index < result->answer.output_count ? &result->answer.outputs[index].value.tensor : NULL;
}

const struct fm_tensor *fm_client_result_find(const struct fm_client_result *result,
                                              const char *name)
{
    for (uint32_t i = 0; i < result->answer.output_count; i++) {
        if (strcmp(result->answer.outputs[i].name, name) == 0) {
            return &result->answer.outputs[i].value.tensor;
        }
    }
    return NULL;
}

/* --- Strings --- */

int fm_client_bytes_make(const struct fm_client_bytes *elements, size_t count,
                         struct fm_tensor *ret_tensor)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        if (elements[i].size > UINT32_MAX || size > SIZE_MAX / 2 ||
            (elements[i].data == NULL && elements[i].size > 0)) {
            return FM_EINVAL;
        }
        size += LENGTH_BYTES + elements[i].size;
    }
    unsigned char *data = fm_alloc(size);
    if (data == NULL) {
        return FM_ENOMEM;
    }
    *ret_tensor = (struct fm_tensor){
        .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {(int64_t)count}, .data = data, .size = size};
    for (size_t i = 0; i < count; i++) {
        for (unsigned k = 0; k < LENGTH_BYTES; k++) {
            *data++ = (unsigned char)(elements[i].size >> (8 * k));
        }
        if (elements[i].size > 0) {
            memcpy(data, elements[i].data, elements[i].size);
        }
        data += elements[i].size;
    }
    return 0;
}

void fm_client_bytes_free(struct fm_tensor *tensor)
{
    if (tensor != NULL) {
        fm_free(tensor->data);
        *tensor = (struct fm_tensor){0};
    }
}

int fm_client_bytes_next(const struct fm_tensor *tensor, size_t *offset,
                         struct fm_client_bytes *ret_element)
{
    const unsigned char *data = tensor->data;
    if (tensor->dtype != FM_DTYPE_BYTES || *offset > tensor->size) {
        return FM_ETYPE;
    }
    if (*offset == tensor->size) {
        return 0;
    }
    size_t left = tensor->size - *offset;
    if (left < LENGTH_BYTES) {
        return FM_ETYPE;
    }
    size_t size = 0;
    for (unsigned k = 0; k < LENGTH_BYTES; k++) {
        size |= (size_t)data[*offset + k] << (8 * k);
    }
    if (size > left - LENGTH_BYTES) {
        return FM_ETYPE;
    }
    *ret_element = (struct fm_client_bytes){data + *offset + LENGTH_BYTES, size};
    *offset += LENGTH_BYTES + size;
    return 1;
}
