/*
 * Help layout. See usage.h.
 */
#include "cmd/usage.h"

#include <string.h>

#include "cmd/arguments.h"
#include "cmd/commands.h"

enum { HELP_COLUMN = 28, INDENT = 2 };

static uint32_t columns_clamp(uint32_t columns)
{
    return columns < FM_USAGE_COLUMNS_MIN   ? FM_USAGE_COLUMNS_MIN
           : columns > FM_USAGE_COLUMNS_MAX ? FM_USAGE_COLUMNS_MAX
                                            : columns;
}

static void spaces(struct fm_text *text, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        fm_text_append_char(text, ' ');
    }
}

/*
 * Words of `paragraph`, wrapped at `columns`, every line after the first indented by `indent`. The
 * first begins in column `at`. An empty line in the paragraph stays one. Ends with a newline.
 */
static void wrap(struct fm_text *text, const char *paragraph, size_t indent, size_t at,
                 size_t columns)
{
    size_t column = at;
    bool line_start = true;
    while (*paragraph != '\0') {
        if (paragraph[0] == '\n' && paragraph[1] == '\n') {
            fm_text_append_string(text, "\n\n");
            spaces(text, indent);
            column = indent;
            line_start = true;
        }
        size_t blank = strspn(paragraph, " \n");
        paragraph += blank;
        size_t length = strcspn(paragraph, " \n");
        if (length == 0) {
            break;
        }
        if (!line_start && column + 1 + length > columns) {
            fm_text_append_char(text, '\n');
            spaces(text, indent);
            column = indent;
            line_start = true;
        }
        if (!line_start) {
            fm_text_append_char(text, ' ');
            column++;
        }
        fm_text_append(text, paragraph, length);
        column += length;
        line_start = false;
        paragraph += length;
    }
    fm_text_append_char(text, '\n');
}

static void heading(struct fm_text *text, const char *title, bool color)
{
    fm_text_append_format(text, "\n%s%s:%s\n", fm_style(color, FM_STYLE_BOLD), title,
                          fm_style(color, FM_STYLE_RESET));
}

/* "  name      help help help", the name in colour; on its own line when it is too long. */
static void entry(struct fm_text *text, const char *name, const char *help, size_t help_column,
                  uint32_t columns, bool color)
{
    spaces(text, INDENT);
    fm_text_append_format(text, "%s%s%s", fm_style(color, FM_STYLE_CYAN), name,
                          fm_style(color, FM_STYLE_RESET));
    size_t column = INDENT + strlen(name);
    if (column + 2 > help_column) {
        fm_text_append_char(text, '\n');
        column = 0;
    }
    spaces(text, help_column - column);
    wrap(text, help, help_column, help_column, columns);
}

void fm_usage_synopsis(struct fm_text *text, const struct fm_command *command)
{
    if (command->group) {
        fm_text_append_format(text, "fermata %s COMMAND [OPTION...] [ARGUMENT...]", command->name);
        return;
    }
    fm_text_append_format(text, "fermata %s [OPTION...]", command->name);
    for (size_t i = 0; command->positionals != NULL && command->positionals[i].name != NULL; i++) {
        const struct fm_positional *positional = &command->positionals[i];
        fm_text_append_format(text, " %s%s%s%s", positional->optional ? "[" : "", positional->name,
                              positional->repeat ? "..." : "", positional->optional ? "]" : "");
    }
}

void fm_usage_option_form(struct fm_text *text, const struct fm_option *option, bool aligned)
{
    if (option->short_name != 0) {
        fm_text_append_format(text, "-%c, ", option->short_name);
    } else if (aligned) {
        fm_text_append_string(text, "    ");
    }
    fm_text_append_format(text, "--%s%s", fm_option_is_negated(option) ? "no-" : "", option->name);
    if (option->kind != FM_OPTION_FLAG) {
        fm_text_append_format(text, " %s",
                              option->value_name != NULL ? option->value_name : "VALUE");
    }
}

void fm_usage_option_help(struct fm_text *text, const struct fm_option *option)
{
    fm_text_append_string(text, option->help);
    const char *opening = " (";
    if (option->kind == FM_OPTION_CHOICE) {
        fm_text_append_string(text, ": ");
        for (size_t i = 0; option->choices[i] != NULL; i++) {
            fm_text_append_format(text, "%s%s", i == 0 ? "" : ", ", option->choices[i]);
        }
    }
    if (option->repeat) {
        fm_text_append_format(text, "%smay be repeated", opening);
        opening = "; ";
    }
    if (option->kind != FM_OPTION_FLAG && option->default_value != NULL) {
        fm_text_append_format(text, "%sdefault %s", opening, option->default_value);
        opening = "; ";
    }
    if (option->environment != NULL) {
        fm_text_append_format(text, "%senvironment %s", opening, option->environment);
        opening = "; ";
    }
    if (opening[0] == ';') {
        fm_text_append_char(text, ')');
    }
}

static void options_print(struct fm_text *text, const struct fm_command *command, uint32_t columns,
                          bool color)
{
    bool open = false;
    struct fm_text form = {0};
    struct fm_text help = {0};
    for (size_t i = 0; command->options != NULL && command->options[i].name != NULL; i++) {
        const struct fm_option *option = &command->options[i];
        if (option->group != NULL || !open) {
            heading(text, option->group != NULL ? option->group : "Options", color);
            open = true;
        }
        if (option->hidden) {
            continue;
        }
        fm_text_clear(&form);
        fm_text_clear(&help);
        fm_usage_option_form(&form, option, true);
        fm_usage_option_help(&help, option);
        if (!form.failed && !help.failed) {
            entry(text, form.data, help.data, HELP_COLUMN, columns, color);
        }
        text->failed = text->failed || form.failed || help.failed;
    }
    if (!open) {
        heading(text, "Options", color);
    }
    entry(text, "-h, --help", "print this text", HELP_COLUMN, columns, color);
    fm_text_deinit(&form);
    fm_text_deinit(&help);
}

static void examples_print(struct fm_text *text, const struct fm_example *examples, bool color)
{
    if (examples == NULL || examples[0].text == NULL) {
        return;
    }
    heading(text, "Examples", color);
    fm_text_append_string(text, "  (a file name without a folder stands for a file of yours)\n\n");
    for (size_t i = 0; examples[i].text != NULL; i++) {
        fm_text_append_format(text, "%s  %s\n    %s$ %s%s\n", i == 0 ? "" : "\n", examples[i].text,
                              fm_style(color, FM_STYLE_GREEN), examples[i].command,
                              fm_style(color, FM_STYLE_RESET));
    }
}

static void nested_print(struct fm_text *text, const struct fm_command *group, uint32_t columns,
                         bool color)
{
    heading(text, "Commands", color);
    for (size_t i = 0; fm_commands[i] != NULL; i++) {
        const char *name = fm_command_in_group(fm_commands[i], group);
        if (name != NULL && !fm_commands[i]->hidden) {
            entry(text, name, fm_commands[i]->summary, 16, columns, color);
        }
    }
}

static void exit_code_print(struct fm_text *text, int code, uint32_t columns, bool color)
{
    struct fm_text number = {0};
    fm_text_append_format(&number, "%d", code);
    if (!number.failed) {
        entry(text, number.data, fm_exit_code_meaning(code), 8, columns, color);
    }
    text->failed = text->failed || number.failed;
    fm_text_deinit(&number);
}

void fm_usage_command(struct fm_text *text, const struct fm_command *command, uint32_t columns,
                      bool color)
{
    columns = columns_clamp(columns);
    const char *bold = fm_style(color, FM_STYLE_BOLD);
    const char *reset = fm_style(color, FM_STYLE_RESET);
    size_t prefix = strlen("fermata ") + strlen(command->name) + strlen(": ");
    fm_text_append_format(text, "%sfermata %s%s: ", bold, command->name, reset);
    wrap(text, command->summary, prefix, prefix, columns);
    struct fm_text synopsis = {0};
    fm_usage_synopsis(&synopsis, command);
    if (!synopsis.failed) {
        fm_text_append_format(text, "\n%sUsage:%s ", bold, reset);
        wrap(text, synopsis.data, 11, 7, columns);
    }
    text->failed = text->failed || synopsis.failed;
    fm_text_deinit(&synopsis);
    if (command->description != NULL) {
        fm_text_append_char(text, '\n');
        wrap(text, command->description, 0, 0, columns);
    }
    if (command->group) {
        nested_print(text, command, columns, color);
    }
    examples_print(text, command->examples, color);
    if (!command->group && command->positionals != NULL && command->positionals[0].name != NULL) {
        heading(text, "Arguments", color);
        for (size_t i = 0; command->positionals[i].name != NULL; i++) {
            entry(text, command->positionals[i].name, command->positionals[i].help, 12, columns,
                  color);
        }
    }
    options_print(text, command, columns, color);
    heading(text, "Exit codes", color);
    for (int code = FM_EXIT_OK; code <= FM_EXIT_USAGE; code++) {
        exit_code_print(text, code, columns, color);
    }
    for (size_t i = 0; command->exit_codes != NULL && command->exit_codes[i] != 0; i++) {
        exit_code_print(text, command->exit_codes[i], columns, color);
    }
    if (command->see_also != NULL) {
        fm_text_append_string(text, "\nSee also: ");
        wrap(text, command->see_also, 10, 10, columns);
    }
}

void fm_usage_overview(struct fm_text *text, uint32_t columns, bool color)
{
    static const struct fm_example examples[] = {
        {"See what a model wants and gives", "fermata infer .deps/models/ocr/cls --inputs"},
        {"Ask a model something", "fermata infer model.onnx photo.jpg --top 5"},
        {"Measure how fast it is, and in which setting", "fermata profile model.onnx"},
        {"Learn a command", "fermata help infer"},
        {NULL, NULL},
    };
    columns = columns_clamp(columns);
    const char *bold = fm_style(color, FM_STYLE_BOLD);
    const char *reset = fm_style(color, FM_STYLE_RESET);
    fm_text_append_format(text, "%sfermata%s: ", bold, reset);
    wrap(text, "runs neural networks: online under a latency target, offline over large data", 9, 9,
         columns);
    fm_text_append_format(text, "\n%sUsage:%s fermata COMMAND [OPTION...] [ARGUMENT...]\n", bold,
                          reset);
    heading(text, "Commands", color);
    for (size_t i = 0; fm_commands[i] != NULL; i++) {
        if (!fm_commands[i]->hidden && !fm_command_is_nested(fm_commands[i])) {
            entry(text, fm_commands[i]->name, fm_commands[i]->summary, 14, columns, color);
        }
    }
    heading(text, "Options", color);
    entry(text, "-h, --help", "print this text; after a command, that command's help", 18, columns,
          color);
    entry(text, "-V, --version", "print the version and how it was built (with --json: as JSON)",
          18, columns, color);
    examples_print(text, examples, color);
    heading(text, "Environment", color);
    entry(text, "FERMATA_PLUGIN_PATH",
          "directories searched for plug-ins first, separated by colons", 24, columns, color);
    entry(text, "FERMATA_DUCKDB", "path of DuckDB's library, which reads and writes Parquet", 24,
          columns, color);
    entry(text, "NO_COLOR", "set to anything: no colours, even on a terminal", 24, columns, color);
}
