/*
 * The end of a process whose programmer was wrong. See assert.h.
 */
#include "core/util/assert.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void fm_assert_failed(const char *file, int line, const char *condition)
{
    fprintf(stderr, "fermata: assertion failed at %s:%d: %s\n", file, line, condition);
    abort();
}
