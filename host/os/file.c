/*
 * Files. See file.h.
 */
#include "host/os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/os.h"

#define LINKS_MAX   40 /* as the kernel follows */
#define NAMES_TRIED 8

enum { TREE_DEPTH_MAX = 64 };

static int status_from_errno(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return FM_ENOTFOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return FM_EPERM;
    case ENOSPC:
    case EDQUOT:
        return FM_ENOSPC;
    case ENOMEM:
        return FM_ENOMEM;
    case EMFILE:
    case ENFILE:
        return FM_ELIMIT;
    case EEXIST:
        return FM_EEXIST;
    case ENAMETOOLONG:
        return FM_ETOOLARGE;
    case EISDIR:
    case ELOOP:
        return FM_EINVAL;
    default:
        return FM_EIO;
    }
}

/* "cannot <verb> '<path>': <reason>". */
static int error_from_errno(struct fm_error *reterr, const char *verb, const char *path, int error)
{
    char reason[128];
    /* The GNU strerror_r returns the text, which may or may not be in `reason`. */
    const char *text = strerror_r(error, reason, sizeof(reason));
    return fm_error_set(reterr, status_from_errno(error), "cannot %s '%s': %s", verb, path, text);
}

int fm_file_stat(const char *path, struct fm_file_facts *ret_facts, struct fm_error *reterr)
{
    struct stat facts;
    memset(ret_facts, 0, sizeof(*ret_facts));
    if (stat(path, &facts) != 0) {
        if (errno == ENOENT || errno == ENOTDIR) {
            return 0;
        }
        return error_from_errno(reterr, "look at", path, errno);
    }
    ret_facts->kind = S_ISREG(facts.st_mode)   ? FM_FILE_REGULAR
                      : S_ISDIR(facts.st_mode) ? FM_FILE_DIRECTORY
                                               : FM_FILE_OTHER;
    ret_facts->size = (uint64_t)facts.st_size;
    ret_facts->modified_ns =
        (uint64_t)facts.st_mtim.tv_sec * 1000000000u + (uint64_t)facts.st_mtim.tv_nsec;
    ret_facts->inode = (uint64_t)facts.st_ino;
    return 0;
}

/* Reads a descriptor to its end. `hint` is the expected size. */
static int descriptor_read(int descriptor, const char *path, size_t hint, size_t bytes_max,
                           char **ret_data, size_t *ret_size, struct fm_error *reterr)
{
    /* One byte more than expected, so that a file of the hinted size needs no growth to notice its
     * end; and one for the NUL. */
    size_t capacity = hint < bytes_max ? hint + 2 : bytes_max + 2;
    char *data = fm_alloc(capacity);
    size_t size = 0;
    int status = 0;
    if (data == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "cannot read '%s': out of memory for %zu bytes",
                            path, capacity);
    }
    for (;;) {
        if (size > bytes_max) {
            status = fm_error_set(reterr, FM_ETOOLARGE,
                                  "cannot read '%s': larger than the limit of %zu bytes", path,
                                  bytes_max);
            break;
        }
        if (size + 1 == capacity) {
            capacity = capacity > bytes_max / 2 ? bytes_max + 2 : capacity * 2;
            char *grown = fm_realloc(data, capacity);
            if (grown == NULL) {
                status =
                    fm_error_set(reterr, FM_ENOMEM, "cannot read '%s': out of memory for %zu bytes",
                                 path, capacity);
                break;
            }
            data = grown;
        }
        ssize_t got = read(descriptor, data + size, capacity - 1 - size);
        if (got == 0) {
            data[size] = '\0';
            *ret_data = data;
            *ret_size = size;
            return 0;
        }
        if (got > 0) {
            size += (size_t)got;
        } else if (errno != EINTR) {
            status = error_from_errno(reterr, "read", path, errno);
            break;
        }
    }
    fm_free(data);
    return status;
}

static int file_read(const char *path, bool secret, size_t bytes_max, char **ret_data,
                     size_t *ret_size, struct fm_error *reterr)
{
    /* O_NONBLOCK so that a FIFO without a writer cannot hang us; it means nothing for regular
     * files. */
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        return error_from_errno(reterr, "open", path, errno);
    }
    struct stat facts;
    int status = 0;
    if (fstat(descriptor, &facts) != 0) {
        status = error_from_errno(reterr, "look at", path, errno);
    } else if (S_ISDIR(facts.st_mode)) {
        status = fm_error_set(reterr, FM_EINVAL, "cannot read '%s': it is a directory, not a file",
                              path);
    } else if (!S_ISREG(facts.st_mode)) {
        status =
            fm_error_set(reterr, FM_EINVAL, "cannot read '%s': it is not a regular file", path);
    } else if (secret && (facts.st_mode & 077) != 0) {
        status = fm_error_set(reterr, FM_EPERM,
                              "'%s' holds secrets, but others may use it (mode %03o): chmod 600 it",
                              path, (unsigned)facts.st_mode & 0777u);
    } else if (secret && facts.st_uid != geteuid() && facts.st_uid != 0) {
        status = fm_error_set(reterr, FM_EPERM,
                              "'%s' holds secrets, but belongs to another user (%u): chown it to "
                              "the one who runs this (%u)",
                              path, (unsigned)facts.st_uid, (unsigned)geteuid());
    } else if ((uint64_t)facts.st_size > bytes_max) {
        status = fm_error_set(reterr, FM_ETOOLARGE,
                              "cannot read '%s': its %lld bytes are more than the limit of %zu",
                              path, (long long)facts.st_size, bytes_max);
    } else {
        status = descriptor_read(descriptor, path, (size_t)facts.st_size, bytes_max, ret_data,
                                 ret_size, reterr);
    }
    close(descriptor);
    return status;
}

int fm_file_read(const char *path, size_t bytes_max, char **ret_data, size_t *ret_size,
                 struct fm_error *reterr)
{
    return file_read(path, false, bytes_max, ret_data, ret_size, reterr);
}

int fm_file_read_secret(const char *path, size_t bytes_max, char **ret_data, size_t *ret_size,
                        struct fm_error *reterr)
{
    return file_read(path, true, bytes_max, ret_data, ret_size, reterr);
}

int fm_file_read_stdin(size_t bytes_max, char **ret_data, size_t *ret_size, struct fm_error *reterr)
{
    return descriptor_read(STDIN_FILENO, "standard input", 65536, bytes_max, ret_data, ret_size,
                           reterr);
}

int fm_file_stdin_take(void *data, size_t size, size_t *ret_size, struct fm_error *reterr)
{
    ssize_t got = 0;
    do {
        got = read(STDIN_FILENO, data, size);
    } while (got < 0 && errno == EINTR);
    *ret_size = got > 0 ? (size_t)got : 0;
    return got >= 0 ? 0 : error_from_errno(reterr, "read", "standard input", errno);
}

bool fm_file_stdin_has_data(void)
{
    struct stat facts;
    int bytes = 0;
    if (fstat(STDIN_FILENO, &facts) != 0) {
        return false;
    }
    if (S_ISREG(facts.st_mode)) {
        off_t at = lseek(STDIN_FILENO, 0, SEEK_CUR);
        return at >= 0 && at < facts.st_size;
    }
    return (S_ISFIFO(facts.st_mode) || S_ISSOCK(facts.st_mode)) &&
           ioctl(STDIN_FILENO, FIONREAD, &bytes) == 0 && bytes > 0;
}

static int writer_open(struct fm_file_writer *writer, const char *path, int flags, mode_t mode,
                       struct fm_error *reterr)
{
    int length = snprintf(writer->path, sizeof(writer->path), "%s", path);
    if (length < 0 || (size_t)length >= sizeof(writer->path)) {
        return fm_error_set(reterr, FM_ETOOLARGE, "cannot write '%.100s...': the path is too long",
                            path);
    }
    writer->descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, mode);
    if (writer->descriptor < 0) {
        return error_from_errno(reterr, "create", path, errno);
    }
    writer->open = true;
    writer->size = 0;
    return 0;
}

int fm_file_writer_open(struct fm_file_writer *writer, const char *path, struct fm_error *reterr)
{
    return writer_open(writer, path, O_TRUNC, 0644, reterr);
}

int fm_file_writer_open_private(struct fm_file_writer *writer, const char *path,
                                struct fm_error *reterr)
{
    return writer_open(writer, path, O_EXCL | O_NOFOLLOW, 0600, reterr);
}

int fm_file_writer_append(struct fm_file_writer *writer, const void *data, size_t size,
                          struct fm_error *reterr)
{
    const char *bytes = data;
    while (size > 0) {
        ssize_t written = write(writer->descriptor, bytes, size);
        if (written < 0) {
            if (errno == EINTR) {
                continue;
            }
            return error_from_errno(reterr, "write", writer->path, errno);
        }
        bytes += written;
        size -= (size_t)written;
        writer->size += (uint64_t)written;
    }
    return 0;
}

int fm_file_writer_commit(struct fm_file_writer *writer, struct fm_error *reterr)
{
    int status = 0;
    if (fsync(writer->descriptor) != 0) {
        status = error_from_errno(reterr, "flush", writer->path, errno);
    }
    writer->open = false;
    if (close(writer->descriptor) != 0 && status == 0) {
        status = error_from_errno(reterr, "close", writer->path, errno);
    }
    return status;
}

void fm_file_writer_abandon(struct fm_file_writer *writer)
{
    if (writer->open) {
        close(writer->descriptor);
        unlink(writer->path);
        writer->open = false;
    }
}

/* Devices and FIFOs are written to, never replaced. */
static int write_through(const char *path, const void *data, size_t size, struct fm_error *reterr)
{
    struct fm_file_writer writer = {0};
    int status = fm_file_writer_open(&writer, path, reterr);
    if (status != 0) {
        return status;
    }
    status = fm_file_writer_append(&writer, data, size, reterr);
    if (close(writer.descriptor) != 0 && status == 0) {
        status = error_from_errno(reterr, "close", path, errno);
    }
    return status;
}

int fm_file_writer_open_beside(struct fm_file_writer *writer, const char *path,
                               struct fm_error *reterr)
{
    char temporary[PATH_MAX];
    char directory[PATH_MAX];
    int status = fm_path_directory(directory, sizeof(directory), path);
    if (status != 0) {
        return fm_error_set(reterr, status, "cannot write '%.100s...': the path is too long", path);
    }
    /* A name of its own, and nothing that is there: neither another writer's nor a link. */
    status = FM_EEXIST;
    for (uint32_t i = 0; i < NAMES_TRIED && status == FM_EEXIST; i++) {
        int length = snprintf(temporary, sizeof(temporary), "%s/.fermata-%08x.tmp", directory,
                              (unsigned)(fm_os_entropy() & UINT32_MAX));
        if (length < 0 || (size_t)length >= sizeof(temporary)) {
            return fm_error_set(reterr, FM_ETOOLARGE,
                                "cannot write '%.100s...': the path is too long", path);
        }
        status = writer_open(writer, temporary, O_EXCL | O_NOFOLLOW, 0644, reterr);
    }
    /* The name that failed is of no file that anybody knows. */
    return status == 0 ? 0 : fm_error_prefix(reterr, status, "cannot write '%s'", path);
}

/* As fm_file_rename, where nothing is. */
static int rename_new(const char *from, const char *to, struct fm_error *reterr)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) {
        return 0;
    }
    if (errno != EINVAL && errno != ENOSYS) {
        return error_from_errno(reterr, "create", to, errno);
    }
    /* A file system that cannot; most of those have links. */
    if (link(from, to) != 0) {
        return error_from_errno(reterr, "create", to, errno);
    }
    unlink(from);
    return 0;
}

static int commit_named(struct fm_file_writer *writer, const char *path, bool replace,
                        struct fm_error *reterr)
{
    char directory[PATH_MAX];
    int status = fm_path_directory(directory, sizeof(directory), path);
    if (status != 0) {
        fm_file_writer_abandon(writer);
        return fm_error_set(reterr, status, "cannot write '%.100s...': the path is too long", path);
    }
    status = fm_file_writer_commit(writer, reterr);
    if (status == 0) {
        status = replace ? fm_file_rename(writer->path, path, reterr)
                         : rename_new(writer->path, path, reterr);
    }
    if (status != 0) {
        unlink(writer->path);
        return fm_error_prefix(reterr, status, "cannot write '%s'", path);
    }
    return fm_file_sync_directory(directory, reterr);
}

int fm_file_writer_commit_as(struct fm_file_writer *writer, const char *path,
                             struct fm_error *reterr)
{
    return commit_named(writer, path, true, reterr);
}

int fm_file_writer_commit_new(struct fm_file_writer *writer, const char *path,
                              struct fm_error *reterr)
{
    return commit_named(writer, path, false, reterr);
}

int fm_file_write_atomic(const char *path, const void *data, size_t size, struct fm_error *reterr)
{
    struct fm_file_writer writer = {0};
    char target[PATH_MAX];
    struct stat facts;
    if (lstat(path, &facts) == 0 && !S_ISREG(facts.st_mode)) {
        /* A link is followed, so that what it names is replaced and the link stays. */
        if (S_ISLNK(facts.st_mode) && realpath(path, target) != NULL &&
            lstat(target, &facts) == 0) {
            path = target;
        }
        if (!S_ISREG(facts.st_mode)) {
            return write_through(path, data, size, reterr);
        }
    }
    int status = fm_file_writer_open_beside(&writer, path, reterr);
    if (status != 0) {
        return status;
    }
    status = fm_file_writer_append(&writer, data, size, reterr);
    if (status != 0) {
        fm_file_writer_abandon(&writer);
        return fm_error_prefix(reterr, status, "cannot write '%s'", path);
    }
    return fm_file_writer_commit_as(&writer, path, reterr);
}

/* The directory that a new file at `path` would lie in. */
static int directory_check(const char *path, struct fm_error *reterr)
{
    char directory[PATH_MAX];
    struct stat facts;
    if (fm_path_directory(directory, sizeof(directory), path) != 0) {
        return fm_error_set(reterr, FM_ETOOLARGE, "cannot write '%.100s...': the path is too long",
                            path);
    }
    if (stat(directory, &facts) != 0) {
        return errno == ENOENT ? fm_error_set(reterr, FM_ENOTFOUND,
                                              "cannot write '%s': there is no directory '%s'; "
                                              "create it first",
                                              path, directory)
                               : error_from_errno(reterr, "write", path, errno);
    }
    if (!S_ISDIR(facts.st_mode)) {
        return fm_error_set(reterr, FM_EINVAL, "cannot write '%s': '%s' is not a directory", path,
                            directory);
    }
    return access(directory, W_OK | X_OK) == 0
               ? 0
               : error_from_errno(reterr, "create files in", directory, errno);
}

int fm_file_check_writable(const char *path, struct fm_error *reterr)
{
    char target[PATH_MAX];
    struct stat facts;
    if (path[0] == '\0') {
        return fm_error_set(reterr, FM_EINVAL, "the path of the file to write is empty");
    }
    if (stat(path, &facts) != 0) {
        return errno == ENOENT ? directory_check(path, reterr)
                               : error_from_errno(reterr, "write", path, errno);
    }
    if (S_ISDIR(facts.st_mode)) {
        return fm_error_set(reterr, FM_EINVAL, "cannot write '%s': it is a directory", path);
    }
    if (!S_ISREG(facts.st_mode)) {
        return access(path, W_OK) == 0 ? 0 : error_from_errno(reterr, "write", path, errno);
    }
    /* A regular file is replaced, where its link (if it is one) leads. */
    return directory_check(realpath(path, target) != NULL ? target : path, reterr);
}

/* Where a path leads: to something, or to a name in a directory that nothing has yet. */
struct place {
    dev_t device;
    ino_t inode;         /* of the file, or of the directory */
    char name[NAME_MAX]; /* "": it is there */
};

static bool place_of_absent(const char *path, struct place *ret_place)
{
    char directory[PATH_MAX];
    struct stat facts;
    if (fm_path_directory(directory, sizeof(directory), path) != 0 ||
        stat(directory, &facts) != 0) {
        return false;
    }
    int length = snprintf(ret_place->name, sizeof(ret_place->name), "%s", fm_path_base(path));
    ret_place->device = facts.st_dev;
    ret_place->inode = facts.st_ino;
    return length > 0 && (size_t)length < sizeof(ret_place->name);
}

static bool place_of(const char *path, struct place *ret_place)
{
    char at[PATH_MAX];
    struct stat facts;
    int length = snprintf(at, sizeof(at), "%s", path);
    if (length < 0 || (size_t)length >= sizeof(at)) {
        return false;
    }
    for (int links = 0; links < LINKS_MAX; links++) {
        char target[PATH_MAX];
        char directory[PATH_MAX];
        if (stat(at, &facts) == 0) {
            *ret_place = (struct place){.device = facts.st_dev, .inode = facts.st_ino};
            return true;
        }
        ssize_t size = readlink(at, target, sizeof(target) - 1);
        if (size < 0) {
            return place_of_absent(at, ret_place);
        }
        target[size] = '\0';
        if (fm_path_directory(directory, sizeof(directory), at) != 0 ||
            fm_path_join(at, sizeof(at), directory, target) != 0) {
            return false;
        }
    }
    return false;
}

bool fm_file_is_same(const char *left, const char *right)
{
    struct place one;
    struct place other;
    return place_of(left, &one) && place_of(right, &other) && one.device == other.device &&
           one.inode == other.inode && strcmp(one.name, other.name) == 0;
}

int fm_file_make_directories(const char *path, struct fm_error *reterr)
{
    char partial[PATH_MAX];
    int length = snprintf(partial, sizeof(partial), "%s", path);
    if (length < 0 || (size_t)length >= sizeof(partial)) {
        return fm_error_set(reterr, FM_ETOOLARGE, "cannot create '%.100s...': the path is too long",
                            path);
    }
    for (char *cursor = partial + 1;; cursor++) {
        if (*cursor != '/' && *cursor != '\0') {
            continue;
        }
        char kept = *cursor;
        *cursor = '\0';
        if (mkdir(partial, 0755) != 0 && errno != EEXIST) {
            return error_from_errno(reterr, "create directory", partial, errno);
        }
        *cursor = kept;
        if (kept == '\0') {
            break;
        }
    }
    struct fm_file_facts facts;
    int status = fm_file_stat(path, &facts, reterr);
    if (status == 0 && facts.kind != FM_FILE_DIRECTORY) {
        status = fm_error_set(reterr, FM_EEXIST,
                              "cannot create directory '%s': something else has that name", path);
    }
    return status;
}

int fm_file_remove(const char *path, struct fm_error *reterr)
{
    if (unlink(path) != 0 && errno != ENOENT) {
        return error_from_errno(reterr, "remove", path, errno);
    }
    return 0;
}

int fm_file_make_temporary(const char *prefix, char *ret_path, size_t size, struct fm_error *reterr)
{
    const char *base = fm_os_environment("TMPDIR");
    if (base == NULL || base[0] != '/') {
        base = "/tmp";
    }
    int length = snprintf(ret_path, size, "%s/%s-XXXXXX", base, prefix);
    if (length < 0 || (size_t)length >= size) {
        return fm_error_set(reterr, FM_ETOOLARGE,
                            "cannot create a directory in '%.200s': the path "
                            "is too long",
                            base);
    }
    return mkdtemp(ret_path) != NULL
               ? 0
               : error_from_errno(reterr, "create a directory in", base, errno);
}

static int tree_remove(const char *path, unsigned depth, struct fm_error *reterr)
{
    struct stat facts;
    struct fm_file_list list = {0};
    char inner[PATH_MAX];
    if (lstat(path, &facts) != 0) {
        return errno == ENOENT ? 0 : error_from_errno(reterr, "remove", path, errno);
    }
    if (!S_ISDIR(facts.st_mode)) {
        return fm_file_remove(path, reterr);
    }
    if (depth == TREE_DEPTH_MAX) {
        return fm_error_set(reterr, FM_ETOOLARGE, "cannot remove '%.200s': nested too deeply",
                            path);
    }
    int status = fm_file_list(path, &list, reterr);
    for (size_t i = 0; status == 0 && i < list.count; i++) {
        status = fm_path_join(inner, sizeof(inner), path, list.names[i]);
        status = status == 0 ? tree_remove(inner, depth + 1, reterr)
                             : fm_error_set(reterr, status, "'%.200s': the path is too long", path);
    }
    fm_file_list_free(&list);
    if (status == 0 && rmdir(path) != 0 && errno != ENOENT) {
        status = error_from_errno(reterr, "remove", path, errno);
    }
    return status;
}

int fm_file_remove_tree(const char *path, struct fm_error *reterr)
{
    return tree_remove(path, 0, reterr);
}

int fm_file_rename(const char *from, const char *to, struct fm_error *reterr)
{
    return rename(from, to) == 0 ? 0 : error_from_errno(reterr, "rename to", to, errno);
}

int fm_file_directory_open(const char *path, int *ret_descriptor, struct fm_error *reterr)
{
    int descriptor = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) {
        return error_from_errno(reterr, "open directory", path, errno);
    }
    FM_ASSERT(descriptor > 0); /* standard input is there (standard_files.h) */
    *ret_descriptor = descriptor;
    return 0;
}

void fm_file_directory_close(int descriptor)
{
    if (descriptor > 0) {
        (void)close(descriptor);
    }
}

int fm_file_sync(const char *path, struct fm_error *reterr)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        return error_from_errno(reterr, "open", path, errno);
    }
    int status = fsync(descriptor) == 0 ? 0 : error_from_errno(reterr, "flush", path, errno);
    close(descriptor);
    return status;
}

int fm_file_sync_directory(const char *path, struct fm_error *reterr)
{
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) {
        return error_from_errno(reterr, "open directory", path, errno);
    }
    int status = 0;
    /* Some file systems cannot sync a directory (EINVAL): they offer nothing better, so that is not
     * a failure. */
    if (fsync(descriptor) != 0 && errno != EINVAL) {
        status = error_from_errno(reterr, "flush directory", path, errno);
    }
    close(descriptor);
    return status;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int fm_file_list(const char *directory, struct fm_file_list *ret_list, struct fm_error *reterr)
{
    *ret_list = (struct fm_file_list){0};
    DIR *handle = opendir(directory);
    if (handle == NULL) {
        return error_from_errno(reterr, "list", directory, errno);
    }
    size_t capacity = 0;
    int status = 0;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(handle);
        if (entry == NULL) {
            status = errno == 0 ? 0 : error_from_errno(reterr, "list", directory, errno);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        if (ret_list->count == capacity) {
            capacity = capacity == 0 ? 32 : capacity * 2;
            char **grown = fm_realloc(ret_list->names, capacity * sizeof(*grown));
            if (grown == NULL) {
                status =
                    fm_error_set(reterr, FM_ENOMEM, "cannot list '%s': out of memory", directory);
                break;
            }
            ret_list->names = grown;
        }
        ret_list->names[ret_list->count] = fm_strdup(entry->d_name);
        if (ret_list->names[ret_list->count] == NULL) {
            status = fm_error_set(reterr, FM_ENOMEM, "cannot list '%s': out of memory", directory);
            break;
        }
        ret_list->count++;
    }
    closedir(handle);
    if (status != 0) {
        fm_file_list_free(ret_list);
    } else if (ret_list->count > 0) {
        qsort(ret_list->names, ret_list->count, sizeof(*ret_list->names), compare_names);
    }
    return status;
}

void fm_file_list_free(struct fm_file_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        fm_free(list->names[i]);
    }
    fm_free(list->names);
    *list = (struct fm_file_list){0};
}

int fm_path_join(char *ret_path, size_t size, const char *directory, const char *name)
{
    int length = 0;
    if (name[0] == '/' || directory[0] == '\0' || strcmp(directory, ".") == 0) {
        length = snprintf(ret_path, size, "%s", name);
    } else {
        bool slash = directory[strlen(directory) - 1] == '/';
        length = snprintf(ret_path, size, "%s%s%s", directory, slash ? "" : "/", name);
    }
    return length >= 0 && (size_t)length < size ? 0 : FM_ETOOLARGE;
}

int fm_path_directory(char *ret_path, size_t size, const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    if (length + 2 > size) {
        return FM_ETOOLARGE;
    }
    if (length == 0) {
        memcpy(ret_path, ".", 2);
    } else {
        memcpy(ret_path, path, length);
        ret_path[length] = '\0';
    }
    return 0;
}

int fm_path_real(char *ret_path, size_t size, const char *path, struct fm_error *reterr)
{
    char *real = realpath(path, NULL);
    if (real == NULL) {
        return error_from_errno(reterr, "resolve", path, errno);
    }
    int length = snprintf(ret_path, size, "%s", real);
    free(real);
    return length >= 0 && (size_t)length < size
               ? 0
               : fm_error_set(reterr, FM_ETOOLARGE, "cannot resolve '%s': the path is too long",
                              path);
}

const char *fm_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

const char *fm_path_extension(const char *path)
{
    const char *base = fm_path_base(path);
    const char *dot = strrchr(base, '.');
    return dot == NULL || dot == base ? "" : dot;
}
