/*
 * Rings of spans. See timeline.h.
 */
#include "core/stats/timeline.h"

#include <assert.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/memory.h"

#define WORDS (sizeof(struct fm_span) / sizeof(uint64_t))

static_assert(sizeof(struct fm_span) == 48, "no padding: spans are copied by words");

struct fm_timeline_slot {
    _Atomic uint64_t turn; /* 2 * n after span n - 1 was written here, odd meanwhile; 0: never */
    _Atomic uint64_t words[WORDS];
};

int fm_timeline_init(struct fm_timeline *timeline, uint32_t ring_count, uint32_t spans_max,
                     uint32_t sample_every)
{
    *timeline = (struct fm_timeline){.sample_every = sample_every};
    if (ring_count < 1 || ring_count > FM_TIMELINE_RINGS_MAX || spans_max < 1 ||
        spans_max > FM_TIMELINE_SPANS_MAX) {
        return FM_EINVAL;
    }
    uint32_t size = 1;
    while (size < spans_max) {
        size *= 2;
    }
    timeline->rings = fm_alloc_zero(ring_count, sizeof(*timeline->rings));
    if (timeline->rings == NULL) {
        return FM_ENOMEM;
    }
    timeline->ring_count = ring_count;
    for (uint32_t i = 0; i < ring_count; i++) {
        timeline->rings[i].mask = size - 1;
        timeline->rings[i].slots = fm_alloc(size * sizeof(struct fm_timeline_slot));
        if (timeline->rings[i].slots == NULL) {
            fm_timeline_deinit(timeline);
            return FM_ENOMEM;
        }
        /* Touched now, so that the process does not seem to grow while they fill for the first
         * time. */
        memset(timeline->rings[i].slots, 0, size * sizeof(struct fm_timeline_slot));
    }
    return 0;
}

void fm_timeline_deinit(struct fm_timeline *timeline)
{
    for (uint32_t i = 0; i < timeline->ring_count; i++) {
        fm_free(timeline->rings[i].slots);
    }
    fm_free(timeline->rings);
    *timeline = (struct fm_timeline){0};
}

void fm_timeline_put(struct fm_timeline *timeline, uint32_t ring_index, const struct fm_span *span)
{
    FM_ASSERT(ring_index < timeline->ring_count);
    struct fm_timeline_ring *ring = &timeline->rings[ring_index];
    uint64_t number = atomic_load_explicit(&ring->written, memory_order_relaxed);
    struct fm_timeline_slot *slot = &ring->slots[number & ring->mask];
    uint64_t words[WORDS];
    memcpy(words, span, sizeof(words));
    atomic_store_explicit(&slot->turn, 2 * number + 1, memory_order_relaxed);
    for (uint32_t i = 0; i < WORDS; i++) {
        atomic_store_explicit(&slot->words[i], words[i], memory_order_release);
    }
    atomic_store_explicit(&slot->turn, 2 * number + 2, memory_order_release);
    atomic_store_explicit(&ring->written, number + 1, memory_order_release);
}

static bool slot_read(const struct fm_timeline_slot *slot, uint64_t number, struct fm_span *span)
{
    uint64_t words[WORDS];
    uint64_t turn = 2 * number + 2;
    if (atomic_load_explicit(&slot->turn, memory_order_acquire) != turn) {
        return false;
    }
    for (uint32_t i = 0; i < WORDS; i++) {
        words[i] = atomic_load_explicit(&slot->words[i], memory_order_acquire);
    }
    if (atomic_load_explicit(&slot->turn, memory_order_relaxed) != turn) {
        return false;
    }
    memcpy(span, words, sizeof(words));
    return true;
}

uint32_t fm_timeline_read(const struct fm_timeline *timeline, uint32_t ring_index,
                          uint64_t since_ns, struct fm_span *spans, uint32_t capacity)
{
    FM_ASSERT(ring_index < timeline->ring_count);
    const struct fm_timeline_ring *ring = &timeline->rings[ring_index];
    uint64_t written = atomic_load_explicit(&ring->written, memory_order_acquire);
    uint64_t held = written <= ring->mask ? written : (uint64_t)ring->mask + 1;
    /* From the latest back, until there is no room; then turned around. */
    uint32_t count = 0;
    for (uint64_t i = 0; i < held && count < capacity; i++) {
        uint64_t number = written - 1 - i;
        struct fm_span span;
        if (slot_read(&ring->slots[number & ring->mask], number, &span) &&
            span.end_ns >= since_ns) {
            spans[count++] = span;
        }
    }
    for (uint32_t i = 0; i < count / 2; i++) {
        struct fm_span span = spans[i];
        spans[i] = spans[count - 1 - i];
        spans[count - 1 - i] = span;
    }
    return count;
}

const char *fm_span_kind_name(enum fm_span_kind kind)
{
    static const char *const names[] = {"batch", "rest",    "window", "decode", "queue",
                                        "held",  "compute", "encode", "cache",  "queued"};
    static_assert(FM_COUNT_OF(names) == FM_SPAN_KIND_COUNT_, "one name for each kind");
    return kind < FM_SPAN_KIND_COUNT_ ? names[kind] : "unknown";
}
