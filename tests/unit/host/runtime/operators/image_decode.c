/*
 * Unit tests of image_decode: files made here by the libraries' encoders, decoded back; limits;
 * everything that is not such a file.
 */
#include <spng.h>
#include <turbojpeg.h>

#include "tests/harness/operator_rig.h"
#include "tests/harness/test.h"

struct file {
    unsigned char *data;
    size_t size;
};

/* --- Making files --- */

/* channels 1, 3 or 4 (CMYK); the picture is a slow ramp, so that JPEG loses little. */
static struct file jpeg_make(int width, int height, int channels, int flags)
{
    struct file file = {0};
    unsigned long size = 0;
    unsigned char *pixels = malloc((size_t)width * (size_t)height * (size_t)channels);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            for (int c = 0; c < channels; c++) {
                int value = c == 0 ? 30 + 200 * x / width : c == 1 ? 40 + 200 * y / height : 100;
                pixels[(y * width + x) * channels + c] = (unsigned char)(c == 3 ? 255 : value);
            }
        }
    }
    tjhandle handle = tjInitCompress();
    int format = channels == 1 ? TJPF_GRAY : channels == 3 ? TJPF_RGB : TJPF_CMYK;
    int subsampling = channels == 1 ? TJSAMP_GRAY : TJSAMP_444;
    if (tjCompress2(handle, pixels, width, 0, height, format, &file.data, &size, subsampling, 95,
                    flags) == 0) {
        file.size = size;
    }
    (void)tjDestroy(handle);
    free(pixels);
    return file;
}

static struct file png_make(const struct spng_ihdr *header, const void *pixels, size_t size,
                            const struct spng_plte *palette, const struct spng_trns *transparency)
{
    struct file file = {0};
    int code = 0;
    spng_ctx *context = spng_ctx_new(SPNG_CTX_ENCODER);
    struct spng_ihdr copy = *header;
    (void)spng_set_option(context, SPNG_ENCODE_TO_BUFFER, 1);
    (void)spng_set_ihdr(context, &copy);
    if (palette != NULL) {
        struct spng_plte entries = *palette;
        (void)spng_set_plte(context, &entries);
    }
    if (transparency != NULL) {
        struct spng_trns entries = *transparency;
        (void)spng_set_trns(context, &entries);
    }
    if (spng_encode_image(context, pixels, size, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE) == 0) {
        file.data = spng_get_png_buffer(context, &file.size, &code);
    }
    spng_ctx_free(context);
    return file;
}

static int decode(struct fm_rig *rig, const char *parameters, const void *data, size_t size)
{
    int status = fm_rig_create(rig, "image_decode", parameters);
    if (status == 0) {
        fm_rig_input_bytes(rig, 0, data, size);
        status = fm_rig_run(rig);
    }
    return status;
}

static const uint8_t *pixels_of(const struct fm_rig *rig)
{
    return fm_rig_output(rig, 0)->data;
}

static void check_shape(const struct fm_rig *rig, int64_t height, int64_t width, int64_t channels)
{
    const struct fm_tensor *image = fm_rig_output(rig, 0);
    CHECK_INT_EQ(image->shape[0], height);
    CHECK_INT_EQ(image->shape[1], width);
    CHECK_INT_EQ(image->shape[2], channels);
}

static void check_error(const void *data, size_t size, int want, const char *text)
{
    struct fm_rig rig;
    CHECK_INT_EQ(decode(&rig, NULL, data, size), want);
    CHECK_STR_CONTAINS(rig.error.text, text);
    CHECK(fm_rig_output(&rig, 0) == NULL);
    fm_rig_destroy(&rig);
}

/* --- JPEG --- */

TEST(jpeg_colours_and_orders)
{
    struct file file = jpeg_make(40, 24, 3, 0);
    CHECK_INT_GT(file.size, 0);
    static const char *const parameters[] = {"channels=rgb", "channels=bgr", "channels=native"};
    for (int i = 0; i < 3; i++) {
        struct fm_rig rig;
        CHECK_INT_EQ(decode(&rig, parameters[i], file.data, file.size), 0);
        check_shape(&rig, 24, 40, 3);
        const uint8_t *pixel = pixels_of(&rig) + (12 * 40 + 20) * 3;
        CHECK_NEAR(pixel[i == 1 ? 2 : 0], 130, 4);
        CHECK_NEAR(pixel[1], 140, 4);
        CHECK_NEAR(pixel[i == 1 ? 0 : 2], 100, 4);
        const int64_t *size = fm_rig_output(&rig, 1)->data;
        CHECK_INT_EQ(size[0], 24);
        CHECK_INT_EQ(size[1], 40);
        fm_rig_destroy(&rig);
    }
    struct fm_rig rig;
    CHECK_INT_EQ(decode(&rig, "channels=gray", file.data, file.size), 0);
    check_shape(&rig, 24, 40, 1);
    CHECK_NEAR(pixels_of(&rig)[12 * 40 + 20], 0.299 * 130 + 0.587 * 140 + 0.114 * 100, 4);
    fm_rig_destroy(&rig);
    tjFree(file.data);
}

TEST(jpeg_gray_stays_gray_when_native)
{
    struct file file = jpeg_make(9, 7, 1, TJFLAG_PROGRESSIVE);
    struct fm_rig rig;
    CHECK_INT_EQ(decode(&rig, "channels=native", file.data, file.size), 0);
    check_shape(&rig, 7, 9, 1);
    fm_rig_destroy(&rig);
    CHECK_INT_EQ(decode(&rig, NULL, file.data, file.size), 0);
    check_shape(&rig, 7, 9, 3);
    CHECK_INT_EQ(pixels_of(&rig)[0], pixels_of(&rig)[2]);
    fm_rig_destroy(&rig);
    tjFree(file.data);
}

TEST(jpeg_of_print_colours)
{
    struct file file = jpeg_make(16, 16, 4, 0);
    struct fm_rig rig;
    CHECK_INT_EQ(decode(&rig, "channels=bgr", file.data, file.size), 0);
    check_shape(&rig, 16, 16, 3);
    CHECK_NEAR(pixels_of(&rig)[0], 100, 5);
    CHECK_NEAR(pixels_of(&rig)[2], 30, 12);
    fm_rig_destroy(&rig);
    tjFree(file.data);
}

TEST(jpeg_scales_but_never_below_the_wanted_size)
{
    struct file file = jpeg_make(403, 200, 3, 0);
    static const struct {
        const char *parameters;
        int64_t height;
        int64_t width;
    } rows[] = {{"scale_to=0", 200, 403},   {"scale_to=500", 200, 403}, {"scale_to=403", 200, 403},
                {"scale_to=203", 200, 403}, {"scale_to=202", 100, 202}, {"scale_to=102", 100, 202},
                {"scale_to=101", 50, 101},  {"scale_to=51", 25, 51},    {"scale_to=1", 25, 51}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fm_rig rig;
        CHECK_INT_EQ(decode(&rig, rows[i].parameters, file.data, file.size), 0);
        check_shape(&rig, rows[i].height, rows[i].width, 3);
        const int64_t *size = fm_rig_output(&rig, 1)->data;
        CHECK_INT_EQ(size[0], 200);
        CHECK_INT_EQ(size[1], 403);
        fm_rig_destroy(&rig);
    }
    tjFree(file.data);
}

/* The file with an Exif segment behind its first marker. */
static struct file with_orientation(const struct file *file, uint8_t orientation, bool little)
{
    uint8_t big_segment[] = {0xFF, 0xE1, 0, 34, 'E', 'x', 'i', 'f', 0, 0,  'M', 'M',
                             0,    42,   0, 0,  0,   8,   0,   1,   1, 18, 0,   3,
                             0,    0,    0, 1,  0,   0,   0,   0,   0, 0,  0,   0};
    uint8_t little_segment[] = {0xFF, 0xE1, 0, 34, 'E', 'x', 'i', 'f', 0,  0, 'I', 'I',
                                42,   0,    8, 0,  0,   0,   1,   0,   18, 1, 3,   0,
                                1,    0,    0, 0,  0,   0,   0,   0,   0,  0, 0,   0};
    big_segment[29] = orientation;
    little_segment[28] = orientation;
    size_t length = sizeof(big_segment);
    struct file result = {malloc(file->size + length), file->size + length};
    memcpy(result.data, file->data, 2);
    memcpy(result.data + 2, little ? little_segment : big_segment, length);
    memcpy(result.data + 2 + length, file->data + 2, file->size - 2);
    return result;
}

TEST(jpeg_orientation_is_honoured)
{
    /* Red grows to the right, green downwards, in the stored image; where each orientation puts the
     * stored origin. */
    static const struct {
        bool swapped, right, bottom;
    } rows[9] = {{0},
                 {false, false, false},
                 {false, true, false},
                 {false, true, true},
                 {false, false, true},
                 {true, false, false},
                 {true, true, false},
                 {true, true, true},
                 {true, false, true}};
    struct file plain = jpeg_make(40, 24, 3, 0);
    for (uint8_t orientation = 1; orientation <= 8; orientation++) {
        struct file file = with_orientation(&plain, orientation, orientation % 2 == 0);
        struct fm_rig rig;
        CHECK_INT_EQ(decode(&rig, NULL, file.data, file.size), 0);
        int64_t height = rows[orientation].swapped ? 40 : 24;
        int64_t width = rows[orientation].swapped ? 24 : 40;
        check_shape(&rig, height, width, 3);
        int64_t x = rows[orientation].right ? width - 1 : 0;
        int64_t y = rows[orientation].bottom ? height - 1 : 0;
        const uint8_t *pixel = pixels_of(&rig) + (y * width + x) * 3;
        CHECK_NEAR(pixel[0], 30, 8);
        CHECK_NEAR(pixel[1], 40, 8);
        /* The stored top right corner: red is strong, green weak. */
        x = rows[orientation].swapped ? x : width - 1 - x;
        y = rows[orientation].swapped ? height - 1 - y : y;
        pixel = pixels_of(&rig) + (y * width + x) * 3;
        CHECK_NEAR(pixel[0], 226, 8);
        CHECK_NEAR(pixel[1], 40, 8);
        const int64_t *size = fm_rig_output(&rig, 1)->data;
        CHECK_INT_EQ(size[0], height);
        fm_rig_destroy(&rig);
        CHECK_INT_EQ(decode(&rig, "orientation=false", file.data, file.size), 0);
        check_shape(&rig, 24, 40, 3);
        fm_rig_destroy(&rig);
        free(file.data);
    }
    tjFree(plain.data);
}

TEST(jpeg_cut_anywhere_is_an_error)
{
    struct file file = jpeg_make(64, 48, 3, 0);
    for (size_t size = 3; size < file.size; size++) {
        struct fm_rig rig;
        CHECK_INT_EQ(decode(&rig, NULL, file.data, size), FM_ECORRUPT);
        CHECK(rig.error.text[0] != '\0');
        fm_rig_destroy(&rig);
    }
    check_error(file.data, file.size - 40, FM_ECORRUPT, "truncated");
    check_error(file.data, 300, FM_ECORRUPT, "image");
    tjFree(file.data);
}

TEST(jpeg_with_lost_data_is_an_error)
{
    struct file file = jpeg_make(64, 48, 3, 0);
    unsigned char *copy = malloc(file.size);
    /* The last part of the image data is missing, but the end marker is there. */
    size_t kept = file.size - 120;
    memcpy(copy, file.data, kept);
    copy[kept] = 0xFF;
    copy[kept + 1] = 0xD9;
    check_error(copy, kept + 2, FM_ECORRUPT, "cannot be decoded");
    /* An end marker right behind the start. */
    memcpy(copy, "\xff\xd8\xff\xd9", 4);
    check_error(copy, 4, FM_ECORRUPT, "ends before any image data");
    free(copy);
    tjFree(file.data);
}

TEST(jpeg_with_harmless_oddities_decodes)
{
    struct file file = jpeg_make(64, 48, 3, 0);
    unsigned char *copy = malloc(file.size + 20);
    /* Bytes behind the end, as cameras leave them. */
    memcpy(copy, file.data, file.size);
    memset(copy + file.size, 0xAB, 20);
    struct fm_rig rig;
    CHECK_INT_EQ(decode(&rig, NULL, copy, file.size + 20), 0);
    fm_rig_destroy(&rig);
    /* A JFIF version from the future. */
    memcpy(copy, file.data, file.size);
    CHECK_MEM_EQ(copy + 6, "JFIF", 4);
    copy[11] = 9;
    CHECK_INT_EQ(decode(&rig, NULL, copy, file.size), 0);
    check_shape(&rig, 48, 64, 3);
    fm_rig_destroy(&rig);
    free(copy);
    tjFree(file.data);
}

TEST(jpeg_of_a_hundred_megapixels_is_refused_by_its_header)
{
    struct file file = jpeg_make(64, 48, 3, 0);
    for (size_t i = 2; i + 9 < file.size; i++) {
        if (file.data[i] == 0xFF && file.data[i + 1] == 0xC0) {
            /* Height and width of the frame header: 10000 x 10000. */
            memcpy(&file.data[i + 5], "\x27\x10\x27\x10", 4);
            break;
        }
    }
    check_error(file.data, file.size, FM_ETOOLARGE, "10000 x 10000");
    check_error(file.data, file.size, FM_ETOOLARGE, "100.0 megapixels");
    struct fm_rig rig;
    CHECK_INT_EQ(decode(&rig, "max_pixels=1000", file.data, file.size), FM_ETOOLARGE);
    fm_rig_destroy(&rig);
    tjFree(file.data);
}

/* --- PNG --- */

static void png_check(const struct spng_ihdr *header, const void *pixels, size_t size,
                      const struct spng_plte *palette, const struct spng_trns *transparency,
                      const char *parameters, const uint8_t *want, int64_t channels)
{
    struct file file = png_make(header, pixels, size, palette, transparency);
    CHECK_INT_GT(file.size, 0);
    struct fm_rig rig;
    CHECK_INT_EQ(decode(&rig, parameters, file.data, file.size), 0);
    check_shape(&rig, (int64_t)header->height, (int64_t)header->width, channels);
    CHECK_MEM_EQ(pixels_of(&rig), want, fm_rig_output(&rig, 0)->size);
    fm_rig_destroy(&rig);
    free(file.data);
}

TEST(png_colour_types)
{
    const struct spng_ihdr rgb = {
        .width = 2, .height = 1, .bit_depth = 8, .color_type = SPNG_COLOR_TYPE_TRUECOLOR};
    const uint8_t pixels[6] = {1, 2, 3, 250, 0, 100};
    png_check(&rgb, pixels, 6, NULL, NULL, NULL, pixels, 3);
    png_check(&rgb, pixels, 6, NULL, NULL, "channels=bgr", (const uint8_t[]){3, 2, 1, 100, 0, 250},
              3);
    png_check(&rgb, pixels, 6, NULL, NULL, "channels=gray", (const uint8_t[]){2, 87}, 1);
    const struct spng_ihdr gray = {
        .width = 3, .height = 1, .bit_depth = 8, .color_type = SPNG_COLOR_TYPE_GRAYSCALE};
    png_check(&gray, (const uint8_t[]){0, 7, 255}, 3, NULL, NULL, "channels=native",
              (const uint8_t[]){0, 7, 255}, 1);
    png_check(&gray, (const uint8_t[]){0, 7, 255}, 3, NULL, NULL, NULL,
              (const uint8_t[]){0, 0, 0, 7, 7, 7, 255, 255, 255}, 3);
    const struct spng_ihdr bits = {
        .width = 4, .height = 1, .bit_depth = 2, .color_type = SPNG_COLOR_TYPE_GRAYSCALE};
    png_check(&bits, (const uint8_t[]){0x1B}, 1, NULL, NULL, "channels=gray",
              (const uint8_t[]){0, 85, 170, 255}, 1);
    const struct spng_ihdr deep = {
        .width = 2, .height = 1, .bit_depth = 16, .color_type = SPNG_COLOR_TYPE_GRAYSCALE};
    png_check(&deep, (const uint16_t[]){0x1234, 0xFF00}, 4, NULL, NULL, "channels=native",
              (const uint8_t[]){0x12, 0xFF}, 1);
}

TEST(png_palette_and_transparency)
{
    const struct spng_ihdr indexed = {
        .width = 2, .height = 1, .bit_depth = 8, .color_type = SPNG_COLOR_TYPE_INDEXED};
    const struct spng_plte palette = {.n_entries = 2,
                                      .entries = {{10, 20, 30, 255}, {200, 0, 0, 255}}};
    const struct spng_trns half = {.n_type3_entries = 2, .type3_alpha = {255, 51}};
    png_check(&indexed, (const uint8_t[]){0, 1}, 2, &palette, NULL, NULL,
              (const uint8_t[]){10, 20, 30, 200, 0, 0}, 3);
    png_check(&indexed, (const uint8_t[]){0, 1}, 2, &palette, &half, NULL,
              (const uint8_t[]){10, 20, 30, 244, 204, 204}, 3);
    const struct spng_ihdr alpha = {
        .width = 3, .height = 1, .bit_depth = 8, .color_type = SPNG_COLOR_TYPE_TRUECOLOR_ALPHA};
    const uint8_t pixels[12] = {1, 2, 3, 255, 9, 9, 9, 0, 0, 100, 200, 128};
    png_check(&alpha, pixels, 12, NULL, NULL, NULL,
              (const uint8_t[]){1, 2, 3, 255, 255, 255, 127, 177, 227}, 3);
    const struct spng_ihdr gray_alpha = {
        .width = 2, .height = 1, .bit_depth = 8, .color_type = SPNG_COLOR_TYPE_GRAYSCALE_ALPHA};
    png_check(&gray_alpha, (const uint8_t[]){80, 255, 0, 0}, 4, NULL, NULL, "channels=native",
              (const uint8_t[]){80, 255}, 1);
}

static struct file png_ramp(uint32_t width, uint32_t height)
{
    const struct spng_ihdr header = {
        .width = width, .height = height, .bit_depth = 8, .color_type = SPNG_COLOR_TYPE_TRUECOLOR};
    size_t size = (size_t)width * height * 3;
    uint8_t *pixels = malloc(size);
    for (size_t i = 0; i < size; i++) {
        pixels[i] = (uint8_t)(i * 7);
    }
    struct file file = png_make(&header, pixels, size, NULL, NULL);
    free(pixels);
    return file;
}

/* Adam7: seven passes of a 4 x 4 gray image, stored without compression; value = 16 * y + x. */
TEST(png_interlaced)
{
    struct fm_rig rig;
    /* Scanlines, each behind its filter byte: passes 1, 4, 5, 6 and 7 have pixels in an image of
     * this size; 2 and 3 have none. */
    static const uint8_t scanlines[] = {0,    0x00, 0, 0x02, 0,    0x20, 0x22, 0,
                                        0x01, 0x03, 0, 0x21, 0x23, 0,    0x10, 0x11,
                                        0x12, 0x13, 0, 0x30, 0x31, 0x32, 0x33};
    uint8_t data[256];
    size_t size = 0;
    uint32_t crc_table[256];
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int k = 0; k < 8; k++) {
            value = (value >> 1) ^ ((value & 1) != 0 ? 0xEDB88320u : 0);
        }
        crc_table[i] = value;
    }
    uint32_t a = 1;
    uint32_t b = 0;
    for (size_t i = 0; i < sizeof(scanlines); i++) {
        a = (a + scanlines[i]) % 65521;
        b = (b + a) % 65521;
    }
    uint8_t zlib[64] = {0x78, 0x01, 0x01, sizeof(scanlines), 0, (uint8_t) ~sizeof(scanlines), 0xFF};
    memcpy(zlib + 7, scanlines, sizeof(scanlines));
    size_t zlib_size = 7 + sizeof(scanlines) + 4;
    const uint8_t sum[4] = {(uint8_t)(b >> 8), (uint8_t)b, (uint8_t)(a >> 8), (uint8_t)a};
    memcpy(zlib + zlib_size - 4, sum, 4);
    const struct {
        const char *type;
        const uint8_t *content;
        size_t length;
    } chunks[] = {{"IHDR", (const uint8_t[]){0, 0, 0, 4, 0, 0, 0, 4, 8, 0, 0, 0, 1}, 13},
                  {"IDAT", zlib, zlib_size},
                  {"IEND", zlib, 0}};
    memcpy(data, "\x89PNG\r\n\x1a\n", 8);
    size = 8;
    for (int i = 0; i < 3; i++) {
        memcpy(data + size, (const uint8_t[]){0, 0, 0, (uint8_t)chunks[i].length}, 4);
        memcpy(data + size + 4, chunks[i].type, 4);
        memcpy(data + size + 8, chunks[i].content, chunks[i].length);
        uint32_t crc = 0xFFFFFFFFu;
        for (size_t j = 0; j < chunks[i].length + 4; j++) {
            crc = crc_table[(crc ^ data[size + 4 + j]) & 255] ^ (crc >> 8);
        }
        crc = ~crc;
        size += 8 + chunks[i].length;
        for (int j = 0; j < 4; j++) {
            data[size++] = (uint8_t)(crc >> (24 - 8 * j));
        }
    }
    CHECK_INT_EQ(decode(&rig, "channels=native", data, size), 0);
    check_shape(&rig, 4, 4, 1);
    for (int i = 0; i < 16; i++) {
        CHECK_INT_EQ(pixels_of(&rig)[i], i / 4 * 16 + i % 4);
    }
    fm_rig_destroy(&rig);
}

TEST(png_cut_or_damaged_is_an_error)
{
    struct file file = png_ramp(30, 20);
    CHECK_INT_GT(file.size, 100);
    for (size_t size = 4; size < file.size; size++) {
        struct fm_rig rig;
        CHECK_INT_EQ(decode(&rig, NULL, file.data, size), FM_ECORRUPT);
        fm_rig_destroy(&rig);
    }
    check_error(file.data, 60, FM_ECORRUPT, "the PNG image is truncated: its 60 bytes");
    file.data[60] ^= 0x40;
    check_error(file.data, file.size, FM_ECORRUPT, "PNG image cannot be decoded");
    free(file.data);
}

TEST(png_of_a_hundred_megapixels_is_refused_by_its_header)
{
    struct file file = png_ramp(10000, 1);
    struct fm_rig rig;
    CHECK_INT_EQ(decode(&rig, "max_pixels=9999", file.data, file.size), FM_ETOOLARGE);
    CHECK_STR_CONTAINS(rig.error.text, "10000 x 1 pixels");
    fm_rig_destroy(&rig);
    CHECK_INT_EQ(decode(&rig, "max_pixels=10000", file.data, file.size), 0);
    fm_rig_destroy(&rig);
    free(file.data);
}

/* One chunk larger than what ancillary chunks may take together. */
TEST(png_with_a_large_chunk_of_image_data)
{
    const struct spng_ihdr header = {
        .width = 3000, .height = 3000, .bit_depth = 8, .color_type = SPNG_COLOR_TYPE_TRUECOLOR};
    struct file file = {0};
    int code = 0;
    size_t size = (size_t)3000 * 3000 * 3;
    uint8_t *pixels = calloc(1, size);
    for (size_t i = 0; i < size; i += 5) {
        pixels[i] = (uint8_t)(i >> 3);
    }
    spng_ctx *context = spng_ctx_new(SPNG_CTX_ENCODER);
    struct spng_ihdr copy = header;
    (void)spng_set_option(context, SPNG_ENCODE_TO_BUFFER, 1);
    (void)spng_set_option(context, SPNG_IMG_COMPRESSION_LEVEL, 0);
    (void)spng_set_ihdr(context, &copy);
    CHECK_INT_EQ(spng_encode_image(context, pixels, size, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE), 0);
    file.data = spng_get_png_buffer(context, &file.size, &code);
    spng_ctx_free(context);
    struct fm_rig rig;
    CHECK_INT_EQ(decode(&rig, NULL, file.data, file.size), 0);
    CHECK_MEM_EQ(pixels_of(&rig), pixels, size);
    fm_rig_destroy(&rig);
    free(file.data);
    free(pixels);
}

/* --- Others --- */

TEST(other_formats_are_named)
{
    check_error("GIF89a........", 14, FM_EUNSUPPORTED, "a GIF image");
    check_error("RIFF\x10\0\0\0WEBPVP8 ", 16, FM_EUNSUPPORTED, "a WebP image");
    check_error("%PDF-1.7\n", 9, FM_EUNSUPPORTED, "a PDF document");
    check_error("II*\0\x08\0\0\0", 8, FM_EUNSUPPORTED, "a TIFF image");
    check_error("MM\0*\0\0\0\x08", 8, FM_EUNSUPPORTED, "a TIFF image");
    check_error("<!DOCTYPE html><html>", 21, FM_EUNSUPPORTED, "an HTML page");
    check_error("PK\3\4.....", 9, FM_EUNSUPPORTED, "a zip archive");
    check_error("hello", 5, FM_ECORRUPT, "its 5 bytes begin with 68 65 6c 6c 6f");
    check_error("\xff", 1, FM_ECORRUPT, "neither a JPEG nor a PNG");
    check_error("", 0, FM_ECORRUPT, "empty");
}

TEST(parameters_are_checked)
{
    struct fm_rig rig;
    CHECK_INT_EQ(fm_rig_create(&rig, "image_decode", "channels=rbg"), FM_EINVAL);
    CHECK_STR_CONTAINS(rig.error.text, "must be one of: rgb, bgr, gray, native");
    CHECK_INT_EQ(fm_rig_create(&rig, "image_decode", "max_pixels=0"), FM_EINVAL);
    CHECK_INT_EQ(fm_rig_create(&rig, "image_decode", "scale_to=big"), FM_EINVAL);
    CHECK_INT_EQ(fm_rig_create(&rig, "image_decode", "orientation=perhaps"), FM_EINVAL);
    CHECK_INT_EQ(fm_rig_create(&rig, "image_decode", "max_pixel=5"), FM_EINVAL);
    CHECK_STR_CONTAINS(rig.error.text, "did you mean 'max_pixels'?");
}

TEST_MAIN()
