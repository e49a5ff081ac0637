/*
 * `fermata internal-docs`: prints the documents made from the command tables. Hidden: for the
 * build, `make install` and tests.
 */
#include <stdio.h>
#include <string.h>

#include "cmd/commands.h"
#include "cmd/documents.h"
#include "fermata_build_facts.h"

static void commands_list(struct fm_text *text)
{
    for (size_t i = 0; fm_commands[i] != NULL; i++) {
        if (!fm_commands[i]->hidden) {
            fm_text_append_format(text, "%s\n", fm_commands[i]->name);
        }
    }
}

static int run(const struct fm_call *call)
{
    const char *format = fm_call_positional(call, 0);
    const char *name = fm_call_positional(call, 1);
    const struct fm_command *command = name != NULL ? fm_command_find(name) : NULL;
    if (name != NULL && (command == NULL || strcmp(format, "man") != 0)) {
        return fm_call_usage(call, "only 'man' takes a command, and it must exist: '%s'", name);
    }
    struct fm_text text = {0};
    if (strcmp(format, "man") == 0) {
        fm_documents_man(&text, command, FM_BUILD_VERSION);
    } else if (strcmp(format, "bash") == 0) {
        fm_documents_bash(&text);
    } else if (strcmp(format, "zsh") == 0) {
        fm_documents_zsh(&text);
    } else if (strcmp(format, "fish") == 0) {
        fm_documents_fish(&text);
    } else if (strcmp(format, "markdown") == 0) {
        fm_documents_markdown(&text);
    } else if (strcmp(format, "commands") == 0) {
        commands_list(&text);
    } else {
        return fm_call_usage(
            call, "unknown format '%s'; one of man, bash, zsh, fish, markdown, commands", format);
    }
    return fm_call_print(call, &text);
}

static const struct fm_positional positionals[] = {
    {.name = "FORMAT", .help = "man, bash, zsh, fish, markdown, or commands (a list of names)"},
    {.name = "COMMAND",
     .help = "with man: the command whose page is printed; without it, that of fermata itself",
     .optional = true},
    {.name = NULL},
};

static const struct fm_example examples[] = {
    {"Write the page of a command", "fermata internal-docs man infer > fermata-infer.1"},
    {NULL, NULL},
};

const struct fm_command fm_command_internal_docs = {
    .name = "internal-docs",
    .summary = "print man pages, completions and docs/cli.md",
    .positionals = positionals,
    .examples = examples,
    .hidden = true,
    .run = run,
};
