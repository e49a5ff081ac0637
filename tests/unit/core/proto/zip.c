/*
 * Tests of core/proto/zip: archives as zip programs write them, ZIP64, and what is none.
 */
#include "core/proto/zip.h"

#include <stdbool.h>

#include "core/util/text.h"
#include "tests/harness/test.h"

static void put(struct fm_text *text, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        fm_text_append_char(text, (char)(value & 0xff));
        value >>= 8;
    }
}

/* What an entry of the directory says. */
struct entry {
    const char *name;
    uint16_t flags;
    uint16_t method;
    uint32_t crc;
    uint64_t stored_size;
    uint64_t size;
    uint64_t offset;
    bool wide; /* in ZIP64's extra field */
};

static void put_entry(struct fm_text *text, const struct entry *entry)
{
    put(text, 0x02014b50, 4);
    put(text, 45 << 16 | 45, 4);
    put(text, entry->flags, 2);
    put(text, entry->method, 2);
    put(text, 0, 4);
    put(text, entry->crc, 4);
    put(text, entry->wide ? UINT32_MAX : entry->stored_size, 4);
    put(text, entry->wide ? UINT32_MAX : entry->size, 4);
    put(text, strlen(entry->name), 2);
    put(text, entry->wide ? 4 + 3 + 4 + 24 : 0, 2);
    put(text, 2, 2); /* a comment */
    put(text, 0, 8);
    put(text, entry->wide ? UINT32_MAX : entry->offset, 4);
    fm_text_append_string(text, entry->name);
    if (entry->wide) {
        put(text, 0x5455, 2); /* another extra field first */
        put(text, 3, 2);
        put(text, 0, 3);
        put(text, 1, 2);
        put(text, 24, 2);
        put(text, entry->size, 8);
        put(text, entry->stored_size, 8);
        put(text, entry->offset, 8);
    }
    fm_text_append_string(text, "no");
}

static void put_end(struct fm_text *text, uint64_t entries, uint64_t size, uint64_t offset,
                    const char *comment)
{
    put(text, 0x06054b50, 4);
    put(text, 0, 4);
    put(text, entries, 2);
    put(text, entries, 2);
    put(text, size, 4);
    put(text, offset, 4);
    put(text, strlen(comment), 2);
    fm_text_append_string(text, comment);
}

static void put_end64(struct fm_text *text, uint64_t entries, uint64_t size, uint64_t offset)
{
    uint64_t at = text->length;
    put(text, 0x06064b50, 4);
    put(text, 44, 8);
    put(text, 0, 12);
    put(text, entries, 8);
    put(text, entries, 8);
    put(text, size, 8);
    put(text, offset, 8);
    put(text, 0x07064b50, 4);
    put(text, 0, 4);
    put(text, at, 8);
    put(text, 1, 4);
}

TEST(a_directory)
{
    struct fm_text text = {0};
    struct fm_zip_end end;
    struct fm_zip_member member;
    struct fm_error error = {0};
    size_t offset = 0;
    const struct entry stored = {.name = "a.npy", .crc = 7, .stored_size = 10, .size = 10};
    const struct entry deflated = {.name = "b",
                                   .method = 8,
                                   .stored_size = 5,
                                   .size = UINT64_C(1) << 40,
                                   .offset = 20,
                                   .wide = true};
    for (int i = 0; i < 100; i++) {
        put(&text, 0, 1);
    }
    put_entry(&text, &stored);
    put_entry(&text, &deflated);
    size_t size = text.length - 100;
    put_end(&text, 2, size, 100, "a comment with PK\5\6 in it, longer than an end record");
    CHECK_INT_EQ(fm_zip_end_find(text.data, text.length, text.length, &end, &error), 0);
    CHECK_UINT_EQ(end.directory_offset, 100);
    CHECK_UINT_EQ(end.directory_size, size);
    /* Of a longer file only the end is looked at. */
    CHECK_INT_EQ(fm_zip_end_find(text.data + 150, text.length - 150, text.length, &end, &error), 0);
    CHECK_UINT_EQ(end.directory_offset, 100);
    const char *directory = text.data + 100;
    CHECK_INT_EQ(fm_zip_member_next(directory, size, 100, &offset, &member, &error), 1);
    CHECK_UINT_EQ(member.name_size, 5);
    CHECK_MEM_EQ(member.name, "a.npy", 5);
    CHECK_UINT_EQ(member.crc, 7);
    CHECK_UINT_EQ(member.size, 10);
    CHECK_INT_EQ(member.method, FM_ZIP_STORED);
    CHECK_INT_EQ(fm_zip_member_next(directory, size, 100, &offset, &member, &error), 1);
    CHECK_UINT_EQ(member.size, UINT64_C(1) << 40);
    CHECK_UINT_EQ(member.stored_size, 5);
    CHECK_UINT_EQ(member.header_offset, 20);
    CHECK_INT_EQ(member.method, FM_ZIP_DEFLATED);
    CHECK_INT_EQ(fm_zip_member_next(directory, size, 100, &offset, &member, &error), 0);
    fm_text_deinit(&text);
}

TEST(a_directory_of_zip64)
{
    struct fm_text text = {0};
    struct fm_zip_end end;
    struct fm_error error = {0};
    put(&text, 0, 8);
    put_end64(&text, 1, 6, 2);
    put_end(&text, UINT16_MAX, UINT32_MAX, UINT32_MAX, "");
    CHECK_INT_EQ(fm_zip_end_find(text.data, text.length, text.length, &end, &error), 0);
    CHECK_UINT_EQ(end.directory_offset, 2);
    CHECK_UINT_EQ(end.directory_size, 6);
    text.data[8] = 'x';
    CHECK_INT_EQ(fm_zip_end_find(text.data, text.length, text.length, &end, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "ZIP64");
    fm_text_deinit(&text);
}

TEST(a_members_bytes)
{
    struct fm_text text = {0};
    struct fm_error error = {0};
    struct fm_zip_member member = {.header_offset = 4, .stored_size = 10};
    uint64_t offset = 0;
    put(&text, 0x04034b50, 4);
    for (int i = 4; i < 26; i++) {
        put(&text, 0xFF, 1);
    }
    put(&text, 5, 2);
    put(&text, 20, 2);
    CHECK_INT_EQ(fm_zip_member_begin(&member, text.data, 69, &offset, &error), 0);
    CHECK_UINT_EQ(offset, 4 + 30 + 25);
    CHECK_INT_EQ(fm_zip_member_begin(&member, text.data, 68, &offset, &error), FM_ECORRUPT);
    text.data[0] = 0;
    CHECK_INT_EQ(fm_zip_member_begin(&member, text.data, 69, &offset, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "a member is not where its directory says");
    fm_text_deinit(&text);
}

TEST(what_is_no_archive)
{
    struct fm_zip_end end;
    struct fm_error error = {0};
    struct fm_text text = {0};
    CHECK_INT_EQ(fm_zip_end_find("", 0, 0, &end, &error), FM_ECORRUPT);
    CHECK_INT_EQ(fm_zip_end_find("PK\5\6", 4, 4, &end, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "it has no directory at its end; it may be cut off");
    put_end(&text, 1, 10, 0, "");
    CHECK_INT_EQ(fm_zip_end_find(text.data, text.length, text.length, &end, &error), 0);
    /* With a byte more behind it. */
    put(&text, 0, 1);
    CHECK_INT_EQ(fm_zip_end_find(text.data, text.length, text.length, &end, &error), FM_ECORRUPT);
    fm_text_clear(&text);
    put_end(&text, 1, 10, 13, "");
    CHECK_INT_EQ(fm_zip_end_find(text.data, text.length, text.length, &end, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "beyond its end");
    text.data[4] = 1;
    CHECK_INT_EQ(fm_zip_end_find(text.data, text.length, text.length, &end, &error),
                 FM_EUNSUPPORTED);
    CHECK_STR_CONTAINS(error.text, "in several parts");
    fm_text_deinit(&text);
}

TEST(entries_that_cannot_be)
{
    static const struct {
        struct entry entry;
        int status;
        const char *words;
    } cases[] = {
        {{.name = "a", .flags = 1}, FM_EUNSUPPORTED, "the member 'a' is encrypted"},
        {{.name = "a", .stored_size = 5, .size = 6}, FM_ECORRUPT, "sizes cannot be"},
        {{.name = "a", .method = 8, .stored_size = 5, .offset = 96},
         FM_ECORRUPT,
         "sizes cannot be"},
        {{.name = "a", .offset = 101}, FM_ECORRUPT, "sizes cannot be"},
        {{.name = "a", .stored_size = UINT64_MAX, .size = UINT64_MAX, .offset = 1, .wide = true},
         FM_ECORRUPT,
         "sizes cannot be"},
    };
    struct fm_zip_member member;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fm_text text = {0};
        struct fm_error error = {0};
        size_t offset = 0;
        put_entry(&text, &cases[i].entry);
        CHECK_INT_EQ(fm_zip_member_next(text.data, text.length, 100, &offset, &member, &error),
                     cases[i].status);
        CHECK_STR_CONTAINS(error.text, cases[i].words);
        CHECK_UINT_EQ(offset, 0);
        for (size_t size = 1; size < text.length; size++) {
            CHECK_INT_EQ(fm_zip_member_next(text.data, size, 100, &offset, &member, &error),
                         FM_ECORRUPT);
        }
        fm_text_deinit(&text);
    }
    struct fm_text text = {0};
    struct fm_error error = {0};
    size_t offset = 0;
    put_entry(&text, &(struct entry){.name = "a", .wide = true});
    text.data[46 + 1 + 7 + 2] = 16; /* its extra field has not all three numbers */
    text.data[30] = 27;
    text.data[46 + 1 + 27] = 0;
    CHECK_INT_EQ(fm_zip_member_next(text.data, text.length, 100, &offset, &member, &error),
                 FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "a ZIP64 field is too short");
    fm_text_deinit(&text);
}

TEST_MAIN()
