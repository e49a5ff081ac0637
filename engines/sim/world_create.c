/*
 * Makes a simulated world, and takes it apart. See world_state.h.
 */
#include "engines/sim/world_state.h"

#include <inttypes.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/hash.h"
#include "core/util/memory.h"
#include "engines/sim/partition.h"

#define ACTIONS_MAX   1024u
#define CANCELS_FIRST 4096u

int fm_sim_world_out_of_memory(const struct fm_sim_world *world)
{
    return fm_error_set(world->reterr, FM_ENOMEM,
                        "out of memory for a simulation of %" PRIu32 " models, %" PRIu32
                        " accelerators and %" PRIu32 " requests at once",
                        world->model_count, world->accelerator_count, world->slot_count);
}

static int heap_create(struct fm_sim_world *world, struct fm_time_heap *heap, uint32_t capacity)
{
    heap->capacity = capacity;
    heap->entries = fm_alloc((size_t)capacity * sizeof *heap->entries);
    return heap->entries != NULL ? 0 : fm_sim_world_out_of_memory(world);
}

static int shared_create(struct fm_sim_world *world, uint32_t index,
                         const struct fm_profile *const *profiles, uint32_t batch_max)
{
    uint32_t most = world->scenario->batch_max;
    int status = fm_sim_latencies_init(&world->shared[index], profiles,
                                       batch_max > 0 && batch_max < most ? batch_max : most);
    return status == 0 ? 0 : fm_sim_world_out_of_memory(world);
}

/* Of the profiles that events bring. Models of several groups may get one: batches of any size. */
static int shared_create_events(struct fm_sim_world *world)
{
    const struct fm_sim_scenario *scenario = world->scenario;
    int status = 0;
    for (uint32_t i = 0; status == 0 && i < scenario->event_count; i++) {
        if (scenario->events[i].kind == FM_SIM_EVENT_REPROFILED) {
            status =
                shared_create(world, scenario->group_count + i, scenario->events[i].profiles, 0);
        }
    }
    return status;
}

/* One for each combination of what requests draw. */
static int classes_create(struct fm_sim_world *world, const struct fm_sim_group *group,
                          struct fm_sim_model_result *result)
{
    uint32_t slos = group->slo_choice_count > 0 ? group->slo_choice_count : 1;
    uint32_t priorities = group->priority_choice_count > 0 ? group->priority_choice_count : 1;
    if (slos * priorities == 1) {
        return 0;
    }
    result->classes = fm_alloc_zero(slos * priorities, sizeof *result->classes);
    if (result->classes == NULL) {
        return fm_sim_world_out_of_memory(world);
    }
    result->class_count = slos * priorities;
    for (uint32_t i = 0; i < result->class_count; i++) {
        result->classes[i].slo_ns =
            slos > 1 ? group->slo_choices[i / priorities].value : group->slo_ns;
        result->classes[i].priority = priorities > 1
                                          ? (uint32_t)group->priority_choices[i % priorities].value
                                          : group->priority;
    }
    return 0;
}

static bool group_is_varied(const struct fm_sim_group *group)
{
    return group->slo_choice_count > 1 || group->priority_choice_count > 1 ||
           group->budgets_ns != NULL || group->priorities != NULL || group->clients_leave;
}

static int model_create(struct fm_sim_world *world, uint32_t id, uint32_t group_index, double share)
{
    const struct fm_sim_group *group = &world->scenario->groups[group_index];
    struct fm_sim_world_model *model = &world->models[id];
    model->result = &world->result->models[id];
    model->slo_ns = fm_sim_group_slo_min_ns(group);
    model->group = group_index;
    model->priority = group->priority;
    model->truth = &world->shared[group_index];
    model->promise = model->truth;
    model->elsewhere = world->options->division != NULL &&
                       !fm_sim_division_has(world->options->division, world->options->cluster, id);
    model->varied = group_is_varied(group) || world->options->division != NULL;
    if (model->varied && world->varieties == NULL) {
        world->varieties = fm_alloc_zero(world->model_count, sizeof *world->varieties);
        if (world->varieties == NULL) {
            return fm_sim_world_out_of_memory(world);
        }
    }
    if (model->varied) {
        uint64_t seed = world->options->seed;
        fm_random_init(&world->varieties[id].slo, fm_sim_seed(seed, "slo", id));
        fm_random_init(&world->varieties[id].priority, fm_sim_seed(seed, "priority", id));
        fm_random_init(&world->varieties[id].place, fm_sim_seed(seed, "place", id));
    }
    struct fm_arrivals_spec spec = group->arrivals;
    spec.scale = share * world->options->scale;
    int status = classes_create(world, group, model->result);
    return status == 0 && !group->silent
               ? fm_arrivals_create(&spec, fm_sim_seed(world->options->seed, "arrivals", id),
                                    &model->arrivals, world->reterr)
               : status;
}

static int models_create(struct fm_sim_world *world)
{
    const struct fm_sim_scenario *scenario = world->scenario;
    double *shares = fm_alloc((size_t)world->model_count * sizeof *shares);
    if (shares == NULL) {
        return fm_sim_world_out_of_memory(world);
    }
    int status = shared_create_events(world);
    uint32_t id = 0;
    for (uint32_t i = 0; status == 0 && i < scenario->group_count; i++) {
        const struct fm_sim_group *group = &scenario->groups[i];
        status = fm_sim_group_shares(group, shares, world->reterr);
        status = status == 0 ? shared_create(world, i, group->profiles, group->batch_max) : status;
        for (uint32_t j = 0; status == 0 && j < group->count; j++, id++) {
            status = model_create(world, id, i, shares[j]);
        }
    }
    fm_free(shares);
    return status;
}

static int pipelines_create(struct fm_sim_world *world)
{
    const struct fm_sim_scenario *scenario = world->scenario;
    uint32_t count = scenario->pipeline_count;
    uint32_t stage = 0;
    if (count == 0) {
        return 0;
    }
    world->pipelines = fm_alloc_zero(count, sizeof *world->pipelines);
    world->stages = fm_alloc_zero((size_t)count * FM_SIM_STAGES_MAX, sizeof *world->stages);
    world->result->pipelines = fm_alloc_zero(count, sizeof *world->result->pipelines);
    if (world->pipelines == NULL || world->stages == NULL || world->result->pipelines == NULL) {
        return fm_sim_world_out_of_memory(world);
    }
    world->result->pipeline_count = count;
    int status = heap_create(world, &world->going, world->slot_count);
    for (uint32_t i = 0; status == 0 && i < count; i++) {
        const struct fm_sim_pipeline *given = &scenario->pipelines[i];
        struct fm_arrivals_spec spec = given->arrivals;
        spec.scale = world->options->scale;
        world->pipelines[i].stage_first = stage;
        for (uint32_t j = 0; j < given->stage_count; j++) {
            world->stages[stage++] = (struct fm_sim_world_stage){
                .pipeline = i,
                .index = j,
                .model = given->stages[j],
                .priority = given->priority,
                .due_ns = given->due_ns[j],
                .last = j + 1 == given->stage_count,
            };
        }
        status = fm_arrivals_create(&spec, fm_sim_seed(world->options->seed, "pipelines", i),
                                    &world->pipelines[i].arrivals, world->reterr);
    }
    return status;
}

static int result_create(struct fm_sim_world *world)
{
    const struct fm_sim_scenario *scenario = world->scenario;
    struct fm_sim_result *result = fm_alloc_zero(1, sizeof *result);
    if (result == NULL) {
        return fm_sim_world_out_of_memory(world);
    }
    world->result = result;
    result->scenario = scenario;
    result->policy = world->options->policy;
    result->seed = world->options->seed;
    result->scale = world->options->scale;
    result->model_count = world->model_count;
    result->accelerator_count = world->accelerator_count;
    result->batch_max = scenario->batch_max;
    result->trace_hash = FM_HASH_START;
    result->up_min = UINT32_MAX;
    result->bucket_ns = (world->end_ns + FM_SIM_TIMELINE_BUCKETS - 1) / FM_SIM_TIMELINE_BUCKETS;
    result->models = fm_alloc_zero(world->model_count, sizeof *result->models);
    result->accelerators = fm_alloc_zero(world->accelerator_count, sizeof *result->accelerators);
    result->batch_sizes = fm_alloc_zero(scenario->batch_max + 1, sizeof *result->batch_sizes);
    world->bucket_end_ns = result->bucket_ns;
    return result->models != NULL && result->accelerators != NULL && result->batch_sizes != NULL
               ? 0
               : fm_sim_world_out_of_memory(world);
}

/* Whether the models' policies can be mixed with that of the run. */
static int policies_check(const struct fm_sim_world *world)
{
    enum fm_sched_policy_kind policy = world->options->policy;
    for (uint32_t i = 0; i < world->scenario->group_count; i++) {
        const struct fm_sim_group *group = &world->scenario->groups[i];
        if (group->policy_given && !fm_sched_policy_mixes(policy, group->policy)) {
            return fm_error_set(world->reterr, FM_EINVAL,
                                "model '%.100s' has policy %s, which cannot be mixed with policy "
                                "%s: nexus, shepherd and clockwork choose among all models at once",
                                group->name, fm_sched_policy_name(group->policy),
                                fm_sched_policy_name(policy));
        }
    }
    return 0;
}

static int sched_create(struct fm_sim_world *world)
{
    const struct fm_sim_scenario *scenario = world->scenario;
    int status = policies_check(world);
    if (status != 0) {
        return status;
    }
    struct fm_sched_options options = {
        .policy = world->options->policy,
        .models_max = world->model_count,
        .accelerators_max = world->accelerator_count,
        .type_count = scenario->type_count,
        .requests_max = world->slot_count,
        .batch_max = scenario->batch_max,
        .control_ns = scenario->control_ns,
        .data_ns = scenario->data_ns,
        .result_ns = scenario->result_ns,
        .attempts_max = scenario->attempts_max,
        .learn = scenario->learn,
        .admit = scenario->admit,
    };
    struct fm_sim_auditor_options audit = {
        .requests_max = world->slot_count,
        .accelerator_count = world->accelerator_count,
        .batch_max = scenario->batch_max,
        .model_count = world->model_count,
        .result_ns = scenario->result_ns,
        .ahead = scenario->control_ns + scenario->data_ns > 0 ||
                 world->options->policy == FM_SCHED_POLICY_CLOCKWORK,
        .learn = scenario->learn,
    };
    if (world->options->recorder != NULL) {
        fm_sim_recorder_begin(world->options->recorder,
                              &(struct fm_sched_record_header){
                                  .options = options,
                                  .events_max = FM_SIM_WORLD_EVENTS_MAX,
                                  .action_capacity = world->actions.capacity,
                                  .request_capacity = world->actions.request_capacity,
                                  .has_actions = true,
                              });
    }
    status = fm_sched_create(&options, &world->sched, world->reterr);
    return status == 0 ? fm_sim_auditor_create(&audit, &world->auditor, world->reterr) : status;
}

int fm_sim_world_create(struct fm_sim_world *world)
{
    const struct fm_sim_scenario *scenario = world->scenario;
    world->model_count = fm_sim_scenario_model_count(scenario);
    const struct fm_sim_division *division = world->options->division;
    world->accelerator_count = division == NULL ? fm_sim_scenario_accelerator_count(scenario)
                                                : division->accelerators[world->options->cluster];
    world->slot_count = fm_sim_scenario_requests_max(scenario, world->options->scale);
    world->end_ns = scenario->warmup_ns + scenario->measure_ns;
    world->limit_ns = world->end_ns + FM_SIM_WORLD_DRAIN_NS;
    world->wake_ns = FM_SCHED_NEVER;
    uint32_t cluster = world->options->cluster;
    fm_random_init(&world->spread, fm_sim_seed(scenario->spread_seed, "spread", cluster));
    fm_random_init(&world->failures, fm_sim_seed(scenario->failure_seed, "failures", cluster));
    fm_random_init(&world->cancelling, fm_sim_seed(scenario->cancel_seed, "cancels", cluster));
    world->models = fm_alloc_zero(world->model_count, sizeof *world->models);
    world->shared_count = scenario->group_count + scenario->event_count;
    world->shared = fm_alloc_zero(world->shared_count, sizeof *world->shared);
    world->accelerators = fm_alloc_zero(world->accelerator_count, sizeof *world->accelerators);
    world->slots = fm_alloc_zero(world->slot_count, sizeof *world->slots);
    world->slots_free = fm_alloc((size_t)world->slot_count * sizeof *world->slots_free);
    world->events = fm_alloc_zero(FM_SIM_WORLD_EVENTS_MAX, sizeof *world->events);
    world->actions.capacity = ACTIONS_MAX;
    world->actions.request_capacity = ACTIONS_MAX * 16;
    world->actions.items = fm_alloc_zero(ACTIONS_MAX, sizeof *world->actions.items);
    world->actions.requests =
        fm_alloc_zero(world->actions.request_capacity, sizeof *world->actions.requests);
    if (world->models == NULL || world->shared == NULL || world->accelerators == NULL ||
        world->slots == NULL || world->slots_free == NULL || world->events == NULL ||
        world->actions.items == NULL || world->actions.requests == NULL) {
        return fm_sim_world_out_of_memory(world);
    }
    for (uint32_t i = world->slot_count; i > 0; i--) {
        world->slots_free[world->slots_free_count++] = i - 1;
    }
    int status =
        heap_create(world, &world->arrivals, world->model_count + scenario->pipeline_count);
    status =
        status == 0 ? heap_create(world, &world->ends, world->accelerator_count * 2 + 64) : status;
    if (status == 0 && scenario->cancel_share > 0) {
        status = heap_create(world, &world->cancels, CANCELS_FIRST);
    }
    status = status == 0 ? result_create(world) : status;
    if (status == 0 && scenario->autoscale.on) {
        status = fm_sim_autoscaler_init(&world->autoscaler, &scenario->autoscale,
                                        world->accelerator_count);
        status = status == 0 ? 0 : fm_sim_world_out_of_memory(world);
    }
    status = status == 0 ? models_create(world) : status;
    status = status == 0 ? pipelines_create(world) : status;
    return status == 0 ? sched_create(world) : status;
}

void fm_sim_world_destroy(struct fm_sim_world *world)
{
    fm_sched_destroy(world->sched);
    fm_sim_auditor_destroy(world->auditor);
    fm_sim_autoscaler_deinit(&world->autoscaler);
    for (uint32_t i = 0; world->models != NULL && i < world->model_count; i++) {
        fm_arrivals_destroy(world->models[i].arrivals);
    }
    for (uint32_t i = 0; world->shared != NULL && i < world->shared_count; i++) {
        fm_sim_latencies_deinit(&world->shared[i]);
    }
    for (uint32_t i = 0; world->pipelines != NULL && i < world->scenario->pipeline_count; i++) {
        fm_arrivals_destroy(world->pipelines[i].arrivals);
    }
    fm_free(world->pipelines);
    fm_free(world->stages);
    fm_free(world->going.entries);
    fm_free(world->models);
    fm_free(world->varieties);
    fm_free(world->shared);
    fm_free(world->accelerators);
    fm_free(world->slots);
    fm_free(world->slots_free);
    fm_free(world->events);
    fm_free(world->actions.items);
    fm_free(world->actions.requests);
    fm_free(world->arrivals.entries);
    fm_free(world->ends.entries);
    fm_free(world->cancels.entries);
}
