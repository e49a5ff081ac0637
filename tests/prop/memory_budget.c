/*
 * The budget of memory, in simulated worlds: pieces of work of pathological sizes, which take
 * memory in phases, in a process that keeps some for itself. Everything from a seed. Usage:
 * memory_budget [seed-count] [first-seed].
 *
 * All pieces together never have more than the budget and a tenth of it, unless there is only one;
 * every piece is begun; as many are in work as have room. Where the size of a piece says nothing
 * about what it takes, that holds as long as none is in work that took another one's measure.
 */
#include "core/plan/memory_budget.h"

#include "core/util/random.h"
#include "tests/harness/test.h"

#define MIB (UINT64_C(1) << 20)

enum { SLOTS_MAX = 64, PIECES = 4000, PHASES = 3 };

enum mix { EVEN, RARE, ALTERNATING, GROWING, BURST, SURPRISING, MIX_COUNT_ };

static const char *const mix_names[] = {"even",    "rare",  "alternating",
                                        "growing", "burst", "surprising"};

struct piece {
    bool there;
    bool surprises; /* it takes more than was expected */
    uint64_t size;
    uint64_t most;
    uint64_t expected;
    uint32_t phase; /* it is read, it runs, its lines wait */
    uint32_t steps; /* left in it */
};

struct world {
    struct fm_random random;
    struct fm_memory_budget budget;
    enum mix mix;
    uint64_t limit;
    uint32_t slots;
    uint64_t unit; /* the size of a small piece */
    uint64_t fixed;
    double factor;
    uint64_t kept; /* for each piece more than one that has ever been there at once */
    uint32_t begun;
    uint32_t most_pieces;
    uint64_t most_bytes; /* without surprises, and with more than one piece */
    uint32_t surprises;
    uint32_t pieces_steps; /* sum over steps */
    uint32_t steps;
    struct piece pieces[SLOTS_MAX];
};

static uint64_t seed_first = 1;
static uint64_t seed_count = 400;

static uint64_t size_next(struct world *world)
{
    uint32_t number = world->begun;
    uint64_t even = world->unit + fm_random_below(&world->random, world->unit);
    switch (world->mix) {
    case RARE:
        return fm_random_below(&world->random, 1000) == 0 ? 1000 * even : even;
    case ALTERNATING:
        return number % 2 == 1 ? 1000 * even : even;
    case GROWING:
        return even + even * number / 4;
    case BURST:
        return number / 200 % 2 == 1 ? 300 * even : even;
    case EVEN:
    case SURPRISING:
    case MIX_COUNT_:
    default:
        return even;
    }
}

static void piece_make(struct world *world, struct piece *ret_piece)
{
    uint64_t size = size_next(world);
    double noise = 1 - 0.05 * fm_random_unit(&world->random);
    bool large = world->mix == SURPRISING && fm_random_below(&world->random, 300) == 0;
    double most = ((double)world->fixed + world->factor * (double)size) * noise;
    most *= large ? 40 : 1;
    *ret_piece = (struct piece){.size = size, .most = (uint64_t)most};
}

static uint64_t piece_bytes(const struct piece *piece)
{
    const uint64_t bytes[PHASES] = {piece->most / 4, piece->most, piece->most / 8};
    return piece->there ? bytes[piece->phase] : 0;
}

static uint64_t bytes_of(const struct world *world)
{
    uint64_t bytes = world->most_pieces > 0 ? (world->most_pieces - 1) * world->kept : 0;
    for (uint32_t i = 0; i < world->slots; i++) {
        bytes += piece_bytes(&world->pieces[i]);
    }
    return bytes;
}

static void piece_step(struct world *world, struct piece *piece)
{
    if (!piece->there || --piece->steps > 0) {
        return;
    }
    piece->phase++;
    piece->steps = 1 + (uint32_t)fm_random_below(&world->random, 5);
    if (piece->phase == PHASES - 1) {
        fm_memory_budget_learn(&world->budget, piece->size, piece->most);
        fm_memory_budget_change(&world->budget, piece->expected, piece->most / 8);
        piece->expected = piece->most / 8;
    } else if (piece->phase == PHASES) {
        fm_memory_budget_end(&world->budget, piece->expected);
        piece->there = false;
    }
}

/* Begins what may begin, in order. */
static void begin(struct world *world, struct piece *next)
{
    for (uint32_t i = 0; i < world->slots && world->begun < PIECES; i++) {
        uint64_t expected = fm_memory_budget_expect(&world->budget, next->size);
        if (world->pieces[i].there) {
            continue;
        }
        if (!fm_memory_budget_may(&world->budget, expected)) {
            break;
        }
        fm_memory_budget_begin(&world->budget, expected);
        next->there = true;
        next->expected = expected;
        next->surprises = (double)next->most > 1.08 * (double)expected;
        next->steps = 1 + (uint32_t)fm_random_below(&world->random, 5);
        world->surprises += next->surprises ? 1 : 0;
        world->pieces[i] = *next;
        world->begun++;
        piece_make(world, next);
    }
    world->most_pieces =
        world->budget.pieces > world->most_pieces ? world->budget.pieces : world->most_pieces;
}

static void check(struct world *world)
{
    bool surprise = false;
    for (uint32_t i = 0; i < world->slots; i++) {
        surprise = surprise || (world->pieces[i].there && world->pieces[i].surprises);
    }
    uint64_t bytes = bytes_of(world);
    if (world->budget.pieces > 1 && !surprise) {
        world->most_bytes = bytes > world->most_bytes ? bytes : world->most_bytes;
    }
    world->pieces_steps += world->budget.pieces;
    world->steps++;
}

static void world_init(struct world *ret_world, uint64_t seed)
{
    struct world world = {0};
    fm_random_init(&world.random, seed);
    world.mix = (enum mix)(seed % MIX_COUNT_);
    world.limit = (16 + fm_random_below(&world.random, 500)) * MIB;
    world.slots = 1 + (uint32_t)fm_random_below(&world.random, SLOTS_MAX);
    world.unit = 1 + fm_random_below(&world.random, MIB / 16);
    world.fixed = fm_random_below(&world.random, MIB / 4);
    world.factor = 2 + 18 * fm_random_unit(&world.random);
    world.kept = fm_random_below(&world.random, 2) * fm_random_below(&world.random, MIB);
    fm_memory_budget_init(&world.budget, world.limit, true);
    *ret_world = world;
}

static void run(struct world *world)
{
    struct piece next;
    piece_make(world, &next);
    while (world->begun < PIECES || world->budget.pieces > 0) {
        begin(world, &next);
        check(world);
        for (uint32_t i = 0; i < world->slots; i++) {
            piece_step(world, &world->pieces[i]);
        }
        uint64_t bytes = bytes_of(world);
        uint64_t kept = world->most_pieces > 0 ? (world->most_pieces - 1) * world->kept : 0;
        fm_memory_budget_look(&world->budget, bytes, bytes - kept);
        CHECK(world->budget.pieces > 0 || world->budget.expected_bytes == 0);
    }
}

TEST(pieces_together_stay_within_the_budget)
{
    for (uint64_t seed = seed_first; seed < seed_first + seed_count; seed++) {
        struct world world;
        world_init(&world, seed);
        run(&world);
        double share = (double)world.most_bytes / (double)world.limit;
        if (share > 1.1 || seed_count == 1 || (world.mix != SURPRISING && world.surprises > 0)) {
            printf("# seed %llu (%s): %.3f of the budget, %u surprises, %.1f of %u at once\n",
                   (unsigned long long)seed, mix_names[world.mix], share, world.surprises,
                   (double)world.pieces_steps / world.steps, world.slots);
        }
        CHECK(world.begun == PIECES);
        CHECK(share <= 1.1);
        CHECK(world.mix == SURPRISING || world.surprises == 0);
        /* One in 300 is kept in mind. */
        CHECK(world.surprises <= PIECES / 300);
    }
}

TEST(there_are_as_many_as_have_room)
{
    double sum = 0;
    uint32_t worlds = 0;
    for (uint64_t seed = seed_first; seed < seed_first + seed_count; seed++) {
        struct world world;
        world_init(&world, seed);
        if (world.mix != EVEN || world.kept > 0) {
            continue;
        }
        double most = (double)world.fixed + world.factor * 2 * (double)world.unit;
        double room = (double)world.limit / most;
        run(&world);
        room = room < world.slots ? room : world.slots;
        sum += room > 1 ? (double)world.pieces_steps / world.steps / room : 1;
        worlds++;
    }
    printf("# %u worlds: %.2f of what has room\n", worlds, sum / worlds);
    CHECK(worlds == 0 || sum / worlds > 0.8);
}

TEST(without_a_budget_everything_begins)
{
    struct fm_memory_budget budget;
    fm_memory_budget_init(&budget, 0, false);
    for (uint32_t i = 0; i < 100; i++) {
        CHECK(fm_memory_budget_may(&budget, UINT64_MAX / 4));
        fm_memory_budget_begin(&budget, MIB);
    }
    fm_memory_budget_look(&budget, UINT64_MAX, 0);
    CHECK(fm_memory_budget_may(&budget, 1));
}

TEST(what_is_seen_counts_when_it_is_more_than_what_is_expected)
{
    struct fm_memory_budget budget;
    fm_memory_budget_init(&budget, 100 * MIB, true);
    CHECK(!fm_memory_budget_knows(&budget));
    CHECK(fm_memory_budget_expect(&budget, 1) == 100 * MIB); /* strict, and nothing is known */
    fm_memory_budget_learn(&budget, 1000, 10 * MIB);
    CHECK(fm_memory_budget_knows(&budget));
    uint64_t ten = fm_memory_budget_expect(&budget, 1000);
    CHECK(ten >= 10 * MIB && ten < 13 * MIB);
    CHECK(fm_memory_budget_expect(&budget, 1) <= ten);
    CHECK(fm_memory_budget_expect(&budget, 2000) >= 19 * MIB);
    CHECK(fm_memory_budget_expect(&budget, 100 * 1000) >= 100 * MIB); /* far from all experience */
    CHECK(fm_memory_budget_expect(&budget, UINT64_MAX) > 0);
    fm_memory_budget_begin(&budget, ten);
    fm_memory_budget_begin(&budget, ten);
    CHECK(!fm_memory_budget_may(&budget, ten)); /* three at once are too many so soon */
    for (uint32_t i = 0; i < 100; i++) {
        fm_memory_budget_look(&budget, 20 * MIB, 20 * MIB);
    }
    CHECK(fm_memory_budget_may(&budget, ten));
    fm_memory_budget_look(&budget, 95 * MIB, 95 * MIB);
    CHECK(!fm_memory_budget_may(&budget, ten));
    fm_memory_budget_look(&budget, 20 * MIB, 20 * MIB);
    CHECK(fm_memory_budget_may(&budget, ten));
    /* What stands for long leaves less room. */
    for (uint32_t i = 0; i < 100; i++) {
        fm_memory_budget_look(&budget, 80 * MIB, 10 * MIB);
    }
    CHECK(budget.standing_bytes == 70 * MIB);
    CHECK(!fm_memory_budget_may(&budget, ten));
    fm_memory_budget_end(&budget, ten);
    fm_memory_budget_end(&budget, ten);
    CHECK(fm_memory_budget_may(&budget, UINT64_MAX / 4)); /* alone */
    CHECK(budget.expected_bytes == 0 && budget.pieces == 0);
}

TEST(experience_is_forgotten_slowly)
{
    struct fm_memory_budget budget;
    fm_memory_budget_init(&budget, 1000 * MIB, true);
    fm_memory_budget_learn(&budget, 1000, 100 * MIB);
    for (uint32_t i = 0; i < 1000; i++) {
        fm_memory_budget_learn(&budget, 1000, MIB);
    }
    CHECK(fm_memory_budget_expect(&budget, 1000) > 70 * MIB);
    for (uint32_t i = 0; i < 40000; i++) {
        fm_memory_budget_learn(&budget, 1000, MIB);
    }
    CHECK(fm_memory_budget_expect(&budget, 1000) < 3 * MIB);
}

int main(int argc, char **argv)
{
    seed_count = fm_test_is_sanitized() ? seed_count / 8 : seed_count;
    seed_count = argc > 1 ? strtoull(argv[1], NULL, 10) : seed_count;
    seed_first = argc > 2 ? strtoull(argv[2], NULL, 10) : seed_first;
    return fm_test_main(1, argv);
}
