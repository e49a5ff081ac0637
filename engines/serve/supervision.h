/*
 * Telling the service manager how the server is: ready, reloading, stopping, and alive as long as
 * its loops turn.
 *
 * Owns: the watchdog's thread. Does not own: the protocol (host/os/service_manager.h), the loops.
 * Without a service manager nothing happens. Thread rule: one thread, which need not be a loop's.
 */
#ifndef FM_ENGINES_SERVE_SUPERVISION_H
#define FM_ENGINES_SERVE_SUPERVISION_H

#include "host/net/loop.h"
#include "host/os/thread.h"

#define FM_SUPERVISION_LOOPS_MAX 256

struct fm_supervision;

/* Of one loop: whether it answered the last question. */
struct fm_supervision_pulse {
    struct fm_loop_task task;
    struct fm_loop *loop;
    struct fm_supervision *supervision;
    bool asked; /* and has not answered yet */
};

/* Zero-initialise; stays in place while it runs. */
struct fm_supervision {
    struct fm_thread thread;
    struct fm_mutex lock;
    struct fm_condition wake;
    bool running;
    bool ends;
    uint64_t interval_ns;
    struct fm_supervision_pulse pulses[FM_SUPERVISION_LOOPS_MAX];
    uint32_t pulse_count;
};

/* Feeds the watchdog, if there is one, while all loops answer. The loops have to run until stop. */
int FM_NODISCARD fm_supervision_start(struct fm_supervision *supervision,
                                      struct fm_loop *const *loops, uint32_t loop_count,
                                      struct fm_error *reterr);
/* When the loops do not run any more, or from the only one's thread. Fine when not started. */
void fm_supervision_stop(struct fm_supervision *supervision);

void fm_supervision_ready(const char *status); /* `status`: one line for people */
/* `process` (0: this one) is the service's main process from now on, and ready. */
void fm_supervision_main_process(int process, const char *status);
void fm_supervision_reloading(void);
void fm_supervision_stopping(void);

#endif
