/*
 * Times at which something has to end, thousands of them on one timer.
 *
 * Owns: a heap of deadlines, and the libuv timer. Does not own: the deadlines' memory. For the
 * clients of host/net. Thread rule: the loop's thread.
 */
#ifndef FM_HOST_NET_DEADLINES_H
#define FM_HOST_NET_DEADLINES_H

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "fermata/status.h"

/* Embedded in its owner; zeroed to start. */
struct fm_deadline {
    uint64_t at_ns; /* on the clock of fm_os_now_ns */
    void (*passed)(struct fm_deadline *deadline);
    size_t place; /* in the heap, from 1; 0: not there */
};

struct fm_deadlines {
    uv_timer_t timer;
    struct fm_deadline **heap; /* from index 1 */
    size_t count;
    size_t capacity;
    void (*closed)(void *context);
    void *context;
};

void fm_deadlines_init(struct fm_deadlines *deadlines, uv_loop_t *uv);
/* None is left. The memory must stay until closed(context) is called. */
void fm_deadlines_deinit(struct fm_deadlines *deadlines, void (*closed)(void *context),
                         void *context);

/* Calls passed(deadline) once at that time, unless it is removed before. FM_ENOMEM. */
int FM_NODISCARD fm_deadlines_add(struct fm_deadlines *deadlines, struct fm_deadline *deadline);
/* Also of one that is not there. */
void fm_deadlines_remove(struct fm_deadlines *deadlines, struct fm_deadline *deadline);

#endif
