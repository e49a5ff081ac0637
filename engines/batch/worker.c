/*
 * A worker of a batch job. See worker.h.
 */
#include "engines/batch/worker.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/ledger/holder.h"
#include "core/proto/batch_messages.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "engines/batch/data_path.h"
#include "engines/batch/job_setup.h"
#include "engines/batch/listing.h"
#include "host/net/grpc_client.h"
#include "host/os/os.h"
#include "host/os/process.h"

#define NS_PER_MS UINT64_C(1000000)
/* Between two looks at progress, stop and time. */
#define TICK_NS (50 * NS_PER_MS)
/* Between two tries to reach the master. */
#define RETRY_NS (200 * NS_PER_MS)
/* How long it waits for the answer to its leave. */
#define LEAVE_NS (1000 * NS_PER_MS)

enum { PREFIX_BYTES = 5, SPARE_SHARDS = 2 };

struct worker {
    const struct fm_worker_options *options;
    struct fm_loop *loop;
    struct fm_endpoint endpoint;
    struct fm_grpc_client *client;
    struct fm_grpc_client_field token_field;
    struct fm_grpc_client_call call;
    bool call_open;
    uint64_t retry_ns; /* when there is no call */
    uint64_t begun_ns;
    uint64_t number;
    uint32_t shards_max;
    char host[256];
    char name[256];

    struct fm_job job;
    bool has_job;
    struct fm_job_setup setup;
    struct fm_job_facts facts;
    char base[4096];
    struct fm_holder *holder; /* NULL: no welcome yet */
    struct fm_data_path *path;
    const struct fm_batch_grant *grant; /* while it is being taken */

    struct fm_loop_task wake_task;
    atomic_bool wake_posted;
    bool stopping; /* the owner wants it to go */
    bool leaving;  /* it has said so */
    uint64_t leave_ns;
    bool closing;
    struct fm_error failure; /* why it goes; 0: the job is over, or it was stopped */
};

static void hand_on(struct worker *worker);

/* --- Going --- */

static void closed(void *context)
{
    struct worker *worker = context;
    worker->client = NULL;
    fm_loop_stop(worker->loop);
}

static void end(struct worker *worker)
{
    if (!worker->closing) {
        worker->closing = true;
        fm_grpc_client_close(worker->client, closed, worker);
    }
}

/* --- Messages to the master --- */

/* Lost when there is no call: after the next connection the master is told again what matters. */
static void say(struct worker *worker, const struct fm_batch_worker_message *message)
{
    static const char prefix[PREFIX_BYTES] = {0};
    if (!worker->call_open) {
        return;
    }
    struct fm_grpc_client_message *bytes = fm_alloc_zero(1, sizeof(*bytes));
    int status = bytes != NULL ? 0 : FM_ENOMEM;
    if (status == 0) {
        fm_text_append(&bytes->bytes, prefix, sizeof(prefix));
        status = fm_batch_worker_message_write(&bytes->bytes, message);
    }
    if (status != 0 || bytes->bytes.failed) {
        FM_ASSERT(status == 0 || status == FM_ENOMEM);
        fm_grpc_client_message_free(bytes);
        fm_grpc_client_cancel(&worker->call, FM_ENOMEM, "out of memory for a message");
        return;
    }
    size_t size = bytes->bytes.length - PREFIX_BYTES;
    for (unsigned i = 0; i < 4; i++) {
        bytes->bytes.data[1 + i] = (char)(size >> (24 - 8 * i));
    }
    fm_grpc_client_call_send(&worker->call, bytes);
}

static void leave(struct worker *worker)
{
    struct fm_batch_worker_message message = {.kind = FM_BATCH_WORKER_LEAVE};
    if (worker->leaving) {
        return;
    }
    worker->leaving = true;
    worker->leave_ns = fm_os_now_ns() + LEAVE_NS;
    message.leave.status = worker->failure.status;
    message.leave.reason = fm_batch_view_of(worker->failure.text);
    say(worker, &message);
    if (worker->call_open) {
        fm_grpc_client_call_send(&worker->call, NULL);
    } else {
        end(worker);
    }
}

/* It cannot work (any more): the master is told why, and it goes. */
static void fail(struct worker *worker, const struct fm_error *error)
{
    if (worker->failure.status == 0) {
        worker->failure = *error;
    }
    leave(worker);
}

static void check(struct worker *worker, int status, const char *what)
{
    struct fm_error error = {0};
    if (status != 0) {
        (void)fm_error_set(&error, status, "cannot %s: %s", what, fm_status_text(status));
        fail(worker, &error);
    }
}

static void join(struct worker *worker)
{
    struct fm_batch_worker_message message = {.kind = FM_BATCH_WORKER_JOIN};
    message.join.protocol_version = FM_BATCH_PROTOCOL_VERSION;
    message.join.fermata_version = fm_batch_view_of(worker->options->version);
    message.join.host = fm_batch_view_of(worker->host);
    message.join.process = (uint32_t)fm_process_id();
    message.join.name = fm_batch_view_of(worker->name);
    say(worker, &message);
}

static void holdings_write(const struct worker *worker, struct fm_batch_holdings *ret_holdings)
{
    ret_holdings->count = (uint32_t)fm_holder_holdings(worker->holder, ret_holdings->items);
}

/* --- The holder --- */

static int row_get(void *context, struct fm_data_path_row *ret_row)
{
    struct fm_batch_rows *rows = context;
    static _Thread_local char id[FM_BATCH_ID_BYTES_MAX + 1];
    struct fm_batch_row row;
    bool more = fm_batch_rows_next(rows, &row);
    FM_ASSERT(more);
    (void)snprintf(id, sizeof(id), "%.*s", (int)row.id.size, row.id.data);
    *ret_row = (struct fm_data_path_row){
        .id = id,
        .size = row.size,
        .row_count = row.row_count,
        .first_row = row.first_row,
        .point = {.row = row.point_row, .offset = row.point_offset, .line = row.point_line}};
    return 0;
}

static void holder_speaks(struct worker *worker, const struct fm_holder_action *action)
{
    struct fm_batch_worker_message message = {0};
    struct fm_data_path_stats stats;
    switch (action->kind) {
    case FM_HOLDER_HELLO:
        message.kind = FM_BATCH_WORKER_HELLO;
        message.hello.worker = worker->number;
        message.hello.shards_max = worker->shards_max;
        holdings_write(worker, &message.hello.holdings);
        break;
    case FM_HOLDER_BEAT:
        fm_data_path_stats(worker->path, &stats);
        message.kind = FM_BATCH_WORKER_BEAT;
        holdings_write(worker, &message.beat.holdings);
        message.beat.memory_bytes = fm_os_memory_peak();
        message.beat.slowest_stage =
            fm_batch_view_of(stats.slowest_stage != NULL ? stats.slowest_stage : "");
        if (message.beat.slowest_stage.size > FM_BATCH_NAME_BYTES_MAX) {
            message.beat.slowest_stage.size = FM_BATCH_NAME_BYTES_MAX;
        }
        message.beat.slowest_share = stats.slowest_share;
        message.beat.last_error = fm_batch_view_of(stats.last_error.text);
        break;
    case FM_HOLDER_DONE:
        message.kind = FM_BATCH_WORKER_DONE;
        message.done = action->done;
        break;
    case FM_HOLDER_FAILED:
        message.kind = FM_BATCH_WORKER_FAILED;
        message.failed = (struct fm_batch_failed){.number = action->shard.number,
                                                  .epoch = action->shard.epoch,
                                                  .failure = action->failure,
                                                  .reason = fm_batch_view_of(action->reason)};
        break;
    case FM_HOLDER_RELEASED:
        message.kind = FM_BATCH_WORKER_RELEASED;
        message.released =
            (struct fm_batch_lease){.number = action->shard.number, .epoch = action->shard.epoch};
        break;
    case FM_HOLDER_TRIMMED:
        message.kind = FM_BATCH_WORKER_TRIMMED;
        message.trimmed = (struct fm_batch_trim){.number = action->shard.number,
                                                 .epoch = action->shard.epoch,
                                                 .keep_rows = action->keep_rows};
        break;
    case FM_HOLDER_RUN:
    case FM_HOLDER_SHORTEN:
    case FM_HOLDER_CURTAIL:
    case FM_HOLDER_ABANDON:
    case FM_HOLDER_EXIT:
    case FM_HOLDER_ACTION_COUNT_:
    default:
        FM_ASSERT(false);
    }
    say(worker, &message);
}

static void holder_does(struct worker *worker, const struct fm_holder_action *action)
{
    uint64_t number = action->shard.number;
    struct fm_batch_rows rows = {0};
    switch (action->kind) {
    case FM_HOLDER_RUN:
        FM_ASSERT(worker->grant != NULL && worker->grant->shard.number == number);
        rows = worker->grant->rows;
        check(worker,
              fm_data_path_run(worker->path, &action->shard, action->reason, row_get, &rows),
              "begin a shard");
        break;
    case FM_HOLDER_SHORTEN:
        fm_holder_shortened(worker->holder, number,
                            fm_data_path_shorten(worker->path, number, action->keep_rows));
        break;
    case FM_HOLDER_CURTAIL:
        fm_data_path_curtail(worker->path, number);
        break;
    case FM_HOLDER_ABANDON:
        fm_data_path_abandon(worker->path, number);
        break;
    case FM_HOLDER_EXIT:
        if (action->given_up) {
            (void)fm_error_set(&worker->failure, FM_EUNAVAILABLE,
                               "the master at %s was not there for too long; what was not "
                               "committed is given up",
                               worker->endpoint.url);
        }
        leave(worker);
        break;
    case FM_HOLDER_HELLO:
    case FM_HOLDER_BEAT:
    case FM_HOLDER_DONE:
    case FM_HOLDER_FAILED:
    case FM_HOLDER_RELEASED:
    case FM_HOLDER_TRIMMED:
    case FM_HOLDER_ACTION_COUNT_:
    default:
        holder_speaks(worker, action);
        break;
    }
}

static void path_says(struct worker *worker, const struct fm_data_path_event *event)
{
    switch (event->kind) {
    case FM_DATA_PATH_DONE:
        fm_holder_done(worker->holder, &event->done);
        break;
    case FM_DATA_PATH_RELEASED:
        fm_holder_released(worker->holder, event->done.number);
        break;
    case FM_DATA_PATH_BROKEN:
    default:
        fail(worker, &event->error);
        break;
    }
}

/* Hands on what there is, until nothing follows from it any more. */
static void hand_on(struct worker *worker)
{
    bool busy = worker->holder != NULL;
    while (busy && !worker->leaving) {
        struct fm_holder_action action;
        struct fm_data_path_event event;
        busy = false;
        while (!worker->leaving && fm_holder_next_action(worker->holder, &action)) {
            holder_does(worker, &action);
            busy = true;
        }
        if (!worker->leaving && fm_data_path_poll(worker->path, &event)) {
            path_says(worker, &event);
            busy = true;
        }
    }
    struct fm_master_holding holdings[FM_MASTER_SHARDS_OF_ONE_MAX];
    if (worker->stopping && worker->holder != NULL &&
        fm_holder_holdings(worker->holder, holdings) == 0) {
        leave(worker);
    }
}

static void progress_hear(struct worker *worker)
{
    struct fm_master_holding holdings[FM_MASTER_SHARDS_OF_ONE_MAX];
    size_t count = fm_holder_holdings(worker->holder, holdings);
    for (size_t i = 0; i < count; i++) {
        if (fm_data_path_progress(worker->path, holdings[i].number, &holdings[i])) {
            fm_holder_progress(worker->holder, &holdings[i]);
        }
    }
}

/* --- The job --- */

static void woken(struct fm_loop_task *task)
{
    struct worker *worker = FM_CONTAINER_OF(task, struct worker, wake_task);
    atomic_store(&worker->wake_posted, false);
    hand_on(worker);
}

/* From the data path's threads. */
static void on_wake(void *context)
{
    struct worker *worker = context;
    if (!atomic_exchange(&worker->wake_posted, true)) {
        fm_loop_post(worker->loop, &worker->wake_task);
    }
}

static int text_take(struct fm_batch_view view, char *ret_text, size_t size, const char *what,
                     struct fm_error *reterr)
{
    if (view.size >= size || memchr(view.data, '\0', view.size) != NULL) {
        return fm_error_set(reterr, FM_ETOOLARGE, "the master's %s is no path for this system",
                            what);
    }
    memcpy(ret_text, view.data, view.size);
    ret_text[view.size] = '\0';
    return 0;
}

/* The facts as they are here must be the master's. */
static int facts_compare(const struct worker *worker, struct fm_batch_facts theirs,
                         struct fm_error *reterr)
{
    struct fm_batch_fact fact;
    uint32_t matched = 0;
    while (fm_batch_facts_next(&theirs, &fact)) {
        for (size_t i = 0; i < FM_JOB_FACTS; i++) {
            const struct fm_job_fact *ours = &worker->facts.items[i];
            if (strlen(ours->key) != fact.key.size ||
                memcmp(ours->key, fact.key.data, fact.key.size) != 0) {
                continue;
            }
            matched++;
            if (strlen(ours->value) != fact.value.size ||
                memcmp(ours->value, fact.value.data, fact.value.size) != 0) {
                return fm_error_set(reterr, FM_EINVAL,
                                    "the job is another one here than at the master's: %s is "
                                    "'%s' here and '%.*s' there; bring '%s', its pipeline and "
                                    "models to the same state on both hosts",
                                    ours->key, ours->value, (int)fact.value.size, fact.value.data,
                                    worker->job.file);
            }
        }
    }
    return matched == FM_JOB_FACTS
               ? 0
               : fm_error_set(reterr, FM_EUNSUPPORTED,
                              "the master speaks of %u facts of the job that this program knows, "
                              "of %d: it is another version",
                              matched, FM_JOB_FACTS);
}

static int job_open(struct worker *worker, const struct fm_batch_welcome *welcome,
                    struct fm_error *reterr)
{
    char file[4096];
    char output[4096];
    int status = text_take(welcome->job_file, file, sizeof(file), "job file", reterr);
    status =
        status != 0 ? status : text_take(welcome->output, output, sizeof(output), "output", reterr);
    status = status != 0
                 ? status
                 : text_take(welcome->base, worker->base, sizeof(worker->base), "base", reterr);
    status = status != 0 ? status : fm_job_load(file, &worker->job, reterr);
    if (status != 0) {
        return status;
    }
    worker->has_job = true;
    worker->job.output = fm_arena_strdup(&worker->job.arena, output);
    if (worker->job.output == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    const struct fm_job_setup_options setup = {.note = worker->options->note,
                                               .note_context = worker->options->context};
    status = fm_job_setup_open(&worker->setup, &worker->job, &setup, reterr);
    if (status == 0) {
        fm_job_facts_make(&worker->setup, &worker->facts);
        status = facts_compare(worker, welcome->facts, reterr);
    }
    return status;
}

static int work_begin(struct worker *worker, const struct fm_batch_welcome *welcome,
                      struct fm_error *reterr)
{
    int status = job_open(worker, welcome, reterr);
    if (status != 0) {
        return status;
    }
    const struct fm_data_path_options path = {.setup = &worker->setup,
                                              .base = worker->base,
                                              .fault = worker->options->fault,
                                              .rows_in_flight =
                                                  fm_job_setup_rows_in_flight(&worker->setup),
                                              .wake = on_wake,
                                              .context = worker};
    /* One in work and one behind it, and where the job wants small ones, enough that the rows in
     * flight are had. */
    uint64_t rows = worker->job.shard_rows;
    uint64_t shards = SPARE_SHARDS + (rows > 0 ? path.rows_in_flight / rows : 0);
    worker->shards_max =
        shards < FM_MASTER_SHARDS_OF_ONE_MAX ? (uint32_t)shards : FM_MASTER_SHARDS_OF_ONE_MAX;
    const struct fm_holder_options holder = {.beat_ns = welcome->beat_ns,
                                             .give_up_ns = welcome->give_up_ns};
    status = fm_data_path_open(&path, &worker->path, reterr);
    if (status == 0 && fm_holder_create(&holder, fm_os_now_ns(), &worker->holder) != 0) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    return status;
}

/* --- Messages from the master --- */

static void welcomed(struct worker *worker, const struct fm_batch_welcome *welcome)
{
    struct fm_error error = {0};
    int status = worker->holder == NULL ? work_begin(worker, welcome, &error)
                                        : facts_compare(worker, welcome->facts, &error);
    if (status != 0) {
        fail(worker, &error);
        return;
    }
    fm_holder_connected(worker->holder, fm_os_now_ns());
}

static void granted(struct worker *worker, const struct fm_batch_grant *grant)
{
    char reason[FM_SHARD_REASON_SIZE];
    fm_batch_view_copy(grant->reason, reason, sizeof(reason));
    worker->grant = grant;
    check(worker, fm_holder_granted(worker->holder, &grant->shard, reason), "take a shard");
    hand_on(worker);
    worker->grant = NULL;
}

static void obey(struct worker *worker, const struct fm_batch_master_message *message)
{
    switch (message->kind) {
    case FM_BATCH_MASTER_WELCOME:
        welcomed(worker, &message->welcome);
        break;
    case FM_BATCH_MASTER_GRANT:
        granted(worker, &message->grant);
        break;
    case FM_BATCH_MASTER_COMMITTED:
        fm_holder_committed(worker->holder, message->committed.number, message->committed.epoch);
        break;
    case FM_BATCH_MASTER_REFUSED:
        fm_holder_refused(worker->holder, message->refused.number, message->refused.epoch);
        break;
    case FM_BATCH_MASTER_TRIM:
        fm_holder_asked(worker->holder, message->trim.number, message->trim.epoch,
                        message->trim.keep_rows);
        break;
    case FM_BATCH_MASTER_STOP:
        fm_holder_stop(worker->holder, message->stop.drop);
        break;
    case FM_BATCH_MASTER_END:
        fm_holder_ended(worker->holder);
        break;
    case FM_BATCH_MASTER_COUNT_:
    default:
        break;
    }
}

static void on_message(struct fm_grpc_client_call *call, struct fm_buffer *buffer, const char *data,
                       size_t size)
{
    struct worker *worker = FM_CONTAINER_OF(call, struct worker, call);
    struct fm_batch_master_message message;
    struct fm_error error = {0};
    if (!worker->leaving) {
        int status = fm_batch_master_message_read(data, size, &message, &error);
        if (status == 0 && worker->holder == NULL && message.kind != FM_BATCH_MASTER_WELCOME) {
            status = fm_error_set(&error, FM_EINVAL, "the master did not begin with a welcome");
        }
        if (status == 0) {
            obey(worker, &message);
            hand_on(worker);
        } else {
            fail(worker, &error);
        }
    }
    fm_buffer_unref(buffer);
}

/* --- The connection --- */

static void on_done(struct fm_grpc_client_call *call)
{
    struct worker *worker = FM_CONTAINER_OF(call, struct worker, call);
    uint64_t now_ns = fm_os_now_ns();
    worker->call_open = false;
    if (worker->closing || worker->leaving) {
        end(worker);
        return;
    }
    int status = call->status;
    bool final = status == FM_EPERM || status == FM_EINVAL || status == FM_EUNSUPPORTED ||
                 status == FM_ETOOLARGE;
    bool early =
        worker->holder == NULL && now_ns - worker->begun_ns >= worker->options->patience_ns;
    if (final || early) {
        worker->failure = call->error;
        worker->leaving = true;
        end(worker);
        return;
    }
    worker->retry_ns = now_ns + RETRY_NS;
    if (worker->holder != NULL) {
        fm_holder_disconnected(worker->holder, now_ns);
        hand_on(worker);
    }
}

static void call_begin(struct worker *worker)
{
    worker->call = (struct fm_grpc_client_call){.path = "/fermata.batch.v1.Ledger/Work",
                                                .stream = true,
                                                .message = on_message,
                                                .done = on_done};
    worker->call_open = true;
    fm_grpc_client_send(worker->client, &worker->call);
    if (worker->call_open) {
        join(worker);
    }
}

/* --- Time --- */

static void tick(void *context)
{
    struct worker *worker = context;
    const struct fm_worker_options *options = worker->options;
    uint64_t now_ns = fm_os_now_ns();
    if (worker->closing) {
        return;
    }
    fm_loop_alarm(worker->loop, TICK_NS, tick, worker);
    if (worker->leaving) {
        if (now_ns >= worker->leave_ns) {
            end(worker);
        }
        return;
    }
    if (!worker->stopping && options->stop != NULL && options->stop(options->context)) {
        worker->stopping = true;
        if (worker->holder != NULL) {
            fm_holder_stop(worker->holder, false);
        } else {
            leave(worker);
        }
    }
    if (worker->holder != NULL) {
        progress_hear(worker);
        fm_holder_tick(worker->holder, now_ns);
    }
    hand_on(worker);
    if (!worker->call_open && !worker->leaving && !worker->closing && now_ns >= worker->retry_ns) {
        call_begin(worker);
    }
}

static void on_round(void *context)
{
    struct worker *worker = context;
    if (worker->client != NULL && !worker->closing) {
        fm_grpc_client_round(worker->client);
    }
}

/* --- Life --- */

static int client_make(struct worker *worker, struct fm_error *reterr)
{
    const struct fm_worker_options *options = worker->options;
    struct fm_tls *tls = NULL;
    char url[4200];
    bool local = strncmp(options->url, "unix:", 5) == 0;
    (void)snprintf(url, sizeof(url), "%s%s", local ? "grpc+" : "", options->url);
    int status = fm_endpoint_parse(url, &worker->endpoint, reterr);
    if (status == 0 && !worker->endpoint.grpc) {
        status = fm_error_set(reterr, FM_EINVAL,
                              "'%s' is no URL of a job's master: it begins with grpc://, grpcs:// "
                              "or unix:",
                              options->url);
    }
    if (status != 0) {
        return status;
    }
    if (worker->endpoint.tls) {
        const struct fm_tls_client_options wanted = {.ca_path = options->ca_path,
                                                     .certificate_path = options->certificate_path,
                                                     .key_path = options->key_path,
                                                     .server_name = worker->endpoint.host};
        status = fm_tls_create_client(&wanted, &tls, reterr);
    }
    if (status != 0) {
        return status;
    }
    struct fm_grpc_client_options client = {.endpoint = &worker->endpoint,
                                            .tls = tls,
                                            .connections_max = 1,
                                            .connect_timeout_ns = 5000 * NS_PER_MS,
                                            .message_bytes_max = FM_BATCH_MESSAGE_BYTES_MAX};
    if (options->token != NULL) {
        worker->token_field =
            (struct fm_grpc_client_field){.name = "authorization", .value = options->token->header};
        client.fields = &worker->token_field;
        client.field_count = 1;
    }
    status = fm_grpc_client_create(worker->loop, &client, &worker->client, reterr);
    if (status != 0) {
        fm_tls_destroy(tls);
    }
    return status;
}

int fm_worker_run(const struct fm_worker_options *options, struct fm_error *reterr)
{
    struct worker worker = {.options = options,
                            .begun_ns = fm_os_now_ns(),
                            .number = fm_os_entropy() | 1, /* 0 is no number */
                            .wake_task.run = woken};
    fm_os_host_name(worker.host, sizeof(worker.host));
    if (options->name != NULL) {
        (void)snprintf(worker.name, sizeof(worker.name), "%s", options->name);
    } else {
        (void)snprintf(worker.name, sizeof(worker.name), "%.200s:%d", worker.host, fm_process_id());
    }
    int status = fm_loop_create(&worker.loop, reterr);
    status = status != 0 ? status : client_make(&worker, reterr);
    if (status == 0) {
        fm_loop_each_round(worker.loop, on_round, &worker);
        fm_loop_alarm(worker.loop, 0, tick, &worker);
        call_begin(&worker);
        fm_loop_run(worker.loop);
        status = worker.failure.status;
        *reterr = worker.failure;
    }
    worker.leaving = true; /* whatever the data path still says, nobody hands it on */
    fm_data_path_close(worker.path);
    fm_loop_destroy(worker.loop);
    fm_holder_destroy(worker.holder);
    fm_job_setup_close(&worker.setup);
    if (worker.has_job) {
        fm_job_deinit(&worker.job);
    }
    fm_endpoint_deinit(&worker.endpoint);
    return status;
}
