/*
 * Tests of host/source: tar archives of samples, as programs write them, from every sample on; cut
 * and damaged ones, and samples that cannot be used.
 */
#include "host/source/source.h"

#include <unistd.h>

#include "core/proto/tar.h"
#include "core/util/memory.h"
#include "host/os/file.h"
#include "host/source/formats.h"
#include "tests/harness/source_rig.h"
#include "tests/harness/test.h"

enum { POINTS_MAX = 64 };

static char path[64];
static struct fm_text archive;

static void archive_begin(void)
{
    if (path[0] == '\0') {
        (void)snprintf(path, sizeof(path), "/tmp/fermata-tar-XXXXXX");
        int descriptor = mkstemp(path);
        if (descriptor < 0) {
            abort();
        }
        (void)close(descriptor);
    }
    fm_text_clear(&archive);
}

static void member_put(const char *name, char type, const char *data, size_t size)
{
    static const char zeros[FM_TAR_BLOCK];
    unsigned char block[FM_TAR_BLOCK] = {0};
    unsigned sum = 0;
    memcpy(block, name, strlen(name) < 100 ? strlen(name) : 100);
    (void)snprintf((char *)block + 124, 12, "%011o", (unsigned)size);
    memset(block + 148, ' ', 8);
    block[156] = (unsigned char)type;
    memcpy(block + 257,
           "ustar\0"
           "00",
           8);
    for (size_t i = 0; i < sizeof(block); i++) {
        sum += block[i];
    }
    (void)snprintf((char *)block + 148, 8, "%06o", sum);
    fm_text_append(&archive, block, sizeof(block));
    fm_text_append(&archive, data, size);
    fm_text_append(&archive, zeros, (size_t)fm_tar_stored_size(size) - size);
}

static void put(const char *name, const char *text)
{
    member_put(name, '0', text, strlen(text));
}

/* Writes it, with the end that an archive has. */
static void archive_end(void)
{
    static const char zeros[2 * FM_TAR_BLOCK];
    fm_text_append(&archive, zeros, sizeof(zeros));
    if (fm_file_write_atomic(path, archive.data, archive.length, NULL) != 0) {
        abort();
    }
}

static const char *const image_names[] = {"jpg"};
static const char *const label_names[] = {"cls"};
static const char *const box_names[] = {"x.txt", "y.txt"};
static const char *const passed[] = {"json", "__key__"};
static const struct fm_source_tensor tensors[] = {
    {.column = {.name = "image", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}},
     .names = image_names,
     .name_count = 1},
    {.column = {.name = "label", .dtype = FM_DTYPE_INT32}, .names = label_names, .name_count = 1},
    {.column = {.name = "box", .dtype = FM_DTYPE_FP32, .rank = 1, .shape = {2}},
     .names = box_names,
     .name_count = 2},
};

static struct fm_source_spec spec_of(uint32_t tensor_count)
{
    return (struct fm_source_spec){.format = &fm_source_tar,
                                   .tensors = tensors,
                                   .tensor_count = tensor_count,
                                   .id = "__key__",
                                   .passed = passed,
                                   .passed_count = 2,
                                   .record_bytes_max = 1 << 20};
}

static void check_read(const struct fm_source_spec *spec, uint64_t skip, const char *expected)
{
    char *text = fm_source_rig_read(spec, path, 0, skip, UINT64_MAX, 100);
    CHECK_STR_EQ(text, expected);
    fm_free(text);
}

/* The error that reading and counting end with has these words. */
static void check_refused(const struct fm_source_spec *spec, const char *code, const char *words)
{
    char *text = fm_source_rig_read(spec, path, 0, 0, UINT64_MAX, 100);
    CHECK_STR_CONTAINS(text, code);
    CHECK_STR_CONTAINS(text, path);
    CHECK_STR_CONTAINS(text, words);
    fm_free(text);
    text = fm_source_rig_count(spec, path);
    CHECK_STR_CONTAINS(text, code);
    CHECK_STR_CONTAINS(text, words);
    fm_free(text);
}

TEST(samples)
{
    struct fm_source_spec spec = spec_of(3);
    archive_begin();
    member_put("./a/", '5', "", 0);
    put("./a/1.jpg", "[raw");
    put("./a/1.CLS", "7 \n");
    put("./a/1.x.txt", "1.5");
    put("./a/1.y.txt", "2.5\r\n");
    put("./a/1.json", "{\n  \"k\": [1,\n 2]}\n");
    put("./a/1.other", "is not looked at");
    put("./a/README", "is of no sample");
    put("./a/.hidden.jpg", "nor is this");
    put("__meta__.json__", "nor this");
    member_put("./a/1.jpg", '2', "", 0); /* a link */
    put("a/2.y.txt", "4.5");
    put("a/2.x.txt", "3.5");
    put("a/2.cls", "-8");
    put("a/2.jpg", "");
    put("a/2.json", "no JSON: \"");
    archive_end();
    check_read(&spec, 0,
               "0 id=a/1 [1]'[raw'; 7; [2]1.5,2.5 | {   \"k\": [1,  2]} | \"a/1\"\n"
               "1 id=a/2 [1]''; -8; [2]3.5,4.5 | \"no JSON: \\\"\" | \"a/2\"\n");
    check_read(&spec, 1, "1 id=a/2 [1]''; -8; [2]3.5,4.5 | \"no JSON: \\\"\" | \"a/2\"\n");
    check_read(&spec, 2, "");
    char *text = fm_source_rig_read(&spec, path, 0, 3, 1, 1);
    CHECK_STR_CONTAINS(text, "!! ENOTFOUND");
    CHECK_STR_CONTAINS(text, "has fewer rows than when the job was begun");
    fm_free(text);
    text = fm_source_rig_count(&spec, path);
    CHECK_STR_EQ(text, "2: 0/512");
    fm_free(text);
    spec.id = "cls";
    spec.passed_count = 0;
    check_read(&spec, 0, "0 id=7 [1]'[raw'; 7; [2]1.5,2.5\n1 id=-8 [1]''; -8; [2]3.5,4.5\n");
}

TEST(samples_that_cannot_be_used)
{
    struct fm_source_spec spec = spec_of(2);
    spec.passed_count = 1;
    spec.record_bytes_max = 100;
    char large[101];
    memset(large, 'x', sizeof(large) - 1);
    large[100] = '\0';
    archive_begin();
    put("1.jpg", "only");
    put("2.jpg", "a");
    put("2.cls", "x1");
    put("3.jpg", "a");
    put("3.cls", "1");
    put("3.jpg", "b");
    put("4.jpg", large);
    put("4.cls", "1");
    put("5.cls", "1");
    put("5.jpg", "fine");
    put("1.cls", "comes too late");
    archive_end();
    check_read(
        &spec, 0,
        "0 id=1 !sample 0: the field 'cls' is missing; there are jpg | null\n"
        "1 id=2 !sample 1: column 'cls': 'x1' is no INT32 | null\n"
        "2 id=3 !sample 2: a field occurs twice in the sample '3' | null\n"
        "3 id=4 !sample 3: the sample '4' has 101 bytes in the wanted fields; the limit for a "
        "record is 100 | null\n"
        "4 id=5 [1]'fine'; 1 | null\n"
        "5 id=1 !sample 5: the field 'jpg' is missing; there are cls | null\n");
}

/* Names that do not fit into a header: of GNU tar and of pax. */
TEST(long_names)
{
    struct fm_source_spec spec = spec_of(1);
    char name[300];
    char record[340];
    spec.passed_count = 0;
    memset(name, 'n', 255);
    (void)snprintf(name + 250, sizeof(name) - 250, ".jpg");
    archive_begin();
    member_put("././@LongLink", 'L', name, strlen(name) + 1);
    put("nnn", "gnu");
    memset(name, 'm', 250);
    (void)snprintf(record, sizeof(record), "264 path=%s\n", name);
    CHECK_INT_EQ(strlen(record), 264);
    member_put("pax", 'x', record, 264);
    put("mmm", "pax");
    member_put("global", 'g', "14 path=a.jpg\n", 14);
    put("last.jpg", "last");
    archive_end();
    char *text = fm_source_rig_read(&spec, path, 0, 0, UINT64_MAX, 100);
    CHECK_STR_CONTAINS(text, "n [1]'gnu'\n1 id=mmm");
    CHECK_STR_CONTAINS(text, "m [1]'pax'\n2 id=last [1]'last'\n");
    fm_free(text);
    /* A row that begins with what stands before its header. */
    struct fm_record_point point = {.row = 1, .offset = (uint64_t)4 * FM_TAR_BLOCK};
    struct fm_source_reader *reader = NULL;
    struct fm_row_block block;
    struct fm_column *columns = NULL;
    CHECK_INT_EQ(fm_source_columns(&spec, &columns), 0);
    CHECK_INT_EQ(fm_row_block_init(&block, columns, 1, 0, 4), 0);
    CHECK_INT_EQ(spec.format->open(&spec, path, &point, &reader, NULL), 0);
    CHECK_INT_EQ(spec.format->read(reader, 4, &block, NULL), 0);
    CHECK_UINT_EQ(block.row_count, 2);
    CHECK_UINT_EQ(block.rows[0].row, 1);
    CHECK_MEM_EQ(block.texts.data + block.rows[0].id, "mmm", 3);
    spec.format->close(reader);
    fm_row_block_deinit(&block);
    fm_free(columns);
}

static int point_take(void *context, const struct fm_record_point *point)
{
    struct fm_record_point *points = context;
    size_t count = 0;
    while (points[count].line != 0) {
        count++;
    }
    if (count + 2 > POINTS_MAX) {
        abort();
    }
    points[count] = *point;
    points[count].line = 1; /* it is there */
    return 0;
}

/* From every point the rows behind it are the same. */
TEST(large_archives_are_entered_anywhere)
{
    struct fm_record_point points[POINTS_MAX] = {0};
    struct fm_source_spec spec = spec_of(2);
    uint64_t rows = 0;
    spec.passed_count = 0;
    archive_begin();
    for (int i = 0; i < 400; i++) {
        char name[32];
        char text[2000];
        int length = snprintf(text, sizeof(text), "%0*d", 1 + i * 4, i);
        (void)snprintf(name, sizeof(name), "s%03d.jpg", i);
        member_put(name, '0', text, (size_t)length);
        (void)snprintf(name, sizeof(name), "s%03d.cls", i);
        (void)snprintf(text, sizeof(text), "%d", 3 * i);
        put(name, text);
    }
    archive_end();
    CHECK_INT_EQ(spec.format->count(&spec, path, point_take, points, &rows, NULL), 0);
    CHECK_UINT_EQ(rows, 400);
    CHECK(points[2].line != 0);
    for (size_t p = 0; points[p].line != 0; p++) {
        struct fm_source_reader *reader = NULL;
        struct fm_row_block block;
        struct fm_column *columns = NULL;
        uint64_t row = points[p].row + 3;
        CHECK_INT_EQ(fm_source_columns(&spec, &columns), 0);
        CHECK_INT_EQ(fm_row_block_init(&block, columns, 2, 0, 8), 0);
        CHECK_INT_EQ(spec.format->open(&spec, path, &points[p], &reader, NULL), 0);
        CHECK_INT_EQ(spec.format->skip(reader, 3, NULL), 0);
        for (;;) {
            fm_row_block_clear(&block);
            CHECK_INT_EQ(spec.format->read(reader, 8, &block, NULL), 0);
            if (block.row_count == 0) {
                break;
            }
            for (uint32_t i = 0; i < block.row_count; i++, row++) {
                int32_t label = 0;
                memcpy(&label, block.tensors[1].data + i * sizeof(label), sizeof(label));
                CHECK_UINT_EQ(block.rows[i].row, row);
                CHECK_INT_EQ(label, 3 * (int)row);
            }
        }
        CHECK_UINT_EQ(row, 400);
        spec.format->close(reader);
        fm_row_block_deinit(&block);
        fm_free(columns);
    }
}

/* Wherever an archive is cut, or its headers are damaged, that is said, with the place. */
TEST(cut_and_damaged_archives)
{
    struct fm_source_spec spec = spec_of(2);
    spec.passed_count = 0;
    archive_begin();
    put("1.jpg", "first");
    put("1.cls", "1");
    put("2.jpg", "second");
    put("2.cls", "2");
    size_t whole = archive.length;
    archive_end();
    check_read(&spec, 0, "0 id=1 [1]'first'; 1\n1 id=2 [1]'second'; 2\n");
    for (size_t size = 0; size <= whole; size += 100) {
        char place[32];
        size_t at = size / FM_TAR_BLOCK * FM_TAR_BLOCK;
        /* In the middle of a member's bytes it is the member that is named. */
        at -= at / FM_TAR_BLOCK % 2 == 1 ? FM_TAR_BLOCK : 0;
        (void)snprintf(place, sizeof(place), "byte %zu: ", at);
        CHECK_INT_EQ(fm_file_write_atomic(path, archive.data, size, NULL), 0);
        check_refused(&spec, "!! ECORRUPT", "it was cut off");
        check_refused(&spec, "!! ECORRUPT", place);
    }
    /* One block of zeros is an end as well. */
    CHECK_INT_EQ(fm_file_write_atomic(path, archive.data, whole + FM_TAR_BLOCK, NULL), 0);
    check_read(&spec, 1, "1 id=2 [1]'second'; 2\n");
    archive.data[2 * FM_TAR_BLOCK + 5] ^= 1;
    CHECK_INT_EQ(fm_file_write_atomic(path, archive.data, archive.length, NULL), 0);
    check_refused(&spec, "!! ECORRUPT", "byte 1024: what is there is no header of a tar archive");
    archive_begin();
    member_put("pax", 'x', "not pax", 7);
    archive_end();
    check_refused(&spec, "!! ECORRUPT", "byte 0: a pax header that is not understood");
    archive_begin();
    member_put("sparse", 'S', "", 0);
    archive_end();
    check_refused(&spec, "!! EUNSUPPORTED", "byte 0: a sparse file");
    archive_begin();
    archive_end();
    check_read(&spec, 0, "");
}

TEST(every_failing_allocation_is_an_error_and_leaks_nothing)
{
    struct fm_source_spec spec = spec_of(2);
    int status = FM_ENOMEM;
    archive_begin();
    put("1.jpg", "first");
    put("1.cls", "1");
    put("1.json", "[1]");
    archive_end();
    for (uint64_t n = 1; status != 0 && n < 100; n++) {
        struct fm_source_reader *reader = NULL;
        struct fm_row_block block = {0};
        struct fm_column *columns = NULL;
        struct fm_error error = {0};
        uint64_t rows = 0;
        (void)fm_memory_fail_at(n, 0);
        status = spec.format->count(&spec, path, NULL, NULL, &rows, &error);
        status = status != 0 ? status : fm_source_columns(&spec, &columns);
        status = status != 0 ? status : fm_row_block_init(&block, columns, 2, 2, 4);
        status = status != 0 ? status : spec.format->open(&spec, path, NULL, &reader, &error);
        if (status == 0) {
            status = spec.format->read(reader, 4, &block, &error);
            spec.format->close(reader);
        }
        (void)fm_memory_fail_at(0, 0);
        CHECK(status == 0 || status == FM_ENOMEM);
        CHECK(status != 0 || block.good_count == 1);
        fm_row_block_deinit(&block);
        fm_free(columns);
    }
    CHECK_INT_EQ(status, 0);
    fm_text_deinit(&archive);
    (void)unlink(path);
}

TEST_MAIN()
