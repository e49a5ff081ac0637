/*
 * The directory of a ZIP archive (PKWARE's APPNOTE.TXT, 4.3). See zip.h.
 */
#include "core/proto/zip.h"

#include <stdbool.h>
#include <string.h>

#include "core/util/error.h"

enum {
    END_SIZE = 22,
    END64_SIZE = 56,
    LOCATOR_SIZE = 20,
    ENTRY_SIZE = 46,
    EXTRA64 = 1, /* the id of ZIP64's extra field */
    FLAG_ENCRYPTED = 1,
};

#define SIGNATURE_LOCAL   UINT32_C(0x04034b50)
#define SIGNATURE_ENTRY   UINT32_C(0x02014b50)
#define SIGNATURE_END     UINT32_C(0x06054b50)
#define SIGNATURE_END64   UINT32_C(0x06064b50)
#define SIGNATURE_LOCATOR UINT32_C(0x07064b50)

static uint64_t number(const unsigned char *bytes, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++) {
        value |= (uint64_t)bytes[i] << (8 * i);
    }
    return value;
}

static int corrupt(struct fm_error *reterr, const char *why)
{
    return fm_error_set(reterr, FM_ECORRUPT, "not a ZIP archive: %s", why);
}

/* Of ZIP64: its locator stands right before the end record, and says where its own end record
 * begins. */
static int end64_read(const unsigned char *bytes, size_t at, uint64_t tail_offset,
                      struct fm_zip_end *end, struct fm_error *reterr)
{
    if (at < LOCATOR_SIZE || number(bytes + at - LOCATOR_SIZE, 4) != SIGNATURE_LOCATOR) {
        return 0;
    }
    uint64_t offset = number(bytes + at - LOCATOR_SIZE + 8, 8);
    uint64_t room = at - LOCATOR_SIZE;
    if (offset < tail_offset || offset - tail_offset > room ||
        room - (offset - tail_offset) < END64_SIZE ||
        number(bytes + (offset - tail_offset), 4) != SIGNATURE_END64) {
        return corrupt(reterr, "its ZIP64 end record is not where it is said to be");
    }
    const unsigned char *record = bytes + (offset - tail_offset);
    if (number(record + 16, 4) != 0 || number(record + 20, 4) != 0) {
        return fm_error_set(reterr, FM_EUNSUPPORTED, "an archive in several parts");
    }
    end->directory_size = number(record + 40, 8);
    end->directory_offset = number(record + 48, 8);
    return 0;
}

int fm_zip_end_find(const void *tail, size_t size, uint64_t file_size, struct fm_zip_end *ret_end,
                    struct fm_error *reterr)
{
    const unsigned char *bytes = tail;
    size_t at = size >= END_SIZE ? size - END_SIZE + 1 : 0;
    bool found = false;
    while (at > 0 && !found) {
        at--;
        /* The comment behind it reaches to the end of the file. */
        found = number(bytes + at, 4) == SIGNATURE_END &&
                number(bytes + at + 20, 2) == size - at - END_SIZE;
    }
    if (!found) {
        return corrupt(reterr, "it has no directory at its end; it may be cut off");
    }
    if (number(bytes + at + 4, 2) != 0 || number(bytes + at + 6, 2) != 0) {
        return fm_error_set(reterr, FM_EUNSUPPORTED, "an archive in several parts");
    }
    struct fm_zip_end end = {.directory_size = number(bytes + at + 12, 4),
                             .directory_offset = number(bytes + at + 16, 4)};
    int status = end64_read(bytes, at, file_size - size, &end, reterr);
    if (status != 0) {
        return status;
    }
    if (end.directory_offset > file_size || end.directory_size > file_size - end.directory_offset) {
        return corrupt(reterr, "its directory lies beyond its end");
    }
    *ret_end = end;
    return 0;
}

/* The sizes that did not fit into 32 bits stand in an extra field, in this order. */
static int extra64_read(const unsigned char *extra, size_t size, struct fm_zip_member *member,
                        struct fm_error *reterr)
{
    uint64_t *const wanted[] = {&member->size, &member->stored_size, &member->header_offset};
    while (size >= 4) {
        size_t length = (size_t)number(extra + 2, 2);
        if (length > size - 4) {
            break;
        }
        const unsigned char *value = extra + 4;
        for (size_t i = 0, left = length; number(extra, 2) == EXTRA64 && i < 3; i++) {
            if (*wanted[i] != UINT32_MAX) {
                continue;
            }
            if (left < 8) {
                return corrupt(reterr, "a ZIP64 field is too short");
            }
            *wanted[i] = number(value, 8);
            value += 8;
            left -= 8;
        }
        extra += 4 + length;
        size -= 4 + length;
    }
    return 0;
}

int fm_zip_member_next(const void *directory, size_t size, uint64_t file_size, size_t *offset,
                       struct fm_zip_member *ret_member, struct fm_error *reterr)
{
    const unsigned char *entry = (const unsigned char *)directory + *offset;
    size_t left = size - *offset;
    if (left == 0) {
        return 0;
    }
    if (left < ENTRY_SIZE || number(entry, 4) != SIGNATURE_ENTRY) {
        return corrupt(reterr, "an entry of its directory is malformed");
    }
    size_t name_size = (size_t)number(entry + 28, 2);
    size_t extra_size = (size_t)number(entry + 30, 2);
    size_t length = ENTRY_SIZE + name_size + extra_size + (size_t)number(entry + 32, 2);
    if (length > left) {
        return corrupt(reterr, "an entry of its directory is cut off");
    }
    struct fm_zip_member member = {.name = (const char *)entry + ENTRY_SIZE,
                                   .name_size = name_size,
                                   .method = (uint16_t)number(entry + 10, 2),
                                   .crc = (uint32_t)number(entry + 16, 4),
                                   .stored_size = number(entry + 20, 4),
                                   .size = number(entry + 24, 4),
                                   .header_offset = number(entry + 42, 4)};
    int status = extra64_read(entry + ENTRY_SIZE + name_size, extra_size, &member, reterr);
    if (status != 0) {
        return status;
    }
    if ((number(entry + 8, 2) & FLAG_ENCRYPTED) != 0) {
        return fm_error_set(reterr, FM_EUNSUPPORTED, "the member '%.*s' is encrypted",
                            (int)name_size, member.name);
    }
    if (member.header_offset > file_size || member.stored_size > file_size - member.header_offset ||
        (member.method == FM_ZIP_STORED && member.size != member.stored_size)) {
        return corrupt(reterr, "a member's sizes cannot be");
    }
    *offset += length;
    *ret_member = member;
    return 1;
}

int fm_zip_member_begin(const struct fm_zip_member *member, const void *header, uint64_t file_size,
                        uint64_t *ret_offset, struct fm_error *reterr)
{
    const unsigned char *bytes = header;
    uint64_t length = FM_ZIP_LOCAL_HEADER_SIZE + number(bytes + 26, 2) + number(bytes + 28, 2);
    uint64_t room = file_size - member->header_offset;
    if (number(bytes, 4) != SIGNATURE_LOCAL || length > room ||
        member->stored_size > room - length) {
        return corrupt(reterr, "a member is not where its directory says");
    }
    *ret_offset = member->header_offset + length;
    return 0;
}
