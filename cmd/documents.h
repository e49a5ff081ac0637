/*
 * Documents made from the command tables: man pages, shell completions, docs/cli.md.
 *
 * Every function appends a complete file to `text`. The result depends on the tables and the
 * version only, so builds are repeatable. Thread rule: pure.
 */
#ifndef FM_CMD_DOCUMENTS_H
#define FM_CMD_DOCUMENTS_H

#include "cmd/command.h"
#include "core/util/text.h"

/* fermata.1, or fermata-<command>.1 when `command` is not NULL. */
void fm_documents_man(struct fm_text *text, const struct fm_command *command, const char *version);
void fm_documents_markdown(struct fm_text *text);
void fm_documents_bash(struct fm_text *text);
void fm_documents_zsh(struct fm_text *text);
void fm_documents_fish(struct fm_text *text);

#endif
