/*
 * Looking up a page. See web.h.
 */
#include "web/web.h"

#include <string.h>

const struct fm_web_file *fm_web_file_find(const char *path)
{
    for (size_t i = 0; i < fm_web_file_count; i++) {
        if (strcmp(fm_web_files[i].path, path) == 0) {
            return &fm_web_files[i];
        }
    }
    return NULL;
}
