/*
 * The parser of protobuf text format. See pbtxt.h. A recursive descent over one cursor; the depth
 * is bounded.
 */
#include "core/proto/pbtxt.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/text.h"

struct parser {
    const char *file;
    const char *at;
    const char *end;
    uint32_t line;
    uint32_t column;
    size_t field_count;
    struct fm_arena *arena;
    struct fm_text scratch; /* a string being unescaped */
    struct fm_error *reterr;
};

struct place {
    uint32_t line;
    uint32_t column;
};

static int fail_at(const struct parser *parser, struct place place, const char *format, ...)
    FM_PRINTF(3, 4);

static int fail_at(const struct parser *parser, struct place place, const char *format, ...)
{
    char message[FM_ERROR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    return fm_error_set(parser->reterr, FM_EINVAL, "%s:%u:%u: %s", parser->file, place.line,
                        place.column, message);
}

static int out_of_memory(const struct parser *parser)
{
    return fm_error_set(parser->reterr, FM_ENOMEM, "%s: out of memory while reading the file",
                        parser->file);
}

static struct place here(const struct parser *parser)
{
    return (struct place){parser->line, parser->column};
}

static bool at_end(const struct parser *parser)
{
    return parser->at == parser->end;
}

/* The character under the cursor; NUL at the end (and for a NUL in the text, which no rule
 * accepts). */
static char peek(const struct parser *parser)
{
    return at_end(parser) ? '\0' : *parser->at;
}

static void advance(struct parser *parser)
{
    unsigned char character = (unsigned char)*parser->at++;
    if (character == '\n') {
        parser->line++;
        parser->column = 1;
    } else if ((character & 0xC0u) != 0x80u) {
        parser->column++;
    }
}

static void skip_blanks(struct parser *parser)
{
    while (!at_end(parser)) {
        char character = *parser->at;
        if (character == '#') {
            while (!at_end(parser) && *parser->at != '\n') {
                advance(parser);
            }
        } else if (character == ' ' || (character >= '\t' && character <= '\r')) {
            advance(parser);
        } else {
            return;
        }
    }
}

/* "'x'", "the end of the file", or "a character that is not text", for messages. */
static const char *describe(const struct parser *parser, char *text, size_t size)
{
    unsigned char character = (unsigned char)peek(parser);
    if (at_end(parser)) {
        return "the end of the file";
    }
    if (character < 0x20 || character == 0x7F) {
        return "a control character";
    }
    size_t length = fm_utf8_sequence(parser->at, (size_t)(parser->end - parser->at));
    (void)snprintf(text, size, "'%.*s'", (int)(length == 0 ? 1 : length),
                   length == 0 ? "?" : parser->at);
    return text;
}

static int expected(const struct parser *parser, const char *what)
{
    char found[16];
    return fail_at(parser, here(parser), "%s is expected here, not %s", what,
                   describe(parser, found, sizeof(found)));
}

static bool is_letter(char character)
{
    return (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') ||
           character == '_';
}

static bool is_digit(char character)
{
    return character >= '0' && character <= '9';
}

static int copy_text(const struct parser *parser, const char *text, size_t length,
                     const char **ret_copy)
{
    *ret_copy = fm_arena_strndup(parser->arena, text, length);
    return *ret_copy != NULL ? 0 : out_of_memory(parser);
}

static int parse_identifier(struct parser *parser, const char *what, const char **ret_text,
                            size_t *ret_length)
{
    const char *start = parser->at;
    if (!is_letter(peek(parser))) {
        return expected(parser, what);
    }
    while (is_letter(peek(parser)) || is_digit(peek(parser))) {
        advance(parser);
    }
    *ret_length = (size_t)(parser->at - start);
    return copy_text(parser, start, *ret_length, ret_text);
}

/* "name" or "[package.extension]" or "[type.host/type]": the latter two are kept as written between
 * the brackets. */
static int parse_field_name(struct parser *parser, const char **ret_name)
{
    size_t length = 0;
    if (peek(parser) != '[') {
        return parse_identifier(parser, "a field name", ret_name, &length);
    }
    advance(parser);
    const char *start = parser->at;
    while (is_letter(peek(parser)) || is_digit(peek(parser)) || peek(parser) == '.' ||
           peek(parser) == '/' || peek(parser) == '-') {
        advance(parser);
    }
    length = (size_t)(parser->at - start);
    if (length == 0 || peek(parser) != ']') {
        return expected(parser, length == 0 ? "the name of an extension" : "']'");
    }
    advance(parser);
    return copy_text(parser, start, length, ret_name);
}

static int digit_of(char character)
{
    if (is_digit(character)) {
        return character - '0';
    }
    if (character >= 'a' && character <= 'f') {
        return character - 'a' + 10;
    }
    return character >= 'A' && character <= 'F' ? character - 'A' + 10 : 16;
}

/* Up to `most` digits of `base`, at least `least`. */
static int parse_escape_digits(struct parser *parser, int base, int least, int most,
                               uint32_t *ret_value)
{
    uint32_t value = 0;
    int count = 0;
    while (count < most && digit_of(peek(parser)) < base) {
        value = value * (uint32_t)base + (uint32_t)digit_of(peek(parser));
        advance(parser);
        count++;
    }
    *ret_value = value;
    return count >= least ? 0
                          : expected(parser, base == 8 ? "an octal digit" : "a hexadecimal digit");
}

static void append_utf8(struct fm_text *text, uint32_t code)
{
    if (code < 0x80) {
        fm_text_append_char(text, (char)code);
    } else if (code < 0x800) {
        fm_text_append_char(text, (char)(0xC0u | (code >> 6)));
    } else if (code < 0x10000) {
        fm_text_append_char(text, (char)(0xE0u | (code >> 12)));
        fm_text_append_char(text, (char)(0x80u | ((code >> 6) & 0x3Fu)));
    } else {
        fm_text_append_char(text, (char)(0xF0u | (code >> 18)));
        fm_text_append_char(text, (char)(0x80u | ((code >> 12) & 0x3Fu)));
        fm_text_append_char(text, (char)(0x80u | ((code >> 6) & 0x3Fu)));
    }
    if (code >= 0x80) {
        fm_text_append_char(text, (char)(0x80u | (code & 0x3Fu)));
    }
}

/* \uXXXX (with a second one behind it for a surrogate pair) and \UXXXXXXXX. The cursor is behind
 * the letter. */
static int parse_unicode_escape(struct parser *parser, struct place start, int digits)
{
    uint32_t code = 0;
    uint32_t low = 0;
    int status = parse_escape_digits(parser, 16, digits, digits, &code);
    if (status != 0) {
        return status;
    }
    if (code >= 0xD800 && code <= 0xDBFF && parser->end - parser->at >= 6 &&
        parser->at[0] == '\\' && parser->at[1] == 'u') {
        advance(parser);
        advance(parser);
        status = parse_escape_digits(parser, 16, 4, 4, &low);
        if (status != 0) {
            return status;
        }
        code = low >= 0xDC00 && low <= 0xDFFF ? 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
                                              : 0xD800;
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
        return fail_at(parser, start, "the escape is no Unicode character");
    }
    append_utf8(&parser->scratch, code);
    return 0;
}

/* The cursor is on the backslash. */
static int parse_escape(struct parser *parser)
{
    static const char letters[] = "abfnrtv\\'\"?";
    static const char meanings[] = "\a\b\f\n\r\t\v\\'\"?";
    struct place start = here(parser);
    uint32_t value = 0;
    advance(parser);
    char letter = peek(parser);
    const char *simple = letter != '\0' ? strchr(letters, letter) : NULL;
    int status = 0;
    if (simple != NULL) {
        advance(parser);
        value = (unsigned char)meanings[simple - letters];
    } else if (letter == 'u' || letter == 'U') {
        advance(parser);
        return parse_unicode_escape(parser, start, letter == 'u' ? 4 : 8);
    } else if (letter == 'x' || letter == 'X') {
        advance(parser);
        status = parse_escape_digits(parser, 16, 1, 2, &value);
    } else if (digit_of(letter) < 8) {
        status = parse_escape_digits(parser, 8, 1, 3, &value);
    } else {
        return fail_at(
            parser, start,
            "not an escape that strings have (\\n, \\t, \\\\, \\\", \\x41, \\101, \\u0041, ...)");
    }
    if (status == 0 && value > 0xFF) {
        return fail_at(parser, start, "the escape is larger than a byte");
    }
    if (status == 0) {
        fm_text_append_char(&parser->scratch, (char)value);
    }
    return status;
}

/* One or more adjacent quoted strings, joined. */
static int parse_string(struct parser *parser, struct fm_pbtxt_value *value)
{
    value->kind = FM_PBTXT_STRING;
    fm_text_clear(&parser->scratch);
    while (peek(parser) == '"' || peek(parser) == '\'') {
        struct place start = here(parser);
        char quote = peek(parser);
        advance(parser);
        while (peek(parser) != quote || at_end(parser)) {
            if (at_end(parser) || peek(parser) == '\n') {
                return fail_at(parser, start,
                               "this string is not closed before the end of the line");
            }
            if (peek(parser) == '\\') {
                int status = parse_escape(parser);
                if (status != 0) {
                    return status;
                }
            } else {
                fm_text_append_char(&parser->scratch, peek(parser));
                advance(parser);
            }
        }
        advance(parser);
        skip_blanks(parser);
    }
    if (parser->scratch.failed) {
        return out_of_memory(parser);
    }
    value->length = parser->scratch.length;
    return copy_text(parser, value->length > 0 ? parser->scratch.data : "", value->length,
                     &value->text);
}

/* A number, or an identifier behind a minus sign ("-inf"). What it says is checked by whoever asks
 * for a type. */
static int parse_number(struct parser *parser, struct fm_pbtxt_value *value)
{
    char text[128];
    size_t length = 0;
    value->kind = FM_PBTXT_NUMBER;
    if (peek(parser) == '-') {
        text[length++] = '-';
        advance(parser);
        skip_blanks(parser);
    }
    if (!is_digit(peek(parser)) && peek(parser) != '.' && !is_letter(peek(parser))) {
        return expected(parser, "a number");
    }
    for (;;) {
        char character = peek(parser);
        bool exponent_sign = (character == '+' || character == '-') && length > 0 &&
                             (text[length - 1] == 'e' || text[length - 1] == 'E');
        if (!is_digit(character) && !is_letter(character) && character != '.' && !exponent_sign) {
            break;
        }
        if (length == sizeof(text) - 1) {
            return fail_at(parser, (struct place){value->line, value->column},
                           "a number longer than %zu characters", sizeof(text) - 1);
        }
        text[length++] = character;
        advance(parser);
    }
    value->length = length;
    return copy_text(parser, text, length, &value->text);
}

static int parse_fields(struct parser *parser, unsigned depth, char closing,
                        const struct fm_pbtxt_field **ret_fields);

static int parse_message(struct parser *parser, unsigned depth, struct fm_pbtxt_value *value)
{
    struct place start = here(parser);
    char closing = peek(parser) == '{' ? '}' : '>';
    value->kind = FM_PBTXT_MESSAGE;
    if (depth >= FM_PBTXT_DEPTH_MAX) {
        return fail_at(parser, start, "nested deeper than %d levels", FM_PBTXT_DEPTH_MAX);
    }
    advance(parser);
    int status = parse_fields(parser, depth + 1, closing, &value->fields);
    if (status != 0) {
        return status;
    }
    if (at_end(parser)) {
        return fail_at(parser, start, "this '%c' is never closed", closing == '}' ? '{' : '<');
    }
    advance(parser);
    return 0;
}

/* Anything but a list. */
static int parse_value(struct parser *parser, unsigned depth, struct fm_pbtxt_value *value)
{
    char character = peek(parser);
    *value = (struct fm_pbtxt_value){.line = parser->line, .column = parser->column};
    if (character == '{' || character == '<') {
        return parse_message(parser, depth, value);
    }
    if (character == '"' || character == '\'') {
        return parse_string(parser, value);
    }
    if (is_digit(character) || character == '-' || character == '.') {
        return parse_number(parser, value);
    }
    value->kind = FM_PBTXT_IDENTIFIER;
    return parse_identifier(parser, "a value", &value->text, &value->length);
}

/* The chain being built: `link` is where the next field goes. */
struct chain {
    const struct fm_pbtxt_field **link;
};

static int add_field(struct parser *parser, struct chain *chain,
                     const struct fm_pbtxt_field *prototype, unsigned depth)
{
    if (++parser->field_count > FM_PBTXT_FIELDS_MAX) {
        return fail_at(parser, here(parser), "more than %d fields", FM_PBTXT_FIELDS_MAX);
    }
    struct fm_pbtxt_field *field = fm_arena_alloc(parser->arena, sizeof(*field));
    if (field == NULL) {
        return out_of_memory(parser);
    }
    *field = *prototype;
    int status = parse_value(parser, depth, &field->value);
    if (status == 0) {
        *chain->link = field;
        chain->link = &field->next;
    }
    return status;
}

/* "[a, b]": one field each. The cursor is on the bracket. */
static int parse_list(struct parser *parser, struct chain *chain,
                      const struct fm_pbtxt_field *prototype, unsigned depth)
{
    struct place start = here(parser);
    advance(parser);
    skip_blanks(parser);
    if (peek(parser) == ']') {
        advance(parser);
        return 0;
    }
    for (;;) {
        int status = add_field(parser, chain, prototype, depth);
        if (status != 0) {
            return status;
        }
        skip_blanks(parser);
        if (at_end(parser)) {
            return fail_at(parser, start, "this '[' is never closed");
        }
        char separator = peek(parser);
        if (separator != ',' && separator != ']') {
            return expected(parser, "',' or ']'");
        }
        advance(parser);
        skip_blanks(parser);
        /* A comma before the bracket is not in the grammar, but common in files by hand. */
        if (separator == ']' || peek(parser) == ']') {
            if (separator == ',') {
                advance(parser);
            }
            return 0;
        }
    }
}

static int parse_field(struct parser *parser, struct chain *chain, unsigned depth)
{
    struct fm_pbtxt_field prototype = {.line = parser->line, .column = parser->column};
    int status = parse_field_name(parser, &prototype.name);
    if (status != 0) {
        return status;
    }
    skip_blanks(parser);
    bool colon = peek(parser) == ':';
    if (colon) {
        advance(parser);
        skip_blanks(parser);
    }
    char opening = peek(parser);
    if (!colon && opening != '{' && opening != '<' && opening != '[') {
        return expected(parser, "':' or '{'");
    }
    status = opening == '[' ? parse_list(parser, chain, &prototype, depth)
                            : add_field(parser, chain, &prototype, depth);
    if (status != 0) {
        return status;
    }
    skip_blanks(parser);
    if (peek(parser) == ',' || peek(parser) == ';') {
        advance(parser);
    }
    return 0;
}

/* Fields up to `closing` (which is left under the cursor) or, for NUL, to the end of the file. */
static int parse_fields(struct parser *parser, unsigned depth, char closing,
                        const struct fm_pbtxt_field **ret_fields)
{
    struct chain chain = {.link = ret_fields};
    *ret_fields = NULL;
    for (;;) {
        skip_blanks(parser);
        if (at_end(parser) || (closing != '\0' && peek(parser) == closing)) {
            return 0;
        }
        int status = parse_field(parser, &chain, depth);
        if (status != 0) {
            return status;
        }
    }
}

int fm_pbtxt_parse(const char *file, const char *text, size_t length, struct fm_arena *arena,
                   struct fm_pbtxt_value *ret_root, struct fm_error *reterr)
{
    *ret_root = (struct fm_pbtxt_value){.kind = FM_PBTXT_MESSAGE, .line = 1, .column = 1};
    if (length > FM_PBTXT_BYTES_MAX) {
        return fm_error_set(reterr, FM_ETOOLARGE,
                            "%s: %zu bytes, more than the %u that a configuration may have", file,
                            length, FM_PBTXT_BYTES_MAX);
    }
    struct parser parser = {.file = file,
                            .at = text + fm_text_after_bom(text, length),
                            .end = text + length,
                            .line = 1,
                            .column = 1,
                            .arena = arena,
                            .reterr = reterr};
    int status = parse_fields(&parser, 0, '\0', &ret_root->fields);
    fm_text_deinit(&parser.scratch);
    if (status != 0) {
        ret_root->fields = NULL;
    }
    return status;
}

int fm_pbtxt_int64(const struct fm_pbtxt_value *value, int64_t *ret_value)
{
    if (value->kind != FM_PBTXT_NUMBER) {
        return FM_EINVAL;
    }
    bool negative = value->text[0] == '-';
    const char *digits = value->text + (negative ? 1 : 0);
    uint64_t magnitude = 0;
    if (digits[0] == '0' && is_digit(digits[1])) { /* octal */
        for (const char *at = digits; *at != '\0'; at++) {
            if (digit_of(*at) >= 8 || magnitude > UINT64_MAX / 8) {
                return FM_EINVAL;
            }
            magnitude = magnitude * 8 + (uint64_t)digit_of(*at);
        }
    } else if (fm_parse_uint64(digits, &magnitude) != 0) {
        return FM_EINVAL;
    }
    if (magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0)) {
        return FM_EINVAL;
    }
    *ret_value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return 0;
}

int fm_pbtxt_bool(const struct fm_pbtxt_value *value, bool *ret_value)
{
    static const char *const names[] = {"true", "True", "t", "1", "false", "False", "f", "0"};
    if (value->kind != FM_PBTXT_IDENTIFIER && value->kind != FM_PBTXT_NUMBER) {
        return FM_EINVAL;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(value->text, names[i]) == 0) {
            *ret_value = i < 4;
            return 0;
        }
    }
    return FM_EINVAL;
}

int fm_pbtxt_string(const struct fm_pbtxt_value *value, const char **ret_text)
{
    return value->kind == FM_PBTXT_STRING ? fm_pbtxt_scalar(value, ret_text) : FM_EINVAL;
}

int fm_pbtxt_scalar(const struct fm_pbtxt_value *value, const char **ret_text)
{
    if (value->kind == FM_PBTXT_MESSAGE || memchr(value->text, '\0', value->length) != NULL) {
        return FM_EINVAL;
    }
    *ret_text = value->text;
    return 0;
}

const char *fm_pbtxt_kind_name(enum fm_pbtxt_kind kind)
{
    static const char *const names[] = {[FM_PBTXT_MESSAGE] = "a message { ... }",
                                        [FM_PBTXT_STRING] = "a string",
                                        [FM_PBTXT_NUMBER] = "a number",
                                        [FM_PBTXT_IDENTIFIER] = "a word"};
    return names[kind];
}
