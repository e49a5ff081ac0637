/*
 * A model's configuration as a message. See messages.h.
 */
#include "host/messages/inference.pb-c.h"
#include "host/messages/messages_internal.h"
#include "host/messages/model_config.pb-c.h"

typedef struct fm_messages_builder Builder;

/* Types beyond those that the protocol names have no number here. */
static Inference__DataType data_type(uint32_t dtype)
{
    return dtype <= FM_DTYPE_BF16 ? (Inference__DataType)dtype : INFERENCE__DATA_TYPE__TYPE_INVALID;
}

/* Shapes are stated without the batch dimension. */
static size_t dims_of(const struct fm_messages_config *config, const struct fm_port *port,
                      int64_t **ret_dims)
{
    size_t rank = port->rank > 0 ? (size_t)port->rank : 0;
    size_t first = config->signature->batch_max > 0 && rank > 0 ? 1 : 0;
    *ret_dims = (int64_t *)(uintptr_t)(port->shape + first);
    return rank - first;
}

static void ports_make(Builder *builder, const struct fm_messages_config *config,
                       Inference__ModelConfig *message)
{
    const struct fm_oip_signature *signature = config->signature;
    message->n_input = signature->input_count;
    message->input = fm_messages_alloc_list(builder, message->n_input, sizeof(**message->input));
    for (size_t i = 0; message->input != NULL && i < message->n_input; i++) {
        Inference__ModelInput *input = message->input[i];
        inference__model_input__init(input);
        input->name = fm_messages_string(signature->inputs[i].name);
        input->data_type = data_type(signature->inputs[i].dtype);
        input->n_dims = dims_of(config, &signature->inputs[i], &input->dims);
        input->optional = (signature->inputs[i].flags & FM_PORT_OPTIONAL) != 0;
    }
    message->n_output = signature->output_count;
    message->output = fm_messages_alloc_list(builder, message->n_output, sizeof(**message->output));
    for (size_t i = 0; message->output != NULL && i < message->n_output; i++) {
        Inference__ModelOutput *output = message->output[i];
        inference__model_output__init(output);
        output->name = fm_messages_string(signature->outputs[i].name);
        output->data_type = data_type(signature->outputs[i].dtype);
        output->n_dims = dims_of(config, &signature->outputs[i], &output->dims);
        output->label_filename =
            fm_messages_string(config->label_files != NULL ? config->label_files[i] : NULL);
    }
}

static void versions_make(Builder *builder, const struct fm_messages_config *config,
                          Inference__ModelConfig *message)
{
    if (config->versions == FM_MESSAGES_VERSIONS_UNSAID) {
        return;
    }
    Inference__ModelVersionPolicy *policy = fm_messages_alloc(builder, 1, sizeof(*policy));
    Inference__ModelVersionPolicy__Latest *latest = fm_messages_alloc(builder, 1, sizeof(*latest));
    Inference__ModelVersionPolicy__All *all = fm_messages_alloc(builder, 1, sizeof(*all));
    Inference__ModelVersionPolicy__Specific *specific =
        fm_messages_alloc(builder, 1, sizeof(*specific));
    if (builder->failed) {
        return;
    }
    inference__model_version_policy__init(policy);
    if (config->versions == FM_MESSAGES_VERSIONS_LATEST) {
        inference__model_version_policy__latest__init(latest);
        latest->num_versions = config->latest_count;
        policy->policy_choice_case = INFERENCE__MODEL_VERSION_POLICY__POLICY_CHOICE_LATEST;
        policy->latest = latest;
    } else if (config->versions == FM_MESSAGES_VERSIONS_ALL) {
        inference__model_version_policy__all__init(all);
        policy->policy_choice_case = INFERENCE__MODEL_VERSION_POLICY__POLICY_CHOICE_ALL;
        policy->all = all;
    } else {
        inference__model_version_policy__specific__init(specific);
        specific->versions = (int64_t *)(uintptr_t)config->specific;
        specific->n_versions = config->specific_count;
        policy->policy_choice_case = INFERENCE__MODEL_VERSION_POLICY__POLICY_CHOICE_SPECIFIC;
        policy->specific = specific;
    }
    message->version_policy = policy;
}

static void instances_make(Builder *builder, const struct fm_messages_config *config,
                           Inference__ModelConfig *message)
{
    message->n_instance_group = config->instance_count;
    message->instance_group =
        fm_messages_alloc_list(builder, config->instance_count, sizeof(**message->instance_group));
    for (size_t i = 0; message->instance_group != NULL && i < config->instance_count; i++) {
        const struct fm_messages_instances *instances = &config->instances[i];
        Inference__ModelInstanceGroup *group = message->instance_group[i];
        inference__model_instance_group__init(group);
        group->name = fm_messages_string(instances->name);
        group->kind = (Inference__ModelInstanceGroup__Kind)instances->device;
        group->count = (int32_t)instances->count;
        group->gpus = (int32_t *)(uintptr_t)instances->gpus;
        group->n_gpus = instances->gpu_count;
    }
}

static void batching_make(Builder *builder, const struct fm_messages_config *config,
                          Inference__ModelConfig *message)
{
    Inference__ModelDynamicBatching *batching = fm_messages_alloc(builder, 1, sizeof(*batching));
    Inference__ModelQueuePolicy *policy = fm_messages_alloc(builder, 1, sizeof(*policy));
    if (batching == NULL || policy == NULL) {
        return;
    }
    inference__model_dynamic_batching__init(batching);
    batching->preferred_batch_size = (int32_t *)(uintptr_t)config->preferred_batch_sizes;
    batching->n_preferred_batch_size = config->preferred_batch_size_count;
    batching->max_queue_delay_microseconds = config->max_queue_delay_ns / 1000;
    batching->priority_levels = config->priority_levels;
    batching->default_priority_level = config->default_priority;
    if (config->queue_max > 0) {
        inference__model_queue_policy__init(policy);
        policy->max_queue_size = config->queue_max;
        policy->allow_timeout_override = 1;
        batching->default_queue_policy = policy;
    }
    message->scheduling_choice_case = INFERENCE__MODEL_CONFIG__SCHEDULING_CHOICE_DYNAMIC_BATCHING;
    message->dynamic_batching = batching;
}

static void parameters_make(Builder *builder, const struct fm_messages_config *config,
                            Inference__ModelConfig *message)
{
    size_t count = config->parameter_count;
    message->n_parameters = count;
    message->parameters = fm_messages_alloc_list(builder, count, sizeof(**message->parameters));
    Inference__ModelParameter *values = fm_messages_alloc(builder, count + 1, sizeof(*values));
    for (size_t i = 0; message->parameters != NULL && values != NULL && i < count; i++) {
        inference__model_config__parameters_entry__init(message->parameters[i]);
        inference__model_parameter__init(&values[i]);
        values[i].string_value = fm_messages_string(config->parameters[i].value);
        message->parameters[i]->key = fm_messages_string(config->parameters[i].key);
        message->parameters[i]->value = &values[i];
    }
}

/* Zeros for every input. */
static void warmup_make(Builder *builder, const struct fm_messages_config *config,
                        Inference__ModelConfig *message)
{
    const struct fm_oip_signature *signature = config->signature;
    size_t count = signature->input_count;
    Inference__ModelWarmup **list = fm_messages_alloc_list(builder, 1, sizeof(**list));
    Inference__ModelWarmup__InputsEntry **entries =
        fm_messages_alloc_list(builder, count, sizeof(**entries));
    Inference__ModelWarmup__Input *inputs = fm_messages_alloc(builder, count + 1, sizeof(*inputs));
    if (builder->failed) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        inference__model_warmup__inputs_entry__init(entries[i]);
        inference__model_warmup__input__init(&inputs[i]);
        inputs[i].data_type = data_type(signature->inputs[i].dtype);
        inputs[i].n_dims = dims_of(config, &signature->inputs[i], &inputs[i].dims);
        inputs[i].input_data_type_case = INFERENCE__MODEL_WARMUP__INPUT__INPUT_DATA_TYPE_ZERO_DATA;
        inputs[i].zero_data = 1;
        entries[i]->key = fm_messages_string(signature->inputs[i].name);
        entries[i]->value = &inputs[i];
    }
    inference__model_warmup__init(list[0]);
    list[0]->name = fm_messages_string("zeros");
    list[0]->batch_size = config->warmup_batch;
    list[0]->count = config->warmup_count;
    list[0]->inputs = entries;
    list[0]->n_inputs = count;
    message->model_warmup = list;
    message->n_model_warmup = 1;
}

void fm_messages_write_config(struct fm_text *text, enum fm_messages_form form,
                              const struct fm_messages_config *config)
{
    static const struct fm_messages_shape shape = {.defaults = true};
    struct fm_messages_builder builder = {0};
    Inference__ModelConfig message = INFERENCE__MODEL_CONFIG__INIT;
    Inference__ModelTransactionPolicy transactions = INFERENCE__MODEL_TRANSACTION_POLICY__INIT;
    Inference__ModelResponseCache cache = INFERENCE__MODEL_RESPONSE_CACHE__INIT;
    message.name = fm_messages_string(config->signature->name);
    message.platform = fm_messages_string(config->platform);
    message.backend = fm_messages_string(config->backend);
    message.default_model_filename = fm_messages_string(config->file_name);
    message.max_batch_size = (int32_t)config->signature->batch_max;
    /* Every request has one answer. */
    message.model_transaction_policy = &transactions;
    cache.enable = 1;
    message.response_cache = config->response_cache ? &cache : NULL;
    ports_make(&builder, config, &message);
    versions_make(&builder, config, &message);
    instances_make(&builder, config, &message);
    parameters_make(&builder, config, &message);
    if (config->dynamic_batching) {
        batching_make(&builder, config, &message);
    }
    if (config->warmup_count > 0) {
        warmup_make(&builder, config, &message);
    }
    if (form == FM_MESSAGES_JSON) {
        fm_messages_send(&builder, text, form, &message.base, &shape);
        return;
    }
    Inference__ModelConfigResponse response = INFERENCE__MODEL_CONFIG_RESPONSE__INIT;
    response.config = &message;
    fm_messages_send(&builder, text, form, &response.base, &shape);
}
