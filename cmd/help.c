/*
 * `fermata help [COMMAND]`: the same texts as --help.
 */
#include <stdio.h>

#include "cmd/commands.h"
#include "cmd/usage.h"

static int run(const struct fm_call *call)
{
    const char *name = fm_call_positional(call, 0);
    struct fm_text text = {0};
    if (name == NULL) {
        fm_usage_overview(&text, call->columns, call->color_out);
    } else {
        const struct fm_command *command = fm_command_find(name);
        if (command == NULL) {
            const char *suggestion = fm_command_suggest(name);
            return fm_call_usage(call, "there is no command '%s'%s%s%s", name,
                                 suggestion != NULL ? "; did you mean '" : "",
                                 suggestion != NULL ? suggestion : "",
                                 suggestion != NULL ? "'?" : "");
        }
        fm_usage_command(&text, command, call->columns, call->color_out);
    }
    int exit_code = FM_EXIT_OK;
    if (text.failed) {
        exit_code = fm_call_fail_with(call, FM_EXIT_FAILURE, "out of memory");
    } else {
        (void)fwrite(text.data, 1, text.length, stdout);
    }
    fm_text_deinit(&text);
    return exit_code;
}

static const struct fm_positional positionals[] = {
    {.name = "COMMAND",
     .help = "the command to explain; without it, all commands are listed",
     .optional = true},
    {.name = NULL},
};

static const struct fm_example examples[] = {
    {"Explain a command", "fermata help infer"},
    {"List all commands", "fermata help"},
    {NULL, NULL},
};

const struct fm_command fm_command_help = {
    .name = "help",
    .summary = "explain a command, with examples",
    .positionals = positionals,
    .examples = examples,
    .run = run,
};
