/*
 * Growing lists in a model configuration's arena. See model_description.h.
 */
#include "host/runtime/model_description.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "host/os/file.h"

void fm_model_description_init(struct fm_model_description *description,
                               struct fm_model_config *config, const char *directory,
                               const char *expected_name)
{
    *description = (struct fm_model_description){.config = config,
                                                 .directory = directory,
                                                 .expected_name = expected_name,
                                                 .policy = FM_VERSIONS_LATEST,
                                                 .latest_count = 1};
}

int fm_model_description_copy(struct fm_model_description *description, const char *text,
                              const char **ret_copy)
{
    *ret_copy = fm_arena_strdup(&description->config->arena, text);
    return *ret_copy != NULL ? 0 : FM_ENOMEM;
}

bool fm_model_description_may_name(const struct fm_model_description *description, const char *path)
{
    if (!description->sent) {
        return true;
    }
    for (const char *at = path; at != NULL; at = strchr(at, '/')) {
        at += *at == '/' ? 1 : 0;
        size_t length = strcspn(at, "/");
        if (length == 2 && at[0] == '.' && at[1] == '.') {
            return false;
        }
    }
    return path[0] != '/';
}

int fm_model_description_path(struct fm_model_description *description, const char *text,
                              const char **ret_path)
{
    char path[4096];
    int status = fm_path_join(path, sizeof(path), description->directory, text);
    return status == 0 ? fm_model_description_copy(description, path, ret_path) : status;
}

int fm_model_description_note(struct fm_model_description *description, const char *format, ...)
{
    struct fm_model_config *config = description->config;
    char text[FM_ERROR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (config->note_count >= FM_MODEL_LIST_MAX) {
        return 0; /* nobody reads more than the first thousands of notes */
    }
    /* The list doubles at every power of two. */
    if ((config->note_count & (config->note_count - 1)) == 0) {
        size_t capacity = config->note_count == 0 ? 1 : config->note_count * 2;
        char **grown = fm_arena_alloc(&config->arena, capacity * sizeof(*grown));
        if (grown == NULL) {
            return FM_ENOMEM;
        }
        if (config->note_count > 0) {
            memcpy(grown, config->notes, config->note_count * sizeof(*grown));
        }
        config->notes = grown;
    }
    char *copy = fm_arena_strdup(&config->arena, text);
    if (copy == NULL) {
        return FM_ENOMEM;
    }
    config->notes[config->note_count++] = copy;
    return 0;
}

/* Replaces the setting or appends it. */
static int setting_put(struct fm_arena *arena, struct fm_setting **settings, size_t *count,
                       const char *key, const char *value)
{
    struct fm_setting fresh = {.key = fm_arena_strdup(arena, key),
                               .value = fm_arena_strdup(arena, value)};
    if (fresh.key == NULL || fresh.value == NULL) {
        return FM_ENOMEM;
    }
    for (size_t i = 0; i < *count; i++) {
        if (strcmp((*settings)[i].key, key) == 0) {
            (*settings)[i] = fresh;
            return 0;
        }
    }
    struct fm_setting *grown = fm_arena_alloc(arena, (*count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return FM_ENOMEM;
    }
    if (*count > 0) {
        memcpy(grown, *settings, *count * sizeof(*grown));
    }
    grown[(*count)++] = fresh;
    *settings = grown;
    return 0;
}

int fm_model_description_set(struct fm_model_description *description, const char *key,
                             const char *value)
{
    struct fm_model_config *config = description->config;
    return setting_put(&config->arena, &config->settings, &config->setting_count, key, value);
}

int fm_model_description_set_device(struct fm_model_description *description, const char *key,
                                    const char *value)
{
    struct fm_model_config *config = description->config;
    return setting_put(&config->arena, &config->device_settings, &config->device_setting_count, key,
                       value);
}
