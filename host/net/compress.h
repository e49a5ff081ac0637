/*
 * gzip and deflate (in zlib's format), whole texts at a time, with a limit on what comes out.
 *
 * Owns: the use of zlib. Does not own: who may send what compressed. Thread rule: caller's memory.
 */
#ifndef FM_HOST_NET_COMPRESS_H
#define FM_HOST_NET_COMPRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/util/text.h"
#include "fermata/status.h"

enum fm_compression {
    FM_COMPRESSION_IDENTITY,
    FM_COMPRESSION_DEFLATE,
    FM_COMPRESSION_GZIP,
    FM_COMPRESSION_COUNT_,
};

/* "gzip", the name in header fields. */
const char *fm_compression_name(enum fm_compression compression);
/* The compression of that name, in any case; "x-gzip" is gzip. COUNT_: unknown. */
enum fm_compression fm_compression_parse(const char *name, size_t length);
/* The compression to answer with, from a list as in Accept-Encoding and grpc-accept-encoding: the
 * acceptable one with the highest q, gzip before deflate; IDENTITY when there is none. NULL: none.
 */
enum fm_compression fm_compression_choose(const char *accepted);

/* Appends the decompressed bytes. FM_ECORRUPT: not in that format, cut off, or with something
 * behind its end. FM_ETOOLARGE: more than bytes_max would come out; memory stays in proportion to
 * what did. FM_ENOMEM. */
int FM_NODISCARD fm_decompress(enum fm_compression compression, const void *data, size_t size,
                               size_t bytes_max, struct fm_text *text);

struct fm_compressor;
/* NULL: out of memory. */
struct fm_compressor *fm_compressor_create(enum fm_compression compression, struct fm_text *text);
/* Appends the compressed bytes to the text. */
int FM_NODISCARD fm_compressor_add(struct fm_compressor *compressor, const void *data, size_t size);
/* Completes the text. */
int FM_NODISCARD fm_compressor_end(struct fm_compressor *compressor);
/* Accepts NULL. */
void fm_compressor_destroy(struct fm_compressor *compressor);

#endif
