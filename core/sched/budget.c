/*
 * Splitting a deadline over the stages of a pipeline. See budget.h.
 */
#include "core/sched/budget.h"

#include <stdio.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"

#define STAGES    FM_BUDGET_STAGES_MAX
#define TICKS     FM_BUDGET_TICKS
#define NODES_MAX (2 * STAGES - 1)
#define NO_WAY    UINT64_MAX
/* Rounds of the search after the tables; each round looks at every stage and every pair. */
#define ROUNDS_MAX 64u
#define TEXT_SIZE  256u

_Static_assert(STAGES <= 32, "a set of stages is a uint32_t");
_Static_assert(FM_BUDGET_WORK_MAX_NS < UINT64_MAX / STAGES, "sums of work do not overflow");

__extension__ typedef unsigned __int128 wide;

/* A batch worth having: every larger span in a stage's list has less work. */
struct point {
    uint64_t span_ns;
    uint64_t work_ns;
    uint32_t batch;
};

enum node_kind { LEAF, SERIES, PARALLEL };

/* A part of the pipeline with its least work by budget, in ticks. */
struct node {
    enum node_kind kind;
    uint32_t stage; /* LEAF */
    uint32_t left;
    uint32_t right;
    uint64_t work_ns[TICKS + 1];
    uint16_t left_ticks[TICKS + 1]; /* SERIES: the left part's share */
};

struct search {
    const struct fm_budget_pipeline *pipeline;
    uint32_t count;
    uint32_t order[STAGES];        /* topological */
    uint32_t before[STAGES];       /* sets: direct predecessors */
    uint32_t after[STAGES];        /* sets: direct successors */
    uint32_t reaches[STAGES];      /* sets: all that comes after */
    struct point *points[STAGES];  /* ascending spans */
    uint32_t point_counts[STAGES]; /* at least 1 */
    struct point *all_points;
    struct node *nodes;
    uint32_t node_count;
    bool exact_order;
};

/* Which point each stage is at, and the longest paths that follow from it. */
struct choice {
    uint32_t at[STAGES];
    uint64_t upto_ns[STAGES]; /* the longest path that ends with this stage, it included */
    uint64_t from_ns[STAGES]; /* ... that begins with it, it included */
    uint64_t longest_ns;
    uint64_t work_ns;
};

static uint32_t bit(uint32_t stage)
{
    return UINT32_C(1) << stage;
}

/* --- spans and work ----------------------------------------------------------------------------
 */

uint64_t fm_budget_span_ns(const struct fm_latency_table *table, uint64_t rows_millihertz,
                           uint32_t batch)
{
    uint64_t gap_ns = (UINT64_C(1000000000000) + rows_millihertz - 1) / rows_millihertz;
    uint64_t latency_ns = table->latency_ns[batch];
    if (batch == 1) {
        return latency_ns + (gap_ns < latency_ns ? gap_ns : latency_ns);
    }
    return latency_ns + batch * gap_ns;
}

uint64_t fm_budget_work_ns(const struct fm_latency_table *table, uint64_t rows_millihertz,
                           uint32_t batch)
{
    wide work_ns = (wide)rows_millihertz * table->latency_ns[batch] / ((wide)batch * 1000u);
    return work_ns < FM_BUDGET_WORK_MAX_NS ? (uint64_t)work_ns : FM_BUDGET_WORK_MAX_NS;
}

static uint64_t rows_millihertz(const struct fm_budget_pipeline *pipeline, uint32_t stage)
{
    /* Rounded up: a rate of nothing would ask for batches that never fill. */
    return (pipeline->rate_millihertz * pipeline->stages[stage].fan_out_permille + 999) / 1000;
}

static int points_init(struct search *search)
{
    const struct fm_budget_pipeline *pipeline = search->pipeline;
    size_t total = 0;
    for (uint32_t i = 0; i < search->count; i++) {
        total += pipeline->stages[i].table->batch_max;
    }
    search->all_points = fm_alloc(total * sizeof *search->all_points);
    search->nodes = fm_alloc(NODES_MAX * sizeof *search->nodes);
    if (search->all_points == NULL || search->nodes == NULL) {
        return FM_ENOMEM;
    }
    struct point *next = search->all_points;
    for (uint32_t i = 0; i < search->count; i++) {
        const struct fm_latency_table *table = pipeline->stages[i].table;
        uint64_t rows = rows_millihertz(pipeline, i);
        uint32_t count = 0;
        for (uint32_t batch = 1; batch <= table->batch_max; batch++) {
            uint64_t work_ns = fm_budget_work_ns(table, rows, batch);
            if (count == 0 || work_ns < next[count - 1].work_ns) {
                next[count++] =
                    (struct point){fm_budget_span_ns(table, rows, batch), work_ns, batch};
            }
        }
        search->points[i] = next;
        search->point_counts[i] = count;
        next += count;
    }
    return 0;
}

/* The point of least work with span * scale <= budget * unit; the count where there is none. */
static uint32_t point_within(const struct search *search, uint32_t stage, uint64_t budget,
                             uint64_t unit, uint64_t scale)
{
    const struct point *points = search->points[stage];
    uint32_t low = 0;
    uint32_t high = search->point_counts[stage];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((wide)points[middle].span_ns * scale <= (wide)budget * unit) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? search->point_counts[stage] : low - 1;
}

/* --- the order ---------------------------------------------------------------------------------
 */

static const char *stage_name(const struct fm_budget_pipeline *pipeline, uint32_t stage, char *text,
                              size_t size)
{
    if (pipeline->stages[stage].name != NULL) {
        return pipeline->stages[stage].name;
    }
    (void)snprintf(text, size, "%u", stage);
    return text;
}

static int edges_read(struct search *search, struct fm_error *reterr)
{
    const struct fm_budget_pipeline *pipeline = search->pipeline;
    for (uint32_t i = 0; i < pipeline->edge_count; i++) {
        struct fm_budget_edge edge = pipeline->edges[i];
        if (edge.from >= search->count || edge.to >= search->count || edge.from == edge.to) {
            return fm_error_set(reterr, FM_EINVAL,
                                "deadline split: edge %u goes from stage %u to stage %u; both must "
                                "be below %u, and different",
                                i, edge.from, edge.to, search->count);
        }
        search->before[edge.to] |= bit(edge.from);
        search->after[edge.from] |= bit(edge.to);
    }
    uint32_t placed = 0;
    for (uint32_t count = 0; count < search->count; count++) {
        uint32_t next = 0;
        while (next < search->count &&
               ((placed & bit(next)) != 0 || (search->before[next] & ~placed) != 0)) {
            next++;
        }
        if (next == search->count) {
            uint32_t stuck = 0;
            while ((placed & bit(stuck)) != 0) {
                stuck++;
            }
            char text[16];
            return fm_error_set(reterr, FM_EINVAL,
                                "deadline split: stage '%s' waits for itself: it is on a cycle of "
                                "edges, or after one; take an edge out of the cycle",
                                stage_name(pipeline, stuck, text, sizeof text));
        }
        search->order[count] = next;
        placed |= bit(next);
    }
    for (uint32_t i = search->count; i-- > 0;) {
        uint32_t stage = search->order[i];
        for (uint32_t to = 0; to < search->count; to++) {
            if ((search->after[stage] & bit(to)) != 0) {
                search->reaches[stage] |= bit(to) | search->reaches[to];
            }
        }
    }
    return 0;
}

/* --- tables by ticks ---------------------------------------------------------------------------
 */

static uint32_t leaf(struct search *search, uint32_t stage)
{
    uint32_t index = search->node_count++;
    struct node *node = &search->nodes[index];
    node->kind = LEAF;
    node->stage = stage;
    for (uint32_t ticks = 0; ticks <= TICKS; ticks++) {
        uint32_t at = point_within(search, stage, ticks, search->pipeline->total_ns, TICKS);
        node->work_ns[ticks] =
            at < search->point_counts[stage] ? search->points[stage][at].work_ns : NO_WAY;
    }
    return index;
}

static void fill_parallel(struct node *node, const struct node *left, const struct node *right)
{
    for (uint32_t ticks = 0; ticks <= TICKS; ticks++) {
        bool possible = left->work_ns[ticks] != NO_WAY && right->work_ns[ticks] != NO_WAY;
        node->work_ns[ticks] = possible ? left->work_ns[ticks] + right->work_ns[ticks] : NO_WAY;
    }
}

static void fill_series(struct node *node, const struct node *left, const struct node *right)
{
    for (uint32_t ticks = 0; ticks <= TICKS; ticks++) {
        uint64_t best = NO_WAY;
        uint32_t best_left = 0;
        for (uint32_t part = 0; part <= ticks; part++) {
            uint64_t a = left->work_ns[part];
            uint64_t b = right->work_ns[ticks - part];
            if (a != NO_WAY && b != NO_WAY && a + b < best) {
                best = a + b;
                best_left = part;
            }
        }
        node->work_ns[ticks] = best;
        node->left_ticks[ticks] = (uint16_t)best_left;
    }
}

static uint32_t compose(struct search *search, enum node_kind kind, uint32_t left, uint32_t right)
{
    FM_ASSERT(search->node_count < NODES_MAX);
    uint32_t index = search->node_count++;
    struct node *node = &search->nodes[index];
    node->kind = kind;
    node->left = left;
    node->right = right;
    if (kind == SERIES) {
        fill_series(node, &search->nodes[left], &search->nodes[right]);
    } else {
        fill_parallel(node, &search->nodes[left], &search->nodes[right]);
    }
    return index;
}

static bool ordered(const struct search *search, uint32_t a, uint32_t b)
{
    return (search->reaches[a] & bit(b)) != 0 || (search->reaches[b] & bit(a)) != 0;
}

/* The stages of `set` that hang together with its first one, neighbours being the pairs that are
 * ordered (or that are not). */
static uint32_t component(const struct search *search, uint32_t set, bool neighbours_ordered)
{
    uint32_t found = set & (~set + 1);
    for (uint32_t before = 0; before != found;) {
        before = found;
        for (uint32_t a = 0; a < search->count; a++) {
            for (uint32_t b = 0; (found & bit(a)) != 0 && b < search->count; b++) {
                if ((set & bit(b)) != 0 && a != b && ordered(search, a, b) == neighbours_ordered) {
                    found |= bit(b);
                }
            }
        }
    }
    return found;
}

static uint32_t first_of(uint32_t set)
{
    return (uint32_t)__builtin_ctz(set);
}

/* Splits into layers: stages with nothing of the set before them, and so on. */
static uint32_t split_layers(const struct search *search, uint32_t set, uint32_t *parts)
{
    uint32_t count = 0;
    while (set != 0) {
        uint32_t behind = 0;
        for (uint32_t i = 0; i < search->count; i++) {
            behind |= (set & bit(i)) != 0 ? search->reaches[i] : 0;
        }
        parts[count++] = set & ~behind;
        set &= behind;
    }
    return count;
}

static uint32_t split_components(const struct search *search, uint32_t set, bool neighbours_ordered,
                                 uint32_t *parts)
{
    uint32_t count = 0;
    while (set != 0) {
        parts[count] = component(search, set, neighbours_ordered);
        set &= ~parts[count];
        count++;
    }
    return count;
}

/* Puts parts that come one after another into their order. */
static void parts_sort(const struct search *search, uint32_t *parts, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        uint32_t part = parts[i];
        uint32_t at = i;
        while (at > 0 && (search->reaches[first_of(part)] & bit(first_of(parts[at - 1]))) != 0) {
            parts[at] = parts[at - 1];
            at--;
        }
        parts[at] = part;
    }
}

/* The table of a set of stages. Recurses into ever smaller sets: at most STAGES deep. */
static uint32_t tabulate(struct search *search, uint32_t set)
{
    if ((set & (set - 1)) == 0) {
        return leaf(search, first_of(set));
    }
    uint32_t parts[STAGES];
    enum node_kind kind = PARALLEL;
    uint32_t count = split_components(search, set, true, parts);
    if (count == 1) {
        kind = SERIES;
        count = split_components(search, set, false, parts);
        parts_sort(search, parts, count);
    }
    if (count == 1) {
        search->exact_order = false;
        count = split_layers(search, set, parts);
    }
    uint32_t whole = tabulate(search, parts[0]);
    for (uint32_t i = 1; i < count; i++) {
        uint32_t part = tabulate(search, parts[i]);
        whole = compose(search, kind, whole, part);
    }
    return whole;
}

static void read_back(const struct search *search, uint32_t index, uint32_t ticks,
                      struct choice *choice)
{
    const struct node *node = &search->nodes[index];
    switch (node->kind) {
    case LEAF:
        choice->at[node->stage] =
            point_within(search, node->stage, ticks, search->pipeline->total_ns, TICKS);
        break;
    case SERIES:
        read_back(search, node->left, node->left_ticks[ticks], choice);
        read_back(search, node->right, ticks - node->left_ticks[ticks], choice);
        break;
    case PARALLEL:
        read_back(search, node->left, ticks, choice);
        read_back(search, node->right, ticks, choice);
        break;
    }
}

/* --- the search in nanoseconds -----------------------------------------------------------------
 */

static uint64_t longest_of(const uint64_t *lengths_ns, uint32_t set)
{
    uint64_t longest_ns = 0;
    for (; set != 0; set &= set - 1) {
        uint64_t length_ns = lengths_ns[first_of(set)];
        longest_ns = length_ns > longest_ns ? length_ns : longest_ns;
    }
    return longest_ns;
}

static void measure(const struct search *search, struct choice *choice)
{
    choice->longest_ns = 0;
    choice->work_ns = 0;
    for (uint32_t i = 0; i < search->count; i++) {
        uint32_t stage = search->order[i];
        const struct point *point = &search->points[stage][choice->at[stage]];
        choice->upto_ns[stage] =
            point->span_ns + longest_of(choice->upto_ns, search->before[stage]);
        choice->work_ns += point->work_ns;
        if (choice->upto_ns[stage] > choice->longest_ns) {
            choice->longest_ns = choice->upto_ns[stage];
        }
    }
    for (uint32_t i = search->count; i-- > 0;) {
        uint32_t stage = search->order[i];
        choice->from_ns[stage] = search->points[stage][choice->at[stage]].span_ns +
                                 longest_of(choice->from_ns, search->after[stage]);
    }
}

/* The longest path through a stage. */
static uint64_t through_ns(const struct search *search, const struct choice *choice, uint32_t stage)
{
    return choice->upto_ns[stage] + choice->from_ns[stage] -
           search->points[stage][choice->at[stage]].span_ns;
}

/* Moves one stage as far up as the paths through it leave room for. */
static void lift(const struct search *search, struct choice *choice, uint32_t stage)
{
    FM_ASSERT(stage < FM_BUDGET_STAGES_MAX);
    uint64_t room_ns = search->pipeline->total_ns - through_ns(search, choice, stage) +
                       search->points[stage][choice->at[stage]].span_ns;
    uint32_t at = point_within(search, stage, room_ns, 1, 1);
    if (at != choice->at[stage]) {
        choice->at[stage] = at;
        measure(search, choice);
    }
}

/* Moves stages down, the cheapest for its length first, until all paths fit; `kept` stays where it
 * is. False: it cannot be. */
static bool press(const struct search *search, struct choice *choice, uint32_t kept)
{
    while (choice->longest_ns > search->pipeline->total_ns) {
        uint32_t best = STAGES;
        uint64_t best_cost = 0;
        uint64_t best_gain = 1;
        for (uint32_t i = 0; i < search->count; i++) {
            if (i == kept || choice->at[i] == 0 ||
                through_ns(search, choice, i) <= search->pipeline->total_ns) {
                continue;
            }
            const struct point *point = &search->points[i][choice->at[i]];
            uint64_t cost = point[-1].work_ns - point->work_ns;
            uint64_t gain = point->span_ns - point[-1].span_ns;
            if (best == STAGES || (wide)cost * best_gain < (wide)best_cost * gain) {
                best = i;
                best_cost = cost;
                best_gain = gain;
            }
        }
        if (best == STAGES) {
            return false;
        }
        choice->at[best]--;
        measure(search, choice);
    }
    return true;
}

static void lift_all(const struct search *search, struct choice *choice, uint32_t last)
{
    for (uint32_t i = 0; i < search->count; i++) {
        if (i != last) {
            lift(search, choice, i);
        }
    }
    if (last < search->count) {
        lift(search, choice, last);
    }
}

/* Takes `next` if it is better. */
static bool take(struct choice *choice, const struct choice *next)
{
    if (next->work_ns >= choice->work_ns) {
        return false;
    }
    *choice = *next;
    return true;
}

/* One stage up a point, others pay; one stage down a point, others profit, each of them first. */
static bool improve(const struct search *search, struct choice *choice)
{
    bool improved = false;
    for (uint32_t i = 0; i < search->count; i++) {
        if (choice->at[i] + 1 < search->point_counts[i]) {
            struct choice next = *choice;
            next.at[i]++;
            measure(search, &next);
            if (press(search, &next, i)) {
                lift_all(search, &next, STAGES);
                improved |= take(choice, &next);
            }
        }
        for (uint32_t first = 0; first < search->count && choice->at[i] > 0; first++) {
            struct choice next = *choice;
            next.at[i]--;
            measure(search, &next);
            if (first != i) {
                lift(search, &next, first);
                lift_all(search, &next, i);
                improved |= take(choice, &next);
            }
        }
    }
    return improved;
}

static void polish(const struct search *search, struct choice *choice)
{
    measure(search, choice);
    FM_ASSERT(choice->longest_ns <= search->pipeline->total_ns);
    lift_all(search, choice, STAGES);
    for (uint32_t round = 0; round < ROUNDS_MAX && improve(search, choice); round++) {
    }
}

/* --- checks and the answer ---------------------------------------------------------------------
 */

static int check(const struct fm_budget_pipeline *pipeline, struct fm_error *reterr)
{
    const struct {
        const char *name;
        uint64_t value;
        uint64_t least;
        uint64_t most;
    } limits[] = {
        {"stage_count", pipeline->stage_count, 1, STAGES},
        {"edge_count", pipeline->edge_count, 0, FM_BUDGET_EDGES_MAX},
        {"rate_millihertz", pipeline->rate_millihertz, 1, FM_BUDGET_RATE_MAX},
        {"total_ns", pipeline->total_ns, 1, FM_BUDGET_TOTAL_MAX_NS},
    };
    for (unsigned i = 0; i < FM_COUNT_OF(limits); i++) {
        if (limits[i].value < limits[i].least || limits[i].value > limits[i].most) {
            return fm_error_set(
                reterr, FM_EINVAL, "deadline split: %s is %llu, must be %llu to %llu",
                limits[i].name, (unsigned long long)limits[i].value,
                (unsigned long long)limits[i].least, (unsigned long long)limits[i].most);
        }
    }
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        const struct fm_budget_stage *stage = &pipeline->stages[i];
        char text[16];
        const char *name = stage_name(pipeline, i, text, sizeof text);
        if (stage->fan_out_permille == 0 || stage->fan_out_permille > FM_BUDGET_FAN_OUT_MAX) {
            return fm_error_set(reterr, FM_EINVAL,
                                "deadline split: stage '%s' has a fan_out_permille of %u, must be "
                                "1 to %u",
                                name, stage->fan_out_permille, FM_BUDGET_FAN_OUT_MAX);
        }
        if (stage->table == NULL || stage->table->batch_max == 0) {
            return fm_error_set(reterr, FM_EINVAL,
                                "deadline split: stage '%s' has no latency table, or one without "
                                "batches; give it a profile",
                                name);
        }
    }
    return 0;
}

/* "a -> b -> c": the longest path of a choice, cut where the text is full. */
static void path_print(const struct search *search, const struct choice *choice, char *text,
                       size_t size)
{
    uint32_t set = search->count == 32 ? UINT32_MAX : bit(search->count) - 1;
    size_t length = 0;
    text[0] = '\0';
    while (set != 0) {
        uint64_t longest_ns = longest_of(choice->from_ns, set);
        uint32_t stage = first_of(set);
        while ((set & bit(stage)) == 0 || choice->from_ns[stage] != longest_ns) {
            stage++;
        }
        char number[16];
        int written = snprintf(text + length, size - length, "%s%s", length > 0 ? " -> " : "",
                               stage_name(search->pipeline, stage, number, sizeof number));
        length += written > 0 ? (size_t)written : 0;
        if (length >= size) {
            return;
        }
        set = search->after[stage];
    }
}

static int too_short(const struct search *search, const struct choice *least,
                     struct fm_error *reterr)
{
    char text[TEXT_SIZE];
    path_print(search, least, text, sizeof text);
    return fm_error_set(
        reterr, FM_EINVAL,
        "deadline split: %llu us do not hold even batches of one: the path %s needs %llu us; give "
        "at least that, or faster models",
        (unsigned long long)(search->pipeline->total_ns / 1000), text,
        (unsigned long long)((least->longest_ns + 999) / 1000));
}

static void answer(const struct search *search, const struct choice *choice,
                   struct fm_budget_split *ret_split)
{
    for (uint32_t i = 0; i < search->count; i++) {
        const struct point *point = &search->points[i][choice->at[i]];
        /* Of any path the sum of span * total / (longest path through the stage) is at most the sum
         * of span * total / (that path). */
        wide scaled_ns = (wide)point->span_ns * search->pipeline->total_ns;
        ret_split->shares[i] = (struct fm_budget_share){
            .budget_ns = (uint64_t)(scaled_ns / through_ns(search, choice, i)),
            .span_ns = point->span_ns,
            .batch = point->batch,
            .work_ns = point->work_ns,
        };
    }
    ret_split->work_ns = choice->work_ns;
    ret_split->exact_order = search->exact_order;
}

static int split(struct search *search, struct fm_budget_split *ret_split, struct fm_error *reterr)
{
    struct choice least = {0};
    measure(search, &least);
    ret_split->least_ns = least.longest_ns;
    if (least.longest_ns > search->pipeline->total_ns) {
        return too_short(search, &least, reterr);
    }
    search->exact_order = true;
    uint32_t all = search->count == 32 ? UINT32_MAX : bit(search->count) - 1;
    uint32_t root = tabulate(search, all);
    struct choice best = least;
    if (search->nodes[root].work_ns[TICKS] != NO_WAY) {
        read_back(search, root, TICKS, &best);
        polish(search, &best);
    }
    if (!search->exact_order || search->nodes[root].work_ns[TICKS] == NO_WAY) {
        polish(search, &least);
        (void)take(&best, &least);
    }
    answer(search, &best, ret_split);
    return 0;
}

int fm_budget_split(const struct fm_budget_pipeline *pipeline, struct fm_budget_split *ret_split,
                    struct fm_error *reterr)
{
    *ret_split = (struct fm_budget_split){0};
    int status = check(pipeline, reterr);
    if (status != 0) {
        return status;
    }
    struct search search = {.pipeline = pipeline, .count = pipeline->stage_count};
    status = edges_read(&search, reterr);
    if (status == 0) {
        status = points_init(&search);
        status = status == 0 ? split(&search, ret_split, reterr)
                             : fm_error_set(reterr, status, "deadline split: out of memory");
    }
    fm_free(search.nodes);
    fm_free(search.all_points);
    return status;
}
