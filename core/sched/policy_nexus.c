/*
 * The nexus policy: models are packed onto accelerators for some time, and run in turn there. See
 * docs/scheduling.md.
 *
 * HOW IT WORKS. After Nexus (Shen et al., SOSP 2019), squishy bin packing. A model whose rate fills
 * whole accelerators gets them, at the largest batch with 2 * l(b) <= budget. What is left over of
 * its rate r needs a part of one: the largest b with l(b) + b / r <= budget gathers in the duty
 * cycle d = b / r and occupies l(b) / d of an accelerator. Left-overs are taken in the order of
 * their occupancy, largest first. Each joins the node where the sum is fullest: both then run in
 * the shorter duty cycle d' with batches of ceil(d' * r), which is what makes the items squishy; it
 * fits if the batches take no longer than d' together. If it fits nowhere it gets a node of its
 * own. An accelerator runs its models in turn, each at most its batch; one whose turn comes lets
 * the earliest requests go until those after them can make the batch it is meant to run ("early
 * drop"), and one without requests is passed over.
 *
 * When. The source packs anew every 30 s or when the load has changed much. Here: every 30 s; every
 * 200 ms in the first START_NS; when a model's rate moved by a fifth and three
 * standard deviations; when accelerators or models come or go, or a model has requests and no
 * place.
 *
 * LIMITATIONS, where it differs. Rates are packed with one standard deviation (of a Poisson count
 * in a second) added. There is one queue for each model, where the source's front ends share
 * requests out before they wait; that is better than the source. Moving a model costs nothing here,
 * so that packing starts afresh instead of keeping what it can. If the load needs more accelerators
 * than there are, rates are packed as if lower until it fits, and early drop meets the excess;
 * models that even then find no place share the nodes round robin. A node has at most
 * FM_NEXUS_SHARES_MAX models, and a model beyond that is not served. A left-over looks at the last
 * NODES_TRIED nodes. Several types are packed as if all were the one on which a model is fastest.
 */
#include <string.h>

#include "core/sched/policy.h"
#include "core/util/assert.h"
#include "core/util/memory.h"

#define EPOCH_NS       UINT64_C(30000000000)
#define START_NS       UINT64_C(2000000000)
#define START_EPOCH_NS UINT64_C(200000000)
#define MEASURE_NS     UINT64_C(1000000000)
#define SECOND_NS      UINT64_C(1000000000)
#define NODES_TRIED    256u
#define SHRINKS_MAX    100u
/* At least between two packings. */
#define PLAN_GAP_NS UINT64_C(20000000)

struct nexus_model {
    uint64_t requests_seen;
    uint64_t rate;         /* a second, in thousandths; smoothed */
    uint64_t rate_planned; /* the rate that the present packing is for */
    bool measured;
    bool placed;
};

struct nexus_state {
    struct nexus_model *models;
    struct fm_nexus_load *loads;
    struct fm_nexus_node *nodes;
    uint32_t *node_of; /* by accelerator; NONE: idle */
    uint32_t node_count;
    uint32_t up_count; /* as planned for */
    uint32_t model_count;
    uint64_t first_ns; /* NEVER: nothing yet */
    uint64_t measured_ns;
    uint64_t planned_ns;
    uint64_t plan_ns; /* the next one */
};

/* --- packing -----------------------------------------------------------------------------------
 */

/* By what is left over, largest occupancy first; models differ, so the order is total. */
static bool comes_before(const struct fm_nexus_load *left, const struct fm_nexus_load *right)
{
    return left->occupancy_q16 != right->occupancy_q16 ? left->occupancy_q16 > right->occupancy_q16
                                                       : left->model < right->model;
}

/* Shell's sort: in place, where the C library's may allocate. */
static void loads_sort(struct fm_nexus_load *loads, uint32_t count)
{
    uint32_t distance = 1;
    while (distance < count / 3) {
        distance = distance * 3 + 1;
    }
    for (; distance > 0; distance /= 3) {
        for (uint32_t i = distance; i < count; i++) {
            struct fm_nexus_load load = loads[i];
            uint32_t k = i;
            for (; k >= distance && comes_before(&load, &loads[k - distance]); k -= distance) {
                loads[k] = loads[k - distance];
            }
            loads[k] = load;
        }
    }
}

static uint64_t occupancy_q16(uint64_t occupied_ns, uint64_t duty_ns)
{
    return (occupied_ns << 16) / duty_ns;
}

/* Takes whole accelerators off a load. Returns how many; the load keeps what is left over. */
static uint32_t whole_nodes(struct fm_nexus_load *load, uint32_t *ret_batch)
{
    uint32_t batch = fm_latency_table_within(load->table, load->budget_ns / 2, UINT32_MAX);
    batch = batch > 0 ? batch : 1;
    *ret_batch = batch;
    uint64_t latency_ns = load->table->latency_ns[batch];
    /* Rates in 10^-15 / ns: a batch limit of them stays below 2^63. */
    const uint64_t unit = UINT64_C(1000000000000000);
    uint64_t rate = unit / load->gap_ns;
    uint64_t capacity = batch * unit / latency_ns;
    uint64_t whole = capacity > 0 ? rate / capacity : 0;
    uint64_t left = rate - whole * capacity;
    load->left_gap_ns = left > rate / 10000 ? unit / left : FM_SCHED_NEVER;
    return whole < FM_SCHED_ACCELERATORS_LIMIT ? (uint32_t)whole : FM_SCHED_ACCELERATORS_LIMIT;
}

/* The batch and the duty cycle that a left-over would have alone. */
static void left_over_set(struct fm_nexus_load *load, uint32_t whole_batch)
{
    const struct fm_latency_table *table = load->table;
    load->occupancy_q16 = 0;
    if (load->left_gap_ns == FM_SCHED_NEVER) {
        return;
    }
    uint32_t batch = fm_latency_table_within_growing(table, load->budget_ns, load->left_gap_ns);
    uint64_t latency_ns = table->latency_ns[batch > 0 ? batch : 1];
    if (batch == 0) {
        /* Requests come so rarely that none can wait for a second one. */
        batch = 1;
        uint64_t rest_ns =
            load->budget_ns > table->total_ns[1] ? load->budget_ns - table->total_ns[1] : 0;
        load->duty_ns = rest_ns > latency_ns ? rest_ns : latency_ns;
    } else if (batch * load->left_gap_ns < latency_ns) {
        /* Nearly a whole accelerator: it runs like one. */
        batch = whole_batch;
        latency_ns = table->latency_ns[batch];
        load->duty_ns = latency_ns;
    } else {
        load->duty_ns = batch * load->left_gap_ns;
    }
    load->batch = batch;
    load->occupancy_q16 = occupancy_q16(latency_ns, load->duty_ns);
}

/* What a load would run in a node of this duty cycle; 0: it cannot. */
static uint32_t batch_in(const struct fm_nexus_load *load, uint64_t duty_ns)
{
    uint64_t batch = duty_ns == load->duty_ns
                         ? load->batch
                         : (duty_ns + load->left_gap_ns - 1) / load->left_gap_ns;
    if (batch > load->table->batch_max ||
        duty_ns + load->table->total_ns[batch] > load->budget_ns) {
        return 0;
    }
    return (uint32_t)batch;
}

/* The time a node's models and one more would take in the duty cycle they would have; 0: it does
 * not fit. */
static uint64_t joined_ns(const struct fm_nexus_load *loads, const struct fm_nexus_node *node,
                          const struct fm_nexus_load *load, uint64_t *ret_duty_ns)
{
    uint64_t duty_ns = node->duty_ns < load->duty_ns ? node->duty_ns : load->duty_ns;
    *ret_duty_ns = duty_ns;
    uint32_t batch = batch_in(load, duty_ns);
    if (batch == 0 || node->share_count == FM_NEXUS_SHARES_MAX) {
        return 0;
    }
    uint64_t sum_ns = load->table->latency_ns[batch];
    for (uint32_t i = 0; i < node->share_count && sum_ns <= duty_ns; i++) {
        const struct fm_nexus_load *other = &loads[node->shares[i].load];
        uint32_t others = batch_in(other, duty_ns);
        if (others == 0) {
            return 0;
        }
        sum_ns += other->table->latency_ns[others];
    }
    return sum_ns <= duty_ns ? sum_ns : 0;
}

static void join(const struct fm_nexus_load *loads, struct fm_nexus_node *node, uint32_t index,
                 uint64_t duty_ns, uint64_t occupied_ns)
{
    node->shares[node->share_count++] =
        (struct fm_nexus_share){.model = loads[index].model, .load = index};
    node->duty_ns = duty_ns;
    node->occupied_ns = occupied_ns;
    for (uint32_t i = 0; i < node->share_count; i++) {
        struct fm_nexus_share *share = &node->shares[i];
        share->batch = batch_in(&loads[share->load], duty_ns);
    }
}

/* Puts a left-over where it makes a node fullest, or NONE: nowhere. */
static uint32_t fullest_join(const struct fm_nexus_load *loads, uint32_t index,
                             struct fm_nexus_node *nodes, uint32_t first, uint32_t count)
{
    uint32_t best = FM_SCHED_NONE;
    uint64_t best_q16 = 0;
    uint64_t best_duty_ns = 0;
    uint64_t best_ns = 0;
    first = count > NODES_TRIED && count - NODES_TRIED > first ? count - NODES_TRIED : first;
    for (uint32_t i = first; i < count; i++) {
        uint64_t duty_ns;
        uint64_t sum_ns = joined_ns(loads, &nodes[i], &loads[index], &duty_ns);
        if (sum_ns > 0 && occupancy_q16(sum_ns, duty_ns) > best_q16) {
            best = i;
            best_q16 = occupancy_q16(sum_ns, duty_ns);
            best_duty_ns = duty_ns;
            best_ns = sum_ns;
        }
    }
    if (best != FM_SCHED_NONE) {
        join(loads, &nodes[best], index, best_duty_ns, best_ns);
    }
    return best;
}

uint32_t fm_nexus_pack(struct fm_nexus_load *loads, uint32_t load_count,
                       struct fm_nexus_node *nodes, uint32_t node_max)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < load_count; i++) {
        uint32_t batch;
        uint32_t whole = whole_nodes(&loads[i], &batch);
        if (whole > node_max - count) {
            return node_max + 1;
        }
        uint64_t latency_ns = loads[i].table->latency_ns[batch];
        for (; whole > 0; whole--) {
            nodes[count++] = (struct fm_nexus_node){
                .shares = {{.model = loads[i].model, .batch = batch, .load = FM_SCHED_NONE}},
                .share_count = 1,
                .duty_ns = latency_ns,
                .occupied_ns = latency_ns,
            };
        }
        left_over_set(&loads[i], batch);
    }
    loads_sort(loads, load_count);
    uint32_t first = count;
    for (uint32_t i = 0; i < load_count && loads[i].left_gap_ns != FM_SCHED_NEVER; i++) {
        if (fullest_join(loads, i, nodes, first, count) != FM_SCHED_NONE) {
            continue;
        }
        if (count == node_max) {
            return node_max + 1;
        }
        nodes[count++] = (struct fm_nexus_node){
            .shares = {{.model = loads[i].model, .batch = loads[i].batch, .load = i}},
            .share_count = 1,
            .duty_ns = loads[i].duty_ns,
            .occupied_ns = loads[i].table->latency_ns[loads[i].batch],
        };
    }
    return count;
}

/* --- planning ----------------------------------------------------------------------------------
 */

int fm_sched_nexus_init(struct fm_sched *sched)
{
    struct nexus_state *state = fm_alloc_zero(1, sizeof *state);
    if (state == NULL) {
        return FM_ENOMEM;
    }
    sched->policy_state = state;
    uint32_t models = sched->options.models_max;
    uint32_t accelerators = sched->options.accelerators_max;
    state->models = fm_alloc_zero(models, sizeof *state->models);
    state->loads = fm_alloc_zero(models, sizeof *state->loads);
    state->nodes = fm_alloc_zero(accelerators, sizeof *state->nodes);
    state->node_of = fm_alloc_zero(accelerators, sizeof *state->node_of);
    if (state->models == NULL || state->loads == NULL || state->nodes == NULL ||
        state->node_of == NULL) {
        return FM_ENOMEM;
    }
    memset(state->node_of, 0xff, (size_t)accelerators * sizeof *state->node_of);
    state->first_ns = FM_SCHED_NEVER;
    return 0;
}

void fm_sched_nexus_deinit(struct fm_sched *sched)
{
    struct nexus_state *state = sched->policy_state;
    if (state == NULL) {
        return;
    }
    fm_free(state->models);
    fm_free(state->loads);
    fm_free(state->nodes);
    fm_free(state->node_of);
    fm_free(state);
    sched->policy_state = NULL;
}

static uint64_t square_root(uint64_t value)
{
    uint64_t root = 0;
    for (uint64_t step = UINT64_C(1) << 31; step > 0; step >>= 1) {
        if ((root + step) * (root + step) <= value) {
            root += step;
        }
    }
    return root;
}

/* Of the count in one second, in thousandths. */
static uint64_t deviation_of(uint64_t rate)
{
    return square_root(rate * 1000);
}

/* Follows the rates; true: one of them has moved away from what was planned for. */
static bool rates_measure(struct fm_sched *sched, struct nexus_state *state)
{
    uint64_t elapsed_ns = sched->now_ns - state->measured_ns;
    if (elapsed_ns < MEASURE_NS) {
        return false;
    }
    state->measured_ns = sched->now_ns;
    bool moved = false;
    for (uint32_t i = 0; i < sched->options.models_max; i++) {
        struct nexus_model *model = &state->models[i];
        uint64_t total = sched->models[i].present ? sched->models[i].stats.requests : 0;
        /* A model that took the place of another begins at 0 again. */
        uint64_t count = total >= model->requests_seen ? total - model->requests_seen : total;
        model->requests_seen = total;
        uint64_t rate = count * 1000000 / (elapsed_ns / 1000000 + 1);
        if (model->measured) {
            rate = (model->rate + rate) / 2;
        }
        model->rate = rate;
        model->measured = model->measured || count > 0;
        uint64_t planned = model->rate_planned;
        uint64_t change = rate > planned ? rate - planned : planned - rate;
        moved = moved || change > planned / 5 + 3 * deviation_of(planned);
    }
    return moved;
}

/* A model's rate as well as it is known; one a second where it is not. */
static uint64_t rate_of(const struct fm_sched *sched, const struct nexus_state *state, uint32_t id)
{
    const struct fm_sched_model_entry *entry = &sched->models[id];
    uint64_t rate = state->models[id].rate;
    if (!state->models[id].measured || sched->now_ns < state->first_ns + START_NS) {
        rate = entry->gap_ns == FM_SCHED_NEVER ? 0 : SECOND_NS * 1000 / entry->gap_ns;
    }
    bool unknown = !state->models[id].measured && entry->stats.requests > 0;
    return rate == 0 && (unknown || entry->queue.count > 0) ? 1000 : rate;
}

static bool runs_all(const struct fm_sched *sched, const struct fm_nexus_node *node, uint8_t type)
{
    for (uint32_t i = 0; i < node->share_count; i++) {
        if (sched->models[node->shares[i].model].tables[type].batch_max == 0) {
            return false;
        }
    }
    return true;
}

/* Gives each node the lowest accelerator that is up, is not taken, and runs its models. */
static void nodes_place(struct fm_sched *sched, struct nexus_state *state)
{
    uint32_t bound = sched->options.accelerators_max;
    memset(state->node_of, 0xff, (size_t)bound * sizeof *state->node_of);
    uint32_t from = 0;
    for (uint32_t node = 0; node < state->node_count; node++) {
        uint32_t id = from;
        while (id < bound &&
               (!sched->accelerators[id].up || state->node_of[id] != FM_SCHED_NONE ||
                (sched->options.type_count > 1 &&
                 !runs_all(sched, &state->nodes[node], sched->accelerators[id].type)))) {
            id++;
        }
        if (id == bound) {
            continue;
        }
        state->node_of[id] = node;
        from = sched->options.type_count == 1 ? id + 1 : 0;
        for (uint32_t i = 0; i < state->nodes[node].share_count; i++) {
            state->models[state->nodes[node].shares[i].model].placed = true;
        }
    }
}

static uint32_t loads_list(struct fm_sched *sched, struct nexus_state *state)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < sched->options.models_max; i++) {
        struct fm_sched_model_entry *entry = &sched->models[i];
        uint64_t rate = entry->present ? rate_of(sched, state, i) : 0;
        state->models[i].placed = false;
        state->models[i].rate_planned = rate;
        if (rate == 0) {
            continue;
        }
        state->loads[count++] = (struct fm_nexus_load){
            .model = i,
            .table = &entry->tables[entry->reference],
            .budget_ns = entry->budget_ns,
            .gap_ns = SECOND_NS * 1000 / (rate + deviation_of(rate)) + 1,
        };
    }
    return count;
}

/* Models that found no place share the nodes. */
static void rest_share(struct nexus_state *state, uint32_t load_count)
{
    uint32_t node = 0;
    for (uint32_t i = 0; i < load_count; i++) {
        const struct fm_nexus_load *load = &state->loads[i];
        for (uint32_t tries = 0; tries < state->node_count; tries++) {
            struct fm_nexus_node *to = &state->nodes[node];
            node = node + 1 < state->node_count ? node + 1 : 0;
            if (to->share_count < FM_NEXUS_SHARES_MAX) {
                to->shares[to->share_count++] = (struct fm_nexus_share){
                    .model = load->model,
                    .batch = load->batch > 0 ? load->batch : 1,
                    .load = FM_SCHED_NONE,
                };
                break;
            }
        }
    }
}

static void plan(struct fm_sched *sched, struct nexus_state *state)
{
    uint32_t count = loads_list(sched, state);
    uint32_t up = sched->up_count;
    state->node_count = up > 0 ? fm_nexus_pack(state->loads, count, state->nodes, up) : 0;
    for (uint32_t i = 0; state->node_count > up && i < SHRINKS_MAX; i++) {
        for (uint32_t k = 0; k < count; k++) {
            state->loads[k].gap_ns += state->loads[k].gap_ns / 20 + 1;
        }
        state->node_count = fm_nexus_pack(state->loads, count, state->nodes, up);
    }
    if (state->node_count > up) {
        state->node_count = up;
        for (uint32_t i = 0; i < up; i++) {
            state->nodes[i] = (struct fm_nexus_node){.duty_ns = 1};
        }
        rest_share(state, count);
    }
    nodes_place(sched, state);
    state->up_count = up;
    state->model_count = sched->model_count;
    state->planned_ns = sched->now_ns;
    bool starting = sched->now_ns < state->first_ns + START_NS;
    state->plan_ns = sched->now_ns + (starting ? START_EPOCH_NS : EPOCH_NS);
}

void fm_sched_nexus_epoch(struct fm_sched *sched)
{
    struct nexus_state *state = sched->policy_state;
    if (state->first_ns == FM_SCHED_NEVER) {
        return;
    }
    bool moved = rates_measure(sched, state);
    if (moved || sched->now_ns >= state->plan_ns || sched->up_count != state->up_count ||
        sched->model_count != state->model_count) {
        plan(sched, state);
    }
}

/* --- running -----------------------------------------------------------------------------------
 */

/* Early drop: the earliest requests go until a window of `batch` could run in time. Returns how
 * many would run. */
static uint32_t early_drop(struct fm_sched *sched, struct fm_sched_model_entry *model,
                           const struct fm_sched_accelerator *place, uint32_t batch,
                           struct fm_sched_actions *actions)
{
    const struct fm_latency_table *table = &model->tables[place->type];
    uint64_t free_ns = fm_sched_accelerator_free_ns(place);
    batch = batch < table->batch_max ? batch : table->batch_max;
    while (model->queue.count > 0 && actions->count < actions->capacity) {
        uint64_t deadline_ns =
            sched->requests.nodes[fm_request_queue_first(&model->queue)].deadline_ns;
        uint32_t window = batch < model->queue.count ? batch : model->queue.count;
        uint32_t makes =
            fm_sched_candidate_within(sched, table, deadline_ns, free_ns, 1000, window);
        if (makes == window) {
            return window;
        }
        fm_sched_candidate_head_drop(
            sched, model, makes > 0 ? FM_SCHED_DROP_SACRIFICED : FM_SCHED_DROP_LATE, actions);
    }
    return 0;
}

/* The first of an accelerator's models, in turn, that has something to run. */
static bool in_turn(struct fm_sched *sched, struct nexus_state *state, uint32_t id,
                    struct fm_sched_actions *actions, struct fm_sched_choice *ret_choice)
{
    const struct fm_sched_accelerator *place = &sched->accelerators[id];
    struct fm_nexus_node *node = &state->nodes[state->node_of[id]];
    for (uint32_t i = 0; i < node->share_count; i++) {
        uint32_t turn = (node->turn + i) % node->share_count;
        const struct fm_nexus_share *share = &node->shares[turn];
        struct fm_sched_model_entry *model = &sched->models[share->model];
        if (sched->ready_positions[share->model] == UINT32_MAX ||
            model->tables[place->type].batch_max == 0) {
            continue;
        }
        uint32_t before = model->queue.count;
        uint32_t count = early_drop(sched, model, place, share->batch, actions);
        if (model->queue.count != before) {
            fm_sched_candidate_refresh(sched, share->model, actions);
        }
        if (actions->count == actions->capacity) {
            return false;
        }
        if (count > 0) {
            node->turn = turn + 1 < node->share_count ? turn + 1 : 0;
            *ret_choice =
                (struct fm_sched_choice){.model = share->model, .accelerator = id, .count = count};
            return true;
        }
    }
    return false;
}

/* Whether a model has requests and no accelerator to run them. */
static bool somebody_waits(const struct fm_sched *sched, const struct nexus_state *state)
{
    const struct fm_id_heap *ready = &sched->urgent[0];
    for (uint32_t i = 0; i < ready->count; i++) {
        if (!state->models[ready->entries[i].id].placed) {
            return true;
        }
    }
    return false;
}

static bool any_in_turn(struct fm_sched *sched, struct nexus_state *state,
                        struct fm_sched_actions *actions, struct fm_sched_choice *ret_choice)
{
    for (uint32_t type = 0; type < sched->options.type_count; type++) {
        const struct fm_id_set *set = &sched->grantable[type];
        for (uint32_t id = fm_id_set_first(set, 0); id != FM_ID_SET_NONE && sched->ready_count > 0;
             id = fm_id_set_first(set, id + 1)) {
            if (state->node_of[id] != FM_SCHED_NONE &&
                in_turn(sched, state, id, actions, ret_choice)) {
                return true;
            }
            if (actions->count == actions->capacity) {
                return false;
            }
        }
    }
    return false;
}

bool fm_sched_nexus_choose(struct fm_sched *sched, struct fm_sched_actions *actions,
                           struct fm_sched_choice *ret_choice)
{
    struct nexus_state *state = sched->policy_state;
    if (any_in_turn(sched, state, actions, ret_choice)) {
        return true;
    }
    if (actions->count == actions->capacity || sched->up_count == 0 ||
        !somebody_waits(sched, state)) {
        return false;
    }
    if (state->first_ns == FM_SCHED_NEVER) {
        state->first_ns = sched->now_ns;
        state->measured_ns = sched->now_ns;
    } else if (sched->now_ns < state->planned_ns + PLAN_GAP_NS) {
        sched->blocked_wake_ns = state->planned_ns + PLAN_GAP_NS;
        return false;
    }
    plan(sched, state);
    return any_in_turn(sched, state, actions, ret_choice);
}
