/*
 * A server inside somebody else's program: what stands behind fermata/server.h.
 *
 * Owns: the server's main loop, on a thread of its own; calls of this process on their way to a
 * loop and back. Does not own: reading options (cmd/library.c), inference (inference.c), which is
 * that of the network. Thread rule: per function.
 *
 * HOW IT WORKS. A call is posted to one of the server's loops, where it becomes an inference as a
 * request of a connection does. Each calling thread keeps to one loop. Nothing is shared by all
 * calls but that the loop is posted to, and a counter for each loop, by which the end of the server
 * waits for whoever is just posting.
 */
#ifndef FM_ENGINES_SERVE_EMBEDDED_H
#define FM_ENGINES_SERVE_EMBEDDED_H

#include "engines/serve/serve_internal.h"
#include "fermata/server.h"

/* Who is posting to a loop. Each on a cache line of its own. */
struct fm_embedded_gate {
    _Atomic uint32_t posting;
    char apart[60];
};

struct fm_server {
    struct fm_serve_options options;
    void (*release)(void *context); /* of what the options borrow; called once it is stopped */
    void *context;
    struct fm_serve *serve; /* NULL: stopped */
    struct fm_thread thread;
    uint16_t ports[3];              /* http, grpc, metrics */
    uint32_t loop_count;            /* for threads that call while it is stopped */
    _Atomic bool closed;            /* nothing is posted any more */
    struct fm_embedded_gate *gates; /* by loop */
    struct fm_loop_task drain_task;
    struct fm_mutex lock;
    struct fm_condition changed;
    /* Behind the lock. */
    bool loaded;
    bool draining; /* drain_task was posted */
    bool ended;    /* the main loop does not run any more */
};

/* As fm_server_start. On success the server owns what `release` is for; the strings of the options
 * are borrowed until then. Any thread. */
int FM_NODISCARD fm_embedded_start(const struct fm_serve_options *options,
                                   void (*release)(void *context), void *context,
                                   struct fm_server **ret_server, struct fm_error *reterr);

/* --- for the other files of it --- */

/* The loop that this thread posts to, which stays until fm_embedded_leave; NULL: it is stopped. Any
 * thread, also one of the server's own. */
struct fm_serve_loop *fm_embedded_enter(struct fm_server *server);
void fm_embedded_leave(struct fm_server *server, const struct fm_serve_loop *loop);
/* The loop that the calling thread runs; NULL: none. Between enter and leave. */
struct fm_serve_loop *fm_embedded_here(struct fm_server *server);
/* What a stopped server says. */
int fm_embedded_stopped(struct fm_error *reterr);

#endif
