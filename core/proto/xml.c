/*
 * Reading XML. See xml.h.
 */
#include "core/proto/xml.h"

#include <string.h>

#include "core/util/error.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.' || c == ':' || (unsigned char)c >= 0x80;
}

void fm_xml_reader_init(struct fm_xml_reader *reader, const char *data, size_t length)
{
    *reader = (struct fm_xml_reader){.data = data, .length = length};
    reader->offset = fm_text_after_bom(data, length);
}

bool fm_xml_is(const struct fm_xml_reader *reader, const char *name)
{
    return reader->text_length == strlen(name) &&
           memcmp(reader->text, name, reader->text_length) == 0;
}

static enum fm_xml_token refuse(struct fm_xml_reader *reader, const char *words)
{
    (void)fm_error_set(&reader->error, FM_ECORRUPT, "no XML that is understood: byte %zu: %s",
                       reader->offset, words);
    return FM_XML_ERROR;
}

static bool begins(const struct fm_xml_reader *reader, const char *with)
{
    size_t length = strlen(with);
    return reader->length - reader->offset >= length &&
           memcmp(reader->data + reader->offset, with, length) == 0;
}

/* --- References --- */

/* "&amp;" or "&#38;" at text[0]: its bytes in out. Returns how long the reference is; 0: none. */
static size_t reference_read(const char *text, size_t length, char out[4], size_t *ret_size)
{
    static const struct {
        const char *name;
        char character;
    } names[] = {{"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}, {"&quot;", '"'}, {"&apos;", '\''}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t size = strlen(names[i].name);
        if (length >= size && memcmp(text, names[i].name, size) == 0) {
            out[0] = names[i].character;
            *ret_size = 1;
            return size;
        }
    }
    if (length < 4 || text[1] != '#') {
        return 0;
    }
    bool hexadecimal = text[2] == 'x';
    size_t at = hexadecimal ? 3 : 2;
    size_t first = at;
    uint32_t point = 0;
    for (; at < length && text[at] != ';'; at++) {
        int digit = fm_hex_digit(text[at]);
        if (digit < 0 || (!hexadecimal && digit > 9) || point > 0x10FFFF) {
            return 0;
        }
        point = point * (hexadecimal ? 16 : 10) + (uint32_t)digit;
    }
    bool surrogate = point >= 0xD800 && point <= 0xDFFF;
    if (at == length || at == first || point == 0 || point > 0x10FFFF || surrogate) {
        return 0;
    }
    *ret_size = fm_utf8_encode(point, out);
    return at + 1;
}

void fm_xml_decode(const struct fm_xml_reader *reader, struct fm_text *text)
{
    for (size_t at = 0; at < reader->text_length;) {
        char out[4];
        size_t size = 0;
        size_t used = reader->text[at] == '&'
                          ? reference_read(reader->text + at, reader->text_length - at, out, &size)
                          : 0;
        if (used > 0) {
            fm_text_append(text, out, size);
        } else {
            fm_text_append_char(text, reader->text[at]);
        }
        at += used > 0 ? used : 1;
    }
}

/* Every '&' of a text must refer to something. */
static bool references_are_good(const char *text, size_t length)
{
    for (size_t at = 0; at < length; at++) {
        char out[4];
        size_t size = 0;
        if (text[at] == '&' && reference_read(text + at, length - at, out, &size) == 0) {
            return false;
        }
    }
    return true;
}

/* --- Tags --- */

static void blanks_skip(struct fm_xml_reader *reader)
{
    while (reader->offset < reader->length && is_blank(reader->data[reader->offset])) {
        reader->offset++;
    }
}

static bool name_read(struct fm_xml_reader *reader)
{
    size_t first = reader->offset;
    while (reader->offset < reader->length && is_name(reader->data[reader->offset])) {
        reader->offset++;
    }
    reader->text = reader->data + first;
    reader->text_length = reader->offset - first;
    return reader->text_length > 0;
}

/* name="value". False: that is none. */
static bool attribute_skip(struct fm_xml_reader *reader)
{
    if (!name_read(reader)) {
        return false;
    }
    blanks_skip(reader);
    if (!begins(reader, "=")) {
        return false;
    }
    reader->offset++;
    blanks_skip(reader);
    if (!begins(reader, "\"") && !begins(reader, "'")) {
        return false;
    }
    char quote = reader->data[reader->offset++];
    const char *value = reader->data + reader->offset;
    const char *end = memchr(value, quote, reader->length - reader->offset);
    if (end == NULL || memchr(value, '<', (size_t)(end - value)) != NULL ||
        !references_are_good(value, (size_t)(end - value))) {
        return false;
    }
    reader->offset = (size_t)(end - reader->data) + 1;
    return true;
}

/* Behind the '<' of an element's beginning. */
static enum fm_xml_token open_read(struct fm_xml_reader *reader)
{
    if (reader->depth == 0 && reader->begun) {
        return refuse(reader, "a second element where one was expected");
    }
    if (reader->depth == FM_XML_DEPTH_MAX) {
        return refuse(reader, "elements too deep in one another");
    }
    if (!name_read(reader)) {
        return refuse(reader, "a tag without a name");
    }
    const char *name = reader->text;
    size_t length = reader->text_length;
    for (;;) {
        size_t before = reader->offset;
        blanks_skip(reader);
        if (begins(reader, ">") || begins(reader, "/>")) {
            break;
        }
        if (reader->offset == before || !attribute_skip(reader)) {
            return refuse(reader, "a tag that is not well-formed");
        }
    }
    reader->closing = reader->data[reader->offset] == '/';
    reader->offset += reader->closing ? 2 : 1;
    reader->begun = true;
    reader->open[reader->depth].name = name;
    reader->open[reader->depth++].length = length;
    reader->text = name;
    reader->text_length = length;
    return FM_XML_OPEN;
}

static enum fm_xml_token close_give(struct fm_xml_reader *reader)
{
    reader->depth--;
    reader->closing = false;
    reader->text = reader->open[reader->depth].name;
    reader->text_length = reader->open[reader->depth].length;
    return FM_XML_CLOSE;
}

/* Behind the "</" of an element's end. */
static enum fm_xml_token close_read(struct fm_xml_reader *reader)
{
    if (!name_read(reader) || reader->depth == 0 ||
        reader->open[reader->depth - 1].length != reader->text_length ||
        memcmp(reader->open[reader->depth - 1].name, reader->text, reader->text_length) != 0) {
        return refuse(reader, "an end of another element than the one that is open");
    }
    blanks_skip(reader);
    if (!begins(reader, ">")) {
        return refuse(reader, "a tag that is not well-formed");
    }
    reader->offset++;
    return close_give(reader);
}

/* Passes over what begins with `from`, up to the end of `to`. False: it has none. */
static bool skip_to(struct fm_xml_reader *reader, const char *from, const char *to)
{
    reader->offset += strlen(from);
    while (reader->offset < reader->length && !begins(reader, to)) {
        reader->offset++;
    }
    bool found = reader->offset < reader->length;
    reader->offset += found ? strlen(to) : 0;
    return found;
}

static enum fm_xml_token text_read(struct fm_xml_reader *reader)
{
    const char *text = reader->data + reader->offset;
    const char *end = memchr(text, '<', reader->length - reader->offset);
    size_t length = end != NULL ? (size_t)(end - text) : reader->length - reader->offset;
    if (!references_are_good(text, length)) {
        return refuse(reader, "an '&' that refers to nothing known");
    }
    reader->text = text;
    reader->text_length = length;
    reader->offset += length;
    return FM_XML_TEXT;
}

enum fm_xml_token fm_xml_next(struct fm_xml_reader *reader)
{
    if (reader->error.status != 0) {
        return FM_XML_ERROR;
    }
    if (reader->closing) {
        return close_give(reader);
    }
    for (;;) {
        if (reader->depth == 0) {
            blanks_skip(reader);
        }
        if (reader->offset == reader->length) {
            return reader->depth == 0 && reader->begun
                       ? FM_XML_END
                       : refuse(reader, "the text ends before its element does");
        }
        if (begins(reader, "<!--")) {
            if (!skip_to(reader, "<!--", "-->")) {
                return refuse(reader, "a comment without an end");
            }
        } else if (!reader->begun && begins(reader, "<?xml ")) {
            if (!skip_to(reader, "<?xml", "?>")) {
                return refuse(reader, "a declaration without an end");
            }
        } else {
            break;
        }
    }
    if (reader->data[reader->offset] != '<') {
        return reader->depth > 0 ? text_read(reader) : refuse(reader, "text outside of an element");
    }
    if (begins(reader, "<!") || begins(reader, "<?")) {
        return refuse(reader, "a document type, CDATA or an instruction");
    }
    reader->offset++;
    if (begins(reader, "/")) {
        reader->offset++;
        return close_read(reader);
    }
    return open_read(reader);
}
