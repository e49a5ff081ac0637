/*
 * Help texts: what --help prints, made from the command tables and wrapped to a width.
 *
 * Owns: layout of help for people. Does not own: man pages, completions, Markdown (documents.h).
 * Thread rule: pure.
 */
#ifndef FM_CMD_USAGE_H
#define FM_CMD_USAGE_H

#include "cmd/command.h"
#include "core/util/text.h"

enum { FM_USAGE_COLUMNS_MIN = 40, FM_USAGE_COLUMNS_MAX = 100 };

/* `fermata --help`: all commands, first steps. */
void fm_usage_overview(struct fm_text *text, uint32_t columns, bool color);
/* `fermata <command> --help`. */
void fm_usage_command(struct fm_text *text, const struct fm_command *command, uint32_t columns,
                      bool color);
/* "fermata infer [OPTION...] MODEL [INPUT...]", without a newline. */
void fm_usage_synopsis(struct fm_text *text, const struct fm_command *command);
/* "-k, --top N" or "    --json" (`aligned` keeps room for the short form). */
void fm_usage_option_form(struct fm_text *text, const struct fm_option *option, bool aligned);
/* Help with the default, the range and the environment variable added. */
void fm_usage_option_help(struct fm_text *text, const struct fm_option *option);

#endif
