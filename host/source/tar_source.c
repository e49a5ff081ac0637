/*
 * tar archives of samples, as WebDataset writes them: neighbours of the same name up to the first
 * dot are one row, and what stands behind that dot is the column.
 *
 * HOW IT WORKS. A reader goes from header to header and notes where the wanted fields of a sample
 * lie; their bytes are read when the sample is complete, straight into the tensors. What nobody
 * wants is passed over. Counting does the same with headers alone. A point is where a sample
 * begins, so a reader begins anywhere.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/proto/tar.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/file.h"
#include "host/os/file_reader.h"
#include "host/source/cells.h"
#include "host/source/formats.h"

enum { WINDOW_BYTES = 1 << 16, EXTENSION_BYTES_MAX = 1 << 20, FIELDS_SHOWN = 200 };
#define STRIDE_BYTES UINT64_C(262144)
#define STRIDE_ROWS  UINT64_C(65536)
/* Where something is that cannot be read. */
#define BEHIND \
    "; it lies behind the archive's end mark, where zeros may be and further archives: cut it off"
/* The column that is the sample's name. */
#define KEY_COLUMN "__key__"

/* Where a wanted field of the sample lies. */
struct place {
    const char *name; /* NULL: none is wanted */
    uint64_t offset;
    uint64_t size;
    bool is_key;
    bool found;
};

/* A file in the archive that belongs to a sample. */
struct member {
    struct fm_tar_sample_name name;
    uint64_t begin; /* of its headers */
    uint64_t offset;
    uint64_t size;
};

struct tar_reader {
    struct fm_source_reader base;
    const struct fm_source_spec *spec;
    struct fm_file_reader file;
    uint64_t file_size;
    uint64_t offset; /* of the next header */
    char *window;    /* of the file, for headers that lie close to each other */
    uint64_t window_offset;
    size_t window_size;
    struct fm_source_cells cells;
    struct place *places; /* by cell, then the id, then what is passed */
    uint64_t next_row;
    bool pending; /* the sample has not been given yet */
    uint64_t bytes;
    bool twice;           /* a field occurs more than once */
    struct member member; /* its name points into header */
    struct fm_tar_header header;
    struct fm_tar_pax pax;
    char long_name[FM_TAR_NAME_MAX];
    char key[FM_TAR_NAME_MAX];
    struct fm_text fields; /* of the sample, for words */
    struct fm_text scratch;
    struct fm_text json;
};

static struct tar_reader *tar_reader_of(struct fm_source_reader *reader)
{
    return (struct tar_reader *)(void *)reader;
}

/* --- Members --- */

static int refuse(const struct tar_reader *reader, const char *words, struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_ECORRUPT, "%s: byte %" PRIu64 ": %s", reader->file.path,
                        reader->offset, words);
}

/* `size` bytes of the archive, which all lie within it. */
static int bytes_get(struct tar_reader *reader, uint64_t offset, void *data, size_t size,
                     struct fm_error *reterr)
{
    size_t got = 0;
    int status = fm_file_reader_read_at(&reader->file, offset, data, size, &got, reterr);
    return status != 0 || got == size
               ? status
               : fm_error_set(reterr, FM_ECORRUPT, "%s was cut short while it was read",
                              reader->file.path);
}

static int window_get(struct tar_reader *reader, const char **ret_block, struct fm_error *reterr)
{
    uint64_t offset = reader->offset;
    int status = 0;
    if (offset < reader->window_offset ||
        offset + FM_TAR_BLOCK > reader->window_offset + reader->window_size) {
        reader->window_offset = offset;
        status = fm_file_reader_read_at(&reader->file, offset, reader->window, WINDOW_BYTES,
                                        &reader->window_size, reterr);
    }
    if (status == 0 && offset + FM_TAR_BLOCK > reader->window_offset + reader->window_size) {
        status = refuse(reader, "the archive ends without its end mark: it was cut off", reterr);
    }
    *ret_block = reader->window + (offset - reader->window_offset);
    return status;
}

/* The bytes behind the header at hand, which say more about the next member. */
static int extension_read(struct tar_reader *reader, uint64_t offset, bool *ret_named,
                          struct fm_error *reterr)
{
    struct fm_error words = {0};
    uint64_t size = reader->header.size;
    fm_text_clear(&reader->scratch);
    if (size > EXTENSION_BYTES_MAX) {
        return refuse(reader, "a header of more than 1 MiB", reterr);
    }
    char *data = fm_text_reserve(&reader->scratch, (size_t)size + 1);
    if (data == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    int status = bytes_get(reader, offset, data, (size_t)size, reterr);
    if (status != 0) {
        return status;
    }
    data[size] = '\0';
    if (reader->header.kind == FM_TAR_PAX) {
        status = fm_tar_pax_read(data, (size_t)size, &reader->pax, &words);
    } else if (strlen(data) >= sizeof(reader->long_name)) {
        status =
            fm_error_set(&words, FM_ETOOLARGE, "a name of more than %u bytes", FM_TAR_NAME_MAX - 1);
    } else {
        (void)snprintf(reader->long_name, sizeof(reader->long_name), "%s", data);
        *ret_named = true;
    }
    return status == 0 ? 0
                       : fm_error_set(reterr, status, "%s: byte %" PRIu64 ": %s", reader->file.path,
                                      reader->offset, words.text);
}

/* The last bytes behind an end mark, too few for a header, are zeros as those before them. */
static int rest_check(struct tar_reader *reader, struct fm_error *reterr)
{
    char rest[FM_TAR_BLOCK];
    size_t size = (size_t)(reader->file_size - reader->offset);
    int status = bytes_get(reader, reader->offset, rest, size, reterr);
    for (size_t i = 0; i < size && status == 0; i++) {
        status = rest[i] == 0 ? 0
                              : refuse(reader,
                                       "what is there is neither zeros nor a header of a tar "
                                       "archive" BEHIND,
                                       reterr);
    }
    return status;
}

/* The header at reader->offset, with what stands before it about it: 1, or 0: the archive is over.
 * *ret_data: where its bytes begin. */
static int header_next(struct tar_reader *reader, uint64_t *ret_data, struct fm_error *reterr)
{
    bool named = false;
    uint64_t mark = UINT64_MAX;
    reader->pax.has_name = false;
    reader->pax.has_size = false;
    for (;;) {
        const char *block = NULL;
        struct fm_error words = {0};
        int status = 0;
        if (mark != UINT64_MAX && reader->file_size - reader->offset < FM_TAR_BLOCK) {
            status = rest_check(reader, reterr);
            reader->offset = mark; /* so that the end is found again */
            return status;
        }
        status = window_get(reader, &block, reterr);
        if (status != 0) {
            return status;
        }
        status = fm_tar_header_read(block, &reader->header, &words);
        if (status < 0) {
            return fm_error_set(reterr, status, "%s: byte %" PRIu64 ": %s%s", reader->file.path,
                                reader->offset, words.text, mark != UINT64_MAX ? BEHIND : "");
        }
        if (status == 0) {
            mark = reader->offset; /* archives may stand one behind the other: only the file's end
                                      is the end */
            reader->offset += FM_TAR_BLOCK;
            continue;
        }
        bool extends = reader->header.kind == FM_TAR_PAX || reader->header.kind == FM_TAR_LONG_NAME;
        reader->header.size =
            !extends && reader->pax.has_size ? reader->pax.size : reader->header.size;
        uint64_t data = reader->offset + FM_TAR_BLOCK;
        if (data > reader->file_size ||
            fm_tar_stored_size(reader->header.size) > reader->file_size - data) {
            return refuse(reader,
                          "the archive ends within the member that begins there: it was "
                          "cut off",
                          reterr);
        }
        if (!extends) {
            *ret_data = data;
            break;
        }
        status = extension_read(reader, data, &named, reterr);
        if (status != 0) {
            return status;
        }
        reader->offset = data + fm_tar_stored_size(reader->header.size);
    }
    if (reader->pax.has_name || named) {
        (void)snprintf(reader->header.name, sizeof(reader->header.name), "%s",
                       reader->pax.has_name ? reader->pax.name : reader->long_name);
    }
    return 1;
}

/* The next file that belongs to a sample, as reader->member: 1, or 0: there are no more. */
static int member_next(struct tar_reader *reader, struct fm_error *reterr)
{
    for (;;) {
        uint64_t data = 0;
        uint64_t begin = reader->offset;
        int status = header_next(reader, &data, reterr);
        if (status <= 0) {
            return status;
        }
        reader->offset = data + fm_tar_stored_size(reader->header.size);
        if (reader->header.kind == FM_TAR_FILE &&
            fm_tar_sample_name_parse(reader->header.name, &reader->member.name)) {
            reader->member.begin = begin;
            reader->member.offset = data;
            reader->member.size = reader->header.size;
            return 1;
        }
    }
}

/* --- Samples --- */

static bool is_of_sample(const struct tar_reader *reader)
{
    const struct fm_tar_sample_name *name = &reader->member.name;
    return strlen(reader->key) == name->key_length &&
           memcmp(reader->key, name->key, name->key_length) == 0;
}

/* A field of the sample: where it lies, for all who want it. */
static void field_note(struct tar_reader *reader)
{
    const struct member *member = &reader->member;
    fm_text_append_format(&reader->fields, "%s%.100s", reader->fields.length > 0 ? ", " : "",
                          member->name.field);
    for (uint32_t i = 0; i < reader->cells.name_count; i++) {
        struct place *place = &reader->places[i];
        if (place->name == NULL || place->is_key ||
            strcasecmp(place->name, member->name.field) != 0) {
            continue;
        }
        reader->twice = reader->twice || place->found;
        reader->bytes += member->size;
        place->found = true;
        place->offset = member->offset;
        place->size = member->size;
    }
}

/* Takes together the next sample. 1, or 0: there are no more. */
static int sample_next(struct tar_reader *reader, uint64_t *ret_begin, struct fm_error *reterr)
{
    fm_text_clear(&reader->fields);
    reader->bytes = 0;
    reader->twice = false;
    for (uint32_t i = 0; i < reader->cells.name_count; i++) {
        reader->places[i].found = false;
    }
    int status = member_next(reader, reterr);
    if (status <= 0) {
        return status;
    }
    *ret_begin = reader->member.begin;
    (void)snprintf(reader->key, sizeof(reader->key), "%.*s", (int)reader->member.name.key_length,
                   reader->member.name.key);
    do {
        field_note(reader);
        status = member_next(reader, reterr);
    } while (status == 1 && is_of_sample(reader));
    if (status == 1) {
        reader->offset = reader->member.begin; /* it is the next sample's */
    }
    return status < 0 ? status : 1;
}

/* --- Rows --- */

/* What went wrong with the file, and not with the row. */
static bool is_of_file(int status)
{
    return status == FM_EIO || status == FM_ENOMEM;
}

/* The field's bytes, in reader->scratch; of texts without the blanks around them, which programs
 * leave behind numbers. */
static int field_read(struct tar_reader *reader, const struct place *place, bool trim,
                      struct fm_error *reterr)
{
    fm_text_clear(&reader->scratch);
    if (place->is_key) {
        fm_text_append_string(&reader->scratch, reader->key);
        return reader->scratch.failed ? FM_ENOMEM : 0;
    }
    char *data = fm_text_reserve(&reader->scratch, (size_t)place->size);
    int status = data == NULL ? FM_ENOMEM
                              : bytes_get(reader, place->offset, data, (size_t)place->size, reterr);
    while (status == 0 && trim && reader->scratch.length > 0 &&
           strchr(" \t\r\n", data[reader->scratch.length - 1]) != NULL) {
        data[--reader->scratch.length] = '\0';
    }
    return status;
}

static int missing(const struct tar_reader *reader, const struct place *place,
                   struct fm_error *reterr)
{
    return fm_error_set(
        reterr, FM_ECORRUPT, "the field '%s' is missing; there are %.*s", place->name,
        (int)(reader->fields.length < FIELDS_SHOWN ? reader->fields.length : FIELDS_SHOWN),
        reader->fields.data != NULL ? reader->fields.data : "");
}

static int id_give(struct tar_reader *reader, struct fm_row_block *block, struct fm_error *reterr)
{
    const struct place *place = &reader->places[reader->cells.count];
    if (place->name == NULL) {
        return 0;
    }
    if (!place->is_key && !place->found) {
        return missing(reader, place, reterr);
    }
    int status = field_read(reader, place, true, reterr);
    if (status == 0) {
        fm_row_block_id(block, reader->scratch.length > 0 ? reader->scratch.data : "",
                        reader->scratch.length);
    }
    return status;
}

/* Whether the field's text is one JSON value; line ends in it, which can only stand between its
 * parts, become blanks, because a result is one line. */
static bool json_take(struct tar_reader *reader)
{
    struct fm_json_reader json;
    enum fm_json_token token;
    fm_json_reader_init(&json, reader->scratch.data, reader->scratch.length);
    do {
        token = fm_json_next(&json);
    } while (token != FM_JSON_END && token != FM_JSON_ERROR);
    for (size_t i = 0; i < reader->scratch.length && token == FM_JSON_END; i++) {
        char *c = &reader->scratch.data[i];
        *c = *c == '\n' || *c == '\r' ? ' ' : *c;
    }
    return token == FM_JSON_END;
}

static int passed_give(struct tar_reader *reader, const struct place *place,
                       struct fm_row_block *block, struct fm_error *reterr)
{
    struct fm_json_writer writer;
    size_t length = strlen(place->name);
    bool is_json = length >= 4 && strcasecmp(place->name + length - 4, "json") == 0;
    if (!place->is_key && !place->found) {
        fm_row_block_pass(block, "null", 4);
        return 0;
    }
    int status = field_read(reader, place, true, reterr);
    if (status != 0) {
        return status;
    }
    if (is_json && reader->scratch.length > 0 && json_take(reader)) {
        size_t mark = fm_text_after_bom(reader->scratch.data, reader->scratch.length);
        fm_row_block_pass(block, reader->scratch.data + mark, reader->scratch.length - mark);
        return 0;
    }
    fm_text_clear(&reader->json);
    fm_json_writer_init(&writer, &reader->json);
    fm_json_string_n(&writer, reader->scratch.length > 0 ? reader->scratch.data : "",
                     reader->scratch.length);
    if (reader->json.failed) {
        return FM_ENOMEM;
    }
    fm_row_block_pass(block, reader->json.data, reader->json.length);
    return 0;
}

/* Whether the input takes the field's bytes as they are: one element of BYTES. */
static bool takes_bytes(const struct fm_column *column)
{
    bool one = column->dtype == FM_DTYPE_BYTES;
    for (uint32_t i = 0; i < column->rank; i++) {
        one = one && (column->shape[i] == 1 || column->shape[i] == -1);
    }
    return one;
}

static int bytes_give(struct tar_reader *reader, const struct place *place, struct fm_text *out,
                      struct fm_error *reterr)
{
    uint32_t length = (uint32_t)(place->is_key ? strlen(reader->key) : place->size);
    char *room = fm_text_reserve(out, sizeof(length) + (size_t)length);
    if (room == NULL) {
        return FM_ENOMEM;
    }
    memcpy(room, &length, sizeof(length));
    if (place->is_key) {
        memcpy(room + sizeof(length), reader->key, length);
        return 0;
    }
    return bytes_get(reader, place->offset, room + sizeof(length), length, reterr);
}

static int cell_give(struct tar_reader *reader, uint32_t index, struct fm_row_block *block,
                     struct fm_error *reterr)
{
    const struct fm_source_cell *cell = &reader->cells.items[index];
    const struct fm_source_tensor *tensor = &reader->spec->tensors[cell->tensor];
    const struct place *place = &reader->places[index];
    struct fm_text *out = &block->tensors[cell->tensor];
    int64_t shape[FM_RANK_MAX];
    int status = 0;
    if (!place->is_key && !place->found) {
        return missing(reader, place, reterr);
    }
    if (takes_bytes(&cell->column)) {
        for (uint32_t i = 0; i < cell->column.rank; i++) {
            shape[i] = 1;
        }
        status = bytes_give(reader, place, out, reterr);
    } else {
        status = field_read(reader, place, true, reterr);
        status = status != 0
                     ? status
                     : fm_column_from_field(&cell->column,
                                            reader->scratch.length > 0 ? reader->scratch.data : "",
                                            reader->scratch.length, out, shape, reterr);
    }
    if (status != 0 || !cell->last) {
        return status;
    }
    return fm_row_block_shape(block, cell->tensor,
                              tensor->name_count > 1 ? tensor->column.shape : shape);
}

static int sample_check(const struct tar_reader *reader, struct fm_error *reterr)
{
    if (reader->twice) {
        return fm_error_set(reterr, FM_ECORRUPT, "a field occurs twice in the sample '%.200s'",
                            reader->key);
    }
    return reader->bytes <= reader->spec->record_bytes_max
               ? 0
               : fm_error_set(reterr, FM_ETOOLARGE,
                              "the sample '%.200s' has %" PRIu64
                              " bytes in the wanted fields; the limit for a record is %" PRIu64,
                              reader->key, reader->bytes, reader->spec->record_bytes_max);
}

/* FM_EAGAIN: the sample has to wait for the next block. */
static int row_give(struct tar_reader *reader, struct fm_row_block *block, struct fm_error *reterr)
{
    struct fm_error error = {0};
    fm_row_block_begin(block, reader->next_row, 0);
    /* A name is there whatever the fields are. */
    bool named = reader->places[reader->cells.count].is_key;
    int status = named ? id_give(reader, block, &error) : 0;
    status = status != 0 ? status : sample_check(reader, &error);
    status = status != 0 || named ? status : id_give(reader, block, &error);
    for (uint32_t i = 0; i < reader->spec->passed_count && status == 0; i++) {
        status = passed_give(reader, &reader->places[reader->cells.count + 1 + i], block, &error);
    }
    for (uint32_t i = 0; i < reader->cells.count && status == 0; i++) {
        status = cell_give(reader, i, block, &error);
    }
    if (is_of_file(status) && error.text[0] != '\0') {
        fm_row_block_drop(block);
        return fm_error_set(reterr, status, "%s", error.text);
    }
    return fm_source_row_end(block, status, &error, "sample", reader->next_row, reterr);
}

static int tar_read(struct fm_source_reader *source, uint32_t rows_max, struct fm_row_block *block,
                    struct fm_error *reterr)
{
    struct tar_reader *reader = tar_reader_of(source);
    uint64_t begin = 0;
    while (block->row_count < rows_max) {
        int status = reader->pending ? 1 : sample_next(reader, &begin, reterr);
        if (status <= 0) {
            return status;
        }
        status = row_give(reader, block, reterr);
        reader->pending = status == FM_EAGAIN;
        if (status != 0) {
            return status == FM_EAGAIN ? 0 : status;
        }
        reader->next_row++;
    }
    return 0;
}

static int tar_skip(struct fm_source_reader *source, uint64_t rows, struct fm_error *reterr)
{
    struct tar_reader *reader = tar_reader_of(source);
    uint64_t begin = 0;
    for (; rows > 0; rows--) {
        int status = reader->pending ? 1 : sample_next(reader, &begin, reterr);
        reader->pending = false;
        if (status < 0) {
            return status;
        }
        if (status == 0) {
            return fm_error_set(reterr, FM_ENOTFOUND,
                                "%s has fewer rows than when the job was begun", reader->file.path);
        }
        reader->next_row++;
    }
    return 0;
}

/* --- Life --- */

static void tar_close(struct fm_source_reader *source)
{
    struct tar_reader *reader = tar_reader_of(source);
    fm_file_reader_close(&reader->file);
    fm_text_deinit(&reader->fields);
    fm_text_deinit(&reader->scratch);
    fm_text_deinit(&reader->json);
    fm_source_cells_deinit(&reader->cells);
    fm_free(reader->places);
    fm_free(reader->window);
    fm_free(reader);
}

static int places_make(struct tar_reader *reader)
{
    int status = fm_source_cells_make(&reader->cells, reader->spec);
    if (status != 0) {
        return status;
    }
    reader->places = fm_alloc_zero(reader->cells.name_count, sizeof(*reader->places));
    reader->window = fm_alloc(WINDOW_BYTES);
    for (uint32_t i = 0; reader->places != NULL && i < reader->cells.name_count; i++) {
        const char *name = reader->cells.names[i];
        reader->places[i].name = name;
        reader->places[i].is_key = name != NULL && strcmp(name, KEY_COLUMN) == 0;
    }
    return reader->places != NULL && reader->window != NULL ? 0 : FM_ENOMEM;
}

static int tar_open(const struct fm_source_spec *spec, const char *path,
                    const struct fm_record_point *point, struct fm_source_reader **ret_reader,
                    struct fm_error *reterr)
{
    struct fm_file_facts facts = {0};
    struct tar_reader *reader = fm_alloc_zero(1, sizeof(*reader));
    if (reader == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    reader->base.format = spec->format;
    reader->spec = spec;
    int status = places_make(reader);
    status = status == 0 ? fm_file_reader_open(&reader->file, path, reterr)
                         : fm_error_set(reterr, status, "out of memory");
    status = status == 0 ? fm_file_stat(path, &facts, reterr) : status;
    if (status != 0) {
        tar_close(&reader->base);
        return status;
    }
    reader->file_size = facts.size;
    if (point != NULL) {
        reader->offset = point->offset;
        reader->next_row = point->row;
    }
    *ret_reader = &reader->base;
    return 0;
}

static int tar_count(const struct fm_source_spec *spec, const char *path, fm_record_point_take take,
                     void *context, uint64_t *ret_rows, struct fm_error *reterr)
{
    struct fm_source_reader *source = NULL;
    struct fm_record_point last = {0};
    uint64_t rows = 0;
    int status = tar_open(spec, path, NULL, &source, reterr);
    if (status != 0) {
        return status;
    }
    struct tar_reader *reader = tar_reader_of(source);
    for (;;) {
        uint64_t begin = 0;
        status = sample_next(reader, &begin, reterr);
        if (status <= 0) {
            break;
        }
        status = 0;
        if (take != NULL &&
            (rows == 0 || begin - last.offset >= STRIDE_BYTES || rows - last.row >= STRIDE_ROWS)) {
            last = (struct fm_record_point){.row = rows, .offset = begin};
            status = take(context, &last);
        }
        if (status != 0) {
            break;
        }
        rows++;
    }
    *ret_rows = rows;
    tar_close(source);
    return status;
}

static const char *const tar_endings[] = {".tar", NULL};

const struct fm_source_format fm_source_tar = {.name = "tar",
                                               .endings = tar_endings,
                                               .count = tar_count,
                                               .open = tar_open,
                                               .skip = tar_skip,
                                               .read = tar_read,
                                               .close = tar_close};
