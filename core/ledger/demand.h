/*
 * How many workers a job wants: from what is left of it, from how fast its workers are, and from
 * when it is to be finished. A pure state machine.
 *
 * Owns: the number, why it is that, measuring what workers bring. Does not own: who starts and ends
 * them (crew.h, or whoever leads a cluster), words for people. Thread rule: one thread at a time.
 *
 * HOW IT WORKS. Rates are measured over windows of time as rows for each second that a worker was
 * there, so that one which is lost and replaced meanwhile spoils nothing. After a change nothing is
 * measured until the workers that were asked for have come, or had time enough for it.
 *
 * Growing has to pay. What a growth brought is judged by the first window after it: when each of
 * the workers added last brought less than 20 % of what an older one brings (DLRover's rule), the
 * number goes back to what corresponds to the rate that was had, which is the ceiling for some time
 * to come; each time that it had to be set again this time doubles.
 *
 * With a time to be finished by: the number is the least that finishes before it, and a little
 * before that, with a reserve for the spread of the workers' rates, and with the time that new ones
 * need to begin. It grows to that, up to four times of what there is in one step; it becomes
 * smaller when fewer would have done for some time, with more reserve than what makes it grow.
 * Without: it doubles while that pays and the rest of the job is long enough that new workers get
 * to work in it.
 *
 * At the end, workers that get no work any more are not wanted any more.
 *
 * Changes are few: a growth is followed by at least one window, each growth that was no use and
 * each shrink that was too soon double the time until the next one.
 *
 * LIMITATIONS. Rows are taken to be alike: where those at the end take longer than the ones before,
 * the number grows late.
 */
#ifndef FM_CORE_LEDGER_DEMAND_H
#define FM_CORE_LEDGER_DEMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fm_demand_options {
    uint64_t settle_ns;     /* after a change, before measuring begins */
    uint64_t window_ns;     /* of a measurement, at least ... */
    uint64_t window_max_ns; /* ... and at most, where few rows are finished */
    uint32_t window_rows;   /* of each worker, that a window needs */
    uint64_t hold_ns;       /* fewer would have done for so long, before there are fewer; doubles */
    uint64_t ceiling_ns;    /* before growing is tried again that was no use; doubles */
    uint64_t idle_ns;       /* a worker without work for so long is not wanted at the end */
    uint64_t late_ns;       /* it must look so bad for so long, before it counts as late */
    uint64_t startup_ns;    /* of a worker, while none was observed */
};

/* Why as many are wanted as are. */
enum fm_demand_reason {
    FM_DEMAND_FIXED,     /* there is no choice */
    FM_DEMAND_MEASURING, /* it is not known yet what the workers bring */
    FM_DEMAND_FINISH_BY, /* as many as finish in time */
    FM_DEMAND_LATE,      /* as many as there may be: it cannot be finished in time */
    FM_DEMAND_GROWING,   /* more bring more */
    FM_DEMAND_NO_GAIN,   /* the workers added last brought little */
    FM_DEMAND_SHORT,     /* the rest is too short for more */
    FM_DEMAND_MOST,      /* as many as there may be */
    FM_DEMAND_NO_WORK,   /* there is no work for more */
    FM_DEMAND_REASON_COUNT_
};

/* How the job stands. */
struct fm_demand_look {
    uint64_t now_ns;
    uint32_t min; /* workers; `max` >= min */
    uint32_t max;
    bool timed;
    uint64_t left_ns;    /* of the time until it is to be finished; 0: that has passed */
    uint64_t rows_done;  /* by all workers so far */
    uint64_t rows_left;  /* that are known */
    bool listing;        /* there may be more */
    bool paused;         /* nothing is handed out */
    uint32_t working;    /* workers that ask for work */
    uint32_t idle;       /* of them, without any, though nothing is left to hand out */
    const double *rates; /* of those for which it is known, rows a second ... */
    size_t rate_count;
    uint64_t startup_ns; /* from a worker's start until it asks for work; 0: not known */
};

struct fm_demand_advice {
    uint32_t workers; /* wanted, from min to max */
    enum fm_demand_reason reason;
    double rows_per_s; /* of one worker; 0: not known */
    bool late;         /* it cannot be finished in time */
};

/* Where it stands; made by fm_demand_init. */
struct fm_demand {
    struct fm_demand_options options;
    uint32_t wanted; /* 0: nobody has looked yet */
    enum fm_demand_reason reason;
    uint64_t span_ns; /* that was left at first, of the time until it is to be finished */
    /* The measurement. */
    uint64_t looked_ns;
    uint64_t changed_ns; /* the number */
    uint64_t ready_ns;   /* when measuring may begin; 0: not known, some are missing */
    uint64_t window_ns;  /* when it began; 0: it has not */
    double worker_s;     /* workers times seconds in it */
    uint64_t rows;       /* that were done when it began */
    double rate;         /* of one worker, of the windows so far; 0: none yet */
    /* What was there before the last growth, until that is judged. */
    uint32_t before;
    double before_rate;           /* of all of them */
    uint32_t ceiling;             /* 0: none */
    enum fm_demand_reason capped; /* why there is one */
    uint64_t ceiling_until_ns;
    uint64_t ceiling_ns; /* the next one's */
    bool shrunk;         /* it became smaller last */
    uint64_t hold_ns;
    uint64_t less_ns; /* since when fewer would do; 0: they would not */
    uint64_t idle_ns; /* since when some have no work; 0: they have */
    uint64_t late_ns; /* since when it looks so; 0: it does not */
};

void fm_demand_init(struct fm_demand *demand, const struct fm_demand_options *options);
/* To be called several times a second. */
struct fm_demand_advice fm_demand_update(struct fm_demand *demand,
                                         const struct fm_demand_look *look);

#endif
