/*
 * The recording of a scheduler's life: what it was told, when, and what it answered, as bytes.
 *
 * Owns: the format (docs/record.md describes it byte by byte), writing and reading it. Does not
 * own: files, the scheduler, comparing (engines/sim/replay.h). Thread rule: pure; one thread at a
 * time for each object. Nothing is allocated but the models of a read step, in the caller's arena.
 *
 * HOW IT WORKS. A recording is a magic number, a version, and blocks: one with the scheduler's
 * options, any number with whole steps, one that says that this is the end. Each block ends with a
 * hash of everything in front of it, so damage is found before what is behind it is believed, and a
 * recording that was cut off is good up to its last whole block. Steps are packed by what they
 * share with the ones before: a request takes about ten bytes with all that is decided on it.
 */
#ifndef FM_CORE_SCHED_RECORD_H
#define FM_CORE_SCHED_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/sched/sched.h"
#include "core/util/memory.h"

#define FM_SCHED_RECORD_VERSION 1u
/* Limits of the format; a reader believes nothing beyond them. */
#define FM_SCHED_RECORD_BLOCK_MAX   (1u << 24) /* bytes of a block's contents */
#define FM_SCHED_RECORD_EVENTS_MAX  (1u << 16) /* of one step */
#define FM_SCHED_RECORD_ACTIONS_MAX (1u << 18)
#define FM_SCHED_RECORD_STARTED_MAX (1u << 20) /* requests in the batches of one step */
/* A buffer of this size takes the header, the end, and every step of a few hundred events. */
#define FM_SCHED_RECORD_BUFFER_SIZE (1u << 18)

/* What a recording begins with. */
struct fm_sched_record_header {
    struct fm_sched_options options;
    uint32_t events_max;       /* most events of a step, 1 .. FM_SCHED_RECORD_EVENTS_MAX */
    uint32_t action_capacity;  /* of the arrays the steps were called with: answers depend on it */
    uint32_t request_capacity; /* at least options.batch_max */
    bool has_actions;          /* false: events only */
};

/* One call of fm_sched_step. Fields that an event or action of its kind does not use are not
 * recorded; reading sets them as the scheduler does (FM_SCHED_NONE, 0). */
struct fm_sched_record_step {
    uint64_t now_ns;
    const struct fm_sched_event *events;
    uint32_t event_count;
    uint32_t taken;     /* of the events: what the step said */
    bool out_of_memory; /* the step failed with FM_ENOMEM */
    /* Without has_actions: not looked at, read as none and FM_SCHED_NEVER. */
    const struct fm_sched_action *actions;
    uint32_t action_count;
    const uint32_t *requests; /* of the START actions, in their order without gaps */
    uint32_t request_count;
    uint64_t wake_ns;
};

/* What both sides remember of the steps before; of no interest to callers. */
#define FM_SCHED_RECORD_ROWS     256u
#define FM_SCHED_RECORD_PROFILES 8u
struct fm_sched_record_memory {
    uint64_t now_ns;
    uint64_t wake_ns;
    uint64_t wake_change_ns; /* modulo 2^64 */
    uint64_t ended_batch;
    uint64_t started_batch;
    uint32_t arrived_model;
    uint32_t arrived_slot;
    uint32_t action_model;
    uint32_t action_slot;
    struct {
        uint64_t budget_ns; /* deadline less now of the last request, modulo 2^64 */
        uint32_t priority;
    } rows[FM_SCHED_RECORD_ROWS]; /* by model modulo ROWS */
    struct fm_profile profiles[FM_SCHED_RECORD_PROFILES];
    uint32_t profile_next;
    uint64_t step_count;
    uint64_t request_count;
};

/* --- writing -----------------------------------------------------------------------------------
 */

struct fm_sched_record_writer {
    uint8_t *buffer; /* borrowed */
    size_t capacity;
    size_t length;
    size_t block_begin; /* of the block being filled; == length: none */
    uint64_t hash;
    struct fm_sched_record_header header;
    struct fm_sched_record_memory memory;
};

/*
 * Begins a recording in buffer[capacity] (borrowed until the writer is no longer used or gets
 * another one; at least 1 KiB). FM_EINVAL: a limit of the header, named in reterr.
 */
int FM_NODISCARD fm_sched_record_begin(struct fm_sched_record_writer *writer,
                                       const struct fm_sched_record_header *header, void *buffer,
                                       size_t capacity, struct fm_error *reterr);
/* Another buffer, of at least 1 KiB; nothing may be waiting in the old one. */
void fm_sched_record_buffer_set(struct fm_sched_record_writer *writer, void *buffer,
                                size_t capacity);
/* Room that the step takes at most, with all that belongs to a block of its own. */
size_t fm_sched_record_step_bound(const struct fm_sched_record_step *step);
/*
 * Appends a step. FM_ELIMIT: the buffer has less room than the bound: take what is there, or bring
 * a larger buffer. FM_ETOOLARGE: more than a block may hold, more events, actions or requests than
 * the header says. FM_EINVAL: a profile that is none, requests that are not the actions'. On
 * failure nothing is written.
 */
int FM_NODISCARD fm_sched_record_write(struct fm_sched_record_writer *writer,
                                       const struct fm_sched_record_step *step,
                                       struct fm_error *reterr);
/* Appends the end mark; take what is there first. Nothing may be written after it. */
void fm_sched_record_end(struct fm_sched_record_writer *writer);
/* Closes the block and empties the buffer: returns its bytes, valid until the next call. Each take
 * costs 13 bytes; whatever was taken can be read, even if the end never comes. */
const void *fm_sched_record_take(struct fm_sched_record_writer *writer, size_t *ret_size);

/* --- reading -----------------------------------------------------------------------------------
 */

struct fm_sched_record_reader {
    const uint8_t *data; /* borrowed */
    size_t size;
    size_t offset;      /* of what is read next */
    size_t block_begin; /* of the block that holds it */
    size_t block_end;   /* of its contents; 0: none is open */
    uint64_t hash;
    int status; /* sticky */
    bool ended;
    struct fm_sched_record_header header;
    struct fm_sched_record_memory memory;
    const struct fm_profile *step_profiles[FM_SCHED_RECORD_PROFILES]; /* copies for this step */
};

/* The caller's arrays: events [header.events_max], actions [header.action_capacity], requests
 * [header.request_capacity]. */
struct fm_sched_record_arrays {
    struct fm_sched_event *events;
    struct fm_sched_action *actions;
    uint32_t *requests;
};

/*
 * Opens data[size] (borrowed by the reader); the header is reader->header. Errors name the byte.
 * FM_ECORRUPT: not a recording, damaged, cut off; FM_EUNSUPPORTED: of another version, or with a
 * policy or option that is not known here.
 */
int FM_NODISCARD fm_sched_record_open(struct fm_sched_record_reader *reader, const void *data,
                                      size_t size, struct fm_error *reterr);
/*
 * The next step, in the caller's arrays; *ret_end: there is none, the end mark was found. Models
 * and their profiles are in `arena`, which may be emptied before the next call. FM_ECORRUPT and
 * FM_EUNSUPPORTED as above (again at every further call), FM_ENOMEM: the arena is full.
 */
int FM_NODISCARD fm_sched_record_read(struct fm_sched_record_reader *reader,
                                      const struct fm_sched_record_arrays *arrays,
                                      struct fm_arena *arena, struct fm_sched_record_step *ret_step,
                                      bool *ret_end, struct fm_error *reterr);

#endif
