/*
 * Fuzzes core/proto/npy: any bytes are read to a tensor that holds together, or to an error with
 * words; what was read can be written, and reads back as the same tensor; what was written is
 * written the same again.
 */
#include "core/proto/npy.h"

#include <string.h>

#include "tests/fuzz/check.h"

static bool same(const struct fm_tensor *a, const struct fm_tensor *b)
{
    return a->dtype == b->dtype && a->rank == b->rank &&
           memcmp(a->shape, b->shape, a->rank * sizeof(a->shape[0])) == 0 && a->size == b->size &&
           (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fm_value first = {0};
    struct fm_value second = {0};
    struct fm_text written = {0};
    struct fm_text again = {0};
    struct fm_error error = {0};
    if (fm_npy_read(data, size, &first, &error) != 0) {
        FUZZ_CHECK(error.status < 0 && error.text[0] != '\0');
        FUZZ_CHECK(first.buffer == NULL && first.tensor.data == NULL);
        return 0;
    }
    FUZZ_CHECK(fm_tensor_check(&first.tensor, &error) == 0);
    FUZZ_CHECK(fm_npy_write(&first.tensor, &written, &error) == 0);
    FUZZ_CHECK(fm_npy_read(written.data, written.length, &second, &error) == 0);
    FUZZ_CHECK(same(&first.tensor, &second.tensor) && !fm_fuzz_canary);
    FUZZ_CHECK(fm_npy_write(&second.tensor, &again, &error) == 0);
    FUZZ_CHECK(written.length == again.length &&
               memcmp(written.data, again.data, again.length) == 0);
    fm_text_deinit(&written);
    fm_text_deinit(&again);
    fm_value_unref(&first);
    fm_value_unref(&second);
    return 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}

/* A header and data; version 1 when `major` is 1, else the longer form. */
static size_t make(uint8_t *data, size_t capacity, uint8_t major, const char *header, size_t bytes)
{
    size_t length = strlen(header);
    size_t start = major == 1 ? 10 : 12;
    if (start + length + bytes > capacity) {
        return 0;
    }
    memcpy(data, "\x93NUMPY", 6);
    memset(data + 6, 0, start - 6);
    data[6] = major;
    data[8] = (uint8_t)length;
    memcpy(data + start, header, length);
    for (size_t i = 0; i < bytes; i++) {
        data[start + length + i] = (uint8_t)(i % 7 == 0 ? 0 : 'a' + i % 26);
    }
    return start + length + bytes;
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const struct {
        const char *header;
        size_t bytes;
        uint8_t major;
    } seeds[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", 24, 1},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (5,), }      \n", 5, 2},
        {"{'descr': '<i8', 'fortran_order': False, 'shape': (), }\n", 8, 3},
        {"{'descr': '|S4', 'fortran_order': False, 'shape': (3, 1), }\n", 12, 1},
        {"{'descr': '<U2', 'fortran_order': False, 'shape': (3,), }\n", 24, 1},
        {"{'descr': '<f2', 'fortran_order': False, 'shape': (0, 9), }\n", 0, 1},
        {"{'descr': '|b1', 'fortran_order': True, 'shape': (2L,), }\n", 2, 1},
        {"{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1,), }\n", 4, 1},
    };
    if (index >= sizeof(seeds) / sizeof(seeds[0])) {
        return 0;
    }
    return make(data, capacity, seeds[index].major, seeds[index].header, seeds[index].bytes);
}
