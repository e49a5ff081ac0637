/*
 * Profile records and the choice among settings. See profile_record.h.
 */
#include "core/sched/profile_record.h"

#include <string.h>

#include "core/util/assert.h"

int fm_profile_setting_add(struct fm_profile_setting *setting, const struct fm_profile_point *point,
                           const struct fm_profile_measure *measure, struct fm_error *reterr)
{
    int status = fm_profile_add(&setting->profile, point, reterr);
    if (status != 0) {
        return status;
    }
    uint32_t at = 0;
    while (setting->profile.points[at].batch != point->batch) {
        at++;
    }
    memmove(&setting->measures[at + 1], &setting->measures[at],
            (setting->profile.point_count - 1 - at) * sizeof *setting->measures);
    setting->measures[at] = *measure;
    return 0;
}

/* A place in the record. */
struct place {
    const struct fm_profile_setting *setting;
    uint32_t setting_index;
    uint32_t point;
};

static uint64_t place_rate(const struct place *place)
{
    return place->setting->measures[place->point].rate_millihertz;
}

static bool is_allowed(const struct place *place, uint32_t cpu_count, uint64_t slo_ns)
{
    const struct fm_profile_setting *setting = place->setting;
    uint64_t cpus = (uint64_t)setting->threads * setting->instances;
    return (cpu_count == 0 || cpus <= cpu_count) &&
           (slo_ns == 0 ||
            setting->profile.points[place->point].latency_ns[FM_PROFILE_P99] <= slo_ns);
}

/* Whether `a` is to be preferred when both are fast enough. */
static bool is_better(const struct place *a, const struct place *b)
{
    uint32_t a_batch = a->setting->profile.points[a->point].batch;
    uint32_t b_batch = b->setting->profile.points[b->point].batch;
    if (a_batch != b_batch) {
        return a_batch < b_batch;
    }
    uint64_t a_cpus = (uint64_t)a->setting->threads * a->setting->instances;
    uint64_t b_cpus = (uint64_t)b->setting->threads * b->setting->instances;
    if (a_cpus != b_cpus) {
        return a_cpus < b_cpus;
    }
    if (a->setting->threads != b->setting->threads) {
        return a->setting->threads < b->setting->threads;
    }
    return place_rate(a) > place_rate(b);
}

bool fm_profile_record_choose(struct fm_profile_record *record, uint32_t cpu_count, uint64_t slo_ns,
                              uint32_t tolerance_permille)
{
    FM_ASSERT(tolerance_permille < 1000);
    uint64_t best_rate = 0;
    struct place best = {.setting = NULL};
    record->slo_ns = slo_ns;
    /* Twice over the table: the highest rate, then the best place among those near it. */
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < record->setting_count; i++) {
            struct place place = {.setting = &record->settings[i], .setting_index = i};
            for (place.point = 0; place.point < place.setting->profile.point_count; place.point++) {
                if (!is_allowed(&place, cpu_count, slo_ns)) {
                    continue;
                }
                uint64_t rate = place_rate(&place);
                if (pass == 0) {
                    best_rate = rate > best_rate ? rate : best_rate;
                } else if (rate >= best_rate - best_rate / 1000 * tolerance_permille &&
                           (best.setting == NULL || is_better(&place, &best))) {
                    best = place;
                }
            }
        }
    }
    record->has_choice = best.setting != NULL;
    record->choice_setting = best.setting_index;
    record->choice_point = best.point;
    return record->has_choice;
}

const struct fm_profile_setting *fm_profile_record_find(const struct fm_profile_record *record,
                                                        uint32_t threads, uint32_t instances)
{
    const struct fm_profile_setting *found = NULL;
    for (uint32_t i = 0; i < record->setting_count; i++) {
        const struct fm_profile_setting *setting = &record->settings[i];
        bool fits = (threads == 0 || setting->threads == threads) &&
                    (instances == 0 || setting->instances == instances);
        if (fits && (found == NULL || (record->has_choice && record->choice_setting == i))) {
            found = setting;
        }
    }
    return found;
}
