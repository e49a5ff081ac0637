/*
 * A server that is replaced while it serves: starts its successor, tells it what clients made of
 * this server, and goes when that one serves; goes on when it does not.
 *
 * Owns: the thread that talks with the new process, and that process until it serves. Does not own:
 * the process as such (host/os/successor.h), the new one's side (takeover.h), leaving (server.c).
 * Thread rule: the main loop's.
 *
 * HOW IT WORKS. All listening sockets go to the new process; both have them, so no connection that
 * the kernel has taken is lost, whoever accepts it. The new process loads its models and says that
 * it is ready. It then gets the regions of shared memory that clients registered, takes connections
 * from now on and says so; only then does this one stop to take any. Until that message nothing has
 * changed here, and whatever goes wrong ends with the new process ended and one line in the log.
 */
#ifndef FM_ENGINES_SERVE_HANDOVER_H
#define FM_ENGINES_SERVE_HANDOVER_H

#include "engines/serve/serve_internal.h"

/* Zero-initialise; stays in place while it is under way. */
struct fm_handover {
    struct fm_serve *serve;
    /* The new process serves. */
    void (*done)(struct fm_serve *serve, int process);
    /* It does not, and everything is as it was. */
    void (*failed)(struct fm_serve *serve);
    bool running; /* the main loop's */
    /* The thread's. */
    struct fm_thread thread;
    struct fm_handed_sockets sockets;
    struct fm_text state;
    uint64_t start_ns;
    uint64_t deadline_ns;
    struct fm_error error; /* the main loop's once `over` runs */
    bool went;             /* the new process was told to take connections */
    int process;
    struct fm_loop_task over;
    struct fm_mutex lock;
    /* Under the lock. */
    struct fm_successor successor;
    bool cancelled;
};

/* Begins, unless it cannot, which is logged. */
void fm_handover_begin(struct fm_handover *handover);
/* This server ends by itself: so does the successor. Fine when none is under way. */
void fm_handover_cancel(struct fm_handover *handover);
/* The main loop does not run any more: waits until it is over. Fine when none is under way. */
void fm_handover_end(struct fm_handover *handover);

#endif
