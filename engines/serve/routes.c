/*
 * Paths to actions, and the documents that need no model to run. See serve_internal.h.
 */
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "engines/serve/model_document.h"
#include "engines/serve/serve_internal.h"
#include "host/messages/messages.h"

#define NAME_BYTES_MAX 1024
#define SEGMENTS_MAX   8
#define ALLOW_READ     "GET, HEAD, OPTIONS"
#define ALLOW_SERVER   "GET, HEAD, POST, OPTIONS"
#define ALLOW_POST     "POST, OPTIONS"

/* --- Answers --- */

/* A text that goes out as one part and is freed afterwards. */
struct document {
    struct fm_text text;
    struct fm_http_part part;
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

/* Answers with `document` (which may be NULL: out of memory) and takes it. */
static void answer_document(struct fm_http_request *http, int status, struct document *document,
                            const char *allow)
{
    if (document == NULL || document->text.failed) {
        if (document != NULL) {
            document_free(document);
        }
        answer_bare(http, 503);
        return;
    }
    document->part = (struct fm_http_part){document->text.data, document->text.length};
    struct fm_http_answer answer = {.status = status,
                                    .content_type = "application/json",
                                    .parts = &document->part,
                                    .part_count = 1,
                                    .release = document_free,
                                    .context = document};
    if (status == 503) {
        answer.headers[answer.header_count++] = (struct fm_http_header){"Retry-After", "1"};
    }
    if (allow != NULL) {
        answer.headers[answer.header_count++] = (struct fm_http_header){"Allow", allow};
    }
    fm_http_answer(http, &answer);
}

static struct document *document_create(void)
{
    return fm_alloc_zero(1, sizeof(struct document));
}

void fm_serve_answer_error(struct fm_http_request *http, int http_status, const char *message)
{
    struct document *document = document_create();
    if (document != NULL) {
        fm_oip_write_error(&document->text, message);
    }
    answer_document(http, http_status, document, NULL);
}

static void answer_status(struct fm_http_request *http, const struct fm_error *error)
{
    fm_serve_answer_error(http, fm_status_http(error->status), error->text);
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
    struct document *document = document_create();
    if (document != NULL) {
        fm_oip_write_error(&document->text, "Method Not Allowed");
    }
    answer_document(http, 405, document, allow);
}

/* --- Documents --- */

static void answer_flag(struct fm_http_request *http, const char *key, bool value)
{
    struct document *document = document_create();
    if (document != NULL) {
        fm_text_append_format(&document->text, "{\"%s\":%s}", key, value ? "true" : "false");
    }
    /* 400 is what clients of this protocol take for "not ready". */
    answer_document(http, value ? 200 : 400, document, NULL);
}

/* Loading is over, something can be served, and the end has not begun. Entries that failed show in
 * the index and in their own readiness. */
static bool is_ready(const struct fm_serve *serve)
{
    return !serve->draining &&
           fm_catalog_view_is_ready(serve->reader.view, serve->options->strict_readiness);
}

static void answer_server(struct fm_serve *serve, struct fm_http_request *http)
{
    struct document *document = document_create();
    /* Only what works: clients decide by this list what to ask for. */
    static const char *const extensions[] = {"classification",     "model_repository",
                                             "schedule_policy",    "model_configuration",
                                             "binary_tensor_data", "parameters"};
    if (document != NULL) {
        const struct fm_messages_server server = {.name = "fermata",
                                                  .version = serve->options->server_version,
                                                  .extensions = extensions,
                                                  .extension_count =
                                                      sizeof(extensions) / sizeof(extensions[0])};
        fm_messages_write_server(&document->text, FM_MESSAGES_JSON, &server);
    }
    answer_document(http, 200, document, NULL);
}

static void answer_metadata(struct fm_serve *serve, struct fm_http_request *http,
                            const struct fm_catalog_entry *entry, bool all_versions)
{
    struct document *document = document_create();
    size_t row_count = 0;
    const struct fm_catalog_row *rows =
        fm_catalog_view_rows(serve->reader.view, entry->name, &row_count);
    uint64_t *versions = fm_alloc_zero(row_count + 1, sizeof(*versions));
    if (document != NULL && versions != NULL) {
        size_t count = 0;
        for (size_t i = 0; i < row_count; i++) {
            if (rows[i].entry != NULL && (all_versions || rows[i].entry == entry)) {
                versions[count++] = rows[i].version;
            }
        }
        const struct fm_messages_model model = {.signature = &entry->signature,
                                                .platform = fm_servable_platform(entry->servable),
                                                .versions = versions,
                                                .version_count = count};
        fm_messages_write_model(&document->text, FM_MESSAGES_JSON, &model);
    } else if (document != NULL) {
        document->text.failed = true;
    }
    fm_free(versions);
    answer_document(http, 200, document, NULL);
}

static void answer_config(struct fm_http_request *http, const struct fm_catalog_entry *entry)
{
    struct document *document = document_create();
    const struct fm_model *model = fm_servable_model(entry->servable);
    if (document != NULL) {
        const struct fm_model_document config = {
            .signature = &entry->signature,
            .platform = fm_servable_platform(entry->servable),
            .backend = model != NULL ? fm_model_backend_name(model) : "fermata",
            .instance_count = model != NULL ? fm_model_instance_count(model) : 0,
            .batches = entry->signature.batch_max > 0,
            .pipeline = model == NULL ? fm_servable_pipeline(entry->servable) : NULL};
        fm_model_document_write(&document->text, FM_MESSAGES_JSON, &config);
    }
    answer_document(http, 200, document, NULL);
}

void fm_serve_answer_index(struct fm_http_request *http, const struct fm_catalog_view *view,
                           bool ready_only)
{
    struct document *document = document_create();
    struct fm_messages_index_row *rows = fm_alloc_zero(view->row_count + 1, sizeof(*rows));
    size_t count = 0;
    for (size_t i = 0; rows != NULL && i < view->row_count; i++) {
        const struct fm_catalog_row *row = &view->rows[i];
        if (!ready_only || row->state == FM_CATALOG_READY) {
            rows[count++] = (struct fm_messages_index_row){
                row->name, row->version, fm_catalog_state_name(row->state), row->reason};
        }
    }
    if (document != NULL) {
        fm_messages_write_index(&document->text, FM_MESSAGES_JSON, rows, count);
        document->text.failed = document->text.failed || rows == NULL;
    }
    fm_free(rows);
    answer_document(http, 200, document, NULL);
}

/* --- Routes --- */

/* A path cut at its slashes, each piece percent-decoded. */
struct route {
    char text[NAME_BYTES_MAX * 2];
    const char *segments[SEGMENTS_MAX];
    uint32_t count;
};

static int hex_digit(char character)
{
    if (character >= '0' && character <= '9') {
        return character - '0';
    }
    char lowered = (char)(character | 0x20);
    return lowered >= 'a' && lowered <= 'f' ? lowered - 'a' + 10 : -1;
}

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
            int high = hex_digit(at[1]);
            int low = high >= 0 ? hex_digit(at[2]) : -1;
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

enum action { ACTION_METADATA, ACTION_READY, ACTION_CONFIG, ACTION_INFER, ACTION_NONE };

/* What stands behind the model's name and version. */
static enum action action_find(const struct route *route, uint32_t index)
{
    if (index == route->count) {
        return ACTION_METADATA;
    }
    if (index + 1 != route->count) {
        return ACTION_NONE;
    }
    return segment_is(route, index, "ready")    ? ACTION_READY
           : segment_is(route, index, "config") ? ACTION_CONFIG
           : segment_is(route, index, "infer")  ? ACTION_INFER
                                                : ACTION_NONE;
}

static bool is_get(const struct fm_http_request *http)
{
    return strcmp(http->method, "GET") == 0 || strcmp(http->method, "HEAD") == 0;
}

static void answer_model_ready(struct fm_http_request *http, const char *name, bool ready)
{
    struct document *document = document_create();
    if (document != NULL) {
        fm_messages_write_model_ready(&document->text, FM_MESSAGES_JSON, name, ready);
    }
    answer_document(http, ready ? 200 : 400, document, NULL);
}

/* /v2/models/NAME[/versions/VERSION][/ready|/config|/infer] */
static void handle_model(struct fm_serve *serve, struct fm_http_request *http,
                         const struct route *route)
{
    uint64_t version = 0;
    uint32_t next = 3;
    bool versioned = segment_is(route, 3, "versions");
    if (versioned) {
        if (route->count < 5 || route->segments[4][0] < '0' || route->segments[4][0] > '9' ||
            fm_parse_uint64(route->segments[4], &version) != 0 || version == 0) {
            fm_serve_answer_error(
                http, 400,
                "a model version in a path is a positive number, as in /v2/models/NAME/versions/1");
            return;
        }
        next = 5;
    }
    enum action action = action_find(route, next);
    if (action == ACTION_NONE) {
        fm_serve_answer_error(http, 404, "Not Found");
        return;
    }
    bool post = strcmp(http->method, "POST") == 0;
    if (action == ACTION_INFER ? !post : !is_get(http)) {
        answer_not_allowed(http, action == ACTION_INFER ? ALLOW_POST : ALLOW_READ);
        return;
    }
    struct fm_catalog_entry *entry = NULL;
    struct fm_error error = {0};
    int status =
        fm_catalog_view_find(serve->reader.view, route->segments[2], version, &entry, &error);
    if (action == ACTION_READY && (status == 0 || status == FM_EUNAVAILABLE)) {
        answer_model_ready(http, route->segments[2], status == 0 && !serve->draining);
    } else if (status != 0) {
        answer_status(http, &error);
    } else if (action == ACTION_INFER) {
        fm_serve_infer(serve, entry, http);
    } else if (action == ACTION_CONFIG) {
        answer_config(http, entry);
    } else {
        answer_metadata(serve, http, entry, !versioned);
    }
}

void fm_serve_handle(void *context, struct fm_http_request *http)
{
    struct fm_serve *serve = context;
    struct route route;
    if (strcmp(http->path, "*") == 0) {
        /* The server as a whole, which only OPTIONS may ask about. */
        answer_not_allowed(http, strcmp(http->method, "OPTIONS") == 0 ? ALLOW_SERVER : "OPTIONS");
        return;
    }
    if (!route_parse(&route, http->path) || !segment_is(&route, 0, "v2")) {
        fm_serve_answer_error(http, 404, "Not Found");
        return;
    }
    if (segment_is(&route, 1, "models") && route.count >= 3 && route.segments[2][0] != '\0') {
        handle_model(serve, http, &route);
        return;
    }
    bool index =
        route.count == 3 && segment_is(&route, 1, "repository") && segment_is(&route, 2, "index");
    bool control = route.count == 5 && segment_is(&route, 1, "repository") &&
                   segment_is(&route, 2, "models") &&
                   (segment_is(&route, 4, "load") || segment_is(&route, 4, "unload"));
    if (control && strcmp(http->method, "POST") != 0) {
        answer_not_allowed(http, ALLOW_POST);
        return;
    }
    if (control) {
        fm_serve_control_model(serve, http, route.segments[3], segment_is(&route, 4, "load"));
        return;
    }
    bool live =
        route.count == 3 && segment_is(&route, 1, "health") && segment_is(&route, 2, "live");
    bool ready =
        route.count == 3 && segment_is(&route, 1, "health") && segment_is(&route, 2, "ready");
    if (!index && !live && !ready && route.count != 1) {
        fm_serve_answer_error(http, 404, "Not Found");
    } else if (index ? strcmp(http->method, "POST") != 0 : !is_get(http)) {
        answer_not_allowed(http, index ? ALLOW_POST : ALLOW_READ);
    } else if (index) {
        fm_serve_control_index(serve, http);
    } else if (live) {
        answer_flag(http, "live", true);
    } else if (ready) {
        answer_flag(http, "ready", is_ready(serve));
    } else {
        answer_server(serve, http);
    }
}
