/*
 * One line of an OpenAI batch: {"custom_id": "a", "method": "POST", "url": "/v1/embeddings",
 * "body": {...}}.
 *
 * Owns: where the members of such a line and of its body are, and what has to be true of them. Does
 * not own: lines of a file (record_scan.h), what a value is worth (column.h). Thread rule: pure, on
 * the caller's memory; everything found points into the line.
 *
 * A path names a value: "custom_id", "method", "url", "body", and "body.a.b" for the member "b" of
 * the object that the member "a" of the body is. A member whose name has a dot in it has no path.
 */
#ifndef FM_CORE_SOURCE_REQUEST_LINE_H
#define FM_CORE_SOURCE_REQUEST_LINE_H

#include <stdbool.h>
#include <stddef.h>

#include "fermata/status.h"

#define FM_REQUEST_LINE_ID "custom_id"
/* The request's model, which answers repeat. */
#define FM_REQUEST_LINE_MODEL "body.model"
/* What embeddings are asked for. */
#define FM_REQUEST_LINE_EMBEDDINGS "/v1/embeddings"
/* Of a member's name in a path. */
#define FM_REQUEST_LINE_NAME_MAX 128

/* A JSON value as it stands in the line. */
struct fm_request_value {
    const char *data; /* NULL: there is none */
    size_t size;
};

struct fm_request_line {
    struct fm_request_value id;
    struct fm_request_value method;
    struct fm_request_value url;
    struct fm_request_value body;
};

/* Whether it can be a path, before there are lines: FM_ENOTFOUND, with the likely one. */
int FM_NODISCARD fm_request_path_check(const char *path, struct fm_error *reterr);

/* FM_ECORRUPT: it is no JSON object, or has one of its members twice. Members that are missing are
 * so in *ret_line. */
int FM_NODISCARD fm_request_line_read(const char *data, size_t size,
                                      struct fm_request_line *ret_line, struct fm_error *reterr);
/* What the line must be, so that it can be answered: a request by POST with a string for an id and
 * an object for a body, to `url` (NULL: to any). FM_ETYPE, FM_ECORRUPT. */
int FM_NODISCARD fm_request_line_check(const struct fm_request_line *line, const char *url,
                                       struct fm_error *reterr);
/* The value of a path that was checked; data NULL where there is none. FM_ECORRUPT: one of its
 * members occurs twice. */
int FM_NODISCARD fm_request_line_value(const struct fm_request_line *line, const char *path,
                                       struct fm_request_value *ret_value, struct fm_error *reterr);

#endif
