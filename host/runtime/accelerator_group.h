/*
 * Groups of accelerators that are alike: what there are, and which of them a model may use and how.
 *
 * Owns: reading "big=cpu:1x4,cpu:4,gpu:2@1", the match between a model's configuration and the
 * groups, and what files say of the groups of a pipeline's stages. Does not own: loading (model.h),
 * scheduling (host/pool: a group is one of its types). Thread rule: no shared state.
 */
#ifndef FM_HOST_RUNTIME_ACCELERATOR_GROUP_H
#define FM_HOST_RUNTIME_ACCELERATOR_GROUP_H

#include "host/config/config.h"
#include "host/runtime/model.h"

#define FM_GROUPS_MAX      FM_SCHED_TYPES_LIMIT
#define FM_GROUP_NAME_SIZE 32u

enum fm_group_kind {
    FM_GROUP_CPU,      /* threads of this machine */
    FM_GROUP_GPU,      /* places on one GPU */
    FM_GROUP_EMULATED, /* cost no CPU, and share threads */
    FM_GROUP_KIND_COUNT_
};

struct fm_accelerator_group {
    char name[FM_GROUP_NAME_SIZE];
    enum fm_group_kind kind;
    uint32_t accelerators; /* 1 .. FM_MODEL_INSTANCES_MAX */
    uint32_t threads;      /* CPU: of each; 0: as the model is configured */
    uint32_t device;       /* GPU: its number */
};

/* The groups that a stage of a pipeline is to run on, by their names or kinds. */
struct fm_stage_groups {
    const char *stage;
    const char *names[FM_GROUPS_MAX];
    uint32_t name_count; /* 0: nothing is said */
};

const char *fm_group_kind_name(enum fm_group_kind kind);

/*
 * Reads groups separated by commas: [NAME=]KIND:COUNT, with xTHREADS behind it (cpu) or @DEVICE
 * (gpu). A group without a name is called as its kind. FM_EINVAL says what is wrong and how it is
 * written.
 */
int FM_NODISCARD fm_accelerator_groups_parse(const char *text,
                                             struct fm_accelerator_group groups[FM_GROUPS_MAX],
                                             uint32_t *ret_count, struct fm_error *reterr);

/*
 * Which groups a model may use: those it names; else those of the kinds it names (a provider other
 * than cpu, or Triton's KIND_GPU, is gpu; of these, the devices it names); else cpu and emulated
 * ones, or, if there are none, gpu ones. Models that compute on the thread that calls them stay
 * away from emulated groups. FM_EINVAL: none, or a name that no group has; FM_ENOTFOUND: no such
 * backend.
 */
int FM_NODISCARD fm_accelerator_groups_match(const struct fm_model_config *config,
                                             const struct fm_accelerator_group *groups,
                                             uint32_t count, bool ret_allowed[FM_GROUPS_MAX],
                                             struct fm_error *reterr);

/* What the configuration says of the group; NULL: nothing. */
const struct fm_model_group_config *fm_accelerator_group_config(
    const struct fm_model_config *config, const struct fm_accelerator_group *group);

/* The provider that the configuration asks for; NULL: none. */
const char *fm_model_config_provider(const struct fm_model_config *config);

/* Reads a name or a list of names, each once; the strings are copied into `arena`. A node that is
 * NULL or null says nothing. */
int FM_NODISCARD fm_stage_groups_read(const struct fm_config *node, struct fm_arena *arena,
                                      struct fm_stage_groups *ret_groups, struct fm_error *reterr);
/* Takes away from what the model of the stage may use whatever the stage does not name. FM_EINVAL:
 * a name that no group has, or nothing is left. */
int FM_NODISCARD fm_stage_groups_narrow(const struct fm_stage_groups *wanted,
                                        const struct fm_accelerator_group *groups, uint32_t count,
                                        bool allowed[FM_GROUPS_MAX], struct fm_error *reterr);

#endif
