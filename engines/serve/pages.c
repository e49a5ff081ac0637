/*
 * Answering with a page. See pages.h.
 */
#include "engines/serve/pages.h"

#include <string.h>
#include <strings.h>

#include "web/web.h"

/* Is `etag` one of the list? Weak tags (W/) compare equal to strong ones here, as they should. */
static bool tag_matches(const char *list, const char *etag)
{
    if (list == NULL) {
        return false;
    }
    list += strspn(list, " \t");
    return strcmp(list, "*") == 0 || strstr(list, etag) != NULL;
}

/* Does "gzip, deflate;q=0.5" allow gzip? q=0 forbids it. */
static bool gzip_allowed(const char *list)
{
    for (const char *at = list; at != NULL && *at != '\0';) {
        at += strspn(at, " \t,");
        size_t name = strcspn(at, " \t,;");
        size_t length = strcspn(at, ",");
        if (name == 4 && strncasecmp(at, "gzip", 4) == 0) {
            const char *quality = memchr(at, '=', length);
            return quality == NULL ||
                   strcspn(quality, "123456789") < (size_t)(at + length - quality);
        }
        at += length;
    }
    return false;
}

static void header_add(struct fm_page *page, const char *name, const char *value)
{
    page->headers[page->header_count++] = (struct fm_page_header){name, value};
}

bool fm_page_find(const char *path, const char *if_none_match, const char *accept_encoding,
                  struct fm_page *ret_page)
{
    const struct fm_web_file *file = fm_web_file_find(path);
    if (file == NULL) {
        return false;
    }
    *ret_page = (struct fm_page){.status = 200, .content_type = file->content_type};
    header_add(ret_page, "ETag", file->etag);
    /* Asked for again each time, answered with 304: a new server's pages show at once. */
    header_add(ret_page, "Cache-Control", "no-cache");
    header_add(ret_page, "Vary", "Accept-Encoding");
    header_add(ret_page, "Content-Security-Policy", FM_WEB_POLICY);
    header_add(ret_page, "X-Content-Type-Options", "nosniff");
    header_add(ret_page, "Referrer-Policy", "no-referrer");
    if (tag_matches(if_none_match, file->etag)) {
        ret_page->status = 304;
        ret_page->content_type = NULL;
    } else if (file->gzip != NULL && gzip_allowed(accept_encoding)) {
        header_add(ret_page, "Content-Encoding", "gzip");
        ret_page->bytes = file->gzip;
        ret_page->size = file->gzip_size;
    } else {
        ret_page->bytes = file->bytes;
        ret_page->size = file->size;
    }
    return true;
}
