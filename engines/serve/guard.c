/*
 * The guard in front of both protocols: verdicts about access become answers. See
 * serve_internal.h and access.h.
 */
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "engines/serve/access_origin.h"
#include "engines/serve/serve_internal.h"
#include "host/os/os.h"

#define SECOND_NS UINT64_C(1000000000)

/* Of the dashboard's numbers, and of its pages besides what pages.c says: nobody's frame. */
#define PAGE_FIELDS                                                        \
    "X-Frame-Options: DENY\r\nCross-Origin-Opener-Policy: same-origin\r\n" \
    "Cross-Origin-Resource-Policy: same-origin\r\n"
#define NUMBERS_FIELDS PAGE_FIELDS "X-Content-Type-Options: nosniff\r\n"

/* Only where something is counted by it: most servers limit nobody. */
static uint64_t limit_now_ns(const struct fm_access_who *who)
{
    return who->limit.interval_ns != 0 || who->limit.in_flight_max != 0 ? fm_os_now_ns() : 0;
}

/* --- HTTP --- */

static bool is_preflight(const struct fm_http_request *http)
{
    return strcmp(http->method, "OPTIONS") == 0 &&
           fm_http_header_find(http, "Access-Control-Request-Method") != NULL;
}

/* What a browser says about where this comes from. */
static enum fm_access_verdict origin_check(const struct fm_serve_loop *loop,
                                           struct fm_http_request *http, enum fm_access_class class)
{
    const struct fm_serve_options *options = loop->serve->options;
    const char *origin = fm_http_header_find(http, "Origin");
    bool page = class == FM_ACCESS_OPEN || strncmp(http->path, "/debug/", 7) == 0;
    if (origin == NULL && !page) {
        return FM_ACCESS_GRANTED;
    }
    const char *host = fm_http_header_find(http, "Host");
    if (origin != NULL && class != FM_ACCESS_OBSERVE) {
        http->answer_fields = fm_access_cors(loop->serve->access, origin, is_preflight(http));
        if (http->answer_fields != NULL) {
            return FM_ACCESS_GRANTED;
        }
    }
    if ((origin != NULL || (page && strcmp(http->method, "OPTIONS") != 0)) &&
        !fm_access_host_is_known(host, options->allowed_hosts, options->allowed_host_count) &&
        !fm_access_host_is_known(host, &options->host, 1)) {
        return FM_ACCESS_HOST;
    }
    if (origin != NULL && !fm_access_origin_is_same(origin, host)) {
        return FM_ACCESS_ORIGIN;
    }
    return FM_ACCESS_GRANTED;
}

static void http_refuse(struct fm_http_request *http, enum fm_access_verdict verdict,
                        enum fm_access_class class, uint64_t wait_ns)
{
    const char *text = fm_access_verdict_text(verdict, class);
    struct fm_http_header header = {"WWW-Authenticate",
                                    fm_access_verdict_challenge(verdict, class)};
    char seconds[24];
    int status = verdict == FM_ACCESS_NO_TOKEN || verdict == FM_ACCESS_BAD_TOKEN ? 401 : 403;
    if (verdict == FM_ACCESS_RATE || verdict == FM_ACCESS_IN_FLIGHT ||
        verdict == FM_ACCESS_CROWDED) {
        status = verdict == FM_ACCESS_CROWDED ? 503 : 429;
        uint64_t wait_s = (wait_ns + SECOND_NS - 1) / SECOND_NS;
        (void)snprintf(seconds, sizeof seconds, "%llu",
                       (unsigned long long)(wait_s > 0 ? wait_s : 1));
        header = (struct fm_http_header){"Retry-After", seconds};
    }
    fm_serve_http_refuse(http, status, text, &header);
}

bool fm_serve_http_guard(struct fm_serve_loop *loop, struct fm_http_request *http,
                         enum fm_access_class class)
{
    struct fm_access *access = loop->serve->access;
    struct fm_peer peer = fm_http_request_peer(http);
    struct fm_access_credentials credentials = {0};
    uint64_t wait_ns = 0;
    if (fm_access_has_tokens(access)) {
        credentials.authorization = fm_http_header_find(http, "Authorization");
        credentials.api_key = fm_http_header_find(http, "X-API-Key");
    }
    enum fm_access_verdict verdict = origin_check(loop, http, class);
    enum fm_access_verdict known =
        fm_access_identify(&loop->seat, &peer, &credentials,
                           verdict == FM_ACCESS_GRANTED ? class : FM_ACCESS_OPEN, &loop->who);
    uint64_t now_ns = limit_now_ns(&loop->who);
    verdict = verdict != FM_ACCESS_GRANTED ? verdict : known;
    if (class != FM_ACCESS_OPEN && (class != FM_ACCESS_HEALTH || verdict != FM_ACCESS_GRANTED)) {
        /* Whoever guesses tokens uses up the address's share. */
        enum fm_access_verdict taken = fm_access_take(access, &loop->who, now_ns, &wait_ns);
        verdict = taken != FM_ACCESS_GRANTED ? taken : verdict;
    }
    if (verdict == FM_ACCESS_GRANTED && class == FM_ACCESS_INFER) {
        verdict = fm_access_enter(access, &loop->who, now_ns, &loop->slot);
    }
    if (class == FM_ACCESS_OPEN || class == FM_ACCESS_OBSERVE) {
        http->answer_fields = http->answer_fields != NULL ? http->answer_fields
                              : class == FM_ACCESS_OPEN   ? PAGE_FIELDS
                                                          : NUMBERS_FIELDS;
    }
    if (verdict != FM_ACCESS_GRANTED) {
        fm_access_refused(access, &loop->who, verdict, "http", fm_os_now_ns());
        http_refuse(http, verdict, class, wait_ns);
        return false;
    }
    if (http->answer_fields != NULL && is_preflight(http)) {
        const struct fm_http_answer answer = {.status = 200};
        fm_http_answer(http, &answer);
        return false;
    }
    return true;
}

void fm_serve_guard_end(struct fm_serve_loop *loop)
{
    fm_access_leave(loop->serve->access, loop->slot);
    loop->slot = 0;
}

/* --- gRPC --- */

static int grpc_code(enum fm_access_verdict verdict)
{
    return verdict == FM_ACCESS_NO_TOKEN || verdict == FM_ACCESS_BAD_TOKEN ? FM_GRPC_UNAUTHENTICATED
           : verdict == FM_ACCESS_NO_SCOPE ? FM_GRPC_PERMISSION_DENIED
                                           : FM_GRPC_RESOURCE_EXHAUSTED;
}

bool fm_serve_grpc_guard(struct fm_serve_loop *loop, struct fm_grpc_call *grpc,
                         enum fm_access_class class, bool stream, struct fm_access_who *ret_who)
{
    struct fm_access *access = loop->serve->access;
    struct fm_peer peer = fm_grpc_call_address(grpc);
    struct fm_access_credentials credentials = {0};
    uint64_t wait_ns = 0;
    if (fm_access_has_tokens(access)) {
        credentials.authorization = fm_grpc_call_metadata(grpc, "authorization");
        credentials.api_key = fm_grpc_call_metadata(grpc, "x-api-key");
    }
    enum fm_access_verdict verdict =
        fm_access_identify(&loop->seat, &peer, &credentials, class, ret_who);
    /* A stream's messages are counted one by one. */
    if (verdict != FM_ACCESS_GRANTED || (class != FM_ACCESS_HEALTH && !stream)) {
        enum fm_access_verdict taken =
            fm_access_take(access, ret_who, limit_now_ns(ret_who), &wait_ns);
        verdict = taken != FM_ACCESS_GRANTED ? taken : verdict;
    }
    if (verdict == FM_ACCESS_GRANTED) {
        return true;
    }
    char pause[24];
    uint64_t pause_ms = wait_ns / 1000000 + 1;
    (void)snprintf(pause, sizeof pause, "%llu", (unsigned long long)pause_ms);
    const struct fm_grpc_trailer trailer = {"grpc-retry-pushback-ms", pause};
    fm_access_refused(access, ret_who, verdict, "grpc", fm_os_now_ns());
    fm_grpc_finish(grpc, grpc_code(verdict), fm_access_verdict_text(verdict, class), &trailer,
                   verdict == FM_ACCESS_RATE || verdict == FM_ACCESS_CROWDED ? 1 : 0);
    return false;
}

int fm_serve_grpc_guard_infer(struct fm_grpc_service_call *call, struct fm_error *reterr)
{
    struct fm_serve_loop *loop = call->loop;
    struct fm_access *access = loop->serve->access;
    uint64_t now_ns = limit_now_ns(&call->who);
    uint64_t wait_ns = 0;
    enum fm_access_verdict verdict = call->unary_infer
                                         ? FM_ACCESS_GRANTED
                                         : fm_access_take(access, &call->who, now_ns, &wait_ns);
    if (verdict == FM_ACCESS_GRANTED) {
        verdict = fm_access_enter(access, &call->who, now_ns, &loop->slot);
    }
    if (verdict == FM_ACCESS_GRANTED) {
        return 0;
    }
    fm_access_refused(access, &call->who, verdict, "grpc", fm_os_now_ns());
    return fm_error_set(reterr, FM_ELIMIT, "%s", fm_access_verdict_text(verdict, FM_ACCESS_INFER));
}
