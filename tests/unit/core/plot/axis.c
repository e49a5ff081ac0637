/*
 * Tests of core/plot/axis: round ends and steps on all scales, for random ranges too, and the
 * texts of marks.
 */
#include "core/plot/axis.h"

#include <math.h>

#include "core/util/random.h"
#include "tests/harness/test.h"

static struct fm_axis fitted(enum fm_axis_scale scale, double low, double high)
{
    struct fm_axis axis = {.label = "x", .scale = scale};
    fm_axis_fit(&axis, low, high);
    return axis;
}

/* The texts of all marks, with a space behind each. */
static const char *marks(const struct fm_axis *axis, uint32_t wanted)
{
    static char text[FM_AXIS_TICKS_MAX * FM_AXIS_TEXT_SIZE];
    struct fm_axis_tick ticks[FM_AXIS_TICKS_MAX];
    uint32_t count = fm_axis_ticks(axis, wanted, ticks);
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < count; i++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s ", ticks[i].text);
    }
    return text;
}

TEST(linear_axes_have_round_ends_and_begin_at_zero_where_that_is_near)
{
    struct fm_axis axis = fitted(FM_AXIS_LINEAR, 3, 97);
    CHECK_NEAR(axis.from, 0, 0);
    CHECK_NEAR(axis.to, 100, 1e-9);
    CHECK_STR_EQ(marks(&axis, 5), "0 20 40 60 80 100 ");
    axis = fitted(FM_AXIS_LINEAR, 96, 97);
    CHECK(axis.from > 90 && axis.from <= 96 && axis.to >= 97 && axis.to < 100);
    axis = fitted(FM_AXIS_LINEAR, -1, 1);
    CHECK_STR_EQ(marks(&axis, 4), "-1 -0.5 0 0.5 1 ");
    axis = fitted(FM_AXIS_LINEAR, 0, 120000);
    CHECK_STR_EQ(marks(&axis, 6), "0 20k 40k 60k 80k 100k 120k ");
}

TEST(logarithmic_axes_end_at_1_2_or_5_of_a_decade)
{
    struct fm_axis axis = fitted(FM_AXIS_LOG, 0.3, 47);
    CHECK_NEAR(axis.from, 0.2, 1e-12);
    CHECK_NEAR(axis.to, 50, 1e-9);
    CHECK_STR_EQ(marks(&axis, 8), "0.2 0.5 1 2 5 10 20 50 ");
    CHECK_STR_EQ(marks(&axis, 3), "1 10 ");
    axis = fitted(FM_AXIS_LOG, 1e-9, 1e9);
    CHECK_STR_EQ(marks(&axis, 6), "1e-09 1e-06 0.001 1 1000 1M 1G ");
    CHECK(!fm_axis_has(&axis, 0) && !fm_axis_has(&axis, -1) && !fm_axis_has(&axis, INFINITY));
    CHECK_NEAR(fm_axis_place(&axis, 1), 0.5, 1e-12);
}

TEST(nines_are_equally_far_apart)
{
    struct fm_axis axis = fitted(FM_AXIS_NINES, 0, 0.9995);
    CHECK_NEAR(fm_axis_place(&axis, 0), 0, 0);
    CHECK_NEAR(fm_axis_place(&axis, 0.9), 0.25, 1e-9);
    CHECK_NEAR(fm_axis_place(&axis, 0.99), 0.5, 1e-9);
    CHECK_NEAR(fm_axis_place(&axis, 0.9999), 1, 1e-9);
    CHECK_STR_EQ(marks(&axis, 5), "min p50 p90 p99 p99.9 p99.99 ");
    CHECK(fm_axis_has(&axis, 0) && !fm_axis_has(&axis, 1) && !fm_axis_has(&axis, -0.1));
}

TEST(an_axis_of_nothing_or_of_one_value_has_room)
{
    const double values[] = {0, 5, -5, 1e-100, 1e140, -1e140, 7e15};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct fm_axis axis = fitted(FM_AXIS_LINEAR, values[i], values[i]);
        CHECK(axis.from < axis.to && axis.from <= values[i] && values[i] <= axis.to);
        axis = fitted(FM_AXIS_LOG, values[i], values[i]);
        CHECK(axis.from < axis.to && axis.from > 0);
    }
    struct fm_axis axis = fitted(FM_AXIS_LINEAR, INFINITY, -INFINITY);
    CHECK(axis.from == 0 && axis.to == 1);
    axis = fitted(FM_AXIS_NINES, INFINITY, -INFINITY);
    CHECK(axis.from == 0 && axis.to > 0.8);
}

/* Also where somebody has set its ends. */
TEST(marks_are_on_the_axis)
{
    const struct fm_axis axes[] = {{.scale = FM_AXIS_NINES, .from = 0.1, .to = 0.9999},
                                   {.scale = FM_AXIS_NINES, .from = 0.9, .to = 0.95},
                                   {.scale = FM_AXIS_LOG, .from = 3, .to = 4},
                                   {.scale = FM_AXIS_LINEAR, .from = 0.33, .to = 0.34}};
    for (size_t i = 0; i < sizeof(axes) / sizeof(axes[0]); i++) {
        struct fm_axis_tick ticks[FM_AXIS_TICKS_MAX];
        uint32_t count = fm_axis_ticks(&axes[i], 5, ticks);
        for (uint32_t k = 0; k < count; k++) {
            double place = fm_axis_place(&axes[i], ticks[k].value);
            CHECK(place >= -1e-6 && place <= 1 + 1e-6);
        }
    }
    CHECK_STR_EQ(marks(&axes[0], 5), "p50 p90 p99 p99.9 p99.99 ");
    CHECK(!fm_axis_has(&axes[3], 1e300) && !fm_axis_has(&axes[2], 1e-200));
}

/* Whatever the range: it is covered, the marks are on it, ascend, are not many more than wanted. */
TEST(random_ranges)
{
    struct fm_random random;
    fm_random_init(&random, 1);
    for (int i = 0; i < 20000; i++) {
        enum fm_axis_scale scale = i % 2 == 0 ? FM_AXIS_LINEAR : FM_AXIS_LOG;
        double one = pow(10, 24 * fm_random_unit(&random) - 12);
        double other =
            fm_random_unit(&random) < 0.2 ? one * 1.01 : pow(10, 24 * fm_random_unit(&random) - 12);
        bool negative = scale == FM_AXIS_LINEAR && fm_random_unit(&random) < 0.3;
        double low = negative ? -one : fmin(one, other);
        double high = fmax(one, other);
        uint32_t wanted = 1 + (uint32_t)(fm_random_unit(&random) * 20);
        struct fm_axis axis = fitted(scale, low, high);
        struct fm_axis_tick ticks[FM_AXIS_TICKS_MAX];
        uint32_t count = fm_axis_ticks(&axis, wanted, ticks);
        CHECK(axis.from <= low && high <= axis.to && axis.from < axis.to);
        CHECK(count <= 3 * wanted + 3);
        for (uint32_t k = 0; k < count; k++) {
            double place = fm_axis_place(&axis, ticks[k].value);
            CHECK(place > -1e-6 && place < 1 + 1e-6);
            CHECK(k == 0 || ticks[k].value > ticks[k - 1].value);
        }
    }
}

TEST(texts_of_marks)
{
    char text[FM_AXIS_TEXT_SIZE];
    CHECK_STR_EQ(fm_axis_text(0.001, text), "0.001");
    CHECK_STR_EQ(fm_axis_text(9999, text), "9999");
    CHECK_STR_EQ(fm_axis_text(10000, text), "10k");
    CHECK_STR_EQ(fm_axis_text(-2500000, text), "-2.5M");
    CHECK_STR_EQ(fm_axis_text(1e18, text), "1e+18");
}

TEST_MAIN()
