/*
 * What a command is: one table per command, from which parsing, help, man pages, completions and
 * docs/cli.md are made.
 *
 * Owns: the record types, one call of a command with its parsed arguments, and the one way to print
 * an error. Does not own: what commands do. A command is one file cmd/<name>.c that defines one
 * `const struct fm_command fm_command_<name>`, listed in cmd/commands.c. Thread rule: everything
 * here belongs to the main thread, except that tables are constant.
 *
 *   static const struct fm_option options[] = {
 *       {.name = "top", .short_name = 'k', .kind = FM_OPTION_INTEGER, .value_name = "N",
 * .default_value = "5", .min = 1, .max = 1000, .help = "print the N best classes"}, FM_OPTION_JSON,
 *       {.name = NULL},
 *   };
 *   static int run(const struct fm_call *call) { ... fm_call_integer(call, "top") ... return
 * FM_EXIT_OK; } const struct fm_command fm_command_infer = {.name = "infer", .options = options,
 * .run = run, ...};
 */
#ifndef FM_CMD_COMMAND_H
#define FM_CMD_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cmd/exit_code.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "fermata/status.h"

enum fm_option_kind {
    FM_OPTION_FLAG,     /* --x, or --no-x; default "yes" makes --no-x the form that help shows */
    FM_OPTION_STRING,   /* any text */
    FM_OPTION_PATH,     /* a file or directory: completed by the shell */
    FM_OPTION_INTEGER,  /* whole number in [min, max] */
    FM_OPTION_INTEGERS, /* comma-separated list of such, 1 to FM_OPTION_LIST_MAX of them */
    FM_OPTION_NUMBER,   /* finite number in [number_min, number_max] */
    FM_OPTION_DURATION, /* 250ms, 1.5s, 3m; a bare number is seconds */
    FM_OPTION_BYTES,    /* 64MiB, 1.5GB, 4096 */
    FM_OPTION_CHOICE,   /* one of choices */
    FM_OPTION_KIND_COUNT_
};

#define FM_OPTION_LIST_MAX   64
#define FM_OPTION_REPEAT_MAX 4096

/* One option. Everything not named in an initialiser may stay zero. */
struct fm_option {
    const char *name; /* long form without dashes; NULL ends the table */
    char short_name;  /* 'k' for -k; 0: none */
    enum fm_option_kind kind;
    bool repeat; /* may be given several times: fm_call_strings() (STRING and PATH only) */
    bool hidden; /* parsed, but not shown */
    const char *value_name;     /* "N", "FILE"; not for flags */
    const char *default_value;  /* as one would type it; NULL: none */
    const char *environment;    /* variable that is read when the option is not given; NULL: none */
    const char *const *choices; /* NULL-terminated, for CHOICE */
    int64_t min;
    int64_t max; /* 0: no upper limit */
    double number_min;
    double number_max; /* 0: no upper limit */
    const char *help;  /* a phrase, lower case, no final dot; the default is added by itself */
    const char *group; /* heading this option and those after it stand under; NULL: as before */
};

/* The same option in every command that can speak JSON. With it, errors are JSON too. */
#define FM_OPTION_JSON                                                            \
    {                                                                             \
        .name = "json", .kind = FM_OPTION_FLAG,                                   \
        .help = "print JSON for programs instead of text for people (errors too)" \
    }
#define FM_OPTION_QUIET                                             \
    {                                                               \
        .name = "quiet", .short_name = 'q', .kind = FM_OPTION_FLAG, \
        .help = "no notes and no progress, only results and errors" \
    }

/* One argument without a dash, in order. Only the last may repeat; required ones come first. */
struct fm_positional {
    const char *name; /* "MODEL"; NULL ends the table */
    const char *help;
    bool optional;
    bool repeat;
    bool path; /* completed as a file */
};

struct fm_example {
    const char *text;    /* what it is for, "Label a photo"; NULL ends the table */
    const char *command; /* what to type, without "$ " */
};

struct fm_call;

struct fm_command {
    const char *name;
    const char *summary;     /* "run a model once and print what it answers" */
    const char *description; /* paragraphs separated by an empty line; wrapped by whoever prints
                                them; NULL: none */
    const struct fm_positional *positionals; /* NULL: none */
    const struct fm_option *options;         /* NULL: none but --help */
    const struct fm_example *examples;       /* at least one, unless hidden */
    const int *exit_codes;  /* those used beyond 0, 1 and 2, terminated by 0; NULL: none */
    const char *see_also;   /* "docs/profile.md"; NULL: none */
    bool results_elsewhere; /* in files, or with clients: a closed standard output is no failure */
    bool hidden;
    bool group; /* does nothing itself: "job", to which "job list" and "job verify" belong */
    int (*run)(const struct fm_call *call); /* returns an exit code; parsed arguments are in call */
};

/* "verify" of "job verify"; NULL when `command` does not belong to `group`. */
const char *fm_command_in_group(const struct fm_command *command, const struct fm_command *group);
/* Whether it belongs to a group. */
bool fm_command_is_nested(const struct fm_command *command);

struct fm_option_value {
    bool given;     /* on the command line or in the environment */
    uint32_t count; /* texts; 0: neither given nor a default */
    const char **texts;
    bool flag;
    int64_t integer;
    double number;
    uint64_t amount; /* ns, bytes, or index of the choice */
    int64_t *integers;
    uint32_t integer_count;
};

/* One invocation. Made by main() (or a test), read by the command. */
struct fm_call {
    const struct fm_command *command;
    struct fm_option_value *values; /* by index of command->options */
    const char **positionals;
    uint32_t positional_count;
    bool help;      /* --help was given: nothing else was checked */
    bool json;      /* errors are printed as JSON */
    bool color_out; /* colour is welcome on standard output */
    bool color_err;
    uint32_t columns; /* to wrap text for standard output at */
    struct fm_arena
        *arena; /* lives as long as the call: for copies a command needs until its end */
};

/* What was given, or the default. Asking for an option the table does not have, or with another
 * kind, is a programmer error. */
bool fm_call_given(const struct fm_call *call, const char *option);
bool fm_call_flag(const struct fm_call *call, const char *option);
const char *fm_call_string(const struct fm_call *call,
                           const char *option); /* STRING, PATH, CHOICE; NULL: absent, no default */
const char *const *fm_call_strings(const struct fm_call *call, const char *option,
                                   uint32_t *ret_count);                 /* repeat */
int64_t fm_call_integer(const struct fm_call *call, const char *option); /* 0 when absent */
const int64_t *fm_call_integers(const struct fm_call *call, const char *option,
                                uint32_t *ret_count);
double fm_call_number(const struct fm_call *call, const char *option);
uint64_t fm_call_duration_ns(const struct fm_call *call, const char *option);
uint64_t fm_call_bytes(const struct fm_call *call, const char *option);
int fm_call_choice(const struct fm_call *call,
                   const char *option); /* index into choices, -1 when absent */
/* Positional argument `index`, NULL when it was not given. */
const char *fm_call_positional(const struct fm_call *call, uint32_t index);

/*
 * The one error printer, on standard error: "fermata infer: <text>", or with --json {"error":
 * {...}}. Each returns the exit code for the caller to return. fm_call_fail takes it from the
 * error's status.
 */
int fm_call_fail(const struct fm_call *call, const struct fm_error *error);
int fm_call_fail_with(const struct fm_call *call, int exit_code, const char *format, ...)
    FM_PRINTF(3, 4);
/* FM_EXIT_USAGE, and points to --help. */
int fm_call_usage(const struct fm_call *call, const char *format, ...) FM_PRINTF(2, 3);
/* For errors of functions that look at nothing but the arguments: EINVAL is a usage error, anything
 * else (out of memory, a file) is as in fm_call_fail. */
int fm_call_fail_arguments(const struct fm_call *call, const struct fm_error *error);
/* Writes a finished text to standard output and releases it; FM_EXIT_OK, or FM_EXIT_FAILURE when
 * there was no memory for it. */
int fm_call_print(const struct fm_call *call, struct fm_text *text);
/* Writes a text that may come from outside, with '?' for each byte of a control character (but for
 * line ends and tabs), which could steer the terminal that it is shown on. */
void fm_shown_put(FILE *to, const char *text, size_t length);
/* "fermata infer: note: ..." on standard error; nothing when --quiet or --json was given. */
void fm_call_note(const struct fm_call *call, const char *format, ...) FM_PRINTF(2, 3);
/* As the `note` callback of struct fm_servable_options; context is the call. */
void fm_call_note_text(void *context, const char *text);

/* Terminal styles: the escape sequence when `color`, else "". */
enum fm_style {
    FM_STYLE_RESET,
    FM_STYLE_BOLD,
    FM_STYLE_DIM,
    FM_STYLE_RED,
    FM_STYLE_GREEN,
    FM_STYLE_YELLOW,
    FM_STYLE_CYAN
};
const char *fm_style(bool color, enum fm_style style);

#endif
