/*
 * The JSON pull reader and the writer. See json.h. Pure: works in place, allocates only what the
 * writer's text needs.
 */
#include "core/proto/json.h"

#include <math.h>
#include <string.h>

#include "core/proto/decimal.h"
#include "core/util/assert.h"
#include "core/util/error.h"

#define REPLACEMENT 0xFFFDu /* for what no text can hold */

/* What may come next. A reader that met an error stays in EXPECT_NOTHING. */
enum expect {
    EXPECT_VALUE,        /* at the start, after a comma in an array, after a key */
    EXPECT_VALUE_OR_END, /* after [ */
    EXPECT_KEY,          /* after a comma in an object */
    EXPECT_KEY_OR_END,   /* after { */
    EXPECT_COMMA_OR_END, /* after a value inside a container */
    EXPECT_TEXT_END,     /* after the outermost value */
    EXPECT_NOTHING,
};

void fm_json_reader_init(struct fm_json_reader *reader, const char *data, size_t length)
{
    /* Not the stack: it is large, and depth says what of it is in use. */
    reader->data = data;
    reader->length = length;
    reader->offset = fm_text_after_bom(data, length);
    reader->depth = 0;
    reader->expect = EXPECT_VALUE;
    reader->text = NULL;
    reader->text_length = 0;
    reader->escaped = false;
    reader->error = (struct fm_error){0};
}

/* Ends the reading with "line L, column C: <what>". Columns count bytes, from 1. */
static enum fm_json_token fail(struct fm_json_reader *reader, size_t offset, const char *what)
{
    size_t line = 1;
    size_t line_start = 0;
    for (size_t i = 0; i < offset && i < reader->length; i++) {
        if (reader->data[i] == '\n') {
            line++;
            line_start = i + 1;
        }
    }
    (void)fm_error_set(&reader->error, FM_EINVAL, "line %zu, column %zu: %s", line,
                       offset - line_start + 1, what);
    reader->expect = EXPECT_NOTHING;
    return FM_JSON_ERROR;
}

static void skip_space(struct fm_json_reader *reader)
{
    const char *data = reader->data;
    size_t offset = reader->offset;
    while (offset < reader->length && (data[offset] == ' ' || data[offset] == '\n' ||
                                       data[offset] == '\t' || data[offset] == '\r')) {
        offset++;
    }
    reader->offset = offset;
}

static void value_done(struct fm_json_reader *reader)
{
    reader->expect = reader->depth == 0 ? EXPECT_TEXT_END : EXPECT_COMMA_OR_END;
}

static bool is_hex(char character)
{
    return (character >= '0' && character <= '9') || (character >= 'a' && character <= 'f') ||
           (character >= 'A' && character <= 'F');
}

/* After the backslash at `offset`: the length of the escape, or 0 when it is none. */
static size_t escape_length(const struct fm_json_reader *reader, size_t offset)
{
    if (offset + 1 >= reader->length) {
        return 0;
    }
    char kind = reader->data[offset + 1];
    if (kind != 'u') {
        return kind != '\0' && strchr("\"\\/bfnrt", kind) != NULL ? 2 : 0;
    }
    if (offset + 6 > reader->length) {
        return 0;
    }
    for (size_t i = offset + 2; i < offset + 6; i++) {
        if (!is_hex(reader->data[i])) {
            return 0;
        }
    }
    return 6;
}

/* Reads the string whose opening quote is at reader->offset into text/text_length. */
/* Printable ASCII that stands for itself in a string. */
static inline bool is_plain_byte(unsigned char character)
{
    return character - 0x20u < 0x7Fu - 0x20u && character != '"' && character != '\\';
}

/* The top bit of each byte that is zero; those above the first one may be wrong. */
static inline uint64_t zero_bytes(uint64_t word)
{
    return (word - UINT64_C(0x0101010101010101)) & ~word & UINT64_C(0x8080808080808080);
}

/*
 * How many plain bytes the text begins with.
 *
 * HOW IT WORKS: eight bytes at a time, as one number. Subtracting 0x20 from each byte sets the top
 * bit of those below it; the others that are not plain become zero by XOR. What is wrong in the
 * marks above the first one does not matter, as the lowest byte, which comes first in the text, is
 * looked for. LIMITATIONS: little-endian, as all of our formats and machines are.
 */
static size_t plain_run(const char *text, size_t length)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    size_t at = 0;
    for (; length - at >= sizeof(uint64_t); at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, text + at, sizeof(word));
        uint64_t marks = (word | ((word - ones * 0x20) & ~word)) & ones * 0x80;
        marks |= zero_bytes(word ^ ones * '"') | zero_bytes(word ^ ones * '\\') |
                 zero_bytes(word ^ ones * 0x7F);
        if (marks != 0) {
            return at + (size_t)__builtin_ctzll(marks) / 8;
        }
    }
    while (at < length && is_plain_byte((unsigned char)text[at])) {
        at++;
    }
    return at;
}

static bool scan_string(struct fm_json_reader *reader)
{
    const char *data = reader->data;
    size_t start = reader->offset + 1;
    size_t offset = start;
    reader->escaped = false;
    for (;;) {
        offset += plain_run(data + offset, reader->length - offset);
        if (offset >= reader->length) {
            (void)fail(reader, reader->offset, "this string has no end");
            return false;
        }
        unsigned char character = (unsigned char)data[offset];
        if (character == '"') {
            break;
        }
        size_t step = 1;
        if (character == '\\') {
            step = escape_length(reader, offset);
            reader->escaped = true;
        } else if (character < 0x20) {
            step = 0;
        } else if (character >= 0x80) {
            step = fm_utf8_sequence(data + offset, reader->length - offset);
        }
        if (step == 0) {
            (void)fail(reader, offset,
                       character == '\\'  ? "unknown escape in a string"
                       : character < 0x20 ? "unescaped control character in a string"
                                          : "malformed UTF-8 in a string");
            return false;
        }
        offset += step;
    }
    reader->text = data + start;
    reader->text_length = offset - start;
    reader->offset = offset + 1;
    return true;
}

static size_t scan_digits(const struct fm_json_reader *reader, size_t offset)
{
    while (offset < reader->length && reader->data[offset] >= '0' && reader->data[offset] <= '9') {
        offset++;
    }
    return offset;
}

static enum fm_json_token scan_number(struct fm_json_reader *reader)
{
    const char *data = reader->data;
    size_t start = reader->offset;
    size_t offset = start + (data[start] == '-');
    size_t integer = offset;
    offset = scan_digits(reader, offset);
    if (offset == integer) {
        return fail(reader, start, "a digit must follow '-'");
    }
    if (data[integer] == '0' && offset > integer + 1) {
        return fail(reader, start, "a number must not start with 0");
    }
    if (offset < reader->length && data[offset] == '.') {
        size_t fraction = offset + 1;
        offset = scan_digits(reader, fraction);
        if (offset == fraction) {
            return fail(reader, start, "a digit must follow '.' in a number");
        }
    }
    if (offset < reader->length && (data[offset] == 'e' || data[offset] == 'E')) {
        size_t exponent = offset + 1;
        if (exponent < reader->length && (data[exponent] == '+' || data[exponent] == '-')) {
            exponent++;
        }
        offset = scan_digits(reader, exponent);
        if (offset == exponent) {
            return fail(reader, start, "a digit must follow 'e' in a number");
        }
    }
    reader->text = data + start;
    reader->text_length = offset - start;
    reader->offset = offset;
    value_done(reader);
    return FM_JSON_NUMBER;
}

static enum fm_json_token scan_word(struct fm_json_reader *reader)
{
    static const struct {
        const char *word;
        enum fm_json_token token;
    } words[] = {{"true", FM_JSON_TRUE}, {"false", FM_JSON_FALSE}, {"null", FM_JSON_NULL}};
    for (size_t i = 0; i < FM_COUNT_OF(words); i++) {
        size_t length = strlen(words[i].word);
        if (reader->length - reader->offset >= length &&
            memcmp(reader->data + reader->offset, words[i].word, length) == 0) {
            reader->text = reader->data + reader->offset;
            reader->text_length = length;
            reader->offset += length;
            value_done(reader);
            return words[i].token;
        }
    }
    return fail(reader, reader->offset, "a value was expected here");
}

static enum fm_json_token open_container(struct fm_json_reader *reader, char kind)
{
    if (reader->depth == FM_JSON_DEPTH_MAX) {
        return fail(reader, reader->offset, "nested too deeply (at most 100 levels)");
    }
    reader->stack[reader->depth++] = (uint8_t)kind;
    reader->offset++;
    reader->expect = kind == '{' ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
    return kind == '{' ? FM_JSON_OBJECT_BEGIN : FM_JSON_ARRAY_BEGIN;
}

static enum fm_json_token close_container(struct fm_json_reader *reader)
{
    char kind = (char)reader->stack[--reader->depth];
    reader->offset++;
    value_done(reader);
    return kind == '{' ? FM_JSON_OBJECT_END : FM_JSON_ARRAY_END;
}

static enum fm_json_token read_value(struct fm_json_reader *reader)
{
    char character = reader->data[reader->offset];
    if (character == '{' || character == '[') {
        return open_container(reader, character);
    }
    if (character == '"') {
        if (!scan_string(reader)) {
            return FM_JSON_ERROR;
        }
        value_done(reader);
        return FM_JSON_STRING;
    }
    if (character == '-' || (character >= '0' && character <= '9')) {
        return scan_number(reader);
    }
    return scan_word(reader);
}

static enum fm_json_token read_key(struct fm_json_reader *reader)
{
    if (reader->data[reader->offset] != '"') {
        return fail(reader, reader->offset, "a key in quotes was expected here");
    }
    if (!scan_string(reader)) {
        return FM_JSON_ERROR;
    }
    skip_space(reader);
    if (reader->offset >= reader->length || reader->data[reader->offset] != ':') {
        return fail(reader, reader->offset, "':' was expected after the key");
    }
    reader->offset++;
    reader->expect = EXPECT_VALUE;
    return FM_JSON_KEY;
}

/* Consumes the comma or the end of a container. True: go on with a value or key. */
static bool read_comma(struct fm_json_reader *reader, enum fm_json_token *ret_token)
{
    bool object = reader->stack[reader->depth - 1] == '{';
    char character = reader->data[reader->offset];
    if (character == (object ? '}' : ']')) {
        *ret_token = close_container(reader);
        return false;
    }
    if (character != ',') {
        *ret_token = fail(reader, reader->offset,
                          object ? "',' or '}' was expected here" : "',' or ']' was expected here");
        return false;
    }
    reader->offset++;
    reader->expect = object ? EXPECT_KEY : EXPECT_VALUE;
    skip_space(reader);
    return true;
}

enum fm_json_token fm_json_next(struct fm_json_reader *reader)
{
    if (reader->expect == EXPECT_NOTHING) {
        return FM_JSON_ERROR;
    }
    skip_space(reader);
    if (reader->offset < reader->length && reader->expect == EXPECT_COMMA_OR_END) {
        enum fm_json_token token = FM_JSON_ERROR;
        if (!read_comma(reader, &token)) {
            return token;
        }
    }
    if (reader->offset >= reader->length) {
        return reader->expect == EXPECT_TEXT_END
                   ? FM_JSON_END
                   : fail(reader, reader->length, "the text ends too early");
    }
    switch ((enum expect)reader->expect) {
    case EXPECT_TEXT_END:
        return fail(reader, reader->offset, "nothing may follow the value");
    case EXPECT_KEY_OR_END:
        return reader->data[reader->offset] == '}' ? close_container(reader) : read_key(reader);
    case EXPECT_KEY:
        return read_key(reader);
    case EXPECT_VALUE_OR_END:
        return reader->data[reader->offset] == ']' ? close_container(reader) : read_value(reader);
    case EXPECT_VALUE:
        return read_value(reader);
    case EXPECT_COMMA_OR_END:
    case EXPECT_NOTHING:
        break;
    }
    return FM_JSON_ERROR;
}

int fm_json_skip(struct fm_json_reader *reader)
{
    uint32_t depth = reader->depth;
    do {
        enum fm_json_token token = fm_json_next(reader);
        if (token == FM_JSON_ERROR) {
            return FM_EINVAL;
        }
        if (token == FM_JSON_END || reader->depth < depth) {
            (void)fail(reader, reader->offset, "a value was expected here");
            return FM_EINVAL;
        }
    } while (reader->depth > depth || reader->expect == EXPECT_VALUE);
    return 0;
}

static uint32_t hex_value(const char *text)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char character = text[i];
        uint32_t digit = character <= '9' ? (uint32_t)(character - '0')
                                          : ((uint32_t)character | 0x20u) - 'a' + 10;
        value = value << 4 | digit;
    }
    return value;
}

/* Decodes the escape at *text (a valid one: the scan saw it) and moves *text behind it. */
static size_t unescape(const char **text, const char *end, char out[4])
{
    static const char from[] = "bfnrt";
    static const char to[] = "\b\f\n\r\t";
    const char *at = *text;
    if (at[1] != 'u') {
        const char *found = strchr(from, at[1]);
        out[0] = found != NULL ? to[found - from] : at[1];
        *text = at + 2;
        return 1;
    }
    uint32_t point = hex_value(at + 2);
    at += 6;
    if (point >= 0xD800 && point < 0xDC00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u') {
        uint32_t low = hex_value(at + 2);
        if (low >= 0xDC00 && low < 0xE000) {
            point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
            at += 6;
        }
    }
    if (point >= 0xD800 && point < 0xE000) {
        point = REPLACEMENT;
    }
    *text = at;
    return fm_utf8_encode(point, out);
}

bool fm_json_is_text(const struct fm_json_reader *reader)
{
    const char *at = reader->text;
    const char *end = at + reader->text_length;
    while (reader->escaped && (at = memchr(at, '\\', (size_t)(end - at))) != NULL) {
        char out[4];
        bool given = end - at >= 6 && at[1] == 'u' && hex_value(at + 2) == REPLACEMENT;
        size_t size = unescape(&at, end, out);
        /* It stands for a lone surrogate, unless it was written so. */
        if (!given && size == 3 && memcmp(out, "\xEF\xBF\xBD", 3) == 0) {
            return false;
        }
    }
    return true;
}

bool fm_json_equals(const struct fm_json_reader *reader, const char *string)
{
    const char *text = reader->text;
    const char *end = text + reader->text_length;
    if (!reader->escaped) {
        /* Most are told apart by their first byte. */
        return reader->text_length > 0 && *text == *string
                   ? strlen(string) == reader->text_length &&
                         memcmp(text, string, reader->text_length) == 0
                   : reader->text_length == 0 && *string == '\0';
    }
    size_t length = strlen(string);
    while (text < end) {
        char out[4] = {*text};
        size_t size = 1;
        if (*text == '\\') {
            size = unescape(&text, end, out);
        } else {
            text++;
        }
        if (size > length || memcmp(string, out, size) != 0) {
            return false;
        }
        string += size;
        length -= size;
    }
    return length == 0;
}

void fm_json_decode(const struct fm_json_reader *reader, struct fm_text *text)
{
    const char *at = reader->text;
    const char *end = at + reader->text_length;
    while (at < end) {
        const char *backslash = reader->escaped ? memchr(at, '\\', (size_t)(end - at)) : NULL;
        const char *plain_end = backslash != NULL ? backslash : end;
        fm_text_append(text, at, (size_t)(plain_end - at));
        at = plain_end;
        if (at < end) {
            char out[4];
            size_t size = unescape(&at, end, out);
            fm_text_append(text, out, size);
        }
    }
}

/* The magnitude of an integer token; FM_ETYPE for a fraction, an exponent, or overflow. */
static int read_magnitude(const char *text, size_t length, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return FM_ETYPE;
        }
        unsigned digit = (unsigned)(text[i] - '0');
        if (value > (UINT64_MAX - digit) / 10) {
            return FM_ETYPE;
        }
        value = value * 10 + digit;
    }
    *ret_value = value;
    return 0;
}

int fm_json_int64(const struct fm_json_reader *reader, int64_t *ret_value)
{
    bool negative = reader->text[0] == '-';
    uint64_t magnitude = 0;
    int status =
        read_magnitude(reader->text + negative, reader->text_length - negative, &magnitude);
    if (status != 0 || magnitude > (uint64_t)INT64_MAX + negative) {
        return FM_ETYPE;
    }
    *ret_value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return 0;
}

int fm_json_uint64(const struct fm_json_reader *reader, uint64_t *ret_value)
{
    bool negative = reader->text[0] == '-';
    uint64_t magnitude = 0;
    int status =
        read_magnitude(reader->text + negative, reader->text_length - negative, &magnitude);
    if (status != 0 || (negative && magnitude != 0)) {
        return FM_ETYPE;
    }
    *ret_value = magnitude;
    return 0;
}

int fm_json_double(const struct fm_json_reader *reader, double *ret_value)
{
    return fm_decimal_read(reader->text, reader->text_length, ret_value);
}

void fm_json_writer_init(struct fm_json_writer *writer, struct fm_text *text)
{
    *writer = (struct fm_json_writer){.text = text};
}

/* What must stand between the last thing and the next value. */
static void separate(struct fm_json_writer *writer)
{
    if (writer->after_key) {
        writer->after_key = false;
    } else if (writer->comma) {
        fm_text_append_char(writer->text, ',');
    }
    writer->comma = true;
}

static void begin(struct fm_json_writer *writer, char character)
{
    separate(writer);
    FM_ASSERT(writer->depth < FM_JSON_DEPTH_MAX);
    writer->depth++;
    writer->comma = false;
    fm_text_append_char(writer->text, character);
}

static void end(struct fm_json_writer *writer, char character)
{
    FM_ASSERT(writer->depth > 0);
    FM_ASSERT(!writer->after_key);
    writer->depth--;
    writer->comma = true;
    fm_text_append_char(writer->text, character);
}

void fm_json_object_begin(struct fm_json_writer *writer)
{
    begin(writer, '{');
}

void fm_json_object_end(struct fm_json_writer *writer)
{
    end(writer, '}');
}

void fm_json_array_begin(struct fm_json_writer *writer)
{
    begin(writer, '[');
}

void fm_json_array_end(struct fm_json_writer *writer)
{
    end(writer, ']');
}

static void append_escape(struct fm_text *text, unsigned char character)
{
    static const char hex[] = "0123456789abcdef";
    static const char from[] = "\"\\\b\f\n\r\t";
    static const char to[] = "\"\\bfnrt";
    const char *found = character != 0 ? strchr(from, (char)character) : NULL;
    if (found != NULL) {
        char escape[2] = {'\\', to[found - from]};
        fm_text_append(text, escape, sizeof(escape));
    } else {
        char escape[6] = {'\\', 'u', '0', '0', hex[character >> 4], hex[character & 15u]};
        fm_text_append(text, escape, sizeof(escape));
    }
}

static void append_quoted(struct fm_text *text, const char *string, size_t length)
{
    if (plain_run(string, length) == length) {
        char *start = fm_text_reserve(text, length + 2);
        if (start != NULL) {
            start[0] = '"';
            memcpy(start + 1, string, length);
            start[length + 1] = '"';
        }
        return;
    }
    fm_text_append_char(text, '"');
    size_t start = 0;
    size_t i = 0;
    while (i < length) {
        unsigned char character = (unsigned char)string[i];
        size_t step = character < 0x80 ? 1 : fm_utf8_sequence(string + i, length - i);
        if (step != 0 && character >= 0x20 && character != '"' && character != '\\' &&
            character != 0x7F) {
            i += step;
            continue;
        }
        fm_text_append(text, string + start, i - start);
        if (step == 0) {
            fm_text_append(text, "\xEF\xBF\xBD", 3);
        } else {
            append_escape(text, character);
        }
        i++;
        start = i;
    }
    fm_text_append(text, string + start, length - start);
    fm_text_append_char(text, '"');
}

void fm_json_key(struct fm_json_writer *writer, const char *key)
{
    FM_ASSERT(!writer->after_key);
    separate(writer);
    append_quoted(writer->text, key, strlen(key));
    fm_text_append_char(writer->text, ':');
    writer->after_key = true;
}

void fm_json_string(struct fm_json_writer *writer, const char *string)
{
    fm_json_string_n(writer, string, strlen(string));
}

void fm_json_string_n(struct fm_json_writer *writer, const char *string, size_t length)
{
    separate(writer);
    append_quoted(writer->text, string, length);
}

static void append_uint(struct fm_text *text, bool negative, uint64_t value)
{
    char digits[24];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    if (negative) {
        digits[--at] = '-';
    }
    fm_text_append(text, digits + at, sizeof(digits) - at);
}

void fm_json_int(struct fm_json_writer *writer, int64_t value)
{
    separate(writer);
    append_uint(writer->text, value < 0, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void fm_json_uint(struct fm_json_writer *writer, uint64_t value)
{
    separate(writer);
    append_uint(writer->text, false, value);
}

void fm_json_float(struct fm_json_writer *writer, float value)
{
    if (!isfinite(value)) {
        fm_json_null(writer);
        return;
    }
    char text[FM_DECIMAL_SIZE];
    fm_json_raw(writer, text, fm_decimal_write_float(value, text));
}

void fm_json_number(struct fm_json_writer *writer, double value)
{
    if (!isfinite(value)) {
        fm_json_null(writer);
        return;
    }
    char text[FM_DECIMAL_SIZE];
    fm_json_raw(writer, text, fm_decimal_write_double(value, text));
}

void fm_json_bool(struct fm_json_writer *writer, bool value)
{
    fm_json_raw(writer, value ? "true" : "false", value ? 4 : 5);
}

void fm_json_member_string(struct fm_json_writer *writer, const char *key, const char *value)
{
    fm_json_key(writer, key);
    fm_json_string(writer, value);
}

void fm_json_member_uint(struct fm_json_writer *writer, const char *key, uint64_t value)
{
    fm_json_key(writer, key);
    fm_json_uint(writer, value);
}

void fm_json_member_number(struct fm_json_writer *writer, const char *key, double value)
{
    fm_json_key(writer, key);
    fm_json_number(writer, value);
}

void fm_json_member_ints(struct fm_json_writer *writer, const char *key, const int64_t *values,
                         uint32_t count)
{
    fm_json_key(writer, key);
    fm_json_array_begin(writer);
    for (uint32_t i = 0; i < count; i++) {
        fm_json_int(writer, values[i]);
    }
    fm_json_array_end(writer);
}

void fm_json_null(struct fm_json_writer *writer)
{
    fm_json_raw(writer, "null", 4);
}

void fm_json_raw(struct fm_json_writer *writer, const char *json, size_t length)
{
    separate(writer);
    fm_text_append(writer->text, json, length);
}
