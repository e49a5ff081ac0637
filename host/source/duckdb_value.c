/*
 * Values out of DuckDB's vectors. See duckdb_value.h.
 */
#include "host/source/duckdb_value.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/source/element.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"

enum { DEPTH_MAX = 32, SHAPE_SIZE = 128, DECIMAL_SIZE = 48, SCALE_EXACT = 22 };

__extension__ typedef unsigned __int128 wide_magnitude;

/* A DECIMAL or an integer of 128 bits. */
struct wide {
    wide_magnitude magnitude;
    bool negative;
    uint8_t scale;
};

/* --- Types --- */

static const struct {
    duckdb_type type;
    uint32_t dtype;
    const char *name;
} types[] = {
    {DUCKDB_TYPE_BOOLEAN, FM_DTYPE_BOOL, "BOOLEAN"},
    {DUCKDB_TYPE_TINYINT, FM_DTYPE_INT8, "TINYINT"},
    {DUCKDB_TYPE_SMALLINT, FM_DTYPE_INT16, "SMALLINT"},
    {DUCKDB_TYPE_INTEGER, FM_DTYPE_INT32, "INTEGER"},
    {DUCKDB_TYPE_BIGINT, FM_DTYPE_INT64, "BIGINT"},
    {DUCKDB_TYPE_UTINYINT, FM_DTYPE_UINT8, "UTINYINT"},
    {DUCKDB_TYPE_USMALLINT, FM_DTYPE_UINT16, "USMALLINT"},
    {DUCKDB_TYPE_UINTEGER, FM_DTYPE_UINT32, "UINTEGER"},
    {DUCKDB_TYPE_UBIGINT, FM_DTYPE_UINT64, "UBIGINT"},
    {DUCKDB_TYPE_FLOAT, FM_DTYPE_FP32, "FLOAT"},
    {DUCKDB_TYPE_DOUBLE, FM_DTYPE_FP64, "DOUBLE"},
    {DUCKDB_TYPE_HUGEINT, FM_DTYPE_INVALID, "HUGEINT"},
    {DUCKDB_TYPE_UHUGEINT, FM_DTYPE_INVALID, "UHUGEINT"},
    {DUCKDB_TYPE_DECIMAL, FM_DTYPE_INVALID, "DECIMAL"},
    {DUCKDB_TYPE_VARCHAR, FM_DTYPE_INVALID, "VARCHAR"},
    {DUCKDB_TYPE_BLOB, FM_DTYPE_INVALID, "BLOB"},
    {DUCKDB_TYPE_DATE, FM_DTYPE_INVALID, "DATE"},
    {DUCKDB_TYPE_TIME, FM_DTYPE_INVALID, "TIME"},
    {DUCKDB_TYPE_TIME_NS, FM_DTYPE_INVALID, "TIME_NS"},
    {DUCKDB_TYPE_TIME_TZ, FM_DTYPE_INVALID, "TIME WITH TIME ZONE"},
    {DUCKDB_TYPE_TIMESTAMP, FM_DTYPE_INVALID, "TIMESTAMP"},
    {DUCKDB_TYPE_TIMESTAMP_S, FM_DTYPE_INVALID, "TIMESTAMP_S"},
    {DUCKDB_TYPE_TIMESTAMP_MS, FM_DTYPE_INVALID, "TIMESTAMP_MS"},
    {DUCKDB_TYPE_TIMESTAMP_NS, FM_DTYPE_INVALID, "TIMESTAMP_NS"},
    {DUCKDB_TYPE_TIMESTAMP_TZ, FM_DTYPE_INVALID, "TIMESTAMP WITH TIME ZONE"},
    {DUCKDB_TYPE_INTERVAL, FM_DTYPE_INVALID, "INTERVAL"},
    {DUCKDB_TYPE_UUID, FM_DTYPE_INVALID, "UUID"},
    {DUCKDB_TYPE_ENUM, FM_DTYPE_INVALID, "ENUM"},
    {DUCKDB_TYPE_STRUCT, FM_DTYPE_INVALID, "STRUCT"},
    {DUCKDB_TYPE_MAP, FM_DTYPE_INVALID, "MAP"},
};

static const char *type_name(duckdb_type type)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (types[i].type == type) {
            return types[i].name;
        }
    }
    return "of a type that is not known here";
}

static bool is_list(const struct fm_duckdb_column *column)
{
    return column->type == DUCKDB_TYPE_LIST || column->type == DUCKDB_TYPE_ARRAY;
}

static bool is_wide(const struct fm_duckdb_column *column)
{
    return column->type == DUCKDB_TYPE_DECIMAL || column->type == DUCKDB_TYPE_HUGEINT ||
           column->type == DUCKDB_TYPE_UHUGEINT;
}

static bool is_text(const struct fm_duckdb_column *column)
{
    return column->type == DUCKDB_TYPE_VARCHAR || column->type == DUCKDB_TYPE_BLOB;
}

/* What DuckDB has a text for that everybody reads as the same. */
static bool has_text(const struct fm_duckdb_column *column)
{
    return (column->type >= DUCKDB_TYPE_TIMESTAMP && column->type <= DUCKDB_TYPE_INTERVAL) ||
           (column->type >= DUCKDB_TYPE_TIMESTAMP_S && column->type <= DUCKDB_TYPE_ENUM) ||
           column->type == DUCKDB_TYPE_UUID || column->type == DUCKDB_TYPE_TIME_TZ ||
           column->type == DUCKDB_TYPE_TIME_NS || column->type == DUCKDB_TYPE_TIMESTAMP_TZ;
}

void fm_duckdb_column_describe(const struct fm_duckdb_column *column, struct fm_text *text)
{
    if (!is_list(column)) {
        fm_text_append_string(text, column->json ? "JSON" : type_name(column->type));
        return;
    }
    fm_duckdb_column_describe(&column->children[0], text);
    if (column->type == DUCKDB_TYPE_ARRAY) {
        fm_text_append_format(text, "[%" PRIu64 "]", column->size);
    } else {
        fm_text_append_string(text, "[]");
    }
}

void fm_duckdb_column_deinit(struct fm_duckdb_column *column)
{
    for (uint32_t i = 0; column->children != NULL && i < column->child_count; i++) {
        fm_duckdb_column_deinit(&column->children[i]);
    }
    for (uint32_t i = 0; column->names != NULL && i < column->child_count; i++) {
        fm_free(column->names[i]);
    }
    fm_free(column->children);
    fm_free(column->names);
    *column = (struct fm_duckdb_column){0};
}

static int column_init(struct fm_duckdb_column *column, const struct fm_duckdb *duck,
                       duckdb_logical_type type, uint32_t depth, struct fm_error *reterr);

static duckdb_logical_type child_type(const struct fm_duckdb_column *column,
                                      const struct fm_duckdb *duck, duckdb_logical_type type,
                                      uint32_t index)
{
    return column->type == DUCKDB_TYPE_LIST    ? duck->list_type_child_type(type)
           : column->type == DUCKDB_TYPE_ARRAY ? duck->array_type_child_type(type)
                                               : duck->struct_type_child_type(type, index);
}

static int children_init(struct fm_duckdb_column *column, const struct fm_duckdb *duck,
                         duckdb_logical_type type, uint32_t depth, struct fm_error *reterr)
{
    column->child_count = is_list(column) ? 1 : (uint32_t)duck->struct_type_child_count(type);
    column->children = fm_alloc_zero(column->child_count + 1, sizeof(*column->children));
    column->names = fm_alloc_zero(column->child_count + 1, sizeof(*column->names));
    int status = column->children != NULL && column->names != NULL
                     ? 0
                     : fm_error_set(reterr, FM_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < column->child_count && status == 0; i++) {
        if (!is_list(column)) {
            char *name = duck->struct_type_child_name(type, i);
            column->names[i] = fm_strdup(name != NULL ? name : "");
            duck->free(name);
            if (column->names[i] == NULL) {
                return fm_error_set(reterr, FM_ENOMEM, "out of memory");
            }
        }
        duckdb_logical_type child = child_type(column, duck, type, i);
        status = column_init(&column->children[i], duck, child, depth + 1, reterr);
        duck->destroy_logical_type(&child);
    }
    return status;
}

static int column_init(struct fm_duckdb_column *column, const struct fm_duckdb *duck,
                       duckdb_logical_type type, uint32_t depth, struct fm_error *reterr)
{
    column->type = duck->get_type_id(type);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        column->dtype = types[i].type == column->type ? types[i].dtype : column->dtype;
    }
    if (column->type == DUCKDB_TYPE_DECIMAL) {
        column->store = duck->decimal_internal_type(type);
        column->scale = duck->decimal_scale(type);
    } else if (column->type == DUCKDB_TYPE_ARRAY) {
        column->size = duck->array_type_array_size(type);
    } else if (column->type == DUCKDB_TYPE_VARCHAR) {
        char *alias = duck->logical_type_get_alias(type);
        column->json = alias != NULL && strcmp(alias, "JSON") == 0;
        duck->free(alias);
    }
    if (!is_list(column) && column->type != DUCKDB_TYPE_STRUCT) {
        return 0;
    }
    if (depth == DEPTH_MAX) {
        return fm_error_set(reterr, FM_EUNSUPPORTED, "its type is nested more than %d deep",
                            DEPTH_MAX);
    }
    return children_init(column, duck, type, depth, reterr);
}

int fm_duckdb_column_init(struct fm_duckdb_column *ret_column, const struct fm_duckdb *duck,
                          duckdb_logical_type type, struct fm_error *reterr)
{
    *ret_column = (struct fm_duckdb_column){0};
    int status = column_init(ret_column, duck, type, 0, reterr);
    if (status != 0) {
        fm_duckdb_column_deinit(ret_column);
    }
    return status;
}

void fm_duckdb_column_bind(struct fm_duckdb_column *column, const struct fm_duckdb *duck,
                           duckdb_vector vector)
{
    column->data = duck->vector_get_data(vector);
    column->validity = duck->vector_get_validity(vector);
    for (uint32_t i = 0; i < column->child_count; i++) {
        duckdb_vector child = column->type == DUCKDB_TYPE_LIST ? duck->list_vector_get_child(vector)
                              : column->type == DUCKDB_TYPE_ARRAY
                                  ? duck->array_vector_get_child(vector)
                                  : duck->struct_vector_get_child(vector, i);
        fm_duckdb_column_bind(&column->children[i], duck, child);
    }
}

/* --- What a column can be --- */

static bool shape_count(const struct fm_column *to, uint64_t *ret_count)
{
    /* A shape with a variable dimension is no error here, and has no count. */
    return fm_shape_element_count(to->shape, to->rank, ret_count) == 0;
}

/* How many bytes a BLOB has that holds the row as it lies in a tensor; false: none does. */
static bool raw_size(const struct fm_column *to, size_t *ret_size)
{
    return to->dtype != FM_DTYPE_BOOL && to->dtype != FM_DTYPE_BYTES &&
           fm_tensor_bytes(to->dtype, to->shape, to->rank, ret_size) == 0;
}

/* Whether arrays `depth` deep can be a row: as JSON's can (core/source/column.h). */
static bool nesting_fits(const struct fm_duckdb_column *from, uint32_t depth,
                         const struct fm_column *to)
{
    uint64_t count = 0;
    bool fixed = shape_count(to, &count);
    if (depth != to->rank) {
        return fixed && ((depth == 0 && count == 1) ||
                         (depth == 1 && to->rank > 1 &&
                          (from->type == DUCKDB_TYPE_LIST || from->size == count)));
    }
    for (uint32_t i = 0; i < depth; i++, from = &from->children[0]) {
        if (from->type == DUCKDB_TYPE_ARRAY && to->shape[i] != -1 &&
            from->size != (uint64_t)to->shape[i]) {
            return false;
        }
    }
    return true;
}

int fm_duckdb_form_of_tensor(const struct fm_duckdb_column *from, const struct fm_column *to,
                             enum fm_duckdb_form *ret_form, struct fm_error *reterr)
{
    const struct fm_duckdb_column *leaf = from;
    uint32_t depth = 0;
    size_t raw = 0;
    for (; is_list(leaf); leaf = &leaf->children[0]) {
        depth++;
    }
    *ret_form = to->dtype == FM_DTYPE_BYTES && depth == 0 && has_text(leaf) ? FM_DUCKDB_AS_TEXT
                                                                            : FM_DUCKDB_AS_IT_IS;
    bool element =
        to->dtype == FM_DTYPE_BYTES
            ? is_text(leaf) || *ret_form == FM_DUCKDB_AS_TEXT
            : fm_element_is_number(to->dtype) && (leaf->dtype != FM_DTYPE_INVALID || is_wide(leaf));
    if ((element && nesting_fits(from, depth, to)) ||
        (from->type == DUCKDB_TYPE_BLOB && raw_size(to, &raw))) {
        return 0;
    }
    struct fm_text words = {0};
    char shape[SHAPE_SIZE];
    fm_duckdb_column_describe(from, &words);
    int status =
        fm_error_set(reterr, FM_ETYPE, "column '%s' is %s, which is no row of %s with the shape %s",
                     to->name, words.failed ? "?" : words.data, fm_dtype_name(to->dtype),
                     fm_shape_format(to->shape, to->rank, shape, sizeof shape));
    fm_text_deinit(&words);
    return status;
}

int fm_duckdb_form_of_id(const struct fm_duckdb_column *from, const char *name,
                         enum fm_duckdb_form *ret_form, struct fm_error *reterr)
{
    bool integer = from->dtype != FM_DTYPE_INVALID && !fm_element_is_float(from->dtype);
    *ret_form = is_text(from) ? FM_DUCKDB_AS_IT_IS : FM_DUCKDB_AS_TEXT;
    if (is_text(from) || has_text(from) || is_wide(from) || integer) {
        return 0;
    }
    struct fm_text words = {0};
    fm_duckdb_column_describe(from, &words);
    int status = fm_error_set(reterr, FM_ETYPE, "column '%s' is %s, which cannot name rows", name,
                              words.failed ? "?" : words.data);
    fm_text_deinit(&words);
    return status;
}

static bool is_json(const struct fm_duckdb_column *column)
{
    if (column->json) {
        return false;
    }
    bool native = column->child_count > 0 || column->type == DUCKDB_TYPE_STRUCT ||
                  column->dtype != FM_DTYPE_INVALID || is_wide(column) || is_text(column);
    for (uint32_t i = 0; i < column->child_count && native; i++) {
        native = is_json(&column->children[i]);
    }
    return native;
}

enum fm_duckdb_form fm_duckdb_form_of_json(const struct fm_duckdb_column *from)
{
    return is_json(from)    ? FM_DUCKDB_AS_IT_IS
           : has_text(from) ? FM_DUCKDB_AS_TEXT
                            : FM_DUCKDB_AS_JSON;
}

/* --- Elements --- */

static bool is_null(const struct fm_duckdb_column *column, uint64_t row)
{
    return column->validity != NULL && (column->validity[row / 64] >> (row % 64) & 1u) == 0;
}

static void text_get(const struct fm_duckdb_column *column, uint64_t row, const char **ret_data,
                     size_t *ret_size)
{
    const duckdb_string_t *text = (const duckdb_string_t *)column->data + row;
    *ret_size = text->value.inlined.length;
    *ret_data = *ret_size <= sizeof text->value.inlined.inlined ? text->value.inlined.inlined
                                                                : text->value.pointer.ptr;
}

bool fm_duckdb_text(const struct fm_duckdb_column *column, uint64_t row, const char **ret_data,
                    size_t *ret_size)
{
    if (is_null(column, row)) {
        return false;
    }
    text_get(column, row, ret_data, ret_size);
    return true;
}

static struct wide wide_of(int64_t value)
{
    return (struct wide){.magnitude = value < 0 ? -(wide_magnitude)value : (wide_magnitude)value,
                         .negative = value < 0};
}

static struct wide wide_get(const struct fm_duckdb_column *column, uint64_t row)
{
    struct wide wide = {0};
    duckdb_type store = column->type == DUCKDB_TYPE_DECIMAL ? column->store : column->type;
    if (store == DUCKDB_TYPE_SMALLINT) {
        wide = wide_of(((const int16_t *)column->data)[row]);
    } else if (store == DUCKDB_TYPE_INTEGER) {
        wide = wide_of(((const int32_t *)column->data)[row]);
    } else if (store == DUCKDB_TYPE_BIGINT) {
        wide = wide_of(((const int64_t *)column->data)[row]);
    } else {
        /* HUGEINT and UHUGEINT, which differ in what the highest bit means. */
        const duckdb_uhugeint *huge = (const duckdb_uhugeint *)column->data + row;
        wide.magnitude = (wide_magnitude)huge->upper << 64 | huge->lower;
        wide.negative = store != DUCKDB_TYPE_UHUGEINT && huge->upper >> 63 != 0;
        wide.magnitude = wide.negative ? -wide.magnitude : wide.magnitude;
    }
    wide.scale = column->scale;
    return wide;
}

/* "-12.50", as JSON has it, too. */
static void wide_format(const struct wide *wide, char text[DECIMAL_SIZE])
{
    char digits[DECIMAL_SIZE];
    size_t at = sizeof digits;
    wide_magnitude rest = wide->magnitude;
    digits[--at] = '\0';
    for (unsigned i = 0; rest > 0 || i <= wide->scale; i++) {
        if (i == wide->scale && i > 0) {
            digits[--at] = '.';
        }
        digits[--at] = (char)('0' + (int)(rest % 10));
        rest /= 10;
    }
    (void)snprintf(text, DECIMAL_SIZE, "%s%s", wide->negative ? "-" : "", digits + at);
}

static double wide_double(const struct wide *wide)
{
    double divisor = 1;
    double value = 0;
    if (wide->magnitude <= (wide_magnitude)1 << 53 && wide->scale <= SCALE_EXACT) {
        for (unsigned i = 0; i < wide->scale; i++) {
            divisor *= 10; /* exact up to 10^22: then only the division rounds */
        }
        value = (double)(uint64_t)wide->magnitude / divisor;
        return wide->negative ? -value : value;
    }
    char text[DECIMAL_SIZE];
    wide_format(wide, text);
    int status = fm_parse_double(text, &value);
    FM_ASSERT(status == 0); /* 39 digits are within its range */
    return value;
}

/* As an element of a type of integers, or BOOL; false: it is none. */
static bool wide_integer(struct wide wide, uint32_t dtype, void *out)
{
    for (; wide.scale > 0; wide.scale--) {
        if (wide.magnitude % 10 != 0) {
            return false;
        }
        wide.magnitude /= 10;
    }
    uint64_t low = (uint64_t)wide.magnitude;
    int64_t value = (int64_t)(0 - low);
    uint64_t bad = 0;
    if (!wide.negative) {
        return wide.magnitude <= UINT64_MAX &&
               fm_elements_convert(FM_DTYPE_UINT64, &low, 1, dtype, out, &bad);
    }
    return wide.magnitude <= (wide_magnitude)1 << 63 &&
           fm_elements_convert(FM_DTYPE_INT64, &value, 1, dtype, out, &bad);
}

/* --- Rows of tensors --- */

/* What becomes of one row. */
struct row {
    const struct fm_column *to;
    struct fm_text *out;
    size_t length_max; /* of out */
    uint64_t bytes_max;
    int64_t shape[FM_RANK_MAX]; /* -1: not known yet */
    struct fm_error *reterr;
};

static int null_refuse(const struct row *row, bool nested, uint64_t index)
{
    return nested ? fm_error_set(row->reterr, FM_ETYPE,
                                 "column '%s': entry %" PRIu64 " of its list is NULL",
                                 row->to->name, index)
                  : fm_error_set(row->reterr, FM_ETYPE,
                                 "column '%s': there is no value, it is NULL", row->to->name);
}

/* Room for `size` bytes more; NULL with *ret_status: there is none. */
static char *row_reserve(const struct row *row, uint64_t size, int *ret_status)
{
    if (size > row->length_max - row->out->length) {
        *ret_status = fm_error_set(row->reterr, FM_ETOOLARGE,
                                   "column '%s': the row has more than %" PRIu64 " bytes",
                                   row->to->name, row->bytes_max);
        return NULL;
    }
    char *place = fm_text_reserve(row->out, (size_t)size);
    if (place == NULL) {
        *ret_status = fm_error_set(row->reterr, FM_ENOMEM, "column '%s': out of memory for a row",
                                   row->to->name);
    }
    return place;
}

static int text_append(const struct row *row, const struct fm_duckdb_column *leaf, uint64_t index)
{
    const char *data = NULL;
    size_t size = 0;
    int status = 0;
    text_get(leaf, index, &data, &size);
    uint32_t prefix = (uint32_t)size; /* DuckDB's own lengths have 32 bits */
    char *place = row_reserve(row, sizeof prefix + (uint64_t)size, &status);
    if (place == NULL) {
        return status;
    }
    memcpy(place, &prefix, sizeof prefix);
    memcpy(place + sizeof prefix, data, size);
    return 0;
}

static int wide_append(const struct row *row, const struct fm_duckdb_column *leaf, uint64_t index,
                       char *place)
{
    struct wide wide = wide_get(leaf, index);
    uint32_t dtype = row->to->dtype;
    unsigned char element[8];
    bool fits = fm_element_is_float(dtype)
                    ? fm_element_from_double(dtype, wide_double(&wide), element)
                    : wide_integer(wide, dtype, element);
    if (fits) {
        memcpy(place, element, fm_dtype_bits(dtype) / 8);
        return 0;
    }
    char number[DECIMAL_SIZE];
    char range[64];
    wide_format(&wide, number);
    fm_element_range(dtype, range, sizeof range);
    return fm_error_set(row->reterr, FM_ETYPE, "column '%s': '%s' is no %s: %s%s", row->to->name,
                        number, fm_dtype_name(dtype), range,
                        fm_element_is_float(dtype) || wide.scale == 0 ? ""
                                                                      : ", without a fraction");
}

/* `count` elements of a column that is no list. */
static int elements_append(const struct row *row, const struct fm_duckdb_column *leaf,
                           uint64_t first, uint64_t count, bool nested)
{
    for (uint64_t i = 0; i < count && leaf->validity != NULL; i++) {
        if (is_null(leaf, first + i)) {
            return null_refuse(row, nested, i);
        }
    }
    uint32_t dtype = row->to->dtype;
    int status = 0;
    if (dtype == FM_DTYPE_BYTES) {
        for (uint64_t i = 0; i < count && status == 0; i++) {
            status = text_append(row, leaf, first + i);
        }
        return status;
    }
    size_t size = fm_dtype_bits(dtype) / 8;
    /* A chunk has fewer elements than 2^60. */
    char *place = row_reserve(row, count * size, &status);
    if (place == NULL) {
        return status;
    }
    if (leaf->dtype != FM_DTYPE_INVALID) {
        const char *data = (const char *)leaf->data + first * (fm_dtype_bits(leaf->dtype) / 8);
        uint64_t bad = 0;
        return fm_elements_convert(leaf->dtype, data, count, dtype, place, &bad)
                   ? 0
                   : fm_element_refuse(row->to->name, leaf->dtype, data, bad, dtype, row->reterr);
    }
    for (uint64_t i = 0; i < count && status == 0; i++) {
        status = wide_append(row, leaf, first + i, place + i * size);
    }
    return status;
}

/* A list at `depth` has `size` entries. */
static int dimension_settle(struct row *row, uint32_t depth, uint64_t size)
{
    int64_t *wanted = &row->shape[depth];
    if (*wanted == -1) {
        *wanted = (int64_t)size;
    }
    if ((uint64_t)*wanted == size) {
        return 0;
    }
    char shape[SHAPE_SIZE];
    return fm_error_set(row->reterr, FM_ETYPE,
                        "column '%s': the value has not the shape %s: a list at level %" PRIu32
                        " has %" PRIu64 " entries instead of %" PRId64,
                        row->to->name,
                        fm_shape_format(row->to->shape, row->to->rank, shape, sizeof shape),
                        depth + 1, size, *wanted);
}

static void entries_get(const struct fm_duckdb_column *list, uint64_t index, uint64_t *ret_first,
                        uint64_t *ret_count)
{
    if (list->type == DUCKDB_TYPE_ARRAY) {
        *ret_first = index * list->size;
        *ret_count = list->size;
    } else {
        const duckdb_list_entry *entry = (const duckdb_list_entry *)list->data + index;
        *ret_first = entry->offset;
        *ret_count = entry->length;
    }
}

static int list_append(struct row *row, const struct fm_duckdb_column *list, uint64_t index,
                       uint32_t depth, uint64_t place)
{
    uint64_t first = 0;
    uint64_t count = 0;
    if (is_null(list, index)) {
        return null_refuse(row, depth > 0, place);
    }
    entries_get(list, index, &first, &count);
    const struct fm_duckdb_column *child = &list->children[0];
    int status = dimension_settle(row, depth, count);
    if (status != 0 || !is_list(child)) {
        return status != 0 ? status : elements_append(row, child, first, count, true);
    }
    for (uint64_t i = 0; i < count && status == 0; i++) {
        status = list_append(row, child, first + i, depth + 1, i);
    }
    return status;
}

/* All elements of the row in one list. */
static int flat_append(struct row *row, const struct fm_duckdb_column *list, uint64_t index)
{
    uint64_t wanted = 0;
    uint64_t first = 0;
    uint64_t count = 0;
    if (is_null(list, index)) {
        return null_refuse(row, false, 0);
    }
    entries_get(list, index, &first, &count);
    if (!shape_count(row->to, &wanted) || wanted != count) {
        return fm_error_set(row->reterr, FM_ETYPE,
                            "column '%s': the list has %" PRIu64 " entries instead of %" PRIu64,
                            row->to->name, count, wanted);
    }
    return elements_append(row, &list->children[0], first, count, true);
}

static int raw_append(const struct row *row, const struct fm_duckdb_column *blob, uint64_t index)
{
    const char *data = NULL;
    size_t size = 0;
    size_t wanted = 0;
    int status = 0;
    if (!fm_duckdb_text(blob, index, &data, &size)) {
        return null_refuse(row, false, 0);
    }
    if (!raw_size(row->to, &wanted) || size != wanted) {
        return fm_error_set(row->reterr, FM_ETYPE,
                            "column '%s': the BLOB has %zu bytes, and a row has %zu", row->to->name,
                            size, wanted);
    }
    char *place = row_reserve(row, size, &status);
    if (place != NULL && size > 0) {
        memcpy(place, data, size);
    }
    return status;
}

int fm_duckdb_append_row(const struct fm_duckdb_column *from, uint64_t row_index,
                         const struct fm_column *to, uint64_t bytes_max, struct fm_text *out,
                         int64_t *ret_shape, struct fm_error *reterr)
{
    struct row row = {.to = to,
                      .out = out,
                      .length_max = bytes_max < SIZE_MAX - out->length
                                        ? out->length + (size_t)bytes_max
                                        : SIZE_MAX,
                      .bytes_max = bytes_max,
                      .reterr = reterr};
    memcpy(row.shape, to->shape, to->rank * sizeof row.shape[0]);
    int status = 0;
    if (from->type == DUCKDB_TYPE_BLOB && to->dtype != FM_DTYPE_BYTES) {
        status = raw_append(&row, from, row_index);
    } else if (!is_list(from)) {
        status = elements_append(&row, from, row_index, 1, false);
    } else if (to->rank != 1 && !is_list(&from->children[0])) {
        status = flat_append(&row, from, row_index);
    } else {
        status = list_append(&row, from, row_index, 0, 0);
    }
    for (uint32_t i = 0; i < to->rank; i++) {
        /* Nothing was seen of what lies within a list of none. */
        ret_shape[i] = row.shape[i] == -1 ? 0 : row.shape[i];
    }
    return status;
}

/* --- JSON --- */

static void json_write(const struct fm_duckdb_column *column, uint64_t index,
                       struct fm_json_writer *writer)
{
    const char *data = NULL;
    size_t size = 0;
    if (is_null(column, index)) {
        fm_json_null(writer);
    } else if (column->dtype != FM_DTYPE_INVALID) {
        fm_element_write_json(writer, column->dtype, column->data, index);
    } else if (is_wide(column)) {
        char number[DECIMAL_SIZE];
        struct wide wide = wide_get(column, index);
        wide_format(&wide, number);
        fm_json_raw(writer, number, strlen(number));
    } else if (is_text(column)) {
        text_get(column, index, &data, &size);
        fm_json_string_n(writer, data, size);
    } else if (is_list(column)) {
        uint64_t first = 0;
        uint64_t count = 0;
        entries_get(column, index, &first, &count);
        fm_json_array_begin(writer);
        for (uint64_t i = 0; i < count; i++) {
            json_write(&column->children[0], first + i, writer);
        }
        fm_json_array_end(writer);
    } else {
        FM_ASSERT(column->type == DUCKDB_TYPE_STRUCT);
        fm_json_object_begin(writer);
        for (uint32_t i = 0; i < column->child_count; i++) {
            fm_json_key(writer, column->names[i]);
            json_write(&column->children[i], index, writer);
        }
        fm_json_object_end(writer);
    }
}

int fm_duckdb_append_json(const struct fm_duckdb_column *column, enum fm_duckdb_form form,
                          uint64_t row, const char *name, struct fm_text *out,
                          struct fm_error *reterr)
{
    struct fm_json_writer writer;
    const char *data = NULL;
    size_t size = 0;
    fm_json_writer_init(&writer, out);
    if (form == FM_DUCKDB_AS_JSON && fm_duckdb_text(column, row, &data, &size)) {
        struct fm_json_reader reader;
        fm_json_reader_init(&reader, data, size);
        if (fm_json_skip(&reader) != 0 || fm_json_next(&reader) != FM_JSON_END) {
            return fm_error_set(reterr, FM_ETYPE, "column '%s': the value is no JSON: %s", name,
                                reader.error.text[0] != '\0' ? reader.error.text
                                                             : "something stands behind it");
        }
        fm_json_raw(&writer, data, size);
    } else {
        json_write(column, row, &writer);
    }
    return out->failed ? fm_error_set(reterr, FM_ENOMEM, "column '%s': out of memory", name) : 0;
}
