/*
 * Growing text, and small string helpers that deciding code needs.
 *
 * Thread rule: caller's memory.
 */
#ifndef FM_CORE_UTIL_TEXT_H
#define FM_CORE_UTIL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

/*
 * A growing byte string, always NUL-terminated once something was appended. Zero-initialise to
 * start. An append that fails sets `failed` and every later append does nothing, so that a writer
 * checks once, at the end.
 */
struct fm_text {
    char *data;
    size_t length;
    size_t capacity;
    bool failed;
    bool borrowed; /* internal: `data` is not its own */
};

/* Starts in memory of the caller's, which it leaves when that is too small. */
void fm_text_begin(struct fm_text *text, char *memory, size_t size);
void fm_text_deinit(struct fm_text *text);
void fm_text_clear(struct fm_text *text); /* keeps the memory, forgets the failure */
void fm_text_append(struct fm_text *text, const void *data, size_t length);
void fm_text_append_string(struct fm_text *text, const char *string);
void fm_text_append_char(struct fm_text *text, char character);
void fm_text_append_format(struct fm_text *text, const char *format, ...) FM_PRINTF(2, 3);
/* Reserves `length` bytes at the end and returns where they start, or NULL (and failed). */
char *fm_text_reserve(struct fm_text *text, size_t length);
/* Takes the string out of text (fm_free it); NULL when it failed. An empty text gives "". */
char *fm_text_take(struct fm_text *text);

/* Where a text begins behind its UTF-8 byte-order mark: 3, or 0 when it has none. Windows editors
 * write one; every format we read takes it. */
size_t fm_text_after_bom(const char *text, size_t length);

/* Levenshtein distance, case-insensitive for ASCII, capped at 255; both strings are looked at up to
 * 64 bytes. */
unsigned fm_text_distance(const char *a, const char *b);
/* The candidate nearest to `word` when it is near enough to be a likely misspelling (distance <= 1
 * + length/4), else NULL. */
const char *fm_text_suggest(const char *word, const char *const *candidates, size_t count);
/* The same, one candidate at a time: `best` is what came out so far, NULL at first. */
const char *fm_text_suggest_next(const char *word, const char *best, const char *candidate);

/* Strict whole-string parsers: no leading space, no trailing characters, range checked. Accept 0x
 * for unsigned. */
/* 0 to 15; -1 for what is no hexadecimal digit. */
int fm_hex_digit(char character);
int FM_NODISCARD fm_parse_uint64(const char *text, uint64_t *ret_value);
int FM_NODISCARD fm_parse_int64(const char *text, int64_t *ret_value);
int FM_NODISCARD fm_parse_double(const char *text,
                                 double *ret_value); /* finite only; locale independent */
int FM_NODISCARD fm_parse_bool(const char *text, bool *ret_value); /* true/false/yes/no/on/off */
/* "250ms", "1.5s", "10us", "3m", "2h", bare number = seconds. */
int FM_NODISCARD fm_parse_duration_ns(const char *text, uint64_t *ret_ns);
/* "64MiB", "1.5GB", "4096", "512k". */
int FM_NODISCARD fm_parse_bytes(const char *text, uint64_t *ret_bytes);

/* Length of the UTF-8 sequence that starts at text (1-4), 0 when it is malformed or cut off. */
size_t fm_utf8_sequence(const char *text, size_t length);
/* A code point up to U+10FFFF; returns how many bytes it has. */
size_t fm_utf8_encode(uint32_t point, char out[4]);

#endif
