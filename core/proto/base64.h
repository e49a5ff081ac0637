/*
 * Base64 to bytes (RFC 4648): both alphabets, with or without padding, blanks between.
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

#endif
