/*
 * Tests of the command line parser, as a table of command lines.
 */
/* cmd is a program, not a library: what is tested is included. */
#include "cmd/arguments.c"
#include "cmd/command.c"
#include "cmd/exit_code.c"

#include "tests/harness/test.h"

static const char *const colors[] = {"red", "green", "blue", NULL};

static const struct fm_option options[] = {
    {.name = "count",
     .short_name = 'n',
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "3",
     .min = 1,
     .max = 10,
     .help = "h"},
    {.name = "offset",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .min = -5,
     .max = 5,
     .help = "h"},
    {.name = "sizes",
     .kind = FM_OPTION_INTEGERS,
     .value_name = "A,B",
     .default_value = "1,2",
     .min = 1,
     .max = 64,
     .help = "h"},
    {.name = "verbose", .short_name = 'v', .kind = FM_OPTION_FLAG, .help = "h"},
    {.name = "dry", .short_name = 'd', .kind = FM_OPTION_FLAG, .help = "h"},
    {.name = "save", .kind = FM_OPTION_FLAG, .default_value = "yes", .help = "h"},
    {.name = "name",
     .short_name = 'm',
     .kind = FM_OPTION_STRING,
     .value_name = "NAME",
     .environment = "TEST_NAME",
     .help = "h"},
    {.name = "file",
     .short_name = 'f',
     .kind = FM_OPTION_PATH,
     .repeat = true,
     .value_name = "FILE",
     .help = "h"},
    {.name = "ratio",
     .kind = FM_OPTION_NUMBER,
     .value_name = "X",
     .number_min = 0,
     .number_max = 1,
     .help = "h"},
    {.name = "wait",
     .kind = FM_OPTION_DURATION,
     .value_name = "TIME",
     .default_value = "250ms",
     .environment = "TEST_WAIT",
     .help = "h"},
    {.name = "memory", .kind = FM_OPTION_BYTES, .value_name = "SIZE", .help = "h"},
    {.name = "color",
     .kind = FM_OPTION_CHOICE,
     .value_name = "COLOR",
     .choices = colors,
     .default_value = "green",
     .help = "h"},
    {.name = "secret", .kind = FM_OPTION_FLAG, .hidden = true, .help = "h"},
    FM_OPTION_JSON,
    {.name = NULL},
};

static const struct fm_positional positionals[] = {
    {.name = "MODEL", .help = "the model"},
    {.name = "INPUT", .help = "the inputs", .optional = true, .repeat = true},
    {.name = NULL},
};

static const struct fm_positional one_positional[] = {{.name = "MODEL", .help = "the model"},
                                                      {.name = NULL}};

static const struct fm_command command = {
    .name = "test", .options = options, .positionals = positionals};
static const struct fm_command strict_command = {.name = "strict", .positionals = one_positional};

static const char *environment_name;
static const char *environment_wait;

static const char *environment(const char *name)
{
    return strcmp(name, "TEST_NAME") == 0   ? environment_name
           : strcmp(name, "TEST_WAIT") == 0 ? environment_wait
                                            : NULL;
}

static struct fm_arena arena;
static struct fm_call call;
static struct fm_error error;

/* Parses words separated by one blank; '""' is an empty word. */
static int parse_with(const struct fm_command *with, const char *line)
{
    static char copy[1024];
    const char *words[64];
    size_t count = 0;
    fm_arena_deinit(&arena);
    fm_arena_init(&arena, 0);
    call = (struct fm_call){.command = with, .arena = &arena};
    error = (struct fm_error){0};
    (void)snprintf(copy, sizeof copy, "%s", line);
    char *rest = copy;
    while (rest != NULL && *rest != '\0') {
        char *word = strsep(&rest, " ");
        words[count++] = strcmp(word, "\"\"") == 0 ? "" : word;
    }
    return fm_arguments_parse(&call, words, count, environment, &error);
}

static int parse(const char *line)
{
    return parse_with(&command, line);
}

TEST(all_forms_of_options_are_understood)
{
    static const char *const lines[] = {"m --count=7", "m --count 7", "m -n 7",    "m -n7",
                                        "m -n=7",      "--count=7 m", "-n 7 -- m", "m -vn7"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        CHECK_INT_EQ(parse(lines[i]), 0);
        CHECK_INT_EQ(fm_call_integer(&call, "count"), 7);
        CHECK(fm_call_given(&call, "count"));
        CHECK_UINT_EQ(call.positional_count, 1);
        CHECK_STR_EQ(fm_call_positional(&call, 0), "m");
    }
    CHECK_INT_EQ(parse("m -vd a -"), 0);
    CHECK(fm_call_flag(&call, "verbose") && fm_call_flag(&call, "dry"));
    CHECK_STR_EQ(fm_call_positional(&call, 2), "-");
    CHECK(fm_call_positional(&call, 3) == NULL);
    CHECK_INT_EQ(parse("m -- --count -n"), 0);
    CHECK_UINT_EQ(call.positional_count, 3);
    CHECK_STR_EQ(fm_call_positional(&call, 1), "--count");
}

TEST(defaults_environment_and_command_line_in_that_order)
{
    CHECK_INT_EQ(parse("m"), 0);
    CHECK_INT_EQ(fm_call_integer(&call, "count"), 3);
    CHECK(!fm_call_given(&call, "count"));
    CHECK_UINT_EQ(fm_call_duration_ns(&call, "wait"), 250000000);
    CHECK(fm_call_string(&call, "name") == NULL);
    CHECK_INT_EQ(fm_call_choice(&call, "color"), 1);
    CHECK_STR_EQ(fm_call_string(&call, "color"), "green");
    CHECK(fm_call_flag(&call, "save"));
    uint32_t count = 0;
    const int64_t *sizes = fm_call_integers(&call, "sizes", &count);
    CHECK_UINT_EQ(count, 2);
    CHECK_INT_EQ(sizes[1], 2);
    environment_name = "from-environment";
    environment_wait = "3";
    CHECK_INT_EQ(parse("m"), 0);
    CHECK_STR_EQ(fm_call_string(&call, "name"), "from-environment");
    CHECK(fm_call_given(&call, "name"));
    CHECK_UINT_EQ(fm_call_duration_ns(&call, "wait"), 3000000000);
    CHECK_INT_EQ(parse("m --name given"), 0);
    CHECK_STR_EQ(fm_call_string(&call, "name"), "given");
    environment_wait = "soon";
    CHECK_INT_EQ(parse("m"), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text,
                       "environment variable TEST_WAIT: 'soon' is not a duration such as");
    environment_wait = "";
    CHECK_INT_EQ(parse("m"), 0);
    CHECK_UINT_EQ(fm_call_duration_ns(&call, "wait"), 250000000);
    environment_name = NULL;
    environment_wait = NULL;
}

TEST(values_have_their_types)
{
    CHECK_INT_EQ(parse("m --sizes 1,8,64 --ratio 0.25 --wait 1.5s --memory 64MiB --color blue "
                       "--offset -5 --no-save --file a -f b --file=c"),
                 0);
    uint32_t count = 0;
    const int64_t *sizes = fm_call_integers(&call, "sizes", &count);
    CHECK_UINT_EQ(count, 3);
    CHECK_INT_EQ(sizes[2], 64);
    CHECK_NEAR(fm_call_number(&call, "ratio"), 0.25, 0);
    CHECK_UINT_EQ(fm_call_duration_ns(&call, "wait"), 1500000000);
    CHECK_UINT_EQ(fm_call_bytes(&call, "memory"), 64u << 20);
    CHECK_INT_EQ(fm_call_choice(&call, "color"), 2);
    CHECK_INT_EQ(fm_call_integer(&call, "offset"), -5);
    CHECK(!fm_call_flag(&call, "save"));
    const char *const *files = fm_call_strings(&call, "file", &count);
    CHECK_UINT_EQ(count, 3);
    CHECK_STR_EQ(files[0], "a");
    CHECK_STR_EQ(files[2], "c");
    CHECK_INT_EQ(parse("m --verbose=no --save=yes"), 0);
    CHECK(!fm_call_flag(&call, "verbose") && fm_call_flag(&call, "save"));
}

TEST(mistakes_are_named)
{
    static const struct {
        const char *line;
        const char *says;
    } cases[] = {
        {"", "MODEL is missing: the model"},
        {"m --cuont 3", "unknown option '--cuont'; did you mean '--count'?"},
        {"m --verb", "unknown option '--verb'; did you mean '--verbose'?"},
        {"m --no-svae", "unknown option '--no-svae'; did you mean '--no-save'?"},
        {"m --hlep", "did you mean '--help'?"},
        {"m --secre", "unknown option '--secre'"},
        {"m --", ""},
        {"m --zzzzzzzz=5", "unknown option '--zzzzzzzz'"},
        {"m --count", "--count needs a value: a whole number from 1 to 10"},
        {"m --count --verbose", "--count needs a value: a whole number from 1 to 10 (write "
                                "--count=--verbose if '--verbose' is meant to be it)"},
        {"m -n", "-n needs a value"},
        {"m --count=", "--count is empty: give it a whole number from 1 to 10"},
        {"m --count 0", "--count: '0' is not a whole number from 1 to 10"},
        {"m --count 11", "'11' is not"},
        {"m --count 3x", "'3x' is not"},
        {"m --count 99999999999999999999", "is not a whole number"},
        {"m --count 3 -n 4", "-n was given twice; give it once"},
        {"m --save --no-save", "--no-save was given twice"},
        {"m -x", "unknown option '-x' in '-x'"},
        {"m -vx", "unknown option '-x' in '-vx'"},
        {"m -5", "put -- before arguments that begin with a dash"},
        {"m --no-count 3", "unknown option '--no-count'"},
        {"m --no-save=yes", "--no-save takes no value"},
        {"m --verbose=maybe", "--verbose: 'maybe' is not yes or no"},
        {"m --ratio 1.5", "'1.5' is not a number from 0 to 1"},
        {"m --ratio nan", "'nan' is not"},
        {"m --wait 5parsec", "is not a duration such as 250ms"},
        {"m --wait 1e18", "--wait: '1e18' is too long: at most 584 years"},
        {"m --memory lots", "is not a size such as"},
        {"m --memory 1e30", "--memory: '1e30' is too large: less than 16 EiB"},
        {"m --sizes 1,,2", "is not a comma-separated list"},
        {"m --sizes 1,65", "from 1 to 64"},
        {"m --color gren", "'gren' is not one of red, green, blue; did you mean 'green'?"},
        {"m --name \"\"", "--name is empty: give it a text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int expected = cases[i].says[0] == '\0' ? 0 : FM_EINVAL;
        int status = parse(cases[i].line);
        if (status != expected) {
            printf("# %s: %s\n", cases[i].line, error.text);
        }
        CHECK_INT_EQ(status, expected);
        CHECK_STR_CONTAINS(error.text, cases[i].says);
    }
    CHECK_INT_EQ(parse_with(&strict_command, "a b"), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "'b' is one argument too many");
    CHECK_INT_EQ(parse_with(&strict_command, "a --top"), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "unknown option '--top'");
    CHECK(!call.json);
}

TEST(help_and_json_are_seen_despite_mistakes)
{
    CHECK_INT_EQ(parse("--help"), 0);
    CHECK(call.help);
    CHECK_INT_EQ(parse("-vh"), 0);
    CHECK(call.help);
    CHECK_INT_EQ(parse("--count 99 --json"), FM_EINVAL);
    CHECK(call.json);
    CHECK_INT_EQ(parse("m -- --json"), 0);
    CHECK(!call.json);
}

TEST(many_repeats_are_kept_in_order)
{
    const char *words[2001];
    static char names[1000][16];
    words[0] = "m";
    for (size_t i = 0; i < 1000; i++) {
        (void)snprintf(names[i], sizeof names[i], "f%zu", i);
        words[1 + 2 * i] = "--file";
        words[2 + 2 * i] = names[i];
    }
    fm_arena_deinit(&arena);
    fm_arena_init(&arena, 0);
    call = (struct fm_call){.command = &command, .arena = &arena};
    CHECK_INT_EQ(fm_arguments_parse(&call, words, 2001, environment, &error), 0);
    uint32_t count = 0;
    const char *const *files = fm_call_strings(&call, "file", &count);
    CHECK_UINT_EQ(count, 1000);
    for (size_t i = 0; i < 1000; i++) {
        CHECK_STR_EQ(files[i], names[i]);
    }
}

TEST(out_of_memory_is_an_ordinary_error)
{
    fm_arena_deinit(&arena);
    for (uint64_t countdown = 1; countdown < 100; countdown++) {
        const char *words[] = {"m", "--sizes", "1,2,3", "--file", "a", "--file", "b"};
        fm_arena_init(&arena, 0);
        call = (struct fm_call){.command = &command, .arena = &arena};
        (void)fm_memory_fail_at(countdown, 1);
        int status = fm_arguments_parse(&call, words, 7, environment, &error);
        (void)fm_memory_fail_at(0, 0);
        fm_arena_deinit(&arena);
        if (status == 0) {
            return;
        }
        CHECK_INT_EQ(status, FM_ENOMEM);
    }
    CHECK(false); /* it never succeeded */
}

TEST(every_code_has_a_meaning)
{
    CHECK_STR_EQ(fm_exit_code_meaning(0), "success");
    CHECK(fm_exit_code_meaning(77) == NULL);
    CHECK_INT_EQ(fm_exit_code_from_status(0), FM_EXIT_OK);
    CHECK_INT_EQ(fm_exit_code_from_status(FM_EINVAL), FM_EXIT_INPUT);
    CHECK_INT_EQ(fm_exit_code_from_status(FM_EAGAIN), FM_EXIT_UNAVAILABLE);
    CHECK_INT_EQ(fm_exit_code_from_status(FM_EINTERNAL), FM_EXIT_FAILURE);
    CHECK_INT_EQ(fm_exit_code_from_status(FM_ECANCELLED), FM_EXIT_INTERRUPTED);
}

int main(int argc, char **argv)
{
    int result = fm_test_main(argc, argv);
    fm_arena_deinit(&arena);
    return result;
}
