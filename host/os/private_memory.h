/*
 * Memory that this process shares with a program that it starts, and with nobody else: it has no
 * name, and its size is sealed, so that a program that cuts it off cannot make us fault.
 *
 * Owns: the mapping and the descriptor. Does not own: what lies in it. Thread rule: one thread at a
 * time.
 */
#ifndef FM_HOST_OS_PRIVATE_MEMORY_H
#define FM_HOST_OS_PRIVATE_MEMORY_H

#include <stddef.h>

#include "fermata/status.h"

struct fm_private_memory {
    unsigned char *data; /* NULL: none; zeros at first, and no memory until it is written to */
    size_t size;
    int descriptor; /* close-on-exec; -1: none */
};

/* FM_EIO, FM_ENOMEM with words. */
int FM_NODISCARD fm_private_memory_create(size_t size, struct fm_private_memory *ret_memory,
                                          struct fm_error *reterr);
/* The program has it: here only the mapping is needed. */
void fm_private_memory_descriptor_close(struct fm_private_memory *memory);
/* Accepts one without anything. */
void fm_private_memory_destroy(struct fm_private_memory *memory);

#endif
