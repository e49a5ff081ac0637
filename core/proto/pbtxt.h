/*
 * Protobuf text format: what Triton's config.pbtxt is written in, read into a tree whose every node
 * knows its line and column.
 *
 * Owns: the syntax. Does not own: any schema; a field's meaning, type and whether it may repeat are
 * the reader's business. Pure. Thread rule: a tree is read-only after parsing.
 *
 * Accepted: `name: value`, `name { ... }`, `name < ... >`, `name: [a, b]` (the same as repeating
 * the field), '#' comments, both quotes with all escapes, adjacent strings joined, numbers in
 * decimal, hexadecimal and octal, floats with an optional 'f', identifiers (enums, booleans, inf,
 * nan), extension names in brackets, ',' or ';' behind a field.
 */
#ifndef FM_CORE_PROTO_PBTXT_H
#define FM_CORE_PROTO_PBTXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/util/memory.h"
#include "fermata/status.h"

#define FM_PBTXT_BYTES_MAX  (4u << 20)
#define FM_PBTXT_DEPTH_MAX  32
#define FM_PBTXT_FIELDS_MAX 100000

enum fm_pbtxt_kind { FM_PBTXT_MESSAGE, FM_PBTXT_STRING, FM_PBTXT_NUMBER, FM_PBTXT_IDENTIFIER };

struct fm_pbtxt_field;

struct fm_pbtxt_value {
    enum fm_pbtxt_kind kind;
    uint32_t line;    /* from 1 */
    uint32_t column;  /* from 1, in characters */
    const char *text; /* string (unescaped), number as written (without blanks behind '-'),
                         identifier; NUL-terminated */
    size_t length;    /* of text: a string may hold NUL characters */
    const struct fm_pbtxt_field *fields; /* message: the first field, NULL when it is empty */
};

struct fm_pbtxt_field {
    const char *name;
    uint32_t line;
    uint32_t column;
    struct fm_pbtxt_value value;
    const struct fm_pbtxt_field *next;
};

/*
 * Parses a whole file into *ret_root, a message. Everything lives in `arena`; on failure what was
 * allocated stays there. Mistakes are "file:line:column:
 * ..." (FM_EINVAL); FM_ETOOLARGE beyond FM_PBTXT_BYTES_MAX; FM_ENOMEM.
 */
int FM_NODISCARD fm_pbtxt_parse(const char *file, const char *text, size_t length,
                                struct fm_arena *arena, struct fm_pbtxt_value *ret_root,
                                struct fm_error *reterr);

/*
 * The same of a message in protobuf's JSON form. Fields may be called as in the schema or in camel
 * case; those named in `maps` (NULL-terminated) are maps, and become messages of `key` and `value`
 * as in the text form. Enumerations, and numbers in quotes, come out as strings.
 */
int FM_NODISCARD fm_pbtxt_parse_json(const char *file, const char *text, size_t length,
                                     const char *const *maps, struct fm_arena *arena,
                                     struct fm_pbtxt_value *ret_root, struct fm_error *reterr);

/* FM_EINVAL when the value is not of that type; *ret_value is then untouched. */
int FM_NODISCARD fm_pbtxt_int64(const struct fm_pbtxt_value *value, int64_t *ret_value);
int FM_NODISCARD fm_pbtxt_bool(const struct fm_pbtxt_value *value, bool *ret_value);
/* A string without NUL characters in it. Borrowed from the tree. */
int FM_NODISCARD fm_pbtxt_string(const struct fm_pbtxt_value *value, const char **ret_text);
/* Any scalar as text: for parameters, whose type does not matter. */
int FM_NODISCARD fm_pbtxt_scalar(const struct fm_pbtxt_value *value, const char **ret_text);

/* "a string", "a message", ... for messages to people. */
const char *fm_pbtxt_kind_name(enum fm_pbtxt_kind kind);

#endif
