/*
 * Objects by their addresses. See objects.h.
 */
#include "host/net/objects.h"

#include <curl/curl.h>
#include <string.h>
#include <strings.h>

#include "core/proto/s3.h"
#include "core/util/error.h"
#include "core/util/hash.h"
#include "core/util/memory.h"
#include "host/os/os.h"

enum { ATTEMPTS_MAX = 3 };
#define CONNECT_TIMEOUT_NS UINT64_C(10000000000)
#define PAUSE_NS           UINT64_C(200000000)
/* Of a page of a listing: a thousand keys, with what is said of them. */
#define PAGE_BYTES_MAX ((size_t)64 << 20)

struct fm_objects {
    struct fm_fetcher *fetcher;
    const char *endpoint; /* of the environment; NULL: Amazon's */
    const char *region;
    struct fm_error store; /* why nothing can be had of a store; status 0: it can */
};

/* --- Addresses --- */

bool fm_object_is_s3(const char *text)
{
    return strncasecmp(text, "s3://", 5) == 0;
}

static bool is_web(const char *text)
{
    return strncasecmp(text, "http://", 7) == 0 || strncasecmp(text, "https://", 8) == 0;
}

bool fm_object_is_address(const char *text)
{
    return is_web(text) || fm_object_is_s3(text);
}

bool fm_object_is_foreign(const char *text)
{
    size_t length =
        strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-");
    return length > 1 && strncmp(text + length, "://", 3) == 0 && !fm_object_is_address(text);
}

int fm_object_check(const char *address, struct fm_error *reterr)
{
    struct fm_s3_name name;
    if (fm_object_is_s3(address)) {
        return fm_s3_name_parse(address, &name, reterr);
    }
    CURLU *parsed = curl_url();
    if (parsed == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    char *user = NULL;
    char *password = NULL;
    bool good = is_web(address) && curl_url_set(parsed, CURLUPART_URL, address, 0) == CURLUE_OK;
    bool secret = good && (curl_url_get(parsed, CURLUPART_USER, &user, 0) == CURLUE_OK ||
                           curl_url_get(parsed, CURLUPART_PASSWORD, &password, 0) == CURLUE_OK);
    curl_free(user);
    curl_free(password);
    curl_url_cleanup(parsed);
    if (secret) {
        return fm_error_set(reterr, FM_EINVAL,
                            "an address with a user's name or a password in it, which would be "
                            "recorded wherever the input is named: write them as a line "
                            "'Authorization: ...' into a file, and name that in "
                            "input.headers_file");
    }
    /* What stands before an '@' may be a password. */
    size_t shown =
        strchr(address, '@') != NULL ? strcspn(address, ":") + 3 : strcspn(address, "?#");
    return good ? 0
                : fm_error_set(reterr, FM_EINVAL, "'%.*s%s' is no address",
                               (int)(shown < 200 ? shown : 200), address,
                               address[shown] != '\0' ? "..." : "");
}

/* Appends where the object or, without a key, the bucket is. */
static void url_make(const struct fm_objects *objects, const struct fm_s3_name *name,
                     struct fm_text *to)
{
    int length = (int)name->bucket_length;
    bool dots = memchr(name->bucket, '.', name->bucket_length) != NULL;
    if (objects->endpoint != NULL) {
        size_t used = strlen(objects->endpoint);
        used -= used > 0 && objects->endpoint[used - 1] == '/' ? 1 : 0;
        fm_text_append_format(to, "%.*s/%.*s/", (int)used, objects->endpoint, length, name->bucket);
    } else if (dots) {
        /* No certificate fits a name of so many parts. */
        fm_text_append_format(to, "https://s3.%s.amazonaws.com/%.*s/", objects->region, length,
                              name->bucket);
    } else {
        fm_text_append_format(to, "https://%.*s.s3.%s.amazonaws.com/", length, name->bucket,
                              objects->region);
    }
}

/* --- The environment --- */

static const char *environment(const char *name, const char *other)
{
    const char *value = fm_os_environment(name);
    value = value != NULL && value[0] != '\0' ? value
            : other != NULL                   ? fm_os_environment(other)
                                              : NULL;
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static int endpoint_check(const char *endpoint, struct fm_error *reterr)
{
    struct fm_error why = {0};
    if (endpoint == NULL || (is_web(endpoint) && fm_object_check(endpoint, &why) == 0)) {
        return 0;
    }
    return fm_error_set(reterr, FM_EINVAL,
                        "AWS_ENDPOINT_URL must be http://HOST or https://HOST, without a user's "
                        "name or a password");
}

int fm_objects_open(const struct fm_objects_options *options, struct fm_objects **ret_objects,
                    struct fm_error *reterr)
{
    const char *region = environment("AWS_REGION", "AWS_DEFAULT_REGION");
    const char *endpoint = environment("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL");
    const struct fm_fetch_signature signature = {
        .access_key = environment("AWS_ACCESS_KEY_ID", NULL),
        .secret_key = environment("AWS_SECRET_ACCESS_KEY", NULL),
        .session_token = environment("AWS_SESSION_TOKEN", NULL),
        .region = region != NULL ? region : "us-east-1"};
    const struct fm_fetcher_options fetcher = {
        .transfers_max = options->requests_max,
        .attempts_max = ATTEMPTS_MAX,
        .connect_timeout_ns = CONNECT_TIMEOUT_NS,
        .stall_timeout_ns = options->stall_timeout_ns,
        .pause_ns = PAUSE_NS,
        .ca_file = options->ca_file,
        .headers = options->headers,
        .signature = signature.access_key != NULL ? &signature : NULL};
    struct fm_objects *objects = fm_alloc_zero(1, sizeof(*objects));
    if (objects == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    int status = endpoint_check(endpoint, &objects->store);
    if (status == 0 && (signature.access_key == NULL) != (signature.secret_key == NULL)) {
        (void)fm_error_set(&objects->store, FM_EINVAL,
                           "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together, and only "
                           "one of them is set");
    }
    objects->region = signature.region;
    objects->endpoint = endpoint;
    status = fm_fetcher_create(&fetcher, &objects->fetcher, reterr);
    if (status != 0) {
        fm_free(objects);
        return status;
    }
    *ret_objects = objects;
    return 0;
}

void fm_objects_cancel(struct fm_objects *objects)
{
    if (objects != NULL) {
        fm_fetcher_cancel(objects->fetcher);
    }
}

void fm_objects_close(struct fm_objects *objects)
{
    if (objects == NULL) {
        return;
    }
    fm_fetcher_destroy(objects->fetcher);
    fm_free(objects);
}

/* --- Getting --- */

void fm_objects_get(struct fm_objects *objects, const char *address, struct fm_text *room,
                    struct fm_fetch *fetch)
{
    struct fm_s3_name name;
    int status = 0;
    fm_text_clear(room);
    fm_error_init(&fetch->error);
    fetch->name = address;
    fetch->url = address;
    fetch->of_store = fm_object_is_s3(address);
    fetch->attempts = 0;
    if (fetch->of_store) {
        fetch->error = objects->store;
        status = objects->store.status;
        status = status != 0 ? status : fm_s3_name_parse(address, &name, &fetch->error);
        if (status == 0) {
            url_make(objects, &name, room);
            fm_s3_encode(name.key, true, room);
            status = room->failed ? fm_error_set(&fetch->error, FM_ENOMEM, "out of memory") : 0;
        }
        fetch->url = room->data;
    }
    if (status != 0) {
        fetch->status = status;
        fetch->done(fetch);
        return;
    }
    fm_fetcher_submit(objects->fetcher, fetch);
}

/* --- Listing --- */

static int page_get(struct fm_objects *objects, const struct fm_s3_name *name,
                    const struct fm_s3_list_request *request, struct fm_fetch *fetch,
                    struct fm_error *reterr)
{
    struct fm_text url = {0};
    url_make(objects, name, &url);
    fm_text_append_char(&url, '?');
    fm_s3_list_query(request, &url);
    if (url.failed) {
        fm_text_deinit(&url);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    fetch->url = url.data;
    int status = fm_fetcher_run(objects->fetcher, fetch);
    fetch->url = NULL;
    fm_text_deinit(&url);
    return status == 0 ? 0 : fm_error_set(reterr, status, "cannot list %s", fetch->error.text);
}

int fm_objects_list(struct fm_objects *objects, const char *address, bool level,
                    int (*found)(void *context, const char *key, uint64_t size), void *context,
                    struct fm_error *reterr)
{
    const struct fm_s3_list_handler handler = {.object = found, .context = context};
    struct fm_s3_name name;
    struct fm_text token = {0};
    uint64_t asked = 0; /* with which token, by its sum; 0: none */
    struct fm_fetch fetch = {.name = address, .of_store = true, .bytes_max = PAGE_BYTES_MAX};
    int status = objects->store.status;
    if (status != 0) {
        return fm_error_set(reterr, status, "cannot list %.200s: %s", address, objects->store.text);
    }
    status = fm_s3_name_parse(address, &name, reterr);
    bool more = status == 0;
    while (more) {
        const struct fm_s3_list_request request = {
            .prefix = name.key, .token = token.length > 0 ? token.data : NULL, .level = level};
        struct fm_error words = {0};
        status = page_get(objects, &name, &request, &fetch, reterr);
        if (status == 0) {
            status = fm_s3_list_read(fetch.body.data, fetch.body.length, &handler, &token, &words);
            status = words.status != 0 ? fm_error_set(reterr, words.status,
                                                      "cannot list %.200s: %s", address, words.text)
                                       : status;
        }
        more = status == 0 && token.length > 0;
        uint64_t next = fm_hash_add(FM_HASH_START, token.data, token.length);
        if (more && next == asked) {
            more = false;
            status = fm_error_set(reterr, FM_ECORRUPT,
                                  "cannot list %.200s: the store gives the same page again and "
                                  "again",
                                  address);
        }
        asked = next;
    }
    fm_text_deinit(&fetch.body);
    fm_text_deinit(&token);
    return status;
}
