/*
 * Fuzzes core/load/trace_text: any bytes give ascending times or an error that names the file. The
 * first byte chooses the form.
 */
#include "core/load/trace_text.h"

#include <string.h>

#include "core/load/arrivals.h"
#include "core/util/memory.h"
#include "tests/fuzz/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned form = size > 0 ? data[0] : 0;
    struct fm_trace_text_options options = {
        .name = "fuzz",
        .column = (form & 1u) != 0 ? "t" : NULL,
        .times_max = (form & 2u) != 0 ? 3 : 0,
        .from_first = (form & 4u) != 0,
    };
    /* A copy of the exact size, so that a read beyond the end is seen. */
    size_t length = size > 0 ? size - 1 : 0;
    char *text = fm_alloc(length);
    uint64_t *times = NULL;
    uint64_t count = 0;
    struct fm_error error = {0};
    if (text == NULL) {
        return 0;
    }
    if (length > 0) {
        memcpy(text, data + 1, length);
    }
    int status = fm_trace_text_parse(&options, text, length, &times, &count, &error);
    if (status == 0) {
        FUZZ_CHECK(count > 0 && count <= length && !fm_fuzz_canary);
        FUZZ_CHECK(options.times_max == 0 || count <= options.times_max);
        FUZZ_CHECK(!options.from_first || times[0] == 0);
        FUZZ_CHECK(times[count - 1] != FM_ARRIVALS_NEVER);
        for (uint64_t i = 1; i < count; i++) {
            FUZZ_CHECK(times[i] >= times[i - 1]);
        }
    } else {
        FUZZ_CHECK(times == NULL && count == 0 && error.status == status);
        FUZZ_CHECK(strncmp(error.text, "fuzz:", 5) == 0);
    }
    fm_free(times);
    fm_free(text);
    return 0;
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char *const seeds[] = {
        " # a trace\n0\n0.5 # half\r\n1e-05\n",
        " 1\n2.000000001\n1.8e10\n",
        "!id, \"t\" ,note\n1,0.1,\"a, \"\"b\"\"\"\r\n2,\"0.2\",\n",
        "$1700000000.5\n1700000002.75\n",
    };
    return index < sizeof(seeds) / sizeof(seeds[0]) ? fm_fuzz_text(seeds[index], data, capacity)
                                                    : 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}
