/*
 * Standard input, output and error that are really there.
 *
 * Owns: filling the descriptors 0, 1 and 2 when the program was started without them
 * (`fermata ... <&- >&-`), because otherwise the next files that are opened would get these
 * numbers, and messages would be written into data; telling whether anybody still reads
 * descriptor 1. For programs. Thread rule: at the functions.
 */
#ifndef FM_HOST_OS_STANDARD_FILES_H
#define FM_HOST_OS_STANDARD_FILES_H

#include <stdbool.h>

/* Each missing one becomes /dev/null: input is empty, errors are swallowed, and writing to output
 * fails (EBADF), as results that nobody can have are no success. False when even that cannot be
 * opened: the program must end. Once, from the main thread, before anything is
 * opened. */
bool fm_standard_files_open(void);
/* False when it was closed at the start, or is open for reading only. From any thread. */
bool fm_standard_output_is_writable(void);
/* Nobody will ever read standard output: the other end of its pipe is closed. From any thread. */
bool fm_standard_output_abandoned(void);

#endif
