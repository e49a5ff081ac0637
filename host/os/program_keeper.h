/*
 * The thread that programs hang on: it starts them, reads their standard error, sees them end.
 *
 * Owns: that thread, the children, their standard error. Does not own: their other two pipes
 * (whoever asked for the start does), when to start again. Thread rule: from any thread, except
 * that one seat is used by one thread at a time; `line` and `ended` are called on the keeper's own
 * thread and do not call back.
 *
 * A program dies with the thread that started it (program.h): that thread has to be one that stays.
 */
#ifndef FM_HOST_OS_PROGRAM_KEEPER_H
#define FM_HOST_OS_PROGRAM_KEEPER_H

#include "host/os/program.h"

#define FM_KEEPER_LINE_BYTES_MAX 1000 /* of standard error; a longer line comes in pieces */

struct fm_keeper;

struct fm_keeper_options {
    uint32_t seats; /* programs at once */
    /* A line of standard error, without its end; printable UTF-8. */
    void (*line)(void *context, uint32_t seat, int process, const char *text);
    void *context;
};

int FM_NODISCARD fm_keeper_create(const struct fm_keeper_options *options,
                                  struct fm_keeper **ret_keeper, struct fm_error *reterr);
/* Ends what still runs. Accepts NULL. */
void fm_keeper_destroy(struct fm_keeper *keeper);

/* Starts a program on an empty seat. Its input and output are the caller's then, who closes them;
 * what else it has is the keeper's. */
int FM_NODISCARD fm_keeper_start(struct fm_keeper *keeper, uint32_t seat,
                                 const struct fm_program_command *command,
                                 struct fm_program *ret_program, struct fm_error *reterr);
/* Whether the seat's program runs still. */
bool fm_keeper_runs(struct fm_keeper *keeper, uint32_t seat);
/*
 * Empties the seat: waits for the end of its program, which is killed with its group at
 * kill_at_ns (as fm_os_now_ns()), if it runs then: true. Afterwards all that it wrote to its
 * standard error has been told.
 */
bool fm_keeper_end(struct fm_keeper *keeper, uint32_t seat, uint64_t kill_at_ns,
                   struct fm_program_end *ret_end);

#endif
