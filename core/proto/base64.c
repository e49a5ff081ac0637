/*
 * Base64. See base64.h.
 */
#include "core/proto/base64.h"

#include <stdbool.h>

static int digit_of(char character)
{
    return character >= 'A' && character <= 'Z'   ? character - 'A'
           : character >= 'a' && character <= 'z' ? character - 'a' + 26
           : character >= '0' && character <= '9' ? character - '0' + 52
           : character == '+' || character == '-' ? 62
           : character == '/' || character == '_' ? 63
                                                  : -1;
}

int fm_base64_decode(const char *text, size_t length, void *out, size_t *ret_size)
{
    unsigned char *bytes = out;
    uint32_t bits = 0;
    unsigned count = 0;
    size_t padding = 0;
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        int digit = digit_of(text[i]);
        if (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t') {
            continue;
        }
        if (text[i] == '=' && count >= 2 && padding < 4 - count) {
            padding++;
            continue;
        }
        if (digit < 0 || padding > 0) {
            return FM_EINVAL;
        }
        bits = bits << 6 | (uint32_t)digit;
        if (++count == 4) {
            bytes[used++] = (unsigned char)(bits >> 16);
            bytes[used++] = (unsigned char)(bits >> 8);
            bytes[used++] = (unsigned char)bits;
            bits = 0;
            count = 0;
        }
    }
    if (count == 1) {
        return FM_EINVAL;
    }
    if (count >= 2) {
        bits <<= 6 * (4 - count);
        bytes[used++] = (unsigned char)(bits >> 16);
    }
    if (count == 3) {
        bytes[used++] = (unsigned char)(bits >> 8);
    }
    *ret_size = used;
    return 0;
}

void fm_base64_encode(const void *data, size_t size, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *bytes = data;
    size_t whole = size / 3 * 3;
    for (size_t i = 0; i < whole; i += 3) {
        uint32_t bits = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];
        *out++ = digits[bits >> 18];
        *out++ = digits[bits >> 12 & 63];
        *out++ = digits[bits >> 6 & 63];
        *out++ = digits[bits & 63];
    }
    if (size > whole) {
        bool two = size - whole == 2;
        uint32_t bits = (uint32_t)bytes[whole] << 16 | (two ? (uint32_t)bytes[whole + 1] << 8 : 0);
        *out++ = digits[bits >> 18];
        *out++ = digits[bits >> 12 & 63];
        *out++ = two ? digits[bits >> 6 & 63] : '=';
        *out++ = '=';
    }
}
