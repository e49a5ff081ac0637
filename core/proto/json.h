/*
 * JSON: a pull reader that never builds a tree, and a writer.
 *
 * Owns: RFC 8259 syntax, with limits. A UTF-8 byte-order mark in front is skipped, as its section
 * 8.1 allows; the writer never makes one. The reader works in place on a complete text, reports
 * line and column of an error, decodes strings on request, and parses numbers straight into the
 * caller's memory. Does not own: what the values mean. Thread rule: caller's memory.
 */
#ifndef FM_CORE_PROTO_JSON_H
#define FM_CORE_PROTO_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/util/text.h"
#include "fermata/status.h"

#define FM_JSON_DEPTH_MAX 100

enum fm_json_token {
    FM_JSON_END,          /* the text is over, cleanly */
    FM_JSON_OBJECT_BEGIN, /* { */
    FM_JSON_OBJECT_END,
    FM_JSON_ARRAY_BEGIN, /* [ */
    FM_JSON_ARRAY_END,
    FM_JSON_KEY, /* an object key: text/length hold it raw (still escaped), `escaped` says whether
                    decoding is needed */
    FM_JSON_STRING, /* likewise */
    FM_JSON_NUMBER, /* text/length hold its characters */
    FM_JSON_TRUE,
    FM_JSON_FALSE,
    FM_JSON_NULL,
    FM_JSON_ERROR,
};

struct fm_json_reader {
    const char *data;
    size_t length;
    size_t offset;
    uint32_t depth;
    uint8_t stack[FM_JSON_DEPTH_MAX]; /* '{' or '[' */
    uint8_t expect;                   /* internal */
    const char *text;                 /* of the current token */
    size_t text_length;
    bool escaped;
    struct fm_error error; /* set with FM_JSON_ERROR: "line 3, column 7: ..." */
};

void fm_json_reader_init(struct fm_json_reader *reader, const char *data, size_t length);
enum fm_json_token fm_json_next(struct fm_json_reader *reader);
/* Skips the value that comes next (after a key or inside an array). */
int FM_NODISCARD fm_json_skip(struct fm_json_reader *reader);
/* True when the current KEY or STRING equals `string` (after decoding). */
bool fm_json_equals(const struct fm_json_reader *reader, const char *string);
/* Whether decoding loses nothing of the current KEY or STRING: it has no lone surrogates. */
bool fm_json_is_text(const struct fm_json_reader *reader);
/* Appends the decoded current KEY or STRING (UTF-8, surrogates paired; lone surrogates become
 * U+FFFD). */
void fm_json_decode(const struct fm_json_reader *reader, struct fm_text *text);
/* The current NUMBER. FM_ETYPE when it does not fit. */
int FM_NODISCARD fm_json_int64(const struct fm_json_reader *reader, int64_t *ret_value);
int FM_NODISCARD fm_json_uint64(const struct fm_json_reader *reader, uint64_t *ret_value);
int FM_NODISCARD fm_json_double(const struct fm_json_reader *reader, double *ret_value);

/*
 * The writer puts commas by itself. Depth up to FM_JSON_DEPTH_MAX; balance is the caller's business
 * (asserted). Check text->failed at the end.
 */
struct fm_json_writer {
    struct fm_text *text;
    uint32_t depth;
    bool comma;
    bool after_key;
};

void fm_json_writer_init(struct fm_json_writer *writer, struct fm_text *text);
void fm_json_object_begin(struct fm_json_writer *writer);
void fm_json_object_end(struct fm_json_writer *writer);
void fm_json_array_begin(struct fm_json_writer *writer);
void fm_json_array_end(struct fm_json_writer *writer);
void fm_json_key(struct fm_json_writer *writer, const char *key);
/* A key and its value. */
void fm_json_member_string(struct fm_json_writer *writer, const char *key, const char *value);
void fm_json_member_uint(struct fm_json_writer *writer, const char *key, uint64_t value);
void fm_json_member_number(struct fm_json_writer *writer, const char *key, double value);
/* An array: a shape. */
void fm_json_member_ints(struct fm_json_writer *writer, const char *key, const int64_t *values,
                         uint32_t count);
void fm_json_string(struct fm_json_writer *writer, const char *string);
/* Any bytes; malformed UTF-8 becomes U+FFFD. */
void fm_json_string_n(struct fm_json_writer *writer, const char *string, size_t length);
void fm_json_int(struct fm_json_writer *writer, int64_t value);
void fm_json_uint(struct fm_json_writer *writer, uint64_t value);
void fm_json_float(struct fm_json_writer *writer,
                   float value); /* shortest that reads back the same; NaN/Inf become null */
void fm_json_number(struct fm_json_writer *writer, double value);
void fm_json_bool(struct fm_json_writer *writer, bool value);
void fm_json_null(struct fm_json_writer *writer);
/* A value that is already JSON. */
void fm_json_raw(struct fm_json_writer *writer, const char *json, size_t length);

#endif
