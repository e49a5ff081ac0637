/*
 * The texts of gRPC's header fields. See grpc_fields.h.
 */
#include "host/net/grpc_fields.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define TIMEOUT_DIGITS_MAX 8

int fm_grpc_timeout_parse(const char *text, uint64_t *ret_ns)
{
    uint64_t value = 0;
    size_t length = 0;
    while (text[length] >= '0' && text[length] <= '9') {
        if (length == TIMEOUT_DIGITS_MAX) {
            return FM_EINVAL;
        }
        value = value * 10 + (uint64_t)(text[length] - '0');
        length++;
    }
    if (length == 0 || text[length] == '\0' || text[length + 1] != '\0') {
        return FM_EINVAL;
    }
    uint64_t unit = 0;
    switch (text[length]) {
    case 'H':
        unit = UINT64_C(3600000000000);
        break;
    case 'M':
        unit = UINT64_C(60000000000);
        break;
    case 'S':
        unit = UINT64_C(1000000000);
        break;
    case 'm':
        unit = UINT64_C(1000000);
        break;
    case 'u':
        unit = UINT64_C(1000);
        break;
    case 'n':
        unit = 1;
        break;
    default:
        return FM_EINVAL;
    }
    *ret_ns = value > UINT64_MAX / unit ? UINT64_MAX : value * unit;
    return 0;
}

bool fm_grpc_content_type_matches(const char *text)
{
    static const char type[] = "application/grpc";
    static const char proto[] = "+proto";
    if (strncasecmp(text, type, sizeof(type) - 1) != 0) {
        return false;
    }
    text += sizeof(type) - 1;
    if (strncasecmp(text, proto, sizeof(proto) - 1) == 0) {
        text += sizeof(proto) - 1;
    }
    return *text == '\0' || *text == ';' || *text == ' ';
}

void fm_grpc_message_encode(struct fm_text *text, const char *message, size_t length_max)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t used = 0;
    for (const char *at = message; *at != '\0';) {
        /* Whole characters only, so that what is cut is still UTF-8. */
        size_t sequence = fm_utf8_sequence(at, strnlen(at, 4));
        sequence = sequence > 0 ? sequence : 1;
        char encoded[12];
        size_t length = 0;
        for (size_t i = 0; i < sequence; i++) {
            unsigned char byte = (unsigned char)at[i];
            if (byte >= 0x20 && byte < 0x7f && byte != '%') {
                encoded[length++] = (char)byte;
            } else {
                encoded[length++] = '%';
                encoded[length++] = digits[byte >> 4];
                encoded[length++] = digits[byte & 15];
            }
        }
        if (used + length > length_max) {
            return;
        }
        fm_text_append(text, encoded, length);
        used += length;
        at += sequence;
    }
}

void fm_grpc_message_decode(struct fm_text *text, const char *message, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)message[i];
        if (byte == '%' && length - i > 2 && fm_hex_digit(message[i + 1]) >= 0 &&
            fm_hex_digit(message[i + 2]) >= 0) {
            byte =
                (unsigned char)(fm_hex_digit(message[i + 1]) << 4 | fm_hex_digit(message[i + 2]));
            i += 2;
        }
        if (byte >= 0x20 && byte != 0x7f) {
            fm_text_append_char(text, (char)byte);
        }
    }
}

void fm_grpc_timeout_write(uint64_t timeout_ns, char *text, size_t size)
{
    static const struct {
        uint64_t ns;
        char unit;
    } units[] = {{1, 'n'},
                 {1000, 'u'},
                 {1000000, 'm'},
                 {UINT64_C(1000000000), 'S'},
                 {UINT64_C(60000000000), 'M'},
                 {UINT64_C(3600000000000), 'H'}};
    size_t i = 0;
    uint64_t value = timeout_ns;
    while (value > 99999999 && i + 1 < sizeof(units) / sizeof(units[0])) {
        i++;
        value = timeout_ns / units[i].ns + (timeout_ns % units[i].ns != 0);
    }
    (void)snprintf(text, size, "%llu%c", (unsigned long long)value, units[i].unit);
}
