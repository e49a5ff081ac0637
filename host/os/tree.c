/*
 * Directory trees. See tree.h.
 */
#include "host/os/tree.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/util/error.h"
#include "host/os/file.h"

struct walk {
    const struct fm_tree_options *options;
    int (*each)(void *context, const char *path, uint64_t size);
    void *context;
    struct stat exclude;
    bool has_exclude;
    char exclude_path[PATH_MAX]; /* resolved */
    struct fm_error *reterr;
};

static int walk_directory(const struct walk *walk, const char *directory, const char *prefix,
                          int depth);

/* Whether a link leads to something in the excluded directory. */
static bool link_is_excluded(const struct walk *walk, const char *path)
{
    char target[PATH_MAX];
    size_t length = strlen(walk->exclude_path);
    return walk->has_exclude && realpath(path, target) != NULL &&
           strncmp(target, walk->exclude_path, length) == 0 && target[length] == '/';
}

/* One name of a directory: `path` to open it, `relative` to report it. */
static int walk_entry(const struct walk *walk, const char *path, const char *relative, int depth)
{
    struct stat facts;
    if (lstat(path, &facts) != 0) {
        return walk->each(walk->context, relative, FM_TREE_SIZE_UNKNOWN);
    }
    if (S_ISDIR(facts.st_mode)) {
        bool excluded = walk->has_exclude && facts.st_dev == walk->exclude.st_dev &&
                        facts.st_ino == walk->exclude.st_ino;
        bool deep = walk->options->levels > 0 && depth + 2 > walk->options->levels;
        return excluded || deep ? 0 : walk_directory(walk, path, relative, depth + 1);
    }
    if (S_ISLNK(facts.st_mode)) {
        if ((stat(path, &facts) == 0 && S_ISDIR(facts.st_mode)) || link_is_excluded(walk, path)) {
            return 0;
        }
    }
    return walk->each(walk->context, relative,
                      S_ISREG(facts.st_mode) ? (uint64_t)facts.st_size : FM_TREE_SIZE_UNKNOWN);
}

static int walk_directory(const struct walk *walk, const char *directory, const char *prefix,
                          int depth)
{
    struct fm_file_list list;
    char path[PATH_MAX];
    char relative[PATH_MAX];
    if (depth > FM_TREE_DEPTH_MAX) {
        return fm_error_set(walk->reterr, FM_ELIMIT,
                            "cannot list '%s': more than %d directories deep", directory,
                            FM_TREE_DEPTH_MAX);
    }
    int status = fm_file_list(directory, &list, walk->reterr);
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < list.count && status == 0; i++) {
        const char *name = list.names[i];
        if (walk->options->stopping != NULL && atomic_load(walk->options->stopping)) {
            status = fm_error_set(walk->reterr, FM_ECANCELLED, "stopped");
            break;
        }
        if (name[0] == '.' && !walk->options->hidden) {
            if (walk->options->ret_hidden != NULL) {
                ++*walk->options->ret_hidden;
            }
            continue;
        }
        if (fm_path_join(path, sizeof(path), directory, name) != 0 ||
            fm_path_join(relative, sizeof(relative), prefix, name) != 0) {
            status = fm_error_set(walk->reterr, FM_ETOOLARGE,
                                  "cannot list '%.200s': the paths in it are too long", directory);
            break;
        }
        status = walk_entry(walk, path, relative, depth);
    }
    fm_file_list_free(&list);
    return status;
}

int fm_tree_walk(const char *root, const struct fm_tree_options *options,
                 int (*each)(void *context, const char *path, uint64_t size), void *context,
                 struct fm_error *reterr)
{
    struct walk walk = {.options = options, .each = each, .context = context, .reterr = reterr};
    walk.has_exclude = options->exclude != NULL && stat(options->exclude, &walk.exclude) == 0 &&
                       realpath(options->exclude, walk.exclude_path) != NULL;
    return walk_directory(&walk, root, "", 0);
}

static bool is_directory(const char *path)
{
    struct stat facts;
    return lstat(path, &facts) == 0 && S_ISDIR(facts.st_mode);
}

static int directories_below(const char *path,
                             int (*each)(void *context, const char *path,
                                         const struct fm_error *trouble),
                             void *context, int depth)
{
    char inner[PATH_MAX];
    struct fm_file_list list = {0};
    struct fm_error trouble = {0};
    int status = each(context, path, NULL);
    if (status != 0) {
        return status > 0 ? 0 : status;
    }
    if (depth > FM_TREE_DEPTH_MAX) {
        (void)fm_error_set(&trouble, FM_ELIMIT, "'%.300s' lies more than %d directories deep", path,
                           FM_TREE_DEPTH_MAX);
    } else if (fm_file_list(path, &list, &trouble) != 0) {
        list = (struct fm_file_list){0};
    }
    if (trouble.status != 0) {
        status = each(context, path, &trouble);
        return status > 0 ? 0 : status;
    }
    for (size_t i = 0; i < list.count && status == 0; i++) {
        if (list.names[i][0] != '.' &&
            fm_path_join(inner, sizeof(inner), path, list.names[i]) == 0 && is_directory(inner)) {
            status = directories_below(inner, each, context, depth + 1);
        }
    }
    fm_file_list_free(&list);
    return status;
}

int fm_tree_directories(const char *root,
                        int (*each)(void *context, const char *path,
                                    const struct fm_error *trouble),
                        void *context)
{
    return directories_below(root, each, context, 0);
}

int fm_tree_resolve(const char *path, char *ret_path, size_t size, struct fm_error *reterr)
{
    char resolved[PATH_MAX];
    if (realpath(path, resolved) == NULL) {
        int status = errno == ENOENT || errno == ENOTDIR ? FM_ENOTFOUND
                     : errno == EACCES                   ? FM_EPERM
                                                         : FM_EIO;
        return fm_error_set(reterr, status, "cannot look at '%s': %s", path, strerror(errno));
    }
    if (strlen(resolved) + 1 > size) {
        return fm_error_set(reterr, FM_ETOOLARGE, "the path '%.200s...' is too long", resolved);
    }
    memcpy(ret_path, resolved, strlen(resolved) + 1);
    return 0;
}
