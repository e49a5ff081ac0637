/*
 * Parsing a command line against a command's table: strict, with suggestions.
 *
 * Accepts --name=value, --name value, -k value, -kvalue, -k=value, bundled short flags, --flag,
 * --no-flag, and -- to end options; options and other arguments may be mixed. Refuses unknown
 * options (with a suggestion), options given twice, missing values, values out of range, missing
 * and surplus arguments. Reads nothing but its arguments and the `environment` function it is
 * given. Thread rule: pure.
 */
#ifndef FM_CMD_ARGUMENTS_H
#define FM_CMD_ARGUMENTS_H

#include "cmd/command.h"

/*
 * Fills call->values, positionals, help and json from arguments (without the program's and the
 * command's name). call->command and an initialised arena behind call->arena are the caller's;
 * texts are borrowed from `arguments` and `environment`. FM_EINVAL (text for the user, without
 * prefix) or FM_ENOMEM. call->json is right even on failure.
 */
int FM_NODISCARD fm_arguments_parse(struct fm_call *call, const char *const *arguments,
                                    size_t count, const char *(*environment)(const char *name),
                                    struct fm_error *reterr);

/*
 * The candidate that `word` probably means: one that it begins, one with two neighbouring letters
 * swapped, else fm_text_suggest(). NULL: none is near.
 */
const char *fm_arguments_suggest(const char *word, const char *const *candidates, size_t count);

/* Shared with completions: true when this flag is shown as --no-<name>. */
bool fm_option_is_negated(const struct fm_option *option);
/* What kind of value it is, for messages and help: "a whole number from 1 to 1000". Returns text.
 */
const char *fm_option_expects(const struct fm_option *option, char *text, size_t size);

#endif
