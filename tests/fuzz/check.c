/*
 * Failing of fuzz targets, and their seeds. See check.h. Apart from the driver, because libFuzzer
 * brings a driver of its own.
 */
#include "tests/fuzz/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int fm_fuzz_canary;
int fm_fuzz_canary_failures;

void fm_fuzz_fail(const char *file, int line, const char *condition)
{
    if (fm_fuzz_canary) {
        fm_fuzz_canary_failures++;
        return;
    }
    printf("# %s:%d: FUZZ_CHECK(%s)\n", file, line, condition);
    fflush(stdout);
    abort();
}

size_t fm_fuzz_bytes(struct fm_text *take_text, uint8_t *data, size_t capacity)
{
    size_t length = take_text->failed || take_text->length > capacity ? 0 : take_text->length;
    if (length > 0) {
        memcpy(data, take_text->data, length);
    }
    fm_text_deinit(take_text);
    return length;
}

size_t fm_fuzz_text(const char *text, uint8_t *data, size_t capacity)
{
    struct fm_text copy = {0};
    fm_text_append_string(&copy, text);
    return fm_fuzz_bytes(&copy, data, capacity);
}
