/*
 * The tuning of a data path. See path_tuner.h.
 */
#include "engines/batch/path_tuner.h"

#include <stdio.h>
#include <string.h>

#include "core/proto/batch_accelerators.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/os.h"

#define NS_PER_MS UINT64_C(1000000)
#define TUNE_NS   (200 * NS_PER_MS)
/* What a thread's stack counts for against a limit on memory. */
#define THREAD_BYTES (UINT64_C(8) << 20)

struct fm_path_tuner {
    const struct fm_block_plan *plan;
    struct fm_executor *executor;
    uint32_t stage_count;
    uint32_t readers_max;
    uint32_t rows_max;
    struct fm_tuner tuner;
    uint64_t tuned_ns;
    char batches[FM_ERROR_TEXT_SIZE];                   /* as they are told */
    char accelerators[FM_BATCH_ACCELERATORS_TEXT_SIZE]; /* likewise */
};

/* More threads only as far as their stacks take no more than an eighth of what memory there is. */
static struct fm_tuner_range threads_within(const struct fm_block_plan *plan,
                                            struct fm_tuner_range range)
{
    uint64_t limit = plan->memory_bytes;
    uint64_t used = plan->memory_first;
    uint64_t room = limit > used ? (limit - used) / 8 / THREAD_BYTES : 0;
    if (limit > 0 && range.max - range.first > room) {
        range.max = range.first + (uint32_t)room;
    }
    return range;
}

int fm_path_tuner_open(const struct fm_path_tuner_options *options,
                       struct fm_path_tuner **ret_tuner, struct fm_error *reterr)
{
    struct fm_tuner_stage stages[FM_PIPELINE_STAGES_MAX] = {0};
    const struct fm_block_plan *plan = options->plan;
    const struct fm_job_setup *setup = plan->setup;
    const struct fm_stage_binding *bindings = fm_servable_bindings(setup->servable);
    struct fm_path_tuner *tuner = fm_alloc_zero(1, sizeof(*tuner));
    if (tuner == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    tuner->plan = plan;
    tuner->executor = fm_servable_executor(setup->servable);
    tuner->stage_count = fm_servable_pipeline(setup->servable)->stage_count;
    const struct fm_tuner_options wanted = {
        .rows = options->ranges.rows,
        .readers = threads_within(plan, options->ranges.readers),
        .operators = threads_within(plan, options->ranges.operators),
        .rows_step = setup->block_rows,
        .cpus = fm_os_cpu_count(),
        .stage_count = tuner->stage_count,
        .stages = stages};
    for (uint32_t i = 0; i < tuner->stage_count; i++) {
        if (bindings[i].model != NULL) {
            stages[i] =
                (struct fm_tuner_stage){.slots = fm_servable_stage_slots(setup->servable, i),
                                        .batch_max = fm_executor_batch_max(tuner->executor, i)};
        }
    }
    tuner->readers_max = wanted.readers.max;
    tuner->rows_max = wanted.rows.max;
    fm_tuner_init(&tuner->tuner, &wanted);
    *ret_tuner = tuner;
    return 0;
}

void fm_path_tuner_close(struct fm_path_tuner *tuner)
{
    fm_free(tuner);
}

uint32_t fm_path_tuner_readers_max(const struct fm_path_tuner *tuner)
{
    return tuner->readers_max;
}

uint32_t fm_path_tuner_rows_max(const struct fm_path_tuner *tuner)
{
    return tuner->rows_max;
}

void fm_path_tuner_settings(const struct fm_path_tuner *tuner,
                            struct fm_tuner_settings *ret_settings)
{
    fm_tuner_settings(&tuner->tuner, ret_settings);
}

void fm_path_tuner_apply(struct fm_path_tuner *tuner, const struct fm_tuner_settings *settings)
{
    for (uint32_t i = 0; i < tuner->stage_count; i++) {
        if (settings->batch[i] > 0) {
            fm_executor_batch_max_set(tuner->executor, i, settings->batch[i]);
        }
    }
    if (settings->operators > 0) {
        (void)fm_executor_operator_threads_set(tuner->executor, settings->operators);
    }
}

bool fm_path_tuner_is_due(struct fm_path_tuner *tuner, uint64_t now_ns)
{
    bool due = now_ns >= tuner->tuned_ns + TUNE_NS;
    tuner->tuned_ns = due ? now_ns : tuner->tuned_ns;
    return due;
}

bool fm_path_tuner_look(struct fm_path_tuner *tuner, uint64_t now_ns, bool works,
                        struct fm_tuner_sample *sample)
{
    if (!works) {
        fm_tuner_pause(&tuner->tuner);
        return false;
    }
    sample->now_ns = now_ns;
    sample->cpu_ns = fm_os_cpu_ns();
    for (uint32_t i = 0; i < tuner->stage_count; i++) {
        struct fm_executor_stage_stats stats;
        fm_executor_stats(tuner->executor, i, &stats);
        sample->stages[i] = (struct fm_tuner_stage_sample){
            .busy_ns = stats.busy_ns, .batches = stats.batches, .rows = stats.rows};
    }
    return fm_tuner_look(&tuner->tuner, sample);
}

/* What they have done since the job was opened. */
static void accelerators_get(struct fm_path_tuner *tuner)
{
    const struct fm_servable *servable = tuner->plan->setup->servable;
    bool room = true;
    tuner->accelerators[0] = '\0';
    for (uint32_t i = 0; i < fm_servable_accelerator_count(servable) && room; i++) {
        struct fm_executor_accelerator_stats stats;
        fm_executor_accelerator_stats(tuner->executor, i, &stats);
        const struct fm_batch_accelerator accelerator = {
            .name = fm_batch_view_of(fm_servable_accelerator_name(servable, i)),
            .busy_ms = stats.busy_ns / NS_PER_MS,
            .batches = stats.batches};
        room = fm_batch_accelerator_append(tuner->accelerators, sizeof(tuner->accelerators),
                                           &accelerator);
    }
}

void fm_path_tuner_tell(struct fm_path_tuner *tuner, struct fm_batch_tuned *ret_tuned)
{
    struct fm_tuner_settings settings;
    size_t used = 0;
    fm_tuner_settings(&tuner->tuner, &settings);
    tuner->batches[0] = '\0';
    for (uint32_t i = 0; i < tuner->stage_count; i++) {
        char word[FM_ERROR_TEXT_SIZE];
        int length = snprintf(word, sizeof(word), "%s%.200s %u", used > 0 ? ", " : "",
                              tuner->plan->stage_names[i], settings.batch[i]);
        if (settings.batch[i] > 0 && used + (size_t)length < sizeof(tuner->batches)) {
            memcpy(tuner->batches + used, word, (size_t)length + 1);
            used += (size_t)length;
        }
    }
    accelerators_get(tuner);
    *ret_tuned = (struct fm_batch_tuned){.readers = settings.readers,
                                         .operators = settings.operators,
                                         .rows = settings.rows,
                                         .batches = fm_batch_view_of(tuner->batches),
                                         .accelerators = fm_batch_view_of(tuner->accelerators)};
}
