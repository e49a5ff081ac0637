/*
 * Addresses of SQLite's. See sqlite_uri.h.
 */
#include "host/source/sqlite_uri.h"

void fm_sqlite_immutable_uri(const char *path, struct fm_text *uri)
{
    fm_text_append_string(uri, "file:");
    for (const char *c = path; *c != '\0'; c++) {
        bool plain = *c == '/' || *c == '.' || (*c >= '0' && *c <= '9') ||
                     (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z');
        fm_text_append_format(uri, plain ? "%c" : "%%%02X", (unsigned char)*c);
    }
    fm_text_append_string(uri, "?immutable=1");
}
