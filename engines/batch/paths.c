/*
 * Spelling of paths. See paths.h.
 */
#include "engines/batch/paths.h"

#include <string.h>

#include "core/util/error.h"
#include "host/os/file.h"
#include "host/os/tree.h"

enum { PATH_SIZE = 4096 };

/* Whether taking ".." from `kept`, of which the last name begins at `parent`, leads where going
 * there does. What does not exist is no link. */
static bool parent_is_plain(const char *base, const char *kept, size_t parent)
{
    static const char up[] = "/..";
    char opened[2 * PATH_SIZE + sizeof(up)];
    char through[PATH_SIZE];
    char direct[PATH_SIZE];
    if (fm_path_join(opened, sizeof(opened) - sizeof(up), base, kept) != 0) {
        return false;
    }
    size_t length = strlen(opened);
    memcpy(opened + length, up, sizeof(up));
    if (fm_tree_resolve(opened, through, sizeof(through), NULL) != 0) {
        return true;
    }
    opened[length - (strlen(kept) - parent)] = '\0';
    return fm_tree_resolve(opened[0] != '\0' ? opened : ".", direct, sizeof(direct), NULL) == 0 &&
           strcmp(through, direct) == 0;
}

int fm_paths_tidy(const char *base, const char *path, char *ret_path, size_t size)
{
    char kept[PATH_SIZE] = "";
    size_t used = 0;
    size_t root = path[0] == '/' ? 1 : 0;
    if (strlen(path) + 2 > sizeof(kept)) {
        return FM_ETOOLARGE;
    }
    memcpy(kept, "/", root);
    used = root;
    for (const char *name = path; *name != '\0';) {
        size_t length = strcspn(name, "/");
        size_t last = used;
        while (last > root && kept[last - 1] != '/') {
            last--;
        }
        bool dots = length == 2 && name[0] == '.' && name[1] == '.';
        bool named = used > root && strcmp(kept + last, "..") != 0;
        if (dots && root == 1 && used == root) {
            /* Above the root is the root. */
        } else if (dots && named && parent_is_plain(base, kept, last)) {
            used = last > root ? last - 1 : root;
        } else if (length > 0 && !(length == 1 && name[0] == '.')) {
            if (used > root) {
                kept[used++] = '/';
            }
            memcpy(kept + used, name, length);
            used += length;
        }
        kept[used] = '\0';
        name += length + (name[length] == '/' ? 1 : 0);
    }
    const char *result = used > 0 ? kept : ".";
    if (strlen(result) + 1 > size) {
        return FM_ETOOLARGE;
    }
    memcpy(ret_path, result, strlen(result) + 1);
    return 0;
}

int fm_paths_resolve(const char *path, char *ret_path, size_t size, struct fm_error *reterr)
{
    char there[PATH_SIZE];
    char found[PATH_SIZE];
    size_t length = strlen(path);
    if (length + 1 > sizeof(there)) {
        return fm_error_set(reterr, FM_ETOOLARGE, "the path '%.200s...' is too long", path);
    }
    memcpy(there, path, length + 1);
    for (;;) {
        struct fm_error error = {0};
        int status = fm_tree_resolve(length > 0 ? there : ".", found, sizeof(found), &error);
        if (status == 0) {
            break;
        }
        if (status != FM_ENOTFOUND || length == 0) {
            return fm_error_set(reterr, status, "%s", error.text);
        }
        /* One name less; the root always resolves. */
        while (length > 0 && there[length - 1] == '/') {
            length--;
        }
        while (length > 0 && there[length - 1] != '/') {
            length--;
        }
        there[length] = '\0';
    }
    char joined[2 * PATH_SIZE];
    const char *rest = path + length;
    int status = rest[0] == '\0'
                     ? fm_path_join(joined, sizeof(joined), "", found)
                     : fm_path_join(joined, sizeof(joined), found, rest + strspn(rest, "/"));
    status = status != 0 ? status : fm_paths_tidy("", joined, ret_path, size);
    return status == 0 ? 0 : fm_error_set(reterr, status, "the path '%.200s...' is too long", path);
}

const char *fm_paths_below(const char *base, const char *path)
{
    size_t length = strlen(base);
    if (strcmp(base, "/") == 0) {
        return path[0] == '/' ? path + 1 : NULL;
    }
    if (strncmp(base, path, length) != 0) {
        return NULL;
    }
    return path[length] == '\0' ? "" : path[length] == '/' ? path + length + 1 : NULL;
}
