/*
 * Finding, loading and checking backend plug-ins. See backend_registry.h.
 */
#include "host/runtime/backend_registry.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/text.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/os/thread.h"

enum { BACKENDS_MAX = 64, PATH_SIZE = 4096, NAME_LENGTH_MAX = 64 };

#ifndef FM_PLUGIN_DIR
#error "FM_PLUGIN_DIR (the installed plug-in directory) comes from the build"
#endif

/* --- the host's side of the ABI --- */

static _Atomic(void (*)(enum fm_log_level level, const char *text)) log_handler;

static void host_log(enum fm_log_level level, const char *text)
{
    void (*handler)(enum fm_log_level, const char *) = atomic_load(&log_handler);
    if (handler != NULL) {
        handler(level, text);
    } else if (level >= FM_LOG_WARNING) {
        fprintf(stderr, "fermata: %s: %s\n", level == FM_LOG_ERROR ? "error" : "warning", text);
    }
}

static const struct fm_host host_table = {.struct_size = sizeof(struct fm_host),
                                          .abi_major = FM_BACKEND_ABI_MAJOR,
                                          .abi_minor = FM_BACKEND_ABI_MINOR,
                                          .now_ns = fm_os_now_ns,
                                          .log = host_log};

const struct fm_host *fm_host_table(void)
{
    return &host_table;
}

void fm_host_set_log(void (*handler)(enum fm_log_level level, const char *text))
{
    atomic_store(&log_handler, handler);
}

/* --- locating --- */

/* Tries <directory>/lib<prefix><name>.so; `searched` collects the directories for the message. */
static bool locate_in(const char *directory, size_t length, const char *prefix, const char *name,
                      char *ret_path, size_t size, struct fm_text *searched)
{
    struct fm_file_facts facts;
    int written = snprintf(ret_path, size, "%.*s/lib%s%s.so", (int)length, directory, prefix, name);
    fm_text_append_format(searched, "%s%.*s", searched->length > 0 ? ", " : "", (int)length,
                          directory);
    return written > 0 && (size_t)written < size && fm_file_stat(ret_path, &facts, NULL) == 0 &&
           facts.kind == FM_FILE_REGULAR;
}

static bool executable_plugins(char *ret_directory, size_t size)
{
    char program[PATH_SIZE];
    char directory[PATH_SIZE];
    return fm_path_real(program, sizeof(program), "/proc/self/exe", NULL) == 0 &&
           fm_path_directory(directory, sizeof(directory), program) == 0 &&
           fm_path_join(ret_directory, size, directory, "plugins") == 0;
}

static bool locate(const char *prefix, const char *name, char *ret_path, size_t size,
                   struct fm_text *searched)
{
    const char *list = fm_os_environment("FERMATA_PLUGIN_PATH");
    while (list != NULL && *list != '\0') {
        size_t length = strcspn(list, ":");
        if (length > 0 && locate_in(list, length, prefix, name, ret_path, size, searched)) {
            return true;
        }
        list += length + (list[length] == ':' ? 1 : 0);
    }
    char beside[PATH_SIZE];
    if (executable_plugins(beside, sizeof(beside)) &&
        locate_in(beside, strlen(beside), prefix, name, ret_path, size, searched)) {
        return true;
    }
    return locate_in(FM_PLUGIN_DIR, strlen(FM_PLUGIN_DIR), prefix, name, ret_path, size, searched);
}

static bool name_is_good(const char *name)
{
    size_t length = strnlen(name, NAME_LENGTH_MAX + 1);
    return length > 0 && length <= NAME_LENGTH_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == length;
}

int fm_plugin_locate(const char *prefix, const char *name, char *ret_path, size_t size,
                     struct fm_error *reterr)
{
    if (!name_is_good(name)) {
        return fm_error_set(
            reterr, FM_EINVAL,
            "'%.80s' is no plug-in name: use a-z, 0-9, '_' and '-', or a path that contains '/'",
            name);
    }
    struct fm_text searched = {0};
    int status = 0;
    if (!locate(prefix, name, ret_path, size, &searched)) {
        status = fm_error_set(
            reterr, FM_ENOTFOUND,
            "there is no lib%s%s.so in %s; set FERMATA_PLUGIN_PATH to the directory that has it",
            prefix, name, searched.failed ? "the plug-in directories" : searched.data);
    }
    fm_text_deinit(&searched);
    return status;
}

/* --- checking --- */

/* What every backend must have: the table up to and including submit (model_memory came with 1.1).
 */
#define BACKEND_SIZE_MIN \
    (offsetof(struct fm_backend, submit) + sizeof(((struct fm_backend *)0)->submit))

int fm_backend_check(const struct fm_backend *backend, const char *origin, struct fm_error *reterr)
{
    if (backend == NULL) {
        return fm_error_set(reterr, FM_EABI,
                            "%s: the plug-in says it cannot serve ABI %d.%d of this program",
                            origin, FM_BACKEND_ABI_MAJOR, FM_BACKEND_ABI_MINOR);
    }
    if (backend->struct_size < offsetof(struct fm_backend, name)) {
        return fm_error_set(reterr, FM_EABI,
                            "%s: its table claims a size of %u bytes, too small to be one", origin,
                            backend->struct_size);
    }
    if (backend->abi_major != FM_BACKEND_ABI_MAJOR) {
        return fm_error_set(
            reterr, FM_EABI,
            "%s: built for backend ABI %u.%u, but this program has %d.%d; rebuild the plug-in",
            origin, backend->abi_major, backend->abi_minor, FM_BACKEND_ABI_MAJOR,
            FM_BACKEND_ABI_MINOR);
    }
    if (backend->struct_size < BACKEND_SIZE_MIN) {
        return fm_error_set(reterr, FM_EABI,
                            "%s: its table has %u bytes, but ABI %d needs at least %zu", origin,
                            backend->struct_size, FM_BACKEND_ABI_MAJOR, BACKEND_SIZE_MIN);
    }
    if (backend->name == NULL || !name_is_good(backend->name)) {
        return fm_error_set(reterr, FM_EABI, "%s: the backend has no proper name", origin);
    }
    const struct {
        bool present;
        const char *name;
    } functions[] = {{backend->device_open != NULL, "device_open"},
                     {backend->device_close != NULL, "device_close"},
                     {backend->model_load != NULL, "model_load"},
                     {backend->model_unload != NULL, "model_unload"},
                     {backend->model_info != NULL, "model_info"},
                     {backend->instance_create != NULL, "instance_create"},
                     {backend->instance_destroy != NULL, "instance_destroy"},
                     {backend->submit != NULL, "submit"}};
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        if (!functions[i].present) {
            return fm_error_set(reterr, FM_EABI, "%s: backend '%s' lacks the function %s", origin,
                                backend->name, functions[i].name);
        }
    }
    return 0;
}

/* --- loading --- */

struct loaded {
    const struct fm_backend *backend;
    char path[PATH_SIZE];
};

static struct fm_mutex registry_mutex = {PTHREAD_MUTEX_INITIALIZER};
static struct loaded registry[BACKENDS_MAX];
static size_t registry_count;

static int load_locked(const char *path, const struct fm_backend **ret_backend,
                       struct fm_error *reterr)
{
    for (size_t i = 0; i < registry_count; i++) {
        if (strcmp(registry[i].path, path) == 0) {
            *ret_backend = registry[i].backend;
            return 0;
        }
    }
    if (registry_count == BACKENDS_MAX) {
        return fm_error_set(reterr, FM_ELIMIT, "cannot load '%s': %d backends are loaded already",
                            path, BACKENDS_MAX);
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return fm_error_set(reterr, FM_EABI, "cannot load the plug-in '%s': %s", path, dlerror());
    }
    /* POSIX's way around the missing conversion from an object to a function pointer. */
    fm_backend_entry_function entry = NULL;
    *(void **)&entry = dlsym(library, FM_BACKEND_ENTRY_SYMBOL);
    int status = 0;
    if (entry == NULL) {
        status = fm_error_set(reterr, FM_EABI, "'%s' is no backend plug-in: it does not export %s",
                              path, FM_BACKEND_ENTRY_SYMBOL);
    } else {
        const struct fm_backend *backend = entry(FM_BACKEND_ABI_MAJOR, FM_BACKEND_ABI_MINOR);
        status = fm_backend_check(backend, path, reterr);
        if (status == 0) {
            struct loaded *slot = &registry[registry_count++];
            (void)snprintf(slot->path, sizeof(slot->path), "%s", path);
            slot->backend = backend;
            *ret_backend = backend;
            return 0;
        }
    }
    dlclose(library);
    return status;
}

int fm_backend_load(const char *path, const struct fm_backend **ret_backend,
                    struct fm_error *reterr)
{
    if (strlen(path) >= PATH_SIZE) {
        return fm_error_set(reterr, FM_ETOOLARGE,
                            "cannot load the plug-in '%.100s...': the path is too long", path);
    }
    fm_mutex_lock(&registry_mutex);
    int status = load_locked(path, ret_backend, reterr);
    fm_mutex_unlock(&registry_mutex);
    return status;
}

int fm_backend_find(const char *name, const struct fm_backend **ret_backend,
                    struct fm_error *reterr)
{
    char path[PATH_SIZE];
    if (!name_is_good(name)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "'%.80s' is no name of a backend: it has a-z, 0-9, '_' and '-', and is "
                            "no path; FERMATA_PLUGIN_PATH says where its file lies",
                            name);
    }
    int status = fm_plugin_locate("fm_backend_", name, path, sizeof(path), reterr);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "backend '%.80s'", name);
    }
    status = fm_backend_load(path, ret_backend, reterr);
    if (status == 0 && strcmp((*ret_backend)->name, name) != 0) {
        return fm_error_set(
            reterr, FM_EABI,
            "%s: the plug-in calls itself '%s', but its file says '%s'; rename the file", path,
            (*ret_backend)->name, name);
    }
    return status;
}
