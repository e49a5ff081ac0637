/*
 * What requests of both forms go through. See oip_internal.h. Pure.
 */
#include <string.h>

#include "core/proto/oip_internal.h"
#include "core/util/error.h"
#include "core/util/memory.h"

int fm_oip_no_memory(const struct fm_oip_decoding *decoding)
{
    return fm_error_set(decoding->reterr, FM_ENOMEM,
                        "out of memory while reading the request for model '%s'",
                        decoding->signature->name);
}

/* --- The request's memory --- */

int fm_oip_request_init(const struct fm_oip_decoding *decoding, size_t id_size)
{
    const struct fm_oip_signature *signature = decoding->signature;
    struct fm_oip_request *request = decoding->request;
    size_t inputs = (size_t)signature->input_count * sizeof(struct fm_value);
    size_t outputs = (size_t)signature->output_count * sizeof(struct fm_oip_output);
    size_t size = inputs + outputs + id_size + 1;
    char *block = decoding->body->memory;
    if (block == NULL || decoding->body->memory_size < size) {
        block = request->allocated = fm_alloc(size);
    }
    if (block == NULL) {
        return fm_oip_no_memory(decoding);
    }
    /* Cheaper than memory that comes zeroed: small pieces are taken from the thread's own cache. */
    memset(block, 0, inputs + outputs);
    request->inputs = (void *)block;
    request->input_count = signature->input_count;
    request->outputs = (void *)(block + inputs);
    return 0;
}

void fm_oip_request_deinit(struct fm_oip_request *request)
{
    for (uint32_t i = 0; request->inputs != NULL && i < request->input_count; i++) {
        fm_buffer_unref(request->inputs[i].buffer);
    }
    for (uint32_t i = 0; request->outputs != NULL && i < request->output_count; i++) {
        fm_free(request->outputs[i].region.name);
        fm_buffer_unref(request->outputs[i].region.buffer);
    }
    fm_free(request->allocated);
    fm_free(request->id_memory);
    *request = (struct fm_oip_request){0};
}

int fm_oip_id_set(const struct fm_oip_decoding *decoding, const char *id, size_t length,
                  size_t room)
{
    struct fm_oip_request *request = decoding->request;
    if (length > FM_OIP_ID_BYTES_MAX) {
        return fm_error_set(decoding->reterr, FM_ETOOLARGE,
                            "the request's id is longer than %d bytes", FM_OIP_ID_BYTES_MAX);
    }
    for (size_t at = 0; at < length;) {
        if ((unsigned char)id[at] < 0x80) {
            at++;
            continue;
        }
        size_t sequence = fm_utf8_sequence(id + at, length - at);
        if (sequence == 0) {
            return fm_error_set(decoding->reterr, FM_EINVAL, "the request's id is not UTF-8");
        }
        at += sequence;
    }
    char *memory = (char *)(request->outputs + decoding->signature->output_count);
    if (length > room) {
        fm_free(request->id_memory);
        request->id_memory = memory = fm_alloc(length + 1);
        if (memory == NULL) {
            return fm_oip_no_memory(decoding);
        }
    }
    if (length > 0) {
        memcpy(memory, id, length);
    }
    memory[length] = '\0';
    request->id = memory;
    request->id_length = length;
    return 0;
}

/* --- Names, types, shapes --- */

int fm_oip_port_unknown(const struct fm_oip_decoding *decoding, const char *what, const char *name,
                        const struct fm_port *ports, uint32_t count)
{
    const char *nearest = NULL;
    unsigned nearest_distance = 1 + (unsigned)strlen(name) / 4;
    struct fm_text known = {0};
    for (uint32_t i = 0; i < count; i++) {
        unsigned distance = fm_text_distance(name, ports[i].name);
        if (distance <= nearest_distance) {
            nearest = ports[i].name;
            nearest_distance = distance;
        }
        if (i < 8) {
            fm_text_append_format(&known, "%s%s", i > 0 ? ", " : "", ports[i].name);
        }
    }
    int status =
        known.failed ? fm_oip_no_memory(decoding)
        : nearest != NULL
            ? fm_error_set(decoding->reterr, FM_EINVAL,
                           "model '%s' has no %s '%s'; did you mean '%s'?",
                           decoding->signature->name, what, name, nearest)
            : fm_error_set(decoding->reterr, FM_EINVAL, "model '%s' has no %s '%s'; it has: %s%s",
                           decoding->signature->name, what, name,
                           known.data != NULL ? known.data : "none", count > 8 ? ", ..." : "");
    fm_text_deinit(&known);
    return status;
}

int fm_oip_dtype_unknown(const struct fm_oip_decoding *decoding, const char *name)
{
    return fm_error_set(decoding->reterr, FM_EINVAL,
                        "unknown datatype '%s'; use one of BOOL, UINT8 to UINT64, INT8 to INT64, "
                        "FP16, BF16, FP32, FP64, BYTES",
                        name);
}

int fm_oip_number_wrong(const struct fm_oip_decoding *decoding, const char *where, uint64_t max)
{
    return fm_error_set(decoding->reterr, FM_EINVAL, "%s must be a whole number from 0 to %llu",
                        where, (unsigned long long)max);
}

int fm_oip_sequence_refused(const struct fm_oip_decoding *decoding)
{
    return fm_error_set(decoding->reterr, FM_EUNSUPPORTED,
                        "sequences (sequence_id) are not supported by this server");
}

int fm_oip_dimension_add(const struct fm_oip_decoding *decoding, struct fm_oip_input *input,
                         int64_t dimension)
{
    if (dimension < 0) {
        return fm_error_set(decoding->reterr, FM_EINVAL,
                            "an input's shape must hold whole numbers of at least 0");
    }
    if (input->rank == FM_RANK_MAX) {
        return fm_error_set(decoding->reterr, FM_EINVAL,
                            "an input's shape has more than %d dimensions", FM_RANK_MAX);
    }
    input->shape[input->rank++] = dimension;
    return 0;
}

int fm_oip_input_once(const struct fm_oip_decoding *decoding, const struct fm_oip_input *input)
{
    return decoding->request->inputs[input->port].tensor.dtype == FM_DTYPE_INVALID
               ? 0
               : fm_error_set(decoding->reterr, FM_EINVAL, "input '%s' is given twice",
                              decoding->signature->inputs[input->port].name);
}

int fm_oip_input_check(const struct fm_oip_decoding *decoding, const struct fm_oip_input *input)
{
    const struct fm_oip_signature *signature = decoding->signature;
    if (input->port < 0) {
        return fm_error_set(decoding->reterr, FM_EINVAL, "an input has no name");
    }
    const struct fm_port *port = &signature->inputs[input->port];
    if (!input->has_shape || input->dtype == FM_DTYPE_INVALID) {
        return fm_error_set(decoding->reterr, FM_EINVAL, "input '%s' has no %s", port->name,
                            input->has_shape ? "datatype" : "shape");
    }
    if (port->dtype != FM_DTYPE_INVALID && port->dtype != input->dtype) {
        return fm_error_set(
            decoding->reterr, FM_ETYPE, "input '%s' of model '%s' is %s, but the request sends %s",
            port->name, signature->name, fm_dtype_name(port->dtype), fm_dtype_name(input->dtype));
    }
    if (!fm_shape_matches(port, input->shape, input->rank)) {
        char expected[128];
        char shape[128];
        return fm_error_set(
            decoding->reterr, FM_ETYPE,
            "input '%s' of model '%s' has shape %s%s, but the request sends %s", port->name,
            signature->name,
            fm_shape_format(port->shape, (uint32_t)port->rank, expected, sizeof(expected)),
            signature->batch_max > 0 ? " (batch first)" : "",
            fm_shape_format(input->shape, input->rank, shape, sizeof(shape)));
    }
    return 0;
}

int fm_oip_inputs_settle(const struct fm_oip_decoding *decoding)
{
    const struct fm_oip_signature *signature = decoding->signature;
    struct fm_oip_request *request = decoding->request;
    request->rows = 1;
    bool first = true;
    for (uint32_t i = 0; i < signature->input_count; i++) {
        const struct fm_tensor *tensor = &request->inputs[i].tensor;
        if (tensor->dtype == FM_DTYPE_INVALID) {
            if ((signature->inputs[i].flags & FM_PORT_OPTIONAL) == 0) {
                return fm_error_set(decoding->reterr, FM_EINVAL,
                                    "input '%s' of model '%s' is missing",
                                    signature->inputs[i].name, signature->name);
            }
            continue;
        }
        if (signature->batch_max == 0 || tensor->rank == 0) {
            continue;
        }
        if (tensor->shape[0] < 1 || tensor->shape[0] > (int64_t)signature->batch_max) {
            return fm_error_set(
                decoding->reterr, FM_ETYPE,
                "input '%s' has a batch of %lld, but model '%s' takes batches of 1 to %u",
                signature->inputs[i].name, (long long)tensor->shape[0], signature->name,
                signature->batch_max);
        }
        if (!first && tensor->shape[0] != (int64_t)request->rows) {
            return fm_error_set(decoding->reterr, FM_ETYPE,
                                "input '%s' has a batch of %lld, but the inputs before it have %u",
                                signature->inputs[i].name, (long long)tensor->shape[0],
                                request->rows);
        }
        request->rows = (uint32_t)tensor->shape[0];
        first = false;
    }
    return 0;
}

/* --- Where tensors come from --- */

int fm_oip_input_size_check(const struct fm_oip_decoding *decoding,
                            const struct fm_oip_input *input, uint64_t size, const char *source)
{
    const char *name = decoding->signature->inputs[input->port].name;
    char shape[128];
    size_t expected = 0;
    if (input->dtype == FM_DTYPE_BYTES) {
        return 0;
    }
    if (fm_tensor_bytes(input->dtype, input->shape, input->rank, &expected) != 0) {
        return fm_error_set(decoding->reterr, FM_ETYPE,
                            "input '%s': a tensor of shape %s is too large", name,
                            fm_shape_format(input->shape, input->rank, shape, sizeof(shape)));
    }
    if (expected != size) {
        return fm_error_set(decoding->reterr, FM_ETYPE,
                            "input '%s': %s%s takes %zu bytes, but %s %llu", name,
                            fm_dtype_name(input->dtype),
                            fm_shape_format(input->shape, input->rank, shape, sizeof(shape)),
                            expected, source, (unsigned long long)size);
    }
    return 0;
}

/* Kernels read elements where they lie; the elements of BYTES are read byte by byte. */
static bool is_aligned(const void *data, uint32_t dtype)
{
    uint32_t bits = fm_dtype_bits(dtype);
    uintptr_t unit = bits <= 8 ? 1 : bits >= 64 ? 8 : bits / 8;
    return ((uintptr_t)data & (unit - 1)) == 0;
}

/* A tensor that refers to bytes of `owner`. */
static void value_refer(const struct fm_oip_input *input, struct fm_buffer *owner, const void *data,
                        size_t size, struct fm_value *ret_value)
{
    struct fm_tensor *tensor = &ret_value->tensor;
    tensor->dtype = input->dtype;
    tensor->rank = input->rank;
    memcpy(tensor->shape, input->shape, input->rank * sizeof(input->shape[0]));
    /* Tensors are read-only once shared; the view type has no const. */
    tensor->data = (void *)(uintptr_t)data;
    tensor->size = size;
    ret_value->buffer = owner;
}

static int value_copy(const struct fm_oip_decoding *decoding, const struct fm_oip_input *input,
                      const void *data, size_t size, struct fm_value *ret_value)
{
    if (fm_value_alloc(ret_value, input->dtype, input->shape, input->rank, size) != 0) {
        return fm_oip_no_memory(decoding);
    }
    if (size > 0) {
        memcpy(ret_value->tensor.data, data, size);
    }
    decoding->request->bytes_copied += size;
    return 0;
}

/* The lengths of BYTES add up. Other types have been checked by their size. */
static int value_check(const struct fm_oip_decoding *decoding, const struct fm_oip_input *input,
                       struct fm_value *value)
{
    if (input->dtype != FM_DTYPE_BYTES) {
        return 0;
    }
    struct fm_error error = {0};
    if (fm_tensor_check(&value->tensor, &error) == 0) {
        return 0;
    }
    fm_value_unref(value);
    return fm_error_set(decoding->reterr, FM_ETYPE, "input '%s': %s",
                        decoding->signature->inputs[input->port].name, error.text);
}

int fm_oip_input_from_body(const struct fm_oip_decoding *decoding, const struct fm_oip_input *input,
                           const char *data, size_t size, struct fm_value *ret_value)
{
    if (decoding->body->buffer != NULL && is_aligned(data, input->dtype)) {
        value_refer(input, fm_buffer_ref(decoding->body->buffer), data, size, ret_value);
    } else {
        int status = value_copy(decoding, input, data, size, ret_value);
        if (status != 0) {
            return status;
        }
    }
    return value_check(decoding, input, ret_value);
}

int fm_oip_tensor_from_body(const struct fm_oip_decoding *decoding, uint32_t port,
                            const struct fm_tensor *tensor, const char *data)
{
    struct fm_oip_input input;
    input.port = port;
    input.dtype = tensor->dtype;
    input.rank = tensor->rank;
    memcpy(input.shape, tensor->shape, tensor->rank * sizeof(tensor->shape[0]));
    return fm_oip_input_from_body(decoding, &input, data, tensor->size,
                                  &decoding->request->inputs[port]);
}

int fm_oip_region_name_set(const struct fm_oip_decoding *decoding,
                           struct fm_oip_region_request *region, const char *name, size_t length)
{
    if (decoding->body->resolve == NULL && length > 0) {
        return fm_error_set(decoding->reterr, FM_EUNSUPPORTED,
                            "shared memory tensors are not supported by this server");
    }
    if (length > FM_OIP_REGION_BYTES_MAX || memchr(name, '\0', length) != NULL) {
        return fm_error_set(decoding->reterr, FM_EINVAL,
                            "a shared_memory_region is a name of 1 to %d bytes without NUL",
                            FM_OIP_REGION_BYTES_MAX);
    }
    memcpy(region->name, name, length);
    region->name[length] = '\0';
    region->given = length > 0;
    return 0;
}

int fm_oip_region_check(const struct fm_oip_decoding *decoding,
                        const struct fm_oip_region_request *region, const char *what,
                        const char *name)
{
    return region->has_size ? 0
                            : fm_error_set(decoding->reterr, FM_EINVAL,
                                           "%s '%s' names shared_memory_region '%s', but has no "
                                           "shared_memory_byte_size",
                                           what, name, region->name);
}

int fm_oip_input_from_region(const struct fm_oip_decoding *decoding,
                             const struct fm_oip_input *input, struct fm_value *ret_value)
{
    const struct fm_oip_body *body = decoding->body;
    const struct fm_oip_region_request *region = &input->region;
    const char *name = decoding->signature->inputs[input->port].name;
    int status = fm_oip_region_check(decoding, region, "input", name);
    if (status == 0) {
        status =
            fm_oip_input_size_check(decoding, input, region->size, "shared_memory_byte_size is");
    }
    struct fm_value found = {0};
    if (status == 0) {
        status = body->resolve(body->resolve_context, region->name, region->offset, region->size,
                               false, &found, decoding->reterr);
        if (status != 0) {
            return fm_error_prefix(decoding->reterr, status, "input '%s'", name);
        }
    }
    if (status != 0) {
        return status;
    }
    /* The client can write there at any time. Numbers may change under a model, but lengths that
     * were checked may not. */
    if (!body->copies_regions && input->dtype != FM_DTYPE_BYTES &&
        is_aligned(found.tensor.data, input->dtype)) {
        value_refer(input, found.buffer, found.tensor.data, found.tensor.size, ret_value);
        return 0;
    }
    status = value_copy(decoding, input, found.tensor.data, found.tensor.size, ret_value);
    fm_value_unref(&found);
    return status != 0 ? status : value_check(decoding, input, ret_value);
}

/* --- Outputs --- */

int fm_oip_output_add(const struct fm_oip_decoding *decoding, const struct fm_oip_output *output,
                      const struct fm_oip_region_request *region)
{
    const struct fm_oip_body *body = decoding->body;
    struct fm_oip_request *request = decoding->request;
    const char *name = decoding->signature->outputs[output->port].name;
    for (uint32_t i = 0; i < request->output_count; i++) {
        if (request->outputs[i].port == output->port) {
            return fm_error_set(decoding->reterr, FM_EINVAL, "output '%s' is asked for twice",
                                name);
        }
    }
    struct fm_oip_output added = *output;
    if (region->given) {
        struct fm_value found = {0};
        int status = fm_oip_region_check(decoding, region, "output", name);
        if (status != 0) {
            return status;
        }
        status = body->resolve(body->resolve_context, region->name, region->offset, region->size,
                               true, &found, decoding->reterr);
        if (status != 0) {
            return fm_error_prefix(decoding->reterr, status, "output '%s'", name);
        }
        added.region = (struct fm_oip_region){.name = fm_strdup(region->name),
                                              .offset = region->offset,
                                              .data = found.tensor.data,
                                              .size = found.tensor.size,
                                              .buffer = found.buffer};
        if (added.region.name == NULL) {
            fm_value_unref(&found);
            return fm_oip_no_memory(decoding);
        }
    }
    /* Each port comes once, so the array, made for all ports, suffices. */
    request->outputs[request->output_count++] = added;
    return 0;
}
