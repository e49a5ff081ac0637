/*
 * What the server shows of itself: metrics, dashboard and trace, and the paths they are behind. See
 * serve_internal.h; what they are written from is the picture (picture.h).
 *
 * Any loop is asked and answers; a thread of its own, the observer, writes the documents (with
 * hundreds of models that takes tens of milliseconds) and makes of the counts what is made of them:
 * rates, history, advice. Thread rule: the picture is the observer's.
 */
#include <string.h>

#include "core/stats/prometheus.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/debug_trace.h"
#include "engines/serve/metrics.h"
#include "engines/serve/pages.h"
#include "engines/serve/picture.h"
#include "engines/serve/serve_internal.h"
#include "engines/serve/state_document.h"
#include "host/os/log.h"
#include "host/os/os.h"
#include "host/os/process_facts.h"

/* So often what was counted is looked at. */
#define TICK_NS UINT64_C(1000000000)
/* Memory that was freed is given back where more than this was kept in so many looks, but not all
 * the time. */
#define KEPT_BYTES_MAX ((uint64_t)64 << 20)
#define KEPT_LOOKS     3u
#define LOOK_EVERY_NS  UINT64_C(5000000000)

/* --- what is made of what was counted ----------------------------------------------------------
 */

/* Adds up what was counted of every model. */
static void models_sample(struct fm_serve *serve, uint64_t now_ns,
                          struct fm_history_totals *ret_totals)
{
    const struct fm_catalog_view *view = serve->observer.reader.view;
    *ret_totals = (struct fm_history_totals){0};
    for (size_t i = 0; i < view->row_count; i++) {
        if (view->rows[i].entry != NULL) {
            struct fm_serving *serving = view->rows[i].entry->attached;
            fm_serving_sample(serving, now_ns);
            fm_history_totals_add(ret_totals, &serving->totals);
        }
    }
}

/* What the timeline shows besides batches: who rests, and how many wait. */
static void spans_put(struct fm_serve *serve, const struct fm_view *view)
{
    for (uint32_t i = 0; i < view->accelerator_count; i++) {
        if (view->accelerators[i].rest_until_ns > view->now_ns) {
            fm_serve_span_rest(serve, i, view->now_ns);
        }
    }
    const struct fm_span queued = {.start_ns = view->now_ns,
                                   .end_ns = view->now_ns,
                                   .model = FM_TIMELINE_NONE,
                                   .count = view->sched.queued,
                                   .kind = FM_SPAN_QUEUED,
                                   .track = FM_TRACK_LOOP};
    fm_timeline_put(&serve->timeline, serve->loop_count, &queued);
}

/* What large answers to clients that do not read leave behind is in the allocator's arenas, which
 * give nothing back by themselves. A program that we are only a part of sees to its own. What is
 * given back is still counted as kept: only what comes on top of it is worth another time. */
static void memory_look(struct fm_serve *serve, uint64_t now_ns)
{
    struct fm_serve_observer *observer = &serve->observer;
    if (!serve->options->supervised || now_ns < observer->kept_look_ns) {
        return;
    }
    observer->kept_look_ns = now_ns + LOOK_EVERY_NS;
    uint64_t kept = fm_process_memory_kept();
    observer->kept_bytes = kept < observer->kept_bytes ? kept : observer->kept_bytes;
    bool much = kept - observer->kept_bytes > KEPT_BYTES_MAX;
    observer->kept_looks = much ? observer->kept_looks + 1 : 0;
    if (observer->kept_looks >= KEPT_LOOKS) {
        fm_process_memory_release();
        observer->kept_looks = 0;
        observer->kept_bytes = fm_process_memory_kept();
    }
}

/* About once a second. */
static void on_tick(void *context)
{
    struct fm_serve *serve = context;
    struct fm_serve_observer *observer = &serve->observer;
    struct fm_picture picture;
    struct fm_history_now now = {.now_ns = fm_os_now_ns(), .wall_ns = fm_os_wall_ns()};
    models_sample(serve, now.now_ns, &now.totals);
    fm_machine_cpu_look(&observer->cpu, &observer->cpu_utilization);
    if (fm_picture_take(serve, &picture) == 0) {
        const struct fm_sched_stats *stats = &picture.view.sched;
        uint64_t requests = now.totals.good + now.totals.late + now.totals.dropped;
        uint64_t bad = now.totals.late + now.totals.dropped;
        const struct fm_advice_input input = {
            .accelerators_up = stats->accelerators_up,
            .accelerators_active = stats->accelerators_active,
            .need_milli = stats->busy_milli,
            .bad_permyriad = requests > 0 ? (uint32_t)(bad * 10000 / requests) : 0};
        observer->advice = fm_advisor_update(&observer->advisor, now.now_ns, &input);
        now.queued = stats->queued;
        now.accelerators_up = stats->accelerators_up;
        now.accelerators_use = stats->accelerators_busy;
        now.wanted = observer->advice.wanted;
        spans_put(serve, &picture.view);
        fm_picture_deinit(&picture);
    }
    fm_history_sample(&observer->history, &now);
    memory_look(serve, now.now_ns);
    fm_loop_alarm(observer->loop, TICK_NS, on_tick, serve);
}

/* --- documents ----------------------------------------------------------------------------------
 */

enum document { DOCUMENT_METRICS, DOCUMENT_STATE, DOCUMENT_TRACE, DOCUMENT_NONE };

static int trace_write(const struct fm_view *view, const char *query, struct fm_text *text,
                       struct fm_error *reterr)
{
    struct fm_debug_trace trace;
    uint32_t seconds = 0;
    int status = fm_debug_trace_query_parse(query, &seconds, reterr);
    if (status != 0) {
        return status;
    }
    if (fm_debug_trace_init(&trace, view, seconds) != 0) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the trace");
    }
    while (fm_debug_trace_next(&trace, text)) {
    }
    fm_debug_trace_deinit(&trace);
    return 0;
}

static int document_write(struct fm_serve *serve, enum document document, const char *query,
                          struct fm_text *text, struct fm_error *reterr)
{
    struct fm_state_query state = {0};
    struct fm_picture picture;
    int status = 0;
    if (document == DOCUMENT_STATE) {
        status = fm_state_query_parse(query, &state, reterr);
    }
    if (status != 0) {
        return status;
    }
    struct fm_history_totals totals;
    models_sample(serve, fm_os_now_ns(), &totals);
    status = fm_picture_take(serve, &picture);
    if (status != 0) {
        return fm_error_set(reterr, status, "out of memory for the document");
    }
    if (document == DOCUMENT_METRICS) {
        fm_metrics_write(&picture.view, text);
    } else if (document == DOCUMENT_STATE) {
        fm_log_recent(&picture.log);
        picture.view.log = picture.log.data != NULL && !picture.log.failed ? picture.log.data : "";
        fm_state_document_write(&picture.view, &state, text);
    } else {
        status = trace_write(&picture.view, query, text, reterr);
    }
    fm_picture_deinit(&picture);
    return status;
}

/* A document that is being waited for. */
struct asked {
    struct fm_loop_task task;
    struct fm_serve *serve;
    struct fm_http_request *http;
    enum document document;
};

/* On the observer's thread. */
static void document_answer(struct fm_loop_task *task)
{
    static const char *const types[] = {[DOCUMENT_METRICS] = FM_PROMETHEUS_TYPE,
                                        [DOCUMENT_STATE] = "application/json",
                                        [DOCUMENT_TRACE] = FM_DEBUG_TRACE_TYPE};
    struct asked *asked = FM_CONTAINER_OF(task, struct asked, task);
    struct fm_text text = {0};
    struct fm_error error = {0};
    if (document_write(asked->serve, asked->document, asked->http->query, &text, &error) != 0) {
        fm_text_deinit(&text);
        fm_serve_http_error(asked->http, fm_status_http(error.status), error.text);
    } else {
        fm_serve_http_text(asked->http, 200, types[asked->document], &text);
    }
    fm_free(asked);
}

static void document_ask(struct fm_serve_loop *loop, struct fm_http_request *http,
                         enum document document)
{
    struct asked *asked = fm_alloc(sizeof *asked);
    if (asked == NULL) {
        fm_serve_http_error(http, fm_status_http(FM_ENOMEM), "out of memory for the document");
        return;
    }
    *asked = (struct asked){
        .task = {.run = document_answer}, .serve = loop->serve, .http = http, .document = document};
    fm_loop_post(loop->serve->observer.loop, &asked->task);
}

/* On the stack of a thread that waits. */
struct waited {
    struct fm_loop_task task;
    struct fm_serve *serve;
    enum document document;
    struct fm_text *text;
    struct fm_error *error; /* or NULL */
    int status;
    struct fm_mutex lock;
    struct fm_condition changed;
    bool done; /* behind the lock */
};

/* On the observer's thread. */
static void waited_write(struct fm_loop_task *task)
{
    struct waited *waited = FM_CONTAINER_OF(task, struct waited, task);
    waited->status =
        document_write(waited->serve, waited->document, "", waited->text, waited->error);
    fm_mutex_lock(&waited->lock);
    waited->done = true;
    fm_condition_signal(&waited->changed);
    fm_mutex_unlock(&waited->lock);
}

int fm_serve_observe_write(struct fm_serve *serve, bool state, struct fm_text *text,
                           struct fm_error *reterr)
{
    struct waited waited = {.task = {.run = waited_write},
                            .serve = serve,
                            .document = state ? DOCUMENT_STATE : DOCUMENT_METRICS,
                            .text = text,
                            .error = reterr};
    fm_mutex_init(&waited.lock);
    fm_condition_init(&waited.changed);
    fm_loop_post(serve->observer.loop, &waited.task);
    fm_mutex_lock(&waited.lock);
    while (!waited.done) {
        fm_condition_wait(&waited.changed, &waited.lock);
    }
    fm_mutex_unlock(&waited.lock);
    fm_condition_deinit(&waited.changed);
    fm_mutex_deinit(&waited.lock);
    return waited.status;
}

/* --- the observer ------------------------------------------------------------------------------
 */

static void on_stop_task(struct fm_loop_task *task)
{
    struct fm_serve_observer *observer = FM_CONTAINER_OF(task, struct fm_serve_observer, stop_task);
    fm_loop_stop(observer->loop);
}

int fm_serve_observer_open(struct fm_serve *serve, struct fm_error *reterr)
{
    const struct fm_advice_options advice = {.accelerators_min = 1,
                                             .accelerators_max = FM_SCHED_ACCELERATORS_LIMIT,
                                             .headroom_permille = 200};
    struct fm_serve_observer *observer = &serve->observer;
    observer->stop_task.run = on_stop_task;
    int status = fm_advisor_init(&observer->advisor, &advice, reterr);
    return status == 0 ? fm_loop_create(&observer->loop, reterr) : status;
}

static void observer_run(void *argument)
{
    struct fm_serve_observer *observer = argument;
    fm_thread_background();
    fm_loop_run(observer->loop);
}

int fm_serve_observer_start(struct fm_serve *serve, struct fm_error *reterr)
{
    struct fm_serve_observer *observer = &serve->observer;
    fm_loop_alarm(observer->loop, TICK_NS, on_tick, serve);
    int status = fm_thread_start(&observer->thread, "fm-observer", observer_run, observer);
    observer->running = status == 0;
    return status == 0 ? 0 : fm_error_set(reterr, status, "cannot start the thread that observes");
}

void fm_serve_observer_stop(struct fm_serve *serve)
{
    struct fm_serve_observer *observer = &serve->observer;
    if (observer->running) {
        fm_loop_post(observer->loop, &observer->stop_task);
        fm_thread_join(&observer->thread);
        observer->running = false;
    }
}

void fm_serve_observer_release(struct fm_serve *serve)
{
    fm_loop_destroy(serve->observer.loop);
}

/* --- paths -------------------------------------------------------------------------------------
 */

struct page {
    struct fm_page page;
    struct fm_http_part part;
};

/* A page of the dashboard; its bytes lie in the program. */
static void page_answer(struct fm_http_request *http, const struct fm_page *found)
{
    struct page *page = fm_alloc(sizeof *page);
    if (page == NULL) {
        const struct fm_http_answer none = {.status = 503};
        fm_http_answer(http, &none);
        return;
    }
    page->page = *found;
    page->part = (struct fm_http_part){found->bytes, found->size};
    struct fm_http_answer answer = {.status = found->status,
                                    .content_type =
                                        found->status == 304 ? NULL : found->content_type,
                                    .parts = &page->part,
                                    .part_count = found->status == 304 ? 0 : 1,
                                    .release = fm_free,
                                    .context = page};
    _Static_assert(FM_PAGE_HEADERS <= FM_HTTP_ANSWER_HEADERS_MAX, "there is room for all");
    for (size_t i = 0; i < found->header_count; i++) {
        answer.headers[answer.header_count++] =
            (struct fm_http_header){found->headers[i].name, found->headers[i].value};
    }
    fm_http_answer(http, &answer);
}

enum fm_access_class fm_serve_observe_class(const struct fm_http_request *http)
{
    struct fm_page page;
    return fm_page_find(http->path, NULL, NULL, &page) || strcmp(http->method, "OPTIONS") == 0
               ? FM_ACCESS_OPEN
               : FM_ACCESS_OBSERVE;
}

bool fm_serve_observe_route(struct fm_serve_loop *loop, struct fm_http_request *http)
{
    struct fm_page page;
    bool is_page = fm_page_find(http->path, fm_http_header_find(http, "If-None-Match"),
                                fm_http_header_find(http, "Accept-Encoding"), &page);
    enum document document = strcmp(http->path, "/metrics") == 0       ? DOCUMENT_METRICS
                             : strcmp(http->path, "/debug/state") == 0 ? DOCUMENT_STATE
                             : strcmp(http->path, "/debug/trace") == 0 ? DOCUMENT_TRACE
                                                                       : DOCUMENT_NONE;
    if (!is_page && document == DOCUMENT_NONE) {
        return false;
    }
    if (strcmp(http->method, "GET") != 0 && strcmp(http->method, "HEAD") != 0) {
        const struct fm_http_answer answer = {.status =
                                                  strcmp(http->method, "OPTIONS") == 0 ? 200 : 405,
                                              .headers = {{"Allow", "GET, HEAD, OPTIONS"}},
                                              .header_count = 1};
        fm_http_answer(http, &answer);
    } else if (is_page) {
        page_answer(http, &page);
    } else {
        document_ask(loop, http, document);
    }
    return true;
}

void fm_serve_observe_handle(void *context, struct fm_http_request *http)
{
    struct fm_serve_loop *loop = context;
    if (fm_serve_http_guard(loop, http, fm_serve_observe_class(http)) &&
        !fm_serve_observe_route(loop, http)) {
        fm_serve_http_error(http, 404, "Not Found");
    }
}
