/*
 * Programs of the user's as children of this process, with pipes on their standard files.
 *
 * Owns: starting one, ending it with all that it has started, its end. Does not own: what is said
 * through the pipes (program_pipe.h), who watches (program_keeper.h). Thread rule: one program, one
 * thread at a time.
 *
 * A program gets a session and process group of its own (a terminal's Ctrl-C is for us), default
 * signals, our environment, and no descriptor of ours but its three and `memory`. It dies with the
 * thread that started it, whatever ends that one: SIGKILL, too.
 */
#ifndef FM_HOST_OS_PROGRAM_H
#define FM_HOST_OS_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_PROGRAM_MEMORY 3 /* the number of its descriptor behind the standard files */

/* Borrowed during the start. */
struct fm_program_command {
    const char *path;             /* from fm_program_find */
    const char *const *arguments; /* NULL-terminated; the first one is the name */
    const char *directory;        /* where it runs */
    int memory;                   /* a descriptor that it gets as FM_PROGRAM_MEMORY; 0, -1: none */
};

struct fm_program {
    int process; /* 0: none */
    /* Ours, not blocking, close-on-exec; -1: none. */
    int input;  /* its standard input, to be written */
    int output; /* its standard output, to be read */
    int error;  /* its standard error, to be read */
    int exit;   /* can be read once it has ended; -1 where the kernel has no such thing */
};

struct fm_program_end {
    int code;   /* of its exit */
    int signal; /* that ended it; 0: none did */
    bool known; /* false: somebody else has taken the answer */
};

/* The path to execute: a name with '/' is relative to `directory`, another one is searched on PATH.
 * FM_ENOTFOUND, FM_EPERM and FM_ETOOLARGE with words. */
int FM_NODISCARD fm_program_find(const char *name, const char *directory, char *ret_path,
                                 size_t size, struct fm_error *reterr);

/* FM_EIO, FM_ENOMEM with words. */
int FM_NODISCARD fm_program_start(const struct fm_program_command *command,
                                  struct fm_program *ret_program, struct fm_error *reterr);
/* Ends it and all of its process group. To be called before it is reaped: then its number may be
 * another's. */
void fm_program_kill(const struct fm_program *program);
/* True when it has ended; what it has left behind in its group is ended, too, and its number is
 * gone. Does not wait. */
bool fm_program_reap(struct fm_program *program, struct fm_program_end *ret_end);
/* "exit code 3", "signal 11 (Segmentation fault)". */
void fm_program_describe(const struct fm_program_end *end, char *text, size_t size);
void fm_program_descriptor_close(int *descriptor); /* accepts -1; sets it */

#endif
