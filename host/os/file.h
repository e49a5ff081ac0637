/*
 * Files: whole-file reading with limits, directory listing in a fixed order, durable writing.
 *
 * Every message names the path and the reason. Every descriptor is close-on-exec. Thread rule: no
 * shared state.
 */
#ifndef FM_HOST_OS_FILE_H
#define FM_HOST_OS_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

enum fm_file_kind { FM_FILE_ABSENT, FM_FILE_REGULAR, FM_FILE_DIRECTORY, FM_FILE_OTHER };

struct fm_file_facts {
    enum fm_file_kind kind;
    uint64_t size;
    uint64_t modified_ns; /* wall clock */
    uint64_t inode;
};

/* Absent is not an error: kind says so. */
int FM_NODISCARD fm_file_stat(const char *path, struct fm_file_facts *ret_facts,
                              struct fm_error *reterr);

/*
 * The whole file in memory from fm_alloc (the caller fm_frees it), with a NUL behind it that size
 * does not count. A directory, an unreadable file and one above bytes_max are errors (EINVAL,
 * EPERM, ETOOLARGE, ENOTFOUND, EIO).
 */
int FM_NODISCARD fm_file_read(const char *path, size_t bytes_max, char **ret_data, size_t *ret_size,
                              struct fm_error *reterr);
/* The same for a file with secrets: one that anybody but this user and root may read or change, or
 * that belongs to somebody else, is FM_EPERM. */
int FM_NODISCARD fm_file_read_secret(const char *path, size_t bytes_max, char **ret_data,
                                     size_t *ret_size, struct fm_error *reterr);
/* Standard input to its end, likewise. */
int FM_NODISCARD fm_file_read_stdin(size_t bytes_max, char **ret_data, size_t *ret_size,
                                    struct fm_error *reterr);
/* The next bytes of standard input, up to `size` > 0; none: it is over. */
int FM_NODISCARD fm_file_stdin_take(void *data, size_t size, size_t *ret_size,
                                    struct fm_error *reterr);

/* Whether something lies on standard input now that nobody has read: the rest of a file, what is in
 * a pipe. False where that is not known, as of a terminal. */
bool fm_file_stdin_has_data(void);

/*
 * Creates or replaces: writes a file of a random name in its directory (.fermata-XXXXXXXX.tmp),
 * fsyncs, renames, fsyncs the directory. On failure nothing of it is left; of several at once the
 * last one wins. A symbolic link is followed; a device or FIFO is written to and stays what it is.
 */
int FM_NODISCARD fm_file_write_atomic(const char *path, const void *data, size_t size,
                                      struct fm_error *reterr);

/*
 * Whether fm_file_write_atomic(path) could begin now, without creating or changing anything: to be
 * asked before long work whose result goes there. The same error codes as writing.
 */
int FM_NODISCARD fm_file_check_writable(const char *path, struct fm_error *reterr);

/*
 * Whether two paths lead to one file: the same device and inode, or, of files that are not there
 * yet, the same name in the same directory. Links are followed, also to what is not there. False
 * where one of them cannot be looked at: it can be neither read nor written.
 */
bool fm_file_is_same(const char *left, const char *right);

/* A new directory that only this user may enter, in $TMPDIR or /tmp, its name beginning with
 * `prefix`. */
int FM_NODISCARD fm_file_make_temporary(const char *prefix, char *ret_path, size_t size,
                                        struct fm_error *reterr);
/* A directory with all that is in it. Links are removed, not followed. Absent is fine. */
int FM_NODISCARD fm_file_remove_tree(const char *path, struct fm_error *reterr);
int FM_NODISCARD fm_file_make_directories(const char *path,
                                          struct fm_error *reterr);         /* as mkdir -p */
int FM_NODISCARD fm_file_remove(const char *path, struct fm_error *reterr); /* absent is fine */
int FM_NODISCARD fm_file_rename(const char *from, const char *to, struct fm_error *reterr);
int FM_NODISCARD fm_file_sync(const char *path, struct fm_error *reterr); /* what others wrote */
int FM_NODISCARD fm_file_sync_directory(const char *path, struct fm_error *reterr);
/* A descriptor of a directory, close-on-exec: through /proc it is a short name of it. Never 0. */
int FM_NODISCARD fm_file_directory_open(const char *path, int *ret_descriptor,
                                        struct fm_error *reterr);
void fm_file_directory_close(int descriptor); /* accepts 0 */

/* A file being written. Zero-initialise. */
struct fm_file_writer {
    int descriptor;
    bool open;
    uint64_t size;
    char path[4096];
};
int FM_NODISCARD fm_file_writer_open(struct fm_file_writer *writer, const char *path,
                                     struct fm_error *reterr); /* truncates */
/* A file that only this user may read, and that must not exist yet (FM_EEXIST), not even as a link.
 */
int FM_NODISCARD fm_file_writer_open_private(struct fm_file_writer *writer, const char *path,
                                             struct fm_error *reterr);
/*
 * The two ends of fm_file_write_atomic, for what is too large to be in memory: opens a file of a
 * random name in the directory of `path`, and commits it and gives it that name, in place of what
 * is there (a link itself, not what it leads to). commit_new: FM_EEXIST where anything is there, be
 * it a link that leads nowhere. When the second fails nothing of it is left; only where the
 * directory alone could not be brought to the disk (FM_EIO) the file is there, under its name.
 */
int FM_NODISCARD fm_file_writer_open_beside(struct fm_file_writer *writer, const char *path,
                                            struct fm_error *reterr);
int FM_NODISCARD fm_file_writer_commit_as(struct fm_file_writer *writer, const char *path,
                                          struct fm_error *reterr);
int FM_NODISCARD fm_file_writer_commit_new(struct fm_file_writer *writer, const char *path,
                                           struct fm_error *reterr);
int FM_NODISCARD fm_file_writer_append(struct fm_file_writer *writer, const void *data, size_t size,
                                       struct fm_error *reterr);
/* Flushes to the disk (fsync) and closes. The writer is closed in any case. */
int FM_NODISCARD fm_file_writer_commit(struct fm_file_writer *writer, struct fm_error *reterr);
void fm_file_writer_abandon(
    struct fm_file_writer *writer); /* closes and removes; fine when not open */

/* Names in a directory (without . and ..), in byte order. fm_free each and the array:
 * fm_file_list_free. */
struct fm_file_list {
    char **names;
    size_t count;
};
int FM_NODISCARD fm_file_list(const char *directory, struct fm_file_list *ret_list,
                              struct fm_error *reterr);
void fm_file_list_free(struct fm_file_list *list);

/* "a/b" + "c" -> "a/b/c"; an absolute second part replaces the first. FM_ETOOLARGE when it does not
 * fit. */
int FM_NODISCARD fm_path_join(char *ret_path, size_t size, const char *directory, const char *name);
/* The directory part: "a/b.yaml" -> "a", "b.yaml" -> ".". */
int FM_NODISCARD fm_path_directory(char *ret_path, size_t size, const char *path);
/* The absolute path of something that exists, without symbolic links, "." and "..". */
int FM_NODISCARD fm_path_real(char *ret_path, size_t size, const char *path,
                              struct fm_error *reterr);
const char *fm_path_base(const char *path);
const char *fm_path_extension(const char *path); /* ".jpg" or "" */

#endif
