/*
 * The status table turned into look-ups, and the writing of error texts. Pure.
 */
#include "core/util/error.h"

#include <stdio.h>
#include <string.h>

struct status_row {
    int value;
    const char *name;
    const char *text;
    int http;
    int grpc;
    int retry;
};

static const struct status_row rows[] = {
#define STATUS_ROW(name, value, text, http, grpc, retry) {value, #name, text, http, grpc, retry},
    FM_STATUS_TABLE(STATUS_ROW)
#undef STATUS_ROW
};

static const struct status_row *row_find(int status)
{
    static const struct status_row unknown = {0, "EUNKNOWN", "unknown error", 500, 2, 0};
    size_t count = sizeof(rows) / sizeof(rows[0]);
    /* The table is dense: OK is 0, the n-th row is -n. */
    if (status <= 0 && status > -(int)count) {
        return &rows[-status];
    }
    return &unknown;
}

const char *fm_status_name(int status)
{
    return row_find(status)->name;
}

const char *fm_status_text(int status)
{
    return row_find(status)->text;
}

int fm_status_http(int status)
{
    return row_find(status)->http;
}

int fm_status_grpc(int status)
{
    return row_find(status)->grpc;
}

int fm_status_retry(int status)
{
    return row_find(status)->retry;
}

int fm_status_from_http(int code)
{
    switch (code) {
    case 401:
    case 403:
        return FM_EPERM;
    case 404:
    case 410:
        return FM_ENOTFOUND;
    case 408:
    case 504:
        return FM_EDEADLINE;
    case 409:
        return FM_EEXIST;
    case 413:
        return FM_ETOOLARGE;
    case 429:
        return FM_ELIMIT;
    case 499:
        return FM_ECANCELLED;
    case 405:
    case 501:
        return FM_EUNSUPPORTED;
    case 502:
    case 503:
        return FM_EUNAVAILABLE;
    case 507:
        return FM_ENOSPC;
    default:
        return code >= 200 && code < 300 ? 0 : code >= 400 && code < 500 ? FM_EINVAL : FM_EINTERNAL;
    }
}

int fm_status_from_grpc(int code)
{
    static const int statuses[] = {
        0,               /* OK */
        FM_ECANCELLED,   /* CANCELLED */
        FM_EINTERNAL,    /* UNKNOWN */
        FM_EINVAL,       /* INVALID_ARGUMENT */
        FM_EDEADLINE,    /* DEADLINE_EXCEEDED */
        FM_ENOTFOUND,    /* NOT_FOUND */
        FM_EEXIST,       /* ALREADY_EXISTS */
        FM_EPERM,        /* PERMISSION_DENIED */
        FM_ELIMIT,       /* RESOURCE_EXHAUSTED */
        FM_EINVAL,       /* FAILED_PRECONDITION */
        FM_EUNAVAILABLE, /* ABORTED */
        FM_EINVAL,       /* OUT_OF_RANGE */
        FM_EUNSUPPORTED, /* UNIMPLEMENTED */
        FM_EINTERNAL,    /* INTERNAL */
        FM_EUNAVAILABLE, /* UNAVAILABLE */
        FM_ECORRUPT,     /* DATA_LOSS */
        FM_EPERM,        /* UNAUTHENTICATED */
    };
    int count = (int)(sizeof(statuses) / sizeof(statuses[0]));
    return code >= 0 && code < count ? statuses[code] : FM_EINTERNAL;
}

/* Makes the text one clean line, cut at a UTF-8 boundary when vsnprintf had to cut it. */
static void text_clean(char *text, int written)
{
    size_t length = strlen(text);
    if (written >= FM_ERROR_TEXT_SIZE) {
        while (length > 0 && ((unsigned char)text[length - 1] & 0xC0u) == 0x80u) {
            length--;
        }
        if (length > 0 && ((unsigned char)text[length - 1] & 0x80u) != 0) {
            length--;
        }
        text[length] = '\0';
    }
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)text[i] < 0x20u || text[i] == 0x7F) {
            text[i] = '?';
        }
    }
}

int fm_error_set(struct fm_error *reterr, int status, const char *format, ...)
{
    if (reterr != NULL) {
        /* The arguments may point into reterr itself, so the text is built beside it. */
        char text[FM_ERROR_TEXT_SIZE];
        va_list arguments;
        va_start(arguments, format);
        int written = vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        text_clean(text, written);
        reterr->status = status;
        memcpy(reterr->text, text, sizeof(text));
    }
    return status;
}

int fm_error_cannot(struct fm_error *reterr, int status, const char *what)
{
    return fm_error_set(reterr, status, "cannot %s: %s", what, fm_status_text(status));
}

void fm_error_keep(struct fm_error *first, const struct fm_error *error)
{
    if (first->status == 0) {
        *first = *error;
    }
}

int fm_error_prefix(struct fm_error *reterr, int status, const char *format, ...)
{
    if (reterr == NULL) {
        return status;
    }
    char prefix[FM_ERROR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    int written = vsnprintf(prefix, sizeof(prefix), format, arguments);
    va_end(arguments);
    if (written < 0) {
        prefix[0] = '\0';
    }
    if (reterr->status == 0) {
        reterr->status = status;
        (void)snprintf(reterr->text, sizeof(reterr->text), "%s", fm_status_text(status));
    }
    return fm_error_set(reterr, reterr->status, "%s: %s", prefix, reterr->text);
}
