/*
 * main(): finds the command, parses its arguments, runs it, and makes sure that what it printed
 * really got out.
 *
 * Owns: the choice of the command and the facts about the terminal. Does not own: any work. Thread
 * rule: the main thread.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/usage.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/os/os.h"
#include "host/os/process.h"
#include "host/os/standard_files.h"

static bool color_welcome(int descriptor)
{
    const char *no_color = fm_os_environment("NO_COLOR");
    const char *terminal = fm_os_environment("TERM");
    return fm_os_is_terminal(descriptor) && (no_color == NULL || no_color[0] == '\0') &&
           !(terminal != NULL && strcmp(terminal, "dumb") == 0);
}

static int command_call(struct fm_call *call, const char *const *arguments, size_t count)
{
    struct fm_error error = {0};
    int status = fm_arguments_parse(call, arguments, count, fm_os_environment, &error);
    if (status != 0) {
        return fm_call_fail_arguments(call, &error);
    }
    if (call->help) {
        struct fm_text text = {0};
        fm_usage_command(&text, call->command, call->columns, call->color_out);
        return fm_call_print(call, &text);
    }
    return call->command->run(call);
}

static int overview_print(const struct fm_call *call)
{
    struct fm_text text = {0};
    fm_usage_overview(&text, call->columns, call->color_out);
    return fm_call_print(call, &text);
}

/* "fermata job verify ...": the group is call->command. */
static int group_call(struct fm_call *call, const char *const *arguments, size_t count)
{
    const struct fm_command *group = call->command;
    const struct fm_command *command = fm_command_find_in(group, arguments[0]);
    if (command != NULL) {
        call->command = command;
        return command_call(call, arguments + 1, count - 1);
    }
    const char *suggestion = fm_command_suggest(group, arguments[0]);
    return suggestion != NULL
               ? fm_call_usage(call, "unknown command '%s %s'; did you mean '%s %s'?", group->name,
                               arguments[0], group->name, suggestion)
               : fm_call_usage(call, "unknown command '%s %s'", group->name, arguments[0]);
}

static int dispatch(struct fm_call *call, const char *const *arguments, size_t count)
{
    if (count == 0) {
        (void)overview_print(call);
        return FM_EXIT_USAGE;
    }
    const char *name = arguments[0];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        return overview_print(call);
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        call->command = fm_command_find("version");
        return command_call(call, arguments + 1, count - 1);
    }
    /* "job list" is a command's name, but two words. */
    call->command = strchr(name, ' ') == NULL ? fm_command_find(name) : NULL;
    if (call->command != NULL && call->command->group && count > 1 && arguments[1][0] != '-') {
        return group_call(call, arguments + 1, count - 1);
    }
    if (call->command != NULL) {
        return command_call(call, arguments + 1, count - 1);
    }
    if (name[0] == '-') {
        static const char *const known[] = {"--help", "--version"};
        const char *nearest = fm_arguments_suggest(name, known, sizeof known / sizeof known[0]);
        return nearest != NULL
                   ? fm_call_usage(call, "unknown option '%s'; did you mean '%s'?", name, nearest)
                   : fm_call_usage(call,
                                   "unknown option '%s'; options stand behind their command, as in "
                                   "fermata infer --help",
                                   name);
    }
    const char *suggestion = fm_command_suggest(NULL, name);
    if (suggestion != NULL) {
        return fm_call_usage(call, "unknown command '%s'; did you mean '%s'?", name, suggestion);
    }
    return fm_call_usage(call, "unknown command '%s'", name);
}

struct arguments {
    int count;
    char **values;
};

static int run(void *argument)
{
    const struct arguments *arguments = argument;
    int argc = arguments->count;
    char **argv = arguments->values;
    struct fm_arena arena;
    fm_arena_init(&arena, 0);
    struct fm_call call = {
        .arena = &arena,
        .color_out = color_welcome(1),
        .color_err = color_welcome(2),
        .columns = fm_os_terminal_columns(1),
    };
    int exit_code =
        dispatch(&call, (const char *const *)argv + (argc > 0), argc > 0 ? (size_t)argc - 1 : 0);
    errno = 0;
    bool nobody_asked = call.command != NULL && call.command->results_elsewhere &&
                        !fm_standard_output_is_writable();
    if ((fflush(stdout) != 0 || ferror(stdout)) && exit_code == FM_EXIT_OK && !nobody_asked) {
        /* Quiet: whoever writes `| head` knows. */
        exit_code =
            fm_standard_output_abandoned()
                ? FM_EXIT_ABANDONED
                : fm_call_fail_with(&call, FM_EXIT_FAILURE, "cannot write to standard output: %s",
                                    !fm_standard_output_is_writable()
                                        ? "it is closed, and what was printed is lost"
                                    : errno != 0 ? strerror(errno)
                                                 : "an earlier write failed");
    }
    fm_arena_deinit(&arena);
    return exit_code;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {argc, argv};
    if (!fm_standard_files_open()) {
        return FM_EXIT_FAILURE;
    }
    /* ONNX Runtime would send telemetry (host/runtime/backends/onnxruntime/device.c). */
    if (!fm_os_environment_default("ORT_DISABLE_TELEMETRY", "1")) {
        return FM_EXIT_FAILURE;
    }
    fm_process_prepare();
    return fm_process_run(run, &arguments);
}
