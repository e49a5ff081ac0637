/*
 * The explicit table of commands. Adding one: one file cmd/<name>.c, one line in commands.c, one
 * test, one run of `fermata internal-docs markdown > docs/cli.md`. Thread rule: constant.
 */
#ifndef FM_CMD_COMMANDS_H
#define FM_CMD_COMMANDS_H

#include "cmd/command.h"

/* In the order help lists them, terminated by NULL. */
extern const struct fm_command *const fm_commands[];

/* NULL when there is none of that name ("job verify" is one). */
const struct fm_command *fm_command_find(const char *name);
/* The command `name` of a group. */
const struct fm_command *fm_command_find_in(const struct fm_command *group, const char *name);
/* The visible command whose name is nearest to `name`, of a group or (NULL) of none; NULL when none
 * is near. */
const char *fm_command_suggest(const struct fm_command *group, const char *name);

#endif
