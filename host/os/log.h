/*
 * The log: records of an event name and typed key-values, as text or JSON lines on standard error.
 *
 * Owns: formatting, escaping of what comes from outside, levels, one rate limit per place in the
 * code, one writing thread, so that a caller never waits for a slow terminal or pipe. Does not own:
 * what is worth logging. Below `engines` nothing logs above debug. Thread rule: fm_log from any
 * thread; start and stop from one, with nothing logging at that time. Before start, and below the
 * level, records vanish.
 *
 *   fm_log(FM_LOG_INFO, "model_ready", FM_LOG_TEXT("model", name), FM_LOG_UINT("version",
 * version));
 */
#ifndef FM_HOST_OS_LOG_H
#define FM_HOST_OS_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/util/text.h"
#include "fermata/backend.h"
#include "fermata/status.h"

#define FM_LOG_PENDING_BYTES_MAX \
    (1u << 20) /* not written yet; records beyond it are dropped and counted */
#define FM_LOG_TEXT_BYTES_MAX   2000  /* of one value; longer ones are cut */
#define FM_LOG_RECENT_MAX       64u   /* records that fm_log_recent knows ... */
#define FM_LOG_RECENT_BYTES_MAX 4096u /* ... of at most this length */
#define FM_LOG_BURST            20    /* records of one place in the code at once ... */
#define FM_LOG_PER_SECOND                                                                     \
    10 /* ... and then this many a second; the next one says how many were left out, or, when \
          there is none, "log_suppressed" a second or two later */

enum fm_log_format { FM_LOG_FORMAT_TEXT, FM_LOG_FORMAT_JSON };

enum fm_log_kind {
    FM_LOG_KIND_TEXT,
    FM_LOG_KIND_INT,
    FM_LOG_KIND_UINT,
    FM_LOG_KIND_NUMBER,
    FM_LOG_KIND_BOOL
};

struct fm_log_field {
    const char *key;
    enum fm_log_kind kind;
    union {
        const char *text; /* NULL is written as "" */
        int64_t integer;
        uint64_t count;
        double number;
        bool flag;
    } value;
};

#define FM_LOG_TEXT(name, text_) \
    ((struct fm_log_field){(name), FM_LOG_KIND_TEXT, {.text = (text_)}})
#define FM_LOG_INT(name, value_) \
    ((struct fm_log_field){(name), FM_LOG_KIND_INT, {.integer = (value_)}})
#define FM_LOG_UINT(name, value_) \
    ((struct fm_log_field){(name), FM_LOG_KIND_UINT, {.count = (value_)}})
#define FM_LOG_NUMBER(name, value_) \
    ((struct fm_log_field){(name), FM_LOG_KIND_NUMBER, {.number = (value_)}})
#define FM_LOG_FLAG(name, value_) \
    ((struct fm_log_field){(name), FM_LOG_KIND_BOOL, {.flag = (value_)}})

/* One place in the code that logs: what its rate limit needs. Zero-initialised. */
struct fm_log_site {
    atomic_uint_fast64_t allowance; /* packed by log.c */
    atomic_uint_fast64_t suppressed;
    /* While it is listed as one that left records out; behind the log's mutex. */
    bool listed;
    enum fm_log_level level;
    const char *event;
    struct fm_log_site *next;
};

struct fm_log_options {
    enum fm_log_level level; /* records below it vanish */
    enum fm_log_format format;
    int descriptor;
    /* NULL: into the descriptor. Else who gets each record, without its newline, on the writing
     * thread. */
    void (*line)(void *context, const char *text, size_t length);
    void *context;
};

int FM_NODISCARD fm_log_start(const struct fm_log_options *options, struct fm_error *reterr);
/* Writes what is pending and ends the writing thread. Fine when it was not started. */
void fm_log_stop(void);
/* Waits until what is pending now was written, at most timeout_ns. */
void fm_log_flush(uint64_t timeout_ns);

/* Appends the latest records as JSON objects, each on a line, whatever the log's format is: for the
 * dashboard. Copies under the log's lock: at most some ten microseconds. */
void fm_log_recent(struct fm_text *text);

void fm_log_write(struct fm_log_site *site, enum fm_log_level level, const char *event,
                  const struct fm_log_field *fields, size_t count);

/* At least one field. */
#define fm_log(level, event, ...)                                         \
    do {                                                                  \
        static struct fm_log_site fm_log_site_;                           \
        const struct fm_log_field fm_log_fields_[] = {__VA_ARGS__};       \
        fm_log_write(&fm_log_site_, (level), (event), fm_log_fields_,     \
                     sizeof(fm_log_fields_) / sizeof(fm_log_fields_[0])); \
    } while (0)

#endif
