/*
 * The fast way for most rows of most tables: a CSV record whose wanted fields are plain numbers, in
 * one pass from text to FP32.
 *
 * Owns: which records go this way. Does not own: all others, and what is wrong with them (csv.h,
 * column.h): a record that is refused here is read there, and one that is accepted gives there the
 * same numbers. Thread rule: pure function.
 */
#ifndef FM_CORE_SOURCE_CSV_NUMBERS_H
#define FM_CORE_SOURCE_CSV_NUMBERS_H

#include "core/source/csv.h"

/* The field is no number, or none that is wanted. */
#define FM_CSV_NUMBERS_TEXT UINT32_MAX

/*
 * Takes apart the record data[size], which must have `count` fields. Field i is a plain number
 * (fm_decimal_read_plain), which becomes ret_elements[places[i]], or with FM_CSV_NUMBERS_TEXT
 * anything without quotes, of which ret_fields[i] is a view. False: it is no such record; what was
 * written means nothing.
 */
bool fm_csv_numbers_parse(const struct fm_csv_options *options, const char *data, size_t size,
                          const uint32_t *places, uint32_t count, float *ret_elements,
                          struct fm_csv_field *ret_fields);

#endif
