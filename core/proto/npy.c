/*
 * The .npy codec. See npy.h.
 *
 * A file is: "\x93NUMPY", two bytes of version, the header's length (2 bytes in version 1, 4 later,
 * little-endian), the header (a Python dictionary with descr, fortran_order, shape, padded by
 * spaces to a multiple of 64 and ended by a newline), the data.
 */
#include "core/proto/npy.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"

static const char magic[] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};

enum { HEADER_LENGTH_MAX = FM_NPY_HEADER_MAX - 12, ALIGNMENT = 64, DESCR_SIZE = 32 };

static const struct {
    uint32_t dtype;
    const char *descr;
} types[] = {
    {FM_DTYPE_BOOL, "|b1"},      {FM_DTYPE_UINT8, "|u1"},       {FM_DTYPE_UINT16, "<u2"},
    {FM_DTYPE_UINT32, "<u4"},    {FM_DTYPE_UINT64, "<u8"},      {FM_DTYPE_INT8, "|i1"},
    {FM_DTYPE_INT16, "<i2"},     {FM_DTYPE_INT32, "<i4"},       {FM_DTYPE_INT64, "<i8"},
    {FM_DTYPE_FP16, "<f2"},      {FM_DTYPE_FP32, "<f4"},        {FM_DTYPE_FP64, "<f8"},
    {FM_DTYPE_COMPLEX64, "<c8"}, {FM_DTYPE_COMPLEX128, "<c16"},
};

/* What the header says. */
struct header {
    char descr[DESCR_SIZE];
    bool fortran_order;
    int64_t shape[FM_RANK_MAX];
    uint32_t rank;
    bool has_descr, has_order, has_shape;
};

/* The header's text, and how far it was read. */
struct scanner {
    const char *text;
    size_t length;
    size_t offset;
};

static char peek(struct scanner *scanner)
{
    while (scanner->offset < scanner->length &&
           strchr(" \n\t", scanner->text[scanner->offset]) != NULL &&
           scanner->text[scanner->offset] != '\0') {
        scanner->offset++;
    }
    return scanner->offset < scanner->length ? scanner->text[scanner->offset] : '\0';
}

static bool accept(struct scanner *scanner, char character)
{
    if (peek(scanner) != character || character == '\0') {
        return false;
    }
    scanner->offset++;
    return true;
}

static bool accept_word(struct scanner *scanner, const char *word)
{
    size_t length = strlen(word);
    (void)peek(scanner);
    if (scanner->length - scanner->offset < length ||
        memcmp(scanner->text + scanner->offset, word, length) != 0) {
        return false;
    }
    scanner->offset += length;
    return true;
}

/* A quoted Python string without escapes. */
static bool read_string(struct scanner *scanner, char *text, size_t size)
{
    char quote = peek(scanner);
    if (quote != '\'' && quote != '"') {
        return false;
    }
    scanner->offset++;
    size_t used = 0;
    while (scanner->offset < scanner->length && scanner->text[scanner->offset] != quote) {
        if (used + 1 >= size || scanner->text[scanner->offset] == '\\' ||
            scanner->text[scanner->offset] == '\0') {
            return false;
        }
        text[used++] = scanner->text[scanner->offset++];
    }
    text[used] = '\0';
    return accept(scanner, quote);
}

/* "(3, 4)", "(3,)", "()"; a trailing L as Python 2 wrote it is accepted. */
static bool read_shape(struct scanner *scanner, struct header *header)
{
    if (!accept(scanner, '(')) {
        return false;
    }
    while (!accept(scanner, ')')) {
        int64_t size = 0;
        char digit = peek(scanner);
        if (digit < '0' || digit > '9' || header->rank == FM_RANK_MAX) {
            return false;
        }
        while (scanner->offset < scanner->length &&
               (digit = scanner->text[scanner->offset]) >= '0' && digit <= '9') {
            if (size > (INT64_MAX - 9) / 10) {
                return false;
            }
            size = size * 10 + (digit - '0');
            scanner->offset++;
        }
        (void)accept(scanner, 'L');
        header->shape[header->rank++] = size;
        if (!accept(scanner, ',') && peek(scanner) != ')') {
            return false;
        }
    }
    return true;
}

static bool read_entry(struct scanner *scanner, const char *key, struct header *header,
                       struct fm_error *reterr)
{
    if (strcmp(key, "descr") == 0) {
        header->has_descr = true;
        if (peek(scanner) == '[') {
            (void)fm_error_set(reterr, FM_EUNSUPPORTED,
                               "a structured array; save its fields as arrays of their own");
            return false;
        }
        return read_string(scanner, header->descr, sizeof header->descr);
    }
    if (strcmp(key, "fortran_order") == 0) {
        header->has_order = true;
        header->fortran_order = accept_word(scanner, "True");
        return header->fortran_order || accept_word(scanner, "False");
    }
    if (strcmp(key, "shape") == 0 && !header->has_shape) {
        header->has_shape = true;
        return read_shape(scanner, header);
    }
    return false;
}

static int read_header(const char *text, size_t length, struct header *header,
                       struct fm_error *reterr)
{
    struct scanner scanner = {.text = text, .length = length};
    struct fm_error reason = {0};
    bool good = accept(&scanner, '{');
    while (good && !accept(&scanner, '}')) {
        char key[DESCR_SIZE];
        good = read_string(&scanner, key, sizeof key) && accept(&scanner, ':') &&
               read_entry(&scanner, key, header, &reason) &&
               (accept(&scanner, ',') || peek(&scanner) == '}');
    }
    if (reason.status != 0) {
        return fm_error_set(reterr, reason.status, "%s", reason.text);
    }
    if (!good || !header->has_descr || !header->has_order || !header->has_shape ||
        peek(&scanner) != '\0') {
        return fm_error_set(reterr, FM_ECORRUPT,
                            "not a .npy file: its header is malformed at byte %zu", scanner.offset);
    }
    if (header->fortran_order) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "the array is in Fortran order; save numpy.ascontiguousarray(array)");
    }
    return 0;
}

static uint32_t point_at(const char *string, size_t index)
{
    uint32_t point;
    memcpy(&point, string + index * sizeof point, sizeof point);
    return point;
}

size_t fm_npy_string_get(const struct fm_npy_header *header, const char *string, char *out)
{
    size_t count = header->element_size;
    if (!header->unicode) {
        while (count > 0 && string[count - 1] == '\0') {
            count--;
        }
        if (out != NULL) {
            memcpy(out, string, count);
        }
        return count;
    }
    size_t size = 0;
    count /= sizeof(uint32_t);
    while (count > 0 && point_at(string, count - 1) == 0) {
        count--;
    }
    for (size_t i = 0; i < count; i++) {
        char encoded[4];
        uint32_t point = point_at(string, i);
        bool valid = point < 0xD800 || (point > 0xDFFF && point <= 0x10FFFF);
        size_t length = fm_utf8_encode(valid ? point : 0xFFFD, encoded);
        if (out != NULL) {
            memcpy(out + size, encoded, length);
        }
        size += length;
    }
    return size;
}

/* Strings of a fixed width become a BYTES tensor, trailing zeros cut off. */
static int read_strings(const struct fm_npy_header *header, const char *data, size_t size,
                        struct fm_value *ret_value, struct fm_error *reterr)
{
    uint64_t count = 0;
    size_t width = header->element_size;
    if (fm_shape_element_count(header->shape, header->rank, &count) != 0 || count > size / width ||
        count * width != size || count > (SIZE_MAX - size) / 4) {
        return fm_error_set(reterr, FM_ECORRUPT,
                            "the data does not have the size that its header says");
    }
    size_t total = 0;
    for (int pass = 0; pass < 2; pass++) {
        char *out = pass == 1 ? ret_value->tensor.data : NULL;
        for (uint64_t i = 0; i < count; i++) {
            const char *element = data + i * width;
            char *text = out != NULL ? out + sizeof(uint32_t) : NULL;
            uint32_t length = (uint32_t)fm_npy_string_get(header, element, text);
            total += sizeof length + length;
            if (out != NULL) {
                memcpy(out, &length, sizeof length);
                out += sizeof length + length;
            }
        }
        if (pass == 0) {
            int status =
                fm_value_alloc(ret_value, FM_DTYPE_BYTES, header->shape, header->rank, total);
            if (status != 0) {
                return fm_error_set(reterr, status, "out of memory for %" PRIu64 " strings", count);
            }
        }
    }
    return 0;
}

/* The type that the header's text names. */
static int read_descr(const char *descr, struct fm_npy_header *ret_header, struct fm_error *reterr)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0] && descr[0] != '\0'; i++) {
        if (strcmp(types[i].descr + 1, descr + 1) != 0) {
            continue;
        }
        bool byte_wide = descr[1] != '\0' && strcmp(descr + 2, "1") == 0;
        if (descr[0] == '>' && !byte_wide) {
            return fm_error_set(reterr, FM_EUNSUPPORTED,
                                "the numbers are big-endian ('%s'); save array.astype('%s')", descr,
                                types[i].descr);
        }
        ret_header->dtype = types[i].dtype;
        ret_header->element_size = fm_dtype_bits(types[i].dtype) / 8;
        return 0;
    }
    uint64_t width = 0;
    bool unicode = descr[0] == '<' && descr[1] == 'U';
    bool bytes = descr[0] != '\0' && strchr("|<>=", descr[0]) != NULL && descr[1] == 'S';
    if ((!bytes && !unicode) || fm_parse_uint64(descr + 2, &width) != 0 ||
        width > UINT32_MAX / sizeof(uint32_t)) {
        return fm_error_set(
            reterr, FM_EUNSUPPORTED,
            "arrays of type '%s' cannot be a tensor; convert with array.astype(...)", descr);
    }
    if (width == 0) {
        /* Then no data would bound how many strings a short header can promise. */
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "its strings have no width ('%s'); save array.astype('S1')", descr);
    }
    ret_header->dtype = FM_DTYPE_BYTES;
    ret_header->element_size = (size_t)width * (unicode ? sizeof(uint32_t) : 1);
    ret_header->unicode = unicode;
    return 0;
}

static int read_data(const struct fm_npy_header *header, const char *data, size_t size,
                     struct fm_value *ret_value, struct fm_error *reterr)
{
    if (header->dtype == FM_DTYPE_BYTES) {
        return read_strings(header, data, size, ret_value, reterr);
    }
    size_t expected = 0;
    if (fm_tensor_bytes(header->dtype, header->shape, header->rank, &expected) != 0 ||
        expected != size) {
        return fm_error_set(reterr, FM_ECORRUPT,
                            "the file is %s: its header promises %zu bytes of data, it has %zu",
                            expected > size ? "cut off" : "too long", expected, size);
    }
    int status = fm_value_alloc(ret_value, header->dtype, header->shape, header->rank, 0);
    if (status != 0) {
        return fm_error_set(reterr, status, "out of memory for an array of %zu bytes", size);
    }
    if (size > 0) {
        memcpy(ret_value->tensor.data, data, size);
    }
    return 0;
}

int fm_npy_header_read(const void *data, size_t size, struct fm_npy_header *ret_header,
                       struct fm_error *reterr)
{
    const unsigned char *bytes = data;
    if (size < sizeof magic + 4 || memcmp(bytes, magic, sizeof magic) != 0) {
        return fm_error_set(reterr, FM_ECORRUPT,
                            "not a .npy file: it does not begin with \\x93NUMPY");
    }
    unsigned major = bytes[6];
    if (major < 1 || major > 3) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "version %u of the .npy format is not known here (1 to 3 are)", major);
    }
    size_t length_size = major == 1 ? 2 : 4;
    size_t start = 8 + length_size;
    size_t length = 0;
    for (size_t i = 0; i < length_size && 8 + i < size; i++) {
        length |= (size_t)bytes[8 + i] << (8 * i);
    }
    if (size < start || length > size - start || length > HEADER_LENGTH_MAX) {
        return fm_error_set(reterr, FM_ECORRUPT, "the .npy file is cut off inside its header");
    }
    struct header header = {0};
    int status = read_header((const char *)bytes + start, length, &header, reterr);
    if (status != 0) {
        return status;
    }
    *ret_header = (struct fm_npy_header){.rank = header.rank, .data_offset = start + length};
    memcpy(ret_header->shape, header.shape, sizeof header.shape);
    return read_descr(header.descr, ret_header, reterr);
}

int fm_npy_read(const void *data, size_t size, struct fm_value *ret_value, struct fm_error *reterr)
{
    struct fm_npy_header header;
    int status = fm_npy_header_read(data, size, &header, reterr);
    return status != 0 ? status
                       : read_data(&header, (const char *)data + header.data_offset,
                                   size - header.data_offset, ret_value, reterr);
}

static void write_header(struct fm_text *text, const char *descr, const struct fm_tensor *tensor)
{
    struct fm_text header = {0};
    fm_text_append_format(&header, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    for (uint32_t i = 0; i < tensor->rank; i++) {
        fm_text_append_format(&header, "%s%" PRId64, i == 0 ? "" : ", ", tensor->shape[i]);
    }
    fm_text_append_string(&header, tensor->rank == 1 ? ",), }" : "), }");
    while ((sizeof magic + 4 + header.length + 1) % ALIGNMENT != 0 && !header.failed) {
        fm_text_append_char(&header, ' ');
    }
    fm_text_append_char(&header, '\n');
    const char length[] = {1, 0, (char)(header.length & 0xff), (char)(header.length >> 8)};
    fm_text_append(text, magic, sizeof magic);
    fm_text_append(text, length, sizeof length);
    if (!header.failed) {
        fm_text_append(text, header.data, header.length);
    }
    text->failed = text->failed || header.failed;
    fm_text_deinit(&header);
}

static int write_strings(const struct fm_tensor *tensor, struct fm_text *text,
                         struct fm_error *reterr)
{
    const char *end = (const char *)tensor->data + tensor->size;
    uint32_t width = 1;
    uint32_t length = 0;
    for (const char *element = tensor->data; element < end; element += sizeof length + length) {
        memcpy(&length, element, sizeof length);
        width = length > width ? length : width;
    }
    char descr[DESCR_SIZE];
    (void)snprintf(descr, sizeof descr, "|S%" PRIu32, width);
    write_header(text, descr, tensor);
    for (const char *element = tensor->data; element < end; element += sizeof length + length) {
        memcpy(&length, element, sizeof length);
        char *place = fm_text_reserve(text, width);
        if (place == NULL) {
            break;
        }
        memcpy(place, element + sizeof length, length);
        memset(place + length, 0, width - length);
    }
    return text->failed
               ? fm_error_set(reterr, FM_ENOMEM, "out of memory while writing an array of strings")
               : 0;
}

int fm_npy_write(const struct fm_tensor *tensor, struct fm_text *text, struct fm_error *reterr)
{
    int status = fm_tensor_check(tensor, reterr);
    if (status != 0) {
        return status;
    }
    if (tensor->dtype == FM_DTYPE_BYTES) {
        return write_strings(tensor, text, reterr);
    }
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (types[i].dtype == tensor->dtype) {
            write_header(text, types[i].descr, tensor);
            fm_text_append(text, tensor->data, tensor->size);
            return text->failed ? fm_error_set(reterr, FM_ENOMEM,
                                               "out of memory while writing an array of %zu bytes",
                                               tensor->size)
                                : 0;
        }
    }
    return fm_error_set(reterr, FM_EUNSUPPORTED,
                        "NumPy has no type for %s, so a tensor of it cannot be written as .npy",
                        fm_dtype_name(tensor->dtype));
}
