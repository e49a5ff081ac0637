/*
 * How many workers a job wants, in virtual time: workers of different speed, which take their time
 * to begin, are killed, and share what there is of a machine; rows that come in batches, rates that
 * are noisy and that change. Everything from a seed. Usage: demand [seed-count] [first-seed].
 *
 * Never fewer than the least nor more than the most; few changes, and fewer changes of direction;
 * finished in time whenever as many as there may be would have done it with 10 % to spare, and
 * called late when they could not have; no more workers than are worth something. The same seed
 * gives the same numbers.
 */
#include "core/ledger/demand.h"

#include <math.h>

#include "core/util/random.h"
#include "tests/harness/test.h"

#define MS UINT64_C(1000000)
#define S  (1000 * MS)

enum { WORKERS_MAX = 64 };

enum shape {
    LINEAR,  /* each brings what it brings */
    PLATEAU, /* the machine has room for some of them */
    CHANGING /* linear, and at half of the rows another speed */
};

struct worker {
    bool there;
    bool going;
    uint64_t start_ns; /* when it asks for work */
    double rate;
    double rows; /* computed, and not told yet */
};

struct world {
    struct fm_random random;
    struct fm_demand_options options;
    struct fm_demand demand;
    struct worker workers[WORKERS_MAX];
    enum shape shape;
    uint32_t min;
    uint32_t max;
    double rate; /* of a worker, in the mean */
    double spread;
    double noise;
    double factor; /* of all rates, now */
    double room;   /* workers that the machine has room for */
    double batch;  /* rows are told in so many */
    uint64_t startup_ns;
    double kill; /* chance of a worker in a second */
    uint64_t now_ns;
    uint64_t finish_ns; /* 0: none */
    double rows_all;
    double rows_left;
    uint64_t rows_done;
    uint32_t wanted;
    uint32_t most;
    uint32_t changes;
    uint32_t turns; /* of direction */
    int direction;
    bool late;
    uint64_t hash;
    bool bad;
    char why[200];
};

#define EXPECT(world, condition)                                                                  \
    do {                                                                                          \
        if (!(condition) && !(world)->bad) {                                                      \
            (world)->bad = true;                                                                  \
            (void)snprintf((world)->why, sizeof((world)->why), "line %d at %.3f s: %s", __LINE__, \
                           (double)(world)->now_ns / 1e9, #condition);                            \
        }                                                                                         \
    } while (0)

static double between(struct world *world, double low, double high)
{
    return low + fm_random_unit(&world->random) * (high - low);
}

/* Around 1. */
static double factor_of(struct world *world, double spread)
{
    double sum = 0;
    for (int i = 0; i < 12; i++) {
        sum += fm_random_unit(&world->random);
    }
    double factor = 1 + spread * (sum - 6);
    return factor > 0.1 ? factor : 0.1;
}

static uint32_t count(const struct world *world, bool working)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < WORKERS_MAX; i++) {
        const struct worker *worker = &world->workers[i];
        found += worker->there && (!working || world->now_ns >= worker->start_ns) ? 1 : 0;
    }
    return found;
}

/* As many processes as are wanted. */
static void crew_lead(struct world *world)
{
    for (uint32_t there = count(world, false); there < world->wanted; there++) {
        struct worker *worker = world->workers;
        while (worker->there) {
            worker++;
        }
        *worker =
            (struct worker){.there = true, .rate = world->rate * factor_of(world, world->spread)};
        worker->start_ns =
            world->now_ns + (uint64_t)((double)world->startup_ns * between(world, 0.7, 1.3));
    }
    for (uint32_t there = count(world, false); there > world->wanted; there--) {
        struct worker *worker = &world->workers[WORKERS_MAX - 1];
        while (!worker->there) {
            worker--;
        }
        worker->there = false;
    }
}

static void work(struct world *world, uint64_t step_ns)
{
    double seconds = (double)step_ns / 1e9;
    double sum = 0;
    for (uint32_t i = 0; i < WORKERS_MAX; i++) {
        sum += world->workers[i].there && world->now_ns >= world->workers[i].start_ns
                   ? world->workers[i].rate
                   : 0;
    }
    double most = world->room * world->rate;
    double share = world->shape == PLATEAU && sum > most ? most / sum : 1;
    for (uint32_t i = 0; i < WORKERS_MAX; i++) {
        struct worker *worker = &world->workers[i];
        if (!worker->there || world->now_ns < worker->start_ns) {
            continue;
        }
        worker->rows +=
            worker->rate * world->factor * share * seconds * factor_of(world, world->noise);
        double told = floor(worker->rows / world->batch) * world->batch;
        told = told < world->rows_left ? told : world->rows_left;
        worker->rows -= told;
        world->rows_left -= told;
        world->rows_done += (uint64_t)told;
        if (fm_random_unit(&world->random) < world->kill * seconds) {
            worker->there = false; /* and what it has not told is lost */
        }
    }
}

static void look(struct world *world)
{
    double rates[WORKERS_MAX];
    size_t known = 0;
    for (uint32_t i = 0; i < WORKERS_MAX; i++) {
        if (world->workers[i].there && world->now_ns >= world->workers[i].start_ns + S) {
            rates[known++] = world->workers[i].rate * world->factor;
        }
    }
    uint32_t working = count(world, true);
    uint64_t left_ns = world->finish_ns > world->now_ns ? world->finish_ns - world->now_ns : 0;
    const struct fm_demand_look look = {.now_ns = world->now_ns,
                                        .min = world->min,
                                        .max = world->max,
                                        .timed = world->finish_ns > 0,
                                        .left_ns = left_ns,
                                        .rows_done = world->rows_done,
                                        .rows_left = (uint64_t)world->rows_left,
                                        .working = working,
                                        .rates = rates,
                                        .rate_count = known,
                                        .startup_ns = known > 0 ? world->startup_ns : 0};
    struct fm_demand_advice advice = fm_demand_update(&world->demand, &look);
    EXPECT(world, advice.workers >= world->min && advice.workers <= world->max);
    EXPECT(world, advice.reason < FM_DEMAND_REASON_COUNT_);
    world->late = world->late || advice.late;
    if (world->wanted != 0 && advice.workers != world->wanted) {
        int direction = advice.workers > world->wanted ? 1 : -1;
        world->turns += direction * world->direction < 0 ? 1 : 0;
        world->direction = direction;
        world->changes++;
    }
    world->wanted = advice.workers;
    world->most = world->wanted > world->most ? world->wanted : world->most;
    world->hash = (world->hash ^ advice.workers) * 1099511628211u;
}

static void run(struct world *world)
{
    const uint64_t step_ns = 200 * MS;
    uint64_t end_ns = 1000000 * S;
    while (world->rows_left >= 1 && world->now_ns < end_ns && !world->bad) {
        if (world->shape == CHANGING && world->rows_left < world->rows_all / 2) {
            world->factor = world->late ? world->factor : world->room;
        }
        look(world);
        crew_lead(world);
        world->now_ns += step_ns;
        work(world, step_ns);
    }
    EXPECT(world, world->rows_left < 1);
}

/* Each growth is four or two times of before at most, and may be judged to have been no use; each
 * shrink takes twice as long as the one before it to come back. */
static uint32_t changes_max(const struct world *world)
{
    double times = log2((double)world->now_ns / (double)world->options.hold_ns + 2);
    return (uint32_t)(2 * (log2((double)world->max) + 1) + 3 * times);
}

static uint64_t simulate(uint64_t seed, bool show, char *ret_why, size_t size)
{
    struct world *world = calloc(1, sizeof(*world));
    fm_random_init(&world->random, seed);
    world->options = (struct fm_demand_options){.settle_ns = S,
                                                .window_ns = 3 * S,
                                                .window_max_ns = 60 * S,
                                                .window_rows = 8,
                                                .hold_ns = 30 * S,
                                                .ceiling_ns = 600 * S,
                                                .idle_ns = 2 * S,
                                                .late_ns = 5 * S,
                                                .startup_ns = S};
    fm_demand_init(&world->demand, &world->options);
    world->shape = (enum shape)fm_random_below(&world->random, 3);
    world->min = 1 + (uint32_t)fm_random_below(&world->random, 4);
    world->max = world->min + 1 + (uint32_t)fm_random_below(&world->random, WORKERS_MAX - 5);
    world->rate = exp(between(world, log(4), log(400)));
    world->spread = between(world, 0, 0.3);
    world->noise = between(world, 0, 0.3);
    world->factor = 1;
    world->room =
        world->shape == CHANGING ? between(world, 0.5, 2) : floor(between(world, 1, world->max));
    world->batch = 1 + (double)fm_random_below(&world->random, (uint64_t)(world->rate / 2 + 1));
    world->startup_ns = (uint64_t)(between(world, 0.05, 20) * 1e9);
    bool kills = fm_random_below(&world->random, 2) == 0;
    world->kill = kills ? 0.1 / (10 + (double)world->startup_ns / 1e9) / 10 : 0;
    /* What all together would take; each step on the way there costs a start and a measurement. */
    double step_s = (double)world->startup_ns / 1e9 * 5 + 14;
    double all_s = step_s * (log2((double)world->max) / 2 + 1) * between(world, 25, 60);
    double most = world->shape == PLATEAU ? world->room : world->max;
    world->rows_all = floor(world->rate * most * all_s);
    world->rows_left = world->rows_all;
    bool timed = fm_random_below(&world->random, 3) > 0;
    double spare =
        fm_random_below(&world->random, 4) == 0 ? between(world, 0.3, 0.9) : between(world, 1.1, 6);
    world->finish_ns = timed ? (uint64_t)(all_s * spare * 1e9) : 0;
    run(world);
    EXPECT(world, world->changes <= changes_max(world));
    EXPECT(world, world->turns <= changes_max(world) / 2);
    /* The mean of the workers that came by chance, and those that were killed. */
    double luck = 3 * world->spread / sqrt(world->max) + (kills ? 0.02 : 0);
    bool possible = timed && world->shape == LINEAR && spare >= (1 + luck) / 0.9;
    bool impossible = timed && world->shape != CHANGING && spare < 0.9;
    EXPECT(world, !possible || world->now_ns <= world->finish_ns);
    EXPECT(world, !possible || !world->late);
    EXPECT(world, !impossible || world->late);
    bool crowded = !timed && world->shape == PLATEAU;
    double room = world->room > world->min ? world->room : world->min;
    EXPECT(world, !crowded || world->wanted <= 2 * room + 1);
    EXPECT(world, timed || world->shape != LINEAR || world->most == world->max);
    if (show) {
        printf("# shape %d, %u to %u workers, %s, %.1f times of the time: %u changes, %u turns, "
               "at most %u, ended after %.2f of it%s\n",
               (int)world->shape, world->min, world->max, timed ? "timed" : "not timed", spare,
               world->changes, world->turns, world->most,
               timed ? (double)world->now_ns / (double)world->finish_ns : 0,
               world->late ? ", late" : "");
    }
    uint64_t hash = world->hash;
    (void)snprintf(ret_why, size, "%s", world->bad ? world->why : "");
    free(world);
    return hash;
}

static uint64_t seed_count = 60;
static uint64_t seed_first = 1;

TEST(as_many_as_are_worth_it_and_as_finish_in_time)
{
    for (uint64_t seed = seed_first; seed < seed_first + seed_count; seed++) {
        char why[200];
        char again[200];
        uint64_t hash = simulate(seed, seed_count == 1, why, sizeof(why));
        if (why[0] != '\0') {
            printf("# to see it again: demand 1 %llu\n", (unsigned long long)seed);
        }
        CHECK_STR_EQ(why, "");
        if (seed % 16 == 0) {
            CHECK_UINT_EQ(simulate(seed, false, again, sizeof(again)), hash);
        }
    }
}

int main(int argc, char **argv)
{
    seed_count = fm_test_is_sanitized() ? seed_count / 8 : seed_count; /* ten times as slow */
    seed_count = argc > 1 ? strtoull(argv[1], NULL, 10) : seed_count;
    seed_first = argc > 2 ? strtoull(argv[2], NULL, 10) : seed_first;
    return fm_test_main(1, argv);
}
