/*
 * A file that is written compressed with gzip.
 *
 * Owns: the compression, and a checksum of what the file holds. Does not own: what is written.
 * Thread rule: a writer is used by one thread at a time; members are made by any.
 *
 * A file is one or several members (RFC 1952), which decompress to what they hold, one behind the
 * other. So pieces of a file can be compressed on many threads, and be appended as they are.
 */
#ifndef FM_HOST_SOURCE_GZIP_WRITER_H
#define FM_HOST_SOURCE_GZIP_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "core/util/text.h"

struct fm_gzip_writer;

/* Creates or truncates. FM_ENOMEM, FM_ENOSPC, FM_EIO and others, with words. */
int FM_NODISCARD fm_gzip_writer_open(const char *path, struct fm_gzip_writer **ret_writer,
                                     struct fm_error *reterr);
/* After an error only abandon is left. */
int FM_NODISCARD fm_gzip_writer_append(struct fm_gzip_writer *writer, const void *data, size_t size,
                                       struct fm_error *reterr);
/* Appends a member of fm_gzip_member_make, likewise. */
int FM_NODISCARD fm_gzip_writer_append_member(struct fm_gzip_writer *writer, const void *member,
                                              size_t size, struct fm_error *reterr);
/* Completes the file and flushes it to the disk. Takes the writer in any case. The sizes and the
 * sum (core/util/hash.h) are of the compressed bytes. */
int FM_NODISCARD fm_gzip_writer_finish(struct fm_gzip_writer *writer, uint64_t *ret_bytes,
                                       uint64_t *ret_checksum, struct fm_error *reterr);
/* Takes the writer, and removes the file. Accepts NULL. */
void fm_gzip_writer_abandon(struct fm_gzip_writer *writer);

/* Compresses bytes to a member, behind what is in the text. FM_ENOMEM: nothing was appended. */
int FM_NODISCARD fm_gzip_member_make(const void *data, size_t size, struct fm_text *member);

#endif
