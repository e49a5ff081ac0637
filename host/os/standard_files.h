/*
 * Standard input, output and error that are really there.
 *
 * Owns: filling the descriptors 0, 1 and 2 when the program was started without them
 * (`fermata ... <&- >&-`): otherwise the next files that are opened would get these numbers, and
 * messages would be written into data. For programs. Thread rule: once, from the main thread,
 * before anything is opened.
 */
#ifndef FM_HOST_OS_STANDARD_FILES_H
#define FM_HOST_OS_STANDARD_FILES_H

#include <stdbool.h>

/* Each missing one becomes /dev/null: empty to read, swallowing what is written. False when even
 * that cannot be opened: the program must end. */
bool fm_standard_files_open(void);

#endif
