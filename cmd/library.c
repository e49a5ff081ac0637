/*
 * libfermata's server: from options by name to a server that runs. See fermata/server.h.
 *
 * Owns: the options of a server that a program embeds, which are those of `fermata serve`, read by
 * the same code; the log of the process. Does not own: the server (engines/serve/embedded.h).
 * Thread rule: options belong to one thread; the log is behind a lock.
 */
#include <stdio.h>
#include <string.h>

#include "cmd/arguments.h"
#include "cmd/serve.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/embedded.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "host/runtime/backend_registry.h"

#define OPTIONS_BYTES_MAX (1u << 20) /* of all paths and values together, and what they cost */

/* As they were given, for fm_arguments_parse: "--slo=50ms". */
struct argument {
    struct argument *next;
    const struct fm_option *option; /* NULL: a path */
    char text[];
};

struct fm_server_options {
    struct argument *first;
    uint32_t count;
    size_t bytes;
    fm_server_log_fn *log;
    void *log_context;
};

/* What a server's options borrow. */
struct settings {
    struct fm_arena arena;
    struct fm_call call;
    struct fm_serve_options serve;
    bool holds_log;
};

static const struct fm_command command = {
    .name = "serve", .positionals = fm_serve_positionals, .options = fm_serve_option_table};

/* --- options -----------------------------------------------------------------------------------
 */

int fm_server_options_create(struct fm_server_options **ret_options, struct fm_error *reterr)
{
    struct fm_server_options *options = fm_alloc_zero(1, sizeof *options);
    if (options == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the options");
    }
    *ret_options = options;
    return 0;
}

void fm_server_options_free(struct fm_server_options *options)
{
    while (options != NULL && options->first != NULL) {
        struct argument *next = options->first->next;
        fm_free(options->first);
        options->first = next;
    }
    fm_free(options);
}

/* Behind all that were given before, in place of what was given for an option that is not repeated.
 */
static int argument_add(struct fm_server_options *options, const struct fm_option *option,
                        const char *name, const char *value, struct fm_error *reterr)
{
    size_t size = strlen(name) + strlen(value) + 4;
    if (size > OPTIONS_BYTES_MAX - options->bytes) {
        return fm_error_set(reterr, FM_ETOOLARGE, "the options are longer than %u bytes together",
                            OPTIONS_BYTES_MAX);
    }
    struct argument *argument = fm_alloc(sizeof *argument + size);
    if (argument == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the options");
    }
    argument->next = NULL;
    argument->option = option;
    (void)snprintf(argument->text, size, "%s%s%s%s", option != NULL ? "--" : "", name,
                   option != NULL ? "=" : "", value);
    struct argument **place = &options->first;
    while (*place != NULL) {
        struct argument *at = *place;
        if (option != NULL && at->option == option && !option->repeat) {
            *place = at->next;
            options->count--;
            options->bytes -= strlen(at->text) + 1;
            fm_free(at);
        } else {
            place = &at->next;
        }
    }
    *place = argument;
    options->count++;
    options->bytes += strlen(argument->text) + 1;
    return 0;
}

int fm_server_options_add_path(struct fm_server_options *options, const char *path,
                               struct fm_error *reterr)
{
    return argument_add(options, NULL, path, "", reterr);
}

static const struct fm_option *option_find(const char *name)
{
    const struct fm_option *option = fm_serve_option_table;
    while (option->name != NULL && strcmp(option->name, name) != 0) {
        option++;
    }
    return option->name != NULL ? option : NULL;
}

/* Asks the command line's own parser, so that a mistake is told in its words. */
static int argument_check(const char *argument, struct fm_error *reterr)
{
    static const struct fm_command without_paths = {.name = "serve",
                                                    .options = fm_serve_option_table};
    struct fm_arena arena;
    fm_arena_init(&arena, OPTIONS_BYTES_MAX);
    struct fm_call call = {.command = &without_paths, .arena = &arena};
    int status = fm_arguments_parse(&call, &argument, 1, fm_os_environment, reterr);
    if (status == 0 && call.help) {
        status = fm_error_set(reterr, FM_EINVAL, "unknown option '%s'", argument);
    }
    fm_arena_deinit(&arena);
    return status;
}

int fm_server_options_set(struct fm_server_options *options, const char *name, const char *value,
                          struct fm_error *reterr)
{
    char argument[512];
    const struct fm_option *option = option_find(name);
    /* A value that is longer than this is no number and no choice; what is cut is still a text. */
    (void)snprintf(argument, sizeof argument, "--%s%s%s", name, value != NULL ? "=" : "",
                   value != NULL ? value : "");
    int status = value == NULL && option != NULL && option->kind != FM_OPTION_FLAG
                     ? fm_error_set(reterr, FM_EINVAL, "--%s needs a value", name)
                     : argument_check(argument, reterr);
    if (status == 0 && option == NULL) {
        /* "no-strict": the parser knows it, and its opposite is the option's name. */
        option = strncmp(name, "no-", 3) == 0 ? option_find(name + 3) : NULL;
        name = option != NULL ? option->name : name;
        value = "no";
        status =
            option == NULL ? fm_error_set(reterr, FM_EINVAL, "there is no option '%s'", name) : 0;
    }
    return status != 0 ? status
                       : argument_add(options, option, name, value != NULL ? value : "yes", reterr);
}

void fm_server_options_log(struct fm_server_options *options, fm_server_log_fn *log, void *context)
{
    options->log = log;
    options->log_context = context;
}

/* --- the log of the process --------------------------------------------------------------------
 */

static struct fm_mutex log_lock = {PTHREAD_MUTEX_INITIALIZER};
static uint32_t log_holders; /* servers: any of them may be writing into it */
static bool log_runs;

static int log_hold(struct settings *settings, const struct fm_server_options *options,
                    struct fm_error *reterr)
{
    struct fm_log_options log = fm_serve_log_options(&settings->call);
    log.line = options->log;
    log.context = options->log_context;
    int status = 0;
    fm_mutex_lock(&log_lock);
    if (log.line != NULL && !log_runs) {
        status = fm_log_start(&log, reterr);
        log_runs = status == 0;
        if (log_runs) {
            fm_host_set_log(fm_serve_plugin_log);
        }
    }
    settings->holds_log = status == 0;
    log_holders += settings->holds_log ? 1 : 0;
    fm_mutex_unlock(&log_lock);
    return status;
}

static void log_let_go(struct settings *settings)
{
    if (!settings->holds_log) {
        return;
    }
    fm_mutex_lock(&log_lock);
    if (--log_holders == 0 && log_runs) {
        fm_host_set_log(NULL);
        fm_log_stop();
        log_runs = false;
    }
    fm_mutex_unlock(&log_lock);
}

/* --- start -------------------------------------------------------------------------------------
 */

static void settings_release(void *context)
{
    struct settings *settings = context;
    log_let_go(settings);
    fm_arena_deinit(&settings->arena);
    fm_free(settings);
}

/* The arguments as a command line: options, and paths behind "--". NULL: no memory. */
static const char **command_line(const struct fm_server_options *options, struct fm_arena *arena)
{
    const char **arguments = fm_arena_alloc(arena, (options->count + 1u) * sizeof *arguments);
    uint32_t count = 0;
    for (int paths = 0; paths < 2 && arguments != NULL; paths++) {
        for (const struct argument *at = options->first; at != NULL; at = at->next) {
            if ((at->option == NULL) == (paths == 1)) {
                arguments[count] = fm_arena_strdup(arena, at->text);
                if (arguments[count++] == NULL) {
                    return NULL;
                }
            }
        }
        if (paths == 0) {
            arguments[count++] = "--";
        }
    }
    return arguments;
}

/* It listens where a port is set, and takes nothing that is the whole process's. */
static int adapt(struct settings *settings, struct fm_error *reterr)
{
    const struct fm_call *call = &settings->call;
    struct fm_serve_options *serve = &settings->serve;
    serve->http = serve->http && fm_call_given(call, "http-port");
    serve->grpc = serve->grpc && fm_call_given(call, "grpc-port");
    serve->metrics = serve->metrics && fm_call_given(call, "metrics-port");
    serve->supervised = false;
    if ((serve->unix_path != NULL && !serve->http) ||
        (serve->grpc_unix_path != NULL && !serve->grpc)) {
        return fm_error_set(reterr, FM_EINVAL, "--%s means something with --%s only",
                            serve->http ? "grpc-unix-socket" : "unix-socket",
                            serve->http ? "grpc-port" : "http-port");
    }
    return 0;
}

static int settings_read(struct settings *settings, const struct fm_server_options *options,
                         struct fm_error *reterr)
{
    settings->call = (struct fm_call){.command = &command, .arena = &settings->arena};
    const char **arguments = command_line(options, &settings->arena);
    if (arguments == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the options");
    }
    int status = fm_arguments_parse(&settings->call, arguments, options->count + 1u,
                                    fm_os_environment, reterr);
    status =
        status != 0 ? status : fm_serve_options_read(&settings->call, &settings->serve, reterr);
    return status != 0 ? status : adapt(settings, reterr);
}

int fm_server_start(const struct fm_server_options *options, struct fm_server **ret_server,
                    struct fm_error *reterr)
{
    struct settings *settings = fm_alloc_zero(1, sizeof *settings);
    if (settings == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while starting");
    }
    fm_arena_init(&settings->arena, 0);
    int status = settings_read(settings, options, reterr);
    status = status != 0 ? status : log_hold(settings, options, reterr);
    if (status == 0) {
        status =
            fm_embedded_start(&settings->serve, settings_release, settings, ret_server, reterr);
    }
    if (status != 0) {
        settings_release(settings);
    }
    return status;
}
