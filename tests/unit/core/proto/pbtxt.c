/*
 * Tests of core/proto/pbtxt: every form the format has, and the place of every mistake.
 */
#include "core/proto/pbtxt.h"

#include "core/util/text.h"
#include "tests/harness/test.h"

static struct fm_arena arena;

static int parse(const char *text, struct fm_pbtxt_value *ret_root, struct fm_error *reterr)
{
    fm_arena_deinit(&arena);
    *reterr = (struct fm_error){0};
    return fm_pbtxt_parse("config.pbtxt", text, strlen(text), &arena, ret_root, reterr);
}

/* The tree written back in one canonical form, to compare with. */
static void dump(const struct fm_pbtxt_value *value, struct fm_text *out)
{
    if (value->kind != FM_PBTXT_MESSAGE) {
        const char *quote = value->kind == FM_PBTXT_STRING ? "\"" : "";
        fm_text_append_format(out, "%s%s%s", quote, value->text, quote);
        return;
    }
    fm_text_append_char(out, '{');
    for (const struct fm_pbtxt_field *field = value->fields; field != NULL; field = field->next) {
        fm_text_append_format(out, "%s%s=", field == value->fields ? "" : " ", field->name);
        dump(&field->value, out);
    }
    fm_text_append_char(out, '}');
}

TEST(every_form_is_read)
{
    static const struct {
        const char *text;
        const char *tree;
    } rows[] = {
        {"", "{}"},
        {"# only a comment", "{}"},
        {"\xEF\xBB\xBF"
         "a: 1",
         "{a=1}"},
        {"a: 1", "{a=1}"},
        {"a: 1b", "{a=1b}"}, /* numbers are checked when asked for */
        {"a: 1; b: 2, c: 3", "{a=1 b=2 c=3}"},
        {"a { b: 1 } c: { d < e: 2 > }", "{a={b=1} c={d={e=2}}}"},
        {"a [ { b: 1 }, < b: 2 > ]", "{a={b=1} a={b=2}}"},
        {"a: [1, -2, 0x1F, 1.5e-3f, .5]", "{a=1 a=-2 a=0x1F a=1.5e-3f a=.5}"},
        {"a: [] b: [ ]", "{}"},
        {"a: [1,]", "{a=1}"},
        {"dims: [ -1, 3,\n 224 ] # image\n", "{dims=-1 dims=3 dims=224}"},
        {"a: - 5 b: -inf c: nan", "{a=-5 b=-inf c=nan}"},
        {"kind: KIND_CPU on: true", "{kind=KIND_CPU on=true}"},
        {"a: \"x\" 'y'\n # in between\n \"z\"", "{a=\"xyz\"}"},
        {"a: '\"' b: \"'\"", "{a=\"\"\" b=\"'\"}"},
        {"a: \"\\x41\\102\\u00e9\\U0001F600\\ud83d\\ude00\\t\"",
         "{a=\"AB\xC3\xA9\xF0\x9F\x98\x80\xF0\x9F\x98\x80\t\"}"},
        {"[com.example.ext]: 1 [type.example/x.Y] { a: 2 }",
         "{com.example.ext=1 type.example/x.Y={a=2}}"},
        {"a\n:\n1", "{a=1}"},
        {"a{}b{}", "{a={} b={}}"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fm_pbtxt_value root;
        struct fm_error error;
        struct fm_text out = {0};
        CHECK_INT_EQ(parse(rows[i].text, &root, &error), 0);
        dump(&root, &out);
        CHECK_STR_EQ(out.data, rows[i].tree);
        fm_text_deinit(&out);
    }
    fm_arena_deinit(&arena);
}

TEST(every_node_knows_its_place)
{
    struct fm_pbtxt_value root;
    struct fm_error error;
    CHECK_INT_EQ(parse("# \xC3\xA9\n  a { b: \"\xC3\xA9\" c:\n 7 }\nd: [ 1,\n  2 ]", &root, &error),
                 0);
    const struct fm_pbtxt_field *a = root.fields;
    CHECK_UINT_EQ(a->line, 2);
    CHECK_UINT_EQ(a->column, 3);
    CHECK_UINT_EQ(a->value.column, 5);
    const struct fm_pbtxt_field *c = a->value.fields->next;
    CHECK_STR_EQ(c->name, "c");
    CHECK_UINT_EQ(c->column, 14); /* in characters: the accented letter is one */
    CHECK_UINT_EQ(c->value.line, 3);
    CHECK_UINT_EQ(c->value.column, 2);
    const struct fm_pbtxt_field *second = a->next->next;
    CHECK_UINT_EQ(second->line, 4); /* the name's */
    CHECK_UINT_EQ(second->value.line, 5);
    CHECK_PTR_EQ(second->next, NULL);
    fm_arena_deinit(&arena);
}

TEST(mistakes_have_their_place)
{
    static const struct {
        const char *text;
        const char *message;
    } rows[] = {
        {"a", "config.pbtxt:1:2: ':' or '{' is expected here, not the end of the file"},
        {"a b", "config.pbtxt:1:3: ':' or '{' is expected here, not 'b'"},
        {"a: ", "config.pbtxt:1:4: a value is expected here, not the end of the file"},
        {"a: }", "config.pbtxt:1:4: a value is expected here, not '}'"},
        {"a: 1\n}", "config.pbtxt:2:1: a field name is expected here, not '}'"},
        {"a { b: 1\n", "config.pbtxt:1:3: this '{' is never closed"},
        {"a < b: 1 }", "config.pbtxt:1:10: a field name is expected here, not '}'"},
        {"a: [1 2]", "config.pbtxt:1:7: ',' or ']' is expected here, not '2'"},
        {"a: [1, 2", "config.pbtxt:1:4: this '[' is never closed"},
        {"a: [1, [2]]", "config.pbtxt:1:8: a value is expected here, not '['"},
        {"a: \"x\nb: 1", "config.pbtxt:1:4: this string is not closed before the end of the line"},
        {"a: 'x", "config.pbtxt:1:4: this string is not closed"},
        {"a: \"x\\", "config.pbtxt:1:6: not an escape"},
        {"a: \"\\q\"", "config.pbtxt:1:5: not an escape"},
        {"a: \"\\xg\"", "config.pbtxt:1:7: a hexadecimal digit is expected here, not 'g'"},
        {"a: \"\\777\"", "config.pbtxt:1:5: the escape is larger than a byte"},
        {"a: \"\\ud800\"", "config.pbtxt:1:5: the escape is no Unicode character"},
        {"a: \"\\U00110000\"", "config.pbtxt:1:5: the escape is no Unicode character"},
        {"a: \"\\u12\"", "config.pbtxt:1:9: a hexadecimal digit is expected here"},
        {"a: -", "config.pbtxt:1:5: a number is expected here"},
        {"1: 2", "config.pbtxt:1:1: a field name is expected here, not '1'"},
        {"[]: 2", "config.pbtxt:1:2: the name of an extension is expected here"},
        {"[a: 2", "config.pbtxt:1:3: ']' is expected here, not ':'"},
        {"a: 1 \xC3\xA9: 2", "config.pbtxt:1:6: a field name is expected here, not '\xC3\xA9'"},
        {"a: 1 \xFF", "config.pbtxt:1:6: a field name is expected here, not '?'"},
        {"a: 1\n\n\x01",
         "config.pbtxt:3:1: a field name is expected here, not a control character"},
        {"a: 1;; b: 2", "config.pbtxt:1:6: a field name is expected here, not ';'"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fm_pbtxt_value root;
        struct fm_error error;
        CHECK_INT_EQ(parse(rows[i].text, &root, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, rows[i].message);
        CHECK_PTR_EQ(root.fields, NULL);
    }
    fm_arena_deinit(&arena);
}

TEST(limits)
{
    struct fm_pbtxt_value root;
    struct fm_error error;
    struct fm_text text = {0};
    for (int i = 0; i < 33; i++) {
        fm_text_append_string(&text, "a{");
    }
    CHECK_INT_EQ(parse(text.data, &root, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "config.pbtxt:1:66: nested deeper than 32 levels");
    fm_text_clear(&text);
    fm_text_append_string(&text, "a: [0");
    for (int i = 0; i < FM_PBTXT_FIELDS_MAX; i++) {
        fm_text_append_string(&text, ",0");
    }
    CHECK_INT_EQ(parse(text.data, &root, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "more than 100000 fields");
    fm_text_clear(&text);
    fm_text_append_string(&text, "a: ");
    for (int i = 0; i < 200; i++) {
        fm_text_append_char(&text, '1');
    }
    CHECK_INT_EQ(parse(text.data, &root, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "config.pbtxt:1:4: a number longer than 127 characters");
    CHECK_INT_EQ(fm_pbtxt_parse("big", text.data, FM_PBTXT_BYTES_MAX + 1u, &arena, &root, &error),
                 FM_ETOOLARGE);
    fm_text_deinit(&text);
    fm_arena_deinit(&arena);
}

TEST(values_are_typed_when_asked)
{
    struct fm_pbtxt_value root;
    struct fm_error error;
    int64_t integer = 0;
    bool flag = false;
    const char *string = NULL;
    CHECK_INT_EQ(
        parse("v: [0, -9223372036854775808, 9223372036854775807, 0x10, 010, -0x1]", &root, &error),
        0);
    static const int64_t expected[] = {0, INT64_MIN, INT64_MAX, 16, 8, -1};
    size_t index = 0;
    for (const struct fm_pbtxt_field *field = root.fields; field != NULL;
         field = field->next, index++) {
        CHECK_INT_EQ(fm_pbtxt_int64(&field->value, &integer), 0);
        CHECK_INT_EQ(integer, expected[index]);
    }
    CHECK_INT_EQ(
        parse(
            "v: [9223372036854775808, 08, 1.5, 1f, x, 'y', -inf, 07777777777777777777777777] v {}",
            &root, &error),
        0);
    for (const struct fm_pbtxt_field *field = root.fields; field != NULL; field = field->next) {
        CHECK_INT_EQ(fm_pbtxt_int64(&field->value, &integer), FM_EINVAL);
    }
    CHECK_INT_EQ(parse("v: [true, t, True, 1, false, f, False, 0]", &root, &error), 0);
    index = 0;
    for (const struct fm_pbtxt_field *field = root.fields; field != NULL;
         field = field->next, index++) {
        CHECK_INT_EQ(fm_pbtxt_bool(&field->value, &flag), 0);
        CHECK_INT_EQ(flag, index < 4);
    }
    CHECK_INT_EQ(parse("v: [maybe, 'true', 2, 'a\\0b']", &root, &error), 0);
    for (const struct fm_pbtxt_field *field = root.fields; field != NULL; field = field->next) {
        CHECK_INT_EQ(fm_pbtxt_bool(&field->value, &flag), FM_EINVAL);
    }
    CHECK_INT_EQ(fm_pbtxt_string(&root.fields->value, &string), FM_EINVAL);
    CHECK_INT_EQ(fm_pbtxt_string(&root.fields->next->value, &string), 0);
    CHECK_STR_EQ(string, "true");
    CHECK_INT_EQ(fm_pbtxt_scalar(&root.fields->value, &string), 0);
    CHECK_STR_EQ(string, "maybe");
    CHECK_INT_EQ(fm_pbtxt_string(&root.fields->next->next->next->value, &string), FM_EINVAL);
    CHECK_INT_EQ(fm_pbtxt_scalar(&root, &string), FM_EINVAL);
    CHECK_STR_EQ(fm_pbtxt_kind_name(FM_PBTXT_STRING), "a string");
    fm_arena_deinit(&arena);
}

TEST(memory_may_fail_anywhere)
{
    for (uint64_t countdown = 1;; countdown++) {
        struct fm_pbtxt_value root;
        struct fm_error error;
        (void)fm_memory_fail_at(countdown, 0);
        int status = parse("a { b: 'x' 'y' }", &root, &error);
        (void)fm_memory_fail_at(0, 0);
        fm_arena_deinit(&arena);
        if (status == 0) {
            CHECK_INT_GT(countdown, 2);
            return;
        }
        CHECK_INT_EQ(status, FM_ENOMEM);
    }
}

static int parse_json(const char *text, struct fm_pbtxt_value *ret_root, struct fm_error *reterr)
{
    static const char *const maps[] = {"parameters", NULL};
    fm_arena_deinit(&arena);
    *reterr = (struct fm_error){0};
    return fm_pbtxt_parse_json("config", text, strlen(text), maps, &arena, ret_root, reterr);
}

TEST(json_becomes_the_same_tree)
{
    static const struct {
        const char *text;
        const char *tree;
    } rows[] = {
        {"{}", "{}"},
        {"{\"a\":1,\"b\":\"x\",\"c\":true,\"d\":-2.5,\"e\":null}", "{a=1 b=\"x\" c=true d=-2.5}"},
        {"{\"dims\":[1,-1,3],\"empty\":[]}", "{dims=1 dims=-1 dims=3}"},
        {"{\"maxBatchSize\":4,\"input\":[{\"dataType\":\"TYPE_FP32\"},{}]}",
         "{max_batch_size=4 input={data_type=\"TYPE_FP32\"} input={}}"},
        {"{\"parameters\":{\"Key A\":{\"string_value\":\"v\"},\"b\":\"w\"}}",
         "{parameters={key=\"Key A\" value={string_value=\"v\"}} parameters={key=\"b\" "
         "value=\"w\"}}"},
        {" {\"a\": {\"b\": {\"parameters\": {}}}} ", "{a={b={}}}"},
        {"{\"a\":\"caf\\u00e9\"}", "{a=\"caf\xC3\xA9\"}"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fm_pbtxt_value root;
        struct fm_error error;
        struct fm_text out = {0};
        CHECK_INT_EQ(parse_json(rows[i].text, &root, &error), 0);
        dump(&root, &out);
        CHECK_STR_EQ(out.data, rows[i].tree);
        fm_text_deinit(&out);
    }
    fm_arena_deinit(&arena);
}

TEST(mistakes_in_json_are_found)
{
    static const char *const texts[] = {"",
                                        "[]",
                                        "{",
                                        "{\"a\"}",
                                        "{\"a\":}",
                                        "{\"a\":[[1]]}",
                                        "{} {}",
                                        "{\"a\":[1}",
                                        "1",
                                        "{a:1}",
                                        "{\"parameters\":{\"k\"}}"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct fm_pbtxt_value root;
        struct fm_error error;
        CHECK_INT_EQ(parse_json(texts[i], &root, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, "config");
    }
    struct fm_text deep = {0};
    for (int i = 0; i < 60; i++) {
        fm_text_append_string(&deep, "{\"a\":");
    }
    struct fm_pbtxt_value root;
    struct fm_error error;
    CHECK_INT_EQ(parse_json(deep.data, &root, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "nested too deeply");
    fm_text_deinit(&deep);
    fm_arena_deinit(&arena);
}

TEST_MAIN()
