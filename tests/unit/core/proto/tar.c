/*
 * Tests of core/proto/tar: headers of the kinds that programs write, pax records, names of samples,
 * and what is refused.
 */
#include "core/proto/tar.h"

#include <stdbool.h>

#include "tests/harness/test.h"

static unsigned char block[FM_TAR_BLOCK];

static void sum_set(void)
{
    unsigned sum = 0;
    memset(block + 148, ' ', 8);
    for (size_t i = 0; i < sizeof(block); i++) {
        sum += block[i];
    }
    (void)snprintf((char *)block + 148, 8, "%06o", sum);
}

/* A header as `magic` has it: "ustar\0" "00", or GNU's "ustar  \0". */
static void header_make(const char *name, const char *size, char type, const char *magic)
{
    memset(block, 0, sizeof(block));
    memcpy(block, name, strlen(name) < 100 ? strlen(name) : 100);
    memcpy(block + 124, size, strlen(size) < 12 ? strlen(size) : 12);
    block[156] = (unsigned char)type;
    memcpy(block + 257, magic, 8);
    sum_set();
}

#define USTAR \
    "ustar\0" \
    "00"
#define GNU "ustar  \0"

TEST(headers)
{
    struct fm_tar_header header;
    struct fm_error error = {0};
    char longest[128];
    header_make("a/1.jpg", "00000001234", '0', USTAR);
    CHECK_INT_EQ(fm_tar_header_read(block, &header, &error), 1);
    CHECK_INT_EQ(header.kind, FM_TAR_FILE);
    CHECK_STR_EQ(header.name, "a/1.jpg");
    CHECK_UINT_EQ(header.size, 01234);
    header_make("a", "  17 ", '\0', "\0\0\0\0\0\0\0");
    CHECK_INT_EQ(fm_tar_header_read(block, &header, &error), 1);
    CHECK_INT_EQ(header.kind, FM_TAR_FILE);
    CHECK_UINT_EQ(header.size, 017);
    /* A name that fills its field, and the prefix before it: of ustar only. */
    memset(longest, 'n', 100);
    longest[100] = '\0';
    header_make(longest, "1", '0', USTAR);
    memset(block + 345, 'p', 155);
    sum_set();
    CHECK_INT_EQ(fm_tar_header_read(block, &header, &error), 1);
    CHECK_UINT_EQ(strlen(header.name), 256);
    CHECK_INT_EQ(header.name[155], '/');
    header_make("b", "1", '0', GNU);
    memset(block + 345, 't', 12);
    sum_set();
    CHECK_INT_EQ(fm_tar_header_read(block, &header, &error), 1);
    CHECK_STR_EQ(header.name, "b");
    /* Sizes beyond 8 GiB, as GNU tar writes them. */
    header_make("c", "\x80\0", '0', GNU);
    memcpy(block + 124, "\x80\0\0\0\0\0\0\x05\0\0\0\x07", 12);
    sum_set();
    CHECK_INT_EQ(fm_tar_header_read(block, &header, &error), 1);
    CHECK_UINT_EQ(header.size, UINT64_C(0x500000007));
    static const struct {
        char type;
        enum fm_tar_kind kind;
        uint64_t size;
    } types[] = {{'7', FM_TAR_FILE, 8},  {'x', FM_TAR_PAX, 8},   {'L', FM_TAR_LONG_NAME, 8},
                 {'g', FM_TAR_OTHER, 8}, {'K', FM_TAR_OTHER, 8}, {'1', FM_TAR_OTHER, 0},
                 {'5', FM_TAR_OTHER, 0}, {'2', FM_TAR_OTHER, 0}, {'V', FM_TAR_OTHER, 8}};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        header_make("d", "10", types[i].type, USTAR);
        CHECK_INT_EQ(fm_tar_header_read(block, &header, &error), 1);
        CHECK_INT_EQ(header.kind, types[i].kind);
        CHECK_UINT_EQ(header.size, types[i].size);
    }
    memset(block, 0, sizeof(block));
    CHECK_INT_EQ(fm_tar_header_read(block, &header, &error), 0);
}

/* Sums of signed bytes, which old programs wrote. */
TEST(signed_sums)
{
    struct fm_tar_header header;
    int sum = 0;
    header_make("\xFC"
                "ber",
                "1", '0', USTAR);
    memset(block + 148, ' ', 8);
    for (size_t i = 0; i < sizeof(block); i++) {
        sum += block[i] < 128 ? block[i] : block[i] - 256;
    }
    (void)snprintf((char *)block + 148, 8, "%06o", (unsigned)sum);
    CHECK_INT_EQ(fm_tar_header_read(block, &header, NULL), 1);
    CHECK_STR_EQ(header.name, "\xFC"
                              "ber");
}

TEST(what_is_no_header)
{
    struct fm_tar_header header;
    struct fm_error error = {0};
    header_make("a", "1", '0', USTAR);
    for (size_t i = 0; i < sizeof(block); i++) {
        /* Behind the sum's digits nothing counts that is blank or zero. */
        unsigned char was = block[i];
        block[i] = was == 'z' ? 'y' : 'z';
        CHECK_INT_EQ(fm_tar_header_read(block, &header, &error), FM_ECORRUPT);
        CHECK_STR_CONTAINS(error.text, "no header of a tar archive");
        block[i] = was;
    }
    static const char *const sizes[] = {"9", "1x", " ", "12 34"};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        header_make("a", sizes[i], '0', USTAR);
        CHECK_INT_EQ(fm_tar_header_read(block, &header, &error), FM_ECORRUPT);
        CHECK_STR_CONTAINS(error.text, "whose size is no number");
    }
    header_make("a", "", '0', GNU);
    memset(block + 124, 0xFF, 12);
    sum_set();
    CHECK_INT_EQ(fm_tar_header_read(block, &header, &error), FM_ECORRUPT);
    header_make("a", "1", 'S', GNU);
    CHECK_INT_EQ(fm_tar_header_read(block, &header, &error), FM_EUNSUPPORTED);
    CHECK_STR_CONTAINS(error.text, "a sparse file");
    CHECK_UINT_EQ(fm_tar_stored_size(0), 0);
    CHECK_UINT_EQ(fm_tar_stored_size(1), 512);
    CHECK_UINT_EQ(fm_tar_stored_size(512), 512);
    CHECK_UINT_EQ(fm_tar_stored_size(UINT64_MAX), UINT64_MAX);
}

TEST(pax_records)
{
    struct fm_tar_pax pax;
    struct fm_error error = {0};
    static const char good[] =
        "30 mtime=1700000000.123456789\n18 path=a=b\nc.jpg\n21 size=123456789012\n";
    CHECK_INT_EQ(fm_tar_pax_read(good, sizeof(good) - 1, &pax, &error), 0);
    CHECK(pax.has_name && pax.has_size);
    CHECK_STR_EQ(pax.name, "a=b\nc.jpg");
    CHECK_UINT_EQ(pax.size, UINT64_C(123456789012));
    CHECK_INT_EQ(fm_tar_pax_read("", 0, &pax, &error), 0);
    CHECK(!pax.has_name && !pax.has_size);
    static const struct {
        const char *text;
        int status;
        const char *words;
    } bad[] = {
        {"x path=a\n", FM_ECORRUPT, "not understood"},
        {"9 path=a", FM_ECORRUPT, "not understood"},
        {"99 path=a\n", FM_ECORRUPT, "not understood"},
        {"8 path=a\n", FM_ECORRUPT, "not understood"},
        {"9\tpath=a\n", FM_ECORRUPT, "not understood"},
        {"7 path\n", FM_ECORRUPT, "not understood"},
        {"99999999999999999999999 path=a\n", FM_ECORRUPT, "not understood"},
        {"9 size=x\n", FM_ECORRUPT, "whose size is no number"},
        {"8 size=\n", FM_ECORRUPT, "whose size is no number"},
        {"32 size=99999999999999999999999\n", FM_ECORRUPT, "whose size is no number"},
        {"22 GNU.sparse.major=1\n", FM_EUNSUPPORTED, "a sparse file"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK_INT_EQ(fm_tar_pax_read(bad[i].text, strlen(bad[i].text), &pax, &error),
                     bad[i].status);
        CHECK_STR_CONTAINS(error.text, bad[i].words);
    }
    static char wide[5000];
    int used = snprintf(wide, sizeof(wide), "4200 path=%04189d\n", 7);
    CHECK_INT_EQ(used, 4200);
    CHECK_INT_EQ(fm_tar_pax_read(wide, 4200, &pax, &error), FM_ETOOLARGE);
}

TEST(names_of_samples)
{
    static const struct {
        const char *name;
        const char *key; /* NULL: of no sample */
        const char *field;
    } cases[] = {
        {"1.jpg", "1", "jpg"},        {"a/b.c/1.seg.png", "a/b.c/1", "seg.png"},
        {"./a/1.cls", "a/1", "cls"},  {"././1.cls", "1", "cls"},
        {"a.b/1", NULL, NULL},        {"1", NULL, NULL},
        {".1.jpg", NULL, NULL},       {"a/.jpg", NULL, NULL},
        {"1.", NULL, NULL},           {"__meta__.json__", NULL, NULL},
        {"a/__meta.x__", NULL, NULL}, {"", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fm_tar_sample_name name;
        bool is = fm_tar_sample_name_parse(cases[i].name, &name);
        CHECK_INT_EQ(is, cases[i].key != NULL);
        if (is) {
            CHECK_UINT_EQ(name.key_length, strlen(cases[i].key));
            CHECK_MEM_EQ(name.key, cases[i].key, name.key_length);
            CHECK_STR_EQ(name.field, cases[i].field);
        }
    }
}

TEST_MAIN()
