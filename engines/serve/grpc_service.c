/*
 * gRPC: methods to actions. See serve_internal.h.
 *
 * The services: inference.GRPCInferenceService (with Triton's extensions), grpc.health.v1.Health,
 * and server reflection in both of its names. Everything that is no inference is answered at once,
 * or when the catalog has done what was asked.
 */
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/serve_internal.h"

/* Free ones that a loop keeps. */
#define CALLS_KEPT_MAX 1024u

/* A message that is freed when it has left. */
struct outgoing {
    struct fm_text text;
    struct fm_grpc_part part;
};

/* Writes the answer to a request. */
typedef int write_fn(struct fm_grpc_service_call *call, const void *data, size_t size,
                     struct fm_text *text, struct fm_error *reterr);
/* Takes a message and answers when it can. */
typedef void take_fn(struct fm_grpc_service_call *call, struct fm_buffer *buffer, const void *data,
                     size_t size);

struct method {
    const char *path;
    write_fn *write; /* unary, answered at once */
    take_fn *take;   /* the others */
    bool stream;     /* many messages */
    bool infer;
    enum fm_access_class class;
};

static bool is_stream(const struct fm_grpc_service_call *call);

/* --- answers -----------------------------------------------------------------------------------
 */

static void outgoing_free(void *context)
{
    struct outgoing *outgoing = context;
    fm_text_deinit(&outgoing->text);
    fm_free(outgoing);
}

/* Sends the text, which is taken. False: there was no memory, or the client is gone; the call is
 * finished, and may be freed. */
static bool text_send(struct fm_grpc_service_call *call, struct fm_text *take_text)
{
    struct outgoing *outgoing = take_text->failed ? NULL : fm_alloc_zero(1, sizeof *outgoing);
    if (outgoing == NULL) {
        struct fm_error error = {0};
        (void)fm_error_set(&error, FM_ENOMEM, "out of memory for the answer");
        fm_text_deinit(take_text);
        fm_serve_grpc_finish(call, &error);
        return false;
    }
    outgoing->text = *take_text;
    *take_text = (struct fm_text){0};
    outgoing->part = (struct fm_grpc_part){outgoing->text.data, outgoing->text.length};
    const struct fm_grpc_message message = {
        .parts = &outgoing->part, .part_count = 1, .release = outgoing_free, .context = outgoing};
    /* A send without memory ends the call, and on_cancelled hears of it before it returns. */
    call->held++;
    fm_grpc_send(call->grpc, &message);
    call->held--;
    if (call->grpc == NULL) {
        fm_serve_grpc_progress(call);
        return false;
    }
    return true;
}

static void answer_text(struct fm_grpc_service_call *call, struct fm_text *take_text)
{
    if (text_send(call, take_text)) {
        fm_serve_grpc_finish(call, NULL);
    }
}

static void watch_forget(struct fm_grpc_service_call *call)
{
    struct fm_grpc_service_call **place = &call->loop->watching;
    while (*place != NULL && *place != call) {
        place = &(*place)->watch_next;
    }
    if (*place == call) {
        *place = call->watch_next;
    }
    fm_free(call->watched);
    call->watched = NULL;
}

void fm_serve_grpc_finish(struct fm_grpc_service_call *call, const struct fm_error *error)
{
    struct fm_grpc_call *grpc = call->grpc;
    FM_ASSERT(grpc != NULL);
    call->grpc = NULL;
    grpc->user = NULL;
    fm_grpc_finish(grpc, error != NULL ? fm_status_grpc(error->status) : FM_GRPC_OK,
                   error == NULL            ? NULL
                   : error->text[0] != '\0' ? error->text
                                            : fm_status_text(error->status),
                   NULL, 0);
    if (call->watched != NULL) {
        watch_forget(call);
    }
    fm_serve_grpc_progress(call);
}

static void stream_add(struct fm_grpc_service_call *call)
{
    struct fm_serve_loop *loop = call->loop;
    call->stream_next = loop->streams;
    call->stream_place = &loop->streams;
    if (loop->streams != NULL) {
        loop->streams->stream_place = &call->stream_next;
    }
    loop->streams = call;
}

static void stream_remove(struct fm_grpc_service_call *call)
{
    if (call->stream_place == NULL) {
        return;
    }
    *call->stream_place = call->stream_next;
    if (call->stream_next != NULL) {
        call->stream_next->stream_place = call->stream_place;
    }
}

void fm_serve_grpc_streams_end(struct fm_serve_loop *loop)
{
    struct fm_grpc_service_call *next = NULL;
    for (struct fm_grpc_service_call *call = loop->streams; call != NULL; call = next) {
        next = call->stream_next;
        fm_serve_grpc_progress(call);
    }
}

/* NULL: no memory. */
static struct fm_grpc_service_call *call_create(struct fm_serve_loop *loop)
{
    struct fm_grpc_service_call *call = loop->calls;
    if (call == NULL) {
        return fm_alloc_zero(1, sizeof *call);
    }
    loop->calls = call->stream_next;
    loop->call_count--;
    *call = (struct fm_grpc_service_call){0};
    return call;
}

static void call_free(struct fm_grpc_service_call *call)
{
    struct fm_serve_loop *loop = call->loop;
    if (loop->call_count >= CALLS_KEPT_MAX) {
        fm_free(call);
        return;
    }
    call->stream_next = loop->calls;
    loop->calls = call;
    loop->call_count++;
}

void fm_serve_grpc_calls_release(struct fm_serve_loop *loop)
{
    while (loop->calls != NULL) {
        struct fm_grpc_service_call *next = loop->calls->stream_next;
        fm_free(loop->calls);
        loop->calls = next;
    }
    loop->call_count = 0;
}

void fm_serve_grpc_progress(struct fm_grpc_service_call *call)
{
    if (call->held > 0 || call->first != NULL) {
        return;
    }
    if (call->grpc != NULL) {
        bool ending = fm_serve_is_ending(call->loop->serve);
        if (!is_stream(call) || call->watched != NULL || !(call->half_closed || ending)) {
            return;
        }
        /* What was accepted is answered; a client that goes on is to go on elsewhere. */
        static const struct fm_error leaving = {.status = FM_EUNAVAILABLE,
                                                .text = "the server is shutting down"};
        fm_serve_grpc_finish(call, call->half_closed && !call->dropped ? NULL : &leaving);
        return;
    }
    if (call->operation != NULL) {
        call->operation->client = NULL;
    }
    struct fm_serve_loop *loop = call->loop;
    stream_remove(call);
    call_free(call);
    fm_serve_loop_in_flight_add(loop, -1);
    fm_serve_loop_progress(loop);
}

/* --- documents ---------------------------------------------------------------------------------
 */

static int write_live(struct fm_grpc_service_call *call, const void *data, size_t size,
                      struct fm_text *text, struct fm_error *reterr)
{
    (void)call;
    (void)data;
    (void)size;
    (void)reterr;
    fm_messages_write_live(text, FM_MESSAGES_PROTOBUF, true);
    return 0;
}

static int write_ready(struct fm_grpc_service_call *call, const void *data, size_t size,
                       struct fm_text *text, struct fm_error *reterr)
{
    (void)data;
    (void)size;
    (void)reterr;
    fm_messages_write_ready(text, FM_MESSAGES_PROTOBUF, fm_serve_is_ready(call->loop));
    return 0;
}

static int write_server(struct fm_grpc_service_call *call, const void *data, size_t size,
                        struct fm_text *text, struct fm_error *reterr)
{
    (void)data;
    (void)size;
    (void)reterr;
    fm_serve_write_server(call->loop, text, FM_MESSAGES_PROTOBUF);
    return 0;
}

/* The model that a request names. *ret_version is 0 where it names none. */
static int model_find(const struct fm_grpc_service_call *call, const struct fm_messages_name *name,
                      uint64_t *ret_version, struct fm_catalog_entry **ret_entry,
                      struct fm_error *reterr)
{
    int status = fm_oip_version_parse(name->version, strlen(name->version), ret_version, reterr);
    return status != 0 ? status
                       : fm_catalog_view_find(call->loop->reader.view, name->name, *ret_version,
                                              ret_entry, reterr);
}

static int write_model_ready(struct fm_grpc_service_call *call, const void *data, size_t size,
                             struct fm_text *text, struct fm_error *reterr)
{
    struct fm_messages_name name;
    struct fm_catalog_entry *entry = NULL;
    uint64_t version = 0;
    int status = fm_messages_read_name(data, size, &name, reterr);
    if (status != 0) {
        return status;
    }
    status = model_find(call, &name, &version, &entry, reterr);
    bool ready = status == 0 && !fm_serve_is_stopping(call->loop->serve);
    /* As Triton: what is not there is not ready, which is an answer; clients ask it after an
     * unload. */
    status = status == FM_EUNAVAILABLE || status == FM_ENOTFOUND ? 0 : status;
    if (status == 0) {
        fm_messages_write_model_ready(text, FM_MESSAGES_PROTOBUF, name.name, ready);
    }
    fm_messages_name_deinit(&name);
    return status;
}

static int write_metadata(struct fm_grpc_service_call *call, const void *data, size_t size,
                          struct fm_text *text, struct fm_error *reterr)
{
    struct fm_messages_name name;
    struct fm_catalog_entry *entry = NULL;
    uint64_t version = 0;
    int status = fm_messages_read_name(data, size, &name, reterr);
    if (status != 0) {
        return status;
    }
    status = model_find(call, &name, &version, &entry, reterr);
    if (status == 0) {
        fm_serve_write_metadata(call->loop, text, FM_MESSAGES_PROTOBUF, entry, version == 0);
    }
    fm_messages_name_deinit(&name);
    return status;
}

static int write_config(struct fm_grpc_service_call *call, const void *data, size_t size,
                        struct fm_text *text, struct fm_error *reterr)
{
    struct fm_messages_name name;
    struct fm_catalog_entry *entry = NULL;
    uint64_t version = 0;
    int status = fm_messages_read_name(data, size, &name, reterr);
    if (status != 0) {
        return status;
    }
    status = model_find(call, &name, &version, &entry, reterr);
    if (status == 0) {
        fm_serve_write_config(text, FM_MESSAGES_PROTOBUF, entry);
    }
    fm_messages_name_deinit(&name);
    return status;
}

static int write_statistics(struct fm_grpc_service_call *call, const void *data, size_t size,
                            struct fm_text *text, struct fm_error *reterr)
{
    struct fm_messages_name name;
    uint64_t version = 0;
    int status = fm_messages_read_name(data, size, &name, reterr);
    if (status != 0) {
        return status;
    }
    status = fm_oip_version_parse(name.version, strlen(name.version), &version, reterr);
    status = status != 0 ? status
                         : fm_serve_write_statistics(call->loop, text, FM_MESSAGES_PROTOBUF,
                                                     name.name, version, reterr);
    fm_messages_name_deinit(&name);
    return status;
}

static int write_trace(struct fm_grpc_service_call *call, const void *data, size_t size,
                       struct fm_text *text, struct fm_error *reterr)
{
    struct fm_messages_settings settings;
    (void)call;
    int status = fm_messages_read_trace(FM_MESSAGES_PROTOBUF, data, size, &settings, reterr);
    if (status == 0) {
        status = fm_serve_write_trace(text, FM_MESSAGES_PROTOBUF, &settings, reterr);
        fm_messages_settings_deinit(&settings);
    }
    return status;
}

static int write_log(struct fm_grpc_service_call *call, const void *data, size_t size,
                     struct fm_text *text, struct fm_error *reterr)
{
    struct fm_messages_settings settings;
    (void)call;
    int status = fm_messages_read_log(FM_MESSAGES_PROTOBUF, data, size, &settings, reterr);
    if (status == 0) {
        status = fm_serve_write_log(text, FM_MESSAGES_PROTOBUF, &settings, reterr);
        fm_messages_settings_deinit(&settings);
    }
    return status;
}

/* --- shared memory -----------------------------------------------------------------------------
 */

static int write_regions(struct fm_grpc_service_call *call, const void *data, size_t size,
                         struct fm_text *text, struct fm_error *reterr)
{
    struct fm_messages_name name;
    int status = fm_messages_read_name(data, size, &name, reterr);
    if (status == 0) {
        status = fm_serve_write_regions(call->loop, text, FM_MESSAGES_PROTOBUF, name.name, reterr);
        fm_messages_name_deinit(&name);
    }
    return status;
}

static int write_register(struct fm_grpc_service_call *call, const void *data, size_t size,
                          struct fm_text *text, struct fm_error *reterr)
{
    struct fm_messages_register request;
    (void)text;
    int status = fm_messages_read_register(FM_MESSAGES_PROTOBUF, data, size, &request, reterr);
    if (status == 0) {
        const struct fm_messages_region region = {.name = request.name,
                                                  .key = request.key,
                                                  .offset = request.offset,
                                                  .size = request.size};
        status = fm_shared_regions_register(&call->loop->serve->regions, &region, reterr);
        fm_messages_register_deinit(&request);
    }
    return status;
}

static int write_unregister(struct fm_grpc_service_call *call, const void *data, size_t size,
                            struct fm_text *text, struct fm_error *reterr)
{
    struct fm_messages_name name;
    (void)text;
    int status = fm_messages_read_name(data, size, &name, reterr);
    if (status == 0) {
        status = fm_shared_regions_unregister(&call->loop->serve->regions, name.name, reterr);
        fm_messages_name_deinit(&name);
    }
    return status;
}

static int write_cuda_regions(struct fm_grpc_service_call *call, const void *data, size_t size,
                              struct fm_text *text, struct fm_error *reterr)
{
    (void)call;
    (void)data;
    (void)size;
    (void)reterr;
    fm_messages_write_cuda_regions(text, FM_MESSAGES_PROTOBUF);
    return 0;
}

static int write_cuda_register(struct fm_grpc_service_call *call, const void *data, size_t size,
                               struct fm_text *text, struct fm_error *reterr)
{
    (void)call;
    (void)data;
    (void)size;
    (void)text;
    return fm_error_set(reterr, FM_EUNSUPPORTED, "this server has no CUDA shared memory");
}

/* There are none, so all of them are gone: clients ask for it when they end. */
static int write_nothing(struct fm_grpc_service_call *call, const void *data, size_t size,
                         struct fm_text *text, struct fm_error *reterr)
{
    (void)call;
    (void)data;
    (void)size;
    (void)text;
    (void)reterr;
    return 0;
}

/* --- the repository ----------------------------------------------------------------------------
 */

static void operation_done(struct fm_serve_operation *operation, const struct fm_error *error)
{
    struct fm_grpc_service_call *call = operation->client;
    if (call == NULL) {
        return;
    }
    call->operation = NULL;
    if (error != NULL) {
        fm_serve_grpc_finish(call, error);
        return;
    }
    struct fm_text text = {0};
    if (operation->catalog.kind == FM_CATALOG_INDEX) {
        fm_serve_write_index(call->loop, &text, FM_MESSAGES_PROTOBUF, false);
    }
    answer_text(call, &text);
}

static void operation_begin(struct fm_grpc_service_call *call, enum fm_catalog_operation_kind kind,
                            const void *data, size_t size)
{
    struct fm_error error = {0};
    if (fm_serve_operation_begin(call->loop, kind, FM_MESSAGES_PROTOBUF, NULL, data, size,
                                 operation_done, call, &call->operation, &error) != 0) {
        fm_serve_grpc_finish(call, &error);
    }
}

static void take_load(struct fm_grpc_service_call *call, struct fm_buffer *buffer, const void *data,
                      size_t size)
{
    (void)buffer;
    operation_begin(call, FM_CATALOG_LOAD, data, size);
}

static void take_unload(struct fm_grpc_service_call *call, struct fm_buffer *buffer,
                        const void *data, size_t size)
{
    (void)buffer;
    operation_begin(call, FM_CATALOG_UNLOAD, data, size);
}

static void take_index(struct fm_grpc_service_call *call, struct fm_buffer *buffer,
                       const void *data, size_t size)
{
    bool ready_only = false;
    struct fm_error error = {0};
    (void)buffer;
    if (fm_messages_read_index(FM_MESSAGES_PROTOBUF, data, size, &ready_only, &error) != 0) {
        fm_serve_grpc_finish(call, &error);
    } else if (ready_only || call->loop->serve->options->control != FM_SERVE_CONTROL_EXPLICIT) {
        struct fm_text text = {0};
        fm_serve_write_index(call->loop, &text, FM_MESSAGES_PROTOBUF, ready_only);
        answer_text(call, &text);
    } else {
        operation_begin(call, FM_CATALOG_INDEX, data, size);
    }
}

/* --- health ------------------------------------------------------------------------------------
 */

/* Of the server ("" or a service that it has), or of a model by its name. */
static enum fm_messages_health health_of(const struct fm_serve_loop *loop, const char *service)
{
    static const char *const services[] = {"", "inference.GRPCInferenceService",
                                           "grpc.health.v1.Health"};
    for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
        if (strcmp(service, services[i]) == 0) {
            return fm_serve_is_ready(loop) ? FM_MESSAGES_HEALTH_SERVING
                                           : FM_MESSAGES_HEALTH_NOT_SERVING;
        }
    }
    struct fm_catalog_entry *entry = NULL;
    int status = fm_catalog_view_find(loop->reader.view, service, 0, &entry, NULL);
    return status == FM_ENOTFOUND                              ? FM_MESSAGES_HEALTH_SERVICE_UNKNOWN
           : status == 0 && !fm_serve_is_stopping(loop->serve) ? FM_MESSAGES_HEALTH_SERVING
                                                               : FM_MESSAGES_HEALTH_NOT_SERVING;
}

static int write_health(struct fm_grpc_service_call *call, const void *data, size_t size,
                        struct fm_text *text, struct fm_error *reterr)
{
    struct fm_messages_name name;
    int status = fm_messages_read_name(data, size, &name, reterr);
    if (status != 0) {
        return status;
    }
    enum fm_messages_health health = health_of(call->loop, name.name);
    if (health == FM_MESSAGES_HEALTH_SERVICE_UNKNOWN) {
        status =
            fm_error_set(reterr, FM_ENOTFOUND, "there is no service or model '%.200s'", name.name);
    } else {
        fm_messages_write_health(text, health);
    }
    fm_messages_name_deinit(&name);
    return status;
}

/* False: as text_send. */
static bool watch_tell(struct fm_grpc_service_call *call)
{
    enum fm_messages_health health = health_of(call->loop, call->watched);
    if ((int)health == call->watched_status) {
        return true;
    }
    struct fm_text text = {0};
    call->watched_status = (int)health;
    fm_messages_write_health(&text, health);
    return text_send(call, &text);
}

static void take_watch(struct fm_grpc_service_call *call, struct fm_buffer *buffer,
                       const void *data, size_t size)
{
    struct fm_messages_name name;
    struct fm_error error = {0};
    (void)buffer;
    if (call->watched != NULL) {
        return; /* one request is all that the method has */
    }
    if (fm_messages_read_name(data, size, &name, &error) != 0) {
        fm_serve_grpc_finish(call, &error);
        return;
    }
    call->watched = fm_strdup(name.name);
    fm_messages_name_deinit(&name);
    if (call->watched == NULL) {
        (void)fm_error_set(&error, FM_ENOMEM, "out of memory for the request");
        fm_serve_grpc_finish(call, &error);
        return;
    }
    call->watched_status = -1;
    call->watch_next = call->loop->watching;
    call->loop->watching = call;
    (void)watch_tell(call);
}

void fm_serve_grpc_watch_round(struct fm_serve_loop *loop)
{
    bool draining = fm_serve_is_draining(loop->serve);
    struct fm_grpc_service_call *next = NULL;
    for (struct fm_grpc_service_call *call = loop->watching; call != NULL; call = next) {
        next = call->watch_next;
        if (watch_tell(call) && draining) {
            fm_serve_grpc_finish(call, NULL);
        }
    }
}

/* --- reflection --------------------------------------------------------------------------------
 */

static void take_reflection(struct fm_grpc_service_call *call, struct fm_buffer *buffer,
                            const void *data, size_t size)
{
    struct fm_text text = {0};
    struct fm_error error = {0};
    (void)buffer;
    if (fm_messages_reflect(&text, data, size, &error) != 0) {
        fm_text_deinit(&text);
        fm_serve_grpc_finish(call, &error);
    } else if (text_send(call, &text)) {
        fm_grpc_handled(call->grpc);
        fm_serve_grpc_progress(call);
    }
}

/* --- calls -------------------------------------------------------------------------------------
 */

#define INFERENCE "/inference.GRPCInferenceService/"

static const struct method methods[] = {
    {.path = INFERENCE "ModelInfer",
     .take = fm_serve_grpc_infer,
     .infer = true,
     .class = FM_ACCESS_INFER},
    {.path = INFERENCE "ModelStreamInfer",
     .take = fm_serve_grpc_stream,
     .stream = true,
     .infer = true,
     .class = FM_ACCESS_INFER},
    {.path = INFERENCE "ServerLive", .write = write_live, .class = FM_ACCESS_HEALTH},
    {.path = INFERENCE "ServerReady", .write = write_ready, .class = FM_ACCESS_HEALTH},
    {.path = INFERENCE "ServerMetadata", .write = write_server, .class = FM_ACCESS_READ},
    {.path = INFERENCE "ModelReady", .write = write_model_ready, .class = FM_ACCESS_HEALTH},
    {.path = INFERENCE "ModelMetadata", .write = write_metadata, .class = FM_ACCESS_READ},
    {.path = INFERENCE "ModelConfig", .write = write_config, .class = FM_ACCESS_READ},
    {.path = INFERENCE "ModelStatistics", .write = write_statistics, .class = FM_ACCESS_READ},
    {.path = INFERENCE "RepositoryIndex", .take = take_index, .class = FM_ACCESS_READ},
    {.path = INFERENCE "RepositoryModelLoad", .take = take_load, .class = FM_ACCESS_CONTROL},
    {.path = INFERENCE "RepositoryModelUnload", .take = take_unload, .class = FM_ACCESS_CONTROL},
    {.path = INFERENCE "SystemSharedMemoryStatus", .write = write_regions, .class = FM_ACCESS_READ},
    {.path = INFERENCE "SystemSharedMemoryRegister",
     .write = write_register,
     .class = FM_ACCESS_CONTROL},
    {.path = INFERENCE "SystemSharedMemoryUnregister",
     .write = write_unregister,
     .class = FM_ACCESS_CONTROL},
    {.path = INFERENCE "CudaSharedMemoryStatus",
     .write = write_cuda_regions,
     .class = FM_ACCESS_READ},
    {.path = INFERENCE "CudaSharedMemoryRegister",
     .write = write_cuda_register,
     .class = FM_ACCESS_CONTROL},
    {.path = INFERENCE "CudaSharedMemoryUnregister",
     .write = write_nothing,
     .class = FM_ACCESS_CONTROL},
    {.path = INFERENCE "TraceSetting", .write = write_trace, .class = FM_ACCESS_CONTROL},
    {.path = INFERENCE "LogSettings", .write = write_log, .class = FM_ACCESS_CONTROL},
    {.path = "/grpc.health.v1.Health/Check", .write = write_health, .class = FM_ACCESS_HEALTH},
    {.path = "/grpc.health.v1.Health/Watch",
     .take = take_watch,
     .stream = true,
     .class = FM_ACCESS_HEALTH},
    {.path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
     .take = take_reflection,
     .stream = true,
     .class = FM_ACCESS_READ},
    {.path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
     .take = take_reflection,
     .stream = true,
     .class = FM_ACCESS_READ},
};

static bool is_stream(const struct fm_grpc_service_call *call)
{
    return methods[call->method].stream;
}

static void on_begin(void *context, struct fm_grpc_call *grpc)
{
    struct fm_serve_loop *loop = context;
    uint32_t method = 0;
    while (method < FM_COUNT_OF(methods) && strcmp(methods[method].path, grpc->path) != 0) {
        method++;
    }
    if (method == FM_COUNT_OF(methods)) {
        char text[300];
        (void)snprintf(text, sizeof text, "this server has no method %.200s", grpc->path);
        fm_grpc_finish(grpc, FM_GRPC_UNIMPLEMENTED, text, NULL, 0);
        return;
    }
    struct fm_access_who who;
    if (!fm_serve_grpc_guard(loop, grpc, methods[method].class,
                             methods[method].infer && methods[method].stream, &who)) {
        return;
    }
    struct fm_grpc_service_call *call = call_create(loop);
    if (call == NULL) {
        fm_grpc_finish(grpc, FM_GRPC_RESOURCE_EXHAUSTED, "out of memory for the call", NULL, 0);
        return;
    }
    call->loop = loop;
    call->who = who;
    call->grpc = grpc;
    call->method = method;
    call->unary_infer = methods[method].infer && !methods[method].stream;
    grpc->user = call;
    if (methods[method].stream) {
        stream_add(call);
    }
    fm_serve_loop_in_flight_add(loop, 1);
}

static void on_message(void *context, struct fm_grpc_call *grpc, struct fm_buffer *buffer,
                       const void *data, size_t size)
{
    struct fm_grpc_service_call *call = grpc->user;
    const struct method *method = &methods[call->method];
    struct fm_error error;
    fm_error_init(&error);
    (void)context;
    if (!method->stream && call->had_message) {
        (void)fm_error_set(&error, FM_EINVAL, "this method takes one message");
        fm_serve_grpc_infer_cancel(call);
        fm_serve_grpc_finish(call, &error);
        return;
    }
    call->had_message = true;
    if (method->stream && fm_serve_is_ending(call->loop->serve)) {
        call->dropped = true;
        fm_grpc_handled(grpc);
        fm_serve_grpc_progress(call);
        return;
    }
    if (method->take != NULL) {
        method->take(call, buffer, data, size);
        return;
    }
    struct fm_text text = {0};
    if (method->write(call, data, size, &text, &error) != 0) {
        fm_text_deinit(&text);
        fm_serve_grpc_finish(call, &error);
    } else {
        answer_text(call, &text);
    }
}

static void on_half_closed(void *context, struct fm_grpc_call *grpc)
{
    struct fm_grpc_service_call *call = grpc->user;
    (void)context;
    call->half_closed = true;
    if (!methods[call->method].stream && !call->had_message) {
        struct fm_error error = {0};
        (void)fm_error_set(&error, FM_EINVAL, "the call brought no message");
        fm_serve_grpc_finish(call, &error);
        return;
    }
    fm_serve_grpc_progress(call);
}

static void on_cancelled(void *context, struct fm_grpc_call *grpc)
{
    struct fm_grpc_service_call *call = grpc->user;
    struct fm_error error = {0};
    (void)context;
    (void)fm_error_set(&error, FM_ECANCELLED, "the client went away");
    fm_serve_grpc_infer_cancel(call);
    fm_serve_grpc_finish(call, &error);
}

static void on_drained(void *context)
{
    struct fm_serve_loop *loop = context;
    loop->grpc_drained = true;
    fm_serve_loop_progress(loop);
}

void fm_serve_grpc_events(struct fm_grpc_events *ret_events)
{
    *ret_events = (struct fm_grpc_events){.begin = on_begin,
                                          .message = on_message,
                                          .half_closed = on_half_closed,
                                          .cancelled = on_cancelled,
                                          .drained = on_drained};
}
