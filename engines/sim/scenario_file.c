/*
 * The scenario file's sections. See scenario_file.h and docs/sim.md.
 */
#include "engines/sim/scenario_file.h"

#include <stdio.h>
#include <string.h>

#include "core/sched/partition.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "engines/sim/scenario_reader.h"
#include "host/os/file.h"

#define NAME_LENGTH_MAX 100u

/* --- accelerators ------------------------------------------------------------------------------
 */

/* The index of a type's name; type_count when it is not there. */
static uint32_t type_find(const struct fm_sim_scenario *scenario, const char *name)
{
    uint32_t index = 0;
    while (index < scenario->type_count && strcmp(scenario->types[index], name) != 0) {
        index++;
    }
    return index;
}

static int read_pool(const struct fm_sim_reader *reader, struct fm_config *node,
                     struct fm_sim_pool *pool)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    struct fm_config *ignored = NULL;
    const char *type = "default";
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0 ? fm_sim_read_required(node, "count", &ignored, reader->reterr) : status;
    status = status == 0 ? fm_sim_read_uint32(reader, node, "count", 1, FM_SCHED_ACCELERATORS_LIMIT,
                                              &pool->count)
                         : status;
    if (status == 0 && fm_config_get(node, "type") != NULL) {
        status = fm_sim_read_name(reader, node, "type", FM_SIM_TYPE_NAME_SIZE - 1, &type);
    }
    status = status == 0 ? fm_config_finish(node, reader->reterr) : status;
    if (status != 0) {
        return status;
    }
    pool->type = type_find(scenario, type);
    if (pool->type == FM_SCHED_TYPES_LIMIT) {
        return fm_config_error(node, reader->reterr, "more than %u types of accelerators",
                               FM_SCHED_TYPES_LIMIT);
    }
    if (pool->type == scenario->type_count) {
        (void)snprintf(scenario->types[scenario->type_count++], FM_SIM_TYPE_NAME_SIZE, "%s", type);
    }
    return 0;
}

static int read_accelerators(const struct fm_sim_reader *reader, struct fm_config *root)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    struct fm_config *node = NULL;
    int status = fm_sim_read_required(root, "accelerators", &node, reader->reterr);
    if (status != 0) {
        return status;
    }
    size_t count = node->kind == FM_CONFIG_SEQUENCE ? node->count : 1;
    if (count == 0 || count > FM_SIM_GROUPS_MAX) {
        return fm_config_error(node, reader->reterr, "'accelerators' has 1 to %u entries",
                               FM_SIM_GROUPS_MAX);
    }
    scenario->pools = fm_sim_read_allocate(reader, count, sizeof *scenario->pools);
    if (scenario->pools == NULL) {
        return fm_sim_read_out_of_memory(reader);
    }
    if (node->kind != FM_CONFIG_SEQUENCE) {
        scenario->pool_count = 1;
        scenario->type_count = 1;
        (void)snprintf(scenario->types[0], FM_SIM_TYPE_NAME_SIZE, "default");
        return fm_sim_read_uint32(reader, root, "accelerators", 1, FM_SCHED_ACCELERATORS_LIMIT,
                                  &scenario->pools[0].count);
    }
    for (size_t i = 0; status == 0 && i < count; i++) {
        status = read_pool(reader, &node->children[i], &scenario->pools[scenario->pool_count++]);
    }
    return status;
}

/* --- models ------------------------------------------------------------------------------------
 */

static int read_preferred(const struct fm_sim_reader *reader, struct fm_config *node,
                          struct fm_sim_group *group)
{
    struct fm_config *list = NULL;
    int status = fm_sim_read_list(reader, node, "preferred", FM_SCHED_PREFERRED_MAX, &list);
    for (size_t i = 0; status == 0 && list != NULL && i < list->count; i++) {
        uint64_t batch = 0;
        const struct fm_config *entry = &list->children[i];
        if (entry->kind != FM_CONFIG_SCALAR || fm_parse_uint64(entry->text, &batch) != 0 ||
            batch == 0 || batch > FM_SCHED_BATCH_LIMIT ||
            (i > 0 && batch <= group->preferred[i - 1])) {
            return fm_config_error(entry, reader->reterr,
                                   "'preferred' is a list of batch sizes from 1 to %u, ascending",
                                   FM_SCHED_BATCH_LIMIT);
        }
        group->preferred[i] = (uint32_t)batch;
    }
    return status;
}

static int read_choices(const struct fm_sim_reader *reader, struct fm_config *node,
                        struct fm_sim_group *group)
{
    const char *goals[FM_SCHED_GOAL_COUNT_ + 1] = {NULL};
    const char *statistics[FM_PROFILE_STATISTIC_COUNT_ + 1] = {NULL};
    for (unsigned i = 0; i < FM_SCHED_GOAL_COUNT_; i++) {
        goals[i] = fm_sched_goal_name((enum fm_sched_goal)i);
    }
    for (unsigned i = 0; i < FM_PROFILE_STATISTIC_COUNT_; i++) {
        statistics[i] = fm_profile_statistic_name((enum fm_profile_statistic)i);
    }
    int goal = FM_SCHED_GOAL_BALANCED;
    int statistic = FM_PROFILE_MEAN;
    int status = fm_config_enum(node, "goal", goals, &goal, reader->reterr);
    status = status == 0 ? fm_config_enum(node, "statistic", statistics, &statistic, reader->reterr)
                         : status;
    group->goal = (enum fm_sched_goal)goal;
    group->statistic = (enum fm_profile_statistic)statistic;
    return status;
}

/* "{20ms: 0.7, 100ms: 0.3}": values that requests draw, with their shares; ascending after this.
 * `parse`: of a key. */
static int read_mix(const struct fm_sim_reader *reader, struct fm_config *node, const char *key,
                    uint32_t limit, int (*parse)(const char *, uint64_t *),
                    struct fm_sim_choice *choices, uint32_t *ret_count)
{
    double shares[FM_SIM_SLOS_MAX] = {0};
    double sum = 0;
    uint32_t count = 0;
    if (node->count == 0 || node->count > limit) {
        return fm_config_error(node, reader->reterr, "'%s' has 1 to %u values with their shares",
                               key, limit);
    }
    for (size_t i = 0; i < node->count; i++, count++) {
        uint64_t value = 0;
        double share = 0;
        if (parse(node->keys[i], &value) != 0) {
            return fm_config_error(&node->children[i], reader->reterr,
                                   "'%.60s' is not a value of '%s'; write {VALUE: SHARE, ...}",
                                   node->keys[i], key);
        }
        int status = fm_config_double(node, node->keys[i], 1e-6, 1, &share, reader->reterr);
        uint32_t place = count;
        for (; status == 0 && place > 0 && choices[place - 1].value >= value; place--) {
            if (choices[place - 1].value == value) {
                return fm_config_error(&node->children[i], reader->reterr, "'%s' has '%.60s' twice",
                                       key, node->keys[i]);
            }
            choices[place].value = choices[place - 1].value;
            shares[place] = shares[place - 1];
        }
        if (status != 0) {
            return status;
        }
        choices[place].value = value;
        shares[place] = share;
        sum += share;
    }
    if (sum < 0.999 || sum > 1.001) {
        return fm_config_error(node, reader->reterr, "the shares of '%s' add up to %g, not to 1",
                               key, sum);
    }
    double below = 0;
    for (uint32_t i = 0; i < count; i++) {
        below += shares[i];
        choices[i].below = (uint64_t)(below / sum * (double)FM_SIM_DRAW_END + 0.5);
    }
    choices[count - 1].below = FM_SIM_DRAW_END;
    *ret_count = count;
    return 0;
}

static int parse_slo(const char *text, uint64_t *ret_ns)
{
    int status = fm_parse_duration_ns(text, ret_ns);
    return status == 0 && *ret_ns > 0 && *ret_ns <= FM_SIM_TIME_MAX_NS ? 0 : FM_EINVAL;
}

static int parse_priority(const char *text, uint64_t *ret_priority)
{
    int status = fm_parse_uint64(text, ret_priority);
    return status == 0 && *ret_priority < FM_SCHED_PRIORITY_COUNT ? 0 : FM_EINVAL;
}

/* One of each for all requests, or shares of several. */
static int read_slo_priority(const struct fm_sim_reader *reader, struct fm_config *node,
                             struct fm_sim_group *group)
{
    struct fm_config *slos = fm_config_get(node, "slo");
    struct fm_config *priorities = fm_config_get(node, "priority");
    int status = 0;
    if (slos != NULL && slos->kind == FM_CONFIG_MAPPING) {
        status = read_mix(reader, slos, "slo", FM_SIM_SLOS_MAX, parse_slo, group->slo_choices,
                          &group->slo_choice_count);
        /* Measured: told a longer one, the scheduler plans batches that the shortest cannot wait
         * for, and loses more of those than it wins of the others (docs/sim.md). */
        group->slo_ns = fm_sim_group_slo_min_ns(group);
    } else if (slos != NULL || !reader->has_pipelines) {
        status = fm_sim_read_time_required(reader, node, "slo", &group->slo_ns);
    }
    if (status != 0 || priorities == NULL || priorities->kind != FM_CONFIG_MAPPING) {
        return status == 0 ? fm_sim_read_uint32(reader, node, "priority", 0,
                                                FM_SCHED_PRIORITY_COUNT - 1, &group->priority)
                           : status;
    }
    status = read_mix(reader, priorities, "priority", FM_SCHED_PRIORITY_COUNT, parse_priority,
                      group->priority_choices, &group->priority_choice_count);
    group->priority = (uint32_t)group->priority_choices[0].value;
    return status;
}

/* As it is, unless the file says otherwise. */
static int read_policy(const struct fm_sim_reader *reader, struct fm_config *node,
                       enum fm_sched_policy_kind *policy)
{
    const char *policies[FM_SCHED_POLICY_COUNT_ + 1] = {NULL};
    for (unsigned i = 0; i < FM_SCHED_POLICY_COUNT_; i++) {
        policies[i] = fm_sched_policy_name((enum fm_sched_policy_kind)i);
    }
    int chosen = (int)*policy;
    int status = fm_config_enum(node, "policy", policies, &chosen, reader->reterr);
    *policy = (enum fm_sched_policy_kind)chosen;
    return status;
}

/* Whether it is there at the beginning, and who asks for it when it is not. */
static int read_presence(const struct fm_sim_reader *reader, struct fm_config *node,
                         struct fm_sim_group *group)
{
    static const char *const names[] = {"stay", "leave", NULL};
    bool present = true;
    int clients = 0;
    int status = fm_config_bool(node, "present", &present, reader->reterr);
    status =
        status == 0 ? fm_config_enum(node, "clients", names, &clients, reader->reterr) : status;
    group->absent = !present;
    group->clients_leave = clients == 1;
    return status;
}

static int read_group(const struct fm_sim_reader *reader, struct fm_config *node,
                      struct fm_sim_group *group)
{
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    group->line = node->line;
    group->count = 1;
    status = status == 0 ? fm_sim_read_name(reader, node, "name", NAME_LENGTH_MAX, &group->name)
                         : status;
    status = status == 0 ? fm_sim_read_uint32(reader, node, "count", 1, FM_SCHED_MODELS_LIMIT,
                                              &group->count)
                         : status;
    status = status == 0
                 ? fm_config_double(node, "popularity", 0, 10, &group->popularity, reader->reterr)
                 : status;
    status = status == 0 ? read_slo_priority(reader, node, group) : status;
    status = status == 0 ? read_presence(reader, node, group) : status;
    status = status == 0 ? read_choices(reader, node, group) : status;
    status = status == 0 ? fm_sim_read_uint32(reader, node, "batch_max", 1, FM_SCHED_BATCH_LIMIT,
                                              &group->batch_max)
                         : status;
    status = status == 0 ? read_preferred(reader, node, group) : status;
    group->policy_given = fm_config_get(node, "policy") != NULL;
    status = status == 0 ? read_policy(reader, node, &group->policy) : status;
    status = status == 0 ? fm_sim_read_memory(reader, node, &group->memory_bytes) : status;
    /* Unless it is given: a fifth of the SLO, which is what one would try first. */
    group->queue_delay_ns = group->slo_ns / 5;
    status = status == 0 ? fm_sim_read_time(reader, node, "queue_delay", &group->queue_delay_ns)
                         : status;
    status = status == 0 ? fm_sim_read_profiles(reader, node, group->profiles) : status;
    group->silent = reader->has_pipelines && fm_config_get(node, "arrivals") == NULL;
    status = status == 0 && !group->silent ? fm_sim_read_arrivals(reader, node, group) : status;
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

/* Whether a group of several has a model of that name, "group.index". */
static bool group_has(const struct fm_sim_group *group, const char *name, uint64_t *ret_index)
{
    size_t length = strlen(group->name);
    *ret_index = 0;
    return group->count > 1 && strncmp(name, group->name, length) == 0 && name[length] == '.' &&
           fm_parse_uint64(name + length + 1, ret_index) == 0 && *ret_index < group->count;
}

/* No name may stand for two models, or for a model and a group. */
static int group_name_check(const struct fm_sim_reader *reader, const struct fm_config *node,
                            const struct fm_sim_group *before, const struct fm_sim_group *group)
{
    uint64_t index = 0;
    if (strcmp(before->name, group->name) == 0) {
        return fm_config_error(node, reader->reterr, "two models are called '%s'", group->name);
    }
    bool of_before = group_has(before, group->name, &index);
    if (!of_before && !group_has(group, before->name, &index)) {
        return 0;
    }
    const struct fm_sim_group *many = of_before ? before : group;
    return fm_config_error(node, reader->reterr,
                           "two models are called '%s': '%s' with a count of %u has one of that "
                           "name, too",
                           of_before ? group->name : before->name, many->name, many->count);
}

static int read_groups(struct fm_sim_reader *reader, struct fm_config *root)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    struct fm_config *list = NULL;
    reader->has_pipelines = fm_config_get(root, "pipelines") != NULL;
    int status = fm_sim_read_required(root, "models", &list, reader->reterr);
    status = status == 0 ? fm_config_expect(list, FM_CONFIG_SEQUENCE, reader->reterr) : status;
    if (status == 0 && (list->count == 0 || list->count > FM_SIM_GROUPS_MAX)) {
        status = fm_config_error(list, reader->reterr,
                                 "'models' has 1 to %u entries (one may stand for many: 'count')",
                                 FM_SIM_GROUPS_MAX);
    }
    if (status != 0) {
        return status;
    }
    scenario->groups = fm_sim_read_allocate(reader, list->count, sizeof *scenario->groups);
    if (scenario->groups == NULL) {
        return fm_sim_read_out_of_memory(reader);
    }
    for (size_t i = 0; status == 0 && i < list->count; i++) {
        struct fm_sim_group *group = &scenario->groups[scenario->group_count++];
        status = read_group(reader, &list->children[i], group);
        for (size_t j = 0; status == 0 && j < i; j++) {
            status = group_name_check(reader, &list->children[i], &scenario->groups[j], group);
        }
    }
    return status;
}

/* --- pipelines ---------------------------------------------------------------------------------
 */

/* "m" for all of a group, "m.3" for one of its models. */
static int find_models(const struct fm_sim_reader *reader, const struct fm_config *name,
                       uint32_t *ret_first, uint32_t *ret_count,
                       const struct fm_sim_group **ret_group)
{
    const struct fm_sim_scenario *scenario = reader->scenario;
    int status = fm_config_expect(name, FM_CONFIG_SCALAR, reader->reterr);
    uint32_t first = 0;
    for (uint32_t i = 0; status == 0 && i < scenario->group_count; i++) {
        const struct fm_sim_group *group = &scenario->groups[i];
        uint64_t index = 0;
        bool all = strcmp(name->text, group->name) == 0;
        bool one = group_has(group, name->text, &index);
        if (all || one) {
            *ret_first = first + (one ? (uint32_t)index : 0);
            *ret_count = one ? 1 : group->count;
            *ret_group = group;
            return 0;
        }
        first += group->count;
    }
    return status == 0
               ? fm_config_error(name, reader->reterr, "there is no model '%.100s'", name->text)
               : status;
}

static int read_stages(const struct fm_sim_reader *reader, struct fm_config *node,
                       struct fm_sim_pipeline *pipeline)
{
    struct fm_config *list = NULL;
    int status = fm_sim_read_required(node, "stages", &list, reader->reterr);
    status = status == 0 ? fm_config_expect(list, FM_CONFIG_SEQUENCE, reader->reterr) : status;
    if (status == 0 && (list->count == 0 || list->count > FM_SIM_STAGES_MAX)) {
        status =
            fm_config_error(list, reader->reterr, "'stages' has 1 to %u models", FM_SIM_STAGES_MAX);
    }
    for (size_t i = 0; status == 0 && i < list->count; i++) {
        const struct fm_sim_group *group = NULL;
        uint32_t count = 0;
        status = find_models(reader, &list->children[i], &pipeline->stages[i], &count, &group);
        if (status == 0 && count > 1) {
            status = fm_config_error(&list->children[i], reader->reterr,
                                     "'%.100s' are %u models, a stage is one: write '%.100s.0'",
                                     group->name, count, group->name);
        }
        pipeline->stage_count++;
    }
    return status;
}

static int read_pipeline(const struct fm_sim_reader *reader, struct fm_config *node,
                         struct fm_sim_pipeline *pipeline)
{
    static const char *const splits[] = {"budget", "even", NULL};
    struct fm_sim_group load = {0};
    int split = 0;
    pipeline->line = node->line;
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0 ? fm_sim_read_name(reader, node, "name", NAME_LENGTH_MAX, &pipeline->name)
                         : status;
    status =
        status == 0 ? fm_sim_read_time_required(reader, node, "slo", &pipeline->slo_ns) : status;
    status = status == 0 ? fm_sim_read_uint32(reader, node, "priority", 0,
                                              FM_SCHED_PRIORITY_COUNT - 1, &pipeline->priority)
                         : status;
    status = status == 0 ? read_stages(reader, node, pipeline) : status;
    status = status == 0 ? fm_config_enum(node, "split", splits, &split, reader->reterr) : status;
    status = status == 0 ? fm_sim_read_arrivals(reader, node, &load) : status;
    if (status == 0 && load.budgets_ns != NULL) {
        status = fm_config_error(fm_config_get(node, "arrivals"), reader->reterr,
                                 "'deadline_column' is for models; a pipeline has one slo");
    }
    pipeline->even = split == 1;
    pipeline->arrivals = load.arrivals;
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

static int read_pipelines(const struct fm_sim_reader *reader, struct fm_config *root)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    struct fm_config *list = NULL;
    int status = fm_sim_read_list(reader, root, "pipelines", FM_SIM_PIPELINES_MAX, &list);
    if (status != 0 || list == NULL) {
        return status;
    }
    scenario->pipelines = fm_sim_read_allocate(reader, list->count, sizeof *scenario->pipelines);
    if (scenario->pipelines == NULL) {
        return fm_sim_read_out_of_memory(reader);
    }
    for (size_t i = 0; status == 0 && i < list->count; i++) {
        struct fm_sim_pipeline *pipeline = &scenario->pipelines[scenario->pipeline_count++];
        status = read_pipeline(reader, &list->children[i], pipeline);
        for (size_t j = 0; status == 0 && j < i; j++) {
            if (strcmp(scenario->pipelines[j].name, pipeline->name) == 0) {
                status = fm_config_error(&list->children[i], reader->reterr,
                                         "two pipelines are called '%s'", pipeline->name);
            }
        }
    }
    return status;
}

/* --- what goes wrong, and what changes ---------------------------------------------------------
 */

/* The profile times a factor. */
static int scale_profile(const struct fm_sim_reader *reader, const struct fm_config *node,
                         const struct fm_profile *profile, double factor,
                         const struct fm_profile **ret_scaled)
{
    struct fm_profile *scaled = fm_sim_read_allocate(reader, 1, sizeof *scaled);
    if (scaled == NULL) {
        return fm_sim_read_out_of_memory(reader);
    }
    for (uint32_t i = 0; i < profile->point_count; i++) {
        struct fm_profile_point point = profile->points[i];
        for (unsigned j = 0; j < FM_PROFILE_STATISTIC_COUNT_; j++) {
            double latency_ns = (double)point.latency_ns[j] * factor + 0.5;
            point.latency_ns[j] = latency_ns < 1 ? 1 : (uint64_t)latency_ns;
        }
        struct fm_error error = {0};
        if (fm_profile_add(scaled, &point, &error) != 0) {
            return fm_config_error(node, reader->reterr, "times 'factor': %s", error.text);
        }
    }
    *ret_scaled = scaled;
    return 0;
}

/* A new profile: written out, or a factor on the one the scenario gives the model. */
static int read_reprofiled(const struct fm_sim_reader *reader, struct fm_config *node,
                           const struct fm_sim_group *group, struct fm_sim_event *event)
{
    static const char *const changes[] = {"both", "truth", "promise", NULL};
    const struct fm_profile **profiles =
        fm_sim_read_allocate(reader, FM_SCHED_TYPES_LIMIT, sizeof *profiles);
    struct fm_config *factor_node = fm_config_get(node, "factor");
    double factor = 1;
    int change = FM_SIM_CHANGE_BOTH;
    if (profiles == NULL) {
        return fm_sim_read_out_of_memory(reader);
    }
    int status = fm_config_enum(node, "changes", changes, &change, reader->reterr);
    if (status == 0 && factor_node == NULL) {
        status = fm_sim_read_profiles(reader, node, profiles);
    } else if (status == 0 && (fm_config_get(node, "profile") != NULL ||
                               fm_config_get(node, "profiles") != NULL)) {
        status =
            fm_config_error(factor_node, reader->reterr,
                            "give the new profile, or a 'factor' on the model's own, not both");
    } else if (status == 0) {
        status = fm_config_double(node, "factor", 0.01, 1000, &factor, reader->reterr);
        for (uint32_t i = 0; status == 0 && i < reader->scenario->type_count; i++) {
            status = group->profiles[i] == NULL
                         ? 0
                         : scale_profile(reader, node, group->profiles[i], factor, &profiles[i]);
        }
    }
    event->change = (enum fm_sim_change)change;
    event->profiles = profiles;
    return status;
}

static int read_event_model(const struct fm_sim_reader *reader, struct fm_config *node,
                            struct fm_sim_event *event)
{
    const struct fm_sim_group *group = NULL;
    struct fm_config *name = NULL;
    int status = fm_sim_read_required(node, "model", &name, reader->reterr);
    status = status == 0 ? find_models(reader, name, &event->first, &event->count, &group) : status;
    return status == 0 && event->kind == FM_SIM_EVENT_REPROFILED
               ? read_reprofiled(reader, node, group, event)
               : status;
}

static int read_event_accelerator(const struct fm_sim_reader *reader, struct fm_config *node,
                                  struct fm_sim_event *event)
{
    struct fm_config *ignored = NULL;
    double factor = 1;
    event->count = 1;
    int status = fm_sim_read_required(node, "accelerator", &ignored, reader->reterr);
    status = status == 0 ? fm_sim_read_uint32(reader, node, "accelerator", 0,
                                              FM_SCHED_ACCELERATORS_LIMIT - 1, &event->first)
                         : status;
    status = status == 0 ? fm_sim_read_uint32(reader, node, "count", 1, FM_SCHED_ACCELERATORS_LIMIT,
                                              &event->count)
                         : status;
    if (status == 0 && event->kind == FM_SIM_EVENT_SLOW) {
        status = fm_sim_read_required(node, "factor", &ignored, reader->reterr);
        status = status == 0 ? fm_config_double(node, "factor", 0.01, 1000, &factor, reader->reterr)
                             : status;
    }
    event->permille = (uint32_t)(factor * 1000 + 0.5);
    return status;
}

static int read_event(const struct fm_sim_reader *reader, struct fm_config *node,
                      struct fm_sim_event *event)
{
    /* In the order of fm_sim_event_kind. */
    static const char *const names[] = {"down",          "up",         "slow", "model_added",
                                        "model_removed", "reprofiled", NULL};
    struct fm_config *ignored = NULL;
    int kind = 0;
    event->line = node->line;
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0 ? fm_sim_read_required(node, "at", &ignored, reader->reterr) : status;
    status = status == 0 ? fm_sim_read_time(reader, node, "at", &event->at_ns) : status;
    status = status == 0 ? fm_sim_read_required(node, "kind", &ignored, reader->reterr) : status;
    status = status == 0 ? fm_config_enum(node, "kind", names, &kind, reader->reterr) : status;
    event->kind = (enum fm_sim_event_kind)kind;
    if (status == 0) {
        status = kind >= FM_SIM_EVENT_MODEL_ADDED ? read_event_model(reader, node, event)
                                                  : read_event_accelerator(reader, node, event);
    }
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

static int read_events(const struct fm_sim_reader *reader, struct fm_config *root)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    struct fm_config *list = NULL;
    int status = fm_sim_read_list(reader, root, "events", FM_SIM_EVENTS_MAX, &list);
    if (status != 0 || list == NULL) {
        return status;
    }
    scenario->events = fm_sim_read_allocate(reader, list->count, sizeof *scenario->events);
    if (scenario->events == NULL) {
        return fm_sim_read_out_of_memory(reader);
    }
    for (size_t i = 0; status == 0 && i < list->count; i++) {
        status = read_event(reader, &list->children[i], &scenario->events[scenario->event_count++]);
    }
    return status;
}

/* A map of a share (or sigma), and a seed of its own. */
static int read_chance(const struct fm_sim_reader *reader, struct fm_config *root, const char *key,
                       const char *share_key, double share_max, double *share, uint64_t *seed,
                       uint64_t *delay_ns)
{
    struct fm_config *node = fm_config_get(root, key);
    struct fm_config *ignored = NULL;
    if (node == NULL || node->kind == FM_CONFIG_NULL) {
        return 0;
    }
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0 ? fm_sim_read_required(node, share_key, &ignored, reader->reterr) : status;
    status = status == 0 ? fm_config_double(node, share_key, 0, share_max, share, reader->reterr)
                         : status;
    status = status == 0 ? fm_sim_read_seed(reader, node, "seed", seed) : status;
    if (status == 0 && delay_ns != NULL) {
        status = fm_sim_read_required(node, "delay", &ignored, reader->reterr);
        status = status == 0 ? fm_sim_read_time(reader, node, "delay", delay_ns) : status;
    }
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

/* A share, kept in parts of `whole`. */
static int read_parts(const struct fm_sim_reader *reader, struct fm_config *node, const char *key,
                      double share_max, uint32_t whole, uint32_t *parts)
{
    double share = (double)*parts / whole;
    int status = fm_config_double(node, key, 0, share_max, &share, reader->reterr);
    *parts = (uint32_t)(share * whole + 0.5);
    return status;
}

static int read_autoscale(const struct fm_sim_reader *reader, struct fm_config *root)
{
    struct fm_sim_autoscale *autoscale = &reader->scenario->autoscale;
    struct fm_advice_options *advice = &autoscale->advice;
    struct fm_config *node = fm_config_get(root, "autoscale");
    if (node == NULL || node->kind == FM_CONFIG_NULL) {
        return 0;
    }
    autoscale->on = true;
    autoscale->line = node->line;
    const struct {
        const char *key;
        uint32_t min;
        uint32_t max;
        uint32_t *value;
    } counts[] = {
        {"min", 0, FM_SCHED_ACCELERATORS_LIMIT, &advice->accelerators_min},
        {"max", 1, FM_SCHED_ACCELERATORS_LIMIT, &advice->accelerators_max},
        {"initial", 0, FM_SCHED_ACCELERATORS_LIMIT, &autoscale->initial},
        {"step_max", 0, FM_SCHED_ACCELERATORS_LIMIT, &advice->step_max},
    };
    const struct {
        const char *key;
        uint64_t *value;
    } times[] = {
        {"interval", &autoscale->interval_ns}, {"start_delay", &autoscale->start_delay_ns},
        {"lack_hold", &advice->lack_hold_ns},  {"surplus_hold", &advice->surplus_hold_ns},
        {"cooldown", &advice->cooldown_ns},
    };
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    for (size_t i = 0; status == 0 && i < FM_COUNT_OF(counts); i++) {
        status = fm_sim_read_uint32(reader, node, counts[i].key, counts[i].min, counts[i].max,
                                    counts[i].value);
    }
    for (size_t i = 0; status == 0 && i < FM_COUNT_OF(times); i++) {
        status = fm_sim_read_time(reader, node, times[i].key, times[i].value);
    }
    if (status == 0 && autoscale->interval_ns < FM_SIM_INTERVAL_MIN_NS) {
        status = fm_config_error(fm_config_get(node, "interval"), reader->reterr,
                                 "'interval' must be at least 10 ms");
    }
    status = status == 0
                 ? read_parts(reader, node, "headroom", 10, 1000, &advice->headroom_permille)
                 : status;
    status = status == 0 ? read_parts(reader, node, "bad_tolerated", 0.999, 10000,
                                      &advice->bad_tolerated_permyriad)
                         : status;
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

static int read_partition(const struct fm_sim_reader *reader, struct fm_config *root)
{
    struct fm_sim_partition *partition = &reader->scenario->partition;
    struct fm_config *node = fm_config_get(root, "partition");
    struct fm_config *ignored = NULL;
    if (node == NULL || node->kind == FM_CONFIG_NULL) {
        return 0;
    }
    partition->line = node->line;
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    status =
        status == 0 ? fm_sim_read_required(node, "clusters", &ignored, reader->reterr) : status;
    status = status == 0 ? fm_sim_read_uint32(reader, node, "clusters", 0,
                                              FM_PARTITION_CLUSTERS_LIMIT, &partition->clusters)
                         : status;
    status = status == 0 ? fm_sim_read_memory(reader, node, &partition->memory_bytes) : status;
    status = status == 0 ? fm_sim_read_time(reader, node, "every", &partition->every_ns) : status;
    status = status == 0
                 ? read_parts(reader, node, "threshold", 10, 1000, &partition->threshold_permille)
                 : status;
    status = status == 0 ? read_parts(reader, node, "gain", 10, 1000, &partition->gain_permille)
                         : status;
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

/* A term of the network, up to what the scheduler takes. */
static int read_term(const struct fm_sim_reader *reader, struct fm_config *node, const char *key,
                     uint64_t most_ns, uint64_t *value)
{
    int status = fm_sim_read_time(reader, node, key, value);
    if (status == 0 && *value > most_ns) {
        status = fm_config_error(fm_config_get(node, key), reader->reterr,
                                 "'%s' is at most %.9g s, which the scheduler can plan with", key,
                                 (double)(most_ns / 1000000000));
    }
    return status;
}

static int read_network(const struct fm_sim_reader *reader, struct fm_config *root)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    struct fm_config *node = fm_config_get(root, "network");
    if (node == NULL || node->kind == FM_CONFIG_NULL) {
        return 0;
    }
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0 ? read_term(reader, node, "control", FM_PROFILE_LATENCY_MAX_NS,
                                     &scenario->control_ns)
                         : status;
    status = status == 0
                 ? read_term(reader, node, "data", FM_PROFILE_LATENCY_MAX_NS / FM_SCHED_BATCH_LIMIT,
                             &scenario->data_ns)
                 : status;
    status = status == 0 ? read_term(reader, node, "result", FM_PROFILE_LATENCY_MAX_NS,
                                     &scenario->result_ns)
                         : status;
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

static int read_settings(const struct fm_sim_reader *reader, struct fm_config *root)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    int status = fm_sim_read_seed(reader, root, "seed", &scenario->seed);
    status = status == 0 ? fm_sim_read_time(reader, root, "warmup", &scenario->warmup_ns) : status;
    status =
        status == 0 ? fm_sim_read_time(reader, root, "measure", &scenario->measure_ns) : status;
    scenario->ends_with_load = true;
    status = status == 0 ? read_policy(reader, root, &scenario->policy) : status;
    status = status == 0 ? fm_sim_read_uint32(reader, root, "batch_max", 1, FM_SCHED_BATCH_LIMIT,
                                              &scenario->batch_max)
                         : status;
    status = status == 0 ? fm_sim_read_uint32(reader, root, "attempts", 1, UINT8_MAX,
                                              &scenario->attempts_max)
                         : status;
    status = status == 0 ? fm_sim_read_uint32(reader, root, "requests_max", 1,
                                              FM_SCHED_REQUESTS_LIMIT, &scenario->requests_max)
                         : status;
    status = status == 0 ? fm_config_bool(root, "learn", &scenario->learn, reader->reterr) : status;
    return status == 0 ? fm_config_bool(root, "admit", &scenario->admit, reader->reterr) : status;
}

static int read_root(struct fm_sim_reader *reader, struct fm_config *root)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    int status = fm_config_expect(root, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0 ? read_settings(reader, root) : status;
    status = status == 0 ? read_network(reader, root) : status;
    status = status == 0 ? read_accelerators(reader, root) : status;
    status = status == 0 ? read_groups(reader, root) : status;
    status = status == 0 ? read_pipelines(reader, root) : status;
    status = status == 0 ? read_chance(reader, root, "spread", "sigma", 3, &scenario->spread_sigma,
                                       &scenario->spread_seed, NULL)
                         : status;
    status = status == 0 ? read_chance(reader, root, "batch_failures", "share", 1,
                                       &scenario->failure_share, &scenario->failure_seed, NULL)
                         : status;
    status = status == 0 ? read_chance(reader, root, "cancels", "share", 1, &scenario->cancel_share,
                                       &scenario->cancel_seed, &scenario->cancel_delay_ns)
                         : status;
    status = status == 0 ? read_events(reader, root) : status;
    status = status == 0 ? read_autoscale(reader, root) : status;
    status = status == 0 ? read_partition(reader, root) : status;
    return status == 0 ? fm_config_finish(root, reader->reterr) : status;
}

/* Takes the tree. */
static int load_tree(const char *file, struct fm_config *root, struct fm_sim_scenario *scenario,
                     struct fm_error *reterr)
{
    struct fm_sim_reader reader = {.scenario = scenario, .reterr = reterr};
    int status = 0;
    scenario->file = fm_arena_strdup(&scenario->arena, file);
    if (scenario->file == NULL) {
        status = fm_error_set(reterr, FM_ENOMEM, "%s: out of memory", file);
    } else if (fm_path_directory(reader.directory, sizeof reader.directory, file) != 0) {
        status = fm_error_set(reterr, FM_ETOOLARGE, "the path of the scenario is too long");
    }
    status = status == 0 ? read_root(&reader, root) : status;
    fm_config_free(root);
    return status == 0 ? fm_sim_scenario_check(scenario, reterr) : status;
}

int fm_sim_scenario_load(const char *path, struct fm_sim_scenario *scenario,
                         struct fm_error *reterr)
{
    struct fm_config *root = NULL;
    fm_sim_scenario_init(scenario);
    int status = fm_config_load(path, &root, reterr);
    return status == 0 ? load_tree(path, root, scenario, reterr) : status;
}

int fm_sim_scenario_load_text(const char *file, const char *text, size_t length,
                              struct fm_sim_scenario *scenario, struct fm_error *reterr)
{
    struct fm_config *root = NULL;
    fm_sim_scenario_init(scenario);
    int status = fm_config_load_text(file, text, length, &root, reterr);
    return status == 0 ? load_tree(file, root, scenario, reterr) : status;
}
