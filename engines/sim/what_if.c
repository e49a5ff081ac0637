/*
 * A recording's load as a scenario. See what_if.h.
 */
#include "engines/sim/what_if.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "engines/sim/replay.h"

#define NAME_SIZE 24u
#define YEAR_NS   (365.25 * 86400e9)

struct load_model {
    bool known;     /* it was there at some time */
    bool present;   /* now */
    uint32_t group; /* in the scenario; FM_SCHED_NONE: not in it */
    uint64_t request_count;
    uint64_t request_next; /* second pass */
    uint64_t *times_ns;
    uint64_t *budgets_ns;
    uint8_t *priorities;
};

struct load_accelerator {
    bool present;
    bool up;
    uint32_t type;     /* at first */
    uint32_t id;       /* in the scenario */
    uint32_t permille; /* now */
};

struct loader {
    struct fm_sched_record_reader *reader;
    struct fm_sim_replay_arrays arrays;
    struct fm_sim_scenario *scenario;
    struct fm_sim_what_if *what_if;
    struct load_model *models;
    struct load_accelerator *accelerators;
    struct fm_sim_group *groups; /* by recorded model while reading, as times are not known yet */
    uint64_t request_count;
    uint64_t first_ns;
    uint64_t last_ns;
    uint64_t events_max;
    uint32_t reprofiled; /* events with a profile: they cost memory in a run */
    uint64_t now_ns;     /* never falls */
    bool second;         /* pass */
    bool begun;          /* the first request has come */
    struct fm_error *reterr;
};

static int out_of_memory(const struct loader *loader)
{
    return fm_error_set(loader->reterr, FM_ENOMEM, "out of memory for the recording's requests");
}

/* --- events ------------------------------------------------------------------------------------
 */

static void fault_add(struct loader *loader, enum fm_sim_event_kind kind, uint64_t at_ns,
                      const struct load_accelerator *accelerator)
{
    struct fm_sim_scenario *scenario = loader->scenario;
    scenario->events[scenario->event_count++] = (struct fm_sim_event){
        .kind = kind,
        .at_ns = at_ns,
        .first = accelerator->id,
        .count = 1,
        .permille = accelerator->permille,
    };
}

/* The simulator begins with everything up and as profiled, and models as they are now. */
static void events_begin(struct loader *loader)
{
    loader->begun = true;
    for (uint32_t i = 0; i < loader->reader->header.options.models_max; i++) {
        const struct load_model *model = &loader->models[i];
        if (model->group != FM_SCHED_NONE) {
            loader->scenario->groups[model->group].absent = !model->present;
        }
    }
    for (uint32_t i = 0; i < loader->reader->header.options.accelerators_max; i++) {
        const struct load_accelerator *accelerator = &loader->accelerators[i];
        if (accelerator->present && !accelerator->up) {
            fault_add(loader, FM_SIM_EVENT_DOWN, 0, accelerator);
        }
        if (accelerator->present && accelerator->permille != 1000) {
            fault_add(loader, FM_SIM_EVENT_SLOW, 0, accelerator);
        }
    }
}

static void request_take(struct loader *loader, const struct fm_sched_event *event)
{
    uint32_t id = event->as.request.model;
    if (id >= loader->reader->header.options.models_max) {
        loader->what_if->homeless += !loader->second;
        return;
    }
    struct load_model *model = &loader->models[id];
    if (!model->present) {
        loader->what_if->homeless += !loader->second;
        return;
    }
    if (!loader->second) {
        loader->first_ns = loader->request_count == 0 ? loader->now_ns : loader->first_ns;
        loader->last_ns = loader->now_ns;
        loader->request_count++;
        model->request_count++;
        return;
    }
    if (!loader->begun) {
        events_begin(loader);
    }
    uint64_t deadline_ns = event->as.request.deadline_ns;
    uint64_t budget_ns = deadline_ns > loader->now_ns ? deadline_ns - loader->now_ns : 0;
    uint32_t priority = event->as.request.priority;
    uint64_t place = model->request_next++;
    model->times_ns[place] = loader->now_ns - loader->first_ns;
    model->budgets_ns[place] =
        budget_ns < FM_PROFILE_LATENCY_MAX_NS ? budget_ns : FM_PROFILE_LATENCY_MAX_NS;
    model->priorities[place] =
        (uint8_t)(priority < FM_SCHED_PRIORITY_COUNT ? priority : FM_SCHED_PRIORITY_COUNT - 1);
}

static void accelerator_take(struct loader *loader, const struct fm_sched_event *event)
{
    const struct fm_sched_options *options = &loader->reader->header.options;
    uint32_t id = event->as.accelerator.accelerator;
    bool up = event->kind == FM_SCHED_EVENT_ACCELERATOR_UP;
    if (id >= options->accelerators_max ||
        (up && event->as.accelerator.type >= options->type_count)) {
        return;
    }
    struct load_accelerator *accelerator = &loader->accelerators[id];
    enum fm_sim_event_kind kind = up ? FM_SIM_EVENT_UP : FM_SIM_EVENT_DOWN;
    if (event->kind == FM_SCHED_EVENT_ACCELERATOR_SLOW) {
        uint32_t permille = event->as.accelerator.permille;
        if (permille == 0 || permille > 1000000) {
            return;
        }
        kind = FM_SIM_EVENT_SLOW;
        accelerator->permille = permille;
    } else if (accelerator->up == up) {
        return; /* refused when it was recorded, too */
    } else {
        accelerator->up = up;
        accelerator->permille = 1000;
    }
    if (up && !accelerator->present) {
        accelerator->present = true;
        accelerator->type = event->as.accelerator.type;
    }
    loader->events_max += !loader->second;
    if (loader->second && loader->begun && accelerator->present) {
        fault_add(loader, kind, loader->now_ns - loader->first_ns, accelerator);
    }
}

/* What a model was given, and its profiles as they were given. */
static struct fm_sim_group group_of(const struct fm_sched_model *given)
{
    struct fm_sim_group group = {
        .count = 1,
        .slo_ns = given->slo_ns,
        .goal = given->goal,
        .policy_given = given->policy_given,
        .policy = given->policy,
        .statistic = given->statistic,
        .batch_max = given->batch_max,
        .queue_delay_ns = given->queue_delay_ns,
        .arrivals = {.kind = FM_ARRIVALS_TRACE},
    };
    memcpy(group.preferred, given->preferred, sizeof group.preferred);
    memcpy(group.profiles, given->profiles, sizeof group.profiles);
    return group;
}

/* Whether the scheduler took it when it was recorded. */
static bool was_taken(const struct loader *loader, const struct fm_sched_model *given)
{
    bool runs = false;
    for (uint32_t i = 0; i < loader->scenario->type_count; i++) {
        if (given->profiles[i] != NULL && given->profiles[i]->point_count == 0) {
            return false;
        }
        runs = runs || given->profiles[i] != NULL;
    }
    return runs && given->slo_ns > 0 && given->slo_ns <= FM_PROFILE_LATENCY_MAX_NS &&
           given->goal < FM_SCHED_GOAL_COUNT_ && given->statistic < FM_PROFILE_STATISTIC_COUNT_ &&
           given->queue_delay_ns <= FM_PROFILE_LATENCY_MAX_NS &&
           (!given->policy_given ||
            (given->policy < FM_SCHED_POLICY_COUNT_ &&
             fm_sched_policy_mixes(loader->reader->header.options.policy, given->policy)));
}

/* Copies of the profiles, in the scenario's arena. */
static int profiles_copy(struct loader *loader, const struct fm_profile *const *profiles,
                         const struct fm_profile **ret_copies)
{
    for (uint32_t i = 0; i < loader->scenario->type_count; i++) {
        if (profiles[i] == NULL) {
            continue;
        }
        struct fm_profile *copy = fm_arena_alloc(&loader->scenario->arena, sizeof *copy);
        if (copy == NULL) {
            return out_of_memory(loader);
        }
        *copy = *profiles[i];
        ret_copies[i] = copy;
    }
    return 0;
}

static bool profile_equals(const struct fm_profile *left, const struct fm_profile *right)
{
    return left->point_count == right->point_count &&
           memcmp(left->points, right->points, left->point_count * sizeof *left->points) == 0;
}

/* How two sets of profiles differ. */
enum difference { DIFFERENCE_NONE, DIFFERENCE_LATENCIES, DIFFERENCE_TYPES };

static enum difference profiles_compare(const struct loader *loader,
                                        const struct fm_profile *const *left,
                                        const struct fm_profile *const *right)
{
    enum difference found = DIFFERENCE_NONE;
    for (uint32_t i = 0; i < loader->scenario->type_count; i++) {
        if ((left[i] == NULL) != (right[i] == NULL)) {
            return DIFFERENCE_TYPES;
        }
        if (left[i] != NULL && !profile_equals(left[i], right[i])) {
            found = DIFFERENCE_LATENCIES;
        }
    }
    return found;
}

static void model_event_add(struct loader *loader, enum fm_sim_event_kind kind,
                            const struct load_model *model,
                            const struct fm_profile *const *profiles)
{
    struct fm_sim_scenario *scenario = loader->scenario;
    scenario->events[scenario->event_count++] = (struct fm_sim_event){
        .kind = kind,
        .at_ns = loader->now_ns - loader->first_ns,
        .first = scenario->groups[model->group].first,
        .count = 1,
        .profiles = profiles,
    };
}

/* A new profile of a model that is known; `group`: what is known of it. */
static int model_reprofile(struct loader *loader, const struct fm_sched_model *given,
                           struct fm_sim_group *group)
{
    const struct load_model *model = &loader->models[given->model];
    const struct fm_profile **copies =
        fm_arena_alloc(&loader->scenario->arena, FM_SCHED_TYPES_LIMIT * sizeof *copies);
    if (copies == NULL) {
        return out_of_memory(loader);
    }
    memset(copies, 0, FM_SCHED_TYPES_LIMIT * sizeof *copies);
    int status = profiles_copy(loader, given->profiles, copies);
    if (status != 0) {
        return status;
    }
    memcpy(group->profiles, copies, sizeof group->profiles);
    if (model->group == FM_SCHED_NONE) {
        return 0; /* nobody asks for it */
    }
    if (loader->begun) {
        model_event_add(loader, FM_SIM_EVENT_REPROFILED, model, copies);
    } else {
        memcpy(loader->scenario->groups[model->group].profiles, copies, sizeof group->profiles);
    }
    return 0;
}

/* What a model that is known is given anew. */
static int model_change(struct loader *loader, const struct fm_sched_model *given)
{
    struct fm_sim_group *group = &loader->groups[given->model];
    enum difference difference = profiles_compare(loader, group->profiles, given->profiles);
    bool otherwise = given->slo_ns != group->slo_ns || given->goal != group->goal ||
                     given->statistic != group->statistic || given->batch_max != group->batch_max ||
                     given->queue_delay_ns != group->queue_delay_ns ||
                     given->policy_given != group->policy_given || given->policy != group->policy ||
                     memcmp(given->preferred, group->preferred, sizeof group->preferred) != 0 ||
                     difference == DIFFERENCE_TYPES;
    if (difference == DIFFERENCE_LATENCIES) {
        if (loader->reprofiled == FM_SIM_EVENTS_MAX) {
            otherwise = true;
        } else if (loader->second) {
            loader->reprofiled++;
            return model_reprofile(loader, given, group);
        }
    }
    loader->what_if->changes += otherwise && loader->second;
    return 0;
}

static int model_take(struct loader *loader, const struct fm_sched_model *given)
{
    if (given->model >= loader->reader->header.options.models_max || !was_taken(loader, given)) {
        return 0;
    }
    struct load_model *model = &loader->models[given->model];
    struct fm_sim_group *group = &loader->groups[given->model];
    bool comes = !model->present;
    model->present = true;
    loader->events_max += loader->second ? 0 : 2;
    int status = 0;
    if (!model->known) {
        model->known = true;
        *group = group_of(given);
        memset(group->profiles, 0, sizeof group->profiles);
        return profiles_copy(loader, given->profiles, group->profiles);
    }
    if (loader->second) {
        status = model_change(loader, given);
    }
    if (status == 0 && comes && loader->begun && model->group != FM_SCHED_NONE) {
        model_event_add(loader, FM_SIM_EVENT_MODEL_ADDED, model, NULL);
    }
    return status;
}

static void model_forget(struct loader *loader, uint32_t id)
{
    if (id >= loader->reader->header.options.models_max || !loader->models[id].present) {
        return; /* refused when it was recorded, too */
    }
    struct load_model *model = &loader->models[id];
    model->present = false;
    loader->events_max += !loader->second;
    if (loader->begun && model->group != FM_SCHED_NONE) {
        model_event_add(loader, FM_SIM_EVENT_MODEL_REMOVED, model, NULL);
    }
}

static int step_take(struct loader *loader, const struct fm_sched_record_step *step)
{
    int status = 0;
    loader->now_ns = step->now_ns > loader->now_ns ? step->now_ns : loader->now_ns;
    /* An event that was not taken comes again. */
    for (uint32_t i = 0; status == 0 && i < step->taken; i++) {
        const struct fm_sched_event *event = &step->events[i];
        switch ((unsigned)event->kind) {
        case FM_SCHED_EVENT_REQUEST:
            request_take(loader, event);
            break;
        case FM_SCHED_EVENT_ACCELERATOR_UP:
        case FM_SCHED_EVENT_ACCELERATOR_DOWN:
        case FM_SCHED_EVENT_ACCELERATOR_SLOW:
            accelerator_take(loader, event);
            break;
        case FM_SCHED_EVENT_MODEL_SET:
            status = model_take(loader, event->as.model);
            break;
        case FM_SCHED_EVENT_MODEL_REMOVED:
            model_forget(loader, event->as.model_removed);
            break;
        case FM_SCHED_EVENT_CANCEL:
            loader->what_if->cancels += !loader->second;
            break;
        case FM_SCHED_EVENT_BATCH_FAILED:
            loader->what_if->failures += !loader->second;
            break;
        default: /* BATCH_DONE, TICK: answers to decisions, and nothing */
            break;
        }
    }
    return status;
}

static int pass(struct loader *loader, const void *data, size_t size)
{
    int status = fm_sched_record_open(loader->reader, data, size, loader->reterr);
    bool end = false;
    while (status == 0 && !end) {
        struct fm_sched_record_step step;
        status = fm_sim_replay_read(loader->reader, &loader->arrays, &step, &end, loader->reterr);
        if (status == 0 && !end) {
            status = step_take(loader, &step);
        }
    }
    return status;
}

/* --- the scenario ------------------------------------------------------------------------------
 */

/* After the first pass: how many of everything is known. */
static int group_add(struct loader *loader, uint32_t id)
{
    struct fm_sim_scenario *scenario = loader->scenario;
    struct load_model *model = &loader->models[id];
    struct fm_sim_group *group = &scenario->groups[scenario->group_count];
    char *name = fm_arena_alloc(&scenario->arena, NAME_SIZE);
    size_t count = (size_t)model->request_count;
    model->times_ns = fm_arena_alloc(&scenario->arena, count * sizeof *model->times_ns);
    model->budgets_ns = fm_arena_alloc(&scenario->arena, count * sizeof *model->budgets_ns);
    model->priorities = fm_arena_alloc(&scenario->arena, count);
    if (name == NULL || model->times_ns == NULL || model->budgets_ns == NULL ||
        model->priorities == NULL) {
        return out_of_memory(loader);
    }
    (void)snprintf(name, NAME_SIZE, "model.%" PRIu32, id);
    *group = loader->groups[id];
    group->name = name;
    model->group = scenario->group_count;
    group->first = scenario->group_count++;
    group->clients_leave = true; /* who came while it was away is not among them */
    group->arrivals.times_ns = model->times_ns;
    group->arrivals.time_count = model->request_count;
    group->budgets_ns = model->budgets_ns;
    group->priorities = model->priorities;
    return 0;
}

static int scenario_size(struct loader *loader)
{
    const struct fm_sched_options *options = &loader->reader->header.options;
    struct fm_sim_scenario *scenario = loader->scenario;
    uint32_t model_count = 0;
    uint32_t accelerator_count = 0;
    for (uint32_t i = 0; i < options->models_max; i++) {
        model_count += loader->models[i].request_count > 0;
    }
    for (uint32_t i = 0; i < options->accelerators_max; i++) {
        accelerator_count += loader->accelerators[i].present;
    }
    if (loader->request_count == 0 || accelerator_count == 0) {
        return fm_error_set(loader->reterr, FM_EINVAL,
                            "the recording holds no %s: there is nothing to simulate",
                            loader->request_count == 0 ? "requests" : "accelerators");
    }
    if (loader->last_ns - loader->first_ns >= FM_SIM_TIME_MAX_NS) {
        return fm_error_set(loader->reterr, FM_EINVAL,
                            "the recorded requests span %g years, the simulator takes %g",
                            (double)(loader->last_ns - loader->first_ns) / YEAR_NS,
                            (double)FM_SIM_TIME_MAX_NS / YEAR_NS);
    }
    scenario->groups =
        fm_arena_alloc(&scenario->arena, (size_t)model_count * sizeof *scenario->groups);
    scenario->pools =
        fm_arena_alloc(&scenario->arena, (size_t)accelerator_count * sizeof *scenario->pools);
    scenario->events = fm_arena_alloc(
        &scenario->arena,
        (size_t)(loader->events_max + 2 * (uint64_t)accelerator_count) * sizeof *scenario->events);
    if (scenario->groups == NULL || scenario->pools == NULL || scenario->events == NULL) {
        return out_of_memory(loader);
    }
    for (uint32_t i = 0; i < options->accelerators_max; i++) {
        struct load_accelerator *accelerator = &loader->accelerators[i];
        if (accelerator->present) {
            accelerator->id = scenario->pool_count;
            scenario->pools[scenario->pool_count++] =
                (struct fm_sim_pool){.count = 1, .type = accelerator->type};
        }
        accelerator->up = false;
        accelerator->permille = 1000;
    }
    int status = 0;
    for (uint32_t i = 0; status == 0 && i < options->models_max; i++) {
        loader->models[i].present = false;
        loader->models[i].group = FM_SCHED_NONE;
        status = loader->models[i].request_count > 0 ? group_add(loader, i) : 0;
    }
    return status;
}

/* What the scheduler was created with. */
static void options_take(struct fm_sim_scenario *scenario,
                         const struct fm_sched_record_header *header)
{
    const struct fm_sched_options *options = &header->options;
    uint64_t requests_max = (uint64_t)options->requests_max * 2 + 65536; /* others may hold more */
    scenario->policy = options->policy;
    scenario->batch_max = options->batch_max;
    scenario->attempts_max = options->attempts_max > 0 ? options->attempts_max : 1;
    scenario->requests_max =
        requests_max < FM_SCHED_REQUESTS_LIMIT ? (uint32_t)requests_max : FM_SCHED_REQUESTS_LIMIT;
    scenario->control_ns = options->control_ns;
    scenario->data_ns = options->data_ns;
    scenario->result_ns = options->result_ns;
    scenario->learn = options->learn;
    scenario->admit = options->admit;
    scenario->type_count = options->type_count;
    for (uint32_t i = 0; i < options->type_count; i++) {
        (void)snprintf(scenario->types[i], sizeof scenario->types[i], "type.%" PRIu32, i);
    }
}

static int load(struct loader *loader, const void *data, size_t size)
{
    struct fm_sim_scenario *scenario = loader->scenario;
    int status = fm_sched_record_open(loader->reader, data, size, loader->reterr);
    if (status != 0) {
        return status;
    }
    const struct fm_sched_record_header *header = &loader->reader->header;
    struct fm_sched *sched = NULL;
    /* It knows best which options can be. */
    status = fm_sched_create(&header->options, &sched, loader->reterr);
    fm_sched_destroy(sched);
    if (status != 0) {
        return fm_error_prefix(loader->reterr, status, "the scheduler it was recorded from");
    }
    options_take(scenario, header);
    loader->models = fm_alloc_zero(header->options.models_max, sizeof *loader->models);
    loader->groups = fm_alloc_zero(header->options.models_max, sizeof *loader->groups);
    loader->accelerators =
        fm_alloc_zero(header->options.accelerators_max, sizeof *loader->accelerators);
    if (loader->models == NULL || loader->groups == NULL || loader->accelerators == NULL) {
        return out_of_memory(loader);
    }
    status = fm_sim_replay_arrays_create(&loader->arrays, header, loader->reterr);
    status = status == 0 ? pass(loader, data, size) : status;
    status = status == 0 ? scenario_size(loader) : status;
    if (status == 0) {
        loader->second = true;
        loader->now_ns = 0;
        status = pass(loader, data, size);
    }
    if (status == 0) {
        scenario->warmup_ns = 0;
        /* All of it, however long it takes at a scale. */
        scenario->measure_ns = FM_SIM_TIME_MAX_NS;
        scenario->ends_with_load = true;
        scenario->events_keep_pace = true;
        status = fm_sim_scenario_check(scenario, loader->reterr);
    }
    return status;
}

int fm_sim_what_if_load(const char *file, const void *data, size_t size,
                        struct fm_sim_scenario *ret_scenario, struct fm_sim_what_if *ret_what_if,
                        struct fm_error *reterr)
{
    struct loader loader = {.scenario = ret_scenario, .what_if = ret_what_if, .reterr = reterr};
    fm_sim_scenario_init(ret_scenario);
    *ret_what_if = (struct fm_sim_what_if){0};
    ret_scenario->file = "the recorded load";
    loader.reader = fm_alloc(sizeof *loader.reader);
    int status = loader.reader != NULL ? load(&loader, data, size) : out_of_memory(&loader);
    ret_scenario->file = file;
    fm_sim_replay_arrays_deinit(&loader.arrays);
    fm_free(loader.models);
    fm_free(loader.groups);
    fm_free(loader.accelerators);
    fm_free(loader.reader);
    return status;
}
