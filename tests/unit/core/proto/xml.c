/*
 * Tests of core/proto/xml: elements and texts as they come, and what is refused.
 */
#include "core/proto/xml.h"

#include "tests/harness/test.h"

/* "<a>", "</a>", "'text'" of all tokens, one behind the other; "!words" where it ends badly. */
static void told(const char *xml, struct fm_text *to)
{
    struct fm_xml_reader reader;
    fm_text_clear(to);
    fm_xml_reader_init(&reader, xml, strlen(xml));
    for (;;) {
        switch (fm_xml_next(&reader)) {
        case FM_XML_OPEN:
            fm_text_append_format(to, "<%.*s>", (int)reader.text_length, reader.text);
            break;
        case FM_XML_CLOSE:
            fm_text_append_format(to, "</%.*s>", (int)reader.text_length, reader.text);
            break;
        case FM_XML_TEXT:
            fm_text_append_char(to, '\'');
            fm_xml_decode(&reader, to);
            fm_text_append_char(to, '\'');
            break;
        case FM_XML_END:
            return;
        case FM_XML_ERROR:
            fm_text_append_format(to, "!%s", reader.error.text);
            return;
        }
    }
}

TEST(elements_and_texts)
{
    static const struct {
        const char *xml;
        const char *tokens;
    } cases[] = {
        {"<a/>", "<a></a>"},
        {"\xEF\xBB\xBF<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- x -->\n<a>t</a>\n",
         "<a>'t'</a>"},
        {"<a b=\"1 > 0 &amp;\" c = '\"'><x:b/>u<c ></c ></a><!-- end -->",
         "<a><x:b></x:b>'u'<c></c></a>"},
        {"<a>&lt;&gt;&amp;&quot;&apos;&#65;&#x20ac;</a>", "<a>'<>&\"'A\xE2\x82\xAC'</a>"},
        {"<a>1<!-- <b> -->2</a>", "<a>'1''2'</a>"},
    };
    struct fm_text text = {0};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        told(cases[i].xml, &text);
        CHECK_STR_EQ(text.data, cases[i].tokens);
    }
    fm_text_deinit(&text);
}

TEST(what_is_refused)
{
    static const struct {
        const char *xml;
        const char *words;
    } cases[] = {
        {"", "the text ends before its element"},
        {" \n", "the text ends before its element"},
        {"text", "text outside of an element"},
        {"<a>", "the text ends before its element"},
        {"<a></b>", "an end of another element"},
        {"</a>", "an end of another element"},
        {"<a/><b/>", "a second element"},
        {"<a/>x", "text outside of an element"},
        {"<a", "not well-formed"},
        {"<a b></a>", "not well-formed"},
        {"<a b=1></a>", "not well-formed"},
        {"<a b=\"<\"></a>", "not well-formed"},
        {"<a b=\"1\"c=\"2\"></a>", "not well-formed"},
        {"< a></a>", "a tag without a name"},
        {"<a></a b>", "not well-formed"},
        {"<a>&nbsp;</a>", "an '&' that refers to nothing"},
        {"<a>&#0;</a>", "an '&' that refers to nothing"},
        {"<a>&#xD800;</a>", "an '&' that refers to nothing"},
        {"<a>&#99999999999;</a>", "an '&' that refers to nothing"},
        {"<a>&#4a;</a>", "an '&' that refers to nothing"},
        {"<a>& </a>", "an '&' that refers to nothing"},
        {"<a><!-- x</a>", "a comment without an end"},
        {"<?xml version=\"1.0\"", "a declaration without an end"},
        {"<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>", "a document type"},
        {"<a><![CDATA[x]]></a>", "CDATA"},
        {"<a><?php ?></a>", "an instruction"},
        {"<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a>", "too deep"},
    };
    struct fm_text text = {0};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        told(cases[i].xml, &text);
        CHECK_STR_CONTAINS(text.data, "!no XML that is understood: byte ");
        CHECK_STR_CONTAINS(text.data, cases[i].words);
    }
    fm_text_deinit(&text);
}

/* Cut anywhere, it is an error: never something else. */
TEST(cut_anywhere)
{
    static const char xml[] = "<?xml version=\"1.0\"?><a x='&lt;'>t&amp;<b/><c>u</c><!-- k --></a>";
    struct fm_text text = {0};
    char cut[sizeof(xml)];
    for (size_t size = 0; size < sizeof(xml) - 1; size++) {
        memcpy(cut, xml, size);
        cut[size] = '\0';
        told(cut, &text);
        CHECK(strchr(text.data, '!') != NULL);
    }
    told(xml, &text);
    CHECK_STR_EQ(text.data, "<a>'t&'<b></b><c>'u'</c></a>");
    fm_text_deinit(&text);
}

TEST_MAIN()
