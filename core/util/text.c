/*
 * Growing text, strict parsers, spelling suggestions. See text.h. Pure: no locale-dependent call.
 */
#include "core/util/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/util/memory.h"

void fm_text_begin(struct fm_text *text, char *memory, size_t size)
{
    *text = (struct fm_text){.data = memory, .capacity = size, .borrowed = true};
}

void fm_text_deinit(struct fm_text *text)
{
    if (!text->borrowed) {
        fm_free(text->data);
    }
    *text = (struct fm_text){0};
}

void fm_text_clear(struct fm_text *text)
{
    text->length = 0;
    text->failed = false;
    if (text->data != NULL) {
        text->data[0] = '\0';
    }
}

/* Makes room for `extra` more bytes and a NUL. */
static bool text_grow(struct fm_text *text, size_t extra)
{
    if (text->failed) {
        return false;
    }
    if (extra >= SIZE_MAX - text->length) {
        text->failed = true;
        return false;
    }
    size_t needed = text->length + extra + 1;
    if (needed <= text->capacity) {
        return true;
    }
    size_t capacity = text->capacity < 64 ? 64 : text->capacity;
    while (capacity < needed) {
        capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
    }
    char *data = text->borrowed ? fm_alloc(capacity) : (char *)fm_realloc(text->data, capacity);
    if (data == NULL) {
        text->failed = true;
        return false;
    }
    if (text->borrowed) {
        memcpy(data, text->data, text->length);
        text->borrowed = false;
    }
    text->data = data;
    text->capacity = capacity;
    return true;
}

char *fm_text_reserve(struct fm_text *text, size_t length)
{
    if (!text_grow(text, length)) {
        return NULL;
    }
    char *start = text->data + text->length;
    text->length += length;
    text->data[text->length] = '\0';
    return start;
}

/* Whether `extra` more bytes and a NUL fit as it is. */
static inline bool text_fits(const struct fm_text *text, size_t extra)
{
    return extra < text->capacity - text->length && !text->failed;
}

void fm_text_append(struct fm_text *text, const void *data, size_t length)
{
    char *start;
    if (text_fits(text, length)) {
        start = text->data + text->length;
        text->length += length;
        start[length] = '\0';
    } else {
        start = fm_text_reserve(text, length);
    }
    if (start != NULL && length > 0) {
        memcpy(start, data, length);
    }
}

void fm_text_append_string(struct fm_text *text, const char *string)
{
    fm_text_append(text, string, strlen(string));
}

void fm_text_append_char(struct fm_text *text, char character)
{
    if (text_fits(text, 1)) {
        text->data[text->length++] = character;
        text->data[text->length] = '\0';
    } else {
        fm_text_append(text, &character, 1);
    }
}

void fm_text_append_format(struct fm_text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0) {
        text->failed = true;
    } else if (text_grow(text, (size_t)length)) {
        (void)vsnprintf(text->data + text->length, (size_t)length + 1, format, again);
        text->length += (size_t)length;
    }
    va_end(again);
}

char *fm_text_take(struct fm_text *text)
{
    if (text->data == NULL && !text->failed) {
        fm_text_append(text, "", 0);
    }
    if (text->failed) {
        fm_text_deinit(text);
        return NULL;
    }
    char *data = text->borrowed ? fm_strndup(text->data, text->length) : text->data;
    *text = (struct fm_text){0};
    return data;
}

static unsigned char lower(unsigned char character)
{
    return character >= 'A' && character <= 'Z' ? (unsigned char)(character + ('a' - 'A'))
                                                : character;
}

enum { DISTANCE_LENGTH_MAX = 64 };

static size_t length_looked_at(const char *text)
{
    const char *end = memchr(text, '\0', DISTANCE_LENGTH_MAX);
    return end != NULL ? (size_t)(end - text) : DISTANCE_LENGTH_MAX;
}

unsigned fm_text_distance(const char *a, const char *b)
{
    size_t a_length = length_looked_at(a);
    size_t b_length = length_looked_at(b);
    unsigned row[DISTANCE_LENGTH_MAX + 1];
    for (size_t j = 0; j <= b_length; j++) {
        row[j] = (unsigned)j;
    }
    for (size_t i = 1; i <= a_length; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_length; j++) {
            unsigned above = row[j];
            unsigned best =
                diagonal + (lower((unsigned char)a[i - 1]) != lower((unsigned char)b[j - 1]));
            if (above + 1 < best) {
                best = above + 1;
            }
            if (row[j - 1] + 1 < best) {
                best = row[j - 1] + 1;
            }
            diagonal = above;
            row[j] = best;
        }
    }
    return row[b_length];
}

size_t fm_text_after_bom(const char *text, size_t length)
{
    return length >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

const char *fm_text_suggest(const char *word, const char *const *candidates, size_t count)
{
    const char *best = NULL;
    unsigned best_distance = 1 + (unsigned)(length_looked_at(word) / 4);
    for (size_t i = 0; i < count; i++) {
        unsigned distance = fm_text_distance(word, candidates[i]);
        if (distance < best_distance || (distance == best_distance && best == NULL)) {
            best = candidates[i];
            best_distance = distance;
        }
    }
    return best;
}

const char *fm_text_suggest_next(const char *word, const char *best, const char *candidate)
{
    const char *pair[2] = {best != NULL ? best : candidate, candidate};
    return fm_text_suggest(word, pair, 2);
}

static int digit_value(char character)
{
    if (character >= '0' && character <= '9') {
        return character - '0';
    }
    char lowered = (char)lower((unsigned char)character);
    return lowered >= 'a' && lowered <= 'f' ? lowered - 'a' + 10 : -1;
}

int fm_hex_digit(char character)
{
    char lowered = (char)(character | 0x20);
    return character >= '0' && character <= '9' ? character - '0'
           : lowered >= 'a' && lowered <= 'f'   ? lowered - 'a' + 10
                                                : -1;
}

int fm_parse_uint64(const char *text, uint64_t *ret_value)
{
    unsigned base = 10;
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        base = 16;
        text += 2;
    }
    if (*text == '\0') {
        return FM_EINVAL;
    }
    uint64_t value = 0;
    for (; *text != '\0'; text++) {
        int digit = digit_value(*text);
        if (digit < 0 || (unsigned)digit >= base) {
            return FM_EINVAL;
        }
        if (value > (UINT64_MAX - (unsigned)digit) / base) {
            return FM_ETOOLARGE;
        }
        value = value * base + (unsigned)digit;
    }
    *ret_value = value;
    return 0;
}

int fm_parse_int64(const char *text, int64_t *ret_value)
{
    bool negative = text[0] == '-';
    uint64_t magnitude = 0;
    int status = fm_parse_uint64(text + (negative ? 1 : 0), &magnitude);
    if (status != 0) {
        return status;
    }
    if (magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0)) {
        return FM_ETOOLARGE;
    }
    *ret_value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return 0;
}

/*
 * Decimal to double without the C library's locale. Digits are gathered in a long double (64-bit
 * mantissa on x86-64), scaled by a power of ten; for configuration values of up to 17 digits the
 * result is at most one unit in the last place off. Tensor data do not come this way.
 */
static const char *double_scan(const char *text, double *ret_value)
{
    bool negative = *text == '-';
    if (*text == '-' || *text == '+') {
        text++;
    }
    long double mantissa = 0;
    int exponent = 0;
    int digits = 0;
    for (; *text >= '0' && *text <= '9'; text++, digits++) {
        mantissa = mantissa * 10 + (*text - '0');
    }
    if (*text == '.') {
        for (text++; *text >= '0' && *text <= '9'; text++, digits++) {
            mantissa = mantissa * 10 + (*text - '0');
            exponent--;
        }
    }
    if (digits == 0 || digits > 400) {
        return NULL;
    }
    if ((*text == 'e' || *text == 'E') &&
        (text[1] == '-' || text[1] == '+' || (text[1] >= '0' && text[1] <= '9'))) {
        bool exponent_negative = text[1] == '-';
        text += text[1] == '-' || text[1] == '+' ? 2 : 1;
        if (*text < '0' || *text > '9') {
            return NULL;
        }
        int value = 0;
        for (; *text >= '0' && *text <= '9'; text++) {
            value = value < 10000 ? value * 10 + (*text - '0') : value;
        }
        exponent += exponent_negative ? -value : value;
    }
    long double result = mantissa * powl(10.0L, exponent);
    *ret_value = (double)(negative ? -result : result);
    return isfinite(*ret_value) ? text : NULL;
}

int fm_parse_double(const char *text, double *ret_value)
{
    double value = 0;
    const char *end = double_scan(text, &value);
    if (end == NULL || *end != '\0') {
        return FM_EINVAL;
    }
    *ret_value = value;
    return 0;
}

int fm_parse_bool(const char *text, bool *ret_value)
{
    static const char *const names[] = {"true", "yes", "on", "false", "no", "off"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret_value = i < 3;
            return 0;
        }
    }
    return FM_EINVAL;
}

struct unit {
    const char *name;
    double factor;
};

/* A number followed by one of the units (the empty unit included), as an unsigned integer. */
static int parse_with_unit(const char *text, const struct unit *units, size_t unit_count,
                           uint64_t *ret_value)
{
    double value = 0;
    const char *end = double_scan(text, &value);
    if (end == NULL || value < 0) {
        return FM_EINVAL;
    }
    for (size_t i = 0; i < unit_count; i++) {
        if (strcmp(end, units[i].name) == 0) {
            double scaled = value * units[i].factor;
            if (scaled >= 0x1.0p64) {
                return FM_ETOOLARGE;
            }
            *ret_value = (uint64_t)(scaled + 0.5);
            return 0;
        }
    }
    return FM_EINVAL;
}

int fm_parse_duration_ns(const char *text, uint64_t *ret_ns)
{
    static const struct unit units[] = {{"", 1e9},  {"ns", 1},   {"us", 1e3},   {"ms", 1e6},
                                        {"s", 1e9}, {"m", 60e9}, {"min", 60e9}, {"h", 3600e9}};
    return parse_with_unit(text, units, sizeof(units) / sizeof(units[0]), ret_ns);
}

int fm_parse_bytes(const char *text, uint64_t *ret_bytes)
{
    static const struct unit units[] = {{"", 1},
                                        {"B", 1},
                                        {"k", 1024},
                                        {"K", 1024},
                                        {"KiB", 1024},
                                        {"kB", 1e3},
                                        {"KB", 1e3},
                                        {"M", 1048576},
                                        {"MiB", 1048576},
                                        {"MB", 1e6},
                                        {"G", 1073741824},
                                        {"GiB", 1073741824},
                                        {"GB", 1e9},
                                        {"T", 1099511627776.},
                                        {"TiB", 1099511627776.},
                                        {"TB", 1e12}};
    return parse_with_unit(text, units, sizeof(units) / sizeof(units[0]), ret_bytes);
}

size_t fm_utf8_sequence(const char *text, size_t length)
{
    const unsigned char *bytes = (const unsigned char *)text;
    if (length == 0) {
        return 0;
    }
    if (bytes[0] < 0x80) {
        return 1;
    }
    size_t needed = bytes[0] >= 0xF0 ? 4 : bytes[0] >= 0xE0 ? 3 : 2;
    if (bytes[0] < 0xC2 || bytes[0] > 0xF4 || length < needed) {
        return 0;
    }
    for (size_t i = 1; i < needed; i++) {
        if ((bytes[i] & 0xC0u) != 0x80u) {
            return 0;
        }
    }
    /* Overlong forms, surrogates, and code points beyond U+10FFFF. */
    if ((bytes[0] == 0xE0 && bytes[1] < 0xA0) || (bytes[0] == 0xED && bytes[1] > 0x9F) ||
        (bytes[0] == 0xF0 && bytes[1] < 0x90) || (bytes[0] == 0xF4 && bytes[1] > 0x8F)) {
        return 0;
    }
    return needed;
}

size_t fm_utf8_encode(uint32_t point, char out[4])
{
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    size_t length = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80u | (point & 0x3Fu));
        point >>= 6;
    }
    static const uint8_t lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    out[0] = (char)(lead[length] | point);
    return length;
}
