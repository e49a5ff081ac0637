/*
 * Status codes and the error text that travels with them.
 *
 * Owns: the one table of everything that can go wrong, with the words, HTTP status, gRPC code and
 * retry advice of each entry. Does not own: logging or printing. Thread rule: values only; safe
 * anywhere.
 *
 * Every fallible function of Fermata returns int: 0 (FM_OK) or one of the negative codes below.
 * Functions for which words help a person also take `struct fm_error *reterr` as last argument:
 * fixed size, no allocation, NULL allowed.
 */
#ifndef FERMATA_STATUS_H
#define FERMATA_STATUS_H

#include <stdint.h>

#if defined(__GNUC__)
#define FM_NODISCARD __attribute__((warn_unused_result))
#define FM_PRINTF(format_index, first_argument) \
    __attribute__((format(printf, format_index, first_argument)))
#else
#define FM_NODISCARD
#define FM_PRINTF(format_index, first_argument)
#endif

/* X(name, value, text, HTTP status, gRPC code, retry). `retry` is 1 where the same call may succeed
 * later. */
#define FM_STATUS_TABLE(X)                                          \
    X(OK, 0, "ok", 200, 0, 0)                                       \
    X(EINVAL, -1, "invalid argument", 400, 3, 0)                    \
    X(ENOTFOUND, -2, "not found", 404, 5, 0)                        \
    X(EEXIST, -3, "already exists", 409, 6, 0)                      \
    X(ECORRUPT, -4, "corrupt or unreadable data", 400, 3, 0)        \
    X(ETYPE, -5, "data type or shape mismatch", 400, 3, 0)          \
    X(ELIMIT, -6, "a configured limit was reached", 503, 8, 1)      \
    X(ETOOLARGE, -7, "larger than the configured limit", 413, 8, 0) \
    X(ENOMEM, -8, "out of memory", 503, 8, 1)                       \
    X(ENOSPC, -9, "no space left on the device", 507, 8, 1)         \
    X(EIO, -10, "input/output error", 500, 14, 1)                   \
    X(EPERM, -11, "permission denied", 403, 7, 0)                   \
    X(EUNAVAILABLE, -12, "unavailable", 503, 14, 1)                 \
    X(EDEADLINE, -13, "deadline exceeded", 503, 4, 1)               \
    X(ECANCELLED, -14, "cancelled", 400, 1, 0)                      \
    X(EUNSUPPORTED, -15, "not supported", 501, 12, 0)               \
    X(EABI, -16, "incompatible plug-in", 500, 9, 0)                 \
    X(EINTERNAL, -17, "internal error", 500, 13, 0)                 \
    X(EAGAIN, -18, "would block", 503, 14, 1)

enum fm_status {
#define FM_STATUS_ENUM(name, value, text, http, grpc, retry) FM_##name = (value),
    FM_STATUS_TABLE(FM_STATUS_ENUM)
#undef FM_STATUS_ENUM
};

#define FM_ERROR_TEXT_SIZE 512

/* What went wrong, in words: what was tried, on what, why it failed, what to do. Always
 * NUL-terminated. */
struct fm_error {
    int32_t status;                /* 0 while nothing was set */
    char text[FM_ERROR_TEXT_SIZE]; /* one line, no trailing newline */
};

#endif
