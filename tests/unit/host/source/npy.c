/*
 * Tests of host/source/npy_source and array_file: rows of arrays, types, shapes, archives stored
 * and deflated, and the words for what cannot be.
 */
#include <stdlib.h>
#include <zlib.h>

#include "core/util/memory.h"
#include "host/os/file.h"
#include "host/source/formats.h"
#include "tests/harness/source_rig.h"
#include "tests/harness/test.h"

static char directory[64];
static char path[128];

static void directory_remove(void)
{
    if (fm_file_remove_tree(directory, NULL) != 0) {
        printf("# %s stays\n", directory);
    }
}

static void path_next(const char *ending)
{
    static unsigned number;
    if (directory[0] == '\0') {
        if (fm_file_make_temporary("fm-npy-", directory, sizeof directory, NULL) != 0 ||
            atexit(directory_remove) != 0) {
            abort();
        }
    }
    (void)snprintf(path, sizeof path, "%s/%u%s", directory, number++, ending);
}

/* A .npy file's bytes. */
static void npy(struct fm_text *text, const char *descr, const char *shape, const void *data,
                size_t size)
{
    char header[256];
    int length = snprintf(header, sizeof header,
                          "{'descr': '%s', 'fortran_order': False, 'shape': %s, }\n", descr, shape);
    fm_text_append(text, "\x93NUMPY\1\0", 8);
    fm_text_append_char(text, (char)length);
    fm_text_append_char(text, '\0');
    fm_text_append(text, header, (size_t)length);
    fm_text_append(text, data, size);
}

#define BYTES_OF(type, ...) (const type[]){__VA_ARGS__}, sizeof((const type[]){__VA_ARGS__})

static void put(struct fm_text *text, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        fm_text_append_char(text, (char)(i < 8 ? value >> (8 * i) & 0xFF : 0));
    }
}

/* An archive that is being made. */
struct archive {
    struct fm_text text;
    struct fm_text directory;
    unsigned count;
};

static void archive_add(struct archive *archive, const char *name, const struct fm_text *bytes,
                        bool deflated)
{
    struct fm_text stored = {0};
    z_stream stream = {0};
    uint32_t crc = (uint32_t)crc32(0, (const unsigned char *)bytes->data, (unsigned)bytes->length);
    uint64_t offset = archive->text.length;
    if (deflated && deflateInit2(&stream, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) == Z_OK) {
        size_t room = deflateBound(&stream, bytes->length);
        stream.next_in = (unsigned char *)bytes->data;
        stream.avail_in = (unsigned)bytes->length;
        stream.next_out = (unsigned char *)fm_text_reserve(&stored, room);
        stream.avail_out = (unsigned)room;
        (void)deflate(&stream, Z_FINISH);
        stored.length = room - stream.avail_out;
        (void)deflateEnd(&stream);
    } else {
        fm_text_append(&stored, bytes->data, bytes->length);
    }
    for (int i = 0; i < 2; i++) {
        struct fm_text *out = i == 0 ? &archive->text : &archive->directory;
        put(out, i == 0 ? 0x04034b50 : 0x02014b50, 4);
        put(out, 20, i == 0 ? 2 : 4);
        put(out, 0, 2);
        put(out, deflated ? 8 : 0, 2);
        put(out, 0, 4);
        put(out, crc, 4);
        put(out, stored.length, 4);
        put(out, bytes->length, 4);
        put(out, strlen(name), 2);
        put(out, 0, i == 0 ? 2 : 12);
        if (i == 1) {
            put(out, offset, 4);
        }
        fm_text_append_string(out, name);
    }
    fm_text_append(&archive->text, stored.data, stored.length);
    fm_text_deinit(&stored);
    archive->count++;
}

/* Writes it to `path`. */
static int archive_write(struct archive *archive)
{
    uint64_t offset = archive->text.length;
    fm_text_append(&archive->text, archive->directory.data, archive->directory.length);
    put(&archive->text, 0x06054b50, 4);
    put(&archive->text, 0, 4);
    put(&archive->text, archive->count, 2);
    put(&archive->text, archive->count, 2);
    put(&archive->text, archive->directory.length, 4);
    put(&archive->text, offset, 4);
    put(&archive->text, 0, 2);
    path_next(".npz");
    int status = fm_file_write_atomic(path, archive->text.data, archive->text.length, NULL);
    fm_text_deinit(&archive->text);
    fm_text_deinit(&archive->directory);
    *archive = (struct archive){0};
    return status;
}

static struct fm_source_spec spec_of(const struct fm_source_format *format,
                                     const struct fm_source_tensor *tensors, uint32_t count)
{
    return (struct fm_source_spec){
        .format = format, .tensors = tensors, .tensor_count = count, .record_bytes_max = 1 << 20};
}

/* What an array in a file of its own becomes, without the file's name; kept until the next call. */
static const char *read_as(const struct fm_text *bytes, uint32_t dtype, uint32_t rank,
                           const int64_t *shape)
{
    static char *text;
    struct fm_source_tensor tensor = {.column = {.name = "x", .dtype = dtype, .rank = rank}};
    struct fm_source_spec spec = spec_of(&fm_source_npy, &tensor, 1);
    for (uint32_t i = 0; i < rank; i++) {
        tensor.column.shape[i] = shape[i];
    }
    path_next(".npy");
    fm_free(text);
    text = NULL;
    if (fm_file_write_atomic(path, bytes->data, bytes->length, NULL) != 0) {
        return "the file could not be written";
    }
    text = fm_source_rig_read(&spec, path, 0, 0, UINT64_MAX, 3);
    char *at = strstr(text, path);
    if (at != NULL) {
        memmove(at, at + strlen(path), strlen(at + strlen(path)) + 1);
    }
    return text;
}

static const char *array_as(const char *descr, const char *array_shape, const void *data,
                            size_t size, uint32_t dtype, uint32_t rank, const int64_t *shape)
{
    struct fm_text bytes = {0};
    npy(&bytes, descr, array_shape, data, size);
    const char *text = read_as(&bytes, dtype, rank, shape);
    fm_text_deinit(&bytes);
    return text;
}

#define SHAPE(...)                                          \
    sizeof((int64_t[]){__VA_ARGS__}) / 8, (const int64_t[]) \
    {                                                       \
        __VA_ARGS__                                         \
    }
#define SCALAR 0, NULL

TEST(rows_are_along_the_first_axis)
{
    CHECK_STR_EQ(array_as("<f4", "(4,)", BYTES_OF(float, 1, 2, 3, 4.5f), FM_DTYPE_FP32, SCALAR),
                 "0 1.0\n1 2.0\n2 3.0\n--\n3 4.5\n");
    CHECK_STR_EQ(
        array_as("<i8", "(2, 3)", BYTES_OF(int64_t, 1, 2, 3, 4, 5, 6), FM_DTYPE_INT64, SHAPE(3)),
        "0 [3]1,2,3\n1 [3]4,5,6\n");
    CHECK_STR_EQ(
        array_as("|u1", "(2, 2, 1)", BYTES_OF(uint8_t, 1, 2, 3, 4), FM_DTYPE_UINT8, SHAPE(-1, 1)),
        "0 [2,1]1,2\n1 [2,1]3,4\n");
    CHECK_STR_EQ(array_as("<f4", "(0, 3)", "", 0, FM_DTYPE_FP32, SHAPE(3)), "");
    /* As JSON's arrays: flat ones, and a single element. */
    CHECK_STR_EQ(
        array_as("|u1", "(1, 4)", BYTES_OF(uint8_t, 1, 2, 3, 4), FM_DTYPE_UINT8, SHAPE(2, 2)),
        "0 [2,2]1,2,3,4\n");
    CHECK_STR_EQ(array_as("|u1", "(2,)", BYTES_OF(uint8_t, 1, 2), FM_DTYPE_UINT8, SHAPE(1)),
                 "0 [1]1\n1 [1]2\n");
}

TEST(types_become_others)
{
    CHECK_STR_EQ(array_as("<f8", "(2,)", BYTES_OF(double, 0.1, 2), FM_DTYPE_FP32, SCALAR),
                 "0 0.1\n1 2.0\n");
    CHECK_STR_EQ(array_as("|u1", "(1, 2)", BYTES_OF(uint8_t, 0, 255), FM_DTYPE_FP16, SHAPE(2)),
                 "0 [2]0.0,255.0\n");
    CHECK_STR_EQ(array_as("<i8", "(3,)", BYTES_OF(int64_t, 1, 256, 255), FM_DTYPE_UINT8, SCALAR),
                 "0 1\n1 !row 1: column 'x': '256' is no UINT8: it must be 0 to 255\n2 255\n");
    CHECK_STR_EQ(array_as("|b1", "(2,)", BYTES_OF(uint8_t, 1, 0), FM_DTYPE_BOOL, SCALAR),
                 "0 true\n1 false\n");
    CHECK_STR_EQ(array_as("|S5", "(3,)", "abcde\0\0\0\0\0ab\0\0\0", 15, FM_DTYPE_BYTES, SCALAR),
                 "0 'abcde'\n1 ''\n2 'ab'\n");
    CHECK_STR_EQ(array_as("|S2", "(1, 2)", "a\0bc", 4, FM_DTYPE_BYTES, SHAPE(2)),
                 "0 [2]'a','bc'\n");
    CHECK_STR_EQ(
        array_as("<U2", "(2, 1)", BYTES_OF(uint32_t, 0xE9, 0, 'a', 'b'), FM_DTYPE_BYTES, SHAPE(1)),
        "0 [1]'é'\n1 [1]'ab'\n");
    CHECK_STR_EQ(array_as("<c8", "(1,)", BYTES_OF(float, 1, 2), FM_DTYPE_COMPLEX64, SCALAR),
                 "0 \n");
}

TEST(arrays_that_cannot_be)
{
    CHECK_STR_EQ(array_as("<f4", "(1, 3)", BYTES_OF(float, 1, 2, 3), FM_DTYPE_FP32, SHAPE(4)),
                 "!! ETYPE : array 'x': its rows have the shape [3], and [4] is wanted");
    CHECK_STR_EQ(array_as("<f4", "(1, 3)", BYTES_OF(float, 1, 2, 3), FM_DTYPE_FP32, SHAPE(-1, 3)),
                 "!! ETYPE : array 'x': its rows have the shape [3], and [-1,3] is wanted");
    CHECK_STR_EQ(array_as("|S1", "(1,)", "a", 1, FM_DTYPE_FP32, SCALAR),
                 "!! ETYPE : array 'x': its type BYTES cannot become FP32");
    CHECK_STR_EQ(array_as("<c8", "(1,)", BYTES_OF(float, 1, 2), FM_DTYPE_FP32, SCALAR),
                 "!! ETYPE : array 'x': its type COMPLEX64 cannot become FP32");
    CHECK_STR_EQ(array_as("<f4", "()", BYTES_OF(float, 1), FM_DTYPE_FP32, SCALAR),
                 "!! EUNSUPPORTED : the array is a single number, which has no rows");
    CHECK_STR_EQ(array_as("<f4", "(9, 0)", "", 0, FM_DTYPE_FP32, SHAPE(-1)),
                 "!! EUNSUPPORTED : the array's rows have no elements");
    CHECK_STR_EQ(array_as("<f4", "(2, 2)", BYTES_OF(float, 1, 2, 3), FM_DTYPE_FP32, SHAPE(2)),
                 "!! ECORRUPT : the file is cut off: its header promises 2 rows of 8 bytes, it has "
                 "12 bytes");
    CHECK_STR_EQ(
        array_as("<f4", "(1, 2)", BYTES_OF(float, 1, 2, 3), FM_DTYPE_FP32, SHAPE(2)),
        "!! ECORRUPT : the file is too long: its header promises 1 rows of 8 bytes, it has "
        "12 bytes");
    CHECK_STR_EQ(array_as("<f4", "(1, 4611686018427387904, 9)", "", 0, FM_DTYPE_FP32, SHAPE(2)),
                 "!! ECORRUPT : no array can have the shape that its header says");
    CHECK_STR_EQ(array_as(">f4", "(1,)", BYTES_OF(float, 1), FM_DTYPE_FP32, SCALAR),
                 "!! EUNSUPPORTED : the numbers are big-endian ('>f4'); save array.astype('<f4')");
    static const float large[(1 << 18) + 1];
    CHECK_STR_EQ(array_as("<f4", "(1, 262145)", large, sizeof large, FM_DTYPE_FP32, SHAPE(-1)),
                 "!! ETOOLARGE : a row has 1048580 bytes, and 1048576 are allowed");
    struct fm_text bytes = {0};
    CHECK_STR_EQ(read_as(&bytes, FM_DTYPE_FP32, SCALAR),
                 "!! ECORRUPT : not a .npy file: it does not begin with \\x93NUMPY");
}

static struct fm_source_tensor whole(const char *name)
{
    return (struct fm_source_tensor){.column = {.name = name, .dtype = FM_DTYPE_FP32}};
}

TEST(one_array_fills_one_input)
{
    static const char *const names[] = {"a"};
    struct fm_source_tensor tensors[] = {whole("x"), whole("y")};
    struct fm_source_spec spec = spec_of(&fm_source_npy, tensors, 2);
    struct fm_text bytes = {0};
    npy(&bytes, "<f4", "(2,)", BYTES_OF(float, 1, 2));
    path_next(".npy");
    CHECK_INT_EQ(fm_file_write_atomic(path, bytes.data, bytes.length, NULL), 0);
    fm_text_deinit(&bytes);
    char *text = fm_source_rig_count(&spec, path);
    CHECK_STR_CONTAINS(text, "a .npy file is one array without a name, which cannot be chosen for "
                             "the input 'x'; use .npz");
    fm_free(text);
    spec.tensor_count = 1;
    text = fm_source_rig_count(&spec, path);
    CHECK_STR_EQ(text, "2: 0/0");
    fm_free(text);
    spec.id = "k";
    text = fm_source_rig_count(&spec, path);
    CHECK_STR_CONTAINS(text, "a .npy file has no column 'k', but one array; use .npz");
    fm_free(text);
    spec.id = NULL;
    tensors[0].names = names;
    tensors[0].name_count = 1;
    text = fm_source_rig_count(&spec, path);
    CHECK_STR_CONTAINS(text, "!! EINVAL");
    fm_free(text);
}

/* Any row is reached, in a file of several buffers. */
TEST(rows_from_anywhere)
{
    enum { ROWS = 100000 };
    int64_t *values = fm_alloc(ROWS * sizeof *values);
    struct fm_source_tensor tensor = {.column = {.name = "x", .dtype = FM_DTYPE_INT64}};
    struct fm_source_spec spec = spec_of(&fm_source_npy, &tensor, 1);
    struct fm_text bytes = {0};
    CHECK_PTR_NE(values, NULL);
    for (int64_t i = 0; i < ROWS; i++) {
        values[i] = i * 3;
    }
    npy(&bytes, "<i8", "(100000,)", values, ROWS * sizeof *values);
    path_next(".npy");
    CHECK_INT_EQ(fm_file_write_atomic(path, bytes.data, bytes.length, NULL), 0);
    static const struct {
        uint64_t point, skip;
        const char *lines;
    } cases[] = {
        {0, 0, "0 0\n1 3\n"},
        {0, 99999, "99999 299997\n"},
        {50000, 0, "50000 150000\n"},
        {50000, 40000, "90000 270000\n90001 270003\n"},
        {99999, 1, ""},
        {99999, 2, "!! ENOTFOUND"},
        {100001, 0, "!! ENOTFOUND"},
        {0, 32751, "32751 98253\n32752 98256\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = fm_source_rig_read(&spec, path, cases[i].point, cases[i].skip, 2, 5);
        CHECK_STR_CONTAINS(text, cases[i].lines);
        fm_free(text);
    }
    fm_text_deinit(&bytes);
    /* And in an archive, deflated. */
    struct archive archive = {0};
    static const char *const names[] = {"x"};
    tensor.names = names;
    tensor.name_count = 1;
    spec.format = &fm_source_npz;
    npy(&bytes, "<i8", "(100000,)", values, ROWS * sizeof *values);
    archive_add(&archive, "x.npy", &bytes, true);
    CHECK_INT_EQ(archive_write(&archive), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = fm_source_rig_read(&spec, path, cases[i].point, cases[i].skip, 2, 5);
        CHECK_STR_CONTAINS(text, cases[i].lines);
        fm_free(text);
    }
    fm_text_deinit(&bytes);
    fm_free(values);
}

TEST(arrays_of_an_archive_are_columns)
{
    static const char *const passed[] = {"matrix", "name", "flag"};
    const struct fm_source_tensor tensors[] = {
        FM_SOURCE_TENSOR(FP32, 1, FM_SOURCE_SHAPE(2), "a", "b"),
        FM_SOURCE_TENSOR(INT64, 1, FM_SOURCE_SHAPE(2), "größe"),
    };
    struct fm_source_spec spec = spec_of(&fm_source_npz, tensors, 2);
    struct archive archive = {0};
    struct fm_text bytes[6] = {0};
    spec.id = "name";
    spec.passed = passed;
    spec.passed_count = 3;
    npy(&bytes[0], "<f8", "(2,)", BYTES_OF(double, 0.5, 1.5));
    npy(&bytes[1], "<i4", "(2,)", BYTES_OF(int32_t, 10, 11));
    npy(&bytes[2], "<i8", "(2, 2)", BYTES_OF(int64_t, 1, 2, 3, 4));
    npy(&bytes[3], "<U3", "(2,)", BYTES_OF(uint32_t, 'o', 'n', 0xE9, '"', '2', 0));
    npy(&bytes[4], "<f4", "(2, 2, 1)", BYTES_OF(float, 1, 2, 0.1f, 4));
    npy(&bytes[5], "|b1", "(2,)", BYTES_OF(uint8_t, 1, 0));
    archive_add(&archive, "a.npy", &bytes[0], false);
    archive_add(&archive, "b.npy", &bytes[1], true);
    archive_add(&archive, "größe.npy", &bytes[2], true);
    archive_add(&archive, "name", &bytes[3], false);
    archive_add(&archive, "matrix.npy", &bytes[4], false);
    archive_add(&archive, "flag.npy", &bytes[5], true);
    CHECK_INT_EQ(archive_write(&archive), 0);
    char *text = fm_source_rig_read(&spec, path, 0, 0, 10, 10);
    CHECK_STR_EQ(text, "0 id=oné [2]0.5,10.0; [2]1,2 | [[1.0],[2.0]] | \"oné\" | true\n"
                       "1 id=\"2 [2]1.5,11.0; [2]3,4 | [[0.1],[4.0]] | \"\\\"2\" | false\n");
    fm_free(text);
    spec.id = "b";
    text = fm_source_rig_read(&spec, path, 0, 1, 10, 10);
    CHECK_STR_CONTAINS(text, "1 id=11 [2]1.5,11.0;");
    fm_free(text);
    spec.id = "a";
    text = fm_source_rig_read(&spec, path, 0, 1, 10, 10);
    CHECK_STR_CONTAINS(text, "!! ETYPE");
    CHECK_STR_CONTAINS(text, "array 'a' cannot name rows");
    fm_free(text);
    spec.id = "nam";
    text = fm_source_rig_read(&spec, path, 0, 1, 10, 10);
    CHECK_STR_CONTAINS(text, "there is no column 'nam'; did you mean 'name'?");
    fm_free(text);
    for (int i = 0; i < 6; i++) {
        fm_text_deinit(&bytes[i]);
    }
}

TEST(archives_that_cannot_be)
{
    const struct fm_source_tensor tensors[] = {FM_SOURCE_TENSOR(FP32, 0, FM_SOURCE_SHAPE(0), "a"),
                                               FM_SOURCE_TENSOR(FP32, 0, FM_SOURCE_SHAPE(0), "b")};
    const struct fm_source_tensor none = whole("x");
    struct fm_source_spec spec = spec_of(&fm_source_npz, tensors, 2);
    struct archive archive = {0};
    struct fm_text two = {0}, three = {0};
    npy(&two, "<f4", "(2,)", BYTES_OF(float, 1, 2));
    npy(&three, "<f4", "(3,)", BYTES_OF(float, 1, 2, 3));
    archive_add(&archive, "a.npy", &two, false);
    archive_add(&archive, "b.npy", &three, false);
    CHECK_INT_EQ(archive_write(&archive), 0);
    char *text = fm_source_rig_count(&spec, path);
    CHECK_STR_CONTAINS(text, "array 'b' has 3 rows, and 'a' has 2");
    fm_free(text);
    struct fm_source_spec nameless = spec_of(&fm_source_npz, &none, 1);
    text = fm_source_rig_count(&nameless, path);
    CHECK_STR_CONTAINS(text, "the array for the input 'x' is not named");
    fm_free(text);
    archive_add(&archive, "a.npy", &two, false);
    archive.text.data[8] = 12; /* bzip2 */
    archive.directory.data[10] = 12;
    CHECK_INT_EQ(archive_write(&archive), 0);
    spec.tensor_count = 1;
    text = fm_source_rig_count(&spec, path);
    CHECK_STR_CONTAINS(text, "array 'a' is compressed by method 12; save it with numpy.savez");
    fm_free(text);
    CHECK_INT_EQ(fm_file_write_atomic(path, "no archive", 10, NULL), 0);
    text = fm_source_rig_count(&spec, path);
    CHECK_STR_CONTAINS(text, "!! ECORRUPT");
    CHECK_STR_CONTAINS(text, "not a ZIP archive: it has no directory at its end");
    fm_free(text);
    text = fm_source_rig_count(&spec, "/nonexistent/a.npz");
    CHECK_STR_CONTAINS(text, "!! ENOTFOUND");
    fm_free(text);
    fm_text_deinit(&two);
    fm_text_deinit(&three);
}

/* Each byte of an archive changed: rows or words, and of a deflated array no wrong rows at the end.
 */
TEST(damaged_archives)
{
    const struct fm_source_tensor tensors[] = {FM_SOURCE_TENSOR(FP32, 0, FM_SOURCE_SHAPE(0), "a"),
                                               FM_SOURCE_TENSOR(FP32, 0, FM_SOURCE_SHAPE(0), "b")};
    struct fm_source_spec spec = spec_of(&fm_source_npz, tensors, 2);
    struct archive archive = {0};
    struct fm_text bytes = {0};
    char *data = NULL;
    size_t size = 0;
    npy(&bytes, "<f4", "(4,)", BYTES_OF(float, 1, 2, 3, 4));
    archive_add(&archive, "a.npy", &bytes, false);
    archive_add(&archive, "b.npy", &bytes, true);
    CHECK_INT_EQ(archive_write(&archive), 0);
    CHECK_INT_EQ(fm_file_read(path, 1 << 20, &data, &size, NULL), 0);
    char *whole_text = fm_source_rig_read(&spec, path, 0, 0, 10, 10);
    CHECK_STR_CONTAINS(whole_text, "3 4.0; 4.0\n");
    unsigned refused = 0;
    for (size_t at = 0; at < size; at++) {
        data[at] ^= 0x55;
        CHECK_INT_EQ(fm_file_write_atomic(path, data, size, NULL), 0);
        data[at] ^= 0x55;
        char *text = fm_source_rig_read(&spec, path, 0, 0, 10, 10);
        refused += strstr(text, "!! E") != NULL;
        fm_free(text);
    }
    CHECK_INT_GT(refused, size / 2);
    for (size_t length = 0; length < size; length += 7) {
        CHECK_INT_EQ(fm_file_write_atomic(path, data, length, NULL), 0);
        char *text = fm_source_rig_read(&spec, path, 0, 0, 10, 10);
        CHECK_STR_CONTAINS(text, "!! ECORRUPT");
        fm_free(text);
    }
    fm_free(whole_text);
    fm_free(data);
    fm_text_deinit(&bytes);
}

TEST(a_checksum_that_does_not_agree)
{
    const struct fm_source_tensor tensor = FM_SOURCE_TENSOR(FP32, 0, FM_SOURCE_SHAPE(0), "a");
    struct fm_source_spec spec = spec_of(&fm_source_npz, &tensor, 1);
    struct archive archive = {0};
    struct fm_text bytes = {0};
    npy(&bytes, "<f4", "(2,)", BYTES_OF(float, 1, 2));
    archive_add(&archive, "a.npy", &bytes, true);
    archive.directory.data[16] ^= 1;
    CHECK_INT_EQ(archive_write(&archive), 0);
    char *text = fm_source_rig_count(&spec, path);
    CHECK_STR_CONTAINS(text, "array 'a': its bytes have not the checksum of the archive's "
                             "directory");
    fm_free(text);
    fm_text_deinit(&bytes);
}

TEST(memory_that_runs_out)
{
    static const char *const passed[] = {"a"};
    const struct fm_source_tensor tensor = FM_SOURCE_TENSOR(FP32, 0, FM_SOURCE_SHAPE(0), "a");
    struct fm_source_spec spec = spec_of(&fm_source_npz, &tensor, 1);
    struct archive archive = {0};
    struct fm_text bytes = {0};
    npy(&bytes, "<f4", "(2,)", BYTES_OF(float, 1, 2));
    archive_add(&archive, "a.npy", &bytes, true);
    CHECK_INT_EQ(archive_write(&archive), 0);
    fm_text_deinit(&bytes);
    spec.passed = passed;
    spec.passed_count = 1;
    bool through = false;
    for (uint64_t nth = 1; !through; nth++) {
        struct fm_error error = {0};
        struct fm_source_reader *reader = NULL;
        struct fm_column *columns = NULL;
        struct fm_row_block block = {0};
        fm_memory_fail_at(nth, 0);
        int status = fm_source_columns(&spec, &columns);
        status = status == 0 ? fm_row_block_init(&block, columns, 1, 1, 10) : status;
        status = status == 0 ? spec.format->open(&spec, path, NULL, &reader, &error) : status;
        status = status == 0 ? spec.format->read(reader, 10, &block, &error) : status;
        through = fm_memory_fail_at(0, 0) < nth;
        CHECK(status == FM_ENOMEM || (through && status == 0 && block.good_count == 2));
        if (reader != NULL) {
            spec.format->close(reader);
        }
        fm_row_block_deinit(&block);
        fm_free(columns);
    }
}

TEST_MAIN()
