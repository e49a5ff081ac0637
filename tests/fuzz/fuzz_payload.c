/*
 * Fuzzes core/proto/payload: what is accepted holds whole tensors, and written again it is a line
 * that says the same.
 */
#include "core/proto/payload.h"

#include <string.h>

#include "tests/fuzz/check.h"

/* Only the members of the line's kind are written. */
static void write_again(const struct fm_payload *payload)
{
    struct fm_text once = {0};
    struct fm_text twice = {0};
    struct fm_arena arena;
    struct fm_payload back;
    fm_arena_init(&arena, 0);
    fm_payload_write(&once, payload);
    FUZZ_CHECK(!once.failed);
    FUZZ_CHECK(fm_payload_read(once.data, once.length, &arena, &back, NULL) == 0);
    FUZZ_CHECK(back.kind == payload->kind && !fm_fuzz_canary);
    FUZZ_CHECK(payload->kind != FM_PAYLOAD_REQUEST || back.input_count == payload->input_count);
    fm_payload_write(&twice, &back);
    FUZZ_CHECK(once.length == twice.length && memcmp(once.data, twice.data, once.length) == 0);
    fm_text_deinit(&once);
    fm_text_deinit(&twice);
    fm_arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy of the exact size, so that a read beyond the end is seen. */
    char *text = fm_alloc(size > 0 ? size : 1);
    struct fm_arena arena;
    struct fm_payload payload;
    if (text == NULL) {
        return 0;
    }
    if (size > 0) {
        memcpy(text, data, size);
    }
    fm_arena_init(&arena, 0);
    if (fm_payload_read(text, size, &arena, &payload, NULL) == 0) {
        for (uint32_t i = 0; i < payload.input_count; i++) {
            FUZZ_CHECK(fm_tensor_check(&payload.inputs[i].tensor, NULL) == 0);
        }
        write_again(&payload);
    }
    fm_arena_deinit(&arena);
    fm_free(text);
    return 0;
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char *const seeds[] = {
        "{\"format\":\"fermata-payloads/1\",\"server\":\"fermata\",\"start_wall_ns\":1}\n",
        "{\"time_ns\":12,\"protocol\":\"http\",\"model\":\"m\",\"version\":1,\"id\":\"a\","
        "\"timeout_us\":5,\"priority\":1,\"outputs\":[{\"name\":\"y\",\"classification\":2}],"
        "\"inputs\":{\"x\":{\"datatype\":\"FP32\",\"shape\":[1,1],\"content\":{\"b64\":\"AACAPw=="
        "\"}"
        "},\"s\":{\"datatype\":\"BYTES\",\"shape\":[1],\"content\":{\"b64\":\"AQAAAGE=\"}}}}",
        "{\"end_ns\":1,\"recorded\":2,\"left_out\":3,\"sampled_out\":4}",
    };
    return index < sizeof(seeds) / sizeof(seeds[0]) ? fm_fuzz_text(seeds[index], data, capacity)
                                                    : 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}
