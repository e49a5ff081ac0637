/*
 * Errors in code and words: what surrounds the status table of include/fermata/status.h.
 *
 * Thread rule: pure functions and caller's memory.
 */
#ifndef FM_CORE_UTIL_ERROR_H
#define FM_CORE_UTIL_ERROR_H

#include <stdarg.h>

#include "fermata/status.h"

/* "EINVAL", or "EUNKNOWN" for a code that is not in the table. */
const char *fm_status_name(int status);
/* "invalid argument". */
const char *fm_status_text(int status);
int fm_status_http(int status);
int fm_status_grpc(int status);
int fm_status_retry(int status);
/* The other way, for what a server answered: 0 for success, FM_EINTERNAL for codes that are not
 * known. */
int fm_status_from_http(int code);
int fm_status_from_grpc(int code);

/* As zeroing, for where every request comes along: half a kilobyte is left as it is. */
static inline void fm_error_init(struct fm_error *ret_error)
{
    ret_error->status = 0;
    ret_error->text[0] = '\0';
}

/*
 * Writes `status` and the formatted text to reterr (which may be NULL) and returns status, so that
 * callers can write `return fm_error_set(reterr, FM_EINVAL, "...")`. Control characters in the text
 * are replaced by '?'; too long a text is cut at a UTF-8 boundary.
 */
int fm_error_set(struct fm_error *reterr, int status, const char *format, ...) FM_PRINTF(3, 4);

/* "cannot WHAT: STATUS'S TEXT", where status is not 0. Returns status. */
int fm_error_cannot(struct fm_error *reterr, int status, const char *what);
/* The first failure is the one that is told: keeps `error` where `first` has none yet. */
void fm_error_keep(struct fm_error *first, const struct fm_error *error);

/* Puts "<prefix>: " before the text that is already there. Keeps the status, and returns it. reterr
 * may be NULL: returns `status`. */
int fm_error_prefix(struct fm_error *reterr, int status, const char *format, ...) FM_PRINTF(3, 4);

#endif
