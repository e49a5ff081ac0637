/*
 * Base64 (RFC 4648) to bytes: both alphabets, with or without padding, blanks between. And back:
 * the standard alphabet with padding, in one piece.
 *
 * Thread rule: pure.
 */
#ifndef FM_CORE_PROTO_BASE64_H
#define FM_CORE_PROTO_BASE64_H

#include <stddef.h>

#include "fermata/status.h"

/* `out` has room for 3 bytes for every 4 characters begun; it may be `text` itself. FM_EINVAL when
 * the text is malformed; what is in `out` then means nothing. */
int FM_NODISCARD fm_base64_decode(const char *text, size_t length, void *out, size_t *ret_size);

#define FM_BASE64_LENGTH(size) (((size) + 2) / 3 * 4)
/* `out` has room for FM_BASE64_LENGTH(size) characters; no NUL. */
void fm_base64_encode(const void *data, size_t size, char *out);

#endif
