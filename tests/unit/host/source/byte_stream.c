/*
 * Tests of host/source/byte_stream: what comes out of plain and compressed files, from any place;
 * cut and damaged ones.
 */
#include "host/source/byte_stream.h"

#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "core/util/memory.h"
#include "core/util/random.h"
#include "core/util/text.h"
#include "tests/harness/test.h"

enum { BYTES = 300000, PACKED_MAX = BYTES + 4096 };

static char path[64];
static unsigned char plain[BYTES];
static unsigned char packed[2 * PACKED_MAX];

static void file_make(const void *data, size_t size)
{
    if (path[0] == '\0') {
        (void)snprintf(path, sizeof(path), "/tmp/fermata-stream-XXXXXX");
        int descriptor = mkstemp(path);
        if (descriptor < 0) {
            abort();
        }
        (void)close(descriptor);
    }
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
        abort();
    }
}

/* Bytes that can be compressed, but not to nothing. */
static void plain_make(void)
{
    struct fm_random random;
    fm_random_init(&random, 5);
    for (size_t i = 0; i < BYTES; i++) {
        plain[i] = (unsigned char)('a' + fm_random_below(&random, 20));
    }
}

static size_t gzip_pack(const unsigned char *data, size_t size, unsigned char *to)
{
    z_stream stream = {0};
    if (deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        abort();
    }
    stream.next_in = (unsigned char *)(uintptr_t)data;
    stream.avail_in = (uInt)size;
    stream.next_out = to;
    stream.avail_out = PACKED_MAX;
    if (deflate(&stream, Z_FINISH) != Z_STREAM_END) {
        abort();
    }
    size_t packed_size = stream.total_out;
    (void)deflateEnd(&stream);
    return packed_size;
}

static size_t zstd_pack(const unsigned char *data, size_t size, unsigned char *to)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    if (context == NULL ||
        ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1)) != 0) {
        abort();
    }
    size_t packed_size = ZSTD_compress2(context, to, PACKED_MAX, data, size);
    if (ZSTD_isError(packed_size) != 0) {
        abort();
    }
    (void)ZSTD_freeCCtx(context);
    return packed_size;
}

/* Reads at places before and behind one another. */
static void check_anywhere(size_t size)
{
    struct fm_byte_stream stream = {0};
    struct fm_error error = {0};
    struct fm_random random;
    unsigned char *data = fm_alloc(BYTES);
    size_t got = 0;
    fm_random_init(&random, 9);
    CHECK(data != NULL);
    CHECK_INT_EQ(fm_byte_stream_open(&stream, path, &error), 0);
    for (int i = 0; i < 40; i++) {
        uint64_t offset = fm_random_below(&random, (uint32_t)size + 100);
        size_t wanted = fm_random_below(&random, i % 2 == 0 ? 50 : 200000);
        size_t there = offset < size ? size - (size_t)offset : 0;
        CHECK_INT_EQ(fm_byte_stream_read_at(&stream, offset, data, wanted, &got, &error), 0);
        CHECK_UINT_EQ(got, wanted < there ? wanted : there);
        CHECK_MEM_EQ(data, plain + offset, got);
    }
    CHECK_INT_EQ(fm_byte_stream_read_at(&stream, 0, data, BYTES, &got, &error), 0);
    CHECK_UINT_EQ(got, size);
    CHECK_MEM_EQ(data, plain, size);
    fm_byte_stream_close(&stream);
    fm_free(data);
}

/* What reading all of the file ends with. */
static int read_all(struct fm_error *reterr, size_t *ret_size)
{
    struct fm_byte_stream stream = {0};
    unsigned char *data = fm_alloc(2 * BYTES);
    *ret_size = 0;
    *reterr = (struct fm_error){0};
    int status = fm_byte_stream_open(&stream, path, reterr);
    if (status == 0) {
        status = fm_byte_stream_read_at(&stream, 0, data, (size_t)2 * BYTES, ret_size, reterr);
    }
    fm_byte_stream_close(&stream);
    fm_free(data);
    return status;
}

TEST(any_place_of_any_kind)
{
    plain_make();
    file_make(plain, BYTES);
    check_anywhere(BYTES);
    file_make(packed, gzip_pack(plain, BYTES, packed));
    check_anywhere(BYTES);
    file_make(packed, zstd_pack(plain, BYTES, packed));
    check_anywhere(BYTES);
}

TEST(several_streams_and_zeros_behind_them)
{
    plain_make();
    size_t half = BYTES / 3;
    size_t size = gzip_pack(plain, half, packed);
    size += gzip_pack(plain + half, BYTES - half, packed + size);
    memset(packed + size, 0, 1000);
    file_make(packed, size + 1000);
    check_anywhere(BYTES);
    size = zstd_pack(plain, half, packed);
    size += zstd_pack(plain, 0, packed + size);
    size += zstd_pack(plain + half, BYTES - half, packed + size);
    file_make(packed, size);
    check_anywhere(BYTES);
}

TEST(nothing_compressed_is_nothing)
{
    struct fm_error error;
    size_t got = 1;
    file_make(packed, gzip_pack(plain, 0, packed));
    CHECK_INT_EQ(read_all(&error, &got), 0);
    CHECK_UINT_EQ(got, 0);
    file_make(packed, zstd_pack(plain, 0, packed));
    CHECK_INT_EQ(read_all(&error, &got), 0);
    CHECK_UINT_EQ(got, 0);
    file_make("", 0);
    CHECK_INT_EQ(read_all(&error, &got), 0);
    CHECK_UINT_EQ(got, 0);
}

/* Wherever it is cut, that is said, with the file and the place. */
TEST(cut_files)
{
    struct fm_error error;
    size_t got = 0;
    plain_make();
    for (int kind = 0; kind < 2; kind++) {
        size_t small = 3000;
        size_t size = kind == 0 ? gzip_pack(plain, small, packed) : zstd_pack(plain, small, packed);
        for (size_t cut = kind == 0 ? 2 : 4; cut < size; cut++) {
            char place[64];
            file_make(packed, cut);
            CHECK_INT_EQ(read_all(&error, &got), FM_ECORRUPT);
            (void)snprintf(place, sizeof(place), ": byte %zu of the %s file: ", cut,
                           kind == 0 ? "gzip" : "zstd");
            CHECK_STR_CONTAINS(error.text, path);
            CHECK_STR_CONTAINS(error.text, place);
            CHECK_STR_CONTAINS(error.text, "it was cut off");
        }
        file_make(packed, size);
        CHECK_INT_EQ(read_all(&error, &got), 0);
        CHECK_UINT_EQ(got, small);
    }
}

/* A byte that is another one is seen, by the checksum at the latest. */
TEST(damaged_files)
{
    struct fm_error error;
    size_t got = 0;
    plain_make();
    for (int kind = 0; kind < 2; kind++) {
        size_t size = kind == 0 ? gzip_pack(plain, 3000, packed) : zstd_pack(plain, 3000, packed);
        for (size_t i = 300; i < size; i += 97) {
            packed[i] ^= 0x55;
            file_make(packed, size);
            CHECK_INT_EQ(read_all(&error, &got), FM_ECORRUPT);
            CHECK_STR_CONTAINS(error.text, kind == 0 ? "of the gzip file: " : "of the zstd file: ");
            packed[i] ^= 0x55;
        }
        memcpy(packed + size, "more", 4);
        file_make(packed, size + 4);
        CHECK_INT_EQ(read_all(&error, &got), FM_ECORRUPT);
    }
}

TEST(a_file_that_is_not_there)
{
    struct fm_byte_stream stream = {0};
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_byte_stream_open(&stream, "/nonexistent/a.csv.gz", &error), FM_ENOTFOUND);
    fm_byte_stream_close(&stream);
    (void)unlink(path);
}

TEST_MAIN()
