/*
 * The control plane from the client's side. See questions.h.
 */
#include "host/messages/questions.h"

#include <string.h>

#include "core/proto/json.h"
#include "core/proto/protobuf.h"
#include "core/util/error.h"
#include "host/messages/inference.pb-c.h"
#include "host/messages/messages_internal.h"
#include "host/messages/print.h"

/* How an answer is printed: the message, or one field of it. */
enum form { WHOLE, FIELD_LIST, FIELD_MAP_VALUES, FIELD_MESSAGE };

static const struct topic {
    const char *method;
    const ProtobufCMessageDescriptor *answer;
    enum form form;
    bool defaults;
} topics[FM_MESSAGES_TOPIC_COUNT_] = {
    [FM_MESSAGES_TOPIC_LIVE] = {"ServerLive", &inference__server_live_response__descriptor, WHOLE,
                                true},
    [FM_MESSAGES_TOPIC_READY] = {"ServerReady", &inference__server_ready_response__descriptor,
                                 WHOLE, true},
    [FM_MESSAGES_TOPIC_MODEL_READY] = {"ModelReady", &inference__model_ready_response__descriptor,
                                       WHOLE, true},
    [FM_MESSAGES_TOPIC_SERVER] = {"ServerMetadata",
                                  &inference__server_metadata_response__descriptor, WHOLE, true},
    [FM_MESSAGES_TOPIC_MODEL] = {"ModelMetadata", &inference__model_metadata_response__descriptor,
                                 WHOLE, true},
    [FM_MESSAGES_TOPIC_CONFIG] = {"ModelConfig", &inference__model_config_response__descriptor,
                                  FIELD_MESSAGE, true},
    [FM_MESSAGES_TOPIC_STATISTICS] = {"ModelStatistics",
                                      &inference__model_statistics_response__descriptor, WHOLE,
                                      true},
    [FM_MESSAGES_TOPIC_INDEX] = {"RepositoryIndex",
                                 &inference__repository_index_response__descriptor, FIELD_LIST,
                                 false},
    [FM_MESSAGES_TOPIC_LOAD] = {"RepositoryModelLoad",
                                &inference__repository_model_load_response__descriptor, WHOLE,
                                false},
    [FM_MESSAGES_TOPIC_UNLOAD] = {"RepositoryModelUnload",
                                  &inference__repository_model_unload_response__descriptor, WHOLE,
                                  false},
    [FM_MESSAGES_TOPIC_REGION_STATUS] =
        {"SystemSharedMemoryStatus", &inference__system_shared_memory_status_response__descriptor,
         FIELD_MAP_VALUES, true},
    [FM_MESSAGES_TOPIC_REGION_REGISTER] =
        {"SystemSharedMemoryRegister",
         &inference__system_shared_memory_register_response__descriptor, WHOLE, false},
    [FM_MESSAGES_TOPIC_REGION_UNREGISTER] =
        {"SystemSharedMemoryUnregister",
         &inference__system_shared_memory_unregister_response__descriptor, WHOLE, false},
};

const char *fm_messages_topic_method(enum fm_messages_topic topic)
{
    return topics[topic].method;
}

/* --- Requests --- */

static void string_append(struct fm_text *text, uint32_t number, const char *string)
{
    if (string != NULL && string[0] != '\0') {
        fm_protobuf_append_string(text, number, string);
    }
}

static void uint_append(struct fm_text *text, uint32_t number, uint64_t value)
{
    if (value != 0) {
        fm_protobuf_append_uint(text, number, value);
    }
}

/* An entry of the parameters of a load or an unload: `value` is a ModelRepositoryParameter. */
static void parameter_append(struct fm_text *text, const char *key, struct fm_text *value)
{
    struct fm_text entry = {0};
    fm_protobuf_append_string(&entry, 1, key);
    fm_protobuf_append_bytes(&entry, 2, value->data, value->length);
    fm_protobuf_append_bytes(text, 3, entry.data, entry.length);
    text->failed = text->failed || value->failed || entry.failed;
    fm_text_deinit(&entry);
    fm_text_deinit(value);
}

static void protobuf_write(struct fm_text *text, const struct fm_messages_question *question)
{
    struct fm_text value = {0};
    switch (question->topic) {
    case FM_MESSAGES_TOPIC_MODEL_READY:
    case FM_MESSAGES_TOPIC_MODEL:
    case FM_MESSAGES_TOPIC_CONFIG:
    case FM_MESSAGES_TOPIC_STATISTICS:
        string_append(text, 1, question->name);
        string_append(text, 2, question->version);
        break;
    case FM_MESSAGES_TOPIC_INDEX:
        uint_append(text, 2, question->flag);
        break;
    case FM_MESSAGES_TOPIC_LOAD:
        string_append(text, 2, question->name);
        if (question->config != NULL) {
            fm_protobuf_append_string(&value, 3, question->config);
            parameter_append(text, "config", &value);
        }
        break;
    case FM_MESSAGES_TOPIC_UNLOAD:
        string_append(text, 2, question->name);
        if (question->flag) {
            fm_protobuf_append_uint(&value, 1, 1);
            parameter_append(text, "unload_dependents", &value);
        }
        break;
    case FM_MESSAGES_TOPIC_REGION_STATUS:
    case FM_MESSAGES_TOPIC_REGION_UNREGISTER:
        string_append(text, 1, question->name);
        break;
    case FM_MESSAGES_TOPIC_REGION_REGISTER:
        string_append(text, 1, question->name);
        string_append(text, 2, question->key);
        uint_append(text, 3, question->offset);
        uint_append(text, 4, question->size);
        break;
    case FM_MESSAGES_TOPIC_LIVE:
    case FM_MESSAGES_TOPIC_READY:
    case FM_MESSAGES_TOPIC_SERVER:
    case FM_MESSAGES_TOPIC_COUNT_:
        break;
    }
}

static void json_write(struct fm_text *text, const struct fm_messages_question *question)
{
    struct fm_json_writer writer;
    bool load = question->topic == FM_MESSAGES_TOPIC_LOAD && question->config != NULL;
    bool unload = question->topic == FM_MESSAGES_TOPIC_UNLOAD && question->flag;
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    if (question->topic == FM_MESSAGES_TOPIC_INDEX) {
        fm_json_key(&writer, "ready");
        fm_json_bool(&writer, question->flag);
    } else if (question->topic == FM_MESSAGES_TOPIC_REGION_REGISTER) {
        fm_json_member_string(&writer, "key", question->key != NULL ? question->key : "");
        fm_json_member_uint(&writer, "offset", question->offset);
        fm_json_member_uint(&writer, "byte_size", question->size);
    } else if (load || unload) {
        fm_json_key(&writer, "parameters");
        fm_json_object_begin(&writer);
        if (load) {
            fm_json_member_string(&writer, "config", question->config);
        } else {
            fm_json_key(&writer, "unload_dependents");
            fm_json_bool(&writer, true);
        }
        fm_json_object_end(&writer);
    }
    fm_json_object_end(&writer);
}

void fm_messages_question_write(struct fm_text *text, enum fm_messages_form form,
                                const struct fm_messages_question *question)
{
    if (form == FM_MESSAGES_PROTOBUF) {
        protobuf_write(text, question);
    } else {
        json_write(text, question);
    }
}

/* --- Answers --- */

/* REST has the values of the map as an array; each names itself. */
static void map_values_print(struct fm_json_writer *writer, const ProtobufCMessage *message)
{
    const Inference__SystemSharedMemoryStatusResponse *answer =
        (const Inference__SystemSharedMemoryStatusResponse *)message;
    fm_json_array_begin(writer);
    for (size_t i = 0; i < answer->n_regions; i++) {
        if (answer->regions[i]->value != NULL) {
            fm_messages_print(writer, &answer->regions[i]->value->base, true);
        }
    }
    fm_json_array_end(writer);
}

int fm_messages_answer_read(enum fm_messages_topic topic, const void *data, size_t size,
                            struct fm_text *text, struct fm_error *reterr)
{
    const struct topic *of = &topics[topic];
    struct fm_arena arena = {0};
    struct fm_json_writer writer;
    ProtobufCMessage *message = NULL;
    int status = fm_messages_unpack(&arena, of->answer, data, size, &message, reterr);
    if (status == 0) {
        fm_json_writer_init(&writer, text);
        if (of->form == FIELD_LIST) {
            fm_messages_print_list(&writer, message, "models", of->defaults);
        } else if (of->form == FIELD_MAP_VALUES) {
            map_values_print(&writer, message);
        } else if (of->form == FIELD_MESSAGE) {
            const Inference__ModelConfigResponse *answer =
                (const Inference__ModelConfigResponse *)message;
            if (answer->config != NULL) {
                fm_messages_print(&writer, &answer->config->base, of->defaults);
            } else {
                status = fm_error_set(reterr, FM_EINVAL, "the answer has no configuration");
            }
        } else {
            fm_messages_print(&writer, message, of->defaults);
        }
    }
    fm_arena_deinit(&arena);
    return status != FM_EINVAL
               ? status
               : fm_error_set(reterr, FM_ECORRUPT, "the answer is no well-formed answer to %s",
                              of->method);
}
