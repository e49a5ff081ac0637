/*
 * The texts of gRPC's header fields: timeouts, content types, status messages.
 *
 * Thread rule: pure functions and caller's memory.
 */
#ifndef FM_HOST_NET_GRPC_FIELDS_H
#define FM_HOST_NET_GRPC_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/util/text.h"
#include "fermata/status.h"

/* "250m" and the like: up to eight digits and a unit of H, M, S, m, u, n. Saturates. FM_EINVAL. */
int FM_NODISCARD fm_grpc_timeout_parse(const char *text, uint64_t *ret_ns);
/* Whether a content type is application/grpc, with +proto or not, with parameters or not. */
bool fm_grpc_content_type_matches(const char *text);
/* Appends a status message as it goes on the wire, cut to length_max encoded bytes. Bytes beside
 * printable ASCII, and '%', are percent-encoded. */
void fm_grpc_message_encode(struct fm_text *text, const char *message, size_t length_max);
/* Appends what such a message means; what is no percent-encoding stands for itself, control
 * characters for nothing. */
void fm_grpc_message_decode(struct fm_text *text, const char *message, size_t length);
/* A timeout as it goes on the wire, rounded up to what eight digits hold. */
void fm_grpc_timeout_write(uint64_t timeout_ns, char *text, size_t size);

#endif
