/* Tests of engines/batch/priority: which pattern an id matches first. */
#include "engines/batch/priority.h"

#include "core/ledger/ledger.h"
#include "tests/harness/test.h"

static const char *patterns[] = {"urgent/**/*.csv", "today", "a.csv", "/data/x/*", "s3://b/first/"};
static const struct fm_job job = {.priority = patterns, .priority_count = 5};

TEST(the_first_pattern_that_matches_counts)
{
    static const struct {
        const char *id;
        uint32_t rank;
    } cases[] = {{"urgent/1.csv", 0},
                 {"urgent/a/b/1.csv", 0},
                 {"urgent/1.txt", FM_LEDGER_RANK_LAST},
                 {"today", 1},
                 {"today/a/b", 1},
                 {"todays/a", FM_LEDGER_RANK_LAST},
                 {"x/today/a", FM_LEDGER_RANK_LAST},
                 {"a.csv", 2},
                 {"b/a.csv", FM_LEDGER_RANK_LAST},
                 {"/data/x/1", 3},
                 {"data/x/1", FM_LEDGER_RANK_LAST},
                 {"/data/x/1/2", FM_LEDGER_RANK_LAST},
                 {"s3://b/first/1", 4},
                 {"s3://b/firsts", FM_LEDGER_RANK_LAST},
                 {"", FM_LEDGER_RANK_LAST}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CHECK_UINT_EQ(fm_priority_rank(&job, cases[i].id), cases[i].rank);
    }
}

TEST(without_patterns_nothing_comes_first)
{
    const struct fm_job none = {.priority_count = 0};
    CHECK_UINT_EQ(fm_priority_rank(&none, "urgent/1.csv"), FM_LEDGER_RANK_LAST);
}

TEST_MAIN()
