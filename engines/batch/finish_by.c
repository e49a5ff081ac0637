/*
 * When a job is to be finished. See finish_by.h.
 */
#include "engines/batch/finish_by.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/text.h"
#include "engines/batch/job_notes.h"

#define NS_PER_MS UINT64_C(1000000)
/* Ten years: what is longer is a mistake. */
#define AFTER_MAX_MS (UINT64_C(3650) * 86400000)

enum { YEAR_MIN = 1970, YEAR_MAX = 2500 };

/* Takes `count` digits. False: there are not as many. */
static bool digits_take(const char **text, int count, uint32_t *ret_value)
{
    *ret_value = 0;
    for (int i = 0; i < count; i++, (*text)++) {
        if (**text < '0' || **text > '9') {
            return false;
        }
        *ret_value = *ret_value * 10 + (uint32_t)(**text - '0');
    }
    return true;
}

static bool sign_take(const char **text, char sign)
{
    bool there = **text == sign;
    *text += there ? 1 : 0;
    return there;
}

/* Days since 1970-01-01 in the Gregorian calendar; the year begins in March, so that a leap day is
 * its last one. */
static uint64_t days_of(uint32_t year, uint32_t month, uint32_t day)
{
    uint64_t years = month > 2 ? year : year - 1;
    uint64_t months = month > 2 ? month - 3 : month + 9;
    uint64_t days = years * 365 + years / 4 - years / 100 + years / 400;
    return days + (153 * months + 2) / 5 + day - 1 - 719468;
}

static uint32_t days_in_month(uint32_t year, uint32_t month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap ? 1u : 0u);
}

/* "2026-11-23T06:00", and the seconds where there are some. */
static bool clock_take(const char **text, uint64_t *ret_ms)
{
    uint32_t year = 0;
    uint32_t month = 0;
    uint32_t day = 0;
    uint32_t hour = 0;
    uint32_t minute = 0;
    uint32_t second = 0;
    bool good = digits_take(text, 4, &year) && sign_take(text, '-') &&
                digits_take(text, 2, &month) && sign_take(text, '-') && digits_take(text, 2, &day);
    good = good && (sign_take(text, 'T') || sign_take(text, 't') || sign_take(text, ' ')) &&
           digits_take(text, 2, &hour) && sign_take(text, ':') && digits_take(text, 2, &minute);
    if (good && sign_take(text, ':')) {
        good = digits_take(text, 2, &second);
        if (good && sign_take(text, '.')) {
            uint32_t digit = 0;
            good = digits_take(text, 1, &digit);
            while (good && digits_take(text, 1, &digit)) {
            }
        }
    }
    if (!good || year < YEAR_MIN || year > YEAR_MAX || month < 1 || month > 12 || day < 1 ||
        day > days_in_month(year, month) || hour > 23 || minute > 59 || second > 59) {
        return false;
    }
    *ret_ms = ((days_of(year, month, day) * 24 + hour) * 60 + minute) * 60000 + second * 1000;
    return true;
}

/* "Z", "+01:00", "-0530"; nothing may follow. */
static bool zone_take(const char *text, int64_t *ret_ms)
{
    uint32_t hours = 0;
    uint32_t minutes = 0;
    *ret_ms = 0;
    if (sign_take(&text, 'Z') || sign_take(&text, 'z')) {
        return *text == '\0';
    }
    bool west = *text == '-';
    if (!sign_take(&text, '+') && !sign_take(&text, '-')) {
        return false;
    }
    bool good = digits_take(&text, 2, &hours);
    (void)sign_take(&text, ':');
    good = good && digits_take(&text, 2, &minutes) && *text == '\0' && hours < 24 && minutes < 60;
    *ret_ms = ((int64_t)hours * 60 + minutes) * 60000 * (west ? -1 : 1);
    return good;
}

int fm_finish_by_parse(const char *text, struct fm_finish_by *ret_finish_by,
                       struct fm_error *reterr)
{
    const char *at = text;
    size_t length = strlen(text);
    uint64_t ms = 0;
    int64_t zone_ms = 0;
    uint64_t after_ns = 0;
    *ret_finish_by = (struct fm_finish_by){.given = true};
    if (strcmp(text, "none") == 0) {
        return 0;
    }
    if (clock_take(&at, &ms) && zone_take(at, &zone_ms) && (int64_t)ms > zone_ms) {
        ret_finish_by->at_ms = (uint64_t)((int64_t)ms - zone_ms);
        return 0;
    }
    bool unit = length > 0 && (text[length - 1] < '0' || text[length - 1] > '9');
    if (unit && fm_parse_duration_ns(text, &after_ns) == 0 && after_ns >= NS_PER_MS &&
        after_ns / NS_PER_MS <= AFTER_MAX_MS) {
        ret_finish_by->after_ms = after_ns / NS_PER_MS;
        return 0;
    }
    return fm_error_set(reterr, FM_EINVAL,
                        "'%.100s' is no time to finish by: give one with its zone, as "
                        "2026-11-23T06:00:00Z or 2026-11-23T06:00+01:00, or how long after the "
                        "job's begin, as 2h or 90m",
                        text);
}

static int number_read(struct fm_job_store *store, const char *key, bool *ret_there,
                       uint64_t *ret_value, struct fm_error *reterr)
{
    struct fm_text value = {0};
    struct fm_error error = {0};
    int status = store->functions->fact(store, key, &value, &error);
    *ret_there = status == 0 && fm_parse_uint64(value.data, ret_value) == 0;
    fm_text_deinit(&value);
    if (status != 0 && status != FM_ENOTFOUND) {
        *reterr = error;
        return status;
    }
    return 0;
}

int fm_finish_by_settle(struct fm_job_store *store, const struct fm_finish_by *option,
                        const struct fm_finish_by *job_file, uint64_t *ret_at_ms,
                        struct fm_error *reterr)
{
    char text[24];
    const struct fm_job_fact fact = {FM_JOB_NOTE_FINISH_BY, text};
    const struct fm_finish_by *wanted = option->given ? option : job_file;
    bool recorded = false;
    bool begun = false;
    uint64_t begun_ms = 0;
    *ret_at_ms = 0;
    int status = number_read(store, FM_JOB_NOTE_FINISH_BY, &recorded, ret_at_ms, reterr);
    if (status != 0 || (recorded && !option->given) || !wanted->given) {
        return status;
    }
    status = number_read(store, FM_JOB_NOTE_BEGUN, &begun, &begun_ms, reterr);
    if (status != 0) {
        return status;
    }
    *ret_at_ms = wanted->at_ms > 0      ? wanted->at_ms
                 : wanted->after_ms > 0 ? begun_ms + wanted->after_ms
                                        : 0;
    (void)snprintf(text, sizeof(text), "%" PRIu64, *ret_at_ms);
    return store->functions->facts_put(store, &fact, 1, reterr);
}
