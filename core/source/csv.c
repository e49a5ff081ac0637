/*
 * Fields of CSV. See csv.h. Pure.
 */
#include "core/source/csv.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/source/column.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"

int fm_csv_options_check(const struct fm_csv_options *options, struct fm_error *reterr)
{
    if (options->delimiter == '\0' || options->delimiter == '\n' || options->delimiter == '\r') {
        return fm_error_set(reterr, FM_EINVAL, "a delimiter of CSV is no line end and no NUL");
    }
    if (options->quote == '\n' || options->quote == '\r' || options->quote == options->delimiter) {
        return fm_error_set(reterr, FM_EINVAL,
                            "a quote character of CSV is no line end and not the delimiter");
    }
    return 0;
}

/* A record while it is taken apart. */
struct parser {
    const struct fm_csv_options *options;
    const char *data;
    size_t size;
    size_t at;
    uint32_t number; /* of the field, from 1 */
    struct fm_text *scratch;
    bool reserved; /* scratch has room for all that can come */
    struct fm_error *reterr;
};

static int wrong(const struct parser *parser, size_t at, const char *why)
{
    return fm_error_set(parser->reterr, FM_ECORRUPT,
                        "field %" PRIu32 " (byte %zu of the record): %s", parser->number, at, why);
}

static int plain_parse(struct parser *parser, struct fm_csv_field *field)
{
    char delimiter = parser->options->delimiter;
    char quote = parser->options->quote;
    size_t at = parser->at;
    while (at < parser->size && parser->data[at] != delimiter) {
        char character = parser->data[at];
        if (character == quote && quote != '\0') {
            return wrong(parser, at,
                         "a quote in a field that does not begin with one; put the whole field in "
                         "quotes and each quote in it twice");
        }
        if (character == '\n') {
            return wrong(parser, at, "a line end in a field that is not in quotes");
        }
        at++;
    }
    *field = (struct fm_csv_field){.data = parser->data + parser->at, .size = at - parser->at};
    parser->at = at;
    return 0;
}

/* Appends a stretch of a field with doubled quotes. Views into scratch stay where they are, since
 * what is left of the record is reserved first. */
static int scratch_append(struct parser *parser, const char *data, size_t size)
{
    struct fm_text *scratch = parser->scratch;
    if (!parser->reserved) {
        /* All fields together are no longer than the record. */
        (void)fm_text_reserve(scratch, parser->size);
        if (scratch->failed) {
            return fm_error_set(parser->reterr, FM_ENOMEM,
                                "out of memory for a record of %zu bytes", parser->size);
        }
        fm_text_clear(scratch);
        parser->reserved = true;
    }
    fm_text_append(scratch, data, size);
    FM_ASSERT(!scratch->failed);
    return 0;
}

static int quoted_parse(struct parser *parser, struct fm_csv_field *field)
{
    char quote = parser->options->quote;
    const char *end = parser->data + parser->size;
    const char *from = parser->data + parser->at + 1;
    size_t copied = parser->scratch->length;
    bool doubled = false;
    for (;;) {
        const char *found = from < end ? memchr(from, quote, (size_t)(end - from)) : NULL;
        if (found == NULL) {
            return wrong(parser, parser->at, "its quote is never closed");
        }
        bool more = end - found > 1 && found[1] == quote;
        if (more || doubled) {
            /* With the first one of two quotes. */
            int status = scratch_append(parser, from, (size_t)(found - from) + more);
            if (status != 0) {
                return status;
            }
        }
        if (!more) {
            if (found + 1 < end && found[1] != parser->options->delimiter) {
                return wrong(
                    parser, (size_t)(found + 1 - parser->data),
                    "something follows its closing quote; a quote within quotes is written "
                    "twice");
            }
            *field = (struct fm_csv_field){.data = from, .size = (size_t)(found - from)};
            parser->at = (size_t)(found + 1 - parser->data);
            break;
        }
        doubled = true;
        from = found + 2;
    }
    if (doubled) {
        *field = (struct fm_csv_field){.data = parser->scratch->data + copied,
                                       .size = parser->scratch->length - copied};
    }
    return 0;
}

int fm_csv_record_parse(const struct fm_csv_options *options, const char *data, size_t size,
                        struct fm_text *scratch, struct fm_csv_field *fields, uint32_t fields_max,
                        uint32_t *ret_count, struct fm_error *reterr)
{
    struct parser parser = {.options = options,
                            .data = size > 0 ? data : "",
                            .size = size,
                            .scratch = scratch,
                            .reterr = reterr};
    fm_text_clear(scratch);
    *ret_count = 0;
    for (;;) {
        struct fm_csv_field field = {0};
        bool quoted =
            parser.at < size && options->quote != '\0' && parser.data[parser.at] == options->quote;
        parser.number++;
        int status = quoted ? quoted_parse(&parser, &field) : plain_parse(&parser, &field);
        if (status != 0) {
            return status;
        }
        if (parser.number <= fields_max) {
            fields[parser.number - 1] = field;
        }
        if (parser.at == size) {
            break;
        }
        if (parser.number == UINT32_MAX) {
            return wrong(&parser, parser.at, "too many fields");
        }
        parser.at++;
    }
    *ret_count = parser.number;
    return parser.number <= fields_max
               ? 0
               : fm_error_set(reterr, FM_ETOOLARGE,
                              "the record has %" PRIu32 " fields, but at most %" PRIu32
                              " are expected",
                              parser.number, fields_max);
}

int fm_csv_row_parse(const struct fm_csv_header *header, const struct fm_csv_options *options,
                     const char *data, size_t size, struct fm_text *scratch,
                     struct fm_csv_field *fields, struct fm_error *reterr)
{
    uint32_t count = 0;
    int status =
        fm_csv_record_parse(options, data, size, scratch, fields, header->count, &count, reterr);
    if (status == FM_ETOOLARGE) {
        return fm_error_set(reterr, FM_ECORRUPT,
                            "the record has %" PRIu32 " fields, but the header has only %" PRIu32
                            "; a field that holds the delimiter must be in quotes",
                            count, header->count);
    }
    if (status == 0 && count < header->count) {
        return fm_error_set(reterr, FM_ECORRUPT,
                            "the record has %" PRIu32 " of the header's %" PRIu32
                            " fields; the first that is missing is '%s'",
                            count, header->count, header->names[count]);
    }
    return status;
}

/* --- The header --- */

/* A name and its place, for finding those that are equal. */
struct place {
    const char *name;
    uint32_t index;
};

static int place_compare(const void *a, const void *b)
{
    const struct place *left = a;
    const struct place *right = b;
    int order = strcmp(left->name, right->name);
    return order != 0 ? order : (left->index > right->index) - (left->index < right->index);
}

/* Of several that occur twice, the one whose second place comes first. */
static int duplicates_check(const struct fm_csv_header *header, struct fm_error *reterr)
{
    struct place *places = fm_alloc(header->count * sizeof *places);
    struct place first = {0};
    struct place second = {.index = UINT32_MAX};
    if (places == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the names of %" PRIu32 " columns",
                            header->count);
    }
    for (uint32_t i = 0; i < header->count; i++) {
        places[i] = (struct place){.name = header->names[i], .index = i};
    }
    qsort(places, header->count, sizeof *places, place_compare);
    for (uint32_t i = 1; i < header->count; i++) {
        if (places[i].index < second.index && strcmp(places[i].name, places[i - 1].name) == 0) {
            first = places[i - 1];
            second = places[i];
        }
    }
    fm_free(places);
    return second.name == NULL
               ? 0
               : fm_error_set(reterr, FM_ECORRUPT,
                              "the header names '%s' twice, as columns %" PRIu32 " and %" PRIu32,
                              second.name, first.index + 1, second.index + 1);
}

static int names_copy(struct fm_csv_header *header, const struct fm_csv_field *fields,
                      uint32_t count, struct fm_error *reterr)
{
    header->names = fm_alloc_zero(count, sizeof *header->names);
    if (header->names == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the names of %" PRIu32 " columns",
                            count);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (fields[i].size == 0 || memchr(fields[i].data, '\0', fields[i].size) != NULL) {
            return fm_error_set(reterr, FM_ECORRUPT, "column %" PRIu32 " of the header %s", i + 1,
                                fields[i].size == 0 ? "has no name" : "has a NUL in its name");
        }
        header->names[i] = fm_strndup(fields[i].data, fields[i].size);
        if (header->names[i] == NULL) {
            return fm_error_set(reterr, FM_ENOMEM,
                                "out of memory for the names of %" PRIu32 " columns", count);
        }
        header->count = i + 1;
    }
    return duplicates_check(header, reterr);
}

int fm_csv_header_init(struct fm_csv_header *ret_header, const struct fm_csv_options *options,
                       const char *data, size_t size, struct fm_error *reterr)
{
    struct fm_text scratch = {0};
    struct fm_csv_header header = {0};
    /* Each delimiter ends a field, so there are at most so many. */
    size_t most = 1;
    for (size_t i = 0; i < size; i++) {
        most += data[i] == options->delimiter;
    }
    uint32_t room = most < FM_CSV_COLUMNS_MAX ? (uint32_t)most : FM_CSV_COLUMNS_MAX;
    struct fm_csv_field *fields = fm_alloc(room * sizeof *fields);
    if (fields == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for a header of %zu bytes", size);
    }
    uint32_t count = 0;
    int status = fm_csv_record_parse(options, data, size, &scratch, fields, room, &count, reterr);
    if (status == 0) {
        status = names_copy(&header, fields, count, reterr);
    }
    if (status != 0) {
        (void)fm_error_prefix(reterr, status, "the header cannot be used");
        fm_csv_header_deinit(&header);
    } else {
        *ret_header = header;
    }
    fm_free(fields);
    fm_text_deinit(&scratch);
    return status;
}

void fm_csv_header_deinit(struct fm_csv_header *header)
{
    for (uint32_t i = 0; i < header->count; i++) {
        fm_free(header->names[i]);
    }
    fm_free(header->names);
    *header = (struct fm_csv_header){0};
}

int fm_csv_header_find(const struct fm_csv_header *header, const char *name, uint32_t *ret_index,
                       struct fm_error *reterr)
{
    for (uint32_t i = 0; i < header->count; i++) {
        if (strcmp(header->names[i], name) == 0) {
            *ret_index = i;
            return 0;
        }
    }
    return fm_column_unknown(name, (const char *const *)header->names, header->count, reterr);
}
