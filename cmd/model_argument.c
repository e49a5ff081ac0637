/*
 * Finding the model that the command line means. See model_argument.h.
 */
#include "cmd/model_argument.h"

#include <inttypes.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/text.h"

enum { NAMES_SHOWN_MAX = 10 };

/* "det, rec, cls" of the entries, cut after NAMES_SHOWN_MAX. */
static void names_append(const struct fm_repository *repository, struct fm_text *text)
{
    for (size_t i = 0; i < repository->count && i < NAMES_SHOWN_MAX; i++) {
        fm_text_append_format(text, "%s%s", i == 0 ? "" : ", ", repository->entries[i].name);
    }
    if (repository->count > NAMES_SHOWN_MAX) {
        fm_text_append_format(text, " and %zu more", repository->count - NAMES_SHOWN_MAX);
    }
}

static int entry_find(const struct fm_repository *repository, const char *path, const char *name,
                      struct fm_repository_entry **ret_entry, struct fm_error *reterr)
{
    if (name == NULL && repository->count == 1) {
        *ret_entry = &repository->entries[0];
        return 0;
    }
    const char *candidates[256];
    size_t count = 0;
    for (size_t i = 0; name != NULL && i < repository->count; i++) {
        if (strcmp(repository->entries[i].name, name) == 0) {
            *ret_entry = &repository->entries[i];
            return 0;
        }
        if (count < sizeof candidates / sizeof candidates[0]) {
            candidates[count++] = repository->entries[i].name;
        }
    }
    struct fm_text names = {0};
    names_append(repository, &names);
    const char *list = names.failed || names.data == NULL ? "" : names.data;
    const char *suggestion = name != NULL ? fm_text_suggest(name, candidates, count) : NULL;
    int status = 0;
    if (repository->count == 0) {
        status = fm_error_set(reterr, FM_ENOTFOUND,
                              "'%s' holds no model; a model lies in %s/<name>/<version>/model.onnx",
                              path, path);
    } else if (name == NULL) {
        status =
            fm_error_set(reterr, FM_EINVAL, "'%s' holds %zu models: say which with --model (%s)",
                         path, repository->count, list);
    } else if (suggestion != NULL) {
        status = fm_error_set(reterr, FM_ENOTFOUND, "'%s' has no model '%s'; did you mean '%s'?",
                              path, name, suggestion);
    } else {
        status = fm_error_set(reterr, FM_ENOTFOUND, "'%s' has no model '%s'; it has %s", path, name,
                              list);
    }
    fm_text_deinit(&names);
    return status;
}

int fm_model_argument_open(const struct fm_call *call, const char *path,
                           struct fm_repository *ret_repository,
                           struct fm_repository_entry **ret_entry, struct fm_error *reterr)
{
    int status = fm_repository_open(path, ret_repository, reterr);
    if (status != 0) {
        return status;
    }
    status = entry_find(ret_repository, path, fm_call_string(call, "model"), ret_entry, reterr);
    if (status == 0 && (*ret_entry)->error.status != 0) {
        status = fm_error_set(reterr, (*ret_entry)->error.status, "%s", (*ret_entry)->error.text);
    }
    if (status != 0) {
        fm_repository_close(ret_repository);
    }
    return status;
}

int fm_model_argument_config(const struct fm_call *call, const struct fm_repository_entry *entry,
                             struct fm_model_config **ret_config, struct fm_error *reterr)
{
    uint64_t version = (uint64_t)fm_call_integer(call, "model-version");
    if (entry->version_count == 0) {
        return fm_error_set(reterr, FM_ENOTFOUND, "model '%s' has no version to load", entry->name);
    }
    for (size_t i = 0; i < entry->version_count; i++) {
        if (entry->versions[i].version == version) {
            *ret_config = &entry->versions[i];
            return 0;
        }
    }
    if (version != 0) {
        return fm_error_set(
            reterr, FM_ENOTFOUND, "model '%s' has no version %" PRIu64 "; its highest is %" PRIu64,
            entry->name, version, entry->versions[entry->version_count - 1].version);
    }
    *ret_config = &entry->versions[entry->version_count - 1];
    return 0;
}
