/*
 * Posting what happens. See webhook.h.
 */
#include "host/net/webhook.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <stdio.h>
#include <strings.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/os/os.h"
#include "host/os/thread.h"

struct fm_webhook {
    CURL *curl; /* the thread's */
    struct curl_slist *headers;
    char *url;
    uint64_t timeout_ns;
    struct fm_thread thread;
    struct fm_mutex mutex;
    struct fm_condition condition;
    /* Behind the lock. */
    struct fm_text queue[FM_WEBHOOK_QUEUE_MAX];
    uint32_t first;
    uint32_t count;
    bool stopping;
    uint64_t stop_by_ns; /* once it is stopping */
    struct fm_error failure;
};

/* The first one is the one that is told; the mutex is not held. */
static void fail(struct fm_webhook *webhook, int status, const char *why)
{
    fm_mutex_lock(&webhook->mutex);
    if (webhook->failure.status == 0) {
        (void)fm_error_set(&webhook->failure, status, "%s", why);
    }
    fm_mutex_unlock(&webhook->mutex);
}

static size_t answer_ignore(char *data, size_t size, size_t count, void *context)
{
    (void)data;
    (void)context;
    return size * count;
}

/* libcurl asks now and then: a server that hangs must not outlast the grace at the end. */
static int progress_check(void *context, curl_off_t total_down, curl_off_t down,
                          curl_off_t total_up, curl_off_t up)
{
    struct fm_webhook *webhook = context;
    (void)total_down;
    (void)down;
    (void)total_up;
    (void)up;
    fm_mutex_lock(&webhook->mutex);
    bool late = webhook->stopping && fm_os_now_ns() >= webhook->stop_by_ns;
    fm_mutex_unlock(&webhook->mutex);
    return late ? 1 : 0;
}

static void send_one(struct fm_webhook *webhook, const struct fm_text *document)
{
    char words[128];
    long code = 0;
    CURL *curl = webhook->curl;
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, document->data);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)document->length);
    CURLcode result = curl_easy_perform(curl);
    if (result != CURLE_OK) {
        fail(webhook, FM_EUNAVAILABLE, curl_easy_strerror(result));
        return;
    }
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    if (code < 200 || code > 299) {
        (void)snprintf(words, sizeof(words), "its server answers with status %ld", code);
        fail(webhook, FM_EUNAVAILABLE, words);
    }
}

static void thread_run(void *argument)
{
    struct fm_webhook *webhook = argument;
    for (;;) {
        fm_mutex_lock(&webhook->mutex);
        while (webhook->count == 0 && !webhook->stopping) {
            fm_condition_wait(&webhook->condition, &webhook->mutex);
        }
        bool late = webhook->stopping && fm_os_now_ns() >= webhook->stop_by_ns;
        bool over = webhook->count == 0 || late;
        struct fm_text document = over ? (struct fm_text){0} : webhook->queue[webhook->first];
        if (!over) {
            webhook->queue[webhook->first] = (struct fm_text){0};
            webhook->first = (webhook->first + 1) % FM_WEBHOOK_QUEUE_MAX;
            webhook->count--;
        }
        bool left = over && webhook->count > 0;
        fm_mutex_unlock(&webhook->mutex);
        if (left) {
            fail(webhook, FM_EDEADLINE, "there was no time for all that was to be said");
        }
        if (over) {
            return;
        }
        send_one(webhook, &document);
        fm_text_deinit(&document);
    }
}

static void webhook_free(struct fm_webhook *webhook)
{
    for (uint32_t i = 0; i < FM_WEBHOOK_QUEUE_MAX; i++) {
        fm_text_deinit(&webhook->queue[i]);
    }
    if (webhook->curl != NULL) {
        curl_easy_cleanup(webhook->curl);
    }
    curl_slist_free_all(webhook->headers);
    fm_condition_deinit(&webhook->condition);
    fm_mutex_deinit(&webhook->mutex);
    fm_free(webhook->url);
    fm_free(webhook);
}

/* Whatever libcurl would make of it: nothing but these two. */
static bool is_url(const char *url)
{
    CURLU *parsed = curl_url();
    bool good = (strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0) &&
                parsed != NULL && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK;
    curl_url_cleanup(parsed);
    return good;
}

static int curl_make(struct fm_webhook *webhook)
{
    webhook->curl = curl_easy_init();
    webhook->headers = curl_slist_append(NULL, "Content-Type: application/json");
    CURL *curl = webhook->curl;
    if (curl == NULL || webhook->headers == NULL || webhook->url == NULL) {
        return FM_ENOMEM;
    }
    curl_easy_setopt(curl, CURLOPT_URL, webhook->url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, webhook->headers);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(webhook->timeout_ns / 1000000));
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, answer_ignore);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, progress_check);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, webhook);
    return 0;
}

int fm_webhook_start(const char *url, uint64_t timeout_ns, struct fm_webhook **ret_webhook,
                     struct fm_error *reterr)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return fm_error_set(reterr, FM_ENOMEM, "cannot start libcurl for the webhook");
    }
    if (!is_url(url)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the webhook's address must begin with http:// or https:// and be one");
    }
    struct fm_webhook *webhook = fm_alloc_zero(1, sizeof(*webhook));
    if (webhook == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the webhook");
    }
    fm_mutex_init(&webhook->mutex);
    fm_condition_init(&webhook->condition);
    webhook->url = fm_strdup(url);
    webhook->timeout_ns = timeout_ns;
    int status = curl_make(webhook);
    status =
        status != 0 ? status : fm_thread_start(&webhook->thread, "fm-webhook", thread_run, webhook);
    if (status != 0) {
        webhook_free(webhook);
        return fm_error_set(reterr, status, "cannot start the webhook: %s", fm_status_text(status));
    }
    *ret_webhook = webhook;
    return 0;
}

void fm_webhook_post(struct fm_webhook *webhook, const char *document, size_t size)
{
    struct fm_text copy = {0};
    fm_text_append(&copy, document, size);
    fm_mutex_lock(&webhook->mutex);
    bool room = !copy.failed && webhook->count < FM_WEBHOOK_QUEUE_MAX;
    if (room) {
        webhook->queue[(webhook->first + webhook->count) % FM_WEBHOOK_QUEUE_MAX] = copy;
        webhook->count++;
    }
    fm_condition_signal(&webhook->condition);
    fm_mutex_unlock(&webhook->mutex);
    if (!room) {
        fm_text_deinit(&copy);
        fail(webhook, FM_ELIMIT, "there was no room for all that was to be said");
    }
}

int fm_webhook_stop(struct fm_webhook *webhook, uint64_t grace_ns, struct fm_error *reterr)
{
    if (webhook == NULL) {
        return 0;
    }
    fm_mutex_lock(&webhook->mutex);
    webhook->stopping = true;
    webhook->stop_by_ns = fm_os_now_ns() + grace_ns;
    fm_condition_signal(&webhook->condition);
    fm_mutex_unlock(&webhook->mutex);
    fm_thread_join(&webhook->thread);
    struct fm_error failure = webhook->failure;
    webhook_free(webhook);
    return failure.status == 0
               ? 0
               : fm_error_set(reterr, failure.status, "the webhook did not take everything: %s",
                              failure.text);
}
