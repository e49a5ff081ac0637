/*
 * Opening and closing a client, its thread, and the life of its calls. See
 * include/fermata/client.h.
 */
#include <ctype.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "engines/client/client_internal.h"
#include "host/os/os.h"

#define CONNECTIONS_HTTP   8u
#define CONNECTIONS_GRPC   1u
#define REQUESTS_DEFAULT   65536u
#define RETRIES_DEFAULT    2u
#define CONNECT_DEFAULT_NS UINT64_C(10000000000)
#define ANSWER_DEFAULT     (UINT64_C(1) << 30)
#define FIELD_BYTES_MAX    8192u
#define REASON_BYTES_MAX   200u

static _Thread_local struct fm_client *here;

int fm_client_may_wait(const struct fm_client *client, struct fm_error *reterr)
{
    return here != client ? 0
                          : fm_error_set(reterr, FM_EINVAL,
                                         "a call that waits was made from a callback: its answer "
                                         "would come on this very thread");
}

void fm_client_waiter_init(struct fm_client_waiter *waiter)
{
    fm_mutex_init(&waiter->mutex);
    fm_condition_init(&waiter->condition);
    waiter->over = false;
}

void fm_client_waiter_wait(struct fm_client_waiter *waiter)
{
    fm_mutex_lock(&waiter->mutex);
    while (!waiter->over) {
        fm_condition_wait(&waiter->condition, &waiter->mutex);
    }
    fm_mutex_unlock(&waiter->mutex);
    fm_condition_deinit(&waiter->condition);
    fm_mutex_deinit(&waiter->mutex);
}

void fm_client_waiter_wake(struct fm_client_waiter *waiter)
{
    /* Signalled under the lock: whoever waits frees both. */
    fm_mutex_lock(&waiter->mutex);
    waiter->over = true;
    fm_condition_signal(&waiter->condition);
    fm_mutex_unlock(&waiter->mutex);
}

const char *fm_client_version(void)
{
    return FM_LIBRARY_VERSION;
}

const char *fm_client_status_text(int status)
{
    return fm_status_text(status);
}

void fm_client_text_free(char *text)
{
    fm_free(text);
}

/* --- Calls --- */

struct fm_client_call *fm_client_call_make(struct fm_client *client)
{
    struct fm_client_call *call = fm_alloc_zero(1, sizeof(*call));
    if (call != NULL) {
        call->client = client;
    }
    return call;
}

void fm_client_call_free(struct fm_client_call *call)
{
    if (call != NULL) {
        fm_oip_client_message_deinit(&call->message);
        fm_text_deinit(&call->target);
        fm_text_deinit(&call->fields);
        fm_text_deinit(&call->body);
        fm_arena_deinit(&call->arena);
        fm_buffer_unref(call->answer);
        fm_free(call);
    }
}

int fm_client_call_fail(struct fm_client_call *call, int status, const char *why)
{
    return fm_error_set(&call->error, status, "%s at %s: %s", call->what,
                        call->client->endpoint.url, why);
}

int fm_client_call_refused(struct fm_client_call *call)
{
    struct fm_text text = {0};
    int status = fm_status_from_http((int)call->http_code);
    if (fm_oip_client_error_read(call->data, call->size, &text) && !text.failed) {
        status = fm_client_call_fail(call, status != 0 ? status : FM_ECORRUPT, text.data);
    } else {
        fm_text_clear(&text);
        /* Not in the protocol's words: the beginning of what it says may still help a person. */
        bool says = call->size > 0;
        size_t length = call->size < REASON_BYTES_MAX ? call->size : REASON_BYTES_MAX;
        fm_text_append_format(&text, "the server answered with HTTP status %u%s", call->http_code,
                              says ? ": " : ", and no reason");
        fm_text_append(&text, call->data, length);
        status = fm_client_call_fail(call, status != 0 ? status : FM_ECORRUPT,
                                     text.failed ? "the server refused" : text.data);
    }
    fm_text_deinit(&text);
    return status;
}

uint64_t fm_client_deadline(const struct fm_client *client, uint64_t timeout_ns)
{
    uint64_t now_ns = fm_os_now_ns();
    uint64_t wait_ns = timeout_ns > 0 ? timeout_ns : client->timeout_ns;
    if (wait_ns == 0) {
        return 0;
    }
    return wait_ns < UINT64_MAX - now_ns ? now_ns + wait_ns : UINT64_MAX;
}

int fm_client_call_pack(struct fm_client_call *call, const struct fm_oip_part *parts,
                        uint32_t count, size_t size)
{
    enum fm_compression compression = call->client->compression;
    if (compression != FM_COMPRESSION_IDENTITY && size > 0) {
        struct fm_text packed = {0};
        struct fm_compressor *compressor = fm_compressor_create(compression, &packed);
        int status = compressor != NULL ? 0 : FM_ENOMEM;
        for (uint32_t i = 0; status == 0 && i < count; i++) {
            status = fm_compressor_add(compressor, parts[i].data, parts[i].size);
        }
        status = status == 0 ? fm_compressor_end(compressor) : status;
        fm_compressor_destroy(compressor);
        if (status != 0 || packed.failed) {
            fm_text_deinit(&packed);
            return FM_ENOMEM;
        }
        fm_text_deinit(&call->body);
        call->body = packed;
        call->part = (struct fm_oip_part){call->body.data, call->body.length};
        call->grpc.compressed = true;
        parts = &call->part;
        count = 1;
        size = call->part.size;
        fm_text_append_format(&call->fields, "Content-Encoding: %s\r\n",
                              fm_compression_name(compression));
    }
    call->http.parts = parts;
    call->http.part_count = count;
    call->http.size = size;
    call->grpc.parts = parts;
    call->grpc.part_count = count;
    call->grpc.size = size;
    return call->fields.failed || call->target.failed ? FM_ENOMEM : 0;
}

void fm_client_path_append(struct fm_text *text, const char *segment)
{
    for (const char *at = segment; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        bool plain = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                     (byte >= '0' && byte <= '9') || byte == '-' || byte == '.' || byte == '_' ||
                     byte == '~';
        if (plain) {
            fm_text_append_char(text, *at);
        } else {
            fm_text_append_format(text, "%%%02X", byte);
        }
    }
}

/* The call is over, and nothing finds it any more. */
static void call_end(struct fm_client_call *call)
{
    struct fm_client *client = call->client;
    bool waits = false;
    call->is_over = true;
    fm_mutex_lock(&client->mutex);
    client->calls[call->place] = NULL;
    client->generations[call->place]++;
    client->free_places[client->free_count++] = call->place;
    client->under_way--;
    waits = call->cancel_posted;
    fm_mutex_unlock(&client->mutex);
    call->finish(call);
    if (!waits) {
        fm_client_call_free(call);
    }
}

static void http_done(struct fm_http_client_call *http)
{
    struct fm_client_call *call = FM_CONTAINER_OF(http, struct fm_client_call, http);
    call->status =
        http->status != 0 ? fm_client_call_fail(call, http->status, http->error.text) : 0;
    call->http_code = http->code;
    call->answer = http->body;
    call->data = http->data != NULL ? http->data : "";
    call->size = http->data_size;
    call->length = http->length;
    call_end(call);
}

static void grpc_message(struct fm_grpc_client_call *grpc, struct fm_buffer *buffer,
                         const char *data, size_t size)
{
    struct fm_client_call *call = FM_CONTAINER_OF(grpc, struct fm_client_call, grpc);
    call->answer = buffer;
    call->data = data;
    call->size = size;
}

static void grpc_done(struct fm_grpc_client_call *grpc)
{
    struct fm_client_call *call = FM_CONTAINER_OF(grpc, struct fm_client_call, grpc);
    call->status =
        grpc->status != 0 ? fm_client_call_fail(call, grpc->status, grpc->error.text) : 0;
    call_end(call);
}

static void call_begin(struct fm_loop_task *task)
{
    struct fm_client_call *call = FM_CONTAINER_OF(task, struct fm_client_call, start_task);
    struct fm_client *client = call->client;
    fm_mutex_lock(&client->mutex);
    bool cancelled = call->cancelled;
    fm_mutex_unlock(&client->mutex);
    if (cancelled || client->shut) {
        call->status = fm_client_call_fail(call, FM_ECANCELLED,
                                           cancelled ? "cancelled" : "the client was closed");
        call_end(call);
        return;
    }
    call->begun = true;
    if (client->grpc != NULL) {
        fm_grpc_client_send(client->grpc, &call->grpc);
    } else {
        fm_http_client_send(client->http, &call->http);
    }
}

static void call_cancel(struct fm_loop_task *task)
{
    struct fm_client_call *call = FM_CONTAINER_OF(task, struct fm_client_call, cancel_task);
    fm_mutex_lock(&call->client->mutex);
    call->cancel_posted = false;
    fm_mutex_unlock(&call->client->mutex);
    if (call->is_over) {
        fm_client_call_free(call);
    } else if (call->begun && call->client->grpc != NULL) {
        fm_grpc_client_cancel(&call->grpc, FM_ECANCELLED, "cancelled");
    } else if (call->begun) {
        fm_http_client_cancel(&call->http, FM_ECANCELLED, "cancelled");
    }
}

/* More places in the table. */
static bool places_grow(struct fm_client *client)
{
    uint32_t count = client->place_count < 32 ? 64 : 2 * client->place_count;
    count = count < client->requests_max ? count : client->requests_max;
    struct fm_client_call **calls = fm_realloc((void *)client->calls, count * sizeof(*calls));
    if (calls != NULL) {
        client->calls = calls;
    }
    uint32_t *generations = fm_realloc(client->generations, count * sizeof(*generations));
    if (generations != NULL) {
        client->generations = generations;
    }
    uint32_t *free_places = fm_realloc(client->free_places, count * sizeof(*free_places));
    if (free_places != NULL) {
        client->free_places = free_places;
    }
    if (calls == NULL || generations == NULL || free_places == NULL) {
        return false;
    }
    for (uint32_t i = count; i > client->place_count; i--) {
        client->calls[i - 1] = NULL;
        client->generations[i - 1] = 1;
        client->free_places[client->free_count++] = i - 1;
    }
    client->place_count = count;
    return true;
}

int fm_client_call_start(struct fm_client_call *call, uint64_t *ret_id, struct fm_error *reterr)
{
    struct fm_client *client = call->client;
    int status = 0;
    call->start_task.run = call_begin;
    call->cancel_task.run = call_cancel;
    call->http.done = http_done;
    call->http.fields = call->fields.data;
    call->http.target = call->target.data;
    call->grpc.path = call->target.data;
    call->grpc.message = grpc_message;
    call->grpc.done = grpc_done;
    fm_mutex_lock(&client->mutex);
    if (client->closed) {
        status = FM_ECANCELLED;
    } else if (client->under_way >= client->requests_max) {
        status = FM_EAGAIN;
    } else if (client->free_count == 0 && !places_grow(client)) {
        status = FM_ENOMEM;
    } else {
        call->place = client->free_places[--client->free_count];
        client->calls[call->place] = call;
        client->under_way++;
        if (ret_id != NULL) {
            *ret_id = (uint64_t)client->generations[call->place] << 32 | (call->place + 1);
        }
        /* Under the lock: the table knows no call that is not posted. */
        fm_loop_post(client->loop, &call->start_task);
    }
    fm_mutex_unlock(&client->mutex);
    if (status == FM_EAGAIN) {
        return fm_error_set(reterr, status, "%s at %s: %u requests are under way already",
                            call->what, client->endpoint.url, client->requests_max);
    }
    return status != 0
               ? fm_error_set(reterr, status, "%s at %s: %s", call->what, client->endpoint.url,
                              status == FM_ENOMEM ? "out of memory" : "the client was closed")
               : 0;
}

void fm_client_cancel(struct fm_client *client, uint64_t id)
{
    uint32_t place = (uint32_t)id - 1;
    fm_mutex_lock(&client->mutex);
    if (place < client->place_count && client->generations[place] == (uint32_t)(id >> 32)) {
        struct fm_client_call *call = client->calls[place];
        if (call != NULL && !call->cancelled) {
            call->cancelled = true;
            call->cancel_posted = true;
            fm_loop_post(client->loop, &call->cancel_task);
        }
    }
    fm_mutex_unlock(&client->mutex);
}

/* --- Options --- */

/* A name or a value of a header field: no more lines than one. */
static bool field_is_good(const char *text, bool name)
{
    size_t length = strlen(text);
    bool good = length <= FIELD_BYTES_MAX && (!name || length > 0);
    for (size_t i = 0; good && i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        good = name ? isalnum(byte) || strchr("!#$%&'*+-.^_`|~", byte) != NULL
                    : (byte >= ' ' || byte == '\t') && byte != 0x7f;
    }
    return good;
}

static int field_add(struct fm_client *client, const char *name, const char *value,
                     struct fm_error *reterr)
{
    if (name == NULL || value == NULL || !field_is_good(name, true) ||
        !field_is_good(value, false)) {
        return fm_error_set(reterr, FM_EINVAL, "'%.60s' is no header field that can be sent",
                            name != NULL ? name : "");
    }
    fm_text_append_format(&client->fields, "%s: %s\r\n", name, value);
    char *lower = fm_arena_strdup(&client->arena, name);
    const char *copy = fm_arena_strdup(&client->arena, value);
    if (lower == NULL || copy == NULL || client->fields.failed) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the client");
    }
    for (char *at = lower; *at != '\0'; at++) {
        *at = (char)tolower((unsigned char)*at);
    }
    client->grpc_fields[client->grpc_field_count++] = (struct fm_grpc_client_field){lower, copy};
    return 0;
}

static int fields_make(struct fm_client *client, const struct fm_client_options *options,
                       struct fm_error *reterr)
{
    int status = field_add(client, "User-Agent", "fermata-client/" FM_LIBRARY_VERSION, reterr);
    if (status == 0 && options->token != NULL) {
        struct fm_text bearer = {0};
        fm_text_append_format(&bearer, "Bearer %s", options->token);
        status =
            bearer.failed ? FM_ENOMEM : field_add(client, "Authorization", bearer.data, reterr);
        fm_text_deinit(&bearer);
        if (status != 0) {
            (void)fm_error_set(reterr, status, "%s",
                               status == FM_EINVAL ? "the token has characters that cannot be sent"
                                                   : "out of memory for the client");
        }
    }
    if (status == 0 && options->header_count > FM_CLIENT_HEADERS_MAX) {
        return fm_error_set(reterr, FM_EINVAL, "more than %u header fields", FM_CLIENT_HEADERS_MAX);
    }
    for (uint32_t i = 0; status == 0 && i < options->header_count; i++) {
        status = field_add(client, options->headers[i].key, options->headers[i].value, reterr);
    }
    if (options->compression != FM_CLIENT_COMPRESSION_NONE) {
        fm_text_append_string(&client->fields, "Accept-Encoding: gzip, deflate\r\n");
    }
    if (status == 0 && client->fields.failed) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the client");
    }
    return status;
}

static int options_take(struct fm_client *client, const struct fm_client_options *options,
                        struct fm_error *reterr)
{
    static const enum fm_compression compressions[] = {FM_COMPRESSION_IDENTITY,
                                                       FM_COMPRESSION_DEFLATE, FM_COMPRESSION_GZIP};
    uint32_t usual = client->endpoint.grpc ? CONNECTIONS_GRPC : CONNECTIONS_HTTP;
    if (options->connections > FM_CLIENT_CONNECTIONS_MAX ||
        options->requests_max > FM_CLIENT_REQUESTS_MAX ||
        options->compression > FM_CLIENT_COMPRESSION_GZIP) {
        return fm_error_set(reterr, FM_EINVAL,
                            "an option is out of its range: at most %u connections, %u requests, "
                            "and a compression that is known",
                            FM_CLIENT_CONNECTIONS_MAX, FM_CLIENT_REQUESTS_MAX);
    }
    if ((options->certificate_path == NULL) != (options->key_path == NULL)) {
        return fm_error_set(reterr, FM_EINVAL, "a certificate and its key belong together");
    }
    client->connections = options->connections > 0 ? options->connections : usual;
    client->requests_max = options->requests_max > 0 ? options->requests_max : REQUESTS_DEFAULT;
    client->retries = options->retries == FM_CLIENT_RETRIES_NONE ? 0
                      : options->retries > 0                     ? options->retries
                                                                 : RETRIES_DEFAULT;
    client->connect_timeout_ns =
        options->connect_timeout_ns > 0 ? options->connect_timeout_ns : CONNECT_DEFAULT_NS;
    client->timeout_ns = options->timeout_ns;
    client->answer_bytes_max =
        options->answer_bytes_max > 0 ? options->answer_bytes_max : ANSWER_DEFAULT;
    client->compression = compressions[options->compression];
    client->json = options->json != 0;
    return fields_make(client, options, reterr);
}

/* --- Opening and closing --- */

static void transport_closed(void *context)
{
    struct fm_client *client = context;
    fm_loop_stop(client->loop);
}

static void transport_close(struct fm_loop_task *task)
{
    struct fm_client *client = FM_CONTAINER_OF(task, struct fm_client, close_task);
    client->shut = true;
    if (client->grpc != NULL) {
        fm_grpc_client_close(client->grpc, transport_closed, client);
    } else {
        fm_http_client_close(client->http, transport_closed, client);
    }
}

static void round_end(void *context)
{
    struct fm_client *client = context;
    if (client->grpc != NULL && !client->shut) {
        fm_grpc_client_round(client->grpc);
    }
}

static void client_run(void *context)
{
    struct fm_client *client = context;
    here = client;
    fm_loop_run(client->loop);
    here = NULL;
}

static void client_free(struct fm_client *client)
{
    fm_loop_destroy(client->loop);
    fm_mutex_deinit(&client->mutex);
    fm_endpoint_deinit(&client->endpoint);
    fm_text_deinit(&client->fields);
    fm_arena_deinit(&client->arena);
    fm_free((void *)client->calls);
    fm_free(client->generations);
    fm_free(client->free_places);
    fm_free(client);
}

static int transport_make(struct fm_client *client, struct fm_tls *tls, struct fm_error *reterr)
{
    if (client->endpoint.grpc) {
        const struct fm_grpc_client_options options = {
            .endpoint = &client->endpoint,
            .tls = tls,
            .connections_max = client->connections,
            .retries_max = client->retries,
            .connect_timeout_ns = client->connect_timeout_ns,
            .message_bytes_max = client->answer_bytes_max,
            .fields = client->grpc_fields,
            .field_count = client->grpc_field_count,
            .compression = client->compression,
        };
        return fm_grpc_client_create(client->loop, &options, &client->grpc, reterr);
    }
    const struct fm_http_client_options options = {
        .endpoint = &client->endpoint,
        .tls = tls,
        .connections_max = client->connections,
        .retries_max = client->retries,
        .connect_timeout_ns = client->connect_timeout_ns,
        .body_bytes_max = client->answer_bytes_max,
        .fields = client->fields.data,
        .length_field = "Inference-Header-Content-Length",
    };
    return fm_http_client_create(client->loop, &options, &client->http, reterr);
}

static int client_start(struct fm_client *client, const struct fm_client_options *options,
                        struct fm_error *reterr)
{
    struct fm_tls *tls = NULL;
    int status = options_take(client, options, reterr);
    if (status == 0 && client->endpoint.tls) {
        const struct fm_tls_client_options wanted = {
            .ca_path = options->ca_path,
            .certificate_path = options->certificate_path,
            .key_path = options->key_path,
            .server_name =
                options->server_name != NULL ? options->server_name : client->endpoint.host,
        };
        status = fm_tls_create_client(&wanted, &tls, reterr);
    }
    status = status == 0 ? fm_loop_create(&client->loop, reterr) : status;
    if (status != 0) {
        fm_tls_destroy(tls);
        return status;
    }
    status = transport_make(client, tls, reterr);
    if (status != 0) {
        fm_tls_destroy(tls);
        return status;
    }
    fm_loop_each_round(client->loop, round_end, client);
    client->close_task.run = transport_close;
    status = fm_thread_start(&client->thread, "fm-client", client_run, client);
    if (status != 0) {
        /* The transport goes the ordinary way, on this thread. */
        fm_loop_post(client->loop, &client->close_task);
        fm_loop_run(client->loop);
        return fm_error_set(reterr, status, "cannot start the client's thread");
    }
    return 0;
}

int fm_client_open(const char *url, const struct fm_client_options *options,
                   struct fm_client **ret_client, struct fm_error *reterr)
{
    struct fm_client_options wanted = {0};
    struct fm_client *client = fm_alloc_zero(1, sizeof(*client));
    if (client == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the client");
    }
    fm_mutex_init(&client->mutex);
    int status = url != NULL ? fm_endpoint_parse(url, &client->endpoint, reterr)
                             : fm_error_set(reterr, FM_EINVAL, "there is no URL");
    if (status == 0 && options != NULL) {
        if (options->struct_size < sizeof(options->struct_size)) {
            status = fm_error_set(reterr, FM_EINVAL, "struct_size of the options is not set");
        } else {
            size_t size = options->struct_size;
            memcpy(&wanted, options, size < sizeof(wanted) ? size : sizeof(wanted));
        }
    }
    status = status == 0 ? client_start(client, &wanted, reterr) : status;
    if (status != 0) {
        client_free(client);
        return status;
    }
    *ret_client = client;
    return 0;
}

void fm_client_close(struct fm_client *client)
{
    if (client == NULL) {
        return;
    }
    FM_ASSERT(here != client);
    fm_mutex_lock(&client->mutex);
    client->closed = true;
    fm_mutex_unlock(&client->mutex);
    fm_loop_post(client->loop, &client->close_task);
    fm_thread_join(&client->thread);
    client_free(client);
}
