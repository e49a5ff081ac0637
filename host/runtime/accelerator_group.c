/*
 * Groups of accelerators. See accelerator_group.h.
 */
#include "host/runtime/accelerator_group.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "host/runtime/backend_registry.h"

#define THREADS_MAX 1024u
#define DEVICE_MAX  1023u
#define HOW         "write [NAME=]KIND:COUNT, such as cpu:4, big=cpu:1x4 (threads), gpu:2@0 (GPU 0)"

static const char *const kinds[] = {"cpu", "gpu", "emulated"};
_Static_assert(FM_COUNT_OF(kinds) == FM_GROUP_KIND_COUNT_, "one name each");

const char *fm_group_kind_name(enum fm_group_kind kind)
{
    FM_ASSERT(kind < FM_GROUP_KIND_COUNT_);
    return kinds[kind];
}

/* --- reading -----------------------------------------------------------------------------------
 */

/* A number up to the end, or up to x or @. */
static bool number_take(const char **at, uint64_t least, uint64_t most, uint32_t *ret_number)
{
    char digits[12];
    size_t length = strspn(*at, "0123456789");
    uint64_t number = 0;
    if (length == 0 || length >= sizeof(digits)) {
        return false;
    }
    memcpy(digits, *at, length);
    digits[length] = '\0';
    *at += length;
    *ret_number = 0;
    if (fm_parse_uint64(digits, &number) != 0 || number < least || number > most) {
        return false;
    }
    *ret_number = (uint32_t)number;
    return true;
}

static bool name_is_valid(const char *name)
{
    size_t length =
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");
    return length > 0 && name[length] == '\0';
}

/* One group: "big=cpu:1x4". */
static int group_read(char *text, struct fm_accelerator_group *group, struct fm_error *reterr)
{
    char *kind = text;
    char *equals = strchr(text, '=');
    *group = (struct fm_accelerator_group){.kind = FM_GROUP_KIND_COUNT_};
    if (equals != NULL) {
        *equals = '\0';
        kind = equals + 1;
        if (!name_is_valid(text) || strlen(text) >= sizeof(group->name)) {
            return fm_error_set(reterr, FM_EINVAL,
                                "'%.40s' is no name of a group of accelerators: up to %u letters, "
                                "digits, '-', '_' and '.'",
                                text, FM_GROUP_NAME_SIZE - 1);
        }
    }
    char *colon = strchr(kind, ':');
    const char *at = colon != NULL ? colon + 1 : "";
    if (colon != NULL) {
        *colon = '\0';
    }
    for (unsigned i = 0; i < FM_GROUP_KIND_COUNT_; i++) {
        if (strcmp(kind, kinds[i]) == 0) {
            group->kind = (enum fm_group_kind)i;
        }
    }
    if (group->kind == FM_GROUP_KIND_COUNT_) {
        return fm_error_set(reterr, FM_EINVAL,
                            "'%.40s' is no kind of accelerators; there are cpu, gpu and emulated. "
                            "For groups, " HOW,
                            kind);
    }
    (void)snprintf(group->name, sizeof(group->name), "%s", equals != NULL ? text : kind);
    if (!number_take(&at, 1, FM_MODEL_INSTANCES_MAX, &group->accelerators)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "group '%s' needs a number of accelerators from 1 to %u: " HOW,
                            group->name, (unsigned)FM_MODEL_INSTANCES_MAX);
    }
    if (*at == 'x' && group->kind == FM_GROUP_CPU) {
        at++;
        if (!number_take(&at, 1, THREADS_MAX, &group->threads)) {
            return fm_error_set(reterr, FM_EINVAL,
                                "group '%s' needs a number of threads from 1 to %u behind the "
                                "'x': " HOW,
                                group->name, THREADS_MAX);
        }
    } else if (*at == '@' && group->kind == FM_GROUP_GPU) {
        at++;
        if (!number_take(&at, 0, DEVICE_MAX, &group->device)) {
            return fm_error_set(reterr, FM_EINVAL,
                                "group '%s' needs the number of a GPU from 0 to %u behind the "
                                "'@': " HOW,
                                group->name, DEVICE_MAX);
        }
    }
    if (*at != '\0') {
        return fm_error_set(reterr, FM_EINVAL, "group '%s': nobody understands '%.40s': " HOW,
                            group->name, at);
    }
    return 0;
}

int fm_accelerator_groups_parse(const char *text, struct fm_accelerator_group groups[FM_GROUPS_MAX],
                                uint32_t *ret_count, struct fm_error *reterr)
{
    uint32_t count = 0;
    for (const char *at = text;;) {
        char part[2 * FM_GROUP_NAME_SIZE + 32];
        size_t length = strcspn(at, ",");
        if (count == FM_GROUPS_MAX || length >= sizeof(part)) {
            return fm_error_set(reterr, FM_EINVAL,
                                count == FM_GROUPS_MAX ? "more than %u groups of accelerators"
                                                       : "a group of accelerators is longer than "
                                                         "%u characters: " HOW,
                                count == FM_GROUPS_MAX ? FM_GROUPS_MAX
                                                       : (unsigned)sizeof(part) - 1);
        }
        memcpy(part, at, length);
        part[length] = '\0';
        int status = group_read(part, &groups[count], reterr);
        if (status != 0) {
            return status;
        }
        for (uint32_t i = 0; i < count; i++) {
            if (strcmp(groups[i].name, groups[count].name) == 0) {
                return fm_error_set(reterr, FM_EINVAL,
                                    "two groups of accelerators are called '%s': name them, such "
                                    "as big=cpu:1x4,small=cpu:4",
                                    groups[i].name);
            }
        }
        count++;
        if (at[length] == '\0') {
            break;
        }
        at += length + 1;
    }
    *ret_count = count;
    return 0;
}

/* --- models and groups -------------------------------------------------------------------------
 */

const char *fm_model_config_provider(const struct fm_model_config *config)
{
    const char *provider = NULL;
    for (size_t i = 0; i < config->device_setting_count; i++) {
        if (strcmp(config->device_settings[i].key, "provider") == 0) {
            provider = config->device_settings[i].value;
        }
    }
    for (size_t i = 0; i < config->setting_count; i++) {
        if (strcmp(config->settings[i].key, "provider") == 0) {
            provider = config->settings[i].value;
        }
    }
    return provider;
}

static bool is_called(const struct fm_accelerator_group *group, const char *name)
{
    return strcmp(group->name, name) == 0 || strcmp(kinds[group->kind], name) == 0;
}

const struct fm_model_group_config *fm_accelerator_group_config(
    const struct fm_model_config *config, const struct fm_accelerator_group *group)
{
    const struct fm_model_group_config *found = NULL;
    for (size_t i = 0; i < config->group_count; i++) {
        /* Its name goes before its kind's. */
        bool exact = strcmp(config->groups[i].name, group->name) == 0;
        if (exact || (found == NULL && is_called(group, config->groups[i].name))) {
            found = &config->groups[i];
        }
    }
    return found;
}

static bool device_is_named(const struct fm_model_config *config, uint32_t device)
{
    for (size_t i = 0; i < config->gpu_count; i++) {
        if (config->gpus[i] == device) {
            return true;
        }
    }
    return config->gpu_count == 0;
}

static uint32_t kinds_of(const struct fm_model_config *config)
{
    const char *provider = fm_model_config_provider(config);
    uint32_t wanted = config->kinds;
    if (provider != NULL) {
        wanted |= 1u << (strcmp(provider, "cpu") == 0 ? FM_GROUP_CPU : FM_GROUP_GPU);
    }
    return wanted;
}

/* "cpu, big (cpu)" */
static void names_list(const struct fm_accelerator_group *groups, uint32_t count, char *text,
                       size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < count && used < size; i++) {
        const char *kind = kinds[groups[i].kind];
        bool own = strcmp(groups[i].name, kind) != 0;
        int length = snprintf(text + used, size - used, "%s%s%s%s%s", i > 0 ? ", " : "",
                              groups[i].name, own ? " (" : "", own ? kind : "", own ? ")" : "");
        used += length > 0 ? (size_t)length : 0;
    }
}

static int names_check(const struct fm_model_config *config,
                       const struct fm_accelerator_group *groups, uint32_t count,
                       struct fm_error *reterr)
{
    char list[FM_GROUPS_MAX * (FM_GROUP_NAME_SIZE + 12)];
    for (size_t i = 0; i < config->group_count; i++) {
        bool found = false;
        for (uint32_t k = 0; k < count; k++) {
            found = found || is_called(&groups[k], config->groups[i].name);
        }
        if (!found) {
            names_list(groups, count, list, sizeof(list));
            return fm_error_set(reterr, FM_EINVAL,
                                "model '%s' names accelerators '%.60s', but there are only %s "
                                "(--accelerators)",
                                config->name, config->groups[i].name, list);
        }
    }
    return 0;
}

int fm_accelerator_groups_match(const struct fm_model_config *config,
                                const struct fm_accelerator_group *groups, uint32_t count,
                                bool ret_allowed[FM_GROUPS_MAX], struct fm_error *reterr)
{
    const struct fm_backend *backend = NULL;
    int status = fm_backend_find(config->backend, &backend, reterr);
    status = status != 0 ? status : names_check(config, groups, count, reterr);
    if (status != 0) {
        return status;
    }
    bool blocks =
        backend->struct_size >= offsetof(struct fm_backend, execute) + sizeof(backend->execute) &&
        backend->execute != NULL;
    uint32_t wanted = kinds_of(config);
    bool others = false; /* than GPUs, for who does not say what it wants */
    bool any = false;
    for (uint32_t i = 0; i < count; i++) {
        others = others || groups[i].kind == FM_GROUP_CPU ||
                 (groups[i].kind == FM_GROUP_EMULATED && !blocks);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct fm_accelerator_group *group = &groups[i];
        bool good = config->group_count > 0 ? fm_accelerator_group_config(config, group) != NULL
                    : wanted != 0           ? (wanted >> group->kind & 1) != 0
                                            : group->kind != FM_GROUP_GPU || !others;
        good = good && (group->kind != FM_GROUP_GPU || device_is_named(config, group->device));
        ret_allowed[i] = good && (group->kind != FM_GROUP_EMULATED || !blocks);
        any = any || ret_allowed[i];
    }
    if (any) {
        return 0;
    }
    char list[FM_GROUPS_MAX * (FM_GROUP_NAME_SIZE + 12)];
    names_list(groups, count, list, sizeof(list));
    return fm_error_set(
        reterr, FM_EINVAL,
        "model '%s' may use none of the accelerators: there are %s (--accelerators), and %s",
        config->name, list,
        config->group_count > 0 ? "its configuration names others, or its backend cannot use those"
        : (wanted >> FM_GROUP_GPU & 1) != 0
            ? "its configuration asks for a GPU that is not among them"
        : wanted != 0 ? "its configuration asks for the CPU"
                      : "its backend cannot use those");
}

/* --- stages and groups -------------------------------------------------------------------------
 */

int fm_stage_groups_read(const struct fm_config *node, struct fm_arena *arena,
                         struct fm_stage_groups *ret_groups, struct fm_error *reterr)
{
    if (node == NULL || node->kind == FM_CONFIG_NULL) {
        return 0;
    }
    size_t count = node->kind == FM_CONFIG_SEQUENCE ? node->count : 1;
    if (node->kind == FM_CONFIG_MAPPING || count == 0 || count > FM_GROUPS_MAX) {
        return fm_config_error(node, reterr,
                               "the accelerators of a stage are the name of a group, or a list of "
                               "1 to %u of them, such as [front, back]",
                               FM_GROUPS_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        const struct fm_config *child =
            node->kind == FM_CONFIG_SEQUENCE ? &node->children[i] : node;
        int status = fm_config_expect(child, FM_CONFIG_SCALAR, reterr);
        if (status != 0) {
            return status;
        }
        if (!name_is_valid(child->text) || strlen(child->text) >= FM_GROUP_NAME_SIZE) {
            return fm_config_error(child, reterr,
                                   "'%.40s' is no name of a group of accelerators: up to %u "
                                   "letters, digits, '-', '_' and '.'",
                                   child->text, FM_GROUP_NAME_SIZE - 1);
        }
        for (size_t k = 0; k < i; k++) {
            if (strcmp(ret_groups->names[k], child->text) == 0) {
                return fm_config_error(child, reterr, "the accelerators '%s' are named twice",
                                       child->text);
            }
        }
        ret_groups->names[i] = fm_arena_strdup(arena, child->text);
        if (ret_groups->names[i] == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "%s: out of memory", node->file);
        }
        ret_groups->name_count++;
    }
    return 0;
}

int fm_stage_groups_narrow(const struct fm_stage_groups *wanted,
                           const struct fm_accelerator_group *groups, uint32_t count,
                           bool allowed[FM_GROUPS_MAX], struct fm_error *reterr)
{
    char list[FM_GROUPS_MAX * (FM_GROUP_NAME_SIZE + 12)];
    bool named[FM_GROUPS_MAX] = {false};
    bool any = false;
    names_list(groups, count, list, sizeof(list));
    for (uint32_t i = 0; i < wanted->name_count; i++) {
        bool found = false;
        for (uint32_t k = 0; k < count; k++) {
            bool here = is_called(&groups[k], wanted->names[i]);
            named[k] = named[k] || here;
            found = found || here;
        }
        if (!found) {
            return fm_error_set(reterr, FM_EINVAL,
                                "it is to run on accelerators '%s', but there are only %s",
                                wanted->names[i], list);
        }
    }
    for (uint32_t k = 0; k < count && wanted->name_count > 0; k++) {
        allowed[k] = allowed[k] && named[k];
        any = any || allowed[k];
    }
    return any || wanted->name_count == 0
               ? 0
               : fm_error_set(reterr, FM_EINVAL,
                              "it is to run on accelerators that its model may not use: there are "
                              "%s, and the model names others, or its backend or device is not "
                              "for these",
                              list);
}
