/*
 * The directory of a ZIP archive: what is in it, and where.
 *
 * Owns: the directory at the archive's end, with the sizes beyond 4 GiB of ZIP64. Does not own:
 * files, decompression (the bytes of a member are stored, or deflated). Refuses, in words, archives
 * in several parts and encrypted members. Thread rule: pure.
 *
 * An archive is read from its end: fm_zip_end_find in the last FM_ZIP_END_MAX bytes says where the
 * directory lies, fm_zip_member_next goes through it, and fm_zip_member_begin finds the member's
 * bytes behind a header of its own.
 */
#ifndef FM_CORE_PROTO_ZIP_H
#define FM_CORE_PROTO_ZIP_H

#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

/* The end record with the longest comment, and what ZIP64 puts before it. */
#define FM_ZIP_END_MAX           (65535u + 22u + 20u + 56u)
#define FM_ZIP_LOCAL_HEADER_SIZE 30u

struct fm_zip_end {
    uint64_t directory_offset;
    uint64_t directory_size;
};

enum fm_zip_method { FM_ZIP_STORED = 0, FM_ZIP_DEFLATED = 8 };

struct fm_zip_member {
    const char *name; /* in the directory's bytes, not NUL-terminated */
    size_t name_size;
    uint16_t method; /* enum fm_zip_method, or one that is not known here */
    uint32_t crc;    /* CRC-32 of its bytes */
    uint64_t stored_size;
    uint64_t size;
    uint64_t header_offset;
};

/* `tail`: the last `size` bytes of an archive of file_size. What it says lies within the file.
 * FM_ECORRUPT: it is none, or was cut off. */
int FM_NODISCARD fm_zip_end_find(const void *tail, size_t size, uint64_t file_size,
                                 struct fm_zip_end *ret_end, struct fm_error *reterr);
/* The member at *offset of the directory, behind which *offset moves. 1: it is there, and its bytes
 * lie within file_size; 0: there are no more. FM_ECORRUPT, FM_EUNSUPPORTED. */
int FM_NODISCARD fm_zip_member_next(const void *directory, size_t size, uint64_t file_size,
                                    size_t *offset, struct fm_zip_member *ret_member,
                                    struct fm_error *reterr);
/* `header`: FM_ZIP_LOCAL_HEADER_SIZE bytes from member->header_offset on. Where its bytes begin, in
 * the file; all of them lie within file_size. FM_ECORRUPT. */
int FM_NODISCARD fm_zip_member_begin(const struct fm_zip_member *member, const void *header,
                                     uint64_t file_size, uint64_t *ret_offset,
                                     struct fm_error *reterr);

#endif
