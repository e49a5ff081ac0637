/*
 * A server that is started to take another one's place: loads what that one answers for, without
 * taking connections, and takes them when it is told to.
 *
 * Owns: the channel to the old process, the thread that listens to it, what the old process said.
 * Does not own: the old one's side (handover.h), the sockets once the server listens. Thread rule:
 * open before anything else; the rest on the main loop.
 *
 * Until it takes connections this process is nothing but an attempt: when the old process goes
 * away, or something that answers there does not load here, it ends.
 */
#ifndef FM_ENGINES_SERVE_TAKEOVER_H
#define FM_ENGINES_SERVE_TAKEOVER_H

#include "engines/serve/serve_internal.h"

struct fm_takeover_load;

enum { FM_TAKEOVER_PATH_SIZE = 4096 };

/* Zero-initialise. */
struct fm_takeover {
    bool active; /* this process is to take another one's place */
    bool waits;  /* and has not yet */
    bool loaded; /* the first loading is through */
    bool ended;
    /* It takes connections; the old process is told behind it. */
    void (*done)(struct fm_serve *serve);
    struct fm_serve *serve;
    struct fm_handed_sockets sockets;
    struct fm_serve_options options; /* the caller's, changed by what the old process said */
    char record_path[FM_TAKEOVER_PATH_SIZE];
    char payload_path[FM_TAKEOVER_PATH_SIZE];
    int channel;
    struct fm_text state; /* what the others point into */
    const char **answers; /* names that have to answer */
    size_t answer_count;
    const char **load_models;
    struct fm_takeover_load *loads; /* with files of their own */
    size_t load_count;
    size_t loads_pending;
    struct fm_error load_error; /* of the first of them that failed */
    struct fm_thread thread;
    struct fm_text regions; /* the main loop's once `told` runs */
    int told_status;
    struct fm_loop_task told;
};

/*
 * Finds out whether this process is to take another one's place (`active`), and if so what to
 * serve: *options then points to what the takeover made of it. Non-zero: it is, and cannot.
 */
int FM_NODISCARD fm_takeover_open(struct fm_takeover *takeover,
                                  const struct fm_serve_options **options, struct fm_error *reterr);
/* The server is made: listens to the old process from now on. */
int FM_NODISCARD fm_takeover_start(struct fm_takeover *takeover, struct fm_serve *serve,
                                   struct fm_error *reterr);
/* The first loading is through. */
void fm_takeover_loaded(struct fm_takeover *takeover);
/* For fm_serve_owner.begun. */
void fm_takeover_begun(struct fm_takeover *takeover, const struct fm_error *error);
/* The main loop does not run any more, error NULL: because somebody asked for that. The old process
 * hears of it if it waits. Fine when nothing was opened. */
void fm_takeover_tell_failed(struct fm_takeover *takeover, const struct fm_error *error);
/* The same, and the talk with the old process is over. */
void fm_takeover_end(struct fm_takeover *takeover, const struct fm_error *error);
/* The server is gone. */
void fm_takeover_close(struct fm_takeover *takeover);

#endif
