/*
 * Tests of host/runtime/profile_file: what is written is read back the same, and mistakes are named
 * with their place.
 */
#include "host/runtime/profile_file.h"

#include "core/util/memory.h"
#include "core/util/random.h"
#include "host/os/file.h"
#include "tests/harness/test.h"

static void make(struct fm_profile_record *record, uint64_t seed)
{
    struct fm_random random;
    fm_random_init(&random, seed);
    memset(record, 0, sizeof *record);
    (void)snprintf(record->model, sizeof record->model, "a \"model\": %%\xc3\xa9 # %d", (int)seed);
    (void)snprintf(record->backend, sizeof record->backend, "onnxruntime");
    (void)snprintf(record->machine, sizeof record->machine, "CPU @ 2.0GHz, 2 CPUs");
    (void)snprintf(record->measured, sizeof record->measured, "2026-01-31T12:00:00.123Z");
    (void)snprintf(record->inputs, sizeof record->inputs, "x FP32 [3,48,320]");
    record->version = seed;
    record->complete = seed % 2 == 0;
    record->slo_ns = seed % 3 == 0 ? 0 : 50000000;
    record->setting_count = (uint32_t)fm_random_below(&random, 5);
    for (uint32_t i = 0; i < record->setting_count; i++) {
        struct fm_profile_setting *setting = &record->settings[i];
        setting->threads = i + 1;
        setting->instances = 1 + (uint32_t)fm_random_below(&random, 4);
        (void)snprintf(setting->options, sizeof setting->options, "%s",
                       i % 2 == 0 ? "" : "spinning=yes");
        for (uint32_t batch = 1; batch <= 32; batch *= 2) {
            struct fm_profile_point point = {
                .batch = batch, .sample_count = (uint32_t)fm_random_below(&random, 1000)};
            uint64_t latency_ns = 1 + fm_random_below(&random, 1000000000);
            for (unsigned j = 0; j < FM_PROFILE_STATISTIC_COUNT_; j++) {
                latency_ns += fm_random_below(&random, 1000);
                point.latency_ns[j] = latency_ns;
            }
            struct fm_profile_measure measure = {
                .rate_millihertz = fm_random_below(&random, 100000000),
                .rate_low_millihertz = fm_random_below(&random, 1000),
                .rate_high_millihertz = fm_random_below(&random, UINT64_C(1000000000000)),
                .spread_permille = (uint32_t)fm_random_below(&random, 2000)};
            (void)!fm_profile_setting_add(setting, &point, &measure, NULL);
        }
    }
    record->has_choice = record->setting_count > 0;
    record->choice_setting = record->setting_count / 2;
    record->choice_point = record->has_choice ? 3 : 0;
}

TEST(what_is_written_is_read_back)
{
    static struct fm_profile_record record;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct fm_text text = {0};
        struct fm_text again = {0};
        struct fm_error error = {0};
        struct fm_profile_record *back = NULL;
        make(&record, seed);
        fm_profile_file_format(&record, &text);
        int status = fm_profile_file_load_text("p.yaml", text.data, text.length, &back, &error);
        if (status != 0) {
            printf("# %s\n%s\n", error.text, text.data);
        }
        CHECK_INT_EQ(status, 0);
        fm_profile_file_format(back, &again);
        CHECK_STR_EQ(text.data, again.data);
        CHECK_UINT_EQ(back->setting_count, record.setting_count);
        CHECK(back->has_choice == record.has_choice && back->complete == record.complete);
        fm_free(back);
        fm_text_deinit(&text);
        fm_text_deinit(&again);
    }
}

TEST(mistakes_have_a_place)
{
    static const struct {
        const char *text;
        const char *says;
    } cases[] = {
        {"format: fermata-profile/2\nsettings: []\n",
         "p.yaml:1:9: format 'fermata-profile/2' is not known here"},
        {"settings: []\n", "missing key 'format'"},
        {"format: fermata-profile/1\n", "missing key 'settings'"},
        {"format: fermata-profile/1\nsettings: []\nmodle: x\n", "p.yaml:3:1: unknown key 'modle'"},
        {"format: fermata-profile/1\nsettings: [{threads: 0, instances: 1, points: []}]\n",
         "p.yaml:2:"},
        {"format: fermata-profile/1\nsettings:\n  - {threads: 1, instances: 1, points: [{batch: "
         "1}]}\n",
         "missing key 'mean_ns'"},
        {"format: fermata-profile/1\nsettings:\n  - {threads: 1, instances: 1, points: [{batch: 1, "
         "mean_ns: 5, p50_ns: 5, p90_ns: 4, p99_ns: 6}]}\n",
         "p90 (4 ns) is below p50 (5 ns)"},
        {"format: fermata-profile/1\nrecommended: {threads: 9, instances: 1, batch: 1}\nsettings: "
         "[]\n",
         "'recommended' names a setting"},
        {"[]", "p.yaml:1:1"},
        {"", "p.yaml"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fm_error error = {0};
        struct fm_profile_record *record = NULL;
        CHECK_INT_NE(fm_profile_file_load_text("p.yaml", cases[i].text, strlen(cases[i].text),
                                               &record, &error),
                     0);
        CHECK_STR_CONTAINS(error.text, cases[i].says);
        CHECK(record == NULL);
    }
}

TEST(a_file_is_replaced_whole)
{
    static struct fm_profile_record record;
    char path[] = "/tmp/fm-profile-XXXXXX";
    int descriptor = mkstemp(path);
    CHECK(descriptor >= 0);
    struct fm_profile_record *back = NULL;
    make(&record, 4);
    CHECK_INT_EQ(fm_profile_file_write(&record, path, NULL), 0);
    CHECK_INT_EQ(fm_profile_file_load(path, &back, NULL), 0);
    CHECK_STR_EQ(back->model, record.model);
    fm_free(back);
    CHECK_INT_EQ(fm_file_remove(path, NULL), 0);
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_profile_file_load(path, &back, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, path);
}

TEST_MAIN()
