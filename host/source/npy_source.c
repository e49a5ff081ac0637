/*
 * The formats npy and npz: rows along the first axis of NumPy's arrays.
 *
 * HOW IT WORKS. A .npy file is one column, which has no name; the arrays of a .npz archive are
 * columns by their names. Every wanted column is an array of its own with a place of its own in the
 * file (array_file.h), and all go on together. All rows of an array have one shape and one type, so
 * what can be a row of which tensor is settled when the file is opened; what remains for each row
 * are numbers that do not fit. There is one point, for row 0: any row is as near.
 *
 * LIMITATIONS. A deflated array (numpy.savez_compressed) is inflated from its beginning to reach a
 * row.
 */
#include <inttypes.h>
#include <string.h>

#include "core/proto/zip.h"
#include "core/source/element.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/file.h"
#include "host/source/array_file.h"
#include "host/source/cells.h"
#include "host/source/formats.h"

enum { DIRECTORY_BYTES_MAX = 64 << 20, SHAPE_SIZE = 128 };

/* A column that is read. */
struct part {
    const char *name; /* NULL: no id is wanted */
    struct fm_array_file array;
    const unsigned char *row;
    int64_t shape[FM_RANK_MAX]; /* of a cell: that every row has */
};

struct npy_reader {
    struct fm_source_reader base;
    const struct fm_source_spec *spec;
    struct fm_file_reader file;
    uint64_t file_size;
    struct fm_source_cells cells;
    struct part *parts; /* by cell, then the id, then what is passed */
    uint64_t rows;
    uint64_t next_row;
    bool pending; /* that row's bytes are there */
    struct fm_text json;
    struct fm_text string;

    /* Of an archive. */
    char *directory;
    struct fm_zip_member *members;
    char **names; /* of the arrays, in the order of the members */
    uint32_t member_count;
};

static struct npy_reader *npy_reader_of(struct fm_source_reader *reader)
{
    return (struct npy_reader *)(void *)reader;
}

/* --- What is wanted --- */

static int parts_make(struct npy_reader *reader, struct fm_error *reterr)
{
    const struct fm_source_spec *spec = reader->spec;
    bool named = spec->format == &fm_source_npz;
    for (uint32_t i = 0; i < spec->tensor_count; i++) {
        uint32_t count = spec->tensors[i].name_count;
        if (named != (count > 0) || (!named && spec->tensor_count != 1)) {
            return fm_error_set(reterr, FM_EINVAL,
                                named ? "the array for the input '%s' is not named"
                                      : "a .npy file is one array without a name, which cannot be "
                                        "chosen for the input '%s'; use .npz",
                                spec->tensors[i].column.name);
        }
    }
    if (!named && (spec->id != NULL || spec->passed_count > 0)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "a .npy file has no column '%s', but one array; use .npz",
                            spec->id != NULL ? spec->id : spec->passed[0]);
    }
    int status = fm_source_cells_make(&reader->cells, spec);
    if (status == 0) {
        reader->parts = fm_alloc_zero(reader->cells.name_count, sizeof(*reader->parts));
    }
    for (uint32_t i = 0; reader->parts != NULL && i < reader->cells.name_count; i++) {
        reader->parts[i].name = reader->cells.names[i];
    }
    return reader->parts != NULL ? 0 : fm_error_set(reterr, FM_ENOMEM, "out of memory");
}

/* The shape that the rows have in the tensor, from their shape in the array; false: they do not
 * fit. As arrays in JSON do (core/source/column.h). */
static bool shape_settle(const struct fm_column *to, const struct fm_array_file *array,
                         int64_t *ret_shape)
{
    const int64_t *shape = array->header.shape + 1;
    uint32_t rank = array->header.rank - 1;
    uint64_t count = 0;
    if (rank == to->rank) {
        for (uint32_t i = 0; i < rank; i++) {
            ret_shape[i] = shape[i];
            if (to->shape[i] != -1 && to->shape[i] != shape[i]) {
                return false;
            }
        }
        return true;
    }
    memcpy(ret_shape, to->shape, to->rank * sizeof ret_shape[0]);
    return rank <= 1 && fm_shape_element_count(to->shape, to->rank, &count) == 0 &&
           count == array->row_elements;
}

static int cell_settle(const struct fm_source_cell *cell, struct part *part,
                       struct fm_error *reterr)
{
    const struct fm_array_file *array = &part->array;
    uint32_t from = array->header.dtype;
    uint32_t to = cell->column.dtype;
    if (from != to && !(fm_element_is_number(from) && fm_element_is_number(to))) {
        return fm_error_set(reterr, FM_ETYPE, "array '%s': its type %s cannot become %s",
                            cell->column.name, fm_dtype_name(from), fm_dtype_name(to));
    }
    if (!shape_settle(&cell->column, array, part->shape)) {
        char is[SHAPE_SIZE];
        char wanted[SHAPE_SIZE];
        return fm_error_set(
            reterr, FM_ETYPE, "array '%s': its rows have the shape %s, and %s is wanted",
            cell->column.name,
            fm_shape_format(array->header.shape + 1, array->header.rank - 1, is, sizeof is),
            fm_shape_format(cell->column.shape, cell->column.rank, wanted, sizeof wanted));
    }
    return 0;
}

/* Whether the array is what the part of this index is wanted for. */
static int part_settle(struct npy_reader *reader, uint32_t index, struct fm_error *reterr)
{
    struct part *part = &reader->parts[index];
    uint32_t dtype = part->array.header.dtype;
    bool has_text = dtype == FM_DTYPE_BYTES || fm_element_is_number(dtype);
    if (index < reader->cells.count) {
        return cell_settle(&reader->cells.items[index], part, reterr);
    }
    if (index == reader->cells.count &&
        (!has_text || fm_element_is_float(dtype) || part->array.header.rank > 1)) {
        return fm_error_set(reterr, FM_ETYPE,
                            "array '%s' cannot name rows: it must be one string or one integer for "
                            "each",
                            part->name);
    }
    return has_text ? 0
                    : fm_error_set(reterr, FM_ETYPE, "array '%s': its type %s has no JSON",
                                   part->name, fm_dtype_name(dtype));
}

static int parts_settle(struct npy_reader *reader, struct fm_error *reterr)
{
    const struct part *first = NULL;
    int status = 0;
    for (uint32_t i = 0; i < reader->cells.name_count && status == 0; i++) {
        const struct part *part = &reader->parts[i];
        if (part->name == NULL) {
            continue;
        }
        first = first == NULL ? part : first;
        status = part_settle(reader, i, reterr);
        if (status == 0 && part->array.rows != first->array.rows) {
            status = fm_error_set(reterr, FM_ETYPE,
                                  "array '%s' has %" PRIu64 " rows, and '%s' has %" PRIu64,
                                  part->name, part->array.rows, first->name, first->array.rows);
        }
    }
    reader->rows = first != NULL ? first->array.rows : 0;
    return status;
}

/* --- Archives --- */

static int directory_read(struct npy_reader *reader, size_t *ret_size, struct fm_error *reterr)
{
    struct fm_zip_end end = {0};
    size_t tail = reader->file_size < FM_ZIP_END_MAX ? (size_t)reader->file_size : FM_ZIP_END_MAX;
    char *bytes = fm_alloc(tail + 1);
    if (bytes == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    int status =
        fm_file_reader_read_at(&reader->file, reader->file_size - tail, bytes, tail, &tail, reterr);
    status = status == 0 ? fm_zip_end_find(bytes, tail, reader->file_size, &end, reterr) : status;
    fm_free(bytes);
    if (status == 0 && end.directory_size > DIRECTORY_BYTES_MAX) {
        status = fm_error_set(reterr, FM_ETOOLARGE, "its directory has more than %d MiB",
                              DIRECTORY_BYTES_MAX >> 20);
    }
    if (status != 0) {
        return status;
    }
    reader->directory = fm_alloc((size_t)end.directory_size + 1);
    if (reader->directory == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    return fm_file_reader_read_at(&reader->file, end.directory_offset, reader->directory,
                                  (size_t)end.directory_size, ret_size, reterr);
}

/* The array's name of a member: without ".npy", as numpy.load gives it. */
static char *member_name(const struct fm_zip_member *member)
{
    size_t length = member->name_size;
    if (length >= 4 && memcmp(member->name + length - 4, ".npy", 4) == 0) {
        length -= 4;
    }
    return fm_strndup(member->name, length);
}

static int members_read(struct npy_reader *reader, struct fm_error *reterr)
{
    size_t size = 0;
    size_t offset = 0;
    uint32_t capacity = 0;
    int status = directory_read(reader, &size, reterr);
    while (status == 0) {
        struct fm_zip_member member;
        status = fm_zip_member_next(reader->directory, size, reader->file_size, &offset, &member,
                                    reterr);
        if (status <= 0) {
            break;
        }
        if (reader->member_count == capacity) {
            capacity = capacity == 0 ? 16 : capacity * 2;
            struct fm_zip_member *members =
                fm_realloc(reader->members, capacity * sizeof(*members));
            reader->members = members != NULL ? members : reader->members;
            char **names = fm_realloc((void *)reader->names, capacity * sizeof(*names));
            reader->names = names != NULL ? names : reader->names;
            if (members == NULL || names == NULL) {
                return fm_error_set(reterr, FM_ENOMEM, "out of memory");
            }
        }
        reader->members[reader->member_count] = member;
        reader->names[reader->member_count] = member_name(&member);
        if (reader->names[reader->member_count++] == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory");
        }
        status = 0;
    }
    return status;
}

static int member_open(struct npy_reader *reader, struct part *part, struct fm_error *reterr)
{
    unsigned char header[FM_ZIP_LOCAL_HEADER_SIZE] = {0};
    size_t got = 0;
    uint32_t index = reader->member_count;
    while (index > 0 && strcmp(reader->names[index - 1], part->name) != 0) {
        index--; /* of several, the last one counts, as everywhere */
    }
    if (index == 0) {
        return fm_column_unknown(part->name, (const char *const *)reader->names,
                                 reader->member_count, reterr);
    }
    const struct fm_zip_member *member = &reader->members[index - 1];
    struct fm_array_place place = {.stored_size = member->stored_size,
                                   .size = member->size,
                                   .deflated = member->method == FM_ZIP_DEFLATED,
                                   .crc = member->crc};
    if (member->method != FM_ZIP_STORED && member->method != FM_ZIP_DEFLATED) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "array '%s' is compressed by method %u; save it with numpy.savez",
                            part->name, member->method);
    }
    int status = fm_file_reader_read_at(&reader->file, member->header_offset, header, sizeof header,
                                        &got, reterr);
    status = status == 0
                 ? fm_zip_member_begin(member, header, reader->file_size, &place.offset, reterr)
                 : status;
    status = status == 0 ? fm_array_file_open(&part->array, &reader->file, &place,
                                              reader->spec->record_bytes_max, reterr)
                         : status;
    return status == 0 ? 0 : fm_error_prefix(reterr, status, "array '%s'", part->name);
}

/* --- Rows --- */

/* Appends one string of an array. */
static void string_append(const struct fm_npy_header *header, const char *string,
                          struct fm_text *out)
{
    char *place = fm_text_reserve(out, header->element_size);
    if (place != NULL) {
        out->length -= header->element_size - fm_npy_string_get(header, string, place);
        out->data[out->length] = '\0';
    }
}

static int id_give(struct npy_reader *reader, struct fm_row_block *block)
{
    const struct part *part = &reader->parts[reader->cells.count];
    if (part->name == NULL) {
        return 0;
    }
    struct fm_json_writer writer;
    fm_text_clear(&reader->json);
    if (part->array.header.dtype == FM_DTYPE_BYTES) {
        string_append(&part->array.header, (const char *)part->row, &reader->json);
    } else {
        fm_json_writer_init(&writer, &reader->json);
        fm_element_write_json(&writer, part->array.header.dtype, part->row, 0);
    }
    if (reader->json.failed) {
        return FM_ENOMEM;
    }
    fm_row_block_id(block, reader->json.length > 0 ? reader->json.data : "", reader->json.length);
    return 0;
}

/* The row as nested arrays. */
static int passed_give(struct npy_reader *reader, const struct part *part,
                       struct fm_row_block *block)
{
    const struct fm_npy_header *header = &part->array.header;
    struct fm_json_writer writer;
    fm_text_clear(&reader->json);
    fm_json_writer_init(&writer, &reader->json);
    for (uint64_t i = 0; i < part->array.row_elements; i++) {
        uint64_t inner = 1;
        for (uint32_t axis = header->rank - 1; axis > 0; axis--) {
            inner *= (uint64_t)header->shape[axis];
            if (i % inner == 0) {
                fm_json_array_begin(&writer);
            }
        }
        if (header->dtype == FM_DTYPE_BYTES) {
            const char *string = (const char *)part->row + i * header->element_size;
            fm_text_clear(&reader->string);
            string_append(header, string, &reader->string);
            fm_json_string_n(&writer, reader->string.length > 0 ? reader->string.data : "",
                             reader->string.length);
        } else {
            fm_element_write_json(&writer, header->dtype, part->row, i);
        }
        inner = 1;
        for (uint32_t axis = header->rank - 1; axis > 0; axis--) {
            inner *= (uint64_t)header->shape[axis];
            if ((i + 1) % inner == 0) {
                fm_json_array_end(&writer);
            }
        }
    }
    if (reader->json.failed || reader->string.failed) {
        return FM_ENOMEM;
    }
    fm_row_block_pass(block, reader->json.data, reader->json.length);
    return 0;
}

static int elements_give(const struct fm_source_cell *cell, const struct part *part,
                         struct fm_text *out, struct fm_error *reterr)
{
    const struct fm_npy_header *header = &part->array.header;
    uint64_t count = part->array.row_elements;
    if (header->dtype == FM_DTYPE_BYTES) {
        for (uint64_t i = 0; i < count; i++) {
            const char *string = (const char *)part->row + i * header->element_size;
            uint32_t length = (uint32_t)fm_npy_string_get(header, string, NULL);
            fm_text_append(out, &length, sizeof length);
            string_append(header, string, out);
        }
        return out->failed ? FM_ENOMEM : 0;
    }
    uint32_t to = cell->column.dtype;
    uint64_t bad = 0;
    char *place = fm_text_reserve(out, (size_t)count * (fm_dtype_bits(to) / 8));
    if (place == NULL) {
        return FM_ENOMEM;
    }
    if (!fm_element_is_number(to)) {
        memcpy(place, part->row, part->array.row_bytes); /* the same type: complex numbers */
        return 0;
    }
    return fm_elements_convert(header->dtype, part->row, count, to, place, &bad)
               ? 0
               : fm_element_refuse(cell->column.name, header->dtype, part->row, bad, to, reterr);
}

static int cell_give(struct npy_reader *reader, uint32_t index, struct fm_row_block *block,
                     struct fm_error *reterr)
{
    const struct fm_source_cell *cell = &reader->cells.items[index];
    const struct fm_source_tensor *tensor = &reader->spec->tensors[cell->tensor];
    int status = elements_give(cell, &reader->parts[index], &block->tensors[cell->tensor], reterr);
    if (status != 0 || !cell->last) {
        return status;
    }
    return fm_row_block_shape(block, cell->tensor,
                              tensor->name_count > 1 ? tensor->column.shape
                                                     : reader->parts[index].shape);
}

/* FM_EAGAIN: the row has to wait for the next block. */
static int row_give(struct npy_reader *reader, struct fm_row_block *block, struct fm_error *reterr)
{
    struct fm_error error;
    fm_error_init(&error);
    fm_row_block_begin(block, reader->next_row, 0);
    int status = id_give(reader, block);
    for (uint32_t i = 0; i < reader->spec->passed_count && status == 0; i++) {
        status = passed_give(reader, &reader->parts[reader->cells.count + 1 + i], block);
    }
    for (uint32_t i = 0; i < reader->cells.count && status == 0; i++) {
        status = cell_give(reader, i, block, &error);
    }
    return fm_source_row_end(block, status, &error, "row", reader->next_row, reterr);
}

/* The next row's bytes of all arrays. */
static int row_ready(struct npy_reader *reader, struct fm_error *reterr)
{
    for (uint32_t i = 0; i < reader->cells.name_count; i++) {
        struct part *part = &reader->parts[i];
        const void *row = NULL;
        int status = part->name != NULL ? fm_array_file_next(&part->array, &row, reterr) : 1;
        if (status < 0) {
            return fm_error_prefix(reterr, status, "%s, row %" PRIu64, reader->file.path,
                                   reader->next_row);
        }
        part->row = row;
        FM_ASSERT(status == 1); /* next_row < rows, of all arrays */
    }
    reader->pending = true;
    return 0;
}

static int npy_read(struct fm_source_reader *source, uint32_t rows_max, struct fm_row_block *block,
                    struct fm_error *reterr)
{
    struct npy_reader *reader = npy_reader_of(source);
    while (block->row_count < rows_max && reader->next_row < reader->rows) {
        int status = reader->pending ? 0 : row_ready(reader, reterr);
        status = status == 0 ? row_give(reader, block, reterr) : status;
        if (status != 0) {
            return status == FM_EAGAIN ? 0 : status;
        }
        reader->pending = false;
        reader->next_row++;
    }
    return 0;
}

static int npy_skip(struct fm_source_reader *source, uint64_t rows, struct fm_error *reterr)
{
    struct npy_reader *reader = npy_reader_of(source);
    uint64_t left = rows;
    if (reader->pending && left > 0) {
        reader->pending = false; /* the arrays are past it */
        left--;
    }
    for (uint32_t i = 0; i < reader->cells.name_count; i++) {
        if (reader->parts[i].name != NULL) {
            int status = fm_array_file_skip(&reader->parts[i].array, left, reterr);
            if (status != 0) {
                return fm_error_prefix(reterr, status, "%s", reader->file.path);
            }
        }
    }
    reader->next_row += rows;
    return 0;
}

/* --- Life --- */

static void npy_close(struct fm_source_reader *source)
{
    struct npy_reader *reader = npy_reader_of(source);
    for (uint32_t i = 0; reader->parts != NULL && i < reader->cells.name_count; i++) {
        fm_array_file_close(&reader->parts[i].array);
    }
    for (uint32_t i = 0; i < reader->member_count; i++) {
        fm_free(reader->names[i]);
    }
    fm_file_reader_close(&reader->file);
    fm_text_deinit(&reader->json);
    fm_text_deinit(&reader->string);
    fm_free((void *)reader->names);
    fm_free(reader->members);
    fm_free(reader->directory);
    fm_source_cells_deinit(&reader->cells);
    fm_free(reader->parts);
    fm_free(reader);
}

static int arrays_open(struct npy_reader *reader, struct fm_error *reterr)
{
    int status = parts_make(reader, reterr);
    if (status != 0) {
        return status;
    }
    if (reader->spec->format == &fm_source_npy) {
        struct fm_array_place place = {.stored_size = reader->file_size, .size = reader->file_size};
        status = fm_array_file_open(&reader->parts[0].array, &reader->file, &place,
                                    reader->spec->record_bytes_max, reterr);
        return status == 0 ? parts_settle(reader, reterr) : status;
    }
    status = members_read(reader, reterr);
    for (uint32_t i = 0; i < reader->cells.name_count && status == 0; i++) {
        status = reader->parts[i].name != NULL ? member_open(reader, &reader->parts[i], reterr) : 0;
    }
    return status == 0 ? parts_settle(reader, reterr) : status;
}

static int npy_open(const struct fm_source_spec *spec, const char *path,
                    const struct fm_record_point *point, struct fm_source_reader **ret_reader,
                    struct fm_error *reterr)
{
    struct fm_file_facts facts = {0};
    struct npy_reader *reader = fm_alloc_zero(1, sizeof(*reader));
    if (reader == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    reader->base.format = spec->format;
    reader->spec = spec;
    int status = fm_file_reader_open(&reader->file, path, reterr);
    status = status == 0 ? fm_file_stat(path, &facts, reterr) : status;
    if (status == 0) {
        reader->file_size = facts.size;
        status = arrays_open(reader, reterr);
        status = status == 0 ? 0 : fm_error_prefix(reterr, status, "%s", path);
    }
    if (status == 0 && point != NULL) {
        status = npy_skip(&reader->base, point->row, reterr);
    }
    if (status != 0) {
        npy_close(&reader->base);
        return status;
    }
    *ret_reader = &reader->base;
    return 0;
}

static int npy_count(const struct fm_source_spec *spec, const char *path, fm_record_point_take take,
                     void *context, uint64_t *ret_rows, struct fm_error *reterr)
{
    struct fm_source_reader *source = NULL;
    const struct fm_record_point first = {0};
    int status = npy_open(spec, path, NULL, &source, reterr);
    if (status != 0) {
        return status;
    }
    *ret_rows = npy_reader_of(source)->rows;
    npy_close(source);
    return *ret_rows > 0 && take != NULL ? take(context, &first) : 0;
}

static const char *const npy_endings[] = {".npy", NULL};
static const char *const npz_endings[] = {".npz", NULL};

const struct fm_source_format fm_source_npy = {.name = "npy",
                                               .endings = npy_endings,
                                               .nameless = true,
                                               .count = npy_count,
                                               .open = npy_open,
                                               .skip = npy_skip,
                                               .read = npy_read,
                                               .close = npy_close};

const struct fm_source_format fm_source_npz = {.name = "npz",
                                               .endings = npz_endings,
                                               .count = npy_count,
                                               .open = npy_open,
                                               .skip = npy_skip,
                                               .read = npy_read,
                                               .close = npy_close};
