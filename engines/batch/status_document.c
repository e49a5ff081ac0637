/*
 * A running job as JSON. See status_document.h.
 */
#include "engines/batch/status_document.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/proto/batch_accelerators.h"
#include "engines/batch/stage_use.h"
#include "host/os/os.h"

static double seconds(uint64_t ns)
{
    return (double)(ns / 1000000) / 1000;
}

static void view_member(struct fm_json_writer *json, const char *key, struct fm_batch_view view)
{
    fm_json_key(json, key);
    if (view.size > 0) {
        fm_json_string_n(json, view.data, view.size);
    } else {
        fm_json_null(json);
    }
}

/* 0: null. */
void fm_status_document_time(struct fm_json_writer *json, const char *key, uint64_t wall_ms)
{
    char text[32];
    fm_json_key(json, key);
    if (wall_ms > 0) {
        fm_os_format_time(wall_ms * 1000000, text, sizeof(text));
        fm_json_string(json, text);
    } else {
        fm_json_null(json);
    }
}

static void flag_member(struct fm_json_writer *json, const char *key, bool flag)
{
    fm_json_key(json, key);
    fm_json_bool(json, flag);
}

/* null: it does not say. */
static void tuned_write(struct fm_json_writer *json, const struct fm_batch_tuned *tuned)
{
    fm_json_key(json, "tuned");
    if (tuned->readers == 0) {
        fm_json_null(json);
        return;
    }
    fm_json_object_begin(json);
    fm_json_member_uint(json, "read_threads", tuned->readers);
    fm_json_member_uint(json, "operator_threads", tuned->operators);
    fm_json_member_uint(json, "rows_in_flight", tuned->rows);
    view_member(json, "batches", tuned->batches);
    fm_json_object_end(json);
}

/* null: it has none. */
static void accelerators_write(struct fm_json_writer *json, struct fm_batch_view text)
{
    struct fm_batch_accelerator accelerator;
    fm_json_key(json, "accelerators");
    if (text.size == 0) {
        fm_json_null(json);
        return;
    }
    fm_json_array_begin(json);
    while (fm_batch_accelerator_next(&text, &accelerator)) {
        fm_json_object_begin(json);
        view_member(json, "name", accelerator.name);
        fm_json_member_number(json, "busy_seconds", (double)accelerator.busy_ms / 1000);
        fm_json_member_uint(json, "batches", accelerator.batches);
        fm_json_object_end(json);
    }
    fm_json_array_end(json);
}

/* Likewise; a budget of null: there is none. */
static void memory_write(struct fm_json_writer *json, const struct fm_batch_memory *memory)
{
    fm_json_key(json, "memory");
    if (memory->base == 0) {
        fm_json_null(json);
        return;
    }
    fm_json_object_begin(json);
    fm_json_key(json, "budget_bytes");
    if (memory->budget > 0) {
        fm_json_uint(json, memory->budget);
    } else {
        fm_json_null(json);
    }
    fm_json_member_uint(json, "base_bytes", memory->base);
    fm_json_member_uint(json, "used_bytes", memory->used);
    fm_json_member_uint(json, "most_bytes", memory->most);
    fm_json_member_uint(json, "rows_bytes", memory->rows);
    fm_json_object_end(json);
}

/* Its stages go into the means. */
static void worker_write(struct fm_json_writer *json, const struct fm_batch_worker_status *worker,
                         struct fm_stage_uses *means)
{
    char number[24];
    struct fm_stage_uses stages;
    fm_json_object_begin(json);
    /* Text, because not every reader of JSON has 64 bits for a number. */
    (void)snprintf(number, sizeof(number), "%016" PRIx64, worker->worker);
    fm_json_member_string(json, "worker", number);
    view_member(json, "name", worker->name);
    view_member(json, "host", worker->host);
    fm_json_member_uint(json, "process", worker->process);
    flag_member(json, "connected", worker->connected);
    fm_json_member_uint(json, "shards", worker->shards);
    fm_json_member_uint(json, "rows_in_work", worker->rows_in_work);
    fm_json_member_uint(json, "rows_committed", worker->rows_committed);
    fm_json_member_uint(json, "rows_per_minute", worker->rows_per_minute);
    fm_json_member_uint(json, "memory_bytes", worker->memory_bytes);
    view_member(json, "slowest_stage", worker->slowest_stage);
    fm_json_member_number(json, "slowest_share", worker->slowest_share);
    view_member(json, "last_error", worker->last_error);
    fm_json_member_number(json, "silent_seconds", seconds(worker->silent_ns));
    fm_stage_uses_set(&stages, &worker->stages);
    fm_json_key(json, "stages");
    fm_stage_uses_write(&stages, json);
    fm_stage_uses_add(means, &stages);
    tuned_write(json, &worker->tuned);
    accelerators_write(json, worker->tuned.accelerators);
    memory_write(json, &worker->memory);
    fm_json_object_end(json);
}

void fm_status_document_write(struct fm_json_writer *json, const struct fm_batch_status *status)
{
    struct fm_batch_worker_statuses workers = status->workers;
    struct fm_batch_worker_status worker;
    struct fm_stage_uses means = {.count = 0};
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {{"process", status->process},
                   {"rows_total", status->rows_total},
                   {"rows_committed", status->rows_committed},
                   {"rows_done", status->rows_done},
                   {"dead_letters", status->dead_letters},
                   {"rows_in_work", status->rows_in_work}};
    fm_json_object_begin(json);
    view_member(json, "job", status->job);
    view_member(json, "version", status->version);
    flag_member(json, "paused", status->paused);
    flag_member(json, "stopping", status->stopping);
    flag_member(json, "cancelled", status->cancelled);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        fm_json_member_uint(json, numbers[i].key, numbers[i].value);
    }
    fm_json_member_number(json, "rows_per_second", status->rows_per_s);
    fm_json_key(json, "seconds_left");
    if (status->rest_ns != FM_BATCH_REST_UNKNOWN) {
        fm_json_number(json, seconds(status->rest_ns));
    } else {
        fm_json_null(json);
    }
    fm_json_member_number(json, "running_seconds", seconds(status->running_ns));
    fm_json_member_uint(json, "workers_wanted", status->workers_wanted);
    view_member(json, "workers_wanted_why", status->workers_why);
    fm_status_document_time(json, "finish_by", status->finish_by_ms);
    flag_member(json, "late", status->late);
    fm_json_key(json, "workers");
    fm_json_array_begin(json);
    while (fm_batch_worker_statuses_next(&workers, &worker)) {
        worker_write(json, &worker, &means);
    }
    fm_json_array_end(json);
    fm_json_key(json, "stages");
    fm_stage_uses_write(&means, json);
    fm_json_object_end(json);
}
