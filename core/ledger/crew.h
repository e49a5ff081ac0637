/*
 * The crew: the worker processes that the master of a job has started itself, from their start to
 * their end and the next start. A pure state machine.
 *
 * Owns: when a process is started (again), which one is asked to go when fewer are wanted, when one
 * that says nothing or does not go is ended by force, why one ended and what that means for the
 * rows it held, how much workers may hold in memory at once after one of them ran out of it, when
 * it is no use to start another one, and the counts of all that. Does not own: processes and how
 * their ends look to the kernel (host/net), shards and leases (master.h), what a worker says
 * (core/proto/batch_messages.h). Thread rule: one thread at a time.
 *
 * HOW IT WORKS. The crew has places, numbered from 0, with one process each in those that are open:
 * as many as are wanted (demand.h). Every function takes the time and what happened, and leaves
 * actions (next_action). A process that ended is followed by another: at once when that was wanted,
 * else after a delay that doubles with every process that ended without having finished a shard.
 * Where fewer are wanted, places are closed: first those without a process, then those whose
 * process is still loading, which holds nothing and is ended; then idle ones and slow ones, which
 * are asked to go: they give back what they hold, and in their own time.
 *
 * Out of memory. A worker holds as many rows, and runs batches as large, as the job says, halved
 * `halvings` times. One that runs out of memory adds one to that, for all processes that are
 * started from then on; its rows are not to blame, because the next attempt is a smaller one. Only
 * a worker that ran one row at a time cannot do with less: then its rows are, unless it had
 * finished a shard before, so that it is the process that has grown. After a calm time one halving
 * is taken back, and processes that run with more are asked to make way, one after the other; each
 * time that this turns out to be too soon the calm time doubles.
 *
 * LIMITATIONS. One size for all: where one row in a million is large, all workers are careful for a
 * while. A process that loads its models says nothing meanwhile: all that can be seen of it is that
 * it takes longer than it may (begin_ns).
 */
#ifndef FM_CORE_LEDGER_CREW_H
#define FM_CORE_LEDGER_CREW_H

#include <stdbool.h>
#include <stdint.h>

#include "core/ledger/ledger.h"
#include "core/ledger/shard_record.h"
#include "fermata/status.h"

#define FM_CREW_PLACES_MAX        256u
#define FM_CREW_HALVINGS_MAX      20u
#define FM_CREW_KILLS_PER_FAILURE 10u

struct fm_crew_options {
    uint32_t places;         /* up to FM_CREW_PLACES_MAX */
    uint64_t restart_ns;     /* before a process is started in the place of one that ended ... */
    uint64_t restart_max_ns; /* ... doubles up to this, as long as none finishes anything */
    uint32_t in_vain_max;    /* so many in a row that end before they ask for work are too many;
                                of those that somebody killed FM_CREW_KILLS_PER_FAILURE times as
                                many: nothing says that the next one could not begin */
    uint64_t begin_ns;       /* one that has not asked for work after so long is ended, and could
                                not begin; 0: never */
    uint64_t silent_ns;      /* one that was not heard of for so long is ended; 0: never */
    uint64_t leave_ns;       /* one that says that it goes has so much time for it */
    uint64_t calm_ns;        /* without lack of memory, before a halving is taken back ... */
    uint64_t calm_max_ns;    /* ... doubles up to this, each time that it was too soon */
    uint64_t pause_ns;       /* ticks that are so far apart: this process stood still, so that
                                nobody could be heard */
};

/* Why a process goes, as it says itself. */
enum fm_crew_cause {
    FM_CREW_WENT,     /* it was asked to, or has no more to do */
    FM_CREW_RECYCLED, /* it has grown, and makes way for a fresh one */
    FM_CREW_HUNG,     /* a stage of it does not come to an end */
    FM_CREW_STARVED,  /* it has no memory */
    FM_CREW_CAUSE_COUNT_
};

/* How it ended, as the kernel saw it. */
enum fm_crew_exit {
    FM_CREW_EXIT_CLEAN,  /* exit code 0 */
    FM_CREW_EXIT_OTHER,  /* another code or signal */
    FM_CREW_EXIT_KILLED, /* SIGKILL */
    FM_CREW_EXIT_CRASH,  /* a signal that it has caused itself */
    FM_CREW_EXIT_MEMORY, /* the kernel has ended it for lack of memory */
};

/* What counts as the reason for another start. */
enum fm_crew_reason {
    FM_CREW_REASON_CRASH,
    FM_CREW_REASON_HANG,
    FM_CREW_REASON_MEMORY,
    FM_CREW_REASON_RECYCLED,
    FM_CREW_REASON_LOST,
    FM_CREW_REASON_COUNT_
};

/* "crash", "hang", "out_of_memory", "recycled", "lost". */
const char *fm_crew_reason_name(enum fm_crew_reason reason);

/* What an end means for the rows that the process held. */
struct fm_crew_verdict {
    enum fm_crew_reason reason;
    bool harmless; /* what it held is given back unharmed; otherwise it has failed ... */
    enum fm_shard_failure failure;    /* ... for this */
    char words[FM_SHARD_REASON_SIZE]; /* and these words (blame.h) */
    bool wanted;                      /* nobody need be told of it: the job is ending */
    bool smaller;                     /* what comes after it holds less in memory */
};

enum fm_crew_action_kind {
    FM_CREW_START,   /* a process in this place */
    FM_CREW_KILL,    /* the process in this place, by force */
    FM_CREW_RECYCLE, /* ask the worker in this place to make way (Stop with `again`) */
    FM_CREW_RETIRE,  /* ask the process in this place to go (SIGTERM): nobody takes its place */
    FM_CREW_GIVE_UP, /* no worker can work: `error` says why; the last action */
};

struct fm_crew_action {
    enum fm_crew_action_kind kind;
    uint32_t place;
    struct fm_error error; /* GIVE_UP */
};

struct fm_crew;

int FM_NODISCARD fm_crew_create(const struct fm_crew_options *options, uint64_t now_ns,
                                struct fm_crew **ret_crew);
void fm_crew_destroy(struct fm_crew *crew); /* accepts NULL */

/* START was not possible, for this reason. */
void fm_crew_start_failed(struct fm_crew *crew, uint64_t now_ns, uint32_t place,
                          const char *reason);
/* It has loaded everything and asks for work. `single`: it runs one row at a time already. */
void fm_crew_joined(struct fm_crew *crew, uint64_t now_ns, uint32_t place, bool single);
void fm_crew_heard(struct fm_crew *crew, uint64_t now_ns, uint32_t place);
/* It has finished a shard. */
void fm_crew_worked(struct fm_crew *crew, uint32_t place);
/* It says that it goes. */
void fm_crew_leaving(struct fm_crew *crew, uint64_t now_ns, uint32_t place,
                     enum fm_crew_cause cause);
/* How much it is worth to keep it: the least is the first to go. Before anything is said: 0. */
void fm_crew_value(struct fm_crew *crew, uint32_t place, double value);
/* So many processes are wanted, up to `places`, which is what is wanted at first; carried out with
 * the actions that follow. Without effect at the end. */
void fm_crew_want(struct fm_crew *crew, uint64_t now_ns, uint32_t count);
/* Its process is gone. `how` in words: "signal 9 (Killed)". */
void fm_crew_ended(struct fm_crew *crew, uint64_t now_ns, uint32_t place, enum fm_crew_exit exit,
                   const char *how, struct fm_crew_verdict *ret_verdict);
/* A worker that is not of the crew, and was welcomed with so many halvings, ran out of memory.
 * `worked`: it has finished a shard. */
void fm_crew_starved_elsewhere(struct fm_crew *crew, uint64_t now_ns, uint32_t halvings,
                               bool single, bool worked, struct fm_crew_verdict *ret_verdict);

/* Nothing is started any more. The processes go by themselves, until end_ns; UINT64_MAX: they are
 * not pressed. Later calls may only press more. */
void fm_crew_end(struct fm_crew *crew, uint64_t end_ns);

/* To be called several times a second. */
void fm_crew_tick(struct fm_crew *crew, uint64_t now_ns);
/* The next thing to do; false: nothing, for now. */
bool fm_crew_next_action(struct fm_crew *crew, struct fm_crew_action *ret_action);

/* How often what a worker holds in memory is halved, for one that is welcomed now. `place`: whose
 * process it is; FM_CREW_PLACES_MAX: of nobody here. */
uint32_t fm_crew_welcome(struct fm_crew *crew, uint32_t place);
/* Processes that there are; and of them those that ask for work, and are to stay. */
uint32_t fm_crew_running(const struct fm_crew *crew);
uint32_t fm_crew_working(const struct fm_crew *crew);
uint32_t fm_crew_wanted(const struct fm_crew *crew);
/* From its start until it asked for work, of the processes that were started last, in the mean; 0:
 * none has done so. */
uint64_t fm_crew_startup_ns(const struct fm_crew *crew);

struct fm_crew_counts {
    uint64_t restarts[FM_CREW_REASON_COUNT_]; /* by reason; those at the job's end do not count */
    uint32_t halvings;                        /* now */
};
void fm_crew_counts(const struct fm_crew *crew, struct fm_crew_counts *ret_counts);

/* Checks the whole structure; aborts when something is wrong. For tests. */
void fm_crew_validate(const struct fm_crew *crew);

#endif
