/*
 * SHA-256, and comparing in constant time: for secrets that are known by their digests, and for
 * contents that are.
 *
 * Owns: the use of OpenSSL for that. Thread rule: a digester belongs to one thread.
 */
#ifndef FM_HOST_NET_DIGEST_H
#define FM_HOST_NET_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_SHA256_BYTES 32u

/* What would otherwise be made anew for each digest. */
struct fm_digester;

/* NULL: no memory. */
struct fm_digester *fm_digester_create(void);
void fm_digester_destroy(struct fm_digester *digester); /* accepts NULL */

/* A digest of several pieces: begin, add each, end, nothing else of the digester between.
 * FM_ENOMEM, after which it has to begin again. */
int FM_NODISCARD fm_sha256_begin(struct fm_digester *digester);
int FM_NODISCARD fm_sha256_add(struct fm_digester *digester, const void *data, size_t size);
int FM_NODISCARD fm_sha256_end(struct fm_digester *digester, uint8_t ret_digest[FM_SHA256_BYTES]);
/* Of one piece. FM_ENOMEM. */
int FM_NODISCARD fm_sha256(struct fm_digester *digester, const void *data, size_t size,
                           uint8_t ret_digest[FM_SHA256_BYTES]);
/* Takes as long whether they are equal or not, and wherever they differ. */
bool fm_sha256_equal(const uint8_t left[FM_SHA256_BYTES], const uint8_t right[FM_SHA256_BYTES]);

#endif
