/*
 * The pages of the dashboard, as they lie in the program.
 *
 * Owns: the table of files, made by web/embed.py from the files beside this header when Fermata is
 * built. Does not own: HTTP. Thread rule: constants.
 */
#ifndef FM_WEB_WEB_H
#define FM_WEB_WEB_H

#include <stddef.h>

/* What the pages may do: their own files and this server, nothing inline, nothing from elsewhere.
 * For the header Content-Security-Policy. */
#define FM_WEB_POLICY                                                                       \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; " \
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

struct fm_web_file {
    const char *path; /* of the request: "/", "/try", "/app.css" */
    const char *content_type;
    const char *etag; /* with its quotes; of these bytes */
    const unsigned char *bytes;
    size_t size;
    const unsigned char
        *gzip; /* the same with Content-Encoding: gzip; NULL where it is not smaller */
    size_t gzip_size;
};

extern const struct fm_web_file fm_web_files[];
extern const size_t fm_web_file_count;

/* NULL: there is none at this path. */
const struct fm_web_file *fm_web_file_find(const char *path);

#endif
