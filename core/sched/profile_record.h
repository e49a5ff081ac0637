/*
 * What `fermata profile` found out about a model on a machine: a latency profile for each setting
 * (threads x instances), and which to use.
 *
 * Owns: the record and the choice among its settings. Does not own: measuring (engines/profile),
 * the file (host/runtime/profile_file.h). Thread rule: pure; a finished record is read-only.
 */
#ifndef FM_CORE_SCHED_PROFILE_RECORD_H
#define FM_CORE_SCHED_PROFILE_RECORD_H

#include "core/sched/profile.h"

#define FM_PROFILE_SETTINGS_MAX 64
#define FM_PROFILE_NAME_SIZE    128
#define FM_PROFILE_TEXT_SIZE    512

/* What is known of one batch size in one setting beyond l(b). */
struct fm_profile_measure {
    uint64_t rate_millihertz;     /* rows per second, all instances together, in thousandths: median
                                     over the rounds */
    uint64_t rate_low_millihertz; /* of the slowest round */
    uint64_t rate_high_millihertz;
    uint32_t spread_permille; /* standard deviation of the latency / mean */
};

/* One way to run the model. Latencies are those of one instance while all of them are busy, which
 * is what a scheduler meets. */
struct fm_profile_setting {
    uint32_t threads;                   /* per instance */
    uint32_t instances;                 /* at once */
    char options[FM_PROFILE_NAME_SIZE]; /* further backend settings that were varied, "key=value
                                           key=value"; may be empty */
    struct fm_profile profile;
    struct fm_profile_measure measures[FM_PROFILE_POINTS_MAX]; /* by point of the profile */
};

struct fm_profile_record {
    char model[FM_PROFILE_NAME_SIZE];
    uint64_t version;
    char backend[FM_PROFILE_NAME_SIZE];
    char machine[FM_PROFILE_TEXT_SIZE];  /* "Intel Xeon ..., 2 CPUs" */
    char measured[FM_PROFILE_NAME_SIZE]; /* RFC 3339 */
    char inputs[FM_PROFILE_TEXT_SIZE];   /* one row, "x FP32 [3,48,320]" */
    bool complete;                       /* false: measuring was interrupted */
    uint64_t slo_ns;                     /* the recommendation keeps p99 within this; 0: none */
    struct fm_profile_setting settings[FM_PROFILE_SETTINGS_MAX];
    uint32_t setting_count;
    bool has_choice;
    uint32_t choice_setting; /* index */
    uint32_t choice_point;   /* index into that setting's points */
};

/*
 * Adds a point and its measure to a setting, keeping both arrays in step. Errors as fm_profile_add.
 */
int FM_NODISCARD fm_profile_setting_add(struct fm_profile_setting *setting,
                                        const struct fm_profile_point *point,
                                        const struct fm_profile_measure *measure,
                                        struct fm_error *reterr);

/*
 * Chooses threads x instances x batch: the highest measured rate with p99 <= slo_ns (0: any) and
 * threads * instances <= cpu_count (0: any); among those within tolerance_permille of it the
 * smallest batch (shortest latency), then the fewest CPUs, then the fewest threads. Sets
 * has_choice. Returns has_choice.
 */
bool fm_profile_record_choose(struct fm_profile_record *record, uint32_t cpu_count, uint64_t slo_ns,
                              uint32_t tolerance_permille);

/*
 * The setting with exactly these numbers, 0 meaning any (then that of the choice when it agrees,
 * else the first). NULL: not measured.
 */
const struct fm_profile_setting *fm_profile_record_find(const struct fm_profile_record *record,
                                                        uint32_t threads, uint32_t instances);

#endif
