/*
 * Replay: a recording's events, at their times, to a fresh scheduler.
 *
 * Owns: feeding it and comparing its answers with the recorded ones. Does not own: the format
 * (core/sched/record.h), files, what-ifs (what_if.h). Thread rule: no state outside a call.
 *
 * HOW IT WORKS. The scheduler is pure: the same events at the same times through arrays of the same
 * size give the same actions, byte for byte. So a difference means that the scheduler is another
 * one than that which was recorded, or a defect; the first is named and ends the replay, as what
 * follows it says nothing.
 */
#ifndef FM_ENGINES_SIM_REPLAY_H
#define FM_ENGINES_SIM_REPLAY_H

#include "core/util/text.h"
#include "engines/sim/recorder.h"

/* Models and profiles of one step. */
#define FM_SIM_REPLAY_ARENA_MAX (UINT64_C(1) << 30)

struct fm_sim_replay {
    struct fm_sched_record_header header;
    uint64_t steps; /* compared, without the one that differs */
    uint64_t requests;
    uint64_t batches;
    uint64_t dropped;
    uint64_t first_ns; /* of the first and the last step */
    uint64_t last_ns;
    uint64_t trace_hash; /* as that of a run: of every action */
    bool differs;
    char difference[512]; /* in words; "": none */
};

/*
 * Replays data[size]. *ret_replay is filled as far as it went, in any case. FM_ECORRUPT and
 * FM_EUNSUPPORTED: the recording, as fm_sched_record_read says; FM_EINVAL: options no scheduler
 * takes; FM_ENOMEM. `recorder` (NULL: none) gets the replayed steps.
 */
int FM_NODISCARD fm_sim_replay(const void *data, size_t size, struct fm_sim_recorder *recorder,
                               struct fm_sim_replay *ret_replay, struct fm_error *reterr);

/* What a replay found; docs/sim.md documents the JSON. */
void fm_sim_replay_json(const struct fm_sim_replay *replay, uint64_t elapsed_ns,
                        struct fm_text *text);
void fm_sim_replay_table(const struct fm_sim_replay *replay, struct fm_text *text);

/* The caller's side of reading a recording; both passes over one need it. */
struct fm_sim_replay_arrays {
    struct fm_sched_record_arrays arrays;
    struct fm_arena arena; /* of the step that was read last */
};
int FM_NODISCARD fm_sim_replay_arrays_create(struct fm_sim_replay_arrays *arrays,
                                             const struct fm_sched_record_header *header,
                                             struct fm_error *reterr);
void fm_sim_replay_arrays_deinit(struct fm_sim_replay_arrays *arrays);
/* fm_sched_record_read into them. */
int FM_NODISCARD fm_sim_replay_read(struct fm_sched_record_reader *reader,
                                    struct fm_sim_replay_arrays *arrays,
                                    struct fm_sched_record_step *ret_step, bool *ret_end,
                                    struct fm_error *reterr);

#endif
