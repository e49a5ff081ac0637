/*
 * The exporter's thread. See otlp_exporter.h.
 */
#include "host/net/otlp_exporter.h"

#include <curl/curl.h>
#include <string.h>
#include <strings.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/os.h"
#include "host/os/thread.h"

#define QUEUE_DEFAULT      8192u
#define BATCH_DEFAULT      512u
#define ATTEMPTS_DEFAULT   5u
#define DELAY_DEFAULT_NS   UINT64_C(1000000000)
#define TIMEOUT_DEFAULT_NS UINT64_C(10000000000)
#define PAUSE_DEFAULT_NS   UINT64_C(500000000)
#define PAUSE_MAX_NS       UINT64_C(30000000000)
#define TRACES_PATH        "/v1/traces"

struct fm_otlp_exporter {
    char *url;
    char *service_name;
    char *service_version;
    char *host;
    struct curl_slist *headers;
    CURL *curl; /* the thread's */
    uint32_t batch_max;
    uint32_t attempts_max;
    uint64_t delay_ns;
    uint64_t timeout_ns;
    uint64_t pause_ns;
    struct fm_otlp_span *batch; /* the thread's */
    struct fm_thread thread;
    struct fm_mutex mutex;
    struct fm_condition condition; /* a batch is full, or stopping */
    /* Behind the mutex. */
    struct fm_otlp_span *queue; /* a ring */
    uint32_t queue_max;
    uint32_t first;
    uint32_t count;
    uint64_t oldest_ns; /* when the queue ceased to be empty */
    uint64_t sent;
    uint64_t dropped;
    uint64_t failed;
    bool stopping;
    uint64_t stop_by_ns;
};

/* --- Sending --- */

/* What the collector answers is of no use; it must go somewhere all the same. */
static size_t answer_ignore(char *data, size_t size, size_t count, void *context)
{
    (void)data;
    (void)context;
    return size * count;
}

static bool stopping_read(struct fm_otlp_exporter *exporter, uint64_t *ret_stop_by_ns)
{
    fm_mutex_lock(&exporter->mutex);
    bool stopping = exporter->stopping;
    *ret_stop_by_ns = exporter->stop_by_ns;
    fm_mutex_unlock(&exporter->mutex);
    return stopping;
}

/* libcurl asks now and then: a connection that hangs must not outlast the grace at the end. */
static int progress_check(void *context, curl_off_t total_down, curl_off_t down,
                          curl_off_t total_up, curl_off_t up)
{
    (void)total_down;
    (void)down;
    (void)total_up;
    (void)up;
    uint64_t stop_by_ns;
    return stopping_read(context, &stop_by_ns) && fm_os_now_ns() >= stop_by_ns ? 1 : 0;
}

enum outcome { OUTCOME_SENT, OUTCOME_AGAIN, OUTCOME_REFUSED };

static enum outcome attempt(struct fm_otlp_exporter *exporter, const struct fm_text *body)
{
    CURL *curl = exporter->curl;
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body->data);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->length);
    long code = 0;
    if (curl_easy_perform(curl) != CURLE_OK) {
        return OUTCOME_AGAIN;
    }
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    if (code >= 200 && code < 300) {
        return OUTCOME_SENT;
    }
    /* The ones that OTLP allows to try again. */
    return code == 429 || code == 502 || code == 503 || code == 504 ? OUTCOME_AGAIN
                                                                    : OUTCOME_REFUSED;
}

/* Waits, unless the end has begun. False: do not try again. */
static bool pause_wait(struct fm_otlp_exporter *exporter, uint64_t pause_ns)
{
    uint64_t until_ns = fm_os_now_ns() + pause_ns;
    fm_mutex_lock(&exporter->mutex);
    while (!exporter->stopping &&
           fm_condition_wait_until(&exporter->condition, &exporter->mutex, until_ns)) {
    }
    bool again = !exporter->stopping || fm_os_now_ns() < exporter->stop_by_ns;
    fm_mutex_unlock(&exporter->mutex);
    return again;
}

static void counts_add(struct fm_otlp_exporter *exporter, uint64_t sent, uint64_t dropped,
                       uint64_t failed)
{
    fm_mutex_lock(&exporter->mutex);
    exporter->sent += sent;
    exporter->dropped += dropped;
    exporter->failed += failed;
    fm_mutex_unlock(&exporter->mutex);
}

static void batch_send(struct fm_otlp_exporter *exporter, uint32_t count)
{
    const struct fm_otlp_resource resource = {exporter->service_name, exporter->service_version,
                                              exporter->host};
    struct fm_text body = {0};
    fm_otlp_write(&resource, exporter->batch, count, &body);
    enum outcome outcome = body.failed ? OUTCOME_REFUSED : OUTCOME_AGAIN;
    uint64_t pause_ns = exporter->pause_ns;
    for (uint32_t tried = 0; outcome == OUTCOME_AGAIN && tried < exporter->attempts_max; tried++) {
        if (tried > 0) {
            if (!pause_wait(exporter, pause_ns)) {
                break;
            }
            pause_ns = pause_ns < PAUSE_MAX_NS / 2 ? pause_ns * 2 : PAUSE_MAX_NS;
        }
        outcome = attempt(exporter, &body);
        counts_add(exporter, 0, 0, outcome == OUTCOME_SENT ? 0 : 1);
    }
    counts_add(exporter, outcome == OUTCOME_SENT ? count : 0, outcome == OUTCOME_SENT ? 0 : count,
               0);
    fm_text_deinit(&body);
}

/* Waits for a batch: full, old enough, or whatever is there at the end. 0: the end. */
static uint32_t batch_take(struct fm_otlp_exporter *exporter)
{
    fm_mutex_lock(&exporter->mutex);
    while (!exporter->stopping && exporter->count < exporter->batch_max) {
        if (exporter->count == 0) {
            fm_condition_wait(&exporter->condition, &exporter->mutex);
        } else if (!fm_condition_wait_until(&exporter->condition, &exporter->mutex,
                                            exporter->oldest_ns + exporter->delay_ns)) {
            break;
        }
    }
    uint32_t count = exporter->count < exporter->batch_max ? exporter->count : exporter->batch_max;
    if (exporter->stopping && fm_os_now_ns() >= exporter->stop_by_ns) {
        exporter->dropped += exporter->count;
        exporter->count = 0;
        count = 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        exporter->batch[i] = exporter->queue[(exporter->first + i) % exporter->queue_max];
    }
    exporter->first = (exporter->first + count) % exporter->queue_max;
    exporter->count -= count;
    exporter->oldest_ns = fm_os_now_ns();
    fm_mutex_unlock(&exporter->mutex);
    return count;
}

static void exporter_run(void *argument)
{
    struct fm_otlp_exporter *exporter = argument;
    for (;;) {
        uint32_t count = batch_take(exporter);
        if (count == 0) {
            return;
        }
        batch_send(exporter, count);
    }
}

/* --- Setting up --- */

static void exporter_free(struct fm_otlp_exporter *exporter)
{
    if (exporter->curl != NULL) {
        curl_easy_cleanup(exporter->curl);
    }
    curl_slist_free_all(exporter->headers);
    fm_free(exporter->queue);
    fm_free(exporter->batch);
    fm_free(exporter->url);
    fm_free(exporter->service_name);
    fm_free(exporter->service_version);
    fm_free(exporter->host);
    fm_free(exporter);
}

static int header_add(struct fm_otlp_exporter *exporter, const char *line)
{
    struct curl_slist *headers = curl_slist_append(exporter->headers, line);
    if (headers == NULL) {
        return FM_ENOMEM;
    }
    exporter->headers = headers;
    return 0;
}

/* "key=value,key=value" as header lines. */
static int headers_add(struct fm_otlp_exporter *exporter, const char *list, struct fm_error *reterr)
{
    uint32_t rows = 0;
    for (const char *at = list; *at != '\0';) {
        size_t length = strcspn(at, ",");
        size_t key_length = strcspn(at, "=,");
        for (size_t i = 0; i < length; i++) {
            if ((unsigned char)at[i] < ' ' || at[i] == 0x7F) {
                key_length = length; /* a control character would make another header of it */
            }
        }
        if (key_length == 0 || key_length >= length || ++rows > FM_OTLP_HEADERS_MAX) {
            return fm_error_set(reterr, FM_EINVAL,
                                "the trace collector's headers must read key=value,key=value, at "
                                "most %u of them",
                                FM_OTLP_HEADERS_MAX);
        }
        struct fm_text line = {0};
        fm_text_append(&line, at, key_length);
        fm_text_append_string(&line, ": ");
        fm_text_append(&line, at + key_length + 1, length - key_length - 1);
        int status = line.failed ? FM_ENOMEM : header_add(exporter, line.data);
        fm_text_deinit(&line);
        if (status != 0) {
            return fm_error_set(reterr, status, "out of memory for the trace collector's headers");
        }
        at += length + (at[length] == ',' ? 1 : 0);
    }
    return 0;
}

static int url_set(struct fm_otlp_exporter *exporter, const struct fm_otlp_options *options,
                   struct fm_error *reterr)
{
    bool whole = options->traces_endpoint != NULL;
    const char *base = whole ? options->traces_endpoint : options->endpoint;
    if (base == NULL ||
        (strncasecmp(base, "http://", 7) != 0 && strncasecmp(base, "https://", 8) != 0)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the trace collector '%s' must be an http:// or https:// address",
                            base != NULL ? base : "");
    }
    struct fm_text url = {0};
    size_t length = strlen(base);
    while (!whole && length > 0 && base[length - 1] == '/') {
        length--;
    }
    fm_text_append(&url, base, length);
    fm_text_append_string(&url, whole ? "" : TRACES_PATH);
    CURLU *parsed = curl_url();
    int status = parsed == NULL || url.failed ? FM_ENOMEM : 0;
    if (status == 0 && curl_url_set(parsed, CURLUPART_URL, base, 0) != CURLUE_OK) {
        status = fm_error_set(reterr, FM_EINVAL, "the trace collector '%s' is no address", base);
    } else if (status != 0) {
        (void)fm_error_set(reterr, status, "out of memory for the trace collector's address");
    }
    curl_url_cleanup(parsed);
    if (status != 0) {
        fm_text_deinit(&url);
        return status;
    }
    exporter->url = fm_text_take(&url);
    return 0;
}

static void curl_set(struct fm_otlp_exporter *exporter)
{
    CURL *curl = exporter->curl;
    curl_easy_setopt(curl, CURLOPT_URL, exporter->url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, exporter->headers);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(exporter->timeout_ns / 1000000));
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, answer_ignore);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, progress_check);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, exporter);
}

static uint32_t or_default(uint32_t value, uint32_t usual, uint32_t limit)
{
    value = value > 0 ? value : usual;
    return value < limit ? value : limit;
}

static int exporter_set(struct fm_otlp_exporter *exporter, const struct fm_otlp_options *options,
                        struct fm_error *reterr)
{
    exporter->queue_max = or_default(options->queue_max, QUEUE_DEFAULT, FM_OTLP_QUEUE_LIMIT);
    exporter->batch_max = or_default(options->batch_max, BATCH_DEFAULT, FM_OTLP_BATCH_LIMIT);
    exporter->batch_max =
        exporter->batch_max < exporter->queue_max ? exporter->batch_max : exporter->queue_max;
    exporter->attempts_max =
        or_default(options->attempts_max, ATTEMPTS_DEFAULT, FM_OTLP_ATTEMPTS_LIMIT);
    exporter->delay_ns = options->delay_ns > 0 ? options->delay_ns : DELAY_DEFAULT_NS;
    exporter->timeout_ns = options->timeout_ns > 0 ? options->timeout_ns : TIMEOUT_DEFAULT_NS;
    exporter->pause_ns = options->pause_ns > 0 ? options->pause_ns : PAUSE_DEFAULT_NS;
    int status = url_set(exporter, options, reterr);
    if (status != 0) {
        return status;
    }
    exporter->service_name =
        fm_strdup(options->service_name != NULL ? options->service_name : "fermata");
    exporter->service_version =
        fm_strdup(options->service_version != NULL ? options->service_version : "");
    exporter->host = fm_strdup(options->host != NULL ? options->host : "");
    exporter->queue = fm_alloc_zero(exporter->queue_max, sizeof(*exporter->queue));
    exporter->batch = fm_alloc_zero(exporter->batch_max, sizeof(*exporter->batch));
    exporter->curl = curl_easy_init();
    if (exporter->service_name == NULL || exporter->service_version == NULL ||
        exporter->host == NULL || exporter->queue == NULL || exporter->batch == NULL ||
        exporter->curl == NULL || header_add(exporter, "Content-Type: application/json") != 0 ||
        header_add(exporter, "Expect:") != 0) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the trace exporter");
    }
    status = options->headers != NULL ? headers_add(exporter, options->headers, reterr) : 0;
    if (status == 0) {
        curl_set(exporter);
    }
    return status;
}

int fm_otlp_exporter_start(const struct fm_otlp_options *options,
                           struct fm_otlp_exporter **ret_exporter, struct fm_error *reterr)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return fm_error_set(reterr, FM_ENOMEM, "cannot start libcurl for the trace exporter");
    }
    struct fm_otlp_exporter *exporter = fm_alloc_zero(1, sizeof(*exporter));
    if (exporter == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the trace exporter");
    }
    int status = exporter_set(exporter, options, reterr);
    if (status != 0) {
        exporter_free(exporter);
        return status;
    }
    fm_mutex_init(&exporter->mutex);
    fm_condition_init(&exporter->condition);
    status = fm_thread_start(&exporter->thread, "fm-otlp", exporter_run, exporter);
    if (status != 0) {
        fm_condition_deinit(&exporter->condition);
        fm_mutex_deinit(&exporter->mutex);
        exporter_free(exporter);
        return fm_error_set(reterr, status, "cannot start the trace exporter's thread");
    }
    *ret_exporter = exporter;
    return 0;
}

bool fm_otlp_exporter_put(struct fm_otlp_exporter *exporter, const struct fm_otlp_span *span)
{
    fm_mutex_lock(&exporter->mutex);
    bool room = exporter->count < exporter->queue_max && !exporter->stopping;
    if (room) {
        exporter->queue[(exporter->first + exporter->count) % exporter->queue_max] = *span;
        exporter->count++;
        if (exporter->count == 1) {
            exporter->oldest_ns = fm_os_now_ns();
        }
        if (exporter->count == 1 || exporter->count == exporter->batch_max) {
            fm_condition_signal(&exporter->condition);
        }
    } else {
        exporter->dropped++;
    }
    fm_mutex_unlock(&exporter->mutex);
    return room;
}

void fm_otlp_exporter_stats(struct fm_otlp_exporter *exporter, struct fm_otlp_stats *ret_stats)
{
    fm_mutex_lock(&exporter->mutex);
    *ret_stats = (struct fm_otlp_stats){.queued = exporter->count,
                                        .sent = exporter->sent,
                                        .dropped = exporter->dropped,
                                        .failed = exporter->failed};
    fm_mutex_unlock(&exporter->mutex);
}

void fm_otlp_exporter_stop(struct fm_otlp_exporter *exporter, uint64_t grace_ns)
{
    if (exporter == NULL) {
        return;
    }
    fm_mutex_lock(&exporter->mutex);
    exporter->stopping = true;
    exporter->stop_by_ns = fm_os_now_ns() + grace_ns;
    fm_condition_signal(&exporter->condition);
    fm_mutex_unlock(&exporter->mutex);
    fm_thread_join(&exporter->thread);
    fm_condition_deinit(&exporter->condition);
    fm_mutex_deinit(&exporter->mutex);
    exporter_free(exporter);
}
