/*
 * Tests of host/config/config: positions of every mistake, checked reading, limits, aliases.
 */
#include "host/config/config.h"

#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/os/file.h"
#include "tests/harness/test.h"

static int load(const char *text, struct fm_config **ret_root, struct fm_error *reterr)
{
    *reterr = (struct fm_error){0};
    return fm_config_load_text("job.yaml", text, strlen(text), ret_root, reterr);
}

TEST(every_node_knows_its_place)
{
    static const char text[] = "# comment\n"
                               "a: 1\n"
                               "b:\n"
                               "  - x\n"
                               "  - {c: \"q\", d: }\n"
                               "\xC3\xA9t\xC3\xA9: ~\n";
    struct fm_config *root = NULL;
    struct fm_error error;
    CHECK_INT_EQ(load(text, &root, &error), 0);
    CHECK_INT_EQ(root->kind, FM_CONFIG_MAPPING);
    CHECK_UINT_EQ(root->line, 2);
    CHECK_UINT_EQ(root->count, 3);
    CHECK_STR_EQ(root->keys[1], "b");
    CHECK_UINT_EQ(root->key_lines[1], 3);
    CHECK_UINT_EQ(root->key_columns[1], 1);
    struct fm_config *list = fm_config_get(root, "b");
    CHECK_INT_EQ(list->kind, FM_CONFIG_SEQUENCE);
    CHECK_UINT_EQ(list->count, 2);
    CHECK_UINT_EQ(list->children[0].line, 4);
    CHECK_UINT_EQ(list->children[0].column, 5);
    struct fm_config *inner = fm_config_get(&list->children[1], "c");
    CHECK_STR_EQ(inner->text, "q");
    CHECK(inner->quoted);
    CHECK_UINT_EQ(inner->column, 9);
    CHECK_INT_EQ(fm_config_get(&list->children[1], "d")->kind, FM_CONFIG_NULL);
    struct fm_config *accented = fm_config_get(root, "\xC3\xA9t\xC3\xA9");
    CHECK_INT_EQ(accented->kind, FM_CONFIG_NULL);
    CHECK_UINT_EQ(accented->column, 6); /* columns count characters, not bytes */
    CHECK_STR_EQ(accented->file, "job.yaml");
    fm_config_free(root);
}

TEST(json_is_read)
{
    struct fm_config *root = NULL;
    struct fm_error error;
    CHECK_INT_EQ(load("{\"a\":[1,2.5,true,null],\n\t\"b\":{\"c\":\"\\u00e9\\n\"}}", &root, &error),
                 0);
    CHECK_UINT_EQ(fm_config_get(root, "a")->count, 4);
    CHECK_INT_EQ(fm_config_get(root, "a")->children[3].kind, FM_CONFIG_NULL);
    CHECK_STR_EQ(fm_config_get(fm_config_get(root, "b"), "c")->text, "\xC3\xA9\n");
    fm_config_free(root);
}

TEST(a_byte_order_mark_in_front_is_skipped)
{
    struct fm_config *root = NULL;
    struct fm_error error;
    CHECK_INT_EQ(load("\xEF\xBB\xBF"
                      "a: 1\n"
                      "b: 2\n",
                      &root, &error),
                 0);
    CHECK_INT_EQ(root->kind, FM_CONFIG_MAPPING);
    CHECK_STR_EQ(root->keys[0], "a");
    CHECK_STR_EQ(root->keys[1], "b");
    fm_config_free(root);
}

TEST(empty_values_say_what_to_write)
{
    static const char *const colors[] = {"red", "green", NULL};
    struct fm_config *root = NULL;
    struct fm_error error;
    int64_t number = 0;
    bool flag = false;
    int choice = 0;
    uint32_t dtype = 0;
    CHECK_INT_EQ(load("a: ''\nb: ~\nc: x\n", &root, &error), 0);
    CHECK(fm_config_is_empty(fm_config_get(root, "a")));
    CHECK(fm_config_is_empty(fm_config_get(root, "b")));
    CHECK(!fm_config_is_empty(fm_config_get(root, "c")) && !fm_config_is_empty(root));
    CHECK_INT_EQ(fm_config_int(root, "a", 1, 64, &number, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text,
                 "job.yaml:1:4: 'a' is empty: write a whole number from 1 to 64 after it");
    CHECK_INT_EQ(fm_config_bool(root, "a", &flag, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:1:4: 'a' is empty: write true or false after it");
    CHECK_INT_EQ(fm_config_enum(root, "a", colors, &choice, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:1:4: 'a' is empty: write one of red, green after it");
    CHECK_INT_EQ(fm_config_dtype(root, "a", &dtype, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "'a' is empty: write a data type (FP32,");
    fm_config_free(root);
}

TEST(an_empty_file_has_nothing_in_it)
{
    static const char *const texts[] = {"", "\n\n", "# only a comment\n", "---\n", "~\n"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct fm_config *root = NULL;
        struct fm_error error;
        CHECK_INT_EQ(load(texts[i], &root, &error), 0);
        CHECK_INT_EQ(root->kind, FM_CONFIG_NULL);
        CHECK_PTR_EQ(fm_config_get(root, "x"), NULL);
        CHECK_INT_EQ(fm_config_finish(root, &error), 0);
        struct fm_config *child = NULL;
        CHECK_INT_EQ(fm_config_require(root, "x", &child, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, "missing key 'x'");
        fm_config_free(root);
    }
    fm_config_free(NULL);
    CHECK_PTR_EQ(fm_config_get(NULL, "x"), NULL);
    CHECK_INT_EQ(fm_config_finish(NULL, NULL), 0);
}

TEST(files_that_cannot_be_read_say_where)
{
    static const struct {
        const char *text;
        const char *message;
    } rows[] = {
        {"a: 1\na: 2\n", "job.yaml:2:1: key 'a' stands twice; the first one is at line 1"},
        {"x: {b: 1,\n  c: 2, b: 3, c: 4}\n",
         "job.yaml:2:9: key 'b' stands twice; the first one is at line 1"},
        {"a: [1, 2\nb: 3\n",
         "job.yaml:2:2: not readable as YAML: did not find expected ',' or ']'"},
        {"a: 1\n  b: 2\n",
         "job.yaml:2:4: not readable as YAML: mapping values are not allowed in this context"},
        {"a: \"x\n", "not readable as YAML: found unexpected end of stream (while scanning a "
                     "quoted scalar that starts at line 1, "
                     "column 4)"},
        {"a:\n\t- b\n",
         "job.yaml:2:1: not readable as YAML: found character that cannot start any token"},
        {"a: 1\nb: x\xFFy\n", "job.yaml:2:5: not readable as YAML: invalid leading UTF-8 octet"},
        {"a: 1\nb: x\x01y\n",
         "job.yaml:2:5: not readable as YAML: control characters are not allowed"},
        {"a: *no\n", "job.yaml:1:4: alias '*no' has no anchor '&no' before it"},
        {"a: &x [*x]\n", "job.yaml:1:8: alias '*x' has no anchor '&x' before it"},
        {"a: &x {b: 1}\nc:\n  <<: *x\n", "job.yaml:3:3: merge keys ('<<') are not supported"},
        {"a: !thing 1\n", "job.yaml:1:4: tags ('!thing') are not supported"},
        {"a: 1\n---\nb: 2\n", "job.yaml:2:1: a second document begins here"},
        {"[a, b]: 1\n", "job.yaml:1:1: a key must be a text"},
        {"a: \"x\\0y\"\n", "job.yaml:1:4: a text with a NUL character in it"},
        {"a: @b\n",
         "job.yaml:1:4: not readable as YAML: found character that cannot start any token"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fm_config *root = NULL;
        struct fm_error error;
        CHECK_INT_EQ(load(rows[i].text, &root, &error), FM_EINVAL);
        CHECK_PTR_EQ(root, NULL);
        CHECK_STR_CONTAINS(error.text, rows[i].message);
        CHECK_INT_EQ(error.status, FM_EINVAL);
        CHECK_INT_EQ(fm_config_load_text("x", rows[i].text, strlen(rows[i].text), &root, NULL),
                     FM_EINVAL);
    }
}

TEST(nesting_is_limited)
{
    char text[200];
    struct fm_config *root = NULL;
    struct fm_error error;
    memset(text, '[', 100);
    memset(text + 100, ']', 100);
    CHECK_INT_EQ(fm_config_load_text("deep", text, 200, &root, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "deep:1:33: nested deeper than 32 levels");
    CHECK_INT_EQ(fm_config_load_text("deep", text + 68, 64, &root, &error), 0);
    fm_config_free(root);
    /* Aliases do not get around it. */
    struct fm_text aliased = {0};
    fm_text_append_string(&aliased, "a0: &a0 [x]\n");
    for (int i = 1; i < 40; i++) {
        fm_text_append_format(&aliased, "a%d: &a%d [*a%d]\n", i, i, i - 1);
    }
    CHECK_INT_EQ(fm_config_load_text("deep", aliased.data, aliased.length, &root, &error),
                 FM_EINVAL);
    CHECK_STR_EQ(error.text, "deep:32:12: nested deeper than 32 levels");
    fm_text_deinit(&aliased);
}

TEST(a_tree_that_explodes_by_aliases_is_refused)
{
    struct fm_text text = {0};
    struct fm_config *root = NULL;
    struct fm_error error;
    fm_text_append_string(&text, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 10; i++) {
        fm_text_append_format(
            &text, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i - 1,
            i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    }
    CHECK_INT_EQ(fm_config_load_text("bomb", text.data, text.length, &root, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "more than 100000 values");
    fm_text_deinit(&text);
}

TEST(size_is_limited)
{
    struct fm_config *root = NULL;
    struct fm_error error;
    size_t size = FM_CONFIG_BYTES_MAX + 1;
    char *text = fm_alloc(size);
    memset(text, ' ', size);
    CHECK_INT_EQ(fm_config_load_text("big", text, size, &root, &error), FM_ETOOLARGE);
    CHECK_STR_CONTAINS(error.text, "big: 4194305 bytes");
    fm_free(text);
}

TEST(aliases_are_copies)
{
    struct fm_config *root = NULL;
    struct fm_error error;
    int64_t value = 0;
    CHECK_INT_EQ(load("a: &x {n: 1}\nb: *x\n", &root, &error), 0);
    struct fm_config *a = fm_config_get(root, "a");
    struct fm_config *b = fm_config_get(root, "b");
    CHECK_INT_EQ(fm_config_int(b, "n", 0, 9, &value, &error), 0);
    CHECK_INT_EQ(value, 1);
    CHECK_INT_EQ(fm_config_finish(b, &error), 0);
    CHECK_INT_EQ(fm_config_finish(a, &error), FM_EINVAL); /* nobody asked for a's */
    CHECK_STR_EQ(error.text, "job.yaml:1:8: unknown key 'n'");
    fm_config_free(root);
}

TEST(unknown_keys_get_a_suggestion)
{
    struct fm_config *root = NULL;
    struct fm_error error;
    const char *text = NULL;
    CHECK_INT_EQ(load("sink: x\nsouce: y\nzzzzz: 1\n", &root, &error), 0);
    CHECK_INT_EQ(fm_config_string(root, "sink", &text, &error), 0);
    CHECK_INT_EQ(fm_config_string(root, "source", &text, &error), 0);
    CHECK_STR_EQ(text, "x");
    CHECK_INT_EQ(fm_config_finish(root, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:2:1: unknown key 'souce'; did you mean 'source'?");
    CHECK_PTR_NE(fm_config_get(root, "souce"), NULL);
    CHECK_INT_EQ(fm_config_finish(root, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text,
                 "job.yaml:3:1: unknown key 'zzzzz'; what may stand here, too: 'source'");
    for (int i = 0; i < 100; i++) { /* more keys than the first capacity */
        char key[16];
        (void)snprintf(key, sizeof(key), "key%d", i);
        CHECK_PTR_EQ(fm_config_get(root, key), NULL);
    }
    fm_config_free(root);
}

TEST(missing_keys_point_at_misspelt_ones)
{
    struct fm_config *root = NULL;
    struct fm_error error;
    struct fm_config *child = NULL;
    CHECK_INT_EQ(load("a:\n  nam: x\n  b: 2\n", &root, &error), 0);
    struct fm_config *a = fm_config_get(root, "a");
    CHECK_INT_EQ(fm_config_require(a, "name", &child, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:2:3: missing key 'name'; is 'nam' a misspelling of it?");
    CHECK_INT_EQ(fm_config_require(a, "stages", &child, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:2:3: missing key 'stages'");
    CHECK_INT_EQ(fm_config_require(a, "b", &child, &error), 0);
    CHECK_STR_EQ(child->text, "2");
    CHECK_INT_EQ(fm_config_require(child, "c", &child, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:3:6: a map is expected here, not '2'");
    fm_config_free(root);
}

TEST(typed_values)
{
    static const char *const colours[] = {"red", "green", NULL};
    struct fm_config *root = NULL;
    struct fm_error error;
    const char *text = "default";
    int64_t integer = 7;
    double number = 7;
    bool flag = false;
    uint64_t bytes = 7;
    uint64_t duration = 7;
    int colour = 7;
    CHECK_INT_EQ(load("s: hello\ni: -5\nd: 2.5e3\nb: yes\nt: 250ms\nz: 64MiB\ne: green\nn: ~\n",
                      &root, &error),
                 0);
    CHECK_INT_EQ(fm_config_string(root, "s", &text, &error), 0);
    CHECK_STR_EQ(text, "hello");
    CHECK_INT_EQ(fm_config_int(root, "i", -5, 5, &integer, &error), 0);
    CHECK_INT_EQ(integer, -5);
    CHECK_INT_EQ(fm_config_double(root, "d", 0, 1e4, &number, &error), 0);
    CHECK_NEAR(number, 2500, 0);
    CHECK_INT_EQ(fm_config_bool(root, "b", &flag, &error), 0);
    CHECK(flag);
    CHECK_INT_EQ(fm_config_duration_ns(root, "t", &duration, &error), 0);
    CHECK_UINT_EQ(duration, 250000000);
    CHECK_INT_EQ(fm_config_bytes(root, "z", &bytes, &error), 0);
    CHECK_UINT_EQ(bytes, 64u << 20);
    CHECK_INT_EQ(fm_config_enum(root, "e", colours, &colour, &error), 0);
    CHECK_INT_EQ(colour, 1);
    /* Absent and null leave the value. */
    CHECK_INT_EQ(fm_config_int(root, "n", 0, 1, &integer, &error), 0);
    CHECK_INT_EQ(fm_config_int(root, "absent", 0, 1, &integer, &error), 0);
    CHECK_INT_EQ(integer, -5);
    CHECK_INT_EQ(fm_config_finish(root, &error), 0);
    fm_config_free(root);
}

TEST(wrong_values_say_what_is_allowed)
{
    static const char *const colours[] = {"red", "green", NULL};
    struct fm_config *root = NULL;
    struct fm_error error;
    const char *text = NULL;
    int64_t integer = 0;
    double number = 0;
    bool flag = false;
    uint64_t value = 0;
    int colour = 0;
    CHECK_INT_EQ(load("x: abc\nq: '5'\nl: [1]\nm: {}\nbig: 65\nc: grene\n", &root, &error), 0);
    CHECK_INT_EQ(fm_config_int(root, "x", 1, 64, &integer, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:1:4: 'x' must be a whole number from 1 to 64, not 'abc'");
    CHECK_INT_EQ(fm_config_int(root, "q", 1, INT64_MAX, &integer, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text,
                 "job.yaml:2:4: 'q' must be a whole number of at least 1, not the text '5'");
    CHECK_INT_EQ(fm_config_int(root, "l", INT64_MIN, INT64_MAX, &integer, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:3:4: 'l' must be a whole number, not a list");
    CHECK_INT_EQ(fm_config_int(root, "big", 1, 64, &integer, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:5:6: 'big' must be a whole number from 1 to 64, not '65'");
    CHECK_INT_EQ(fm_config_double(root, "x", 0, 1, &number, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:1:4: 'x' must be a number from 0 to 1, not 'abc'");
    CHECK_INT_EQ(fm_config_double(root, "x", 0, HUGE_VAL, &number, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:1:4: 'x' must be a number of at least 0, not 'abc'");
    CHECK_INT_EQ(fm_config_bool(root, "x", &flag, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:1:4: 'x' must be true or false, not 'abc'");
    CHECK_INT_EQ(fm_config_string(root, "m", &text, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:4:4: 'm' must be a text, not a map");
    CHECK_INT_EQ(fm_config_duration_ns(root, "x", &value, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "job.yaml:1:4: 'x' must be a duration such as 250ms");
    CHECK_INT_EQ(fm_config_bytes(root, "x", &value, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "job.yaml:1:4: 'x' must be a size such as");
    struct fm_config *much = NULL;
    static const char beyond[] = "n: 9223372036854775808\nd: 1e18\nb: 1e30\n";
    CHECK_INT_EQ(fm_config_load_text("job.yaml", beyond, strlen(beyond), &much, &error), 0);
    CHECK_INT_EQ(fm_config_int(much, "n", 0, INT64_MAX, &integer, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:1:4: 'n': '9223372036854775808' is too large: at most "
                             "9223372036854775807");
    CHECK_INT_EQ(fm_config_int(much, "n", 0, 9, &integer, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "'n' must be a whole number from 0 to 9");
    CHECK_INT_EQ(fm_config_duration_ns(much, "d", &value, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:2:4: 'd': '1e18' is too long: at most 584 years");
    CHECK_INT_EQ(fm_config_bytes(much, "b", &value, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:3:4: 'b': '1e30' is too large: less than 16 EiB");
    fm_config_free(much);
    CHECK_INT_EQ(fm_config_enum(root, "c", colours, &colour, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text,
                 "job.yaml:6:4: 'c' must be one of red, green, not 'grene'; did you mean 'green'?");
    CHECK_INT_EQ(fm_config_expect(fm_config_get(root, "l"), FM_CONFIG_MAPPING, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:3:4: a map is expected here, not a list");
    CHECK_INT_EQ(fm_config_finish(fm_config_get(root, "x"), &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "job.yaml:1:4: a map is expected here, not 'abc'");
    fm_config_free(root);
}

TEST(a_file_that_is_not_there)
{
    struct fm_config *root = NULL;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_config_load("/nonexistent/job.yaml", &root, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "/nonexistent/job.yaml");
}

TEST(memory_may_fail_anywhere)
{
    static const char text[] = "a: &x {n: [1, 2], m: {k: v}}\nb: *x\nc: [3, {d: 4}]\n";
    for (uint64_t countdown = 1;; countdown++) {
        struct fm_config *root = NULL;
        struct fm_error error = {0};
        (void)fm_memory_fail_at(countdown, 0);
        int status = fm_config_load_text("m", text, sizeof(text) - 1, &root, &error);
        (void)fm_memory_fail_at(0, 0);
        if (status == 0) {
            fm_config_free(root);
            CHECK_INT_GT(countdown, 3);
            return;
        }
        CHECK_INT_EQ(status, FM_ENOMEM);
        CHECK_PTR_EQ(root, NULL);
    }
}

TEST_MAIN()
