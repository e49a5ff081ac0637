/*
 * A page about a running job. See page_server.h.
 */
#include "engines/batch/page_server.h"

#include <stdio.h>
#include <string.h>

#include "core/proto/batch_accelerators.h"
#include "core/stats/prometheus.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/batch/job_report.h"
#include "engines/batch/stage_use.h"
#include "engines/batch/status_document.h"
#include "host/net/http_server.h"
#include "host/os/os.h"
#include "host/os/thread.h"

#define REFRESH_S 5u
/* A page that was made is shown for so long: making one reads all dead letters. */
#define PAGE_KEPT_NS UINT64_C(2000000000)

enum { CONNECTIONS_MAX = 64 };

struct fm_page_server {
    const char *directory;
    struct fm_thread thread;
    struct fm_loop *loop;
    struct fm_http_server *http;
    struct fm_loop_task stop_task;
    struct fm_text page; /* the last one, of the loop's thread */
    uint64_t page_ns;
    struct fm_mutex mutex;
    struct fm_text status; /* the last one */
};

/* --- Answers --- */

struct answer {
    struct fm_text body;
    struct fm_http_part part;
};

static void answer_free(void *context)
{
    struct answer *answer = context;
    fm_text_deinit(&answer->body);
    fm_free(answer);
}

static void error_write(struct fm_text *text, const char *message)
{
    fm_text_append_format(text, "%s\n", message);
}

static void status_answer(struct fm_http_request *request, int status)
{
    const struct fm_http_answer answer = {.status = status};
    fm_http_answer(request, &answer);
}

/* Takes the body over. */
static void body_answer(struct fm_http_request *request, const char *type, struct fm_text *body)
{
    struct answer *answer = body->failed ? NULL : fm_alloc_zero(1, sizeof(*answer));
    if (answer == NULL) {
        fm_text_deinit(body);
        status_answer(request, 503);
        return;
    }
    answer->body = *body;
    *body = (struct fm_text){0};
    answer->part = (struct fm_http_part){.data = answer->body.data, .size = answer->body.length};
    const struct fm_http_answer answered = {
        .status = 200,
        .content_type = type,
        .headers = {{"Cache-Control", "no-store"},
                    {"Content-Security-Policy",
                     "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action "
                     "'none'; frame-ancestors 'none'"},
                    {"X-Content-Type-Options", "nosniff"},
                    {"Referrer-Policy", "no-referrer"}},
        .header_count = 4,
        .parts = &answer->part,
        .part_count = 1,
        .compress = true,
        .release = answer_free,
        .context = answer};
    fm_http_answer(request, &answered);
}

/* A copy of the last status; false: there is none yet. */
static bool status_copy(struct fm_page_server *server, struct fm_text *ret_bytes,
                        struct fm_batch_status *ret_status)
{
    fm_mutex_lock(&server->mutex);
    fm_text_append(ret_bytes, server->status.data != NULL ? server->status.data : "",
                   server->status.length);
    fm_mutex_unlock(&server->mutex);
    return !ret_bytes->failed && ret_bytes->length > 0 &&
           fm_batch_status_read(ret_bytes->data, ret_bytes->length, ret_status, NULL) == 0;
}

static void page_answer(struct fm_page_server *server, struct fm_http_request *request)
{
    uint64_t now_ns = fm_os_now_ns();
    struct fm_text copy = {0};
    if (server->page.length == 0 || now_ns - server->page_ns >= PAGE_KEPT_NS) {
        struct fm_text bytes = {0};
        struct fm_batch_status status;
        struct fm_error error = {0};
        bool known = status_copy(server, &bytes, &status);
        const struct fm_job_report_options options = {.directory = server->directory,
                                                      .status = known ? &status : NULL,
                                                      .refresh_s = REFRESH_S};
        fm_text_clear(&server->page);
        if (fm_job_report_write(&options, &server->page, &error) != 0) {
            fm_text_clear(&server->page);
            error_write(&server->page, error.text);
        }
        server->page_ns = now_ns;
        fm_text_deinit(&bytes);
    }
    fm_text_append(&copy, server->page.data, server->page.length);
    body_answer(request, "text/html; charset=utf-8", &copy);
}

static void document_answer(struct fm_http_request *request, const struct fm_batch_status *status)
{
    struct fm_text text = {0};
    struct fm_json_writer json;
    fm_json_writer_init(&json, &text);
    fm_status_document_write(&json, status);
    fm_text_append_char(&text, '\n');
    body_answer(request, "application/json", &text);
}

/* --- Metrics --- */

static const struct fm_prometheus_family rows_total = {"fermata_batch_rows", FM_PROMETHEUS_GAUGE,
                                                       "Rows of the job."};
static const struct fm_prometheus_family rows_committed = {
    "fermata_batch_rows_committed", FM_PROMETHEUS_GAUGE, "Rows whose results are committed."};
static const struct fm_prometheus_family rows_done = {
    "fermata_batch_rows_done", FM_PROMETHEUS_GAUGE, "Rows that were computed."};
static const struct fm_prometheus_family dead_letters = {"fermata_batch_dead_letters",
                                                         FM_PROMETHEUS_GAUGE, "Rows that failed."};
static const struct fm_prometheus_family rows_in_work = {
    "fermata_batch_rows_in_work", FM_PROMETHEUS_GAUGE, "Rows that workers hold."};
static const struct fm_prometheus_family rate = {
    "fermata_batch_rows_per_second", FM_PROMETHEUS_GAUGE, "Rows computed per second, lately."};
static const struct fm_prometheus_family rest = {"fermata_batch_seconds_left", FM_PROMETHEUS_GAUGE,
                                                 "Estimated time to the end of the job."};
static const struct fm_prometheus_family paused = {"fermata_batch_paused", FM_PROMETHEUS_GAUGE,
                                                   "1 while the job is paused."};
static const struct fm_prometheus_family workers_connected = {
    "fermata_batch_workers", FM_PROMETHEUS_GAUGE, "Workers that are connected."};
static const struct fm_prometheus_family workers_wanted = {
    "fermata_batch_workers_wanted", FM_PROMETHEUS_GAUGE,
    "Workers that the job wants; /status.json says why."};
static const struct fm_prometheus_family finish_by = {
    "fermata_batch_finish_by_timestamp_seconds", FM_PROMETHEUS_GAUGE,
    "When the job is to be finished, since 1970."};
static const struct fm_prometheus_family late = {"fermata_batch_late", FM_PROMETHEUS_GAUGE,
                                                 "1 when the job cannot be finished by then."};
static const struct fm_prometheus_family worker_rate = {
    "fermata_batch_worker_rows_per_minute", FM_PROMETHEUS_GAUGE, "Rows per minute of a worker."};
static const struct fm_prometheus_family worker_memory = {
    "fermata_batch_worker_memory_bytes", FM_PROMETHEUS_GAUGE, "Memory of a worker."};
static const struct fm_prometheus_family worker_budget = {
    "fermata_batch_worker_memory_budget_bytes", FM_PROMETHEUS_GAUGE,
    "Memory that the rows in work of a worker may take."};
static const struct fm_prometheus_family worker_used = {
    "fermata_batch_worker_memory_used_bytes", FM_PROMETHEUS_GAUGE,
    "Memory of a worker above what it has without rows in work."};
static const struct fm_prometheus_family worker_readers = {
    "fermata_batch_worker_read_threads", FM_PROMETHEUS_GAUGE, "Threads of a worker that read."};
static const struct fm_prometheus_family worker_operators = {
    "fermata_batch_worker_operator_threads", FM_PROMETHEUS_GAUGE,
    "Threads of a worker that run operators."};
static const struct fm_prometheus_family worker_rows = {"fermata_batch_worker_rows_in_flight",
                                                        FM_PROMETHEUS_GAUGE,
                                                        "Rows that a worker may have in flight."};

static const struct fm_prometheus_family stage_busy = {
    "fermata_batch_stage_busy_ratio", FM_PROMETHEUS_GAUGE,
    "How busy the instances or threads of a stage were lately, mean of the workers; 0 to 1."};

static const struct fm_prometheus_family accelerator_busy = {
    "fermata_batch_worker_accelerator_busy_seconds_total", FM_PROMETHEUS_COUNTER,
    "Time that an accelerator of a worker was busy."};
static const struct fm_prometheus_family accelerator_batches = {
    "fermata_batch_worker_accelerator_batches_total", FM_PROMETHEUS_COUNTER,
    "Batches that an accelerator of a worker has run."};

static void worker_accelerators(struct fm_prometheus *page, struct fm_prometheus_labels labels,
                                const struct fm_batch_worker_status *worker)
{
    char name[FM_BATCH_NAME_BYTES_MAX + 1];
    struct fm_batch_view text = worker->tuned.accelerators;
    struct fm_batch_accelerator accelerator;
    const struct fm_prometheus_label items[] = {
        labels.items[0], labels.items[1], {"accelerator", name}};
    labels = (struct fm_prometheus_labels){.items = items, .count = 3};
    while (fm_batch_accelerator_next(&text, &accelerator)) {
        fm_batch_view_copy(accelerator.name, name, sizeof(name));
        fm_prometheus_number(page, &accelerator_busy, labels, (double)accelerator.busy_ms / 1000);
        fm_prometheus_uint(page, &accelerator_batches, labels, accelerator.batches);
    }
}

static void worker_tuned(struct fm_prometheus *page, struct fm_prometheus_labels labels,
                         const struct fm_batch_worker_status *worker)
{
    if (worker->memory.budget > 0) {
        fm_prometheus_uint(page, &worker_budget, labels, worker->memory.budget);
    }
    if (worker->memory.base > 0) {
        fm_prometheus_uint(page, &worker_used, labels, worker->memory.used);
    }
    if (worker->tuned.readers > 0) {
        fm_prometheus_uint(page, &worker_readers, labels, worker->tuned.readers);
        fm_prometheus_uint(page, &worker_operators, labels, worker->tuned.operators);
        fm_prometheus_uint(page, &worker_rows, labels, worker->tuned.rows);
    }
}

static void stages_tell(struct fm_prometheus *page, const char *job,
                        const struct fm_stage_uses *stages)
{
    for (uint32_t i = 0; i < stages->count; i++) {
        const struct fm_prometheus_label items[] = {{"job_name", job},
                                                    {"stage", stages->items[i].name}};
        const struct fm_prometheus_labels labels = {.items = items, .count = 2};
        fm_prometheus_number(page, &stage_busy, labels, stages->items[i].busy);
    }
}

static void metrics_answer(struct fm_http_request *request, const struct fm_batch_status *status)
{
    static struct fm_prometheus page; /* large; of the loop's thread */
    struct fm_text text = {0};
    char job[FM_BATCH_NAME_BYTES_MAX + 1];
    char name[FM_BATCH_NAME_BYTES_MAX + 1];
    struct fm_batch_worker_statuses workers = status->workers;
    struct fm_batch_worker_status worker;
    struct fm_stage_uses stages;
    struct fm_stage_uses means = {.count = 0};
    uint64_t connected = 0;
    fm_batch_view_copy(status->job, job, sizeof(job));
    const struct fm_prometheus_label of_job[] = {{"job_name", job}, {"worker", name}};
    const struct fm_prometheus_labels labels = {.items = of_job, .count = 1};
    const struct fm_prometheus_labels worker_labels = {.items = of_job, .count = 2};
    page = (struct fm_prometheus){.count = 0};
    fm_prometheus_uint(&page, &rows_total, labels, status->rows_total);
    fm_prometheus_uint(&page, &rows_committed, labels, status->rows_committed);
    fm_prometheus_uint(&page, &rows_done, labels, status->rows_done);
    fm_prometheus_uint(&page, &dead_letters, labels, status->dead_letters);
    fm_prometheus_uint(&page, &rows_in_work, labels, status->rows_in_work);
    fm_prometheus_number(&page, &rate, labels, status->rows_per_s);
    if (status->rest_ns != FM_BATCH_REST_UNKNOWN) {
        fm_prometheus_number(&page, &rest, labels, (double)status->rest_ns / 1e9);
    }
    fm_prometheus_uint(&page, &paused, labels, status->paused ? 1 : 0);
    fm_prometheus_uint(&page, &workers_wanted, labels, status->workers_wanted);
    if (status->finish_by_ms > 0) {
        fm_prometheus_number(&page, &finish_by, labels, (double)status->finish_by_ms / 1000);
        fm_prometheus_uint(&page, &late, labels, status->late ? 1 : 0);
    }
    while (fm_batch_worker_statuses_next(&workers, &worker)) {
        connected += worker.connected ? 1 : 0;
        fm_batch_view_copy(worker.name, name, sizeof(name));
        if (worker.connected) {
            fm_prometheus_uint(&page, &worker_rate, worker_labels, worker.rows_per_minute);
            fm_prometheus_uint(&page, &worker_memory, worker_labels, worker.memory_bytes);
            worker_tuned(&page, worker_labels, &worker);
            worker_accelerators(&page, worker_labels, &worker);
            fm_stage_uses_set(&stages, &worker.stages);
            fm_stage_uses_add(&means, &stages);
        }
    }
    fm_prometheus_uint(&page, &workers_connected, labels, connected);
    stages_tell(&page, job, &means);
    fm_prometheus_write(&page, &text);
    fm_prometheus_deinit(&page);
    body_answer(request, FM_PROMETHEUS_TYPE, &text);
}

static void handle(void *context, struct fm_http_request *request)
{
    struct fm_page_server *server = context;
    struct fm_text bytes = {0};
    struct fm_batch_status status;
    bool document = strcmp(request->path, "/status.json") == 0;
    bool metrics = strcmp(request->path, "/metrics") == 0;
    if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0) {
        status_answer(request, 405);
    } else if (strcmp(request->path, "/") == 0) {
        page_answer(server, request);
    } else if (!document && !metrics) {
        status_answer(request, 404);
    } else if (!status_copy(server, &bytes, &status)) {
        status_answer(request, 503);
    } else if (document) {
        document_answer(request, &status);
    } else {
        metrics_answer(request, &status);
    }
    fm_text_deinit(&bytes);
}

/* --- Life --- */

static void stop(struct fm_loop_task *task)
{
    struct fm_page_server *server = FM_CONTAINER_OF(task, struct fm_page_server, stop_task);
    fm_loop_stop(server->loop);
}

static void thread_run(void *argument)
{
    struct fm_page_server *server = argument;
    fm_loop_run(server->loop);
}

static void server_free(struct fm_page_server *server)
{
    fm_http_server_destroy(server->http);
    fm_loop_destroy(server->loop);
    fm_mutex_deinit(&server->mutex);
    fm_text_deinit(&server->page);
    fm_text_deinit(&server->status);
    fm_free(server);
}

int fm_page_server_start(const struct fm_page_listen *listen, const char *directory,
                         struct fm_page_server **ret_server, struct fm_error *reterr)
{
    struct fm_http_options options;
    struct fm_page_server *server = fm_alloc_zero(1, sizeof(*server));
    if (server == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the page");
    }
    server->directory = directory;
    server->stop_task.run = stop;
    fm_mutex_init(&server->mutex);
    fm_http_options_init(&options);
    options.host = listen->host;
    options.port = listen->port;
    options.connections_max = CONNECTIONS_MAX;
    options.body_bytes_max = 0;
    options.handle = handle;
    options.write_error = error_write;
    options.error_type = "text/plain; charset=utf-8";
    options.context = server;
    int status = fm_loop_create(&server->loop, reterr);
    status =
        status != 0 ? status : fm_http_server_create(server->loop, &options, &server->http, reterr);
    if (status == 0 && fm_thread_start(&server->thread, "fm-page", thread_run, server) != 0) {
        status = fm_error_set(reterr, FM_ELIMIT, "no thread for the page");
    }
    if (status != 0) {
        server_free(server);
        return status;
    }
    *ret_server = server;
    return 0;
}

uint16_t fm_page_server_port(const struct fm_page_server *server)
{
    return fm_http_server_port(server->http);
}

void fm_page_server_update(struct fm_page_server *server, const void *status, size_t size)
{
    struct fm_text copy = {0};
    fm_text_append(&copy, status, size);
    if (!copy.failed) {
        fm_mutex_lock(&server->mutex);
        struct fm_text before = server->status;
        server->status = copy;
        fm_mutex_unlock(&server->mutex);
        copy = before;
    }
    fm_text_deinit(&copy);
}

void fm_page_server_stop(struct fm_page_server *server)
{
    if (server != NULL) {
        fm_loop_post(server->loop, &server->stop_task);
        fm_thread_join(&server->thread);
        server_free(server);
    }
}
