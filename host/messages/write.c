/*
 * What the server says, apart from a model's configuration. See messages.h.
 */
#include <string.h>

#include "core/proto/json.h"
#include "core/proto/protobuf.h"
#include "host/messages/inference.pb-c.h"
#include "host/messages/messages_internal.h"

static const struct fm_messages_shape whole = {.defaults = true};

void fm_messages_write_live(struct fm_text *text, enum fm_messages_form form, bool live)
{
    struct fm_messages_builder builder = {0};
    Inference__ServerLiveResponse message = INFERENCE__SERVER_LIVE_RESPONSE__INIT;
    message.live = live;
    fm_messages_send(&builder, text, form, &message.base, &whole);
}

void fm_messages_write_ready(struct fm_text *text, enum fm_messages_form form, bool ready)
{
    struct fm_messages_builder builder = {0};
    Inference__ServerReadyResponse message = INFERENCE__SERVER_READY_RESPONSE__INIT;
    message.ready = ready;
    fm_messages_send(&builder, text, form, &message.base, &whole);
}

void fm_messages_write_model_ready(struct fm_text *text, enum fm_messages_form form,
                                   const char *name, bool ready)
{
    if (form == FM_MESSAGES_JSON) {
        struct fm_json_writer writer;
        fm_json_writer_init(&writer, text);
        fm_json_object_begin(&writer);
        fm_json_member_string(&writer, "name", name);
        fm_json_key(&writer, "ready");
        fm_json_bool(&writer, ready);
        fm_json_object_end(&writer);
        return;
    }
    struct fm_messages_builder builder = {0};
    Inference__ModelReadyResponse message = INFERENCE__MODEL_READY_RESPONSE__INIT;
    message.ready = ready;
    fm_messages_send(&builder, text, form, &message.base, &whole);
}

void fm_messages_write_server(struct fm_text *text, enum fm_messages_form form,
                              const struct fm_messages_server *server)
{
    struct fm_messages_builder builder = {0};
    Inference__ServerMetadataResponse message = INFERENCE__SERVER_METADATA_RESPONSE__INIT;
    message.name = fm_messages_string(server->name);
    message.version = fm_messages_string(server->version);
    message.extensions = (char **)(uintptr_t)server->extensions;
    message.n_extensions = server->extension_count;
    fm_messages_send(&builder, text, form, &message.base, &whole);
}

typedef Inference__ModelMetadataResponse__TensorMetadata TensorMetadata;

static TensorMetadata **ports_make(struct fm_messages_builder *builder, const struct fm_port *ports,
                                   uint32_t count)
{
    TensorMetadata **list = fm_messages_alloc_list(builder, count, sizeof(**list));
    for (uint32_t i = 0; list != NULL && i < count; i++) {
        inference__model_metadata_response__tensor_metadata__init(list[i]);
        list[i]->name = fm_messages_string(ports[i].name);
        list[i]->datatype = fm_messages_string(fm_dtype_name(ports[i].dtype));
        list[i]->shape = (int64_t *)(uintptr_t)ports[i].shape;
        list[i]->n_shape = ports[i].rank > 0 ? (size_t)ports[i].rank : 0;
    }
    return list;
}

void fm_messages_write_model(struct fm_text *text, enum fm_messages_form form,
                             const struct fm_messages_model *model)
{
    const struct fm_oip_signature *signature = model->signature;
    struct fm_messages_builder builder = {0};
    Inference__ModelMetadataResponse message = INFERENCE__MODEL_METADATA_RESPONSE__INIT;
    message.name = fm_messages_string(signature->name);
    message.platform = fm_messages_string(model->platform);
    message.versions = fm_messages_alloc(&builder, model->version_count + 1, sizeof(char *));
    message.n_versions = model->version_count;
    for (size_t i = 0; message.versions != NULL && i < model->version_count; i++) {
        message.versions[i] = fm_messages_number(&builder, model->versions[i]);
    }
    message.inputs = ports_make(&builder, signature->inputs, signature->input_count);
    message.n_inputs = signature->input_count;
    message.outputs = ports_make(&builder, signature->outputs, signature->output_count);
    message.n_outputs = signature->output_count;
    fm_messages_send(&builder, text, form, &message.base, &whole);
}

/* --- Statistics --- */

static Inference__StatisticDuration *duration_make(struct fm_messages_builder *builder,
                                                   const struct fm_messages_duration *duration)
{
    Inference__StatisticDuration *message = fm_messages_alloc(builder, 1, sizeof(*message));
    if (message != NULL) {
        inference__statistic_duration__init(message);
        message->count = duration->count;
        message->ns = duration->ns;
    }
    return message;
}

static Inference__InferStatistics *infer_make(struct fm_messages_builder *builder,
                                              const struct fm_messages_statistics *row)
{
    Inference__InferStatistics *message = fm_messages_alloc(builder, 1, sizeof(*message));
    if (message != NULL) {
        inference__infer_statistics__init(message);
        message->success = duration_make(builder, &row->success);
        message->fail = duration_make(builder, &row->fail);
        message->queue = duration_make(builder, &row->queue);
        message->compute_input = duration_make(builder, &row->compute_input);
        message->compute_infer = duration_make(builder, &row->compute_infer);
        message->compute_output = duration_make(builder, &row->compute_output);
        /* Without a cache too: clients do not check that they are there. */
        message->cache_hit = duration_make(builder, &row->cache_hit);
        message->cache_miss = duration_make(builder, &row->cache_miss);
    }
    return message;
}

static void statistics_make(struct fm_messages_builder *builder,
                            const struct fm_messages_statistics *row,
                            Inference__ModelStatistics *message)
{
    inference__model_statistics__init(message);
    message->name = fm_messages_string(row->name);
    message->version = fm_messages_number(builder, row->version);
    message->last_inference = row->last_inference_ms;
    message->inference_count = row->inference_count;
    message->execution_count = row->execution_count;
    message->inference_stats = infer_make(builder, row);
    Inference__InferBatchStatistics **batches =
        fm_messages_alloc_list(builder, row->batch_count, sizeof(**batches));
    for (size_t i = 0; batches != NULL && i < row->batch_count; i++) {
        inference__infer_batch_statistics__init(batches[i]);
        batches[i]->batch_size = row->batches[i].batch_size;
        batches[i]->compute_input = duration_make(builder, &row->batches[i].compute_input);
        batches[i]->compute_infer = duration_make(builder, &row->batches[i].compute_infer);
        batches[i]->compute_output = duration_make(builder, &row->batches[i].compute_output);
    }
    message->batch_stats = batches;
    message->n_batch_stats = row->batch_count;
    Inference__MemoryUsage **memory =
        fm_messages_alloc_list(builder, row->memory_count, sizeof(**memory));
    for (size_t i = 0; memory != NULL && i < row->memory_count; i++) {
        inference__memory_usage__init(memory[i]);
        memory[i]->type = fm_messages_string(row->memory[i].type);
        memory[i]->id = row->memory[i].id;
        memory[i]->byte_size = row->memory[i].bytes;
    }
    message->memory_usage = memory;
    message->n_memory_usage = row->memory_count;
}

void fm_messages_write_statistics(struct fm_text *text, enum fm_messages_form form,
                                  const struct fm_messages_statistics *rows, size_t count)
{
    struct fm_messages_builder builder = {0};
    Inference__ModelStatisticsResponse message = INFERENCE__MODEL_STATISTICS_RESPONSE__INIT;
    message.model_stats = fm_messages_alloc_list(&builder, count, sizeof(**message.model_stats));
    message.n_model_stats = count;
    for (size_t i = 0; message.model_stats != NULL && i < count; i++) {
        statistics_make(&builder, &rows[i], message.model_stats[i]);
    }
    fm_messages_send(&builder, text, form, &message.base, &whole);
}

/* --- The repository and shared memory --- */

void fm_messages_write_index(struct fm_text *text, enum fm_messages_form form,
                             const struct fm_messages_index_row *rows, size_t count)
{
    static const struct fm_messages_shape shape = {.list = "models", .defaults = false};
    struct fm_messages_builder builder = {0};
    Inference__RepositoryIndexResponse message = INFERENCE__REPOSITORY_INDEX_RESPONSE__INIT;
    message.models = fm_messages_alloc_list(&builder, count, sizeof(**message.models));
    message.n_models = count;
    for (size_t i = 0; message.models != NULL && i < count; i++) {
        inference__repository_index_response__model_index__init(message.models[i]);
        message.models[i]->name = fm_messages_string(rows[i].name);
        message.models[i]->version = rows[i].version > 0
                                         ? fm_messages_number(&builder, rows[i].version)
                                         : fm_messages_string(NULL);
        message.models[i]->state = fm_messages_string(rows[i].state);
        message.models[i]->reason = fm_messages_string(rows[i].reason);
    }
    fm_messages_send(&builder, text, form, &message.base, &shape);
}

void fm_messages_write_regions(struct fm_text *text, enum fm_messages_form form,
                               const struct fm_messages_region *rows, size_t count)
{
    if (form == FM_MESSAGES_JSON) {
        /* REST has the values of the map as an array; each names itself. */
        struct fm_json_writer writer;
        fm_json_writer_init(&writer, text);
        fm_json_array_begin(&writer);
        for (size_t i = 0; i < count; i++) {
            fm_json_object_begin(&writer);
            fm_json_member_string(&writer, "name", rows[i].name);
            fm_json_member_string(&writer, "key", rows[i].key);
            fm_json_member_uint(&writer, "offset", rows[i].offset);
            fm_json_member_uint(&writer, "byte_size", rows[i].size);
            fm_json_object_end(&writer);
        }
        fm_json_array_end(&writer);
        return;
    }
    typedef Inference__SystemSharedMemoryStatusResponse__RegionStatus Status;
    struct fm_messages_builder builder = {0};
    Inference__SystemSharedMemoryStatusResponse message =
        INFERENCE__SYSTEM_SHARED_MEMORY_STATUS_RESPONSE__INIT;
    message.regions = fm_messages_alloc_list(&builder, count, sizeof(**message.regions));
    message.n_regions = count;
    Status *status = fm_messages_alloc(&builder, count + 1, sizeof(*status));
    for (size_t i = 0; message.regions != NULL && status != NULL && i < count; i++) {
        inference__system_shared_memory_status_response__regions_entry__init(message.regions[i]);
        inference__system_shared_memory_status_response__region_status__init(&status[i]);
        status[i].name = fm_messages_string(rows[i].name);
        status[i].key = fm_messages_string(rows[i].key);
        status[i].offset = rows[i].offset;
        status[i].byte_size = rows[i].size;
        message.regions[i]->key = status[i].name;
        message.regions[i]->value = &status[i];
    }
    fm_messages_send(&builder, text, form, &message.base, &whole);
}

void fm_messages_write_cuda_regions(struct fm_text *text, enum fm_messages_form form)
{
    /* As protobuf, a message without fields is no bytes. */
    fm_text_append_string(text, form == FM_MESSAGES_JSON ? "[]" : "");
}

/* --- Settings --- */

static void write_settings_json(struct fm_text *text, const struct fm_messages_setting *settings,
                                size_t count, const char *list_key)
{
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    for (size_t i = 0; i < count; i++) {
        const struct fm_messages_setting *setting = &settings[i];
        fm_json_key(&writer, setting->key);
        if (setting->kind == FM_MESSAGES_BOOL) {
            fm_json_bool(&writer, setting->is_true);
        } else if (setting->kind == FM_MESSAGES_UINT) {
            fm_json_uint(&writer, setting->number);
        } else if (list_key != NULL && strcmp(setting->key, list_key) == 0) {
            fm_json_array_begin(&writer);
            for (size_t k = 0; k < setting->string_count; k++) {
                fm_json_string(&writer, setting->strings[k]);
            }
            fm_json_array_end(&writer);
        } else {
            fm_json_string(&writer, setting->string_count > 0 ? setting->strings[0] : "");
        }
    }
    fm_json_object_end(&writer);
}

void fm_messages_write_trace(struct fm_text *text, enum fm_messages_form form,
                             const struct fm_messages_setting *settings, size_t count)
{
    if (form == FM_MESSAGES_JSON) {
        write_settings_json(text, settings, count, "trace_level");
        return;
    }
    typedef Inference__TraceSettingResponse__SettingValue Value;
    struct fm_messages_builder builder = {0};
    Inference__TraceSettingResponse message = INFERENCE__TRACE_SETTING_RESPONSE__INIT;
    message.settings = fm_messages_alloc_list(&builder, count, sizeof(**message.settings));
    message.n_settings = count;
    Value *values = fm_messages_alloc(&builder, count + 1, sizeof(*values));
    for (size_t i = 0; message.settings != NULL && values != NULL && i < count; i++) {
        inference__trace_setting_response__settings_entry__init(message.settings[i]);
        inference__trace_setting_response__setting_value__init(&values[i]);
        values[i].value = (char **)(uintptr_t)settings[i].strings;
        values[i].n_value = settings[i].string_count;
        message.settings[i]->key = fm_messages_string(settings[i].key);
        message.settings[i]->value = &values[i];
    }
    fm_messages_send(&builder, text, form, &message.base, &whole);
}

void fm_messages_write_log(struct fm_text *text, enum fm_messages_form form,
                           const struct fm_messages_setting *settings, size_t count)
{
    if (form == FM_MESSAGES_JSON) {
        write_settings_json(text, settings, count, NULL);
        return;
    }
    typedef Inference__LogSettingsResponse__SettingValue Value;
    struct fm_messages_builder builder = {0};
    Inference__LogSettingsResponse message = INFERENCE__LOG_SETTINGS_RESPONSE__INIT;
    message.settings = fm_messages_alloc_list(&builder, count, sizeof(**message.settings));
    message.n_settings = count;
    Value *values = fm_messages_alloc(&builder, count + 1, sizeof(*values));
    for (size_t i = 0; message.settings != NULL && values != NULL && i < count; i++) {
        const struct fm_messages_setting *setting = &settings[i];
        inference__log_settings_response__settings_entry__init(message.settings[i]);
        inference__log_settings_response__setting_value__init(&values[i]);
        if (setting->kind == FM_MESSAGES_BOOL) {
            values[i].parameter_choice_case =
                INFERENCE__LOG_SETTINGS_RESPONSE__SETTING_VALUE__PARAMETER_CHOICE_BOOL_PARAM;
            values[i].bool_param = setting->is_true;
        } else if (setting->kind == FM_MESSAGES_UINT) {
            values[i].parameter_choice_case =
                INFERENCE__LOG_SETTINGS_RESPONSE__SETTING_VALUE__PARAMETER_CHOICE_UINT32_PARAM;
            values[i].uint32_param = setting->number;
        } else {
            values[i].parameter_choice_case =
                INFERENCE__LOG_SETTINGS_RESPONSE__SETTING_VALUE__PARAMETER_CHOICE_STRING_PARAM;
            values[i].string_param =
                fm_messages_string(setting->string_count > 0 ? setting->strings[0] : NULL);
        }
        message.settings[i]->key = fm_messages_string(setting->key);
        message.settings[i]->value = &values[i];
    }
    fm_messages_send(&builder, text, form, &message.base, &whole);
}

void fm_messages_write_health(struct fm_text *text, enum fm_messages_health health)
{
    enum { HEALTH_STATUS = 1 };
    /* The default is not written, so an unknown state is no bytes. */
    fm_text_append(text, "", 0);
    if (health != FM_MESSAGES_HEALTH_UNKNOWN) {
        fm_protobuf_append_uint(text, HEALTH_STATUS, health);
    }
}
