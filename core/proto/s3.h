/*
 * What S3 and stores that speak like it say, in text: names of objects, listings, errors.
 *
 * Owns: "s3://bucket/key", keys as parts of an address and back, ListObjectsV2: its request's
 * parameters and its answer, and the words of an error. Does not own: sending, signing
 * (host/net). Thread rule: caller's memory.
 */
#ifndef FM_CORE_PROTO_S3_H
#define FM_CORE_PROTO_S3_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/util/text.h"
#include "fermata/status.h"

#define FM_S3_BUCKET_MAX 63
#define FM_S3_KEY_MAX    1024

/* "s3://bucket/key", in its parts: views of the text. */
struct fm_s3_name {
    const char *bucket;
    size_t bucket_length;
    const char *key; /* "": the bucket itself */
};

/* FM_EINVAL: a bucket is 3 to 63 lower-case letters, digits, dots and hyphens, and a key has 1024
 * bytes at most. */
int FM_NODISCARD fm_s3_name_parse(const char *text, struct fm_s3_name *ret_name,
                                  struct fm_error *reterr);

/* Appends the text as part of an address: letters, digits and "-._~" stay, and '/' where
 * keep_slashes; the others become %41. This is the form that signatures are made of. */
void fm_s3_encode(const char *text, bool keep_slashes, struct fm_text *to);

/* What is asked of a listing. */
struct fm_s3_list_request {
    const char *prefix;    /* "": all */
    const char *token;     /* from the page before; NULL: the first page */
    bool level;            /* nothing below the next '/' behind the prefix */
    uint32_t page_entries; /* at most; 0: as many as the store likes */
};
/* Appends the parameters, in the order in which they are signed: "list-type=2&...". */
void fm_s3_list_query(const struct fm_s3_list_request *request, struct fm_text *to);

/* One page of a listing, as it is read. */
struct fm_s3_list_handler {
    /* An object. What it returns, where it is not 0, ends the reading and is returned. */
    int (*object)(void *context, const char *key, uint64_t size);
    void *context;
};
/*
 * Reads an answer to such a request, and gives its objects, in order. *next_token gets what the
 * next page is asked with, or stays empty: this was the last. Keys that hold a NUL are left out,
 * because nothing could name them. FM_ECORRUPT: it is no listing. FM_ENOMEM.
 */
int FM_NODISCARD fm_s3_list_read(const char *data, size_t size,
                                 const struct fm_s3_list_handler *handler,
                                 struct fm_text *next_token, struct fm_error *reterr);

/* "AccessDenied: Access Denied" out of the body of an answer that is a failure; "": it says nothing
 * that is understood. */
void fm_s3_error_read(const char *data, size_t size, char *ret_words, size_t words_size);

#endif
