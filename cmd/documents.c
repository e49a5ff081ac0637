/*
 * Man pages (roff) and docs/cli.md from the command tables. See documents.h; completions are in
 * completions.c.
 */
#include "cmd/documents.h"

#include <string.h>

#include "cmd/commands.h"
#include "cmd/usage.h"

/* ---- man pages ---- */

/*
 * Text for roff: backslashes and dashes escaped, a leading control character defused, an empty line
 * becomes a new paragraph. Dashes are escaped everywhere, so that options can be copied from the
 * page as they are.
 */
static void roff(struct fm_text *text, const char *string)
{
    bool line_start = true;
    for (; *string != '\0'; string++) {
        if (string[0] == '\n' && string[1] == '\n') {
            fm_text_append_string(text, "\n.PP\n");
            string++;
            line_start = true;
            continue;
        }
        if (line_start && (*string == '.' || *string == '\'')) {
            fm_text_append_string(text, "\\&");
        }
        line_start = *string == '\n';
        switch (*string) {
        case '\\':
            fm_text_append_string(text, "\\e");
            break;
        case '-':
            fm_text_append_string(text, "\\-");
            break;
        case '\'':
            fm_text_append_string(text, "\\(aq");
            break;
        case '~':
            fm_text_append_string(text, "\\(ti");
            break;
        case '^':
            fm_text_append_string(text, "\\(ha");
            break;
        default:
            fm_text_append_char(text, *string);
            break;
        }
    }
}

static void roff_line(struct fm_text *text, const char *before, const char *string,
                      const char *after)
{
    fm_text_append_string(text, before);
    roff(text, string);
    fm_text_append_string(text, after);
}

static void man_tagged(struct fm_text *text, const char *tag, const char *body)
{
    roff_line(text, ".TP\n\\fB", tag, "\\fR\n");
    roff_line(text, "", body, "\n");
}

static void man_header(struct fm_text *text, const char *name, const char *summary,
                       const char *version)
{
    fm_text_append_format(text, ".TH \"");
    for (const char *letter = name; *letter != '\0'; letter++) {
        char upper = *letter >= 'a' && *letter <= 'z' ? (char)(*letter - 'a' + 'A') : *letter;
        fm_text_append_string(text, upper == '-' ? "\\-" : (char[]){upper, '\0'});
    }
    fm_text_append_format(text, "\" 1 \"\" \"Fermata %s\" \"Fermata\"\n.SH NAME\n", version);
    roff_line(text, "", name, " \\- ");
    roff_line(text, "", summary, "\n");
}

static void man_examples(struct fm_text *text, const struct fm_example *examples)
{
    if (examples == NULL || examples[0].text == NULL) {
        return;
    }
    fm_text_append_string(
        text, ".SH EXAMPLES\nA file name without a folder stands for a file of yours.\n");
    for (size_t i = 0; examples[i].text != NULL; i++) {
        roff_line(text, ".PP\n", examples[i].text, ":\n.PP\n.nf\n.RS\n");
        roff_line(text, "", examples[i].command, "\n.RE\n.fi\n");
    }
}

static void man_exit_code(struct fm_text *text, int code)
{
    fm_text_append_format(text, ".TP\n\\fB%d\\fR\n", code);
    roff_line(text, "", fm_exit_code_meaning(code), "\n");
}

static void man_options(struct fm_text *text, const struct fm_command *command)
{
    struct fm_text form = {0};
    struct fm_text help = {0};
    fm_text_append_string(text, ".SH OPTIONS\n");
    for (size_t i = 0; command->options != NULL && command->options[i].name != NULL; i++) {
        if (command->options[i].group != NULL && i > 0) {
            roff_line(text, ".SS \"", command->options[i].group, "\"\n");
        }
        if (command->options[i].hidden) {
            continue;
        }
        fm_text_clear(&form);
        fm_text_clear(&help);
        fm_usage_option_form(&form, &command->options[i], false);
        fm_usage_option_help(&help, &command->options[i]);
        if (!form.failed && !help.failed) {
            man_tagged(text, form.data, help.data);
        }
        text->failed = text->failed || form.failed || help.failed;
    }
    man_tagged(text, "-h, --help", "print a help text with examples");
    fm_text_deinit(&form);
    fm_text_deinit(&help);
}

/* The page's name: "fermata-job-verify". */
static void man_name(struct fm_text *text, const struct fm_command *command)
{
    fm_text_append_string(text, "fermata-");
    for (const char *letter = command->name; *letter != '\0'; letter++) {
        fm_text_append_char(text, *letter == ' ' ? '-' : *letter);
    }
}

static void man_nested(struct fm_text *text, const struct fm_command *group)
{
    fm_text_append_string(text, ".SH COMMANDS\n");
    for (size_t i = 0; fm_commands[i] != NULL; i++) {
        const char *name = fm_command_in_group(fm_commands[i], group);
        if (name != NULL && !fm_commands[i]->hidden) {
            man_tagged(text, name, fm_commands[i]->summary);
        }
    }
}

static void man_command(struct fm_text *text, const struct fm_command *command, const char *version)
{
    struct fm_text line = {0};
    man_name(&line, command);
    if (!line.failed) {
        man_header(text, line.data, command->summary, version);
    }
    fm_text_clear(&line);
    fm_usage_synopsis(&line, command);
    if (!line.failed) {
        roff_line(text, ".SH SYNOPSIS\n", line.data, "\n");
    }
    text->failed = text->failed || line.failed;
    fm_text_deinit(&line);
    fm_text_append_string(text, ".SH DESCRIPTION\n");
    roff_line(text, "", command->description != NULL ? command->description : command->summary,
              "\n");
    if (command->group) {
        man_nested(text, command);
    } else if (command->positionals != NULL && command->positionals[0].name != NULL) {
        fm_text_append_string(text, ".SH ARGUMENTS\n");
        for (size_t i = 0; command->positionals[i].name != NULL; i++) {
            man_tagged(text, command->positionals[i].name, command->positionals[i].help);
        }
    }
    man_options(text, command);
    man_examples(text, command->examples);
    fm_text_append_string(text, ".SH \"EXIT STATUS\"\n");
    for (int code = FM_EXIT_OK; code <= FM_EXIT_USAGE; code++) {
        man_exit_code(text, code);
    }
    for (size_t i = 0; command->exit_codes != NULL && command->exit_codes[i] != 0; i++) {
        man_exit_code(text, command->exit_codes[i]);
    }
    fm_text_append_string(text, ".SH \"SEE ALSO\"\n\\fBfermata\\fR(1)\n");
    if (command->see_also != NULL) {
        roff_line(text, ".PP\n", command->see_also, "\n");
    }
}

static void man_page(struct fm_text *text, const struct fm_command *command)
{
    struct fm_text name = {0};
    man_name(&name, command);
    if (!name.failed) {
        roff_line(text, ".TP\n\\fB", name.data, "\\fR(1)\n");
    }
    text->failed = text->failed || name.failed;
    fm_text_deinit(&name);
}

static void man_overview(struct fm_text *text, const char *version)
{
    man_header(text, "fermata",
               "runs neural networks: online under a latency target, offline over large data",
               version);
    fm_text_append_string(
        text,
        ".SH SYNOPSIS\n\\fBfermata\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR...] [\\fIARGUMENT\\fR...]\n"
        ".SH COMMANDS\n");
    for (size_t i = 0; fm_commands[i] != NULL; i++) {
        if (!fm_commands[i]->hidden) {
            man_page(text, fm_commands[i]);
            roff_line(text, "", fm_commands[i]->summary, "\n");
        }
    }
    fm_text_append_string(text, ".SH OPTIONS\n");
    man_tagged(text, "-h, --help", "list the commands; after a command, explain it");
    man_tagged(text, "-V, --version",
               "print the version and how it was built; with --json, as JSON");
    fm_text_append_string(text, ".SH ENVIRONMENT\n");
    man_tagged(text, "FERMATA_PLUGIN_PATH",
               "directories searched for plug-ins first, separated by colons");
    man_tagged(text, "FERMATA_DUCKDB", "path of DuckDB's library, which reads and writes Parquet");
    man_tagged(text, "NO_COLOR", "set to anything: no colours, even on a terminal");
    fm_text_append_string(text, ".SH \"EXIT STATUS\"\n");
#define EXIT_ENTRY(name, code, meaning) man_exit_code(text, code);
    FM_EXIT_TABLE(EXIT_ENTRY)
#undef EXIT_ENTRY
}

void fm_documents_man(struct fm_text *text, const struct fm_command *command, const char *version)
{
    if (command == NULL) {
        man_overview(text, version);
    } else {
        man_command(text, command, version);
    }
}

/* ---- docs/cli.md ---- */

/* Text for a Markdown table cell or paragraph. */
static void markdown(struct fm_text *text, const char *string)
{
    for (; *string != '\0'; string++) {
        if (strchr("|<>*_`\\", *string) != NULL) {
            fm_text_append_char(text, '\\');
        }
        fm_text_append_char(text, *string);
    }
}

static void markdown_options(struct fm_text *text, const struct fm_command *command)
{
    struct fm_text help = {0};
    fm_text_append_string(text, "\n| option | meaning |\n|---|---|\n");
    for (size_t i = 0; command->options != NULL && command->options[i].name != NULL; i++) {
        if (command->options[i].hidden) {
            continue;
        }
        fm_text_append_string(text, "| `");
        fm_usage_option_form(text, &command->options[i], false);
        fm_text_append_string(text, "` | ");
        fm_text_clear(&help);
        fm_usage_option_help(&help, &command->options[i]);
        if (!help.failed) {
            markdown(text, help.data);
        }
        text->failed = text->failed || help.failed;
        fm_text_append_string(text, " |\n");
    }
    fm_text_append_string(text, "| `-h, --help` | print a help text with examples |\n");
    fm_text_deinit(&help);
}

static void markdown_nested(struct fm_text *text, const struct fm_command *group)
{
    fm_text_append_string(text, "\n| command | does |\n|---|---|\n");
    for (size_t i = 0; fm_commands[i] != NULL; i++) {
        const char *name = fm_command_in_group(fm_commands[i], group);
        if (name != NULL && !fm_commands[i]->hidden) {
            fm_text_append_format(text, "| `%s` | ", name);
            markdown(text, fm_commands[i]->summary);
            fm_text_append_string(text, " |\n");
        }
    }
}

static void markdown_command(struct fm_text *text, const struct fm_command *command)
{
    fm_text_append_format(text, "\n## fermata %s\n\n", command->name);
    markdown(text, command->summary);
    fm_text_append_string(text, "\n\n```\n");
    fm_usage_synopsis(text, command);
    fm_text_append_string(text, "\n```\n");
    if (command->description != NULL) {
        fm_text_append_char(text, '\n');
        markdown(text, command->description);
        fm_text_append_char(text, '\n');
    }
    for (size_t i = 0; command->examples != NULL && command->examples[i].text != NULL; i++) {
        fm_text_append_char(text, '\n');
        markdown(text, command->examples[i].text);
        fm_text_append_format(text, ":\n\n```sh\n%s\n```\n", command->examples[i].command);
    }
    if (command->group) {
        markdown_nested(text, command);
    } else if (command->positionals != NULL && command->positionals[0].name != NULL) {
        fm_text_append_string(text, "\n| argument | meaning |\n|---|---|\n");
        for (size_t i = 0; command->positionals[i].name != NULL; i++) {
            fm_text_append_format(text, "| `%s` | ", command->positionals[i].name);
            markdown(text, command->positionals[i].help);
            fm_text_append_string(text, " |\n");
        }
    }
    markdown_options(text, command);
    fm_text_append_string(text, "\nExit codes: 0, 1, 2");
    for (size_t i = 0; command->exit_codes != NULL && command->exit_codes[i] != 0; i++) {
        fm_text_append_format(text, ", %d", command->exit_codes[i]);
    }
    fm_text_append_string(text, ".\n");
    if (command->see_also != NULL) {
        fm_text_append_format(text, "See also: %s.\n", command->see_also);
    }
}

void fm_documents_markdown(struct fm_text *text)
{
    fm_text_append_string(
        text,
        "# The command line\n\n"
        "<!-- Generated by `fermata internal-docs markdown`; change the tables in cmd/, then run "
        "it again. -->\n\n"
        "Every command explains itself: `fermata help COMMAND` or `fermata COMMAND --help`. "
        "Options are written\n"
        "`--name value`, `--name=value` or by their short letter; a flag is switched off with "
        "`--no-name`; `--` ends the\n"
        "options. A misspelt option or command gets a suggestion. Results go to standard output, "
        "everything else to\n"
        "standard error. Colours appear on terminals only, and not when `NO_COLOR` is set.\n\n"
        "In the examples, a file name without a folder stands for a file of yours; those with one "
        "run as they are in the\n"
        "source tree after `./demo.sh`, with `build` in the `PATH`.\n\n"
        "With `--json`, an error is one line on standard error:\n"
        "`{\"error\": {\"command\": ..., \"code\": ..., \"exit_code\": ..., \"message\": "
        "...}}`.\n\n"
        "## Exit codes\n\n| code | meaning |\n|---|---|\n");
#define EXIT_ENTRY(name, code, meaning) fm_text_append_format(text, "| %d | %s |\n", code, meaning);
    FM_EXIT_TABLE(EXIT_ENTRY)
#undef EXIT_ENTRY
    for (size_t i = 0; fm_commands[i] != NULL; i++) {
        if (!fm_commands[i]->hidden) {
            markdown_command(text, fm_commands[i]);
        }
    }
}
