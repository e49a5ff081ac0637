/*
 * The numbers of the recording's format. docs/record.md describes what they mean; they never
 * change, whatever becomes of the enums they stand for. Private to record_write.c and
 * record_read.c.
 */
#ifndef FM_CORE_SCHED_RECORD_FORMAT_H
#define FM_CORE_SCHED_RECORD_FORMAT_H

#include "core/sched/record.h"

#define RECORD_MAGIC \
    "\x89"           \
    "FMREC\r\n"
#define RECORD_MAGIC_SIZE 8u
/* Magic and version. */
#define RECORD_FIRST_SIZE 12u
/* Kind and length in front of a block's contents, the hash behind. */
#define RECORD_HEAD_SIZE  5u
#define RECORD_CHECK_SIZE 8u
#define RECORD_NAME_MAX   64u
#define RECORD_VARINT_MAX 10u

enum record_block { RECORD_HEADER = 'H', RECORD_STEPS = 'S', RECORD_END = 'E' };

/* Fields of the header, ascending. */
enum record_field {
    RECORD_FIELD_MODELS_MAX = 1,
    RECORD_FIELD_ACCELERATORS_MAX,
    RECORD_FIELD_TYPE_COUNT,
    RECORD_FIELD_REQUESTS_MAX,
    RECORD_FIELD_BATCH_MAX,
    RECORD_FIELD_CONTROL_NS,
    RECORD_FIELD_DATA_NS,
    RECORD_FIELD_RESULT_NS,
    RECORD_FIELD_ATTEMPTS_MAX,
    RECORD_FIELD_LEARN,
    RECORD_FIELD_ADMIT,
    RECORD_FIELD_EVENTS_MAX,
    RECORD_FIELD_ACTION_CAPACITY,
    RECORD_FIELD_REQUEST_CAPACITY,
    RECORD_FIELD_HAS_ACTIONS,
    RECORD_FIELD_COUNT_
};

/* First byte of a step. */
enum {
    RECORD_STEP_LATER = 1 << 0,
    RECORD_STEP_EARLIER = 1 << 1,
    RECORD_STEP_WAKE_SHIFT = 2, /* 3 bits */
    RECORD_STEP_WAKE_MASK = 7,
    RECORD_STEP_EVENTS = 1 << 5,
    RECORD_STEP_ACTIONS = 1 << 6,
    RECORD_STEP_REST = 1 << 7
};
enum {
    RECORD_WAKE_NEVER,
    RECORD_WAKE_SAME,
    RECORD_WAKE_AFTER,
    RECORD_WAKE_BEFORE,
    RECORD_WAKE_AGAIN /* changed as it did the last time */
};

/* First byte of an event or an action. */
#define RECORD_MORE       0x80u
#define RECORD_EVENT_MASK 0x0fu
enum {
    RECORD_EVENT_TICK,
    RECORD_EVENT_REQUEST,
    RECORD_EVENT_CANCEL,
    RECORD_EVENT_UP,
    RECORD_EVENT_DOWN,
    RECORD_EVENT_SLOW,
    RECORD_EVENT_DONE,
    RECORD_EVENT_FAILED,
    RECORD_EVENT_MODEL_SET,
    RECORD_EVENT_MODEL_REMOVED,
    RECORD_EVENT_DRAIN,
    RECORD_EVENT_UNKNOWN = 15 /* a kind the scheduler refuses */
};
enum { RECORD_REQUEST_MODEL = 0x10, RECORD_REQUEST_BUDGET = 0x20, RECORD_REQUEST_PRIORITY = 0x40 };

#define RECORD_ACTION_MASK 0x03u
enum { RECORD_ACTION_START, RECORD_ACTION_DROP, RECORD_ACTION_PREEMPT };
enum {
    RECORD_START_BATCH = 0x04,
    RECORD_START_TIME = 0x08,
    RECORD_START_MODEL = 0x10,
    RECORD_DROP_SHIFT = 2, /* 4 bits: the reason */
    RECORD_DROP_MASK = 0x0f
};
enum {
    RECORD_DROP_INFEASIBLE,
    RECORD_DROP_LATE,
    RECORD_DROP_SACRIFICED,
    RECORD_DROP_REJECTED,
    RECORD_DROP_CANCELLED,
    RECORD_DROP_MODEL_GONE,
    RECORD_DROP_FAILED,
    RECORD_DROP_OUTRANKED
};

enum { RECORD_GOAL_BALANCED, RECORD_GOAL_EFFICIENCY, RECORD_GOAL_LATENCY };
enum { RECORD_STATISTIC_MEAN, RECORD_STATISTIC_P50, RECORD_STATISTIC_P90, RECORD_STATISTIC_P99 };
/* Settings that a model has besides, ascending; what follows each is docs/record.md's. */
enum { RECORD_SETTING_NONE, RECORD_SETTING_POLICY };
/* For a goal or statistic that the scheduler refuses. */
#define RECORD_CODE_UNKNOWN 0xffu

/* After a step whose wake time was written out (AFTER, BEFORE). */
static inline void record_wake_remember(struct fm_sched_record_memory *memory, uint64_t wake_ns)
{
    if (memory->wake_ns != FM_SCHED_NEVER) {
        memory->wake_change_ns = wake_ns - memory->wake_ns;
    }
}

/* The place of a profile: none, one of those remembered (1 ..), or here. */
#define RECORD_PROFILE_NONE 0u
#define RECORD_PROFILE_HERE (FM_SCHED_RECORD_PROFILES + 1)

#endif
