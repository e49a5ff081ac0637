/*
 * Fuzzes crop_warp: any quad on any small image gives a crop within the limits, whose bytes lie
 * between the image's least and greatest, or EINVAL.
 *
 * Input: 8 floats, then height, width, channels and the crop's height as one byte each, then pixels
 * (repeated as needed).
 */
#include <math.h>
#include <string.h>

#include "tests/fuzz/check.h"
#include "tests/harness/operator_rig.h"

enum { HEAD_SIZE = 36 };

int fm_fuzz_has_canary(void)
{
    return 1;
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const float quads[][8] = {
        {0, 0, 20, 0, 20, 10, 0, 10}, {3.5f, 2.25f, 17, 2.25f, 17, 8, 3.5f, 8},
        {5, 0, 20, 5, 15, 15, 0, 10}, {2, 2, 18, 4, 15, 9, 1, 8},
        {10, 1, 10, 9, 4, 9, 4, 1},   {-100, -50, 300, -60, 250, 80, -120, 90},
    };
    if (index >= sizeof(quads) / sizeof(quads[0]) || capacity < HEAD_SIZE + 16) {
        return 0;
    }
    memcpy(data, quads[index], 32);
    data[32] = 10;
    data[33] = 20;
    data[34] = (uint8_t)index;
    data[35] = (uint8_t)(index % 2 == 0 ? 16 : 0);
    for (int i = 0; i < 16; i++) {
        data[HEAD_SIZE + i] = (uint8_t)(40 + 11 * i);
    }
    return HEAD_SIZE + 16;
}

static void result_check(const struct fm_rig *rig, uint8_t low, uint8_t high)
{
    const struct fm_tensor *crop = fm_rig_output(rig, 0);
    const uint8_t *pixels = crop->data;
    FUZZ_CHECK(!fm_fuzz_canary);
    FUZZ_CHECK(crop->shape[0] >= 1 && crop->shape[0] <= 200);
    FUZZ_CHECK(crop->shape[1] >= 1 && crop->shape[1] <= 200);
    for (size_t i = 0; i < crop->size; i++) {
        FUZZ_CHECK(pixels[i] >= low && pixels[i] <= high);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const parameters[] = {
        "max_width=200;max_height=200",
        "max_width=200;max_height=200;rotate_tall=1.5",
        "max_width=200;height=16",
        "max_width=200;height=48;min_width=16;rotate_tall=1.5",
    };
    static const int64_t quad_shape[2] = {4, 2};
    struct fm_rig rig;
    if (size <= HEAD_SIZE) {
        return 0;
    }
    const int64_t shape[3] = {1 + data[32] % 64, 1 + data[33] % 64, data[34] % 2 == 0 ? 1 : 3};
    FUZZ_CHECK(fm_rig_create(&rig, "crop_warp", parameters[data[35] / 8 % 4]) == 0);
    uint8_t *pixels = fm_rig_input(&rig, 0, FM_DTYPE_UINT8, 3, shape);
    float *quad = fm_rig_input(&rig, 1, FM_DTYPE_FP32, 2, quad_shape);
    FUZZ_CHECK(pixels != NULL && quad != NULL);
    memcpy(quad, data, 32);
    uint8_t low = 255;
    uint8_t high = 0;
    size_t count = rig.inputs[0].items[0].tensor.size;
    for (size_t i = 0; i < count; i++) {
        pixels[i] = data[HEAD_SIZE + i % (size - HEAD_SIZE)];
        low = pixels[i] < low ? pixels[i] : low;
        high = pixels[i] > high ? pixels[i] : high;
    }
    int status = fm_rig_run(&rig);
    if (status == 0) {
        result_check(&rig, low, high);
    } else {
        FUZZ_CHECK(status == FM_EINVAL);
        FUZZ_CHECK(rig.error.text[0] != '\0');
    }
    fm_rig_destroy(&rig);
    return 0;
}
