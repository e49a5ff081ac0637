/*
 * How many workers a job wants, as its master sees it: the look at master and crew that
 * core/ledger/demand.h decides by, and the words for people.
 *
 * Owns: that look, the advice and why, who of the crew is worth the least. Does not own: the
 * decision, starting and ending processes (crew.h). Thread rule: the master's.
 */
#ifndef FM_ENGINES_BATCH_SCALING_H
#define FM_ENGINES_BATCH_SCALING_H

#include "core/ledger/demand.h"
#include "core/ledger/master.h"

enum { FM_SCALING_WHY_SIZE = 200 };

struct fm_scaling_options {
    uint32_t workers_min; /* processes of this machine */
    uint32_t workers_max;
    bool listens;          /* there may be workers of other hosts */
    uint64_t finish_by_ms; /* since 1970; 0: no time */
};

/* How the master stands, beside what it says itself. */
struct fm_scaling_look {
    uint64_t now_ns;
    uint64_t wall_ms;
    bool listing;
    bool paused;
    uint32_t working;    /* of this machine */
    uint32_t others;     /* workers of other hosts */
    uint64_t startup_ns; /* of a process of this machine; 0: not known */
};

/* Made by fm_scaling_init. */
struct fm_scaling {
    struct fm_scaling_options options;
    struct fm_demand demand;
    uint64_t next_ns;
    uint32_t wanted; /* in all, of other hosts, too */
    uint32_t own;    /* of this machine */
    bool late;
    char why[FM_SCALING_WHY_SIZE];
};

void fm_scaling_init(struct fm_scaling *scaling, const struct fm_scaling_options *options);
/* Looks, when it is time to. True: it did. FM_ENOMEM counts as "not now". */
bool fm_scaling_update(struct fm_scaling *scaling, const struct fm_scaling_look *look,
                       const struct fm_master *master);
/* The words of an advice: "finish_by in 2:10:00, 1200000 rows left at 90 rows/s per worker". */
void fm_scaling_words(const struct fm_demand_advice *advice, const struct fm_demand_look *look,
                      char *text, size_t size);

#endif
