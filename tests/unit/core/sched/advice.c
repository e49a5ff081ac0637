/*
 * Tests of core/sched/advice: what the header promises, under noise, over a day, and by hand.
 */
#include "core/sched/advice.h"

#include <math.h>

#include "core/util/assert.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

#define SECOND_NS  UINT64_C(1000000000)
#define DAY_S      86400u
#define PI         3.14159265358979323846
#define INTERVAL_S 1u

static const struct fm_advice_options USUAL = {
    .accelerators_min = 1,
    .accelerators_max = 5000,
    .headroom_permille = 100,
    .bad_tolerated_permyriad = 100,
    .surplus_hold_ns = 600 * SECOND_NS,
    .lack_hold_ns = 20 * SECOND_NS,
    .cooldown_ns = 40 * SECOND_NS,
};

static struct fm_advisor advisor_of(const struct fm_advice_options *options)
{
    struct fm_advisor advisor;
    FM_ASSERT(fm_advisor_init(&advisor, options, NULL) == 0);
    return advisor;
}

static struct fm_advice update(struct fm_advisor *advisor, uint64_t second, uint32_t up,
                               uint32_t need_milli, uint32_t bad_permyriad)
{
    struct fm_advice_input input = {
        .accelerators_up = up, .need_milli = need_milli, .bad_permyriad = bad_permyriad};
    return fm_advisor_update(advisor, second * SECOND_NS, &input);
}

static void refused(struct fm_advice_options options, const char *word)
{
    struct fm_advisor advisor;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_advisor_init(&advisor, &options, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, word);
}

TEST(options_are_checked)
{
    struct fm_advice_options options = USUAL;
    options.accelerators_max = 0;
    refused(options, "accelerators_max");
    options = USUAL;
    options.accelerators_max = FM_ADVICE_ACCELERATORS_LIMIT + 1;
    refused(options, "accelerators_max");
    options = USUAL;
    options.accelerators_min = 5001;
    refused(options, "accelerators_min");
    options = USUAL;
    options.headroom_permille = FM_ADVICE_HEADROOM_LIMIT + 1;
    refused(options, "headroom_permille");
    options = USUAL;
    options.bad_tolerated_permyriad = 10000;
    refused(options, "bad_tolerated_permyriad");
    options = USUAL;
    options.surplus_hold_ns = UINT64_MAX;
    refused(options, "surplus_hold_ns");
    options = USUAL;
    options.lack_hold_ns = UINT64_MAX;
    refused(options, "lack_hold_ns");
    options = USUAL;
    options.cooldown_ns = UINT64_MAX;
    refused(options, "cooldown_ns");
}

TEST(missing_by_bad_rate)
{
    CHECK_UINT_EQ(fm_advice_missing_by_bad(100, 0), 0);
    CHECK_UINT_EQ(fm_advice_missing_by_bad(90, 1000), 10); /* 90 serve 90 %: 100 serve all */
    CHECK_UINT_EQ(fm_advice_missing_by_bad(8, 5000), 8);
    CHECK_UINT_EQ(fm_advice_missing_by_bad(8, 1), 1);
    CHECK_UINT_EQ(fm_advice_missing_by_bad(0, 1), 1);
    CHECK_UINT_EQ(fm_advice_missing_by_bad(8, 10000), FM_ADVICE_ACCELERATORS_LIMIT);
    CHECK_UINT_EQ(fm_advice_missing_by_bad(8, UINT32_MAX), FM_ADVICE_ACCELERATORS_LIMIT);
    CHECK_UINT_EQ(fm_advice_missing_by_bad(UINT32_MAX, 9999), FM_ADVICE_ACCELERATORS_LIMIT);
    for (uint32_t up = 0; up < 50; up++) {
        uint32_t before = 0;
        for (uint32_t bad = 0; bad <= 10000; bad++) {
            uint32_t missing = fm_advice_missing_by_bad(up, bad);
            CHECK_INT_LE(before, missing);
            before = missing;
        }
    }
}

TEST(a_hand_worked_day)
{
    struct fm_advisor advisor = advisor_of(&USUAL);
    /* Nothing is measured yet: what is up stays. */
    struct fm_advice advice = update(&advisor, 100, 10, 0, 0);
    CHECK_UINT_EQ(advice.wanted, 10);
    CHECK_UINT_EQ(advice.changed_ns, 100 * SECOND_NS);
    CHECK_UINT_EQ(advice.could_go + advice.missing, 0);
    /* 9.6 * 1.05 = 10.08: a lack; it must last 20 s, and the cool-down of 40 s has to pass. */
    CHECK_UINT_EQ(update(&advisor, 110, 10, 9600, 0).wanted, 10);
    CHECK_UINT_EQ(update(&advisor, 139, 10, 9600, 0).wanted, 10);
    advice = update(&advisor, 140, 10, 9600, 0); /* ceil(9.6 * 1.1) */
    CHECK_UINT_EQ(advice.wanted, 11);
    CHECK_UINT_EQ(advice.missing, 1);
    CHECK_UINT_EQ(advice.changed_ns, 140 * SECOND_NS);
    /* A surplus from 200 on that is broken at 500, then lasts; its highest target is 6.6 -> 7. */
    CHECK_UINT_EQ(update(&advisor, 200, 11, 4000, 0).wanted, 11);
    CHECK_UINT_EQ(update(&advisor, 500, 11, 10000, 0).wanted, 11);
    CHECK_UINT_EQ(update(&advisor, 501, 11, 4000, 0).wanted, 11);
    CHECK_UINT_EQ(update(&advisor, 800, 11, 6000, 0).wanted, 11);
    CHECK_UINT_EQ(update(&advisor, 1100, 11, 4000, 0).wanted, 11);
    advice = update(&advisor, 1101, 11, 4000, 0);
    CHECK_UINT_EQ(advice.wanted, 7);
    CHECK_UINT_EQ(advice.could_go, 4);
    /* What the policy still uses does not go. */
    struct fm_advice_input input = {
        .accelerators_up = 11, .accelerators_active = 9, .need_milli = 4000};
    CHECK_UINT_EQ(fm_advisor_update(&advisor, 1102 * SECOND_NS, &input).could_go, 2);
    /* 20 % bad on 8: 2 are missing; a tolerated rate asks for nothing. */
    CHECK_UINT_EQ(update(&advisor, 1200, 8, 4000, 2000).wanted, 7);
    CHECK_UINT_EQ(update(&advisor, 1220, 8, 4000, 2000).wanted, 10);
    CHECK_UINT_EQ(update(&advisor, 1300, 10, 4000, 100).wanted, 10);
    /* While some of them are still starting the same bad rate does not ask for more, nor does a
     * surplus by load count. */
    for (uint64_t second = 1301; second < 3000; second++) {
        uint32_t up = second < 2000 ? 5 : 8;
        CHECK_UINT_EQ(update(&advisor, second, up, 4000, 2000).wanted, 10);
    }
}

TEST(time_and_limits)
{
    struct fm_advice_options options = USUAL;
    options.accelerators_min = 2;
    options.accelerators_max = 6;
    options.lack_hold_ns = options.surplus_hold_ns = options.cooldown_ns = 0;
    struct fm_advisor advisor = advisor_of(&options);
    CHECK_UINT_EQ(update(&advisor, 50, 0, 0, 0).wanted, 2);
    CHECK_UINT_EQ(update(&advisor, 51, 2, UINT32_MAX, 0).wanted, 6);
    CHECK_UINT_EQ(update(&advisor, 40, 6, 0, 0).changed_ns, 51 * SECOND_NS); /* backwards */
    CHECK_UINT_EQ(update(&advisor, 52, UINT32_MAX, 0, UINT32_MAX).wanted, 6);
    CHECK_UINT_EQ(update(&advisor, 53, 6, 0, 0).wanted, 2);
    struct fm_advice_input input = {.accelerators_up = 2};
    struct fm_advice advice = fm_advisor_update(&advisor, UINT64_MAX, &input);
    CHECK_UINT_EQ(advice.changed_ns, 53 * SECOND_NS);
    CHECK_UINT_EQ(advisor.now_ns, 53 * SECOND_NS);
}

TEST(steps_are_limited_and_go_on_after_the_cool_down)
{
    struct fm_advice_options options = USUAL;
    options.step_max = 3;
    struct fm_advisor advisor = advisor_of(&options);
    (void)update(&advisor, 0, 10, 10000, 0);
    uint32_t before = 10;
    uint64_t changed = 0;
    for (uint64_t second = 1; second < 2000; second++) {
        uint32_t need = second < 400 ? 20000 : 5000;
        uint32_t wanted = update(&advisor, second, before, need, 0).wanted;
        uint32_t step = wanted > before ? wanted - before : before - wanted;
        CHECK_INT_LE(step, 3);
        if (step > 0) {
            CHECK_INT_LE(40, second - changed);
            changed = second;
        }
        CHECK_UINT_EQ(second == 399 ? wanted : 22, 22);
        before = wanted;
    }
    CHECK_UINT_EQ(before, 6); /* ceil(5.5) */
    CHECK_INT_LE(changed, 400 + 600 + 6 * 40);
}

struct path {
    uint32_t grown;
    uint32_t shrunk;
    uint32_t reversals; /* grown after it had shrunk */
    uint64_t short_s;   /* the longest time the need was above the advice */
    double surplus;     /* mean of (advice - need) / need */
};

/* One day at one update per INTERVAL_S; the accelerators follow the advice at once. */
static struct path walk(const struct fm_advice_options *options, const uint32_t *needs_milli)
{
    struct fm_advisor advisor = advisor_of(options);
    struct path path = {0};
    uint32_t up = needs_milli[0] / 1000 + 1;
    uint64_t short_s = 0;
    double surplus = 0;
    for (uint32_t second = 0; second < DAY_S; second += INTERVAL_S) {
        uint32_t wanted = update(&advisor, second, up, needs_milli[second], 0).wanted;
        path.reversals += second > 0 && wanted > up && path.shrunk > 0 ? 1u : 0u;
        path.grown += second > 0 && wanted > up ? 1u : 0u;
        path.shrunk += second > 0 && wanted < up ? 1u : 0u;
        up = wanted;
        short_s = (uint64_t)up * 1000 < needs_milli[second] ? short_s + INTERVAL_S : 0;
        path.short_s = short_s > path.short_s ? short_s : path.short_s;
        surplus += ((double)up * 1000 - needs_milli[second]) / needs_milli[second];
    }
    path.surplus = surplus / (DAY_S / INTERVAL_S);
    return path;
}

static uint32_t needs[DAY_S];

TEST(a_noisy_constant_load_does_not_flap)
{
    struct fm_random random;
    fm_random_init(&random, 20271);
    struct fm_advice_options bare = USUAL; /* the dead band alone */
    bare.lack_hold_ns = bare.surplus_hold_ns = bare.cooldown_ns = 0;
    static const double MEANS[] = {0.4, 1, 2.5, 7.9, 40, 333.3, 1000};
    for (unsigned i = 0; i < sizeof MEANS / sizeof MEANS[0]; i++) {
        /* Uniform within the band of the guarantee: 1.1 / 1.05 is a ratio of 1.047. */
        uint32_t low = (uint32_t)(MEANS[i] * 1000);
        for (uint32_t second = 0; second < DAY_S; second++) {
            needs[second] = low + (uint32_t)fm_random_below(&random, low / 22);
        }
        struct path path = walk(&bare, needs);
        CHECK_UINT_EQ(path.reversals, 0);
        /* Normal, 8 % of standard deviation: far beyond the band; the holds do the rest. */
        for (uint32_t second = 0; second < DAY_S; second++) {
            double noisy = MEANS[i] * 1000 * (1 + 0.08 * fm_random_normal(&random));
            needs[second] = noisy > 1 ? (uint32_t)noisy : 1;
        }
        path = walk(&USUAL, needs);
        CHECK_UINT_EQ(path.reversals, 0);
        CHECK_INT_LE(path.grown + path.shrunk, 40);
        /* The test can fail: without holds this noise does flap, where it spans accelerators. */
        if (MEANS[i] > 5) {
            CHECK_INT_LT(1000, walk(&bare, needs).reversals);
        }
    }
}

TEST(follows_a_day_of_sine)
{
    struct fm_random random;
    fm_random_init(&random, 20272);
    static const double MEANS[] = {3, 30, 1000};
    for (unsigned i = 0; i < sizeof MEANS / sizeof MEANS[0]; i++) {
        for (uint32_t second = 0; second < DAY_S; second++) {
            double curve = MEANS[i] * (1 + 0.8 * sin(2 * PI * second / DAY_S));
            double noise = 1 + 0.02 * fm_random_normal(&random);
            needs[second] = (uint32_t)(1000 * curve * noise);
        }
        struct path path = walk(&USUAL, needs);
        CHECK_INT_LE(path.short_s, 20 + 40 + INTERVAL_S);
        /* Headroom 10 %, noise's peaks, what 10 to 20 minutes of a falling curve are worth, and one
         * accelerator that cannot be halved (at the trough of 0.6 it is all there is). */
        CHECK(path.surplus < 0.18 + 1.0 / MEANS[i]);
        CHECK(path.surplus > 0.05);
        CHECK_INT_LT(0, path.grown);
        CHECK_INT_LT(0, path.shrunk);
    }
}

TEST(never_short_for_longer_than_promised)
{
    struct fm_random random;
    fm_random_init(&random, 20273);
    for (int round = 0; round < 10; round++) {
        double level = 50;
        for (uint32_t second = 0; second < DAY_S; second++) {
            /* Jumps at random, noise between them. */
            if (fm_random_below(&random, 60) == 0) {
                level = 1 + (double)fm_random_below(&random, 1000);
            }
            needs[second] = (uint32_t)(1000 * level * (0.9 + 0.2 * fm_random_unit(&random)));
        }
        struct path path = walk(&USUAL, needs);
        CHECK_INT_LE(path.short_s, 20 + 40 + INTERVAL_S);
        CHECK_INT_LE(20, path.short_s);
    }
}

TEST(monotone_in_the_bad_rate)
{
    struct fm_random random;
    fm_random_init(&random, 20274);
    struct fm_advice_options options = USUAL;
    options.lack_hold_ns = 3 * SECOND_NS;
    options.cooldown_ns = 4 * SECOND_NS;
    options.surplus_hold_ns = 6 * SECOND_NS;
    uint32_t differ = 0;
    for (uint32_t round = 0; round < 200; round++) {
        options.step_max = (uint32_t)fm_random_below(&random, 5) * 10;
        struct fm_advisor advisor = advisor_of(&options);
        for (uint64_t second = 0; second < 200; second++) {
            uint32_t up = (uint32_t)fm_random_below(&random, 100);
            uint32_t need = (uint32_t)fm_random_below(&random, 100000);
            uint32_t bad = (uint32_t)fm_random_below(&random, 400);
            uint32_t worse = bad + (uint32_t)fm_random_below(&random, 10001 - bad);
            struct fm_advisor other = advisor;
            struct fm_advice advice = update(&advisor, second, up, need, bad);
            struct fm_advice advice_worse = update(&other, second, up, need, worse);
            CHECK_INT_LE(advice.wanted, advice_worse.wanted);
            CHECK_INT_LE(advice.missing, advice_worse.missing);
            CHECK_INT_LE(advice_worse.could_go, advice.could_go);
            differ += advice.wanted < advice_worse.wanted ? 1u : 0u;
        }
    }
    CHECK_INT_LT(100, differ);
}

TEST_MAIN()
