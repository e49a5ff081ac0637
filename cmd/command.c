/*
 * A call's arguments by name, and the one error printer. See command.h.
 */
#include "cmd/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/json.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/text.h"

enum { NOTE_SIZE = 4096 };

const char *fm_command_in_group(const struct fm_command *command, const struct fm_command *group)
{
    size_t length = strlen(group->name);
    return group->group && strncmp(command->name, group->name, length) == 0 &&
                   command->name[length] == ' '
               ? command->name + length + 1
               : NULL;
}

bool fm_command_is_nested(const struct fm_command *command)
{
    return strchr(command->name, ' ') != NULL;
}

/* The option called `name`, which must be in the table. */
static size_t option_index(const struct fm_call *call, const char *name)
{
    size_t index = 0;
    const struct fm_option *options = call->command->options;
    FM_ASSERT(options != NULL);
    while (options[index].name != NULL && strcmp(options[index].name, name) != 0) {
        index++;
    }
    FM_ASSERT(options[index].name != NULL);
    return index;
}

static const struct fm_option_value *value_get(const struct fm_call *call, const char *name,
                                               enum fm_option_kind kind)
{
    size_t index = option_index(call, name);
    FM_ASSERT(call->command->options[index].kind == kind);
    return &call->values[index];
}

bool fm_call_given(const struct fm_call *call, const char *option)
{
    return call->values[option_index(call, option)].given;
}

bool fm_call_flag(const struct fm_call *call, const char *option)
{
    return value_get(call, option, FM_OPTION_FLAG)->flag;
}

const char *fm_call_string(const struct fm_call *call, const char *option)
{
    const struct fm_option_value *value = &call->values[option_index(call, option)];
    return value->count > 0 ? value->texts[0] : NULL;
}

const char *const *fm_call_strings(const struct fm_call *call, const char *option,
                                   uint32_t *ret_count)
{
    size_t index = option_index(call, option);
    FM_ASSERT(call->command->options[index].repeat);
    *ret_count = call->values[index].count;
    return call->values[index].texts;
}

int64_t fm_call_integer(const struct fm_call *call, const char *option)
{
    return value_get(call, option, FM_OPTION_INTEGER)->integer;
}

const int64_t *fm_call_integers(const struct fm_call *call, const char *option, uint32_t *ret_count)
{
    const struct fm_option_value *value = value_get(call, option, FM_OPTION_INTEGERS);
    *ret_count = value->integer_count;
    return value->integers;
}

double fm_call_number(const struct fm_call *call, const char *option)
{
    return value_get(call, option, FM_OPTION_NUMBER)->number;
}

uint64_t fm_call_duration_ns(const struct fm_call *call, const char *option)
{
    return value_get(call, option, FM_OPTION_DURATION)->amount;
}

uint64_t fm_call_bytes(const struct fm_call *call, const char *option)
{
    return value_get(call, option, FM_OPTION_BYTES)->amount;
}

int fm_call_choice(const struct fm_call *call, const char *option)
{
    const struct fm_option_value *value = value_get(call, option, FM_OPTION_CHOICE);
    return value->count > 0 ? (int)value->amount : -1;
}

const char *fm_call_positional(const struct fm_call *call, uint32_t index)
{
    return index < call->positional_count ? call->positionals[index] : NULL;
}

const char *fm_style(bool color, enum fm_style style)
{
    static const char *const sequences[] = {
        [FM_STYLE_RESET] = "\033[0m", [FM_STYLE_BOLD] = "\033[1m",   [FM_STYLE_DIM] = "\033[2m",
        [FM_STYLE_RED] = "\033[31m",  [FM_STYLE_GREEN] = "\033[32m", [FM_STYLE_YELLOW] = "\033[33m",
        [FM_STYLE_CYAN] = "\033[36m",
    };
    return color ? sequences[style] : "";
}

/* "fermata infer", or "fermata" outside any command. */
static void prefix_print(const struct fm_call *call)
{
    bool named = call->command != NULL && call->command->name != NULL;
    (void)fprintf(stderr, "%sfermata%s%s%s: ", fm_style(call->color_err, FM_STYLE_BOLD),
                  named ? " " : "", named ? call->command->name : "",
                  fm_style(call->color_err, FM_STYLE_RESET));
}

static void error_print_json(const struct fm_call *call, int exit_code, const char *status,
                             const char *message)
{
    struct fm_text text = {0};
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, &text);
    fm_json_object_begin(&writer);
    fm_json_key(&writer, "error");
    fm_json_object_begin(&writer);
    if (call->command != NULL) {
        fm_json_key(&writer, "command");
        fm_json_string(&writer, call->command->name);
    }
    fm_json_key(&writer, "code");
    fm_json_string(&writer, status);
    fm_json_key(&writer, "exit_code");
    fm_json_int(&writer, exit_code);
    fm_json_key(&writer, "message");
    fm_json_string(&writer, message);
    fm_json_object_end(&writer);
    fm_json_object_end(&writer);
    (void)fprintf(stderr, "%s\n",
                  text.failed
                      ? "{\"error\": {\"code\": \"ENOMEM\", \"message\": \"out of memory\"}}"
                      : text.data);
    fm_text_deinit(&text);
}

void fm_shown_put(FILE *to, const char *text, size_t length)
{
    for (size_t i = 0; i < length;) {
        unsigned char byte = (unsigned char)text[i];
        size_t step = fm_utf8_sequence(text + i, length - i);
        bool plain = (byte >= 0x20 && byte != 0x7f) || byte == '\n' || byte == '\t';
        if (step == 2 && byte == 0xc2 && (unsigned char)text[i + 1] <= 0x9f) {
            (void)fputs("??", to); /* U+0080 to U+009F: some terminals obey these ... */
        } else if (step > 1) {
            (void)fwrite(text + i, 1, step, to);
        } else { /* ... and their bytes outside of UTF-8; other ones may be names in Latin-1 */
            (void)fputc(plain && !(byte >= 0x80 && byte <= 0x9f) ? byte : '?', to);
        }
        i += step > 0 ? step : 1;
    }
}

static void error_print(const struct fm_call *call, int exit_code, const char *status,
                        const char *message)
{
    (void)fflush(stdout);
    if (call->json) {
        error_print_json(call, exit_code, status, message);
        return;
    }
    prefix_print(call);
    (void)fputs(fm_style(call->color_err, FM_STYLE_RED), stderr);
    fm_shown_put(stderr, message, strlen(message));
    (void)fprintf(stderr, "%s\n", fm_style(call->color_err, FM_STYLE_RESET));
}

int fm_call_fail(const struct fm_call *call, const struct fm_error *error)
{
    int exit_code = fm_exit_code_from_status(error->status);
    if (exit_code == FM_EXIT_OK) {
        exit_code = FM_EXIT_FAILURE;
    }
    error_print(call, exit_code, fm_status_name(error->status),
                error->text[0] != '\0' ? error->text : fm_status_text(error->status));
    return exit_code;
}

/* The exit codes that are not made from a status have names of their own in JSON. */
static const char *exit_code_name(int exit_code)
{
    switch (exit_code) {
#define EXIT_NAME(name, code, meaning) \
    case (code):                       \
        return #name;
        FM_EXIT_TABLE(EXIT_NAME)
#undef EXIT_NAME
    default:
        return "FAILURE";
    }
}

int fm_call_fail_with(const struct fm_call *call, int exit_code, const char *format, ...)
{
    char message[FM_ERROR_TEXT_SIZE * 2];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    error_print(call, exit_code, exit_code_name(exit_code), message);
    return exit_code;
}

int fm_call_usage(const struct fm_call *call, const char *format, ...)
{
    char message[FM_ERROR_TEXT_SIZE * 2];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    error_print(call, FM_EXIT_USAGE, exit_code_name(FM_EXIT_USAGE), message);
    if (!call->json) {
        if (call->command != NULL) {
            (void)fprintf(stderr, "Try 'fermata %s --help'.\n", call->command->name);
        } else {
            (void)fprintf(stderr, "Try 'fermata --help'.\n");
        }
    }
    return FM_EXIT_USAGE;
}

int fm_call_fail_arguments(const struct fm_call *call, const struct fm_error *error)
{
    return error->status == FM_EINVAL ? fm_call_usage(call, "%s", error->text)
                                      : fm_call_fail(call, error);
}

int fm_call_print(const struct fm_call *call, struct fm_text *text)
{
    int exit_code = FM_EXIT_OK;
    if (text->failed) {
        exit_code = fm_call_fail_with(call, FM_EXIT_FAILURE, "out of memory");
    } else if (text->length > 0) {
        (void)fwrite(text->data, 1, text->length, stdout);
    }
    fm_text_deinit(text);
    return exit_code;
}

static bool is_quiet(const struct fm_call *call)
{
    const struct fm_option *options = call->command != NULL ? call->command->options : NULL;
    for (size_t i = 0; options != NULL && options[i].name != NULL; i++) {
        if (strcmp(options[i].name, "quiet") == 0 && options[i].kind == FM_OPTION_FLAG) {
            return call->values[i].flag;
        }
    }
    return false;
}

void fm_call_note(const struct fm_call *call, const char *format, ...)
{
    if (call->json || is_quiet(call)) {
        return;
    }
    (void)fflush(stdout);
    prefix_print(call);
    (void)fprintf(stderr, "%snote:%s ", fm_style(call->color_err, FM_STYLE_YELLOW),
                  fm_style(call->color_err, FM_STYLE_RESET));
    char words[NOTE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(words, sizeof(words), format, arguments);
    va_end(arguments);
    fm_shown_put(stderr, words, strlen(words));
    (void)fputc('\n', stderr);
}

void fm_call_note_text(void *context, const char *text)
{
    fm_call_note(context, "%s", text);
}
