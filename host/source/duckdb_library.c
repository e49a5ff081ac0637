/*
 * Loading DuckDB. See duckdb_library.h.
 */
#include "host/source/duckdb_library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/os.h"
#include "host/os/thread.h"

#ifndef FM_DUCKDB_LIBRARY
#error "FM_DUCKDB_LIBRARY (where the build found the library) comes from the build"
#endif
#ifndef FM_PLUGIN_DIR
#error "FM_PLUGIN_DIR (the installed plug-in directory) comes from the build"
#endif

/* One database in memory. A failure inside of DuckDB makes it unusable for good: then the next
 * session gets another one. */
struct fm_duckdb_instance {
    duckdb_database database;
    uint32_t sessions;
    bool spoiled;
    bool made; /* what fm_duckdb_once makes */
};

static struct fm_mutex mutex = {PTHREAD_MUTEX_INITIALIZER};
static struct fm_duckdb functions;
static bool loaded;
static struct fm_duckdb_instance *current; /* for new sessions; NULL: none yet */

static const char *const settings[][2] = {
    {"threads", "1"}, /* the callers' own */
    {"memory_limit", FM_DUCKDB_MEMORY},
    {"temp_directory", ""}, /* nothing is put on the disk for lack of memory */
    {"autoinstall_known_extensions", "false"},
    {"autoload_known_extensions", "false"},
    {"allow_community_extensions", "false"},
    /* It goes by paths, and ours, of descriptors, mean another file tomorrow. */
    {"enable_external_file_cache", "false"},
    /* Row groups of limited bytes are written only without it. With one thread rows come in their
     * order all the same, and who reads them looks at their numbers. */
    {"preserve_insertion_order", "false"},
};

static int functions_find(void *library, const char *path, struct fm_error *reterr)
{
    static const char *const names[] = {
#define FM_DUCKDB_NAME(name) "duckdb_" #name,
        FM_DUCKDB_FUNCTIONS(FM_DUCKDB_NAME)
#undef FM_DUCKDB_NAME
    };
    _Static_assert(sizeof functions == sizeof names / sizeof names[0] * sizeof(void *),
                   "a pointer for each name");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        void *address = dlsym(library, names[i]);
        if (address == NULL) {
            return fm_error_set(
                reterr, FM_EABI,
                "'%s' is no DuckDB that Fermata can use (1.4 or later): it does not export %s",
                path, names[i]);
        }
        memcpy((char *)&functions + i * sizeof address, &address, sizeof address);
    }
    return 0;
}

static int library_load(struct fm_error *reterr)
{
    const char *wanted = fm_os_environment("FERMATA_DUCKDB");
    const char *const places[] = {FM_PLUGIN_DIR "/../libduckdb.so", FM_DUCKDB_LIBRARY,
                                  "libduckdb.so"};
    const char *path = wanted;
    void *library = wanted != NULL ? dlopen(wanted, RTLD_NOW | RTLD_LOCAL) : NULL;
    for (size_t i = 0; wanted == NULL && library == NULL && i < sizeof places / sizeof places[0];
         i++) {
        path = places[i];
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    if (library == NULL) {
        return fm_error_set(reterr, FM_ENOTFOUND,
                            "Parquet needs DuckDB's library, and it could not be loaded: %s; run "
                            "tools/setup, or set FERMATA_DUCKDB to the path of a libduckdb.so",
                            dlerror());
    }
    int status = functions_find(library, path, reterr);
    if (status != 0) {
        (void)dlclose(library);
        return status;
    }
    loaded = true;
    return 0;
}

static int instance_create(struct fm_duckdb_instance **ret_instance, struct fm_error *reterr)
{
    struct fm_duckdb_instance *instance = fm_alloc_zero(1, sizeof(*instance));
    duckdb_config config = NULL;
    char *message = NULL;
    if (instance == NULL || functions.create_config(&config) != DuckDBSuccess) {
        fm_free(instance);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for DuckDB");
    }
    int status = 0;
    for (size_t i = 0; i < sizeof settings / sizeof settings[0] && status == 0; i++) {
        if (functions.set_config(config, settings[i][0], settings[i][1]) != DuckDBSuccess) {
            status = fm_error_set(reterr, FM_EABI, "DuckDB %s does not know the setting '%s'",
                                  functions.library_version(), settings[i][0]);
        }
    }
    if (status == 0 &&
        functions.open_ext(":memory:", &instance->database, config, &message) != DuckDBSuccess) {
        status = fm_error_set(reterr, FM_EABI, "DuckDB %s could not be started: %s",
                              functions.library_version(), message != NULL ? message : "no reason");
    }
    functions.free(message);
    functions.destroy_config(&config);
    if (status != 0) {
        fm_free(instance);
        return status;
    }
    *ret_instance = instance;
    return 0;
}

static int open_locked(struct fm_duckdb_session *session, struct fm_error *reterr)
{
    int status = loaded ? 0 : library_load(reterr);
    if (status == 0 && (current == NULL || current->spoiled)) {
        struct fm_duckdb_instance *fresh = NULL;
        status = instance_create(&fresh, reterr);
        if (status == 0) {
            current = fresh; /* a spoiled one goes with its last session */
        }
    }
    if (status != 0) {
        return status;
    }
    if (functions.connect(current->database, &session->connection) != DuckDBSuccess) {
        return fm_error_set(reterr, FM_ENOMEM, "DuckDB gives no connection");
    }
    current->sessions++;
    session->duck = &functions;
    session->instance = current;
    return 0;
}

int fm_duckdb_open(struct fm_duckdb_session *session, struct fm_error *reterr)
{
    fm_mutex_lock(&mutex);
    int status = open_locked(session, reterr);
    fm_mutex_unlock(&mutex);
    if (status == 0) {
        /* A time with a zone is the same text on every machine. */
        status = fm_duckdb_run(session, "SET TimeZone='UTC'", "DuckDB", -1, reterr);
        if (status != 0) {
            fm_duckdb_close(session);
        }
    }
    return status;
}

void fm_duckdb_close(struct fm_duckdb_session *session)
{
    if (session->duck == NULL) {
        return;
    }
    session->duck->disconnect(&session->connection);
    fm_mutex_lock(&mutex);
    struct fm_duckdb_instance *instance = session->instance;
    instance->sessions--;
    if (instance->sessions == 0 && instance->spoiled) {
        session->duck->close(&instance->database);
        current = current == instance ? NULL : current;
        fm_free(instance);
    }
    fm_mutex_unlock(&mutex);
    *session = (struct fm_duckdb_session){0};
}

const struct fm_duckdb *fm_duckdb_loaded(void)
{
    return &functions;
}

int fm_duckdb_once(const struct fm_duckdb_session *session,
                   int (*make)(const struct fm_duckdb *duck, duckdb_connection connection),
                   struct fm_error *reterr)
{
    fm_mutex_lock(&mutex);
    int status = session->instance->made ? 0 : make(&functions, session->connection);
    session->instance->made = status == 0;
    fm_mutex_unlock(&mutex);
    return status == 0 ? 0
                       : fm_error_set(reterr, status, "DuckDB %s takes no function of ours",
                                      functions.library_version());
}

int fm_duckdb_run(const struct fm_duckdb_session *session, const char *sql, const char *path,
                  int descriptor, struct fm_error *reterr)
{
    duckdb_result result;
    int status = 0;
    if (session->duck->query(session->connection, sql, &result) != DuckDBSuccess) {
        status = fm_duckdb_refuse(session, FM_EIO, session->duck->result_error(&result), path,
                                  descriptor, reterr);
    }
    session->duck->destroy_result(&result);
    return status;
}

/* Appends the message's first line, with `name` for what DuckDB was told. */
static void line_append(struct fm_text *text, const char *line, size_t length, const char *given,
                        const char *name)
{
    size_t given_length = strlen(given);
    for (size_t i = 0; i < length;) {
        if (length - i >= given_length && memcmp(line + i, given, given_length) == 0) {
            fm_text_append_string(text, name);
            i += given_length;
        } else {
            fm_text_append_char(text, line[i++]);
        }
    }
}

int fm_duckdb_refuse(const struct fm_duckdb_session *session, int status, const char *message,
                     const char *path, int descriptor, struct fm_error *reterr)
{
    static const struct {
        const char *words;
        int status;
    } kinds[] = {{"Out of Memory Error", FM_ENOMEM}, {"No space left on device", FM_ENOSPC},
                 {"Disk quota exceeded", FM_ENOSPC}, {"IO Error", FM_EIO},
                 {"INTERNAL Error", FM_EINTERNAL},   {"FATAL Error", FM_EINTERNAL},
                 {"INTERRUPT Error", FM_ECANCELLED}};
    char given[32];
    struct fm_text text = {0};
    const char *whole = message != NULL && message[0] != '\0' ? message : "no reason was given";
    for (size_t i = sizeof kinds / sizeof kinds[0]; i > 0; i--) {
        status = strstr(whole, kinds[i - 1].words) != NULL ? kinds[i - 1].status : status;
    }
    if (status == FM_EINTERNAL) {
        fm_mutex_lock(&mutex);
        session->instance->spoiled = true;
        fm_mutex_unlock(&mutex);
    }
    (void)snprintf(given, sizeof given, FM_DUCKDB_FILE, descriptor);
    line_append(&text, whole, strcspn(whole, "\n"), given, path);
    status =
        fm_error_set(reterr, status, "%s: %s", path, text.failed ? "out of memory" : text.data);
    fm_text_deinit(&text);
    return status;
}
