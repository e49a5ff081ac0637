/*
 * The table of pages: all are there, as they lie in the tree, with types and tags.
 */
#include "web/web.h"

#include <stdbool.h>

#include "tests/harness/test.h"

TEST(pages_are_found_by_path)
{
    CHECK(fm_web_file_count >= 8);
    static const char *const paths[] = {"/",          "/try",          "/app.css", "/common.js",
                                        "/charts.js", "/dashboard.js", "/try.js",  "/icon.svg"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        const struct fm_web_file *file = fm_web_file_find(paths[i]);
        CHECK(file != NULL);
        CHECK(file->size > 100);
        CHECK(file->etag[0] == '"' && strlen(file->etag) == 22);
        CHECK(file->gzip == NULL || file->gzip_size < file->size);
    }
    CHECK_STR_CONTAINS(fm_web_file_find("/")->content_type, "text/html");
    CHECK_STR_CONTAINS(fm_web_file_find("/charts.js")->content_type, "text/javascript");
    CHECK(fm_web_file_find("/try")->gzip != NULL);
    CHECK(fm_web_file_find("/index.html") == NULL);
    CHECK(fm_web_file_find("") == NULL);
    CHECK(fm_web_file_find("/../web.h") == NULL);
}

TEST(bytes_are_those_of_the_tree)
{
    const struct fm_web_file *file = fm_web_file_find("/dashboard.js");
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/web/dashboard.js", getenv("FM_SOURCE_ROOT"));
    FILE *source = fopen(path, "re");
    CHECK(source != NULL);
    char *data = malloc(file->size + 1);
    CHECK(data != NULL);
    size_t size = fread(data, 1, file->size + 1, source);
    (void)fclose(source);
    CHECK_UINT_EQ(size, file->size);
    CHECK_MEM_EQ(data, file->bytes, size);
    free(data);
}

/* The policy forbids what is inline; a page that had some would work in no browser. */
TEST(nothing_is_inline_and_nothing_comes_from_elsewhere)
{
    for (size_t i = 0; i < fm_web_file_count; i++) {
        const struct fm_web_file *file = &fm_web_files[i];
        char *text = malloc(file->size + 1);
        CHECK(text != NULL);
        memcpy(text, file->bytes, file->size);
        text[file->size] = '\0';
        bool html = strstr(file->content_type, "html") != NULL;
        bool inline_style = html && strstr(text, " style=") != NULL;
        bool inline_script = html && (strstr(text, "<script>") != NULL || strstr(text, " onclick"));
        bool elsewhere = html && (strstr(text, "src=\"//") != NULL ||
                                  strstr(text, "http:") != NULL || strstr(text, "https:") != NULL);
        free(text);
        CHECK(!inline_style);
        CHECK(!inline_script);
        CHECK(!elsewhere);
    }
    CHECK_STR_CONTAINS(FM_WEB_POLICY, "default-src 'none'");
}

TEST_MAIN()
