/*
 * A picture of a server. See view_sample.h.
 */
#include "tests/harness/view_sample.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/util/assert.h"

#define NOW_NS  UINT64_C(100000000000)
#define WALL_NS UINT64_C(1700000100000000000)

static const char *const span_models[] = {"resnet", "odd \"name\"\\\n", NULL};

static const char log_lines[] =
    "{\"time\":\"2026-01-31T12:00:00.000Z\",\"level\":\"info\",\"event\":\"ready\",\"models\":2}\n"
    "{\"time\":\"2026-01-31T12:00:01.000Z\",\"level\":\"error\",\"event\":\"inference_failed\"}\n";

static void counters_fill(struct fm_view_sample *sample)
{
    FM_ASSERT(fm_model_counters_create(8, &sample->counters) == 0);
    fm_recent_sample(&sample->recent, NOW_NS - 8000000000, &sample->totals);
    for (uint32_t i = 0; i < 800; i++) {
        fm_model_count_start(sample->counters, 2000000 + i * 1000, 1000000);
        fm_model_count_success(sample->counters, 5000000 + i * 50000,
                               i % 10 == 0 ? FM_DEADLINE_MISSED : FM_DEADLINE_MET);
        fm_model_count_cost(sample->counters, 1024);
    }
    for (uint32_t i = 0; i < 100; i++) {
        fm_model_count_batch(sample->counters,
                             &(struct fm_counted_batch){.rows = 8,
                                                        .requests = 8,
                                                        .input_ns = 10000,
                                                        .infer_ns = 3000000,
                                                        .output_ns = 20000,
                                                        .wall_ms = WALL_NS / 1000000});
    }
    for (uint32_t i = 0; i < 40; i++) {
        fm_model_count_failure(sample->counters, 100000, FM_COUNTED_REJECTED, true);
        fm_model_count_drop(sample->counters, FM_COUNTED_DROP_LATE);
    }
    FM_ASSERT(fm_model_totals_add(&sample->totals, sample->counters) == 0);
    fm_recent_sample(&sample->recent, NOW_NS, &sample->totals);
}

static void history_fill(struct fm_view_sample *sample)
{
    struct fm_history_now now = {.now_ns = NOW_NS - 1000000000,
                                 .wall_ns = WALL_NS - 1000000000,
                                 .accelerators_up = 2,
                                 .accelerators_use = 1};
    fm_history_sample(&sample->history, &now);
    now.now_ns = NOW_NS;
    now.wall_ns = WALL_NS;
    now.queued = 5;
    fm_history_totals_add(&now.totals, &sample->totals);
    fm_history_sample(&sample->history, &now);
}

static void spans_fill(struct fm_view_sample *sample)
{
    FM_ASSERT(fm_timeline_init(&sample->timeline, 2, 64, 2) == 0);
    struct fm_span span = {.track = FM_TRACK_ACCELERATOR,
                           .kind = FM_SPAN_BATCH,
                           .index = 1,
                           .count = 8,
                           .batch = 42,
                           .start_ns = NOW_NS - 9000000,
                           .end_ns = NOW_NS - 4000000};
    fm_timeline_put(&sample->timeline, 0, &span);
    span.kind = FM_SPAN_WINDOW;
    span.start_ns -= 2000000;
    fm_timeline_put(&sample->timeline, 0, &span);
    span = (struct fm_span){.track = FM_TRACK_ACCELERATOR,
                            .kind = FM_SPAN_REST,
                            .index = 0,
                            .model = FM_TIMELINE_NONE,
                            .start_ns = NOW_NS - 4000000,
                            .end_ns = NOW_NS + 9000000};
    fm_timeline_put(&sample->timeline, 0, &span);
    for (uint16_t kind = FM_SPAN_DECODE; kind <= FM_SPAN_QUEUED; kind++) {
        span = (struct fm_span){.track = FM_TRACK_LOOP,
                                .kind = kind,
                                .request = 6,
                                .model = 1,
                                .count = 2,
                                .batch = kind == FM_SPAN_QUEUE ? 42 : 0,
                                .start_ns = NOW_NS - 20000000 + kind * 1000000u,
                                .end_ns = NOW_NS - 19000000 + kind * 1000000u};
        fm_timeline_put(&sample->timeline, 1, &span);
    }
}

static void models_fill(struct fm_view_sample *sample)
{
    sample->ports[0] = (struct fm_port){
        .name = "image", .dtype = FM_DTYPE_FP32, .rank = 4, .shape = {-1, 3, 224, 224}};
    sample->ports[1] =
        (struct fm_port){.name = "class", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 1000}};
    const struct fm_view_model plain = {.kind = "model",
                                        .state = FM_CATALOG_READY,
                                        .reason = "",
                                        .backend = "onnxruntime",
                                        .policy = "deferred",
                                        .goal = "balanced",
                                        .version = 1};
    struct fm_view_model *models = sample->models;
    models[0] = models[1] = models[2] = plain;
    models[0].name = "resnet";
    models[0].inputs = &sample->ports[0];
    models[0].input_count = 1;
    models[0].outputs = &sample->ports[1];
    models[0].output_count = 1;
    models[0].load_ns = 1250000000;
    models[0].memory_bytes = 104857600;
    models[0].slo_ns = 25000000;
    models[0].batch_max = 8;
    models[0].instances = 2;
    models[0].queued = 5;
    models[0].in_flight = 13;
    models[0].target_batch = 6;
    models[0].rate_millihertz = 105500;
    models[0].bad_permyriad = 83;
    models[0].totals = &sample->totals;
    models[0].recent = &sample->recent;
    models[1].name = "odd \"name\"\\\n";
    models[1].version = 18446744073709551615u;
    models[2].name = "broken";
    models[2].state = FM_CATALOG_UNAVAILABLE;
    models[2].reason = "model.onnx: line 1: no such operator \"Frobnicate\"";
}

void fm_view_sample_init(struct fm_view_sample *sample)
{
    *sample = (struct fm_view_sample){0};
    counters_fill(sample);
    history_fill(sample);
    spans_fill(sample);
    models_fill(sample);
    sample->advice = (struct fm_advice){.wanted = 3, .missing = 1, .changed_ns = NOW_NS - 5000000};
    sample->accelerators[0] = (struct fm_view_accelerator){.name = "cpu-0",
                                                           .type = "cpu",
                                                           .state = FM_VIEW_ACCELERATOR_IDLE,
                                                           .model = "resnet",
                                                           .batches = 60,
                                                           .brief = 21,
                                                           .busy_ns = 1800000000,
                                                           .rest_until_ns = NOW_NS + 9000000};
    sample->accelerators[1] = (struct fm_view_accelerator){.name = "cpu-1",
                                                           .type = "cpu",
                                                           .state = FM_VIEW_ACCELERATOR_BUSY,
                                                           .model = "resnet",
                                                           .batches = 40,
                                                           .failures = 1,
                                                           .busy_ns = 1200000000};
    sample->accelerators[2] = (struct fm_view_accelerator){
        .name = "gpu-0", .type = "gpu", .model = "", .rest_until_ns = FM_SCHED_NEVER};
    for (uint32_t i = 0; i < 2; i++) {
        sample->loops[i] = (struct fm_view_loop){.requests = 420 + i,
                                                 .rejected = 1,
                                                 .connections_accepted = 9,
                                                 .connections = 4,
                                                 .in_flight = 6,
                                                 .bytes_received = 1 << 20,
                                                 .bytes_sent = 1 << 19,
                                                 .cpu_ns = 700000000,
                                                 .lag_max_ns = 900000};
    }
    sample->stages[0] = (struct fm_view_stage){.pipeline = "both",
                                               .version = 1,
                                               .name = "find",
                                               .model = "resnet",
                                               .budget_ns = 12000000,
                                               .totals = &sample->totals};
    sample->stages[1] = sample->stages[0];
    sample->stages[1].name = "read";
    sample->stages[1].totals = &sample->nothing;
    sample->view = (struct fm_view){
        .version = "0.1.0",
        .commit = "abcdef123456",
        .build = "gcc 12.2.0, release",
        .host = "node-7",
        .policy = "deferred",
        .now_ns = NOW_NS,
        .wall_ns = WALL_NS,
        .start_wall_ns = WALL_NS - NOW_NS,
        .ready = true,
        .cpu_count = 2,
        .models = sample->models,
        .model_count = 3,
        .stages = sample->stages,
        .stage_count = 2,
        .payloads = {.enabled = true, .bytes = 123456, .recorded = 40, .left_out = 2},
        .cache = {.enabled = true,
                  .bytes = 65536,
                  .bytes_max = 1u << 20,
                  .entries = 12,
                  .inserted = 20,
                  .evicted = 8},
        .accelerators = sample->accelerators,
        .accelerator_count = 3,
        .loops = sample->loops,
        .loop_count = 2,
        .sched = {.steps = 1200,
                  .accelerators_up = 2,
                  .accelerators_busy = 1,
                  .accelerators_active = 2,
                  .busy_milli = 1450,
                  .queued = 5},
        .advice = &sample->advice,
        .process = {.cpu_ns = 2500000000,
                    .resident_bytes = 90 << 20,
                    .peak_bytes = 95 << 20,
                    .virtual_bytes = 800 << 20,
                    .open_descriptors = 31,
                    .descriptors_max = 1024,
                    .threads = 9},
        .otlp = {.enabled = true, .sent = 50, .dropped = 2, .failed = 1},
        .access = {.refused = {{"no_token", 3}, {"rate", 5}},
                   .tokens = 4,
                   .clients = 2,
                   .reloads = 1},
        .history = &sample->history,
        .timeline = &sample->timeline,
        .span_models = span_models,
        .span_model_count = 3,
        .log = log_lines,
    };
}

void fm_view_sample_deinit(struct fm_view_sample *sample)
{
    fm_model_counters_destroy(sample->counters);
    fm_model_totals_deinit(&sample->totals);
    fm_timeline_deinit(&sample->timeline);
}

bool fm_view_sample_save(const char *name, const char *data, size_t size)
{
    const char *folder = getenv("FM_SAMPLE_OUT");
    if (folder == NULL) {
        return true;
    }
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        return false;
    }
    bool written = fwrite(data, 1, size, file) == size;
    return fclose(file) == 0 && written;
}
