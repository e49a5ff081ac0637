/*
 * Tests of host/source/gzip_writer: files of one and of several members, what zlib refuses, every
 * failing allocation.
 */
#include "host/source/gzip_writer.c"

#include <unistd.h>

#include "tests/harness/test.h"

enum { BYTES = 200000, PACKED_MAX = 2 * BYTES };

static char text[BYTES];
static char unpacked[4 * BYTES];

static const char *path_make(void)
{
    static char path[64];
    (void)snprintf(path, sizeof(path), "/tmp/fermata-gzip-%d", (int)getpid());
    for (size_t i = 0; i < BYTES; i++) {
        text[i] = (char)('a' + i * i % 23);
    }
    return path;
}

/* How many members the file has; what they hold is in `unpacked`. -1: it is no such file. */
static int file_unpack(const char *path, size_t *ret_size)
{
    char *data = NULL;
    size_t size = 0;
    int members = 0;
    z_stream stream = {0};
    if (fm_file_read(path, PACKED_MAX, &data, &size, NULL) != 0) {
        return -1;
    }
    stream.next_in = (unsigned char *)data;
    stream.avail_in = (uInt)size;
    stream.next_out = (unsigned char *)unpacked;
    stream.avail_out = sizeof(unpacked);
    while (members >= 0 && (stream.avail_in > 0 || members == 0)) {
        int code = inflateInit2(&stream, 15 + 16);
        code = code == Z_OK ? inflate(&stream, Z_FINISH) : code;
        (void)inflateEnd(&stream);
        members = code == Z_STREAM_END ? members + 1 : -1;
    }
    *ret_size = sizeof(unpacked) - stream.avail_out;
    fm_free(data);
    return members;
}

TEST(a_file_without_anything_is_one_empty_member)
{
    const char *path = path_make();
    struct fm_gzip_writer *writer = NULL;
    uint64_t bytes = 0;
    uint64_t checksum = 0;
    size_t size = 1;
    CHECK_INT_EQ(fm_gzip_writer_open(path, &writer, NULL), 0);
    CHECK_INT_EQ(fm_gzip_writer_finish(writer, &bytes, &checksum, NULL), 0);
    CHECK_INT_EQ(file_unpack(path, &size), 1);
    CHECK_UINT_EQ(size, 0);
    (void)unlink(path);
}

/* Every order of four pieces, each of them appended as it is ('p') or as a member ('m'). */
TEST(pieces_and_members_in_any_order)
{
    const char *path = path_make();
    struct fm_text member = {0};
    CHECK_INT_EQ(fm_gzip_member_make(text, BYTES, &member), 0);
    for (unsigned order = 0; order < 16; order++) {
        struct fm_gzip_writer *writer = NULL;
        uint64_t bytes = 0;
        uint64_t checksum = 0;
        size_t size = 0;
        int members = 0;
        CHECK_INT_EQ(fm_gzip_writer_open(path, &writer, NULL), 0);
        for (unsigned i = 0; i < 4; i++) {
            bool is_member = (order >> i & 1) != 0;
            bool before_is = i == 0 || (order >> (i - 1) & 1) != 0;
            members += is_member || before_is ? 1 : 0;
            CHECK_INT_EQ(
                is_member ? fm_gzip_writer_append_member(writer, member.data, member.length, NULL)
                          : fm_gzip_writer_append(writer, text, BYTES, NULL),
                0);
        }
        CHECK_INT_EQ(fm_gzip_writer_finish(writer, &bytes, &checksum, NULL), 0);
        CHECK_INT_EQ(file_unpack(path, &size), members);
        CHECK_UINT_EQ(size, 4 * BYTES);
        for (size_t i = 0; i < 4; i++) {
            CHECK(memcmp(unpacked + i * BYTES, text, BYTES) == 0);
        }
    }
    fm_text_deinit(&member);
    (void)unlink(path);
}

TEST(what_zlib_refuses_is_no_file)
{
    const char *path = path_make();
    for (int at_end = 0; at_end < 2; at_end++) {
        struct fm_gzip_writer *writer = NULL;
        struct fm_error error = {0};
        uint64_t bytes = 0;
        uint64_t checksum = 0;
        CHECK_INT_EQ(fm_gzip_writer_open(path, &writer, &error), 0);
        CHECK_INT_EQ(fm_gzip_writer_append(writer, text, BYTES, &error), 0);
        writer->stream.avail_in = 1; /* of nothing: a stream error */
        writer->stream.next_in = NULL;
        if (at_end != 0) {
            CHECK_INT_EQ(fm_gzip_writer_finish(writer, &bytes, &checksum, &error), FM_EINTERNAL);
        } else {
            CHECK_INT_EQ(fm_gzip_writer_append_member(writer, text, 10, &error), FM_EINTERNAL);
            fm_gzip_writer_abandon(writer);
        }
        CHECK_STR_CONTAINS(error.text, "cannot compress '");
        CHECK(access(path, F_OK) != 0);
    }
}

TEST(members_wherever_memory_runs_out)
{
    struct fm_text member = {0};
    (void)path_make();
    CHECK_INT_EQ(fm_gzip_member_make(text, 100, &member), 0);
    size_t before = member.length;
    int status = FM_ENOMEM;
    for (uint64_t n = 1; status != 0; n++) {
        (void)fm_memory_fail_at(n, 0);
        status = fm_gzip_member_make(text, BYTES, &member);
        (void)fm_memory_fail_at(0, 0);
        CHECK(status == 0 || (status == FM_ENOMEM && member.length == before && !member.failed));
    }
    CHECK(member.length > before);
    fm_text_deinit(&member);
}

TEST_MAIN()
