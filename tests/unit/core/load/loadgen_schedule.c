/*
 * loadgen_schedule and mt19937: what the C++ standard library makes of the same seeds, bit for bit.
 */
#include "core/load/loadgen_schedule.h"

#include "core/util/hash.h"
#include "tests/harness/test.h"

/* Printed by tests/data/loadgen_schedule.cc, compiled with g++ 12, on glibc 2.36. */
static const struct {
    uint64_t seed;
    double rate_hz;
    uint64_t first_ns[6];
    uint64_t late_ns; /* of query 100,000, from 0 */
    uint64_t hash;    /* of the ones before */
} known[] = {
    {UINT64_C(3133965575612453542),
     100,
     {0, 16149182, 16541507, 43130892, 53303123, 63316394},
     1004284579072,
     UINT64_C(0x252c804a3a303454)},
    {UINT64_C(3133965575612453542),
     0.001,
     {0, 1614918223465, 1654150723478, 4313089234525, 5330312349446, 6331639459750},
     100428462913325036,
     UINT64_C(0x1fb365919a23ca32)},
    {UINT64_C(3133965575612453542),
     1234.5678,
     {0, 1308083, 1339861, 3493601, 4317551, 5128626},
     81347011572,
     UINT64_C(0x74582c4fefb842aa)},
    {UINT64_C(3133965575612453542),
     3300000,
     {0, 489, 500, 1305, 1613, 1916},
     30382814,
     UINT64_C(0x6000849ad29e9ed1)},
    {UINT64_C(0),
     100,
     {0, 8985603, 27581645, 47097098, 65886738, 75656802},
     998084866277,
     UINT64_C(0x7224de0690ba3a04)},
    {UINT64_C(0),
     0.001,
     {0, 898560388797, 2758164601940, 4709709938812, 6588673993845, 7565680420500},
     99808491626092425,
     UINT64_C(0xb8ae5e31488da417)},
    {UINT64_C(0),
     1234.5678,
     {0, 727833, 2234112, 3814863, 5336824, 6128199},
     80844834837,
     UINT64_C(0xc6092dad8acc5d73)},
    {UINT64_C(0), 3300000, {0, 272, 835, 1426, 1995, 2291}, 30194831, UINT64_C(0x9370bf0063bf77a8)},
    {UINT64_C(1),
     100,
     {0, 58727248, 85692026, 87063111, 156554254, 159247293},
     996893168371,
     UINT64_C(0x6eaea8f468a046c8)},
    {UINT64_C(1),
     0.001,
     {0, 5872724895471, 8569202735904, 8706311316497, 15655425677198, 15924729634918},
     99689321844561207,
     UINT64_C(0x7b2573322a6af9f4)},
    {UINT64_C(1),
     1234.5678,
     {0, 4756907, 6941054, 7052111, 12680894, 12899030},
     80748307242,
     UINT64_C(0x84e50892baed09ef)},
    {UINT64_C(1),
     3300000,
     {0, 1779, 2596, 2637, 4742, 4823},
     30159039,
     UINT64_C(0xc64bc57543493c05)},
    {UINT64_C(4294967297),
     100,
     {0, 58727248, 85692026, 87063111, 156554254, 159247293},
     996893168371,
     UINT64_C(0x6eaea8f468a046c8)},
    {UINT64_C(4294967297),
     0.001,
     {0, 5872724895471, 8569202735904, 8706311316497, 15655425677198, 15924729634918},
     99689321844561207,
     UINT64_C(0x7b2573322a6af9f4)},
    {UINT64_C(4294967297),
     1234.5678,
     {0, 4756907, 6941054, 7052111, 12680894, 12899030},
     80748307242,
     UINT64_C(0x84e50892baed09ef)},
    {UINT64_C(4294967297),
     3300000,
     {0, 1779, 2596, 2637, 4742, 4823},
     30159039,
     UINT64_C(0xc64bc57543493c05)},
    {UINT64_C(18446744073709551615),
     100,
     {0, 1183406, 9454612, 16926872, 31650395, 34985025},
     998186787495,
     UINT64_C(0x3434451ad6c4a99a)},
    {UINT64_C(18446744073709551615),
     0.001,
     {0, 118340689741, 945461358832, 1692687408858, 3165039748581, 3498502833394},
     99818683735887414,
     UINT64_C(0x5362361a663d5201)},
    {UINT64_C(18446744073709551615),
     1234.5678,
     {0, 95855, 765822, 1371075, 2563680, 2833785},
     80853090378,
     UINT64_C(0x977b6dc98db35255)},
    {UINT64_C(18446744073709551615),
     3300000,
     {0, 35, 285, 511, 957, 1058},
     30198209,
     UINT64_C(0x2155e81863d5853b)},
};

/* The C++ standard names this number ([rand.predef]). */
TEST(twister_of_the_standard)
{
    struct fm_mt19937 twister;
    fm_mt19937_init(&twister, FM_MT19937_SEED_DEFAULT);
    CHECK_UINT_EQ(fm_mt19937_next(&twister), 3499211612);
    for (unsigned i = 2; i < 10000; i++) {
        (void)fm_mt19937_next(&twister);
    }
    CHECK_UINT_EQ(fm_mt19937_next(&twister), 4123659995);
}

TEST(schedules_of_loadgen)
{
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        struct fm_loadgen_schedule schedule;
        fm_loadgen_schedule_init(&schedule, known[i].rate_hz, known[i].seed);
        uint64_t hash = FM_HASH_START;
        for (unsigned j = 0; j < 100000; j++) {
            uint64_t time_ns = fm_loadgen_schedule_next(&schedule);
            if (j < 6) {
                CHECK_UINT_EQ(time_ns, known[i].first_ns[j]);
            }
            for (unsigned byte = 0; byte < 8; byte++) {
                unsigned char value = (unsigned char)(time_ns >> (8 * byte));
                hash = fm_hash_add(hash, &value, 1);
            }
        }
        CHECK_UINT_EQ(fm_loadgen_schedule_next(&schedule), known[i].late_ns);
        CHECK_UINT_EQ(hash, known[i].hash);
    }
}

TEST(only_the_low_half_of_a_seed_counts)
{
    struct fm_loadgen_schedule one;
    struct fm_loadgen_schedule two;
    fm_loadgen_schedule_init(&one, 100, 77);
    fm_loadgen_schedule_init(&two, 100, UINT64_C(0xabcdef0000000000) + 77);
    for (unsigned i = 0; i < 1000; i++) {
        CHECK_UINT_EQ(fm_loadgen_schedule_next(&one), fm_loadgen_schedule_next(&two));
    }
}

/* So slow that a gap does not fit into 64 bits of nanoseconds; then never again. */
TEST(time_ends)
{
    const double rates[] = {1e-300, 1e-11, 3e-10, 1e-9};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        struct fm_loadgen_schedule schedule;
        fm_loadgen_schedule_init(&schedule, rates[i], 1);
        uint64_t last_ns = fm_loadgen_schedule_next(&schedule);
        CHECK_UINT_EQ(last_ns, 0);
        for (unsigned j = 0; j < 200; j++) {
            uint64_t time_ns = fm_loadgen_schedule_next(&schedule);
            CHECK(time_ns >= last_ns);
            last_ns = time_ns;
        }
        CHECK_UINT_EQ(last_ns, UINT64_MAX);
    }
}

/* LoadGen truncates: of a mean of 10 ns, 1 / (e^(1/10) - 1) are left. */
TEST(highest_rate)
{
    struct fm_loadgen_schedule schedule;
    fm_loadgen_schedule_init(&schedule, FM_LOADGEN_SCHEDULE_RATE_MAX_HZ, 1);
    for (unsigned i = 0; i < 1000000; i++) {
        (void)fm_loadgen_schedule_next(&schedule);
    }
    CHECK_NEAR((double)fm_loadgen_schedule_next(&schedule) / 1e6, 1 / expm1(0.1), 0.045);
}

TEST_MAIN()
