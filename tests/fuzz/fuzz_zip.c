/*
 * Fuzzes core/proto/zip and the header of core/proto/npy: any bytes as an archive give members that
 * lie within it, or an error with words; where one begins like an array, its header is read.
 */
#include "core/proto/zip.h"

#include <string.h>

#include "core/proto/npy.h"
#include "tests/fuzz/check.h"

static void member_check(const uint8_t *data, size_t size, const struct fm_zip_member *member)
{
    struct fm_error error = {0};
    struct fm_npy_header header;
    uint64_t offset = 0;
    FUZZ_CHECK(member->header_offset <= size && member->stored_size <= size);
    if (size - member->header_offset < FM_ZIP_LOCAL_HEADER_SIZE) {
        return;
    }
    if (fm_zip_member_begin(member, data + member->header_offset, size, &offset, &error) != 0) {
        FUZZ_CHECK(error.text[0] != '\0');
        return;
    }
    FUZZ_CHECK(offset <= size && member->stored_size <= size - offset);
    if (member->method != FM_ZIP_STORED) {
        return;
    }
    if (fm_npy_header_read(data + offset, (size_t)member->stored_size, &header, &error) != 0) {
        FUZZ_CHECK(error.text[0] != '\0');
        return;
    }
    FUZZ_CHECK(header.data_offset <= member->stored_size && header.element_size > 0);
    FUZZ_CHECK(header.rank <= FM_RANK_MAX && !fm_fuzz_canary);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fm_zip_end end;
    struct fm_zip_member member;
    struct fm_error error = {0};
    size_t tail = size < FM_ZIP_END_MAX ? size : FM_ZIP_END_MAX;
    if (fm_zip_end_find(data + (size - tail), tail, size, &end, &error) != 0) {
        FUZZ_CHECK(error.status < 0 && error.text[0] != '\0');
        return 0;
    }
    FUZZ_CHECK(end.directory_offset <= size && end.directory_size <= size - end.directory_offset);
    const uint8_t *directory = data + end.directory_offset;
    size_t offset = 0;
    for (;;) {
        size_t before = offset;
        int status = fm_zip_member_next(directory, (size_t)end.directory_size, size, &offset,
                                        &member, &error);
        if (status <= 0) {
            FUZZ_CHECK(status == 0 || error.text[0] != '\0');
            FUZZ_CHECK(offset == before);
            return 0;
        }
        FUZZ_CHECK(offset > before && offset <= end.directory_size);
        FUZZ_CHECK((const uint8_t *)member.name >= directory + before &&
                   (const uint8_t *)member.name + member.name_size <= directory + offset);
        member_check(data, size, &member);
    }
}

int fm_fuzz_has_canary(void)
{
    return 1;
}

static uint8_t *put(uint8_t *at, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        *at++ = (uint8_t)(value >> (8 * i));
    }
    return at;
}

/* An archive of one stored array "a"; with ZIP64's records and extra field for `wide`. */
size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char array[] = "\x93NUMPY\1\0\x3A\0"
                                "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n"
                                "\0\0\x80\x3F";
    enum { ARRAY = sizeof array - 1 };
    bool wide = index == 1;
    uint8_t *at = data;
    if (index > 1 || capacity < 512) {
        return 0;
    }
    at = put(at, 0x04034b50, 4);
    at = put(put(at, 0, 8), 0, 6);
    at = put(put(at, ARRAY, 4), ARRAY, 4);
    at = put(at, 1, 4);
    *at++ = 'a';
    memcpy(at, array, ARRAY);
    at += ARRAY;
    size_t directory = (size_t)(at - data);
    at = put(at, 0x02014b50, 4);
    at = put(put(at, 0, 8), 0, 8);
    at = put(put(at, wide ? UINT32_MAX : ARRAY, 4), wide ? UINT32_MAX : ARRAY, 4);
    at = put(put(at, 1, 2), wide ? 20 : 0, 2);
    at = put(put(at, 0, 8), 0, 2);
    at = put(at, 0, 4);
    *at++ = 'a';
    if (wide) {
        at = put(put(at, 1, 2), 16, 2);
        at = put(put(at, ARRAY, 8), ARRAY, 8);
    }
    size_t end = (size_t)(at - data);
    if (wide) {
        at = put(put(at, 0x06064b50, 4), 44, 8);
        at = put(put(at, 0, 8), 0, 4);
        at = put(put(at, 1, 8), 1, 8);
        at = put(put(at, end - directory, 8), directory, 8);
        at = put(put(at, 0x07064b50, 4), 0, 4);
        at = put(put(at, end, 8), 1, 4);
    }
    at = put(put(at, 0x06054b50, 4), 0, 4);
    at = put(put(at, 1, 2), 1, 2);
    at = put(put(at, end - directory, 4), directory, 4);
    at = put(at, 0, 2);
    return (size_t)(at - data);
}
