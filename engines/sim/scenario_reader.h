/*
 * What the readers of a scenario's sections share. For them alone; users include scenario_file.h.
 *
 * Owns: values that are read the same way everywhere, with what is wrong named by file, line and
 * key. Files: scenario_file.c (the sections), scenario_reader.c (values), scenario_profiles.c,
 * scenario_arrivals.c. Thread rule: one thread at a time for a reader.
 */
#ifndef FM_ENGINES_SIM_SCENARIO_READER_H
#define FM_ENGINES_SIM_SCENARIO_READER_H

#include "engines/sim/scenario.h"
#include "host/config/config.h"

struct fm_sim_reader {
    struct fm_sim_scenario *scenario;
    struct fm_error *reterr;
    char directory[4096];
    bool has_pipelines; /* models may be stages alone: the scenario's check says what is missing */
};

int fm_sim_read_out_of_memory(const struct fm_sim_reader *reader);
/* What must be there, with something after it. */
int fm_sim_read_required(struct fm_config *mapping, const char *key, struct fm_config **ret_child,
                         struct fm_error *reterr);
void *fm_sim_read_allocate(const struct fm_sim_reader *reader, size_t count, size_t size);
int fm_sim_read_uint32(const struct fm_sim_reader *reader, struct fm_config *mapping,
                       const char *key, uint32_t min, uint32_t max, uint32_t *value);
int fm_sim_read_seed(const struct fm_sim_reader *reader, struct fm_config *mapping, const char *key,
                     uint64_t *value);
/* A duration that simulated time can hold. */
int fm_sim_read_time(const struct fm_sim_reader *reader, struct fm_config *mapping, const char *key,
                     uint64_t *value);
int fm_sim_read_time_required(const struct fm_sim_reader *reader, struct fm_config *mapping,
                              const char *key, uint64_t *value);
int fm_sim_read_memory(const struct fm_sim_reader *reader, struct fm_config *mapping,
                       uint64_t *value);
/* A list that has to be one; count 0 and NULL where it is absent. */
int fm_sim_read_list(const struct fm_sim_reader *reader, struct fm_config *mapping, const char *key,
                     size_t limit, struct fm_config **ret_list);
int fm_sim_read_name(const struct fm_sim_reader *reader, struct fm_config *mapping, const char *key,
                     size_t length_max, const char **ret_name);
/* The path of a file that the scenario names; it is remembered as one that is read. */
int fm_sim_read_path(const struct fm_sim_reader *reader, const struct fm_config *node,
                     char *ret_path, size_t size);
/* 'profile' for all types alike, or 'profiles' by type: [FM_SCHED_TYPES_LIMIT]. */
int fm_sim_read_profiles(const struct fm_sim_reader *reader, struct fm_config *node,
                         const struct fm_profile **profiles);
int fm_sim_read_arrivals(const struct fm_sim_reader *reader, struct fm_config *mapping,
                         struct fm_sim_group *group);

#endif
