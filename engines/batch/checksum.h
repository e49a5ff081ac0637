/*
 * FNV-1a, 64 bits: the checksum of parts and listings. It notices damage, not malice. Thread rule:
 * pure.
 */
#ifndef FM_ENGINES_BATCH_CHECKSUM_H
#define FM_ENGINES_BATCH_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#define FM_CHECKSUM_START UINT64_C(0xcbf29ce484222325)

static inline uint64_t fm_checksum_add(uint64_t checksum, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++) {
        checksum = (checksum ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    return checksum;
}

#endif
