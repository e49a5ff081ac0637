/*
 * Files against one another. See file_arguments.h.
 */
#include "cmd/file_arguments.h"

#include <string.h>

#include "core/util/error.h"
#include "host/os/file.h"
#include "host/os/standard_files.h"

static bool can_be_lost(const char *path)
{
    struct fm_file_facts facts;
    return fm_file_stat(path, &facts, NULL) == 0 &&
           (facts.kind == FM_FILE_REGULAR || facts.kind == FM_FILE_ABSENT);
}

static int pair_check(const struct fm_file_argument *one, const struct fm_file_argument *other,
                      struct fm_error *reterr)
{
    const struct fm_file_argument *written = other->written ? other : one;
    const struct fm_file_argument *kept = other->written ? one : other;
    if (!written->written || !can_be_lost(written->path) ||
        !fm_file_is_same(written->path, kept->path)) {
        return 0;
    }
    return kept->written
               ? fm_error_set(reterr, FM_EINVAL,
                              "%s and %s are the same file, '%s': give each its own", kept->name,
                              written->name, written->path)
               : fm_error_set(reterr, FM_EINVAL,
                              "%s would overwrite %s: both are the file '%s'; write to another one",
                              written->name, kept->name, kept->path);
}

int fm_file_arguments_check(const struct fm_file_argument *files, size_t count,
                            struct fm_error *reterr)
{
    int status = 0;
    for (size_t i = 0; status == 0 && i < count; i++) {
        if (files[i].path == NULL) {
            continue;
        }
        if (files[i].written && strcmp(files[i].path, "-") == 0) {
            return fm_error_set(reterr, FM_EINVAL,
                                "%s: '-' is not a file; write /dev/stdout for standard output, or "
                                "./- for a file of that name",
                                files[i].name);
        }
        for (size_t j = 0; status == 0 && j < i; j++) {
            status = files[j].path != NULL ? pair_check(&files[j], &files[i], reterr) : 0;
        }
    }
    return status;
}

int fm_file_argument_fail(const struct fm_call *call, const char *path,
                          const struct fm_error *error)
{
    return fm_file_is_same(path, "/dev/stdout") && fm_standard_output_abandoned()
               ? FM_EXIT_ABANDONED
               : fm_call_fail(call, error);
}
