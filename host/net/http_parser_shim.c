/*
 * The shim over llhttp and http-parser. See http_parser_shim.h. Both libraries have the same
 * callbacks; they differ in how they are called, how they pause and how they report errors.
 */
#include "host/net/http_parser_shim.h"

#include <string.h>

#include "core/util/memory.h"

#if FM_HAVE_LLHTTP
#include <llhttp.h>
typedef llhttp_t parser_t;
typedef llhttp_settings_t settings_t;
enum { FLAG_CONTENT_LENGTH = F_CONTENT_LENGTH };
#else
#include <http_parser.h>
typedef http_parser parser_t;
typedef http_parser_settings settings_t;
enum { FLAG_CONTENT_LENGTH = F_CONTENTLENGTH };
#endif

struct fm_http_parser {
    parser_t parser;
    settings_t settings;
    const struct fm_http_parser_events *events;
    void *context;
    bool cancelled;
    bool complete;
    uint64_t content_length; /* the libraries count theirs down */
};

static int answer(struct fm_http_parser *shim, int result)
{
    shim->cancelled = shim->cancelled || result != 0;
    return result;
}

static int on_begin(parser_t *parser)
{
    struct fm_http_parser *shim = parser->data;
    return answer(shim, shim->events->begin(shim->context));
}

static int on_target(parser_t *parser, const char *data, size_t length)
{
    struct fm_http_parser *shim = parser->data;
    return answer(shim, shim->events->target(shim->context, data, length));
}

static int on_header_name(parser_t *parser, const char *data, size_t length)
{
    struct fm_http_parser *shim = parser->data;
    return answer(shim, shim->events->header_name(shim->context, data, length));
}

static int on_header_value(parser_t *parser, const char *data, size_t length)
{
    struct fm_http_parser *shim = parser->data;
    return answer(shim, shim->events->header_value(shim->context, data, length));
}

static int on_head_complete(parser_t *parser)
{
    struct fm_http_parser *shim = parser->data;
    /* We never switch protocols: a request that offers to is an ordinary request. */
    parser->upgrade = 0;
    shim->content_length = (parser->flags & FLAG_CONTENT_LENGTH) != 0 ? parser->content_length : 0;
    return answer(shim, shim->events->head_complete(shim->context));
}

static int on_chunk(parser_t *parser)
{
    struct fm_http_parser *shim = parser->data;
    return answer(shim, shim->events->chunk(shim->context));
}

static int on_body(parser_t *parser, const char *data, size_t length)
{
    struct fm_http_parser *shim = parser->data;
    return answer(shim, shim->events->body(shim->context, data, length));
}

/* Stops behind each message, so that the next one waits until this one was answered. */
static int on_complete(parser_t *parser)
{
    struct fm_http_parser *shim = parser->data;
    shim->complete = true;
#if FM_HAVE_LLHTTP
    return HPE_PAUSED;
#else
    http_parser_pause(parser, 1);
    return 0;
#endif
}

static struct fm_http_parser *create(const struct fm_http_parser_events *events, void *context,
                                     bool answers)
{
    struct fm_http_parser *shim = fm_alloc_zero(1, sizeof(*shim));
    if (shim == NULL) {
        return NULL;
    }
    shim->events = events;
    shim->context = context;
#if FM_HAVE_LLHTTP
    llhttp_settings_init(&shim->settings);
#else
    http_parser_settings_init(&shim->settings);
#endif
    shim->settings.on_message_begin = on_begin;
    shim->settings.on_url = answers ? NULL : on_target;
    shim->settings.on_header_field = on_header_name;
    shim->settings.on_header_value = on_header_value;
    shim->settings.on_headers_complete = on_head_complete;
    shim->settings.on_chunk_header = on_chunk;
    shim->settings.on_body = on_body;
    shim->settings.on_message_complete = on_complete;
#if FM_HAVE_LLHTTP
    llhttp_init(&shim->parser, answers ? HTTP_RESPONSE : HTTP_REQUEST, &shim->settings);
#else
    http_parser_init(&shim->parser, answers ? HTTP_RESPONSE : HTTP_REQUEST);
#endif
    shim->parser.data = shim;
    return shim;
}

struct fm_http_parser *fm_http_parser_create(const struct fm_http_parser_events *events,
                                             void *context)
{
    return create(events, context, false);
}

struct fm_http_parser *fm_http_parser_create_answers(const struct fm_http_parser_events *events,
                                                     void *context)
{
    return create(events, context, true);
}

unsigned fm_http_parser_status(const struct fm_http_parser *shim)
{
    return shim->parser.status_code;
}

void fm_http_parser_free(struct fm_http_parser *parser)
{
    fm_free(parser);
}

#if FM_HAVE_LLHTTP

int fm_http_parser_feed(struct fm_http_parser *shim, const char *data, size_t length,
                        size_t *ret_consumed)
{
    shim->complete = false;
    llhttp_errno_t error = llhttp_execute(&shim->parser, data, length);
    *ret_consumed = length;
    if (error == HPE_OK) {
        return 0;
    }
    const char *position = llhttp_get_error_pos(&shim->parser);
    *ret_consumed = position != NULL ? (size_t)(position - data) : 0;
    if (error == HPE_PAUSED && shim->complete) {
        llhttp_resume(&shim->parser);
        return FM_EAGAIN;
    }
    return shim->cancelled ? FM_ECANCELLED : FM_EINVAL;
}

bool fm_http_parser_finish(struct fm_http_parser *shim)
{
    shim->complete = false;
    (void)llhttp_finish(&shim->parser);
    return shim->complete;
}

const char *fm_http_parser_problem(const struct fm_http_parser *shim)
{
    const char *reason = llhttp_get_error_reason(&shim->parser);
    return reason != NULL && reason[0] != '\0' ? reason
                                               : llhttp_errno_name(llhttp_get_errno(&shim->parser));
}

const char *fm_http_parser_method(const struct fm_http_parser *shim)
{
    return llhttp_method_name((llhttp_method_t)shim->parser.method);
}

bool fm_http_parser_keep_alive(const struct fm_http_parser *shim)
{
    return llhttp_should_keep_alive(&shim->parser) != 0;
}

#else

int fm_http_parser_feed(struct fm_http_parser *shim, const char *data, size_t length,
                        size_t *ret_consumed)
{
    shim->complete = false;
    *ret_consumed = http_parser_execute(&shim->parser, &shim->settings, data, length);
    enum http_errno error = HTTP_PARSER_ERRNO(&shim->parser);
    if (error == HPE_PAUSED && shim->complete) {
        http_parser_pause(&shim->parser, 0);
        return FM_EAGAIN;
    }
    if (error == HPE_OK) {
        return 0;
    }
    if (shim->cancelled) {
        return FM_ECANCELLED;
    }
    return error == HPE_HEADER_OVERFLOW ? FM_ETOOLARGE : FM_EINVAL;
}

bool fm_http_parser_finish(struct fm_http_parser *shim)
{
    shim->complete = false;
    (void)http_parser_execute(&shim->parser, &shim->settings, "", 0);
    return shim->complete;
}

const char *fm_http_parser_problem(const struct fm_http_parser *shim)
{
    return http_errno_description(HTTP_PARSER_ERRNO(&shim->parser));
}

const char *fm_http_parser_method(const struct fm_http_parser *shim)
{
    return http_method_str((enum http_method)shim->parser.method);
}

bool fm_http_parser_keep_alive(const struct fm_http_parser *shim)
{
    return http_should_keep_alive(&shim->parser) != 0;
}

#endif

bool fm_http_parser_is_1_0(const struct fm_http_parser *shim)
{
    return shim->parser.http_major < 1 ||
           (shim->parser.http_major == 1 && shim->parser.http_minor == 0);
}

bool fm_http_parser_is_chunked(const struct fm_http_parser *shim)
{
    return (shim->parser.flags & F_CHUNKED) != 0;
}

uint64_t fm_http_parser_content_length(const struct fm_http_parser *shim)
{
    return shim->content_length;
}
