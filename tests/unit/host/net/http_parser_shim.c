/*
 * Tests of the parsers' shim: the announced length stays what it was while the body comes.
 */
#include "host/net/http_parser_shim.h"

#include <string.h>

#include "tests/harness/test.h"

struct seen {
    struct fm_http_parser *parser;
    uint64_t at_head;
    uint64_t at_body[8];
    int body_count;
};

static int on_event(void *context)
{
    (void)context;
    return 0;
}

static int on_text(void *context, const char *data, size_t length)
{
    (void)context;
    (void)data;
    (void)length;
    return 0;
}

static int on_head(void *context)
{
    struct seen *seen = context;
    seen->at_head = fm_http_parser_content_length(seen->parser);
    return 0;
}

static int on_body(void *context, const char *data, size_t length)
{
    struct seen *seen = context;
    (void)data;
    (void)length;
    seen->at_body[seen->body_count++ % 8] = fm_http_parser_content_length(seen->parser);
    return 0;
}

static const struct fm_http_parser_events events = {.begin = on_event,
                                                    .target = on_text,
                                                    .header_name = on_text,
                                                    .header_value = on_text,
                                                    .head_complete = on_head,
                                                    .chunk = on_event,
                                                    .body = on_body};

static int feed(struct seen *seen, const char *text)
{
    size_t used = 0;
    return fm_http_parser_feed(seen->parser, text, strlen(text), &used);
}

TEST(the_announced_length_does_not_shrink)
{
    struct seen seen = {.parser = fm_http_parser_create(&events, &seen)};
    CHECK(seen.parser != NULL);
    CHECK_INT_EQ(feed(&seen, "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"), 0);
    CHECK_INT_EQ(feed(&seen, "def"), 0);
    CHECK_INT_EQ(feed(&seen, "ghij"), FM_EAGAIN);
    CHECK_UINT_EQ(seen.at_head, 10);
    CHECK_INT_EQ(seen.body_count, 3);
    for (int i = 0; i < 3; i++) {
        CHECK_UINT_EQ(seen.at_body[i], 10);
    }
    /* Those of chunks are nobody's announcement. */
    CHECK_INT_EQ(feed(&seen, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n"),
                 0);
    CHECK_UINT_EQ(seen.at_head, 0);
    CHECK_INT_EQ(seen.body_count, 4);
    CHECK_UINT_EQ(seen.at_body[3], 0);
    fm_http_parser_free(seen.parser);
}

TEST_MAIN()
