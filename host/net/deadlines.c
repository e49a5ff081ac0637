/*
 * A binary heap of deadlines under one timer. See deadlines.h.
 */
#include "host/net/deadlines.h"

#include "core/util/assert.h"
#include "core/util/memory.h"
#include "host/os/os.h"

static void put(struct fm_deadlines *deadlines, size_t place, struct fm_deadline *deadline)
{
    deadlines->heap[place] = deadline;
    deadline->place = place;
}

/* Moves the deadline from `place` to where it belongs. */
static void settle(struct fm_deadlines *deadlines, size_t place, struct fm_deadline *deadline)
{
    struct fm_deadline **heap = deadlines->heap;
    while (place > 1 && deadline->at_ns < heap[place / 2]->at_ns) {
        put(deadlines, place, heap[place / 2]);
        place /= 2;
    }
    for (;;) {
        size_t child = 2 * place;
        if (child < deadlines->count && heap[child + 1]->at_ns < heap[child]->at_ns) {
            child++;
        }
        if (child > deadlines->count || heap[child]->at_ns >= deadline->at_ns) {
            break;
        }
        put(deadlines, place, heap[child]);
        place = child;
    }
    put(deadlines, place, deadline);
}

static void passed(uv_timer_t *timer);

/* For the first of them. Milliseconds are rounded up, so that it is over when the timer fires. */
static void arm(struct fm_deadlines *deadlines)
{
    if (deadlines->count == 0) {
        (void)uv_timer_stop(&deadlines->timer);
        return;
    }
    uint64_t now_ns = fm_os_now_ns();
    uint64_t at_ns = deadlines->heap[1]->at_ns;
    uint64_t wait_ms = at_ns > now_ns ? (at_ns - now_ns + 999999) / 1000000 : 0;
    uv_update_time(deadlines->timer.loop);
    (void)uv_timer_start(&deadlines->timer, passed, wait_ms, 0);
}

static void passed(uv_timer_t *timer)
{
    struct fm_deadlines *deadlines = timer->data;
    uint64_t now_ns = fm_os_now_ns();
    while (deadlines->count > 0 && deadlines->heap[1]->at_ns <= now_ns) {
        struct fm_deadline *deadline = deadlines->heap[1];
        fm_deadlines_remove(deadlines, deadline);
        deadline->passed(deadline);
    }
    arm(deadlines);
}

void fm_deadlines_init(struct fm_deadlines *deadlines, uv_loop_t *uv)
{
    *deadlines = (struct fm_deadlines){0};
    (void)uv_timer_init(uv, &deadlines->timer);
    deadlines->timer.data = deadlines;
}

static void on_closed(uv_handle_t *handle)
{
    struct fm_deadlines *deadlines = handle->data;
    deadlines->closed(deadlines->context);
}

void fm_deadlines_deinit(struct fm_deadlines *deadlines, void (*closed)(void *context),
                         void *context)
{
    FM_ASSERT(deadlines->count == 0);
    fm_free((void *)deadlines->heap);
    deadlines->heap = NULL;
    deadlines->closed = closed;
    deadlines->context = context;
    uv_close((uv_handle_t *)&deadlines->timer, on_closed);
}

int fm_deadlines_add(struct fm_deadlines *deadlines, struct fm_deadline *deadline)
{
    FM_ASSERT(deadline->place == 0);
    if (deadlines->count + 1 >= deadlines->capacity) {
        size_t capacity = deadlines->capacity < 32 ? 64 : 2 * deadlines->capacity;
        struct fm_deadline **heap = fm_realloc((void *)deadlines->heap, capacity * sizeof(*heap));
        if (heap == NULL) {
            return FM_ENOMEM;
        }
        deadlines->heap = heap;
        deadlines->capacity = capacity;
    }
    deadlines->count++;
    settle(deadlines, deadlines->count, deadline);
    if (deadline->place == 1) {
        arm(deadlines);
    }
    return 0;
}

void fm_deadlines_remove(struct fm_deadlines *deadlines, struct fm_deadline *deadline)
{
    size_t place = deadline->place;
    if (place == 0) {
        return;
    }
    FM_ASSERT(deadlines->heap[place] == deadline);
    struct fm_deadline *last = deadlines->heap[deadlines->count--];
    deadline->place = 0;
    if (last != deadline) {
        settle(deadlines, place, last);
    }
}
