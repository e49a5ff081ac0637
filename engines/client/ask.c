/*
 * State, documents, the repository, shared memory: calls that wait for a small answer. See
 * include/fermata/client.h.
 */
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "engines/client/client_internal.h"

#define NOT_FOUND 5 /* of gRPC */

enum answer {
    ANSWER_NOTHING,
    ANSWER_FLAG,
    ANSWER_TEXT,
};

/* How a topic is asked about over REST. %n stands for the name, %v for "/versions/VERSION" if there
 * is one, %r for "/region/NAME" likewise. */
static const struct topic {
    const char *method;
    const char *path;
    const char *what; /* in errors; the name follows */
    enum answer answer;
    bool named; /* a name is due */
} topics[FM_MESSAGES_TOPIC_COUNT_] = {
    [FM_MESSAGES_TOPIC_LIVE] = {"GET", "/v2/health/live", "asking whether the server lives",
                                ANSWER_FLAG, false},
    [FM_MESSAGES_TOPIC_READY] = {"GET", "/v2/health/ready", "asking whether the server is ready",
                                 ANSWER_FLAG, false},
    [FM_MESSAGES_TOPIC_MODEL_READY] = {"GET", "/v2/models/%n%v/ready",
                                       "asking for the readiness of model", ANSWER_FLAG, true},
    [FM_MESSAGES_TOPIC_SERVER] = {"GET", "/v2", "reading the server's metadata", ANSWER_TEXT,
                                  false},
    [FM_MESSAGES_TOPIC_MODEL] = {"GET", "/v2/models/%n%v", "reading the metadata of model",
                                 ANSWER_TEXT, true},
    [FM_MESSAGES_TOPIC_CONFIG] = {"GET", "/v2/models/%n%v/config",
                                  "reading the configuration of model", ANSWER_TEXT, true},
    [FM_MESSAGES_TOPIC_STATISTICS] = {"GET", "/v2/models/%n%v/stats",
                                      "reading the statistics of model", ANSWER_TEXT, false},
    [FM_MESSAGES_TOPIC_INDEX] = {"POST", "/v2/repository/index", "reading the repository's index",
                                 ANSWER_TEXT, false},
    [FM_MESSAGES_TOPIC_LOAD] = {"POST", "/v2/repository/models/%n/load", "loading model",
                                ANSWER_NOTHING, true},
    [FM_MESSAGES_TOPIC_UNLOAD] = {"POST", "/v2/repository/models/%n/unload", "unloading model",
                                  ANSWER_NOTHING, true},
    [FM_MESSAGES_TOPIC_REGION_STATUS] = {"GET", "/v2/systemsharedmemory%r/status",
                                         "reading the state of shared memory", ANSWER_TEXT, false},
    [FM_MESSAGES_TOPIC_REGION_REGISTER] = {"POST", "/v2/systemsharedmemory%r/register",
                                           "registering shared memory", ANSWER_NOTHING, true},
    [FM_MESSAGES_TOPIC_REGION_UNREGISTER] = {"POST", "/v2/systemsharedmemory%r/unregister",
                                             "unregistering shared memory", ANSWER_NOTHING, false},
};

/* What somebody waits for. */
struct ask {
    struct fm_client_waiter waiter;
    const struct fm_messages_question *question;
    int status;
    struct fm_error error;
    bool flag;
    struct fm_text text;
};

static bool is_given(const char *text)
{
    return text != NULL && text[0] != '\0';
}

/* --- Questions --- */

static void path_make(struct fm_text *text, const char *path,
                      const struct fm_messages_question *question)
{
    for (const char *at = path; *at != '\0'; at++) {
        if (at[0] != '%') {
            fm_text_append_char(text, *at);
            continue;
        }
        at++;
        if (*at == 'n') {
            fm_client_path_append(text, question->name);
        } else if (*at == 'v' && is_given(question->version)) {
            fm_text_append_string(text, "/versions/");
            fm_client_path_append(text, question->version);
        } else if (*at == 'r' && is_given(question->name)) {
            fm_text_append_string(text, "/region/");
            fm_client_path_append(text, question->name);
        }
    }
}

static void request_make(struct fm_client_call *call, const struct fm_messages_question *question)
{
    const struct topic *topic = &topics[question->topic];
    if (call->client->endpoint.grpc) {
        fm_text_append_format(&call->target, "/inference.GRPCInferenceService/%s",
                              fm_messages_topic_method(question->topic));
        fm_messages_question_write(&call->body, FM_MESSAGES_PROTOBUF, question);
        return;
    }
    call->http.method = topic->method;
    if (question->topic == FM_MESSAGES_TOPIC_STATISTICS && !is_given(question->name)) {
        fm_text_append_string(&call->target, "/v2/models/stats");
    } else {
        path_make(&call->target, topic->path, question);
    }
    if (strcmp(topic->method, "POST") == 0) {
        fm_text_append_string(&call->fields, "Content-Type: application/json\r\n");
        fm_messages_question_write(&call->body, FM_MESSAGES_JSON, question);
    }
}

/* --- Answers --- */

/* Servers say that they are not ready with a status, with a flag, or with both. */
static int flag_take(struct fm_client_call *call, struct ask *ask)
{
    const char *name = ask->question->topic == FM_MESSAGES_TOPIC_LIVE ? "live" : "ready";
    ask->flag = false;
    /* Only with the protocol's own words: a path that nobody knows is something else. */
    struct fm_text words = {0};
    bool unknown = ask->question->topic == FM_MESSAGES_TOPIC_MODEL_READY &&
                   call->http_code == 404 &&
                   fm_oip_client_error_read(call->data, call->size, &words);
    fm_text_deinit(&words);
    if (unknown) {
        return 0;
    }
    if (call->client->endpoint.grpc) {
        int status = fm_messages_answer_read(ask->question->topic, call->data, call->size,
                                             &ask->text, &ask->error);
        return status == 0 && !ask->text.failed &&
                       fm_oip_client_flag_read(ask->text.data, ask->text.length, name, &ask->flag)
                   ? 0
                   : fm_client_call_fail(call, FM_ECORRUPT, "the answer makes no sense");
    }
    if (call->http_code == 200) {
        ask->flag = !fm_oip_client_flag_read(call->data, call->size, name, &ask->flag) || ask->flag;
        return 0;
    }
    bool said =
        call->size == 0 || fm_oip_client_flag_read(call->data, call->size, name, &ask->flag);
    return said && (call->http_code == 400 || call->http_code == 503)
               ? 0
               : fm_client_call_refused(call);
}

static int text_take(struct fm_client_call *call, struct ask *ask)
{
    struct fm_error problem = {0};
    int status = 0;
    if (!call->client->endpoint.grpc) {
        fm_text_append(&ask->text, call->data, call->size);
    } else {
        status = fm_messages_answer_read(ask->question->topic, call->data, call->size, &ask->text,
                                         &problem);
    }
    if (status != 0) {
        return fm_client_call_fail(call, status, problem.text);
    }
    return ask->text.failed ? fm_client_call_fail(call, FM_ENOMEM, "out of memory for the answer")
                            : 0;
}

static void ask_finish(struct fm_client_call *call)
{
    struct ask *ask = call->context;
    enum answer answer = topics[ask->question->topic].answer;
    int status = call->status;
    if (ask->question->topic == FM_MESSAGES_TOPIC_MODEL_READY && call->grpc.code == NOT_FOUND) {
        status = 0;
        ask->flag = false;
    } else if (status == 0 && answer == ANSWER_FLAG) {
        status = flag_take(call, ask);
    } else if (status == 0 && !call->client->endpoint.grpc && call->http_code != 200) {
        status = fm_client_call_refused(call);
    } else if (status == 0 && answer == ANSWER_TEXT) {
        status = text_take(call, ask);
    }
    ask->status = status;
    ask->error = call->error;
    fm_client_waiter_wake(&ask->waiter);
}

/* Takes the answer apart from nothing: `ask` is zeroed but for its question. On success its text is
 * the caller's. */
static int ask_wait(struct fm_client *client, struct ask *ask, struct fm_error *reterr)
{
    const struct fm_messages_question *question = ask->question;
    const struct topic *topic = &topics[question->topic];
    int status = fm_client_may_wait(client, reterr);
    if (status == 0 && topic->named && !is_given(question->name)) {
        status = fm_error_set(reterr, FM_EINVAL, "%s: a name is due",
                              fm_messages_topic_method(question->topic));
    }
    struct fm_client_call *call = status == 0 ? fm_client_call_make(client) : NULL;
    if (call == NULL) {
        return status != 0 ? status
                           : fm_error_set(reterr, FM_ENOMEM, "out of memory for the request");
    }
    bool named = is_given(question->name);
    (void)snprintf(call->what, sizeof(call->what), "%s%s%.100s%s", topic->what, named ? " '" : "",
                   named ? question->name : "", named ? "'" : "");
    call->finish = ask_finish;
    call->context = ask;
    call->http.deadline_ns = fm_client_deadline(client, 0);
    call->grpc.deadline_ns = call->http.deadline_ns;
    request_make(call, question);
    call->part = (struct fm_oip_part){call->body.data, call->body.length};
    status = call->body.failed ? FM_ENOMEM
                               : fm_client_call_pack(call, &call->part, call->part.size > 0 ? 1 : 0,
                                                     call->part.size);
    if (status != 0) {
        fm_client_call_free(call);
        return fm_error_set(reterr, status, "out of memory for the request");
    }
    fm_client_waiter_init(&ask->waiter);
    status = fm_client_call_start(call, NULL, reterr);
    if (status != 0) {
        fm_client_call_free(call);
        fm_client_waiter_wake(&ask->waiter);
        fm_client_waiter_wait(&ask->waiter);
        return status;
    }
    fm_client_waiter_wait(&ask->waiter);
    if (ask->status != 0) {
        fm_text_deinit(&ask->text);
        return fm_error_set(reterr, ask->status, "%s", ask->error.text);
    }
    return 0;
}

static int ask_flag(struct fm_client *client, const struct fm_messages_question *question,
                    bool *ret_flag, struct fm_error *reterr)
{
    struct ask ask = {.question = question};
    int status = ask_wait(client, &ask, reterr);
    if (status == 0) {
        *ret_flag = ask.flag;
        fm_text_deinit(&ask.text);
    }
    return status;
}

static int ask_text(struct fm_client *client, const struct fm_messages_question *question,
                    char **ret_json, struct fm_error *reterr)
{
    struct ask ask = {.question = question};
    int status = ask_wait(client, &ask, reterr);
    if (status != 0) {
        return status;
    }
    char *text = fm_text_take(&ask.text);
    if (text == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the answer");
    }
    *ret_json = text;
    return 0;
}

static int ask_nothing(struct fm_client *client, const struct fm_messages_question *question,
                       struct fm_error *reterr)
{
    struct ask ask = {.question = question};
    int status = ask_wait(client, &ask, reterr);
    fm_text_deinit(&ask.text);
    return status;
}

/* --- The header's --- */

int fm_client_is_live(struct fm_client *client, bool *ret_live, struct fm_error *reterr)
{
    const struct fm_messages_question question = {.topic = FM_MESSAGES_TOPIC_LIVE};
    return ask_flag(client, &question, ret_live, reterr);
}

int fm_client_is_ready(struct fm_client *client, bool *ret_ready, struct fm_error *reterr)
{
    const struct fm_messages_question question = {.topic = FM_MESSAGES_TOPIC_READY};
    return ask_flag(client, &question, ret_ready, reterr);
}

int fm_client_model_is_ready(struct fm_client *client, const char *model, const char *version,
                             bool *ret_ready, struct fm_error *reterr)
{
    const struct fm_messages_question question = {
        .topic = FM_MESSAGES_TOPIC_MODEL_READY, .name = model, .version = version};
    return ask_flag(client, &question, ret_ready, reterr);
}

int fm_client_server_metadata(struct fm_client *client, char **ret_json, struct fm_error *reterr)
{
    const struct fm_messages_question question = {.topic = FM_MESSAGES_TOPIC_SERVER};
    return ask_text(client, &question, ret_json, reterr);
}

int fm_client_model_metadata(struct fm_client *client, const char *model, const char *version,
                             char **ret_json, struct fm_error *reterr)
{
    const struct fm_messages_question question = {
        .topic = FM_MESSAGES_TOPIC_MODEL, .name = model, .version = version};
    return ask_text(client, &question, ret_json, reterr);
}

int fm_client_model_config(struct fm_client *client, const char *model, const char *version,
                           char **ret_json, struct fm_error *reterr)
{
    const struct fm_messages_question question = {
        .topic = FM_MESSAGES_TOPIC_CONFIG, .name = model, .version = version};
    return ask_text(client, &question, ret_json, reterr);
}

int fm_client_statistics(struct fm_client *client, const char *model, const char *version,
                         char **ret_json, struct fm_error *reterr)
{
    const struct fm_messages_question question = {
        .topic = FM_MESSAGES_TOPIC_STATISTICS, .name = model, .version = version};
    return ask_text(client, &question, ret_json, reterr);
}

int fm_client_repository_index(struct fm_client *client, bool ready_only, char **ret_json,
                               struct fm_error *reterr)
{
    const struct fm_messages_question question = {.topic = FM_MESSAGES_TOPIC_INDEX,
                                                  .flag = ready_only};
    return ask_text(client, &question, ret_json, reterr);
}

int fm_client_model_load(struct fm_client *client, const char *model, const char *config_json,
                         struct fm_error *reterr)
{
    const struct fm_messages_question question = {
        .topic = FM_MESSAGES_TOPIC_LOAD, .name = model, .config = config_json};
    return ask_nothing(client, &question, reterr);
}

int fm_client_model_unload(struct fm_client *client, const char *model, bool unload_dependents,
                           struct fm_error *reterr)
{
    const struct fm_messages_question question = {
        .topic = FM_MESSAGES_TOPIC_UNLOAD, .name = model, .flag = unload_dependents};
    return ask_nothing(client, &question, reterr);
}

int fm_client_region_register(struct fm_client *client, const char *name, const char *key,
                              uint64_t offset, uint64_t size, struct fm_error *reterr)
{
    const struct fm_messages_question question = {.topic = FM_MESSAGES_TOPIC_REGION_REGISTER,
                                                  .name = name,
                                                  .key = key,
                                                  .offset = offset,
                                                  .size = size};
    return ask_nothing(client, &question, reterr);
}

int fm_client_region_unregister(struct fm_client *client, const char *name, struct fm_error *reterr)
{
    const struct fm_messages_question question = {.topic = FM_MESSAGES_TOPIC_REGION_UNREGISTER,
                                                  .name = name};
    return ask_nothing(client, &question, reterr);
}

int fm_client_region_status(struct fm_client *client, const char *name, char **ret_json,
                            struct fm_error *reterr)
{
    const struct fm_messages_question question = {.topic = FM_MESSAGES_TOPIC_REGION_STATUS,
                                                  .name = name};
    return ask_text(client, &question, ret_json, reterr);
}

/* --- Models --- */

struct model {
    struct fm_client_model model; /* what the caller sees */
    struct fm_arena arena;
};

int fm_client_model_get(struct fm_client *client, const char *model, const char *version,
                        struct fm_client_model **ret_model, struct fm_error *reterr)
{
    char *json = NULL;
    int status = fm_client_model_metadata(client, model, version, &json, reterr);
    if (status != 0) {
        return status;
    }
    struct model *made = fm_alloc_zero(1, sizeof(*made));
    status = made != NULL
                 ? fm_oip_client_model_read(json, strlen(json), &made->arena, &made->model, reterr)
                 : fm_error_set(reterr, FM_ENOMEM, "out of memory for the model");
    fm_free(json);
    if (status != 0) {
        fm_client_model_free(made != NULL ? &made->model : NULL);
        return fm_error_prefix(reterr, status, "reading the metadata of model '%.100s' at %s",
                               model, client->endpoint.url);
    }
    *ret_model = &made->model;
    return 0;
}

void fm_client_model_free(struct fm_client_model *model)
{
    if (model != NULL) {
        /* It is the first member. */
        struct model *made = (struct model *)model;
        fm_arena_deinit(&made->arena);
        fm_free(made);
    }
}
