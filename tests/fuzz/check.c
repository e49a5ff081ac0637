/*
 * Failing of fuzz targets. See check.h. Apart from the driver, because libFuzzer brings a driver of
 * its own.
 */
#include "tests/fuzz/check.h"

#include <stdio.h>
#include <stdlib.h>

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
