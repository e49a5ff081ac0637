/*
 * Inputs behind addresses. See remote.h.
 */
#include "engines/batch/remote.h"

#include <stdio.h>
#include <string.h>

#include "core/proto/s3.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/batch/glob.h"
#include "engines/batch/paths.h"
#include "host/os/file.h"

enum { ADDRESS_SIZE = 4096, HEADERS_BYTES_MAX = 1 << 16 };

bool fm_remote_may_be(const struct fm_job *job)
{
    bool any = job->list != NULL || (job->base != NULL && fm_object_is_address(job->base));
    for (size_t i = 0; job->files != NULL && job->files[i] != NULL; i++) {
        any = any || fm_object_is_address(job->files[i]);
    }
    return any && job->format == NULL;
}

bool fm_remote_is(const char *base, const char *id)
{
    return fm_object_is_address(id) || (id[0] != '/' && fm_object_is_address(base));
}

int fm_remote_place(char *ret_place, size_t size, const char *base, const char *id)
{
    return fm_path_join(ret_place, size, fm_object_is_address(id) ? "" : base, id);
}

const char *fm_remote_id(const char *base, const char *address)
{
    size_t length = strlen(base);
    length -= length > 0 && base[length - 1] == '/' ? 1 : 0;
    const char *rest = address + length;
    bool below = length > 0 && strncmp(base, address, length) == 0 && rest[0] == '/' &&
                 rest[1] != '\0' && rest[1] != '/' && !fm_object_is_address(rest + 1);
    return below ? rest + 1 : address;
}

int fm_remote_open(const struct fm_job *job, struct fm_objects **ret_objects,
                   struct fm_error *reterr)
{
    char *headers = NULL;
    size_t size = 0;
    int status = job->headers_file != NULL
                     ? fm_file_read(job->headers_file, HEADERS_BYTES_MAX, &headers, &size, reterr)
                     : 0;
    if (status != 0) {
        return fm_error_prefix(reterr, status, "input.headers_file");
    }
    const struct fm_objects_options options = {.requests_max = job->requests,
                                               .stall_timeout_ns = job->stall_ns,
                                               .ca_file = job->ca_file,
                                               .headers = headers};
    status = fm_objects_open(&options, ret_objects, reterr);
    fm_free(headers);
    if (status == FM_EINVAL && job->headers_file != NULL) {
        return fm_error_prefix(reterr, status, "input.headers_file '%.200s'", job->headers_file);
    }
    return status;
}

/* --- Walking --- */

/* How much of the address no pattern touches, up to the character that makes it one. */
static size_t literal_length(const char *address)
{
    return strcspn(address, "*?[\\");
}

bool fm_remote_is_walk(const char *address)
{
    size_t length = strlen(address);
    const char *bucket = address + strlen("s3://");
    return fm_object_is_s3(address) && (literal_length(address) < length ||
                                        address[length - 1] == '/' || strchr(bucket, '/') == NULL);
}

void fm_remote_walk_base(const char *address, char *ret_base, size_t size)
{
    size_t length = literal_length(address);
    while (length > 0 && address[length - 1] != '/') {
        length--;
    }
    if (strchr(address + strlen("s3://"), '/') == NULL) {
        length = strlen(address);
    }
    while (length > strlen("s3://") && address[length - 1] == '/') {
        length--;
    }
    (void)snprintf(ret_base, size, "%.*s", (int)length, address);
}

struct walker {
    const struct fm_remote_walk *walk;
    char bucket[ADDRESS_SIZE]; /* "s3://bucket/", to which keys are added */
    const char *prefix;        /* of keys */
    const char *pattern;       /* of keys; NULL: all of them */
    uint64_t count;
    struct fm_error *error;
};

/* Whether a name in the key, behind the prefix that was asked for, begins with a dot. */
static bool is_hidden(const char *key, const char *prefix)
{
    size_t length = strlen(prefix);
    const char *rest = strlen(key) > length ? key + length : key;
    return (rest[0] == '.' && (rest == key || rest[-1] == '/')) || strstr(rest, "/.") != NULL;
}

static int object_found(void *context, const char *key, uint64_t size)
{
    struct walker *walker = context;
    char address[ADDRESS_SIZE];
    size_t length = strlen(key);
    int made = snprintf(address, sizeof(address), "%s%s", walker->bucket, key);
    if (key[length - 1] == '/') {
        return 0; /* the mark of a folder */
    }
    if (walker->pattern != NULL && !fm_glob_matches(walker->pattern, key)) {
        return 0;
    }
    if (walker->pattern == NULL && is_hidden(key, walker->prefix)) {
        (*walker->walk->hidden_count)++;
        return 0;
    }
    if (made < 0 || (size_t)made >= sizeof(address)) {
        return fm_error_set(walker->error, FM_ETOOLARGE, "the name '%.200s...' is too long", key);
    }
    walker->count++;
    return walker->walk->found(walker->walk->context, fm_remote_id(walker->walk->base, address),
                               size);
}

int fm_remote_walk(const struct fm_job *job, const struct fm_remote_walk *walk,
                   struct fm_error *reterr)
{
    struct fm_objects *objects = NULL;
    struct walker walker = {.walk = walk, .error = reterr};
    struct fm_s3_name name;
    char prefix[ADDRESS_SIZE];
    const char *address = walk->address;
    size_t literal = literal_length(address);
    bool is_pattern = address[literal] != '\0';
    int status = fm_s3_name_parse(address, &name, reterr);
    if (status != 0) {
        return status;
    }
    /* One level will do when the rest of the pattern names files of one folder. */
    bool level = is_pattern && strchr(address + literal, '/') == NULL &&
                 strstr(address + literal, "**") == NULL;
    walker.prefix = name.key;
    walker.pattern = is_pattern ? name.key : NULL;
    (void)snprintf(walker.bucket, sizeof(walker.bucket), "%.*s/",
                   (int)(name.bucket - address) + (int)name.bucket_length, address);
    (void)snprintf(prefix, sizeof(prefix), "%.*s", (int)literal, address);
    status = fm_remote_open(job, &objects, reterr);
    status = status != 0 ? status
                         : fm_objects_list(objects, prefix, level, walk->stopping, object_found,
                                           &walker, reterr);
    fm_objects_close(objects);
    if (status == 0 && walker.count == 0) {
        status =
            is_pattern
                ? fm_error_set(reterr, FM_ENOTFOUND, "no input: nothing matches '%s'", address)
                : fm_error_set(reterr, FM_ENOTFOUND, "no input: no objects below '%s'", address);
    }
    return status;
}
