/*
 * What the timeline is told of accelerators: batches, their windows, rests; and the names of models
 * in it. See serve_internal.h.
 *
 * Rings, each with one writer at a time: the loops', the observer's, then one for each worker of
 * the pool.
 */
#include <string.h>

#include "core/util/memory.h"
#include "engines/serve/serve_internal.h"
#include "host/os/os.h"

/* Spans of each ring: less where there are many. */
#define SPANS_ALL   (1u << 17)
#define SPANS_MOST  (1u << 14)
#define SPANS_LEAST (1u << 11)
/* Of how many requests one shows its phases. */
#define SAMPLE_EVERY 16u

/* --- names -------------------------------------------------------------------------------------
 */

uint32_t fm_serve_span_model(struct fm_serve *serve, const char *name)
{
    uint32_t number = 0;
    fm_mutex_lock(&serve->names_lock);
    while (number < serve->span_model_count && strcmp(serve->span_models[number], name) != 0) {
        number++;
    }
    if (number == serve->span_model_count && number == FM_SERVE_SPAN_MODELS_MAX) {
        number = FM_TIMELINE_NONE;
    } else if (number == serve->span_model_count) {
        char **names = fm_realloc(serve->span_models, (number + 1) * sizeof *names);
        char *copy = fm_strdup(name);
        serve->span_models = names != NULL ? names : serve->span_models;
        if (names != NULL && copy != NULL) {
            names[number] = copy;
            serve->span_model_count++;
        } else {
            fm_free(copy);
            number = FM_TIMELINE_NONE;
        }
    }
    fm_mutex_unlock(&serve->names_lock);
    return number;
}

const char **fm_serve_span_names(struct fm_serve *serve, uint32_t *ret_count)
{
    fm_mutex_lock(&serve->names_lock);
    uint32_t count = serve->span_model_count;
    const char **names = fm_alloc((count + 1) * sizeof *names);
    if (names != NULL && count > 0) {
        memcpy(names, serve->span_models, count * sizeof *names);
    }
    fm_mutex_unlock(&serve->names_lock);
    *ret_count = names != NULL ? count : 0;
    return names;
}

/* --- accelerators ------------------------------------------------------------------------------
 */

int fm_serve_spans_init(struct fm_serve *serve)
{
    uint32_t rings = serve->loop_count + 1 + fm_pool_worker_count(serve->pool);
    uint32_t spans = SPANS_ALL / rings;
    spans = spans > SPANS_MOST ? SPANS_MOST : spans;
    spans = spans < SPANS_LEAST ? SPANS_LEAST : spans;
    serve->rest_told_ns =
        fm_alloc_zero(fm_pool_accelerator_count(serve->pool), sizeof *serve->rest_told_ns);
    return serve->rest_told_ns != NULL
               ? fm_timeline_init(&serve->timeline, rings, spans, SAMPLE_EVERY)
               : FM_ENOMEM;
}

void fm_serve_spans_release(struct fm_serve *serve)
{
    for (uint32_t i = 0; i < serve->span_model_count; i++) {
        fm_free(serve->span_models[i]);
    }
    fm_free(serve->span_models);
    fm_free((void *)serve->rest_told_ns);
    fm_timeline_deinit(&serve->timeline);
}

/* A rest that is over, or goes on: what was not told of it yet. */
static void rest_put(struct fm_serve *serve, uint32_t ring, uint32_t accelerator, uint64_t since_ns,
                     uint64_t until_ns)
{
    uint64_t told_ns =
        atomic_load_explicit(&serve->rest_told_ns[accelerator], memory_order_relaxed);
    const struct fm_span span = {.start_ns = told_ns > since_ns ? told_ns : since_ns,
                                 .end_ns = until_ns,
                                 .model = FM_TIMELINE_NONE,
                                 .kind = FM_SPAN_REST,
                                 .track = FM_TRACK_ACCELERATOR,
                                 .index = accelerator};
    if (span.start_ns < until_ns) {
        fm_timeline_put(&serve->timeline, ring, &span);
        atomic_store_explicit(&serve->rest_told_ns[accelerator], until_ns, memory_order_relaxed);
    }
}

void fm_serve_span_rest(struct fm_serve *serve, uint32_t accelerator, uint64_t now_ns)
{
    struct fm_pool_accelerator_stats stats;
    fm_pool_accelerator_stats(serve->pool, accelerator, &stats);
    if (stats.idle_since_ns != 0 && !stats.down) {
        rest_put(serve, serve->loop_count, accelerator, stats.idle_since_ns, now_ns);
    }
}

void fm_serve_span_run(void *context, const struct fm_pool_run *run)
{
    struct fm_serve *serve = context;
    uint32_t ring = serve->loop_count + 1 + run->worker;
    struct fm_span span = {.batch = run->batch,
                           .model = run->tag,
                           .track = FM_TRACK_ACCELERATOR,
                           .index = run->accelerator};
    if (run->rest_ns != 0) {
        rest_put(serve, ring, run->accelerator, run->rest_ns, run->start_ns);
    }
    if (run->latest_ns > run->frontrun_ns) {
        /* Nothing is told of the future: what was left of it is its count. */
        span.kind = FM_SPAN_WINDOW;
        span.start_ns = run->frontrun_ns;
        span.end_ns = run->latest_ns < run->end_ns ? run->latest_ns : run->end_ns;
        uint64_t left_us =
            run->latest_ns > run->start_ns ? (run->latest_ns - run->start_ns) / 1000 : 0;
        span.count = left_us < UINT32_MAX ? (uint32_t)left_us : UINT32_MAX;
        fm_timeline_put(&serve->timeline, ring, &span);
    }
    span.kind = FM_SPAN_BATCH;
    span.start_ns = run->start_ns;
    span.end_ns = run->end_ns;
    span.count = run->rows;
    fm_timeline_put(&serve->timeline, ring, &span);
}
