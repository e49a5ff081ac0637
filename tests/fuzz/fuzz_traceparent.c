/*
 * Fuzzes core/proto/traceparent: what is accepted is written back as it came, version 0 byte for
 * byte; a state that is valid has no character that could begin another header.
 */
#include "core/proto/traceparent.h"

#include <string.h>

#include "core/util/memory.h"
#include "tests/fuzz/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy of the exact size, so that a read beyond the end is seen. */
    char *text = fm_alloc(size > 0 ? size : 1);
    struct fm_trace_context context = {0};
    if (text == NULL) {
        return 0;
    }
    if (size > 0) {
        memcpy(text, data, size);
    }
    if (fm_traceparent_parse(text, size, &context) == 0) {
        char again[FM_TRACEPARENT_SIZE];
        fm_traceparent_format(&context, again);
        FUZZ_CHECK(!fm_fuzz_canary);
        FUZZ_CHECK(context.span != 0 && (context.trace_high | context.trace_low) != 0);
        FUZZ_CHECK(memcmp(text + 3, again + 3, 50) == 0);
    }
    if (fm_tracestate_valid(text, size)) {
        for (size_t i = 0; i < size; i++) {
            FUZZ_CHECK((text[i] >= ' ' && text[i] <= '~') || text[i] == '\t');
        }
    }
    fm_free(text);
    return 0;
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char *const seeds[] = {
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more",
        "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
        "fw529a3039@dt=FfAfd,, \t a=b ",
    };
    return index < sizeof(seeds) / sizeof(seeds[0]) ? fm_fuzz_text(seeds[index], data, capacity)
                                                    : 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}
