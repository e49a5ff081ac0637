/*
 * Models and pipelines in the pool. See serving.h.
 */
#include "engines/serve/serving.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/sched/warmup.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/log.h"
#include "host/os/os.h"
#include "host/runtime/profile_file.h"

/* --- latencies ---------------------------------------------------------------------------------
 */

static int compare_ns(const void *left, const void *right)
{
    uint64_t one = *(const uint64_t *)left;
    uint64_t other = *(const uint64_t *)right;
    return one < other ? -1 : one > other;
}

/* One batch size. */
static int measure_batch(struct fm_model *model, uint32_t batch, struct fm_profile *profile)
{
    uint64_t samples[FM_WARMUP_RUNS_MAX];
    uint64_t took_ns;
    int status = fm_model_try(model, 0, batch, &took_ns, NULL);
    uint64_t start_ns = fm_os_now_ns();
    uint32_t count = 0;
    bool once = status == 0 && fm_warmup_counts_first(took_ns);
    if (once) {
        samples[count++] = took_ns;
    }
    while (status == 0 && !once && fm_warmup_repeats(count, fm_os_now_ns() - start_ns)) {
        status = fm_model_try(model, 0, batch, &took_ns, NULL);
        samples[count++] = took_ns;
    }
    if (status != 0) {
        return status;
    }
    qsort(samples, count, sizeof samples[0], compare_ns);
    return fm_profile_add_samples(profile, batch, samples, count);
}

static int measure(struct fm_model *model, uint32_t batch_max, struct fm_profile *profile)
{
    uint64_t start_ns = fm_os_now_ns();
    uint32_t batch;
    int status = 0;
    while (status == 0 &&
           (batch = fm_warmup_next(profile, batch_max, fm_os_now_ns() - start_ns)) != 0) {
        status = measure_batch(model, batch, profile);
    }
    return status;
}

/* The largest batch that runs. */
static uint32_t batch_largest(uint32_t batch_max)
{
    batch_max = batch_max > 0 ? batch_max : 1;
    return batch_max < FM_SERVING_BATCH_MAX ? batch_max : FM_SERVING_BATCH_MAX;
}

/* The latencies of a model: its profile's, or measured, or guessed. `path`: of its profile; NULL:
 * it has none. */
static int profile_find(struct fm_model *model, const char *path, bool measures,
                        struct fm_profile *profile, enum fm_serving_source *ret_source,
                        struct fm_error *reterr)
{
    uint32_t batch_max = batch_largest(fm_model_batch_max(model));
    *profile = (struct fm_profile){0};
    if (path != NULL) {
        struct fm_profile_record *record = NULL;
        int status = fm_profile_file_load(path, &record, reterr);
        if (status == 0) {
            *profile = record->settings[record->choice_setting].profile;
            fm_free(record);
            *ret_source = FM_SERVING_PROFILED;
        }
        return status;
    }
    *ret_source = FM_SERVING_MEASURED;
    if (measures && measure(model, batch_max, profile) == 0) {
        return 0;
    }
    *ret_source = FM_SERVING_GUESSED;
    fm_warmup_guess(batch_max, profile);
    return 0;
}

/* --- into the pool -----------------------------------------------------------------------------
 */

static struct fm_model *model_of(const struct fm_serving *serving,
                                 const struct fm_serving_options *options, uint32_t stage,
                                 uint32_t type)
{
    const struct fm_servable *servable = serving->entry->servable;
    return options->group_count > 0 ? fm_servable_group_model(servable, stage, type)
                                    : fm_servable_bindings(servable)[stage].model;
}

/* The profile that the configuration names for a type; NULL: none. One that is not said to be of a
 * group is of the only one there is. */
static const char *profile_path_of(const struct fm_serving_options *options,
                                   const struct fm_model_config *config, uint32_t type, bool alone)
{
    if (config == NULL) {
        return NULL;
    }
    const struct fm_model_group_config *own =
        options->group_count > 0 ? fm_accelerator_group_config(config, &options->groups[type])
                                 : NULL;
    return own != NULL && own->profile_path != NULL ? own->profile_path
           : alone                                  ? config->profile_path
                                                    : NULL;
}

/*
 * How a stage's model goes into the pool, with its latencies on each type, in
 * profiles[type_count]. *ret_slowest_ns: a batch of one where that takes longest.
 */
static int options_fill(struct fm_serving *serving, const struct fm_serving_options *options,
                        uint32_t stage, const struct fm_model_config *config,
                        struct fm_profile *profiles, struct fm_pool_model_options *ret_options,
                        uint64_t *ret_slowest_ns, struct fm_error *reterr)
{
    uint32_t types = 0;
    int status = 0;
    *ret_slowest_ns = 0;
    *ret_options =
        (struct fm_pool_model_options){.name = serving->entry->name,
                                       .tag = serving->span_model,
                                       .statistic = FM_PROFILE_MEAN,
                                       .goal = options->goal_given  ? options->goal
                                               : serving->slo_given ? FM_SCHED_GOAL_BALANCED
                                                                    : FM_SCHED_GOAL_LATENCY};
    for (uint32_t type = 0; type < serving->type_count; type++) {
        ret_options->models[type] = model_of(serving, options, stage, type);
        types += ret_options->models[type] != NULL ? 1 : 0;
    }
    for (uint32_t type = 0; type < serving->type_count && status == 0; type++) {
        struct fm_model *model = ret_options->models[type];
        if (model == NULL) {
            continue;
        }
        status = profile_find(model, profile_path_of(options, config, type, types == 1),
                              options->measure, &profiles[type], &serving->source, reterr);
        ret_options->profiles[type] = &profiles[type];
        uint64_t one_ns =
            status == 0 ? fm_profile_latency_ns(&profiles[type], FM_PROFILE_MEAN, 1) : 0;
        *ret_slowest_ns = one_ns > *ret_slowest_ns ? one_ns : *ret_slowest_ns;
    }
    return status;
}

/* What the configuration says that has no effect here. */
static void note_ignored(const struct fm_serving *serving, const struct fm_model_config *config)
{
    char text[200];
    uint32_t types = 0;
    for (uint32_t type = 0; type < serving->type_count; type++) {
        types += serving->options.models[type] != NULL ? 1 : 0;
    }
    if (config->instance_count > 0 && config->instance_count != serving->instances) {
        (void)snprintf(text, sizeof text,
                       "%u instances are configured, but here there is one for each of the %u "
                       "accelerators that the model may use, so that any batch may run on any",
                       (unsigned)config->instance_count, (unsigned)serving->instances);
        fm_log(FM_LOG_INFO, "note", FM_LOG_TEXT("model", serving->entry->name),
               FM_LOG_TEXT("text", text));
    }
    if (config->group_count > 0 && serving->group_count == 0) {
        fm_log(FM_LOG_WARNING, "note", FM_LOG_TEXT("model", serving->entry->name),
               FM_LOG_TEXT("text", "its 'accelerators' have no effect, because this server has no "
                                   "groups of accelerators: it may run on all of them; "
                                   "--accelerators NAME=KIND:COUNT,... makes groups"));
    }
    if (types > 1 && config->profile_path != NULL) {
        fm_log(FM_LOG_WARNING, "note", FM_LOG_TEXT("model", serving->entry->name),
               FM_LOG_TEXT("text", "its profile is not used, as it does not say of which group of "
                                   "accelerators it is: name it below 'accelerators'"));
    }
}

/* What the model's own configuration says of its scheduling. */
static int options_configure(struct fm_serving *serving, const struct fm_model_config *config,
                             struct fm_error *reterr)
{
    struct fm_pool_model_options *options = &serving->options;
    if (config == NULL) {
        return 0;
    }
    if (config->goal != FM_SCHED_GOAL_COUNT_) {
        options->goal = config->goal;
    }
    if (config->policy != FM_SCHED_POLICY_COUNT_) {
        options->policy_given = true;
        options->policy = config->policy;
        serving->policy = config->policy;
    }
    size_t preferred = config->preferred_batch_size_count;
    if (serving->policy == FM_SCHED_POLICY_TIMEOUT && preferred > FM_SCHED_PREFERRED_MAX) {
        return fm_error_set(reterr, FM_EINVAL,
                            "model '%s' has %zu preferred batch sizes, policy timeout knows %u at "
                            "most: leave some out",
                            serving->entry->name, preferred, FM_SCHED_PREFERRED_MAX);
    }
    options->queue_delay_ns = config->max_queue_delay_ns;
    for (size_t i = 0; i < preferred && i < FM_SCHED_PREFERRED_MAX; i++) {
        options->preferred[i] = config->preferred_batch_sizes[i];
    }
    return 0;
}

static int model_create(struct fm_serving *serving, const struct fm_serving_options *options,
                        struct fm_error *reterr)
{
    const struct fm_model_config *config = fm_servable_config(serving->entry->servable);
    uint64_t slowest_ns = 0;
    serving->profiles = fm_alloc_zero(serving->type_count, sizeof *serving->profiles);
    if (serving->profiles == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for '%s'", serving->entry->name);
    }
    int status = options_fill(serving, options, 0, config, serving->profiles, &serving->options,
                              &slowest_ns, reterr);
    if (status != 0) {
        return status;
    }
    if (!serving->slo_given) {
        serving->slo_ns = fm_warmup_slo_ns(slowest_ns);
    }
    for (uint32_t type = 0; type < serving->type_count; type++) {
        const struct fm_model *model = serving->options.models[type];
        serving->instances += model != NULL ? fm_model_instance_count(model) : 0;
        serving->memory_bytes += model != NULL ? fm_model_memory(model) : 0;
    }
    serving->options.slo_ns = serving->slo_ns;
    status = options_configure(serving, config, reterr);
    status = status != 0
                 ? status
                 : fm_pool_model_add(options->pool, &serving->options, &serving->model, reterr);
    if (status == 0 && config != NULL) {
        note_ignored(serving, config);
    }
    return status;
}

static int pipeline_create(struct fm_serving *serving, const struct fm_serving_options *options,
                           struct fm_error *reterr)
{
    struct fm_servable *servable = serving->entry->servable;
    const struct fm_pipeline *pipeline = fm_servable_pipeline(servable);
    const struct fm_stage_binding *bindings = fm_servable_bindings(servable);
    struct fm_pool_model_options *models = fm_alloc_zero(pipeline->stage_count, sizeof *models);
    struct fm_profile *profiles =
        fm_alloc_zero((size_t)pipeline->stage_count * serving->type_count, sizeof *profiles);
    int status = models != NULL && profiles != NULL
                     ? 0
                     : fm_error_set(reterr, FM_ENOMEM, "out of memory for the pipeline's stages");
    uint64_t latency_ns = 0;
    char span[200];
    for (uint32_t i = 0; i < pipeline->stage_count && status == 0; i++) {
        if (bindings[i].model == NULL) {
            continue;
        }
        uint64_t slowest_ns = 0;
        status = options_fill(serving, options, i, NULL, &profiles[i * serving->type_count],
                              &models[i], &slowest_ns, reterr);
        (void)snprintf(span, sizeof span, "%s/%s", serving->entry->name,
                       pipeline->stages[i].spec->name);
        models[i].tag = options->span_model(options->context, span);
        latency_ns += slowest_ns;
    }
    if (!serving->slo_given) {
        serving->slo_ns = fm_warmup_slo_ns(latency_ns);
    }
    const struct fm_pool_stages_options stages = {
        .servable = servable, .models = models, .slo_ns = serving->slo_ns};
    status = status != 0 ? status
                         : fm_pool_stages_create(options->pool, &stages, &serving->stages, reterr);
    fm_free(models);
    fm_free(profiles);
    return status;
}

static int counters_create(struct fm_serving *serving, struct fm_error *reterr)
{
    uint32_t batch_max = batch_largest(serving->entry->signature.batch_max);
    serving->counters = fm_alloc_zero(serving->loop_count, sizeof(struct fm_model_counters *));
    serving->memos = fm_alloc_zero(serving->loop_count, sizeof(struct fm_oip_memo));
    int status = serving->counters != NULL && serving->memos != NULL ? 0 : FM_ENOMEM;
    for (uint32_t i = 0; i < serving->loop_count && status == 0; i++) {
        status = fm_model_counters_create(batch_max, &serving->counters[i]);
    }
    return status == 0 ? 0
                       : fm_error_set(reterr, status, "out of memory for what is counted of '%s'",
                                      serving->entry->name);
}

/* Loads of this process, for all its servers. */
static _Atomic uint64_t loads;

int fm_serving_create(const struct fm_serving_options *options, struct fm_catalog_entry *entry,
                      struct fm_serving **ret_serving, struct fm_error *reterr)
{
    struct fm_serving *serving = fm_alloc_zero(1, sizeof *serving);
    if (serving == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for '%s'", entry->name);
    }
    serving->entry = entry;
    serving->pool = options->pool;
    serving->loop_count = options->loop_count;
    serving->requests_max = options->requests_max;
    const struct fm_model_config *config = fm_servable_config(entry->servable);
    const struct fm_pipeline *pipeline =
        fm_servable_model(entry->servable) == NULL ? fm_servable_pipeline(entry->servable) : NULL;
    uint64_t own_slo_ns = pipeline != NULL ? pipeline->spec->slo_ns
                          : config != NULL ? config->slo_ns
                                           : 0;
    serving->groups = options->groups;
    serving->group_count = options->group_count;
    serving->type_count = options->group_count > 0 ? options->group_count : 1;
    serving->policy = options->policy;
    serving->slo_ns = own_slo_ns > 0 ? own_slo_ns : options->slo_ns;
    serving->slo_given = serving->slo_ns > 0;
    serving->load = atomic_fetch_add_explicit(&loads, 1, memory_order_relaxed);
    serving->cached = options->cache && fm_servable_response_cache(entry->servable);
    serving->span_model = options->span_model(options->context, entry->name);
    int status = counters_create(serving, reterr);
    if (status == 0) {
        status = fm_servable_model(entry->servable) != NULL
                     ? model_create(serving, options, reterr)
                     : pipeline_create(serving, options, reterr);
    }
    if (status != 0) {
        (void)fm_serving_destroy(serving); /* nothing has run */
        return status;
    }
    *ret_serving = serving;
    return 0;
}

bool fm_serving_destroy(struct fm_serving *serving)
{
    if (serving == NULL) {
        return true;
    }
    bool gone = fm_pool_model_remove(serving->pool, serving->model);
    gone = fm_pool_stages_destroy(serving->stages) && gone;
    for (uint32_t i = 0; serving->counters != NULL && i < serving->loop_count; i++) {
        fm_model_counters_destroy(serving->counters[i]);
    }
    fm_model_totals_deinit(&serving->totals);
    fm_free(serving->learnt);
    fm_free(serving->profiles);
    fm_free(serving->counters);
    for (uint32_t i = 0; serving->memos != NULL && i < serving->loop_count; i++) {
        fm_oip_memo_deinit(&serving->memos[i]);
    }
    fm_free(serving->memos);
    fm_free(serving);
    return gone;
}

/* --- following ---------------------------------------------------------------------------------
 */

/* What batches take moves the profile, and with it what the scheduler plans by. */
static void profile_follow(struct fm_serving *serving)
{
    struct fm_profile *profile = &serving->profiles[0];
    bool guessed = serving->source == FM_SERVING_GUESSED;
    if (!fm_warmup_follow(profile, &guessed, serving->totals.rows, serving->learnt,
                          serving->totals.row_count)) {
        return;
    }
    serving->source = guessed ? FM_SERVING_GUESSED : FM_SERVING_MEASURED;
    if (!serving->slo_given) {
        serving->slo_ns = fm_warmup_slo_ns(fm_profile_latency_ns(profile, FM_PROFILE_MEAN, 1));
        serving->options.slo_ns = serving->slo_ns;
    }
    /* Without memory it stays as it is, and is tried again when it differs more. */
    int status = fm_pool_model_set(serving->pool, serving->model, &serving->options, NULL);
    (void)status;
}

int fm_serving_totals_add(const struct fm_serving *serving, struct fm_model_totals *totals)
{
    int status = 0;
    for (uint32_t i = 0; i < serving->loop_count; i++) {
        int added = fm_model_totals_add(totals, serving->counters[i]);
        status = status == 0 ? added : status;
    }
    return status;
}

uint32_t fm_serving_stage_count(const struct fm_serving *serving)
{
    return serving->stages != NULL ? fm_servable_pipeline(serving->entry->servable)->stage_count
                                   : 0;
}

const struct fm_model_counters *fm_serving_stage_counters(const struct fm_serving *serving,
                                                          uint32_t stage, const char **ret_model,
                                                          uint64_t *ret_version)
{
    const struct fm_model *model = fm_servable_bindings(serving->entry->servable)[stage].model;
    const struct fm_model_counters *counters = fm_pool_stages_counters(serving->stages, stage);
    if (counters != NULL) {
        *ret_model = fm_model_name(model);
        *ret_version = fm_model_version(model);
    }
    return counters;
}

void fm_serving_sample(struct fm_serving *serving, uint64_t now_ns)
{
    fm_model_totals_clear(&serving->totals);
    int status = fm_serving_totals_add(serving, &serving->totals);
    (void)status; /* without memory the rows are fewer; the rest is there */
    fm_recent_sample(&serving->recent, now_ns, &serving->totals);
    /* What was counted does not say on which type: there it is the scheduler alone that learns. */
    if (serving->model == NULL || serving->source == FM_SERVING_PROFILED ||
        serving->type_count > 1) {
        return;
    }
    if (serving->learnt_count < serving->totals.row_count) {
        struct fm_batch_row_total *learnt =
            fm_realloc(serving->learnt, serving->totals.row_count * sizeof *learnt);
        if (learnt == NULL) {
            return;
        }
        memset(learnt + serving->learnt_count, 0,
               (serving->totals.row_count - serving->learnt_count) * sizeof *learnt);
        serving->learnt = learnt;
        serving->learnt_count = serving->totals.row_count;
    }
    profile_follow(serving);
}
