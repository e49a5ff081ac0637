/*
 * free_times against an array of ends.
 */
#include "core/sched/free_times.h"

#include "core/util/random.h"
#include "tests/harness/test.h"

enum { ENDS = 200, RING = FM_FREE_TIMES_INTERVALS };

static uint64_t ends[ENDS]; /* as counted */
static uint32_t end_count;

/* An end counts once its interval has passed; an overdue one counts at once. */
static uint32_t naive_count(uint64_t interval_ns, uint64_t now_ns, uint64_t by_ns)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < end_count; i++) {
        uint64_t interval = ends[i] / interval_ns;
        count += interval < now_ns / interval_ns || interval < by_ns / interval_ns ? 1u : 0u;
    }
    return count;
}

static uint64_t naive_when(uint64_t interval_ns, uint64_t now_ns, uint32_t count)
{
    uint64_t first = now_ns / interval_ns;
    for (uint64_t i = first; i <= first + RING; i++) {
        if (naive_count(interval_ns, now_ns, i * interval_ns) >= count) {
            return i * interval_ns;
        }
    }
    return UINT64_MAX;
}

static void add_one(struct fm_free_times *times, struct fm_random *random, uint64_t now_ns)
{
    uint64_t interval_ns = times->interval_ns;
    uint64_t ahead_ns = fm_random_below(random, interval_ns * RING);
    switch (fm_random_below(random, 6)) {
    case 0:
        ahead_ns = fm_random_below(random, interval_ns * 3);
        break;
    case 1:
        ahead_ns *= 4; /* beyond the ring */
        break;
    default:
        break;
    }
    uint64_t end_ns = now_ns + ahead_ns;
    if (fm_random_below(random, 8) == 0) {
        end_ns = now_ns - fm_random_below(random, now_ns + 1); /* overdue as it comes */
    }
    uint64_t counted_ns = fm_free_times_add(times, end_ns);
    uint64_t last = now_ns / interval_ns + RING - 1;
    uint64_t interval = end_ns / interval_ns < last ? end_ns / interval_ns : last;
    CHECK_UINT_EQ(counted_ns, interval * interval_ns);
    ends[end_count++] = counted_ns;
}

static uint64_t pass(struct fm_random *random, uint64_t interval_ns)
{
    switch (fm_random_below(random, 20)) {
    case 0:
        return fm_random_below(random, interval_ns * RING * 3);
    case 1:
        return interval_ns * RING;
    case 2:
        return interval_ns * (RING - 1);
    default:
        return fm_random_below(random, interval_ns * 8);
    }
}

static void run(uint64_t seed, uint64_t interval_ns)
{
    static struct fm_free_times times;
    struct fm_random random;
    fm_random_init(&random, seed);
    fm_free_times_init(&times, interval_ns);
    end_count = 0;
    uint64_t now_ns = 0;
    for (uint32_t step = 0; step < 3000; step++) {
        uint64_t choice = fm_random_below(&random, 5);
        if (choice == 0) {
            now_ns += pass(&random, interval_ns);
            fm_free_times_advance(&times, now_ns);
            fm_free_times_advance(&times, now_ns / 2); /* backwards: nothing */
        } else if (choice < 3 && end_count < ENDS) {
            add_one(&times, &random, now_ns);
        } else if (end_count > 0) {
            uint32_t index = (uint32_t)fm_random_below(&random, end_count);
            fm_free_times_remove(&times, ends[index]);
            ends[index] = ends[--end_count];
        }
        CHECK(fm_free_times_validate(&times));
        CHECK_UINT_EQ(times.total, end_count);
        uint64_t by_ns = now_ns + fm_random_below(&random, interval_ns * RING * 2);
        by_ns = fm_random_below(&random, 10) == 0 ? now_ns / 2 : by_ns;
        CHECK_UINT_EQ(fm_free_times_count(&times, by_ns), naive_count(interval_ns, now_ns, by_ns));
        uint32_t wanted = (uint32_t)fm_random_below(&random, end_count + 2);
        CHECK_UINT_EQ(fm_free_times_when(&times, wanted), naive_when(interval_ns, now_ns, wanted));
        CHECK_INT_EQ(fm_test_failed, 0);
    }
}

TEST(counts_agree_with_an_array)
{
    run(1, 1);
    run(2, 20000);
    run(3, 999983);
    run(4, UINT64_C(1) << 40);
}

TEST(validate_sees_what_is_wrong)
{
    static struct fm_free_times times;
    fm_free_times_init(&times, 10);
    (void)fm_free_times_add(&times, 55);
    CHECK(fm_free_times_validate(&times));
    times.counts[7]++;
    CHECK(!fm_free_times_validate(&times));
    times.counts[7]--;
    times.overdue++;
    CHECK(!fm_free_times_validate(&times));
}

TEST_MAIN()
