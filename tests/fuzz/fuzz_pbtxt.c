/*
 * Fuzzes core/proto/pbtxt: any bytes either parse into a tree whose places lie inside the file, or
 * give an error with a place. Never a crash.
 */
#include "core/proto/pbtxt.h"

#include <string.h>

#include "tests/fuzz/check.h"

static void visit(const struct fm_pbtxt_value *value, size_t size)
{
    int64_t integer = 0;
    bool flag = false;
    const char *text = NULL;
    FUZZ_CHECK(value->line >= 1 && value->line <= size + 1);
    FUZZ_CHECK(value->column >= 1 && value->column <= size + 1);
    if (value->kind == FM_PBTXT_MESSAGE) {
        for (const struct fm_pbtxt_field *field = value->fields; field != NULL;
             field = field->next) {
            FUZZ_CHECK(field->name[0] != '\0' && !fm_fuzz_canary);
            visit(&field->value, size);
        }
        return;
    }
    FUZZ_CHECK(value->text[value->length] == '\0');
    FUZZ_CHECK(value->length <= size);
    FUZZ_CHECK(fm_pbtxt_int64(value, &integer) != 0 || value->kind == FM_PBTXT_NUMBER);
    FUZZ_CHECK(fm_pbtxt_bool(value, &flag) != 0 || value->kind != FM_PBTXT_STRING);
    FUZZ_CHECK(fm_pbtxt_string(value, &text) != 0 || strlen(text) == value->length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fm_arena arena;
    struct fm_pbtxt_value root;
    struct fm_error error = {0};
    fm_arena_init(&arena, 64u << 20);
    int status = fm_pbtxt_parse("fuzz", (const char *)data, size, &arena, &root, &error);
    if (status == 0) {
        visit(&root, size);
    } else {
        FUZZ_CHECK(error.status == status);
        FUZZ_CHECK(strncmp(error.text, "fuzz:", 5) == 0);
    }
    fm_arena_deinit(&arena);
    return 0;
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char *const seeds[] = {
        "name: \"m\"\nplatform: 'onnxruntime_onnx' max_batch_size: 8\n"
        "input [ { name: \"x\" data_type: TYPE_FP32 dims: [ 3, -1, 0x10 ] }, < name: 'n' > ]\n"
        "dynamic_batching { preferred_batch_size: 4; preferred_batch_size: 010, }\n"
        "parameters: { key: \"k\" value: { string_value: \"a\" \"b\\n\\x41\\u00e9\\U0001F600\" } "
        "}\n",
        "[com.example.ext]: -1.5e-3f # comment\n a { b: <c: inf> } d: [] e: true",
    };
    return index < sizeof(seeds) / sizeof(seeds[0]) ? fm_fuzz_text(seeds[index], data, capacity)
                                                    : 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}
