/*
 * Operator process: a step written in any language, as a program of the user's that is given items
 * on its standard input and answers on its standard output (docs/process-operators.md).
 *
 * This file reads the parameters and finds the program; process_pool.h runs it. Processes are
 * started when the stage is going to be used, not when a pipeline is only checked. Thread rule: the
 * state is constant between start() and destroy().
 */
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/os/file.h"
#include "host/runtime/backends/common/port_list.h"
#include "host/runtime/operators/option.h"
#include "host/runtime/operators/process_pool.h"
#include "host/runtime/operators/table.h"

enum {
    PARAMETER_COMMAND,
    PARAMETER_INPUTS,
    PARAMETER_OUTPUTS,
    PARAMETER_PROCESSES,
    PARAMETER_TIME_LIMIT,
    PARAMETER_START_LIMIT,
    PARAMETER_ATTEMPTS,
    PARAMETER_ANSWER_BYTES,
    PARAMETER_SHARED_MEMORY,
    PARAMETER_DIRECTORY,
    PARAMETER_FILES,
};

enum { WORDS_MAX = 64, PROCESSES_MAX = 256, ATTEMPTS_MAX = 10, PATH_SIZE = 4096 };

#define LIMIT_NS_MIN     UINT64_C(1000000)
#define LIMIT_NS_MAX     UINT64_C(86400000000000)
#define ANSWER_BYTES_MAX (UINT64_C(64) << 30)
#define MEMORY_STEP      (UINT64_C(1) << 16) /* a half begins where a page does */

static const struct fm_operator_parameter parameters[] = {
    [PARAMETER_COMMAND] = {"command", NULL,
                           "the program and its arguments, as a list; a program with `/` is "
                           "relative to `directory_path`, another one is searched on PATH"},
    [PARAMETER_INPUTS] =
        {"inputs", NULL,
         "ports it takes, as `text:BYTES[1], x:FP32[-1,3]`; `?` behind one: may be "
         "absent, `*`: takes all elements of a fan-out"},
    [PARAMETER_OUTPUTS] = {"outputs", NULL,
                           "ports it gives, written likewise; `*` behind one: any number of "
                           "elements (fan-out)"},
    [PARAMETER_PROCESSES] = {"processes", "1", "that run at once, each with an item; 1 to 256"},
    [PARAMETER_TIME_LIMIT] = {"time_limit", "30s",
                              "for one item; a process that takes longer is ended; 1ms to 24h"},
    [PARAMETER_START_LIMIT] = {"start_limit", "10s",
                               "until a process is ready, which includes loading what it needs; "
                               "1ms to 24h"},
    [PARAMETER_ATTEMPTS] = {"attempts", "2",
                            "how often an item is tried whose process ends by itself or is killed; "
                            "1 to 10"},
    [PARAMETER_ANSWER_BYTES] = {"answer_bytes", "256MiB", "of a larger answer the item fails"},
    [PARAMETER_SHARED_MEMORY] = {"shared_memory", "64MiB",
                                 "what a program that asks for it shares with Fermata in each "
                                 "direction, so that large tensors need no pipe; 0: none"},
    [PARAMETER_DIRECTORY] = {"directory_path", ".",
                             "where the program runs, relative to the pipeline file"},
    [PARAMETER_FILES] =
        {"files", "",
         "further files that answers depend on, relative to `directory_path`; those "
         "named in the command count by themselves"},
    {NULL, NULL, NULL},
};

struct process_state {
    struct fm_arena arena;
    struct port_list inputs;
    struct port_list outputs;
    const char *words[WORDS_MAX + 1]; /* of the command */
    size_t word_count;
    const char *files[2 * WORDS_MAX];
    size_t file_count;
    struct fm_process_pool_options options;
    struct fm_process_pool *pool; /* once it is started */
};

static void process_destroy(void *state_)
{
    struct process_state *state = state_;
    if (state != NULL) {
        fm_process_pool_stop(state->pool);
        fm_arena_deinit(&state->arena);
        fm_free(state);
    }
}

static int out_of_memory(struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_ENOMEM, "out of memory");
}

/* A list as the pipeline file's reader joins it: its elements have no commas. */
static int words_cut(struct process_state *state, const struct fm_setting *setting,
                     const char **ret_words, size_t *ret_count, struct fm_error *reterr)
{
    const char *at = setting->value;
    *ret_count = 0;
    while (at != NULL && setting->value[0] != '\0') {
        const char *comma = strchr(at, ',');
        if (*ret_count == WORDS_MAX) {
            return fm_error_set(reterr, FM_ELIMIT, "parameter '%s' has more than %d elements",
                                setting->key, WORDS_MAX);
        }
        char *word =
            fm_arena_strndup(&state->arena, at, comma != NULL ? (size_t)(comma - at) : strlen(at));
        if (word == NULL) {
            return out_of_memory(reterr);
        }
        ret_words[(*ret_count)++] = word;
        at = comma != NULL ? comma + 1 : NULL;
    }
    return 0;
}

/* Notes a file that answers depend on. `must`: it has to be there; else it may be no file at all.
 */
static int file_note(struct process_state *state, const char *name, bool must,
                     struct fm_error *reterr)
{
    char path[PATH_SIZE];
    struct fm_file_facts facts;
    if (fm_path_join(path, sizeof(path), state->options.command.directory, name) != 0) {
        return must ? fm_error_set(reterr, FM_ETOOLARGE, "a path in 'files' is too long") : 0;
    }
    int status = fm_file_stat(path, &facts, must ? reterr : NULL);
    if (status != 0) {
        return must ? status : 0;
    }
    if (facts.kind != FM_FILE_REGULAR) {
        return must ? fm_error_set(reterr, FM_ENOTFOUND, "parameter 'files': there is no file '%s'",
                                   path)
                    : 0;
    }
    state->files[state->file_count] = fm_arena_strdup(&state->arena, path);
    return state->files[state->file_count++] != NULL ? 0 : out_of_memory(reterr);
}

static int command_read(struct process_state *state, const struct fm_setting *settings,
                        struct fm_error *reterr)
{
    const char *more[WORDS_MAX];
    size_t more_count = 0;
    char path[PATH_SIZE];
    struct fm_program_command *command = &state->options.command;
    command->directory = fm_arena_strdup(&state->arena, settings[PARAMETER_DIRECTORY].value);
    if (command->directory == NULL) {
        return out_of_memory(reterr);
    }
    int status =
        words_cut(state, &settings[PARAMETER_COMMAND], state->words, &state->word_count, reterr);
    status = status == 0 ? words_cut(state, &settings[PARAMETER_FILES], more, &more_count, reterr)
                         : status;
    if (status == 0 && state->word_count == 0) {
        status = fm_error_set(reterr, FM_EINVAL,
                              "parameter 'command' is empty: write it as [python3, tool.py]");
    }
    if (status == 0) {
        status = fm_program_find(state->words[0], command->directory, path, sizeof(path), reterr);
    }
    command->arguments = state->words;
    command->path = status == 0 ? fm_arena_strdup(&state->arena, path) : NULL;
    if (status == 0 && command->path == NULL) {
        status = out_of_memory(reterr);
    }
    for (size_t i = 0; i < state->word_count && status == 0; i++) {
        /* A program found on PATH has no file beside the pipeline. */
        if (i > 0 || strchr(state->words[0], '/') != NULL) {
            status = file_note(state, state->words[i], false, reterr);
        }
    }
    for (size_t i = 0; i < more_count && status == 0; i++) {
        status = file_note(state, more[i], true, reterr);
    }
    return status;
}

static int duration_read(const struct fm_setting *setting, uint64_t *ret_ns,
                         struct fm_error *reterr)
{
    if (fm_parse_duration_ns(setting->value, ret_ns) != 0 || *ret_ns < LIMIT_NS_MIN ||
        *ret_ns > LIMIT_NS_MAX) {
        return fm_error_set(reterr, FM_EINVAL,
                            "parameter '%s' is '%s', but must be a duration from 1ms to 24h, as "
                            "30s",
                            setting->key, setting->value);
    }
    return 0;
}

static int limits_read(struct fm_process_pool_options *options, const struct fm_setting *settings,
                       struct fm_error *reterr)
{
    uint64_t processes = 0;
    uint64_t attempts = 0;
    const struct fm_setting *bytes = &settings[PARAMETER_ANSWER_BYTES];
    const struct fm_setting *memory = &settings[PARAMETER_SHARED_MEMORY];
    uint64_t shared = 0;
    int status =
        fm_option_uint(&settings[PARAMETER_PROCESSES], 1, PROCESSES_MAX, &processes, reterr);
    status = status == 0
                 ? fm_option_uint(&settings[PARAMETER_ATTEMPTS], 1, ATTEMPTS_MAX, &attempts, reterr)
                 : status;
    status = status == 0
                 ? duration_read(&settings[PARAMETER_TIME_LIMIT], &options->time_limit_ns, reterr)
                 : status;
    status = status == 0
                 ? duration_read(&settings[PARAMETER_START_LIMIT], &options->start_limit_ns, reterr)
                 : status;
    if (status == 0 &&
        (fm_parse_bytes(bytes->value, &options->answer_bytes_max) != 0 ||
         options->answer_bytes_max == 0 || options->answer_bytes_max > ANSWER_BYTES_MAX)) {
        status = fm_error_set(reterr, FM_EINVAL,
                              "parameter '%s' is '%s', but must be a size up to 64GiB, as 256MiB",
                              bytes->key, bytes->value);
    }
    if (status == 0 && (fm_parse_bytes(memory->value, &shared) != 0 || shared > ANSWER_BYTES_MAX)) {
        status = fm_error_set(reterr, FM_EINVAL,
                              "parameter '%s' is '%s', but must be a size up to 64GiB, as 64MiB",
                              memory->key, memory->value);
    }
    options->memory_half = (size_t)((shared + MEMORY_STEP - 1) / MEMORY_STEP * MEMORY_STEP);
    options->processes = (uint32_t)processes;
    options->attempts = (uint32_t)attempts;
    return status;
}

/* A flag that means nothing on that side. */
static int flags_check(const char *side, const struct port_list *list, uint32_t flag, char mark,
                       struct fm_error *reterr)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if ((list->ports[i].flags & flag) != 0) {
            return fm_error_set(reterr, FM_EINVAL, "parameter '%s': '%c' behind '%s' is for %s",
                                side, mark, list->ports[i].name,
                                mark == '?' ? "inputs" : "outputs");
        }
    }
    return 0;
}

static int process_create(const struct fm_host *host, const struct fm_setting *settings,
                          size_t setting_count, void **ret_state, struct fm_error *reterr)
{
    (void)setting_count;
    struct process_state *state = fm_alloc_zero(1, sizeof(*state));
    if (state == NULL) {
        return out_of_memory(reterr);
    }
    fm_arena_init(&state->arena, 0);
    int status =
        port_list_parse_flags(&state->inputs, "inputs", settings[PARAMETER_INPUTS].value, reterr);
    status = status == 0 ? port_list_parse_flags(&state->outputs, "outputs",
                                                 settings[PARAMETER_OUTPUTS].value, reterr)
                         : status;
    status = status == 0 ? flags_check("outputs", &state->outputs, FM_PORT_OPTIONAL, '?', reterr)
                         : status;
    status = status == 0 ? limits_read(&state->options, settings, reterr) : status;
    status = status == 0 ? command_read(state, settings, reterr) : status;
    if (status != 0) {
        process_destroy(state);
        return status;
    }
    state->options.host = host;
    state->options.inputs = state->inputs.ports;
    state->options.input_count = state->inputs.count;
    state->options.outputs = state->outputs.ports;
    state->options.output_count = state->outputs.count;
    *ret_state = state;
    return 0;
}

static int process_ports(void *state_, const struct fm_port **ret_inputs, uint32_t *ret_input_count,
                         const struct fm_port **ret_outputs, uint32_t *ret_output_count)
{
    const struct process_state *state = state_;
    *ret_inputs = state->inputs.ports;
    *ret_input_count = state->inputs.count;
    *ret_outputs = state->outputs.ports;
    *ret_output_count = state->outputs.count;
    return 0;
}

static int process_info(void *state_, struct fm_operator_info *ret_info)
{
    const struct process_state *state = state_;
    ret_info->runs_at_once = state->options.processes;
    ret_info->files = state->files;
    ret_info->file_count = state->file_count;
    return 0;
}

static int process_start(void *state_, const char *stage, struct fm_error *reterr)
{
    struct process_state *state = state_;
    return fm_process_pool_start(&state->options, stage, &state->pool, reterr);
}

static int process_run(void *state_, struct fm_operator_call *call)
{
    const struct process_state *state = state_;
    if (state->pool == NULL) {
        return fm_error_set(&call->error, FM_EINTERNAL, "its processes were not started");
    }
    return fm_process_pool_run(state->pool, call);
}

const struct fm_operator fm_operator_process = {
    .struct_size = sizeof(struct fm_operator),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "process",
    .summary = "a program in any language, given items on its standard input",
    .parameters = parameters,
    .create = process_create,
    .destroy = process_destroy,
    .ports = process_ports,
    .run = process_run,
    .info = process_info,
    .start = process_start,
};
