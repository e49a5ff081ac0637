/*
 * Files that a command reads and writes, held against one another before anything is written.
 *
 * Owns: refusing a call that would write over what it reads, or two results into one file, and what
 * to say when a result went to standard output and its reader has left. Does not own: files
 * (host/os/file.h). Thread rule: main thread.
 */
#ifndef FM_CMD_FILE_ARGUMENTS_H
#define FM_CMD_FILE_ARGUMENTS_H

#include "cmd/command.h"

struct fm_file_argument {
    const char *name; /* as the user knows it: "--trace", "SCENARIO" */
    const char *path; /* NULL: not given */
    bool written;
};

/*
 * FM_EINVAL, naming both: two of them are one file (whatever they are called, also through links)
 * of which at least one is written, or one that is written is called '-'. Devices and FIFOs, which
 * cannot be overwritten, may come twice.
 */
int FM_NODISCARD fm_file_arguments_check(const struct fm_file_argument *files, size_t count,
                                         struct fm_error *reterr);

/* fm_call_fail for a file that could not be written; FM_EXIT_ABANDONED, without words, when it is
 * standard output and who read it has left. */
int fm_file_argument_fail(const struct fm_call *call, const char *path,
                          const struct fm_error *error);

#endif
