/*
 * Fuzzes image_decode: any bytes are an image of the promised shape or one clear error. Never a
 * crash, never a leak.
 *
 * PNG inputs run twice: as they are, and with the chunks' checksums put right, so that mutations
 * reach what lies behind the checksums.
 */
#include <spng.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>

#include "tests/fuzz/check.h"
#include "tests/harness/operator_rig.h"

/* Small enough that a thousand runs with a sanitizer take seconds. */
#define PARAMETERS "max_pixels=40000"

int fm_fuzz_has_canary(void)
{
    return 1;
}

/* --- Seeds --- */

static size_t seed_keep(void *file, size_t size, uint8_t *data, size_t capacity)
{
    size_t kept = file != NULL && size <= capacity ? size : 0;
    if (kept > 0) {
        memcpy(data, file, kept);
    }
    return kept;
}

static size_t seed_jpeg(int subsampling, int flags, uint8_t *data, size_t capacity)
{
    uint8_t pixels[40 * 24 * 3];
    for (size_t i = 0; i < sizeof(pixels); i++) {
        pixels[i] = (uint8_t)(i * 3 ^ i / 120);
    }
    unsigned char *file = NULL;
    unsigned long size = 0;
    tjhandle handle = tjInitCompress();
    (void)tjCompress2(handle, pixels, 40, 0, 24, TJPF_RGB, &file, &size, subsampling, 70, flags);
    (void)tjDestroy(handle);
    size_t kept = seed_keep(file, size, data, capacity);
    tjFree(file);
    return kept;
}

static size_t seed_png(uint8_t colour_type, uint8_t depth, size_t row_bytes, uint8_t *data,
                       size_t capacity)
{
    uint8_t pixels[32 * 20 * 8];
    for (size_t i = 0; i < sizeof(pixels); i++) {
        pixels[i] = (uint8_t)(i * 5 & 0x7F);
    }
    struct spng_ihdr header = {
        .width = 32, .height = 20, .bit_depth = depth, .color_type = colour_type};
    struct spng_plte palette = {.n_entries = 128};
    struct spng_trns transparency = {.n_type3_entries = 128};
    spng_ctx *context = spng_ctx_new(SPNG_CTX_ENCODER);
    size_t size = 0;
    int code = 0;
    void *file = NULL;
    (void)spng_set_option(context, SPNG_ENCODE_TO_BUFFER, 1);
    (void)spng_set_ihdr(context, &header);
    if (colour_type == SPNG_COLOR_TYPE_INDEXED) {
        (void)spng_set_plte(context, &palette);
        (void)spng_set_trns(context, &transparency);
    }
    if (spng_encode_image(context, pixels, row_bytes * 20, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE) ==
        0) {
        file = spng_get_png_buffer(context, &size, &code);
    }
    spng_ctx_free(context);
    size_t kept = seed_keep(file, size, data, capacity);
    free(file);
    return kept;
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    switch (index) {
    case 0:
        return seed_jpeg(TJSAMP_420, 0, data, capacity);
    case 1:
        return seed_jpeg(TJSAMP_444, TJFLAG_PROGRESSIVE, data, capacity);
    case 2:
        return seed_jpeg(TJSAMP_GRAY, 0, data, capacity);
    case 3:
        return seed_png(SPNG_COLOR_TYPE_TRUECOLOR, 8, 32 * 3, data, capacity);
    case 4:
        return seed_png(SPNG_COLOR_TYPE_INDEXED, 8, 32, data, capacity);
    case 5:
        return seed_png(SPNG_COLOR_TYPE_TRUECOLOR_ALPHA, 16, 32 * 8, data, capacity);
    case 6:
        return seed_png(SPNG_COLOR_TYPE_GRAYSCALE, 1, 4, data, capacity);
    default:
        return 0;
    }
}

/* --- The target --- */

static uint32_t crc32_of(const uint8_t *data, size_t size)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int k = 0; k < 8; k++) {
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320u : 0);
        }
    }
    return ~crc;
}

static void checksums_fix(uint8_t *data, size_t size)
{
    size_t at = 8;
    while (at < size && size - at >= 12) {
        size_t length = (size_t)data[at] << 24 | (size_t)data[at + 1] << 16 |
                        (size_t)data[at + 2] << 8 | data[at + 3];
        if (length > size - at - 12) {
            break;
        }
        uint32_t crc = crc32_of(data + at + 4, length + 4);
        for (size_t i = 0; i < 4; i++) {
            data[at + 8 + length + i] = (uint8_t)(crc >> (24 - 8 * i));
        }
        at += 12 + length;
    }
}

static void decode(const uint8_t *data, size_t size, const char *parameters)
{
    struct fm_rig rig;
    FUZZ_CHECK(fm_rig_create(&rig, "image_decode", parameters) == 0);
    fm_rig_input_bytes(&rig, 0, data, size);
    int status = fm_rig_run(&rig);
    if (status == 0) {
        const struct fm_tensor *image = fm_rig_output(&rig, 0);
        FUZZ_CHECK(!fm_fuzz_canary);
        FUZZ_CHECK(image->shape[0] > 0 && image->shape[1] > 0);
        FUZZ_CHECK(image->shape[0] * image->shape[1] <= 40000);
        uint32_t sum = 0;
        for (size_t i = 0; i < image->size; i++) {
            sum += ((const uint8_t *)image->data)[i];
        }
        /* Under MSan this would see pixels that nobody wrote. */
        FUZZ_CHECK(sum <= image->size * 255);
    } else {
        FUZZ_CHECK(status == FM_ECORRUPT || status == FM_EUNSUPPORTED || status == FM_ETOOLARGE ||
                   status == FM_ENOMEM);
        FUZZ_CHECK(strlen(rig.error.text) > strlen("operator 'image_decode': "));
        FUZZ_CHECK(fm_rig_output(&rig, 0) == NULL);
    }
    fm_rig_destroy(&rig);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    decode(data, size, PARAMETERS);
    decode(data, size, PARAMETERS ";channels=gray;scale_to=10");
    if (size >= 8 && data[0] == 0x89) {
        uint8_t *copy = malloc(size);
        if (copy != NULL) {
            memcpy(copy, data, size);
            checksums_fix(copy, size);
            decode(copy, size, PARAMETERS ";channels=native");
            free(copy);
        }
    }
    return 0;
}
