/*
 * The master of a job as a process, inside: what its files share.
 *
 * Owns: how a master, its workers' streams and its children look. Does not own: what others may ask
 * of it (host.h). host.c has the streams and what is told over them, host_children.c the processes
 * of this machine and how many of them there are. Thread rule: the loop's thread.
 */
#ifndef FM_ENGINES_BATCH_HOST_INTERNAL_H
#define FM_ENGINES_BATCH_HOST_INTERNAL_H

#include <stdatomic.h>

#include "core/proto/batch_accelerators.h"
#include "core/proto/batch_messages.h"
#include "core/stats/progress.h"
#include "engines/batch/history.h"
#include "engines/batch/host.h"
#include "engines/batch/output.h"
#include "host/net/child.h"
#include "host/net/grpc_server.h"
#include "host/os/thread.h"
#include "host/store/store_writer.h"

/* A tick that comes so late came after a pause. */
#define FM_BATCH_HOST_PAUSE_NS UINT64_C(1000000000)

struct host;

/* A worker's stream. */
struct session {
    struct host *host;
    struct session *next;
    struct fm_grpc_call *call; /* NULL: finished */
    struct child *child;       /* NULL: not of ours */
    bool local;                /* it came over the Unix socket */
    char name[FM_BATCH_NAME_BYTES_MAX + 1];
    bool joined;
    uint64_t worker;   /* 0: no hello yet */
    uint32_t halvings; /* with which it was welcomed */
    bool single;
    bool worked;    /* it has finished a shard */
    bool told_long; /* that a stage of it has been running for long */
    char slowest_stage[FM_BATCH_NAME_BYTES_MAX + 1];
    double slowest_share;
    char host_name[FM_BATCH_NAME_BYTES_MAX + 1];
    uint32_t process;
    uint64_t memory_bytes;
    uint64_t rows_per_minute;
    struct fm_batch_tuned tuned; /* its texts are `batches` and `accelerators` */
    char batches[FM_ERROR_TEXT_SIZE];
    char accelerators[FM_BATCH_ACCELERATORS_TEXT_SIZE];
    struct fm_batch_memory memory;
    struct fm_stage_uses stages;
    char last_error[FM_ERROR_TEXT_SIZE];
};

/* A place of the crew. */
struct child {
    struct host *host;
    struct fm_child *process; /* NULL: it does not run */
    uint64_t worker;          /* the number that it chose; 0: no hello yet */
    uint32_t place;
    bool started;          /* once */
    bool killed;           /* by us */
    uint64_t memory_kills; /* by the kernel, when it was started */
    uint64_t memory_bytes; /* that it had, as it said last */
    char last_words[256];  /* why it goes, as it says */
    /* It has ended, and what it said last may not be read yet. */
    uint64_t ended_ns; /* 0: it has not */
    enum fm_crew_exit exit;
    char how[96];
};

struct host {
    const struct fm_batch_host_options *options;
    struct fm_master *master;
    struct fm_loop *loop;
    struct fm_grpc_server *server;
    struct fm_tls *tls;
    struct fm_grpc_server *far; /* for workers of other hosts */
    struct fm_store_writer *writer;
    struct session *sessions;
    struct fm_crew *crew;
    struct fm_scaling scaling;
    bool told_late; /* that it cannot be finished in time */
    struct child children[FM_BATCH_WORKERS_MAX];
    int state_directory; /* open where the socket's path is too long; 0: it is not */
    char socket_path[FM_OUTPUT_PATH_MAX];
    char url[FM_OUTPUT_PATH_MAX + 16];
    struct fm_error failure; /* the first one */
    char last_error[FM_ERROR_TEXT_SIZE];
    char stage[FM_HISTORY_STAGE_SIZE]; /* the slowest one that was told last */
    double stage_share;
    struct fm_stage_uses stages;
    struct fm_page_server *page; /* NULL: none */
    uint64_t page_next_ns;
    struct fm_history *history; /* NULL: no memory for it */
    struct fm_progress rate;
    uint64_t begun_ns;
    bool paused;
    bool stopped;
    bool listed; /* all rows are known */
    bool cancelled;
    bool ending; /* nothing is left to decide: workers go */
    uint64_t ending_ns;
    uint64_t hooks_next_ns;
    uint64_t ticked_ns;
    struct session *current; /* whose message is being taken; NULL: it ended meanwhile */

    /* What the store's writer says. */
    struct fm_loop_task stored_task;
    atomic_bool stored_posted;
    struct fm_mutex mutex;
    uint64_t stored;
    struct fm_error store_failure;
};

/* --- host.c --- */

/* The first failure is the job's; `check`: of what can only be lack of memory. */
void fm_batch_host_fail(struct host *host, const struct fm_error *error);
void fm_batch_host_check(struct host *host, int status, const char *what);
void fm_batch_host_note(const struct host *host, const char *text);
void fm_batch_host_say(struct session *session, const struct fm_batch_master_message *message);
/* The open stream of a worker; NULL: it has none. */
struct session *fm_batch_host_session_of(const struct host *host, uint64_t worker);
void fm_batch_host_session_finish(struct session *session, int code, const char *text);
/* Carries out what follows from what has happened. */
void fm_batch_host_hand_on(struct host *host);

/* --- host_children.c --- */

int FM_NODISCARD fm_batch_host_crew_make(struct host *host, struct fm_error *reterr);
/* Starts and ends processes, as the crew says. */
void fm_batch_host_crew_work(struct host *host, uint64_t now_ns);
/* As many workers as the job wants. */
void fm_batch_host_scale(struct host *host, uint64_t now_ns);
uint32_t fm_batch_host_children_running(const struct host *host);
/* Whose call it is; NULL: not of a child. */
struct child *fm_batch_host_child_of(struct host *host, const struct fm_grpc_call *call);

#endif
