/*
 * Text inside SVG and HTML. See markup.h.
 */
#include "core/plot/markup.h"

#include <string.h>

static bool is_in_xml(char character)
{
    unsigned char byte = (unsigned char)character;
    return byte >= 0x20 || byte == '\t' || byte == '\n' || byte == '\r';
}

void fm_markup_escape(struct fm_text *text, const char *string, size_t length)
{
    for (size_t i = 0; i < length;) {
        size_t size = fm_utf8_sequence(string + i, length - i);
        const char *entity = string[i] == '<'                     ? "&lt;"
                             : string[i] == '>'                   ? "&gt;"
                             : string[i] == '&'                   ? "&amp;"
                             : string[i] == '"'                   ? "&quot;"
                             : size == 0 || !is_in_xml(string[i]) ? "\xef\xbf\xbd"
                                                                  : NULL;
        if (entity != NULL) {
            fm_text_append_string(text, entity);
        } else {
            fm_text_append(text, string + i, size);
        }
        i += size > 0 ? size : 1;
    }
}

void fm_markup_escape_string(struct fm_text *text, const char *string)
{
    fm_markup_escape(text, string, strlen(string));
}
