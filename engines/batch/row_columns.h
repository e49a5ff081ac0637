/*
 * A row's results as columns of a table, for the formats that are tables.
 *
 * Owns: which columns there are, in which order, and what they are called: "id", what is passed,
 * the pipeline's outputs, and, where times are wanted, "timings.<stage>" for each stage and
 * "timings.total_ms". Does not own: how a column's values are written. Thread rule: pure.
 */
#ifndef FM_ENGINES_BATCH_ROW_COLUMNS_H
#define FM_ENGINES_BATCH_ROW_COLUMNS_H

#include "engines/batch/row_format.h"

enum fm_row_column_kind {
    FM_ROW_COLUMN_ID,
    FM_ROW_COLUMN_PASSED,
    FM_ROW_COLUMN_OUTPUT,
    FM_ROW_COLUMN_TIME, /* of a stage, or, behind them, of the whole row */
};

struct fm_row_column {
    enum fm_row_column_kind kind;
    uint32_t index; /* among those of its kind */
};

uint32_t fm_row_column_count(const struct fm_row_format *format);
/* index < count */
struct fm_row_column fm_row_column_at(const struct fm_row_format *format, uint32_t index);
void fm_row_column_name(const struct fm_row_format *format, struct fm_row_column column,
                        struct fm_text *name);
/* Milliseconds of a TIME column. */
double fm_row_column_time(const struct fm_row_format *format, struct fm_row_column column,
                          const struct fm_result *result);

/* FM_EINVAL: two columns have one name (`ignore_case`: also those that differ only in the case of
 * letters, for readers that take them for one). FM_ENOMEM. */
int FM_NODISCARD fm_row_columns_check(const struct fm_row_format *format, bool ignore_case,
                                      struct fm_error *reterr);

/* What a table says of an id that is not UTF-8, which its texts have to be: FM_EUNSUPPORTED. */
int FM_NODISCARD fm_row_columns_id_check(const struct fm_row_format *format,
                                         const struct fm_row_id *id, struct fm_error *reterr);

/* A passed value, which is JSON, as a text: a string is decoded into `room`. *ret_null: it is
 * null. FM_ENOMEM. */
int FM_NODISCARD fm_row_passed_text(const char *json, struct fm_text *room, const char **ret_data,
                                    size_t *ret_size, bool *ret_null);

#endif
