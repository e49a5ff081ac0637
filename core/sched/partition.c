/*
 * Partitioning models over sub-clusters. See partition.h.
 */
#include "core/sched/partition.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"

#define NONE UINT32_MAX
/* Loads are compared in 10^-5 of a thousandth of an accelerator. */
#define LEVEL_SCALE UINT64_C(100000)
/* A divided model leaves a sub-cluster when it fills the others to this part of what is planned. */
#define SHRINK_PERMILLE 900u
/* From nothing, a highest load above the mean by one part in so many is not improved further. */
#define NEAR_MEAN 1000u

__extension__ typedef unsigned __int128 wide;

_Static_assert((wide)FM_PARTITION_MODELS_LIMIT *FM_PARTITION_DEMAND_MAX_MILLI *LEVEL_SCALE <
                   UINT64_MAX,
               "levels do not overflow");

enum attempt { BY_DEMAND, BY_MEMORY, BY_BOTH, ATTEMPT_COUNT };

struct turn {
    uint64_t key;
    uint32_t model;
};

struct solver {
    const struct fm_partition_problem *problem;
    uint64_t demand_milli;  /* of all */
    uint64_t memory_bytes;  /* of all */
    uint64_t accelerators;  /* of all */
    uint64_t full_permille; /* load a sub-cluster may be planned to: 1000, in overload the mean */
    uint64_t divided_permille; /* load the sub-clusters of a divided model are planned to */
    uint64_t mean_level;
    struct turn *turns;                /* [models] */
    uint32_t *firsts;                  /* [models]: first place, or NONE */
    uint32_t *place_counts;            /* [models] */
    uint64_t *loads_milli;             /* [clusters] */
    uint64_t *used_bytes;              /* [clusters] */
    struct fm_partition_place *places; /* [capacity]; cluster NONE: given up */
    uint32_t *nexts;                   /* [capacity]: next place of the model, or NONE */
    uint32_t *hot;                     /* [capacity]: the places looked at for a move */
    uint32_t place_count;
    uint32_t capacity;
    uint32_t tries;        /* pairs looked at for room and exchanges */
    uint32_t move_tries;   /* ... for moves */
    uint32_t failed_model; /* the model that found no room, or NONE */
};

static uint64_t level_of(const struct solver *solver, uint32_t cluster, uint64_t load_milli)
{
    return load_milli * LEVEL_SCALE / solver->problem->clusters[cluster].accelerators;
}

static uint64_t level(const struct solver *solver, uint32_t cluster)
{
    return level_of(solver, cluster, solver->loads_milli[cluster]);
}

static uint64_t free_bytes(const struct solver *solver, uint32_t cluster)
{
    return solver->problem->clusters[cluster].memory_bytes - solver->used_bytes[cluster];
}

/* What a sub-cluster may be planned to do. */
static uint64_t planned_milli(const struct solver *solver, uint32_t cluster)
{
    return solver->problem->clusters[cluster].accelerators * solver->full_permille;
}

static const char *model_name(const struct fm_partition_problem *problem, uint32_t model,
                              char *text, size_t size)
{
    if (problem->models[model].name != NULL) {
        return problem->models[model].name;
    }
    (void)snprintf(text, size, "%u", model);
    return text;
}

/* --- places ------------------------------------------------------------------------------------
 */

static void clear(struct solver *solver)
{
    for (uint32_t i = 0; i < solver->problem->model_count; i++) {
        solver->firsts[i] = NONE;
        solver->place_counts[i] = 0;
    }
    for (uint32_t i = 0; i < solver->problem->cluster_count; i++) {
        solver->loads_milli[i] = 0;
        solver->used_bytes[i] = 0;
    }
    solver->place_count = 0;
    solver->tries = 0;
    solver->move_tries = 0;
    solver->failed_model = NONE;
}

static bool holds(const struct solver *solver, uint32_t model, uint32_t cluster)
{
    for (uint32_t i = solver->firsts[model]; i != NONE; i = solver->nexts[i]) {
        if (solver->places[i].cluster == cluster) {
            return true;
        }
    }
    return false;
}

static bool has_room(const struct solver *solver, uint32_t model, uint32_t cluster)
{
    return solver->problem->models[model].memory_bytes <= free_bytes(solver, cluster);
}

static int place_add(struct solver *solver, uint32_t model, uint32_t cluster, uint64_t demand_milli)
{
    if (solver->place_count == solver->capacity) {
        return FM_ELIMIT;
    }
    uint32_t index = solver->place_count++;
    solver->places[index] = (struct fm_partition_place){model, cluster, demand_milli};
    solver->nexts[index] = solver->firsts[model];
    solver->firsts[model] = index;
    solver->place_counts[model]++;
    solver->loads_milli[cluster] += demand_milli;
    solver->used_bytes[cluster] += solver->problem->models[model].memory_bytes;
    return 0;
}

/* Takes a place out of its sub-cluster; the entry stays, without one. */
static void place_lift(struct solver *solver, uint32_t index)
{
    struct fm_partition_place *place = &solver->places[index];
    solver->loads_milli[place->cluster] -= place->demand_milli;
    solver->used_bytes[place->cluster] -= solver->problem->models[place->model].memory_bytes;
    place->cluster = NONE;
}

static void place_put(struct solver *solver, uint32_t index, uint32_t cluster)
{
    struct fm_partition_place *place = &solver->places[index];
    solver->loads_milli[cluster] += place->demand_milli;
    solver->used_bytes[cluster] += solver->problem->models[place->model].memory_bytes;
    place->cluster = cluster;
}

/* Only models on one sub-cluster are moved; the others are levelled. */
static bool movable(const struct solver *solver, uint32_t index)
{
    const struct fm_partition_place *place = &solver->places[index];
    return place->cluster != NONE && solver->place_counts[place->model] == 1;
}

/* --- divided demands ---------------------------------------------------------------------------
 */

/* Whether the model's sub-clusters take `demand_milli` when each is filled up to `permille`. */
static bool takes(const struct solver *solver, uint32_t model, uint64_t permille,
                  uint64_t demand_milli)
{
    uint64_t poured = 0;
    for (uint32_t i = solver->firsts[model]; i != NONE && poured < demand_milli;
         i = solver->nexts[i]) {
        uint32_t cluster = solver->places[i].cluster;
        if (cluster != NONE) {
            uint64_t up_to = solver->problem->clusters[cluster].accelerators * permille;
            uint64_t load = solver->loads_milli[cluster];
            poured += up_to > load ? up_to - load : 0;
        }
    }
    return poured >= demand_milli;
}

/* Divides a model's demand over its places so that the highest of their loads is least. */
static void level_model(struct solver *solver, uint32_t model)
{
    uint64_t rest = solver->problem->models[model].demand_milli;
    uint64_t high = rest + 1;
    for (uint32_t i = solver->firsts[model]; i != NONE; i = solver->nexts[i]) {
        struct fm_partition_place *place = &solver->places[i];
        if (place->cluster != NONE) {
            solver->loads_milli[place->cluster] -= place->demand_milli;
            place->demand_milli = 0;
            high = high > solver->loads_milli[place->cluster] + rest + 1
                       ? high
                       : solver->loads_milli[place->cluster] + rest + 1;
        }
    }
    uint64_t low = 0; /* the least permille that takes all lies in (low, high], or is 0 */
    while (low + 1 < high) {
        uint64_t middle = low + (high - low) / 2;
        if (takes(solver, model, middle, rest)) {
            high = middle;
        } else {
            low = middle;
        }
    }
    for (uint32_t i = solver->firsts[model]; i != NONE; i = solver->nexts[i]) {
        struct fm_partition_place *place = &solver->places[i];
        if (place->cluster == NONE) {
            continue;
        }
        uint64_t up_to = solver->problem->clusters[place->cluster].accelerators * high;
        uint64_t load = solver->loads_milli[place->cluster];
        uint64_t part = up_to > load ? up_to - load : 0;
        part = part < rest ? part : rest;
        place->demand_milli = part;
        solver->loads_milli[place->cluster] += part;
        rest -= part;
    }
    FM_ASSERT(rest == 0);
}

static void level_divided(struct solver *solver)
{
    for (uint32_t i = 0; i < solver->problem->model_count; i++) {
        if (solver->place_counts[i] > 1) {
            level_model(solver, i);
        }
    }
}

/* --- placing -----------------------------------------------------------------------------------
 */

/* The sub-cluster for all of a model, by the attempt's rule; NONE: no one has room or is enough. */
static uint32_t choose(const struct solver *solver, uint32_t model, enum attempt attempt)
{
    uint64_t demand_milli = solver->problem->models[model].demand_milli;
    uint32_t best = NONE;
    uint64_t best_level = 0;
    uint64_t best_free = 0;
    for (uint32_t i = 0; i < solver->problem->cluster_count; i++) {
        if (!has_room(solver, model, i) || planned_milli(solver, i) < demand_milli) {
            continue;
        }
        uint64_t now_level = level_of(solver, i, solver->loads_milli[i] + demand_milli);
        uint64_t now_free = free_bytes(solver, i);
        bool lower = now_level < best_level || (now_level == best_level && now_free > best_free);
        bool better = attempt == BY_MEMORY ? now_free < best_free : lower;
        if (best == NONE || better) {
            best = i;
            best_level = now_level;
            best_free = now_free;
        }
    }
    return best;
}

/* Whether sub-clusters with so many accelerators in all suffice for a demand; a single one may be
 * used fully. */
static bool suffice(const struct solver *solver, uint32_t cluster_count, uint64_t accelerators,
                    uint64_t demand_milli)
{
    uint64_t permille = cluster_count > 1 ? solver->divided_permille : solver->full_permille;
    return accelerators * permille >= demand_milli;
}

/* Adds sub-clusters, those with most left first, until they suffice or no more has room. */
static int spread(struct solver *solver, uint32_t model)
{
    uint64_t demand_milli = solver->problem->models[model].demand_milli;
    uint64_t accelerators = 0;
    for (uint32_t i = solver->firsts[model]; i != NONE; i = solver->nexts[i]) {
        uint32_t cluster = solver->places[i].cluster;
        accelerators += cluster != NONE ? solver->problem->clusters[cluster].accelerators : 0;
    }
    while (solver->place_counts[model] == 0 ||
           !suffice(solver, solver->place_counts[model], accelerators, demand_milli)) {
        uint32_t best = NONE;
        uint64_t best_left = 0;
        for (uint32_t i = 0; i < solver->problem->cluster_count; i++) {
            uint64_t full = planned_milli(solver, i);
            uint64_t load = solver->loads_milli[i];
            uint64_t left = full > load ? full - load : 0;
            if (has_room(solver, model, i) && !holds(solver, model, i) &&
                (best == NONE || left > best_left)) {
                best = i;
                best_left = left;
            }
        }
        if (best == NONE) {
            break;
        }
        int status = place_add(solver, model, best, 0);
        if (status != 0) {
            return status;
        }
        accelerators += solver->problem->clusters[best].accelerators;
    }
    if (solver->place_counts[model] > 0) {
        level_model(solver, model);
    }
    return 0;
}

/* Moves the smallest model that helps out of a sub-cluster, to one that has room for it. Returns
 * the sub-cluster with room then, or NONE. */
static uint32_t make_room(struct solver *solver, uint32_t model)
{
    const struct fm_partition_problem *problem = solver->problem;
    uint64_t bytes = problem->models[model].memory_bytes;
    uint32_t best = NONE;
    uint32_t best_to = NONE;
    uint64_t best_bytes = UINT64_MAX;
    for (uint32_t i = 0; i < solver->place_count; i++) {
        if (!movable(solver, i)) {
            continue;
        }
        uint32_t from = solver->places[i].cluster;
        uint64_t moved = problem->models[solver->places[i].model].memory_bytes;
        if (moved >= best_bytes || free_bytes(solver, from) + moved < bytes) {
            continue;
        }
        for (uint32_t to = 0; to < problem->cluster_count; to++) {
            if (++solver->tries > FM_PARTITION_TRIES_MAX) {
                return NONE;
            }
            if (to != from && moved <= free_bytes(solver, to)) {
                best = i;
                best_to = to;
                best_bytes = moved;
                break;
            }
        }
    }
    if (best == NONE) {
        return NONE;
    }
    uint32_t from = solver->places[best].cluster;
    place_lift(solver, best);
    place_put(solver, best, best_to);
    return from;
}

/* Gives a model what it needs. FM_ELIMIT with failed_model: no room; without: no place left. */
static int provide(struct solver *solver, uint32_t model, enum attempt attempt)
{
    uint64_t demand_milli = solver->problem->models[model].demand_milli;
    if (solver->place_counts[model] == 0) {
        uint32_t cluster = choose(solver, model, attempt);
        if (cluster != NONE) {
            return place_add(solver, model, cluster, demand_milli);
        }
    }
    int status = spread(solver, model);
    if (status != 0 || solver->place_counts[model] > 0) {
        return status;
    }
    uint32_t cluster = make_room(solver, model);
    if (cluster == NONE) {
        solver->failed_model = model;
        return FM_ELIMIT;
    }
    return place_add(solver, model, cluster, demand_milli);
}

static int turn_compare(const void *left, const void *right)
{
    const struct turn *a = left;
    const struct turn *b = right;
    if (a->key != b->key) {
        return a->key > b->key ? -1 : 1;
    }
    return a->model < b->model ? -1 : a->model > b->model ? 1 : 0;
}

static void turns_set(struct solver *solver, enum attempt attempt)
{
    const struct fm_partition_problem *problem = solver->problem;
    for (uint32_t i = 0; i < problem->model_count; i++) {
        const struct fm_partition_model *model = &problem->models[i];
        uint64_t key = attempt == BY_MEMORY ? model->memory_bytes : model->demand_milli;
        if (attempt == BY_BOTH) {
            wide by_demand = ((wide)model->demand_milli << 32) / (solver->demand_milli + 1);
            wide by_memory = ((wide)model->memory_bytes << 32) / (solver->memory_bytes + 1);
            key = (uint64_t)(by_demand > by_memory ? by_demand : by_memory);
        }
        solver->turns[i] = (struct turn){key, i};
    }
    qsort(solver->turns, problem->model_count, sizeof *solver->turns, turn_compare);
}

static int provide_all(struct solver *solver, enum attempt attempt)
{
    turns_set(solver, attempt);
    for (uint32_t i = 0; i < solver->problem->model_count; i++) {
        int status = provide(solver, solver->turns[i].model, attempt);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

/* --- moves and exchanges -----------------------------------------------------------------------
 */

static uint32_t most_loaded(const struct solver *solver)
{
    uint32_t most = 0;
    for (uint32_t i = 1; i < solver->problem->cluster_count; i++) {
        if (level(solver, i) > level(solver, most)) {
            most = i;
        }
    }
    return most;
}

struct move {
    uint32_t place;
    uint32_t other; /* place it is exchanged with, or NONE */
    uint32_t cluster;
    uint64_t level; /* the higher of the two afterwards */
};

/* The higher level of two sub-clusters after `out` has left the first and `in` the second. */
static uint64_t level_after(const struct solver *solver, uint32_t first, uint32_t second,
                            uint64_t out_milli, uint64_t in_milli)
{
    uint64_t a = level_of(solver, first, solver->loads_milli[first] - out_milli + in_milli);
    uint64_t b = level_of(solver, second, solver->loads_milli[second] - in_milli + out_milli);
    return a > b ? a : b;
}

static void find_move(struct solver *solver, uint32_t hot_count, uint32_t from, struct move *best)
{
    for (uint32_t i = 0; i < hot_count; i++) {
        const struct fm_partition_place *place = &solver->places[solver->hot[i]];
        for (uint32_t to = 0; to < solver->problem->cluster_count; to++) {
            if (to == from || !has_room(solver, place->model, to)) {
                continue;
            }
            uint64_t after = level_after(solver, from, to, place->demand_milli, 0);
            if (after < best->level) {
                *best = (struct move){solver->hot[i], NONE, to, after};
            }
        }
    }
    solver->move_tries += hot_count * solver->problem->cluster_count;
}

static void find_exchange(struct solver *solver, uint32_t hot_count, uint32_t from,
                          struct move *best)
{
    const struct fm_partition_model *models = solver->problem->models;
    for (uint32_t j = 0; j < solver->place_count && solver->tries < FM_PARTITION_TRIES_MAX; j++) {
        const struct fm_partition_place *other = &solver->places[j];
        if (!movable(solver, j) || other->cluster == from) {
            continue;
        }
        uint64_t other_bytes = models[other->model].memory_bytes;
        solver->tries += hot_count;
        uint64_t room_here = free_bytes(solver, from);
        uint64_t room_there = free_bytes(solver, other->cluster) + other_bytes;
        for (uint32_t i = 0; i < hot_count; i++) {
            const struct fm_partition_place *place = &solver->places[solver->hot[i]];
            uint64_t bytes = models[place->model].memory_bytes;
            if (place->demand_milli <= other->demand_milli || bytes > room_there ||
                other_bytes > room_here + bytes) {
                continue;
            }
            uint64_t after =
                level_after(solver, from, other->cluster, place->demand_milli, other->demand_milli);
            if (after < best->level) {
                *best = (struct move){solver->hot[i], j, other->cluster, after};
            }
        }
    }
}

/* Moves models while the highest level is above `goal` and a move lowers it by `gain` or more. */
static void improve(struct solver *solver, uint64_t goal, uint64_t gain)
{
    while (solver->move_tries < FM_PARTITION_MOVE_TRIES_MAX) {
        uint32_t from = most_loaded(solver);
        uint64_t highest = level(solver, from);
        if (highest <= goal || highest < gain) {
            return;
        }
        uint32_t hot_count = 0;
        for (uint32_t i = 0; i < solver->place_count; i++) {
            if (movable(solver, i) && solver->places[i].cluster == from &&
                solver->places[i].demand_milli > 0) {
                solver->hot[hot_count++] = i;
            }
        }
        struct move best = {NONE, NONE, NONE, highest - gain + 1};
        solver->move_tries++;
        find_move(solver, hot_count, from, &best);
        if (best.place == NONE) {
            find_exchange(solver, hot_count, from, &best);
        }
        if (best.place == NONE) {
            return;
        }
        place_lift(solver, best.place);
        if (best.other != NONE) {
            place_lift(solver, best.other);
            place_put(solver, best.other, from);
        }
        place_put(solver, best.place, best.cluster);
    }
}

static void balance(struct solver *solver, uint64_t goal, uint64_t gain)
{
    level_divided(solver);
    improve(solver, goal, gain);
    level_divided(solver);
}

/* --- from a previous assignment ----------------------------------------------------------------
 */

/* Gives up the smallest sub-clusters of a model that needs them no more. */
static void shrink(struct solver *solver, uint32_t model)
{
    const struct fm_partition_cluster *clusters = solver->problem->clusters;
    /* The margin keeps a demand that swings a little from taking and giving one in turns. */
    uint64_t demand_milli =
        solver->problem->models[model].demand_milli * 1000 / SHRINK_PERMILLE + 1;
    while (solver->place_counts[model] > 1) {
        uint64_t accelerators = 0;
        uint32_t smallest = NONE;
        for (uint32_t i = solver->firsts[model]; i != NONE; i = solver->nexts[i]) {
            uint32_t cluster = solver->places[i].cluster;
            if (cluster == NONE) {
                continue;
            }
            accelerators += clusters[cluster].accelerators;
            if (smallest == NONE || clusters[cluster].accelerators <
                                        clusters[solver->places[smallest].cluster].accelerators) {
                smallest = i;
            }
        }
        accelerators -= clusters[solver->places[smallest].cluster].accelerators;
        if (!suffice(solver, solver->place_counts[model] - 1, accelerators, demand_milli)) {
            return;
        }
        place_lift(solver, smallest);
        solver->place_counts[model]--;
    }
}

/* Keeps what still fits. */
static int keep(struct solver *solver, const struct fm_partition_place *previous,
                uint32_t previous_count, struct fm_error *reterr)
{
    const struct fm_partition_problem *problem = solver->problem;
    clear(solver);
    for (uint32_t i = 0; i < previous_count; i++) {
        uint32_t model = previous[i].model;
        uint32_t cluster = previous[i].cluster;
        if (model >= problem->model_count || cluster >= problem->cluster_count) {
            continue;
        }
        if (holds(solver, model, cluster)) {
            char text[16];
            return fm_error_set(reterr, FM_EINVAL,
                                "partition: the previous assignment has model '%s' twice on "
                                "sub-cluster %u; give each place once",
                                model_name(problem, model, text, sizeof text), cluster);
        }
        if (has_room(solver, model, cluster) && place_add(solver, model, cluster, 0) != 0) {
            return FM_ELIMIT;
        }
    }
    for (uint32_t i = 0; i < problem->model_count; i++) {
        shrink(solver, i);
        if (solver->place_counts[i] > 0) {
            level_model(solver, i);
        }
    }
    return 0;
}

/* Counts the places that are new to models that were somewhere before. Spoils the solver's places.
 */
static uint32_t count_moves(struct solver *solver, const struct fm_partition_place *previous,
                            uint32_t previous_count)
{
    uint32_t *had = solver->hot; /* [models]: has been somewhere */
    memset(had, 0, solver->problem->model_count * sizeof *had);
    for (uint32_t i = 0; i < previous_count; i++) {
        uint32_t model = previous[i].model;
        if (model >= solver->problem->model_count) {
            continue;
        }
        had[model] = 1;
        for (uint32_t j = solver->firsts[model]; j != NONE; j = solver->nexts[j]) {
            if (solver->places[j].cluster == previous[i].cluster) {
                solver->places[j].cluster = NONE;
            }
        }
    }
    uint32_t moves = 0;
    for (uint32_t i = 0; i < solver->place_count; i++) {
        const struct fm_partition_place *place = &solver->places[i];
        moves += place->cluster != NONE && had[place->model] != 0 ? 1u : 0u;
    }
    return moves;
}

/* --- the answer --------------------------------------------------------------------------------
 */

static int place_compare(const void *left, const void *right)
{
    const struct fm_partition_place *a = left;
    const struct fm_partition_place *b = right;
    if (a->model != b->model) {
        return a->model < b->model ? -1 : 1;
    }
    return a->cluster < b->cluster ? -1 : a->cluster > b->cluster ? 1 : 0;
}

/* Copies what is placed, in order. */
static uint32_t copy_out(const struct solver *solver, struct fm_partition_place *places)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < solver->place_count; i++) {
        if (solver->places[i].cluster != NONE) {
            places[count++] = solver->places[i];
        }
    }
    qsort(places, count, sizeof *places, place_compare);
    return count;
}

static int no_place(const struct solver *solver, struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_ELIMIT,
                        "partition: more than place_capacity (%u) places are needed for %u models; "
                        "give more: each divided model takes one for each of its sub-clusters",
                        solver->capacity, solver->problem->model_count);
}

static int no_room(const struct solver *solver, struct fm_error *reterr)
{
    const struct fm_partition_problem *problem = solver->problem;
    uint32_t model = solver->failed_model;
    uint32_t roomiest = 0;
    for (uint32_t i = 1; i < problem->cluster_count; i++) {
        roomiest = free_bytes(solver, i) > free_bytes(solver, roomiest) ? i : roomiest;
    }
    char text[16];
    return fm_error_set(
        reterr, FM_ELIMIT,
        "partition: model '%s' needs %llu bytes on each accelerator and finds no sub-cluster with "
        "so much left: the roomiest, %u, has %llu of %llu bytes left, and moving another model "
        "does "
        "not help; add memory or sub-clusters, or take models out",
        model_name(problem, model, text, sizeof text),
        (unsigned long long)problem->models[model].memory_bytes, roomiest,
        (unsigned long long)free_bytes(solver, roomiest),
        (unsigned long long)problem->clusters[roomiest].memory_bytes);
}

static uint64_t highest_permille(const struct solver *solver)
{
    uint32_t most = most_loaded(solver);
    uint64_t accelerators = solver->problem->clusters[most].accelerators;
    return (solver->loads_milli[most] + accelerators - 1) / accelerators;
}

/* Fills `places` with the best of the attempts; the solver is then at the last one that worked. */
static int solve_from_nothing(struct solver *solver, struct fm_partition_place *places,
                              struct fm_partition_result *result, struct fm_error *reterr)
{
    uint64_t best_level = UINT64_MAX;
    int failure = 0;
    uint64_t goal = solver->mean_level + solver->mean_level / NEAR_MEAN;
    for (enum attempt attempt = BY_DEMAND; attempt < ATTEMPT_COUNT && best_level > goal;
         attempt++) {
        clear(solver);
        int status = provide_all(solver, attempt);
        if (status != 0) {
            failure =
                solver->failed_model != NONE ? no_room(solver, reterr) : no_place(solver, reterr);
            continue;
        }
        balance(solver, goal, 1);
        uint64_t highest = level(solver, most_loaded(solver));
        if (highest < best_level) {
            best_level = highest;
            result->place_count = copy_out(solver, places);
            result->load_max_permille = highest_permille(solver);
        }
    }
    if (best_level == UINT64_MAX) {
        return failure;
    }
    if (reterr != NULL) {
        *reterr = (struct fm_error){0}; /* an attempt that failed is no error */
    }
    return 0;
}

static int check_clusters(struct solver *solver, struct fm_error *reterr)
{
    const struct fm_partition_problem *problem = solver->problem;
    for (uint32_t i = 0; i < problem->cluster_count; i++) {
        const struct fm_partition_cluster *cluster = &problem->clusters[i];
        if (cluster->accelerators == 0 || cluster->accelerators > FM_PARTITION_ACCELERATORS_LIMIT) {
            return fm_error_set(reterr, FM_EINVAL,
                                "partition: sub-cluster %u has %u accelerators, must be 1 to %u", i,
                                cluster->accelerators, FM_PARTITION_ACCELERATORS_LIMIT);
        }
        if (cluster->memory_bytes > FM_PARTITION_MEMORY_MAX_BYTES) {
            return fm_error_set(reterr, FM_EINVAL,
                                "partition: sub-cluster %u has %llu bytes on each accelerator, "
                                "must be at most %llu",
                                i, (unsigned long long)cluster->memory_bytes,
                                (unsigned long long)FM_PARTITION_MEMORY_MAX_BYTES);
        }
        solver->accelerators += cluster->accelerators;
    }
    return 0;
}

/* Limits, and what no assignment can mend. */
static int check_models(struct solver *solver, struct fm_error *reterr)
{
    const struct fm_partition_problem *problem = solver->problem;
    uint64_t largest_bytes = 0;
    uint64_t all_bytes = 0;
    for (uint32_t i = 0; i < problem->cluster_count; i++) {
        uint64_t bytes = problem->clusters[i].memory_bytes;
        largest_bytes = bytes > largest_bytes ? bytes : largest_bytes;
        all_bytes += bytes;
    }
    for (uint32_t i = 0; i < problem->model_count; i++) {
        const struct fm_partition_model *model = &problem->models[i];
        char text[16];
        const char *name = model_name(problem, i, text, sizeof text);
        if (model->demand_milli > FM_PARTITION_DEMAND_MAX_MILLI) {
            return fm_error_set(reterr, FM_EINVAL,
                                "partition: model '%s' demands %llu thousandths of an accelerator, "
                                "must be at most %llu",
                                name, (unsigned long long)model->demand_milli,
                                (unsigned long long)FM_PARTITION_DEMAND_MAX_MILLI);
        }
        if (model->memory_bytes > largest_bytes) {
            return fm_error_set(reterr, FM_ETOOLARGE,
                                "partition: model '%s' needs %llu bytes on each accelerator; no "
                                "sub-cluster has more than %llu: use larger accelerators or a "
                                "smaller model",
                                name, (unsigned long long)model->memory_bytes,
                                (unsigned long long)largest_bytes);
        }
        solver->demand_milli += model->demand_milli;
        solver->memory_bytes += model->memory_bytes;
    }
    if (solver->memory_bytes > all_bytes) {
        return fm_error_set(reterr, FM_ELIMIT,
                            "partition: the models need %llu bytes, all sub-clusters together "
                            "have %llu (an accelerator's memory counts once for each sub-cluster): "
                            "add memory or sub-clusters, or take models out",
                            (unsigned long long)solver->memory_bytes,
                            (unsigned long long)all_bytes);
    }
    return 0;
}

static int check(struct solver *solver, struct fm_error *reterr)
{
    const struct fm_partition_problem *problem = solver->problem;
    if (problem->model_count == 0 || problem->model_count > FM_PARTITION_MODELS_LIMIT) {
        return fm_error_set(reterr, FM_EINVAL, "partition: %u models, must be 1 to %u",
                            problem->model_count, FM_PARTITION_MODELS_LIMIT);
    }
    if (problem->cluster_count == 0 || problem->cluster_count > FM_PARTITION_CLUSTERS_LIMIT) {
        return fm_error_set(reterr, FM_EINVAL, "partition: %u sub-clusters, must be 1 to %u",
                            problem->cluster_count, FM_PARTITION_CLUSTERS_LIMIT);
    }
    int status = check_clusters(solver, reterr);
    return status != 0 ? status : check_models(solver, reterr);
}

static int solver_init(struct solver *solver, uint32_t capacity)
{
    const struct fm_partition_problem *problem = solver->problem;
    uint32_t hot_count = capacity > problem->model_count ? capacity : problem->model_count;
    solver->capacity = capacity;
    solver->turns = fm_alloc(problem->model_count * sizeof *solver->turns);
    solver->firsts = fm_alloc(problem->model_count * sizeof *solver->firsts);
    solver->place_counts = fm_alloc(problem->model_count * sizeof *solver->place_counts);
    solver->loads_milli = fm_alloc(problem->cluster_count * sizeof *solver->loads_milli);
    solver->used_bytes = fm_alloc(problem->cluster_count * sizeof *solver->used_bytes);
    solver->places = fm_alloc(capacity * sizeof *solver->places);
    solver->nexts = fm_alloc(capacity * sizeof *solver->nexts);
    solver->hot = fm_alloc(hot_count * sizeof *solver->hot);
    bool complete = solver->turns != NULL && solver->firsts != NULL &&
                    solver->place_counts != NULL && solver->loads_milli != NULL &&
                    solver->used_bytes != NULL && solver->places != NULL && solver->nexts != NULL &&
                    solver->hot != NULL;
    if (!complete) {
        return FM_ENOMEM;
    }
    uint64_t mean = (solver->demand_milli + solver->accelerators - 1) / solver->accelerators;
    solver->full_permille = mean > 1000 ? mean : 1000;
    solver->divided_permille =
        mean > FM_PARTITION_DIVIDED_PERMILLE ? mean : FM_PARTITION_DIVIDED_PERMILLE;
    solver->mean_level =
        (uint64_t)((wide)solver->demand_milli * LEVEL_SCALE / solver->accelerators);
    clear(solver);
    return 0;
}

static void solver_deinit(struct solver *solver)
{
    fm_free(solver->turns);
    fm_free(solver->firsts);
    fm_free(solver->place_counts);
    fm_free(solver->loads_milli);
    fm_free(solver->used_bytes);
    fm_free(solver->places);
    fm_free(solver->nexts);
    fm_free(solver->hot);
}

static int solve(struct solver *solver, const struct fm_partition_place *previous,
                 uint32_t previous_count, struct fm_partition_place *places,
                 struct fm_partition_result *result, struct fm_error *reterr)
{
    const struct fm_partition_problem *problem = solver->problem;
    result->load_mean_permille =
        (solver->demand_milli + solver->accelerators - 1) / solver->accelerators;
    if (previous_count > 0) {
        int status = keep(solver, previous, previous_count, reterr);
        if (status == FM_EINVAL) {
            return status;
        }
        /* Another place for a divided model is a move: it must exceed the threshold, too. */
        uint64_t divided_permille = solver->divided_permille;
        wide raised = (wide)divided_permille * (1000u + (uint64_t)problem->threshold_permille);
        solver->divided_permille = raised / 1000 < solver->full_permille ? (uint64_t)(raised / 1000)
                                                                         : solver->full_permille;
        status = status == 0 ? provide_all(solver, BY_DEMAND) : status;
        solver->divided_permille = divided_permille;
        if (status == 0) {
            wide goal = (wide)solver->mean_level * (1000u + (uint64_t)problem->threshold_permille);
            wide gain = (wide)solver->mean_level * problem->gain_permille / 1000;
            balance(solver, (uint64_t)(goal / 1000), gain > 0 ? (uint64_t)gain : 1);
            result->place_count = copy_out(solver, places);
            result->load_max_permille = highest_permille(solver);
            result->move_count = count_moves(solver, previous, previous_count);
            return 0;
        }
    }
    result->from_nothing = true;
    int status = solve_from_nothing(solver, places, result, reterr);
    if (status == 0 && previous_count > 0) {
        clear(solver);
        for (uint32_t i = 0; i < result->place_count; i++) {
            status = place_add(solver, places[i].model, places[i].cluster, places[i].demand_milli);
            FM_ASSERT(status == 0);
        }
        result->move_count = count_moves(solver, previous, previous_count);
    }
    return status;
}

int fm_partition_solve(const struct fm_partition_problem *problem,
                       const struct fm_partition_place *previous, uint32_t previous_count,
                       struct fm_partition_place *places, uint32_t place_capacity,
                       struct fm_partition_result *ret_result, struct fm_error *reterr)
{
    *ret_result = (struct fm_partition_result){0};
    struct solver solver = {.problem = problem};
    int status = check(&solver, reterr);
    if (status != 0) {
        return status;
    }
    struct fm_partition_result result = {0};
    status = solver_init(&solver, place_capacity);
    status = status == 0 ? solve(&solver, previous, previous_count, places, &result, reterr)
                         : fm_error_set(reterr, status, "partition: out of memory for %u models",
                                        problem->model_count);
    solver_deinit(&solver);
    if (status == 0) {
        *ret_result = result;
    }
    return status;
}

bool fm_partition_validate(const struct fm_partition_problem *problem,
                           const struct fm_partition_place *places, uint32_t place_count)
{
    uint64_t *used_bytes = fm_alloc_zero(problem->cluster_count, sizeof *used_bytes);
    bool valid = used_bytes != NULL;
    uint32_t next = 0;
    for (uint32_t model = 0; valid && model < problem->model_count; model++) {
        uint64_t demand_milli = 0;
        uint32_t first = next;
        for (; valid && next < place_count && places[next].model == model; next++) {
            uint32_t cluster = places[next].cluster;
            valid = cluster < problem->cluster_count &&
                    (next == first || places[next - 1].cluster < cluster);
            if (valid) {
                demand_milli += places[next].demand_milli;
                used_bytes[cluster] += problem->models[model].memory_bytes;
                valid = used_bytes[cluster] <= problem->clusters[cluster].memory_bytes;
            }
        }
        valid = valid && next > first && demand_milli == problem->models[model].demand_milli;
    }
    fm_free(used_bytes);
    return valid && next == place_count;
}
