/*
 * One record of CSV: its fields, and the header that names columns.
 *
 * Owns: the syntax within a record, the header's names. Does not own: where records begin
 * (record_scan.h), what a field means (column.h). Thread rule: caller's memory.
 *
 * A field that begins with the quote character ends with one, and holds each quote twice; it may
 * hold delimiters and line ends. Any other field is taken as it stands, blanks too, and holds no
 * quote. What does not keep to that is refused, not guessed at: see record_scan.h for why.
 */
#ifndef FM_CORE_SOURCE_CSV_H
#define FM_CORE_SOURCE_CSV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/util/text.h"
#include "fermata/status.h"

#define FM_CSV_COLUMNS_MAX 65536u

struct fm_csv_options {
    char delimiter;
    char quote; /* '\0': fields are never quoted */
};

/* FM_EINVAL: the two are the same, or a line end, or the delimiter is NUL. */
int FM_NODISCARD fm_csv_options_check(const struct fm_csv_options *options,
                                      struct fm_error *reterr);

struct fm_csv_field {
    const char *data; /* without quotes, not NUL-terminated */
    size_t size;
};

/*
 * The fields of the record data[size], which is without its line end. They are views into the
 * record, or into `scratch` where doubled quotes had to be undone; both must outlive them, and
 * scratch is cleared first. At least one field. *ret_count of them were found: with FM_ETOOLARGE
 * more than fields_max, of which those that fit are there. FM_ECORRUPT (which field, why; the
 * position of the record is the caller's to say), FM_ENOMEM.
 */
int FM_NODISCARD fm_csv_record_parse(const struct fm_csv_options *options, const char *data,
                                     size_t size, struct fm_text *scratch,
                                     struct fm_csv_field *fields, uint32_t fields_max,
                                     uint32_t *ret_count, struct fm_error *reterr);

/* The names of the columns, in their order. Zero-initialise. */
struct fm_csv_header {
    char **names; /* NUL-terminated */
    uint32_t count;
};

/* Reads the header's record. FM_ECORRUPT: a name is empty, holds a NUL or occurs twice;
 * FM_ETOOLARGE: more than FM_CSV_COLUMNS_MAX; FM_ENOMEM. Then it is as it was. */
int FM_NODISCARD fm_csv_header_init(struct fm_csv_header *ret_header,
                                    const struct fm_csv_options *options, const char *data,
                                    size_t size, struct fm_error *reterr);
void fm_csv_header_deinit(struct fm_csv_header *header); /* accepts a zeroed one */
/* FM_ENOTFOUND, with the likely name or all of them. */
int FM_NODISCARD fm_csv_header_find(const struct fm_csv_header *header, const char *name,
                                    uint32_t *ret_index, struct fm_error *reterr);

/* As fm_csv_record_parse, for a row that must have one field for each column. FM_ECORRUPT: it has
 * fewer or more. `fields` has room for header->count. */
int FM_NODISCARD fm_csv_row_parse(const struct fm_csv_header *header,
                                  const struct fm_csv_options *options, const char *data,
                                  size_t size, struct fm_text *scratch, struct fm_csv_field *fields,
                                  struct fm_error *reterr);

#endif
