/*
 * Checks of fuzz targets, and the canary that proves that a target can fail.
 *
 * A target that wants a canary states, deep inside, a check that is false when fm_fuzz_canary is
 * set: FUZZ_CHECK(good && !fm_fuzz_canary). The driver's canary run then must see it fail;
 * elsewhere fm_fuzz_canary is 0. Thread rule: one thread.
 */
#ifndef FM_TESTS_FUZZ_CHECK_H
#define FM_TESTS_FUZZ_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "core/util/text.h"

/* The entry of every target. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

extern int fm_fuzz_canary;
extern int fm_fuzz_canary_failures;

/* Aborts; in a canary run it counts and returns. */
void fm_fuzz_fail(const char *file, int line, const char *condition);

#define FUZZ_CHECK(condition)                             \
    do {                                                  \
        if (!(condition)) {                               \
            fm_fuzz_fail(__FILE__, __LINE__, #condition); \
        }                                                 \
    } while (0)

/*
 * Optional, defined by the target: its built-in seed number `index`, into data[capacity]; its
 * length, 0 when there is no such seed (and for too long a one). Without it, and without files,
 * mutation starts from random bytes.
 */
size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity) __attribute__((weak));
/* For it: text as a seed; bytes that were written, which are freed. */
size_t fm_fuzz_text(const char *text, uint8_t *data, size_t capacity);
size_t fm_fuzz_bytes(struct fm_text *take_text, uint8_t *data, size_t capacity);
/* Optional, defined by targets that have a canary: any value but 0. */
int fm_fuzz_has_canary(void) __attribute__((weak));

#endif
