/*
 * gzip and deflate: there and back at every size, what is broken, what is too much, failing memory.
 */
#include "host/net/compress.h"

#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

static int compress(enum fm_compression compression, const char *data, size_t size, size_t piece,
                    struct fm_text *text)
{
    struct fm_compressor *compressor = fm_compressor_create(compression, text);
    if (compressor == NULL) {
        return FM_ENOMEM;
    }
    int status = 0;
    for (size_t at = 0; at < size && status == 0; at += piece) {
        status = fm_compressor_add(compressor, data + at, size - at < piece ? size - at : piece);
    }
    status = status == 0 ? fm_compressor_end(compressor) : status;
    fm_compressor_destroy(compressor);
    return status;
}

TEST(there_and_back)
{
    static const size_t sizes[] = {0, 1, 2, 100, 4095, 4096, 4097, 65536, 1000000, 5000000};
    struct fm_random random;
    fm_random_init(&random, 1);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char *data = fm_alloc(sizes[i] + 1);
        CHECK(data != NULL);
        for (size_t at = 0; at < sizes[i]; at++) {
            data[at] = (char)fm_random_below(&random, at % 1000 < 500 ? 2 : 256);
        }
        for (int kind = 0; kind < FM_COMPRESSION_COUNT_; kind++) {
            struct fm_text packed = {0};
            struct fm_text back = {0};
            enum fm_compression compression = (enum fm_compression)kind;
            CHECK_INT_EQ(compress(compression, data, sizes[i], 1 + sizes[i] / 3, &packed), 0);
            /* What just fits, and a byte too much. */
            CHECK_INT_EQ(fm_decompress(compression, packed.data, packed.length, sizes[i], &back),
                         0);
            CHECK_UINT_EQ(back.length, sizes[i]);
            if (sizes[i] > 0) {
                CHECK_MEM_EQ(back.data, data, sizes[i]);
                fm_text_clear(&back);
                CHECK_INT_EQ(
                    fm_decompress(compression, packed.data, packed.length, sizes[i] - 1, &back),
                    FM_ETOOLARGE);
            }
            fm_text_deinit(&packed);
            fm_text_deinit(&back);
        }
        fm_free(data);
    }
}

TEST(a_bomb_takes_no_more_than_allowed)
{
    size_t size = (size_t)64 << 20;
    char *zeros = fm_alloc_zero(1, size);
    struct fm_text packed = {0};
    struct fm_text back = {0};
    CHECK(zeros != NULL);
    CHECK_INT_EQ(compress(FM_COMPRESSION_GZIP, zeros, size, size, &packed), 0);
    fm_free(zeros);
    CHECK_INT_LT(packed.length, 1 << 20);
    CHECK_INT_EQ(fm_decompress(FM_COMPRESSION_GZIP, packed.data, packed.length, 1000000, &back),
                 FM_ETOOLARGE);
    CHECK_INT_LE(back.capacity, 4 << 20);
    fm_text_deinit(&packed);
    fm_text_deinit(&back);
}

TEST(what_is_broken)
{
    for (int kind = FM_COMPRESSION_DEFLATE; kind <= FM_COMPRESSION_GZIP; kind++) {
        enum fm_compression compression = (enum fm_compression)kind;
        struct fm_text packed = {0};
        struct fm_text back = {0};
        CHECK_INT_EQ(compress(compression, "hello, hello, hello", 19, 19, &packed), 0);
        for (size_t cut = 1; cut < packed.length; cut++) {
            CHECK_INT_EQ(fm_decompress(compression, packed.data, cut, 1000, &back), FM_ECORRUPT);
        }
        enum fm_compression other =
            kind == FM_COMPRESSION_GZIP ? FM_COMPRESSION_DEFLATE : FM_COMPRESSION_GZIP;
        CHECK_INT_EQ(fm_decompress(other, packed.data, packed.length, 1000, &back), FM_ECORRUPT);
        fm_text_append_char(&packed, 'x');
        CHECK_INT_EQ(fm_decompress(compression, packed.data, packed.length, 1000, &back),
                     FM_ECORRUPT);
        packed.data[packed.length / 2] ^= 0x40;
        CHECK_INT_EQ(fm_decompress(compression, packed.data, packed.length - 1, 1000, &back),
                     FM_ECORRUPT);
        fm_text_deinit(&packed);
        fm_text_deinit(&back);
    }
}

TEST(failing_memory)
{
    static char data[100000];
    for (uint64_t n = 1; n < 100; n++) {
        struct fm_text packed = {0};
        struct fm_text back = {0};
        (void)fm_memory_fail_at(n, 0);
        int status = compress(FM_COMPRESSION_GZIP, data, sizeof(data), sizeof(data), &packed);
        if (status == 0) {
            status =
                fm_decompress(FM_COMPRESSION_GZIP, packed.data, packed.length, sizeof(data), &back);
        }
        bool fired = fm_memory_fail_at(0, 0) >= n;
        fm_text_deinit(&packed);
        fm_text_deinit(&back);
        CHECK_INT_EQ(status, fired ? FM_ENOMEM : 0);
        if (!fired) {
            CHECK_INT_LT(5, n);
            return;
        }
    }
    CHECK(false);
}

TEST(names_and_choice)
{
    CHECK_INT_EQ(fm_compression_parse("GZip", 4), FM_COMPRESSION_GZIP);
    CHECK_INT_EQ(fm_compression_parse("x-gzip", 6), FM_COMPRESSION_GZIP);
    CHECK_INT_EQ(fm_compression_parse("deflate", 7), FM_COMPRESSION_DEFLATE);
    CHECK_INT_EQ(fm_compression_parse("identity", 8), FM_COMPRESSION_IDENTITY);
    CHECK_INT_EQ(fm_compression_parse("br", 2), FM_COMPRESSION_COUNT_);
    CHECK_STR_EQ(fm_compression_name(FM_COMPRESSION_DEFLATE), "deflate");
    static const struct {
        const char *accepted;
        enum fm_compression expected;
    } rows[] = {
        {NULL, FM_COMPRESSION_IDENTITY},
        {"", FM_COMPRESSION_IDENTITY},
        {"identity", FM_COMPRESSION_IDENTITY},
        {"br, zstd", FM_COMPRESSION_IDENTITY},
        {"gzip", FM_COMPRESSION_GZIP},
        {"identity, deflate, gzip", FM_COMPRESSION_GZIP},
        {"gzip,deflate", FM_COMPRESSION_GZIP},
        {" deflate ", FM_COMPRESSION_DEFLATE},
        {"gzip;q=0, deflate", FM_COMPRESSION_DEFLATE},
        {"gzip;q=0.5,deflate;q=0.8", FM_COMPRESSION_DEFLATE},
        {"gzip; q=0.25, deflate; q=0.2", FM_COMPRESSION_GZIP},
        {"gzip;q=0.000", FM_COMPRESSION_IDENTITY},
        {"gzip;nonsense", FM_COMPRESSION_IDENTITY},
        {"*", FM_COMPRESSION_IDENTITY},
        {",,,;;", FM_COMPRESSION_IDENTITY},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        CHECK_INT_EQ(fm_compression_choose(rows[i].accepted), rows[i].expected);
    }
}

TEST_MAIN()
