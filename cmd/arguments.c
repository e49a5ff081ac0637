/*
 * The command line parser. See arguments.h.
 */
#include "cmd/arguments.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/text.h"

#define INTEGER_MAX "9223372036854775807" /* INT64_MAX */

enum { SUGGESTIONS_MAX = 128, SUGGESTION_SIZE = 64, EXPECTS_SIZE = 256 };

bool fm_option_is_negated(const struct fm_option *option)
{
    return option->kind == FM_OPTION_FLAG && option->default_value != NULL &&
           strcmp(option->default_value, "yes") == 0;
}

static void range_format(const struct fm_option *option, char *text, size_t size)
{
    if (option->max != 0) {
        (void)snprintf(text, size, " from %" PRId64 " to %" PRId64, option->min, option->max);
    } else {
        (void)snprintf(text, size, " of at least %" PRId64, option->min);
    }
}

const char *fm_option_expects(const struct fm_option *option, char *text, size_t size)
{
    char range[64] = "";
    text[0] = '\0';
    switch (option->kind) {
    case FM_OPTION_INTEGER:
        range_format(option, range, sizeof range);
        (void)snprintf(text, size, "a whole number%s", range);
        break;
    case FM_OPTION_INTEGERS:
        range_format(option, range, sizeof range);
        (void)snprintf(text, size, "a comma-separated list of whole numbers%s", range);
        break;
    case FM_OPTION_NUMBER:
        if (option->number_max != 0) {
            (void)snprintf(text, size, "a number from %g to %g", option->number_min,
                           option->number_max);
        } else {
            (void)snprintf(text, size, "a number of at least %g", option->number_min);
        }
        break;
    case FM_OPTION_DURATION:
        (void)snprintf(text, size, "a duration such as 250ms, 1.5s or 3m");
        break;
    case FM_OPTION_BYTES:
        (void)snprintf(text, size, "a size such as 4096, 64MiB or 1.5GB");
        break;
    case FM_OPTION_CHOICE: {
        size_t used = (size_t)snprintf(text, size, "one of");
        for (size_t i = 0; option->choices[i] != NULL && used < size; i++) {
            used += (size_t)snprintf(text + used, size - used, "%s %s", i == 0 ? "" : ",",
                                     option->choices[i]);
        }
        break;
    }
    case FM_OPTION_PATH:
        (void)snprintf(text, size, "a path");
        break;
    case FM_OPTION_STRING:
    case FM_OPTION_FLAG:
    case FM_OPTION_KIND_COUNT_:
        (void)snprintf(text, size, "a text");
        break;
    }
    return text;
}

static size_t option_count(const struct fm_command *command)
{
    size_t count = 0;
    while (command->options != NULL && command->options[count].name != NULL) {
        count++;
    }
    return count;
}

/* FM_ETOOLARGE: it would do, were it not beyond what a number can hold here. */
static int parse_integer(const struct fm_option *option, const char *text, int64_t *ret_value)
{
    int status = fm_parse_int64(text, ret_value);
    if (status == FM_ETOOLARGE && option->max == 0 && text[0] != '-') {
        return FM_ETOOLARGE;
    }
    return status == 0 && *ret_value >= option->min &&
                   (option->max == 0 || *ret_value <= option->max)
               ? 0
               : FM_EINVAL;
}

/* Comma-separated whole numbers; FM_EINVAL when any is wrong or there are too many. */
static int parse_integers(struct fm_call *call, const struct fm_option *option, const char *text,
                          struct fm_option_value *value)
{
    value->integers = fm_arena_alloc(call->arena, FM_OPTION_LIST_MAX * sizeof *value->integers);
    char *copy = fm_arena_strdup(call->arena, text);
    if (value->integers == NULL || copy == NULL) {
        return FM_ENOMEM;
    }
    value->integer_count = 0;
    while (copy != NULL) {
        char *comma = strchr(copy, ',');
        if (comma != NULL) {
            *comma++ = '\0';
        }
        if (value->integer_count == FM_OPTION_LIST_MAX) {
            return FM_EINVAL;
        }
        int status = parse_integer(option, copy, &value->integers[value->integer_count]);
        if (status != 0) {
            return status;
        }
        value->integer_count++;
        copy = comma;
    }
    return 0;
}

/* Checks one value's text and stores what it means. */
static int value_parse(struct fm_call *call, const struct fm_option *option, const char *text,
                       struct fm_option_value *value)
{
    switch (option->kind) {
    case FM_OPTION_FLAG:
        return fm_parse_bool(text, &value->flag) == 0 ? 0 : FM_EINVAL;
    case FM_OPTION_STRING:
    case FM_OPTION_PATH:
        return text[0] != '\0' ? 0 : FM_EINVAL;
    case FM_OPTION_INTEGER:
        return parse_integer(option, text, &value->integer);
    case FM_OPTION_INTEGERS:
        return parse_integers(call, option, text, value);
    case FM_OPTION_NUMBER:
        if (fm_parse_double(text, &value->number) != 0 || value->number < option->number_min ||
            (option->number_max != 0 && value->number > option->number_max)) {
            return FM_EINVAL;
        }
        return 0;
    case FM_OPTION_DURATION:
        return fm_parse_duration_ns(text, &value->amount);
    case FM_OPTION_BYTES:
        return fm_parse_bytes(text, &value->amount);
    case FM_OPTION_CHOICE:
        for (size_t i = 0; option->choices[i] != NULL; i++) {
            if (strcmp(option->choices[i], text) == 0) {
                value->amount = i;
                return 0;
            }
        }
        return FM_EINVAL;
    case FM_OPTION_KIND_COUNT_:
        break;
    }
    return FM_EINVAL;
}

/* Stores a value. `origin` is how the user wrote it, for messages: "--top", "-k", "environment
 * variable FERMATA_X". */
static int value_store(struct fm_call *call, size_t index, const char *origin, const char *text,
                       struct fm_error *reterr)
{
    const struct fm_option *option = &call->command->options[index];
    struct fm_option_value *value = &call->values[index];
    if (value->given && !option->repeat) {
        return fm_error_set(reterr, FM_EINVAL, "%s was given twice; give it once", origin);
    }
    if (value->count == FM_OPTION_REPEAT_MAX) {
        return fm_error_set(reterr, FM_EINVAL, "%s was given more than %d times", origin,
                            FM_OPTION_REPEAT_MAX);
    }
    int status = value_parse(call, option, text, value);
    if (status == FM_ENOMEM) {
        return fm_error_set(reterr, status, "out of memory while reading the arguments");
    }
    if (status == FM_ETOOLARGE) {
        return fm_error_set(reterr, FM_EINVAL, "%s: '%s' is too %s", origin, text,
                            option->kind == FM_OPTION_DURATION ? "long: at most 584 years"
                            : option->kind == FM_OPTION_BYTES  ? "large: less than 16 EiB"
                                                               : "large: at most " INTEGER_MAX);
    }
    if (status != 0) {
        char expects[EXPECTS_SIZE];
        if (text[0] == '\0') {
            return fm_error_set(reterr, FM_EINVAL, "%s is empty: give it %s", origin,
                                option->kind == FM_OPTION_FLAG
                                    ? "yes or no"
                                    : fm_option_expects(option, expects, sizeof expects));
        }
        size_t choice_count = 0;
        while (option->kind == FM_OPTION_CHOICE && option->choices[choice_count] != NULL) {
            choice_count++;
        }
        const char *suggestion =
            choice_count > 0 ? fm_arguments_suggest(text, option->choices, choice_count) : NULL;
        return fm_error_set(reterr, FM_EINVAL, "%s: '%s' is not %s%s%s%s", origin, text,
                            option->kind == FM_OPTION_FLAG
                                ? "yes or no"
                                : fm_option_expects(option, expects, sizeof expects),
                            suggestion != NULL ? "; did you mean '" : "",
                            suggestion != NULL ? suggestion : "", suggestion != NULL ? "'?" : "");
    }
    /* Grows by doubling at powers of two; the arena keeps the old arrays until the end, which is
     * fine for an argument list. */
    if ((value->count & (value->count - 1)) == 0) {
        const char **texts = fm_arena_alloc(
            call->arena, (value->count == 0 ? 1 : 2 * (size_t)value->count) * sizeof *texts);
        if (texts == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory while reading the arguments");
        }
        if (value->count > 0) {
            memcpy(texts, value->texts, value->count * sizeof *texts);
        }
        value->texts = texts;
    }
    value->texts[value->count++] = text;
    value->given = true;
    return 0;
}

/* Whether exchanging two neighbouring letters of `word` gives `candidate`. */
static bool is_swapped(const char *word, const char *candidate)
{
    size_t length = strlen(word);
    size_t at = 0;
    if (length != strlen(candidate)) {
        return false;
    }
    while (at < length && word[at] == candidate[at]) {
        at++;
    }
    return at + 1 < length && word[at] == candidate[at + 1] && word[at + 1] == candidate[at] &&
           strcmp(word + at + 2, candidate + at + 2) == 0;
}

const char *fm_arguments_suggest(const char *word, const char *const *candidates, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (word[0] != '\0' && strncmp(candidates[i], word, strlen(word)) == 0) {
            return candidates[i];
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (is_swapped(word, candidates[i])) {
            return candidates[i];
        }
    }
    return fm_text_suggest(word, candidates, count);
}

static int unknown_option(const struct fm_command *command, const char *argument,
                          size_t name_length, struct fm_error *reterr)
{
    char names[SUGGESTIONS_MAX][SUGGESTION_SIZE];
    const char *candidates[SUGGESTIONS_MAX];
    size_t count = 0;
    char word[SUGGESTION_SIZE];
    (void)snprintf(word, sizeof word, "%.*s", (int)name_length, argument);
    for (size_t i = 0; i < option_count(command) && count + 2 < SUGGESTIONS_MAX; i++) {
        const struct fm_option *option = &command->options[i];
        if (option->hidden) {
            continue;
        }
        (void)snprintf(names[count], SUGGESTION_SIZE, "%s%s",
                       fm_option_is_negated(option) ? "no-" : "", option->name);
        candidates[count] = names[count];
        count++;
    }
    candidates[count++] = "help";
    const char *suggestion = fm_arguments_suggest(word, candidates, count);
    if (suggestion != NULL) {
        return fm_error_set(reterr, FM_EINVAL, "unknown option '--%s'; did you mean '--%s'?", word,
                            suggestion);
    }
    return fm_error_set(reterr, FM_EINVAL, "unknown option '--%s'", word);
}

/* Where reading stands. */
struct cursor {
    const char *const *arguments;
    size_t count;
    size_t next;
};

/* The value of an option that was written without '=': the next argument, unless that looks like an
 * option. */
static int value_take(struct cursor *cursor, const struct fm_option *option, const char *origin,
                      const char **ret_text, struct fm_error *reterr)
{
    char expects[EXPECTS_SIZE];
    fm_option_expects(option, expects, sizeof expects);
    if (cursor->next == cursor->count) {
        return fm_error_set(reterr, FM_EINVAL, "%s needs a value: %s", origin, expects);
    }
    const char *text = cursor->arguments[cursor->next];
    bool number = text[0] == '-' && ((text[1] >= '0' && text[1] <= '9') || text[1] == '.');
    if (text[0] == '-' && text[1] != '\0' && !number) {
        return fm_error_set(reterr, FM_EINVAL,
                            "%s needs a value: %s (write %s=%s if '%s' is meant to be it)", origin,
                            expects, origin, text, text);
    }
    cursor->next++;
    *ret_text = text;
    return 0;
}

static int parse_long(struct fm_call *call, struct cursor *cursor, const char *argument,
                      struct fm_error *reterr)
{
    const char *name = argument + 2;
    const char *equals = strchr(name, '=');
    size_t length = equals != NULL ? (size_t)(equals - name) : strlen(name);
    char origin[SUGGESTION_SIZE + 8];
    (void)snprintf(origin, sizeof origin, "--%.*s", (int)length, name);
    for (size_t i = 0; i < option_count(call->command); i++) {
        const struct fm_option *option = &call->command->options[i];
        bool plain = strlen(option->name) == length && strncmp(option->name, name, length) == 0;
        bool negative = option->kind == FM_OPTION_FLAG && length == strlen(option->name) + 3 &&
                        strncmp(name, "no-", 3) == 0 &&
                        strncmp(option->name, name + 3, length - 3) == 0;
        if (!plain && !negative) {
            continue;
        }
        if (option->kind == FM_OPTION_FLAG) {
            if (equals != NULL && negative) {
                return fm_error_set(reterr, FM_EINVAL, "%s takes no value", origin);
            }
            return value_store(call, i, origin,
                               negative         ? "no"
                               : equals != NULL ? equals + 1
                                                : "yes",
                               reterr);
        }
        const char *text = equals != NULL ? equals + 1 : NULL;
        if (text == NULL) {
            int status = value_take(cursor, option, origin, &text, reterr);
            if (status != 0) {
                return status;
            }
        }
        return value_store(call, i, origin, text, reterr);
    }
    return unknown_option(call->command, name, length, reterr);
}

/* One argument that begins with a single dash: flags may be bundled; an option with a value takes
 * the rest, or the next argument. */
static int parse_short(struct fm_call *call, struct cursor *cursor, const char *argument,
                       struct fm_error *reterr)
{
    for (const char *letter = argument + 1; *letter != '\0'; letter++) {
        if (*letter == 'h') {
            call->help = true;
            continue;
        }
        size_t index = 0;
        size_t count = option_count(call->command);
        while (index < count && call->command->options[index].short_name != *letter) {
            index++;
        }
        if (index == count) {
            bool number = argument[1] >= '0' && argument[1] <= '9';
            return fm_error_set(reterr, FM_EINVAL, "unknown option '-%c' in '%s'%s", *letter,
                                argument,
                                number ? "; put -- before arguments that begin with a dash" : "");
        }
        const struct fm_option *option = &call->command->options[index];
        const char origin[] = {'-', *letter, '\0'};
        if (option->kind == FM_OPTION_FLAG) {
            int status = value_store(call, index, origin, "yes", reterr);
            if (status != 0) {
                return status;
            }
            continue;
        }
        const char *text = letter[1] == '=' ? letter + 2 : letter[1] != '\0' ? letter + 1 : NULL;
        if (text == NULL) {
            int status = value_take(cursor, option, origin, &text, reterr);
            if (status != 0) {
                return status;
            }
        }
        return value_store(call, index, origin, text, reterr);
    }
    return 0;
}

/* Errors must be JSON when --json is anywhere among the options, even behind the mistake. */
static bool wants_json(const struct fm_command *command, const char *const *arguments, size_t count)
{
    bool has = false;
    for (size_t i = 0; i < option_count(command); i++) {
        has = has || strcmp(command->options[i].name, "json") == 0;
    }
    for (size_t i = 0; has && i < count && strcmp(arguments[i], "--") != 0; i++) {
        if (strcmp(arguments[i], "--json") == 0) {
            return true;
        }
    }
    return false;
}

/* What was not given: the environment, then the default. */
static int fill_in(struct fm_call *call, const char *(*environment)(const char *name),
                   struct fm_error *reterr)
{
    for (size_t i = 0; i < option_count(call->command); i++) {
        const struct fm_option *option = &call->command->options[i];
        struct fm_option_value *value = &call->values[i];
        if (value->given) {
            continue;
        }
        const char *text = option->environment != NULL ? environment(option->environment) : NULL;
        if (text != NULL && text[0] != '\0') {
            char origin[SUGGESTION_SIZE + 32];
            (void)snprintf(origin, sizeof origin, "environment variable %s", option->environment);
            int status = value_store(call, i, origin, text, reterr);
            if (status != 0) {
                return status;
            }
        } else if (option->default_value != NULL) {
            int status = value_store(call, i, option->name, option->default_value, reterr);
            FM_ASSERT(status == 0 || status == FM_ENOMEM);
            if (status != 0) {
                return status;
            }
            value->given = false;
        }
    }
    return 0;
}

static int check_positionals(struct fm_call *call, struct fm_error *reterr)
{
    const struct fm_positional *table = call->command->positionals;
    size_t count = 0;
    bool endless = false;
    for (; table != NULL && table[count].name != NULL; count++) {
        if (!table[count].optional && count >= call->positional_count) {
            return fm_error_set(reterr, FM_EINVAL, "%s is missing: %s", table[count].name,
                                table[count].help);
        }
        endless = endless || table[count].repeat;
    }
    if (!endless && call->positional_count > count) {
        return fm_error_set(reterr, FM_EINVAL, "'%s' is one argument too many",
                            call->positionals[count]);
    }
    return 0;
}

int fm_arguments_parse(struct fm_call *call, const char *const *arguments, size_t count,
                       const char *(*environment)(const char *name), struct fm_error *reterr)
{
    call->json = wants_json(call->command, arguments, count);
    call->help = false;
    call->positional_count = 0;
    call->values =
        fm_arena_alloc(call->arena, (option_count(call->command) + 1) * sizeof *call->values);
    call->positionals = fm_arena_alloc(call->arena, (count + 1) * sizeof *call->positionals);
    if (call->values == NULL || call->positionals == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while reading the arguments");
    }
    struct cursor cursor = {.arguments = arguments, .count = count};
    bool options_over = false;
    while (cursor.next < count) {
        const char *argument = arguments[cursor.next++];
        int status = 0;
        if (options_over || argument[0] != '-' || argument[1] == '\0') {
            call->positionals[call->positional_count++] = argument;
        } else if (strcmp(argument, "--") == 0) {
            options_over = true;
        } else if (strcmp(argument, "--help") == 0) {
            call->help = true;
        } else if (argument[1] == '-') {
            status = parse_long(call, &cursor, argument, reterr);
        } else {
            status = parse_short(call, &cursor, argument, reterr);
        }
        if (call->help) {
            return 0;
        }
        if (status != 0) {
            return status;
        }
    }
    int status = fill_in(call, environment, reterr);
    return status != 0 ? status : check_positionals(call, reterr);
}
