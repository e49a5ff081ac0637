/*
 * What a data path is told, and what it tells: shards to run, to cut off and to throw away, and how
 * far they are. See data_path.h.
 */
#include <stdio.h>

#include "core/util/assert.h"
#include "core/util/memory.h"
#include "engines/batch/data_path_internal.h"
#include "host/os/os.h"

static struct shard_work *shard_find(const struct fm_data_path *path, uint64_t number)
{
    struct shard_work *shard = path->shards;
    while (shard != NULL && (shard->shard.number != number || shard->abandoned)) {
        shard = shard->next;
    }
    return shard;
}

static int files_take(struct shard_work *work,
                      int (*get)(void *context, struct fm_data_path_row *ret_row), void *context)
{
    uint64_t rows = 0;
    work->files = fm_arena_alloc(&work->arena, work->shard.row_count * sizeof(*work->files));
    int status = work->files == NULL ? FM_ENOMEM : 0;
    for (size_t i = 0; rows < work->shard.row_count && status == 0; i++) {
        struct fm_data_path_row *file = &work->files[i];
        status = get(context, file);
        if (status == 0) {
            file->id = fm_arena_strdup(&work->arena, file->id);
            status = file->id == NULL ? FM_ENOMEM : 0;
            rows += file->row_count > 0 ? file->row_count : 1;
        }
    }
    return status;
}

int fm_data_path_run(struct fm_data_path *path, const struct fm_shard *shard, const char *reason,
                     int (*get)(void *context, struct fm_data_path_row *ret_row), void *context)
{
    struct shard_work *work = fm_alloc_zero(1, sizeof(*work));
    if (work == NULL) {
        return FM_ENOMEM;
    }
    work->shard = *shard;
    (void)snprintf(work->reason, sizeof(work->reason), "%s", reason);
    fm_blame_read(work->reason, &work->blame);
    fm_arena_init(&work->arena, 0);
    int status = files_take(work, get, context);
    if (status != 0) {
        fm_data_path_shard_free(work);
        return status;
    }
    path_lock(path);
    struct shard_work **link = &path->shards;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = work;
    fm_condition_broadcast(&path->work);
    path_unlock(path);
    return 0;
}

/* Cuts off what has not begun, down to keep_rows. The lock is held. */
static uint64_t cut(struct fm_data_path *path, struct shard_work *shard, uint64_t keep_rows)
{
    uint64_t kept = keep_rows > shard->admitted ? keep_rows : shard->admitted;
    if (kept < shard->shard.row_count && shard->state == SHARD_RUNNING) {
        shard->shard.row_count = kept;
        path->writer_due = true; /* that may be all of it */
    }
    return shard->shard.row_count;
}

uint64_t fm_data_path_shorten(struct fm_data_path *path, uint64_t number, uint64_t keep_rows)
{
    path_lock(path);
    struct shard_work *shard = shard_find(path, number);
    uint64_t kept = shard != NULL ? cut(path, shard, keep_rows) : keep_rows;
    if (kept == 0 && shard != NULL) {
        fm_data_path_shard_abandon(path, shard);
    }
    path_unlock(path);
    return kept;
}

void fm_data_path_curtail(struct fm_data_path *path, uint64_t number)
{
    path_lock(path);
    struct shard_work *shard = shard_find(path, number);
    if (shard != NULL) {
        (void)cut(path, shard, 0);
    }
    path_unlock(path);
}

void fm_data_path_abandon(struct fm_data_path *path, uint64_t number)
{
    path_lock(path);
    struct shard_work *shard = shard_find(path, number);
    if (shard != NULL) {
        fm_data_path_shard_abandon(path, shard);
    }
    path_unlock(path);
}

bool fm_data_path_poll(struct fm_data_path *path, struct fm_data_path_event *ret_event)
{
    path_lock(path);
    struct shard_work *shard = path->shards;
    while (shard != NULL && (shard->state != SHARD_ENDED || shard->abandoned)) {
        shard = shard->next;
    }
    bool found = shard != NULL;
    if (shard != NULL) {
        *ret_event = shard->event;
        fm_data_path_shard_remove(path, shard);
    } else if (path->starvation.status != 0 && !path->starvation_told) {
        path->starvation_told = true;
        *ret_event =
            (struct fm_data_path_event){.kind = FM_DATA_PATH_STARVED, .error = path->starvation};
        found = true;
    } else if (path->failure.status != 0) {
        *ret_event =
            (struct fm_data_path_event){.kind = FM_DATA_PATH_BROKEN, .error = path->failure};
        found = true;
    }
    path_unlock(path);
    return found;
}

bool fm_data_path_progress(struct fm_data_path *path, uint64_t number,
                           struct fm_master_holding *ret_holding)
{
    path_lock(path);
    const struct shard_work *shard = shard_find(path, number);
    if (shard != NULL) {
        *ret_holding = (struct fm_master_holding){.number = number,
                                                  .epoch = shard->shard.epoch,
                                                  .rows_done = shard->done,
                                                  .rows_bad = shard->bad};
    }
    path_unlock(path);
    return shard != NULL;
}

struct overdue_search {
    struct fm_data_path *path;
    uint64_t before_ns;
    struct fm_data_path_overdue *found;
    size_t count;
    size_t max;
};

/* Under the executor's lock, so that the block stays what it is. */
static bool overdue_visit(void *context, uint32_t stage, uint64_t start_ns,
                          struct fm_request *request)
{
    struct overdue_search *search = context;
    const struct flight *flight = FM_CONTAINER_OF(request, struct flight, block.request);
    if (start_ns >= search->before_ns || search->count == search->max) {
        return false;
    }
    fm_mutex_lock(&search->path->mutex);
    const struct shard_work *shard = flight->shard;
    bool new = true;
    for (size_t i = 0; i < search->count; i++) {
        new = new && search->found[i].number != shard->shard.number;
    }
    if (new) {
        search->found[search->count++] =
            (struct fm_data_path_overdue){.number = shard->shard.number,
                                          .held = !shard->abandoned,
                                          .stage = search->path->plan.stage_names[stage],
                                          .start_ns = start_ns,
                                          .row = flight->block.first_row};
    }
    fm_mutex_unlock(&search->path->mutex);
    return true;
}

size_t fm_data_path_overdue(struct fm_data_path *path, uint64_t before_ns,
                            struct fm_data_path_overdue *ret_overdue, size_t max)
{
    struct overdue_search search = {
        .path = path, .before_ns = before_ns, .found = ret_overdue, .max = max};
    fm_executor_running(path->executor, overdue_visit, &search);
    return search.count;
}

static void stages_watch(struct fm_data_path *path, const struct fm_stage_sum *readers,
                         uint64_t now_ns)
{
    struct fm_stage_sum sums[FM_PIPELINE_STAGES_MAX];
    if (!fm_stage_watch_is_due(&path->watch, now_ns)) {
        return;
    }
    for (uint32_t i = 0; i < path->watch.stage_count; i++) {
        struct fm_executor_stage_stats stats;
        fm_executor_stats(path->executor, i, &stats);
        sums[i] = (struct fm_stage_sum){.busy_ns = stats.busy_ns, .slots = stats.slots};
    }
    fm_stage_watch_look(&path->watch, readers, sums, now_ns);
}

void fm_data_path_stats(struct fm_data_path *path, struct fm_data_path_stats *ret_stats)
{
    uint64_t now_ns = fm_os_now_ns();
    path_lock(path);
    *ret_stats = (struct fm_data_path_stats){.rows_in_flight = path->rows_in_flight,
                                             .rows_finished = path->rows_finished,
                                             .last_error = path->last_error};
    fm_path_memory_tell(&path->memory, &ret_stats->memory);
    fm_path_meter_advance(&path->meter, now_ns);
    const struct fm_stage_sum readers = {.busy_ns = path->meter.readers_busy_ns,
                                         .slots = path->readers_max};
    path_unlock(path);
    stages_watch(path, &readers, now_ns);
    ret_stats->slowest_stage = path->watch.slowest;
    ret_stats->slowest_share = path->watch.slowest_share;
    ret_stats->stages = path->watch.stages;
    fm_path_tuner_tell(path->tuner, &ret_stats->tuned);
}
