/*
 * Fuzzes host/messages: any bytes as any request of the control plane, in either form, either give
 * a request whose parts are whole or an error in words; what reflection answers is well-formed. The
 * first byte chooses the reader.
 */
#include <string.h>

#include "core/proto/protobuf.h"
#include "host/messages/messages.h"
#include "tests/fuzz/check.h"

static void check_load(const struct fm_messages_load *load)
{
    size_t total = 0;
    FUZZ_CHECK(load->model != NULL && load->repository != NULL && !fm_fuzz_canary);
    FUZZ_CHECK(load->file_count == 0 || load->config != NULL);
    for (size_t i = 0; i < load->file_count; i++) {
        const unsigned char *bytes = load->files[i].data;
        FUZZ_CHECK(load->files[i].path[0] != '\0');
        for (size_t k = 0; k < load->files[i].size; k++) {
            total += bytes[k];
        }
    }
    FUZZ_CHECK(total < SIZE_MAX);
}

static void check_settings(struct fm_messages_settings *settings, bool trace)
{
    struct fm_text text = {0};
    for (size_t i = 0; i < settings->count; i++) {
        FUZZ_CHECK(settings->settings[i].key != NULL);
    }
    for (int form = FM_MESSAGES_PROTOBUF; form <= FM_MESSAGES_JSON; form++) {
        if (trace) {
            fm_messages_write_trace(&text, (enum fm_messages_form)form, settings->settings,
                                    settings->count);
        } else {
            fm_messages_write_log(&text, (enum fm_messages_form)form, settings->settings,
                                  settings->count);
        }
    }
    fm_text_deinit(&text);
    fm_messages_settings_deinit(settings);
}

static void check_reflection(const struct fm_text *text)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(text->data, text->length);
    struct fm_protobuf_field field;
    size_t answers = 0;
    int more;
    while ((more = fm_protobuf_next(&reader, &field)) == 1) {
        answers += field.number >= 4;
    }
    FUZZ_CHECK(text->failed || (more == 0 && answers == 1));
}

static int read_any(unsigned choice, const uint8_t *data, size_t size, struct fm_error *error)
{
    enum fm_messages_form form = (choice & 8u) != 0 ? FM_MESSAGES_JSON : FM_MESSAGES_PROTOBUF;
    struct fm_messages_name name;
    struct fm_messages_load load;
    struct fm_messages_register region;
    struct fm_messages_settings settings;
    struct fm_text text = {0};
    bool ready = false;
    int status = 0;
    switch (choice % 8u) {
    case 0:
        status = fm_messages_read_name(data, size, &name, error);
        if (status == 0) {
            FUZZ_CHECK(strlen(name.name) <= size && strlen(name.version) <= size);
            fm_messages_name_deinit(&name);
        }
        break;
    case 1:
        status = fm_messages_read_index(form, data, size, &ready, error);
        break;
    case 2:
    case 3:
        status = choice % 8u == 2 ? fm_messages_read_load(form, data, size, &load, error)
                                  : fm_messages_read_unload(form, data, size, &load, error);
        if (status == 0) {
            check_load(&load);
            fm_messages_load_deinit(&load);
        }
        break;
    case 4:
        status = fm_messages_read_register(form, data, size, &region, error);
        if (status == 0) {
            FUZZ_CHECK(region.key[0] != '\0' && region.size > 0);
            fm_messages_register_deinit(&region);
        }
        break;
    case 5:
    case 6:
        status = choice % 8u == 5 ? fm_messages_read_trace(form, data, size, &settings, error)
                                  : fm_messages_read_log(form, data, size, &settings, error);
        if (status == 0) {
            check_settings(&settings, choice % 8u == 5);
        }
        break;
    default:
        status = fm_messages_reflect(&text, data, size, error);
        if (status == 0) {
            check_reflection(&text);
        }
        fm_text_deinit(&text);
        break;
    }
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fm_error error = {0};
    if (size > 0) {
        int status = read_any(data[0], data + 1, size - 1, &error);
        FUZZ_CHECK(status == 0 || (error.status == status && error.text[0] != '\0'));
    }
    return 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}

struct seed {
    const char *bytes;
    size_t size;
};

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
#define SEED(text)             \
    {                          \
        text, sizeof(text) - 1 \
    }
    static const struct seed seeds[] = {
        SEED("\0\x0A\1m\x12\1"
             "2"),
        SEED("\x09{\"ready\":true}"),
        SEED("\2\x12\1m\x1A\x0E\x0A\6config\x12\4\x1A\2{}\x1A\x0D\x0A\6file:a\x12\3\x22\1x"),
        SEED("\x0A{\"parameters\":{\"config\":\"{}\",\"file:1/a\":\"QUI=\"}}"),
        SEED("\x0B{\"parameters\":{\"unload_dependents\":true}}"),
        SEED("\4\x0A\1r\x12\2/k\x18\4\x20\5"),
        SEED("\x0C{\"key\":\"/k\",\"offset\":8,\"byte_size\":64}"),
        SEED("\x0D{\"trace_level\":[\"TIMESTAMPS\"],\"trace_rate\":\"1\",\"trace_file\":null}"),
        SEED("\6\x0A\x0E\x0A\x08log_info\x12\2\x08\1"),
        SEED("\x0E{\"log_info\":true,\"log_verbose_level\":2,\"log_format\":\"default\"}"),
        SEED("\7\x22\x1Einference.GRPCInferenceService"),
        SEED("\7\x3A\1*"),
    };
#undef SEED
    if (index >= sizeof(seeds) / sizeof(seeds[0]) || seeds[index].size > capacity) {
        return 0;
    }
    memcpy(data, seeds[index].bytes, seeds[index].size);
    return seeds[index].size;
}
