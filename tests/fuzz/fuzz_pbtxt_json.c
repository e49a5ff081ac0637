/*
 * Fuzzes load requests of host/messages and the JSON side of core/proto/pbtxt: any bytes are either
 * a load request or an error in words, and any configuration in it a tree or an error with a place.
 * Never a crash.
 */
#include <string.h>

#include "core/proto/pbtxt.h"
#include "host/messages/messages.h"
#include "tests/fuzz/check.h"

static void visit(const struct fm_pbtxt_value *value)
{
    FUZZ_CHECK(value->line >= 1 && value->column >= 1);
    if (value->kind != FM_PBTXT_MESSAGE) {
        FUZZ_CHECK(value->text[value->length] == '\0');
        return;
    }
    for (const struct fm_pbtxt_field *field = value->fields; field != NULL; field = field->next) {
        FUZZ_CHECK(field->name != NULL && !fm_fuzz_canary);
        visit(&field->value);
    }
}

static void config_read(const char *text, size_t size)
{
    static const char *const maps[] = {"parameters", NULL};
    struct fm_arena arena;
    struct fm_pbtxt_value root;
    struct fm_error error = {0};
    fm_arena_init(&arena, 64u << 20);
    int status = fm_pbtxt_parse_json("fuzz", text, size, maps, &arena, &root, &error);
    if (status == 0) {
        visit(&root);
    } else {
        FUZZ_CHECK(error.status == status);
        FUZZ_CHECK(strncmp(error.text, "fuzz:", 5) == 0);
    }
    fm_arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fm_messages_load request;
    struct fm_error error = {0};
    int status = fm_messages_read_load(FM_MESSAGES_JSON, data, size, &request, &error);
    if (status == 0) {
        if (request.config != NULL) {
            config_read(request.config, strlen(request.config));
        }
        for (size_t i = 0; i < request.file_count; i++) {
            FUZZ_CHECK(request.files[i].size <= size);
        }
        fm_messages_load_deinit(&request);
    } else {
        FUZZ_CHECK(error.status == status && error.text[0] != '\0');
    }
    config_read((const char *)data, size);
    return 0;
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char *const seeds[] = {
        "{\"parameters\":{\"config\":\"{\\\"maxBatchSize\\\":8}\",\"file:1/m\":\"Zm9vYg==\"}}",
        "{\"name\":\"m\",\"input\":[{\"dims\":[3,\"-1\"]}],\"parameters\":{\"K\":{\"string_value\":"
        "\"v\"}},\"version_policy\":{\"specific\":{\"versions\":[1,2]}}}",
    };
    return index < sizeof(seeds) / sizeof(seeds[0]) ? fm_fuzz_text(seeds[index], data, capacity)
                                                    : 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}
