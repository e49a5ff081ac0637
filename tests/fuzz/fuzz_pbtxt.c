/*
 * Fuzzes core/proto/pbtxt: any bytes either parse into a tree whose places lie inside the file, or give an error with a place. Never a crash.
 */
#include <stdint.h>
#include <string.h>

#include "core/proto/pbtxt.h"
#include "core/util/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void visit(const struct fm_pbtxt_value *value, size_t size)
{
    int64_t integer = 0;
    bool flag = false;
    const char *text = NULL;
    FM_ASSERT(value->line >= 1 && value->line <= size + 1);
    FM_ASSERT(value->column >= 1 && value->column <= size + 1);
    if (value->kind == FM_PBTXT_MESSAGE) {
        for (const struct fm_pbtxt_field *field = value->fields; field != NULL; field = field->next) {
            FM_ASSERT(field->name[0] != '\0');
            visit(&field->value, size);
        }
        return;
    }
    FM_ASSERT(value->text[value->length] == '\0');
    FM_ASSERT(value->length <= size);
    (void)!fm_pbtxt_int64(value, &integer);
    (void)!fm_pbtxt_bool(value, &flag);
    if (fm_pbtxt_string(value, &text) == 0) {
        FM_ASSERT(strlen(text) == value->length);
    }
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
        FM_ASSERT(error.status == status);
        FM_ASSERT(strncmp(error.text, "fuzz:", 5) == 0);
    }
    fm_arena_deinit(&arena);
    return 0;
}
