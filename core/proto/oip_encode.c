/*
 * Tensors to infer responses. See oip.h. Pure.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/json.h"
#include "core/proto/oip.h"
#include "core/util/error.h"
#include "core/util/memory.h"

/* --- Tensor data as JSON --- */

static void write_integers(struct fm_json_writer *writer, const struct fm_tensor *tensor,
                           uint64_t count)
{
    const unsigned char *data = tensor->data;
    size_t size = fm_dtype_bits(tensor->dtype) / 8;
    bool is_signed = tensor->dtype >= FM_DTYPE_INT8 && tensor->dtype <= FM_DTYPE_INT64;
    unsigned shift = (unsigned)(64 - 8 * size);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t value = 0;
        memcpy(&value, data + i * size, size);
        if (is_signed) {
            /* Sign extension: to the top and back. */
            fm_json_int(writer, (int64_t)(value << shift) >> shift);
        } else {
            fm_json_uint(writer, value);
        }
    }
}

static void write_bytes(struct fm_json_writer *writer, const struct fm_tensor *tensor,
                        uint64_t count)
{
    const char *at = tensor->data;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t length = 0;
        memcpy(&length, at, sizeof(length));
        fm_json_string_n(writer, at + 4, length);
        at += 4 + (size_t)length;
    }
}

/* The tensor passed fm_tensor_check. False when its type has no JSON form. */
static bool write_data(struct fm_json_writer *writer, const struct fm_tensor *tensor,
                       uint64_t count)
{
    const unsigned char *data = tensor->data;
    fm_json_array_begin(writer);
    if (tensor->dtype == FM_DTYPE_FP32) {
        for (uint64_t i = 0; i < count; i++) {
            float value;
            memcpy(&value, data + i * sizeof(value), sizeof(value));
            fm_json_float(writer, value);
        }
    } else if (tensor->dtype == FM_DTYPE_FP64) {
        for (uint64_t i = 0; i < count; i++) {
            double value;
            memcpy(&value, data + i * sizeof(value), sizeof(value));
            fm_json_number(writer, value);
        }
    } else if (tensor->dtype == FM_DTYPE_BOOL) {
        for (uint64_t i = 0; i < count; i++) {
            fm_json_bool(writer, data[i] != 0);
        }
    } else if (tensor->dtype == FM_DTYPE_BYTES) {
        write_bytes(writer, tensor, count);
    } else if (tensor->dtype >= FM_DTYPE_UINT8 && tensor->dtype <= FM_DTYPE_INT64) {
        write_integers(writer, tensor, count);
    } else {
        return false;
    }
    fm_json_array_end(writer);
    return true;
}

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

/* --- The response --- */

struct encoder {
    const struct fm_oip_signature *signature;
    const struct fm_oip_request *request;
    const struct fm_value *outputs;
    struct fm_json_writer writer;
    struct fm_oip_response *response;
    struct fm_error *reterr;
};

static void write_shape(struct fm_json_writer *writer, const int64_t *shape, uint32_t shape_rank)
{
    fm_json_array_begin(writer);
    for (uint32_t i = 0; i < shape_rank; i++) {
        fm_json_int(writer, shape[i]);
    }
    fm_json_array_end(writer);
}

static int encode_output(struct encoder *encoder, const struct fm_oip_output *wanted,
                         const struct fm_tensor *tensor)
{
    const char *name = encoder->signature->outputs[wanted->port].name;
    struct fm_json_writer *writer = &encoder->writer;
    uint64_t count = 0;
    int status = fm_shape_element_count(tensor->shape, tensor->rank, &count);
    if (status != 0) {
        return fm_error_set(encoder->reterr, FM_EINTERNAL, "output '%s' has an impossible shape",
                            name);
    }
    fm_json_object_begin(writer);
    fm_json_key(writer, "name");
    fm_json_string(writer, name);
    fm_json_key(writer, "datatype");
    fm_json_string(writer, fm_dtype_name(tensor->dtype));
    fm_json_key(writer, "shape");
    write_shape(writer, tensor->shape, tensor->rank);
    if (wanted->binary) {
        fm_json_key(writer, "parameters");
        fm_json_object_begin(writer);
        fm_json_key(writer, "binary_data_size");
        fm_json_uint(writer, tensor->size);
        fm_json_object_end(writer);
        encoder->response->binary = true;
        encoder->response->parts[encoder->response->part_count++] =
            (struct fm_oip_part){tensor->data, tensor->size};
    } else {
        fm_json_key(writer, "data");
        if (!write_data(writer, tensor, count)) {
            return fm_error_set(
                encoder->reterr, FM_EINVAL,
                "output '%s' is %s, which has no JSON form; ask for it with \"binary_data\": true",
                name, fm_dtype_name(tensor->dtype));
        }
    }
    fm_json_object_end(writer);
    return 0;
}

static int encode_outputs(struct encoder *encoder, fm_oip_labels labels, void *labels_context)
{
    struct fm_oip_response *response = encoder->response;
    fm_json_key(&encoder->writer, "outputs");
    fm_json_array_begin(&encoder->writer);
    for (uint32_t i = 0; i < encoder->request->output_count; i++) {
        const struct fm_oip_output *wanted = &encoder->request->outputs[i];
        const struct fm_tensor *tensor = &encoder->outputs[wanted->port].tensor;
        const char *name = encoder->signature->outputs[wanted->port].name;
        struct fm_error error = {0};
        if (tensor->dtype == FM_DTYPE_INVALID || fm_tensor_check(tensor, &error) != 0) {
            return fm_error_set(
                encoder->reterr, FM_EINTERNAL, "model '%s' gave no valid output '%s'%s%s",
                encoder->signature->name, name, error.status != 0 ? ": " : "", error.text);
        }
        int status = 0;
        if (wanted->classes > 0) {
            if (tensor->dtype == FM_DTYPE_BYTES || fm_dtype_bits(tensor->dtype) < 8 ||
                tensor->dtype > FM_DTYPE_BF16) {
                return fm_error_set(encoder->reterr, FM_EINVAL,
                                    "output '%s' is %s: classification needs numbers", name,
                                    fm_dtype_name(tensor->dtype));
            }
            struct label_list list = {0};
            list.texts = labels != NULL ? labels(labels_context, wanted->port, &list.count) : NULL;
            status = classify(tensor, encoder->signature->batch_max > 0, wanted->classes, &list,
                              &response->classified[i]);
            if (status != 0) {
                return fm_error_set(encoder->reterr, status, "classification of output '%s': %s",
                                    name, fm_status_text(status));
            }
            tensor = &response->classified[i].tensor;
        }
        status = encode_output(encoder, wanted, tensor);
        if (status != 0) {
            return status;
        }
    }
    fm_json_array_end(&encoder->writer);
    return 0;
}

static void write_version(struct fm_json_writer *writer, uint64_t version)
{
    char text[24];
    int length = snprintf(text, sizeof(text), "%llu", (unsigned long long)version);
    fm_json_string_n(writer, text, (size_t)length);
}

int fm_oip_response_encode(const struct fm_oip_signature *signature,
                           const struct fm_oip_request *request, const struct fm_value *outputs,
                           fm_oip_labels labels, void *labels_context,
                           struct fm_oip_response *ret_response, struct fm_error *reterr)
{
    struct fm_oip_response response = {.classified_count = request->output_count, .part_count = 1};
    response.parts = fm_alloc_zero((size_t)request->output_count + 1, sizeof(*response.parts));
    response.classified = fm_alloc_zero(request->output_count, sizeof(*response.classified));
    struct encoder encoder = {.signature = signature,
                              .request = request,
                              .outputs = outputs,
                              .response = &response,
                              .reterr = reterr};
    fm_json_writer_init(&encoder.writer, &response.json);
    int status = FM_ENOMEM;
    if (response.parts != NULL && response.classified != NULL) {
        fm_json_object_begin(&encoder.writer);
        if (request->id.data != NULL && request->id.length > 0) {
            fm_json_key(&encoder.writer, "id");
            fm_json_string_n(&encoder.writer, request->id.data, request->id.length);
        }
        fm_json_key(&encoder.writer, "model_name");
        fm_json_string(&encoder.writer, signature->name);
        fm_json_key(&encoder.writer, "model_version");
        write_version(&encoder.writer, signature->version);
        status = encode_outputs(&encoder, labels, labels_context);
        fm_json_object_end(&encoder.writer);
    }
    if (status == FM_ENOMEM || response.json.failed) {
        status =
            fm_error_set(reterr, FM_ENOMEM, "out of memory while writing the answer of model '%s'",
                         signature->name);
    }
    if (status != 0) {
        fm_oip_response_deinit(&response);
        return status;
    }
    response.parts[0] = (struct fm_oip_part){response.json.data, response.json.length};
    for (uint32_t i = 0; i < response.part_count; i++) {
        response.body_size += response.parts[i].size;
    }
    *ret_response = response;
    return 0;
}

void fm_oip_response_deinit(struct fm_oip_response *response)
{
    for (uint32_t i = 0; response->classified != NULL && i < response->classified_count; i++) {
        fm_value_unref(&response->classified[i]);
    }
    fm_free(response->classified);
    fm_free(response->parts);
    fm_text_deinit(&response->json);
    *response = (struct fm_oip_response){0};
}

/* --- Documents --- */

void fm_oip_write_error(struct fm_text *text, const char *message)
{
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    fm_json_key(&writer, "error");
    fm_json_string(&writer, message);
    fm_json_object_end(&writer);
}

void fm_oip_write_server(struct fm_text *text, const char *name, const char *version)
{
    /* Only what works: clients decide by this list what to ask for. */
    static const char *const extensions[] = {"classification",     "model_repository",
                                             "schedule_policy",    "model_configuration",
                                             "binary_tensor_data", "parameters"};
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    fm_json_key(&writer, "name");
    fm_json_string(&writer, name);
    fm_json_key(&writer, "version");
    fm_json_string(&writer, version);
    fm_json_key(&writer, "extensions");
    fm_json_array_begin(&writer);
    for (size_t i = 0; i < sizeof(extensions) / sizeof(extensions[0]); i++) {
        fm_json_string(&writer, extensions[i]);
    }
    fm_json_array_end(&writer);
    fm_json_object_end(&writer);
}

static void write_ports(struct fm_json_writer *writer, const char *key, const struct fm_port *ports,
                        uint32_t count)
{
    fm_json_key(writer, key);
    fm_json_array_begin(writer);
    for (uint32_t i = 0; i < count; i++) {
        fm_json_object_begin(writer);
        fm_json_key(writer, "name");
        fm_json_string(writer, ports[i].name);
        fm_json_key(writer, "datatype");
        fm_json_string(writer, fm_dtype_name(ports[i].dtype));
        fm_json_key(writer, "shape");
        write_shape(writer, ports[i].shape, ports[i].rank > 0 ? (uint32_t)ports[i].rank : 0);
        fm_json_object_end(writer);
    }
    fm_json_array_end(writer);
}

void fm_oip_write_model(struct fm_text *text, const struct fm_oip_signature *signature,
                        const char *platform, const uint64_t *versions, size_t version_count)
{
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    fm_json_key(&writer, "name");
    fm_json_string(&writer, signature->name);
    fm_json_key(&writer, "versions");
    fm_json_array_begin(&writer);
    for (size_t i = 0; i < version_count; i++) {
        write_version(&writer, versions[i]);
    }
    fm_json_array_end(&writer);
    fm_json_key(&writer, "platform");
    fm_json_string(&writer, platform);
    write_ports(&writer, "inputs", signature->inputs, signature->input_count);
    write_ports(&writer, "outputs", signature->outputs, signature->output_count);
    fm_json_object_end(&writer);
}

void fm_oip_write_model_ready(struct fm_text *text, const char *name, bool ready)
{
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    fm_json_key(&writer, "name");
    fm_json_string(&writer, name);
    fm_json_key(&writer, "ready");
    fm_json_bool(&writer, ready);
    fm_json_object_end(&writer);
}

/* Tensors as a model configuration states them: without the batch dimension. */
static void write_config_ports(struct fm_json_writer *writer, const char *key,
                               const struct fm_port *ports, uint32_t count, bool batched)
{
    fm_json_key(writer, key);
    fm_json_array_begin(writer);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t port_rank = ports[i].rank > 0 ? (uint32_t)ports[i].rank : 0;
        uint32_t first = batched && port_rank > 0 ? 1 : 0;
        fm_json_object_begin(writer);
        fm_json_key(writer, "name");
        fm_json_string(writer, ports[i].name);
        fm_json_key(writer, "data_type");
        fm_json_string(writer, fm_dtype_config_name(ports[i].dtype));
        fm_json_key(writer, "dims");
        write_shape(writer, ports[i].shape + first, port_rank - first);
        if ((ports[i].flags & FM_PORT_OPTIONAL) != 0) {
            fm_json_key(writer, "optional");
            fm_json_bool(writer, true);
        }
        fm_json_object_end(writer);
    }
    fm_json_array_end(writer);
}

void fm_oip_write_config(struct fm_text *text, const struct fm_oip_signature *signature,
                         const char *platform, const char *backend, uint32_t instance_count)
{
    struct fm_json_writer writer;
    bool batched = signature->batch_max > 0;
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    fm_json_key(&writer, "name");
    fm_json_string(&writer, signature->name);
    fm_json_key(&writer, "platform");
    fm_json_string(&writer, platform);
    fm_json_key(&writer, "backend");
    fm_json_string(&writer, backend);
    fm_json_key(&writer, "max_batch_size");
    fm_json_uint(&writer, signature->batch_max);
    write_config_ports(&writer, "input", signature->inputs, signature->input_count, batched);
    write_config_ports(&writer, "output", signature->outputs, signature->output_count, batched);
    if (instance_count > 0) {
        fm_json_key(&writer, "instance_group");
        fm_json_array_begin(&writer);
        fm_json_object_begin(&writer);
        fm_json_key(&writer, "name");
        fm_json_string(&writer, signature->name);
        fm_json_key(&writer, "kind");
        fm_json_string(&writer, "KIND_CPU");
        fm_json_key(&writer, "count");
        fm_json_uint(&writer, instance_count);
        fm_json_object_end(&writer);
        fm_json_array_end(&writer);
    }
    if (batched) {
        /* The executor gathers waiting requests into one run. */
        fm_json_key(&writer, "dynamic_batching");
        fm_json_object_begin(&writer);
        fm_json_object_end(&writer);
    }
    fm_json_object_end(&writer);
}

void fm_oip_write_index(struct fm_text *text, const struct fm_oip_index_row *rows, size_t count)
{
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, text);
    fm_json_array_begin(&writer);
    for (size_t i = 0; i < count; i++) {
        fm_json_object_begin(&writer);
        fm_json_key(&writer, "name");
        fm_json_string(&writer, rows[i].name);
        if (rows[i].version > 0) {
            fm_json_key(&writer, "version");
            write_version(&writer, rows[i].version);
        }
        fm_json_key(&writer, "state");
        fm_json_string(&writer, rows[i].state);
        if (rows[i].reason[0] != '\0') {
            fm_json_key(&writer, "reason");
            fm_json_string(&writer, rows[i].reason);
        }
        fm_json_object_end(&writer);
    }
    fm_json_array_end(&writer);
}
