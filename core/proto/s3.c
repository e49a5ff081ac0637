/*
 * What object stores say. See s3.h.
 */
#include "core/proto/s3.h"

#include <stdio.h>
#include <string.h>

#include "core/proto/xml.h"
#include "core/util/error.h"

enum { SCHEME = 5 /* of "s3://" */ };

/* --- Names --- */

static bool is_bucket(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-';
}

int fm_s3_name_parse(const char *text, struct fm_s3_name *ret_name, struct fm_error *reterr)
{
    const char *bucket = text + SCHEME;
    size_t length = strcspn(bucket, "/");
    size_t good = 0;
    while (good < length && is_bucket(bucket[good])) {
        good++;
    }
    if (good < length || length < 3 || length > FM_S3_BUCKET_MAX || bucket[0] == '.' ||
        bucket[0] == '-') {
        /* What stands before an '@' may be a password. */
        size_t shown = SCHEME + (memchr(bucket, '@', length) != NULL ? 0 : length);
        return fm_error_set(reterr, FM_EINVAL,
                            "'%.*s%s' names no bucket: s3://BUCKET/KEY, where a bucket is 3 to 63 "
                            "lower-case letters, digits, dots and hyphens",
                            (int)(shown < 200 ? shown : 200), text,
                            text[shown] != '\0' ? "..." : "");
    }
    const char *key = bucket + length + (bucket[length] == '/' ? 1 : 0);
    if (strlen(key) > FM_S3_KEY_MAX) {
        return fm_error_set(reterr, FM_EINVAL, "'%.200s...' has a key of more than %d bytes", text,
                            FM_S3_KEY_MAX);
    }
    *ret_name = (struct fm_s3_name){.bucket = bucket, .bucket_length = length, .key = key};
    return 0;
}

void fm_s3_encode(const char *text, bool keep_slashes, struct fm_text *to)
{
    for (const char *c = text; *c != '\0'; c++) {
        bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                     (*c >= '0' && *c <= '9') || strchr("-._~", *c) != NULL;
        if (plain || (keep_slashes && *c == '/')) {
            fm_text_append_char(to, *c);
        } else {
            fm_text_append_format(to, "%%%02X", (unsigned)(unsigned char)*c);
        }
    }
}

/* "a%2Bb+c" is "a+b c": as a store writes keys that it was asked to encode. */
static bool decode(const char *text, size_t length, struct fm_text *to)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] != '%') {
            fm_text_append_char(to, text[i] == '+' ? ' ' : text[i]);
            continue;
        }
        int high = i + 2 < length ? fm_hex_digit(text[i + 1]) : -1;
        int low = i + 2 < length ? fm_hex_digit(text[i + 2]) : -1;
        if (high < 0 || low < 0) {
            return false;
        }
        fm_text_append_char(to, (char)(high << 4 | low));
        i += 2;
    }
    return true;
}

/* --- Listings --- */

void fm_s3_list_query(const struct fm_s3_list_request *request, struct fm_text *to)
{
    /* In the order of their names, as they are signed. */
    if (request->token != NULL) {
        fm_text_append_string(to, "continuation-token=");
        fm_s3_encode(request->token, false, to);
        fm_text_append_char(to, '&');
    }
    fm_text_append_string(to, request->level ? "delimiter=%2F&" : "");
    fm_text_append_string(to, "encoding-type=url&list-type=2");
    if (request->page_entries > 0) {
        fm_text_append_format(to, "&max-keys=%u", request->page_entries);
    }
    fm_text_append_string(to, "&prefix=");
    fm_s3_encode(request->prefix, false, to);
}

/* A page in the reading. */
struct page {
    struct fm_xml_reader xml;
    const struct fm_s3_list_handler *handler;
    struct fm_text text; /* of the element at hand, that has no others in it */
    struct fm_text key;
    uint64_t size;
    bool has_key;
    bool has_size;
    bool looking; /* for what is said of the whole: objects are not given yet */
    bool encoded; /* keys are */
    bool truncated;
    struct fm_text *token;
    struct fm_error *error;
};

static int page_refuse(const struct page *page, const char *words)
{
    return fm_error_set(page->error, FM_ECORRUPT, "the listing is not understood: %s", words);
}

/* The text of the element that was just opened, up to its end. */
static int element_text(struct page *page)
{
    fm_text_clear(&page->text);
    for (;;) {
        enum fm_xml_token token = fm_xml_next(&page->xml);
        if (token == FM_XML_CLOSE) {
            /* So that there is a string even of nothing. */
            fm_text_append(&page->text, "", 0);
            return page->text.failed ? fm_error_set(page->error, FM_ENOMEM, "out of memory") : 0;
        }
        if (token != FM_XML_TEXT) {
            return page_refuse(page, token == FM_XML_ERROR ? page->xml.error.text
                                                           : "an element in a text");
        }
        fm_xml_decode(&page->xml, &page->text);
    }
}

/* Passes over the element that was just opened. */
static int element_skip(struct page *page)
{
    uint32_t depth = page->xml.depth - 1;
    while (page->xml.depth > depth) {
        if (fm_xml_next(&page->xml) == FM_XML_ERROR) {
            return page_refuse(page, page->xml.error.text);
        }
    }
    return 0;
}

static int key_take(struct page *page)
{
    fm_text_clear(&page->key);
    if (!page->encoded) {
        fm_text_append(&page->key, page->text.data, page->text.length);
    } else if (!decode(page->text.data, page->text.length, &page->key)) {
        return page_refuse(page, "a key with a '%' that encodes nothing");
    }
    page->has_key = true;
    return page->key.failed ? fm_error_set(page->error, FM_ENOMEM, "out of memory") : 0;
}

/* One member of an object's description. */
static int member_read(struct page *page)
{
    bool is_key = fm_xml_is(&page->xml, "Key");
    bool is_size = fm_xml_is(&page->xml, "Size");
    if (!is_key && !is_size) {
        return element_skip(page);
    }
    int status = element_text(page);
    if (status != 0) {
        return status;
    }
    if (is_key) {
        return key_take(page);
    }
    page->has_size = strspn(page->text.data, "0123456789") == page->text.length &&
                     fm_parse_uint64(page->text.data, &page->size) == 0;
    return page->has_size ? 0 : page_refuse(page, "a size that is no number");
}

static int object_read(struct page *page)
{
    page->has_key = false;
    page->has_size = false;
    for (;;) {
        enum fm_xml_token token = fm_xml_next(&page->xml);
        int status = 0;
        if (token == FM_XML_OPEN) {
            status = member_read(page);
        } else if (token == FM_XML_CLOSE) {
            break;
        } else if (token == FM_XML_ERROR) {
            status = page_refuse(page, page->xml.error.text);
        }
        if (status != 0) {
            return status;
        }
    }
    if (!page->has_key || !page->has_size || page->key.length == 0) {
        return page_refuse(page, "an object without a key or a size");
    }
    return strlen(page->key.data) == page->key.length
               ? page->handler->object(page->handler->context, page->key.data, page->size)
               : 0;
}

/* A child of the whole. */
static int part_read(struct page *page)
{
    bool is_token = fm_xml_is(&page->xml, "NextContinuationToken");
    bool is_flag = fm_xml_is(&page->xml, "IsTruncated");
    bool is_encoding = fm_xml_is(&page->xml, "EncodingType");
    if (fm_xml_is(&page->xml, "Contents") && !page->looking) {
        return object_read(page);
    }
    if (!is_token && !is_flag && !is_encoding) {
        return element_skip(page);
    }
    int status = element_text(page);
    if (status == 0 && is_encoding) {
        page->encoded = page->text.length == 3 && memcmp(page->text.data, "url", 3) == 0;
    } else if (status == 0 && is_flag) {
        page->truncated = page->text.length == 4 && memcmp(page->text.data, "true", 4) == 0;
    } else if (status == 0) {
        fm_text_clear(page->token);
        fm_text_append(page->token, page->text.data, page->text.length);
    }
    return status;
}

static int page_read(struct page *page)
{
    if (fm_xml_next(&page->xml) != FM_XML_OPEN || !fm_xml_is(&page->xml, "ListBucketResult")) {
        return page_refuse(page, page->xml.error.status != 0 ? page->xml.error.text
                                                             : "it is no ListBucketResult");
    }
    for (;;) {
        enum fm_xml_token token = fm_xml_next(&page->xml);
        int status = token == FM_XML_OPEN    ? part_read(page)
                     : token == FM_XML_ERROR ? page_refuse(page, page->xml.error.text)
                                             : 0;
        if (status != 0 || token == FM_XML_END) {
            return status;
        }
    }
}

int fm_s3_list_read(const char *data, size_t size, const struct fm_s3_list_handler *handler,
                    struct fm_text *next_token, struct fm_error *reterr)
{
    struct page page = {.handler = handler, .token = next_token, .error = reterr, .looking = true};
    fm_text_clear(next_token);
    fm_xml_reader_init(&page.xml, data, size);
    int status = page_read(&page);
    if (status == 0) {
        /* Whether a store has encoded the keys, as it was asked to, it says anywhere. */
        page.looking = false;
        fm_xml_reader_init(&page.xml, data, size);
        status = page_read(&page);
    }
    if (status == 0 && page.truncated && next_token->length == 0) {
        status = page_refuse(&page, "there is more, but not how to ask for it");
    } else if (status == 0 && next_token->failed) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory");
    } else if (!page.truncated) {
        fm_text_clear(next_token);
    }
    fm_text_deinit(&page.text);
    fm_text_deinit(&page.key);
    return status;
}

/* --- Errors --- */

void fm_s3_error_read(const char *data, size_t size, char *ret_words, size_t words_size)
{
    struct page page = {0};
    char code[64] = "";
    char message[128] = "";
    fm_xml_reader_init(&page.xml, data, size);
    bool is_error =
        size > 0 && fm_xml_next(&page.xml) == FM_XML_OPEN && fm_xml_is(&page.xml, "Error");
    while (is_error) {
        enum fm_xml_token token = fm_xml_next(&page.xml);
        bool is_code = token == FM_XML_OPEN && fm_xml_is(&page.xml, "Code");
        bool is_message = token == FM_XML_OPEN && fm_xml_is(&page.xml, "Message");
        if (token == FM_XML_ERROR || token == FM_XML_END) {
            break;
        }
        if (is_code || is_message) {
            is_error = element_text(&page) == 0;
            (void)snprintf(is_code ? code : message, is_code ? sizeof(code) : sizeof(message), "%s",
                           page.text.data != NULL ? page.text.data : "");
        } else if (token == FM_XML_OPEN) {
            is_error = element_skip(&page) == 0;
        }
    }
    fm_text_deinit(&page.text);
    (void)snprintf(ret_words, words_size, "%s%s%s", code,
                   code[0] != '\0' && message[0] != '\0' ? ": " : "", message);
}
