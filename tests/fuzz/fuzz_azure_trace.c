/*
 * Fuzzes core/load/azure_trace: any bytes give ascending times or an error that names the file. The
 * first byte chooses the form and the rows.
 */
#include "core/load/azure_trace.h"

#include <string.h>

#include "core/load/arrivals.h"
#include "core/util/memory.h"
#include "tests/fuzz/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned form = size > 0 ? data[0] : 0;
    struct fm_azure_trace_options options = {
        .name = "fuzz",
        .form = (form & 1u) != 0 ? FM_AZURE_TRACE_2021 : FM_AZURE_TRACE_2019,
        .app = (form & 2u) != 0 ? "a" : NULL,
        .function = (form & 4u) != 0 ? "f" : NULL,
        .from_first = (form & 8u) != 0,
        .times_max = 10000, /* a count of one field may ask for a billion */
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
    int status = fm_azure_trace_parse(&options, text, length, &times, &count, &error);
    if (status == 0) {
        FUZZ_CHECK(count > 0 && count <= options.times_max && !fm_fuzz_canary);
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
        " HashOwner,HashApp,HashFunction,Trigger,1,2,3\no,a,f,http,1,0,20\r\no,b,g,timer,0,3,0\n",
        "&HashOwner,HashApp,HashFunction,Trigger,1\n\no,a,\"f\",http,7\no,a,g,http,1\n",
        "!app,func,end_timestamp,duration\na,f,0.25,0.5\na,g,1e1,9.875\r\nb,f,2.0,1e-05\n",
        "/app,func,end_timestamp,duration\na,f,1700000000.5,0.5\nb,f,2,1\na,f,3,0\n",
    };
    return index < sizeof(seeds) / sizeof(seeds[0]) ? fm_fuzz_text(seeds[index], data, capacity)
                                                    : 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}
