/*
 * Which bytes answer a request for a page of the dashboard.
 *
 * Owns: the choice between the page, its compressed form and "not modified", and the headers that
 * go with it. Does not own: the pages (web), HTTP. Thread rule: pure.
 */
#ifndef FM_ENGINES_SERVE_PAGES_H
#define FM_ENGINES_SERVE_PAGES_H

#include <stdbool.h>
#include <stddef.h>

#define FM_PAGE_HEADERS 7u

struct fm_page_header {
    const char *name;
    const char *value;
};

/* Everything in it is constant. */
struct fm_page {
    int status; /* 200 or 304 */
    const char *content_type;
    const void *bytes; /* of a 304: none */
    size_t size;
    struct fm_page_header headers[FM_PAGE_HEADERS];
    size_t header_count;
};

/* False: there is no page at this path. The headers of the request may be NULL. */
bool fm_page_find(const char *path, const char *if_none_match, const char *accept_encoding,
                  struct fm_page *ret_page);

#endif
