/*
 * Objects by their addresses: "https://host/path", and "s3://bucket/key" of S3 and of stores that
 * speak like it.
 *
 * Owns: which texts are addresses, what of the environment says where a store is and who asks
 * (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION or AWS_DEFAULT_REGION,
 * AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL), where an object of a store lies, going through
 * listings. Does not own: transfers (fetcher.h), the text of listings (core/proto/s3.h). Thread
 * rule: get and cancel from any thread.
 */
#ifndef FM_HOST_NET_OBJECTS_H
#define FM_HOST_NET_OBJECTS_H

#include "host/net/fetcher.h"

/* Whether the text begins as an address does: http://, https:// or s3://, in any case. */
bool fm_object_is_address(const char *text);
bool fm_object_is_s3(const char *text);
/* Whether it begins as one that is not read, as of gs, az, hdfs or file. */
bool fm_object_is_foreign(const char *text);
/* FM_EINVAL: no address after all, or one with a user's name or a password in it, which would be
 * shown and recorded wherever the object is named. The words do not show it. */
int FM_NODISCARD fm_object_check(const char *address, struct fm_error *reterr);

struct fm_objects_options {
    uint32_t requests_max;     /* at once; > 0 */
    uint64_t stall_timeout_ns; /* below FM_FETCH_RATE_LEAST; a second at least */
    const char *ca_file;       /* whom to trust; NULL: whom the system trusts */
    const char *headers;       /* "Name: value" lines, of requests over HTTP; NULL: none */
};

struct fm_objects;

/* Connects to nothing. FM_EINVAL: what is wrong with the headers or the environment; FM_ENOMEM. */
int FM_NODISCARD fm_objects_open(const struct fm_objects_options *options,
                                 struct fm_objects **ret_objects, struct fm_error *reterr);
void fm_objects_cancel(struct fm_objects *objects); /* as fm_fetcher_cancel; accepts NULL */
void fm_objects_close(struct fm_objects *objects);  /* as fm_fetcher_destroy; accepts NULL */

/* Submits fetch, of which `done` and bytes_max are set; `address` stays until then, and so does
 * `room`, which gets the object's URL where it has to be made. */
void fm_objects_get(struct fm_objects *objects, const char *address, struct fm_text *room,
                    struct fm_fetch *fetch);

/*
 * The objects whose names begin with "s3://bucket/prefix", in the order of their keys, page by
 * page: found(context, key, size) is called for each. What it returns, where it is not 0, ends the
 * listing and is returned. `level`: not those below the next '/' behind the prefix. `stopping`,
 * once it is true, ends the listing soon (FM_ECANCELLED), and everything else of these objects with
 * it; NULL: never. Else FM_EUNAVAILABLE and others, with words.
 */
int FM_NODISCARD fm_objects_list(struct fm_objects *objects, const char *address, bool level,
                                 const atomic_bool *stopping,
                                 int (*found)(void *context, const char *key, uint64_t size),
                                 void *context, struct fm_error *reterr);

#endif
