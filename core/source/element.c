/*
 * From numbers to elements of tensors. See element.h. Pure.
 *
 * HOW IT WORKS. Some elements at a time are widened to one of three types that hold every value of
 * their kind (int64_t, uint64_t, double), and those are checked and narrowed: two short loops
 * instead of one for each pair of types.
 */
#include "core/source/element.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are little-endian");

enum { STRETCH = 256, RANGE_SIZE = 64, NUMBER_SIZE = 40 };

enum kind { KIND_SIGNED, KIND_UNSIGNED, KIND_FLOAT };

/* Some numbers of one kind. */
struct stretch {
    enum kind kind;
    union {
        int64_t ints[STRETCH];
        uint64_t uints[STRETCH];
        double doubles[STRETCH];
    } as;
};

bool fm_element_is_unsigned(uint32_t dtype)
{
    return dtype >= FM_DTYPE_UINT8 && dtype <= FM_DTYPE_UINT64;
}

bool fm_element_is_signed(uint32_t dtype)
{
    return dtype >= FM_DTYPE_INT8 && dtype <= FM_DTYPE_INT64;
}

bool fm_element_is_float(uint32_t dtype)
{
    return dtype == FM_DTYPE_FP16 || dtype == FM_DTYPE_BF16 || dtype == FM_DTYPE_FP32 ||
           dtype == FM_DTYPE_FP64;
}

bool fm_element_is_number(uint32_t dtype)
{
    return dtype == FM_DTYPE_BOOL || fm_element_is_unsigned(dtype) || fm_element_is_signed(dtype) ||
           fm_element_is_float(dtype);
}

uint64_t fm_element_unsigned_max(uint32_t dtype)
{
    return UINT64_MAX >> (64 - fm_dtype_bits(dtype));
}

int64_t fm_element_signed_max(uint32_t dtype)
{
    return (int64_t)(UINT64_MAX >> (65 - fm_dtype_bits(dtype)));
}

static double float_max(uint32_t dtype)
{
    return dtype == FM_DTYPE_FP16   ? 65504.0
           : dtype == FM_DTYPE_BF16 ? 0x1.FEp127
           : dtype == FM_DTYPE_FP32 ? 0x1.FFFFFEp127
                                    : 0x1.FFFFFFFFFFFFFp1023;
}

void fm_element_range(uint32_t dtype, char *text, size_t size)
{
    if (dtype == FM_DTYPE_BOOL) {
        (void)snprintf(text, size, "it must be true, false, 1 or 0");
    } else if (fm_element_is_unsigned(dtype)) {
        (void)snprintf(text, size, "it must be 0 to %" PRIu64, fm_element_unsigned_max(dtype));
    } else if (fm_element_is_signed(dtype)) {
        int64_t max = fm_element_signed_max(dtype);
        (void)snprintf(text, size, "it must be %" PRId64 " to %" PRId64, -max - 1, max);
    } else {
        (void)snprintf(text, size, "it must be within %.6g of zero", float_max(dtype));
    }
}

/*
 * The float on the way to a type of half its width, rounded to odd: towards zero, with the last bit
 * set when that lost something. Then rounding it again gives what rounding once would have given
 * (Boldo and Melquiond, 2008), as a float has more than two bits more.
 */
static float round_to_odd(double value)
{
    float single = (float)value;
    if (isnan(value) || (double)single == value) {
        return single;
    }
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    bits -= fabs((double)single) > fabs(value);
    bits |= 1u;
    memcpy(&single, &bits, sizeof bits);
    return single;
}

bool fm_element_from_double(uint32_t dtype, double value, unsigned char out[8])
{
    double stored = value;
    if (dtype == FM_DTYPE_FP64) {
        memcpy(out, &value, sizeof value);
    } else if (dtype == FM_DTYPE_FP32) {
        float single = (float)value;
        stored = (double)single;
        memcpy(out, &single, sizeof single);
    } else if (dtype == FM_DTYPE_FP16) {
        uint16_t half = fm_fp16_from_float(round_to_odd(value));
        stored = (double)fm_fp16_to_float(half);
        memcpy(out, &half, sizeof half);
    } else {
        uint16_t half = fm_bf16_from_float(round_to_odd(value));
        stored = (double)fm_bf16_to_float(half);
        memcpy(out, &half, sizeof half);
    }
    return isfinite(stored) || !isfinite(value);
}

/* --- Widening --- */

#define WIDEN(member, type)                                     \
    for (size_t i = 0; i < count; i++) {                        \
        type value;                                             \
        memcpy(&value, bytes + i * sizeof value, sizeof value); \
        ret_stretch->as.member[i] = value;                      \
    }                                                           \
    break

#define WIDEN_HALF(to_float)                                    \
    for (size_t i = 0; i < count; i++) {                        \
        uint16_t value;                                         \
        memcpy(&value, bytes + i * sizeof value, sizeof value); \
        ret_stretch->as.doubles[i] = (double)to_float(value);   \
    }                                                           \
    break

static void widen(uint32_t from, const unsigned char *bytes, size_t count,
                  struct stretch *ret_stretch)
{
    ret_stretch->kind = fm_element_is_signed(from)  ? KIND_SIGNED
                        : fm_element_is_float(from) ? KIND_FLOAT
                                                    : KIND_UNSIGNED;
    switch (from) {
    case FM_DTYPE_BOOL:
        for (size_t i = 0; i < count; i++) {
            ret_stretch->as.uints[i] = bytes[i] != 0;
        }
        break;
    case FM_DTYPE_UINT8:
        WIDEN(uints, uint8_t);
    case FM_DTYPE_UINT16:
        WIDEN(uints, uint16_t);
    case FM_DTYPE_UINT32:
        WIDEN(uints, uint32_t);
    case FM_DTYPE_UINT64:
        WIDEN(uints, uint64_t);
    case FM_DTYPE_INT8:
        WIDEN(ints, int8_t);
    case FM_DTYPE_INT16:
        WIDEN(ints, int16_t);
    case FM_DTYPE_INT32:
        WIDEN(ints, int32_t);
    case FM_DTYPE_INT64:
        WIDEN(ints, int64_t);
    case FM_DTYPE_FP16:
        WIDEN_HALF(fm_fp16_to_float);
    case FM_DTYPE_BF16:
        WIDEN_HALF(fm_bf16_to_float);
    case FM_DTYPE_FP32:
        for (size_t i = 0; i < count; i++) {
            float value;
            memcpy(&value, bytes + i * sizeof value, sizeof value);
            ret_stretch->as.doubles[i] = (double)value;
        }
        break;
    default:
        memcpy(ret_stretch->as.doubles, bytes, count * sizeof(double));
        break;
    }
}

/* --- Narrowing: how many fitted from the beginning on --- */

static size_t narrow_to_float(const struct stretch *stretch, size_t count, uint32_t to,
                              unsigned char *out)
{
    size_t size = fm_dtype_bits(to) / 8;
    for (size_t i = 0; i < count; i++) {
        unsigned char element[8];
        double value = stretch->kind == KIND_FLOAT    ? stretch->as.doubles[i]
                       : stretch->kind == KIND_SIGNED ? (double)stretch->as.ints[i]
                                                      : (double)stretch->as.uints[i];
        if (!fm_element_from_double(to, value, element)) {
            return i;
        }
        memcpy(out + i * size, element, size);
    }
    return count;
}

/* The commonest of them, in a loop that compilers make wide: as many as fit. */
static size_t doubles_to_singles(const double *values, size_t count, unsigned char *out)
{
    bool infinite = false;
    for (size_t i = 0; i < count; i++) {
        float single = (float)values[i];
        infinite |= !isfinite(single);
        memcpy(out + i * sizeof single, &single, sizeof single);
    }
    for (size_t i = 0; infinite && i < count; i++) {
        if (isfinite(values[i]) && !isfinite((float)values[i])) {
            return i;
        }
    }
    return count;
}

/* Whether number `i` lies in [min, max]; as an integer, of which the low bytes are those of any
 * integer type that holds it. */
static bool as_integer(const struct stretch *stretch, size_t i, int64_t min, uint64_t max,
                       uint64_t *ret_bits)
{
    if (stretch->kind == KIND_UNSIGNED) {
        *ret_bits = stretch->as.uints[i];
        return *ret_bits <= max;
    }
    if (stretch->kind == KIND_SIGNED) {
        int64_t value = stretch->as.ints[i];
        *ret_bits = (uint64_t)value;
        return value >= min && (value < 0 || (uint64_t)value <= max);
    }
    double value = stretch->as.doubles[i];
    if (!(value >= -0x1p63 && value < 0x1p64) || trunc(value) != value) {
        return false; /* NaN, too */
    }
    if (value < 0) {
        *ret_bits = (uint64_t)(int64_t)value;
        return (int64_t)value >= min;
    }
    *ret_bits = (uint64_t)value;
    return *ret_bits <= max;
}

static size_t narrow_to_integer(const struct stretch *stretch, size_t count, uint32_t to,
                                unsigned char *out)
{
    size_t size = to == FM_DTYPE_BOOL ? 1 : fm_dtype_bits(to) / 8;
    bool is_signed = fm_element_is_signed(to);
    int64_t min = is_signed ? -fm_element_signed_max(to) - 1 : 0;
    uint64_t max = to == FM_DTYPE_BOOL ? 1
                   : is_signed         ? (uint64_t)fm_element_signed_max(to)
                                       : fm_element_unsigned_max(to);
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = 0;
        if (!as_integer(stretch, i, min, max, &bits)) {
            return i;
        }
        memcpy(out + i * size, &bits, size);
    }
    return count;
}

bool fm_elements_convert(uint32_t from, const void *data, uint64_t count, uint32_t to, void *out,
                         uint64_t *ret_bad)
{
    FM_ASSERT(fm_element_is_number(from) && fm_element_is_number(to));
    size_t from_size = fm_dtype_bits(from) / 8;
    size_t to_size = fm_dtype_bits(to) / 8;
    /* A bool's byte may be any but 0 for true where it comes from, and is 1 in a tensor. */
    if (from == to && from != FM_DTYPE_BOOL) {
        if (count > 0) {
            memcpy(out, data, count * to_size);
        }
        return true;
    }
    struct stretch stretch;
    for (uint64_t done = 0; done < count;) {
        size_t some = count - done < STRETCH ? (size_t)(count - done) : STRETCH;
        unsigned char *place = (unsigned char *)out + done * to_size;
        widen(from, (const unsigned char *)data + done * from_size, some, &stretch);
        size_t good = !fm_element_is_float(to) ? narrow_to_integer(&stretch, some, to, place)
                      : to == FM_DTYPE_FP32 && stretch.kind == KIND_FLOAT
                          ? doubles_to_singles(stretch.as.doubles, some, place)
                          : narrow_to_float(&stretch, some, to, place);
        if (good < some) {
            *ret_bad = done + good;
            return false;
        }
        done += some;
    }
    return true;
}

int fm_element_refuse(const char *column, uint32_t from, const void *data, uint64_t index,
                      uint32_t to, struct fm_error *reterr)
{
    struct stretch stretch;
    char number[NUMBER_SIZE];
    char range[RANGE_SIZE];
    const char *why = range;
    widen(from, (const unsigned char *)data + index * (fm_dtype_bits(from) / 8), 1, &stretch);
    fm_element_range(to, range, sizeof range);
    if (stretch.kind == KIND_SIGNED) {
        (void)snprintf(number, sizeof number, "%" PRId64, stretch.as.ints[0]);
    } else if (stretch.kind == KIND_UNSIGNED) {
        (void)snprintf(number, sizeof number, "%" PRIu64, stretch.as.uints[0]);
    } else {
        double value = stretch.as.doubles[0];
        (void)snprintf(number, sizeof number, "%.9g", value);
        if (!fm_element_is_float(to) && to != FM_DTYPE_BOOL && isfinite(value) &&
            trunc(value) != value) {
            why = "it must be a number without a fraction";
        }
    }
    return fm_error_set(reterr, FM_ETYPE, "column '%s': '%s' is no %s: %s", column, number,
                        fm_dtype_name(to), why);
}

void fm_element_write_json(struct fm_json_writer *writer, uint32_t dtype, const void *data,
                           uint64_t index)
{
    struct stretch stretch;
    widen(dtype, (const unsigned char *)data + index * (fm_dtype_bits(dtype) / 8), 1, &stretch);
    if (dtype == FM_DTYPE_BOOL) {
        fm_json_bool(writer, stretch.as.uints[0] != 0);
    } else if (stretch.kind == KIND_SIGNED) {
        fm_json_int(writer, stretch.as.ints[0]);
    } else if (stretch.kind == KIND_UNSIGNED) {
        fm_json_uint(writer, stretch.as.uints[0]);
    } else if (dtype == FM_DTYPE_FP64) {
        fm_json_number(writer, stretch.as.doubles[0]);
    } else {
        fm_json_float(writer, (float)stretch.as.doubles[0]);
    }
}
