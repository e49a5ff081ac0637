/*
 * From text to tensors. See column.h. Pure. Numbers are read by core/proto/json.h and its decimal
 * arithmetic; here are only the ranges, and what CSV writes that JSON does not.
 */
#include "core/source/column.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/decimal.h"
#include "core/source/element.h"
#include "core/util/assert.h"
#include "core/util/error.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are little-endian");

enum { SHOWN_MAX = 40, RANGE_SIZE = 64, NAMES_SHOWN_MAX = 12 };

/* What becomes of one row. */
struct row {
    const struct fm_column *column;
    struct fm_text *out;
    int64_t shape[FM_RANK_MAX]; /* -1: not known yet */
    bool fixed;                 /* the column's shape has no variable dimension */
    uint64_t count;             /* elements, if fixed */
    struct fm_error *reterr;
};

int fm_column_check(const struct fm_column *column, struct fm_error *reterr)
{
    uint32_t dtype = column->dtype;
    if (dtype != FM_DTYPE_BYTES && !fm_element_is_number(dtype)) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "column '%s': values of type %s cannot be read from text; use .npy",
                            column->name, fm_dtype_name(dtype));
    }
    int64_t shape[FM_RANK_MAX];
    uint64_t count = 0;
    int status = column->rank <= FM_RANK_MAX ? 0 : FM_EINVAL;
    for (uint32_t i = 0; i < column->rank && status == 0; i++) {
        shape[i] = column->shape[i] == -1 ? 1 : column->shape[i];
    }
    status = status != 0 ? status : fm_shape_element_count(shape, column->rank, &count);
    return status == 0
               ? 0
               : fm_error_set(reterr, status, "column '%s': its shape cannot be that of a tensor",
                              column->name);
}

int fm_column_unknown(const char *name, const char *const *names, uint32_t count,
                      struct fm_error *reterr)
{
    const char *likely = fm_text_suggest(name, names, count);
    if (likely != NULL) {
        return fm_error_set(reterr, FM_ENOTFOUND, "there is no column '%s'; did you mean '%s'?",
                            name, likely);
    }
    char memory[FM_ERROR_TEXT_SIZE];
    struct fm_text list;
    fm_text_begin(&list, memory, sizeof memory);
    for (uint32_t i = 0; i < count && i < NAMES_SHOWN_MAX; i++) {
        fm_text_append_format(&list, "%s%s", i == 0 ? "" : ", ", names[i]);
    }
    if (count > NAMES_SHOWN_MAX) {
        fm_text_append_string(&list, ", ...");
    }
    int status = fm_error_set(reterr, FM_ENOTFOUND, "there is no column '%s'; the columns are %s",
                              name, list.length > 0 ? list.data : "not known");
    fm_text_deinit(&list);
    return status;
}

/* --- Words --- */

static int no_memory(const struct row *row)
{
    return fm_error_set(row->reterr, FM_ENOMEM, "column '%s': out of memory for its values",
                        row->column->name);
}

/* What of a text is shown: not too much, and no half character. */
static int shown_length(const char *data, size_t size)
{
    size_t length = size <= SHOWN_MAX ? size : SHOWN_MAX;
    while (size > SHOWN_MAX && length > 0 && ((unsigned char)data[length] & 0xC0u) == 0x80u) {
        length--;
    }
    const char *end = length > 0 ? memchr(data, '\0', length) : NULL;
    return end != NULL ? (int)(end - data) : (int)length;
}

/* "column 'age': '300' is no UINT8: ..." */
static int no_value(const struct row *row, const char *data, size_t size, const char *why)
{
    int length = shown_length(data, size);
    return fm_error_set(row->reterr, FM_ETYPE, "column '%s': '%.*s%s' is no %s%s%s",
                        row->column->name, length, data, (size_t)length < size ? "..." : "",
                        fm_dtype_name(row->column->dtype), why[0] != '\0' ? ": " : "", why);
}

static int out_of_range(const struct row *row, const char *data, size_t size)
{
    char range[RANGE_SIZE];
    fm_element_range(row->column->dtype, range, sizeof range);
    return no_value(row, data, size, range);
}

/* --- Elements --- */

static int append(const struct row *row, const void *data, size_t size)
{
    fm_text_append(row->out, data, size);
    return row->out->failed ? no_memory(row) : 0;
}

/* A token of JSON's grammar of numbers: one that has a fraction or an exponent. */
static bool is_fractional(const struct fm_json_reader *reader)
{
    for (size_t i = 0; i < reader->text_length; i++) {
        char character = reader->text[i];
        if (character == '.' || character == 'e' || character == 'E') {
            return true;
        }
    }
    return false;
}

static int integer_append(const struct row *row, const struct fm_json_reader *reader)
{
    uint32_t dtype = row->column->dtype;
    size_t size = fm_dtype_bits(dtype) / 8;
    if (is_fractional(reader)) {
        return no_value(row, reader->text, reader->text_length,
                        "it must be a number without fraction or exponent");
    }
    if (fm_element_is_unsigned(dtype)) {
        uint64_t value = 0;
        if (fm_json_uint64(reader, &value) != 0 || value > fm_element_unsigned_max(dtype)) {
            return out_of_range(row, reader->text, reader->text_length);
        }
        return append(row, &value, size);
    }
    int64_t value = 0;
    int64_t max = fm_element_signed_max(dtype);
    if (fm_json_int64(reader, &value) != 0 || value > max || value < -max - 1) {
        return out_of_range(row, reader->text, reader->text_length);
    }
    return append(row, &value, size);
}

/* A text that follows the grammar of numbers, but for zeros in front. */
static int float_append(const struct row *row, const char *text, size_t length)
{
    double value = 0;
    unsigned char bytes[8];
    uint32_t dtype = row->column->dtype;
    if (fm_decimal_read(text, length, &value) != 0 ||
        !fm_element_from_double(dtype, value, bytes)) {
        return out_of_range(row, text, length);
    }
    return append(row, bytes, dtype == FM_DTYPE_FP32 ? 4 : fm_dtype_bits(dtype) / 8);
}

static int bool_append(const struct row *row, bool value)
{
    unsigned char byte = value;
    return append(row, &byte, 1);
}

/* The current token is a number: its text follows JSON's grammar, but for zeros in front. */
static int number_append(const struct row *row, const struct fm_json_reader *reader)
{
    uint32_t dtype = row->column->dtype;
    if (dtype == FM_DTYPE_BOOL) {
        char digit = reader->text_length == 1 ? reader->text[0] : '\0';
        return digit == '0' || digit == '1' ? bool_append(row, digit == '1')
                                            : no_value(row, reader->text, reader->text_length,
                                                       "it must be true, false, 1 or 0");
    }
    if (dtype == FM_DTYPE_BYTES) {
        return no_value(row, reader->text, reader->text_length,
                        "it is a number, and a string in quotes is needed");
    }
    return fm_element_is_float(dtype) ? float_append(row, reader->text, reader->text_length)
                                      : integer_append(row, reader);
}

static char lower(char character)
{
    return character >= 'A' && character <= 'Z' ? (char)(character + ('a' - 'A')) : character;
}

/* Whether the text is `word` (in small letters), in any case. */
static bool is_word(const char *data, size_t size, const char *word)
{
    if (size != strlen(word)) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (lower(data[i]) != word[i]) {
            return false;
        }
    }
    return true;
}

/* NaN and the infinities, as programs write them. */
static bool is_special(const char *data, size_t size, double *ret_value)
{
    bool negative = size > 0 && data[0] == '-';
    size_t sign = size > 0 && (negative || data[0] == '+');
    bool infinite =
        is_word(data + sign, size - sign, "inf") || is_word(data + sign, size - sign, "infinity");
    if (!infinite && !is_word(data, size, "nan")) {
        return false;
    }
    *ret_value = !infinite ? (double)NAN : negative ? -(double)INFINITY : (double)INFINITY;
    return true;
}

static int special_append(const struct row *row, double value)
{
    unsigned char bytes[8];
    (void)fm_element_from_double(row->column->dtype, value, bytes);
    return append(row, bytes, fm_dtype_bits(row->column->dtype) / 8);
}

static int string_append(const struct row *row, const struct fm_json_reader *reader)
{
    double special = 0;
    if (fm_element_is_float(row->column->dtype) &&
        is_special(reader->text, reader->text_length, &special)) {
        return special_append(row, special);
    }
    if (row->column->dtype != FM_DTYPE_BYTES) {
        return no_value(row, reader->text, reader->text_length, "it is a string");
    }
    size_t start = row->out->length;
    if (fm_text_reserve(row->out, sizeof(uint32_t)) == NULL) {
        return no_memory(row);
    }
    fm_json_decode(reader, row->out);
    if (row->out->failed) {
        return no_memory(row);
    }
    size_t length = row->out->length - start - sizeof(uint32_t);
    if (length > UINT32_MAX) {
        return no_value(row, reader->text, reader->text_length, "it is longer than 4 GiB");
    }
    uint32_t prefix = (uint32_t)length;
    memcpy(row->out->data + start, &prefix, sizeof prefix);
    return 0;
}

/* --- JSON --- */

static int malformed(const struct row *row, const struct fm_json_reader *reader)
{
    return fm_error_set(row->reterr, FM_EINVAL, "column '%s': its JSON is malformed: %s",
                        row->column->name, reader->error.text);
}

static int structure_wrong(const struct row *row, const char *why)
{
    char shape[128];
    return fm_error_set(
        row->reterr, FM_ETYPE, "column '%s': the value has not the shape %s: %s", row->column->name,
        fm_shape_format(row->column->shape, row->column->rank, shape, sizeof shape), why);
}

static int element_append(const struct row *row, const struct fm_json_reader *reader,
                          enum fm_json_token token)
{
    switch (token) {
    case FM_JSON_NUMBER:
        return number_append(row, reader);
    case FM_JSON_STRING:
        return string_append(row, reader);
    case FM_JSON_TRUE:
    case FM_JSON_FALSE:
        return row->column->dtype == FM_DTYPE_BOOL
                   ? bool_append(row, token == FM_JSON_TRUE)
                   : no_value(row, reader->text, reader->text_length, "");
    case FM_JSON_NULL:
        return no_value(row, "null", strlen("null"), "there is no value");
    case FM_JSON_OBJECT_BEGIN:
        return fm_error_set(row->reterr, FM_ETYPE, "column '%s': an object is no %s",
                            row->column->name, fm_dtype_name(row->column->dtype));
    case FM_JSON_END:
        return fm_error_set(row->reterr, FM_ETYPE, "column '%s': there is no value",
                            row->column->name);
    case FM_JSON_ERROR:
        return malformed(row, reader);
    case FM_JSON_OBJECT_END:
    case FM_JSON_ARRAY_BEGIN:
    case FM_JSON_ARRAY_END:
    case FM_JSON_KEY:
        break;
    }
    return structure_wrong(row, "a value was expected");
}

/* An array ended with `seen` children, `depth` deep (the outermost is 1 deep). */
static int dimension_settle(struct row *row, uint32_t depth, uint64_t seen)
{
    int64_t *size = &row->shape[depth - 1];
    if (*size == -1) {
        *size = (int64_t)seen;
    }
    if ((uint64_t)*size == seen) {
        return 0;
    }
    char why[RANGE_SIZE * 2];
    (void)snprintf(why, sizeof why,
                   "an array at level %" PRIu32 " has %" PRIu64 " entries instead of %" PRId64,
                   depth, seen, *size);
    return structure_wrong(row, why);
}

/* Arrays and their elements, nested as the shape says; flat where the first element stands in the
 * outermost array and the shape is fixed. The array's [ was read. */
static int array_read(struct row *row, struct fm_json_reader *reader)
{
    uint64_t seen[FM_RANK_MAX + 2] = {0}; /* children of the open array at each depth */
    uint32_t rank = row->column->rank;
    uint32_t depth = 1;
    uint64_t count = 0;
    bool flat = false;
    while (depth > 0) {
        enum fm_json_token token = fm_json_next(reader);
        int status = 0;
        if (token == FM_JSON_ARRAY_BEGIN) {
            if (flat || depth >= rank) {
                return structure_wrong(row, "its arrays are nested too deeply");
            }
            seen[depth]++;
            seen[++depth] = 0;
        } else if (token == FM_JSON_ARRAY_END) {
            status = flat ? 0 : dimension_settle(row, depth, seen[depth]);
            depth--;
        } else {
            flat = flat || (depth == 1 && rank != 1 && seen[1] == 0 && row->fixed);
            if (!flat && depth != rank && token != FM_JSON_ERROR) {
                return structure_wrong(row, "an element stands where an array was expected");
            }
            seen[depth]++;
            count++;
            status = element_append(row, reader, token);
        }
        if (status != 0) {
            return status;
        }
    }
    if (flat && count != row->count) {
        char why[RANGE_SIZE];
        (void)snprintf(why, sizeof why, "it has %" PRIu64 " elements instead of %" PRIu64, count,
                       row->count);
        return structure_wrong(row, why);
    }
    return 0;
}

static int value_read(struct row *row, struct fm_json_reader *reader)
{
    enum fm_json_token token = fm_json_next(reader);
    if (token == FM_JSON_ARRAY_BEGIN) {
        return row->column->rank > 0 ? array_read(row, reader)
                                     : structure_wrong(row, "it is an array");
    }
    bool alone = row->fixed && row->count == 1;
    if (!alone && token != FM_JSON_ERROR) {
        return structure_wrong(row, "it is no array");
    }
    return element_append(row, reader, token);
}

/* --- CSV --- */

static size_t digits_skip(const char *data, size_t size, size_t at)
{
    while (at < size && data[at] >= '0' && data[at] <= '9') {
        at++;
    }
    return at;
}

/* -?digits[.digits][(e|E)[+-]digits], where the digits before or behind the point may be missing:
 * JSON wants a zero there, at *ret_zero (SIZE_MAX: at none). */
static bool is_number(const char *data, size_t size, size_t *ret_zero)
{
    size_t start = size > 0 && data[0] == '-';
    size_t at = digits_skip(data, size, start);
    bool none = at == start;
    *ret_zero = none ? at : SIZE_MAX;
    if (none && (at == size || data[at] != '.')) {
        return false;
    }
    if (at < size && data[at] == '.') {
        start = ++at;
        at = digits_skip(data, size, at);
        if (at == start && none) {
            return false;
        }
        *ret_zero = at == start ? at : *ret_zero;
    }
    if (at < size && lower(data[at]) == 'e') {
        at++;
        at += at < size && (data[at] == '+' || data[at] == '-');
        start = at;
        at = digits_skip(data, size, at);
        if (at == start) {
            return false;
        }
    }
    return at == size;
}

static int bytes_append(const struct row *row, const char *data, size_t size)
{
    uint32_t prefix = (uint32_t)size;
    if (size > UINT32_MAX) {
        return no_value(row, data, size, "it is longer than 4 GiB");
    }
    int status = append(row, &prefix, sizeof prefix);
    return status != 0 ? status : append(row, data, size);
}

/* ".5" and "1.", with the zero that they leave out. */
static int padded_append(const struct row *row, const char *data, size_t size, size_t zero)
{
    struct fm_text whole = {0};
    fm_text_append(&whole, data, zero);
    fm_text_append_char(&whole, '0');
    fm_text_append(&whole, data + zero, size - zero);
    int status = whole.failed ? no_memory(row) : float_append(row, whole.data, whole.length);
    fm_text_deinit(&whole);
    return status;
}

/* One element that stands as it is in a field. */
static int bare_append(const struct row *row, const char *data, size_t size)
{
    uint32_t dtype = row->column->dtype;
    double special = 0;
    if (dtype == FM_DTYPE_BYTES) {
        return bytes_append(row, data, size);
    }
    if (size == 0) {
        return fm_error_set(row->reterr, FM_ETYPE,
                            "column '%s': the field is empty, which is no %s", row->column->name,
                            fm_dtype_name(dtype));
    }
    if (dtype == FM_DTYPE_BOOL) {
        bool yes = is_word(data, size, "true") || is_word(data, size, "1");
        bool no = is_word(data, size, "false") || is_word(data, size, "0");
        return yes || no ? bool_append(row, yes)
                         : no_value(row, data, size, "it must be true, false, 1 or 0");
    }
    size_t plus = data[0] == '+' && size > 1 && data[1] != '-';
    size_t zero = SIZE_MAX;
    bool number = is_number(data + plus, size - plus, &zero);
    if (number && fm_element_is_float(dtype)) {
        return zero == SIZE_MAX ? float_append(row, data + plus, size - plus)
                                : padded_append(row, data + plus, size - plus, zero);
    }
    if (fm_element_is_float(dtype) && is_special(data, size, &special)) {
        return special_append(row, special);
    }
    if (!number) {
        return no_value(row, data, size, "");
    }
    struct fm_json_reader reader;
    fm_json_reader_init(&reader, data, size);
    reader.text = data + plus;
    reader.text_length = size - plus;
    return number_append(row, &reader);
}

static int field_read(struct row *row, const char *data, size_t size)
{
    bool alone = row->fixed && row->count == 1;
    if (alone && row->column->dtype == FM_DTYPE_BYTES) {
        return bare_append(row, data, size);
    }
    while (size > 0 && (data[0] == ' ' || data[0] == '\t')) {
        data++;
        size--;
    }
    while (size > 0 && (data[size - 1] == ' ' || data[size - 1] == '\t')) {
        size--;
    }
    bool array = size > 0 && data[0] == '[' && row->column->rank > 0;
    if (!array) {
        return alone ? bare_append(row, data, size)
                     : structure_wrong(row, "the field must hold a JSON array");
    }
    struct fm_json_reader reader;
    fm_json_reader_init(&reader, data, size);
    int status = value_read(row, &reader);
    if (status == 0 && fm_json_next(&reader) != FM_JSON_END) {
        return malformed(row, &reader);
    }
    return status;
}

/* --- Rows --- */

static void row_begin(struct row *row, const struct fm_column *column, struct fm_text *out,
                      struct fm_error *reterr)
{
    FM_ASSERT(!out->failed);
    *row = (struct row){.column = column, .out = out, .fixed = true, .count = 1, .reterr = reterr};
    for (uint32_t i = 0; i < column->rank; i++) {
        row->shape[i] = column->shape[i];
        row->fixed = row->fixed && column->shape[i] != -1;
        row->count *= row->fixed ? (uint64_t)column->shape[i] : 1;
    }
}

/* On failure takes back what was appended. */
static int row_end(const struct row *row, size_t start, int status, int64_t *ret_shape)
{
    if (status != 0) {
        row->out->length = start;
        row->out->failed = false;
        if (row->out->data != NULL) {
            row->out->data[start] = '\0';
        }
        return status;
    }
    for (uint32_t i = 0; i < row->column->rank && ret_shape != NULL; i++) {
        /* Nothing was seen of what lies within an array of none. */
        ret_shape[i] = row->shape[i] == -1 ? 0 : row->shape[i];
    }
    return 0;
}

/* Most cells of most tables: a plain number, for an element of FP32. */
static bool single_append(const struct fm_column *column, const char *data, size_t size,
                          struct fm_text *out)
{
    double value = 0;
    if (column->dtype != FM_DTYPE_FP32 || column->rank != 0 ||
        !fm_decimal_read_plain(data, size, &value)) {
        return false;
    }
    float single = (float)value;
    fm_text_append(out, &single, sizeof(single));
    return true;
}

int fm_column_from_field(const struct fm_column *column, const char *data, size_t size,
                         struct fm_text *out, int64_t *ret_shape, struct fm_error *reterr)
{
    struct row row;
    if (single_append(column, data, size, out) && !out->failed) {
        return 0;
    }
    size_t start = out->length;
    row_begin(&row, column, out, reterr);
    int status = field_read(&row, size > 0 ? data : "", size);
    return row_end(&row, start, status, ret_shape);
}

int fm_column_from_json(const struct fm_column *column, struct fm_json_reader *reader,
                        struct fm_text *out, int64_t *ret_shape, struct fm_error *reterr)
{
    struct row row;
    size_t start = out->length;
    row_begin(&row, column, out, reterr);
    int status = value_read(&row, reader);
    return row_end(&row, start, status, ret_shape);
}
