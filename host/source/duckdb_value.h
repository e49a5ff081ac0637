/*
 * Values out of DuckDB's vectors: as rows of tensors, as ids, as JSON.
 *
 * Owns: which type gives what, NULLs, nesting and shapes, the words when something does not fit.
 * Does not own: queries, chunks. Thread rule: a column belongs to one thread at a time.
 *
 * A column is a tree: lists and arrays have one child, structs one for each field, maps a key and
 * a value. Its types are told once; then it is bound to one vector after the other.
 */
#ifndef FM_HOST_SOURCE_DUCKDB_VALUE_H
#define FM_HOST_SOURCE_DUCKDB_VALUE_H

#include "core/proto/json.h"
#include "core/source/column.h"
#include "host/source/duckdb_library.h"

struct fm_duckdb_column {
    duckdb_type type;
    uint32_t dtype;    /* of numbers that lie in a vector as they do in a tensor; 0: none */
    duckdb_type store; /* DECIMAL: the integer that holds it */
    uint8_t scale;     /* likewise: its digits behind the point */
    uint64_t size;     /* ARRAY: its elements */
    bool json;         /* VARCHAR that the file calls JSON */
    uint32_t child_count;
    struct fm_duckdb_column *children;
    char **names; /* STRUCT: of the children */

    /* Of the vector that it is bound to. */
    const void *data;
    const uint64_t *validity; /* NULL: there are no NULLs */
};

/* FM_EUNSUPPORTED: nested too deeply; FM_ENOMEM. */
int FM_NODISCARD fm_duckdb_column_init(struct fm_duckdb_column *ret_column,
                                       const struct fm_duckdb *duck, duckdb_logical_type type,
                                       struct fm_error *reterr);
void fm_duckdb_column_deinit(struct fm_duckdb_column *column); /* accepts a zeroed one */
void fm_duckdb_column_bind(struct fm_duckdb_column *column, const struct fm_duckdb *duck,
                           duckdb_vector vector);
/* "DOUBLE[][3]". */
void fm_duckdb_column_describe(const struct fm_duckdb_column *column, struct fm_text *text);

/* How a column has to be asked for. */
enum fm_duckdb_form {
    FM_DUCKDB_AS_IT_IS,
    FM_DUCKDB_AS_TEXT, /* cast to VARCHAR */
    FM_DUCKDB_AS_JSON, /* to_json */
};
/* What the column gives to a tensor's row. FM_ETYPE, with both types, when it gives nothing. */
int FM_NODISCARD fm_duckdb_form_of_tensor(const struct fm_duckdb_column *from,
                                          const struct fm_column *to, enum fm_duckdb_form *ret_form,
                                          struct fm_error *reterr);
/* FM_ETYPE: nested, or of floating point. */
int FM_NODISCARD fm_duckdb_form_of_id(const struct fm_duckdb_column *from, const char *name,
                                      enum fm_duckdb_form *ret_form, struct fm_error *reterr);
enum fm_duckdb_form fm_duckdb_form_of_json(const struct fm_duckdb_column *from);

/*
 * Appends row `row` of the bound vector to `out`, as a row of the column `to`: its bytes in a
 * tensor, and the shape that it has. FM_ETYPE: a NULL, a number that does not fit, another shape
 * than is wanted; FM_ETOOLARGE: more than bytes_max; FM_ENOMEM. Then `out` holds anything behind
 * its former end.
 */
int FM_NODISCARD fm_duckdb_append_row(const struct fm_duckdb_column *from, uint64_t row,
                                      const struct fm_column *to, uint64_t bytes_max,
                                      struct fm_text *out, int64_t *ret_shape,
                                      struct fm_error *reterr);
/* A VARCHAR or BLOB; false: it is NULL. The bytes are the vector's. */
bool fm_duckdb_text(const struct fm_duckdb_column *column, uint64_t row, const char **ret_data,
                    size_t *ret_size);
/* Of a column in the form that fm_duckdb_form_of_json said. FM_ETYPE: what DuckDB made of it is no
 * JSON (NaN within a type that has no other form), FM_ENOMEM. */
int FM_NODISCARD fm_duckdb_append_json(const struct fm_duckdb_column *column,
                                       enum fm_duckdb_form form, uint64_t row, const char *name,
                                       struct fm_text *out, struct fm_error *reterr);

#endif
