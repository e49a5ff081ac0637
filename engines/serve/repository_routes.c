/*
 * Repository control over HTTP: index, load, unload. See serve_internal.h.
 *
 * An operation of the catalog takes as long as loading a model does; the request waits for it
 * without holding up the loop. A client that leaves meanwhile changes nothing about the operation.
 */
#include <string.h>

#include "core/proto/oip_repository.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/serve_internal.h"
#include "host/messages/messages.h"

struct control {
    struct fm_catalog_operation operation;
    struct fm_serve *serve;
    struct fm_http_request *http; /* NULL: its client left */
    char *name;
    struct fm_oip_repository_request request;
    struct fm_catalog_file *files;
};

static void control_free(struct control *control)
{
    struct fm_serve *serve = control->serve;
    fm_oip_repository_request_deinit(&control->request);
    fm_free(control->files);
    fm_free(control->name);
    fm_free(control);
    serve->in_flight--;
    fm_serve_stop_when_done(serve);
}

static void control_left(struct fm_http_request *http)
{
    struct control *control = http->user;
    control->http = NULL;
}

static void answer_error(struct fm_http_request *http, const struct fm_error *error)
{
    fm_serve_answer_error(http, fm_status_http(error->status), error->text);
}

static void control_done(struct fm_catalog_operation *operation)
{
    struct control *control = operation->context;
    struct fm_http_request *http = control->http;
    if (http != NULL) {
        http->cancelled = NULL;
    }
    if (http != NULL && operation->error.status != 0) {
        answer_error(http, &operation->error);
    } else if (http != NULL && operation->kind == FM_CATALOG_INDEX) {
        fm_serve_answer_index(http, control->serve->reader.view, false);
    } else if (http != NULL) {
        const struct fm_http_answer answer = {.status = 200};
        fm_http_answer(http, &answer);
    }
    control_free(control);
}

static struct control *control_create(struct fm_serve *serve, struct fm_http_request *http,
                                      enum fm_catalog_operation_kind kind)
{
    struct control *control = fm_alloc_zero(1, sizeof(*control));
    if (control == NULL) {
        fm_serve_answer_error(http, 503, "out of memory for the request");
        return NULL;
    }
    control->serve = serve;
    control->http = http;
    control->operation = (struct fm_catalog_operation){
        .kind = kind, .reader = &serve->reader, .done = control_done, .context = control};
    serve->in_flight++;
    return control;
}

static void control_submit(struct control *control)
{
    control->http->user = control;
    control->http->cancelled = control_left;
    fm_catalog_submit(control->serve->catalog, &control->operation);
}

void fm_serve_control_index(struct fm_serve *serve, struct fm_http_request *http)
{
    bool ready_only = false;
    struct fm_error error = {0};
    if (fm_messages_read_index(FM_MESSAGES_JSON, http->body, http->body_size, &ready_only,
                               &error) != 0) {
        answer_error(http, &error);
        return;
    }
    if (ready_only || serve->options->control != FM_SERVE_CONTROL_EXPLICIT) {
        fm_serve_answer_index(http, serve->reader.view, ready_only);
        return;
    }
    struct control *control = control_create(serve, http, FM_CATALOG_INDEX);
    if (control != NULL) {
        control_submit(control);
    }
}

/* What the body says, into the operation. */
static int control_read(struct control *control, const char *name, struct fm_error *reterr)
{
    struct fm_oip_repository_request *request = &control->request;
    struct fm_catalog_operation *operation = &control->operation;
    int status = fm_oip_repository_request_decode(control->http->body, control->http->body_size,
                                                  request, reterr);
    if (status != 0) {
        return status;
    }
    control->name = fm_strdup(name);
    control->files = fm_alloc_zero((size_t)request->file_count + 1, sizeof(*control->files));
    if (control->name == NULL || control->files == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the request");
    }
    for (uint32_t i = 0; i < request->file_count; i++) {
        control->files[i] =
            (struct fm_catalog_file){request->files[i].path.data, request->files[i].content.data,
                                     request->files[i].content.length};
    }
    operation->name = control->name;
    operation->dependents = request->unload_dependents;
    if (operation->kind == FM_CATALOG_LOAD) {
        operation->config = request->has_config ? request->config.data : NULL;
        operation->config_size = request->config.length;
        operation->files = control->files;
        operation->file_count = request->file_count;
    }
    return 0;
}

void fm_serve_control_model(struct fm_serve *serve, struct fm_http_request *http, const char *name,
                            bool load)
{
    struct fm_error error = {0};
    struct control *control =
        control_create(serve, http, load ? FM_CATALOG_LOAD : FM_CATALOG_UNLOAD);
    if (control == NULL) {
        return;
    }
    if (control_read(control, name, &error) != 0) {
        answer_error(http, &error);
        control_free(control);
        return;
    }
    control_submit(control);
}
