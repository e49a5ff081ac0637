/*
 * Which bytes answer: the page, its compressed form, or nothing because the browser has it.
 */
#include "engines/serve/pages.h"

#include "tests/harness/test.h"
#include "web/web.h"

static const char *header(const struct fm_page *page, const char *name)
{
    for (size_t i = 0; i < page->header_count; i++) {
        if (strcmp(page->headers[i].name, name) == 0) {
            return page->headers[i].value;
        }
    }
    return NULL;
}

TEST(a_page_comes_with_its_headers)
{
    struct fm_page page;
    CHECK(fm_page_find("/", NULL, NULL, &page));
    CHECK_INT_EQ(page.status, 200);
    CHECK_PTR_EQ(page.bytes, fm_web_file_find("/")->bytes);
    CHECK_STR_EQ(header(&page, "Content-Security-Policy"), FM_WEB_POLICY);
    CHECK_STR_EQ(header(&page, "X-Content-Type-Options"), "nosniff");
    CHECK(header(&page, "Content-Encoding") == NULL);
    CHECK(!fm_page_find("/v2", NULL, NULL, &page));
}

TEST(compressed_where_it_is_understood)
{
    static const char *const yes[] = {"gzip", "br, gzip;q=0.5", "deflate,GZIP", "gzip;q=1.0"};
    static const char *const no[] = {"", "br", "gzip;q=0", "gzip; q=0.000, br", "xgzip", "gzipx"};
    struct fm_page page;
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        CHECK(fm_page_find("/app.css", NULL, yes[i], &page));
        CHECK_STR_EQ(header(&page, "Content-Encoding"), "gzip");
        CHECK_UINT_EQ(page.size, fm_web_file_find("/app.css")->gzip_size);
    }
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
        CHECK(fm_page_find("/app.css", NULL, no[i], &page));
        CHECK(header(&page, "Content-Encoding") == NULL);
    }
}

TEST(not_sent_again)
{
    struct fm_page page;
    char list[128];
    const char *etag = fm_web_file_find("/try")->etag;
    (void)snprintf(list, sizeof(list), "\"other\", W/%s", etag);
    const char *const known[] = {etag, list, "*", " *"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        CHECK(fm_page_find("/try", known[i], "gzip", &page));
        CHECK_INT_EQ(page.status, 304);
        CHECK_UINT_EQ(page.size, 0);
        CHECK_STR_EQ(header(&page, "ETag"), etag);
    }
    CHECK(fm_page_find("/try", "\"other\"", NULL, &page));
    CHECK_INT_EQ(page.status, 200);
}

TEST_MAIN()
