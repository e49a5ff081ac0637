/*
 * Fault points. See fault.h.
 */
#include "engines/batch/fault.h"

#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "host/os/stop_signal.h"

static const struct {
    const char *name;
    const char *where;
} points[FM_FAULT_COUNT_] = {
#define FM_FAULT_ROW(name, text, where) {text, where},
    FM_FAULT_TABLE(FM_FAULT_ROW)
#undef FM_FAULT_ROW
};

const char *fm_fault_name(enum fm_fault_point point)
{
    FM_ASSERT((unsigned)point < FM_FAULT_COUNT_);
    return points[point].name;
}

const char *fm_fault_where(enum fm_fault_point point)
{
    FM_ASSERT((unsigned)point < FM_FAULT_COUNT_);
    return points[point].where;
}

int fm_fault_parse(const char *text, struct fm_fault *ret_fault, struct fm_error *reterr)
{
    char name[64];
    const char *names[FM_FAULT_COUNT_];
    size_t length = strcspn(text, ":");
    uint64_t count = 1;
    int failure = 0;
    for (size_t i = 0; i < FM_FAULT_COUNT_; i++) {
        names[i] = points[i].name;
    }
    (void)snprintf(name, sizeof(name), "%.*s", (int)(length < 60 ? length : 60), text);
    for (const char *rest = text + length; *rest == ':';) {
        char word[32];
        size_t word_length = strcspn(rest + 1, ":");
        (void)snprintf(word, sizeof(word), "%.*s", (int)(word_length < 30 ? word_length : 30),
                       rest + 1);
        if (strcmp(word, "error") == 0) {
            failure = FM_ENOSPC;
        } else if (strcmp(word, "memory") == 0) {
            failure = FM_ENOMEM;
        } else if (fm_parse_uint64(word, &count) != 0 || count == 0) {
            return fm_error_set(
                reterr, FM_EINVAL,
                "'%s': expected POINT, POINT:N, POINT:N:error or POINT:N:memory with N at "
                "least 1",
                text);
        }
        rest += 1 + word_length;
    }
    for (size_t i = 0; i < FM_FAULT_COUNT_; i++) {
        if (strcmp(name, names[i]) == 0) {
            ret_fault->point = (enum fm_fault_point)i;
            ret_fault->status = failure;
            atomic_store(&ret_fault->countdown, count);
            return 0;
        }
    }
    const char *near = fm_text_suggest(name, names, FM_FAULT_COUNT_);
    return fm_error_set(
        reterr, FM_EINVAL, "unknown fault point '%s'%s%s%s; docs/batch.md lists them", name,
        near != NULL ? "; did you mean '" : "", near != NULL ? near : "", near != NULL ? "'" : "");
}

int fm_fault_hit(struct fm_fault *fault, enum fm_fault_point point, struct fm_error *reterr)
{
    if (fault == NULL || fault->point != point) {
        return 0;
    }
    uint_fast64_t left = atomic_load(&fault->countdown);
    while (left > 0 && !atomic_compare_exchange_weak(&fault->countdown, &left, left - 1)) {
    }
    if (left != 1) {
        return 0;
    }
    if (fault->status != 0) {
        return fm_error_set(reterr, fault->status, "%s (injected at '%s')",
                            fault->status == FM_ENOSPC ? "no space left on the device"
                                                       : "out of memory",
                            points[point].name);
    }
    fm_stop_at_once();
}
