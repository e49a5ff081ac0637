/*
 * What a program asks of the server inside it: documents, readiness, loading and unloading. See
 * embedded.h.
 *
 * A question is answered on one of the server's loops, where the catalog's view and writers of
 * documents are; whoever asks waits, unless that loop is the one it runs on. Metrics and state come
 * from the observer, which is asked at once.
 */
#include <stdlib.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/embedded.h"

/* On the stack of whoever asks. */
struct question {
    struct fm_loop_task task;
    struct fm_server *server;
    struct fm_serve_loop *loop;
    enum { ASK_READY, ASK_MODEL_READY, ASK_DOCUMENT, ASK_OPERATION } kind;
    enum fm_server_document document;
    enum fm_catalog_operation_kind operation;
    const char *model; /* never NULL */
    uint64_t version;
    const char *parameters; /* never NULL */
    bool waits;             /* whoever asks, who need not have the answer at once */

    struct fm_text text;
    bool yes;
    struct fm_error error;
    struct fm_mutex lock;
    struct fm_condition changed;
    bool answered; /* behind the lock */
};

static void answered(struct question *question)
{
    fm_mutex_lock(&question->lock);
    question->answered = true;
    fm_condition_signal(&question->changed);
    fm_mutex_unlock(&question->lock);
}

/* --- on the loop -------------------------------------------------------------------------------
 */

static void operation_done(struct fm_serve_operation *operation, const struct fm_error *error)
{
    struct question *question = operation->client;
    if (error != NULL) {
        question->error = *error;
    } else if (operation->catalog.kind == FM_CATALOG_INDEX) {
        fm_serve_write_index(operation->loop, &question->text, FM_MESSAGES_JSON, false);
    }
    answered(question);
}

/* True: it will be answered by operation_done. */
static bool operation_begin(struct question *question, enum fm_catalog_operation_kind kind)
{
    struct fm_serve_operation *operation = NULL;
    if (fm_serve_is_draining(question->loop->serve)) {
        (void)fm_embedded_stopped(&question->error);
        return false;
    }
    bool index = kind == FM_CATALOG_INDEX;
    return fm_serve_operation_begin(question->loop, kind, FM_MESSAGES_JSON,
                                    index ? NULL : question->model, question->parameters,
                                    strlen(question->parameters), operation_done, question,
                                    &operation, &question->error) == 0;
}

static void model_document_write(struct question *question)
{
    struct fm_serve_loop *loop = question->loop;
    struct fm_catalog_entry *entry = NULL;
    if (fm_catalog_view_find(loop->reader.view, question->model, question->version, &entry,
                             &question->error) != 0) {
        return;
    }
    if (question->document == FM_SERVER_MODEL_CONFIG) {
        fm_serve_write_config(&question->text, FM_MESSAGES_JSON, entry);
    } else {
        fm_serve_write_metadata(loop, &question->text, FM_MESSAGES_JSON, entry,
                                question->version == 0);
    }
}

/* True: it will be answered later. */
static bool document_write(struct question *question)
{
    struct fm_serve_loop *loop = question->loop;
    struct fm_text *text = &question->text;
    struct fm_error *error = &question->error;
    switch (question->document) {
    case FM_SERVER_METADATA:
        fm_serve_write_server(loop, text, FM_MESSAGES_JSON);
        break;
    case FM_SERVER_MODEL_METADATA:
    case FM_SERVER_MODEL_CONFIG:
        model_document_write(question);
        break;
    case FM_SERVER_MODEL_STATISTICS:
        (void)!fm_serve_write_statistics(loop, text, FM_MESSAGES_JSON, question->model,
                                         question->version, error);
        break;
    case FM_SERVER_INDEX:
        if (loop->serve->options->control == FM_SERVE_CONTROL_EXPLICIT && question->waits) {
            return operation_begin(question, FM_CATALOG_INDEX);
        }
        fm_serve_write_index(loop, text, FM_MESSAGES_JSON, false);
        break;
    case FM_SERVER_METRICS:
    case FM_SERVER_STATE:
        (void)!fm_serve_observe_write(loop->serve, question->document == FM_SERVER_STATE, text,
                                      error);
        break;
    default:
        (void)fm_error_set(error, FM_EINVAL, "there is no document %d", (int)question->document);
    }
    return false;
}

/* True: it will be answered later. */
static bool question_work(struct question *question)
{
    struct fm_serve_loop *loop = question->loop;
    struct fm_catalog_entry *entry = NULL;
    switch (question->kind) {
    case ASK_READY:
        question->yes = fm_serve_is_ready(loop);
        return false;
    case ASK_MODEL_READY:
        question->yes = fm_catalog_view_find(loop->reader.view, question->model, question->version,
                                             &entry, &question->error) == 0 &&
                        !fm_serve_is_draining(loop->serve);
        return false;
    case ASK_DOCUMENT:
        return document_write(question);
    case ASK_OPERATION:
        return operation_begin(question, question->operation);
    }
    return false;
}

static void question_run(struct fm_loop_task *task)
{
    struct question *question = FM_CONTAINER_OF(task, struct question, task);
    if (!question_work(question)) {
        answered(question);
    }
}

/* --- whoever asks ------------------------------------------------------------------------------
 */

/* False: the server is stopped. Else the question's outcome is what it is. */
static bool question_ask(struct fm_server *server, struct question *question)
{
    question->model = question->model != NULL ? question->model : "";
    question->parameters = question->parameters != NULL ? question->parameters : "";
    struct fm_serve_loop *loop = fm_embedded_enter(server);
    if (loop == NULL) {
        (void)fm_embedded_stopped(&question->error);
        return false;
    }
    struct fm_serve_loop *here = fm_embedded_here(server);
    question->loop = here != NULL ? here : loop;
    bool observed = question->kind == ASK_DOCUMENT && (question->document == FM_SERVER_METRICS ||
                                                       question->document == FM_SERVER_STATE);
    if (here != NULL || observed) {
        if (question->kind == ASK_OPERATION) {
            (void)fm_error_set(&question->error, FM_EINVAL,
                               "a callback of the server cannot wait for a model: it would wait "
                               "for itself");
        } else {
            (void)question_work(question);
        }
        fm_embedded_leave(server, loop);
        return true;
    }
    fm_mutex_init(&question->lock);
    fm_condition_init(&question->changed);
    question->waits = true;
    question->task.run = question_run;
    fm_loop_post(loop->loop, &question->task);
    fm_embedded_leave(server, loop);
    fm_mutex_lock(&question->lock);
    while (!question->answered) {
        fm_condition_wait(&question->changed, &question->lock);
    }
    fm_mutex_unlock(&question->lock);
    fm_condition_deinit(&question->changed);
    fm_mutex_deinit(&question->lock);
    return true;
}

static int outcome(const struct question *question, struct fm_error *reterr)
{
    if (question->error.status != 0 && reterr != NULL) {
        *reterr = question->error;
    }
    return question->error.status;
}

bool fm_server_is_ready(struct fm_server *server)
{
    struct question question = {.kind = ASK_READY};
    return question_ask(server, &question) && question.yes;
}

bool fm_server_model_is_ready(struct fm_server *server, const char *model, uint64_t version)
{
    struct question question = {.kind = ASK_MODEL_READY, .model = model, .version = version};
    return question_ask(server, &question) && question.yes;
}

int fm_server_read(struct fm_server *server, enum fm_server_document document, const char *model,
                   uint64_t version, char **ret_text, struct fm_error *reterr)
{
    struct question question = {
        .kind = ASK_DOCUMENT, .document = document, .model = model, .version = version};
    (void)question_ask(server, &question);
    struct fm_text *text = &question.text;
    if (question.error.status == 0 && (text->failed || text->data == NULL)) {
        (void)fm_error_set(&question.error, FM_ENOMEM, "out of memory for the document");
    }
    if (question.error.status == 0) {
        *ret_text = fm_strndup(text->data, text->length);
        if (*ret_text == NULL) {
            (void)fm_error_set(&question.error, FM_ENOMEM, "out of memory for the document");
        }
    }
    fm_text_deinit(text);
    return outcome(&question, reterr);
}

void fm_server_text_free(char *text)
{
    fm_free(text);
}

int fm_server_model_load(struct fm_server *server, const char *model, const char *parameters,
                         struct fm_error *reterr)
{
    struct question question = {.kind = ASK_OPERATION,
                                .operation = FM_CATALOG_LOAD,
                                .model = model,
                                .parameters = parameters};
    (void)question_ask(server, &question);
    return outcome(&question, reterr);
}

int fm_server_model_unload(struct fm_server *server, const char *model, const char *parameters,
                           struct fm_error *reterr)
{
    struct question question = {.kind = ASK_OPERATION,
                                .operation = FM_CATALOG_UNLOAD,
                                .model = model,
                                .parameters = parameters};
    (void)question_ask(server, &question);
    return outcome(&question, reterr);
}
