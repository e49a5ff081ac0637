/*
 * The last seconds as spans: what accelerators ran and when requests were where, in rings that
 * overwrite their oldest.
 *
 * Owns: one ring for each writing thread, of fixed size. Does not own: clocks, names of models and
 * accelerators (spans hold numbers), how it is drawn (engines/serve/debug_trace). Thread rule: a
 * ring is written by one thread at a time, without locks and without waiting; any thread reads it
 * meanwhile and gets whole spans only.
 *
 * HOW IT WORKS. Each slot has a number that its writer makes odd before and even after it writes
 * the words; a reader that sees an odd number, or another one afterwards, leaves the span out. The
 * words are atomics, released by the writer and acquired by the reader, so that whoever sees a new
 * word also sees the odd number.
 */
#ifndef FM_CORE_STATS_TIMELINE_H
#define FM_CORE_STATS_TIMELINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_TIMELINE_RINGS_MAX 4096u
#define FM_TIMELINE_SPANS_MAX (1u << 20)
#define FM_TIMELINE_NONE      UINT32_MAX

enum fm_span_kind {
    FM_SPAN_BATCH,  /* on an accelerator */
    FM_SPAN_REST,   /* of an accelerator: known not to be needed */
    FM_SPAN_WINDOW, /* of a batch: [frontrun, latest], when it could have started */
    /* Phases of a request that was sampled, in their order. */
    FM_SPAN_DECODE,
    FM_SPAN_QUEUE,   /* arrival to start of its batch */
    FM_SPAN_HELD,    /* of that: deferred within the window */
    FM_SPAN_COMPUTE, /* input, infer, output */
    FM_SPAN_ENCODE,
    FM_SPAN_CACHE,  /* looked up in the response cache, and found */
    FM_SPAN_QUEUED, /* a number over time: `count` requests wait from start_ns on */
    FM_SPAN_KIND_COUNT_
};

enum fm_track_kind { FM_TRACK_ACCELERATOR, FM_TRACK_LOOP, FM_TRACK_KIND_COUNT_ };

/* 48 bytes. Times are monotonic. */
struct fm_span {
    uint64_t start_ns;
    uint64_t end_ns;
    uint64_t request; /* number of a sampled request; 0: none */
    uint64_t batch;   /* number of a batch; 0: none. Links requests to their batch */
    uint32_t model;   /* index; FM_TIMELINE_NONE: none */
    uint32_t count;   /* BATCH: rows; QUEUED: requests */
    uint16_t kind;    /* enum fm_span_kind */
    uint16_t track;   /* enum fm_track_kind */
    uint32_t index;   /* of the accelerator or loop */
};

struct fm_timeline_slot;

struct fm_timeline_ring {
    _Atomic uint64_t written; /* spans ever; the writer's */
    uint32_t mask;
    struct fm_timeline_slot *slots;
};

struct fm_timeline {
    struct fm_timeline_ring *rings;
    uint32_t ring_count;
    uint32_t sample_every; /* one request in so many is recorded; 0: none */
};

/*
 * ring_count: one for each thread that writes (1 .. FM_TIMELINE_RINGS_MAX); spans_max of each, made
 * a power of two (1 .. FM_TIMELINE_SPANS_MAX). 56 bytes a span. FM_EINVAL, FM_ENOMEM.
 */
int FM_NODISCARD fm_timeline_init(struct fm_timeline *timeline, uint32_t ring_count,
                                  uint32_t spans_max, uint32_t sample_every);
void fm_timeline_deinit(struct fm_timeline *timeline); /* accepts a zeroed one */

/* Is this request recorded? The same answer for a number on every thread. */
static inline bool fm_timeline_samples(const struct fm_timeline *timeline, uint64_t request)
{
    return timeline->sample_every > 0 && request % timeline->sample_every == 0;
}

/* By the ring's writer, one at a time. About 10 ns. */
void fm_timeline_put(struct fm_timeline *timeline, uint32_t ring, const struct fm_span *span);

/*
 * Copies the spans of a ring that end at since_ns or later, oldest first as they were put, into
 * `spans`; at most `capacity`, the latest ones. Returns how many. Spans that are overwritten while
 * they are read are left out.
 */
uint32_t fm_timeline_read(const struct fm_timeline *timeline, uint32_t ring, uint64_t since_ns,
                          struct fm_span *spans, uint32_t capacity);

const char *fm_span_kind_name(enum fm_span_kind kind); /* "batch", "held" */

#endif
