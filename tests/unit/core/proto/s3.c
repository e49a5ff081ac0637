/*
 * Tests of core/proto/s3: names, what is asked of listings and what they answer, errors.
 */
#include "core/proto/s3.h"

#include "tests/harness/test.h"

#define HEAD                                       \
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" \
    "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
#define TAIL "</ListBucketResult>"

TEST(names)
{
    struct fm_s3_name name;
    struct fm_error error = {0};
    char key[FM_S3_KEY_MAX + 32];
    CHECK_INT_EQ(fm_s3_name_parse("s3://bucket/a/b c.jpg", &name, &error), 0);
    CHECK_INT_EQ(name.bucket_length, 6);
    CHECK_MEM_EQ(name.bucket, "bucket", 6);
    CHECK_STR_EQ(name.key, "a/b c.jpg");
    CHECK_INT_EQ(fm_s3_name_parse("S3://my.bucket-2", &name, &error), 0);
    CHECK_INT_EQ(name.bucket_length, 11);
    CHECK_STR_EQ(name.key, "");
    CHECK_INT_EQ(fm_s3_name_parse("s3://bucket//a", &name, &error), 0);
    CHECK_STR_EQ(name.key, "/a");
    static const char *const bad[] = {"s3://",
                                      "s3:///key",
                                      "s3://ab/key",
                                      "s3://Bucket/key",
                                      "s3://buc_ket/key",
                                      "s3://.bucket/key",
                                      "s3://-bucket/key",
                                      "s3://user@bucket/key"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK_INT_EQ(fm_s3_name_parse(bad[i], &name, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, "names no bucket");
    }
    (void)snprintf(key, sizeof(key), "s3://bucket/%0*d", FM_S3_KEY_MAX, 1);
    CHECK_INT_EQ(fm_s3_name_parse(key, &name, &error), 0);
    (void)snprintf(key, sizeof(key), "s3://bucket/%0*d", FM_S3_KEY_MAX + 1, 1);
    CHECK_INT_EQ(fm_s3_name_parse(key, &name, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "a key of more than 1024 bytes");
}

TEST(parts_of_addresses)
{
    struct fm_text text = {0};
    fm_s3_encode("a/b c+d%\xC3\xBC?#&=~-._9", true, &text);
    CHECK_STR_EQ(text.data, "a/b%20c%2Bd%25%C3%BC%3F%23%26%3D~-._9");
    fm_text_clear(&text);
    fm_s3_encode("a/b", false, &text);
    CHECK_STR_EQ(text.data, "a%2Fb");
    fm_text_clear(&text);
    fm_s3_list_query(&(struct fm_s3_list_request){.prefix = ""}, &text);
    CHECK_STR_EQ(text.data, "encoding-type=url&list-type=2&prefix=");
    fm_text_clear(&text);
    fm_s3_list_query(
        &(struct fm_s3_list_request){
            .prefix = "a/", .token = "1+/=", .level = true, .page_entries = 7},
        &text);
    CHECK_STR_EQ(text.data, "continuation-token=1%2B%2F%3D&delimiter=%2F&encoding-type=url&"
                            "list-type=2&max-keys=7&prefix=a%2F");
    fm_text_deinit(&text);
}

/* "key=size " of all. */
static int collect(void *context, const char *key, uint64_t size)
{
    fm_text_append_format(context, "%s=%" PRIu64 " ", key, size);
    return strcmp(key, "stop") == 0 ? 77 : 0;
}

static int list(const char *answer, struct fm_text *objects, struct fm_text *token,
                struct fm_error *reterr)
{
    const struct fm_s3_list_handler handler = {.object = collect, .context = objects};
    fm_text_clear(objects);
    fm_text_append(objects, "", 0);
    *reterr = (struct fm_error){0};
    return fm_s3_list_read(answer, strlen(answer), &handler, token, reterr);
}

TEST(listings)
{
    struct fm_text objects = {0};
    struct fm_text token = {0};
    struct fm_error error;
    CHECK_INT_EQ(list(HEAD "<Name>b</Name><Prefix/><KeyCount>3</KeyCount>"
                           "<NextContinuationToken>1ueGc&amp;/=</NextContinuationToken>"
                           "<IsTruncated>true</IsTruncated>\n"
                           "<Contents><Key>a%2Fb+c%2Bd%25</Key><LastModified>x</LastModified>"
                           "<Size>12</Size><Owner><ID>1</ID><Key>no</Key></Owner></Contents>"
                           "<Contents><Size>18446744073709551615</Size><Key>z</Key></Contents>"
                           "<Contents><Key>nul%00</Key><Size>1</Size></Contents>"
                           "<CommonPrefixes><Prefix>d%2F</Prefix></CommonPrefixes>"
                           "<EncodingType>url</EncodingType>" TAIL,
                      &objects, &token, &error),
                 0);
    CHECK_STR_EQ(objects.data, "a/b c+d%=12 z=18446744073709551615 ");
    CHECK_STR_EQ(token.data, "1ueGc&/=");
    /* A store that does not encode keys does not say that it did. */
    CHECK_INT_EQ(list(HEAD "<Contents><Key>a+b%2F &lt;</Key><Size>1</Size></Contents>" TAIL,
                      &objects, &token, &error),
                 0);
    CHECK_STR_EQ(objects.data, "a+b%2F <=1 ");
    CHECK_INT_EQ(list(HEAD "<IsTruncated>false</IsTruncated>" TAIL, &objects, &token, &error), 0);
    CHECK_STR_EQ(objects.data, "");
    CHECK_UINT_EQ(token.length, 0);
    CHECK_INT_EQ(list(HEAD "<Contents><Key>stop</Key><Size>1</Size></Contents>"
                           "<Contents><Key>more</Key><Size>1</Size></Contents>" TAIL,
                      &objects, &token, &error),
                 77);
    CHECK_STR_EQ(objects.data, "stop=1 ");
    fm_text_deinit(&objects);
    fm_text_deinit(&token);
}

TEST(what_is_no_listing)
{
    static const struct {
        const char *answer;
        const char *words;
    } cases[] = {
        {"", "the text ends"},
        {"<html><body>Welcome</body></html>", "it is no ListBucketResult"},
        {HEAD, "the text ends"},
        {HEAD "<Contents><Key>a</Key></Contents>" TAIL, "without a key or a size"},
        {HEAD "<Contents><Size>1</Size></Contents>" TAIL, "without a key or a size"},
        {HEAD "<Contents><Key></Key><Size>1</Size></Contents>" TAIL, "without a key or a size"},
        {HEAD "<Contents><Key>a</Key><Size>-1</Size></Contents>" TAIL, "a size that is no number"},
        {HEAD "<Contents><Key>a</Key><Size>0x1</Size></Contents>" TAIL, "a size that is no number"},
        {HEAD "<Contents><Key>a</Key><Size></Size></Contents>" TAIL, "a size that is no number"},
        {HEAD
         "<EncodingType>url</EncodingType><Contents><Key>a%2</Key><Size>1</Size></Contents>" TAIL,
         "a '%' that encodes nothing"},
        {HEAD
         "<EncodingType>url</EncodingType><Contents><Key>a%zz</Key><Size>1</Size></Contents>" TAIL,
         "a '%' that encodes nothing"},
        {HEAD "<Contents><Key><b/></Key><Size>1</Size></Contents>" TAIL, "an element in a text"},
        {HEAD "<IsTruncated>true</IsTruncated>" TAIL, "there is more, but not how"},
    };
    struct fm_text objects = {0};
    struct fm_text token = {0};
    struct fm_error error;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CHECK_INT_EQ(list(cases[i].answer, &objects, &token, &error), FM_ECORRUPT);
        CHECK_STR_CONTAINS(error.text, "the listing is not understood: ");
        CHECK_STR_CONTAINS(error.text, cases[i].words);
    }
    fm_text_deinit(&objects);
    fm_text_deinit(&token);
}

TEST(errors)
{
    static const struct {
        const char *answer;
        const char *words;
    } cases[] = {
        {"<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>No &amp; no</Message>"
         "<RequestId>1</RequestId></Error>",
         "AccessDenied: No & no"},
        {"<Error><Code>SlowDown</Code></Error>", "SlowDown"},
        {"<Error><Message>because</Message></Error>", "because"},
        {"<Error><Code>Cut</Code><Mess", "Cut"},
        {"<Error/>", ""},
        {"<html/>", ""},
        {"oops", ""},
        {"", ""},
    };
    char words[64];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fm_s3_error_read(cases[i].answer, strlen(cases[i].answer), words, sizeof(words));
        CHECK_STR_EQ(words, cases[i].words);
    }
}

TEST_MAIN()
