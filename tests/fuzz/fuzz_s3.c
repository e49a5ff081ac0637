/*
 * Fuzzes core/proto/s3 and with it core/proto/xml: any bytes as an answer give objects with names,
 * or an error with words.
 */
#include "core/proto/s3.h"

#include <string.h>

#include "core/util/memory.h"
#include "tests/fuzz/check.h"

static int object_check(void *context, const char *key, uint64_t size)
{
    size_t *left = context;
    (void)size;
    FUZZ_CHECK(key[0] != '\0' && strlen(key) <= *left && !fm_fuzz_canary);
    *left -= strlen(key); /* nothing is decoded to more than it was */
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t left = size;
    const struct fm_s3_list_handler handler = {.object = object_check, .context = &left};
    struct fm_text token = {0};
    struct fm_error error = {0};
    char words[40];
    /* As a copy of its own, so that reading beyond its end is seen. */
    char *text = fm_alloc(size > 0 ? size : 1);
    if (text == NULL) {
        return 0;
    }
    memcpy(text, data, size);
    int status = fm_s3_list_read(text, size, &handler, &token, &error);
    FUZZ_CHECK(status == 0 || (status == FM_ECORRUPT && error.text[0] != '\0'));
    fm_s3_error_read(text, size, words, sizeof(words));
    FUZZ_CHECK(strlen(words) < sizeof(words) && strlen(words) <= size + 2);
    fm_text_deinit(&token);
    fm_free(text);
    return 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char entities[] =
        "<ListBucketResult><!-- c --><Contents><Key>&#x41;+</Key><Size>1</Size></Contents>"
        "</ListBucketResult>";
    static const char *const seeds[] = {
        "<?xml version=\"1.0\"?><ListBucketResult "
        "xmlns=\"x\"><Name>b</Name><EncodingType>url</EncodingType><IsTruncated>true"
        "</IsTruncated><NextContinuationToken>t&amp;</NextContinuationToken><Contents><Key>a%2Fb"
        "</Key><Size>12</Size><Owner><ID/></Owner></Contents></ListBucketResult>",
        entities,
        "<Error><Code>AccessDenied</Code><Message>no</Message></Error>",
    };
    return index < sizeof(seeds) / sizeof(seeds[0]) ? fm_fuzz_text(seeds[index], data, capacity)
                                                    : 0;
}
