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
        const char *nested = fm_call_positional(call, 1);
        const struct fm_command *command = fm_command_find(name);
        if (nested != NULL && (command == NULL || !command->group)) {
            return fm_call_usage(call, "'%s' is one argument too many", nested);
        }
        const struct fm_command *group = nested != NULL ? command : NULL;
        if (group != NULL) {
            command = fm_command_find_in(group, nested);
            name = nested;
        }
        if (command == NULL) {
            const char *suggestion = fm_command_suggest(group, name);
            return suggestion != NULL
                       ? fm_call_usage(call,
                                       "there is no command '%s'; did you mean '%s'? "
                                       "'fermata help' lists all commands",
                                       name, suggestion)
                       : fm_call_usage(call, "there is no command '%s'; 'fermata help' lists all",
                                       name);
        }
        fm_usage_command(&text, command, call->columns, call->color_out);
    }
    return fm_call_print(call, &text);
}

static const struct fm_positional positionals[] = {
    {.name = "COMMAND",
     .help = "the command to explain; without it, all commands are listed",
     .optional = true},
    {.name = "NESTED", .help = "the command of a group, as verify of job", .optional = true},
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
