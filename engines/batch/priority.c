/*
 * Which inputs are done first. See priority.h.
 */
#include "engines/batch/priority.h"

#include <string.h>

#include "core/ledger/ledger.h"
#include "engines/batch/glob.h"

static bool is_or_is_below(const char *directory, const char *id)
{
    size_t length = strlen(directory);
    while (length > 0 && directory[length - 1] == '/') {
        length--;
    }
    return length > 0 && strncmp(id, directory, length) == 0 &&
           (id[length] == '\0' || id[length] == '/');
}

/* Absolute ids and addresses match as a whole, from their first slash on. */
static bool matches(const char *pattern, const char *id)
{
    while (*pattern == '/' && *id == '/') {
        pattern++;
        id++;
    }
    return fm_glob_is_pattern(pattern) ? *id != '/' && fm_glob_matches(pattern, id)
                                       : is_or_is_below(pattern, id);
}

uint32_t fm_priority_rank(const struct fm_job *job, const char *id)
{
    for (uint32_t i = 0; i < job->priority_count; i++) {
        if (matches(job->priority[i], id)) {
            return i;
        }
    }
    return FM_LEDGER_RANK_LAST;
}
