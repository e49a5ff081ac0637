/*
 * Tests of help texts, man pages, Markdown and completions made from a command table with
 * everything awkward in it.
 */
/* cmd is a program, not a library: what is tested is included. */
#include "cmd/documents.c"
#include "cmd/arguments.c"
#include "cmd/command.c"
#include "cmd/completions.c"
#include "cmd/exit_code.c"
#include "cmd/usage.c"

#include "tests/harness/test.h"

static const char *const choices[] = {"deferred", "eager", NULL};

static const struct fm_option options[] = {
    {.name = "policy",
     .short_name = 'p',
     .kind = FM_OPTION_CHOICE,
     .value_name = "POLICY",
     .choices = choices,
     .default_value = "deferred",
     .help = "how batches are formed",
     .group = "Scheduling"},
    {.name = "a-very-long-option-name-indeed",
     .kind = FM_OPTION_PATH,
     .repeat = true,
     .value_name = "SOME-VALUE",
     .environment = "FERMATA_X",
     .help = "it's [special]: 50% \"quoted\" \\ back|slash `tick` with a long explanation that "
             "certainly has to be wrapped somewhere"},
    {.name = "save", .kind = FM_OPTION_FLAG, .default_value = "yes", .help = "write no files"},
    {.name = "hidden", .kind = FM_OPTION_FLAG, .hidden = true, .help = "never shown"},
    FM_OPTION_JSON,
    {.name = NULL},
};

static const struct fm_positional positionals[] = {
    {.name = "MODEL", .help = "which", .path = true},
    {.name = "INPUT", .help = "what", .optional = true, .repeat = true},
    {.name = NULL},
};

static const struct fm_example examples[] = {
    {"Do it", "fermata work model.onnx --policy eager"},
    {NULL, NULL},
};

static const int exit_codes[] = {FM_EXIT_INPUT, FM_EXIT_INTERRUPTED, 0};

static const struct fm_command work = {
    .name = "work",
    .summary = "work hard on what is given, for as long as it takes and with all that the machine "
               "can spare",
    .description = ".starts with a dot and says it's done in one go, over more words than fit on a "
                   "line of eighty columns.\n\nSecond paragraph.",
    .positionals = positionals,
    .options = options,
    .examples = examples,
    .exit_codes = exit_codes,
    .see_also = "docs/work.md",
};
static const struct fm_command help = {.name = "help", .summary = "explain"};
static const struct fm_command secret = {
    .name = "secret", .summary = "not for you", .hidden = true};
const struct fm_command *const fm_commands[] = {&work, &help, &secret, NULL};

static bool fits(const char *text, size_t columns)
{
    size_t column = 0;
    for (; *text != '\0'; text++) {
        column = *text == '\n' ? 0 : column + 1;
        if (column > columns) {
            return false;
        }
    }
    return true;
}

TEST(help_fits_every_width)
{
    for (uint32_t columns = 0; columns < 200; columns++) {
        struct fm_text text = {0};
        uint32_t effective = columns < FM_USAGE_COLUMNS_MIN ? FM_USAGE_COLUMNS_MIN : columns;
        fm_usage_command(&text, &work, columns, false);
        CHECK(!text.failed);
        /* Words are never cut: the longest is the option's own form and the example. */
        CHECK(fits(text.data, effective < 60 ? 60 : effective));
        CHECK(effective > FM_USAGE_COLUMNS_MAX || fits(text.data, FM_USAGE_COLUMNS_MAX));
        fm_text_deinit(&text);
        fm_usage_overview(&text, columns, false);
        CHECK(fits(text.data, effective < 60 ? 60 : effective));
        fm_text_deinit(&text);
    }
}

TEST(help_says_everything)
{
    static const char *const parts[] = {
        "fermata work: work hard",
        "Usage: fermata work [OPTION...] MODEL [INPUT...]",
        "\nSecond paragraph.\n",
        "Scheduling:\n",
        "  -p, --policy POLICY       how batches are formed: deferred, eager (default\n",
        "      --no-save ",
        "may be repeated",
        "$ fermata work model.onnx --policy eager",
        "  130   interrupted",
        "See also: docs/work.md",
        "-h, --help",
        "FERMATA_X",
    };
    struct fm_text text = {0};
    fm_usage_command(&text, &work, 80, false);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        CHECK_STR_CONTAINS(text.data, parts[i]);
    }
    CHECK(strstr(text.data, "hidden") == NULL && strchr(text.data, '\033') == NULL);
    fm_text_deinit(&text);
    fm_usage_command(&text, &work, 80, true);
    CHECK_STR_CONTAINS(text.data, "\033[1mScheduling:\033[0m");
    fm_text_deinit(&text);
    fm_usage_overview(&text, 80, false);
    CHECK_STR_CONTAINS(text.data, "  work        work hard");
    CHECK(strstr(text.data, "secret") == NULL);
    fm_text_deinit(&text);
}

TEST(man_page_is_escaped)
{
    struct fm_text text = {0};
    fm_documents_man(&text, &work, "1.2.3");
    CHECK_STR_CONTAINS(text.data, ".TH \"FERMATA\\-WORK\" 1 \"\" \"Fermata 1.2.3\" \"Fermata\"\n");
    CHECK_STR_CONTAINS(text.data, "\n\\&.starts with a dot");
    CHECK_STR_CONTAINS(text.data, "it\\(aqs done");
    CHECK_STR_CONTAINS(text.data, "\\fB\\-p, \\-\\-policy POLICY\\fR");
    CHECK_STR_CONTAINS(text.data, "\\e back|slash");
    CHECK_STR_CONTAINS(text.data, "\n.PP\nSecond paragraph.");
    CHECK(strstr(text.data, "never shown") == NULL);
    fm_text_deinit(&text);
    fm_documents_man(&text, NULL, "1.2.3");
    CHECK_STR_CONTAINS(text.data, "\\fBfermata\\-work\\fR(1)");
    CHECK(strstr(text.data, "secret") == NULL);
    fm_text_deinit(&text);
}

TEST(markdown_is_escaped)
{
    struct fm_text text = {0};
    fm_documents_markdown(&text);
    CHECK_STR_CONTAINS(text.data, "\n## fermata work\n");
    CHECK_STR_CONTAINS(
        text.data,
        "| `-p, --policy POLICY` | how batches are formed: deferred, eager (default deferred) |");
    CHECK_STR_CONTAINS(text.data, "back\\|slash \\`tick\\`");
    CHECK_STR_CONTAINS(text.data, "Exit codes: 0, 1, 2, 3, 130.");
    CHECK(strstr(text.data, "hidden") == NULL && strstr(text.data, "secret") == NULL);
    fm_text_deinit(&text);
}

TEST(completions_name_commands_options_and_choices)
{
    struct fm_text text = {0};
    fm_documents_bash(&text);
    CHECK_STR_CONTAINS(text.data, "compgen -W \"work help --help --version\"");
    CHECK_STR_CONTAINS(text.data,
                       "--policy | -p)\n            COMPREPLY=($(compgen -W \"deferred eager\"");
    CHECK_STR_CONTAINS(text.data, "--no-save");
    CHECK(strstr(text.data, "secret") == NULL);
    fm_text_deinit(&text);
    fm_documents_zsh(&text);
    CHECK_STR_CONTAINS(
        text.data,
        "'(-p --policy)'{-p+,--policy=}'[how batches are formed]:POLICY:(deferred eager)'");
    CHECK_STR_CONTAINS(text.data, "'*--a-very-long-option-name-indeed=[it'\\''s \\[special\\]\\:");
    fm_text_deinit(&text);
    fm_documents_fish(&text);
    CHECK_STR_CONTAINS(text.data, "complete -c fermata -n '__fish_seen_subcommand_from work' -s p "
                                  "-l policy -x -a 'deferred eager'");
    CHECK_STR_CONTAINS(text.data, "-r -F -d 'it\\'s [special]");
    fm_text_deinit(&text);
}

TEST(out_of_memory_only_fails_the_text)
{
    for (uint64_t countdown = 1; countdown < 40; countdown++) {
        void (*const makers[])(struct fm_text *) = {fm_documents_markdown, fm_documents_bash,
                                                    fm_documents_zsh, fm_documents_fish};
        for (size_t i = 0; i < 4; i++) {
            struct fm_text text = {0};
            (void)fm_memory_fail_at(countdown, 1);
            makers[i](&text);
            fm_usage_command(&text, &work, 80, true);
            fm_documents_man(&text, &work, "1");
            (void)fm_memory_fail_at(0, 0);
            CHECK(text.failed || countdown > 5);
            fm_text_deinit(&text);
        }
    }
}

TEST_MAIN()
