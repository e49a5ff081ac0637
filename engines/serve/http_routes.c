/*
 * REST: paths to actions. See serve_internal.h.
 */
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "engines/serve/serve_internal.h"

#define NAME_BYTES_MAX 1024
#define SEGMENTS_MAX   8
#define ALLOW_READ     "GET, HEAD, OPTIONS"
#define ALLOW_SERVER   "GET, HEAD, POST, OPTIONS"
#define ALLOW_POST     "POST, OPTIONS"
#define ALLOW_BOTH     "GET, HEAD, POST, OPTIONS"

/* --- Answers --- */

/* A text that goes out as one part and is freed afterwards. */
struct document {
    struct fm_text text;
    struct fm_http_part part;
    char value[128]; /* of a header field */
};

static void document_free(void *context)
{
    struct document *document = context;
    fm_text_deinit(&document->text);
    fm_free(document);
}

static void answer_bare(struct fm_http_request *http, int status)
{
    const struct fm_http_answer answer = {.status = status};
    fm_http_answer(http, &answer);
}

/* Answers with the text, which is taken; a value of NULL: the header is left out. */
static void answer_text(struct fm_http_request *http, int status, const char *type, bool compress,
                        struct fm_http_header header, struct fm_text *take_text)
{
    struct document *document = fm_alloc_zero(1, sizeof *document);
    if (document == NULL || take_text->failed) {
        fm_free(document);
        fm_text_deinit(take_text);
        answer_bare(http, 503);
        return;
    }
    document->text = *take_text;
    *take_text = (struct fm_text){0};
    document->part = (struct fm_http_part){document->text.data, document->text.length};
    struct fm_http_answer answer = {.status = status,
                                    .content_type = type,
                                    .parts = &document->part,
                                    .part_count = 1,
                                    .compress = compress,
                                    .release = document_free,
                                    .context = document};
    if (header.value != NULL) {
        (void)snprintf(document->value, sizeof document->value, "%s", header.value);
        answer.headers[answer.header_count++] =
            (struct fm_http_header){header.name, document->value};
    } else if (status == 503) {
        answer.headers[answer.header_count++] = (struct fm_http_header){"Retry-After", "1"};
    }
    fm_http_answer(http, &answer);
}

void fm_serve_http_text(struct fm_http_request *http, int http_status, const char *content_type,
                        struct fm_text *take_text)
{
    answer_text(http, http_status, content_type, true, (struct fm_http_header){0}, take_text);
}

/* A document of the protocol, or an error: never compressed, as Triton's are not. Its client for
 * asyncio lets aiohttp say "Accept-Encoding: gzip" and reads the bytes as they come. */
static void answer_json(struct fm_http_request *http, int status, struct fm_text *take_text)
{
    answer_text(http, status, "application/json", false, (struct fm_http_header){0}, take_text);
}

void fm_serve_http_error(struct fm_http_request *http, int http_status, const char *message)
{
    struct fm_text text = {0};
    fm_oip_write_error(&text, message);
    answer_json(http, http_status, &text);
}

void fm_serve_http_refuse(struct fm_http_request *http, int http_status, const char *message,
                          const struct fm_http_header *header)
{
    struct fm_text text = {0};
    fm_oip_write_error(&text, message);
    answer_text(http, http_status, "application/json", false, *header, &text);
}

static void answer_status(struct fm_http_request *http, const struct fm_error *error)
{
    fm_serve_http_error(http, fm_status_http(error->status), error->text);
}

/* What a writer left behind: its text, or why there is none. */
static void answer_written(struct fm_http_request *http, int status, const struct fm_error *error,
                           struct fm_text *take_text)
{
    if (status != 0) {
        fm_text_deinit(take_text);
        answer_status(http, error);
    } else {
        answer_json(http, 200, take_text);
    }
}

/* For a method other than those in `allow`; OPTIONS, which may ask anything, gets them as its
 * answer.
 */
static void answer_not_allowed(struct fm_http_request *http, const char *allow)
{
    if (strcmp(http->method, "OPTIONS") == 0) {
        const struct fm_http_answer answer = {
            .status = 200, .headers = {{"Allow", allow}}, .header_count = 1};
        fm_http_answer(http, &answer);
        return;
    }
    struct fm_text text = {0};
    fm_oip_write_error(&text, "Method Not Allowed");
    answer_text(http, 405, "application/json", false, (struct fm_http_header){"Allow", allow},
                &text);
}

static bool is_get(const struct fm_http_request *http)
{
    return strcmp(http->method, "GET") == 0 || strcmp(http->method, "HEAD") == 0;
}

static bool is_post(const struct fm_http_request *http)
{
    return strcmp(http->method, "POST") == 0;
}

/* --- Routes --- */

/* A path cut at its slashes, each piece percent-decoded. */
struct route {
    char text[NAME_BYTES_MAX * 2];
    const char *segments[SEGMENTS_MAX];
    uint32_t count;
};

/* False for a path that no route can have: too long, too deep, a bad escape, a NUL, a slash at the
 * end. */
static bool route_parse(struct route *route, const char *path)
{
    size_t used = 0;
    route->count = 0;
    if (strlen(path) >= sizeof(route->text) || path[0] != '/') {
        return false;
    }
    for (const char *at = path; *at != '\0'; at++) {
        char character = *at;
        if (character == '/') {
            if (route->count == SEGMENTS_MAX) {
                return false;
            }
            if (used > 0) {
                route->text[used++] = '\0';
            }
            route->segments[route->count++] = route->text + used;
            continue;
        }
        if (character == '%') {
            int high = fm_hex_digit(at[1]);
            int low = high >= 0 ? fm_hex_digit(at[2]) : -1;
            if (low < 0 || (high == 0 && low == 0)) {
                return false;
            }
            character = (char)(high << 4 | low);
            at += 2;
        }
        route->text[used++] = character;
    }
    route->text[used] = '\0';
    return route->segments[route->count - 1][0] != '\0';
}

static bool segment_is(const struct route *route, uint32_t index, const char *word)
{
    return index < route->count && strcmp(route->segments[index], word) == 0;
}

/* --- Models --- */

enum action {
    ACTION_METADATA,
    ACTION_READY,
    ACTION_CONFIG,
    ACTION_STATISTICS,
    ACTION_INFER,
    ACTION_TRACE,
    ACTION_GENERATE,
    ACTION_NONE
};

/* What stands behind the model's name and version. */
static enum action action_find(const struct route *route, uint32_t index)
{
    if (index == route->count) {
        return ACTION_METADATA;
    }
    if (index + 2 == route->count && segment_is(route, index, "trace") &&
        segment_is(route, index + 1, "setting")) {
        return ACTION_TRACE;
    }
    if (index + 1 != route->count) {
        return ACTION_NONE;
    }
    return segment_is(route, index, "ready") ? ACTION_READY
           : segment_is(route, index, "generate") || segment_is(route, index, "generate_stream")
               ? ACTION_GENERATE
           : segment_is(route, index, "config") ? ACTION_CONFIG
           : segment_is(route, index, "stats")  ? ACTION_STATISTICS
           : segment_is(route, index, "infer")  ? ACTION_INFER
                                                : ACTION_NONE;
}

/* Of tracing, or of the log. */
static void answer_settings(struct fm_http_request *http, bool log)
{
    struct fm_messages_settings settings = {0};
    const struct fm_messages_settings *change = is_post(http) ? &settings : NULL;
    struct fm_text text = {0};
    struct fm_error error = {0};
    int status = 0;
    if (change != NULL) {
        status = (log ? fm_messages_read_log : fm_messages_read_trace)(
            FM_MESSAGES_JSON, http->body, http->body_size, &settings, &error);
    }
    if (status == 0) {
        status = (log ? fm_serve_write_log : fm_serve_write_trace)(&text, FM_MESSAGES_JSON, change,
                                                                   &error);
        fm_messages_settings_deinit(&settings);
    }
    answer_written(http, status, &error, &text);
}

/* What a model that is there answers to. */
static void model_answer(struct fm_serve_loop *loop, struct fm_http_request *http,
                         enum action action, struct fm_catalog_entry *entry, uint64_t version)
{
    struct fm_text text = {0};
    struct fm_error error = {0};
    int status = 0;
    switch (action) {
    case ACTION_INFER:
        fm_serve_http_infer(loop, entry, http);
        return;
    case ACTION_TRACE:
        answer_settings(http, false);
        return;
    case ACTION_CONFIG:
        fm_serve_write_config(&text, FM_MESSAGES_JSON, entry);
        break;
    case ACTION_STATISTICS:
        status =
            fm_serve_write_statistics(loop, &text, FM_MESSAGES_JSON, entry->name, version, &error);
        break;
    case ACTION_GENERATE:
        status = fm_error_set(&error, FM_EUNSUPPORTED,
                              "generate and generate_stream are not supported here; send "
                              "/v2/models/%.200s/infer",
                              entry->name);
        break;
    case ACTION_METADATA:
    case ACTION_READY:
    case ACTION_NONE:
        fm_serve_write_metadata(loop, &text, FM_MESSAGES_JSON, entry, version == 0);
        break;
    }
    answer_written(http, status, &error, &text);
}

static bool method_fits(const struct fm_http_request *http, enum action action)
{
    return action == ACTION_INFER || action == ACTION_GENERATE ? is_post(http)
           : action == ACTION_TRACE                            ? is_post(http) || is_get(http)
                                                               : is_get(http);
}

/* /v2/models/NAME[/versions/VERSION][/ready|/config|/stats|/infer|/trace/setting] */
static void handle_model(struct fm_serve_loop *loop, struct fm_http_request *http,
                         const struct route *route)
{
    uint64_t version = 0;
    uint32_t next = 3;
    if (segment_is(route, 3, "versions")) {
        if (route->count < 5 || route->segments[4][0] < '0' || route->segments[4][0] > '9' ||
            fm_parse_uint64(route->segments[4], &version) != 0 || version == 0) {
            fm_serve_http_error(
                http, 400,
                "a model version in a path is a positive number, as in /v2/models/NAME/versions/1");
            return;
        }
        next = 5;
    }
    enum action action = action_find(route, next);
    if (action == ACTION_NONE) {
        fm_serve_http_error(http, 404, "Not Found");
        return;
    }
    if (!method_fits(http, action)) {
        answer_not_allowed(http, action == ACTION_INFER || action == ACTION_GENERATE ? ALLOW_POST
                                 : action == ACTION_TRACE                            ? ALLOW_BOTH
                                                                                     : ALLOW_READ);
        return;
    }
    struct fm_catalog_entry *entry = NULL;
    struct fm_error error = {0};
    int status =
        fm_catalog_view_find(loop->reader.view, route->segments[2], version, &entry, &error);
    if (action == ACTION_READY && (status == 0 || status == FM_EUNAVAILABLE)) {
        struct fm_text text = {0};
        bool ready = status == 0 && !fm_serve_is_stopping(loop->serve);
        fm_messages_write_model_ready(&text, FM_MESSAGES_JSON, route->segments[2], ready);
        /* 400 is what clients of this protocol take for "not ready". */
        answer_json(http, ready ? 200 : 400, &text);
    } else if (status != 0) {
        answer_status(http, &error);
    } else {
        model_answer(loop, http, action, entry, version);
    }
}

/* --- The repository --- */

static void operation_done(struct fm_serve_operation *operation, const struct fm_error *error)
{
    struct fm_http_request *http = operation->client; /* answered also when its client has left */
    if (error != NULL) {
        answer_status(http, error);
    } else if (operation->catalog.kind == FM_CATALOG_INDEX) {
        struct fm_text text = {0};
        fm_serve_write_index(operation->loop, &text, FM_MESSAGES_JSON, false);
        answer_json(http, 200, &text);
    } else {
        answer_bare(http, 200);
    }
}

static void operation_begin(struct fm_serve_loop *loop, struct fm_http_request *http,
                            enum fm_catalog_operation_kind kind, const char *name)
{
    struct fm_serve_operation *operation = NULL;
    struct fm_error error = {0};
    if (fm_serve_operation_begin(loop, kind, FM_MESSAGES_JSON, name, http->body, http->body_size,
                                 operation_done, http, &operation, &error) != 0) {
        answer_status(http, &error);
    }
}

static void handle_index(struct fm_serve_loop *loop, struct fm_http_request *http)
{
    bool ready_only = false;
    struct fm_error error = {0};
    if (fm_messages_read_index(FM_MESSAGES_JSON, http->body, http->body_size, &ready_only,
                               &error) != 0) {
        answer_status(http, &error);
    } else if (ready_only || loop->serve->options->control != FM_SERVE_CONTROL_EXPLICIT) {
        struct fm_text text = {0};
        fm_serve_write_index(loop, &text, FM_MESSAGES_JSON, ready_only);
        answer_json(http, 200, &text);
    } else {
        operation_begin(loop, http, FM_CATALOG_INDEX, NULL);
    }
}

/* /v2/repository[/REPOSITORY]/index, /v2/repository[/REPOSITORY]/models/NAME/load|unload. There is
 * one repository, whatever it is called. */
static void handle_repository(struct fm_serve_loop *loop, struct fm_http_request *http,
                              const struct route *route)
{
    uint32_t first = segment_is(route, 2, "index") || segment_is(route, 2, "models") ? 2 : 3;
    bool index = route->count == first + 1 && segment_is(route, first, "index");
    bool load = segment_is(route, first + 2, "load");
    bool change = route->count == first + 3 && segment_is(route, first, "models") &&
                  (load || segment_is(route, first + 2, "unload"));
    if (!index && !change) {
        fm_serve_http_error(http, 404, "Not Found");
    } else if (!is_post(http)) {
        answer_not_allowed(http, ALLOW_POST);
    } else if (index) {
        handle_index(loop, http);
    } else {
        operation_begin(loop, http, load ? FM_CATALOG_LOAD : FM_CATALOG_UNLOAD,
                        route->segments[first + 1]);
    }
}

/* --- Shared memory --- */

static void region_register(struct fm_serve_loop *loop, struct fm_http_request *http,
                            const char *name)
{
    struct fm_messages_register request = {0};
    struct fm_error error = {0};
    int status =
        fm_messages_read_register(FM_MESSAGES_JSON, http->body, http->body_size, &request, &error);
    if (status == 0) {
        const struct fm_messages_region region = {
            .name = name, .key = request.key, .offset = request.offset, .size = request.size};
        status = fm_shared_regions_register(&loop->serve->regions, &region, &error);
        fm_messages_register_deinit(&request);
    }
    if (status != 0) {
        answer_status(http, &error);
    } else {
        answer_bare(http, 200);
    }
}

/* /v2/systemsharedmemory[/region/NAME]/status|register|unregister, and the same for CUDA, of which
 * there are none. */
static void handle_memory(struct fm_serve_loop *loop, struct fm_http_request *http,
                          const struct route *route, bool cuda)
{
    bool named = segment_is(route, 2, "region");
    uint32_t last = named ? 4 : 2;
    const char *name = named && route->count == 5 ? route->segments[3] : "";
    bool status = segment_is(route, last, "status");
    bool unregister = segment_is(route, last, "unregister");
    bool registers = named && segment_is(route, last, "register");
    if (route->count != last + 1 || (!status && !unregister && !registers)) {
        fm_serve_http_error(http, 404, "Not Found");
    } else if (status ? !is_get(http) : !is_post(http)) {
        answer_not_allowed(http, status ? ALLOW_READ : ALLOW_POST);
    } else if (registers && cuda) {
        fm_serve_http_error(http, 501, "this server has no CUDA shared memory");
    } else if (registers) {
        region_register(loop, http, name);
    } else if (unregister) {
        struct fm_error error = {0};
        if (!cuda && fm_shared_regions_unregister(&loop->serve->regions, name, &error) != 0) {
            answer_status(http, &error);
        } else {
            answer_bare(http, 200);
        }
    } else {
        struct fm_text text = {0};
        struct fm_error error = {0};
        int written = 0;
        if (cuda) {
            fm_messages_write_cuda_regions(&text, FM_MESSAGES_JSON);
        } else {
            written = fm_serve_write_regions(loop, &text, FM_MESSAGES_JSON, name, &error);
        }
        answer_written(http, written, &error, &text);
    }
}

/* --- The server --- */

static void answer_health(struct fm_http_request *http, bool live, bool ready)
{
    struct fm_text text = {0};
    if (live) {
        fm_messages_write_live(&text, FM_MESSAGES_JSON, ready);
    } else {
        fm_messages_write_ready(&text, FM_MESSAGES_JSON, ready);
    }
    answer_json(http, ready ? 200 : 400, &text);
}

/* /v2, /v2/health/live, /v2/health/ready, /v2/models/stats, /v2/trace/setting, /v2/logging */
static void handle_server(struct fm_serve_loop *loop, struct fm_http_request *http,
                          const struct route *route)
{
    bool live = route->count == 3 && segment_is(route, 1, "health") && segment_is(route, 2, "live");
    bool ready =
        route->count == 3 && segment_is(route, 1, "health") && segment_is(route, 2, "ready");
    bool statistics =
        route->count == 3 && segment_is(route, 1, "models") && segment_is(route, 2, "stats");
    bool trace =
        route->count == 3 && segment_is(route, 1, "trace") && segment_is(route, 2, "setting");
    bool logging = route->count == 2 && segment_is(route, 1, "logging");
    if (!live && !ready && !statistics && !trace && !logging && route->count != 1) {
        fm_serve_http_error(http, 404, "Not Found");
    } else if (!is_get(http) && !((trace || logging) && is_post(http))) {
        answer_not_allowed(http, trace || logging ? ALLOW_BOTH : ALLOW_READ);
    } else if (live || ready) {
        answer_health(http, live, live || fm_serve_is_ready(loop));
    } else if (trace) {
        answer_settings(http, false);
    } else if (logging) {
        answer_settings(http, true);
    } else {
        struct fm_text text = {0};
        struct fm_error error = {0};
        int status = 0;
        if (statistics) {
            status = fm_serve_write_statistics(loop, &text, FM_MESSAGES_JSON, "", 0, &error);
        } else {
            fm_serve_write_server(loop, &text, FM_MESSAGES_JSON);
        }
        answer_written(http, status, &error, &text);
    }
}

/* What the request is for access: of pages, routes and what is none of both. */
static enum fm_access_class class_of(const struct fm_http_request *http, const struct route *route)
{
    uint32_t last = route->count - 1;
    if (strcmp(http->method, "OPTIONS") == 0) {
        return FM_ACCESS_OPEN;
    }
    if (!segment_is(route, 0, "v2")) {
        return fm_serve_observe_class(http);
    }
    if (segment_is(route, 1, "health") ||
        (segment_is(route, 1, "models") && last >= 3 && segment_is(route, last, "ready"))) {
        return FM_ACCESS_HEALTH;
    }
    if (segment_is(route, 1, "models") && last >= 3 && segment_is(route, last, "infer")) {
        return FM_ACCESS_INFER;
    }
    return is_get(http) || segment_is(route, last, "index") ? FM_ACCESS_READ : FM_ACCESS_CONTROL;
}

static void handle_route(struct fm_serve_loop *loop, struct fm_http_request *http,
                         const struct route *route)
{
    bool statistics = route->count == 3 && segment_is(route, 2, "stats");
    if (segment_is(route, 1, "models") && route->count >= 3 && route->segments[2][0] != '\0' &&
        !statistics) {
        handle_model(loop, http, route);
    } else if (segment_is(route, 1, "repository") && route->count >= 3) {
        handle_repository(loop, http, route);
    } else if (segment_is(route, 1, "systemsharedmemory")) {
        handle_memory(loop, http, route, false);
    } else if (segment_is(route, 1, "cudasharedmemory")) {
        handle_memory(loop, http, route, true);
    } else {
        handle_server(loop, http, route);
    }
}

/* POST /v2/models/NAME/infer, which nearly all requests are. False if it is not, or if the name
 * needs a closer look. */
static bool handle_infer(struct fm_serve_loop *loop, struct fm_http_request *http)
{
    static const char before[] = "/v2/models/";
    static const char behind[] = "/infer";
    size_t edges = sizeof before - 1 + sizeof behind - 1;
    size_t length = strlen(http->path);
    char name[NAME_BYTES_MAX];
    if (length <= edges || length - edges >= sizeof name || !is_post(http) ||
        memcmp(http->path, before, sizeof before - 1) != 0 ||
        memcmp(http->path + length - (sizeof behind - 1), behind, sizeof behind - 1) != 0) {
        return false;
    }
    length -= edges;
    memcpy(name, http->path + sizeof before - 1, length);
    name[length] = '\0';
    if (memchr(name, '/', length) != NULL || memchr(name, '%', length) != NULL) {
        return false;
    }
    if (fm_serve_http_guard(loop, http, FM_ACCESS_INFER)) {
        struct fm_catalog_entry *entry = NULL;
        struct fm_error error = {0};
        if (fm_catalog_view_find(loop->reader.view, name, 0, &entry, &error) == 0) {
            fm_serve_http_infer(loop, entry, http);
        } else {
            answer_status(http, &error);
        }
        fm_serve_guard_end(loop);
    }
    return true;
}

void fm_serve_http_handle(void *context, struct fm_http_request *http)
{
    struct fm_serve_loop *loop = context;
    struct route route;
    if (handle_infer(loop, http)) {
        return;
    }
    if (strcmp(http->path, "*") == 0) {
        /* The server as a whole, which only OPTIONS may ask about. */
        answer_not_allowed(http, strcmp(http->method, "OPTIONS") == 0 ? ALLOW_SERVER : "OPTIONS");
        return;
    }
    bool good = route_parse(&route, http->path);
    if (!good) {
        route.count = 1;
        route.segments[0] = "";
    }
    if (!fm_serve_http_guard(loop, http, class_of(http, &route))) {
        return;
    }
    if (segment_is(&route, 0, "v2")) {
        handle_route(loop, http, &route);
    } else if (!fm_serve_observe_route(loop, http)) {
        fm_serve_http_error(http, 404, "Not Found");
    }
    fm_serve_guard_end(loop);
}
