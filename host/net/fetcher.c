/*
 * Getting objects over HTTP. See fetcher.h.
 */
#include "host/net/fetcher.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/proto/s3.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/os.h"
#include "host/os/thread.h"

/* Of an answer that is a failure, in which a store says why. */
enum { FAILURE_BYTES_MAX = 1 << 16, URL_SHOWN = 200, PARTIAL = 206, IDLE_MS = 60000 };
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)
/* So often whoever waits for a fetch looks whether it is to stop. */
#define STOP_LOOK_NS (100 * NS_PER_MS)
/* For so long at most the first transfer is alone: what it finds out is known to the others then.
 * Else each of them would look for the server's address, on a thread of libcurl's with a stack of
 * its own, and none would know that one connection can carry all (HTTP/2). */
#define ALONE_NS (100 * NS_PER_MS)
/* S3 wants the digest of what is sent, here of nothing, in each signed request; libcurl before 8
 * leaves it out, and takes over and signs the one that is given. */
#define NOTHING_DIGEST \
    "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* A place, with what libcurl needs for it; used again and again. */
struct fm_fetch_transfer {
    CURL *curl;
    struct fm_fetcher *fetcher;
    struct fm_fetch *fetch; /* NULL: it is free */
    bool too_large;
    bool no_memory;
    bool enough; /* it is a failure, of which the rest is not wanted */
    char words[CURL_ERROR_SIZE];
};

struct fetch_list {
    struct fm_fetch *first;
    struct fm_fetch *last;
};

struct fm_fetcher {
    struct fm_fetcher_options options;
    char *ca_file;
    char *user; /* "access key:secret key" */
    char *region;
    struct curl_slist *headers; /* of requests that are not signed */
    struct curl_slist *store_headers;
    CURLM *multi;
    struct fm_thread thread;
    /* Of the thread. */
    struct fm_fetch_transfer *transfers;
    uint32_t transfer_count;
    uint32_t active;
    uint64_t crowd_ns; /* when there may be more than one: ALONE_NS behind the first; 0: it has not
                          begun */
    struct fetch_list waiting;
    /* Behind the lock. */
    struct fm_mutex mutex;
    struct fetch_list submitted;
    bool begun; /* the thread */
    bool cancelled;
    bool ending;
};

static void list_push(struct fetch_list *list, struct fm_fetch *fetch)
{
    fetch->next = NULL;
    if (list->last != NULL) {
        list->last->next = fetch;
    } else {
        list->first = fetch;
    }
    list->last = fetch;
}

/* --- Words --- */

/* An address without what stands behind its '?', where signatures are. */
static int shown_length(const char *url)
{
    size_t length = strcspn(url, "?#");
    return length < URL_SHOWN ? (int)length : URL_SHOWN;
}

static int fail(struct fm_fetch *fetch, int status, const char *words)
{
    const char *name = fetch->name != NULL ? fetch->name : fetch->url;
    return fm_error_set(&fetch->error, status, "%.*s: %s", shown_length(name), name, words);
}

/* --- What ends --- */

static void end(struct fm_fetch *fetch, int status)
{
    fm_free(fetch->target);
    fetch->target = NULL;
    fetch->status = status;
    fetch->done(fetch);
}

static void end_cancelled(struct fm_fetch *fetch)
{
    end(fetch, fail(fetch, FM_ECANCELLED, "not fetched: the work is being given up"));
}

/* Puts it back behind the others, to be begun when it is due. */
static void wait_again(struct fm_fetcher *fetcher, struct fm_fetch *fetch, uint64_t pause_ns)
{
    fetch->due_ns = pause_ns > 0 ? fm_os_now_ns() + pause_ns : 0;
    list_push(&fetcher->waiting, fetch);
}

static bool is_passing(CURLcode result)
{
    switch ((int)result) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return true;
    default:
        return false;
    }
}

static int status_of_result(CURLcode result)
{
    switch ((int)result) {
    case CURLE_OUT_OF_MEMORY:
        return FM_ENOMEM;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return FM_EINVAL;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return FM_EPERM;
    case CURLE_OPERATION_TIMEDOUT:
        return FM_EDEADLINE;
    default:
        return FM_EUNAVAILABLE;
    }
}

static bool is_passing_code(long code)
{
    return code == 408 || code == 429 || code >= 500;
}

static int status_of_code(long code)
{
    int status = code == 410   ? FM_ENOTFOUND
                 : code == 401 ? FM_EPERM
                               : fm_status_from_http((int)code);
    bool known = status == FM_ENOTFOUND || status == FM_EPERM;
    return known ? status : is_passing_code(code) ? FM_EUNAVAILABLE : FM_EINVAL;
}

/* What the server says, with the store's own words where there are some. */
static int fail_code(struct fm_fetch_transfer *transfer, struct fm_fetch *fetch, long code)
{
    char store[128] = "";
    char words[320];
    const char *advice = "";
    struct curl_header *region = NULL;
    if (fetch->of_store) {
        fm_s3_error_read(fetch->body.data, fetch->body.length, store, sizeof(store));
        bool elsewhere = (code == 301 || code == 307 || code == 400) &&
                         curl_easy_header(transfer->curl, "x-amz-bucket-region", 0, CURLH_HEADER,
                                          -1, &region) == CURLHE_OK;
        advice = elsewhere ? "; set AWS_REGION to the bucket's region, " : "";
    }
    (void)snprintf(words, sizeof(words), "the server answers with status %ld%s%s%s%s%.60s", code,
                   store[0] != '\0' ? " (" : "", store, store[0] != '\0' ? ")" : "", advice,
                   region != NULL ? region->value : "");
    return fail(fetch, status_of_code(code), words);
}

static int fail_result(const struct fm_fetch_transfer *transfer, struct fm_fetch *fetch,
                       CURLcode result)
{
    char words[128];
    if (transfer->no_memory) {
        return fail(fetch, FM_ENOMEM, "out of memory for the object");
    }
    if (transfer->too_large) {
        (void)snprintf(words, sizeof(words), "the object is larger than the limit of %zu bytes",
                       fetch->bytes_max);
        return fail(fetch, FM_ETOOLARGE, words);
    }
    return fail(fetch, status_of_result(result),
                transfer->words[0] != '\0' ? transfer->words : curl_easy_strerror(result));
}

/* --- Redirects --- */

/* Whether both are of one server: scheme, host and port. */
static bool is_same_server(const char *one, const char *other)
{
    static const CURLUPart parts[] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT};
    CURLU *left = curl_url();
    CURLU *right = curl_url();
    bool same = left != NULL && right != NULL &&
                curl_url_set(left, CURLUPART_URL, one, 0) == CURLUE_OK &&
                curl_url_set(right, CURLUPART_URL, other, 0) == CURLUE_OK;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && same; i++) {
        char *a = NULL;
        char *b = NULL;
        same = curl_url_get(left, parts[i], &a, CURLU_DEFAULT_PORT) == CURLUE_OK &&
               curl_url_get(right, parts[i], &b, CURLU_DEFAULT_PORT) == CURLUE_OK &&
               strcasecmp(a, b) == 0;
        curl_free(a);
        curl_free(b);
    }
    curl_url_cleanup(left);
    curl_url_cleanup(right);
    return same;
}

/* Goes on where the server says. Followed here and not by libcurl, which would send our headers,
 * with the secrets in them, to any other server too. */
static int redirect(struct fm_fetcher *fetcher, struct fm_fetch_transfer *transfer,
                    struct fm_fetch *fetch)
{
    char *where = NULL;
    const char *from = fetch->target != NULL ? fetch->target : fetch->url;
    if (curl_easy_getinfo(transfer->curl, CURLINFO_REDIRECT_URL, &where) != CURLE_OK ||
        where == NULL) {
        return fail(fetch, FM_EINVAL, "the server redirects, but does not say whereto");
    }
    bool secure = strncasecmp(from, "https:", 6) == 0;
    bool web = strncasecmp(where, "https:", 6) == 0 || strncasecmp(where, "http:", 5) == 0;
    if (!web || (secure && strncasecmp(where, "https:", 6) != 0)) {
        return fail(fetch, FM_EPERM, "the server redirects to what is no HTTPS, or no HTTP at all");
    }
    if (fetch->redirects++ == FM_FETCH_REDIRECTS_MAX) {
        return fail(fetch, FM_EINVAL, "the server redirects again and again");
    }
    char *target = fm_strdup(where);
    if (target == NULL) {
        return fail(fetch, FM_ENOMEM, "out of memory");
    }
    fetch->strange = fetch->strange || !is_same_server(from, target);
    fm_free(fetch->target);
    fetch->target = target;
    wait_again(fetcher, fetch, 0);
    return 0;
}

/* --- Transfers --- */

static size_t body_add(char *data, size_t size, size_t count, void *context)
{
    struct fm_fetch_transfer *transfer = context;
    struct fm_fetch *fetch = transfer->fetch;
    struct fm_text *body = &fetch->body;
    size_t bytes = size * count;
    long code = 0;
    curl_off_t length = -1;
    curl_easy_getinfo(transfer->curl, CURLINFO_RESPONSE_CODE, &code);
    if (code < 200 || code > 299) {
        size_t room = FAILURE_BYTES_MAX - body->length;
        fm_text_append(body, data, bytes < room ? bytes : room);
        transfer->enough = code >= 400 && bytes > room;
        return transfer->enough ? 0 : bytes;
    }
    curl_easy_getinfo(transfer->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    transfer->too_large = bytes > fetch->bytes_max - body->length ||
                          (length > 0 && (uint64_t)length > fetch->bytes_max);
    if (transfer->too_large) {
        return 0;
    }
    if (body->length == 0 && length > 0 && fm_text_reserve(body, (size_t)length) != NULL) {
        fm_text_clear(body); /* the memory stays: once for the whole object */
    }
    fm_text_append(body, data, bytes);
    transfer->no_memory = body->failed;
    return body->failed ? 0 : bytes;
}

static void options_set(struct fm_fetcher *fetcher, struct fm_fetch_transfer *transfer,
                        const struct fm_fetch *fetch)
{
    const struct fm_fetcher_options *options = &fetcher->options;
    CURL *curl = transfer->curl;
    bool is_signed = fetch->of_store && fetcher->user != NULL;
    curl_easy_reset(curl);
    transfer->words[0] = '\0';
    transfer->too_large = false;
    transfer->no_memory = false;
    transfer->enough = false;
    curl_easy_setopt(curl, CURLOPT_URL, fetch->target != NULL ? fetch->target : fetch->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, transfer->words);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, body_add);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS,
                     (long)(options->connect_timeout_ns / NS_PER_MS));
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, (long)FM_FETCH_RATE_LEAST);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)(options->stall_timeout_ns / NS_PER_S));
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "fermata");
    if (fetcher->ca_file != NULL) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, fetcher->ca_file);
        curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    }
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, fetch->of_store ? 1L : 0L);
    if (is_signed) {
        char provider[96];
        (void)snprintf(provider, sizeof(provider), "aws:amz:%s:s3", fetcher->region);
        curl_easy_setopt(curl, CURLOPT_AWS_SIGV4, provider);
        curl_easy_setopt(curl, CURLOPT_USERPWD, fetcher->user);
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fetcher->store_headers);
    } else if (!fetch->of_store && !fetch->strange) {
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fetcher->headers);
    }
}

static void transfer_begin(struct fm_fetcher *fetcher, struct fm_fetch *fetch)
{
    struct fm_fetch_transfer *transfer = fetcher->transfers;
    while (transfer->fetch != NULL) {
        transfer++;
    }
    if (transfer->curl == NULL) {
        transfer->curl = curl_easy_init();
        transfer->fetcher = fetcher;
    }
    if (transfer->curl == NULL) {
        end(fetch, fail(fetch, FM_ENOMEM, "out of memory for a transfer"));
        return;
    }
    fm_text_clear(&fetch->body);
    fetch->attempts += fetch->target == NULL ? 1 : 0;
    fetch->transfer = transfer;
    transfer->fetch = fetch;
    options_set(fetcher, transfer, fetch);
    if (curl_multi_add_handle(fetcher->multi, transfer->curl) != CURLM_OK) {
        transfer->fetch = NULL;
        end(fetch, fail(fetch, FM_ENOMEM, "out of memory for a transfer"));
        return;
    }
    fetcher->active++;
    fetcher->crowd_ns = fetcher->crowd_ns > 0 ? fetcher->crowd_ns : fm_os_now_ns() + ALONE_NS;
}

static void transfer_release(struct fm_fetcher *fetcher, struct fm_fetch_transfer *transfer)
{
    curl_multi_remove_handle(fetcher->multi, transfer->curl);
    transfer->fetch->transfer = NULL;
    transfer->fetch = NULL;
    fetcher->active--;
}

/* How long to wait before the next attempt. */
static uint64_t pause_of(const struct fm_fetcher *fetcher, struct fm_fetch_transfer *transfer,
                         const struct fm_fetch *fetch)
{
    uint64_t pause_ns = fetcher->options.pause_ns;
    curl_off_t seconds = 0;
    for (uint32_t i = 1; i < fetch->attempts && pause_ns < FM_FETCH_PAUSE_MAX_NS; i++) {
        pause_ns *= 4;
    }
    curl_easy_getinfo(transfer->curl, CURLINFO_RETRY_AFTER, &seconds);
    if (seconds > 0 && (uint64_t)seconds * NS_PER_S > pause_ns) {
        pause_ns = (uint64_t)seconds * NS_PER_S;
    }
    return pause_ns < FM_FETCH_PAUSE_MAX_NS ? pause_ns : FM_FETCH_PAUSE_MAX_NS;
}

/* libcurl is through with a transfer. */
static void transfer_end(struct fm_fetcher *fetcher, struct fm_fetch_transfer *transfer,
                         CURLcode result)
{
    struct fm_fetch *fetch = transfer->fetch;
    long code = 0;
    int status = 0;
    curl_easy_getinfo(transfer->curl, CURLINFO_RESPONSE_CODE, &code);
    bool passing = false;
    bool moved = false;
    if (result != CURLE_OK && !transfer->enough) {
        passing = is_passing(result);
        status = fail_result(transfer, fetch, result);
    } else if (code >= 300 && code <= 399 && !fetch->of_store) {
        status = redirect(fetcher, transfer, fetch);
        moved = status == 0;
    } else if (code < 200 || code > 299 || code == PARTIAL) { /* no part was asked for */
        passing = is_passing_code(code);
        status = fail_code(transfer, fetch, code);
    }
    uint64_t pause_ns = passing ? pause_of(fetcher, transfer, fetch) : 0;
    fetcher->crowd_ns = 1; /* in the past */
    transfer_release(fetcher, transfer);
    if (moved) {
        return;
    }
    if (passing && fetch->attempts < fetcher->options.attempts_max) {
        fm_free(fetch->target);
        fetch->target = NULL;
        fetch->strange = false;
        fetch->redirects = 0;
        wait_again(fetcher, fetch, pause_ns);
        return;
    }
    end(fetch, status);
}

/* --- The thread --- */

/* Begins what is due, as far as there are places. Returns when the next one is; UINT64_MAX: nothing
 * waits for a time. */
static uint64_t begin_due(struct fm_fetcher *fetcher)
{
    uint64_t now_ns = fm_os_now_ns();
    uint64_t next_ns = UINT64_MAX;
    struct fetch_list waiting = fetcher->waiting;
    fetcher->waiting = (struct fetch_list){0};
    while (waiting.first != NULL) {
        struct fm_fetch *fetch = waiting.first;
        waiting.first = fetch->next;
        bool alone = fetcher->active > 0 && fetcher->crowd_ns > now_ns;
        if (fetch->due_ns <= now_ns && fetcher->active < fetcher->transfer_count && !alone) {
            transfer_begin(fetcher, fetch);
            continue;
        }
        uint64_t due_ns =
            alone && fetcher->crowd_ns > fetch->due_ns ? fetcher->crowd_ns : fetch->due_ns;
        next_ns = due_ns > now_ns && due_ns < next_ns ? due_ns : next_ns;
        list_push(&fetcher->waiting, fetch);
    }
    return next_ns;
}

/* Whether there were any: then there may be places for others. */
static bool take_results(struct fm_fetcher *fetcher)
{
    int left = 0;
    bool any = false;
    CURLMsg *message = NULL;
    while ((message = curl_multi_info_read(fetcher->multi, &left)) != NULL) {
        struct fm_fetch_transfer *transfer = NULL;
        CURLcode result = message->data.result; /* removing the handle invalidates the message */
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
        transfer_end(fetcher, transfer, result);
        any = true;
    }
    return any;
}

static void give_up_all(struct fm_fetcher *fetcher)
{
    struct fetch_list waiting = fetcher->waiting;
    fetcher->waiting = (struct fetch_list){0};
    while (waiting.first != NULL) {
        struct fm_fetch *fetch = waiting.first;
        waiting.first = fetch->next;
        end_cancelled(fetch);
    }
    for (uint32_t i = 0; i < fetcher->transfer_count; i++) {
        struct fm_fetch_transfer *transfer = &fetcher->transfers[i];
        struct fm_fetch *fetch = transfer->fetch;
        if (fetch != NULL) {
            transfer_release(fetcher, transfer);
            end_cancelled(fetch);
        }
    }
}

/* What was submitted meanwhile. False: it is time to end. */
static bool take_orders(struct fm_fetcher *fetcher, bool *ret_cancelled)
{
    fm_mutex_lock(&fetcher->mutex);
    struct fetch_list submitted = fetcher->submitted;
    fetcher->submitted = (struct fetch_list){0};
    *ret_cancelled = fetcher->cancelled;
    bool ending = fetcher->ending;
    fm_mutex_unlock(&fetcher->mutex);
    while (submitted.first != NULL) {
        struct fm_fetch *fetch = submitted.first;
        submitted.first = fetch->next;
        list_push(&fetcher->waiting, fetch);
    }
    return !ending;
}

static void thread_run(void *argument)
{
    struct fm_fetcher *fetcher = argument;
    bool cancelled = false;
    while (take_orders(fetcher, &cancelled)) {
        if (cancelled) {
            give_up_all(fetcher);
        }
        int running = 0;
        uint64_t next_ns = begin_due(fetcher);
        curl_multi_perform(fetcher->multi, &running);
        if (take_results(fetcher)) {
            continue;
        }
        uint64_t now_ns = fm_os_now_ns();
        uint64_t wait_ms = next_ns == UINT64_MAX ? IDLE_MS
                           : next_ns > now_ns    ? (next_ns - now_ns) / NS_PER_MS + 1
                                                 : 0;
        curl_multi_poll(fetcher->multi, NULL, 0, (int)(wait_ms < IDLE_MS ? wait_ms : IDLE_MS),
                        NULL);
    }
    give_up_all(fetcher);
}

/* --- Life --- */

static int slist_add(struct curl_slist **list, const char *line)
{
    struct curl_slist *grown = curl_slist_append(*list, line);
    *list = grown != NULL ? grown : *list;
    return grown != NULL ? 0 : FM_ENOMEM;
}

/* One line of the headers; an empty one is none, and so is one that begins with '#'. */
static int header_add(struct fm_fetcher *fetcher, const char *line, size_t length, size_t number,
                      struct fm_error *reterr)
{
    const char *colon = memchr(line, ':', length);
    if (length == 0 || line[0] == '#') {
        return 0;
    }
    if (colon == NULL || colon == line || memchr(line, ' ', (size_t)(colon - line)) != NULL ||
        memchr(line, '\0', length) != NULL) {
        return fm_error_set(reterr, FM_EINVAL, "line %zu must read 'Name: value'", number);
    }
    char *copy = fm_alloc(length + 1);
    if (copy == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for headers");
    }
    memcpy(copy, line, length);
    copy[length] = '\0';
    int status = slist_add(&fetcher->headers, copy);
    fm_free(copy);
    return status == 0 ? 0 : fm_error_set(reterr, status, "out of memory for headers");
}

static int headers_make(struct fm_fetcher *fetcher, const char *lines, struct fm_error *reterr)
{
    int status = 0;
    size_t number = 1;
    for (const char *line = lines; line != NULL && status == 0; number++) {
        const char *newline = strchr(line, '\n');
        size_t length = newline != NULL ? (size_t)(newline - line) : strlen(line);
        if (length > 0 && line[length - 1] == '\r') {
            status = header_add(fetcher, line, length - 1, number, reterr);
        } else {
            status = header_add(fetcher, line, length, number, reterr);
        }
        line = newline != NULL ? newline + 1 : NULL;
    }
    return status;
}

static int signature_make(struct fm_fetcher *fetcher, const struct fm_fetch_signature *signature)
{
    struct fm_text text = {0};
    if (signature == NULL) {
        return 0;
    }
    fm_text_append_format(&text, "%s:%s", signature->access_key, signature->secret_key);
    fetcher->user = fm_text_take(&text);
    fetcher->region = fm_strdup(signature->region);
    int status = fetcher->user == NULL || fetcher->region == NULL ? FM_ENOMEM : 0;
    status = status != 0 ? status : slist_add(&fetcher->store_headers, NOTHING_DIGEST);
    if (status == 0 && signature->session_token != NULL) {
        struct fm_text token = {0};
        fm_text_append_format(&token, "x-amz-security-token: %s", signature->session_token);
        status = token.failed ? FM_ENOMEM : slist_add(&fetcher->store_headers, token.data);
        fm_text_deinit(&token);
    }
    return status;
}

static void fetcher_free(struct fm_fetcher *fetcher)
{
    for (uint32_t i = 0; i < fetcher->transfer_count; i++) {
        curl_easy_cleanup(fetcher->transfers[i].curl);
    }
    fm_free(fetcher->transfers);
    curl_multi_cleanup(fetcher->multi);
    curl_slist_free_all(fetcher->headers);
    curl_slist_free_all(fetcher->store_headers);
    fm_free(fetcher->ca_file);
    fm_free(fetcher->user);
    fm_free(fetcher->region);
    fm_mutex_deinit(&fetcher->mutex);
    fm_free(fetcher);
}

static int fetcher_fill(struct fm_fetcher *fetcher, const struct fm_fetcher_options *options)
{
    fetcher->transfers = fm_alloc_zero(options->transfers_max, sizeof(*fetcher->transfers));
    fetcher->transfer_count = fetcher->transfers != NULL ? options->transfers_max : 0;
    fetcher->multi = curl_multi_init();
    fetcher->ca_file = options->ca_file != NULL ? fm_strdup(options->ca_file) : NULL;
    if (fetcher->transfers == NULL || fetcher->multi == NULL ||
        (options->ca_file != NULL && fetcher->ca_file == NULL)) {
        return FM_ENOMEM;
    }
    curl_multi_setopt(fetcher->multi, CURLMOPT_MAXCONNECTS, (long)options->transfers_max);
    return signature_make(fetcher, options->signature);
}

int fm_fetcher_create(const struct fm_fetcher_options *options, struct fm_fetcher **ret_fetcher,
                      struct fm_error *reterr)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return fm_error_set(reterr, FM_ENOMEM, "cannot start libcurl");
    }
    struct fm_fetcher *fetcher = fm_alloc_zero(1, sizeof(*fetcher));
    if (fetcher == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    fetcher->options = *options;
    fm_mutex_init(&fetcher->mutex);
    int status = headers_make(fetcher, options->headers, reterr);
    if (status == 0 && fetcher_fill(fetcher, options) != 0) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory for transfers");
    }
    if (status != 0) {
        fetcher_free(fetcher);
        return status;
    }
    *ret_fetcher = fetcher;
    return 0;
}

void fm_fetcher_submit(struct fm_fetcher *fetcher, struct fm_fetch *fetch)
{
    fetch->status = 0;
    fetch->attempts = 0;
    fetch->redirects = 0;
    fetch->target = NULL;
    fetch->strange = false;
    fetch->due_ns = 0;
    fm_error_init(&fetch->error);
    fm_mutex_lock(&fetcher->mutex);
    int status =
        fetcher->begun ? 0 : fm_thread_start(&fetcher->thread, "fm-fetch", thread_run, fetcher);
    fetcher->begun = status == 0;
    if (status == 0) {
        list_push(&fetcher->submitted, fetch);
    }
    fm_mutex_unlock(&fetcher->mutex);
    if (status != 0) {
        end(fetch, fail(fetch, status, "cannot start the thread that fetches"));
        return;
    }
    curl_multi_wakeup(fetcher->multi);
}

/* Somebody waits for one fetch. */
struct wait {
    struct fm_fetch fetch;
    struct fm_mutex mutex;
    struct fm_condition condition;
    bool over;
};

static void wait_over(struct fm_fetch *fetch)
{
    struct wait *wait = FM_CONTAINER_OF(fetch, struct wait, fetch);
    fm_mutex_lock(&wait->mutex);
    wait->over = true;
    fm_condition_signal(&wait->condition);
    fm_mutex_unlock(&wait->mutex);
}

int fm_fetcher_run(struct fm_fetcher *fetcher, const atomic_bool *stopping, struct fm_fetch *fetch)
{
    struct wait wait = {.fetch = *fetch};
    wait.fetch.done = wait_over;
    fm_mutex_init(&wait.mutex);
    fm_condition_init(&wait.condition);
    fm_fetcher_submit(fetcher, &wait.fetch);
    fm_mutex_lock(&wait.mutex);
    while (!wait.over) {
        if (stopping == NULL) {
            fm_condition_wait(&wait.condition, &wait.mutex);
            continue;
        }
        if (atomic_load(stopping)) {
            fm_fetcher_cancel(fetcher);
        }
        (void)fm_condition_wait_until(&wait.condition, &wait.mutex, fm_os_now_ns() + STOP_LOOK_NS);
    }
    fm_mutex_unlock(&wait.mutex);
    fm_condition_deinit(&wait.condition);
    fm_mutex_deinit(&wait.mutex);
    *fetch = wait.fetch;
    return fetch->status;
}

void fm_fetcher_cancel(struct fm_fetcher *fetcher)
{
    fm_mutex_lock(&fetcher->mutex);
    fetcher->cancelled = true;
    fm_mutex_unlock(&fetcher->mutex);
    curl_multi_wakeup(fetcher->multi);
}

void fm_fetcher_destroy(struct fm_fetcher *fetcher)
{
    if (fetcher == NULL) {
        return;
    }
    fm_mutex_lock(&fetcher->mutex);
    fetcher->ending = true;
    fm_mutex_unlock(&fetcher->mutex);
    curl_multi_wakeup(fetcher->multi);
    fm_thread_join(&fetcher->thread);
    fetcher_free(fetcher);
}
