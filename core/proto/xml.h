/*
 * XML: a pull reader of elements and their text, as far as answers of object stores need it.
 *
 * Owns: the syntax of elements, attributes (which are checked and passed over), comments, the
 * declaration in front, and the five entities and numbers that a text may refer to. Refuses, in
 * words, document types (and with them entities of the document's own), CDATA and processing
 * instructions. Works in place on a complete text, allocates nothing. Does not own: names' prefixes
 * (they are part of the name), what elements mean. Thread rule: caller's memory.
 */
#ifndef FM_CORE_PROTO_XML_H
#define FM_CORE_PROTO_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/util/text.h"
#include "fermata/status.h"

#define FM_XML_DEPTH_MAX 16

enum fm_xml_token {
    FM_XML_END,   /* the text is over, cleanly: there was one element, and it was closed */
    FM_XML_OPEN,  /* <name ...>: text/length are the name; one that closes itself is followed by its
                     CLOSE */
    FM_XML_CLOSE, /* </name>: likewise */
    FM_XML_TEXT,  /* between tags, raw; what is nothing but blanks too */
    FM_XML_ERROR,
};

struct fm_xml_reader {
    const char *data;
    size_t length;
    size_t offset;
    const char *text; /* of the token at hand */
    size_t text_length;
    uint32_t depth; /* of open elements */
    struct fm_error error;

    /* Internal: the open elements' names. */
    struct {
        const char *name;
        size_t length;
    } open[FM_XML_DEPTH_MAX];
    bool closing; /* the last element closes itself */
    bool begun;   /* there was an element */
};

void fm_xml_reader_init(struct fm_xml_reader *reader, const char *data, size_t length);
enum fm_xml_token fm_xml_next(struct fm_xml_reader *reader);
/* Whether the current token is this name. */
bool fm_xml_is(const struct fm_xml_reader *reader, const char *name);
/* Appends the current TEXT with what it refers to in place of the references. */
void fm_xml_decode(const struct fm_xml_reader *reader, struct fm_text *text);

#endif
