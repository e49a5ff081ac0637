/*
 * Decimal text to binary floating point and back. See decimal.h. Pure.
 *
 * HOW IT WORKS
 * Reading gathers up to 19 significant digits into a 64-bit integer w and a decimal exponent e: the
 * value is w * 10^e. Three routes, each exact:
 *   1. w < 2^53 and |e| <= 22: both are doubles without error, so one multiplication or division
 * rounds correctly (Clinger's fast path).
 *   2. at most 19 digits and |e| <= 27: 5^|e| fits 63 bits, so w * 5^e fits 128 bits, and the
 * quotient w * 2^64 / 5^-e with its remainder decides the rounding; the powers of two only move the
 * exponent.
 *   3. everything else: the same quotient with big integers, bit by bit. 800 digits are kept; what
 * follows them can only break a tie, so it counts as one more digit 1. Writing tries few digits
 * first and keeps the first text that reads back the same.
 *
 * LIMITATIONS
 * Route 3 costs some microseconds. It is met only by numbers that people do not write and programs
 * hardly print.
 */
#include "core/proto/decimal.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"

__extension__ typedef unsigned __int128 uint128;

enum {
    DIGITS_KEPT_MAX = 800,
    BIG_WORDS = 192, /* 6144 bits: 5^1200 and 801 digits need fewer than 2850 */
    POWER_EXACT_MAX = 22,
    POWER_FIVE_MAX = 27,
};

static const double powers_of_ten[POWER_EXACT_MAX + 1] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* The number as scanned: value = 0.d1d2d3... * 10^point, digits without leading zeros. */
struct decimal {
    bool negative;
    bool more;            /* non-zero digits were dropped behind those kept */
    uint32_t digit_count; /* kept */
    int64_t point;
    uint64_t leading; /* the first 19 digits as an integer */
    uint32_t leading_count;
    const char *first; /* the first significant digit in the text */
};

/* Takes one digit of the mantissa into account. */
static void decimal_push(struct decimal *decimal, const char *where)
{
    unsigned digit = (unsigned)(*where - '0');
    if (decimal->digit_count == 0) {
        if (digit == 0) {
            return;
        }
        decimal->first = where;
    }
    if (decimal->digit_count < DIGITS_KEPT_MAX) {
        decimal->digit_count++;
        if (decimal->leading_count < 19) {
            decimal->leading = decimal->leading * 10 + digit;
            decimal->leading_count++;
        }
    } else if (digit != 0) {
        decimal->more = true;
    }
}

static bool is_digit(char character)
{
    return character >= '0' && character <= '9';
}

static void decimal_scan(struct decimal *decimal, const char *text, const char *end)
{
    *decimal = (struct decimal){0};
    if (text < end && *text == '-') {
        decimal->negative = true;
        text++;
    }
    for (; text < end && is_digit(*text); text++) {
        decimal_push(decimal, text);
        decimal->point += decimal->first != NULL;
    }
    if (text < end && *text == '.') {
        for (text++; text < end && is_digit(*text); text++) {
            decimal_push(decimal, text);
            decimal->point -= decimal->first == NULL;
        }
    }
    if (text < end && (*text == 'e' || *text == 'E')) {
        text++;
        bool negative = text < end && *text == '-';
        if (text < end && (*text == '-' || *text == '+')) {
            text++;
        }
        int64_t exponent = 0;
        for (; text < end && is_digit(*text); text++) {
            exponent = exponent < 100000000 ? exponent * 10 + (*text - '0') : exponent;
        }
        decimal->point += negative ? -exponent : exponent;
    }
}

/*
 * The double nearest to (quotient + fraction) * 2^exponent, where quotient has its top bit set and
 * `sticky` says that the fraction is not zero. Infinity when it is too large.
 */
static double assemble(uint64_t quotient, bool sticky, int exponent)
{
    /* The value lies in [2^(exponent + 63), 2^(exponent + 64)); below 2^-1022 a double keeps fewer
     * bits. */
    int dropped = 11;
    if (exponent + 63 < -1022) {
        dropped += -1022 - (exponent + 63);
    }
    if (dropped > 64) {
        return 0.0;
    }
    uint64_t kept = dropped == 64 ? 0 : quotient >> dropped;
    uint64_t rest = dropped == 64 ? quotient : quotient & ((UINT64_C(1) << dropped) - 1);
    uint64_t half = UINT64_C(1) << (dropped - 1);
    if (rest > half || (rest == half && (sticky || (kept & 1u) != 0))) {
        kept++;
    }
    return ldexp((double)kept, exponent + dropped);
}

static uint64_t power_of_five(unsigned exponent)
{
    uint64_t power = 1;
    for (unsigned i = 0; i < exponent; i++) {
        power *= 5;
    }
    return power;
}

/* w * 10^e, w not zero, |e| <= POWER_FIVE_MAX. */
static double scale_128(uint64_t w, int e)
{
    uint64_t five = power_of_five((unsigned)(e < 0 ? -e : e));
    int shift = __builtin_clzll(w);
    uint128 wide;
    bool sticky = false;
    int exponent = e;
    if (e >= 0) {
        wide = (uint128)w * five;
    } else {
        uint128 numerator = (uint128)(w << shift) << 64;
        wide = numerator / five;
        sticky = numerator % five != 0;
        exponent -= 64 + shift;
    }
    uint64_t high = (uint64_t)(wide >> 64);
    int length = high != 0 ? 128 - __builtin_clzll(high) : 64 - __builtin_clzll((uint64_t)wide);
    if (length > 64) {
        sticky = sticky || (wide & (((uint128)1 << (length - 64)) - 1)) != 0;
        wide >>= length - 64;
    } else {
        wide <<= 64 - length;
    }
    return assemble((uint64_t)wide, sticky, exponent + length - 64);
}

struct big {
    uint32_t words[BIG_WORDS]; /* little end first */
    int count;
};

static void big_multiply_add(struct big *big, uint32_t factor, uint32_t add)
{
    uint64_t carry = add;
    for (int i = 0; i < big->count; i++) {
        carry += (uint64_t)big->words[i] * factor;
        big->words[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry != 0) {
        FM_ASSERT(big->count < BIG_WORDS);
        big->words[big->count++] = (uint32_t)carry;
    }
}

static void big_multiply_five(struct big *big, int64_t exponent)
{
    for (; exponent >= 13; exponent -= 13) {
        big_multiply_add(big, 1220703125u, 0); /* 5^13 */
    }
    for (; exponent > 0; exponent--) {
        big_multiply_add(big, 5, 0);
    }
}

static int big_bits(const struct big *big)
{
    return big->count == 0 ? 0 : big->count * 32 - __builtin_clz(big->words[big->count - 1]);
}

static void big_shift_left(struct big *big, int bits)
{
    int words = bits / 32;
    int rest = bits % 32;
    FM_ASSERT(big->count + words + 1 <= BIG_WORDS);
    for (int i = big->count - 1; i >= 0; i--) {
        big->words[i + words] = big->words[i];
    }
    memset(big->words, 0, (size_t)words * sizeof(big->words[0]));
    big->count += words;
    if (rest != 0) {
        big_multiply_add(big, 1u << rest, 0);
    }
}

static int big_compare(const struct big *a, const struct big *b)
{
    if (a->count != b->count) {
        return a->count < b->count ? -1 : 1;
    }
    for (int i = a->count - 1; i >= 0; i--) {
        if (a->words[i] != b->words[i]) {
            return a->words[i] < b->words[i] ? -1 : 1;
        }
    }
    return 0;
}

/* a -= b, a >= b. */
static void big_subtract(struct big *a, const struct big *b)
{
    uint64_t borrow = 0;
    for (int i = 0; i < a->count; i++) {
        uint64_t subtrahend = (i < b->count ? b->words[i] : 0u) + borrow;
        borrow = a->words[i] < subtrahend;
        a->words[i] = (uint32_t)(a->words[i] - subtrahend);
    }
    while (a->count > 0 && a->words[a->count - 1] == 0) {
        a->count--;
    }
}

/* Route 3. The text of the digits starts at decimal->first and may have a point in it. */
static double scale_big(const struct decimal *decimal)
{
    struct big numerator = {.count = 0};
    struct big denominator = {.words = {1}, .count = 1};
    const char *where = decimal->first;
    uint32_t digits = 0;
    for (; digits < decimal->digit_count; where++) {
        if (*where != '.') {
            big_multiply_add(&numerator, 10, (uint32_t)(*where - '0'));
            digits++;
        }
    }
    if (decimal->more) {
        big_multiply_add(&numerator, 10, 1);
        digits++;
    }
    int64_t e = decimal->point - (int64_t)digits;
    if (e >= 0) {
        big_multiply_five(&numerator, e);
    } else {
        big_multiply_five(&denominator, -e);
    }
    /* Align so that the quotient lies in [1, 4), then take 64 bits of it from the top. */
    int exponent = (int)e;
    int shift = big_bits(&numerator) - big_bits(&denominator);
    if (shift > 0) {
        big_shift_left(&denominator, shift);
    } else {
        big_shift_left(&numerator, -shift);
    }
    exponent += shift;
    if (big_compare(&numerator, &denominator) < 0) {
        big_shift_left(&numerator, 1);
        exponent--;
    }
    uint64_t quotient = 0;
    for (int bit = 0; bit < 64; bit++) {
        quotient <<= 1;
        if (big_compare(&numerator, &denominator) >= 0) {
            big_subtract(&numerator, &denominator);
            quotient |= 1;
        }
        big_shift_left(&numerator, 1);
    }
    return assemble(quotient, numerator.count != 0, exponent - 63);
}

/* What nearly all numbers are: at most 19 digits, no exponent, and within route 1. */
size_t fm_decimal_take_plain(const char *text, size_t length, double *ret_value)
{
    const char *end = text + length;
    bool negative = length > 0 && text[0] == '-';
    const char *first = text + negative;
    const char *at = first;
    uint64_t w = 0;
    for (; at < end && is_digit(*at); at++) {
        w = w * 10 + (uint64_t)(*at - '0');
    }
    ptrdiff_t digits = at - first;
    ptrdiff_t decimals = 0;
    if (digits > 0 && at < end && *at == '.') {
        const char *point = at++;
        for (; at < end && is_digit(*at); at++) {
            w = w * 10 + (uint64_t)(*at - '0');
        }
        decimals = at - point - 1;
        if (decimals == 0) {
            return 0;
        }
    }
    if (digits == 0 || digits + decimals > 19 || w >= (UINT64_C(1) << 53)) {
        return 0;
    }
    double value = (double)w / powers_of_ten[decimals];
    *ret_value = negative ? -value : value;
    return (size_t)(at - text);
}

bool fm_decimal_read_plain(const char *text, size_t length, double *ret_value)
{
    return length > 0 && fm_decimal_take_plain(text, length, ret_value) == length;
}

int fm_decimal_read(const char *text, size_t length, double *ret_value)
{
    if (fm_decimal_read_plain(text, length, ret_value)) {
        return 0;
    }
    struct decimal decimal;
    decimal_scan(&decimal, text, text + length);
    double value = 0.0;
    int64_t e = decimal.point - (int64_t)decimal.leading_count;
    bool complete = decimal.digit_count == decimal.leading_count;
    if (decimal.digit_count == 0 || decimal.point < -350) {
        value = 0.0;
    } else if (decimal.point > 310) {
        return FM_ETYPE;
    } else if (complete && decimal.leading < (UINT64_C(1) << 53) && e >= -POWER_EXACT_MAX &&
               e <= POWER_EXACT_MAX) {
        value = (double)decimal.leading;
        value = e < 0 ? value / powers_of_ten[-e] : value * powers_of_ten[e];
    } else if (complete && e >= -POWER_FIVE_MAX && e <= POWER_FIVE_MAX) {
        value = scale_128(decimal.leading, (int)e);
    } else {
        value = scale_big(&decimal);
    }
    if (!isfinite(value)) {
        return FM_ETYPE;
    }
    *ret_value = decimal.negative ? -value : value;
    return 0;
}

/* Lays out w * 10^e (w without trailing zeros unless it is 0) as JSON, always with a point or an
 * exponent. Returns the length. */
static size_t layout(bool negative, uint64_t w, int e, char text[FM_DECIMAL_SIZE])
{
    char digits[24];
    int count = 0;
    do {
        digits[sizeof(digits) - 1 - (size_t)count++] = (char)('0' + w % 10);
        w /= 10;
    } while (w != 0);
    const char *first = digits + sizeof(digits) - (size_t)count;
    int point = count + e; /* value = 0.first... * 10^point */
    char *out = text;
    if (negative) {
        *out++ = '-';
    }
    if (point > 16 || point < -4) {
        *out++ = first[0];
        if (count > 1) {
            *out++ = '.';
            memcpy(out, first + 1, (size_t)count - 1);
            out += count - 1;
        }
        out += snprintf(out, 8, "e%+d", point - 1);
        return (size_t)(out - text);
    }
    if (point <= 0) {
        *out++ = '0';
        *out++ = '.';
        for (int i = point; i < 0; i++) {
            *out++ = '0';
        }
        memcpy(out, first, (size_t)count);
        out += count;
    } else {
        for (int i = 0; i < point; i++) {
            *out++ = i < count ? first[i] : '0';
        }
        *out++ = '.';
        if (count > point) {
            memcpy(out, first + point, (size_t)(count - point));
            out += count - point;
        } else {
            *out++ = '0';
        }
    }
    *out = '\0';
    return (size_t)(out - text);
}

/* Exact for w < 2^53 and |e| <= 22, which the caller checks. */
static double read_back(uint64_t w, int e)
{
    return e < 0 ? (double)w / powers_of_ten[-e] : (double)w * powers_of_ten[e];
}

/*
 * Tries to say `magnitude` with `digits_min` to `digits_max` (at most 15) digits. The scaled
 * integer may be one off when the scaling rounds; reading back decides, so a wrong one is never
 * used. False when none reads back the same, or the value is out of the exact range.
 */
static bool write_short(double magnitude, bool single, int digits_min, int digits_max,
                        uint64_t *ret_w, int *ret_e)
{
    /* Nearly log10, at most one too low: then a digit more is tried than was meant. */
    int exponent10 = (int)floor(ilogb(magnitude) * 0.30102999566398120);
    for (int digits = digits_min; digits <= digits_max; digits++) {
        int e = exponent10 + 1 - digits;
        if (e < -POWER_EXACT_MAX || e > POWER_EXACT_MAX) {
            return false;
        }
        double scaled = e < 0 ? magnitude * powers_of_ten[-e] : magnitude / powers_of_ten[e];
        uint64_t w = (uint64_t)(scaled + 0.5);
        if (w >= (UINT64_C(1) << 53)) {
            return false;
        }
        double back = read_back(w, e);
        if (single ? (double)(float)back == magnitude : back == magnitude) {
            while (w != 0 && w % 10 == 0) {
                w /= 10;
                e++;
            }
            *ret_w = w;
            *ret_e = e;
            return true;
        }
    }
    return false;
}

/* "-d.ddde+xx" as printf makes it, whatever the locale's point, turned into digits without trailing
 * zeros and an exponent. */
static void take_apart(const char *text, size_t length, uint64_t *ret_w, int *ret_e)
{
    const char *exponent = memchr(text, 'e', length);
    FM_ASSERT(exponent != NULL);
    uint64_t w = 0;
    int digits = 0;
    for (const char *at = text; at < exponent; at++) {
        if (is_digit(*at)) {
            w = w * 10 + (uint64_t)(*at - '0');
            digits++;
        }
    }
    int e = 0;
    for (const char *at = exponent + 2; at < text + length; at++) {
        e = e * 10 + (*at - '0');
    }
    e = (exponent[1] == '-' ? -e : e) - (digits - 1);
    while (w != 0 && w % 10 == 0) {
        w /= 10;
        e++;
    }
    *ret_w = w;
    *ret_e = e;
}

/* The general route: printf's digits, which are exact, read back through fm_decimal_read. */
static size_t write_long(double magnitude, bool single, bool negative, char text[FM_DECIMAL_SIZE])
{
    size_t length = 0;
    int digits_max = single ? 9 : 17;
    /* A normal number keeps any 6 (15) digits, so nothing is gained by trying fewer and removing
     * zeros does the rest. */
    bool subnormal = magnitude < (single ? (double)FLT_MIN : DBL_MIN);
    for (int digits = subnormal ? 1 : single ? 6 : 15; digits <= digits_max; digits++) {
        char scientific[FM_DECIMAL_SIZE];
        int written = snprintf(scientific, sizeof(scientific), "%.*e", digits - 1, magnitude);
        uint64_t w = 0;
        int e = 0;
        take_apart(scientific, (size_t)written, &w, &e);
        length = layout(negative, w, e, text);
        double back = 0.0;
        if (fm_decimal_read(text + negative, length - negative, &back) == 0 &&
            (single ? (double)(float)back == magnitude : back == magnitude)) {
            break;
        }
    }
    return length;
}

static size_t write(double value, bool single, char text[FM_DECIMAL_SIZE])
{
    FM_ASSERT(isfinite(value));
    bool negative = signbit(value) != 0;
    double magnitude = fabs(value);
    if (magnitude < 9007199254740992.0 && magnitude == floor(magnitude)) {
        uint64_t w = (uint64_t)magnitude;
        int e = 0;
        while (w != 0 && w % 10 == 0) {
            w /= 10;
            e++;
        }
        return layout(negative, w, e, text);
    }
    uint64_t w = 0;
    int e = 0;
    if (write_short(magnitude, single, single ? 6 : 15, single ? 9 : 15, &w, &e)) {
        return layout(negative, w, e, text);
    }
    return write_long(magnitude, single, negative, text);
}

size_t fm_decimal_write_float(float value, char text[FM_DECIMAL_SIZE])
{
    return write((double)value, true, text);
}

size_t fm_decimal_write_double(double value, char text[FM_DECIMAL_SIZE])
{
    return write(value, false, text);
}
