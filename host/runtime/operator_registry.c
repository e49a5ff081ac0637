/*
 * Operators by name, instances, and the call machinery between the host and an operator. See
 * operator_registry.h.
 *
 * The list of known operators only grows: a lock serialises those who add, and readers see a count
 * that is published last.
 */
#include "host/runtime/operator_registry.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/os/file.h"
#include "host/os/thread.h"
#include "host/runtime/backend_registry.h"
#include "host/runtime/operators/table.h"

/* Limits on what a plug-in may declare: far above anything sensible, so that a wild count is an
 * error and not a crash. */
enum {
    PLUGIN_OPERATORS_MAX = 256,
    OPERATORS_MAX = 1024,
    PARAMETERS_MAX = 64,
    PORTS_MAX = 64,
    NAME_LENGTH_MAX = 64,
    PATH_SIZE = 4096,
    CALL_TENSORS_ON_STACK = 24,
};

/* --- Tables --- */

struct registered {
    const struct fm_operator *operator_;
    const struct fm_operator_plugin *plugin;
};

static struct fm_mutex registry_mutex = {PTHREAD_MUTEX_INITIALIZER};
static struct registered registry[OPERATORS_MAX];
static atomic_size_t registry_count;

static bool name_is_good(const char *name)
{
    if (name == NULL || name[0] < 'a' || name[0] > 'z') {
        return false;
    }
    size_t length = strnlen(name, NAME_LENGTH_MAX + 1);
    return length <= NAME_LENGTH_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == length;
}

static int parameters_check(const struct fm_operator *operator_, const char *origin,
                            struct fm_error *reterr)
{
    const struct fm_operator_parameter *parameters = operator_->parameters;
    for (size_t i = 0; parameters != NULL && parameters[i].name != NULL; i++) {
        if (i == PARAMETERS_MAX) {
            return fm_error_set(reterr, FM_EABI,
                                "%s: operator '%s' has more than %d parameters, or its list does "
                                "not end with a NULL name",
                                origin, operator_->name, PARAMETERS_MAX);
        }
        if (!name_is_good(parameters[i].name) || parameters[i].help == NULL) {
            return fm_error_set(reterr, FM_EABI, "%s: parameter %zu of operator '%s' has %s",
                                origin, i, operator_->name,
                                parameters[i].help == NULL ? "no help text"
                                                           : "a name that is not [a-z][a-z0-9_]*");
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(parameters[i].name, parameters[j].name) == 0) {
                return fm_error_set(reterr, FM_EABI, "%s: operator '%s' has two parameters '%s'",
                                    origin, operator_->name, parameters[i].name);
            }
        }
    }
    return 0;
}

/* A table of this version has the function. */
#define HAS(operator_, function)                                                   \
    ((operator_)->struct_size >=                                                   \
         offsetof(struct fm_operator, function) + sizeof((operator_)->function) && \
     (operator_)->function != NULL)
/* Of version 1.0. */
#define OPERATOR_SIZE_MIN offsetof(struct fm_operator, info)

static int operator_check(const struct fm_operator *operator_, size_t index, const char *origin,
                          struct fm_error *reterr)
{
    if (operator_ == NULL) {
        return fm_error_set(reterr, FM_EABI, "%s: operator %zu is NULL", origin, index);
    }
    if (operator_->struct_size < OPERATOR_SIZE_MIN) {
        return fm_error_set(
            reterr, FM_EABI, "%s: the table of operator %zu has %u bytes, version %d.0 has %zu",
            origin, index, operator_->struct_size, FM_OPERATOR_ABI_MAJOR, OPERATOR_SIZE_MIN);
    }
    if (operator_->abi_major != FM_OPERATOR_ABI_MAJOR) {
        return fm_error_set(reterr, FM_EABI,
                            "%s: operator %zu is built for operator ABI %u.%u, this program has "
                            "%d.%d; rebuild the plug-in",
                            origin, index, operator_->abi_major, operator_->abi_minor,
                            FM_OPERATOR_ABI_MAJOR, FM_OPERATOR_ABI_MINOR);
    }
    if (!name_is_good(operator_->name)) {
        return fm_error_set(reterr, FM_EABI,
                            "%s: operator %zu has no name of the form [a-z][a-z0-9_]* of at most "
                            "%d characters",
                            origin, index, NAME_LENGTH_MAX);
    }
    if (operator_->summary == NULL || operator_->create == NULL || operator_->destroy == NULL ||
        operator_->ports == NULL || operator_->run == NULL) {
        return fm_error_set(reterr, FM_EABI, "%s: operator '%s' lacks %s", origin, operator_->name,
                            operator_->summary == NULL   ? "a summary"
                            : operator_->create == NULL  ? "create()"
                            : operator_->destroy == NULL ? "destroy()"
                            : operator_->ports == NULL   ? "ports()"
                                                         : "run()");
    }
    return parameters_check(operator_, origin, reterr);
}

int fm_operator_plugin_check(const struct fm_operator_plugin *plugin, const char *origin,
                             struct fm_error *reterr)
{
    if (plugin == NULL) {
        return fm_error_set(reterr, FM_EABI,
                            "%s: the plug-in refused operator ABI %d.%d of this program; rebuild "
                            "the plug-in",
                            origin, FM_OPERATOR_ABI_MAJOR, FM_OPERATOR_ABI_MINOR);
    }
    if (plugin->struct_size < sizeof(struct fm_operator_plugin)) {
        return fm_error_set(reterr, FM_EABI,
                            "%s: the plug-in's table has %u bytes, version %d.%d has %zu", origin,
                            plugin->struct_size, FM_OPERATOR_ABI_MAJOR, FM_OPERATOR_ABI_MINOR,
                            sizeof(struct fm_operator_plugin));
    }
    if (plugin->abi_major != FM_OPERATOR_ABI_MAJOR) {
        return fm_error_set(reterr, FM_EABI,
                            "%s: the plug-in is built for operator ABI %u.%u, this program has "
                            "%d.%d; rebuild the plug-in",
                            origin, plugin->abi_major, plugin->abi_minor, FM_OPERATOR_ABI_MAJOR,
                            FM_OPERATOR_ABI_MINOR);
    }
    if (!name_is_good(plugin->name)) {
        return fm_error_set(reterr, FM_EABI,
                            "%s: the plug-in has no name of the form [a-z][a-z0-9_]*", origin);
    }
    if (plugin->operators == NULL || plugin->operator_count == 0 ||
        plugin->operator_count > PLUGIN_OPERATORS_MAX) {
        return fm_error_set(
            reterr, FM_EABI, "%s: the plug-in lists %zu operators; 1 to %d are possible", origin,
            plugin->operators == NULL ? 0 : plugin->operator_count, PLUGIN_OPERATORS_MAX);
    }
    for (size_t i = 0; i < plugin->operator_count; i++) {
        int status = operator_check(plugin->operators[i], i, origin, reterr);
        if (status != 0) {
            return status;
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(plugin->operators[i]->name, plugin->operators[j]->name) == 0) {
                return fm_error_set(reterr, FM_EABI, "%s: the plug-in has two operators '%s'",
                                    origin, plugin->operators[i]->name);
            }
        }
    }
    return 0;
}

/* The built-ins come first, then what was registered. */
static const struct registered *registered_at(size_t index, struct registered *builtin)
{
    if (index < fm_operators_builtin.operator_count) {
        *builtin =
            (struct registered){fm_operators_builtin.operators[index], &fm_operators_builtin};
        return builtin;
    }
    index -= fm_operators_builtin.operator_count;
    return index < atomic_load_explicit(&registry_count, memory_order_acquire) ? &registry[index]
                                                                               : NULL;
}

const struct fm_operator *fm_operator_at(size_t index)
{
    struct registered builtin;
    const struct registered *entry = registered_at(index, &builtin);
    return entry != NULL ? entry->operator_ : NULL;
}

static const struct registered *registered_find(const char *name, struct registered *builtin)
{
    const struct registered *entry = NULL;
    for (size_t i = 0; (entry = registered_at(i, builtin)) != NULL; i++) {
        if (strcmp(entry->operator_->name, name) == 0) {
            return entry;
        }
    }
    return NULL;
}

/* --- Loading --- */

/* Adds a checked table; the lock is held. *ret_known: it was there already. */
static int registry_add_locked(const struct fm_operator_plugin *plugin, const char *origin,
                               bool *ret_known, struct fm_error *reterr)
{
    size_t count = atomic_load(&registry_count);
    *ret_known = false;
    for (size_t i = 0; i < count; i++) {
        if (registry[i].plugin == plugin) {
            *ret_known = true;
            return 0;
        }
    }
    for (size_t i = 0; i < plugin->operator_count; i++) {
        struct registered builtin;
        const struct registered *other = registered_find(plugin->operators[i]->name, &builtin);
        if (other != NULL) {
            return fm_error_set(reterr, FM_EEXIST,
                                "%s: operator '%s' exists already in plug-in '%s'; rename one",
                                origin, plugin->operators[i]->name, other->plugin->name);
        }
    }
    if (plugin->operator_count > OPERATORS_MAX - count) {
        return fm_error_set(reterr, FM_ELIMIT, "%s: more than %d operators are loaded", origin,
                            OPERATORS_MAX);
    }
    for (size_t i = 0; i < plugin->operator_count; i++) {
        registry[count + i] = (struct registered){plugin->operators[i], plugin};
    }
    atomic_store_explicit(&registry_count, count + plugin->operator_count, memory_order_release);
    return 0;
}

static int library_load(const char *path, struct fm_error *reterr)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        const char *reason = dlerror();
        struct fm_file_facts facts;
        int status = fm_file_stat(path, &facts, NULL);
        return fm_error_set(reterr,
                            status == 0 && facts.kind == FM_FILE_ABSENT ? FM_ENOTFOUND : FM_EABI,
                            "cannot load operator plug-in %s: %s", path,
                            reason != NULL ? reason : "unknown reason");
    }
    /* ISO C has no cast from object to function pointer; POSIX promises that this one works. */
    fm_operator_entry_function entry = NULL;
    *(void **)(void *)&entry = dlsym(library, FM_OPERATOR_ENTRY_SYMBOL);
    bool known = false;
    int status = 0;
    if (entry == NULL) {
        status = fm_error_set(reterr, FM_EABI, "%s is no operator plug-in: it does not export %s()",
                              path, FM_OPERATOR_ENTRY_SYMBOL);
    } else {
        const struct fm_operator_plugin *plugin =
            entry(FM_OPERATOR_ABI_MAJOR, FM_OPERATOR_ABI_MINOR);
        status = fm_operator_plugin_check(plugin, path, reterr);
        if (status == 0) {
            status = registry_add_locked(plugin, path, &known, reterr);
        }
    }
    /* A registered plug-in stays loaded until the process ends: its tables are in use. */
    if (status != 0 || known) {
        (void)dlclose(library);
    }
    return status;
}

int fm_operator_plugin_load(const char *name_or_path, struct fm_error *reterr)
{
    char path[PATH_SIZE];
    if (strchr(name_or_path, '/') != NULL) {
        if (strlen(name_or_path) >= sizeof(path)) {
            return fm_error_set(reterr, FM_ETOOLARGE,
                                "the path of an operator plug-in is longer "
                                "than %zu bytes",
                                sizeof(path) - 1);
        }
        memcpy(path, name_or_path, strlen(name_or_path) + 1);
    } else {
        int status = fm_plugin_locate("fm_operator_", name_or_path, path, sizeof(path), reterr);
        if (status != 0) {
            return status;
        }
    }
    fm_mutex_lock(&registry_mutex);
    int status = library_load(path, reterr);
    fm_mutex_unlock(&registry_mutex);
    return status;
}

int fm_operator_find(const char *name, const struct fm_operator **ret_operator,
                     struct fm_error *reterr)
{
    struct registered builtin;
    const struct registered *entry = registered_find(name, &builtin);
    if (entry != NULL) {
        *ret_operator = entry->operator_;
        return 0;
    }
    unsigned best = 1 + (unsigned)strnlen(name, NAME_LENGTH_MAX) / 4;
    const char *near = NULL;
    for (size_t i = 0; (entry = registered_at(i, &builtin)) != NULL; i++) {
        unsigned distance = fm_text_distance(name, entry->operator_->name);
        if (distance <= best && (near == NULL || distance < best)) {
            best = distance;
            near = entry->operator_->name;
        }
    }
    if (near != NULL) {
        return fm_error_set(reterr, FM_ENOTFOUND, "no operator '%s'; did you mean '%s'?", name,
                            near);
    }
    return fm_error_set(reterr, FM_ENOTFOUND,
                        "no operator '%s'; if it is in a plug-in, list the plug-in under "
                        "'plugins:'",
                        name);
}

/* --- Instances --- */

struct fm_operator_instance {
    const struct fm_operator *operator_;
    void *state;
    bool created;
    const struct fm_port *inputs;
    const struct fm_port *outputs;
    uint32_t input_count;
    uint32_t output_count;
    struct fm_arena arena; /* paths */
    const char *paths[PARAMETERS_MAX];
    size_t path_count;
};

static bool is_path(const char *parameter)
{
    size_t length = strlen(parameter);
    return (length >= 5 && strcmp(parameter + length - 5, "_path") == 0) ||
           (length >= 4 && strcmp(parameter + length - 4, "file") == 0);
}

static int settings_known(const struct fm_operator *operator_, const struct fm_setting *settings,
                          size_t setting_count, size_t parameter_count, struct fm_error *reterr)
{
    for (size_t i = 0; i < setting_count; i++) {
        const char *names[PARAMETERS_MAX];
        bool found = false;
        for (size_t j = 0; j < parameter_count; j++) {
            names[j] = operator_->parameters[j].name;
            found = found || strcmp(names[j], settings[i].key) == 0;
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(settings[i].key, settings[j].key) == 0) {
                return fm_error_set(reterr, FM_EINVAL,
                                    "operator '%s': parameter '%s' is given twice", operator_->name,
                                    settings[i].key);
            }
        }
        if (!found) {
            const char *near = fm_text_suggest(settings[i].key, names, parameter_count);
            return fm_error_set(reterr, FM_EINVAL, "operator '%s' has no parameter '%s'%s%s%s",
                                operator_->name, settings[i].key,
                                near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                                near != NULL ? "'?" : "");
        }
    }
    return 0;
}

/* The path that a parameter names, kept by the instance. */
static int path_keep(struct fm_operator_instance *instance, const char *base_directory,
                     const struct fm_operator_parameter *parameter, const char *value,
                     const char **ret_path, struct fm_error *reterr)
{
    char joined[PATH_SIZE];
    const char *path = value;
    if (base_directory != NULL) {
        if (fm_path_join(joined, sizeof(joined), base_directory, value) != 0) {
            return fm_error_set(reterr, FM_ETOOLARGE,
                                "operator '%s': the path in parameter '%s' is too long",
                                instance->operator_->name, parameter->name);
        }
        path = joined;
    }
    path = fm_arena_strdup(&instance->arena, path);
    if (path == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "operator '%s': out of memory",
                            instance->operator_->name);
    }
    instance->paths[instance->path_count++] = path;
    *ret_path = path;
    return 0;
}

/* Every declared parameter in order, from the settings or its default, paths resolved; strings are
 * the instance's or borrowed. */
static int settings_complete(struct fm_operator_instance *instance,
                             const struct fm_setting *settings, size_t setting_count,
                             const char *base_directory, struct fm_setting *complete,
                             size_t parameter_count, struct fm_error *reterr)
{
    const struct fm_operator *operator_ = instance->operator_;
    for (size_t i = 0; i < parameter_count; i++) {
        const struct fm_operator_parameter *parameter = &operator_->parameters[i];
        const char *value = parameter->default_value;
        for (size_t j = 0; j < setting_count; j++) {
            if (strcmp(settings[j].key, parameter->name) == 0) {
                value = settings[j].value;
            }
        }
        if (value == NULL) {
            return fm_error_set(reterr, FM_EINVAL, "operator '%s' needs the parameter '%s': %s",
                                operator_->name, parameter->name, parameter->help);
        }
        if (is_path(parameter->name) && value[0] != '\0') {
            int status = path_keep(instance, base_directory, parameter, value, &value, reterr);
            if (status != 0) {
                return status;
            }
        }
        complete[i] = (struct fm_setting){parameter->name, value};
    }
    return 0;
}

static int port_list_check(const struct fm_operator *operator_, const struct fm_port *ports,
                           uint32_t count, const char *side, struct fm_error *reterr)
{
    if (count > PORTS_MAX || (count > 0 && ports == NULL)) {
        return fm_error_set(reterr, FM_EABI, "operator '%s' declares %u %ss%s; at most %d can be",
                            operator_->name, count, side, ports == NULL ? " but no list" : "",
                            PORTS_MAX);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct fm_port *port = &ports[i];
        bool good = name_is_good(port->name) && port->dtype < FM_DTYPE_COUNT_ && port->rank >= -1 &&
                    port->rank <= FM_RANK_MAX;
        for (int32_t j = 0; good && j < port->rank; j++) {
            good = port->shape[j] >= -1;
        }
        for (uint32_t j = 0; good && j < i; j++) {
            good = strcmp(port->name, ports[j].name) != 0;
        }
        if (!good) {
            return fm_error_set(reterr, FM_EABI,
                                "operator '%s' declares a bad %s %u: names must be unique and "
                                "[a-z][a-z0-9_]*, data type, rank and shape valid",
                                operator_->name, side, i);
        }
    }
    return 0;
}

static int instance_ports(struct fm_operator_instance *instance, struct fm_error *reterr)
{
    const struct fm_operator *operator_ = instance->operator_;
    int status = operator_->ports(instance->state, &instance->inputs, &instance->input_count,
                                  &instance->outputs, &instance->output_count);
    if (status != 0) {
        return fm_error_set(reterr, status, "operator '%s' cannot say what its ports are: %s",
                            operator_->name, fm_status_text(status));
    }
    status = port_list_check(operator_, instance->inputs, instance->input_count, "input", reterr);
    if (status == 0) {
        status =
            port_list_check(operator_, instance->outputs, instance->output_count, "output", reterr);
    }
    return status;
}

int fm_operator_create(const struct fm_operator *operator_, const struct fm_setting *settings,
                       size_t setting_count, const char *base_directory,
                       struct fm_operator_instance **ret_instance, struct fm_error *reterr)
{
    struct fm_setting complete[PARAMETERS_MAX];
    size_t parameter_count = 0;
    while (operator_->parameters != NULL && operator_->parameters[parameter_count].name != NULL) {
        parameter_count++;
    }
    FM_ASSERT(parameter_count <= PARAMETERS_MAX);
    struct fm_operator_instance *instance = fm_alloc_zero(1, sizeof(*instance));
    if (instance == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "operator '%s': out of memory", operator_->name);
    }
    instance->operator_ = operator_;
    fm_arena_init(&instance->arena, 0);
    int status = settings_known(operator_, settings, setting_count, parameter_count, reterr);
    if (status != 0) {
        goto out;
    }
    status = settings_complete(instance, settings, setting_count, base_directory, complete,
                               parameter_count, reterr);
    if (status != 0) {
        goto out;
    }
    struct fm_error error = {0};
    void *state = NULL;
    status = operator_->create(fm_host_table(), complete, parameter_count, &state, &error);
    if (status != 0) {
        status = fm_error_set(reterr, status, "operator '%s': %s", operator_->name,
                              error.status != 0 ? error.text : fm_status_text(status));
        goto out;
    }
    /* From here on destroy() has something to undo. */
    instance->created = true;
    instance->state = state;
    status = instance_ports(instance, reterr);
    if (status == 0) {
        *ret_instance = instance;
        instance = NULL;
    }
out:
    fm_operator_destroy(instance);
    return status;
}

void fm_operator_destroy(struct fm_operator_instance *instance)
{
    if (instance == NULL) {
        return;
    }
    if (instance->created) {
        instance->operator_->destroy(instance->state);
    }
    fm_arena_deinit(&instance->arena);
    fm_free(instance);
}

int fm_operator_start(const struct fm_operator_instance *instance, const char *stage,
                      struct fm_error *reterr)
{
    if (!HAS(instance->operator_, start)) {
        return 0;
    }
    struct fm_error error = {0};
    int status = instance->operator_->start(instance->state, stage, &error);
    return status == 0
               ? 0
               : fm_error_set(reterr, status, "operator '%s': %s", instance->operator_->name,
                              error.status != 0 ? error.text : fm_status_text(status));
}

int fm_operator_info(const struct fm_operator_instance *instance, struct fm_operator_info *ret_info,
                     struct fm_error *reterr)
{
    *ret_info = (struct fm_operator_info){.struct_size = sizeof(*ret_info)};
    if (!HAS(instance->operator_, info)) {
        return 0;
    }
    int status = instance->operator_->info(instance->state, ret_info);
    if (status == 0 && ret_info->file_count > 0 && ret_info->files == NULL) {
        status = FM_EABI;
    }
    return status == 0
               ? 0
               : fm_error_set(reterr, status, "operator '%s' cannot say what it depends on: %s",
                              instance->operator_->name, fm_status_text(status));
}

const char *const *fm_operator_paths(const struct fm_operator_instance *instance, size_t *ret_count)
{
    *ret_count = instance->path_count;
    return instance->paths;
}

const struct fm_port *fm_operator_inputs(const struct fm_operator_instance *instance,
                                         uint32_t *ret_count)
{
    *ret_count = instance->input_count;
    return instance->inputs;
}

const struct fm_port *fm_operator_outputs(const struct fm_operator_instance *instance,
                                          uint32_t *ret_count)
{
    *ret_count = instance->output_count;
    return instance->outputs;
}

/* --- Value lists --- */

void fm_value_list_deinit(struct fm_value_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        fm_value_unref(&list->items[i]);
    }
    fm_free(list->items);
    *list = (struct fm_value_list){0};
}

int fm_value_list_append(struct fm_value_list *list, struct fm_value *take_value)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 1 : list->capacity * 2;
        if (capacity > SIZE_MAX / sizeof(list->items[0])) {
            return FM_ENOMEM;
        }
        struct fm_value *items = fm_realloc(list->items, capacity * sizeof(items[0]));
        if (items == NULL) {
            return FM_ENOMEM;
        }
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = *take_value;
    *take_value = (struct fm_value){0};
    return 0;
}

/* --- One run --- */

struct call_state {
    const struct fm_operator_instance *instance;
    const struct fm_value_list *inputs;
    struct fm_value_list *outputs;
    size_t fan_out_max;
    int status; /* the first failure of emit or forward, also when the operator goes on */
    struct fm_error error;
};

static int call_fail(struct call_state *state, struct fm_operator_call *call, int status)
{
    if (state->status == 0) {
        state->status = status;
        call->error = state->error;
    }
    return status;
}

/* True when a tensor of that type and shape may leave by the port now. */
static int output_check(struct call_state *state, uint32_t port, const struct fm_tensor *like)
{
    char have[160];
    char want[160];
    if (port >= state->instance->output_count) {
        return fm_error_set(&state->error, FM_EINVAL, "it has no output %u", port);
    }
    const struct fm_port *declared = &state->instance->outputs[port];
    if (like->rank > FM_RANK_MAX || like->dtype == FM_DTYPE_INVALID ||
        like->dtype >= FM_DTYPE_COUNT_) {
        return fm_error_set(&state->error, FM_ETYPE, "output '%s': invalid data type or rank",
                            declared->name);
    }
    if ((declared->dtype != FM_DTYPE_INVALID && declared->dtype != like->dtype) ||
        !fm_shape_matches(declared, like->shape, like->rank)) {
        return fm_error_set(
            &state->error, FM_ETYPE, "output '%s' is declared as %s%s, but was given %s%s",
            declared->name,
            declared->dtype == FM_DTYPE_INVALID ? "any type" : fm_dtype_name(declared->dtype),
            declared->rank < 0
                ? " of any shape"
                : fm_shape_format(declared->shape, (uint32_t)declared->rank, want, sizeof(want)),
            fm_dtype_name(like->dtype),
            fm_shape_format(like->shape, like->rank, have, sizeof(have)));
    }
    size_t count = state->outputs[port].count;
    if ((declared->flags & FM_PORT_MANY) == 0 && count > 0) {
        return fm_error_set(&state->error, FM_EINVAL, "output '%s' takes one element, not two",
                            declared->name);
    }
    if ((declared->flags & FM_PORT_MANY) != 0 && count >= state->fan_out_max) {
        return fm_error_set(&state->error, FM_ELIMIT,
                            "output '%s' has more than %zu elements; raise 'fan_out_max' of the "
                            "stage if that is right",
                            declared->name, state->fan_out_max);
    }
    return 0;
}

static int call_emit(struct fm_operator_call *call, uint32_t port, const struct fm_tensor *like,
                     void **ret_data)
{
    struct call_state *state = call->host_private;
    struct fm_value value = {0};
    int status = output_check(state, port, like);
    if (status != 0) {
        return call_fail(state, call, status);
    }
    status = fm_value_alloc(&value, like->dtype, like->shape, like->rank, like->size);
    if (status == 0) {
        void *data = value.tensor.data;
        status = fm_value_list_append(&state->outputs[port], &value);
        if (status == 0) {
            *ret_data = data;
            return 0;
        }
        fm_value_unref(&value);
    }
    char shape[160];
    (void)fm_error_set(&state->error, status, "output '%s' of %s%s: %s",
                       state->instance->outputs[port].name, fm_dtype_name(like->dtype),
                       fm_shape_format(like->shape, like->rank, shape, sizeof(shape)),
                       fm_status_text(status));
    return call_fail(state, call, status);
}

static int call_forward(struct fm_operator_call *call, uint32_t port, uint32_t input, size_t index)
{
    struct call_state *state = call->host_private;
    if (input >= state->instance->input_count || index >= state->inputs[input].count) {
        int status =
            fm_error_set(&state->error, FM_EINVAL,
                         "it forwards element %zu of input %u, which does not exist", index, input);
        return call_fail(state, call, status);
    }
    const struct fm_value *source = &state->inputs[input].items[index];
    int status = output_check(state, port, &source->tensor);
    if (status != 0) {
        return call_fail(state, call, status);
    }
    struct fm_value value = {0};
    if (source->buffer != NULL) {
        value = fm_value_ref(source);
    } else {
        /* Borrowed bytes may not outlive the call: here "without copying" has to give way. */
        const struct fm_tensor *tensor = &source->tensor;
        status = fm_value_alloc(&value, tensor->dtype, tensor->shape, tensor->rank, tensor->size);
        if (status == 0 && tensor->size > 0) {
            memcpy(value.tensor.data, tensor->data, tensor->size);
        }
    }
    if (status == 0) {
        status = fm_value_list_append(&state->outputs[port], &value);
    }
    if (status != 0) {
        fm_value_unref(&value);
        (void)fm_error_set(&state->error, status, "output '%s': %s",
                           state->instance->outputs[port].name, fm_status_text(status));
        return call_fail(state, call, status);
    }
    return 0;
}

static int inputs_check(const struct fm_operator_instance *instance,
                        const struct fm_value_list *inputs, struct fm_error *reterr)
{
    char have[160];
    char want[160];
    for (uint32_t i = 0; i < instance->input_count; i++) {
        const struct fm_port *port = &instance->inputs[i];
        bool one = (port->flags & FM_PORT_MANY) == 0;
        bool optional = (port->flags & FM_PORT_OPTIONAL) != 0;
        if (one && inputs[i].count != 1 && !(optional && inputs[i].count == 0)) {
            return fm_error_set(reterr, FM_EINVAL, "input '%s' takes one element, not %zu",
                                port->name, inputs[i].count);
        }
        for (size_t j = 0; j < inputs[i].count; j++) {
            const struct fm_tensor *tensor = &inputs[i].items[j].tensor;
            int status = fm_tensor_check(tensor, reterr);
            if (status != 0) {
                return fm_error_prefix(reterr, status, "input '%s'", port->name);
            }
            if ((port->dtype != FM_DTYPE_INVALID && port->dtype != tensor->dtype) ||
                !fm_shape_matches(port, tensor->shape, tensor->rank)) {
                return fm_error_set(
                    reterr, FM_ETYPE, "input '%s' takes %s%s, but was given %s%s", port->name,
                    port->dtype == FM_DTYPE_INVALID ? "any type" : fm_dtype_name(port->dtype),
                    port->rank < 0
                        ? " of any shape"
                        : fm_shape_format(port->shape, (uint32_t)port->rank, want, sizeof(want)),
                    fm_dtype_name(tensor->dtype),
                    fm_shape_format(tensor->shape, tensor->rank, have, sizeof(have)));
            }
        }
    }
    return 0;
}

static int outputs_check(const struct call_state *state, struct fm_error *reterr)
{
    const struct fm_port *many = NULL;
    size_t many_count = 0;
    for (uint32_t i = 0; i < state->instance->output_count; i++) {
        const struct fm_port *port = &state->instance->outputs[i];
        const struct fm_value_list *list = &state->outputs[i];
        if ((port->flags & FM_PORT_MANY) == 0) {
            if (list->count != 1) {
                return fm_error_set(reterr, FM_EINTERNAL, "it gave nothing for output '%s'",
                                    port->name);
            }
        } else if (many == NULL) {
            many = port;
            many_count = list->count;
        } else if (list->count != many_count) {
            return fm_error_set(reterr, FM_EINTERNAL,
                                "it gave %zu elements for output '%s', but %zu for '%s'",
                                many_count, many->name, list->count, port->name);
        }
        /* Fixed-size elements were sized by the host; the lengths inside BYTES are the operator's
         * work. */
        for (size_t j = 0; j < list->count; j++) {
            if (list->items[j].tensor.dtype == FM_DTYPE_BYTES) {
                int status = fm_tensor_check(&list->items[j].tensor, reterr);
                if (status != 0) {
                    return fm_error_prefix(reterr, status, "output '%s'", port->name);
                }
            }
        }
    }
    return 0;
}

static int call_run(struct call_state *state, struct fm_tensor *tensors, struct fm_error *reterr)
{
    const struct fm_operator_instance *instance = state->instance;
    struct fm_tensor_list lists[PORTS_MAX];
    size_t used = 0;
    for (uint32_t i = 0; i < instance->input_count; i++) {
        lists[i] = (struct fm_tensor_list){&tensors[used], state->inputs[i].count};
        for (size_t j = 0; j < state->inputs[i].count; j++) {
            tensors[used++] = state->inputs[i].items[j].tensor;
        }
    }
    struct fm_operator_call call = {
        .struct_size = sizeof(call),
        .input_count = instance->input_count,
        .output_count = instance->output_count,
        .inputs = lists,
        .emit = call_emit,
        .forward = call_forward,
        .host_private = state,
    };
    int status = instance->operator_->run(instance->state, &call);
    if (status > 0) {
        return fm_error_set(reterr, FM_EINTERNAL, "its run() returned the positive status %d",
                            status);
    }
    call.error.text[FM_ERROR_TEXT_SIZE - 1] = '\0';
    if (status == 0 && state->status != 0) {
        return fm_error_set(reterr, state->status, "%s", state->error.text);
    }
    if (status != 0) {
        return fm_error_set(reterr, status, "%s",
                            call.error.text[0] != '\0' ? call.error.text : fm_status_text(status));
    }
    return outputs_check(state, reterr);
}

int fm_operator_run(const struct fm_operator_instance *instance, const struct fm_value_list *inputs,
                    uint32_t input_count, struct fm_value_list *outputs, uint32_t output_count,
                    size_t fan_out_max, struct fm_error *reterr)
{
    FM_ASSERT(input_count == instance->input_count);
    FM_ASSERT(output_count == instance->output_count);
    struct call_state state = {
        .instance = instance, .inputs = inputs, .outputs = outputs, .fan_out_max = fan_out_max};
    struct fm_tensor few[CALL_TENSORS_ON_STACK];
    struct fm_tensor *tensors = few;
    size_t count = 0;
    for (uint32_t i = 0; i < input_count; i++) {
        count += inputs[i].count;
    }
    int status = inputs_check(instance, inputs, reterr);
    if (status == 0 && count > CALL_TENSORS_ON_STACK) {
        tensors = fm_alloc(count * sizeof(tensors[0]));
        if (tensors == NULL) {
            status = fm_error_set(reterr, FM_ENOMEM, "out of memory for %zu inputs", count);
        }
    }
    if (status == 0) {
        status = call_run(&state, tensors, reterr);
    }
    if (tensors != few) {
        fm_free(tensors);
    }
    if (status != 0) {
        for (uint32_t i = 0; i < output_count; i++) {
            fm_value_list_deinit(&outputs[i]);
        }
        return fm_error_prefix(reterr, status, "operator '%s'", instance->operator_->name);
    }
    return 0;
}
