/*
 * Requests of this process. See oip_named.h. Pure.
 */
#include "core/proto/oip_named.h"

#include <stdio.h>
#include <string.h>

#include "core/proto/oip_internal.h"
#include "core/util/error.h"

/* The place of a port among its model's: most programs name them in the model's order. -1: none. */
static int64_t port_find(const char *name, const struct fm_port *ports, uint32_t count,
                         uint32_t likely)
{
    if (likely < count && strcmp(ports[likely].name, name) == 0) {
        return likely;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(ports[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static int read_shape(const struct fm_oip_decoding *decoding, const struct fm_tensor *tensor,
                      struct fm_oip_input *input)
{
    int status = 0;
    for (uint32_t i = 0; i < tensor->rank && status == 0; i++) {
        /* A rank that is too large ends here before the shape's end is passed. */
        status = fm_oip_dimension_add(decoding, input, i < FM_RANK_MAX ? tensor->shape[i] : 0);
    }
    return status;
}

static int read_input(const struct fm_oip_decoding *decoding, const struct fm_named_tensor *named,
                      uint32_t index)
{
    const struct fm_oip_signature *signature = decoding->signature;
    const struct fm_tensor *tensor = &named->tensor;
    /* A shape of no dimensions is one, too. */
    struct fm_oip_input input = {.port = -1, .dtype = tensor->dtype, .has_shape = true};
    if (named->name == NULL) {
        return fm_oip_input_check(decoding, &input);
    }
    input.port = port_find(named->name, signature->inputs, signature->input_count, index);
    if (input.port < 0) {
        return fm_oip_port_unknown(decoding, "input", named->name, signature->inputs,
                                   signature->input_count);
    }
    if (tensor->dtype >= FM_DTYPE_COUNT_) {
        char number[16];
        (void)snprintf(number, sizeof number, "%u", (unsigned)tensor->dtype);
        return fm_oip_dtype_unknown(decoding, number);
    }
    int status = fm_oip_input_once(decoding, &input);
    status = status != 0 ? status : read_shape(decoding, tensor, &input);
    status = status != 0 ? status : fm_oip_input_check(decoding, &input);
    if (status == 0 && tensor->data == NULL && tensor->size > 0) {
        status = fm_error_set(decoding->reterr, FM_EINVAL, "input '%s' has no data", named->name);
    }
    if (status == 0) {
        status = fm_oip_input_size_check(decoding, &input, tensor->size, "its size is");
    }
    return status != 0 ? status
                       : fm_oip_input_from_body(decoding, &input, tensor->data, tensor->size,
                                                &decoding->request->inputs[input.port]);
}

static int read_outputs(const struct fm_oip_decoding *decoding, const struct fm_oip_named *named)
{
    const struct fm_oip_signature *signature = decoding->signature;
    struct fm_oip_request *request = decoding->request;
    const struct fm_oip_region_request none = {0};
    int status = 0;
    for (uint32_t i = 0; i < named->output_count && status == 0; i++) {
        const char *name = named->outputs[i];
        if (name == NULL) {
            return fm_error_set(decoding->reterr, FM_EINVAL, "an output has no name");
        }
        int64_t port = port_find(name, signature->outputs, signature->output_count, i);
        const struct fm_oip_output output = {.port = (uint32_t)port, .binary = true};
        status = port < 0 ? fm_oip_port_unknown(decoding, "output", name, signature->outputs,
                                                signature->output_count)
                          : fm_oip_output_add(decoding, &output, &none);
    }
    if (named->output_count == 0) {
        for (uint32_t i = 0; i < signature->output_count; i++) {
            request->outputs[i] = (struct fm_oip_output){.port = i, .binary = true};
        }
        request->output_count = signature->output_count;
    }
    return status;
}

int fm_oip_named_decode(const struct fm_oip_signature *signature, const struct fm_oip_named *named,
                        struct fm_oip_request *ret_request, struct fm_error *reterr)
{
    struct fm_oip_request request = {.rows = 1, .priority = named->priority};
    const struct fm_oip_body body = {.buffer = named->owner, .header_length = FM_OIP_HEADER_ABSENT};
    const struct fm_oip_decoding decoding = {
        .signature = signature, .body = &body, .request = &request, .reterr = reterr};
    size_t id_length = named->id != NULL ? strlen(named->id) : 0;
    size_t room = id_length <= FM_OIP_ID_BYTES_MAX ? id_length : 0;
    int status = fm_oip_request_init(&decoding, room);
    if (status == 0 && id_length > 0) {
        status = fm_oip_id_set(&decoding, named->id, id_length, room);
    }
    for (uint32_t i = 0; i < named->input_count && status == 0; i++) {
        status = read_input(&decoding, &named->inputs[i], i);
    }
    status = status != 0 ? status : read_outputs(&decoding, named);
    status = status != 0 ? status : fm_oip_inputs_settle(&decoding);
    if (status != 0) {
        fm_oip_request_deinit(&request);
        return status;
    }
    *ret_request = request;
    return 0;
}

int fm_oip_named_check(const struct fm_oip_signature *signature,
                       const struct fm_oip_request *request, const struct fm_value *outputs,
                       struct fm_error *reterr)
{
    const struct fm_oip_encoding encoding = {
        .signature = signature, .request = request, .outputs = outputs, .reterr = reterr};
    int status = 0;
    for (uint32_t i = 0; i < request->output_count && status == 0; i++) {
        const struct fm_tensor *tensor = NULL;
        status = fm_oip_output_prepare(&encoding, i, &tensor);
    }
    return status;
}
