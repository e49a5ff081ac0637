/*
 * Reading headers of tar archives. See tar.h.
 */
#include "core/proto/tar.h"

#include <stdio.h>
#include <string.h>

#include "core/util/error.h"

/* Where fields lie in a header's block. */
enum {
    NAME_AT = 0,
    NAME_SIZE = 100,
    SIZE_AT = 124,
    SIZE_SIZE = 12,
    SUM_AT = 148,
    SUM_SIZE = 8,
    TYPE_AT = 156,
    MAGIC_AT = 257,
    PREFIX_AT = 345,
    PREFIX_SIZE = 155,
};

/* Octal digits, with blanks or zeros around them; or, with the highest bit set, a binary number of
 * GNU tar. False: neither. */
static bool number_read(const unsigned char *field, size_t size, uint64_t *ret_number)
{
    uint64_t number = 0;
    size_t at = 0;
    if ((field[0] & 0x80) != 0) {
        for (size_t i = 0; i < size; i++) {
            unsigned byte = i == 0 ? field[i] & 0x7Fu : field[i];
            if (number >> 56 != 0) {
                return false;
            }
            number = number << 8 | byte;
        }
        *ret_number = number;
        return true;
    }
    while (at < size && field[at] == ' ') {
        at++;
    }
    size_t first = at;
    for (; at < size && field[at] >= '0' && field[at] <= '7'; at++) {
        number = number << 3 | (uint64_t)(field[at] - '0'); /* at most 12 digits */
    }
    size_t digits = at - first;
    while (at < size && (field[at] == ' ' || field[at] == '\0')) {
        at++;
    }
    *ret_number = number;
    return at == size && (digits > 0 || field[0] == '\0');
}

/* The sum of the block's bytes with blanks in place of the sum; old programs took them as signed.
 */
static bool sum_is_right(const unsigned char *block)
{
    uint64_t wanted = 0;
    uint64_t sum = 0;
    int64_t signed_sum = 0;
    for (size_t i = 0; i < FM_TAR_BLOCK; i++) {
        unsigned char byte = i >= SUM_AT && i < SUM_AT + SUM_SIZE ? ' ' : block[i];
        sum += byte;
        signed_sum += byte < 128 ? byte : byte - 256;
    }
    return number_read(block + SUM_AT, SUM_SIZE, &wanted) &&
           (wanted == sum || (int64_t)wanted == signed_sum);
}

static bool is_zero(const unsigned char *block)
{
    size_t at = 0;
    while (at < FM_TAR_BLOCK && block[at] == 0) {
        at++;
    }
    return at == FM_TAR_BLOCK;
}

static size_t field_length(const unsigned char *field, size_t size)
{
    const unsigned char *end = memchr(field, '\0', size);
    return end != NULL ? (size_t)(end - field) : size;
}

static enum fm_tar_kind kind_of(char type)
{
    switch (type) {
    case '\0':
    case '0':
    case '7':
        return FM_TAR_FILE;
    case 'x':
        return FM_TAR_PAX;
    case 'L':
        return FM_TAR_LONG_NAME;
    default:
        return FM_TAR_OTHER;
    }
}

int fm_tar_header_read(const void *block, struct fm_tar_header *ret_header, struct fm_error *reterr)
{
    const unsigned char *bytes = block;
    char type = (char)bytes[TYPE_AT];
    if (is_zero(bytes)) {
        return 0;
    }
    if (!sum_is_right(bytes)) {
        return fm_error_set(reterr, FM_ECORRUPT, "what is there is no header of a tar archive");
    }
    if (type == 'S') {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "a sparse file, which is not read: write the archive without -S");
    }
    ret_header->kind = kind_of(type);
    if (!number_read(bytes + SIZE_AT, SIZE_SIZE, &ret_header->size)) {
        return fm_error_set(reterr, FM_ECORRUPT, "a header whose size is no number");
    }
    if (type >= '1' && type <= '6') {
        ret_header->size = 0; /* what stands there is about the file that is linked */
    }
    /* GNU tar has other things in the place of the prefix, and a blank behind its "ustar". */
    bool prefixed = memcmp(bytes + MAGIC_AT, "ustar\0", 6) == 0 && bytes[PREFIX_AT] != '\0';
    size_t prefix = prefixed ? field_length(bytes + PREFIX_AT, PREFIX_SIZE) : 0;
    size_t name = field_length(bytes + NAME_AT, NAME_SIZE);
    (void)snprintf(ret_header->name, sizeof(ret_header->name), "%.*s%s%.*s", (int)prefix,
                   (const char *)bytes + PREFIX_AT, prefixed ? "/" : "", (int)name,
                   (const char *)bytes + NAME_AT);
    return 1;
}

/* --- pax --- */

/* "27 path=name\n" at data[0]: its parts. Returns its length; 0: it is none. */
static size_t record_read(const char *data, size_t size, const char **ret_key,
                          const char **ret_value, size_t *ret_value_size)
{
    size_t length = 0;
    size_t at = 0;
    for (; at < size && data[at] >= '0' && data[at] <= '9' && length <= size; at++) {
        length = length * 10 + (size_t)(data[at] - '0');
    }
    if (at == 0 || at >= size || data[at] != ' ' || length > size || length < at + 4 ||
        data[length - 1] != '\n') {
        return 0;
    }
    const char *key = data + at + 1;
    const char *equals = memchr(key, '=', length - at - 2);
    if (equals == NULL) {
        return 0;
    }
    *ret_key = key;
    *ret_value = equals + 1;
    *ret_value_size = (size_t)(data + length - 1 - (equals + 1));
    return length;
}

static bool is_key(const char *key, const char *value, const char *name)
{
    size_t length = (size_t)(value - 1 - key);
    return length == strlen(name) && memcmp(key, name, length) == 0;
}

static bool decimal_read(const char *text, size_t size, uint64_t *ret_number)
{
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9' || number > UINT64_MAX / 16) {
            return false;
        }
        number = number * 10 + (uint64_t)(text[i] - '0');
    }
    *ret_number = number;
    return size > 0;
}

int fm_tar_pax_read(const void *data, size_t size, struct fm_tar_pax *ret_pax,
                    struct fm_error *reterr)
{
    const char *text = data;
    ret_pax->has_name = false;
    ret_pax->has_size = false;
    for (size_t at = 0; at < size;) {
        const char *key = NULL;
        const char *value = NULL;
        size_t length = 0;
        size_t used = record_read(text + at, size - at, &key, &value, &length);
        if (used == 0) {
            return fm_error_set(reterr, FM_ECORRUPT, "a pax header that is not understood");
        }
        if (is_key(key, value, "path")) {
            if (length >= sizeof(ret_pax->name)) {
                return fm_error_set(reterr, FM_ETOOLARGE, "a name of more than %u bytes",
                                    FM_TAR_NAME_MAX - 1);
            }
            memcpy(ret_pax->name, value, length);
            ret_pax->name[length] = '\0';
            ret_pax->has_name = true;
        } else if (is_key(key, value, "size")) {
            ret_pax->has_size = decimal_read(value, length, &ret_pax->size);
            if (!ret_pax->has_size) {
                return fm_error_set(reterr, FM_ECORRUPT, "a pax header whose size is no number");
            }
        } else if (strncmp(key, "GNU.sparse.", 11) == 0) {
            return fm_error_set(reterr, FM_EUNSUPPORTED,
                                "a sparse file, which is not read: write the archive without -S");
        }
        at += used;
    }
    return 0;
}

uint64_t fm_tar_stored_size(uint64_t size)
{
    return size > UINT64_MAX - FM_TAR_BLOCK
               ? UINT64_MAX
               : (size + FM_TAR_BLOCK - 1) / FM_TAR_BLOCK * FM_TAR_BLOCK;
}

/* --- Samples --- */

bool fm_tar_sample_name_parse(const char *name, struct fm_tar_sample_name *ret_name)
{
    while (strncmp(name, "./", 2) == 0) {
        name += 2;
    }
    const char *slash = strrchr(name, '/');
    const char *file = slash != NULL ? slash + 1 : name;
    const char *dot = strchr(file, '.');
    size_t length = strlen(file);
    bool internal =
        length >= 4 && strncmp(file, "__", 2) == 0 && strcmp(file + length - 2, "__") == 0;
    if (dot == NULL || dot == file || dot[1] == '\0' || internal) {
        return false;
    }
    *ret_name = (struct fm_tar_sample_name){
        .key = name, .key_length = (size_t)(dot - name), .field = dot + 1};
    return true;
}
